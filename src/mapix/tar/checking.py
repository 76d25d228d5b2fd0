"""Check everything in a tar shard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError, LimitError, UnsupportedError
from mapix.pictures.decoding import decoded_header, pillow
from mapix.report import Report, report_progress
from mapix.tar.index import scan
from mapix.tar.record import kind_of
from mapix.tar.values import INTEGERS, PICTURES, TEXTS

if TYPE_CHECKING:
    from mapix.tar.dataset import TarShard

__all__ = ["check"]

VALUES = INTEGERS | TEXTS | {"json", "npy"}


def check(shard: TarShard, progress: Any = None) -> Report:
    """Return a report of the headers of the file, and of the members of a dataset's records."""
    source, n = shard.source, len(shard)
    report = Report(shard.path, n, source.nbytes, ["headers", "sizes", "numbers, texts, arrays"])
    try:
        scan(source.mapping, strict=shard.core.settings.strict)
    except FormatError as e:
        report.problems.append(str(e))
    pictures = any(kind_of(name) in PICTURES for name in shard.core.index.extensions)
    try:
        if pictures:
            pillow()
            report.checked.append("pictures")
    except UnsupportedError as e:
        report.unchecked.append(str(e))
        pictures = False
    for i, record in enumerate(shard):
        for extension in record.members:
            kind = kind_of(extension)
            try:
                if kind in PICTURES and pictures:
                    decoded_header(record.picture(extension))
                elif kind in VALUES:
                    _ = record[extension]
            except (FormatError, LimitError) as e:
                report.problems.append(str(e))
                if report.damaged[-1:] != [record.index]:
                    report.damaged.append(record.index)
        report_progress(progress, i + 1, n)
    return report
