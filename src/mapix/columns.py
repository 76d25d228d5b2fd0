"""Values of all records by name, read without the pixels: columns, and conditions on them."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.arrow_capsules import array_capsules, stream_capsule
from mapix.errors import MapixError, UnsupportedError
from mapix.text import counted
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.selection import Rows

__all__ = [
    "FACTS",
    "Column",
    "Columns",
    "Filled",
    "column_of",
    "facts_of",
    "facts_of_all",
    "identifier",
    "merged_counts",
    "naming",
]

MOST_NUMBER = 1 << 1023  # integers above it are not a float64
FACTS = (
    *("name", "label", "type", "distinct", "missing", "low", "high"),
    *("unit", "description", "problem"),
)
"""The facts of ``facts_of_all``, in the order of tables."""
TYPES = {"str": "text", "bytes": "bytes"}


class Column:
    """One value of every record.

    Parameters
    ----------
    name : str
        Name of the column.
    values : ndarray
        (n,) numbers, booleans, or objects (text, bytes, tuples of either).
    present : ndarray, optional
        bool (n,): False where a record has no value; None where all have one.
    unit, description : str
        For people.

    Attributes
    ----------
    name, unit, description
        As given.
    """

    __slots__ = ("_present", "_values", "description", "name", "unit")

    def __init__(
        self,
        name: str,
        values: NDArray[Any],
        present: NDArray[np.bool_] | None = None,
        *,
        unit: str = "",
        description: str = "",
    ) -> None:
        self.name = name
        self._values = values
        self._present = present
        self.unit = unit
        self.description = description

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> NDArray[Any]:
        """Values of all records, (n,); meaningless where ``present`` is False."""
        return self._values

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether each record has a value, bool (n,)."""
        if self._present is None:
            return np.broadcast_to(np.True_, (len(self._values),))
        return self._present

    @property
    def complete(self) -> bool:
        """Whether all records are known to have a value, without a scan of ``present``."""
        present = self.present
        return present.strides == (0,) and bool(present[:1].all())

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers or booleans."""
        return self._values.dtype.kind in "biuf"

    def of(self, rows: Rows) -> Column:
        """Return the column of some of the records, by number; None for all."""
        if rows is None:
            return self
        which = np.asarray(rows, np.int64)
        present = None if self._present is None else self._present[which]
        about = {"unit": self.unit, "description": self.description}
        return Column(self.name, self._values[which], present, **about)

    def filled(self) -> NDArray[Any]:
        """Return float64 values, NaN where missing; of text and tuples objects, None there.

        Copies: yes.
        """
        values, present = self.values, self.present
        if self.numeric:
            found = values.astype(np.float64)
            if not self.complete:
                found[~present] = np.nan
            return found
        found = values.astype(object)
        found[~present] = None
        return found

    def groups(self) -> NDArray[np.int64]:
        """Return the number of the class of each record, int64 (n,); -1 where missing.

        Equal values are one class.
        """
        found = np.full(len(self), -1, np.int64)
        present = np.asarray(self.present)
        if present.any():
            values = self.values[present]
            if values.dtype.kind == "O":
                numbers: dict[Any, int] = {}
                found[present] = [numbers.setdefault(v, len(numbers)) for v in values.tolist()]
            else:
                found[present] = np.unique(values, return_inverse=True)[1].reshape(-1)
        return found

    def counts(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the values that occur, ascending, (u,), and how often each does, int64 (u,)."""
        values = self.values[self.present]
        if values.dtype.kind != "O":
            unique, counts = np.unique(values, return_counts=True)
            return unique, counts
        known = Counter(values.tolist())
        unique = np.empty(len(known), object)
        unique[:] = sorted(known)
        return unique, np.array([known[value] for value in unique], np.int64)

    def rounding(self) -> NDArray[np.float64] | None:
        """Return the most by which storing may have changed each value, (n,); None: not at all."""
        return None

    def class_counts(self) -> NDArray[np.int64] | None:
        """Return the number of records of each class, int64; None where values are not classes."""
        return None

    def sort_keys(self, *, descending: bool = False) -> NDArray[np.int64]:
        """Return the positions of the records in the order of their values, int64 (n,).

        Equal values keep their order; records without a value come last.
        """
        values, there = self.values, None
        if not self.complete:
            there, missing = np.flatnonzero(self.present), np.flatnonzero(~self.present)
            values = values[there]
        if values.dtype.kind == "O":
            order = np.array(
                sorted(range(len(values)), key=values.tolist().__getitem__, reverse=descending),
                np.int64,
            )
        else:
            if descending:  # ~ reverses the order of integers and booleans, and never overflows
                values = -values if values.dtype.kind == "f" else ~values
            order = np.argsort(values, kind="stable")
        return order if there is None else np.concatenate([there[order], missing])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return exported(self.values, dtype, copy)

    def __dlpack__(self, **options: Any) -> Any:
        """Return the values, for ``from_dlpack(column)`` of other libraries: see ``values``."""
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the device of the values: the CPU."""
        kind, number = self.values.__dlpack_device__()
        return int(kind), int(number)

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        """Return the values for libraries that read Arrow, null where missing.  Needs pyarrow."""
        present = None if self.complete else self.present
        return array_capsules((self.values, present), requested_schema)

    def __repr__(self) -> str:
        missing = 0 if self.complete else int((~self.present).sum())
        unit = f", in {self.unit}" if self.unit else ""
        lack = f", {missing:,} without a value" if missing else ""
        kind = _type_of(self.values[self.present][:1]) or self.values.dtype
        return f"<Column {self.name}: {counted(len(self), 'value')} of {kind}{unit}{lack}>"


def class_numbers(
    values: Sequence[int | None],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return labels as batches have them: int64 (n, 1), -1 where missing, and presence (n, 1)."""
    numbers = np.array([-1 if value is None else value for value in values], np.int64)
    present = np.array([value is not None for value in values], np.bool_)
    return numbers[:, None], present[:, None]


