"""A self-organising map: neurons, by number and by place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.errors import UnsupportedError
from mapix.pink.file import PinkOnSom
from mapix.selection import integer

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Som"]


class Som(PinkOnSom):
    """Neurons of a SOM.

    ``som[i]`` is neuron i in the file's order, ``som[q, r]`` that at a place (``som[x]``,
    ``som[x, y, z]`` of cartesian ones), both views.  Slices, indices and masks give lazy parts.
    """

    RECORDS = "neurons"

    @property
    def neuron_shape(self) -> tuple[int, ...]:
        """Dimensions of a neuron: (length,), (h, w), (channels, h, w); in version 1 the last."""
        return self._shape[1:]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of ``view()``."""
        whole = self._rows is None and self.layout == "cartesian"
        return (*(self.som_shape if whole else (self._n,)), *self.neuron_shape)

    def view(self) -> NDArray[Any]:
        """The payload, aliasing the file, read-only.

        Returns
        -------
        ndarray
            Cartesian: (*som_shape, *neuron_shape).  Hexagonal, and of parts: (n, *neuron_shape).

        Notes
        -----
        Copies: none, but for parts chosen by indices.  Lifetime: outlives ``close()``.
        """
        return self.neurons.reshape(self.shape)

    @property
    def neurons(self) -> NDArray[Any]:
        """All neurons in the file's order, (n, *neuron_shape), aliasing the file."""
        return super().view()

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            place = [k for k in map(integer, key) if k is not None]
            if len(place) < len(key):
                raise TypeError(f"a place is of ints, got {key}")
            self._whole("places")
            return self._record(self.lattice.index(*place))
        return super().__getitem__(key)

    def grid(self) -> NDArray[Any]:
        """The neurons as an array that is indexed by place: ``som.grid()[q, r]`` is ``som[q, r]``.

        Returns
        -------
        ndarray
            Cartesian: ``view()``.  Hexagonal: a masked array (d, d, *neuron_shape), a copy; masked
            outside the hexagon, and NaN there when of floats.
        """
        self._whole("a grid")
        if self.layout == "cartesian":
            return self.view()
        return self.lattice.dense(self.batch(np.arange(self._n)).images)

    def picture(
        self, size: int = 96, gap: int = 2, *, each: bool = False, channel: int | None = None
    ) -> Image:
        """All neurons where they lie: rectangles of squares, or a hexagon of hexagons.

        Of a hexagon a neuron's corners are cut off.  Neurons of three channels are red, green and
        blue; of others ``channel``, or the mean of all, in colours from dark to light.

        Parameters
        ----------
        size : int
            Pixels of a neuron's height.
        gap : int
            Pixels between two.
        each : bool
            Whether each neuron's numbers are stretched by themselves, instead of all alike.
        channel : int, optional
            Which one to show.

        Returns
        -------
        PIL.Image.Image
            RGB.  Needs Pillow: ``pip install 'mapix[view]'``.
        """
        from mapix.pink.picture import neurons

        self._whole("a picture")
        return neurons(
            self.batch(np.arange(self._n)).images, self.lattice, size, gap, each, channel
        )

    def joined(self, others: Sequence[Any]) -> Any:
        """Refuse: the neurons of several SOMs are not one SOM."""
        raise UnsupportedError(f"{self.path}: several SOMs cannot be opened as one")

    def _whole(self, what: str) -> None:
        if self._rows is not None:
            raise ValueError(f"{self.path}: a part of a SOM has not {what}; take it of the whole")
