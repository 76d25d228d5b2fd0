"""IID archives: goldens, a slow reader of the same bytes, and what users ask of many segments."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest

import mapix
import mapix.iid
import slow_iid
from conftest import GOLDEN
from mapix._native.iid import pack
from mapix._native.tree import Tree
from mapix.iid import Writer, diff, edit, label_maps, merge, subset
from mapix.iid.coco import decode, encode
from mapix.iid.segment import polygons
from mapix.testing import FormatTests

IID = GOLDEN / "iid"
MANIFEST = json.loads((IID / "manifest.json").read_text())["files"]
CLEAR = (mapix.MapixError, OSError)


@pytest.mark.parametrize("name", MANIFEST)
def test_goldens(name):
    told = MANIFEST[name]
    a = mapix.open(IID / name)
    assert isinstance(a, mapix.iid.Archive)
    assert len(a) == len(told["entries"])
    assert a.meta == told["meta"]
    assert (a.version, a.layout.rformat) == (told["header"]["version"], told["header"]["rformat"])
    assert {k: list(g) for k, g in a.groups.items()} == told["groups_on_disk_key_order"]
    for e in told["entries"]:
        s = a[e["key"]]
        assert s.iid.hex() == e["address_hex"]
        assert s.domain.hex() == (e["domain_hex"] or "")
        assert list(s.bbox) == e["bbox"]
        assert s.area == e["area"] == a.areas[s.key]
        assert list(s.shape) == e["mask_shape"]
        assert hashlib.sha256(s.mask().view(np.uint8)).hexdigest() == e["mask_sha256"]
        assert [list(r.bbox) for r in s.regions] == [r["bbox"] for r in e["regions"]]
        for r, want in zip(s.regions, e["regions"], strict=True):
            assert hashlib.sha256(r.mask().view(np.uint8)).hexdigest() == want["mask_sha256"]
            assert r.area == want["area"]
    assert a.region((0, 0, 32, 32)).tolist() == told["region_query_0_0_32_32"]
    assert a.select(area=(11, 199)).keys.tolist() == told["filter_area_gt10_lt200"]
    o = a.overlaps()
    edges = [list(e) for e in zip(o.i.tolist(), o.j.tolist(), o.pixels.tolist(), strict=True)]
    assert edges == [list(e) for e in told.get("overlap_edges", [])]


@pytest.mark.parametrize("name", MANIFEST)
def test_goldens_are_written_again(name, tmp_path):
    a = mapix.open(IID / name)
    for how in ("masks", "bits"):
        path = tmp_path / how
        with Writer(path, a.meta, version=(a.layout.version, a.layout.rformat)) as out:
            for s in a:
                if how == "masks":
                    out.add(s.domain, s.iid, s.mask(), bbox=s.bbox)
                else:
                    out.add(s.domain, s.iid, bits=s.bits, bbox=s.bbox, area=s.area)
            for group, keys in a.groups.items():
                out.group(group, keys)
        assert path.read_bytes() == (IID / name).read_bytes()
    subset(a, a.keys, tmp_path / "subset")
    assert (tmp_path / "subset").read_bytes() == (IID / name).read_bytes()


def test_outlines_are_limited():
    many = np.indices((400, 400)).sum(axis=0) % 2 > 0
    with pytest.raises(mapix.LimitError, match="sides"):
        polygons(many)


# --- against the slow reader ----------------------------------------------------------------------

H, W = 90, 130


def make(path: Path, n: int = 60, seed: int = 0, *, raw: bool = False) -> Path:
    """Segments of all kinds; with ``raw`` also regions that share pixels, which no writer makes."""
    rng = np.random.default_rng(seed)
    with Writer(path, {"image": {"height": H, "width": W}}) as out:
        for i in range(n):
            h, w = (int(v) for v in rng.integers(1, [40, 75]))
            if i % 9 == 0:
                w = 64
            r, c = int(rng.integers(0, H - h)), int(rng.integers(0, W - w))
            kind = i % 5
            mask = rng.random((h, w)) < (1.0, 0.9, 0.5, 0.1, 0.0 if i % 2 else 0.6)[kind]
            groups = [g for g, take in (("even", i % 2 == 0), ("few", i % 7 == 3)) if take]
            domain = (None, "a", b"b\xff", "domain-c")[i % 4]
            name = f"seg-{i // 2}" if i % 11 == 5 else f"s{i}".encode() * (i % 3)
            if raw and kind == 1 and h > 2:
                half = h // 2 + 1
                bits = pack_one(mask[:half], r, c) + pack_one(mask[h - half :], r + h - half, c)
                area = int(mask.sum())
                out.add(
                    domain, name, bits=bits, bbox=(r, c, r + h, c + w), area=area, groups=groups
                )
            else:
                out.add(domain, name, mask, at=(r, c), groups=groups)
    return path


def pack_one(mask: np.ndarray, r: int, c: int) -> bytes:
    bits = np.packbits(mask.ravel()).tobytes()
    h, w = mask.shape
    return struct.pack("<I4H", 12 + len(bits), r, c, r + h, c + w) + bits


@pytest.fixture(params=[False, True], ids=["written", "raw"])
def both(tmp_path, request):
    path = make(tmp_path / "x.iid", raw=request.param)
    segments, meta, groups = slow_iid.read(path.read_bytes())
    a = mapix.open(path)
    assert a.meta == meta
    assert {k: list(v) for k, v in a.groups.items()} == groups
    canvases = np.array([s.canvas(H, W) for s in segments])
    return a, segments, canvases


def test_segments(both):
    a, segments, canvases = both
    assert len(a) == len(segments)
    rng = np.random.default_rng(1)
    for s, want, canvas in zip(a, segments, canvases, strict=True):
        assert (s.domain, s.iid) == (want.domain, want.iid)
        assert s.bbox == want.box
        assert (s.mask() == want.mask()).all()
        assert s.mask().dtype == np.bool_
        for _ in range(3):
            r, c = rng.integers(0, 80), rng.integers(0, 120)
            box = (int(r), int(c), int(r + rng.integers(0, 60)), int(c + rng.integers(0, 160)))
            got = s.mask(box)
            padded = np.pad(canvas, ((0, 200), (0, 300)))
            assert (got == padded[box[0] : box[2], box[1] : box[3]]).all()
            out = np.full(got.shape, 7, np.uint8)
            s.mask(box, out=out)
            assert (out == got).all()
        rows, columns = np.nonzero(canvas)
        if len(rows):
            assert s.centroid == pytest.approx((rows.mean(), columns.mean()))
        else:
            assert np.isnan(s.centroid[0])
        edges = np.pad(canvas, 1)
        perimeter = (edges[1:] != edges[:-1]).sum() + (edges[:, 1:] != edges[:, :-1]).sum()
        assert s.perimeter == perimeter
    with pytest.raises(ValueError, match="out must be"):
        a[0].mask(out=np.empty((1, 1), bool))
    with pytest.raises(ValueError, match="a box is"):
        a[0].mask((5, 5, 4, 6))


def test_rings_are_those_of_a_slow_reader():
    rng = np.random.default_rng(5)
    for k in range(300):
        h, w = (int(v) for v in rng.integers(0, (9, 70)[k % 10 == 0], 2))
        mask = rng.random((h, w)) < (0.2, 0.5, 0.7, 0.9)[k % 4]
        found = polygons(mask if k % 3 else mask * np.int64(1 << 40), (3, 5))
        assert all(ring.dtype == np.int32 for ring in found)
        want = [[(x + 5, y + 3) for x, y in ring] for ring in slow_iid.rings(mask)]
        assert [list(map(tuple, ring.tolist())) for ring in found] == want, mask.astype(int)
    large = np.zeros((300, 40), bool)  # larger than what is kept for each thread
    large[1:299, 2:38] = True
    large[5, 6] = large[6, 7] = large[250, 30] = False
    assert [list(map(tuple, r.tolist())) for r in polygons(large)] == slow_iid.rings(large)


def test_polygons_are_the_mask_again(both):
    a, _, canvases = both
    for s, canvas in list(zip(a, canvases, strict=True))[:25]:
        inside = np.zeros((H, W), int)
        for p in s.polygon():
            for (x0, y0), (x1, y1) in zip(p, np.roll(p, -1, axis=0), strict=True):
                if x0 == x1:  # crossing a vertical side flips all to its right
                    inside[min(y0, y1) : max(y0, y1), x0:] += 1
        assert (inside % 2 == canvas).all()
    # pixels that touch at a corner stay apart, and so do holes
    for mask, n in (
        ([[1, 0], [0, 1]], 2),
        ([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1] * 4], 3),
    ):
        assert len(polygons(np.array(mask))) == n
    assert polygons(np.zeros((3, 4))) == []
    assert polygons(np.zeros((0, 4))) == []
    square = polygons(np.ones((2, 3)))
    assert len(square) == 1
    assert sorted(map(tuple, square[0].tolist())) == [(0, 0), (0, 2), (3, 0), (3, 2)]


def test_masks_of_many(both):
    a, segments, _ = both
    keys = np.random.default_rng(2).integers(0, len(a), 200)
    found = a.masks(keys)
    assert len(found) == 200
    for mask, key in zip(found, keys, strict=True):
        assert (mask == segments[key].mask()).all()
    room = np.full(len(found.flat) + 10, 9, np.uint8)
    again = a.masks(keys, out=room)
    assert np.shares_memory(again.flat, room)
    assert (again.flat == found.flat).all()
    assert (found[-1] == found[199]).all()
    assert len(a.masks([])) == 0
    assert a.counts().tolist() == [int(s.mask().sum()) for s in segments]
    with pytest.raises(ValueError, match="out must be"):
        a.masks(keys, out=np.empty(3, bool))
    with pytest.raises(IndexError, match="200 of"):
        a.masks([200])


def test_points_and_windows(both):
    a, segments, canvases = both
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, W, 150), rng.integers(0, H, 150)
    keys, offsets = a.at(x, y)
    tops = a.at(x, y, topmost=True)
    for k in range(150):
        want = np.flatnonzero(canvases[:, y[k], x[k]]).tolist()
        assert keys[offsets[k] : offsets[k + 1]].tolist() == want
        assert a.at(int(x[k]), int(y[k])).tolist() == want
        assert tops[k] == (want[-1] if want else -1)
        boxes = [
            i
            for i, s in enumerate(segments)
            if s.box[0] <= y[k] < s.box[2] and s.box[1] <= x[k] < s.box[3]
        ]
        assert a.at(int(x[k]), int(y[k]), exact=False).tolist() == boxes
    for _ in range(60):
        r, c = rng.integers(0, H), rng.integers(0, W)
        box = (int(r), int(c), int(r + rng.integers(0, 40)), int(c + rng.integers(0, 40)))
        want = np.flatnonzero(canvases[:, box[0] : box[2], box[1] : box[3]].any(axis=(1, 2)))
        assert a.region(box).tolist() == want.tolist()
        assert a.select(bbox=box, groups="even").keys.tolist() == [k for k in want if k % 2 == 0]
    assert a.at(60000, 60000).tolist() == []
    assert a.region([(0, 0, 5, 5), (5, 5, 5, 9)])[1].shape == (3,)
    with pytest.raises(TypeError, match="integers"):
        a.at(1.5, 2.5)


@pytest.mark.parametrize("bands", [False, True])
@pytest.mark.parametrize("order", ["key", "given", "area"])
def test_paintings(both, order, bands, monkeypatch):
    a, _, canvases = both
    if bands:
        monkeypatch.setattr("mapix._native.iid_bulk.ROWS_PER_CALL", 17)
    rng = np.random.default_rng(4)
    for keys in (None, rng.permutation(len(a))[:30]):
        some = np.arange(len(a)) if keys is None else keys
        for box in (None, (0, 0, H, W), (10, 7, 60, 100), (50, 64, 51, 130), (0, 0, 0, 5)):
            window = (0, 0, *a.shape) if box is None else box
            sort = {
                "key": np.sort(some),
                "given": some,
                "area": np.array(sorted(some, key=lambda k: (-int(a.areas[k]), k)), int),
            }[order]
            want = np.full((H, W), -1)
            for k in sort:
                want[canvases[k]] = k
            deep = canvases[some].sum(axis=0)
            got, depth = a.paint(keys, box, order=order, depth=True)
            part = np.s_[window[0] : window[2], window[1] : window[3]]
            assert (got == want[part]).all()
            assert (depth == deep[part]).all()
            out = np.empty(got.shape, np.int32)
            assert a.paint(keys, box, out, order=order, background=-5) is out
            assert (out == np.where(want[part] < 0, -5, want[part])).all()
    with pytest.raises(ValueError, match="order"):
        a.paint(order="up")


def test_overlaps(both):
    a, _, canvases = both
    flat = canvases.reshape(len(a), -1).astype(np.int64)
    shared = flat @ flat.T
    want = [
        (i, j, int(shared[i, j]))
        for i in range(len(a))
        for j in range(i + 1, len(a))
        if shared[i, j]
    ]
    o = a.overlaps()
    assert list(zip(o.i.tolist(), o.j.tolist(), o.pixels.tolist(), strict=True)) == want
    some = [3, 8, 20, 21, 22, 3]
    o = a.overlaps(some)
    assert list(zip(o.i.tolist(), o.j.tolist(), strict=True)) == [
        (i, j) for i, j, _ in want if i in some and j in some
    ]
    for k in range(len(o)):
        i, j = canvases[o.i[k]], canvases[o.j[k]]
        if int(a.areas[o.i[k]]) == i.sum() and int(a.areas[o.j[k]]) == j.sum():
            assert o.iou[k] == pytest.approx((i & j).sum() / (i | j).sum())
            assert o.ios[k] == pytest.approx((i & j).sum() / min(i.sum(), j.sum()))


def test_overlaps_as_a_sparse_matrix(both):
    pytest.importorskip("scipy", reason="needs scipy")
    a, _, _ = both
    o = a.overlaps()
    for weights in ("pixels", "iou", "ios"):
        matrix = o.sparse(len(a), weights).toarray()
        assert matrix.shape == (60, 60)
        assert matrix[o.i, o.j].tolist() == getattr(o, weights).tolist()
        assert (matrix != 0).sum() == len(o)


def test_sets_of_pixels(both):
    a, _, canvases = both
    for keys in ([0], [1, 2, 6], list(range(20)), [10, 0, 5]):
        for box in (None, (0, 0, H, W), (20, 30, 70, 95)):
            for name, want in (
                ("union", canvases[keys].any(axis=0)),
                ("intersection", canvases[keys].all(axis=0)),
                ("difference", canvases[keys[0]] & ~canvases[keys[1:]].any(axis=0)),
            ):
                mask, at = getattr(a, name)(keys, box)
                assert (mask == want[at[0] : at[2], at[1] : at[3]]).all()
                assert box is None or at == box
                if box is None:
                    assert mask.sum() == want.sum()
    mask, box = a.union([])
    assert mask.shape == (0, 0)


def test_names(both):
    a, segments, _ = both
    for k, s in enumerate(segments):
        same = [i for i, o in enumerate(segments) if (o.domain, o.iid) == (s.domain, s.iid)]
        assert a.find(s.domain, s.iid).tolist() == same
        assert k in same
    firsts = [k for k, s in enumerate(segments) if (s.domain, s.iid) == (b"a", b"s1")]
    assert a.find("a", ["s1", "nobody"]).tolist() == [firsts[0], -1]
    assert a.find("a", "nobody").tolist() == []
    assert a.domains == sorted({s.domain for s in segments})
    for d in a.domains:
        assert a.find(d).tolist() == [k for k, s in enumerate(segments) if s.domain == d]
    assert a.find(iid="s1").tolist() == [k for k, s in enumerate(segments) if s.iid == b"s1"]
    assert a.names([3, 1]) == [(segments[k].domain, segments[k].iid) for k in (3, 1)]
    twice: dict = {}
    for k, s in enumerate(segments):
        twice.setdefault((s.domain, s.iid), []).append(k)
    assert [d.tolist() for d in a.duplicates()] == [v for v in twice.values() if len(v) > 1]
    with pytest.raises(TypeError):
        a.find()


def test_groups_and_selections(both):
    a, segments, _ = both
    even, few = set(a.groups["even"]), set(a.groups["few"])
    assert set(a.groups["even"] & a.groups["few"]) == even & few
    assert set(a.groups["even"] | a.groups["few"]) == even | few
    assert set(a.groups["even"] - a.groups["few"]) == even - few
    assert set(a.groups["even"] ^ a.groups["few"]) == even ^ few
    assert a.groups["even"] == even
    assert a.groups["even"].keys.base is not None
    assert not a.groups["even"].keys.flags.writeable
    areas = np.array([s.area for s in segments])
    low, high = sorted(areas)[20], sorted(areas)[40]
    plan = a.select(groups=["even", "few"], domains=["a", ""], area=(low, high))
    assert "conditions" in repr(plan)
    want = [
        k
        for k, s in enumerate(segments)
        if k in even | few and s.domain in (b"a", b"") and low <= s.area <= high
    ]
    assert plan.keys.tolist() == want
    assert [s.key for s in plan] == want
    assert set((plan | a.select(keys=[1, 2])).keys) == {*want, 1, 2}
    assert a.select(area=(None, low)).keys.tolist() == np.flatnonzero(areas <= low).tolist()
    assert len(plan.masks()) == len(want)
    assert a.groups.of(0) == ["even"]
    with pytest.raises(KeyError, match="no group 'cls'; there: even, few"):
        a.groups["cls"]


def test_tables(both):
    a, segments, _ = both
    table = a.table([4, 2])
    assert table["key"].tolist() == [4, 2]
    assert table["iid"] == [segments[4].iid, segments[2].iid]
    assert table["groups"] == [a.groups.of(4), a.groups.of(2)]
    assert table["maxc"].tolist() == [segments[4].box[3], segments[2].box[3]]
    assert set(map(len, a.table().values())) == {len(a)}


def test_it_pickles_and_closes(both):
    a, segments, _ = both
    again = pickle.loads(pickle.dumps(a))
    assert (again[7].mask() == segments[7].mask()).all()
    bits = a[1].bits
    want = bits.tolist()
    a.close()
    assert bits.tolist() == want
    assert "closed" in repr(a)
    with pytest.raises(mapix.ClosedError):
        a[1].mask()


def test_a_file_that_changes_is_told(tmp_path):
    path = make(tmp_path / "x.iid")
    a = mapix.open(path)
    a.masks()
    time.sleep(0.01)
    with path.open("r+b") as f:
        f.seek(0, 2)
        f.write(b"more")
    with pytest.raises(mapix.FileChangedError):
        a.masks()
    b = mapix.open(path)  # bytes behind segs are ignored, as the original ignores them
    assert len(b.masks()) == 60
    os.truncate(path, path.stat().st_size - 5000)
    with pytest.raises(mapix.FileChangedError):
        b.overlaps()


def test_the_early_layout_is_read_with_a_warning(tmp_path):
    data = bytearray((IID / "odd_widths.iid").read_bytes())
    told = MANIFEST["odd_widths.iid"]
    for e in told["entries"]:
        at = told["header"]["segs"][0] + e["seg_bufloc_rel"][0]
        data[at : at + 4], data[at + 12 : at + 16] = data[at + 12 : at + 16], data[at : at + 4]
    (tmp_path / "old.iid").write_bytes(data)
    a = mapix.open(tmp_path / "old.iid")
    with pytest.warns(mapix.MapixWarning, match="2018"):
        assert a.areas.tolist() == [e["area"] for e in told["entries"]]
    new = mapix.open(IID / "odd_widths.iid")
    assert all((a[k].mask() == new[k].mask()).all() for k in range(len(a)))


# --- bad input ------------------------------------------------------------------------------------


class TestConformance(FormatTests):
    def sample(self, folder: Path) -> Path:
        path = folder / "sample.iid"
        with Writer(path, {"a": 1}) as out:
            for k in range(3):
                mask = np.ones((2 + k, 5), bool)
                mask[1, 2] = False
                out.add("d", f"n{k}", mask, at=(k, k), groups=["g"])
            out.add("", "two", np.array([[1, 0, 1]]), at=(9, 9))
        return path

    def read_slowly(self, data: bytes):
        found = slow_iid.read(data)
        if found is None:
            return None
        return [
            (s.domain, s.iid, s.box, s.area, [r[0] for r in s.regions], s.mask().tolist())
            for s in found[0]
        ]

    def content(self, dataset):
        import warnings

        archive = getattr(dataset, "archive", dataset)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mapix.MapixWarning)
            assert isinstance(archive.meta, dict)
            assert all(len(g) >= 0 for g in archive.groups.values())
            return [
                (s.domain, s.iid, s.bbox, s.area, [r.bbox for r in s.regions], s.mask().tolist())
                for s in dataset
            ]

    def arrays(self, dataset, record):
        return [record.bits, dataset.groups["g"].keys]

    def batch(self, dataset):  # archives have masks, not batches
        return dataset.masks()


def use(path: Path) -> list:
    """Everything that reads a byte of an archive."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mapix.MapixWarning)
        a = mapix.open(path, format="iid")
        found = [a.meta, {k: list(v) for k, v in a.groups.items()}, a.domains, a.names()]
        found += [a.areas.tolist(), [m.tolist() for m in a.masks()], a.counts().tolist()]
        found += [a.paint(None, (0, 0, 40, 40)).tolist(), len(a.overlaps())]
        found += [[[r.mask().tolist() for r in s.regions] for s in a]]
        found += [a.at(3, 3).tolist(), a.find("d", "n1").tolist(), len(a.duplicates())]
    return found


