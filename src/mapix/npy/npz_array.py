"""Rows of arrays in ``.npz`` archives."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mapix import _native
from mapix.columns import Column
from mapix.npy.array import NpyArray
from mapix.npy.zip_layout import NPZ, STORED, Member

if TYPE_CHECKING:
    from mapix.byte_ranges import Walk
    from mapix.dataset import Progress
    from mapix.npy.layout import Header
    from mapix.plans import Map
    from mapix.report import Report
    from mapix.source import Source

__all__ = ["LABEL", "LabelMembers", "NpzArray"]

LABEL = "label/"  # before the name of a label, in archives of mapix.convert

READ_STEP_NBYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LabelMembers:
    """The members that ``mapix.convert`` writes for a label.

    Attributes
    ----------
    values : NpzArray
        A number for each record: the value, or with ``range`` its code, 0 to 255.
    present : NpzArray, optional
        Whether a record has the label.
    range : NpzArray, optional
        Value of code 0, value of code 255, and step.
    """

    values: NpzArray
    present: NpzArray | None
    range: NpzArray | None


class NpzArray(NpyArray):
    """Rows of a member of a ``.npz`` archive.  Made by ``mapix.open``.

    Attributes
    ----------
    members : tuple of str
        Names of all arrays in the archive, without ``.npy``.
    member : str
        The array whose rows these are.
    """

    FAMILY = NPZ
    member: str

    def __init__(
        self,
        source: Source,
        header: Header,
        at: int,
        *,
        entry: Member,
        members: tuple[str, ...],
        numbers: Source | None = None,
        labels: NpzArray | None = None,
        beside: Mapping[str, LabelMembers] | None = None,
        axes: str = "HWC",
    ) -> None:
        member = entry.name.removesuffix(".npy")
        chosen: dict[str, Any] = {"member": member}
        if labels is not None:
            chosen = {"images": member, "labels": labels.member}
        elif beside:
            chosen = {"images": member}
        super().__init__(
            *(source, header, at), numbers=numbers, labels=labels, axes=axes, options=chosen
        )
        self.members = members
        self.member = member
        self._entry = entry
        self._member_at = at
        self._beside = dict(beside or {})
        if labels is not None and labels.member.startswith(LABEL):
            self._names = (labels.member.removeprefix(LABEL),)

    def _column_names(self) -> tuple[str, ...]:
        return (*super()._column_names(), *self._beside)

    def _column(self, name: str) -> Column:
        found = self._beside.get(name)
        if found is None:
            return super()._column(name)
        values, present = found.values._values_of(self.rows), None
        if found.range is not None:
            low, high, _ = map(float, found.range._values_of(np.arange(3)))
            values = low + values.astype(np.float64) / 255 * (high - low)
        if found.present is not None:
            present = found.present._values_of(self.rows).astype(np.bool_)
        return Column(name, values, present)

    def close(self) -> None:
        """See ``mapix.dataset.Dataset``."""
        super().close()
        for found in self._beside.values():
            for member in (found.values, found.present, found.range):
                if member is not None:
                    member.close()

    def _facts(self) -> dict[str, Any]:
        labels: str | None = getattr(self.labels, "member", None)
        return {
            **super()._facts(),
            "member": self.member,
            "members": list(self.members),
            "compressed": self._entry.method != STORED,
            "labels": labels,
        }

    def _walk_header(self, walk: Walk) -> None:
        if self._numbers is self.source:  # a compressed member lies in the cache
            walk.at = self._entry.at
            nbytes = self._member_at - walk.at
            walk.take("zip header", "header", nbytes, f"member {self._entry.name!r}")
        super()._walk_header(walk)

    def _check(
        self, file: Self, report: Report, progress: Progress | None, map: Map | None
    ) -> None:
        super()._check(file, report, progress, map)
        report.checked.append("CRC32 of the member")
        mapping, crc = self._numbers.mapping, 0
        end = self._member_at + self._entry.nbytes
        for at in range(self._member_at, end, READ_STEP_NBYTES):
            size = min(READ_STEP_NBYTES, end - at)
            crc = zlib.crc32(_native.copy(mapping, at, size, NPZ), crc)
        if crc != self._entry.crc:
            report.problems.append(
                f"{self.path}: the data of member {self.member!r} has the CRC32 {crc:08x}, the "
                f"archive states {self._entry.crc:08x}"
            )
