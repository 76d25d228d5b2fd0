"""mapix datasets for PyTorch: one gather a batch, and nothing copied twice.

>>> from torch.utils.data import DataLoader                      # doctest: +SKIP
>>> import mapix.torch                                           # doctest: +SKIP
>>> data = mapix.torch.Dataset("my_dataset", scale=1 / 255)      # doctest: +SKIP
>>> loader = DataLoader(data, batch_size=256, shuffle=True,
...                     collate_fn=mapix.torch.collate)          # doctest: +SKIP
>>> images, labels = next(iter(loader))                          # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils import data as torch_data

import mapix
from mapix.batch import Batch, Dtype, Layout
from mapix.folder.batching import PictureDtype
from mapix.folder.dataset import ImageFolder
from mapix.folder.decoding import MODES
from mapix.selection import positions, single
from mapix.vimh.dataset import Dataset as VimhDataset
from mapix.vimh.joined import Joined
from mapix.vimh.parameters import Unit

__all__ = ["Collated", "Dataset", "Images", "collate"]

IGNORE = -100  # the class that PyTorch's losses leave out

_TORCH_DTYPES = {
    name: getattr(torch, name)
    for name in ("uint8", "float32", "float16", "int32", "uint16", "uint32")
    if hasattr(torch, name)
}


class Collated(Sequence[Any]):
    """A batch that is collated already: what ``Dataset.__getitems__`` returns.

    ``collate`` takes ``value`` out.  Seen as a sequence it is the samples of the batch, so that
    PyTorch's default collate function works as well, at the price of copying once more.

    Attributes
    ----------
    value : tuple
        ``(images, labels)``, or ``(images, labels, sizes)``.
    """

    __slots__ = ("_n", "value")

    def __init__(self, value: tuple[Any, ...], n: int) -> None:
        self.value = value
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self._n))]
        number = single(i, self._n, "a batch", "samples")
        return tuple(_row(part, number) for part in self.value)

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
    batch : Collated or list
        What the dataset gave the loader: a batch that is whole already, or a list of samples
        (as from a ``torch.utils.data.Subset`` of an old PyTorch), which PyTorch then collates.

    Returns
    -------
    tuple
        ``(images, labels)``, or ``(images, labels, sizes)``.
    """
    if isinstance(batch, Collated):
        return batch.value
    return torch_data.default_collate(batch)


def _shared(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    # the call that PyTorch's own default_collate makes in a worker
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)


