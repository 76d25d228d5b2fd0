"""mapix: open the image dataset you already have, and get record i now, without a copy.

>>> import mapix
>>> ds = mapix.open("my_dataset")        # doctest: +SKIP
>>> ds[0].image                          # doctest: +SKIP
"""

from __future__ import annotations

import mapix.starting  # noqa: F401 - first, so that Ctrl-C ends the program quietly from here on

# isort: split
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from mapix.errors import (
    ClosedError,
    FileChangedError,
    FormatError,
    LimitError,
    LockedError,
    LossError,
    MapixError,
    MapixWarning,
    OptionError,
    SizeError,
    TruncatedError,
    UnknownFormatError,
    UnsupportedError,
)
from mapix.lazy import attach

__version__ = "0.1.0"

__all__ = [
    "Augment",
    "Batch",
    "ClosedError",
    "Dataset",
    "FileChangedError",
    "FormatError",
    "LimitError",
    "Loader",
    "LockedError",
    "LossError",
    "MapixError",
    "MapixWarning",
    "OptionError",
    "SizeError",
    "TruncatedError",
    "UnknownFormatError",
    "UnsupportedError",
    "__version__",
    "arrow",
    "catalogue",
    "coco",
    "convert",
    "folder",
    "idx",
    "iid",
    "index",
    "npy",
    "open",
    "pink",
    "references",
    "safetensors",
    "tar",
    "tfrecord",
    "view",
    "vimh",
    "visualrbm",
]


Path = str | os.PathLike[str]

_MODULES = {
    "Augment": "augmentation",
    "Batch": "batch",
    "Dataset": "dataset",
    "Loader": "loader",
    "references": "zarr_references",
    "view": "viewer",
    **dict.fromkeys(("arrow", "catalogue", "coco", "folder", "idx", "iid", "npy", "pink"), ""),
    **dict.fromkeys(("safetensors", "tar", "tfrecord", "vimh", "visualrbm"), ""),
}

if TYPE_CHECKING:
    from mapix import (
        arrow,
        catalogue,
        coco,
        folder,
        idx,
        iid,
        npy,
        pink,
        safetensors,
        tar,
        tfrecord,
        vimh,
        visualrbm,
    )
    from mapix.augmentation import Augment
    from mapix.batch import Batch
    from mapix.coco import CocoAnnotations, CocoImages
    from mapix.dataset import Dataset
    from mapix.folder import ImageFolder
    from mapix.idx import IdxArray
    from mapix.iid import Archive
    from mapix.loader import Loader
    from mapix.npy import NpyArray, NpzArray
    from mapix.pink.file import PinkFile
    from mapix.tar import TarShard
    from mapix.tfrecord import TFRecords
    from mapix.viewer import view
    from mapix.visualrbm import Model, Schedule
    from mapix.zarr_references import references
else:
    __getattr__, __dir__ = attach(__name__, _MODULES)


