"""IID archives: opening, names, masks, points, overlaps, paintings, beside what else people use."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from comparison.report import Goal, Report
from comparison.rounds import Case, seconds, told
from datasets import FOLDER, refill
from mapix._native_iid import pack
from mapix._native_tree import Tree
from mapix.iid import Archive, Writer
from mapix.iid.coco import encode

SIDE = 4096
NCLS = 50
NDOMAINS = 20
FEW = 2000


def _count() -> int:
    return max(1000, int(os.environ.get("MAPIX_BENCH_RECORDS", "300000")) // 3)


def archive() -> Path:
    """Blobs of 8..128 pixels, log-uniform, one in twenty of two parts; 50 large ones of many."""
    n = _count()
    path = FOLDER / f"segments-{n}.iid"
    if path.exists():
        return path
    told(f"making {path.name}")
    rng = np.random.default_rng(0)
    with Writer(path) as out:
        for i in range(n):
            if i < NCLS:
                h, w = (int(v) for v in rng.integers(512, 1024, 2))
                coarse = rng.random((h // 8 + 1, w // 8 + 1)) < 0.35
                mask = np.kron(coarse, np.ones((8, 8), bool))[:h, :w]
            else:
                h, w = (int(v) for v in np.exp(rng.uniform(np.log(8), np.log(128), 2)))
                y, x = np.mgrid[0:h, 0:w]
                y, x = (y - h / 2) / (h / 2), (x - w / 2) / (w / 2)
                wave = 1 + 0.25 * np.sin(3 * np.arctan2(y, x) + rng.uniform(0, 6.28))
                mask = y**2 + x**2 < wave
                if rng.random() < 0.05:
                    mask[:, w // 2 - 1 : w // 2 + 1] = False
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            at = (int(rng.integers(0, SIDE - h)), int(rng.integers(0, SIDE - w)))
            group = "cls" if i < NCLS else "ind"
            out.add(f"d{i % NDOMAINS}", rng.bytes(16), mask, at=at, groups=[group])
    return path


class Original:
    """The original's way: every row becomes objects when the file is opened."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        places = struct.unpack_from("<12I", self.data)[2:]
        (lut, _), (iids, _), _, _, (segs, _) = zip(places[::2], places[1::2], strict=True)
        self.rows = []
        for key in range(places[1] // 20):
            _, name, _, seg, nbytes = struct.unpack_from("<5I", self.data, lut + 20 * key)
            _, nd, ni = struct.unpack_from("<3I", self.data, iids + name)
            begin = iids + name + 12
            domain = self.data[begin : begin + nd]
            address = self.data[begin + nd : begin + nd + ni]
            self.rows.append((key, domain, address, segs + seg, nbytes))

    def mask(self, key: int) -> np.ndarray:
        """As the original decodes one."""
        *_, at, nbytes = self.rows[key]
        r, c, r2, c2 = struct.unpack_from("<4H", self.data, at + 4)
        out = np.zeros((r2 - r, c2 - c), bool)
        end, at = at + nbytes, at + 16
        while at < end:
            length, a, b, d, e = struct.unpack_from("<I4H", self.data, at)
            bits = np.frombuffer(self.data, np.uint8, length - 12, at + 12)
            part = np.unpackbits(bits, count=(d - a) * (e - b)).reshape(d - a, e - b)
            out[a - r : d - r, b - c : e - c] |= part.view(bool)
            at += length
        return out


def _case(name: str, work: Callable[[], object], per: float = 1, note: str = "") -> Case:
    return Case(name, lambda: seconds(work) / per, note)


def _peers(a: Archive, keys: np.ndarray) -> dict[str, Any]:
    """What of other libraries is there, with the same segments."""
    found: dict[str, Any] = {}
    try:
        from pycocotools import mask as coco

        rles = [
            encode(m, tuple(b.tolist()), (SIDE, SIDE))
            for m, b in zip(a.masks(keys), a.bboxes[keys], strict=True)
        ]
        crops = [encode(m, (0, 0, *m.shape), m.shape) for m in a.masks(keys)]
        found["coco"] = (coco, rles, crops)
    except ImportError:
        pass
    try:
        import shapely

        b = a.bboxes.astype(float)
        found["boxes"] = (shapely, shapely.box(b[:, 1], b[:, 0], b[:, 3], b[:, 2]))
    except ImportError:
        pass
    return found


def opening(report: Report, path: Path) -> None:
    """A fresh handle, and the names of a group."""
    coco = path.with_suffix(".coco.json")
    if not coco.exists():
        with mapix.open(path) as a:
            text = [
                {"id": int(k), "segmentation": encode(m, tuple(b.tolist()), (SIDE, SIDE))}
                for k, m, b in zip(a.keys, a.masks(), a.bboxes, strict=True)
            ]
        coco.write_text(json.dumps(text))

    def names() -> None:
        a = mapix.open(path)
        a.names(a.groups["cls"])

    report.table(
        f"archive of {_count():,} segments: open",
        "ms",
        "the original's way",
        [
            _case("mapix", lambda: mapix.open(path)),
            _case("mapix, names of group cls", names),
            _case("mapix, every row looked at", lambda: mapix.open(path).check_table()),
            _case("mapix, all areas", lambda: mapix.open(path).areas),
            _case("the original's way", lambda: Original(path)),
            _case("COCO JSON, json.load", lambda: json.loads(coco.read_bytes())),
        ],
        [
            Goal("mapix", "below", 0.06),
            Goal("mapix, names of group cls", "faster", 5000, "the original's way"),
        ],
    )


def masks(report: Report, a: Archive, path: Path) -> None:
    """Masks of the small segments."""
    keys = np.arange(NCLS, len(a), max(1, len(a) // 20000))
    some = keys[:FEW]
    old, peers = Original(path), _peers(a, some)
    for key in some[:50].tolist():
        if not (a[key].mask() == old.mask(key)).all():
            raise AssertionError("masks differ")
    room = np.zeros(len(a.masks(keys).flat), bool)
    cases = [
        _case("mapix, into one arena", lambda: a.masks(keys, out=room), len(keys)),
        _case("mapix, one array each", lambda: [a[k].mask() for k in some.tolist()], len(some)),
        _case("the original's way", lambda: [old.mask(k) for k in some.tolist()], len(some)),
    ]
    if "coco" in peers:
        coco, _, crops = peers["coco"]
        work = lambda: [coco.decode(r) for r in crops]  # noqa: E731
        cases.append(_case("pycocotools, cropped", work, len(crops)))
    report.table(
        "masks, a segment",
        "us",
        "the original's way",
        cases,
        [Goal("mapix, into one arena", "faster", 20, "the original's way")],
    )


def points(report: Report, a: Archive, path: Path) -> None:
    """Which segments have a pixel, exactly."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, SIDE, 5000), rng.integers(0, SIDE, 5000)
    few = list(zip(x[:200].tolist(), y[:200].tolist(), strict=True))
    old, peers = Original(path), _peers(a, a.keys[:1])
    cases = [
        _case("mapix, many at once", lambda: a.at(x, y), len(x)),
        _case("mapix, one by one", lambda: [a.at(*p) for p in few], len(few)),
        _case("mapix, boxes only", lambda: a.at(x, y, exact=False), len(x)),
    ]
    goals = []
    if "boxes" in peers:
        shapely, boxes = peers["boxes"]
        tree = shapely.STRtree(boxes)

        def exact() -> None:
            for px, py in few:
                point = shapely.Point(px + 0.5, py + 0.5)
                for key in tree.query(point, predicate="intersects").tolist():
                    r, c = a.bboxes[key][:2].tolist()
                    old.mask(key)[py - r, px - c]

        cases.append(_case("STRtree and numpy masks", exact, len(few)))
        goals.append(Goal("mapix, many at once", "faster", 20, "STRtree and numpy masks"))
    reference = "STRtree and numpy masks" if goals else "mapix, one by one"
    report.table("at(x, y), exact, a point", "us", reference, cases, goals)


def many(report: Report, a: Archive, path: Path) -> None:
    """Overlaps, paintings, the tree, and packing."""
    rng = np.random.default_rng(2)
    some = rng.choice(np.arange(NCLS, len(a)), min(FEW, len(a) - NCLS), replace=False)
    old, peers = Original(path), _peers(a, some)
    cases = [_case("mapix", lambda: a.overlaps(some))]
    goals, left_out = [], {}
    if "coco" in peers:
        coco, rles, _ = peers["coco"]
        crowd = [0] * len(rles)
        cases.append(_case("pycocotools, dense IoU", lambda: coco.iou(rles, rles, crowd)))
        goals.append(Goal("mapix", "faster", 9, "pycocotools, dense IoU"))
    else:
        left_out["pycocotools"] = "not installed"
    cases.append(Case("mapix, all segments", lambda: seconds(lambda: a.overlaps())))
    report.table(
        f"overlaps of {len(some):,} segments",
        "ms",
        cases[1].name,
        cases,
        goals,
        left_out,
        rounds=min(report.rounds, 5),
    )
    canvas = np.empty((SIDE, SIDE), np.int32)

    def slowly() -> None:
        canvas.fill(-1)
        for key in range(len(a)):
            mask = old.mask(key)
            r, c, r2, c2 = a.bboxes[key].tolist()
            canvas[r:r2, c:c2][mask] = key

    report.table(
        "painting all segments into 4096 x 4096 int32",
        "ms",
        "numpy, mask by mask",
        [
            _case("mapix", lambda: a.paint(bbox=(0, 0, SIDE, SIDE), out=canvas)),
            _case("numpy, mask by mask", slowly),
        ],
        [Goal("mapix", "faster", 20, "numpy, mask by mask")],
        rounds=min(report.rounds, 5),
    )
    cases = [_case("mapix", lambda: Tree(a.bboxes))]
    if "boxes" in peers:
        shapely, boxes = peers["boxes"]

        def build() -> None:
            shapely.STRtree(boxes).query(boxes[0])  # built at the first query

        cases.append(_case("STRtree", build))
    report.table("a tree over all boxes", "ms", cases[-1].name, cases)
    parts = [np.ascontiguousarray(m, np.uint8) for m in a.masks(some[:500])]
    report.table(
        "a mask into regions, a mask",
        "us",
        "numpy.packbits and a sum",
        [
            _case("mapix, with components", lambda: [pack(m, 0, 0) for m in parts], len(parts)),
            _case(
                "numpy.packbits and a sum",
                lambda: [(np.packbits(m), m.sum()) for m in parts],
                len(parts),
            ),
        ],
    )


def measure(report: Report, long: bool) -> None:
    """All of them."""
    del long
    path = archive()
    refill(path)
    opening(report, path)
    with mapix.open(path) as a:
        _ = a.areas, a._tree
        masks(report, a, path)
        points(report, a, path)
        many(report, a, path)
