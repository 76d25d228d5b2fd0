"""Archives as COCO's JSON files: instances, and panoptic segments with their PNG files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mapix.drawing.png_file import png
from mapix.errors import FormatError, LimitError
from mapix.iid.archive import Archive
from mapix.iid.coco_reading import CONTENT, CROWD, number_of
from mapix.iid.opening import open_path
from mapix.source import read_small
from mapix.store import NewDirectory, NewWhole

__all__ = ["to_coco", "to_panoptic"]

BLOCK_SEGMENTS = 4096  # that are held at once
MOST_CONTENT_NBYTES = 64 << 20
NO_GROUP = "segment"  # category of segments that are in no group
Progress = Callable[[int, int], object]
Archives = Archive | str | os.PathLike[str] | Sequence[Any]


class _Set:
    """Archives, one for each image, and what a COCO file holds besides them."""

    def __init__(self, archives: Archives) -> None:
        self.content: dict[str, Any] = {}
        self._listed: list[Any]
        if isinstance(archives, Archive):
            self._listed = [archives]
        elif isinstance(archives, str | os.PathLike):
            path = os.fspath(archives)
            self._listed = self._of_directory(path) if os.path.isdir(path) else [path]
        else:
            self._listed = list(archives)
        for one in self._listed:
            if not isinstance(one, Archive | str | os.PathLike):
                raise TypeError(f"archives or their paths expected, got {type(one).__name__}")

    def _of_directory(self, path: str) -> list[str]:
        names = sorted(name for name in os.listdir(path) if name.endswith(".iid"))
        content = os.path.join(path, CONTENT)
        if os.path.exists(content):
            raw = read_small(content, MOST_CONTENT_NBYTES)
            try:
                found = json.loads(raw)
                listed, self.content = found["archives"], found["coco"]
            except (ValueError, RecursionError, TypeError, KeyError) as e:
                raise FormatError(content, "coco", f"archives and coco expected: {e!r}") from e
            if not isinstance(listed, list) or not isinstance(self.content, dict):
                raise FormatError(content, "coco", "a list of archives, and an object expected")
            order = {name: k for k, name in enumerate(map(str, listed))}
            names.sort(key=lambda name: order.get(name, len(order)))
        if not names:
            raise FormatError(path, "iid", "a directory of archives expected, it has no .iid file")
        return [os.path.join(path, name) for name in names]

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[Archive]:
        """Open one archive after the other."""
        for one in self._listed:
            if isinstance(one, Archive):
                yield one
            else:
                with open_path(one) as archive:
                    yield archive


class _Plan:
    """Ids of images and categories, which need a scan of the names before anything is written."""

    def __init__(self, archives: _Set, categories: Sequence[str] | None) -> None:
        self.archives = archives
        self.images: list[dict[str, Any]] = []
        self.categories: list[dict[str, Any]] = []
        self._only = None if categories is None else list(categories)
        known = archives.content.get("categories")
        for category in known if isinstance(known, list) else []:
            self._know(category)
        self._ids: set[int | str] = set()
        self._used: set[int | str] = set()
        self._ungrouped = False
        for archive in archives:
            self._scan(archive)
        self._by_name = self._named()
        self._next = max((i for i in self._ids if isinstance(i, int)), default=0) + 1

    def _know(self, category: Any) -> None:
        if not isinstance(category, dict) or not isinstance(category.get("id"), int | str):
            return
        if all(category["id"] != other["id"] for other in self.categories):
            self.categories.append(category)

    def _scan(self, archive: Archive) -> None:
        coco = _coco(archive)
        for category in coco.get("categories", ()):
            self._know(category)
        names = {str(c.get("name", c["id"])) for c in self.categories}
        for group in archive.groups if self._only is None else self._only:
            if group != CROWD and group not in names:
                self._add(group)
        if not self._ungrouped and len(archive):
            grouped = [archive.groups[g].keys for g in archive.groups if g != CROWD]
            if self._only is not None:
                grouped = [archive.groups[g].keys for g in self._only if g in archive.groups]
            every = np.unique(np.concatenate([np.empty(0, np.uint32), *grouped]))
            kept = coco.get("annotations", {})
            if len(every) < len(archive) and not all(
                "category_id" in kept.get(_text(archive.name(int(key))[1]), {}).get("without", ())
                for key in np.setdiff1d(archive.keys, every)
            ):
                self._ungrouped = True
                if NO_GROUP not in names:
                    self._add(NO_GROUP)
        image = archive.meta.get("image")
        image = dict(image) if isinstance(image, Mapping) else {}
        h, w = archive.shape
        stem = os.path.splitext(os.path.basename(archive.path))[0]
        found = {"id": len(self.images) + 1, "file_name": stem, **image, "height": h, "width": w}
        if any(found["id"] == other["id"] for other in self.images[-1:]) or not isinstance(
            found["id"], int | str
        ):
            found["id"] = len(self.images) + 1
        self.images.append(found)
        kept = coco.get("annotations", {})
        for _, iid in archive.names():
            number = _number(kept, _text(iid))
            if number is not None:
                self._ids.add(number)

    def _add(self, name: str) -> None:
        numbers = [c["id"] for c in self.categories if isinstance(c["id"], int)]
        self.categories.append({"id": max(numbers, default=0) + 1, "name": name})

    def _named(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for category in self.categories:
            found.setdefault(str(category.get("name", category["id"])), category["id"])
        return found

    def distinct_images(self) -> None:
        """Give images new ids, from 1 on, where several have the same."""
        ids = [image["id"] for image in self.images]
        if len(set(ids)) < len(ids):
            for k, image in enumerate(self.images):
                image["id"] = k + 1

    def category_of(self, groups: Sequence[str]) -> tuple[str | None, Any]:
        """Return name and id of the category of a segment in some groups."""
        for name in self._only if self._only is not None else groups:
            if name != CROWD and name in groups and name in self._by_name:
                return name, self._by_name[name]
        return None, self._by_name.get(NO_GROUP)

    def id_of(self, kept: Mapping[str, Any], iid: str) -> int | str:
        """Return the id of a segment: its own, or a new one."""
        number = _number(kept, iid)
        if number is None or number in self._used:
            number, self._next = self._next, self._next + 1
        self._used.add(number)
        return number


def _coco(archive: Archive) -> dict[str, Any]:
    """Return what ``from_coco`` wrote into the metadata, as far as it has the right types."""
    coco = archive.meta.get("coco")
    if not isinstance(coco, dict):
        return {}
    categories, annotations = coco.get("categories"), coco.get("annotations")
    return {
        "categories": categories if isinstance(categories, list) else [],
        "annotations": {k: v for k, v in annotations.items() if isinstance(v, dict)}
        if isinstance(annotations, dict)
        else {},
    }


def _text(iid: bytes) -> str:
    return iid.decode("utf-8", "backslashreplace")


def _number(kept: Mapping[str, Any], iid: str) -> int | str | None:
    """Return the id that an annotation had, or that its name is."""
    stated = kept.get(iid, {}).get("id")
    if isinstance(stated, int | str) and not isinstance(stated, bool):
        return stated
    return number_of(iid)


def to_coco(
    archives: Archives,
    path: str | os.PathLike[str] | None = None,
    *,
    segmentation: Literal["rle", "counts", "polygons"] = "rle",
    categories: Sequence[str] | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Write archives, each of one image, as a COCO file.

    Parameters
    ----------
    archives : Archive, path, or a sequence of them
        A path may be a directory of archives, as ``from_coco`` writes it.
    path : str or os.PathLike, optional
        The JSON file; without it the content is returned.
    segmentation : {"rle", "counts", "polygons"}
        Masks as compressed run lengths, or as lists of numbers; or outlines along the sides of the
        pixels.  pycocotools fills these to exactly the mask.  A segment with a hole, which
        polygons of COCO cannot have, or with more than 256 Ki sides is written as run lengths.
    categories : sequence of str, optional
        The groups that are categories, the most important first.  By default all but ``iscrowd``.
        A segment is of the first of its groups; if it is in others, ``groups`` lists them all.  A
        segment in none has the category ``segment``.
    replace : bool
        Whether to replace a file at ``path``.
    progress : callable, optional
        ``progress(images_done, images_total)``.

    Returns
    -------
    dict or None
        The content, without ``path``.

    Raises
    ------
    ValueError
        ``segmentation`` is another word.
    FormatError
        A directory has no archives.
    FileExistsError
        ``path`` exists.

    Notes
    -----
    Ids are those of the COCO file that ``from_coco`` read, or the segment's name if that is a
    number; otherwise they are new.  Boxes and areas are those of the pixels unless that file
    stated others.  Memory: a number for each segment, and 4096 segments.
    """
    if segmentation not in ("rle", "counts", "polygons"):
        raise ValueError(f"segmentation must be rle, counts or polygons, got {segmentation!r}")
    given = _Set(archives)
    plan = _Plan(given, categories)
    plan.distinct_images()

    def annotations() -> Iterator[dict[str, Any]]:
        for k, (archive, image) in enumerate(zip(given, plan.images, strict=True)):
            yield from _annotations(archive, image["id"], plan, segmentation)
            if progress is not None:
                progress(k + 1, len(given))

    top = {k: v for k, v in given.content.items() if k != "categories"}
    if path is None:
        return {
            **top,
            "images": plan.images,
            "annotations": list(annotations()),
            "categories": plan.categories,
        }
    with NewWhole(path, replace=replace) as out:
        for piece in _pieces(top, plan.images, annotations(), plan.categories):
            out.write(piece.encode())
    return None


