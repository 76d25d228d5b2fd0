"""The header of a ``.npy`` file: type, order and dimensions of one array.

The layout is documented by NumPy, in ``numpy.lib.format``; ``docs/npy.md`` states what is read.
"""

from __future__ import annotations

import ast
import re
import struct
from typing import Any

import numpy as np

from mapix.errors import FormatError, LimitError, TruncatedError, UnsupportedError
from mapix.syntax import parsed

__all__ = ["FRONT_NBYTES", "LENGTHS", "MAGIC", "NPY", "Header", "parse"]

NPY = "npy"
MAGIC = b"\x93NUMPY"
LENGTHS = {(1, 0): "<H", (2, 0): "<I", (3, 0): "<I"}  # version -> type of the length of the header
KEYS = {"descr", "fortran_order", "shape"}
MOST_HEADER_NBYTES = 1 << 16
FRONT_NBYTES = len(MAGIC) + 6 + MOST_HEADER_NBYTES
MOST_DIMS = 32  # of any numpy
MOST_NBYTES = 1 << 62
MOST_EMPTY = 1 << 16  # rows without numbers: no bytes of the file prove that there are so many
MOST_ITEM_NBYTES = 1 << 30
MOST_FIELDS = 1000
MOST_NESTED = 8  # records in records
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
OTHERS = r"[<>|=]?(?:[SUV][0-9]{1,10}|[mM]8(?:\[[0-9]*[A-Za-z]{1,2}(?:/[0-9]+)?\])?)"
LONG = r"([0-9])L\b"  # an integer as Python 2 wrote it


class Header:
    """The header of an array.

    Attributes
    ----------
    version : tuple of int
        Version of the format: (1, 0), (2, 0) or (3, 0).
    dtype : numpy.dtype
        Type of an element, byte order included.
    shape : tuple of int
        Dimensions, rows first; at least one.
    nbytes : int
        Bytes before the first element.
    """

    __slots__ = ("dtype", "nbytes", "shape", "version")

    def __init__(
        self, version: tuple[int, int], dtype: np.dtype[Any], shape: tuple[int, ...], nbytes: int
    ) -> None:
        self.version, self.dtype, self.shape, self.nbytes = version, dtype, shape, nbytes

    @property
    def array_nbytes(self) -> int:
        """Bytes of all elements."""
        total = self.dtype.itemsize
        for side in self.shape:
            total *= side
        return total


def parse(data: bytes, path: str, format: str = NPY) -> Header:
    """Return the header in the first bytes of an array.

    Parameters
    ----------
    data : bytes
        The first ``FRONT_NBYTES`` of the array, or all of a shorter one.
    path, format : str
        For messages.

    Raises
    ------
    FormatError
        The bytes are not a header.
    UnsupportedError
        The array holds Python objects, is stored in Fortran order, has no rows, or has a type that
        mapix does not read.
    LimitError
        A limit of this module is exceeded.
    """
    if data[: len(MAGIC)] != MAGIC:
        reason = f"{MAGIC.hex()} expected, got {data[: len(MAGIC)].hex() or 'nothing'}"
        raise FormatError(path, format, reason, at=0)
    version = (data[6], data[7]) if len(data) > 7 else (-1, -1)
    if version not in LENGTHS:
        known = ", ".join(f"{a}.{b}" for a, b in LENGTHS)
        got = data[6:8].hex() or "nothing"
        raise FormatError(path, format, f"version {known} expected, got {got}", at=6)
    begin = 8 + struct.calcsize(LENGTHS[version])
    if len(data) < begin:
        raise TruncatedError(path, format, "it ends in the length of the header", at=8)
    (nbytes,) = struct.unpack_from(LENGTHS[version], data, 8)
    if nbytes > MOST_HEADER_NBYTES:
        raise LimitError(
            f"{path}: {format}: a header of {nbytes} bytes, more than MOST_HEADER_NBYTES = "
            f"{MOST_HEADER_NBYTES}"
        )
    if len(data) < begin + nbytes:
        reason = f"a header of {nbytes} bytes expected, {len(data) - begin} are left"
        raise TruncatedError(path, format, reason, at=begin)
    stated = _stated(data[begin : begin + nbytes], version, path, format, begin)
    dtype = _dtype(stated["descr"], path, format, begin)
    shape = _shape(stated["shape"], dtype, path, format, begin)
    if stated["fortran_order"] and sum(side != 1 for side in shape) > 1:
        sides = " x ".join(map(str, shape))
        raise UnsupportedError(
            f"{path}: {format}: the array of {sides} is stored in Fortran order, so that its rows "
            "do not lie together: save numpy.ascontiguousarray(array)"
        )
    return Header(version, dtype, shape, begin + nbytes)


