"""Datasets whose records are pictures, encoded as PNG, JPEG and so on."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from mapix.dataset import Dataset
from mapix.drawing.scaling import outlined
from mapix.errors import MapixError, UnsupportedError
from mapix.options import BatchOptions, Crop, Dtype, Layout, batch_options
from mapix.pictures.batching import OPTIONS, PictureBatch, PicturePlan
from mapix.pictures.decoding import MODES, EncodedPicture, header_of, image_of, small_picture
from mapix.pictures.threads import Threads
from mapix.selection import positions
from mapix.text import counted

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.augmentation import Draws
    from mapix.batch import Batch

__all__ = ["PictureDataset"]

USUAL = {"fit": "exact", "resample": "bilinear", "draft": False}  # the other defaults are None

R = TypeVar("R", covariant=True)


class PictureDataset(Dataset[R]):
    """A dataset each of whose records has one encoded picture.

    A subclass implements ``_encoded``, beside the methods of ``mapix.dataset.Dataset`` that are
    still abstract.  If records may hold plain arrays in place of pictures, it overrides
    ``_has_pictures`` and ``_image``.

    Attributes
    ----------
    BATCH : type
        The class of batches.
    """

    BATCH: ClassVar[type[PictureBatch]] = PictureBatch
    MORE_OPTIONS = frozenset(OPTIONS)
    JOINED = "mapix.pictures.joined:JoinedPictures"

    @abc.abstractmethod
    def _encoded(self, record: Any) -> EncodedPicture:
        """Read the file of a record's picture.  Called by several threads at once."""

    def _hold_pictures(self) -> None:
        """Read the files of all pictures, for a snapshot of records whose pictures lie apart."""
        for row in self.rows.tolist():
            with contextlib.suppress(MapixError, OSError, ValueError):  # raised when it is used
                self._encoded(self._record(row))

    def _has_pictures(self, rows: NDArray[np.int64]) -> bool:
        """Return whether records, by number in the file, hold pictures or plain arrays."""
        del rows
        return True

    def _image(self, row: int) -> NDArray[Any] | None:
        return image_of(self._encoded(self._record(row)))

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        if not self._has_pictures(np.array([row])):
            return super()._drawing(row, size)
        file = self._encoded(self._record(row))
        boxes = np.array(self._annotations(row).boxes, np.float64).reshape(-1, 4)
        found = small_picture(file, size)
        if not len(boxes):
            return found
        boxes[:, 2:] += boxes[:, :2]
        return outlined(found, boxes, header_of(file).shape[:2])

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
        labels: str | None = "raw",
        threads: int = 1,
        augment: Draws | None = None,
        size: tuple[int, int] | None = None,
        fit: str = "exact",
        mode: str | None = None,
        resample: str = "bilinear",
        draft: bool = False,
    ) -> Any:
        """Read and decode pictures into one contiguous array.

        Parameters
        ----------
        indices : array_like of int, or a boolean mask
            Records, in any order, repeated or not; negative ones count from the end.
        out : ndarray or Batch, optional
            C-contiguous array of the right dtype and shape (or with more rows) to fill.
        dtype : {"uint8", "uint16", "int32", "uint32", "float32", "float16"}, optional
            uint8 by default.  Pictures deeper than 8 bits need a float type, which rounds their
            numbers, or an integer type that holds them.
        layout : {"NHWC", "NCHW"}, optional
            Order of the dimensions of ``images``; NHWC by default.
        scale, mean, std : float or array_like, optional
            Floats are ``(number * scale - mean) / std``; mean and std are one number, or one for
            each channel.
        pad : bool, (h, w) or (h, w, c)
            As in every family: True is ``fit="pad"``; (h, w) is that with ``size``.  With c,
            pictures of fewer channels are padded.
        crop : bool or {"centre", "corner"}
            As in every family: ``fit="crop"``, by default to the smallest h and w of the batch.
            Together with ``pad``, larger pictures are cut and smaller ones padded.
        pad_value : float
            Value of the padding, in units of the output.
        labels : {"raw", "class"} or None
            As in every family; None for no labels.
        threads : int
            Threads that read, decode and scale, 1 to 16: decoders release the GIL.
        augment : mapix.augmentation.Draws, optional
            Random changes of the pictures, after they were fitted.  Pictures of any sizes need
            ``crop=`` of ``mapix.Augment``, or ``size`` and ``fit``.
        size : (h, w), optional
            Of the output.
        fit : {"exact", "resize", "letterbox", "cover", "pad", "crop"}
            How a picture of another size gets there.  ``"exact"``: it is refused.  Scaled:
            ``"resize"`` to h x w, without keeping the aspect ratio; ``"letterbox"`` to lie within,
            centred, the rest padded; ``"cover"`` to cover it, the middle cut out.  Not scaled:
            ``"pad"`` puts it top left, without ``size`` on a canvas of the largest h and w of the
            batch; ``"crop"`` cuts out the middle.
        mode : {"L", "LA", "RGB", "RGBA"}, optional
            Convert all pictures to it, 8 bits per channel; without it they must be alike.  16 bits
            become 8 by number / 257, rounded.  Deeper pictures are refused: their files do not
            state a range of numbers.
        resample : {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
            Pillow's filters, and its bytes.
        draft : bool
            Decode a JPEG at half, a quarter or an eighth of its size if that is not smaller than
            the output: faster, and slightly other pixels (0.6 on average of photographs).

        Returns
        -------
        PictureBatch
            ``images``, ``shapes`` (of the pictures in their files), ``places``, ``records``,
            ``labels``.

        Raises
        ------
        ValueError
            Sizes or channels differ and no option says what to do; options that contradict one
            another; numbers that ``dtype`` does not hold, or for which ``mode`` has no rule.
        FormatError
            A picture cannot be decoded.
        LimitError
            A picture has too many bytes or pixels.

        Notes
        -----
        Copies: the file once, and the decoded pixels once.  Lifetime: the batch owns its arrays.
        Threads: any number of calls at once.
        """
        options = batch_options(
            *(dtype, layout, scale, mean, std, pad, crop, pad_value, labels, threads),
            size=size,
            fit=fit,
            mode=mode,
            resample=resample,
            draft=draft,
        )
        return self._gathered(self._rows_of(indices), self._possible(options), out, augment)

    def _gather(
        self, rows: NDArray[np.int64], options: BatchOptions, out: NDArray[Any] | Batch | None
    ) -> Batch:
        if not self._has_pictures(rows):
            return self._gather_arrays(rows, options, out)
        return self._decoded(rows, options, None, out)

    def _gather_augmented(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        draws: Draws,
        out: NDArray[Any] | Batch | None,
    ) -> Batch:
        if not self._has_pictures(rows):
            return self._gather_arrays(rows, options, out, draws)
        return self._decoded(rows, options, draws, out)

    def _decoded(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        draws: Draws | None,
        out: NDArray[Any] | Batch | None,
    ) -> Batch:
        plan = PicturePlan(options, self.path, draws)
        with Threads(options.threads) as threads:
            return self._begin(rows, plan, options.labels, out, threads, threads)()

    def _gather_arrays(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        out: NDArray[Any] | Batch | None,
        draws: Draws | None = None,
    ) -> Batch:
        """Copy records that are plain arrays into a batch.

        Raises
        ------
        UnsupportedError
            The options are for pictures.
        """
        given = [name for name, value in options.more if value != USUAL.get(name)]
        if given:
            raise UnsupportedError(
                f"{self.path}: {', '.join(given)}= of batch are for pictures, these records "
                "hold arrays; use pad= or crop="
            )
        if draws is None:
            batch = super()._gather(rows, options, out)
        else:
            batch = super()._gather_augmented(rows, options._replace(more=()), draws, out)
        return self._as_classes(batch) if options.labels == "class" else batch

    def _begin(
        self,
        rows: NDArray[np.int64],
        plan: PicturePlan,
        labels: str | None,
        out: NDArray[Any] | Batch | None,
        decoders: Threads,
        placers: Threads,
    ) -> Callable[[], PictureBatch]:
        """Begin to decode records, by number in the file; the result makes the batch."""
        self._prefetch(rows)
        records = [self._record(row) for row in rows.tolist()]
        wait = plan.begin(records, self._encoded, out, decoders, placers, self.BATCH)

        def made() -> PictureBatch:
            batch = wait()
            names = () if labels is None else tuple(self._label_names())
            if names:
                batch.labels, batch.present = self._labels_of(names, rows)
                batch.names = names
            if labels == "class":
                self._as_classes(batch)
            return batch

        return made

    def batch_shape(
        self,
        indices: ArrayLike,
        layout: Layout | None = None,
        *,
        pad: bool | tuple[int, ...] = False,
        crop: Crop = False,
        **options: Any,
    ) -> tuple[int, ...] | None:
        """Return the shape that ``batch`` with these options would give its images.

        No file is read: None unless the options state height, width and channels.

        Parameters
        ----------
        indices, layout, pad, crop
            As for ``batch``.
        **options
            ``size``, ``fit``, ``mode``, ``resample`` and ``draft`` of ``batch``.
        """
        n = len(self._rows_of(indices))
        made = self._possible(batch_options(layout=layout, pad=pad, crop=crop, **options))
        plan = PicturePlan(made, self.path)
        c = plan.channels or (MODES[plan.fit.mode] if plan.fit.mode else 0)
        if not c or plan.fit.size is None:
            return super().batch_shape(indices, layout, pad=pad, crop=crop)
        h, w = plan.fit.size
        return (n, c, h, w) if plan.planar else (n, h, w, c)

    def _as_classes(self, batch: Batch) -> Batch:
        """Number labels that are texts in the order of all texts of the dataset's column."""
        labels, present = batch.labels, batch.present
        if labels is not None and present is not None and labels.dtype == object:
            whole = self if self._rows is None else self._part(None)
            found = np.full(labels.shape, -1, np.int64)
            for k, name in enumerate(batch.names):
                column = whole.columns[name]
                texts = sorted(set(column.values[column.present].tolist()))
                number = {text: i for i, text in enumerate(texts)}
                there = present[:, k]
                found[there, k] = [number[text] for text in labels[there, k]]
            batch.labels = found
        return super()._as_classes(batch)

    def batches(
        self,
        batch_size: int,
        order: ArrayLike | None = None,
        *,
        drop_last: bool = False,
        **options: Any,
    ) -> Iterator[Any]:
        """Yield batches of all records, or of ``order``.

        With ``threads``, the next batch is decoded while the caller uses the last one.

        Parameters
        ----------
        batch_size : int
            Records per batch; the last one may be smaller.
        order : array_like of int, optional
            Indices, for instance a permutation; by default 0..n-1.
        drop_last : bool
            Leave a smaller last batch out.
        **options
            As for ``batch``, except ``out``.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        n = len(self)
        rows = self._rows_of(np.arange(n) if order is None else positions(order, n, self.path))
        end = len(rows) - len(rows) % batch_size if drop_last else len(rows)
        parts = [rows[k : min(k + batch_size, end)] for k in range(0, end, batch_size)]
        made = self._possible(batch_options(**options))
        if not self._has_pictures(rows):
            return super().batches(batch_size, order, drop_last=drop_last, **options)
        return self._batches(parts, PicturePlan(made, self.path), made)

    def _batches(
        self, parts: list[NDArray[np.int64]], plan: PicturePlan, options: BatchOptions
    ) -> Iterator[PictureBatch]:
        with Threads(options.threads) as decoders:
            # the decoders are busy with the next batch: the calling thread places this one
            waiting, placers = None, Threads(1)
            for part in parts:
                begun = self._begin(part, plan, options.labels, None, decoders, placers)
                if waiting is not None:
                    yield waiting()
                waiting = begun
            if waiting is not None:
                yield waiting()

    def _explained(self, row: int) -> dict[str, Any]:
        if not self._has_pictures(np.array([row], np.int64)):
            return super()._explained(row)
        file = self._encoded(self._record(row))
        header = header_of(file)
        nbytes = int(np.prod(header.shape)) * header.dtype.itemsize
        return {
            "reads_nbytes": len(file.data),
            "copies_nbytes": len(file.data) + nbytes,
            "decodes": f"{header.format} by {header.decoder}",
            "how": "the picture is read and decoded each time that the record is asked for it",
        }

    def _explained_batch(self, rows: NDArray[np.int64], options: BatchOptions) -> dict[str, Any]:
        if not self._has_pictures(rows):
            return super()._explained_batch(rows, options)
        plan = PicturePlan(options, self.path)
        decoders: dict[str, dict[str, None]] = {}  # of each the formats, in order
        read = copied = 0
        for row in rows.tolist():
            file = self._encoded(self._record(row))
            header = header_of(file)
            decoders.setdefault(header.decoder, {})[header.format] = None
            read += len(file.data)
            h, w = plan.fit.size or header.shape[:2]
            copied += h * w * header.shape[2] * (plan.dtype or header.dtype).itemsize
        scaled = plan.fit.smallest is not None or plan.fit.fit in ("resize", "letterbox", "cover")
        threads = options.threads
        how = [f"the files are read and decoded by {counted(threads, 'thread')}"]
        how += [f"pictures are scaled ({plan.fit.fit}, {plan.fit.resample})"] if scaled else []
        return {
            "reads_nbytes": read,
            "copies_nbytes": read + copied,
            "decodes": "; ".join(f"{', '.join(found)} by {by}" for by, found in decoders.items()),
            "converts": "" if plan.dtype is None else f"to {plan.dtype}",
            "how": "; ".join(how),
        }
