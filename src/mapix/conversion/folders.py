"""From image folders, and to them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.conversion.stream import Block, Label, Stream, encodable, meant, pictures, starts
from mapix.conversion.target import Count, Target
from mapix.folder import ImageFolder, Record
from mapix.folder.batching import Team
from mapix.folder.decoding import MODES, shape_of
from mapix.folder.writer import Writer
from mapix.formats.folder import file_names

__all__ = ["Folder", "stream_of"]

CATEGORY = "category"
CHUNK = 256  # records looked at side by side


def stream_of(ds: ImageFolder, images: Mapping[str, Any]) -> Stream:
    """The records of an image folder.

    Parameters
    ----------
    ds : ImageFolder
        Or a part of one.
    images : mapping
        Options of ``ds.batch`` that say what becomes of pictures of other sizes: ``size``, ``fit``,
        ``mode``, ``resample``, ``draft``; and ``threads``, that decode.
    """
    seen = _Seen(ds, images)
    category = seen.label()
    dtype = np.result_type(*seen.types) if seen.types else np.dtype(np.uint8)
    found = Stream(
        ds.path,
        len(ds),
        dtype,
        seen.shape,
        seen.size,
        "HWC",
        lambda c_order=False: (
            _block(ds, rows, images, category, dtype) for rows in starts(len(ds), seen.largest)
        ),
        [category] if category is not None else [],
    )
    found.lines = lambda: (
        {"file_name": r.file_name, **facts_of(r, category)} for r in (ds[k] for k in range(len(ds)))
    )
    found.besides["names"] = "file names"
    said = sorted(seen.keys - ({"categories"} if category is not None else set()))
    if said:
        found.besides["facts"] = f"what the lines say: {', '.join(said)}"
    return found


class _Seen:
    """What a pass over all lines, and over the headers of all pictures, has found."""

    def __init__(self, ds: ImageFolder, images: Mapping[str, Any]) -> None:
        self.keys: set[str] = set()
        self.types: set[np.dtype[Any]] = set()
        self.size = 0  # numbers of all pictures
        self._shapes: set[tuple[int, int, int]] = set()
        self._names: dict[str, int] = {}
        self._kinds: set[type] = set()
        self._one_each = True
        self._values = np.full(len(ds), -1, np.int32)  # the label, names by first occurrence
        how = dict(images)
        with Team(how.pop("threads", 1)) as team:
            for at in range(0, len(ds), CHUNK):
                records = [ds[k] for k in range(at, min(at + CHUNK, len(ds)))]
                for k, (shape, dtype) in enumerate(team.run(_look, records)):
                    self._shapes.add(shape)
                    self.size += math.prod(shape)
                    self.types.add(dtype)
                    self._note(at + k, facts_of(records[k]))
        size, mode = how.get("size"), how.get("mode")
        if size is not None:
            c = MODES[mode] if mode else max((s[2] for s in self._shapes), default=3)
            self._shapes, self.types = {(*size, c)}, {np.dtype(np.uint8)}
            self.size = len(ds) * math.prod((*size, c))
        elif mode:  # then all are alike, or the batches say that they are not
            self._shapes = {(h, w, MODES[mode]) for h, w, _ in self._shapes}
            self.size = len(ds) * math.prod(self.shape or (0,))
            self.types = {np.dtype(np.uint8)}

    def _note(self, row: int, facts: dict[str, Any]) -> None:
        self.keys |= facts.keys()
        given = facts.get("categories")
        if given is None:
            return
        if not isinstance(given, list) or len(given) > 1:
            self._one_each = False
        elif given:
            self._kinds.add(type(given[0]))
            self._values[row] = self._names.setdefault(str(given[0]), len(self._names))

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """The one shape of all; None where they differ."""
        return next(iter(self._shapes), (0, 0, 0)) if len(self._shapes) < 2 else None

    @property
    def largest(self) -> int:
        """Bytes of the largest picture, about."""
        return max(map(math.prod, self._shapes), default=1)

    def label(self) -> Label | None:
        """Categories as a label, where every picture has one at most, all of one kind."""
        if not self._names or not self._one_each or len(self._kinds) > 1:
            return None
        known = sorted(self._names)
        order = np.empty(len(known) + 1, np.int32)
        order[[self._names[name] for name in known]] = np.arange(len(known))
        order[-1] = -1  # what -1, no category, leads to
        values = order[self._values]
        return Label(CATEGORY, lambda: (values, values >= 0), classes=tuple(known))


def _look(record: Record) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    return shape_of(record.read(), record)


def facts_of(record: Record, category: Label | None = None) -> dict[str, Any]:
    """What a line says besides the names of files, and besides the label if there is one."""
    line = record.metadata
    without = {*file_names(line), *(("categories",) if category is not None else ())}
    return {k: v for k, v in line.items() if v is not None and k not in without}


def _block(
    ds: ImageFolder,
    rows: NDArray[np.int64],
    images: Mapping[str, Any],
    category: Label | None,
    dtype: np.dtype[Any],
) -> Block:
    records: list[Record] = [ds[int(row)] for row in rows]
    how = dict(images)
    threads = how.pop("threads", 1)
    if how:
        runs = [ds.batch(rows, threads=threads, **how).images]
    else:
        with Team(threads) as team:
            arrays = team.run(lambda r: r.image.astype(dtype, copy=False), records)
        runs = list(_runs(arrays))
    facts = [facts_of(r, category) for r in records]
    block = Block(runs, names=[r.file_name for r in records], facts=facts)
    if category is not None:
        values, present = category.whole()
        block.values = {CATEGORY: np.maximum(values[rows], 0)}
        block.present = {CATEGORY: present[rows]}
    return block


def _runs(arrays: Sequence[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Pictures of one shape that follow one another, as one array."""
    begin = 0
    for k in range(1, len(arrays) + 1):
        if k == len(arrays) or arrays[k].shape != arrays[begin].shape:
            yield np.stack(arrays[begin:k])
            begin = k


