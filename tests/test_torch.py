"""mapix.torch: one gather a batch, in any kind of loader."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

import every_operation
import mapix
import mapix.idx
from slow_vimh import pack, record

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
mapix_torch = pytest.importorskip("mapix.torch")
from torch.utils.data import (  # noqa: E402
    BatchSampler,
    ConcatDataset,
    DataLoader,
    StackDataset,
    Subset,
)

pytestmark = pytest.mark.torch

INFO = {
    "parameter_names": ["note", "velocity"],
    "parameter_mappings": {
        "note": {"min": 0, "max": 255, "step": 5},
        "velocity": {"min": 0, "max": 1, "step": 0.25},
    },
}
N = 103


@pytest.fixture
def uniform(tmp_path: Path) -> Path:
    path = tmp_path / "uniform"
    records = [record(6, 5, 3, [(0, i), (1, 2 * i)], seed=i) for i in range(N)]
    path.write_bytes(pack(records))
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed"
    records = [
        record(3 + i % 4, 5 + i % 3, 1 + 2 * (i % 2), [(i % 2, i)] if i % 5 else [], seed=i)
        for i in range(N)
    ]
    path.write_bytes(pack(records))
    return path


def loader(data, **kw):
    return DataLoader(data, collate_fn=mapix_torch.collate, **kw)


def everything(batches):
    images = torch.cat([b[0] for b in batches])
    labels = {k: torch.cat([b[1][k] for b in batches]) for k in batches[0][1]}
    return images, labels


def test_a_sample(uniform):
    data = mapix_torch.Dataset(uniform, info=INFO, scale=1 / 255)
    image, labels = data[-1]
    want = mapix.open(uniform)[N - 1].image.transpose(2, 0, 1).astype(np.float32)
    assert image.shape == (3, 6, 5)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), want / 255, rtol=1e-6)
    assert {k: v.item() for k, v in labels.items()} == {"note": 20, "velocity": 3}
    assert len(data) == N
    assert data.heads == {"note": 52, "velocity": 5}
    assert sum(1 for _ in data) == N
    with pytest.raises(IndexError, match=f"{N} of {N}"):
        data[N]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_loader_gives_what_batch_gives(uniform, workers, method, dtype):
    if workers == 0 and method == "spawn":
        pytest.skip("no workers to spawn")
    options = {} if dtype == "uint8" else {"mean": [10, 20, 30], "std": [2.0, 3.0, 4.0]}
    data = mapix_torch.Dataset(uniform, info=INFO, dtype=dtype, **options)
    context = {"multiprocessing_context": method} if workers else {}
    got = list(loader(data, batch_size=16, num_workers=workers, **context))
    assert [len(b[0]) for b in got] == [16] * 6 + [7]
    images, labels = everything(got)
    want = mapix.open(uniform, info=INFO).batch(
        range(N), dtype=dtype, layout="NCHW", labels="class", **options
    )
    np.testing.assert_array_equal(images.numpy(), want.images)
    for k, name in enumerate(want.names):
        assert labels[name].dtype == torch.int64
        np.testing.assert_array_equal(labels[name].numpy(), want.labels[:, k])


def test_a_loader_calls_one_gather_a_batch(uniform, monkeypatch):
    data = mapix_torch.Dataset(uniform)
    calls = []
    real = mapix.vimh.Dataset.batch
    monkeypatch.setattr(
        mapix.vimh.Dataset, "batch", lambda self, i, **k: calls.append(len(i)) or real(self, i, **k)
    )
    list(loader(data, batch_size=50))
    assert calls == [50, 50, 3]


def test_workers_send_shared_memory_without_another_copy(uniform):
    data = mapix_torch.Dataset(uniform, dtype="uint8")
    rows = list(range(32))
    out = data._shared_out(np.array(rows))
    assert out.is_shared()
    value = data._gather(rows, shared=True).value
    assert value[0].is_shared()
    want = mapix.open(uniform).batch(rows, layout="NCHW").images
    np.testing.assert_array_equal(value[0].numpy(), want)


def test_no_warning_about_read_only_arrays(uniform):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images, labels in loader(mapix_torch.Dataset(uniform), batch_size=10):
            images.add_(1)
            labels["param_0"].add_(1)


@pytest.mark.parametrize("unit", ["class", "raw", "normalised", "physical"])
def test_labels(mixed, unit):
    data = mapix_torch.Dataset(mixed, info=INFO, pad=True, labels=unit)
    ((_, labels),) = loader(data, batch_size=N)
    for i in (0, 1, 2, 3):
        record_labels = data.source[i].labels
        for name, parameter in data.source.parameters.items():
            got = labels[name][i]
            if name in record_labels:
                code = record_labels[name]
                want = {
                    "class": parameter.class_of(code),
                    "raw": code,
                    "normalised": code / 255,
                    "physical": parameter.dequantise(code),
                }[unit]
                assert got.item() == pytest.approx(float(want), rel=1e-6)
            elif unit == "class":
                assert got.item() == -100
            elif unit == "raw":
                assert got.item() == 0
            else:
                assert torch.isnan(got)
    loss = torch.nn.functional.cross_entropy
    if unit == "class":  # missing heads count for nothing
        logits = torch.zeros(N, 52)
        assert torch.isfinite(loss(logits, labels["note"]))
    one = mapix_torch.Dataset(mixed, info=INFO, pad=True, labels=unit, as_dict=False)
    ((_, tensor),) = loader(one, batch_size=N)
    assert tensor.shape == (N, 2)
    assert torch.equal(torch.nan_to_num(tensor[:, 1]), torch.nan_to_num(labels["velocity"]))
    nothing = mapix_torch.Dataset(mixed, info=INFO, pad=True, labels=None)
    assert nothing[0][1] is None


def test_mixed_sizes_with_their_sizes(mixed):
    data = mapix_torch.Dataset(mixed, pad=True, sizes=True, dtype="uint8")
    images, _, sizes = next(iter(loader(data, batch_size=4)))
    assert images.shape == (4, 3, 6, 7)
    assert sizes.tolist() == [[3, 5, 1], [4, 6, 3], [5, 7, 1], [6, 5, 3]]
    for image, (h, w, c), r in zip(images, sizes.tolist(), data.source, strict=False):
        np.testing.assert_array_equal(image[:c, :h, :w].numpy(), r.image.transpose(2, 0, 1))
        assert image[:, h:].sum() == image[:, :, w:].sum() == image[c:].sum() == 0
    single, _, size = data[1]
    assert single.shape == (3, 4, 6)
    assert size.tolist() == [4, 6, 3]
    strict = mapix_torch.Dataset(mixed)
    with pytest.raises(ValueError, match="pad="):
        next(iter(loader(strict, batch_size=4)))


def test_transforms(uniform):
    plain = mapix_torch.Dataset(uniform)
    each = mapix_torch.Dataset(uniform, transform=lambda x: x[:, :2] * 2)
    whole = mapix_torch.Dataset(uniform, batch_transform=lambda x: x.flip(3))
    a, _ = next(iter(loader(plain, batch_size=8)))
    b, _ = next(iter(loader(each, batch_size=8)))
    c, _ = next(iter(loader(whole, batch_size=8)))
    assert torch.equal(b, a[:, :, :2] * 2)
    assert torch.equal(c, a.flip(3))
    assert torch.equal(each[3][0], b[3])
    assert torch.equal(whole[3][0], c[3])


def test_the_default_collate_works_too(uniform):
    data = mapix_torch.Dataset(uniform)
    a = list(DataLoader(data, batch_size=40))
    b = list(loader(data, batch_size=40))
    for (x, xl), (y, yl) in zip(a, b, strict=True):
        assert torch.equal(x, y)
        assert {k: v.tolist() for k, v in xl.items()} == {k: v.tolist() for k, v in yl.items()}


def test_the_default_collate_copies_nothing(uniform):
    """A DataLoader without ``collate_fn`` hands out the tensors that were gathered."""
    data = mapix_torch.Dataset(uniform)
    batch = data.__getitems__([1, 2])
    assert torch.utils.data.default_collate(batch) is batch.value
    assert type(data[3]) is mapix_torch.Sample
    again = pickle.loads(pickle.dumps(data[3]))
    assert torch.equal(again[0], data[3][0])
    for function in (None, mapix_torch.collate):
        assert type(next(iter(DataLoader(data, batch_size=5, collate_fn=function)))) is tuple


@pytest.mark.parametrize("collate", [None, mapix_torch.collate])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_batch_sampler_without_a_batch_size(uniform, collate, workers):
    data = mapix_torch.Dataset(uniform, labels="raw")
    sampler = BatchSampler(range(0, N, 2), 10, drop_last=False)
    made = DataLoader(
        data, batch_size=None, sampler=sampler, collate_fn=collate, num_workers=workers
    )
    got = list(made)
    assert [len(b[0]) for b in got] == [10] * 5 + [2]
    want = mapix.open(uniform).batch(range(0, N, 2), dtype="float32", layout="NCHW")
    images, labels = everything(got)
    np.testing.assert_array_equal(images.numpy(), want.images)
    assert labels["param_0"].tolist() == want.labels[:, 0].tolist()
    assert torch.equal(data[2:5][0], torch.stack([data[k][0] for k in (2, 3, 4)]))
    assert data[np.arange(N) == 7][1]["param_0"].tolist() == [7]


def test_batches_are_named_by_arrays_in_the_order_of_the_loaders(uniform):
    class Probe(mapix_torch.Dataset):
        asked: list[object] = []

        def __getitems__(self, indices):
            self.asked.append(indices)
            return super().__getitems__(indices)

    data = Probe(uniform, dtype="uint8")
    for options in (
        {},
        {"drop_last": True, "seed": 5},
        {"rank": 1, "world": 3},
        {"shuffle": False},
    ):
        sampler = mapix_torch.BatchSampler(N, 10, **options)
        ours = mapix.Loader(mapix.open(uniform), 10, ahead=0, **options)
        loader = DataLoader(data, batch_sampler=sampler)
        assert len(loader) == len(sampler) == len(ours)
        for _ in range(2):  # epochs
            data.asked.clear()
            images = [images for images, _ in loader]
            want = [(batch.rows.copy(), batch.images.copy()) for batch in ours]
            assert all(type(rows) is np.ndarray for rows in data.asked)
            for rows, got, (wanted, pixels) in zip(data.asked, images, want, strict=True):
                assert rows.tolist() == wanted.tolist()
                np.testing.assert_array_equal(got.numpy(), pixels.transpose(0, 3, 1, 2))
        first = [rows.tolist() for rows in data.asked]
        sampler.set_epoch(1)
        assert [rows.tolist() for rows in sampler] == first
    assert [b.tolist() for b in sampler] == [b.tolist() for b in sampler]  # not shuffled


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_padded_datasets_one_behind_the_other(mixed, tmp_path, layout):
    """Each sample comes as large as it is; a batch of them is padded as ``batch`` pads."""
    other = tmp_path / "other"
    other.write_bytes(pack([record(4 + k % 5, 3, 3, [(0, k)], seed=k) for k in range(9)]))
    options = {"pad": True, "pad_value": 7.0, "labels": None, "layout": layout, "sizes": True}
    both = ConcatDataset([mapix_torch.Dataset(path, **options) for path in (mixed, other)])
    rows = [N - 1, N, N + 4, 0, 2, 1]
    samples = [both[k] for k in rows]
    plain = [mapix_torch.Sample((s[0], s[2])) for s in samples]
    for sample in plain:
        sample.pad_value = 7.0
    images, sizes = mapix_torch.collate(plain)
    most = max(s[0] for s in sizes.tolist()), max(s[1] for s in sizes.tolist())
    shape = (6, 3, *most) if layout == "NCHW" else (6, *most, 3)
    assert images.shape == shape
    records = [both.datasets[0].source[N - 1], *(both.datasets[1].source[k] for k in (0, 4))]
    records += [both.datasets[0].source[k] for k in (0, 2, 1)]
    for image, r in zip(images.numpy(), records, strict=True):
        h, w, c = r.shape
        image = image.transpose(1, 2, 0) if layout == "NCHW" else image
        np.testing.assert_array_equal(image[:h, :w, :c], r.image)
        assert (image[h:] == 7).all()
        assert (image[:, w:] == 7).all()
        assert (image[..., c:] == 7).all()


def test_a_loader_of_padded_datasets(mixed):
    data = mapix_torch.Dataset(mixed, pad=True, labels="raw", dtype="uint8")
    both = ConcatDataset([data, data])
    total = 0
    for images, labels in DataLoader(both, batch_size=10, shuffle=True):
        assert images.dtype == torch.uint8
        assert len(images) == len(labels["param_0"])
        total += len(images)
    assert total == 2 * N
    one = next(iter(DataLoader(both, batch_size=N)))[0]
    assert torch.equal(one, next(iter(DataLoader(data, batch_size=N)))[0])


# --- arrays and records in a loader of PyTorch's own ----------------------------------------------


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_arrays_of_any_byte_order(tmp_path, order, dtype):
    """In a loader, in a part, behind one another: always this machine's byte order, no warning."""
    array = (np.arange(8 * 6).reshape(8, 2, 3) * 5).astype(dtype)
    mapix.idx.write(tmp_path / "a.idx", array, byteorder=order)
    a = mapix.open(tmp_path / "a.idx")
    want = torch.from_numpy(array)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ds, rows in [
            (a, range(8)),
            (a[::-2], range(7, 0, -2)),
            (Subset(a, [3, 1]), [3, 1]),
            (ConcatDataset([a, a[:2]]), [*range(8), 0, 1]),
        ]:
            got = torch.cat(list(DataLoader(ds, batch_size=3)))
            assert got.dtype == want.dtype
            assert torch.equal(got, want[list(rows)])
        got = next(iter(DataLoader(StackDataset(a, a[::-1]), batch_size=8)))
        assert torch.equal(got[0], want)
        assert torch.equal(got[1], want.flip(0))
        a.close()


