"""IID archives beside what else people use: points, windows, overlaps, paintings, trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from archives import NCLS, count, shards, side
from comparison.report import Goal, Report
from comparison.rounds import Case
from contenders.segments import Original, each, library, same, timed
from mapix._native.iid import pack
from mapix._native.tree import Tree
from mapix.iid import Archive

FEW = 2000


class _Boxes:
    """shapely's STRtree over boxes, and masks as numpy has them: what one would write oneself."""

    def __init__(self, a: Archive, old: Original, shapely: Any) -> None:
        self.boxes, self.old, self.shapely = a.bboxes, old, shapely
        b = a.bboxes.astype(float)
        self.shapes = shapely.box(b[:, 1], b[:, 0], b[:, 3], b[:, 2])
        self.tree = shapely.STRtree(self.shapes)

    def region(self, r: int, c: int, r2: int, c2: int) -> list[int]:
        """Keys with a pixel in a window."""
        window, found = self.shapely.box(c + 0.1, r + 0.1, c2 - 0.1, r2 - 0.1), []
        for key in self.tree.query(window, predicate="intersects").tolist():
            minr, minc = self.boxes[key][:2].tolist()
            top, left = max(r - minr, 0), max(c - minc, 0)
            if self.old.mask(key)[top : r2 - minr, left : c2 - minc].any():
                found.append(key)
        return sorted(found)


def points(report: Report, a: Archive, path: Path) -> None:
    """Which segments have a pixel, exactly."""
    rng = np.random.default_rng(1)
    n = side(len(a))
    x, y = rng.integers(0, n, 5000), rng.integers(0, n, 5000)
    few = list(zip(x[:200].tolist(), y[:200].tolist(), strict=True))
    r, c = (v[:100] % (n - 256) for v in (y, x))
    boxes = np.stack([r, c, r + 256, c + 256], axis=1)
    windows = [tuple(b) for b in boxes.tolist()]
    at = [
        each("mapix, many at once", lambda: a.at(x, y), len(x)),
        each("mapix, one by one", lambda: [a.at(*p) for p in few], len(few)),
        each("mapix, boxes only", lambda: a.at(x, y, exact=False), len(x)),
    ]
    region = [
        each("mapix, many at once", lambda: a.region(boxes), len(boxes)),
        each("mapix, one by one", lambda: [a.region(w) for w in windows], len(windows)),
    ]
    shapely, goals = library("shapely"), []
    if shapely is not None:
        peer = _Boxes(a, Original(path), shapely)
        for px, py in few:
            same(a.at(px, py).tolist(), peer.region(py, px, py + 1, px + 1), "points")
        for w in windows[:3]:
            same(a.region(w).tolist(), peer.region(*w), "windows")
        name = "STRtree and numpy masks"
        at.append(each(name, lambda: [peer.region(q, p, q + 1, p + 1) for p, q in few], len(few)))
        region.append(each(name, lambda: [peer.region(*w) for w in windows[:3]], 3))
        goals = [Goal("mapix, many at once", "faster", 200, name)]
        goals.append(Goal("mapix, one by one", "faster", 20, name))
    report.table("at(x, y), exact, a point", "us", at[-1].name, at, goals)
    report.table("256 x 256 window, exact, a window", "us", region[-1].name, region, goals[1:])


def overlaps(report: Report, a: Archive) -> None:
    """Pairs that share pixels."""
    rng = np.random.default_rng(2)
    some = rng.choice(np.arange(NCLS, len(a)), min(FEW, len(a) - NCLS), replace=False)
    n = side(len(a))
    cases, goals, left_out = [timed("mapix", lambda: a.overlaps(some))], [], {}
    coco = library("pycocotools.mask")
    if coco is not None:
        ordered = np.sort(some)
        rles = [{**r, "counts": r["counts"].encode()} for r in a.coco_rle(ordered, (n, n))]
        crowd, found = [0] * len(rles), a.overlaps(some)
        dense = np.triu(coco.iou(rles, rles, crowd), 1)
        i, j = np.nonzero(dense)
        same(ordered[i].tolist(), found.i.tolist(), "pairs")
        same(bool(np.allclose(dense[i, j], found.iou)), True, "IoU")
        cases.append(timed("pycocotools, dense IoU", lambda: coco.iou(rles, rles, crowd)))
        goals.append(Goal("mapix", "faster", 9, "pycocotools, dense IoU"))
    else:
        left_out["pycocotools"] = "not installed"
    cases.append(timed("mapix, all segments", a.overlaps))
    files = shards(a)
    many, found = mapix.open(files), a.overlaps()
    sharded = many.overlaps()
    for column in ("i", "j", "pixels"):
        same(bool((getattr(sharded, column) == getattr(found, column)).all()), True, column)
    name = f"mapix, all segments, in {len(files)} files"
    cases.append(timed(name, many.overlaps))
    goals.append(Goal(name, "at most", 1.5, "mapix, all segments"))
    if count() == 100_000:
        goals.append(Goal("mapix, all segments", "below", 220))
    rounds = min(report.rounds, 5)
    title = f"overlaps of {len(some):,} segments"
    report.table(title, "ms", cases[1].name, cases, goals, left_out, rounds=rounds)


