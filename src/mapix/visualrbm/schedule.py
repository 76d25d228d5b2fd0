"""Training schedules of VisualRBM: a model, and the values of training in each epoch."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import numpy as np

from mapix.errors import FormatError, LimitError, warn
from mapix.selection import single
from mapix.store import SYSTEM, Calls, NewWhole
from mapix.visualrbm.cjson import Node, parse
from mapix.visualrbm.layout import AE, ALIASES, FUNCTIONS, MLP, NAME, RBM
from mapix.visualrbm.loaded import Loaded

__all__ = ["MOST_NBYTES", "Schedule", "Stage", "warn_of"]

MOST_NBYTES = 4 << 20
MOST_NOTES = 20  # warnings of a file
MOST_NUMBERS = 1 << 20  # of all layers in all stages: one number in a text can stand for each layer
Value = float | tuple[float, ...]
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Stage:
    """Epochs in a row with the same values.  VisualRBM computes with them as float32.

    A perceptron's values are tuples, one number for each layer of weights; those that a kind of
    model does not have are None.

    Attributes
    ----------
    epochs : int
        How many.
    learning_rate, momentum, l1, l2 : float or tuple of float
        0 until given.
    adadelta_decay : float or tuple of float
        1 until given.
    visible_dropout, hidden_dropout : float or None
        Of machines and autoencoders.
    dropout, noise : tuple of float or None
        Of perceptrons: of the inputs of a layer.
    """

    epochs: int
    learning_rate: Value = 0.0
    momentum: Value = 0.0
    l1: Value = 0.0
    l2: Value = 0.0
    adadelta_decay: Value = 1.0
    visible_dropout: Value | None = None
    hidden_dropout: Value | None = None
    dropout: Value | None = None
    noise: Value | None = None


@dataclass(frozen=True, slots=True)
class _Key:
    """A value of a stage: its name in files, and its range."""

    field: str
    name: str
    most: float = float("inf")
    below: bool = False  # whether ``most`` itself is out of range
    ignored: bool = False  # whether values out of range are ignored
    alias: str = ""  # its name in documents, which VisualRBM does not read

    def right(self, x: float) -> bool:
        return 0 <= x < self.most if self.below else 0 <= x <= self.most

    @property
    def range(self) -> str:
        if self.most == float("inf") or self.most == LARGEST:
            return "0 or more"
        return f"from 0 to {'below ' if self.below else ''}{self.most:g}"


PAIR_KEYS = (
    _Key("learning_rate", "LearningRate"),
    _Key("momentum", "Momentum", 1, below=True),
    _Key("l1", "L1Regularization", alias="L1"),
    _Key("l2", "L2Regularization", alias="L2"),
    _Key("visible_dropout", "VisibleDropout", 1, below=True),
    _Key("hidden_dropout", "HiddenDropout", 1, below=True),
    _Key("adadelta_decay", "AdadeltaDecay", 1, below=True, ignored=True),
)
MLP_KEYS = (
    _Key("learning_rate", "LearningRate", LARGEST),
    _Key("momentum", "Momentum", 1),
    _Key("l1", "L1Regularization", LARGEST, alias="L1"),
    _Key("l2", "L2Regularization", LARGEST, alias="L2"),
    _Key("dropout", "Dropout", 1),
    _Key("noise", "Noise", LARGEST),
    _Key("adadelta_decay", "AdadeltaDecay", 1),
)
TYPES = {RBM: RBM, AE: AE, MLP: MLP, **ALIASES}
OUTER_TYPE = {RBM: "VisibleType", AE: "OutputType"}


@dataclass(frozen=True)
class Schedule(Loaded):
    """A model and the stages of its training.  Made by ``mapix.open``, or of its parts.

    ``len(schedule)`` is the number of epochs, ``schedule[epoch]`` the stage of an epoch, and
    iteration yields the stage of each epoch.

    Attributes
    ----------
    kind : str
        RestrictedBoltzmannMachine, AutoEncoder or MultilayerPerceptron.
    layers : tuple of int
        Units: (visible, hidden), or those of all layers of a perceptron, inputs first.
    functions : tuple of str
        Activation functions: (visible or output, hidden), or those of all layers but the inputs.
    minibatch_size : int
        Rows per step.
    stages : tuple of Stage
        In order; values that a file gives only once are filled in.
    seed : int
        Seed of the random numbers.
    path : str or None
        The file that it was read from.
    """

    kind: str
    layers: tuple[int, ...]
    functions: tuple[str, ...]
    minibatch_size: int
    stages: tuple[Stage, ...]
    seed: int = 1
    path: str | None = field(default=None, compare=False)

    # --- epochs -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._ends()[-1] if self.stages else 0

    def _ends(self) -> list[int]:
        return list(itertools.accumulate(s.epochs for s in self.stages))

    def __getitem__(self, epoch: SupportsIndex) -> Stage:
        """Return the stage of an epoch, counted from 0 or from the end."""
        number = single(epoch, len(self), self.path or "a schedule", "epochs")
        return self.stages[bisect.bisect_right(self._ends(), number)]

    def __iter__(self) -> Iterator[Stage]:
        for stage in self.stages:
            yield from itertools.repeat(stage, stage.epochs)

    # --- reading ----------------------------------------------------------------------------------

    @staticmethod
    def parse(data: bytes, path: str, *, strict: bool = False) -> Schedule:
        """Return the schedule of a text; see ``mapix.open``."""
        return Schedule.of(parse(data, path, NAME, strict=strict), path, strict=strict)

    @staticmethod
    def of(root: Node, path: str, *, strict: bool) -> Schedule:
        """Return the schedule of a text's outermost value."""
        return _Reader(path, strict).schedule(root)

    # --- writing ----------------------------------------------------------------------------------

    def text(self) -> str:
        """Return JSON that VisualRBM reads to the same values; of later stages, the changes."""
        import json

        root: dict[str, Any] = {"Type": self.kind}
        if self.kind == MLP:
            root |= {"Layers": self.layers, "ActivationFunctions": self.functions}
        else:
            root |= dict(zip(("VisibleCount", "HiddenCount"), self.layers, strict=True))
            names = (OUTER_TYPE[self.kind], "HiddenType")
            root |= dict(zip(names, self.functions, strict=True))
        root |= {"MinibatchSize": self.minibatch_size, "Seed": self.seed}
        before = _blank(self.kind, len(self.functions))
        entries = []
        for stage in self.stages:
            entry: dict[str, Any] = {"Epochs": stage.epochs}
            for key in _keys(self.kind):
                value = getattr(stage, key.field)
                if value != before[key.field]:
                    entry[key.name] = value[0] if _uniform(value) else value
                before[key.field] = value
            entries.append(entry)
        made = json.dumps({**root, "Schedule": entries}, indent="\t")
        return made.replace("Infinity", "1e999")

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        replace: bool = False,
        calls: Calls = SYSTEM,
    ) -> None:
        """Write the schedule as JSON; the file appears complete or not at all.

        Raises
        ------
        FormatError
            VisualRBM would not accept the schedule; the message states the reason.
        """
        data = self.text().encode()
        again = Schedule.parse(data, os.fspath(path), strict=True)
        if again != self:
            raise ValueError(f"values that a schedule cannot hold: {again} is read for {self}")
        with NewWhole(path, calls, replace=replace) as out:
            out.write(data)

    def _facts(self) -> dict[str, Any]:
        names = ["epochs", *(key.field for key in _keys(self.kind))]
        stages = [
            {name: list(v) if isinstance(v := getattr(stage, name), tuple) else v for name in names}
            for stage in self.stages
        ]
        trained = {"layers": list(self.layers), "functions": list(self.functions)}
        sizes = {"minibatch_size": self.minibatch_size, "seed": self.seed, "epochs": len(self)}
        return {"holds": "a schedule", "kind": self.kind, **trained, **sizes, "stages": stages}

    def __repr__(self) -> str:
        units = " -> ".join(map(str, self.layers))
        place = f" {self.path}:" if self.path else ""
        n, m = len(self), len(self.stages)
        return f"<mapix.visualrbm.Schedule{place} {self.kind} {units}, {n} epochs in {m} stages>"


