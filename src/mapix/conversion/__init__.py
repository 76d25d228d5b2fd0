"""From one format to another: streamed, whole or not at all, and nothing lost in silence.

``mapix.convert`` calls it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import mapix
from mapix.errors import LossError

if TYPE_CHECKING:
    from mapix.conversion.stream import Axes
    from mapix.conversion.target import Target

__all__ = ["NAMES", "Converted", "convert", "target_named"]

SPLITS = ("train", "test")
OF_MODELS = ("json", "safetensors")
ENDINGS = {
    ".npy": "npy",
    ".npz": "npz",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".idx": "idx",
    "-ubyte": "idx",
    ".bin": "pink",
    ".json": "json",
    ".safetensors": "safetensors",
}
NAMES = (
    "vimh",
    "idx",
    "pink",
    "folder",
    "npy",
    "npz",
    "parquet",
    "arrow",
    "huggingface",
    *OF_MODELS,
)


@dataclass(frozen=True, slots=True)
class Converted:
    """What ``convert`` wrote.

    Attributes
    ----------
    path, format : str
        Where, and what.
    records : dict of str to int
        How many in each split.
    lost : tuple of str
        What the target has no place for; empty unless ``lossy=True``.
    """

    path: str
    format: str
    records: dict[str, int] = field(default_factory=dict)
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = ", ".join(f"{n:,} {split}" for split, n in self.records.items())
        lines = [f"{self.path}: {self.format}, records: {counts}"]
        return "\n".join([*lines, *(f"lost: {text}" for text in self.lost)])


def convert(
    source: Any,
    path: str | os.PathLike[str],
    *,
    to: str | None = None,
    split: str | None = None,
    lossy: bool = False,
    axes: Axes | None = None,
    images: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], object] | None = None,
    opening: Mapping[str, Any] | None = None,
    **options: Any,
) -> Converted:
    """Write what a dataset holds in another format; the source stays as it is.

    Parameters
    ----------
    source : path, or what ``mapix.open`` returned
        A part of a dataset, too.  Of a directory all splits are converted where the target has
        places for them.
    path : str or os.PathLike
        The new file or directory; nothing may be there.
    to : str, optional
        ``"vimh"``, ``"idx"``, ``"pink"``, ``"folder"``, ``"npy"``, ``"npz"``, ``"parquet"``,
        ``"arrow"``, ``"huggingface"``; of models ``"json"``, ``"npz"``, ``"safetensors"``.  By
        default what the ending of ``path`` says.
    split : str, optional
        The only one to convert.
    lossy : bool
        Whether the target may lose what it has no place for; what that is stands in the result.
    axes : {"HW", "HWC", "CHW"}, optional
        What the dimensions of a record are, where the source does not say (IDX of four dimensions).
    images : mapping, optional
        Of an image folder: options of its ``batch`` that say what becomes of pictures of other
        sizes (``size``, ``fit``, ``mode``, ``resample``, ``draft``), and ``threads`` that decode.
    progress : callable, optional
        ``progress(records_done, records_total)``.
    opening : mapping, optional
        Options for ``mapix.open``.
    **options
        Of the target: ``dialect``, ``output``, ``index`` (VIMH); ``byteorder``, ``label``, ``unit``
        (IDX); ``encoding`` (tables).

    Returns
    -------
    Converted

    Raises
    ------
    LossError
        The target has no place for something, and ``lossy`` is False; nothing was written.
    UnsupportedError
        The two do not go together.
    FileExistsError
        There is something at ``path``.

    Notes
    -----
    Memory: a block of records (8 MiB), and labels where the target wants them whole.  What appears
    at ``path`` is whole, or nothing does.
    """
    # here: all formats at once, which who reads one of them need not carry
    from mapix.conversion.kinds import without_records
    from mapix.conversion.sources import streamed
    from mapix.conversion.target import counter

    path = os.fspath(path)
    name = to or _ending(path)
    target = target_named(name, path, options)
    opened, mine = _opened(source, split, dict(opening or {}))
    try:
        (only,) = opened.values() if len(opened) == 1 else (None,)
        whole = without_records(only, target, path, name)
        if whole is not None:
            return Converted(path, name, whole(progress))
        _check_splits(opened, target, name)
        streams = streamed(opened, axes=axes, images=images)
        left = _left_out(source, split, opened)
        lost = tuple(dict.fromkeys([*target.lost(streams), *left]))
        if lost and not lossy:
            raise LossError(path, name, lost)
        target.write(streams, path, counter(sum(s.n for s in streams.values()), progress))
    finally:
        for ds in opened.values() if mine else ():
            ds.close()
    return Converted(path, name, {k: s.n for k, s in streams.items()}, lost)


def _ending(path: str) -> str:
    found = next((name for end, name in ENDINGS.items() if path.endswith(end)), None)
    if found is None:
        raise ValueError(f"to= has to name a format, {path!r} does not: {', '.join(NAMES)}")
    return found


def target_named(name: str, path: str, options: dict[str, Any]) -> Target:
    """The target of that name, for a path that says more of it."""
    if name == "vimh":
        from mapix.conversion.vimh import Vimh

        return Vimh(**options)
    if name == "idx":
        from mapix.conversion.idx import Idx

        return Idx(directory=not path.endswith((".idx", "-ubyte")), **options)
    if name == "pink":
        from mapix.conversion.pink import Pink

        return Pink(**options)
    if name == "folder":
        from mapix.conversion.folders import Folder

        return Folder(**options)
    if name in ("npy", "npz"):
        from mapix.conversion.arrays import Npy, Npz

        return (Npy if name == "npy" else Npz)(**options)
    if name in ("parquet", "arrow"):
        from mapix.conversion.tables import Table

        return Table(name, **options)  # type: ignore[arg-type]
    if name == "huggingface":
        from mapix.conversion.tables import HuggingFace

        return HuggingFace(**options)
    if name in OF_MODELS:
        from mapix.conversion.kinds import OfModels

        return OfModels(**options)
    raise ValueError(f"to= has to be one of {', '.join(NAMES)}, got {name!r}")


def _opened(source: Any, split: str | None, options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The splits of a source, and whether they were opened here."""
    if not isinstance(source, str | os.PathLike):
        return {split or "train": source}, False
    path = os.fspath(source)
    if split is not None:
        return {split: mapix.open(path, split=split, **options)}, True
    if not os.path.isdir(path):
        name = os.path.basename(path).removesuffix("_batch")
        return {name if name in SPLITS else "train": mapix.open(path, **options)}, True
    first = mapix.open(path, **options)
    # those that know say so; IDX does not, and archives have none
    names = tuple(getattr(first, "splits", () if hasattr(first, "groups") else SPLITS))
    if not names:
        return {"train": first}, True
    opened_already = getattr(first, "split", None)  # of an image folder; others begin with train
    found = {opened_already if isinstance(opened_already, str) else "train": first}
    for name in names:
        if name not in found:
            with contextlib.suppress(FileNotFoundError):
                found[name] = mapix.open(path, split=name, **options)
    return {name: found[name] for name in names if name in found}, True


def _left_out(source: Any, split: str | None, opened: Mapping[str, Any]) -> list[str]:
    """Records of a directory that are not converted, because a file above them was opened."""
    from mapix.folder import ImageFolder
    from mapix.folder.opening import splits_of

    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    if path is None or split is not None or not os.path.isdir(path):
        return []
    (only,) = opened.values() if len(opened) == 1 else (None,)
    if not isinstance(only, ImageFolder) or only.split is not None:
        return []
    below = ", ".join(splits_of(path))
    return [f"records of {below}: metadata files of their own, for split="] if below else []


def _check_splits(opened: Mapping[str, Any], target: Target, name: str) -> None:
    """The reason why there are too many splits, or why they have other names, as ValueError."""
    if target.any_split:
        return
    if not target.splits and len(opened) > 1:
        there = ", ".join(opened)
        raise ValueError(f"{name} holds one array of records: split= has to name one of {there}")
    wrong = [k for k in opened if target.splits and k not in target.splits]
    if wrong:
        raise ValueError(f"{name} has splits {', '.join(target.splits)}, not {', '.join(wrong)}")
