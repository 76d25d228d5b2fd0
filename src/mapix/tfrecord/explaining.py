"""The bytes of a TFRecord, named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.byte_ranges import ByteRange, Kind, Walk
from mapix.errors import FormatError, LimitError
from mapix.tfrecord.example import places
from mapix.tfrecord.layout import CRC_NBYTES, LENGTH_NBYTES
from mapix.tfrecord.record import LABELS, Record

if TYPE_CHECKING:
    from mapix.tfrecord.open_file import OpenFile

__all__ = ["byte_ranges"]

MOST_FEATURES = 4096  # that are named


def byte_ranges(core: OpenFile, row: int) -> list[ByteRange]:
    """Return length, features and checksums of a record; of another message its data in one."""
    nbytes, begin = int(core.index.sizes[row]), core.begin(row)
    walk = Walk(core.source, begin - LENGTH_NBYTES - CRC_NBYTES)
    walk.take("length", "header", LENGTH_NBYTES, str(nbytes))
    walk.take("checksum of the length", "checksum", CRC_NBYTES)
    record = Record(core, row)
    try:
        data = core.read(row)
        values = record.values(data)
        pixels = record.encoded(data) or record.raw()
        found = [] if len(values) > MOST_FEATURES else list(places(data))
    except (FormatError, LimitError) as e:
        found, values, pixels = [], {}, None
        walk.take("data", "data", nbytes, str(e))
    for name, (first, end) in found:
        if begin + first < walk.at:
            continue  # a name that comes twice
        value = values[name]
        walk.take("message", "header", begin + first - walk.at)
        kind: Kind = "label" if name in LABELS else "data"
        if pixels is not None and pixels[0] == name:
            kind = "pixels"
        walk.take(name, kind, end - first, _shown(value))
    walk.take("message" if found else "data", "data", begin + nbytes - walk.at)
    walk.take("checksum of the data", "checksum", CRC_NBYTES)
    return walk.found


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return ", ".join(map(str, value[:16].tolist()))
    return ", ".join(f"{part.end - part.begin} bytes" for part in value[:4])
