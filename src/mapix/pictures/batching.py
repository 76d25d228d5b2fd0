"""Many pictures into one array: files are decoded by threads, and placed on canvases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mapix._native.resize import CODES, FILTERS, resize
from mapix.assembly import check_padding
from mapix.augmentation import Choices, Draws, put
from mapix.batch import Batch, affine, given
from mapix.errors import LimitError
from mapix.limits import MOST_SIDE
from mapix.options import BatchOptions, Dtype
from mapix.pictures.decoding import MODES, EncodedPicture
from mapix.pictures.fitting import Fit, Fitted, Scaling, picture_size
from mapix.text import brief

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.pictures.threads import Threads

__all__ = ["OPTIONS", "PictureBatch", "PicturePlan"]

DTYPES = get_args(Dtype)
BYTE = np.dtype(np.uint8)
NO_PIXELS = np.empty((0, 0, 0), np.uint8)
OPTIONS = ("size", "fit", "mode", "resample", "draft")
"""Options of batches that only pictures have."""


@dataclass(slots=True, eq=False)
class PictureBatch(Batch):
    """A ``mapix.Batch`` of pictures that were decoded.

    Attributes
    ----------
    places : ndarray
        float64 (b, 4): sx, sy, dx, dy.  A point x, y of picture k is at ``x * sx + dx``,
        ``y * sy + dy`` of ``images[k]``; sx or sy is negative of pictures that were flipped.
    records : list
        The records that the pictures belong to.
    """

    places: NDArray[np.float64]
    records: list[Any]

    def moved(self, boxes: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Return boxes of each picture, (n, 4), x, y, width, height, in pixels of the batch."""
        found = []
        for box, (sx, sy, dx, dy) in zip(boxes, self.places.tolist(), strict=True):
            box = box * [sx, sy, sx, sy] + [dx, dy, 0.0, 0.0]
            box[:, :2] += np.minimum(box[:, 2:], 0.0)  # of flipped pictures, the other corner
            box[:, 2:] = np.abs(box[:, 2:])
            found.append(box)
        return found

    __repr__ = brief


