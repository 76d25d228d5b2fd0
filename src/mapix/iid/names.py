"""Names of the segments of one file: (domain, iid) by key, keys by name, domains."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from mapix import _native
from mapix._native import iid as native
from mapix._native.iid import NONE
from mapix.iid.argument_checks import Text, as_bytes
from mapix.iid.layout import NAME, NAME_HEAD
from mapix.selection import distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.iid.segment_file import SegmentFile

__all__ = ["Names", "Pair", "back_to_back", "name_hashes"]

Pair = tuple[bytes, bytes]
"""Domain and iid."""

GATHERED_NBYTES = 1 << 18  # whose places are listed at once
FEW_OF = 16  # names of fewer than one segment in so many: their rows alone are checked


class Names:
    """The names in a file.  Tables of them are made when they are first needed, and cached."""

    def __init__(self, file: SegmentFile) -> None:
        self._file = file
        self.all_of = file.find

    def each(self, keys: NDArray[np.uint32]) -> list[Pair]:
        """Return (domain, iid) of keys."""
        file = self._file
        if len(keys) * FEW_OF > len(file):
            file.check_table()
        return file.native.texts(keys, file.check_table) if len(keys) else []

    # --- keys by name -----------------------------------------------------------------------------

    def first_in(self, domain: bytes, iids: Sequence[Text]) -> NDArray[np.int64]:
        """Return the lowest key of each name in a domain, or -1, int64 (n,)."""
        return self._file.find_many(domain, iids)

    def duplicates(self) -> list[NDArray[np.uint32]]:
        """Return the keys that share a name, for each name of several segments."""
        chain = self._file.names.chain
        first = chain != NONE
        first[chain[first].astype(np.int64)] = False
        found = []
        for key in np.flatnonzero(first).tolist():
            keys = [key]
            while chain[keys[-1]] != NONE:
                keys.append(int(chain[keys[-1]]))
            found.append(np.array(keys, np.uint32))
        return found

    def hashes(self, part: str = "name", seed: int = 0) -> NDArray[np.uint64]:
        """Return the hash of each name, or of its "iid" or "domain" alone, uint64 (n,)."""
        self._file.check_table()
        return self._file.native.hashes(part, seed)

    # --- domains ----------------------------------------------------------------------------------

    def _section(self) -> NDArray[np.uint8]:
        """Return the section of names, copied under the guard."""
        file = self._file
        return np.frombuffer(_native.copy(file.source.mapping, *file.layout.iids, NAME), np.uint8)

    @cached_property
    def _lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Byte of each name in its section, and the lengths of domain and iid; all checked."""
        self._file.check_table()
        lut = self._file.lut
        at = lut["name_at"].astype(np.int64)
        heads = _gathered(self._section(), at, NAME_HEAD.size).view("<u4").reshape(-1, 3)
        ndomain, niid = (heads[:, k].astype(np.int64) for k in (1, 2))
        wrong = (heads[:, 0] != np.arange(len(lut))) | (
            NAME_HEAD.size + ndomain + niid != lut["name_nbytes"]
        )
        if wrong.any():
            self._file.name(int(np.argmax(wrong)))  # raises
        return at, ndomain, niid

    @cached_property
    def _domains(self) -> tuple[list[bytes], NDArray[np.int64]]:
        at, ndomain, _ = self._lengths
        return _unique_texts(self._section(), at + NAME_HEAD.size, ndomain)

    @property
    def domains(self) -> list[bytes]:
        """All domains, sorted."""
        return self._domains[0]

    @cached_property
    def _iids(self) -> tuple[list[bytes], NDArray[np.int64]]:
        at, ndomain, niid = self._lengths
        return _unique_texts(self._section(), at + NAME_HEAD.size + ndomain, niid)

    def with_iid(self, iid: bytes) -> NDArray[np.uint32]:
        """Return the keys of an iid in any domain, ascending."""
        known, number = self._iids
        if iid not in known:
            return np.empty(0, np.uint32)
        return np.flatnonzero(number == known.index(iid)).astype(np.uint32)

    def in_domains(self, domains: Sequence[bytes]) -> NDArray[np.uint32]:
        """Return the keys of some domains, ascending."""
        known = self.domains
        numbers = [known.index(d) for d in domains if d in known]
        return np.flatnonzero(np.isin(self._domains[1], numbers)).astype(np.uint32)


def name_hashes(
    domain: bytes, iids: Sequence[Text], part: str = "name", seed: int = 0
) -> NDArray[np.uint64]:
    """Return the hashes of names in a domain, as ``Names.hashes`` returns those of a file."""
    if not len(iids):
        return np.empty(0, np.uint64)
    return native.name_hashes(*back_to_back(domain, iids), part, seed)


def back_to_back(domain: bytes, iids: Sequence[Text]) -> tuple[bytes, NDArray[np.uint64]]:
    """Return domain and iid of each name in one piece, and where each domain and iid ends."""
    n = len(iids)
    parts = [as_bytes(i) for i in iids] if any(type(i) is not bytes for i in iids) else iids
    ends = np.empty((n, 2), np.uint64)
    lengths = np.fromiter(map(len, parts), np.uint64, n) + np.uint64(len(domain))
    np.cumsum(lengths, out=ends[:, 1])
    ends[0, 0], ends[1:, 0] = 0, ends[:-1, 1]
    ends[:, 0] += np.uint64(len(domain))
    text = domain + domain.join(cast(Sequence[bytes], parts))
    return text or b"\0", ends.reshape(-1)


def _gathered(data: NDArray[np.uint8], at: NDArray[np.int64], nbytes: int) -> NDArray[np.uint8]:
    """Return the bytes at many places, (n, nbytes).  The caller has checked the places."""
    found = np.empty((len(at), nbytes), np.uint8)
    step = max(1, GATHERED_NBYTES // max(nbytes, 1))
    for first in range(0, len(at), step):
        part = slice(first, first + step)
        np.take(data, at[part, None] + np.arange(nbytes), out=found[part])
    return found


def _unique_texts(
    data: NDArray[np.uint8], at: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[list[bytes], NDArray[np.int64]]:
    """Return the different texts, sorted, and the number of each place's text among them."""
    texts: list[bytes] = []
    number = np.empty(len(at), np.int64)
    for length in distinct(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        if length == 0:
            number[rows] = len(texts)
            texts.append(b"")
            continue
        raw = np.ascontiguousarray(_gathered(data, at[rows], length))
        unique, inverse = np.unique(raw.view(f"V{length}").reshape(-1), return_inverse=True)
        number[rows] = inverse.reshape(-1) + len(texts)
        texts += [bytes(t) for t in unique.tolist()]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    place = np.empty(len(texts), np.int64)
    place[order] = np.arange(len(texts))
    return [texts[k] for k in order], place[number] if len(texts) else number
