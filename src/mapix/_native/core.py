"""The compiled core: status, maps, pointers, bytes.

One function per C function: it passes arguments on, and turns a status into an exception by
``mapix._native.problems``.  ``csrc/mapix.h`` documents what each C function reads, writes and
promises.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mapix._core import ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Mapping

__all__ = [
    "BY_PATH",
    "CHANGED",
    "FAULT",
    "NORMAL",
    "OF_ANOTHER",
    "OK",
    "RANDOM",
    "REPLACEABLE",
    "SEQUENTIAL",
    "SYSTEM",
    "TRUSTED",
    "UNCHECKED",
    "WRITABLE",
    "CData",
    "IntArray",
    "OpenFile",
    "Where",
    "address_of",
    "advise",
    "ask_for",
    "base_of",
    "buffer_of",
    "c_path",
    "cast",
    "check",
    "constant",
    "copy",
    "crc32c",
    "crc32c_blocks",
    "distrust",
    "exported",
    "ffi",
    "file_crc32c",
    "is_settled",
    "lib",
    "map_file",
    "new_held_map",
    "new_map",
    "new_sparse_map",
    "read_file",
    "warm",
    "where_of",
    "willneed",
    "writable",
]

READ_STEP_NBYTES = 64 << 20  # read between two checks for Ctrl-C
HEADER_NBYTES = 4096  # copies up to this size may be of the header of a file

CData = Any
IntArray: TypeAlias = "NDArray[np.int64]"
WARM_BLOCK_NBYTES = 1 << 20

# --- status -------------------------------------------------------------------------------------

OK: int = lib.MAPIX_OK
FAULT: int = lib.MAPIX_E_FAULT
CHANGED: int = lib.MAPIX_E_CHANGED
SYSTEM: int = lib.MAPIX_E_SYSTEM


Where: TypeAlias = "tuple[int, int, int, int]"
"""Where a C call stopped: record, byte, and the numbers expected and found: ``mapix_where``."""


def where_of(w: CData) -> Where:
    """Copy a ``mapix_where``."""
    return w.record, w.at, w.expected, w.got


# --- maps ---------------------------------------------------------------------------------------


UNCHECKED: int = lib.MAPIX_UNCHECKED
BY_PATH: int = lib.MAPIX_BY_PATH
NORMAL: int = lib.MAPIX_NORMAL
RANDOM: int = lib.MAPIX_RANDOM
SEQUENTIAL: int = lib.MAPIX_SEQUENTIAL
ABSENT: int = lib.MAPIX_ABSENT
_BYTES = ffi.typeof("uint8_t *")
ABOUT = struct.Struct("=3Q2q5Q")  # mapix_about, without the first bytes


class OpenFile:
    """A descriptor, what fstat states of its file, and the first bytes.

    Whoever made it closes it: nothing closes it otherwise.

    Attributes
    ----------
    cmap : CData
        A ``mapix_map`` without memory, whose ``fd`` is the descriptor; -1 where none is open.
    state : tuple
        Device, inode, size, mtime and ctime in ns, mode, user, group, links: as ``Fingerprint``.
    front : bytes or None
        The first bytes; None where they could not be read, or the file was changed meanwhile.
    absent : bool
        Whether they are not in memory, and the kernel was asked for them: call ``read``.
    index : CData or None
        Of a stored index its header, a ``mapix_index``.
    given : bool
        Whether the descriptor has another owner now: ``close`` does nothing.
    """

    __slots__ = ("absent", "cmap", "front", "given", "index", "state")

    def __init__(self) -> None:
        self.cmap = ffi.new("mapix_map *")
        self.cmap.fd = UNCHECKED
        self.given = False

    def open(self, path: bytes, nfront: int, *, wait: bool = True) -> int:
        """Open a file and read its first bytes: ``mapix_open``.

        Returns 0, or the system's errno.
        """
        if b"\0" in path:
            raise ValueError("embedded null byte")
        about = ffi.new("mapix_about *")
        if lib.mapix_open(path, self.cmap, about, nfront, wait):
            return int(ffi.errno)
        self._take(about)
        return 0

    def open_index(
        self, path: bytes, owner: tuple[int, int, int], nbytes: int, options: bytes
    ) -> int:
        """Open the stored index of a file of ``nbytes``, and read its header: ``mapix_index_open``.

        ``owner`` is the mode, user and group of the file.  Returns 0, and ``index`` is the header;
        nothing is open, and it is None, where the index is not trusted or cannot be used.  Or
        returns the system's errno.
        """
        about, found = ffi.new("mapix_about *"), ffi.new("mapix_index *")
        data = ffi.new("mapix_owner *", owner)
        status = lib.mapix_index_open(path, data, nbytes, options, self.cmap, about, found)
        if status:
            self.index = None
            return int(ffi.errno) if status == SYSTEM else 0
        self._take(about)
        self.index = found
        return 0

    def take(self, opener: Callable[[], int], nfront: int) -> None:
        """Own the descriptor that ``opener`` returns, and read the first bytes.

        Raises
        ------
        OSError
            ``opener`` or fstat fails; the descriptor is closed.
        """
        about = ffi.new("mapix_about *")
        self.cmap.fd = opener()
        self._read(about, nfront)

    def read(self, nfront: int) -> None:
        """Read the first bytes; wait for the disk."""
        self._read(ffi.new("mapix_about *"), nfront)

    def _read(self, about: CData, nfront: int) -> None:
        try:
            if lib.mapix_describe(self.cmap, about, nfront, True):
                raise OSError(ffi.errno, os.strerror(ffi.errno))
        except BaseException:
            self.close()
            raise
        self._take(about)

    def _take(self, about: CData) -> None:
        try:
            raw = ffi.buffer(about)
            *state, n = ABOUT.unpack_from(raw)
            self.state = tuple(state)
            self.absent = n == ABSENT
            self.front = None if n >= ABSENT else raw[ABOUT.size : ABOUT.size + n]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptor, if it is open."""
        if not self.given:
            lib.mapix_shut(self.cmap)


