"""Draw the records of a folder as one picture, with captions and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.pictures.decoding import decode, pillow

if TYPE_CHECKING:
    from mapix.folder.dataset import ImageFolder
    from mapix.folder.record import Record

__all__ = ["drawn", "sheet"]

COLOURS = ("#ff4d4d", "#4dd2ff", "#ffd24d", "#7dff4d", "#d24dff", "#ff9a4d", "#4dffc3", "#ff4dc3")
PAPER, INK, PALE = "#16181d", "#f2f2f2", "#9aa0aa"
GAP, TEXT = 12, 13  # pixels


def _colour(category: Any, known: dict[Any, str]) -> str:
    return known.setdefault(category, COLOURS[len(known) % len(COLOURS)])


def _shown(record: Record) -> Any:
    """Return a record's picture; the numbers of a deep one are scaled to 0..255."""
    picture, _ = decode(record.encoded(), arrays=True)
    if not isinstance(picture, np.ndarray):
        return picture
    numbers = np.nan_to_num(picture.astype(np.float64))
    least, most = numbers.min(), numbers.max()
    found = np.rint((numbers - least) * (255 / (most - least or 1.0))).astype(np.uint8)
    return pillow().fromarray(found[:, :, 0] if found.shape[2] == 1 else found)


def drawn(record: Record, width: int, height: int, known: dict[Any, str] | None = None) -> Any:
    """Return a record's picture within width x height, with its boxes, as Pillow's picture."""
    from PIL import ImageDraw, ImageFont

    known = {} if known is None else known
    picture = _shown(record).convert("RGB")
    s = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * s)), max(1, round(picture.height * s))
    image = picture.resize(size, pillow().Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT)
    objects = record.objects
    for k, (x, y, w, h) in enumerate([] if objects is None else objects.bbox.tolist()):
        names = [] if objects is None else objects.categories
        name = names[k] if k < len(names) else None
        colour = _colour(name, known)
        left, right = sorted((x * s, (x + w) * s))
        top, bottom = sorted((y * s, (y + h) * s))
        draw.rectangle((left, top, right, bottom), outline=colour, width=3)
        if name is not None:
            text = str(name)
            wide = draw.textlength(text, font) + 8
            at = (left, max(0, top - TEXT - 6))
            draw.rectangle((*at, at[0] + wide, at[1] + TEXT + 6), fill=colour)
            draw.text((at[0] + 4, at[1] + 2), text, PAPER, font)
    return image


def _lines(text: str, width: int, draw: Any, font: Any, most: int) -> list[str]:
    found: list[str] = [""]
    for word in text.split():
        longer = f"{found[-1]} {word}".strip()
        if found[-1] and draw.textlength(longer, font) > width:
            found.append(word)
        else:
            found[-1] = longer
    return found[:most]


def sheet(ds: ImageFolder, *, columns: int = 3, cell: tuple[int, int] = (260, 340)) -> Any:
    """Draw all records of a dataset as one picture.

    Parameters
    ----------
    ds : ImageFolder
        The dataset; take a part of a large one.
    columns : int
        Pictures side by side.
    cell : (h, w)
        Space for each picture, without its text.

    Returns
    -------
    PIL.Image.Image
    """
    from PIL import ImageDraw, ImageFont

    height, width = cell
    deep = height + 3 * (TEXT + 5) + GAP
    columns = max(1, min(columns, len(ds)))
    rows = max(1, -(-len(ds) // columns))
    size = GAP + columns * (width + GAP), GAP + rows * (deep + GAP)
    page = pillow().new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(TEXT)
    known: dict[Any, str] = {}
    for k, record in enumerate(ds):
        left, top = GAP + k % columns * (width + GAP), GAP + k // columns * (deep + GAP)
        image = drawn(record, width, height, known)
        page.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        draw.text((left, top + height + 4), record.file_name, INK, font)
        text = record.caption or ""
        if record.categories:
            text += "  [" + ", ".join(map(str, record.categories)) + "]"
        for n, line in enumerate(_lines(text, width, draw, font, 2), 1):
            draw.text((left, top + height + 4 + n * (TEXT + 5)), line, PALE, font)
    return page
