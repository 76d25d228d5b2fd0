"""The three interfaces on which the queries of archives are written, for one file and several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mapix._native.tree import Tree
    from mapix.iid.archive_base import Boxes
    from mapix.iid.argument_checks import Keys, Text
    from mapix.iid.names import Pair

__all__ = ["Bits", "NameQueries"]


class Bits(Protocol):
    """Calculations on the packed bits of many segments.  Keys are in range."""

    def masks(
        self, keys: Keys, windows: Boxes, offsets: NDArray[np.uint64], out: NDArray[np.uint8]
    ) -> None:
        """Write the masks within windows (n, 4) to ``out``, at offsets (n + 1,)."""

    def count(self, keys: Keys, windows: Boxes, *, any: bool = False) -> Keys:
        """Return the pixels within windows (n, 4), or 1 if there is any, uint32 (n,)."""

    def overlaps(self, keys: Keys, tree: Tree, most: int, most_work: int) -> Keys | None:
        """Return key, higher key and shared pixels of all pairs that share any, (3, n), sorted.

        ``tree`` is over the boxes of ``keys``.  Return None if there are more than ``most`` pairs,
        or if more than about ``most_work`` ns are needed.
        """

    def paint(
        self,
        keys: Keys,
        values: NDArray[np.int32],
        boxes: Boxes,
        window: Boxes,
        labels: NDArray[np.int32],
        depth: NDArray[np.uint16] | None,
    ) -> None:
        """Write the value of the last key at each pixel to ``labels``, and the count to ``depth``.

        Both arrays have the shape of the window.
        """

    def combine(self, keys: Keys, what: int, window: Boxes, canvas: NDArray[np.uint64]) -> None:
        """Combine masks in turn with packed rows (h, words): 0 or, 1 and, 2 and-not."""

    def rle(self, keys: Keys, size: tuple[int, int], *, text: bool) -> list[str] | list[list[int]]:
        """Return COCO's run lengths in an image (h, w), compressed text or lists."""


class NameQueries(Protocol):
    """Queries by name.  Returned keys are uint32, ascending."""

    @property
    def domains(self) -> list[bytes]:
        """All domains, sorted."""

    def each(self, keys: Keys) -> list[Pair]:
        """Return (domain, iid) of keys."""

    def first_in(self, domain: bytes, iids: Sequence[Text]) -> NDArray[np.int64]:
        """Return the lowest key of each name in a domain, or -1."""

    def all_of(self, domain: Text, iid: Text) -> Keys:
        """Return all keys of a name."""

    def with_iid(self, iid: bytes) -> Keys:
        """Return the keys of an iid in any domain."""

    def in_domains(self, domains: Sequence[bytes]) -> Keys:
        """Return the keys of some domains."""

    def hashes(self, part: str = "name", seed: int = 0) -> NDArray[np.uint64]:
        """Return the hash of each name, or of its "iid" or "domain" alone, uint64 (n,)."""

    def duplicates(self) -> list[Keys]:
        """Return the keys that share a name, for each name of several segments."""
