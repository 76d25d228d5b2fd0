"""Conversion from image folders, and to them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.conversion.blocks import Arrays, Blocks
from mapix.conversion.stream import (
    Block,
    Label,
    Stream,
    encodable,
    kept_by_facts,
    label_columns,
    lost_by_facts,
    nameable,
    pictures,
    writable,
)
from mapix.conversion.target import Count, Target
from mapix.errors import UnsupportedError
from mapix.folder.fields import LABEL
from mapix.folder.layout import FIELDS, FILE_NAME, FILEPATH, LISTS, all_files, boxes, canonical
from mapix.folder.splits import splits_of
from mapix.folder.writer import Writer
from mapix.folder.writing import encoded
from mapix.pictures.batching import DTYPES
from mapix.pictures.decoding import BESIDES as OF_PICTURES
from mapix.pictures.decoding import MODES, Header, header_of
from mapix.pictures.fitting import Fit, without_range
from mapix.pictures.threads import Threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.folder import ImageFolder, Record

__all__ = ["Folder", "stream"]

CATEGORY = "category"
CHUNK = 256  # records whose headers are read together
MOST_NAMED = 3  # pictures that a message names
# Keys of ``objects`` whose values are not in pixels
WITHOUT_PIXELS = {"bbox", "categories", "category", "category_id", "id", "image_id", "iscrowd"}


# --- from -----------------------------------------------------------------------------------------


def stream(
    splits: Mapping[str, ImageFolder],
    *,
    images: Mapping[str, Any] | None = None,
    directory: str | os.PathLike[str] | None = None,
    **_: Any,
) -> dict[str, Stream]:
    """Return the streams of an image folder: see ``mapix.registry.Format.source``.

    Parameters
    ----------
    splits : mapping of str to ImageFolder
        Or to parts of them.  Their categories are numbered together.
    images : mapping, optional
        Options of ``ds.batch`` that say what becomes of pictures of other sizes: ``size``, ``fit``,
        ``mode``, ``resample``, ``draft``; and ``threads``, that decode.
    directory : str or os.PathLike, optional
        The path that is converted, where no split was chosen.
    """
    how = _How(images or {})
    seen = {split: _Seen(ds, how) for split, ds in splits.items()}
    if how.fit is not None and how.fit.fit == "pad" and how.fit.size is None:
        how.pad_to([s.shapes for s in seen.values()])
        seen = {split: _Seen(ds, how) for split, ds in splits.items()}
    known = _classes([s for s in seen.values() if s.values_by_name])
    named = [tuple(ds._class_names().get(LABEL, ())) for ds in splits.values()]
    classes = named[0] if len(set(named)) == 1 else ()
    found = {}
    for split, ds in splits.items():
        label = _label(seen[split], known) or _numbered(seen[split], classes)
        found[split] = _stream(ds, seen[split], how, label)
    (only,) = splits.values() if len(splits) == 1 else (None,)
    if directory is not None and os.path.isdir(directory) and only is not None:
        below = ", ".join(splits_of(os.fspath(directory))) if only.split_name is None else ""
        if below:
            text = f"records of {below}: metadata files of their own, for split="
            next(iter(found.values())).reduced.append(text)
    return found


class _How:
    """The options ``images=``."""

    def __init__(self, images: Mapping[str, Any]) -> None:
        given = dict(images)
        self.threads: int = given.pop("threads", 1)
        self.options = given
        self.fit: Fit | None = None  # pictures stay as they are
        if given:
            size, fit, mode = (given.pop(k, None) for k in ("size", "fit", "mode"))
            resample, draft = given.pop("resample", "bilinear"), given.pop("draft", False)
            if given:
                raise TypeError(f"images: no options {', '.join(given)} of conversions")
            size = None if size is None else (int(size[0]), int(size[1]))
            self._set(Fit(size, fit or "exact", mode, resample, draft))

    def _set(self, fit: Fit) -> None:
        self.fit = fit
        names = ("size", "fit", "mode", "resample", "draft")
        self.options = {name: getattr(fit, name) for name in names}

    def pad_to(self, shapes: Sequence[set[tuple[int, int, int]]]) -> None:
        """Pad all pictures to the largest sides of all, so that blocks have one shape."""
        assert self.fit is not None
        sides = [shape[:2] for some in shapes for shape in some] or [(1, 1)]
        size = max(h for h, _ in sides), max(w for _, w in sides)
        self._set(Fit(size, "pad", self.fit.mode, self.fit.resample, self.fit.draft))


class _Seen:
    """Facts from a scan of all lines, and of the headers of all pictures."""

    def __init__(self, ds: ImageFolder, how: _How) -> None:
        self.path = ds.path
        self.keys: dict[str, None] = {}  # of lines, beside the pictures' names
        self.others: dict[str, None] = {}  # keys that name further files
        self.besides: dict[str, list[str]] = {}  # content -> names of pictures
        self.stale: dict[str, None] = {}  # keys of objects whose values are not moved
        self.sixteen: list[str] = []  # pictures of 16 bits per channel that become 8 by mode=
        self.shapes: set[tuple[int, int, int]] = set()
        self.types: set[np.dtype[Any]] = set()
        self.sizes = np.zeros(len(ds), np.int64)  # numbers of each picture
        self.sides = np.zeros((len(ds) if how.fit is not None else 0, 2), np.int32)
        self.values_by_name: dict[Any, int] = {}
        self.kinds: set[type] = set()
        self.one_each = True
        self.values = np.full(len(ds), -1, np.int32)  # categories, by first occurrence
        self.labels: list[Any] = []
        with Threads(how.threads) as threads:
            for at in range(0, len(ds), CHUNK):
                records = [ds[k] for k in range(at, min(at + CHUNK, len(ds)))]
                for k, header in enumerate(threads.run(_header, records)):
                    self._note_picture(at + k, records[k], header, how)
                    self._note_line(at + k, records[k])
        if how.fit is not None:
            self._fit(how.fit)

    def _note_picture(self, row: int, record: Record, header: Header, how: _How) -> None:
        self.shapes.add(header.shape)
        self.sizes[row] = math.prod(header.shape)
        self.types.add(header.dtype)
        for what in header.besides:
            self.besides.setdefault(what, []).append(record.file_name)
        if how.fit is None:
            return
        h, w, _ = header.shape
        self.sides[row] = h, w
        place = how.fit.placing(h, w, record.file_name).place
        if how.fit.mode is not None and header.dtype != np.uint8:
            if header.dtype != np.uint16:
                raise ValueError(without_range(record.file_name, header.dtype))
            self.sixteen.append(record.file_name)
        objects = record.metadata.get("objects")
        if isinstance(objects, dict) and place != (1.0, 1.0, 0.0, 0.0):
            self.stale |= dict.fromkeys(k for k in objects if k not in WITHOUT_PIXELS)

    def _note_line(self, row: int, record: Record) -> None:
        line, key = record.metadata, record.picture_key
        self.keys |= dict.fromkeys(facts_of(record))
        self.others |= dict.fromkeys(k for k in all_files(line) if k != key)
        self.labels.append(line.get(LABEL))
        given = line.get("categories")
        if given is None:
            return
        if not isinstance(given, list) or len(given) != 1 or not _labels(given[0]):
            self.one_each = False
            return
        self.kinds.add(type(given[0]))
        self.values[row] = self.values_by_name.setdefault(given[0], len(self.values_by_name))

    def _fit(self, fit: Fit) -> None:
        """Compute shapes and types after ``images=`` was applied."""
        channels = {MODES[fit.mode]} if fit.mode else {c for _, _, c in self.shapes}
        if fit.size is not None and len(channels) > 1:
            counts = ", ".join(map(str, sorted(channels)))
            raise ValueError(
                f"{self.path}: pictures of {counts} channels: pass mode='RGB', 'L' or 'RGBA'"
            )
        sides = {fit.size} if fit.size is not None else {(h, w) for h, w, _ in self.shapes}
        if fit.mode is not None:
            self.types = {np.dtype(np.uint8)}
            if fit.size is None:
                self.sizes = self.sides.astype(np.int64).prod(axis=1) * MODES[fit.mode]
                self.shapes = {(h, w, MODES[fit.mode]) for h, w in sides}
        if fit.size is not None and self.shapes:
            self.shapes = {(*fit.size, next(iter(channels)))}
            self.sizes.fill(math.prod(next(iter(self.shapes))))

    def dtype(self, fit: Fit | None) -> np.dtype[Any]:
        """Return the type that holds the numbers of all pictures."""
        found = np.result_type(*self.types) if self.types else np.dtype(np.uint8)
        if fit is None or found.name in DTYPES:
            return found
        if np.can_cast(found, np.int32):
            return np.dtype(np.int32)
        names = ", ".join(sorted(map(str, self.types)))
        raise UnsupportedError(
            f"{self.path}: pictures of {names} have no one type: leave size= out"
        )

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """The shape of all pictures; None where they differ."""
        return next(iter(self.shapes), (0, 0, 0)) if len(self.shapes) < 2 else None

    @property
    def largest(self) -> int:
        """Bytes of the largest picture, approximately."""
        return max(map(math.prod, self.shapes), default=1)


def _labels(value: Any) -> bool:
    """Whether a category can be a label: text that every target can write, or a whole number."""
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 63
    return writable(value)


def _classes(seen: Sequence[_Seen]) -> list[Any] | None:
    """Return the categories of all splits in order; None where they are not a label.

    They are a label if each picture has at most one, and all are texts, or all whole numbers.
    """
    kinds = {kind for s in seen for kind in s.kinds}
    if len(kinds) != 1 or not all(s.one_each for s in seen):
        return None
    return sorted({name for s in seen for name in s.values_by_name})


def _label(seen: _Seen, known: list[Any] | None) -> Label | None:
    """Return categories as a label: numbers as they are, texts by their positions in order."""
    if known is None or not seen.values_by_name or not seen.one_each:
        return None
    texts = isinstance(known[0], str)
    places = {name: k for k, name in enumerate(known)} if texts else {}
    meaning = [places[name] if texts else name for name in seen.values_by_name]
    table = np.array([*meaning, 0], np.int64)  # the last for -1, no category
    values, present = table[seen.values], seen.values >= 0
    classes = tuple(known) if texts else ()
    return Label(CATEGORY, lambda: (values, present), classes=classes, listed=True)


def _numbered(seen: _Seen, classes: tuple[str, ...]) -> Label | None:
    """Return the classes of sub-folders as a label; None where not every record has one."""
    n = len(classes)
    if not n or not all(type(value) is int and 0 <= value < n for value in seen.labels):
        return None
    values = np.array(seen.labels, np.int64)
    present = np.ones(len(values), np.bool_)
    return Label(LABEL, lambda: (values, present), classes=classes)


def _stream(ds: ImageFolder, seen: _Seen, how: _How, label: Label | None) -> Stream:
    dtype = seen.dtype(how.fit)
    of_lines = _Lines(seen, how.fit, label)
    found = Stream(
        ds.path,
        len(ds),
        dtype,
        seen.shape,
        int(seen.sizes.sum()),
        "HWC",
        Blocks(ds, seen.largest, partial(_pixels, how, dtype), partial(_block, ds, of_lines)),
        [label] if label is not None else [],
        sizes=seen.sizes if seen.shape is None else None,
    )
    found.lines = lambda: (of_lines.named(k, ds[k]) for k in range(len(ds)))
    if how.fit is None:
        found.copies = lambda: map(_copied, (ds[k] for k in range(len(ds))))
    found.besides["names"] = "file names"
    said = sorted(k for k in seen.keys if k != of_lines.key)
    if said:
        found.besides["facts"] = f"fields of the lines: {', '.join(said)}"
    if seen.others:
        found.besides["files"] = f"further files that lines name: {', '.join(seen.others)}"
    for what, text in OF_PICTURES.items():
        if what in seen.besides:
            found.besides[what] = f"{text}: {_some(seen.besides[what])}"
    if seen.sixteen:
        rule = "16 bits of numbers, of which mode= makes 8, number / 257 rounded"
        found.reduced.append(f"{rule}: {_some(seen.sixteen)}")
    if seen.stale:
        keys = ", ".join(f"objects.{key}" for key in seen.stale)
        found.reduced.append(f"{keys}: not moved with the pictures, as boxes are")
    return found


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _header(record: Record) -> Header:
    return header_of(record.encoded())


def facts_of(record: Record) -> dict[str, Any]:
    """Return the fields of a line except the picture's name, and nulls that opsml writes."""
    key = record.picture_key
    line = record.metadata.items()
    return {k: v for k, v in line if k != key and not (v is None and k in FIELDS)}


