"""Datasets for PyTorch: one gather per batch, and no second copy.

>>> from torch.utils.data import DataLoader                      # doctest: +SKIP
>>> import mapix.torch                                           # doctest: +SKIP
>>> data = mapix.torch.Dataset("my_dataset", scale=1 / 255)      # doctest: +SKIP
>>> loader = DataLoader(data, batch_size=256, shuffle=True)      # doctest: +SKIP
>>> images, labels = next(iter(loader))                          # doctest: +SKIP

Importing this module registers mapix's types with PyTorch's default collate function, so a
DataLoader needs no ``collate_fn``.  Gathered batches are passed on, records of VIMH become
``(images, {name: codes})``, and the bytes of arrays in another byte order are swapped.  A
``mapix.Batch`` is a tree of its arrays, for ``torch.utils._pytree``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils import _pytree as pytree
from torch.utils import data as torch_data
from torch.utils.data._utils import collate as torch_collate

import mapix
from mapix.batch import Batch, Collatable, Pair, Row, Samples
from mapix.feeding import Loader
from mapix.feeding.batch_sampler import BatchSampler
from mapix.feeding.labels import IGNORE as IGNORE
from mapix.feeding.labels import as_dict, as_tensors
from mapix.options import Crop, Dtype, Layout
from mapix.registry import open_dataset
from mapix.selection import integer, part, position, positions, single

__all__ = ["BatchSampler", "Collated", "Dataset", "Images", "Loader", "Sample", "collate"]

_TORCH_DTYPES = {
    name: getattr(torch, name)
    for name in ("uint8", "float32", "float16", "int32", "uint16", "uint32")
    if hasattr(torch, name)
}


class Sample(tuple[Any, ...]):
    """The tuple ``dataset[i]``, which PyTorch's default collate function recognises by its type.

    Attributes
    ----------
    pad_value : float or None
        With it, images of several samples that differ in size are padded to the largest.
    """

    pad_value: float | None = None


class Collated(Sequence[Any]):
    """A batch that is collated already: what ``Dataset.__getitems__`` returns.

    ``collate``, and PyTorch's default collate function, take ``value`` out.  As a sequence it is
    the samples of the batch.

    Attributes
    ----------
    value : tuple
        ``(images, labels)``, or ``(images, labels, sizes)``.
    """

    __slots__ = ("_n", "_pad_value", "value")

    def __init__(self, value: tuple[Any, ...], n: int, pad_value: float | None = None) -> None:
        self.value = value
        self._n = n
        self._pad_value = pad_value

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self._n))]
        number = single(i, self._n, "a batch", "samples")
        sample = Sample(_row(part, number) for part in self.value)
        sample.pad_value = self._pad_value
        return sample

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self._n))


def _row(part: Any, i: int) -> Any:
    if part is None:
        return None
    return {k: v[i] for k, v in part.items()} if isinstance(part, dict) else part[i]


def collate(batch: Any) -> Any:
    """The collate function that goes with ``Dataset``.

    Parameters
    ----------
    batch : Collated, tuple or list
        What the dataset gave the loader: a complete batch, also as ``dataset[indices]`` gives it
        (for ``batch_size=None`` and a ``BatchSampler``); or a list of samples, as from a
        ``ConcatDataset``, which PyTorch then collates.

    Returns
    -------
    tuple
        ``(images, labels)``, or ``(images, labels, sizes)``.
    """
    if isinstance(batch, Collated):
        return batch.value
    return batch if isinstance(batch, tuple) else torch_data.default_collate(batch)


# --- what PyTorch's default collate function does with mapix's types ------------------------------


def _of_samples(batch: Sequence[Sample], *, collate_fn_map: Any = None) -> Any:
    """Samples of ``Dataset``: gathered together, or one by one."""
    if isinstance(batch, Collated):
        return batch.value
    plain = [tuple(sample) for sample in _padded(batch)]
    return torch_collate.collate(plain, collate_fn_map=collate_fn_map)


def _padded(batch: Sequence[Sample]) -> Sequence[tuple[Any, ...]]:
    """Samples whose images have one size, where they were to be padded."""
    images, pad_value = [sample[0] for sample in batch], batch[0].pad_value
    if pad_value is None or not all(isinstance(image, torch.Tensor) for image in images):
        return batch
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) == 1 or len({len(shape) for shape in shapes}) > 1:
        return batch
    most = [max(sides) for sides in zip(*shapes, strict=True)]
    room = torch.full((len(batch), *most), pad_value, dtype=images[0].dtype)
    for canvas, image in zip(room, images, strict=True):
        canvas[tuple(slice(n) for n in image.shape)] = image
    return [(canvas, *sample[1:]) for canvas, sample in zip(room, batch, strict=True)]


def _of_rows(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """Rows of an array, gathered together or one by one."""
    if isinstance(batch, Samples):
        return torch.from_numpy(batch.images)
    return _of_arrays(batch, collate_fn_map=collate_fn_map)


def _of_pairs(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """Rows and their labels, the same."""
    if isinstance(batch, Samples):
        return [torch.from_numpy(batch.images), torch.from_numpy(batch.labels)]
    plain = [tuple(pair) for pair in batch]
    return torch_collate.collate(plain, collate_fn_map=collate_fn_map)


def _of_arrays(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """Any arrays: PyTorch takes this machine's byte order alone, and warns of read-only ones."""
    if batch[0].dtype.kind in "biufc" and not (
        batch[0].dtype.isnative and batch[0].flags.writeable
    ):
        batch = [np.array(a, a.dtype.newbyteorder("=")) for a in batch]
    return _pytorchs(batch, collate_fn_map=collate_fn_map)


