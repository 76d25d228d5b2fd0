"""One record of a TFRecord file, and the features in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.drawing.scaling import drawn
from mapix.errors import FormatError, UnsupportedError
from mapix.pictures.decoding import EncodedPicture, image_of, small_picture
from mapix.text import never_failing, printable
from mapix.tfrecord.layout import NAME
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.tfrecord.example import BytesAt, Value
    from mapix.tfrecord.open_file import OpenFile

__all__ = ["LABELS", "Record"]

MOST_LISTED = 20  # features in an error
ENCODED = "image/encoded"
LABELS = ("image/class/label", "label")
PREFIXES = ("", "image/", "image_")
CHANNELS = ("depth", "channels")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
WEBP, WEBP_AT = b"WEBP", 8
SIGNATURE_NBYTES = 12

_Bytes = bytes  # Record has a property of that name


def _is_picture(front: _Bytes) -> bool:
    return front.startswith(SIGNATURES) or front[WEBP_AT:] == WEBP


class Record:
    """One record.  Made by ``TFRecords.__getitem__``.

    The features are parsed when one of them is asked for; the checksum of the data is verified
    each time that they are read for it.  ``record["label"]`` is a feature by its name.  Pickles as
    path, fingerprint and number.

    Attributes
    ----------
    index : int
        Number of the record in the file.
    """

    __slots__ = ("_core", "_values", "index")

    def __init__(self, core: OpenFile, index: int) -> None:
        self._core = core
        self.index = index
        self._values: dict[str, Value] | None = None

    @property
    def bytes(self) -> memoryview:
        """The data of the record, read-only.

        Copies: none; the checksum is not verified.  Lifetime: the view outlives ``close()``.
        """
        return self._core.view(self.index)

    def _read(self) -> _Bytes:
        """Return a copy of the data, whose checksum was verified."""
        return self._core.read(self.index)

    def values(self, data: _Bytes | None = None) -> dict[str, Value]:
        """Return the features with the places of bytes in place of the bytes."""
        known = self._values
        if known is None:
            known = self._core.parsed(self.index, self._read() if data is None else data)
            self._values = known
        return known

    @property
    def features(self) -> dict[str, NDArray[Any] | tuple[memoryview, ...]]:
        """Name -> values: int64 (k,), float32 (k,), or a tuple of bytes as views of the file.

        Raises
        ------
        FormatError
            The checksum is wrong, or the record is not a ``tf.train.Example``.
        """
        return {name: self._aliased(value) for name, value in self.values().items()}

    def _aliased(self, value: Value) -> Any:
        if isinstance(value, np.ndarray):
            return value
        view = self.bytes
        return tuple(view[part.begin : part.end] for part in value)

    def __contains__(self, name: object) -> bool:
        return name in self.values()

    def __getitem__(self, name: str) -> Any:
        values = self.values()
        if name not in values:
            there = self._listed()
            raise KeyError(
                f"{self._core.path}: record {self.index} has no feature {name!r}; it has {there}"
            )
        return self._aliased(values[name])

    def _listed(self) -> str:
        """Return the names of the first features, for errors."""
        names = list(self.values())
        more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
        return (", ".join(names[:MOST_LISTED]) or "none") + more

    def _number(self, name: str) -> int | None:
        """Return the only number of a feature of integers; None where it is something else."""
        value = self.values().get(name)
        if isinstance(value, np.ndarray) and value.dtype == np.int64 and len(value) == 1:
            return int(value[0])
        return None

    @property
    def label(self) -> int | None:
        """The number in ``image/class/label`` or ``label``; None without either."""
        found = (self._number(name) for name in LABELS)
        return next((number for number in found if number is not None), None)

    # --- the image --------------------------------------------------------------------------------

    def _single(self) -> list[tuple[str, BytesAt]]:
        """Return the features that are one value of bytes."""
        return [
            (name, value[0])
            for name, value in self.values().items()
            if not isinstance(value, np.ndarray) and len(value) == 1
        ]

    def encoded(self, data: _Bytes) -> tuple[str, BytesAt] | None:
        """Return name and place of the picture: ``image/encoded``, or the first that is one."""
        values = self._single()
        named = [found for found in values if found[0] == ENCODED]
        pictures = (
            (name, at)
            for name, at in values
            if _is_picture(data[at.begin : min(at.end, at.begin + SIGNATURE_NBYTES)])
        )
        return named[0] if named else next(pictures, None)

    def raw(self) -> tuple[str, BytesAt, tuple[int, int, int]] | None:
        """Return name, place and shape of an image of plain bytes, or None.

        Its h, w and channels are features: ``height``, ``width`` and ``depth`` or ``channels`` (1
        where there is neither), with or without ``image/`` or ``image_`` before them.
        """
        for prefix in PREFIXES:
            h, w = self._number(f"{prefix}height"), self._number(f"{prefix}width")
            if h is None or w is None or min(h, w) < 1:
                continue
            counts = [self._number(f"{prefix}{name}") for name in CHANNELS]
            c = next((n for n in counts if n is not None), 1)
            for name, at in self._single():
                if c > 0 and at.end - at.begin == h * w * c:
                    return name, at, (h, w, c)
        return None

    def picture(self) -> EncodedPicture:
        """Return the file of the picture, copied under the guard, its checksum verified.

        Raises
        ------
        UnsupportedError
            The record has no encoded picture.
        """
        data = self._read()
        self.values(data)
        found = self.encoded(data)
        if found is None:
            raise UnsupportedError(
                f"{self._core.path}: record {self.index} has no encoded picture; its features are "
                f"{self._listed()}"
            )
        return self._picture(data, *found)

    def _picture(self, data: _Bytes, name: str, at: BytesAt) -> EncodedPicture:
        core, begin = self._core, at.begin

        def error(reason: str) -> FormatError:
            place = core.begin(self.index) + begin
            what = f"{name}: {reason}"
            return FormatError(core.path, NAME, what, record=self.index, at=place)

        settings = core.settings
        return EncodedPicture(
            data[begin : at.end],
            f"{name} of record {self.index}",
            core.path,
            error,
            settings.max_pixels,
            settings.orientation,
        )

    @property
    def is_encoded(self) -> bool:
        """Whether the record has a picture that is decoded, not plain bytes."""
        data = self._read()
        self.values(data)
        return self.encoded(data) is not None

    @property
    def image(self) -> NDArray[Any] | None:
        """The picture as an array (h, w, c), decoded at each use; or plain bytes, as a view.

        None where the record has neither.  See ``encoded`` and ``raw``.
        """
        return self._image(copy=False)

    def pixels(self) -> NDArray[Any] | None:
        """Return ``image`` in memory of its own, copied under the guard."""
        return self._image(copy=True)

    def _image(self, *, copy: bool) -> NDArray[Any] | None:
        data = self._read()
        self.values(data)
        found = self.encoded(data)
        if found is not None:
            return image_of(self._picture(data, *found))
        plain = self.raw()
        if plain is None:
            return None
        _, at, shape = plain
        return np.ndarray(shape, np.uint8, data if copy else self.bytes, at.begin)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the image, for ``np.asarray(record)``."""
        return exported(self.image, dtype, copy)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._core, self.index)

    def _drawing(self, size: int) -> NDArray[np.uint8] | None:
        data = self._read()
        found = self.encoded(data)
        return drawn(self.pixels(), size) if found is None else small_picture(self.picture(), size)

    def _repr_html_(self) -> str:
        from mapix.notebook import record_html

        def facts() -> dict[str, str]:
            return {name: _fact(value) for name, value in self.values().items()}

        return record_html(self, self._drawing, facts)

    @never_failing
    def __repr__(self) -> str:
        nbytes = int(self._core.index.sizes[self.index])
        path = printable(self._core.path)
        return f"<mapix.tfrecord.Record {self.index} of {path}: {nbytes} bytes>"


def _fact(value: Value) -> str:
    """Return a feature as short text."""
    if isinstance(value, np.ndarray):
        return str(value.tolist()) if len(value) <= 8 else f"{value.dtype} ({len(value)},)"
    return ", ".join(f"{part.end - part.begin} bytes" for part in value[:8])
