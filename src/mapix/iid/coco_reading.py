"""COCO's JSON files into archives: one archive for each image."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mapix.errors import FormatError, LimitError, UnsupportedError
from mapix.iid.argument_checks import Box
from mapix.iid.label_files import read_labels
from mapix.iid.label_maps import label_boxes
from mapix.iid.layout import JSON_LIMIT, MOST_SIDE
from mapix.iid.writer import Writer, path_of
from mapix.registry import open_dataset
from mapix.rooted import Root
from mapix.store import NewDirectory
from mapix.text import counted

__all__ = ["CONTENT", "CROWD", "FromCoco", "from_coco", "number_of"]

CONTENT = "coco.json"
"""Name of the file beside several archives: what a COCO file holds besides images and annotations.
"""

CROWD = "iscrowd"
"""Name of the group of crowds."""

MOST_NAME = 100  # characters of the name of an archive

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class FromCoco:
    """The result of ``from_coco``.

    Attributes
    ----------
    images, segments : int
        How many archives and segments were written.
    without_mask : int
        Segments without pixels: annotations that have a box and no segmentation.
    """

    images: int
    segments: int
    without_mask: int

    def __str__(self) -> str:
        without = f", {self.without_mask:,} of them without a mask" if self.without_mask else ""
        return f"{counted(self.images, 'image')}, {counted(self.segments, 'segment')}{without}"


def from_coco(
    source: str | os.PathLike[str] | Mapping[str, Any] | Any,
    path: str | os.PathLike[str],
    *,
    masks: str | os.PathLike[str] | None = None,
    attributes: bool = True,
    progress: Progress | None = None,
) -> FromCoco:
    """Write the annotations of a COCO file as archives, one for each image.

    A segment's domain is the name of its picture, its iid the annotation's id.  It is in the group
    of its category, and in ``iscrowd`` if it is a crowd.  The metadata of an archive has ``image``,
    the image as in the file, and ``coco``: its categories, and what annotations state that segments
    do not (boxes and areas that differ from those of the pixels, scores, keypoints, ...).
    Polygons become pixels; ``to_coco`` restores everything else.

    Parameters
    ----------
    source : str, os.PathLike, mapping or dataset
        A COCO file, also a panoptic one; its content; or what ``mapix.open`` returned for it, also
        some of its images.
    path : str or os.PathLike
        ``NAME.iid`` for a file of one image.  Otherwise a new directory: it gets an archive for
        each image, and ``coco.json``, the other values of the file.
    masks : str or os.PathLike, optional
        Of a panoptic file: folder of its PNG files; by default the one beside it of its name.
    attributes : bool
        Whether to write what segments do not hold.
    progress : callable, optional
        ``progress(images_done, images_total)``.

    Returns
    -------
    FromCoco

    Raises
    ------
    FormatError
        A value of the file is wrong; nothing is written.
    ValueError
        ``path`` is one archive, and the file has several images.
    LimitError
        An image has more metadata than an archive may have (16 MiB): pass ``attributes=False``.
    FileExistsError
        ``path`` exists.

    Notes
    -----
    Memory: of a file an index of 40 bytes per annotation, and one image's annotations.
    """
    target = path_of(path)
    with _opened(source) as ds:
        total = FromCoco(0, 0, 0)
        if target.endswith(".iid"):
            if len(ds) != 1:
                raise ValueError(
                    f"{ds.path}: {len(ds)} images do not go into one archive; choose one, as in "
                    "mapix.open(...)[:1], or give the path of a new directory"
                )
            return _written(ds, ds[0], target, masks, attributes, total)
        with NewDirectory(target) as out:
            names: dict[str, None] = {}
            for k, record in enumerate(ds):
                name = _name(record, names)
                names[name] = None
                one = os.path.join(out.stage, name)
                total = _written(ds, record, one, masks, attributes, total)
                if progress is not None:
                    progress(k + 1, len(ds))
            layout = ds.file.layout
            content = {key: layout.other(key) for key in layout.others}
            out.adopt()  # the archives
            text = json.dumps({"archives": list(names), "coco": content})
            out.file(CONTENT).write(text.encode())
        return total


@contextmanager
def _opened(source: Any) -> Iterator[Any]:
    """Open a COCO file, the content of one, or leave a dataset as it is."""
    if isinstance(source, Mapping):
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as f:
            json.dump(source, f)
            f.flush()
            with open_dataset(f.name, format="coco") as ds:
                yield ds
    elif isinstance(source, str | os.PathLike):
        with open_dataset(source, format="coco") as ds:
            yield ds
    else:
        if getattr(source, "FAMILY", "") != "coco" or source.RECORDS != "images":
            raise TypeError(
                f"a COCO file, its content, or a dataset of its images expected, got {source!r}"
            )
        yield source


def _name(record: Any, taken: Mapping[str, None]) -> str:
    """Return the name of an image's archive, which no other has."""
    stem = os.path.splitext(str(record.metadata.get("file_name") or record.id))[0]
    safe = "".join(c if c.isalnum() or c in "-_. " else "_" for c in stem)[-MOST_NAME:].strip(". ")
    name = safe = safe or "image"
    k = 2
    while f"{name}.iid" in taken:
        name, k = f"{safe}-{k}", k + 1
    return f"{name}.iid"