def painting(report: Report, a: Archive, path: Path) -> None:
    """All segments into one label map."""
    n, old = side(len(a)), Original(path)
    ours, canvas = np.empty((n, n), np.int32), np.empty((n, n), np.int32)
    masks = [old.mask(key) for key in range(len(a))]
    boxes = a.bboxes.tolist()

    def slowly(mask_of: Callable[[int], np.ndarray]) -> None:
        canvas.fill(-1)
        for key, (r, c, r2, c2) in enumerate(boxes):
            canvas[r:r2, c:c2][mask_of(key)] = key

    slowly(masks.__getitem__)
    a.paint(bbox=(0, 0, n, n), out=ours)
    same(bool((ours == canvas).all()), True, "paintings")
    report.table(
        f"painting all segments into {n} x {n} int32",
        "ms",
        "numpy, mask by mask",
        [
            timed("mapix", lambda: a.paint(bbox=(0, 0, n, n), out=ours)),
            timed("mapix, and how many lie where", lambda: a.paint(bbox=(0, 0, n, n), depth=True)),
            timed("numpy, mask by mask", lambda: slowly(old.mask)),
            timed("numpy, masks decoded before", lambda: slowly(masks.__getitem__)),
        ],
        [Goal("mapix", "faster", 20, "numpy, mask by mask")],
        rounds=min(report.rounds, 5),
    )


def trees(report: Report, a: Archive) -> None:
    """A tree over all boxes."""
    cases = [timed("mapix", lambda: Tree(a.bboxes))]
    b = a.bboxes.astype(float)
    sides = [np.ascontiguousarray(b[:, k]) for k in (1, 0, 3, 2)]
    shapely, geo = library("shapely"), library("geoindex_rs.rtree")
    if shapely is not None:
        shapes = shapely.box(*sides)
        cases.append(timed("STRtree", lambda: shapely.STRtree(shapes).query(shapes[0])))
    if geo is not None:

        def build() -> None:
            builder = geo.RTreeBuilder(len(b))
            builder.add(*sides)
            builder.finish()

        cases.append(timed("geoindex-rs", build))
    report.table("a tree over all boxes", "ms", cases[-1].name, cases)


def packing(report: Report, a: Archive) -> None:
    """A mask into regions, and an encoding into a mask."""
    keys = np.arange(NCLS, min(len(a), NCLS + 500))
    parts = [np.ascontiguousarray(m, np.uint8) for m in a.masks(keys)]
    cases: list[Case] = [
        each("mapix, with components", lambda: [pack(m, 0, 0) for m in parts], len(parts)),
        each(
            "numpy.packbits and a sum",
            lambda: [(np.packbits(m), m.sum()) for m in parts],
            len(parts),
        ),
    ]
    ndimage = library("scipy.ndimage")
    if ndimage is not None:
        eight = np.ones((3, 3), int)
        for m in parts[:50]:
            same(ndimage.label(m, eight)[1], pack(m, 0, 0)[2], "components")
        work = lambda: [ndimage.label(m, eight) for m in parts]  # noqa: E731
        cases.append(each("scipy.ndimage.label", work, len(parts)))
    report.table("a mask into regions, a mask", "us", "numpy.packbits and a sum", cases)


def many(report: Report, a: Archive, path: Path) -> None:
    """Overlaps, paintings, the tree, and packing."""
    overlaps(report, a)
    painting(report, a, path)
    trees(report, a)
    packing(report, a)


def large(report: Report, path: Path) -> None:
    """A million segments: there is nobody to compare with, but what they take is told."""
    a = mapix.open(path)
    n, rng = side(len(a)), np.random.default_rng(3)
    x, y = rng.integers(0, n, 5000), rng.integers(0, n, 5000)
    canvas = np.empty((n, n), np.int32)
    keys = a.keys[NCLS::50]
    room = np.zeros(len(a.masks(keys).flat), bool)
    _ = a.at(x, y)
    report.table(
        f"archive of {len(a):,} segments",
        "ms",
        "open",
        [
            timed("open", lambda: mapix.open(path)),
            timed(
                "open, names of group cls", lambda: (b := mapix.open(path)).names(b.groups["cls"])
            ),
            timed("open, every row read", lambda: mapix.open(path).check_table()),
            timed("open, all areas from headers", lambda: mapix.open(path).areas),
            timed("a tree over all boxes", lambda: Tree(a.bboxes)),
            timed("a table of all names", lambda: mapix.open(path)._names._table),
            timed("5,000 points, exact", lambda: a.at(x, y)),
            timed(f"{len(keys):,} masks into one arena", lambda: a.masks(keys, out=room)),
            timed(f"painting all into {n} x {n}", lambda: a.paint(bbox=(0, 0, n, n), out=canvas)),
            timed("all overlaps", a.overlaps),
        ],
        rounds=min(report.rounds, 5),
    )
