"""Routes of the table: values of columns of records, by position."""

from __future__ import annotations

from typing import Any

import numpy as np

from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View

__all__ = ["ROUTES", "cell", "records_at"]

MOST_ROWS = 2000
MOST_MARKS = 4096
MOST_CELL = 200  # characters of a text that are shown


def records_at(view: View, request: Request, most: int) -> np.ndarray[Any, Any]:
    """Return the records at positions ``start`` .. ``start + count``, as far as there are any."""
    order = view.order(request.text("q"), request.text("sort"))
    n = len(view.ds) if order is None else len(order)
    start = request.integer("start", 0, most=1 << 53)
    count = request.integer("count", 1, least=0, most=most)
    begin, end = min(start, n), min(start + count, n)
    return np.arange(begin, end) if order is None else np.asarray(order[begin:end])


def cell(column: Any, i: int) -> Any:
    """Return a value of a column as JSON shows it; None where it is missing."""
    if not column.present[i]:
        return None
    value = column.values[i]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))[:MOST_CELL]
    return value[:MOST_CELL] if isinstance(value, str) else value


def rows(view: View, request: Request) -> Reply:
    """Return records, and their values in columns: ``columns`` is names with commas."""
    found = records_at(view, request, MOST_ROWS)
    wanted = request.text("columns")  # a comma alone: none
    known = view.ds._column_names()
    names = [name for name in wanted.split(",") if name] if wanted else list(known)
    for name in names:
        if name not in known:
            raise RefusedError(400, f"there is no column {name!r}")
    columns = {name: view.ds.columns[name] for name in names}
    mask = view.mask
    return Reply.json(
        {
            "records": found,
            "selected": [bool(mask[i]) for i in found],
            "values": {name: [cell(c, int(i)) for i in found] for name, c in columns.items()},
            "units": {name: c.unit for name, c in columns.items()},
        }
    )


def marks(view: View, request: Request) -> Reply:
    """Return which of the records at some positions are selected: 1 or 0 each."""
    found = records_at(view, request, MOST_MARKS)
    return Reply.json({"selected": view.mask[found].astype(np.uint8)})


def position(view: View, request: Request) -> Reply:
    """Return the position of a record; null where the condition leaves it out."""
    record = request.integer("record", most=len(view.ds) - 1)
    order = view.order(request.text("q"), request.text("sort"))
    found = [record] if order is None else np.flatnonzero(order == record)[:1].tolist()
    return Reply.json({"position": found[0] if found else None})


ROUTES = {"rows": rows, "marks": marks, "position": position}
