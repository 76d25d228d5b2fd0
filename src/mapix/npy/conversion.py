"""Writing ``.npy`` and ``.npz`` files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from mapix.conversion.stream import Stream, nameable
from mapix.conversion.target import Count, Sink, Target
from mapix.store import NewWhole

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Npy", "Npz"]


def _head(out: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write the header of an array as ``.npy`` has it."""
    about = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(out, about)


class Npy(Target):
    """All records as one array: the numbers alone."""

    endings = (".npy",)

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        return set()

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        (stream,) = streams.values()
        stream.one_shape("an array")
        return []

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        (stream,) = streams.values()
        with NewWhole(path) as out:
            _head(Sink(out.file), stream.dtype, (stream.n, *stream.one_shape("an array")))
            for block in stream.blocks(True):
                for run in block.runs:
                    out.write(_raw(run))
                count(len(block))


def _raw(run: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(run).reshape(-1).view(np.uint8).data


class Npz(Target):
    """Everything, as named arrays: images, labels, and what else there is.

    ``images`` (n, ...), or, of mixed sizes, all pixels back to back with ``shapes`` (n, 3) and
    ``offsets`` (n + 1,); for each label ``label/NAME``, its values or codes, and ``present/NAME``;
    for those with a range ``range/NAME``: min, max, step; ``spec_range`` (n, 2); and the members
    ``info.json`` and ``records.jsonl``, which numpy gives as bytes.
    """

    endings = (".npz",)

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        labels = {label.key for label in stream.labels}
        return {"spec_range", "info", "fixed", "names", "facts", *labels}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        for stream in streams.values():
            nameable([label.name for label in stream.labels], stream.path)
        return []

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        import json
        import zipfile

        (stream,) = streams.values()
        with NewWhole(path) as out, zipfile.ZipFile(Sink(out.file), "w") as archive:
            self._images(archive, stream, count)
            for label in stream.labels:
                values, present = label.read()
                _member(archive, f"label/{label.name}", values)
                _member(archive, f"present/{label.name}", present)
                if label.parameter is not None:
                    p = label.parameter
                    _member(archive, f"range/{label.name}", np.array([p.min, p.max, p.step]))
                if label.classes:
                    _member(archive, f"classes/{label.name}", np.array(label.classes))
            if "spec_range" in stream.besides:
                head = np.dtype(np.float32), (stream.n, 2)
                _stream_member(archive, "spec_range", head, stream.ranges())
            if stream.info:
                with archive.open("info.json", "w") as member:  # as all members, without a date
                    member.write(json.dumps(dict(stream.info), indent=4).encode("ascii"))
            if {"names", "facts"} & set(stream.besides):
                with archive.open("records.jsonl", "w", force_zip64=True) as member:
                    for line in stream.lines():
                        member.write(json.dumps(line).encode("ascii") + b"\n")

    def _images(self, archive: Any, stream: Stream, count: Count) -> None:
        shapes: list[NDArray[np.int64]] = []

        def whole() -> Iterator[NDArray[Any]]:
            for block in stream.blocks(True):
                if stream.shape is None:
                    shapes.append(block.shapes())
                yield from block.runs if stream.shape is not None else [block.joined()]
                count(len(block))

        if stream.shape is not None:
            head = stream.dtype, (stream.n, *stream.shape)
            _stream_member(archive, "images", head, whole())
            return
        _stream_member(archive, "images", (stream.dtype, (stream.size,)), whole())
        sizes = np.concatenate(shapes)
        _member(archive, "shapes", sizes)
        _member(archive, "offsets", np.concatenate([[0], np.cumsum(sizes.prod(axis=1))]))


def _member(archive: Any, name: str, array: NDArray[Any]) -> None:
    _stream_member(archive, name, (array.dtype, array.shape), iter([array]))


def _stream_member(archive: Any, name: str, head: Any, pieces: Iterator[Any]) -> None:
    with archive.open(name + ".npy", "w", force_zip64=True) as member:
        _head(member, *head)
        for piece in pieces:
            member.write(_raw(piece))
