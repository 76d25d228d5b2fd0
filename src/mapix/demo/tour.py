"""The demo from beginning to end: make data, open it, compare, draw."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from mapix import text
from mapix.demo import data

__all__ = ["MEGABYTES", "run", "shares"]

MEGABYTES = 300
UNIFORM_SHARE = 2 / 3
FEWEST = 10  # records of a dataset
LEAST = 1_000_000  # bytes below which memory is not told apart from chance

Figures = dict[str, Any]


def shares(megabytes: float) -> tuple[int, int]:
    """Records of the uniform and of the mixed dataset that make about so many megabytes."""
    room = megabytes * 1e6
    uniform = int(room * UNIFORM_SHARE / data.UNIFORM_NBYTES)
    mixed = int(room * (1 - UNIFORM_SHARE) / data.MIXED_MEAN_NBYTES)
    return max(uniform, FEWEST), max(mixed, FEWEST)


def _say(what: str = "") -> None:
    print(text.fitting(what, sys.stdout.encoding or "ascii"))


class _Line:
    """One line of progress on stderr, written over; silent where nobody is watching."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()

    def show(self, what: str) -> None:
        if self._watched:
            print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *exc: object) -> None:
        self.show("")


class _Counter:
    """A progress callback that shows per cent, and knows whether it was ever needed."""

    def __init__(self, line: _Line, what: str) -> None:
        self._line = line
        self._what = what
        self.called = False

    def __call__(self, done: int, total: int) -> None:
        self.called = True
        self._line.show(f"{self._what}: {100 * done // total} %")


