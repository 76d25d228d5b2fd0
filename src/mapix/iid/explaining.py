"""The bytes of a segment, named."""

from __future__ import annotations

from mapix.byte_ranges import ByteRange, Walk
from mapix.iid.layout import REGION_HEAD, ROW_NBYTES
from mapix.iid.segment_file import SegmentFile

__all__ = ["byte_ranges"]

MOST_REGIONS = 4096  # of a segment that are named
SIDES = ("minr", "minc", "maxr", "maxc")


def byte_ranges(file: SegmentFile, row: int) -> list[ByteRange]:
    """Return the row of the lookup table, the name, the header and the regions of a segment."""
    layout, source = file.layout, file.source
    (_, area), regions = file.head(row), file.regions_at(row)  # checks row and segment
    domain, iid = file.name(row)
    walk = Walk(source, layout.lut[0] + row * ROW_NBYTES)
    places = walk.numbers(
        "<I", "key", "offset of the name", "length of the name", "offset", "length"
    )
    walk.at = layout.iids[0] + int(places[1])
    walk.numbers("<I", "key", "length of the domain", "length of the iid")
    walk.string("domain", len(domain))
    walk.string("iid", len(iid))
    walk.at = layout.segs[0] + int(places[3])
    key, area_key = ("area", "key") if _swapped(file, walk.at, row, area) else ("key", "area")
    walk.numbers("<I", key)
    walk.numbers("<H", *SIDES)
    walk.numbers("<I", area_key)
    end = sum(regions)
    for k in range(MOST_REGIONS):
        if walk.at + REGION_HEAD.size > end:
            break
        (nbytes,) = walk.numbers("<I", f"length of region {k}")
        minr, minc, maxr, maxc = walk.numbers("<H", *(f"{side} of region {k}" for side in SIDES))
        packed = min(int(nbytes) - REGION_HEAD.size, end - walk.at)
        if packed < 0:
            break
        shape = f"{int(maxr) - int(minr)} x {int(maxc) - int(minc)}"
        walk.take(f"mask of region {k}", "pixels", packed, f"{shape}, one bit per pixel")
    if walk.at < end:
        walk.take("more regions", "data", end - walk.at)
    return walk.found


def _swapped(file: SegmentFile, at: int, row: int, area: int) -> bool:
    """Return whether area and key are in each other's places, as 2018's writer put them."""
    first = int.from_bytes(file.source.read(at, 4), "little")
    return first != row and first == area
