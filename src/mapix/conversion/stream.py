"""The stream between a source and a target: blocks of records, labels, and everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix._native.compiled import fast
from mapix.batch import Batch
from mapix.errors import UnsupportedError
from mapix.text import array_text

__all__ = [
    "BESIDES",
    "BLOCK_NBYTES",
    "Axes",
    "Block",
    "Label",
    "Later",
    "Stream",
    "block_edges",
    "classes_of",
    "encodable",
    "facts_of",
    "has_range",
    "kept_by_facts",
    "label_columns",
    "lost_by_facts",
    "nameable",
    "pictures",
    "row_blocks",
    "user_values",
    "writable",
]

BLOCK_NBYTES = 8 << 20  # of pixels in memory at once

CHANNELS = {1, 3, 4}  # of images that PNG holds: grey, RGB, RGBA

BESIDES = frozenset(
    (
        *("names", "facts", "files"),  # of image folders
        *("frames", "depth", "colours", "transparency", "profile", "exif"),  # of their pictures
        *("spec_range", "info", "fixed"),  # of VIMH
        *("comment", "som"),  # of PINK
    )
)
"""Names of the data that sources hold besides numbers and labels; a target names those it keeps."""

Axes = Literal["HW", "HWC", "CHW"]
Values = Callable[[], tuple[NDArray[Any], NDArray[np.bool_]]]
"""Returns values, (n,), and presence, bool (n,), of all records."""


class Scale(Protocol):
    """The meaning of the codes of a label, 0..255."""

    @property
    def min(self) -> float:
        """The smallest value."""

    @property
    def max(self) -> float:
        """The largest value."""

    @property
    def step(self) -> float:
        """The distance of two classes."""

    @property
    def num_classes(self) -> int:
        """The number of classes."""

    @property
    def description(self) -> str:
        """A text for people."""

    def dequantise(self, codes: ArrayLike) -> Any:
        """Return codes as values."""

    def class_of(self, codes: ArrayLike) -> Any:
        """Return codes as class numbers."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label of all records.

    Attributes
    ----------
    name : str
        Name of the label.
    read : callable
        Returns values, integers (n,), and presence, bool (n,), of all records.  Only labels are
        read.
    parameter : Scale or None
        The scale of values that are codes, 0..255; None where values are class numbers, or other
        integers.
    classes : tuple of str
        Names of class numbers, where the source has them.
    listed : bool
        Whether records have it as ``categories``, a list of one item, as image folders do.
    """

    name: str
    read: Values
    parameter: Scale | None = None
    classes: tuple[str, ...] = ()
    listed: bool = False

    @property
    def key(self) -> str:
        """The key of the label in ``Stream.held``."""
        return f"label:{self.name}"


T = TypeVar("T")


class Later(Sequence[T]):
    """A sequence that is made when it is first used."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], Sequence[T]]) -> None:
        self._make = make
        self._made: Sequence[T] | None = None

    def _all(self) -> Sequence[T]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[T]: ...
    def __getitem__(self, key: Any) -> Any:
        return self._all()[key]

    def __iter__(self) -> Iterator[T]:
        return iter(self._all())