def _keys(kind: str) -> tuple[_Key, ...]:
    return MLP_KEYS if kind == MLP else PAIR_KEYS


def _blank(kind: str, n: int) -> dict[str, Any]:
    """Return the values before any was given."""
    found: dict[str, Any] = {
        k.field: 1.0 if k.name == "AdadeltaDecay" else 0.0 for k in _keys(kind)
    }
    return {k: (v,) * n for k, v in found.items()} if kind == MLP else found


def _uniform(value: Any) -> bool:
    return isinstance(value, tuple) and len(set(value)) == 1


def warn_of(path: str, notes: list[str]) -> None:
    """Warn of oddities in a file, of each once, and of at most ``MOST_NOTES``."""
    notes = list(dict.fromkeys(notes))
    for note in notes[:MOST_NOTES]:
        warn(f"{path}: {note}")
    if len(notes) > MOST_NOTES:
        warn(f"{path}: {len(notes) - MOST_NOTES} more of these")


class _Reader:
    """Reads a schedule from the values of a text, as VisualRBM does."""

    def __init__(self, path: str, strict: bool) -> None:
        self.path, self.strict = path, strict
        self.notes: list[str] = []
        self.nnumbers = 0

    def problem(self, reason: str, node: Node | None) -> FormatError:
        return FormatError(self.path, NAME, reason, at=None if node is None else node.at)

    def need(self, parent: Node, name: str, where: str = "") -> Node:
        found = parent.get(name)
        if found is None:
            raise self.problem(f"{where}{name} is missing", parent)
        return found

    def once(self, node: Node, where: str) -> None:
        """Note names that are given twice."""
        for name in node.twice():
            self.notes.append(f"{where}{name[:40]}: given twice; the first counts, as in VisualRBM")

    def schedule(self, root: Node) -> Schedule:
        word = self.word(root, "Type")
        if word not in TYPES:
            known = ", ".join(TYPES)
            raise self.problem(
                f"Type: one of {known} expected, got {word[:40]!r}", root.get("Type")
            )
        kind = TYPES[word]
        layers, functions = self.perceptron(root) if kind == MLP else self.pair(root, kind)
        size = self.count(self.need(root, "MinibatchSize"), "MinibatchSize")
        seed = root.get("Seed")
        number = 1 if seed is None else self.read_as(seed, "Seed", seed.integer)
        entries = self.need(root, "Schedule")
        self.once(root, "")
        if not entries.items:
            raise self.problem("Schedule: at least one entry expected", entries)
        values = _blank(kind, len(functions))
        stages = []
        for k, (_, entry) in enumerate(entries.items):
            stages.append(self.stage(entry, f"Schedule[{k}].", kind, values, len(functions)))
        warn_of(self.path, self.notes)
        return Schedule(kind, layers, functions, size, tuple(stages), number, self.path)

    # --- the model --------------------------------------------------------------------------------

    def word(self, parent: Node, name: str) -> str:
        node = self.need(parent, name)
        if node.kind != "string":
            raise self.problem(f"{name}: a string expected, got {node}", node)
        return node.text

    def function(self, node: Node, where: str) -> str:
        if node.kind != "string" or node.text not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise self.problem(f"{where}: one of {known} expected, got {node}", node)
        return node.text

    def read_as(self, node: Node, where: str, value: int) -> int:
        if node.kind != "number" or node.number != value:
            self.notes.append(f"{where}: {node} is read as {value}")
        return value

    def count(self, node: Node, where: str) -> int:
        if node.integer < 1:
            raise self.problem(f"{where}: 1 to {2**31 - 1} expected, got {node}", node)
        return self.read_as(node, where, node.integer)

    def pair(self, root: Node, kind: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
        counts = ("VisibleCount", "HiddenCount")
        types = (OUTER_TYPE[kind], "HiddenType")
        return (
            tuple(self.count(self.need(root, n), n) for n in counts),
            tuple(self.function(self.need(root, n), n) for n in types),
        )

    def perceptron(self, root: Node) -> tuple[tuple[int, ...], tuple[str, ...]]:
        units, names = self.need(root, "Layers"), self.need(root, "ActivationFunctions")
        n, m = len(units.items), len(names.items)
        if n < 2 or n != m + 1:
            reason = (
                f"Layers: {max(m, 1) + 1} numbers expected for {m} ActivationFunctions, got {n}"
            )
            raise self.problem(reason, units)
        inputs = units.items[0][1]
        first = self.read_as(inputs, "Layers[0]", inputs.integer % 2**32)
        if first == 0:
            self.notes.append("Layers[0]: no inputs")
        others = [self.count(u, f"Layers[{k}]") for k, (_, u) in enumerate(units.items) if k]
        functions = [
            self.function(f, f"ActivationFunctions[{k}]") for k, (_, f) in enumerate(names.items)
        ]
        return (first, *others), tuple(functions)

    # --- stages -----------------------------------------------------------------------------------

    def stage(
        self, entry: Node, where: str, kind: str, values: dict[str, Any], nlayers: int
    ) -> Stage:
        """Return the next stage; the values that it gives stay in force after it."""
        epochs = self.need(entry, "Epochs", where)
        if kind == MLP and epochs.kind != "number":
            raise self.problem(f"{where}Epochs: a number expected, got {epochs}", epochs)
        n = self.count(epochs, f"{where}Epochs")
        self.once(entry, where)
        for key in _keys(kind):
            given = entry.get(key.name)
            if given is not None:
                new = self.value(given, key, where + key.name, kind, nlayers)
                values[key.field] = values[key.field] if new is None else new
            elif key.alias and (other := entry.get(key.alias)) is not None:
                self.alias(other, key, where, kind, values, nlayers)
        return Stage(n, **values)

    def alias(
        self, node: Node, key: _Key, where: str, kind: str, values: dict[str, Any], nlayers: int
    ) -> None:
        """Read a value under its name in documents, which VisualRBM ignores."""
        notes, self.notes = self.notes, []
        try:
            new = self.value(node, key, where, kind, nlayers)
        except FormatError:
            new = None
        self.notes = notes
        if new == values[key.field]:
            return  # it makes no difference
        does = "not used" if self.strict or new is None else "used"
        note = f"{where}{key.alias}: VisualRBM reads {key.name} alone; {node} is {does} here"
        self.notes.append(note)
        if new is not None and not self.strict:
            values[key.field] = new

    def value(self, node: Node, key: _Key, where: str, kind: str, nlayers: int) -> Value | None:
        """Return a given value; None where it is ignored."""
        if kind == MLP:
            return self.per_layer(node, key, where, nlayers)
        if node.kind != "number":
            self.notes.append(f"{where}: {node} is read as 0")
        if key.right(node.measured):
            return node.number
        if not key.ignored:
            raise self.problem(f"{where}: {key.range} expected, got {node}", node)
        self.notes.append(f"{where}: {key.range} expected, {node} is ignored")
        return None

    def per_layer(self, node: Node, key: _Key, where: str, nlayers: int) -> Value | None:
        self.nnumbers += nlayers
        if self.nnumbers > MOST_NUMBERS:
            limit = f"more than {MOST_NUMBERS} numbers of layers in all stages together"
            raise LimitError(f"{self.path}: {NAME}: {where}: {limit}")
        if node.kind == "number":
            return (self.one(node, key, where),) * nlayers
        if node.kind != "array":
            self.notes.append(f"{where}: a number or an array expected, {node} is ignored")
            return None
        if len(node.items) != nlayers:
            raise self.problem(f"{where}: {nlayers} numbers expected, got {len(node.items)}", node)
        items = enumerate(n for _, n in node.items)
        return tuple(self.one(n, key, f"{where}[{k}]") for k, n in items)

    def one(self, node: Node, key: _Key, where: str) -> float:
        with np.errstate(over="ignore"):
            single = float(np.float32(node.measured))
        # NaN (0e999, by cJSON's arithmetic) is neither too small nor too large
        if node.kind != "number" or single < 0 or single > key.most:
            raise self.problem(f"{where}: {key.range} expected, got {node}", node)
        return node.number
