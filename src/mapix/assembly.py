"""Batches in numpy: for families without a C path, and the reference for those that have one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.batch import Batch, affine, given
from mapix.errors import LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.augmentation import Draws
    from mapix.options import BatchOptions

__all__ = ["assembled", "check_padding", "place"]

# Padding is refused beyond both: two slivers, one high and one wide, could ask for all memory.
MOST_PADDING = 64  # times the bytes of the images
FREE_PADDING = 1 << 30  # bytes


def check_padding(path: str, nbytes: int, images_nbytes: int, advice: str) -> None:
    """Refuse a batch that padding makes much larger than its images.

    Raises
    ------
    LimitError
        It takes more than 1 GiB and 64 times the bytes of the images.
    """
    if nbytes > max(MOST_PADDING * images_nbytes, FREE_PADDING):
        raise LimitError(
            f"{path}: padding would take {nbytes} bytes for {images_nbytes} bytes of images, "
            f"more than {MOST_PADDING} times; {advice}"
        )


def assembled(
    path: str,
    images: Sequence[NDArray[Any]],
    options: BatchOptions,
    out: NDArray[Any] | Batch | None = None,
    *,
    row_shape: tuple[int, ...] = (0, 0, 0),
    dtype: Any = np.uint8,
    labels: NDArray[Any] | None = None,
    present: NDArray[np.bool_] | None = None,
    names: tuple[str, ...] = (),
    augment: Draws | None = None,
) -> Batch:
    """Return images, whatever their sizes, as one batch.

    Parameters
    ----------
    path : str
        For errors.
    images : sequence of ndarray
        (h, w), (h, w, c), or of any one shape.
    options : BatchOptions
        Checked.  Without ``layout``, ``pad`` and ``crop`` all images need one shape, which the
        batch keeps.
    out : ndarray or Batch, optional
        Where the images go.
    row_shape, dtype
        Shape and type of an image, for batches of no images.
    labels, present, names
        Of the batch, as they are.
    augment : Draws, optional
        Random changes of the images, which then need two or three dimensions.

    Raises
    ------
    ValueError
        Images of different shapes without ``pad`` or ``crop``; or options that do not fit.
    """
    shapes = [image.shape for image in images] or [row_shape]
    native = np.dtype(images[0].dtype if images else dtype).newbyteorder("=")
    wanted = native if options.dtype is None else np.dtype(options.dtype)
    if options.arithmetic and wanted.kind != "f":
        raise ValueError("scale, mean and std need dtype float32 or float16")
    pictures = all(len(shape) in (2, 3) for shape in shapes)
    if not pictures and (options.layout or options.pad or options.crop or augment is not None):
        what = "layout, pad and crop" if augment is None else "layout, pad, crop and augment"
        raise ValueError(f"{path}: {what} need images of two or three dimensions, got {shapes[0]}")
    if augment is not None:
        made = _augmented(path, images, shapes, options, wanted, out, augment)
    elif pictures and (options.layout or options.pad or options.crop or len(set(shapes)) > 1):
        made = _canvases(path, images, shapes, options, wanted, out)
    else:
        target = np.empty((len(images), *shapes[0]), wanted)
        made = target if out is None else given(out, target.shape, wanted)
        for canvas, image in zip(made, images, strict=True):
            canvas[...] = converted(image, options, wanted, (*image.shape, 1, 1, 1)[2])
    sizes = np.ones((len(images), 3), np.uint16)
    for size, shape in zip(sizes, shapes, strict=False):
        known = [min(n, 65535) for n in shape[:3]]
        size[: len(known)] = known
    return Batch(made, labels, present, sizes, None, None, names)


def _canvases(
    path: str,
    images: Sequence[NDArray[Any]],
    shapes: list[tuple[int, ...]],
    options: BatchOptions,
    wanted: np.dtype[Any],
    out: NDArray[Any] | Batch | None,
) -> NDArray[Any]:
    """Return images of two or three dimensions on canvases of one size."""
    full = [(*shape, 1)[:3] for shape in shapes]
    h, w, c = (max(shape[k] for shape in full) for k in range(3))
    if not options.pad and not options.crop and len(set(full)) > 1:
        raise ValueError(
            f"{path}: records of {sorted(set(full))}: pass pad= or crop= for records of mixed sizes"
        )
    if options.crop and not options.pad:
        h, w = (min(shape[k] for shape in full) for k in range(2))
    if isinstance(options.pad, tuple):
        h, w, c = (*options.pad, c)[:3]
    elif options.pad:
        total = sum(image.nbytes for image in images)
        nbytes = len(images) * h * w * c * wanted.itemsize
        check_padding(
            path, nbytes, total, "pass pad=(h, w), with crop=True where records exceed it"
        )
    planar = options.layout == "NCHW"
    shape = (len(images), c, h, w) if planar else (len(images), h, w, c)
    made = np.empty(shape, wanted) if out is None else given(out, shape, wanted)
    for canvas, image in zip(made, images, strict=True):
        pixels = image if image.ndim == 3 else image[:, :, None]
        place(canvas.transpose(1, 2, 0) if planar else canvas, pixels, options, path)
    return made


def _augmented(
    path: str,
    images: Sequence[NDArray[Any]],
    shapes: list[tuple[int, ...]],
    options: BatchOptions,
    wanted: np.dtype[Any],
    out: NDArray[Any] | Batch | None,
    draws: Draws,
) -> NDArray[Any]:
    """Return images of two or three dimensions with random changes."""
    full = [(*shape, 1)[:3] for shape in shapes]
    c = max(shape[2] for shape in full)
    sides = {(shape[0], shape[1]) for shape in full}
    if isinstance(options.pad, tuple):
        h, w, c = (*options.pad, c)[:3]
        sides = {(h, w)}
    elif len({shape[2] for shape in full}) > 1:
        raise ValueError(f"{path}: records of {sorted(set(full))}: pass pad=(h, w, c)")
    results = {draws.augment.size(*side, path) for side in sides if images or 0 not in side}
    results = results or {draws.augment.crop or (0, 0)}  # of no images, whose size is not known
    if len(results) > 1:
        raise ValueError(
            f"{path}: records of {sorted(sides)}: pass crop= of Augment, or pad=(h, w) of batch"
        )
    size = results.pop()
    plain = not (options.layout or options.pad or options.crop or len(set(shapes)) > 1)
    shape = size if plain and len(shapes[0]) == 2 else (*size, c)
    if options.layout == "NCHW":
        shape = (c, *size)
    shape = (len(images), *shape)
    made = np.empty(shape, wanted) if out is None else given(out, shape, wanted)
    sources = []
    for image in images:
        pixels = image if image.ndim == 3 else image[:, :, None]
        if isinstance(options.pad, tuple):
            canvas = np.empty((h, w, c), wanted)
            place(canvas, pixels, options, path)
        else:
            canvas = converted(pixels, options, wanted, c)
        sources.append(canvas)
    from mapix.augmentation import put

    chosen = draws.choices([source.shape[:2] for source in sources] or np.empty((0, 2)))
    for k, source in enumerate(sources):
        to = made[k].reshape(*size, 1) if made.ndim == 3 else made[k]
        put(
            to.transpose(1, 2, 0) if options.layout == "NCHW" else to,
            source,
            chosen,
            k,
            options.pad_value,
        )
    return made


def place(
    canvas: NDArray[Any], pixels: NDArray[Any], options: BatchOptions, path: str = "the image"
) -> None:
    """Put (h, w, c) pixels onto a canvas (H, W, C), padded, cropped and converted."""
    sides = []
    for side, room in zip(pixels.shape[:2], canvas.shape[:2], strict=True):
        if side > room and not options.crop:
            raise ValueError(f"{path}: {pixels.shape} exceeds {canvas.shape}: pass crop=True")
        begin = (side - room) // 2 if side > room and options.crop != "corner" else 0
        sides.append(slice(begin, begin + min(side, room)))
    if pixels.shape[2] > canvas.shape[2]:
        raise ValueError(f"{path}: {pixels.shape[2]} channels exceed {canvas.shape[2]}")
    pixels = pixels[sides[0], sides[1]]
    h, w, c = pixels.shape
    if pixels.shape != canvas.shape:
        canvas[...] = options.pad_value
    canvas[:h, :w, :c] = converted(pixels, options, canvas.dtype, canvas.shape[2])


def converted(
    pixels: NDArray[Any], options: BatchOptions, wanted: np.dtype[Any], channels: int = 1
) -> NDArray[Any]:
    """Return numbers in the type of a batch: scaled, and rounded once.

    Parameters
    ----------
    pixels : ndarray
        Numbers of any shape; with several channels, these are the last dimension.
    options : BatchOptions
        Scale, mean and std.
    wanted : numpy.dtype
        Type of the result.
    channels : int
        Channels of the batch: as many means and standard deviations there can be.
    """
    if not options.arithmetic:
        return pixels.astype(wanted, copy=False)
    if wanted.kind != "f":
        raise ValueError("scale, mean and std need dtype float32 or float16")
    if pixels.dtype != np.uint8:
        numbers = pixels.astype(np.float64)
        if options.scale is not None:
            numbers *= options.scale
        if options.mean is not None:
            numbers -= _per_channel(options.mean, channels, pixels.shape)
        if options.std is not None:
            std = _per_channel(options.std, channels, pixels.shape)
            if not std.all():
                raise ValueError("std must not be zero")
            numbers /= std
        exact: NDArray[Any] = numbers.astype(wanted)
        return exact
    pairs = affine(wanted.name, options.scale, options.mean, options.std, channels)
    assert pairs is not None  # of floats
    # 256 values, each rounded once, as the C core does: fma(byte, a, b) in float32
    values = np.arange(256) * pairs[:, :1].astype(np.longdouble) + pairs[:, 1:]
    table: NDArray[Any] = values.astype(np.float32).astype(wanted)
    channel = 0 if len(table) == 1 else np.arange(pixels.shape[-1])
    found: NDArray[Any] = table[channel, pixels]
    return found


def _per_channel(x: Any, channels: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a mean or standard deviation for each channel of the pixels, or one for all."""
    found = np.asarray(x, np.float64).ravel()
    if len(found) not in (1, channels):
        raise ValueError(
            f"mean and std must be numbers or {channels} of them, one per channel; got {len(found)}"
        )
    return found if channels == 1 else found[: shape[-1]]
