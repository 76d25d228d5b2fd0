"""Records pickle as their file and their number in it."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mapix
from slow_vimh import pack, record


def looks(r) -> tuple:
    return r.index, r.offset, r.shape, r.image.tolist(), r.labels, r.values, r.spec_range


@pytest.mark.parametrize("kind", ["uniform", "mixed", "stored", "pickle", "joined", "part"])
def test_records_pickle(tmp_path, monkeypatch, kind):
    names = [mapix.vimh.Parameter("a", 0), mapix.vimh.Parameter("b", 1, min=-1, max=1)]
    for folder in ("x", "y"):
        output = "pickle" if kind == "pickle" else "binary"
        with mapix.vimh.Writer(tmp_path / folder, names, output=output) as out:
            for i in range(9):
                shape = (2 + i % 2, 3) if kind in ("mixed", "stored") else (2, 3)
                codes = {"a": i, "b": 9 * i}
                out.append(np.full(shape, i, np.uint8), codes=codes, spec_range=(-60.0, float(i)))
    if kind == "stored":
        mapix.index(tmp_path / "x")
    both = [tmp_path / "x", tmp_path / "y"]
    ds = mapix.open(both if kind == "joined" else tmp_path / "x")
    if kind == "part":
        ds = ds[::-2]
    records = [ds[i] for i in range(len(ds))]
    data = pickle.dumps(records)
    assert len(data) < 6000  # no pixels
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert [looks(r) for r in again] == [looks(r) for r in records]
    assert len({id(r._file) for r in again}) == (2 if kind == "joined" else 1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(looks, records[:2]) == [looks(r) for r in records[:2]]
    assert looks(copy.copy(records[1])) == looks(copy.deepcopy(records[1])) == looks(records[1])
    assert copy.copy(records[1])._file is records[1]._file
    ds.close()
    assert looks(pickle.loads(data)[0])[0] == again[0].index
    path = Path(again[0]._file.source.path)
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    with pytest.raises(mapix.FileChangedError):
        pickle.loads(data)


def test_records_pickle_without_the_compiled_module(tmp_path):
    (tmp_path / "f").write_bytes(pack([record(2, 3, 1, [(0, i)], seed=i) for i in range(3)]))
    code = (
        "import sys, pickle, mapix\n"
        "ds = mapix.open(sys.argv[1], dialect=14)\n"
        "r = pickle.loads(pickle.dumps(ds[2]))\n"
        "print(type(r).__module__, r.index, r.labels, r.image.sum() == ds[2].image.sum())\n"
    )
    for pure, module in (("1", "mapix.vimh.record_fallback"), ("0", None)):
        out = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "f")],
            env={**os.environ, "MAPIX_PURE": pure} if pure == "1" else os.environ,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split(" ", 1)
        assert module is None or out[0] == module
        assert out[1] == "2 {'param_0': 2} True\n"
