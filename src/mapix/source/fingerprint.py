"""Recognise a file: its identity, size and times, and a sample of its bytes."""

import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mapix import _native

if TYPE_CHECKING:
    from mapix.source.file_map import Mapping

REMOTE = (1 << 64) - 1  # the device of remote objects
SAMPLES = 32  # blocks of a file that are compared in place of its content
SAMPLE_NBYTES = 4096
COARSE_NS = 2_000_000_000  # resolution of times in zip and FAT; that of tar is one second


# Annotations are not text in this module: a NamedTuple would compile each of them.
class Fingerprint(NamedTuple):
    """Identity, size and times of a file when it was opened (fstat), and a sample of its bytes.

    ``sample`` is None in the fingerprint of an open file.  It is computed for fingerprints that are
    stored (``Source.identity``), so that the same content is recognised elsewhere.
    """

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    nlink: int
    sample: int | None = None

    @classmethod
    def of(cls, s: os.stat_result) -> "Fingerprint":
        """Make a fingerprint of a stat result."""
        return cls(
            s.st_dev,
            s.st_ino,
            s.st_size,
            s.st_mtime_ns,
            s.st_ctime_ns,
            s.st_mode,
            s.st_uid,
            s.st_gid,
            s.st_nlink,
        )

    @classmethod
    def of_file(cls, file: "_native.OpenFile") -> "Fingerprint":
        """Make a fingerprint of an open file, as it was when it was opened."""
        return tuple.__new__(cls, (*file.state, None))

    @property
    def owner(self) -> tuple[int, int, int]:
        """Mode, user and group."""
        return self[5:8]

    def difference(self, now: "Fingerprint") -> str | None:
        """Return a text that states what changed since then; None if the bytes can be the same.

        A change of ctime alone is harmless if permissions, owner or link count explain it (chmod, a
        hard link, a rename that replaced the file while this process has the old one open).
        Without such an explanation, a process may have written and set the mtime back.
        """
        if (self.dev, self.ino) != (now.dev, now.ino):
            if self.dev == now.dev == REMOTE:
                return "the object has another ETag, or its server states none"
            return "the file was replaced by another one"
        if self.size != now.size:
            return f"the file had {self.size} bytes, now it has {now.size}"
        if self.mtime_ns != now.mtime_ns:
            return "the file was written to (its modification time changed)"
        explained = (self.mode, self.uid, self.gid, self.nlink) != (
            now.mode,
            now.uid,
            now.gid,
            now.nlink,
        )
        if self.ctime_ns != now.ctime_ns and not explained:
            return "the file was touched (its change time changed, its modification time did not)"
        return None


MODE = Fingerprint._fields.index("mode")


def fingerprint_of_object(tag: str | None, nbytes: int, modified_ns: int) -> "Fingerprint":
    """Return the fingerprint of a remote object; without a tag it equals no other one."""
    import zlib

    raw = os.urandom(16) if tag is None else tag.encode()
    number = _native.crc32c(raw) << 31 | zlib.crc32(raw) >> 1
    owner = os.geteuid(), os.getegid()
    return Fingerprint(REMOTE, number, nbytes, modified_ns, modified_ns, 0o400, *owner, 1)


def sample(mapping: "Mapping", nbytes: int) -> int:
    """Return the CRC32C of the first ``nbytes`` of a file, or of 32 blocks of 4 KiB in them.

    Up to 128 KiB, all bytes are read.  Above, the blocks are the first one, the last one, and one
    in each of 30 equal stretches between them, at offsets that depend on ``nbytes`` alone.

    Raises
    ------
    FileChangedError
        The file was changed or cut.
    """
    if nbytes <= SAMPLES * SAMPLE_NBYTES:
        places, size = [0] if nbytes else [], nbytes
    else:
        size, stretch = SAMPLE_NBYTES, (nbytes - 2 * SAMPLE_NBYTES) // (SAMPLES - 2)
        places, state = [0], nbytes
        for at in range(size, size + stretch * (SAMPLES - 2), stretch):
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            places.append(at + (state >> 32) % (stretch - size + 1))
        places.append(nbytes - size)
    return _native.file_crc32c(mapping, np.array(places, np.int64), size)


def same_time(a: int, b: int) -> bool:
    """Return whether two times in ns are equal, or one can be the other after rounding down.

    tar, zip and some file systems store times rounded down to one or two seconds.
    """
    early, late = min(a, b), max(a, b)
    return a == b or (late - early < COARSE_NS and early % 1_000_000_000 == 0)


def content_difference(expect: "Fingerprint", mapping: "Mapping") -> str | None:
    """Return a text on how a file differs from the expected one; None for the same content."""
    now = mapping.fingerprint
    moved = expect.difference(now)
    if moved is None or expect.sample is None:
        return moved
    if expect.size != now.size or not same_time(expect.mtime_ns, now.mtime_ns):
        return moved
    if sample(mapping, mapping.nbytes) == expect.sample:
        return None
    return "other bytes were written to the file (its size and modification time are the same)"
