"""IDX: opening, batches of bytes as floats, batches of big-endian floats, beside other readers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from comparison.report import Goal, Report
from comparison.rounds import Case, seconds, told
from data_files import FOLDER, refill
from mapix.idx import write

N, SIDE = 60_000, 28
B, NBATCHES = 256, 40


def _files() -> tuple[Path, Path]:
    """MNIST's shape: bytes, and big-endian float32."""
    pixels, floats = FOLDER / "mnist-shaped-idx3-ubyte", FOLDER / "mnist-shaped-float.idx"
    rng = np.random.default_rng(0)
    if not pixels.exists():
        told(f"making {pixels.name}")
        write(pixels, rng.integers(0, 256, (N, SIDE, SIDE), np.uint8))
    if not floats.exists():
        told(f"making {floats.name}")
        write(floats, rng.standard_normal((N, SIDE, SIDE), np.float32))
    return pixels, floats


def memmap(path: Path) -> np.ndarray[Any, Any]:
    """Twelve lines of numpy: what who knows the format writes."""
    with path.open("rb") as f:
        head = f.read(4)
        shape = struct.unpack(f">{head[3]}I", f.read(4 * head[3]))
    kind = {8: ">u1", 13: ">f4"}[head[2]]
    return np.memmap(path, kind, "r", 4 + 4 * head[3], shape)


def whole(path: Path) -> np.ndarray[Any, Any]:
    """As torchvision's reader: all bytes read, seen as an array, and turned round."""
    data = path.read_bytes()
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    kind = {8: ">u1", 13: ">f4"}[data[2]]
    return np.frombuffer(data, kind, offset=4 + 4 * data[3]).reshape(shape).astype(kind[1:])


def _readers(path: Path) -> dict[str, Any]:
    """Name -> from a path to something that can be indexed."""
    found: dict[str, Any] = {"np.memmap": memmap, "all read, as torchvision": whole}
    try:
        import idx2numpy

        found["idx2numpy"] = lambda p: idx2numpy.convert_from_file(str(p))
    except ImportError:
        pass
    return found


def opening(report: Report, path: Path) -> None:
    """A path to a copy of the first row."""
    cases = [Case("mapix", lambda: seconds(lambda: np.array(mapix.open(path)[0])))]
    first = np.array(mapix.open(path)[0])
    for name, reader in _readers(path).items():
        np.testing.assert_array_equal(reader(path)[0], first)
        cases.append(Case(name, lambda r=reader: seconds(lambda: np.array(r(path)[0]))))
    missing = {} if len(cases) == 4 else {"idx2numpy": "not installed"}
    report.table(
        f"IDX of {path.stat().st_size >> 20} MiB: open and first row",
        "ms",
        "np.memmap",
        cases,
        [Goal("mapix", "faster", 50, "all read, as torchvision")],
        missing,
    )


def batches(report: Report, path: Path, *, floats: bool) -> None:
    """Random rows as float32 of this machine."""
    rng = np.random.default_rng(1)
    a, mapped = mapix.open(path), memmap(path)
    ready = whole(path)
    out = np.empty((B, SIDE, SIDE), np.float32)
    how: dict[str, Any] = {} if floats else {"dtype": "float32", "scale": 1 / 255}

    def timed(work: Any) -> Any:
        def run() -> float:
            rows = [rng.integers(0, N, B) for _ in range(NBATCHES)]
            return seconds(lambda: [work(r) for r in rows]) / NBATCHES

        return run

    def by_numpy(source: np.ndarray[Any, Any]) -> Any:
        if floats:
            return lambda r: source[r].astype(np.float32, copy=False)
        return lambda r: source[r].astype(np.float32) * np.float32(1 / 255)

    rows = rng.integers(0, N, B)
    np.testing.assert_allclose(a.batch(rows, out, **how).images, by_numpy(mapped)(rows), rtol=1e-6)
    cases = [
        Case("mapix", timed(lambda r: a.batch(r, out, **how))),
        Case("mapix, new arrays", timed(lambda r: a.batch(r, **how))),
        Case("np.memmap", timed(by_numpy(mapped))),
        Case("all read, as torchvision", timed(by_numpy(ready))),
    ]
    goals = [Goal("mapix", "faster", 1, "all read, as torchvision")]
    reference = "np.memmap"
    if floats:
        take = timed(lambda r: np.take(ready, r, 0, out=out, mode="clip"))
        cases.append(Case("rows copied, not swapped", take, "np.take from memory"))
        reference = "rows copied, not swapped"
        goals.append(Goal("mapix", "share", 0.8, reference))
    kind = "big-endian float32" if floats else "bytes, as float32"
    report.table(f"IDX, {B} random rows, {kind}", "us", reference, cases, goals)


def measure(report: Report, long: bool) -> None:
    """All of them."""
    del long
    pixels, floats = _files()
    for path in (pixels, floats):
        refill(path)
        opening(report, path)
    batches(report, pixels, floats=False)
    batches(report, floats, floats=True)