class Dataset(torch_data.Dataset[Any]):
    """A map-style dataset over a mapix dataset.

    ``dataset[i]`` is ``(image, labels)``; a DataLoader with ``collate_fn=mapix.torch.collate`` asks
    for whole batches through ``__getitems__``, and each is one gather in C, straight into the
    tensor that it returns (in a worker process: straight into shared memory).

    Parameters
    ----------
    path_or_dataset : path, paths, or mapix.vimh.Dataset or Joined
        What to read; paths are opened with ``mapix.open(path, **open_options)``.
    dtype : {"float32", "float16", "uint8"}
        Type of the images.
    layout : {"NCHW", "NHWC"}
        Order of the images.
    scale, mean, std : float or array_like, optional
        ``(byte * scale - mean) / std``, per channel; by default the bytes' own values, 0..255.
    pad, crop, pad_value
        For records of mixed sizes: as for ``mapix.vimh.Dataset.batch``.
    labels : {"class", "raw", "normalised", "physical"} or None
        Unit of the labels: int64 classes (missing ones are -100, which PyTorch's losses ignore),
        uint8 codes, float32 0..1, float32 physical (missing ones NaN).  None: ``labels`` is None.
    as_dict : bool
        Labels as a dict of name -> tensor (b,), or as one tensor (b, heads).
    sizes : bool
        Whether batches carry a third part: int64 (b, 3), h, w, c of each record in the file.
    transform : callable, optional
        Applied to the image tensor of each sample.
    batch_transform : callable, optional
        Applied to the image tensor of a whole batch, which is much cheaper; a single sample is
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
        path_or_dataset: str | os.PathLike[str] | Sequence[str] | VimhDataset | Joined,
        *,
        dtype: Dtype = "float32",
        layout: Layout = "NCHW",
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        pad: bool | tuple[int, ...] = False,
        crop: Any = False,
        pad_value: float = 0.0,
        labels: Unit | None = "class",
        as_dict: bool = True,
        sizes: bool = False,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        batch_transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        threads: int = 1,
        **open_options: Any,
    ) -> None:
        if isinstance(path_or_dataset, VimhDataset | Joined):
            if open_options:
                raise TypeError(f"options {', '.join(open_options)} need a path, not a dataset")
            self._source: Any = path_or_dataset
        else:
            self._source = mapix.open(path_or_dataset, **open_options)
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
        }
        self._reopen: tuple[Any, ...] = ()
        self.as_dict = as_dict
        self.sizes = sizes
        self.transform = transform
        self.batch_transform = batch_transform
        self.source.batch([], **self.options)  # bad options are told here, not in a worker

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
        """Name -> number of classes."""
        return self.source.heads

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, ...]:
        # the IndexError is also what ends a for loop over the dataset
        number = single(index, len(self), self.source.path)
        return tuple(self._gather([number], shared=False)[0])

    def __getitems__(self, indices: list[int]) -> Collated:
        """All samples of a batch, collated: what a DataLoader calls."""
        in_worker = torch_data.get_worker_info() is not None
        return self._gather(indices, shared=in_worker and self.transform is None)

    def _images(self, indices: list[int], *, shared: bool) -> tuple[Any, torch.Tensor]:
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

    def _gather(self, indices: list[int], *, shared: bool) -> Collated:
        batch, images = self._images(indices, shared=shared)
        value: tuple[Any, ...] = (images, self._labels(batch))
        if self.sizes:
            value = (*value, torch.from_numpy(batch.shapes.astype(np.int64)))
        return Collated(value, len(indices))

    def _shared_out(self, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        """A tensor in shared memory: what a worker sends to the loader without another copy."""
        shape = self.source.batch_shape(
            rows, layout=self.options["layout"], pad=self.options["pad"], crop=self.options["crop"]
        )
        return _shared(shape, _TORCH_DTYPES[self.options["dtype"]])

    def _labels(self, batch: Batch) -> dict[str, torch.Tensor] | torch.Tensor | None:
        if batch.labels is None or batch.present is None:
            return None
        values = batch.labels
        if self.options["labels"] == "class" and not batch.present.all():
            values[~batch.present] = IGNORE
        if not self.as_dict:
            return torch.from_numpy(values)
        columns = torch.from_numpy(np.ascontiguousarray(values.T))
        return dict(zip(batch.names, columns, strict=True))


class Images(Dataset):
    """A map-style dataset over an image folder: pictures, and what their records say.

    ``dataset[i]`` is ``(image, target)``; a DataLoader with ``collate_fn=mapix.torch.collate`` gets
    ``(images, targets)``, targets being a list.

    Parameters
    ----------
    path_or_dataset : path or mapix.folder.ImageFolder
        What to read; a path is opened with ``mapix.open(path, **open_options)``.
    size, fit, mode, dtype, layout, scale, mean, std, pad_value, resample, draft, threads
        As for ``mapix.folder.ImageFolder.batch``.
    target : callable, optional
        Makes a target of ``(record, boxes)``, boxes being float64 (n, 4), x, y, width, height in
        pixels of the image as it comes out.  By default a dict: ``index``, ``file_name``,
        ``caption``, ``categories``, ``boxes`` (float32 (n, 4), left, top, right, bottom) and
        ``box_categories``.
    transform : callable, optional
        Applied to the image tensor of each sample.
    batch_transform : callable, optional
        Applied to the image tensor of a whole batch.
    **open_options
        For ``mapix.open``, when a path is given.

    Notes
    -----
    Copies: as ``batch``; in a worker process, with ``size`` and ``mode``, straight into shared
    memory.  Pickles as path and options.
    """

    def __init__(
        self,
        path_or_dataset: str | os.PathLike[str] | ImageFolder,
        *,
        size: tuple[int, int] | None = None,
        fit: str = "exact",
        mode: str | None = None,
        dtype: PictureDtype = "float32",
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
        if isinstance(path_or_dataset, ImageFolder):
            if open_options:
                raise TypeError(f"options {', '.join(open_options)} need a path, not a dataset")
            self._source = path_or_dataset
        else:
            self._source = mapix.open(path_or_dataset, format="folder", **open_options)
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
        self.source.batch([], **self.options)  # bad options are told here, not in a worker

    @property
    def heads(self) -> dict[str, int]:
        """None: categories are what the records say."""
        return {}

    def _gather(self, indices: list[int], *, shared: bool) -> Collated:
        batch, images = self._images(indices, shared=shared)
        make = self.target or _target
        pairs = zip(batch.records, batch.boxes, strict=True)
        return Collated((images, [make(record, boxes) for record, boxes in pairs]), len(indices))

    def _shared_out(self, rows: np.ndarray[Any, Any]) -> torch.Tensor | None:
        size, mode = self.options["size"], self.options["mode"]
        if size is None or mode is None:
            return None  # known only when the pictures are decoded
        shape = (len(rows), *size, MODES[mode])
        if self.options["layout"] == "NCHW":
            shape = (len(rows), MODES[mode], *size)
        return _shared(shape, _TORCH_DTYPES[self.options["dtype"]])


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
