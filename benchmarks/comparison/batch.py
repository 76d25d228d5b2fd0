"""A batch of 256 random records: as bytes, as normalised floats, on one thread and on two."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comparison.report import Goal, Report
from comparison.rounds import Case, repeats, seconds
from comparison.stores import Stores, opened

B = 256
LIMIT, FUSED = "C gather", "C fused AVX2"
MEAN, STD = (0.45, 0.5, 0.55), (0.25, 0.225, 0.25)
Work = Callable[[NDArray[np.int64]], Any]


def _case(stores: Stores, name: str, work: Work, note: str = "", *, n: int) -> Case:
    """Batches of records drawn anew for each call."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    count = 0

    def draw() -> NDArray[np.int64]:
        return rng.integers(0, n, B)

    def run() -> float:
        nonlocal count
        count = count or repeats(lambda: work(draw()), 0.003, 16)
        rows = [draw() for _ in range(count)]
        stores.touch(name)
        work(draw())  # wakes what fell asleep during the others' turns
        return sum(seconds(lambda r=r: work(r)) for r in rows) / count  # type: ignore[misc]

    return Case(name, run, note)


def _bytes_cases(stores: Stores, n: int) -> list[Case]:
    ds, limit = stores.open["mapix"].ds, stores.open[LIMIT]
    memmap = stores.open["np.memmap, fixed stride"]
    a = memmap.alike
    nchw = np.empty((B, a.c, a.h, a.w), np.uint8)
    nhwc = np.empty((B, a.h, a.w, a.c), np.uint8)
    again = np.empty_like(nchw)
    raw = np.empty((B, a.stride), np.uint8)
    case = functools.partial(_case, stores, n=n)
    cases = [
        case("mapix", lambda r: ds.batch(r, nchw, layout="NCHW"), "out= reused"),
        case("mapix, fresh output", lambda r: ds.batch(r, layout="NCHW")),
        case("mapix, NHWC", lambda r: ds.batch(r, nhwc), "transposed; out= reused"),
        case("mapix, 2 threads", lambda r: ds.batch(r, nchw, layout="NCHW", threads=2)),
        case(LIMIT, lambda r: limit.batch(r, again), "output reused"),
        case("C gather, fresh output", limit.batch),
        case("np.take of complete records", lambda r: memmap.take(r, raw), "output reused"),
        case("np.stack of views", memmap.stack),
    ]
    others = [s for s in stores.open if s not in ("mapix", LIMIT)]
    return cases + [case(name, stores.open[name].batch) for name in others]


def _bytes(report: Report, stores: Stores, n: int) -> None:
    goals = [
        Goal("mapix", "at most", 1.1, LIMIT),
        Goal("mapix, fresh output", "at most", 1.1, "C gather, fresh output"),
        Goal("mapix, 2 threads", "faster", 1.5, "mapix"),
    ]
    title = f"batch of {B}, uint8: uniform"
    report.table(title, "us", LIMIT, _bytes_cases(stores, n), goals, stores.left_out)


# --- floats -------------------------------------------------------------------------------------


def _torch_work(memmap: Any) -> tuple[Work | None, str]:
    """The way of PyTorch users: index, float, two operations in place; one thread."""
    try:
        import torch
    except ImportError as e:
        return None, str(e)
    torch.set_num_threads(1)
    a = memmap.alike
    # "c": copy on write, never written: PyTorch warns of arrays that are read-only
    rows = torch.from_numpy(np.memmap(memmap.path, np.uint8, "c").reshape(a.n, a.stride))
    rows = torch.from_numpy(np.asarray(rows.numpy()))
    factor = torch.tensor([1 / (255 * s) for s in STD]).view(1, -1, 1, 1)
    offset = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)]).view(1, -1, 1, 1)

    def work(r: NDArray[np.int64]) -> Any:
        images = rows[torch.from_numpy(r)][:, a.skip :].view(-1, a.c, a.h, a.w)
        return images.float().mul_(factor).add_(offset)

    return work, ""


def _numpy_work(memmap: Any) -> tuple[Work, Work]:
    """As it is usually written, which is in float64, and with as few passes as numpy can do."""
    images = memmap.images
    mean, std = (np.array(x)[:, None, None] for x in (MEAN, STD))
    factor, offset = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def usual(r: NDArray[np.int64]) -> Any:
        return ((images[r] / 255 - mean) / std).astype(np.float32)

    def frugal(r: NDArray[np.int64]) -> Any:
        out = np.multiply(images[r], factor, dtype=np.float32)
        out += offset
        return out

    return usual, frugal


