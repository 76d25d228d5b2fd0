"""How long what ds[i] gives lives, what it holds, and what the C types refuse."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import mapix
from mapix import _native
from mapix.vimh import index_store, record_types
from records import MIXED, mapped, needs_c, store
from slow_vimh import pack


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(pack(MIXED))
    return path


@pytest.mark.maps
def test_records_of_a_closed_file(path: Path) -> None:
    ds = mapix.open(path)
    part, r = ds[::2], ds[3]
    image, want = r.image, r.image.copy()
    ds.close()
    ds.close()
    for act in (lambda: ds[0], lambda: part[0], lambda: r.image, lambda: r.label_bytes):
        with pytest.raises(mapix.ClosedError, match="closed"):
            act()
    with pytest.raises(mapix.ClosedError):
        _ = r.labels
    assert (r.index, r.shape, r.nlabels) == (3, MIXED[3].hwc().shape, len(MIXED[3].pairs))
    assert mapped(path)
    np.testing.assert_array_equal(image, want)
    del image
    assert not mapped(path)


def test_nothing_leaks(path: Path) -> None:
    ds = mapix.open(path)
    r = ds[0]
    owner = r.image.base
    kinds = (ds, ds._gatherer, owner, type(r), mapix.vimh.Dataset, type(None))

    def work() -> None:
        for i in range(40):
            r = ds[i]
            _ = r.image, r.label_bytes, r.label_ids, r.shape, r.offset, r.nbytes, r.labels
            _ = ds[i:][0].image
            with contextlib.suppress(IndexError):
                ds[40]
            with contextlib.suppress(TypeError):
                ds[0.5]

    work()
    gc.collect()
    before = [sys.getrefcount(k) for k in kinds]
    rss = 0
    for k in range(150):
        work()
        if k == 50:
            rss = psutil.Process().memory_info().rss
    gc.collect()
    after = [sys.getrefcount(k) for k in kinds]
    assert [b - a for a, b in zip(before[:5], after, strict=False)] == [0] * 5
    assert psutil.Process().memory_info().rss - rss < 2 << 20


@pytest.mark.maps
@pytest.mark.parametrize("through", ["dataset", "gatherer"])
def test_cycles_are_collected(path: Path, through: str) -> None:
    ds: Any = mapix.open(path)
    if through == "dataset":
        ds.itself, ds.best, ds.part = ds, ds[3], ds[::2]
    else:
        ds._gatherer.dataset = ds[::2]
    gone = weakref.ref(ds._gatherer)
    assert mapped(path)
    del ds
    gc.collect()
    assert gone() is None
    assert not mapped(path)


def test_a_dataset_goes_without_the_collector(path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        ds = mapix.open(path)
        _ = ds[0].image, ds[::2][1].image
        gone = weakref.ref(ds)
        del ds, _
        assert gone() is None
        if record_types.FAST:  # the twin's closures are a cycle
            assert not mapped(path)
    finally:
        gc.enable()


def test_close_while_threads_take_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)
    path = tmp_path / "f"
    store(path, pack(MIXED))
    want = [r.hwc().tolist() for r in MIXED]
    closed = []

    def take(ds: Any, seed: int) -> None:
        rows = np.random.default_rng(seed).permutation(len(MIXED)).tolist()
        with contextlib.suppress(mapix.ClosedError):
            while True:
                for i in rows:
                    assert ds[i].image.tolist() == want[i]
        closed.append(1)

    for k in range(30):
        ds = mapix.open(path, dialect=14)
        assert ds.index.stored
        threads = [threading.Thread(target=take, args=(ds, s)) for s in range(3)]
        for t in threads:
            t.start()
        time.sleep(0.001 * (k % 4))
        ds.close()
        for t in threads:
            t.join()
    assert len(closed) == 90


# --- the module by itself -----------------------------------------------------------------------


@needs_c
def test_what_cannot_be_attached_is_refused() -> None:
    from mapix import _record

    def attach(n: int, stride: int, first: Any, table: Any = None, head: int = 14) -> Any:
        file = _record.File()
        file._attach(bytes(100), n, stride, first, table, 0, head, False, 0)
        return file

    one = (0, 1, 1, 1, 0)  # 16 bytes
    assert attach(6, 16, one).record(5).offset == 80
    assert attach(6, 16, (4, 1, 1, 1, 0)).record(5).image.tolist() == [[[0]]]
    top = 1 << 64
    for bad in (
        (7, 16, one),
        (6, 16, (5, 1, 1, 1, 0)),
        (6, 15, one),
        (6, 0, one),
        (2, top - 1, one),
        (top - 1, 16, one),
        (top // 16 + 1, 16, one),
        (1, 16, ((1 << 56) - 1, 1, 1, 1, 0)),
        (1, 16, (1 << 56, 1, 1, 1, 0)),
        (1, 1 << 60, (0, 65535, 65535, 65535, 0)),
        (1, 16, (0, 65536, 1, 1, 0)),
        (1, 16, (0, 1, 1, 1, 256)),
        (6, 16, one, None, 7),
        (2, 0, one, np.zeros(1, _native.ENTRY)),
        (2, 0, one, np.zeros(3, _native.ENTRY)),
    ):
        with pytest.raises(ValueError, match="fit|no such"):
            attach(*bad)
    file = attach(2, 0, one, np.array([(90, 1, 1, 1, 0), (0, 1, 1, 1, 0)], _native.ENTRY))
    assert file.record(1).shape == (1, 1, 1)
    with pytest.raises(SystemError, match="record 0 is out of bounds"):
        file.record(0)
    for row in (-1, 2, 1 << 62):
        with pytest.raises(IndexError):
            file.record(row)
    with pytest.raises(AttributeError, match="_ready"):
        _record.File().record(0)


@needs_c
def test_what_cannot_be_bound_is_refused() -> None:
    from mapix import _record

    file, most = _record.File(), (1 << 63) - 1
    for bad in (
        (-1, 0, 1, None),
        (most, 0, 1, None),
        (2, most, 1, None),
        (1 << 40, 0, 1 << 30, None),
        (3, 0, 0, np.zeros(2, np.int64)),
        (2, 0, 0, np.zeros(2, np.int32)),
        (2, 0, 0, np.zeros((2, 1), np.int64)),
    ):
        with pytest.raises(ValueError, match="no range|not n numbers"):
            _record.Rows()._bind(file, *bad)
    with pytest.raises(TypeError):
        _record.Rows()._bind(object(), 1, 0, 1, None)
    with pytest.raises(AttributeError, match="_pick"):
        _record.Rows()[0]


@needs_c
def test_records_are_made_by_datasets_alone() -> None:
    kind: Any = mapix.vimh.Record
    with pytest.raises(TypeError, match="cannot create"):
        kind()
    with pytest.raises(TypeError):
        object.__new__(kind)
    with pytest.raises(TypeError, match="immutable"):
        kind.image = 1


@needs_c
def test_importing_again(path: Path) -> None:
    ds = mapix.open(path)
    module = sys.modules.pop("mapix._record")
    try:
        again = importlib.import_module("mapix._record")
        assert again.Record is type(ds[0])
        assert ds[1].image.size
    finally:
        sys.modules["mapix._record"] = module


def test_mapix_pure_turns_the_c_module_off() -> None:
    code = "import sys, mapix.vimh.record_types as b; print(b.FAST, 'mapix._record' in sys.modules)"

    def said(value: str) -> str:
        env = {**os.environ, "MAPIX_PURE": value}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    assert said("1") == "False False\n"
    if record_types.FAST:
        assert said("0") == said("") == "True True\n"
