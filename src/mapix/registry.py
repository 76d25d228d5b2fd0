"""The registry of formats: what a format declares, and which format a path is of.

A format is one folder or module that holds a ``Format``, and one line in ``BUILT_IN``.  Other
packages add theirs through the entry-point group ``mapix.formats``: an entry names a ``Format``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mapix import _native
from mapix.appearance import looks_like, with_appearance
from mapix.errors import FileChangedError, FormatError, UnknownFormatError, warn
from mapix.selection import Rows
from mapix.source import Fingerprint, Source

__all__ = [
    "BUILT_IN",
    "Candidate",
    "Format",
    "formats",
    "named",
    "names",
    "open_candidate",
    "open_dataset",
    "reopen",
    "resolved",
]

ENTRY_POINTS = "mapix.formats"
FRONT_NBYTES = 512
TRIES = 9  # at reading the first bytes of a file that another process appends to

BUILT_IN = {
    "vimh": "mapix.vimh.format",
    "iid": "mapix.iid.format",
    "idx": "mapix.idx.format",
    "npy": "mapix.npy.format",
    "npz": "mapix.npy.npz_format",
    "pink": "mapix.pink.format",
    "visualrbm": "mapix.visualrbm.format",
    "folder": "mapix.folder.format",
    "tar": "mapix.tar.format",
    "tfrecord": "mapix.tfrecord.format",
}
"""Name of each format -> the module with its ``FORMAT``: the one line that a format needs here."""


class Candidate:
    """A path that is being opened, and what was read of it so far.

    Parameters
    ----------
    path : str or os.PathLike
        A file or a directory.
    expect : Fingerprint, optional
        The file has to be this one, or FileChangedError.
    """

    def __init__(
        self, path: str | os.PathLike[str] | Candidate, expect: Fingerprint | None = None
    ) -> None:
        self.path = os.fspath(path)
        self.expect = expect
        self._source: Source | None = None
        self._front: bytes | None = None
        self._is_directory: bool | None = None

    @classmethod
    def of(cls, path: str | os.PathLike[str] | Candidate) -> Candidate:
        """Return a candidate as it is, and make one of a path."""
        return path if isinstance(path, Candidate) else cls(path)

    def __fspath__(self) -> str:
        return self.path

    @property
    def is_directory(self) -> bool:
        """Whether the path is a directory."""
        if self._is_directory is None:
            self._is_directory = os.path.isdir(self.path)
        return self._is_directory

    @property
    def source(self) -> Source:
        """The file, opened once for all formats that inspect it, and for the one that opens it.

        Raises
        ------
        OSError
            It cannot be opened, or is not a regular file.
        FileChangedError
            It is not the expected one.
        """
        if self._source is None:
            self._source = Source(self.path, self.expect)
        return self._source

    @property
    def front(self) -> bytes:
        """The first 512 bytes, or all of a shorter file; empty of a directory."""
        if self._front is None:
            self._front = b"" if self.is_directory else self._first_bytes()
        return self._front

    def _first_bytes(self) -> bytes:
        for last in [*[False] * (TRIES - 1), True]:
            source = self.source
            try:
                nbytes = min(FRONT_NBYTES, source.nbytes)
                return bytes(_native.copy(source.mapping, 0, nbytes, "file"))
            except FileChangedError:
                if last:
                    raise
                self._source = None  # another process appends to the file: open it as it is now
        raise AssertionError

    def has(self, *names: str) -> bool:
        """Whether the directory has a file of one of these names."""
        return any(os.path.isfile(os.path.join(self.path, name)) for name in names)


Deferred = str | Callable[..., Any]
"""A callable, or ``"package.module:name"`` of one that is imported when it is needed."""


def resolved(what: Deferred) -> Any:
    """Import what ``"package.module:name"`` names; a callable is returned as it is."""
    if not isinstance(what, str):
        return what
    name, _, attribute = what.partition(":")
    module = sys.modules.get(name)
    return getattr(importlib.import_module(name) if module is None else module, attribute)


@dataclass(frozen=True)
class Format:
    """The declaration of a format.

    Attributes
    ----------
    name : str
        Name of the format: of ``mapix.open(path, format=name)``.
    open : callable or str
        Called with a candidate and options; returns the dataset, or raises FormatError.
    title : str
        What a file of it is, for people: "an IDX array".
    magic : tuple of (int, bytes)
        Bytes that files begin with, and where; one of them is enough.
    front : callable, optional
        ``front(data)``: whether the first 512 bytes might be of this format, where no fixed bytes
        decide.
    suffixes : tuple of str
        Ends of the names of files.
    files : tuple of str
        Names of files of which a directory of this format has one.
    detect : callable or str, optional
        ``detect(candidate)`` returns why a path is not of this format, or None.  It is called
        for a file whose first bytes or name fit, and for every directory; ``open`` decides.
    unmarked : bool
        Whether files have nothing to recognise them by: the format is tried after all others.
    source : callable or str, optional
        ``source(splits, to=, target=, axes=, images=, directory=)`` returns the name of each split
        -> ``mapix.conversion.stream.Stream``, where the general stream (images, labels, columns)
        does not hold all that the format has.  Or it returns a callable that writes what has no
        records: ``write(path, progress)`` returns how many of what were written.
    verify : callable or str, optional
        ``verify(path, split, progress)`` returns a report for each file of a directory, where
        ``verify`` of the dataset is not enough.
    targets : mapping of str to str
        Name of a format that ``mapix.convert`` writes -> ``"module:class"`` of its target.
    commands : callable or str, optional
        ``commands(subparsers)`` adds commands to the command line.
    command_names : mapping of str to str
        Name -> one line of help of each of these commands.
    """

    name: str
    open: Deferred
    title: str = ""
    magic: tuple[tuple[int, bytes], ...] = ()
    front: Callable[[bytes], bool] | None = None
    suffixes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    detect: Deferred | None = None
    unmarked: bool = False
    source: Deferred | None = None
    verify: Deferred | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    commands: Deferred | None = None
    command_names: Mapping[str, str] = field(default_factory=dict)

    def refusal(self, candidate: Candidate) -> str | None:
        """Return why a path is not of this format; None when it may be."""
        if not any(speaks(self, candidate) for speaks in _EVIDENCE):
            return _without_evidence(self, candidate)
        found: str | None = None if self.detect is None else resolved(self.detect)(candidate)
        return found

    def load(self, candidate: Candidate, options: Mapping[str, Any]) -> Any:
        """Open a candidate.

        Raises
        ------
        FormatError
            The bytes break the format; the error states what the file looks like instead.
        """
        try:
            return resolved(self.open)(candidate, **options)
        except FormatError as e:
            reason = with_appearance(e.path, e.format, e.reason)
            if reason == e.reason or not e.format:
                raise
            raise type(e)(e.path, e.format, reason, record=e.record, at=e.at) from e


@cache
def _built_in(name: str) -> Format:
    found: Format = importlib.import_module(BUILT_IN[name]).FORMAT
    return found


def _entry_points() -> Any:
    """Formats of other packages.  Imported here: it costs each worker two megabytes."""
    import importlib.metadata

    return importlib.metadata.entry_points(group=ENTRY_POINTS)


def _plugins() -> Iterator[Format]:
    """Formats of other packages; one that cannot be imported is a warning."""
    for entry in _entry_points():
        if entry.name in BUILT_IN:
            continue
        try:
            found = entry.load()
        except Exception as e:  # whatever another package raises breaks nothing here
            warn(f"the format {entry.name!r} ({entry.value}) cannot be imported: {e!r}")
            continue
        if not isinstance(found, Format):
            warn(f"the format {entry.name!r} ({entry.value}) is not a mapix.registry.Format")
            continue
        yield found


def names() -> list[str]:
    """Return the names of all formats, without importing those of other packages."""
    return list(dict.fromkeys([*BUILT_IN, *(entry.name for entry in _entry_points())]))


def named(name: str) -> Format:
    """Return the format of that name.

    Raises
    ------
    ValueError
        There is none; the message lists the names.
    """
    if name in BUILT_IN:
        return _built_in(name)
    for found in _plugins():
        if found.name == name:
            return found
    raise ValueError(f"unknown format {name!r}; known: {', '.join(names())}")


def formats() -> Iterator[Format]:
    """Yield all formats, mapix's own first."""
    yield from map(_built_in, BUILT_IN)
    yield from _plugins()


