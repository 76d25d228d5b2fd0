"""VisualRBM's models from JSON: mapix beside json, orjson and numpy, and beside looking at bytes.

    python benchmarks/models.py [--rounds 7] [--units 1000] [--visible 2000]

Each round times all, in another order; what is told are medians, and of ratios within rounds.
Results are asserted to be the same floats before anything is timed.  Memory is by how much the peak
of a fresh process grew, as a multiple of the weights.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from mapix.visualrbm import RestrictedBoltzmannMachine


def make(folder: Path, hidden: int, visible: int) -> dict[str, Path]:
    """Models as programs write them: six digits, shortest float32, float64 of Python."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(hidden, visible)) * 0.1
    model = RestrictedBoltzmannMachine(weights, np.zeros(visible), np.zeros(hidden))
    paths = {name: folder / f"{name}.json" for name in ("six digits", "shortest", "doubles")}
    model.write(paths["six digits"], compat="visualrbm")
    model.write(paths["shortest"])
    fields = json.loads(paths["shortest"].read_text())
    paths["doubles"].write_text(json.dumps({**fields, "Weights": weights.tolist()}))
    return paths


def with_json(path: Path) -> Any:
    with path.open("rb") as f:
        return np.array(json.load(f)["Weights"], np.float32)


def with_orjson(path: Path) -> Any:
    import orjson

    return np.array(orjson.loads(path.read_bytes())["Weights"], np.float32)


def with_numpy(path: Path) -> Any:
    """Its parser of text, on brackets made blanks: what remains without a JSON library."""
    data = path.read_bytes()
    data = data[data.index(b"[[") : data.rindex(b"]]")]
    rows = data.count(b"]") + 1
    numbers = data.translate(None, b"[]\n\t ").decode()
    return np.fromstring(numbers, np.float32, sep=",").reshape(rows, -1)


def with_mapix(path: Path) -> Any:
    return mapix.open(path).weights


def bytes_alone(path: Path) -> Any:
    """No reader can be faster: every byte looked at, by numpy's fastest loop."""
    return np.frombuffer(path.read_bytes(), np.uint8).max()


CONTENDERS: dict[str, Callable[[Path], Any]] = {
    "mapix": with_mapix,
    "orjson + np.array": with_orjson,
    "json + np.array": with_json,
    "np.fromstring": with_numpy,
    "looking at the bytes": bytes_alone,
}
PEAK = """
import sys
sys.path.insert(0, {folder!r})
import models, numpy
from pathlib import Path
try:
    import orjson
except ImportError:
    pass
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = peak()
models.CONTENDERS[{name!r}](Path({path!r}))
print(peak() - before)
"""


def peak(name: str, path: Path) -> float:
    """Bytes that a fresh process came to have more."""
    code = PEAK.format(folder=os.path.dirname(os.path.abspath(__file__)), name=name, path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return 1024 * float(done.stdout)


def writers(folder: Path, model: Any) -> dict[str, Callable[[], Any]]:
    """Ways to put a model's weights into a JSON file, and on the disk."""

    def put(data: bytes) -> None:
        with (folder / "other.json").open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())

    def orjson_too() -> None:
        import orjson

        put(orjson.dumps({"Weights": model.weights}, option=orjson.OPT_SERIALIZE_NUMPY))

    return {
        "mapix": lambda: model.write(folder / "own.json", replace=True),
        "mapix, VisualRBM's text": lambda: model.write(
            folder / "theirs.json", replace=True, compat="visualrbm"
        ),
        "orjson": orjson_too,
        "json": lambda: put(json.dumps({"Weights": model.weights.tolist()}).encode()),
    }


def interleaved(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in each round, in another order every time."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name in random.sample(list(runs), len(runs)):
            begin = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - begin)
    return times


def ratio(times: dict[str, list[float]], name: str) -> float:
    """The median of a case's ratios to mapix within rounds."""
    return statistics.median(x / y for x, y in zip(times[name], times["mapix"], strict=True))


def main() -> None:
    """Print a table for each kind of text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--visible", type=int, default=2000)
    a = parser.parse_args()
    names = list(CONTENDERS)
    try:
        import orjson  # noqa: F401
    except ImportError:
        names.remove("orjson + np.array")
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in make(Path(folder), a.units, a.visible).items():
            nbytes = path.stat().st_size
            want = with_json(path)
            for name in names[:-1]:
                # numpy's own parser may be a unit beside, for it rounds twice
                np.testing.assert_allclose(CONTENDERS[name](path), want, rtol=1.2e-7)
            runs = {n: functools.partial(CONTENDERS[n], path) for n in names}
            times = interleaved(runs, a.rounds)
            print(f"\n{kind}: {nbytes / 1e6:.1f} MB, {want.size:,} weights, {a.rounds} rounds")
            for name in names:
                speed = nbytes / 1e6 / statistics.median(times[name])
                more = peak(name, path) / want.nbytes
                line = f"  {name:22} {speed:8.0f} MB/s {ratio(times, name):8.2f} x mapix"
                print(f"{line} {more:6.1f} x the weights")
        ways = writers(Path(folder), mapix.open(path))
        if "orjson + np.array" not in names:
            ways.pop("orjson")
        times = interleaved(ways, a.rounds)
        print(f"\nwriting it, synced, {a.rounds} rounds")
        for name in ways:
            seconds = statistics.median(times[name])
            print(f"  {name:24} {seconds * 1e3:8.0f} ms {ratio(times, name):8.2f} x mapix")


if __name__ == "__main__":
    main()
