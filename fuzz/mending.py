"""Make the checksums of a changed file right, so that what they protect is read.

Each function takes the bytes of a file of one kind, and returns as many bytes, in which checksums
that a reader would come to are those of what they cover.  They follow lengths only as far as these
stay inside the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

from mapix._native import crc32c
from mapix.catalogue import layout as catalogue_layout
from mapix.iid import stored_index as iid_index
from mapix.unpacked import TRAILER
from mapix.vimh import index_store

MASK = 0xFFFFFFFF


def _crc(data: bytes | bytearray) -> int:
    return crc32c(bytes(data)) if data else 0


def _put(out: bytearray, at: int, value: int, order: str = "<") -> None:
    if 0 <= at <= len(out) - 4:
        struct.pack_into(f"{order}I", out, at, value & MASK)


# --- files of records -----------------------------------------------------------------------------


def tar(data: bytes) -> bytes:
    """Sums of headers, of which each block with ``ustar`` is one."""
    out = bytearray(data)
    for at in range(0, len(out) - 511, 512):
        if out[at + 257 : at + 262] == b"ustar":
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


def tfrecord(data: bytes) -> bytes:
    """Checksums of lengths and of records."""
    out, at = bytearray(data), 0

    def put(place: int, crc: int) -> None:
        _put(out, place, (crc >> 15 | crc << 17 & MASK) + 0xA282EAD8)

    while at + 12 <= len(out):
        end = at + 12 + int.from_bytes(out[at : at + 8], "little")
        put(at + 8, _crc(out[at : at + 8]))
        if end + 4 > len(out):
            break
        put(end, _crc(out[at + 12 : end]))
        at = end + 4
    return bytes(out)


def zipped(data: bytes) -> bytes:
    """CRC-32 of the members of a zip file, in its directory and beside their data."""
    out, at = bytearray(data), data.find(b"PK\1\2")
    while at >= 0:
        if at + 46 <= len(out):
            method, size, begin = (
                *struct.unpack_from("<H", out, at + 10),
                *struct.unpack_from("<I", out, at + 20),
                *struct.unpack_from("<I", out, at + 42),
            )
            if begin + 30 <= len(out):
                begin_of_data = begin + 30 + sum(struct.unpack_from("<HH", out, begin + 26))
                raw = bytes(out[begin_of_data : begin_of_data + min(size, len(out))])
                if method == 8:
                    with suppress(zlib.error):
                        raw = zlib.decompressobj(-15).decompress(raw, 1 << 20)
                for place in (at + 16, begin + 14):
                    _put(out, place, zlib.crc32(raw))
        at = data.find(b"PK\1\2", at + 1)
    return bytes(out)


def gzipped(data: bytes) -> bytes:
    """CRC-32 and size of each member with a header of ten bytes."""
    out, at = bytearray(data), 0
    while out[at : at + 4] == b"\x1f\x8b\x08\0":
        engine, raw = zlib.decompressobj(-15), b""
        with suppress(zlib.error):
            raw = engine.decompress(bytes(out[at + 10 :]), 1 << 20)
        if not engine.eof:
            break
        end = len(out) - len(engine.unused_data)
        _put(out, end, zlib.crc32(raw))
        _put(out, end + 4, len(raw))
        at = end + 8
    return bytes(out)


def png(data: bytes) -> bytes:
    """CRC-32 of the chunks, and the sum in pixels that are one chunk."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        n = int.from_bytes(out[at : at + 4], "big")
        end = at + 8 + n
        if end + 4 > len(out):
            break
        if out[at + 4 : at + 8] == b"IDAT" and n > 6:
            engine, raw = zlib.decompressobj(-15), b""
            with suppress(zlib.error):
                raw = engine.decompress(bytes(out[at + 10 : end]), 1 << 20)
            if engine.eof and len(engine.unused_data) == 4:
                _put(out, end - 4, zlib.adler32(raw), ">")
        _put(out, end, zlib.crc32(out[at + 4 : end]), ">")
        at = end + 4
    return bytes(out)


# --- what mapix stores ----------------------------------------------------------------------------


def journal(data: bytes, file: bytes) -> bytes:
    """Checksums of a journal, the tail of the file among them."""
    out = bytearray(data)
    if len(out) == 24:
        length = int.from_bytes(out[8:16], "little")
        _put(out, 16, _crc(file[max(0, length - 4096) : length]))
        _put(out, 20, _crc(out[:20]))
    return bytes(out)


