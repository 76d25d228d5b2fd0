"""Fallback for the types of archives in ``mapix._record``; tests compare both.

``segment_types`` chooses between the two.  What is rare or goes wrong is written once, in the
subclasses.
"""

from __future__ import annotations

import operator
import struct
from typing import TYPE_CHECKING, Any, Self

from mapix.iid.argument_checks import Box, Keys
from mapix.iid.layout import NAME_HEAD, SEGMENT_HEAD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Segment", "SegmentBuffer", "SegmentFile"]

ROW = struct.Struct("<5I")  # of the lookup table
FULL_NBYTES = 1 << 20  # of names, or of segments, that are held


class SegmentFile:
    """Segments of one file.

    A subclass implements the methods that raise NotImplementedError here; the C module calls them
    for what it does not do itself.
    """

    nsegments: int

    def _head(self, row: int) -> tuple[Box, int]:
        raise NotImplementedError

    def _name(self, row: int) -> tuple[bytes, bytes]:
        raise NotImplementedError

    def _own_mask(self, row: int) -> NDArray[np.bool_]:
        raise NotImplementedError

    def _find(self, domain: Any, iid: Any) -> Keys:
        raise NotImplementedError

    def _find_many(self, domain: Any, iids: Any) -> NDArray[np.int64]:
        raise NotImplementedError

    def _attach(
        self, source: Any, cmap: Any, map_at: int, iid_at: int, functions: tuple[int, ...]
    ) -> None:
        """Take the file, its map, and addresses of ``mapix_iid`` and of functions of the core."""

    def _use_heads(self, owner: Any, boxes: int, areas: int) -> None:
        """Take the addresses of all boxes and areas, which live as long as ``owner``."""

    def _use_names(self, owner: Any, seed: int, slots: int, nslots: int, chain: int) -> None:
        """Take the table of names, which lives as long as ``owner``."""

    def _use_tree(self, owner: Any, parts: int) -> None:
        """Take the tree over regions, which lives as long as ``owner``."""

    def head(self, row: int) -> tuple[Box, int]:
        """Return box and area of a segment, as its header states them."""
        return self._head(row)

    def name(self, row: int) -> tuple[bytes, bytes]:
        """Return (domain, iid) of a segment."""
        return self._name(row)

    def own_mask(self, row: int) -> NDArray[np.bool_]:
        """Return the mask of a segment's own box."""
        return self._own_mask(row)

    def find(self, domain: Any, iid: Any) -> Keys:
        """Return all keys of a name, uint32, ascending."""
        return self._find(domain, iid)

    def find_many(self, domain: Any, iids: Any) -> NDArray[np.int64]:
        """Return the lowest key of each name in a domain, or -1, int64 (n,)."""
        return self._find_many(domain, iids)

    def at(self, x: Any, y: Any) -> Keys | None:
        """Return the keys at a pixel, uint32, ascending; None: they have to be searched."""
        del x, y
        return None

    def region(self, window: Any) -> Keys | None:
        """Return the keys with a pixel in a window (minr, minc, maxr, maxc); None as for ``at``."""
        del window
        return None


