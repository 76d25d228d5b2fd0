"""Conversion of VIMH datasets, and to them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mapix.batch import Batch
from mapix.conversion.blocks import Arrays, Blocks
from mapix.conversion.numbers import fit, scaled, within_float32
from mapix.conversion.stream import Block, Label, Later, Stream, Values, pictures, row_blocks
from mapix.conversion.target import Count, Target
from mapix.errors import UnsupportedError
from mapix.vimh.dataset import Dataset
from mapix.vimh.files import SPLITS
from mapix.vimh.joined import Joined
from mapix.vimh.parameters import Parameter
from mapix.vimh.writer import Writer, channel_labels

__all__ = ["Vimh", "stream"]

BYTES = np.dtype(np.uint8)
LEVELS = 256
# keys of an info JSON that follow from the records, or from the place of the dataset
DERIVED = frozenset(
    (
        *("format", "version", "dataset_name", "output_format", "label_encoding"),
        *("height", "width", "channels", "channel_labels", "image_size", "image_sizes"),
        *("varying_parameters", "parameter_names", "parameter_mappings", "fixed_parameters"),
        *("train_samples", "test_samples", "total_samples", "n_samples"),
    )
)


# --- from -----------------------------------------------------------------------------------------


def stream(splits: Mapping[str, Dataset | Joined], **_: Any) -> dict[str, Stream]:
    """Return the streams of a VIMH dataset: see ``mapix.registry.Format.source``."""
    return {name: _stream(ds) for name, ds in splits.items()}


def _stream(ds: Dataset | Joined) -> Stream:
    shapes = ds.shapes
    same = len(ds) == 0 or bool((shapes == shapes[0]).all())
    shape = tuple(int(d) for d in shapes[0]) if same and len(ds) else None
    if not len(ds):
        sizes = [ds.info.get(k) for k in ("height", "width", "channels")]
        shape = tuple(sizes) if all(type(d) is int and d > 0 for d in sizes) else (0, 0, 0)  # type: ignore[arg-type]
    sizes = shapes.astype(np.int64).prod(axis=1)
    largest = int(sizes.max(initial=1))
    names = tuple(ds.parameters)
    interleaved = (ds.parts[0] if isinstance(ds, Joined) else ds).interleaved
    found = Stream(
        ds.path,
        len(ds),
        np.dtype(np.uint8),
        shape,
        int(sizes.sum()),
        "HWC",
        Blocks(ds, largest, partial(_read, names, same), partial(_block, names, same, interleaved)),
        [Label(name, _values_of(ds, name), p) for name, p in ds.parameters.items()],
        info=ds.info,
        sizes=None if shape is not None else sizes,
    )
    found.ranges = lambda: _ranges(ds)
    if any(map(_any_range, _ranges(ds))):
        found.besides["spec_range"] = "spec_min and spec_max of the records"
    if ds.parameters.fixed:
        found.besides["fixed"] = f"fixed parameters: {', '.join(ds.parameters.fixed)}"
    counts = {f"{name}_samples" for name in getattr(ds, "splits", ())}
    more = [key for key in ds.info if key not in DERIVED and key not in counts]
    if ds.info.get("channel_labels") not in (None, _usual_channels(ds)):
        more.append("channel_labels")
    if more:
        found.besides["info"] = f"what the info JSON says: {', '.join(more)}"
    return found


def _usual_channels(ds: Dataset | Joined) -> Any:
    """Return the names of channels that follow from their number."""
    count = ds.info.get("channels")
    return channel_labels(count) if isinstance(count, int) and 0 <= count < 1 << 16 else None


def _values_of(ds: Dataset | Joined, name: str) -> Values:
    def values() -> tuple[NDArray[Any], NDArray[np.bool_]]:
        column = ds.labels[name]
        return column.codes, column.present

    return values


def _ranges(ds: Dataset | Joined) -> Iterator[NDArray[np.float32]]:
    """Yield the ranges of all records, by images cut to one pixel: hardly anything is copied."""
    for rows in row_blocks(len(ds), 64):
        batch = ds.batch(rows, pad=(1, 1), crop="corner", labels=None, spec_range=True)
        assert batch.spec_range is not None
        yield batch.spec_range


def _any_range(ranges: NDArray[np.float32]) -> bool:
    """Return whether there is a range: writers write two zeros, or NaN, where there is not."""
    return bool(((ranges != 0) & ~np.isnan(ranges)).any())


def _read(names: tuple[str, ...], same: bool, part: Dataset | Joined, c_order: bool) -> Arrays:
    """Return the arrays of a batch of all records of a part, with labels under all names."""
    n, flat = len(part), not (c_order and same)
    batch = part.batch(np.arange(n), flat=flat, labels="raw", spec_range=True)
    assert batch.labels is not None
    assert batch.present is not None
    labels, present = np.zeros((n, len(names)), np.uint8), np.zeros((n, len(names)), np.bool_)
    for k, name in enumerate(batch.names):
        at = names.index(name)
        labels[:, at], present[:, at] = batch.labels[:, k], batch.present[:, k]
    labels[~present] = 0  # they are meaningless, and not always the same
    return [batch.images, labels, present, batch.shapes, batch.spec_range, batch.offsets]


def _block(
    names: tuple[str, ...],
    same: bool,
    interleaved: bool,
    rows: NDArray[np.int64],
    arrays: Arrays,
    c_order: bool,
) -> Block:
    del rows
    images, labels, present, shapes, spec_range, offsets = arrays
    batch = Batch(images, labels, present, shapes, spec_range, offsets, names)
    in_order = c_order and same
    return Block(
        [images] if in_order else Later(lambda: _runs(batch, interleaved)),
        {name: labels[:, k] for k, name in enumerate(names)},
        {name: present[:, k] for k, name in enumerate(names)},
        spec_range,
        flat=None if in_order or interleaved else batch,
    )


def _runs(batch: Batch, interleaved: bool) -> list[NDArray[np.uint8]]:
    """Return runs of images (k, h, w, c) as views of the file's order of pixels."""
    assert batch.offsets is not None
    runs = []
    for begin, end in _runs_of_one_shape(batch.shapes):
        h, w, c = (int(d) for d in batch.shapes[begin])
        pixels = batch.images[batch.offsets[begin] : batch.offsets[end]]
        planes = pixels.reshape(end - begin, *((h, w, c) if interleaved else (c, h, w)))
        runs.append(planes if interleaved else planes.transpose(0, 2, 3, 1))
    return runs