def _has_magic(found: Format, candidate: Candidate) -> bool:
    """Whether a file begins with fixed bytes of a format, or a directory has one of its files."""
    if candidate.is_directory:
        return candidate.has(*found.files)
    front = candidate.front
    for at, magic in found.magic:  # noqa: SIM110 - a third of the time of any()
        if front.startswith(magic, at):
            return True
    return False


def _has_name(found: Format, candidate: Candidate) -> bool:
    """Whether the name of a file is one of a format; or a directory, which `detect` inspects."""
    if candidate.is_directory:
        return found.detect is not None
    return candidate.path.endswith(found.suffixes)


def _has_front(found: Format, candidate: Candidate) -> bool:
    """Whether the first bytes of a file might be of a format that has no fixed ones."""
    return found.front is not None and candidate.front != b"" and found.front(candidate.front)


def _is_unmarked(found: Format, candidate: Candidate) -> bool:
    """Whether a file may be of a format although nothing speaks for it."""
    return found.unmarked and not candidate.is_directory


_EVIDENCE = (_has_magic, _has_name, _has_front, _is_unmarked)  # the strongest first


def _without_evidence(found: Format, candidate: Candidate) -> str:
    """Return why a format is not asked."""
    if not candidate.is_directory:
        return "neither its first bytes nor its name fit"
    return f"a directory without {', '.join(found.files)}" if found.files else "a directory"