def ask_for(path: str) -> None:
    """Have the kernel read the beginning of a file: ``mapix_ask``."""
    lib.mapix_ask(os.fsencode(path))


def is_settled(path: str, journal: str, nbytes: int) -> bool:
    """Return whether a path leads to a file of ``nbytes``, and nothing is at ``journal``."""
    return bool(lib.mapix_settled(os.fsencode(path), os.fsencode(journal), nbytes))


TRUSTED: int = lib.MAPIX_TRUSTED
OF_ANOTHER: int = lib.MAPIX_OF_ANOTHER
WRITABLE: int = lib.MAPIX_WRITABLE
REPLACEABLE: int = lib.MAPIX_REPLACEABLE


def distrust(path: str, file: tuple[int, int, int], data: tuple[int, int, int]) -> int:
    """Return whether a stored file is TRUSTED for a data file, or why not: ``mapix_distrust``.

    ``file`` and ``data`` are mode, user and group.  Raises OSError if its folder cannot be checked.
    """
    owners = ffi.new("mapix_owner *", file), ffi.new("mapix_owner *", data)
    found: int = lib.mapix_distrust(os.fsencode(path), *owners)
    if found == lib.MAPIX_NO_FOLDER:
        raise OSError(ffi.errno, os.strerror(ffi.errno), path)
    return found


def new_map(
    buffer: CData, nbytes: int, fd: int, path: CData | None, identity: tuple[int, ...]
) -> CData:
    """Make a ``mapix_map``; the caller keeps ``buffer`` and ``path`` alive.

    ``identity`` is device, inode, size and the times of change in ns: mtime, ctime.
    """
    m = ffi.new("mapix_map *")
    m.base = buffer
    m.nbytes = nbytes
    m.fd = fd
    if path is not None:
        m.path = path
    m.dev, m.ino, m.size, m.mtime_ns, m.ctime_ns = identity
    return m


def new_held_map(buffer: CData, nbytes: int) -> CData:
    """Make a ``mapix_map`` of memory that never changes; the caller keeps ``buffer`` alive."""
    m = ffi.new("mapix_map *")
    m.base, m.nbytes, m.fd = buffer, nbytes, UNCHECKED
    return m


def new_sparse_map(buffer: CData, nbytes: int) -> tuple[CData, CData]:
    """Make a ``mapix_map`` with pages that are not there yet, and return it with its ``fault``.

    The caller keeps ``buffer`` and ``fault`` alive.
    """
    m, fault = ffi.new("mapix_map *"), ffi.new("uint64_t *")
    m.base, m.nbytes, m.fd, m.fault = buffer, nbytes, UNCHECKED, fault
    return m, fault


def map_file(buffer: CData, nbytes: int, fd: int, *, begin: int = 0, shared: bool) -> None:
    """Call ``mapix_map_file``; raise OSError with the system's reason."""
    if lib.mapix_map_file(buffer, nbytes, fd, begin, shared):
        raise OSError(ffi.errno, os.strerror(ffi.errno))


def read_file(buffer: CData, nbytes: int, fd: int) -> int:
    """Read the first bytes of a file into reserved memory, which is read-only again afterwards.

    Returns the number of bytes that there were; raises OSError with the system's reason.
    """
    if lib.mapix_protect(buffer, nbytes, True):
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    try:
        with memoryview(ffi.buffer(buffer, nbytes)) as memory:
            done = 0
            while done < nbytes:
                step = memory[done : done + READ_STEP_NBYTES]
                got = os.preadv(fd, [step], done)
                if not got:
                    break
                done += got
    finally:
        lib.mapix_protect(buffer, nbytes, False)
    return done


def c_path(path: str | bytes) -> CData:
    """Encode a path for the operating system."""
    return ffi.new("char[]", os.fsencode(path))


