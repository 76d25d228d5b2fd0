"""The checks of ``archive.verify``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.tree import Tree
from mapix.errors import MapixError
from mapix.iid.layout import MOST_SIDE, image_size
from mapix.plans import Map, over
from mapix.progress import Progress
from mapix.report import Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.iid.archive import Archive
    from mapix.iid.segment_file import SegmentFile
    from mapix.iid.stored_index import Index

__all__ = ["verify"]

SEGMENTS_PER_STEP = 1 << 16  # between two calls of progress
SHOWN_KEYS = 100  # in a message
CHILDREN = 16  # of a node
NO_BOX = (MOST_SIDE, MOST_SIDE, 0, 0)  # of a leaf or child without a pixel


def verify(
    archive: Archive,
    file: SegmentFile,
    index: Index | None,
    progress: Progress | None,
    map: Map | None = None,
) -> Report:
    """Check an archive of one file: see ``SingleArchive.verify``."""
    report = Report(archive.path, len(archive), file.layout.end)

    def check(what: str, act: Callable[[], Any]) -> None:
        report.checked.append(what)
        try:
            act()
        except MapixError as e:
            report.problems.append(f"{what}: {e}")

    check("lookup table", file.check_table)
    check("metadata", lambda: archive.meta)
    check("image", lambda: _check_image(archive, file, report))
    check("groups", lambda: [archive.groups[name] for name in archive.groups])
    check("names", lambda: archive.domains)
    check("regions", lambda: _check_areas(archive, report, progress, map))
    more = file.source.nbytes - file.layout.end
    if more and index is None:
        report.checked.append("index")
        report.problems.append(f"{more} bytes after the last section are not an index of it")
    elif index is not None:
        tables = ("boxes", "areas", "tree", *(["names"] if index.has_names else []))
        wrong = [k for k in tables if getattr(index, k) is None]
        check("index", lambda: report.problems.extend(_differences(file, index)))
        report.problems += [f"the index's {k} do not match their checksum" for k in wrong]
    return report


def _check_image(archive: Archive, file: SegmentFile, report: Report) -> None:
    """Check that all boxes lie in the image that the metadata states."""
    stated = image_size(archive.meta)
    if stated is None:
        return
    boxes = file.heads[0]
    outside = np.flatnonzero((boxes[:, 2] > stated[0]) | (boxes[:, 3] > stated[1]))
    if len(outside):
        report.problems.append(
            f"image: {len(outside)} boxes, that of segment {outside[0]} first, lie outside of the "
            f"image of {stated[0]} x {stated[1]} that the metadata states"
        )


def _check_areas(
    archive: Archive, report: Report, progress: Progress | None, map: Map | None
) -> None:
    """Decode every region, and compare the counts of pixels with the stated areas."""
    for wrong in over(archive, _wrong_areas, map=map, progress=progress):
        report.damaged += wrong
    if report.damaged:
        shown = ", ".join(str(key) for key in report.damaged[:SHOWN_KEYS])
        report.problems.append(
            f"{len(report.damaged)} segments state other areas than their pixels: {shown}"
        )


def _wrong_areas(part: Any, progress: Progress | None) -> list[int]:
    """Return the keys of segments whose pixels are not as many as their area states."""
    archive, every = getattr(part, "archive", part), part.keys
    n, found = len(every), []
    for at in range(0, n, SEGMENTS_PER_STEP):
        keys = every[at : at + SEGMENTS_PER_STEP]
        found += keys[archive.counts(keys) != archive._file.heads[1].take(keys)].tolist()
        if progress is not None:
            progress(min(at + SEGMENTS_PER_STEP, n), n)
    return found


def _differences(file: SegmentFile, index: Index) -> list[str]:
    """Return how an index differs from the segments."""
    boxes, areas = file.heads
    tables = (("boxes", index.boxes, boxes), ("areas", index.areas, areas))
    found = []
    for name, stored, own in tables:
        if stored is not None and not np.array_equal(stored, own):
            at = int(np.argmax((stored != own).reshape(len(own), -1).any(axis=1)))
            found.append(f"the index's {name} are not the segments', first that of segment {at}")
    if index.tree is not None and not _is_tree_of(index.tree, boxes):
        found.append("the index's tree is not one over the segments' boxes")
    if index.names is not None:
        hashes = file.native.hashes("name", 0)
        keys = np.argsort(hashes, kind="stable")
        stated = index.names["hash"], index.names["key"]
        if not all(map(np.array_equal, stated, (hashes[keys], keys))):
            found.append("the index's names are not the segments'")
    return found


def _is_tree_of(tree: Tree, boxes: NDArray[np.uint16]) -> bool:
    """Whether all boxes are leaves, and each node states the boxes around its children."""
    n, nodes = len(boxes), tree.nodes.reshape(-1, 4, CHILDREN)
    if not np.array_equal(np.sort(tree.order), np.arange(n)):
        return False
    level = boxes[tree.order]
    level[(level[:, 0] >= level[:, 2]) | (level[:, 1] >= level[:, 3])] = NO_BOX
    at = 0
    while len(level) and at < len(nodes):
        count = -(-len(level) // CHILDREN)
        padded = np.full((count * CHILDREN, 4), NO_BOX, np.uint16)
        padded[: len(level)] = level
        children = padded.reshape(count, CHILDREN, 4).transpose(0, 2, 1)
        if not np.array_equal(nodes[at : at + count], children):
            return False
        level = np.hstack([children[:, :2].min(axis=2), children[:, 2:].max(axis=2)])
        at += count
        if count == 1:
            break
    return at == len(nodes)
