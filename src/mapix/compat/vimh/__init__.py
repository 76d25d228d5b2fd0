"""The classes of the VIMH programs, implemented over mapix.

>>> from mapix.compat.vimh import VIMHDataset, create_vimh_datasets      # doctest: +SKIP
>>> train = VIMHDataset("my_dataset", train=True, target_width=1.5)      # doctest: +SKIP
>>> image, labels, auxiliary = train[0]                                  # doctest: +SKIP

The package needs PyTorch; ``VIMHDataModule`` also needs Lightning, which is imported only when this
class is used.  Where the original is wrong, mapix differs from it:

- Pickles are decoded in the order in which they are written, (c, h, w).  The original reads them as
  (h, w, c), so its images differ from those of the binary file of the same dataset.
- Pixel values are 0..1.  Those of the original are 0..255 from binary files and 0..1 from pickles.
  ``scale=1.0`` gives 0..255.
- No file is ever written.  The original rewrites the info JSON when it loads a dataset, and its
  ``prepare_data`` replaces the info JSON of a dataset without pickles by an invented one.
- If a directory has a binary file and a pickle, the binary file is read; ``format=`` chooses.
- Heads are always in the order of the info JSON.  The original's order varies with pickles.
- Files of mixed image sizes can be opened.  To batch them, pass a transform or ``pad``.
- Class distributions and statistics work for binary files too.
- Default transforms accept images of 2 or 4 channels, and do not need torchvision.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.compat.vimh.dataset import (
        Normalize,
        VIMHDataset,
        create_vimh_datasets,
        decay_time,
        vimh_collate,
    )
    from mapix.compat.vimh.lightning import Augment, VIMHDataModule

__all__ = [
    "Augment",
    "Normalize",
    "VIMHDataModule",
    "VIMHDataset",
    "create_vimh_datasets",
    "decay_time",
    "vimh_collate",
]

_MODULES = {
    "Augment": "lightning",
    "Normalize": "dataset",
    "VIMHDataModule": "lightning",
    "VIMHDataset": "dataset",
    "create_vimh_datasets": "dataset",
    "decay_time": "dataset",
    "vimh_collate": "dataset",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
