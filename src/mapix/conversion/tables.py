"""Targets of optional libraries: Arrow and Parquet files, and Hugging Face datasets."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mapix.conversion.stream import (
    BLOCK_NBYTES,
    Block,
    Label,
    Stream,
    encodable,
    has_range,
    nameable,
    pictures,
    user_values,
    writable,
)
from mapix.conversion.target import Count, Sink, Target
from mapix.drawing import png
from mapix.optional import library
from mapix.store import NewDirectory, NewWhole

__all__ = ["Arrow", "HuggingFace", "Parquet", "Table"]


def _raw(block: Block) -> Any:
    """Return the numbers of each record as bytes: a column of the block's memory."""
    pa = library("pyarrow", "arrow")
    numbers = block.joined()
    sizes = block.shapes().prod(axis=1) * numbers.itemsize
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    data = numbers.view(np.uint8)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(block), buffers)


MOST_INTEGER = 1 << 63
MOST_EXACT = 1 << 53  # of integers that float64 holds
MOST_OWN = 64  # facts that are columns of their own
KEPT = ("spec_range", "info", "fixed", "names", "facts")
FIXED = ("image", "shape", "spec_min", "spec_max", "file_name", "facts")


def _columns_of(stream: Stream) -> None:
    """Raise UnsupportedError where a column of a label would have the name of another column."""
    names: list[str] = []
    for label in stream.labels:
        names += [label.name, *([f"{label.name}_code"] if label.parameter is not None else [])]
    nameable(names, stream.path, FIXED)


class Table(Target):
    """One Arrow (IPC) or Parquet file, a row per record: see ``Parquet`` and ``Arrow``.

    Columns: ``image`` (the numbers in C order as bytes; with ``encoding="png"`` a struct of bytes
    and path, as Hugging Face's ``Image``), ``shape``, for each label its value (a class number, or
    in physical units where it has a range) and ``NAME_code``, ``spec_min`` and ``spec_max``,
    ``file_name``, texts and numbers that records have by their names, and ``facts`` (all others, as
    JSON).  The schema's metadata, key ``mapix``, has dtype, axes,
    ranges and the info JSON.

    Parameters
    ----------
    encoding : {"raw", "png"}
        Of the images.
    """

    arguments: ClassVar = {"encoding": {"choices": ("raw", "png"), "help": "of images in tables"}}
    library_name = "pyarrow"
    group_nbytes = 0  # that blocks are collected for, and written together

    def __init__(self, *, encoding: Literal["raw", "png"] = "raw") -> None:
        if encoding not in ("raw", "png"):
            raise ValueError(f"encoding must be raw or png, got {encoding!r}")
        self.encoding = encoding
        self._own_of: tuple[Stream, _Own] | None = None

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        return {*KEPT, *(label.key for label in stream.labels)}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        library(self.library_name, "arrow")
        (stream,) = streams.values()
        if self.encoding == "png":
            encodable(stream)
        _columns_of(stream)
        return []

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        pa = library("pyarrow", "arrow")
        (stream,) = streams.values()
        schema = self._schema(pa, stream)
        with NewWhole(path) as out, self.writer(pa, Sink(out.file), schema) as writer:
            waiting: list[Any] = []
            for block in stream.blocks(True):
                waiting.append(pa.table(self._columns(block, stream), schema=schema))
                nbytes = [table.nbytes for table in waiting]
                if sum(nbytes) + nbytes[-1] > self.group_nbytes:  # the next one might not fit
                    writer.write_table(pa.concat_tables(waiting))
                    waiting = []
                count(len(block))
            if waiting:
                writer.write_table(pa.concat_tables(waiting))

    def writer(self, pa: Any, sink: Sink, schema: Any) -> Any:
        """Return a writer of tables of a schema, a context manager."""
        return pa.ipc.new_file(sink, schema)

    def _schema(self, pa: Any, stream: Stream) -> Any:
        image = pa.binary()
        if self.encoding == "png":
            image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        fields = [("image", image), ("shape", pa.list_(pa.int32()))]
        for label in stream.labels:
            fields.append((label.name, pa.float64() if has_range(label) else pa.int64()))
            if label.parameter is not None:
                fields.append((label.name + "_code", pa.uint8()))
        if "spec_range" in stream.besides:
            fields += [("spec_min", pa.float32()), ("spec_max", pa.float32())]
        if "names" in stream.besides:
            fields.append(("file_name", pa.string()))
        if "facts" in stream.besides:
            own = self._own(stream)
            fields += [(name, _fact_type(pa, kind)) for name, kind in own.kinds.items()]
            fields += [("facts", pa.string())] if own.others else []
        return pa.schema(fields, metadata=self._about(stream))

    def _own(self, stream: Stream) -> _Own:
        """Return the facts that are columns of their own; boxes are beside PNG alone."""
        source = stream.source  # all files of a set have the same columns
        if self._own_of is None or self._own_of[0] is not source:
            self._own_of = source, _facts_alike(source, boxes=self.encoding == "png")
        return self._own_of[1]

    def _about(self, stream: Stream) -> dict[str, str]:
        said = {
            "dtype": stream.dtype.name,
            "axes": stream.axes,
            "labels": {lb.name: _meaning(lb) for lb in stream.labels},
            "info": dict(stream.info),
        }
        about = {"mapix": json.dumps(said)}
        if self.encoding == "png":  # for the `datasets` library
            features: dict[str, Any] = {"image": {"_type": "Image"}}
            for label in stream.labels:
                if label.classes and not has_range(label):
                    features[label.name] = {"names": list(label.classes), "_type": "ClassLabel"}
            about["huggingface"] = json.dumps({"info": {"features": features}})
        return about

    def _columns(self, block: Block, stream: Stream) -> dict[str, Any]:
        if self.encoding == "raw":
            images: Any = _raw(block)
        else:
            pngs = [png(image) for run in block.runs for image in pictures(stream, run)]
            names = block.names or [None] * len(block)  # type: ignore[list-item]
            images = [{"bytes": b, "path": n} for b, n in zip(pngs, names, strict=True)]
        columns: dict[str, Any] = {
            "image": images,
            "shape": _shapes(block),
        }
        for label in stream.labels:
            values, missing = block.values[label.name], ~block.present[label.name]
            columns[label.name] = _masked(user_values(label, values), missing)
            if label.parameter is not None:
                columns[label.name + "_code"] = _masked(values, missing)
        if block.spec_range is not None and "spec_range" in stream.besides:
            columns["spec_min"], columns["spec_max"] = block.spec_range.T
        if "names" in stream.besides:
            columns["file_name"] = block.names
        if "facts" in stream.besides:
            facts, own = block.facts or [], self._own(stream)
            columns |= {name: [f.get(name) for f in facts] for name in own.kinds}
            if own.others:
                columns["facts"] = [json.dumps(own.rest(f)) for f in facts]
        return columns