def merged_counts(
    parts: Sequence[tuple[NDArray[Any], NDArray[np.int64]]],
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return ``Column.counts`` of a column from those of its parts, at least one."""
    filled = [part for part in parts if len(part[0])] or parts[:1]
    values = np.concatenate([unique for unique, _ in filled])
    counts = np.concatenate([counts for _, counts in filled])
    if values.dtype.kind != "O":
        unique, places = np.unique(values, return_inverse=True)
        total = np.zeros(len(unique), np.int64)
        np.add.at(total, places.reshape(-1), counts)
        return unique, total
    known: Counter[Any] = Counter()
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        known[value] += count
    unique = np.empty(len(known), object)
    unique[:] = sorted(known)
    return unique, np.array([known[value] for value in unique], np.int64)


class Columns(Mapping[str, Column]):
    """Name -> column of a dataset.  A column is read when it is first asked for, and cached.

    Parameters
    ----------
    names : iterable of str
        Names, in order.
    read : callable
        ``read(name)`` returns the column.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], Column]) -> None:
        self._names = dict.fromkeys(names)
        self._read = read
        self._known: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise UnsupportedError(
            "columns are one array each: ds.columns[NAME]; pyarrow.table(ds.columns) has all"
        )

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return a table for libraries that read Arrow: a column each.  Needs pyarrow."""
        found = {name: (c.values, None if c.complete else c.present) for name, c in self.items()}
        return stream_capsule(found, requested_schema)

    def __repr__(self) -> str:
        return f"<Columns: {', '.join(self._names) or 'no columns'}>"


def identifier(name: str, taken: Iterable[str] = ()) -> str:
    """Return the name by which a condition can refer to a column, as ``image_class_label``.

    Other characters than letters and digits become ``_``; a name that is taken, or that is a word
    of Python, gets ``_`` at its end.
    """
    found = "".join(c if c.isalnum() else "_" for c in name)
    if not found[:1].isidentifier():
        found = f"_{found}"
    there = set(taken)
    while found in there or keyword.iskeyword(found):
        found += "_"
    return found


def column_of(name: str, values: Sequence[Any], **about: str) -> Column:
    """Return a column of Python values: booleans, numbers, texts, or lists of numbers or of texts.

    Parameters
    ----------
    name : str
        Name of the column.
    values : sequence
        One value of each record; None, and anything else than the above, is a missing value.
    **about
        ``unit`` and ``description``.

    Returns
    -------
    Column
        bool, int64 or float64 where all values are of that kind (integers and floats together are
        float64, and so are integers beyond 64 bits); texts; or tuples.  Values of several kinds
        become texts, so that they can be compared.
    """
    kinds = [_kind(value) for value in values]
    present = np.array([kind != "" for kind in kinds], np.bool_)
    found = set(kinds) - {""}
    if found & {"numbers", "texts"}:
        found.discard("empty list")
    if found <= {"integer"}:
        dtype: Any = np.int64
    elif found <= {"integer", "number"}:
        dtype = np.float64
    elif found == {"boolean"}:
        dtype = np.bool_
    else:
        made = np.empty(len(values), object)
        for i, (value, kind) in enumerate(zip(values, kinds, strict=True)):
            if kind and len(found) > 1:
                made[i] = value if isinstance(value, str) else str(value)
            else:
                made[i] = tuple(value) if isinstance(value, list) else value if kind else ""
        return Column(name, made, None if present.all() else present, **about)
    filled = [value if kind else 0 for value, kind in zip(values, kinds, strict=True)]
    return Column(name, np.array(filled, dtype), None if present.all() else present, **about)


def _kind(value: Any) -> str:
    """Return the kind of a value of a column; "" where it is missing."""
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | np.integer):
        exact = int(value)
        if -(1 << 63) <= exact < 1 << 63:
            return "integer"
        return "number" if abs(exact) < MOST_NUMBER else ""
    if isinstance(value, float | np.floating):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple):
        if not value:
            return "empty list"
        if all(type(v) in (int, float) for v in value):
            return "numbers"
        if all(type(v) is str for v in value):
            return "texts"
    return ""


def facts_of_all(columns: Mapping[str, Column], labels: Iterable[str]) -> list[dict[str, Any]]:
    """Return ``facts_of`` of each column, and ``label``: whether it is one of these labels.

    Of a column that cannot be read, because of a file that a record names, only its name is known,
    and ``problem``.
    """
    labels, found = set(labels), []
    for name in columns:
        facts: dict[str, Any] = {"name": name}
        try:
            facts = facts_of(columns[name])
        except UnsupportedError:
            raise
        except (MapixError, OSError) as e:
            facts["problem"] = str(e)
        found.append(facts | {"label": name in labels})
    return found


def naming(columns: Mapping[str, Column], names: Iterable[str]) -> list[Column] | None:
    """Return the columns of ``Dataset.NAMES`` that name all records; None if some have no name."""
    found = [columns[name] for name in names if name in columns]
    return found if found and all(column.present.all() for column in found) else None


def _type_of(values: NDArray[Any]) -> str:
    """Return the type of values that are present: see ``facts_of``."""
    if values.dtype.kind != "O":
        return values.dtype.name
    return TYPES.get(type(values[0]).__name__, "list") if len(values) else ""


def facts_of(column: Column) -> dict[str, Any]:
    """Return name, type, numbers of distinct and of missing values, range, unit and description.

    The type is numpy's name, ``"text"``, ``"bytes"``, ``"list"``, or "" where there are no values.
    """
    values = column.values[column.present]
    kind = _type_of(values)
    numbers = column.numeric and len(values)
    return {
        "name": column.name,
        "type": kind,
        "distinct": len(column.counts()[0]),
        "missing": len(column) - len(values),
        "low": values.min() if numbers else None,
        "high": values.max() if numbers else None,
        "unit": column.unit,
        "description": column.description,
    }


class Filled(Mapping[str, "NDArray[Any]"]):
    """Name -> values of a column, NaN or None where missing."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name].filled()

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)
