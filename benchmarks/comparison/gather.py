"""``ds.batch`` beside the C function that it calls, a loop of memcpy, numpy and pyarrow.

Records of 784 bytes (IDX), 3 KB and 150 KB (VIMH), in files larger than the last-level cache; into
an array that is given and into a new one, with labels and without, on one thread and on two.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mapix
import reference
from comparison.report import Goal, Report
from comparison.rounds import Case, repeats, seconds, told
from contenders.base import alike
from data_files import FOLDER, count, dataset, held, populate
from mapix import _native, idx
from mapix._native import core
from mapix.batch import Recipe

SIDE = 28
SCALE = 1 / 255
CORE, LOOP = "C gather", "memcpy loop"
LIMIT = "C gather, 2 threads, a batch each"
Work = Callable[[NDArray[np.int64]], Any]


def _mnist() -> Path:
    """MNIST's shape, with labels; a larger file."""
    n = 2 * count("uniform")
    images = FOLDER / f"mnist-{n}-images-idx3-ubyte"
    if not images.exists():
        told(f"making {images.name}")
        rng = np.random.default_rng(0)
        labels = images.with_name(images.name.replace("images-idx3", "labels-idx1"))
        idx.write(labels, rng.integers(0, 10, n, np.uint8), replace=True)
        idx.write(images, rng.integers(0, 256, (n, SIDE, SIDE), np.uint8))
    return images