@overload
def open(path: Path, *, format: Literal["vimh"], **options: Any) -> vimh.Dataset: ...
@overload
def open(path: Path, *, format: Literal["iid"], **options: Any) -> Archive: ...
@overload
def open(path: Path, *, format: Literal["idx"], **options: Any) -> IdxArray: ...
@overload
def open(path: Path, *, format: Literal["npy"], **options: Any) -> NpyArray: ...
@overload
def open(path: Path, *, format: Literal["npz"], **options: Any) -> NpzArray: ...
@overload
def open(path: Path, *, format: Literal["pink"], **options: Any) -> PinkFile: ...
@overload
def open(path: Path, *, format: Literal["folder"], **options: Any) -> ImageFolder: ...
@overload
def open(
    path: Path, *, format: Literal["coco"], **options: Any
) -> CocoImages | CocoAnnotations: ...
@overload
def open(path: Path, *, format: Literal["tar"], **options: Any) -> TarShard: ...
@overload
def open(path: Path, *, format: Literal["tfrecord"], **options: Any) -> TFRecords: ...
@overload
def open(path: Path, *, format: Literal["visualrbm"], **options: Any) -> Model | Schedule: ...
@overload
def open(
    path: Path | Sequence[Path], *, format: str | None = None, **options: Any
) -> Dataset[Any]: ...
def open(path: Path | Sequence[Path], *, format: str | None = None, **options: Any) -> Any:
    """Open a dataset where it lies: nothing is converted, nothing is written beside it.

    Parameters
    ----------
    path : str or os.PathLike, or a sequence of them
        A data file or a dataset directory; several are opened as one, one after the other.  Or the
        URL of a file: what is read of it is downloaded first.
    format : str, optional
        Name of the format (``mapix.registry.names()`` lists them); detected when not given.
    **options
        Passed to the format: for VIMH see ``mapix.vimh.open_path`` (``split``, ``dialect``,
        ``order``, ``strict``, ``info``, ``index``, ``access``, ``progress``); PINK takes ``kind``,
        ``version`` and ``raw``, VisualRBM ``strict`` and ``kind``.

    Returns
    -------
    mapix.Dataset
        The dataset class of the format; of VisualRBM a model or a schedule.  Type checkers know
        the class when ``format`` is given.

    Raises
    ------
    UnknownFormatError
        No format recognises the path; the message states what was tried and why each refused.
    FormatError
        The format is clear, and the bytes break it.
    OptionError
        The format has no such option.
    OSError
        The path cannot be opened.
    """
    return _opener()(path, format=format, **options)


@functools.cache
def _opener() -> Any:
    """Import what opens; once, as the statement takes as long as a system call."""
    from mapix.registry import open_dataset

    return open_dataset


def index(
    path: Path | Sequence[Path], *, format: str | None = None, **options: Any
) -> str | list[str]:
    """Index a file once and store the index next to it, as ``NAME.mapix``.

    Every later ``open``, also by other users, reads the index instead of the file.  The owner of
    the index must be the user who opens, root, or the owner of the file, and no other user may
    have write permission.  A copy of the file with the same modification time uses a copy of the
    index, but reads the labels from the file.  A file that was written to is indexed again, into
    the cache.

    Parameters
    ----------
    path : str or os.PathLike, or a sequence of them
        As for ``open``.
    format : str, optional
        As for ``open``.
    **options
        ``labels`` (default True) and ``checksums`` (default True) state what the index has besides
        the offsets; ``progress(bytes_done, bytes_total)`` is called, or True shows a bar;
        ``map`` computes checksums in parts (see ``Dataset.statistics``); the others are those of
        ``open``, and the index is good for opening with the same.

    Returns
    -------
    str or list of str
        Path of the index; of several files, and of a catalogue, those of all.

    Raises
    ------
    OSError
        The folder cannot be written to.
    UnsupportedError
        The format needs no index.
    """
    given = {k: v for k, v in options.items() if k not in KEEPS}
    opened = open(path, format=format, **given)
    keep = getattr(opened, "keep_index", None)
    if keep is None:
        raise UnsupportedError(f"{opened.path}: {type(opened).__name__} needs no index")
    with opened:
        found: str | list[str] = keep(**{k: v for k, v in options.items() if k in KEEPS})
    return found


KEEPS = ("labels", "checksums", "progress", "map")


def convert(source: Any, path: Path, **options: Any) -> Any:
    """Write a dataset in another format; the source is not changed.

    Records are streamed in bounded memory, and the target appears complete or not at all.  If the
    target cannot store something, LossError is raised; with ``lossy=True``, the result lists what
    was lost.  ``mapix.conversion.convert`` has all options.

    >>> mapix.convert("MNIST", "mnist-vimh", to="vimh")          # doctest: +SKIP
    >>> mapix.convert(ds.where("note > 51"), "some.npz")         # doctest: +SKIP

    Parameters
    ----------
    source : path, or what ``open`` returned
        A part of a dataset, too.
    path : str or os.PathLike
        The new file or directory; nothing may be there.
    **options
        ``to``, ``split``, ``lossy``, ``axes``, ``progress``, ``opening``, and those of the target.

    Returns
    -------
    mapix.conversion.Converted
        What was written, and what was lost.

    Raises
    ------
    LossError
        Something would be lost; nothing was written.
    """
    from mapix import conversion

    return conversion.convert(source, path, **options)
