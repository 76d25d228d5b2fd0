"""The registry of formats: what a format declares, and which format a path is of.

A format is one folder and a ``Format`` in ``built_in``, which names functions in the folder.  Other
packages add theirs through the entry-point group ``mapix.formats``: an entry names a ``Format``.
What an open needs is here; what only errors and searches need is imported when it is used.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any

from mapix.errors import (
    FileChangedError,
    FormatError,
    MapixError,
    OptionError,
    UnknownFormatError,
    warn,
)
from mapix.selection import Rows
from mapix.source import Fingerprint, Source, Unmapped, is_file, is_folder, is_listed, is_url, scan

__all__ = [
    "COLLATED",
    "Candidate",
    "Evidence",
    "Format",
    "built_in",
    "datasets_in",
    "formats",
    "named",
    "names",
    "open_candidate",
    "open_dataset",
    "recognised",
    "reopen",
    "resolved",
]

ENTRY_POINTS = "mapix.formats"
MOST_FRONTS = 16  # first bytes of files of which it is known what speaks for them
MOST_ALIKE = 20  # entries of a directory with the same ending that are inspected
MOST_NAMED = 4  # of them that a message names
TRIES = 9  # at reading the first bytes of a file that another process appends to

NUMBERED = r"(.+)-\d{5}-of-(\d{5})(.*)"  # the name of a file of a set


class Candidate:
    """A path that is being opened, and what was read of it so far.

    Parameters
    ----------
    path : str or os.PathLike
        A file or a directory.
    expect : Fingerprint, optional
        The file has to be this one, or FileChangedError.
    among : frozenset of str
        All paths that are opened as one.  A format that opens a set by the name of one file opens
        this file alone if another one of its set is among them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Candidate,
        expect: Fingerprint | None = None,
        *,
        among: frozenset[str] = frozenset(),
    ) -> None:
        self.path = os.fspath(path)
        self.expect = expect
        self.among = among
        self._file: Unmapped | None = None  # while it is recognised
        self._source: Source | None = None

    @classmethod
    def of(cls, path: str | os.PathLike[str] | Candidate) -> Candidate:
        """Return a candidate as it is, and make one of a path."""
        return path if isinstance(path, Candidate) else cls(path)

    def __fspath__(self) -> str:
        return self.path

    @cached_property
    def is_directory(self) -> bool:
        """Whether the path is a directory."""
        return is_folder(self.path)

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
            file, self._file = self._file, None
            self._source = Source(self.path, self.expect) if file is None else file.mapped()
        return self._source

    def begin(self) -> None:
        """Open a file without mapping it; whoever recognises it ends that.

        Raises
        ------
        OSError
            It cannot be opened, or is neither a directory nor a regular file.
        """
        if self._source is not None or self.expect is not None or is_url(self.path):
            if not self.is_directory:
                _ = self.source
            return
        try:
            file = self._file = Unmapped(self.path, wait=False)
            self.is_directory = False
            if file.absent:
                for ahead in tuple(_ahead):
                    resolved(ahead)(file)
                file.wait_for_front()
            front = file.front()
            if front is not None:
                self.front = front
        except IsADirectoryError:
            self.is_directory = True
        except OSError:
            if not self.is_directory:  # which may be one that cannot be listed
                raise

    def end(self) -> None:
        """Close the file, unless a format has mapped it."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    @cached_property
    def front(self) -> bytes:
        """The first 512 bytes, or all of a shorter file; empty of a directory."""
        return b"" if self.is_directory else self._first_bytes()

    def _first_bytes(self) -> bytes:
        for _ in range(TRIES - 1):
            try:
                return self.source.mapping.front()
            except FileChangedError:
                if self.expect is not None:
                    raise
                # another process appends to the file: open it as it is now
                self._file = self._source = None
        return self.source.mapping.front()

    def has(self, *names: str) -> bool:
        """Whether the directory has a file of one of these names."""
        return any(is_file(os.path.join(self.path, name)) for name in names)


Deferred = str | Callable[..., Any]
"""A callable, or ``"package.module:name"`` of one that is imported when it is needed."""


COLLATED: dict[type, Deferred] = {}
"""Types of records, and of each the function that makes a batch of several of them."""


def resolved(what: Deferred) -> Any:
    """Import what ``"package.module:name"`` names; a callable is returned as it is."""
    if not isinstance(what, str):
        return what
    return _imported(what)


@cache
def _imported(what: str) -> Any:
    name, _, attribute = what.partition(":")
    # not from sys.modules: there it is before another thread has finished importing it
    return getattr(importlib.import_module(name), attribute)


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
    objects : tuple of str
        Further names of files, below a directory, by which the URL of a folder is recognised:
        where the server does not list it, ``detect`` finds nothing.
    detect : callable or str, optional
        ``detect(candidate)`` returns why a path is not of this format, or None.  It is called
        for a file whose first bytes or name fit, for every directory (see ``directories``), and for
        the URL of a folder that ``mapix.source.scan`` lists; ``open`` decides.
    directories : bool
        Whether ``detect`` may find that a directory is of this format; with False it is not asked.
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
    repair : callable or str, optional
        ``repair(path, new, progress=, **options)`` writes the complete records of a damaged file or
        directory to a new one, and returns what ``print`` shows, with ``complete``: whether nothing
        was lost.
    targets : mapping of str to str
        Name of a format that ``mapix.convert`` writes -> ``"module:class"`` of its target.
    commands : callable or str, optional
        ``commands(subparsers)`` adds commands to the command line.
    command_names : mapping of str to str
        Name -> one line of help of each of these commands.
    ahead : callable or str, optional
        ``ahead(file)`` is called with a ``mapix.source.Unmapped`` while the disk reads the first
        bytes of a local file, which may be of any format: it has the kernel read what else an open
        without options reads.  Only in processes that have opened this format before.
    """

    def __init__(
        self,
        name: str,
        open: Deferred,
        title: str = "",
        magic: tuple[tuple[int, bytes], ...] = (),
        front: Callable[[bytes], bool] | None = None,
        suffixes: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
        objects: tuple[str, ...] = (),
        detect: Deferred | None = None,
        directories: bool = True,
        unmarked: bool = False,
        source: Deferred | None = None,
        verify: Deferred | None = None,
        repair: Deferred | None = None,
        targets: Mapping[str, str] = MappingProxyType({}),
        commands: Deferred | None = None,
        command_names: Mapping[str, str] = MappingProxyType({}),
        ahead: Deferred | None = None,
    ) -> None:
        self.name, self.open, self.title = name, open, title
        self.magic, self.front, self.suffixes = magic, front, suffixes
        self.files, self.objects = files, objects
        self.detect, self.directories, self.unmarked = detect, directories, unmarked
        self.source, self.verify, self.repair = source, verify, repair
        self.targets, self.commands, self.command_names = targets, commands, command_names
        self.ahead = ahead

    def refusal(self, candidate: Candidate) -> str | None:
        """Return why a path is not of this format; None when it may be."""
        if any(True for _ in Evidence([self]).speaking(candidate)):
            return self.detected(candidate)
        return _unasked(self, candidate)

    def detected(self, candidate: Candidate) -> str | None:
        """Return what ``detect`` returns of a path for which something speaks."""
        found: str | None = None if self.detect is None else resolved(self.detect)(candidate)
        return found

    def load(self, candidate: Candidate, options: Mapping[str, Any]) -> Any:
        """Open a candidate.

        Raises
        ------
        FormatError
            The bytes break the format; the error states what the file looks like instead.
        OptionError
            The format has no such option.
        """
        opened = resolved(self.open)
        if self.ahead is not None:
            _ahead[self.ahead] = None
        try:
            return opened(candidate, **options)
        except TypeError as e:
            known = _options_of(opened)
            wrong = None if known is None else next((n for n in options if n not in known), None)
            if known is None or wrong is None:
                raise
            listed = ", ".join(f"{name}=" for name in known) or "no options"
            reason = f"{self.name} has no option {wrong}=; it has {listed}"
            raise OptionError(f"{candidate.path}: {reason}") from e
        except FormatError as e:
            from mapix.appearance import with_appearance

            reason = with_appearance(e.path, e.format, e.reason)
            if reason == e.reason or not e.format:
                raise
            found = type(e)(e.path, e.format, reason, record=e.record, at=e.at)
            found.recognised = e.recognised
            raise found from e


