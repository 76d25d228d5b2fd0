"""Places of neurons, neighbours, distances, best matches, turns, pictures."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapix
from conftest import GOLDEN
from mapix.pink import Lattice, transformed, write_data, write_map, write_rot, write_som

PINK = GOLDEN / "pink"
DATA = Path(__file__).parent / "data"


def cells(side: int) -> list[tuple[int, int]]:
    """Places (q, r) of a hexagon in the file's order, by the plainest loops."""
    middle = side // 2
    every = ((q, r) for r in range(side) for q in range(side))
    return [(q, r) for q, r in every if abs(q - middle + r - middle) <= middle]


def rings(a: tuple[int, int], b: tuple[int, int]) -> int:
    """Steps from cell to cell, by cube coordinates."""
    q, r = a[0] - b[0], a[1] - b[1]
    return (abs(q) + abs(r) + abs(q + r)) // 2


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 3, 5, 9, 21])
def test_places_of_a_hexagon(side):
    lattice = Lattice("hexagonal", (side, side))
    want = cells(side)
    assert lattice.size == len(want)
    assert [tuple(p) for p in lattice.positions.tolist()] == want
    q, r = np.array(want).T
    np.testing.assert_array_equal(lattice.index(q, r), np.arange(len(want)))
    for i, place in enumerate(want):
        assert lattice.index(*place) == lattice.index(*map(np.int32, place)) == i
        assert lattice.position(i) == place
    every = np.arange(len(want))
    far = lattice.distance(every[:, None], every)
    assert far.tolist() == [[rings(a, b) for b in want] for a in want]
    for q, r in itertools.product(range(-1, side + 1), repeat=2):
        if (q, r) not in want:
            with pytest.raises(IndexError, match="no cell"):
                lattice.index(q, r)


def test_the_places_that_are_told_of_a_hexagon_of_5():
    lattice = Lattice("hexagonal", (5, 5))
    told = {0: (2, 0), 1: (3, 0), 2: (4, 0), 3: (1, 1), 4: (2, 1), 7: (0, 2), 18: (2, 4)}
    assert {i: lattice.position(i) for i in told} == told


