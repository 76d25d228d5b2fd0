"""Loaders: which records come when, resumed and divided; and the thread that gathers ahead."""

from __future__ import annotations

import gc
import importlib
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mapix
from mapix import _native
from mapix.batch import AskedAhead
from mapix.loader import Ahead, Loader, Plan
from slow_vimh import pack, record

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1


def slow_permutation(n: int, key: int) -> list[int]:
    """csrc/permute.c in Python's integers."""

    def mixed(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D & MASK32
        x ^= x >> 15
        x = x * 0x846CA68B & MASK32
        return x ^ x >> 16

    bits = max(2, (n - 1).bit_length()) if n > 1 else 2
    low_bits = bits // 2
    keys = []
    for _ in range(6 if bits > 12 else 24):
        key = (key + 0x9E3779B97F4A7C15) & MASK64
        k = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & MASK64
        k = (k ^ k >> 27) * 0x94D049BB133111EB & MASK64
        keys.append(k >> 32)
    found = []
    for x in range(n):
        while True:
            low, high = x & (1 << low_bits) - 1, x >> low_bits
            for a, b in zip(keys[::2], keys[1::2], strict=True):
                high ^= mixed(low ^ a) & (1 << bits - low_bits) - 1
                low ^= mixed(high ^ b) & (1 << low_bits) - 1
            x = high << low_bits | low
            if x < n:
                break
        found.append(x)
    return found


FROZEN_10 = [1, 9, 6, 5, 7, 2, 3, 0, 4, 8]
FROZEN_1M = [891757, 39147, 914996, 336832, 633239, 55704, 254303, 831245, 215498, 286207]
FROZEN_PLAN = [759, 522, 569, 216, 565, 868]


# --- the order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 100, 257, 4096, 4097, 5000])
@pytest.mark.parametrize("key", [0, 1, 12345678901234567890])
def test_an_order_is_the_references_permutation(n, key):
    best, wanted = _native.simd(), slow_permutation(n, key)
    assert sorted(wanted) == list(range(n))
    for level in range(best + 1):  # every set of kernels that this machine can run
        assert _native.simd(level) == level
        assert _native.permute(n, key, 0, n).tolist() == wanted
        assert _native.permute_at(n, key, np.arange(n)[::-1]).tolist() == wanted[::-1]
    assert _native.simd(best) == best


def test_orders_stay_the_same_in_all_versions():
    """A saved position is worth nothing when the order changes: these numbers are for good."""
    assert _native.permute(10, 0, 0, 10).tolist() == FROZEN_10
    assert _native.permute(1_000_000, 123456789, 999_990, 10).tolist() == FROZEN_1M
    assert Plan(1000, 4, seed=3).order(7, 0, 6).tolist() == FROZEN_PLAN


@given(n=st.integers(1, 5000), key=st.integers(0, MASK64), data=st.data())
def test_any_part_of_an_order_is_that_part(n, key, data):
    begin = data.draw(st.integers(0, n))
    count = data.draw(st.integers(0, n - begin))
    complete = _native.permute(n, key, 0, n)
    assert (_native.permute(n, key, begin, count) == complete[begin : begin + count]).all()


@pytest.mark.parametrize(
    "arguments", [(5, 1, 6, 0), (5, 1, 0, 6), (5, 1, 3, 3), (1 << 62, 0, 0, 1)]
)
def test_positions_out_of_range_are_refused(arguments):
    n, key, begin, count = arguments
    with pytest.raises(IndexError):
        _native.permute(n, key, begin, count)


def test_all_orders_of_few_records_are_equally_likely():
    for n in (2, 3, 4, 5):
        tries, kinds = 20_000, math.factorial(n)
        seen = Counter(tuple(_native.permute(n, key, 0, n).tolist()) for key in range(tries))
        expected = tries / kinds
        chi2 = sum((seen[p] - expected) ** 2 / expected for p in itertools.permutations(range(n)))
        assert chi2 < kinds - 1 + 6 * math.sqrt(2 * kinds), n  # six standard deviations


def test_neighbours_in_an_order_are_unrelated():
    n, tries = 1000, 2000
    orders = np.stack([_native.permute(n, key, 0, n) for key in range(tries)])
    for values in (orders[:, 0], orders[:, -1], (orders[:, 1] - orders[:, 0]) % n):
        counts = np.bincount(values, minlength=n)
        chi2 = ((counts - tries / n) ** 2 / (tries / n)).sum()
        assert abs(chi2 - n) < 6 * math.sqrt(2 * n)


# --- batches --------------------------------------------------------------------------------------


@pytest.fixture
def ds(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(pack([record(4, 3, 2, [(0, i)], seed=i) for i in range(53)]))
    return mapix.open(path, dialect=14)


def taken(loader: Loader) -> list[list[int]]:
    return [batch.rows.tolist() for batch in loader]


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("copy", [False, True])
def test_batches_are_those_of_the_dataset(ds, ahead, copy):
    loader = Loader(ds, 8, ahead=ahead, copy=copy, seed=5, dtype="float32", layout="NCHW")
    assert len(loader) == 7
    seen = []
    for batch in loader:
        want = ds.batch(batch.rows, dtype="float32", layout="NCHW")
        assert batch.images.tobytes() == want.images.tobytes()
        assert (batch.labels == want.labels).all()
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(53))
    assert seen != sorted(seen)


def test_copies_stay_and_buffers_are_reused(ds):
    batches = list(Loader(ds, 8, copy=True, shuffle=False))
    for k, batch in enumerate(batches[:-1]):
        assert (batch.images == ds.batch(range(8 * k, 8 * k + 8)).images).all()
    addresses = {b.images.ctypes.data for b in Loader(ds, 8, ahead=2)}
    assert len(addresses) == 3


@pytest.mark.parametrize("kind", ["file", "part", "classes", "numbers", "without C"])
def test_batches_have_their_rows(ds, tmp_path, kind, monkeypatch):
    """However a batch is made: by one C call, or by Python."""
    options: dict[str, Any] = {}
    if kind == "part":
        ds = ds[5:45]
    elif kind == "classes":
        options = {"labels": "class"}
    elif kind == "numbers":
        mapix.idx.write(tmp_path / "x.idx", np.arange(318, dtype=">i2").reshape(53, 6))
        ds = mapix.open(tmp_path / "x.idx")
    elif kind == "without C":
        monkeypatch.setattr(type(ds), "_prepare", lambda self, options: None)
    seen = []
    for batch in Loader(ds, 8, ahead=0, seed=2, **options):  # the last one is smaller
        want = ds.batch(batch.rows, **options)
        assert batch.images.tobytes() == want.images.tobytes()
        assert (batch.labels is None) == (want.labels is None)
        if want.labels is not None:
            assert batch.labels.tolist() == want.labels.tolist()
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(len(ds)))


