"""Check everything in a tar shard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError, LimitError, UnsupportedError
from mapix.pictures.decoding import decoded_header, pillow
from mapix.plans import Map, over
from mapix.report import Report, report_progress
from mapix.tar.index import scan
from mapix.tar.record import kind_of
from mapix.tar.values import INTEGERS, PICTURES, TEXTS

if TYPE_CHECKING:
    from mapix.tar.dataset import TarShard

__all__ = ["check"]

VALUES = INTEGERS | TEXTS | {"json", "npy"}


def check(shard: TarShard, progress: Any = None, map: Map | None = None) -> Report:
    """Return a report of the headers of the file, and of the members of a dataset's records."""
    source = shard.source
    report = Report(
        shard.path, len(shard), source.nbytes, ["headers", "sizes", "numbers, texts, arrays"]
    )
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
    task = partial(_check_records, pictures)
    for problems, damaged in over(shard, task, map=map, progress=progress):
        report.problems += problems
        report.damaged += damaged
    return report


def _check_records(pictures: bool, shard: TarShard, progress: Any) -> tuple[list[str], list[int]]:
    """Return the problems of records, and the numbers of the records that have some."""
    problems: list[str] = []
    damaged: list[int] = []
    for i, record in enumerate(shard):
        for extension in record.members:
            kind = kind_of(extension)
            try:
                if kind in PICTURES and pictures:
                    decoded_header(record.picture(extension))
                elif kind in VALUES:
                    _ = record[extension]
            except (FormatError, LimitError) as e:
                problems.append(str(e))
                if damaged[-1:] != [record.index]:
                    damaged.append(record.index)
        report_progress(progress, i + 1, len(shard))
    return problems, damaged
