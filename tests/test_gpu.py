"""The loader for PyTorch, on a GPU: each way gives the batches of ``ds.batch``.

All tests run on an emulation of a GPU, too: ``emulated_gpu.py``.
"""

from __future__ import annotations

import gc
import gzip
import json
import os
from typing import Any

import numpy as np
import pytest

import mapix
from slow_vimh import pack, record

torch = pytest.importorskip("torch")
from emulated_gpu import emulate  # noqa: E402
from test_gpu_kernel import kernel  # noqa: E402, F401

pytestmark = pytest.mark.torch
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
WAYS = ("pages", "pinned", "plain")


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=needs_gpu)])
def where(request, monkeypatch, kernel):  # noqa: F811
    """The type of device of the tensors."""
    if request.param == "cuda":
        return "cuda"
    emulate(monkeypatch, kernel)
    return "cpu"


@pytest.fixture
def loaders(where):
    """Makes loaders, and closes them."""
    import mapix.torch

    made: list[Any] = []

    def make(ds: Any, batch: int, way: str | None = None, **options: Any) -> Any:
        made.append(mapix.torch.Loader(ds, batch, device="cuda", way=way, **options))
        made[-1].where = where
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def vimh(tmp_path: Any, records: list[Any], **options: Any) -> Any:
    path = tmp_path / "train"
    path.write_bytes(pack(records))
    return mapix.open(path, dialect=14, **options)


def same(ds: Any, loader: Any, *, begin: int = 0, **options: Any) -> None:
    """All batches of two epochs, images and labels."""
    for epoch in range(begin, begin + 2):
        seen = 0
        for k, (images, labels) in enumerate(loader):
            rows = loader.plan.rows(epoch, k * loader.plan.step)
            want = ds.batch(rows, **options)
            expected = torch.from_numpy(want.images)
            if images.dtype is torch.bfloat16:
                expected = expected.to(torch.bfloat16)
            assert images.device.type == loader.where
            assert images.dtype == expected.dtype
            assert torch.equal(images.cpu(), expected), (epoch, k)
            if want.labels is not None:
                values = want.labels.copy()
                if options.get("labels") == "class":
                    values[~want.present] = -100
                assert list(labels) == list(want.names)
                for j, name in enumerate(want.names):
                    assert labels[name].device.type == loader.where
                    np.testing.assert_array_equal(labels[name].cpu().numpy(), values[:, j])
            seen += len(rows)
        assert seen == len(ds)


OPTIONS = [
    {"dtype": "uint8"},
    {"dtype": "uint8", "layout": "NHWC", "labels": "raw"},
    {"dtype": "float32", "scale": 1 / 255, "mean": 0.5, "std": [0.25, 0.5, 0.125]},
    {"dtype": "float16", "layout": "NHWC", "labels": "physical"},
    {"dtype": "bfloat16", "mean": [1, 2, 3], "labels": "normalised"},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(5, 7, 3), (16, 16, 3)])
def test_records_that_are_alike(tmp_path, loaders, way, options, shape):
    records = [record(*shape, [(i % 3, i)] * (i % 4 > 0), seed=i) for i in range(3)]
    records = [record(*shape, [(0, i), (3, 2 * i)], seed=i) for i in range(101)]
    ds = vimh(tmp_path, records)
    known = {"layout": "NCHW", "labels": "class", **options}
    if known["dtype"] == "bfloat16":
        known["dtype"] = "float32"
    for part in (ds, ds[90:3:-2], ds[[5, 5, 1, 99]]):
        same(part, loaders(part, 8, way, **options), **known)


def files(tmp_path: Any, sizes: list[int], *, shape: Any = (5, 7, 3)) -> list[Any]:
    """Paths of files of these numbers of records, which differ in their labels."""
    found = []
    tmp_path.mkdir(exist_ok=True)
    for k, n in enumerate(sizes):
        found.append(tmp_path / f"train_{k}")
        each = [
            record(
                *(shape or (3 + i % 3, 4 + k, 3)),
                [(0, i % 256), (3, (9 * k + i) % 256)],
                seed=100 * k + i,
            )
            for i in range(n)
        ]
        found[-1].write_bytes(pack(each))
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[4]])
def test_records_of_several_files(tmp_path, loaders, way, options):
    ds = mapix.open(files(tmp_path, [40, 1, 17]), dialect=14)
    known = {"layout": "NCHW", "labels": "class", **options}
    if known["dtype"] == "bfloat16":
        known["dtype"] = "float32"
    for part in (ds, ds[50:3:-2], ds[[40, 40, 1, 57]]):
        same(part, loaders(part, 8, way, **options), **known)
    mixed = mapix.open(files(tmp_path / "mixed", [9, 30], shape=None), dialect=14)
    pad = {"pad": (6, 8), "pad_value": 2.0}
    same(mixed, loaders(mixed, 8, way, **options, **pad), **known, **pad)


