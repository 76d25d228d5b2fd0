"""VisualRBM's tools for IDX files, as functions and as ``mapix idx ...`` commands.

They lose nothing that the originals lose: dimensions are kept, the last line needs no newline,
numbers are read again exactly, and a shuffle is the same on every machine.  ``compat=True`` gives
the bytes of the originals where these differ.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from mapix.errors import FormatError
from mapix.idx.appender import Appender
from mapix.idx.shuffle import fisher_yates
from mapix.idx.writer import Writer
from mapix.registry import open_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.idx.array import IdxArray

__all__ = [
    "append_files",
    "cat",
    "csv2idx",
    "describe",
    "idx2csv",
    "image2csv",
    "join",
    "shuffle",
    "split",
]

Path = str | os.PathLike[str]
BLOCK_ROWS = 4096
GAMMA = 2.2  # of colours, in the image reader of VisualRBM
BYTEORDERS = {">": "big-endian", "<": "little-endian"}
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_LETTERS = {"u1": "%u", "i1": "%i", "i2": "%i", "i4": "%i", "f4": "%.8g", "f8": "%.16g"}


def _open(path: Path) -> IdxArray:
    found: IdxArray = open_dataset(path, format="idx", labels=False)
    return found


def _blocks(a: IdxArray, begin: int = 0, end: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield blocks of the rows begin..end in this machine's byte order."""
    stop = len(a) if end is None else end
    for at in range(begin, stop, BLOCK_ROWS):
        yield a.batch(np.arange(at, min(at + BLOCK_ROWS, stop))).images


def describe(path: Path) -> str:
    """Return byte order, type and dimensions of a file as text."""
    with _open(path) as a:
        order = BYTEORDERS[a.byteorder]
        dims = " x ".join(map(str, a.shape))
        return f"{a.path}: {order}, {a.dtype.name}, {dims}"


def _with_byteorder(arrays: Sequence[IdxArray], options: dict[str, Any]) -> dict[str, Any]:
    """Return options of a file that is made of others; by default it has their byte order."""
    other = next((a for a in arrays if a.byteorder != arrays[0].byteorder), None)
    found = options.get("byteorder")
    if found is None and other is not None:
        raise ValueError(
            f"{arrays[0].path} is {BYTEORDERS[arrays[0].byteorder]}, {other.path} is "
            f"{BYTEORDERS[other.byteorder]}: pass byteorder (--byteorder) of the new file"
        )
    return {**options, "byteorder": found or arrays[0].byteorder}


def csv2idx(source: Path, path: Path, *, dtype: str = "f4", **options: Any) -> None:
    """Write lines of comma-separated numbers as an IDX file, (rows, columns).

    Blanks are ignored.  A line may end with a comma.

    Parameters
    ----------
    source, path : str or os.PathLike
        The text, and the new file.
    dtype : dtype
        Type of the file, float32 by default.  Floats may lose digits.
    **options
        As for ``mapix.idx.Writer``.  ``byteorder`` is ``"<"`` by default, as VisualRBM writes;
        MNIST's readers need ``">"``.

    Raises
    ------
    FormatError
        A line is empty, has another number of columns, or holds other text than numbers, or a
        number that ``dtype`` does not hold.  The message states the line.
    """
    options["byteorder"] = options.get("byteorder") or "<"
    name = os.fspath(source)
    out: Writer | None = None
    columns = 0
    try:
        with pathlib.Path(source).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = _numbers(line, name, number)
                if out is None:
                    columns = len(row)
                    out = Writer(path, dtype, (columns,), **options)
                if len(row) != columns:
                    reason = f"line {number}: {columns} numbers expected, {len(row)} found"
                    raise FormatError(name, "csv", reason)
                out.append(_held(row, out.dtype.newbyteorder("="), name, number))
        if out is None:
            raise FormatError(name, "csv", "no lines")
    except BaseException:
        if out is not None:
            out.abort()
        raise
    out.close()


def _numbers(line: str, name: str, number: int) -> list[float]:
    parts = [
        p.replace(" ", "").replace("\t", "").replace("\r", "") for p in line.strip().split(",")
    ]
    if parts and not parts[-1]:
        parts.pop()
    if not parts:
        raise FormatError(name, "csv", f"line {number}: it is empty")
    for p in parts:
        if not _NUMBER.fullmatch(p):
            raise FormatError(name, "csv", f"line {number}: {p[:40]!r} is not a number")
    return [float(p) for p in parts]