def _options_of(function: Callable[..., Any]) -> list[str] | None:
    """Return the names of the options of a function that opens files; None if it takes any."""
    import inspect

    found = list(inspect.signature(function).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in found):
        return None
    return [parameter.name for parameter in found]


@cache
def built_in() -> dict[str, Format]:
    """Return the name and the declaration of each format of mapix, in the order of asking."""
    found: dict[str, Format] = importlib.import_module("mapix.built_in").BUILT_IN
    return found


def _entry_points() -> Any:
    """Formats of other packages.  Imported here: it costs each worker two megabytes."""
    import importlib.metadata

    return importlib.metadata.entry_points(group=ENTRY_POINTS)


def _plugins() -> Iterator[Format]:
    """Formats of other packages; one that cannot be imported is a warning."""
    for entry in _entry_points():
        if entry.name in built_in():
            continue
        try:
            found = entry.load()
        except MemoryError:
            raise
        except Exception as e:  # whatever another package raises breaks nothing here
            warn(f"the format {entry.name!r} ({entry.value}) cannot be imported: {e!r}")
            continue
        if not isinstance(found, Format):
            warn(f"the format {entry.name!r} ({entry.value}) is not a mapix.registry.Format")
            continue
        yield found


def names() -> list[str]:
    """Return the names of all formats, without importing those of other packages."""
    return list(dict.fromkeys([*built_in(), *(entry.name for entry in _entry_points())]))