def test_files_that_a_gpu_reads_on_their_own(tmp_path, loaders):
    paths = files(tmp_path, [20, 20])
    loader = loaders(mapix.open(paths, dialect=14), 4)
    assert f"{sum(p.stat().st_size for p in paths)} bytes in 2 files, which" in loader.explain()
    batches = iter(loader)
    next(batches)
    os.truncate(paths[1], 300)
    with pytest.raises(mapix.FileChangedError):
        list(batches) + list(loader)


def test_files_that_a_gpu_does_not_read_together(tmp_path, loaders):
    paths = files(tmp_path, [20, 20])
    other = mapix.open([*paths, *files(tmp_path / "other", [5], shape=(5, 8, 3))], dialect=14)
    assert "mixed sizes need pad=(h, w)" in loaders(other, 4, pad=True).explain()
    grey = mapix.open([*paths, *files(tmp_path / "grey", [5], shape=(5, 7, 1))], dialect=14)
    assert "records are copied in another way" in loaders(grey, 4, pad=(5, 7)).explain()


@pytest.mark.parametrize("way", WAYS)
def test_labels_that_are_missing(tmp_path, loaders, way):
    records = [record(4, 4, 1, [(0, i)] if i % 3 else [(1, 9)], seed=i) for i in range(40)]
    ds = vimh(tmp_path, records)
    same(ds, loaders(ds, 8, way), dtype="float32", layout="NCHW", labels="class")
    same(ds, loaders(ds, 8, way, labels=None), dtype="float32", layout="NCHW", labels=None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", OPTIONS[:2] + OPTIONS[3:4])
@pytest.mark.parametrize("pad_value", [0.0, 7.0])
def test_mixed_sizes_on_a_canvas(tmp_path, loaders, way, options, pad_value):
    records = [record(2 + i % 30, 3 + i % 17, 1 + i % 3, [(0, i)], seed=i) for i in range(100)]
    ds = vimh(tmp_path, records)
    options = {**options, "pad": (16, 12), "crop": True, "pad_value": pad_value}
    same(ds, loaders(ds, 8, way, **options), **{"layout": "NCHW", "labels": "class", **options})


CHANGES = [
    mapix.Augment(flip=0.5, seed=1),  # without other values: bytes cross the bus
    mapix.Augment(crop=(6, 5), pad=2, flip=0.5, cutout=2),
    mapix.Augment(crop=(4, 9), pad=1, mixup=0.4),
]


@pytest.mark.parametrize("way", ["pinned", "plain"])
@pytest.mark.parametrize("augment", CHANGES, ids=["flip", "crop", "mixup"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
def test_random_changes_are_those_on_the_cpu(tmp_path, loaders, way, augment, dtype):
    if augment.mixup and dtype == "uint8":
        pytest.skip("mixtures are floats")
    ds = vimh(tmp_path, [record(6, 7, 3, [(0, i)], seed=i) for i in range(101)])
    options: dict[str, Any] = {"layout": "NCHW", "labels": "class"}
    if dtype != "uint8":
        options |= {"scale": 1 / 255, "mean": [0.1, 0.2, 0.3]}
    there = loaders(ds, 8, way, augment=augment, dtype=dtype, rank=1, world=2, **options)
    plain = "float32" if dtype == "bfloat16" else dtype
    here = mapix.Loader(ds, 8, augment=augment, dtype=plain, rank=1, world=2, **options)
    for _ in range(2):
        for value, batch in zip(there, here, strict=True):
            images, labels, *more = value
            expected = torch.from_numpy(batch.images).to(images.dtype)
            assert str(images.dtype) == f"torch.{dtype}"
            assert torch.equal(images.cpu(), expected)
            assert labels["param_0"].tolist() == batch.labels[:, 0].tolist()
            if augment.mixup:
                others, shares = more
                assert others["param_0"].tolist() == batch.labels[batch.partners, 0].tolist()
                assert torch.equal(shares.cpu(), torch.from_numpy(batch.shares))
            else:
                assert not more
    if way == "pinned":
        assert ("bytes, which" in there.explain()) == (not augment.pad[0] and dtype != "uint8")


def test_changes_are_made_on_the_cpu(tmp_path, loaders):
    ds = vimh(tmp_path, [record(6, 7, 3, [], seed=i) for i in range(20)])
    text = loaders(ds, 8, augment=CHANGES[1]).explain()
    assert text.startswith("pinned: ")
    assert "not pages: images are changed by augment= on the CPU" in text
    with pytest.raises(mapix.UnsupportedError, match="not pages: images are changed"):
        loaders(ds, 8, "pages", augment=CHANGES[1]).explain()


@pytest.mark.parametrize("way", WAYS)
def test_padding_and_bfloat16(tmp_path, loaders, way):
    records = [record(2 + i % 5, 3 + i % 3, 1 + i % 3, [(0, i)], seed=i) for i in range(40)]
    ds = vimh(tmp_path, records)
    options = {"pad": (7, 6), "pad_value": 0.1, "mean": 3.0, "labels": "class", "layout": "NCHW"}
    same(ds, loaders(ds, 8, way, dtype="bfloat16", **options), dtype="float32", **options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [">f4", "<f8", ">i2", ">i4", "|u1"])
def test_arrays_in_both_byte_orders(tmp_path, loaders, way, dtype):
    path = tmp_path / "x.idx"
    order = "<" if dtype[0] == "<" else ">"
    with mapix.idx.Writer(path, dtype, (5, 7), byteorder=order) as out:
        out.extend(np.random.default_rng(0).integers(0, 100, (50, 5, 7)).astype(dtype))
    ds = mapix.open(path)
    for part in (ds, ds[40:3:-3]):
        same(part, loaders(part, 8, way, dtype=None), layout="NCHW")
        same(part, loaders(part, 8, way, dtype=None, layout=None))


def idx_gzipped(folder: Any, numbers: Any) -> Any:
    mapix.idx.write(folder / "x.idx", numbers)
    path = folder / "x.idx.gz"
    path.write_bytes(gzip.compress((folder / "x.idx").read_bytes()))
    return mapix.open(path)


def npz(folder: Any, numbers: Any) -> Any:
    np.savez(folder / "x.npz", numbers)
    return mapix.open(folder / "x.npz")


def npy(folder: Any, numbers: Any) -> Any:
    np.save(folder / "x.npy", numbers.astype(">f8"))
    return mapix.open(folder / "x.npy")


def pink(folder: Any, numbers: Any) -> Any:
    mapix.pink.write_data(folder / "x.bin", numbers.astype(np.float32))
    return mapix.open(folder / "x.bin")


def safetensors(folder: Any, numbers: Any) -> Any:
    head = {"x": {"dtype": "U8", "shape": numbers.shape, "data_offsets": [0, numbers.nbytes]}}
    text = json.dumps(head).encode()
    path = folder / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers.tobytes())
    return mapix.open(path)


def old_vimh(folder: Any, numbers: Any) -> Any:
    records = [record(5, 7, 3, [(0, i % 256)], head=6, seed=i) for i in range(len(numbers))]
    (folder / "train").write_bytes(pack(records))
    return mapix.open(folder / "train", dialect=6, order="HWC")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("limit", [None, 16 << 12])
@pytest.mark.parametrize("make", [idx_gzipped, npz, npy, pink, safetensors, old_vimh])
def test_families(tmp_path, loaders, way, limit, make):
    if limit is not None and way != "pages":
        pytest.skip("only pages are pinned")
    numbers = np.random.default_rng(0).integers(0, 256, (1500, 7, 9), np.uint8)
    ds = make(tmp_path, numbers)
    options: dict[str, Any] = {"dtype": None, "layout": None}  # numbers as the file has them
    if make not in (npy, pink):
        options = {"dtype": "float16", "layout": "NCHW", "scale": 1 / 255, "std": 3.0}
    if make is old_vimh:
        options["labels"] = "class"
    loader = loaders(ds, 64, way, pin_limit=limit, **options)
    same(ds, loader, **options)
    assert loader.explain().startswith(f"{way}: ")


@pytest.mark.parametrize("shuffle", [False, True])
def test_windows_of_several_files(tmp_path, loaders, shuffle):
    ds = mapix.open(files(tmp_path, [700, 1, 900, 400]), dialect=14)
    options = {"dtype": "float32", "labels": "raw", "mean": [1, 2, 3]}
    loader = loaders(ds, 64, "pages", pin_limit=40 << 12, shuffle=shuffle, **options)
    same(ds, loader, layout="NCHW", **options)
    assert "in 4 files pin_limit=163840 allows" in loader.explain()


@pytest.mark.parametrize("way", WAYS)
def test_mnist_with_labels(tmp_path, loaders, way):
    with mapix.idx.Writer(tmp_path / "train-images-idx3-ubyte", "u1", (28, 28)) as out:
        out.extend(np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8))
    with mapix.idx.Writer(tmp_path / "train-labels-idx1-ubyte", "u1") as out:
        out.extend(np.arange(50, dtype=np.uint8) % 10)
    ds = mapix.open(tmp_path)
    for k, (images, labels) in enumerate(loaders(ds, 8, way, scale=1 / 255, shuffle=False)):
        rows = range(8 * k, min(8 * k + 8, 50))
        want = ds.batch(rows, dtype="float32", layout="NCHW", scale=1 / 255)
        assert torch.equal(images.cpu(), torch.from_numpy(want.images))
        assert labels["label"].cpu().tolist() == [i % 10 for i in range(8 * k, min(8 * k + 8, 50))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{"drop_last": True}, {}, {"shuffle": False}])