def base_of(mapping: Mapping) -> int:
    """Return the address of byte 0 of a map, for calls outside the core.

    Raises
    ------
    UnsupportedError
        Not all bytes of a remote object are there.
    """
    _ = mapping.view
    return int(ffi.cast("uintptr_t", mapping.cmap.base))


def check(mapping: Mapping) -> None:
    """Raise FileChangedError if the file differs from the one that was mapped."""
    if lib.mapix_map_check(mapping.cmap):
        mapping.guarded(lib.mapix_map_check)


def advise(mapping: Mapping, advice: int) -> None:
    """Call ``mapix_advise`` with NORMAL, RANDOM or SEQUENTIAL."""
    lib.mapix_advise(mapping.cmap, advice)


def willneed(mapping: Mapping, at: int, nbytes: int) -> None:
    """Call ``mapix_willneed``; the bytes have to lie in the map."""
    lib.mapix_willneed(mapping.cmap, at, nbytes)


def copy(mapping: Mapping, at: int, nbytes: int, format: str) -> bytearray:
    """Copy ``nbytes`` of the file from byte ``at``, under the guard: ``mapix_copy``.

    Few bytes of a map that is not advised yet are read past it: ``mapix_read``.
    """
    past = nbytes <= HEADER_NBYTES and not mapping.access
    call = lib.mapix_read if past else lib.mapix_copy
    out, where = bytearray(nbytes), ffi.new("mapix_where *")
    into = ffi.from_buffer("uint8_t[]", out, require_writable=True)

    def needs() -> tuple[IntArray, IntArray]:
        return np.array([at]), np.array([nbytes])

    status = mapping.guarded(lambda m: call(m, at, nbytes, into, where), needs)
    if status:
        from mapix._native.problems import problem

        raise problem(status, where_of(where), mapping.path, format)
    return out


def file_crc32c(mapping: Mapping, places: IntArray, nbytes: int) -> int:
    """Return the CRC32C of ``nbytes`` from each place, in order: ``mapix_file_crc32c``.

    Raises
    ------
    FormatError
        Not all of these bytes lie in the file.
    """
    found, raw = ffi.new("uint32_t *"), ffi.from_buffer("uint64_t[]", places)
    args = (raw, len(places), nbytes, found)

    def needs() -> tuple[IntArray, IntArray]:
        return places, np.full(len(places), nbytes)

    status = mapping.guarded(lambda m: lib.mapix_file_crc32c(m, *args), needs)
    if status:
        from mapix._native.problems import problem

        where = (0, int(places.max(initial=0)), nbytes, mapping.nbytes)
        raise problem(status, where, mapping.path, "file")
    return int(found[0])


def warm(mapping: Mapping, at: int, nbytes: int) -> None:
    """Bring bytes of the file into the page cache, in order, by copying them."""
    for begin in range(at, at + nbytes, WARM_BLOCK_NBYTES):
        copy(mapping, begin, min(WARM_BLOCK_NBYTES, at + nbytes - begin), "file")


# --- pointers -----------------------------------------------------------------------------------


def buffer_of(data: object) -> CData:
    """Return a pointer to the bytes of a buffer; it keeps the buffer exported."""
    return ffi.from_buffer("uint8_t[]", data)


def exported(data: object, begin: int = 0) -> tuple[CData, CData]:
    """Return a pointer that keeps a buffer exported, and a ``uint8_t *`` to its byte ``begin``."""
    owner = ffi.from_buffer(data)
    return owner, ffi.cast(_BYTES, owner) + begin


def writable(array: NDArray[Any]) -> CData:
    """Return a pointer to the bytes of a writable array; it keeps the array exported."""
    return ffi.from_buffer("uint8_t[]", array, require_writable=True)


def constant(array: NDArray[Any], kind: str) -> CData:
    """Return a pointer to an array that is only read; it keeps the array exported."""
    return ffi.from_buffer(kind, array)


def cast(kind: str, pointer: CData) -> CData:
    """Return the same address as another type.  It does not keep the memory alive."""
    return ffi.cast(kind, pointer)


def address_of(pointer: CData) -> int:
    """Return the address that a pointer holds; it keeps nothing alive."""
    return int(ffi.cast("uintptr_t", pointer))


# --- checksums ----------------------------------------------------------------------------------


def crc32c(data: object, crc: int = 0) -> int:
    """Return the CRC32C of a buffer, continued from ``crc``."""
    buffer = data if type(data) is bytes else buffer_of(data)
    return int(lib.mapix_crc32c(buffer, len(buffer), crc))


def crc32c_blocks(data: object, block: int) -> NDArray[np.uint32]:
    """Return the CRC32C of each block of bytes; 1 in place of 0: ``mapix_crc32c_blocks``."""
    buffer = buffer_of(data)
    crcs = np.empty(-(-len(buffer) // block), np.uint32)
    lib.mapix_crc32c_blocks(buffer, len(buffer), block, ffi.from_buffer("uint32_t[]", crcs))
    return crcs
