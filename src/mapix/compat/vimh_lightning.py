"""``VIMHDataModule``: the loaders of a VIMH dataset for Lightning; see ``mapix.compat.vimh``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils import data as torch_data

import mapix
from mapix.compat.vimh import Transform, VIMHDataset, vimh_collate
from mapix.errors import warn
from mapix.vimh.model import model_config

__all__ = ["VIMHDataModule"]

LEAST_CLASSES = 2  # that have to occur in training, for a head to be learnt


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
    """Loaders for training, validation, test and prediction over one dataset directory.

    Parameters
    ----------
    data_dir : str or os.PathLike
        With both splits.
    batch_size : int
        Of all loaders.
    num_workers : int
        Of all loaders.
    pin_memory : bool
        Of all loaders.
    val_share : float
        Share of the training split that is for validation, drawn with ``seed``; with 0 the test
        split is.
    seed : int
        Of that.
    train_transform, val_transform : callable, optional
        Applied to images of the training split, and of the others.
    check_diversity : bool
        Whether ``setup("fit")`` refuses heads of which training holds a single class.
    **options
        For ``VIMHDataset``: ``target_width``, ``auxiliary_features``, ``format``, ``scale``.

    Raises
    ------
    ImportError
        Lightning is not installed.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = "data/vimh",
        batch_size: int = 64,
        num_workers: int = 0,
        pin_memory: bool = False,
        *,
        val_share: float = 0.1,
        seed: int = 42,
        train_transform: Transform | None = None,
        val_transform: Transform | None = None,
        check_diversity: bool = True,
        **options: Any,
    ) -> None:
        if _BASE is object:
            raise ImportError("VIMHDataModule needs Lightning: pip install lightning")
        super().__init__()
        if not 0 <= val_share < 1:
            raise ValueError(f"val_share must be 0 or more and less than 1, got {val_share}")
        self.data_dir = os.fspath(data_dir)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.val_share = val_share
        self.seed = seed
        self.train_transform = train_transform
        self.val_transform = val_transform
        self.check_diversity = check_diversity
        self.options = options
        self._sets: dict[str, Any] = {}

    def prepare_data(self) -> None:
        """Look that the dataset is there.  Nothing is written, and nothing downloaded."""
        mapix.open(self.data_dir).close()

    def setup(self, stage: str | None = None) -> None:
        """Open what a stage needs: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or all."""
        if stage in (None, "fit", "validate") and "train" not in self._sets:
            self._fit()
        if stage in (None, "test", "predict") and "test" not in self._sets:
            self._sets["test"] = self._open(train=False, transform=self.val_transform)
        if stage in (None, "fit") and self.check_diversity:
            for name, counts in self._sets["train"].get_class_distribution().items():
                assert len(counts) >= LEAST_CLASSES, (
                    f"{self.data_dir}: head {name!r} has one class in all training records"
                )

    def _open(self, *, train: bool, transform: Transform | None) -> VIMHDataset:
        return VIMHDataset(self.data_dir, train=train, transform=transform, **self.options)

    def _fit(self) -> None:
        train = self._open(train=True, transform=self.train_transform)
        if self.val_share:
            val = self._open(train=True, transform=self.val_transform)
            kept, held = train.source.split(1 - self.val_share, seed=self.seed)
            train.source, val.source = kept, held
        else:
            val = self._open(train=False, transform=self.val_transform)
        self._sets.update(train=train, val=val)

    def _of(self, *names: str) -> VIMHDataset:
        for name in names:
            if name in self._sets:
                found: VIMHDataset = self._sets[name]
                return found
        raise RuntimeError("call setup() first")

    def _loader(self, dataset: VIMHDataset, *, shuffle: bool) -> torch_data.DataLoader[Any]:
        return torch_data.DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            persistent_workers=self.num_workers > 0,
            collate_fn=vimh_collate,
        )

    def train_dataloader(self) -> torch_data.DataLoader[Any]:
        """Training records, shuffled."""
        return self._loader(self._of("train"), shuffle=True)

    def val_dataloader(self) -> torch_data.DataLoader[Any]:
        """Validation records, in order."""
        return self._loader(self._of("val"), shuffle=False)

    def test_dataloader(self) -> torch_data.DataLoader[Any]:
        """Test records, in order."""
        return self._loader(self._of("test"), shuffle=False)

    def predict_dataloader(self) -> torch_data.DataLoader[Any]:
        """Test records, in order."""
        return self.test_dataloader()

    # --- what models ask --------------------------------------------------------------------------

    @property
    def _any(self) -> VIMHDataset:
        return self._of("train", "test", "val")

    @property
    def heads_config(self) -> dict[str, int]:
        """Name -> number of classes."""
        return self._any.heads_config

    num_classes = heads_config

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w)."""
        return self._any.image_shape

    @property
    def class_names(self) -> dict[str, list[str]]:
        """Name -> the physical value of each class, as text."""
        found = {}
        for name, p in self._any.source.parameters.items():
            values: NDArray[np.float64] = p.min + np.arange(p.num_classes) * p.step
            found[name] = [f"{v:g}" for v in values]
        return found

    @property
    def param_bounds(self) -> dict[str, tuple[float, float]]:
        """Name -> (min, max)."""
        return {n: (p.min, p.max) for n, p in self._any.source.parameters.items()}

    @property
    def param_ranges(self) -> dict[str, float]:
        """Name -> max - min."""
        return {n: p.max - p.min for n, p in self._any.source.parameters.items()}

    def model_config(self) -> Any:
        """``mapix.vimh.model_config`` of the dataset."""
        return model_config(self._any.source)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: sizes, heads and bounds, to compare with when it is loaded."""
        if not self._sets:
            return {}
        return {
            "data_dir": self.data_dir,
            "heads_config": self.heads_config,
            "image_shape": self.image_shape,
            "param_bounds": self.param_bounds,
            "seed": self.seed,
            "val_share": self.val_share,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over how training and validation were split; warn where the data is another.

        The folder may be another one: only what a network depends on is compared.
        """
        self.seed = state_dict.get("seed", self.seed)
        self.val_share = state_dict.get("val_share", self.val_share)
        refit = "train" in self._sets
        self._sets = {k: v for k, v in self._sets.items() if k == "test"}
        if refit:
            self._fit()
        if not self._sets:
            return
        for key in ("heads_config", "image_shape"):
            was, now = state_dict.get(key), getattr(self, key)
            if was is not None and (tuple(was) if key == "image_shape" else dict(was)) != now:
                warn(f"{self.data_dir}: {key} is {now}, the checkpoint's was {was}")
