"""Names of VIMH files in a folder: splits, pickles and shards."""

from __future__ import annotations

import os
import re

from mapix.errors import FormatError
from mapix.registry import Candidate
from mapix.vimh.info_json import INFO_NAME
from mapix.vimh.layout import NAME

__all__ = [
    "PICKLE_SUFFIX",
    "SPLITS",
    "data_files",
    "files_to_open",
    "named_as_vimh",
    "refusal",
    "splits_beside",
]

SPLITS = ("train", "test")
PICKLE_SUFFIX = "_batch"
NAMES = (*SPLITS, *(name + PICKLE_SUFFIX for name in SPLITS), INFO_NAME)


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be VIMH, or None: see ``mapix.registry.Format``."""
    path = candidate.path
    if not candidate.is_directory:
        # There is no magic number: only the records can decide, and an empty file has none.
        empty = not candidate.source.nbytes and not named_as_vimh(path)
        return "an empty file, and no name or info JSON marks it as VIMH" if empty else None
    if candidate.has(*NAMES) or any(shards(path, split) for split in SPLITS):
        return None
    return f"a directory without {', '.join(SPLITS)} or {INFO_NAME}"


def named_as_vimh(path: str) -> bool:
    """Return whether a file's name, or an info JSON or a journal beside it, marks it as VIMH."""
    folder, name = os.path.split(path)
    shard = re.fullmatch(r"(train|test)-\d{5}-of-\d{5}", name)
    beside = os.path.join(folder, INFO_NAME), os.path.join(folder, f".{name}.appending")
    return bool(name in NAMES or name.endswith(PICKLE_SUFFIX) or shard) or any(
        map(os.path.exists, beside)
    )


def _splits(folder: str) -> dict[str, str]:
    """Return split -> file of a folder.

    A binary file is preferred to a pickle: it has the same content, and needs no decoding.
    """
    found = {}
    for name in SPLITS:
        for path in (os.path.join(folder, name), os.path.join(folder, name + PICKLE_SUFFIX)):
            if os.path.isfile(path):
                found[name] = path
                break
    return found


def shards(folder: str, split: str) -> list[str]:
    """Return the files ``SPLIT-00000-of-00003`` of a folder, or CIFAR-10's ``data_batch_1`` to 5.

    Raises
    ------
    FormatError
        Some are missing, or two numbers of shards are mixed.
    """
    names = os.listdir(folder)
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
        found = sorted(n for n in names if re.fullmatch(r"data_batch_[1-9]", n))
    return [os.path.join(folder, n) for n in found]


def splits_beside(path: str) -> dict[str, str]:
    """Return split -> file of the folder of a data file, itself included."""
    split = os.path.basename(path).removesuffix(PICKLE_SUFFIX)
    return _splits(os.path.dirname(path)) | {split: path} if split in SPLITS else {}


def data_files(folder: str, split: str | None = None) -> list[str]:
    """Return the data files of a folder, or of one split: binary files, pickles, shards."""
    found = []
    for name in SPLITS if split is None else (split,):
        there = (os.path.join(folder, name), os.path.join(folder, name + PICKLE_SUFFIX))
        found += [path for path in there if os.path.isfile(path)]
        found += shards(folder, name)
    return found


def files_to_open(path: str, split: str | None) -> list[tuple[str, dict[str, str]]]:
    """Return the files that a path and a split stand for, and the splits beside each.

    Raises
    ------
    FileNotFoundError
        The folder does not have the split.
    ValueError
        The path is a file of another split.
    """
    if not os.path.isdir(path):
        if split is not None and split != os.path.basename(path).removesuffix(PICKLE_SUFFIX):
            raise ValueError(f"{path} is a file; split= chooses among the files of a directory")
        return [(path, splits_beside(path))]
    splits, wanted = _splits(path), split or "train"
    if wanted in splits:
        return [(splits[wanted], splits)]
    parts = shards(path, wanted)
    if parts:
        return [(part, {}) for part in parts]
    found = ", ".join(splits) or "none"
    raise FileNotFoundError(f"{path}: no split {wanted!r}; there: {found}")
