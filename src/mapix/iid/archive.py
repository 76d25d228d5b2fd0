"""An IID archive: segments by key, by name, by group, by place; masks and paintings of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix._native.iid import Iid
from mapix._native.tree import Tree
from mapix.errors import FormatError, LimitError, warn
from mapix.iid import trailer
from mapix.iid.arguments import as_keys
from mapix.iid.groups import Group, Groups
from mapix.iid.layout import (
    NAME,
    ROW_NBYTES,
    check_sharing,
    image_size,
    read_layout,
    read_meta,
)
from mapix.iid.names import Names, Text, as_bytes
from mapix.iid.pixels import STEP, Pixels
from mapix.iid.places import Places
from mapix.iid.segment import Box, Region, Segment
from mapix.iid.selection import Selection
from mapix.report import Report
from mapix.selection import chosen
from mapix.source import Source

__all__ = ["Archive"]

LUT_ROW = np.dtype(
    [("key", "<u4"), ("name_at", "<u4"), ("name_nbytes", "<u4"), ("at", "<u4"), ("nbytes", "<u4")]
)

Keys = NDArray[np.uint32]
KeysLike = Group | Selection | ArrayLike
HEAD_NBYTES = 16
REGION_NBYTES = 12
TEXT = (str, bytes)
PIXELS_PER_BYTE = 32  # that a file may ask for by numbers alone: 8 are in each byte of a mask
LEAST_NBYTES = 1 << 20  # a file is taken for at least as large


class Archive(Pixels, Places):
    """An IID archive.  Made by ``mapix.open``; lazy to the last byte.

    ``archive[key]`` is a Segment.  Boxes and areas of all segments, the tree over them, and the
    table of names are made when something first asks for them, and kept.

    Copies: none where the docstring says view.  Lifetime: views outlive ``close()``.
    Threads: any number.  Pickles as path and fingerprint.

    Attributes
    ----------
    source : Source
        The open file.
    layout : Layout
        Where its sections are.
    groups : Groups
        Name -> Group of keys.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.layout = read_layout(source)
        source.mapping.advise("random")
        n, layout = self.layout.nsegments, self.layout
        self._iid = Iid(n, layout.lut[0], layout.iids, layout.segs)
        self.groups = Groups(self)
        self._names = Names(self)

    # --- what it is -------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The file."""
        return self.source.path

    @property
    def version(self) -> int:
        """As the header has it; 0 in all known files."""
        return self.layout.version

    @property
    def header(self) -> tuple[int, int]:
        """Version and rformat of the header: what ``Writer(version=...)`` takes."""
        return self.layout.version, self.layout.rformat

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The metadata."""
        return read_meta(self.source, self.layout)

    @property
    def domains(self) -> list[bytes]:
        """All domains, sorted; empty text for segments without one."""
        return self._names.domains

    def __len__(self) -> int:
        return self.layout.nsegments

    @overload
    def __getitem__(self, key: int) -> Segment: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike) -> Selection: ...
    def __getitem__(self, key: Any) -> Segment | Selection:
        """A segment by its key; or some, by a slice, keys, or a mask, in that order."""
        found = chosen(key, None, len(self), self.path, "segments")
        if isinstance(found, int):
            return Segment(self, found)
        return Selection(self, ready=np.asarray(found, np.uint32))

    def __iter__(self) -> Iterator[Segment]:
        return (Segment(self, key) for key in range(len(self)))

    @property
    def keys(self) -> Keys:
        """All keys, uint32 (n,)."""
        return np.arange(len(self), dtype=np.uint32)

    # --- one segment ------------------------------------------------------------------------------

    @property
    def _lut(self) -> NDArray[np.void]:
        """The lookup table, (n,).  Copies: 20 bytes per segment, under the guard."""
        raw = _native.copy(self.source.mapping, *self.layout.lut, NAME)
        return np.frombuffer(raw, LUT_ROW)

    def _row(self, key: int) -> tuple[int, int, int, int]:
        """Name and segment of a key: offset and length in their sections, proven."""
        at = self.layout.lut[0] + key * ROW_NBYTES
        raw = _native.copy(self.source.mapping, at, ROW_NBYTES, NAME)
        said, *row = (int.from_bytes(raw[k : k + 4], "little") for k in range(0, ROW_NBYTES, 4))
        name_at, name_nbytes, seg_at, seg_nbytes = row
        if (
            said != key
            or name_at + name_nbytes > self.layout.iids[1]
            or name_nbytes < 12
            or seg_at + seg_nbytes > self.layout.segs[1]
            or seg_nbytes < HEAD_NBYTES
        ):
            self._iid.columns(self.source.mapping, key, None, None, 1)  # raises what is wrong
            raise FormatError(self.path, NAME, "a bad row of the lookup table", record=key, at=at)
        return name_at, name_nbytes, seg_at, seg_nbytes

    def name(self, key: int) -> tuple[bytes, bytes]:
        """(domain, iid) of a key."""
        return self._names.of(key)

    def _head(self, key: int) -> tuple[Box, int]:
        known = self.__dict__.get("_columns")
        if known is not None:
            minr, minc, maxr, maxc = known[0][key].tolist()
            return (minr, minc, maxr, maxc), int(known[1][key])
        return self._iid.head(self.source.mapping, key)

    def _own_mask(self, key: int) -> NDArray[np.bool_]:
        box, _ = self._head(key)
        h, w = box[2] - box[0], box[3] - box[1]
        if h * w > LEAST_NBYTES:
            self.check_pixels(h * w, f"a mask of segment {key}")
        out = np.empty((h, w), np.bool_)
        self._iid.mask(self.source.mapping, key, box, out)
        return out

    def _regions_at(self, key: int) -> tuple[int, int]:
        _, _, at, nbytes = self._row(key)
        return self.layout.segs[0] + at + HEAD_NBYTES, nbytes - HEAD_NBYTES

    def _source_of(self, key: int) -> Source:
        """The file that a segment lies in."""
        del key
        return self.source

    def _bits(self, key: int) -> bytes:
        """``Segment.bits``, copied under the guard."""
        return bytes(_native.copy(self.source.mapping, *self._regions_at(key), NAME))

    def _regions(self, key: int) -> list[Region]:
        outer, _ = self._head(key)
        begin, nbytes = self._regions_at(key)
        raw = self._bits(key)
        found: list[Region] = []
        at = 0
        while at < nbytes:
            length = int.from_bytes(raw[at : at + 4], "little")
            sides = [int.from_bytes(raw[at + k : at + k + 2], "little") for k in (4, 6, 8, 10)]
            minr, minc, maxr, maxc = sides
            inside = outer[0] <= minr <= maxr <= outer[2] and outer[1] <= minc <= maxc <= outer[3]
            want = REGION_NBYTES + ((maxr - minr) * (maxc - minc) + 7) // 8
            if nbytes - at < REGION_NBYTES or not inside or length != want or at + length > nbytes:
                self._iid.count(
                    self.source.mapping,
                    np.array([key], np.uint32),
                    np.array([outer], np.uint16),
                )  # raises what is wrong
                reason = f"region {len(found)} is none"
                raise FormatError(self.path, NAME, reason, record=key, at=begin + at)
            bits = np.frombuffer(raw, np.uint8, length - REGION_NBYTES, at + REGION_NBYTES)
            found.append(Region((minr, minc, maxr, maxc), bits))
            at += length
        return found

    # --- all segments -----------------------------------------------------------------------------

    def check_table(self) -> None:
        """Look at every row of the lookup table: keys, names and segments lie where they may.

        Raises
        ------
        FormatError
            A row is wrong.
        LimitError
            Segments, or names, share bytes: together they take more than 4 times their section.
        """
        if "_checked" in self.__dict__:
            return
        names = segments = 0
        for first in range(0, len(self), STEP * 16):
            n = min(STEP * 16, len(self) - first)
            _, more, many = self._iid.columns(self.source.mapping, first, None, None, n)
            names, segments = names + more, segments + many
        check_sharing(self.path, "names", names, self.layout.iids[1])
        check_sharing(self.path, "segments", segments, self.layout.segs[1])
        self.__dict__["_checked"] = True

    @cached_property
    def _columns(self) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
        n = len(self)
        self.check_table()
        boxes, areas = np.empty((n, 4), np.uint16), np.empty(n, np.uint32)
        swapped = 0
        for first in range(0, n, STEP):
            part = slice(first, min(first + STEP, n))
            swapped += self._iid.columns(
                self.source.mapping, first, boxes[part], areas[part], part.stop - first
            )[0]
        if swapped:
            warn(
                f"{self.path}: {swapped} segments state area and key in the places of 2018's "
                "writer; they are read so"
            )
        boxes.flags.writeable = areas.flags.writeable = False
        return boxes, areas

    @property
    def bboxes(self) -> NDArray[np.uint16]:
        """Boxes of all segments, uint16 (n, 4): minr, minc, maxr, maxc; read-only."""
        self.check_table()
        known = None if self._index is None else self._index.boxes
        return self._columns[0] if known is None else known

    @property
    def areas(self) -> NDArray[np.uint32]:
        """Pixels of all segments, as the file states them, uint32 (n,); read-only."""
        self.check_table()
        known = None if self._index is None else self._index.areas
        return self._columns[1] if known is None else known

    @cached_property
    def _index(self) -> trailer.Index | None:
        return trailer.read(self.source, self.layout)

    @cached_property
    def _tree(self) -> Tree:
        known = None if self._index is None else self._index.tree
        return Tree(self.bboxes) if known is None else known

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the image: ``meta["image"]``'s height and width.

        Without these, and where a box lies outside of them, what holds all boxes.
        """
        boxes = self.bboxes
        h, w = int(boxes[:, 2].max(initial=0)), int(boxes[:, 3].max(initial=0))
        said = image_size(self.meta)
        if said is None:
            return h, w
        if h > said[0] or w > said[1]:
            warn(
                f"{self.path}: boxes reach to ({h}, {w}), its metadata states an image of "
                f"{said[0]} x {said[1]}: the larger of both is taken"
            )
        return max(h, said[0]), max(w, said[1])

    @property
    def _nbytes(self) -> int:
        return self.source.nbytes

    def check_pixels(self, npixels: int, what: str, per_byte: int = PIXELS_PER_BYTE) -> None:
        """Refuse pixels of which only a number in the file says that there are so many.

        Raises
        ------
        LimitError
            They are more than that many per byte of the file, which is taken for 1 MiB at least.
        """
        most = per_byte * max(self._nbytes, LEAST_NBYTES)
        if npixels > most:
            raise LimitError(
                f"{self.path}: {what} of {npixels} pixels from an archive of {self._nbytes} bytes, "
                f"more than {most}: pass bbox= or out= if that many are wanted"
            )

    def _some(self, keys: KeysLike | None) -> Keys:
        """Keys as the core takes them, all in range."""
        if keys is None:
            return self.keys
        return as_keys(keys, len(self), self.path)

    # --- queries ----------------------------------------------------------------------------------

    def find(
        self,
        domain: Text | None = None,
        iid: Text | Sequence[Text] | None = None,
    ) -> Any:
        """Keys by name.

        Parameters
        ----------
        domain : str or bytes, optional
            Text is taken as UTF-8; empty for segments without a domain.
        iid : str or bytes, or a sequence of them, optional
            The name within the domain.

        Returns
        -------
        ndarray
            uint32, ascending: all keys of that name; with one of the two given, of that domain, or
            of that iid in any domain.  For a sequence: int64, the lowest key of each, -1 without.
        """
        if iid is not None and not isinstance(iid, TEXT):
            if domain is None:
                raise TypeError("many names need their domain")
            space = as_bytes(domain)
            return self._names.first_in(space, iid)
        if domain is None and iid is None:
            raise TypeError("domain or iid is needed")
        if iid is None:
            return self._names.in_domains([as_bytes(domain)])
        if domain is None:
            return self._names.with_iid(as_bytes(iid))
        return self._names.all_of(as_bytes(domain), as_bytes(iid))

    def names(self, keys: KeysLike | None = None) -> list[tuple[bytes, bytes]]:
        """(domain, iid) of keys."""
        return self._names.each(self._some(keys))

    def duplicates(self) -> list[Keys]:
        """Keys that share a name, an array for each name that several segments have."""
        found: list[Keys] = self._names.duplicates()
        return found

    def select(
        self,
        groups: str | Sequence[str] | None = None,
        domains: Text | Sequence[Text] | None = None,
        area: tuple[float | None, float | None] | None = None,
        bbox: Box | None = None,
        keys: KeysLike | None = None,
    ) -> Selection:
        """Segments for which all of the given conditions hold; see Selection.

        Parameters
        ----------
        groups : str or sequence of str, optional
            In any of these groups.
        domains : str or bytes, or a sequence of them, optional
            In any of these domains.
        area : (low, high), optional
            Pixels, both ends included; None leaves an end open.
        bbox : (minr, minc, maxr, maxc), optional
            With at least a pixel in this window, exactly.
        keys : array_like, optional
            Among these.
        """
        return Selection(self, groups=groups, domains=domains, area=area, bbox=bbox, keys=keys)

    # --- hand-over --------------------------------------------------------------------------------

    def table(self, keys: KeysLike | None = None) -> dict[str, Any]:
        """Columns key, domain, iid, groups, minr, minc, maxr, maxc, area: for pandas or Arrow.

        ``pandas.DataFrame(a.table())`` and ``pyarrow.table(a.table())`` take it as it is.
        """
        some = self._some(keys)
        names = self.names(some)
        boxes = self.bboxes[some]
        once, row = np.unique(some, return_inverse=True)
        place = np.full(len(self), -1, np.int64)
        place[once] = np.arange(len(once))
        of: list[list[str]] = [[] for _ in once]
        for name, group in self.groups.items():
            for i in place[group.keys].tolist():
                if i >= 0 and of[i][-1:] != [name]:  # a hostile group may have a key twice
                    of[i].append(name)
        return {
            "key": some,
            "domain": [d for d, _ in names],
            "iid": [i for _, i in names],
            "groups": [of[i] for i in row.reshape(-1).tolist()],
            **{side: boxes[:, k] for k, side in enumerate(("minr", "minc", "maxr", "maxc"))},
            "area": self.areas[some],
        }

    def verify(self, progress: Callable[[int, int], object] | None = None) -> Report:
        """Look at everything: table, names, groups, metadata, every region, areas, the index.

        Parameters
        ----------
        progress : callable, optional
            ``progress(segments_done, segments_total)``.
        """
        from mapix.iid.checking import verify

        return verify(self, progress)

    def joined(self, others: Sequence[Archive]) -> Archive:
        """Itself and others, one behind the other: what ``mapix.open([...])`` gives."""
        from mapix.iid.shards import join

        return join([self, *others])

    # --- life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the file.  Arrays taken from it stay valid; further calls raise ClosedError."""
        self.source.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        from mapix.iid.opening import reopen

        return reopen, (self.source.full_path, self.source.identity)

    def __repr__(self) -> str:
        if self.source.closed:
            return f"<mapix.iid.Archive {self.path}: closed>"
        return f"<mapix.iid.Archive {self.path}: {len(self)} segments>"