@pytest.mark.parametrize("side", [3, 7])
@pytest.mark.parametrize("away", [1, 2])
def test_neighbours(side, away):
    lattice = Lattice("hexagonal", (side, side))
    want = cells(side)
    for i, a in enumerate(want):
        near = [j for j, b in enumerate(want) if 1 <= rings(a, b) <= away]
        assert lattice.neighbours(i, away).tolist() == near
    middle = lattice.index(side // 2, side // 2)
    assert len(lattice.neighbours(middle)) == 6


@pytest.mark.parametrize("shape", [(4,), (3, 2), (2, 3, 4), (3, 2, 1)])
def test_places_of_a_block(shape):
    lattice = Lattice("cartesian", shape)
    want = list(itertools.product(*map(range, shape)))
    assert [tuple(p) for p in lattice.positions.tolist()] == want
    for i, place in enumerate(want):
        assert lattice.index(*place) == i
        assert lattice.position(i) == place
        for j, other in enumerate(want):
            assert lattice.distance(i, j) == math.dist(place, other)
        near = [j for j, other in enumerate(want) if math.dist(place, other) == 1]
        assert lattice.neighbours(i).tolist() == near
    assert Lattice("cartesian", (3, 2, 1)).index(2, 1) == 5
    with pytest.raises(IndexError, match="coordinates"):
        lattice.index(*[0] * (len(shape) + 1))


def test_what_is_no_place():
    lattice = Lattice("hexagonal", (5, 5))
    for bad in (-1, 19, [0, 19]):
        with pytest.raises(IndexError):
            lattice.position(bad)
    with pytest.raises(TypeError):
        lattice.position(1.5)
    with pytest.raises(TypeError):
        lattice.index(1.5, 2)
    with pytest.raises(IndexError, match="1 coordinates"):
        lattice.index(3)
    with pytest.raises(ValueError, match="hexagon"):
        Lattice("hexagonal", (4, 4))
    with pytest.raises(ValueError, match="19 cells"):
        lattice.dense(np.ones(18))


# --- neurons --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["f4", "i2"])
@pytest.mark.parametrize("strict", [False, True])
def test_neurons_of_a_hexagon(tmp_path, code, strict):
    want = (np.random.default_rng(0).random((19, 4, 3)) * 100).astype(code)
    path = tmp_path / "x.bin"
    write_som(path, want, layout="hexagonal", dtype=code, strict_spec=strict, header=["a"])
    som = mapix.open(path)
    assert (som.layout, som.som_shape, som.neuron_shape) == ("hexagonal", (5, 5), (4, 3))
    np.testing.assert_array_equal(som.neurons, want)
    grid = som.grid()
    assert grid.shape == (5, 5, 4, 3)
    for i, (q, r) in enumerate(cells(5)):
        np.testing.assert_array_equal(som[q, r], want[i])
        np.testing.assert_array_equal(grid[q, r], want[i])
        assert not som[q, r].flags.writeable
    outside = [p for p in itertools.product(range(5), repeat=2) if p not in cells(5)]
    for place in outside:
        assert grid[place] is np.ma.masked or grid[place].mask.all()
        if code == "f4":
            assert np.isnan(grid.data[place]).all()
        with pytest.raises(IndexError):
            som[place]
    part = som[3:5]
    assert part.shape == (2, 4, 3)
    for wrong in (lambda: part.grid(), lambda: part[2, 0], lambda: part.picture()):
        with pytest.raises(ValueError, match="a part of a SOM"):
            wrong()
    with pytest.raises(TypeError, match="ints"):
        som[1.5, 2]


@pytest.mark.parametrize("shape", [(4,), (3, 2), (2, 3, 4)])
def test_neurons_of_a_block(tmp_path, shape):
    want = np.random.default_rng(0).random((*shape, 2, 5)).astype(np.float32)
    write_som(tmp_path / "a", want, shape)
    write_som(tmp_path / "b", want.reshape(-1, 2, 5), shape)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    som = mapix.open(tmp_path / "a")
    np.testing.assert_array_equal(som.view(), want)
    np.testing.assert_array_equal(som.grid(), want)
    np.testing.assert_array_equal(np.asarray(som), want)
    assert som.shape == want.shape
    for place in itertools.product(*map(range, shape)):
        np.testing.assert_array_equal(som[place], want[place])
    assert len(som) == math.prod(shape)


# --- distances ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 9),
    shape=st.sampled_from([(1,), (4,), (3, 2), (2, 2, 3)]),
    seed=st.integers(0, 99),
    k=st.integers(1, 4),
)
def test_best_matches(tmp_path_factory, n, shape, seed, k):
    path = tmp_path_factory.mktemp("m") / "x.bin"
    rng = np.random.default_rng(seed)
    want = rng.integers(0, 5, (n, math.prod(shape))).astype(np.float32)  # many are equal
    want[rng.random(want.shape) < 0.2] = np.nan
    write_map(path, want, shape)
    m = mapix.open(path)
    best, counts = [], [0] * want.shape[1]
    k = min(k, want.shape[1])
    near, away = m.top_k(k)
    for i, row in enumerate(want.tolist()):
        order = sorted(range(len(row)), key=lambda j: (math.isnan(row[j]), row[j], j))
        known = [j for j in order if not math.isnan(row[j])]
        best.append(known[0] if known else -1)
        for j in known[:1]:
            counts[j] += 1
        assert m.best_match(i) == best[-1]
        assert near[i].tolist() == (known + [-1] * k)[:k]
        assert away[i].tolist() == ([row[j] for j in known] + [math.inf] * k)[:k]
    assert m.best_match().tolist() == best
    assert m.counts().tolist() == counts
    assert m.heatmap().tolist() == np.reshape(counts, shape).tolist()
    least = [row[b] if b >= 0 else math.inf for row, b in zip(want, best, strict=True)]
    assert m.best_distance().tolist() == least
    order = sorted(range(n), key=lambda i: (-least[i], i))
    assert m.outliers(3).tolist() == order[:3]
    with pytest.raises(ValueError, match="k must be"):
        m.top_k(0)
    with pytest.raises(ValueError, match="negative"):
        m.outliers(-1)


