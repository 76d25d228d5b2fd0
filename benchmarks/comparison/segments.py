"""IID archives beside what else people use: opening, names, masks, run lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from archives import LARGE, NCLS, archive, count, side
from comparison import joins
from comparison.report import Goal, Report
from comparison.rounds import Case
from contenders.segments import Original, each, library, same, timed
from data_files import refill
from mapix.iid import Archive
from mapix.iid.coco import encode

FEW = 2000


def coco_json(path: Path) -> Path:
    """The same segments as COCO has them."""
    found = path.with_suffix(".coco.json")
    if not found.exists():
        with mapix.open(path) as a:
            size = (side(len(a)), side(len(a)))
            rles = a.coco_rle(a.keys, size)
        found.write_text(json.dumps([{"id": k, "segmentation": r} for k, r in enumerate(rles)]))
    return found


def opening(report: Report, path: Path, indexed: Path) -> None:
    """A fresh handle, and the names of a group."""
    coco, old = coco_json(path), Original(path)

    def names() -> Any:
        a = mapix.open(path)
        return a.names(a.groups["cls"])

    same(names(), [old.rows[k][1:3] for k in range(NCLS)], "names")
    arrow = library("pyarrow")
    cases = [
        timed("mapix", lambda: mapix.open(path)),
        each("mapix, a hundred in a row", lambda: [mapix.open(path) for _ in range(100)], 100),
        timed("mapix, names of group cls", names),
        each("mapix, that a hundred in a row", lambda: [names() for _ in range(100)], 100),
        timed("mapix, every row read", lambda: mapix.open(path).check_table()),
        timed("mapix, all areas from headers", lambda: mapix.open(path).areas),
        timed("mapix, all areas from an index", lambda: mapix.open(indexed).areas),
        timed("the original's way", lambda: Original(path)),
        timed("COCO JSON, json.load", lambda: json.loads(coco.read_bytes())),
    ]
    if arrow is not None:
        table, kept = mapix.open(path).table(), path.with_suffix(".arrow")
        made = arrow.table({k: table[k] for k in ("domain", "iid", "area")})
        with arrow.OSFile(str(kept), "wb") as sink, arrow.ipc.new_file(sink, made.schema) as out:
            out.write_table(made)
        cases.append(
            timed(
                "Arrow file, mapped, areas",
                lambda: (
                    arrow.ipc.open_file(arrow.memory_map(str(kept))).read_all()["area"].to_numpy()
                ),
            )
        )
    report.table(
        f"archive of {count():,} segments: open",
        "ms",
        "the original's way",
        cases,
        [
            Goal("mapix, a hundred in a row", "below", 0.06),
            Goal("mapix, names of group cls", "faster", 5000, "the original's way"),
        ],
    )


def names(report: Report, a: Archive) -> None:
    """Keys by name."""
    keys = np.arange(0, len(a), 20, dtype=np.uint32)
    wanted = [iid for _, iid in a.names(keys)]
    space = a.name(0)[0]
    known = {name: k for k, name in enumerate(a.names())}
    same(a.find(space, wanted).tolist(), keys.tolist(), "keys by name")
    same([known[space, iid] for iid in wanted], keys.tolist(), "keys by name")
    few = wanted[:500]
    report.table(
        "key of a name",
        "us",
        "a dict of all names",
        [
            each("mapix, many at once", lambda: a.find(space, wanted), len(wanted)),
            each("mapix, one by one", lambda: [a.find(space, i) for i in few], len(few)),
            each("a dict of all names", lambda: [known[space, i] for i in wanted], len(wanted)),
        ],
    )
    report.table(
        "open, and the first name found, which makes a table",
        "ms",
        "a dict of all names",
        [
            timed("mapix", lambda: mapix.open(a.path).find(space, wanted[:1])),
            timed("a dict of all names", lambda: {n: k for k, n in enumerate(a.names())}),
        ],
    )


def masks(report: Report, a: Archive, path: Path) -> None:
    """Masks of the small segments."""
    keys = np.arange(NCLS, len(a), max(1, len(a) // 20000))
    some = keys[:FEW]
    old, listed = Original(path), some.tolist()
    found = [m.copy() for m in a.masks(some)]
    same([old.mask(k).tolist() for k in listed[:50]], [m.tolist() for m in found[:50]], "masks")
    room = np.zeros(len(a.masks(keys).flat), bool)
    cases = [
        each("mapix, into one arena", lambda: a.masks(keys, out=room), len(keys)),
        each("mapix, an array each", lambda: list(a.masks(some)), len(some)),
        each("mapix, one by one", lambda: [a[k].mask() for k in listed], len(some)),
        each("the original's way", lambda: [old.mask(k) for k in listed], len(some)),
    ]
    goals = [Goal("mapix, into one arena", "faster", 20, "the original's way")]
    crops = [encode(m, (0, 0, *m.shape), m.shape) for m in found]
    for name in ("pycocotools.mask", "hotcoco.mask"):
        peer = library(name)
        if peer is None:
            continue
        text = [{**r, "counts": r["counts"].encode()} for r in crops]
        same([peer.decode(r).tolist() for r in text[:50]], [m.tolist() for m in found[:50]], name)
        cases.append(_decoding(name, peer, text))
        goals.append(Goal("mapix, an array each", "faster", 2, cases[-1].name))
    report.table("masks, a segment", "us", "the original's way", cases, goals)
    run_lengths(report, a, some, found)


def _decoding(name: str, peer: Any, rles: list[Any]) -> Case:
    work = lambda: [peer.decode(r) for r in rles]  # noqa: E731
    return each(f"{name.split('.')[0]}, cropped RLE", work, len(rles))


def run_lengths(report: Report, a: Archive, some: np.ndarray, found: list[np.ndarray]) -> None:
    """Segments as COCO's run lengths."""
    size = (side(len(a)), side(len(a)))
    ours = a.coco_rle(some, size)
    cases = [each("mapix, of the complete image", lambda: a.coco_rle(some, size), len(some))]
    arrays = [np.asfortranarray(m, np.uint8) for m in found]
    for name in ("pycocotools.mask", "hotcoco.mask"):
        peer = library(name)
        if peer is None:
            continue
        areas = [int(peer.area({**r, "counts": r["counts"].encode()})) for r in ours[:200]]
        same(areas, a.areas[some[:200]].tolist(), f"areas by {name}")
        cases.append(_encoding(name, peer, arrays))
    report.table("run lengths, a segment", "us", cases[-1].name, cases)


def _encoding(name: str, peer: Any, arrays: list[np.ndarray]) -> Case:
    work = lambda: [peer.encode(m) for m in arrays]  # noqa: E731
    return each(f"{name.split('.')[0]}, of a crop", work, len(arrays))


def measure(report: Report, long: bool) -> None:
    """All of them."""
    path, indexed = archive(count()), archive(count(), index=True)
    refill(path)
    opening(report, path, indexed)
    with mapix.open(path) as a:
        _ = a.areas, a._tree
        names(report, a)
        masks(report, a, path)
        joins.points(report, a, path)
        joins.many(report, a, path)
    if long:
        large = archive(LARGE)
        refill(large)
        joins.large(report, large)
