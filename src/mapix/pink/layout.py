"""The layout of PINK's binaries: images, self-organising maps, mappings and rotations.

``docs/pink.md`` has the tables of all headers, of versions 1 and 2.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mapix.errors import FormatError, LimitError, SizeError, TruncatedError

__all__ = [
    "CODES",
    "END",
    "HEAD_NBYTES",
    "KINDS",
    "MOST_COMMENT",
    "NAME",
    "RECORD",
    "Header",
    "comment_of",
    "fields_of",
    "hexagonal",
    "of_version_1",
    "of_version_2",
    "pack",
]

NAME = "pink"
KINDS = ("data", "som", "map", "rot")
LAYOUTS = ("cartesian", "hexagonal")
CODES = ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
END = b"# END OF HEADER\n"
LINES = re.compile(rb"(?:(?!# END OF HEADER\n)#[^\n]*+\n)*+")
MOST_COMMENT = 1 << 20  # bytes of comment
MOST_DIMS = 16  # PINK has up to 3
HEAD_NBYTES = 4 * (7 + 2 * MOST_DIMS)
MOST_INT = 2**31 - 1
MOST_EMPTY = 1 << 20  # numbers of an entry, in a file that has none to prove them by
RECORD = np.dtype([("flip", "u1"), ("angle", "<f4")])  # packed: 5 bytes
"""One entry on one neuron of a rotation file: whether it is flipped, radians it is turned by."""

Layout = Literal["cartesian", "hexagonal"]
Kind = Literal["data", "som", "map", "rot"]


@dataclass(frozen=True, slots=True)
class Header:
    """The kind of a file, and the place of its numbers.

    Attributes
    ----------
    version : {1, 2}
        Of the format.
    kind : {"data", "som", "map", "rot"}
        What the file holds.
    dtype : numpy.dtype
        Of the numbers; ``RECORD`` for rotations.
    layout : {"cartesian", "hexagonal"}
        Layout of the neurons of the SOM (of data: of the numbers of an entry), by the length of
        the file.
    field : int
        The layout that the header states; 0 in version 1.
    dims : tuple of int
        Of the SOM; of data: of an entry.
    rows : int
        Entries; of a SOM, neurons.
    row_shape : tuple of int
        Numbers of an entry; of a SOM, of a neuron.
    comment : bytes
        The lines before, as they are.
    at : int
        Byte of the first number.
    usual : bool
        False where the lengths fit, but such files are not known to exist: version 1 with images
        that are not square, or of one pixel, or a SOM that is 1 wide and higher than that.
    """

    version: int
    kind: Kind
    dtype: np.dtype[np.generic]
    layout: Layout
    field: int
    dims: tuple[int, ...]
    rows: int
    row_shape: tuple[int, ...]
    comment: bytes
    at: int
    usual: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        return (self.rows, *self.row_shape)

    @property
    def nneurons(self) -> int:
        """Neurons of the SOM; 0 of data."""
        if self.kind == "data":
            return 0
        return self.rows if self.kind == "som" else self.row_shape[0]

    @property
    def text(self) -> str:
        """The reading as text, for lists of readings."""
        what = "entries of" if self.kind == "data" else f"entries on a {self.layout} SOM of"
        dims = " x ".join(map(str, self.row_shape if self.kind == "data" else self.dims))
        if self.kind == "som":
            size = " x ".join(map(str, self.row_shape))
            return f"version {self.version} som: {self.layout}, {dims}, neurons of {size}"
        return f"version {self.version} {self.kind}: {self.rows} {what} {dims}"


def hexagonal(dims: tuple[int, ...]) -> int | None:
    """Return the number of cells of a hexagon of that size; None where there is no such hexagon."""
    side = dims[0]
    if len(dims) < 2 or dims[1] != side or side % 2 == 0 or any(d != 1 for d in dims[2:]):
        return None
    radius = side // 2
    return side * side - radius * (radius + 1)


# --- the lines of comment -------------------------------------------------------------------------


def comment_of(data: bytes) -> tuple[int, bool] | None:
    """Return the bytes of the lines of comment at the start, and whether ``END`` ends them.

    None where a line goes on beyond ``data``.
    """
    found = LINES.match(data)
    assert found is not None  # it matches anything
    at = found.end()
    if data.startswith(END, at):
        return at + len(END), True
    return None if data.startswith(b"#", at) else (at, False)


# --- version 2 ------------------------------------------------------------------------------------


class _Ints:
    """The numbers of the header, one after the other; an error names the number and its byte."""

    def __init__(self, data: bytes, at: int, path: str) -> None:
        self.data, self.at, self.path = data, at, path

    def take(self, name: str, low: int, high: int = MOST_INT) -> int:
        left = len(self.data) - self.at
        if left < 4:
            reason = f"{name} expected, 4 bytes, the file has {max(left, 0)} left"
            raise TruncatedError(self.path, NAME, reason, at=self.at)
        (found,) = struct.unpack_from("<i", self.data, self.at)
        if not low <= found <= high:
            wanted = f"{low}" if low == high else f"{low}..{high}"
            kind = SizeError if name.startswith("dimension") else FormatError
            raise kind(self.path, NAME, f"{name} of {wanted} expected, got {found}", at=self.at)
        self.at += 4
        return int(found)

    def grid(self, of: str) -> tuple[int, tuple[int, ...]]:
        """Return a layout and its dimensions."""
        field = self.take(f"layout of {of}", 0, 1)
        ndim = self.take(f"number of dimensions of {of}", 1, MOST_DIMS)
        return field, tuple(self.take(f"dimension {k} of {of}", 1) for k in range(ndim))


def _fits(field: int, dims: tuple[int, ...], cells: int) -> Layout | None:
    """Return the layout in which a grid has that many cells; None where there is no such layout."""
    if cells == math.prod(dims):  # 1 x 1 is both
        return "hexagonal" if field == 1 and hexagonal(dims) == cells else "cartesian"
    return "hexagonal" if cells == hexagonal(dims) else None


def _wanted(field: int, dims: tuple[int, ...]) -> str:
    cells = hexagonal(dims)
    both = "" if cells in (None, math.prod(dims)) else f" or, as a hexagon, {cells}"
    return f"{math.prod(dims)}{both}"


def of_version_2(data: bytes, nbytes: int, path: str) -> Header:
    """Return the header of a file of version 2.

    Parameters
    ----------
    data : bytes
        The file's first bytes: all lines of comment, and ``HEAD_NBYTES`` more where there are so
        many.
    nbytes : int
        Of the file.
    path : str
        For messages.

    Raises
    ------
    FormatError
        A number is out of its range, or the file is longer than the header states.
    SizeError
        A dimension is not positive.
    TruncatedError
        The file is shorter.
    LimitError
        It has no entries, and they would be huge.
    """
    begin = (comment_of(data) or (0, False))[0]
    ints = _Ints(data, begin, path)
    ints.take("version", 2, 2)
    kind = KINDS[ints.take("kind", 0, 3)]
    dtype = RECORD if kind == "rot" else np.dtype("<" + CODES[ints.take("data type", 0, 9)])
    n = 1 if kind == "som" else ints.take("number of entries", 0)
    field, dims = ints.grid("an entry" if kind == "data" else "the SOM")
    inner: tuple[int, ...] = ()
    if kind == "som":
        inner_field, inner = ints.grid("a neuron")
        if inner_field == 1 and hexagonal(inner) is not None:
            inner = _hexagonal_neurons(dims, inner, dtype, nbytes - ints.at)
    layout, cells = _cells(field, dims, n * math.prod(inner) * dtype.itemsize, ints, nbytes)
    if kind == "som":
        rows, row_shape = cells, inner
    else:
        flat = kind != "data" or layout == "hexagonal"
        rows, row_shape = n, (cells,) if flat else dims
    comment = data[:begin]
    return Header(2, kind, dtype, layout, field, dims, rows, row_shape, comment, ints.at)  # type: ignore[arg-type]


def _hexagonal_neurons(
    dims: tuple[int, ...], inner: tuple[int, ...], dtype: np.dtype[np.generic], nbytes: int
) -> tuple[int, ...]:
    """Return the dimensions of neurons that are stated as hexagons, if the length agrees."""
    cells = hexagonal(inner) or 0
    counts = (math.prod(dims), hexagonal(dims))
    return (cells,) if nbytes in [c * cells * dtype.itemsize for c in counts if c] else inner


def _cells(
    field: int, dims: tuple[int, ...], each: int, ints: _Ints, nbytes: int
) -> tuple[Layout, int]:
    """Return layout and number of cells; each cell takes ``each`` of the remaining bytes."""
    left = nbytes - ints.at
    if each == 0:
        return _no_entries(field, dims, left, ints)
    cells, rest = divmod(left, each)
    layout = None if rest else _fits(field, dims, cells)
    if layout is not None:
        return layout, cells
    size, wanted = " x ".join(map(str, dims)), _wanted(field, dims)
    reason = f"{size} is {wanted} cells of {each} bytes each, the file has {left} bytes left"
    least = each * min(c for c in (math.prod(dims), hexagonal(dims)) if c)
    kind = TruncatedError if left < least else FormatError
    raise kind(ints.path, NAME, reason, at=ints.at)


def _no_entries(field: int, dims: tuple[int, ...], left: int, ints: _Ints) -> tuple[Layout, int]:
    """Return the same for a file without entries, whose length decides nothing: by the header."""
    if left:
        raise FormatError(ints.path, NAME, f"no entries, and {left} bytes of them", at=ints.at)
    hexagon = hexagonal(dims) if field == 1 else None
    cells = math.prod(dims) if hexagon is None else hexagon
    if cells > MOST_EMPTY:
        raise LimitError(
            f"{ints.path}: {NAME}: no entries, and {cells} numbers in each, which nothing proves: "
            f"more than MOST_EMPTY = {MOST_EMPTY}"
        )
    return ("cartesian" if hexagon is None else "hexagonal"), cells


# --- version 1 ------------------------------------------------------------------------------------


def of_version_1(data: bytes, nbytes: int) -> Iterator[Header]:
    """Yield all readings of a file as version 1 that its length allows.

    Parameters
    ----------
    data : bytes
        As for ``of_version_2``.
    nbytes : int
        Of the file.

    Notes
    -----
    The programs of version 1 take lines of comment only when ``END`` is there, and otherwise read
    from the first byte.  This function does the same: a file of 35 images begins with a ``#``.
    """
    begin, ended = comment_of(data) or (0, False)
    begin = begin if ended else 0
    comment = data[:begin]
    if len(data) < begin + 16:
        return
    a, b, c, d = struct.unpack_from("<4i", data, begin)
    if min(a, b, c, d) < 1:
        return
    f4 = np.dtype("<f4")
    at = begin + 16
    left = nbytes - at
    if 4 * a * b * c * d == left:
        usual = c == d and c > 1
        yield Header(1, "data", f4, "cartesian", 0, (b, c, d), a, (b, c, d), comment, at, usual)
    for kind, dtype in (("map", f4), ("rot", RECORD)):
        cells, rest = divmod(left, a * dtype.itemsize)
        layout = None if rest else _fits(0, (b, c, d), cells)
        if layout is not None:
            usual = _usual((b, c, d))
            head = (1, kind, dtype, layout, 0, (b, c, d), a, (cells,), comment, at, usual)
            yield Header(*head)  # type: ignore[arg-type]
    if len(data) < begin + 24:
        return
    e, f = struct.unpack_from("<2i", data, at)
    if min(e, f) < 1:
        return
    at += 8
    cells, rest = divmod(nbytes - at, 4 * a * e * f)
    layout = None if rest else _fits(0, (b, c, d), cells)
    if layout is not None:
        usual = e == f and _usual((b, c, d))
        yield Header(1, "som", f4, layout, 0, (b, c, d), cells, (a, e, f), comment, at, usual)


def _usual(dims: tuple[int, int, int]) -> bool:
    """Whether the dimensions of a SOM are as PINK 1 writes them: those of 1 come last."""
    w, h, d = dims
    return (w > 1 or h == 1) and (h > 1 or d == 1)


# --- names of the numbers -------------------------------------------------------------------------


def fields_of(header: Header, n: int) -> list[str]:
    """Return the names of the ``n`` numbers between the lines of comment and the first row."""
    if header.version == 1:
        entry = ["channels", "height", "width"]
        som = ["width of the SOM", "height of the SOM", "depth of the SOM"]
        if header.kind == "data":
            return ["entries", *entry]
        return ["channels", *som, *entry[1:]] if header.kind == "som" else ["entries", *som]
    names = ["version", "kind"]
    names += [] if header.kind == "rot" else ["data type"]
    names += [] if header.kind == "som" else ["entries"]
    of = "an entry" if header.kind == "data" else "the SOM"
    names += [f"layout of {of}", f"number of dimensions of {of}"]
    names += [f"dimension {k} of {of}" for k in range(len(header.dims))]
    if header.kind == "som":
        names += ["layout of a neuron", "number of dimensions of a neuron"]
        names += [f"dimension {k} of a neuron" for k in range(n - len(names))]
    return names


# --- writing --------------------------------------------------------------------------------------


def pack(
    kind: Kind,
    code: str,
    n: int,
    dims: tuple[int, ...],
    neuron_dims: tuple[int, ...] = (),
    *,
    field: int = 0,
    comment: bytes = b"",
) -> bytes:
    """Return the header of a file of version 2; ``code`` and ``n`` where the kind has them."""
    ints = [2, KINDS.index(kind)]
    if kind != "rot":
        ints.append(CODES.index(code))
    if kind != "som":
        ints.append(n)
    ints += [field, len(dims), *dims]
    if kind == "som":
        ints += [0, len(neuron_dims), *neuron_dims]
    return comment + struct.pack(f"<{len(ints)}i", *ints)