def test_every_byte_changed_is_read_as_the_slow_reader_reads_it_or_refused(tmp_path):
    path = TestConformance().sample(tmp_path)
    good = path.read_bytes()
    bad = tmp_path / "bad.iid"
    refused = 0
    rng = np.random.default_rng(0)
    for at in range(len(good)):
        for value in {0, 255, good[at] ^ 1, int(rng.integers(256))} - {good[at]}:
            data = bytearray(good)
            data[at] = value
            bad.write_bytes(data)
            slow = slow_iid.read(bytes(data))
            try:
                found = use(bad)
            except CLEAR as e:
                refused += 1
                told = str(e)
                found = None
            if found is None:
                assert str(bad) in told
                assert slow is None, (at, value, told)
                continue
            assert slow is not None, (at, value)
            segments, meta, groups = slow
            assert found[0] == meta
            assert found[1] == groups
            assert found[5] == [s.mask().tolist() for s in segments]
    assert refused > 300
    for n in range(0, len(good), 3):
        bad.write_bytes(good[:n])
        with pytest.raises(CLEAR):
            use(bad)


def test_rows_that_share_bytes_are_limited(tmp_path):
    n, size = 2000, 4000
    head = 48
    iids = b"".join(struct.pack("<III", k, 0, 0) for k in range(n))
    seg = struct.pack("<I4HI", 0, 0, 0, 100, 100, 10000) + bytes(size)
    lut = b"".join(struct.pack("<5I", k, 12 * k, 12, 0, len(seg)) for k in range(n))
    places, at = [], head
    groups = b"\2\0\0\0[]"
    for part in (lut, iids, b"{}", groups, seg):
        places += [at, len(part)]
        at += len(part)
    path = tmp_path / "x.iid"
    path.write_bytes(struct.pack("<12I", 0, 0, *places) + lut + iids + b"{}" + groups + seg)
    a = mapix.open(path)
    with pytest.raises(mapix.LimitError, match="share bytes"):
        a.masks()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "48 bytes expected"),
        (b"\0" * 47, "48 bytes expected"),
        (struct.pack("<12I", 0, 0, 48, 20, 48, 0, 48, 0, 48, 0, 48, 0), "section lut"),
        (struct.pack("<12I", 0, 0, 48, 7, *[48, 0] * 4) + b"1234567", "rows of 20"),
        (struct.pack("<12I", 0, 0, 4, 20, *[48, 0] * 4) + b"12" * 30, "section lut"),
    ],
)
def test_headers_that_are_none(tmp_path, data, complaint):
    path = tmp_path / "x.iid"
    path.write_bytes(data)
    with pytest.raises(mapix.FormatError, match=complaint):
        mapix.open(path)