def test_squares_of_version_1_are_distances_unless_asked_for():
    m = mapix.open(PINK / "map_v1_cart_3x2.bin")
    raw = mapix.open(PINK / "map_v1_cart_3x2.bin", raw=True)
    squares = m.view().copy()
    assert m.squared
    want = np.sqrt(squares)
    np.testing.assert_array_equal(m.distances(), want)
    np.testing.assert_array_equal(m[2], want[2])
    assert not m[2].flags.writeable
    np.testing.assert_array_equal(m.batch([3, 1]).images, want[[3, 1]])
    np.testing.assert_array_equal(m.top_k(6)[1], np.sort(want, axis=1))
    np.testing.assert_array_equal(m.distances(raw=True), squares)
    np.testing.assert_array_equal(raw.distances(), squares)
    np.testing.assert_array_equal(raw.distances(raw=False), want)
    np.testing.assert_array_equal(raw[2], squares[2])
    np.testing.assert_array_equal(raw.batch([3, 1]).images, squares[[3, 1]])
    assert m.best_match().tolist() == raw.best_match().tolist()
    np.testing.assert_array_equal(m[1:].distances(), want[1:])
    new = mapix.open(PINK / "map_cart_3x2.bin")
    assert not new.squared
    np.testing.assert_array_equal(new[2], new.view()[2])


def test_heatmap_of_a_hexagon():
    m = mapix.open(PINK / "hand_map_hexlabelled_3x3_2entries.bin")
    heat = m.heatmap()
    assert heat.shape == (3, 3)
    assert heat.mask.sum() == 2
    assert heat.sum() == 2
    for i in range(2):
        assert heat[m.lattice.position(m.best_match(i))] >= 1


# --- turns ----------------------------------------------------------------------------------------


def test_flips_and_angles(tmp_path):
    flips = np.arange(38).reshape(2, 19) % 2
    angles = np.linspace(0, 6, 38).reshape(2, 19).astype(np.float32)
    write_rot(tmp_path / "x", flips, angles, layout="hexagonal")
    r = mapix.open(tmp_path / "x")
    np.testing.assert_array_equal(r.flip, flips)
    np.testing.assert_array_equal(r.angle, angles)
    assert r[1]["angle"].tolist() == angles[1].tolist()
    assert r.batch([1]).images["flip"].tolist() == flips[1:].tolist()
    assert np.shares_memory(r.view(), r.flip)
    for wrong in (-20, 19):
        with pytest.raises(IndexError, match="neuron"):
            r.best_fit(np.ones((3, 3)), 0, wrong)


def test_best_fits_are_pinks():
    """PINK's own distances come out of its own images, turned as its file says."""
    data = mapix.open(PINK / "data_v2_2d_6x8x8.bin")
    som = mapix.open(PINK / "som_cart_3x2_neuron2d.bin")
    away = mapix.open(PINK / "map_cart_3x2.bin")
    rotation = mapix.open(PINK / "rot_cart_3x2.bin")
    turns = set()
    for i, j in itertools.product(range(6), range(6)):
        image = rotation.best_fit(data[i], i, j, (12, 12))
        middle = slice(3, 8)  # PINK compares a square in the middle, here of 5 x 5
        found = np.sqrt(((image - som[j])[middle, middle] ** 2).sum())
        assert abs(found - away[i][j]) < 2e-6
        turns.add((int(rotation.flip[i, j]), round(float(rotation.angle[i, j]) * 4 / math.pi)))
    assert len(turns) > 8  # quarters of a turn, what lies between, and their flips


def test_version_1_turned_the_other_way():
    """Of all turns that PINK 1 tried, that which its file names fits best, but at the corners.

    There it read what lies beside the image, or went on with the slope of its last two pixels.
    """
    data = mapix.open(PINK / "data_v1_5x8x8.bin")
    som = mapix.open(PINK / "som_v1_cart_3x2.bin")
    rotation = mapix.open(PINK / "rot_v1_cart_3x2.bin")
    inside = np.ones((6, 6), bool)
    inside[[0, 0, 5, 5], [0, 5, 0, 5]] = False

    def apart(image, neuron):
        return ((image - som[neuron][0])[inside] ** 2).sum()

    ways = [(flip, k * math.pi / 4) for flip in (False, True) for k in range(8)]
    first = other = 0
    for i, j in itertools.product(range(5), range(6)):
        every = sorted(apart(transformed(data[i][0], f, a, (6, 6)), j) for f, a in ways)
        best = apart(rotation.best_fit(data[i][0], i, j, (6, 6)), j)
        assert best < every[0] + 0.04
        first += best < every[0] + 1e-4
        other += apart(rotation.best_fit(data[i][0], i, j, (6, 6), backwards=False), j) < best
    assert first >= 27
    assert other == 0


