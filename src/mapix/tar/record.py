"""One record of a tar shard: its members, and the values in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mapix.drawing.scaling import drawn
from mapix.errors import FormatError, UnsupportedError
from mapix.pictures.decoding import EncodedPicture, image_of, small_picture
from mapix.tar.layout import NAME
from mapix.tar.values import (
    INTEGERS,
    NPY_MOST_NBYTES,
    PICTURES,
    TEXTS,
    MemberError,
    array_in,
    integer,
    json_value,
    text,
)
from mapix.text import never_failing, printable
from mapix.views import exported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mapix.tar.open_shard import OpenShard

__all__ = ["Record", "kind_of"]

T = TypeVar("T")
MOST_LISTED = 20  # extensions in an error
ARRAYS = frozenset(("npy",))


def kind_of(extension: str) -> str:
    """Return the part of an extension that states the kind of a member: "png" of "seg.png"."""
    return extension.rpartition(".")[2]


class Record:
    """Members of a shard that have one key.  Made by ``TarShard.__getitem__``.

    Nothing is read before it is asked for.  ``record["jpg"]`` is the value of a member by its
    extension: an array of a picture or of ``.npy``, a number of ``.cls``, a text of ``.txt``, an
    object of ``.json``, and a view of the bytes of anything else.  Pickles as path, fingerprint and
    number.

    Attributes
    ----------
    index : int
        Number of the record in the file.
    """

    __slots__ = ("_core", "_known", "index")

    def __init__(self, core: OpenShard, index: int) -> None:
        self._core = core
        self._known: dict[str, int] | None = None
        self.index = index

    @property
    def key(self) -> str:
        """Name of the members up to the first dot, their directory included."""
        return self._core.index.keys[self.index]

    def _numbers(self) -> dict[str, int]:
        """Return extension -> number of the member in the archive."""
        if self._known is None:
            extensions = self._core.index.extensions
            self._known = {extensions[m]: m for m in self._core.members(self.index)}
        return self._known

    @property
    def members(self) -> dict[str, memoryview]:
        """Extension -> bytes of a member, read-only, in the order of the archive.

        Copies: none.  Lifetime: the views outlive ``close()``.
        """
        return {name: self._core.view(m) for name, m in self._numbers().items()}

    def _listed(self) -> str:
        """Return the first extensions, for errors."""
        names = list(self._numbers())
        more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
        return ", ".join(names[:MOST_LISTED]) + more

    def first(self, kinds: frozenset[str]) -> str | None:
        """Return the extension of the first member of some kinds, or None."""
        return next((name for name in self._numbers() if kind_of(name) in kinds), None)

    def __contains__(self, extension: object) -> bool:
        return extension in self._numbers()

    def __getitem__(self, extension: str) -> Any:
        if not isinstance(extension, str):
            raise TypeError(f"a record has members by extension, got {extension!r}")
        kind = kind_of(extension)
        if kind == "json":
            return self._value(extension, json_value)
        if kind in INTEGERS:
            return self._value(extension, integer)
        if kind in TEXTS:
            return self._value(extension, text)
        if kind in PICTURES:
            return image_of(self.picture(extension))
        if kind == "npy":
            return self._array(extension)
        return self._core.view(self._there(extension))

    def _there(self, extension: str) -> int:
        m = self._numbers().get(extension)
        if m is None:
            there = self._listed()
            raise KeyError(f"{self._core.path}: {self.key!r} has no {extension!r}; it has {there}")
        return m

    def _value(self, extension: str, read: Callable[[bytes], T]) -> T:
        m = self._there(extension)
        data = self._core.read(m, self._core.settings.max_value_nbytes, "max_value_nbytes")
        try:
            return read(data)
        except MemberError as e:
            raise self.error(extension, str(e)) from e

    def error(self, extension: str, reason: str) -> FormatError:
        """Return the error about the content of a member."""
        at = self._core.begin(self._there(extension))
        what = f"{self.key}.{extension}: {reason}"
        return FormatError(self._core.path, NAME, what, record=self.index, at=at)

    def get(self, extension: str, default: Any = None) -> Any:
        """Return the value of a member, or the default where the record has none."""
        return self[extension] if extension in self._numbers() else default

    @property
    def cls(self) -> int | None:
        """The number in the member ``cls``, or None."""
        found: int | None = self.get("cls")
        return found

    @property
    def txt(self) -> str | None:
        """The text of the member ``txt``, or None."""
        found: str | None = self.get("txt")
        return found

    @property
    def json(self) -> Any:
        """The value of the member ``json``, or None."""
        return self.get("json")

    def _array(self, extension: str, *, copy: bool = False) -> NDArray[Any]:
        """Return the array of an ``.npy`` member: a view of the file, or a copy under the guard."""
        m = self._there(extension)
        if copy:
            limit = self._core.settings.max_image_nbytes
            view = memoryview(self._core.read(m, limit, "max_image_nbytes"))
            front = bytes(view[:NPY_MOST_NBYTES])
        else:
            view = self._core.view(m)
            nbytes = min(len(view), NPY_MOST_NBYTES)
            front = self._core.source.read(self._core.begin(m), nbytes)
        try:
            return array_in(front, view)
        except MemberError as e:
            raise self.error(extension, str(e)) from e

    def picture(self, extension: str | None = None) -> EncodedPicture:
        """Return the file of a picture, copied under the guard.

        Parameters
        ----------
        extension : str, optional
            Of the member; by default the first picture.

        Raises
        ------
        UnsupportedError
            The record has no picture.
        """
        if extension is None:
            extension = self.first(PICTURES)
        if extension is None:
            raise UnsupportedError(
                f"{self._core.path}: {self.key!r} has no picture; its members are {self._listed()}"
            )
        settings, chosen = self._core.settings, extension
        return EncodedPicture(
            self._core.read(self._there(chosen), settings.max_image_nbytes, "max_image_nbytes"),
            f"{self.key}.{chosen}",
            self._core.path,
            lambda reason: self.error(chosen, reason),
            settings.max_pixels,
            settings.orientation,
        )

    @property
    def image(self) -> NDArray[Any] | None:
        """The first picture as an array (h, w, c), decoded at each use.

        Of a record without pictures the first ``.npy`` array, as a view; None without either.
        """
        extension = self.first(PICTURES) or self.first(ARRAYS)
        found: NDArray[Any] | None = None if extension is None else self[extension]
        return found

    def pixels(self) -> NDArray[Any] | None:
        """Return ``image`` in memory of its own, copied under the guard."""
        extension = self.first(ARRAYS)
        if extension is None or self.first(PICTURES):
            return self.image
        return self._array(extension, copy=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the image, for ``np.asarray(record)``."""
        return exported(self.image, dtype, copy)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._core, self.index)

    def _drawing(self, size: int) -> NDArray[np.uint8] | None:
        if self.first(PICTURES) is not None:
            return small_picture(self.picture(), size)
        return drawn(self.pixels(), size)

    def _repr_html_(self) -> str:
        from mapix.notebook import record_html

        def facts() -> dict[str, str]:
            sizes = self._core.index.sizes
            found = {name: f"{int(sizes[m]):,} bytes" for name, m in self._numbers().items()}
            for name in ("cls", "txt", "json"):
                if name in found:
                    found[name] = str(self[name])
            return found

        return record_html(self, self._drawing, facts)

    @never_failing
    def __repr__(self) -> str:
        path, key = printable(self._core.path), printable(self.key)
        return f"<mapix.tar.Record {self.index} of {path}: {key}, members {self._listed()}>"
