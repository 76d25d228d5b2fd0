"""Many pictures into one array: read and decoded by threads, put where they belong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.batch import Batch, affine, given
from mapix.errors import LimitError
from mapix.folder.fitting import MOST_SIDE, Fit, Fitted

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mapix.folder.record import Record

__all__ = ["ImageBatch", "Order", "PictureDtype", "Team"]

PictureDtype = Literal["uint8", "uint16", "int32", "uint32", "float32", "float16"]
DTYPES = get_args(PictureDtype)
# padding is refused beyond both: two slivers, one high and one wide, could ask for all memory
MOST_PADDING = 64  # times the bytes of the pictures
FREE_PADDING = 1 << 30  # bytes


@dataclass(slots=True, eq=False)
class ImageBatch(Batch):
    """What ``ImageFolder.batch`` returns: ``mapix.Batch`` without labels, and more.

    Attributes
    ----------
    places : ndarray
        float64 (b, 4): sx, sy, dx, dy.  A point x, y of picture k is at ``x * sx + dx``,
        ``y * sy + dy`` of ``images[k]``.
    records : list of Record
        Whose the pictures are.
    """

    places: NDArray[np.float64]
    records: list[Record]

    @property
    def boxes(self) -> list[NDArray[np.float64]]:
        """Boxes of each picture in pixels of the batch: float64 (n, 4), x, y, width, height.

        Moved and scaled as the pictures were, not cut off at the border.
        """
        found = []
        for record, (sx, sy, dx, dy) in zip(self.records, self.places.tolist(), strict=True):
            objects = record.objects
            bbox = np.empty((0, 4)) if objects is None else objects.bbox
            found.append(bbox * [sx, sy, sx, sy] + [dx, dy, 0.0, 0.0])
        return found


class Order:
    """What a batch is to be like: see ``ImageFolder.batch``."""

    def __init__(
        self,
        fit: Fit,
        dtype: str | None,
        layout: str,
        scale: float | None,
        mean: ArrayLike | None,
        std: ArrayLike | None,
        pad_value: float,
    ) -> None:
        self.dtype = None if dtype is None else np.dtype(dtype)
        if self.dtype is not None and self.dtype.name not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if layout not in ("NHWC", "NCHW"):
            raise ValueError(f"layout must be NHWC or NCHW, got {layout!r}")
        changed = scale is not None or mean is not None or std is not None
        if changed and (self.dtype is None or self.dtype.kind != "f"):
            raise ValueError("scale, mean and std need dtype='float32' or 'float16'")
        whole = np.dtype(np.uint8) if self.dtype is None else self.dtype
        if whole.kind in "iu":
            least, most = np.iinfo(whole).min, np.iinfo(whole).max
            if not (least <= pad_value <= most and pad_value == int(pad_value)):
                raise ValueError(f"pad_value must be {least}..{most} for {whole}, got {pad_value}")
        self.fit = fit
        self.planar = layout == "NCHW"
        self.numbers = (scale, mean, std) if changed else None
        self.pad_value = pad_value

    def fitted(self, record: Record) -> Fitted:
        """One picture, decoded and of its size; what a thread does."""
        return record.fitted(self.fit)

    def batch(self, records: list[Record], parts: list[Fitted], out: Any, team: Team) -> ImageBatch:
        """All of them in one array; put there by a team that has nothing else to do."""
        h, w = self._canvas(records, parts)
        c = self._channels(records, parts)
        kind = self._kind(records, parts)
        shape = (len(parts), c, h, w) if self.planar else (len(parts), h, w, c)
        images = np.empty(shape, kind) if out is None else given(out, shape, kind)
        table = None if self.numbers is None else affine(kind.name, *self.numbers, c)
        team.run(lambda k: self._put(images[k], parts[k], h, w, table), range(len(parts)))
        return ImageBatch(
            images=images,
            labels=None,
            present=None,
            shapes=np.array([p.shape for p in parts], np.uint16).reshape(-1, 3),
            spec_range=None,
            offsets=None,
            names=(),
            places=np.array([p.place for p in parts], np.float64).reshape(-1, 4),
            records=records,
        )

    def _canvas(self, records: list[Record], parts: list[Fitted]) -> tuple[int, int]:
        for record, part in zip(records, parts, strict=True):
            if max(part.shape[:2]) > MOST_SIDE:
                reason = f"{part.shape[0]} x {part.shape[1]} pixels, a side above {MOST_SIDE}"
                raise LimitError(f"{record.path}: {reason}")
        if self.fit.size is not None:
            return self.fit.size
        if not parts:
            return 0, 0
        sizes = [p.pixels.shape[:2] for p in parts]
        if self.fit.fit == "pad":
            h, w = max(h for h, _ in sizes), max(w for _, w in sizes)
            total = sum(p.pixels.size for p in parts)
            nbytes = len(parts) * h * w * parts[0].pixels.shape[2]
            if nbytes > max(MOST_PADDING * total, FREE_PADDING):
                raise LimitError(
                    f"padding {len(parts)} pictures to {h} x {w} would take {nbytes} bytes for "
                    f"{total} bytes of pictures, more than {MOST_PADDING} times; pass size=(h, w)"
                )
            return h, w
        other = next((k for k, s in enumerate(sizes) if s != sizes[0]), None)
        if other is not None:
            a, b = ((records[k].file_name, *sizes[k]) for k in (0, other))
            raise ValueError(
                f"pictures of different sizes: {a[0]} has {a[1]} x {a[2]} pixels, {b[0]} "
                f"{b[1]} x {b[2]}: pass size=(h, w) and fit='resize', 'letterbox', "
                f"'cover', 'crop' or 'pad' ('pad' does without size=)"
            )
        return sizes[0]

    def _channels(self, records: list[Record], parts: list[Fitted]) -> int:
        counts = [p.pixels.shape[2] for p in parts]
        other = next((k for k, n in enumerate(counts) if n != counts[0]), None)
        if other is not None:
            raise ValueError(
                f"pictures of different kinds: {records[0].file_name} has {counts[0]} channels, "
                f"{records[other].file_name} {counts[other]}: pass mode='RGB', 'L' or 'RGBA'"
            )
        return counts[0] if counts else 3

    def _kind(self, records: list[Record], parts: list[Fitted]) -> np.dtype[Any]:
        deep = {p.dtype for p in parts} - {np.dtype(np.uint8)}
        if deep and (self.dtype is None or self.dtype == np.uint8):
            names = sorted(str(d) for d in deep)
            same = next((f", or dtype={n!r}" for n in DTYPES[1:] if {n} == set(names)), "")
            raise ValueError(
                f"pictures of {', '.join(names)}: pass dtype='float32', and scale= if wanted{same}"
            )
        kind = np.dtype(np.uint8) if self.dtype is None else self.dtype
        if kind.kind != "f":
            wide = next((k for k, p in enumerate(parts) if not np.can_cast(p.dtype, kind)), None)
            if wide is not None:
                what = f"{records[wide].file_name}: numbers of {parts[wide].dtype}"
                raise ValueError(f"{what} do not fit into dtype={kind.name!r}")
        return kind

    def _put(
        self, to: NDArray[Any], part: Fitted, h: int, w: int, table: NDArray[Any] | None
    ) -> None:
        target = to.transpose(1, 2, 0) if self.planar else to
        n, m = part.pixels.shape[:2]
        top, left = part.corner
        if (n, m) != (h, w):
            target[...] = self.pad_value
        target = target[top : top + n, left : left + m]
        pixels = part.pixels
        if table is None:
            if target.dtype.kind in "iu" and pixels.dtype.kind == "f":  # scaled: whole ones again
                limits = np.iinfo(part.dtype)
                pixels = np.rint(pixels.astype(np.float64)).clip(limits.min, limits.max)
            with np.errstate(over="ignore"):
                np.copyto(target, pixels, casting="unsafe")
        else:
            for channel, (a, b) in enumerate(table.astype(np.longdouble)):
                from_ = pixels[:, :, channel]
                if from_.dtype == np.uint8:  # 256 values, each rounded once, as the C core does
                    values = (np.arange(256) * a + b).astype(np.float32).astype(to.dtype)
                    target[:, :, channel] = values[from_]
                else:
                    with np.errstate(over="ignore"):
                        target[:, :, channel] = from_ * np.float64(a) + np.float64(b)
        if part.dtype != np.uint8 and to.dtype == np.float16 and np.isinf(target).any():
            raise ValueError(
                f"numbers of {part.dtype} that float16 does not reach: pass scale=, or "
                "dtype='float32'"
            )


class Team:
    """Threads for a batch, or for a run of batches; one is the caller itself.

    Made for each use: threads that wait would not be there in a forked worker.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._pool: Any = None
        if threads > 1:
            from concurrent.futures import ThreadPoolExecutor  # brings logging: 5 ms

            self._pool = ThreadPoolExecutor(threads, "mapix-decode")

    def begin(self, do: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[], list[Any]]:
        """Begin with ``do`` of all items; what is returned waits for them."""
        pool = self._pool
        if pool is None:
            return lambda: [do(item) for item in items]
        futures: list[Future[Any]] = [pool.submit(do, item) for item in items]
        return lambda: [f.result() for f in futures]

    def run(self, do: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """``do`` of all items, in order; the first error, if there is one."""
        return self.begin(do, items)()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
