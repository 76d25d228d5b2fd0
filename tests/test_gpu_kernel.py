"""The GPU's kernel, compiled for the CPU: its batches are those of ``ds.batch``."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapix
from mapix import _native
from mapix.gpu.job import ELSEWHERE, FILE, Files, Job, Reason, described, file_cell
from mapix.loader import Plan
from slow_vimh import pack, record
from test_c_harness import CORE, compiler

SOURCE = CORE / "gpu" / "gather.cu"
FLAGS = ["-x", "c", "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZE = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
POISON = 0xA5
# as the kernel sees it: numbers of 64 bits have no sign
CELL = np.dtype([(n, np.uint64 if FILE[n] == np.int64 else FILE[n]) for n in FILE.names])


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("kernel") / "gather.so"
    command = [
        *compiler(),
        *FLAGS,
        *SANITIZE,
        "-shared",
        "-fPIC",
        str(SOURCE),
        "-lm",
        "-o",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode and "sanitize" in done.stderr:  # a compiler without its runtime
        command = [word for word in command if word not in SANITIZE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lib = ctypes.CDLL(str(out))
    lib.mapix_gather.argtypes = [ctypes.POINTER(Job), ctypes.c_uint64]
    lib.mapix_gather_job_nbytes.restype = ctypes.c_uint64
    assert lib.mapix_gather_job_nbytes() == ctypes.sizeof(Job)
    lib.mapix_gather_file_nbytes.restype = ctypes.c_uint64
    assert lib.mapix_gather_file_nbytes() == FILE.itemsize
    return lib


class Snapshot:
    """The bytes of a file at the very end of readable memory: a load too far is a fault."""

    def __init__(self, data: bytes) -> None:
        self.nbytes = len(data)
        page = mmap.PAGESIZE
        readable = -(-len(data) // page) * page
        self.memory = mmap.mmap(-1, readable + page)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mprotect(ctypes.c_void_p(self.base + readable), page, 0) == 0
        self.memory[: len(data)] = data


def gather(
    kernel: Any,
    placement: Any,
    rows: Any,
    *,
    data: bytes | None = None,
    bfloat16: bool = False,
    side: np.ndarray | None = None,
    nthreads: int = 7,
    fields: dict[str, int] | None = None,
) -> tuple[np.ndarray, np.ndarray | None, int]:
    """The kernel's batch, its rows of the side table, and what it reported as failed."""
    job = described(placement, bfloat16=bfloat16)
    table = np.array([file_cell(placement)], FILE)
    snapshot = Snapshot(bytes(placement.mapping.view) if data is None else data)
    rows = np.ascontiguousarray(rows, np.int64)
    out = np.dtype(np.uint16) if bfloat16 else placement.out
    # the end of the array is watched, too
    images = np.full((len(rows) + 1, *placement.shape), POISON, np.uint8).astype(out)
    images.view(np.uint8)[...] = POISON
    failed = ctypes.c_uint64(0)
    table["base"], table["nbytes"] = snapshot.base, snapshot.nbytes
    job.files, job.nfiles = table.ctypes.data, 1
    job.rows, job.nrows, job.images = rows.ctypes.data, len(rows), images.ctypes.data
    job.failed = ctypes.addressof(failed)
    entries = placement.entries
    if entries is not None:
        entries = np.ascontiguousarray(entries)
        table["entries"] = entries.ctypes.data
    if placement.affine is not None:
        job.affine = placement.affine.ctypes.data
    taken = None
    if side is not None:
        taken = np.empty((len(rows), *side.shape[1:]), side.dtype)
        job.side, job.side_out = side.ctypes.data, taken.ctypes.data
        job.side_nbytes = side.nbytes // len(side)
    for name, value in (fields or {}).items():
        if name in FILE.names:
            table.view(CELL)[name] = value
        else:
            setattr(job, name, value)
    kernel.mapix_gather(ctypes.byref(job), nthreads)
    assert (images[-1:].view(np.uint8) == POISON).all(), "written behind the batch"
    return images[:-1], taken, failed.value


def vimh(tmp_path: Path, records: list[Any], **options: Any) -> Any:
    path = tmp_path / "train"
    path.write_bytes(pack(records))
    return mapix.open(path, dialect=14 if records[0].spec else 6, **options)


def same(kernel: Any, ds: Any, rows: Any, **options: Any) -> None:
    want = (
        ds.batch(rows, labels=None, **options).images
        if "pad" in options or hasattr(ds, "parameters")
        else ds.batch(rows, **options).images
    )
    got, _, failed = gather(kernel, ds.placement(**options), rows)
    assert failed == 0
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()


