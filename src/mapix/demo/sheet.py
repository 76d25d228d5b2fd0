"""The contact sheet: records of both datasets in colour, with their labels.  Needs Pillow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.colour import palette
from mapix.demo.data import HEIGHTS
from mapix.demo.sound import BANDS, HEADS
from mapix.drawing import thumbnail

__all__ = ["SIZE", "captions", "draw_sheet", "picture"]

COLUMNS, ROWS, MIXED_ROWS = 8, 4, 2
SCALE, MARGIN, GAP, LINE = 3, 60, 24, 24  # pixels; SCALE for one of a record
SIDE, HIGH = SCALE * BANDS, SCALE * max(HEIGHTS)
CELL, MIXED_CELL, TITLE, HEADING = SIDE + 78, HIGH + 102, 130, 66
WIDTH = 2 * MARGIN + COLUMNS * (SIDE + GAP) - GAP
SIZE = (WIDTH, TITLE + 2 * HEADING + ROWS * CELL + MIXED_ROWS * MIXED_CELL + MARGIN // 2)
GROUND, PALE, SOFT, ACCENT = (12, 9, 22), (244, 236, 220), (172, 160, 186), (246, 160, 74)
CANDIDATES = 1024  # records among which those of the sheet are chosen
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def captions(record: Any) -> tuple[str, str, str]:
    """Return a record's labels as text: note; velocity and decay time; height, width, channels."""
    note, velocity, decay = (record.values.get(head.name) for head in HEADS)
    # codes are truncated, so that a whole number comes back a little too small
    number = 0 if note is None else round(note)
    name = f"{NOTES[number % 12]}{number // 12 - 1}, {number}" if number else "no note"
    loud = "no vel" if velocity is None else f"vel {round(velocity)}"
    fall = "no decay" if decay is None else f"{10**decay * 1000:.0f} ms"
    return name, f"{loud} · {fall}", " x ".join(map(str, record.shape))


def picture(record: Any, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a record in colour, low frequencies at the bottom: the mean of its channels."""
    h, w, _ = record.shape
    level = record.image.mean(axis=2)[::-1]
    return thumbnail(level, (h * SCALE, w * SCALE), colours, (0, 255))


def _grid(ds: Any) -> Iterator[Any]:
    """Yield records of the grid: the note rises to the right, the decay time downwards."""
    ds = ds[:CANDIDATES].sort_by("log10_decay_time")
    for row in range(ROWS):
        part = ds[len(ds) * row // ROWS : len(ds) * (row + 1) // ROWS].sort_by("note_number")
        yield from part[np.linspace(0, max(len(part) - 1, 0), min(COLUMNS, len(part))).astype(int)]


def draw_sheet(uniform: Any, mixed: Any, path: str | os.PathLike[str]) -> None:
    """Draw the contact sheet of what ``mapix.demo.data`` makes as a PNG of ``SIZE``."""
    from PIL import Image, ImageDraw, ImageFont

    canvas, colours = Image.new("RGB", SIZE, GROUND), palette()
    draw = ImageDraw.Draw(canvas)

    def write(x: int, y: int, text: str, size: int, colour: Any) -> None:
        draw.text((x, y), text, font=ImageFont.load_default(size), fill=colour, anchor="ls")

    def heading(y: int, title: str, text: str) -> None:
        draw.line((MARGIN, y, WIDTH - MARGIN - 1, y), fill=(70, 60, 92))
        write(MARGIN, y + 36, title, 22, ACCENT)
        write(MARGIN + 170, y + 36, text, 18, SOFT)

    def show(x: int, base: int, record: Any, lines: int) -> None:
        drawn = Image.fromarray(picture(record, colours))
        canvas.paste(drawn, (x, base - drawn.height))
        styles = ((22, PALE), (18, SOFT), (18, ACCENT))[:lines]
        for k, (text, style) in enumerate(zip(captions(record), styles, strict=False)):
            write(x, base + (k + 1) * LINE + 4, text, *style)

    write(MARGIN, 76, "What a small synthesiser sounds like", 44, PALE)
    text = "spectrograms, 55 Hz (bottom) to 14 kHz, time to the right; below: note, velocity, decay"
    write(MARGIN, 108, text, 18, SOFT)
    heading(TITLE, "One size", f"{len(uniform):,} records of 64 x 64 x 1, one second each")
    y = TITLE + HEADING
    for k, record in enumerate(_grid(uniform)):
        base = y + k // COLUMNS * CELL + SIDE
        show(MARGIN + k % COLUMNS * (SIDE + GAP), base, record, 2)
    y += ROWS * CELL
    heading(y, "Mixed sizes", f"{len(mixed):,} records: height x width x channels")
    ends = [MARGIN] * MIXED_ROWS
    for i in np.flatnonzero(mixed.shapes[:CANDIDATES, 1] > 45).tolist():
        wide = mixed[i].shape[1] * SCALE
        for row, x in enumerate(ends):  # the first row that is free for the record
            if x + wide <= WIDTH - MARGIN:
                show(x, y + HEADING + row * MIXED_CELL + HIGH, mixed[i], 3)
                ends[row] = x + wide + GAP
                break
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    canvas.save(path, "PNG")
