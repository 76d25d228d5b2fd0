"""Segments for which conditions hold: worked out when they are first looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.iid.names import as_bytes
from mapix.selection import chosen

if TYPE_CHECKING:
    from mapix.iid.archive import Archive
    from mapix.iid.segment import Segment

__all__ = ["Selection"]


class Selection:
    """What ``Archive.select`` gives: a plan, and a set of segments once somebody looks.

    The cheap conditions come first: groups and names, then areas and boxes of what is left, and
    only of what is left then the pixels.  ``&``, ``|``, ``-`` and ``^`` combine selections.

    Attributes
    ----------
    archive : Archive
        Where the segments are.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        groups: Any = None,
        domains: Any = None,
        area: Any = None,
        bbox: Any = None,
        keys: Any = None,
        ready: NDArray[np.uint32] | None = None,
    ) -> None:
        self.archive = archive
        self._groups = [groups] if isinstance(groups, str) else groups
        self._domains = [domains] if isinstance(domains, str | bytes) else domains
        self._area, self._bbox, self._among = area, bbox, keys
        if ready is not None:
            self.__dict__["keys"] = ready

    @cached_property
    def keys(self) -> NDArray[np.uint32]:
        """Keys, uint32 (n,): ascending, or in the order in which they were asked for."""
        a = self.archive
        found: NDArray[Any] | None = (
            None if self._among is None else np.unique(a._some(self._among))
        )
        if self._groups is not None:
            names: Sequence[str] = self._groups
            every = [np.empty(0, np.uint32), *(a.groups[name].keys for name in names)]
            found = _both(found, np.unique(np.concatenate(every)))
        if self._domains is not None:
            found = _both(found, a._names.in_domains([as_bytes(d) for d in self._domains]))
        if self._area is not None:
            low, high = self._area
            areas = a.areas if found is None else a.areas[found]
            fits = np.ones(len(areas), bool)
            if low is not None:
                fits &= areas >= low
            if high is not None:
                fits &= areas <= high
            found = np.flatnonzero(fits).astype(np.uint32) if found is None else found[fits]
        if self._bbox is not None:
            box = np.asarray(self._bbox)
            if box.shape != (4,):
                raise ValueError(f"bbox is (minr, minc, maxr, maxc), got shape {box.shape}")
            found = np.ascontiguousarray(_both(found, a.region(box, exact=False)))
            windows = np.tile(np.clip(box, 0, 65535).astype(np.uint16), (len(found), 1))
            hits = a._iid.count(a.source.mapping, found, windows, any=True)
            found = found[hits > 0]
        return a.keys if found is None else np.ascontiguousarray(found, np.uint32)

    def _with(self, keys: NDArray[Any]) -> Selection:
        return Selection(self.archive, ready=keys.astype(np.uint32))

    def __and__(self, other: Selection) -> Selection:
        return self._with(np.intersect1d(self.keys, other.keys))

    def __or__(self, other: Selection) -> Selection:
        return self._with(np.union1d(self.keys, other.keys))

    def __sub__(self, other: Selection) -> Selection:
        return self._with(np.setdiff1d(self.keys, other.keys))

    def __xor__(self, other: Selection) -> Selection:
        return self._with(np.setxor1d(self.keys, other.keys))

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Segment]:
        return (self.archive[int(k)] for k in self.keys)

    @overload
    def __getitem__(self, key: int) -> Segment: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike) -> Selection: ...
    def __getitem__(self, key: Any) -> Segment | Selection:
        """The i-th of them; or some, by a slice, indices, or a mask, in that order."""
        found = chosen(key, None, len(self), self.archive.path, "segments")
        if isinstance(found, int):
            return self.archive[int(self.keys[found])]
        return self._with(self.keys[np.asarray(found, np.int64)])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.archive, self.keys)

    def __contains__(self, key: object) -> bool:
        return bool((self.keys == key).any())

    def masks(self, out: Any = None) -> Any:
        """``archive.masks`` of them."""
        return self.archive.masks(self.keys, out)

    def paint(self, **options: Any) -> Any:
        """``archive.paint`` of them."""
        return self.archive.paint(self.keys, **options)

    def overlaps(self) -> Any:
        """``archive.overlaps`` of them."""
        return self.archive.overlaps(self.keys)

    def __repr__(self) -> str:
        if "keys" in self.__dict__:
            return f"<Selection of {len(self)} segments of {self.archive.path}>"
        return f"<Selection of {self.archive.path}, not looked at>"


def _rebuilt(archive: Archive, keys: NDArray[np.uint32]) -> Selection:
    return Selection(archive, ready=keys)


def _both(a: NDArray[Any] | None, b: NDArray[Any]) -> NDArray[Any]:
    """Keys in both, ascending; b alone where there is no a."""
    return np.sort(b) if a is None else np.intersect1d(a, b)
