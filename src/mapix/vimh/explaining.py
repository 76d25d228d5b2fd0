"""The bytes of a VIMH record, named."""

from __future__ import annotations

from mapix.byte_ranges import ByteRange, Walk
from mapix.vimh.gatherer import Gatherer

__all__ = ["byte_ranges"]

SPEC_HEAD_NBYTES = 14  # of the dialect whose headers have a spec range


def byte_ranges(file: Gatherer, row: int) -> list[ByteRange]:
    """Return header, labels and pixels of a record; of a pickle the pixels alone."""
    record = file.record(row)
    h, w, c = record.shape
    walk = Walk(file.source, record.offset)
    if file.fixed_nbytes:
        walk.numbers("<H", "height", "width", "channels")
        if file.index.head_nbytes == SPEC_HEAD_NBYTES:
            walk.numbers("<f", "spec_min", "spec_max")
        (n,) = walk.numbers("B", "number of labels")
        raw = file.source.read(walk.at, 2 * int(n)) if n else b""
        for number, code in zip(raw[::2], raw[1::2], strict=True):
            parameter = file.parameters.by_id(number)
            value = float(parameter.dequantise(code))
            walk.take(parameter.name, "label", 2, f"id {number}, code {code}: {value:g}")
    else:
        walk = Walk(file.pixels, record.offset)
    order = "rows of (column, channel)" if file.interleaved else "one plane per channel"
    strides = (w * c, c, 1) if file.interleaved else (w, 1, h * w)
    walk.take("pixels", "pixels", h * w * c, f"{h} x {w} x {c} of uint8, {order}", strides)
    return walk.found
