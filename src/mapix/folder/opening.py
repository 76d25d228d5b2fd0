"""Open an image folder, for the registry."""

from __future__ import annotations

import os

from mapix.folder.dataset import ImageFolder
from mapix.folder.files import MAX_IMAGE_NBYTES, Settings
from mapix.folder.layout import METADATA, METADATA_FILES
from mapix.folder.lines import MAX_LINE_NBYTES
from mapix.folder.listings import listing
from mapix.folder.pictures import has_pictures
from mapix.folder.splits import NOTHING, has_metadata, located, splits_of
from mapix.pictures.decoding import MAX_PIXELS
from mapix.registry import Candidate

__all__ = ["open_path", "refusal"]


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be an image folder, or None: see ``mapix.registry.Format``."""
    path = candidate.path
    if not candidate.is_directory:
        known = path.endswith((".jsonl", *METADATA_FILES))
        return None if known else f"a file, and not {METADATA}"
    if has_metadata(path) or splits_of(path) or has_pictures(path):
        return None
    return NOTHING


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    split: str | None = None,
    key: str | None = None,
    orientation: bool = True,
    root: str | os.PathLike[str] | None = None,
    max_line_nbytes: int = MAX_LINE_NBYTES,
    max_image_nbytes: int = MAX_IMAGE_NBYTES,
    max_pixels: int = MAX_PIXELS,
) -> ImageFolder:
    """Open an image folder.

    No line of a ``metadata.jsonl`` is read; a table is read, and folders without metadata are
    searched for pictures.

    Parameters
    ----------
    path : str or os.PathLike
        A folder with a ``metadata.jsonl``, ``metadata.csv`` or ``metadata.parquet``, or one whose
        sub-folders, the splits, have one each; the metadata file itself; a folder of pictures,
        with or without a folder per class; or YOLO's folder, with ``images`` and ``labels``.
    split : str, optional
        Which sub-folder; by default the folder's own metadata file, or its only split, or
        ``train``.
    key : str, optional
        The key that names the picture, in lines that name several files (``mask_file_name``); by
        default ``file_name``, or the only one.
    orientation : bool
        Whether pictures are turned as their EXIF orientation states, as Hugging Face and viewers
        do.
    root : str or os.PathLike, optional
        A folder above: links may lead out of the image folder if they stay beneath the root (a
        cache where pictures are links to blobs).
    max_line_nbytes, max_image_nbytes, max_pixels : int
        Limits: bytes of a line (1 MiB), bytes of a picture's file that is decoded (256 MiB), pixels
        of a picture (89 million).

    Returns
    -------
    ImageFolder

    Raises
    ------
    FormatError
        There is no metadata file, and no picture.
    OSError
        It cannot be opened.
    FileChangedError
        It is not the file that the candidate expects.
    """
    settings = Settings(key, orientation, max_line_nbytes, max_image_nbytes, max_pixels)
    candidate = Candidate.of(path)
    above = None if root is None else os.fspath(root)
    place = located(candidate.path, split, above, sure=candidate.expect is not None)
    return ImageFolder(listing(place, settings, candidate.expect))
