"""dask: its workers run the parts of mapix's jobs; uniform datasets as arrays, and for xarray.

Needs ``pip install 'mapix[dask]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from mapix.errors import UnsupportedError
from mapix.optional import library
from mapix.plans import PART_NBYTES, Map, Piece, grouped, pieces

__all__ = ["array", "map", "xarray"]

EXTRA = "dask"
SIDES = {2: ("y", "x"), 3: ("y", "x", "channel")}  # of an image


def map(client: Any = None, *, size: int = 1, threads: int = 1) -> Map:
    """Return a ``map`` whose tasks run on the workers of dask.

    >>> ds.statistics(map=mapix.dask.map(client))                # doctest: +SKIP

    Parameters
    ----------
    client : distributed.Client, optional
        Runs the tasks.  Without it they run where ``dask.compute`` runs them.
    size : int
        Parts of a task: its scheduler takes about a millisecond for each.
    threads : int
        Threads of a worker that run the parts of one task.

    Notes
    -----
    All workers open the files by the path that they have here, and refuse other content.
    """
    runs = _computed if client is None else partial(_submitted, client)
    return runs if (size, threads) == (1, 1) else grouped(runs, size, threads=threads)


def _computed(task: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
    dask = library("dask", EXTRA)
    run = dask.delayed(task, pure=False, traverse=False)
    found: Iterable[Any] = dask.compute(*[run(item) for item in items])
    return found


def _submitted(client: Any, task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    waiting = client.map(task, list(items), pure=False)
    return _results(waiting)


def _results(waiting: list[Any]) -> Iterator[Any]:
    try:
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()


def array(ds: Any, *, nbytes: int = PART_NBYTES) -> Any:
    """Return the images of a uniform dataset as a lazy array: each part of a plan is a chunk.

    Parameters
    ----------
    ds : Dataset
        The dataset.
    nbytes : int
        Bytes of a chunk in its file: see ``Dataset.plan``.

    Returns
    -------
    dask.array.Array
        (n, *shape) as ``ds.batch`` gives them.

    Raises
    ------
    UnsupportedError
        Images differ in shape, there are none, or dask is not installed.
    """
    da, dask = library("dask.array", EXTRA), library("dask", EXTRA)
    if ds.image_shape is None:
        raise UnsupportedError(f"{ds.path}: only images of one shape are an array")
    like = ds.batch([], labels=None).images
    read = dask.delayed(_images, pure=False, traverse=False)
    chunks = [
        da.from_delayed(read(piece), (len(piece.part), *like.shape[1:]), meta=like)
        for piece in pieces(ds, nbytes)
    ]
    return da.concatenate(chunks)


def _images(piece: Piece) -> Any:
    part = piece.part
    return part.batch(np.arange(len(part)), labels=None).images


def xarray(ds: Any, *, nbytes: int = PART_NBYTES) -> Any:
    """Return a uniform dataset for xarray: its images as a lazy array, its columns as coordinates.

    Parameters
    ----------
    ds, nbytes
        As for ``array``.

    Returns
    -------
    xarray.Dataset
        ``images`` with the dimensions ``record``, ``y``, ``x`` and ``channel``; those of images in
        another order are ``d0``, ``d1`` and so on.  Each column is a coordinate along ``record``;
        where values are missing, numbers become floats with NaN.

    Raises
    ------
    UnsupportedError
        As ``array``, or xarray is not installed.
    """
    xr = library("xarray", EXTRA)
    images = array(ds, nbytes=nbytes)
    sides = images.shape[1:]
    known = SIDES.get(len(sides)) if sides == tuple(ds.image_shape) else None
    names = known or tuple(f"d{k}" for k in range(len(sides)))
    columns = {}
    for name, column in ds.columns.items():
        values = column.values if column.complete else column.filled()
        columns[name] = ("record", values, {"units": column.unit} if column.unit else {})
    return xr.Dataset({"images": (("record", *names), images)}, columns)