@dataclass(slots=True)
class Block:
    """Successive records.

    Attributes
    ----------
    runs : sequence of ndarray
        (k, *shape) each: successive records of one shape.
    values, present : mapping of str to ndarray
        Values of a label, integers (n,), and whether each record has it.
    spec_range : ndarray or None
        Smallest and largest value that the pixels stand for, float32 (n, 2).
    names : list of str or None
        File names, where records are files.
    facts : list of dict or None
        Further values of each record, as JSON.
    flat : Batch or None
        The same records as a flat batch of planar pixels, which some writers copy.
    """

    runs: Sequence[NDArray[Any]]
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    spec_range: NDArray[np.float32] | None = None
    names: list[str] | None = None
    facts: list[dict[str, Any]] | None = None
    flat: Batch | None = None

    def __len__(self) -> int:
        return sum(map(len, self.runs)) if self.flat is None else len(self.flat)

    def shapes(self) -> NDArray[np.int64]:
        """Return the shape of each record, int64 (n, ndim)."""
        if self.flat is not None:
            return self.flat.shapes.astype(np.int64)
        each = np.array([run.shape[1:] for run in self.runs], np.int64)
        return np.repeat(each, [len(run) for run in self.runs], axis=0)

    def cut(self, begin: int, end: int) -> Block:
        """Return some of the records, without a copy."""
        some = slice(begin, end)
        return Block(
            [
                run[max(begin - at.start, 0) : end - at.start]
                for at, run in self.parts()
                if at.start < end and begin < at.stop
            ],
            {name: values[some] for name, values in self.values.items()},
            {name: present[some] for name, present in self.present.items()},
            None if self.spec_range is None else self.spec_range[some],
            None if self.names is None else self.names[some],
            None if self.facts is None else self.facts[some],
        )

    def joined(self) -> NDArray[Any]:
        """Return the numbers of all records in succession, each record in C order."""
        if self.flat is not None and fast is not None:
            made: NDArray[Any] | None = fast.interleaved(self.flat.images, self.flat.shapes)
            if made is not None:
                return made
        flat = [run.reshape(-1) for run in self.runs]
        return flat[0] if len(flat) == 1 else np.concatenate(flat)

    def parts(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield each run, and its place in the block."""
        at = 0
        for run in self.runs:
            yield slice(at, at + len(run)), run
            at += len(run)


@dataclass(slots=True)
class Stream:
    """Records on their way from a source to a target.

    Attributes
    ----------
    path : str
        The source, for messages.
    n : int
        Number of records.
    dtype : dtype
        Type of the numbers, in the byte order of the machine.
    shape : tuple of int, or None
        Shape of a record; None where the shapes differ.
    size : int
        Number of numbers of all records together.
    axes : str or None
        Dimensions of a record; None where the source does not state them.
    blocks : callable
        Returns a new iteration of blocks.  ``blocks(True)`` prefers records in C order, where that
        costs nothing more.
    labels : sequence of Label
        Labels.
    besides : dict
        Further data of the source: a name of ``BESIDES`` -> a description for people.
    reduced : list of str
        Descriptions of data that are lost whatever the target is.
    info : mapping
        Facts about the dataset as JSON.
    comment : bytes
        Lines of comment.
    ranges, lines : callable
        Return a new iteration, over all records, of spec ranges, (k, 2) each, and of further values
        as JSON.  No image is read.
    copies : callable or None
        Returns a new iteration of lines, each with the bytes of the files that it names, where an
        image folder is copied.
    sizes : ndarray or None
        How many numbers each record has, int64 (n,), where the shapes differ.  Without it, all
        images are read to make ``parts``.
    begin : int
        Number of the first record in ``source``.
    """

    path: str
    n: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...] | None
    size: int
    axes: Axes | None
    blocks: Callable[..., Iterator[Block]]
    labels: Sequence[Label] = ()
    besides: dict[str, str] = field(default_factory=dict)
    reduced: list[str] = field(default_factory=list)
    info: Mapping[str, Any] = field(default_factory=dict)
    comment: bytes = b""
    ranges: Callable[[], Iterator[NDArray[np.float32]]] = lambda: iter(())
    lines: Callable[[], Iterator[dict[str, Any]]] = lambda: iter(())
    copies: Callable[[], Iterator[tuple[dict[str, Any], dict[str, bytes]]]] | None = None
    sizes: NDArray[np.int64] | None = None
    begin: int = 0
    _source: Stream | None = None

    @property
    def source(self) -> Stream:
        """The stream of all records, if this is a part of it (``parts``); else this one.

        What files of one set must have in common (types, classes, ranges, columns) follows from it.
        """
        return self if self._source is None else self._source

    def parts(self, edges: Sequence[int]) -> list[Stream]:
        """Return the records ``edges[0]:edges[1]``, ``edges[1]:edges[2]`` ... as streams.

        Streams that are read one after the other read the source once.
        """
        blocks = _Cutter(self.blocks, len, Block.cut)
        ranges = _Cutter(self.ranges, len, lambda piece, begin, end: piece[begin:end])
        lines = _Cutter(self.lines)
        copies = None if self.copies is None else _Cutter(self.copies)
        reads = [cache(label.read) for label in self.labels]
        sizes = None if self.shape is not None else self._sizes()
        found: list[Stream] = []
        for begin, end in pairwise(edges):
            labels = [
                replace(label, read=partial(_some_values, read, slice(begin, end)))
                for label, read in zip(self.labels, reads, strict=True)
            ]
            mine = None if sizes is None else sizes[begin:end]
            total = (
                int(mine.sum()) if mine is not None else (end - begin) * self.size // max(self.n, 1)
            )
            part = replace(
                self,
                n=end - begin,
                size=total,
                sizes=mine,
                labels=labels,
                begin=begin,
                _source=self,
            )
            part.blocks = partial(blocks.part, begin, end)
            part.ranges = partial(ranges.part, begin, end)
            part.lines = partial(lines.part, begin, end)
            part.copies = None if copies is None else partial(copies.part, begin, end)
            found.append(part)
        return found

    def _sizes(self) -> NDArray[np.int64]:
        if self.sizes is not None:
            return self.sizes
        every = [math.prod(run.shape[1:]) for b in self.blocks() for run in b.runs for _ in run]
        return np.array(every, np.int64)

    def held(self) -> dict[str, str]:
        """Return descriptions of everything that the source holds besides its numbers, by name."""
        unknown = self.besides.keys() - BESIDES
        if unknown:
            raise AssertionError(f"{self.path}: no target knows of {', '.join(sorted(unknown))}")
        return self.besides | {label.key: f"label {label.name}" for label in self.labels}

    def one_shape(self, target: str) -> tuple[int, ...]:
        """Return the shape of all records, or raise UnsupportedError."""
        if self.shape is None:
            raise UnsupportedError(
                f"{self.path}: {target} holds records of one shape, these differ; size=(h, w) of "
                "an image folder makes them alike"
            )
        return self.shape


def _some_values(read: Values, some: slice) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values, present = read()
    return values[some], present[some]


P = TypeVar("P")


class _Cutter(Generic[P]):
    """An iteration of pieces, each of some records, cut at any record.

    A part that begins where the last one ended continues the same iteration.

    Parameters
    ----------
    start : callable
        Returns a new iteration of pieces.
    count : callable
        Returns how many records a piece has.
    cut : callable
        ``cut(piece, begin, end)`` returns some of them.
    """

    def __init__(
        self,
        start: Callable[..., Iterator[P]],
        count: Callable[[P], int] = lambda _: 1,
        cut: Callable[[P, int, int], P] = lambda piece, *_: piece,
    ) -> None:
        self._start, self._count, self._cut = start, count, cut
        self._left: tuple[int, tuple[Any, ...], list[P], Iterator[P]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:  # `datasets` pickles what it is to write
        return _Cutter, (self._start, self._count, self._cut)

    def part(self, begin: int, end: int, *args: Any) -> Iterator[P]:
        """Yield the pieces of records ``begin:end``; ``args`` are those of ``start``."""
        known, self._left = self._left, None
        if known is not None and known[:2] == (begin, args):
            at, (rest, pieces) = begin, known[2:]
        else:
            at, rest, pieces = 0, [], self._start(*args)
        while at < end:
            piece = rest.pop() if rest else next(pieces, None)
            if piece is None:
                return
            n = self._count(piece)
            first, last = max(begin - at, 0), min(end - at, n)
            at += last
            if last < n:
                rest = [self._cut(piece, last, n)]
            if first < last:
                yield piece if last - first == n else self._cut(piece, first, last)
        self._left = at, args, rest, pieces


def row_blocks(n: int, nbytes: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows 0..n-1 of ``nbytes`` each, in blocks of about ``BLOCK_NBYTES``."""
    for begin, end in block_edges(n, nbytes):
        yield np.arange(begin, end, dtype=np.int64)


def block_edges(n: int, nbytes: int) -> Iterator[tuple[int, int]]:
    """Yield first row and end of the blocks of ``row_blocks``."""
    step = max(1, BLOCK_NBYTES // max(nbytes, 1))
    for at in range(0, n, step):
        yield at, min(at + step, n)


def pictures(stream: Stream, run: NDArray[Any]) -> NDArray[Any]:
    """Return a run as images (k, h, w, c): the same numbers, as a view."""
    if stream.axes == "HW" and run.ndim == 3:
        return run[..., None]
    if stream.axes == "CHW" and run.ndim == 4:
        return np.moveaxis(run, 1, 3)
    if stream.axes == "HWC" and run.ndim == 4:
        return run
    if run.ndim == 4 and stream.axes is None:
        raise UnsupportedError(
            f"{stream.path}: rows of {run.shape[1:]} may be HWC or CHW: pass axes="
        )
    raise UnsupportedError(
        f"{stream.path}: records of {array_text(run.shape[1:], run.dtype)} are not images; npz and "
        "Parquet hold them"
    )


def encodable(stream: Stream) -> None:
    """Raise UnsupportedError where PNG cannot hold the images."""
    shapes = [stream.shape] if stream.shape is not None else []
    if stream.axes == "HWC" and shapes and shapes[0] is not None:
        channels = {shapes[0][2]}
    else:
        channels = {pictures(stream, run).shape[3] for b in stream.blocks() for run in b.runs}
    if stream.dtype != np.uint8 or not channels <= CHANNELS:
        found = " or ".join(map(str, sorted(channels)))
        raise UnsupportedError(
            f"{stream.path}: PNG holds uint8 in 1, 3 or 4 channels, not {stream.dtype} in {found}; "
            "npz and Parquet hold all numbers"
        )


def writable(text: Any) -> bool:
    """Whether a value is text that every target can write: valid Unicode without NUL."""
    if type(text) is not str or "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def nameable(names: Sequence[str], path: str, taken: Sequence[str] = ()) -> None:
    """Raise UnsupportedError where labels cannot be named columns besides those in ``taken``."""
    seen = set(taken)
    for name in names:
        if name in seen:
            raise UnsupportedError(f"{path}: there is another column {name!r} besides the label")
        seen.add(name)
        try:
            name.encode()
        except UnicodeEncodeError as e:
            raise UnsupportedError(f"{path}: the name of label {name!r} is not valid UTF-8") from e
        if not name or "\0" in name:
            raise UnsupportedError(f"{path}: {name!r} cannot be the name of a column")


def classes_of(block: Block, stream: Stream) -> Iterator[int | None]:
    """Yield the class of each record; None where it has none, or where there are more labels."""
    if len(stream.labels) != 1 or has_range(stream.labels[0]):
        yield from (None for _ in range(len(block)))
        return
    (label,) = stream.labels
    numbers = user_values(label, block.values[label.name]).tolist()
    present = block.present[label.name].tolist()
    yield from (int(v) if p else None for v, p in zip(numbers, present, strict=True))


def facts_of(block: Block, stream: Stream) -> Iterator[dict[str, Any]]:
    """Yield what each record has besides its image, as JSON: facts, labels, range of the pixels.

    A label is the name of its class where classes have names, else its value; ``NAME_code`` is its
    code where it has codes.  Of an image folder it is ``categories``, a list of one item.

    Raises
    ------
    UnsupportedError
        A fact has the name of a label.
    """
    columns = label_columns(block, stream, named=True)
    if block.names is not None:
        columns["file_name"] = list(block.names)
    for k in range(len(block)):
        facts = block.facts[k] if block.facts is not None else {}
        if twice := facts.keys() & columns.keys():
            raise UnsupportedError(f"{stream.path}: {min(twice)!r} is the name of two columns")
        yield facts | {name: column[k] for name, column in columns.items() if column[k] is not None}


def label_columns(block: Block, stream: Stream, *, named: bool) -> dict[str, list[Any]]:
    """Return labels and spec ranges of a block by name: a value for each record, None without one.

    With ``named``, the name of a class where classes have names; otherwise its number, except for
    ``categories``.
    """
    columns: dict[str, list[Any]] = {}
    for label in stream.labels:
        present = block.present[label.name].tolist()
        values: list[Any] = user_values(label, block.values[label.name]).tolist()
        if label.classes and (named or label.listed) and not has_range(label):
            values = [label.classes[v] if p else None for v, p in zip(values, present, strict=True)]
        name = "categories" if label.listed else label.name
        columns[name] = [
            ([v] if label.listed else v) if p else None
            for v, p in zip(values, present, strict=True)
        ]
        if label.parameter is not None:
            codes = block.values[label.name].tolist()
            columns[f"{label.name}_code"] = [
                v if p else None for v, p in zip(codes, present, strict=True)
            ]
    if block.spec_range is not None and "spec_range" in stream.besides:
        columns["spec_min"], columns["spec_max"] = block.spec_range.T.tolist()
    return columns


def kept_by_facts(stream: Stream) -> set[str]:
    """Return what ``facts_of`` gives of a stream, for ``Target.keeps``."""
    return {"names", "facts", "spec_range", *(label.key for label in stream.labels)}


def lost_by_facts(stream: Stream) -> list[str]:
    """Return what ``facts_of`` does not give of labels, for ``Target.narrowed``."""
    ranges = [label.name for label in stream.labels if label.parameter is not None]
    return [f"ranges of labels {', '.join(ranges)}"] if ranges else []


def has_range(label: Label) -> bool:
    """Return whether the values of a label are physical values, not class numbers."""
    p = label.parameter
    return p is not None and not (p.min == 0 and p.step == 1 and p.num_classes == p.max + 1)


def user_values(label: Label, values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a label for users: class numbers, or physical values."""
    if label.parameter is None:
        return values.astype(np.int64)
    p = label.parameter
    found: NDArray[Any] = p.dequantise(values) if has_range(label) else p.class_of(values)
    return found
