"""Find the metadata file of a path: of a folder, of one of its splits, or the file itself."""

from __future__ import annotations

import os
from typing import NamedTuple

from mapix.errors import FormatError
from mapix.folder.layout import METADATA, NAME

__all__ = ["Place", "has_metadata", "located", "place_of_split", "split_folders", "splits_of"]

USUAL = ("train", "test", "validation", "valid", "val", "dev", "all")


class Place(NamedTuple):
    """Where a metadata file lies.

    Attributes
    ----------
    path : str
        The metadata file.
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


def has_metadata(folder: str) -> bool:
    """Whether a folder holds a metadata file of its own."""
    return os.path.isfile(os.path.join(folder, METADATA))


def splits_of(folder: str) -> tuple[str, ...]:
    """Return the names of the sub-folders that hold a metadata file: train and test come first."""
    with os.scandir(folder) as entries:
        below = [e.name for e in entries if not e.name.startswith(".") and _is_folder(e)]
    found = [n for n in below if has_metadata(os.path.join(folder, n))]
    return tuple(sorted(found, key=lambda n: (USUAL.index(n) if n in USUAL else len(USUAL), n)))


def split_folders(directory: str) -> dict[str, str]:
    """Return name -> folder of the splits of a directory."""
    return {name: os.path.join(directory, name) for name in splits_of(directory)}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def place_of_split(directory: str, name: str, root: str | None) -> Place:
    """Return the place of the metadata file of a split."""
    # A link in the place of a split must not leave the directory, either: it is the root.
    path = os.path.join(directory, name, METADATA)
    return Place(path, directory if root is None else root, name, directory)


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
    if not os.path.isdir(path):
        if split is not None:
            raise ValueError(f"{path} is a file; split= chooses among the folders of a directory")
        return Place(path, root)
    if split is None and has_metadata(path):
        return Place(os.path.join(path, METADATA), root)
    names = splits_of(path)
    if split is None:
        if not names:
            raise FormatError(path, NAME, f"no {METADATA} in it, nor in a folder in it")
        if len(names) > 1 and names[0] != "train":
            raise ValueError(f"{path}: choose one of its splits by split=: {', '.join(names)}")
        split = names[0]
    if split not in names:
        there = ", ".join(names) or "none"
        raise ValueError(f"{path}: no split {split!r}; there are: {there}")
    return place_of_split(path, split, root)
