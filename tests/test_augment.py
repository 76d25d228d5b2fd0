"""Random changes of images: the C core beside numpy, numpy beside the definition, the loader."""

from __future__ import annotations

import math
import os
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapix
from mapix import _native
from mapix.augmentation import Augment, Draws, mix, put
from mapix.dataset import Dataset
from mapix.options import batch_options, checked
from slow_vimh import pack, record

MASK = (1 << 64) - 1
LEVELS = range(_native.simd() + 1)
FOLDER_PER_TEST = [HealthCheck.function_scoped_fixture]
FROZEN = {
    "corner": [[3, -4], [3, -4], [7, -3], [-2, 7]],
    "flip": [True, False, False, True],
    "flip_vertical": [True, False, True, True],
    "cut": [[21, 5, 28, 13], [11, 0, 19, 6], [9, 19, 17, 27], [17, 15, 25, 23]],
    "shares": [33062.0, 5576.0, 42312.0, 33533.0],
}


@pytest.fixture(autouse=True)
def best_kernels():
    best = _native.simd()
    yield
    _native.simd(best)


# --- the definition, in Python's integers ---------------------------------------------------------


def slow_word(key: int, i: int) -> int:
    k = key + (i + 1) * 0x9E3779B97F4A7C15 & MASK
    k = (k ^ k >> 30) * 0xBF58476D1CE4E5B9 & MASK
    k = (k ^ k >> 27) * 0x94D049BB133111EB & MASK
    return k ^ k >> 31


def slow_choices(augment: Augment, epoch: int, position: int, h: int, w: int) -> dict[str, Any]:
    """What the documentation of ``Augment`` says, for one image."""
    key = augment.seed * 0xD6E8FEB86659FD93 + epoch * 0xA0761D6478BD642F + 0x6175676D656E74 & MASK
    words = [slow_word(key, 4 * position + k) for k in range(4)]
    halves = [(word >> 32, word & 0xFFFFFFFF) for word in words]
    out = augment.crop or (h, w)
    corner = [
        (half * (side + 2 * pad - o + 1) >> 32) - pad
        for half, side, pad, o in zip(halves[0], (h, w), augment.pad, out, strict=True)
    ]
    begin = [
        (half * o >> 32) - side // 2
        for half, o, side in zip(halves[2], out, augment.cutout, strict=True)
    ]
    return {
        "corner": corner,
        "flip": halves[1][0] < int(augment.flip * 2**32),
        "flip_vertical": halves[1][1] < int(augment.flip_vertical * 2**32),
        "cut": [range(b, b + side) for b, side in zip(begin, augment.cutout, strict=True)],
    }


def slow_image(image: np.ndarray, augment: Augment, chosen: dict[str, Any], fill: float) -> Any:
    """Pixel by pixel."""
    h, w, c = image.shape
    out = np.empty((*(augment.crop or (h, w)), c), image.dtype)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            from_y = chosen["corner"][0] + (out.shape[0] - 1 - y if chosen["flip_vertical"] else y)
            from_x = chosen["corner"][1] + (out.shape[1] - 1 - x if chosen["flip"] else x)
            inside = 0 <= from_y < h and 0 <= from_x < w
            if y in chosen["cut"][0] and x in chosen["cut"][1]:
                inside = False
            out[y, x] = image[from_y, from_x] if inside else fill
    return out


SIDES = st.integers(1, 9)


@st.composite
def augments(draw: Any, h: int, w: int) -> Augment:
    pad = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    crop = None
    if draw(st.booleans()):
        crop = (
            draw(st.integers(1, h + 2 * pad[0])),
            draw(st.integers(1, w + 2 * pad[1])),
        )
    chance = st.sampled_from([0.0, 0.5, 1.0, 0.3])
    cut = draw(st.sampled_from([0, 1, 2, 3, (1, 5), (20, 2)]))
    flips = draw(chance), draw(chance)
    return Augment(crop, pad, *flips, cut, seed=draw(st.integers(-(2**70), 2**70)))


