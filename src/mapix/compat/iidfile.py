"""The classes of the ``iidfile`` package, over mapix: IIDFile, IID, Segment, Regions, Region.

>>> from mapix.compat.iidfile import IID, IIDFile, Segment           # doctest: +SKIP
>>> file = IIDFile(fpath="cells.iid")                                # doctest: +SKIP
>>> for entry in file.fetch(groups=["cls"]):                         # doctest: +SKIP
...     print(entry.iid.address, entry.seg.area, entry.seg.mask().shape)

The results are the original's: ``at`` reads the four pixels around a corner, ``filter`` excludes
both ends of ``area``.  Differences, where the original loses data or cannot run:

- ``save`` writes a new file, which then replaces the old one; the original empties the file first,
  and leaves it empty after an error.  A loaded file can be saved without fetching all of it.
- Files are opened read-only and lazily; the original needs permission to write, and parses all
  names.
- Areas are integers.  scikit-image is not needed.
- ``fetch`` and ``look_for`` return entries in the order of keys, the original in that of a set.
- Groups may be empty; an unknown group raises KeyError, which lists the groups.
- Keys of groups are written in ascending order.
- ``Segment.mask(bbox)`` has exactly the shape of the box; the original cuts it to the image.
- Pixels of a mask that are not 0 belong to it, of any type; an argument of a wrong type raises
  TypeError, and changes nothing.
- ``fetch(group=...)`` works, as the original's README shows; its code refuses it.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix._native.iid import pack
from mapix.iid.argument_checks import (
    Box,
    Text,
    as_box,
    as_bytes,
    as_group_name,
    as_integer,
    as_keys,
    as_pixels,
)
from mapix.iid.writer import Writer
from mapix.registry import open_dataset
from mapix.source import absolute, read_small

if TYPE_CHECKING:
    from mapix.iid.segment import Segment as StoredSegment
    from mapix.iid.single_archive import SingleArchive

MOST_NBYTES = 1 << 33  # of any archive
MASK_NDIM = 2
SECTIONS = ("lut", "iids", "meta", "groups", "segs")

__all__ = ["IID", "Entry", "Group", "Header", "IIDFile", "Region", "Regions", "Segment"]


def _xywh(box: Box, center: bool) -> tuple[float, float, float, float]:
    minr, minc, maxr, maxc = box
    w, h = maxc - minc, maxr - minr
    return (minc + w / 2, minr + h / 2, w, h) if center else (minc, minr, w, h)


def _corners(box: Box) -> list[tuple[int, int]]:
    minr, minc, maxr, maxc = box
    return [(minc, minr), (maxc, minr), (maxc, maxr), (minc, maxr)]


class IID:
    """A name: ``address`` within ``domain``, both bytes; the domain may be None."""

    def __init__(self, address: Text, domain: Text | None = None) -> None:
        self.address = as_bytes(address)
        self.domain = as_bytes(domain) or None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IID):
            return NotImplemented
        return (self.address, self.domain) == (other.address, other.domain)

    def __hash__(self) -> int:
        return hash((self.address, self.domain))

    def __repr__(self) -> str:
        return f"IID({self.address!r}, {self.domain!r})"


class Region:
    """A connected part of a segment.

    Parameters
    ----------
    buffer : array_like or bytes
        Its pixels (h, w), not 0 where they belong to it; or packed bits as in the file: bytes, or
        uint8 (n,).
    bbox : sequence of int
        minr, minc, maxr, maxc.  The two may come in either order.
    mask : array_like
        Another name of ``buffer``.

    Attributes
    ----------
    bbox : (minr, minc, maxr, maxc)
        In pixels of the image, half open.
    mask : ndarray
        bool (maxr - minr, maxc - minc).
    """

    def __init__(self, buffer: Any = None, bbox: Any = None, *, mask: Any = None) -> None:
        if mask is not None:
            buffer, bbox = mask, buffer if bbox is None else bbox
        if np.ndim(bbox) == MASK_NDIM or isinstance(bbox, bytes):
            buffer, bbox = bbox, buffer
        self.bbox: Box = as_box(bbox)
        shape = self.bbox[2] - self.bbox[0], self.bbox[3] - self.bbox[1]
        self.mask: NDArray[np.bool_] = _pixels(buffer, shape)
        if self.mask.shape != shape:
            raise ValueError(f"a box {self.bbox} for a mask of {self.mask.shape}")

    @property
    def buffer(self) -> NDArray[np.bool_]:
        """The mask."""
        return self.mask

    def bbox_xywh(self, center: bool = False) -> tuple[float, float, float, float]:
        """Return x, y (of the corner, or the centre), width, height."""
        return _xywh(self.bbox, center)

    def bbox_polygon(self) -> list[tuple[int, int]]:
        """Return the box's corners, (x, y)."""
        return _corners(self.bbox)