def test_records_in_memory_are_checked_ever_less_often():
    asked: list[list[int]] = []
    rows = [np.arange(10 * k, 10 * k + 10) for k in range(60)]

    def prefetch(numbers: Any) -> int:
        asked.append(numbers.tolist())
        return 10 if numbers[0] >= 500 else 0  # the last ones are on the disk

    ahead = AskedAhead(iter(rows), prefetch)
    ahead.distance = 4
    found = [each[0] for each in itertools.chain.from_iterable(ahead)]
    assert found == list(range(0, 600, 10))
    # at first all records, then some; after a batch that is not in memory each one, completely
    assert [each[0] for each in asked] == [10, 30, 70, 150, 310, 470]
    assert [len(each) for each in asked] == [10, 2, 2, 2, 2, 2]
    rows, asked[:] = rows[45:], []
    assert len(list(itertools.chain.from_iterable(AskedAhead(iter(rows), prefetch)))) == 15
    assert [each[0] for each in asked][-4:] == [560, 570, 580, 590]
    assert {len(each) for each in asked[-4:]} == {10}


@pytest.mark.parametrize("n", [0, 1, 7])
def test_few_records(tmp_path, n):
    path = tmp_path / "train"
    path.write_bytes(pack([record(4, 3, 2, [(0, i)], seed=i) for i in range(max(n, 1))]))
    ds = mapix.open(path, dialect=14)[:n]
    assert [len(b) for b in Loader(ds, 8)] == [n] * bool(n)
    assert [len(b) for b in Loader(ds, 8, drop_last=True)] == []


def test_epochs_differ_and_come_again(ds):
    loader = Loader(ds, 8, seed=1)
    first, second = taken(loader), taken(loader)
    assert first != second
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list(range(53))
    loader.set_epoch(0)
    assert taken(loader) == first
    assert taken(Loader(ds, 8, seed=2)) != first


def test_a_pass_left_early_is_followed_by_the_next_epoch(ds):
    loader = Loader(ds, 8, seed=1)
    complete = Loader(ds, 8, seed=1)
    epochs = [taken(complete) for _ in range(2)]
    for batch in loader:
        assert batch.rows.tolist() == epochs[0][0]
        break
    assert taken(loader) == epochs[1]


