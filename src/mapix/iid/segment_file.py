"""One file of an archive: its lookup table, and its segments one at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix import _native
from mapix._native.iid import FUNCTIONS, NONE, Iid, NameTable, array_at, name_hashes
from mapix.errors import FormatError, warn
from mapix.iid import segment_types
from mapix.iid.argument_checks import Box, Keys, Text, as_box, as_bytes
from mapix.iid.layout import (
    LEAST_NBYTES,
    LUT_ROW,
    NAME,
    NAME_HEAD,
    ROW_NBYTES,
    SEGMENT_HEAD,
    check_pixels,
    check_sharing,
    read_layout,
)
from mapix.iid.names import back_to_back
from mapix.selection import distinct
from mapix.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.iid.stored_index import Index

__all__ = ["SegmentFile"]

SEGMENTS_PER_CALL = 1 << 16  # whose headers are read between two checks for Ctrl-C
SEARCHES_OF_ALL = 64  # one of so many names is searched for: then a table of all is made
LONG_NAME_NBYTES = 1 << 12  # names of an unchecked table might all be the same bytes


class SegmentFile(segment_types.SegmentFile):
    """One file of an archive.  Segments are numbered 0, 1, 2 ... in it.

    Threads: any number.  Pickles as path and fingerprint.

    Attributes
    ----------
    source : Source
        The open file.
    layout : Layout
        The places of its sections.
    native : Iid
        The calls of the compiled core.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.layout = read_layout(source)
        source.mapping.advise("random")
        self._n, layout = self.layout.nsegments, self.layout
        self.native = Iid(source, self._n, layout.lut[0], layout.iids, layout.segs)
        self._point()

    def _point(self) -> None:
        """Take the map again: after a harmless change of the file it is another one."""
        self._attach(self.source, *self.source.mapping.located, self.native.address, FUNCTIONS)

    @classmethod
    def reopened(cls, path: str, expect: Any) -> SegmentFile:
        """Open the file of a fingerprint again, or raise FileChangedError."""
        return cls(Source(path, expect))

    def __reduce__(self) -> tuple[Any, ...]:
        return SegmentFile.reopened, (self.source.full_path, self.source.identity)

    def __len__(self) -> int:
        return self._n

    @property
    def path(self) -> str:
        """Path of the file."""
        return self.source.path

    # --- one segment: what the base class calls ---------------------------------------------------

    def _name(self, row: int) -> tuple[bytes, bytes]:
        found = self.native.text(row)
        if len(found[0]) + len(found[1]) > LONG_NAME_NBYTES:
            self.check_table()
        return found

    def _head(self, row: int) -> tuple[Box, int]:
        known = self.__dict__.get("heads")
        if known is not None:
            minr, minc, maxr, maxc = known[0][row].tolist()
            return (minr, minc, maxr, maxc), int(known[1][row])
        return self.native.head(row)

    def _own_mask(self, row: int) -> NDArray[np.bool_]:
        box, _ = self.head(row)
        h, w = box[2] - box[0], box[3] - box[1]
        if h * w > LEAST_NBYTES:
            check_pixels(self.path, self.source.nbytes, h * w, f"a mask of segment {row}")
        out = np.empty((h, w), np.bool_)
        self.native.mask(row, box, out)
        return out

    def mask(self, row: int, bbox: Box | None, out: NDArray[Any] | None) -> NDArray[np.bool_]:
        """Return the mask of a segment in a box (by default its own), in ``out`` if given."""
        box = as_box(self.head(row)[0] if bbox is None else bbox)
        h, w = box[2] - box[0], box[3] - box[1]
        given = np.empty((h, w), np.bool_) if out is None else out
        if given.shape != (h, w) or given.dtype.itemsize != 1 or not given.flags.c_contiguous:
            raise ValueError(
                f"out must be C-contiguous bool or uint8 of shape {(h, w)}, "
                f"got {given.dtype} {given.shape}"
            )
        self.native.mask(row, box, given)
        found: NDArray[np.bool_] = given.view(np.bool_) if out is None else given
        return found

    def _row(self, row: int) -> tuple[int, int]:
        """Return offset and length of a segment in its section, checked."""
        at = self.layout.lut[0] + row * ROW_NBYTES
        raw = _native.copy(self.source.mapping, at, ROW_NBYTES, NAME)
        key, *places = (int.from_bytes(raw[k : k + 4], "little") for k in range(0, ROW_NBYTES, 4))
        name_at, name_nbytes, segment_at, nbytes = places
        if (
            key != row
            or name_at + name_nbytes > self.layout.iids[1]
            or name_nbytes < NAME_HEAD.size
            or segment_at + nbytes > self.layout.segs[1]
            or nbytes < SEGMENT_HEAD.size
        ):
            self.native.columns(row, None, None, 1)  # raises: its error has all numbers
            raise FormatError(self.path, NAME, "a bad row of the lookup table", record=row, at=at)
        return segment_at, nbytes

    def regions_at(self, row: int) -> tuple[int, int]:
        """Return the byte of the file at which a segment's regions begin, and their length."""
        at, nbytes = self._row(row)
        return self.layout.segs[0] + at + SEGMENT_HEAD.size, nbytes - SEGMENT_HEAD.size

    def region_bytes(self, row: int) -> bytes:
        """Return ``Segment.bits``, copied under the guard."""
        return bytes(_native.copy(self.source.mapping, *self.regions_at(row), NAME))

    # --- all segments -----------------------------------------------------------------------------

    @property
    def lut(self) -> NDArray[np.void]:
        """The lookup table, (n,).  Copies: 20 bytes per segment, under the guard."""
        raw = _native.copy(self.source.mapping, *self.layout.lut, NAME)
        return np.frombuffer(raw, LUT_ROW)

    def check_table(self) -> None:
        """Check each row of the lookup table: its key, and that name and segment are in bounds.

        Raises
        ------
        FormatError
            A row is wrong.
        LimitError
            Segments, or names, share bytes: together they take more than 4 times their section.
        """
        if "_checked" in self.__dict__:
            return
        names = segments = 0
        for first in range(0, self._n, SEGMENTS_PER_CALL * 16):
            n = min(SEGMENTS_PER_CALL * 16, self._n - first)
            _, more, many = self.native.columns(first, None, None, n)
            names, segments = names + more, segments + many
        check_sharing(self.path, "names", names, self.layout.iids[1])
        check_sharing(self.path, "segments", segments, self.layout.segs[1])
        self.__dict__["_checked"] = True

    @cached_property
    def heads(self) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
        """Boxes (n, 4) and areas (n,) from the headers of all segments; read-only."""
        n = self._n
        self.check_table()
        boxes, areas = np.empty((n, 4), np.uint16), np.empty(n, np.uint32)
        swapped = 0
        for first in range(0, n, SEGMENTS_PER_CALL):
            part = slice(first, min(first + SEGMENTS_PER_CALL, n))
            swapped += self.native.columns(first, boxes[part], areas[part], part.stop - first)[0]
        if swapped:
            warn(
                f"{self.path}: {swapped} segments state area and key in the places of 2018's "
                "writer; they are read so"
            )
        boxes.flags.writeable = areas.flags.writeable = False
        self._use_heads((boxes, areas), array_at(boxes), array_at(areas))
        return boxes, areas

    # --- segments by name -------------------------------------------------------------------------

    @cached_property
    def names(self) -> NameTable:
        """The table of names."""
        self.check_table()
        # A random seed: a file cannot have names that all collide.
        table = self.native.names(int.from_bytes(os.urandom(8), "little"))
        self._use_names(table, *table.numbers)
        return table

    def _find(self, domain: Text | None, iid: Text) -> Keys:
        name = as_bytes(domain), as_bytes(iid)
        if not self._n:
            return np.empty(0, np.uint32)
        if self._searched is not None:
            return np.array(self._found(name), np.uint32)
        table = self.names
        key = self.native.find_one(table, *name)
        found = []
        while 0 <= key != NONE:
            found.append(key)
            key = int(table.chain[key])
        return np.array(found, np.uint32)

    def _find_many(self, domain: bytes, iids: Sequence[Text]) -> NDArray[np.int64]:
        n = len(iids)
        if not self._n or not n:
            return np.full(n, -1, np.int64)
        if self._searched is not None and n * SEARCHES_OF_ALL <= self._n:
            found = [self._found((domain, as_bytes(iid))) for iid in iids]
            return np.array([keys[0] if keys else -1 for keys in found], np.int64)
        return self.native.find(self.names, *back_to_back(domain, iids))

    @cached_property
    def index(self) -> Index | None:
        """The stored index, if there is one that fits."""
        from mapix.iid import stored_index

        return stored_index.read(self.source, self.layout)

    @property
    def _searched(self) -> Index | None:
        """The index whose names are searched where they lie: of a remote object."""
        if self.source.mapping.remote is None or "names" in self.__dict__:
            return None
        return self.index if self.index is not None and self.index.has_names else None

    def _found(self, name: tuple[bytes, bytes]) -> list[int]:
        """Return the keys of a name, by a search in the index."""
        index = self._searched
        assert index is not None
        domain, iid = name
        ends = np.array([len(domain), len(domain) + len(iid)], np.uint64)
        (hashed,) = name_hashes(domain + iid + b"\0", ends, "name", 0).tolist()
        keys = distinct(index.keys_of(hashed)).tolist()
        if keys and keys[-1] >= self._n:
            reason = f"the index names segment {keys[-1]} of {self._n}"
            raise FormatError(self.path, NAME, reason)
        return [key for key in keys if self.native.text(key) == name]
