"""Image folders: lines of a metadata file, opening, batches of pictures, beside the usual ways."""

from __future__ import annotations

import importlib.util
import io
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
import mapix.folder
from comparison.report import Goal, Report
from comparison.rounds import Case, seconds, told
from data_files import FOLDER, photograph, refill
from mapix.folder.lines import Lines
from mapix.source import Source

SIDES = (375, 500)
SIZE = (224, 224)
B = 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def _records() -> int:
    return int(os.environ.get("MAPIX_BENCH_RECORDS", "300000"))


def metadata() -> Path:
    """Lines of about 210 bytes, as opsml writes them: some words, one to three boxes."""
    n = 5 * _records()
    path = FOLDER / f"metadata-{n}.jsonl"
    if path.exists():
        return path
    told(f"making {path.name}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    words, nboxes = rng.integers(0, 5, n).tolist(), rng.integers(1, 4, n).tolist()
    boxes = (rng.integers(0, 1000, (4096, 3, 4)) / 2).tolist()
    with open(path.with_suffix(".part"), "wb") as f:
        for i in range(n):
            objects = {"bbox": boxes[i % 4096][: nboxes[i]], "categories": [1] * nboxes[i]}
            line = {
                "file_name": f"{i:07}.jpg",
                "caption": "a few words of a caption " * words[i],
                "categories": None,
                "objects": objects,
            }
            f.write(json.dumps(line).encode() + b"\n")
    os.rename(path.with_suffix(".part"), path)
    return path


def pictures() -> Path:
    """Photograph-like JPEGs of 375 x 500 pixels, quality 90, and their records."""
    n = max(B, min(400, _records() // 750))
    path = FOLDER / f"pictures-{n}"
    if path.exists():
        return path
    told(f"making {path.name}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    with mapix.folder.Writer(path) as out:
        for k in range(n):
            image = photograph(rng, SIDES)
            boxes = rng.integers(0, 100, (2, 4)).tolist()
            out.append(
                f"{k:04}.jpg", image, caption="x", objects=(boxes, [0, 1]), save={"quality": 90}
            )
    return path


def _case(name: str, work: Callable[[], object], per: float = 1, note: str = "") -> Case:
    return Case(name, lambda: seconds(work) / per, note)


def lines(report: Report) -> None:
    """Where the lines are, and how many."""
    path = metadata()
    refill(path)
    nbytes = path.stat().st_size
    gb = nbytes / 1e9
    data = path.read_bytes()
    n = data.count(b"\n")
    if len(Lines(Source(path))) != n:
        raise AssertionError("another number of lines")

    def by_mmap_find() -> None:
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
            begins, at = [0], m.find(b"\n") + 1
            while 0 < at < nbytes:
                begins.append(at)
                at = m.find(b"\n", at) + 1
            assert len(begins) == n

    def floor() -> None:
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
            assert m.find(b"\0") < 0  # memchr over all of a fresh mapping

    def each(loads: Callable[[bytes], object]) -> Callable[[], None]:
        def work() -> None:
            with open(path, "rb") as f:
                assert sum(1 for line in f if loads(line)) == n

        return work

    last = f"{n - 1:07}.jpg"
    cases = [
        _case("mapix", lambda: len(Lines(Source(path))), gb),
        _case("mapix, the first record by name", lambda: mapix.open(path)[last], gb),
        _case("memchr, nothing found", floor, gb),
        _case("numpy, == 10 and flatnonzero", lambda: np.flatnonzero(_bytes(path) == 10), gb),
        _case("bytes.splitlines", lambda: path.read_bytes().splitlines(), gb),
        _case("mmap.find in a loop", by_mmap_find, gb),
        _case("json, line by line", each(json.loads), gb),
    ]
    left_out = {}
    try:
        import orjson

        cases.append(_case("orjson, line by line", each(orjson.loads), gb))
    except ImportError:
        left_out["orjson, line by line"] = "not installed"
    report.table(
        f"lines of {n:,} records, a gigabyte",
        "ms",
        "memchr, nothing found",
        cases,
        [
            Goal("mapix", "below", 500),
            Goal("mapix, the first record by name", "faster", 3, "orjson, line by line"),
        ],
        left_out,
        rounds=min(report.rounds, 7),
    )


def _bytes(path: Path) -> np.ndarray:
    return np.memmap(path, np.uint8, "r")


DATASETS = """
import sys, tempfile, time
import datasets, numpy
datasets.disable_progress_bars()
with tempfile.TemporaryDirectory() as cache:
    began = time.perf_counter()
    where = {"data_dir": sys.argv[1], "split": "train", "cache_dir": cache}
    found = datasets.load_dataset("imagefolder", **where)
    numpy.asarray(found[0]["image"])
    print(time.perf_counter() - began)
"""


def _by_datasets(folder: Path) -> float | None:
    """Seconds of Hugging Face's reader, in a process of its own: a module here has its name."""
    command = [sys.executable, "-P", "-c", DATASETS, str(folder)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, check=False)
    return None if done.returncode else float(done.stdout.split()[-1])


def opening(report: Report) -> None:
    """From a path to the first record, of many and of few; to the last; to one by its name."""
    from PIL import Image

    folder, big = pictures(), metadata()
    n = len(mapix.open(folder))
    with mapix.open(big) as ds:
        last = len(ds) - 1
        name = ds[last].file_name

    def usual() -> None:
        with open(folder / "metadata.jsonl", encoding="utf-8") as f:
            found = [json.loads(line) for line in f]
        np.asarray(Image.open(folder / found[0]["file_name"]))

    cases = [
        _case("mapix, first picture", lambda: mapix.open(folder)[0].image),
        _case("mapix, first line of a large file", lambda: mapix.open(big)[0].metadata),
        _case("mapix, last line of it", lambda: mapix.open(big)[last].metadata),
        _case("mapix, a record of it by name", lambda: mapix.open(big)[name]),
        _case("json into a list, Pillow", usual),
    ]
    left_out = {}
    if importlib.util.find_spec("pyarrow") and _by_datasets(folder) is not None:
        run = lambda: _by_datasets(folder) or 0.0  # noqa: E731
        cases.append(Case("datasets' imagefolder", run, "its first time: it converts"))
    else:
        left_out["datasets' imagefolder"] = "not installed"
    report.table(
        f"image folder of {n} pictures, or {last + 1:,} lines: open",
        "ms",
        "json into a list, Pillow",
        cases,
        [Goal("mapix, first line of a large file", "below", 1)],
        left_out,
        rounds=min(report.rounds, 5),
    )


def batches(report: Report) -> None:
    """Decoded, covered, cut to 224 x 224, as normalised floats."""
    from PIL import Image, ImageOps

    folder = pictures()
    refill(folder)
    ds = mapix.open(folder)
    rows = np.random.default_rng(2).permutation(len(ds))[:B]
    paths = [folder / ds[int(r)].file_name for r in rows]
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (MEAN, STD))
    options: dict[str, Any] = {
        **{"dtype": "float32", "layout": "NCHW", "size": SIZE, "fit": "cover", "mode": "RGB"},
        **{"scale": 1 / 255, "mean": MEAN, "std": STD},
    }

    def one(path: Path) -> np.ndarray:
        image = Image.open(path).convert("RGB")
        image = ImageOps.fit(image, SIZE[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255)
        return (pixels - mean) / std

    def usual() -> np.ndarray:
        return np.stack([one(path) for path in paths])

    np.testing.assert_allclose(ds.batch(rows, **options).images, usual(), atol=1e-5)
    cases = [
        _case("mapix", lambda: ds.batch(rows, **options), B),
        _case("mapix, 2 threads", lambda: ds.batch(rows, threads=2, **options), B),
        _case("mapix, draft", lambda: ds.batch(rows, draft=True, **options), B),
        _case(
            "mapix, draft, 2 threads", lambda: ds.batch(rows, draft=True, threads=2, **options), B
        ),
        _case("Pillow and numpy, a loop", usual, B),
        _case("Pillow's decoding alone", lambda: [Image.open(p).load() for p in paths], B),
    ]
    left_out = {}
    try:
        import torch
        from torchvision import transforms as t

        torch.set_num_threads(1)
        turn = t.Compose(
            [t.Resize(SIZE[0]), t.CenterCrop(SIZE), t.ToTensor(), t.Normalize(MEAN, STD)]
        )
        work = lambda: torch.stack([turn(Image.open(p).convert("RGB")) for p in paths])  # noqa: E731
        cases.append(_case("torchvision, a loop", work, B))
    except ImportError:
        left_out["torchvision, a loop"] = "not installed"
    report.table(
        f"batch of {B} JPEGs of {SIDES[0]} x {SIDES[1]}, to 224 x 224 floats, a picture",
        "ms",
        "Pillow and numpy, a loop",
        cases,
        [Goal("mapix", "at most", 1.05, "Pillow and numpy, a loop")],
        left_out,
    )


def copies(report: Report) -> None:
    """A picture's file: mapped, or read, beneath the folder."""
    folder = pictures()
    ds = mapix.open(folder)
    records = [ds[k] for k in range(len(ds))]
    paths = [folder / r.file_name for r in records]  # parses all lines

    def work(do: Callable[[Any], object], things: list[Any]) -> Callable[[], None]:
        def run() -> None:
            for thing in things:
                do(thing)

        return run

    n = len(records)
    report.table(
        "bytes of a picture's file, opened each time",
        "us",
        "open(path).read()",
        [
            _case("mapix, record.bytes (mapped)", work(lambda r: r.bytes, records), n),
            _case("mapix, record.read()", work(lambda r: r.read(), records), n),
            _case("open(path).read()", work(lambda p: io.FileIO(p).read(), paths), n),
        ],
    )


def measure(report: Report, long: bool) -> None:
    """All of them."""
    del long
    lines(report)
    try:
        from PIL import Image  # noqa: F401
    except ImportError:
        report.show("\nimage folders: LEFT OUT: Pillow is not installed")
        return
    opening(report)
    copies(report)
    batches(report)