OPTIONS = [
    {},
    {"layout": "NCHW"},
    {"dtype": "float32", "layout": "NCHW", "scale": 1 / 255, "mean": 0.4, "std": 0.3},
    {"dtype": "float32", "layout": "NHWC", "scale": 1 / 255},
    {"dtype": "float16", "layout": "NCHW", "mean": 7.0, "std": 1e-5},
    {"dtype": "float16", "layout": "NHWC"},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("head", [6, 14])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 4, 3), (5, 7, 3), (16, 16, 1), (9, 31, 4)])
def test_records_that_are_alike(kernel, tmp_path, shape, head, interleaved, options):
    records = [record(*shape, [(0, i)] * (i % 1 + 1), head=head, seed=i) for i in range(9)]
    kwargs = {"order": "HWC"} if interleaved else {}
    ds = vimh(tmp_path, records, **kwargs)
    same(kernel, ds, [3, 0, 8, 8, 5], **options)


SIDES = st.integers(1, 40)
RECORDS = st.lists(st.tuples(SIDES, SIDES, st.integers(1, 4)), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    shapes=RECORDS,
    canvas=st.tuples(SIDES, SIDES),
    extra=st.integers(0, 2),
    crop=st.sampled_from(["centre", "corner", True]),
    options=st.sampled_from(OPTIONS),
    pad_value=st.sampled_from([0.0, 3.0, 255.0]),
    seed=st.integers(0, 99),
    nthreads=st.integers(1, 40),
)
def test_records_of_mixed_sizes(
    kernel, tmp_path_factory, shapes, canvas, extra, crop, options, pad_value, seed, nthreads
):
    records = [record(*s, [(1, i)] * (i % 3), seed=seed + i) for i, s in enumerate(shapes)]
    ds = vimh(tmp_path_factory.mktemp("mixed"), records)
    most = max(c for _, _, c in shapes)
    rows = np.random.default_rng(seed).integers(0, len(records), 6)
    options = {**options, "pad": (*canvas, most + extra), "crop": crop, "pad_value": pad_value}
    want = ds.batch(rows, labels=None, **options).images
    got, _, failed = gather(kernel, ds.placement(**options), rows, nthreads=nthreads)
    assert failed == 0
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", [">f8", "<f8", ">f4", "<i4", ">i4", ">i2", "|i1", "|u1"])
@pytest.mark.parametrize("shape", [(11, 3), (5, 7, 3), (6, 1), (4, 2, 3, 5)])
def test_arrays_in_both_byte_orders(kernel, tmp_path, dtype, shape):
    path = tmp_path / "x.idx"
    numbers = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    order = ">" if dtype.startswith((">", "|")) else "<"
    with mapix.idx.Writer(path, dtype, shape[1:], byteorder=order) as out:
        out.extend(numbers)
    ds = mapix.open(path)
    same(kernel, ds, [3, 0, 2, 2])


@pytest.mark.parametrize(
    "options", [{}, {"dtype": "float32", "scale": 1 / 255}, {"dtype": "float16"}]
)
def test_bytes_of_an_array_become_floats(kernel, tmp_path, options):
    path = tmp_path / "x-images-idx3-ubyte"
    with mapix.idx.Writer(path, "u1", (28, 28)) as out:
        out.extend(np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8))
    same(kernel, mapix.open(path), [19, 3, 0], **options)