def _float_check(works: dict[str, Work], n: int) -> None:
    """All of them give the same numbers, to float32's last few bits."""
    rows = np.random.default_rng(3).integers(0, n, B)
    want = None
    for name, work in works.items():
        got = work(rows)
        got = np.asarray(got.images if hasattr(got, "images") else got)
        want = got.copy() if want is None else want
        if got.shape != want.shape or not np.allclose(got, want, rtol=1e-5, atol=1e-5):
            raise AssertionError(f"{name}: other floats than the first")


def _floats(report: Report, stores: Stores, n: int) -> None:
    ds, limit = stores.open["mapix"].ds, stores.open[LIMIT]
    memmap = stores.open["np.memmap, fixed stride"]
    a = memmap.alike
    out, again = (np.empty((B, a.c, a.h, a.w), np.float32) for _ in range(2))
    affine = np.array([(1 / (255 * s), -m / s) for m, s in zip(MEAN, STD, strict=True)], "f4")
    how = {"dtype": "float32", "layout": "NCHW", "scale": 1 / 255, "mean": MEAN, "std": STD}
    usual, frugal = _numpy_work(memmap)
    works: dict[str, Work] = {
        "mapix": lambda r: ds.batch(r, out, **how),
        "mapix, fresh output": lambda r: ds.batch(r, **how),
        "mapix, 2 threads": lambda r: ds.batch(r, out, threads=2, **how),
        FUSED: lambda r: limit.floats(r, affine, again)[0],
        "numpy, as usually written": usual,
        "numpy, float32, fewest passes": frugal,
    }
    torch_work, why = _torch_work(memmap)
    if torch_work:
        works["torch"] = torch_work
    _float_check(works, n)
    goals = [
        Goal("mapix", "at most", 1.1, FUSED),
        Goal("mapix", "faster", 3.5, "torch"),
        Goal("mapix", "faster", 15, "numpy, as usually written"),
        Goal("mapix, 2 threads", "faster", 1.5, "mapix"),
    ]
    cases = [_case(stores, name, work, n=n) for name, work in works.items()]
    left_out = {} if torch_work else {"torch": why}
    title = f"batch of {B}, float32 NCHW normalised: uniform"
    report.table(title, "us", FUSED, cases, goals, left_out)


# --- mixed sizes --------------------------------------------------------------------------------


def _mixed(report: Report, stores: Stores, n: int) -> None:
    """Flat: all images back to back; per KB, because batches differ in size."""
    ds, limit = stores.open["mapix"].ds, stores.open[LIMIT]
    shapes = ds.shapes.astype(np.int64)
    sizes = shapes.prod(1)
    room, again = (np.empty(int(np.sort(sizes)[-B:].sum()), np.uint8) for _ in range(2))
    works: dict[str, Work] = {
        "mapix": lambda r: ds.batch(r, room, flat=True),
        "mapix, fresh output": lambda r: ds.batch(r, flat=True),
        "mapix, 2 threads": lambda r: ds.batch(r, room, flat=True, threads=2),
        LIMIT: lambda r: limit.batch(r, again),
        "C gather, fresh output": limit.batch,
    }
    works |= {name: s.batch for name, s in stores.open.items() if name not in works}
    rng = np.random.default_rng(5)

    def case(name: str, work: Work) -> Case:
        count = 0

        def run() -> float:
            nonlocal count
            count = count or repeats(lambda: work(rng.integers(0, n, B)), 0.003, 16)
            rows = [rng.integers(0, n, B) for _ in range(count)]
            total = sum(int(sizes[r].sum()) for r in rows)
            stores.touch(name)
            work(rng.integers(0, n, B))
            return sum(seconds(lambda r=r: work(r)) for r in rows) / (total / 1024)  # type: ignore[misc]

        return Case(name, run)

    goals = [
        Goal("mapix", "at most", 1.1, LIMIT),
        Goal("mapix, fresh output", "at most", 1.1, "C gather, fresh output"),
        Goal("mapix, 2 threads", "faster", 1.5, "mapix"),
    ]
    cases = [case(name, work) for name, work in works.items()]
    title = f"batch of {B}, uint8, flat: mixed, per KB of pixels"
    report.table(title, "ns", LIMIT, cases, goals, stores.left_out)


def measure(report: Report, long: bool) -> None:
    """All tables of this measure."""
    with opened("uniform") as stores:
        n = len(stores.open["mapix"].ds)
        _bytes(report, stores, n)
        _floats(report, stores, n)
    with opened("mixed") as stores:
        _mixed(report, stores, len(stores.open["mapix"].ds))
