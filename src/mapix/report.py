"""What ``verify`` found."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Report"]


@dataclass(slots=True)
class Report:
    """What ``verify`` found.

    Attributes
    ----------
    path : str
        The file.
    nrecords, nbytes : int
        How many records (or segments) it has, and bytes of them.
    checked : list of str
        What was looked at.
    problems : list of str
        What is wrong; empty when all is well.
    damaged : list of int
        Records whose bytes are not what checksums, or counts, say.
    """

    path: str
    nrecords: int = 0
    nbytes: int = 0
    checked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.nrecords} records, checked {', '.join(self.checked)}"]
        return "\n".join([*lines, *(f"  {p}" for p in self.problems or ["all is well"])])
