"""Groups of keys, and their algebra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mapix import _native
from mapix.errors import FormatError, UnsupportedError
from mapix.iid.argument_checks import as_keys
from mapix.iid.layout import NAME, Place, read_groups
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.iid.segment_file import SegmentFile

__all__ = ["FileGroups", "Group", "Groups"]

Keys: TypeAlias = "NDArray[np.uint32]"


class Group:
    """A set of keys of an archive, with ``&``, ``|``, ``-`` and ``^``.

    Attributes
    ----------
    keys : ndarray
        uint32 (n,): a read-only copy of the keys in the file; after an operation ascending.
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
        return exported(self.keys, dtype, copy)

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
    """Name -> group of an archive."""

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.uint32]:
        raise UnsupportedError("groups are one array each: groups[NAME]")

    def of(self, key: int) -> list[str]:
        """Return the names of the groups that a key is in."""
        return [name for name in self if key in self[name]]

    def _missing(self, path: str, name: str) -> KeyError:
        return KeyError(f"{path}: no group {name!r}; there: {', '.join(self) or 'none'}")


class FileGroups(Groups):
    """The groups in a file.  Each use copies the keys under the guard and checks their range."""

    def __init__(self, file: SegmentFile) -> None:
        self._file = file

    @cached_property
    def _places(self) -> dict[str, Place]:
        return read_groups(self._file.source, self._file.layout)

    def __getitem__(self, name: str) -> Group:
        file = self._file
        if name not in self._places:
            raise self._missing(file.path, name)
        at, n = self._places[name]
        raw = memoryview(_native.copy(file.source.mapping, at, 4 * n, NAME))
        keys = np.frombuffer(raw.toreadonly(), "<u4")
        wrong = keys >= len(file)
        if wrong.any():
            k = int(np.argmax(wrong))
            reason = f"group {name!r} has key {keys[k]} of {len(file)} segments"
            raise FormatError(file.path, NAME, reason, at=at + 4 * k)
        return Group(keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<Groups {', '.join(f'{k}: {n}' for k, (_, n) in self._places.items())}>"
