"""From a path to a VIMH dataset: which file, which info JSON, which index."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from mapix import _native
from mapix.errors import FileChangedError, FormatError, MapixWarning, warn
from mapix.registry import Candidate
from mapix.selection import Rows
from mapix.source import Fingerprint, Source, absolute, read_small
from mapix.vimh import index_store, layout
from mapix.vimh.dataset import Dataset
from mapix.vimh.gatherer import Gatherer
from mapix.vimh.journal import pending
from mapix.vimh.layout import NAME, Hint, Progress
from mapix.vimh.parameters import INFO_LIMIT, INFO_NAME, Parameters, parse_info
from mapix.vimh.record_index import RecordIndex

if TYPE_CHECKING:
    from mapix.vimh.joined import Joined
    from mapix.vimh.pickle_file import PickledBatch

__all__ = ["NAME", "open_path", "refusal", "reopen"]

SPLITS = ("train", "test")
TRIES = 9  # at opening a file that somebody appends to
BATCH = "_batch"  # what the names of pickles end with
NAMES = (*SPLITS, *(name + BATCH for name in SPLITS), INFO_NAME)


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be VIMH, or None: see ``mapix.registry.Format``."""
    path = candidate.path
    if not candidate.is_directory:
        # There is no magic number: only the records can decide, and an empty file has none.
        empty = not candidate.source.nbytes and not _said(path)
        return "an empty file, and nothing says that it is VIMH" if empty else None
    if any(os.path.isfile(os.path.join(path, name)) for name in NAMES):
        return None
    if any(shards(path, split) for split in SPLITS):
        return None
    return f"a directory without {', '.join(SPLITS)} or {INFO_NAME}"


def _said(path: str) -> bool:
    """Whether the name of a file, an info JSON or a journal beside it says that it is VIMH."""
    folder, name = os.path.split(path)
    named = (
        name in NAMES or name.endswith(BATCH) or re.fullmatch(r"(train|test)-\d{5}-of-\d{5}", name)
    )
    beside = os.path.join(folder, INFO_NAME), os.path.join(folder, f".{name}.appending")
    return bool(named) or any(map(os.path.exists, beside))


def _splits(folder: str) -> dict[str, str]:
    """Binary files where there are any: of the same content, they need no decoding."""
    found = {}
    for name in SPLITS:
        for path in (os.path.join(folder, name), os.path.join(folder, name + BATCH)):
            if os.path.isfile(path):
                found[name] = path
                break
    return found


def shards(folder: str, split: str) -> list[str]:
    """Files ``SPLIT-00000-of-00003`` of a directory, or CIFAR-10's ``data_batch_1`` to ``5``.

    Raises
    ------
    FormatError
        Some are missing, or two numbers of shards are mixed.
    """
    names = os.listdir(folder)
    found = sorted(n for n in names if re.fullmatch(rf"{re.escape(split)}-\d{{5}}-of-\d{{5}}", n))
    if found:
        n = int(found[0][-5:])
        want = [f"{split}-{k:05}-of-{n:05}" for k in range(n)]
        if found != want:
            missing = ", ".join(sorted(set(want) - set(found))) or "none"
            more = ", ".join(sorted(set(found) - set(want))) or "none"
            reason = f"shards of {split}: missing: {missing}; too many: {more}"
            raise FormatError(folder, NAME, reason)
    elif split == "train":
        found = sorted(n for n in names if re.fullmatch(r"data_batch_[1-9]", n))
    return [os.path.join(folder, n) for n in found]


def _beside(path: str) -> dict[str, str]:
    """The splits that lie beside a data file, itself included."""
    name = os.path.basename(path)
    split = name.removesuffix(BATCH)
    return _splits(os.path.dirname(path)) | {split: path} if split in SPLITS else {}


def _data_file(path: str, split: str | None) -> tuple[str, dict[str, str]]:
    """The file to open, and the splits that lie beside it."""
    if not os.path.isdir(path):
        if split is not None and split != os.path.basename(path).removesuffix(BATCH):
            raise ValueError(f"{path} is a file; split= chooses among the files of a directory")
        return path, _beside(path)
    splits = _splits(path)
    wanted = split or "train"
    if wanted in splits:
        return splits[wanted], splits
    found = ", ".join(splits) or "none"
    raise FileNotFoundError(f"{path}: no split {wanted!r}; there: {found}")


def data_files(folder: str, split: str | None = None) -> list[str]:
    """Return the data files of a directory, or of one split: binary files, pickles, shards."""
    found = []
    for name in SPLITS if split is None else (split,):
        there = (os.path.join(folder, name), os.path.join(folder, name + BATCH))
        found += [path for path in there if os.path.isfile(path)]
        found += shards(folder, name)
    return found


def _parts(path: str, split: str | None) -> list[tuple[str, dict[str, str]]]:
    """The files to open, and the splits beside each."""
    if os.path.isdir(path) and (split or "train") not in _splits(path):
        found = shards(path, split or "train")
        if found:
            return [(p, {}) for p in found]
    return [_data_file(path, split)]


