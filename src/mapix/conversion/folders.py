"""From image folders, and to them."""

from __future__ import annotations

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
USUAL = {"caption", "objects", "categories"}


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
    how = dict(images)
    with Team(how.pop("threads", 1)) as team:
        found = team.run(_look, list(ds))
    shapes, types = [shape for shape, _ in found], {dtype for _, dtype in found}
    facts, category = _facts([r.metadata for r in ds])
    if how.get("size") is not None:
        c = MODES[how["mode"]] if how.get("mode") else max((s[2] for s in shapes), default=3)
        shapes = [(*how["size"], c)] * len(ds)
        types = {np.dtype(np.uint8)}
    elif how.get("mode"):
        shapes = [(h, w, MODES[how["mode"]]) for h, w, _ in shapes]
    one = shapes[0] if len(set(shapes)) == 1 else (0, 0, 0) if not shapes else None
    largest = max((int(np.prod(s)) for s in shapes), default=1)
    stream = Stream(
        ds.path,
        len(ds),
        np.result_type(*types) if types else np.dtype(np.uint8),
        one,
        "HWC",
        lambda c_order=False: (
            _block(ds, rows, images, facts, category) for rows in starts(len(ds), largest)
        ),
        [category] if category is not None else [],
    )
    stream.besides["names"] = "file names"
    said = sorted({key for fact in facts for key in fact})
    if said:
        stream.besides["facts"] = f"what the lines say: {', '.join(said)}"
    return stream


def _look(record: Record) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    return shape_of(record.read(), record)


def _facts(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Label | None]:
    """What lines say besides names of files, and one category each as a label."""
    facts = [
        {k: v for k, v in line.items() if v is not None and k not in file_names(line)}
        for line in lines
    ]
    given = [fact.get("categories") for fact in facts]
    plain = all(g is None or (isinstance(g, list) and len(g) <= 1) for g in given)
    names = [str(g[0]) if plain and g else None for g in given]
    known = sorted({name for name in names if name is not None})
    alike = len({type(g[0]) for g in given if plain and g}) <= 1
    if not known or not alike:
        return facts, None
    number = {name: k for k, name in enumerate(known)}
    values = np.array([-1 if n is None else number[n] for n in names], np.int64)
    for fact in facts:
        fact.pop("categories", None)
    return facts, Label(CATEGORY, lambda: (values, values >= 0), classes=tuple(known))


def _block(
    ds: ImageFolder,
    rows: NDArray[np.int64],
    images: Mapping[str, Any],
    facts: Sequence[dict[str, Any]],
    category: Label | None,
) -> Block:
    records: list[Record] = [ds[int(row)] for row in rows]
    how = dict(images)
    threads = how.pop("threads", 1)
    if how:
        runs = [ds.batch(rows, threads=threads, **how).images]
    else:
        with Team(threads) as team:
            runs = list(_runs(team.run(lambda r: r.image, records)))
    block = Block(runs, names=[r.file_name for r in records], facts=[facts[k] for k in rows])
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
