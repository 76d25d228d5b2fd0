"""What all contenders have in common: the one small interface that they are compared through."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_files import FOLDER, mapped

HEADER = struct.Struct("<HHH8xB")  # height, width, channels, (spec_min, spec_max,) labels
Bytes = NDArray[np.uint8]
Pair = tuple[Bytes, Bytes]


class Alike(NamedTuple):
    """What the records of a uniform file have in common."""

    n: int
    h: int
    w: int
    c: int
    nlabels: int
    stride: int

    @property
    def skip(self) -> int:
        """Bytes before the pixels."""
        return HEADER.size + 2 * self.nlabels


def kind_of(source: Path) -> str:
    """``"uniform"`` or ``"mixed"``, told by the name of the data file."""
    return "mixed" if source.name.startswith("mixed") else "uniform"


def alike(source: Path) -> Alike:
    """The layout of a uniform file, from its first record and its size."""
    with open(source, "rb") as f:
        h, w, c, nlabels = HEADER.unpack(f.read(HEADER.size))
    stride = HEADER.size + 2 * nlabels + h * w * c
    return Alike(source.stat().st_size // stride, h, w, c, nlabels, stride)


def records(source: Path) -> Iterator[tuple[bytes, int, int, int, int]]:
    """All records of a VIMH file: bytes of the whole record, h, w, c, number of labels."""
    with mapped(source) as m:
        at = 0
        while at < len(m):
            h, w, c, n = HEADER.unpack_from(m, at)
            size = HEADER.size + 2 * n + h * w * c
            yield m[at : at + size], h, w, c, n
            at += size


def views(data: Any, at: int = 0) -> Pair:
    """Image (c, h, w) and label codes of the record at byte ``at``, as views."""
    h, w, c, n = HEADER.unpack_from(data, at)
    at += HEADER.size
    image = np.ndarray((c, h, w), np.uint8, data, at + 2 * n)
    return image, np.ndarray((n,), np.uint8, data, at + 1 if n else 0, (2,))


class Contender:
    """One way to keep and read the records of a VIMH file.

    Making one opens its store.  Images are (c, h, w), the order of the file, where ``PLANAR``, and
    (h, w, c) otherwise; the benchmarks take what is cheapest for the contender.

    Attributes
    ----------
    NAME : str
        As the tables call it.
    KINDS : tuple of str
        Kinds of files that it can hold.
    MODULES : tuple of str
        What must be importable.
    SUFFIX : str
        Of its own store; empty where it reads the VIMH file itself.
    """

    NAME: ClassVar[str] = ""
    KINDS: ClassVar[tuple[str, ...]] = ("uniform", "mixed")
    MODULES: ClassVar[tuple[str, ...]] = ()
    SUFFIX: ClassVar[str] = ""
    PLANAR: ClassVar[bool] = True

    def __init__(self, source: Path) -> None:
        self.kind = kind_of(source)
        self.path = self.prepared(source)
        if self.kind == "uniform":
            self.alike = alike(source)

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot take part; None if it can."""
        for name in cls.MODULES:
            try:
                importlib.import_module(name)
            except Exception as e:  # whatever an import does, the others go on
                return f"import {name}: {type(e).__name__}: {e}"
        return None

    @classmethod
    def prepared(cls, source: Path) -> Path:
        """Its own store of the records of ``source``: made on first use, then kept."""
        if not cls.SUFFIX:
            return source
        folder = FOLDER / "stores"
        folder.mkdir(parents=True, exist_ok=True)
        store = folder / f"{source.stem}-{source.stat().st_size}{cls.SUFFIX}"
        if not store.exists():
            part = store.with_name(f"part-{store.name}")
            cls.write(source, part)
            part.rename(store)
        return store

    @classmethod
    def write(cls, source: Path, store: Path) -> None:
        """Copy the records of ``source`` into a new store."""
        raise NotImplementedError

    def getter(self) -> Callable[[int], Pair]:
        """The fastest function from a record number to its image and its label codes."""
        raise NotImplementedError

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Bytes, Any]:
        """Images (b, c, h, w) and labels (b, N) of a uniform file; of a mixed one, the bytes of
        all images back to back and a list of labels."""
        get = self.getter()
        if self.kind == "mixed":
            pairs = [get(i) for i in rows]
            return np.concatenate([image.ravel() for image, _ in pairs]), [k for _, k in pairs]
        a = self.alike
        images = np.empty((len(rows), a.c, a.h, a.w), np.uint8)
        labels = np.empty((len(rows), a.nlabels), np.uint8)
        for k, i in enumerate(rows):
            images[k], labels[k] = get(i)
        return images, labels

    def close(self) -> None:
        """Let go of everything."""
