"""Check everything in a TFRecord file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError, LimitError, UnsupportedError
from mapix.pictures.decoding import decoded_header, pillow
from mapix.report import Report, report_progress
from mapix.tfrecord.index import scan
from mapix.tfrecord.record import Record

if TYPE_CHECKING:
    from mapix.tfrecord.dataset import TFRecords

__all__ = ["check"]


def check(ds: TFRecords, progress: Any = None) -> Report:
    """Return a report of the file's lengths, and of the data of a dataset's records."""
    source, n = ds.source, len(ds)
    report = Report(ds.path, n, source.nbytes, ["lengths", "checksums"])
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
    for i, row in enumerate(ds.rows.tolist()):
        record = Record(ds.core, row)
        try:
            data = ds.core.read(row)
            if examples:
                record.values(data)
            found = record.encoded(data) if examples else None
            if found is not None and missing:
                report.unchecked = [missing]
            elif found is not None:
                decoded_header(record.picture())
        except (FormatError, LimitError) as e:
            report.problems.append(str(e))
            report.damaged.append(row)
        report_progress(progress, i + 1, n)
    return report