@pytest.mark.parametrize(
    ("meta", "groups", "complaint"),
    [
        (b"[1]", b"\2\0\0\0[]", "not an object"),
        (b"{", b"\2\0\0\0[]", "not JSON"),
        (b"[" * 100_000, b"\2\0\0\0[]", "not JSON"),
        (b"{}", b"\x09\0\0\0[]", "JSON of 9 bytes"),
        (b"{}", b"\2\0\0\0{}", "not a list"),
        (b"{}", b"\x03\0\0\0[1]", "not name, offset, length"),
        (b"{}", b"\2", "4 bytes expected"),
    ],
)
def test_json_that_is_none(tmp_path, meta, groups, complaint):
    path = tmp_path / "x.iid"
    head = struct.pack("<12I", 0, 0, 48, 0, 48, 0, 48, len(meta), 48 + len(meta), len(groups), 0, 0)
    path.write_bytes(head + meta + groups)
    a = mapix.open(path)
    with pytest.raises(mapix.FormatError, match=complaint):
        len(a.groups) if a.meta == {} else None


# --- writing --------------------------------------------------------------------------------------


def test_packing_is_the_slow_one(tmp_path):
    rng = np.random.default_rng(5)
    for k in range(300):
        h, w = rng.integers(1, 24, 2)
        values = rng.integers(0, (2, 2, 4)[k % 3], (h, w)).astype(np.uint8)
        mask = values if k % 4 else (rng.random((h, w)) < 0.55).astype(np.uint8)
        raw, area, n = pack(mask, 3, 7)
        assert raw == slow_iid.pack(mask, 3, 7)
        assert area == (mask > 0).sum()
        assert n == len(slow_iid.components(mask))
    assert pack(np.zeros((0, 5), np.uint8), 0, 0) == (b"", 0, 0)
    with pytest.raises(ValueError, match="too large"):
        pack(np.ones((2, 2), np.uint8), 65534, 0)