def _in_order(candidate: Candidate) -> Iterator[Format]:
    """Yield mapix's own formats in the order in which they are asked; those last that are not."""
    left = [_built_in(name) for name in BUILT_IN]
    for speaks in _EVIDENCE:
        for found in tuple(left):
            if speaks(found, candidate):
                left.remove(found)
                yield found
    yield from left


def open_candidate(candidate: Candidate, options: Mapping[str, Any]) -> Any:
    """Open a path with the format that recognises it.

    Raises
    ------
    UnknownFormatError
        No format does; the message states what the file looks like, and why each refused.
    FormatError
        The format is clear, and the bytes break it.
    """
    if not candidate.is_directory:
        _ = candidate.source  # a path that is not there is an OSError, not an unknown format
    refusals: list[tuple[str, str]] = []
    broken: FormatError | None = None
    for found in _in_order(candidate):
        refusal = found.refusal(candidate)
        if refusal is None:
            try:
                return found.load(candidate, options)
            except FormatError as e:
                if not found.unmarked or e.recognised:
                    raise
                broken, refusal = e, e.reason
        refusals.append((found.name, refusal))
    for plugin in _plugins():
        refusal = plugin.refusal(candidate)
        if refusal is None:
            return plugin.load(candidate, options)
        refusals.append((plugin.name, refusal))
    raise UnknownFormatError(_tried(candidate, refusals)) from broken


def open_dataset(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    format: str | None = None,
    **options: Any,
) -> Any:
    """Open a path, or several as one: ``mapix.open``."""
    if not isinstance(path, str | bytes | os.PathLike):
        if not path:
            raise ValueError("no path was given")
        first, *others = (open_dataset(p, format=format, **options) for p in path)
        return first.joined(others) if others else first
    candidate = Candidate(path)
    if format is not None:
        return named(format).load(candidate, options)
    return open_candidate(candidate, options)


def _tried(candidate: Candidate, refusals: list[tuple[str, str]]) -> str:
    """Return the text of an UnknownFormatError."""
    lines = "".join(f"\n  {name}: {why}" for name, why in refusals)
    if candidate.is_directory and not os.listdir(candidate.path):
        kind: str | None = "an empty directory"
    else:
        kind = looks_like(candidate.path)
    hint = "" if kind is None else f"; it looks like {kind}"
    return f"{candidate.path}: no format recognises it{hint}\n tried:{lines}"


def reopen(
    family: str, path: str, options: Mapping[str, Any], expect: Fingerprint | None, rows: Rows
) -> Any:
    """Open what a pickle stands for: the same file again, or FileChangedError."""
    found = resolved(named(family).open)(Candidate(path, expect), **options)
    return found if rows is None else found._part(rows)
