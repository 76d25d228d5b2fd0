"""Loaders and batches in other libraries: DLPack, PyTorch's loaders, JAX, Grain, Accelerate."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.batch import Batch
from mapix.grain import Batches, Records
from mapix.sampling import Stratified
from slow_vimh import pack, record


@pytest.fixture
def ds(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(pack([record(4, 3, 2, [(0, i), (2, i % 5)], seed=i) for i in range(53)]))
    return mapix.open(path, dialect=14)


# --- numpy and DLPack -----------------------------------------------------------------------------


def test_a_batch_is_an_array_of_its_images(ds):
    batch = ds.batch([3, 1])
    assert np.asarray(batch) is batch.images
    assert np.shares_memory(np.from_dlpack(batch), batch.images)
    floats = np.asarray(batch, np.float32)
    assert floats.dtype == np.float32
    assert (floats == batch.images).all()
    with pytest.raises(ValueError, match="uint8 as float32 needs a copy"):
        batch.__array__(np.float32, copy=False)
    copied = batch.__array__(copy=True)
    assert not np.shares_memory(copied, batch.images)


def test_a_batch_is_a_tree_of_its_arrays(ds):
    batch = ds.batch([3, 1])
    arrays, names = batch.tree_flatten()
    assert names == ("param_0", "param_2")
    again = Batch.tree_unflatten(names, arrays)
    for name in ("images", "labels", "present", "shapes", "spec_range", "offsets", "rows"):
        assert getattr(again, name) is getattr(batch, name)


# --- Grain ----------------------------------------------------------------------------------------


def test_batches_by_number_are_those_of_the_loader(ds):
    options = {"seed": 3, "dtype": "float32", "scale": 0.5, "layout": "NCHW"}
    source = Batches(ds, 8, epochs=2, **options)
    loader = mapix.Loader(ds, 8, copy=True, **options)
    want = [batch for _ in range(2) for batch in loader]
    assert len(source) == len(want) == 14
    for k in (13, 0, 7, 6, -1):
        found = source[k]
        assert found["rows"].tolist() == want[k].rows.tolist()
        assert found["images"].tobytes() == want[k].images.tobytes()
        assert found["param_2"].tolist() == want[k].labels[:, 1].tolist()
    with pytest.raises(IndexError, match="index 14 of 14 batches"):
        source[14]
    again = pickle.loads(pickle.dumps(source))
    assert again[9]["rows"].tolist() == want[9].rows.tolist()
    assert repr(again) == repr(source)
    assert repr(Batches(ds, 8, order=Stratified(ds, "param_2"))) != repr(Batches(ds, 8))
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        Batches(ds, 8, epochs=0)


def test_records_one_by_one(ds):
    source = Records(ds, dtype="float32", labels="class")
    assert len(source) == 53
    for k in (5, 52, -1):
        found, want = source[k], ds.batch([k], dtype="float32", labels="class")
        assert found["image"].tolist() == want.images[0].tolist()
        assert (found["param_0"], found["param_2"]) == tuple(want.labels[0])
    with pytest.raises(IndexError):
        source[53]
    assert (
        repr(source)
        == "mapix.grain.Records(vimh, 53 records, {'dtype': 'float32', 'labels': 'class'})"
    )
    with pytest.raises(TypeError):
        Records(ds, colour="red")


def test_a_dataset_without_labels(tmp_path):
    mapix.idx.write(tmp_path / "x.idx", np.arange(12, dtype=np.uint8).reshape(3, 4))
    (found,) = [Batches(mapix.open(tmp_path / "x.idx"), 3, shuffle=False)[0]]
    assert sorted(found) == ["images", "rows"]
    assert found["images"].tolist() == np.arange(12).reshape(3, 4).tolist()


def test_grain_shuffles_resumes_and_divides(ds):
    grain = pytest.importorskip("grain")
    source = Batches(ds, 8, epochs=2, seed=3)
    want = [source[k]["rows"].tolist() for k in range(len(source))]
    stream = iter(grain.MapDataset.source(source).to_iter_dataset())
    for k in range(5):
        assert next(stream)["rows"].tolist() == want[k]
    state = stream.get_state()
    again = iter(grain.MapDataset.source(Batches(ds, 8, epochs=2, seed=3)).to_iter_dataset())
    again.set_state(state)
    assert [element["rows"].tolist() for element in again] == want[5:]
    halves = [grain.MapDataset.source(source)[k::2] for k in range(2)]
    assert [e["rows"].tolist() for e in halves[1]] == want[1::2]
    records = grain.MapDataset.source(Records(ds)).shuffle(seed=1).batch(10)
    seen = np.concatenate([element["param_0"] for element in records])
    assert sorted(seen.tolist()) == list(range(53))
    assert records[0]["image"].shape == (10, 4, 3, 2)
    loaded = grain.DataLoader(
        data_source=source,
        sampler=grain.samplers.SequentialSampler(len(source)),
        operations=[],
        worker_count=0,
    )
    assert [element["rows"].tolist() for element in loaded] == want


# --- JAX ------------------------------------------------------------------------------------------


def test_jax_takes_batches(ds):
    jax = pytest.importorskip("jax")
    import mapix.jax

    seen = []
    for batch in mapix.Loader(ds, 8, copy=True, seed=2, dtype="float32"):
        there = jax.device_put(batch)
        assert isinstance(there, Batch)
        assert isinstance(there.images, jax.Array)
        seen.append(there)
    for there in seen:
        want = ds.batch(np.asarray(there.rows), dtype="float32")
        assert np.asarray(there.images).tolist() == want.images.tolist()
        assert np.asarray(there.labels).tolist() == want.labels.tolist()
    doubled = jax.jit(lambda batch: jax.tree_util.tree_map(lambda x: x * 2, batch.images))(there)
    assert np.asarray(doubled).tolist() == (want.images * 2).tolist()
    alias = jax.numpy.from_dlpack(want)
    assert np.asarray(alias).tolist() == want.images.tolist()


# --- PyTorch --------------------------------------------------------------------------------------


def torch_loader(ds: Any, **options: Any) -> Any:
    import mapix.torch

    return mapix.torch.Loader(ds, 8, **{"seed": 3, "copy": True, **options})


@pytest.mark.torch
def test_pytorchs_trees_and_tensors(ds):
    torch = pytest.importorskip("torch")
    from torch.utils import _pytree

    import mapix.torch  # noqa: F401 - it registers batches

    batch = ds.batch([3, 1])
    assert torch.from_dlpack(batch).data_ptr() == batch.images.ctypes.data
    moved = _pytree.tree_map_only(np.ndarray, torch.tensor, batch)
    assert isinstance(moved, Batch)
    assert isinstance(moved.images, torch.Tensor)
    assert moved.names == batch.names
    assert moved.labels.tolist() == batch.labels.tolist()
    assert moved.rows is None


@pytest.mark.torch
def test_pytorchs_loader_takes_a_loader(ds, monkeypatch):
    pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    want = [images.tolist() for images, _ in torch_loader(ds)]
    found = DataLoader(torch_loader(ds), batch_size=None)
    assert len(found) == 7
    assert [images.tolist() for images, _ in found] == want
    info = SimpleNamespace(num_workers=2)
    monkeypatch.setattr("torch.utils.data.get_worker_info", lambda: info)
    with pytest.raises(RuntimeError, match="each of 2 workers would yield all batches"):
        list(torch_loader(ds))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")  # torchdata calls what PyTorch deprecates
def test_torchdatas_stateful_loader(ds):
    """In it, and in its place: the states of both resume at any batch."""
    pytest.importorskip("torch")
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    make = {
        "in it": lambda: stateful(torch_loader(ds), batch_size=None),
        "in its place": lambda: torch_loader(ds),
    }
    complete = torch_loader(ds)
    epochs = [[images.tolist() for images, _ in complete] for _ in range(2)]
    for name, loader in make.items():
        for done in (0, 1, 3, 7):
            first = loader()
            stream = iter(first)
            for _ in range(done):
                next(stream)
            state = pickle.loads(pickle.dumps(first.state_dict()))
            second = loader()
            second.load_state_dict(state)
            rest = [images.tolist() for images, _ in second]
            if done < 7:
                assert rest == epochs[0][done:], (name, done)
                rest = [images.tolist() for images, _ in second]
            if done < 7 or rest:  # after the last batch, torchdata's ends an empty epoch first
                assert rest == epochs[1], (name, done)


ACCELERATED = """
import os
import sys
import torch
from accelerate import Accelerator
import mapix.torch

