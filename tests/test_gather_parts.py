"""Batches cut into parts for threads: every row, and nothing but the rows, is written.

Each output is larger than it has to be and poisoned before each call, so that a row that a part
leaves out, or writes past its end, is seen.  What is expected is sliced out of arrays that numpy
made of all records, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix import _native
from mapix._native.core import lib
from mapix.source import Source
from slow_vimh import Slow, pack, record

N = 256
SIZES = range(8, 201)
THREADS = (1, 2, 3, 4)
POISON = 0xA5
GUARD = 3  # rows behind the last one


def poisoned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    array = np.empty(shape, dtype)
    array.view(np.uint8).fill(POISON)
    return array


def batches() -> Iterator[tuple[np.ndarray, int]]:
    """Rows of every size, any order, negative and repeated ones among them; and threads."""
    rng = np.random.default_rng(0)
    for n in SIZES:
        for threads in THREADS:
            yield rng.integers(-N, N, n), threads
    for n in (1, 7, 1023, 1024, 1025):
        for threads in (1, 2, 15, 16, 17, 1 << 20):
            yield rng.integers(-N, N, n), threads


def opened(folder: Path, records: list[Slow]) -> mapix.vimh.Dataset:
    path = folder / "train"
    path.write_bytes(pack(records))
    return mapix.open(path, dialect=14, index="never")


def uniform() -> list[Slow]:
    return [record(4, 5, 3, [(0, i % 256), (7, i * 7 % 256)], seed=i) for i in range(N)]


def mixed() -> list[Slow]:
    """Records of many sizes, and of no label, one, or both."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 7, (N, 2)).tolist()
    labels = [[], [(0, 9)], [(7, 1), (0, 2)]]
    return [record(h, w, 3, labels[i % 3], seed=i) for i, (h, w) in enumerate(sizes)]


def planes(records: list[Slow], h: int, w: int, fill: int) -> np.ndarray:
    """All images as (N, h, w, 3), what is too large cut off at the right and the bottom."""
    out = np.full((len(records), h, w, 3), fill, np.uint8)
    for image, r in zip(out, records, strict=True):
        part = r.hwc()[:h, :w]
        image[: part.shape[0], : part.shape[1]] = part
    return out


def check(got: np.ndarray, want: np.ndarray, rows: np.ndarray, threads: int) -> None:
    n = len(rows)
    case = (n, threads)
    np.testing.assert_array_equal(got[:n], want[rows], err_msg=str(case))
    assert (got[n:].view(np.uint8) == POISON).all(), case
    got.view(np.uint8).fill(POISON)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("kind", ["uniform", "padded", "cropped"])
def test_images(tmp_path: Path, kind: str, layout: str, dtype: str) -> None:
    records = uniform() if kind == "uniform" else mixed()
    h, w, fill = {"uniform": (4, 5, 0), "padded": (6, 6, 33), "cropped": (1, 1, 0)}[kind]
    want = planes(records, h, w, fill)
    options: dict = {"uniform": {}, "padded": {"pad": (h, w), "pad_value": fill}}.get(
        kind, {"crop": "corner"}
    )
    if kind == "cropped":
        options["pad"] = (h, w)
    if layout == "NCHW":
        want = want.transpose(0, 3, 1, 2)
    if dtype != "uint8":  # numbers that are exact in either type
        options |= {"scale": 0.5, "mean": -1.0}
        want = (want * 0.5 + 1).astype(dtype)
        options["pad_value"] = fill * 0.5 + 1
    want = np.ascontiguousarray(want)
    with opened(tmp_path, records) as ds:
        out = poisoned((1025 + GUARD, *want.shape[1:]), dtype)
        for rows, threads in batches():
            ds.batch(rows, out=out, threads=threads, dtype=dtype, layout=layout, **options)
            check(out, want, rows, threads)


def test_flat_images(tmp_path: Path) -> None:
    records = mixed()
    with opened(tmp_path, records) as ds:
        out = poisoned((1025 * 6 * 6 * 3 + GUARD,), "uint8")
        for rows, threads in batches():
            want = b"".join(records[i].image for i in rows)
            end = len(want)
            batch = ds.batch(rows, flat=True, out=out, threads=threads)
            assert batch.images.tobytes() == want, (len(rows), threads)
            ends = np.cumsum([len(records[i].image) for i in rows])
            assert batch.offsets.tolist() == [0, *ends]
            assert (out[end:] == POISON).all(), (len(rows), threads)
            out.fill(POISON)


@pytest.mark.parametrize("head", [14, 6])
def test_labels_shapes_and_ranges(tmp_path: Path, head: int) -> None:
    """What is gathered beside the images: in C alone, for a batch makes those arrays itself."""
    records = mixed()
    for i, r in enumerate(records):
        r.spec = (float(i), -float(i)) if head == 14 else None
    path = tmp_path / "train"
    path.write_bytes(pack(records))
    ds = mapix.open(path, dialect=head, index="never")
    codes, present = np.zeros((N, 2), np.uint8), np.zeros((N, 2), np.uint8)
    for i, r in enumerate(records):
        for number, code in r.pairs:
            column = int(number != 0)
            codes[i, column], present[i, column] = code, 1
    shapes = np.array([[r.h, r.w, r.c] for r in records], np.uint16)
    nothing = (np.nan, np.nan)
    ranges = np.array([nothing if r.spec is None else r.spec for r in records], np.float32)
    columns = np.full(256, -1, np.int16)
    columns[[0, 7]] = 0, 1
    plan = _native.new_gather()
    plan.dtype, plan.ncolumns = lib.MAPIX_U8, 2
    most = 1025 + GUARD
    outputs = (
        (poisoned((most, 2), "uint8"), codes, "labels", "uint8_t *"),
        (poisoned((most, 2), "uint8"), present, "present", "uint8_t *"),
        (poisoned((most, 3), "uint16"), shapes, "shapes", "uint16_t *"),
        (poisoned((most, 2), "float32"), ranges, "spec_range", "float *"),
    )
    keep = [_native.constant(columns, "int16_t[]")]
    plan.columns = keep[0]
    for array, _, name, kind in outputs:
        keep.append(_native.writable(array))
        setattr(plan, name, _native.cast(kind, keep[-1]))
    for rows, threads in batches():
        plan.nthreads = threads
        ds._gatherer.native.gather(ds.source.mapping, rows, plan)
        for array, want, _, _ in outputs:
            check(array, want, rows, threads)
    ds.close()


@pytest.mark.parametrize(
    ("row_nbytes", "swap"),
    [(1, 1), (24, 1), (24, 2), (24, 4), (24, 8), (120, 2), (120, 4), (120, 8)],
)
def test_rows_of_an_array(tmp_path: Path, row_nbytes: int, swap: int) -> None:
    path = tmp_path / "f"
    at = 5
    data = np.random.default_rng(2).integers(0, 256, at + N * row_nbytes, np.uint8)
    path.write_bytes(data.tobytes())
    source = Source(str(path))
    numbers = data[at:].reshape(N, row_nbytes // swap, swap)
    want = np.ascontiguousarray(numbers[:, :, ::-1].reshape(N, row_nbytes))
    array = _native.Array(at=at, row_nbytes=row_nbytes, nrows=N, swap=swap)
    out = poisoned((1025 + GUARD, row_nbytes), "uint8")
    for rows, threads in batches():
        array.gather(source.mapping, rows, out, threads)
        check(out, want, rows, threads)
    source.close()
