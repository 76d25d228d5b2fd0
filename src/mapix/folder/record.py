"""One line of a metadata file, and the picture that it names."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mapix.drawing.scaling import outlined
from mapix.errors import FormatError
from mapix.folder.files import Files, OtherFileError, Settings
from mapix.folder.layout import FILEPATH, boxes, canonical, file_names, kind
from mapix.pictures.decoding import EncodedPicture, decode, header_of, image_of, small_picture
from mapix.text import brief, never_failing, printable
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.folder.metadata_file import MetadataFile
    from mapix.pictures.fitting import Fit, Fitted
    from mapix.source import Source

__all__ = ["Objects", "Record"]

T = TypeVar("T")
_Bytes = bytes  # Record has a property of that name
HEADER_NBYTES = 1 << 16
JPEG = b"\xff\xd8"
REFUSED = (errno.EXDEV, errno.EILSEQ)


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Boxes in a picture.

    Attributes
    ----------
    bbox : ndarray
        float64 (n, 4): x, y, width, height in pixels, as the file has them (COCO).
    categories : list
        Texts or numbers, one for each box; ``lint`` reports a file that has more or fewer.
    """

    bbox: NDArray[np.float64]
    categories: list[Any]

    __repr__ = brief

    @property
    def xyxy(self) -> NDArray[np.float64]:
        """Left, top, right, bottom, (n, 4)."""
        return np.concatenate([self.bbox[:, :2], self.bbox[:, :2] + self.bbox[:, 2:]], axis=1)

    def __len__(self) -> int:
        return len(self.bbox)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.float64]:
        """Return ``bbox``, for ``np.asarray(objects)``: without a copy unless one is needed."""
        return exported(self.bbox, dtype, copy)