accelerator = Accelerator(cpu=True)
share = {"rank": accelerator.process_index, "world": accelerator.num_processes}
ds = mapix.open(sys.argv[1], dialect=14)
loader = mapix.torch.Loader(ds, 4, seed=3, device=accelerator.device, **share)
model = torch.nn.Linear(24, 2)
optimiser = torch.optim.SGD(model.parameters(), 0.01)
model, optimiser, loader = accelerator.prepare(model, optimiser, loader)
seen = []
for images, labels in loader:
    accelerator.backward(model(images.flatten(1)).mean())
    optimiser.step()
    optimiser.zero_grad()
    seen += accelerator.gather(labels["param_0"]).tolist()
weights = accelerator.gather(next(model.parameters()).detach()[None])
assert (weights == weights[0]).all()
if accelerator.is_main_process:
    print(accelerator.num_processes, len(loader), seen, flush=True)
accelerator.wait_for_everyone()
os._exit(0)  # PyTorch aborts one of ten exits of the interpreter, whoever loads
"""


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_accelerate_with_several_processes(ds, tmp_path, world):
    """All ranks have equally many batches; together these are the epoch, in its order."""
    pytest.importorskip("accelerate")
    script = tmp_path / "train.py"
    script.write_text(ACCELERATED)
    command = [sys.executable]
    if world > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), ds.path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    nprocesses, nbatches, seen = done.stdout.strip().split(" ", 2)
    plan = mapix.Loader(ds, 4, seed=3).plan
    assert int(nprocesses) == world
    assert int(nbatches) == -(-53 // (4 * world))
    found = [int(x) for x in seen.strip("[]").split(",")]
    assert found[:53] == plan.order(0, 0, 53).tolist()
    assert len(found) - 53 < world
