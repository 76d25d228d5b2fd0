"""The ways to keep and read image records that mapix is compared with, one module each.

Modules are imported when asked for, so that a process can be started with one contender alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contenders.base import Contender

__all__ = ["LOADERS", "RANDOM", "SEQUENTIAL", "named"]

RANDOM = {
    "mapix": "own.Mapix",
    "C gather": "plain_c.PlainC",
    "np.memmap, fixed stride": "memmap.Memmap",
    "Python mmap + struct": "python_mmap.PythonMmap",
    "pyarrow": "arrow.Arrow",
    "LMDB": "lmdb_store.Lmdb",
    "bagz": "bagz_store.Bagz",
    "ArrayRecord, seek + read": "array_record_store.ArrayRecord",
    "ArrayRecord, read([i])": "array_record_store.ArrayRecordIndices",
}
LOADERS = {"h5py": "h5py_store.H5py", "Hugging Face": "hf_store.HuggingFace"}
SEQUENTIAL = {"WebDataset": "webdataset_store.WebDataset"}


def named(name: str) -> type[Contender]:
    """The contender that the tables call so."""
    module, _, cls = {**RANDOM, **LOADERS, **SEQUENTIAL}[name].partition(".")
    found: type[Contender] = getattr(importlib.import_module(f"contenders.{module}"), cls)
    return found
