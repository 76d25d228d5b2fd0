"""The layout of IDX files: one array of numbers, in either byte order.

``docs/idx.md`` has the byte table.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from mapix.errors import FormatError, LimitError, TruncatedError

__all__ = ["CODES", "NAME", "Header", "pack", "parse"]

NAME = "idx"
CODES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
BYTEORDERS = {b"\0\0": ">", b"\xff\xff": "<"}
MOST_DIMS = 32  # the format can say 255; numpy has 64, and no file is known to have more than 4
MOST_NBYTES = 1 << 62
MOST_EMPTY = 1 << 16  # rows without numbers: no bytes of the file prove that there are so many
PREFIX_NBYTES = 4


class Header:
    """The header of a file.

    Attributes
    ----------
    byteorder : {">", "<"}
        Byte order of header and numbers.
    code : str
        Type of the numbers, without the byte order.
    shape : tuple of int
        Dimensions, rows first.
    nbytes : int
        Of the header.
    """

    __slots__ = ("byteorder", "code", "nbytes", "shape")

    def __init__(
        self, byteorder: Literal[">", "<"], code: str, shape: tuple[int, ...], nbytes: int
    ) -> None:
        self.byteorder: Literal[">", "<"] = byteorder
        self.code, self.shape, self.nbytes = code, shape, nbytes

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the numbers in the file."""
        return np.dtype(self.byteorder + self.code)

    @property
    def order(self) -> str:
        """The old name of ``byteorder``."""
        return self.byteorder

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row."""
        total = self.dtype.itemsize
        for d in self.shape[1:]:
            total *= d
        return total

    @property
    def file_nbytes(self) -> int:
        """Bytes of a complete file."""
        return self.nbytes + self.shape[0] * self.row_nbytes


def parse(data: bytes, path: str) -> Header:
    """Return the header in the first bytes of a file; 132 bytes are enough for any header.

    Raises
    ------
    FormatError
        The bytes are not a header.
    LimitError
        More than 32 dimensions, an array larger than any disk, or more than 65,536 rows without
        numbers.
    """
    if len(data) < PREFIX_NBYTES or data[:2] not in BYTEORDERS:
        reason = f"0000 or ffff expected, got {data[:2].hex() or 'nothing'}"
        raise FormatError(path, NAME, reason, at=0)
    if data[2] not in CODES:
        known = ", ".join(f"{c:02x}" for c in CODES)
        raise FormatError(path, NAME, f"a type of {known} expected, got {data[2]:02x}", at=2)
    ndim = data[3]
    if ndim == 0:
        raise FormatError(path, NAME, "at least one dimension expected, got 0", at=3)
    if ndim > MOST_DIMS:
        raise LimitError(f"{path}: idx: {ndim} dimensions, more than {MOST_DIMS}")
    end = PREFIX_NBYTES + 4 * ndim
    if len(data) < end:
        reason = f"a header of {end} bytes expected, the file has {len(data)}"
        raise TruncatedError(path, NAME, reason, at=4)
    byteorder = BYTEORDERS[data[:2]]
    shape = tuple(int(d) for d in np.frombuffer(data, f"{byteorder}u4", ndim, PREFIX_NBYTES))
    total = 8  # bytes: of a number as float64
    for d in shape:
        total *= d or 1  # to numpy an array is as large as its dimensions other than 0
    if total > MOST_NBYTES:
        raise LimitError(f"{path}: idx: an array of shape {shape} is larger than any disk")
    if 0 in shape[1:] and shape[0] > MOST_EMPTY:
        raise LimitError(
            f"{path}: idx: {shape[0]} rows of shape {shape[1:]}, without numbers, more than "
            f"MOST_EMPTY = {MOST_EMPTY}"
        )
    return Header(byteorder, CODES[data[2]], shape, end)  # type: ignore[arg-type]


def pack(byteorder: str, code: str, shape: tuple[int, ...]) -> bytes:
    """Return the header of an array."""
    prefix = {v: k for k, v in BYTEORDERS.items()}[byteorder]
    number = {v: k for k, v in CODES.items()}[code]
    return prefix + bytes([number, len(shape)]) + np.array(shape, f"{byteorder}u4").tobytes()