def test_ranks_and_positions(tmp_path, loaders, way, options):
    ds = vimh(tmp_path, [record(4, 4, 1, [(0, i % 256)], seed=i) for i in range(150)])[140:2:-1]
    for rank in range(3):
        loader = loaders(ds, 7, way, dtype="uint8", rank=rank, world=3, seed=2, **options)
        for epoch in range(2):
            for k, (images, labels) in enumerate(loader):
                want = ds.batch(loader.plan.rows(epoch, k * 21), layout="NCHW", labels="class")
                assert torch.equal(images.cpu(), torch.from_numpy(want.images))
                assert labels["param_0"].tolist() == want.labels[:, 0].tolist()
            assert k == len(loader) - 1
        loader.load_state_dict({**loader.state_dict(), "position": 42, "epoch": 1})
        images, _ = next(iter(loader))
        want = ds.batch(loader.plan.rows(1, 42), layout="NCHW")
        assert torch.equal(images.cpu(), torch.from_numpy(want.images))


@pytest.mark.parametrize("way", ["pages", "pinned"])
def test_batches_that_were_copied_stay(tmp_path, loaders, way):
    ds = vimh(tmp_path, [record(4, 4, 1, [(0, i % 256)], seed=i) for i in range(5000)])
    loader = loaders(ds, 16, way, copy=True, dtype="uint8")
    kept = list(loader)
    for k, (images, labels) in enumerate(kept):
        want = ds.batch(loader.plan.rows(0, 16 * k), layout="NCHW", labels="class")
        assert torch.equal(images.cpu(), torch.from_numpy(want.images))
        assert torch.equal(labels["param_0"].cpu(), torch.from_numpy(want.labels[:, 0]))


