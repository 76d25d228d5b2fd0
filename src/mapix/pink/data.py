"""The images, or vectors, that PINK trains with and maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mapix.pink.file import PinkFile
from mapix.pink.lattice import Lattice

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Data"]

MOST_SHOWN = 100  # entries of a picture by default


class Data(PinkFile):
    """Entries of a data file, (n, ...): (n, length), (n, h, w) or (n, channels, h, w).

    Version 1 always has (n, channels, h, w).  ``data[i]`` and ``data.view()`` alias the file,
    ``data.batch`` copies.
    """

    def picture(
        self,
        indices: ArrayLike | None = None,
        size: int = 64,
        gap: int = 2,
        *,
        each: bool = True,
        channel: int | None = None,
    ) -> Image:
        """Draw entries side by side, in a square.

        Parameters
        ----------
        indices : array_like of int, or a boolean mask, optional
            The entries; the first 100 by default.
        size, gap, channel
            As for ``Som.picture``.
        each : bool
            Whether the contrast of each entry is stretched by itself, or that of all together.

        Returns
        -------
        PIL.Image.Image
            RGB.  Needs Pillow: ``pip install 'mapix[images]'``.
        """
        from mapix.pink.picture import neurons

        rows = np.arange(min(self._n, MOST_SHOWN)) if indices is None else indices
        images = self.batch(rows).images
        if not len(images):
            raise ValueError(f"{self.path}: no entries to draw")
        columns = math.ceil(math.sqrt(len(images)))
        square = Lattice("cartesian", (math.ceil(len(images) / columns), columns))
        return neurons(images, square, size, gap, each, channel)
