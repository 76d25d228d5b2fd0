"""The stream of any dataset, by the contract alone; a format that holds more declares its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.conversion.blocks import Arrays, Blocks
from mapix.conversion.stream import Axes, Block, Label, Stream, Values, writable
from mapix.errors import UnsupportedError

__all__ = ["array_streams", "dataset_stream", "dataset_streams"]

DIMENSIONS: dict[int, Axes] = {2: "HW", 3: "HWC"}  # of the images of a dataset


def dataset_streams(
    splits: Mapping[str, Any],
    *,
    axes: Axes | None = None,
    images: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, Stream]:
    """Return the streams of the splits of a dataset: see ``mapix.registry.Format.source``.

    Parameters
    ----------
    splits : mapping of str to Dataset
        Splits, or parts of them.  Names of classes are numbered together.
    axes : {"HW", "HWC", "CHW"}, optional
        Dimensions of a record, where the format does not state them.
    images : mapping, optional
        Refused unless empty: records are converted as they are.
    """
    if images:
        path = next(iter(splits.values())).path
        raise UnsupportedError(f"{path}: size=, mode= and fit= are for image folders")
    classes = _classes(splits.values())
    return {name: dataset_stream(ds, axes, classes) for name, ds in splits.items()}


def array_streams(
    splits: Mapping[str, Any], *, axes: Axes | None = None, **options: Any
) -> dict[str, Stream]:
    """Return the streams of arrays without names of dimensions: as ``dataset_streams``.

    Records of three dimensions may be (h, w, c) or (c, h, w): ``axes`` states which.
    """
    found = dataset_streams(splits, axes=axes, **options)
    for stream in found.values() if axes is None else ():
        stream.axes = "HW" if stream.axes == "HW" else None
    return found


def dataset_stream(
    ds: Any, axes: Axes | None = None, classes: Mapping[str, Sequence[str]] | None = None
) -> Stream:
    """Return the stream of one dataset: its images, its labels, and all other columns as facts.

    Parameters
    ----------
    ds : Dataset
        Its records have an image each, ``ds.batch`` or ``_image`` gives it.
    axes : {"HW", "HWC", "CHW"}, optional
        Dimensions of an image; by default HW of two dimensions, HWC of three if sizes are mixed.
    classes : mapping of str to sequence of str, optional
        Column -> names of its classes in the order of their numbers, where text is the label.
    """
    shapes, dtype = _shapes(ds)
    if {len(s) for s in shapes} == {2, 3}:
        shapes = [(*s, 1)[:3] for s in shapes]
    shape = shapes[0] if len(set(shapes)) == 1 else None
    known = axes or DIMENSIONS.get(len(shapes[0]))
    sizes = [math.prod(s) for s in shapes] if shape is None else []
    labels, facts = _columns(ds, classes if classes is not None else _classes([ds]))
    names = _file_names(ds)
    if names is not None:
        facts.remove("file_name")
    largest = max(sizes, default=math.prod(shape or (1,))) * dtype.itemsize
    read = _Reader(ds, labels, facts, names)
    pixels = partial(_runs, shape, len(shapes[0]), dtype)
    found = Stream(
        ds.path,
        len(ds),
        dtype,
        shape,
        sum(sizes) if shape is None else len(ds) * math.prod(shape),
        known,
        Blocks(ds, largest, pixels, read.block),
        labels,
        sizes=np.array(sizes, np.int64) if shape is None else None,
    )
    if names is not None:
        found.besides["names"] = "file names"
    if facts:
        found.besides["facts"] = f"columns: {', '.join(facts)}"
    if files := [name for name in facts if name.endswith(("file_name", "file_names"))]:
        found.besides["files"] = f"files that records name: {', '.join(files)}"
    found.lines = read.lines
    return found


def _shapes(ds: Any) -> tuple[list[tuple[int, ...]], np.dtype[Any]]:
    """Return the shape of the images, or of each of them where they differ, and their type.

    Cost: one record where the dataset states its ``image_shape``, else a scan of all images.
    """
    rows = ds.rows.tolist()
    if (shape := ds.image_shape) is not None:
        rows = rows[:1]
        if not rows:
            return [tuple(shape)], ds.batch([], labels=None).images.dtype
    shapes: list[tuple[int, ...]] = []
    types = set()
    for row in rows:
        image = _pixels(ds, row)
        shapes.append(image.shape)
        types.add(image.dtype.newbyteorder("="))
    return shapes or [(0, 0, 0)], np.result_type(*types) if types else np.dtype(np.uint8)


def _pixels(ds: Any, row: int) -> NDArray[Any]:
    image: NDArray[Any] | None = ds._image(row)
    if image is None:
        why = ds._without_pixels() or f"{ds.RECORDS} of {ds.FAMILY} have no image to convert"
        raise UnsupportedError(f"{ds.path}: {why}")
    return image


class _Reader:
    """Blocks of a dataset's records."""

    def __init__(
        self, ds: Any, labels: Sequence[Label], facts: Sequence[str], names: list[str] | None
    ) -> None:
        self.ds, self.labels, self.facts, self.names = ds, labels, facts, names

    def block(self, rows: NDArray[np.int64], runs: Arrays, c_order: bool) -> Block:
        """Return some records, by their numbers in this dataset, with their images."""
        del c_order
        found = Block(runs)
        for label in self.labels:
            values, present = label.read()
            found.values = {**found.values, label.name: values[rows]}
            found.present = {**found.present, label.name: present[rows]}
        if self.names is not None:
            found.names = [self.names[row] for row in rows]
        if self.facts:
            found.facts = [self._facts(int(row)) for row in rows]
        return found

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the file name and the facts of all records."""
        for row in range(len(self.ds)):
            name = {} if self.names is None else {"file_name": self.names[row]}
            yield name | self._facts(row)

    def _facts(self, row: int) -> dict[str, Any]:
        columns = self.ds.columns
        return {
            name: _plain(columns[name].values[row])
            for name in self.facts
            if columns[name].present[row]
        }


def _runs(
    shape: tuple[int, ...] | None, ndim: int, dtype: np.dtype[Any], part: Any, c_order: bool
) -> Arrays:
    """Return the images of all records of a part, those of one shape together."""
    del c_order
    if shape is not None and part.image_shape is not None:
        images = part.batch(np.arange(len(part)), labels=None).images
        if images.dtype == dtype and images.shape[1:] in (shape, (*shape, 1)):
            return [images.reshape(len(part), *shape)]
    found = (_pixels(part, row) for row in part.rows.tolist())
    images = [
        (image if image.ndim == ndim else image[..., None]).astype(dtype, copy=False)
        for image in found
    ]
    runs: Arrays = []
    begin = 0
    for k in range(1, len(images) + 1):
        if k == len(images) or images[k].shape != images[begin].shape:
            runs.append(np.stack(images[begin:k]))
            begin = k
    return runs


def _plain(value: Any) -> Any:
    """Return a value of a column as JSON holds it; bytes as text of hexadecimal digits."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(v) for v in value]
    return value


