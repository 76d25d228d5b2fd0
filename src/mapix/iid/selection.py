"""Some segments of an archive: those for which conditions hold, or a part by indices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.iid.archive_base import SegmentDataset
from mapix.iid.argument_checks import Keys, as_bytes
from mapix.iid.segment import Segment
from mapix.plans import Map
from mapix.report import Report
from mapix.selection import Rows, distinct
from mapix.source import Fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.iid.archive import Archive
    from mapix.iid.pixel_results import Masks, Overlaps

__all__ = ["Selection"]


class Selection(SegmentDataset):
    """Segments of an archive, in an order of their own; a dataset like the archive.

    Conditions are evaluated when the segments are first needed, cheap ones first: groups and names,
    then areas and boxes of what is left, then its pixels.  ``&``, ``|``, ``-`` and ``^`` combine
    selections of one archive.  Pickles as paths, fingerprints and keys.

    Attributes
    ----------
    archive : Archive
        The archive of the segments.
    """

    JOINED = None  # archives can be opened as one, selections cannot

    def __init__(
        self,
        archive: Archive,
        *,
        groups: Any = None,
        domains: Any = None,
        area: Any = None,
        bbox: Any = None,
        keys: Any = None,
        rows: Rows = None,
    ) -> None:
        self.archive = archive
        self._groups = [groups] if isinstance(groups, str) else groups
        self._domains = [domains] if isinstance(domains, str | bytes) else domains
        self._area, self._bbox, self._among = area, bbox, keys
        if rows is not None:
            self._rows = rows

    @cached_property
    def _rows(self) -> Rows:  # type: ignore[override]  # made when it is first needed
        """Keys for which the conditions hold, ascending."""
        a = self.archive
        found: NDArray[Any] | None = None if self._among is None else distinct(a._some(self._among))
        if self._groups is not None:
            names: Sequence[str] = self._groups
            every = [np.empty(0, np.uint32), *(a.groups[name].keys for name in names)]
            found = _both(found, distinct(np.concatenate(every)))
        if self._domains is not None:
            found = _both(found, a._names.in_domains([as_bytes(d) for d in self._domains]))
        if self._area is not None:
            low, high = self._area
            areas = a.areas if found is None else a.areas.take(found)
            fits = np.ones(len(areas), bool)
            if low is not None:
                fits &= areas >= low
            if high is not None:
                fits &= areas <= high
            found = np.flatnonzero(fits) if found is None else found[fits]
        if self._bbox is not None:
            box = np.asarray(self._bbox)
            if box.shape != (4,):
                raise ValueError(f"bbox is (minr, minc, maxr, maxc), got shape {box.shape}")
            found = _both(found, a.region(box, exact=False)).astype(np.uint32, copy=False)
            windows = np.tile(np.clip(box, 0, 65535).astype(np.uint16), (len(found), 1))
            found = found[a._bits.count(found, windows, any=True) > 0]
        return None if found is None else found.astype(np.int64, copy=False)

    @cached_property
    def keys(self) -> Keys:
        """Keys, uint32 (n,): ascending, or in the order of the indices that chose them."""
        rows = self.rows if isinstance(self._rows, range | None) else self._rows
        return rows.astype(np.uint32)

    def __and__(self, other: Selection) -> Selection:
        return self._part(np.intersect1d(self.rows, other.rows))

    def __or__(self, other: Selection) -> Selection:
        return self._part(np.union1d(self.rows, other.rows))

    def __sub__(self, other: Selection) -> Selection:
        return self._part(np.setdiff1d(self.rows, other.rows))

    def __xor__(self, other: Selection) -> Selection:
        return self._part(np.setxor1d(self.rows, other.rows))

    def __iter__(self) -> Iterator[Segment]:
        return map(self.archive._record, self.keys.tolist())

    def __contains__(self, key: object) -> bool:
        return bool((self.keys == key).any())

    def masks(self, out: NDArray[Any] | None = None) -> Masks:
        """Return ``archive.masks`` of the segments."""
        return self.archive.masks(self.keys, out)

    def paint(self, **options: Any) -> Any:
        """Return ``archive.paint`` of the segments."""
        return self.archive.paint(self.keys, **options)

    def overlaps(self) -> Overlaps:
        """Return ``archive.overlaps`` of the segments."""
        return self.archive.overlaps(self.keys)

    # --- the contract -----------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Path of the archive."""
        return self.archive.path

    @property
    def closed(self) -> bool:
        """Whether the archive is closed."""
        return self.archive.closed

    def close(self) -> None:
        """Close the archive."""
        self.archive.close()

    def _count(self) -> int:
        return len(self.archive)

    def _record(self, row: int) -> Segment:
        return self.archive._record(row)

    def _part(self, rows: Rows) -> Selection:
        return Selection(self.archive, rows=rows)

    def _values(self, name: str) -> NDArray[Any]:
        return self.archive._values_of(name, self.keys)

    def _facts(self) -> dict[str, Any]:
        a = self.archive
        return {
            "version": a.version,
            "image": list(a.shape),
            "nbytes": a.nbytes,
            "area": self._areas_range(),
        }

    def _record_sizes(self) -> int | NDArray[np.int64]:
        sizes = self.archive._record_sizes()
        return sizes if isinstance(sizes, int) else sizes[self.rows]

    def verify(
        self, progress: Callable[[int, int], object] | None = None, *, map: Map | None = None
    ) -> Report:
        """Check the archive: ``archive.verify``."""
        return self.archive.verify(progress, map=map)

    def warm(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Read the files of the archive into the page cache: ``archive.warm``."""
        self.archive.warm(progress)

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        return self.archive._reopening()

    def _snapshot(self) -> Any:
        return self.archive._snapshot()._part(self._rows)

    def _origin(self) -> tuple[str, str, dict[str, Any], Fingerprint]:
        return self.archive._origin()

    def _summary(self) -> str:
        known = "_rows" in self.__dict__
        return f"{len(self)} segments" if known else "segments for which conditions hold"


def _both(a: NDArray[Any] | None, b: NDArray[Any]) -> NDArray[Any]:
    """Return the keys in both, ascending; without an a, all of b."""
    return np.sort(b) if a is None else np.intersect1d(a, b)