def test_turns_are_pinks_for_all_parities():
    """What PINK 2 itself makes of an image: 12 turns, and those flipped, to sizes of any parity.

    12 turns have places on the very edge of an image, where rounding decides what is inside.
    """
    known = np.load(DATA / "pink_turns.npz")
    step = np.float32(2 * math.pi) / np.float32(12)
    odd = 0
    for name in known:
        if not name.startswith("image"):
            continue
        _, have, want = name.split("_")
        shape = (int(want), int(want))
        odd += (int(want) - int(have)) % 2
        for flip, k in itertools.product((0, 1), range(12)):
            found = transformed(known[name], bool(flip), float(np.float32(k) * step), shape)
            np.testing.assert_allclose(
                found, known[f"turned_{have}_{want}"][flip, k], atol=1e-6, err_msg=f"{name} {k}"
            )
    assert odd > 5
    point = np.zeros((3, 3), np.float32)
    point[1, 1] = 1
    places = [transformed(point, False, k * math.pi / 2, (6, 6)) for k in range(4)]
    assert [np.argwhere(p).tolist() for p in places] == [[[2, 2]], [[2, 3]], [[3, 3]], [[3, 2]]]


def test_distances_agree_with_a_map_for_all_parities(tmp_path):
    """The distance of the best of PINK's turned images is that of ``best_fit``."""
    known = np.load(DATA / "pink_turns.npz")
    for have, want in [(1, 2), (3, 6), (3, 2), (5, 4), (4, 5), (4, 1), (4, 4)]:
        turned = known[f"turned_{have}_{want}"].reshape(24, want, want)
        neurons = np.random.default_rng(want).random((5, want, want)).astype(np.float32)
        apart = np.sqrt(((neurons[:, None] - turned[None]) ** 2).sum((2, 3)))
        best = apart.argmin(1)
        step = np.float32(2 * math.pi) / np.float32(12)
        angles = (best % 12).astype(np.float32) * step
        path = tmp_path / f"{have}_{want}"
        write_rot(path, [best >= 12], [angles], (5, 1))
        rotation = mapix.open(path)
        for j in range(5):
            fit = rotation.best_fit(known[f"image_{have}_{want}"], 0, j, (want, want))
            assert np.linalg.norm(fit - neurons[j]) == pytest.approx(apart[j].min(), abs=1e-6)


def test_other_shapes_than_squares():
    image = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(
        transformed(image, False, math.pi / 2, (3, 2)), np.rot90(image, -1)
    )
    wide = transformed(image, False, 0.4, (4, 7))
    assert wide.shape == transformed(image, True, 2.0, (4, 7)).shape == (4, 7)
    np.testing.assert_allclose(
        transformed(image, False, 0.4 + math.pi / 2, (7, 4)), np.rot90(wide, -1), atol=1e-12
    )
    with pytest.raises(ValueError, match="an image of"):
        transformed(np.ones((0, 3)), False, 0.4)


def test_quarters_of_a_turn_are_exact():
    image = np.arange(9.0).reshape(3, 3)
    for k in range(8):
        angle = float(np.float32(k * math.pi / 2))
        want = np.rot90(image, -k)
        np.testing.assert_array_equal(transformed(image, False, angle), want)
        np.testing.assert_array_equal(transformed(image, True, angle), want[::-1])
    both = transformed(np.stack([image, image + 1]).astype(np.int16), True, math.pi)
    assert both.dtype == np.float32
    np.testing.assert_array_equal(both[1], np.rot90(image + 1, 2)[::-1])
    large = transformed(image, False, 0.0, (6, 5))
    assert large.shape == (6, 5)
    np.testing.assert_array_equal(large[1:4, 1:4], image)
    np.testing.assert_array_equal(transformed(large, False, 0.0, (3, 3)), large[1:4, 1:4])
    with pytest.raises(ValueError, match="an image of"):
        transformed(np.ones(3), False, 0.0)


def test_turns_between_are_bilinear():
    image = np.random.default_rng(0).random((7, 7))
    angle = 0.3
    found = transformed(image, False, angle, (9, 9))
    for y, x in itertools.product(range(9), repeat=2):
        v, u = y - 4, x - 4
        sy = v * math.cos(angle) - u * math.sin(angle) + 3
        sx = v * math.sin(angle) + u * math.cos(angle) + 3
        want = 0.0
        if 0 <= sy <= 6 and 0 <= sx <= 6:
            a, b = min(int(sy), 5), min(int(sx), 5)
            f, g = sy - a, sx - b
            want = (1 - f) * ((1 - g) * image[a, b] + g * image[a, b + 1])
            want += f * ((1 - g) * image[a + 1, b] + g * image[a + 1, b + 1])
        assert found[y, x] == pytest.approx(want, abs=1e-12)


