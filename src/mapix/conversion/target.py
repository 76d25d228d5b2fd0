"""The base class of the targets of conversions."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from mapix.conversion.stream import BESIDES, Stream
from mapix.store import NewFile

__all__ = ["Count", "Progress", "Sink", "Target", "counter"]

Count = Callable[[int], object]
"""Called with the number of records that were written since the last call."""

Progress = Callable[[int, int], object]
"""Called with the number of records that are done, and of all records."""


class Target:
    """A format that streams can be written in.

    Attributes
    ----------
    splits : tuple of str
        Names of the splits that it holds; empty for a single set of records.
    any_split : bool
        Whether it holds splits of any names.
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

    @classmethod
    def path_of_part(cls, path: str, part: str) -> str:
        """Return the path of one part where each is a file: ``x-train.npz`` of ``x.npz``."""
        ending = max((e for e in cls.endings if path.endswith(e)), key=len, default="")
        return f"{path.removesuffix(ending)}-{part}{ending}"

    def keeps(self, stream: Stream) -> set[str]:
        """Return the names of the data that the target holds: of ``Stream.held`` or ``BESIDES``."""
        raise NotImplementedError

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """Describe what numbers and labels lose that the target holds.

        Raises
        ------
        UnsupportedError
            The target cannot hold these records at all.
        """
        return []

    def lost(self, streams: Mapping[str, Stream]) -> list[str]:
        """Describe everything that the target cannot hold, before anything is written.

        This is everything that ``keeps`` does not name, so that nothing can be forgotten.
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
        """Write all streams; the target appears at ``path`` when it is complete, or not at all."""
        raise NotImplementedError


def counter(total: int, progress: Progress | None) -> Count:
    """Return a function that adds up records, and reports progress."""
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, total)

    return count


class Sink(io.RawIOBase):
    """A new file, for the writers of other libraries."""

    def __init__(self, file: NewFile) -> None:
        self._file = file

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write all data."""
        raw = memoryview(data).cast("B")
        self._file.write(raw)
        return len(raw)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._file.nbytes
