"""``VIMHDataModule``: Lightning's data module over a VIMH dataset; see ``mapix.compat.vimh``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch.nn import functional
from torch.utils import data as torch_data

import mapix
from mapix.compat.vimh.dataset import Normalize, Transform, VIMHDataset, vimh_collate
from mapix.errors import warn
from mapix.source import absolute
from mapix.vimh import model_config

__all__ = ["Augment", "VIMHDataModule"]

LEAST_CLASSES = 2  # a head with fewer classes in the training split cannot be learnt
MOST_DEGREES = 15.0
CROP_PADDING = 4  # pixels
# Like the original, treat RGB images of 32 x 32 as CIFAR: crop them, normalise by CIFAR's pixels
CIFAR_SHAPE = (3, 32, 32)
CIFAR = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

Given = Transform | Literal[False] | None


class Augment:
    """Flip and rotate an image at random, and normalise it: the default for training.

    The image is flipped left to right with probability one half.  It is rotated by -15 to 15
    degrees around its centre, to the nearest pixel, with zeros beyond the edges.  Random numbers
    come from PyTorch.

    Parameters
    ----------
    normalize : Normalize
        Applied last.
    crop : bool
        Whether the image is first shifted by up to four pixels, with zeros beyond the edges.
    """

    def __init__(self, normalize: Normalize, *, crop: bool = False) -> None:
        self.normalize = normalize
        self.crop = crop

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return a new image of the same shape (c, h, w)."""
        _, h, w = image.shape
        if self.crop:
            padded = functional.pad(image, (CROP_PADDING,) * 4)
            down, right = torch.randint(0, 2 * CROP_PADDING + 1, (2,)).tolist()
            image = padded[:, down : down + h, right : right + w]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        return self.normalize(turned(image, float(torch.empty(()).uniform_(-1, 1)) * MOST_DEGREES))

    def __repr__(self) -> str:
        return f"Augment({self.normalize}, crop={self.crop})"


