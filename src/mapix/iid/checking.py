"""Everything there is to check about an archive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix._native.tree import Tree
from mapix.errors import MapixError
from mapix.iid.layout import image_size
from mapix.iid.pixels import STEP
from mapix.report import Report

if TYPE_CHECKING:
    from mapix.iid.archive import Archive
    from mapix.iid.trailer import Index

__all__ = ["verify"]

MOST_TOLD = 100
FAN = 16  # children of a node
NO_BOX = (65535, 65535, 0, 0)  # of a leaf or a child that has no pixel


def verify(archive: Archive, progress: Callable[[int, int], object] | None = None) -> Report:
    """``archive.verify``."""
    report = Report(archive.path, len(archive), archive.layout.end)

    def look(what: str, at: Callable[[], Any]) -> None:
        report.checked.append(what)
        try:
            at()
        except MapixError as e:
            report.problems.append(f"{what}: {e}")

    look("lookup table", archive.check_table)
    look("metadata", lambda: archive.meta)
    look("image", lambda: _image(archive, report))
    look("groups", lambda: [archive.groups[name] for name in archive.groups])
    look("names", lambda: archive.domains)
    look("regions", lambda: _pixels(archive, report, progress))
    if archive.source.nbytes > archive.layout.end:
        index = archive._index
        if index is None:
            more = archive.source.nbytes - archive.layout.end
            report.checked.append("index")
            report.problems.append(f"{more} bytes behind the last section are no index of it")
        else:
            wrong = [k for k in ("boxes", "areas", "tree") if getattr(index, k) is None]
            look("index", lambda: report.problems.extend(_differences(archive, index)))
            report.problems += [f"the index's {k} are not what they were" for k in wrong]
    return report


def _image(archive: Archive, report: Report) -> None:
    """No box lies outside of the image that the metadata states."""
    said = image_size(archive.meta)
    if said is None:
        return
    boxes = archive._columns[0]
    outside = np.flatnonzero((boxes[:, 2] > said[0]) | (boxes[:, 3] > said[1]))
    if len(outside):
        report.problems.append(
            f"image: {len(outside)} boxes, that of segment {outside[0]} first, lie outside of the "
            f"image of {said[0]} x {said[1]} that the metadata states"
        )


def _differences(archive: Archive, index: Index) -> list[str]:
    """What an index says that segments do not."""
    boxes, areas = archive._columns
    tables = (("boxes", index.boxes, boxes), ("areas", index.areas, areas))
    found = []
    for name, said, own in tables:
        if said is not None and not np.array_equal(said, own):
            at = int(np.argmax((said != own).reshape(len(own), -1).any(axis=1)))
            found.append(f"the index's {name} are not the segments', first that of segment {at}")
    if index.tree is not None and not _is_tree_of(index.tree, boxes):
        found.append("the index's tree is not one over the segments' boxes")
    return found


def _is_tree_of(tree: Tree, boxes: NDArray[np.uint16]) -> bool:
    """Whether all boxes are leaves, and each node states the boxes around its children's."""
    n, nodes = len(boxes), tree.nodes.reshape(-1, 4, FAN)
    if not np.array_equal(np.sort(tree.order), np.arange(n)):
        return False
    level = boxes[tree.order]
    level[(level[:, 0] >= level[:, 2]) | (level[:, 1] >= level[:, 3])] = NO_BOX
    at = 0
    while len(level) and at < len(nodes):
        count = -(-len(level) // FAN)
        padded = np.full((count * FAN, 4), NO_BOX, np.uint16)
        padded[: len(level)] = level
        children = padded.reshape(count, FAN, 4).transpose(0, 2, 1)
        if not np.array_equal(nodes[at : at + count], children):
            return False
        level = np.hstack([children[:, :2].min(axis=2), children[:, 2:].max(axis=2)])
        at += count
        if count == 1:
            break
    return at == len(nodes)


def _pixels(
    archive: Archive, report: Report, progress: Callable[[int, int], object] | None
) -> None:
    """Every region is walked, and its pixels counted."""
    n = len(archive)
    for at in range(0, n, STEP):
        keys = np.arange(at, min(at + STEP, n), dtype=np.uint32)
        wrong = archive.counts(keys) != archive._columns[1][keys]
        report.damaged += keys[wrong].tolist()
        if progress is not None:
            progress(int(keys[-1]) + 1, n)
    if report.damaged:
        shown = ", ".join(map(str, report.damaged[:MOST_TOLD]))
        report.problems.append(
            f"{len(report.damaged)} segments state other areas than their pixels: {shown}"
        )
