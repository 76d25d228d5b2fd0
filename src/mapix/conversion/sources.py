"""From something opened to a stream of its records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.batch import Batch
from mapix.conversion.folders import streams_of
from mapix.conversion.stream import Axes, Block, Label, Stream, starts
from mapix.errors import UnsupportedError
from mapix.folder import ImageFolder
from mapix.idx import IdxArray
from mapix.pink import Data
from mapix.pink.file import PinkFile
from mapix.rowarray import RowArray
from mapix.vimh import Dataset, Joined
from mapix.vimh.writer import channel_labels

__all__ = ["streamed"]

Whole = Callable[[], tuple[NDArray[Any], NDArray[np.bool_]]]
# Keys of an info JSON that follow from the records, or from where they are written
DERIVED = frozenset(
    (
        *("format", "version", "dataset_name", "output_format", "label_encoding"),
        *("height", "width", "channels", "channel_labels", "image_size", "image_sizes"),
        *("varying_parameters", "parameter_names", "parameter_mappings", "fixed_parameters"),
        *("train_samples", "test_samples", "total_samples", "n_samples"),
    )
)


def streamed(
    opened: Mapping[str, Any],
    *,
    axes: Axes | None = None,
    images: Mapping[str, Any] | None = None,
) -> dict[str, Stream]:
    """The records of what ``mapix.open`` gave, by split.

    Parameters
    ----------
    opened : mapping of str to Dataset, Joined, IdxArray, ImageFolder, or one of PINK's files
        The splits of one dataset, or parts of them.
    axes : {"HW", "HWC", "CHW"}, optional
        What the dimensions of a row are, where the format does not say.
    images : mapping, optional
        Of an image folder: what becomes of pictures of other sizes.
    """
    if any(isinstance(ds, ImageFolder) for ds in opened.values()):
        return streams_of(opened, images or {})  # together: their categories have one numbering
    return {split: _streamed(ds, axes) for split, ds in opened.items()}


def _streamed(opened: Any, axes: Axes | None) -> Stream:
    if isinstance(opened, Dataset | Joined):
        return _vimh(opened)
    if isinstance(opened, IdxArray):
        return _rows(opened, axes)
    if isinstance(opened, PinkFile):
        return _pink(opened, axes)
    raise UnsupportedError(f"{type(opened).__name__} cannot be converted record by record")


# --- VIMH -----------------------------------------------------------------------------------------


def _vimh(ds: Dataset | Joined) -> Stream:
    shapes = ds.shapes
    same = len(ds) == 0 or bool((shapes == shapes[0]).all())
    shape = tuple(int(d) for d in shapes[0]) if same and len(ds) else None
    if not len(ds):
        sizes = [ds.info.get(k) for k in ("height", "width", "channels")]
        shape = tuple(sizes) if all(type(d) is int and d > 0 for d in sizes) else (0, 0, 0)  # type: ignore[arg-type]
    sizes = shapes.astype(np.int64).prod(axis=1)
    largest = int(sizes.max(initial=1))
    found = Stream(
        ds.path,
        len(ds),
        np.dtype(np.uint8),
        shape,
        int(sizes.sum()),
        "HWC",
        lambda c_order=False: (
            _vimh_block(ds, rows, c_order=c_order and same) for rows in starts(len(ds), largest)
        ),
        [Label(name, _whole(ds, name), p) for name, p in ds.parameters.items()],
        info=ds.info,
    )
    found.ranges = lambda: _ranges(ds)
    if any(map(_told, _ranges(ds))):
        found.besides["spec_range"] = "spec_min and spec_max of the records"
    if ds.parameters.fixed:
        found.besides["fixed"] = f"fixed parameters: {', '.join(ds.parameters.fixed)}"
    more = [key for key in ds.info if key not in DERIVED]
    if ds.info.get("channel_labels") not in (None, _usual_channels(ds)):
        more.append("channel_labels")
    if more:
        found.besides["info"] = f"what the info JSON says: {', '.join(more)}"
    return found


def _usual_channels(ds: Dataset | Joined) -> Any:
    """Names of channels that say no more than their number."""
    count = ds.info.get("channels")
    return channel_labels(count) if isinstance(count, int) and 0 <= count < 1 << 16 else None


def _whole(ds: Dataset | Joined, name: str) -> Whole:
    def values() -> tuple[NDArray[Any], NDArray[np.bool_]]:
        column = ds.labels[name]
        return column.codes, column.present

    return values


def _ranges(ds: Dataset | Joined) -> Iterator[NDArray[np.float32]]:
    """The ranges of all records, cut to pictures of one pixel: nearly nothing is copied."""
    for rows in starts(len(ds), 64):
        batch = ds.batch(rows, pad=(1, 1), crop="corner", labels=None, spec_range=True)
        assert batch.spec_range is not None
        yield batch.spec_range


def _told(ranges: NDArray[np.float32]) -> bool:
    """Whether there is anything in them: the writers' default is two zeros, NaN stands for none."""
    return bool(((ranges != 0) & ~np.isnan(ranges)).any())


