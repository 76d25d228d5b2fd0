"""Draw datasets, and make the HTML that notebooks show of them, of records, and of batches.

All styles are inline, and colours are those of the page, so that light and dark pages work.
Everything that comes from a file is escaped.  Nothing here raises an error because of a file: the
error's text is shown.
"""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.drawing import contact_sheet, png, thumbnail
from mapix.drawing.scaling import brightened, value_range_of
from mapix.errors import UnsupportedError
from mapix.optional import library
from mapix.selection import spread
from mapix.text import counted, described, plain_line

__all__ = [
    "batch_html",
    "dataset_html",
    "record_html",
    "sheet",
    "statistics_html",
    "thumbnails",
]

MOST_PICTURES = 16
MOST_NAME = 24  # characters of a text or the name of a class
SAMPLE_RECORDS = 256  # whose columns are read
SAMPLE_SECONDS = 0.5  # after which no other column is read
SIDE, LARGE_SIDE = 96, 256  # pixels of thumbnails, and of a record's picture
MOST_CELL = 60  # characters
BARS = 32
Bytes = NDArray[np.uint8]

LINE = "1px solid rgba(128,128,128,.35)"
PALE = "opacity:.65"
CELL = f"padding:2px 14px 2px 0;border-bottom:{LINE};text-align:left;vertical-align:top"


def escaped(text: Any, most: int = 400) -> str:
    """Return text for HTML: on one line, without control characters, not longer than ``most``."""
    return html.escape(plain_line(str(text), most))


def attempted(make: Callable[[], str]) -> str:
    """Return what ``make`` returns, or the text of its error; MemoryError is raised."""
    try:
        return make()
    except MemoryError:
        raise
    except Exception as e:  # whatever a file, or another package's format, raises
        return f'<div style="{PALE}">not shown: {escaped(e)}</div>'


def page(title: str, below: str, *parts: str) -> str:
    """Return a title, a line below it, and parts one below the other."""
    head = f'<div><b>{escaped(title)}</b> <span style="{PALE}">{escaped(below, 1000)}</span></div>'
    inside = "".join(f'<div style="margin-top:8px">{part}</div>' for part in parts if part)
    return (
        '<div style="font:13px/1.5 system-ui,sans-serif;margin:4px 0;max-width:880px">'
        f"{head}{inside}</div>"
    )


def note(text: str) -> str:
    """Return a pale line."""
    return f'<div style="{PALE}">{escaped(text)}</div>'


