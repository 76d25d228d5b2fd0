"""From a path to the rows of members of a ``.npz`` archive."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from mapix import _native
from mapix.errors import FormatError, MapixError, UnsupportedError, check_memory
from mapix.named_arrays import LABELS, check_name, only_array
from mapix.named_arrays import beside as usual_labels
from mapix.npy.npz_array import LABEL, LabelMembers, NpzArray
from mapix.npy.opening import Axes, check_axes, check_size, header_at
from mapix.npy.zip_layout import DEFLATED, NPZ, STORED, Member, data_at, members
from mapix.registry import Candidate
from mapix.unpacked import cached

if TYPE_CHECKING:
    from mapix.source import Source

__all__ = ["npz_refusal", "open_npz"]

END = ".npy"
IMAGES = "images"
LIKELY_LABELS = ("target", "targets", "label")  # scikit-learn's, and others': if rows are as many
INFLATED_NBYTES = 1 << 20  # bytes of each piece
READ_STEP_NBYTES = 1 << 18


class _Archive:
    """The members of an open zip archive."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.path = source.path
        found = members(self.read, source.nbytes, self.path)
        self.arrays = {m.name.removesuffix(END): m for m in found if m.name.endswith(END)}
        self._begins = sorted(m.at for m in found)

    def read(self, at: int, nbytes: int) -> bytes:
        """Return bytes of the file, copied under the guard."""
        return bytes(_native.copy(self.source.mapping, at, nbytes, NPZ))

    def entry(self, name: str) -> Member:
        """Return a member by its name without ``.npy``."""
        if not isinstance(name, str):
            raise TypeError(f"the name of an array must be a text, got {name!r}")
        name = name.removesuffix(END)
        check_name(name, self.arrays, self.path, NPZ)
        return self.arrays[name]

    def opened(
        self,
        name: str,
        labels: NpzArray | None = None,
        axes: Axes = "HWC",
        beside: Mapping[str, LabelMembers] | None = None,
    ) -> NpzArray:
        """Return the rows of a member."""
        entry = self.entry(name)
        if entry.encrypted:
            raise UnsupportedError(f"{self.path}: npz: member {entry.name!r} is encrypted")
        if entry.method not in (STORED, DEFLATED):
            raise UnsupportedError(
                f"{self.path}: npz: member {entry.name!r} is compressed by method {entry.method}; "
                "numpy.savez writes members that are views"
            )
        if entry.method == STORED and entry.stored_nbytes != entry.nbytes:
            reason = f"{entry.stored_nbytes} bytes of {entry.name!r} are stored, of {entry.nbytes}"
            raise FormatError(self.path, NPZ, reason, at=entry.at)
        follows = [at for at in self._begins if at > entry.at]
        end = min(follows, default=self.source.nbytes)
        at = data_at(self.read, entry, end, self.path)
        numbers = self.source
        if entry.method == DEFLATED:
            numbers = self._unpacked(entry, at)
            at = 0
        mapping = numbers.mapping
        header = header_at(numbers, at, entry.nbytes, self._place(entry), NPZ)
        check_size(header, entry.nbytes, self._place(entry), NPZ)
        mapping.advise("random")
        return NpzArray(
            *(self.source, header, at),
            entry=entry,
            members=tuple(self.arrays),
            numbers=numbers,
            labels=labels,
            beside=beside,
            axes=axes,
        )

    def label_members(self) -> dict[str, LabelMembers]:
        """Return the labels that ``mapix.convert`` wrote into the archive, by name."""
        found = {}
        for member in self.arrays:
            if not member.startswith(LABEL):
                continue
            name = member.removeprefix(LABEL)
            present, span = (
                self.opened(place) if place in self.arrays else None
                for place in (f"present/{name}", f"range/{name}")
            )
            found[name] = LabelMembers(self.opened(member), present, span)
        return found

    def _place(self, entry: Member) -> str:
        return f"{self.path}: member {entry.name}"

    def _unpacked(self, entry: Member, at: int) -> Source:
        """Return the data of a compressed member, which lies in the cache."""
        what = f"member {entry.name}"
        return cached(self.source, lambda: self._inflated(entry, at), entry.nbytes, NPZ, what)

    def _inflated(self, entry: Member, begin: int) -> Iterator[bytes]:
        """Yield the data of a compressed member; its CRC32 is checked at the end."""
        engine, crc, done = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
        end = begin + entry.stored_nbytes
        reason = ""
        for at in range(begin, end, READ_STEP_NBYTES):
            raw = self.read(at, min(READ_STEP_NBYTES, end - at))
            while raw and not engine.eof:
                try:
                    piece = engine.decompress(raw, INFLATED_NBYTES)
                except zlib.error as e:
                    check_memory(e)
                    reason = f"member {entry.name!r} cannot be decompressed: {e}"
                    raise FormatError(self.path, NPZ, reason, at=begin) from e
                raw = engine.unconsumed_tail
                crc, done = zlib.crc32(piece, crc), done + len(piece)
                yield piece
        if not engine.eof:
            reason = f"the data of member {entry.name!r} ends too early"
        elif done == entry.nbytes and crc != entry.crc:
            reason = f"member {entry.name!r} has the CRC32 {crc:08x}, {entry.crc:08x} is stated"
        if reason:
            raise FormatError(self.path, NPZ, reason, at=begin)


