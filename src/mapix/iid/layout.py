"""IID: segmentation archives, one file of five sections (FORMATS: IID).

All integers are little-endian.

========  =====================================================================================
at        what
========  =====================================================================================
0         u32 version, u32 rformat (0 in all known files of version 0)
8         five times u32 offset, u32 length: lut, iids, meta, groups, segs; from the file's start
lut       20 bytes a segment: u32 key (its number), name offset and length in iids, segment offset
          and length in segs
iids      u32 key, u32 domain length, u32 iid length, domain, iid
meta      JSON, an object
groups    u32 length, JSON ``[{"name", "offset", "length"}, ...]``, then u32 keys; offsets count
          from behind the JSON, in bytes
segs      u32 key, u16 minr, minc, maxr, maxc, u32 area; then regions: u32 length (all of it), u16
          box, ceil(h w / 8) bytes of mask, row after row, the first pixel in the highest bit
========  =====================================================================================

The original ignores bytes behind ``segs``: there an index may lie.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mapix import _native
from mapix.errors import FormatError, LimitError
from mapix.source import Source

__all__ = [
    "HEAD",
    "JSON_LIMIT",
    "NAME",
    "Layout",
    "Place",
    "check_sharing",
    "image_size",
    "read_groups",
    "read_layout",
    "read_meta",
]

NAME = "iid"
HEAD = struct.Struct("<12I")
SECTIONS = ("lut", "iids", "meta", "groups", "segs")
ROW_NBYTES = 20
JSON_LIMIT = 16 << 20  # bytes of JSON that are read at most
SHARING = 4  # times a section that what lies in it may take together: hostile places share bytes
LEAST_SHARED = 1 << 20

Place = tuple[int, int]
"""Offset and length in bytes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The header of an archive: where its sections are, all within the file."""

    version: int
    rformat: int
    lut: Place
    iids: Place
    meta: Place
    groups: Place
    segs: Place

    @property
    def nsegments(self) -> int:
        """Rows of the lookup table."""
        return self.lut[1] // ROW_NBYTES

    @property
    def end(self) -> int:
        """Byte behind the last section."""
        places = (self.lut, self.iids, self.meta, self.groups, self.segs)
        return max(at + nbytes for at, nbytes in places)


def read_layout(source: Source) -> Layout:
    """The header of a file.

    Raises
    ------
    FormatError
        It is too short, or a section does not lie in the file.
    """
    if source.nbytes < HEAD.size:
        reason = f"a header of {HEAD.size} bytes expected, the file has {source.nbytes}"
        raise FormatError(source.path, NAME, reason, at=0)
    fields = HEAD.unpack(_native.copy(source.mapping, 0, HEAD.size, NAME))
    places = dict(zip(SECTIONS, zip(fields[2::2], fields[3::2], strict=True), strict=True))
    for k, (name, (at, nbytes)) in enumerate(places.items()):
        if nbytes and (at < HEAD.size or at + nbytes > source.nbytes):
            reason = f"section {name} is bytes {at} to {at + nbytes}, the file has {source.nbytes}"
            raise FormatError(source.path, NAME, reason, at=8 + 8 * k)
        if not nbytes:
            places[name] = (min(at, source.nbytes), 0)
    if places["lut"][1] % ROW_NBYTES:
        reason = f"a lookup table of {places['lut'][1]} bytes is not rows of {ROW_NBYTES}"
        raise FormatError(source.path, NAME, reason, at=12)
    return Layout(fields[0], fields[1], **places)


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
    raw = bytes(_native.copy(source.mapping, at, nbytes, NAME))
    try:
        return json.loads(
            raw, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
    except (ValueError, RecursionError) as e:
        raise FormatError(source.path, NAME, f"{what} is no JSON: {e}", at=at) from e


def check_sharing(path: str, what: str, total: int, section: int) -> None:
    """Raise LimitError when things of ``total`` bytes lie in a section that is much smaller."""
    if total > max(SHARING * section, LEAST_SHARED):
        raise LimitError(
            f"{path}: iid: {what} of {total} bytes in a section of {section}: they share bytes, "
            f"more than {SHARING} times over"
        )


def read_meta(source: Source, layout: Layout) -> dict[str, Any]:
    """The metadata; empty where the section is."""
    at, nbytes = layout.meta
    found = _json(source, at, nbytes, "meta") if nbytes else {}
    if not isinstance(found, dict):
        raise FormatError(source.path, NAME, "meta is not an object", at=at)
    return found


def image_size(meta: Mapping[str, Any]) -> tuple[int, int] | None:
    """(h, w) of the image as metadata states it, ``{"image": {"width": w, "height": h}}``.

    None where it does not, or where these are not whole numbers of 1..65535.
    """
    image = meta.get("image")
    if not isinstance(image, Mapping):
        return None
    h, w = image.get("height"), image.get("width")
    if type(h) is not int or type(w) is not int or not (0 < h <= 65535 and 0 < w <= 65535):
        return None
    return h, w


def read_groups(source: Source, layout: Layout) -> dict[str, Place]:
    """Name -> byte of the first key in the file, and how many keys; in the file's order.

    Raises
    ------
    FormatError
        The JSON is odd, a name comes twice, or keys do not lie in the section.
    LimitError
        There is too much JSON, or groups share their keys' bytes, more than 4 times over.
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
    room = nbytes - 4 - length
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
        if offset < 0 or size < 0 or size % 4 or offset > room or size > room - offset:
            raise bad(f"{name!r}: bytes {offset} to {offset + size} of {room} bytes of keys")
        found[name] = (first + offset, size // 4)
    check_sharing(source.path, "groups", sum(4 * n for _, n in found.values()), nbytes)
    return found
