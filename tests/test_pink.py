"""PINK's files: goldens of the original programs, a slow reader, hostile bytes."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapix
import mapix.pink
from conftest import GOLDEN
from mapix.pink import (
    Data,
    Mapping,
    Rotation,
    Som,
    records,
    write_data,
    write_map,
    write_rot,
    write_som,
)
from mapix.pink.layout import MOST_COMMENT, of_version_1, of_version_2
from mapix.testing import FormatTests
from slow_pink import KINDS, hexagon, pack_1, product, read, version_1, version_2

PINK = GOLDEN / "pink"
TOLD = json.loads((PINK / "manifest.json").read_text())["files"]
GOOD = {k: v for k, v in TOLD.items() if "error" not in v}
SHARED_FOLDER = HealthCheck.function_scoped_fixture
CLASSES = {"data": Data, "som": Som, "map": Mapping, "rot": Rotation}


def sha(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize("name", GOOD)
def test_goldens(name):
    told = GOOD[name]
    a = mapix.open(PINK / name)
    assert type(a) is CLASSES[told["kind"]]
    assert (a.kind, a.version) == (told["kind"], told["version"])
    assert len(a.comment) == told["comment_bytes"]
    assert a.offset == told.get("data_offset", a.offset)
    assert a.layout_field == told.get("layout_field", 0)
    view = a.view()
    assert list(view.shape) == told["shape"]
    assert not view.flags.writeable
    if a.kind == "rot":
        assert sha(a.flip) == told["flip_sha256"]
        assert sha(a.angle) == told["angle_sha256"]
        assert view.dtype.itemsize == 5
    else:
        assert view.dtype == np.dtype(told["dtype"])
        assert sha(view) == told["data_sha256"]
        assert view.ravel()[:3].astype(np.float64).tolist() == told["first"]
    if a.kind == "data":
        assert len(a) == told["entries"]
    else:
        effective = told["layout_effective"]
        assert a.layout == effective or effective == "ambiguous(1x1)"
        assert list(a.som_shape) == told["som_dims"]
        assert a.nneurons == a.lattice.size == told["neurons"]
    if a.kind == "som":
        assert list(a.neuron_shape)[-len(told["neuron_dims"]) :] == told["neuron_dims"]
    if a.kind == "map":
        assert a.squared == told["values"].startswith("SQUARED")
    slow = read((PINK / name).read_bytes())
    assert (slow.kind, slow.layout, slow.version) == (a.kind, a.layout, a.version)
    assert slow.payload == view.tobytes()


def test_the_golden_that_is_broken():
    with pytest.raises(mapix.TruncatedError, match="at byte 44: 2 x 2 is 4 cells of 16 bytes"):
        mapix.open(PINK / "hand_som_truncated.bin")


def test_comments_are_kept():
    assert mapix.open(PINK / "data_v2_2d_6x8x8.bin").header == ()
    unicode = mapix.open(PINK / "hand_data_unicodeheader.bin")
    assert unicode.header[0] == "# ünïcode ☃"
    assert len(unicode.header) == 2
    no_end = mapix.open(PINK / "data_v2_2d_6x8x8_header_noend.bin")
    assert no_end.header
    assert not any("END OF HEADER" in line for line in no_end.header)


def test_files_of_vimh_stay_vimh():
    seen = 0
    for path in sorted((GOLDEN / "vimh").rglob("*")):
        if path.name not in ("train", "test"):
            continue
        try:
            found = mapix.open(path, index="never")
        except TypeError as e:
            pytest.fail(f"{path} went to another format: {e}")
        except mapix.MapixError:
            continue  # broken ones, and test_vimh says how
        assert type(found).__module__.startswith("mapix.vimh"), path
        seen += 1
    assert seen > 5


def test_an_image_of_vimh_that_begins_like_a_comment(tmp_path):
    from slow_vimh import pack, record

    records = pack([record(35, 3, 1, [], seed=k) for k in range(9)])
    assert records[:1] == b"#"
    (tmp_path / "v").write_bytes(records)
    found = mapix.open(tmp_path / "v", dialect=14)
    assert type(found).__module__.startswith("mapix.vimh")
    assert found.shapes.tolist() == [[35, 3, 1]] * 9


# --- what a length leaves open -------------------------------------------------------------------


def test_an_ambiguous_file_raises_with_all_readings(tmp_path):
    path = tmp_path / "x.bin"
    numbers = np.arange(2 * 3 * 8 * 8, dtype=np.float32)
    path.write_bytes(pack_1("data", [2, 3, 8, 8], numbers.tobytes()))
    with pytest.raises(mapix.FormatError, match=r"several.*1 data: 2.*1 map: 2.*kind="):
        mapix.open(path)
    data = mapix.open(path, kind="data")
    assert data.view().shape == (2, 3, 8, 8)
    mapping = mapix.open(path, kind="map")
    assert mapping.som_shape == (3, 8, 8)
    np.testing.assert_array_equal(mapping.view().ravel(), numbers)
    assert mapix.open(path, kind="map", version=1).kind == "map"
    for again in (data, mapping):
        assert pickle.loads(pickle.dumps(again)).kind == again.kind
    with pytest.raises(mapix.FormatError, match="layout of the SOM of 0..1"):
        mapix.open(path, version=2)
    with pytest.raises(mapix.FormatError, match="layout of the SOM of 0..1"):
        mapix.open(path, kind="som")
    for wrong in ({"kind": "image"}, {"version": 3}):
        with pytest.raises(ValueError, match="must be"):
            mapix.open(path, format="pink", **wrong)


def test_what_fits_but_nobody_has_is_told(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(pack_1("data", [2, 1, 8, 6], bytes(4 * 96)))  # not square, and no usual SOM
    with pytest.raises(mapix.FormatError, match="unusual"):
        mapix.open(path)
    assert mapix.open(path, kind="data").view().shape == (2, 1, 8, 6)


def test_version_2_wins_where_it_fits_and_can_be_left_aside(tmp_path):
    told = mapix.open(PINK / "data_v1_2x1ch8x8_ambiguous.bin")
    assert (told.version, told.kind) == (1, "data")
    with pytest.raises(mapix.FormatError, match="som expected|no som"):
        mapix.open(PINK / "map_cart_3x2.bin", kind="som")
    with pytest.raises(ValueError, match="raw= is for mappings"):
        mapix.open(PINK / "data_v1_5x8x8.bin", raw=True)


def test_35_images_of_version_1_begin_with_a_hash(tmp_path):
    want = np.random.default_rng(0).random((35, 1, 4, 4)).astype(np.float32)
    (tmp_path / "x").write_bytes(pack_1("data", [35, 1, 4, 4], want.tobytes()))
    found = mapix.open(tmp_path / "x")
    assert found.comment == b""
    np.testing.assert_array_equal(found.view(), want)


def test_a_hexagon_is_told_by_the_length_whatever_is_stated(tmp_path):
    for layout, strict in (("hexagonal", False), ("hexagonal", True), ("cartesian", False)):
        n = 9 if layout == "cartesian" else 7
        path = tmp_path / f"{layout}{strict}"
        write_map(path, np.ones((4, n)), (3, 3), layout=layout, strict_spec=strict)
        found = mapix.open(path)
        assert (found.layout, found.layout_field) == (layout, int(strict))
    data = bytearray((tmp_path / "cartesianFalse").read_bytes())
    data[16] = 1  # says hexagonal, and is not
    (tmp_path / "x").write_bytes(data)
    assert mapix.open(tmp_path / "x").layout == "cartesian"


def test_entries_and_neurons_that_are_hexagons(tmp_path):
    ints = struct.pack("<8i", 2, 0, 0, 2, 1, 2, 3, 3)
    (tmp_path / "d").write_bytes(ints + np.arange(14, dtype=np.float32).tobytes())
    data = mapix.open(tmp_path / "d")
    assert (data.layout, data.view().shape) == ("hexagonal", (2, 7))
    ints = struct.pack("<11i", 2, 1, 0, 0, 2, 3, 3, 1, 2, 3, 3)
    for n, neurons in ((7 * 7, (7, 7)), (9 * 7, (9, 7)), (9 * 9, (9, 3, 3))):
        (tmp_path / "s").write_bytes(ints + bytes(4 * n))
        assert mapix.open(tmp_path / "s").neurons.shape == neurons


# --- as every format -----------------------------------------------------------------------------


class OfPink(FormatTests):
    """Where damage makes a file a mapping of version 1, its numbers are compared as they are."""

    def open(self, path: Path):
        opened = mapix.open(path, format="pink")  # 0 bytes are VIMH without records
        if (opened.kind, opened.version) == ("map", 1):
            return mapix.open(path, format="pink", raw=True)
        return opened

    def content(self, dataset):
        return [(dataset.kind, dataset.layout, dataset.version, row.tobytes()) for row in dataset]

    def read_slowly(self, data: bytes):
        slow = read(data)
        if slow is None:
            return None
        return [(slow.kind, slow.layout, slow.version, row) for row in slow.rows]

    def arrays(self, dataset, record):
        return [record, dataset.view(), dataset[0]]


class TestData(OfPink):
    def sample(self, folder: Path) -> Path:
        path = folder / "sample.bin"
        write_data(path, np.arange(24).reshape(4, 3, 2) / 7, header=["five words of no use"])
        return path


class TestSom(OfPink):
    def sample(self, folder: Path) -> Path:
        path = folder / "sample.bin"
        neurons = np.arange(14).reshape(7, 1, 2)
        write_som(path, neurons, layout="hexagonal", strict_spec=True, dtype="i2")
        return path


class TestMapping(OfPink):
    def sample(self, folder: Path) -> Path:
        path = folder / "sample.bin"
        write_map(path, np.arange(12).reshape(2, 6), (3, 2))
        return path


class TestRotation(OfPink):
    def sample(self, folder: Path) -> Path:
        path = folder / "sample.bin"
        write_rot(
            path,
            np.arange(14).reshape(2, 7) % 2,
            np.arange(14).reshape(2, 7) / 3,
            (3, 3),
            layout="hexagonal",
        )
        return path

    def test_angles_are_drawn_at_the_places_of_the_neurons(self, tmp_path: Path) -> None:
        with mapix.open(self.sample(tmp_path)) as ds:
            found = ds._thumbnail(1) * 3
            wanted = [[np.nan, 7, 8], [9, 10, 11], [12, 13, np.nan]]
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
            assert ds._drawing(1, 9).shape == (9, 9, 3)


class TestVersion1(OfPink):
    """Entries of a data file; where its bytes become another reading's, the slow reader says so."""

    def sample(self, folder: Path) -> Path:
        path = folder / "sample.bin"
        payload = np.arange(3 * 9, dtype=np.float32).tobytes()
        comment = b"# old\n# END OF HEADER\n"
        path.write_bytes(pack_1("data", [3, 1, 3, 3], payload, comment))
        return path


