"""Call the CUDA driver through ctypes: register memory, load the kernel, launch it.

``libcuda.so.1`` comes with every NVIDIA driver.  Nothing else is installed and nothing is compiled:
the kernel is PTX text, which the driver translates for the GPU.  Streams, events and device memory
come from the framework.
"""

from __future__ import annotations

import ctypes
import importlib.resources
import mmap
import threading
from functools import cache
from typing import ClassVar

from mapix import _native
from mapix.errors import MapixError, UnsupportedError
from mapix.gpu.job import Job
from mapix.source import Mapping

__all__ = ["DriverError", "Kernel", "Registered", "load", "reads_host_memory"]

PORTABLE, DEVICE_MAP, READ_ONLY = 0x01, 0x02, 0x08  # flags of cuMemHostRegister
HOST_REGISTER_READ_ONLY = 113  # CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED
PAGE_NBYTES = mmap.PAGESIZE
GROUP_NBYTES = 16  # bytes of a record per thread
BLOCK_THREADS = 192  # each copies 16 bytes of a record of 3 KB
MOST_BLOCKS = 32  # blocks that share one record
MOST_POSITIONS = 65535  # limit of a grid's second dimension


class DriverError(MapixError):
    """A call of the CUDA driver failed."""


@cache
def load() -> ctypes.CDLL:
    """Load and initialise the driver's library.

    Raises
    ------
    UnsupportedError
        This machine has no CUDA driver, or the driver does not start.
    """
    try:
        lib = ctypes.CDLL("libcuda.so.1")
    except OSError as e:
        raise UnsupportedError(f"this machine has no CUDA driver: {e}") from e
    p, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
    lib.cuMemHostRegister_v2.argtypes = [p, size, number]
    lib.cuMemHostUnregister.argtypes = [p]
    lib.cuMemHostGetDevicePointer_v2.argtypes = [p, p, number]
    lib.cuModuleLoadData.argtypes = [p, ctypes.c_char_p]
    lib.cuModuleGetFunction.argtypes = [p, p, ctypes.c_char_p]
    lib.cuLaunchKernel.argtypes = [p, *[number] * 7, p, p, p]
    lib.cuDeviceGetAttribute.argtypes = [p, ctypes.c_int, ctypes.c_int]
    lib.cuGetErrorName.argtypes = [ctypes.c_int, p]
    status = lib.cuInit(0)
    if status:
        raise UnsupportedError(f"the CUDA driver does not start: {_name(lib, status)}")
    return lib


def _name(lib: ctypes.CDLL, status: int) -> str:
    name = ctypes.c_char_p()
    lib.cuGetErrorName(status, ctypes.byref(name))
    return name.value.decode() if name.value else f"error {status}"


def _call(function: str, *arguments: object) -> None:
    lib = load()
    status = getattr(lib, function)(*arguments)
    if status:
        raise DriverError(f"{function}: {_name(lib, status)}")


def reads_host_memory(device: int) -> bool:
    """Return whether the device can read host memory that is registered as read-only."""
    found = ctypes.c_int()
    _call("cuDeviceGetAttribute", ctypes.byref(found), HOST_REGISTER_READ_ONLY, device)
    return bool(found.value)


class Registered:
    """Pin pages of a mapped file, so that all GPUs can read them until ``close``.

    The driver refuses to register memory twice, so users of the same pages share the registration.

    Parameters
    ----------
    mapping : Mapping
        The file.
    at : int
        First byte, a multiple of a page.
    nbytes : int
        Bytes that are pinned, a multiple of a page.

    Attributes
    ----------
    shift : int
        What is added to an address of this process to get that on a device; 0 on most systems.

    Raises
    ------
    DriverError
        The driver refuses, for example because too much memory is pinned.
    """

    _users: ClassVar[dict[tuple[int, int], int]] = {}  # address and size -> number of users
    _lock = threading.Lock()

    def __init__(self, mapping: Mapping, at: int, nbytes: int) -> None:
        address = _native.base_of(mapping) + at
        self._pages = (address, nbytes)
        with self._lock:
            if not self._users.get(self._pages):
                flags = PORTABLE | DEVICE_MAP | READ_ONLY
                _call("cuMemHostRegister_v2", address, nbytes, flags)
            self._users[self._pages] = self._users.get(self._pages, 0) + 1
            self._mapping: Mapping | None = mapping  # must stay mapped while it is registered
        seen = ctypes.c_void_p()
        try:
            _call("cuMemHostGetDevicePointer_v2", ctypes.byref(seen), address, 0)
        except DriverError:
            self.close()
            raise
        self.shift = int(seen.value or 0) - address

    def close(self) -> None:
        """Unpin the pages.  No launch must be reading them.  A second call does nothing."""
        with self._lock:
            mapping, self._mapping = self._mapping, None
            if mapping is None:
                return
            self._users[self._pages] -= 1
            if not self._users[self._pages]:
                del self._users[self._pages]
                _call("cuMemHostUnregister", self._pages[0])


class Kernel:
    """The kernel ``mapix_gather``, loaded into the current context."""

    def __init__(self) -> None:
        text = importlib.resources.files("mapix.gpu").joinpath("gather.ptx").read_text().encode()
        self._module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuModuleLoadData", ctypes.byref(self._module), text)
        _call("cuModuleGetFunction", ctypes.byref(self._function), self._module, b"mapix_gather")

    def launch(self, job: Job, stream: int) -> None:
        """Enqueue one launch on a stream; the driver copies the struct before this returns.

        Parameters
        ----------
        job : Job
            Its addresses are those of the device.
        stream : int
            Address of a CUDA stream; 0 is the default stream.
        """
        if not job.nrows:
            return
        groups = job.h * job.w * job.c // GROUP_NBYTES
        blocks = min(max(1, groups // BLOCK_THREADS), MOST_BLOCKS)
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(job))
        grid = (blocks, min(job.nrows, MOST_POSITIONS), 1, BLOCK_THREADS, 1, 1, 0)
        _call("cuLaunchKernel", self._function, *grid, stream, arguments, None)