def _columns(ds: Any, classes: Mapping[str, Sequence[str]]) -> tuple[list[Label], list[str]]:
    """Return the columns that are labels, and the names of all others."""
    labels: list[Label] = []
    facts: list[str] = []
    names = list(ds._label_names())
    for name in names:
        if name not in ds.columns:
            raise UnsupportedError(
                f"{ds.path}: the label {name!r} has several numbers per record, which no target "
                "holds; open the dataset with labels=False"
            )
    for name in ds.columns:
        if name in names and name in classes:
            known = tuple(classes[name])
            labels.append(Label(name, _numbered(ds, name, known), None, known))
        elif name in names and _whole_numbers(ds.columns[name].values):
            labels.append(Label(name, _whole(ds, name)))
        else:
            facts.append(name)
    return labels, facts


def _file_names(ds: Any) -> list[str] | None:
    """Return the file names of the records, where each has one of its own."""
    column = ds.columns.get("file_name")
    if column is None or not np.all(column.present):
        return None
    names = column.values.tolist()
    return names if all(map(writable, names)) and len(set(names)) == len(names) else None


def _whole_numbers(values: NDArray[Any]) -> bool:
    if values.dtype.kind not in "iub" or values.ndim != 1:
        return False
    return values.dtype != np.uint64 or int(values.max(initial=0)) < 1 << 63


def _whole(ds: Any, name: str) -> Values:
    def values() -> tuple[NDArray[Any], NDArray[np.bool_]]:
        column = ds.columns[name]
        found = column.values
        return found.astype(np.uint8) if found.dtype.kind == "b" else found, column.present

    return values


def _numbered(ds: Any, name: str, classes: Sequence[str]) -> Values:
    """Text by the numbers of its classes."""
    number = {text: k for k, text in enumerate(classes)}

    def values() -> tuple[NDArray[Any], NDArray[np.bool_]]:
        column = ds.columns[name]
        found = [number.get(v, 0) for v in column.values.tolist()]
        return np.array(found, np.int64), column.present

    return values


def _classes(splits: Any) -> dict[str, list[str]]:
    """Return the names of classes, in order, of each label column that is text in all splits."""
    texts: dict[str, set[str]] = {}
    others: set[str] = set()
    for ds in splits:
        for name in set(ds._label_names()) & set(ds.columns):
            column = ds.columns[name]
            values = column.values[np.asarray(column.present)].tolist()
            if column.values.dtype.kind in "OU" and all(map(writable, values)):
                texts.setdefault(name, set()).update(values)
            else:
                others.add(name)
    return {name: sorted(found) for name, found in texts.items() if name not in others}