@settings(max_examples=25, deadline=None)
@given(h=SIDES, w=SIDES, c=st.sampled_from([1, 3]), epoch=st.integers(0, 9), data=st.data())
def test_numpy_does_what_is_documented(h, w, c, epoch, data):
    augment = data.draw(augments(h, w))
    positions = data.draw(st.lists(st.integers(0, 2**60 - 1), min_size=1, max_size=4))
    image = np.random.default_rng(h).integers(1, 256, (h, w, c)).astype(np.uint8)
    chosen = augment.draws(positions, epoch).choices((h, w))
    for k, position in enumerate(positions):
        want = slow_choices(augment, epoch, position, h, w)
        assert chosen.corner[k].tolist() == want["corner"]
        assert (chosen.flip[k], chosen.flip_vertical[k]) == (want["flip"], want["flip_vertical"])
        to = np.empty((*(augment.crop or (h, w)), c), np.uint8)
        put(to, image, chosen, k, 7)
        np.testing.assert_array_equal(to, slow_image(image, augment, want, 7))


def test_choices_stay_the_same_in_all_versions():
    """A run that goes on has to see the images that it would have seen."""
    augment = Augment(crop=28, pad=4, flip=0.5, flip_vertical=0.25, cutout=8, mixup=0.4, seed=3)
    chosen = augment.draws([0, 1, 2, 10**12], epoch=5).choices((32, 32))
    assert chosen.corner.tolist() == FROZEN["corner"]
    assert chosen.flip.tolist() == FROZEN["flip"]
    assert chosen.flip_vertical.tolist() == FROZEN["flip_vertical"]
    assert chosen.cut.tolist() == FROZEN["cut"]
    shares = augment.draws([0, 1, 2, 10**12], epoch=5).shares
    assert (shares * 65536).tolist() == FROZEN["shares"]


# --- the C core -----------------------------------------------------------------------------------


def in_numpy(ds: Any, rows: Any, draws: Draws, **options: Any) -> np.ndarray:
    """The batch as a family without a C path makes it."""
    made = checked(batch_options(**options))
    return Dataset._gather_augmented(ds, np.asarray(rows), made, draws, None).images


@settings(max_examples=40, deadline=None, suppress_health_check=FOLDER_PER_TEST)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 80), st.sampled_from([1, 2, 3, 4, 5, 7])),
    dtype=st.sampled_from(["uint8", "float32", "float16"]),
    layout=st.sampled_from(["NHWC", "NCHW"]),
    numbers=st.sampled_from([{}, {"scale": 1 / 255}, {"scale": 1 / 255, "mean": "per channel"}]),
    pad_value=st.sampled_from([0, 7]),
    level=st.sampled_from(list(LEVELS)),
    threads=st.integers(1, 3),
    interleaved=st.booleans(),
    mixed=st.booleans(),
    canvas=st.sampled_from([None, (9, 33), (5, 90)]),
    crop=st.sampled_from([False, True, "corner"]),
    data=st.data(),
)
def test_the_core_does_what_numpy_does(
    tmp_path, shape, dtype, layout, numbers, pad_value, level, threads, interleaved, mixed, canvas,
    crop, data,
):  # fmt: skip
    h, w, c = shape
    sizes = [(h + (i % 3) * mixed, w + (i % 2) * mixed, c) for i in range(6)]
    path = tmp_path / "data"
    path.write_bytes(pack([record(*s, [(0, i)], seed=i) for i, s in enumerate(sizes)]))
    ds = mapix.open(path, dialect=14, order="HWC" if interleaved else "CHW", index="rebuild")
    options: dict[str, Any] = {"dtype": dtype, "layout": layout, "pad_value": pad_value}
    if canvas is not None:
        options |= {"pad": canvas, "crop": crop}
        if not crop:
            options["pad"] = (max(canvas[0], h + 2), max(canvas[1], w + 1), c + 1)
        h, w = options["pad"][:2]
    if dtype != "uint8":
        options |= numbers
        if "mean" in numbers:
            options["mean"] = [0.1 * k for k in range((*options.get("pad", ()), 0, 0, c)[2] or c)]
    augment = data.draw(augments(h, w))
    if mixed and canvas is None and augment.crop is None:
        with pytest.raises(ValueError, match="crop= of Augment"):
            ds.batch([0], augment=augment.draws([0]), **options)
        return
    rows = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=20))
    draws = augment.draws(np.arange(len(rows)) * 10**9, 2)
    _native.simd(level)
    found = ds.batch(rows, augment=draws, threads=threads, **options)
    np.testing.assert_array_equal(found.images, in_numpy(ds, rows, draws, **options))
    assert found.images.flags.c_contiguous
    assert found.labels[:, 0].tolist() == rows
    assert found.shapes.tolist() == [list(sizes[row]) for row in rows]