@needs_gpu
@pytest.mark.parametrize("way", ["pages", "pinned"])
def test_slow_work_on_a_batch_is_not_overtaken(tmp_path, loaders, way):
    """The work on a batch is queued; the buffers must not be written over before it ran."""
    ds = vimh(tmp_path, [record(8, 8, 1, [(0, i % 256)], seed=i) for i in range(9000)])
    loader = loaders(ds, 64, way, dtype="uint8")
    busy = torch.randn(3000, 3000, device="cuda")
    sums = []
    for images, _ in loader:
        busy = busy @ busy / 100  # the GPU falls behind the CPU
        sums.append(images.long().sum())
    found = [int(s) for s in sums]
    want = [
        int(ds.batch(loader.plan.rows(0, 64 * k)).images.sum(dtype=np.int64))
        for k in range(len(loader))
    ]
    assert found == want


@pytest.mark.parametrize("change", ["cut", "written", "cut to nothing"])
def test_a_file_that_changes_is_an_error(tmp_path, loaders, change):
    ds = vimh(tmp_path, [record(8, 8, 3, [(0, i % 256)], seed=i) for i in range(20000)])
    loader = loaders(ds, 16, "pages")
    one = iter(loader)
    next(one)
    path = tmp_path / "train"
    if change == "written":
        with open(path, "r+b") as f:
            f.write(b"x")
    else:
        os.truncate(path, 5000 if change == "cut" else 0)
    with pytest.raises(mapix.FileChangedError):
        list(one)


def test_an_index_that_lies_is_an_error(tmp_path, loaders):
    ds = vimh(tmp_path, [record(2 + i % 3, 4, 1, [(0, i % 256)], seed=i) for i in range(300)])
    loader = loaders(ds, 16, "pages", pad=(4, 4))
    loader.explain()  # the options were checked, and the table is not on the GPU yet
    loader.close()
    entries = ds.index.entries.copy()
    entries["h"][77] = 2 + 78 % 3
    ds._gatherer.index = ds.index._replace(entries=entries)
    with pytest.raises(mapix.FormatError, match="record 77"):
        list(loader)


