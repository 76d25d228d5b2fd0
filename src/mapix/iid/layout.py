"""The bytes of IID archives: header, sections, and limits of what a file may ask for.

``docs/iid.md`` has the table of all fields.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix import _native
from mapix.errors import FormatError, LimitError

if TYPE_CHECKING:
    from mapix.source import Source

__all__ = [
    "HEAD",
    "JSON_LIMIT",
    "LEAST_NBYTES",
    "LUT_ROW",
    "MOST_SIDE",
    "NAME",
    "NAME_HEAD",
    "PIXELS_PER_BYTE",
    "REGION_HEAD",
    "ROW_NBYTES",
    "SEGMENT_HEAD",
    "Layout",
    "Place",
    "check_pixels",
    "check_sharing",
    "image_size",
    "read_groups",
    "read_layout",
    "read_meta",
]

NAME = "iid"
HEAD = struct.Struct("<12I")
SECTIONS = ("lut", "iids", "meta", "groups", "segs")
LUT_ROW = np.dtype(
    [("key", "<u4"), ("name_at", "<u4"), ("name_nbytes", "<u4"), ("at", "<u4"), ("nbytes", "<u4")]
)
ROW_NBYTES = LUT_ROW.itemsize  # of the lookup table
NAME_HEAD = struct.Struct("<III")
SEGMENT_HEAD = struct.Struct("<I4HI")
REGION_HEAD = struct.Struct("<I4H")
MOST_SIDE = 65535  # the last row or column of a box, and sides of an image

JSON_LIMIT = 16 << 20  # bytes of JSON that are read
SHARING = 4  # a hostile file has many names at the same bytes: most bytes of all, per section byte
PIXELS_PER_BYTE = 32  # pixels that a number in a file may ask for, per byte of the file
LEAST_NBYTES = 1 << 20  # smaller files and sections count as this large

Place = tuple[int, int]
"""Offset and length in bytes."""


class Layout:
    """The header of an archive: the places of its sections, all within the file."""

    __slots__ = ("groups", "iids", "lut", "meta", "rformat", "segs", "version")

    def __init__(
        self,
        version: int,
        rformat: int,
        lut: Place,
        iids: Place,
        meta: Place,
        groups: Place,
        segs: Place,
    ) -> None:
        self.version, self.rformat = version, rformat
        self.lut, self.iids, self.meta, self.groups, self.segs = lut, iids, meta, groups, segs

    @property
    def nsegments(self) -> int:
        """Number of rows of the lookup table."""
        return self.lut[1] // ROW_NBYTES

    @property
    def end(self) -> int:
        """The byte after the last section."""
        places = (self.lut, self.iids, self.meta, self.groups, self.segs)
        return max(at + nbytes for at, nbytes in places)


def read_layout(source: Source) -> Layout:
    """Return the header of a file.

    Raises
    ------
    FormatError
        It is too short, or a section does not lie in the file.
    """
    if source.nbytes < HEAD.size:
        reason = f"a header of {HEAD.size} bytes expected, the file has {source.nbytes}"
        raise FormatError(source.path, NAME, reason, at=0)
    fields = HEAD.unpack(_native.copy(source.mapping, 0, HEAD.size, NAME))
    places: list[Place] = []
    size = source.nbytes
    for k in range(2, len(fields), 2):
        at, nbytes = fields[k], fields[k + 1]
        if nbytes and (at < HEAD.size or at + nbytes > size):
            name = SECTIONS[len(places)]
            reason = f"section {name} is bytes {at} to {at + nbytes}, the file has {size}"
            raise FormatError(source.path, NAME, reason, at=4 * k)
        places.append((at, nbytes) if nbytes else (min(at, size), 0))
    if places[0][1] % ROW_NBYTES:
        reason = f"a lookup table of {places[0][1]} bytes is not rows of {ROW_NBYTES}"
        raise FormatError(source.path, NAME, reason, at=12)
    return Layout(fields[0], fields[1], *places)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(a for a, b in itertools.pairwise(names) if a == b)
        raise ValueError(f"{twice[:60]!r} comes twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:60]} is not a finite number")
    return number


def _json(source: Source, at: int, nbytes: int, what: str) -> Any:
    if nbytes > JSON_LIMIT:
        raise LimitError(f"{source.path}: {what} of {nbytes} bytes, more than {JSON_LIMIT}")
    import json  # here: names, boxes and masks do not need it

    raw = bytes(_native.copy(source.mapping, at, nbytes, NAME))
    try:
        return json.loads(
            raw, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
    except (ValueError, RecursionError) as e:
        raise FormatError(source.path, NAME, f"{what} is not JSON: {e}", at=at) from e


def check_sharing(path: str, what: str, total: int, section: int) -> None:
    """Refuse ``total`` bytes in a section that is much smaller.

    Raises
    ------
    LimitError
        They are more than 4 times the section.
    """
    if total > max(SHARING * section, LEAST_NBYTES):
        raise LimitError(
            f"{path}: iid: {what} of {total} bytes in a section of {section}: they share bytes, "
            f"more than {SHARING} times over"
        )


def check_pixels(
    path: str, nbytes: int, npixels: int, what: str, per_byte: int = PIXELS_PER_BYTE
) -> None:
    """Refuse pixels whose count is only stated in the file, of ``nbytes`` bytes.

    Raises
    ------
    LimitError
        They are more than ``per_byte`` per byte of the file, or per byte of 1 MiB if it is smaller.
    """
    most = per_byte * max(nbytes, LEAST_NBYTES)
    if npixels > most:
        raise LimitError(
            f"{path}: {what} of {npixels} pixels from an archive of {nbytes} bytes, "
            f"more than {most}: pass bbox= or out= if that many are wanted"
        )


def read_meta(source: Source, layout: Layout) -> dict[str, Any]:
    """Return the metadata, {} if the section is empty."""
    at, nbytes = layout.meta
    found = _json(source, at, nbytes, "meta") if nbytes else {}
    if not isinstance(found, dict):
        raise FormatError(source.path, NAME, "meta is not an object", at=at)
    return found


def image_size(meta: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (h, w) of the image from metadata ``{"image": {"width": w, "height": h}}``.

    None if the metadata does not state it, or not as integers in 1..65535.
    """
    image = meta.get("image")
    if not isinstance(image, Mapping):
        return None
    h, w = image.get("height"), image.get("width")
    if type(h) is not int or type(w) is not int or not (0 < h <= MOST_SIDE and 0 < w <= MOST_SIDE):
        return None
    return h, w