def test_every_byte_as_float16_and_bfloat16(kernel, tmp_path):
    torch = pytest.importorskip("torch")
    records = [record(16, 16, 1, [], seed=0)]
    records[0].image = bytes(range(256))
    ds = vimh(tmp_path, records)
    for mean, std in [(0, 1), (3.5, 1e-3), (0, 3e6), (127.3, 1e9), (128, 1e-30), (9, 7e4)]:
        options = {"dtype": "float32", "mean": mean, "std": std}
        want = torch.from_numpy(ds.batch([0], **options).images)
        got, _, _ = gather(kernel, ds.placement(**options), [0], bfloat16=True)
        assert (got.view(np.int16) == want.to(torch.bfloat16).view(torch.int16).numpy()).all()
        got, _, _ = gather(kernel, ds.placement(**{**options, "dtype": "float16"}), [0])
        assert got.tobytes() == want.to(torch.float16).numpy().tobytes()


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=9),
    mixed=st.lists(st.booleans(), min_size=9, max_size=9),
    heads=st.lists(st.sampled_from([6, 14]), min_size=9, max_size=9),
    seed=st.integers(0, 99),
)
def test_records_of_several_files(kernel, tmp_path_factory, sizes, mixed, heads, seed):
    """Each file has its own index or stride, header and order of channels."""
    folder, parts, packed = tmp_path_factory.mktemp("files"), [], []
    for k, (n, by_index, head) in enumerate(zip(sizes, mixed, heads, strict=False)):
        shapes = [(3 + i % 4 if by_index else 5, 6, 3) for i in range(n)]
        records = [
            record(*s, [(0, i)] * (1 + i % 2 * by_index), head=head, seed=seed + 9 * k + i)
            for i, s in enumerate(shapes)
        ]
        packed.append([each.pack() for each in records])
        (folder / str(k)).write_bytes(pack(records))
        order = {"order": "HWC"} if k % 2 else {}
        parts.append(mapix.open(folder / str(k), dialect=head, **order))
    options = {"pad": (5, 7, 3), "crop": True, "dtype": "float32", "std": 2.0}
    placements = [part.placement(**options) for part in parts]
    begins = np.cumsum([0, *sizes])
    together = replace(
        placements[0],
        nrecords=int(begins[-1]),
        parts=tuple(zip(begins.tolist(), placements, strict=False)),
    )
    files = Files(together)
    snapshots = [Snapshot(bytes(p.mapping.view)) for p in placements]
    entries = [None if p.entries is None else np.ascontiguousarray(p.entries) for p in placements]
    files.table["base"] = [snapshot.base for snapshot in snapshots]
    files.table["entries"] = [0 if e is None else e.ctypes.data for e in entries]
    rows = np.random.default_rng(seed).permutation(int(begins[-1]))
    which = files.of(rows)
    assert which.tolist() == [int(np.flatnonzero(begins <= row)[-1]) for row in rows]
    inner = rows - begins[which]
    want = [
        parts[k].batch([i], labels=None, **options).images[0]
        for k, i in zip(which, inner, strict=True)
    ]
    fields = {"files": files.table.ctypes.data, "nfiles": len(parts)}
    side = np.arange(int(begins[-1]))
    got, taken, failed = gather(kernel, together, rows, fields=fields, side=side)
    assert failed == 0
    assert got.tobytes() == np.array(want).tobytes()
    assert taken.tolist() == rows.tolist()
    for k, i, begin, end in zip(which, inner, *files.spans(rows, which), strict=True):
        assert placements[k].mapping.view[begin:end] == packed[k][i]
    assert gather(kernel, together, [int(begins[-1])], fields=fields)[2] == Reason.ROW


def test_rows_of_a_table_go_along(kernel, tmp_path):
    ds = vimh(tmp_path, [record(2, 2, 1, [(0, i)], seed=i) for i in range(10)])
    side = np.random.default_rng(0).integers(0, 1000, (10, 3))
    _, taken, failed = gather(kernel, ds.placement(), [9, 0, 4], side=side)
    assert failed == 0
    assert (taken == side[[9, 0, 4]]).all()


