"""Records of pictures, their metadata file, and a directory of both: see ``mapix.compat.opsml``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import mapix
from mapix.compat._model import Model, ValidationError, bad
from mapix.folder import Lines
from mapix.rooted import Root
from mapix.source import Source
from mapix.store import NewWhole

__all__ = ["BBox", "ImageDataset", "ImageMetadata", "ImageRecord"]


METADATA = "metadata.jsonl"


def _text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError as e:
            raise ValidationError(f"{where}: the bytes are not UTF-8") from e
    raise bad(where, "text", value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, str | bytes | bytearray) or hasattr(value, "__float__"):
        try:
            if isinstance(value, str):
                value.encode("ascii")  # pydantic refuses digits of other scripts, Python does not
            return float(value)
        except (TypeError, ValueError, OverflowError) as e:
            raise ValidationError(f"{where}: a number expected, got {value!r:.80}") from e
    raise bad(where, "a number", value)


def _category(value: Any, where: str) -> str | int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str | int):
        return value
    if isinstance(value, bytes | bytearray):
        return _text(value, where)
    if hasattr(value, "__float__"):
        return _number(value, where)
    raise bad(where, "text or a number", value)


def _list(value: Any, where: str) -> list[Any]:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping):
        return list(value)
    raise bad(where, "a list", value)


def _categories(value: Any, where: str) -> list[str | int | float]:
    return [_category(v, f"{where}[{k}]") for k, v in enumerate(_list(value, where))]


@dataclass(init=False, eq=False, repr=False)
class BBox(Model):
    """Bounding boxes and their categories.

    Attributes
    ----------
    bbox : list of list of float
        Numbers and texts of numbers are converted to floats.  A box may have any length.
    categories : list of str, int or float
        Its length is not compared with that of ``bbox``.
    """

    bbox: list[list[float]]
    categories: list[str | int | float]

    def _check(self) -> None:
        rows = enumerate(_list(self.bbox, "bbox"))
        bbox = [[_number(x, f"bbox[{k}]") for x in _list(row, f"bbox[{k}]")] for k, row in rows]
        self.bbox = bbox
        self.categories = _categories(self.categories, "categories")


@dataclass(init=False, eq=False, repr=False)
class ImageRecord(Model):
    """The record of one picture.

    Attributes
    ----------
    file_name : str
        Name of the picture's file, which need not exist.
    caption : str or None
    categories : list of str, int or float, or None
    objects : BBox or None
        A dict is converted to a BBox.
    """

    file_name: str
    caption: str | None = None
    categories: list[str | int | float] | None = None
    objects: BBox | None = None

    def _check(self) -> None:
        self.file_name = _text(self.file_name, "file_name")
        if self.caption is not None:
            self.caption = _text(self.caption, "caption")
        if self.categories is not None:
            self.categories = _categories(self.categories, "categories")
        if self.objects is not None:
            self.objects = BBox.model_validate(self.objects)


@dataclass(init=False, eq=False, repr=False)
class ImageMetadata(Model):
    """The records of a folder, in order.

    Attributes
    ----------
    records : list of ImageRecord
        Dicts are converted to records.
    """

    records: list[ImageRecord]

    def _check(self) -> None:
        records = [ImageRecord.model_validate(r) for r in _list(self.records, "records")]
        self.records = records

    def write_to_file(self, file_name: str | os.PathLike[str]) -> None:
        """Write one line per record; an existing file is replaced in one step."""
        with NewWhole(file_name, replace=True) as out:
            for record in self.records:
                out.write(json.dumps(record.model_dump()).encode("ascii") + b"\n")


@dataclass(init=False, eq=False, repr=False)
class ImageDataset(Model):
    """A directory of pictures and its metadata.

    Attributes
    ----------
    image_dir : str
        An existing directory.
    metadata : str or ImageMetadata
        The records, or the name of a ``.jsonl`` file in the directory; each line is checked.
    """

    image_dir: str
    metadata: str | ImageMetadata

    def _check(self) -> None:
        folder = self.image_dir
        if not isinstance(folder, str | os.PathLike) or not os.path.isdir(folder):
            raise ValidationError(f"image_dir: a directory expected, got {folder!r}")
        self.image_dir = os.fspath(folder)
        if isinstance(self.metadata, str):
            self._check_file(self.metadata)
        else:
            self.metadata = ImageMetadata.model_validate(self.metadata)

    def _check_file(self, name: str) -> None:
        path = os.path.join(self.image_dir, name)
        if not name.endswith(".jsonl") or os.path.basename(name) != name:
            raise ValidationError(f"metadata: the name of a .jsonl file expected, got {name!r}")
        if not os.path.isfile(path):
            raise ValidationError(f"metadata: {name} is not in {self.image_dir}")
        lines = Lines(Source(name, root=Root(self.image_dir)))
        numbers = lines.numbers().tolist()
        if lines.nlines != len(numbers):
            blank = next(k for k in range(1, lines.nlines + 1) if numbers[k - 1 : k] != [k])
            raise ValidationError(f"{path}: line {blank} is blank")
        for row, number in enumerate(numbers):
            try:
                ImageRecord.model_validate(lines.value(row))
            except ValidationError as e:
                raise ValidationError(f"{path}: line {number}: {e}") from e

    def convert_metadata(self) -> None:
        """Write records that are objects to ``metadata.jsonl`` in the directory."""
        if isinstance(self.metadata, ImageMetadata):
            self.metadata.write_to_file(os.path.join(self.image_dir, METADATA))

    def open(self, **options: Any) -> Any:
        """Open the folder with ``mapix.open``; its metadata file must exist."""
        name = self.metadata if isinstance(self.metadata, str) else METADATA
        return mapix.open(os.path.join(self.image_dir, name), format="folder", **options)