def _vimh_block(ds: Dataset | Joined, rows: NDArray[np.int64], *, c_order: bool) -> Block:
    batch = ds.batch(rows, flat=not c_order, labels="raw", spec_range=True)
    assert batch.labels is not None
    assert batch.present is not None
    parts = ds.parts if isinstance(ds, Joined) else (ds,)
    interleaved = parts[0].interleaved
    return Block(
        [batch.images] if c_order else _runs(batch, interleaved),
        {name: batch.labels[:, k] for k, name in enumerate(batch.names)},
        {name: batch.present[:, k] for k, name in enumerate(batch.names)},
        batch.spec_range,
        flat=None if c_order or interleaved else batch,
    )


def _runs(batch: Batch, interleaved: bool) -> list[NDArray[np.uint8]]:
    """Runs of pictures (k, h, w, c) as the file has them: views, nothing transposed."""
    assert batch.offsets is not None
    runs = []
    for begin, end in _alike(batch.shapes):
        h, w, c = (int(d) for d in batch.shapes[begin])
        pixels = batch.images[batch.offsets[begin] : batch.offsets[end]]
        planes = pixels.reshape(end - begin, *((h, w, c) if interleaved else (c, h, w)))
        runs.append(planes if interleaved else planes.transpose(0, 2, 3, 1))
    return runs


def _alike(shapes: NDArray[np.uint16]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of records of one shape."""
    edges = np.flatnonzero((shapes[1:] != shapes[:-1]).any(axis=1)) + 1
    ends = [*edges.tolist(), len(shapes)]
    return zip([0, *edges.tolist()], ends, strict=True)


# --- rows of one array ----------------------------------------------------------------------------


def _rows(a: RowArray, axes: Axes | None) -> Stream:
    shape = a.batch([]).images.shape[1:]  # a.shape of a SOM is that of its grid
    known = axes or ("HW" if len(shape) == 2 else None)
    nbytes = math.prod(shape) * a.dtype.itemsize
    labels = a.labels
    found: list[Label] = []
    if labels is not None:
        if labels.dtype.kind not in "iu" or len(labels.shape) != 1:
            raise UnsupportedError(
                f"{labels.path}: labels of {labels.dtype} {labels.shape[1:]} are no class numbers; "
                "labels=False leaves them out"
            )
        found.append(Label("label", lambda: _all(labels)))
    return Stream(
        a.path,
        len(a),
        a.dtype.newbyteorder("="),
        shape,
        len(a) * math.prod(shape),
        known,
        lambda c_order=False: (_rows_block(a, rows) for rows in starts(len(a), nbytes)),
        found,
    )


def _pink(file: PinkFile, axes: Axes | None) -> Stream:
    """Rows of any of PINK's files; three dimensions of an entry are channels, h, w."""
    found = _rows(file, axes or ("CHW" if file.batch([]).images.ndim == 4 else None))
    found.comment = file.comment
    if file.comment:
        found.besides["comment"] = "lines of comment"
    if not isinstance(file, Data):
        found.besides["som"] = f"that the rows are of a {file.kind}, and how its neurons lie"
    return found


def _rows_block(a: RowArray, rows: NDArray[np.int64]) -> Block:
    batch = a.batch(rows)
    if batch.labels is None:
        return Block([batch.images])
    values = batch.labels.reshape(len(rows))
    return Block([batch.images], {"label": values}, {"label": np.ones(len(rows), np.bool_)})


def _all(labels: RowArray) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values = labels.batch(np.arange(len(labels))).images
    return values, np.ones(len(values), np.bool_)
