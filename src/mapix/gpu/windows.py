"""Pin the pages of mapped files: all of them, or as many as may be pinned."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mapix.errors import UnsupportedError
from mapix.gpu.driver import PAGE_NBYTES, DriverError, Registered
from mapix.source import Mapping

__all__ = ["Windows"]

MOST_WINDOW_NBYTES = 256 << 20  # registering one takes 10 ms
LEAST_WINDOWS = 64  # of what may be pinned, where pages are small enough


class Windows:
    """Windows of mapped files that are pinned; the least recently used one is released first.

    Files that may all be pinned have one window each, which is pinned at once.  Of others, one
    window is, which shows whether the driver can pin them at all.

    Parameters
    ----------
    mappings : sequence of Mapping
        The files, of at least a byte each.
    limit : int
        Bytes that may be pinned.

    Attributes
    ----------
    complete : bool
        Whether all files are pinned.
    limit : int
        As given; it falls if the driver refuses to pin as much.
    window_nbytes : int
        Most bytes of a window, a multiple of a page.
    shift : int or None
        What is added to an address of this process to get that on the devices.
    refused : str
        Why the driver refused to pin a window; empty if it did not.

    Raises
    ------
    UnsupportedError
        ``limit`` is less than a page.
    DriverError
        The driver refuses to pin the windows that are pinned at once; none is pinned then.
    """

    def __init__(self, mappings: Sequence[Mapping], limit: int) -> None:
        pages = np.array([-(-mapping.nbytes // PAGE_NBYTES) for mapping in mappings])
        self.complete = int(pages.sum()) * PAGE_NBYTES <= limit
        if not self.complete and limit < PAGE_NBYTES:
            raise UnsupportedError(f"pin_limit={limit} is less than a page of {PAGE_NBYTES} bytes")
        each = int(pages.max())
        if not self.complete:
            each = min(
                max(1, limit // LEAST_WINDOWS // PAGE_NBYTES), MOST_WINDOW_NBYTES // PAGE_NBYTES
            )
        self.window_nbytes, self.limit = each * PAGE_NBYTES, limit
        self.refused = ""
        counts = -(-pages // each)
        self._counts, self._first = counts, np.cumsum(counts) - counts  # windows of each file
        self._mappings: Sequence[Mapping] = mappings
        self._file = np.repeat(np.arange(len(pages)), counts)  # of each window
        self._at = (np.arange(len(self._file)) - self._first[self._file]) * self.window_nbytes
        left = pages[self._file] * PAGE_NBYTES - self._at
        self._nbytes = np.minimum(left, self.window_nbytes)
        self._held: OrderedDict[int, Registered] = OrderedDict()
        self._held_nbytes = 0
        self._pinned = np.zeros(len(self._file), np.bool_)
        self._in_use: dict[int, set[int]] = {}
        self._lock = threading.Lock()
        self.shift: int | None = None
        try:
            for window in range(len(self._file) if self.complete else 1):
                self._pin(window)
        except BaseException:
            self.close()
            raise

    def hold(
        self,
        user: int,
        which: NDArray[np.int64],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Pin the windows of records if all of them fit, else as many as there is space for.

        Parameters
        ----------
        user : int
            Who reads these records: their windows are not released before ``leave``, or before this
            user holds others.
        which : ndarray
            int64 (b,), the file of each record.
        begins, ends : ndarray
            int64 (b,), the bytes of each record.

        Returns
        -------
        ndarray
            bool (b,), which records lie in pinned windows.
        """
        most = self._counts[which] - 1
        first = np.clip(begins // self.window_nbytes, 0, most)
        last = np.clip((ends - 1) // self.window_nbytes, first, most) + self._first[which]
        first += self._first[which]
        touched = np.zeros(len(self._pinned) + 1, np.int64)
        np.add.at(touched, first, 1)
        np.add.at(touched, last + 1, -1)
        wanted = np.flatnonzero(np.cumsum(touched[:-1]))
        with self._lock:
            self._in_use.pop(user, None)
            self._bring(wanted)
            self._in_use[user] = set(wanted[self._pinned[wanted]].tolist())
            before = np.concatenate([[0], np.cumsum(self._pinned)])
        found: NDArray[np.bool_] = before[last + 1] - before[first] == last + 1 - first
        return found

    def leave(self, user: int) -> None:
        """Let the windows of a user be released: the launch that read them has ended."""
        with self._lock:
            self._in_use.pop(user, None)

    def _bring(self, wanted: NDArray[np.int64]) -> None:
        """Pin windows; release others, if all that are wanted fit."""
        missing = []
        for window in wanted.tolist():
            if window in self._held:
                self._held.move_to_end(window)
            else:
                missing.append(window)
        # an order that needs more windows per launch than fit would pin and release for ever
        old: list[int] = []
        if missing and self._nbytes[wanted].sum() <= self.limit:
            needed = set(wanted.tolist()).union(*self._in_use.values())
            old = [window for window in self._held if window not in needed]
        oldest = iter(old)
        for window in missing:
            while self._held_nbytes + self._nbytes[window] > self.limit:
                gone = next(oldest, None)
                if gone is None:
                    return
                self._release(gone)
            try:
                self._pin(window)
            except DriverError as e:
                self.limit, self.refused = self._held_nbytes, str(e)
                return

    def _pin(self, window: int) -> None:
        """Pin a window; DriverError if the driver refuses, or places it apart from the others."""
        if not self._mappings:
            raise DriverError("the windows are closed")
        mapping, nbytes = self._mappings[self._file[window]], int(self._nbytes[window])
        pages = Registered(mapping, int(self._at[window]), nbytes)
        if self.shift is None:
            self.shift = pages.shift
        if pages.shift != self.shift:  # the table of files, which does not change, has one for all
            pages.close()
            raise DriverError("the driver maps files to unrelated addresses")
        self._held[window], self._pinned[window] = pages, True
        self._held_nbytes += nbytes

    def _release(self, window: int) -> None:
        self._pinned[window] = False
        self._held_nbytes -= int(self._nbytes[window])
        self._held.pop(window).close()

    def close(self) -> None:
        """Unpin all windows.  No launch must be reading them."""
        with self._lock:
            self._mappings = ()
            for window in list(self._held):
                self._release(window)
