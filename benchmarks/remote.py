"""Random batches of a dataset far away, beside other libraries: milliseconds, requests, bytes.

    python benchmarks/remote.py [--latency MS] [--records N] [--connections N ...]
    python benchmarks/remote.py --sizes     # bytes read per needed byte, by size of the records

A server on this machine waits before each response.  Records of 3 KB, 256 at random per batch; each
contender begins with nothing but what opening has read.  Results are compared with the arrays.
Contenders whose libraries are not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

TESTS = Path(__file__).parent.parent / "tests"
SHAPE = (32, 32, 3)
B, BATCHES = 256, 8
COUNTS = "/counts"  # of the server: requests, and bytes that it sent
Read = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def serve(folder: Path, latency_s: float, bandwidth: float) -> None:
    """Serve a folder until the process is killed, by one link of so many bytes per second."""
    sys.path.insert(0, str(TESTS))
    from range_server import Handler, Server

    server, lock, free = Server(folder), threading.Lock(), [0.0]

    def answered(handler: Handler, n: int) -> bool:
        if handler.path != COUNTS:
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
            if found and bandwidth < np.inf:
                with lock:
                    begin = max(free[0], time.monotonic())
                    free[0] = begin + (int(found[2]) - int(found[1])) / bandwidth
                time.sleep(max(0.0, free[0] - time.monotonic()))
            return False
        server.requests.pop()
        handler.answer(200, f"{len(server.requests)} {server.sent_nbytes}".encode())
        return True

    server.fault, server.latency_s = answered, latency_s
    print(server.url, flush=True)
    server.serve_forever()


@contextmanager
def served(folder: Path, latency_s: float, bandwidth: float = np.inf) -> Iterator[str]:
    """Serve a folder from another process; yield the URL."""
    command = [sys.executable, __file__, "--serve", str(folder), "--latency", str(latency_s * 1e3)]
    command += ["--bandwidth", str(bandwidth)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def counts(url: str) -> tuple[int, int]:
    """Return requests so far, and bytes that the server sent."""
    with urlopen(url + COUNTS) as answer:
        requests, nbytes = answer.read().split()
    return int(requests), int(nbytes)


def write(folder: Path, rows: np.ndarray[Any, Any]) -> None:
    """Write the rows in the format of each contender."""
    import mapix

    np.save(folder / "rows.npy", rows)
    with mapix.vimh.Writer(folder / "vimh") as out:
        for row in rows:
            out.append(row)
    mapix.index(folder / "vimh" / "train")
    try:
        import h5py

        with h5py.File(folder / "rows.h5", "w") as f:
            f.create_dataset("x", data=rows, chunks=(1, *SHAPE))
    except ImportError:
        pass
    try:
        import zarr

        zarr.create_array(
            str(folder / "rows.zarr"),
            data=rows,
            chunks=(1, *SHAPE),
            shards=(500, *SHAPE),
            compressors=None,
        )
    except (ImportError, AttributeError):
        pass


def own(url: str, connections: int, name: str) -> Read:
    """Open with mapix."""
    import mapix

    os.environ["MAPIX_REMOTE_CONNECTIONS"] = str(connections)
    os.environ["MAPIX_CACHE_DIR"] = tempfile.mkdtemp(dir=os.environ["MAPIX_BENCH_REMOTE"])
    ds = mapix.open(f"{url}/{name}")
    return lambda rows: ds.batch(rows).images.reshape(-1, *SHAPE)


def by_obstore(url: str) -> Read:
    """Read exact ranges of an npy file by one call."""
    import obstore
    from obstore.store import from_url

    store = from_url(url, client_options={"allow_http": True})
    size, offset = int(np.prod(SHAPE)), 128

    def read(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        starts = [offset + int(row) * size for row in rows]
        found = obstore.get_ranges(store, "rows.npy", starts=starts, lengths=[size] * len(rows))
        return np.stack([np.frombuffer(part, np.uint8).reshape(SHAPE) for part in found])

    return read


def by_fsspec(url: str) -> Read:
    """Read exact ranges of an npy file by fsspec."""
    import fsspec

    fs = fsspec.filesystem("http")
    size, offset = int(np.prod(SHAPE)), 128

    def read(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        starts = [offset + int(row) * size for row in rows]
        ends = [start + size for start in starts]
        found = fs.cat_ranges([f"{url}/rows.npy"] * len(rows), starts, ends)
        return np.stack([np.frombuffer(part, np.uint8).reshape(SHAPE) for part in found])

    return read


def by_h5py(url: str) -> Read:
    """Read rows of an HDF5 file over fsspec."""
    import fsspec
    import h5py

    file = h5py.File(fsspec.open(f"{url}/rows.h5", "rb").open(), "r")
    data = file["x"]

    def read(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        order = np.argsort(rows)
        found = np.empty((len(rows), *SHAPE), np.uint8)
        found[order] = data[rows[order]]
        return found

    return read


def by_zarr(url: str) -> Read:
    """Read rows of a sharded zarr array over fsspec."""
    import zarr

    array = zarr.open_array(f"{url}/rows.zarr", mode="r")
    return lambda rows: array.oindex[rows]


def measure(name: str, url: str, make: Callable[[str], Read], rows: np.ndarray[Any, Any]) -> None:
    """Time batches, compare them, and print a line of the table."""
    rng = np.random.default_rng(1)
    try:
        start, before = time.perf_counter(), counts(url)
        read = make(url)
        opened_ms, after = 1e3 * (time.perf_counter() - start), counts(url)
    except ImportError as e:
        print(f"| {name} | not installed: {e.name} | | | | |")
        return
    times, needed = [], 0
    begin = counts(url)
    for _ in range(BATCHES):
        chosen = rng.choice(len(rows), B, replace=False)
        start = time.perf_counter()
        found = read(chosen)
        times.append(1e3 * (time.perf_counter() - start))
        np.testing.assert_array_equal(found, rows[chosen])
        needed += found.nbytes
    end = counts(url)
    opening = f"{opened_ms:.0f} ms, {after[0] - before[0]}, {(after[1] - before[1]) / 1e3:.0f} KB"
    requests, nbytes = end[0] - begin[0], end[1] - begin[1]
    print(
        f"| {name} | {opening} | {times[0]:.0f} | {statistics.median(times):.0f} | "
        f"{requests / BATCHES:.0f} | {nbytes / needed:.1f} |",
        flush=True,
    )


# --- sizes of records -----------------------------------------------------------------------------

SIZES = {3072: 8000, 10_240: 4000, 40_960: 2000, 153_600: 1000}  # bytes -> records
EXACT = "exact ranges, 16 connections"


def by_size(latency_s: float, bandwidth: float) -> None:
    """Print what random batches and an epoch read, for records of several sizes.

    Exact ranges are what mapix would reach at best if it requested the bytes of records alone.
    """
    print("| bytes of a record | | first batch: ms, read / needed | epoch: s, read / needed |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MAPIX_BENCH_REMOTE"] = scratch
        folder = Path(scratch) / "served"
        folder.mkdir()
        for nbytes, n in SIZES.items():
            np.save(
                folder / "rows.npy", np.random.default_rng(0).integers(0, 256, (n, nbytes), "u1")
            )
            with served(folder, latency_s, bandwidth) as url:
                for name, waste in (("mapix", None), ("mapix, waste 1", "1"), (EXACT, None)):
                    in_child(name, partial(of_size, name, url, folder, nbytes, waste))


def of_size(name: str, url: str, folder: Path, nbytes: int, waste: str | None) -> None:
    """Read a random batch, then an epoch in random order, each from nothing; print a line."""
    rows = np.load(folder / "rows.npy")
    order = np.random.default_rng(1).permutation(len(rows))
    if waste is not None:
        os.environ["MAPIX_REMOTE_WASTE"] = waste
    shown = []
    for chosen, unit in ((order[:B], 1e3), (order, 1.0)):
        if name == EXACT:
            read = exactly(f"{url}/rows.npy", nbytes)
        else:
            os.environ["MAPIX_CACHE_DIR"] = tempfile.mkdtemp(dir=os.environ["MAPIX_BENCH_REMOTE"])
            read = epoch_by_mapix(f"{url}/rows.npy")
        before, start = counts(url)[1], time.perf_counter()
        for at, found in read(chosen):
            np.testing.assert_array_equal(found, rows[chosen[at : at + len(found)]])
        seconds = time.perf_counter() - start
        ratio = (counts(url)[1] - before) / (len(chosen) * nbytes)
        shown.append(f"{unit * seconds:.{2 if unit == 1 else 0}f}, {ratio:.2f}")
    print(f"| {nbytes} | {name} | {shown[0]} | {shown[1]} |", flush=True)


def epoch_by_mapix(url: str) -> Callable[[Any], Iterator[tuple[int, Any]]]:
    """Return a reader of batches whose order is known, as a loader reads them."""
    import mapix

    ds = mapix.open(url)

    def read(rows: np.ndarray[Any, Any]) -> Iterator[tuple[int, Any]]:
        for k, batch in enumerate(ds.batches(B, rows)):
            yield k * B, batch.images.reshape(len(batch.images), -1)

    return read


def exactly(url: str, nbytes: int) -> Callable[[Any], Iterator[tuple[int, Any]]]:
    """Return a reader of exact ranges of an npy file: a request per record, 16 at once."""
    from concurrent.futures import ThreadPoolExecutor

    from mapix.remote import opened

    found, begin = opened(url), 128

    def one(row: int) -> bytearray:
        data = bytearray(nbytes)
        found.read(begin + row * nbytes, memoryview(data))
        return data

    def read(rows: np.ndarray[Any, Any]) -> Iterator[tuple[int, Any]]:
        with ThreadPoolExecutor(16) as pool:
            every = pool.map(one, rows.tolist())
            for at in range(0, len(rows), B):
                some = b"".join(islice(every, B))
                yield at, np.frombuffer(some, np.uint8).reshape(-1, nbytes)

    return read


def main() -> None:
    """Parse arguments, make the data, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=20.0, help="milliseconds per response")
    parser.add_argument("--records", type=int, default=8000)
    parser.add_argument("--connections", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--bandwidth", type=float, default=100e6, help="bytes per s, of --sizes")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve, given.latency / 1e3, given.bandwidth)
        return
    if given.sizes:
        by_size(given.latency / 1e3, given.bandwidth)
        return
    rows = np.random.default_rng(0).integers(0, 256, (given.records, *SHAPE), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MAPIX_BENCH_REMOTE"] = scratch
        folder = Path(scratch) / "served"
        folder.mkdir()
        write(folder, rows)
        print(
            "| | opening: time, requests, bytes | first batch, ms | median, ms | requests "
            "| read / needed |"
        )
        print("|---|---|---|---|---|---|")
        with served(folder, given.latency / 1e3) as url:
            for n in given.connections:
                vimh, npy = f"mapix, VIMH, {n} connections", f"mapix, npy, {n} connections"
                for name, file in ((vimh, "vimh/train"), (npy, "rows.npy")):
                    measure_in_child(name, url, folder, n, file)
            for name, make in (
                ("obstore.get_ranges, npy", by_obstore),
                ("fsspec cat_ranges, npy", by_fsspec),
                ("h5py over fsspec", by_h5py),
                ("zarr, shards of 500", by_zarr),
            ):
                measure(name, url, make, rows)


def measure_in_child(name: str, url: str, folder: Path, connections: int, file: str) -> None:
    """Measure mapix in a process of its own: its threads are created once."""
    rows = np.load(folder / "rows.npy")
    in_child(name, lambda: measure(name, url, lambda u: own(u, connections, file), rows))


def in_child(name: str, act: Callable[[], None]) -> None:
    """Call a function in a forked process."""
    child = os.fork()
    if not child:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(f"{name} failed")


if __name__ == "__main__":
    main()