def test_mnist_comes_with_its_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (11, 4, 4), np.uint8)
    mapix.idx.write(tmp_path / "train-images-idx3-ubyte", images)
    mapix.idx.write(tmp_path / "train-labels-idx1-ubyte", np.arange(11, dtype=np.uint8))
    ds = mapix.open(tmp_path)
    got = list(DataLoader(ds, batch_size=4))
    assert torch.equal(torch.cat([b[0] for b in got]), torch.from_numpy(images))
    assert torch.cat([b[1] for b in got]).tolist() == list(range(11))
    (part,) = DataLoader(Subset(ds, [7, 2]), batch_size=2)
    assert part[1].tolist() == [7, 2]
    samples = ds.__getitems__([5, 6])
    assert [int(label) for _, label in samples] == [5, 6]
    np.testing.assert_array_equal(samples[-1][0], images[6])
    assert len(samples[:1]) == 1
    again = pickle.loads(pickle.dumps(samples[0]))
    np.testing.assert_array_equal(again[0], images[5])
    (collated,) = DataLoader(list(samples), batch_size=2)
    assert collated[1].tolist() == [5, 6]


def test_records_of_vimh_collate(uniform, mixed, tmp_path):
    ds = mapix.open(uniform)
    images, labels = next(iter(DataLoader(ds, batch_size=5)))
    want = ds.batch(range(5))
    np.testing.assert_array_equal(images.numpy(), want.images)
    assert {k: v.tolist() for k, v in labels.items()} == {
        name: want.labels[:, k].tolist() for k, name in enumerate(want.names)
    }
    other = tmp_path / "other"
    other.write_bytes(pack([record(6, 5, 3, [(3, k)], seed=k) for k in range(4)]))
    both = ConcatDataset([mapix.open(other), ds])
    images, labels = next(iter(DataLoader(both, batch_size=7)))
    np.testing.assert_array_equal(images[4:].numpy(), want.images[:3])
    np.testing.assert_array_equal(images[1].numpy(), mapix.open(other)[1].image)
    assert labels["param_3"].tolist() == [0, 1, 2, 3, 0, 0, 0]
    assert labels["param_1"].tolist() == [0, 0, 0, 0, 0, 2, 4]
    with pytest.raises(ValueError, match="pad="):
        next(iter(DataLoader(mapix.open(mixed), batch_size=5)))


