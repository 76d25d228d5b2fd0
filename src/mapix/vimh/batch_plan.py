"""The options of ``Dataset.batch``, checked once and kept: what they mean for the rows at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.batch import Batch, Recipe, affine, gather, in_unit
from mapix.errors import LimitError, UnsupportedError
from mapix.placement import Placement
from mapix.selection import Rows as Selection
from mapix.vimh.parameters import UNITS, Unit

if TYPE_CHECKING:
    from mapix.vimh.gatherer import Gatherer

__all__ = ["Order"]

# pad=True is refused beyond both: two slivers, one high and one wide, could ask for all memory
MOST_PADDING = 64  # times the bytes of the images
FREE_PADDING = 1 << 30  # bytes

Rows = NDArray[np.int64]


class Order:
    """Options of ``Dataset.batch``, for one file.

    Does not keep the file, which keeps its orders: it is handed in.
    """

    __slots__ = ("_crop", "_fit", "_flat", "_labels", "_pad", "_recipes", "_rest", "_values")

    def __init__(
        self,
        dtype: Any,
        layout: str,
        scale: float | None,
        mean: float | tuple[float, ...] | None,
        std: float | tuple[float, ...] | None,
        pad: bool | tuple[int, ...],
        crop: bool | str,
        pad_value: float,
        flat: bool,
        labels: Unit | None,
        spec_range: bool,
        threads: int,
    ) -> None:
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        if labels is not None and labels not in UNITS:
            raise ValueError(f"labels must be one of {', '.join(UNITS)} or None, got {labels!r}")
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        if flat and (pad or crop or name != "uint8"):
            raise ValueError("flat=True gives bytes as they are: no pad, crop or dtype")
        if crop not in (False, True, "centre", "corner"):
            raise ValueError(f"crop must be a bool, 'centre' or 'corner', got {crop!r}")
        if isinstance(pad, tuple) and (
            len(pad) not in (2, 3) or not all(0 < x < 65536 for x in pad)
        ):
            raise ValueError(f"pad must be True, (h, w) or (h, w, c) in 1..65535, got {pad!r}")
        fit = (_native.PAD if pad else 0) | (_native.CROP if crop else 0)
        self._fit = fit | _native.CENTRE if crop in (True, "centre") else fit
        self._pad, self._crop, self._flat = pad, crop, flat
        self._labels = labels
        self._values = (name, layout, scale, mean, std, pad_value)
        self._rest = (spec_range, min(threads, 16))
        self._recipes: dict[tuple[int, int], Recipe] = {}

    def canvas(self, file: Gatherer, rows: Rows) -> tuple[int, int, int, int]:
        """(h, w, c) of the output, and how records are made to fit it."""
        pad, crop, fit = self._pad, self._crop, self._fit
        if not fit and file.index.stride:
            _, h, w, c, _ = file.index.first
            return h, w, c, 0
        total = 0
        if len(rows):
            h, w, c, low_h, low_w, low_c, total = file.native.extent(file.pixels.mapping, rows)
        else:
            h, w, c = low_h, low_w, low_c = file.index.first[1:4]
        if fit:
            # The same number for all batches of the file: a network wants one.
            c = file.most_channels
        if crop and not pad:
            h, w = low_h, low_w
            fit |= _native.PAD if low_c != c else 0  # channels are never cut: pad the missing
        if isinstance(pad, tuple):
            h, w, c = (*pad, c)[:3]
        elif pad and len(rows) * h * w * c > max(MOST_PADDING * total, FREE_PADDING):
            raise LimitError(
                f"{file.source.path}: padding {len(rows)} records to {h} x {w} x {c} would take "
                f"{len(rows) * h * w * c} bytes for {total} bytes of images, more than "
                f"{MOST_PADDING} times; pass pad=(h, w), with crop=True where records exceed it"
            )
        return h, w, c, fit

    def _recipe(self, file: Gatherer, c: int, fit: int) -> Recipe:
        dtype, layout, scale, mean, std, pad_value = self._values
        with_labels = self._labels is not None and file.fixed_nbytes
        columns, names = file.label_columns if with_labels else (None, ())
        made = self._recipes[c, fit] = Recipe(
            dtype,
            layout,
            scale,
            mean,
            std,
            c=c,
            fit=fit,
            pad_value=pad_value,
            columns=columns,
            names=names,
        )
        return made

    def placement(self, file: Gatherer, rows: Selection) -> Placement:
        """What ``batch`` of any records of ``rows`` does, in numbers; see ``Dataset.placement``."""
        if self._flat or self._rest[0]:
            raise UnsupportedError("flat=True and spec_range=True are for ds.batch alone")
        if not file.index.stride and not isinstance(self._pad, tuple):
            raise UnsupportedError(
                f"{file.source.path}: records of mixed sizes need pad=(h, w), "
                "which gives all batches one shape"
            )
        h, w, c, fit = self.canvas(file, np.empty(0, np.int64))
        name, layout, scale, mean, std, pad_value = self._values
        index = file.index
        at, *record, nlabels = index.first
        return Placement(
            mapping=file.pixels.mapping,
            nrecords=index.nrecords,
            rows=rows,
            entries=None if index.entries is None else index.table(),
            first_at=at,
            stride=index.stride,
            nlabels=nlabels,
            record=(record[0], record[1], record[2]),
            head_nbytes=index.head_nbytes,
            interleaved=file.interleaved,
            canvas=(h, w, c),
            fit=fit,
            layout=layout,
            swap=1,
            affine=affine(name, scale, mean, std, c),
            pad_value=pad_value,
            shape=(h, w, c) if layout == "NHWC" else (c, h, w),
            out=np.dtype(name),
        )

    def batch(self, file: Gatherer, rows: Rows, out: NDArray[Any] | Batch | None) -> Batch:
        """Gather ``rows``, record numbers of the file."""
        mapping = file.pixels.mapping
        offsets = None
        if self._flat:
            offsets = np.empty(len(rows) + 1, np.int64)
            file.native.extent(mapping, rows, offsets.view(np.uint64))
            h = w = c = fit = 0
        else:
            h, w, c, fit = self.canvas(file, rows)
        recipe = self._recipes.get((c, fit)) or self._recipe(file, c, fit)
        spec_range, threads = self._rest
        batch = gather(
            mapping,
            file.native,
            rows,
            recipe,
            h=h,
            w=w,
            offsets=offsets,
            shapes=file.alike(len(rows)) if file.index.stride else None,
            spec_range=spec_range,
            out=out,
            threads=threads,
            lookout=file.lookout,
        )
        unit = self._labels
        if not file.fixed_nbytes:
            file.complete(batch, rows, labels=unit is not None, spec_range=spec_range)
        if unit is None or unit == "raw":
            return batch
        return in_unit(batch, file.table(unit), -1 if unit == "class" else np.nan)
