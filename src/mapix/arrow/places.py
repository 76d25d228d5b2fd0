"""Find the Arrow or Parquet files of a directory, and their splits.

Four kinds of directories are known, which Hugging Face's ``datasets`` and its Hub make:

* ``Dataset.save_to_disk``: a ``state.json`` names the files;
* ``DatasetDict.save_to_disk``: a ``dataset_dict.json`` names the splits, which are such folders;
* the cache of ``load_dataset``: ``NAME-SPLIT.arrow``, ``NAME-SPLIT-00000-of-00002.arrow``, and a
  ``dataset_info.json`` that names the splits;
* a data set of the Hub: ``SPLIT-00000-of-00002.parquet``, in the folder or in ``data``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError, LimitError
from mapix.source import is_file, is_listed, read_small, scan

if TYPE_CHECKING:
    from mapix.registry import Candidate

__all__ = ["ARROW", "PARQUET", "TRAIN", "arrow_refusal", "files_of_splits", "parquet_refusal"]

ARROW, PARQUET = "arrow", "parquet"
STATE, DICT, INFO = "state.json", "dataset_dict.json", "dataset_info.json"
DATA = "data"  # folder of the files of a data set of the Hub
TRAIN = "train"
MOST_JSON_NBYTES = 1 << 24
MOST_ENTRIES = 10_000  # of a directory that are listed: it may hold a million pictures
SHARDED = r"(.+)-(\d{5})-of-(\d{5})(?:-[0-9a-f]{16})?"


def files_of_splits(folder: str, format: str) -> dict[str, list[str]]:
    """Return name of each split -> paths of its files, in order; train is the first.

    Empty where the directory is of none of these kinds.  The name is empty where the directory
    has no splits.

    Raises
    ------
    FormatError
        A file that names the others is damaged, or files are missing.
    """
    if format == PARQUET:
        found = _hub(folder)
    elif is_file(os.path.join(folder, DICT)):
        found = _saved_dict(folder)
    elif is_file(os.path.join(folder, STATE)):
        found = {"": _saved(folder)}
    else:
        found = _cached(folder) if is_file(os.path.join(folder, INFO)) else {}
    return dict(sorted(found.items(), key=lambda item: item[0] != TRAIN))


def arrow_refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be of Arrow files, or None: see ``mapix.registry.Format``."""
    if candidate.is_directory:
        return _refusal(candidate, ARROW, f"no {STATE}, {DICT} or cache of Arrow files in it")
    from mapix.arrow.stream import CONTINUED, is_stream

    if candidate.front.startswith(CONTINUED) and not is_stream(candidate.front):
        return "no message with a schema"
    return None


def parquet_refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be of Parquet files, or None: see ``mapix.registry.Format``."""
    if candidate.is_directory:
        return _refusal(candidate, PARQUET, "no files as train-00000-of-00001.parquet in it")
    return None


def _refusal(candidate: Candidate, format: str, reason: str) -> str | None:
    try:
        return None if files_of_splits(candidate.path, format) else reason
    except FormatError:
        return None  # opening it states what is wrong


def _saved_dict(folder: str) -> dict[str, list[str]]:
    names = _json(folder, DICT).get("splits")
    if not isinstance(names, list) or not names:
        raise _error(folder, DICT, "a list 'splits' expected")
    return {name: _saved(os.path.join(folder, _plain(folder, DICT, name))) for name in names}


def _saved(folder: str) -> list[str]:
    """Return the files that a ``state.json`` names."""
    listed = _json(folder, STATE).get("_data_files")
    if not isinstance(listed, list) or not listed:
        raise _error(folder, STATE, "a list '_data_files' expected")
    names = (entry.get("filename") if isinstance(entry, dict) else entry for entry in listed)
    return [os.path.join(folder, _plain(folder, STATE, name)) for name in names]


def _cached(folder: str) -> dict[str, list[str]]:
    """Return the files of a cache; without those that ``map`` and ``filter`` made."""
    splits = _json(folder, INFO).get("splits")
    if not isinstance(splits, dict):
        return {}
    stems = [stem for stem in _stems(folder, ARROW) if not stem.startswith("cache-")]
    found = {}
    for name in splits:
        mine = [stem for stem in stems if _whole(stem).endswith(f"-{name}")]
        if mine:
            found[name] = _in_order(folder, mine, ARROW)
    return found


def _hub(folder: str) -> dict[str, list[str]]:
    for place in (folder, os.path.join(folder, DATA)):
        shards = [stem for stem in _stems(place, PARQUET) if re.fullmatch(SHARDED, stem, re.ASCII)]
        if shards:
            names = dict.fromkeys(map(_whole, shards))
            return {
                name: _in_order(place, [s for s in shards if _whole(s) == name], PARQUET)
                for name in names
            }
    return {}


def _stems(folder: str, format: str) -> list[str]:
    """Return the names of a directory's files of a format, without their ending, sorted."""
    ending = f".{format}"
    return sorted(n.removesuffix(ending) for n in _listed(folder) if n.endswith(ending))


def _listed(folder: str) -> Iterator[str]:
    if not is_listed(folder):
        return
    try:
        with scan(folder) as entries:
            yield from (entry.name for entry in islice(entries, MOST_ENTRIES))
    except OSError:
        return


def _whole(stem: str) -> str:
    """Return a name without ``-00000-of-00002``."""
    found = re.fullmatch(SHARDED, stem, re.ASCII)
    return found[1] if found else stem


def _in_order(folder: str, stems: list[str], format: str) -> list[str]:
    """Return the paths of the shards of a split.

    Raises
    ------
    FormatError
        Some are missing, or there are those of several sets.
    """
    names = [re.fullmatch(SHARDED, stem, re.ASCII) for stem in stems]
    numbers = [(int(found[2]), int(found[3])) if found else (0, 1) for found in names]
    n = numbers[0][1]
    if numbers != [(k, n) for k in range(n)]:
        reason = f"{n} files of {_whole(stems[0])} expected, got {', '.join(stems[:4])}"
        raise FormatError(folder, format, f"{reason}{', ...' if len(stems) > 4 else ''}")
    return [os.path.join(folder, f"{stem}.{format}") for stem in stems]


def _json(folder: str, name: str) -> dict[str, Any]:
    import json

    path = os.path.join(folder, name)
    try:
        found = json.loads(read_small(path, MOST_JSON_NBYTES))
    except FileNotFoundError as e:
        raise _error(folder, name, "the file is missing") from e
    except LimitError as e:
        raise _error(folder, name, f"it has more than {MOST_JSON_NBYTES} bytes") from e
    except (ValueError, RecursionError) as e:
        raise _error(folder, name, f"it is not JSON: {e}") from e
    if not isinstance(found, dict):
        raise _error(folder, name, "a JSON object expected")
    return found


def _plain(folder: str, file: str, name: object) -> str:
    """Return a name that a file states; it must not lead out of the directory."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise _error(folder, file, f"the name of a file in this directory expected, got {name!r}")
    return name


def _error(folder: str, name: str, reason: str) -> FormatError:
    return FormatError(os.path.join(folder, name), ARROW, reason)
