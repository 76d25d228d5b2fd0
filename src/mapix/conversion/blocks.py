"""Blocks of a stream, whose pixels are read by any ``map``, and stored, so that work can go on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mapix import _native
from mapix.conversion.stream import block_edges
from mapix.errors import UnsupportedError
from mapix.plans import Map, Piece, mapped
from mapix.source import read_small
from mapix.store import NewWhole

__all__ = ["Arrays", "Blocks", "StoredBlocks", "check_storable", "run_by"]

MANIFEST = "manifest.json"
CRC_NBYTES = 4
MOST_NBYTES = 1 << 32  # of a stored block
AHEAD = 32  # blocks that wait in memory, of a map whose workers are not known
PATIENCE = 60.0  # seconds, until another worker has stored the same block

Arrays = list[Any]
"""What is read of the records of a block: arrays, and None for an array that there is not."""


class Blocks:
    """``Stream.blocks`` of a dataset, or the blocks of what is written without a stream.

    Parameters
    ----------
    ds : Dataset
        The records.
    largest : int or sequence of (int, int)
        Bytes of the largest record; or begin and end of each block, where sizes differ much.
    read : callable
        ``read(part, c_order)`` returns arrays of all records of a part of the dataset: what costs
        time.  A function of a module, or a ``functools.partial`` of one.
    block : callable
        ``block(rows, arrays, c_order)`` makes a block of them; ``rows`` count in ``ds``.

    Attributes
    ----------
    map : callable, int or None
        What runs ``read``: see ``mapix.plans.Map``.
    stored : StoredBlocks or None
        Where its results are stored.
    """

    def __init__(
        self,
        ds: Any,
        largest: int | Sequence[tuple[int, int]],
        read: Callable[[Any, bool], Arrays],
        block: Callable[[NDArray[np.int64], Arrays, bool], Any],
    ) -> None:
        self.ds, self.largest, self.read, self.block = ds, largest, read, block
        self.map: Map | None = None
        self.stored: StoredBlocks | None = None

    def __call__(self, c_order: bool = False) -> Iterator[Any]:
        """Yield the blocks of all records."""
        largest = self.largest
        edges = list(block_edges(len(self.ds), largest)) if isinstance(largest, int) else largest
        read: Iterator[Arrays]
        if self.map is None and self.stored is None:
            read = (self.read(self.ds[a:b], c_order) for a, b in edges)
        else:
            read = self._read(edges, c_order)
        for (begin, end), arrays in zip(edges, read, strict=True):
            yield self.block(np.arange(begin, end, dtype=np.int64), arrays, c_order)

    def _read(self, edges: Sequence[tuple[int, int]], c_order: bool) -> Iterator[Arrays]:
        pieces = (Piece(whole, rows) for whole, rows in self.ds._cut_at(edges))
        task = partial(_read, self.read, c_order)
        ahead = 4 * self.map if isinstance(self.map, int) else AHEAD
        if self.stored is None:
            yield from mapped(self.map, task, pieces, ahead=ahead)
            return
        places = [self.stored.place(k, c_order) for k in range(len(edges))]
        known = [_load(place) is not None for place in places]
        items = zip(places, pieces, strict=True)
        missing = (item for item, there in zip(items, known, strict=True) if not there)
        made = mapped(self.map, partial(_store, task), missing, ahead=ahead)
        for place, there in zip(places, known, strict=True):
            if not there:
                next(made)
            found = _load(place)
            if found is None:
                raise OSError(f"{place}: this part was stored, and cannot be read")
            yield found


def _read(read: Callable[[Any, bool], Arrays], c_order: bool, piece: Piece) -> Arrays:
    return read(piece.part, c_order)


def check_storable(streams: Iterable[Any], path: str) -> None:
    """Raise UnsupportedError if streams, or what else writes ``path``, have no ``Blocks``."""
    if not all(isinstance(getattr(stream, "blocks", None), Blocks) for stream in streams):
        raise UnsupportedError(f"{path}: this conversion has no blocks that could be stored")


def run_by(streams: Mapping[str, Any], map: Map | None, stored: StoredBlocks | None) -> None:
    """Let a ``map`` read the blocks of streams, and store them under the names of the streams."""
    for name, stream in streams.items():
        blocks = getattr(stream, "blocks", None)
        if isinstance(blocks, Blocks):
            blocks.map = map
            blocks.stored = None if stored is None else stored.of(name)


# --- stored parts ---------------------------------------------------------------------------------


class StoredBlocks:
    """A folder of blocks that were read, for a conversion that was stopped and goes on.

    Each block is a file that appears when it is complete.  ``manifest.json`` states what they were
    read from.

    Parameters
    ----------
    folder : str
        The folder, which is made.
    splits : mapping of str to Dataset
        What is converted.
    options : mapping
        With which it is read.

    Raises
    ------
    ValueError
        The folder has parts of another conversion, or other files.
    """

    def __init__(self, folder: str, splits: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self.folder, self.split = folder, ""
        os.makedirs(folder, exist_ok=True)
        source = {name: _identity(ds) for name, ds in splits.items()}
        text = json.dumps({"source": source, "options": repr(sorted(options.items()))}, indent=1)
        place = os.path.join(folder, MANIFEST)
        try:
            known = read_small(place, MOST_NBYTES).decode(errors="replace")
        except FileNotFoundError:
            if any(not name.startswith(".") for name in os.listdir(folder)):
                raise ValueError(
                    f"{folder}: it has other files than parts of a conversion"
                ) from None
            with NewWhole(place) as out:
                out.write(text.encode())
        else:
            if known != text:
                raise ValueError(
                    f"{folder}: it has parts of another source, or read with other options; "
                    "remove it, or pass another folder"
                )

    def of(self, split: str) -> StoredBlocks:
        """Return the same folder for the blocks of a split."""
        made = StoredBlocks.__new__(StoredBlocks)
        made.folder, made.split = self.folder, split
        return made

    def place(self, k: int, c_order: bool) -> str:
        """Return the path of a block."""
        order = "c" if c_order else "any"
        return os.path.join(self.folder, f"{self.split}-{k:08}-{order}.part")

    def remove(self) -> None:
        """Remove all parts, and the folder if nothing else is in it."""
        names = os.listdir(self.folder)
        for name in sorted(names, key=lambda name: name == MANIFEST):  # the manifest last
            if name == MANIFEST or name.endswith((".part", ".writing")):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, name))
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)


def _identity(ds: Any) -> Any:
    """Return what identifies records by content: as JSON, the same on any machine."""
    rows = None
    if ds._rows is not None:
        rows = hashlib.sha256(np.asarray(ds._rows, np.int64).tobytes()).hexdigest()
    try:
        path, options, expect = ds._reopening()
    except UnsupportedError:
        return {"files": [_identity(part) for part in ds.parts], "rows": rows}
    content = None if expect is None else [expect.size, expect.mtime_ns, expect.sample]
    stated = repr(sorted(options.items()))
    return {"path": path, "options": stated, "content": content, "n": len(ds), "rows": rows}


def _store(task: Callable[[Piece], Arrays], item: tuple[str, Piece]) -> None:
    """Read a block, and store it; nothing is done if another worker has stored it."""
    place, piece = item
    raw = io.BytesIO()
    arrays = task(piece)
    np.save(raw, np.array([array is not None for array in arrays], np.bool_))
    for array in arrays:
        if array is not None:
            np.save(raw, array, allow_pickle=False)
    data = raw.getbuffer()
    try:
        with NewWhole(place, replace=os.path.exists(place), patience=PATIENCE) as out:
            out.write(data)
            out.write(_native.crc32c(data).to_bytes(CRC_NBYTES, "little"))
    except FileExistsError:
        return


def _load(place: str) -> Arrays | None:
    """Return a stored block; None if it is not there, or damaged."""
    try:
        raw = read_small(place, MOST_NBYTES)
    except FileNotFoundError:
        return None
    data = memoryview(raw)[:-CRC_NBYTES]
    if not len(data) or _native.crc32c(data) != int.from_bytes(raw[-CRC_NBYTES:], "little"):
        return None
    file = io.BytesIO(data)
    try:
        there = _array(file)
        if there.dtype != np.bool_ or there.ndim != 1:
            return None
        return [_array(file) if known else None for known in there.tolist()]
    except (ValueError, SyntaxError, TokenError, OverflowError):
        return None


def _array(file: io.BytesIO) -> NDArray[Any]:
    """Return the next array as ``np.save`` writes it: a view of the bytes, so of no more of them.

    ``np.load`` takes memory for the shape that is stated before it reads.
    """
    npy.read_magic(file)
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    raw = np.frombuffer(file.getbuffer(), dtype, math.prod(shape), file.tell())
    file.seek(raw.nbytes, os.SEEK_CUR)
    return raw.reshape(shape, order="F" if fortran else "C")
