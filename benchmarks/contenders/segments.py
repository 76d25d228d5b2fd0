"""What segments are compared with: the original's way, and libraries where they are installed."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from comparison.rounds import Case, seconds


class Original:
    """The original's way: every row becomes objects when the file is opened."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        places = struct.unpack_from("<12I", self.data)[2:]
        (lut, _), (iids, _), _, _, (segs, _) = zip(places[::2], places[1::2], strict=True)
        self.rows = []
        for key in range(places[1] // 20):
            _, name, _, seg, nbytes = struct.unpack_from("<5I", self.data, lut + 20 * key)
            _, nd, ni = struct.unpack_from("<3I", self.data, iids + name)
            begin = iids + name + 12
            domain = self.data[begin : begin + nd]
            address = self.data[begin + nd : begin + nd + ni]
            self.rows.append((key, domain, address, segs + seg, nbytes))

    def mask(self, key: int) -> np.ndarray:
        """As the original decodes one."""
        *_, at, nbytes = self.rows[key]
        r, c, r2, c2 = struct.unpack_from("<4H", self.data, at + 4)
        out = np.zeros((r2 - r, c2 - c), bool)
        end, at = at + nbytes, at + 16
        while at < end:
            length, a, b, d, e = struct.unpack_from("<I4H", self.data, at)
            bits = np.frombuffer(self.data, np.uint8, length - 12, at + 12)
            part = np.unpackbits(bits, count=(d - a) * (e - b)).reshape(d - a, e - b)
            out[a - r : d - r, b - c : e - c] |= part.view(bool)
            at += length
        return out


def library(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def timed(name: str, work: Callable[[], object]) -> Case:
    """A case that is one call."""
    return each(name, work, 1)


def each(name: str, work: Callable[[], object], n: float) -> Case:
    """A case whose call does n things."""
    return Case(name, lambda: seconds(work) / n)


def same(one: Any, other: Any, what: str) -> None:
    """Nobody is timed who gives another answer."""
    if one != other:
        raise AssertionError(f"{what} differ")
