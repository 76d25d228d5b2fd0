"""The Arrow or Parquet files of a directory, as one dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from mapix.arrow.dataset import ArrowTable, TableRecord
from mapix.pictures.joined import JoinedPictures

if TYPE_CHECKING:
    from mapix.selection import Rows

__all__ = ["SavedTables"]


class SavedTables(JoinedPictures[TableRecord]):
    """The files of a directory, or of one of its splits, as one.  Made by ``mapix.open``.

    Parameters
    ----------
    parts : sequence of ArrowTable
        The files.
    rows : range or ndarray, optional
        Which records, counted through all files.
    folder : str
        The directory of the files.
    splits : mapping of str to str
        Name -> directory of each split.
    """

    def __init__(
        self,
        parts: Sequence[Any],
        *,
        rows: Rows = None,
        folder: str = "",
        splits: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(parts, rows=rows)
        self._folder, self._splits = folder, dict(splits or {})

    @property
    def path(self) -> str:
        """Path of the directory."""
        return self._folder or super().path

    @property
    def splits(self) -> Mapping[str, str]:
        """Name -> directory of the splits, from the root of the file system."""
        return self._splits

    @property
    def image_column(self) -> str | None:
        """The column with the images, of the first file."""
        found: str | None = self.parts.examples[0].image_column
        return found

    @property
    def classes(self) -> dict[str, list[str]]:
        """Label -> names of its classes, of the first file."""
        found: dict[str, list[str]] = self.parts.examples[0].classes
        return found

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "image_column": self.image_column, "classes": self.classes}

    def _of(self, parts: Sequence[Any]) -> Self:
        return type(self)(parts, rows=self._rows, folder=self._folder, splits=self._splits)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (tuple(self.parts), self._rows, self._folder, self._splits)


def _again(
    parts: Sequence[ArrowTable], rows: Rows, folder: str, splits: Mapping[str, str]
) -> SavedTables:
    return SavedTables(parts, rows=rows, folder=folder, splits=splits)
