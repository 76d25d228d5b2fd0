"""Read models as VisualRBM does, one token after the other: the reference implementation."""

from __future__ import annotations

import re

import numpy as np

PAIRS = {
    b"RestrictedBoltzmannMachine": (b"VisibleType", b"VisibleBiases", b"HiddenBiases"),
    b"AutoEncoder": (b"OutputType", b"HiddenBiases", b"OutputBiases"),
}
FUNCTIONS = (b"Linear", b"RectifiedLinear", b"Sigmoid", b"Softmax")
ESCAPED = {b'"': b'"', b"\\": b"\\", b"/": b"/"} | {
    k.encode(): v.encode() for k, v in zip("bfnrt", "\b\f\n\r\t", strict=True)
}
NUMBER = re.compile(rb"(-?)([0-9]*)(?:\.([0-9]*)(?:[eE]([+-]?)([0-9]*))?)?")


class RefusedError(Exception):
    pass


class Tokens:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def blank(self) -> bytes:
        while self.data[self.at : self.at + 1] in (b" ", b"\t", b"\r", b"\n"):
            self.at += 1
        return self.data[self.at : self.at + 1]

    def mark(self, wanted: bytes) -> None:
        if self.blank() != wanted:
            raise RefusedError(f"{wanted!r} at {self.at}")
        self.at += 1

    def string(self) -> bytes:
        self.mark(b'"')
        found = b""
        while (c := self.data[self.at : self.at + 1]) != b'"':
            if not c:
                raise RefusedError("no end")
            self.at += 1
            if c == b"\\":
                c = ESCAPED.get(self.data[self.at : self.at + 1])
                if c is None:
                    raise RefusedError("escape")
                self.at += 1
            found += c
        self.at += 1
        return found

    def number(self) -> tuple[int, np.float32]:
        c = self.blank()
        if not c or c not in b"-0123456789":
            raise RefusedError(f"no number at {self.at}")
        match = NUMBER.match(self.data, self.at)
        self.at = match.end()
        if self.at == len(self.data):
            raise RefusedError("the text ends with a number")
        sign, whole, fraction, down, power = (g or b"" for g in match.groups())
        digits = (whole or b"0") + b"." + (fraction or b"0")
        value = float(digits + b"e" + (b"-" if down == b"-" else b"") + (power or b"0"))
        with np.errstate(over="ignore"):
            single = np.float32(-value if sign else value)
        return 0 if sign else int(whole or b"0") % 2**64, single

    def member(self, name: bytes, *, first: bool = False) -> None:
        if not first:
            self.mark(b",")
        if self.string() != name:
            raise RefusedError(f"{name!r} expected")
        self.mark(b":")

    def count(self, name: bytes, *, first: bool = False) -> int:
        self.member(name, first=first)
        return self.number()[0]

    def function(self, name: bytes) -> bytes:
        self.member(name)
        return self.string().split(b"\0")[0]

    def row(self, n: int) -> list[np.float32]:
        self.mark(b"[")
        found = []
        for k in range(n):
            if k:
                self.mark(b",")
            found.append(self.number()[1])
        self.mark(b"]")
        return found

    def rows(self, n: int, m: int) -> list[list[np.float32]]:
        self.mark(b"[")
        found = []
        for k in range(n):
            if k:
                self.mark(b",")
            found.append(self.row(m))
        self.mark(b"]")
        return found


def checked(*counts: int, functions: tuple[bytes, ...]) -> None:
    if not all(0 < c < 2**32 for c in counts) or not all(f in FUNCTIONS for f in functions):
        raise RefusedError("counts or functions")


def pair(t: Tokens, kind: bytes) -> list:
    outer, first, second = PAIRS[kind]
    v, h = t.count(b"VisibleCount"), t.count(b"HiddenCount")
    functions = t.function(outer), t.function(b"HiddenType")
    checked(v, h, functions=functions)
    found = [kind, v, h, *functions]
    for name in (first, second):
        t.member(name)
        found.append(t.row(h if name == b"HiddenBiases" else v))
    t.member(b"Weights")
    return [*found, t.rows(h, v)]


def layer(t: Tokens) -> list:
    t.mark(b"{")
    n, m = t.count(b"Inputs", first=True), t.count(b"Outputs")
    function = t.function(b"Function")
    checked(n, m, functions=(function,))
    t.member(b"Biases")
    biases = t.row(m)
    t.member(b"Weights")
    weights = t.rows(m, n)
    t.mark(b"}")
    return [n, m, function, biases, weights]


def perceptron(t: Tokens) -> list:
    t.member(b"Layers")
    t.mark(b"[")
    found: list = []
    if t.blank() == b"]":
        t.mark(b"]")
        return [b"MultilayerPerceptron"]
    while True:
        one = layer(t)
        if not found or found[-1][1] == one[0]:  # others are dropped
            found.append(one)
        if t.blank() == b"]":
            break
        t.mark(b",")
    t.mark(b"]")
    return [b"MultilayerPerceptron", *found]


def read(data: bytes) -> list | None:
    """Return the content of a text, or None if VisualRBM refuses it."""
    t = Tokens(data)
    try:
        t.mark(b"{")
        t.member(b"Type", first=True)
        kind = t.string()
        if kind in PAIRS:
            found = pair(t, kind)
        elif kind == b"MultilayerPerceptron":
            found = perceptron(t)
        else:
            return None
        t.mark(b"}")
    except RefusedError:
        return None
    return found
