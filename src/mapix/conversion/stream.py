"""What stands between a source and a target: records in blocks, and what else there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.batch import Batch
from mapix.errors import UnsupportedError

__all__ = [
    "BESIDES",
    "BLOCK_NBYTES",
    "Axes",
    "Block",
    "Label",
    "Stream",
    "encodable",
    "meant",
    "nameable",
    "pictures",
    "ranged",
    "starts",
    "writable",
]

BLOCK_NBYTES = 8 << 20  # of pixels that are held at once

CHANNELS = {1, 3, 4}  # of pictures that PNG holds: grey, RGB, RGBA

BESIDES = frozenset(
    (
        *("names", "facts", "files"),  # of image folders
        *("frames", "depth", "colours", "transparency", "profile", "exif"),  # of their pictures
        *("spec_range", "info", "fixed"),  # of VIMH
        *("comment", "som"),  # of PINK
    )
)
"""What sources hold beside numbers and labels: targets name those that they keep."""

Axes = Literal["HW", "HWC", "CHW"]
Values = Callable[[], tuple[NDArray[Any], NDArray[np.bool_]]]
"""Returns values, (n,), and presence, bool (n,), of all records."""


class Scale(Protocol):
    """What the codes of a label, 0..255, stand for."""

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
        Of the label.
    parameter : Parameter or None
        With one, values are codes, 0..255, and this says what they mean; without, they are class
        numbers (or other whole numbers) as they are.
    classes : tuple of str
        Names of class numbers, where the source has them.
    listed : bool
        Whether records have it as ``categories``, a list of one, as image folders do.
    whole : callable
        Values, integers (n,), and presence, bool (n,), of all records: the labels alone are read,
        and held.
    """

    name: str
    whole: Values
    parameter: Scale | None = None
    classes: tuple[str, ...] = ()
    listed: bool = False

    @property
    def key(self) -> str:
        """What ``Stream.held`` calls it."""
        return f"label:{self.name}"


@dataclass(slots=True)
class Block:
    """Some records, one behind the other.

    Attributes
    ----------
    runs : list of ndarray
        (k, *shape) each: records of one shape that follow one another.
    values, present : mapping of str to ndarray
        A label's values, (n,) of integers, and whether the record has it.
    spec_range : ndarray or None
        float32 (n, 2): what a VIMH record has beside its pixels.
    names : list of str or None
        File names, where records are files.
    facts : list of dict or None
        What else is known of each, as JSON.
    flat : Batch or None
        The same records as VIMH has them, planar: what a VIMH writer takes as it is.
    """

    runs: list[NDArray[Any]]
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    spec_range: NDArray[np.float32] | None = None
    names: list[str] | None = None
    facts: list[dict[str, Any]] | None = None
    flat: Batch | None = None

    def __len__(self) -> int:
        return sum(len(run) for run in self.runs)

    def joined(self) -> NDArray[Any]:
        """All numbers of all records back to back, each record in C order."""
        flat = [run.reshape(-1) for run in self.runs]
        return flat[0] if len(flat) == 1 else np.concatenate(flat)

    def parts(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Each run, and where it stands in the block."""
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
        Records.
    dtype : dtype
        Of the numbers, in this machine's byte order.
    shape : tuple of int, or None
        Of a record; None where they differ.
    size : int
        Numbers of all records together.
    axes : str or None
        What its dimensions are; None where the source does not say.
    blocks : callable
        Begins anew at each call.  ``blocks(True)`` for who wants records as they are in C order:
        where that costs nothing more, they are made so.
    labels : sequence of Label
        Labels.
    besides : dict
        What else the source holds, by the names of ``BESIDES`` -> the same in words.
    reduced : list of str
        What ``images=`` makes less, in words: lost, whatever the target is.
    info : mapping
        The info JSON of a VIMH dataset.
    comment : bytes
        Lines of comment of a PINK file.
    ranges, lines : callable
        Spec ranges, (k, 2) each, and what else is known of each record, as JSON: of all records in
        order, begun anew at each call, and no picture is read for them.
    copies : callable or None
        Each line as it is, and the bytes of the files that it names, by name: where an image folder
        is converted as it is.  Begins anew at each call.
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

    def held(self) -> dict[str, str]:
        """Everything that the source holds beside its numbers, by name, in words."""
        unknown = self.besides.keys() - BESIDES
        if unknown:
            raise AssertionError(f"{self.path}: no target knows of {', '.join(sorted(unknown))}")
        return self.besides | {label.key: f"label {label.name}" for label in self.labels}

    def one_shape(self, target: str) -> tuple[int, ...]:
        """The shape of all records, or UnsupportedError."""
        if self.shape is None:
            raise UnsupportedError(
                f"{self.path}: {target} holds records of one shape, these differ; size=(h, w) of "
                "an image folder makes them alike"
            )
        return self.shape


def starts(n: int, nbytes: int) -> Iterator[NDArray[np.int64]]:
    """Records 0..n-1 of ``nbytes`` each, in blocks of about ``BLOCK_NBYTES``."""
    step = max(1, BLOCK_NBYTES // max(nbytes, 1))
    for at in range(0, n, step):
        yield np.arange(at, min(at + step, n), dtype=np.int64)


def pictures(stream: Stream, run: NDArray[Any]) -> NDArray[Any]:
    """A run as pictures, (k, h, w, c): the same numbers, as a view."""
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
    raise UnsupportedError(f"{stream.path}: rows of {run.shape[1:]} are no pictures")


def encodable(stream: Stream) -> None:
    """UnsupportedError where PNG has no room for the pictures."""
    shapes = [stream.shape] if stream.shape is not None else []
    if stream.axes == "HWC" and shapes and shapes[0] is not None:
        channels = {shapes[0][2]}
    else:
        channels = {pictures(stream, run).shape[3] for b in stream.blocks() for run in b.runs}
    if stream.dtype != np.uint8 or not channels <= CHANNELS:
        raise UnsupportedError(
            f"{stream.path}: PNG holds bytes in 1, 3 or 4 channels, not {stream.dtype} in "
            f"{sorted(channels)}"
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
    """UnsupportedError where names of labels cannot be names of columns beside those taken."""
    seen = set(taken)
    for name in names:
        if name in seen:
            raise UnsupportedError(f"{path}: there is another column {name!r} beside the label")
        seen.add(name)
        try:
            name.encode()
        except UnicodeEncodeError as e:
            raise UnsupportedError(f"{path}: label {name!r} has a name that is no UTF-8") from e
        if not name or "\0" in name:
            raise UnsupportedError(f"{path}: {name!r} is no name of a column")


def ranged(label: Label) -> bool:
    """Whether a label's values are physical ones, not class numbers."""
    p = label.parameter
    return p is not None and not (p.min == 0 and p.step == 1 and p.num_classes == p.max + 1)


def meant(label: Label, values: NDArray[Any]) -> NDArray[Any]:
    """Values of a label as users know them: class numbers, or physical values."""
    if label.parameter is None:
        return values.astype(np.int64)
    p = label.parameter
    found: NDArray[Any] = p.dequantise(values) if ranged(label) else p.class_of(values)
    return found
