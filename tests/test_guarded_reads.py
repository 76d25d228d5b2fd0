"""Whatever mapix itself reads of a file is read under the guard: a cut file is an error.

A cut at a page border faults, a cut inside the last page reads as zeros without any signal.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix

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
    assert np.shares_memory(np.asarray(ds), ds.view())
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