# --- rows, batches, loaders ----------------------------------------------------------------------


@pytest.mark.parametrize("header", [(), ("x",), ("xy",), ("xyz",)])
@pytest.mark.parametrize("code", ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_batches_from_any_byte_on(tmp_path, header, code):
    rng = np.random.default_rng(0)
    for shape in ((40, 9), (40, 5, 6), (40, 3, 4, 5)):
        want = (rng.random(shape) * 100).astype(code)
        path = tmp_path / f"{len(shape)}.bin"
        write_data(path, want, header=header, dtype=code)
        a = mapix.open(path)
        assert a.dtype == np.dtype(code)
        np.testing.assert_array_equal(a.view(), want)
        rows = [3, -1, 3, 0, 39]
        got = a.batch(rows)
        np.testing.assert_array_equal(got.images, want[rows])
        assert got.images.flags.aligned
        out = np.empty((9, *shape[1:]), code)
        a.batch(rows, out=out)
        np.testing.assert_array_equal(out[:5], want[rows])
        part = a[::-2][[1, 4]]
        np.testing.assert_array_equal(part.batch([1, 0]).images, want[::-2][[4, 1]])
        np.testing.assert_array_equal(part.view(), want[::-2][[1, 4]])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(a[5:1:-1])).view(), want[5:1:-1])
        floats = a.batch(rows, dtype="float32", scale=0.5, mean=1.0, std=4.0).images
        expected = ((want[rows].astype(np.float64) * 0.5 - 1) / 4).astype(np.float32)
        np.testing.assert_allclose(floats, expected, rtol=1e-6, atol=1e-6)
        assert [len(b.images) for b in a.batches(16)] == [16, 16, 8]
        np.testing.assert_array_equal(np.concatenate(list(a.blocks(1000))), want)


