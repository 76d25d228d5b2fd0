"""Several datasets of pictures as one: a batch is decoded and placed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mapix.dataset import Dataset
from mapix.joined import Joined
from mapix.pictures.dataset import PictureDataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mapix.pictures.decoding import EncodedPicture

__all__ = ["JoinedPictures"]

R = TypeVar("R", covariant=True)


class JoinedPictures(PictureDataset[R], Joined[R]):
    """Several datasets of pictures as one.  Made by ``mapix.open([...])``.

    Attributes
    ----------
    parts : sequence of PictureDataset
        The datasets.
    """

    FAMILY = "pictures"
    label_array = Dataset.label_array

    def _check(self) -> None:
        super()._check()
        vars(self)["BATCH"] = self.parts.examples[0].BATCH

    def _encoded(self, record: Any) -> EncodedPicture:
        found: EncodedPicture = self.parts.examples[0]._encoded(record)  # which knows its own file
        return found

    def _has_pictures(self, rows: NDArray[np.int64]) -> bool:
        asked = [(ds, part) for ds, part, _ in self._by_part(rows)]
        return all(
            ds._has_pictures(ds._rows_of(part))
            for ds, part in asked
            if isinstance(ds, PictureDataset)
        )

    def _image(self, row: int) -> NDArray[Any] | None:
        return Joined._image(self, row)

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        return Joined._drawing(self, row, size)

    def _labels_of(
        self, names: tuple[str, ...], rows: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        pieces = []
        for ds, part, where in self._by_part(rows):
            known = tuple(ds._label_names())
            if known:
                pieces.append((*ds._labels_of(known, ds._rows_of(part)), known, where))
        values, present, _ = self._merged(pieces, len(rows))
        return values, present
