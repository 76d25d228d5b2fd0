"""The info JSON beside the files of a dataset: read, checked, compared with the records."""

from __future__ import annotations

import marshal
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError, LimitError
from mapix.source import path_beside, read_beside, read_small
from mapix.vimh.files import INFO_NAME, INFO_NBYTES
from mapix.vimh.layout import Hint

if TYPE_CHECKING:
    from mapix.vimh.record_index import RecordIndex

__all__ = [
    "INFO_NAME",
    "INFO_NBYTES",
    "WHAT",
    "disagreements",
    "hint_of",
    "info_of",
    "parse_info",
    "text_beside",
    "with_count",
]

KNOWN_NBYTES, MOST_KNOWN = 1 << 16, 8  # texts up to this size are cached, so many of them
MOST_BRACKETS = 1 << 17  # lists and objects in it
NO_HINT = Hint()
WHAT = "vimh info JSON"  # for errors


def text_beside(data_path: str) -> bytes | None:
    """Return the bytes of the info JSON beside a data file; None where there is none."""
    return read_beside(path_beside(data_path, INFO_NAME), INFO_NBYTES)


def info_of(
    data_path: str,
    info: Mapping[str, Any] | str | os.PathLike[str] | bool,
    beside: bytes | None,
) -> dict[str, Any]:
    """Return the info JSON of a data file: the one beside it, or the one that ``info`` names.

    ``beside`` is what ``text_beside`` returned, for ``info=True``.  Without an info JSON the
    result is empty.
    """
    if isinstance(info, bool):
        if beside is None or not info:
            return {}
        return parse_info(beside, path_beside(data_path, INFO_NAME))
    if isinstance(info, Mapping):
        return dict(info)
    path = os.fspath(info)
    return parse_info(read_small(path, INFO_NBYTES), path)


def shape_of(info: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return the (h, w, c) that an info JSON states; None where it states no possible one."""
    sides = info.get("height"), info.get("width"), info.get("channels")
    for side in sides:
        if type(side) is not int or not 0 < side < 65536:
            return None
    return sides  # type: ignore[return-value]


def hint_of(info: Mapping[str, Any]) -> Hint:
    """Return what an info JSON states about the records."""
    if not info:
        return NO_HINT
    names = info.get("parameter_names")
    return Hint(shape_of(info), len(names) if names else None)


def disagreements(info: Mapping[str, Any], split: str, index: RecordIndex) -> list[str]:
    """Return what an info JSON states about the records of a split, and the file does not hold."""
    found = []
    if info and info.get("format", "VIMH") != "VIMH":
        found.append(f"{info['format']!r} as its format")
    for key in (f"{split}_samples", f"num_{split}_samples"):
        count = info.get(key)
        if type(count) is int and count != index.nrecords:
            found.append(f"{count} samples ({key}), the file holds {index.nrecords}")
    shape = None if info.get("image_sizes") == "mixed" else shape_of(info)
    if shape and index.stride and shape != index.first[1:4]:
        found.append(f"images of {shape}, the file's are {index.first[1:4]}")
    return found


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen = set[str]()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"key {name[:40]!r} appears twice")
            seen.add(name)
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a finite number")
    return number


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def parse_info(data: bytes, path: str) -> dict[str, Any]:
    """Return an info JSON as a new dict.  Texts that were parsed last are parsed once.

    Raises
    ------
    FormatError
        It is not an object, repeats a key, holds NaN or a number beyond float64, or a known key has
        a value of another kind.
    LimitError
        It holds more than MOST_BRACKETS lists and objects.
    """
    if len(data) > KNOWN_NBYTES:
        return _parsed(data, path)
    found: dict[str, Any] = marshal.loads(_known(data, path))
    return found


@lru_cache(MOST_KNOWN)  # shards of a dataset have one text
def _known(data: bytes, path: str) -> bytes:
    return marshal.dumps(_parsed(data, path))


def _parsed(data: bytes, path: str) -> dict[str, Any]:
    import json  # here: a worker of a dataset without an info JSON does not need it

    if data.count(b"[") + data.count(b"{") > MOST_BRACKETS:
        raise LimitError(f"{path}: vimh info JSON: more than {MOST_BRACKETS} lists and objects")
    try:
        info = json.loads(
            data,
            object_pairs_hook=_no_duplicates,
            parse_float=_finite,
            parse_constant=_refuse,
        )
    except RecursionError as e:  # whose text differs among versions of Python
        raise FormatError(path, WHAT, "lists and objects are nested too deeply") from e
    except ValueError as e:
        raise FormatError(path, WHAT, str(e)) from e
    if not isinstance(info, dict):
        raise FormatError(path, WHAT, f"expected an object, got {type(info).__name__}")
    kinds = {"parameter_names": list, "parameter_mappings": dict, "fixed_parameters": dict}
    for key, kind in kinds.items():
        if not isinstance(info.get(key, kind()), kind):
            raise FormatError(path, WHAT, f"{key} must be a {kind.__name__}")
    for key in ("parameter_mappings", "fixed_parameters"):
        for name, entry in info.get(key, {}).items():
            if not isinstance(entry, dict):
                raise FormatError(path, WHAT, f"{key}: {name!r} must be an object")
    return info


def with_count(info: Mapping[str, Any], split: str, n: int) -> dict[str, Any]:
    """Return an info JSON that states n records of a split, under the keys that it has for that."""
    found = dict(info)
    keys = [key for key in (f"{split}_samples", f"num_{split}_samples") if key in info]
    was = info[keys[0]] if keys else None
    found.update(dict.fromkeys(keys, n))
    for key in ("total_samples", "n_samples"):
        if type(was) is int and type(info.get(key)) is int:
            found[key] += n - was
    return found