def test_what_a_writer_refuses(tmp_path):
    with Writer(tmp_path / "x.iid") as out:
        for options, complaint in (
            ({}, "one of mask"),
            ({"mask": np.zeros(3)}, "a mask is"),
            ({"mask": np.zeros((2, 2), complex)}, "a mask is"),
            ({"mask": np.ones((2, 2), bool), "bbox": (0, 0, 3, 3)}, "for a mask of"),
            ({"mask": np.ones((2, 2), bool), "at": (65535, 0)}, "a box is"),
            ({"bits": b""}, "bbox and area"),
        ):
            with pytest.raises((TypeError, ValueError), match=complaint):
                out.add("d", "i", **options)
        assert out.add("d", "i", np.ones((1, 1), bool)) == 0
        with pytest.raises(IndexError):
            out.group("g", [1])
    assert len(mapix.open(tmp_path / "x.iid")) == 1
    with pytest.raises(FileExistsError):
        Writer(tmp_path / "x.iid")
    assert os.listdir(tmp_path) == ["x.iid"]


def test_nothing_appears_when_something_goes_wrong(tmp_path):
    def fail():
        with Writer(tmp_path / "x.iid") as out:
            out.add("d", "i", np.ones((3, 3), bool))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == []
    with Writer(tmp_path / "x.iid") as out, pytest.raises(mapix.LockedError):
        Writer(tmp_path / "x.iid")
    assert len(out) == 0


