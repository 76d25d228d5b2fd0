"""Flips and turns of entries that fit neurons best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.colour import palette
from mapix.drawing.scaling import drawn
from mapix.pink.file import PinkOnSom
from mapix.selection import single

__all__ = ["Rotation", "transformed"]

QUARTER = math.pi / 2
NEAR = 1e-6  # radians: the error of a quarter turn in float32


class Rotation(PinkOnSom):
    """Flips and angles, (n, neurons) of packed records ``flip`` (u8, 0 or 1) and ``angle`` (f32).

    ``rotation[i]`` and ``rotation.view()`` are structured arrays that alias the file; ``.flip`` and
    ``.angle`` are the fields of all entries.  Records are not numbers: ``batch`` copies them, and
    has no options that convert.
    """

    @property
    def flip(self) -> NDArray[np.uint8]:
        """Whether entries were flipped: uint8 (n, neurons), 0 or 1, aliasing the file."""
        found: NDArray[np.uint8] = self.view()["flip"]
        return found

    @property
    def angle(self) -> NDArray[np.float32]:
        """Angles of the turns in radians: float32 (n, neurons), aliasing the file."""
        found: NDArray[np.float32] = self.view()["angle"]
        return found

    def _thumbnail(self, row: int) -> NDArray[Any]:
        """Return the angles of an entry, at the places of the neurons."""
        angles = self.of(np.array([row])).batch([0]).images[0]["angle"].astype(np.float64)
        placed = self._placed(angles)
        return angles if placed is None else placed

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        return drawn(self._thumbnail(row), size, palette())

    def best_fit(
        self,
        image: ArrayLike,
        index: int,
        neuron: int,
        shape: tuple[int, int] | None = None,
        *,
        backwards: bool | None = None,
    ) -> NDArray[Any]:
        """Return an image as it fits a neuron best: turned, then flipped.

        Parameters
        ----------
        image : array_like
            Entry ``index`` of the data, (h, w) or (channels, h, w).
        index, neuron : int
            Entry, and number of the neuron; ``mapping.best_match(index)`` is the nearest.
        shape : (int, int), optional
            Height and width of the result, for instance those of the neurons; by default those of
            the image.
        backwards : bool, optional
            Whether angles count the other way round, as in PINK 1.  By default only in files of
            version 1.

        Returns
        -------
        ndarray
            ``shape`` or ``(channels, *shape)``, of the type of the image if that is a float type,
            else float32.  See ``transformed``.
        """
        neuron = single(neuron, self.nneurons, self.path, "neurons")
        index = single(index, self._n, self.path, "entries")
        fits = self.batch([index]).images[0]
        flip, angle = fits["flip"][neuron], fits["angle"][neuron]
        if flip > 1 or not math.isfinite(angle):
            raise ValueError(
                f"{self.path}: entry {index}, neuron {neuron}: a flip of 0 or 1 and a finite angle "
                f"expected, got {flip} and {angle}"
            )
        backwards = self.version == 1 if backwards is None else backwards
        return transformed(image, bool(flip), -float(angle) if backwards else float(angle), shape)


def transformed(
    image: ArrayLike, flip: bool, angle: float, shape: tuple[int, int] | None = None
) -> NDArray[Any]:
    """Turn an image about its middle, with zeros outside, and flip it, as PINK does.

    Parameters
    ----------
    image : array_like
        (h, w), or (channels, h, w), each turned by itself.
    flip : bool
        Whether the rows are reversed after the turn.
    angle : float
        Radians.  Pixel (y, x) from the middle comes from (y cos - x sin, y sin + x cos), between
        pixels bilinear.  Quarters of a turn are exact.
    shape : (int, int), optional
        Height and width of the result; those of the image by default.

    Returns
    -------
    ndarray
        Of the type of the image if that is a float type, else float32.
    """
    array = np.asarray(image)
    array = array if array.dtype.kind == "f" else array.astype(np.float32)
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"an image of (h, w) or (channels, h, w) expected, got {array.shape}")
    if array.ndim == 3:
        found = np.stack([transformed(plane, flip, angle, shape) for plane in array])
        return found
    out = array.shape if shape is None else tuple(shape)
    quarters, rest = divmod(angle, QUARTER)
    if min(rest, QUARTER - rest) < NEAR * max(1, abs(quarters)):
        quarters, rest = round(angle / QUARTER), 0.0
    # PINK first brings an image to the neuron's size, turned by less than a quarter, and then turns
    # the result by quarters.  If the sizes differ by an odd number, the cut is turned, too.
    size = out if quarters % 2 == 0 else out[::-1]
    turned = _turned(array, rest, size) if rest else _resized(array, size)
    turned = np.rot90(turned, -int(quarters))
    return turned[::-1] if flip else turned


def _turned(array: NDArray[Any], angle: float, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an image turned about its middle, bilinear; zero where the source lies outside.

    Places are computed in the precision of the image, and in the sequence of PINK's operations, so
    that a source on the edge counts as inside or outside as in PINK.
    """
    floats = np.dtype(np.float64 if array.dtype.itemsize > 4 else np.float32).type
    cos, sin = np.cos(floats(angle)), np.sin(floats(angle))
    most = np.subtract(array.shape, 1)
    v, u = np.ogrid[: shape[0], : shape[1]]
    y, x = (k.astype(floats) - floats((n - 1) / 2) for k, n in zip((v, u), shape, strict=True))
    y, x = y * cos - x * sin + floats(most[0] / 2), y * sin + x * cos + floats(most[1] / 2)
    inside = (y >= 0) & (y <= most[0]) & (x >= 0) & (x <= most[1])
    top, left = (np.clip(k.astype(np.int64), 0, n) for k, n in zip((y, x), most, strict=True))
    low, right = np.minimum(top + 1, most[0]), np.minimum(left + 1, most[1])
    down, along = y - top, x - left
    found = (1 - down) * ((1 - along) * array[top, left] + along * array[top, right])
    found += down * ((1 - along) * array[low, left] + along * array[low, right])
    turned: NDArray[Any] = np.where(inside, found, 0).astype(array.dtype.newbyteorder("="))
    return turned


def _resized(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the middle of an image, or the image in the middle of zeros, rounded as in PINK."""
    found = np.zeros(shape, array.dtype.newbyteorder("="))
    old, new = [], []
    for have, want in zip(array.shape, shape, strict=True):
        n = min(have, want)
        old.append(slice((have - want) // 2, (have - want) // 2 + n) if have > want else slice(n))
        new.append(slice((want - have) // 2, (want - have) // 2 + n) if want > have else slice(n))
    found[tuple(new)] = array[tuple(old)]
    return found