def info_of(
    data_path: str, info: Mapping[str, Any] | str | os.PathLike[str] | bool
) -> dict[str, Any]:
    """Return the info JSON of a data file: the one beside it, or what ``info`` gives; else {}."""
    if isinstance(info, Mapping):
        return dict(info)
    if info is False:
        return {}
    beside = os.path.join(os.path.dirname(data_path), INFO_NAME)
    path = beside if info is True else os.fspath(info)
    if info is True and not os.path.exists(path):
        return {}
    return parse_info(read_small(path, INFO_LIMIT), path)


def hint_of(info: Mapping[str, Any]) -> Hint:
    """What an info JSON says about the records."""
    if not info:
        return Hint()
    dims = [info.get(k) for k in ("height", "width", "channels")]
    known = all(type(d) is int and 0 < d < 65536 for d in dims)
    names = info.get("parameter_names")
    return Hint(tuple(dims) if known else None, len(names) if names else None)  # type: ignore[arg-type]


def disagreements(ds: Dataset) -> list[str]:
    """What the info JSON says otherwise than the file."""
    if not ds.info:
        return []
    said = (
        [f"{ds.info['format']!r} as its format"] if ds.info.get("format", "VIMH") != "VIMH" else []
    )
    name = os.path.basename(ds.path).removesuffix(BATCH)
    for key in (f"{name}_samples", f"num_{name}_samples"):
        count = ds.info.get(key)
        if type(count) is int and count != len(ds):
            said.append(f"{count} samples ({key}), the file holds {len(ds)}")
    shape = None if ds.info.get("image_sizes") == "mixed" else ds._info_shape()
    if shape and ds.index.stride and shape != ds.index.first[1:4]:
        said.append(f"images of {shape}, the file's are {ds.index.first[1:4]}")
    return said


def _key(dialect: int | None, hint: Hint, *, strict: bool) -> str:
    """What decides how the same bytes are read: an index is good for one of these."""
    return f"vimh:{dialect}:{strict}:{hint.shape}:{hint.nparameters}"


def _believed(source: Source, known: RecordIndex | None, *, strict: bool) -> RecordIndex | None:
    """A stored index that agrees with the first record, and covers what it has to; else None."""
    if known is None or known.stale:
        return None
    if not known.nrecords or (strict and not known.grown and known.nbytes != source.nbytes):
        return None
    return known if layout.agrees_at_first(source, known) else None


def _index(
    source: Source,
    *,
    dialect: int | None,
    hint: Hint,
    strict: bool,
    stored: str,
    progress: Progress | None,
) -> RecordIndex:
    key = _key(dialect, hint, strict=strict)
    known = index_store.load(source, key) if stored == "auto" else None
    found = _believed(source, known, strict=strict)
    if found is not None and found.stored_table is not None:
        head = found.head_nbytes
        found.stored_table.renew = lambda: layout.walk(source, head).index.entries
    if found is not None and found.grown:
        found = layout.grown(source, found, progress)
        if found is not None:
            index_store.store(source, found, key)
    if found is None:
        reading = layout.choose(
            source, dialect=dialect, hint=hint, strict=strict, progress=progress
        )
        found = reading.index
        if known is not None and known.stale and known.nrecords == found.nrecords:
            found = replace(found, checksums=known.checksums)  # verify has to find what was changed
        if stored != "never":
            index_store.store(source, found, key)
    if found.nbytes < source.nbytes:
        warn(
            f"{source.path}: opened {found.nrecords} whole records; the last "
            f"{source.nbytes - found.nbytes} bytes, from byte {found.nbytes} on, are no record"
        )
    return found


