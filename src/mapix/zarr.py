"""A store of zarr over any uniform dataset: zarr, xarray and dask read it through mapix.

>>> group = zarr.open_group(mapix.zarr.Store(ds), mode="r")                  # doctest: +SKIP
>>> data = xarray.open_zarr(mapix.zarr.Store(ds), consolidated=False)        # doctest: +SKIP

Needs zarr 3.  Programs without mapix read the same files by ``mapix.references``.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from zarr.abc import codec, store
from zarr.registry import register_codec

from mapix.errors import UnsupportedError

__all__ = ["Store"]

SIDES = {1: ("value",), 2: ("y", "x"), 3: ("y", "x", "channel")}  # of an image
IMAGES = "images"
RECORDS = "mapix.records"
COPIED_ROWS, VIEW_NBYTES = 500, 16 << 20  # of a chunk
PLANES = {"layout": "NCHW"}


@dataclass(frozen=True)
class Records(codec.ArrayBytesCodec):  # type: ignore[misc, unused-ignore]
    """Decode images in a file, perhaps with other bytes between them, as a view: a codec of zarr.

    Attributes
    ----------
    stride : int
        Bytes from one image to the next.
    """

    stride: int
    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the codec of an array's metadata."""
        return cls(data["configuration"]["stride"])

    def to_dict(self) -> dict[str, Any]:
        """Return the codec as an array's metadata have it."""
        return {"name": RECORDS, "configuration": {"stride": self.stride}}

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        raw, dtype = chunk_bytes.as_array_like(), chunk_spec.dtype.to_native_dtype()
        shape = chunk_spec.shape[1:]
        n = 1 + (len(raw) - dtype.itemsize * math.prod(shape)) // self.stride  # the last has fewer
        steps = [dtype.itemsize * math.prod(shape[k + 1 :]) for k in range(len(shape))]
        found = np.ndarray((n, *shape), dtype, raw, 0, (self.stride, *steps))
        found.flags.writeable = False
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(found)

    async def _encode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        raise UnsupportedError("the store is read-only")

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        """Return the bytes of a chunk: not known to zarr."""
        return input_byte_length


register_codec(RECORDS, Records)


