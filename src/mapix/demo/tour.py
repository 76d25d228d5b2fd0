"""The demo from beginning to end: make data, open it, compare, draw."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mapix import __version__
from mapix.demo import compare, data
from mapix.demo.sheet import draw_sheet
from mapix.drawing import png
from mapix.iid.overlay import overlay
from mapix.registry import open_dataset
from mapix.text import Progress, amount, fitting, nbytes, ratio, seconds, table

__all__ = ["run", "shares"]

LEAST_NBYTES = 1_000_000  # less memory is chance
FIGURES = (
    ("open", "opened", seconds),
    ("batch of 256, float32", "batch", seconds),
    ("epoch, images/s", "epoch", amount),
    ("private memory, opened", "memory_opened", nbytes),
    ("private memory, after the epoch", "memory_epoch", nbytes),
)
NOTES = """
  The usual way reads the file, parses each record with struct, and stacks batches in numpy.
  Batches are random and normalised. Both ways gave the same pixels and labels, each in a process
  of its own, from the page cache. Private memory is memory that no file backs."""


def shares(megabytes: float) -> dict[Literal["uniform", "mixed"], int]:
    """Return how many records of both datasets make so many megabytes."""
    uniform = int(megabytes * 2e6 / 3 / data.UNIFORM_NBYTES)
    return {"uniform": uniform, "mixed": int(megabytes * 1e6 / 3 / data.MIXED_MEAN_NBYTES)}


def _say(what: str) -> None:
    print(fitting(what, sys.stdout.encoding or "ascii"), flush=True)


def _make(folder: Path, megabytes: float) -> None:
    rows = [["DATA   spectrograms of a small synthesiser, its settings as labels"]]
    for name, n in shares(megabytes).items():
        began = time.perf_counter()
        with Progress(f"  making {folder / name}") as progress:
            made = data.make(name, folder / name, n, progress=progress)
        took = f"made in {seconds(time.perf_counter() - began)}" if progress.called else "found"
        size = sum((made / split).stat().st_size for split in ("train", "test"))
        rows.append([str(made), f"{n:,} records", nbytes(size), took])
    _say(table(rows, right=(1, 2), heads=(0,)))


def _compared(name: str, ours: dict[str, Any], usual: dict[str, Any]) -> list[list[str]]:
    rows = [[f"{name.upper()}   {ours['n']:,} records", "mapix", "usual way", "ratio"]]
    for what, key, form in FIGURES:
        a, b = ours[key], usual[key]
        if form is nbytes and a < LEAST_NBYTES and b < LEAST_NBYTES:
            rows.append([what, "< 1 MB", "< 1 MB", ""])
        elif form is nbytes and a < LEAST_NBYTES:
            rows.append([what, "< 1 MB", nbytes(b), f"> {ratio(b / LEAST_NBYTES)}"])
        else:
            better = a / b if form is amount else b / max(a, 1e-9)
            rows.append([what, form(a), form(b), ratio(better)])
    return rows


def _segments(folder: Path) -> None:
    from mapix.demo import segments

    with Progress("  cutting a picture into segments") as progress:
        progress(0, 1)
        try:
            image, layers = segments.photograph()
            what = "a photograph of scikit-image, segmented in four ways"
        except ImportError:
            image, layers = segments.cells()
            what = "cells, made here (with scikit-image: a photograph)"
        archive = segments.make(folder / "segments.iid", image, layers)
    y, x = image.shape[0] // 2, image.shape[1] // 2
    here, shared = archive.at(x, y), archive.overlaps()
    rows = [
        ["SEGMENTS", what],
        [f"at({x}, {y})", f"{len(here)} segments have this pixel: {', '.join(map(str, here))}"],
        ["overlaps()", f"{len(shared):,} pairs share {int(shared.pixels.sum()):,} pixels"],
        ['groups["large"]', f"{len(archive.groups['large'])} of {len(archive)} segments"],
    ]
    _say(f'\n  >>> mapix.open("{archive.path}")\n  {archive!r}\n\n{table(rows, heads=(0,))}')
    keys = archive.select(domains=archive.domains[-1]) if len(layers) < 10 else archive.keys
    drawn = np.hstack([image, overlay(archive, image, keys)])
    (folder / "segments.png").write_bytes(png(drawn))
    _say(f"\n  Segments over the picture: {folder / 'segments.png'}")


def run(
    folder: str | os.PathLike[str] = "mapix-demo",
    megabytes: float = 60,
    sheet: str | os.PathLike[str] | None = None,
) -> None:
    """Run the demo with about so many megabytes of data, made or found in a folder."""
    if not 0 < megabytes < 1e6:
        raise ValueError(f"mb= must be above 0 and below 1,000,000, got {megabytes}")
    folder, began = Path(folder), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    _say(f"\n  mapix {__version__}, numpy {np.__version__}, {os.cpu_count()} CPUs\n")
    _make(folder, megabytes)
    opened = [open_dataset(folder / name) for name in ("uniform", "mixed")]
    for ds in opened:
        _say(f'\n  >>> mapix.open("{Path(ds.path).parent}")\n  {ds!r}')
    rows = []
    for name, ds in zip(("uniform", "mixed"), opened, strict=True):
        with Progress(f"  reading {name} in both ways") as progress:
            rows += _compared(name, *compare.compared(ds.path, progress))
    _say("\n" + table(rows, right=(1, 2, 3), heads=(0, len(rows) // 2)) + "\n" + NOTES)
    place = Path(sheet or folder / "contact-sheet.png")
    try:
        draw_sheet(opened[0], opened[1], place)
        _say(f"\n  Contact sheet: {place}")
    except ImportError:
        _say("\n  No contact sheet: it needs Pillow.  pip install 'mapix[images]'")
    _segments(folder)
    took = f"All of it took {seconds(time.perf_counter() - began)}."
    _say(f"\n  {took}  Next:")
    for command in ("info", "show", "view"):
        _say(f"  mapix {command} {folder / 'mixed'}")
    _say("")
