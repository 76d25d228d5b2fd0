"""Writing of archives: the same bytes as the original writes, in one step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix._native.iid import PACKING, check_regions, pack
from mapix.errors import ClosedError, LimitError, MapixError
from mapix.iid import stored_index
from mapix.iid.argument_checks import (
    Box,
    Text,
    as_box,
    as_bytes,
    as_group_name,
    as_group_names,
    as_integer,
    as_json,
    as_keys,
    as_pair,
    as_pixels,
    box_at,
)
from mapix.iid.layout import HEAD, LUT_ROW, NAME_HEAD, ROW_NBYTES, SEGMENT_HEAD
from mapix.iid.segment_types import SegmentBuffer
from mapix.source import Source
from mapix.store import SYSTEM, Calls, Closing, NewWhole, Spill, one_at_a_time

__all__ = ["OneTimeWriter", "Writer", "path_of"]

MOST_NBYTES = 2**32 - 1  # of a section, and of all sections before segs
NO_GROUPS: tuple[str, ...] = ()
NO_GROUPS_NBYTES = 6  # of a list of groups without any
LISTED_NBYTES = 64  # at most, of a group in the list of groups, without its name
COPY_NBYTES = 1 << 20  # copied at once


class OneTimeWriter(Closing):
    """A writer that ends once: when it is closed, or by an error that it cannot recover from."""

    path: str
    _state = ""  # "closed", or the error that ended the writer

    def _check_open(self) -> None:
        if self._state == "closed":
            raise ClosedError(f"{self.path}: the writer is closed")
        if self._state:
            raise MapixError(f"{self.path}: the archive cannot be finished: {self._state}")


class Writer(OneTimeWriter):
    """A new archive, written segment by segment in bounded memory.

    Names and segments go to two temporary files without a name, which ``close`` puts together; the
    lookup table (20 bytes per segment) and the groups are in memory.  The archive appears when the
    writer is closed, or leaves its ``with`` block without an exception; otherwise there is no file.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    meta : mapping, optional
        Metadata: any JSON object.  ``{"image": {"width": ..., "height": ...}}`` states the size of
        the image.
    index : bool
        Whether to store boxes, areas and a tree over the boxes after the last section, which the
        original ignores: queries then need not make them.
    version : (int, int)
        Version and rformat of the header; the original writes an rformat of 0 with version 0.
    replace : bool
        Whether to replace a file at ``path``, in one step when the writer is closed.
    calls : mapix.store.Calls
        The operating system; for tests.

    Attributes
    ----------
    path : str
        Path of the new archive.

    Raises
    ------
    TypeError, ValueError
        An argument is of a wrong type, or JSON cannot hold the metadata.  In every method such an
        error changes nothing, and the writer can continue.
    FileExistsError
        ``path`` exists, and ``replace`` is False.
    LockedError
        Another writer writes ``path``.
    LimitError
        A section would exceed 4 GiB, the limit of the format.  ShardedWriter writes several files.
    OSError
        The disk is full, or fails.  The archive cannot be finished: ``close`` raises, too.
    ClosedError
        The writer was closed or aborted before.

    Examples
    --------
    >>> with mapix.iid.Writer("cells.iid") as out:                     # doctest: +SKIP
    ...     key = out.add("slide-7", "cell-1", mask, at=(120, 64), groups=["cls"])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        meta: Mapping[str, Any] | None = None,
        *,
        index: bool = False,
        version: tuple[int, int] = (0, 0),
        replace: bool = False,
        calls: Calls = SYSTEM,
    ) -> None:
        self.version = as_pair(version, "version")
        if not isinstance(index, bool | np.bool_) or not isinstance(replace, bool | np.bool_):
            raise TypeError(f"index and replace must be bool, got {index!r} and {replace!r}")
        self.index = bool(index)
        self._meta = as_json(meta, "meta")
        self._groups: dict[str, set[int]] = {}
        self._rows = SegmentBuffer(self.index, MOST_NBYTES, *PACKING)
        # with an upper bound of the bytes of the groups' section
        self._rows.reserved = HEAD.size + len(self._meta) + NO_GROUPS_NBYTES
        self._out = NewWhole(path_of(path), calls, replace=bool(replace))
        self.path = self._out.path
        self._spills: list[Spill] = []
        try:
            for name in ("iids", "segs"):
                self._spills.append(Spill(self._out.beside(name), calls))
        except BaseException:
            self.abort()
            raise
        self._iids, self._segs = self._spills
        self._written = 0  # segments that are in these files

    def _instead_of(self, source: Source) -> None:
        """Replace exactly this file, unchanged: checked now, and again before the replacement.

        The path is locked against other writers.  A change by an earlier writer, or by a program
        that takes no lock, must not be lost: it raises FileChangedError.
        """
        source.confirm_for_writing()
        self._out.ready = source.confirm_for_writing

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def meta(self) -> Mapping[str, Any]:
        """The metadata, read-only; assign a mapping to replace it."""
        found: dict[str, Any] = json.loads(self._meta)
        return MappingProxyType(found)

    @meta.setter
    def meta(self, meta: Mapping[str, Any] | None) -> None:
        with self._turn:
            self._check_open()
            new = as_json(meta, "meta")
            more = len(new) - len(self._meta)
            before = ROW_NBYTES * len(self) + self._rows.names_nbytes + more
            self._check_room(before, self._rows.segs_nbytes, "its metadata")
            self._meta = new
            self._rows.reserved += more

    @property
    def nbytes(self) -> int:
        """Bytes of segments and names so far."""
        return self._rows.segs_nbytes + self._rows.names_nbytes

    def add(
        self,
        domain: Text | None,
        iid: Text,
        mask: ArrayLike | None = None,
        *,
        at: tuple[int, int] | None = None,
        bbox: Box | None = None,
        bits: bytes | NDArray[np.uint8] | None = None,
        area: int | None = None,
        rle: Mapping[str, Any] | None = None,
        groups: Iterable[str] = NO_GROUPS,
    ) -> int:
        """Write a segment with its groups; nothing is written if an argument is refused.

        Parameters
        ----------
        domain, iid : str or bytes
            Its name; text is encoded as UTF-8, a domain of None is empty.
        mask : array_like, optional
            (h, w), bool, integers or floats; pixels that are not 0 belong to the segment.  Adjacent
            pixels (8 neighbours) of equal value are one region; floats count as 0 or not 0.
        at : (row, column), optional
            Place of the mask's first pixel in the image; (0, 0) by default.
        bbox : (minr, minc, maxr, maxc), optional
            The place as a box, of the size of the mask.
        bits : bytes or ndarray, optional
            Regions in the bytes of the format, headers included, instead of a mask; with ``bbox``
            and ``area``.  An array is uint8 (n,).
        area : int, optional
            Pixels, with ``bits`` alone.
        rle : mapping, optional
            A COCO run-length encoding, instead of a mask; its box is the tight one.
        groups : iterable of str
            Groups of the segment.

        Returns
        -------
        int
            Its key: 0, 1, 2 ...

        Raises
        ------
        TypeError
            An argument is of a wrong type, or excludes another one.
        ValueError
            A box is not ascending, exceeds 65535, or does not fit the mask or ``bits``.
        LimitError
            The archive is full.
        """
        if self._state:
            self._check_open()
        if bits is None and bbox is None and area is None and rle is None:
            groups = groups if groups is NO_GROUPS else as_group_names(groups)
            with self._turn:
                if self._state:
                    self._check_open()
                listed = self._listed(groups)
                n = len(self._rows)
                try:
                    key = self._rows.add(domain, iid, mask, at, listed)
                    if key is not None:
                        for group in groups:
                            self._groups.setdefault(group, set()).add(key)
                        return key
                except BaseException as e:
                    self._in_part(n, e)
                    raise
        if (mask is not None) + (bits is not None) + (rle is not None) != 1:
            raise TypeError("add needs exactly one of mask, bits and rle")
        name = _given(domain, "domain"), _given(iid, "iid")
        if iid is None:
            raise TypeError("iid must be str or bytes, got None")
        if bits is not None:
            if bbox is None or area is None or at is not None:
                raise TypeError("bits needs bbox and area, and excludes at")
            box = as_box(bbox)
            raw = _raw(bits)
            check_regions(raw, box)
            return self._put(name, box, as_integer(area, "area"), raw, as_group_names(groups))
        if area is not None:
            raise TypeError("area is for bits alone; the pixels of a mask are counted")
        if rle is not None:
            if at is not None or bbox is not None:
                raise TypeError("rle is of the complete image: it excludes at and bbox")
            from mapix.iid.coco import decode

            pixels, box = decode(rle)
            packed, pixels_n, _ = pack(pixels.view(np.uint8), *box[:2])
            return self._put(name, box, pixels_n, packed, as_group_names(groups))
        if at is not None and bbox is not None:
            raise TypeError("at and bbox both state the place of the mask: pass one of them")
        array_ = as_pixels(mask)  # type: ignore[arg-type]
        h, w = array_.shape
        box = box_at((0, 0) if at is None else at, h, w) if bbox is None else as_box(bbox)
        if (box[2] - box[0], box[3] - box[1]) != (h, w):
            raise ValueError(f"a box {box} for a mask of {h} x {w}")
        packed, pixels_n, _ = pack(array_, *box[:2])
        return self._put(name, box, pixels_n, packed, as_group_names(groups))

    def _put(
        self, name: tuple[bytes, bytes], box: Box, area: int, bits: bytes, groups: list[str]
    ) -> int:
        """Append a segment whose arguments were checked."""
        domain, iid = name
        with self._turn:
            self._check_open()
            key = len(self)
            listed = self._listed(groups)
            head_nbytes = NAME_HEAD.size + len(domain) + len(iid)
            before = ROW_NBYTES * (key + 1) + self._rows.names_nbytes + head_nbytes + listed
            after = self._rows.segs_nbytes + SEGMENT_HEAD.size + len(bits)
            self._check_room(before, after, f"segment {key}")
            try:
                self._rows.put(domain, iid, box, area, bits)
                self._rows.reserved += listed
                for group in groups:
                    self._groups.setdefault(group, set()).add(key)
            except BaseException as e:
                self._in_part(key, e)
                raise
            if self._rows.full:
                self._write()
            return key

    def _in_part(self, key: int, e: BaseException) -> None:
        """End the writer if a segment was added without all of its groups."""
        if len(self._rows) > key:
            self._state = f"segment {key} was added in part: {type(e).__name__} {e}"

    def _listed(self, groups: Iterable[str]) -> int:
        """Return an upper bound of the bytes of a segment's entries in groups."""
        return sum(4 + self._new_nbytes(group) for group in set(groups)) if groups else 0

    def _write(self) -> None:
        """Write the segments that are held."""
        first, last = self._written, len(self) - 1
        try:
            names, segs = self._rows.take()
            self._iids.write(names)
            self._segs.write(segs)
        except BaseException as e:  # an unknown part of them was written
            what = f"segment {last} was" if first == last else f"segments {first} to {last} were"
            self._state = f"{what} written in part: {type(e).__name__} {e}"
            raise
        self._written = last + 1

    def group(self, name: str, keys: ArrayLike) -> None:
        """Add keys to a group, new or not: all of them, or none if one is refused.

        Parameters
        ----------
        name : str
            Name of the group.
        keys : int or array_like
            Keys of segments that were added before.

        Raises
        ------
        TypeError
            Keys are not integers; booleans and floats are not.
        IndexError
            There is no such key.
        """
        with self._turn:
            self._check_open()
            found = set(as_keys(keys, len(self), self.path).tolist())
            new = found - self._groups.get(as_group_name(name), set())
            listed = 4 * len(new) + self._new_nbytes(name)
            before = ROW_NBYTES * len(self) + self._rows.names_nbytes + listed
            self._check_room(before, self._rows.segs_nbytes, f"group {name!r}")
            self._groups.setdefault(name, set()).update(new)
            self._rows.reserved += listed

    def _new_nbytes(self, group: str) -> int:
        """Return an upper bound of the bytes of a group's entry; 0 if the group exists."""
        return 0 if group in self._groups else 12 * len(group) + LISTED_NBYTES

    def _check_room(self, before: int, segs_nbytes: int, what: str) -> None:
        """Refuse now what would be too large when the archive is put together."""
        before += self._rows.reserved
        if max(before, segs_nbytes) > MOST_NBYTES:
            raise LimitError(
                f"{self._out.path}: an archive holds 4 GiB of segments, and as much of names, "
                f"table, groups and metadata; {what} exceeds that: mapix.iid.ShardedWriter writes "
                "several archives, which are opened as one"
            )

    @one_at_a_time
    def close(self) -> None:
        """Put the archive together, sync it, and give it its name.  A second call does nothing."""
        if self._state == "closed":
            return
        try:
            self._check_open()
            self._assemble()
        except BaseException:
            self.abort()
            raise
        self._state = "closed"
        self._drop()
        self._out.commit()

    def _assemble(self) -> None:
        self._write()
        meta = self._meta
        listed, offset = [], 0
        for name, keys in self._groups.items():
            listed.append({"name": name, "offset": offset, "length": 4 * len(keys)})
            offset += 4 * len(keys)
        names = json.dumps(listed).encode()
        lut, boxes, areas = self._rows.tables()
        sizes = [len(lut), self._iids.nbytes, len(meta), 4 + len(names) + offset]
        places, at = [], HEAD.size
        for nbytes in (*sizes, self._segs.nbytes):
            places += [at, nbytes]
            at += nbytes
        head = HEAD.pack(self.version[0], self.version[1] if self.version[0] else 0, *places)
        self._out.write(head)
        self._out.write(lut)
        hashes = _NameHashes(lut)
        for piece in self._iids.pieces(COPY_NBYTES):
            self._out.write(piece)
            if self.index:
                hashes.take(piece)
        self._out.write(meta + len(names).to_bytes(4, "little") + names)
        for keys in self._groups.values():
            self._out.write(_little(np.array(sorted(keys), np.uint32)))
        for piece in self._segs.pieces(COPY_NBYTES):
            self._out.write(piece)
        if self.index:
            front = _native.crc32c(lut, _native.crc32c(head)) if len(lut) else _native.crc32c(head)
            tables = np.frombuffer(boxes, "<u2").reshape(-1, 4), np.frombuffer(areas, "<u4")
            for piece in stored_index.pack(at, front, *tables, hashes.found()):
                self._out.write(piece)

    def _drop(self) -> None:
        for spill in self._spills:
            spill.drop()

    @one_at_a_time
    def abort(self) -> None:
        """Remove what was written.  Does nothing after ``close``."""
        if self._state == "closed":
            return
        self._state = "closed"
        self._drop()
        self._out.abort()


