"""One line of a metadata file, and the picture that it names."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mapix.errors import FormatError
from mapix.folder.files import Files, OtherFileError
from mapix.folder.layout import FILEPATH, boxes, canonical, file_names, kind
from mapix.pictures.decoding import EncodedPicture, decode, image_of
from mapix.source import Source

if TYPE_CHECKING:
    from mapix.folder.core import Core

__all__ = ["Objects", "Record"]

T = TypeVar("T")
_Bytes = bytes  # Record has a property of that name
REFUSED = (errno.EXDEV, errno.EILSEQ)


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Boxes of a picture.

    Attributes
    ----------
    bbox : ndarray
        float64 (n, 4): x, y, width, height in pixels as the file has them, COCO's way.
    categories : list
        One for each box (the file may have more or fewer: ``lint`` tells), text or number.
    """

    bbox: NDArray[np.float64]
    categories: list[Any]

    @property
    def xyxy(self) -> NDArray[np.float64]:
        """Left, top, right, bottom, (n, 4)."""
        return np.concatenate([self.bbox[:, :2], self.bbox[:, :2] + self.bbox[:, 2:]], axis=1)

    def __len__(self) -> int:
        return len(self.bbox)


class Record:
    """One line of a metadata file.  Made by ``ImageFolder.__getitem__``.

    The line is parsed when something of it is asked for, the picture opened and decoded when it is
    asked for.  Pickles as path and fingerprint of the metadata file, and its number.

    Attributes
    ----------
    index : int
        Its number among the file's records (lines that are not blank), from 0.
    """

    __slots__ = ("_core", "_key", "_metadata", "index")

    def __init__(self, core: Core, index: int, metadata: dict[str, Any] | None = None) -> None:
        self._core = core
        self.index = index
        self._key = core.settings.key
        self._metadata = metadata

    # --- the line ---------------------------------------------------------------------------------

    @property
    def metadata(self) -> dict[str, Any]:
        """All that the line says."""
        known = self._metadata
        if known is None:
            known = self._metadata = self._core.metadata(self.index)
        return known

    @property
    def line(self) -> int:
        """Number of the line in the file, blank ones counted, from 1.  Cost: O(index)."""
        return self._core.lines.number(self.index)

    @property
    def offset(self) -> int:
        """Byte of the file where the line begins."""
        return self._core.lines.begin(self.index)

    def _error(self, reason: str) -> FormatError:
        return self._core.error(self.index, reason)

    def _typed(self, key: str, wanted: type[T], word: str) -> T | None:
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, wanted):
            raise self._error(f"{key}: {word} expected, got {kind(value)}")
        return value

    @property
    def caption(self) -> str | None:
        """``caption``, or None."""
        return self._typed("caption", str, "text")

    @property
    def categories(self) -> list[Any] | None:
        """``categories`` of the picture, text and numbers as they are, or None."""
        return self._typed("categories", list, "a list")

    @property
    def objects(self) -> Objects | None:
        """``objects``: boxes and their categories, or None."""
        value = self.metadata.get("objects")
        if value is None:
            return None
        try:
            return Objects(*boxes(value))
        except ValueError as e:
            raise self._error(str(e)) from e

    # --- the file ---------------------------------------------------------------------------------

    @property
    def file_names(self) -> dict[str, str]:
        """Names of all files that the line tells, by key: ``file_name``, ``mask_file_name`` ..."""
        metadata = self.metadata  # whose errors are told as they are
        try:
            found = file_names(metadata)
        except ValueError as e:
            raise self._error(str(e)) from e
        if not found:
            raise self._error("a file_name expected, and there is none")
        return found

    def _named(self) -> tuple[str, str]:
        """Key and name of the picture."""
        names, key = self.file_names, self._key
        if key is None:
            key = next(iter(names))
            if len(names) > 1 and key != "file_name":
                reason = f"several files and no file_name: choose one of {', '.join(names)} by key="
                raise self._error(reason)
        if key not in names:
            raise self._error(f"{key} expected, and there is none")
        return key, names[key]

    @property
    def picture_key(self) -> str:
        """The key of the line that names the picture: ``file_name``, or what ``key=`` chose."""
        return self._named()[0]

    def file(self, key: str, name: str | None = None) -> Record:
        """The record as one of another file that the line names.

        Parameters
        ----------
        key : str
            A key of ``file_names``, or of a list of names.
        name : str, optional
            The name, of a list; by default what the key has.
        """
        given: dict[str, Any] = {FILEPATH if key == FILEPATH else "file_name": name}
        if name is None:
            given = {FILEPATH if key == FILEPATH else "file_name": self.file_names[key]}
        if key == FILEPATH:
            given["size"] = self.metadata.get("size")
        found = Record(self._core, self.index, given)
        found._key = next(iter(given))
        return found

    @property
    def file_name(self) -> str:
        """Name of the picture's file, as the line has it."""
        return self._named()[1]

    def _with_file(self, do: Callable[[Files, str], T]) -> T:
        """Do something with the picture's file: with a folder, and its name there."""
        key, name = self._named()
        files = self._core.files
        try:
            if key == FILEPATH:
                return files.by_filepath(name, self.metadata.get("size"), do)
            return files.by_name(name, do)
        except OtherFileError as e:
            raise self._error(f"{key}: {name!r}: {e.strerror}") from e
        except OSError as e:
            if e.errno in REFUSED:
                raise self._error(f"{key}: {e.strerror}") from e
            e.add_note(f"named by {self._core.path}, line {self.line}")
            raise

    @property
    def path(self) -> str:
        """Where the picture's file is, from the root of the file system.

        Of ``filepath`` and of backslashes it has to be there.
        """
        key, name = self._named()
        if key == FILEPATH or "\\" in name:
            return self._with_file(lambda f, n: (f.nbytes(n), os.path.join(f.full_folder, n))[1])
        return os.path.join(self._core.files.full_folder, canonical(name))

    @property
    def nbytes(self) -> int:
        """Size of the picture's file."""
        return self._with_file(Files.nbytes)

    @property
    def source(self) -> Source:
        """The picture's file, opened and mapped."""
        return self._with_file(Files.source)

    @property
    def bytes(self) -> memoryview:
        """The picture's file, mapped, read-only.

        Copies: none.  Lifetime: its own; it keeps the map and one descriptor.  Cost: opens and maps
        the file each time.
        """
        return self.source.view

    def read(self) -> _Bytes:
        """The picture's file, copied: for decoders, whom a map of a file cut short would kill."""
        limit = self._core.settings.max_image_nbytes
        return self._with_file(lambda files, name: files.read(name, limit))

    # --- the picture ------------------------------------------------------------------------------

    def encoded(self) -> EncodedPicture:
        """Read the picture's file, for ``mapix.pictures``."""
        s = self._core.settings
        return EncodedPicture(
            *(self.read(), self.file_name, self._core.path),
            *(self._undecodable, s.max_pixels, s.orientation),
        )

    def _undecodable(self, reason: str) -> FormatError:
        return self._error(f"{self.file_name}: {reason}")

    def pil(self) -> Any:
        """Decode the picture with Pillow, and turn it as its EXIF orientation states.

        Pillow has no mode for several channels of 16 bits: it has the high byte of each number.
        ``image`` has them as they are.

        Returns
        -------
        PIL.Image.Image

        Raises
        ------
        UnsupportedError
            Pillow is not installed (``pip install 'mapix[view]'``).
        FormatError
            The picture cannot be decoded.
        """
        return decode(self.encoded())[0]

    @property
    def image(self) -> NDArray[Any]:
        """The decoded picture, (h, w, c), in native byte order.

        uint8, or the type of deeper pictures: uint16, int32, uint32, float32.  Cost: it is read and
        decoded at each access.
        """
        return image_of(self.encoded())

    @property
    def settings(self) -> Any:
        """Options of ``open``."""
        return self._core.settings

    def __repr__(self) -> str:
        return f"<Record {self.index} of {self._core.path}>"
