"""Check everything in a TFRecord file."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError, LimitError, UnsupportedError
from mapix.pictures.decoding import decoded_header, pillow
from mapix.plans import Map, over
from mapix.report import Report, report_progress
from mapix.tfrecord.index import scan
from mapix.tfrecord.record import Record

if TYPE_CHECKING:
    from mapix.tfrecord.dataset import TFRecords

__all__ = ["check"]


def check(ds: TFRecords, progress: Any = None, map: Map | None = None) -> Report:
    """Return a report of the file's lengths, and of the data of a dataset's records."""
    source = ds.source
    report = Report(ds.path, len(ds), source.nbytes, ["lengths", "checksums"])
    try:
        scan(source.mapping, strict=ds.core.settings.strict)
    except FormatError as e:
        report.problems.append(str(e))
    examples = bool(ds.first_features())
    missing = ""
    if examples:
        report.checked.append("features")
        try:
            pillow()
            report.checked.append("pictures")
        except UnsupportedError as e:
            missing = str(e)
    task = partial(_check_records, examples, missing)
    for problems, damaged, unchecked in over(ds, task, map=map, progress=progress):
        report.problems += problems
        report.damaged += damaged
        report.unchecked = report.unchecked or unchecked
    return report


def _check_records(
    examples: bool, missing: str, ds: TFRecords, progress: Any
) -> tuple[list[str], list[int], list[str]]:
    """Return the problems of records, the numbers of these records, and what was not checked."""
    problems: list[str] = []
    damaged: list[int] = []
    unchecked: list[str] = []
    for i, row in enumerate(ds.rows.tolist()):
        record = Record(ds.core, row)
        try:
            data = ds.core.read(row)
            if examples:
                record.values(data)
            found = record.encoded(data) if examples else None
            if found is not None and missing:
                unchecked = [missing]
            elif found is not None:
                decoded_header(record.picture())
        except (FormatError, LimitError) as e:
            problems.append(str(e))
            damaged.append(row)
        report_progress(progress, i + 1, len(ds))
    return problems, damaged, unchecked