def test_the_way_and_why(tmp_path, loaders):
    ds = vimh(tmp_path, [record(2 + i % 3, 4, 1, [(0, i)], seed=i) for i in range(30)])
    assert loaders(ds, 8, pad=(4, 4)).explain().startswith("pages: the GPU gathers")
    text = loaders(ds, 8, pad=True).explain()
    assert text.startswith("plain: ")
    assert "mixed sizes need pad=(h, w)" in text
    with pytest.raises(mapix.UnsupportedError, match="pad="):
        loaders(ds, 8, "pages", pad=True).explain()


def test_the_same_file_twice_in_one_process(tmp_path, loaders):
    """Each open file has its own map; two loaders over one dataset share it or are refused."""
    ds = vimh(tmp_path, [record(4, 4, 1, [(0, i)], seed=i) for i in range(100)])
    first, second = loaders(ds, 8), loaders(ds, 8)
    assert first.explain().startswith("pages")
    assert second.explain().startswith("pages")
    same(ds, second, dtype="float32", layout="NCHW", labels="class")
    second.close()
    same(ds, first, dtype="float32", layout="NCHW", labels="class")


def test_pages_are_released(tmp_path, loaders):
    import mapix.torch

    ds = vimh(tmp_path, [record(16, 16, 3, [(0, i % 256)], seed=i) for i in range(2000)])

    def once() -> None:
        loader = mapix.torch.Loader(ds, 64, device="cuda", way="pages")
        next(iter(loader))

    for _ in range(5):
        once()
        gc.collect()
    for _ in range(5):
        loader = loaders(ds, 64, "pages")
        next(iter(loader))
        loader.close()
        loader.close()


@needs_gpu
def test_epochs_use_no_more_memory(tmp_path, loaders):
    ds = vimh(tmp_path, [record(8, 8, 3, [(0, i % 256)], seed=i) for i in range(2000)])
    loader = loaders(ds, 64)
    list(loader)
    before = torch.cuda.memory_allocated()
    for _ in range(50):
        for _ in loader:
            pass
    assert torch.cuda.memory_allocated() <= before


@needs_gpu
def test_cupy_takes_batches(tmp_path, loaders):
    cupy = pytest.importorskip("cupy")
    ds = vimh(tmp_path, [record(8, 8, 3, [(0, i % 256)], seed=i) for i in range(64)])
    images, _ = next(iter(loaders(ds, 16, dtype="uint8")))
    for array in (cupy.from_dlpack(images), cupy.asarray(images)):
        assert array.data.ptr == images.data_ptr()
        assert (cupy.asnumpy(array) == images.cpu().numpy()).all()


@needs_gpu
def test_the_protocols_of_arrays_on_a_gpu(tmp_path, loaders):
    """Without a library: the address, shape and type that others are given."""
    ds = vimh(tmp_path, [record(8, 8, 3, [(0, i % 256)], seed=i) for i in range(64)])
    images, _ = next(iter(loaders(ds, 16, dtype="uint8")))
    facts = images.__cuda_array_interface__
    assert facts["data"] == (images.data_ptr(), False)
    assert (facts["shape"], facts["typestr"]) == ((16, 3, 8, 8), "|u1")
    assert images.__dlpack_device__() == (2, images.device.index)  # kDLCUDA
    assert torch.from_dlpack(images).data_ptr() == images.data_ptr()


@needs_gpu
def test_jax_takes_batches(tmp_path, loaders):
    jax = pytest.importorskip("jax")
    if not any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("JAX finds no GPU")
    ds = vimh(tmp_path, [record(8, 8, 3, [(0, i % 256)], seed=i) for i in range(64)])
    images, _ = next(iter(loaders(ds, 16, dtype="uint8")))
    assert (np.asarray(jax.dlpack.from_dlpack(images)) == images.cpu().numpy()).all()


@needs_gpu
def test_a_cuda_graph_over_a_static_batch(tmp_path, loaders):
    """As in docs/gpu.md: the step is captured once, each batch is copied to where it reads."""
    ds = vimh(tmp_path, [record(8, 8, 3, [(0, i % 256)], seed=i) for i in range(640)])
    loader = loaders(ds, 64, dtype="float32", drop_last=True)
    images, _ = next(iter(loader))
    static, out = torch.empty_like(images), torch.zeros(64, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        out.copy_(static.sum((1, 2, 3)))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out.copy_(static.sum((1, 2, 3)))
    loader.set_epoch(0)
    for k, (images, _) in enumerate(loader):
        static.copy_(images)
        graph.replay()
        want = ds.batch(loader.plan.rows(0, 64 * k), dtype="float32").images.sum((1, 2, 3))
        assert torch.equal(out.cpu(), torch.from_numpy(want))
