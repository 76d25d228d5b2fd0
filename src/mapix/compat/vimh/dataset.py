"""``VIMHDataset``: a split of a VIMH dataset for PyTorch; see ``mapix.compat.vimh``."""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils import data as torch_data

import mapix
from mapix.batch import Batch
from mapix.errors import FormatError
from mapix.selection import single
from mapix.torch import Collated
from mapix.vimh import soft_targets

__all__ = [
    "Normalize",
    "Transform",
    "VIMHDataset",
    "create_vimh_datasets",
    "decay_time",
    "vimh_collate",
]

AUXILIARY = ("decay_time",)
DECAY_RANGE = (-3.0, 1.0)  # log10 of seconds
NO_DECAY = -1.0
FRAME_SECONDS = 0.01  # duration of a column; the original ignores the info JSON here
SMOOTHED_COLUMNS = 5
LEAST_COLUMNS = 3  # from the loudest column to the end, so that a line can be fitted
LEAST_SLOPE = 1e-6  # nepers per second; a smaller slope does not count as a decay
_DIRECTORY = re.compile(r"vimh-(\d+)x(\d+)x(\d+)(?:_|$)")

Transform = Callable[[Any], Any]


def decay_time(image: ArrayLike) -> float:
    """Return log10 of the time constant in seconds with which the sound of a spectrogram decays.

    Pixels are amplitudes.  The level of a column is their mean over frequencies and channels.  If
    the image has five columns or more, levels are smoothed over five columns, with zeros beyond the
    ends.  A line is fitted to the logarithms of the levels, from the loudest column to the end,
    with the squared levels as weights.  A column lasts 0.01 s.

    ``mapix.vimh.decay_time`` is another quantity: the time in which levels in dB fall by 60 dB,
    with the duration that the dataset states.

    Parameters
    ----------
    image : array_like
        Spectrogram (c, h, w) or (h, w), frequency by time, in a unit proportional to amplitude.

    Returns
    -------
    float
        The logarithm, clipped to -3..1; -1 if there is no decay or fewer than three columns are
        left.  If two columns have the same level, rounding decides where the fit begins.
    """
    x = np.asarray(image, np.float64)
    level = x.reshape(-1, x.shape[-1]).mean(axis=0)
    if len(level) >= SMOOTHED_COLUMNS:
        kernel = np.full(SMOOTHED_COLUMNS, 1 / SMOOTHED_COLUMNS)
        level = np.convolve(level, kernel, mode="same")
    begin = int(np.argmax(level))
    tail = level[begin:]
    if len(tail) < LEAST_COLUMNS or not tail[0] > 0:
        return NO_DECAY
    tail = tail / tail[0]
    seconds = np.arange(len(tail)) * FRAME_SECONDS
    audible = np.maximum(tail, np.finfo(np.float64).tiny)  # avoids log(0); silence has weight 0
    slope = float(np.polyfit(seconds, np.log(audible), 1, w=tail)[0])
    if not slope < -LEAST_SLOPE:
        return NO_DECAY
    return float(np.clip(math.log10(-1 / slope), *DECAY_RANGE))


class Normalize:
    """Normalise each channel of an image or a batch of images: ``(image - mean) / std``.

    Parameters
    ----------
    mean, std : sequence of float
        One value per channel, in the unit of the images.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the normalised images, (c, h, w) or (b, c, h, w)."""
        mean, std = (
            torch.tensor(v, dtype=images.dtype)[:, None, None] for v in (self.mean, self.std)
        )
        return (images - mean) / std

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


def _checked_dimensions(ds: Any, folder: str) -> None:
    """Raise FormatError unless directory name, info JSON and file state the same image size."""
    if not len(ds) or not ds.uniform:
        return
    h, w, c = (int(d) for d in ds.shapes[0])
    named = _DIRECTORY.match(os.path.basename(os.path.normpath(folder)))
    said = {
        "the directory's name": tuple(map(int, named.groups())) if named else None,
        "the info JSON": tuple(ds.info.get(k) for k in ("height", "width", "channels")),
    }
    for where, shape in said.items():
        if shape and None not in shape and shape != (h, w, c):
            text = "x".join(map(str, shape))
            raise FormatError(ds.path, "vimh", f"images are {h}x{w}x{c}, {where} states {text}")