def test_pickles_keep_what_was_asked_for(tmp_path):
    m = mapix.open(PINK / "map_v1_cart_3x2.bin", raw=True)
    again = pickle.loads(pickle.dumps(m[1:]))
    assert again.raw
    np.testing.assert_array_equal(again.view(), m.view()[1:])
    np.testing.assert_array_equal(again[0], m.view()[1])


@pytest.mark.torch
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders(tmp_path, workers):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
    want = np.random.default_rng(0).random((50, 3, 4, 5)).astype(np.float32)
    write_data(tmp_path / "x.bin", want, header=["a"])
    data = mapix.open(tmp_path / "x.bin")

    context = {"multiprocessing_context": "spawn"} if workers else {}  # pickled as a path
    loader = torch.utils.data.DataLoader(data, batch_size=16, num_workers=workers, **context)
    np.testing.assert_array_equal(torch.cat(list(loader)).numpy(), want)
    part = torch.utils.data.DataLoader(data[::3], batch_size=5, shuffle=True)
    assert sorted(float(x[0, 0, 0]) for x in torch.cat(list(part))) == sorted(want[::3, 0, 0, 0])


# --- hostile files -------------------------------------------------------------------------------

I = 2**31 - 1  # noqa: E741


@pytest.mark.maps
@pytest.mark.parametrize(
    "ints",
    [
        [2, 0, 0, I, 0, 2, I, I],
        [2, 0, 0, 5, 0, 2, 0, I],
        [2, 0, 0, 0, 0, 2, I, I],
        [2, 0, 0, 0, 0, 2, 65536, 65536],
        [2, 0, 0, 1, 0, 2, -1, -1],
        [2, 0, 0, -1, 0, 1, 4],
        [2, 0, 0, 1, 0, 0],
        [2, 0, 0, 1, 0, 17, *[1] * 17],
        [2, 0, 0, 1, 0, I],
        [2, 0, 10, 1, 0, 1, 4],
        [2, 0, -1, 1, 0, 1, 4],
        [2, 0, 0, 1, 2, 1, 4],
        [2, 4, 0, 1, 0, 1, 4],
        [2, 1, 0, 0, 2, I, I, 0, 2, I, I],
        [2, 1, 0, 0, 2, 65536, 65536, 0, 2, 65536, 65536],
        [2, 1, 0, 0, 1, 4, 0, 1, 0],
        [2, 2, 0, 0, 0, 2, I, I],
        [2, 2, 0, 0, 1, 2, I, I],
        [2, 2, 0, I, 0, 1, 1],
        [2, 3, 0, 0, 2, I, I],
        [2, 3, I, 0, 2, I, I],
        [2, 3, 1, 0, 3, I, I, I],
        [I, I, I, I],
        [I, I, I, I, I, I],
        [1, 1, 1, 1],
        [65536, 65536, 65536, 65536],
        [0, 0, 0, 0],
        [],
    ],
)
@pytest.mark.parametrize("size", [0, 1, 1 << 40])
def test_dimensions_that_lie(tmp_path, ints, size):
    """An error at once, and nothing allocated for what a header asks for."""
    path = tmp_path / "x.bin"
    with path.open("wb") as f:
        f.write(struct.pack(f"<{len(ints)}i", *ints))
        f.truncate(f.tell() + size)
    begin = time.perf_counter()
    with pytest.raises(mapix.MapixError, match="x.bin"):
        mapix.open(path, format="pink")
    assert time.perf_counter() - begin < 5  # no pass over a terabyte
    if ints and ints[0] == 2 and size == 0:
        with pytest.raises(mapix.MapixError, match="x.bin"):
            mapix.open(path)


