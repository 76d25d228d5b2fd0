"""Calls of the CUDA driver through ctypes alone, to a library of C that checks what it is given."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import threading
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.gpu import driver
from mapix.gpu.job import Job, described
from mapix.source import Source
from test_c_harness import compiler

PAGE = mmap.PAGESIZE
DRIVER = r"""
#include <stddef.h>
#include <string.h>

/* The prototypes are those of cuda.h, with CUresult as int, and CUdeviceptr as an integer. */
static struct { void *at; size_t nbytes; unsigned flags; } registered[16];
int nregistered, ninits, status_of_next;
unsigned long long launched_stream;
unsigned launched_grid[7];
unsigned char launched_job[512];
size_t job_nbytes;
static int module_, function_;

static int answer(void) { const int status = status_of_next; status_of_next = 0; return status; }

int cuInit(unsigned flags) { ninits++; return flags ? 1 : answer(); }
int cuGetErrorName(int error, const char **name) {
    *name = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : NULL;
    return *name ? 0 : 1;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 113 && device == 3;
    return answer();
}
int cuMemHostRegister_v2(void *at, size_t nbytes, unsigned flags) {
    if (answer()) return 2;
    registered[nregistered].at = at, registered[nregistered].nbytes = nbytes;
    registered[nregistered++].flags = flags;
    return flags == 11 && nbytes % 4096 == 0 && (size_t)at % 4096 == 0 ? 0 : 1;
}
int cuMemHostUnregister(void *at) {
    if (!nregistered || registered[nregistered - 1].at != at) return 1;
    nregistered--;
    return 0;
}
int cuMemHostGetDevicePointer_v2(unsigned long long *out, void *at, unsigned flags) {
    *out = (unsigned long long)(size_t)at + (1ull << 45);
    return flags ? 1 : answer();
}
size_t registered_nbytes(int k) { return registered[k].nbytes; }
int cuModuleLoadData(void **module, const void *image) {
    *module = &module_;
    return strstr(image, ".entry mapix_gather") && strstr(image, ".target sm_70") ? 0 : 1;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = &function_;
    return module == &module_ && !strcmp(name, "mapix_gather") ? 0 : 1;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **parameters, void **extra) {
    const unsigned grid[7] = {gx, gy, gz, bx, by, bz, shared};
    memcpy(launched_grid, grid, sizeof grid);
    launched_stream = (unsigned long long)(size_t)stream;
    memcpy(launched_job, parameters[0], job_nbytes);
    return function == &function_ && !extra ? answer() : 1;
}
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    out = folder / "libcuda.so.1"
    command = [*compiler(), "-shared", "-fPIC", str(folder / "driver.c"), "-o", str(out)]
    subprocess.run(command, check=True, timeout=120)
    return out


@pytest.fixture
def lib(library, monkeypatch) -> Any:
    opened = ctypes.CDLL(str(library))

    def cdll(name: str) -> Any:
        assert name == "libcuda.so.1"
        return opened

    monkeypatch.setattr(driver.ctypes, "CDLL", cdll)
    driver.load.cache_clear()
    yield opened
    driver.load.cache_clear()
    assert number(opened, "nregistered") == 0


def number(lib: Any, name: str, kind: Any = ctypes.c_int) -> int:
    return int(kind.in_dll(lib, name).value)


def fail(lib: Any, status: int = 2) -> None:
    ctypes.c_int.in_dll(lib, "status_of_next").value = status


def test_a_driver_that_is_not_there_or_does_not_start(lib, monkeypatch):
    fail(lib)
    with pytest.raises(mapix.UnsupportedError, match="does not start: CUDA_ERROR_OUT_OF_MEMORY"):
        driver.load()
    fail(lib, 999)
    with pytest.raises(mapix.UnsupportedError, match="does not start: error 999"):
        driver.load()
    before = number(lib, "ninits")
    assert driver.load() is driver.load()
    assert number(lib, "ninits") == before + 1

    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(driver.ctypes, "CDLL", missing)
    driver.load.cache_clear()
    with pytest.raises(mapix.UnsupportedError, match=r"no CUDA driver: libcuda\.so\.1"):
        driver.load()


def test_the_attribute_of_a_device(lib):
    assert driver.reads_host_memory(3)
    assert not driver.reads_host_memory(0)


def test_pages_are_registered_once_and_shared(lib, tmp_path):
    (tmp_path / "x").write_bytes(bytes(3 * PAGE + 1))
    mapping = Source(tmp_path / "x").mapping
    first = driver.Registered(mapping, PAGE, 3 * PAGE)
    assert first.shift == 1 << 45
    size = lib.registered_nbytes
    size.restype = ctypes.c_size_t
    assert size(0) == 3 * PAGE
    second = driver.Registered(mapping, PAGE, 3 * PAGE)
    assert number(lib, "nregistered") == 1
    first.close()
    first.close()
    assert number(lib, "nregistered") == 1
    second.close()
    assert number(lib, "nregistered") == 0
    fail(lib)
    with pytest.raises(driver.DriverError, match="cuMemHostRegister_v2: CUDA_ERROR_OUT_OF_MEMORY"):
        driver.Registered(mapping, 0, PAGE)
    driver.Registered(mapping, 0, PAGE).close()  # the failure left no user


def test_threads_share_registrations(lib, tmp_path):
    (tmp_path / "x").write_bytes(bytes(PAGE))
    mapping = Source(tmp_path / "x").mapping

    def work() -> None:
        for _ in range(300):
            driver.Registered(mapping, 0, PAGE).close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert driver.Registered._users == {}


def test_a_launch(lib, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 32, 32, 3), np.uint8))
    ctypes.c_size_t.in_dll(lib, "job_nbytes").value = ctypes.sizeof(Job)
    job = described(mapix.open(tmp_path / "x.npy").placement())
    kernel = driver.Kernel()
    stream = 0x7FFF12345678
    for nrows, blocks_y in ((5, 5), (70_000, 65_535)):
        job.nrows, job.rows = nrows, (1 << 47) + 8
        kernel.launch(job, stream)
        grid = (ctypes.c_uint * 7).in_dll(lib, "launched_grid")
        assert list(grid) == [1, blocks_y, 1, 192, 1, 1, 0]  # 192 threads of 16 bytes: 3,072
        assert number(lib, "launched_stream", ctypes.c_ulonglong) == stream
        seen = (ctypes.c_ubyte * ctypes.sizeof(Job)).in_dll(lib, "launched_job")
        assert bytes(seen) == bytes(job)
    job.h = job.w = 2000
    kernel.launch(job, stream)
    assert grid[0] == 32
    fail(lib)
    with pytest.raises(driver.DriverError, match="cuLaunchKernel: CUDA_ERROR_OUT_OF_MEMORY"):
        kernel.launch(job, 0)
    job.nrows = 0
    fail(lib)
    kernel.launch(job, 0)  # nothing to do: no call
    fail(lib, 0)