def test_records_that_are_none(tmp_path):
    data = bytearray((PINK / "rot_cart_2x2_n3d.bin").read_bytes())
    data[28] = 9
    data[33 + 1 : 33 + 5] = np.float32(np.nan).tobytes()
    (tmp_path / "x").write_bytes(data)
    r = mapix.open(tmp_path / "x")
    for neuron in (0, 1):
        with pytest.raises(ValueError, match="a flip of 0 or 1 and a finite angle"):
            r.best_fit(np.ones((4, 4)), 0, neuron)


# --- pictures -------------------------------------------------------------------------------------


def test_a_picture_of_hexagons(tmp_path):
    pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    from mapix.colour import palette
    from mapix.pink.picture import BACKGROUND

    levels = np.linspace(0, 255, 19).round()
    write_som(tmp_path / "x", np.ones((19, 8, 8)) * levels[:, None, None], layout="hexagonal")
    image = np.asarray(mapix.open(tmp_path / "x").picture(40, 2))
    h, w = 40, 34  # a side of 20: 2 * 20 high, sqrt(3) * 20 wide, made even
    step = 0.75 * h + math.sqrt(3)
    for i, (q, r) in enumerate(cells(5)):
        y = 2 + r * step + h / 2
        x = 2 + (q + r / 2 - 1) * (w + 2) + w / 2
        assert image[int(y), int(x)].tolist() == palette()[int(levels[i])].tolist()
        # left and right corners of the box are outside of the hexagon
        top = int(2 + r * step) + 1
        left = int(2 + (q + r / 2 - 1) * (w + 2)) + 1
        if r == 0:
            assert image[top, left].tolist() == list(BACKGROUND)
    assert image.shape == (round(4 * step) + h + 4, 5 * (w + 2) + 2, 3)


@pytest.mark.parametrize(
    ("shape", "neuron", "size"),
    [
        ((3, 2), (4, 5), (3 * 18 + 2, 2 * 18 + 2)),
        ((4,), (7,), (20, 4 * 18 + 2)),
        ((2, 3, 2), (3, 6, 6), (2 * 18 + 2, 6 * 18 + 2 + 8)),
        ((2, 2), (2, 6, 6), (38, 38)),
        ((2, 2), (1, 40, 40), (38, 38)),
    ],
)
def test_pictures_of_blocks(tmp_path, shape, neuron, size):
    pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    neurons = np.random.default_rng(0).random((*shape, *neuron))
    neurons[(0,) * len(shape)] = np.nan
    write_som(tmp_path / "x", neurons, shape)
    som = mapix.open(tmp_path / "x")
    image = np.asarray(som.picture(16, 2))
    assert image.shape == (*size, 3)
    assert image[3, 3].tolist() == [96, 96, 96]  # what is no number
    each = np.asarray(som.picture(16, 2, each=True))
    assert each.shape == image.shape
    assert (each != image).any()
    if len(neuron) == 3:
        one = np.asarray(som.picture(16, 2, channel=0))
        assert (one != image).any() == (neuron[0] > 1)


def test_pictures_of_numbers(tmp_path):
    pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    from mapix.colour import palette

    away = np.ones((30, 6), np.float32)
    away[np.arange(30), [0] * 20 + [3] * 10] = 0
    write_map(tmp_path / "x", away, (3, 2))
    m = mapix.open(tmp_path / "x")
    image = np.asarray(m.picture(size=10, gap=2))
    assert image[7, 7].tolist() == palette()[255].tolist()
    assert image[19, 19].tolist() == palette()[128].tolist()
    assert image[7, 19].tolist() == palette()[0].tolist()
    image = np.asarray(m.picture([1, 2, np.nan, np.inf, 5, 6], size=10, gap=2))
    assert image[19, 7].tolist() == [96, 96, 96]
    with pytest.raises(ValueError, match="6 numbers"):
        m.picture(np.ones(5))
    with pytest.raises(ValueError, match="size"):
        m.picture(size=3)
    with pytest.raises(mapix.LimitError, match="MOST_PIXELS"):
        m.picture(size=10_000)


