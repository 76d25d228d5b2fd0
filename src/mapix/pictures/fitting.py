"""Fit pictures of any size onto canvases of one size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix.options import MOST_SIDE
from mapix.pictures.decoding import MODES, EncodedPicture, as_array, decode, pillow, plain
from mapix.pictures.depth import eight_bits, scaled_channels

__all__ = ["FITS", "Fit", "Fitted", "Placing", "picture_size", "without_range"]

FITS = ("exact", "resize", "letterbox", "cover", "pad", "crop")
SCALING = ("resize", "letterbox", "cover")
SIZED = (*SCALING, "crop")
RESAMPLES = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A picture and its place on a canvas.

    Attributes
    ----------
    pixels : ndarray
        (h, w, c), not larger than the canvas.
    corner : tuple of int
        Row and column of the canvas where the pixels begin.
    place : tuple of float
        sx, sy, dx, dy: a point x, y of the picture is at ``x * sx + dx, y * sy + dy`` of the
        canvas.
    shape : tuple of int
        h, w, c of the picture in the file.
    dtype : dtype
        Type of the picture in the file.  Scaled numbers that are not bytes are float32.
    name : str
        Name of the picture.
    """

    pixels: NDArray[Any]
    corner: tuple[int, int]
    place: tuple[float, float, float, float]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    name: str

    def cut(self, h: int, w: int, *, centre: bool) -> Fitted:
        """Return a picture that was not scaled, cut to at most h x w."""
        rows, columns = self.pixels.shape[:2]
        top = (rows - h) // 2 if centre and rows > h else 0
        left = (columns - w) // 2 if centre and columns > w else 0
        place = (1.0, 1.0, float(-left), float(-top))
        return replace(self, pixels=self.pixels[top : top + h, left : left + w], place=place)


class Placing(NamedTuple):
    """Where a picture of a size gets to.

    Attributes
    ----------
    new : tuple of int
        h, w on the canvas.
    corner : tuple of int
        Row and column of the canvas where the picture begins.
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
    """The rule that makes pictures alike: see ``PictureDataset.batch``.

    Attributes
    ----------
    size, fit, mode, resample, draft
        As for ``batch``.
    crop : {"", "centre", "corner"}
        Where ``fit="crop"`` cuts from, "" being the centre; then ``size`` may be None, for the
        smallest h and w of the batch.  With ``fit="pad"`` what exceeds ``size`` is cut, too.
    """

    size: tuple[int, int] | None
    fit: str
    mode: str | None
    resample: str
    draft: bool
    crop: str = ""

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, got {self.fit!r}")
        if self.mode is not None and self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.resample not in RESAMPLES:
            known = ", ".join(RESAMPLES)
            raise ValueError(f"resample must be one of {known}, got {self.resample!r}")
        if self.size is None and self.fit in SIZED and not self.crop:
            raise ValueError(f"fit={self.fit!r} needs size=(h, w)")

    @property
    def smallest(self) -> tuple[int, int] | None:
        """The size that a JPEG must not be decoded below; None: decode it at its own size."""
        return self.size if self.draft and self.fit in SCALING else None

    def fitted(self, file: EncodedPicture) -> Fitted:
        """Decode a picture, and fit it."""
        return self.put(*decode(file, self.smallest, True), file.name)

    def put(self, picture: Any, full: tuple[int, int], name: str) -> Fitted:
        """Fit a decoded picture.

        Parameters
        ----------
        picture : PIL.Image.Image or ndarray
            An array (h, w, c) holds numbers deeper than 8 bits.  ``mode`` makes 8 bits of 16:
            number / 257, rounded.
        full : tuple of int
            (h, w) of the picture in the file, which may have been decoded at a smaller size.
        name : str
            For errors.

        Raises
        ------
        ValueError
            The picture does not fit, or ``mode`` has no rule for its numbers.
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
        return Fitted(pixels, placing.corner, placing.place, shape, dtype, name)

    def placing(self, h: int, w: int, name: str) -> Placing:
        """Return where a picture of h x w pixels gets to.

        Raises
        ------
        ValueError
            It does not fit.
        """
        box = (0.0, 0.0, float(w), float(h))
        if self.size is None:
            return Placing((h, w), (0, 0), box, (1.0, 1.0, 0.0, 0.0))
        to_h, to_w = self.size
        if self.fit not in SCALING:
            self._check(h, w, to_h, to_w, name)
            new = (min(h, to_h), min(w, to_w))
            top, left = (0, 0) if self.crop == "corner" else ((h - new[0]) // 2, (w - new[1]) // 2)
            part = (float(left), float(top), float(left + new[1]), float(top + new[0]))
            return Placing(new, (0, 0), part, (1.0, 1.0, float(-left), float(-top)))
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
        what, size = f"{name}: {h} x {w} pixels", f"{to_h} x {to_w}"
        ways = "fit= resize, letterbox or cover scale"
        if self.fit == "exact" and (h, w) != (to_h, to_w):
            raise ValueError(f"{what}, size= is {size}; {ways}, pad and crop do not")
        if self.fit == "pad" and not self.crop and (h > to_h or w > to_w):
            raise ValueError(f"{what} do not fit into {size} by fit='pad'; {ways}, crop=True cuts")
        if self.fit == "crop" and (h < to_h or w < to_w):
            raise ValueError(f"{what} do not cover {size} by fit='crop'; {ways}")

    def _scaled(self, picture: Any, h: int, w: int, placing: Placing) -> NDArray[Any]:
        deep = isinstance(picture, np.ndarray)
        size = picture.shape[:2] if deep else (picture.height, picture.width)
        fy, fx = size[0] / h, size[1] / w  # below 1 if it was decoded at a smaller size
        new, box = placing.new, placing.box
        if box == (0.0, 0.0, float(new[1]), float(new[0])) and (fx, fy) == (1.0, 1.0):
            return picture if deep else as_array(picture)
        part = (box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy)
        how = pillow().Resampling[self.resample.upper()]
        if deep:
            return scaled_channels(picture, new, how, part)
        return as_array(picture.resize((new[1], new[0]), how, box=part))


def without_range(name: str, dtype: np.dtype[Any]) -> str:
    """Return why ``mode`` is refused for a picture."""
    return (
        f"{name}: numbers of {dtype} have no range by which mode= could make 8 bits of them; "
        "leave mode= out, and pass dtype='float32' or a type that holds them"
    )


def _eight_bits(array: NDArray[Any], name: str) -> Any:
    """Return a deep picture as Pillow's.

    Raises
    ------
    ValueError
        The range of its numbers is not known.
    """
    if array.dtype != np.uint16:
        raise ValueError(without_range(name, array.dtype))
    found = eight_bits(array)
    return pillow().fromarray(
        np.ascontiguousarray(found[:, :, 0] if found.shape[2] == 1 else found)
    )


def picture_size(size: Any) -> tuple[int, int] | None:
    """Return ``size`` as a tuple.

    Raises
    ------
    ValueError
        It is not None or two sides.
    """
    if size is None:
        return None
    found = tuple(size) if isinstance(size, tuple | list) else ()
    if len(found) != 2 or not all(isinstance(n, int) and 0 < n <= MOST_SIDE for n in found):
        raise ValueError(f"size must be (h, w), each 1..{MOST_SIDE}, got {size!r}")
    return found
