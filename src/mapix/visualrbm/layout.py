"""The layout of VisualRBM's models: JSON text, and an older binary file.

``docs/visualrbm.md`` has the names of each kind of model in their order, the grammar of numbers,
and the bytes of the binary file.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix._native import json
from mapix.errors import FormatError, LimitError
from mapix.source import Source
from mapix.visualrbm.json_text import Text

__all__ = [
    "FUNCTIONS",
    "KINDS",
    "NAME",
    "Document",
    "as_original",
    "exactly",
    "lines",
    "old",
    "read",
]

NAME = "visualrbm"
FUNCTIONS = ("Linear", "RectifiedLinear", "Sigmoid", "Softmax")
RBM, AE, MLP = "RestrictedBoltzmannMachine", "AutoEncoder", "MultilayerPerceptron"
KINDS = {
    RBM: "Type VisibleCount HiddenCount VisibleType HiddenType VisibleBiases HiddenBiases Weights",
    AE: "Type VisibleCount HiddenCount OutputType HiddenType HiddenBiases OutputBiases Weights",
    MLP: "Type Layers",
}
LAYER = "Inputs Outputs Function Biases Weights"
COUNTS = ("VisibleCount", "HiddenCount", "Inputs", "Outputs")
SHAPES = {
    "VisibleBiases": ("VisibleCount",),
    "OutputBiases": ("VisibleCount",),
    "HiddenBiases": ("HiddenCount",),
    "Weights": ("HiddenCount", "VisibleCount"),
}
LAYER_SHAPES = {"Biases": ("Outputs",), "Weights": ("Outputs", "Inputs")}
ALIASES = {"RBM": RBM, "MLP": MLP}  # of schedules
MOST_COUNT = 2**32 - 1
MOST_LAYERS = 4096
MOST_DIGITS = 4000  # of a count
OLD_MAGIC = b".RBM"
LEAST, MOST = 1e-6, 1e9  # numbers that VisualRBM writes without an exponent
EPSILON = float(np.finfo(np.float64).eps)


@dataclass
class Document:
    """The checked fields of a model's text.

    Attributes
    ----------
    kind : str
        One of KINDS.
    fields : dict
        Values by name: int, str, float32 arrays.  Empty for a perceptron.
    layers : list of dict
        The same for each layer of a perceptron.
    unknown : list of str
        Names that mean nothing here.
    notes : list of str
        Oddities, and how they were read.
    """

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays by the names of the file, those of layers as ``Layers.0.Weights``."""
        found = {k: v for k, v in self.fields.items() if isinstance(v, np.ndarray)}
        for i, layer in enumerate(self.layers):
            more = {k: v for k, v in layer.items() if isinstance(v, np.ndarray)}
            found |= {f"Layers.{i}.{k}": v for k, v in more.items()}
        return found


# --- reading --------------------------------------------------------------------------------------


def read(source: Source, *, strict: bool) -> Document:
    """Return the model of a file.

    Raises
    ------
    FormatError
        The text breaks the format; the message names the place in it (``Layers[1].Weights[3]``).
    LimitError
        More than 4096 layers.
    """
    text = Text(source, NAME, strict=strict)
    kind = _kind(text, source, strict)
    reader = _Reader(text, source, strict, Document(kind))
    found = reader.document
    found.fields = reader.object("", KINDS[kind].split(), SHAPES)
    found.fields.pop("Type")
    if kind == MLP:
        found.layers = found.fields.pop("Layers")
    if not strict and text.peek():
        found.notes.append(f"{source.nbytes - text.at} bytes after the model mean nothing")
    return found


def _kind(text: Text, source: Source, strict: bool) -> str:
    """Return the value of Type, wherever it is, and leave the position in the text as it was."""
    begin = text.at
    for name in text.names("the model"):
        if name == "Type":
            kind = text.string("Type")
            break
        if strict:
            raise text.problem(f"{name!r} where Type is expected")
        text.skip(name)
    else:
        raise text.problem("Type is missing")
    if kind not in KINDS:
        hint = f"; in a model it is {ALIASES[kind]}" if kind in ALIASES else ""
        raise text.problem(f"Type: one of {', '.join(KINDS)} expected, got {kind[:40]!r}{hint}")
    text.at = begin
    return kind