@pytest.mark.parametrize("c", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("w", [1, 5, 15, 16, 17, 31, 33, 1343, 1400, 4100])
def test_lines_of_every_length_are_mirrored(tmp_path, w, c):
    path = tmp_path / "x.npy"
    numbers = np.random.default_rng(w).integers(0, 256, (3, 2, w, c)).astype(np.uint8)
    np.save(path, numbers)
    ds = mapix.open(path)
    draws = Augment(flip=1).draws(range(3))
    for options in (
        {},
        {"layout": "NCHW"},
        {"dtype": "float32", "scale": 0.5, "mean": list(range(c))},
    ):
        want = ds.batch(range(3), **options).images
        for level in LEVELS:
            _native.simd(level)
            found = ds.batch(range(3), augment=draws, **options).images
            axis = 3 if options.get("layout") == "NCHW" else 2
            np.testing.assert_array_equal(found, np.flip(want, axis))


def test_pixels_of_many_channels(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5000)).astype(np.uint8))
    ds = mapix.open(path)
    draws = Augment(pad=1, flip=0.5, flip_vertical=0.5, cutout=2).draws(range(4))
    for options in ({}, {"layout": "NCHW", "dtype": "float32"}):
        found = ds.batch([0, 1, 1, 0], augment=draws, **options).images
        np.testing.assert_array_equal(found, in_numpy(ds, [0, 1, 1, 0], draws, **options))


def digits(tmp_path: Any, n: int = 60) -> Any:
    images = np.random.default_rng(0).integers(1, 256, (n, 8, 9)).astype(np.uint8)
    mapix.idx.write(tmp_path / "train-images-idx3-ubyte", images)
    mapix.idx.write(tmp_path / "train-labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8))
    return mapix.open(tmp_path)


def test_images_without_channels_keep_none(tmp_path):
    ds = digits(tmp_path)
    draws = Augment(crop=(5, 6), pad=1).draws(range(4))
    assert ds.batch(range(4), augment=draws).images.shape == (4, 5, 6)
    assert ds.batch(range(4), augment=draws, layout="NHWC").images.shape == (4, 5, 6, 1)
    out = np.empty((7, 5, 6), np.uint8)
    found = ds.batch(range(4), out, augment=draws)
    assert found.images.base is out
    assert found.labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.images, in_numpy(ds, range(4), draws))


def test_numbers_that_are_not_bytes(tmp_path):
    rows = np.random.default_rng(0).random((9, 3, 6, 7)).astype(np.float32)
    mapix.pink.write_data(tmp_path / "d.bin", rows[:, 0])
    np.save(tmp_path / "x.npy", rows)
    draws = Augment(crop=4, flip=1, seed=2).draws(range(9))
    at = draws.choices((6, 7)).corner
    for path in ("d.bin", "x.npy"):
        ds = mapix.open(tmp_path / path)
        if path == "x.npy":
            draws = Augment(crop=(2, 4), flip=1, seed=2).draws(range(9))  # 3 x 6, of 7 channels
            at = draws.choices((3, 6)).corner
        found = ds.batch(range(9), augment=draws).images
        for k, (top, left) in enumerate(at.tolist()):
            h, w = found.shape[1:3]
            window = np.asarray(ds)[k, top : top + h, left : left + w]
            np.testing.assert_array_equal(found[k], window[:, ::-1])
    assert ds.batch([], augment=draws[:0]).images.dtype == np.float32


def test_joined_files(tmp_path):
    sets = []
    for name, n in (("a", 5), ("b", 7)):
        path = tmp_path / name
        path.write_bytes(pack([record(6, 5 + i % 2, 3, [(0, i)], seed=i) for i in range(n)]))
        sets.append(mapix.open(path, dialect=14))
    both = mapix.open([tmp_path / "a", tmp_path / "b"], dialect=14)
    rows = [11, 0, 4, 5, 6, 2]
    draws = Augment(crop=4, pad=1, flip=0.5, cutout=2).draws(range(6), 1)
    found = both.batch(rows, augment=draws)
    for k, row in enumerate(rows):
        ds, i = (sets[0], row) if row < 5 else (sets[1], row - 5)
        one = ds.batch([i], augment=draws[k : k + 1])
        np.testing.assert_array_equal(found.images[k], one.images[0])
        assert found.labels[k].tolist() == one.labels[0].tolist()


