"""The plain C references (reference.c), compiled at run time for the machine at hand."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import mmap
import os
import platform
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

from data_files import FOLDER

HERE = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra")
ENTRY = np.dtype([("at", "<u8"), ("h", "<u2"), ("w", "<u2"), ("c", "<u2"), ("n", "<u2")])
CHAINS = 16

CDEF = """
typedef struct { uint64_t at; uint16_t h, w, c, n; } entry;
typedef struct { const uint8_t *base; uint64_t stride; uint32_t nlabels, c, plane; } uniform_file;
uint64_t ref_hop(const uint8_t *base, uint64_t nbytes, entry *out);
void ref_chains(const uint8_t *base, const uint64_t *first, const uint64_t *starts, entry *out);
uint64_t ref_lines(const uint8_t *base, const uint64_t *at, uint64_t stride, uint64_t n);
void ref_copy(const uint8_t *base, uint64_t stride, uint64_t skip, uint64_t nbytes,
              const int64_t *rows, uint64_t n, uint8_t *to);
void ref_gather(const uniform_file *f, const int64_t *rows, uint64_t n, uint8_t *images,
                uint8_t *labels);
void ref_gather_float(const uniform_file *f, const int64_t *rows, uint64_t n, const float *affine,
                      float *images, uint8_t *labels);
uint64_t ref_flat_nbytes(const entry *entries, const int64_t *rows, uint64_t n);
void ref_gather_flat(const uint8_t *base, const entry *entries, const int64_t *rows, uint64_t n,
                     uint8_t *images, uint64_t *begins, uint8_t *labels);
uint64_t ref_pread(int fd, const entry *entries, const int64_t *rows, uint64_t n,
                   unsigned nthreads);
"""

ffi = FFI()
ffi.cdef(CDEF)


def missing() -> str | None:
    """Why there are no references; None if there are."""
    try:
        loaded()
    except (OSError, subprocess.CalledProcessError) as e:
        return f"reference.c does not compile: {e}"
    return None


def compiled(source: str, suffix: str, *flags: str) -> Path:
    """The shared object made of a C file, made anew when source, flags or machine change."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or "cc"
    text = (HERE / source).read_bytes()
    # -march=native: a data folder may be shared by machines that are not alike
    cpu = Path("/proc/cpuinfo")
    model = cpu.read_text().split("\n\n")[0] if cpu.exists() else platform.processor()
    model = "".join(line for line in model.splitlines() if line.startswith(("model", "flags")))
    key = hashlib.blake2b(
        b"\0".join([text, compiler.encode(), " ".join(flags).encode(), model.encode()]),
        digest_size=8,
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{Path(source).stem}-{key.hexdigest()}{suffix}"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        command = [compiler, *FLAGS, *flags, str(HERE / source), "-o", str(part)]
        subprocess.run(command, check=True)
        part.rename(path)
    return path


@functools.cache
def loaded() -> Any:
    """The functions of reference.c; calling one releases the GIL."""
    return ffi.dlopen(str(compiled("reference.c", ".so")))


def pointer(kind: str, array: NDArray[Any]) -> Any:
    """A C pointer to an array; keeps it alive."""
    return ffi.from_buffer(kind, array)


def hop(data: Any) -> NDArray[np.void]:
    """The index of a mapped file, by one pointer."""
    base = ffi.from_buffer("uint8_t[]", data)
    entries = np.empty(len(base) // 64 + 1, ENTRY)  # pages that stay untouched cost nothing
    n = loaded().ref_hop(base, len(base), ffi.from_buffer("entry[]", entries))
    if not n and len(base):
        raise ValueError("the records do not tile the file")
    return entries[:n]


def chains(data: Any, first: NDArray[np.uint64], starts: NDArray[np.uint64]) -> NDArray[np.void]:
    """The index of a mapped file, by 16 pointers that begin at known records."""
    entries = np.empty(int(first[CHAINS]), ENTRY)
    loaded().ref_chains(
        ffi.from_buffer("uint8_t[]", data),
        ffi.from_buffer("uint64_t[]", first),
        ffi.from_buffer("uint64_t[]", starts),
        ffi.from_buffer("entry[]", entries),
    )
    return entries


def lines(data: Any, at: NDArray[np.uint64] | None, stride: int, n: int) -> int:
    """Load the first line of each record of a mapped file."""
    where = ffi.NULL if at is None else ffi.from_buffer("uint64_t[]", at)
    return int(loaded().ref_lines(ffi.from_buffer("uint8_t[]", data), where, stride, n))


@functools.cache
def views_module() -> Any:
    """The extension module of reference_views.c."""
    headers = (f"-I{sysconfig.get_paths()['include']}", f"-I{np.get_include()}")
    path = compiled("reference_views.c", sysconfig.get_config_var("EXT_SUFFIX"), *headers)
    spec = importlib.util.spec_from_file_location("reference_views", path)
    if spec is None or spec.loader is None:
        raise OSError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def _uring() -> Any:
    other = FFI()
    other.cdef(
        "typedef struct { uint64_t at; uint16_t h, w, c, n; } entry;"
        "int64_t ref_uring(int fd, const uint8_t *map, const entry *entries, const int64_t *rows,"
        "                  uint64_t n, unsigned depth);"
    )
    return other, other.dlopen(str(compiled("reference_uring.c", ".so")))


def read_threads(
    path: Path, entries: NDArray[np.void], rows: NDArray[np.int64], nthreads: int
) -> float:
    """Seconds that many threads take to pread those records, readahead off."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        table, numbers = pointer("entry[]", entries), pointer("int64_t[]", rows)
        began = time.perf_counter()
        got = loaded().ref_pread(fd, table, numbers, len(rows), nthreads)
        took = time.perf_counter() - began
    finally:
        os.close(fd)
    if not got:
        raise OSError(f"{path}: nothing was read")
    return took


def read_uring(
    path: Path,
    entries: NDArray[np.void],
    rows: NDArray[np.int64],
    depth: int,
    how: str = "direct",
) -> float:
    """Seconds that io_uring takes to read those records.

    ``direct``: past the page cache; ``buffered``: through it; ``advised``: only into it.
    """
    other, lib = _uring()
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if how == "direct" else 0))
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        table, numbers = other.from_buffer("entry[]", entries), other.from_buffer("int64_t[]", rows)
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as file:
            view = other.from_buffer("uint8_t[]", file)
            given = view if how == "advised" else other.NULL
            began = time.perf_counter()
            got = lib.ref_uring(fd, given, table, numbers, len(rows), depth)
            took = time.perf_counter() - began
            other.release(view)
    finally:
        os.close(fd)
    if got <= 0:
        raise OSError(-got, f"io_uring: {os.strerror(-got)}")
    return took
