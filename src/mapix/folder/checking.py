"""Check an image folder: each finding states its file and line."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from mapix.errors import LimitError, MapixError, UnsupportedError
from mapix.folder.files import OtherFileError, Settings
from mapix.folder.huggingface import Hazards
from mapix.folder.layout import FILEPATH, METADATA, boxes, canonical, spellings
from mapix.folder.listings import listing, of_split
from mapix.folder.metadata_file import MetadataFile
from mapix.folder.record import Record
from mapix.folder.splits import has_metadata, located, splits_of
from mapix.pictures.decoding import Header, decoded_header, pillow
from mapix.pictures.threads import Threads
from mapix.plans import Map, over
from mapix.progress import shown
from mapix.report import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mapix.dataset import Progress

__all__ = ["CODES", "Finding", "LintReport", "check_splits", "lint"]

CODES = {
    "json": "a line that is not a JSON object",
    "file_name": "no name of a file, or a name that is not text",
    "refused": "a name that leaves the folder, or that is not a regular file",
    "missing": "a file that does not exist",
    "picture": "a file that cannot be decoded",
    "frames": "a file of several frames or pages; only the first is read",
    "depth": "a file of more bits per channel than its decoder gives",
    "duplicate": "a file that an earlier line names",
    "size": "a file of another size than its line states (filepath, size)",
    "field": "caption, categories or objects of a wrong type",
    "box": "a box that is negative, not finite, or outside its picture",
    "count": "boxes and categories of different numbers",
    "unlisted": "a picture in the folder that no line names",
    "huggingface": "what Hugging Face's imagefolder rejects or reads differently",
}
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
AT_ONCE = 64  # records whose pictures the threads decode together
SLACK = 1e-6  # pixels by which a box of rounded numbers may exceed its picture


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    Attributes
    ----------
    code : str
        A key of ``CODES``.
    path : str
        The metadata file.
    line : int or None
        Its line, from 1; None where the finding is not about a line.
    file_name : str or None
        The file that the line names.
    message : str
        What is wrong.
    record : int or None
        Number of the record in its file; None where the finding is not about one.
    """

    code: str
    path: str
    line: int | None
    file_name: str | None
    message: str
    record: int | None = None

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        name = "" if self.file_name is None else f"{self.file_name}: "
        return f"{place}: {name}{self.message} [{self.code}]"


@dataclass(slots=True)
class LintReport(Report):
    """A ``Report`` with its problems as ``findings``, too."""

    findings: list[Finding] = field(default_factory=list)
    __repr__ = Report.__repr__

    def rows_of(self, k: int, path: str | None = None) -> list[int]:
        """See ``Report.rows_of``."""
        found = self.findings[k] if k < len(self.findings) else None
        if found is None or found.record is None:
            return []
        return [found.record] if found.path == (self.path if path is None else path) else []


class _FullError(Exception):
    """The limit of findings is reached."""


@dataclass(slots=True)
class _Seen:
    """Facts about a file that a line names."""

    line: int
    size: tuple[int, int] | None = None  # h, w
    turned: bool = False  # by EXIF


