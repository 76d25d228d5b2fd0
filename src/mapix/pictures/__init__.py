"""Encoded pictures (PNG, JPEG, ...) as arrays and batches, for every format that holds such files.

Nothing here knows where the bytes of a picture come from: see ``PictureDataset``.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.pictures.batching import PictureBatch
    from mapix.pictures.dataset import PictureDataset
    from mapix.pictures.decoding import EncodedPicture, Header
    from mapix.pictures.fitting import Fit
    from mapix.pictures.joined import JoinedPictures

__all__ = ["EncodedPicture", "Fit", "Header", "JoinedPictures", "PictureBatch", "PictureDataset"]

_MODULES = {
    "EncodedPicture": "decoding",
    "Fit": "fitting",
    "Header": "decoding",
    "JoinedPictures": "joined",
    "PictureBatch": "batching",
    "PictureDataset": "dataset",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
