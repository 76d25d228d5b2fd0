"""Records, one by one or in arrays, checked and packed into the bytes of a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix._native.compiled import fast
from mapix.batch import Batch
from mapix.errors import warn
from mapix.vimh import layout
from mapix.vimh.parameters import Parameter

__all__ = ["Packer", "Shape", "finite"]

BLOCK_NBYTES = 4 << 20  # packed at once
ROUNDING = 1e-9  # share of a range by which computed values may exceed it

Shape = tuple[int, int, int]


class Packer:
    """Base class of writers: ``append`` and ``extend``.  A subclass writes the packed bytes.

    Parameters
    ----------
    parameters : iterable of Parameter
        Parameters that records may have.
    dialect : {14, 6}
        Bytes of the record header.
    strict : bool
        Whether values outside a parameter's range, and labels that are not given, are errors.
        Otherwise values are clipped, and labels left out, with one warning for each parameter.
    """

    def __init__(
        self, parameters: Iterable[Parameter], dialect: int, *, strict: bool = False
    ) -> None:
        self.parameters = {p.name: p for p in parameters}
        self.dialect = dialect
        self.strict = strict
        self._warned: set[tuple[str, str]] = set()
        # for fast.pack, which leaves a range whose ends are exchanged to Python
        self._heads = tuple(
            (p.name, p.id, p.min, p.max, p.direct) for p in self.parameters.values()
        )

    def _put(
        self, block: bytes | memoryview, shapes: Sequence[Shape], n: int, split: str | None
    ) -> None:
        """Write n packed records, contiguous bytes; ``shapes`` are those of their images."""
        raise NotImplementedError

    def append(
        self,
        image: ArrayLike,
        labels: Mapping[str, float | None] | None = None,
        *,
        codes: Mapping[str, int | None] | None = None,
        spec_range: tuple[float, float] = (0.0, 0.0),
        split: str | None = None,
    ) -> None:
        """Write one record.

        Parameters
        ----------
        image : array_like
            uint8 (h, w, c), or (h, w).
        labels : mapping of str to float, optional
            Physical values, quantised as the original does (truncated).  None: the record
            lacks the label.
        codes : mapping of str to int, optional
            The bytes themselves, 0..255, or None.  A name is either in ``labels`` or here.
        spec_range : (float, float)
            spec_min and spec_max: dB of bytes 0 and 255.
        split : str, optional
            The file, by default the writer's first split (``"train"``); only for writers of
            several.

        Raises
        ------
        ValueError
            The image or a label does not fit; nothing of the record is written.  With
            ``strict=True`` also where a value is outside its range, or a label is not given.
        """
        if fast is not None:
            packed = fast.pack(self._heads, image, labels, codes, spec_range, self.dialect)
            if packed is not None:
                self._put(packed[0], packed[1:], 1, split)
                return
        pixels = _pixels(np.asarray(image)[None])
        ids, values = self._columns(
            {name: None if value is None else [value] for name, value in (labels or {}).items()},
            {name: None if code is None else [code] for name, code in (codes or {}).items()},
            1,
        )
        self._write(pixels, ids, values, np.array([spec_range], np.float32), split)

    def _columns(
        self, labels: Mapping[str, ArrayLike | None], codes: Mapping[str, ArrayLike | None], n: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the ids of the labels that n records have, and their codes, uint8 (n, N)."""
        unknown = (set(labels) | set(codes)) - set(self.parameters)
        if unknown or set(labels) & set(codes):
            wrong = ", ".join(sorted(unknown or set(labels) & set(codes)))
            raise ValueError(f"labels must be parameters of the writer, given once: {wrong}")
        for name in self.parameters:
            if name not in labels and name not in codes:
                self._odd("missing", name, f"records lack the label {name!r}", "None states that")
        both = {**labels, **codes}
        given = [p for p in self.parameters.values() if both.get(p.name) is not None]
        table = np.empty((n, len(given)), np.uint8)
        for k, p in enumerate(given):
            values: Any = both[p.name]
            column = self._quantised(p, values) if p.name in labels else _bytes(values, p.name)
            if column.shape != (n,):
                raise ValueError(f"{p.name} must have {n} values, got shape {column.shape}")
            table[:, k] = column
        return np.array([p.id for p in given], np.uint8), table

    def _quantised(self, p: Parameter, values: ArrayLike) -> NDArray[np.uint8]:
        """Return codes of physical values; values outside the parameter's range are clipped."""
        x = finite(values, p.name)
        low, high = sorted((p.min, p.max))
        slack = (high - low) * ROUNDING
        outside = (x < low - slack) | (x > high + slack)
        if outside.any():
            value = x[outside].flat[0]
            text = f"{p.name} = {value:g} is outside {p.min:g}..{p.max:g}"
            self._odd("range", p.name, text, "it is clipped")
        return p.quantise(x)

    def _odd(self, kind: str, name: str, what: str, then: str) -> None:
        """Refuse an odd label, or warn of it once for each parameter."""
        if self.strict:
            raise ValueError(f"{what}; {then}" if kind == "missing" else what)
        if (kind, name) not in self._warned:
            self._warned.add((kind, name))
            warn(f"{what}; {then} (warned of once for each parameter; strict=True refuses it)")

    def extend(
        self,
        images: ArrayLike,
        labels: Mapping[str, ArrayLike | None] | None = None,
        *,
        codes: Mapping[str, ArrayLike | None] | None = None,
        spec_range: ArrayLike = (0.0, 0.0),
        split: str | None = None,
    ) -> None:
        """Write many records of one shape, which all have the same labels.

        Parameters
        ----------
        images : array_like
            uint8 (n, h, w, c), or (n, h, w).
        labels, codes : mapping of str to array_like
            As for ``append``, with n values each; None for labels that these records lack.
        spec_range : array_like
            (2,), or (n, 2).
        split : str, optional
            The file, by default the writer's first split (``"train"``); only for writers of
            several.
        """
        pixels = _pixels(np.asarray(images))
        n = len(pixels)
        ids, table = self._columns(labels or {}, codes or {}, n)
        spec = np.broadcast_to(np.asarray(spec_range, np.float32), (n, 2))
        step = max(1, BLOCK_NBYTES // max(pixels[:1].nbytes, 1))
        for at in range(0, n, step):
            part = slice(at, at + step)
            self._write(pixels[part], ids, table[part], spec[part], split)

    def _write(
        self,
        images: NDArray[np.uint8],
        ids: NDArray[np.uint8],
        codes: NDArray[np.uint8],
        spec: NDArray[np.float32],
        split: str | None,
    ) -> None:
        h, w, c = (int(d) for d in images.shape[1:])
        block = layout.pack(images, ids, codes, spec if self.dialect == 14 else None)
        self._put(block.data, [(h, w, c)], len(block), split)

    def extend_flat(self, batch: Batch, *, split: str | None = None) -> None:
        """Write the records of a batch of mixed sizes, with the labels that each has.

        Parameters
        ----------
        batch : Batch
            As ``ds.batch(rows, flat=True, labels="raw", spec_range=True)`` returns it, of a dataset
            with planar pixels (all except ``order="HWC"``).  Labels are matched by name.
        split : str, optional
            As for ``append``.

        Notes
        -----
        Copies: each image once.  Much faster than one call per record.
        """
        if batch.offsets is None or batch.labels is None or batch.present is None:
            raise ValueError("a batch with flat=True and labels='raw' is needed")
        if batch.labels.dtype != np.uint8:
            raise ValueError(f"labels must be raw codes, got {batch.labels.dtype}")
        unknown = set(batch.names) - set(self.parameters)
        if unknown:
            raise ValueError(f"labels must be parameters of the writer: {', '.join(unknown)}")
        if not len(batch):
            return
        ids = np.array([self.parameters[name].id for name in batch.names], np.uint8)
        spec = batch.spec_range
        if spec is None or self.dialect != 14:
            spec = None if self.dialect != 14 else np.zeros((len(batch), 2), np.float32)
        pixels = np.ascontiguousarray(batch.images)
        block = layout.pack_flat(pixels, batch.shapes, ids, batch.labels, batch.present, spec)
        first = batch.shapes[0]
        other = np.flatnonzero((batch.shapes != first).any(axis=1))[:1]
        shapes = [tuple(first.tolist()), *map(tuple, batch.shapes[other].tolist())]
        self._put(block.data, shapes, len(batch), split)


def _pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images as uint8 (n, h, w, c), or raise."""
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}; see spectrogram_bytes")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not all(0 < d < 65536 for d in images.shape[1:]):
        raise ValueError(
            f"images must be (h, w) or (h, w, c) with 1..65535 each, got {images.shape[1:]}"
        )
    return images


def finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return values as float64; they must be finite."""
    x = np.asarray(values, np.float64)
    if not np.isfinite(x).all():
        raise ValueError(f"values of {name} must be finite")
    return x


def _bytes(codes: ArrayLike, name: str) -> NDArray[np.uint8]:
    x = np.asarray(codes)
    if x.dtype.kind not in "iu" or (x.size and (int(x.min()) < 0 or int(x.max()) > 255)):
        raise ValueError(f"codes of {name} must be integers in 0..255")
    return x.astype(np.uint8)