@pytest.mark.maps
def test_a_sparse_terabyte_that_is_what_it_says(tmp_path):
    path = tmp_path / "x.bin"
    with path.open("wb") as f:
        f.write(struct.pack("<8i", 2, 0, 0, 1 << 20, 0, 2, 512, 512))
        f.truncate(f.tell() + (1 << 40))
    a = mapix.open(path)
    assert a.view().shape == (1 << 20, 512, 512)
    assert not a.batch([1 << 19]).images.any()
    os.truncate(path, 1 << 30)
    with pytest.raises(mapix.FileChangedError):
        a.batch([1 << 19])
    with pytest.raises(mapix.FileChangedError):
        mapix.pink.Mapping.best_distance(_as_map(path, a))


def _as_map(path: Path, a: Data) -> Mapping:
    with path.open("r+b") as f:
        f.write(struct.pack("<8i", 2, 2, 0, 1 << 10, 0, 2, 512, 512))
        f.truncate(32 + (1 << 30))
    m = mapix.open(path)
    os.truncate(path, 1 << 20)
    return m


@pytest.mark.parametrize("text", [b"#" * 100, b"#\n" * 5000, b"# x\n" * 5000 + b"#"])
def test_comments_that_lead_nowhere(tmp_path, text):
    path = tmp_path / "x.bin"
    path.write_bytes(text)
    for options in ({}, {"format": "pink"}):
        with pytest.raises(mapix.MapixError, match="x.bin"):
            mapix.open(path, **options)


