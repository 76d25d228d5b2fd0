"""References in kerchunk's format: zarr, xarray and dask read files of uniform records in place.

A reference is a place in a file that zarr takes for a chunk of an array.  Nothing is copied, and
the program that reads needs no mapix.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import UnsupportedError
from mapix.placement import Placement

__all__ = ["Chunks", "Stored", "references", "stored_arrays"]

INLINE_NBYTES = 1 << 20  # of a last chunk, which the dict holds
FEWEST = 4  # a divisor of the number of records is taken from ``rows / FEWEST`` on


@dataclass(frozen=True, slots=True)
class Piece:
    """The numbers of an array that lie in one file.

    Attributes
    ----------
    mapping : Mapping
        The file.
    begins : ndarray
        Byte of each record, int64 (n,).
    stride : int
        Distance of records in the file, in bytes.
    """

    mapping: Any
    begins: NDArray[np.int64]
    stride: int

    @property
    def adjacent(self) -> bool:
        """Whether the records follow one another in the file."""
        return bool((np.diff(self.begins) == self.stride).all())


@dataclass(frozen=True, slots=True)
class Stored:
    """An array as files hold it: an element for each record, at a place within the record.

    Attributes
    ----------
    name : str
        Of the array.
    dims : tuple of str
        Names of the dimensions, ``"record"`` first.
    dtype : numpy.dtype
        As the files have it, byte order included.
    shape : tuple of int
        Of the element of one record.
    offset : int
        Byte of the element in its record.
    pieces : sequence of Piece
        Its files, in order.
    fields : str
        JSON: ``dtype``, of what else may be seen in the numbers; ``{}`` if nothing.
    """

    name: str
    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    pieces: tuple[Piece, ...]
    fields: str = "{}"

    def __len__(self) -> int:
        return sum(len(piece.begins) for piece in self.pieces)

    @property
    def nbytes(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Chunks:
    """An array in chunks of ``rows`` records.

    Attributes
    ----------
    array : Stored
    rows : int
        Records of a chunk.
    bare : bool
        Whether a chunk is the numbers alone, and not records that hold more than these.
    """

    array: Stored
    rows: int
    bare: bool

    @classmethod
    def of(cls, array: Stored, rows: int, *, plain: bool = False) -> Chunks:
        """Choose the chunks of an array.

        Parameters
        ----------
        array : Stored
        rows : int
            The most records of a chunk.
        plain : bool
            Whether each chunk must be a place in a file, and hold the numbers alone.
        """
        pieces, n = array.pieces, len(array)
        strides = {piece.stride for piece in pieces}
        tight = strides == {array.nbytes}
        one_by_one = len(strides) > 1 or not all(piece.adjacent for piece in pieces)
        if one_by_one or (plain and not tight):
            return cls(array, 1, True)
        rows = min(rows, n)
        common = math.gcd(*(len(piece.begins) for piece in pieces))
        exact = next((k for k in range(rows, 0, -1) if common % k == 0), 1)
        if not plain and len(pieces) == 1 and exact * FEWEST < rows:
            # the last chunk is not full: the dict holds it
            exact = max(exact, min(rows, INLINE_NBYTES // max(strides)))
        return cls(array, exact, tight or exact == 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a chunk."""
        return self.rows, *self.array.shape

    def places(self) -> Iterator[tuple[Any, NDArray[np.int64], int]]:
        """Yield each file, the bytes at which its chunks begin, and how long they are.

        A last chunk that is not full ends after the end of the file's records.
        """
        array = self.array
        for piece in array.pieces:
            begins, nbytes = piece.begins[:: self.rows], self.rows * piece.stride
            if self.bare and self.rows == 1:
                begins, nbytes = begins + array.offset, array.nbytes
            yield piece.mapping, begins, nbytes

    def filters(self) -> list[dict[str, Any]] | None:
        """Return zarr's filters: of records that hold more, kerchunk's takes the numbers out."""
        if self.bare:
            return None
        array, (piece, *_) = self.array, self.array.pieces
        sides = ",".join(map(str, array.shape))
        before, after = array.offset, piece.stride - array.offset - array.nbytes
        fields = [f"V{before}"] * bool(before)
        fields += [f"({sides}){array.dtype.str}" if sides else array.dtype.str]
        fields += [f"V{after}"] * bool(after)
        # a type of one field would be no record
        member = f"f{int(bool(before))}"
        return [{"id": "record_member", "member": member, "dtype": ",".join(fields)}]