class Segment:
    """A segment: the attributes that have to be fast."""

    __slots__ = ("_file", "_row", "key")

    _file: Any
    _row: int
    key: int

    def __new__(cls, file: Any, row: int, key: int | None = None) -> Self:
        """Make segment ``row`` of a file; ``key`` is its number in the archive."""
        made = object.__new__(cls)
        made._file = file
        made._row = operator.index(row)
        made.key = made._row if key is None else operator.index(key)
        return made

    @property
    def domain(self) -> bytes:
        """The namespace of its name; empty without one."""
        found: bytes = self._file.name(self._row)[0]
        return found

    @property
    def iid(self) -> bytes:
        """Its name within the domain."""
        found: bytes = self._file.name(self._row)[1]
        return found

    @property
    def bbox(self) -> Box:
        """(minr, minc, maxr, maxc), half open, as the file states it."""
        found: Box = self._file.head(self._row)[0]
        return found

    @property
    def area(self) -> int:
        """Pixels, as the file states them."""
        found: int = self._file.head(self._row)[1]
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the box."""
        minr, minc, maxr, maxc = self.bbox
        return maxr - minr, maxc - minc

    def mask(self, bbox: Box | None = None, out: NDArray[Any] | None = None) -> NDArray[np.bool_]:
        """Return the mask of the segment's box, or of another one.

        Parameters
        ----------
        bbox : (minr, minc, maxr, maxc), optional
            Any box of the image; pixels outside of the segment are False.
        out : ndarray, optional
            bool or uint8, C-contiguous, of exactly that shape.

        Returns
        -------
        ndarray
            bool (h, w), or ``out``.
        """
        found: NDArray[np.bool_]
        if bbox is None and out is None:
            found = self._file.own_mask(self._row)
        else:
            found = self._file.mask(self._row, bbox, out)
        return found


class SegmentBuffer:
    """Segments of a new archive that are not written yet, and its lookup table.

    Parameters
    ----------
    indexed : bool
        Whether boxes and areas are collected.
    most : int
        Bytes of a section, and of all sections before the segments.
    pack, nscratch : int
        The address of ``mapix_iid_pack``, and how many words it needs for small masks.

    Attributes
    ----------
    reserved : int
        Bytes of header, metadata and groups, which share the limit of names and table.
    """

    def __init__(self, indexed: bool, most: int, pack: int, nscratch: int) -> None:
        del most, pack, nscratch
        self.reserved = 0
        self._indexed = indexed
        self._names, self._segs, self._lut = bytearray(), bytearray(), bytearray()
        self._boxes, self._areas = bytearray(), bytearray()
        self._before = [0, 0]

    def __len__(self) -> int:
        return len(self._lut) // ROW.size

    @property
    def names_nbytes(self) -> int:
        """Bytes of all names so far."""
        return self._before[0] + len(self._names)

    @property
    def segs_nbytes(self) -> int:
        """Bytes of all segments so far."""
        return self._before[1] + len(self._segs)

    @property
    def full(self) -> bool:
        """Whether names and segments are to be taken."""
        return max(len(self._names), len(self._segs)) >= FULL_NBYTES

    def add(self, domain: Any, iid: Any, mask: Any, at: Any, listed: int) -> int | None:
        """Return None: the writer packs the mask itself, and calls ``put``.

        The C type packs a small bool or uint8 mask at (row, column), adds ``listed`` to
        ``reserved``, and returns the key; None for other arguments, and when there is no space.
        """
        del domain, iid, mask, at, listed
        return None

    def put(self, domain: bytes, iid: bytes, box: Box, area: int, regions: bytes) -> int:
        """Append a segment that was checked; return its key."""
        key, name_nbytes = len(self), NAME_HEAD.size + len(domain) + len(iid)
        nbytes = SEGMENT_HEAD.size + len(regions)
        row = ROW.pack(key, self.names_nbytes, name_nbytes, self.segs_nbytes, nbytes)
        self._names += NAME_HEAD.pack(key, len(domain), len(iid)) + domain + iid
        self._segs += SEGMENT_HEAD.pack(key, *box, area) + regions
        if self._indexed:
            self._boxes += struct.pack("<4H", *box)
            self._areas += struct.pack("<I", area)
        self._lut += row
        return key

    def take(self) -> tuple[bytes, bytes]:
        """Return names and segments, and forget them."""
        names, segs = bytes(self._names), bytes(self._segs)
        self._before = [self.names_nbytes, self.segs_nbytes]
        self._names, self._segs = bytearray(), bytearray()
        return names, segs

    def tables(self) -> tuple[bytes, bytes, bytes]:
        """Return the bytes of lookup table, boxes and areas."""
        return bytes(self._lut), bytes(self._boxes), bytes(self._areas)
