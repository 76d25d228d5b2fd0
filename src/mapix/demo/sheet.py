"""The contact sheet: records of both datasets as pictures, with their labels in physical units.

Needs Pillow, the extra ``mapix[view]``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix import __version__
from mapix.colour import palette
from mapix.demo import sound
from mapix.demo.data import HEIGHTS

if TYPE_CHECKING:
    from mapix.vimh import Dataset, Record

__all__ = ["COLUMNS", "ROWS", "SIZE", "captions", "draw_sheet", "picture"]

COLUMNS, ROWS = 8, 5
SCALE = 3  # pixels of the sheet for one of a record
SIDE = SCALE * sound.BANDS
MARGIN = 60
GAP = 24
TITLE = 140  # height of what stands above the pictures
HEADING = 66  # height of what stands above a group
LINE = 24
SPACE = 0.32  # between words, in heights of the font
CELL = SIDE + 2 * LINE + 30
MIXED_ROWS = 2
MIXED_HIGH = SCALE * max(HEIGHTS)
MIXED_CELL = MIXED_HIGH + 3 * LINE + 30
CANDIDATES = 1024  # records looked through for the two groups
TRIES = 400  # arrangements of mixed sizes tried for a row that fills the width

WIDTH = 2 * MARGIN + COLUMNS * SIDE + (COLUMNS - 1) * GAP
SIZE = (
    WIDTH,
    TITLE + HEADING + ROWS * CELL + HEADING + MIXED_ROWS * MIXED_CELL + MARGIN,
)

GROUND = (12, 9, 22)
PALE = (244, 236, 220)
SOFT = (172, 160, 186)
FAINT = (142, 130, 164)
RULE = (70, 60, 92)
ACCENT = (246, 160, 74)


class _Pen:
    """Text at a baseline, in a few sizes of Pillow's own font, whose spaces are too narrow."""

    def __init__(self, canvas: Any) -> None:
        from PIL import ImageDraw, ImageFont

        self._draw = ImageDraw.Draw(canvas)
        self._fonts = {size: ImageFont.load_default(size=size) for size in (17, 18, 20, 22, 44)}

    def wide(self, text: str, size: int) -> float:
        words = text.split(" ")
        drawn = sum(float(self._draw.textlength(word, font=self._fonts[size])) for word in words)
        return drawn + (len(words) - 1) * size * SPACE

    def write(self, at: tuple[float, float], text: str, size: int, colour: Any) -> float:
        """Write from ``at``, on a baseline; returns where the text ends."""
        x, y = at
        for word in text.split(" "):
            self._draw.text((x, y), word, font=self._fonts[size], fill=colour, anchor="ls")
            x += float(self._draw.textlength(word, font=self._fonts[size])) + size * SPACE
        return x - size * SPACE


def captions(record: Record) -> tuple[str, str, str]:
    """A record's labels in words: note; velocity and decay time; height, width and channels."""
    values = record.values
    note, velocity, decay = (values.get(head.name) for head in sound.HEADS)
    # codes are truncated, so a whole number comes back a little too small
    name = "no note" if note is None else f"{sound.note_name(round(note))}, {round(note)}"
    loud = "no vel" if velocity is None else f"vel {round(velocity)}"
    h, w, c = record.shape
    return name, f"{loud} · {_duration(decay)}", f"{h} x {w} x {c}"


def _duration(log10_seconds: float | None) -> str:
    if log10_seconds is None:
        return "no decay"
    seconds = 10**log10_seconds
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def picture(record: Record, colours: NDArray[np.uint8]) -> Any:
    """A record in colour, low frequencies at the bottom; the mean of its channels."""
    from PIL import Image

    h, w, _ = record.shape
    level = np.rint(record.image.mean(axis=2)).astype(np.uint8)[::-1]
    large = Image.fromarray(np.ascontiguousarray(level)).resize(
        (w * SCALE, h * SCALE), Image.Resampling.BICUBIC
    )
    return Image.fromarray(colours[np.asarray(large)])


def _grid(ds: Dataset) -> list[int]:
    """Records for the grid: the note rises to the right, the decay time downwards."""
    n = min(len(ds), CANDIDATES)
    labels = ds.batch(np.arange(n), labels="normalised").labels
    assert labels is not None  # they were asked for
    free = np.ones(n, bool)
    found: list[int] = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            if not free.any():
                return found
            target = np.array([(column + 0.5) / COLUMNS, (row + 0.5) / ROWS])
            away = np.hypot(*(labels[:, [0, 2]] - target).T)
            found.append(int(np.argmin(np.where(free, away, np.inf))))
            free[found[-1]] = False
    return found


def _lines(ds: Dataset, pen: _Pen, rng: np.random.Generator) -> list[list[int]]:
    """Records of mixed sizes for each row: they about fill the width, and show what differs."""
    n = min(len(ds), CANDIDATES)
    shapes = ds.shapes[:n].tolist()
    complete = (ds.label_counts[:n] == len(sound.HEADS)).tolist()
    usable = [
        i for i in range(n) if all(pen.wide(t, 22) <= SCALE * shapes[i][1] for t in captions(ds[i]))
    ]

    def dull(line: list[int], left: int) -> int:
        heights = {shapes[i][0] for i in line}
        channels = {shapes[i][2] for i in line}
        alike = len(HEIGHTS) - len(heights) + 2 * (len(channels) < 2)
        return left + 30 * alike + 60 * all(complete[i] for i in line)

    lines = []
    for _ in range(MIXED_ROWS):
        best: tuple[float, list[int]] = (np.inf, [])
        for _ in range(TRIES):
            line: list[int] = []
            left = WIDTH - 2 * MARGIN
            for i in rng.permutation(usable)[:24].tolist():
                need = SCALE * shapes[i][1] + (GAP if line else 0)
                if need <= left:
                    line.append(i)
                    left -= need
            if dull(line, left) < best[0]:
                best = dull(line, left), line
        lines.append(best[1])
        usable = [i for i in usable if i not in best[1]]
    return lines