def npz_refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be an archive of arrays: see ``mapix.registry.Format``."""
    if candidate.path.endswith(".npz"):
        return None  # the error of opening states what is wrong with it
    try:
        return None if _Archive(candidate.source).arrays else "a zip archive without .npy members"
    except MapixError as e:
        return f"not a zip archive of arrays ({str(e)[-60:]})"


def open_npz(
    path: str | os.PathLike[str] | Candidate,
    *,
    member: str | None = None,
    images: str | None = None,
    labels: str | Literal[False] | None = None,
    axes: Axes = "HWC",
) -> NpzArray:
    """Open an array of a ``.npz`` archive, with its labels where there are some.

    Without options the array is ``images``, ``x``, ``arr_0`` or ``data``, or the only one that
    there is.  Its labels are ``labels`` or ``y``, or ``target``, ``targets`` or ``label`` if it has
    as many rows.  Labels that ``mapix.convert`` wrote (``label/NAME``) are columns; a single one
    that no record lacks is the label of each row.

    Parameters
    ----------
    path : str or os.PathLike
        The archive.
    member : str, optional
        The array, without labels.
    images, labels : str, optional
        The array, and its labels, one row for each of its rows; ``labels=False`` for none.
    axes : {"HWC", "CHW"}
        Dimensions of a row that has three.

    Returns
    -------
    NpzArray
        Its numbers are views of the archive where members are stored as they are.  Compressed
        members (``numpy.savez_compressed``) are decompressed into the cache, once.

    Raises
    ------
    FormatError
        The archive, or an array in it, is damaged; there are several arrays, or no such array; or
        images and labels have different lengths.
    UnsupportedError
        The member is encrypted, compressed in another way, or an array that mapix does not read.
    LimitError
        It decompresses to more than 64 times the size of the archive, and more than 64 MiB.
    """
    check_axes(axes)
    if member is not None and (images is not None or labels):
        raise ValueError("member= is an array without labels: pass images= and labels= instead")
    archive = _Archive(Candidate.of(path).source)
    name, beside = member, None
    if name is None:
        how = "member=, or images= and labels="
        name = images or only_array(archive.arrays, archive.path, NPZ, how)
        usual = (*LABELS, *LIKELY_LABELS)
        beside = labels or None
        if labels is None:
            beside = usual_labels(archive.arrays, name, usual)
    if name == IMAGES and beside is None and member is None:
        if {"shapes", "offsets"} <= archive.arrays.keys():
            raise UnsupportedError(
                f"{archive.path}: npz: 'images' holds images of mixed sizes back to back, as "
                "numpy.load reads them with shapes and offsets; VIMH, image folders and Parquet "
                "open such images. As numbers: member='images'"
            )
        if labels is None:
            return _with_labels(archive, axes)
    if beside is None:
        return archive.opened(name, axes=axes)
    found = archive.opened(beside)
    rows = archive.opened(name, found, axes)
    if len(rows) != len(found):
        if labels is None and beside in LIKELY_LABELS:
            return archive.opened(name, axes=axes)
        reason = (
            f"{len(rows)} rows in {name!r}, {len(found)} labels in {beside!r}; pass member= or "
            "labels= (False for none)"
        )
        raise FormatError(archive.path, NPZ, reason)
    return rows


def _with_labels(archive: _Archive, axes: Axes) -> NpzArray:
    """Return ``images`` with the labels that ``mapix.convert`` wrote: one, or columns."""
    beside = archive.label_members()
    rows = archive.opened(IMAGES, axes=axes)
    if not beside:
        return rows
    for name, found in beside.items():
        for kind, member in (("label", found.values), ("present", found.present)):
            if member is not None and member.shape != (len(rows),):
                reason = f"{kind}/{name} of shape ({len(rows)},) expected, got {member.shape}"
                raise FormatError(archive.path, NPZ, reason)
        span = found.range
        if span is not None and (span.shape != (3,) or span.dtype.kind != "f"):
            reason = f"range/{name} of three floats expected, got {span.dtype} {span.shape}"
            raise FormatError(archive.path, NPZ, reason)
    if len(beside) == 1:
        (found,) = beside.values()
        every = found.present is None or found.present._values_of(found.present.rows).all()
        if every and found.range is None:
            return archive.opened(IMAGES, found.values, axes)
    return archive.opened(IMAGES, axes=axes, beside=beside)