def _written(
    ds: Any, record: Any, path: str, masks: Any, attributes: bool, before: FromCoco
) -> FromCoco:
    """Write one archive; return the counts so far."""
    h, w = size = record.size
    if max(size) > MOST_SIDE:
        raise LimitError(f"{ds.path}: an image of {h} x {w}: a side has at most {MOST_SIDE} pixels")
    image = {**record.metadata, "height": h, "width": w}
    annotations = record.annotations
    domain = str(record.metadata.get("file_name", ""))
    known = _Categories(ds.categories)
    kept: dict[str, dict[str, Any]] = {}
    nmissing = 0
    with Writer(path) as out:
        for one in annotations:
            if "segments_info" in one.metadata:
                _panoptic(ds, one, out, domain, known, kept, masks)
                continue
            iid = str(one.index if one.id is None else one.id)
            groups = known.groups(one.category_id, one.iscrowd)
            stated = one.segmentation
            mask, box = one.segment(size=size)
            if not mask.size:
                nmissing += not stated
                box = _box_of(one.bbox, size)
                npixels = 0
                out.add(domain, iid, bits=b"", bbox=box, area=0, groups=groups)
            else:
                npixels = int(np.count_nonzero(mask))
                out.add(domain, iid, mask, at=box[:2], groups=groups)
            rest = _rest(one.metadata, iid, npixels, box, known, groups)
            if "segmentation" not in one.metadata:
                rest["without"] = [*rest.get("without", ()), "segmentation"]
            elif not mask.size:
                rest["segmentation"] = stated
            if rest:
                kept[iid] = rest
        meta = {"image": image, "coco": {"categories": known.used}}
        if attributes and kept:
            meta["coco"]["annotations"] = kept
        try:
            out.meta = meta
        except LimitError as e:
            what = f"{ds.path}: image {record.id}: {e}"
            raise LimitError(f"{what}; attributes=False leaves most of it out") from e
        except ValueError as e:  # infinity, or NaN, which an archive does not hold
            raise record._error(f"an archive cannot hold its metadata: {e}") from e
        n = len(out)
    return FromCoco(before.images + 1, before.segments + n, before.without_mask + nmissing)


class _Categories:
    """The categories of a file, and those that an image uses."""

    def __init__(self, categories: list[dict[str, Any]]) -> None:
        self.by_id = {c["id"]: c for c in categories if isinstance(c.get("id"), int | str)}
        self.used: list[dict[str, Any]] = []
        self._ids: dict[str, Any] = {}
        for number, category in self.by_id.items():
            self._ids.setdefault(str(category.get("name", number)), number)

    def groups(self, number: Any, crowd: bool) -> list[str]:
        """Return the groups of a segment of a category."""
        found = []
        if isinstance(number, int | str):
            category = self.by_id.get(number)
            if category is not None and category not in self.used:
                self.used.append(category)
            found.append(str(number if category is None else category.get("name", number)))
        return [*found, *([CROWD] if crowd else [])]

    def id_of(self, groups: list[str]) -> Any:
        """Return the id that ``to_coco`` finds for the first group."""
        return self._ids.get(groups[0]) if groups else None