def test_parts_unions_and_changes(tmp_path):
    a = mapix.open(make(tmp_path / "a.iid", 30, seed=1))
    b = mapix.open(make(tmp_path / "b.iid", 12, seed=2))
    subset(a, [5, 2, 9], tmp_path / "s.iid")
    s = mapix.open(tmp_path / "s.iid")
    assert s.names() == a.names([5, 2, 9])
    assert [(x.mask() == a[k].mask()).all() for x, k in zip(s, (5, 2, 9), strict=True)] == [
        True
    ] * 3
    assert set(s.groups["even"]) == {1}
    merge([a, b], tmp_path / "m.iid")
    m = mapix.open(tmp_path / "m.iid")
    assert len(m) == 42
    assert set(m.groups["few"]) == {*a.groups["few"], *(30 + k for k in b.groups["few"])}
    merge([a, b], tmp_path / "u.iid", unique=True)
    assert mapix.open(tmp_path / "u.iid").duplicates() == []
    edit(a, delete=[0, 4], groups={"even": [2, 3], "new": [1]}, meta={"x": 1}, append=more)
    c = mapix.open(tmp_path / "a.iid")
    assert len(c) == 29
    assert c.meta == {"x": 1}
    assert c.names()[0] == a.name(1)
    assert set(c.groups["even"]) == {1, 2}
    assert set(c.groups["new"]) == {0, 28}
    assert len(a.masks()) == 30  # the old file is there as long as somebody has it open
    d = diff(a, c)
    assert d.added == [(b"z", b"z")]
    assert set(d.removed) <= {a.name(0), a.name(4)}
    assert set(d.changed) <= {(b"", b"")}  # which several segments are called


def more(out: Writer) -> None:
    out.add("z", "z", np.ones((2, 2), bool), groups=["new"])


def test_coco_encodings(tmp_path):
    a = mapix.open(make(tmp_path / "a.iid", 40))
    for compressed in (False, True):
        for rle, s in zip(a.coco_rle(size=(H, W), compressed=compressed), a, strict=True):
            flat = np.pad(s.mask(), 0)
            canvas = np.zeros((H, W), bool)
            r, c, _, _ = s.bbox
            canvas[r : r + flat.shape[0], c : c + flat.shape[1]] = flat
            mask, box = decode(rle)
            back = np.zeros((H, W), bool)
            back[box[0] : box[2], box[1] : box[3]] = mask
            assert (back == canvas).all()
            if not compressed:
                runs = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"])
                assert (canvas == runs.reshape(W, H).T).all()
    # by hand: columns of a 3 x 4 image, zeros first; small counts are single characters
    one = encode(np.array([[True]]), (1, 1, 2, 2), (3, 4))
    assert one == {"size": [3, 4], "counts": "417"}
    with Writer(tmp_path / "r.iid") as out:
        out.add("d", "i", rle=a.coco_rle([3], (H, W))[0])
    s = mapix.open(tmp_path / "r.iid")[0]
    assert s.area == int(a.counts([3])[0])
    for counts in ("4", "\x10", [5, -2, 9], [5], "o" * 40, "oo"):
        with pytest.raises(ValueError, match="counts"):
            decode({"size": [3, 4], "counts": counts})
    with pytest.raises(ValueError, match="does not lie"):
        encode(np.ones((2, 2)), (3, 3, 5, 5), (4, 4))