def _pieces(
    top: Mapping[str, Any], images: Any, annotations: Any, categories: Any
) -> Iterator[str]:
    """Yield the text of a file."""
    yield "{"
    for key, value in top.items():
        yield f"{json.dumps(key)}: {json.dumps(value)},\n"
    arrays = {"images": images, "annotations": annotations, "categories": categories}
    for k, (key, items) in enumerate(arrays.items()):
        yield (",\n" if k else "") + json.dumps(key) + ": ["
        for n, item in enumerate(items):
            yield (",\n" if n else "\n") + json.dumps(item)
        yield "]"
    yield "}\n"


def _annotations(
    archive: Archive, image_id: Any, plan: _Plan, segmentation: str
) -> Iterator[dict[str, Any]]:
    kept = _coco(archive).get("annotations", {})
    size = archive.shape
    for at in range(0, len(archive), BLOCK_SEGMENTS):
        keys = archive.keys[at : at + BLOCK_SEGMENTS]
        table = archive.table(keys)
        areas = archive.counts(keys).tolist()
        masks = archive.coco_rle(keys, size, compressed=segmentation != "counts")
        boxes = archive.bboxes.take(keys, axis=0).tolist()
        for k, key in enumerate(keys.tolist()):
            iid, groups = _text(table["iid"][k]), list(table["groups"][k])
            more = dict(kept.get(iid, {}))
            lacks = more.pop("without", ())
            name, category = plan.category_of(groups)
            minr, minc, maxr, maxc = boxes[k]
            mask: Any = masks[k]
            if segmentation == "polygons" and areas[k]:
                mask = _polygons(archive, key) or mask
            found = {
                "id": plan.id_of(kept, iid),
                "image_id": image_id,
                "category_id": category,
                "segmentation": mask if areas[k] else [],
                "area": areas[k],
                "bbox": [minc, minr, maxc - minc, maxr - minr],
                "iscrowd": int(CROWD in groups),
            }
            others = [group for group in groups if group not in (name, CROWD)]
            if others:
                found["groups"] = groups
            number = found["id"]
            found = {**found, **more, "id": number, "image_id": image_id}
            yield {key: value for key, value in found.items() if key not in lacks}


