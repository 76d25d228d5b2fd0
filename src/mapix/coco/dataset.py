"""A COCO file as a dataset of its images, or of its annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.annotations import Annotations
from mapix.coco.file import NO_FOLDER
from mapix.coco.record import CocoAnnotation, CocoImage
from mapix.columns import Column, column_of
from mapix.dataset import FileDataset, Progress
from mapix.errors import UnsupportedError
from mapix.pictures.batching import PictureBatch
from mapix.pictures.dataset import PictureDataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.augmentation import Draws
    from mapix.batch import Batch
    from mapix.byte_ranges import ByteRange
    from mapix.coco.file import CocoFile
    from mapix.coco.layout import Table
    from mapix.options import BatchOptions
    from mapix.pictures.decoding import EncodedPicture
    from mapix.plans import Map
    from mapix.report import Report
    from mapix.source import Fingerprint

__all__ = ["CocoAnnotations", "CocoBatch", "CocoImages"]

COLUMNS = {
    "id": ("", "number of the image"),
    "file_name": ("", "name of the picture's file"),
    "height": ("pixels", "height of the image"),
    "width": ("pixels", "width of the image"),
    "annotations": ("", "number of annotations of the image"),
    "categories": ("", "names of the categories of the annotations, each once, sorted"),
}
ANNOTATION_COLUMNS = {
    "id": ("", "number of the annotation"),
    "image_id": ("", "number of its image"),
    "category_id": ("", "number of its category"),
    "category": ("", "name of its category"),
    "area": ("pixels", "area, as the file states it"),
    "iscrowd": ("", "1 for a region of many objects"),
    "x": ("pixels", "left side of the box"),
    "y": ("pixels", "top of the box"),
    "width": ("pixels", "width of the box"),
    "height": ("pixels", "height of the box"),
}
BOX = ("x", "y", "width", "height")
PLAIN = (int, float, str, bool)  # types of further values that become columns


@dataclass(slots=True, eq=False)
class CocoBatch(PictureBatch):
    """A batch of the images of a COCO file."""

    @property
    def boxes(self) -> list[NDArray[np.float64]]:
        """Boxes of each picture in pixels of the batch: float64 (n, 4), x, y, width, height.

        They are moved and scaled as the pictures were, and not cut off at the border.
        """
        return self.moved([record.boxes for record in self.records])


class _OfFile(FileDataset[Any]):
    """Share what both kinds of records have."""

    FAMILY = "coco"
    file: CocoFile
    _fixed: dict[str, tuple[str, str]]

    def __init__(self, file: CocoFile, table: Table) -> None:
        super().__init__(file.source, len(table))
        self.file, self._table = file, table
        self._more: tuple[str, ...] | None = None

    @property
    def categories(self) -> list[dict[str, Any]]:
        """The categories, as the file has them."""
        return self.file.categories

    @property
    def info(self) -> Any:
        """``info`` of the file; None without it."""
        return self.file.layout.other("info")

    @property
    def licenses(self) -> Any:
        """``licenses`` of the file; None without them."""
        return self.file.layout.other("licenses")

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        options = {**self.file.options(), "records": self._table.name}
        return self.source.full_path, options, self.source.identity

    def _count(self) -> int:
        _ = self.source.mapping  # ClosedError
        return self._nrecords

    def _facts(self) -> dict[str, Any]:
        return {
            "nbytes": self.source.nbytes,
            "images": len(self.file.images),
            "annotations": len(self.file.annotations),
            "categories": list(self.file.names.values()),
            "folder": self.file.folder,
        }

    def _column_names(self) -> Sequence[str]:
        if self._more is None:
            first = self._table.parsed(0) if self._nrecords else {}
            self._more = tuple(
                name
                for name, value in first.items()
                if isinstance(value, PLAIN) and name not in self._fixed and name not in ("bbox",)
            )
        return (*self._fixed, *self._more)

    def _column(self, name: str) -> Column:
        unit, description = self._fixed.get(name, ("", ""))
        return self._made(name, unit=unit, description=description).of(self._rows)

    def _made(self, name: str, **about: Any) -> Column:
        """Return a column of all records of the file; by default of the values of a key."""
        return column_of(name, [found.get(name) for found in self._table.all_parsed()], **about)

    def _ids(self, name: str, **about: Any) -> Column:
        values, present = self._table.ids(name)
        return Column(name, values, None if present.all() else present, **about)

    def _record_sizes(self) -> NDArray[np.int64]:
        return self._table.sizes(self.rows)

    def _explained(self, row: int) -> dict[str, Any]:
        begin, end = self._table.place(row)
        how = f"nothing is read until a value is used; then {end - begin} bytes are parsed"
        return {"reads_nbytes": end - begin, "copies_nbytes": end - begin, "how": how}

    def verify(self, progress: Progress | None = None, *, map: Map | None = None) -> Report:
        """Parse everything; check ids, boxes, masks, and the files of the pictures.

        Parameters
        ----------
        progress : callable, optional
            ``progress(objects_done, objects_total)``.
        map : callable or int, optional
            What runs the check in parts: see ``statistics``.  The report is the same.
        """
        from mapix.coco.checking import check

        tables = CocoImages(self.file), CocoAnnotations(self.file)
        return check(self.file, len(self), tables, progress, map)


class CocoImages(PictureDataset[CocoImage], _OfFile):
    """Images of a COCO file, in the order of the file.  Made by ``mapix.open``.

    A record has ``image``, ``target``, ``boxes``, ``categories`` and ``masks()``.  ``annotations``
    is the dataset of all annotations.

    Attributes
    ----------
    file : CocoFile
        The open file.
    """

    RECORDS = "images"
    NAMES = ("file_name",)
    BATCH = CocoBatch
    _fixed = COLUMNS

    def __init__(self, file: CocoFile) -> None:
        super().__init__(file, file.images)

    def _record_sizes(self) -> NDArray[np.int64]:
        sizes = [self.file.picture_nbytes(row) for row in self.rows.tolist()]
        return self._table.sizes(self.rows) + np.array(sizes, np.int64)

    @property
    def annotations(self) -> CocoAnnotations:
        """The annotations of these images as a dataset, in the order of the file."""
        found = CocoAnnotations(self.file)
        if self._rows is None:
            return found
        return found[np.flatnonzero(np.isin(self.file.rows_of_images, self.rows))]

    def _record(self, row: int) -> CocoImage:
        return CocoImage(self.file, row)

    def _snapshot(self) -> Any:
        made = super()._snapshot()
        if made.file.folder is not None:
            made._hold_pictures()
        return made

    def _made(self, name: str, **about: Any) -> Column:
        if name == "id":
            return self._ids(name, **about)
        if name in ("height", "width"):
            values, present = self._table.numbers(name)
            if bool((values[present] == np.floor(values[present])).all()):
                values = np.where(np.abs(values) < 2**53, values, 0).astype(np.int64)
            return Column(name, values, None if present.all() else present, **about)
        if name == "annotations":
            return Column(name, self.file.counts, **about)
        if name != "categories":
            return super()._made(name, **about)
        numbers, known = self.file.annotations.ids("category_id")
        rows, names = self.file.rows_of_images, self.file.names
        found: list[set[str]] = [set() for _ in range(self._nrecords)]
        there = known & (rows >= 0)
        for row, number in zip(rows[there].tolist(), numbers[there].tolist(), strict=True):
            found[row].add(names.get(number, str(number)))
        for k in np.flatnonzero(~known & (rows >= 0)).tolist():  # of panoptic files all
            found[rows[k]] |= CocoAnnotation(self.file, k).all_categories
        values = np.empty(len(found), object)
        values[:] = [tuple(sorted(one)) for one in found]
        return Column(name, values, **about)

    def _label_names(self) -> Sequence[str]:
        return ("categories",)

    # --- pictures ---------------------------------------------------------------------------------

    def _encoded(self, record: CocoImage) -> EncodedPicture:
        found: EncodedPicture = record.encoded()
        return found

    def _without_pixels(self) -> str:
        return NO_FOLDER if self.file.folder is None else ""

    def _has_pictures(self, rows: NDArray[np.int64]) -> bool:
        del rows
        return self.file.folder is not None

    def _image(self, row: int) -> NDArray[Any] | None:
        return None if self.file.folder is None else self._record(row).image

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        """Return the object of the image, and those of its annotations."""
        rows = self.file.annotations_of(row).tolist()
        found = [self._table.byte_range(row), *map(self.file.annotations.byte_range, rows)]
        return sorted(found, key=lambda one: one.at)

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        return None if self.file.folder is None else super()._drawing(row, size)

    def _annotations(self, row: int) -> Annotations:
        boxes, names, captions = [], [], []
        for one in self._record(row).annotations:
            if one.bbox is not None:
                x, y, w, h = map(float, one.bbox)
                boxes.append((x, y, w, h))
                names.append(one.category or "")
            if isinstance(text := one.metadata.get("caption"), str):
                captions.append(text)
        return Annotations(boxes, names, "\n".join(captions))

    def _explained(self, row: int) -> dict[str, Any]:
        if self.file.folder is not None:
            return super()._explained(row)
        found = _OfFile._explained(self, row)
        return found | {"how": f"{NO_FOLDER}; {found['how']}"}

    def _gather_arrays(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        out: NDArray[Any] | Batch | None,
        draws: Draws | None = None,
    ) -> Batch:
        del rows, options, out, draws
        raise UnsupportedError(f"{self.path}: {NO_FOLDER}")

    def _labels_of(
        self, names: tuple[str, ...], rows: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        del names
        values = np.empty((len(rows), 1), object)
        for k, row in enumerate(rows.tolist()):
            listed = (one.all_categories for one in self._record(row).annotations)
            values[k, 0] = tuple(sorted(set().union(*listed)))
        return values, np.ones(values.shape, np.bool_)


class CocoAnnotations(_OfFile):
    """Annotations of a COCO file, in the order of the file.  Made by ``mapix.open``.

    A record has ``mask()``, ``bbox``, ``category`` and ``parent``, its image.

    Attributes
    ----------
    file : CocoFile
        The open file.
    """

    RECORDS = "annotations"
    BATCH_OPTIONS = frozenset()
    NO_BATCH = "use mask() of each, or the images: mapix.open(path)"
    _fixed = ANNOTATION_COLUMNS

    def __init__(self, file: CocoFile) -> None:
        super().__init__(file, file.annotations)

    @property
    def images(self) -> CocoImages:
        """The images of the file as a dataset."""
        return CocoImages(self.file)

    def _record(self, row: int) -> CocoAnnotation:
        return CocoAnnotation(self.file, row)

    def _image(self, row: int) -> None:
        """Return None: an annotation has a mask, and no pixels."""
        del row

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        return self._record(row)._drawing(size)

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        """Return the object of the annotation."""
        return [self._table.byte_range(row)]

    def _made(self, name: str, **about: Any) -> Column:
        if name in BOX:
            values, present = self._table.numbers("bbox", len(BOX))
            side = np.ascontiguousarray(values[:, BOX.index(name)])
            return Column(name, side, None if present.all() else present, **about)
        if name == "area":
            values, present = self._table.numbers(name)
            return Column(name, values, None if present.all() else present, **about)
        if name == "category":
            numbers, present = self._table.ids("category_id")
            names = self.file.names
            known = [names.get(number) for number in numbers.tolist()]
            return column_of(
                name,
                [text if ok else None for text, ok in zip(known, present.tolist(), strict=True)],
                **about,
            )
        if name in ("id", "image_id", "category_id", "iscrowd"):
            return self._ids(name, **about)
        return super()._made(name, **about)

    def _label_names(self) -> Sequence[str]:
        return ("category",)