class _Linter:
    def __init__(
        self, metadata: MetadataFile, report: LintReport, ignore: Collection[str], most: int
    ) -> None:
        self.metadata, self.report, self.ignore, self.most = metadata, report, ignore, most
        self.seen: dict[str, _Seen] = {}
        self.bad: set[int] = set()
        self.by_filepath = False  # whether names begin with folders above
        self.headers: Iterator[Headers] | None = None  # of the pictures of each record

    def note(
        self, code: str, line: int | None, name: str | None, message: str, row: int | None = None
    ) -> None:
        if code in self.ignore:
            return
        self.report.findings.append(Finding(code, self.metadata.path, line, name, message, row))
        if row is not None:
            self.bad.add(row)
        if len(self.report.findings) >= self.most:
            raise _FullError

    def finish(self) -> None:
        """Sort the findings by line; those that are not about a line come last."""
        report = self.report
        report.findings.sort(key=lambda f: math.inf if f.line is None else f.line)
        report.problems = [str(f) for f in report.findings]
        report.damaged = sorted(self.bad)

    # --- lines ------------------------------------------------------------------------------------

    def parsed(self, row: int, line: int) -> Record | None:
        record = Record(self.metadata, row)
        try:
            record.metadata  # noqa: B018
        except (MapixError, ValueError) as e:
            self.note("json", line, None, _reason(e), row)
            return None
        return record

    def names(self, record: Record, line: int) -> dict[str, str]:
        try:
            return record.file_names
        except MapixError as e:
            self.note("file_name", line, None, _reason(e), record.index)
            return {}

    def fields(self, record: Record, line: int, name: str | None) -> None:
        for key in ("caption", "categories"):
            try:
                getattr(record, key)
            except MapixError as e:
                self.note("field", line, name, _reason(e), record.index)

    def boxes(self, record: Record, line: int, name: str | None) -> None:
        value = record.metadata.get("objects")
        if value is None:
            return
        row = record.index
        try:
            bbox, categories = boxes(value)
        except ValueError as e:
            self.note("field", line, name, str(e), row)
            return
        if len(bbox) != len(categories):
            box = "box" if len(bbox) == 1 else "boxes"
            what = f"{len(bbox)} {box} and {len(categories)} categories"
            self.note("count", line, name, what, row)
        seen = self.seen.get(canonical(name or ""))
        for k, box in enumerate(bbox.tolist()):
            wrong = _box_wrong(box, None if seen is None else seen.size)
            if wrong:
                self.note("box", line, name, f"box {k} {wrong}", row)

    # --- files ------------------------------------------------------------------------------------

    def file(self, record: Record, line: int, key: str, name: str) -> bool:
        """Return whether a file exists, and no earlier line names it."""
        before = self.seen.get(canonical(name))
        if before is not None:
            what = f"line {before.line} names it, too"
            self.note("duplicate", line, name, what, record.index)
            return False
        self.seen[canonical(name)] = _Seen(line)
        try:
            self.report.nbytes += record.file(key).nbytes
        except FileNotFoundError:
            self.note("missing", line, name, "no such file", record.index)
            return False
        except (MapixError, OSError) as e:
            code = "size" if isinstance(e.__cause__, OtherFileError) else "refused"
            self.note(code, line, name, _reason(e), record.index)
            return False
        return True

    def decoded(self, item: tuple[Record, int, str, str]) -> Header | str:
        """Decode one picture, in a thread; return its header, or why it cannot be decoded."""
        record, _, key, _ = item
        return _header(record, key)

    # --- all --------------------------------------------------------------------------------------

    def run(
        self,
        *,
        pictures: bool,
        hazards: bool,
        threads: int,
        progress: Any = None,
        decoding: Decoding | None = None,
    ) -> None:
        lines = self.metadata.lines
        numbers = lines.numbers()
        hugging = Hazards(self.metadata.files.full_folder) if hazards else None
        if pictures:
            try:
                pillow()
            except UnsupportedError as e:
                self.report.unchecked.append(str(e))
                self.report.checked.remove("pictures")
                pictures = False
        if pictures and decoding is not None:
            self.headers = decoding(self.metadata)
        with Threads(threads) as pool:
            for at in range(0, len(numbers), AT_ONCE):
                self._some(numbers[at : at + AT_ONCE], at, pictures, hugging, pool)
                if progress is not None:
                    progress(min(at + AT_ONCE, len(numbers)), len(numbers))
        for number, name, message in [] if hugging is None else hugging.found():
            self.note("huggingface", number, name, message)
        if "unlisted" not in self.ignore:
            for name in self._unlisted():
                self.note("unlisted", None, name, "no line names it")

    def _some(
        self,
        numbers: NDArray[np.int64],
        at: int,
        pictures: bool,
        hugging: Hazards | None,
        threads: Threads,
    ) -> None:
        records: list[tuple[Record, int, str | None]] = []
        files: list[tuple[Record, int, str, str]] = []
        decoded: list[Header | str] = []
        for row, line in enumerate(numbers.tolist(), at):
            known = None if self.headers is None else next(self.headers)
            record = self.parsed(row, line)
            if record is None:
                continue
            names = self.names(record, line)
            self.by_filepath = self.by_filepath or FILEPATH in names
            there = [
                (record, line, key, name)
                for key, name in names.items()
                if self.file(record, line, key, name)
            ]
            if known is not None:
                decoded += [known[key] for _, _, key, _ in there]
            files += there if pictures else []
            if hugging is not None:
                hugging.add(line, record.metadata)
            records.append((record, line, next(iter(names.values()), None)))
        if self.headers is None:
            decoded = threads.run(self.decoded, files)
        for (record, line, _, name), found in zip(files, decoded, strict=True):
            if isinstance(found, str):
                self.note("picture", line, name, found, record.index)
                continue
            seen = self.seen[canonical(name)]
            seen.size, seen.turned = found.shape[:2], found.orientation != 1
            if "frames" in found.besides:
                self.note("frames", line, name, "later frames are not read", record.index)
            if "depth" in found.besides:
                what = "more than 8 bits per channel; the decoder gives the 8 high bits"
                self.note("depth", line, name, what, record.index)
        for record, line, first in records:
            self.fields(record, line, first)
            self.boxes(record, line, first)
            seen_ = self.seen.get(canonical(first or ""))
            if hugging is not None and seen_ is not None and seen_.turned:
                here = record.settings.orientation
                hugging.turned(line, first, record.metadata, here)

    def _unlisted(self) -> Iterator[str]:
        folder = self.metadata.files.full_folder
        named = {form for name in self.seen for form in spellings(name)}
        ends = {os.path.basename(name) for name in self.seen}
        for below, folders, files in os.walk(folder):
            folders[:] = sorted(
                f for f in folders if not os.path.isfile(os.path.join(below, f, METADATA))
            )
            for name in sorted(f for f in files if f.lower().endswith(ENDINGS)):
                place = os.path.relpath(os.path.join(below, name), folder)
                if place not in named and not (self.by_filepath and name in ends):
                    yield place


