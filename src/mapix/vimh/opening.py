"""Opening VIMH: from a path to its files, info JSON, index and dataset."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mapix.errors import FileChangedError, FormatError, MapixError, MapixWarning, warn
from mapix.registry import Candidate
from mapix.source import Fingerprint, Source, Unmapped, absolute
from mapix.source import Mapping as Map
from mapix.vimh import index_store, layout
from mapix.vimh.dataset import Dataset
from mapix.vimh.files import PICKLE_SUFFIX, files_to_open, named_as_vimh
from mapix.vimh.gatherer import Gatherer
from mapix.vimh.info_json import (
    KNOWN_NBYTES,
    MOST_KNOWN,
    WHAT,
    disagreements,
    hint_of,
    info_of,
    parse_info,
    text_beside,
)
from mapix.vimh.journal import settled
from mapix.vimh.layout import NAME, Hint, Progress
from mapix.vimh.parameters import Parameters
from mapix.vimh.record_index import RecordIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.vimh.joined import Joined
    from mapix.vimh.pickle_file import PickledBatch

__all__ = ["ask_ahead", "open_path"]

UNNAMED = Parameters.from_info({})
TRIES = 9  # at opening a file that another process appends to


@lru_cache(MOST_KNOWN)
def _key(dialect: int | None, hint: Hint, *, strict: bool) -> str:
    """Return what decides how the same bytes are read: a stored index is valid for one key."""
    return f"vimh:{dialect}:{strict}:{hint.shape}:{hint.nparameters}"


def _believed(mapping: Map, known: RecordIndex | None, *, strict: bool) -> RecordIndex | None:
    """Return a stored index that agrees with the first record and covers the file; else None."""
    if known is None or known.stale:
        return None
    if not known.nrecords or (strict and not known.grown and known.nbytes != mapping.nbytes):
        return None
    return known if layout.agrees_at_first(mapping, known) else None


def _renewing(source: Source, head_nbytes: int) -> Callable[[], NDArray[np.void] | None]:
    # It knows no index: in a cycle with its own table, the files would stay mapped.
    return lambda: layout.walk(source, head_nbytes).index.entries


def _grown(
    source: Source, before: RecordIndex, key: str, progress: Progress | None
) -> RecordIndex | None:
    """Return the index of a file that has grown, and let the stored index grow with it."""
    found = layout.grown(source, before, progress)
    if found is None:
        return None
    extended = index_store.extend(source, before, found, key)
    if extended is not None:
        return extended
    try:
        found = layout.joined(before, found)
    except MapixError:  # the stored entries are damaged
        return None
    index_store.store(source, found, key)
    return found


def _index(
    source: Source,
    *,
    dialect: int | None,
    hint: Hint,
    strict: bool,
    stored: str,
    key: str,
    progress: Progress | None,
) -> RecordIndex:
    """Return the stored index of a file, or a new one, which is stored for the next open."""
    known = index_store.load(source, key) if stored == "auto" else None
    mapping = source.mapping
    found = _believed(mapping, known, strict=strict)
    if found is not None and found.grown:
        found = _grown(source, found, key, progress)
    if found is not None and found.stored_table is not None:
        found.stored_table.renew = _renewing(source, found.head_nbytes)
    if found is None:
        reading = layout.choose(
            source, dialect=dialect, hint=hint, strict=strict, progress=progress
        )
        found = reading.index
        if known is not None and known.stale and known.nrecords == found.nrecords:
            found = found._replace(checksums=known.checksums)  # with them verify finds what changed
        if stored != "never":
            index_store.store(source, found, key)
    if found.nbytes < mapping.nbytes:
        warn(
            f"{source.path}: opened {found.nrecords} complete records; the last "
            f"{mapping.nbytes - found.nbytes} bytes, from byte {found.nbytes} on, are not a record"
        )
    return found


def _pickled(source: Source, mapping: Map, stored: str) -> PickledBatch | FormatError | None:
    """Return the file as a pickle; None, or the reason where it begins like one, if it is not."""
    named = source.path.endswith(PICKLE_SUFFIX)
    head = mapping.front()
    # a pickle of a dict begins with 0x80, `(` or `}`, whatever its name
    if not named and (not head or head[0] not in b"\x80(}"):
        return None
    from mapix.vimh.pickle_file import PickledBatch, looks_pickled

    if not (named or looks_pickled(source)):
        return None
    try:
        return PickledBatch(source, stored)
    except FormatError as e:
        if named:
            raise
        return e  # a binary file may begin like a pickle


def ask_ahead(file: Unmapped) -> None:
    """Have the kernel read the stored index of a local file: see ``Format.ahead``."""
    with contextlib.suppress(OSError, MapixError):  # which opening the file raises
        hint = hint_of(info_of(file.path, True, text_beside(file.path)))
        key = _key(None, hint, strict=True)
        index_store.ask_for(absolute(file.path), file.fingerprint, key)


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    split: str | None = None,
    dialect: Literal[6, 14] | None = None,
    order: Literal["CHW", "HWC"] = "CHW",
    strict: bool = True,
    info: Mapping[str, Any] | str | os.PathLike[str] | bool = True,
    index: Literal["auto", "never", "rebuild"] = "auto",
    access: Literal["random", "sequential", "normal"] = "random",
    progress: Progress | bool | None = None,
) -> Dataset | Joined:
    """Open a VIMH file, or a split of a VIMH directory.

    Parameters
    ----------
    path : str or os.PathLike
        A data file (its name does not matter), or a directory with ``train``, ``test`` and
        ``vimh_dataset_info.json``.  The shards of a split, ``train-00000-of-00003`` and so on, or
        CIFAR-10's ``data_batch_1`` to ``5``, are opened as one dataset.
    split : str, optional
        A split of the directory; by default ``"train"``.
    dialect : {6, 14}, optional
        Bytes of the record header.  By default the one whose records tile the file.
    order : {"CHW", "HWC"}
        Order of the pixels in the file.  All known programs write CHW.
    strict : bool
        With False a file that ends inside a record opens with its complete records, and a warning.
    info : bool, path or mapping
        The info JSON: True reads the one beside the file, False reads none.
    index : {"auto", "never", "rebuild"}
        Whether an index in the user's cache folder is used and stored (files from 16 MiB
        or 16,384 records on).
    access : {"random", "sequential", "normal"}
        How the file will be read: advice for the kernel.
    progress : callable or True, optional
        ``progress(bytes_done, bytes_total)`` while the index is built; True shows a bar.

    Returns
    -------
    Dataset
        Of several shards a Joined.

    Raises
    ------
    FormatError
        The bytes fit no dialect, or both; TruncatedError where the file ends inside a record.
    """
    if order not in ("CHW", "HWC"):
        raise ValueError(f"order must be CHW or HWC, got {order!r}")
    if index not in ("auto", "never", "rebuild"):
        raise ValueError(f"index must be auto, never or rebuild, got {index!r}")
    candidate = Candidate.of(path)
    options: dict[str, Any] = {
        "dialect": dialect,
        "order": order,
        "strict": strict,
        "info": info if info is True else _named_info(info),
        "index": index,
        "access": access,
    }
    if candidate.expect is not None:
        return _open_again(candidate, options)
    files = files_to_open(candidate, split)
    ready = None if candidate.is_directory else candidate.source
    report: Progress | None = None
    if progress:
        from mapix.progress import shown

        report = shown(progress, "finding records", "bytes")
    opened = [_open_settled(path, options, report, ready) for path in files]
    if len(opened) > 1:
        joined: Joined = opened[0].joined(opened[1:])
        return joined
    if split is None and candidate.is_directory:
        opened[0].directory = absolute(candidate.path)
    return opened[0]


def _named_info(info: Mapping[str, Any] | str | os.PathLike[str] | bool) -> Any:
    return info if isinstance(info, bool | Mapping) else absolute(os.fspath(info))


def _open_again(candidate: Candidate, options: Mapping[str, Any]) -> Dataset:
    """Open the file that a pickle states; warnings were issued where it was opened first."""
    path = candidate.path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MapixWarning)
        return _open(path, options, expect=candidate.expect)


def _open_settled(
    path: str,
    options: Mapping[str, Any],
    progress: Progress | None,
    ready: Source | None,
) -> Dataset:
    """Open a file, again where another process began to append while it was inspected."""
    for _ in range(TRIES - 1):
        try:
            return _open(path, options, progress=progress, ready=ready)
        except FileChangedError:
            ready = None
        except FormatError as e:
            e.recognised = bool(e.record) or named_as_vimh(path)
            raise
    return _open(path, options, progress=progress)


def _open(
    path: str,
    options: Mapping[str, Any],
    *,
    expect: Fingerprint | None = None,
    progress: Progress | None = None,
    ready: Source | None = None,
) -> Dataset:
    source = settled(path, expect, ready)
    beside = text_beside(path) if options["info"] is True else None
    info = info_of(path, options["info"], beside)
    try:
        if not info:
            named = UNNAMED
        elif beside is not None and len(beside) <= KNOWN_NBYTES:
            named = _named(beside, path)
        else:
            named = Parameters.from_info(info)
    except (ValueError, TypeError, AttributeError, OverflowError) as e:
        raise FormatError(path, WHAT, str(e)) from e
    gatherer = _gatherer(source, info, named, options, progress)
    gatherer.options = options
    ds = Dataset(info, gatherer=gatherer, options=options)
    differs = disagreements(info, ds.split_name, gatherer.index) if info else []
    if differs:  # the records count, not the info JSON
        warn(f"{ds.path}: the info JSON states {'; '.join(differs)}")
    return ds


@lru_cache(MOST_KNOWN)  # as parse_info
def _named(info: bytes, path: str) -> Parameters:
    return Parameters.from_info(parse_info(info, path))


def _gatherer(
    source: Source,
    info: Mapping[str, Any],
    named: Parameters,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> Gatherer:
    """Index a file of records, or read a pickle."""
    path, mapping, hint = source.path, source.mapping, hint_of(info)
    how = {"interleaved": options["order"] == "HWC", "access": options["access"]}
    batch = _pickled(source, mapping, options["index"]) if options["dialect"] is None else None
    if batch is not None and not isinstance(batch, FormatError):
        from mapix.vimh.pickle_gatherer import PickleGatherer

        found = PickleGatherer(batch, named, hint.shape, **how)
        found.pixels.mapping.advise(options["access"])
        return found
    mapping.advise(options["access"])  # before the map is touched: else much is read ahead
    key = _key(options["dialect"], hint, strict=options["strict"])
    try:
        index = _index(
            source,
            dialect=options["dialect"],
            hint=hint,
            strict=options["strict"],
            stored=options["index"],
            key=key,
            progress=progress,
        )
    except FormatError as e:
        if batch is None:
            raise
        raise FormatError(path, NAME, f"{e.reason}\n  as a pickle: {batch}") from e
    gatherer = Gatherer(source, index, named, **how)
    if options["index"] != "never":
        gatherer.key = key
    return gatherer