def named(name: str) -> Format:
    """Return the format of that name.

    Raises
    ------
    ValueError
        There is none; the message lists the names.
    """
    if name in built_in():
        return built_in()[name]
    for found in _plugins():
        if found.name == name:
            return found
    raise ValueError(f"unknown format {name!r}; known: {', '.join(names())}")


def formats() -> Iterator[Format]:
    """Yield all formats, mapix's own first."""
    yield from built_in().values()
    yield from _plugins()


def _unasked(found: Format, candidate: Candidate) -> str:
    """Return why a format for which nothing speaks is not asked."""
    if not candidate.is_directory:
        return "neither its first bytes nor its name fit"
    return f"a directory without {', '.join(found.files)}" if found.files else "a directory"


class Evidence:
    """Find which of some formats a path may be of; their declarations become tables once.

    Parameters
    ----------
    formats : iterable of Format
        The formats.
    """

    def __init__(self, formats: Iterable[Format]) -> None:
        self.formats = tuple(formats)
        self._magic = [(at, magic, f) for f in self.formats for at, magic in f.magic]
        self._alike = lru_cache(MOST_FRONTS)(self._with_front)
        self._suffixes = tuple(suffix for f in self.formats for suffix in f.suffixes)
        self._fronts = [(f.front, f) for f in self.formats if f.front is not None]
        self._unmarked = [f for f in self.formats if f.unmarked]

    def speaking(self, candidate: Candidate) -> Iterator[Format]:
        """Yield formats for which something speaks, perhaps twice: the strongest evidence first.

        Of a file magic bytes, the name, what ``front`` finds, then the unmarked ones; of a
        directory one of their files, then those that inspect it.
        """
        if candidate.is_directory:
            listed = is_listed(candidate.path)
            yield from (f for f in self.formats if candidate.has(*f.files))
            if not listed:
                yield from (f for f in self.formats if candidate.has(*f.objects))
            else:
                yield from (f for f in self.formats if f.directories and f.detect is not None)
            return
        front = candidate.front
        for at, magic, found in self._magic:
            if front.startswith(magic, at):
                yield found
        if candidate.path.endswith(self._suffixes):
            yield from (f for f in self.formats if candidate.path.endswith(f.suffixes))
        yield from self._alike(front)
        yield from self._unmarked

    def _with_front(self, front: bytes) -> list[Format]:
        """Return the formats of which ``front`` finds that the first bytes might be theirs."""
        return [found for speaks, found in self._fronts if front and speaks(front)]


_ahead: dict[Deferred, None] = {}  # of the formats that this process has opened


@cache
def _built_ins() -> Evidence:
    return Evidence(built_in().values())


def _asked_in_turn() -> Iterator[Evidence]:
    """Yield mapix's own formats; then those of other packages, which are imported only then."""
    yield _built_ins()
    yield Evidence(_plugins())


def open_candidate(candidate: Candidate, options: Mapping[str, Any]) -> Any:
    """Open a path with the format that recognises it.

    Raises
    ------
    UnknownFormatError
        No format does; the message states what the file looks like, and why each refused.
    FileNotFoundError
        There is no such file.
    FormatError
        The format is clear, and the bytes break it.
    """
    candidate.begin()  # a path that is not there is an OSError, not an unknown format
    try:
        return _opened(candidate, options)
    finally:
        candidate.end()


def _opened(candidate: Candidate, options: Mapping[str, Any]) -> Any:
    broken: FormatError | None = None
    refusals: list[tuple[str, str]] = []
    for evidence in _asked_in_turn():
        asked: dict[str, str] = {}
        for found in evidence.speaking(candidate):
            if found.name in asked:
                continue
            refusal = found.detected(candidate)
            if refusal is None:
                try:
                    return found.load(candidate, options)
                except FormatError as e:
                    if not found.unmarked or e.recognised:
                        raise
                    broken, refusal = e, e.reason
            asked[found.name] = refusal
        refusals += [
            (f.name, asked.get(f.name) or _unasked(f, candidate)) for f in evidence.formats
        ]
    path = candidate.path
    if candidate.is_directory and is_url(path) and is_listed(path) and _is_empty(path):
        raise FileNotFoundError(errno.ENOENT, "no objects are below it", path)
    raise UnknownFormatError(_tried(candidate, refusals)) from broken


