"""Conversion of files of PINK, and to its data files: entries of float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.conversion.blocks import Arrays, Blocks
from mapix.conversion.numbers import fit, within_float32
from mapix.conversion.stream import Axes, Block, Stream, pictures
from mapix.conversion.target import Count, Progress, Target
from mapix.errors import UnsupportedError
from mapix.pink.converting import convert
from mapix.pink.file import PinkFile
from mapix.pink.writer import Writer

__all__ = ["Pink", "stream"]

DIMENSIONS: dict[int, Axes] = {2: "HW", 3: "CHW"}  # of a row
FLOATS = np.dtype(np.float32)


def stream(
    splits: Mapping[str, PinkFile],
    *,
    target: Target,
    axes: Axes | None = None,
    images: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, Stream] | Callable[[str, Progress | None], dict[str, int]]:
    """Return the stream of a file of PINK, or how version 1 of it becomes version 2.

    See ``mapix.registry.Format.source``.  Three dimensions of an entry are channels, h, w.
    """
    ((name, file),) = splits.items()
    parts: tuple[PinkFile, ...] = getattr(file, "parts", (file,))  # of files that are read as one
    first = parts[0]
    if isinstance(target, Pink) and file is first and file.version == 1:
        return lambda path, progress: _newer(file, path)
    if images:
        raise UnsupportedError(f"{file.path}: images= is for image folders")
    shape = file.batch([]).images.shape[1:]
    nbytes = math.prod(shape) * first.dtype.itemsize
    found = Stream(
        file.path,
        len(file),
        first.dtype.newbyteorder("="),
        shape,
        len(file) * math.prod(shape),
        axes or DIMENSIONS.get(len(shape)),
        Blocks(file, nbytes, _images, lambda rows, arrays, c_order: Block(arrays)),
        [],
    )
    found.comment = first.comment if {ds.comment for ds in parts} == {first.comment} else b""
    if any(ds.comment for ds in parts):
        found.besides["comment"] = "lines of comment"
    if first.kind != "data":
        found.besides["som"] = f"that the rows are of a {first.kind}, and how its neurons lie"
    return {name: found}


def _images(part: PinkFile, c_order: bool) -> Arrays:
    del c_order
    return [part.batch(np.arange(len(part))).images]


def _newer(old: PinkFile, path: str) -> dict[str, int]:
    if old._rows is not None:
        raise UnsupportedError(f"{old.path}: only a complete file of version 1 becomes version 2")
    convert(old.source.full_path, path, kind=old.kind)
    return {"train": len(old)}


class Pink(Target):
    """One file of version 2: entries (length,), (h, w) or (channels, h, w).

    Parameters
    ----------
    header : sequence of str
        Lines of comment; by default those of the source.
    """

    endings = (".bin",)

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
        with Writer(path, "data", shape, n=stream.n, header=header) as out:
            for block in stream.blocks():
                for run in block.runs:
                    out.extend(_planar(stream, run).astype(FLOATS, copy=False))
                count(len(block))


def _planar_shape(stream: Stream) -> tuple[int, ...]:
    """Return (h, w) for images of one channel, else (channels, h, w), as PINK's programs do."""
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
