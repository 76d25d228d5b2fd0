"""Find what lists the pictures of a path: a metadata file, or the folder itself."""

from __future__ import annotations

import os
from typing import NamedTuple

from mapix.errors import FormatError
from mapix.folder.layout import METADATA, METADATA_FILES, NAME
from mapix.folder.pictures import IMAGES, has_pictures, is_yolo, subfolders
from mapix.source import folder_in, is_file, is_folder, is_listed

__all__ = [
    "NOTHING",
    "Place",
    "has_metadata",
    "located",
    "place_of_split",
    "split_folders",
    "splits_of",
]

SPLITS = ("train", "test", "validation")  # of the URL of a folder that is not listed
USUAL = ("train", "test", "validation", "valid", "val", "dev", "all")
NOTHING = f"no {METADATA} in it, nor in a folder in it, and no pictures"


class Place(NamedTuple):
    """Where a metadata file lies.

    Attributes
    ----------
    path : str
        The metadata file; a folder, if its pictures are listed without one.
    root : str or None
        A folder above it that links may lead to; None: the folder of the metadata file.
    split : str or None
        Name of the split that it belongs to.
    directory : str or None
        The folder that holds the splits.
    """

    path: str
    root: str | None = None
    split: str | None = None
    directory: str | None = None


def metadata_name(folder: str) -> str | None:
    """Return the name of the metadata file of a folder; None without one of its own."""
    there = (n for n in METADATA_FILES if is_file(os.path.join(folder, n)))
    return next(there, None)


def has_metadata(folder: str) -> bool:
    """Whether a folder holds a metadata file of its own."""
    return metadata_name(folder) is not None


def splits_of(folder: str) -> tuple[str, ...]:
    """Return the names of the splits of a folder: train and test come first.

    They are the sub-folders that hold a metadata file; without such, those of YOLO's ``images``,
    or those that have ``images`` and ``labels``; or, where no pictures lie beside them and all
    others are empty, those with the usual names of splits.
    """
    if not is_listed(folder):
        return tuple(n for n in SPLITS if has_metadata(os.path.join(folder, n)))
    below = subfolders(folder, links=True)
    found = [n for n in below if has_metadata(os.path.join(folder, n))]
    if not found and is_yolo(folder):
        images = os.path.join(folder, IMAGES)
        found = [] if has_pictures(images, 0) else subfolders(images)
    elif not found:
        found = [n for n in below if is_yolo(os.path.join(folder, n))]
        usual = [n for n in below if n.lower() in USUAL]
        if not found and usual and not has_pictures(folder, 0):  # a folder of classes has none
            others = (n for n in below if n.lower() not in USUAL)
            if not any(has_pictures(os.path.join(folder, n)) for n in others):
                found = [n for n in usual if has_pictures(os.path.join(folder, n))]
    return tuple(sorted(found, key=lambda n: (USUAL.index(n) if n in USUAL else len(USUAL), n)))


def split_folders(directory: str) -> dict[str, str]:
    """Return name -> folder of the splits of a directory."""
    below = folder_in(directory, IMAGES) if is_yolo(directory) else directory
    return {name: folder_in(below, name) for name in splits_of(directory)}


def place_of_split(directory: str, name: str, root: str | None) -> Place:
    """Return the place of the listing of a split."""
    # A link in the place of a split must not leave the directory, either: it is the root.
    above = directory if root is None else root
    folder = folder_in(directory, name)
    listed = metadata_name(folder)
    if listed is not None:
        return Place(os.path.join(folder, listed), above, name, directory)
    if is_yolo(directory):
        return Place(directory, above, name, directory)
    if is_folder(folder) and (is_yolo(folder) or has_pictures(folder)):
        return Place(folder, above, name, directory)
    return Place(os.path.join(folder, METADATA), above, name, directory)


def located(path: str, split: str | None, root: str | None, *, sure: bool = False) -> Place:
    """Return the place of the metadata file that a path and a split mean.

    Parameters
    ----------
    path : str
        A folder, or the metadata file.
    split : str, optional
        Name of a sub-folder; by default the folder's own metadata file, its only split, or
        ``train``.
    root : str, optional
        See ``mapix.folder.opening.open_path``.
    sure : bool
        Whether the split was there before: then it is not searched for.

    Raises
    ------
    FormatError
        There is no metadata file.
    ValueError
        There is no such split, or one has to be chosen.
    """
    if split is not None and sure:
        return place_of_split(path, split, root)
    if not is_folder(path):
        if split is not None:
            raise ValueError(f"{path} is a file; split= chooses among the folders of a directory")
        return Place(path, root)
    listed = metadata_name(path) if split is None else None
    if listed is not None:
        return Place(os.path.join(path, listed), root)
    names = splits_of(path)
    if split is None:
        if not names and not has_pictures(path):
            raise FormatError(path, NAME, NOTHING)
        if not names:
            return Place(path, root)
        if len(names) > 1 and names[0] != "train":
            raise ValueError(f"{path}: choose one of its splits by split=: {', '.join(names)}")
        split = names[0]
    if split not in names:
        there = ", ".join(names) or "none"
        raise ValueError(f"{path}: no split {split!r}; there are: {there}")
    return place_of_split(path, split, root)