def _stated(
    raw: bytes, version: tuple[int, int], path: str, format: str, at: int
) -> dict[str, Any]:
    """Return the three facts of a header, which is the text of a Python literal."""
    try:
        text = raw.decode("utf-8" if version >= (3, 0) else "latin-1")
        found = _literal(text)
    except (SyntaxError, ValueError, TypeError, RecursionError) as e:
        kind = type(e).__name__
        raise FormatError(
            path, format, f"the header is not a Python literal ({kind})", at=at
        ) from e
    if not isinstance(found, dict) or set(found) != KEYS:
        reason = f"a header with {', '.join(sorted(KEYS))} expected, got {raw[:60]!r}"
        raise FormatError(path, format, reason, at=at)
    if type(found["fortran_order"]) is not bool:
        reason = f"fortran_order of True or False expected, got {found['fortran_order']!r:.40}"
        raise FormatError(path, format, reason, at=at)
    return found


def _literal(text: str) -> Any:
    """Return the value of a literal; nothing is executed."""
    try:
        return ast.literal_eval(parsed(text.strip()))
    except SyntaxError:
        older = re.sub(LONG, r"\1", text.strip())
        if older == text.strip():
            raise
        return ast.literal_eval(parsed(older))


def _shape(shape: Any, dtype: np.dtype[Any], path: str, format: str, at: int) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        reason = f"a tuple of dimensions expected, got {shape!r:.60}"
        raise FormatError(path, format, reason, at=at)
    if not shape:
        raise UnsupportedError(f"{path}: {format}: an array of no dimensions has no rows")
    if len(shape) > MOST_DIMS:
        raise LimitError(f"{path}: {format}: {len(shape)} dimensions, more than {MOST_DIMS}")
    total = dtype.itemsize
    for side in shape:
        total *= side or 1  # to numpy an array is as large as its dimensions other than 0
    if total > MOST_NBYTES:
        raise LimitError(f"{path}: {format}: an array of shape {shape} is larger than any disk")
    if 0 in shape[1:] and shape[0] > MOST_EMPTY:
        raise LimitError(
            f"{path}: {format}: {shape[0]} rows of shape {shape[1:]}, without numbers, more than "
            f"MOST_EMPTY = {MOST_EMPTY}"
        )
    return shape


# --- types ----------------------------------------------------------------------------------------


def _dtype(descr: Any, path: str, format: str, at: int) -> np.dtype[Any]:
    """Return the type that a header describes."""
    try:
        found = _simple(descr) if isinstance(descr, str) else _record(descr, 0)
    except (ValueError, TypeError, OverflowError) as e:
        raise FormatError(path, format, f"type {descr!r:.60}: {e}", at=at) from e
    if found is None:
        what = "holds Python objects, as pickles, which mapix never loads: save numbers"
        raise UnsupportedError(f"{path}: {format}: the array {what}")
    if not 0 < found.itemsize <= MOST_ITEM_NBYTES:
        raise UnsupportedError(f"{path}: {format}: elements of {found.itemsize} bytes")
    return found


def _simple(descr: str) -> np.dtype[Any] | None:
    """Return a type of one name; None for Python objects."""
    if descr.lstrip("<>|=") in ("O", "O4", "O8"):
        return None
    name = descr[1:] if descr[:1] in ("<", ">", "|", "=") else descr
    if name not in NUMBERS and name != "?" and not re.fullmatch(OTHERS, descr):
        raise ValueError("it is not a type of numbers, text or bytes")
    return np.dtype(descr)


def _record(descr: Any, depth: int) -> np.dtype[Any] | None:
    """Return a type with named fields; None where a field holds Python objects."""
    if not isinstance(descr, list) or not 0 < len(descr) <= MOST_FIELDS or depth > MOST_NESTED:
        raise ValueError(f"a name, or a list of 1 to {MOST_FIELDS} fields expected")
    names, types, offsets, at = [], [], [], 0
    for field in descr:
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            raise ValueError(f"field {field!r:.40}: (name, type) or (name, type, shape) expected")
        name = field[0][-1] if isinstance(field[0], tuple) and len(field[0]) == 2 else field[0]
        made = _simple(field[1]) if isinstance(field[1], str) else _record(field[1], depth + 1)
        if made is None:
            return None
        if len(field) == 3:
            made = _repeated(made, field[2])
        if not isinstance(name, str):
            raise ValueError(f"field {field!r:.40}: a name expected")
        if name or made.kind != "V" or made.names is not None:  # others are padding
            names.append(name)
            types.append(made)
            offsets.append(at)
        at += made.itemsize
        if at > MOST_ITEM_NBYTES:
            raise ValueError(f"more than {MOST_ITEM_NBYTES} bytes")
    if not names:
        raise ValueError("no field has a name")
    return np.dtype({"names": names, "formats": types, "offsets": offsets, "itemsize": at})


def _repeated(made: np.dtype[Any], shape: Any) -> np.dtype[Any]:
    """Return the type of a field that is an array itself."""
    sides = shape if isinstance(shape, tuple) else (shape,)
    total = made.itemsize
    for side in sides:
        if type(side) is not int or side < 0 or len(sides) > MOST_DIMS:
            raise ValueError(f"a shape expected, got {shape!r:.40}")
        total *= side
        if total > MOST_ITEM_NBYTES:
            raise ValueError(f"more than {MOST_ITEM_NBYTES} bytes")
    return np.dtype((made, sides))