@pytest.mark.maps
def test_comments_are_looked_through_up_to_a_limit(tmp_path):
    good = (PINK / "data_v2_2d_6x8x8.bin").read_bytes()
    path = tmp_path / "x.bin"
    for n in (10, 4080, 4096, 5000, 32768 - 20, 300_000, MOST_COMMENT - 20):
        path.write_bytes(b"#" + b"x" * n + b"\n" + good)
        a = mapix.open(path)
        assert a.offset == n + 2 + 32
        assert sha(a.view()) == GOOD["data_v2_2d_6x8x8.bin"]["data_sha256"]
    with path.open("wb") as f:
        f.write(b"#")
        f.seek(1 << 40)
        f.write(b"\n" + good)
    with pytest.raises(mapix.LimitError, match="MOST_COMMENT"):
        mapix.open(path, format="pink")


side = st.sampled_from([1, 1, 2, 3, 3, 5])
dims = st.lists(side, min_size=1, max_size=4) | side.flatmap(
    lambda d: st.sampled_from([[d, d], [d, d, 1], [d, d, 2]])
)
COMMENTS = [b"", b"#\n", b"# a\n# END OF HEADER\n", b"# END OF HEADER\n", b"#", b"# END OF HEADER"]


@st.composite
def files(draw) -> bytes:
    """Files that are one of PINK's, or nearly."""
    n, field, grid = draw(st.integers(0, 3)), draw(st.integers(0, 1)), draw(dims)
    kind = draw(st.integers(0, 3))
    neuron, inner_field = draw(dims), draw(st.integers(0, 1)) * draw(st.integers(0, 1))
    size = 5 if kind == 3 else 4
    cells = draw(st.sampled_from([product(grid), hexagon(grid)]))
    inner = draw(st.sampled_from([product(neuron), hexagon(neuron) if inner_field else 1]))
    if draw(st.booleans()):
        code = draw(st.sampled_from([0, 0, 1, 2, 9]))
        size = size if kind == 3 else int("4812481248"[code])
        ints = [2, kind, *([] if kind == 3 else [code]), *([] if kind == 1 else [n])]
        ints += [field, len(grid), *grid]
        ints += [inner_field, len(neuron), *neuron] if kind == 1 else []
        nbytes = size * cells * (inner if kind == 1 else n)
    else:
        grid = [*grid, 1, 1][:3]
        h, w = draw(side), draw(side)
        ints = [n, *grid, h, w] if kind == 1 else [n, *grid]
        cells = draw(st.sampled_from([product(grid), hexagon(grid)]))
        nbytes = size * n * cells * (h * w if kind == 1 else 1)
    if draw(st.integers(0, 9)) == 0:
        ints[draw(st.integers(0, len(ints) - 1))] = draw(st.sampled_from([-1, 0, 4, 17, 65536, I]))
    nbytes += draw(st.sampled_from([0] * 8 + [-1, 1, -4, 4]))
    head = draw(st.sampled_from(COMMENTS)) + struct.pack(f"<{len(ints)}i", *ints)
    data = head + bytes(min(max(nbytes, 0), 20_000))
    return data[: draw(st.sampled_from([len(data)] * 8 + [len(data) // 2, len(head) - 3]))]


@settings(max_examples=1000, deadline=None)
@given(data=files())
def test_headers_of_all_kinds(data):
    """In the role of a fuzz target: the parser and the slow one agree on any header."""
    slow = version_2(data)
    try:
        fast = of_version_2(data, len(data), "x")
    except mapix.MapixError:
        fast = None
    assert (fast is None) == (slow is None)
    if fast is not None and slow is not None:
        got = (fast.kind, fast.layout, list(fast.dims), list(fast.shape))
        assert got == (slow.kind, slow.layout, slow.dims, slow.shape)
        assert fast.at + product(slow.shape) * fast.dtype.itemsize == len(data)
    found = [(h.kind, h.layout, list(h.dims), list(h.shape), h.usual) for h in firsts(data)]
    usual = [(s.kind, s.layout, s.dims, s.shape) for s in version_1(data)]
    every = [(s.kind, s.layout, s.dims, s.shape) for s in version_1(data, usual=False)]
    assert sorted(g[:4] for g in found) == sorted(every)
    assert sorted(g[:4] for g in found if g[4]) == sorted(usual)


def firsts(data: bytes):
    return list(of_version_1(data, len(data)))


@settings(max_examples=300, deadline=None, suppress_health_check=[SHARED_FOLDER])
@given(
    name=st.sampled_from(sorted(k for k in TOLD if TOLD[k]["bytes"] < 1400)),
    changes=st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 1500),
)
def test_damaged_goldens(tmp_path, name, changes, cut):
    """Any few bytes changed, anything cut: what mapix opens is what the slow reader reads."""
    data = bytearray((PINK / name).read_bytes())
    for at, value in changes:
        if at < len(data):
            data[at] = value
    data = bytes(data[:cut] if cut < 1400 else data)
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    slow = read(data)
    try:
        a = mapix.open(path, format="pink")
    except mapix.MapixError:
        assert slow is None
        return
    assert slow is not None
    assert a.view().tobytes() == slow.payload
    a.close()


def test_every_truncation_and_every_byte_of_a_header(tmp_path):
    """Of a golden of each kind and version, by name of the format."""
    for name in ("som_api_hex1_neuron2d.bin", "map_v1_cart_2x2_3ch.bin", "rot_v1_cart_2x2_3ch.bin"):
        data = (PINK / name).read_bytes()
        bad = [data[:n] for n in range(len(data))]
        for at in range(len(data)):
            bad += [data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :] for bit in (1, 0x80, 0xFF)]
        path = tmp_path / "x.bin"
        for one in bad:
            path.write_bytes(one)
            slow = read(one)
            try:
                a = mapix.open(path, format="pink")
            except mapix.MapixError:
                assert slow is None
                continue
            assert slow is not None
            assert a.view().tobytes() == slow.payload


def test_opening_reads_a_header_and_no_more(tmp_path):
    """O(1): what is read of a large file are its first 4096 bytes."""
    path = tmp_path / "x.bin"
    with path.open("wb") as f:
        f.write(struct.pack("<8i", 2, 0, 0, 1 << 14, 0, 2, 64, 64))
        f.truncate(32 + (1 << 28))
    a = mapix.open(path)
    resident = sum(
        int(line.split()[1])
        for region in Path("/proc/self/smaps").read_text().split("VmFlags")
        if str(path) in region
        for line in region.splitlines()
        if line.startswith("Rss:")
    )
    assert resident <= 64  # kB: readahead maps some pages around the first
    a.close()


def test_copies_of_a_file_may_move(tmp_path):
    shutil.copy(PINK / "map_cart_3x2.bin", tmp_path / "m")
    a = mapix.open(tmp_path / "m")
    view = a.view()
    (tmp_path / "m").unlink()
    assert view.shape == (6, 6)


def test_several_files_are_one_dataset():
    two = mapix.open([PINK / "map_cart_3x2.bin"] * 2)
    one = mapix.open(PINK / "map_cart_3x2.bin")
    np.testing.assert_array_equal(two.batch([7, 0]).images, one.batch([1, 0]).images)
    assert two.columns["best_match"].values.tolist() == one.best_match().tolist() * 2
    with pytest.raises(mapix.UnsupportedError, match="several SOMs"):
        mapix.open([PINK / "som_cart_3x2_neuron2d.bin"] * 2)


assert set(KINDS) == set(CLASSES)
assert records
