"""Pickled batches (``train_batch``, ``test_batch``, CIFAR's): their keys, checked.

The array of images comes first in all known files, and opening stops after it: labels, scale
factors and sizes are read when they are first asked for, and checked against the images then.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import FormatError, LimitError, MapixError
from mapix.source import Source
from mapix.unpacked import cached, same
from mapix.vimh import pickle_labels
from mapix.vimh.parameters import Parameter, Parameters
from mapix.vimh.pickle_labels import Facts, LabelRows
from mapix.vimh.pickles import Array, Machine, Span, Text
from mapix.vimh.pickles.decode import pieces

__all__ = ["PickledBatch", "looks_pickled"]

FORMAT = "vimh pickle"
LABEL_KEYS = ("vimh_labels", "labels", "multihead_labels", "cifar100mh_labels")
# Class numbers of CIFAR, and how many classes there are.
FLAT_KEYS = {"labels": 10, "fine_labels": 100, "coarse_labels": 20}
META_NAMES = {"labels": "label_names", "fine_labels": "fine_label_names"}
CIFAR_SHAPE = (32, 32, 3)
SIZE_KEYS = ("height", "width", "channels")
MOST_LABELS = 255  # of a record


def looks_pickled(source: Source) -> bool:
    """Return whether the first bytes may be those of a pickled dict, or of a binary record."""
    if source.nbytes < 4:
        return False
    head = bytes(_native.copy(source.mapping, 0, min(12, source.nbytes), FORMAT))
    if head[0] == 0x80 and head[1] in (2, 3, 4, 5):
        begin = 11 if head[2] == 0x95 else 2  # after a frame
        return head[begin : begin + 1] in (b"}", b"(", b"")
    return head.startswith((b"(d", b"}"))


class PickledBatch:
    """A pickled dict of images and labels, read as far as it is needed.

    Parameters
    ----------
    source : Source
        The pickle.
    stored : {"auto", "never", "rebuild"}
        Whether labels in the user's cache folder are used and stored.

    Raises
    ------
    FormatError
        It is not a pickle of that kind, or asks for more than data.
    """

    def __init__(self, source: Source, stored: str = "auto") -> None:
        self.source = source
        self._stored = stored
        self._lock = threading.Lock()
        self._machine: Machine | None = Machine(source)
        self._dict: dict[str, Any] | None = None
        self._facts: Facts | None = None
        # A dict of one array that is complete: everything else can wait.
        whole = self._machine.run(lambda stack: len(stack) >= 3 and stack[-2] == "data")
        if self._machine.finished:
            self._dict = self._checked(whole)
            self._machine = None
            self.images = self._images_of(self._dict)
        else:
            self.images = self._machine.stack[-1]
        if not isinstance(self.images, list):
            self._check_images(self.images)

    def _fail(self, reason: str, record: int | None = None) -> FormatError:
        return FormatError(self.source.path, FORMAT, reason, record=record)

    def _checked(self, whole: object) -> dict[str, Any]:
        if not isinstance(whole, dict) or "data" not in whole:
            raise self._fail("not a dict with the key 'data'")
        return whole

    def _images_of(self, found: Mapping[str, Any]) -> Array | list[Any]:
        data = found["data"]
        if not isinstance(data, Array | list):
            raise self._fail(f"'data' is a {type(data).__name__}, not an array")
        return data

    def _check_images(self, data: Array) -> None:
        if data.dtype != np.uint8 or len(data.shape) != 2:
            raise self._fail(
                f"'data' must be uint8 (n, h*w*c), got {data.dtype} of shape {data.shape}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Records, and bytes of each image."""
        data = self.images
        if isinstance(data, Array):
            return data.shape[0], data.shape[1]
        return len(data), len(data[0]) if data and isinstance(data[0], list) else 0

    def rest(self) -> dict[str, Any]:
        """Return the complete dict; reads the rest of the pickle at the first call."""
        with self._lock:
            if self._dict is None:
                machine = self._machine
                if machine is None:
                    raise self._fail("an earlier error ended its reading")
                self._machine = None
                found = self._checked(machine.run())
                if found["data"] is not self.images:
                    raise self._fail("the key 'data' comes twice")
                self._dict = found
            return self._dict

    def facts(self) -> Facts:
        """Return what the pickle states besides images and ranges: stored, or read at first use."""
        if self._facts is None:
            n = self.shape[0]
            known = None
            if self._stored == "auto":
                known = pickle_labels.load(self.source, n, tuple(FLAT_KEYS))
            if known is None:
                known = self._read_facts()
                if self._stored != "never":
                    pickle_labels.store(self.source, known, n, tuple(FLAT_KEYS))
            self._facts = known
        return self._facts

    def _read_facts(self) -> Facts:
        return Facts(self._read_stated(), tuple(self._columns()), self._read_labels())

    def _read_stated(self) -> tuple[int | None, ...]:
        """Return (h, w, c) as the pickle states them; None where it states no integer."""
        found = (self.rest().get(k) for k in SIZE_KEYS)
        return tuple(d if type(d) is int else None for d in found)

    def size(self, said: tuple[int, int, int] | None) -> tuple[int, int, int]:
        """Return (h, w, c) of the info JSON where they fit the rows, else those of the pickle."""
        n, nbytes = self.shape
        if said is not None and said[0] * said[1] * said[2] == nbytes:
            return said
        rest = self.rest()
        found: tuple[Any, ...] = self._read_stated()
        text = rest.get("image_size")
        if isinstance(text, str) and text.count("x") == 2 and None in found:
            found = tuple(int(t) if t.isascii() and t.isdigit() else 0 for t in text.split("x"))
        if None in found and nbytes == 3072:
            found = CIFAR_SHAPE
        ok = all(type(d) is int and 0 < d < 65536 for d in found)
        if ok and found[0] * found[1] * found[2] == nbytes:
            return found
        if n == 0:
            return said or (0, 0, 0)
        raise self._fail(
            f"rows of {nbytes} bytes, and neither the info JSON ({said}) nor height, width, "
            f"channels ({found}) fit; pass info={{'height': ...}}"
        )

    def pixels(self) -> tuple[Source, int]:
        """Return the file with the images one after another, and the byte of the first."""
        data, path = self.images, self.source
        n, each = self.shape
        if isinstance(data, Array) and isinstance(data.data, Span) and not data.fortran:
            return path, data.data.at
        return cached(path, lambda: self._pieces(n, each), n * each, FORMAT), 0

    def check_cached(self, pixels: Source) -> bool:
        """Return whether ``pixels`` and cached scale factors are those of the pickle."""
        n, each = self.shape
        sound = pixels is self.source or same(pixels, self._pieces(n, each), n * each)
        data = self.rest().get("scale_factors")
        if isinstance(data, Array) and isinstance(data.data, Text):
            factors = self._factors(data, data.data)
            sound = sound and same(factors, pieces(self.source, data.data), data.nbytes)
        return sound

    def check_labels(self) -> bool:
        """Return whether labels that were stored are those of the pickle."""
        known, now = self.facts().labels, self._read_labels()
        same = known.pairs.tobytes() == now.pairs.tobytes()
        return same and known.counts().tobytes() == now.counts().tobytes()

    def _factors(self, data: Array, text: Text) -> Source:
        return cached(
            self.source, lambda: pieces(self.source, text), data.nbytes, FORMAT, "scale_factors"
        )

    def _pieces(self, n: int, each: int) -> Iterator[bytes]:
        """Yield the bytes of images that are encoded in the pickle."""
        data = self.images
        if isinstance(data, list):
            self._limited("images", n * each)
            yield from (self._row(row, i, each) for i, row in enumerate(data))
            return
        if isinstance(data.data, Text):
            found: Iterator[bytes] = pieces(self.source, data.data)
        elif isinstance(data.data, Span):
            span = data.data
            found = iter([bytes(_native.copy(self.source.mapping, span.at, span.nbytes, FORMAT))])
        else:
            found = iter([data.data])
        if not data.fortran:
            yield from found
            return
        whole = b"".join(found)
        if len(whole) == n * each:
            yield np.frombuffer(whole, np.uint8).reshape(each, n).T.tobytes()

    def _row(self, row: object, i: int, each: int) -> bytes:
        try:
            found = bytes(row) if isinstance(row, list) else b""
        except (TypeError, ValueError) as e:
            raise self._fail("an image that is not a list of numbers in 0..255", i) from e
        if len(found) != each:
            raise self._fail(f"an image of {len(found)} bytes among images of {each}", i)
        return found

    # --- labels -----------------------------------------------------------------------------------

    def labels(self) -> LabelRows:
        """Return the labels of all records."""
        return self.facts().labels

    def _columns(self) -> list[str]:
        """Return the keys of flat lists of class numbers."""
        rest = self.rest()
        return [k for k in FLAT_KEYS if _flat(rest.get(k))]

    def _read_labels(self) -> LabelRows:
        rest, n = self.rest(), self.shape[0]
        flat = self._columns()
        if flat:
            return self._flat_labels(flat)
        key = next((k for k in LABEL_KEYS if isinstance(rest.get(k), list)), None)
        if key is None:
            return LabelRows(np.empty((0, 2), np.uint8), 0, n)
        rows = rest[key]
        if len(rows) != n:
            raise self._fail(f"{key!r} has {len(rows)} rows, 'data' has {n}")
        sizes = np.array([len(r) if type(r) is list else 0 for r in rows], np.int64)
        bad = np.flatnonzero((sizes % 2 == 0) | (sizes > 1 + 2 * MOST_LABELS))
        if len(bad):
            raise self._fail("labels that are not [N, id, code, ...]", int(bad[0]))
        self._limited("labels", int(sizes.sum()))
        numbers = np.frombuffer(
            b"".join(self._codes_of(r, i) for i, r in enumerate(rows)), np.uint8
        )
        starts = np.cumsum(sizes) - sizes
        bad = np.flatnonzero(numbers[starts] != sizes // 2)
        if len(bad):
            raise self._fail("labels that are not [N, id, code, ...]", int(bad[0]))
        pairs = np.delete(numbers, starts).reshape(-1, 2)
        alike = n > 0 and bool((sizes == sizes[0]).all())
        return LabelRows(pairs, int(sizes[0]) // 2 if alike else sizes // 2, n)

    def _codes_of(self, row: list[Any], i: int) -> bytes:
        try:
            return bytes(row)
        except (TypeError, ValueError) as e:
            raise self._fail("labels that are not numbers in 0..255", i) from e

    def _limited(self, what: str, n: int) -> None:
        """Refuse lists that a pickle refers to many times: each number needs a byte of the file."""
        if n > self.source.nbytes:
            raise LimitError(
                f"{self.source.path}: {FORMAT}: {n} numbers of {what} in a file of "
                f"{self.source.nbytes} bytes"
            )

    def _flat_labels(self, keys: list[str]) -> LabelRows:
        n = self.shape[0]
        table = np.empty((n, len(keys), 2), np.uint8)
        for k, key in enumerate(keys):
            column = np.array(self.rest()[key])
            if column.shape != (n,) or not _codes(column):
                raise self._fail(f"{key!r} must be {n} class numbers in 0..255")
            table[:, k, 0], table[:, k, 1] = k, column
        return LabelRows(table.reshape(-1, 2), len(keys), n)

    def parameters(self, named: Parameters) -> Parameters:
        """Return the parameters of the labels: names and classes."""
        flat = self.facts().flat if not len(named) else ()
        if not flat:
            return named.with_ids(self.labels().ids())
        rows = self.labels()
        found = []
        for k, key in enumerate(flat):
            codes = rows.column(k)
            least = max(FLAT_KEYS[key], 1 + (0 if codes is None else int(codes.max(initial=0))))
            classes = max(_named_classes(self.source.full_path, key), least)
            found.append(
                Parameter(key, k, max=float(classes - 1), num_classes=classes, direct=True)
            )
        return Parameters(found)

    def spec_range(self) -> NDArray[np.float32] | None:
        """Return ``scale_factors``, float32 (n, 2); None without them."""
        data = self.rest().get("scale_factors")
        n = self.shape[0]
        if data is None:
            return None
        if not isinstance(data, Array) or data.dtype.kind != "f" or data.shape != (n, 2):
            raise self._fail(f"'scale_factors' must be floats of shape ({n}, 2)")
        source, at = self.source, 0
        if isinstance(data.data, Span):
            at = data.data.at
        elif isinstance(data.data, Text):
            source = self._factors(data, data.data)
        else:
            found = np.frombuffer(data.data, data.dtype, 2 * n)
            return found.reshape(n, 2, order="F" if data.fortran else "C").astype(np.float32)
        raw = _native.copy(source.mapping, at, data.nbytes, FORMAT)
        found = np.frombuffer(raw, data.dtype)
        return found.reshape(n, 2, order="F" if data.fortran else "C").astype(np.float32)


def _flat(column: object) -> bool:
    return isinstance(column, list) and bool(column) and all(type(x) is int for x in column)


def _codes(table: NDArray[Any]) -> bool:
    return table.dtype.kind in "iu" and bool(((table >= 0) & (table <= 255)).all())


def _named_classes(path: str, key: str) -> int:
    """Return the number of classes in ``batches.meta`` (CIFAR-10) or ``meta`` beside a file."""
    for name in ("batches.meta", "meta"):
        beside = os.path.join(os.path.dirname(path), name)
        if os.path.isfile(beside):
            try:
                found = Machine(Source(beside)).run()
            except (OSError, MapixError):
                continue
            names = (
                found.get(META_NAMES.get(key, key[:-1] + "_names"))
                if isinstance(found, dict)
                else None
            )
            if isinstance(names, list):
                return len(names)
    return 0
