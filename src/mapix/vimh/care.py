"""Keeping a file in order, as methods of a dataset: see ``upkeep`` and ``salvage``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mapix.vimh.layout import Progress

if TYPE_CHECKING:
    from mapix.report import Report
    from mapix.vimh.salvage import Saved
    from mapix.vimh.statistics import Statistics

__all__ = ["Care"]


class Care:
    """What ``Dataset`` inherits; all of it is about the whole file, not a part of it."""

    def keep_index(
        self: Any,
        *,
        labels: bool = True,
        checksums: bool = True,
        progress: Progress | None = None,
    ) -> str:
        """Keep the index beside the file; see ``mapix.index``."""
        from mapix.vimh import upkeep

        return upkeep.keep_index(self, labels=labels, checksums=checksums, progress=progress)

    def statistics(self: Any, progress: Progress | None = None) -> Statistics:
        """Exact statistics of pixels and labels, of this dataset's records.

        Those of a whole file are kept in its stored index: asked for again they cost nothing.

        Parameters
        ----------
        progress : callable, optional
            ``progress(records_done, records_total)``.

        Returns
        -------
        Statistics
            ``pixels.mean``, ``.std``, ``.min``, ``.max`` of each channel; ``labels[name]`` with its
            range, values, counts, histogram and classes.  Cost: one pass over the pixels in C.
        """
        from mapix.vimh.statistics import statistics

        return statistics(self, progress)

    def verify(self: Any, progress: Progress | None = None) -> Report:
        """Check everything in the file: structure, checksums, info JSON, labels.

        Of a directory that was opened without ``split`` all data files are checked: what is wrong
        with another one is among the problems, which name it.  ``mapix.vimh.verify`` gives a report
        for each file.

        The file is walked anew, whatever index there is, and compared with the index that is in
        use.  Checksums are those of a stored index (``mapix.index``); without them nobody can tell
        whether pixels changed, and the report does not claim to.

        Parameters
        ----------
        progress : callable, optional
            ``progress(bytes_done, bytes_total)``.

        Returns
        -------
        Report
            Its ``ok`` says whether all is well.
        """
        from mapix.vimh import checking, upkeep

        report = upkeep.verify(self, progress)
        for other in checking.others(self, progress):
            report.checked.append(f"{other.path}: {', '.join(other.checked)}")
            report.problems += [f"{other.path}: {problem}" for problem in other.problems]
        return report

    def repair(self: Any, path: str | os.PathLike[str], progress: Progress | None = None) -> Saved:
        """Write all complete records to a new file; see ``mapix.vimh.repair``."""
        from mapix.vimh import salvage

        saved = salvage.repair(
            self.source.full_path,
            path,
            dialect=self.header_nbytes,
            sums=self.index.checksums,
            index=self.index,
            progress=progress,
        )
        assert isinstance(saved, salvage.Saved)  # of a file
        return saved
