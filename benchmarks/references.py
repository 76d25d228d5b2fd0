"""Measure zarr through ``mapix.references`` against ``ds.batch``: ``python references.py FOLDER``.

All records, and 256 random ones, of 8,000 images of 32 x 32 x 3, from the page cache; the ways take
turns, and medians are printed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

import mapix
from mapix.zarr import Store

N, RUNS = 8000, 7


def opened(folder: Path) -> dict[str, mapix.Dataset[Any]]:
    images = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3)).astype("u1")
    heads = [mapix.vimh.Parameter("note", 0, 0, 127), mapix.vimh.Parameter("velocity", 1, 0, 127)]
    if not folder.exists():
        folder.mkdir(parents=True)
        with mapix.vimh.Writer(folder / "vimh", heads) as out:
            codes = {"note": np.arange(N) % 256, "velocity": np.arange(N) % 100}
            out.extend(images, codes=codes, split="train")
        np.save(folder / "images.npy", images)
    return {"VIMH": mapix.open(folder / "vimh"), "npy": mapix.open(folder / "images.npy")}


def array(ds: mapix.Dataset[Any], rows: int) -> Any:
    files = {"fo": mapix.references(ds, rows), "remote_protocol": "file"}
    options = {"mode": "r", "zarr_format": 2, "storage_options": files}
    return zarr.open_group("reference://", **options)["images"]


def ms(act: Callable[[], Any]) -> float:
    begin = time.process_time()  # of all threads: other programs do not count
    act()
    return 1e3 * (time.process_time() - begin)


def main(folder: Path) -> None:
    some = np.sort(np.random.default_rng(1).choice(N, 256, replace=False))
    for name, ds in opened(folder).items():
        layout = {"layout": "NCHW"} if name == "VIMH" else {}  # as zarr gives them
        acts: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "ds.batch": (
                lambda ds=ds, o=layout: ds.batch(np.arange(N), labels=None, **o),
                lambda ds=ds, o=layout: ds.batch(some, labels=None, **o),
            )
        }
        found = zarr.open_group(Store(ds, **layout), mode="r")["images"]
        acts["zarr, mapix.zarr.Store"] = (
            lambda found=found: found[:],
            lambda found=found: found.oindex[some],
        )
        if layout:
            turned = zarr.open_group(Store(ds), mode="r")["images"]
            acts["zarr, mapix.zarr.Store, channels last"] = (
                lambda turned=turned: turned[:],
                lambda turned=turned: turned.oindex[some],
            )
        images = ds.batch(np.arange(N), labels=None, **layout).images
        how = {"chunks": found.chunks, "compressors": None, "filters": None}
        own = zarr.create_array(MemoryStore(), data=images, **how)
        acts["zarr, its own memory, as many chunks"] = (
            lambda own=own: own[:],
            lambda own=own: own.oindex[some],
        )
        for rows in (500, 32, 1):
            found = array(ds, rows)
            acts[f"zarr, rows={rows}"] = (
                lambda found=found: found[:],
                lambda found=found: found.oindex[some],
            )
        want = acts["ds.batch"][0]().images
        np.testing.assert_array_equal(acts["zarr, rows=500"][0](), want)
        np.testing.assert_array_equal(acts["zarr, mapix.zarr.Store"][0](), want)
        times: dict[str, list[list[float]]] = {what: [[], []] for what in acts}
        for _ in range(RUNS):
            for what, pair in acts.items():
                for k, act in enumerate(pair):
                    times[what][k].append(ms(act))
        for what, both in times.items():
            shown = " | ".join(f"{statistics.median(each):.1f} ms" for each in both)
            print(f"| {name}, {what} | {shown} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