class Store(store.Store):  # type: ignore[misc, unused-ignore]  # where zarr is not installed
    """The images of a dataset, and its columns of numbers, as arrays of a zarr group.

    Arrays: ``images`` (n, ...) as ``ds.batch`` gives them, and each column of numbers without
    missing values, (n,).

    Parameters
    ----------
    ds : mapix.Dataset
        Images of one shape.
    rows : int, optional
        Records of a chunk of images, which zarr takes 0.1 ms for.  By default 500; where images are
        views, which are copied only as far as they are selected, as many as 16 MiB hold.
    **options
        For ``ds.batch``: ``layout="NCHW"``, ``dtype``, ``scale`` and so on.

    Raises
    ------
    UnsupportedError
        Images differ in shape, or there are none.
    ValueError
        ``rows`` is below 1.

    Notes
    -----
    Copies: zarr's own.  Arrays in one file that are not compressed are views, if the options leave
    their bytes as they are: of VIMH with ``layout="NCHW"``.  Views are dangerous where another
    process cuts the file, as ``ds.view()`` is.  All others are read by ``ds.batch``.
    Pickles as the dataset.
    """

    supports_writes = supports_deletes = supports_partial_writes = False
    supports_listing = True

    def __init__(self, ds: Any, rows: int | None = None, **options: Any) -> None:
        super().__init__(read_only=True)
        if rows is not None and rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}")
        if ds.image_shape is None:
            raise UnsupportedError(f"{ds.path}: only images of one shape are an array")
        self._ds, self._options = ds, options
        if rows is None and self._view is not None and self._view.size:
            rows = max(1, VIEW_NBYTES // self._view[0].nbytes)
        self._rows = rows or COPIED_ROWS

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Store, **self._options), (self._ds, self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self._same == other._same

    @property
    def _same(self) -> tuple[Any, ...]:
        return self._ds, self._rows, self._options

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _view(self) -> NDArray[Any] | None:
        """The images as an array in the file; None where ``ds.batch`` has to copy them."""
        if self._options not in ({}, PLANES):
            return None
        try:
            found = np.asarray(self._ds, copy=False)
        except (ValueError, UnsupportedError):
            return None
        if self._options:
            found = np.moveaxis(found, -1, 1)
        if found.flags.c_contiguous:
            return found
        # numpy turns planes slowly
        apart = len(found) and found[0].flags.c_contiguous and found.strides[0] >= found[0].nbytes
        return found if apart and found.dtype.isnative else None

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        """The bytes of the memory in which ``_view`` lies."""
        base: Any = self._view
        while isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        return np.frombuffer(base, np.uint8)

    @property
    def _stride(self) -> int:
        """Bytes from one image of ``_view`` to the next; 0 where zarr's own codec reads it."""
        view = self._view
        return 0 if view is None or not view.size or not view.dtype.isnative else view.strides[0]

    @cached_property
    def _gathers(self) -> bool:
        """Whether chunks are gathered from local files: another thread would take longer."""
        try:
            return self._ds.placement(**self._options).mapping.remote is None
        except (UnsupportedError, TypeError):
            return False

    @cached_property
    def _like(self) -> NDArray[Any]:
        """Images of no record."""
        if self._view is not None:
            return self._view[:0]
        return self._batch([])

    def _batch(self, rows: Any) -> NDArray[Any]:
        found: NDArray[Any] = self._ds.batch(rows, **{"labels": None} | self._options).images
        return found

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        columns = self._ds.columns
        return {
            name: column.values
            for name, column in columns.items()
            if column.complete and column.values.dtype.kind in "biuf" and name != IMAGES
        }

    @cached_property
    def _metadata(self) -> dict[str, bytes]:
        about = {"format": self._ds.FAMILY, "records": len(self._ds)}
        group = {"zarr_format": 3, "node_type": "group", "attributes": about}
        images = _array(self._like, self._shape, self._rows)
        if self._stride:
            images["codecs"] = [Records(self._stride).to_dict()]
        if self._options.get("layout") == "NCHW":
            images["dimension_names"] = ["record", "channel", "y", "x"]
        found = {"zarr.json": group, f"{IMAGES}/zarr.json": images}
        for name, values in self._columns.items():
            found[f"{name}/zarr.json"] = _array(values, values.shape, max(1, len(values)))
        return {key: json.dumps(facts).encode() for key, facts in found.items()}

    @property
    def _shape(self) -> tuple[int, ...]:
        return len(self._ds), *self._like.shape[1:]

    @cached_property
    def _nchunks(self) -> int:
        return -(-len(self._ds) // self._rows)

    def _place(self, key: str) -> tuple[str, int] | None:
        """Return array and number of a chunk; None where there is none of that name."""
        name, _, place = key.rpartition("/c/")
        numbers = place.split("/")
        if not all(number.isdecimal() for number in numbers) or any(map(int, numbers[1:])):
            return None
        k = int(numbers[0])
        if name in self._columns:
            there = len(numbers) == 1 and not k and len(self._columns[name])
        else:
            there = name == IMAGES and len(numbers) == len(self._shape) and k < self._nchunks
        return (name, k) if there else None

    def _chunk(self, key: str) -> NDArray[Any] | None:
        """Return the numbers of a chunk; None where there is none of that name."""
        place = self._place(key)
        if place is None:
            return None
        name, k = place
        if name != IMAGES:
            return self._columns[name]
        begin, end = k * self._rows, min((k + 1) * self._rows, len(self._ds))
        if self._view is not None:
            found = self._view[begin:end]
            if self._stride:
                nbytes = (end - begin - 1) * self._stride + found[0].nbytes
                at = found.ctypes.data - self._bytes.ctypes.data
                return self._bytes[at : at + nbytes]
        else:
            found = self._batch(np.arange(begin, end))
        if end - begin < self._rows:  # zarr wants full chunks
            full = np.zeros((self._rows, *self._shape[1:]), found.dtype)
            full[: end - begin] = found
            return full
        return found

    # --- what zarr calls --------------------------------------------------------------------------

    async def get(
        self, key: str, prototype: Any, byte_range: store.ByteRequest | None = None
    ) -> Any:
        """Return the bytes of a chunk or of metadata; None where there is none of that name."""
        if key in self._metadata:
            raw = np.frombuffer(self._metadata[key], np.uint8)
        else:
            here = self._view is not None or self._gathers
            found = self._chunk(key) if here else await asyncio.to_thread(self._chunk, key)
            if found is None:
                return None
            raw = found.reshape(-1).view(np.uint8)
        return prototype.buffer.from_array_like(raw[_part(byte_range, len(raw))])

    async def get_partial_values(
        self, prototype: Any, key_ranges: Iterable[tuple[str, store.ByteRequest | None]]
    ) -> list[Any]:
        """Return what ``get`` returns, of several names and ranges."""
        return [await self.get(key, prototype, some) for key, some in key_ranges]

    async def exists(self, key: str) -> bool:
        """Return whether there is a chunk or metadata of that name."""
        return key in self._metadata or self._place(key) is not None

    async def list(self) -> AsyncIterator[str]:
        """Yield all names."""
        zeros = "/0" * len(self._shape[1:])
        for key in self._metadata:
            yield key
        for name, values in self._columns.items():
            if len(values):
                yield f"{name}/c/0"
        for k in range(self._nchunks):
            yield f"{IMAGES}/c/{k}{zeros}"

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names that begin so."""
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names below a folder, once each, without what is below them."""
        folder = prefix.rstrip("/") + "/" if prefix else ""
        seen: dict[str, None] = {}
        async for key in self.list_prefix(folder):
            seen[key[len(folder) :].partition("/")[0]] = None
        for name in seen:
            yield name

    async def set(self, key: str, value: Any) -> None:
        """Raise UnsupportedError: datasets are not written so."""
        del value
        raise UnsupportedError(f"{self._ds.path}: {key} cannot be written: the store is read-only")

    async def delete(self, key: str) -> None:
        """Raise UnsupportedError: see ``set``."""
        await self.set(key, None)


def _part(some: store.ByteRequest | None, n: int) -> slice:
    match some:
        case None:
            return slice(0, n)
        case store.RangeByteRequest(start, end):
            return slice(start, end)
        case store.OffsetByteRequest(offset):
            return slice(offset, n)
    return slice(max(0, n - some.suffix), n)


def _array(values: NDArray[Any], shape: tuple[int, ...], rows: int) -> dict[str, Any]:
    """Return the metadata of an array, by zarr's specification, version 3."""
    dtype, sides = values.dtype, values.shape[1:]
    names = SIDES.get(len(sides), tuple(f"axis_{k}" for k in range(len(sides))))
    endian = {} if dtype.itemsize == 1 else {"endian": "big" if dtype.str[0] == ">" else "little"}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [rows, *(max(1, side) for side in sides)]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": endian}],
        "fill_value": False if dtype.kind == "b" else 0,
        "dimension_names": ["record", *(names if sides else ())],
        "attributes": {},
    }
