"""A file system of one file, ``x.idx``, with direct I/O: it allows private maps only.

``python tests/fuse_direct.py FOLDER`` mounts it, prints ``ready``, and serves until its input ends.
With ``broken`` after it, the file can be mapped as usual, and all reads of its second page fail as
those of a broken disk do.
Speaks to ``/dev/fuse`` itself; needs the right to mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import threading

DATA = b"\0\0\x08\x03" + struct.pack(">3I", 100, 8, 8) + bytes(range(100)) * 64
ROOT, FILE = 1, 2
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE = 1, 2, 3, 14, 15, 18
FLUSH, INIT, OPENDIR, BATCH_FORGET = 25, 26, 27, 42
DIRECT_IO = 1
BROKEN = sys.argv[2:] == ["broken"]
PAGE = 4096


def attributes(node: int) -> bytes:
    mode, size = (0o40755, 0) if node == ROOT else (0o100644, len(DATA))
    return struct.pack("<6Q10I", node, size, 1, 1, 1, 1, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(operation: int, node: int, body: bytes) -> bytes | None:
    """Return the answer for the kernel; None if it expects none."""
    if operation in (FORGET, BATCH_FORGET):
        return None
    if operation == INIT:
        return struct.pack("<4I2H2I2HI", 7, 31, 0, 0, 0, 0, 65536, 1, 0, 0, 0) + bytes(28)
    if operation == GETATTR:
        return struct.pack("<Q2I", 1, 0, 0) + attributes(node)
    if operation == LOOKUP and body.rstrip(b"\0") == b"x.idx":
        return struct.pack("<4Q2I", FILE, 0, 1, 1, 0, 0) + attributes(FILE)
    if operation in (OPEN, OPENDIR):
        return struct.pack("<Q2I", 1, DIRECT_IO if operation == OPEN and not BROKEN else 0, 0)
    if operation == READ:
        _, at, size = struct.unpack_from("<2QI", body)
        if BROKEN and at < 2 * PAGE and at + size > PAGE:
            raise OSError(errno.EIO, "")
        return DATA[at : at + size]
    if operation in (FLUSH, RELEASE):
        return b""
    raise OSError(errno.ENOENT if operation == LOOKUP else errno.ENOSYS, "")


def serve(fd: int) -> None:
    while True:
        try:
            request = os.read(fd, 1 << 17)
        except OSError:  # unmounted
            return
        nbytes, operation, number, node = struct.unpack_from("<2I2Q", request)
        try:
            found, problem = answer(operation, node, request[40:nbytes]), 0
        except OSError as e:
            found, problem = b"", -(e.errno or errno.EIO)
        except BaseException:
            os._exit(1)  # closes the descriptor, so that no process waits for an answer
        if found is not None:
            os.write(fd, struct.pack("<IiQ", 16 + len(found), problem, number) + found)


def main(folder: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open("/dev/fuse", os.O_RDWR)
    except OSError as e:
        print(e)
        return
    options = b"fd=%d,rootmode=40000,user_id=%d,group_id=%d" % (fd, os.getuid(), os.getgid())
    if libc.mount(b"fuse", os.fsencode(folder), b"fuse", 0, options):
        print(os.strerror(ctypes.get_errno()))
        return
    try:
        threading.Thread(target=serve, args=(fd,), daemon=True).start()
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        libc.umount2(os.fsencode(folder), 2)  # detached at once


if __name__ == "__main__":
    main(sys.argv[1])
