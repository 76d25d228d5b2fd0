"""Batches of one VIMH file: canvases, recipes and label tables, made once and shared."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native, view
from mapix.batch import Batch, Lookout, Recipe, gather, in_unit
from mapix.errors import FormatError
from mapix.index import RecordIndex, table_bytes
from mapix.source import Source
from mapix.vimh.parameters import UNITS, Parameters, Unit
from mapix.vimh.record import Record

__all__ = ["Gatherer"]

MAX_RECIPES = 64
_ENTRY = struct.Struct("<QHHH2x")  # mapix_entry
_HEADERS = {6: struct.Struct("<HHHB"), 14: struct.Struct("<HHH8xB")}  # h, w, c, N

Values = tuple[str, str, float | None, ArrayLike | None, ArrayLike | None]


def _hashable(x: ArrayLike | None) -> object:
    if x is None or isinstance(x, float | int):
        return x
    if isinstance(x, tuple) and all(type(v) is float for v in x):
        return x
    return tuple(np.asarray(x, np.float64).ravel().tolist())


class Gatherer:
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
        self.entries = None if index.entries is None else table_bytes(index.entries)
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
    def data(self) -> memoryview:
        """The bytes of the file; ClosedError once it is closed."""
        return self.source.view

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
        entries = self.index.entries
        return self.index.first[3] if entries is None else int(entries["c"].max())

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

    @cached_property
    def record(self) -> Callable[[int], Record]:
        """``record(row)``: the Record of a row that is in range.

        A closure, because this is what ``ds[i]`` spends its time in.
        """
        entries, index = self.entries, self.index
        if entries is None:
            at, h, w, c, n = index.first
            base, stride = at | n << 56, index.stride
            return lambda row: Record(self, row, (base + row * stride, h, w, c))
        unpack = _ENTRY.unpack_from
        if not index.stored:
            return lambda row: Record(self, row, unpack(entries, row * 16))
        mapping, fixed = self.source.mapping, self.fixed_nbytes
        nbytes = mapping.nbytes
        header = _HEADERS[index.head_nbytes].unpack

        def record(row: int) -> Record:
            # A stored index may have been tampered with: the file's own header has to agree.
            entry = unpack(entries, row * 16)
            at_n, h, w, c = entry
            at, n, size = at_n & _native.AT_MASK, at_n >> 56, h * w * c
            whole = size and at + fixed + 2 * n + size <= nbytes
            if not whole or header(_native.copy(mapping, at, fixed, index.format)) != (h, w, c, n):
                raise self._not_this_file(row, at, f"{h} x {w} x {c}, {n} labels")
            return Record(self, row, entry)

        return record

    def _not_this_file(self, row: int, at: int, said: str) -> FormatError:
        return FormatError(
            self.source.path,
            self.index.format,
            f"the stored index says {said}, the file does not: open it with index='rebuild'",
            record=row,
            at=at,
        )

    def close(self) -> None:
        """Let go of the file, and of the views of it."""
        for name in ("data", "images", "codes", "record"):
            self.__dict__.pop(name, None)
        self.source.close()

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
            self._native.extent(rows, self.source.path, offsets.view(np.uint64))
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
            h, w, c, low_h, low_w, low_c, _ = self._native.extent(rows, self.source.path)
        else:
            h, w, c = low_h, low_w, low_c = self.index.first[1:4]
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
        return h, w, c, fit

    def willneed(self, rows: NDArray[np.int64]) -> int:
        """Ask the kernel for the pages of ``rows``; see ``Dataset.prefetch``."""
        return self._native.willneed(self.source.mapping, rows, Lookout.PROBES)
