"""What every target of a conversion is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mapix.conversion.stream import Stream

__all__ = ["Count", "Progress", "Target", "counter"]

Count = Callable[[int], object]
"""Told how many more records were written."""

Progress = Callable[[int, int], object]
"""Told how many records are done, and how many there are."""


class Target:
    """A format that streams can be written in.

    Attributes
    ----------
    splits : tuple of str
        Splits that it has places for; empty for one array of records.
    """

    splits: tuple[str, ...] = ()

    def lost(self, streams: Mapping[str, Stream]) -> list[str]:
        """What the target has no place for, in words; asked before anything is written."""
        raise NotImplementedError

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """Write them all; what is at ``path`` then is whole, or nothing is."""
        raise NotImplementedError


def counter(total: int, progress: Progress | None) -> Count:
    """What adds up records, and tells how far it is."""
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, total)

    return count