def picture(array: Bytes, caption: str = "", side: int = SIDE) -> str:
    """Return a picture, drawn larger a whole number of times if it is small, and its caption."""
    h, w = array.shape[:2]
    data = base64.b64encode(png(array)).decode("ascii")
    text = escaped(caption, 1000)
    times = max(1, side // max(h, w))
    size = f"width:{w * times}px;height:{h * times}px;image-rendering:pixelated"
    image = f'<img alt="{text}" style="{size};margin:0" src="data:image/png;base64,{data}">'
    line = f"font-size:11px;line-height:1.35;{PALE};white-space:nowrap;overflow:hidden"
    below = "".join(
        f'<div style="{line};text-overflow:ellipsis">{escaped(part)}</div>'
        for part in caption.split("\n")
        if part
    )
    return (
        f'<div title="{text}" style="display:inline-block;vertical-align:top;'
        f'margin:0 8px 8px 0;max-width:{max(side, w * times)}px">{image}{below}</div>'
    )


def pictures(items: Iterable[tuple[Bytes, str]]) -> str:
    """Return pictures with captions, side by side."""
    return "".join(picture(array, caption) for array, caption in items)


def table(rows: Sequence[Sequence[str]], heads: Sequence[str] = ()) -> str:
    """Return rows of HTML as a table; an empty string without any."""
    if not rows:
        return ""
    style = f'style="{CELL}"'
    head = "".join(f"<th {style}>{escaped(name)}</th>" for name in heads)
    lines = ["".join(f"<td {style}>{cell}</td>" for cell in row) for row in rows]
    body = "".join(f'<tr style="background:none">{line}</tr>' for line in [head, *lines] if line)
    return f'<table style="border-collapse:collapse;margin:0;font-size:12px">{body}</table>'


# --- datasets -------------------------------------------------------------------------------------


def sheet(ds: Any, indices: NDArray[np.int64] | None, size: int, columns: int | None) -> Any:
    """Return records as one picture of Pillow's: see ``Dataset.show``."""
    image = library("PIL.Image", "images")
    found = list(thumbnails(ds, size, indices))
    if not found:
        why = ds._without_pixels() or f"there is nothing to draw: {ds.RECORDS} without pixels"
        raise UnsupportedError(f"{ds.path}: {why}")
    drawn, captions = zip(*found, strict=True)
    return image.fromarray(contact_sheet(brightened(drawn), columns, captions, gap=8))


def thumbnails(
    ds: Any, size: int, indices: NDArray[np.int64] | None = None
) -> Iterator[tuple[Bytes, str]]:
    """Yield picture and caption of each record that has pixels; by default of 16, spread evenly."""
    which = spread(len(ds), MOST_PICTURES) if indices is None else indices
    rows, texts = ds._rows_of(which).tolist(), captions(ds, which, which.tolist())
    for row, text in zip(rows, texts, strict=True):
        found = ds._drawing(row, size)
        if found is not None:
            yield found, text


def captions(ds: Any, indices: NDArray[np.int64], numbers: Sequence[int]) -> list[str]:
    """Return the number of each record, and its labels: ``"12: cat"``, or a line each.

    A class is named where its name is known.  A label without one is a number, with the name of
    the label where there are several.
    """
    texts: list[list[str]] = [[] for _ in indices]
    names = list(ds._label_names()) if len(indices) else []
    sample = ds._sample(ds._rows_of(indices)) if names else {}
    known = [sample[name] for name in names if name in sample]
    alone, classes = len(known) == 1, ds._class_names()
    for column in known:
        named = classes.get(column.name, ())
        values, present = column.values.tolist(), column.present.tolist()
        for text, value, there in zip(texts, values, present, strict=True):
            if there:
                if isinstance(value, int) and 0 <= value < len(named):
                    text.append(plain_line(named[value], MOST_NAME))
                else:
                    text.append(_number(value, 4) + ("" if alone else f" {column.name}"))
    return [
        (": " if len(text) == 1 else "\n").join([str(number), *text])
        for number, text in zip(numbers, texts, strict=True)
    ]


def sampled(ds: Any) -> tuple[dict[str, Any], list[str]]:
    """Return columns of some records, and the names of those for which there was no time."""
    sample = ds._sample(ds._rows_of(spread(len(ds), SAMPLE_RECORDS)))
    found: dict[str, Any] = {}
    names, began = list(sample), time.monotonic()
    while names and time.monotonic() - began < SAMPLE_SECONDS:
        found[names[0]] = sample[names[0]]
        names.pop(0)
    return found, names


def dataset_html(ds: Any) -> str:
    """Return what a notebook shows of a dataset: pictures, and the ranges of its columns.

    At most 16 pictures are drawn, and columns of at most 256 records are read, spread evenly, and
    none after half a second: the page states of how many.
    """
    kind = type(ds).__name__
    below = ds._described()
    try:
        n = 0 if ds.closed else len(ds)
    except MemoryError:
        raise
    except Exception as e:
        return page(kind, below, note(f"not shown: {e}"))
    if not n:
        return page(kind, below)
    return page(
        kind,
        below,
        attempted(lambda: _overview(ds)),
        attempted(lambda: "".join(_each_picture(ds))),
        attempted(lambda: _columns(ds, n)),
        attempted(lambda: note(f"splits: {', '.join(ds.splits)}") if ds.splits else ""),
    )


def _each_picture(ds: Any) -> Iterator[str]:
    """Yield the HTML of some records' pictures; of one that cannot be read its error."""
    found: list[tuple[Bytes, str]] = []

    def drawn(which: NDArray[np.int64]) -> str:
        found.extend(thumbnails(ds, SIDE, which))
        return ""

    problems = [attempted(partial(drawn, np.array([i]))) for i in spread(len(ds), MOST_PICTURES)]
    arrays = brightened([array for array, _ in found])
    yield pictures(zip(arrays, [caption for _, caption in found], strict=True))
    yield from problems


def _overview(ds: Any) -> str:
    found = ds._overview()
    return "" if found is None else picture(found[0], found[1], 1)


def _columns(ds: Any, n: int) -> str:
    sample, left = sampled(ds)
    rows = [
        [f"<b>{escaped(name, MOST_CELL)}</b>", *map(escaped, _values(column))]
        for name, column in sample.items()
    ]
    if not rows and not left:
        return ""
    k = max(map(len, sample.values()), default=0)
    of = f"of all {n:,} records" if k >= n else f"of {k:,} of {n:,} records, spread evenly"
    more = f"; not read within the time for this: {', '.join(left)}" if left else ""
    return table(rows, ("column", "type", "values", "")) + note(f"values {of}{more}")


def _values(column: Any) -> tuple[str, str, str]:
    """Return type, values and remarks of a column."""
    values = column.values[np.asarray(column.present)]
    missing = len(column) - len(values)
    lacking = f"{missing} without a value" if missing else ""
    kind = str(column.values.dtype)
    if not len(values):
        return kind, "", lacking
    if column.numeric:
        low, high = values.min(), values.max()
        unit = f" {column.unit}" if column.unit else ""
        return kind, f"{_number(low)} to {_number(high)}{unit}", lacking
    texts = list(dict.fromkeys(map(_number, values.tolist())))
    shown = ", ".join(repr(plain_line(text, MOST_NAME)) for text in texts[:3])
    more = f", {counted(len(texts) - 3, 'other')}" if len(texts) > 3 else ""
    kind = "text" if isinstance(values.flat[0], str) else "list"
    return kind, shown + more, lacking


def _number(value: Any, digits: int = 6) -> str:
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, tuple | list):
        return ", ".join(map(str, number))
    return f"{number:.{digits}g}" if isinstance(number, float) else str(number)


