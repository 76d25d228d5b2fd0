"""One image, and one annotation, of a COCO file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.drawing.scaling import drawn, outlined
from mapix.errors import LimitError, MapixError
from mapix.masks import MOST_PIXELS, Box, Mask, segment
from mapix.pictures.decoding import header_of, image_of, small_picture
from mapix.text import never_failing
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.coco.file import CocoFile

__all__ = ["CocoAnnotation", "CocoImage"]


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that float64 holds, NaN and infinity included."""
    return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)


class _Object:
    """An object of the file, parsed when a value is used.

    Attributes
    ----------
    index : int
        Its number in the file.
    """

    __slots__ = ("_file", "_metadata", "index")
    TABLE: str

    def __init__(self, file: CocoFile, index: int) -> None:
        self._file, self.index = file, index
        self._metadata: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """The object as the file has it."""
        if self._metadata is None:
            self._metadata = getattr(self._file, self.TABLE).parsed(self.index)
        return self._metadata

    @property
    def id(self) -> int | str | None:
        """Its ``id``; None without one."""
        return self.metadata.get("id")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._file, self.index)

    def _error(self, reason: str) -> MapixError:
        found: MapixError = getattr(self._file, self.TABLE).error(self.index, reason)
        return found


class CocoImage(_Object):
    """One image, and its annotations.  Made by ``CocoImages.__getitem__``."""

    __slots__ = ()
    TABLE = "images"

    @property
    def file_name(self) -> str:
        """Name of the picture's file."""
        name = self.metadata.get("file_name")
        if not isinstance(name, str):
            raise self._error(f"file_name: text expected, got {type(name).__name__}")
        return name

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) as the file states it; of the picture, if the file does not state it."""
        h, w = self.metadata.get("height"), self.metadata.get("width")
        if h is None and w is None and self._file.folder is not None:
            h, w = header_of(self.encoded()).shape[:2]
        if type(h) is not int or type(w) is not int or h < 0 or w < 0:
            raise self._error(f"height and width: whole numbers expected, got {h!r} and {w!r}")
        return h, w

    @property
    def annotations(self) -> list[CocoAnnotation]:
        """Its annotations, in the order of the file."""
        rows = self._file.annotations_of(self.index).tolist()
        return [CocoAnnotation(self._file, row) for row in rows]

    @property
    def target(self) -> list[dict[str, Any]]:
        """Its annotations as the file has them: the target of torchvision's ``CocoDetection``."""
        return [annotation.metadata for annotation in self.annotations]

    @property
    def boxes(self) -> NDArray[np.float64]:
        """Boxes of its annotations in pixels, float64 (n, 4): x, y, width, height.

        NaN for an annotation without a box.
        """
        found = np.full((len(annotations := self.annotations), 4), np.nan)
        for k, annotation in enumerate(annotations):
            box = annotation.bbox
            if box is not None:
                found[k] = box
        return found

    @property
    def categories(self) -> list[str | None]:
        """Names of the categories of its annotations; None for those without one."""
        return [annotation.category for annotation in self.annotations]

    def masks(self, *, most_pixels: int = MOST_PIXELS) -> NDArray[np.bool_]:
        """Return the masks of its annotations, bool (n, h, w).

        Raises
        ------
        FormatError
            A segmentation is not one, or not of this image's size.
        LimitError
            All masks together have more pixels than ``most_pixels``.
        """
        (h, w), annotations = self.size, self.annotations
        if len(annotations) * h * w > most_pixels:
            what = f"{len(annotations)} masks of {h} x {w} pixels, more than {most_pixels}"
            raise LimitError(f"{self._file.source.path}: {what}; most_pixels= makes them")
        found = np.zeros((len(annotations), h, w), np.bool_)
        for out, annotation in zip(found, annotations, strict=True):
            mask, (minr, minc, maxr, maxc) = annotation.segment(size=(h, w))
            out[minr:maxr, minc:maxc] = mask
        return found

    def encoded(self) -> Any:
        """Return the bytes of the picture's file, with its name and limits."""
        return self._file.encoded(self.file_name, self.index)

    @property
    def image(self) -> NDArray[Any]:
        """The decoded picture, (h, w, c).  Copies: yes; it is decoded at each access.

        Raises
        ------
        UnsupportedError
            The folder of the pictures was not found.
        """
        return image_of(self.encoded())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the decoded picture, for ``np.asarray(record)``."""
        return exported(self.image, dtype, copy)

    def _drawing(self, size: int) -> NDArray[np.uint8] | None:
        """Return the picture with its boxes, uint8 (h, w, 3); None without its folder."""
        if self._file.folder is None:
            return None
        found, boxes = small_picture(self.encoded(), size), self.boxes
        boxes[:, 2:] += boxes[:, :2]
        return outlined(found, boxes, self.size)

    def _repr_html_(self) -> str:
        from mapix.notebook import record_html

        def facts() -> dict[str, Any]:
            return {**self.metadata, "annotations": len(self.annotations)}

        return record_html(self, self._drawing, facts)

    @never_failing
    def __repr__(self) -> str:
        m = self.metadata
        n = len(self._file.annotations_of(self.index))
        what = f"{m.get('file_name')!r}, {m.get('height')} x {m.get('width')}, {n} annotations"
        return f"<CocoImage {self.index}: id {self.id}, {what}>"


class CocoAnnotation(_Object):
    """One annotation.  Made by ``CocoAnnotations.__getitem__`` and ``CocoImage.annotations``."""

    __slots__ = ()
    TABLE = "annotations"

    @property
    def image_id(self) -> int | str | None:
        """``id`` of its image."""
        return self.metadata.get("image_id")

    @property
    def parent(self) -> CocoImage:
        """Its image.

        Raises
        ------
        FormatError
            The file has no such image.
        """
        row = int(self._file.rows_of_images[self.index])
        if row < 0:
            raise self._error(f"there is no image with id {self.image_id!r}")
        return CocoImage(self._file, row)

    @property
    def category_id(self) -> int | str | None:
        """``id`` of its category; None without one."""
        return self.metadata.get("category_id")

    @property
    def category(self) -> str | None:
        """Name of its category; None without one, or if the file does not list it."""
        number = self.category_id
        return self._file.names.get(number) if isinstance(number, int | str) else None

    @property
    def segments(self) -> list[dict[str, Any]]:
        """``segments_info`` of a panoptic annotation, as the file has it; empty of all others."""
        found = self.metadata.get("segments_info")
        if found is None:
            return []
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self._error("segments_info: a list of objects expected")
        return found

    @property
    def all_categories(self) -> set[str]:
        """Names of its category, or of its segments' categories; numbers where there is no name."""
        numbers = (one.get("category_id") for one in (self.metadata, *self.segments))
        names = self._file.names
        return {names.get(n, str(n)) for n in numbers if isinstance(n, int | str)}

    @property
    def area(self) -> float | None:
        """``area``, as the file states it; None without it."""
        return self._number("area")

    @property
    def iscrowd(self) -> bool:
        """Whether it is a crowd: a region of many objects."""
        return bool(self.metadata.get("iscrowd", 0))

    def _number(self, key: str) -> float | None:
        found: float | None = self.metadata.get(key)
        if found is not None and not _is_number(found):
            raise self._error(f"{key}: a number expected, got {str(found)[:60]}")
        return found

    @property
    def bbox(self) -> list[float] | None:
        """x, y, width, height in pixels, as the file has them; None without a box."""
        found = self.metadata.get("bbox")
        if found is None:
            return None
        if not isinstance(found, list) or len(found) != 4 or not all(map(_is_number, found)):
            raise self._error(f"bbox: four numbers expected, got {str(found)[:60]}")
        return found

    @property
    def segmentation(self) -> Any:
        """``segmentation`` as the file has it: polygons, or run lengths; None without it."""
        return self.metadata.get("segmentation")

    def segment(
        self, *, size: tuple[int, int] | None = None, most_pixels: int = MOST_PIXELS
    ) -> Mask:
        """Return its mask within the tight box, bool (h, w), and the box.

        The pixels are those of pycocotools.  A box is (minr, minc, maxr, maxc), half open.

        Parameters
        ----------
        size : (h, w), optional
            Of the image; by default the stated one.
        most_pixels : int
            Largest mask to make; 64 Mi by default.

        Raises
        ------
        FormatError
            The segmentation is not one, or not of that size.
        LimitError
            It is larger than ``most_pixels``.
        """
        size = self.parent.size if size is None else size
        try:
            return segment(self.segmentation, size, most_pixels=most_pixels)
        except LimitError:
            raise
        except (TypeError, ValueError) as e:
            raise self._error(f"segmentation: {e}") from e

    def mask(self, *, most_pixels: int = MOST_PIXELS) -> NDArray[np.bool_]:
        """Return its mask in the complete image, bool (h, w), as ``COCO.annToMask`` does.

        Raises
        ------
        FormatError, LimitError
            As ``segment``.
        """
        h, w = size = self.parent.size
        box: Box
        mask, box = self.segment(size=size, most_pixels=most_pixels)
        if h * w > most_pixels:
            what = f"a mask of {h} x {w} pixels, more than {most_pixels}"
            raise LimitError(f"{self._file.source.path}: {what}; most_pixels= makes it")
        found = np.zeros(size, np.bool_)
        found[box[0] : box[2], box[1] : box[3]] = mask
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the mask in the complete image, for ``np.asarray(annotation)``."""
        return exported(self.mask(), dtype, copy)

    def _drawing(self, size: int) -> NDArray[np.uint8] | None:
        """Return the mask within its box, uint8 (h, w, 3); None of one without pixels."""
        return drawn(self.segment()[0], size)

    def _repr_html_(self) -> str:
        from mapix.notebook import record_html

        names = ("id", "image_id", "category", "bbox", "area", "iscrowd")
        return record_html(self, self._drawing, lambda: {k: getattr(self, k) for k in names})

    @never_failing
    def __repr__(self) -> str:
        what = f"image {self.image_id}, {self.category or self.category_id}, bbox {self.bbox}"
        return f"<CocoAnnotation {self.index}: id {self.id}, {what}>"
