"""mapix.compat.vimh: what programs written for the original's classes do with them."""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.vimh import Parameter, Writer, model_config, soft_targets

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
from torch.utils.data import DataLoader  # noqa: E402

from mapix.compat.vimh import (  # noqa: E402
    Normalize,
    VIMHDataset,
    create_vimh_datasets,
    decay_time,
    vimh_collate,
)

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
    with pytest.raises(TypeError, match="pass either"):
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
    want = decay_time(record.image.transpose(2, 0, 1))
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
    with pytest.raises(mapix.FormatError, match=r"8x6x1, the directory's name states 6x8x1"):
        VIMHDataset(make("vimh-6x8x1_8000Hz_1p0s_1dss_simple_1p"))
    with (
        pytest.raises(mapix.FormatError, match="info JSON states 9x6x1"),
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


# What the original gave for the training records of REAL.
DECAYS = [
    *(-0.342754, -0.695645, -0.735291, -0.679988, -0.555963, -0.390501, -0.105044, -0.409910),
    *(-0.537148, -0.720888, 0.036086, -0.381213, -0.078937, -0.833896, -0.105044, -0.643596),
]


def test_decay_time_is_the_originals():
    ds = VIMHDataset(REAL, auxiliary_features=["decay_time"])
    assert [float(ds[i][2]) for i in range(len(ds))] == pytest.approx(DECAYS, abs=2e-6)
    batch = next(iter(DataLoader(ds, batch_size=16, collate_fn=vimh_collate)))
    assert batch[2].shape == (16, 1)
    assert batch[2][:, 0].tolist() == pytest.approx(DECAYS, abs=2e-6)


@pytest.mark.parametrize(
    ("image", "want"),
    [
        # measured with the original's program
        ([[200, 100, 50]], -1.8408254),
        ([[100, 200, 100, 50]], -1.8408254),
        ([[200, 0, 50, 10]], -1.8566545),
        ([[200, 100]], -1.0),
        ([[100, 200, 100]], -1.0),
        ([[10, 10, 200, 90]], -1.0),
        (np.full((16, 4), 100), -1.0),
        (np.full((16, 5), 100), -1.3974045),
        (np.full((16, 6), 7), -1.1909745),
        (np.full((16, 8), 100), -0.8395866),
        (np.full((16, 16), 255), -0.0583445),
        (np.full((16, 32), 100), 0.6326848),
        (np.full((16, 64), 100), 1.0),
        (np.zeros((16, 32)), -1.0),
        (np.rint(200 * np.exp(-np.arange(32) / 10))[None], -1.0010924),
        (np.tile(255 - 4 * np.arange(32), (16, 1)), -0.3469515),
        (np.tile(8 * np.arange(32).clip(0, 31), (16, 1)), -1.3675318),
    ],
)
def test_decay_time(image, want):
    image = np.asarray(image)
    for scale in (1, 1 / 255, 3.0):
        assert decay_time(image * scale) == pytest.approx(want, abs=2e-5)
    two = np.stack([image, 2 * image])  # channels
    assert decay_time(two) == pytest.approx(want, abs=2e-5)


def test_decay_time_of_a_long_exponential_is_its_time_constant():
    for tau in (0.02, 0.1, 0.5):
        level = np.exp(-np.arange(2000) * 0.01 / tau)
        image = np.concatenate([np.zeros((3, 8)), np.ones((3, 1)) * level], axis=1)
        assert decay_time(image) == pytest.approx(np.log10(tau), abs=0.05)
    # the other quantity, under its own name: 60 dB take 6.9 time constants of an amplitude
    assert mapix.vimh.decay_time(np.full((3, 9), 7, np.uint8), 1.0) == -1.0


def test_the_original_programs_calls(tmp_path):
    """One dataset; each call that those programs make of it."""
    with Writer(tmp_path / "v", [Parameter("a", 0, min=0.0, max=1.0, step=0.1)]) as out:
        for i in range(20):
            split = "train" if i < 16 else "test"
            out.append(np.full((8, 8, 1), i, np.uint8), {"a": i / 20}, split=split)
    d = str(tmp_path / "v")
    ds = VIMHDataset(d)
    assert ds.metadata_format["parameter_names"] == ["a"]
    assert ds.metadata_format["train_samples"] == 16
    assert ds.metadata_format["parameter_mappings"]["a"]["num_classes"] == 11
    assert "num_classes" not in json.dumps(mapix.open(d).info)
    assert ds._get_sample_metadata(4) == {
        "sample_index": 4,
        "dataset_type": "train",
        "image_shape": (1, 8, 8),
        "labels": {"a": 51},
        "a_info": {
            "quantized_value": 51,
            "normalized_value": 0.2,
            "actual_value": 0.2,
            "scale": "linear",
            "range": [0.0, 1.0],
            "description": "",
        },
    }
    assert ds.get_parameter_info("unknown") == {
        "name": "unknown",
        "description": "Parameter not found in metadata",
    }
    told = ds.get_dataset_statistics()
    assert told["parameter_statistics"]["a"] == {
        "description": "",
        "min_quantized": 0,
        "max_quantized": 191,
        "min_actual": 0.0,
        "max_actual": 1.0,
        "unique_values": 16,
        "total_samples": 16,
    }
    assert (told["num_samples"], told["train_mode"]) == (16, True)
    assert told["transforms"] == {"transform": None, "target_transform": None}
    info = ds.get_dataset_info()
    assert (info["num_samples"], info["metadata_format"]) == (16, ds.metadata_format)
    train, test = create_vimh_datasets(d, None, None, 0.0)
    assert (len(train), len(test)) == (16, 4)
    train, _ = create_vimh_datasets(
        d, lambda x: x + 1, lambda y: {k: -v for k, v in y.items()}, 1.0
    )
    assert float(train[0][0].min()) == 1.0
    assert (train[3][1]["a"] <= 0).all()


def test_metadata_of_a_file_without_info_json(tmp_path):
    from slow_vimh import pack, record

    (tmp_path / "f").write_bytes(
        pack([record(2, 3, 1, [(0, 1), (4, 2)], seed=i) for i in range(3)])
    )
    ds = VIMHDataset(tmp_path / "f", dialect=14)
    assert ds.metadata_format["parameter_names"] == ["param_0", "param_4"]
    assert ds.metadata_format["parameter_mappings"]["param_4"]["num_classes"] == 256
    assert ds._get_sample_metadata(1)["param_4_info"]["quantized_value"] == 2
    empty = ds.source[:0]
    ds.source = empty
    assert ds.get_dataset_statistics()["parameter_statistics"]["param_0"]["min_quantized"] is None


def test_normalised_by_the_batch_as_one_by_one():
    ds = VIMHDataset(RGB, transform=Normalize((0.1, 0.2, 0.3), (0.5, 0.25, 2.0)))
    plain = VIMHDataset(RGB)
    loader = DataLoader(ds, batch_size=len(ds), collate_fn=vimh_collate)
    (images, _, _) = next(iter(loader))
    for k in range(len(ds)):
        assert torch.equal(images[k], ds[k][0])
        for c, (mean, std) in enumerate(((0.1, 0.5), (0.2, 0.25), (0.3, 2.0))):
            want = (plain[k][0][c] - mean) / std
            assert torch.allclose(images[k, c], want)
    assert "0.25" in repr(ds.transform)


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


def test_what_the_originals_configuration_passes(module):
    """configs/data/vimh.yaml, and the names that its programs ask for."""
    data = module(
        data_dir=str(REAL), batch_size=5, num_workers=0, pin_memory=False, persistent_workers=True
    )
    assert (data.data_train, data.data_val, data.data_test) == (None, None, None)
    data.setup()
    assert (len(data.data_train), len(data.data_val), len(data.data_test)) == (16, 4, 4)
    assert data.data_val.source.path == data.data_test.source.path
    assert dict(data.hparams) == {
        "data_dir": str(REAL),
        "batch_size": 5,
        "num_workers": 0,
        "pin_memory": False,
        "persistent_workers": True,
        "train_transform": None,
        "val_transform": None,
        "test_transform": None,
        "target_width": 0.0,
        "auxiliary_features": None,
        "val_share": 0.0,
        "seed": 42,
        "check_diversity": True,
    }
    told = data.get_dataset_info()
    sizes = [told[f"num_{name}_samples"] for name in ("train", "val", "test")]
    assert sizes == [16, 4, 4]
    assert told["dataset_name"] == mapix.open(REAL).info["dataset_name"]
    assert told["batch_size"] == 5
    assert module(REAL, 4, 0, False, True, None, None, None, 1.5, ["decay_time"]).hparams[
        "auxiliary_features"
    ] == ["decay_time"]


def test_transforms_of_each_set(module):
    shift = [lambda x, k=k: x * 0 + k for k in range(3)]
    data = module(
        REAL,
        batch_size=16,
        train_transform=shift[0],
        val_transform=shift[1],
        test_transform=shift[2],
        target_width=1.0,
        auxiliary_features=["decay_time"],
    )
    data.setup()
    for k, name in enumerate(("train", "val", "test")):
        images, labels, auxiliary = next(iter(getattr(data, f"{name}_dataloader")()))
        assert set(images.unique().tolist()) == {float(k)}
        assert labels["note_velocity"].shape[1] == 3
        assert auxiliary.shape == (len(images), 1)
    data = module(REAL, batch_size=16, train_transform=False, val_transform=False)
    data.setup("fit")
    plain = VIMHDataset(REAL, train=False)
    assert torch.equal(next(iter(data.val_dataloader()))[0], torch.stack([s[0] for s in plain]))
    assert data.data_train.transform is None


def test_default_transforms(module, tmp_path):
    data = module(REAL, batch_size=16)
    data.setup()
    plain = torch.stack([image for image, *_ in VIMHDataset(REAL, train=False)])
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert torch.allclose(next(iter(loader))[0], 2 * plain - 1)
    torch.manual_seed(3)
    images = next(iter(data.train_dataloader()))[0]
    assert images.shape == (16, 1, 32, 32)
    assert -1 <= float(images.min()) <= float(images.max()) <= 1
    rgb = module(RGB, batch_size=1, check_diversity=False)
    rgb.setup()
    cifar = rgb.data_val.transform
    assert (cifar.mean, cifar.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert rgb.data_train.transform.crop
    for shape in ((8, 8, 3), (32, 32, 2), (5, 9, 4)):
        folder = tmp_path / "x".join(map(str, shape))
        with Writer(folder, []) as out:
            for split in ("train", "test"):
                out.extend(np.full((3, *shape), 255, np.uint8), split=split)
        other = module(folder, batch_size=3)
        other.setup()
        assert next(iter(other.val_dataloader()))[0].unique().tolist() == [1.0]
        assert next(iter(other.train_dataloader()))[0].shape == (3, shape[2], *shape[:2])
        assert not other.data_train.transform.crop


def test_the_old_name_of_the_data_module_warns():
    pytest.importorskip("lightning", reason="needs Lightning: pip install 'mapix[lightning]'")
    from mapix.compat import vimh

    with pytest.warns(DeprecationWarning, match="import from mapix.compat.vimh"):
        old = importlib.import_module("mapix.compat.vimh_lightning")
    assert old.VIMHDataModule is vimh.VIMHDataModule
    assert old.Augment is vimh.Augment


def test_augmentation():
    pytest.importorskip("lightning", reason="needs Lightning: pip install 'mapix[lightning]'")
    from mapix.compat.vimh.lightning import Augment, turned

    image = torch.arange(35.0).reshape(1, 5, 7) + 1
    assert torch.equal(turned(image, 0.0), image)
    square = torch.arange(25.0).reshape(1, 5, 5) + 1
    assert torch.equal(turned(square, 90.0), torch.rot90(square, 1, (1, 2)))
    assert torch.equal(turned(square, -90.0), torch.rot90(square, -1, (1, 2)))
    assert torch.equal(turned(image, 180.0), image.flip(-1, -2))
    far = turned(torch.ones(1, 9, 41), 15.0)
    assert far[0, 4, 20] == 1
    assert far[0, 4, 0] == 0  # turned out of the image, which is wider than high
    same = Augment(Normalize((0.0,), (1.0,)))
    torch.manual_seed(0)
    seen = [same(image) for _ in range(60)]
    mirrored = sum(bool(x[0, 2, 3] == 18 and x[0, 2, 2] > x[0, 2, 4]) for x in seen)
    assert 10 < mirrored < 50
    assert len({tuple(x.flatten().tolist()) for x in seen}) > 10
    moved = Augment(Normalize((0.0,), (1.0,)), crop=True)
    sums = {float(moved(torch.ones(1, 32, 32)).sum()) for _ in range(20)}
    assert len(sums) > 5
    assert max(sums) <= 32 * 32


def test_hyperparameters_are_in_checkpoints(module, tmp_path):
    import lightning

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, _):
            return self.layer(batch[0].mean().reshape(1, 1)).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    data = module(REAL, batch_size=8, val_share=0.25, seed=3)
    options = {
        "max_epochs": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
        "devices": 1,
        "default_root_dir": tmp_path,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(**options)
        trainer.fit(Net(), data)
        trainer.save_checkpoint(tmp_path / "c.ckpt")
        found = torch.load(tmp_path / "c.ckpt", weights_only=False)
        assert found["datamodule_hyper_parameters"]["data_dir"] == str(REAL)
        again = module.load_from_checkpoint(tmp_path / "c.ckpt", weights_only=False)
    assert dict(again.hparams) == dict(data.hparams)
    again.setup("fit")
    assert again.data_val.source.rows.tolist() == data.data_val.source.rows.tolist()


def test_a_batch_is_for_all_devices(module):
    data = module(REAL, batch_size=6)

    class Trainer:
        world_size = 4

    data.trainer = Trainer()
    with pytest.raises(RuntimeError, match="batch_size 6 is not a multiple of"):
        data.setup("fit")
    data.batch_size = 8
    data.setup("fit")
    assert data.batch_size_per_device == 2
    assert data.train_dataloader().batch_size == 2


def test_checkpoints_remember_the_split(module):
    data = module(REAL, val_share=0.3, seed=7, check_diversity=False)
    assert data.state_dict() == {}
    data.setup("fit")
    state = json.loads(json.dumps(data.state_dict()))
    other = module(REAL, check_diversity=False)
    other.setup("fit")
    other.load_state_dict(state)
    rows = [d.data_val.source.rows.tolist() for d in (data, other)]
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
