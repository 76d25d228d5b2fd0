"""Fit pictures of any size onto canvases of one size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mapix._native.resize import FILTERS, resize
from mapix.limits import MOST_SIDE
from mapix.pictures.decoding import MODES, EncodedPicture, as_array, decode, pillow, plain
from mapix.pictures.depth import eight_bits, scaled_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FITS", "Fit", "Fitted", "Placing", "Scaling", "picture_size", "without_range"]

FITS = ("exact", "resize", "letterbox", "cover", "pad", "crop")
SCALING = ("resize", "letterbox", "cover")
SIZED = (*SCALING, "crop")
RESAMPLES = ("nearest", *FILTERS)


class Scaling(NamedTuple):
    """A change of size that the compiled core still has to make.

    Attributes
    ----------
    box : tuple of float
        Left, top, right, bottom of the part that is used, in pixels.
    new : tuple of int
        h, w that it becomes.
    resample : str
        The filter.
    """

    box: tuple[float, float, float, float]
    new: tuple[int, int]
    resample: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """A picture and its place on a canvas.

    Attributes
    ----------
    pixels : ndarray
        (h, w, c), not larger than the canvas unless they have to be scaled.
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
    scaling : Scaling, optional
        How ``pixels``, uint8, have still to be scaled.
    """

    pixels: NDArray[Any]
    corner: tuple[int, int]
    place: tuple[float, float, float, float]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    name: str
    scaling: Scaling | None = None

    def scaled(self) -> Fitted:
        """Return the picture with pixels that are scaled."""
        if self.scaling is None:
            return self
        pixels = np.empty((*self.scaling.new, self.pixels.shape[2]), np.uint8)
        resize(self.pixels, self.scaling.box, self.scaling.resample, pixels)
        return replace(self, pixels=pixels, scaling=None)

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
        return self.decoded(file).scaled()

    def decoded(self, file: EncodedPicture) -> Fitted:
        """Decode a picture, and find its place; it may still have to be scaled.

        Raises
        ------
        ValueError
            The picture does not fit, or ``mode`` has no rule for its numbers.
        """
        picture, full = decode(file, self.smallest, arrays=True)
        picture = self._in_mode(picture, file.name)
        placing = self.placing(*full, file.name)
        dtype = picture.dtype if isinstance(picture, np.ndarray) else np.dtype(np.uint8)
        scaling = None
        if self.fit in SCALING:
            pixels, scaling = self._scaled(picture, *full, placing)
        else:
            left, top, right, bottom = (int(x) for x in placing.box)
            pixels = _array(picture)[top:bottom, left:right]
        shape = (*full, pixels.shape[2])
        return Fitted(pixels, placing.corner, placing.place, shape, dtype, file.name, scaling)

    def _in_mode(self, picture: Any, name: str) -> Any:
        """Return a decoded picture as an array, or as Pillow's in a mode that is an array.

        16 bits become 8 by number / 257, rounded.
        """
        if self.mode is None:
            return picture if isinstance(picture, np.ndarray) else plain(picture)
        if isinstance(picture, np.ndarray):
            if picture.dtype == np.uint8 and picture.shape[2] == MODES[self.mode]:
                return picture
            picture = _picture(picture if picture.dtype == np.uint8 else _eight_bits(picture, name))
        return picture if picture.mode == self.mode else picture.convert(self.mode)

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

    def _scaled(
        self, picture: Any, h: int, w: int, placing: Placing
    ) -> tuple[NDArray[Any], Scaling | None]:
        """Return pixels, and how they have still to be scaled.

        The core scales grey and colour, to Pillow's pixels; all else is scaled here.
        """
        deep = isinstance(picture, np.ndarray) and picture.dtype != np.uint8
        rows, columns, c = _shape(picture)
        fy, fx = rows / h, columns / w  # below 1 if it was decoded at a smaller size
        new, box = placing.new, placing.box
        if box == (0.0, 0.0, float(new[1]), float(new[0])) and (fx, fy) == (1.0, 1.0):
            return _array(picture), None
        part = (box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy)
        in_core = c in (1, 3) and self.resample in FILTERS and max(rows, columns) <= MOST_SIDE
        if in_core and not deep:
            return _array(picture), Scaling(part, new, self.resample)
        how = pillow().Resampling[self.resample.upper()]
        if deep:
            return scaled_channels(picture, new, how, part), None
        return as_array(_picture(picture).resize((new[1], new[0]), how, box=part)), None


def _shape(picture: Any) -> tuple[int, int, int]:
    if isinstance(picture, np.ndarray):
        h, w, c = picture.shape
        return h, w, c
    return picture.height, picture.width, MODES[picture.mode]


def _array(picture: Any) -> NDArray[Any]:
    return picture if isinstance(picture, np.ndarray) else as_array(picture)


def _picture(found: Any) -> Any:
    """Return an array (h, w, c) of uint8 as Pillow's picture."""
    if not isinstance(found, np.ndarray):
        return found
    return pillow().fromarray(
        np.ascontiguousarray(found[:, :, 0] if found.shape[2] == 1 else found)
    )


def without_range(name: str, dtype: np.dtype[Any]) -> str:
    """Return why ``mode`` is refused for a picture."""
    return (
        f"{name}: numbers of {dtype} have no range by which mode= could make 8 bits of them; "
        "leave mode= out, and pass dtype='float32' or a type that holds them"
    )


def _eight_bits(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return a deep picture with 8 bits per channel.

    Raises
    ------
    ValueError
        The range of its numbers is not known.
    """
    if array.dtype != np.uint16:
        raise ValueError(without_range(name, array.dtype))
    return eight_bits(array)


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
