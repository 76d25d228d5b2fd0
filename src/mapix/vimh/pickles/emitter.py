"""Writing pickles of protocol 4, byte for byte as CPython's pickler does, without the objects.

The rules: every new object is memoised, and a known one is recalled; lists are written in runs of
1000; opcodes are collected in frames, which end at the first object that begins after 64 KiB; bytes
of 64 KiB and more are between frames.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Emitter"]

FRAME_TARGET = 1 << 16
FRAME_LEAST = 4
RUN = 1000  # values between MARK and APPENDS
_ARRAY_DTYPES = {"u1": "|", "f4": "<"}


class Emitter:
    """A pickle that is being written.

    Parameters
    ----------
    write : callable
        Takes bytes.
    """

    def __init__(self, write: Callable[[Any], object]) -> None:
        self._write = write
        self._frame = bytearray()
        self._memo: dict[object, int] = {}
        self._nmemo = 0
        write(b"\x80\x04")

    # --- frames -----------------------------------------------------------------------------------

    def _boundary(self) -> None:
        """End a frame before an object, where it is full."""
        if len(self._frame) >= FRAME_TARGET:
            self._commit()

    def _commit(self) -> None:
        if len(self._frame) >= FRAME_LEAST:
            self._write(b"\x95" + struct.pack("<Q", len(self._frame)))
        self._write(bytes(self._frame))
        self._frame.clear()

    def _memoise(self, what: object = None) -> None:
        if what is not None:
            self._memo[what] = self._nmemo
        self._nmemo += 1
        self._frame += b"\x94"

    def _recalled(self, what: object) -> bool:
        number = self._memo.get(what)
        if number is None:
            return False
        self._frame += b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number)
        return True

    # --- values -----------------------------------------------------------------------------------

    def number(self, value: int) -> None:
        """Write an integer, 0 or more."""
        self._boundary()
        if value < 1 << 8:
            self._frame += b"K" + struct.pack("<B", value)
        elif value < 1 << 16:
            self._frame += b"M" + struct.pack("<H", value)
        elif value < 1 << 31:
            self._frame += b"J" + struct.pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self._frame += b"\x8a" + bytes([len(data)]) + data

    def text(self, value: str) -> None:
        """Write a text of at most 255 bytes."""
        self._boundary()
        if not self._recalled(value):
            data = value.encode()
            self._frame += b"\x8c" + struct.pack("<B", len(data)) + data
            self._memoise(value)

    def _name(self, module: str, name: str) -> None:
        self._boundary()
        if not self._recalled((module, name)):
            self.text(module)
            self.text(name)
            self._frame += b"\x93"
            self._memoise((module, name))

    def data(self, pieces: Iterable[bytes | memoryview], nbytes: int) -> None:
        """Write a bytes object of so many bytes."""
        self._boundary()
        if nbytes < 256:
            whole = b"".join(pieces)
            one = whole if nbytes <= 1 else None  # CPython has one object for each of these
            if one is not None and self._recalled(one):
                return
            self._frame += b"C" + bytes([nbytes]) + whole
            self._memoise(one)
            return
        if nbytes < 1 << 32:
            head = b"B" + struct.pack("<I", nbytes)
        else:
            head = b"\x8e" + struct.pack("<Q", nbytes)
        if nbytes < FRAME_TARGET:
            self._frame += head
            for piece in pieces:
                self._frame += piece
        else:
            self._commit()
            self._write(head)
            for piece in pieces:
                self._write(piece)
        self._memoise()

    def array(
        self, dtype: str, shape: tuple[int, int], pieces: Iterable[bytes | memoryview]
    ) -> None:
        """Write a numpy array of two dimensions, in C order; ``dtype`` is ``"u1"`` or ``"f4"``."""
        self._boundary()
        self._name("numpy._core.multiarray", "_reconstruct")
        self._boundary()  # the tuple of arguments
        self._name("numpy", "ndarray")
        self._boundary()
        self.number(0)
        self._frame += b"\x85"
        self._memoise()
        self.data([b"b"], 1)
        self._frame += b"\x87"
        self._memoise()
        self._frame += b"R"
        self._memoise()
        self._boundary()
        self._frame += b"("
        self.number(1)
        self._boundary()
        self.number(shape[0])
        self.number(shape[1])
        self._frame += b"\x86"
        self._memoise()
        self._dtype(dtype)
        self._boundary()
        self._frame += b"\x89"
        self.data(pieces, np.dtype(dtype).itemsize * shape[0] * shape[1])
        self._frame += b"t"
        self._memoise()
        self._frame += b"b"

    def _dtype(self, text: str) -> None:
        self._boundary()
        self._name("numpy", "dtype")
        self._boundary()
        self.text(text)
        self._boundary()
        self._frame += b"\x89"
        self._boundary()
        self._frame += b"\x88\x87"
        self._memoise()
        self._frame += b"R"
        self._memoise()
        self._boundary()
        self._frame += b"("
        self.number(3)
        self.text(_ARRAY_DTYPES[text])
        for constant in (b"N", b"N", b"N", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\xff"):
            self._boundary()
            self._frame += constant
        self.number(0)
        self._frame += b"t"
        self._memoise()
        self._frame += b"b"

    # --- containers -------------------------------------------------------------------------------

    def begin_dict(self) -> None:
        """Begin a dict of 2 to 1000 items."""
        self._boundary()
        self._frame += b"}"
        self._memoise()
        self._frame += b"("

    def end_dict(self) -> None:
        """End a dict, after its items."""
        self._frame += b"u"

    def row(self, numbers: bytes) -> None:
        """Write a list of integers in 0..255, fewer than 1000."""
        self._boundary()
        self._frame += b"]"
        self._memoise()
        if len(numbers) > 1:
            self._frame += b"("
        for value in numbers:
            self.number(value)
        if numbers:
            self._frame += b"e" if len(numbers) > 1 else b"a"

    def rows(self, table: Iterable[NDArray[np.uint8]], n: int) -> None:
        """Write a list of n lists of small numbers; ``table`` yields them in pieces, (k, m)."""
        self._boundary()
        self._frame += b"]"
        self._memoise()
        done = 0
        for piece in table:
            at = 0
            while at < len(piece):
                if n > 1 and done % RUN == 0:
                    self._frame += b"("
                at += (step := self._some_rows(piece[at : at + RUN - done % RUN]))
                done += step
                if n == 1 or done == n or done % RUN == 0:
                    self._frame += b"a" if n == 1 else b"e"
        if done != n:
            raise ValueError(f"{n} rows expected, {done} given")

    def _some_rows(self, rows: NDArray[np.uint8]) -> int:
        """Write as many rows as fit into this frame, at least one; return how many."""
        m = rows.shape[1]
        each = 2 + 2 * m + (2 if m > 1 else m)
        room = (FRAME_TARGET - len(self._frame) - 1) // each
        if room < 1:
            self.row(rows[0].tobytes())
            return 1
        rows = rows[:room]
        out = np.empty((len(rows), each), np.uint8)
        out[:, 0], out[:, 1] = ord("]"), 0x94  # EMPTY_LIST, MEMOIZE
        if m:
            first = 2
            if m > 1:
                out[:, 2] = ord("(")
                first = 3
            out[:, first : first + 2 * m : 2] = ord("K")
            out[:, first + 1 : first + 2 * m : 2] = rows
            out[:, -1] = ord("e" if m > 1 else "a")
        self._frame += out.tobytes()
        self._nmemo += len(rows)
        return len(rows)

    def finish(self) -> None:
        """Write the end of the pickle."""
        self._frame += b"."
        self._commit()