def recognised(path: str | os.PathLike[str]) -> Format | None:
    """Return the format for which most speaks, without opening the path; None without any.

    So it may be a damaged file.
    """
    candidate = Candidate(path)
    candidate.begin()
    try:
        unmarked = None
        for evidence in _asked_in_turn():
            for found in evidence.speaking(candidate):
                if found.detected(candidate) is not None:
                    continue
                if candidate.is_directory or not found.unmarked:
                    return found
                unmarked = unmarked or found  # of any file: one of other packages may be marked
        return unmarked
    finally:
        candidate.end()


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
        among = frozenset(os.fspath(p) for p in path)
        each = (Candidate(p, among=among) for p in path)
        first, *others = (open_dataset(p, format=format, **options) for p in each)
        return first.joined(others) if others else first
    candidate = path if isinstance(path, Candidate) else Candidate(path)
    if "-of-" in candidate.path:
        _refuse_unfinished(candidate.path)
    if format is not None:
        return named(format).load(candidate, options)
    return open_candidate(candidate, options)


def _refuse_unfinished(path: str) -> None:
    """Raise FileNotFoundError for a file of a set that does not have its first file yet.

    ``store.NewSet`` moves that file last.  So a set without it, beside the stage of its writer, is
    one that the writer is about to finish, or one of a writer that was killed meanwhile.
    """
    if is_url(path):
        return
    folder, name = os.path.split(path)
    found = re.fullmatch(NUMBERED, name, re.DOTALL)
    if found is None:
        return
    begin, n, end = found.groups()
    first = os.path.join(folder, f"{begin}-00000-of-{n}{end}")
    stage = os.path.join(folder, f".{begin}{end}.writing")
    if os.path.lexists(stage) and not os.path.lexists(first):
        reason = (
            "the set was not finished: its writer is at work, or was killed and has to run again; "
            "the first file of the set is missing"
        )
        raise FileNotFoundError(errno.ENOENT, reason, first)


def datasets_in(folder: str) -> Iterator[tuple[str, Format]]:
    """Yield the datasets in a directory, and those in the directories in it, with their formats.

    Of each directory few entries with the same ending are inspected, so that a folder of a million
    pictures costs no more than its listing.  Files of formats that nothing marks are left out.
    """
    below = []
    for path in _few_of_each_kind(folder):
        found = _recognised_or_none(path)
        if found is not None and (is_folder(path) or not found.unmarked):
            yield path, found
        if is_folder(path):
            below.append(path)
    for directory in below:
        for path in _few_of_each_kind(directory):
            found = None if is_folder(path) else _recognised_or_none(path)
            if found is not None and not found.unmarked:
                yield path, found


def _few_of_each_kind(folder: str) -> Iterator[str]:
    """Yield paths in a directory in the order of their names, few of those that end alike."""
    seen: Counter[str] = Counter()
    try:
        with scan(folder) as entries:
            paths = sorted((entry.name, entry.path) for entry in entries)
    except OSError:
        return
    for name, path in paths:
        ending = os.path.splitext(name)[1]
        seen[ending] += 1
        if seen[ending] <= MOST_ALIKE:
            yield path


def _recognised_or_none(path: str) -> Format | None:
    try:
        return recognised(path)
    except (MapixError, OSError):
        return None


def _refusal(folder: str) -> str:
    """Return why a folder is not listed."""
    try:
        with scan(folder) as entries:
            next(entries, None)
            return "its listing failed before"
    except OSError as e:
        return e.strerror or str(e)


def _tried(candidate: Candidate, refusals: list[tuple[str, str]]) -> str:
    """Return the text of an UnknownFormatError."""
    lines = "".join(f"\n  {name}: {why}" for name, why in refusals)
    if candidate.is_directory and not is_listed(candidate.path):
        return (
            f"{candidate.path}: no files of known names are there, and {_refusal(candidate.path)}; "
            "open files by their URLs, mapix.open([url, url])"
        )
    if candidate.is_directory and _is_empty(candidate.path):
        kind: str | None = "an empty directory"
    else:
        from mapix.appearance import looks_like

        kind = looks_like(candidate.path)
    hint = "" if kind is None else f"; it looks like {kind}"
    if kind is None and candidate.is_directory:
        inside = [path for path, _ in islice(datasets_in(candidate.path), MOST_NAMED + 1)]
        more = ", ..." if len(inside) > MOST_NAMED else ""
        hint = f"; open what is in it: {', '.join(inside[:MOST_NAMED])}{more}" if inside else ""
    return f"{candidate.path}: no format recognises it{hint}\n tried:{lines}"


def _is_empty(folder: str) -> bool:
    with scan(folder) as entries:
        return next(iter(entries), None) is None


def reopen(
    family: str, path: str, options: Mapping[str, Any], expect: Fingerprint | None, rows: Rows
) -> Any:
    """Open what a pickle stands for: the same file again, or FileChangedError."""
    found = resolved(named(family).open)(Candidate(path, expect), **options)
    return found if rows is None else found._part(rows)
