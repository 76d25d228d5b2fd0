"""Batches of one VIMH file: canvases, recipes and label tables, made once and shared."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native, view
from mapix.batch import Batch, Lookout, Recipe, gather, in_unit
from mapix.errors import LimitError
from mapix.index import RecordIndex
from mapix.source import Source
from mapix.vimh import bases
from mapix.vimh.bases import Record
from mapix.vimh.parameters import UNITS, Parameters, Unit

__all__ = ["Gatherer"]

MAX_RECIPES = 64
# pad=True is refused beyond both: two slivers, one high and one wide, could ask for all memory
MOST_PADDING = 64  # times the bytes of the images
FREE_PADDING = 1 << 30  # bytes

Values = tuple[str, str, float | None, ArrayLike | None, ArrayLike | None]


def _hashable(x: ArrayLike | None) -> object:
    if x is None or isinstance(x, float | int):
        return x
    if isinstance(x, tuple) and all(type(v) is float for v in x):
        return x
    return tuple(np.asarray(x, np.float64).ravel().tolist())


class Gatherer(bases.File):
    """What all datasets over one file share: its index in C, its labels, its recipes.

    Rows are record numbers of the file, int64 (b,); the C core checks their range.  Options are
    those of ``Dataset.batch``.
    """

    def __init__(
        self, source: Source, index: RecordIndex, named: Parameters, *, interleaved: bool
    ) -> None:
        # Opening is to cost nothing: whatever a first record does not need is made when asked for.
        self.source = source
        self.index = index
        self.interleaved = interleaved
        self.fixed_nbytes = index.head_nbytes + 1  # of a record: header and label count
        self._named = named
        self._recipes: dict[Any, Recipe] = {}
        self._lookout = Lookout()
        self._shapes = np.empty((0, 3), np.uint16)
        self._tables: dict[Unit, NDArray[Any]] = {}

    @cached_property
    def parameters(self) -> Parameters:
        """The labels: named ones, then ``param_<id>`` for ids that occur without a name."""
        return self._named.with_ids(self.index.ids)

    @cached_property
    def images(self) -> NDArray[np.uint8] | None:
        """Of a uniform file: all images, as one view made once."""
        return self.uniform_images() if self.index.stride else None

    @cached_property
    def codes(self) -> NDArray[np.uint8] | None:
        """Of a uniform file: all label codes, as one view made once."""
        return self.uniform_labels(1) if self.index.stride else None

    @cached_property
    def most_channels(self) -> int:
        """The largest number of channels in the file."""
        return self.index.most_channels()

    @cached_property
    def _native(self) -> _native.VimhIndex:
        return self.index.native(interleaved=self.interleaved)

    @cached_property
    def _columns(self) -> NDArray[np.int16]:
        return self.parameters.columns()

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.parameters.names)

    @cached_property
    def _one_shape(self) -> NDArray[np.uint16]:
        return np.array(self.index.first[1:4], np.uint16)

    def uniform_images(self, empty: tuple[int, int, int] = (0, 0, 0)) -> NDArray[np.uint8]:
        """All images of a uniform file, (n, h, w, c); of shape (0, *empty) where there are none."""
        at, h, w, c, n = self.index.first
        shape = (h, w, c) if self.index.nrecords else empty
        at += self.fixed_nbytes + 2 * n
        return view.uniform_images(
            self.source.view, at, self.index.nrecords, self.index.stride, shape, self.interleaved
        )

    def uniform_labels(self, which: int) -> NDArray[np.uint8]:
        """Ids (0) or codes (1) of all records of a uniform file, (n, N)."""
        at, _, _, _, n = self.index.first
        at += self.fixed_nbytes
        return view.uniform_labels(
            self.source.view, at, self.index.nrecords, self.index.stride, n, which
        )

    def _ready(self) -> None:
        """Attach the file; called by the base when a first record is wanted, and after close()."""
        mapping, index = self.source.mapping, self.index
        self._attach(
            mapping.view.obj,
            index.nrecords,
            index.stride,
            index.first,
            index.entries,
            index.head_nbytes,
            self.interleaved,
            # A stored index may have been tampered with: the file's own header has to agree.
            _native.FIND if index.stored else 0,
        )

    def _find(self, row: int) -> tuple[int, int, int, int]:
        return self._native.find(self.source.mapping, row)

    def _pairs(self, record: Record) -> list[tuple[int, int]]:
        at = record.offset + self.fixed_nbytes
        pairs = _native.copy(self.source.mapping, at, 2 * record.nlabels, "vimh")
        return list(zip(pairs[::2], pairs[1::2], strict=True))

    def labels_of(self, record: Record) -> dict[str, int]:
        """``record.labels``."""
        name = self.parameters.by_id
        return {name(id).name: code for id, code in self._pairs(record)}

    def values_of(self, record: Record) -> dict[str, float]:
        """``record.values``."""
        known = self.parameters.by_id
        found = ((known(id), code) for id, code in self._pairs(record))
        return {p.name: float(p.dequantise(code)) for p, code in found}

    def spec_range_of(self, record: Record) -> tuple[float, float] | None:
        """``record.spec_range``."""
        if self.index.head_nbytes != 14:
            return None
        raw = _native.copy(self.source.mapping, record.offset + 6, 8, "vimh")
        low, high = np.frombuffer(raw, "<f4")
        return float(low), float(high)

    def repr_of(self, record: Record) -> str:
        """``repr(record)``."""
        h, w, c = record.shape
        path = self.source.path
        return f"<Record {record.index} of {path}: {h} x {w} x {c}, {record.nlabels} labels>"

    def close(self) -> None:
        """Let go of the file, and of the views of it."""
        self.source.close()
        self._detach()
        for name in ("images", "codes"):
            self.__dict__.pop(name, None)

    def batch(
        self,
        rows: NDArray[np.int64],
        *,
        out: NDArray[Any] | Batch | None,
        values: Values,
        pad: bool | tuple[int, ...],
        crop: bool | str,
        pad_value: float,
        flat: bool,
        labels: Unit | None,
        spec_range: bool,
        threads: int,
    ) -> Batch:
        """See ``Dataset.batch``."""
        if labels is not None and labels not in UNITS:
            raise ValueError(f"labels must be one of {', '.join(UNITS)} or None, got {labels!r}")
        mapping = self.source.mapping
        dtype, layout, scale, mean, std = values
        offsets = None
        if flat:
            if pad or crop or dtype != "uint8":
                raise ValueError("flat=True gives bytes as they are: no pad, crop or dtype")
            offsets = np.empty(len(rows) + 1, np.int64)
            self._native.extent(mapping, rows, offsets.view(np.uint64))
            h = w = c = fit = 0
        else:
            h, w, c, fit = self.canvas(rows, pad, crop)
        recipe = self._recipe(dtype, layout, scale, mean, std, c, fit, pad_value, labels is None)
        batch = gather(
            mapping,
            self._native,
            rows,
            recipe,
            h=h,
            w=w,
            offsets=offsets,
            shapes=self._alike(len(rows)) if self.index.stride else None,
            spec_range=spec_range,
            out=out,
            threads=threads,
            lookout=self._lookout,
        )
        if labels is None or labels == "raw":
            return batch
        return in_unit(batch, self._table(labels), -1 if labels == "class" else np.nan)

    def _recipe(
        self,
        dtype: str,
        layout: str,
        scale: float | None,
        mean: ArrayLike | None,
        std: ArrayLike | None,
        c: int,
        fit: int,
        pad_value: float,
        unlabelled: bool,
    ) -> Recipe:
        """A recipe for these options: made anew only when they are."""
        key = (dtype, layout, scale, _hashable(mean), _hashable(std), c, fit, pad_value, unlabelled)
        known: dict[Any, Recipe] = self._recipes
        if key not in known:
            if len(known) >= MAX_RECIPES:
                known.clear()
            known[key] = Recipe(
                dtype,
                layout,
                scale,
                mean,
                std,
                c=c,
                fit=fit,
                pad_value=pad_value,
                columns=None if unlabelled else self._columns,
                names=() if unlabelled else self._names,
            )
        return known[key]

    def _alike(self, b: int) -> NDArray[np.uint16]:
        """The one shape of a uniform file, b times, as a read-only view."""
        known = self._shapes
        if len(known) != b:
            known = np.ndarray((b, 3), np.uint16, self._one_shape, 0, (0, 2))
            known.flags.writeable = False
            self._shapes = known
        return known

    def _table(self, unit: Unit) -> NDArray[Any]:
        if unit not in self._tables:
            self._tables[unit] = self.parameters.table(unit)
        return self._tables[unit]

    def canvas(
        self, rows: NDArray[np.int64], pad: bool | tuple[int, ...], crop: bool | str
    ) -> tuple[int, int, int, int]:
        """(h, w, c) of the output, and how records are made to fit it."""
        if not pad and not crop and self.index.stride:
            _, h, w, c, _ = self.index.first
            return h, w, c, 0
        if crop not in (False, True, "centre", "corner"):
            raise ValueError(f"crop must be a bool, 'centre' or 'corner', got {crop!r}")
        fit = (_native.PAD if pad else 0) | (_native.CROP if crop else 0)
        if crop in (True, "centre"):
            fit |= _native.CENTRE
        if len(rows):
            h, w, c, low_h, low_w, low_c, total = self._native.extent(self.source.mapping, rows)
        else:
            h, w, c = low_h, low_w, low_c = self.index.first[1:4]
            total = 0
        if pad or crop:
            # The same number for all batches of the file: a network wants one.
            c = self.most_channels
        if crop and not pad:
            h, w = low_h, low_w
            fit |= _native.PAD if low_c != c else 0  # channels are never cut: pad the missing
        if isinstance(pad, tuple):
            if len(pad) not in (2, 3) or not all(0 < x < 65536 for x in pad):
                raise ValueError(f"pad must be True, (h, w) or (h, w, c) in 1..65535, got {pad!r}")
            h, w, c = (*pad, c)[:3]
        elif pad and len(rows) * h * w * c > max(MOST_PADDING * total, FREE_PADDING):
            raise LimitError(
                f"{self.source.path}: padding {len(rows)} records to {h} x {w} x {c} would take "
                f"{len(rows) * h * w * c} bytes for {total} bytes of images, more than "
                f"{MOST_PADDING} times; pass pad=(h, w), with crop=True where records exceed it"
            )
        return h, w, c, fit

    def willneed(self, rows: NDArray[np.int64]) -> int:
        """Ask the kernel for the pages of ``rows``; see ``Dataset.prefetch``."""
        return self._native.willneed(self.source.mapping, rows, Lookout.PROBES)