def _file(path: str, format: str | None, split: str) -> tuple[str, dict[str, Any]]:
    """Return the path to open and options: of a directory, the file of a split and format."""
    if not os.path.isdir(path):
        return path, {}
    if format in (None, "binary") or format == "auto":
        return path, {"split": split}
    if format == "pickle":
        return os.path.join(path, f"{split}_batch"), {}
    raise ValueError(f"format must be binary, pickle, auto or None, got {format!r}")


class VIMHDataset(torch_data.Dataset[Any]):
    """A split of a VIMH dataset for PyTorch.

    ``dataset[i]`` is ``(image, labels, auxiliary)``: a float32 tensor (c, h, w), a dict of head
    name -> class number (or soft target), and a float32 tensor of auxiliary features, or None.  If
    the dataset was created with ``data_dir=``, a sample is ``(image, labels)``.

    Parameters
    ----------
    data_path : str or os.PathLike
        A dataset directory or a data file.
    train : bool
        Whether to open the training split of a directory, or the test split.
    transform : callable, optional
        Applied to the image tensor.
    target_transform : callable, optional
        Applied to the dict of labels.
    target_width : float
        If above 0, labels are distributions, float32 (num_classes,); see
        ``mapix.vimh.soft_targets``.
    auxiliary_features : sequence of str, optional
        ``"decay_time"``: see ``decay_time`` of this module.
    data_dir : str or os.PathLike, optional
        Another name of ``data_path``, used in the format's documentation.
    format : {"binary", "pickle", "auto"}, optional
        The file of a directory to read.
    scale : float
        Pixel values are ``byte * scale``.
    **options
        Options of ``mapix.open``.

    Attributes
    ----------
    source : mapix.vimh.Dataset
        The dataset that is read.
    """

    def __init__(
        self,
        data_path: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        target_width: float = 0.0,
        auxiliary_features: Sequence[str] | None = None,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        format: str | None = None,
        split: str | None = None,
        scale: float = 1 / 255,
        **options: Any,
    ) -> None:
        if (data_path is None) == (data_dir is None):
            raise TypeError("pass either data_path or data_dir")
        unknown = set(auxiliary_features or ()) - set(AUXILIARY)
        if unknown:
            raise ValueError(
                f"unknown auxiliary features: {', '.join(sorted(unknown))}; known are "
                f"{', '.join(AUXILIARY)}"
            )
        if target_width < 0:
            raise ValueError(f"target_width must be 0 or more, got {target_width}")
        self._pairs = data_dir is not None
        self.data_path = os.fspath(data_path or data_dir or "")
        self.train = train if split is None else split == "train"
        split = split or ("train" if train else "test")
        path, chosen = _file(self.data_path, format, split)
        self.source = mapix.open(path, **chosen, **options)
        folder = self.data_path if os.path.isdir(self.data_path) else os.path.dirname(path)
        _checked_dimensions(self.source, folder)
        self.transform = transform
        self.target_transform = target_transform
        self.target_width = float(target_width)
        self.auxiliary_features = tuple(auxiliary_features or ())
        self.scale = scale

    # --- samples ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, ...]:
        return self._samples([single(index, len(self), self.source.path)])[0]

    def __getitems__(self, indices: list[int]) -> Any:
        """Return all samples of a batch with one gather; a DataLoader calls it."""
        batched = self.transform is None or isinstance(self.transform, Normalize)
        if batched and self.target_transform is None and self.source.uniform:
            batch = self._gather(indices)
            auxiliary = self._auxiliary(batch)
            images = torch.from_numpy(batch.images)
            if self.transform is not None:
                images = self.transform(images)
            value = (images, self._labels(batch), auxiliary)
            return Collated(value[:2] if self._pairs else value, len(indices))
        return self._samples(indices)

    def _gather(self, indices: Sequence[int], **options: Any) -> Batch:
        found: Batch = self.source.batch(
            indices,
            dtype="float32",
            layout="NCHW",
            scale=self.scale,
            labels="class",
            **options,
        )
        return found

    def _samples(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        return [self._sample(i) for i in indices]

    def _sample(self, index: int) -> tuple[Any, ...]:
        batch = self._gather([index])
        auxiliary = self._auxiliary(batch)  # of the image before any transform
        image = torch.from_numpy(batch.images[0])
        labels: Any = {k: v[0] for k, v in self._labels(batch).items()}
        if not self.target_width:
            labels = {k: int(v) for k, v in labels.items()}
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            labels = self.target_transform(labels)
        if self._pairs:
            return image, labels
        return image, labels, None if auxiliary is None else auxiliary[0]

    def _labels(self, batch: Batch) -> dict[str, torch.Tensor]:
        assert batch.labels is not None
        found = {}
        for k, name in enumerate(batch.names):
            classes = batch.labels[:, k]
            if self.target_width:
                soft = soft_targets(classes, self.heads_config[name], self.target_width)
                found[name] = torch.from_numpy(soft)
            else:
                found[name] = torch.from_numpy(np.ascontiguousarray(classes))
        return found

    def _auxiliary(self, batch: Batch) -> torch.Tensor | None:
        if not self.auxiliary_features:
            return None
        rows = [[decay_time(image)] for image in batch.images]
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, 1)

    # --- facts, under the names of the original ---------------------------------------------------

    @property
    def heads_config(self) -> dict[str, int]:
        """Head name -> number of classes."""
        found: dict[str, int] = self.source.heads
        return found

    def get_heads_config(self) -> dict[str, int]:
        """Return ``heads_config``."""
        return self.heads_config

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (c, h, w) of the images; of the first record if sizes are mixed."""
        if not len(self):
            dims = (self.source.info.get(k, 0) for k in ("channels", "height", "width"))
            c, h, w = (int(d) for d in dims)
            return c, h, w
        h, w, c = self.source[0].shape
        return c, h, w

    def get_image_shape(self) -> tuple[int, int, int]:
        """Return ``image_shape``."""
        return self.image_shape

    @cached_property
    def metadata_format(self) -> dict[str, Any]:
        """The info JSON, completed by the number of classes of each parameter in the records.

        If there is no info JSON, the dict is made from the parameters of the file.  The file on
        disk is not changed.
        """
        found: dict[str, Any] = copy.deepcopy(dict(self.source.info)) or {
            "format": "VIMH",
            "parameter_names": list(self.source.parameters),
        }
        mappings = found.setdefault("parameter_mappings", {})
        for name, p in self.source.parameters.items():
            known = {k: getattr(p, k) for k in ("min", "max", "step", "description")}
            mappings[name] = {**known, **mappings.get(name, {}), "num_classes": p.num_classes}
        return found

    def get_parameter_info(self, name: str | None = None) -> dict[str, Any]:
        """Return min, max, step, num_classes, scale and description of a parameter, or of all.

        For an unknown name, the result has this name and a description that states it, as in the
        original.
        """
        keys = ("min", "max", "step", "num_classes", "scale", "description")
        known = self.source.parameters
        if name is None:
            return {n: {k: getattr(p, k) for k in keys} for n, p in known.items()}
        if name not in known:
            return {"name": name, "description": "Parameter not found in metadata"}
        return {k: getattr(known[name], k) for k in keys}

    def get_dataset_info(self) -> dict[str, Any]:
        """Return the fields of the info JSON and facts about the file in one dict."""
        return {
            **self.source.info,
            "n_samples": len(self),
            "num_samples": len(self),
            "image_shape": self.image_shape,
            "heads_config": self.heads_config,
            "parameter_names": list(self.source.parameters),
            "metadata_format": self.metadata_format,
            "split": "train" if self.train else "test",
            "path": self.source.path,
            "data_path": self.source.path,
        }

    def get_class_distribution(self) -> dict[str, dict[int, int]]:
        """Return head name -> class number -> number of records, for classes that occur."""
        found = {}
        for name in self.heads_config:
            classes, counts = np.unique(
                self.source.labels[name].classes.compressed(), return_counts=True
            )
            found[name] = dict(zip(classes.tolist(), counts.tolist(), strict=True))
        return found

    def get_dataset_statistics(self) -> dict[str, Any]:
        """Return facts, class counts, and mean, std, min and max of the pixels per channel.

        Pixel statistics are in the unit of the images.  ``parameter_statistics`` has for each
        parameter the smallest and largest code, the number of different codes, the number of
        records with the parameter, and its physical range.
        """
        found = self.source.statistics()
        pixels = found.pixels
        parameters = {}
        for name, column in found.labels.items():
            p = self.source.parameters[name]
            codes = self.source.labels[name].raw.compressed()
            parameters[name] = {
                "description": p.description,
                "min_quantized": int(codes.min()) if len(codes) else None,
                "max_quantized": int(codes.max()) if len(codes) else None,
                "min_actual": p.min,
                "max_actual": p.max,
                "unique_values": len(np.unique(codes)),
                "total_samples": column.n,
            }
        return {
            **self.get_dataset_info(),
            "train_mode": self.train,
            "transforms": {"transform": self.transform, "target_transform": self.target_transform},
            "class_distribution": self.get_class_distribution(),
            "parameter_statistics": parameters,
            "mean": (pixels.mean * self.scale).tolist(),
            "std": (pixels.std * self.scale).tolist(),
            "min": (pixels.min * self.scale).tolist(),
            "max": (pixels.max * self.scale).tolist(),
        }

    def get_sample_metadata(self, index: int) -> dict[str, dict[str, Any]]:
        """Return head name -> code, normalised and physical value, class, range and scale."""
        record = self.source[index]
        found = {}
        for name, code in record.labels.items():
            p = self.source.parameters[name]
            found[name] = {
                "quantized_value": code,
                "normalized_value": code / 255,
                "actual_value": float(p.dequantise(code)),
                "class_index": int(p.class_of(code)),
                "min": p.min,
                "max": p.max,
                "scale": p.scale,
            }
        return found

    def _get_sample_metadata(self, index: int) -> dict[str, Any]:
        """Return the same facts with the keys of the original: ``labels``, ``<name>_info``."""
        record = self.source[index]
        h, w, c = record.shape
        found: dict[str, Any] = {
            "sample_index": index,
            "dataset_type": "train" if self.train else "test",
            "image_shape": (c, h, w),
            "labels": dict(record.labels),
        }
        for name, known in self.get_sample_metadata(index).items():
            same = ("quantized_value", "normalized_value", "actual_value", "scale")
            found[f"{name}_info"] = {
                **{k: known[k] for k in same},
                "range": [known["min"], known["max"]],
                "description": self.source.parameters[name].description,
            }
        return found

    def __repr__(self) -> str:
        return f"VIMHDataset({self.source!r})"


def create_vimh_datasets(
    data_dir: str | os.PathLike[str],
    transform: Transform | None = None,
    target_transform: Transform | None = None,
    target_width: float = 0.0,
    **options: Any,
) -> tuple[VIMHDataset, VIMHDataset]:
    """Open the training and the test split of a directory; options as for ``VIMHDataset``."""
    train, test = (
        VIMHDataset(data_dir, which, transform, target_transform, target_width, **options)
        for which in (True, False)
    )
    return train, test


def vimh_collate(samples: Any) -> tuple[Any, ...]:
    """Collate samples to ``(images, {head: class numbers or soft targets}[, auxiliary])``.

    A batch that ``VIMHDataset.__getitems__`` has already gathered is returned unchanged.
    """
    if isinstance(samples, Collated):
        found: tuple[Any, ...] = samples.value
        return found
    images = torch.stack([s[0] for s in samples])
    heads = samples[0][1]
    labels = {k: torch.stack([torch.as_tensor(s[1][k]) for s in samples]) for k in heads}
    if len(samples[0]) == 2:
        return images, labels
    auxiliary = None if samples[0][2] is None else torch.stack([s[2] for s in samples])
    return images, labels, auxiliary
