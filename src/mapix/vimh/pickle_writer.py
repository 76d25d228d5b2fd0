"""Writing a binary split as the pickle that the original makes of the same records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.source import Source
from mapix.vimh import layout
from mapix.vimh.pickles.emitter import Emitter
from mapix.vimh.record_index import RecordIndex

__all__ = ["write_batch"]

BLOCK_NBYTES = 4 << 20
HEAD = 14


def write_batch(path: str, write: Callable[[Any], object], shape: tuple[int, int, int]) -> None:
    """Pickle (protocol 4) the records of a file with 14-byte headers, all of one shape.

    Parameters
    ----------
    path : str
        The binary file; no other process may write to it.
    write : callable
        ``write(bytes)``.
    shape : (h, w, c)
        Shape of the images, for files without records.

    Notes
    -----
    Copies: the records in blocks.  Memory: one block.
    """
    source = Source(path)
    index = layout.walk(source, HEAD).index
    if index.nrecords:
        shape = tuple(int(d) for d in index.shapes()[0])  # type: ignore[assignment]
    n, (h, w, c) = index.nrecords, shape
    pixels = h * w * c

    def blocks() -> Iterator[NDArray[np.uint8]]:
        return _blocks(source, index, pixels)

    emitter = Emitter(write)
    emitter.begin_dict()
    emitter.text("data")
    emitter.array("u1", (n, pixels), (b[:, b.shape[1] - pixels :].tobytes() for b in blocks()))
    emitter.text("vimh_labels")
    # a row: the bytes between header and image: N, id, code, id, code, ...
    emitter.rows((b[:, HEAD : b.shape[1] - pixels] for b in blocks()), n)
    emitter.text("scale_factors")
    emitter.array("f4", (n, 2), (b[:, 6:HEAD].tobytes() for b in blocks()))
    for name, value in (("height", h), ("width", w), ("channels", c), ("image_size", pixels)):
        emitter.text(name)
        emitter.number(value)
    emitter.end_dict()
    emitter.finish()
    source.close()


def _blocks(source: Source, index: RecordIndex, pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Yield complete records in blocks of one size, uint8 (k, size), copied under the guard."""
    counts, offsets = index.label_counts(), index.offsets()
    edges = [0, *(np.flatnonzero(np.diff(counts)) + 1).tolist(), len(counts)]
    for first, end in itertools.pairwise(edges):
        if end == first:
            continue
        size = HEAD + 1 + 2 * int(counts[first]) + pixels
        step = max(1, BLOCK_NBYTES // size)
        for at in range(first, end, step):
            k = min(step, end - at)
            raw = _native.copy(source.mapping, int(offsets[at]), k * size, layout.NAME)
            yield np.frombuffer(raw, np.uint8).reshape(k, size)