def _reason(e: BaseException) -> str:
    """Return an error's text without the place, which the finding states itself."""
    text = getattr(e, "reason", None) or getattr(e, "strerror", None) or str(e)
    head, _, tail = str(text).partition(": ")
    return (
        tail if head.startswith("line ") and tail and not isinstance(e, LimitError) else str(text)
    )


def _box_wrong(box: list[float], size: tuple[int, int] | None) -> str | None:
    x, y, w, h = box
    text = f"({x:g}, {y:g}, {w:g}, {h:g})"
    if not all(math.isfinite(v) for v in box):
        return f"{text} is not finite"
    if w < 0 or h < 0:
        return f"{text} has a negative side"
    if x < -SLACK or y < -SLACK:
        return f"{text} begins outside the picture"
    if size is not None and (x + w > size[1] + SLACK or y + h > size[0] + SLACK):
        return f"{text} ends outside the picture of {size[1]} x {size[0]} (width x height)"
    return None


@dataclass(frozen=True, slots=True)
class _Options:
    """Options of ``lint``."""

    pictures: bool = True
    huggingface: bool = True
    threads: int = 1
    ignore: Collection[str] = ()
    most: int = 10_000

    def __post_init__(self) -> None:
        unknown = set(self.ignore) - set(CODES)
        if unknown:
            known = ", ".join(CODES)
            raise ValueError(f"no finding {', '.join(sorted(unknown))}; known: {known}")


Headers = dict[str, Header | str]
"""Key of a line -> the header of the picture that it names, or why it cannot be decoded."""
Decoding = Callable[[MetadataFile], Iterator[Headers]]


def _header(record: Record, key: str) -> Header | str:
    """Decode one picture; return its header, or why it cannot be decoded."""
    try:
        return decoded_header(record.file(key).encoded())
    except (MapixError, OSError) as e:
        return _reason(e)


def _headers(part: Any, progress: Progress | None) -> list[Headers]:
    """Decode the pictures of all records of a part; a line that is damaged has none."""
    del progress
    found: list[Headers] = []
    for record in part:
        try:
            found.append({key: _header(record, key) for key in record.file_names})
        except (MapixError, ValueError):
            found.append({})
    return found


