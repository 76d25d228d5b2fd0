"""``benchmarks/gpu.py`` runs to its end, on the emulation of a GPU: ``emulated_gpu.py``.

GPUs are lent for minutes, so the script must not fail there for a reason that shows here.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from emulated_gpu import emulate  # noqa: E402
from mapix.gpu.job import Job  # noqa: E402
from test_c_harness import compiler  # noqa: E402
from test_gpu_kernel import SOURCE  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture
def script(monkeypatch, tmp_path) -> Any:
    from mapix.feeding import slots

    fast = tmp_path / "gather.so"  # without the sanitizer of other tests
    command = [*compiler(), "-x", "c", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(fast)]
    subprocess.run(command, check=True, timeout=120)
    kernel = ctypes.CDLL(str(fast))
    kernel.mapix_gather.argtypes = [ctypes.POINTER(Job), ctypes.c_uint64]
    emulate(monkeypatch, kernel)
    monkeypatch.setattr(slots, "CHUNK_RECORDS", 512)
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {
        "SETS": {"small": (2400, 32, 32, 3), "large": (600, 8, 8, 3)},
        "SECONDS": 0.01,
        "NFILES": 66,
        "processor": lambda: "a processor",
    }.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "DataLoader", unpinned)
    monkeypatch.setattr(module, "Net", small_network)
    monkeypatch.setattr(module, "FORMS", module.FORMS[4:])
    monkeypatch.setattr(module, "limit", lambda nbytes, batch: 1e9 / nbytes)
    monkeypatch.setattr(module, "resident", lambda *_: resting)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an emulation")
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self, **_: self)
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: self)
    return module


def small_network() -> Any:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))


def unpinned(*arguments: Any, **options: Any) -> Any:
    """A DataLoader of this process, without memory of CUDA."""
    for name in ("pin_memory", "num_workers", "persistent_workers", "prefetch_factor"):
        options.pop(name, None)
    return torch.utils.data.DataLoader(*arguments, **options)


def resting() -> Iterator[Any]:
    while True:
        yield range(256), None


def test_it_measures_everything(script, tmp_path, monkeypatch, capsys):
    out = tmp_path / "figures.json"
    arguments = ["gpu.py", "--data", str(tmp_path), "--rounds", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        script.main()
    text = capsys.readouterr().out
    assert "FAILED" not in text, text[text.index("FAILED") :]
    assert ended.value.code == 0
    assert "loaders of all families, options and ways equal ds.batch" in text
    assert "not measured" not in text
    goals = text[text.index("goals:") :].splitlines()
    assert len([line for line in goals if "met" in line or "MISSED" in line]) == len(script.GOALS)
    assert len([line for line in goals if "a thread gathers the records of other" in line]) == 5
    figures = json.loads(out.read_text())
    assert all(len(rounds) == 1 for each in figures.values() for rounds in each.values())


def test_ratios_are_those_within_rounds(script):
    times = {"small": {"a": [1.0, 8.0, 9.0], "b": [2.0, 2.0, 6.0]}}
    assert script.goal(times, "small", "a", "b") == 1.5
    assert script.goal(times, "small", "a", None) == 8.0


def test_what_fails_is_reported_and_the_rest_goes_on(script, tmp_path, monkeypatch, capsys):
    def failing() -> float:
        raise RuntimeError("no such thing")

    what = "pages, uint8, batch 256"
    found = {script.LIMIT: lambda: 4.0, "CPU of the feeding thread": failing, what: lambda: 3.0}
    monkeypatch.setattr(script, "equality", lambda *_: 0)
    monkeypatch.setattr(script, "measures", lambda *_: found)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        script.main()
    text = capsys.readouterr().out
    assert ended.value.code == 1
    assert text.count("RuntimeError: no such thing") == 6  # two sets, three rounds
    assert "FAILED: small: CPU of the feeding thread" in text
    assert "not measured: small: CPU of the feeding thread" in text
    assert f"MISSED   0.750 (at least 0.88)  large: {what} / limit: pinned copies" in text
    assert "not measured: large: pages, bfloat16, batch 256" in text
