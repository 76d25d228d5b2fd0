"""From a path to an image folder."""

from __future__ import annotations

import os
from typing import Any

from mapix.errors import FormatError
from mapix.folder.core import Core
from mapix.folder.dataset import ImageFolder
from mapix.folder.files import MAX_IMAGE_NBYTES, Files, Settings
from mapix.folder.layout import METADATA, NAME
from mapix.folder.lines import MAX_LINE_NBYTES
from mapix.pictures.decoding import MAX_PIXELS
from mapix.registry import Candidate
from mapix.selection import Rows
from mapix.source import Fingerprint

__all__ = ["NAME", "open_path", "refusal", "reopen", "splits_of"]

USUAL = ("train", "test", "validation", "valid", "val", "dev", "all")


def splits_of(folder: str) -> tuple[str, ...]:
    """Names of the sub-folders that hold a metadata file: train and test first, then by name."""
    with os.scandir(folder) as entries:
        below = [e.name for e in entries if not e.name.startswith(".") and _is_folder(e)]
    found = [n for n in below if os.path.isfile(os.path.join(folder, n, METADATA))]
    return tuple(sorted(found, key=lambda n: (USUAL.index(n) if n in USUAL else len(USUAL), n)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be an image folder, or None: see ``mapix.registry.Format``."""
    path = candidate.path
    if not candidate.is_directory:
        return None if path.endswith(".jsonl") else f"a file, and not {METADATA}"
    if os.path.isfile(os.path.join(path, METADATA)) or splits_of(path):
        return None
    return f"no {METADATA} in it, nor in a folder in it"


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
    """Open an image folder; of its lines none is read.

    Parameters
    ----------
    path : str or os.PathLike
        A folder with a ``metadata.jsonl``, or one whose sub-folders, the splits, have one each; or
        the metadata file itself.
    split : str, optional
        Which sub-folder.  Without it the folder's own metadata file, or its only split, or
        ``train``.
    key : str, optional
        Which name of a line is the picture's, where it has several (``mask_file_name``); by default
        ``file_name``, or the only one.
    orientation : bool
        Whether pictures are turned as their EXIF says, as Hugging Face and viewers do.
    root : str or os.PathLike, optional
        A folder above: links may lead out of the image folder as long as they stay beneath it (a
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
        There is no metadata file.
    OSError
        It cannot be opened.
    """
    settings = Settings(key, orientation, max_line_nbytes, max_image_nbytes, max_pixels)
    above = None if root is None else os.fspath(root)
    path = os.fspath(path)
    if not os.path.isdir(path):
        if split is not None:
            raise ValueError(f"{path} is a file; split= chooses among the folders of a directory")
        return _open(path, above, settings)
    splits = splits_of(path) if split is not None or not _has(path) else ()
    if split is None and not _has(path):
        if not splits:
            raise FormatError(path, NAME, f"no {METADATA} in it, nor in a folder in it")
        split = splits[0] if len(splits) == 1 or splits[0] == "train" else None
        if split is None:
            raise ValueError(f"{path}: choose one of its splits by split=: {', '.join(splits)}")
    if split is not None and split not in splits:
        names = ", ".join(splits) or "none"
        raise ValueError(f"{path}: no split {split!r}; there are: {names}")
    if split is None:
        return _open(os.path.join(path, METADATA), above, settings, splits=splits)
    place = os.path.join(path, split, METADATA)  # a split that is a link may not leave, either
    return _open(place, path if above is None else above, settings, split=split, splits=splits)


def _has(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, METADATA))


def _open(
    path: str,
    root: str | None,
    settings: Settings,
    *,
    expect: Fingerprint | None = None,
    **what: Any,
) -> ImageFolder:
    folder, name = os.path.split(path)
    files = Files(folder or ".", root)
    source = files.source(name, expect=expect)
    return ImageFolder(Core(source, files, settings), **what)


def reopen(
    path: str,
    root: str | None,
    expect: Fingerprint,
    settings: Settings,
    rows: Rows,
    split: str | None,
    splits: tuple[str, ...],
) -> ImageFolder:
    """What a pickled folder becomes: the same file opened again, or FileChangedError."""
    more = {"rows": rows, "split": split, "splits": splits}
    return _open(path, root, settings, expect=expect, **more)


def reopen_core(path: str, root: str | None, expect: Fingerprint, settings: Settings) -> Core:
    """What the core of a pickled record becomes: as ``reopen``."""
    return reopen(path, root, expect, settings, None, None, ())._core
