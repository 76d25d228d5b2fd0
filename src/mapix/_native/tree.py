"""Trees over boxes: one thin function per function of the compiled core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mapix._native.core import CData, ffi, lib
from mapix.errors import MapixError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Boxes", "Keys", "Tree", "read", "write"]

Keys: TypeAlias = "NDArray[np.uint32]"
Boxes: TypeAlias = "NDArray[np.uint16]"


ITEM_NBYTES = {f"{sign}int{8 * n}_t[]": n for n in (2, 4, 8) for sign in ("", "u")}


def read(kind: str, array: NDArray[Any]) -> CData:
    """Return a pointer for the core to read an array by.

    Raises
    ------
    ValueError
        The array is not contiguous, or its items have another size.
    """
    if not array.flags.c_contiguous or array.itemsize != ITEM_NBYTES.get(kind, array.itemsize):
        raise ValueError(f"the core needs a contiguous {kind}, got {array.dtype} {array.strides}")
    return ffi.from_buffer(kind, array)


def write(kind: str, array: NDArray[Any]) -> CData:
    """Return a pointer for the core to write an array by."""
    return ffi.from_buffer(kind, array, require_writable=True)


class Tree:
    """A packed tree over boxes.

    Attributes
    ----------
    n : int
        How many boxes.
    nodes : ndarray
        uint16 (m, 64): the boxes of the children of each node.
    order : ndarray
        uint32 (n,): numbers of the boxes in the order of the leaves.
    """

    __slots__ = ("_pointers", "n", "nodes", "order")

    def __init__(self, boxes: Boxes) -> None:
        n = len(boxes)
        self.n = n
        self.nodes = np.empty((self.nodes_of(n), 64), np.uint16)
        self.order = np.empty(n, np.uint32)
        scratch = np.empty(2 * n, np.uint64)
        status = lib.mapix_tree_build(
            *(read("uint16_t[]", boxes), n, write("uint16_t[]", self.nodes)),
            *(write("uint32_t[]", self.order), write("uint64_t[]", scratch)),
        )
        if status:
            raise MapixError(f"a tree over {n} boxes: internal error, status {status}")
        self._point()

    def _point(self) -> None:
        nodes, order = read("uint16_t[]", self.nodes), read("uint32_t[]", self.order)
        self._pointers = (nodes, order, self.n)

    @staticmethod
    def nodes_of(n: int) -> int:
        """Return the number of nodes of a tree over n boxes."""
        return int(lib.mapix_tree_nodes(n))

    @classmethod
    def known(cls, nodes: Boxes, order: Keys) -> Tree:
        """Return a tree of stored tables.  The caller has checked that its numbers are below n."""
        made = cls.__new__(cls)
        made.n, made.nodes, made.order = len(order), nodes, order
        made._point()
        return made

    def search(self, window: Boxes) -> Keys:
        """Return the numbers of the boxes that share a pixel with a window, in no order."""
        room = 64
        count = ffi.new("uint64_t *")
        box = read("uint16_t[]", window)
        while True:
            found = np.empty(room, np.uint32)
            lib.mapix_tree_search(*self._pointers, box, write("uint32_t[]", found), room, count)
            if count[0] <= room:
                return found[: int(count[0])]
            room = int(count[0])

    def search_many(self, windows: Boxes) -> tuple[Keys, NDArray[np.uint32]]:
        """Return the sorted numbers for each of windows (n, 4), and the count of each window."""
        n = len(windows)
        counts = np.empty(n, np.uint32)
        at, count = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        box, into = read("uint16_t[]", windows), write("uint32_t[]", counts)
        room, every = max(64 * n, 1 << 12), [np.empty(0, np.uint32)]
        while at[0] < n:
            found, before = np.empty(room, np.uint32), int(at[0])
            where = (write("uint32_t[]", found), room, count, into)
            lib.mapix_tree_search_many(*self._pointers, box, n, at, *where)
            every.append(found[: int(count[0])])
            if at[0] == before:
                room *= 4
        return np.concatenate(every), counts