def test_arrays_of_other_datasets_are_pytorchs(tmp_path):
    """What is writable and in this machine's order goes to PyTorch's own function."""
    rows = [np.full(3, k, np.float32) for k in range(4)]
    assert torch.equal(torch.utils.data.default_collate(rows), torch.tensor(np.stack(rows)))
    with pytest.raises(TypeError, match="default_collate"):
        torch.utils.data.default_collate([np.array(["a"])])
    turned = [{"x": row.astype(">f4")} for row in rows]
    assert torch.equal(torch.utils.data.default_collate(turned)["x"], torch.tensor(np.stack(rows)))


def test_subsets_and_sub_datasets(uniform):
    data = mapix_torch.Dataset(uniform, dtype="uint8", labels="raw")
    subset = Subset(data, [5, 50, 7])
    (got,) = loader(subset, batch_size=3)
    assert got[1]["param_0"].tolist() == [5, 50, 7]
    part = mapix_torch.Dataset(data.source[10:20], labels="raw")
    (got,) = loader(part, batch_size=99)
    assert got[1]["param_0"].tolist() == list(range(10, 20))
    with pytest.raises(TypeError, match="need a path"):
        mapix_torch.Dataset(data.source, dialect=14)


def test_distributed_sampler(uniform):
    from torch.utils.data.distributed import DistributedSampler

    data = mapix_torch.Dataset(uniform, labels="raw")
    seen = []
    for rank in range(3):
        sampler = DistributedSampler(data, num_replicas=3, rank=rank, shuffle=True)
        for _, labels in loader(data, batch_size=8, sampler=sampler):
            seen += labels["param_0"].tolist()
    assert set(seen) == set(range(N))
    assert len(seen) == 105  # padded to a multiple of 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore")
