"""Whatever mapix itself reads of a file is read under the guard: a cut file is an error.

A cut at a page border faults, a cut inside the last page reads as zeros without any signal.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.vimh import index_store
from records import settle

SIDE = 24


@pytest.fixture(params=["everything", "a page", "inside a page"])
def cut(request: pytest.FixtureRequest) -> Any:
    """Cuts a file that is larger than two pages."""

    def do(path: Path) -> None:
        size = path.stat().st_size
        assert size > 2 * 4096
        left = {"everything": 0, "a page": 4096, "inside a page": size - size % 4096 + 1}
        os.truncate(path, left[request.param])

    return do


def refused(path: Path) -> Any:
    return pytest.raises(mapix.FileChangedError, match=str(path))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.iid"
    with mapix.iid.Writer(path, {}) as out:
        for k in range(600):
            groups = ["even"] if k % 2 == 0 else ["odd"]
            out.add(f"d{k % 3}", f"segment {k}", np.ones((9, 9), bool), groups=[*groups, "all"])
    return path


GROUP_USES = {
    "take": lambda a: a.groups["even"],
    "and": lambda a: a.groups["all"] & a.groups["odd"],
    "of": lambda a: a.groups.of(7),
    "select": lambda a: a.select(groups="odd").keys,
    "domains": lambda a: a.domains,
    "select domains": lambda a: a.select(domains="d1").keys,
    "any domain": lambda a: a.find(iid="segment 7"),
    "region": lambda a: a[7].regions[0].mask(),
    "bits": lambda a: mapix.iid.subset(a, [7], a.path + ".new"),
}


@pytest.mark.parametrize("use", GROUP_USES)
def test_groups_and_names_of_a_cut_archive(archive, cut, use):
    a = mapix.open(archive)
    GROUP_USES["take"](a)
    cut(archive)
    with refused(archive):
        GROUP_USES[use](a)


def test_keys_of_a_group_that_was_taken_are_kept(archive, cut):
    a = mapix.open(archive)
    group, odd = a.groups["even"], a.groups["odd"]
    cut(archive)
    np.testing.assert_array_equal(group.keys, np.arange(0, 600, 2))
    assert len(group | odd) == 600
    with pytest.raises(ValueError, match="WRITEABLE"):
        group.keys.flags.writeable = True


def test_verify_of_a_cut_archive_says_what_is_wrong(archive, cut):
    a = mapix.open(archive)
    assert a.verify().ok
    cut(archive)
    report = a.verify()
    assert not report.ok
    assert "groups" in str(report)


@pytest.fixture(params=["idx", "pink"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray]:
    path = tmp_path / "rows.bin"
    if request.param == "idx":
        numbers = np.arange(60 * SIDE * SIDE, dtype=">i4").reshape(60, SIDE, SIDE)
        mapix.idx.write(path, numbers)
    else:
        numbers = np.arange(60 * SIDE * SIDE, dtype="<f4").reshape(60, SIDE, SIDE)
        mapix.pink.write_data(path, numbers)
    return path, numbers


COPIES = {
    "its own type": lambda ds: np.asarray(ds),
    "another type": lambda ds: np.asarray(ds, dtype=np.float64),
    "a copy": lambda ds: np.array(ds, copy=True),
    "a part": lambda ds: np.asarray(ds[3:50:2], dtype=np.float64),
    "a part by indices": lambda ds: np.asarray(ds[[50, 3, 50]]),
    "its view": lambda ds: ds[[50, 3, 50]].view(),
}
ROWS = {"a part": np.arange(3, 50, 2), "a part by indices": [50, 3, 50], "its view": [50, 3, 50]}


@pytest.mark.parametrize("use", COPIES)
def test_arrays_of_a_cut_file(rows, cut, use):
    path, numbers = rows
    ds = mapix.open(path)
    found = COPIES[use](ds)
    np.testing.assert_array_equal(found, numbers[ROWS.get(use, slice(None))])
    cut(path)
    with refused(path):
        COPIES[use](ds)


def test_an_array_without_a_copy_is_the_file(rows):
    ds = mapix.open(rows[0])
    assert np.shares_memory(ds.__array__(copy=False), ds.view())
    assert not np.shares_memory(np.asarray(ds), ds.view())
    with pytest.raises(ValueError, match="needs a copy"):
        ds.__array__(np.dtype(np.float64), copy=False)


def test_the_distances_of_one_entry_of_a_cut_mapping(tmp_path, cut):
    path = tmp_path / "map.bin"
    squares = np.square(np.arange(50 * 64, dtype="<f4")).reshape(50, 8, 8)
    # version 1: entries, then the SOM's width, height and depth
    path.write_bytes(np.array([50, 8, 8, 1], "<i4").tobytes() + squares.tobytes())
    ds = mapix.open(path, format="pink", kind="map", version=1)
    np.testing.assert_array_equal(ds[49], np.sqrt(squares[49]).reshape(-1))
    cut(path)
    with refused(path):
        ds[49]


# --- stored indexes -------------------------------------------------------------------------------

N = 1500


def write_records(path: Path, *, mixed: bool) -> None:
    def one(k: int) -> bytes:
        h, nlabels = (2 + k % 3, 1 + k % 2) if mixed else (2, 2)
        pairs = bytes([0, k % 251, 1, k % 7])[: 2 * nlabels]
        head = struct.pack("<HHHffB", h, 2, 1, 0, 1, nlabels)
        return head + pairs + bytes([k % 256] * (2 * h))

    path.write_bytes(b"".join(map(one, range(N))))
    settle(path)


@pytest.fixture(params=["uniform", "mixed"])
def indexed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A file, and its index of several pages, with labels, statistics and checksums."""
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)
    path = tmp_path / "train"
    write_records(path, mixed=request.param == "mixed")
    mapix.index(path, dialect=14)
    with mapix.open(path, dialect=14) as ds:
        ds.statistics()
    beside = Path(f"{path}.mapix")
    (beside_too,) = Path(index_store.cache_folder()).iterdir()
    os.replace(beside_too, beside)  # the one with statistics
    return path, beside


