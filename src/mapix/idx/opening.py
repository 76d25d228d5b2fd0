"""From a path to an IDX array, and its labels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mapix import _native
from mapix.errors import FormatError, MapixError, TruncatedError
from mapix.idx import gzipped
from mapix.idx.layout import MOST_DIMS, NAME, PREFIX_NBYTES, Header, parse
from mapix.idx.names import FILES, images_of, labels_of
from mapix.registry import Candidate
from mapix.source import Source

if TYPE_CHECKING:
    from mapix.idx.array import IdxArray

__all__ = ["header_of", "open_path", "refusal"]

FRONT_NBYTES = PREFIX_NBYTES + 4 * MOST_DIMS
ENDS = (".idx", "-ubyte", "-idx2-int")  # of names of IDX files


def _front(source: Source) -> bytes:
    return bytes(_native.copy(source.mapping, 0, min(FRONT_NBYTES, source.nbytes), NAME))


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be IDX, or None.  See ``mapix.registry.Format``."""
    path = candidate.path
    if candidate.is_directory:
        found = images_of(path, "train") or images_of(path, "test")
        return None if found else "no IDX files in it"
    source = candidate.source
    try:
        front = _front(source)
        if front[:2] == gzipped.MAGIC:
            parse(_unpacked_front(source), path)
            return None
        header = parse(front, path)
    except MapixError as e:
        if path.removesuffix(".gz").endswith(ENDS):
            return None  # the error of opening states what is wrong with it
        return f"no header ({str(e)[-60:]})"
    whole = header.file_nbytes == source.nbytes or path.endswith(ENDS)
    return None if whole else f"the header asks for {header.file_nbytes} bytes"


def open_path(
    path: str | os.PathLike[str] | Candidate, *, split: str | None = None, labels: bool = True
) -> IdxArray:
    """Open an IDX file, or a directory of MNIST's.

    Parameters
    ----------
    path : str or os.PathLike
        A file, compressed by gzip or not; or a directory of MNIST, Fashion-MNIST, KMNIST, QMNIST or
        one of EMNIST's sets, in the layout of torchvision or Kaggle.
    split : {"train", "test"}, optional
        Split of a directory; ``"train"`` by default.
    labels : bool
        Whether labels in the same directory (``...-labels-idx1-ubyte``) are opened with images,
        row for row.  QMNIST's are (n, 8) int32, the digit first.

    Returns
    -------
    IdxArray

    Raises
    ------
    FormatError
        The header is damaged, the file is not as long as the header states, the labels are more or
        fewer than the images, or a directory has several datasets.
    """
    candidate = Candidate.of(path)
    path = candidate.path
    if candidate.is_directory:
        if split not in (None, *FILES):
            raise ValueError(f"split must be train or test, got {split!r}")
        found = images_of(path, split or "train")
        if not found:
            raise FileNotFoundError(f"{path}: no {FILES[split or 'train'].format(3)}")
        if len(found) > 1:
            listed = ", ".join(os.path.relpath(p, path) for p in found)
            raise FormatError(path, NAME, f"several datasets; open one of the files: {listed}")
        return _open(Source(found[0], candidate.expect), labels=labels, of_directory=True)
    if split is not None:
        raise ValueError(f"{path} is a file; split= chooses among the files of a directory")
    return _open(candidate.source, labels=labels)


def header_of(source: Source) -> Header:
    """Return the header of a file; raise FormatError where the file has another length."""
    header = parse(_front(source), source.path)
    _check(header, source)
    return header


def _open(source: Source, *, labels: bool, of_directory: bool = False) -> IdxArray:
    from mapix.idx.array import IdxArray  # here: directories ask whether they are IDX

    numbers = source
    if _front(source)[:2] == gzipped.MAGIC:
        from mapix.unpacked import cached

        header = parse(_unpacked_front(source), source.path)
        numbers = cached(source, lambda: gzipped.inflated(source, NAME), header.file_nbytes, NAME)
    else:
        header = header_of(source)
    numbers.mapping.advise("random")
    beside = labels_of(source.path) if labels else None
    found = None if beside is None else _open(Source(beside), labels=False)
    if found is not None and len(found) != header.shape[0]:
        reason = f"{header.shape[0]} images, {len(found)} labels in {beside}"
        raise FormatError(source.path, NAME, reason)
    return IdxArray(source, header, numbers=numbers, labels=found, of_directory=of_directory)


def _unpacked_front(source: Source) -> bytes:
    """Return the first bytes of the data of a gzip file."""
    found = b""
    for piece in gzipped.inflated(source, NAME):
        found += piece
        if len(found) >= FRONT_NBYTES:
            break
    return found[:FRONT_NBYTES]


def _check(header: Header, source: Source) -> None:
    want, got = header.file_nbytes, source.nbytes
    if got == want:
        return
    from mapix.text import array_text

    what = array_text(header.shape, header.dtype)
    if got < want:
        reason = f"{what} takes {want:,} bytes, the file has {got:,}"
        raise TruncatedError(source.path, NAME, reason, at=got)
    if got > want:
        reason = f"{what} takes {want:,} bytes, the file has {got - want:,} more"
        if header.shape[0] == 0:
            reason += "; its writer was not closed, and did not write the number of rows"
        raise FormatError(source.path, NAME, reason, at=want)