def _caption(pen: _Pen, x: float, y: float, record: Record, *, shape: bool) -> None:
    name, rest, size = captions(record)
    note, _, number = name.partition(", ")
    end = pen.write((x, y + LINE), note, 22, PALE)
    pen.write((end + 9, y + LINE), number, 18, FAINT)
    pen.write((x, y + 2 * LINE + 1), rest, 18, SOFT)
    if shape:
        pen.write((x, y + 3 * LINE + 1), size, 18, ACCENT)


def _heading(pen: _Pen, canvas: Any, y: int, title: str, text: str) -> None:
    canvas.paste(RULE, (MARGIN, y, WIDTH - MARGIN, y + 1))
    end = pen.write((MARGIN, y + 36), title, 22, ACCENT)
    pen.write((end + 16, y + 36), text, 18, SOFT)


def _head(pen: _Pen, canvas: Any, colours: NDArray[np.uint8]) -> None:
    from PIL import Image

    pen.write((MARGIN, 76), "What a small synthesiser sounds like", 44, PALE)
    text = (
        "spectrograms, 55 Hz (bottom) to 14 kHz, time to the right; "
        "under each: note, velocity, decay time"
    )
    pen.write((MARGIN, 112), text, 20, SOFT)
    bar = Image.fromarray(np.broadcast_to(colours, (14, *colours.shape)).copy())
    left = WIDTH - MARGIN - bar.width
    canvas.paste(bar, (left, 62))
    pen.write((left, 100), "spec_min", 17, FAINT)
    pen.write((WIDTH - MARGIN - pen.wide("spec_max", 17), 100), "spec_max", 17, FAINT)


def _one_size(pen: _Pen, canvas: Any, colours: NDArray[np.uint8], y: int, ds: Dataset) -> int:
    """The grid, from ``y`` downwards; returns where it ends."""
    shape = " x ".join(map(str, ds[0].shape))
    _heading(pen, canvas, y, "One size", f"{len(ds):,} records of {shape}, one second each")
    y += HEADING
    for k, i in enumerate(_grid(ds)):
        row, column = divmod(k, COLUMNS)
        x, top = MARGIN + column * (SIDE + GAP), y + row * CELL
        canvas.paste(picture(ds[i], colours), (x, top))
        _caption(pen, x, top + SIDE + 4, ds[i], shape=False)
    return y + ROWS * CELL


def _mixed_sizes(
    pen: _Pen,
    canvas: Any,
    colours: NDArray[np.uint8],
    y: int,
    ds: Dataset,
    rng: np.random.Generator,
) -> None:
    """Rows of pictures that stand on one line, each as large as it is."""
    text = f"{len(ds):,} records at the same scale: height x width x channels; some lack a label"
    _heading(pen, canvas, y, "Mixed sizes", text)
    y += HEADING
    for line in _lines(ds, pen, rng):
        filled = sum(ds[i].shape[1] * SCALE for i in line)
        gap = (WIDTH - 2 * MARGIN - filled) / max(len(line) - 1, 1)
        left = float(MARGIN)
        for i in line:
            h, w, _ = ds[i].shape
            at = round(left), y + MIXED_HIGH - h * SCALE
            canvas.paste(picture(ds[i], colours), at)
            _caption(pen, at[0], y + MIXED_HIGH + 4, ds[i], shape=True)
            left += w * SCALE + min(gap, 3 * GAP)
        y += MIXED_CELL


def draw_sheet(
    uniform: Dataset, mixed: Dataset, path: str | os.PathLike[str], seed: int = 0
) -> tuple[int, int]:
    """Draw the contact sheet as a PNG.

    Parameters
    ----------
    uniform, mixed : mapix.vimh.Dataset
        What ``mapix.demo.data`` has made.
    path : str or os.PathLike
        Where the PNG goes; its folder is made if need be.
    seed : int
        Another seed shows other records of mixed sizes.

    Returns
    -------
    tuple of int
        Width and height of the sheet in pixels.

    Raises
    ------
    ImportError
        Pillow is not installed.
    OSError
        The file cannot be written.
    """
    from PIL import Image

    canvas = Image.new("RGB", SIZE, GROUND)
    pen = _Pen(canvas)
    colours = palette()
    _head(pen, canvas, colours)

    y = _one_size(pen, canvas, colours, TITLE, uniform)
    _mixed_sizes(pen, canvas, colours, y, mixed, np.random.default_rng(seed))
    made = f"mapix {__version__} · python -m mapix demo"
    pen.write((WIDTH - MARGIN - pen.wide(made, 17), SIZE[1] - MARGIN // 2), made, 17, FAINT)

    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    part = f"{os.fspath(path)}.{os.getpid()}.part"
    try:
        canvas.save(part, format="PNG")
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.unlink(part)
    return SIZE
