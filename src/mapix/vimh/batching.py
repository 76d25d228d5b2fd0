"""Batches and labels of VIMH: the same for one file and for several joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mapix.dataset import Dataset
from mapix.vimh.parameters import UNITS, Unit
from mapix.vimh.record_types import Record

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.augmentation import Draws
    from mapix.batch import Batch
    from mapix.options import Crop, Dtype, Layout
    from mapix.vimh.labels import Column

__all__ = ["Batching"]


class Batching(Dataset[Record]):
    """A dataset with VIMH's own options of ``batch``, and with ``labels``."""

    FAMILY = "vimh"
    PANELS = ("mapix.vimh.viewing:PANEL",)
    JOINED = "mapix.vimh.joined:Joined"
    MORE_OPTIONS: ClassVar[frozenset[str]] = frozenset({"flat", "spec_range"})
    LABEL_UNITS: ClassVar[frozenset[str]] = frozenset(UNITS)

    @property
    def labels(self) -> Mapping[str, Column]:
        """The same as ``columns``: name -> column of labels, read without the images.

        Copies: two bytes per record and label.  Threads: any.  Cost: one cache line of the file
        per record.  Labels of all records of a file are stored in its index: the next process
        reads them from there.
        """
        return self.columns  # type: ignore[return-value]

    def _shown_names(self) -> Sequence[str]:
        return ()  # the summary states the heads

    def batch(
        self,
        indices: ArrayLike,
        out: NDArray[Any] | Batch | None = None,
        dtype: Dtype | None = None,
        layout: Layout | None = None,
        *,
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        pad: bool | tuple[int, ...] = False,
        crop: Crop = False,
        pad_value: float = 0.0,
        labels: Unit | str | None = "raw",
        threads: int = 1,
        flat: bool = False,
        spec_range: bool = False,
        augment: Draws | None = None,
    ) -> Batch:
        """Copy records into one contiguous batch, cast, normalised and transposed on the way.

        As in every family (``mapix.Dataset.batch``), with two options more.  ``dtype`` is
        ``"uint8"`` (the default), ``"float32"`` or ``"float16"``.  ``layout`` is ``"NHWC"`` by
        default; ``"NCHW"`` is the layout of real files, and faster.  ``pad=True`` takes the largest
        c of the file.  ``labels`` is ``"raw"``, ``"normalised"``, ``"physical"``, ``"class"`` or
        None.

        Parameters
        ----------
        flat : bool
            No canvas: all images one after the other as bytes, with ``offsets``.
        spec_range : bool
            Whether the batch also has spec_min and spec_max of its records.

        Raises
        ------
        LimitError
            ``pad=True`` would take more than 1 GiB and 64 times the bytes of the images.

        Notes
        -----
        Copies: each image once.  Lifetime: the batch owns its arrays.  Threads: any number of
        calls at once, the GIL is released.  Cost: one scan of the records' bytes.
        """
        more = (("flat", flat), ("spec_range", spec_range)) if flat or spec_range else ()
        given = (dtype, layout, scale, mean, std, pad, crop, pad_value, labels, threads, more)
        return self._batched(indices, out, given, augment)
