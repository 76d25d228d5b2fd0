"""Read arrays of numbers in JSON text byte by byte, in integers: the reference for the C core."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np

TOKEN, COLUMNS, ROWS = 16, 17, 18
BEGIN, FIRST_ROW, NEXT_ROW, FIRST, NEXT, BEHIND, BEHIND_ROW = 0, 2, 3, 4, 5, 6, 7
END = 256
NUMBER = {
    False: re.compile(rb"(-?)([0-9]*)(?:\.([0-9]*)(?:[eE]([+-]?)([0-9]*))?)?"),
    True: re.compile(rb"(-?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?)([0-9]*))?"),
}
INFINITE = Fraction(2) ** 128 - Fraction(2) ** 103  # the middle above the largest float


def nearest(value: Fraction) -> np.float32:
    """Return the float32 nearest to a number that is not negative, ties to even."""
    if value >= INFINITE:
        return np.float32(np.inf)
    low, high = 0, 0x7F7FFFFF  # bit patterns are ordered like their values
    while low < high:
        middle = (low + high + 1) // 2
        if Fraction(float(np.uint32(middle).view(np.float32))) <= value:
            low = middle
        else:
            high = middle - 1
    below = np.uint32(low).view(np.float32)
    if low == 0x7F7FFFFF:
        return below
    above = np.uint32(low + 1).view(np.float32)
    twice = Fraction(float(below)) + Fraction(float(above))
    if 2 * value == twice:
        return below if low % 2 == 0 else above
    return below if 2 * value < twice else above


def number(text: bytes) -> np.float32:
    """Return the float32 of one number in the text."""
    sign, whole, fraction, down, power = (g or b"" for g in NUMBER[True].fullmatch(text).groups())
    digits = int(whole + fraction or b"0")
    exponent = min(int(power or b"0"), 10**5) * (-1 if down == b"-" else 1)
    scale = exponent - len(fraction)
    size = len(str(digits)) + scale
    if digits == 0 or size < -60:
        value = np.float32(0)
    elif size > 60:
        value = np.float32(np.inf)
    else:
        value = nearest(digits * Fraction(10) ** scale)
    return -value if sign else value


class StopError(Exception):
    """The end of the scan: status, byte, rows, numbers of the row, expected, got."""


class Slow:
    def __init__(self, data: bytes, at: int, depth: int, any_: bool, shape) -> None:
        self.data, self.at, self.depth, self.any = data, at, depth, any_
        self.nrows, self.ncolumns = shape
        self.row = self.column = 0
        self.values: list[list[np.float32]] = []

    def stop(self, status: int, expected: int, got: int) -> StopError:
        return StopError(status, self.at, self.row, self.column, expected, got)

    def next(self) -> int:
        while self.at < len(self.data) and self.data[self.at] in b" \t\r\n":
            self.at += 1
        return self.data[self.at] if self.at < len(self.data) else END

    def token(self, state: int, wanted: bytes) -> int:
        byte = self.next()
        if byte == END or byte not in wanted:
            raise self.stop(TOKEN, state, byte)
        return byte

    def one_row(self, state: int) -> None:
        self.token(state, b"[")
        if self.nrows is not None and self.row >= self.nrows:
            raise self.stop(ROWS, self.nrows, self.nrows + 1)
        self.at += 1
        self.column = 0
        self.values.append([])
        state = FIRST
        while True:
            byte = self.token(state, b"-0123456789]" if state == FIRST else b"-0123456789")
            if byte == ord("]"):
                break
            if self.ncolumns is not None and self.column >= self.ncolumns:
                raise self.stop(COLUMNS, self.ncolumns, self.ncolumns + 1)
            found = NUMBER[self.any].match(self.data, self.at)
            self.values[-1].append(number(found[0]))
            self.at, self.column = found.end(), self.column + 1
            if self.token(BEHIND, b",]") == ord("]"):
                break
            self.at += 1
            state = NEXT
        if self.ncolumns is None:
            self.ncolumns = self.column
        if self.column != self.ncolumns:
            raise self.stop(COLUMNS, self.ncolumns, self.column)
        self.at += 1
        self.row += 1

    def all(self) -> None:
        if self.depth == 1:
            self.one_row(BEGIN)
            return
        self.token(BEGIN, b"[")
        self.at += 1
        if self.token(FIRST_ROW, b"[]") == ord("["):
            self.one_row(FIRST_ROW)
            while self.token(BEHIND_ROW, b",]") == ord(","):
                self.at += 1
                self.one_row(NEXT_ROW)
        if self.nrows is not None and self.row != self.nrows:
            raise self.stop(ROWS, self.nrows, self.row)
        self.at += 1