def test_trees_of_many_sizes():
    rng = np.random.default_rng(6)
    for n in (0, 1, 2, 15, 16, 17, 255, 256, 257, 5000):
        low = rng.integers(0, 500, (n, 2))
        boxes = np.hstack([low, low + rng.integers(0, 60, (n, 2))]).astype(np.uint16)
        tree = Tree(boxes)
        b = boxes.astype(int)
        full = (b[:, 0] < b[:, 2]) & (b[:, 1] < b[:, 3])
        for _ in range(20):
            r, c = rng.integers(0, 500, 2)
            w = np.array([r, c, r + rng.integers(0, 90), c + rng.integers(0, 90)], np.uint16)
            meets = (b[:, 0] < w[2]) & (b[:, 2] > w[0]) & (b[:, 1] < w[3]) & (b[:, 3] > w[1])
            want = np.flatnonzero(meets & full & (w[0] < w[2]) & (w[1] < w[3]))
            assert sorted(tree.search(w).tolist()) == want.tolist()


def test_archives_are_told_from_other_files(tmp_path):
    data = (IID / "odd_widths.iid").read_bytes()
    (tmp_path / "noname").write_bytes(data)
    assert isinstance(mapix.open(tmp_path / "noname"), mapix.iid.Archive)
    from slow_vimh import pack as pack_vimh
    from slow_vimh import record

    (tmp_path / "v").write_bytes(pack_vimh([record(3, 3, 1, [], seed=1)] * 9))
    assert type(mapix.open(tmp_path / "v", dialect=14)).__name__ == "Dataset"
    with pytest.raises(TypeError, match="option"):
        mapix.open(IID / "odd_widths.iid", split="train")


# --- the index behind the last section, and checks ------------------------------------------------


def indexed(tmp_path: Path) -> Path:
    tmp_path.mkdir(exist_ok=True)
    plain = mapix.open(make(tmp_path / "plain.iid"))
    with Writer(tmp_path / "indexed.iid", plain.meta, index=True) as out:
        for s in plain:
            out.add(s.domain, s.iid, s.mask(), bbox=s.bbox, groups=plain.groups.of(s.key))
    return tmp_path / "indexed.iid"


def test_an_index_behind_the_archive(tmp_path, monkeypatch):
    path = indexed(tmp_path)
    plain = mapix.open(tmp_path / "plain.iid")
    data = (tmp_path / "plain.iid").read_bytes()
    assert path.read_bytes()[: len(data)] == data  # what the original reads is the same
    want, at = plain.overlaps(), plain.at(50, 40).tolist()
    monkeypatch.setattr(Tree, "__init__", None)  # nobody makes a tree
    a = mapix.open(path)
    assert a._index is not None
    assert (a.bboxes == plain.bboxes).all()
    assert (a.areas == plain.areas).all()
    found = a.overlaps()
    assert (found.pixels == want.pixels).all()
    assert a.at(50, 40).tolist() == at
    assert a.verify().ok


def test_an_index_that_fits_and_lies_is_told_by_verify(tmp_path, monkeypatch):
    """Its sums are right, what they are of is not: anybody can write that."""
    from mapix.iid import stored_index

    path = indexed(tmp_path)
    assert mapix.open(path).verify().ok
    honest = stored_index.pack

    def wrong_boxes(end, crc, boxes, areas, names):
        moved = boxes.copy()
        moved[7] += 1
        return honest(end, crc, moved, areas, names)

    def wrong_areas(end, crc, boxes, areas, names):
        return honest(end, crc, boxes, areas + np.uint32(1), names)

    def wrong_names(end, crc, boxes, areas, names):
        return honest(end, crc, boxes, areas, names[::-1])

    def wrong_tree(end, crc, boxes, areas, names):
        class Other(Tree):
            def __init__(self, boxes):
                super().__init__(np.roll(boxes, 1, axis=0))

        monkeypatch.setattr(stored_index, "Tree", Other)
        return honest(end, crc, boxes, areas, names)

    for lie, told in (
        (wrong_boxes, "boxes are not the segments', first that of segment 7"),
        (wrong_areas, "areas are not the segments', first that of segment 0"),
        (wrong_tree, "tree is not one over"),
        (wrong_names, "names are not the segments'"),
    ):
        monkeypatch.setattr(stored_index, "pack", lie)
        path = indexed(tmp_path / told.split()[0])
        monkeypatch.undo()
        a = mapix.open(path)
        assert a._index is not None
        problems = a.verify().problems
        assert any(told in p for p in problems), problems


@pytest.mark.parametrize("n", [0, 1, 16, 17, 300])
def test_searches_in_a_stored_index(tmp_path, n):
    """Those of remote archives: the same as the tree and the table of names have."""
    rng = np.random.default_rng(n)
    with Writer(tmp_path / "a.iid", index=True) as out:
        for k in range(n):
            at = tuple(rng.integers(0, 300, 2).tolist())
            out.add("d" * (k % 3), f"{k // 2}", np.ones(rng.integers(0, 9, 2), bool), at=at)
    a = mapix.open(tmp_path / "a.iid")
    index, hashes = a._index, a._name_hashes()
    for corner in rng.integers(0, 300, (20, 2)):
        box = np.concatenate([corner, corner + rng.integers(1, 60, 2)]).astype(np.uint16)
        assert sorted(index.search(box).tolist()) == sorted(a._tree.search(box).tolist())
    for name in hashes.tolist():
        assert index.keys_of(name).tolist() == np.flatnonzero(hashes == name).tolist()
    for name in (0, 1 << 63, (1 << 64) - 1):
        assert index.keys_of(name).tolist() == []
    alike = index.names.copy()
    alike["hash"], alike["key"] = 7, np.arange(n)
    index.__dict__["_rows"] = lambda _, numbers, dtype: alike[numbers]
    assert index.keys_of(7).tolist() == list(range(n))


def test_an_index_of_version_2_has_no_names(tmp_path):
    from mapix._native import crc32c
    from mapix.iid.stored_index import _FIELDS, _PREFIX, FOOT_NBYTES

    data = indexed(tmp_path).read_bytes()
    whole = mapix.open(tmp_path / "indexed.iid")
    fields = [*_FIELDS.unpack_from(data, len(data) - FOOT_NBYTES + _PREFIX.size)][:-1]
    foot = _FIELDS.pack(*fields, 0)
    tables = data[: whole._index._places[4]]
    old = tmp_path / "old.iid"
    old.write_bytes(tables + _PREFIX.pack(b"MAPIXIID", 2, crc32c(foot)) + foot)
    a = mapix.open(old)
    assert a._index is not None
    assert not a._index.has_names
    assert a._index.names is None
    np.testing.assert_array_equal(a._index.boxes, whole._index.boxes)
    np.testing.assert_array_equal(a._index.tree.order, whole._index.tree.order)
    assert a.verify().ok
    old.write_bytes(tables + _PREFIX.pack(b"MAPIXIID", 4, crc32c(foot)) + foot)
    assert mapix.open(old)._index is None


