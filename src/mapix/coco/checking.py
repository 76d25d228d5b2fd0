"""Check a COCO file: each finding states the image or annotation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.coco.record import CocoAnnotation, CocoImage
from mapix.errors import FileChangedError, LimitError, MapixError, UnsupportedError
from mapix.pictures.decoding import decoded_header, pillow
from mapix.plans import Map, over
from mapix.report import Report, report_progress

if TYPE_CHECKING:
    from mapix.coco.file import CocoFile
    from mapix.dataset import Dataset, Progress

__all__ = ["check"]

MOST_PROBLEMS = 1000
SLACK = 1.0  # pixels by which a box may exceed its image: boxes of COCO are rounded

Problems = Iterator[str]


def check(
    file: CocoFile,
    nrecords: int,
    tables: Sequence[Dataset[Any]],
    progress: Progress | None,
    map: Map | None,
) -> Report:
    """Return the report of a file, with its images and annotations: see ``CocoImages.verify``."""
    report = Report(file.source.path, nrecords, file.source.nbytes)
    report.checked = ["JSON", "ids", "boxes", "masks"]
    if file.folder is not None:
        try:
            pillow()
            report.checked.append("pictures")
        except UnsupportedError as e:
            report.unchecked.append(str(e))
    total, before, left = sum(len(ds) for ds in tables), 0, 0
    report.problems += _guarded(lambda: _others(file))[:MOST_PROBLEMS]
    for ds in tables:
        shifted = None if progress is None else _shifted(progress, before, total)
        for problems in over(ds, _problems, map=map, progress=shifted):
            room = MOST_PROBLEMS - len(report.problems)
            report.problems += problems[:room]
            left += max(0, len(problems) - room)
        before += len(ds)
    if left:
        report.problems.append(f"{file.source.path}: {left} more problems")
    return report


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)


def _problems(part: Dataset[Any], progress: Progress | None) -> list[str]:
    """Return the problems of images, or of annotations."""
    found = []
    for i, record in enumerate(part):
        check = _image if isinstance(record, CocoImage) else _annotation
        found += _guarded(lambda check=check, record=record: check(record))  # type: ignore[misc]
        report_progress(progress, i + 1, len(part))
    return found


def _guarded(find: Callable[[], Problems]) -> list[str]:
    try:
        return list(find())
    except FileChangedError:
        raise
    except (MapixError, OSError) as e:
        return [str(e)]


def _others(file: CocoFile) -> Problems:
    path = file.source.path
    for key in file.layout.others:
        try:
            file.layout.other(key)
        except MapixError as e:
            yield str(e)
    for name in ("images", "annotations"):
        values, present = file.layout.table(name).ids("id")
        numbers, counts = np.unique(values[present].astype(str), return_counts=True)
        for number in numbers[counts > 1].tolist()[:10]:
            yield f"{path}: several {name} have the id {number}"
        for row in np.flatnonzero(~present).tolist():
            found = file.layout.table(name).parsed(row)
            if "segments_info" not in found:  # panoptic annotations need none
                yield f"{path}: {name[:-1]} {row} has no id"
                break
    ids = [c.get("id") for c in file.categories]
    for number in sorted({str(i) for i in ids if ids.count(i) > 1}):
        yield f"{path}: several categories have the id {number}"


def _image(image: CocoImage) -> Problems:
    stated = image.size
    if image._file.folder is None:
        return
    file = image.encoded()
    try:
        pillow()
    except UnsupportedError:  # the report states it
        return
    found = decoded_header(file).shape[:2]
    if found != stated:
        sizes = f"{found[0]} x {found[1]} pixels, not {stated[0]} x {stated[1]}"
        yield str(image._error(f"{file.name} has {sizes}"))


def _annotation(one: CocoAnnotation) -> Problems:
    h, w = one.parent.size
    for found in (one.metadata, *one.segments):
        number: Any = found.get("category_id")
        if number is not None and number not in one._file.names:
            yield str(one._error(f"there is no category with id {number!r}"))
    box = one.bbox
    if box is not None:
        x, y, width, height = box
        inside = x >= -SLACK and y >= -SLACK and x + width <= w + SLACK and y + height <= h + SLACK
        if not (inside and width >= 0 and height >= 0):
            yield str(one._error(f"bbox {box} does not lie in an image of {h} x {w}"))
    _ = one.area
    try:
        one.segment(size=(h, w))
    except LimitError as e:
        yield str(one._error(str(e)))
