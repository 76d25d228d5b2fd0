"""Find the pictures in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mapix.errors import LimitError
from mapix.source import Entry, is_listed, is_url, scan

__all__ = ["IMAGES", "LABELS", "has_pictures", "is_picture", "is_yolo", "pictures_in", "subfolders"]

IMAGES, LABELS = "images", "labels"  # YOLO's folders, side by side
PICTURES = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),  # torchvision's
    *(".gif", ".pbm", ".avif", ".jp2"),
)
MOST_DEEP = 32  # folders below each other
MOST_FIRST = 1000  # entries of a folder that are inspected to recognise it


def is_picture(name: str) -> bool:
    """Return whether a name ends as those of pictures do; hidden files are left out."""
    return name.lower().endswith(PICTURES) and not name.startswith(".")


def subfolders(folder: str, *, links: bool = False) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out.

    Links to folders count with ``links=True``.
    """
    with scan(folder) as entries:
        there = [e.name for e in entries if not e.name.startswith(".") and _is_folder(e, links)]
    return sorted(there)


def _is_folder(entry: Entry, links: bool = False) -> bool:
    try:
        return entry.is_dir(follow_symlinks=links)
    except OSError:
        return False


def has_pictures(folder: str, deep: int = 2) -> bool:
    """Return whether there are pictures among the first entries of a folder, or of those in it."""
    below: list[str] = []
    try:
        with scan(folder) as entries:
            for _, entry in zip(range(MOST_FIRST), entries, strict=False):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    below.append(entry.path)
                elif is_picture(entry.name):
                    return True
    except OSError:
        return False
    return deep > 0 and any(has_pictures(path, deep - 1) for path in below[:16])


def pictures_in(folder: str, below: str = "", deep: int = 0) -> Iterator[str]:
    """Yield the names of all pictures in a folder: those of each folder sorted, then those below.

    That is the order of ``sorted(os.walk(folder))``.  Links to folders are not followed.

    Raises
    ------
    LimitError
        Folders are nested more than 32 deep.
    """
    if deep > MOST_DEEP:
        raise LimitError(f"{folder}: folders in it are nested more than {MOST_DEEP} deep")
    names: list[str] = []
    folders: list[str] = []
    with scan(os.path.join(folder, below)) as entries:
        for entry in entries:
            if _is_folder(entry):
                if not entry.name.startswith("."):
                    folders.append(entry.name)
            elif is_picture(entry.name):
                names.append(entry.name)
    front = f"{below}/" if below else ""
    yield from (front + name for name in sorted(names))
    # as text, "a-b" comes before "a/b": the order of the complete paths
    for name in sorted(folders, key=lambda n: n + "/"):
        yield from pictures_in(folder, front + name, deep + 1)


def is_yolo(folder: str) -> bool:
    """Return whether a folder has pictures and boxes side by side, as YOLO reads them."""
    if not is_url(folder):
        return all(os.path.isdir(os.path.join(folder, name)) for name in (IMAGES, LABELS))
    return is_listed(folder) and {IMAGES, LABELS} <= set(subfolders(folder))