def test_an_index_of_an_archive_as_large_is_not_believed(tmp_path):
    """Both have the same sections; only the checksum of header and lookup table differs."""
    masks = [np.ones((3, 40), bool), np.ones((50, 7), bool)]
    for name, order in (("one", masks), ("two", masks[::-1])):
        with Writer(tmp_path / f"{name}.iid", index=True) as out:
            for k, mask in enumerate(order):
                out.add("d", f"{k}", mask)
    one, two = ((tmp_path / f"{name}.iid").read_bytes() for name in ("one", "two"))
    assert len(one) == len(two)
    end = mapix.open(tmp_path / "one.iid").layout.end
    assert end == mapix.open(tmp_path / "two.iid").layout.end
    (tmp_path / "mixed.iid").write_bytes(one[:end] + two[end:])
    a = mapix.open(tmp_path / "mixed.iid")
    assert a._index is None
    assert a.bboxes.tolist() == [[0, 0, 3, 40], [0, 0, 50, 7]]


def test_an_index_of_something_else_is_not_believed(tmp_path):
    path = indexed(tmp_path)
    good, plain = path.read_bytes(), mapix.open(tmp_path / "plain.iid")
    end = plain.layout.end
    wrong = {"boxes": 0, "areas": 0, "tree": 0, "names": 0, "none": 0}
    for at in (*range(end, len(good), 97), *range(len(good) - 64, len(good))):
        data = bytearray(good)
        data[at] ^= 16
        path.write_bytes(data)
        a = mapix.open(path)
        index = a._index
        if at >= len(good) - 64:
            assert index is None, at
        elif at >= end + -end % 8:
            (table,) = [k for k in wrong if k != "none" and getattr(index, k) is None]
            wrong[table] += 1
            assert a.verify().problems == [f"the index's {table} do not match their checksum"]
        else:
            wrong["none"] += 1
            assert a.verify().ok  # padding
        assert (a.areas == plain.areas).all()
        assert (a.bboxes == plain.bboxes).all()
        assert a.region((10, 10, 60, 60)).tolist() == plain.region((10, 10, 60, 60)).tolist()
    assert min(wrong["boxes"], wrong["areas"], wrong["tree"]) > 0, wrong
    data = bytearray(good)
    data[plain.layout.lut[0] + 12] ^= 0  # the same
    path.write_bytes(data + b"more")
    assert mapix.open(path)._index is None
    problems = mapix.open(path).verify().problems
    assert "not an index" in problems[0]


def test_verify_finds_what_is_wrong(tmp_path):
    path = make(tmp_path / "x.iid")
    assert mapix.open(path).verify().ok
    a = mapix.open(path)
    at, _ = a._file.regions_at(1)
    data = bytearray(path.read_bytes())
    data[at + 12] ^= 128  # a pixel
    data[a.layout.iids[0] + 12 * 0 + 4] ^= 7  # a length of a name
    path.write_bytes(data)
    seen = []
    report = mapix.open(path).verify(lambda done, total: seen.append((done, total)))
    assert seen == [(60, 60)]
    assert report.damaged == [1]
    assert len(report.problems) == 2
    assert "names" in str(report)
    from mapix.__main__ import main

    assert main(["verify", str(path)]) == 1
    assert main(["verify", str(tmp_path / "nothing")]) == 2


# --- several archives as one ----------------------------------------------------------------------


def test_shards_are_one_archive(tmp_path):
    whole = mapix.open(make(tmp_path / "whole.iid"))
    with mapix.iid.ShardedWriter(tmp_path / "set.iid", whole.meta, full_nbytes=4000) as out:
        for s in whole:
            key = out.add(s.domain, s.iid, s.mask(), bbox=s.bbox, groups=whole.groups.of(s.key))
            assert key == s.key
    names = sorted(p.name for p in tmp_path.glob("set*"))
    n = len(names)
    assert n > 2
    assert names == [f"set-{k:05}-of-{n:05}.iid" for k in range(n)]
    a = mapix.open(tmp_path / names[1])
    assert isinstance(a, mapix.iid.ShardedArchive)
    assert len(a.parts) == n
    assert len(a) == 60
    assert a.meta == whole.meta
    assert (a.bboxes == whole.bboxes).all()
    assert (a.areas == whole.areas).all()
    assert a.names() == whole.names()
    assert a.domains == whole.domains
    assert {k: set(v) for k, v in a.groups.items()} == {k: set(v) for k, v in whole.groups.items()}
    for s, t in zip(a, whole, strict=True):
        assert (s.mask() == t.mask()).all()
        assert [r.bbox for r in s.regions] == [r.bbox for r in t.regions]
    keys = np.random.default_rng(0).integers(0, 60, 100)
    assert (a.masks(keys).flat == whole.masks(keys).flat).all()
    assert (a.paint(bbox=(0, 0, H, W)) == whole.paint(bbox=(0, 0, H, W))).all()
    one, two = a.overlaps(), whole.overlaps()
    assert one.i.tolist() == two.i.tolist()
    assert one.pixels.tolist() == two.pixels.tolist()
    x, y = np.arange(0, W, 3), np.arange(0, W, 3) % H
    assert [v.tolist() for v in a.at(x, y)] == [v.tolist() for v in whole.at(x, y)]
    for name in set(whole.names()):
        assert a.find(*name).tolist() == whole.find(*name).tolist()
    assert a.find("a").tolist() == whole.find("a").tolist()
    assert a.find(iid="s1").tolist() == whole.find(iid="s1").tolist()
    assert [d.tolist() for d in a.duplicates()] == [d.tolist() for d in whole.duplicates()]
    mask, _ = a.union([1, 30, 59])
    assert (mask == whole.union([1, 30, 59])[0]).all()
    assert a.select(groups="even", area=(10, 500)).keys.tolist() == (
        whole.select(groups="even", area=(10, 500)).keys.tolist()
    )
    assert a.verify().ok
    again = pickle.loads(pickle.dumps(a))
    assert (again[59].mask() == whole[59].mask()).all()
    joined = mapix.open([tmp_path / "whole.iid", tmp_path / names[0]])
    assert len(joined) == 120
    assert joined[60].bbox == whole[0].bbox
    (tmp_path / names[1]).unlink()
    with pytest.raises(mapix.FormatError, match="missing: set-00001"):
        mapix.open(tmp_path / names[0])


