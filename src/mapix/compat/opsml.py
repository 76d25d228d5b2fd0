"""opsml's image classes and data cards over mapix, without pydantic and without a registry.

The module serves programs written for ``opsml.registry.image`` (its first schema, with
``file_name``) and for ``opsml.registry.DataCard``:

>>> from mapix.compat.opsml import ImageDataset, ImageMetadata, ImageRecord, BBox
>>> record = ImageRecord(file_name="0001.png", objects=BBox(bbox=[[1, 2, 3, 4]], categories=[0]))
>>> record.objects.bbox
[[1.0, 2.0, 3.0, 4.0]]

Values are checked and converted as in the original, and ``write_to_file`` writes the same bytes.
Objects have these parts of pydantic's models: ``model_dump`` and ``model_dump_json`` with their
options, ``model_validate``, ``model_validate_json``, ``model_copy``, ``model_construct``,
``model_fields``, ``model_fields_set``.  Assigning an attribute that is not a field raises an error.

Differences from the original:

- Errors are ``ValidationError``, a ``ValueError`` like pydantic's, with another text.
- There is no strict mode, no JSON schema, and none of the methods that pydantic deprecates.
- ``write_to_file`` and ``convert_metadata`` write a file that appears complete or not at all.
- ``ImageDataset`` without ``image_dir`` raises ``ValidationError``, not TypeError.
- The name of a metadata file must end in ``.jsonl`` and lie in the directory.  The original accepts
  ``jsonl`` anywhere in the name, and names that lead out of the directory.
- Blank lines are errors, as in the original.  Duplicate keys are errors too; the original takes the
  last one.  Lines longer than 1 MiB raise ``LimitError``.
- ``ImageDataset.open()`` is new: it opens the folder with ``mapix.open``.
- There is no registry: ``DataCard.save`` writes a directory, and ``DataCard.load`` reads it.  A
  pickle is neither written nor read.  A card has no profile of the data and no SQL.
- A card takes the names of all versions: ``repository`` or ``team``, ``contact`` or ``user_email``,
  ``splits`` or ``data_splits``.  Its name stays as it was given.
"""

from mapix.compat._data_card import CardInfo, DataCard, DataSplit, SplitData
from mapix.compat._image_dataset import BBox, ImageDataset, ImageMetadata, ImageRecord
from mapix.compat._model import ValidationError

__all__ = [
    "BBox",
    "CardInfo",
    "DataCard",
    "DataSplit",
    "ImageDataset",
    "ImageMetadata",
    "ImageRecord",
    "SplitData",
    "ValidationError",
]