class _NameHashes:
    """Hashes of names, from pieces of the section of names."""

    def __init__(self, lut: bytes) -> None:
        self._lut = np.frombuffer(lut, LUT_ROW)
        self._ends = np.cumsum(self._lut["name_nbytes"], dtype=np.int64)
        self._every: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        self._begin, self._done, self._rest = 0, 0, b""

    def take(self, piece: bytes) -> None:
        """Take in the next bytes of the section."""
        data = self._rest + piece
        done = int(np.searchsorted(self._ends, self._begin + len(data), "right"))
        if done > self._done:
            used = int(self._ends[done - 1]) - self._begin
            rows = self._lut[self._done : done]
            self._every.append(stored_index.hashes_of(rows, data[:used], self._begin))
            self._begin, self._done, data = self._begin + used, done, data[used:]
        self._rest = data

    def found(self) -> NDArray[np.uint64]:
        """Return the hash of each name, uint64 (n,)."""
        return np.concatenate(self._every)


def _little(numbers: NDArray[np.uint32]) -> memoryview:
    return np.ascontiguousarray(numbers, "<u4").view(np.uint8).data


def path_of(path: str | os.PathLike[str]) -> str:
    """Return a path as text; bytes are refused."""
    found = os.fspath(path)
    if not isinstance(found, str):
        raise TypeError(f"a path must be text, got {found!r}")
    return found


def _given(text: Text | None, what: str) -> bytes:
    found = as_bytes(text, what)
    if len(found) > MOST_NBYTES:
        raise LimitError(f"{what} of {len(found)} bytes; a name has at most 4 GiB")
    return found


def _raw(bits: bytes | NDArray[np.uint8]) -> bytes:
    if isinstance(bits, np.ndarray) and bits.dtype == np.uint8 and bits.ndim == 1:
        return bits.tobytes()
    if not isinstance(bits, bytes):
        kind = f"{bits.dtype} {bits.shape}" if isinstance(bits, np.ndarray) else type(bits).__name__
        raise TypeError(f"bits must be bytes or uint8 (n,), got {kind}")
    return bits
