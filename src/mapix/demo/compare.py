"""Time and memory of reading a VIMH file with mapix, and in the usual way, in a process each.

The usual way reads the complete file, parses each record with ``struct``, and stacks batches in
numpy.  ``python -m mapix.demo.compare mapix|usual FILE`` prints the figures as JSON.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["by_mapix", "compared", "in_the_usual_way", "measured", "private_nbytes"]

Batch = tuple[NDArray[Any], NDArray[Any]]
Reader = tuple[int, Callable[[NDArray[np.int64]], Batch]]
"""Number of records, and ``batch(rows)``: float32 (b, c, h, w), and codes of labels."""

BATCH_RECORDS = 256
MEAN, STD = 0.5, 0.25  # floats are (byte / 255 - MEAN) / STD
ROLLUP = "/proc/self/smaps_rollup"


def by_mapix(path: str) -> Reader:
    """Read with mapix."""
    from mapix.registry import open_dataset

    ds = open_dataset(path)
    canvas = tuple(ds.shapes[:, :2].max(axis=0).tolist())
    options: dict[str, Any] = {"dtype": "float32", "scale": 1 / 255, "mean": MEAN, "std": STD}
    options |= {"layout": "NCHW", "pad": not ds.uniform and canvas, "pad_value": -MEAN / STD}
    both = attrgetter("images", "labels")
    return len(ds), lambda rows: both(ds.batch(rows, **options))


def in_the_usual_way(path: str) -> Reader:
    """Read in the usual way."""
    data = Path(path).read_bytes()
    head, at = struct.Struct("<HHHffB"), 0
    images, labels = [], []
    while at < len(data):
        h, w, c, _, _, n = head.unpack_from(data, at)
        pairs, at = data[at + head.size : at + head.size + 2 * n], at + head.size + 2 * n
        labels.append(dict(zip(pairs[::2], pairs[1::2], strict=True)))
        images.append(np.frombuffer(data, np.uint8, h * w * c, at).reshape(c, h, w))
        at += h * w * c
    h, w = (max(image.shape[k] for image in images) for k in (1, 2))
    one_size = len({image.shape for image in images}) == 1
    nlabels = 1 + max(k for pairs in labels for k in pairs)

    def batch(rows: NDArray[np.int64]) -> Batch:
        some = [images[i] for i in rows]
        if one_size:
            out: NDArray[Any] = np.stack(some)
        else:
            out = np.zeros((len(some), max(map(len, some)), h, w), np.uint8)
            for place, image in zip(out, some, strict=True):
                place[tuple(map(slice, image.shape))] = image
        out = out.astype(np.float32)
        out /= 255
        out -= MEAN
        out /= STD
        codes = [[labels[i].get(k, 0) for k in range(nlabels)] for i in rows]
        return out, np.array(codes, np.uint8)

    return len(images), batch


def private_nbytes() -> int:
    """Return the bytes of memory of this process that no file backs; 0 if it is not known."""
    try:
        lines = [line.split() for line in Path(ROLLUP).read_text("ascii").splitlines()]
    except OSError:
        return 0
    return sum(int(x[1]) for x in lines if x[0] in ("Anonymous:", "Swap:")) * 1024


def measured(way: Callable[[str], Reader], path: str) -> dict[str, Any]:
    """Return seconds, bytes of memory, and a checksum of everything that was read."""
    if way is by_mapix:
        way(path)  # imports and the first index are not measured
    before, began = private_nbytes(), time.perf_counter()
    n, batch = way(path)
    opened, memory = time.perf_counter() - began, private_nbytes() - before
    epoch = np.array_split(np.random.default_rng(0).permutation(n), -(-n // BATCH_RECORDS))
    times = [time.perf_counter()]
    for rows in epoch:
        batch(rows)
        times.append(time.perf_counter())
    memory_epoch = private_nbytes() - before
    crc = 0
    for rows in epoch:
        floats, codes = batch(rows)
        for array in np.rint((floats * STD + MEAN) * 255).astype(np.uint8), codes:
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    found = {"n": n, "crc": crc, "opened": opened}
    found |= {"batch": float(np.median(np.diff(times))), "epoch": n / (times[-1] - times[0])}
    return found | {"memory_opened": max(memory, 0), "memory_epoch": max(memory_epoch, 0)}


def compared(path: str, progress: Callable[[int, int], object]) -> list[dict[str, Any]]:
    """Return the figures of mapix and of the usual way, each from a process of its own."""
    found = []
    for number, way in enumerate(WAYS):
        progress(number, len(WAYS))
        command = [sys.executable, "-m", "mapix.demo.compare", way, path]
        found.append(json.loads(subprocess.check_output(command)))
    if found[0]["crc"] != found[1]["crc"]:
        raise ValueError(f"{path}: mapix and the usual way read different pixels or labels")
    return found


WAYS = {"mapix": by_mapix, "usual": in_the_usual_way}

if __name__ == "__main__":
    print(json.dumps(measured(WAYS[sys.argv[1]], sys.argv[2])))
