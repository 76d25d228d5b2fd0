"""Several VIMH files as one dataset: parameters agree, records may differ in size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import joined
from mapix.batch import Batch, in_unit
from mapix.errors import FormatError, UnsupportedError
from mapix.joint import Labels
from mapix.options import BatchOptions
from mapix.vimh.batching import Batching
from mapix.vimh.dataset import MOST_SHOWN, Dataset
from mapix.vimh.labels import Column
from mapix.vimh.parameters import Parameters
from mapix.vimh.record_types import Record

__all__ = ["Joined"]


def _agreed(parts: Sequence[Dataset]) -> Parameters:
    """Return the labels of all parts; those of one name or id must be equal in all."""
    found = parts[0].parameters
    for ds in parts[1:]:
        for p in ds.parameters.values():
            if p.name not in found:
                if p.id in {q.id for q in found.values()}:
                    named = found.by_id(p.id).name if p.id is not None else ""
                    reason = f"label id {p.id} is {p.name!r}, in {parts[0].path} it is {named!r}"
                    raise FormatError(ds.path, "vimh", reason)
                found = Parameters([*found.values(), p], list(found.fixed.values()))
            elif p != found[p.name]:
                reason = f"parameter {p}, in {parts[0].path} it is {found[p.name]}"
                raise FormatError(ds.path, "vimh", reason)
    return found


class Joined(joined.Joined[Record], Batching):
    """Several VIMH files as one dataset.  Made by ``mapix.open([...])``.

    As ``mapix.joined.Joined``; records may differ in size.  Views of one file (``images``,
    ``label_bytes``) are those of ``parts``.

    Attributes
    ----------
    parts : sequence of Dataset
        The files.
    parameters : Parameters
        The labels of all of them.

    Raises
    ------
    FormatError
        Two files disagree about a parameter.
    """

    def _check(self) -> None:
        self.parameters = _agreed(self.parts.examples)
        self._tables: dict[str, NDArray[Any]] = {}

    @property
    def heads(self) -> dict[str, int]:
        """Name -> number of classes."""
        return self.parameters.heads

    @property
    def info(self) -> Mapping[str, Any]:
        """The info JSON of the first file."""
        found: Mapping[str, Any] = self.parts.examples[0].info
        return found

    @property
    def shapes(self) -> NDArray[np.uint16]:
        """(h, w, c) of each record, uint16 (n, 3).  Copies: yes."""
        found: NDArray[np.uint16] = self._placed(
            [(ds.shapes, *rest, len(ds)) for ds, *rest in self._asked()], np.dtype(np.uint16)
        )
        return found

    @property
    def uniform(self) -> bool:
        """Whether all records of all files have one shape."""
        return self.image_shape is not None or not self._count()

    def _shape_of_all(self) -> tuple[int, ...] | None:
        shapes = self.parts.shapes()
        return shapes.pop() if len(shapes) == 1 else None

    @property
    def images(self) -> NDArray[np.uint8]:
        """Refused: no view spans files."""
        raise UnsupportedError(
            f"{self.path}: no view spans files; use ds.parts[k].images, ds.batch"
        )

    def _summary(self) -> str:
        heads = ", ".join(f"{k}: {v}" for k, v in list(self.heads.items())[:MOST_SHOWN])
        return f"{super()._summary()}, heads {{{heads}}}"

    def _label_names(self) -> Sequence[str]:
        return list(self.parameters)

    _column_names = _label_names

    def _column(self, name: str) -> Column:
        known = [(ds.labels.get(name), *rest, len(ds)) for ds, *rest in self._asked()]
        codes = [(None if column is None else column.codes, *rest) for column, *rest in known]
        present = [(None if column is None else column.present, *rest) for column, *rest in known]
        return Column(
            self.parameters[name],
            self._placed(codes, np.dtype(np.uint8)),
            self._placed(present, np.dtype(np.bool_)),
        )

    def _gather(
        self, rows: NDArray[np.int64], options: BatchOptions, out: NDArray[Any] | Batch | None
    ) -> Batch:
        if dict(options.more).get("flat"):
            return self._flat(rows, options)
        found, unit = self._joint_batch(rows, options, out), options.labels
        if found is None:
            return self._gather_by_part(rows, options, out)
        if unit is None or unit == "raw":
            return found
        if unit not in self._tables:
            self._tables[unit] = self.parameters.table(unit)
        return in_unit(found, self._tables[unit], -1 if unit == "class" else np.nan)

    def _labels_of_records(self) -> Labels | None:
        if any(not ds._gatherer.fixed_nbytes for ds in self.parts.examples):
            return super()._labels_of_records()  # of pickles, whose labels lie elsewhere
        return Labels(tuple(self.parameters.names), self.parameters.columns())

    def _flat(self, rows: NDArray[np.int64], options: BatchOptions) -> Batch:
        """Return all images one after the other, with their offsets."""
        n = len(rows)
        if not n:
            empty: Batch = self.parts.examples[0]._gather(rows, options, None)
            return empty
        pieces = [
            (ds._gather(ds._rows_of(part), options, None), at)
            for ds, part, at in self._by_part(rows)
        ]
        sizes = np.zeros(n + 1, np.int64)
        for piece, where in pieces:
            assert piece.offsets is not None
            sizes[1:][where] = np.diff(piece.offsets)
        offsets = np.cumsum(sizes)
        images = np.empty(int(offsets[-1]), np.uint8)
        for piece, where in pieces:
            assert piece.offsets is not None
            for k, i in enumerate(np.arange(n)[where].tolist()):
                image = piece.images[piece.offsets[k] : piece.offsets[k + 1]]
                images[offsets[i] : offsets[i + 1]] = image
        found = self._batch_of(pieces, images, n)
        found.offsets = offsets
        return found
