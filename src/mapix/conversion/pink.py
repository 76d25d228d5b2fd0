"""To a PINK data file: entries of float32, that PINK trains with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mapix.pink
from mapix.conversion.numbers import fit, within_float32
from mapix.conversion.stream import Stream, pictures
from mapix.conversion.target import Count, Target

__all__ = ["Pink"]

FLOATS = np.dtype(np.float32)


class Pink(Target):
    """One file of version 2: entries (length,), (h, w) or (channels, h, w).

    Parameters
    ----------
    header : sequence of str
        Lines of comment; by default those of the source, where it has some.
    """

    def __init__(self, *, header: Sequence[str] = ()) -> None:
        self.header = header

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        return {"comment"}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        (stream,) = streams.values()
        stream.one_shape("PINK")
        if fit(stream, FLOATS):
            return []
        within_float32(stream)
        return [f"digits of {stream.dtype}: PINK has float32"]

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        (stream,) = streams.values()
        shape = _planar_shape(stream)
        header: Any = self.header or stream.comment
        with mapix.pink.Writer(path, "data", shape, n=stream.n, header=header) as out:
            for block in stream.blocks():
                for run in block.runs:
                    out.extend(_planar(stream, run).astype(FLOATS, copy=False))
                count(len(block))


def _planar_shape(stream: Stream) -> tuple[int, ...]:
    """Pictures of one channel are (h, w), of several (channels, h, w), as in PINK's programs."""
    shape = stream.one_shape("PINK")
    if len(shape) != 3:
        return shape
    h, w, c = pictures(stream, np.empty((0, *shape))).shape[1:]
    return (h, w) if c == 1 else (c, h, w)


def _planar(stream: Stream, run: NDArray[Any]) -> NDArray[Any]:
    if run.ndim != 4:
        return run
    images = pictures(stream, run)
    return images[..., 0] if images.shape[3] == 1 else np.moveaxis(images, 3, 1)
