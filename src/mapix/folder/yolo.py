"""YOLO's folders: ``images`` and ``labels`` side by side, boxes in a text file for each picture."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError, LimitError
from mapix.folder.files import Files
from mapix.folder.layout import NAME
from mapix.folder.listing import FolderSource, ListedFile, Rows
from mapix.folder.pictures import IMAGES, LABELS, pictures_in
from mapix.folder.record import Record
from mapix.folder.tables import NUMBER

if TYPE_CHECKING:
    from mapix.source import Fingerprint

__all__ = ["Yolo", "class_names"]

YAML, CLASSES = ("data.yaml", "data.yml", "dataset.yaml"), "classes.txt"
MOST_LABELS_NBYTES = 1 << 24  # of one text file
MOST_CLASSES = 1 << 16


class Yolo(ListedFile):
    """Pictures in ``images``, and their boxes in ``labels``.

    A line of ``labels/x.txt`` is the number of a class, and the centre, width and height of a box
    as shares of the picture's; or the corners of a polygon, of which the box is taken.  Boxes are
    those of the picture as viewers show it, turned by its EXIF orientation.
    """

    def _open(self, expect: Fingerprint | None) -> None:
        folder, top = self.place.path, self.place.directory
        self.files = Files(folder, self.place.root)
        # a split is a folder in ``images``, or has ``images`` of its own
        below = f"{IMAGES}/{self.place.split}" if top == folder else IMAGES
        found = [f"{below}/{name}" for name in pictures_in(os.path.join(folder, below))]
        if not found:
            raise FormatError(folder, NAME, f"there are no pictures in {below}")
        self.classes = class_names(folder) or (() if top is None else class_names(top))
        self._names = found
        self.source: Any = FolderSource(folder, found, expect)
        self.lines: Any = Rows(self, len(found))

    def place_of(self, row: int) -> str:
        """Return the front of errors about a record."""
        return f"{self._names[row]}: "

    def metadata(self, row: int) -> dict[str, Any]:
        """Return the name of a picture and its boxes, x, y, width, height in pixels."""
        _ = self.source.mapping  # ClosedError
        name = self._names[row]
        line: dict[str, Any] = {"file_name": name}
        boxes = self._boxes(row, name)
        rows, categories = [], []
        if boxes:
            h, w, _ = Record(self, row, line).shape
            for number, (x0, y0, x1, y1) in boxes:
                rows.append([x0 * w, y0 * h, (x1 - x0) * w, (y1 - y0) * h])
                known = number < len(self.classes)
                categories.append(self.classes[number] if known else number)
        return {**line, "objects": {"bbox": rows, "categories": categories}}

    def _boxes(self, row: int, name: str) -> list[tuple[int, tuple[float, ...]]]:
        """Return class, and left, top, right, bottom as shares, of the boxes of a picture."""
        labels = f"{LABELS}{os.path.splitext(name)[0].removeprefix(IMAGES)}.txt"
        try:
            data = self.files.by_name(labels, lambda f, n: f.read(n, MOST_LABELS_NBYTES))
        except FileNotFoundError:
            return []  # a picture of the background
        found = []
        for number, raw in enumerate(data.split(b"\n"), 1):
            words = raw.decode("ascii", "replace").split()
            if not words:
                continue
            try:
                found.append(_box(words))
            except ValueError as e:
                raise FormatError(
                    os.path.join(self.path, labels), NAME, f"line {number}: {e}", record=row
                ) from e
        return found


def _box(words: list[str]) -> tuple[int, tuple[float, ...]]:
    """Return class and corners of a line of a text file.

    Raises
    ------
    ValueError
        It is not a number and a box, or a polygon.
    """
    if not words[0].isdigit() or len(words[0]) > 9:
        raise ValueError(f"the number of a class expected, got {words[0][:40]!r}")
    if any(not NUMBER.fullmatch(word) for word in words[1:]):
        bad = next(word for word in words[1:] if not NUMBER.fullmatch(word))
        raise ValueError(f"a number expected, got {bad[:40]!r}")
    numbers = [float(word) for word in words[1:]]
    if len(numbers) == 4:
        x, y, w, h = numbers
        corners = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[::2], numbers[1::2]
        corners = min(xs), min(ys), max(xs), max(ys)
    else:
        raise ValueError(f"a class and 4 numbers, or a polygon, expected, got {len(words)} values")
    return int(words[0]), corners


# --- names of classes -----------------------------------------------------------------------------


def class_names(folder: str) -> tuple[str, ...]:
    """Return the names of the classes from ``data.yaml`` or ``classes.txt``; empty without them.

    Raises
    ------
    FormatError
        The names are neither a list nor numbers with names.
    """
    files = Files(folder)
    try:
        for name in (*YAML, CLASSES):
            try:
                data = files.read(name, MOST_LABELS_NBYTES)
            except FileNotFoundError:
                continue
            path = os.path.join(folder, name)
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as e:
                raise FormatError(path, NAME, f"not UTF-8: {e.reason}", at=e.start) from e
            if name == CLASSES:
                return tuple(line.strip() for line in text.splitlines() if line.strip())
            return _names_of_yaml(path, text)
    finally:
        files.close()
    return ()


ITEM = re.compile(r"\s*-\s+(.*)")
PAIR = re.compile(r"\s*(\d+)\s*:\s+(.*)")


def _names_of_yaml(path: str, text: str) -> tuple[str, ...]:
    """Return ``names`` of a YAML file: a list, or numbers with names, of one line or of several."""
    lines = text.splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("names:")]
    if not starts:
        return ()
    at, line = starts[0], lines[starts[0]]
    inline = _plain(line.removeprefix("names:"))
    found: dict[int, str] = {}

    def wrong(number: int) -> FormatError:
        reason = f"line {number}: a list of names, or numbers with names, expected"
        return FormatError(path, NAME, f"{reason}, got {lines[number - 1].strip()[:60]!r}")

    if inline:
        inside, kind = inline[1:-1], inline[:1] + inline[-1:]
        if kind not in ("[]", "{}") or "\n" in inside:
            raise wrong(at + 1)
        for k, word in enumerate(_split(inside)):
            pair = PAIR.fullmatch(word) if kind == "{}" else None
            if kind == "{}" and pair is None:
                raise wrong(at + 1)
            found[k if pair is None else int(pair[1])] = _plain(word if pair is None else pair[2])
    else:
        for number, below in enumerate(lines[at + 1 :], at + 2):
            if not _plain(below):
                continue
            item, pair = ITEM.fullmatch(below), PAIR.fullmatch(below)
            if item is not None:
                found[len(found)] = _plain(item[1])
            elif pair is not None and below[:1].isspace():
                found[int(pair[1])] = _plain(pair[2])
            elif not below[:1].isspace():
                break  # the next key
            else:
                raise wrong(number)
    if found and max(found) >= MOST_CLASSES:
        raise LimitError(f"{path}: class number {max(found)}, more than {MOST_CLASSES} classes")
    return tuple(found.get(k, str(k)) for k in range(max(found, default=-1) + 1))


def _split(text: str) -> list[str]:
    """Return the parts between commas that are not within quotes."""
    return [part for part in re.findall(r"""(?:'[^']*'|"[^"]*"|[^,'"])+""", text) if part.strip()]


def _plain(text: str) -> str:
    """Return a scalar without its quotes and comment."""
    text = text.strip()
    quoted = re.match(r"""'([^']*)'|"([^"\\]*)\"""", text)
    if quoted is not None:
        return quoted[1] if quoted[1] is not None else quoted[2]
    return re.split(r"(?:^|\s)#", text)[0].strip()
