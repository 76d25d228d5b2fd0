"""Writers of models: JSON, npz and safetensors; a file appears complete or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mapix.errors import UnsupportedError
from mapix.store import SYSTEM, Calls, NewWhole
from mapix.visualrbm.layout import NAME, Document, as_original, exactly, lines

if TYPE_CHECKING:
    from mapix.visualrbm.model import Model

__all__ = ["write"]

EXTRA = "needs the safetensors package: pip install 'mapix[safetensors]'"


def write(
    path: str | os.PathLike[str],
    model: Model,
    *,
    format: Literal["json", "npz", "safetensors"] | None = None,
    compat: Literal["visualrbm"] | None = None,
    replace: bool = False,
    calls: Calls = SYSTEM,
) -> None:
    """Write a model.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    model : Model
        What to write.
    format : {"json", "npz", "safetensors"}, optional
        By default what the name ends with; JSON for other names.
    compat : {"visualrbm"}, optional
        JSON byte for byte as VisualRBM writes it: six digits after the point, which loses most of a
        float32.  By default a number is the shortest text that gives the same float32 back, in the
        grammar that VisualRBM reads.
    replace : bool
        Whether a file that is there may be replaced, in one step.
    calls : mapix.store.Calls
        The operating system; for tests.

    Raises
    ------
    ValueError
        A number is NaN, which JSON does not have; or infinite, and VisualRBM's text is asked for.
    UnsupportedError
        The safetensors package is not there.
    """
    name = os.fspath(path)
    ends = {".npz": "npz", ".safetensors": "safetensors"}
    format = format or ends.get(os.path.splitext(name)[1], "json")  # type: ignore[assignment]
    if compat not in (None, NAME):
        raise ValueError(f"compat must be {NAME} or None, got {compat!r}")
    if format not in _WRITERS:
        raise ValueError(f"format must be one of {', '.join(_WRITERS)}, got {format!r}")
    if compat and format != "json":
        raise ValueError(f"VisualRBM writes JSON, not {format}")
    with NewWhole(name, calls, replace=replace) as out:
        _WRITERS[format](out, model, compat)


def _json(out: NewWhole, model: Model, compat: str | None) -> None:
    document = model.document()
    if compat:
        for array in document.arrays().values():
            if not np.isfinite(array).all():
                raise ValueError("the text of VisualRBM has neither NaN nor infinite numbers")
    for piece in lines(document, as_original if compat else exactly):
        out.write(piece.encode())


def texts(document: Document) -> dict[str, str]:
    """Return the kind and the activation functions, by the names of the file."""
    found = {"Type": document.kind}
    found |= {k: v for k, v in document.fields.items() if isinstance(v, str)}
    return found | {f"Layers.{i}.Function": la["Function"] for i, la in enumerate(document.layers)}


class _Stream:
    """A file for zipfile that cannot seek."""

    def __init__(self, out: NewWhole) -> None:
        self._out = out

    def write(self, data: Any) -> int:
        self._out.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        pass

    def read(self, n: int = -1) -> bytes:  # numpy takes an object with it for an open file
        raise OSError("it is written only")


def _npz(out: NewWhole, model: Model, compat: str | None) -> None:
    document = model.document()
    words = {k: np.array(v) for k, v in texts(document).items()}
    np.savez(_Stream(out), **document.arrays(), **words)  # type: ignore[arg-type]


def _safetensors(out: NewWhole, model: Model, compat: str | None) -> None:
    try:
        from safetensors.numpy import save
    except ImportError as e:
        raise UnsupportedError(f"{out.path}: {EXTRA}") from e
    import json

    document = model.document()
    metadata = {"mapix.visualrbm": json.dumps(texts(document))}
    out.write(save(document.arrays(), metadata=metadata))


_WRITERS = {"json": _json, "npz": _npz, "safetensors": _safetensors}