class _Reader:
    def __init__(self, text: Text, source: Source, strict: bool, document: Document) -> None:
        self.text, self.source, self.strict, self.document = text, source, strict, document

    def object(
        self, where: str, order: list[str], shapes: dict[str, tuple[str, ...]]
    ) -> dict[str, Any]:
        """Return the values of an object with the names of ``order``."""
        found: dict[str, Any] = {}
        wide: dict[str, tuple[int, ...]] = {}  # counts that may be read in two ways
        prefix = f"{where}." if where else ""
        for name in self.text.names(where or "the model"):
            if self.strict and name != (want := [*order, "nothing more"][len(found)]):
                raise self.text.problem(f"{prefix}{name[:40]}: {want} expected here")
            if name not in order:
                self.document.unknown.append(prefix + name)
                self.text.skip(prefix + name)
            elif name in found:
                raise self.text.problem(f"{prefix}{name}: given twice")
            elif name in COUNTS:
                wide[name] = self._count(prefix + name)
                found[name] = wide[name][0]
            elif name in shapes:
                found[name] = self._numbers(prefix + name, shapes[name], wide)
            elif name == "Layers":
                found[name] = list(self._layers(name))
            else:
                found[name] = self._word(prefix + name, name)
        missing = [name for name in order if name not in found]
        if missing:
            raise self.text.problem(f"{where or 'the model'}: {', '.join(missing)} missing")
        self._agree(prefix, found, shapes, wide)
        return found

    def _word(self, where: str, name: str) -> str:
        word = self.text.string(where).partition("\0")[0]  # VisualRBM reads no further
        if name == "Type" or word in FUNCTIONS:
            return word
        near = {f.lower(): f for f in FUNCTIONS}.get(word.lower())
        hint = f"; did you mean {near}?" if near else ""
        raise self.text.problem(f"{where}: one of {', '.join(FUNCTIONS)}, got {word[:40]!r}{hint}")

    def _count(self, where: str) -> tuple[int, ...]:
        """Return what a count may mean: as JSON, and as VisualRBM reads it (the first digits)."""
        at = self.text.at
        written = self.text.number(where)
        head = written.lower().partition("e")[0].partition(".")[0]
        digits = 0 if head.startswith("-") or len(head) > MOST_DIGITS else int(head or 0)
        original = digits % 2**64
        usual = original if self.strict else _whole(written) if "e" in written.lower() else digits
        meant = tuple(dict.fromkeys(n for n in (usual, original) if 0 < n <= MOST_COUNT))
        if not meant:
            raise self.text.problem(f"{where}: 1 to {MOST_COUNT} expected, got {written[:40]}", at)
        if written != str(meant[0]):
            other = f", or {meant[1]} as VisualRBM has it, by the arrays" if len(meant) > 1 else ""
            self.document.notes.append(f"{where}: {written[:40]} is read as {meant[0]}{other}")
        return meant

    def _numbers(
        self, where: str, shape: tuple[str, ...], wide: dict[str, tuple[int, ...]]
    ) -> NDArray[np.float32]:
        known = tuple(wide[n][0] if len(wide.get(n, ())) == 1 else None for n in shape)
        array, ninfinite = self.text.numbers(where, known)
        if ninfinite:
            note = f"{where}: {ninfinite} numbers are too large for float32, and infinite"
            self.document.notes.append(note)
        return array

    def _agree(
        self,
        prefix: str,
        found: dict[str, Any],
        shapes: dict[str, tuple[str, ...]],
        wide: dict[str, tuple[int, ...]],
    ) -> None:
        """Raise FormatError where an array is not as long as its count states."""
        for name, names in shapes.items():
            if name not in found:
                continue
            for axis, count in enumerate(names):
                got = found[name].shape[axis]
                if got not in wide[count]:
                    what = ("numbers", "rows")[len(names) == 2 and axis == 0]
                    said = f"{prefix}{count} is {found[count]}"
                    raise self.text.problem(f"{prefix}{name}: {got} {what}, {said}")
                found[count], wide[count] = got, (got,)

    def _layers(self, where: str) -> Iterator[dict[str, Any]]:
        for k in self.text.items(where):
            if k >= MOST_LAYERS:
                raise LimitError(f"{self.source.path}: {NAME}: more than {MOST_LAYERS} layers")
            yield self.object(f"{where}[{k}]", LAYER.split(), LAYER_SHAPES)


def _whole(written: str) -> int:
    """Return a number of JSON, truncated; 0 where it is far too large, or not a number."""
    try:
        value = float(written)
    except ValueError:  # only VisualRBM takes it for a number
        return 0
    return int(value) if math.isfinite(value) and value <= MOST_COUNT else 0


