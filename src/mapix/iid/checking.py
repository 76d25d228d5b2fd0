"""Everything there is to check about an archive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import MapixError
from mapix.iid.pixels import STEP
from mapix.report import Report

if TYPE_CHECKING:
    from mapix.iid.archive import Archive

__all__ = ["verify"]

MOST_TOLD = 100


def verify(archive: Archive, progress: Callable[[int, int], object] | None = None) -> Report:
    """``archive.verify``."""
    report = Report(archive.path, len(archive), archive.layout.end)

    def look(what: str, at: Callable[[], Any]) -> None:
        report.checked.append(what)
        try:
            at()
        except MapixError as e:
            report.problems.append(f"{what}: {e}")

    look("lookup table", archive.check_table)
    look("metadata", lambda: archive.meta)
    look("groups", lambda: [archive.groups[name] for name in archive.groups])
    look("names", lambda: archive.domains)
    look("regions", lambda: _pixels(archive, report, progress))
    if archive.source.nbytes > archive.layout.end:
        report.checked.append("index")
        index = archive._index
        if index is None:
            more = archive.source.nbytes - archive.layout.end
            report.problems.append(f"{more} bytes behind the last section are no index of it")
        else:
            wrong = [k for k in ("boxes", "areas", "tree") if getattr(index, k) is None]
            report.problems += [f"the index's {k} are not what they were" for k in wrong]
    return report


def _pixels(
    archive: Archive, report: Report, progress: Callable[[int, int], object] | None
) -> None:
    """Every region is walked, and its pixels counted."""
    n = len(archive)
    for at in range(0, n, STEP):
        keys = np.arange(at, min(at + STEP, n), dtype=np.uint32)
        wrong = archive.counts(keys) != archive.areas[keys]
        report.damaged += keys[wrong].tolist()
        if progress is not None:
            progress(int(keys[-1]) + 1, n)
    if report.damaged:
        shown = ", ".join(map(str, report.damaged[:MOST_TOLD]))
        report.problems.append(
            f"{len(report.damaged)} segments state other areas than their pixels: {shown}"
        )