def _polygons(archive: Archive, key: int) -> list[list[float]] | None:
    """Return the outlines of a segment; None if it has a hole, or too many sides."""
    try:
        outlines = archive[key].polygon()
    except LimitError:
        return None
    if any(signed_area(outline) < 0 for outline in outlines):
        return None
    return [outline.reshape(-1).astype(float).tolist() for outline in outlines]


def signed_area(ring: NDArray[Any]) -> float:
    """Return the area of a ring (n, 2) of x, y; below 0 if it runs counterclockwise (y down)."""
    x, y = ring.astype(np.int64).T
    ahead_x, ahead_y = (np.concatenate((side[1:], side[:1])) for side in (x, y))
    return float(x @ ahead_y - y @ ahead_x) / 2


# --- panoptic files -------------------------------------------------------------------------------


def to_panoptic(
    archives: Archives,
    path: str | os.PathLike[str],
    *,
    categories: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> int:
    """Write archives, each of one image, as a panoptic COCO file and its PNG files.

    Parameters
    ----------
    archives, categories, progress
        As for ``to_coco``.
    path : str or os.PathLike
        A new directory, of any name NAME: it gets ``NAME.json`` and the folder ``NAME`` with a PNG
        file for each image.  A pixel of segment number n is red + 256 * green + 65536 * blue = n.

    Returns
    -------
    int
        Pixels of segments that others cover.  Where segments overlap, the highest key counts;
        boxes and areas are those of the visible pixels, and hidden segments are left out.

    Raises
    ------
    LimitError
        An archive has more than 16,777,215 segments.
    """
    given = _Set(archives)
    plan = _Plan(given, categories)
    plan.distinct_images()
    name = os.path.basename(os.path.abspath(os.fspath(path)))
    found, lost = [], 0
    with NewDirectory(path) as out:
        for k, (archive, image) in enumerate(zip(given, plan.images, strict=True)):
            if len(archive) >= 1 << 24:
                raise LimitError(f"{archive.path}: {len(archive)} segments, RGB holds {1 << 24}")
            labels = archive.paint(background=-1) + 1
            file = f"{k:06d}.png"
            rgb = np.stack([labels & 255, labels >> 8 & 255, labels >> 16], axis=2)
            picture = out.file(f"{name}/{file}")
            picture.write(png(rgb.astype(np.uint8)) if labels.size else b"")
            picture.finish()
            infos, hidden = _infos(archive, labels, plan)
            lost += hidden
            found.append({"image_id": image["id"], "file_name": file, "segments_info": infos})
            if progress is not None:
                progress(k + 1, len(given))
        top = {k: v for k, v in given.content.items() if k != "categories"}
        content = out.file(f"{name}.json")
        for piece in _pieces(top, plan.images, found, plan.categories):
            content.write(piece.encode())
    return lost


def _infos(
    archive: Archive, labels: NDArray[np.int32], plan: _Plan
) -> tuple[list[dict[str, Any]], int]:
    """Return ``segments_info`` of an image, and how many pixels are hidden."""
    from mapix.iid.label_maps import label_boxes

    boxes = label_boxes(labels)
    areas = np.bincount(labels.reshape(-1), minlength=len(archive) + 1)
    keys = np.array([number - 1 for number in boxes], np.uint32)
    table, kept = archive.table(keys), _coco(archive).get("annotations", {})
    found = []
    for k, (number, (minr, minc, maxr, maxc)) in enumerate(boxes.items()):
        mine = table["groups"][k]
        category = plan.category_of(list(mine))[1]
        found.append(
            {
                "id": number,
                "category_id": kept.get(_text(table["iid"][k]), {}).get("category_id", category),
                "area": int(areas[number]),
                "bbox": [minc, minr, maxc - minc, maxr - minr],
                "iscrowd": int(CROWD in mine),
            }
        )
    hidden = int(archive.counts(archive.keys).sum(dtype=np.int64)) - int(areas[1:].sum())
    return found, hidden