def number_of(iid: str) -> int | None:
    """Return the id of an annotation that a segment's name is; None if it is another text."""
    plain = iid.isascii() and iid.isdecimal() and len(iid) < 19 and str(int(iid)) == iid
    return int(iid) if plain else None


def _rest(
    metadata: Mapping[str, Any],
    iid: str,
    area: int,
    box: Box,
    known: _Categories,
    groups: list[str],
) -> dict[str, Any]:
    """Return what an annotation states and its segment does not."""
    minr, minc, maxr, maxc = box
    found: dict[str, Any] = {
        "id": number_of(iid),
        "category_id": known.id_of(groups),
        "area": area,
        "bbox": [minc, minr, maxc - minc, maxr - minr],
        "iscrowd": int(CROWD in groups),
    }
    given = {
        key: value
        for key, value in metadata.items()
        if key not in ("segmentation", "image_id", "segments_info", "groups")
        and not (key in found and found[key] == value and type(value) is not bool)
    }
    lacks = [key for key in ("category_id", "area", "bbox", "iscrowd") if key not in metadata]
    return {**given, "without": lacks} if lacks else given


def _box_of(bbox: list[float] | None, size: tuple[int, int]) -> Box:
    """Return the pixels that a box touches, within the image; of None nothing."""
    if bbox is None or not all(map(math.isfinite, bbox)):
        return 0, 0, 0, 0
    h, w = size
    x, y, width, height = bbox
    minr, minc = int(min(max(y, 0), h)), int(min(max(x, 0), w))
    maxr = math.ceil(min(max(y + height, minr), h))
    maxc = math.ceil(min(max(x + width, minc), w))
    return minr, minc, maxr, maxc


# --- panoptic files -------------------------------------------------------------------------------


def _panoptic(
    ds: Any,
    one: Any,
    out: Writer,
    domain: str,
    known: _Categories,
    kept: dict[str, dict[str, Any]],
    masks: Any,
) -> None:
    """Write the segments of a panoptic annotation; kept values are added to ``kept``."""
    folder = os.path.splitext(ds.source.full_path)[0] if masks is None else os.fspath(masks)
    name, listed = one.metadata.get("file_name"), one.metadata["segments_info"]
    if not isinstance(name, str) or not isinstance(listed, list):
        raise one._error("file_name and segments_info: text and a list expected")
    if not os.path.isdir(folder):
        raise UnsupportedError(
            f"{ds.path}: the PNG files of its segments are not in {folder}; pass masks=FOLDER"
        )
    with tempfile.NamedTemporaryFile(suffix=".png") as copy:  # Root checks the name
        copy.write(Root(folder).read(name, JSON_LIMIT * 16))
        copy.flush()
        try:
            labels = read_labels(copy.name, rgb=True)
        except FormatError as e:
            raise FormatError(os.path.join(folder, name), "png", e.reason) from e
    h, w = one.parent.size
    if labels.shape != (h, w):
        raise one._error(f"{name} has {labels.shape[0]} x {labels.shape[1]} pixels, not {h} x {w}")
    segments: dict[int, dict[str, Any]] = {}
    for info in listed:
        if not isinstance(info, dict) or type(info.get("id")) is not int:
            raise one._error("segments_info: objects with an id expected")
        segments[info["id"]] = info
    boxes = label_boxes(labels)
    for number, box in boxes.items():
        info = segments.get(number)
        if info is None:
            raise one._error(f"{name} has pixels of segment {number}, which is not listed")
        minr, minc, maxr, maxc = box
        mask = labels[minr:maxr, minc:maxc] == number
        groups = known.groups(info.get("category_id"), bool(info.get("iscrowd", 0)))
        out.add(domain, str(number), mask, at=box[:2], groups=groups)
        rest = _rest(info, str(number), int(np.count_nonzero(mask)), box, known, groups)
        if rest:
            kept[str(number)] = rest
    gone = segments.keys() - boxes.keys()
    if gone:
        raise one._error(f"segment {min(gone)} has no pixels in {name}")