def test_a_file_that_is_cut_is_an_error(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((9, 64, 64, 3), np.uint8))
    ds = mapix.open(path)
    os.truncate(path, 4096)
    with pytest.raises(mapix.FileChangedError, match=r"x\.npy"):
        ds.batch(range(9), augment=Augment(flip=0.5).draws(range(9)))


def test_records_that_are_too_small(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(pack([record(4 + i, 5, 1, [], seed=i) for i in range(3)]))
    ds = mapix.open(path, dialect=14)
    draws = Augment(crop=6, pad=(0, 1)).draws([0, 1])
    with pytest.raises(ValueError, match="record 1 .* 5 x 5 x 1 does not fit 6 x 6 x 1"):
        ds.batch([2, 1], augment=draws)
    narrow = Augment(crop=(4, 8), pad=(0, 1)).draws([0, 1])
    with pytest.raises(ValueError, match="record 2 .* 6 x 5 x 1 does not fit 4 x 8 x 1"):
        ds.batch([2, 1], augment=narrow)
    assert ds.batch([2, 2], augment=draws).images.shape == (2, 6, 6, 1)
    assert ds.batch([2, 1], augment=draws, pad=(6, 5)).images.shape == (2, 6, 6, 1)
    with pytest.raises(ValueError, match="images of 3 x 4 with pad=0 are smaller than crop=6"):
        ds.batch([0, 1], augment=Augment(crop=6).draws([0, 1]), pad=(3, 4), crop=True)
    with pytest.raises(ValueError, match="depend on the batch"):
        ds.batch([0, 1], augment=draws, pad=True)


def test_arguments_that_do_not_fit(tmp_path):
    ds = digits(tmp_path)
    for bad in (
        {"crop": 0}, {"crop": (3, 4, 5)}, {"pad": -1}, {"pad": True}, {"flip": 1.5},
        {"flip_vertical": -0.1}, {"cutout": (0, 3)}, {"cutout": 70000}, {"mixup": -1.0},
        {"mixup": math.inf}, {"mixup": math.nan}, {"crop": 2.5},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(bad))):
            Augment(**bad)
    with pytest.raises(TypeError, match="seed"):
        Augment(seed=1.5)  # type: ignore[arg-type]
    for positions in ([-1], [1 << 60], [[1]], [0.5]):
        with pytest.raises(ValueError, match="positions"):
            Augment().draws(positions)
    with pytest.raises(TypeError, match="draws"):
        ds.batch([0], augment=Augment())
    with pytest.raises(ValueError, match="2 positions for 1 records"):
        ds.batch([0], augment=Augment().draws([0, 1]))
    with pytest.raises(ValueError, match="mixup needs"):
        ds.batch([0], augment=Augment(mixup=1.0).draws([0]))
    np.save(tmp_path / "flat.npy", np.zeros((3, 7), np.uint8))
    with pytest.raises(ValueError, match="two or three dimensions"):
        mapix.open(tmp_path / "flat.npy").batch([0], augment=Augment(flip=1).draws([0]))
    path = tmp_path / "vimh"
    path.write_bytes(pack([record(4, 5, 1, [], seed=1)]))
    with pytest.raises(ValueError, match="flat"):
        mapix.open(path, dialect=14).batch([0], flat=True, augment=Augment().draws([0]))


def test_an_augment_is_a_value():
    one = Augment(crop=32, pad=(0, 4), flip=0.5, cutout=[8, 8], mixup=0.2, seed=1)
    assert repr(one) == "Augment(crop=32, pad=(0, 4), flip=0.5, cutout=8, mixup=0.2, seed=1)"
    assert repr(Augment()) == "Augment()"
    assert eval(repr(one)) == one == pickle.loads(pickle.dumps(one))
    assert {one: 1}[Augment((32, 32), (0, 4), 0.5, 0.0, 8, 0.2, 1)] == 1
    assert one != Augment(crop=32, seed=1)
    with pytest.raises(AttributeError):
        one.seed = 2  # type: ignore[misc]