def _runs_of_one_shape(shapes: NDArray[np.uint16]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of records of one shape."""
    edges = np.flatnonzero((shapes[1:] != shapes[:-1]).any(axis=1)) + 1
    ends = [*edges.tolist(), len(shapes)]
    return zip([0, *edges.tolist()], ends, strict=True)


# --- to -------------------------------------------------------------------------------------------


class Vimh(Target):
    """A dataset directory: train, test, and whatever other splits there are.

    Parameters
    ----------
    dialect, output, index
        As for ``mapix.vimh.Writer``.
    """

    any_split = True
    arguments: ClassVar = {
        "dialect": {"type": int, "choices": (14, 6), "help": "bytes of a VIMH record's header"},
        "output": {"choices": ("binary", "pickle", "both"), "help": "which files of VIMH"},
    }

    def __init__(self, *, dialect: int = 14, output: str = "binary", index: bool = False) -> None:
        self.options = {"dialect": dialect, "output": output, "index": index}
        self._scale: dict[str, bool] = {}

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        ranges = set() if self.options["dialect"] == 6 else {"spec_range"}
        return {"info", "fixed", *ranges, *(label.key for label in stream.labels)}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        found: list[str] = []
        for split, stream in streams.items():
            self._scale[split] = not fit(stream, BYTES)
            if self._scale[split]:
                within_float32(stream)
                text = f"numbers of {stream.dtype}, which become bytes: each record is scaled from "
                kept = " (spec_range keeps both)" if self.options["dialect"] != 6 else ""
                found.append(f"{text}its least to its largest{kept}")
            if self.options["output"] != "binary":
                stream.one_shape("a pickle")
        return found

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        # Of the complete source, so that all files of a set have the same ranges of labels.
        parameters = _parameters([stream.source for stream in streams.values()])
        fixed, info = _known(list(streams.values()))
        by_name = {p.name: p for p in parameters}
        options: dict[str, Any] = {
            **self.options,
            "splits": tuple({**dict.fromkeys(SPLITS), **streams}),
        }
        with Writer(path, parameters, fixed=fixed, info=info, **options) as out:
            for split, stream in streams.items():
                for block in stream.blocks():
                    self._put(out, block, stream, split, by_name)
                    count(len(block))

    def _put(
        self,
        out: Writer,
        block: Block,
        stream: Stream,
        split: Any,
        parameters: Mapping[str, Parameter],
    ) -> None:
        if block.flat is not None and stream.shape is None:
            out.extend_flat(block.flat, split=split)
            return
        codes = {
            label.name: _codes(label, block.values[label.name], parameters[label.name])
            for label in stream.labels
        }
        for where, run in block.parts():
            images = pictures(stream, run)
            ranges = np.zeros((len(run), 2), np.float32)
            if self._scale[split]:
                images, ranges = scaled(images)
            elif block.spec_range is not None:
                ranges = block.spec_range[where]
            present = {name: values[where] for name, values in block.present.items()}
            for rows, names in _alike(present, len(run)):
                some = dict.fromkeys(parameters) | {n: codes[n][where][rows] for n in names}
                out.extend(
                    images[rows].astype(np.uint8, copy=False),
                    codes=some,
                    spec_range=ranges[rows],
                    split=split,
                )


def _alike(present: Mapping[str, NDArray[np.bool_]], n: int) -> list[tuple[slice, list[str]]]:
    """Return runs of records that have the same labels, and the names of these."""
    if not present:
        return [(slice(0, n), [])]
    table = np.stack(list(present.values()), axis=1)
    edges = [0, *(np.flatnonzero((table[1:] != table[:-1]).any(axis=1)) + 1).tolist(), n]
    return [
        (slice(a, b), [name for name, has in zip(present, table[a], strict=True) if has])
        for a, b in itertools.pairwise(edges)
    ]


def _codes(label: Label, values: NDArray[Any], parameter: Parameter) -> NDArray[np.uint8]:
    if label.parameter is not None:
        return values
    # Rounded, not truncated as physical values are: class 1 of 256 must not fall to class 0.
    return np.rint(values / parameter.max * (LEVELS - 1)).astype(np.uint8)


def _parameters(streams: list[Stream]) -> list[Parameter]:
    """Return the labels of all splits, with the ids 0, 1, 2 ...; unused ids get a name, too."""
    found: dict[str, Parameter] = {}
    for name in dict.fromkeys(label.name for stream in streams for label in stream.labels):
        labels = [(s, lb) for s in streams for lb in s.labels if lb.name == name]
        given = {lb.parameter for _, lb in labels}
        if len(given) > 1:
            raise UnsupportedError(f"label {name!r} has other ranges in another split: {given}")
        scale = given.pop()
        if scale is None:
            found[name] = _of_classes(labels, len(found))
        elif isinstance(scale, Parameter):
            found[name] = scale
        else:
            numbers = scale.min, scale.max, scale.step, scale.num_classes
            found[name] = Parameter(name, len(found), *numbers, description=scale.description)
    by_id = {p.id: p for p in found.values()}
    last = max((p.id for p in found.values() if p.id is not None), default=-1)
    return [by_id.get(i) or Parameter(f"param_{i}", i) for i in range(last + 1)]


def _of_classes(labels: list[tuple[Stream, Label]], id: int) -> Parameter:
    """Return a parameter whose codes stand for class numbers 0, 1, 2 ..."""
    low = high = 0
    for stream, label in labels:
        values, present = label.read()
        there = values[present]
        if len(there):
            low, high = min(low, int(there.min())), max(high, int(there.max()))
        if low < 0 or high >= LEVELS:
            raise UnsupportedError(
                f"{stream.path}: label {label.name!r} has class numbers {low}..{high}; a VIMH "
                "label has 0..255"
            )
    names = max((label.classes for _, label in labels), key=len, default=())
    high = max(high, len(names) - 1, 1)
    text = ", ".join(names)
    if tuple(text.split(", ")) != tuple(names):  # a name has a comma in it
        text = json.dumps(names, ensure_ascii=False) if names else ""
    return Parameter(labels[0][1].name, id, 0.0, float(high), 1.0, high + 1, description=text)


def _known(streams: list[Stream]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return fixed parameters, and the keys of the info JSON that a writer cannot know."""
    info = dict(next((s.info for s in streams if s.info), {}))
    fixed = {
        name: entry["value"]
        for name, entry in info.get("fixed_parameters", {}).items()
        if isinstance(entry.get("value"), int | float)
    }
    for key in ("label_encoding", "output_format", "version", "image_sizes"):
        info.pop(key, None)
    for key, value in list(info.items()):  # counts of splits, which the writer states anew
        if key.endswith("_samples") and not key.startswith("num_") and type(value) is int:
            del info[key]
    return fixed, info
