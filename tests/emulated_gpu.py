"""Emulate a GPU and its driver on the CPU, with the kernel compiled for the CPU.

Pinning copies the pages, as they are then, to memory that the "device" reads: pages that are pinned
stay as they are when their file is cut.  Streams run their work as late as an event or a
synchronisation allows, so that a buffer that is reused too early, or pages that are unpinned too
early, give wrong batches.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from mapix.gpu.job import Job

POISON = 0xEE  # what the device sees of pages that are not pinned
PAGE = mmap.PAGESIZE
SHIFT = 1 << 44  # from a byte to its place on the "device": one for all maps
MAP_KIND = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
ALREADY_REGISTERED, NOT_REGISTERED, OUT_OF_MEMORY, INVALID = 712, 713, 2, 1


LIBC = ctypes.CDLL(None)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


class Span(ctypes.Structure):
    """The struct ``iovec``."""

    _fields_ = (("at", ctypes.c_void_p), ("nbytes", ctypes.c_size_t))


LIBC.process_vm_readv.restype = ctypes.c_ssize_t
LIBC.process_vm_readv.argtypes = [
    *(ctypes.c_int, ctypes.POINTER(Span), ctypes.c_ulong),
    *(ctypes.POINTER(Span), ctypes.c_ulong, ctypes.c_ulong),
]


class Stream:
    """Work that is run in order, and no earlier than it must."""

    known: dict[int, Stream] = {}

    def __init__(self) -> None:
        self.todo: deque[Callable[[], None]] = deque()
        self.done = 0
        self.lock = threading.RLock()
        self.cuda_stream = id(self)
        self.known[self.cuda_stream] = self

    def enqueue(self, work: Callable[[], None]) -> None:
        with self.lock:
            self.todo.append(work)

    def run_to(self, end: int) -> None:
        with self.lock:
            while self.done < end and self.todo:
                self.done += 1
                self.todo.popleft()()

    @property
    def end(self) -> int:
        return self.done + len(self.todo)

    def wait_event(self, event: Event) -> None:
        self.enqueue(event.synchronize)

    def synchronize(self) -> None:
        self.run_to(self.end)


class Host(Stream):
    """The current stream: tensors of the emulation are on the CPU, whose work is done at once."""

    def enqueue(self, work: Callable[[], None]) -> None:
        work()


class Event:
    """A place in a stream."""

    def __init__(self) -> None:
        self.at: tuple[Stream, int] | None = None

    def record(self, stream: Stream) -> None:
        with stream.lock:
            self.at = (stream, stream.end)

    def synchronize(self) -> None:
        if self.at is not None:
            stream, end = self.at
            stream.run_to(end)


class Cuda:
    """In place of ``mapix.feeding.cuda.Cuda``."""

    host = Host()

    def __init__(self, device: Any) -> None:
        self.device = device

    def using(self) -> Any:
        return contextlib.nullcontext()

    def bind(self) -> None:
        pass

    def kernel(self) -> Any:
        from mapix.gpu.driver import Kernel

        return Kernel()

    def reads_host_memory(self) -> bool:
        return True

    def empty(self, shape: Any, dtype: Any) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)

    pinned = empty

    def sent(self, tensor: torch.Tensor, dtype: Any = None) -> torch.Tensor:
        return tensor.to("cpu", dtype, copy=True)

    def stream(self) -> Stream:
        return Stream()

    def event(self) -> Event:
        return Event()

    def current(self) -> Stream:
        return self.host


class Driver:
    """In place of ``libcuda``: the calls that mapix makes, with the driver's rules.

    Parameters
    ----------
    kernel : CDLL
        The kernel, compiled for the CPU.
    limit : int
        Bytes that may be pinned.
    """

    shadows: ClassVar[set[int]] = set()  # pages of maps that have memory on the "device"

    def __init__(self, kernel: Any, limit: int = 1 << 40) -> None:
        self.kernel, self.limit = kernel, limit
        self.pinned: dict[int, int] = {}  # address -> bytes
        self.most = 0  # bytes that were pinned at one time
        self.npins = self.nlaunches = 0

    @classmethod
    def _shadow(cls, address: int) -> None:
        """Make the device's memory for the map around an address."""
        with open("/proc/self/maps") as f:
            for line in f:
                begin, end = (int(x, 16) for x in line.split()[0].split("-"))
                if begin <= address < end:
                    break
        for page in set(range(begin, end, PAGE)) - cls.shadows:
            at = page - SHIFT
            assert LIBC.mmap(at, PAGE, 3, MAP_KIND, -1, 0) == at
            ctypes.memset(at, POISON, PAGE)
            cls.shadows.add(page)

    def cuMemHostRegister_v2(self, address: int, nbytes: int, flags: int) -> int:  # noqa: N802
        if address % PAGE or nbytes % PAGE or not nbytes or flags != 11:
            return INVALID
        if any(a < address + nbytes and address < a + n for a, n in self.pinned.items()):
            return ALREADY_REGISTERED
        if sum(self.pinned.values()) + nbytes > self.limit:
            return OUT_OF_MEMORY
        self._shadow(address)
        copied = Span(address - SHIFT, nbytes), Span(address, nbytes)
        if LIBC.process_vm_readv(os.getpid(), *(x for s in copied for x in (s, 1)), 0) != nbytes:
            return INVALID  # the file was cut: pages after its end cannot be pinned
        self.pinned[address] = nbytes
        self.npins += 1
        self.most = max(self.most, sum(self.pinned.values()))
        return 0

    def cuMemHostUnregister(self, address: int) -> int:  # noqa: N802
        if address not in self.pinned:
            return NOT_REGISTERED
        ctypes.memset(address - SHIFT, POISON, self.pinned.pop(address))
        return 0

    def cuMemHostGetDevicePointer_v2(self, out: Any, address: int, flags: int) -> int:  # noqa: N802
        if not any(a <= address < a + n for a, n in self.pinned.items()):
            return INVALID
        out._obj.value = address - SHIFT
        return 0

    def cuModuleLoadData(self, out: Any, text: bytes) -> int:  # noqa: N802
        return 0 if b".entry mapix_gather" in text else INVALID

    def cuModuleGetFunction(self, out: Any, module: Any, name: bytes) -> int:  # noqa: N802
        return 0 if name == b"mapix_gather" else INVALID

    def cuLaunchKernel(self, function: Any, *arguments: Any) -> int:  # noqa: N802
        stream, pointers = arguments[7], arguments[8]
        job = Job.from_buffer_copy(ctypes.string_at(pointers[0], ctypes.sizeof(Job)))
        self.nlaunches += 1
        Stream.known[stream].enqueue(lambda: self.kernel.mapix_gather(ctypes.byref(job), 5))
        return 0

    def cuGetErrorName(self, status: int, out: Any) -> int:  # noqa: N802
        names = {712: b"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", 2: b"CUDA_ERROR_OUT_OF_MEMORY"}
        out._obj.value = names.get(status, b"CUDA_ERROR_INVALID_VALUE")
        return 0


def emulate(monkeypatch: Any, kernel: Any, limit: int = 1 << 40) -> Driver:
    """Let feeders run on the emulation until the test ends."""
    from mapix.feeding import slots, ways
    from mapix.gpu import driver

    made = Driver(kernel, limit)
    monkeypatch.setattr(driver, "load", lambda: made)
    monkeypatch.setattr(slots, "Cuda", Cuda)
    monkeypatch.setattr(ways, "Cuda", Cuda)
    return made
