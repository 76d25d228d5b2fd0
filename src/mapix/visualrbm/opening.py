"""From a path to a model or a schedule."""

from __future__ import annotations

import os
import re
from typing import Literal

from mapix import _native
from mapix.errors import FormatError, LimitError, MapixError
from mapix.registry import Candidate
from mapix.source import Source
from mapix.visualrbm.cjson import Node, parse
from mapix.visualrbm.layer import Layer
from mapix.visualrbm.layout import KINDS, MLP, NAME, OLD_MAGIC, Document, old, read
from mapix.visualrbm.model import MODELS, Model, MultilayerPerceptron
from mapix.visualrbm.schedule import MOST_NBYTES, Schedule, tell

__all__ = ["NAME", "open_path", "refusal"]

LOOK_NBYTES = 4096  # of the file's begin, and of its end
WORDS_NBYTES = 1 << 16  # the same, of what may be a schedule: nearly all are shorter
FIRST = re.compile(rb'\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:')
TYPE = re.compile(
    rb'"type"\s*:\s*"(%s|RBM|MLP)"' % "|".join(KINDS).encode(),
    re.I,
)
OURS = re.compile(  # names that hardly anybody else has
    rb'"((?:visible|hidden)(?:count|type|biases)|output(?:type|biases)'
    rb'|activationfunctions|minibatchsize)"\s*:',
    re.I,
)
OF_MODELS = (b'biases"', b'"weights"')
OF_SCHEDULES = (b'"schedule"', b'"minibatchsize"', b'"activationfunctions"')


def _ends(source: Source, nbytes: int = LOOK_NBYTES) -> tuple[bytes, bytes]:
    """The first bytes of a file, without a byte order mark, and the last ones."""
    n = min(nbytes, source.nbytes)
    first, last = (
        bytes(_native.copy(source.mapping, at, n, NAME)) for at in (0, source.nbytes - n)
    )
    return first.removeprefix(b"\xef\xbb\xbf"), last


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be a model or a schedule, or None: see ``mapix.registry.Format``."""
    if candidate.is_directory:
        return "it is a directory"
    path = candidate.path
    try:
        first, last = _ends(candidate.source)
    except MapixError as e:
        return f"it cannot be read ({e})"
    if first[:4] == OLD_MAGIC:
        return None
    begin = FIRST.match(first)
    if begin is None:
        return "no JSON object"
    ours = {n.lower() for part in (first, last) for n in OURS.findall(part)}
    if len(ours) > 1 or TYPE.search(first) or TYPE.search(last):
        return None
    if begin[1] == b"Type" and path.endswith(".json"):
        return None  # say what is wrong with it
    return "no Type of a model or a schedule"


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    strict: bool = False,
    kind: Literal["model", "schedule"] | None = None,
) -> Model | Schedule:
    """Open a model or a training schedule of VisualRBM.

    Parameters
    ----------
    path : str or os.PathLike
        A JSON file; or an older binary `.RBM` file.
    strict : bool
        Take exactly what VisualRBM takes, and read it as VisualRBM does.  By default also other
        orders of names, names that mean nothing, numbers like ``1e-07``, a byte order mark; and
        layers that do not fit one another are kept, where VisualRBM drops them.
    kind : {"model", "schedule"}, optional
        By default a schedule is what has a ``Schedule``.

    Returns
    -------
    RestrictedBoltzmannMachine, AutoEncoder, MultilayerPerceptron or Schedule
        Their arrays are copies in memory; nothing stays open.

    Raises
    ------
    FormatError
        The text breaks the format; the message names the place in it and the byte.
    LimitError
        A schedule of more than 4 MiB, 50,000 values, or 2**20 numbers of all layers in all stages;
        a model of more than 4096 layers, or an object of more than 10,000 names.

    Warns
    -----
    MapixWarning
        Something is odd, or VisualRBM would do another thing with it; the message says what.
    """
    if kind not in (None, "model", "schedule"):
        raise ValueError(f"kind must be model or schedule, got {kind!r}")
    candidate = Candidate.of(path)
    path, source = candidate.path, candidate.source
    try:
        if bytes(_native.copy(source.mapping, 0, min(4, source.nbytes), NAME)) == OLD_MAGIC:
            return _model(old(source), path, strict)
        if kind == "schedule":
            return Schedule.parse(_whole(source), path, strict=strict)
        if kind is None and (root := _schedule(source, strict)) is not None:
            return Schedule.of(root, path, strict=strict)
        source.mapping.advise("sequential")
        return _model(read(source, strict=strict), path, strict)
    finally:
        source.close()


def _whole(source: Source) -> bytes:
    """The text of a schedule."""
    if source.nbytes > MOST_NBYTES:
        limit = f"a schedule of {source.nbytes} bytes, more than {MOST_NBYTES}"
        raise LimitError(f"{source.path}: {NAME}: {limit}")
    return bytes(_native.copy(source.mapping, 0, source.nbytes, NAME))


def _schedule(source: Source, strict: bool) -> Node | None:
    """The outermost value of what has a Schedule, or what only schedules have; None of a model."""
    if source.nbytes > MOST_NBYTES:
        return None
    low = b" ".join(_ends(source, WORDS_NBYTES)).lower()
    if not any(word in low for word in (*OF_SCHEDULES, b"\\u00")):  # nearly always of a model
        return None
    try:
        root = parse(_whole(source), source.path, NAME, strict=strict)
    except LimitError:
        if any(word in low for word in OF_MODELS):
            return None
        raise
    except FormatError:  # no whole text: what is wrong with it depends on what it was to be
        if any(word in low for word in OF_SCHEDULES):
            raise
        return None
    if root.get("Weights") or root.get("HiddenBiases"):  # whatever its author noted in it
        return None
    names = ("Schedule", "MinibatchSize", "ActivationFunctions")
    return root if any(root.get(name) for name in names) else None


def _model(document: Document, path: str, strict: bool) -> Model:
    model = MODELS[document.kind].of(document)
    notes = list(document.notes)
    if isinstance(model, MultilayerPerceptron) and document.kind == MLP:
        kept, dropped = _fitting(model.layers)
        if dropped:
            numbers = ", ".join(map(str, dropped))
            does = "dropped, as" if strict else "kept, though the file does not work;"
            notes.append(f"layers {numbers} do not fit those before: {does} VisualRBM drops them")
            model = MultilayerPerceptron(kept) if strict else model
    model.path, model.unknown = path, tuple(document.unknown)
    tell(path, notes)
    return model


def _fitting(layers: tuple[Layer, ...]) -> tuple[list[Layer], list[int]]:
    """Layers that VisualRBM keeps, and numbers of those that it drops without a word."""
    kept: list[Layer] = []
    dropped = []
    for k, layer in enumerate(layers):
        if kept and kept[-1].outputs != layer.inputs:
            dropped.append(k)
        else:
            kept.append(layer)
    return kept, dropped
