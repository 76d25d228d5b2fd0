"""Make small RGB pictures of arrays of any type, with any number of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DIM",
    "MISSING",
    "MOST_DRAWN_PIXELS",
    "brightened",
    "drawn",
    "finite_range",
    "outlined",
    "rgb",
    "thumbnail",
    "value_range_of",
]

MISSING = (96, 96, 96)  # colour of pixels that are NaN
MOST_DRAWN_PIXELS = 1 << 26  # of an image of a dataset of which a thumbnail is made
BOX_COLOURS = ((255, 77, 77), (77, 210, 255), (255, 210, 77), (125, 255, 77), (210, 77, 255))
DIM = 32  # bytes that are all below are drawn with more contrast
MOST_SAMPLES = 4  # per pixel of the thumbnail and direction

Bytes: TypeAlias = "NDArray[np.uint8]"
Range = tuple[float, float]
Drawn = TypeVar("Drawn", Bytes, "Bytes | None")


def thumbnail(
    image: ArrayLike,
    size: int | tuple[int, int],
    colours: Bytes | None = None,
    value_range: Range | None = None,
) -> Bytes:
    """Return a small picture of an image, which keeps its proportions.

    Three or four channels are drawn as red, green and blue (the fourth is left out), all other
    numbers of channels as their mean.  Downwards each pixel is the mean of the area that it covers.
    Of images at least 8 times as large, only every so many rows and columns are read, at least 4
    per pixel, so that the cost depends on ``size`` alone.  Upwards pixels are repeated an integer
    number of times.

    Parameters
    ----------
    image : array_like
        (h, w) or (h, w, c) of booleans, integers or floats; (n,) is one row.
    size : int or (h, w)
        The thumbnail is within this many pixels.
    colours : ndarray, optional
        uint8 (256, 3): colours of the numbers from low to high, as ``mapix.colour.palette()``
        returns them, for images that are not RGB; grey by default.
    value_range : (low, high), optional
        Numbers that are drawn black and white, or in the first and the last colour; numbers beyond
        are drawn as these.  By default 0..255 of uint8, 0..1 of booleans, and the lowest to the
        highest finite number of the image of all other types.

    Returns
    -------
    ndarray
        uint8 (h, w, 3).  Pixels without any number (NaN) are grey: ``MISSING``.

    Raises
    ------
    TypeError
        The type is not of numbers.
    ValueError
        The shape is not of an image, or it has no pixels; or the size is below 1.
    """
    pixels = _pixels(image)
    high, wide = (size, size) if isinstance(size, int | np.integer) else size
    if high < 1 or wide < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    h, w = pixels.shape[:2]
    share = min(high / h, wide / w)
    if share >= 1:
        times = int(share)
        return rgb(pixels, colours, value_range).repeat(times, axis=0).repeat(times, axis=1)
    target = max(1, round(h * share)), max(1, round(w * share))
    steps = [max(1, n // (MOST_SAMPLES * t)) for n, t in zip((h, w), target, strict=True)]
    pixels = pixels[:: steps[0], :: steps[1]]
    levels = _levels(pixels, value_range)
    known = np.isfinite(levels)
    if known.all():
        return _coloured(_shrunk(levels, target), colours)
    weight = _shrunk(known.astype(np.float64), target)
    total = _shrunk(np.where(known, levels, 0), target)
    found = np.full(total.shape, np.nan)
    np.divide(total, weight, out=found, where=weight > 1e-9)
    return _coloured(found, colours)


def drawn(
    image: NDArray[Any] | None, size: int, colours: Bytes | None = None
) -> NDArray[np.uint8] | None:
    """Return a thumbnail; None of what has no numbers, no pixels, or more than 3 dimensions."""
    if image is None or not image.size or image.ndim not in (1, 2, 3):
        return None
    return thumbnail(image, size, colours) if image.dtype.kind in "biuf" else None


def outlined(picture: Bytes, boxes: ArrayLike, size: tuple[int, int]) -> Bytes:
    """Draw boxes into a small picture (h, w, 3) of an image.

    Parameters
    ----------
    picture : ndarray
        Is changed.
    boxes : array_like
        (n, 4) of left, top, right and bottom, in pixels of the image.
    size : (h, w)
        Of the image.
    """
    (h, w), (high, wide) = picture.shape[:2], size
    shares = (w / (wide or 1), h / (high or 1)) * 2
    for k, corners in enumerate(np.asarray(boxes, np.float64) * shares):
        if not np.isfinite(corners).all():
            continue
        left, top, right, bottom = np.clip(np.floor(corners), 0, (w - 1, h - 1) * 2).astype(int)
        colour = BOX_COLOURS[k % len(BOX_COLOURS)]
        picture[[top, bottom], left : right + 1] = colour
        picture[top : bottom + 1, [left, right]] = colour
    return picture


def rgb(image: ArrayLike, colours: Bytes | None = None, value_range: Range | None = None) -> Bytes:
    """Return an image in its own size as ``thumbnail`` draws it, uint8 (h, w, 3)."""
    return _coloured(_levels(_pixels(image), value_range), colours)


def brightened(pictures: Sequence[Drawn]) -> list[Drawn]:
    """Return pictures with more contrast if all their numbers are below 32, else as they are.

    Bytes that stand for few values, as 0 to 16 of scikit-learn's digits, would be black.
    """
    most = max((int(p.max()) for p in pictures if p is not None and p.size), default=0)
    if not 0 < most < DIM:
        return list(pictures)
    levels = np.minimum(np.arange(256) * 255 // most, 255).astype(np.uint8)
    return [p if p is None else levels.take(p) for p in pictures]


def value_range_of(image: ArrayLike) -> Range:
    """Return the range of an image by the rule of ``thumbnail``."""
    array = np.asarray(image)
    if array.dtype == np.uint8:
        return 0.0, 255.0
    if array.dtype.kind == "b":
        return 0.0, 1.0
    return finite_range(array)


def finite_range(array: NDArray[Any]) -> Range:
    """Return the lowest and the highest finite number; zeros without any."""
    if array.dtype.kind == "f":
        array = array[np.isfinite(array)]
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)


def _pixels(image: ArrayLike) -> NDArray[Any]:
    """Return an image as (h, w, c), checked."""
    array = np.asarray(image)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an image has numbers, got {array.dtype}")
    shape = array.shape
    if array.ndim == 1:
        array = array[None]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not array.size:
        raise ValueError(f"an image is (h, w) or (h, w, c), with pixels, got {shape}")
    return array


def _levels(pixels: NDArray[Any], value_range: Range | None) -> NDArray[np.float64]:
    """Return grey (h, w, 1) or colour (h, w, 3), float64 0..1; NaN where no number is known."""
    c = pixels.shape[2]
    if c in (3, 4):
        pixels = pixels[..., :3]
    low, high = value_range_of(pixels) if value_range is None else value_range
    numbers = pixels.astype(np.float64)
    if high - low == np.inf:  # of float64: halves have a difference
        numbers, low, high = numbers / 2, low / 2, high / 2
    with np.errstate(invalid="ignore", over="ignore"):
        levels = np.clip((numbers - low) / (high - low if high > low else 1.0), 0, 1)
    if pixels.shape[2] in (1, 3):
        return levels
    known = np.isfinite(levels)
    count = known.sum(axis=2, keepdims=True)
    total = np.where(known, levels, 0).sum(axis=2, keepdims=True)
    mean = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _coloured(levels: NDArray[np.float64], colours: Bytes | None) -> Bytes:
    """Return levels 0..1 as uint8 (h, w, 3)."""
    known = np.isfinite(levels).any(axis=2)
    codes = np.rint(np.nan_to_num(levels) * 255).astype(np.uint8)
    if codes.shape[2] == 1:
        grey = codes[..., 0]
        codes = np.repeat(codes, 3, axis=2) if colours is None else colours.take(grey, axis=0)
    if not known.all():
        codes[~known] = MISSING
    return codes


def _shrunk(levels: NDArray[np.float64], target: tuple[int, int]) -> NDArray[np.float64]:
    """Return the mean of the area that each pixel of the target covers, (h, w, c)."""
    for axis, n in enumerate(target):
        old = levels.shape[axis]
        if old == n:
            continue
        # sums up to any place, also between two pixels: their differences are sums over areas
        sums = np.zeros_like(levels, shape=(old + 1, *np.delete(levels.shape, axis)))
        np.cumsum(np.moveaxis(levels, axis, 0), axis=0, out=sums[1:])
        edges = np.arange(n + 1) * old
        whole, part = edges // n, (edges % n / n)[:, None, None]
        after = np.minimum(whole + 1, old)
        upto = sums[whole] + part * (sums[after] - sums[whole])
        levels = np.moveaxis(np.diff(upto, axis=0) * (n / old), 0, axis)
    return np.clip(levels, 0, 1)
