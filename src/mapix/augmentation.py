"""Random changes of images: crops, shifts, flips, cutout and mixup.

>>> augment = mapix.Augment(crop=32, pad=4, flip=0.5, cutout=8)   # doctest: +SKIP
>>> loader = mapix.Loader(ds, 256, augment=augment)               # doctest: +SKIP

What happens to an image follows from the seed, the epoch and the image's position in the epoch, by
integers alone.  It is the same on every machine, for every batch size and number of processes, and
after an epoch was resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from mapix import _native
from mapix.sampling import random_words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Augment", "Choices", "Draws", "mix", "put"]

IntArray: TypeAlias = "NDArray[np.int64]"
MASK = (1 << 64) - 1
MOST_SIDE = 65535
WORDS = 4  # random numbers of 64 bits for each position: window, flips, cutout, mixup
SHARES = 1024  # values that a share of mixup has
SHARE_UNITS = 1 << 16  # shares are multiples of 1 / SHARE_UNITS
CHANCE_BITS = 32


class Choices(NamedTuple):
    """Hold what was chosen for the images of a batch.

    Attributes
    ----------
    corner : ndarray
        int64 (b, 2): row and column of the image where its window begins; negative in the padding.
    flip, flip_vertical : ndarray
        bool (b,).
    cut : ndarray
        int64 (b, 4): top, left, bottom, right of what is cut out of the result, half open.
    """

    corner: IntArray
    flip: NDArray[np.bool_]
    flip_vertical: NDArray[np.bool_]
    cut: IntArray


@dataclass(frozen=True, repr=False)
class Augment:
    """Random changes of each image, applied in this order: crop, flips, cutout, mixup.

    Parameters
    ----------
    crop : int or (h, w), optional
        Size of the result, a window at a random place.  By default the size of the image.
    pad : int or (rows, columns)
        Pixels around the image before the window is taken, on each side.  ``pad=4`` without
        ``crop`` shifts an image by up to 4 pixels.
    flip, flip_vertical : float
        Chance, 0..1, that left and right, or top and bottom, are exchanged.
    cutout : int or (h, w)
        Sides of a rectangle that is cut out.  Its centre is any pixel of the result, so that it
        may lie partly outside; 0 for none.
    mixup : float
        Alpha of mixup, 0 for none.  Image i becomes ``share * image i + (1 - share) * image j``; j
        is ``b - 1 - i``, and the share is drawn for each image from Beta(alpha, alpha).  Needs
        float32 or float16.
    seed : int
        Determines everything that is random.

    Notes
    -----
    The padding, and what is cut out, get the ``pad_value`` of the batch, which is in units of its
    numbers: 0 is the mean where ``mean`` and ``std`` are given, else black.

    Frozen and hashable.  Pickles as its arguments.
    """

    crop: Any = None
    pad: Any = 0
    flip: float = 0.0
    flip_vertical: float = 0.0
    cutout: Any = 0
    mixup: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crop is not None:
            object.__setattr__(self, "crop", _sides("crop", self.crop, 1))
        for name in ("pad", "cutout"):
            object.__setattr__(self, name, _sides(name, getattr(self, name), 0))
        if 0 in self.cutout and self.cutout != (0, 0):
            raise ValueError(f"cutout must be 0, or sides of at least 1, got {self.cutout}")
        for name in ("flip", "flip_vertical"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a chance in 0..1, got {getattr(self, name)!r}")
        if not 0 <= self.mixup < float("inf"):
            raise ValueError(f"mixup must be a finite number, 0 or more, got {self.mixup!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise TypeError(f"seed must be an int, got {type(self.seed).__name__}")

    def __repr__(self) -> str:
        given = [
            f"{f.name}={_short(getattr(self, f.name))!r}"
            for f in fields(self)
            if _short(getattr(self, f.name)) != f.default
        ]
        return f"Augment({', '.join(given)})"

    @property
    def fills(self) -> bool:
        """Whether pixels may get the ``pad_value``."""
        return bool(self.pad != (0, 0) or self.cutout != (0, 0))

    def size(self, h: int, w: int, path: str = "the image") -> tuple[int, int]:
        """Return (h, w) of what images of h x w become.

        Raises
        ------
        ValueError
            They are smaller than ``crop``, padding included.
        """
        wanted: tuple[int, int] = self.crop or (h, w)
        if wanted[0] > h + 2 * self.pad[0] or wanted[1] > w + 2 * self.pad[1]:
            raise ValueError(
                f"{path}: images of {h} x {w} with pad={_short(self.pad)} are smaller than "
                f"crop={_short(self.crop)}: pass a larger pad of Augment, or pad=(h, w) of batch"
            )
        return wanted

    def shape(
        self, shape: tuple[int, ...], layout: str, path: str = "the image"
    ) -> tuple[int, ...]:
        """Return the shape of what an image of (h, w), (h, w, c), or (c, h, w) in NCHW becomes."""
        if len(shape) not in (2, 3):
            raise ValueError(
                f"{path}: augment needs images of two or three dimensions, got {shape}"
            )
        planar = layout == "NCHW" and len(shape) == 3
        h, w = shape[1:] if planar else shape[:2]
        size = self.size(h, w, path)
        return (shape[0], *size) if planar else (*size, *shape[2:])

    def draws(self, positions: ArrayLike, epoch: int = 0) -> Draws:
        """Return what is random for a batch: the argument ``augment=`` of ``ds.batch``.

        Parameters
        ----------
        positions : array_like of int
            Position of each image of the batch in its epoch, 0 or more.  Equal positions get equal
            changes.
        epoch : int
            Epochs differ.
        """
        return Draws(self, epoch, positions)


class Draws:
    """The random changes of the images of one batch.  Made by ``Augment.draws``.

    Attributes
    ----------
    augment : Augment
        What changes.
    epoch : int
        Number of the epoch.
    positions : ndarray
        int64 (b,): position of each image in the epoch.
    """

    __slots__ = ("__dict__", "augment", "epoch", "positions")

    def __init__(self, augment: Augment, epoch: int, positions: ArrayLike) -> None:
        found = np.asarray(positions)
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            raise ValueError("positions must be a 1-D array of integers")
        found = np.ascontiguousarray(found, np.int64)
        if found.size and (int(found.min()) < 0 or int(found.max()) >= 1 << 60):
            raise ValueError("positions must be 0 or more, and below 2**60")
        self.augment, self.epoch, self.positions = augment, epoch, found

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, key: slice | IntArray) -> Draws:
        """Return those of some images of the batch."""
        return Draws(self.augment, self.epoch, self.positions[key])

    @property
    def key(self) -> int:
        """The number from which all random numbers of the epoch follow, 64 bits."""
        seed = self.augment.seed * 0xD6E8FEB86659FD93 + self.epoch * 0xA0761D6478BD642F
        return (seed + 0x6175676D656E74) & MASK  # unlike those of orders

    def _words(self, k: int) -> NDArray[np.uint64]:
        return random_words(self.key, self.positions * WORDS + k)

    def choices(self, sizes: ArrayLike) -> Choices:
        """Return what is chosen for images of some sizes: what the C core chooses, too.

        Parameters
        ----------
        sizes : array_like of int
            (b, 2), or (2,) for images of one size: h, w.

        Raises
        ------
        ValueError
            An image is smaller than ``crop``, padding included.
        """
        augment, n = self.augment, len(self)
        given = np.broadcast_to(np.asarray(sizes, np.int64), (n, 2))
        out = given
        if augment.crop is not None:
            for h, w in np.unique(given, axis=0).tolist():
                augment.size(h, w)
            out = np.broadcast_to(np.asarray(augment.crop), (n, 2))
        room = given + 2 * np.asarray(augment.pad) - out
        corner = _below(self._words(0), room + 1) - np.asarray(augment.pad)
        flips = _halves(self._words(1))
        flip, flip_vertical = (flips < np.array(self._chances, np.uint64)).T
        cut = np.zeros((n, 4), np.int64)
        if augment.cutout != (0, 0):
            sides = np.asarray(augment.cutout)
            begin = _below(self._words(2), out) - sides // 2
            cut[:, :2], cut[:, 2:] = begin.clip(0, out), (begin + sides).clip(0, out)
        return Choices(corner, flip, flip_vertical, cut)

    @cached_property
    def shares(self) -> NDArray[np.float32] | None:
        """Share of itself that each image keeps in mixup, float32 (b,); None without mixup.

        Multiples of 2**-16, so that a share and its rest are exact.
        """
        if not self.augment.mixup:
            return None
        which = self._words(3) >> np.uint64(64 - SHARES.bit_length() + 1)
        return _shares_of(float(self.augment.mixup))[which.astype(np.int64)]

    def native(self, size: tuple[int, int]) -> Any:
        """Return the description for the C core, of results of h x w; needs ``positions``."""
        augment = self.augment
        return _native.new_augment(
            *(self.key, self.positions, size, augment.pad, self._chances, augment.cutout)
        )

    @property
    def _chances(self) -> list[int]:
        augment = self.augment
        return [int(p * (1 << CHANCE_BITS)) for p in (augment.flip, augment.flip_vertical)]


def _sides(name: str, x: Any, least: int) -> tuple[int, int]:
    """Return one number twice, or two numbers, as a tuple of ints."""
    sides = tuple(x) if isinstance(x, tuple | list | np.ndarray) else (x, x)
    if len(sides) != 2 or not all(
        isinstance(side, int | np.integer)
        and not isinstance(side, bool)
        and least <= side <= MOST_SIDE
        for side in sides
    ):
        raise ValueError(f"{name} must be a number or two of {least}..{MOST_SIDE}, got {x!r}")
    return int(sides[0]), int(sides[1])


def _short(x: Any) -> Any:
    """Return two equal sides as one number."""
    return x[0] if isinstance(x, tuple) and x[0] == x[1] else x


def _halves(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the high and the low 32 bits of words, (b, 2)."""
    return np.stack([words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)], axis=1)


