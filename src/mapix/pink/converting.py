"""Converting version 1 to version 2."""

from __future__ import annotations

import math
import os

import numpy as np

from mapix.errors import UnsupportedError
from mapix.pink.file import PinkFile, PinkOnSom
from mapix.pink.layout import Kind
from mapix.pink.som import Som
from mapix.pink.writer import Path, Writer
from mapix.registry import open_dataset

__all__ = ["convert"]


def convert(
    source: Path,
    path: Path,
    *,
    kind: Kind | None = None,
    strict_spec: bool = False,
    replace: bool = False,
) -> None:
    """Write a file of version 1 as version 2, in bounded memory.

    Lines of comment are kept.  Images of one channel become (h, w), those of several channels
    (channels, h, w).  Dimensions of a SOM that are 1 at the end are left out.  Squared distances
    become distances.  Angles, which PINK 1 counted the other way round, become those of the same
    turn.

    Parameters
    ----------
    source : str or os.PathLike
        The file of version 1.
    path : str or os.PathLike
        The new file.
    kind : {"data", "som", "map", "rot"}, optional
        Kind of the file, where its length does not decide.
    strict_spec, replace : bool
        As for ``Writer``.

    Raises
    ------
    UnsupportedError
        The file is of version 2 already.
    """
    with open_dataset(source, format="pink", kind=kind) as old:
        if old.version != 1:
            raise UnsupportedError(f"{os.fspath(source)}: it is of version 2 already")
        row_shape, som_shape = _dims(old)
        with Writer(
            path,
            old.kind,
            row_shape,
            som_shape=som_shape,
            layout="cartesian" if som_shape is None else old.layout,
            header=old.comment,
            n=len(old),
            strict_spec=strict_spec,
            replace=replace,
        ) as out:
            for block in old.blocks():
                if old.kind == "rot":
                    block["angle"] = np.mod(-block["angle"].astype(np.float64), 2 * math.pi)
                out.extend(block if row_shape is None else block.reshape(len(block), *row_shape))


def _dims(old: PinkFile) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return the dimensions of a row or a neuron, and of the SOM, as version 2 has them."""
    row_shape = None
    if old.kind in ("data", "som"):
        c, h, w = old.neuron_shape if isinstance(old, Som) else old.shape[1:]
        row_shape = (h, w) if c == 1 else (c, h, w)
    if old.kind == "data":
        return row_shape, None
    assert isinstance(old, PinkOnSom)  # every kind apart from data
    w, h, d = old.som_shape
    if d > 1:
        return row_shape, (w, h, d)
    return row_shape, (w, h) if h > 1 or old.layout == "hexagonal" else (w,)
