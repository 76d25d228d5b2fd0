"""The kernels for archives, for every instruction set that this machine has, beside plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mapix
import slow_iid
from mapix import _native
from mapix._native.iid import pack, rle_box, rle_counts
from mapix.iid import Writer
from mapix.iid.coco import decode, encode
from test_iid import pack_one

LEVELS = range(_native.simd() + 1)
H, W, N = 530, 610, 160


@pytest.fixture(params=LEVELS, ids=lambda level: f"simd{level}")
def level(request):
    best = _native.simd()
    _native.simd(request.param)
    yield request.param
    _native.simd(best)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Segments from a pixel to most of the image; some of many regions, some whose regions share
    pixels; each as a canvas, too."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("kernels") / "x.iid"
    canvases = np.zeros((N, H, W), bool)
    with Writer(path) as out:
        for i in range(N):
            most = (9, 60, 64, 130, 500)[i % 5]
            h, w = (int(v) for v in rng.integers(1, most, 2))
            h, w = (h, w) if i % 13 else (h, 56 + i % 3)
            r, c = int(rng.integers(0, H - h + 1)), int(rng.integers(0, W - w + 1))
            mask = rng.random((h, w)) < (1.0, 0.97, 0.5, 0.02)[i % 4]
            bits, area = None, int(mask.sum())
            if i % 7 == 3 and h > 2:
                cut = h // 2 + 1
                bits = pack_one(mask[:cut], r, c) + pack_one(mask[h - cut :], r + h - cut, c)
            if i == N - 1:  # the last bytes of the file
                mask, bits = np.ones((h, w), bool), None
            box = (r, c, r + h, c + w)
            if bits is None:
                out.add("d", f"{i}", mask, bbox=box)
            else:
                out.add("d", f"{i}", bits=bits, bbox=box, area=area)
            canvases[i, r : r + h, c : c + w] = mask
    return path, canvases


def test_masks_and_counts(level, made):
    path, canvases = made
    a = mapix.open(path)
    rng = np.random.default_rng(1)
    keys = rng.integers(0, N, 300)
    masks = a.masks(keys)
    for k, mask, (r, c, r2, c2) in zip(keys, masks, masks.boxes.tolist(), strict=True):
        assert (mask == canvases[k, r:r2, c:c2]).all()
        assert (a[k].mask() == mask).all()
    for k in range(N):
        r, c = int(rng.integers(0, H)), int(rng.integers(0, W))
        box = (r, c, int(rng.integers(r, H + 1)), int(rng.integers(c, W + 1)))
        want = canvases[k, r : box[2], c : box[3]]
        assert (a[k].mask(box) == want).all()
        window = np.array([box], np.uint16)
        count = a._bits.count(np.array([k], np.uint32), window)
        assert count[0] == want.sum()


def test_places(level, made):
    path, canvases = made
    a = mapix.open(path)
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, W, 700), rng.integers(0, H, 700)
    keys, offsets = a.at(x, y)
    top = a.at(x, y, topmost=True)
    for i in range(700):
        want = np.flatnonzero(canvases[:, y[i], x[i]])
        assert (keys[offsets[i] : offsets[i + 1]] == want).all()
        assert top[i] == (want[-1] if len(want) else -1)
        assert (a.at(int(x[i]), int(y[i])) == want).all()
    r, c = rng.integers(0, H, 200), rng.integers(0, W, 200)
    boxes = np.stack([r, c, r + rng.integers(0, 90, 200), c + rng.integers(0, 90, 200)], axis=1)
    keys, offsets = a.region(boxes)
    for i, (minr, minc, maxr, maxc) in enumerate(boxes.tolist()):
        want = np.flatnonzero(canvases[:, minr:maxr, minc:maxc].any(axis=(1, 2)))
        assert (keys[offsets[i] : offsets[i + 1]] == want).all()
        assert (a.region((minr, minc, maxr, maxc)) == want).all()


def test_many_regions_do_without_a_tree_over_them(made, monkeypatch):
    path, canvases = made
    monkeypatch.setattr("mapix.iid.single_archive.REGIONS_PER_SEGMENT", 0)
    monkeypatch.setattr("mapix.iid.single_archive.LEAST_REGIONS", N + 1)
    a = mapix.open(path)
    assert a.at(300, 200).tolist() == np.flatnonzero(canvases[:, 200, 300]).tolist()
    keys, _ = a.at([300], [200])
    assert keys.tolist() == np.flatnonzero(canvases[:, 200, 300]).tolist()
    assert a._regions is None


@pytest.mark.parametrize("canvas_nbytes", [8 << 20, 3000])
def test_overlaps(level, made, canvas_nbytes, monkeypatch):
    path, canvases = made
    monkeypatch.setattr("mapix._native.iid_bulk.CANVAS_NBYTES", canvas_nbytes)  # some do not fit
    a = mapix.open(path)
    flat = canvases.reshape(N, -1).astype(np.float32)
    shared = (flat @ flat.T).astype(int)
    i, j = np.nonzero(np.triu(shared, 1))
    found = a.overlaps()
    assert (found.i == i).all()
    assert (found.j == j).all()
    assert (found.pixels == shared[i, j]).all()
    assert (a._bits.shared(found.i, found.j) == found.pixels).all()
    some = np.arange(0, N, 3)
    few = a.overlaps(some)
    keep = np.isin(i, some) & np.isin(j, some)
    assert (few.i == i[keep]).all()
    assert (few.pixels == shared[i, j][keep]).all()


def test_lines_that_cross_and_segments_with_many_partners(level, tmp_path):
    """Of lines, only where they cross is read; one segment has more partners than are counted."""
    path = tmp_path / "lines.iid"
    with Writer(path) as out:
        for k in range(150):
            out.add("h", f"{k}", np.ones((1, 700), bool), at=(3 * k, 5))
            out.add("v", f"{k}", np.ones((900, 1), bool), at=(0, 7 + 4 * k))
    found = mapix.open(path).overlaps()
    want = [(i, j) for i in range(300) for j in range(i + 1, 300) if i % 2 != j % 2]
    assert list(zip(found.i.tolist(), found.j.tolist(), strict=True)) == want
    assert (found.pixels == 1).all()


def test_overlaps_go_on_where_they_stopped(made, monkeypatch):
    path, _ = made
    a = mapix.open(path)
    want = a.overlaps()
    monkeypatch.setattr("mapix._native.iid_bulk.SEGMENTS_PER_CALL", 7)
    monkeypatch.setattr("mapix._native.iid_bulk.PAIRS_PER_SEGMENT", 0)
    found = a.overlaps()
    assert (found.i == want.i).all()
    assert (found.j == want.j).all()
    assert (found.pixels == want.pixels).all()


def test_too_many_overlaps(made, monkeypatch):
    path, _ = made
    monkeypatch.setattr("mapix._native.iid_bulk.SEGMENTS_PER_CALL", 7)
    monkeypatch.setattr("mapix._native.iid_bulk.PAIRS_PER_SEGMENT", 0)
    monkeypatch.setattr("mapix.iid.pixel_queries.MOST_PAIRS", 100)
    with pytest.raises(mapix.errors.LimitError, match="fewer keys"):
        mapix.open(path).overlaps()
    both = mapix.open([path, path])
    with pytest.raises(mapix.errors.LimitError, match="fewer keys"):
        both.overlaps()


@pytest.mark.parametrize("box", [(0, 0, H, W), (3, 5, 517, 262), (100, 200, 131, 201)])
def test_paintings(level, made, box):
    path, canvases = made
    a = mapix.open(path)
    r, c, r2, c2 = box
    rng = np.random.default_rng(3)
    for keys in (np.arange(N), rng.permutation(N), rng.integers(0, N, 40)):
        want = np.full((H, W), -1)
        for k in keys:
            want[canvases[k]] = k
        labels, depth = a.paint(keys, box, order="given", depth=True)
        assert (labels == want[r:r2, c:c2]).all()
        assert (depth == canvases[keys].sum(axis=0)[r:r2, c:c2]).all()
        assert (a.paint(keys, box, order="given") == labels).all()


def test_packing(level):
    """Masks of one component and of many, of one value and of several, at most widths."""
    rng = np.random.default_rng(6)
    for k in range(400):
        h, w = int(rng.integers(1, 12)), int(rng.integers(1, 140 if k % 2 else 66))
        mask = (rng.random((h, w)) < (0.6, 0.97, 1.0, 0.05)[k % 4]).astype(np.uint8)
        if k % 3 == 0:
            mask *= rng.integers(1, 3, (h, w), np.uint8)
        if k % 7 == 0:  # one run a row, which may or may not touch the next one's
            mask[:] = 0
            for row in range(h):
                c = int(rng.integers(0, w))
                mask[row, c : c + int(rng.integers(0, 30))] = 200
        raw, area, nregions = pack(mask, 1, 2)
        assert raw == slow_iid.pack(mask, 1, 2)
        assert area == np.count_nonzero(mask)
        assert nregions == len(slow_iid.components(mask))


def test_coco(level, made):
    path, canvases = made
    a = mapix.open(path)
    rng = np.random.default_rng(4)
    for keys in (np.arange(N), rng.integers(0, N, 50)):
        for h, w in ((H, W), (H + 3, W + 1)):
            text = a.coco_rle(keys, (h, w))
            numbers = a.coco_rle(keys, (h, w), compressed=False)
            for k, one, two in zip(keys.tolist(), text, numbers, strict=True):
                mask = a[k].mask()
                assert one == encode(mask, a[k].bbox, (h, w))
                assert two == encode(mask, a[k].bbox, (h, w), compressed=False)
                for rle in (one, two):
                    found, box = decode(rle)
                    canvas = np.zeros((h, w), bool)
                    canvas[box[0] : box[2], box[1] : box[3]] = found
                    assert (canvas[:H, :W] == canvases[k]).all()
                    if found.size:
                        assert found.any(axis=0)[[0, -1]].all()
                        assert found.any(axis=1)[[0, -1]].all()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 9))
def test_coco_counts_that_add_up_to_something_else(counts, h):
    all_ = sum(counts)
    w = all_ // h
    if w * h == all_:
        mask, _ = decode({"size": [h, w], "counts": counts})
        assert mask.sum() == sum(counts[1::2])
    for wrong in ([*counts, 1], [*counts[:-1], counts[-1] + h + 1]):
        if sum(wrong) != h * w:
            with pytest.raises(ValueError, match="counts"):
                decode({"size": [h, w], "counts": wrong})


@given(st.binary(max_size=20), st.integers(0, 9), st.integers(0, 9))
def test_coco_text_that_is_none(text, h, w):
    rle = {"size": [h, w], "counts": text}
    runs = rle_counts(text)
    if runs is None or rle_box(runs, (h, w)) is None:
        with pytest.raises(ValueError, match="counts"):
            decode(rle)
        return
    mask, box = decode(rle)
    assert mask.shape == (box[2] - box[0], box[3] - box[1])
    again = encode(mask, box, (h, w), compressed=False)
    assert (decode(again)[0] == mask).all()


def test_arrays_of_another_width_do_not_reach_the_core(made):
    a = mapix.open(made[0])
    windows = np.zeros((2, 4), np.uint16)
    assert a._bits.count(a.keys[:2], windows).tolist() == [0, 0]
    for keys in (a.keys[:2].astype(np.int64), a.keys[:4:2], a.keys[:2].astype(np.uint16)):
        with pytest.raises(ValueError, match="contiguous uint32"):
            a._bits.count(keys, windows)