@given(
    n=st.integers(1, 60),
    batch=st.integers(1, 9),
    world=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_the_order_is_that_of_the_plan(kernel, tmp_path_factory, n, batch, world, data):
    path = tmp_path_factory.mktemp("order") / "x.idx"
    with mapix.idx.Writer(path, "<i4", (1,), byteorder="<") as out:
        out.extend(np.arange(100, dtype=np.int32).reshape(100, 1))
    start, step = data.draw(st.integers(0, 39)), data.draw(st.sampled_from([1, -1]))
    part = mapix.open(path)[start : start + n][::step]
    kind = data.draw(st.sampled_from(["range", "table"]))
    if kind == "table":
        part = part[np.random.default_rng(n).integers(0, n, n)]
    rank, epoch = data.draw(st.integers(0, world - 1)), data.draw(st.integers(0, 3))
    plan = Plan(n, batch, seed=7, rank=rank, world=world, drop_last=True)
    nbatches = plan.nbatches()
    position = data.draw(st.integers(0, nbatches)) * plan.step
    nbatches = plan.nbatches(position)
    rows = plan.rows_of(epoch, position, nbatches)
    network = _native.permute_network(n, plan.key(epoch))
    placement = part.placement()
    table = np.ascontiguousarray(placement.rows) if kind == "table" else None
    fields = {
        "rows": 0 if table is None else table.ctypes.data,
        "order_n": n,
        "order_begin": position + rank * batch,
        "order_batch": batch,
        "order_step": plan.step,
        "order": network.ctypes.data,
    }
    if table is None:
        fields |= {"part_first": placement.rows.start, "part_step": placement.rows.step}
    got, _, failed = gather(kernel, placement, np.zeros(len(rows)), fields=fields)
    assert failed == 0
    assert (got == np.asarray(part)[rows]).all()
    if len(rows):  # positions after the end of the order
        fields["order_begin"] = n
        assert gather(kernel, placement, np.zeros(1), fields=fields)[2] == Reason.ROW


# --- what is refused ------------------------------------------------------------------------------


def refused(kernel: Any, ds: Any, rows: Any, **more: Any) -> tuple[int, Reason]:
    _, _, failed = gather(kernel, ds.placement(**more.pop("options", {})), rows, **more)
    assert failed
    return failed >> 8, Reason(failed & 255)


def test_rows_out_of_range(kernel, tmp_path):
    ds = vimh(tmp_path, [record(2, 2, 1, [], seed=i) for i in range(4)])
    for bad in (4, -1, -5, 1 << 62, ELSEWHERE + 1):
        assert refused(kernel, ds, [0, 1, bad]) == (2, Reason.ROW)


def test_positions_that_another_launch_writes(kernel, tmp_path):
    ds = vimh(tmp_path, [record(2, 2, 1, [], seed=i) for i in range(4)])
    side = np.arange(4)
    images, taken, failed = gather(kernel, ds.placement(), [3, ELSEWHERE, 1], side=side)
    assert failed == 0
    assert (images[[0, 2]] == ds.batch([3, 1]).images).all()
    assert (images[1] == POISON).all()
    assert taken[[0, 2]].tolist() == [3, 1]


def test_records_that_leave_the_file(kernel, tmp_path):
    ds = vimh(tmp_path, [record(3, 5, 1, [], seed=i) for i in range(4)])
    data = bytes(ds.source.view)
    assert refused(kernel, ds, [3], data=data[:-1]) == (0, Reason.SPAN)
    assert gather(kernel, ds.placement(), [2], data=data[:-1])[2] == 0
    for fields in (
        {"stride": 1 << 62},
        {"first_at": 1 << 63},
        {"first_at": len(data) + 1},
        {"record_h": 0xFFFFFFFF, "record_w": 0xFFFFFFFF, "record_c": 0xFFFFFFFF},
        {"nlabels": 255},
    ):
        assert refused(kernel, ds, [3], fields=fields) == (0, Reason.SPAN)


def test_entries_that_lie(kernel, tmp_path):
    ds = vimh(tmp_path, [record(2 + i, 3, 1, [], seed=i) for i in range(4)])
    options = {"pad": (5, 3)}
    placement = ds.placement(**options)
    good = placement.entries.copy()
    for row, field, value, reason in [
        (0, "at_n", (1 << 56) - 1, Reason.SPAN),
        (0, "h", 65535, Reason.SPAN),
        (1, "h", 2, Reason.HEADER),
        (1, "at_n", good["at_n"][1] + (1 << 56), Reason.HEADER),
        (1, "at_n", good["at_n"][2], Reason.HEADER),
    ]:
        bad = good.copy()
        bad[field][row] = value
        lying = type(placement)(
            **{k: getattr(placement, k) for k in placement.__dataclass_fields__} | {"entries": bad}
        )
        _, _, failed = gather(kernel, lying, [row])
        assert (failed >> 8, Reason(failed & 255)) == (0, reason), (row, field)


def test_records_that_do_not_fit_the_canvas(kernel, tmp_path):
    ds = vimh(tmp_path, [record(2 + i, 3, 1, [], seed=i) for i in range(4)])
    assert refused(kernel, ds, [0, 3], options={"pad": (4, 3)}) == (1, Reason.SHAPE)
    with pytest.raises(ValueError, match="does not fit"):
        ds.batch([0, 3], pad=(4, 3))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_job_reads_or_writes_out_of_bounds(kernel, tmp_path_factory, data):
    """Any description of records: the guard page and the sanitizer watch."""
    folder = tmp_path_factory.mktemp("hostile")
    ds = vimh(folder, [record(2 + i % 2, 3, 1, [(0, i)], seed=i) for i in range(4)])
    placement = ds.placement(pad=(4, 4, 2), crop=True)
    wide = st.one_of(st.integers(0, 80), st.sampled_from([1 << 16, 1 << 31, (1 << 32) - 1]))
    huge = st.one_of(st.integers(0, 200), st.integers(0, (1 << 64) - 1))
    fields = {name: data.draw(wide) for name in ("record_h", "record_w", "record_c", "nlabels")}
    fields |= {name: data.draw(huge) for name in ("first_at", "stride", "nrecords")}
    fields["head_nbytes"] = data.draw(st.sampled_from([0, 6, 14]))
    fields["interleaved"] = data.draw(st.integers(0, 1))
    fields["fit"] = data.draw(st.integers(0, 7))
    fields["swap"] = data.draw(st.sampled_from([1, 2, 4, 8]))
    if data.draw(st.booleans()):
        fields["entries"] = 0
    else:
        fields["nrecords"] = min(fields["nrecords"], 4)
    rows = data.draw(
        st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-5, 5), max_size=3)
    )
    gather(kernel, placement, rows, fields=fields)


def test_the_ptx_is_there_and_made_for_old_drivers():
    text = (Path(mapix.__file__).parent / "gpu" / "gather.ptx").read_text()
    assert ".target sm_70" in text
    assert ".entry mapix_gather" in text
