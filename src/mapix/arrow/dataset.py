"""An Arrow or Parquet file as a sequence of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mapix.annotations import Annotations
from mapix.arrow.file import IMAGE, SHAPE, TableFile
from mapix.columns import Column, column_of
from mapix.dataset import FileDataset, Progress
from mapix.errors import FileChangedError, FormatError, MapixError
from mapix.pictures.dataset import PictureDataset
from mapix.pictures.decoding import MAX_PIXELS, EncodedPicture, image_of
from mapix.plans import Map, over
from mapix.report import Report, report_progress
from mapix.text import title_of
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArrowTable", "ParquetTable", "TableRecord"]

MOST_DIMS = 8
CLASS_LABEL = "ClassLabel"
EMBED = "`datasets` stores pictures by push_to_hub, mapix.convert those of their folder"


class TableRecord(Mapping[str, Any]):
    """One row: name -> value, read when a value is used.  Made by ``ArrowTable.__getitem__``.

    Attributes
    ----------
    index : int
        Its number in the file.
    """

    __slots__ = ("_ds", "_values", "index")

    def __init__(self, ds: ArrowTable, index: int) -> None:
        self._ds, self.index = ds, index
        self._values: dict[str, Any] | None = None

    def _row(self) -> dict[str, Any]:
        if self._values is None:
            _ = self._ds.source.mapping  # ClosedError
            self._values = self._ds.file.row(self.index)
        return self._values

    def __getitem__(self, name: str) -> Any:
        return self._row()[name]

    def __iter__(self) -> Any:
        return iter(self._ds.file.names)

    def __len__(self) -> int:
        return len(self._ds.file.names)

    @property
    def image(self) -> NDArray[Any] | None:
        """The image: a decoded picture (h, w, c), or the numbers of ``mapix.convert``; or None."""
        return self._ds._image_of(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the image, for ``np.asarray(record)``."""
        return exported(self.image, dtype, copy)

    def encoded(self) -> EncodedPicture:
        """Return the bytes of its picture.

        Raises
        ------
        FormatError
            It has none.
        """
        found = self[self._ds.image_column] if self._ds.image_column else None
        data = found.get("bytes") if isinstance(found, dict) else None
        name = found.get("path") if isinstance(found, dict) else None
        if not isinstance(data, bytes):
            reason = "bytes of a picture expected, there are none"
            if name:
                reason = f"the picture is not in the file, only its path is: {name}; {EMBED}"
            raise self._ds.error(self.index, reason)
        return EncodedPicture(
            *(data, str(name or f"row {self.index}"), self._ds.path),
            error=lambda reason: self._ds.error(self.index, reason),
            max_pixels=self._ds.max_pixels,
        )

    def __repr__(self) -> str:
        return f"<TableRecord {self.index}: {', '.join(self._ds.file.names)}>"


