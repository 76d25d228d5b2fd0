"""Names of segments: (domain, iid) by key, keys by name, domains."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix._native.iid import NONE, Table
from mapix.iid.arguments import Text, as_bytes
from mapix.iid.layout import NAME

if TYPE_CHECKING:
    from mapix.iid.archive import Archive

__all__ = ["Names", "Text", "as_bytes"]

Pair = tuple[bytes, bytes]
HEAD_NBYTES = 12
LONG_NBYTES = 1 << 12  # of a name: those of a table that is not checked may all be the same bytes
GATHERED = 1 << 18  # bytes whose places are listed at once


class Names:
    """The names of an archive; tables over them are made when they are first asked for."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def of(self, key: int) -> Pair:
        """(domain, iid) of a key."""
        a = self._archive
        found = a._iid.text(a.source.mapping, key)
        if sum(map(len, found)) > LONG_NBYTES:
            a.check_table()
        return found

    def each(self, keys: NDArray[np.uint32]) -> list[Pair]:
        """(domain, iid) of keys."""
        a = self._archive
        a.check_table()
        return a._iid.texts(a.source.mapping, keys) if len(keys) else []

    # --- keys by name -----------------------------------------------------------------------------

    @cached_property
    def _table(self) -> Table:
        a = self._archive
        a.check_table()
        seed = secrets.randbits(64)  # nobody can write names that all meet in one place
        return a._iid.names(a.source.mapping, seed)

    def first(self, names: Sequence[Pair]) -> NDArray[np.int64]:
        """Lowest key of each name, -1 where nobody has it."""
        a = self._archive
        if not len(a) or not names:
            return np.full(len(names), -1, np.int64)
        parts = [p for pair in names for p in pair]
        ends = np.cumsum(np.fromiter(map(len, parts), np.uint64, len(parts)), dtype=np.uint64)
        return a._iid.find(a.source.mapping, self._table, b"".join(parts) or b"\0", ends)

    def first_in(self, domain: bytes, iids: Sequence[Text]) -> NDArray[np.int64]:
        """The same for many names in one domain."""
        a, n = self._archive, len(iids)
        if not len(a) or not n:
            return np.full(n, -1, np.int64)
        parts = [as_bytes(i) for i in iids] if any(type(i) is not bytes for i in iids) else iids
        ends = np.empty((n, 2), np.uint64)
        lengths = np.fromiter(map(len, parts), np.uint64, n) + np.uint64(len(domain))
        np.cumsum(lengths, out=ends[:, 1])
        ends[0, 0], ends[1:, 0] = 0, ends[:-1, 1]
        ends[:, 0] += np.uint64(len(domain))
        text = domain + domain.join(cast(Sequence[bytes], parts))
        return a._iid.find(a.source.mapping, self._table, text or b"\0", ends.reshape(-1))

    def all_of(self, domain: bytes, iid: bytes) -> NDArray[np.uint32]:
        """All keys of a name, ascending."""
        a = self._archive
        if not len(a):
            return np.empty(0, np.uint32)
        table = self._table
        key = a._iid.find_one(a.source.mapping, table, domain, iid)
        if key < 0:
            return np.empty(0, np.uint32)
        found = [key]
        while (key := int(table.chain[key])) != NONE:
            found.append(key)
        return np.array(found, np.uint32)

    def duplicates(self) -> list[NDArray[np.uint32]]:
        """Keys that share a name, for each name that several have."""
        chain = self._table.chain
        behind = np.zeros(len(chain), bool)
        later = chain[chain != NONE]
        behind[later] = True
        heads = np.flatnonzero((chain != NONE) & ~behind)
        found = []
        for key in heads.tolist():
            keys = [key]
            while chain[keys[-1]] != NONE:
                keys.append(int(chain[keys[-1]]))
            found.append(np.array(keys, np.uint32))
        return found

    # --- domains ----------------------------------------------------------------------------------

    def _section(self) -> NDArray[np.uint8]:
        """The section of names, copied under the guard."""
        a = self._archive
        return np.frombuffer(_native.copy(a.source.mapping, *a.layout.iids, NAME), np.uint8)

    @cached_property
    def _lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Byte of each name in its section, and the lengths of domain and iid; all checked."""
        a = self._archive
        a.check_table()
        lut = a._lut
        at = lut["name_at"].astype(np.int64)
        heads = _gathered(self._section(), at, HEAD_NBYTES).view("<u4").reshape(-1, 3)
        ndomain, niid = (heads[:, k].astype(np.int64) for k in (1, 2))
        wrong = (heads[:, 0] != np.arange(len(a))) | (
            HEAD_NBYTES + ndomain + niid != lut["name_nbytes"]
        )
        if wrong.any():
            self.of(int(np.argmax(wrong)))  # raises
        return at, ndomain, niid

    @cached_property
    def _domains(self) -> tuple[list[bytes], NDArray[np.int64]]:
        at, ndomain, _ = self._lengths
        return _unique_texts(self._section(), at + HEAD_NBYTES, ndomain)

    @property
    def domains(self) -> list[bytes]:
        """All domains, sorted."""
        return self._domains[0]

    @property
    def domain_of(self) -> NDArray[np.int64]:
        """Number of each segment's domain in ``domains``, (n,)."""
        return self._domains[1]

    @cached_property
    def _iids(self) -> tuple[list[bytes], NDArray[np.int64]]:
        at, ndomain, niid = self._lengths
        return _unique_texts(self._section(), at + HEAD_NBYTES + ndomain, niid)

    def with_iid(self, iid: bytes) -> NDArray[np.uint32]:
        """Keys whose name within their domain is ``iid``, whatever the domain."""
        known, number = self._iids
        if iid not in known:
            return np.empty(0, np.uint32)
        return np.flatnonzero(number == known.index(iid)).astype(np.uint32)

    def in_domains(self, domains: Sequence[bytes]) -> NDArray[np.uint32]:
        """Keys of some domains, ascending."""
        known = self.domains
        numbers = [known.index(d) for d in domains if d in known]
        return np.flatnonzero(np.isin(self.domain_of, numbers)).astype(np.uint32)


def _gathered(data: NDArray[np.uint8], at: NDArray[np.int64], nbytes: int) -> NDArray[np.uint8]:
    """Bytes at many places, (n, nbytes).  The places were proven to lie in the section."""
    found = np.empty((len(at), nbytes), np.uint8)
    step = max(1, GATHERED // max(nbytes, 1))
    for first in range(0, len(at), step):
        part = slice(first, first + step)
        np.take(data, at[part, None] + np.arange(nbytes), out=found[part])
    return found


def _unique_texts(
    data: NDArray[np.uint8], at: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[list[bytes], NDArray[np.int64]]:
    """Different texts, sorted, and the number of each place's text among them."""
    texts: list[bytes] = []
    number = np.empty(len(at), np.int64)
    for length in np.unique(lengths).tolist():
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