def read_groups(source: Source, layout: Layout) -> dict[str, Place]:
    """Return name -> byte of the first key, and number of keys, in the order of the file.

    Raises
    ------
    FormatError
        The JSON is not a list of groups, a name comes twice, or keys are not in the section.
    LimitError
        The JSON is too long, or groups share the bytes of their keys, more than 4 times over.
    """
    at, nbytes = layout.groups
    if not nbytes:
        return {}

    def bad(reason: str) -> FormatError:
        return FormatError(source.path, NAME, f"groups: {reason}", at=at)

    if nbytes < 4:
        raise bad(f"a length of 4 bytes expected, {nbytes} bytes found")
    length = int.from_bytes(_native.copy(source.mapping, at, 4, NAME), "little")
    if length > nbytes - 4:
        raise bad(f"JSON of {length} bytes in a section of {nbytes}")
    listed = _json(source, at + 4, length, "groups")
    first = at + 4 + length
    available = nbytes - 4 - length
    if not isinstance(listed, list):
        raise bad("not a list")
    found: dict[str, Place] = {}
    for entry in listed:
        name, offset, size = (
            (entry.get(k) for k in ("name", "offset", "length"))
            if isinstance(entry, dict)
            else (None, None, None)
        )
        if not isinstance(name, str) or type(offset) is not int or type(size) is not int:
            raise bad(f"an entry that is not name, offset, length: {str(entry)[:80]}")
        if name in found:
            raise bad(f"{name!r} comes twice")
        if offset < 0 or size < 0 or size % 4 or offset > available or size > available - offset:
            raise bad(f"{name!r}: bytes {offset} to {offset + size} of {available} bytes of keys")
        found[name] = (first + offset, size // 4)
    check_sharing(source.path, "groups", sum(4 * n for _, n in found.values()), nbytes)
    return found
