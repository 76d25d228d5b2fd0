"""The facts about single records that ``ls``, ``head`` and ``get`` print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.columns import naming
from mapix.commands.arguments import check_column
from mapix.commands.output import CommandError, Table, cell
from mapix.errors import MapixError
from mapix.text import type_name

__all__ = [
    "chosen_names",
    "found_record",
    "listing",
    "names_of",
    "pixel_facts",
    "similar_names",
    "table_of",
]

BLOCK = 4096  # records whose columns are read at once
MOST_COMPARED = 100_000  # names that are compared with one that is wrong


def chosen_names(ds: Any, wanted: str | None, default: Sequence[str]) -> list[str]:
    """Return the names of columns that ``--columns`` names: ``all``, or some, with commas.

    Raises
    ------
    CommandError
        There is no such column; the message lists the names.
    """
    if wanted is None:
        return list(default)
    if wanted == "all":
        return list(ds.columns)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        check_column(ds, name)
    return names


def listing(
    ds: Any, indices: NDArray[np.int64], names: Sequence[str], *, pixels: bool = False
) -> list[dict[str, Any]]:
    """Return records as mappings: number, shape, and columns; without the values that are missing.

    Parameters
    ----------
    ds : Dataset
        The dataset.
    indices : ndarray
        int64 (n,): records, by their place in ``ds``.  Their numbers in the file are printed.
    names : sequence of str
        Columns.
    pixels : bool
        Whether pixels are read, for type and range.
    """
    found: list[dict[str, Any]] = []
    for at in range(0, len(indices), BLOCK):
        some = indices[at : at + BLOCK]
        rows = ds._rows_of(some)
        sample = ds._sample(rows)
        columns = [sample[name] if name in sample else ds[some].columns[name] for name in names]
        numbers = rows.tolist()
        for k, (i, number) in enumerate(zip(some.tolist(), numbers, strict=True)):
            values = {c.name: c.values[k] for c in columns if c.present[k]}
            shape = shape_of(ds, i)
            facts = {"record": number} | ({} if shape is None else {"shape": list(shape)})
            found.append(facts | (pixel_facts(ds, i) if pixels else {}) | values)
    return found


def shape_of(ds: Any, i: int) -> tuple[int, ...] | None:
    """Return the shape of a record's pixels, where it is known without decoding them."""
    try:
        if ds.image_shape is not None:  # planes are shown as (h, w, c): see ``_image``
            content = ds._content(int(ds._rows_of([i])[0]))
            return tuple(ds.image_shape if content is None else content.shape)
        return getattr(ds[i], "shape", None)
    except (MapixError, OSError):  # a library, or a file that the record names, is missing
        return None


def pixel_facts(ds: Any, i: int) -> dict[str, Any]:
    """Return shape, type and range of a record's pixels; empty without pixels."""
    image = ds._content(int(ds._rows_of([i])[0]))
    if image is None:
        return {}
    facts: dict[str, Any] = {"shape": list(image.shape), "dtype": type_name(image.dtype)}
    if image.size and image.dtype.kind in "biuf":
        numbers = image.astype(np.float64) if image.dtype.kind == "f" else image
        numbers = image.view(np.uint8) if image.dtype.kind == "b" else numbers
        facts |= {"low": numbers.min(), "mean": float(numbers.mean()), "high": numbers.max()}
    return facts


def table_of(records: Iterable[dict[str, Any]], title: str = "") -> Table:
    """Return records as a table; a column for each key that any of them has."""
    records = list(records)
    heads = list(dict.fromkeys(key for record in records for key in record))
    rows = [
        [_shape(value) if key == "shape" else value for key, value in whole.items()]
        for whole in ({key: record.get(key) for key in heads} for record in records)
    ]
    return Table(heads, rows, title)


def _shape(value: Any) -> str | None:
    return None if value is None else " x ".join(map(str, value))


def found_record(ds: Any, text: str) -> int:
    """Return the place of a record in a dataset: by number, or by its name.

    Raises
    ------
    CommandError
        There is none, or several have this name.
    """
    try:
        number = int(text)
    except ValueError:
        return _named(ds, text)
    n = len(ds)
    if not -n <= number < n:
        raise CommandError(f"{ds.path}: there is no record {number}; it has {_range(n)}")
    return number % n


def _range(n: int) -> str:
    return f"records 0 to {n - 1}" if n else "no records"


def names_of(ds: Any) -> list[str] | None:
    """Return the names of all records; None where the format does not name them."""
    columns = naming(ds.columns, ds.NAMES)
    if columns is None:
        return None
    parts = [map(cell, column.values.tolist()) for column in columns]
    return ["/".join(filter(None, name)) for name in zip(*parts, strict=True)]


def similar_names(text: str, names: Sequence[str]) -> list[str]:
    """Return at most two of the first 100,000 names that are like a text.

    Those whose last part is the text before its ending come first, then those that contain it, then
    those of a similar last part.
    """
    wanted, some = text.casefold(), names[:MOST_COMPARED]
    lasts = [name.casefold().rpartition("/")[2] for name in some]
    same = (k for k, last in enumerate(lasts) if last.partition(".")[0] == wanted)
    within = (k for k, last in enumerate(lasts) if wanted and wanted in last)
    found = list(dict.fromkeys(islice(chain(same, within), 4)))[:2]
    if not found:
        from difflib import get_close_matches

        near = get_close_matches(wanted.rpartition("/")[2], lasts[:BLOCK], n=2)
        found = list(dict.fromkeys(lasts.index(last) for last in near))
    return [some[k] for k in found]


def _at_once(ds: Any, text: str) -> list[int]:
    """Return the records whose complete name is known without reading all names."""
    if ds._rows is not None or not ds.NAMES:
        return []
    pieces = text.split("/")
    names = [[text]]  # a name of several parts is written with slashes, without the empty parts
    for _ in ds.NAMES[1:]:
        names = [["/".join(pieces[:k]), "/".join(pieces[k:])] for k in range(len(pieces))]
    rows = [ds._rows_named(name) for name in names]
    return [row for some in rows if some is not None for row in some.tolist()]


def _named(ds: Any, text: str) -> int:
    known = _at_once(ds, text)
    if len(known) == 1:
        return known[0]
    names = names_of(ds)
    if names is None:
        raise CommandError(
            f"{ds.path}: a number expected, got {text!r}: {ds.RECORDS} of {ds.FAMILY} have no names"
        )
    places = [i for i, name in enumerate(names) if name == text]
    places = places or [i for i, name in enumerate(names) if name.endswith(f"/{text}")]
    if len(places) == 1:
        return places[0]
    if not places:
        near = similar_names(text, names)
        hint = f"did you mean {' or '.join(near)}?" if near else "`mapix ls` lists the names"
        raise CommandError(f"{ds.path}: no record is named {text!r}; {hint}")
    some = ", ".join(map(str, places[:10]))
    more = ", ..." if len(places) > 10 else ""
    raise CommandError(f"{ds.path}: {len(places)} records are named {text!r}: {some}{more}")