def test_stateful_data_loader_resumes(uniform, workers):
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="needs torchdata")
    data = mapix_torch.Dataset(uniform, labels="raw")

    def make():
        return stateful.StatefulDataLoader(
            data, batch_size=10, num_workers=workers, collate_fn=mapix_torch.collate
        )

    whole = [b[1]["param_0"].tolist() for b in make()]
    first = make()
    it = iter(first)
    head = [next(it)[1]["param_0"].tolist() for _ in range(4)]
    state = first.state_dict()
    second = make()
    second.load_state_dict(state)
    assert head + [b[1]["param_0"].tolist() for b in second] == whole


def test_pinned_memory_keeps_the_structure(uniform):
    from torch.utils.data._utils.pin_memory import pin_memory

    batch = next(iter(loader(mapix_torch.Dataset(uniform), batch_size=4)))
    if torch.cuda.is_available():
        images, labels = pin_memory(batch)
        assert images.is_pinned()
        assert all(v.is_pinned() for v in labels.values())
    else:  # what pinning walks through are plain tuples, dicts and tensors
        assert type(batch) is tuple
        assert type(batch[1]) is dict


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_file_cut_under_workers_is_an_error_and_no_death(tmp_path, method):
    """PyTorch's workers install a SIGBUS handler of their own; the guard must stand above it."""
    path = tmp_path / "big"
    path.write_bytes(pack([record(64, 64, 1, [], seed=i) for i in range(400)]))
    data = mapix_torch.Dataset(path, dtype="uint8")
    it = iter(
        loader(data, batch_size=4, num_workers=2, prefetch_factor=1, multiprocessing_context=method)
    )
    next(it)
    os.truncate(path, 8192)
    with pytest.raises(mapix.FileChangedError, match="big"):
        for _ in it:
            pass


