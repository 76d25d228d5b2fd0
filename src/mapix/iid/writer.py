"""Writing archives: byte for byte what the original writes, whole or not at all."""

from __future__ import annotations

import json
import os
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix._native_iid import pack
from mapix.errors import LimitError
from mapix.formats.iid import HEAD
from mapix.iid import trailer
from mapix.iid.names import Text, as_bytes
from mapix.iid.segment import Box
from mapix.store import SYSTEM, Calls, Closing, NewWhole, Spill

__all__ = ["Writer"]

MOST_NBYTES = 2**32 - 1  # of a section, and of all sections before segs
SEGMENT_HEAD = struct.Struct("<I4HI")
NAME_HEAD = struct.Struct("<III")
STEP = 1 << 20


class Writer(Closing):
    """A new archive, written segment by segment in bounded memory.

    Names and segments go to two files beside the new one, which are put together at the end; in
    memory are the lookup table (20 bytes a segment) and the groups.  The archive appears when the
    writer is closed, or leaves its ``with`` block without an exception; otherwise nothing does.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    meta : mapping, optional
        Metadata: any JSON object.
    index : bool
        Whether boxes, areas and a tree over them are put behind the last section, where the
        original does not look: queries then need not make them.
    version : (int, int)
        Version and rformat of the header; the original writes an rformat of 0 with version 0.
    replace : bool
        Whether a file that is there may be replaced; in one step, the old one stays until then.
    calls : mapix.store.Calls
        The operating system; for tests.

    Raises
    ------
    FileExistsError
        There is something at ``path``, and it is not to be replaced.
    LockedError
        Another writer is at work on it.
    LimitError
        The format cannot hold so much: 4 GiB a section.  Several archives can be opened as one.

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
        self.version = version
        self.index = index
        self._boxes, self._areas = array("H"), array("I")
        self.meta = dict(meta or {})
        self._groups: dict[str, set[int]] = {}
        self._lut = array("I")
        if self._lut.itemsize != 4:
            raise LimitError("this machine's unsigned int has not 4 bytes")
        self._out = NewWhole(os.fspath(path), calls, replace=replace)
        try:
            self._iids, self._segs = (
                Spill(f"{self._out.file.path}.{name}", calls) for name in ("iids", "segs")
            )
        except BaseException:
            self._out.abort()
            raise

    def __len__(self) -> int:
        return len(self._lut) // 5

    @property
    def path(self) -> str:
        """Where the archive is to appear."""
        return self._out.path

    @property
    def nbytes(self) -> int:
        """Bytes of segments and names so far."""
        return self._segs.nbytes + self._iids.nbytes

    def add(
        self,
        domain: Text | None,
        iid: Text,
        mask: ArrayLike | None = None,
        *,
        at: tuple[int, int] = (0, 0),
        bbox: Box | None = None,
        bits: bytes | NDArray[np.uint8] | None = None,
        area: int | None = None,
        rle: Mapping[str, Any] | None = None,
        groups: Iterable[str] = (),
    ) -> int:
        """Write a segment.

        Parameters
        ----------
        domain, iid : str or bytes
            Its name; text is UTF-8, a domain of None is empty.
        mask : array_like, optional
            (h, w), bool or whole numbers 0..255: what is not 0 belongs to it, neighbours (of eight)
            of equal value to the same region.
        at : (row, column)
            Where the mask's first pixel lies in the image.
        bbox : (minr, minc, maxr, maxc), optional
            The same as a box, which has to be as large as the mask.
        bits : bytes, optional
            Regions as the format has them, heads included, instead of a mask; with ``bbox``
            and ``area``.
        rle : mapping, optional
            A COCO run-length encoding, instead of a mask; its box is the tight one.
        groups : iterable of str
            Groups that it belongs to.

        Returns
        -------
        int
            Its key: 0, 1, 2 ...
        """
        if (mask is not None) + (bits is not None) + (rle is not None) != 1:
            raise TypeError("one of mask, bits and rle is needed")
        if bits is not None:
            if bbox is None or area is None:
                raise TypeError("bits need their bbox and area")
            return self._put(as_bytes(domain), as_bytes(iid), _checked(bbox), area, bits, groups)
        if rle is not None:
            from mapix.iid.coco import decode

            pixels, box = decode(rle)
            return self.add(domain, iid, pixels, bbox=box, groups=groups)
        array_ = np.asarray(mask)
        if array_.ndim != 2 or array_.dtype.kind not in "biu":
            raise TypeError(f"a mask is (h, w) of bool or whole numbers, got {array_.dtype}")
        if array_.dtype.kind != "b" and array_.size and (array_.min() < 0 or array_.max() > 255):
            raise ValueError("values of a mask must be 0..255")
        h, w = array_.shape
        box = (at[0], at[1], at[0] + h, at[1] + w) if bbox is None else bbox
        if (box[2] - box[0], box[3] - box[1]) != (h, w):
            raise ValueError(f"a box {box} for a mask of {h} x {w}")
        packed, pixels_n, _ = pack(np.ascontiguousarray(array_, np.uint8), *_checked(box)[:2])
        return self._put(as_bytes(domain), as_bytes(iid), box, pixels_n, packed, groups)

    def _put(
        self,
        domain: bytes,
        iid: bytes,
        box: Box,
        area: int,
        bits: bytes | NDArray[np.uint8],
        groups: Iterable[str],
    ) -> int:
        key = len(self)
        name = NAME_HEAD.pack(key, len(domain), len(iid)) + domain + iid
        raw = memoryview(bits if isinstance(bits, bytes) else bits.data).cast("B")
        nbytes = SEGMENT_HEAD.size + len(raw)
        names_at, segs_at = self._iids.nbytes, self._segs.nbytes
        if max(names_at + len(name), segs_at + nbytes, 20 * (key + 1)) > MOST_NBYTES:
            raise LimitError(
                f"{self._out.path}: an archive holds 4 GiB of segments, names and table each; "
                f"segment {key} is beyond: mapix.iid.ShardedWriter writes several, opened as one"
            )
        self._iids.write(name)
        self._segs.write(SEGMENT_HEAD.pack(key, *box, area))
        self._segs.write(raw)
        if self.index:
            self._boxes.extend(box)
            self._areas.append(area)
        self._lut.extend((key, names_at, len(name), segs_at, nbytes))
        for group in groups:
            self.group(group, [key])
        return key

    def group(self, name: str, keys: ArrayLike) -> None:
        """Add keys of segments that were added to a group, which is made when it is new."""
        found = np.asarray(keys)
        if found.size and (int(found.min()) < 0 or int(found.max()) >= len(self)):
            raise IndexError(f"keys {found.min()} to {found.max()} of {len(self)} segments")
        self._groups.setdefault(name, set()).update(int(k) for k in found.ravel())

    def close(self) -> None:
        """Put the archive together, sync it, and let it appear."""
        try:
            self._assemble()
        except BaseException:
            self.abort()
            raise
        self._drop()
        self._out.commit()

    def _assemble(self) -> None:
        meta = json.dumps(self.meta).encode()
        listed, offset = [], 0
        for name, keys in self._groups.items():
            listed.append({"name": name, "offset": offset, "length": 4 * len(keys)})
            offset += 4 * len(keys)
        names = json.dumps(listed).encode()
        sizes = [4 * len(self._lut), self._iids.nbytes, len(meta), 4 + len(names) + offset]
        places, at = [], HEAD.size
        for nbytes in (*sizes, self._segs.nbytes):
            places += [at, nbytes]
            at += nbytes
        if max(places) > MOST_NBYTES:
            raise LimitError(
                f"{self._out.path}: names, groups and metadata leave the segments beyond 4 GiB; "
                "mapix.iid.ShardedWriter writes several archives, which are opened as one"
            )
        head = HEAD.pack(self.version[0], self.version[1] if self.version[0] else 0, *places)
        lut = _little(np.frombuffer(self._lut, np.uint32))
        self._out.write(head)
        self._out.write(lut)
        for piece in self._iids.pieces(STEP):
            self._out.write(piece)
        self._out.write(meta + len(names).to_bytes(4, "little") + names)
        for keys in self._groups.values():
            self._out.write(_little(np.array(sorted(keys), np.uint32)))
        for piece in self._segs.pieces(STEP):
            self._out.write(piece)
        if self.index:
            front = _native.crc32c(lut, _native.crc32c(head)) if len(lut) else _native.crc32c(head)
            boxes = np.frombuffer(self._boxes, np.uint16).reshape(-1, 4)
            areas = np.frombuffer(self._areas, np.uint32)
            for piece in trailer.pack(at, front, boxes, areas):
                self._out.write(piece)

    def _drop(self) -> None:
        for spill in (self._iids, self._segs):
            spill.drop()

    def abort(self) -> None:
        """Remove what was written."""
        self._drop()
        self._out.abort()


def _little(numbers: NDArray[np.uint32]) -> memoryview:
    return np.ascontiguousarray(numbers, "<u4").view(np.uint8).data


def _checked(box: Sequence[int]) -> Box:
    minr, minc, maxr, maxc = (int(v) for v in box)
    if not (0 <= minr <= maxr <= 65535 and 0 <= minc <= maxc <= 65535):
        raise ValueError(f"a box is minr <= maxr, minc <= maxc in 0..65535, got {tuple(box)}")
    return minr, minc, maxr, maxc