# --- records, batches, statistics -----------------------------------------------------------------


def record_html(record: Any, draw: Callable[[int], Bytes | None], facts: Callable[[], Any]) -> str:
    """Return what a notebook shows of a record.

    Parameters
    ----------
    record : object
        The record; its ``repr`` is the first line.
    draw : callable
        ``draw(size)`` returns its picture, uint8 (h, w, 3), or None.
    facts : callable
        Returns name -> value of everything else.
    """

    def drawn() -> str:
        found = draw(LARGE_SIDE)
        return "" if found is None else picture(found, "", LARGE_SIDE)

    def listed() -> str:
        return table([[f"<b>{escaped(k)}</b>", escaped(v)] for k, v in facts().items()])

    return page(type(record).__name__, described(record), attempted(drawn), attempted(listed))


def batch_html(batch: Any) -> str:
    """Return what a notebook shows of a batch: its first 16 images, on one range, and labels."""
    return page(
        type(batch).__name__, described(batch), attempted(lambda: pictures(_of_batch(batch)))
    )


def _of_batch(batch: Any) -> Iterable[tuple[Bytes, str]]:
    images = batch.images
    if images.ndim not in (2, 3, 4) or not images.size:
        return
    some = images[:MOST_PICTURES]
    if some.ndim == 4 and some.shape[3] not in (1, 2, 3, 4) and some.shape[1] in (1, 2, 3, 4):
        some = np.moveaxis(some, 1, 3)  # NCHW
    span = value_range_of(some)
    labels = batch.labels
    shown = brightened([thumbnail(image, SIDE, value_range=span) for image in some])
    for k, image in enumerate(shown):
        text = "" if labels is None else _labels(labels[k], batch.present, k, batch.names)
        yield image, text


def _labels(values: Any, present: Any, k: int, names: Sequence[str]) -> str:
    """Return the labels of a row of a batch, a line each; of a single label its value alone."""
    flat = np.atleast_1d(np.asarray(values)).ravel().tolist()
    there = np.ones(len(flat), bool) if present is None else np.atleast_1d(present[k]).ravel()
    given = [*names, *[""] * (len(flat) - len(names))]
    texts = [
        _number(value, 4) if len(flat) == 1 else f"{_number(value, 4)} {name}".strip()
        for name, value, has in zip(given, flat, there.tolist(), strict=False)
        if has
    ]
    return "\n".join(texts)


def statistics_html(found: Any) -> str:
    """Return what a notebook shows of ``ds.statistics()``: numbers, and a histogram each."""
    parts = []
    p = found.pixels
    if p is not None:
        rows = [
            [str(k), *map(_number, (p.min[k], p.max[k], p.mean[k], p.std[k])), f"{p.count[k]:,}"]
            for k in range(len(p.count))
        ]
        parts.append(table(rows, ("channel", "low", "high", "mean", "std", "pixels")))
    rows = []
    for name, s in found.columns.items():
        numbers = [f"{v:.4g}" for v in (s.min, s.max, s.mean, s.std)] if s._numeric else [""] * 4
        counts, ends = s.bars(BARS)
        cells = [escaped(name, MOST_CELL), *numbers, f"{len(s.unique):,}", f"{s.missing:,}"]
        rows.append([*cells, bars(counts, ends)])
    heads = ("column", "low", "high", "mean", "std", "distinct", "missing", "how often")
    parts.append(table(rows, heads))
    return page(type(found).__name__, counted(found.n, "record"), *parts)


def bars(counts: Sequence[int], names: Sequence[str]) -> str:
    """Return bars as a small SVG in the page's own colour."""
    most = max(counts, default=0) or 1
    wide = 160 / max(len(counts), 1)
    drawn = "".join(
        f'<rect x="{k * wide:.2f}" y="{28 - 28 * c / most:.2f}" width="{max(wide - 1, 0.5):.2f}" '
        f'height="{28 * c / most:.2f}"/>'
        for k, c in enumerate(counts)
    )
    title = escaped(f"{names[0]} to {names[-1]}" if names else "")
    return (
        f'<svg width="160" height="28" role="img" fill="currentColor" style="opacity:.75">'
        f"<title>{title}</title>{drawn}</svg>"
    )


def facts_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as short texts, floats with six digits."""
    return {k: _number(v) if isinstance(v, float) else str(v) for k, v in values.items()}
