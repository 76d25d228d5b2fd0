"""Measure zarr through mapix's ways against ``ds.batch``: ``python references.py FOLDER``.

All records, and 256 random ones, of 8,000 images of 32 x 32 x 3, from the page cache; the ways take
turns, and medians are printed, with how many times ``ds.batch``'s time a full pass takes.
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
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from zarr.storage import MemoryStore

import mapix
from mapix.virtualizarr import Parser
from mapix.zarr import Store

N, RUNS = 8000, 7
SOME = np.sort(np.random.default_rng(1).choice(N, 256, replace=False))
Act = Callable[[], Any]


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


def referenced(ds: mapix.Dataset[Any], rows: int) -> Any:
    files = {"fo": mapix.references(ds, rows), "remote_protocol": "file"}
    options = {"mode": "r", "zarr_format": 2, "storage_options": files}
    return zarr.open_group("reference://", **options)


def virtual(ds: mapix.Dataset[Any], rows: int) -> Any:
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    return zarr.open_group(Parser(rows)(f"file://{ds.source.full_path}", registry), mode="r")


def reads(array: Any) -> tuple[Act, Act]:
    """Return what reads all images of an array of zarr, and some."""
    dtype = array.attrs.get("dtype")

    def images(found: Any) -> Any:  # of records, without a copy
        return found if dtype is None else found.view(np.dtype(dtype))[:, 0]["images"]

    return lambda: images(array[:]), lambda: images(array.oindex[SOME])


def ms(act: Act) -> float:
    begin = time.process_time()  # of all threads: other programs do not count
    act()
    return 1e3 * (time.process_time() - begin)


def main(folder: Path) -> None:
    for name, ds in opened(folder).items():
        layout = {"layout": "NCHW"} if name == "VIMH" else {}  # as zarr gives them
        acts: dict[str, tuple[Act, Act]] = {
            "ds.batch": (
                lambda ds=ds, o=layout: ds.batch(np.arange(N), labels=None, **o).images,
                lambda ds=ds, o=layout: ds.batch(SOME, labels=None, **o).images,
            )
        }
        found = zarr.open_group(Store(ds, **layout), mode="r")["images"]
        acts["mapix.zarr.Store"] = reads(found)
        if layout:
            last = zarr.open_group(Store(ds), mode="r")["images"]
            acts["mapix.zarr.Store, channels last"] = reads(last)
        want, some = (act() for act in acts["ds.batch"])
        how = {"chunks": found.chunks, "compressors": None, "filters": None}
        own = zarr.create_array(MemoryStore(), data=want, **how)
        acts["zarr's own memory, as many chunks"] = reads(own)
        for rows in (2000, 500, 32, 1):
            group = referenced(ds, rows)
            acts[f"references, rows={rows}"] = reads(group["images"])
            if layout:  # records have headers
                acts[f"references, records, rows={rows}"] = reads(group["records"])
            group = virtual(ds, rows)
            acts[f"VirtualiZarr, rows={rows}"] = reads(group["records" if layout else "images"])
        for what, pair in acts.items():
            if "last" not in what:
                np.testing.assert_array_equal(pair[0](), want)
                np.testing.assert_array_equal(pair[1](), some)
        times: dict[str, list[list[float]]] = {what: [[], []] for what in acts}
        for _ in range(RUNS):
            for what, pair in acts.items():
                for k, act in enumerate(pair):
                    times[what][k].append(ms(act))
        least = statistics.median(times["ds.batch"][0])
        for what, both in times.items():
            full, part = map(statistics.median, both)
            print(f"| {name}, {what} | {full:.1f} ms, {full / least:.1f} x | {part:.1f} ms |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