def test_datasets_of_other_families(tmp_path):
    path = tmp_path / "x-images-idx3-ubyte"
    with mapix.idx.Writer(path, ">i2", (3, 2)) as out:
        out.extend(np.arange(120).reshape(20, 3, 2))
    ds = mapix.open(path)
    for batch in Loader(ds, 6):
        assert (batch.images == np.asarray(ds)[batch.rows]).all()
    part = ds[3:17:2]
    for batch in Loader(part, 3):
        assert (batch.images == np.asarray(part)[batch.rows]).all()


def test_mixed_sizes_with_a_canvas_and_without(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(pack([record(2 + i % 3, 3, 1, [], seed=i) for i in range(20)]))
    ds = mapix.open(path, dialect=14)
    for options in ({"pad": (4, 3)}, {"pad": True}, {"flat": True}):
        for batch in Loader(ds, 6, **options):
            assert (batch.images == ds.batch(batch.rows, **options).images).all()


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"batch_size": 0}, ValueError),
        ({"rank": 2, "world": 2}, ValueError),
        ({"world": 0}, ValueError),
        ({"ahead": -1}, ValueError),
        ({"dtype": "int3"}, ValueError),
        ({"colour": "red"}, TypeError),
    ],
)
def test_bad_arguments_are_refused_at_once(ds, bad, error):
    with pytest.raises(error):
        Loader(ds, **{"batch_size": 8, **bad})


class Sampler:
    """A batch sampler like PyTorch's: batches of 1, 2, 3 and so on, another order each epoch."""

    def __init__(self, n: int) -> None:
        self.n, self.epoch = n, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 9

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng(self.epoch).permutation(self.n).tolist()
        for size in range(1, 10):
            yield [order.pop() for _ in range(size)]


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_batch_sampler_decides_the_batches(ds, ahead):
    loader = Loader(ds, batch_sampler=Sampler(53), ahead=ahead, dtype="float32")
    assert len(loader) == 9
    epochs = []
    for epoch in range(2):
        sampler = Sampler(53)
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        kept = list(loader)  # such batches have arrays of their own
        assert [b.rows.tolist() for b in kept] == epochs[-1]
        for batch in kept:
            assert (batch.images == ds.batch(batch.rows, dtype="float32").images).all()
    loader.set_epoch(1)
    for _ in itertools.islice(loader, 4):
        pass
    again = Loader(ds, batch_sampler=Sampler(53), ahead=ahead)
    again.load_state_dict(loader.state_dict())
    assert taken(again) == epochs[1][4:]
    assert again.epoch == 2
    listed = Loader(ds, batch_sampler=[[3, -1], np.array([5])])
    assert taken(listed) == taken(listed) == [[3, -1], [5]]
    with pytest.raises(ValueError, match="another dataset"):
        Loader(ds, 8).load_state_dict(loader.state_dict())
    with pytest.raises(IndexError, match="index 53"):
        taken(Loader(ds, batch_sampler=[[0], [53]]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, TypeError, "pass batch_size, or batch_sampler="),
        ({"batch_size": 8, "batch_sampler": [[1]]}, ValueError, "pass no batch_size"),
        ({"world": 2, "batch_sampler": [[1]]}, ValueError, "pass no batch_size, drop_last=, rank="),
        ({"weights": np.ones(53), "batch_sampler": [[1]]}, ValueError, "weights="),
        ({"batch_sampler": iter([[1]])}, TypeError, "must have a length"),
    ],
)
def test_bad_batch_samplers_are_refused(ds, options, error, message):
    with pytest.raises(error, match=message):
        Loader(ds, **options)


# --- ranks and positions --------------------------------------------------------------------------


