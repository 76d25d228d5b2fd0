"""Time and memory of one way of reading, in a process of its own.

``python -m mapix.demo.probe mapix|usual|check FILE`` prints the figures as JSON.  A fresh process
for each, because memory that one way has used is seldom given back before the other begins.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.demo import usual

if TYPE_CHECKING:
    from mapix.batch import Batch
    from mapix.vimh import Dataset

__all__ = ["BATCH", "check", "main", "measure_mapix", "measure_usual", "memory"]

BATCH = 256
MEAN, STD = 0.5, 0.25
REPEATS = 30  # batches timed; the median is told
EPOCHS = 3
LOOKS = 20_000  # single records timed

Figures = dict[str, Any]
ROLLUP = "/proc/self/smaps_rollup"


def memory() -> Figures:
    """What this process holds, in bytes.

    Returns
    -------
    dict
        ``private``: memory that is this process's alone and that no file backs (Anonymous and
        Swap of ``smaps_rollup``); ``file``: pages of mapped files, which belong to the page cache;
        ``kind``: what ``private`` is.  Where there is no ``smaps_rollup``, the peak of the resident
        memory stands for ``private``.

    Notes
    -----
    Private_Dirty, or the USS of other tools, would not do: both count the file's own pages as long
    as they wait to be written to disk, or happen to be mapped by one process only.
    """
    try:
        with open(ROLLUP, encoding="ascii") as f:
            lines = [line.split() for line in f]
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"private": peak, "file": 0, "kind": "peak resident memory"}
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}
    return {
        "private": (kib["Anonymous"] + kib.get("Swap", 0)) * 1024,
        "file": (kib["Rss"] - kib["Anonymous"]) * 1024,
        "kind": "private memory",
    }


def _seconds(call: Callable[..., object], *args: object) -> float:
    began = time.perf_counter()
    call(*args)
    return time.perf_counter() - began


def _batches(n: int, count: int) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, n, BATCH) for _ in range(count)]


def _median(call: Callable[[Any], object], batches: Sequence[Any]) -> float:
    """Median seconds of a call; the first tenth of them warms up."""
    took = [_seconds(call, rows) for rows in batches]
    return float(np.median(took[len(took) // 10 :]))


def _canvas(shapes: set[tuple[int, int]]) -> tuple[int, int] | None:
    """What batches are padded to: the largest height and width, or nothing if all are alike."""
    return None if len(shapes) < 2 else (max(h for h, _ in shapes), max(w for _, w in shapes))


class _Ours:
    """Batches of mapix."""

    def __init__(self, ds: Dataset) -> None:
        self.ds = ds
        self.canvas = _canvas({(h, w) for h, w, _ in np.unique(ds.shapes, axis=0).tolist()})

    def pixels(self, rows: NDArray[np.int64]) -> Batch:
        return self.ds.batch(rows, layout="NCHW", pad=self.canvas or False)

    def normalised(self, rows: NDArray[np.int64], out: Any = None) -> Batch:
        return self.ds.batch(
            rows,
            out,
            dtype="float32",
            layout="NCHW",
            scale=1 / 255,
            mean=MEAN,
            std=STD,
            pad=self.canvas or False,
            pad_value=-MEAN / STD,  # what a byte of 0 comes out as
        )


class _Theirs:
    """Batches made the usual way."""

    def __init__(self, loaded: usual.Loaded) -> None:
        self.loaded = loaded
        self.canvas = _canvas({image.shape[1:] for image in loaded.images})
        self._heads = 1 + max((k for labels in loaded.labels for k in labels), default=-1)

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.loaded.codes(rows.tolist(), self._heads)

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.labels(rows)
        return self.loaded.stack(rows.tolist(), self.canvas)

    def normalised(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        self.labels(rows)
        return self.loaded.normalised(rows.tolist(), MEAN, STD, self.canvas)


def _epoch(n: int, batch: Callable[[NDArray[np.int64]], int]) -> tuple[float, int]:
    """Seconds and float bytes of all records once, in random order."""
    order = np.random.default_rng(1).permutation(n)
    nbytes = 0
    began = time.perf_counter()
    for at in range(0, n, BATCH):
        nbytes += batch(order[at : at + BATCH])
    return time.perf_counter() - began, nbytes


def _read(
    n: int,
    pixels: Callable[[Any], object],
    normalised: Callable[[Any], int],
    look: Callable[[int], object],
) -> Figures:
    """Figures that both ways have in common, a cold epoch first."""
    first, nbytes = _epoch(n, normalised)
    epoch = float(np.median([_epoch(n, normalised)[0] for _ in range(EPOCHS)]))
    batches = _batches(n, REPEATS)
    looks = np.random.default_rng(2).integers(0, n, LOOKS).tolist()
    began = time.perf_counter()
    for i in looks:
        look(i)
    image = (time.perf_counter() - began) / LOOKS
    return {
        "nrecords": n,
        "first_epoch": first,
        "epoch": epoch,
        "epoch_nbytes": nbytes,
        "image": image,
        "uint8": _median(pixels, batches),
        "float32": _median(normalised, batches),
    }


def measure_mapix(path: str) -> Figures:
    """Figures of mapix.

    Returns
    -------
    dict
        Seconds: ``open_built`` and ``open_again``; ``image``, ``uint8``, ``float32`` and
        ``reused``, one record and one batch, the last into an array that is there already;
        ``first_epoch`` and ``epoch``, all records as floats in random order.
        Bytes: ``epoch_nbytes`` of floats made; ``memory_open``, ``memory_epoch`` and
        ``memory_file``, as ``memory`` tells, added since before the open.  And ``nrecords``,
        ``kept`` (whether the second open found a stored index), ``memory_kind``.
    """
    import mapix
    import mapix.vimh.opening  # loaded on first use otherwise, which is not what is timed

    before = memory()
    began = time.perf_counter()
    first = mapix.open(path, format="vimh", index="rebuild")
    built = time.perf_counter() - began
    began = time.perf_counter()
    ds = mapix.open(path, format="vimh")
    again = time.perf_counter() - began
    opened = memory()
    first.close()
    del first
    ours = _Ours(ds)
    figures = _read(
        len(ds),
        ours.pixels,
        lambda rows: ours.normalised(rows).images.nbytes,
        lambda i: ds[i].image,
    )
    held = _grown(before, opened, memory())
    batches = _batches(len(ds), REPEATS)
    out = ours.normalised(batches[0]).images  # after memory was looked at: it stays
    return {
        "open_built": built,
        "open_again": again,
        "kept": ds.index.stored,
        "reused": _median(lambda rows: ours.normalised(rows, out), batches),
        **figures,
        **held,
    }


def measure_usual(path: str) -> Figures:
    """Figures of reading the usual way: as ``measure_mapix``, both opens being the load."""
    before = memory()
    began = time.perf_counter()
    loaded = usual.load(path)
    built = time.perf_counter() - began
    opened = memory()
    theirs = _Theirs(loaded)
    figures = _read(
        len(loaded),
        theirs.pixels,
        lambda rows: theirs.normalised(rows).nbytes,
        loaded.images.__getitem__,
    )
    return {
        "open_built": built,
        "open_again": built,
        "kept": False,
        "reused": None,
        **figures,
        **_grown(before, opened, memory()),
    }


def _grown(before: Figures, opened: Figures, after: Figures) -> Figures:
    return {
        "memory_open": max(opened["private"] - before["private"], 0),
        "memory_epoch": max(after["private"] - before["private"], 0),
        "memory_file": max(after["file"] - before["file"], 0),
        "memory_kind": after["kind"],
    }


def check(path: str) -> Figures:
    """Compare what both ways give: all pixels and labels, and some batches of floats.

    Raises
    ------
    ValueError
        They differ; the message says where.
    """
    import mapix

    ds = mapix.open(path, format="vimh")
    loaded = usual.load(path)
    if len(ds) != len(loaded):
        raise ValueError(f"{path}: {len(ds)} records by mapix, {len(loaded)} the usual way")
    ours, theirs = _Ours(ds), _Theirs(loaded)
    for at in range(0, len(ds), BATCH):
        rows = np.arange(at, min(at + BATCH, len(ds)))
        batch = ours.pixels(rows)
        labels = np.asarray(batch.labels)
        same = np.array_equal(batch.images, theirs.pixels(rows))
        if not same or not np.array_equal(labels, theirs.labels(rows)):
            raise ValueError(f"{path}: both ways differ within records {rows[0]}..{rows[-1]}")
    for i in np.random.default_rng(3).integers(0, len(ds), BATCH).tolist():
        if not np.array_equal(ds[i].image, loaded.images[i].transpose(1, 2, 0)):
            raise ValueError(f"{path}: both ways differ in record {i}")
    for rows in _batches(len(ds), 4):
        if not np.allclose(ours.normalised(rows).images, theirs.normalised(rows), 0, 2e-6):
            raise ValueError(f"{path}: both ways differ in floats")
    return {"nrecords": len(ds)}


WAYS: dict[str, Callable[[str], Figures]] = {
    "mapix": measure_mapix,
    "usual": measure_usual,
    "check": check,
}


def main(argv: Sequence[str]) -> int:
    """Run one probe and print its figures as one line of JSON."""
    way, path = argv
    print(json.dumps(WAYS[way](path)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
