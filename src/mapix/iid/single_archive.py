"""An archive of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.iid import RegionTree
from mapix._native.tree import Tree
from mapix.dataset import FileDataset
from mapix.iid.archive import Archive
from mapix.iid.argument_checks import Box, Keys
from mapix.iid.groups import FileGroups
from mapix.iid.layout import read_meta
from mapix.iid.names import Names
from mapix.iid.segment import Segment
from mapix.iid.segment_file import SegmentFile
from mapix.selection import distinct
from mapix.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.iid.stored_index import Index
    from mapix.plans import Map
    from mapix.report import Report

__all__ = ["SingleArchive"]

REGIONS_PER_SEGMENT = 16  # most of them for a tree over regions: a file must not choose our memory
LEAST_REGIONS = 1 << 20
# An archive with a stored index has a tree over boxes: one over regions pays after so many queries.
QUERIES_PER_SEGMENT = 1 / 64
LEAST_QUERIES = 64
FEW_WINDOWS = 64  # for which the tree of a remote archive is not brought


class SingleArchive(Archive, FileDataset[Segment]):  # type: ignore[misc]  # parts are selections
    """An archive of one file.

    Boxes and areas of all segments, the tree over them, and the table of names are made when they
    are first needed, and cached.  Exact queries by place use a tree over the regions of all
    segments, made at about 30 ns per segment.

    Attributes
    ----------
    source : Source
        The open file.
    layout : Layout
        The places of its sections.
    """

    def __init__(self, source: Source) -> None:
        self._file = SegmentFile(source)
        self._n = len(self._file)
        super().__init__(source, self._n, {"others": ()})
        self.layout = self._file.layout
        self._bits = self._file.native
        self._names = Names(self._file)
        self.groups = FileGroups(self._file)
        self._quickly = self._file
        self._asked = 0  # windows of exact queries so far

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return self.source.nbytes

    @property
    def header(self) -> tuple[int, int]:
        """Version and rformat of the header, as ``Writer(version=...)`` takes them."""
        return self.layout.version, self.layout.rformat

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The metadata."""
        return read_meta(self.source, self.layout)

    # --- segments ---------------------------------------------------------------------------------

    def _record(self, row: int) -> Segment:
        return Segment(self._file, row)

    def __iter__(self) -> Iterator[Segment]:
        return map(Segment, repeat(self._file), range(self._n))

    def name(self, key: int) -> tuple[bytes, bytes]:
        """Return (domain, iid) of a key."""
        return self._file.name(key)

    def _place(self, key: int) -> tuple[SegmentFile, int]:
        return self._file, key

    # --- tables of all segments -------------------------------------------------------------------

    def check_table(self) -> None:
        """Check each row of the lookup table: see ``ArchiveBase``."""
        self._file.check_table()

    @property
    def bboxes(self) -> NDArray[np.uint16]:
        """Boxes of all segments, uint16 (n, 4): minr, minc, maxr, maxc; read-only."""
        self.check_table()
        known = None if self._index is None else self._index.boxes
        return self._file.heads[0] if known is None else known

    @property
    def areas(self) -> Keys:
        """Pixels of all segments, as the file states them, uint32 (n,); read-only."""
        self.check_table()
        known = None if self._index is None else self._index.areas
        return self._file.heads[1] if known is None else known

    @property
    def _index(self) -> Index | None:
        return self._file.index

    @cached_property
    def _tree(self) -> Tree:
        known = None if self._index is None else self._index.tree
        return Tree(self.bboxes) if known is None else known

    # --- by place: the tree over regions, or the tree over boxes and a count of pixels ------------

    @cached_property
    def _regions(self) -> RegionTree | None:
        _ = self.bboxes  # checks the lookup table, and warns of swapped headers
        limit = max(REGIONS_PER_SEGMENT * self._n, LEAST_REGIONS)
        tree = RegionTree.of(self._file.native, limit)
        if tree is not None:
            self._file._use_tree(tree, tree.address)
        return tree

    def _regions_for(self, nwindows: int) -> RegionTree | None:
        """Return the tree over regions if it is made, or worth making for these queries."""
        self._asked += nwindows
        known = "_regions" in self.__dict__
        enough = max(QUERIES_PER_SEGMENT * self._n, LEAST_QUERIES)
        few = self._asked < enough or self._searched is not None
        if not known and few and self._index is not None:
            return None
        return self._regions

    @property
    def _searched(self) -> Index | None:
        """The index whose tree is searched where it lies: of a remote archive."""
        remote = self.source.mapping.remote is not None
        return self._index if remote and "_tree" not in self.__dict__ else None

    def _in_window(self, window: Box, exact: bool) -> Keys:
        known = self.__dict__.get("_regions") or (self._regions_for(1) if exact else None)
        if exact and known is not None:
            found: Keys = known.hits(window)
            return found
        box = np.array(window, np.uint16)
        searched = self._searched
        keys = distinct((self._tree if searched is None else searched).search(box))
        if exact and len(keys):
            windows = np.ascontiguousarray(np.broadcast_to(box, (len(keys), 4)))
            keys = keys[self._bits.count(keys, windows, any=True) > 0]
        return keys

    def _in_windows(self, windows: NDArray[np.uint16], exact: bool) -> tuple[Keys, NDArray[Any]]:
        known = self._regions_for(len(windows)) if exact else None
        if known is not None:
            return known.many(windows)
        searched = self._searched if len(windows) <= FEW_WINDOWS else None
        if searched is None:
            keys, counts = self._tree.search_many(windows)
        else:
            each = [distinct(searched.search(window)) for window in windows]
            counts = np.array([len(found) for found in each], np.uint32)
            keys = np.concatenate([np.empty(0, np.uint32), *each])
        if exact and len(keys):
            point = np.repeat(np.arange(len(windows)), counts)
            hit = self._bits.count(keys, windows[point], any=True) > 0
            return keys[hit], np.bincount(point[hit], minlength=len(windows))
        return keys, counts

    def _record_sizes(self) -> NDArray[np.int64]:
        return self._file.lut["nbytes"].astype(np.int64)

    # --- life -------------------------------------------------------------------------------------

    def verify(
        self, progress: Callable[[int, int], object] | None = None, *, map: Map | None = None
    ) -> Report:
        """Check table, names, groups, metadata, every region, areas, and the stored index.

        Parameters
        ----------
        progress : callable, optional
            ``progress(segments_done, segments_total)``.
        map : callable or int, optional
            What runs the check in parts: see ``statistics``.  The report is the same.
        """
        from mapix.iid.verification import verify

        return verify(self, self._file, self._index, progress, map)
