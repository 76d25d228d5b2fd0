"""How a picture of one size gets onto a canvas of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mapix.folder.decoding import MODES, as_array, pillow, plain

__all__ = ["FITS", "Fit", "Fitted"]

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
    """

    pixels: NDArray[Any]
    corner: tuple[int, int]
    place: tuple[float, float, float, float]
    shape: tuple[int, int, int]


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
        """A decoded picture, which was ``full`` (h, w) before it was decoded smaller."""
        if self.mode is not None and picture.mode != self.mode:
            picture = picture.convert(self.mode)
        picture = plain(picture)
        h, w = full
        if self.fit in SCALING and self.size is not None:
            return self._scaled(picture, h, w, *self.size)
        pixels = as_array(picture)
        shape = (h, w, pixels.shape[2])
        top = left = 0
        if self.size is not None:
            self._check(h, w, *self.size, name)
            if self.fit == "crop":
                top, left = (h - self.size[0]) // 2, (w - self.size[1]) // 2
                pixels = pixels[top : top + self.size[0], left : left + self.size[1]]
        return Fitted(pixels, (0, 0), (1.0, 1.0, float(-left), float(-top)), shape)

    def _check(self, h: int, w: int, to_h: int, to_w: int, name: str) -> None:
        other = f"{name}: {h} x {w} pixels"
        ways = "fit= resize, letterbox or cover scale"
        if self.fit == "exact" and (h, w) != (to_h, to_w):
            raise ValueError(f"{other}, size= is {to_h} x {to_w}; {ways}, pad and crop do not")
        if self.fit == "pad" and (h > to_h or w > to_w):
            raise ValueError(f"{other} do not fit into {to_h} x {to_w} by fit='pad'; {ways}")
        if self.fit == "crop" and (h < to_h or w < to_w):
            raise ValueError(f"{other} do not cover {to_h} x {to_w} by fit='crop'; {ways}")

    def _scaled(self, picture: Any, h: int, w: int, to_h: int, to_w: int) -> Fitted:
        if picture.mode not in MODES:  # deep pictures: Pillow scales floats
            picture = picture.convert("F")
        new, corner, box = (to_h, to_w), (0, 0), (0.0, 0.0, float(w), float(h))
        place = (to_w / w, to_h / h, 0.0, 0.0)
        if self.fit == "letterbox":
            s = min(place[:2])
            new = (max(1, min(to_h, round(s * h))), max(1, min(to_w, round(s * w))))
            corner = ((to_h - new[0]) // 2, (to_w - new[1]) // 2)
            place = (new[1] / w, new[0] / h, float(corner[1]), float(corner[0]))
        elif self.fit == "cover":
            s = max(place[:2])
            box_h, box_w = min(to_h / s, h), min(to_w / s, w)
            left, top = (w - box_w) / 2, (h - box_h) / 2
            box = (left, top, left + box_w, top + box_h)
            place = (s, s, -left * s, -top * s)
        fx, fy = picture.width / w, picture.height / h  # below 1 where it was decoded smaller
        if box != (0.0, 0.0, float(new[1]), float(new[0])) or (fx, fy) != (1.0, 1.0):
            part = (box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy)
            how = pillow().Resampling[self.resample.upper()]
            picture = picture.resize((new[1], new[0]), how, box=part)
        pixels = as_array(picture)
        return Fitted(pixels, corner, place, (h, w, pixels.shape[2]))
