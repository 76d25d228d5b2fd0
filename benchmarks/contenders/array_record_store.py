"""ArrayRecord: one record of the VIMH file a record, one record a group, not compressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from contenders.bagz_store import bytes_getter
from contenders.base import Contender, Pair, records


class ArrayRecord(Contender):
    """Set up for random access (no readahead, no threads); seek and read, which is by far the
    faster of its two ways."""

    NAME = "ArrayRecord, seek + read"
    MODULES = ("array_record.python.array_record_module",)
    SUFFIX = ".array_record"

    @classmethod
    def write(cls, source: Path, store: Path) -> None:
        from array_record.python import array_record_module as module

        writer = module.ArrayRecordWriter(str(store), "group_size:1,uncompressed")
        for record, *_ in records(source):
            writer.write(record)
        writer.close()

    def __init__(self, source: Path) -> None:
        from array_record.python import array_record_module as module

        super().__init__(source)
        options = "readahead_buffer_size:0,max_parallelism:0"
        self.reader: Any = module.ArrayRecordReader(str(self.path), options)

    def getter(self) -> Callable[[int], Pair]:
        seek, read = self.reader.seek, self.reader.read

        def at(i: int) -> bytes:
            seek(i)
            return bytes(read())

        return bytes_getter(self, at)

    def close(self) -> None:
        self.reader.close()


class ArrayRecordIndices(ArrayRecord):
    """The same through ``read([i])``."""

    NAME = "ArrayRecord, read([i])"

    def getter(self) -> Callable[[int], Pair]:
        read = self.reader.read
        return bytes_getter(self, lambda i: read([i])[0])

    def batch(self, rows: Any) -> tuple[Any, Any]:
        found = self.reader.read([int(i) for i in rows])
        get = bytes_getter(self, found.__getitem__)
        together = Contender.batch
        by_place = _Found(self, get)
        return together(by_place, range(len(found)))  # type: ignore[arg-type]


class _Found:
    """Records read already, seen as a contender."""

    def __init__(self, like: Contender, get: Callable[[int], Pair]) -> None:
        self.kind = like.kind
        self.alike = getattr(like, "alike", None)
        self._get = get

    def getter(self) -> Callable[[int], Pair]:
        return self._get
