"""Netpbm files for mapix: binary PGM and PPM images, one after the other in one file."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from mapix.columns import Column
from mapix.dataset import FileDataset
from mapix.errors import FormatError, TruncatedError
from mapix.registry import Candidate, Format
from mapix.report import Report

__all__ = ["FORMAT", "Netpbm"]

# magic, width, height and largest value, with white space or comments between them
HEADER = re.compile(
    rb"P([56])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,5})\s"
)
HEADER_NBYTES = 1024  # a header with its comments; longer ones are refused
CHANNELS = {b"5": 1, b"6": 3}


class Netpbm(FileDataset[np.ndarray]):
    """Images of a Netpbm file: read-only views, (h, w) or (h, w, 3), of uint8 or big-endian u2."""

    FAMILY = "netpbm"

    def __init__(self, candidate: Candidate) -> None:
        source = candidate.source
        self._places = list(places(source))  # (byte of the pixels, shape, dtype) of each image
        if not self._places:
            raise FormatError(source.path, "netpbm", "an empty file")
        super().__init__(source, len(self._places))

    def _record(self, row: int) -> np.ndarray:
        at, shape, dtype = self._places[row]
        view = self.source.viewed(at, math.prod(shape) * dtype.itemsize)
        return np.ndarray(shape, dtype, view, at)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of each image where all are alike."""
        shapes = {shape for _, shape, _ in self._places}
        return shapes.pop() if len(shapes) == 1 else None

    def _column_names(self) -> tuple[str, ...]:
        return "height", "width"

    def _column(self, name: str) -> Column:
        k = self._column_names().index(name)
        sides = [self._places[row][1][k] for row in self.rows.tolist()]
        return Column(name, np.array(sides, np.int64), unit="pixels")

    def verify(self, progress: Any = None) -> Report:
        """Report what opening checked: every header, and that the images fill the file."""
        return Report(self.path, len(self), self.source.nbytes, checked=["headers", "sizes"])


def places(source: Any) -> Any:
    """Yield where each image lies: byte of its pixels, shape, dtype."""
    at, nbytes = 0, source.nbytes
    while at < nbytes:
        front = source.read(at, min(HEADER_NBYTES, nbytes - at))
        header = HEADER.match(front)
        if header is None:
            raise FormatError(source.path, "netpbm", "no P5 or P6 header", at=at)
        width, height, largest = (int(number) for number in header.groups()[1:])
        if not (width and height and 0 < largest < 65536):
            reason = f"an image of {width} x {height} pixels up to {largest}"
            raise FormatError(source.path, "netpbm", reason, at=at)
        channels = CHANNELS[header[1]]
        shape = (height, width) if channels == 1 else (height, width, channels)
        dtype = np.dtype("u1" if largest < 256 else ">u2")
        begin = at + header.end()
        end = begin + height * width * channels * dtype.itemsize
        if end > nbytes:
            reason = f"an image ends at byte {end}, the file at {nbytes}"
            raise TruncatedError(source.path, "netpbm", reason, at=at)
        yield begin, shape, dtype
        at = end


FORMAT = Format(
    name="netpbm",
    title="binary Netpbm images",
    open=Netpbm,
    magic=((0, b"P5"), (0, b"P6")),
    suffixes=(".pgm", ".ppm", ".pnm"),
)