def test_arrays_with_labels_and_without(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 4, 5), np.uint8)
    mapix.idx.write(tmp_path / "train-images-idx3-ubyte", images)
    mapix.idx.write(tmp_path / "train-labels-idx1-ubyte", np.arange(10, dtype=np.uint8))
    data = mapix_torch.Dataset(tmp_path, scale=1 / 255)
    found = list(DataLoader(data, batch_size=4))
    got = torch.cat([x for x, _ in found])
    assert got.shape == (10, 1, 4, 5)
    np.testing.assert_allclose(got[:, 0].numpy() * 255, images, atol=1e-4)
    labels = torch.cat([y["label"] for _, y in found])
    assert labels.dtype == torch.int64
    assert labels.tolist() == list(range(10))
    image, label = data[3]
    assert image.shape == (1, 4, 5)
    assert label == {"label": 3}
    one = mapix_torch.Dataset(mapix.open(tmp_path)[2:], as_dict=False, layout="NHWC")
    assert one[0][0].shape == (4, 5, 1)
    assert one[0][1] == 2
    mapix.idx.write(tmp_path / "a.idx", np.zeros((3, 2), np.uint8))
    rows, nothing = next(iter(DataLoader(mapix_torch.Dataset(tmp_path / "a.idx"), batch_size=3)))
    assert rows.shape == (3, 2)
    assert nothing is None


