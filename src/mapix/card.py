"""Dataset cards: a README.md with the front matter that the Hugging Face Hub reads.

Everything that comes from a file is escaped, in the YAML and in the text.  ``DatasetCard`` of
``huggingface_hub`` reads the front matter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.columns import FACTS, facts_of_all
from mapix.drawing import contact_sheet
from mapix.drawing.scaling import brightened
from mapix.errors import MapixError
from mapix.notebook import thumbnails
from mapix.selection import spread
from mapix.text import plain_line, title_of, value_text

__all__ = ["card", "picture", "yaml"]

MOST_CELL = 80  # characters
MOST_CLASSES = 1000  # whose names are listed
SAMPLE_RECORDS = 64  # whose boxes and captions decide what the dataset is for
MOST_DIMENSIONS = 5  # of an array of the Hub's
THUMBNAIL_SIDE = 96  # pixels
UNKNOWN = "unknown"  # the Hub's own word for a licence that was not stated
# words that YAML takes for values
WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
# `datasets` reads these by itself.  It fails if a card states other columns than it finds.
HUB_READS = frozenset({".arrow", ".csv", ".json", ".jsonl", ".parquet", ".tar"})
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
MORE_SIZES = ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))

USUAL = {1: ("no",), 4: ("0",)}  # columns of the table that are left out if they hold only this


def card(
    parts: Mapping[str | None, Any],
    *,
    name: str,
    opening: str,
    license: str | None = None,
    picture: str | None = None,
) -> str:
    """Return the text of a dataset card.

    Parameters
    ----------
    parts : mapping
        Name -> dataset of each split; without splits one dataset whose name is None.  Columns and
        pictures are those of the first one.
    name : str
        Title of the dataset.
    opening : str
        Python code that opens it: ``mapix.open('x')``.
    license : str, optional
        The Hub's short name of a licence, as ``"mit"``.  By default the card states that it is
        unknown.
    picture : str, optional
        Name of a picture that lies beside the card: see ``picture``.

    Returns
    -------
    str
        Markdown with YAML front matter.  Cost: all columns of the first split are read.

    Raises
    ------
    ValueError
        ``license`` is not a short name.
    """
    if license is not None:
        license = license.lower()
        if not LICENSE.fullmatch(license):
            raise ValueError(
                f"a licence is a short name of letters, digits, '-' and '.', as mit, cc-by-4.0 or "
                f"other; got {license!r:.80}"
            )
    ds = next(iter(parts.values()))
    facts = ds.describe()
    classes = {k: v for k, v in ds._class_names().items() if k in ds._label_names() and v}
    columns = facts_of_all(ds.columns, ds._label_names())
    matter = {
        "license": license or UNKNOWN,
        "pretty_name": plain_line(name, MOST_CELL),
        "size_categories": [_size(sum(map(len, parts.values())))],
        "task_categories": _tasks(ds, columns, classes),
        "tags": ["mapix", ds.FAMILY],
        "dataset_info": _dataset_info(parts, columns, classes),
    }
    found = [f"---\n{yaml({key: value for key, value in matter.items() if value})}---\n"]
    found.append(f"# {_escaped(name)}\n")
    if picture is not None:
        found.append(f"![Some {ds.RECORDS}]({picture})\n")
    of = f" of split {_escaped(next(iter(parts)))}" if len(parts) > 1 else ""
    found += [f"## Facts{of}\n", _table(("fact", "value"), _facts(facts))]
    if len(parts) > 1:
        rows = [(str(split), f"{len(part):,}") for split, part in parts.items()]
        found += ["## Splits\n", _table(("split", ds.RECORDS), rows)]
    if columns:
        found += [f"## Columns{of}\n", _column_table(columns)]
    for label, names in classes.items():
        some = ", ".join(f"{k} {_escaped(n)}" for k, n in enumerate(names[:MOST_CLASSES]))
        more = f", and {len(names) - MOST_CLASSES:,} others" * (len(names) > MOST_CLASSES)
        found.append(f"Classes of {_escaped(label)}: {some}{more}.\n")
    found += ["## How to open it\n", _code(ds, columns, opening), "## Licence\n"]
    if license is None:
        found.append(
            "The licence is not stated. Whoever publishes the data must state one: "
            "`mapix card --license`.\n"
        )
    else:
        found.append(f"{license}\n")
    return "\n".join(found)


def picture(ds: Any) -> NDArray[np.uint8] | None:
    """Return some records side by side, uint8 (h, w, 3); None where there is nothing to draw."""
    overview: tuple[NDArray[np.uint8], str] | None = ds._overview()
    if overview is not None:
        return overview[0]
    drawn = list(thumbnails(ds, THUMBNAIL_SIDE))
    if not drawn:
        return None
    images, captions = zip(*drawn, strict=True)
    return contact_sheet(brightened(images), None, captions, gap=8)


# --- facts ----------------------------------------------------------------------------------------


def _size(n: int) -> str:
    """Return the Hub's name of the size of a dataset."""
    return next((name for most, name in (*SIZES, *MORE_SIZES) if n < most), "1B<n<10B")


