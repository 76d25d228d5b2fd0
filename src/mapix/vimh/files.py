"""Names of VIMH files in a folder: splits, pickles and shards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from mapix.errors import FormatError, LimitError
from mapix.registry import Candidate
from mapix.source import is_file, is_listed, is_url, name_of, read_small, scan

__all__ = [
    "CIFAR",
    "INFO_NAME",
    "INFO_NBYTES",
    "NAME",
    "PICKLE_SUFFIX",
    "SPLITS",
    "SPLIT_NAME",
    "TOTALS",
    "data_files",
    "files_to_open",
    "named_as_vimh",
    "refusal",
    "split_names",
    "splits_beside",
]

NAME = "vimh"
INFO_NAME = "vimh_dataset_info.json"
INFO_NBYTES = 16 << 20  # a larger info JSON is refused
SPLITS = ("train", "test")
SPLIT_NAME = r"[A-Za-z0-9]\w*"  # what a split may be called, in ASCII
TOTALS = ("total", "n")  # total_samples and n_samples count all splits together
CIFAR = "data_batch_"  # the training batches of CIFAR-10
COUNT = rb'"(?:num_)?([A-Za-z0-9]\w*)_samples"\s*:'  # its number in the info JSON
PICKLE_SUFFIX = "_batch"
NAMES = (*SPLITS, *(name + PICKLE_SUFFIX for name in SPLITS), INFO_NAME)


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be VIMH, or None: see ``mapix.registry.Format``."""
    path = candidate.path
    if not candidate.is_directory:
        # There is no magic number: only the records can decide, and an empty file has none.
        empty = not candidate.front and not named_as_vimh(path)
        return "an empty file, and no name or info JSON marks it as VIMH" if empty else None
    if candidate.has(*NAMES) or any(shards(path, split) for split in SPLITS):
        return None
    return f"a directory without {', '.join(SPLITS)} or {INFO_NAME}"


def named_as_vimh(path: str) -> bool:
    """Return whether a file's name, or an info JSON or a journal beside it, marks it as VIMH."""
    folder, name = os.path.dirname(path), name_of(path)
    shard = re.fullmatch(r"(train|test)-\d{5}-of-\d{5}", name)
    beside = os.path.join(folder, INFO_NAME), os.path.join(folder, f".{name}.appending")
    return bool(name in NAMES or name.endswith(PICKLE_SUFFIX) or shard) or any(
        map(os.path.exists, beside)
    )


def split_names(folder: str) -> tuple[str, ...]:
    """Return the names of a folder's splits: train, test, and those that its info JSON counts.

    A count is ``"NAME_samples"``, and ``NAME`` or ``NAME_batch`` is a file.
    """
    try:
        info = read_small(os.path.join(folder, INFO_NAME), INFO_NBYTES)
    except (OSError, LimitError):
        return SPLITS
    counted = (name.decode() for name in re.findall(COUNT, info))
    names = dict.fromkeys(name for name in counted if name not in (*SPLITS, *TOTALS))
    return (*SPLITS, *(name for name in names if _file_of(folder, name)))


def _files_of(folder: str, split: str) -> Iterator[str]:
    """Yield the binary file and the pickle of a split, as far as they are there."""
    place = os.path.join(folder, split)
    return filter(is_file, (place, place + PICKLE_SUFFIX))


def _file_of(folder: str, split: str) -> str | None:
    """Return the file of a split, or None.

    A binary file is preferred to a pickle: it has the same content, and needs no decoding.
    """
    return next(_files_of(folder, split), None)


def _splits(folder: str) -> dict[str, str]:
    """Return split -> file of a folder."""
    files = {name: _file_of(folder, name) for name in split_names(folder)}
    return {name: there for name, there in files.items() if there}


def shards(folder: str, split: str) -> list[str]:
    """Return the files ``SPLIT-00000-of-00003`` of a folder, or CIFAR-10's ``data_batch_1`` to 5.

    Raises
    ------
    FormatError
        Some are missing, or two numbers of shards are mixed.
    """
    names: list[str] = []
    if is_listed(folder):
        with scan(folder) as entries:
            names = [entry.name for entry in entries]
    found = sorted(n for n in names if re.fullmatch(rf"{re.escape(split)}-\d{{5}}-of-\d{{5}}", n))
    if found:
        n = int(found[0][-5:])
        want = [f"{split}-{k:05}-of-{n:05}" for k in range(n)]
        if found != want:
            missing = ", ".join(sorted(set(want) - set(found))) or "none"
            more = ", ".join(sorted(set(found) - set(want))) or "none"
            reason = f"shards of {split}: missing: {missing}; too many: {more}"
            raise FormatError(folder, NAME, reason)
    elif split == "train":
        found = sorted(n for n in names if re.fullmatch(rf"{CIFAR}[1-9]", n))
    return [os.path.join(folder, n) for n in found]


def splits_beside(path: str) -> dict[str, str]:
    """Return split -> file of the folder of a data file, itself included."""
    split = name_of(path).removesuffix(PICKLE_SUFFIX)
    if is_url(path):  # each name would cost a request
        return {split: path} if split in SPLITS else {}
    found = _splits(os.path.dirname(path))
    return found | {split: path} if split in SPLITS or split in found else {}


def data_files(folder: str, split: str | None = None) -> list[str]:
    """Return the data files of a folder, or of one split: binary files, pickles, shards."""
    found: list[str] = []
    for name in split_names(folder) if split is None else (split,):
        found += _files_of(folder, name)
        found += shards(folder, name)
    return found


def files_to_open(candidate: Candidate, split: str | None) -> list[str]:
    """Return the files that a path and a split stand for.

    Raises
    ------
    FileNotFoundError
        The folder does not have the split.
    ValueError
        The path is a file of another split.
    """
    path = candidate.path
    if not candidate.is_directory:
        if split is not None and split != name_of(path).removesuffix(PICKLE_SUFFIX):
            raise ValueError(f"{path} is a file; split= chooses among the files of a directory")
        return [path]
    wanted = split or "train"
    if wanted in SPLITS or wanted in split_names(path):
        there = _file_of(path, wanted)
        if there:
            return [there]
    parts = shards(path, wanted)
    if parts:
        return parts
    found = ", ".join(_splits(path)) or "none"
    raise FileNotFoundError(f"{path}: no split {wanted!r}; there: {found}")