def _probe(way: str, path: str) -> Figures:
    """Figures of one way, from a process of its own.

    Raises
    ------
    ChildProcessError
        It failed; the message is the last line it said.
    """
    command = [sys.executable, "-m", "mapix.demo.probe", way, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ChildProcessError(f"measuring {way} on {path} failed: {said[-1]}")
    found: Figures = json.loads(done.stdout)
    return found


def _made(line: _Line, folder: Path, megabytes: float) -> None:
    """Make both datasets, and tell of it."""
    rows = [["DATA   spectrograms of a small synthesiser, its settings as labels"]]
    for name, make, n in zip(
        ("uniform", "mixed"),
        (data.make_uniform, data.make_mixed),
        shares(megabytes),
        strict=True,
    ):
        counter = _Counter(line, f"  making {name}")
        began = time.perf_counter()
        with line:
            made = make(folder / name, n, progress=counter)
        took = text.seconds(time.perf_counter() - began)
        size = sum((made / split).stat().st_size for split in ("train", "test"))
        how = f"made in {took}" if counter.called else "found"
        rows.append([str(made), f"{n:,} records", text.nbytes(size), how])
    _say(text.table(rows, right=(1, 2), heads=(0,)))


def _opened(ds: Any, call: str) -> None:
    _say(f"\n  >>> {call}\n  {ds!r}")


def _compared(name: str, ours: Figures, usual: Figures) -> list[list[str]]:
    """Rows of the table: mapix, the usual way, and how many times better."""

    def times(what: str, key: str) -> list[str]:
        a, b = ours[key], usual[key]
        return [what, text.seconds(a), text.seconds(b), text.ratio(b / a)]

    def rate(what: str, key: str, unit: float, form: Callable[[float], str]) -> list[str]:
        a, b = (unit / side[key] for side in (ours, usual))
        return [what, form(a), form(b), text.ratio(a / b)]

    def held(what: str, key: str) -> list[str]:
        a, b = ours[key], usual[key]
        if a < LEAST <= b:  # a few pages: their number is chance
            return [what, "< 1 MB", text.nbytes(b), f"> {text.ratio(b / LEAST)}"]
        return [what, text.nbytes(a), text.nbytes(b), text.ratio(b / a) if a >= LEAST else ""]

    n, made = ours["nrecords"], ours["epoch_nbytes"]
    batch = "batch of 256" if name == "uniform" else "padded batch of 256"
    return [
        [f"{name.upper()}   {n:,} records", "mapix", "usual way", "ratio"],
        times("open, index built", "open_built"),
        times("open again" + ", index kept" * ours["kept"], "open_again"),
        times("ds[i].image", "image"),
        times(f"{batch}, uint8", "uint8"),
        times(f"{batch}, float32 normalised", "float32"),
        ["    the same into one array, out=", text.seconds(ours["reused"]), "", ""],
        rate("first epoch of float32, images/s", "first_epoch", n, text.amount),
        rate("later epochs, images/s", "epoch", n, text.amount),
        rate("later epochs, floats made", "epoch", made, lambda x: f"{text.nbytes(x)}/s"),
        held("private memory, opened", "memory_open"),
        held("private memory, after the epochs", "memory_epoch"),
    ]


def _measured(line: _Line, paths: dict[str, str]) -> None:
    """Check that both ways give the same, then compare them."""
    rows: list[list[str]] = []
    heads, pages, kind = [], [], ""
    for name, path in paths.items():
        figures = {}
        with line:
            for way in ("check", "mapix", "usual"):
                what = "comparing the contents" if way == "check" else f"measuring {way}"
                line.show(f"  {name}: {what} ...")
                figures[way] = _probe(way, path)
        heads.append(len(rows))
        rows += _compared(name, figures["mapix"], figures["usual"])
        kind = figures["mapix"]["memory_kind"]
        pages.append(text.nbytes(figures["mapix"]["memory_file"]))
    notes = [
        "The usual way: read the file, parse each record with struct, np.stack a batch, convert;",
        "its ds[i].image is a look into the list that it has loaded.  Both gave the same bytes,",
        "labels and floats before they were timed, each in a fresh process, on files that were in",
        "memory already.  Batches are random, with labels, NCHW, (byte / 255 - mean) / std.",
    ]
    if kind == "private memory":
        notes += [
            "Private memory is what a process holds alone and no file backs (Anonymous, not RSS).",
            f"The file pages that mapix looked at ({' and '.join(pages)}) are not in it: they are",
            "the page cache, one copy for all processes, given up when memory is short.",
        ]
    else:
        notes += [f"Memory here is {kind}: this system does not tell private memory apart."]
    _say()
    _say(text.table(rows, right=(1, 2, 3), heads=heads))
    _say()
    _say("\n".join(f"  {note}" for note in notes))


def _sheet(uniform: Any, mixed: Any, path: Path) -> None:
    _say()
    try:
        import PIL  # noqa: F401 - asked for before anything is drawn
    except ImportError:
        _say("  No contact sheet: it needs Pillow.  pip install 'mapix[view]'")
        return
    from mapix.demo.sheet import draw_sheet

    began = time.perf_counter()
    w, h = draw_sheet(uniform, mixed, path)
    took = text.seconds(time.perf_counter() - began)
    _say(f"  Contact sheet: {path}   ({w} x {h} pixels, drawn in {took})")


def _segments(folder: Path) -> None:
    """An archive of overlapping segments: made, asked, and drawn over its picture."""
    from mapix.demo import segments

    began = time.perf_counter()
    try:
        picture, layers = segments.photograph()
        what = "a photograph of scikit-image's, segmented in four ways"
    except ImportError:
        picture, layers = segments.cells()
        what = "cells, made here (with scikit-image: a photograph)"
    path = folder / "segments.iid"
    archive = segments.make(path, picture, layers)
    took = text.seconds(time.perf_counter() - began)
    h, w = picture.shape[:2]
    y, x = h // 2, w // 2
    here, shared = archive.at(x, y), archive.overlaps()
    _opened(archive, f'mapix.open("{path}")')
    rows = [
        ["SEGMENTS", f"{what}; {took}"],
        [f"at({x}, {y})", f"{len(here)} segments have this pixel: {', '.join(map(str, here))}"],
        ["overlaps()", f"{len(shared):,} pairs share {int(shared.pixels.sum()):,} pixels"],
        ['groups["large"]', f"{len(archive.groups['large'])} of {len(archive)} segments"],
    ]
    _say()
    _say(text.table(rows, heads=(0,)))
    try:
        from PIL import Image
    except ImportError:
        return
    chosen = archive.select(domains=archive.domains[-1] if len(layers) < 10 else archive.domains)
    drawn = segments.overlay(picture, archive, chosen)
    place = folder / "segments.png"
    Image.fromarray(np.hstack([picture, drawn])).save(place)
    _say(f"\n  Drawn over the picture: {place}")


def run(
    folder: str | os.PathLike[str] = "mapix-demo",
    megabytes: float = MEGABYTES,
    sheet: str | os.PathLike[str] | None = None,
) -> None:
    """Run the demo and print what it finds.

    Parameters
    ----------
    folder : str or os.PathLike
        Where the datasets ``uniform`` and ``mixed`` are made, or found.
    megabytes : float
        Size of both together, about, in units of 10**6 bytes.
    sheet : str or os.PathLike, optional
        Where the contact sheet goes; ``contact-sheet.png`` in the folder if not given.

    Raises
    ------
    ValueError
        ``megabytes`` is not positive.
    OSError
        The folder cannot be written to, or holds something else.
    """
    if not 0 < megabytes < 1e6:
        raise ValueError(f"the size must be above 0 and below 1,000,000 MB, got {megabytes}")
    folder = Path(folder)
    began = time.perf_counter()
    _say(
        f"\n  mapix {mapix.__version__}   python {platform.python_version()}, "
        f"numpy {np.__version__}, {os.cpu_count()} CPUs\n"
    )
    with _Line() as line:
        _made(line, folder, megabytes)
        uniform = mapix.open(folder / "uniform")
        mixed = mapix.open(folder / "mixed")
        _opened(uniform, f'mapix.open("{folder / "uniform"}")')
        _opened(mixed, f'mapix.open("{folder / "mixed"}")')
        _measured(line, {"uniform": uniform.path, "mixed": mixed.path})
    _sheet(uniform, mixed, folder / "contact-sheet.png" if sheet is None else Path(sheet))
    _segments(folder)
    took = text.seconds(time.perf_counter() - began)
    _say(f"  All of it took {took}.  Next:  python -m mapix info {folder / 'mixed'}\n")
