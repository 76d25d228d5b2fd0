"""Opening of models and schedules."""

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
from mapix.visualrbm.schedule import MOST_NBYTES, Schedule, warn_of

__all__ = ["NAME", "open_path", "refusal"]

ENDS_NBYTES = 4096  # of the beginning of a file, and of its end
SCHEDULE_ENDS_NBYTES = 1 << 16  # the same, of a possible schedule: nearly all are shorter
FIRST = re.compile(rb'\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:')
TYPE = re.compile(
    rb'"type"\s*:\s*"(%s|RBM|MLP)"' % "|".join(KINDS).encode(),
    re.I,
)
OWN_NAMES = re.compile(  # hardly any other JSON has them
    rb'"((?:visible|hidden)(?:count|type|biases)|output(?:type|biases)'
    rb'|activationfunctions|minibatchsize)"\s*:',
    re.I,
)
OF_MODELS = (b'biases"', b'"weights"')
OF_SCHEDULES = (b'"schedule"', b'"minibatchsize"', b'"activationfunctions"')


def _ends(source: Source, nbytes: int = ENDS_NBYTES) -> tuple[bytes, bytes]:
    """Return the first bytes of a file, without a byte order mark, and the last ones."""
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
    ours = {n.lower() for part in (first, last) for n in OWN_NAMES.findall(part)}
    if len(ours) > 1 or TYPE.search(first) or TYPE.search(last):
        return None
    if begin[1] == b"Type" and path.endswith(".json"):
        return None  # opening it states the error
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
        Accept exactly what VisualRBM accepts, and read it as VisualRBM does.  By default also other
        orders of names, unknown names, numbers like ``1e-07`` and a byte order mark are accepted,
        and layers that do not fit one another stay, where VisualRBM drops them.
    kind : {"model", "schedule"}, optional
        By default a file with a ``Schedule`` is a schedule.

    Returns
    -------
    RestrictedBoltzmannMachine, AutoEncoder, MultilayerPerceptron or Schedule
        Its arrays are copies in memory; nothing stays open.

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
        Something is odd, or VisualRBM would read it in another way; the message states what.
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
    """Return the text of a schedule."""
    if source.nbytes > MOST_NBYTES:
        limit = f"a schedule of {source.nbytes} bytes, more than {MOST_NBYTES}"
        raise LimitError(f"{source.path}: {NAME}: {limit}")
    return bytes(_native.copy(source.mapping, 0, source.nbytes, NAME))


def _schedule(source: Source, strict: bool) -> Node | None:
    """Return the outermost value of a schedule; None of a model."""
    if source.nbytes > MOST_NBYTES:
        return None
    low = b" ".join(_ends(source, SCHEDULE_ENDS_NBYTES)).lower()
    if not any(word in low for word in (*OF_SCHEDULES, b"\\u00")):  # nearly always a model
        return None
    try:
        root = parse(_whole(source), source.path, NAME, strict=strict)
    except LimitError:
        if any(word in low for word in OF_MODELS):
            return None
        raise
    except FormatError:  # the error to raise depends on what the file was to be
        if any(word in low for word in OF_SCHEDULES):
            raise
        return None
    if root.get("Weights") or root.get("HiddenBiases"):  # a model, whatever other names it has
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
            does = "dropped, as" if strict else "kept, so that the model does not work;"
            notes.append(f"layers {numbers} do not fit those before: {does} VisualRBM drops them")
            model = MultilayerPerceptron(kept) if strict else model
    model.path, model.unknown = path, tuple(document.unknown)
    warn_of(path, notes)
    return model


def _fitting(layers: tuple[Layer, ...]) -> tuple[list[Layer], list[int]]:
    """Return the layers that VisualRBM keeps, and the numbers of those that it drops silently."""
    kept: list[Layer] = []
    dropped = []
    for k, layer in enumerate(layers):
        if kept and kept[-1].outputs != layer.inputs:
            dropped.append(k)
        else:
            kept.append(layer)
    return kept, dropped