class Folder(Target):
    """An image folder: PNG files, and a line for each with its labels.

    A label becomes a key of its name (a class number, or a physical value), beside ``NAME_code``
    where it has codes; spec ranges ``spec_min`` and ``spec_max``.
    """

    splits = ("train", "test", "validation")

    def lost(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        found: list[str] = []
        for stream in streams.values():
            encodable(stream)
            found += stream.lost("names", "facts", "spec_range")
            ranges = [lb.name for lb in stream.labels if lb.parameter is not None]
            if ranges:
                found.append(f"ranges of labels {', '.join(ranges)}")
        return found

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        with Writer(path) as out:
            for split, stream in streams.items():
                part = split if len(streams) > 1 else None
                width = len(str(stream.n))
                number = 0
                for block in stream.blocks():
                    for line, image in zip(
                        _lines(block, stream), _images(block, stream), strict=True
                    ):
                        name = line.pop("file_name", None) or f"{number:0{width}}.png"
                        name = name if name.lower().endswith(".png") else f"{name}.png"
                        out.append(name, np.ascontiguousarray(image), split=part, **line)
                        number += 1
                    count(len(block))


def _images(block: Block, stream: Stream) -> Iterator[NDArray[np.uint8]]:
    for run in block.runs:
        yield from pictures(stream, run)


def _lines(block: Block, stream: Stream) -> Iterator[dict[str, Any]]:
    columns: dict[str, list[Any]] = {}
    for label in stream.labels:
        values, present = block.values[label.name], block.present[label.name].tolist()
        told = meant(label, values).tolist()
        if label.classes:
            columns["categories"] = [
                [label.classes[v]] if p else None for v, p in zip(told, present, strict=True)
            ]
            continue
        columns[label.name] = [v if p else None for v, p in zip(told, present, strict=True)]
        if label.parameter is not None:
            codes = zip(values.tolist(), present, strict=True)
            columns[f"{label.name}_code"] = [v if p else None for v, p in codes]
    if block.spec_range is not None and "spec_range" in stream.besides:
        columns["spec_min"], columns["spec_max"] = block.spec_range.T.tolist()
    if block.names is not None:
        columns["file_name"] = list(block.names)
    for k in range(len(block)):
        line = dict(block.facts[k]) if block.facts is not None else {}
        line |= {name: column[k] for name, column in columns.items() if column[k] is not None}
        yield line
