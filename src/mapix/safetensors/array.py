"""A tensor of a safetensors file as rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from mapix.errors import FormatError, MapixError, UnsupportedError
from mapix.named_arrays import beside as usual_labels
from mapix.named_arrays import check_name, only_array
from mapix.registry import Candidate
from mapix.rowarray import RowArray
from mapix.safetensors.layout import LENGTH_NBYTES, NAME, Header, Tensor, read_header

if TYPE_CHECKING:
    from mapix.byte_ranges import Walk
    from mapix.source import Source

__all__ = ["SafetensorsArray", "open_path", "refusal"]


class SafetensorsArray(RowArray):
    """Rows of a tensor of a safetensors file: views of the file.  Made by ``mapix.open``.

    Attributes
    ----------
    tensors : tuple of str
        Names of all tensors of the file.
    tensor : str
        The one whose rows these are.
    metadata : dict
        The texts in the header.
    """

    FAMILY = NAME
    tensor: str

    def __init__(
        self,
        source: Source,
        header: Header,
        tensor: Tensor,
        labels: SafetensorsArray | None = None,
        axes: str = "HWC",
    ) -> None:
        chosen: dict[str, Any] = {"tensor": tensor.name, "axes": axes, "labels": False}
        if labels is not None:
            chosen["labels"] = labels.tensor
        assert tensor.dtype is not None
        super().__init__(
            *(source, tensor.dtype, tensor.shape, tensor.at),
            labels=labels,
            planar=axes == "CHW",
            options=chosen,
        )
        self.tensors = tuple(header.tensors)
        self.tensor = tensor.name
        self.metadata = header.metadata

    def _facts(self) -> dict[str, Any]:
        labels: str | None = getattr(self.labels, "tensor", None)
        return {
            **super()._facts(),
            "tensor": self.tensor,
            "tensors": list(self.tensors),
            "labels": labels,
            "metadata": self.metadata,
        }

    def _walk_header(self, walk: Walk) -> None:
        (nbytes,) = walk.numbers("<Q", "length of the header")
        walk.at = LENGTH_NBYTES
        walk.string("header", int(nbytes), "header")


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be a safetensors file, or None: see ``mapix.registry.Format``."""
    if candidate.is_directory:
        return "a directory"
    if candidate.path.endswith(".safetensors"):
        return None
    try:
        read_header(candidate.source)
    except MapixError as e:
        return f"not the header of a safetensors file ({str(e)[-80:]})"
    return None


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    tensor: str | None = None,
    labels: str | Literal[False] | None = None,
    axes: Literal["HWC", "CHW"] = "HWC",
) -> SafetensorsArray:
    """Open a tensor of a safetensors file; nothing but the header is read.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    tensor : str, optional
        The tensor; by default ``images``, ``x``, ``arr_0`` or ``data``, or the only one that there
        is.
    labels : str, optional
        A tensor with one row for each of its rows; by default ``labels`` or ``y``, if ``tensor`` is
        not given.  False for none.
    axes : {"HWC", "CHW"}
        Dimensions of a row that has three.

    Raises
    ------
    FormatError
        The file is damaged or empty, has no such tensor, or another number of labels than of rows.
    UnsupportedError
        There are several tensors, and no option chooses one; or the tensor has no rows, or numbers
        of a type that numpy lacks (BF16, F8).
    """
    if axes not in ("HWC", "CHW"):
        raise ValueError(f"axes must be HWC or CHW, got {axes!r}")
    source = Candidate.of(path).source
    header = read_header(source)
    names = header.tensors
    name = tensor
    if name is None:
        name = only_array(names, source.path, NAME, "tensor=, and labels= if there are some")
    beside = labels or None
    if labels is None and tensor is None:
        beside = usual_labels(names, name)
    for wanted in (name, *([beside] if beside else [])):
        check_name(wanted, names, source.path, NAME)
        found = names[wanted]
        if not found.shape or found.dtype is None:
            what = "has no rows" if found.dtype is not None else f"is {found.type}"
            raise UnsupportedError(f"{source.path}: {NAME}: tensor {wanted!r} {what}")
    source.mapping.advise("random")
    rows = header.tensors[name]
    if beside is None:
        return SafetensorsArray(source, header, rows, None, axes)
    others = header.tensors[beside]
    if others.shape[0] != rows.shape[0]:
        reason = (
            f"{rows.shape[0]} rows in {name!r}, {others.shape[0]} labels in {beside!r}; pass "
            "labels= (False for none)"
        )
        raise FormatError(source.path, NAME, reason)
    return SafetensorsArray(source, header, rows, SafetensorsArray(source, header, others), axes)