class Data:
    """A file as mapix has it, as numpy and pyarrow have it, and as C has it."""

    def __init__(self, path: Path, b: int) -> None:
        self.ds, self.b = mapix.open(path), b
        raw = np.asarray(np.memmap(path, np.uint8, "r"))
        self.base = reference.ffi.from_buffer("uint8_t[]", raw)
        self.gatherer = getattr(self.ds, "_gatherer", None)
        if self.gatherer is None:
            self.n, self.shape = len(self.ds), (1, SIDE, SIDE)
            self.stride, self.at, self.table = SIDE * SIDE, 16, self.ds._index
            self.mapping = self.ds._numbers.mapping
            other = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
            self.labels = np.asarray(np.memmap(other, np.uint8, "r", 8))
            raw = raw[self.at :]
        else:
            a = alike(path)
            self.n, self.shape, self.stride, self.at = a.n, (a.c, a.h, a.w), a.stride, a.skip
            self.table, self.mapping = self.gatherer.native, self.gatherer.pixels.mapping
            self.labels = raw.reshape(a.n, -1)[:, a.skip - 2 * a.nlabels + 1 : a.skip : 2]
        self.records = raw.reshape(self.n, self.stride)
        skip = 0 if self.gatherer is None else self.at
        self.images = self.records[:, skip:].reshape(self.n, *self.shape)
        self.nbytes = int(np.prod(self.shape))

    def rows(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Records of a batch."""
        return rng.integers(0, self.n, self.b)

    def core(self, options: dict[str, Any], out: Any, *, labels: bool, threads: int = 1) -> Work:
        """Return the C function with all arguments prepared but the rows and a new output."""
        dtype, layout = options.get("dtype", "uint8"), options.get("layout", "NHWC")
        c, h, w = self.shape
        columns, names = self.gatherer.label_columns if labels and self.gatherer else (None, ())
        recipe = Recipe(
            *(dtype, layout, options.get("scale"), None, None),
            c=c,
            fit=0,
            pad_value=0,
            columns=columns,
            names=names,
        )
        plan = _native.new_gather(recipe.template)
        plan.h, plan.w, plan.nthreads = h, w, threads
        shape = (self.b, h, w, c) if layout == "NHWC" else (self.b, c, h, w)
        plan.images_nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        flat = None
        if options.get("flat"):
            flat = np.arange(self.b + 1, dtype=np.uint64) * np.uint64(self.nbytes)
            plan.flat_at = pointers = core.ffi.from_buffer("uint64_t[]", flat)
            shape = (self.b * self.nbytes,)
        found, present = (np.empty((self.b, len(names)), np.uint8) for _ in range(2))
        if names:
            plan.labels = core.ffi.cast("uint8_t *", found.ctypes.data)
            plan.present = core.ffi.cast("uint8_t *", present.ctypes.data)
        where, table, mapped = core.ffi.new("mapix_where *"), self.table._c, self.mapping.cmap
        keep = (recipe, found, present, flat, None if flat is None else pointers)
        if out is not None:
            plan.images = core.ffi.cast("uint8_t *", out.ctypes.data)
        beside = labels and not names

        def run(rows: NDArray[np.int64], keep: Any = keep) -> Any:
            made = out
            if made is None:
                made = np.empty(shape, dtype)
                plan.images = core.ffi.cast("uint8_t *", made.ctypes.data)
            numbers = core.ffi.from_buffer("int64_t[]", rows)
            if core.lib.mapix_table_gather(mapped, table, numbers, len(rows), plan, where):
                raise AssertionError("the C gather failed")
            return made, self.labels[rows] if beside else found

        return run

    def copied(self, out: Any) -> Work:
        """Return a loop of memcpy."""
        into = reference.pointer("uint8_t[]", out)
        call, skip, nbytes = reference.loaded().ref_copy, self.at, self.nbytes

        def run(rows: NDArray[np.int64]) -> Any:
            numbers = reference.pointer("int64_t[]", rows)
            call(self.base, self.stride, skip, nbytes, numbers, len(rows), into)
            return out

        return run

    def arrow(self) -> Any:
        """Return images as pyarrow has them, a fixed-size array over the records of the map."""
        import pyarrow as pa

        buffer = pa.py_buffer(self.records)
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(self.stride), self.n, [None, buffer])


def _peers(data: Data, options: dict[str, Any]) -> dict[str, Work]:
    """What the same numbers cost with numpy and pyarrow, each written in its fastest way."""
    floats, nhwc = options.get("dtype") == "float32", "layout" not in options
    c, h, w = data.shape
    turned = (data.b, c, h, w) if not nhwc or c == 1 else (data.b, h, w, c)
    room = np.empty((data.b, data.stride), np.uint8)
    out = np.empty(turned, np.float32 if floats else np.uint8)
    if options.get("flat"):
        turned, nhwc = (data.b * data.nbytes,), False
        out = np.empty((data.b, c, h, w), np.uint8)
    skip = data.stride - data.nbytes

    def finished(records: Any) -> Any:
        images = records[:, skip:].reshape(data.b, c, h, w)
        if nhwc and c > 1:
            images = images.transpose(0, 2, 3, 1)
        if floats:
            return np.multiply(images, np.float32(SCALE), out=out)
        if not images.flags.c_contiguous:
            np.copyto(out, images)
            return out
        return images

    def take(rows: Any) -> Any:
        np.take(data.records, rows, 0, room, "clip")
        return finished(room)

    def fancy(rows: Any) -> Any:
        if floats:
            return np.multiply(data.images[rows], np.float32(SCALE), out=out)
        images = data.images[rows]
        if nhwc and c > 1:
            np.copyto(out, images.transpose(0, 2, 3, 1))
            return out
        return images

    found = {"np.take": take, "np.memmap": fancy}
    try:
        import pyarrow as pa
    except ImportError:
        return found
    column = data.arrow()

    def arrow(rows: Any) -> Any:
        taken = column.take(pa.array(rows))
        records = np.frombuffer(taken.buffers()[1], np.uint8).reshape(-1, data.stride)
        return finished(records)

    return {**found, "pyarrow": arrow}


def _case(data: Data, name: str, work: Work) -> Case:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    times = 0

    def run() -> float:
        nonlocal times
        times = times or repeats(lambda: work(data.rows(rng)), 0.004, 64)
        rows = [data.rows(rng) for _ in range(times)]
        work(data.rows(rng))
        # the median, not the mean: other jobs may interrupt a call
        return statistics.median(seconds(lambda r=r: work(r)) for r in rows)  # type: ignore[misc]

    return Case(name, run)


def _works(data: Data, options: dict[str, Any]) -> dict[str, Work]:
    batch, plain = data.ds.batch, {**options, "labels": None}
    empty = data.core(options, None, labels=False)(np.zeros(data.b, np.int64))[0]
    out, again, copy = (np.empty_like(empty) for _ in range(3))
    if data.gatherer is None:
        out = out.reshape(batch([0] * data.b, **options).images.shape)
    works: dict[str, Work] = {
        "out given": lambda r: batch(r, out, **plain),
        "out given, labels": lambda r: batch(r, out, **options),
        "new": lambda r: batch(r, **plain),
        "new, labels": lambda r: batch(r, **options),
        "out given, 2 threads": lambda r: batch(r, out, threads=2, **plain),
        "new, 2 threads": lambda r: batch(r, threads=2, **plain),
    }
    works = {f"ds.batch, {name}": work for name, work in works.items()}
    works |= {
        f"{CORE}, out given": data.core(options, again, labels=False),
        f"{CORE}, out given, labels": data.core(options, again, labels=True),
        f"{CORE}, new": data.core(options, None, labels=False),
        f"{CORE}, new, labels": data.core(options, None, labels=True),
    }
    if empty.dtype == np.uint8 and not (
        "layout" not in options and data.shape[0] > 1 and not options.get("flat")
    ):
        works[LOOP] = data.copied(copy)
    return works | _peers(data, options)


def _at_once(data: Data, name: str, works: list[Work]) -> Case:
    """The C function in two threads at once, a batch each: the limit of what two threads gain.

    Seconds per batch: half of what both take.
    """
    rng = np.random.default_rng(5)
    times = 0

    def run() -> float:
        nonlocal times
        times = times or repeats(lambda: works[0](data.rows(rng)), 0.004, 64)
        rows = [[data.rows(rng) for _ in range(times)] for _ in works]

        def several(k: int) -> None:
            for each in rows[k]:
                works[k](each)

        with ThreadPoolExecutor(len(works)) as pool:
            list(pool.map(several, range(len(works))))  # awake
            return seconds(lambda: list(pool.map(several, range(len(works))))) / (
                times * len(works)
            )

    return Case(name, run)


def _same(works: dict[str, Work], data: Data) -> None:
    """Compare the results of all before anything is timed."""
    rows = np.random.default_rng(3).integers(0, data.n, data.b)
    want = None
    for name, work in works.items():
        got = work(rows)
        got = got[0] if isinstance(got, tuple) else getattr(got, "images", got)
        got = np.array(got).ravel()
        want = got if want is None else want
        if not np.allclose(got, want, rtol=1e-6, atol=0):
            raise AssertionError(f"{name}: other numbers than the first")


def _table(report: Report, data: Data, title: str, options: dict[str, Any]) -> None:
    works = _works(data, options)
    _same(works, data)
    goals = [
        Goal(f"ds.batch, {name}", "at most", 1.05, f"{CORE}, {name}")
        for name in ("out given", "out given, labels", "new", "new, labels")
    ]
    goals += [
        Goal(f"ds.batch, {name}, 2 threads", "faster", 1.6, f"ds.batch, {name}")
        for name in ("out given", "new")
    ]
    goals += [
        Goal("ds.batch, out given", "faster", 1, peer)
        for peer in ("np.take", "np.memmap", "pyarrow")
    ]
    goals.append(Goal("ds.batch, out given, 2 threads", "at most", 1.1, LIMIT))
    cases = [_case(data, name, work) for name, work in works.items()]
    shape = works[f"{CORE}, out given"](np.zeros(data.b, np.int64))[0]
    both = [data.core(options, np.empty_like(shape), labels=False) for _ in range(2)]
    cases.append(_at_once(data, LIMIT, both))
    report.table(title, "us", f"{CORE}, out given", cases, goals)


KINDS: dict[str, dict[str, Any]] = {
    "uint8 NHWC": {},
    "uint8 NCHW": {"layout": "NCHW"},
    "uint8 flat": {"flat": True},
    "float32 NCHW": {"dtype": "float32", "layout": "NCHW", "scale": SCALE},
}


def measure(report: Report, long: bool) -> None:
    """Return nothing; all tables."""
    del long
    files = {
        "784 B": (_mnist(), 256),
        "3 KB": (dataset("uniform"), 256),
        "150 KB": (dataset("large"), 64),
    }
    for size, (path, b) in files.items():
        with held(path):
            data = Data(path, b)
            populate(path)
            for kind, options in KINDS.items():
                if data.gatherer is None and kind in ("uint8 flat", "uint8 NCHW"):
                    continue  # rows of one channel: as NHWC
                _table(report, data, f"{b} records of {size}, {kind}", options)
            data.ds.close()