def test_pictures_of_data(tmp_path):
    pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    from mapix.colour import palette
    from mapix.pink.picture import BACKGROUND

    levels = np.arange(7)
    write_data(tmp_path / "x", np.ones((7, 4, 4)) * levels[:, None, None])
    data = mapix.open(tmp_path / "x")
    image = np.asarray(data.picture(size=10, gap=2, each=False))
    assert image.shape == (3 * 12 + 2, 3 * 12 + 2, 3)
    for k in range(7):
        colour = image[7 + 12 * (k // 3), 7 + 12 * (k % 3)].tolist()
        assert colour == palette()[round(k * 255 / 6)].tolist()
    assert image[31, 31].tolist() == list(BACKGROUND)
    assert np.asarray(data.picture([3], size=10)).shape == (14, 14, 3)
    with pytest.raises(ValueError, match="no entries"):
        data.picture([])


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    write_som(tmp_path / "x", np.ones((7, 2, 2)), layout="hexagonal")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(mapix.UnsupportedError, match=r"Pillow is needed.*mapix\[images\]"):
        mapix.open(tmp_path / "x").picture()


# --- what every dataset can do --------------------------------------------------------------------


def test_best_matches_are_columns(tmp_path):
    distances = np.random.default_rng(5).random((40, 7)).astype(np.float32)
    distances[3] = np.nan
    distances[8, 2] = np.nan
    write_map(tmp_path / "m", distances, layout="hexagonal")
    m = mapix.open(tmp_path / "m")
    known = np.where(np.isnan(distances), np.inf, distances)
    best, away = known.argmin(axis=1), known.min(axis=1)
    column = m.columns["best_match"]
    assert column.present.tolist() == [k != 3 for k in range(40)]
    assert column.values[column.present].tolist() == np.delete(best, 3).tolist()
    assert m.where("best_match == 2").rows.tolist() == np.flatnonzero(best == 2).tolist()
    far = m.where("best_distance > 0.2 and best_match != 0").rows
    assert far.tolist() == [k for k in range(40) if k != 3 and away[k] > 0.2 and best[k]]
    part = m[::-1].sort_by("best_distance")
    assert part.rows.tolist()[-1] == 3  # without a value
    assert part.columns["best_distance"].values[:39].tolist() == sorted(np.delete(away, 3).tolist())
    assert m.statistics().columns["best_match"].missing == 1
    report = m.verify()
    assert report.damaged == [3, 8]


def test_facts_and_explanations(tmp_path):
    m = mapix.open(PINK / "map_v1_cart_3x2.bin", kind="map")
    facts = m.describe()
    assert (facts["kind"], facts["version"], facts["som_shape"]) == ("map", 1, [3, 2, 1])
    assert "square roots" in m.explain(0)["decodes"]
    assert m.explain(0)["copies_nbytes"] == m.explain(0)["reads_nbytes"] == 24
    assert "square roots" in m.explain(batch=[0])["decodes"]
    raw = mapix.open(PINK / "map_v1_cart_3x2.bin", kind="map", raw=True)
    assert (raw.explain(0)["decodes"], raw.explain(0)["copies_nbytes"]) == ("", 0)
    placed = raw.placement()
    assert (placed.stride, placed.first_at, placed.swap) == (24, raw.offset, 1)
    with pytest.raises(mapix.UnsupportedError, match="computed"):
        m.placement()
    rotation = mapix.open(PINK / "rot_cart_3x2.bin")
    assert list(rotation.columns) == []
    assert rotation.image_shape is None
    assert rotation.batch([0]).images.dtype.names == ("flip", "angle")
    with pytest.raises(mapix.UnsupportedError, match="not converted to numbers"):
        rotation.batch([0], dtype="float32")


def test_channels_come_first(tmp_path):
    want = np.random.default_rng(0).random((6, 3, 5, 4)).astype(np.float32)
    write_data(tmp_path / "d", want)
    data = mapix.open(tmp_path / "d")
    np.testing.assert_array_equal(data.batch([5, 0]).images, want[[5, 0]])
    np.testing.assert_array_equal(data.batch([5, 0], layout="NCHW").images, want[[5, 0]])
    last = want.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(data.batch([5, 0], layout="NHWC").images, last[[5, 0]])
    padded = data.batch([2], pad=(7, 6), pad_value=9.0).images
    assert padded.shape == (1, 3, 7, 6)
    np.testing.assert_array_equal(padded[0, :, :5, :4], want[2])
    assert (padded[0, :, 5:] == 9).all()
    mean = (0.1, 0.2, 0.3)
    found = data.batch([1], dtype="float32", mean=mean, std=2.0).images
    exact = (want[[1]].astype(np.float64) - np.reshape(mean, (3, 1, 1))) / 2
    np.testing.assert_array_equal(found, exact.astype(np.float32))
    np.testing.assert_allclose(data.statistics().pixels.mean, want.mean(axis=(0, 2, 3)), rtol=1e-5)
