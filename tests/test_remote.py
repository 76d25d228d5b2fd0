"""Remote objects: what comes, how often it is asked for, and what bad servers can do.

``test_remote_contract.py`` runs the contract of datasets over a server.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.__main__ import main
from mapix._native.core import ffi, lib
from mapix.remote import arrival, http_object, mirror, opening, settings
from mapix.remote.estimates import Estimates, runs
from mapix.source import Source
from range_server import Handler, Server, serving
from slow_vimh import Slow
from viewers import Client

N, SIDE = 300, 24
ROWS = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), np.uint8)
NBYTES = ROWS[0].nbytes
OLD_NS = 10**18 + 1
PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http_object, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setenv("MAPIX_REMOTE_TIMEOUT", "5")
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as found:
        yield found


@pytest.fixture
def url(server: Server) -> str:
    """The URL of ``ROWS`` as an npy file."""
    np.save(server.folder / "rows.npy", ROWS)
    return f"{server.url}/rows.npy"


def vimh(folder: Path, *, mixed: bool = False, n: int = 60) -> Path:
    """Write a VIMH file."""
    parts = []
    for i in range(n):
        pixels = ROWS[i, : 20 + i % 4 * mixed].tobytes()
        parts.append(Slow(20 + i % 4 * mixed, SIDE, 3, [(0, i)], pixels, (0.0, 1.0)).pack())
    folder.mkdir(exist_ok=True)
    path = folder / "train"
    path.write_bytes(b"".join(parts))
    return path


def remote_of(ds: Any) -> arrival.Arrival:
    found = ds.source.mapping.remote
    assert found is not None
    return found


def ranges_of(server: Server, name: str) -> list[str]:
    return [asked for path, asked in server.requests if path.endswith(name)]


# --- what comes -----------------------------------------------------------------------------------


def test_batches_and_records_are_those_of_the_file(server, url):
    ds = mapix.open(url)
    rows = np.random.default_rng(1).permutation(N)[:64]
    np.testing.assert_array_equal(ds.batch(rows).images, ROWS[rows])
    np.testing.assert_array_equal(ds.batch(rows, threads=4).images, ROWS[rows])
    np.testing.assert_array_equal(ds[5], ROWS[5])
    n = len(server.requests)
    np.testing.assert_array_equal(ds.batch(rows[::-1]).images, ROWS[rows[::-1]])
    assert len(server.requests) == n, "blocks that are there are not requested again"
    again = pickle.loads(pickle.dumps(ds))
    np.testing.assert_array_equal(again.batch(rows).images, ROWS[rows])
    assert len(server.requests) == n + 1, "the mirror serves all who open the same object"


def test_a_random_batch_takes_few_requests(server, url):
    ds = mapix.open(url)
    rows = np.random.default_rng(2).permutation(N)[:64]
    ds.batch(rows)
    assert len(server.requests) < 30  # and not one per record


def test_requests_of_a_batch_run_at_once(server, url, monkeypatch):
    """A server that answers no request before four are there, each after some latency."""
    monkeypatch.setenv("MAPIX_REMOTE_WASTE", "1")
    server.latency_s, four, lock, waiting = 0.02, threading.Event(), threading.Lock(), [0]
    ds = mapix.open(url)

    def far(handler: Handler, n: int) -> bool:
        with lock:
            waiting[0] += 1
            if waiting[0] == 4:
                four.set()
        if not four.wait(20):
            handler.answer(400, b"")
        return not four.is_set()

    server.fault = far
    rows = np.arange(50, N, 16)
    np.testing.assert_array_equal(ds.batch(rows).images, ROWS[rows])
    assert remote_of(ds).estimates.latency_s > 0.01


def test_exact_ranges_read_little_more_than_is_needed(server, monkeypatch):
    monkeypatch.setenv("MAPIX_REMOTE_WASTE", "1")
    big = np.random.default_rng(0).integers(0, 256, (40, 25, PAGE), np.uint8)
    np.save(server.folder / "big.npy", big)
    ds = mapix.open(f"{server.url}/big.npy")
    before, rows = server.sent_nbytes, [3, 30, 17, 9]
    np.testing.assert_array_equal(ds.batch(rows).images, big[rows])
    assert server.sent_nbytes - before <= 1.1 * len(rows) * big[0].nbytes


def test_views_of_all_need_all(server, url):
    ds = mapix.open(url)
    with pytest.raises(mapix.UnsupportedError, match=r"rows\.npy: views of all .* ds\.warm\(\)"):
        ds.view()
    with pytest.raises(mapix.UnsupportedError, match="copy=False|views of all"):
        np.asarray(ds, copy=False) if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else ds.view()
    np.testing.assert_array_equal(np.asarray(ds), ROWS)
    ds.warm()
    n = len(server.requests)
    np.testing.assert_array_equal(ds.view(), ROWS)
    assert len(server.requests) == n


def test_records_are_views_that_stay(url, monkeypatch):
    ds = mapix.open(url)
    record = ds[7]
    assert not record.flags.owndata
    remote_of(ds)._unmap_idle()
    np.testing.assert_array_equal(record, ROWS[7])
    ds.close()
    np.testing.assert_array_equal(record, ROWS[7])
    with pytest.raises(mapix.ClosedError):
        ds[7]


@pytest.mark.parametrize("mixed", [False, True], ids=["uniform", "mixed"])
def test_an_index_beside_the_object(server, mixed):
    path = vimh(server.folder / "d", mixed=mixed)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    mapix.index(path)
    os.utime(path)  # uploading changes times
    local, ds = mapix.open(path, index="never"), mapix.open(f"{server.url}/d/train")
    assert len(server.requests) <= 3
    assert server.sent_nbytes < 30_000
    assert ds.index.stored
    rows = [31, 2, 59]
    how = {"pad": True} if mixed else {}
    for found, want in ((ds.batch(rows, **how), local.batch(rows, **how)),):
        np.testing.assert_array_equal(found.images, want.images)
        np.testing.assert_array_equal(found.labels, want.labels)
    for i in (0, 17, -1):
        np.testing.assert_array_equal(ds[i].image, local[i].image)
        assert ds[i].labels == local[i].labels
    np.testing.assert_array_equal(ds.labels["param_0"].values, np.arange(60))


def test_an_index_of_another_file_is_found_wrong_at_use(server):
    path = vimh(server.folder / "d", mixed=True)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    mapix.index(path)
    data = path.read_bytes()
    first = len(data) // 3
    path.write_bytes(data[:first] + bytes(200) + data[first + 200 :])
    ds = mapix.open(f"{server.url}/d/train")
    with pytest.raises(mapix.FormatError, match="train"):
        ds.batch(np.arange(len(ds)), pad=True)


def test_names_and_points_of_an_archive_read_little(server):
    from mapix import iid

    rng, n = np.random.default_rng(0), 4000
    with iid.Writer(server.folder / "a.iid", index=True) as out:
        for k in range(n):
            at = tuple(rng.integers(0, 9000, 2).tolist())
            out.add(f"d{k % 7}", f"{k}-{'x' * 40}", np.ones((20, 20), bool), at=at)
        again = out.add("d3", f"{10}-{'x' * 40}", np.ones((2, 2), bool))
    here, ds = mapix.open(server.folder / "a.iid"), mapix.open(f"{server.url}/a.iid")
    before = server.sent_nbytes
    assert ds.find("d3", f"{10}-{'x' * 40}").tolist() == [10, again]
    assert ds.find("d3", "x").tolist() == []
    found = ds.find("d5", [f"{k}-{'x' * 40}" for k in (5, 12, 13)])
    assert found.tolist() == [5, 12, -1]
    r, c = here.bboxes[1700, :2].tolist()
    for window in ((r, c, r + 1, c + 1), (4000, 4000, 4200, 4200), (0, 0, 1, 1)):
        assert ds.region(window).tolist() == here.region(window).tolist()
    rows = np.arange(40) * 200
    for one, other in zip(ds.at(rows, rows), here.at(rows, rows), strict=True):
        np.testing.assert_array_equal(one, other)
    assert server.sent_nbytes - before < ds.nbytes / 2
    every = [f"{k}-{'x' * 40}" for k in range(5, n, 7)]
    assert ds.find("d5", every).tolist() == list(range(5, n, 7))


def test_a_folder_and_several_objects(server):
    path = vimh(server.folder / "d")
    local = mapix.open(path)
    ds = mapix.open(f"{server.url}/d/")
    np.testing.assert_array_equal(ds.batch([3, 4]).images, local.batch([3, 4]).images)
    both = mapix.open([f"{server.url}/d/train", f"{server.url}/d/train"])
    rows = [3, 100, 61, 119]
    want = local.batch([3, 40, 1, 59])
    np.testing.assert_array_equal(both.batch(rows).images, want.images)
    np.testing.assert_array_equal(both.batch(rows).labels, want.labels)
    with pytest.raises(mapix.UnknownFormatError, match="the server does not list"):
        mapix.open(f"{server.url}/other/")


def test_a_set_of_archives_and_a_catalogue_beside_its_shards(server):
    from mapix import iid

    for k in range(2):
        with iid.Writer(server.folder / f"c-{k:05}-of-00002.iid", {}) as out:
            out.add("d", f"n{k}", np.ones((4, 4), bool))
    both = mapix.open(f"{server.url}/c-00001-of-00002.iid")
    assert [s.iid for s in both] == [b"n0", b"n1"]
    (server.folder / "c-00000-of-00002.iid").unlink()
    with pytest.raises(mapix.FormatError, match=r"missing: c-00000-of-00002\.iid"):
        mapix.open(f"{server.url}/c-00001-of-00002.iid")

    for k in range(2):
        np.save(server.folder / f"{k}.npy", ROWS[k::2])
    place = server.folder / "all.catalogue"
    mapix.catalogue.write([server.folder / f"{k}.npy" for k in range(2)], place)
    ds = mapix.open(f"{server.url}/all.catalogue")
    assert len(ds) == N
    np.testing.assert_array_equal(ds.batch([0, N - 1]).images, ROWS[[0, N - 1]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds))[1], ROWS[2])
    np.save(server.folder / "1.npy", ROWS[::2])
    with pytest.raises(mapix.FileChangedError, match=r"1\.npy"):
        mapix.open(f"{server.url}/all.catalogue").batch([N - 1])
    np.save(server.folder.parent / "out.npy", ROWS)
    mapix.catalogue.write([server.folder.parent / "out.npy"], server.folder / "other.catalogue")
    with pytest.raises(mapix.FormatError, match="a catalogue at a URL cannot have the path"):
        mapix.open(f"{server.url}/other.catalogue")[0]


def test_a_directory_of_idx_files_by_their_usual_names(server):
    from mapix import idx

    images = {"train": ROWS[:9, ..., 0], "t10k": ROWS[9:15, ..., 0]}
    for name, rows in images.items():
        idx.write(server.folder / f"{name}-images-idx3-ubyte", rows)
        idx.write(server.folder / f"{name}-labels-idx1-ubyte", np.arange(len(rows), dtype="u1"))
    ds = mapix.open(f"{server.url}/")
    np.testing.assert_array_equal(ds.batch([8, 0]).images, images["train"][[8, 0]])
    test = pickle.loads(pickle.dumps(mapix.open(f"{server.url}/", split="test")))
    batch = test.batch([5])
    np.testing.assert_array_equal(batch.images, images["t10k"][[5]])
    assert np.asarray(batch.labels).tolist() == [5]
    assert sorted(ds.splits) == ["test", "train"]


def test_an_image_folder_with_metadata(server):
    image = pytest.importorskip("PIL.Image")
    folder = server.folder / "pictures" / "train"
    folder.mkdir(parents=True)
    lines = []
    for k, name in enumerate(("a.png", "b c.png", "../x.png")):
        lines.append(json.dumps({"file_name": name, "label": k}))
        if k < 2:
            image.fromarray(ROWS[k]).save(folder / name)
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    ds = mapix.open(f"{server.url}/pictures/")
    np.testing.assert_array_equal(ds.batch([1, 0]).images, ROWS[[1, 0]])
    assert ds[1].shape == ROWS[1].shape
    assert ds[1].nbytes == (folder / "b c.png").stat().st_size
    assert ds[0].source.nbytes == (folder / "a.png").stat().st_size
    again = pickle.loads(pickle.dumps(ds[:2]))
    np.testing.assert_array_equal(again.batch([0]).images, ROWS[:1])
    before = len(server.requests)
    again.batch([0, 1])
    assert len(server.requests) == before + 2  # one for each picture
    with pytest.raises(mapix.FormatError, match="leaves the folder"):
        ds[2].read()
    assert bytes(ds[0].bytes) == (folder / "a.png").read_bytes()
    held, before = ds[:2].snapshot(), len(server.requests)
    np.testing.assert_array_equal(held.batch([1, 0]).images, ROWS[[1, 0]])
    assert (held[0].nbytes, bytes(held[1].bytes)) == (ds[0].nbytes, ds[1].read())
    assert len(server.requests) == before + 2  # of ds
    direct = mapix.open(f"{server.url}/pictures/train/metadata.jsonl")
    assert direct.columns["label"].values.tolist() == [0, 1, 2]


def test_a_loader_runs_ahead_and_the_second_epoch_is_local(server, url):
    ds = mapix.open(url)
    loader = mapix.Loader(ds, 50, shuffle=True, seed=4)
    for epoch in range(2):
        n = len(server.requests)
        seen = []
        for batch in loader:
            np.testing.assert_array_equal(batch.images, ROWS[batch.rows])
            seen += batch.rows.tolist()
        assert sorted(seen) == list(range(N))
        assert epoch == 0 or len(server.requests) == n


def test_a_forked_child_reads(url):
    ds = mapix.open(url)
    ds.batch([1])
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(ds.batch([1, 250]).images, ROWS[[1, 250]]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(ds.batch([140]).images, ROWS[[140]])


@pytest.mark.parametrize("unmapped", [False, True])
def test_threads_share_what_comes(server, url, unmapped):
    ds = mapix.open(url)
    wrong: list[int] = []

    def read(seed: int) -> None:
        for rows in np.array_split(np.random.default_rng(seed).permutation(N), 6):
            wrong.extend([] if np.array_equal(ds.batch(rows).images, ROWS[rows]) else [seed])
            if unmapped:  # under the calls of the others
                remote_of(ds)._unmap_idle()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert unmapped or server.sent_nbytes < 3 * ROWS.nbytes


def test_more_stretches_than_can_be_mapped(url, monkeypatch):
    monkeypatch.setattr(arrival, "MOST_EXTENTS", 12)
    monkeypatch.setattr(arrival, "MOST_SPANS", 6)
    monkeypatch.setenv("MAPIX_REMOTE_WASTE", "1")
    ds = mapix.open(url)
    for rows in np.random.default_rng(0).permutation(N).reshape(-1, 10):
        np.testing.assert_array_equal(ds.batch(rows).images, ROWS[rows])
        assert remote_of(ds)._extents <= 12
    held = [ds[i] for i in range(0, 90, 9)]
    np.testing.assert_array_equal(ds.batch(np.arange(N)).images, ROWS)
    for i, record in zip(range(0, 90, 9), held, strict=True):
        np.testing.assert_array_equal(record, ROWS[i])
    remote_of(ds)._unmap_idle()
    with pytest.raises(mapix.LimitError, match=r"ds\.batch"):
        held.extend(ds[i] for i in range(0, N, 15))


def test_a_fault_brings_its_own_block(server, url):
    mapping = mapix.open(url).source.mapping
    at, n = 50 * PAGE + 17, len(server.requests)
    into, where = ffi.new("uint8_t[1]"), ffi.new("mapix_where *")
    assert mapping.guarded(lambda m: lib.mapix_copy(m, at, 1, into, where)) == 0
    assert into[0] == (server.folder / "rows.npy").read_bytes()[at]
    (asked,) = ranges_of(server, "rows.npy")[n:]
    assert asked.startswith(f"bytes={50 * PAGE}-")


# --- the mirror -----------------------------------------------------------------------------------


def test_a_block_counts_only_with_its_number_and_its_sum(url, server, own_cache):
    np.testing.assert_array_equal(mapix.open(url).batch(np.arange(N)).images, ROWS)
    (segment,) = (own_cache / "remote").rglob("*.part")
    place = mirror.LEAST_SEGMENT_NBYTES
    with segment.open("r+b") as f:
        f.seek(10 * PAGE)  # bytes that a power cut lost
        f.write(bytes(PAGE))
        f.seek(place + 4 * 20)  # a number that was not written yet
        f.write(bytes(4))
    n = len(server.requests)
    np.testing.assert_array_equal(mapix.open(url).batch(np.arange(N)).images, ROWS)
    assert 2 <= len(server.requests) - n <= 3


def test_the_disk_space_is_bounded(server, monkeypatch, own_cache):
    monkeypatch.setattr(mirror, "LEAST_SEGMENT_NBYTES", 16 * PAGE)
    monkeypatch.setattr(mirror, "TRIM_NBYTES", 1)
    monkeypatch.setattr(arrival, "MOST_FAULT_NBYTES", arrival.FAULT_NBYTES)  # nothing runs ahead
    monkeypatch.setattr(settings, "LEAST_MIRROR_NBYTES", 1)
    monkeypatch.setenv("MAPIX_REMOTE_WASTE", "1")
    monkeypatch.setenv("MAPIX_REMOTE_MAX_BYTES", str(60 * PAGE))
    rows = np.tile(ROWS, (4, 1, 1, 1))
    np.save(server.folder / "rows.npy", rows)
    ds = mapix.open(f"{server.url}/rows.npy")
    for at in range(0, len(rows), 20):
        np.testing.assert_array_equal(ds.batch(np.arange(at, at + 20)).images, rows[at : at + 20])
    files = (own_cache / "remote").rglob("*.part")
    assert sum(f.stat().st_blocks * 512 for f in files) <= 100 * PAGE  # and not 500
    np.testing.assert_array_equal(ds.batch([0, 1]).images, rows[:2])
    with pytest.raises(mapix.LimitError, match="MAPIX_REMOTE_MAX_BYTES"):
        for _ in ds.source.warm():
            pass


@pytest.mark.slow
def test_processes_share_mirrors_that_are_removed_all_the_time(server, monkeypatch):
    rows = np.tile(ROWS, (6, 1, 1, 1))
    np.save(server.folder / "rows.npy", rows)
    for name, value in {
        (mirror, "LEAST_SEGMENT_NBYTES"): 1 << 18,
        (mirror, "TRIM_NBYTES"): 1 << 17,
        (settings, "LEAST_MIRROR_NBYTES"): 1,
        (arrival, "MOST_EXTENTS"): 200,
        (arrival, "MOST_SPANS"): 90,
    }.items():
        monkeypatch.setattr(*name, value)
    monkeypatch.setenv("MAPIX_REMOTE_MAX_BYTES", str(5 << 18))
    monkeypatch.setenv("MAPIX_REMOTE_WASTE", "2")

    def right(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        held: list[tuple[int, Any]] = []
        for _ in range(12):
            ds = mapix.open(f"{server.url}/rows.npy")
            for _ in range(5):
                chosen = rng.integers(0, len(rows), 24)
                with contextlib.suppress(mapix.LimitError):  # views take the space
                    if not np.array_equal(ds.batch(chosen, threads=2).images, rows[chosen]):
                        return False
                    held = [*held, (int(chosen[0]), ds[int(chosen[0])])][-4:]
                if not all(np.array_equal(view, rows[i]) for i, view in held):
                    return False
        return True

    children = []
    for seed in range(3):
        child = os.fork()
        if not child:
            os._exit(0 if right(seed) else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children] == [0, 0, 0]


def test_the_folder_of_mirrors_is_private(url, own_cache):
    (own_cache / "remote").mkdir()
    (own_cache / "remote").chmod(0o777)
    with pytest.raises(PermissionError, match="MAPIX_CACHE_DIR"):
        mapix.open(url)


def test_a_process_that_begins_the_same_mirror_is_no_error(url, own_cache, monkeypatch):
    replace = os.replace

    def removed_before(new, place):
        os.unlink(new)  # as another process does, which found no description of the object
        replace(new, place)

    with monkeypatch.context() as m:
        m.setattr(os, "replace", removed_before)
        mapix.open(url)
    for _ in range(2):
        np.testing.assert_array_equal(mapix.open(url).batch(np.arange(N)).images, ROWS)
    assert len(list(own_cache.glob("remote/*/about.json"))) == 1


def test_a_mirror_that_is_cut_is_an_error(url, own_cache, monkeypatch):
    monkeypatch.setattr(arrival, "MOST_FAULTS", 3)
    ds = mapix.open(url)
    ds.batch(np.arange(N))
    (segment,) = (own_cache / "remote").rglob("*.part")
    os.truncate(segment, 0)
    with pytest.raises(OSError, match="was cut"):
        ds.batch(np.arange(N))


# --- servers --------------------------------------------------------------------------------------

GOOD = {"ETag": '"x"'}


def short(handler: Handler) -> None:
    handler.answer(206, b"abc", {"Content-Range": handler.expected}, length=5000)
    handler.close_connection = True


def reset(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def busy(handler: Handler) -> None:
    handler.answer(503, b"later", {"Retry-After": "0"})


def elsewhere(handler: Handler) -> None:
    handler.answer(206, bytes(100), {"Content-Range": f"bytes 7-106/{handler.size}"})


def unstated(handler: Handler) -> None:
    handler.answer(206, bytes(100))


def parts(handler: Handler) -> None:
    handler.answer(206, b"--x\r\n", {"Content-Type": "multipart/byteranges; boundary=x"})


def longer(handler: Handler) -> None:
    handler.answer(206, bytes(1 << 20), {"Content-Range": handler.expected})


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x16\x03\x01 nothing that is HTTP\r\n\r\n")
    handler.close_connection = True


FAULTS = [short, reset, busy, elsewhere, unstated, parts, longer, garbage]


def misbehaving(
    server: Server, fault: Callable[[Handler], None], most: float = 1
) -> Callable[[Handler, int], bool]:
    """Answer requests after the next one by a fault, ``most`` times."""
    left = [most]
    size = (server.folder / "rows.npy").stat().st_size

    def answered(handler: Handler, n: int) -> bool:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers["Range"])
        assert found
        if found[1] == "0" or left[0] <= 0:
            return False
        left[0] -= 1
        handler.size = size
        handler.expected = f"bytes {found[1]}-{found[2]}/{size}"
        fault(handler)
        return True

    return answered


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_repeated(server, url, fault):
    ds = mapix.open(url)
    server.fault = misbehaving(server, fault)
    np.testing.assert_array_equal(ds.batch([200, 280]).images, ROWS[[200, 280]])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_an_error(server, url, fault, monkeypatch):
    ds = mapix.open(url)
    n = len(server.requests)
    server.fault = misbehaving(server, fault, np.inf)
    with pytest.raises(OSError, match=r"rows\.npy") as caught:
        ds.batch([200])
    assert caught.value.errno == errno.EIO
    assert "5 tries" in str(caught.value)
    assert len(server.requests) - n <= 2 * http_object.TRIES
    server.fault = None
    np.testing.assert_array_equal(ds.batch([200]).images, ROWS[[200]])


def test_the_complete_object_in_place_of_a_range(server, url):
    ds = mapix.open(url)
    server.ranges_ignored = True
    np.testing.assert_array_equal(ds.batch([200, 280]).images, ROWS[[200, 280]])
    other = mapix.open(url)
    n = len(server.requests)
    np.testing.assert_array_equal(other.batch(np.arange(N)).images, ROWS)
    assert len(server.requests) == n, "an object of a server without ranges is read at once"


def test_a_large_object_needs_a_server_of_ranges(server, url, monkeypatch):
    monkeypatch.setattr(http_object, "COMPLETE_NBYTES", 1000)
    server.ranges_ignored = True
    with pytest.raises(mapix.UnsupportedError, match=f"ranges .* {128 + ROWS.nbytes} bytes"):
        mapix.open(url)


def test_silent_and_slow_servers_end_in_an_error(server, url, monkeypatch):
    monkeypatch.setenv("MAPIX_REMOTE_TIMEOUT", "0.05")
    monkeypatch.setattr(http_object, "SLOWEST_NBYTES_PER_S", 1e9)
    monkeypatch.setattr(http_object, "TRIES", 2)
    ds = mapix.open(url)
    done = threading.Event()

    def silent(handler: Handler) -> None:
        done.wait(2)

    def dripping(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 206 Partial Content\r\n")
        for _ in range(100):
            handler.wfile.write(b"X: y\r\n")
            if done.wait(0.02):
                return

    for fault in (silent, dripping):
        server.fault = misbehaving(server, fault, np.inf)
        start = time.monotonic()
        with pytest.raises(OSError, match="did not come"):
            ds.batch([200])
        assert time.monotonic() - start < 2
    done.set()


def test_an_object_that_changed(server, url):
    path = server.folder / "rows.npy"
    for change in ("content", "size", "gone"):
        np.save(path, ROWS)
        os.utime(path, (1e9, 1e9))
        ds = mapix.open(url)
        blob = pickle.dumps(ds)
        ds.batch([1])
        if change == "content":
            np.save(path, ROWS[::-1])
        elif change == "size":
            np.save(path, ROWS[:200])
        else:
            path.unlink()
        kind = FileNotFoundError if change == "gone" else mapix.FileChangedError
        with pytest.raises(kind, match=r"rows\.npy"):
            ds.batch([299])
        with pytest.raises(kind, match=r"rows\.npy"):
            pickle.loads(blob)


@pytest.mark.parametrize("how", ["date", "weak"])
def test_an_object_without_an_etag_that_is_compared_by_the_server(server, url, how):
    server.etags, server.weak = how == "weak", how == "weak"
    path = server.folder / "rows.npy"
    os.utime(path, (1e9, 1e9))
    ds = mapix.open(url)
    np.testing.assert_array_equal(ds.batch([1]).images, ROWS[[1]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds)).batch([1]).images, ROWS[[1]])
    np.save(path, ROWS[::-1])
    with pytest.raises(mapix.FileChangedError, match="ETag changed|Last-Modified changed"):
        ds.batch([299])


def test_neither_etag_nor_date(server, url, own_cache):
    server.etags = server.dates = False
    with pytest.warns(mapix.MapixWarning, match="neither ETag nor Last-Modified"):
        ds = mapix.open(url)
    np.testing.assert_array_equal(ds.batch([1, 200]).images, ROWS[[1, 200]])
    with (
        pytest.warns(mapix.MapixWarning, match="neither"),
        pytest.raises(mapix.FileChangedError, match="states none"),
    ):
        pickle.loads(pickle.dumps(ds))
    ds.close()
    del ds
    assert not list((own_cache / "remote").iterdir()), "such a mirror is of use to nothing else"


def test_redirects(server, url, tmp_path):
    with serving(server.folder) as other:
        seen: list[str | None] = []

        def redirected(handler: Handler, n: int) -> bool:
            target = server.target.format(other=other.url)
            handler.answer(302, b"", {"Location": target})
            return True

        def noted(handler: Handler, n: int) -> bool:
            seen.append(handler.headers.get("Authorization"))
            return False

        server.fault, other.fault = redirected, noted
        server.target = "{other}/rows.npy"
        ds = mapix.open(url.replace("http://", "http://me:secret@"))
        np.testing.assert_array_equal(ds.batch([200]).images, ROWS[[200]])
        assert seen
        assert set(seen) == {None}, "credentials are for the server of the URL alone"
        assert "secret" not in repr(ds) + ds.path
        for target, error in (
            ("file:///etc/passwd", "from http to file"),
            ("ftp://host/x", "from http to ftp"),
            ("http://[", "not a URL"),
            ("", "not a URL"),
            (url, "more than 5 redirects"),
        ):
            server.target = target
            with pytest.raises(OSError, match=error):
                mapix.open(url)
    secure = object.__new__(http_object.HttpObject)
    secure.url = "https://host/x"
    with pytest.raises(OSError, match="from https to http"):
        secure._redirected("https://host/x", "http://host/x")
    assert secure._redirected("http://host/x", "https://u:p@h2/y") == "https://h2/y"


def test_credentials_are_sent_to_the_server_of_the_url(server, url, monkeypatch, tmp_path):
    seen: list[str | None] = []

    def noted(handler: Handler, n: int) -> bool:
        seen.append(handler.headers.get("Authorization"))
        return False

    server.fault = noted
    mapix.open(url.replace("http://", "http://me:a%20b@"))
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".netrc"
    place.write_text("machine 127.0.0.1 login you password c\n")
    place.chmod(0o600)
    mapix.open(url)
    assert seen[0] == "Basic bWU6YSBi"
    assert seen[-1] == "Basic eW91OmM="


def test_proxies(server, url, monkeypatch):
    seen = []

    def noted(handler: Handler, n: int) -> bool:
        seen.append((handler.path, handler.headers["Host"], handler.headers["Proxy-Authorization"]))
        return False

    def refused(handler: Handler) -> None:
        seen.append((handler.path, handler.headers["Host"], handler.headers["Proxy-Authorization"]))
        handler.answer(407, b"")

    server.fault = noted
    monkeypatch.setattr(Handler, "do_CONNECT", refused, raising=False)
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://me:secret@"))
    monkeypatch.setenv("https_proxy", server.url.replace("http://", ""))
    far = "http://far.invalid:8080/rows.npy"  # no server has such a name
    np.testing.assert_array_equal(mapix.open(far).batch([200]).images, ROWS[[200]])
    assert set(seen) == {(far, "far.invalid:8080", "Basic bWU6c2VjcmV0")}
    seen.clear()
    with pytest.raises(OSError, match=r"https://far\.invalid/x|407"):
        mapix.open("https://far.invalid/x")
    assert [(path, secret) for path, _, secret in seen] == [("far.invalid:443", None)]
    seen.clear()
    mapix.open(url)  # no_proxy has its host
    assert set(seen) == {("/rows.npy", server.url[7:], None)}
    for wrong in ("socks5://x:1", "http://x:y", "http://"):
        monkeypatch.setenv("http_proxy", wrong)
        with pytest.raises(OSError, match="http_proxy is not"):
            mapix.open(far)


def test_errors_of_opening(server):
    for status, kind in ((404, FileNotFoundError), (403, PermissionError), (400, OSError)):
        server.fault = lambda handler, n, status=status: handler.answer(status, b"") or True
        with pytest.raises(kind, match="/nothing"):
            mapix.open(f"{server.url}/nothing")
    server.fault = lambda handler, n: "info" in handler.path and (handler.answer(403, b"") or True)
    path = vimh(server.folder / "d")
    assert len(mapix.open(f"{server.url}/d/train")) == len(mapix.open(path))
    for bad in ("http:///x", "http://host:port/x", "http://host/a b"):
        with pytest.raises(OSError, match="URL"):
            mapix.open(bad)
    with pytest.raises(OSError, match=r"no secure connection: .*'https://") as caught:
        mapix.open(f"{server.url}/x".replace("http:", "https:"))
    assert caught.value.errno == errno.EIO
    with pytest.raises(mapix.UnsupportedError, match=r"mapix\[remote\]|nosuch"):
        mapix.open("nosuch://host/x")
    server.fault = lambda handler, n: handler.answer(200, b"", {"Content-Encoding": "gzip"}) or True
    with pytest.raises(mapix.UnsupportedError, match="compressed"):
        mapix.open(f"{server.url}/x")


def test_a_page_in_place_of_a_file_is_named(server):
    for name in ("page", "page.iid", "page.npy"):
        (server.folder / name).write_bytes(b"<!DOCTYPE html><html><body>Sign in</body></html>" * 9)
        with pytest.raises(mapix.FormatError, match=r"looks like an HTML page; is this the URL"):
            mapix.open(f"{server.url}/{name}")


def test_references_name_urls(server, url):
    ds = mapix.open(url.replace("//", "//me:secret@"))
    refs = mapix.references(ds, rows=50)["refs"]
    at, stride = int(ds.placement().first_at), ds.placement().stride
    found = [refs[name] for name in refs if name.startswith("images/1.")]
    assert found == [[url, at + 50 * stride, 50 * stride]]


def test_a_label_map(server):
    from mapix import iid
    from mapix.iid.label_files import write_strips

    labels = np.arange(6000, dtype=np.uint16).reshape(60, 100)
    np.save(server.folder / "labels.npy", labels)
    write_strips(server.folder / "labels.png", labels.shape, [labels], 5999)
    for name in ("labels.npy", "labels.png"):
        np.testing.assert_array_equal(iid.read_labels(f"{server.url}/{name}"), labels)


def test_a_label_map_in_tiff(server):
    from mapix import iid
    from mapix.iid.label_files import write_strips

    tifffile = pytest.importorskip("tifffile")
    labels = np.arange(6000, dtype=np.uint16).reshape(60, 100)
    write_strips(server.folder / "deflated.tif", labels.shape, [labels[:35], labels[35:]], 5999)
    tifffile.imwrite(server.folder / "plain.tif", labels)
    tifffile.imwrite(server.folder / "tiles.tif", labels, tile=(16, 32))
    for name in ("deflated.tif", "plain.tif", "tiles.tif"):
        found = iid.read_labels(f"{server.url}/{name}")
        np.testing.assert_array_equal(found, labels)
        assert not found.flags.writeable
    for name, raw in (
        ("short.tif", b"II*\0\x08\0\0\0"),
        ("cut.tif", (server.folder / "tiles.tif").read_bytes()[:-500]),
    ):
        (server.folder / name).write_bytes(raw)
        with pytest.raises(mapix.FormatError, match=f"127.*{name}"):
            iid.read_labels(f"{server.url}/{name}")


def test_an_empty_object(server):
    (server.folder / "empty").write_bytes(b"")
    assert Source(f"{server.url}/empty").nbytes == 0
    with pytest.raises(mapix.UnknownFormatError, match="empty"):
        mapix.open(f"{server.url}/empty")


def test_settings_are_checked(monkeypatch):
    for name, read in (
        ("MAPIX_REMOTE_CONNECTIONS", settings.connections),
        ("MAPIX_REMOTE_TIMEOUT", settings.timeout_s),
        ("MAPIX_REMOTE_WASTE", settings.waste),
    ):
        for bad in ("none", "0", "nan"):
            monkeypatch.setenv(name, bad)
            with pytest.raises(ValueError, match=name):
                read()


def test_small_files_beside(server):
    (server.folder / "x.json").write_bytes(bytes(20_000))
    assert opening.read_all(f"{server.url}/x.json", 20_000) == bytes(20_000)
    with pytest.raises(mapix.LimitError, match="x.json"):
        opening.read_all(f"{server.url}/x.json", 19_999)


# --- which ranges ---------------------------------------------------------------------------------


def test_gaps_are_requested_where_a_request_costs_more():
    blocks = np.arange(0, 6400, 10)
    far = Estimates()
    far.latency_s, far.bandwidth = 0.1, 1e9
    near = Estimates()
    near.latency_s, near.bandwidth = 1e-4, 1e6
    assert len(far.plan(blocks, 4096, 8, 100)) < 10
    assert near.plan(blocks, 4096, 8, 100) == runs(blocks)
    assert far.plan(blocks, 4096, 8, 1) == runs(blocks), "exact ranges were asked for"
    long = far.plan(np.arange(8192), 4096, 8, 1)
    assert max(end - first for first, end in long) * 4096 <= 4 << 20
    assert [block for span in long for block in range(*span)] == list(range(8192))


def test_estimates_follow_what_is_measured():
    found = Estimates()
    for _ in range(60):
        found.note(0.2, 0.2 + 1e6 / 5e6, 1_000_000)
    assert found.latency_s == pytest.approx(0.2, rel=0.01)
    assert found.bandwidth == pytest.approx(5e6, rel=0.01)
    for _ in range(60):
        found.note_several(0.2 + 1.0, 8_000_000)
    assert found.seconds(16, 8_000_000, 16) == pytest.approx(1.2, rel=0.02)


def test_runs():
    assert runs(np.array([], np.int64)) == []
    assert runs(np.array([1, 2, 5, 6, 9])) == [(1, 3), (5, 7), (9, 10)]
    assert runs(np.array([1, 2, 5, 6, 9]), 2) == [(1, 10)]


# --- the command line, and the viewer -------------------------------------------------------------


@pytest.mark.slow
def test_commands_take_urls(server, url, capsys, tmp_path):
    path = vimh(server.folder / "d")
    place = f"{server.url}/d/train"
    for command in (
        ["info", place],
        ["head", "-n", "2", place],
        ["get", place, "3"],
        ["query", place, "param_0 < 2"],
        ["verify", place],
        ["stats", place],
        ["columns", place],
        ["diff", place, str(path)],
        ["convert", url, str(tmp_path / "out.idx")],
    ):
        assert main(command) == 0, command
        assert capsys.readouterr().out
    np.testing.assert_array_equal(mapix.open(tmp_path / "out.idx").view(), ROWS)
    assert main(["index", place]) != 0
    assert "put NAME.mapix beside the object" in capsys.readouterr().err
    assert main(["info", f"{server.url}/nothing"]) != 0
    assert "not there (404" in capsys.readouterr().err


def test_the_viewer_shows_an_object(url):
    shown = mapix.view(mapix.open(url), browser=False)
    try:
        client = Client(shown)
        assert client.json("dataset")["records"] == N
        found = client.tiles(start=3, count=5, size=SIDE)["images"]
        assert len(found) == 5
    finally:
        shown.close()
