"""Write the bytes of a catalogue: all of it, or what is added."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.catalogue.drafting import Draft
from mapix.catalogue.layout import (
    ENTRY,
    HEAD_NBYTES,
    MOST_BLOCKS,
    MOST_SHARDS,
    PAGE,
    SHARD_BITS,
    SLOTS,
    Schema,
    Slot,
    head,
    packed_slot,
)
from mapix.errors import LimitError
from mapix.store import Calls, NewWhole

__all__ = ["append", "complete", "folder_of"]

SPARE = 64  # entries for which a new block has space, at least
SHARE = 4  # or 1/SHARE of all
LOW = np.uint64((1 << SHARD_BITS) - 1)


def folder_of(path: str) -> str:
    """Return the folder to which paths in a catalogue are relative."""
    return os.path.dirname(os.path.realpath(path))


def complete(
    out: NewWhole, schemas: list[Schema], drafts: list[Draft], generation: int, *, ranged: bool
) -> None:
    """Write all of a catalogue; its shards are numbered anew."""
    _check_count(out.said, len(drafts))
    folder = folder_of(out.path)
    capacity = len(drafts) + max(SPARE, len(drafts) // SHARE)
    at = HEAD_NBYTES + capacity * ENTRY.itemsize
    entries = np.zeros(capacity, ENTRY)
    used, numbers = np.unique([draft.entry["schema"] for draft in drafts], return_inverse=True)
    blobs = []
    for k, draft in enumerate(drafts):
        text = draft.text(folder)
        blobs.append(draft.ranges.tobytes() + text)
        entries[k] = _entry(draft, blobs[-1], text, at)
        at += len(blobs[-1])
    entries["schema"][: len(drafts)] = numbers.reshape(-1)
    text = _schemas([schemas[int(k)] for k in used])  # each has a shard, which shows it
    hashes = [
        draft.hashes & ~LOW | np.uint64(k)
        for k, draft in enumerate(drafts)
        if draft.hashes is not None
    ]
    run = np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)
    sums = _sums(run)
    names_at = at + len(text)
    slot = Slot(
        generation,
        names_at + run.nbytes + len(sums),
        *(at, len(text), _native.crc32c(text)),
        *(names_at, len(run), _native.crc32c(sums) if sums else 0),
        _native.crc32c(entries[: len(drafts)].tobytes()),
        all(draft.hashes is not None for draft in drafts),
        ranged,
        ((HEAD_NBYTES, capacity, len(drafts)),),
    )
    out.write(_header(slot))
    out.write(entries.data)
    for blob in blobs:
        out.write(blob)
    out.write(text)
    out.write(run.data)
    out.write(sums)


def _check_count(path: str, n: int) -> None:
    if n > MOST_SHARDS:
        raise LimitError(f"{path}: a catalogue holds at most {MOST_SHARDS} shards, got {n}")


def _entry(draft: Draft, blob: bytes, text: bytes, at: int) -> NDArray[np.void]:
    entry = draft.entry.copy()
    entry["blob_at"], entry["blob_nbytes"], entry["blob_crc"] = at, len(blob), _native.crc32c(blob)
    entry["text_crc"] = _native.crc32c(text)
    entry["names_at"] = entry["nnames"] = entry["names_crc"] = 0
    return entry


def _schemas(schemas: Sequence[Schema]) -> bytes:
    return json.dumps([vars(schema) for schema in schemas]).encode()


def _sums(run: NDArray[np.uint64]) -> bytes:
    """Return the checksum of each page of hashes."""
    pages = (run[at : at + PAGE] for at in range(0, len(run), PAGE))
    return np.array([_native.crc32c(page.tobytes()) for page in pages], "<u4").tobytes()


def _header(slot: Slot) -> bytes:
    data = bytearray(HEAD_NBYTES)
    begin = head()
    data[: len(begin)] = begin
    packed = packed_slot(slot)
    for at in SLOTS:
        data[at : at + len(packed)] = packed
    return bytes(data)


def append(
    path: str, was: Slot, schemas: Sequence[Schema] | None, drafts: list[Draft], calls: Calls
) -> None:
    """Write new entries after what counts, then the slots.

    Parameters
    ----------
    path : str
        The catalogue, which is locked.
    was : Slot
        What counts.
    schemas : sequence of Schema, optional
        All schemas, where there are new ones.
    drafts : list of Draft
        The new entries.
    calls : Calls
        The operating system.
    """
    n = was.nshards + len(drafts)
    _check_count(path, n)
    folder = folder_of(path)
    blocks = list(was.blocks)
    tail = bytearray()  # bytes after what counts
    *_, (begin, capacity, used) = blocks
    spare = min(capacity - used, len(drafts))
    blocks[-1] = (begin, capacity, used + spare)
    more = len(drafts) - spare
    if more:
        if len(blocks) == MOST_BLOCKS:
            raise LimitError(f"{path}: shards were added too often; refresh the catalogue")
        blocks.append((was.nbytes, more + max(SPARE, n // SHARE), more))
        tail += bytes(blocks[-1][1] * ENTRY.itemsize)
    entries = np.zeros(len(drafts), ENTRY)
    for k, draft in enumerate(drafts):
        text = draft.text(folder)
        blob = draft.ranges.tobytes() + text
        entries[k] = _entry(draft, blob, text, was.nbytes + len(tail))
        tail += blob
        if draft.hashes is not None and len(draft.hashes):
            run = np.sort(draft.hashes & ~LOW | np.uint64(was.nshards + k))
            sums = _sums(run)
            entries[k]["names_at"], entries[k]["nnames"] = was.nbytes + len(tail), len(run)
            entries[k]["names_crc"] = _native.crc32c(sums)
            tail += run.tobytes() + sums
    data = entries.tobytes()
    tail[: more * ENTRY.itemsize] = data[spare * ENTRY.itemsize :]
    slot = replace(
        was,
        generation=was.generation + 1,
        entries_crc=_native.crc32c(data, was.entries_crc),
        named=was.named and all(draft.hashes is not None for draft in drafts),
        blocks=tuple(blocks),
    )
    if schemas is not None:
        text = _schemas(schemas)
        slot = replace(
            slot,
            schemas_at=was.nbytes + len(tail),
            schemas_nbytes=len(text),
            schemas_crc=_native.crc32c(text),
        )
        tail += text
    slot = replace(slot, nbytes=was.nbytes + len(tail))
    _commit(
        path,
        was.nbytes,
        bytes(tail),
        (begin + used * ENTRY.itemsize, data[: spare * ENTRY.itemsize]),
        slot,
        calls,
    )


def _commit(
    path: str,
    nbytes: int,
    tail: bytes,
    spare: tuple[int, bytes],
    slot: Slot,
    calls: Calls,
) -> None:
    """Bring bytes to the disk that do not count yet; then a slot that makes them count.

    The second slot is written when the first one is on the disk, so that one of them is complete
    at any moment, and both are equal in the end.
    """
    lock = calls.reopen(path)
    try:
        if calls.size(lock) > nbytes:  # of a writer that was killed
            calls.truncate(lock, nbytes)
        end = calls.append(path)
        try:
            left = memoryview(tail)
            while len(left):
                left = left[calls.write(end, left) :]
        finally:
            calls.close(end)
        _overwrite(lock, *spare, calls)
        calls.fsync(lock)
        packed = packed_slot(slot)
        for at in SLOTS:
            _overwrite(lock, at, packed, calls)
            calls.fsync(lock)
    finally:
        calls.close(lock)


def _overwrite(fd: int, at: int, data: bytes, calls: Calls) -> None:
    left = memoryview(data)
    while len(left):
        n = calls.overwrite(fd, left, at)
        at, left = at + n, left[n:]
