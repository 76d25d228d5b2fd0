"""Results of queries about pixels: masks of many segments, and pairs that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from mapix.errors import UnsupportedError
from mapix.selection import single
from mapix.text import brief

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.iid.argument_checks import Keys

__all__ = ["Masks", "Overlaps"]


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Masks of many segments in one piece of memory.

    Attributes
    ----------
    keys : ndarray
        uint32 (n,).
    boxes : ndarray
        uint16 (n, 4).
    flat : ndarray
        bool, all masks back to back.
    offsets : ndarray
        uint64 (n + 1,): mask i is ``flat[offsets[i]:offsets[i + 1]]``; ``masks[i]`` shapes it.
    """

    keys: Keys
    boxes: NDArray[np.uint16]
    flat: NDArray[np.bool_]
    offsets: NDArray[np.uint64]

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.keys)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.bool_]:
        raise UnsupportedError("masks of several sizes are not one array: masks[i], or masks.flat")

    def __getitem__(self, i: SupportsIndex) -> NDArray[np.bool_]:
        number = single(i, len(self.keys), "masks", "masks")
        minr, minc, maxr, maxc = self.boxes[number].tolist()
        return self.flat[int(self.offsets[number]) :][: (maxr - minr) * (maxc - minc)].reshape(
            maxr - minr, maxc - minc
        )

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        sides = self.boxes.astype(np.int64)
        shapes = (sides[:, 2:] - sides[:, :2]).tolist()
        cuts, flat = self.offsets.tolist(), self.flat
        return (
            flat[begin:end].reshape(shape)
            for begin, end, shape in zip(cuts[:-1], cuts[1:], shapes, strict=True)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Pairs of segments that share pixels, each once, i < j, sorted.

    Attributes
    ----------
    i, j : ndarray
        uint32 (n,): keys.
    pixels : ndarray
        uint32 (n,): how many they share.
    area_i, area_j : ndarray
        uint32 (n,): pixels of each.
    """

    i: Keys
    j: Keys
    pixels: NDArray[np.uint32]
    area_i: NDArray[np.uint32]
    area_j: NDArray[np.uint32]

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.i)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Shared pixels over those of both, (n,)."""
        union = self.area_i.astype(np.float64) + self.area_j - self.pixels
        return self.pixels / np.maximum(union, 1)

    @property
    def ios(self) -> NDArray[np.float64]:
        """Shared pixels over those of the smaller one, (n,)."""
        return self.pixels / np.maximum(np.minimum(self.area_i, self.area_j), 1)

    def sparse(self, nsegments: int, weights: Literal["pixels", "iou", "ios"] = "pixels") -> Any:
        """Return a ``scipy.sparse.coo_array`` (nsegments, nsegments) of the pairs; needs scipy."""
        from scipy.sparse import coo_array

        return coo_array((getattr(self, weights), (self.i, self.j)), shape=(nsegments, nsegments))