class Record:
    """One line of a metadata file.  Made by ``ImageFolder.__getitem__``.

    The line is parsed when a field is used; the picture is opened and decoded when it is used.  A
    record pickles as path and fingerprint of the metadata file, and its number.

    Attributes
    ----------
    index : int
        Its number among the file's records (lines that are not blank), from 0.
    """

    __slots__ = ("_file", "_key", "_metadata", "index")

    def __init__(
        self, file: MetadataFile, index: int, metadata: dict[str, Any] | None = None
    ) -> None:
        self._file = file
        self.index = index
        self._key = file.settings.key
        self._metadata = metadata

    # --- the line ---------------------------------------------------------------------------------

    @property
    def metadata(self) -> dict[str, Any]:
        """The parsed line."""
        known = self._metadata
        if known is None:
            known = self._metadata = self._file.metadata(self.index)
        return known

    @property
    def line(self) -> int:
        """Number of the line in the file, from 1; blank lines count.  Cost: O(index)."""
        return self._file.lines.number(self.index)

    @property
    def offset(self) -> int:
        """Byte offset of the line in the file."""
        return self._file.lines.begin(self.index)

    def _error(self, reason: str) -> FormatError:
        return self._file.error(self.index, reason)

    def _typed(self, key: str, wanted: type[T], word: str) -> T | None:
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, wanted):
            raise self._error(f"{key}: {word} expected, got {kind(value)}")
        return value

    @property
    def caption(self) -> str | None:
        """``caption``; None where it is missing."""
        return self._typed("caption", str, "text")

    @property
    def categories(self) -> list[Any] | None:
        """``categories`` of the picture, texts and numbers as they are; None where missing."""
        return self._typed("categories", list, "a list")

    @property
    def objects(self) -> Objects | None:
        """``objects``: boxes and their categories; None where missing."""
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
        """Key -> name of each file that the line names: ``file_name``, ``mask_file_name`` ..."""
        metadata = self.metadata
        try:
            found = file_names(metadata)
        except ValueError as e:
            raise self._error(str(e)) from e
        if not found:
            raise self._error("a file_name expected, and there is none")
        return found

    def _named(self) -> tuple[str, str]:
        """Return key and name of the picture."""
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
        """The key that names the picture: ``file_name``, or the one that ``key=`` chose."""
        return self._named()[0]

    def file(self, key: str, name: str | None = None) -> Record:
        """Return this record with another file that the line names as its picture.

        Parameters
        ----------
        key : str
            A key of ``file_names``, or of a list of names.
        name : str, optional
            The name, where the key holds a list of names; by default the value of the key.
        """
        given: dict[str, Any] = {FILEPATH if key == FILEPATH else "file_name": name}
        if name is None:
            given = {FILEPATH if key == FILEPATH else "file_name": self.file_names[key]}
        if key == FILEPATH:
            given["size"] = self.metadata.get("size")
        found = Record(self._file, self.index, given)
        found._key = next(iter(given))
        return found

    @property
    def file_name(self) -> str:
        """Name of the picture's file, as in the line."""
        return self._named()[1]

    def _with_file(self, do: Callable[[Files, str], T]) -> T:
        """Return ``do(files, name)`` of the picture's file."""
        key, name = self._named()
        files = self._file.files
        try:
            if key == FILEPATH:
                return files.by_filepath(name, self.metadata.get("size"), do)
            return files.by_name(name, do)
        except OtherFileError as e:
            raise self._error(f"{key}: {name!r}: {e.strerror}") from e
        except OSError as e:
            if e.errno in REFUSED:
                raise self._error(f"{key}: {e.strerror}") from e
            e.add_note(f"named by {self._file.path}, line {self.line}")
            raise

    @property
    def path(self) -> str:
        """Path of the picture's file, from the root of the file system.

        The file must exist if the line names it by ``filepath`` or with a backslash.
        """
        key, name = self._named()
        if key == FILEPATH or "\\" in name:
            return self._with_file(lambda f, n: (f.nbytes(n), os.path.join(f.full_folder, n))[1])
        return os.path.join(self._file.files.full_folder, canonical(name))

    @property
    def nbytes(self) -> int:
        """Size of the picture's file in bytes."""
        return self._with_file(Files.nbytes)

    @property
    def source(self) -> Source:
        """The picture's file, opened and mapped."""
        return self._with_file(Files.source)

    @property
    def bytes(self) -> memoryview:
        """The picture's file, mapped, read-only.

        Copies: none.  Lifetime: the view keeps the mapping and one descriptor.  Cost: the file is
        opened and mapped at each access.
        """
        source = self.source
        return source.viewed(0, source.nbytes)

    def read(self) -> _Bytes:
        """Return a copy of the picture's file: a decoder must not read a mapping of it."""
        limit = self._file.settings.max_image_nbytes
        return self._with_file(lambda files, name: files.read(name, limit))

    # --- the picture ------------------------------------------------------------------------------

    def encoded(self) -> EncodedPicture:
        """Read the picture's file, for ``mapix.pictures``."""
        return self._encoded(self.read())

    def _encoded(self, data: _Bytes) -> EncodedPicture:
        s, path = self._file.settings, self._file.path
        return EncodedPicture(
            *(data, self.file_name, path), *(self.decode_error, s.max_pixels, s.orientation)
        )

    def decode_error(self, reason: str) -> FormatError:
        """Return the error about a picture that cannot be decoded."""
        return self._error(f"{self.file_name}: {reason}")

    def fitted(self, fit: Fit) -> Fitted:
        """Return the decoded picture, fitted as in a batch."""
        return fit.fitted(self.encoded())

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
            Pillow is not installed (``pip install 'mapix[images]'``).
        FormatError
            The picture cannot be decoded.
        """
        return decode(self.encoded())[0]

    @property
    def image(self) -> NDArray[Any]:
        """The decoded picture, (h, w, c), in native byte order.

        Grey is 1 channel, colour 3, with transparency 2 or 4; palettes, CMYK and YCbCr become RGB.
        8 bits per channel are uint8, 16 bits uint16; in TIFF files, signed bytes are int8, and
        other grey is int32, uint32 or float32.  JPEG 2000 and AVIF in colour, SGI, and plain PPM of
        more than 8 bits become uint8: their decoders give no more, and ``lint`` reports it.

        Cost: the file is read and decoded at each access.
        """
        return image_of(self.encoded())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the decoded picture, for ``np.asarray(record)``."""
        return exported(self.image, dtype, copy)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c) of ``image``, from the header of the picture's file.

        Cost: of a JPEG, the first 64 KiB of the file are read, of another picture all of it, which
        may end with its EXIF orientation.  No pixel is decoded.
        """
        data = self._with_file(lambda files, name: files.first(name, HEADER_NBYTES))
        if len(data) == HEADER_NBYTES:
            if data.startswith(JPEG):
                with contextlib.suppress(FormatError):
                    return header_of(self._encoded(data)).shape
            data = self.read()
        return header_of(self._encoded(data)).shape

    @property
    def settings(self) -> Settings:
        """Options of ``open``."""
        return self._file.settings

    def _drawing(self, size: int) -> NDArray[np.uint8]:
        """Return the picture with its boxes, uint8 (h, w, 3), within size x size."""
        found = small_picture(self.encoded(), size)
        objects = self.objects
        if objects is None or not len(objects):
            return found
        return outlined(found, objects.xyxy, self.shape[:2])

    def _repr_html_(self) -> str:
        from mapix.notebook import record_html

        return record_html(self, self._drawing, lambda: self.metadata)

    @never_failing
    def __repr__(self) -> str:
        name = printable(self.file_name)
        return f"<Record {self.index} of {printable(self._file.path)}: {name}>"
