"""A parser for VirtualiZarr, which makes xarray's virtual datasets of files that mapix opens.

>>> from mapix.virtualizarr import Parser                                    # doctest: +SKIP
>>> registry = ObjectStoreRegistry({"file://": LocalStore()})                # doctest: +SKIP
>>> virtualizarr.open_virtual_dataset(url, registry, Parser())               # doctest: +SKIP
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from virtualizarr.manifests import ChunkManifest, ManifestArray, ManifestGroup, ManifestStore
from virtualizarr.manifests.utils import create_v3_array_metadata

from mapix.errors import UnsupportedError
from mapix.registry import open_dataset
from mapix.zarr_references import Chunks, stored_arrays

__all__ = ["Parser"]


class Parser:
    """Reads where the records of a file lie; a parser as VirtualiZarr's documentation defines it.

    Parameters
    ----------
    rows : int
        The most records of a chunk.  A chunk is the largest number of records that divides their
        number; images and labels between headers have a chunk each, ``records`` have not.
    **options
        For ``mapix.open``.

    Notes
    -----
    Arrays as ``mapix.references`` has them.  Cost: 40 bytes of memory for each chunk.
    """

    def __init__(self, rows: int = 500, **options: Any) -> None:
        self.rows, self.options = rows, options

    def __call__(self, url: str, registry: Any) -> ManifestStore:
        """Return the arrays of a file of this machine.

        Parameters
        ----------
        url : str
            ``file://`` and an absolute path.
        registry : obspec_utils.registry.ObjectStoreRegistry
            Stores that read the chunks.

        Raises
        ------
        UnsupportedError
            A URL of another machine, or records that ``mapix.references`` refuses.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("", "file"):
            raise UnsupportedError(f"{url}: mapix opens files of this machine, not {parts.scheme}")
        with open_dataset(unquote(parts.path), **self.options) as ds:
            arrays = {
                array.name: _virtual(Chunks.of(array, self.rows, plain=True))
                for array in stored_arrays(ds)
            }
        group = ManifestGroup(arrays=arrays, attributes={"format": ds.FAMILY})
        return ManifestStore(group=group, registry=registry)


def _virtual(chunks: Chunks) -> ManifestArray:
    array, ndim = chunks.array, len(chunks.shape)
    urls: list[str] = []
    begins, lengths = [], []
    for mapping, at, nbytes in chunks.places():
        urls += [f"file://{mapping.full_path}"] * len(at)
        begins.append(at)
        lengths += [nbytes] * len(at)
    grid = (len(urls), *[1] * (ndim - 1))
    paths: Any = np.array(urls, np.dtypes.StringDType()).reshape(grid)
    manifest = ChunkManifest.from_arrays(
        paths=paths,
        offsets=np.concatenate(begins).astype(np.uint64).reshape(grid),
        lengths=np.array(lengths, np.uint64).reshape(grid),
        validate_paths=False,
    )
    metadata = create_v3_array_metadata(
        shape=(len(array), *array.shape),
        data_type=array.dtype,
        chunk_shape=chunks.shape,
        codecs=[{"name": "bytes", "configuration": {"endian": _endian(array.dtype)}}],
        dimension_names=array.dims,
        attributes=json.loads(array.fields),
    )
    return ManifestArray(metadata=metadata, chunkmanifest=manifest)


def _endian(dtype: np.dtype[Any]) -> str:
    return "big" if dtype.str.startswith(">") else "little"
