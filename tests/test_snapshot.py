"""Snapshots: copies in memory, which nothing that happens to the files concerns.

``FormatTests`` has the right values for every format.
"""

from __future__ import annotations

import faulthandler
import inspect
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest

import mapix
import mapix.folder
from every_operation import families, in_child
from mapix import copies, registry, source
from mapix.drawing import png
from range_server import serving

LIMITS = Path(__file__).parent.parent / "docs" / "limits.md"
X = np.arange(24 * 4096, dtype=np.float32).reshape(24, 4096)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


@pytest.mark.maps
def test_a_view_of_a_snapshot_survives_and_one_of_a_file_does_not(path):
    """The control shows that the test can fail."""
    ds = mapix.open(path)
    view, copied = ds.view(), ds.snapshot().view()
    os.truncate(path, 0)
    assert in_child(lambda: str((copied == X).all())) == "True"
    faulthandler.disable()  # the child is expected to die: without a page of traceback
    try:
        assert in_child(lambda: str((view == X).all())) == f"died of signal {signal.SIGBUS:d}"
    finally:
        faulthandler.enable()


def test_a_snapshot_needs_no_descriptor_and_no_map_of_the_file(path):
    ds = mapix.open(path).snapshot()
    assert path.name not in Path("/proc/self/maps").read_text()
    assert all(
        os.readlink(f"/proc/self/fd/{fd}") != str(path)
        for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{fd}")
    )
    assert ds.source.mapping.limited


def test_what_it_costs_is_limited(path):
    ds = mapix.open(path)
    nbytes = path.stat().st_size
    assert len(ds.snapshot(nbytes)) == len(ds)
    with pytest.raises(mapix.LimitError, match=rf"x.npy: .* {nbytes} bytes or more.*max_nbytes="):
        ds.snapshot(nbytes - 1)
    assert copies.current() is None


@pytest.mark.maps
def test_a_sparse_terabyte_is_refused(tmp_path):
    with open(tmp_path / "sparse.npy", "wb") as f:
        np.lib.format.write_array_header_1_0(
            f, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)}
        )
        f.truncate(f.tell() + (1 << 40))
    with pytest.raises(mapix.LimitError):
        mapix.open(tmp_path / "sparse.npy").snapshot()
    assert copies.current() is None


def test_a_limit_counts_pictures_too(tmp_path):
    with mapix.folder.Writer(tmp_path / "f") as out:
        for k in range(4):
            out.append(f"{k}.png", png(np.full((2, 2), k, np.uint8)))
    ds = mapix.open(tmp_path / "f")
    nbytes = ds.metadata_file.source.nbytes + sum(r.nbytes for r in ds[:3])
    part = ds[:3].snapshot(nbytes)
    with pytest.raises(mapix.LimitError):
        ds[:3].snapshot(nbytes - 1)
    assert part[2].read() == ds[2].read()
    whole = part._part(None)  # of the other records it has the lines alone
    assert whole[3].metadata == ds[3].metadata
    with pytest.raises(OSError, match="not in the snapshot"):
        whole[3].read()


def test_a_file_that_changes_while_it_is_copied(path, monkeypatch):
    ds = mapix.open(path)
    read = source.file_map._read

    def disturbed(*args: object) -> None:
        read(*args)
        with open(path, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            f.write(b"!")
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr(source.file_map, "_read", disturbed)
    with pytest.raises(mapix.FileChangedError, match="while it was copied"):
        ds.snapshot()
    monkeypatch.undo()
    with pytest.raises(mapix.FileChangedError, match="open it again"):
        ds.snapshot()


def test_a_pickle_stands_for_the_file(path):
    snapshot = mapix.open(path).snapshot()
    assert (pickle.loads(pickle.dumps(snapshot)).view() == X).all()
    np.save(path, X[:3])
    with pytest.raises(mapix.FileChangedError):
        pickle.loads(pickle.dumps(snapshot))
    assert (snapshot.view() == X).all()


def test_a_remote_object(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with serving(tmp_path) as server:
        snapshot = mapix.open(f"{server.url}/x.npy").snapshot()
    assert (snapshot.view() == X).all()
    assert not snapshot.view().flags.writeable


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mapix.MapixWarning")
@pytest.mark.parametrize("name", families())
def test_joined_and_other_families(tmp_path, name):
    """Columns, batches and records of each, after all files were overwritten."""
    family = families()[name]
    path = family.make(tmp_path)
    family.open(path).close()
    ds = family.open(path)
    if not isinstance(ds, mapix.Dataset):
        pytest.skip("a model holds its numbers")

    def content(ds: mapix.Dataset) -> list[object]:
        found = [[column.filled().tolist() for column in ds.columns.values()]]
        for row in (0, len(ds) // 2, len(ds) - 1):
            value = ds._content(int(ds.rows[row]))
            found.append(None if value is None else [value.shape, value.tobytes()])
        if not ds.NO_BATCH and ds.image_shape is not None:
            found.append(ds.batch([1, 0, len(ds) - 1]).images.tobytes())
        return found

    expected = content(ds), content(ds[::-7])
    snapshot, part = ds.snapshot(), ds[::-7].snapshot()
    for file in tmp_path.rglob("*"):
        if file.is_file():
            with open(file, "r+b") as f:
                f.write(b"\xaa" * file.stat().st_size)
    assert repr((content(snapshot), content(part))) == repr(expected)


@pytest.mark.parametrize("name", ["folder", "coco", "tar", "tfrecord"])
def test_limits_of_opening_are_checked(tmp_path, name):
    """In one place for all families; docs/limits.md has the table."""
    opener = registry.resolved(registry.named(name).open)
    limits = [p for p in inspect.signature(opener).parameters if p.startswith("max_")]
    assert "max_pixels" in limits
    for limit in limits:
        assert f"`{limit}`" in LIMITS.read_text(encoding="utf-8")
        for wrong in (0, -1, True, 1.5, "9", [1]):
            with pytest.raises(ValueError, match=f"{limit} must be a whole number above 0"):
                opener(tmp_path / "not opened", **{limit: wrong})
