"""The names of the files of MNIST and its relatives: images of a split, and their labels."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable

from mapix.source import is_file, is_listed, name_of, path_beside, scan

__all__ = ["FILES", "IMAGES", "images_of", "labels_of", "splits_of"]

FILES = {"train": "train-images-idx{}-ubyte", "test": "t10k-images-idx{}-ubyte"}
# Patterns are compiled when a name needs them: each takes 0.1 ms of a first open.
IMAGES = r"-images([-.])idx\d+-ubyte"  # in the name of a file that has labels
PLAIN_IMAGES = r"(.*[-_.]|)images(\.idx)"  # as other programs' users choose them
LABELS = ("idx1-ubyte", "idx2-int", "idx2-ubyte", "idx1-int")  # MNIST's, QMNIST's, one-hot ones
SETS = ("MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST")  # folders that torchvision makes
MOST_NAMES = 1000  # in a directory that is searched: a folder of pictures can have millions

_NAME = r"(.*?)(train|t10k|test)-images([-.])idx([34])-ubyte(\.gz)?"


def _in(folder: str, split: str) -> list[str]:
    """Return the images of a split in one directory: one file, or one of each dataset there."""
    found = _by_prefix(folder, split)
    return [found[""]] if "" in found else sorted(found.values())


def _by_prefix(folder: str, split: str) -> dict[str, str]:
    """Return the images of a split in one directory by what their names begin with."""
    if not is_listed(folder):
        each = (path_beside(f"{folder.rstrip('/')}/", name) for name in _usual([split]))
        found = next((path for path in each if is_file(path)), None)
        return {} if found is None else {"": found}
    try:
        with scan(folder) as entries:
            names = [e.name for e in itertools.islice(entries, MOST_NAMES + 1)]
    except OSError:
        return {}
    if len(names) > MOST_NAMES:
        names = _usual(FILES)
    best: dict[str, tuple[tuple[str, ...], str]] = {}
    for name in names:
        m = re.fullmatch(_NAME, name)
        if m is None or (m[2] == "train") != (split == "train"):
            continue
        path = os.path.join(folder, name)
        rank = (m[4], m[3], m[5] or "", m[2])  # idx3 before idx4, a dash before a dot, plain files
        if is_file(path) and (m[1] not in best or rank < best[m[1]][0]):
            best[m[1]] = rank, path
    return {prefix: path for prefix, (_, path) in best.items()}


def _usual(splits: Iterable[str]) -> list[str]:
    usual = itertools.product([FILES[split] for split in splits], (3, 4), ("", ".gz"))
    return [name.format(ndim) + end for name, ndim, end in usual]


def images_of(folder: str, split: str) -> list[str]:
    """Return the files of images of a split in a directory.

    Parameters
    ----------
    folder : str
        A directory that has the files, ``raw``, or ``MNIST/raw``, ``QMNIST/raw`` ...
    split : {"train", "test"}
        The split; ``t10k`` is a test split, too.

    Returns
    -------
    list of str
        One path, or one of each dataset (EMNIST has six); empty if there are no images.
    """
    for below in ("", "raw"):
        found = _in(os.path.join(folder, below), split)
        if found:
            return found
    if not is_listed(folder):  # each name would cost requests
        return []
    return [path for name in SETS for path in _in(os.path.join(folder, name, "raw"), split)]


def labels_of(path: str) -> str | None:
    """Return the file of labels in the directory of a file of images, or None."""
    name = name_of(path).removesuffix(".gz")
    if "images" not in name:  # else a pattern is compiled at the first open
        return None
    m = re.search(IMAGES, name)
    if m is None:
        plain = re.fullmatch(PLAIN_IMAGES, name)
        beside = plain and path_beside(path, f"{plain[1]}labels{plain[2]}")
        return beside if beside and is_file(beside) else None
    stem = f"{name[: m.start()]}-labels{m[1]}"
    found = (path_beside(path, f"{stem}{end}{gz}") for end in LABELS for gz in ("", ".gz"))
    return next((p for p in found if is_file(p)), None)


def splits_of(path: str) -> dict[str, str]:
    """Return split -> path of the images of the same dataset in the directory of a file."""
    folder, name = os.path.split(path)
    m = re.fullmatch(_NAME, name)
    if m is None:
        return {}
    found = {split: _by_prefix(folder, split).get(m[1]) for split in FILES}
    found["train" if m[2] == "train" else "test"] = path
    return {split: there for split, there in found.items() if there is not None}
