"""Plans of batches: options of ``Dataset.batch``, worked out once for the records of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mapix import _native
from mapix.assembly import check_padding
from mapix.batch import Batch, Prepared, Recipe, affine, gather, in_unit
from mapix.errors import UnsupportedError
from mapix.options import BatchOptions
from mapix.selection import Rows as Selection
from mapix.text import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.augmentation import Draws
    from mapix.placement import Placement
    from mapix.vimh.gatherer import Gatherer

__all__ = ["BatchPlan"]

Rows: TypeAlias = "NDArray[np.int64]"


class BatchPlan:
    """A set of options, worked out for the records of one file.

    A gatherer caches its plans; a plan does not refer to the gatherer, which is passed in.

    Parameters
    ----------
    options : BatchOptions
        Checked.  ``more`` may have ``flat`` and ``spec_range``, and a ``dtype`` of None is uint8.

    Raises
    ------
    ValueError
        Options that exclude each other.
    """

    __slots__ = ("_dtype", "_fit", "_flat", "_layout", "_options", "_recipes", "_spec_range")

    def __init__(self, options: BatchOptions) -> None:
        dtype, layout = options.dtype or "uint8", options.layout or "NHWC"
        more = dict(options.more)
        pad, crop, flat = options.pad, options.crop, bool(more.get("flat"))
        if flat and (pad or crop or dtype != "uint8"):
            raise ValueError("flat=True returns bytes as they are: no pad, crop or dtype")
        fit = (_native.PAD if pad else 0) | (_native.CROP if crop else 0)
        self._fit = fit | _native.CENTRE if crop in (True, "centre") else fit
        self._flat, self._spec_range = flat, bool(more.get("spec_range"))
        self._options, self._dtype, self._layout = options, dtype, layout
        self._recipes: dict[tuple[int, int], Recipe] = {}

    def canvas(self, file: Gatherer, rows: Rows) -> tuple[int, int, int, int]:
        """Return (h, w, c) of the output, and how records are made to fit it."""
        pad, crop, fit = self._options.pad, self._options.crop, self._fit
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
        elif pad:
            check_padding(
                file.source.path,
                len(rows) * h * w * c,
                total,
                "pass pad=(h, w), with crop=True where records exceed it",
            )
        return h, w, c, fit

    def _recipe(self, file: Gatherer, c: int, fit: int) -> Recipe:
        """Return the recipe for canvases of c channels, which is made once."""
        key = c, fit
        if key not in self._recipes:
            with_labels = self._options.labels is not None and file.fixed_nbytes
            columns, names = file.label_columns if with_labels else (None, ())
            self._recipes[key] = Recipe(
                *(self._dtype, self._layout, *self._options[2:5]),
                c=c,
                fit=fit,
                pad_value=self._options.pad_value,
                columns=columns,
                names=names,
            )
        return self._recipes[key]

    def prepared(self, file: Gatherer) -> Prepared | None:
        """Return batches that depend on their rows alone, prepared; else None: see ``_prepare``."""
        options, index = self._options, file.index
        one_shape = index.stride or (isinstance(options.pad, tuple) and not self._flat)
        if not one_shape or not file.fixed_nbytes:
            return None
        record = index.first[1:4] if index.stride else None
        h, w, c, fit = self.canvas(file, np.empty(0, np.int64))
        unit = None
        if options.labels not in (None, "raw"):
            unit = file.table(options.labels), self._missing
        return Prepared(
            *(file.pixels, file.native, self._recipe(file, c, fit)),
            canvas=(h, w),
            shape=(c, h, w) if self._layout == "NCHW" else (h, w, c),
            record=record,
            threads=options.threads,
            flat=self._flat,
            spec_range=self._spec_range,
            unit=unit,
            lookout=True,
        )

    @property
    def _missing(self) -> float:
        """The value of a label that a record lacks."""
        return -1 if self._options.labels == "class" else np.nan

    def placement(self, file: Gatherer, rows: Selection) -> Placement:
        """Describe what ``batch`` of any records of ``rows`` does; see ``Dataset.placement``."""
        from mapix.placement import Placement

        if self._flat or self._spec_range:
            raise UnsupportedError("flat=True and spec_range=True are for ds.batch alone")
        if not file.index.stride and not isinstance(self._options.pad, tuple):
            raise UnsupportedError(
                f"{file.source.path}: records of mixed sizes need pad=(h, w), "
                "which gives all batches one shape"
            )
        h, w, c, fit = self.canvas(file, np.empty(0, np.int64))
        layout = self._layout
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
            affine=affine(self._dtype, *self._options[2:5], c),
            pad_value=self._options.pad_value,
            shape=(h, w, c) if layout == "NHWC" else (c, h, w),
            out=np.dtype(self._dtype),
        )

    def _before_changes(
        self, file: Gatherer, draws: Draws
    ) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """Return canvas and fit of records before random changes, and the size after them.

        The canvas is 0 x 0 where each record keeps its own size.
        """
        augment, path = draws.augment, file.source.path
        if self._flat:
            raise ValueError("augment changes images on a canvas: pass no flat=True")
        if file.index.stride or isinstance(self._options.pad, tuple):
            h, w, c, fit = self.canvas(file, np.empty(0, np.int64))
            return (h, w, c, fit), augment.size(h, w, path)
        if augment.crop is None:
            raise ValueError(
                f"{path}: records of mixed sizes need crop= of Augment, or pad=(h, w) of batch"
            )
        return (0, 0, file.most_channels, 0), augment.crop

    def batch(
        self,
        file: Gatherer,
        rows: Rows,
        out: NDArray[Any] | Batch | None,
        draws: Draws | None = None,
    ) -> Batch:
        """Gather ``rows``, record numbers of the file, with random changes or without."""
        mapping = file.pixels.mapping
        offsets = augment = None
        if draws is not None:
            (h, w, c, fit), size = self._before_changes(file, draws)
            augment = draws.native(size)
        elif self._flat:
            offsets = np.empty(len(rows) + 1, np.int64)
            file.native.extent(mapping, rows, offsets.view(np.uint64))
            h = w = c = fit = 0
        else:
            h, w, c, fit = self.canvas(file, rows)
        recipe = self._recipe(file, c, fit)
        batch = gather(
            mapping,
            file.native,
            rows,
            recipe,
            h=h,
            w=w,
            offsets=offsets,
            shapes=file.same_shapes(len(rows)) if file.index.stride else None,
            spec_range=self._spec_range,
            out=out,
            threads=self._options.threads,
            lookout=file.lookout,
            augment=augment,
        )
        unit = self._options.labels
        if not file.fixed_nbytes:
            file.complete(batch, rows, labels=unit is not None, spec_range=self._spec_range)
        if unit is None or unit == "raw":
            return batch
        return in_unit(batch, file.table(unit), self._missing)

    def explained(self, file: Gatherer, rows: Rows) -> dict[str, Any]:
        """Return what ``batch`` of ``rows`` reads, copies and converts: see ``Dataset.explain``."""
        options, index = self._options, file.index
        images = index.shapes()[rows].astype(np.int64).prod(axis=1)
        labels = index.label_counts()[rows].astype(np.int64) if file.fixed_nbytes else 0
        read = int((images + file.fixed_nbytes + 2 * labels).sum())
        out_nbytes = int(images.sum())
        if not self._flat:
            h, w, c, _ = self.canvas(file, rows)
            out_nbytes = len(rows) * h * w * c * np.dtype(self._dtype).itemsize
        transposed = file.interleaved == (self._layout == "NCHW") and not self._flat
        steps = {
            f"uint8 to {self._dtype}": self._dtype != "uint8",
            "scaled and shifted": options.arithmetic,
            f"to {self._layout}": transposed,
            "padded": bool(options.pad),
            "cropped": bool(options.crop),
        }
        return {
            "reads_nbytes": read,
            "copies_nbytes": out_nbytes,
            "converts": ", ".join(step for step, done in steps.items() if done),
            "how": "one call of the C core copies each image once, with "
            + counted(options.threads, "thread"),
        }
