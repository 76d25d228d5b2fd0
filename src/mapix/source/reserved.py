"""Memory that Python reserves, for remote objects, snapshots, and where the C module is missing."""

from __future__ import annotations

import mmap

from mapix import _native

__all__ = ["HUGE_NBYTES", "reserved"]

HUGE_NBYTES = 2 << 20  # a huge page


class _Memory(mmap.mmap):
    """Memory that is unmapped when the last array over it is deleted, and not before."""

    def close(self) -> None:
        """Refuse: numpy holds a reference to the map as the base of arrays, but no export."""
        raise BufferError("arrays may alias this map; it is unmapped when the last one is deleted")


def reserved(nbytes: int, path: str) -> tuple[_Memory, int]:
    """Reserve memory into which a file will be mapped, and return where in it the file begins.

    A file of a huge page or more begins at a multiple of one.  Only then can the kernel map its
    page cache by huge pages, so that random records need no walk through page tables.
    """
    room = HUGE_NBYTES if nbytes >= HUGE_NBYTES else 0
    try:
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        memory = _Memory(-1, nbytes + room, flags=kind, prot=mmap.PROT_READ)
    except OSError as e:
        raise OSError(e.errno, f"cannot map: {e.strerror}", path) from e
    return memory, -_native.address_of(_native.buffer_of(memory)) % room if room else 0
