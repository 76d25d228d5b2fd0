"""Orders of a loader: each position by itself, the same everywhere, and what each one promises."""

from __future__ import annotations

import numpy as np
import pytest

import mapix
from mapix import _native
from mapix.sampling import Blocks, Bucketed, Stratified, Weighted, permuted

SIZES = np.random.default_rng(5).integers(10, 400, 1003)
CLASSES = np.random.default_rng(6).choice([0, 1, 2, 3], 1003, p=[0.7, 0.2, 0.07, 0.03])
ORDERS = {
    "stratified": Stratified(CLASSES),
    "bucketed": Bucketed(SIZES, 16),
    "blocks": Blocks(1003, 10, 7),
    "one block": Blocks(5, 100, 2),
    "less than a step": Bucketed(SIZES[:7], 16),
}


@pytest.mark.parametrize("n", [1, 2, 3, 17, 1000, 5000])
def test_any_position_of_a_permutation(n):
    for key in (0, 7, (1 << 64) - 5):
        whole = _native.permute(n, key, 0, n)
        positions = np.random.default_rng(n).integers(0, n, 200)
        assert permuted(n, key, positions).tolist() == whole[positions].tolist()
    assert permuted(n, 1, np.empty(0, np.int64)).tolist() == []


@pytest.mark.parametrize("name", ORDERS)
def test_each_record_once_and_each_position_by_itself(name):
    order = ORDERS[name]
    every = np.arange(order.n)
    epochs = [order.records(key, every) for key in (1, 2)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == every.tolist()
    assert order.n < 10 or epochs[0].tolist() != epochs[1].tolist()
    for positions in (every[::-1], every[3:4], every[order.n // 2 :]):
        assert order.records(1, positions).tolist() == epochs[0][positions].tolist()


def drawn(key: int, position: int) -> int:
    """Which of 8 records of weights 1 to 8 a position draws, in whole numbers."""
    k = ((position + 1) * 0x9E3779B97F4A7C15 + key) % 2**64
    k = (k ^ k >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    k = (k ^ k >> 27) * 0x94D049BB133111EB % 2**64
    at = ((k ^ k >> 31) >> 11) * 36  # of 36 * 2**53: no position is on an edge
    return next(r for r in range(8) if at < sum(range(1, r + 2)) * 2**53)


def test_weights():
    weights = np.array([0.0, 1.0, 2.0, 0.0, 5.0])
    order = Weighted(weights, 100_000)
    found = order.records(3, np.arange(order.n))
    counts = np.bincount(found, minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    expected = weights / weights.sum() * order.n
    chi2 = ((counts - expected)[[1, 2, 4]] ** 2 / expected[[1, 2, 4]]).sum()
    assert chi2 < 13.8  # 0.999 of two degrees of freedom; the seed is fixed
    for key in (1, (1 << 64) - 9):
        found = Weighted(np.arange(1, 9.0)).records(key, np.arange(50))
        assert found.tolist() == [drawn(key, position) for position in range(50)]
    for bad in ([], [0.0, 0.0], [1.0, -1.0], [np.nan], [[1.0]]):
        with pytest.raises(ValueError, match="weights"):
            Weighted(bad)


def test_strata_have_their_shares_in_each_beginning():
    order = ORDERS["stratified"]
    classes = CLASSES[order.records(9, np.arange(order.n))]
    shares = np.bincount(CLASSES) / len(CLASSES)
    for end in range(1, order.n):
        counts = np.bincount(classes[:end], minlength=4)
        assert (np.abs(counts - shares * end) < 1.5).all()


def test_strata_of_columns(tmp_path):
    mapix.idx.write(tmp_path / "train-images-idx3-ubyte", np.zeros((40, 2, 2), np.uint8))
    labels = np.arange(40, dtype=np.uint8) % 4
    mapix.idx.write(tmp_path / "train-labels-idx1-ubyte", labels)
    ds = mapix.open(tmp_path)
    order = Stratified(ds, "label")
    found = labels[order.records(1, np.arange(40))].reshape(10, 4)
    assert (np.sort(found, axis=1) == np.arange(4)).all()
    loader = mapix.Loader(ds, 8, weights="label")
    assert sum(len(batch) for batch in loader) == 40


def waste(order, step):
    """Pixels of padding for each pixel, if a batch is as large as its largest record."""
    line = SIZES[order]
    batches = [line[k : k + step] for k in range(0, len(line), step)]
    return sum(len(b) * b.max() for b in batches) / line.sum() - 1


def test_buckets_waste_less():
    order = ORDERS["bucketed"]
    bucketed = waste(order.records(1, np.arange(order.n)), 16)
    shuffled = waste(_native.permute(order.n, 1, 0, order.n), 16)
    assert shuffled > 0.7
    assert bucketed < 0.15
    assert order.waste == pytest.approx(waste(order.records(0, np.arange(order.n)), 16))
    assert (
        order.explain()
        == f"Bucketed of 1003 records; padding adds {order.waste:.1%} to their sizes"
    )
    assert Bucketed([7, 7, 7], 2).waste == 0
    assert Bucketed([1, 3], 2).waste == 0.5
    assert Bucketed([], 2).waste == 0
    assert ORDERS["blocks"].explain() == "Blocks of 1003 records"


def test_blocks_lie_together():
    order = Blocks(10_000, 10, 5)
    found = order.records(4, np.arange(10_000))
    for begin in range(0, 10_000, 50):  # a window holds five blocks of ten neighbours
        window = np.sort(found[begin : begin + 50])
        breaks = int((np.diff(window) > 1).sum())
        assert breaks <= 5
        assert found[begin : begin + 50].tolist() != window.tolist()


def test_blocks_are_asked_for_a_window_before_they_are_needed():
    order = Blocks(1003, 10, 7)  # windows of 70, and 3 records that fill no block
    records = order.records(4, np.arange(1003))
    asked = [order.soon(4, np.arange(p, min(p + 16, 1003))) for p in range(0, 1003, 16)]
    assert sorted(np.concatenate(asked).tolist()) == list(range(1003))
    seen: set[int] = set()
    for begin, some in zip(range(0, 1003, 16), asked, strict=True):
        seen.update(some.tolist())
        assert seen.issuperset(records[begin : begin + 16].tolist())
        assert (np.diff(some) == 1).sum() >= len(some) * 0.6  # neighbours, in their order
    assert order.soon(4, np.empty(0, np.int64)).tolist() == []
    assert Stratified(CLASSES).soon(4, np.arange(16)).tolist() == []


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("name", ["weighted", "stratified", "bucketed", "blocks"])
def test_a_loader_resumes_in_any_order(tmp_path, name, world):
    path = tmp_path / "a.idx"
    mapix.idx.write(path, np.arange(1003, dtype=np.int32)[:, None])
    order = Weighted(SIZES) if name == "weighted" else ORDERS[name]

    def loader(rank, seed=4):
        options = {"order": order, "seed": seed, "rank": rank, "world": world, "ahead": 0}
        return mapix.Loader(mapix.open(path), 16, **options)

    whole = [[b.rows.tolist() for b in loader(rank)] for rank in range(world)]
    for stop in (0, 3, 7):
        for rank in range(world):
            first = loader(rank)
            passing = iter(first)
            for _ in range(stop):
                next(passing)
            state = first.state_dict()
            passing.close()
            again = loader(rank, seed=0)
            again.load_state_dict(state)
            assert [b.rows.tolist() for b in again] == whole[rank][stop:]
    other = mapix.Loader(mapix.open(path), 16, order=Blocks(1003, 3, 3))
    with pytest.raises(ValueError, match="another dataset"):
        other.load_state_dict(loader(0).state_dict())
    with pytest.raises(ValueError, match="not both"):
        mapix.Loader(mapix.open(path), 16, order=order, weights=SIZES)
