"""A self-organising map: neurons, by number and by place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.drawing.scaling import MOST_DRAWN_PIXELS
from mapix.errors import UnsupportedError
from mapix.pink.file import PinkOnSom
from mapix.selection import integer

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Som"]

PAIRS_NBYTES = 4 << 20  # neurons whose distances are computed at once
MOST_OVERVIEW = 4096  # neurons that notebooks show at their places
OVERVIEW_SIDE = 480  # pixels, about


class Som(PinkOnSom):
    """Neurons of a SOM.

    ``som[i]`` is neuron i of the file, ``som[q, r]`` the neuron at a place (``som[x]``,
    ``som[x, y, z]`` in a cartesian SOM); both are views.  Slices, indices and masks give lazy
    parts.
    """

    RECORDS = "neurons"
    PANELS = ("mapix.pink.viewing:PANEL",)

    @property
    def neuron_shape(self) -> tuple[int, ...]:
        """Dimensions of a neuron: (length,), (h, w) or (channels, h, w); three in version 1."""
        return self._shape[1:]

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions of ``view()``."""
        whole = self._rows is None and self.layout == "cartesian"
        return (*(self.som_shape if whole else (self._n,)), *self.neuron_shape)

    def view(self) -> NDArray[Any]:
        """Return all neurons, read-only, aliasing the file.

        Returns
        -------
        ndarray
            ``(*som_shape, *neuron_shape)``; of hexagonal SOMs and of parts ``(n, *neuron_shape)``.

        Notes
        -----
        Copies: none, except for parts chosen by indices.  Lifetime: outlives ``close()``.
        """
        return self.neurons.reshape(self.shape)

    @property
    def neurons(self) -> NDArray[Any]:
        """All neurons as the file has them, ``(n, *neuron_shape)``, aliasing the file."""
        return super().view()

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            place = [k for k in map(integer, key) if k is not None]
            if len(place) < len(key):
                raise TypeError(f"a place is a tuple of integers, got {key}")
            self._complete("places")
            return self._record(self.lattice.index(*place))
        return super().__getitem__(key)

    def grid(self) -> NDArray[Any]:
        """Return the neurons by place: ``som.grid()[q, r]`` is ``som[q, r]``.

        Returns
        -------
        ndarray
            ``view()`` of a cartesian SOM.  Of a hexagonal one a copy, a masked array
            ``(d, d, *neuron_shape)``, which is masked outside the hexagon; floats are NaN there.
        """
        self._complete("a grid")
        if self.layout == "cartesian":
            return self.view()
        return self.lattice.dense(self.batch(np.arange(self._n)).images)

    def u_matrix(self) -> NDArray[np.float64]:
        """Return the mean distance of each neuron from those that touch it, float64 (neurons,).

        High values are borders between clusters.  Distances are Euclidean, over all numbers of two
        neurons as they lie in the file, without turning them.  ``som.lattice.dense(...)`` arranges
        the result by place.  NaN of a SOM of one neuron.
        """
        self._complete("a U-matrix")
        neurons = self.batch(np.arange(self._n)).images.reshape(self._n, -1)
        pairs = self.lattice.pairs
        away = np.empty(len(pairs))
        step = max(1, PAIRS_NBYTES // max(1, 8 * neurons.shape[1]))
        for k in range(0, len(pairs), step):
            one, two = (neurons[pairs[k : k + step, side]].astype(np.float64) for side in (0, 1))
            away[k : k + step] = np.sqrt(np.square(one - two).sum(axis=1))
        total = np.bincount(pairs.reshape(-1), np.repeat(away, 2), self._n)
        with np.errstate(invalid="ignore"):
            found: NDArray[np.float64] = total / np.bincount(pairs.reshape(-1), minlength=self._n)
        return found

    def picture(
        self, size: int = 96, gap: int = 2, *, each: bool = False, channel: int | None = None
    ) -> Image:
        """Draw all neurons at their places: squares, or hexagons in a hexagon.

        The corners of neurons in a hexagon are cut off.  Neurons of three channels are red, green
        and blue; of others ``channel``, or the mean of all, is drawn in colours from dark to light.

        Parameters
        ----------
        size : int
            Height of a neuron in pixels.
        gap : int
            Pixels between two neurons.
        each : bool
            Whether the contrast of each neuron is stretched by itself, or that of all together.
        channel : int, optional
            The channel to show.

        Returns
        -------
        PIL.Image.Image
            RGB.  Needs Pillow: ``pip install 'mapix[images]'``.
        """
        from mapix.pink.picture import neurons

        self._complete("a picture")
        return neurons(
            self.batch(np.arange(self._n)).images, self.lattice, size, gap, each, channel
        )

    def _overview(self) -> tuple[NDArray[np.uint8], str] | None:
        if (
            self._rows is not None
            or self._n > MOST_OVERVIEW
            or self.neurons.size > MOST_DRAWN_PIXELS
        ):
            return None
        size = max(8, min(96, OVERVIEW_SIDE // max(self.som_shape)))
        return np.asarray(self.picture(size)), "all neurons, at their places"

    def joined(self, others: Sequence[Any]) -> Any:
        """Refuse: the neurons of several SOMs are not one SOM."""
        raise UnsupportedError(f"{self.path}: several SOMs cannot be opened as one")

    def _complete(self, what: str) -> None:
        if self._rows is not None:
            raise ValueError(
                f"{self.path}: a part of a SOM does not have {what}; use the complete SOM"
            )
