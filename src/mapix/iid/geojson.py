"""Segments as GeoJSON: polygons with holes, valid for shapely and QuPath."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.iid.argument_checks import KeysLike
from mapix.iid.coco_reading import CROWD
from mapix.iid.coco_writing import signed_area
from mapix.store import NewWhole

if TYPE_CHECKING:
    from mapix.iid.archive import Archive

__all__ = ["rings_of", "to_geojson"]

BLOCK_SEGMENTS = 4096  # whose groups are found at once: each search reads all groups

Ring = NDArray[np.int32]


def to_geojson(
    archive: Archive,
    path: str | os.PathLike[str] | None = None,
    keys: KeysLike | None = None,
    *,
    object_type: str = "annotation",
    replace: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any] | None:
    """Write segments as a GeoJSON FeatureCollection: outlines along the sides of the pixels.

    A feature is a Polygon or a MultiPolygon with holes, x to the right and y down in pixels, as
    QuPath expects; parts that touch at a corner are parts of their own.  Its properties are
    ``objectType``, ``name`` (the iid), ``classification`` with the name of the first group, and
    ``domain`` and ``groups`` where they add something.

    Parameters
    ----------
    archive : Archive
        The archive.
    path : str or os.PathLike, optional
        The file; without it the content is returned.
    keys : array_like, optional
        Segments; by default all.  Those without pixels are left out.
    object_type : str
        ``annotation``, ``detection`` or ``cell``: QuPath's kinds of objects.
    replace : bool
        Whether to replace a file at ``path``.
    progress : callable, optional
        ``progress(segments_done, segments_total)``.

    Raises
    ------
    LimitError
        A segment has more than 256 Ki sides.

    Notes
    -----
    Memory: one segment, and the groups of 4096, if there is a path.
    """
    some = archive._some(keys)
    if path is None:
        return {
            "type": "FeatureCollection",
            "features": list(_features(archive, some, object_type, progress)),
        }
    with NewWhole(path, replace=replace) as out:
        out.write(b'{"type": "FeatureCollection", "features": [')
        for n, feature in enumerate(_features(archive, some, object_type, progress)):
            out.write(((",\n" if n else "\n") + json.dumps(feature)).encode())
        out.write(b"]}\n")
    return None


def _features(
    archive: Archive,
    keys: NDArray[np.uint32],
    object_type: str,
    progress: Callable[[int, int], object] | None,
) -> Iterator[dict[str, Any]]:
    for n, key in enumerate(keys.tolist()):
        if n % BLOCK_SEGMENTS == 0:
            groups_of = archive._groups_of(keys[n : n + BLOCK_SEGMENTS])
        segment = archive[key]
        polygons = rings_of(segment.polygon())
        if polygons:
            parts = [[_closed(ring) for ring in rings] for rings in polygons]
            kind = "Polygon" if len(parts) == 1 else "MultiPolygon"
            geometry = {"type": kind, "coordinates": parts[0] if len(parts) == 1 else parts}
            groups = [g for g in groups_of[n % BLOCK_SEGMENTS] if g != CROWD]
            properties: dict[str, Any] = {
                "objectType": object_type,
                "name": segment.iid.decode("utf-8", "backslashreplace"),
            }
            if groups:
                properties["classification"] = {"name": groups[0]}
            if len(groups) > 1:
                properties["groups"] = groups
            if segment.domain:
                properties["domain"] = segment.domain.decode("utf-8", "backslashreplace")
            yield {"type": "Feature", "geometry": geometry, "properties": properties}
        if progress is not None:
            progress(n + 1, len(keys))


def _closed(ring: Ring) -> list[list[int]]:
    points: list[list[int]] = ring.tolist()
    return [*points, points[0]]


def rings_of(rings: list[Ring]) -> list[list[Ring]]:
    """Return polygons, each an outline and its holes, of the rings of ``Segment.polygon``."""
    outer = [signed_area(ring) > 0 for ring in rings]
    parents = _parents(rings, outer)
    found = {k: [ring] for k, ring in enumerate(rings) if outer[k]}
    for k, ring in enumerate(rings):
        if not outer[k]:
            found[parents[k]].append(ring)
    return list(found.values())


def _parents(rings: list[Ring], outer: list[bool]) -> dict[int, int]:
    """Return, for each hole, the ring around the pixels that it is a hole of.

    The side that is next to the left of a hole's leftmost side belongs to that ring, or to another
    hole of the same pixels.
    """
    holes = [k for k, is_outer in enumerate(outer) if not is_outer]
    if not holes:
        return {}
    rows, columns, owners = [], [], []
    for k, ring in enumerate(rings):
        x, y = ring.T.astype(np.int64)
        ahead = np.concatenate((y[1:], y[:1]))
        first, last = np.minimum(y, ahead), np.maximum(y, ahead)
        counts = last - first  # of rows that a vertical side passes
        rows.append(np.repeat(first, counts) + _ramps(counts))
        columns.append(np.repeat(x, counts))
        owners.append(np.full(int(counts.sum()), k))
    row, column, owner = map(np.concatenate, (rows, columns, owners))
    order = np.lexsort((column, row))
    code = row[order] * (int(column.max()) + 2) + column[order]
    owner = owner[order]
    found: dict[int, int] = {}
    leftmost = {k: int(rings[k][:, 0].min()) for k in holes}
    for k in sorted(holes, key=leftmost.__getitem__):
        ring = rings[k]
        x = leftmost[k]
        here = ring[ring[:, 0] == x]
        y = int(here[:, 1].min())  # the row below the upper end of a leftmost side
        at = int(np.searchsorted(code, y * (int(column.max()) + 2) + x)) - 1
        beside = int(owner[at])
        found[k] = beside if outer[beside] else found[beside]
    return found


def _ramps(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0..c-1 for each count c, back to back."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)