def test_shards_that_fail_leave_nothing(tmp_path):
    def fail():
        with mapix.iid.ShardedWriter(tmp_path / "set.iid", full_nbytes=10) as out:
            for k in range(5):
                out.add("d", f"{k}", np.ones((9, 9), bool))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == []


# --- label maps -----------------------------------------------------------------------------------


def test_label_maps_tell_what_they_lose(both):
    a, _, canvases = both
    found = mapix.iid.label_map(a, bbox=(0, 0, H, W))
    top = np.zeros((H, W), int)
    for k, canvas in enumerate(canvases):
        top[canvas] = k + 1
    assert (found.labels == top).all()
    for k, canvas in enumerate(canvases):
        left = int((top == k + 1).sum())
        assert found.lost.get(k, 0) == int(canvas.sum()) - left
        assert (k in found.gone) == (left == 0 and canvas.any())
    assert "segments are gone" in str(found)
    part = mapix.iid.label_map(a, [3, 9], bbox=(0, 0, 40, 50), order="given")
    assert set(np.unique(part.labels)) <= {0, 4, 10}


def test_label_maps_there_and_back(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow: pip install 'mapix[images]'")
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 9, (5, 6)), np.ones((7, 8), int)) * 50
    with Writer(tmp_path / "x.iid") as out:
        keys = mapix.iid.add_label_map(out, labels, "map", at=(3, 4), groups=["g"])
    a = mapix.open(tmp_path / "x.iid")
    assert keys == list(range(len(np.unique(labels)) - (0 in labels)))
    assert len(a.groups["g"]) == len(keys)
    for s in a:
        assert (s.mask((3, 4, 38, 52)) == (labels == int(s.iid))).all()
    made = mapix.iid.label_map(a)
    assert made.lost == {}
    made.save(tmp_path / "x.png")
    back = mapix.iid.read_png(tmp_path / "x.png")
    assert (back == made.labels).all()
    with pytest.raises(mapix.LimitError, match="65535"):
        mapix.iid.LabelMap(np.array([[70000]], np.int32), {}, []).save(tmp_path / "y.png")
    with pytest.raises(TypeError, match="label map"):
        mapix.iid.add_label_map(out, np.zeros(3), "d")
    from PIL import Image

    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match="one number per pixel"):
        mapix.iid.read_png(tmp_path / "rgb.png")


def slow_boxes(labels: np.ndarray) -> dict[int, tuple[int, int, int, int]]:
    found = {}
    for value in np.unique(labels).tolist():
        rows, columns = np.nonzero(labels == value)
        found[int(value)] = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    return found


@pytest.mark.parametrize("stripe", [1, 7, 50, 1 << 18])
def test_label_maps_by_stripes_are_what_they_were(tmp_path, stripe, monkeypatch):
    monkeypatch.setattr("mapix.iid.label_maps.STRIPE_PIXELS", stripe)
    rng = np.random.default_rng(stripe)
    for k in range(30):
        h, w = (int(v) for v in rng.integers(1, 20, 2))
        kind = (np.uint8, np.int64, bool, np.int16, np.uint64)[k % 5]
        labels = rng.integers(0, (2, 5, 400)[k % 3], (h, w)).astype(kind)
        if kind is np.int64:
            labels = (labels - 3) * 2**40
        if kind is np.uint64:
            labels = labels + np.uint64(2**63)
        if k % 4 == 0:
            labels = np.repeat(labels, 3, axis=1)[:, ::2]  # not contiguous
        want = slow_boxes(labels)
        assert label_maps._boxes(labels) == want
        path = tmp_path / f"{k}.iid"
        with Writer(path) as out:
            keys = mapix.iid.add_label_map(out, labels, "d", background=0, at=(2, 3), groups=["g"])
        want.pop(0, None)
        a = mapix.open(path)
        assert keys == list(range(len(want)))
        assert [int(s.iid) for s in a] == sorted(want)
        for s in a:
            r, c, r2, c2 = want[int(s.iid)]
            assert s.bbox == (r + 2, c + 3, r2 + 2, c2 + 3)
            assert (s.mask() == (labels[r:r2, c:c2] == int(s.iid))).all()
    for empty in (np.zeros((0, 5), int), np.zeros((5, 0), int)):
        with Writer(tmp_path / "empty.iid", replace=True) as out:
            assert mapix.iid.add_label_map(out, empty, "d") == []


def test_label_maps_take_little_memory(tmp_path):
    """At most a byte a pixel of a segment's box, and some stripes: not eight for each pixel."""
    import tracemalloc

    labels = np.zeros((3000, 4000), np.int32)
    labels += np.arange(3000, dtype=np.int32)[:, None] // 100
    labels *= 200
    labels += np.arange(4000, dtype=np.int32) // 100
    with Writer(tmp_path / "x.iid") as out:
        tracemalloc.start()
        keys = mapix.iid.add_label_map(out, labels, "d")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(keys) == 30 * 40 - 1
    assert peak < labels.size  # was 60 bytes a pixel
    a = mapix.open(tmp_path / "x.iid")
    tracemalloc.start()
    found = mapix.iid.label_map(a)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < found.labels.nbytes * 2.5
    assert ((found.labels > 0) == (labels > 0)).all()


def test_a_table_of_many_groups(tmp_path):
    """Each group's keys are looked at once: its work does not grow with groups times segments."""
    n = 300
    with Writer(tmp_path / "x.iid") as out:
        for k in range(n):
            out.add("d", f"{k}", np.ones((1, 1), bool), groups=[f"g{k % 7}", f"h{k % 100}"])
    a = mapix.open(tmp_path / "x.iid")
    for keys in (None, [5, 2, 5, 299], np.arange(n)[::-1], []):
        some = np.arange(n) if keys is None else np.asarray(keys, int)
        table = a.table(keys)
        assert table["key"].tolist() == some.tolist()
        assert [set(g) for g in table["groups"]] == [{f"g{k % 7}", f"h{k % 100}"} for k in some]
        assert table["groups"] == [a.groups.of(int(k)) for k in some]
