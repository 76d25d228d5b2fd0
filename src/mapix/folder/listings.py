"""Open what lists the records of an image folder, of whatever kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapix.folder.metadata_file import MetadataFile
from mapix.folder.pictures import is_yolo
from mapix.folder.splits import Place, place_of_split
from mapix.source import Fingerprint, is_folder

if TYPE_CHECKING:
    from mapix.folder.files import Settings

__all__ = ["listing", "of_split"]


def listing(place: Place, settings: Settings, expect: Fingerprint | None = None) -> MetadataFile:
    """Open the listing at a place: see ``MetadataFile``."""
    if is_folder(place.path):
        if is_yolo(place.path):
            from mapix.folder.yolo import Yolo

            return Yolo(place, settings, expect)
        from mapix.folder.tree import Tree

        return Tree(place, settings, expect)
    if place.path.endswith((".csv", ".parquet")):
        from mapix.folder.tables import CsvFile, ParquetFile

        kind = CsvFile if place.path.endswith(".csv") else ParquetFile
        return kind(place, settings, expect)
    return MetadataFile(place, settings, expect)


def of_split(file: MetadataFile, name: str) -> MetadataFile:
    """Open the listing of another split of the directory of an open one."""
    assert file.directory is not None
    return listing(place_of_split(file.directory, name, file.files.root), file.settings)