# --- mixup ----------------------------------------------------------------------------------------


def test_shares_are_quantiles_of_beta():
    places = np.arange(1 << 16)
    for alpha, quantile in (
        (1.0, lambda p: p),
        (0.5, lambda p: np.sin(np.pi * p / 2) ** 2),
        (2.0, None),
    ):
        shares = np.unique(Augment(mixup=alpha).draws(places).shares.astype(np.float64))
        assert shares.min() == 1 - shares.max()
        p = (np.arange(1024) + 0.5) / 1024
        if quantile is not None:
            assert np.abs(quantile(p)[:, None] - shares).min(axis=1).max() <= 0.51 / 65536
        else:  # the distribution function of Beta(2, 2) is 3 x^2 - 2 x^3
            assert len(shares) == 1024
            assert np.abs(3 * shares**2 - 2 * shares**3 - p).max() < 1.5 * 0.51 / 65536
    for alpha in (0.01, 0.2, 30.0, 1000.0):
        shares = Augment(mixup=alpha).draws(places).shares.astype(np.float64)
        variance = 1 / (4 * (2 * alpha + 1))
        assert shares.mean() == pytest.approx(0.5, abs=5 * math.sqrt(variance / len(places)))
        assert shares.var() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 20])
def test_mixup_is_numpys(tmp_path, n, dtype, level):
    ds = digits(tmp_path)
    draws = Augment(pad=2, flip=0.5, mixup=0.7, seed=5).draws(range(n))
    plain = Augment(pad=2, flip=0.5, seed=5).draws(range(n))
    _native.simd(level)
    options = {"dtype": dtype, "scale": 1 / 255}
    found = ds.batch(range(n), augment=draws, **options)
    want = ds.batch(range(n), augment=plain, **options)
    assert want.shares is want.partners is None
    images, share = want.images.astype(np.float32), draws.shares[:, None, None]
    mixed = (images * share + images[::-1] * (1 - share)).astype(dtype)
    if n % 2:
        mixed[n // 2] = want.images[n // 2]  # its own partner
    np.testing.assert_array_equal(found.images, mixed)
    assert found.partners.tolist() == list(range(n))[::-1]
    assert found.shares is draws.shares
    assert found.labels.tolist() == want.labels.tolist()


def test_a_mixture_of_numbers_that_are_not_floats():
    with pytest.raises(ValueError, match="float64"):
        mix(np.zeros((2, 3)), Augment(mixup=1.0).draws([0, 1]))


# --- the loader -----------------------------------------------------------------------------------

CHANGES = Augment(pad=2, flip=0.5, flip_vertical=0.25, cutout=3, seed=11)


def by_position(ds: Any, augment: Augment, epochs: int = 1, **options: Any) -> list[Any]:
    """Record and image at each position of some epochs."""
    found: dict[tuple[int, int], Any] = {}
    loader = mapix.Loader(ds, augment=augment, seed=3, **options)
    for epoch in range(epochs):
        for k, batch in enumerate(loader):
            places = loader.plan.positions(k * loader.plan.step)
            for place, row, image in zip(places.tolist(), batch.rows, batch.images, strict=True):
                found[epoch, place] = int(row), image.tobytes()
    return [found[place] for place in sorted(found)]


def test_changes_are_those_of_the_position(tmp_path):
    ds = digits(tmp_path)
    whole = by_position(ds, CHANGES, batch_size=60)
    assert len(whole) == 60
    draws = CHANGES.draws(range(60), 0)
    rows = [row for row, _ in whole]
    want = ds.batch(rows, augment=draws).images
    assert [image for _, image in whole] == [image.tobytes() for image in want]
    for batch_size in (1, 7, 16):
        assert by_position(ds, CHANGES, batch_size=batch_size, ahead=0, threads=2) == whole
    for world in (2, 4):
        shared: dict[int, Any] = {}
        for rank in range(world):
            loader = mapix.Loader(ds, 7, augment=CHANGES, seed=3, rank=rank, world=world)
            for k, batch in enumerate(loader):
                places = loader.plan.positions(k * loader.plan.step).tolist()
                for place, row, image in zip(places, batch.rows, batch.images, strict=True):
                    assert shared.setdefault(place, (row, image.tobytes()))[1] == image.tobytes()
        assert [shared[place] for place in range(60)] == whole


def test_epochs_and_seeds_differ_and_come_again(tmp_path):
    ds = digits(tmp_path)
    two = by_position(ds, CHANGES, 2, batch_size=16, shuffle=False)
    assert [row for row, _ in two[:60]] == [row for row, _ in two[60:]]
    same = sum(a == b for a, b in zip(two[:60], two[60:], strict=True))
    assert same < 5  # of 25 shifts, flips and cuts
    assert by_position(ds, CHANGES, 2, batch_size=16, shuffle=False) == two
    other = Augment(pad=2, flip=0.5, flip_vertical=0.25, cutout=3, seed=12)
    assert by_position(ds, other, batch_size=16, shuffle=False) != two[:60]


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_a_run_that_goes_on_sees_the_same_images(tmp_path, mixup):
    ds = digits(tmp_path)
    options = {"augment": Augment(crop=7, pad=2, flip=0.5, mixup=mixup), "dtype": "float32"}
    complete = [b.images.tobytes() for b in mapix.Loader(ds, 8, copy=True, **options)]
    for stop in (0, 1, 5, 7):
        loader = mapix.Loader(ds, 8, **options)
        batches = iter(loader)
        for _ in range(stop):
            next(batches)
        state = loader.state_dict()
        del batches
        again = mapix.Loader(ds, 8, **options)
        again.load_state_dict(state)
        assert [b.images.tobytes() for b in again] == complete[stop:]


def test_records_that_are_drawn_twice_get_other_changes(tmp_path):
    ds = digits(tmp_path)
    weights = np.zeros(60)
    weights[7] = 1
    seen = by_position(ds, Augment(pad=2), batch_size=20, weights=weights)
    assert {row for row, _ in seen} == {7}
    assert len({image for _, image in seen}) > 15  # of 25 shifts, 60 times


def test_rates_over_an_epoch():
    n = 100_000
    chosen = Augment(crop=28, pad=4, flip=0.5, flip_vertical=0.1, cutout=8).draws(range(n), 1)
    found = chosen.choices((32, 32))
    for flips, chance in ((found.flip, 0.5), (found.flip_vertical, 0.1)):
        assert abs(flips.mean() - chance) < 5 * math.sqrt(chance * (1 - chance) / n)
    for values, kinds in ((found.corner[:, 0], 13), (found.corner[:, 1], 13)):
        counts = Counter(values.tolist())
        assert sorted(counts) == list(range(-4, 9))
        chi2 = sum((k - n / kinds) ** 2 / (n / kinds) for k in counts.values())
        assert chi2 < kinds - 1 + 6 * math.sqrt(2 * kinds)
    pairs = Counter(zip(*found.corner.T.tolist(), strict=True))
    assert len(pairs) == 13 * 13
    bottoms, chance = found.cut[:, 2], 4 / 28  # centres 24 to 27
    assert abs((bottoms == 28).mean() - chance) < 5 * math.sqrt(chance / n)
    assert found.cut.min() == 0
    both = (found.flip & found.flip_vertical).mean()
    assert abs(both - 0.05) < 5 * math.sqrt(0.05 / n)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_buffers_have_the_size_of_the_result(tmp_path, dtype):
    ds = digits(tmp_path)
    options = {"augment": Augment(crop=(5, 12), pad=2), "dtype": dtype, "layout": "NCHW"}
    loader = mapix.Loader(ds, 20, **options)
    assert loader.placement().shape == (1, 5, 12)
    assert loader.placement().canvas[:2] == ((5, 12) if dtype == "float32" else (8, 9))
    addresses = {batch.images.ctypes.data for batch in loader}
    assert len(addresses) == 3
    assert all(batch.images.shape == (20, 1, 5, 12) for batch in loader)


def test_what_does_not_fit_is_refused_at_once(tmp_path):
    ds = digits(tmp_path)
    with pytest.raises(ValueError, match="smaller than crop=32"):
        mapix.Loader(ds, 8, augment=Augment(crop=32, pad=4))
    with pytest.raises(ValueError, match="mixup needs"):
        mapix.Loader(ds, 8, augment=Augment(mixup=1.0))
    with pytest.raises(TypeError, match=r"mapix\.Augment"):
        mapix.Loader(ds, 8, augment=CHANGES.draws([0]))  # type: ignore[arg-type]


# --- pictures -------------------------------------------------------------------------------------


def test_pictures_and_their_boxes(tmp_path):
    pytest.importorskip("PIL")
    rng = np.random.default_rng(0)
    sizes = [(20, 31), (25, 24), (20, 20)]
    pictures = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    mapix.folder.write(
        tmp_path / "p",
        [
            {"file_name": f"{k}.png", "image": image, "objects": ([[2, 3, 4, 5]], ["a"])}
            for k, image in enumerate(pictures)
        ],
    )
    ds = mapix.open(tmp_path / "p")
    rows, draws = [0, 1, 2, 0, 1, 2], Augment(16, 2, 0.5, 0.5, cutout=3, seed=1).draws(range(6))
    found = ds.batch(rows, augment=draws, dtype="float32", layout="NCHW", threads=2)
    chosen = draws.choices([sizes[row] for row in rows])
    assert chosen.flip.any()
    assert not chosen.flip.all()
    for k, row in enumerate(rows):
        to = np.empty((16, 16, 3), np.float32)
        put(to, pictures[row], chosen, k, 0.0)
        np.testing.assert_array_equal(found.images[k].transpose(1, 2, 0), to)
        top, left = chosen.corner[k].tolist()
        x, y = (2 - left, 3 - top)
        x = 16 - x - 4 if chosen.flip[k] else x
        y = 16 - y - 5 if chosen.flip_vertical[k] else y
        assert found.boxes[k].tolist() == [[x, y, 4, 5]]
    fitted = ds.batch(rows, size=(18, 18), fit="resize", augment=draws)
    plain = ds.batch(rows, size=(18, 18), fit="resize").images
    chosen = draws.choices((18, 18))
    for k in range(6):
        to = np.empty((16, 16, 3), np.uint8)
        put(to, plain[k], chosen, k, 0)
        np.testing.assert_array_equal(fitted.images[k], to)
    with pytest.raises(ValueError, match="crop= of Augment"):
        ds.batch([0, 1], augment=Augment(flip=1).draws([0, 1]))
    with pytest.raises(ValueError, match="size="):
        ds.batch([0, 1], fit="pad", augment=draws[:2])
    loader = mapix.Loader(ds, 2, augment=Augment(16, flip=0.5), shuffle=False)
    assert [b.images.shape for b in loader] == [(2, 16, 16, 3), (1, 16, 16, 3)]


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.mark.torch
def test_tensors_and_what_was_mixed_in(tmp_path):
    torch = pytest.importorskip("torch")
    import mapix.torch

    ds = digits(tmp_path)
    augment = Augment(crop=6, pad=1, flip=0.5, mixup=0.3)
    tensors = mapix.torch.Loader(ds, 7, augment=augment, scale=1 / 255)
    arrays = mapix.Loader(ds, 7, augment=augment, dtype="float32", layout="NCHW", scale=1 / 255)
    for (images, labels, others, shares), batch in zip(tensors, arrays, strict=True):
        assert torch.equal(images, torch.from_numpy(batch.images))
        assert labels["label"].tolist() == batch.labels.tolist()
        assert others["label"].tolist() == batch.labels[batch.partners].tolist()
        assert torch.equal(shares, torch.from_numpy(batch.shares))
    rounded = mapix.torch.Loader(ds, 7, augment=augment, scale=1 / 255, dtype="bfloat16")
    for images, *_ in rounded:
        assert images.dtype == torch.bfloat16
    for images, labels, others, _ in mapix.torch.Loader(ds, 7, augment=augment, as_dict=False):
        assert images.shape[1:] == (1, 6, 6)
        assert torch.equal(others, labels.flip(0))
    for *_, labels, others, shares in mapix.torch.Loader(ds, 7, augment=augment, labels=None):
        assert labels is others is None
        assert shares.dtype == torch.float32
    for images, labels in mapix.torch.Loader(ds, 7, augment=Augment(flip=1), dtype="uint8"):
        assert images.dtype == torch.uint8
        assert len(labels["label"]) == len(images)
