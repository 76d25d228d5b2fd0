"""The memory of a remote object: which of its blocks are there, and how the others come.

Memory without a block is mapped beyond the end of an empty file, so that a read of it raises SIGBUS
as in a file that was cut, and never returns zeros.  A block is mapped over it once its bytes are in
the mirror.
"""

from __future__ import annotations

import errno
import functools
import os
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import LimitError
from mapix.remote import settings
from mapix.remote.estimates import Estimates, Span, runs
from mapix.remote.mirror import Mirror
from mapix.remote.objects import RemoteObject

__all__ = ["Arrival", "memory_nbytes"]

PAGE_NBYTES = os.sysconf("SC_PAGESIZE")
MOST_BLOCKS = 1 << 26  # a byte of memory each; blocks of larger objects are larger
MOST_EXTENTS = 8192  # mapped stretches: Linux allows 65,530 maps, and each may need two
MOST_SPANS = 4096  # separate stretches that one call needs
FAULT_NBYTES, MOST_FAULT_NBYTES = 32 << 10, 32 << 20  # requested at a fault that nothing foresaw
NEAR_NBYTES = 256 << 10  # a fault so close to what the last one brought goes on with a scan
SCAN_NBYTES = 128 << 10  # of a window from which on the next one is requested ahead
IDLE_WAIT_S = 1.0
MOST_FAULTS = 1000  # at one byte that is mapped

MISSING, MAPPED, HELD = 0, 1, 2  # of a block; held ones stay mapped, since arrays alias them

Places = int | NDArray[np.int64]

_pool: ThreadPoolExecutor | None = None
_every: weakref.WeakSet[Arrival] = weakref.WeakSet()


@functools.cache
def _empty() -> IO[bytes]:
    """Return an empty file, into which all memory without a block is mapped."""
    return tempfile.TemporaryFile()


