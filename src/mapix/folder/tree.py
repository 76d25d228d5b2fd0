"""Folders of pictures without metadata: a class per sub-folder, or no classes at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError
from mapix.folder.files import Files
from mapix.folder.layout import NAME
from mapix.folder.listing import FolderSource, ListedFile, Rows
from mapix.folder.pictures import pictures_in

if TYPE_CHECKING:
    from mapix.source import Fingerprint

__all__ = ["Tree"]


class Tree(ListedFile):
    """A folder of pictures without metadata.

    Where no picture lies in the folder itself, and several sub-folders have some, these are
    classes, in the order of their names, as for torchvision's ImageFolder.
    """

    def _open(self, expect: Fingerprint | None) -> None:
        path = self.place.path
        self.files = Files(path, self.place.root)
        found = list(pictures_in(path))
        if not found:
            raise FormatError(path, NAME, "there are no pictures in it")
        tops = {name.split("/")[0] for name in found} if all("/" in n for n in found) else set()
        self.classes = tuple(sorted(tops)) if len(tops) > 1 else ()
        if self.classes:  # classes in the order of their names; the names of a class stay in order
            found.sort(key=lambda name: name.split("/")[0])
        self._numbers = {name: k for k, name in enumerate(self.classes)}
        self._names = found
        self.source: Any = FolderSource(path, found, expect)
        self.lines: Any = Rows(self, len(found))

    def place_of(self, row: int) -> str:
        """Return the front of errors about a record."""
        return f"{self._names[row]}: "

    def metadata(self, row: int) -> dict[str, Any]:
        """Return the name of a picture, the number of its class, and the class's name."""
        _ = self.source.mapping  # ClosedError
        name = self._names[row]
        if not self.classes:
            return {"file_name": name}
        top = name.split("/")[0]
        return {"file_name": name, "label": self._numbers[top], "class_name": top}
