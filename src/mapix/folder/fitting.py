"""How a picture of one size gets onto a canvas of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix.folder.decoding import MODES, as_array, pillow, plain
from mapix.folder.depth import eight_bits, scaled_channels

__all__ = ["FITS", "Fit", "Fitted", "Placing", "without_range"]

FITS = ("exact", "resize", "letterbox", "cover", "pad", "crop")
SCALING = ("resize", "letterbox", "cover")
SIZED = (*SCALING, "crop")
RESAMPLES = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
MOST_SIDE = 65535


@dataclass(frozen=True, slots=True)
class Fitted:
    """A picture on its canvas.

    Attributes
    ----------
    pixels : ndarray
        (h, w, c), not larger than the canvas.
    corner : tuple of int
        Row and column of the canvas where it begins.
    place : tuple of float
        sx, sy, dx, dy: a point of the picture is at ``x * sx + dx, y * sy + dy`` of the canvas.
    shape : tuple of int
        h, w, c of the picture before.
    dtype : dtype
        Of the picture before: scaled numbers that are no bytes are float32.
    """

    pixels: NDArray[Any]
    corner: tuple[int, int]
    place: tuple[float, float, float, float]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]


class Placing(NamedTuple):
    """Where a picture of a size gets to.

    Attributes
    ----------
    new : tuple of int
        h, w that it has on the canvas.
    corner : tuple of int
        Row and column of the canvas where it begins.
    box : tuple of float
        Left, top, right, bottom of the part of the picture that is used.
    place : tuple of float
        As ``Fitted.place``.
    """

    new: tuple[int, int]
    corner: tuple[int, int]
    box: tuple[float, float, float, float]
    place: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Fit:
    """Policy of a batch: see ``ImageFolder.batch``."""

    size: tuple[int, int] | None
    fit: str
    mode: str | None
    resample: str
    draft: bool

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, got {self.fit!r}")
        if self.mode is not None and self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.resample not in RESAMPLES:
            known = ", ".join(RESAMPLES)
            raise ValueError(f"resample must be one of {known}, got {self.resample!r}")
        if self.size is None and self.fit in SIZED:
            raise ValueError(f"fit={self.fit!r} needs size=(h, w)")

    @property
    def smallest(self) -> tuple[int, int] | None:
        """What a JPEG may be decoded down to."""
        return self.size if self.draft and self.fit in SCALING else None

    def put(self, picture: Any, full: tuple[int, int], name: str) -> Fitted:
        """A decoded picture, which was ``full`` (h, w) before it was decoded smaller.

        Parameters
        ----------
        picture : PIL.Image.Image or ndarray
            An array (h, w, c) of numbers deeper than 8 bits.  ``mode`` makes 8 bits of 16: number /
            257, rounded.
        full : tuple of int
            Its (h, w).
        name : str
            For errors.

        Raises
        ------
        ValueError
            It does not fit, or ``mode`` has no rule for its numbers.
        """
        if isinstance(picture, np.ndarray) and self.mode is not None:
            picture = _eight_bits(picture, name)
        if self.mode is not None and picture.mode != self.mode:
            picture = picture.convert(self.mode)
        placing = self.placing(*full, name)
        deep = isinstance(picture, np.ndarray)
        dtype = picture.dtype if deep else np.dtype(np.uint8)
        h, w = full
        if self.fit in SCALING:
            pixels = self._scaled(picture if deep else plain(picture), h, w, placing)
        else:
            pixels = picture if deep else as_array(picture)
            left, top, right, bottom = (int(x) for x in placing.box)
            pixels = pixels[top:bottom, left:right]
        shape = (h, w, pixels.shape[2])
        return Fitted(pixels, placing.corner, placing.place, shape, dtype)

    def placing(self, h: int, w: int, name: str) -> Placing:
        """Where a picture of h x w pixels gets to; ValueError if it does not fit."""
        box = (0.0, 0.0, float(w), float(h))
        if self.size is None:
            return Placing((h, w), (0, 0), box, (1.0, 1.0, 0.0, 0.0))
        to_h, to_w = self.size
        if self.fit not in SCALING:
            self._check(h, w, to_h, to_w, name)
            if self.fit == "crop":
                top, left = (h - to_h) // 2, (w - to_w) // 2
                part = (float(left), float(top), float(left + to_w), float(top + to_h))
                return Placing(self.size, (0, 0), part, (1.0, 1.0, float(-left), float(-top)))
            return Placing((h, w), (0, 0), box, (1.0, 1.0, 0.0, 0.0))
        new, corner, place = (to_h, to_w), (0, 0), (to_w / w, to_h / h, 0.0, 0.0)
        if self.fit == "letterbox":
            s = min(place[:2])
            new = (max(1, min(to_h, round(s * h))), max(1, min(to_w, round(s * w))))
            corner = ((to_h - new[0]) // 2, (to_w - new[1]) // 2)
            place = (new[1] / w, new[0] / h, float(corner[1]), float(corner[0]))
        elif self.fit == "cover":
            s = max(place[:2])
            box_h, box_w = min(to_h / s, h), min(to_w / s, w)
            left_, top_ = (w - box_w) / 2, (h - box_h) / 2
            box = (left_, top_, left_ + box_w, top_ + box_h)
            place = (s, s, -left_ * s, -top_ * s)
        return Placing(new, corner, box, place)

    def _check(self, h: int, w: int, to_h: int, to_w: int, name: str) -> None:
        other = f"{name}: {h} x {w} pixels"
        ways = "fit= resize, letterbox or cover scale"
        if self.fit == "exact" and (h, w) != (to_h, to_w):
            raise ValueError(f"{other}, size= is {to_h} x {to_w}; {ways}, pad and crop do not")
        if self.fit == "pad" and (h > to_h or w > to_w):
            raise ValueError(f"{other} do not fit into {to_h} x {to_w} by fit='pad'; {ways}")
        if self.fit == "crop" and (h < to_h or w < to_w):
            raise ValueError(f"{other} do not cover {to_h} x {to_w} by fit='crop'; {ways}")

    def _scaled(self, picture: Any, h: int, w: int, placing: Placing) -> NDArray[Any]:
        deep = isinstance(picture, np.ndarray)
        size = picture.shape[:2] if deep else (picture.height, picture.width)
        fy, fx = size[0] / h, size[1] / w  # below 1 where it was decoded smaller
        new, box = placing.new, placing.box
        if box == (0.0, 0.0, float(new[1]), float(new[0])) and (fx, fy) == (1.0, 1.0):
            return picture if deep else as_array(picture)
        part = (box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy)
        how = pillow().Resampling[self.resample.upper()]
        if deep:
            return scaled_channels(picture, new, how, part)
        return as_array(picture.resize((new[1], new[0]), how, box=part))


def without_range(name: str, dtype: np.dtype[Any]) -> str:
    """Why ``mode`` is refused for a picture."""
    return (
        f"{name}: numbers of {dtype} have no range by which mode= could make 8 bits of them; "
        "leave mode= out, and pass dtype='float32' or what holds them"
    )


def _eight_bits(array: NDArray[Any], name: str) -> Any:
    """A deep picture as Pillow's, or ValueError where nothing says what its numbers range over."""
    if array.dtype != np.uint16:
        raise ValueError(without_range(name, array.dtype))
    found = eight_bits(array)
    return pillow().fromarray(
        np.ascontiguousarray(found[:, :, 0] if found.shape[2] == 1 else found)
    )