def _pickled(source: Source) -> PickledBatch | FormatError | None:
    """The file as a pickle, if it is one; the reason why not, where it begins like one."""
    named = source.path.endswith(BATCH)
    head = _native.copy(source.mapping, 0, min(1, source.nbytes), NAME)
    # 0x80, `(` or `}`: anything else is no pickle of a dict, whatever its name
    if not named and (not head or head[0] not in b"\x80(}"):
        return None
    from mapix.vimh.pickle_file import PickledBatch, looks_pickled

    if not (named or looks_pickled(source)):
        return None
    try:
        return PickledBatch(source)
    except FormatError as e:
        if named:
            raise
        return e  # a binary file may begin like a pickle


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
    progress: Progress | None = None,
) -> Dataset | Joined:
    """Open a VIMH file, or a split of a VIMH directory.

    Parameters
    ----------
    path : str or os.PathLike
        A data file (its name does not matter), or a directory with ``train``, ``test`` and
        ``vimh_dataset_info.json``.  A split may be in shards, ``train-00000-of-00003`` and so on,
        or CIFAR-10's ``data_batch_1`` to ``5``; they are opened as one.
    split : str, optional
        Of a directory; ``"train"`` by default.
    dialect : {6, 14}, optional
        Bytes of the record header; found by tiling the file when not given.
    order : {"CHW", "HWC"}
        Order of the pixels in the file.  All known programs write CHW.
    strict : bool
        With False a file that ends inside a record opens with its whole records, and a warning.
    info : bool, path or mapping
        The info JSON: True looks for it beside the file, False does without.
    index : {"auto", "never", "rebuild"}
        Whether a stored index in the user's cache folder is used and kept (files from 16 MiB on).
    access : {"random", "sequential", "normal"}
        What the kernel is told about the reads to come.
    progress : callable, optional
        ``progress(bytes_done, bytes_total)`` while the index is built.

    Returns
    -------
    Dataset
        Joined of several shards.

    Raises
    ------
    FormatError
        The bytes fit no dialect, or both; TruncatedError when the file ends inside a record.
    """
    if order not in ("CHW", "HWC"):
        raise ValueError(f"order must be CHW or HWC, got {order!r}")
    if index not in ("auto", "never", "rebuild"):
        raise ValueError(f"index must be auto, never or rebuild, got {index!r}")
    candidate = Candidate.of(path)
    path = candidate.path
    parts = _parts(path, split)
    options: dict[str, Any] = {
        "dialect": dialect,
        "order": order,
        "strict": strict,
        "info": info if isinstance(info, bool | Mapping) else absolute(os.fspath(info)),
        "index": index,
        "access": access,
    }
    ready = None if candidate.is_directory else candidate.source
    opened = [_open_settled(p, splits, options, progress, ready) for p, splits in parts]
    if len(opened) > 1:
        return opened[0].joined(opened[1:])
    if split is None and os.path.isdir(path):
        opened[0].directory = absolute(path)
    return opened[0]


def _open_settled(
    path: str,
    splits: Mapping[str, str],
    options: Mapping[str, Any],
    progress: Progress | None,
    ready: Source | None,
) -> Dataset:
    for _ in range(TRIES - 1):
        try:
            return _open(path, splits, options, progress=progress, ready=ready)
        except FileChangedError:
            ready = None  # somebody began to append between our first look and the last
        except FormatError as e:
            e.recognised = bool(e.record) or _said(path)
            raise
    return _open(path, splits, options, progress=progress)


def settled(path: str, expect: Fingerprint | None = None, ready: Source | None = None) -> Source:
    """Open a file without what another process is just appending; ``ready`` is it, opened."""
    for _ in range(TRIES):
        before = pending(path)
        reuse = ready if before is None else None
        source = Source(path, expect, before) if reuse is None else reuse
        ready = None
        after = pending(path)
        # Committed in between: what the file was when it was opened may be a part of it.
        if before == after and (before is not None or os.stat(path).st_size == source.nbytes):
            break
    return source


def _open(
    path: str,
    splits: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    expect: Fingerprint | None = None,
    progress: Progress | None = None,
    rows: Rows = None,
    ready: Source | None = None,
) -> Dataset:
    source = settled(path, expect, ready)
    info = info_of(path, options["info"])
    try:
        named = Parameters.from_info(info)
    except (ValueError, TypeError, AttributeError, OverflowError) as e:
        raise FormatError(path, "vimh info JSON", str(e)) from e
    how = {"interleaved": options["order"] == "HWC", "access": options["access"]}
    batch = _pickled(source) if options["dialect"] is None else None
    if batch is None or isinstance(batch, FormatError):
        try:
            index = _index(
                source,
                dialect=options["dialect"],
                hint=hint_of(info),
                strict=options["strict"],
                stored=options["index"],
                progress=progress,
            )
        except FormatError as e:
            if batch is None:
                raise
            raise FormatError(path, NAME, f"{e.reason}\n  as a pickle: {batch}") from e
        gatherer = Gatherer(source, index, named, **how)
        if options["index"] != "never":
            gatherer.key = _key(options["dialect"], hint_of(info), strict=options["strict"])
    else:
        from mapix.vimh.pickle_gatherer import PickledFile

        gatherer = PickledFile(batch, named, hint_of(info).shape, **how)
    gatherer.options = options
    gatherer.pixels.mapping.advise(options["access"])
    places = {name: absolute(p) for name, p in splits.items()}
    ds = Dataset(info, gatherer=gatherer, options=options, splits=places)
    if expect is None:
        said = disagreements(ds)  # the file is believed
        if said:
            warn(f"{ds.path}: the info JSON says {'; '.join(said)}")
        return ds
    return ds if rows is None else ds._with_rows(rows)


def reopen(path: str, options: Mapping[str, Any], expect: Fingerprint, rows: Rows) -> Dataset:
    """What a pickled dataset becomes: the same file opened again, or FileChangedError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MapixWarning)  # said once, where it was opened first
        return _open(path, _beside(path), options, expect=expect, rows=rows)


def reopen_file(path: str, options: Mapping[str, Any], expect: Fingerprint) -> Gatherer:
    """What the file of a pickled record becomes: as ``reopen``."""
    return reopen(path, options, expect, None)._gatherer
