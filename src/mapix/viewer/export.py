"""A page of its own: the grid, facets and table of some thousand records, in one file.

The page holds its data, needs no server and asks for nothing.  The modules of ``static`` become one
script: each one a function that returns what it exports.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mapix._native import TILE
from mapix.store import NewWhole
from mapix.viewer import api
from mapix.viewer.facets import Facet
from mapix.viewer.routes import Request, plain
from mapix.viewer.server import static_files
from mapix.viewer.session import View
from mapix.viewer.tiles import drawn, range_of

__all__ = ["MOST_RECORDS", "page", "write_page"]

MOST_RECORDS = 4000
MOST_PIXELS_NBYTES = 32 << 20  # of all tiles, before they are compressed
LARGEST = 256  # side of a tile
ENTRY = "main.js"
GENERATED = "loading.js"  # loads panels by name: here from the same script
PANELS = ("grid", "table")

_IMPORT = re.compile(r'^import\s+(.+?)\s+from\s+"\./([\w-]+\.js)";\n', re.M | re.S)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) (\w+))", re.M)


def write_page(ds: Any, path: str | os.PathLike[str], *, title: str | None = None) -> str:
    """Write a page that shows a dataset by itself, for a reader who does not have the data.

    Parameters
    ----------
    ds : mapix.Dataset
        Or a part of one, of at most 4000 records.
    path : str or os.PathLike
        The new file; nothing may be there.
    title : str, optional
        By default the name of the file, without its folder.

    Returns
    -------
    str
        The path.

    Raises
    ------
    ValueError
        There are more records, or none.
    FileExistsError
        There is something at ``path``.
    """
    made = page(ds, title=title)
    with NewWhole(path) as file:
        file.write(made.encode())
    return os.fspath(path)


def page(ds: Any, *, title: str | None = None) -> str:
    """Return such a page as text."""
    n = len(ds)
    if not n:
        raise ValueError(f"{ds.path}: there is no record to show")
    if n > MOST_RECORDS:
        raise ValueError(
            f"{ds.path}: a page holds 1 to {MOST_RECORDS} records, not {n}; choose some of them"
        )
    name = title or os.path.basename(os.path.normpath(ds.path))
    data = json.dumps(plain(_data(View(ds), name)), ensure_ascii=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c")  # texts of the dataset must not end the element
    script, style = _script(), _style()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(name)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<div id="app"><noscript>This page needs JavaScript.</noscript></div>\n'
        f'<script type="application/json" id="data">{data}</script>\n'
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def _hash(text: str) -> str:
    """Return the hash by which the policy allows this script or style, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _style() -> str:
    return "\n".join(
        reply.body.decode() for name, reply in static_files().items() if name.endswith(".css")
    )


def _script() -> str:
    """Return the modules of the page as one script."""
    texts = {name: reply.body.decode() for name, reply in static_files().items()}
    texts["source.js"] = texts["embedded.js"]
    each = ", ".join(f'"{name}": {_name(f"{name}.js")}' for name in PANELS)
    texts[GENERATED] = (
        "".join(f'import * as {name}_panel from "./{name}.js";\n' for name in PANELS)
        + f"export const load = async (name) => ({{{each}}})[name];\n"
    )
    made: dict[str, str] = {}
    _add(ENTRY, texts, made)
    return "\n".join(made.values())


def _name(module: str) -> str:
    return "module_" + re.sub(r"\W", "_", module.removesuffix(".js"))


def _add(module: str, texts: Mapping[str, str], made: dict[str, str]) -> None:
    """Add a module, after those that it imports, as a function that returns what it exports."""
    if module in made:
        return
    made[module] = ""  # circles end here
    text = texts[module]
    for _, other in _IMPORT.findall(text):
        _add(other, texts, made)
    exported = _EXPORT.findall(text)
    text = _IMPORT.sub(_bound, text)
    text = _EXPORT.sub("", text)
    del made[module]
    made[module] = (
        f"const {_name(module)} = (() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();"
    )


def _bound(found: re.Match[str]) -> str:
    """Return what stands for an import statement."""
    names = found[1].strip()
    what = names.removeprefix("* as ") if names.startswith("*") else names.replace(" as ", ": ")
    return f"const {what} = {_name(found[2])};\n"


# --- the data -------------------------------------------------------------------------------------


def _data(view: View, name: str) -> dict[str, Any]:
    """Return what ``embedded.js`` answers from."""
    about = json.loads(api.dataset(view, Request({})).body)
    return {
        "dataset": about
        | {
            "name": name,  # without the folder: a colleague need not know it
            "facts": {},
            "panels": [panel for panel in about["panels"] if panel["name"] in PANELS],
            "fixed": True,
            "reopens": False,
            "exports": False,
            "selected": 0,
        },
        "colours": json.loads(api.colours(view, Request({})).body),
        "columns": {name: _column(view.ds.columns[name]) for name in view.ds._column_names()},
        "tiles": _tiles(view, about["pixels"]),
    }


def _column(column: Any) -> dict[str, Any]:
    """Return the values of a column, and the bin of each in its facet."""
    facet = Facet(column)
    present = np.asarray(column.present).tolist()
    values = column.values.tolist()
    bins: list[Any] = [None if b >= facet.nbins else b for b in facet.bins.tolist()]
    if facet.kind == "members":
        ends = np.cumsum(facet.sizes).tolist()
        bins = [bins[end - n : end] for end, n in zip(ends, facet.sizes.tolist(), strict=True)]
    return {
        "values": [value if there else None for value, there in zip(values, present, strict=True)],
        "unit": column.unit,
        "kind": facet.kind,
        "nbins": facet.nbins,
        "bins": bins,
        "about": facet.about,
    }


def _tiles(view: View, about: Any) -> dict[str, Any]:
    """Return tiles of all records, as large as the page may become."""
    n = len(view.ds)
    channels = (3, 0) if about and about["channels"] in (3, 4) else (1, 0)
    size = min(LARGEST, int((MOST_PIXELS_NBYTES / (n * channels[0])) ** 0.5))
    value_range = range_of(view, channels)
    pixels, table, sides = [np.empty(0, np.uint8)], np.zeros(n, TILE), np.zeros((n, 2), np.uint32)
    if about:
        pixels, table, sides = drawn(
            *(view, np.arange(n), size),
            nchannels=channels[0],
            channel=channels[1],
            value_range=value_range,
        )
    nbytes = table["h"].astype(np.int64) * table["w"] * channels[0]
    packed = zlib.compress(b"".join(part.tobytes() for part in pixels), 6)
    return {
        "channels": channels[0],
        "range": dict(zip(("low", "high"), value_range, strict=True)),
        "at": np.cumsum(nbytes) - nbytes,
        "h": table["h"],
        "w": table["w"],
        "height": sides[:, 0],
        "width": sides[:, 1],
        "low": table["low"],
        "high": table["high"],
        "unreadable": [int(h == 0) for h in table["h"]],
        "pixels": base64.b64encode(packed).decode(),
    }
