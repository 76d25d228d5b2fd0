"""Columns of an image folder: the fields of its lines, and the sizes of its pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from mapix.columns import Column, column_of
from mapix.errors import MapixError
from mapix.folder.layout import FILE_NAME, FILEPATH
from mapix.folder.record import Record

if TYPE_CHECKING:
    from mapix.folder.metadata_file import MetadataFile

__all__ = ["LABEL", "field_column", "fields_of", "is_number", "labels_are_numbers"]

LABEL = "label"
FIRST_RECORDS = 256  # whose keys are the names of columns
OBJECTS, CATEGORIES = "objects", "categories"
SIDES = ("width", "height")

Value = Callable[[Record], Any]


def fields_of(file: MetadataFile) -> dict[str, Value]:
    """Return the name of each column -> a function that finds its value in a record.

    The names are ``file_name``, the keys of the first 256 lines, and those that derive from
    ``objects`` and from the pictures.  Lines that cannot be parsed are left out: reading a column
    reports them.  Cost: the first call reads these lines.
    """
    if file.fields is None:
        keys: dict[str, None] = {}
        numbers = True
        for line in _first_lines(file):
            keys |= {k: None for k, v in line.items() if k == OBJECTS or not isinstance(v, dict)}
            numbers = numbers and is_number(line.get(LABEL))
        file.fields, file.labels_are_numbers = _fields(keys), numbers
    return file.fields


def labels_are_numbers(file: MetadataFile) -> bool:
    """Whether the labels of the first 256 lines are whole numbers, or missing."""
    fields_of(file)
    return file.labels_are_numbers


def is_number(label: Any) -> bool:
    """Whether a label is missing or an integer of 64 bits."""
    return label is None or (type(label) is int and -(1 << 63) <= label < 1 << 63)


def _first_lines(file: MetadataFile) -> Iterator[dict[str, Any]]:
    for row in range(FIRST_RECORDS):
        if not file.lines.has(row):
            return
        with contextlib.suppress(MapixError):
            yield file.metadata(row)


def _fields(keys: dict[str, None]) -> dict[str, Value]:
    found: dict[str, Value] = {FILE_NAME: lambda record: record.file_name}
    for key in keys:
        if key not in (FILE_NAME, FILEPATH, OBJECTS, CATEGORIES):
            found[key] = partial(_of_line, key)
    if CATEGORIES in keys or OBJECTS in keys:
        found[CATEGORIES] = _categories
    derived: dict[str, Value] = {"width": lambda r: r.shape[1], "height": lambda r: r.shape[0]}
    if OBJECTS in keys:
        derived |= {"object_categories": _object_categories, "object_count": _object_count}
    return found | {name: value for name, value in derived.items() if name not in found}


def _of_line(key: str, record: Record) -> Any:
    return record.metadata.get(key)


def _of_objects(key: str, record: Record) -> Any:
    objects = record.metadata.get(OBJECTS)
    return objects.get(key) if isinstance(objects, dict) else None


_object_categories = partial(_of_objects, CATEGORIES)


def _object_count(record: Record) -> int | None:
    boxes = _of_objects("bbox", record)
    return len(boxes) if isinstance(boxes, list) else None


def _categories(record: Record) -> Any:
    """Return the categories of the picture; where the line has none, those of its objects."""
    found = record.metadata.get(CATEGORIES)
    return _object_categories(record) if found is None else found


def field_column(file: MetadataFile, name: str, rows: Iterable[int] | None) -> Column:
    """Return a column of these records, or of all.

    Raises
    ------
    FormatError
        A line is not a JSON object, or does not name a picture as it has to.
    OSError
        A picture whose size has to be read from its file is not there.
    """
    value = fields_of(file)[name]
    if rows is None:
        records = (Record(file, row, line) for row, line in enumerate(file.quick_metadata()))
    else:
        records = (Record(file, row) for row in rows)
    unit = "pixels" if name in SIDES else ""
    return column_of(name, [value(record) for record in records], unit=unit)