def _of_records(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """Records of a family: images as it batches them, and name -> labels (b,)."""
    del collate_fn_map
    found = Collatable.batch_of(batch)
    labels = {} if found.labels is None else as_dict(torch.from_numpy(found.labels), found.names)
    return torch.from_numpy(found.images), labels


_pytorchs = torch_collate.collate_numpy_array_fn
torch_collate.default_collate_fn_map.update(
    {Sample: _of_samples, Row: _of_rows, Pair: _of_pairs, Collatable: _of_records}
)
torch_collate.default_collate_fn_map[np.ndarray] = _of_arrays


def _shared(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    # the call that PyTorch's own default_collate makes in a worker
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)


pytree.register_pytree_node(
    Batch,
    lambda batch: (list(batch.tree_flatten()[0]), batch.names),
    lambda arrays, names: Batch.tree_unflatten(names, list(arrays)),
    serialized_type_name="mapix.Batch",
)


class Dataset(torch_data.Dataset[Any]):
    """A map-style dataset over a mapix dataset.

    ``dataset[i]`` is ``(image, labels)``, ``dataset[indices]`` the same of a batch; a DataLoader
    asks for complete batches through ``__getitems__``, and each is one gather in C, straight into
    the tensor that it returns (in a worker process: straight into shared memory).

    Parameters
    ----------
    path_or_dataset : path, paths, or mapix.Dataset
        The dataset; paths are opened with ``mapix.open(path, **open_options)``.
    dtype : {"float32", "float16", "uint8", ...}
        Type of the images.
    layout : {"NCHW", "NHWC"}, optional
        Order of the dimensions; by default NCHW where records are images of two or three
        dimensions, and as the file has them elsewhere.
    scale, mean, std : float or array_like, optional
        ``(number * scale - mean) / std``, per channel; by default the file's own numbers.
    pad, crop, pad_value
        For records of mixed sizes: as for ``batch`` of the dataset.
    labels : {"class", "raw"}, another unit of the family, or None
        "class": int64 class numbers (missing ones are -100, which PyTorch's losses ignore); "raw":
        as the file has them; None: ``labels`` is None, as it is for a dataset without labels.
    as_dict : bool
        Labels as a dict of name -> tensor (b,), or as one tensor.
    batch_options : mapping, optional
        More options of ``batch`` that the family has, such as ``size=`` and ``fit=`` of pictures.
    sizes : bool
        Whether batches carry a third part: int64 (b, 3), h, w, c of each record in the file.
    transform : callable, optional
        Applied to the image tensor of each sample.
    batch_transform : callable, optional
        Applied to the image tensor of a complete batch, which is much cheaper; a single sample is
        passed as a batch of one.
    threads : int
        Threads that copy a batch.
    **open_options
        For ``mapix.open``, when a path is given.

    Notes
    -----
    Copies: each image once.  Lifetime: tensors are their own.  Threads: any.  Pickles as path and
    options: with ``num_workers`` and spawn each worker opens the file itself, and refuses one that
    is not the same.
    """

    def __init__(
        self,
        path_or_dataset: str | os.PathLike[str] | Sequence[str] | mapix.Dataset[Any],
        *,
        dtype: Dtype = "float32",
        layout: Layout | None = None,
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        pad: bool | tuple[int, ...] = False,
        crop: Crop = False,
        pad_value: float = 0.0,
        labels: str | None = "class",
        as_dict: bool = True,
        sizes: bool = False,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        batch_transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        threads: int = 1,
        batch_options: Mapping[str, Any] | None = None,
        **open_options: Any,
    ) -> None:
        self._source: Any = _opened(path_or_dataset, open_options)
        shape = self._source.image_shape
        if layout is None and (shape is None or len(shape) in (2, 3)):
            layout = "NCHW"
        self.options: dict[str, Any] = {
            "dtype": dtype,
            "layout": layout,
            "scale": scale,
            "mean": mean,
            "std": std,
            "pad": pad,
            "crop": crop,
            "pad_value": pad_value,
            "labels": labels,
            "threads": threads,
            **(batch_options or {}),
        }
        self._reopen: tuple[Any, ...] = ()
        self.as_dict = as_dict
        self.sizes = sizes
        self.transform = transform
        self.batch_transform = batch_transform
        self.source.batch([], **self.options)  # bad options are reported here, not in a worker

    @property
    def source(self) -> Any:
        """The mapix dataset.  A worker opens it when it is first used: an error in unpickling would
        be the death of the worker, one in using it reaches the loader.
        """
        if self._source is None:
            reopen, arguments = self._reopen
            self._source = reopen(*arguments)
        return self._source

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_reopen"] = self._reopen if self._source is None else self._source.__reduce__()
        state["_source"] = None
        return state

    @property
    def heads(self) -> dict[str, int]:
        """Name -> number of classes, where the format states it."""
        found: dict[str, int] = getattr(self.source, "heads", {})
        return found

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        number = integer(index)
        if number is None:  # what a loader with batch_size=None asks of a BatchSampler's indices
            return self.__getitems__(part(index, None, len(self), self.source.path)).value
        # the IndexError is also what ends a for loop over the dataset
        row = position(number, len(self), self.source.path)
        found: Sample = self._gather([row], shared=False)[0]
        return found

    def __getitems__(self, indices: ArrayLike) -> Collated:
        """All samples of a batch, collated: what a DataLoader calls."""
        in_worker = torch_data.get_worker_info() is not None
        return self._gather(indices, shared=in_worker and self.transform is None)

    def _images(self, indices: ArrayLike, *, shared: bool) -> tuple[Any, torch.Tensor]:
        """A batch, and its images as the transforms leave them."""
        rows = positions(indices, len(self), self.source.path)
        out = self._shared_out(rows) if shared and len(rows) else None
        target = None if out is None else out.numpy()
        batch = self.source.batch(rows, out=target, **self.options)
        images = torch.from_numpy(batch.images) if out is None else out
        if self.batch_transform is not None:
            images = self.batch_transform(images)
        if self.transform is not None:
            images = torch.stack([self.transform(image) for image in images])
        return batch, images

    def _gather(self, indices: ArrayLike, *, shared: bool) -> Collated:
        batch, images = self._images(indices, shared=shared)
        value: tuple[Any, ...] = (images, self._labels(batch))
        if self.sizes:
            value = (*value, torch.from_numpy(batch.shapes.astype(np.int64)))
        pad_value = self.options["pad_value"] if self.options["pad"] is True else None
        return Collated(value, len(batch), pad_value)

    def _shared_out(self, rows: np.ndarray[Any, Any]) -> torch.Tensor | None:
        """A tensor in shared memory: what a worker sends to the loader without another copy."""
        names = ("layout", "pad", "crop", "size", "mode")
        known = {k: v for k, v in self.options.items() if k in names and v is not None}
        shape = self.source.batch_shape(rows, **known)
        return None if shape is None else _shared(shape, _TORCH_DTYPES[self.options["dtype"]])

    def _labels(self, batch: Batch) -> dict[str, torch.Tensor] | torch.Tensor | None:
        values = as_tensors(batch, self.options["labels"])
        if values is None or not self.as_dict:
            return values
        if values.ndim == 2 and values.shape[1] == len(batch.names):
            values = values.T.contiguous().T
        return as_dict(values, batch.names)


def _opened(path_or_dataset: Any, open_options: dict[str, Any]) -> Any:
    """Return a dataset as it is, and open paths."""
    if isinstance(path_or_dataset, mapix.Dataset):
        if open_options:
            raise TypeError(f"options {', '.join(open_options)} need a path, not a dataset")
        return path_or_dataset
    found = open_dataset(path_or_dataset, **open_options)
    if not isinstance(found, mapix.Dataset):
        raise TypeError(f"{path_or_dataset}: a {type(found).__name__} is not a dataset of records")
    return found


class Images(Dataset):
    """A map-style dataset over pictures, and what their records say.

    ``dataset[i]`` is ``(image, target)``; a DataLoader gets ``(images, targets)``, targets being a
    list.

    Parameters
    ----------
    path_or_dataset : path or mapix.Dataset
        An image folder; a path is opened with ``mapix.open(path, **open_options)``.
    size, fit, mode, dtype, layout, scale, mean, std, pad_value, resample, draft, threads
        As for ``batch`` of the image folder.
    target : callable, optional
        Makes a target of ``(record, boxes)``, boxes being float64 (n, 4), x, y, width, height in
        pixels of the image as it comes out.  By default a dict: ``index``, ``file_name``,
        ``caption``, ``categories``, ``boxes`` (float32 (n, 4), left, top, right, bottom) and
        ``box_categories``.
    transform : callable, optional
        Applied to the image tensor of each sample.
    batch_transform : callable, optional
        Applied to the image tensor of a complete batch.
    **open_options
        For ``mapix.open``, when a path is given.

    Notes
    -----
    Copies: as ``batch``; in a worker process, with ``size`` and ``mode``, straight into shared
    memory.  Pickles as path and options.
    """

    def __init__(
        self,
        path_or_dataset: str | os.PathLike[str] | mapix.Dataset[Any],
        *,
        size: tuple[int, int] | None = None,
        fit: str = "exact",
        mode: str | None = None,
        dtype: Dtype = "float32",
        layout: Layout = "NCHW",
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        pad_value: float = 0.0,
        resample: str = "bilinear",
        draft: bool = False,
        target: Callable[[Any, np.ndarray[Any, Any]], Any] | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        batch_transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        threads: int = 1,
        **open_options: Any,
    ) -> None:
        self._source = _opened(path_or_dataset, open_options)
        self.options = {
            "size": size,
            "fit": fit,
            "mode": mode,
            "dtype": dtype,
            "layout": layout,
            "scale": scale,
            "mean": mean,
            "std": std,
            "pad_value": pad_value,
            "resample": resample,
            "draft": draft,
            "threads": threads,
        }
        self._reopen = ()
        self.target = target
        self.transform = transform
        self.batch_transform = batch_transform
        self.source.batch([], **self.options)  # bad options are reported here, not in a worker

    @property
    def heads(self) -> dict[str, int]:
        """Empty: categories are in the records."""
        return {}

    def _gather(self, indices: ArrayLike, *, shared: bool) -> Collated:
        batch, images = self._images(indices, shared=shared)
        make = self.target or _target
        pairs = zip(batch.records, batch.boxes, strict=True)
        return Collated((images, [make(record, boxes) for record, boxes in pairs]), len(batch))


def _target(record: Any, boxes: np.ndarray[Any, Any]) -> dict[str, Any]:
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    objects = record.objects
    return {
        "index": record.index,
        "file_name": record.file_name,
        "caption": record.caption,
        "categories": record.categories,
        "boxes": torch.from_numpy(corners.astype(np.float32)),
        "box_categories": [] if objects is None else objects.categories,
    }
