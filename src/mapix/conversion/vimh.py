"""To a VIMH dataset."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mapix.vimh
from mapix.conversion.numbers import fit, scaled, within_float32
from mapix.conversion.stream import Block, Label, Stream, pictures
from mapix.conversion.target import Count, Target
from mapix.errors import UnsupportedError
from mapix.vimh import Parameter

__all__ = ["Vimh"]

BYTES = np.dtype(np.uint8)
SPLITS = ("train", "test")
LEVELS = 256


class Vimh(Target):
    """A dataset directory, with both splits.

    Parameters
    ----------
    dialect, output, index
        As for ``mapix.vimh.Writer``.
    """

    splits = SPLITS

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
                text = f"numbers of {stream.dtype}: bytes, each record scaled from least to largest"
                kept = ", which spec_range keeps" if self.options["dialect"] != 6 else ""
                found.append(text + kept)
            if self.options["output"] != "binary":
                stream.one_shape("a pickle")
        return found

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        parameters = _parameters(list(streams.values()))
        fixed, info = _known(list(streams.values()))
        by_name = {p.name: p for p in parameters}
        with mapix.vimh.Writer(path, parameters, fixed=fixed, info=info, **self.options) as out:  # type: ignore[arg-type]
            for split, stream in streams.items():
                for block in stream.blocks():
                    self._put(out, block, stream, split, by_name)
                    count(len(block))

    def _put(
        self,
        out: mapix.vimh.Writer,
        block: Block,
        stream: Stream,
        split: Any,
        parameters: Mapping[str, Parameter],
    ) -> None:
        if block.flat is not None and len(block.runs) > 1:
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
    """Records that follow one another and have the same labels, and which."""
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
    """The labels of all splits, with the ids 0, 1, 2 ...; holes between ids get a name, too."""
    found: dict[str, Parameter] = {}
    for name in dict.fromkeys(label.name for stream in streams for label in stream.labels):
        labels = [(s, lb) for s in streams for lb in s.labels if lb.name == name]
        given = {lb.parameter for _, lb in labels}
        if len(given) > 1:
            raise UnsupportedError(f"label {name!r} has other ranges in another split: {given}")
        parameter = given.pop()
        found[name] = _of_classes(labels, len(found)) if parameter is None else parameter
    by_id = {p.id: p for p in found.values()}
    last = max((p.id for p in found.values() if p.id is not None), default=-1)
    return [by_id.get(i) or Parameter(f"param_{i}", i) for i in range(last + 1)]


def _of_classes(labels: list[tuple[Stream, Label]], id: int) -> Parameter:
    """A parameter whose codes stand for class numbers 0, 1, 2 ..."""
    low = high = 0
    for stream, label in labels:
        values, present = label.whole()
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
    """Fixed parameters, and what the info JSON says and the writer cannot know."""
    info = dict(next((s.info for s in streams if s.info), {}))
    fixed = {
        name: entry["value"]
        for name, entry in info.get("fixed_parameters", {}).items()
        if isinstance(entry.get("value"), int | float)
    }
    for key in ("label_encoding", "output_format", "version", "image_sizes"):
        info.pop(key, None)
    return fixed, info