def turned(image: torch.Tensor, degrees: float) -> torch.Tensor:
    """Rotate an image (c, h, w) counter-clockwise around its centre, to the nearest pixel.

    Pixels from beyond the edges are 0.
    """
    _, h, w = image.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # coordinates are -1..1 along both axes, whatever their lengths
    matrix = torch.tensor([[[cos, -sin * h / w, 0.0], [sin * w / h, cos, 0.0]]], dtype=image.dtype)
    grid = functional.affine_grid(matrix, [1, *image.shape], align_corners=False)
    found = functional.grid_sample(
        image[None], grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return found[0]


def _defaults(shape: tuple[int, int, int]) -> tuple[Augment, Normalize]:
    """Return the default transforms for training images (c, h, w), and for all others."""
    half = (0.5,) * shape[0]
    normalize = CIFAR if shape == CIFAR_SHAPE else Normalize(half, half)
    return Augment(normalize, crop=shape == CIFAR_SHAPE), normalize


def _lightning() -> Any:
    try:
        import lightning

        return lightning.LightningDataModule
    except ImportError:
        pass
    try:
        import pytorch_lightning

        return pytorch_lightning.LightningDataModule
    except ImportError:
        return None


_BASE: Any = _lightning() or object


class VIMHDataModule(_BASE):
    """Make loaders for training, validation, test and prediction from one dataset directory.

    Parameters
    ----------
    data_dir : str or os.PathLike
        A directory with both splits.
    batch_size : int
        Records per batch, over all devices.
    num_workers, pin_memory
        As for PyTorch's ``DataLoader``.
    persistent_workers : bool
        Whether workers, if there are any, stay alive for the next epoch.
    train_transform, val_transform, test_transform : callable or False, optional
        Applied to the images of the split.  By default images are normalised to -1..1 (RGB of
        32 x 32 by CIFAR's mean and standard deviation), and training images are augmented: see
        ``Augment``.  False applies no transform.
    target_width, auxiliary_features
        As for ``VIMHDataset``.
    val_share : float
        Share of the training split that is used for validation, drawn with ``seed``.  With 0, the
        default, the test split is used for validation.
    seed : int
        Seed of this split.
    check_diversity : bool
        Whether ``setup("fit")`` refuses heads that have a single class in the training records.
    **options
        Options of ``VIMHDataset`` (``format``, ``scale``) and of ``mapix.open``.

    Attributes
    ----------
    data_train, data_val, data_test : VIMHDataset or None
        The datasets after ``setup``.
    hparams : mapping
        The arguments by name; Lightning writes them to checkpoints.
    batch_size_per_device : int
        ``batch_size`` divided by the number of devices of the trainer.

    Raises
    ------
    ImportError
        Lightning is not installed.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = "data/",
        batch_size: int = 64,
        num_workers: int = 0,
        pin_memory: bool = False,
        persistent_workers: bool = True,
        train_transform: Given = None,
        val_transform: Given = None,
        test_transform: Given = None,
        target_width: float = 0.0,
        auxiliary_features: Sequence[str] | None = None,
        *,
        val_share: float = 0.0,
        seed: int = 42,
        check_diversity: bool = True,
        **options: Any,
    ) -> None:
        if _BASE is object:
            raise ImportError("VIMHDataModule needs Lightning: pip install lightning")
        super().__init__()
        if not 0 <= val_share < 1:
            raise ValueError(f"val_share must be 0 or more and less than 1, got {val_share}")
        data_dir = os.fspath(data_dir)
        self.save_hyperparameters(logger=False)
        self.data_dir = data_dir
        # a relative path keeps its meaning after a chdir
        self._here = "" if os.path.isabs(data_dir) else absolute("")
        self.batch_size = self.batch_size_per_device = batch_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.persistent_workers = persistent_workers and num_workers > 0
        self.train_transform = train_transform
        self.val_transform = val_transform
        self.test_transform = test_transform
        self.val_share = val_share
        self.seed = seed
        self.check_diversity = check_diversity
        self.options = {
            "target_width": target_width,
            "auxiliary_features": auxiliary_features,
            **options,
        }
        self.data_train: VIMHDataset | None = None
        self.data_val: VIMHDataset | None = None
        self.data_test: VIMHDataset | None = None

    def prepare_data(self) -> None:
        """Check that the dataset can be opened.  Nothing is written or downloaded."""
        mapix.open(self._place).close()

    @property
    def _place(self) -> str:
        return os.path.join(self._here, self.data_dir)

    def setup(self, stage: str | None = None) -> None:
        """Open the datasets of a stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``.

        None opens all of them.

        Raises
        ------
        RuntimeError
            The batch size is not a multiple of the number of devices of the trainer.
        AssertionError
            A head has a single class in all training records.
        """
        devices = getattr(self.trainer, "world_size", 1)
        if self.batch_size % devices:
            raise RuntimeError(
                f"batch_size {self.batch_size} is not a multiple of the trainer's {devices} devices"
            )
        self.batch_size_per_device = self.batch_size // devices
        if stage in (None, "fit", "validate") and self.data_train is None:
            self._fit()
        if stage in (None, "test", "predict") and self.data_test is None:
            self.data_test = self._open(self.test_transform, train=False)
        if stage in (None, "fit") and self.check_diversity:
            for name, counts in self._of("train").get_class_distribution().items():
                assert len(counts) >= LEAST_CLASSES, (
                    f"{self.data_dir}: head {name!r} has one class in all training records; "
                    "pass check_diversity=False to train anyway"
                )

    def _open(self, transform: Given, *, train: bool, augment: bool = False) -> VIMHDataset:
        found = VIMHDataset(self._place, train=train, transform=transform or None, **self.options)
        if transform is None:
            augmented, plain = _defaults(found.image_shape)
            found.transform = augmented if augment else plain
        return found

    def _fit(self) -> None:
        self.data_train = train = self._open(self.train_transform, train=True, augment=True)
        self.data_val = val = self._open(self.val_transform, train=bool(self.val_share))
        if self.val_share:
            train.source, val.source = train.source.split(1 - self.val_share, seed=self.seed)

    def _of(self, *names: str) -> VIMHDataset:
        for name in names:
            found: VIMHDataset | None = getattr(self, f"data_{name}")
            if found is not None:
                return found
        raise RuntimeError("call setup() first")

    def _loader(self, dataset: VIMHDataset, *, shuffle: bool) -> torch_data.DataLoader[Any]:
        return torch_data.DataLoader(
            dataset,
            batch_size=self.batch_size_per_device,
            shuffle=shuffle,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            persistent_workers=self.persistent_workers,
            collate_fn=vimh_collate,
        )

    _multihead_collate_fn = staticmethod(vimh_collate)

    def train_dataloader(self) -> torch_data.DataLoader[Any]:
        """Return a loader of the training records, shuffled."""
        return self._loader(self._of("train"), shuffle=True)

    def val_dataloader(self) -> torch_data.DataLoader[Any]:
        """Return a loader of the validation records, in order."""
        return self._loader(self._of("val"), shuffle=False)

    def test_dataloader(self) -> torch_data.DataLoader[Any]:
        """Return a loader of the test records, in order."""
        return self._loader(self._of("test"), shuffle=False)

    def predict_dataloader(self) -> torch_data.DataLoader[Any]:
        """Return a loader of the test records, in order."""
        return self.test_dataloader()

    # --- facts for models -------------------------------------------------------------------------

    @property
    def _any(self) -> VIMHDataset:
        return self._of("train", "test", "val")

    @property
    def heads_config(self) -> dict[str, int]:
        """Head name -> number of classes."""
        return self._any.heads_config

    num_classes = heads_config

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (c, h, w) of the images."""
        return self._any.image_shape

    @property
    def class_names(self) -> dict[str, list[str]]:
        """Head name -> the physical value of each class, as text."""
        found = {}
        for name, p in self._any.source.parameters.items():
            found[name] = [f"{p.min + k * p.step:g}" for k in range(p.num_classes)]
        return found

    @property
    def param_bounds(self) -> dict[str, tuple[float, float]]:
        """Head name -> (min, max) in physical units."""
        return {n: (p.min, p.max) for n, p in self._any.source.parameters.items()}

    @property
    def param_ranges(self) -> dict[str, float]:
        """Head name -> max - min in physical units."""
        return {n: p.max - p.min for n, p in self._any.source.parameters.items()}

    def model_config(self) -> Any:
        """Return ``mapix.vimh.model_config`` of the dataset."""
        return model_config(self._any.source)

    def get_dataset_info(self) -> dict[str, Any]:
        """Return the info JSON's fields, loader options, and the number of samples of each set."""
        sets = {"train": self.data_train, "val": self.data_val, "test": self.data_test}
        return {
            **self._any.metadata_format,
            "data_dir": self.data_dir,
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "heads_config": self.heads_config,
            "image_shape": self.image_shape,
            **{f"num_{name}_samples": len(ds) for name, ds in sets.items() if ds is not None},
        }

    @property
    def _opened(self) -> bool:
        return any((self.data_train, self.data_val, self.data_test))

    def state_dict(self) -> dict[str, Any]:
        """Return sizes, heads and bounds for a checkpoint, to be compared when it is loaded."""
        if not self._opened:
            return {}
        return {
            "data_dir": self.data_dir,
            "heads_config": self.heads_config,
            "image_shape": self.image_shape,
            "param_bounds": self.param_bounds,
            "dataset_metadata": self._any.metadata_format,
            "seed": self.seed,
            "val_share": self.val_share,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the split into training and validation; warn if the data differs.

        Only heads and image shape are compared, because a network depends on them.  The folder may
        differ.
        """
        self.seed = state_dict.get("seed", self.seed)
        self.val_share = state_dict.get("val_share", self.val_share)
        if self.data_train is not None:
            self._fit()
        if not self._opened:
            return
        for key in ("heads_config", "image_shape"):
            was, now = state_dict.get(key), getattr(self, key)
            if was is not None and (tuple(was) if key == "image_shape" else dict(was)) != now:
                warn(f"{self.data_dir}: {key} is {now}, but {was} in the checkpoint")
