"""Groups of keys, and their algebra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix.errors import FormatError
from mapix.iid.arguments import as_keys
from mapix.iid.layout import NAME, Place, read_groups

if TYPE_CHECKING:
    from mapix.iid.archive import Archive

__all__ = ["Group", "Groups"]

Keys = NDArray[np.uint32]


class Group:
    """Keys of an archive: a set, with ``&``, ``|``, ``-`` and ``^``.

    Attributes
    ----------
    keys : ndarray
        uint32 (n,): a copy of what the file has, read-only, or ascending after an operation.
    """

    __slots__ = ("keys",)

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self.keys.tolist())

    def __contains__(self, key: object) -> bool:
        return bool((self.keys == key).any())

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.uint32]:
        return np.array(self.keys, dtype=dtype, copy=copy)  # type: ignore[call-overload, no-any-return]

    def __and__(self, other: Group | ArrayLike) -> Group:
        return Group(np.intersect1d(self.keys, _keys(other)))

    def __or__(self, other: Group | ArrayLike) -> Group:
        return Group(np.union1d(self.keys, _keys(other)))

    def __sub__(self, other: Group | ArrayLike) -> Group:
        return Group(np.setdiff1d(self.keys, _keys(other)))

    def __xor__(self, other: Group | ArrayLike) -> Group:
        return Group(np.setxor1d(self.keys, _keys(other)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group | np.ndarray | set | frozenset):
            return NotImplemented
        if isinstance(other, np.ndarray):
            return set(self.keys.tolist()) == set(other.ravel().tolist())
        return set(self.keys.tolist()) == set(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Group of {len(self)} keys>"


def _keys(other: Group | ArrayLike) -> Keys:
    return as_keys(other, 1 << 32, "keys")


class Groups(Mapping[str, Group]):
    """Name -> keys.  Each use copies the keys of a group under the guard and checks their range."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    @cached_property
    def _places(self) -> dict[str, Place]:
        return read_groups(self._archive.source, self._archive.layout)

    def __getitem__(self, name: str) -> Group:
        a = self._archive
        if name not in self._places:
            raise KeyError(
                f"{a.path}: no group {name!r}; there: {', '.join(self._places) or 'none'}"
            )
        at, n = self._places[name]
        raw = memoryview(_native.copy(a.source.mapping, at, 4 * n, NAME))
        keys = np.frombuffer(raw.toreadonly(), "<u4")
        wrong = keys >= len(a)
        if wrong.any():
            k = int(np.argmax(wrong))
            reason = f"group {name!r} has key {keys[k]} of {len(a)} segments"
            raise FormatError(a.path, NAME, reason, at=at + 4 * k)
        return Group(keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def of(self, key: int) -> list[str]:
        """Names of the groups that a key is in."""
        return [name for name in self if key in self[name]]

    def __repr__(self) -> str:
        return f"<Groups {', '.join(f'{k}: {n}' for k, (_, n) in self._places.items())}>"