@given(
    n=st.integers(1, 300),
    batch=st.integers(1, 20),
    world=st.integers(1, 16),
    drop_last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_ranks_share_an_epoch_equally(n, batch, world, drop_last, seed):
    plans = [
        Plan(n, batch, seed=seed, drop_last=drop_last, rank=r, world=world) for r in range(world)
    ]
    counts = {p.nbatches() for p in plans}
    assert len(counts) == 1
    (nbatches,) = counts
    order, seen = plans[0].order(0, 0, n).tolist(), []
    for k in range(nbatches):
        parts = [p.rows(0, k * p.step).tolist() for p in plans]
        assert len({len(part) for part in parts}) == 1
        assert len(parts[0]) == plans[0].nrows(k * plans[0].step) <= batch
        seen += list(itertools.chain(*parts))
    if drop_last:
        assert seen == order[: n // (batch * world) * batch * world]
    else:
        assert seen[:n] == order
        assert set(seen[n:]) <= set(order)
        assert len(seen) - n < world
    for p in plans:
        each = [p.rows(0, k * p.step) for k in range(nbatches)]
        assert p.rows_of(0, 0, nbatches).tolist() == np.concatenate([*each, []]).tolist()


def epoch_of(n: int, epoch: int, position: int, plans: list[Plan]) -> list[int]:
    """The records from a position on, step after step and rank after rank, by ``rows_of``."""
    nbatches = {p.nbatches(position) for p in plans}
    assert len(nbatches) == 1
    nbatches = nbatches.pop()
    each = [p.rows_of(epoch, position, nbatches).tolist() for p in plans]
    assert len({len(rows) for rows in each}) == 1
    size = plans[0].batch_size
    return [r for k in range(0, len(each[0]), size) for rows in each for r in rows[k : k + size]]


@pytest.mark.parametrize("world", range(1, 17))
def test_the_rest_is_identical_at_a_thousand_points(tmp_path, world):
    """1,000 points in all: 63 of each world, and 55 of the last.

    Each is saved by a loader of one world and loaded by one of another world and batch size.  Only
    the positions are computed: that batches have the records of their positions is tested above.
    """
    path = tmp_path / "x.idx"
    mapix.idx.write(path, np.zeros((997, 1), np.uint8))
    ds = mapix.open(path)
    rng = np.random.default_rng(world)
    for _ in range(63 if world < 16 else 1000 - 15 * 63):
        n, epoch, seed = (int(k) for k in rng.integers((1, 0, 0), (998, 10, 1 << 40)))
        batch, other_batch, other_world = (int(k) for k in rng.integers(1, (40, 40, 17)))
        part = ds[:n]
        saved = Loader(part, batch, seed=seed, rank=int(rng.integers(world)), world=world)
        saved.set_epoch(epoch)
        done = int(rng.integers(len(saved) + 1))
        for _ in range(done):
            saved._advance()
        state = saved.state_dict()
        position = state["position"]
        assert position == min(n, done * batch * world)
        complete = saved.plan.order(epoch, 0, n).tolist()
        ranks = [Loader(part, other_batch, rank=r, world=other_world) for r in range(other_world)]
        for loader in ranks:
            loader.load_state_dict(state)
            assert (loader.epoch, loader.state_dict()) == (epoch, state)
        rest = epoch_of(n, epoch, position, [loader.plan for loader in ranks])
        left = n - position
        assert rest[:left] == complete[position:]
        assert len(rest) - left < other_world
        assert set(rest[left:]) <= set(complete[position:])


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_loader_goes_on_where_another_was(ds, ahead):
    complete = taken(Loader(ds, 8, seed=4))
    for done in range(8):
        loader = Loader(ds, 8, seed=4, ahead=ahead)
        for _ in zip(range(done), loader, strict=False):
            pass
        state = loader.state_dict() if done else Loader(ds, 8, seed=4).state_dict()
        assert len(repr(state)) < 200
        other = Loader(ds, 8, seed=99, ahead=ahead)
        other.load_state_dict(state)
        assert taken(other) == complete[done:]
        assert other.epoch == 1
        small = Loader(ds, 3)
        small.load_state_dict(state)
        assert list(itertools.chain(*taken(small))) == list(itertools.chain(*complete[done:]))


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_epoch_interrupted_and_divided_anew_is_the_same_epoch(ds, ahead):
    """Real batches of 2 ranks, then of 3, then of 1: together those of one process."""
    complete = Loader(ds, 53, seed=9)
    (want,) = complete
    seen, state = [], None
    for world, batch, steps in ((2, 5, 2), (3, 4, 1), (1, 6, None)):
        ranks = [
            Loader(ds, batch, seed=9, rank=r, world=world, ahead=ahead, copy=True)
            for r in range(world)
        ]
        for loader in ranks:
            if state is not None:
                loader.load_state_dict(state)
        each = [list(itertools.islice(loader, steps)) for loader in ranks]
        seen += [b for step in zip(*each, strict=True) for b in step]
        (state,) = {tuple(loader.state_dict().items()) for loader in ranks}
        state = dict(state)
    assert state["epoch"] == 1
    for name in ("rows", "images", "labels"):
        found = np.concatenate([getattr(b, name) for b in seen])
        assert found.tolist() == getattr(want, name).tolist()


def test_states_of_other_datasets_are_refused(ds):
    state = Loader(ds, 8).state_dict()
    with pytest.raises(ValueError, match="its records is 53, that of this loader is 52"):
        Loader(ds[1:], 8).load_state_dict(state)
    with pytest.raises(ValueError, match="version 7"):
        Loader(ds, 8).load_state_dict({**state, "version": 7})


# --- the thread -----------------------------------------------------------------------------------


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "mapix-ahead"]


def test_no_thread_stays(ds):
    loader = Loader(ds, 8, ahead=2)
    list(loader)
    assert not threads()
    for _ in loader:
        break
    gc.collect()
    assert not threads()
    one = iter(loader)
    next(one)
    assert len(threads()) == 1
    del one
    gc.collect()
    assert not threads()

    def fail() -> None:
        for _ in loader:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    gc.collect()
    assert not threads()


def test_errors_of_the_thread_reach_the_consumer(ds, tmp_path):
    loader = Loader(ds, 8, ahead=2)
    one = iter(loader)
    next(one)
    (tmp_path / "train").write_bytes(b"")
    with pytest.raises(mapix.FileChangedError):
        list(one)
    assert not threads()


def test_slots_are_used_again_only_when_they_are_released():
    made: list[int] = []
    ahead = Ahead(lambda slot: made.append(slot) or slot + 1 if len(made) < 9 else None, 3)
    try:
        slot, value = ahead.next()
        assert value == slot + 1
        held = {slot}
        for _ in range(2):
            slot, _ = ahead.next()
            held.add(slot)
        assert held == {0, 1, 2}
        assert len(made) == 3  # all slots are held: the thread waits
        ahead.release(1)
        assert ahead.next()[0] == 1
    finally:
        ahead.close()


def test_a_pass_begun_before_a_fork_is_refused_in_the_child(ds):
    one = iter(Loader(ds, 8, ahead=1))
    next(one)
    pid = os.fork()
    if pid == 0:  # nothing may run here but this
        status = 1
        try:
            next(one)
            next(one)
        except RuntimeError as e:
            status = 0 if "fork" in str(e) and len(list(Loader(ds, 8, ahead=2))) == 7 else 2
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(list(one)) == 6


PROGRAM = """
import signal, sys, mapix
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
ds = mapix.open(sys.argv[1], dialect=14)
loader = mapix.Loader(ds, 2, ahead=2)
print("ready", flush=True)
{body}
"""


def run(ds: Any, body: str, **kwargs: Any) -> subprocess.Popen[str]:
    code = PROGRAM.format(body=body)
    command = [sys.executable, "-c", code, ds.path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **kwargs)


INTERRUPTED = """
import threading, time
try:
    print("running", flush=True)
    while True:
        for batch in loader: pass
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
# not in the except block: the traceback holds the objects that own the thread
while any(t.name == "mapix-ahead" for t in threading.enumerate()):
    time.sleep(0.01)
assert len(list(loader)) == len(loader)
print("no thread was left", flush=True)
raise KeyboardInterrupt
"""


def test_ctrl_c_ends_a_program(ds):
    child = run(ds, INTERRUPTED)
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == ["ready\n", "running\n"]
    # more than once: Python ignores an exception in a callback of its own, as of a weak reference
    for _ in range(30):
        child.send_signal(signal.SIGINT)
        try:
            out, err = child.communicate(timeout=1)
            break
        except subprocess.TimeoutExpired:
            continue
    else:
        child.kill()
        out, err = child.communicate()
    assert out == "no thread was left\n", err
    assert child.returncode in (-signal.SIGINT, 1), err
    assert "KeyboardInterrupt" in err


def test_a_program_ends_with_a_pass_under_way(ds):
    child = run(ds, "one = iter(loader); next(one)")
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")


def unshared_nbytes() -> int:
    """Bytes of memory that only this process has."""
    with open("/proc/self/smaps_rollup") as f:
        return sum(int(line.split()[1]) << 10 for line in f if line.startswith("Private_"))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("options", [{}, {"copy": True}, {"dtype": "float32", "layout": "NCHW"}])
def test_memory_does_not_grow(tmp_path, library, ahead, options):
    """A leak of a batch per epoch would be 19 MB; a new thread per epoch makes malloc vary by 4."""
    kind: Any = Loader
    if library == "torch":
        pytest.importorskip("torch")
        kind = importlib.import_module("mapix.torch").Loader
    path = tmp_path / "train"
    path.write_bytes(pack([record(32, 32, 3, [(0, i % 256)], seed=i) for i in range(1000)]))
    loader = kind(mapix.open(path, dialect=14), 32, ahead=ahead, **options)
    for _ in range(20):
        for _ in loader:
            pass
    gc.collect()
    before = unshared_nbytes()
    for _ in range(200):
        for _ in loader:
            pass
    gc.collect()
    assert unshared_nbytes() - before < 8 << 20
