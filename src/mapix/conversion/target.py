"""What every target of a conversion is asked."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from mapix.conversion.stream import BESIDES, Stream
from mapix.store import NewFile

__all__ = ["Count", "Progress", "Sink", "Target", "counter"]

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
    any_split : bool
        Whether it has a place for splits of any names.
    endings : tuple of str
        Ends of paths that choose this target.
    arguments : mapping of str to mapping
        Option -> keywords of ``argparse.ArgumentParser.add_argument``, for the command line.
    """

    splits: tuple[str, ...] = ()
    any_split = False
    endings: tuple[str, ...] = ()
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def of(cls, path: str, options: Mapping[str, Any]) -> Self:
        """Return the target for a path, which may decide options itself."""
        return cls(**options)

    def keeps(self, stream: Stream) -> set[str]:
        """Names of what the target has a place for: keys of ``Stream.held``, or of ``BESIDES``."""
        raise NotImplementedError

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """What becomes less of numbers and labels that it keeps, in words.

        Raises
        ------
        UnsupportedError
            The target does not take these records at all.
        """
        return []

    def lost(self, streams: Mapping[str, Stream]) -> list[str]:
        """What the target has no place for, in words; asked before anything is written.

        This is everything that the target does not keep, so that nothing can be forgotten.
        """
        narrowed = self.narrowed(streams)
        found: list[str] = []
        for stream in streams.values():
            held, kept = stream.held(), self.keeps(stream)
            unknown = kept - held.keys() - BESIDES
            if unknown:
                raise AssertionError(f"{type(self).__name__} keeps {unknown}, which nothing holds")
            found += [text for name, text in held.items() if name not in kept]
            found += stream.reduced
        return found + narrowed

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


class Sink(io.RawIOBase):
    """A file in the making as what other libraries write to."""

    def __init__(self, file: NewFile) -> None:
        self._file = file

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write all of it."""
        raw = memoryview(data).cast("B")
        self._file.write(raw)
        return len(raw)

    def tell(self) -> int:
        """Bytes written."""
        return self._file.nbytes