def _tasks(ds: Any, columns: Sequence[Any], classes: Mapping[str, Any]) -> list[str]:
    """Return the Hub's names of what the dataset is clearly for."""
    if ds.RECORDS == "segments":
        return ["image-segmentation"]
    rows = ds._rows_of(spread(len(ds), SAMPLE_RECORDS)).tolist()
    shown = [ds._annotations(row) for row in rows]
    found = {
        "object-detection": any(len(a.boxes) for a in shown),
        "image-classification": bool(classes),
        "image-to-text": any(a.caption for a in shown),
    }
    return [task for task, there in found.items() if there]


def _dataset_info(
    parts: Mapping[str | None, Any], columns: Sequence[Any], classes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return features and splits as ``datasets`` states them; without what is not clear."""
    ds = next(iter(parts.values()))
    if os.path.isdir(ds.path) or os.path.splitext(ds.path)[1].lower() in HUB_READS:
        return {}
    features = [_image_feature(ds), *(_feature(facts, classes) for facts in columns)]
    found: dict[str, Any] = {}
    if all(feature is not None for feature in features) and any(features):
        found["features"] = [feature for feature in features if feature]
    sizes = [part.describe().get("nbytes") for part in parts.values()]
    if None not in sizes:  # the Hub ignores splits without a size
        found["splits"] = [
            {"name": split or "train", "num_bytes": int(nbytes), "num_examples": len(part)}
            for (split, part), nbytes in zip(parts.items(), sizes, strict=True)
        ]
    return found


def _image_feature(ds: Any) -> dict[str, Any] | None:
    """Return the feature of a record's pixels; {} without any, None where it is not clear."""
    image = ds._content(ds._rows_of([0])[0]) if len(ds) else None
    if image is None:
        return {}
    if image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2:] in ((1,), (3,), (4,))):
        return {"name": "image", "dtype": "image"}
    kind = image.dtype.newbyteorder("=").name
    if image.dtype.kind not in "biuf" or ds.image_shape is None or image.ndim > MOST_DIMENSIONS:
        return None
    if image.ndim == 0:
        return {"name": "values", "dtype": kind}
    if image.ndim == 1:
        return {"name": "values", "sequence": kind}
    shape = {"shape": list(image.shape), "dtype": kind}
    return {"name": "values", "dtype": {f"array{image.ndim}_d": shape}}


def _feature(facts: Mapping[str, Any], classes: Mapping[str, Any]) -> dict[str, Any] | None:
    name, kind = facts["name"], facts.get("type", "")
    if name in classes:
        names = {str(k): text for k, text in enumerate(classes[name])}
        return {"name": name, "dtype": {"class_label": {"names": names}}}
    if kind == "text":
        return {"name": name, "dtype": "string"}
    if kind == "bool" or re.fullmatch(r"(u?int|float)\d+", kind):
        return {"name": name, "dtype": kind}
    return None