class PicturePlan:
    """A batch of pictures in the making, from checked options: see ``PictureDataset.batch``.

    Parameters
    ----------
    options : BatchOptions
        Checked.  ``more`` holds some of ``OPTIONS``.
    path : str
        For errors.
    draws : Draws, optional
        Random changes of the pictures, after they were fitted.

    Raises
    ------
    ValueError
        Options contradict one another.
    """

    def __init__(self, options: BatchOptions, path: str, draws: Draws | None = None) -> None:
        self.path = path
        self.draws = draws
        self.dtype = None if options.dtype is None else np.dtype(options.dtype)
        if options.arithmetic and (self.dtype is None or self.dtype.kind != "f"):
            raise ValueError("scale, mean and std need dtype='float32' or 'float16'")
        output = np.dtype(np.uint8) if self.dtype is None else self.dtype
        pad_value = options.pad_value
        if output.kind in "iu":
            least, most = np.iinfo(output).min, np.iinfo(output).max
            if not (least <= pad_value <= most and pad_value == int(pad_value)):
                raise ValueError(f"pad_value must be {least}..{most} for {output}, got {pad_value}")
        self.fit = _fit(options)
        self.channels = options.pad[2] if isinstance(options.pad, tuple) and options.pad[2:] else 0
        self.planar = options.layout == "NCHW"
        self.numbers = (options.scale, options.mean, options.std) if options.arithmetic else None
        self.pad_value = pad_value

    def begin(
        self,
        records: Sequence[Any],
        encoded: Callable[[Any], EncodedPicture],
        out: NDArray[Any] | Batch | None,
        decoders: Threads,
        placers: Threads,
        batch: type[PictureBatch] = PictureBatch,
    ) -> Callable[[], PictureBatch]:
        """Begin to decode; return a function that waits and makes the batch.

        Parameters
        ----------
        records : sequence
            Records, for ``encoded`` and for the batch.
        encoded : callable
            ``encoded(record)`` reads the file of a record's picture; called by ``decoders``.
        out : ndarray or Batch, optional
            Where the images go.
        decoders, placers : Threads
            Threads that decode, and that put pictures into the batch.
        batch : type
            The class of the batch.
        """
        prepared = self._prepared(len(records), out)

        def decoded(k: int) -> Fitted:
            part = self.fit.decoded(encoded(records[k]))
            if max(part.shape[:2]) > MOST_SIDE:
                what = f"{part.shape[0]} x {part.shape[1]} pixels, a side above {MOST_SIDE}"
                raise LimitError(f"{self.path}: {part.name}: {what}")
            if prepared is None:
                return part.scaled()
            images, table = prepared
            self._put(images[k], part, table)
            return replace(part, pixels=NO_PIXELS, scaling=None)

        wait = decoders.begin(decoded, range(len(records)))

        def made() -> PictureBatch:
            parts = wait()
            if prepared is None:
                return self._placed(parts, list(records), out, placers, batch)
            return self._batch(prepared[0], parts, [p.place for p in parts], list(records), batch)

        return made

    def _prepared(
        self, n: int, out: NDArray[Any] | Batch | None
    ) -> tuple[NDArray[Any], NDArray[Any] | None] | None:
        """Return images and table of a batch whose shape and type the options alone state.

        Then the threads that decode also scale and cast, straight into the batch.
        """
        if self.draws is not None or self.fit.size is None or self.fit.mode is None:
            return None
        c = self.channels or MODES[self.fit.mode]
        if c < MODES[self.fit.mode]:  # an error that names a picture
            return None
        return self._output((n, *self.fit.size, c), self.dtype or BYTE, out)

    def _output(
        self, shape: tuple[int, ...], kind: np.dtype[Any], out: NDArray[Any] | Batch | None
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the images of a batch of a shape (n, h, w, c), and the pairs of its channels."""
        n, h, w, c = shape
        shape = (n, c, h, w) if self.planar else shape
        images = np.empty(shape, kind) if out is None else given(out, shape, kind)
        return images, None if self.numbers is None else affine(kind.name, *self.numbers, c)

    def _placed(
        self,
        parts: list[Fitted],
        records: list[Any],
        out: NDArray[Any] | Batch | None,
        placers: Threads,
        batch: type[PictureBatch],
    ) -> PictureBatch:
        if self.draws is not None:
            return self._changed(parts, records, out, placers, batch, self.draws)
        h, w = self._canvas(parts)
        if self.fit.size is None and self.fit.fit == "crop":
            parts = [p.cut(h, w, centre=self.fit.crop != "corner") for p in parts]
        shape = (len(parts), h, w, self._channels(parts))
        images, table = self._output(shape, self._kind(parts), out)
        placers.run(lambda k: self._put(images[k], parts[k], table), range(len(parts)))
        return self._batch(images, parts, [p.place for p in parts], records, batch)

    def _changed(
        self,
        parts: list[Fitted],
        records: list[Any],
        out: NDArray[Any] | Batch | None,
        placers: Threads,
        batch: type[PictureBatch],
        draws: Draws,
    ) -> PictureBatch:
        """Make a batch of pictures with random changes, each on a canvas of its own before."""
        augment = draws.augment
        canvases = [self.fit.size or p.pixels.shape[:2] for p in parts]
        if self.fit.size is None and self.fit.fit in ("pad", "crop"):
            raise ValueError(f"{self.path}: augment needs size=(h, w) for fit={self.fit.fit!r}")
        sizes = {augment.size(h, w, self.path) for h, w in canvases}
        if len(sizes) > 1:
            raise ValueError(
                f"{self.path}: pictures of {sorted(set(canvases))}: pass crop= of Augment, "
                "or size=(h, w) and fit='resize', 'letterbox' or 'cover' of batch"
            )
        h, w = sizes.pop() if sizes else augment.crop or self.fit.size or (0, 0)
        c, kind = self._channels(parts), self._kind(parts)
        images, table = self._output((len(parts), h, w, c), kind, out)
        chosen = draws.choices(np.array(canvases, np.int64).reshape(-1, 2))

        def change(k: int) -> None:
            sides = canvases[k]
            canvas = np.empty((c, *sides) if self.planar else (*sides, c), kind)
            self._put(canvas, parts[k], table)
            to = images[k]
            if self.planar:
                to, canvas = to.transpose(1, 2, 0), canvas.transpose(1, 2, 0)
            put(to, canvas, chosen, k, self.pad_value)

        placers.run(change, range(len(parts)))
        places = [_moved(p.place, chosen, k, (h, w)) for k, p in enumerate(parts)]
        return self._batch(images, parts, places, records, batch)

    def _batch(
        self,
        images: NDArray[Any],
        parts: list[Fitted],
        places: list[tuple[float, float, float, float]],
        records: list[Any],
        batch: type[PictureBatch],
    ) -> PictureBatch:
        return batch(
            images=images,
            labels=None,
            present=None,
            shapes=np.array([p.shape for p in parts], np.uint16).reshape(-1, 3),
            spec_range=None,
            offsets=None,
            names=(),
            places=np.array(places, np.float64).reshape(-1, 4),
            records=records,
        )

    def _canvas(self, parts: list[Fitted]) -> tuple[int, int]:
        if self.fit.size is not None:
            return self.fit.size
        if not parts:
            return 0, 0
        sizes = [p.pixels.shape[:2] for p in parts]
        heights, widths = zip(*sizes, strict=True)
        if self.fit.fit == "crop":
            return min(heights), min(widths)
        if self.fit.fit == "pad":
            h, w = max(heights), max(widths)
            nbytes = len(parts) * h * w * parts[0].pixels.shape[2]
            total = sum(p.pixels.size for p in parts)
            what = f"pass size=(h, w); {len(parts)} pictures were to become {h} x {w}"
            check_padding(self.path, nbytes, total, what)
            return h, w
        other = next((k for k, s in enumerate(sizes) if s != sizes[0]), None)
        if other is not None:
            a, b = ((parts[k].name, *sizes[k]) for k in (0, other))
            raise ValueError(
                f"{self.path}: pictures of different sizes: {a[0]} has {a[1]} x {a[2]} pixels, "
                f"{b[0]} {b[1]} x {b[2]}: pass size=(h, w) and fit='resize', 'letterbox', "
                f"'cover', 'crop' or 'pad' (pad=True and crop=True need no size)"
            )
        return sizes[0]

    def _channels(self, parts: list[Fitted]) -> int:
        counts = [p.pixels.shape[2] for p in parts]
        if self.channels:
            most = max(counts, default=0)
            if most > self.channels:
                part = parts[counts.index(most)]
                raise ValueError(
                    f"{self.path}: {part.name} has {most} channels, pad= is for {self.channels}"
                )
            return self.channels
        other = next((k for k, n in enumerate(counts) if n != counts[0]), None)
        if other is not None:
            raise ValueError(
                f"{self.path}: pictures of different kinds: {parts[0].name} has {counts[0]} "
                f"channels, {parts[other].name} {counts[other]}: pass mode='RGB', 'L' or 'RGBA'"
            )
        return counts[0] if counts else 3

    def _kind(self, parts: list[Fitted]) -> np.dtype[Any]:
        deep = {p.dtype for p in parts} - {np.dtype(np.uint8)}
        if deep and (self.dtype is None or self.dtype == np.uint8):
            names = sorted(str(d) for d in deep)
            same = next((f", or dtype={n!r}" for n in DTYPES[1:] if {n} == set(names)), "")
            raise ValueError(
                f"{self.path}: pictures of {', '.join(names)}: pass dtype='float32', and scale= "
                f"if wanted{same}"
            )
        kind = np.dtype(np.uint8) if self.dtype is None else self.dtype
        if kind.kind != "f":
            for p in parts:
                if not np.can_cast(p.dtype, kind):
                    what = f"{p.name}: numbers of {p.dtype} do not fit into dtype={kind.name!r}"
                    raise ValueError(f"{self.path}: {what}")
        return kind

    def _put(self, to: NDArray[Any], part: Fitted, table: NDArray[Any] | None) -> None:
        """Put a picture onto its canvas, converted."""
        target = to.transpose(1, 2, 0) if self.planar else to
        top, left = part.corner
        in_core = part.pixels.dtype == BYTE and to.dtype in CODES
        if not in_core:
            part = part.scaled()
        pixels = part.pixels
        box, (n, m), resample = part.scaling or _as_it_is(pixels)
        c = pixels.shape[2]
        if (n, m, c) != target.shape:
            target[...] = self.pad_value
        target = target[top : top + n, left : left + m, :c]
        if in_core:
            resize(pixels, box, resample, target, table)
            return
        if table is None:
            if target.dtype.kind in "iu" and pixels.dtype.kind == "f":  # scaled: integers again
                limits = np.iinfo(part.dtype)
                pixels = np.rint(pixels.astype(np.float64)).clip(limits.min, limits.max)
            with np.errstate(over="ignore"):
                np.copyto(target, pixels, casting="unsafe")
        else:
            for channel, (a, b) in enumerate(table.astype(np.longdouble)[:c]):
                from_ = pixels[:, :, channel]
                with np.errstate(over="ignore"):
                    target[:, :, channel] = from_ * np.float64(a) + np.float64(b)
        if part.dtype != np.uint8 and to.dtype == np.float16 and np.isinf(target).any():
            raise ValueError(
                f"{self.path}: {part.name}: numbers of {part.dtype} that float16 does not reach: "
                "pass scale=, or dtype='float32'"
            )


def _as_it_is(pixels: NDArray[Any]) -> Scaling:
    """Return the scaling that copies pixels."""
    h, w = pixels.shape[:2]
    return Scaling((0.0, 0.0, float(w), float(h)), (h, w), FILTERS[0])


def _moved(
    place: tuple[float, float, float, float], chosen: Choices, k: int, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return ``Fitted.place`` after random changes of picture k."""
    (sx, sy, dx, dy), (top, left), (h, w) = place, chosen.corner[k].tolist(), size
    dx, dy = dx - left, dy - top
    if chosen.flip[k]:
        sx, dx = -sx, w - dx
    if chosen.flip_vertical[k]:
        sy, dy = -sy, h - dy
    return sx, sy, dx, dy


def _fit(options: BatchOptions) -> Fit:
    """Return how pictures are fitted: ``pad`` and ``crop`` are ``fit="pad"`` and ``"crop"``."""
    more = dict(options.more)
    size, fit = picture_size(more.get("size")), more.get("fit", "exact")
    rest = (more.get("mode"), more.get("resample", "bilinear"), more.get("draft", False))
    pad, crop = options.pad, "centre" if options.crop is True else options.crop or ""
    if not pad and not crop:
        return Fit(size, fit, *rest)
    if fit not in ("exact", "pad", "crop"):
        raise ValueError(f"fit={fit!r} scales pictures, pad= and crop= do not: pass one of them")
    if isinstance(pad, tuple):
        if size not in (None, pad[:2]):
            raise ValueError(f"size={size} and pad={pad} are two sizes of the images: pass one")
        size = pad[0], pad[1]
    if fit == "crop":
        crop = crop or "centre"
    return Fit(size, "pad" if pad or fit == "pad" else "crop", *rest, crop)