@dataclass(frozen=True, slots=True)
class _Own:
    """The facts that are columns of their own.

    Attributes
    ----------
    kinds : dict of str to str
        Name -> kind of the values: see ``_kind``.
    others : bool
        Whether records have other facts, which are JSON.
    """

    kinds: dict[str, str]
    others: bool

    def rest(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the facts that are not in columns; nulls, which a column takes for missing."""
        return {k: v for k, v in facts.items() if k not in self.kinds or v is None}


def _fact_type(pa: Any, kind: str) -> Any:
    """Return the type of a column of facts."""
    plain = {"text": pa.string, "truth": pa.bool_, "integer": pa.int64, "number": pa.float64}
    if kind in plain:
        return plain[kind]()
    names = pa.int64() if kind == "boxes of numbers" else pa.string()
    boxes = pa.list_(pa.list_(pa.float64()))
    return pa.struct([("bbox", boxes), ("categories", pa.list_(names))])


def _facts_alike(stream: Stream, *, boxes: bool) -> _Own:
    """Return the facts whose values are alike in all records that have them."""
    taken = {*FIXED, *(f"{lb.name}{end}" for lb in stream.labels for end in ("", "_code"))}
    kinds: dict[str, set[str]] = {}
    others = False
    for line in stream.lines():
        for name, value in line.items():
            if name in taken:
                others |= name != "file_name"
            elif value is None:  # of missing values JSON states which are null
                others = True
            elif name in kinds or len(kinds) < MOST_OWN:
                kinds.setdefault(name, set()).add(_kind(value))
            else:
                others = True
    own = {name: kind for name, found in kinds.items() if (kind := _common(found, boxes))}
    own = {name: kind for name, kind in own.items() if name and writable(name)}
    return _Own(own, others or len(own) < len(kinds))


def _common(kinds: set[str], boxes: bool) -> str:
    """Return the kind of a column that holds values of these kinds; empty without one."""
    if len(kinds) == 1 and kinds <= {"text", "truth", "integer", "number"}:
        return next(iter(kinds))
    if kinds == {"integer", "number"}:
        return "number"
    named = kinds - {"no boxes"}
    if not boxes or not named <= {"boxes of texts"}:  # without any box they are of texts
        return "boxes of numbers" if boxes and named == {"boxes of numbers"} else ""
    return "boxes of texts"


def _kind(value: Any) -> str:
    """Return the kind of a fact: text, a number, or boxes with as many texts or numbers only."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int):
        return "integer" if abs(value) < MOST_EXACT else "another"
    if isinstance(value, float):
        return "number"
    if not isinstance(value, dict):
        return "text" if writable(value) else "another"
    boxes, names = value.get("bbox"), value.get("categories")
    if value.keys() != {"bbox", "categories"} or not isinstance(boxes, list):
        return "another"
    if not isinstance(names, list) or len(boxes) != len(names) or not all(map(_is_box, boxes)):
        return "another"
    if not names:
        return "no boxes"
    if all(type(name) is int and abs(name) < MOST_INTEGER for name in names):
        return "boxes of numbers"
    return "boxes of texts" if all(map(writable, names)) else "another"


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(type(v) is float or (type(v) is int and abs(v) < MOST_EXACT) for v in box)
    )