DAMAGES = {
    "cut": lambda p, size: os.truncate(p, 0),
    "cut to its header": lambda p, size: os.truncate(p, 4096),
    "cut inside the last page": lambda p, size: os.truncate(p, size - size % 4096 + 1),
    "zeroed": lambda p, size: (os.truncate(p, 4096), os.truncate(p, size)),
    "end zeroed": lambda p, size: (os.truncate(p, size // 2), os.truncate(p, size)),
}

USES: dict[str, Any] = {
    "record": lambda ds: (ds[N - 1].labels, ds[N - 1].image.tolist(), ds[7].spec_range),
    "batch": lambda ds: ds.batch([3, N - 3, N - 1]).images.tolist(),
    "flat": lambda ds: ds.batch([3, N - 1], flat=True).images.tolist(),
    "pad": lambda ds: ds.batch([3, N - 1], pad=True).images.tolist(),
    "batch_shape": lambda ds: ds.batch_shape([3, N - 1], pad=True),
    "shapes": lambda ds: ds.shapes.tolist(),
    "offsets": lambda ds: ds.offsets.tolist(),
    "label_counts": lambda ds: ds.label_counts.tolist(),
    "labels": lambda ds: [ds.labels[name].codes.tolist() for name in ds.labels],
    "present": lambda ds: [ds.labels[name].present.tolist() for name in ds.labels],
    "where": lambda ds: ds.where("param_0 > 100").rows.tolist(),
    "sort_by": lambda ds: ds.sort_by("param_1").rows.tolist(),
    "split": lambda ds: [d.rows.tolist() for d in ds.split(seed=1, stratify="param_0")],
    "weights": lambda ds: ds.weights("param_0").tolist(),
    "statistics": lambda ds: str(ds.statistics()),
    "prefetch": lambda ds: ds.prefetch([N - 1]) >= 0,
    "repr": lambda ds: repr(ds),
    "batches": lambda ds: [b.images.sum() for b in ds.batches(400, pad=True)],
    "part": lambda ds: ds[5:N:7][9].labels,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.filterwarnings("ignore:.*indexed anew:mapix.MapixWarning")
def test_an_index_that_is_damaged_while_it_is_used(indexed, damage, request):
    """Whatever happens to the index, the file has all that is asked for."""
    path, index = indexed
    if "mixed" in request.node.callspec.id:
        uses = {k: v for k, v in USES.items() if k not in ("batch",)}
    else:
        uses = USES
    with mapix.open(path, dialect=14, index="never") as ds:
        want = {name: use(ds) for name, use in uses.items()}
    whole = index.read_bytes()
    for name, use in uses.items():
        for used_before in (False, True):
            ds = mapix.open(path, dialect=14)
            assert ds.index.stored
            assert ds.index.checksums is not None
            if used_before:
                use(ds)
            DAMAGES[damage](index, len(whole))
            assert use(ds) == want[name], (name, used_before)
            assert use(ds) == want[name], (name, used_before)
            ds.close()
            index.unlink()
            index.write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.filterwarnings("ignore:.*indexed anew:mapix.MapixWarning")
def test_verify_names_a_damaged_index(indexed, damage, request):
    path, index = indexed
    ds = mapix.open(path, dialect=14)
    assert ds.verify().ok
    DAMAGES[damage](index, index.stat().st_size)
    assert not ds.verify().ok


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.filterwarnings("ignore:.*indexed anew:mapix.MapixWarning")
def test_no_damaged_index_is_stored_again(tmp_path, monkeypatch, damage):
    """Labels are added to a stored index; what was in it before may be damaged by then."""
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)
    path = tmp_path / "train"
    write_records(path, mixed=True)
    mapix.open(path, dialect=14)
    (index,) = Path(index_store.cache_folder()).iterdir()
    ds = mapix.open(path, dialect=14)
    assert ds.index.stored
    DAMAGES[damage](index, index.stat().st_size)
    want = ds.labels["param_0"].codes.tolist()
    again = mapix.open(path, dialect=14)
    assert again.verify().ok
    assert again.labels["param_0"].codes.tolist() == want == [k % 251 for k in range(N)]


def test_an_index_that_cannot_be_made_anew_is_named(indexed):
    """Both files were cut: the one that is asked fails, and is named."""
    path, index = indexed
    ds = mapix.open(path, dialect=14)
    os.truncate(index, 0)
    os.truncate(path, 100)
    for act in (lambda: ds[N - 1].labels, lambda: ds.batch([3, N - 1], pad=True)):
        with pytest.raises(mapix.FileChangedError, match=str(path)):
            act()


VIEWS = """
import os, sys
import numpy as np
import mapix
from mapix.dataset import FileDataset
from mapix.report import Report
from mapix.source import Source


class Views(FileDataset):
    FAMILY = "views"

    def _record(self, row):
        view = np.ndarray((30, 40, 3), "u1", self.source.view, row * 3600)
        return [view, view[::-1], view.transpose(1, 0, 2)[:, ::2]][row % 3]

    def verify(self, progress=None):
        return Report(self.path)


path = sys.argv[1]
with open(path, "wb") as f:
    f.write(np.arange(60 * 3600).astype("u1").tobytes())
ds = Views(Source(path), 60)
for row in range(6):
    assert np.array_equal(ds._image(row), ds[row]), row
ds.batch([0, 3])
os.truncate(path, 4096)
for act in (lambda: ds.batch([57]), lambda: ds.batch([58, 55]), lambda: ds.statistics()):
    try:
        act()
    except mapix.FileChangedError:
        continue
    raise SystemExit("no error")
"""


def test_views_of_other_peoples_formats_are_copied_under_the_guard(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", VIEWS, str(tmp_path / "f")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
