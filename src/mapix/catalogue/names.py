"""Hashes of the names of records, as docs/iid.md states them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix._native.iid import name_hashes

__all__ = ["hash_of", "hashes_of"]


def hash_of(name: Sequence[bytes]) -> int:
    """Return the hash of a name: of domain and iid, or of one text."""
    return int(_hashes([name])[0])


def hashes_of(ds: Any) -> NDArray[np.uint64] | None:
    """Return the hash of each record's name, uint64 (n,); None where records have no names.

    Hashes that the family computes, or those of its columns ``NAMES``.
    """
    found: NDArray[np.uint64] | None = ds._name_hashes()
    if found is not None or not ds.NAMES or len(ds.NAMES) > 2:
        return found
    columns = [ds.columns[name] for name in ds.NAMES if name in ds.columns]
    if len(columns) < len(ds.NAMES):
        return None
    texts = [[_encoded(value) for value in column.values.tolist()] for column in columns]
    return _hashes(list(zip(*texts, strict=True)))


def _encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else os.fsencode(str(value))


def _hashes(names: Sequence[Sequence[bytes]]) -> NDArray[np.uint64]:
    if not names:
        return np.empty(0, np.uint64)
    pairs = [(b"", *name)[-2:] for name in names]
    ends = np.cumsum([len(text) for pair in pairs for text in pair]).astype(np.uint64)
    return name_hashes(b"".join(text for pair in pairs for text in pair) or b"\0", ends, "name", 0)