# --- the older binary file ------------------------------------------------------------------------


def old(source: Source) -> Document:
    """Return the model of an older `.RBM` file.

    Raises
    ------
    FormatError
        The file is not as long as its header states.
    """
    front = bytes(_native.copy(source.mapping, 0, min(9, source.nbytes), NAME))
    reasons = []
    for flagged in (False, True):
        head = 9 if flagged else 8
        linear = flagged and front[4:5] == b"\xff"
        if len(front) < head or front[:4] != OLD_MAGIC or (flagged and front[4] not in (0, 255)):
            continue
        v, h = struct.unpack_from("<2H", front, head - 4)
        want = head + 4 * (v * (3 if linear else 1) + h + v * h)
        if want == source.nbytes and v and h:
            return _old(source, head, v, h, linear)
        reasons.append(f"{v} visible and {h} hidden units after {head} bytes: {want} bytes")
    reason = f"{'; '.join(reasons) or 'no header'}; the file has {source.nbytes}"
    raise FormatError(source.path, NAME, reason, at=4)


def _old(source: Source, head: int, v: int, h: int, linear: bool) -> Document:
    raw = _native.copy(source.mapping, head, source.nbytes - head, NAME)
    numbers = np.frombuffer(raw, "<f4").astype(np.float32, copy=False)
    found = Document(RBM)
    if linear:
        found.notes.append("means and deviations of linear units are left out")
        numbers = numbers[2 * v :]
    found.fields = {
        "VisibleCount": v,
        "HiddenCount": h,
        "VisibleType": "Linear" if linear else "Sigmoid",
        "HiddenType": "Sigmoid",
        "VisibleBiases": numbers[:v].copy(),
        "HiddenBiases": numbers[v : v + h].copy(),
        "Weights": np.ascontiguousarray(numbers[v + h :].reshape(v, h).T),
    }
    return found


# --- writing --------------------------------------------------------------------------------------

Numbers = Callable[[NDArray[np.float32]], str]


def as_original(row: NDArray[np.float32]) -> str:
    """Return numbers as VisualRBM writes them: integers without a point, others with six digits.

    Numbers below 1e-6 or above 1e9 get an exponent.  Lossy: six digits are not enough.
    """
    return ", ".join([_as_original(v) for v in row.tolist()])


def _as_original(v: float) -> str:
    if math.isfinite(v) and abs(math.floor(v) - v) <= EPSILON and abs(v) < 1e60:
        return f"{v:.0f}"
    return f"{v:e}" if abs(v) < LEAST or abs(v) > MOST else f"{v:f}"


def exactly(row: NDArray[np.float32]) -> str:
    """Return the shortest numbers that give the same float32 back, with a point for VisualRBM."""
    return json.written(row)


def lines(document: Document, numbers: Numbers) -> Iterator[str]:
    """Yield the text of a model, as VisualRBM lays it out, in pieces."""
    yield f'{{\n\t"Type" : "{document.kind}"'
    if document.kind != MLP:
        yield from _members(
            document.fields, KINDS[document.kind].split()[1:], 1, numbers, first=False
        )
        yield "\n}"
        return
    yield ',\n\t"Layers" : ['
    for k, layer in enumerate(document.layers):
        yield ", \n\t\t{" if k else "{"
        yield from _members(layer, LAYER.split(), 3, numbers, first=True)
        yield "\n\t\t}"
    yield "]\n}"


def _members(
    fields: dict[str, Any], order: Iterable[str], depth: int, numbers: Numbers, *, first: bool
) -> Iterator[str]:
    tabs = "\t" * depth
    for name in order:
        yield f'{"" if first else ","}\n{tabs}"{name}" : '
        first = False
        value = fields[name]
        if isinstance(value, str):
            yield f'"{value}"'
        elif isinstance(value, int):
            yield str(value)
        elif value.ndim == 1:
            yield from _row(value, numbers)
        else:
            for k, row in enumerate(value):
                yield f", \n{tabs}\t" if k else "["
                yield from _row(row, numbers)
            yield "]"


PIECE_NUMBERS = 4096  # turned into text at once


def _row(row: NDArray[np.float32], numbers: Numbers) -> Iterator[str]:
    for at in itertools.count(0, PIECE_NUMBERS):
        piece = row[at : at + PIECE_NUMBERS]
        more = at + PIECE_NUMBERS < len(row)
        yield ("" if at else "[") + numbers(piece) + (", " if more else "]")
        if not more:
            return
