"""How each entry was flipped and turned to fit each neuron best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.pink.file import PinkOnSom
from mapix.selection import single

__all__ = ["Rotation", "transformed"]

QUARTER = math.pi / 2
NEAR = 1e-6  # radians that a float32 of a quarter turn may be off


class Rotation(PinkOnSom):
    """Flips and angles, (n, neurons) of packed records ``flip`` (u8, 0 or 1) and ``angle`` (f32).

    ``rotation[i]`` and ``rotation.view()`` are structured arrays that alias the file; ``.flip`` and
    ``.angle`` are the two fields of all.
    """

    @property
    def flip(self) -> NDArray[np.uint8]:
        """Whether entries were flipped, uint8 (n, neurons), aliasing the file; 0 or 1."""
        found: NDArray[np.uint8] = self.view()["flip"]
        return found

    @property
    def angle(self) -> NDArray[np.float32]:
        """Radians that entries were turned by, float32 (n, neurons), aliasing the file."""
        found: NDArray[np.float32] = self.view()["angle"]
        return found

    def best_fit(
        self,
        image: ArrayLike,
        index: int,
        neuron: int,
        shape: tuple[int, int] | None = None,
        *,
        backwards: bool | None = None,
    ) -> NDArray[Any]:
        """An image as it fits a neuron best: turned, then flipped.

        Parameters
        ----------
        image : array_like
            Entry ``index`` of the data, (h, w) or (channels, h, w).
        index, neuron : int
            Entry, and number of the neuron; ``mapping.best_match(index)`` is the nearest.
        shape : (int, int), optional
            Height and width of what comes out, the neurons'; those of the image by default.
        backwards : bool, optional
            Whether angles count the other way round.  PINK 1 turned images so, and files of
            version 1 are taken so by default.

        Returns
        -------
        ndarray
            (*shape) or (channels, *shape), of the image's type when that is of floats, else
            float32; see ``transformed``.
        """
        neuron = single(neuron, self.nneurons, self.path, "neurons")
        index = single(index, self._n, self.path, "entries")
        flip, angle = self.batch([index]).images[0, neuron]
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
    """An image turned about its middle, zero where there was nothing, then flipped, as PINK does.

    Parameters
    ----------
    image : array_like
        (h, w), or (channels, h, w), each turned by itself.
    flip : bool
        Whether the rows come upside down, after the turn.
    angle : float
        Radians.  Pixel (y, x) from the middle comes from (y cos - x sin, y sin + x cos), between
        pixels bilinear.  Quarters of a turn are exact.
    shape : (int, int), optional
        Height and width of what comes out; those of the image by default.

    Returns
    -------
    ndarray
        Of the image's type when that is of floats, else float32.
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
    # PINK brings an image to the neuron's size first, turned by less than a quarter, and then turns
    # that by quarters: what it cuts off where sizes differ by an odd number is turned along
    size = out if quarters % 2 == 0 else out[::-1]
    turned = _turned(array, rest, size) if rest else _resized(array, size)
    turned = np.rot90(turned, -int(quarters))
    return turned[::-1] if flip else turned


def _turned(array: NDArray[Any], angle: float, shape: tuple[int, ...]) -> NDArray[Any]:
    """An image turned about its middle, bilinear; zero where a pixel's source lies outside.

    Places are worked out in the image's own precision, in PINK's order: so a source on the very
    edge is inside or outside as it is to PINK.
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
    """The middle of an image, or the image in the middle of zeros; as PINK rounds."""
    found = np.zeros(shape, array.dtype.newbyteorder("="))
    old, new = [], []
    for have, want in zip(array.shape, shape, strict=True):
        n = min(have, want)
        old.append(slice((have - want) // 2, (have - want) // 2 + n) if have > want else slice(n))
        new.append(slice((want - have) // 2, (want - have) // 2 + n) if want > have else slice(n))
    found[tuple(new)] = array[tuple(old)]
    return found
