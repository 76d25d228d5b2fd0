"""Ray Data: a dataset as a datasource, a read task for each part of a plan.

Needs ``pip install 'mapix[ray]'``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from mapix.optional import library
from mapix.plans import LEAST_NBYTES, Piece, cut, pieces

__all__ = ["datasource"]

EXTRA = "ray"
BLOCK_NBYTES = 32 << 20  # of a file, that become one block


def datasource(ds: Any) -> Any:
    """Return a datasource of records: their image, and a value of each column.

    >>> ray.data.read_datasource(mapix.ray.datasource(ds))       # doctest: +SKIP

    Parameters
    ----------
    ds : Dataset
        A dataset whose images can be batched as they are.  Each worker opens its files by the path
        that they have here, and refuses other content.

    Returns
    -------
    ray.data.Datasource
        Rows have ``image``, an array, and the columns of the dataset; None where a value is
        missing.

    Raises
    ------
    UnsupportedError
        Ray is not installed.
    """
    data, block = library("ray.data", EXTRA), library("ray.data.block", EXTRA)
    task = library("ray.data.datasource", EXTRA).ReadTask

    class Source(data.Datasource):  # type: ignore[misc, name-defined]
        """Read tasks for the parts of a plan."""

        def get_name(self) -> str:
            """Return the name of the format."""
            return f"mapix {ds.FAMILY}"

        def estimate_inmemory_data_size(self) -> int:
            """Return the bytes of all records in their files."""
            size: int = ds._total_size()
            return size

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            """Return tasks for the parts of a plan, about ``parallelism`` of them."""
            nbytes = max(LEAST_NBYTES, ds._total_size() // max(1, parallelism))
            parts = pieces(ds, nbytes)
            sizes = (piece.part._total_size() for piece in parts)
            return [
                task(
                    partial(_blocks, piece),
                    block.BlockMetadata(
                        num_rows=len(piece.part), size_bytes=size, input_files=None, exec_stats=None
                    ),
                )
                for piece, size in zip(parts, sizes, strict=True)
            ]

    return Source()


def _blocks(piece: Piece) -> Iterator[Any]:
    block = library("ray.data.block", EXTRA)
    part = piece.part
    for begin, end in cut(part._record_sizes(), len(part), BLOCK_NBYTES):
        some = part[begin:end]
        rows: dict[str, Any] = {"image": some.batch(np.arange(len(some)), labels=None).images}
        for name, column in some.columns.items():
            rows[name] = column.values if column.complete else column.filled().astype(object)
            if not column.complete:
                rows[name][~column.present] = None
        yield block.BlockAccessor.batch_to_block(rows)
