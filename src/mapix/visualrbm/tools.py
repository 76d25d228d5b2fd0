"""The programs of VisualRBM as functions on files, and as ``mapix visualrbm ...``."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mapix.errors import FormatError
from mapix.registry import open_dataset, resolved
from mapix.visualrbm.layer import Approx, Layer
from mapix.visualrbm.layout import NAME
from mapix.visualrbm.model import Model, MultilayerPerceptron, Pair, stack
from mapix.visualrbm.schedule import Schedule, Stage

__all__ = ["convert", "describe", "hidden", "parts", "schedule_text", "stack_files"]

Path = str | os.PathLike[str]
BLOCK_NBYTES = 16 << 20


def _model(path: Path, **options: Any) -> Model:
    found: Model = open_dataset(path, format=NAME, kind="model", **options)
    return found


def describe(path: Path, *, strict: bool = False) -> str:
    """Return one line that describes the file of a model or a schedule."""
    return line_of(open_dataset(path, format=NAME, strict=strict))


def line_of(opened: Model | Schedule) -> str:
    """Return one line that describes a model or a schedule."""
    return repr(opened)[1:-1].removeprefix("mapix.visualrbm.")


def hidden(
    source: Path, path: Path, model: Model | Path, *, approx: Approx | None = None, **options: Any
) -> None:
    """Write the outputs of a model for each row of an IDX file, as VisualRBM's calchidden does.

    Parameters
    ----------
    source : str or os.PathLike
        IDX file of float32 or float64; rows of more dimensions are flattened.
    path : str or os.PathLike
        The new file: float32 (rows, outputs), in the byte order of the source.
    model : Model, or its file
        Restricted Boltzmann machines and autoencoders give their hidden units, perceptrons their
        outputs.
    approx : {"visualrbm"}, optional
        The same bits as VisualRBM, its approximations included.
    **options
        As for ``mapix.idx.Writer``.

    Raises
    ------
    ValueError
        Rows are not as long as the model asks for.
    FormatError
        The file has no floats.
    """
    found = model if isinstance(model, Model) else _model(model)
    rows = open_dataset(source, format="idx", labels=False)
    with rows:
        if rows.dtype.kind != "f":
            reason = f"float32 or float64 expected, got {rows.dtype.name}"
            raise FormatError(rows.path, "idx", reason, at=2)
        n = int(np.prod(rows.shape[1:], dtype=np.int64))
        if n != found.inputs:
            raise ValueError(f"{rows.path}: rows of {n} numbers, the model takes {found.inputs}")
        step = max(1, BLOCK_NBYTES // (4 * max(n, found.outputs)))
        options = {"byteorder": rows.byteorder, **options}
        writer = resolved("mapix.idx:Writer")  # the format that VisualRBM's programs write
        with writer(path, np.float32, (found.outputs,), **options) as out:
            for at in range(0, len(rows), step):
                block = rows.batch(np.arange(at, min(at + step, len(rows)))).images
                out.extend(found.hidden(block.reshape(len(block), n), approx=approx))


def parts(
    path: Path, *, transposed: bool = False, index: int = 0, count: int | None = None
) -> list[Layer]:
    """Return the layers of a file's model, for a stack.

    Raises
    ------
    ValueError
        A perceptron cannot be transposed, or does not have these layers.
    """
    model = _model(path)
    if isinstance(model, Pair):
        return [model.transposed() if transposed else model.encoder]
    if transposed:
        raise ValueError(f"{os.fspath(path)}: a perceptron cannot be transposed")
    assert isinstance(model, MultilayerPerceptron)
    end = len(model) if count is None else index + count
    if not 0 <= index <= end <= len(model):
        raise ValueError(f"{os.fspath(path)}: layers {index} to {end} of {len(model)}")
    return list(model[index:end])


def stack_files(chosen: list[dict[str, Any]], path: Path, **options: Any) -> None:
    """Write a perceptron of the layers of several files, as VisualRBM's buildmlp does.

    Parameters
    ----------
    chosen : list of dict
        Arguments of ``parts``, in order.
    path : str or os.PathLike
        The new file.
    **options
        As for ``mapix.visualrbm.write``.

    Raises
    ------
    ValueError
        Layers do not fit one another.
    """
    stack(*(parts(**c) for c in chosen)).write(path, **options)


def convert(source: Path, path: Path, *, strict: bool = False, **options: Any) -> None:
    """Write a model or a schedule to another file: JSON, npz or safetensors, by the name's end.

    Parameters
    ----------
    source, path : str or os.PathLike
        The file, and the new one.
    strict : bool
        Accept only what VisualRBM accepts.
    **options
        As for ``mapix.visualrbm.write``.
    """
    found: Model | Schedule = open_dataset(source, format=NAME, strict=strict)
    if isinstance(found, Schedule) and options.keys() - {"replace"}:
        raise ValueError(f"{found.path}: a schedule is written as JSON, in one way")
    found.write(path, **options)


def schedule_text(schedule: Schedule) -> str:
    """Return a schedule as text: the model, then a line for each stage."""
    head = f"{schedule.kind} {' -> '.join(map(str, schedule.layers))}"
    head += f", {', '.join(schedule.functions)}; minibatches of {schedule.minibatch_size}, "
    lines = [f"{head}seed {schedule.seed}"]
    first = 0
    for stage in schedule.stages:
        values = (f"{k} {_short(v)}" for k, v in _given(stage))
        last = first + stage.epochs - 1
        which = f"epoch {first}" if first == last else f"epochs {first} to {last}"
        lines.append(f"  {which}: {', '.join(values)}")
        first += stage.epochs
    return "\n".join(lines)


def _given(stage: Stage) -> list[tuple[str, Any]]:
    names = Stage.__dataclass_fields__
    pairs = [(k, getattr(stage, k)) for k in names if k != "epochs"]
    return [(k, v) for k, v in pairs if v is not None]


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:g}" if len(set(value)) == 1 else " and ".join(f"{v:g}" for v in value)
    return f"{value:g}"
