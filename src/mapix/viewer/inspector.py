"""Routes of an open record: its values, and its pixels as they are."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.errors import MapixError
from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View
from mapix.viewer.tiles import range_of

__all__ = ["ROUTES"]

MOST_SIDE = 1 << 31
MOST_NUMBERS = 1 << 22  # in one answer
MOST_TEXT = 2000


class _Last:
    """The pixels that were decoded last: a page asks for several windows of one picture."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ds: Any = None
        self.record = -1
        self.image: NDArray[Any] | None = None

    def of(self, ds: Any, record: int) -> NDArray[Any] | None:
        """Return the pixels of a record, (h, w, c), or what stands for them; None without."""
        with self.lock:
            if self.ds is not ds or self.record != record:
                row = int(ds._rows_of([record])[0])
                image = ds._image(row)
                image = ds._thumbnail(row) if image is None else image
                self.image = None if image is None else _shaped(image)
                self.ds, self.record = ds, record
            return self.image


def _shaped(image: NDArray[Any]) -> NDArray[Any] | None:
    """Return pixels as (h, w, c) in this machine's byte order; None of what are not numbers."""
    if image.dtype.kind not in "biuf" or not image.size:
        return None
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    return image.reshape(1, -1, 1) if image.ndim < 2 else image.reshape(*image.shape[:2], -1)


def _number(view: View, request: Request) -> int:
    return request.integer("n", most=len(view.ds) - 1)


def _image(view: View, record: int) -> NDArray[Any] | None:
    last: _Last = view.cached("inspector", _Last)
    return last.of(view.ds, record)


def record(view: View, request: Request) -> Reply:
    """Return the values of a record: columns, size and range of its pixels, annotations."""
    ds, n = view.ds, _number(view, request)
    row = int(ds._rows_of([n])[0])
    problems: list[str] = []
    image: NDArray[Any] | None = None
    try:
        image = _image(view, n)
    except (MapixError, OSError) as e:
        problems.append(str(e))
    found: dict[str, Any] = {"record": n, "row": row, "columns": [], "image": None}
    labels, one = set(ds._label_names()), ds[[n]]  # columns of this record alone are read
    for name in ds._column_names():
        try:
            column = one.columns[name]
        except (MapixError, OSError) as e:
            problems.append(f"{name}: {e}")
            continue
        found["columns"].append(
            {
                "name": name,
                "value": _text(column.values[0]) if column.present[0] else None,
                "unit": column.unit,
                "description": column.description,
                "label": name in labels,
            }
        )
    if image is not None:
        h, w, c = image.shape
        finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image
        found["image"] = {
            "shape": [h, w, c],
            "dtype": image.dtype.name,
            "low": finite.min() if finite.size else 0,
            "high": finite.max() if finite.size else 0,
            "full": range_of(view, (1, 0))[1] if image.dtype == np.uint8 else None,
            "place": _place(ds, n),
        }
    try:
        annotations = ds._annotations(row)
    except (MapixError, OSError) as e:
        problems.append(str(e))
    else:
        found["annotations"] = annotations._asdict()
        found["annotations"]["unit"] = annotations.unit and annotations.unit._asdict()
    return Reply.json({**found, "problems": list(dict.fromkeys(problems))})


def _place(ds: Any, n: int) -> dict[str, Any] | None:
    """Return where the pixels of a record lie in a file as they are; None of encoded ones."""
    try:
        found = ds.byte_ranges(n)
    except (MapixError, OSError):
        return None
    paths = list(dict.fromkeys(one.path for one in found))
    for one in found:
        if one.strides:
            return {"at": one.at, "strides": one.strides, "file": paths.index(one.path)}
    return None


def _text(value: Any) -> Any:
    """Return a value of a column, or a text of it where JSON has no such type."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bool | int | float):
        return plain
    if isinstance(plain, list | tuple | set | frozenset | np.ndarray):
        plain = ", ".join(map(str, plain))
    return str(plain)[:MOST_TEXT]


def pixels(view: View, request: Request) -> Reply:
    """Return numbers of a window of a record's pixels: (h, w, c), little-endian, row after row.

    ``top``, ``left``, ``bottom``, ``right`` are pixels; of ``step`` each how many-th is sent.
    """
    image = _image(view, _number(view, request))
    if image is None:
        raise RefusedError(404, "the record has no pixels")
    h, w, _ = image.shape
    (top, left, bottom, right), step = request.window(h, w, most_step=MOST_SIDE)
    part = image[top:bottom:step, left:right:step]
    if part.size > MOST_NUMBERS:
        raise RefusedError(
            413, f"{part.size} numbers, at most {MOST_NUMBERS} are sent: a larger step"
        )
    data = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))  # booleans are bytes 0 and 1
    return Reply(data.tobytes(), "application/octet-stream")


ROUTES = {
    "record": record,
    "record.pixels": pixels,
}
