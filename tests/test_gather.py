"""Batches against a slow twin in numpy."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapix
from mapix import _native
from mapix.batch import Lookout, batches_ahead
from slow_vimh import Slow, pack, record

LEVELS = range(_native.simd() + 1)  # every set of kernels that this machine can run
FOLDER_PER_TEST = [HealthCheck.function_scoped_fixture]


@pytest.fixture(autouse=True)
def best_kernels():
    best = _native.simd()
    yield
    _native.simd(best)


def rounded_fma(x: int, a: np.float32, b: np.float32) -> np.float32:
    """x * a + b, exactly, then rounded once to float32."""
    exact = x * Fraction(float(a)) + Fraction(float(b))
    near = np.float32(float(exact))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    best = min(abs(Fraction(float(v)) - exact) for v in around if np.isfinite(v))
    ties = [v for v in around if np.isfinite(v) and abs(Fraction(float(v)) - exact) == best]
    return next((v for v in ties if not v.view(np.uint32) & 1), ties[0])


@cache
def rounded_fmas(a: np.float32, b: np.float32) -> np.ndarray:
    """``rounded_fma`` of all bytes."""
    return np.array([rounded_fma(v, a, b) for v in range(256)], np.float32)


def slow_batch(records, rows, *, dtype, layout, scale, mean, std, pad, crop, pad_value):
    """What ``batch`` documents, one pixel plane after the other."""
    chosen = [records[i] for i in rows]
    hs, ws, cs = ([getattr(r, k) for r in chosen] for k in "hwc")
    if crop and not pad:
        h, w = min(hs), min(ws)
    elif pad and pad is not True:
        h, w = pad[:2]
    else:
        h, w = max(hs), max(ws)
    c = max(r.c for r in records) if pad or crop else max(cs)
    if pad and pad is not True and len(pad) == 3:
        c = pad[2]
    out = np.full((len(chosen), h, w, c), pad_value, dtype)
    for image, r in zip(out, chosen, strict=True):
        y = (r.h - h) // 2 if r.h > h and crop != "corner" else 0
        x = (r.w - w) // 2 if r.w > w and crop != "corner" else 0
        part = r.hwc()[y : y + min(h, r.h), x : x + min(w, r.w)]
        for k in range(r.c):
            plane = part[:, :, k]
            if dtype != "uint8":
                a = np.float32((1.0 if scale is None else scale) / np.broadcast_to(std, c)[k])
                b = np.float32(-np.broadcast_to(mean, c)[k] / np.broadcast_to(std, c)[k])
                plane = rounded_fmas(a, b)[plane].astype(dtype)
            image[: plane.shape[0], : plane.shape[1], k] = plane
    return out if layout == "NHWC" else out.transpose(0, 3, 1, 2)


def open_records(tmp_path, records, **options):
    path = tmp_path / "data"
    path.write_bytes(pack(records))
    return mapix.open(path, dialect=14, **options)


shapes = st.tuples(st.integers(1, 20), st.integers(1, 40), st.sampled_from([1, 2, 3, 4]))


@settings(max_examples=120, deadline=None, suppress_health_check=FOLDER_PER_TEST)
@given(
    sizes=st.lists(shapes, min_size=1, max_size=5),
    alike=st.booleans(),
    picks=st.lists(st.integers(0, 10**6), min_size=1, max_size=9),
    dtype=st.sampled_from(["uint8", "float32", "float16"]),
    layout=st.sampled_from(["NHWC", "NCHW"]),
    scale=st.sampled_from([None, 1 / 255, -0.25]),
    mean=st.floats(-3, 300, width=32),
    std=st.sampled_from([1.0, 0.229, 57.3]),
    fit=st.sampled_from(
        ["exact", "pad", "pad to", "pad to 5", "crop", "crop corner", "pad and crop"]
    ),
    pad_value=st.sampled_from([0, 7]),
    level=st.sampled_from(list(LEVELS)),
    threads=st.integers(1, 4),
    interleaved=st.booleans(),
)
def test_batch_is_the_slow_twins(
    tmp_path, sizes, alike, picks, dtype, layout, scale, mean, std, fit, pad_value, level, threads,
    interleaved,
):  # fmt: skip
    if alike or fit == "exact":
        sizes = [sizes[0]] * len(sizes)
    records = [record(*s, [(0, i)], seed=i) for i, s in enumerate(sizes)]
    ds = open_records(tmp_path, records, order="HWC" if interleaved else "CHW")
    if interleaved:  # the same bytes, read as (h, w, c): give the twin planes again
        for r in records:
            hwc = np.frombuffer(r.image, np.uint8).reshape(r.h, r.w, r.c)
            r.image = hwc.transpose(2, 0, 1).tobytes()
    rows = [p % len(records) for p in picks]
    pad, crop = {
        "exact": (False, False),
        "pad": (True, False),
        "pad to": ((21, 41), False),
        "pad to 5": ((21, 41, 5), False),
        "crop": (False, True),
        "crop corner": (False, "corner"),
        "pad and crop": ((9, 13), "centre"),
    }[fit]
    kw = {"dtype": dtype, "layout": layout, "pad": pad, "crop": crop, "pad_value": pad_value}
    numbers = {"scale": None, "mean": None, "std": None}
    if dtype != "uint8":
        numbers = {"scale": scale, "mean": mean, "std": std}
    _native.simd(level)
    batch = ds.batch(rows, **kw, **numbers, threads=threads)
    twin_numbers = {**numbers, "mean": numbers["mean"] or 0.0, "std": numbers["std"] or 1.0}
    want = slow_batch(records, rows, **kw, **twin_numbers)
    assert batch.images.dtype == dtype
    assert batch.images.flags.c_contiguous
    assert batch.images.flags.writeable
    # bit for bit, whatever the kernels: -0.0 and rounding included
    np.testing.assert_array_equal(batch.images, want)
    assert batch.shapes.tolist() == [[records[i].h, records[i].w, records[i].c] for i in rows]
    assert batch.labels.tolist() == [[i] for i in rows]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100])
def test_kernels_at_every_length(tmp_path, level, n):
    records = [record(1, n, 3, [], seed=i) for i in range(3)]
    ds = open_records(tmp_path, records)
    _native.simd(level)
    mean, std = [1.0, 2.0, 3.0], [0.3, 0.7, 1.1]
    for dtype in ("uint8", "float32", "float16"):
        numbers = {"mean": mean, "std": std} if dtype != "uint8" else {}
        twin = {"scale": None, "mean": mean, "std": std}
        for layout in ("NHWC", "NCHW"):
            kw = {"dtype": dtype, "layout": layout, "pad": False, "crop": False, "pad_value": 0}
            want = slow_batch(records, [0, 1, 2], **kw, **twin)
            got = ds.batch([0, 1, 2], dtype=dtype, layout=layout, **numbers)
            np.testing.assert_array_equal(got.images, want)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33, 100])
def test_floats_that_bypass_the_caches_are_the_same(tmp_path, level, n):
    records = [record(3, n, 3, [], seed=i) for i in range(3)]
    ds = open_records(tmp_path, records)
    _native.simd(level)
    usual = _native.stream()
    rows = np.arange(60) % 3
    options = {"dtype": "float32", "layout": "NCHW", "scale": 0.3, "mean": 1.7}
    for more in ({}, {"pad": (5, n + 2)}, {"crop": "corner", "pad": (2, n)}, {"threads": 2}):
        want = ds.batch(rows, **options, **more).images
        try:
            assert _native.stream(1) == 1
            for begin in range(3):  # not at the beginning of a cache line
                room = np.full(want.size + 2 * begin, np.nan, np.float32)
                out = room[begin : begin + want.size].reshape(want.shape)
                ds.batch(rows, out, **options, **more)
                np.testing.assert_array_equal(out, want)
                assert np.isnan(room).sum() == 2 * begin
        finally:
            assert _native.stream(usual) == usual


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [1, 20, 64, 65, 500])
@pytest.mark.parametrize("dtype", ["u1", "<f4"])
def test_bytes_that_bypass_the_caches_are_the_same(tmp_path, level, n, dtype):
    numbers = np.random.default_rng(n).integers(0, 256, (5, n), np.uint8).astype(dtype)
    np.save(tmp_path / "a.npy", numbers)
    ds = mapix.open(tmp_path / "a.npy")
    rows = np.array([3, 1, 4, 1, -2])
    usual = _native.stream()
    _native.simd(level)
    try:
        assert _native.stream(1) == 1
        for begin in range(3):  # not at the beginning of a cache line
            room = np.full(5 * n + 2 * begin, 77, dtype)
            out = room[begin : begin + 5 * n].reshape(5, n)
            ds.batch(rows, out)
            np.testing.assert_array_equal(out, numbers[rows])
            assert (room[:begin] == 77).all()
            assert (room[begin + 5 * n :] == 77).all()
    finally:
        _native.stream(usual)


@pytest.mark.parametrize("level", LEVELS)
def test_half_floats_round_as_numpy(tmp_path, level):
    """All bytes under many scales: subnormal, tiny, huge and infinite halves among them."""
    r = Slow(16, 16, 1, [], bytes(range(256)), (0.0, 1.0))
    ds = open_records(tmp_path, [r, r])
    _native.simd(level)
    bytes_ = np.arange(256, dtype=np.float64)
    for exponent in range(-40, 20):
        for factor in (1.0, 1.37, -0.731):
            scale = factor * 2.0**exponent
            got = ds.batch([0], dtype="float16", scale=scale).images.ravel()
            with np.errstate(over="ignore"):
                want = (bytes_ * np.float32(scale)).astype(np.float32).astype(np.float16)
            np.testing.assert_array_equal(got.view(np.uint16), want.view(np.uint16))


def test_labels_in_every_unit(tmp_path):
    records = [
        record(1, 1, 1, [(0, 255), (2, 51)]),
        record(1, 1, 1, [(2, 0)]),
        record(1, 1, 1, [(0, 1), (0, 2)]),
        record(1, 1, 1, []),
    ]
    info = {
        "parameter_names": ["a", "unused", "b"],
        "parameter_mappings": {
            "a": {"min": 10, "max": 20, "step": 5},
            "b": {"min": -1, "max": 1, "step": 0.5},
        },
    }
    ds = open_records(tmp_path, records, info=info)
    assert ds.heads == {"a": 3, "unused": 256, "b": 5}
    rows = [0, 1, 2, 3]
    raw = ds.batch(rows)
    assert raw.names == ("a", "unused", "b")
    assert raw.labels.tolist() == [[255, 0, 51], [0, 0, 0], [2, 0, 0], [0, 0, 0]]
    present = [[True, False, True], [False, False, True], [True, False, False], [False] * 3]
    assert raw.present.tolist() == present
    nan = np.nan
    normal = ds.batch(rows, labels="normalised").labels
    np.testing.assert_allclose(
        normal, [[1, nan, 0.2], [nan, nan, 0], [2 / 255, nan, nan], [nan] * 3], rtol=1e-6
    )
    physical = ds.batch(rows, labels="physical").labels
    np.testing.assert_allclose(
        physical, [[20, nan, -0.6], [nan, nan, -1], [10 + 20 / 255, nan, nan], [nan] * 3], rtol=1e-6
    )
    classes = ds.batch(rows, labels="class").labels
    assert classes.tolist() == [[2, -1, 1], [-1, -1, 0], [0, -1, -1], [-1, -1, -1]]
    none = ds.batch(rows, labels=None)
    assert none.labels is None
    assert none.present is None
    with pytest.raises(ValueError, match="labels must be one of"):
        ds.batch(rows, labels="fuzzy")


def test_flat_bytes(tmp_path):
    records = [
        record(2, 3, 2, [], seed=1),
        record(5, 1, 1, [], seed=2),
        record(1, 1, 4, [], seed=3),
    ]
    ds = open_records(tmp_path, records)
    batch = ds.batch([2, 0, 1, 0], flat=True, threads=3)
    assert batch.offsets.tolist() == [0, 4, 16, 21, 33]
    assert batch.images.tobytes() == b"".join(records[i].image for i in (2, 0, 1, 0))
    assert ds.batch([], flat=True).offsets.tolist() == [0]
    with pytest.raises(ValueError, match="flat=True"):
        ds.batch([0], flat=True, pad=True)


def test_spec_range(tmp_path):
    records = [record(1, 1, 1, [], seed=1), Slow(1, 1, 1, [], b"x", (-7.5, np.inf))]
    ds = open_records(tmp_path, records)
    batch = ds.batch([1, 0], spec_range=True)
    assert batch.spec_range.tolist() == [[-7.5, np.inf], [-80.0, 0.0]]
    assert ds.batch([0]).spec_range is None
    six = tmp_path / "six"
    six.write_bytes(pack([record(1, 2, 1, [], head=6)] * 3))
    assert np.isnan(mapix.open(six, dialect=6).batch([0], spec_range=True).spec_range).all()


def test_out_is_reused(tmp_path):
    records = [record(4, 5, 3, [], seed=i) for i in range(10)]
    ds = open_records(tmp_path, records)
    out = np.zeros((8, 4, 5, 3), np.uint8)
    batch = ds.batch(range(6), out=out)
    assert np.shares_memory(batch.images, out)
    assert batch.images.shape[0] == 6
    again = ds.batch([1], out=batch)
    assert np.shares_memory(again.images, out)
    np.testing.assert_array_equal(out[0], records[1].hwc())
    for bad, complaint in (
        (np.zeros((8, 4, 5, 3), np.float32), "C-contiguous uint8"),
        (np.zeros((2, 4, 5, 3), np.uint8), "with more rows"),
        (np.zeros((8, 4, 5, 3), np.uint8)[:, :, :, ::-1], "C-contiguous"),
    ):
        with pytest.raises(ValueError, match=complaint):
            ds.batch(range(6), out=bad)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        ds.batch([0], out=out)
    with pytest.raises(TypeError, match="ndarray or a Batch"):
        ds.batch([0], out=[1])


def test_mixed_sizes_want_to_be_told(tmp_path):
    ds = open_records(tmp_path, [record(2, 2, 1, []), record(3, 2, 1, [])])
    with pytest.raises(ValueError, match=r"record 0 at byte 0.*2 x 2 x 1.*3 x 2 x 1.*pad=, crop="):
        ds.batch([0, 1])
    assert ds.batch([1, 1]).images.shape == (2, 3, 2, 1)
    with pytest.raises(ValueError, match="does not fit 2 x 2 x 1"):
        ds.batch([0, 1], pad=(2, 2))
    with pytest.raises(mapix.UnsupportedError, match="mixes them"):
        ds.images  # noqa: B018


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"layout": "CHW"}, "layout must be"),
        ({"scale": 2.0}, "need dtype float32"),
        ({"dtype": "float32", "std": 0}, "must not be zero"),
        ({"dtype": "float32", "mean": [1, 2]}, "one per channel"),
        ({"pad_value": 300, "pad": True}, "pad_value must be"),
        ({"crop": "middle"}, "crop must be"),
        ({"pad": (0, 3)}, "pad must be True"),
        ({"pad": (3, 70000)}, "pad must be True"),
        ({"pad": (3, 4, 5, 6)}, "pad must be True"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, complaint):
    ds = open_records(tmp_path, [record(2, 2, 3, [])] * 2)
    with pytest.raises(ValueError, match=complaint):
        ds.batch([0], **options)


@pytest.mark.parametrize("bad", [[5], [-6], [0, 1, 99], np.array([2**63], np.uint64), [-(2**63)]])
def test_rows_out_of_range(tmp_path, bad):
    ds = open_records(tmp_path, [record(2, 2, 3, [])] * 5)
    with pytest.raises(IndexError, match="position .* of 5 records"):
        ds.batch(bad)
    with pytest.raises(IndexError, match="position .* of 3 records"):
        ds[:3].batch(bad)
    with pytest.raises(IndexError):
        ds.prefetch(bad)


def test_batches_cover_everything_in_order(tmp_path):
    ds = open_records(tmp_path, [record(1, 2, 1, [(0, i)], seed=i) for i in range(10)])
    got = [b.labels.ravel().tolist() for b in ds.batches(4)]
    assert got == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    order = [9, 3, 3, 0, -1]
    got = [b.labels.ravel().tolist() for b in ds.batches(2, order, drop_last=True)]
    assert got == [[9, 3], [3, 0]]
    assert [len(b) for b in ds[2:5].batches(2)] == [2, 1]
    with pytest.raises(ValueError, match="at least 1"):
        next(ds.batches(0))


def test_batch_shape_is_what_batch_gives(tmp_path):
    ds = open_records(tmp_path, [record(2, 3, 1, []), record(3, 2, 3, [])])
    for rows in ([0], [0, 1]):
        for layout in ("NHWC", "NCHW"):
            shape = ds.batch_shape(rows, layout, pad=True)
            assert shape == ds.batch(rows, layout=layout, pad=True).images.shape


def test_prefetch_and_warm(tmp_path):
    ds = open_records(tmp_path, [record(30, 30, 3, [], seed=i) for i in range(100)])
    done = []
    ds.warm(lambda a, b: done.append((a, b)))
    assert done[-1] == (ds.source.nbytes, ds.source.nbytes)
    assert ds.prefetch(range(100)) == 0  # all in memory: nothing to ask for
    assert ds.prefetch([]) == 0
    for rows in ([3, 4, 5, 99, 98, 3, 0], [7], range(100)):  # unchecked, in runs of neighbours
        numbers = np.array(rows, np.int64)
        assert ds._gatherer.native.willneed(ds.source.mapping, numbers, 0) == len(numbers)
    ds.advise("sequential")
    with pytest.raises(ValueError, match="access must be one of random"):
        ds.advise("sometimes")


@pytest.fixture
def asked_first(monkeypatch):
    """Lets batches ask for all their records, as if none were in memory."""
    monkeypatch.setattr(Lookout, "FEW", _native.PROBE_NONE)
    monkeypatch.setattr(Lookout, "MANY", _native.PROBE_NONE)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_records_that_are_asked_for_come_in_the_order_of_the_rows(
    tmp_path, asked_first, mixed, threads
):
    records = [record(3 + mixed * (i % 3), 4, 1, [(0, i % 251)], seed=i) for i in range(700)]
    ds = open_records(tmp_path, records)
    rng = np.random.default_rng(0)
    # more than are asked for at once; twice, adjacent, and next to each other
    rows = np.concatenate([rng.integers(0, 700, 1500), [5, 5, 6, 7, 8], np.arange(700)])
    found = ds.batch(rows, flat=True, threads=threads)
    assert found.labels[:, 0].tolist() == [i % 251 for i in rows.tolist()]
    for k, i in enumerate(rows.tolist()):
        image = found.images[found.offsets[k] : found.offsets[k + 1]]
        assert np.array_equal(image, records[i].hwc().reshape(-1))


def test_batches_ask_for_each_record_once_some_batches_ahead(tmp_path, asked_first, monkeypatch):
    ds = open_records(tmp_path, [record(2, 2, 1, [], seed=i) for i in range(90)])
    asked, real = [], type(ds).prefetch
    monkeypatch.setattr(type(ds), "prefetch", lambda s, r: asked.extend(r.tolist()) or real(s, r))
    for k, _ in enumerate(ds.batches(2)):
        ahead = 32 if k else 1  # how large a batch is, is known after the first
        assert asked == list(range(2, min(2 * (k + 1 + ahead), 90)))
    shapes = ((16, 10), (256, 10), (600, 10), (16, 1 << 19), (16, 1 << 22), (0, 1))
    found = [batches_ahead(np.broadcast_to(np.uint8(0), shape)) for shape in shapes]
    assert found == [32, 8, 3, 4, 1, 32]


@pytest.mark.parametrize("threads", [1, 2])
def test_more_records_than_are_asked_for_ahead(tmp_path, asked_first, threads):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1400, 60, 70), np.uint8)  # larger than a gap that is read, too
    mapix.idx.write(tmp_path / "x-idx3-ubyte", pixels)
    rows = 2 * rng.permutation(700)
    with mapix.open(tmp_path / "x-idx3-ubyte") as ds:
        images = ds.batch(rows, threads=threads).images
    assert np.array_equal(images.reshape(700, 60, 70), pixels[rows])


def test_more_records_than_are_sorted_at_once(tmp_path, asked_first):
    values = np.arange(7, dtype=np.uint8)
    mapix.idx.write(tmp_path / "x-idx1-ubyte", values)
    rows = np.arange((1 << 16) + 3)[::-1] % 7
    with mapix.open(tmp_path / "x-idx1-ubyte") as ds:
        assert np.array_equal(np.ravel(ds.batch(rows).images), rows)


def test_padding_that_would_take_all_memory_is_refused(tmp_path):
    with open_records(tmp_path, [record(65535, 1, 1, []), record(1, 65535, 1, [])]) as ds:
        with pytest.raises(mapix.LimitError, match=r"pass pad=\(h, w\)"):
            ds.batch([0, 1], pad=True)
        assert ds.batch([0, 1], pad=(8, 8), crop=True).images.shape == (2, 8, 8, 1)


def test_what_goes_wrong_in_the_fast_path_is_told_by_the_slow_one(tmp_path):
    with open_records(tmp_path, [record(4, 5, 1, [(0, i)]) for i in range(9)]) as ds:
        rows = np.arange(9)
        for bad in (-1, 0):
            with pytest.raises(ValueError, match="threads"):
                ds.batch(rows, threads=bad)
        with pytest.raises(IndexError, match="9 at position 1"):
            ds.batch(np.array([0, 9]))
        out = np.empty((9, 4, 5, 1), np.uint8)
        out.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            ds.batch(rows, out=out)
        with pytest.raises(ValueError, match="C-contiguous"):
            ds.batch(rows, out=np.empty((9, 5, 4, 1), np.uint8).transpose(0, 2, 1, 3))
        assert (ds.batch(rows[::-1]).labels[:, 0] == rows[::-1]).all()
        assert (ds.batch(rows[::2].astype(np.int32)).labels[:, 0] == rows[::2]).all()
        assert (ds.batch(rows, threads=1 << 40).labels[:, 0] == rows).all()
        assert ds.batch(rows, dtype=np.float32).images.dtype == np.float32
