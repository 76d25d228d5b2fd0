"""From a path to a COCO dataset."""

from __future__ import annotations

import os
from typing import Literal

from mapix.coco.dataset import CocoAnnotations, CocoImages
from mapix.coco.file import MAX_IMAGE_NBYTES, CocoFile, Settings
from mapix.coco.layout import MOST_ITEM_NBYTES, NAME, first_table
from mapix.errors import FormatError
from mapix.pictures.decoding import MAX_PIXELS
from mapix.registry import Candidate

__all__ = ["open_path", "refusal"]

NEITHER = 'a JSON object without an array "images" or "annotations" of objects'


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be a COCO file, or None: see ``mapix.registry.Format``."""
    if candidate.is_directory:
        return "a directory"
    return None if first_table(candidate.source) else NEITHER


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    images: str | os.PathLike[str] | None = None,
    records: Literal["images", "annotations"] = "images",
    orientation: bool = False,
    max_item_nbytes: int = MOST_ITEM_NBYTES,
    max_image_nbytes: int = MAX_IMAGE_NBYTES,
    max_pixels: int = MAX_PIXELS,
) -> CocoImages | CocoAnnotations:
    """Open a COCO file.  It is scanned once, and nothing is parsed.

    Parameters
    ----------
    path : str or os.PathLike
        The JSON file: instances, keypoints, captions, stuff or panoptic segments.
    images : str or os.PathLike, optional
        Folder of the pictures.  By default the folder is searched for that has the first images:
        the file's own folder, ``images`` in it, and beside an ``annotations`` folder the one named
        like the file, as ``val2017`` for ``annotations/instances_val2017.json``.
    records : {"images", "annotations"}
        What the records are.
    orientation : bool
        Whether pictures are turned as their EXIF orientation states.  Boxes and masks are not
        turned, and those of COCO are of pictures that are not.
    max_item_nbytes, max_image_nbytes, max_pixels : int
        Limits: bytes of an image or annotation in the file (64 MiB), bytes of a picture's file (256
        MiB), pixels of a picture (89 million).

    Raises
    ------
    FormatError
        The file is not a JSON object with images or annotations.
    LimitError
        A limit is exceeded.
    """
    if records not in ("images", "annotations"):
        raise ValueError(f"records must be images or annotations, got {records!r}")
    candidate = Candidate.of(path)
    settings = Settings(orientation, max_item_nbytes, max_image_nbytes, max_pixels)
    given = None if images is None else os.fspath(images)
    file = CocoFile(candidate.source, settings, given)
    if not file.layout.tables.keys() - {"annotations"} and not len(file.annotations):
        raise FormatError(candidate.path, NAME, NEITHER)
    candidate.source.mapping.advise("random")
    return CocoImages(file) if records == "images" else CocoAnnotations(file)
