"""ds[i] two ways: the C module mapix._record, and the Python that does the same.

The twin is loaded beside it from the same sources; whatever the one gives or raises, the other has
to, also where a stored table lies.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapix
from mapix import _native
from mapix.vimh import index_store, record_types
from records import MIXED, anonymous, needs_c, store
from slow_vimh import Slow, pack, record

HERE = Path(__file__).parent
NAMES = ("index", "offset", "nbytes", "shape", "nlabels", "labels", "values", "spec_range")
ARRAYS = ("image", "label_bytes", "label_ids")


def load_pure() -> ModuleType:
    """mapix.vimh.opening as it is with MAPIX_PURE=1."""
    chosen = ("mapix.vimh", "mapix.batch", "mapix._native.compiled")  # all that a choice goes into
    for name in ("mapix.vimh.opening", *chosen):
        importlib.import_module(name)
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(chosen)}
    before = os.environ.get("MAPIX_PURE")
    os.environ["MAPIX_PURE"] = "1"
    try:
        module = importlib.import_module("mapix.vimh.opening")
        assert not sys.modules["mapix.vimh.record_types"].FAST
    finally:
        os.environ.pop("MAPIX_PURE")
        if before is not None:
            os.environ["MAPIX_PURE"] = before
        for name in [name for name in sys.modules if name.startswith(chosen)]:
            del sys.modules[name]
        sys.modules.update(saved)
        for name in chosen:
            parent, _, attribute = name.rpartition(".")
            setattr(sys.modules[parent], attribute, saved[name])
    return module


PURE = load_pure()


def outcome(act: Any) -> Any:
    """What a call gives, or how it fails, in a form that can be compared."""
    try:
        return act()
    except Exception as e:
        return type(e).__name__, str(e)


def seen(r: Any) -> list[Any]:
    """Everything that a record tells."""
    found: list[Any] = [(name, outcome(lambda name=name: getattr(r, name))) for name in NAMES]
    found = [(k, str(v) if k == "spec_range" else v) for k, v in found]  # NaN is not NaN
    for name in ARRAYS:
        a = getattr(r, name)
        flags = (a.flags.writeable, a.flags.owndata, a.flags.aligned, a.dtype.str, a.shape)
        at = a.__array_interface__["data"][0] - np.frombuffer(r._file.source.view, "u1").ctypes.data
        steps = a.strides if a.size else None
        owner = a.base
        while isinstance(owner, np.ndarray):
            owner = owner.base
        found.append((name, flags, at if a.size else None, steps, a.tobytes(), type(owner)))
    levels = outcome(lambda: r.decibels)
    return [*found, levels if isinstance(levels, tuple) else levels.tobytes(), repr(r)]


def look(ds: Any, key: Any) -> Any:
    return outcome(lambda: seen(ds[key]))


records = st.builds(
    record,
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=4),
    seed=st.integers(0, 99),
)
files = st.one_of(
    st.lists(records, max_size=12),
    st.builds(lambda r, n: [r] * n, records, st.integers(1, 12)),
)


def short(r: Slow) -> Slow:
    return Slow(r.h, r.w, r.c, r.pairs, r.image, None)


def parts(ds: Any, n: int) -> list[Any]:
    """The dataset, and some of its records in all the ways that there are."""
    some = ds[np.arange(n)[::-1].copy()]
    return [ds, ds[1:], ds[::-2], some, some[::2], some[::-1][1:], ds[:0], ds[[]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@needs_c
@settings(max_examples=150, deadline=None)
@given(files, st.booleans(), st.sampled_from(["CHW", "HWC"]))
def test_the_twins_agree(folder: Path, slow: list[Slow], six: bool, order: str) -> None:
    path = folder / "twins"
    path.write_bytes(pack([short(r) for r in slow] if six else slow))
    options: Any = {"dialect": 6 if six else 14, "order": order, "index": "never"}
    ours, twins = mapix.open(path, format="vimh", **options), PURE.open_path(str(path), **options)
    n = len(slow)
    keys = [
        *range(-n - 1, n + 1),
        1 << 62,
        -(1 << 62),
        1 << 64,
        np.int64(0),
        np.uint8(n),
        True,
        0.5,
    ]
    for a, b in zip(parts(ours, n), parts(twins, n), strict=True):
        assert len(a) == len(b)
        for key in (*keys, True, 0.5, "x", None):
            assert look(a, key) == look(b, key), key
    for r, want in zip(ours, slow, strict=True):
        planes = np.frombuffer(want.image, np.uint8)
        shape = (want.h, want.w, want.c) if order == "HWC" else (want.c, want.h, want.w)
        image = planes.reshape(shape)
        assert (r.image == (image if order == "HWC" else image.transpose(1, 2, 0))).all()
        assert list(zip(r.label_ids.tolist(), r.label_bytes.tolist(), strict=True)) == want.pairs


@pytest.mark.slow
@pytest.mark.parametrize("module", ["vimh", "index", "source"])
def test_without_the_c_module(module: str) -> None:
    """The other tests, in an interpreter where Python does all of it."""
    if not record_types.FAST:
        pytest.skip("this is such an interpreter")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE / f"test_{module}.py")],
        env={**os.environ, "MAPIX_PURE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


# --- stored tables ------------------------------------------------------------------------------


@pytest.fixture
def small_files_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)


@contextlib.contextmanager
def stored_twins(path: Path) -> Iterator[tuple[Any, Any]]:
    ours, twins = mapix.open(path, dialect=14), PURE.open_path(str(path), dialect=14)
    with ours, twins:
        assert ours.index.stored
        assert twins.index.stored
        yield ours, twins


numbers = st.sampled_from([0, 1, 2, 3, 6, 7, 255, 256, 65535])
lies = st.tuples(
    st.one_of(st.integers(0, 3000), st.sampled_from([(1 << 56) - 1, 1 << 40, (1 << 56) - 100])),
    st.integers(0, 255),
    numbers,
    numbers,
    numbers,
    st.integers(0, 65535),
)


@needs_c
@pytest.mark.usefixtures("small_files_count")
def test_hostile_tables(tmp_path: Path) -> None:
    """Any entry at all: a FormatError, or a record that the file has there; the twins agree."""
    slow = [*MIXED, Slow(9, 9, 1, [(0, 0)] * 4, bytes(81), (0.0, 0.0))]  # zeros look like headers
    data = pack(slow)
    path = tmp_path / "f"
    kept = store(path, data)
    good = kept.read_bytes()
    n = len(slow)
    refused = taken = 0

    @settings(max_examples=150, deadline=None)
    @given(st.dictionaries(st.integers(0, n - 1), lies, max_size=n))
    def hostile(entries: dict[int, Any]) -> None:
        nonlocal refused, taken
        table = np.frombuffer(good, _native.ENTRY, n, index_store.HEAD_NBYTES).copy()
        for row, (at, labels, *rest) in entries.items():
            table[row] = (at | labels << 56, *rest)
        kept.write_bytes(good[: index_store.HEAD_NBYTES] + table.tobytes())
        with stored_twins(path) as (ours, twins):
            for row in range(n):
                found = look(ours, row)
                assert found == look(twins, row) == look(ours, row)
                if isinstance(found, tuple):
                    refused += 1
                    assert entries.keys() & {row, row + 1}  # an entry ends where the next begins
                    assert found[0] in ("FormatError", "SizeError")
                    continue
                taken += 1
                r = ours[row]
                head = np.frombuffer(data, "<u2", 3, r.offset).tolist()
                assert [*r.shape, r.nlabels] == [*head, data[r.offset + 14]]
                assert r.image.size
                assert r.offset + r.nbytes <= len(data)

    hostile()
    assert refused > 100
    assert taken > 1000


@pytest.mark.maps
@needs_c
@pytest.mark.usefixtures("small_files_count")
def test_a_table_that_is_cut_while_it_is_used(tmp_path: Path) -> None:
    n = 5000  # several pages of entries
    path = tmp_path / "f"
    kept = store(path, pack([record(1, 1 + i % 2, 1, [(0, i & 255)], seed=i) for i in range(n)]))
    ds = mapix.open(path, dialect=14)
    assert ds.index.stored
    before = seen(ds[n - 1])
    os.truncate(kept, index_store.HEAD_NBYTES)
    with pytest.warns(mapix.MapixWarning, match=rf"{kept}: .* indexed anew"):
        assert ds[4000].labels == {"param_0": 4000 & 255}
    assert seen(ds[n - 1]) == before, "what was confirmed is kept"
    assert mapix.open(path, dialect=14, index="never")[4000].labels == {"param_0": 4000 & 255}


@pytest.mark.maps
@needs_c
@pytest.mark.usefixtures("small_files_count")
def test_a_file_that_moves_while_its_table_is_used(tmp_path: Path) -> None:
    path = tmp_path / "f"
    store(path, pack(MIXED))
    with stored_twins(path) as both:
        path.chmod(0o600)  # harmless
        assert look(both[0], 5) == look(both[1], 5)
        os.truncate(path, 20)
        for ds in both:
            with pytest.raises(mapix.FileChangedError, match="open it again"):
                ds[30]


@needs_c
@pytest.mark.usefixtures("small_files_count")
def test_more_rows_than_are_kept(tmp_path: Path) -> None:
    """Rows that share a place in the private memory are told apart, and it stays small."""
    n, kept = (1 << 18) + 50_000, 1 << 18
    widths = 1 + np.arange(n) % 2
    data = np.zeros((n, 19), np.uint8)  # header, one label, one or two pixels
    data[:, [0, 4, 14]] = 1
    data[:, 2] = widths
    data[:, 16] = np.arange(n) % 256
    path = tmp_path / "f"
    store(path, data[np.arange(19) < (17 + widths)[:, None]].tobytes())
    ds = mapix.open(path, dialect=14)
    assert ds.index.stored
    at = np.concatenate([[0], np.cumsum(17 + widths)]).tolist()
    rows = np.random.default_rng(0).integers(0, n, 300_000).tolist()
    rows += [*range(0, n, 2), *range(n), *(i + k for i in range(999) for k in (0, kept))]
    before = anonymous()
    for row in rows:
        r = ds[row]
        assert (r.offset, r.shape) == (at[row], (1, 1 + row % 2, 1)), row
    assert anonymous() - before < 8 << 20, "4 MiB, and the half as many that were too few"
    assert ds[kept + 3].labels == {"param_0": 3}


# --- labels by name ------------------------------------------------------------------------------

INFO = {
    "parameter_names": ["note", "kind", "still"],
    "parameter_mappings": {
        "note": {"min": 50, "max": 52.3, "step": 0.1},
        "kind": {"min": 0, "max": 9, "type": "classification"},
        "still": {"min": 4, "max": 4, "step": 1},
    },
}


def test_labels_are_ints_and_values_are_floats_of_the_parameters(tmp_path: Path) -> None:
    """Each code; ids without a name; of an id that appears twice the last one counts."""
    path = tmp_path / "f"
    slow = [record(1, 1, 1, [(i, k) for i in (2, 0, 1, 200)]) for k in range(256)]
    slow += [record(1, 1, 1, [(0, 1), (1, 7), (0, 2)]), record(1, 1, 1, [])]
    path.write_bytes(pack(slow))
    for ds in (mapix.open(path, dialect=14, info=INFO), PURE.open_path(str(path), info=INFO)):
        assert len(ds) == 258
        for k in range(256):
            labels, values = ds[k].labels, ds[k].values
            assert list(labels.items()) == [
                ("still", k),
                ("note", k),
                ("kind", k),
                ("param_200", k),
            ]
            assert all(type(code) is int for code in labels.values())
            names = {"note": 50 + k / 255 * (52.3 - 50.0), "kind": k, "still": 4, "param_200": k}
            assert values == names
            assert list(values) == list(labels)
            assert all(type(value) is float for value in values.values())
        assert list(ds[256].labels.items()) == [("note", 2), ("kind", 7)]
        assert ds[256].values == {"note": 50 + 2 / 255 * (52.3 - 50.0), "kind": 7}
        assert ds[257].labels == ds[257].values == {}


def test_labels_of_a_file_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    data = pack([record(1, 1, 1, [(0, k)]) for k in range(9)])
    path.write_bytes(data)
    opened = [mapix.open(path, dialect=14), PURE.open_path(str(path), dialect=14)]
    records = [ds[5] for ds in opened]
    assert [r.labels for r in records] == [{"param_0": 5}] * 2
    for mode in (0o600, 0o640):  # harmless
        path.chmod(mode)
        assert [r.values for r in records] == [{"param_0": 5.0}] * 2
        assert [ds[6].labels for ds in opened] == [{"param_0": 6}] * 2
    with path.open("r+b") as f:
        f.write(data[:7])
    os.utime(path, ns=(1, 1))
    for ds in opened:
        for _ in range(2):
            with pytest.raises(mapix.FileChangedError, match="modification time changed"):
                _ = ds[5].labels
        r = ds[3]
        ds.close()
        with pytest.raises(mapix.ClosedError):
            _ = r.values


@pytest.mark.maps
def test_labels_of_a_file_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(pack([record(9, 9, 9, [(0, k)]) for k in range(99)]))
    opened = [mapix.open(path, dialect=14), PURE.open_path(str(path), dialect=14)]
    last = [ds[98] for ds in opened]
    assert [r.labels for r in last] == [{"param_0": 98}] * 2
    os.truncate(path, 20)
    for r in last:
        with pytest.raises(mapix.FileChangedError, match="had 73854 bytes, now it has 20"):
            _ = r.values
