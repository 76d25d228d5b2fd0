"""mapix.compat.vimh: what programs written for the original's classes do with them."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.vimh import Parameter, Writer, decay_time, model_config, soft_targets

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
from torch.utils.data import DataLoader  # noqa: E402

from mapix.compat.vimh import VIMHDataset, create_vimh_datasets, vimh_collate  # noqa: E402

pytestmark = pytest.mark.torch
GOLDEN = Path(__file__).parent / "golden" / "vimh"
REAL = GOLDEN / "vimh-32x32x1_8000Hz_1p0s_20dss_simple_2p"
RGB = GOLDEN / "rgb_32x32x3_doc_example"


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.parametrize("folder", [REAL, RGB], ids=["real", "rgb"])
@pytest.mark.parametrize("format", ["binary", "pickle", None])
def test_samples(folder, format):
    before = hashes(folder)
    ds = VIMHDataset(str(folder), train=True, format=format)
    raw = mapix.open(folder / "train", dialect=14)
    assert len(ds) == len(raw)
    for i in (0, len(ds) - 1, -1):
        image, labels, auxiliary = ds[i]
        assert image.dtype == torch.float32
        assert image.shape == ds.get_image_shape()
        np.testing.assert_allclose(image.numpy(), raw[i].image.transpose(2, 0, 1) / np.float32(255))
        want = {n: int(raw.parameters[n].class_of(v)) for n, v in raw[i].labels.items()}
        assert labels == want
        assert auxiliary is None
    assert hashes(folder) == before
    with pytest.raises(IndexError):
        ds[len(ds)]


def test_the_documents_constructor():
    ds = VIMHDataset(data_dir=RGB, format="binary", split="test")
    assert not ds.train
    image, labels = ds[0]
    assert image.shape == (3, 32, 32)
    assert list(labels) == list(ds.heads_config)
    with pytest.raises(TypeError, match="one of"):
        VIMHDataset()
    with pytest.raises(ValueError, match="format"):
        VIMHDataset(RGB, format="csv")


def test_both_values_scales_are_one():
    a, b = (VIMHDataset(RGB, format=f) for f in ("binary", "pickle"))
    assert torch.equal(a[0][0], b[0][0])
    assert torch.allclose(VIMHDataset(RGB, scale=1.0)[0][0], a[0][0] * 255)


def test_transforms_soft_targets_and_features():
    ds = VIMHDataset(
        REAL,
        transform=lambda x: x - 1,
        target_transform=lambda y: {k: v * 2 for k, v in y.items()},
        target_width=1.5,
        auxiliary_features=["decay_time"],
    )
    plain = VIMHDataset(REAL)
    image, labels, auxiliary = ds[3]
    assert torch.equal(image, plain[3][0] - 1)
    for name, classes in plain[3][1].items():
        soft = soft_targets([classes], plain.heads_config[name], 1.5)[0]
        assert labels[name].tolist() == (2 * soft).tolist()
    record = plain.source[3]
    want = decay_time(record.image, plain.source.info["duration"], record.spec_range)
    assert auxiliary.tolist() == pytest.approx([want])
    assert auxiliary.shape == (1,)
    with pytest.raises(ValueError, match="auxiliary"):
        VIMHDataset(REAL, auxiliary_features=["pitch"])
    with pytest.raises(ValueError, match="target_width"):
        VIMHDataset(REAL, target_width=-1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_width": 1.0, "auxiliary_features": ["decay_time"]},
        {"transform": lambda x: x * 2},
        {"train": False},
    ],
    ids=["plain", "soft", "transform", "test"],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_give_what_single_samples_give(options, workers):
    ds = VIMHDataset(REAL, **options)
    loader = DataLoader(
        ds,
        batch_size=3,
        collate_fn=vimh_collate,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    at = 0
    for images, labels, auxiliary in loader:
        for k in range(len(images)):
            image, classes, extra = ds[at]
            assert torch.equal(images[k], image)
            for name, value in classes.items():
                assert labels[name].dtype in (torch.int64, torch.float32)
                assert torch.equal(labels[name][k], torch.as_tensor(value))
            assert (auxiliary is None) == (extra is None)
            assert extra is None or torch.equal(auxiliary[k], extra)
            at += 1
    assert at == len(ds)


def test_what_it_tells():
    ds = VIMHDataset(REAL)
    raw = mapix.open(REAL)
    assert ds.get_heads_config() == raw.heads
    name = next(iter(raw.heads))
    assert ds.get_parameter_info(name)["num_classes"] == raw.heads[name]
    assert list(ds.get_parameter_info()) == list(raw.heads)
    told = ds.get_dataset_info()
    assert told["n_samples"] == len(ds)
    assert told["dataset_name"] == raw.info["dataset_name"]
    counts = ds.get_class_distribution()
    assert sum(counts[name].values()) == len(ds)
    classes = raw.labels[name].classes
    assert counts[name] == {int(k): int((classes == k).sum()) for k in np.unique(classes)}
    found = ds.get_dataset_statistics()
    assert found["mean"] == pytest.approx([raw.images.mean() / 255])
    assert found["std"] == pytest.approx([raw.images.std() / 255])
    meta = ds.get_sample_metadata(2)[name]
    assert meta["quantized_value"] == raw[2].labels[name]
    assert meta["actual_value"] == pytest.approx(raw[2].values[name])
    assert meta["class_index"] == ds[2][1][name]
    assert "VIMHDataset" in repr(ds)


def test_dimensions_are_checked_against_one_another(tmp_path):
    def make(folder: str, **change):
        with Writer(tmp_path / folder, [Parameter("a", 0)]) as out:
            for split in ("train", "test"):
                out.append(np.zeros((8, 6), np.uint8), {"a": 1.0}, split=split)
        info = tmp_path / folder / "vimh_dataset_info.json"
        info.write_text(json.dumps({**json.loads(info.read_text()), **change}))
        return tmp_path / folder

    VIMHDataset(make("vimh-8x6x1_8000Hz_1p0s_1dss_simple_1p"))
    with pytest.raises(mapix.FormatError, match=r"8x6x1, the directory's name says 6x8x1"):
        VIMHDataset(make("vimh-6x8x1_8000Hz_1p0s_1dss_simple_1p"))
    with (
        pytest.raises(mapix.FormatError, match="info JSON says 9x6x1"),
        pytest.warns(mapix.MapixWarning),
    ):
        VIMHDataset(make("other", height=9))


def test_both_splits_and_pickling():
    train, test = create_vimh_datasets(REAL, target_width=1.0)
    assert (train.train, test.train) == (True, False)
    assert len(train) == len(mapix.open(REAL))
    again = pickle.loads(pickle.dumps(test))
    assert torch.equal(again[0][0], test[0][0])
    assert len(copy.deepcopy(train)) == len(train)


def test_model_config():
    ds = mapix.open(RGB)
    found = model_config(ds)
    assert found.input_shape == (3, 32, 32)
    assert found.heads_config == ds.heads
    assert set(found.losses.values()) <= {"cross_entropy", "ordinal_regression", "mse"}
    assert json.loads(json.dumps(found.as_dict()))["input_shape"] == [3, 32, 32]
    assert model_config(mapix.open(GOLDEN / "hand" / "variable_size" / "train")).input_shape is None
    second = model_config(mapix.open(GOLDEN / "generator_custom_32x32x3"))
    assert set(second.losses.values()) == {"cross_entropy"}
    wide = model_config(mapix.open(GOLDEN / "n255_4x6x1"))
    assert wide.losses["p000"] == "mse"


# --- Lightning ------------------------------------------------------------------------------------


@pytest.fixture
def module():
    pytest.importorskip("lightning", reason="needs Lightning: pip install 'mapix[lightning]'")
    from mapix.compat.vimh import VIMHDataModule

    return VIMHDataModule


def test_loaders_of_all_stages(module):
    before = hashes(REAL)
    data = module(str(REAL), batch_size=4, val_share=0.25, check_diversity=False)
    with pytest.raises(RuntimeError, match="setup"):
        data.train_dataloader()
    data.prepare_data()
    data.setup()
    n, ntest = len(mapix.open(REAL)), len(mapix.open(REAL, split="test"))
    sizes = {
        name: sum(len(images) for images, _, _ in getattr(data, f"{name}_dataloader")())
        for name in ("train", "val", "test", "predict")
    }
    held = n - int(0.75 * n)
    assert sizes == {"train": n - held, "val": held, "test": ntest, "predict": ntest}
    assert data.num_classes == data.heads_config == mapix.open(REAL).heads
    assert data.image_shape == (1, 32, 32)
    name = next(iter(data.num_classes))
    low, high = data.param_bounds[name]
    assert data.param_ranges[name] == pytest.approx(high - low)
    assert len(data.class_names[name]) == data.num_classes[name]
    assert data.model_config().input_shape == (1, 32, 32)
    assert hashes(REAL) == before


def test_checkpoints_remember_the_split(module):
    data = module(REAL, val_share=0.3, seed=7, check_diversity=False)
    assert data.state_dict() == {}
    data.setup("fit")
    state = json.loads(json.dumps(data.state_dict()))
    other = module(REAL, check_diversity=False)
    other.setup("fit")
    other.load_state_dict(state)
    rows = [d._sets["val"].source.rows.tolist() for d in (data, other)]
    assert rows[0] == rows[1]
    state["image_shape"] = [3, 9, 9]
    with pytest.warns(mapix.MapixWarning, match="checkpoint"):
        other.load_state_dict(state)


def test_heads_of_one_class_are_told(module, tmp_path):
    with Writer(tmp_path / "d", [Parameter("a", 0)]) as out:
        for split in ("train", "test"):
            out.extend(np.zeros((5, 4, 4), np.uint8), {"a": [3.0] * 5}, split=split)
    with pytest.raises(AssertionError, match="one class"):
        module(tmp_path / "d").setup("fit")
    module(tmp_path / "d").setup("test")
    data = module(tmp_path / "d", val_share=0, check_diversity=False)
    data.setup("fit")
    assert len(data.val_dataloader().dataset) == 5
    with pytest.raises(ValueError, match="val_share"):
        module(tmp_path / "d", val_share=1)