# --- text -----------------------------------------------------------------------------------------


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts that are single values, and lists of few; no paths of this machine."""
    for key, value in facts.items():
        if key in ("columns", "splits", "classes", "path", "folder") or value is None:
            continue
        items = list(value) if isinstance(value, list | tuple) else [value]
        if not 0 < len(items) <= 8 or not all(
            isinstance(item, str | int | float) for item in items
        ):
            continue
        local = isinstance(value, str) and os.path.isabs(value)
        yield title_of(key), os.path.basename(value) if local else value_text(value, key)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = str(value)
    return os.path.basename(text) if os.path.isabs(text) else text


def _column_table(columns: Sequence[Mapping[str, Any]]) -> str:
    rows = [[_cell(facts.get(head)) for head in FACTS] for facts in columns]
    used = [
        k for k in range(len(FACTS)) if any(row[k] not in ("", *USUAL.get(k, ())) for row in rows)
    ]
    return _table([FACTS[k] for k in used], ([row[k] for k in used] for row in rows))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *(list(map(_escaped, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(text: Any) -> str:
    """Return text for one line of Markdown: nothing in it is markup, a link, or HTML."""
    line = plain_line(str(text), MOST_CELL)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = line.replace("://", "&#58;//").replace("www.", "www&#46;")
    return re.sub(r"([\\`*\[\]()|~$!#{}]|\b_|_\b)", r"\\\1", line)


def _code(ds: Any, columns: Sequence[Mapping[str, Any]], opening: str) -> str:
    """Return code that opens the dataset; each of its lines runs."""
    lines = ["import mapix", "", f"ds = {opening}", "print(ds)"]
    if len(ds):
        lines.append("print(ds[0])")
    if columns and "type" in columns[0]:
        lines.append(f"print(ds.columns[{columns[0]['name']!a}].values[:5])")
    if len(ds):
        try:
            ds.batch([0])
        except (MapixError, TypeError, ValueError):
            pass  # of records that do not go into a batch
        else:
            lines.append("print(ds.batch([0]).images.shape)")
    return "```python\n{}\n```\n".format("\n".join(lines))


# --- YAML -----------------------------------------------------------------------------------------


def yaml(value: Mapping[str, Any], indent: int = 0) -> str:
    """Return a mapping as YAML: mappings, lists, whole numbers and text, which is quoted."""
    pad, lines = " " * indent, []
    for key, found in value.items():
        bare = re.fullmatch(r"[a-z]\w*", key, re.A) and key not in WORDS
        head = f"{pad}{key if bare else _quoted(key)}:"
        if isinstance(found, Mapping):
            lines.append(f"{head}\n{yaml(found, indent + 2)}")
        elif isinstance(found, list):
            lines.append(f"{head}\n" + "".join(_entry(entry, indent) for entry in found))
        else:
            lines.append(f"{head} {_scalar(found)}\n")
    return "".join(lines)


def _entry(value: Any, indent: int) -> str:
    pad = " " * indent
    if not isinstance(value, Mapping):
        return f"{pad}- {_scalar(value)}\n"
    return f"{pad}- {yaml(value, indent + 2)[indent + 2 :]}"


def _scalar(value: Any) -> str:
    return str(value) if isinstance(value, int) else _quoted(value)


def _quoted(text: str) -> str:
    """Return text in double quotes; surrogates, which YAML has not, are written as text."""
    found = []
    for c in text:
        code = ord(c)
        if 0xD800 <= code < 0xE000:
            found.append(f"\\\\u{code:04x}")
        elif c in '"\\':
            found.append(f"\\{c}")
        elif c.isprintable():
            found.append(c)
        else:
            found.append(f"\\U{code:08x}")
    return f'"{"".join(found)}"'