def _pixels(buffer: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask as booleans; packed bits are unpacked to a shape."""
    raw = np.frombuffer(buffer, np.uint8) if isinstance(buffer, bytes) else buffer
    if isinstance(raw, np.ndarray) and raw.ndim == 1 and raw.dtype == np.uint8:
        n = shape[0] * shape[1]
        if len(raw) != (n + 7) // 8:
            raise ValueError(f"{(n + 7) // 8} bytes of packed bits expected, got {len(raw)}")
        return np.unpackbits(raw, count=n).reshape(shape).view(np.bool_)
    found: NDArray[np.bool_] = as_pixels(raw) != 0
    return found


class Regions(list[Region]):
    """Regions of a segment; may be called, because the original has a method of that name."""

    def __call__(self) -> Regions:
        """Return itself."""
        return self


class _FromMask:
    """``from_mask``: of the class, makes a new segment; of a segment, fills it."""

    def __get__(
        self, segment: Segment | None, kind: type[Segment]
    ) -> Callable[[ArrayLike, Sequence[int] | None], Segment]:
        def from_mask(mask: ArrayLike, bbox: Sequence[int] | None = None) -> Segment:
            """Make a segment of a mask (h, w) and its box; its 8-connected parts are regions."""
            made = kind() if segment is None else segment
            made._fill(mask, bbox)
            return made

        return from_mask


class Segment:
    """Regions, box and area of a segment.

    Parameters
    ----------
    regions : iterable of Region, optional
        Its regions.
    s : int, optional
        Its area; counted when not given.
    bbox : sequence of int, optional
        Its box; the one around the regions when not given.
    key : int, optional
        A number for the caller; ``add`` numbers segments itself.
    area : int, optional
        The same as ``s``.
    """

    from_mask = _FromMask()

    def __init__(
        self,
        regions: Iterable[Region] = (),
        s: int | None = None,
        bbox: Sequence[int] | None = None,
        *,
        key: int | None = None,
        area: int | None = None,
        stored: StoredSegment | None = None,
    ) -> None:
        self.key = None if key is None else as_integer(key, "key")
        self._stored = stored
        s = area if s is None else s
        self._own = Regions(regions)
        if any(not isinstance(r, Region) for r in self._own):
            raise TypeError("regions are instances of Region")
        if stored is not None:
            self.bbox: Box = stored.bbox
            self.area: int = stored.area
            return
        if bbox is None:
            boxes = np.array([r.bbox for r in self._own] or [(0, 0, 0, 0)])
            bbox = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
        self.bbox = as_box(bbox)
        self.area = as_integer(s, "an area") if s is not None else int(self.mask().sum())

    def _fill(self, mask: ArrayLike, bbox: Sequence[int] | None) -> None:
        pixels = as_pixels(mask)
        h, w = pixels.shape
        box = (0, 0, h, w) if bbox is None else as_box(bbox)
        if (box[2] - box[0], box[3] - box[1]) != (h, w):
            raise ValueError(f"a box {box} for a mask of {h} x {w}")
        raw, self.area, _ = pack(pixels, *box[:2])
        self.bbox, self._stored, self._own = box, None, Regions(_parsed(raw))

    @property
    def regions(self) -> Regions:
        """Its regions; may be called, too."""
        if self._stored is not None and not self._own:
            self._own = Regions(Region(r.bbox, r.mask()) for r in self._stored.regions)
        return self._own

    def mask(self, bbox: Sequence[int] | None = None) -> NDArray[np.bool_]:
        """Return the mask of its box, or of another one."""
        minr, minc, maxr, maxc = self.bbox if bbox is None else (int(v) for v in bbox)
        if self._stored is not None:
            found: NDArray[np.bool_] = self._stored.mask((minr, minc, maxr, maxc))
            return found
        out = np.zeros((maxr - minr, maxc - minc), bool)
        for r in self._own:
            a, b, c, d = r.bbox
            top, left = max(a, minr), max(b, minc)
            low, right = min(c, maxr), min(d, maxc)
            if top < low and left < right:
                part = r.mask[top - a : low - a, left - b : right - b]
                out[top - minr : low - minr, left - minc : right - minc] |= part
        return out

    def bbox_xywh(self, center: bool = False) -> tuple[float, float, float, float]:
        """Return x, y (of the corner, or the centre), width, height."""
        return _xywh(self.bbox, center)

    def bbox_polygon(self) -> list[tuple[int, int]]:
        """Return the box's corners, (x, y)."""
        return _corners(self.bbox)

    def intersects_bbox(self, bbox: Sequence[int]) -> bool:
        """Whether it has a pixel in a box."""
        minr, minc, maxr, maxc = (int(v) for v in bbox)
        return bool(self.mask((max(minr, 0), max(minc, 0), max(maxr, 0), max(maxc, 0))).any())

    def intersects_segment(self, other: Segment | Entry) -> int:
        """Return the number of pixels it shares with another segment, or with that of an entry."""
        other = other.seg if isinstance(other, Entry) else other
        a, b = self.bbox, other.bbox
        box = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
        if box[0] >= box[2] or box[1] >= box[3]:
            return 0
        return int((self.mask(box) & other.mask(box)).sum())


def _parsed(raw: bytes) -> list[Region]:
    found, at = [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "little")
        minr, minc, maxr, maxc = np.frombuffer(raw, "<u2", 4, at + 4).tolist()
        h, w = maxr - minr, maxc - minc
        bits = np.frombuffer(raw, np.uint8, length - 12, at + 12)
        mask = np.unpackbits(bits, count=h * w).reshape(h, w)
        found.append(Region((minr, minc, maxr, maxc), mask))
        at += length
    return found


class Entry:
    """A row: ``key``, ``iid`` and ``seg``, which is read when it is first needed."""

    def __init__(self, key: int, iid: IID | None, seg: Segment | None, file: IIDFile) -> None:
        self.key = key
        self._iid, self._seg, self._file = iid, seg, file

    @property
    def iid(self) -> IID:
        """Its name."""
        if self._iid is None:
            domain, address = self._file._archive_of().name(self.key)
            self._iid = IID(address, domain)
        return self._iid

    @property
    def seg(self) -> Segment:
        """Its segment."""
        if self._seg is None:
            self._seg = Segment(stored=self._file._archive_of()[self.key])
        return self._seg

    @property
    def fetched(self) -> bool:
        """Whether its segment was read."""
        return self._seg is not None

    def __repr__(self) -> str:
        return f"<Entry {self.key}: {self.iid}>"


class Group(list[int]):
    """Keys of a group, ascending; also as ``keys``, which may be called."""

    def __init__(self, name: str, keys: Iterable[int]) -> None:
        super().__init__(sorted(keys))
        self.name = name

    @property
    def keys(self) -> _Keys:
        """Its keys; may be called, too."""
        return _Keys(self)


class _Keys(list[int]):
    def __call__(self) -> _Keys:
        return self


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an archive: offset and length in bytes of each section; zeros of a new one."""

    version: int = 0
    rformat: int = 0
    lut: tuple[int, int] = (0, 0)
    iids: tuple[int, int] = (0, 0)
    meta: tuple[int, int] = (0, 0)
    groups: tuple[int, int] = (0, 0)
    segs: tuple[int, int] = (0, 0)


class _Meta:
    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data


class _Lut:
    def __init__(self, file: IIDFile) -> None:
        self._file = file

    @property
    def entries(self) -> list[Entry]:
        """All rows, by key."""
        return self._file._all()

    def fetched_entries(self) -> list[Entry]:
        """Return the rows whose segment was read."""
        return [e for e in self.entries if e.fetched]

    def __len__(self) -> int:
        return len(self._file)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, key: int) -> Entry:
        return self._file._entry(key)


class _Groups:
    def __init__(self, file: IIDFile) -> None:
        self._file = file
        archive = file._archive
        self._keys: dict[str, list[int]] = (
            {} if archive is None else {k: v.keys.tolist() for k, v in archive.groups.items()}
        )

    def list(self) -> Any:
        """Return the names of the groups, sorted."""
        return sorted(self._keys)

    def get(
        self, groups: Any, keys_only: bool = False, iids: bool = True, segs: bool = True
    ) -> Any:
        """Return entries of groups (or their keys), ascending."""
        keys = self._of(groups)
        return keys if keys_only else self._file.fetch(keys=keys, iids=iids, segs=segs)

    def _of(self, groups: Any) -> Any:
        found: set[int] = set()
        for name in [groups] if isinstance(groups, str) else groups:
            if name not in self._keys:
                raise KeyError(f"no group {name!r}; there: {', '.join(self._keys) or 'none'}")
            found.update(self._keys[name])
        return sorted(found)

    def add(self, name: str, keys: int | Iterable[int] = ()) -> Group:
        """Add a key, or some, to a group, new or not; return the group."""
        new = as_keys(keys, len(self._file), self._file.fpath or "a new archive").tolist()
        known = self._keys.get(as_group_name(name), [])
        self._keys[name] = list(dict.fromkeys([*known, *new]))
        return Group(name, self._keys[name])


class IIDFile:
    """An archive, loaded or new.

    Parameters
    ----------
    fpath : str or os.PathLike, optional
        The file; a new archive without.
    """

    def __init__(self, fpath: str | os.PathLike[str] | None = None) -> None:
        self.fpath = None if fpath is None else os.fspath(fpath)
        self._place = None if self.fpath is None else absolute(self.fpath)
        self._archive: SingleArchive | None = None
        if fpath is not None:
            self._archive = open_dataset(fpath, format="iid", others=())
        self._entries: dict[int, Entry] = {}
        self._n = 0 if self._archive is None else len(self._archive)
        self.meta = _Meta({} if self._archive is None else dict(self._archive.meta))
        self.groups = _Groups(self)
        self.lut = _Lut(self)

    @property
    def header(self) -> Header:
        """The header of the file that was loaded."""
        if self._archive is None:
            return Header()
        known = self._archive.layout
        places = {name: getattr(known, name) for name in SECTIONS}
        return Header(known.version, known.rformat, **places)

    def _archive_of(self) -> SingleArchive:
        assert self._archive is not None
        return self._archive

    def __len__(self) -> int:
        return self._n

    def _entry(self, key: int) -> Entry:
        key = as_integer(key, "a key", -(2**63), 2**63)
        if not 0 <= key < self._n:
            raise KeyError(f"key {key} of {self._n} segments")
        if key not in self._entries:
            self._entries[key] = Entry(key, None, None, self)
        return self._entries[key]

    def _all(self) -> list[Entry]:
        return [self._entry(k) for k in range(self._n)]

    # --- changes ----------------------------------------------------------------------------------

    def add(
        self,
        address: Text | None = None,
        domain: Text | None = None,
        bbox: Sequence[int] | None = None,
        mask: ArrayLike | None = None,
        group: str | None = None,
        *,
        iid: IID | None = None,
        seg: Segment | None = None,
    ) -> Entry:
        """Add a segment, by address, domain, bbox, mask and group, or by iid, seg and group."""
        if (iid is None) != (seg is None) or (iid is None) == (address is None):
            raise TypeError("add(address, domain, bbox, mask) or add(iid=, seg=) is needed")
        if iid is None or seg is None:
            if mask is None or bbox is None or address is None:
                raise TypeError("address, bbox and mask are needed")
            iid, seg = IID(address, domain), Segment.from_mask(mask, bbox)
        if not isinstance(iid, IID) or not isinstance(seg, Segment):
            raise TypeError(f"iid and seg are an IID and a Segment, got {iid!r} and {seg!r}")
        for region in seg._own:
            inside = region.bbox[0] >= seg.bbox[0] and region.bbox[1] >= seg.bbox[1]
            if not (inside and region.bbox[2] <= seg.bbox[2] and region.bbox[3] <= seg.bbox[3]):
                raise ValueError(f"a region {region.bbox} outside of its segment's box {seg.bbox}")
        if group is not None:
            as_group_name(group)
        entry = Entry(self._n, iid, seg, self)
        self._entries[self._n] = entry
        self._n += 1
        if group is not None:
            self.groups.add(group, [entry.key])
        return entry

    def _write(self, out: Writer) -> None:
        for entry in self._all():
            domain = entry.iid.domain
            stored = entry.seg._stored
            bits = (
                stored._file.region_bytes(stored._row)
                if stored is not None
                else b"".join(_packed(r) for r in entry.seg.regions)
            )
            area, box = entry.seg.area, entry.seg.bbox
            out.add(domain, entry.iid.address, bits=bits, bbox=box, area=area)
        for name, keys in self.groups._keys.items():
            out.group(name, np.array(keys, np.int64))

    def save(self, fpath: str | os.PathLike[str] | None = None) -> None:
        """Write the archive; an old file is replaced in one step, when the new one is complete.

        Raises
        ------
        FileChangedError
            The file that was loaded has changed since, and would be replaced.
        """
        target = fpath or self._place
        if target is None:
            raise ValueError("a new archive needs a path to be saved to")
        known = self._archive
        version = (0, 0) if known is None else known.header
        own = known is not None and os.path.realpath(target) == os.path.realpath(self._place or "")
        with Writer(target, self.meta.data, replace=True, version=version) as out:
            if known is not None and own:
                out._instead_of(known.source)
            self._write(out)
        if own:
            self._archive = open_dataset(target, format="iid", others=())

    def dump(self) -> bytes:
        """Return the bytes that ``save`` would write."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "dump.iid")
            self.save(path)
            return read_small(path, MOST_NBYTES)

    # --- queries ----------------------------------------------------------------------------------

    def fetch(
        self,
        keys: int | Iterable[int] | None = None,
        all_keys: bool = False,
        groups: Any = None,
        iids: bool = True,
        segs: bool = True,
        everything: bool = False,
        *,
        group: Any = None,
    ) -> list[Entry]:
        """Return entries of keys, of groups, or all, in the order of their keys."""
        del iids  # names are read when they are first needed
        wanted: set[int] = set()
        if all_keys or everything:
            wanted.update(range(self._n))
        if keys is not None:
            wanted.update(as_keys(keys, 1 << 32, "keys").tolist())
        named = groups if groups is not None else group
        if named is not None:
            wanted.update(self.groups._of(named))
        found = [self._entry(k) for k in sorted(wanted)]
        if segs:
            for entry in found:
                _ = entry.seg
        return found

    def look_for(
        self,
        addresses: Any = None,
        domains: Any = None,
        groups: Any = None,
        segs: bool = True,
    ) -> list[Entry]:
        """Return entries by address and domain, each one or several; empty ones match all."""
        del segs
        found = self._all() if groups is None else self.fetch(groups=groups, segs=False)
        for given, attribute in ((addresses, "address"), (domains, "domain")):
            if given:
                texts = [given] if isinstance(given, str | bytes) else given
                wanted = {as_bytes(t) for t in texts}
                found = [e for e in found if (getattr(e.iid, attribute) or b"") in wanted]
        return found

    def filter(
        self,
        groups: Any = None,
        area: tuple[float | None, float | None] | None = None,
        domains: Any = None,
        iids: bool = True,
        segs: bool = True,
    ) -> list[Entry]:
        """Return entries of groups and domains with an area between two numbers, both excluded.

        None leaves an end open.
        """
        del iids
        found = self.look_for(domains=domains, groups=groups, segs=segs)
        if area is not None:
            low, high = area
            least = -math.inf if low is None else low
            most = math.inf if high is None else high
            found = [e for e in found if least < e.seg.area < most]
        return found

    def at(self, x: int, y: int, only_loaded: bool = False) -> list[Entry]:
        """Return entries with a pixel in rows y - 1 and y, columns x - 1 and x."""
        return self.region((y - 1, x - 1, y + 1, x + 1), only_loaded)

    def region(self, bbox: Sequence[int], only_loaded: bool = False) -> list[Entry]:
        """Return entries with a pixel in a box."""
        found = self.lut.fetched_entries() if only_loaded else self._all()
        if self._archive is not None and not only_loaded:
            box = np.clip(np.asarray(bbox, np.int64), 0, 65535)
            known = set(self._archive.region(box).tolist())
            n = len(self._archive)
            return [
                e for e in found if (e.key in known if e.key < n else e.seg.intersects_bbox(bbox))
            ]
        return [e for e in found if e.seg.intersects_bbox(bbox)]

    def overlap_graph(
        self, everything: bool = True
    ) -> tuple[list[Entry], list[tuple[Entry, Entry, int]]]:
        """Return entries, and (A, B, pixels) for each pair of entries that share pixels."""
        found = self._all() if everything else self.lut.fetched_entries()
        keys = [e.key for e in found]
        if self._archive is not None and len(self._archive) == self._n:
            o = self._archive.overlaps(keys)
            edges = zip(o.i.tolist(), o.j.tolist(), o.pixels.tolist(), strict=True)
            return found, [(self._entry(i), self._entry(j), n) for i, j, n in edges]
        pairs = []
        for k, a in enumerate(found):
            for b in found[k + 1 :]:
                shared = a.seg.intersects_segment(b.seg)
                if shared:
                    pairs.append((a, b, shared))
        return found, pairs


def _packed(region: Region) -> bytes:
    bits = np.packbits(region.mask.ravel()).tobytes()
    box = np.array(region.bbox, "<u2").tobytes()
    return (12 + len(bits)).to_bytes(4, "little") + box + bits
