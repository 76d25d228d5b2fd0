"""The result of ``verify``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mapix.text import counted, plain_line, printable

__all__ = ["Report", "report_progress"]

NUMBERED = re.compile(r"\b(?:record|segment|row|entry) (\d+)\b")
LISTED = re.compile(r": (\d+(?:, \d+)*)(?:, \.\.\.)?$")
OTHER = re.compile(r"[^ ]*/[^:]*: ")  # a path with which the problem of another file begins
REPORT_RECORDS = 256  # records between two calls of progress


def report_progress(progress: Callable[[int, int], object] | None, done: int, n: int) -> None:
    """Call ``progress(done, n)`` after every 256 records, and after the last."""
    if progress is not None and (done % REPORT_RECORDS == 0 or done == n):
        progress(done, n)


@dataclass(slots=True)
class Report:
    """The result of ``verify``.

    Attributes
    ----------
    path : str
        The file.
    nrecords, nbytes : int
        Number of its records (or segments), and their size in bytes.
    checked : list of str
        The properties that were checked.
    problems : list of str
        The problems that were found; empty if there are none.
    damaged : list of int
        Numbers of records whose bytes do not match their checksums or counts.
    unchecked : list of str
        What was not checked because a library is not installed, and which one.
    unit : str
        What the records are called: "records", or "segments", "images", ...
    """

    path: str
    nrecords: int = 0
    nbytes: int = 0
    checked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    unit: str = "records"

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    @classmethod
    def merge(
        cls, path: str, reports: Iterable[Report], begins: Sequence[int] | None = None
    ) -> Report:
        """Return the report of several files as one.

        Parameters
        ----------
        path : str
            For the report.
        reports : iterable of Report
            Those of the files.
        begins : sequence of int, optional
            Number of the first record of each file; by default the records of the files before it.
        """
        made = Report(path)
        for k, found in enumerate(reports):
            made.add(found, made.nrecords if begins is None else begins[k])
        return made

    def add(self, found: Report, begin: int) -> None:
        """Add the report of a file whose first record has the number ``begin`` here."""
        self.unit = found.unit
        self.nrecords += found.nrecords
        self.nbytes += found.nbytes
        self.checked = list(dict.fromkeys([*self.checked, *found.checked]))
        self.problems += [f"{found.path}: {problem}" for problem in found.problems]
        self.damaged += [begin + i for i in found.damaged]
        self.unchecked = list(dict.fromkeys([*self.unchecked, *found.unchecked]))

    def rows_of(self, k: int, path: str | None = None) -> list[int]:
        """Return the numbers of the records that ``problems[k]`` names.

        Parameters
        ----------
        k : int
            Number of the problem.
        path : str, optional
            The file whose records are meant; by default ``self.path``.

        Returns
        -------
        list of int
            Empty where the problem is not about records, or about those of another file.
        """
        path = self.path if path is None else path
        text = self.problems[k]
        listed = LISTED.search(text)
        if listed and self.damaged and int(listed[1].split(", ")[0]) == self.damaged[0]:
            return list(self.damaged)
        own = text.removeprefix(f"{path}: ")
        if own == text and OTHER.match(text):
            return []
        return [int(number) for number in NUMBERED.findall(own)]

    def __repr__(self) -> str:
        found = counted(len(self.problems), "problem") if self.problems else "no problems"
        checks = counted(len(self.checked), "check")
        what = f"{counted(self.nrecords, self.unit)}, {checks}, {found}"
        lines = [f"<{type(self).__name__} {printable(self.path)}: {what}", *self.problems[:3]]
        more = len(self.problems) - 3
        lines += [counted(more, "other problem")] if more > 0 else []
        return "\n  ".join(plain_line(line) for line in lines) + ">"

    def __str__(self) -> str:
        n = counted(self.nrecords, self.unit)
        lines = [f"{self.path}: {n}, checked {', '.join(self.checked)}"]
        lines += [f"  {problem}" for problem in self.problems or ["no problems"]]
        return "\n".join([*lines, *(f"  not checked: {text}" for text in self.unchecked)])
