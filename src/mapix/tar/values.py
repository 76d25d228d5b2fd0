"""Values in the members of a record: class numbers, texts, JSON, arrays of NumPy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import check_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "INTEGERS",
    "PICTURES",
    "TEXTS",
    "MemberError",
    "array_in",
    "integer",
    "json_value",
    "text",
]

# The last part of an extension decides, so that "seg.png" is a picture.
PICTURES = frozenset(
    (
        *("jpg", "jpeg", "png", "ppm", "pgm", "pbm", "pnm", "gif", "bmp", "webp"),
        *("tif", "tiff", "avif", "jp2", "qoi", "tga"),
    )
)
INTEGERS = frozenset(("cls", "cls2", "class", "count", "index", "inx", "id"))
TEXTS = frozenset(("txt", "text", "transcript"))
MOST_DIGITS = 19
NPY_MAGIC = b"\x93NUMPY"
MOST_HEADER_NBYTES = 10_000  # numpy's own limit
NPY_MOST_NBYTES = 12 + MOST_HEADER_NBYTES  # with magic, version, and the length of the header


class MemberError(ValueError):
    """The content of a member is not a value of its kind; the text states why."""


def text(data: bytes) -> str:
    """Return UTF-8 text."""
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise MemberError(f"UTF-8 expected: {e.reason} at byte {e.start}") from e


def integer(data: bytes) -> int:
    """Return the number that decimal digits, white space around them, stand for."""
    digits = data.strip()
    if not digits.removeprefix(b"-").isdigit() or len(digits) > MOST_DIGITS:
        raise MemberError(f"a number in decimal digits expected, got {data[:40]!r}")
    return int(digits)


def json_value(data: bytes) -> Any:
    """Return a JSON value; NaN and Infinity pass, as Python's ``json`` writes them."""
    import json

    try:
        return json.loads(text(data))
    except MemberError:
        raise
    except RecursionError as e:
        raise MemberError("JSON nested too deeply") from e
    except ValueError as e:
        raise MemberError(f"JSON expected: {e}") from e


def array_in(front: bytes, view: memoryview) -> NDArray[Any]:
    """Return the array of an ``.npy`` file as a view of it, read-only.

    Parameters
    ----------
    front : bytes
        The first bytes, at most ``NPY_MOST_NBYTES``, copied.
    view : memoryview
        The file.
    """
    stream = io.BytesIO(front)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise MemberError(f"an .npy file of version 1 or 2 expected, got {version}")
        shape, by_columns, dtype = read(stream, MOST_HEADER_NBYTES)
    except MemberError:
        raise
    except MemoryError:
        raise
    except Exception as e:  # of a header of unknown origin numpy may raise anything
        check_memory(e)
        raise MemberError(f"the header of an .npy file expected: {e}") from e
    if dtype.hasobject:
        raise MemberError("an array of numbers expected, got Python objects")
    count = 1
    for side in shape:
        if not isinstance(side, int) or side < 0:
            raise MemberError(f"a shape of numbers expected, got {shape}")
        count *= side
    at = stream.tell()
    if at + count * dtype.itemsize != len(view) or not all(shape) or len(shape) > 32:
        raise MemberError(
            f"an array of shape {shape} and {dtype} takes {count * dtype.itemsize} bytes, "
            f"{len(view) - at} are left in the member"
        )
    return np.ndarray(shape, dtype, view, at, order="F" if by_columns else "C")
