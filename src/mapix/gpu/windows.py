"""Pin parts of a file that is larger than what may be pinned."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from mapix.errors import UnsupportedError
from mapix.gpu.driver import PAGE_NBYTES, DriverError, Registered
from mapix.source import Mapping

__all__ = ["Windows"]

MOST_WINDOW_NBYTES = 256 << 20  # registering one takes 10 ms
LEAST_WINDOWS = 64  # of what may be pinned, where pages are small enough


class Windows:
    """Windows of a mapped file that are pinned; the least recently used one is released first.

    Parameters
    ----------
    mapping : Mapping
        The file.
    limit : int
        Bytes that may be pinned.

    Attributes
    ----------
    window_nbytes : int
        Size of a window, a multiple of a page.
    most : int
        Number of windows that may be pinned; it falls if the driver refuses to pin as many.
    base : int
        Address of byte 0 of the file on the devices; 0 before a window was pinned.

    Raises
    ------
    UnsupportedError
        ``limit`` is less than a page.
    """

    def __init__(self, mapping: Mapping, limit: int) -> None:
        if limit < PAGE_NBYTES:
            raise UnsupportedError(f"pin_limit={limit} is less than a page of {PAGE_NBYTES} bytes")
        pages = max(1, limit // LEAST_WINDOWS // PAGE_NBYTES)
        self.window_nbytes = min(pages * PAGE_NBYTES, MOST_WINDOW_NBYTES)
        self.most = limit // self.window_nbytes
        self.base = 0
        self._mapping: Mapping | None = mapping
        self._held: OrderedDict[int, Registered] = OrderedDict()
        self._pinned = np.zeros(-(-mapping.nbytes // self.window_nbytes), np.bool_)
        self._lock = threading.Lock()

    def hold(
        self, begins: NDArray[np.int64], ends: NDArray[np.int64], in_use: set[int]
    ) -> tuple[NDArray[np.bool_], set[int]]:
        """Pin the windows of records if all of them fit, else as many as are free.

        Parameters
        ----------
        begins, ends : ndarray
            int64 (b,), the bytes of each record.
        in_use : set of int
            Windows that a launch may still be reading: these are not released.

        Returns
        -------
        ndarray, set of int
            bool (b,), which records lie in pinned windows; and the windows of these records.
        """
        last_window = len(self._pinned) - 1
        first = np.clip(begins // self.window_nbytes, 0, last_window)
        last = np.clip((ends - 1) // self.window_nbytes, first, last_window)
        touched = np.zeros(len(self._pinned) + 1, np.int64)
        np.add.at(touched, first, 1)
        np.add.at(touched, last + 1, -1)
        wanted = np.flatnonzero(np.cumsum(touched[:-1])).tolist()
        with self._lock:
            for window in wanted:
                if window in self._held:
                    self._held.move_to_end(window)
            # an order that needs more windows per launch than fit would pin and release for ever
            fits = len(wanted) <= self.most
            for window in wanted:
                if not self._pinned[window] and not self._pin(window, {*wanted, *in_use}, fits):
                    break
        before = np.concatenate([[0], np.cumsum(self._pinned)])
        here = before[last + 1] - before[first] == last + 1 - first
        return here, {w for w in wanted if self._pinned[w]}

    def _pin(self, window: int, needed: set[int], fits: bool) -> bool:
        """Pin a window, if there is space; return whether it was pinned."""
        if self._mapping is None:
            return False
        while len(self._held) >= self.most:
            old = next((w for w in self._held if w not in needed), None)
            if old is None or not fits:
                return False
            self._release(old)
        at = window * self.window_nbytes
        nbytes = min(self.window_nbytes, self._mapping.nbytes - at)
        try:
            pages = Registered(self._mapping, at, nbytes)
        except DriverError:
            self.most = len(self._held)
            return False
        base = pages.device_address - at
        if self.base not in (0, base):  # one launch reads all windows relative to one address
            pages.close()
            self.most = len(self._held)
            return False
        self.base = base
        self._held[window], self._pinned[window] = pages, True
        return True

    def _release(self, window: int) -> None:
        self._pinned[window] = False
        self._held.pop(window).close()

    def close(self) -> None:
        """Unpin all windows.  No launch must be reading them."""
        with self._lock:
            self._mapping = None
            for window in list(self._held):
                self._release(window)