def _submitted(call: Callable[..., None], *args: Any) -> Future[None]:
    """Run a call on one of the threads that all objects share."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(settings.connections(), "mapix-remote")
    return _pool.submit(call, *args)


def _after_fork() -> None:
    """Begin anew in a child: the threads of the parent are not there."""
    global _pool
    _pool = None
    for arrival in list(_every):
        arrival._begin()


os.register_at_fork(after_in_child=_after_fork)


class Arrival:
    """Blocks of an object, in reserved memory.

    Parameters
    ----------
    remote : RemoteObject
        The object.
    exported : CData
        Memory, which this object keeps alive.
    begin : int
        Where in it ``memory_nbytes`` of the object's size begin, at a page.  They are mapped anew.

    Attributes
    ----------
    requests, read_nbytes : int
        Requests that were made for ranges, and bytes that came, since the object was opened.
    estimates : Estimates
        Latency and bandwidth so far.
    """

    def __init__(self, remote: RemoteObject, exported: _native.CData, begin: int) -> None:
        self._remote, self._exported = remote, exported
        self._buffer = _native.cast("uint8_t *", exported) + begin
        self.nbytes, self.url = remote.nbytes, remote.url
        self._block = _block_nbytes(self.nbytes)
        self._state = np.zeros(-(-self.nbytes // self._block), np.uint8)
        self._base = _native.address_of(self._buffer)
        self._extents = 0
        self._next_fault, self._window = -NEAR_NBYTES - 1, FAULT_NBYTES
        self._strange = -1, 0  # a block that is mapped and raised a fault, and how often
        self.requests, self.read_nbytes = 1, len(remote.first)
        self.estimates = Estimates()
        self._mirror = Mirror(remote.url, remote.tag, self.nbytes, self._block)
        own = weakref.ref(self)
        self._mirror.release = lambda k: (found := own()) is None or found._release(k)
        self._begin()
        _every.add(self)
        if self.nbytes:
            self._unmap(0, len(self._state))
            n = len(remote.first)
            n -= 0 if n == self.nbytes else n % self._block
            self._mirror.write(0, memoryview(remote.first)[:n], self._arrived)

    def _begin(self) -> None:
        """Make what a forked child cannot share."""
        self._lock = threading.RLock()
        self._pending: list[tuple[int, int, Future[None]]] = []
        self._wanted: list[list[Span]] = []  # by calls that wait for them

    @property
    def complete(self) -> bool:
        """Whether all bytes are there, and stay there."""
        return bool((self._state == HELD).all())

    # --- ranges -----------------------------------------------------------------------------------

    def ensure(self, at: Places, nbytes: Places, *, hold: bool = False) -> None:
        """Bring ranges of bytes; return when all are there.

        Parameters
        ----------
        at, nbytes : int or ndarray
            First byte and size of each range, int64 (n,); bytes outside of the object are ignored.
        hold : bool
            Whether they stay mapped until the memory is released: arrays may alias them.

        Raises
        ------
        FileChangedError, OSError
            See ``RemoteObject.read``.
        LimitError
            Arrays alias too many separate ranges, or the mirrors take too much disk space.
        """
        spans = self._spans(at, nbytes)
        with self._lock:
            self._wanted.append(spans)
        try:
            while True:
                with self._lock:
                    missing = self._missing(spans)
                    if not missing:
                        for first, end in spans if hold else ():
                            self._state[first:end] = HELD
                        return
                start, before = time.perf_counter(), self.read_nbytes
                futures = self._request(missing)
                while futures:  # an exception must not refer to its future by a frame
                    futures.pop().result()
                self.estimates.note_several(time.perf_counter() - start, self.read_nbytes - before)
        finally:
            with self._lock:
                self._wanted = [known for known in self._wanted if known is not spans]

    def expect(self, at: Places, nbytes: Places) -> int:
        """Request ranges that are not there, in the background; return how many there are."""
        missing = self._missing(self._spans(at, nbytes))
        self._request(missing)
        return len(missing)

    def fault(self, address: int, needs: Callable[[], tuple[Places, Places]] | None) -> None:
        """Bring the block of an address that could not be read.

        Parameters
        ----------
        address : int
            In the memory of the object.
        needs : callable, optional
            Returns all ranges that the call that stopped there needs, as for ``ensure``.
        """
        block = (address - self._base) // self._block
        if self._state[block]:
            self._again(block)
            return
        begin = end = block * self._block
        if needs is not None:
            at, nbytes = (np.asarray(each) for each in needs())
            self.ensure(at, nbytes)
            if at.size and int((at + nbytes).max() - at.min()) <= 2 * int(nbytes.sum()):
                begin, end = int(at.min()), int((at + nbytes).max())
        window = self._window_at(begin)
        if not self._state[block]:
            self.ensure(begin, window)
            end = begin + window
        self._next_fault = end
        if window >= SCAN_NBYTES:
            self.expect(end, window)

    def _window_at(self, begin: int) -> int:
        """Return how many bytes are requested at a fault: twice as many where a scan goes on."""
        follows = abs(begin - self._next_fault) <= NEAR_NBYTES
        most = min(2 * self._window, MOST_FAULT_NBYTES)
        self._window = most if follows else FAULT_NBYTES
        return self._window

    def _again(self, block: int) -> None:
        """Count faults at a block that is there: another thread brought it, or its file was cut."""
        known, times = self._strange
        self._strange = block, times + 1 if known == block else 1
        if self._strange[1] > MOST_FAULTS:
            reason = f"the mirror in {self._mirror.folder} was cut, or its disk has a fault"
            raise OSError(errno.EIO, reason, self.url)

    def _spans(self, at: Places, nbytes: Places) -> list[Span]:
        """Return the ranges of blocks that ranges of bytes lie in, ascending, apart.

        If there are more than can be mapped at once, the smallest gaps between them are included.
        """
        begins = np.clip(np.atleast_1d(np.asarray(at, np.int64)), 0, self.nbytes)
        sizes = np.atleast_1d(np.asarray(nbytes, np.int64))
        ends = np.minimum(begins + np.minimum(sizes, self.nbytes - begins), self.nbytes)
        some = ends > begins
        firsts, ends = begins[some] // self._block, -(-ends[some] // self._block)
        if not len(firsts):
            return []
        order = np.argsort(firsts, kind="stable")
        firsts, ends = firsts[order], np.maximum.accumulate(ends[order])
        gaps = firsts[1:] - ends[:-1]
        cuts = np.flatnonzero(gaps > 0)
        if len(cuts) > MOST_SPANS:
            cuts = np.sort(cuts[np.argpartition(gaps[cuts], -MOST_SPANS)[-MOST_SPANS:]])
        starts = firsts[np.concatenate([[0], cuts + 1])]
        stops = ends[np.concatenate([cuts, [len(ends) - 1]])]
        return list(zip(starts.tolist(), stops.tolist(), strict=True))

    def _missing(self, spans: list[Span]) -> list[Span]:
        """Return ranges of blocks that are not mapped."""
        state = self._state
        return [
            (first + a, first + b)
            for first, end in spans
            if not state[first:end].all()
            for a, b in runs(np.flatnonzero(state[first:end] == MISSING))
        ]

    # --- requests ---------------------------------------------------------------------------------

    def _request(self, missing: list[Span]) -> list[Future[None]]:
        """Map blocks that the mirror has, request the others, and return what to wait for."""
        for first, end in missing:
            self._mirror.bring(first, end, self._arrived)
        with self._lock:
            spans = self._missing(missing)
            if not spans:
                return []
            blocks = np.concatenate([np.arange(*span) for span in spans])
            wanted = np.ones(len(blocks), np.bool_)
            futures = []
            for first, end, future in self._pending:
                a, b = np.searchsorted(blocks, (first, end)).tolist()
                if a < b:
                    wanted[a:b] = False
                    futures.append(future)
            blocks = blocks[wanted]
            if len(blocks):
                how = (settings.connections(), settings.waste())
                for first, end in self.estimates.plan(blocks, self._block, *how):
                    future = _submitted(self._fetch, first, end)
                    self._pending.append((first, end, future))
                    futures.append(future)
            return futures

    def _fetch(self, first: int, end: int) -> None:
        """Read blocks from the server, and put them into the mirror and into memory."""
        try:
            begin, stop = self._mirror.span(first, end)
            data = bytearray(stop - begin)
            start = time.perf_counter()
            how = self._remote.read(begin, memoryview(data))
            if how.requests == 1:
                self.estimates.note(how.wait_s, time.perf_counter() - start, len(data))
            with self._lock:
                self.requests += how.requests
                self.read_nbytes += len(data)
            try:
                self._mirror.write(first, memoryview(data), self._arrived)
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
                self._mirror.trim(full=True)
                self._mirror.write(first, memoryview(data), self._arrived)
            self._mirror.trim_after(len(data))
        finally:
            with self._lock:
                self._pending = [p for p in self._pending if p[:2] != (first, end)]

    # --- memory -----------------------------------------------------------------------------------

    def _arrived(self, first: int, end: int, fd: int, at: int) -> None:
        """Map blocks that are at byte ``at`` of a file, as far as they are not mapped."""
        with self._lock:
            for a, b in runs(np.flatnonzero(self._state[first:end] == MISSING) + first):
                if self._extents >= MOST_EXTENTS:
                    self._unmap_idle()
                place = at + (a - first) * self._block
                try:
                    self._map(a, b, fd, place)
                except OSError as e:
                    if e.errno != errno.ENOMEM:
                        raise
                    for arrival in list(_every):  # too many maps: those of other objects, too
                        arrival._unmap_idle()
                    self._map(a, b, fd, place)

    def _map(self, first: int, end: int, fd: int, at: int) -> None:
        # to the end of the last page: there the mirror has zeros, after the end of the object
        where = self._buffer + first * self._block
        _native.map_file(where, (end - first) * self._block, fd, begin=at, shared=True)
        beside = first > 0 and self._state[first - 1], self._state[end : end + 1].any()
        self._extents += 1 - sum(map(bool, beside))
        self._state[first:end] = MAPPED

    def _unmap(self, first: int, end: int) -> None:
        at = first * self._block
        nbytes = (end - first) * self._block
        _native.map_file(self._buffer + at, nbytes, _empty().fileno(), begin=at, shared=True)
        self._state[first:end] = MISSING

    def _unmap_idle(self) -> None:
        """Unmap all blocks that no array aliases; calls that need them bring them again."""
        if not self._lock.acquire(timeout=IDLE_WAIT_S):
            return  # of another object, whose thread waits for this one
        try:
            for first, end in runs(np.flatnonzero(self._state != HELD)):
                if self._state[first:end].any():
                    self._unmap(first, end)
            self._extents = len(runs(np.flatnonzero(self._state)))
        finally:
            self._lock.release()
        if self._extents >= MOST_EXTENTS:
            raise LimitError(
                f"{self.url}: arrays alias {self._extents} separate stretches: use ds.batch, which "
                "copies, or bring all bytes by ds.warm()"
            )

    def _release(self, k: int) -> bool:
        """Unmap segment k of the mirror; return False if it is in use."""
        n = self._mirror.segment_blocks
        with self._lock:
            part = self._state[k * n : (k + 1) * n]
            wanted = (span for spans in self._wanted for span in spans)
            if (part == HELD).any() or any(a < (k + 1) * n and b > k * n for a, b in wanted):
                return False
            if part.any():
                self._unmap(k * n, k * n + len(part))
                self._extents = len(runs(np.flatnonzero(self._state)))
        return True


def _block_nbytes(nbytes: int) -> int:
    """Return the size of a block of an object: a page, or more of very large objects."""
    block = PAGE_NBYTES
    while nbytes > block * MOST_BLOCKS:
        block *= 2
    return block


def memory_nbytes(nbytes: int) -> int:
    """Return the bytes of memory that an object takes: complete blocks."""
    block = _block_nbytes(nbytes)
    return -(-nbytes // block) * block