def _check(
    metadata: MetadataFile,
    options: _Options,
    progress: Progress | None,
    decoding: Decoding | None = None,
) -> LintReport:
    """Check all records of one metadata file."""
    report = LintReport(metadata.path, len(metadata.lines), metadata.source.nbytes)
    report.checked = ["lines", "files", "boxes"]
    report.checked += ["pictures"] if options.pictures else []
    hazards = options.huggingface and metadata.is_jsonl
    report.checked += ["what Hugging Face's imagefolder reads"] if hazards else []
    linter = _Linter(metadata, report, options.ignore, options.most)
    try:
        linter.run(
            pictures=options.pictures,
            hazards=hazards,
            threads=options.threads,
            progress=progress,
            decoding=decoding,
        )
    except _FullError:
        linter.finish()
        report.problems.append(
            f"{metadata.path}: the check stopped at the limit of {options.most} findings"
        )
    else:
        linter.finish()
    return report


def _check_all(
    files: list[MetadataFile],
    path: str,
    options: _Options,
    progress: Progress | None,
    decoding: Decoding | None = None,
) -> LintReport:
    """Check several metadata files, and put their reports together."""
    total, done = 0, 0
    if progress is not None:
        total = sum(len(file.lines) for file in files)
    reports = []
    for file in files:
        now = None if progress is None else (lambda k, _, done=done: progress(done + k, total))
        reports.append(_check(file, options, now, decoding))
        done += reports[-1].nrecords
    if len(reports) == 1:
        return reports[0]
    found = LintReport(path, checked=reports[0].checked)
    for report in reports:
        found.nrecords += report.nrecords
        found.nbytes += report.nbytes
        found.problems += report.problems
        found.findings += report.findings
        found.unchecked = report.unchecked
    return found


def check_splits(
    metadata: MetadataFile,
    dataset: Callable[[MetadataFile], Any],
    progress: Progress | None = None,
    map: Map | None = None,
) -> LintReport:
    """Check a metadata file that is open, and those of the other splits of its directory.

    ``dataset`` makes a dataset of a metadata file; a ``map`` decodes parts of it.
    """

    def decoded(file: MetadataFile) -> Iterator[Headers]:
        return chain.from_iterable(over(dataset(file), _headers, map=map))

    directory, decoding = metadata.directory, None if map is None else decoded
    if directory is None:
        return _check(metadata, _Options(), progress, decoding)
    with ExitStack() as opened:
        files = []
        for name in splits_of(directory):
            if name == metadata.place.split:
                files.append(metadata)
            else:
                files.append(of_split(metadata, name))
                opened.callback(files[-1].close)
        return _check_all(files, directory, _Options(), progress, decoding)


def lint(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    pictures: bool = True,
    huggingface: bool = True,
    threads: int = 1,
    ignore: Collection[str] = (),
    most: int = 10_000,
    progress: Progress | bool | None = None,
    root: str | os.PathLike[str] | None = None,
    **options: Any,
) -> LintReport:
    """Check all of an image folder.

    Parameters
    ----------
    path : str or os.PathLike
        The folder.  If it has no metadata file of its own, all of its splits are checked.
    split : str, optional
        Check only this split.
    pictures : bool
        Whether all pictures are decoded.  Otherwise boxes are not compared with picture sizes.
    huggingface : bool
        Whether to report what Hugging Face's imagefolder rejects or reads differently.
    threads : int
        Threads that decode.
    ignore : collection of str
        Codes of findings that are left out: keys of ``mapix.folder.checking.CODES``.
    most : int
        The check stops after this number of findings.
    progress : callable or True, optional
        ``progress(records_done, records_total)``; True shows a bar.
    root, **options
        As for ``mapix.open``.

    Returns
    -------
    LintReport
        ``ok``, ``problems`` (texts), ``findings`` (code, path, line, file name, message).
    """
    checks = _Options(pictures, huggingface, threads, ignore, most)
    settings, above = Settings(**options), None if root is None else os.fspath(root)
    directory = os.fspath(path)
    own = not os.path.isdir(directory) or has_metadata(directory)
    names = (split,) if split is not None or own else splits_of(directory) or (None,)
    with ExitStack() as opened:
        files = []
        for name in names:
            files.append(listing(located(directory, name, above), settings))
            opened.callback(files[-1].close)
        return _check_all(files, directory, checks, shown(progress, "checking"))
