"""The loader for PyTorch, without a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mapix
from slow_vimh import pack, record

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture
def ds(tmp_path):
    records = [record(4, 5, 3, [(0, i), (2, 7)] if i % 3 else [(0, i)], seed=i) for i in range(30)]
    path = tmp_path / "train"
    path.write_bytes(pack(records))
    return mapix.open(path, dialect=14)


def loader(*args: Any, **options: Any) -> Any:
    import mapix.torch

    return mapix.torch.Loader(*args, **options)


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize(
    "options", [{}, {"dtype": "uint8"}, {"dtype": "float16", "layout": "NHWC"}, {"scale": 1 / 255}]
)
def test_batches_are_those_of_the_dataset_for_pytorch(ds, ahead, options):
    import mapix.torch

    found = loader(ds, 8, ahead=ahead, **options)
    data = mapix.torch.Dataset(ds, **options)
    for k, (images, labels) in enumerate(found):
        rows = found.plan.rows(0, 8 * k)
        want, want_labels = data.__getitems__(rows.tolist()).value
        assert images.dtype == want.dtype
        assert torch.equal(images, want)
        assert list(labels) == list(want_labels)
        for name, values in labels.items():
            assert values.dtype == want_labels[name].dtype
            assert torch.equal(values, want_labels[name])
    assert k == len(found) - 1 == 3
    assert (labels["param_2"] == -100).any()


def test_bfloat16_is_float32_rounded(ds):
    pairs = zip(
        loader(ds, 8, dtype="bfloat16", mean=3.5, std=1.7),
        loader(ds, 8, mean=3.5, std=1.7),
        strict=True,
    )
    for (images, _), (want, _) in pairs:
        assert images.dtype == torch.bfloat16
        assert torch.equal(images, want.to(torch.bfloat16))


def test_labels_as_one_tensor_or_none(ds):
    for _, labels in loader(ds, 8, as_dict=False, labels="raw"):
        assert labels.shape[1] == 2
        assert labels.dtype == torch.uint8
    for _, labels in loader(ds, 8, labels=None):
        assert labels is None


def test_mnist_comes_with_its_labels(tmp_path):
    with mapix.idx.Writer(tmp_path / "train-images-idx3-ubyte", "u1", (8, 8)) as out:
        out.extend(np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8))
    with mapix.idx.Writer(tmp_path / "train-labels-idx1-ubyte", "u1") as out:
        out.extend(np.arange(20) % 10)
    ds = mapix.open(tmp_path)
    for images, labels in loader(ds, 6, scale=1 / 255):
        assert images.dtype == torch.float32
        assert images.shape[1:] == (1, 8, 8)
        assert labels["label"].shape == images.shape[:1]
        assert labels["label"].dtype == torch.int64
        for image, label in zip(images, labels["label"], strict=True):
            i = next(i for i in range(20) if np.array_equal(ds[i], np.rint(image[0].numpy() * 255)))
            assert label == i % 10


def test_labels_that_a_gpu_gathers_are_those_of_batches(ds, tmp_path):
    """What the ways through a GPU take at once is what ``batch`` gives in parts."""
    mapix.idx.write(tmp_path / "train-images-idx3-ubyte", np.zeros((5, 2, 2), np.uint8))
    mapix.idx.write(tmp_path / "train-labels-idx1-ubyte", np.arange(5, dtype=np.uint8))
    for data in (ds[::2], mapix.open(tmp_path)[[3, 1]]):
        for unit in ("raw", "class"):
            values, present, names = data.label_array(unit)
            batch = data.batch(np.arange(len(data)), labels=unit)
            assert values.dtype == batch.labels.dtype
            assert values.tolist() == batch.labels.tolist()
            assert present.tolist() == batch.present.tolist()
            assert names == batch.names
        with pytest.raises(ValueError, match="labels must be"):
            data.label_array("no unit")


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">i2", "|u1"])
def test_one_channel_is_the_same_bytes_in_both_layouts(tmp_path, dtype):
    """So a GPU copies such rows, too."""
    order = "<" if dtype[0] == "<" else ">"
    rows = np.arange(6 * 35).reshape(6, 5, 7).astype(dtype)
    with mapix.idx.Writer(tmp_path / "x.idx", dtype, (5, 7), byteorder=order) as out:
        out.extend(rows)
    ds = mapix.open(tmp_path / "x.idx")
    for layout, shape in (("NCHW", (1, 5, 7)), ("NHWC", (5, 7, 1)), (None, (5, 7))):
        assert ds.placement(layout=layout).shape == shape
        found = ds.batch([4, 0], layout=layout).images
        assert found.shape == (2, *shape)
        assert found.reshape(2, 5, 7).tolist() == rows[[4, 0]].tolist()


def test_training_goes_on_where_it_was(ds):
    complete = [images for images, _ in loader(ds, 8, seed=3, copy=True)]
    first = loader(ds, 8, seed=3, copy=True)
    one = iter(first)
    next(one)
    second = loader(ds, 8, seed=0, copy=True)
    second.load_state_dict(first.state_dict())
    for (images, _), want in zip(second, complete[1:], strict=True):
        assert torch.equal(images, want)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(ds):
    with pytest.raises(mapix.UnsupportedError, match="PyTorch finds no CUDA GPU"):
        list(loader(ds, 8, device="cuda"))


@pytest.mark.parametrize("bad", [{"way": "fast"}, {"device": "nowhere"}, {"colour": 1}])
def test_bad_arguments_are_refused_at_once(ds, bad):
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        loader(ds, 8, **bad)


def test_explained(ds):
    assert loader(ds, 8).explain() == "cpu: gathered 2 batches ahead by a thread"
    order = mapix.sampling.Bucketed(np.full(30, 7), 8)
    text = "order: Bucketed of 30 records; padding adds 0.0% to their sizes"
    assert loader(ds, 8, order=order).explain().splitlines()[1] == text
    assert loader(ds, 8, ahead=0).explain() == "cpu: each batch is gathered when it is requested"


def test_it_is_a_loader_for_lightning(ds):
    """What trainers ask of a loader: length, and states of their own."""
    found = loader(ds, 8)
    assert len(found) == 4
    assert {"state_dict", "load_state_dict"} <= set(dir(found))


@pytest.mark.filterwarnings("ignore")  # of Lightning's, about workers, loggers and precision
def test_lightning_resumes_in_the_middle_of_an_epoch(ds, tmp_path):
    lightning = pytest.importorskip("lightning")
    seen = []

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(60, 2)

        def training_step(self, batch, number):
            images, _ = batch
            seen.append(images.flatten(1)[:, :6].tolist())
            return self.layer(images.flatten(1)).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-6)

    def fit(start=None, **options):
        seen.clear()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", **quiet, **options)
        trainer.fit(Model(), loader(ds, 4, seed=3), ckpt_path=start)
        return list(seen)

    saving = lightning.pytorch.callbacks.ModelCheckpoint(
        tmp_path / "saved", every_n_train_steps=3, save_top_k=-1
    )
    whole = fit(callbacks=[saving])
    assert len(whole) == 16
    saved = {int(p.stem.rpartition("=")[2]): p for p in (tmp_path / "saved").iterdir()}
    assert sorted(saved) == [3, 6, 9, 12, 15]
    for step in (3, 12):
        assert fit(str(saved[step]), enable_checkpointing=False) == whole[step:]
