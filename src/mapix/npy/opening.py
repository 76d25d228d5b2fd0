"""From a path to the rows of a ``.npy`` file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from mapix import _native
from mapix.errors import FormatError, TruncatedError
from mapix.npy.array import NpyArray
from mapix.npy.layout import FRONT_NBYTES, NPY, Header, parse
from mapix.registry import Candidate

if TYPE_CHECKING:
    from mapix.source import Source

__all__ = ["Axes", "check_axes", "check_size", "header_at", "open_npy"]

PAGE_NBYTES = 4096

Axes = Literal["HWC", "CHW"]


def header_at(source: Source, at: int, nbytes: int, path: str, format: str) -> Header:
    """Return the header of an array of ``nbytes`` at byte ``at``.

    Of the first page, which nearly always has all of it; else of as much as a header may take.
    """
    page, most = min(PAGE_NBYTES, nbytes), min(FRONT_NBYTES, nbytes)
    try:
        return parse(bytes(_native.copy(source.mapping, at, page, format)), path, format)
    except TruncatedError:
        if page == most:
            raise
    return parse(bytes(_native.copy(source.mapping, at, most, format)), path, format)


def check_size(header: Header, nbytes: int, path: str, format: str) -> None:
    """Refuse an array that is not as long as its header states."""
    want = header.nbytes + header.array_nbytes
    if nbytes == want:
        return
    from mapix.text import array_text

    what = array_text(header.shape, header.dtype)
    reason = f"{what} takes {want:,} bytes, there are {nbytes:,}"
    kind = TruncatedError if nbytes < want else FormatError
    raise kind(path, format, reason, at=min(nbytes, want))


def check_axes(axes: str) -> None:
    """Raise ValueError for other axes than HWC and CHW."""
    if axes not in ("HWC", "CHW"):
        raise ValueError(f"axes must be HWC or CHW, got {axes!r}")


def open_npy(path: str | os.PathLike[str] | Candidate, *, axes: Axes = "HWC") -> NpyArray:
    """Open a ``.npy`` file; nothing but its header is read.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    axes : {"HWC", "CHW"}
        Dimensions of a row that has three.

    Returns
    -------
    NpyArray

    Raises
    ------
    FormatError
        The header is damaged, or the file is not as long as the header states.
    UnsupportedError
        The array holds Python objects, or is stored in Fortran order.
    """
    check_axes(axes)
    source = Candidate.of(path).source
    header = header_at(source, 0, source.nbytes, source.path, NPY)
    check_size(header, source.nbytes, source.path, NPY)
    source.mapping.advise("random")
    return NpyArray(source, header, axes=axes)