def vimh_index(data: bytes) -> bytes:
    """Checksums of the fields and tables of an index, where the tables have their sizes."""
    prefix, fields = index_store._PREFIX.size, index_store._FIELDS
    if len(data) < index_store.HEAD_NBYTES:
        return data
    out, stated = bytearray(data), list(fields.unpack_from(data, prefix))
    n, stride, channels, ids, has = stated[9], stated[11], stated[17], stated[18], stated[19]
    nids, entries_at = int.from_bytes(ids, "little").bit_count(), stated[-1]
    sizes = [(has & 1) * n * nids * (1 + (has >> 1 & 1))]
    sizes += [(has >> 2 & 1) * 4 * n, (has >> 3 & 1) * 32 * channels]
    at = index_store.HEAD_NBYTES
    for k, size in enumerate(sizes):
        at += -at % 8 if k else 0
        stated[21 + k] = _crc(out[at : at + min(size, len(out))])
        at += size
    entries_nbytes = 0 if stride else min(16 * n, len(out))
    stated[20] = _crc(out[entries_at : entries_at + entries_nbytes])
    packed = fields.pack(*stated)
    out[prefix : prefix + len(packed)] = packed
    _put(out, prefix - 4, _crc(packed))
    return bytes(out)


def iid_with_index(data: bytes) -> bytes:
    """Checksums of the index after an archive's sections: of its foot, and of what that names."""
    out, foot = bytearray(data), len(data) - iid_index.FOOT_NBYTES
    at = foot + iid_index._PREFIX.size
    if foot < 0 or bytes(out[foot : foot + 8]) != iid_index.MAGIC:
        return data
    stated = list(iid_index._FIELDS.unpack_from(out, at))
    start, n, nnodes = (min(value, len(out)) for value in stated[:3])
    named = int.from_bytes(out[foot + 8 : foot + 12], "little") == iid_index.VERSION
    places = iid_index._places(start, n, nnodes, named=named)
    sums = [_crc(out[a:b]) for a, b in pairwise(places)]
    stated[4 : 4 + len(sums)] = sums
    packed = iid_index._FIELDS.pack(*stated)
    out[at:] = packed
    _put(out, at - 4, _crc(packed))
    return bytes(out)


def pixels(data: bytes) -> bytes:
    """Checksums of unpacked bytes in the cache."""
    out, at = bytearray(data), len(data) - TRAILER.size
    if at < 0:
        return data
    _put(out, len(out) - 8, _crc(out[:at]))
    _put(out, len(out) - 4, _crc(out[at:-4]))
    return bytes(out)


def catalogue(data: bytes) -> bytes:
    """Checksums of a catalogue, from its entries to its slots."""
    out = bytearray(data)
    if len(out) < catalogue_layout.HEAD_NBYTES:
        return data
    _put(out, 24, _crc(out[:24]))
    for slot in catalogue_layout.SLOTS:
        schemas_at, schemas_nbytes, names_at, nnames = struct.unpack_from("<4Q", out, slot + 16)
        _put(out, slot + 48, _crc(out[schemas_at : schemas_at + min(schemas_nbytes, len(out))]))
        sums = names_at + 8 * min(nnames, len(out))
        for k, at in enumerate(range(names_at, min(sums, len(out)), 65536)):
            _put(out, sums + 4 * k, _crc(out[at : min(at + 65536, sums)]))
        _put(out, slot + 52, _crc(out[sums : sums + 4 * -(-min(nnames, len(out)) // 8192)]))
        crc = 0
        nblocks = min(
            int.from_bytes(out[slot + 60 : slot + 64], "little"), catalogue_layout.MOST_BLOCKS
        )
        for block in range(slot + 72, slot + 72 + 16 * nblocks, 16):
            at, _, used = struct.unpack_from("<QII", out, block)
            for entry in range(at, min(at + 512 * used, len(out) - 511), 512):
                _mend_entry(out, entry)
            rows = bytes(out[at : at + 512 * min(used, len(out))])
            crc = crc32c(rows, crc) if rows else crc
        _put(out, slot + 56, crc)
        _put(out, slot + 1020, _crc(out[slot : slot + 1020]))
    return bytes(out)


def _mend_entry(out: bytearray, entry: int) -> None:
    at, nbytes = struct.unpack_from("<QI", out, entry + 16)
    nranges = min(int.from_bytes(out[entry + 124 : entry + 128], "little"), len(out))
    blob = out[at : at + min(nbytes, len(out))]
    _put(out, entry + 28, _crc(blob))
    _put(out, entry + 168, _crc(blob[24 * nranges :]))


def part(data: bytes) -> bytes:
    """Checksum at the end of a stored block of a conversion."""
    return data[:-4] + _crc(data[:-4]).to_bytes(4, "little")


OF_FORMAT: dict[str, Callable[[bytes], bytes]] = {
    "tar": tar,
    "tfrecord": tfrecord,
    "npy": zipped,
    "iid": iid_with_index,
}
"""Of the modules with tests of formats whose files have checksums."""