def _held(row: list[float], dtype: np.dtype[Any], name: str, number: int) -> NDArray[Any]:
    """Return the numbers of a line in the type of the file."""
    given = np.array(row, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        made = given.astype(dtype)
    bad = np.isinf(made) if dtype.kind == "f" else made != given
    if bad.any():
        at = int(np.argmax(bad))
        reason = f"line {number}: {dtype} does not hold {row[at]!r} in column {at + 1}"
        raise FormatError(name, "csv", reason)
    return made


def idx2csv(path: Path, out: IO[str], *, compat: bool = False) -> None:
    """Write rows as lines of comma-separated numbers, each as short as exactness allows.

    Parameters
    ----------
    path : str or os.PathLike
        The IDX file; a row of several dimensions becomes one line.
    out : text file
        The output.
    compat : bool
        Write as VisualRBM does: 8 or 16 digits, and a comma at the end of each line.
    """
    with _open(path) as a:
        form = _LETTERS[a.header.code]
        for block in _blocks(a):
            for row in block.reshape(len(block), -1):
                if compat:
                    out.write("".join(form % v + "," for v in row.tolist()) + "\n")
                else:
                    out.write(",".join(_short(v) for v in row) + "\n")


def _short(value: Any) -> str:
    return str(value.item()) if value.dtype.kind != "f" else repr(value).partition("(")[2][:-1]


def cat(sources: Sequence[Path], path: Path, **options: Any) -> None:
    """Join the rows of several files; dimensions and byte order are kept.

    Raises
    ------
    ValueError
        Types or dimensions of rows differ; or byte orders differ, and ``byteorder`` is not given.
    """
    arrays = [_open(p) for p in sources]
    first = arrays[0]
    for a in arrays[1:]:
        if (a.header.code, a.shape[1:]) != (first.header.code, first.shape[1:]):
            raise ValueError(
                f"{a.path}: {a.dtype} {a.shape}, {first.path}: {first.dtype} {first.shape}"
            )
    options = _with_byteorder(arrays, options)
    with Writer(path, first.header.code, first.shape[1:], **options) as out:
        for a in arrays:
            for block in _blocks(a):
                out.extend(block)


def append_files(sources: Sequence[Path], path: Path) -> int:
    """Append the rows of files to a file, in its byte order; return its number of rows.

    Raises
    ------
    ValueError
        Types or dimensions of rows differ.  Nothing is appended.
    """
    with Appender(path) as out:
        for source in sources:
            with _open(source) as a:
                if (a.header.code, a.shape[1:]) != (out.dtype.str[1:], out.row_shape):
                    raise ValueError(
                        f"{a.path}: rows {a.dtype} {a.shape[1:]}, "
                        f"{os.fspath(path)} has {out.dtype} {out.row_shape}"
                    )
                for block in _blocks(a):
                    out.extend(block)
    return out.nrows


def join(sources: Sequence[Path], path: Path, **options: Any) -> None:
    """Join the columns of several files, (rows, all columns), in their byte order.

    Raises
    ------
    ValueError
        Types or numbers of rows differ; or byte orders differ, and ``byteorder`` is not given.
    """
    arrays = [_open(p) for p in sources]
    first = arrays[0]
    for a in arrays[1:]:
        if (a.header.code, len(a)) != (first.header.code, len(first)):
            raise ValueError(
                f"{a.path}: {a.dtype} {a.shape}, {first.path}: {first.dtype} {first.shape}"
            )
    columns = sum(int(np.prod(a.shape[1:], dtype=np.int64)) for a in arrays)
    options = _with_byteorder(arrays, options)
    with Writer(path, first.header.code, (columns,), **options) as out:
        for blocks in zip(*(_blocks(a) for a in arrays), strict=True):
            out.extend(np.concatenate([b.reshape(len(b), -1) for b in blocks], axis=1))


def _like(a: IdxArray, compat: bool) -> tuple[int, ...]:
    """Return the dimensions of rows; VisualRBM makes them one."""
    return (int(np.prod(a.shape[1:], dtype=np.int64)),) if compat else a.shape[1:]


def split(
    source: Path,
    path: Path,
    begin: int,
    count: int | None = None,
    *,
    compat: bool = False,
    **options: Any,
) -> None:
    """Copy the rows begin..begin + count of a file, in its byte order; ``compat`` flattens rows.

    Raises
    ------
    ValueError
        The file has no such rows.
    """
    with _open(source) as a:
        end = len(a) if count is None else begin + count
        if not 0 <= begin <= end <= len(a):
            raise ValueError(f"{a.path}: rows {begin} to {end} of {len(a)}")
        row = _like(a, compat)
        options = _with_byteorder([a], options)
        with Writer(path, a.header.code, row, **options) as out:
            for block in _blocks(a, begin, end):
                out.extend(block.reshape(len(block), *row))


def shuffle(
    source: Path,
    path: Path,
    *,
    seed: int = 1,
    compat: bool | Literal["libstdc++"] = False,
    **options: Any,
) -> None:
    """Shuffle rows, in the same way on every machine for a seed.

    Parameters
    ----------
    source, path : str or os.PathLike
        The file, and the new one.
    seed : int
        Seed of the permutation; VisualRBM's is 1.
    compat : bool or "libstdc++"
        True flattens rows, as VisualRBM does.  ``"libstdc++"`` also uses its permutation, which
        depends on the C++ library that it was built with, here GNU's.
    **options
        As for ``mapix.idx.Writer``.
    """
    if compat not in (True, False, "libstdc++"):
        raise ValueError(f"compat must be True, False or libstdc++, got {compat!r}")
    with _open(source) as a:
        row = _like(a, bool(compat))
        if compat == "libstdc++":
            permutation = fisher_yates(len(a), seed)
        else:
            # numpy guarantees the bits of a generator for ever, but not the results of its methods
            permutation = np.argsort(np.random.PCG64(seed).random_raw(len(a)), kind="stable")
        options = _with_byteorder([a], options)
        with Writer(path, a.header.code, row, **options) as out:
            for at in range(0, len(permutation), BLOCK_ROWS):
                block = a.batch(permutation[at : at + BLOCK_ROWS]).images
                out.extend(block.reshape(len(block), *row))


def image2csv(path: Path, out: IO[str], *, compat: bool = False) -> None:
    """Write the pixels of an image as one line of numbers 0..1, channels last; needs Pillow.

    ``compat`` applies VisualRBM's gamma of 2.2 to colours (not to alpha), and prints six digits.
    """
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image, np.float64) / 255
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if compat:
        colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))
        pixels[..., :colours] **= GAMMA
        out.write("".join(f"{v:f}," for v in pixels.ravel().tolist()) + "\n")
    else:
        out.write(",".join(repr(v) for v in pixels.ravel().tolist()) + "\n")
