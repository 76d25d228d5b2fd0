"""The header of a safetensors file: a u64 length, and JSON with type, shape and place of tensors.

The tensors follow, back to back, little-endian.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import FormatError, LimitError, TruncatedError, UnsupportedError

if TYPE_CHECKING:
    from mapix.source import Source

__all__ = ["LENGTH_NBYTES", "NAME", "Header", "Tensor", "read_header"]

NAME = "safetensors"
LENGTH_NBYTES = 8
MOST_HEADER_NBYTES = 100_000_000  # of the format
MOST_DIMS = 32  # of any numpy
MOST_EMPTY = 1 << 16  # rows without numbers: no bytes of the file prove that there are so many
ABOUT = "__metadata__"
TYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?"},
    **{f"I{8 * n}": f"<i{n}" for n in (1, 2, 4, 8)},
    **{f"U{8 * n}": f"<u{n}" for n in (1, 2, 4, 8)},
}
OTHER_TYPES = {
    "BF16": 2,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "C64": 8,
}  # that numpy lacks, or rows of images


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a file.

    Attributes
    ----------
    name : str
        Its name.
    type : str
        Type as the file states it: "F32".
    shape : tuple of int
        Dimensions.
    at : int
        Its first byte in the file.
    nbytes : int
        Its size.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    at: int
    nbytes: int

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Type of numpy; None of types that it lacks."""
        found = TYPES.get(self.type)
        return None if found is None else np.dtype(found)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file.

    Attributes
    ----------
    tensors : dict
        Name -> tensor, in the order of the header.
    metadata : dict
        Texts by name.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def read_header(source: Source) -> Header:
    """Return the header of a file.

    Raises
    ------
    FormatError
        It is not one: tensors must lie in the file, back to back, each as long as its shape says.
    LimitError
        It has more than 100,000,000 bytes.
    """

    def bad(reason: str) -> FormatError:
        return FormatError(source.path, NAME, reason, at=LENGTH_NBYTES)

    if source.nbytes < LENGTH_NBYTES:
        raise TruncatedError(source.path, NAME, "it ends in the length of the header", at=0)
    nbytes = int.from_bytes(source.read(0, LENGTH_NBYTES), "little")
    if nbytes > source.nbytes - LENGTH_NBYTES:
        reason = f"a header of {nbytes} bytes, {source.nbytes - LENGTH_NBYTES} are left"
        raise TruncatedError(source.path, NAME, reason, at=0)
    if nbytes > MOST_HEADER_NBYTES:
        raise LimitError(
            f"{source.path}: {NAME}: a header of {nbytes} bytes, more than {MOST_HEADER_NBYTES}"
        )
    try:
        text = source.read(LENGTH_NBYTES, nbytes).decode()
        found = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as e:
        raise bad(f"the header is not JSON: {e}") from e
    if not isinstance(found, dict) or not text.startswith("{"):
        raise bad("the header is not a JSON object")
    metadata = found.pop(ABOUT, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise bad(f"{ABOUT} is not an object of texts")
    begin = LENGTH_NBYTES + nbytes
    tensors = {name: _tensor(name, stated, begin, bad) for name, stated in found.items()}
    at = begin
    for one in sorted(tensors.values(), key=lambda t: (t.at, t.nbytes)):
        if one.at != at:
            raise bad(f"tensor {one.name!r} begins at byte {one.at}, {at} expected")
        at += one.nbytes
    if at != source.nbytes:
        kind = TruncatedError if at > source.nbytes else FormatError
        raise kind(source.path, NAME, f"tensors end at byte {at}, the file at {source.nbytes}")
    return Header(tensors, metadata)


def _tensor(name: str, stated: Any, begin: int, bad: Any) -> Tensor:
    if not isinstance(stated, dict) or stated.keys() != {"dtype", "shape", "data_offsets"}:
        raise bad(f"tensor {name!r}: dtype, shape and data_offsets expected")
    kind, shape, place = stated["dtype"], stated["shape"], stated["data_offsets"]
    if not isinstance(kind, str) or (kind not in TYPES and kind not in OTHER_TYPES):
        raise UnsupportedError(f"{bad('').path}: {NAME}: tensor {name!r} has the type {kind!r}")
    for numbers in (shape, place):
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise bad(f"tensor {name!r}: lists of whole numbers expected, got {numbers!r:.60}")
    if len(shape) > MOST_DIMS or len(place) != 2:
        raise bad(f"tensor {name!r}: {len(shape)} dimensions, {len(place)} offsets")
    itemsize = OTHER_TYPES.get(kind) or np.dtype(TYPES[kind]).itemsize
    want = math.prod(shape) * itemsize
    if place[1] - place[0] != want:
        raise bad(f"tensor {name!r}: {shape} of {kind} takes {want} bytes, {place} are stated")
    if want == 0 and shape and shape[0] > MOST_EMPTY:
        raise bad(f"tensor {name!r}: {shape[0]} rows without numbers")
    return Tensor(name, kind, tuple(shape), begin + place[0], want)
