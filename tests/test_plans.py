"""Plans, tasks over their parts, and merges: what a job in parts finds is what one finds."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
import pickle
import shutil
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix import iid, plans
from mapix.columns import Column, merged_counts
from mapix.report import Report
from mapix.statistics import (
    STEP,
    ColumnStatistics,
    PixelStatistics,
    Statistics,
    Sums,
    summed,
    sums_of,
)
from mapix.testing import equal, in_other_processes
from mapix.tfrecord.layout import masked
from mapix.vimh import Parameter, Writer
from mapix.vimh.record_index import Moments
from mapix.vimh.statistics import moments_of


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(plans, "LEAST_NBYTES", 1)


def vimh(folder, n, *, mixed=False, seed=0, complete=False):
    rng = np.random.default_rng(seed)
    with Writer(folder, [Parameter("a", 0), Parameter("b", 1)]) as out:
        for i in range(n):
            codes = {"a": i % 256} | ({"b": 3} if complete or i % 3 else {})
            out.append(rng.integers(0, 256, (4 + mixed * (i % 3), 5, 1), np.uint8), codes=codes)
    return folder


# --- cutting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [1, 7, 8, 20, 1000])
def test_parts_are_at_most_one_record_larger(nbytes):
    sizes = np.array([3, 0, 9, 1, 1, 1, 20, 2, 0, 0, 5])
    found = list(plans.cut(sizes, len(sizes), nbytes))
    assert [row for a, b in found for row in range(a, b)] == list(range(len(sizes)))
    for a, b in found[:-1]:
        assert sizes[a : b - 1].sum() < nbytes <= sizes[a:b].sum()


def test_parts_of_records_of_one_size_have_as_many_each():
    assert list(plans.cut(10, 7, 25)) == [(0, 3), (3, 6), (6, 7)]
    assert list(plans.cut(10, 7, 30)) == [(0, 3), (3, 6), (6, 7)]
    assert list(plans.cut(0, 3, 1)) == [(0, 1), (1, 2), (2, 3)]
    assert list(plans.cut(10, 0, 30)) == [(0, 0)]
    assert list(plans.cut(np.array([], np.int64), 0, 30)) == [(0, 0)]


def test_a_plan_of_files_cuts_between_small_files_and_within_large_ones(tmp_path):
    counts = [3, 2, 40, 1, 0, 5]
    files = [vimh(tmp_path / str(k), n, seed=k, complete=True) for k, n in enumerate(counts)]
    ds = mapix.open(files)
    size = ds._record_sizes()[0]
    parts = ds.plan(6 * int(size))
    files = [[len(file) for file in part.parts] for part in parts]
    assert files == [[3, 2], *[[40]] * 7, [1, 0, 5]]
    assert [len(part) for part in parts] == [5, 6, 6, 6, 6, 6, 6, 4, 6]
    images = [record.image.tobytes() for part in parts for record in part]
    assert images == [record.image.tobytes() for record in ds]
    assert len(pickle.dumps(parts[1])) < len(pickle.dumps(ds)) / 2
    chosen = ds[[50, 0, 4, 20, 21]]
    parts = chosen.plan(2 * int(size))
    assert [[len(file) for file in part.parts] for part in parts] == [[3, 5], [2, 40], [40]]
    parts = [pickle.loads(pickle.dumps(part)) for part in parts]
    images = [record.image.tobytes() for part in parts for record in part]
    assert images == [record.image.tobytes() for record in chosen]


# --- running --------------------------------------------------------------------------------------


def square(x):
    return x * x


def test_a_map_that_is_none_is_an_error(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((50, 4), "u1"))
    ds = mapix.open(tmp_path / "x.npy")
    wrong = (
        (0, ValueError, "a number of threads, at least 1, got 0"),
        ("x", TypeError, "called like the built-in map, or a number of threads, got 'x'"),
        (lambda task, items: [], ValueError, r"map= returned 0 results of 25 parts"),
        (lambda task, items: [None] * 30, ValueError, r"map= returned more than 25 results"),
    )
    for made, kind, reason in wrong:
        with pytest.raises(kind, match=reason):
            list(plans.over(ds, lambda part, progress: None, map=made))


def test_results_come_in_order_with_few_in_memory():
    with ThreadPoolExecutor(3) as pool:
        assert list(plans.mapped(pool.map, square, range(10))) == [x * x for x in range(10)]
    assert list(plans.mapped(2, square, range(10), ahead=4)) == [x * x for x in range(10)]
    begun, used, most = 0, 0, 0

    def eager(task, items):
        nonlocal begun
        found = [task(item) for item in items]
        begun += len(found)
        return found

    for _ in plans.mapped(eager, square, range(100), ahead=6):
        used += 1
        most = max(most, begun - used)
    assert used == 100
    assert most <= 6


def test_two_levels_are_one_map():
    asked = []

    def outer(task, items):
        asked.append(list(items))
        return [task(item) for item in asked[-1]]

    nested = plans.grouped(outer, 4, threads=2)
    assert list(plans.mapped(nested, square, range(10))) == [x * x for x in range(10)]
    assert [len(items) for items in asked[0]] == [4, 4, 2]
    with pytest.raises(ValueError, match="at least 1"):
        plans.grouped(outer, 0)


def opened_in_tasks(part, progress):
    return id(part.source)


def test_another_process_opens_a_file_once(tmp_path):
    ds = mapix.open(vimh(tmp_path / "d", 20))
    found = list(plans.over(ds, opened_in_tasks, map=in_other_processes))
    assert len(found) == 20
    assert len(set(found)) == 1
    assert found[0] != id(ds.source)


def bright(part):
    return np.array([record.image.mean() > 130 for record in part])


def bright_indices(part):
    return np.flatnonzero(bright(part))


@pytest.mark.parametrize("test", [bright, bright_indices])
def test_find_is_where_in_parts(tmp_path, test):
    ds = mapix.open(vimh(tmp_path / "d", 50))[5:]
    wanted = ds.where(bright(ds)).rows.tolist()
    assert 5 < len(wanted) < 40
    seen = []
    for how in (None, 2, in_other_processes):
        found = plans.find(ds, test, map=how, progress=lambda *at: seen.append(at))
        assert found.rows.tolist() == wanted
        assert seen.pop() == (45, 45)


# --- statistics -----------------------------------------------------------------------------------


def test_sums_of_floats_depend_neither_on_order_nor_on_parts(tmp_path):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((300, 3, 4, 2)) * 10.0 ** rng.integers(-200, 100, (300, 1, 1, 1))
    rows = rows.astype(np.float64)
    np.save(tmp_path / "a.npy", rows)
    ds = mapix.open(tmp_path / "a.npy")
    whole = ds.statistics()
    order = rng.permutation(300)
    assert equal(ds[order].statistics(), whole)
    for nbytes in (1, 1000, 20_000):
        assert equal(Statistics.merge(p.statistics() for p in ds.plan(nbytes)), whole)
    for k in range(2):
        exact = [Fraction(float(row[..., k].reshape(-1).sum())) for row in rows]
        assert whole.pixels._sums[k].total == sum(exact)
        assert whole.pixels.mean[k] == float(sum(exact) / (300 * 12))
    assert equal(PixelStatistics.of(summed(rows, 300)), whole.pixels)


def test_the_deviation_of_floats_far_from_zero_does_not_cancel(tmp_path):
    rows = (np.float64(2**26) + np.arange(64) % 2).reshape(64, 1, 1)
    np.save(tmp_path / "a.npy", rows)
    assert mapix.open(tmp_path / "a.npy").statistics().pixels.std[0] == 0.5


@pytest.mark.parametrize(
    "values",
    [
        [1.0, math.inf],
        [1.0, math.nan],
        [math.inf, -math.inf],
        [1e308, 1e308, -1e308],
        [1e308, 1e308],
        [-1e308, -1e308],
        [1e308, 1e308, math.inf],
        [5e-324, 1e308, -1e308],
    ],
)
def test_sums_of_floats_at_the_ends_of_their_range(values):
    array = np.array(values)
    with np.errstate(all="ignore"):
        exact = all(map(math.isfinite, values))
        total = (
            float(sum(map(Fraction, values)) / len(values))
            if exact and abs(sum(map(Fraction, values))) / len(values) < 1.7e308
            else float(array.sum() / len(values))
        )
    for cut in range(len(values) + 1):
        found = sums_of(array[:cut, None]) | sums_of(array[cut:, None])
        mean = PixelStatistics.of([found]).mean[0]
        assert mean == total or (math.isnan(mean) and math.isnan(total))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int16, np.uint8, np.bool_])
def test_sums_of_integers_are_whole_numbers(dtype):
    ends = (0, 1) if dtype == np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = np.array([[ends[0], ends[1], 1], [ends[1], ends[0], 0]], dtype)
    numbers = [int(v) for v in values.ravel()]
    wanted = Sums(6, sum(numbers), sum(v * v for v in numbers), min(numbers), max(numbers))
    assert sums_of(values) == wanted
    assert sums_of(values[:1]) | sums_of(values[1:]) | Sums() == wanted
    n = STEP // 4  # more than two steps
    many = np.tile(values, (1, n))[:, 1:]  # the first column is missing
    first = sums_of(values[:, :1])
    lacking = Sums(6 * n - 2, n * wanted.total - first.total, n * wanted.squares - first.squares)
    assert sums_of(many)[:3] == lacking[:3]
    assert sums_of(many)[3:] == wanted[3:]


def test_counts_of_columns_merge_by_value():
    def of(*values, present=None, dtype=None):
        array = np.array(values, dtype)
        return ColumnStatistics.of(Column("x", array, present))

    whole = of(1.5, 2.0, math.nan, 2.0, math.nan)
    assert equal(ColumnStatistics.merge([of(1.5, 2.0, math.nan), of(2.0, math.nan)]), whole)
    some = ColumnStatistics.merge([of("b", "a", dtype=object), of("b", dtype=object)])
    assert some.unique.tolist() == ["a", "b"]
    assert some.counts.tolist() == [1, 2]
    none = np.zeros(2, bool)
    missing = ColumnStatistics.merge([of(0.0, 0.0, present=none), of(7, 8)])
    assert (missing.n, missing.missing, missing.unique.dtype) == (2, 2, np.int64)
    empty = ColumnStatistics.merge([of(0.0, 0.0, present=none)] * 2)
    assert (empty.n, empty.missing) == (0, 4)
    assert math.isnan(empty.mean)
    unique, counts = merged_counts([(np.array([2, 5]), np.array([1, 1 << 60]))] * 2)
    assert unique.tolist() == [2, 5]
    assert counts.tolist() == [2, 1 << 61]


def test_statistics_of_files_are_those_of_one(tmp_path):
    ds = mapix.open([vimh(tmp_path / str(k), n, seed=k) for k, n in enumerate((9, 0, 14))])
    whole = ds.statistics()
    for how in (2, in_other_processes):
        assert equal(ds.statistics(map=how), whole)
        assert equal(ds[3:20].statistics(map=how), ds[3:20].statistics())
    assert equal(Statistics.merge(file.statistics() for file in ds.parts), whole)
    with pytest.raises(ValueError, match="at least one"):
        Statistics.merge([])


def test_columns_that_a_file_lacks_are_missing(tmp_path):
    with Writer(tmp_path / "1", [Parameter("a", 0)]) as out:
        out.append(np.zeros((4, 5, 1), np.uint8), codes={"a": 9})
    ds = mapix.open([tmp_path / "1", vimh(tmp_path / "2", 5)])
    whole = ds.statistics()
    assert whole.columns["b"].missing == 3
    for how in (2, in_other_processes):
        assert equal(ds.statistics(map=how), whole)


def test_stored_sums_are_used(tmp_path, monkeypatch):
    ds = mapix.open(vimh(tmp_path / "d", 20))
    whole, file = ds.statistics(), ds._gatherer
    file.index = file.index._replace(moments=Moments(moments_of(file, np.arange(20))))
    monkeypatch.setattr("mapix.statistics.over", None)
    assert equal(ds.statistics(map=2), whole)


# --- reports --------------------------------------------------------------------------------------


def damaged_tar(folder):
    path = folder / "a.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(9):
            data = b"x" if i in (2, 7) else b"5"
            member = tarfile.TarInfo(f"{i}.cls")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def damaged_records(folder):
    path, raw = folder / "a.tfrecord", b""
    for i in range(9):
        head, data = (3).to_bytes(8, "little"), b"abc"
        sums = masked(head), masked(data) ^ (i in (1, 8))
        raw += head + sums[0].to_bytes(4, "little") + data + sums[1].to_bytes(4, "little")
    path.write_bytes(raw)
    return path


def damaged_rows(folder):
    rows = np.ones((9, 2, 2), np.float32)
    rows[3, 0], rows[8, 1] = np.inf, np.nan
    np.save(folder / "a.npy", rows)
    return folder / "a.npy"


def damaged_archive(folder):
    with iid.Writer(folder / "a.iid") as out:
        for i in range(9):
            out.add("d", f"s{i}", np.ones((3, 3), bool), at=(i, i))
    raw = bytearray((folder / "a.iid").read_bytes())
    file = mapix.open(folder / "a.iid")._file
    for row in (2, 6):
        at, nbytes = file.regions_at(row)
        raw[at + nbytes - 1] ^= 0x80
    (folder / "a.iid").write_bytes(raw)
    return folder / "a.iid"


def damaged_vimh(folder):
    path = vimh(folder / "d", 9)
    mapix.index(path)
    place = mapix.open(path).source.full_path
    stat = os.stat(place)
    with open(place, "r+b") as f:
        at, last = f.seek(-1, os.SEEK_END), f.read(1)[0]
        f.seek(at)
        f.write(bytes([last ^ 1]))
    os.utime(place, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return path


def damaged_coco(folder):
    images = [{"id": i, "file_name": f"{i}.png", "height": 5, "width": 5} for i in range(6)]
    found = [{"id": i, "image_id": i % 6, "bbox": [0, 0, 9 * (i == 4), 2]} for i in range(9)]
    images[3]["height"] = "five"
    text = {"images": images, "annotations": found, "categories": []}
    (folder / "a.json").write_text(json.dumps(text))
    return folder / "a.json"


def damaged_pictures(folder):
    image = pytest.importorskip("PIL.Image").new("RGB", (5, 4))
    lines = []
    for i in range(9):
        image.save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i % 8}.png", "caption": 5 if i == 6 else "x"}))
    (folder / "3.png").write_bytes(b"nothing")
    (folder / "5.png").unlink()
    lines[1] = "{"
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def damaged_table(folder):
    pa = pytest.importorskip("pyarrow")
    cells = [{"bytes": b"nothing" if i in (2, 5) else None, "path": None} for i in range(9)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind)})
    with pa.ipc.new_file(str(folder / "a.arrow"), table.schema) as out:
        out.write_table(table)
    return folder / "a.arrow"


DAMAGED = [
    damaged_tar,
    damaged_records,
    damaged_rows,
    damaged_archive,
    damaged_vimh,
    damaged_coco,
    damaged_pictures,
    damaged_table,
]


@pytest.mark.parametrize("make", DAMAGED)
def test_reports_in_parts_are_those_of_one(tmp_path, make):
    ds = mapix.open(make(tmp_path))
    whole = ds.verify()
    assert whole.problems
    seen = []
    for how in (2, in_other_processes):
        found = ds.verify(progress=lambda *at: seen.append(at), map=how)
        assert found == whole
        assert str(found) == str(whole)
        assert not seen or len(set(seen.pop())) == 1


def test_reports_of_files_number_records_through_all(tmp_path):
    for k in range(3):
        (tmp_path / str(k)).mkdir()
    paths = [damaged_rows(tmp_path / str(k)) for k in range(3)]
    ds = mapix.open(paths)
    whole = ds.verify()
    assert whole.damaged == [3, 8, 12, 17, 21, 26]
    for how in (2, in_other_processes):
        assert ds.verify(map=how) == whole
    merged = Report.merge(ds.path, [file.verify() for file in ds.parts])
    assert merged == whole


def test_large_files_are_checked_in_parts_each(tmp_path, monkeypatch):
    monkeypatch.setattr("mapix.joined.PART_NBYTES", 100)
    for k in range(2):
        (tmp_path / str(k)).mkdir()
    ds = mapix.open([damaged_rows(tmp_path / str(k)) for k in range(2)])
    whole, tasks = ds.verify(), []

    def counting(task, items):
        tasks.append(len(items))
        return map(task, items)

    assert ds.verify(map=counting) == whole
    assert tasks == [9, 9]


class Short(mapix.Dataset):
    """A family whose ``verify`` knows nothing of parts."""

    FAMILY = "short"
    path, closed = "somewhere", False

    def close(self): ...

    def _count(self):
        return 3

    def _record(self, row):
        return row

    def _part(self, rows):
        made = Short()
        made._rows = rows
        return made

    def _reopening(self): ...

    def verify(self, progress=None):
        return Report(self.path, 3, checked=["all"])


def test_a_family_without_parts_checks_in_one():
    ds = Short()
    assert ds.verify(map=2) == ds.verify() == Report("somewhere", 3, checked=["all"])
    assert [len(part) for part in ds.plan(2)] == [2, 1]
    assert list(plans.over(ds, partial(length, 10), map=2)) == [11, 11, 11]


def length(more, part, progress):
    return len(part) + more


def test_an_index_is_made_in_parts(tmp_path):
    paths = [vimh(tmp_path / k, 40, mixed=True) for k in "ab"]
    seen = []
    made = mapix.index(paths[0]), mapix.index(paths[1], map=3, progress=lambda *at: seen.append(at))
    sums = [mapix.open(path).index.checksums.values.tolist() for path in paths]
    assert sums[0] == sums[1]
    assert len(sums[0]) == 40
    assert all(map(os.path.exists, made))
    assert seen[-1][0] == seen[-1][1]


def test_parts_open_copies_on_another_device_under_the_same_path(tmp_path):
    local = Path("/dev/shm")
    if not local.is_dir() or local.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second device")
    for k in range(2):
        (tmp_path / "data").mkdir(exist_ok=True)
        path = vimh(tmp_path / "data" / str(k), 20, seed=k)
        mapix.index(path)
    ds = mapix.open([tmp_path / "data" / "0", tmp_path / "data" / "1"])
    parts, want = pickle.dumps(ds.plan(300)), [r.image.tolist() for r in ds]
    with tempfile.TemporaryDirectory(dir=local) as copied:
        shutil.copytree(tmp_path / "data", Path(copied) / "data")  # as cp -p does
        (tmp_path / "data").rename(tmp_path / "was")
        (tmp_path / "data").symlink_to(Path(copied) / "data")
        again = pickle.loads(parts)
        assert again[0].parts[0].source.fingerprint.dev != ds.parts[0].source.fingerprint.dev
        assert again[0].parts[0].index.stored
        assert [r.image.tolist() for part in again for r in part] == want
        data = Path(copied) / "data" / "1" / "train"
        os.utime(data, ns=(0, data.stat().st_mtime_ns + 10**10))  # the same bytes, another time
        with pytest.raises(mapix.FileChangedError, match="train"):
            pickle.loads(parts)


def test_a_catalogue_travels_as_its_path(tmp_path):
    shards = [vimh(tmp_path / str(k), n, seed=k, complete=True) for k, n in enumerate((9, 30, 4))]
    mapix.catalogue.write([shard / "train" for shard in shards], tmp_path / "c")
    ds = mapix.open(tmp_path / "c")
    images = [record.image.tobytes() for record in ds]
    size = ds.parts[0]._record_sizes()
    parts = ds.plan(15 * (size if isinstance(size, int) else int(size[0])))
    assert [len(part) for part in parts] == [9, 15, 15, 4]
    assert all(len(pickle.dumps(part)) < 2000 for part in parts)
    again = [pickle.loads(pickle.dumps(part)) for part in parts]
    assert [record.image.tobytes() for part in again for record in part] == images
    for how in (2, in_other_processes):
        assert ds.verify(map=how) == ds.verify()
        assert equal(ds.statistics(map=how), ds.statistics())
        assert equal(ds[3:12].statistics(map=how), ds[3:12].statistics())


@pytest.mark.parametrize("family", ["vimh", "idx", "folder"])
def test_what_was_opened_as_a_directory_is_checked_as_one(tmp_path, family):
    for k in range(2):
        folder = tmp_path / str(k)
        if family == "vimh":
            place = vimh(folder, 5) / "test"
        elif family == "idx":
            folder.mkdir()
            for split in ("train", "t10k"):
                rows = np.zeros((5, 4, 4), np.float32)
                rows[2, 1, 1] = np.nan if split == "t10k" else 0
                place = folder / f"{split}-images-idx3-ubyte"
                mapix.idx.write(place, rows)
        else:
            image = pytest.importorskip("PIL.Image").new("RGB", (5, 4))
            for split in ("train", "test"):
                place = folder / split / "metadata.jsonl"
                place.parent.mkdir(parents=True)
                image.save(place.with_name("a.png"))
                place.write_text(json.dumps({"file_name": "a.png"}))
        if family != "idx":
            place.write_bytes(b"{}" * 50)
    ds = mapix.open([tmp_path / "0", tmp_path / "1"])
    whole = ds.verify()
    assert len(whole.problems) >= 2
    for how in (2, in_other_processes):
        assert ds.verify(map=how) == whole


@pytest.mark.slow
def test_processes_that_share_nothing(tmp_path):
    ds = mapix.open([vimh(tmp_path / str(k), 20, mixed=True, seed=k) for k in range(2)])
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert ds.verify(map=pool.map) == ds.verify()
        assert equal(ds.statistics(map=pool.map), ds.statistics())
        found = plans.find(ds, bright, map=pool.map)
        mapix.convert(ds, tmp_path / "x", to="vimh", map=pool.map)
    assert found.rows.tolist() == ds.where(bright(ds)).rows.tolist()
    images = [record.image.tobytes() for record in mapix.open(tmp_path / "x", split="train")]
    assert images == [record.image.tobytes() for record in ds]