def references(ds: Any, rows: int = 500, *, folder: str | None = None) -> dict[str, Any]:
    """Return references to the numbers of a dataset, in kerchunk's format (version 1).

    Parameters
    ----------
    ds : mapix.Dataset
        Records of one size in files that are not compressed, or a part of them.
    rows : int
        The most records of a chunk: what zarr reads at once.  Records that are not adjacent in the
        file have a chunk each.
    folder : str
        URL of the folder in which readers find the files, as ``"https://example.org/data"``; by
        default their paths on this machine, or the URLs that they were opened by.

    Returns
    -------
    dict
        ``version``, and ``refs``: for ``zarr.open_group("reference://", storage_options={"fo":
        refs})``, for xarray's engines, and as JSON for other programs.  Arrays: ``images`` (n, ...)
        as the file has them (planes first where it has planes), and ``labels`` where they lie in
        the file or in a file of labels: (n, ...), or of VIMH uint8 (n, N, 2), id and code of each.
        Where records have headers, also ``records``: uint8 (n, bytes of a record), all bytes as
        they are.  ``numpy.dtype`` of their attribute ``dtype`` makes images and labels of them:
        ``records[3:9].view(numpy.dtype(records.attrs["dtype"]))["images"]`` is a view (6, 1, ...).

    Raises
    ------
    UnsupportedError
        Records of several sizes, compressed files, or numbers that are not in the file as they are.

    Notes
    -----
    Copies: none, but for a last chunk that is not full where no number near ``rows`` divides the
    number of records: it lies in the dict, at most 1 MiB for each array.  Cost: 80 bytes of JSON
    for each chunk.  Records of VIMH have headers between the images: chunks of ``images`` and
    ``labels`` need the filter ``record_member`` of the package kerchunk, unless ``rows`` is 1;
    those of ``records`` need none.  A file that changes later is not noticed.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    refs: dict[str, Any] = {
        ".zgroup": json.dumps({"zarr_format": 2}),
        ".zattrs": json.dumps({"format": ds.FAMILY, "records": len(ds)}),
    }
    for array in stored_arrays(ds):
        refs |= _entries(Chunks.of(array, rows), folder)
    return {"version": 1, "refs": refs}


def _entries(chunks: Chunks, folder: str | None) -> dict[str, Any]:
    """Return metadata and references of an array, by the names that zarr asks for."""
    array, ndim = chunks.array, len(chunks.array.shape)
    metadata = {
        "zarr_format": 2,
        "shape": [len(array), *array.shape],
        "chunks": [max(1, side) for side in chunks.shape],
        "dtype": array.dtype.str,
        "compressor": None,
        "filters": chunks.filters(),
        "fill_value": None,
        "order": "C",
    }
    found: dict[str, Any] = {
        f"{array.name}/.zarray": json.dumps(metadata),
        f"{array.name}/.zattrs": json.dumps(
            {"_ARRAY_DIMENSIONS": array.dims} | json.loads(array.fields)
        ),
    }
    number = 0
    for mapping, begins, nbytes in chunks.places():
        url = mapping.path if mapping.remote else mapping.full_path  # without a password
        if folder is not None:
            url = f"{folder.rstrip('/')}/{url.rpartition('/')[2]}"
        for at in begins.tolist():
            found[f"{array.name}/{number}{'.0' * ndim}"] = [url, at, nbytes]
            number += 1
    missing = number * chunks.rows - len(array)
    if missing:  # of the one file that there is
        at, nbytes = int(begins[-1]), (chunks.rows - missing) * array.pieces[0].stride
        raw = _native.copy(mapping, at, nbytes, "references")
        text = base64.b64encode(raw + bytes(missing * array.pieces[0].stride)).decode()
        found[f"{array.name}/{number - 1}{'.0' * ndim}"] = f"base64:{text}"
    return found


def stored_arrays(ds: Any) -> list[Stored]:
    """Return the arrays of a dataset as they lie in its files.

    Raises
    ------
    UnsupportedError
        See ``references``.
    """
    parts: Sequence[Any] | None = getattr(ds, "parts", None)
    if parts is None:
        return _of_file(ds)
    if ds._rows is not None:
        raise UnsupportedError(f"{ds.path}: references of several files are those of all records")
    files = [_of_file(part) for part in parts]
    if len({tuple(replace(array, pieces=()) for array in arrays) for arrays in files}) > 1:
        raise UnsupportedError(f"{ds.path}: the files differ in shapes, types or labels")
    return [
        replace(same[0], pieces=tuple(piece for array in same for piece in array.pieces))
        for same in zip(*files, strict=True)
    ]


def _of_file(ds: Any) -> list[Stored]:
    """Return the arrays of a dataset of one file."""
    where = _placement(ds)
    stride, rows = where.stride, where.rows
    begins = where.first_at + np.asarray(range(where.nrecords) if rows is None else rows) * stride
    piece = Piece(where.mapping, begins.astype(np.int64), stride)
    dtype = where.out if where.swap == 1 else where.out.newbyteorder()
    shape, planar = where.shape, not where.interleaved
    if planar and where.layout == "NHWC" and len(shape) == 3:  # the batch is turned, the file not
        shape = (shape[2], *shape[:2])
    planar |= getattr(ds, "_layout", "") == "NCHW"  # of rows that a device copies as bytes
    head = where.head_nbytes
    offset = head + 1 + 2 * where.nlabels if head else 0
    found = [Stored("images", _dims(shape, planar), dtype, shape, offset, (piece,))]
    if head and where.nlabels:
        dims = ("record", "label", "id_and_code")
        u1 = np.dtype(np.uint8)
        found.append(Stored("labels", dims, u1, (where.nlabels, 2), head + 1, (piece,)))
    if head:
        found.append(_records(found, stride))
    beside = ds._labels_apart()
    if beside is not None:
        (labels,) = _of_file(beside)
        names = ("record", *(f"label_{k}" for k in range(len(labels.shape))))
        found.append(replace(labels, name="labels", dims=names))
    return found


def _records(arrays: list[Stored], nbytes: int) -> Stored:
    """Return records of so many bytes as they are, and where in them the arrays lie."""
    fields = {
        "names": [array.name for array in arrays],
        "formats": [f"({','.join(map(str, array.shape))}){array.dtype.str}" for array in arrays],
        "offsets": [array.offset for array in arrays],
        "itemsize": nbytes,
    }
    u1, dims = np.dtype(np.uint8), ("record", "byte")
    return Stored(
        "records", dims, u1, (nbytes,), 0, arrays[0].pieces, json.dumps({"dtype": fields})
    )


def _placement(ds: Any) -> Placement:
    """Return where the records of a dataset of one file lie, as numbers of the file's type.

    Raises
    ------
    UnsupportedError
        See ``references``.
    """
    refused = f"{ds.path}: references need "
    if ds.image_shape is None:
        raise UnsupportedError(f"{refused}records of one size, which are numbers in the file")
    try:
        found: Placement = ds.placement()
    except UnsupportedError as e:
        raise UnsupportedError(f"{refused}records that lie in the file as they are") from e
    if found.mapping.full_path != ds.source.full_path:
        raise UnsupportedError(f"{refused}a file that is not compressed")
    if not found.mapping.remote:
        ds.source.confirm("open it again, then make references")
    return found


def _dims(shape: tuple[int, ...], planar: bool) -> tuple[str, ...]:
    """Return names of the dimensions of images."""
    names = {
        1: ("value",),
        2: ("y", "x"),
        3: ("channel", "y", "x") if planar else ("y", "x", "channel"),
    }.get(len(shape))
    return ("record", *(names or (f"axis_{k}" for k in range(len(shape)))))
