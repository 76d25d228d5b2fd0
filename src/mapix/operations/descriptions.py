"""Descriptions of a dataset as text and as plain data: see ``mapix.Dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mapix.errors import MapixError
from mapix.options import batch_options
from mapix.selection import chosen
from mapix.text import printable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mapix.dataset import Dataset

__all__ = ["describe", "described", "explain", "representation"]

MOST_SHOWN = 8  # columns that ``repr`` lists


def described(ds: Dataset[Any]) -> str:
    """Return path and summary; of a file that cannot be read the reason."""
    try:
        what = "closed" if ds.closed else ds._summary()
    except (MapixError, OSError) as e:
        what = f"cannot be read: {e}"
    return f"{printable(ds.path)}: {what}"


def representation(ds: Dataset[Any]) -> str:
    """Return ``repr`` of a dataset."""
    module = type(ds).__module__.split(".")
    found = f"<{'.'.join(module[:2])}.{type(ds).__name__} {ds._described()}"
    try:
        names = [] if ds.closed else list(ds._shown_names())
    except (MapixError, OSError) as e:
        names = [f"cannot be read: {e}"]
    more = f", {len(names) - MOST_SHOWN} others" if len(names) > MOST_SHOWN else ""
    columns = ", ".join(map(printable, names[:MOST_SHOWN])) + more
    return f"{found}\n columns: {columns}>" if columns else f"{found}>"


def describe(ds: Dataset[Any]) -> dict[str, Any]:
    """Return the facts about the dataset as plain data, which JSON can hold."""
    columns = [{"name": name, "label": name in ds._label_names()} for name in ds._column_names()]
    found = {"format": ds.FAMILY, "path": ds.path, "records": len(ds), "nbytes": None}
    found |= ds._facts()
    if found["nbytes"] is None:  # the family does not state it
        del found["nbytes"]
    return {
        **found,
        "columns": columns,
        "splits": dict(ds.splits),
    }


def explain(
    ds: Dataset[Any], index: int | None = None, *, batch: ArrayLike | None = None, **options: Any
) -> dict[str, Any]:
    """Return what ``ds[index]``, or ``ds.batch(batch, **options)``, does, as plain data."""
    if (index is None) == (batch is None):
        raise ValueError("pass the index of a record, or batch=indices")
    found: dict[str, Any] = {
        "reads_nbytes": 0,
        "copies_nbytes": 0,
        "decodes": "",
        "swaps": "",
        "converts": "",
        "how": "",
    }
    if batch is None:
        row = chosen(index, ds._rows, len(ds), ds.path, ds.RECORDS)
        assert isinstance(row, int)
        return found | ds._explained(row)
    made = ds._possible(batch_options(**options))
    return found | ds._explained_batch(ds._rows_of(batch), made)