def _shapes(block: Block) -> Any:
    pa = library("pyarrow", "arrow")
    sizes = block.shapes().astype(np.int32)
    offsets = np.arange(len(sizes) + 1, dtype=np.int32) * np.int32(sizes[0].size)
    return pa.ListArray.from_arrays(offsets, sizes.reshape(-1))


def _masked(values: NDArray[Any], missing: NDArray[np.bool_]) -> Any:
    pa = library("pyarrow", "arrow")
    return pa.array(np.ascontiguousarray(values), mask=np.ascontiguousarray(missing))


def _meaning(label: Label) -> dict[str, Any]:
    p = label.parameter
    if p is None:
        return {"classes": list(label.classes)}
    return {"min": p.min, "max": p.max, "step": p.step, "description": p.description}


class Arrow(Table):
    """An Arrow file (IPC)."""

    endings = (".arrow", ".feather")


class Parquet(Table):
    """A Parquet file."""

    endings = (".parquet",)
    library_name = "pyarrow.parquet"
    group_nbytes = BLOCK_NBYTES  # a row group costs readers and writers time for each column

    def writer(self, pa: Any, sink: Sink, schema: Any) -> Any:
        """See ``Table``."""
        return library(self.library_name, "arrow").ParquetWriter(
            sink, schema, use_dictionary=[f.name for f in schema if f.name != "image"]
        )


class HuggingFace(Target):
    """A dataset on disk as ``datasets.load_from_disk`` opens it; with splits a ``DatasetDict``.

    Images are PNG (``datasets.Image``), other columns those of ``Table``; labels whose classes have
    names become ``ClassLabel``.
    """

    splits = ("train", "test", "validation")

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        return {*KEPT, *(label.key for label in stream.labels)}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        library("datasets", "huggingface")
        for stream in streams.values():
            encodable(stream)
            _columns_of(stream)
        return []

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        datasets = library("datasets", "huggingface")
        with NewDirectory(path) as out:
            cache = os.path.join(out.stage, ".cache")
            made = {k: self._split(datasets, s, cache, count) for k, s in streams.items()}
            whole = datasets.DatasetDict(made) if len(made) > 1 else next(iter(made.values()))
            whole.save_to_disk(out.stage)
            shutil.rmtree(cache)
            out.adopt()

    def _split(self, datasets: Any, stream: Stream, cache: str, count: Count) -> Any:
        table = Arrow(encoding="png")

        def rows() -> Iterator[dict[str, Any]]:
            for block in stream.blocks(True):
                columns = table._columns(block, stream)
                listed = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in columns.items()}
                for values in zip(*listed.values(), strict=True):
                    yield dict(zip(listed, values, strict=True))
                count(len(block))

        made = datasets.Dataset.from_generator(
            rows, features=self._features(datasets, stream, table._own(stream)), cache_dir=cache
        )
        made.info.description = table._about(stream)["mapix"]
        return made

    def _features(self, datasets: Any, stream: Stream, own: _Own) -> Any:
        value = datasets.Value
        found = {"image": datasets.Image(), "shape": datasets.Sequence(value("int32"))}
        for label in stream.labels:
            if label.parameter is not None:
                found[f"{label.name}_code"] = value("uint8")
            if has_range(label):
                found[label.name] = value("float64")
            elif label.classes:
                found[label.name] = datasets.ClassLabel(names=list(label.classes))
            else:
                found[label.name] = value("int64")
        if "spec_range" in stream.besides:
            found |= {"spec_min": value("float32"), "spec_max": value("float32")}
        found |= {"file_name": value("string")} if "names" in stream.besides else {}
        if "facts" in stream.besides:
            pa = library("pyarrow", "arrow")
            types = [(name, _fact_type(pa, kind)) for name, kind in own.kinds.items()]
            found |= datasets.Features.from_arrow_schema(pa.schema(types))
            found |= {"facts": value("string")} if own.others else {}
        return datasets.Features(found)
