"""Once a dataset, not once a batch: labels, conditions, writing, pickles, checksums."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

import mapix
from comparison.report import Goal, Report
from comparison.rounds import Case, seconds
from data_files import FOLDER, dataset, refill
from mapix import _native
from mapix.source import Source
from mapix.vimh import Parameter, Writer, layout

PARAMETERS = [Parameter("a", 0, min=0.0, max=1.0, step=0.1), Parameter("b", 1, min=0.0, max=1.0)]
BLOCK_NBYTES = 4 << 20
AGE_SECONDS = 0.06  # of a file whose index is stored


def _timed(name: str, work: Callable[[], object], note: str = "", per: float = 1) -> Case:
    return Case(name, lambda: seconds(work) / per, note)


def _faults() -> int:
    import resource

    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_minflt + found.ru_majflt


def labels(report: Report) -> None:
    """A column from a stored index, and a condition on two heads."""
    path = dataset("uniform")
    with mapix.open(path) as ds:
        names = list(ds.labels)[:2]
        n = len(ds)
        want = ds.labels[names[0]].codes.copy()  # read, and kept
    with mapix.open(path) as ds:
        if ds.index.columns is None:
            raise AssertionError("the labels were not kept")
        before = _faults()
        if not (ds.labels[names[0]].codes == want).all():
            raise AssertionError("stored labels are others")
        faults = _faults() - before
    column = np.empty(n, np.uint8)

    def stored() -> None:
        with mapix.open(path) as ds:
            np.copyto(column, ds.labels[names[0]].codes)

    plain = want.copy()
    pages = path.stat().st_size >> 12
    note = f"{faults} page faults for {n:,} labels; the file has {pages:,} pages"
    report.table(
        f"labels, {n:,} records: one column from a stored index, opening included",
        "us",
        "numpy copy of as many bytes",
        [
            _timed("mapix", stored, note),
            _timed("numpy copy of as many bytes", lambda: np.copyto(column, plain)),
        ],
    )
    with mapix.open(path) as ds:
        low, high = ds.labels[names[0]].by_code[[60, 200]]
        text = f"{names[0]} > {low} and {names[1]} <= {high}"
        a, b = (ds.labels[k] for k in names)
        pa, pb = a.physical.data, b.physical.data
        million = 1e6 / n
        report.table(
            "where on two heads, a million records",
            "ms",
            "numpy, on physical values at hand",
            [
                Case("mapix", lambda: seconds(lambda: ds.where(text)) * million),
                Case(
                    "numpy, on physical values at hand",
                    lambda: seconds(lambda: np.flatnonzero((pa > low) & (pb <= high))) * million,
                ),
            ],
            [Goal("mapix", "below", 5)],
        )


def writing(report: Report) -> None:
    """A dataset from arrays, against write() of the same bytes with one fsync."""
    n = int(os.environ.get("MAPIX_BENCH_RECORDS", "300000")) // 3
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 3, 32, 32), np.uint8).transpose(0, 2, 3, 1)
    codes = {"a": rng.integers(0, 256, n), "b": rng.integers(0, 256, n)}
    folder = Path(tempfile.mkdtemp(dir=FOLDER))

    def ours(**options: Any) -> None:
        shutil.rmtree(folder / "d", ignore_errors=True)
        with Writer(folder / "d", PARAMETERS, **options) as out:
            out.extend(images, codes=codes)

    try:
        ours()
        data = memoryview((folder / "d" / "train").read_bytes())

        def plain() -> None:
            (folder / "plain").unlink(missing_ok=True)
            fd = os.open(folder / "plain", os.O_CREAT | os.O_WRONLY)
            for at in range(0, len(data), BLOCK_NBYTES):
                os.write(fd, data[at : at + BLOCK_NBYTES])
            os.fsync(fd)
            os.close(fd)

        report.table(
            f"writing {len(data) / 1e6:.0f} MB, synced to disk",
            "ms",
            "write() and fsync()",
            [
                _timed("mapix", ours),
                _timed("mapix, with checksums", lambda: ours(index=True), "and a wait of 0.1 s"),
                _timed("write() and fsync()", plain),
            ],
            [
                Goal("mapix", "share", 0.7, "write() and fsync()"),
                Goal("mapix, with checksums", "share", 0.7, "write() and fsync()"),
            ],
        )
    finally:
        shutil.rmtree(folder)


def pickles(report: Report) -> None:
    """Path to first record of a pickled batch of 1 GB, against pickle.load."""
    n = int(os.environ.get("MAPIX_BENCH_RECORDS", "300000")) * 7 // 6
    path = FOLDER / f"pickled-{n}" / "train_batch"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        made = {
            "data": rng.integers(0, 256, (n, 3072), np.uint8),
            "vimh_labels": [[2, 0, i % 256, 1, 7 * i % 256] for i in range(n)],
            "scale_factors": np.zeros((n, 2), np.float32),
            **{"height": 32, "width": 32, "channels": 3, "image_size": 3072},
        }
        part = path.with_name("part")
        part.write_bytes(pickle.dumps(made, 4))
        part.rename(path)
    info = {"height": 32, "width": 32, "channels": 3, "parameter_names": ["a", "b"]}
    refill(path)

    def ours() -> None:
        with mapix.open(path, info=info) as ds:
            ds[n // 2].image.copy()

    def load() -> None:
        with path.open("rb") as f:
            pickle.load(f)

    def columns() -> None:
        with mapix.open(path, info=info) as ds:
            ds.labels["a"].codes.sum()

    report.table(
        f"a pickled batch of {path.stat().st_size / 1e9:.2f} GB: open and first record",
        "ms",
        "pickle.load",
        [
            _timed("mapix", ours),
            _timed("mapix, all labels", columns),
            _timed("pickle.load", load),
        ],
        [
            Goal("mapix", "faster", 1000, "pickle.load"),
            Goal("mapix, all labels", "below", 1),
        ],
    )


def growing(report: Report, kind: str) -> None:
    """Processor time to open a file of which the last per cent is new; its index is stored."""
    path = FOLDER / f"{kind}-growing.vimh"
    shutil.copyfile(dataset(kind), path)
    offsets = layout.walk(Source(path), 14).index.offsets()
    n = len(offsets) - len(offsets) // 100
    with path.open("rb") as f:
        f.seek(int(offsets[n]))
        new = f.read()

    def opened(index: Literal["auto", "rebuild"]) -> float:
        time.sleep(AGE_SECONDS)
        began = time.process_time()
        with mapix.open(path, info=False, index=index):
            return time.process_time() - began

    def complete() -> float:
        os.truncate(path, int(offsets[n]))
        return opened("rebuild")

    def grown() -> float:
        complete()
        with path.open("ab") as f:
            f.write(new)
        return opened("auto")

    whole = f"{kind}: a new index"
    report.table(
        f"processor time to open a file that grew by 1 %, {kind}",
        "ms",
        whole,
        [Case(f"{kind}: the new part", grown), Case(whole, complete)],
        [Goal(f"{kind}: the new part", "at most", 0.03, whole)],
    )
    path.unlink()


def scanning(report: Report) -> None:
    """Checksums and moments of all records, against a bare read of the same memory."""
    path = dataset("uniform")
    refill(path)
    with mapix.open(path) as ds:
        file, rows = ds._gatherer, np.arange(len(ds))
        sums, gb = np.empty(len(ds), np.uint32), path.stat().st_size / 1e9
        view = np.frombuffer(ds.source.view, np.uint64, path.stat().st_size // 8)
        report.table(
            "one scan of all records, 1 GB",
            "ms",
            "numpy sum of 8-byte words",
            [
                _timed(
                    "checksums",
                    lambda: file.native.checksums(ds.source.mapping, rows, sums),
                    per=gb,
                ),
                _timed(
                    "moments of the pixels",
                    lambda: file.native.moments(ds.source.mapping, rows, file.most_channels),
                    per=gb,
                ),
                _timed("numpy sum of 8-byte words", lambda: view.sum(), per=gb),
                _timed("CRC32C of all bytes", lambda: _native.crc32c(ds.source.view), per=gb),
            ],
            [Goal("checksums", "below", 200)],
        )


def measure(report: Report, long: bool) -> None:
    """All of them."""
    labels(report)
    writing(report)
    pickles(report)
    for kind in ("uniform", "mixed", *(["mixed7"] if long else [])):
        growing(report, kind)
    scanning(report)