def test_what_has_no_images_is_refused_with_a_sentence(tmp_path):
    with mapix.iid.Writer(tmp_path / "a.iid") as out:
        out.add("cells", "c", np.ones((2, 3), bool), at=(0, 0))
    with pytest.raises(mapix.UnsupportedError, match=r"a\.iid.*masks"):
        mapix_torch.Dataset(tmp_path / "a.iid")


def test_arrays_in_a_data_loader_by_themselves(tmp_path):
    mapix.idx.write(tmp_path / "a.idx", np.zeros((3, 2), np.uint8))
    (got,) = DataLoader(mapix.open(tmp_path / "a.idx")[:2], batch_size=4)
    assert got.tolist() == [[0, 0], [0, 0]]
    mapix.idx.write(tmp_path / "b.idx", np.arange(3, dtype=np.int32))
    assert [b.tolist() for b in DataLoader(mapix.open(tmp_path / "b.idx"), batch_size=2)] == [
        [0, 1],
        [2],
    ]


def test_bad_options_are_told_at_once(uniform):
    with pytest.raises(ValueError, match="dtype must be"):
        mapix_torch.Dataset(uniform, dtype="int8")
    with pytest.raises(TypeError):
        mapix_torch.Dataset(uniform, no_such_option=1)


def test_a_worker_refuses_another_file_when_it_uses_it_not_when_it_starts(tmp_path):
    """An error in unpickling would be the death of the worker, without a word to the loader."""
    path = tmp_path / "data"
    path.write_bytes(pack([record(4, 4, 1, [], seed=i) for i in range(3)]))
    sent = pickle.dumps(mapix_torch.Dataset(path, dtype="uint8"))
    again = pickle.loads(pickle.dumps(pickle.loads(sent)))  # never opened in between
    assert again[2][0].shape == (1, 4, 4)
    path.write_bytes(pack([record(4, 4, 1, [], seed=i) for i in range(4)]))
    late = pickle.loads(sent)
    with pytest.raises(mapix.FileChangedError, match="data"):
        late[0]


@pytest.mark.parametrize(
    "name", ["idx", "npy", "npz", "pink data", "pink map", "folder", "tar", "tfrecord", "joined"]
)
def test_every_family_in_a_data_loader(tmp_path, name):
    """``Dataset`` and ``Loader`` give what ``batch`` of the family gives."""
    if name in ("folder", "tar", "tfrecord"):
        pytest.importorskip("PIL")
    family = every_operation.families()[name]
    ds = family.open(family.make(tmp_path))[:7]
    options = {"pad": True} if name == "joined" else {}
    data = mapix_torch.Dataset(ds, **options)
    layout = data.options["layout"]
    want = ds.batch(range(7), dtype="float32", layout=layout, labels="class", **options)
    for found in (
        DataLoader(data, batch_size=7),
        mapix_torch.Loader(ds, 7, shuffle=False, **options),
    ):
        ((images, labels),) = list(found)
        assert images.dtype == torch.float32
        assert images.numpy().tolist() == want.images.tolist()
        assert (labels is None) == (want.labels is None)
        if labels is not None:
            assert list(labels) == list(want.names)
