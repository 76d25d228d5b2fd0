"""Conversion to TFRecord files of ``tf.train.Example`` messages."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.conversion.stream import (
    Stream,
    classes_of,
    encodable,
    facts_of,
    kept_by_facts,
    lost_by_facts,
    nameable,
    pictures,
)
from mapix.conversion.target import Count, Target
from mapix.drawing import png
from mapix.store import NewWhole
from mapix.tfrecord.example import BYTES, DELIMITED, INTEGERS
from mapix.tfrecord.layout import masked

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TFRecord"]


class TFRecord(Target):
    """One TFRecord file, an Example per record, as TensorFlow's datasets of images have them.

    Features: ``image/encoded`` (PNG), ``image/format``, ``image/height``, ``image/width``,
    ``image/channels``; ``image/class/label`` and ``image/class/text``, where there is one label and
    it is a class; ``image/filename``; and ``facts``, everything else as JSON.
    """

    endings = (".tfrecord", ".tfrecords", ".tfrec")

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        return kept_by_facts(stream)

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        (stream,) = streams.values()
        encodable(stream)
        names = [label.name for label in stream.labels]
        nameable(names, stream.path, ("file_name", "spec_min", "spec_max"))
        return lost_by_facts(stream)

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        (stream,) = streams.values()
        with NewWhole(path) as out:
            for block in stream.blocks():
                known = zip(classes_of(block, stream), facts_of(block, stream), strict=True)
                for run in block.runs:
                    for image in pictures(stream, run):
                        number, facts = next(known)
                        out.write(_record(_example(_features(stream, image, number, facts))))
                count(len(block))


def _features(
    stream: Stream, image: NDArray[Any], number: int | None, facts: dict[str, Any]
) -> dict[str, bytes | int]:
    h, w, channels = image.shape
    found: dict[str, bytes | int] = {
        "image/encoded": png(np.ascontiguousarray(image)),
        "image/format": b"png",
        "image/height": h,
        "image/width": w,
        "image/channels": channels,
    }
    if number is not None:
        found["image/class/label"] = number
        if stream.labels[0].classes:
            found["image/class/text"] = stream.labels[0].classes[number].encode()
    if "file_name" in facts:
        found["image/filename"] = facts.pop("file_name").encode()
    if facts:
        found["facts"] = json.dumps(facts).encode()
    return found


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join(
        (length, struct.pack("<I", masked(length)), data, struct.pack("<I", masked(data)))
    )


def _example(features: Mapping[str, bytes | int]) -> bytes:
    entries = (
        _field(1, _field(1, name.encode()) + _field(2, _feature(features[name])))
        for name in sorted(features)
    )
    return _field(1, b"".join(entries))


def _feature(value: bytes | int) -> bytes:
    if isinstance(value, bytes):
        return _field(BYTES, _field(1, value))
    return _field(INTEGERS, _field(1, _varint(value)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | DELIMITED) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
