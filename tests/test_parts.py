"""Parts of parts: every chain of selections gives what a list of the records gives."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

import mapix
from mapix.vimh import Parameter, Writer

A = Parameter("a", 0, min=0.0, max=10.0, step=2.5, num_classes=5)
B = Parameter("b", 1, min=-1.0, max=1.0, step=1.0, num_classes=3)
N = 23


def slices():
    ends = (None, 2, -3)
    return [slice(a, b, s) for a, b, s in itertools.product(ends, ends, (2, -1, -3))]


STEPS = [
    slice(None, None, 2),
    slice(None, None, -1),
    slice(-2, 1, -3),
    slice(3, 3),
    "indices",
    "mask",
]


def key_for(step, n: int):
    """The key of a dataset of n records, and the positions that it means."""
    if step == "indices":
        chosen = [(7 * i + 1) % n for i in range(n // 2 + 1)] if n else []
        chosen = [i - n if k % 2 else i for k, i in enumerate(chosen)]
        return np.array(chosen, int), [i % n for i in chosen] if n else []
    if step == "mask":
        mask = [i % 3 != 1 for i in range(n)]
        return np.array(mask, bool), [i for i in range(n) if mask[i]]
    return step, list(range(n))[step]


def every(mixed: bool):
    rng = np.random.default_rng(1)
    for i in range(N):
        h, c = (4 + i % 3, 1 + i % 2) if mixed else (4, 2)
        codes = {"a": 11 * i % 256} | ({"b": 255 - 9 * i} if i % 4 or not mixed else {})
        yield rng.integers(0, 256, (h, 5, c), np.uint8), codes, (-80.0, float(i))


def write(path, chosen, **options):
    with Writer(path, [A, B], **options) as out:
        for image, codes, spec in chosen:
            out.append(image, codes=codes, spec_range=spec)
    return path


KINDS = ["uniform", "mixed", "stored", "pickle", "joined", "joined mixed"]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    made = {}
    for mixed in (False, True):
        records = list(every(mixed))
        name = "mixed" if mixed else "uniform"
        made[name] = mapix.open(write(folder / name, records)), records
        paths = [
            write(folder / f"{name}{k}", records[a:b])
            for k, (a, b) in enumerate(itertools.pairwise((0, 5, 5, 6, N)))
        ]
        made["joined mixed" if mixed else "joined"] = mapix.open(paths), records
    records = list(every(True))
    path = write(folder / "kept", records)
    mapix.index(path)
    made["stored"] = mapix.open(path), records
    assert made["stored"][0].index.stored
    records = list(every(False))
    made["pickle"] = mapix.open(write(folder / "pickle", records, output="pickle")), records
    return made


def want_column(records, name):
    return [codes.get(name) for _, codes, _ in records]


def groups(records, names):
    keys = []
    for _, codes, _ in records:
        classes = [None if n not in codes else int(P[n].class_of(codes[n])) for n in names]
        keys.append(None if None in classes else tuple(classes))
    return keys


P = {"a": A, "b": B}


def compare(ds, records, rows):
    """Everything that a dataset tells, against the records that it should hold."""
    n = len(records)
    assert len(ds) == n
    assert ds.rows.tolist() == rows
    for record, (image, codes, _) in zip(ds, records, strict=True):
        assert (record.image == image).all()
        assert record.labels == codes
    for i in (0, n - 1, -1, -n) if n else ():
        assert ds[i].labels == records[i][1]
    for i in (n, -n - 1):
        with pytest.raises(IndexError):
            ds[i]
    assert [tuple(s) for s in ds.shapes.tolist()] == [image.shape for image, *_ in records]
    for name in P:
        assert ds.labels[name].raw.tolist() == want_column(records, name)
        assert len(ds.labels[name]) == n
    order = list(range(n))[::-2]
    batch = ds.batch(order, flat=True)
    for k, i in enumerate(order):
        image, codes, _ = records[i]
        flat = batch.images[batch.offsets[k] : batch.offsets[k + 1]]
        assert flat.tobytes() == image.transpose(2, 0, 1).tobytes()
        for column, name in enumerate(batch.names):
            assert batch.present[k, column] == (name in codes)
            assert batch.labels[k, column] == codes.get(name, 0)
    sizes = [len(b.images) for b in ds.batches(4, pad=True)]
    assert sum(sizes) == n
    values = [{k: float(P[k].dequantise(v)) for k, v in codes.items()} for _, codes, _ in records]
    chosen = [i for i, v in enumerate(values) if "b" in v and v["a"] > 3 and v["b"] <= 0.5]
    part = ds.where("a > 3 and b <= 0.5")
    assert part.rows.tolist() == [rows[i] for i in chosen]
    assert [r.labels for r in part] == [records[i][1] for i in chosen]
    part = ds.where(lambda v: v["a"] > 3)
    assert part.rows.tolist() == [rows[i] for i, v in enumerate(values) if v["a"] > 3]
    ranked = sorted(range(n), key=lambda i: values[i].get("b", np.inf))
    assert ds.sort_by("b").rows.tolist() == [rows[i] for i in ranked]
    keys = groups(records, ("a", "b"))
    counts = {k: keys.count(k) for k in set(keys)}
    raw = [0.0 if k is None else 1 / counts[k] for k in keys]
    scale = sum(k is not None for k in keys) / sum(raw) if sum(raw) else 1.0
    np.testing.assert_allclose(ds.weights("a", "b"), np.array(raw) * scale)
    first, second = ds.split(0.6)
    assert first.rows.tolist() == rows[: int(0.6 * n)]
    assert second.rows.tolist() == rows[int(0.6 * n) :]
    for stratify in (None, "b"):
        first, second = ds.split(0.6, seed=3, stratify=stratify)
        places = {row: i for i, row in enumerate(rows)}
        assert sorted([*first.rows.tolist(), *second.rows.tolist()]) == sorted(rows)
        for p in (first, second):
            where = [places[r] for r in p.rows.tolist()]
            assert [r.labels for r in p] == [records[i][1] for i in where]
            assert p.labels["a"].raw.tolist() == [records[i][1]["a"] for i in where]
    for rank in range(3):
        shard = ds.shard(rank, 3)
        assert shard.rows.tolist() == rows[rank::3]
        assert shard.labels["a"].raw.tolist() == want_column(records[rank::3], "a")
    if n:
        drawn = ds.draw(5, seed=1)
        assert [r.labels for r in drawn] == [records[rows.index(r)][1] for r in drawn.rows.tolist()]
    again = pickle.loads(pickle.dumps(ds))
    assert again.rows.tolist() == rows
    assert [r.labels for r in again] == [codes for _, codes, _ in records]


def compare_file(ds, records):
    """What datasets over one file tell besides."""
    found = ds.statistics()
    assert found.n == len(records)
    for c in range(len(found.pixels.count)):
        planes = [image[..., c].ravel() for image, *_ in records if image.shape[2] > c]
        pixels = np.concatenate([np.empty(0, np.uint8), *planes]).astype(np.float64)
        assert found.pixels.count[c] == len(pixels)
        if len(pixels):
            np.testing.assert_allclose(found.pixels.mean[c], pixels.mean())
            np.testing.assert_allclose(found.pixels.std[c], pixels.std())
            assert (found.pixels.min[c], found.pixels.max[c]) == (pixels.min(), pixels.max())
    for name in P:
        have = [c for c in want_column(records, name) if c is not None]
        assert (found.labels[name].n, found.labels[name].missing) == (
            len(have),
            len(records) - len(have),
        )
        if have:
            values = P[name].dequantise(np.array(have))
            np.testing.assert_allclose(found.labels[name].mean, values.mean())
            np.testing.assert_allclose(found.labels[name].median, np.median(values))
    assert len(ds.offsets) == len(records)
    assert ds.label_counts.tolist() == [len(codes) for _, codes, _ in records]
    if ds.uniform and not isinstance(ds._rows, np.ndarray):
        assert ds.images.shape[0] == len(records)
        for k, (image, codes, _) in enumerate(records):
            assert (ds.images[k] == image).all()
            assert ds.label_bytes[k].tolist() == list(codes.values())


CHAINS = [chain for k in range(4) for chain in itertools.product(STEPS, repeat=k) if k < 3]
CHAINS += [(a, "indices", b) for a in STEPS[:3] for b in STEPS[:3]]
CHAINS += [("indices", a, b) for a in STEPS[:3] for b in STEPS[:3]]


@pytest.mark.parametrize("kind", KINDS)
def test_chains_of_selections(datasets, kind):
    whole, of_file = datasets[kind]
    for chain in CHAINS:
        ds, rows = whole, list(range(N))
        for step in chain:
            key, places = key_for(step, len(rows))
            ds, rows = ds[key], [rows[i] for i in places]
        records = [of_file[i] for i in rows]
        compare(ds, records, rows)
        if not kind.startswith("joined"):
            compare_file(ds, records)


@pytest.mark.parametrize("kind", KINDS)
def test_slices_of_all_shapes(datasets, kind):
    whole, of_file = datasets[kind]
    order = [(5 * i + 2) % N for i in range(N)]
    for base, rows in ((whole, list(range(N))), (whole[order], order)):
        for key in slices():
            part, chosen = base[key], rows[key]
            assert part.rows.tolist() == chosen
            assert part.labels["a"].raw.tolist() == [of_file[i][1]["a"] for i in chosen]
            assert part.batch(range(len(chosen)), pad=True).labels[:, 0].tolist() == [
                of_file[i][1]["a"] for i in chosen
            ]


@pytest.mark.parametrize("kind", ["uniform", "joined mixed"])
@pytest.mark.parametrize("world", [1, 2, 3, 5, 22, 23, 24, 50])
def test_shards_of_equal_parts(datasets, kind, world):
    whole, _ = datasets[kind]
    for ds in (whole, whole[::-1], whole[[4, 2]], whole[:0]):
        rows, n = ds.rows.tolist(), len(ds)
        shards = {
            e: [ds.shard(r, world, equal=e) for r in range(world)] for e in ("drop", "repeat")
        }
        for equal, each in (("drop", n // world), ("repeat", -(-n // world))):
            assert [len(s) for s in shards[equal]] == [each] * world
        dropped = [
            r for step in zip(*(s.rows.tolist() for s in shards["drop"]), strict=True) for r in step
        ]
        assert dropped == rows[: n - n % world]
        dealt = [
            r
            for step in zip(*(s.rows.tolist() for s in shards["repeat"]), strict=True)
            for r in step
        ]
        assert dealt == [rows[k % n] for k in range(len(dealt))]
        assert len(dealt) >= n
    with pytest.raises(ValueError, match="equal must be"):
        whole.shard(0, 2, equal="pad")
    with pytest.raises(ValueError, match="rank must be"):
        whole.shard(world, world, equal="drop")