class _Lines:
    """The fields of lines, with boxes moved as the pictures are."""

    def __init__(self, seen: _Seen, fit: Fit | None, label: Label | None) -> None:
        self.seen, self.fit, self.label = seen, fit, label
        self.key = None if label is None else "categories" if label.listed else label.name

    def facts(self, row: int, record: Record) -> dict[str, Any]:
        """Return all fields but the picture's name and the label."""
        found = facts_of(record)
        if self.key is not None:
            found.pop(self.key, None)
        if self.fit is not None:
            h, w = self.seen.sides[row].tolist()
            found = _moved(found, self.fit.placing(h, w, record.file_name).place)
        return found

    def named(self, row: int, record: Record) -> dict[str, Any]:
        """Return the picture's name, then ``facts``."""
        key = record.picture_key
        name = {FILE_NAME if key == FILEPATH else key: record.file_name}
        return name | self.facts(row, record)


def _moved(facts: dict[str, Any], place: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return facts with their boxes moved as a picture was."""
    objects = facts.get("objects")
    if place == (1.0, 1.0, 0.0, 0.0) or not isinstance(objects, dict) or not objects.get("bbox"):
        return facts
    sx, sy, dx, dy = place
    bbox = boxes({"bbox": objects["bbox"]})[0] * [sx, sy, sx, sy] + [dx, dy, 0.0, 0.0]
    return {**facts, "objects": {**objects, "bbox": bbox.tolist()}}


def _copied(record: Record) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a line as it is, and all files that it names."""
    line, files = record.metadata, {}
    for key, names in all_files(line).items():
        for name in names:
            files[_place(name)] = record.file(key, name).read()
    if record.picture_key == FILEPATH:  # not relative to its writer's directory any more
        name = _place(line[FILEPATH])
        line = {FILE_NAME if k == FILEPATH else k: v for k, v in line.items()} | {FILE_NAME: name}
    return line, files


def _place(name: str) -> str:
    """Return the name of a source's file in a new folder."""
    return "/".join(part for part in canonical(name).split("/") if part not in ("", ".."))


def _pixels(how: _How, dtype: np.dtype[Any], part: ImageFolder, c_order: bool) -> Arrays:
    """Return the pictures of all records of a part, those of one shape together."""
    del c_order
    if how.fit is not None and how.fit.size is not None:
        options: dict[str, Any] = {**how.options, "dtype": dtype.name}
        every = np.arange(len(part))
        return [part.batch(every, labels=None, threads=how.threads, **options).images]
    with Threads(how.threads) as threads:
        arrays = threads.run(lambda r: _array(r, how.fit, dtype), list(part))
    return list(_runs(arrays))


def _block(
    ds: ImageFolder, lines: _Lines, rows: NDArray[np.int64], arrays: Arrays, c_order: bool
) -> Block:
    del c_order
    records: list[Record] = [ds[int(row)] for row in rows]
    facts = [lines.facts(int(row), r) for row, r in zip(rows, records, strict=True)]
    block = Block(arrays, names=[r.file_name for r in records], facts=facts)
    if lines.label is not None:
        values, present = lines.label.read()
        block.values = {lines.label.name: values[rows]}
        block.present = {lines.label.name: present[rows]}
    return block


def _array(record: Record, fit: Fit | None, dtype: np.dtype[Any]) -> NDArray[Any]:
    found = record.image if fit is None else record.fitted(fit).pixels
    return found.astype(dtype, copy=False)


def _runs(arrays: Sequence[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yield runs of pictures of one shape as arrays."""
    begin = 0
    for k in range(1, len(arrays) + 1):
        if k == len(arrays) or arrays[k].shape != arrays[begin].shape:
            yield np.stack(arrays[begin:k])
            begin = k


# --- to -------------------------------------------------------------------------------------------


class Folder(Target):
    """An image folder: PNG files, and a line for each with its labels.

    A label becomes a key of its name (a class number, or a physical value), beside ``NAME_code``
    where it has codes; spec ranges ``spec_min`` and ``spec_max``.  An image folder whose pictures
    stay as they are is copied: its lines, and the files that they name, byte for byte.
    """

    any_split = True

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        kept = kept_by_facts(stream)
        return kept if stream.copies is None else {*kept, "files", *OF_PICTURES}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        found: list[str] = []
        for stream in streams.values():
            if stream.copies is not None:
                continue
            encodable(stream)
            _check_keys(stream)
            found += lost_by_facts(stream)
        return found

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        with Writer(path) as out:
            for split, stream in streams.items():
                part = split if len(streams) > 1 else None
                if stream.copies is None:
                    _Encoded(out, stream, part).write(count)
                    continue
                for line, files in stream.copies():
                    out.append_line(line, files, split=part)
                    count(1)


def _check_keys(stream: Stream) -> None:
    """Raise UnsupportedError where a label's key has another meaning in a line."""
    names: list[str] = []
    for label in stream.labels:
        if label.listed:
            continue
        names += [label.name, *([f"{label.name}_code"] if label.parameter is not None else [])]
    nameable(names, stream.path, (*FIELDS, "spec_min", "spec_max"))
    for name in names:
        if name.endswith((FILE_NAME, LISTS)) or name == FILEPATH:
            raise UnsupportedError(f"{stream.path}: label {name!r} would be read as a file's name")


class _Encoded:
    """Records as PNG files and lines, with unused names."""

    def __init__(self, out: Writer, stream: Stream, split: str | None) -> None:
        self.out, self.stream, self.split = out, stream, split
        self.names: dict[str, str] = {}  # name in the source -> in the target
        self.taken: set[str] = set()
        if "names" in stream.besides:
            named = (_place(line[next(iter(line))]) for line in stream.lines())
            self.taken = {name for name in named if name.lower().endswith(".png")}

    def write(self, count: Count) -> None:
        """Write all records."""
        width, number = len(str(self.stream.source.n)), self.stream.begin
        for block in self.stream.blocks():
            lines = _lines(block, self.stream)
            for k, image in enumerate(_images(block, self.stream)):
                line = next(lines)
                if block.names is None:
                    name, new = f"{number:0{width}}.png", True
                else:
                    name, new = self._name(_place(block.names[k]))
                data = bytes(encoded(np.ascontiguousarray(image), name, None)) if new else b""
                whole = {FILE_NAME: name, **dict.fromkeys(FIELDS[1:]), **line}
                self.out.append_line(whole, {name: data} if new else {}, split=self.split)
                number += 1
                count(1)

    def _name(self, source: str) -> tuple[str, bool]:
        """Return the target's name of a file, and whether the file has to be written."""
        if source in self.names:
            return self.names[source], False
        name, number = source, 1
        if not name.lower().endswith(".png"):
            name = f"{source}.png"
            while name in self.taken:
                number += 1
                name = f"{source}-{number}.png"
            self.taken.add(name)
        self.names[source] = name
        return name, True


def _images(block: Block, stream: Stream) -> Iterator[NDArray[np.uint8]]:
    for run in block.runs:
        yield from pictures(stream, run)


def _lines(block: Block, stream: Stream) -> Iterator[dict[str, Any]]:
    """Yield the fields of each record's line except its name."""
    columns = label_columns(block, stream, named=False)
    for k in range(len(block)):
        line = dict(block.facts[k]) if block.facts is not None else {}
        for key in all_files({FILE_NAME: "", **line}):  # their files are not copied
            line.pop(key, None)
        line |= {name: column[k] for name, column in columns.items() if column[k] is not None}
        yield line