class ArrowTable(PictureDataset[TableRecord], FileDataset[TableRecord]):
    """Rows of an Arrow or Parquet file.  Made by ``mapix.open``.

    Numbers, texts, and lists of them are columns.  Images are those that ``mapix.convert`` wrote,
    or pictures as Hugging Face's ``datasets`` store them: a struct of ``bytes`` and ``path``.

    Attributes
    ----------
    file : TableFile
        The open file.
    image_column : str or None
        The column with the images.
    classes : dict
        Label -> names of its classes, where the file has them.
    """

    FAMILY = "arrow"
    GROUPS: ClassVar[str] = "record_batches"

    def __init__(self, file: TableFile, max_pixels: int = MAX_PIXELS) -> None:
        options = {"max_group_nbytes": file.limit, "max_pixels": max_pixels}
        super().__init__(file.source, len(file), options)
        self.file, self.max_pixels = file, max_pixels
        pa = file.pa
        self._encoded_names = [
            name
            for name, kind in file.types
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        ]
        self._raw = False
        self.image_column: str | None = next(iter(self._encoded_names), None)
        if self.image_column is None and file.about.get("dtype") and SHAPE in file.names:
            self.image_column = IMAGE if IMAGE in file.names else None
            self._raw = self.image_column is not None
        self.classes = self._classes()

    def _classes(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        labels = self.file.about.get("labels")
        for name, meaning in labels.items() if isinstance(labels, dict) else ():
            listed = meaning.get("classes") if isinstance(meaning, dict) else None
            found[name] = [str(c) for c in listed] if isinstance(listed, list) else []
        for name, feature in self.file.features.items():
            if isinstance(feature, dict) and feature.get("_type") == CLASS_LABEL:
                listed = feature.get("names")
                found[name] = [str(c) for c in listed] if isinstance(listed, list) else []
        return {name: names for name, names in found.items() if name in self.file.names}

    def error(self, row: int, reason: str) -> FormatError:
        """Return the error about a row."""
        return FormatError(self.path, self.FAMILY, reason, record=row)

    def _count(self) -> int:
        _ = self.source.mapping  # ClosedError
        return self._nrecords

    def _record(self, row: int) -> TableRecord:
        return TableRecord(self, row)

    def _facts(self) -> dict[str, Any]:
        return {
            **super()._facts(),
            "image_column": self.image_column,
            self.GROUPS: len(self.file.ends),
            "types": {name: str(kind) for name, kind in self.file.types},
            "classes": self.classes,
        }

    # --- images -----------------------------------------------------------------------------------

    def _encoded(self, record: TableRecord) -> EncodedPicture:
        return record.encoded()

    def _has_pictures(self, rows: NDArray[np.int64]) -> bool:
        del rows
        return self.image_column is not None and not self._raw

    def _image(self, row: int) -> NDArray[Any] | None:
        return self._image_of(self._record(row))

    def _image_of(self, record: TableRecord) -> NDArray[Any] | None:
        if self.image_column is None:
            return None
        if not self._raw:
            return image_of(record.encoded())
        data, sides = record[self.image_column], record[SHAPE]
        try:
            dtype = np.dtype(str(self.file.about["dtype"]))
            shape = tuple(int(side) for side in sides)
            if dtype.kind not in "biuf" or min(shape, default=0) < 0 or len(shape) > MOST_DIMS:
                raise ValueError(f"{shape} of {dtype}")
            found = np.frombuffer(data, dtype).reshape(shape)
        except (TypeError, ValueError) as e:
            raise self.error(record.index, f"the image is not what its shape states: {e}") from e
        planar = self.file.about.get("axes") == "CHW" and found.ndim == 3
        return np.moveaxis(found, 0, 2) if planar else found

    def _explained(self, row: int) -> dict[str, Any]:
        if self._has_pictures(np.array([row])):
            return super()._explained(row)
        return {"how": "the group of rows that has it is read, and cached until another one is"}

    def _annotations(self, row: int) -> Annotations:
        record = self._record(row)
        caption, objects = record.get("caption"), record.get("objects")
        text = caption if isinstance(caption, str) else ""
        if not isinstance(objects, dict) or not isinstance(objects.get("bbox"), list):
            return Annotations(caption=text)
        boxes = [
            (float(b[0]), float(b[1]), float(b[2]), float(b[3]))
            for b in objects["bbox"]
            if isinstance(b, list) and len(b) == 4 and all(isinstance(v, int | float) for v in b)
        ]
        names = objects.get("categories") or objects.get("category") or []
        return Annotations(boxes, [str(n) for n in names], text)

    # --- columns ----------------------------------------------------------------------------------

    def _column_names(self) -> Sequence[str]:
        t = self.file.pa.types

        def plain(kind: Any) -> bool:
            return bool(
                t.is_integer(kind)
                or t.is_floating(kind)
                or t.is_boolean(kind)
                or t.is_string(kind)
                or t.is_large_string(kind)
            )

        def shown(kind: Any) -> bool:
            if t.is_dictionary(kind) or t.is_list(kind) or t.is_large_list(kind):
                return plain(kind.value_type)
            return plain(kind)

        names = self.file.names
        return tuple(
            name
            for name, kind in self.file.types
            if shown(kind) and names.count(name) == 1 and not (self._raw and name == SHAPE)
        )

    def _column(self, name: str) -> Column:
        return column_of(name, self.file.column(name)).of(self._rows)

    def _label_names(self) -> Sequence[str]:
        return tuple(name for name in self.classes if name in self._column_names())

    def _class_names(self) -> Mapping[str, Sequence[str]]:
        return self.classes

    # --- health -----------------------------------------------------------------------------------

    def _record_sizes(self) -> int:
        return max(1, self.source.nbytes // max(1, self._nrecords))

    def verify(self, progress: Progress | None = None, *, map: Map | None = None) -> Report:
        """Read all groups, check their values, and decode all images.

        Parameters
        ----------
        progress : callable, optional
            ``progress(rows_done, rows_total)``.
        map : callable or int, optional
            What runs the check in parts: see ``statistics``.  The report is the same.
        """
        report = Report(
            self.path, len(self), self.source.nbytes, checked=[title_of(self.GROUPS), "images"]
        )
        for found in over(self._part(None), _check, map=map, progress=progress):
            for row, problem in found:
                report.problems.append(problem)
                report.damaged.append(row)
        return report


def _check(table: ArrowTable, progress: Progress | None) -> list[tuple[int, str]]:
    """Return the rows that cannot be read, and why."""
    found = []
    for i, row in enumerate(table.rows.tolist()):
        try:
            record = table._record(row)
            record._row()
            table._image_of(record)
        except FileChangedError:
            raise
        except MapixError as e:
            found.append((row, str(e)))
        report_progress(progress, i + 1, len(table))
    return found


class ParquetTable(ArrowTable):
    """Rows of a Parquet file: see ``ArrowTable``."""

    FAMILY = "parquet"
    GROUPS = "row_groups"
