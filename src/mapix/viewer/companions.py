"""Open what belongs to a dataset that is shown: another dataset, or a picture."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from mapix.errors import FormatError
from mapix.registry import open_dataset
from mapix.source import read_small

__all__ = ["opened", "picture"]

MOST_NBYTES = 1 << 28  # of a picture's file


def opened(companion: Any) -> Any:
    """Return a dataset or an array for a path; anything else as it is.

    Raises
    ------
    FormatError
        It is neither a dataset nor a picture.
    """
    if not isinstance(companion, str | os.PathLike):
        return companion
    try:
        return open_dataset(companion)
    except FormatError as no_dataset:
        try:
            return picture(companion)
        except FormatError:
            raise no_dataset from None


def picture(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the pixels of a picture's file, (h, w, c).

    Raises
    ------
    FormatError, LimitError
        It is not a picture, or is larger than pictures of datasets may be.
    """
    from mapix.pictures.decoding import EncodedPicture, image_of

    name = os.fspath(path)
    return image_of(EncodedPicture(read_small(name, MOST_NBYTES), os.path.basename(name), name))
