"""An open COCO file: its tables, its categories, which annotations belong to which image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.coco.layout import MOST_ITEM_NBYTES, NAME, Layout, Table, scan
from mapix.errors import ClosedError, MapixError, UnsupportedError
from mapix.limits import check_limits
from mapix.locations import absolute
from mapix.pictures.decoding import MAX_PIXELS, EncodedPicture
from mapix.registry import reopen
from mapix.rooted import ABSENT, Root

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Fingerprint, Source

__all__ = ["NO_FOLDER", "CocoFile", "Settings"]

MAX_IMAGE_NBYTES = 1 << 28
PREFIXES = ("instances_", "person_keypoints_", "captions_", "stuff_", "panoptic_", "image_info_")
NO_FOLDER = "the folder of the pictures was not found; open the file with images=FOLDER"
MOST_TRIED = 8  # images whose files are searched for
Id = int | str


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of ``open``: see ``mapix.coco.opening.open_path``."""

    orientation: bool = False
    max_item_nbytes: int = MOST_ITEM_NBYTES
    max_image_nbytes: int = MAX_IMAGE_NBYTES
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_limits(
            max_item_nbytes=self.max_item_nbytes,
            max_image_nbytes=self.max_image_nbytes,
            max_pixels=self.max_pixels,
        )


class CocoFile:
    """An open file.

    Parameters
    ----------
    source : Source
        The file.
    settings : Settings
        Limits.
    images : str, optional
        Folder of the pictures; by default it is searched for.

    Attributes
    ----------
    images, annotations : Table
        Images and annotations.
    """

    def __init__(self, source: Source, settings: Settings, images: str | None = None) -> None:
        self.source, self.settings = source, settings
        self.layout: Layout = scan(source, settings.max_item_nbytes)
        self.images: Table = self.layout.table("images")
        self.annotations: Table = self.layout.table("annotations")
        self._given = images
        self._root: Root | None = None if images is None else Root(images)
        self._searched = images is not None

    # --- categories -------------------------------------------------------------------------------

    @cached_property
    def categories(self) -> list[dict[str, Any]]:
        """The categories, as the file has them; none if they are not a list of objects."""
        found = self.layout.other("categories")
        return [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []

    @cached_property
    def names(self) -> dict[Id, str]:
        """Number of each category -> its name; its number as text where it has none."""
        return {
            c["id"]: str(c.get("name", c["id"]))
            for c in self.categories
            if isinstance(c.get("id"), int | str)
        }

    # --- which annotation belongs to which image --------------------------------------------------

    @cached_property
    def _joined(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return image rows in the order of ids, annotation rows in the order of image ids, codes.

        Codes are numbers that are equal where ids are; the codes of both are ascending.
        """
        images, there = self.images.ids("id")
        ids, known = self.annotations.ids("image_id")
        if images.dtype == object or ids.dtype == object:
            codes: dict[Any, int] = {}
            images = np.array([codes.setdefault(v, len(codes)) for v in images.tolist()], np.int64)
            ids = np.array([codes.setdefault(v, len(codes)) for v in ids.tolist()], np.int64)
        order = np.argsort(ids, kind="stable")
        order = order[known[order]]
        images = images.copy()
        images[~there] = np.iinfo(np.int64).min  # an image without a number has no annotations
        return images, order, ids[order]

    def annotations_of(self, row: int) -> NDArray[np.int64]:
        """Return the rows of the annotations of an image, ascending."""
        images, order, ids = self._joined
        first, last = np.searchsorted(ids, images[row]), np.searchsorted(ids, images[row], "right")
        return order[first:last]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of annotations of each image."""
        images, _, ids = self._joined
        return np.searchsorted(ids, images, "right") - np.searchsorted(ids, images)

    @cached_property
    def rows_of_images(self) -> NDArray[np.int64]:
        """Row of the image of each annotation; -1 where there is no such image."""
        images, order, ids = self._joined
        by_id = np.argsort(images, kind="stable")
        at = np.searchsorted(images[by_id], ids)
        at[at == len(by_id)] = 0
        found = np.full(len(self.annotations), -1, np.int64)
        if len(by_id):
            fits = images[by_id][at] == ids
            found[order[fits]] = by_id[at[fits]]
        return found

    # --- pictures ---------------------------------------------------------------------------------

    @property
    def folder(self) -> str | None:
        """Folder of the pictures, from the root of the file system; None if none was found."""
        if not self._searched:
            self._root = self._found()
            self._searched = True
        return None if self._root is None else self._root.full_path.rstrip("/") or "/"

    def _found(self) -> Root | None:
        """Search for the folder that has the file of one of the first images."""
        names = []
        for row in range(min(MOST_TRIED, len(self.images))):
            name = self.images.parsed(row).get("file_name")
            if isinstance(name, str):
                names.append(name)
        above, name = os.path.split(self.source.full_path)
        stem = os.path.splitext(name)[0]
        short = next((stem[len(p) :] for p in PREFIXES if stem.startswith(p)), stem)
        beside, parent = above, os.path.dirname(above)
        for place in dict.fromkeys(
            os.path.join(folder, below)
            for folder in (beside, parent)
            for below in (stem, short, f"images/{short}", "images", "")
        ):
            if os.path.isdir(place):
                root = Root(place)
                if any(_has(root, name) for name in names):
                    return root
        return None

    def picture_nbytes(self, row: int) -> int:
        """Return the bytes of the file of an image; 0 where it is not found."""
        if self.folder is None or self._root is None:
            return 0
        try:
            name = self.images.parsed(row).get("file_name")
            return self._root.nbytes(name) if isinstance(name, str) else 0
        except OSError as e:
            if e.errno not in ABSENT:
                raise
            return 0
        except (MapixError, ValueError):
            return 0

    def encoded(self, name: str, row: int) -> EncodedPicture:
        """Read the file of a picture.

        Raises
        ------
        UnsupportedError
            There is no folder of pictures.
        """
        if self.source.closed:
            raise ClosedError(f"{self.source.path}: the dataset is closed")
        if self.folder is None or self._root is None:
            raise UnsupportedError(f"{self.source.path}: {NO_FOLDER}")
        data = self._root.read(name, self.settings.max_image_nbytes)
        return EncodedPicture(
            *(data, name, self.source.path),
            error=lambda reason: self.images.error(row, f"{name}: {reason}"),
            max_pixels=self.settings.max_pixels,
            orientation=self.settings.orientation,
        )

    # --- again ------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        source = self.source
        return _reopened, (source.full_path, dict(self.options()), source.identity)

    def options(self) -> Mapping[str, Any]:
        """Return the options that open the same file in another process."""
        s, given = self.settings, self._given
        return {
            "images": None if given is None else absolute(given),
            "orientation": s.orientation,
            "max_item_nbytes": s.max_item_nbytes,
            "max_image_nbytes": s.max_image_nbytes,
            "max_pixels": s.max_pixels,
        }


def _reopened(path: str, options: dict[str, Any], expect: Fingerprint) -> CocoFile:
    """Return what a pickled file stands for: the same file again, or FileChangedError."""
    found: CocoFile = reopen(NAME, path, options, expect, None).file
    return found


def _has(root: Root, name: str) -> bool:
    try:
        return root.nbytes(name) >= 0
    except OSError:
        return False