def _below(words: NDArray[np.uint64], ends: IntArray) -> IntArray:
    """Return two numbers 0..end-1 of each word, (b, 2)."""
    return (_halves(words) * ends.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


@lru_cache(16)
def _shares_of(alpha: float) -> NDArray[np.float32]:
    """Return quantiles of Beta(alpha, alpha) in the middles of SHARES equal parts, float32.

    They are rounded to multiples of 1 / SHARE_UNITS.  So the last digits of ``power``, which differ
    among machines, do not matter.
    """
    x = (np.arange(SHARE_UNITS // 2) + 0.5) / SHARE_UNITS
    x = np.append(x, 0.5)
    # the regularised incomplete beta function by its hypergeometric series, apart from a factor,
    # which follows from its value 1/2 at 1/2
    term, total, k = np.ones_like(x), np.ones_like(x), 0
    while float(term[-1]) > 1e-17 * float(total[-1]):
        term = term * (x * ((2 * alpha + k) / (alpha + 1 + k)))
        total, k = total + term, k + 1
    below = np.power(4 * x * (1 - x), alpha) * total
    wanted = (np.arange(SHARES // 2) + 0.5) / SHARES
    low = np.searchsorted(below[:-1] / (2 * below[-1]), wanted) / SHARE_UNITS
    return np.concatenate([low, 1 - low[::-1]]).astype(np.float32)


def put(to: NDArray[Any], image: NDArray[Any], chosen: Choices, k: int, fill: float) -> None:
    """Put image (h, w, c) k of a batch, changed, into its place (h, w, c), one step at a time.

    This is the reference for the C core.
    """
    h, w, c = to.shape
    top, left = chosen.corner[k].tolist()
    window = np.full((h, w, c), fill, to.dtype)
    part = image[max(top, 0) : max(top + h, 0), max(left, 0) : max(left + w, 0)]
    y, x = max(-top, 0), max(-left, 0)
    window[y : y + part.shape[0], x : x + part.shape[1], : part.shape[2]] = part
    if chosen.flip[k]:
        window = window[:, ::-1]
    if chosen.flip_vertical[k]:
        window = window[::-1]
    top, left, bottom, right = chosen.cut[k].tolist()
    window[top:bottom, left:right] = fill
    to[...] = window


def mix(images: NDArray[Any], draws: Draws) -> IntArray:
    """Mix the images of a batch (b, ...), in place; return the number of each one's partner.

    Raises
    ------
    ValueError
        The images are not floats.
    """
    if images.dtype not in (np.float32, np.float16):
        raise ValueError(f"mixup needs dtype float32 or float16, got {images.dtype}")
    shares = draws.shares
    assert shares is not None
    n = len(images)
    if images.dtype == np.float32:
        _native.mix(images, shares)
    else:
        for i in range(n // 2):
            x, y = (images[j].astype(np.float32) for j in (i, n - 1 - i))
            a, b = shares[i], shares[n - 1 - i]
            images[i], images[n - 1 - i] = x * a + y * (1 - a), y * b + x * (1 - b)
    return np.arange(n)[::-1].copy()
