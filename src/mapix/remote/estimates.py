"""Choose the ranges to request, from the measured latency and bandwidth of a server."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimates", "runs"]

GAPS = (
    0,
    16 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    1 << 20,
)  # bytes; which gaps are requested as well
LEAST_PIECE_NBYTES, MOST_PIECE_NBYTES = 1 << 20, 4 << 20  # of a long range, per connection
SMALL_NBYTES = 32 << 10  # smaller responses show little of the bandwidth
WEIGHT = 0.2  # of a new measurement
REQUEST_S = 0.0005  # of the processor, per request

Span = tuple[int, int]


def runs(numbers: NDArray[np.int64], gap: int = 0) -> list[Span]:
    """Return ascending numbers as ranges (first, end), with gaps of up to ``gap`` numbers."""
    if not len(numbers):
        return []
    cuts = np.flatnonzero(np.diff(numbers) > gap + 1)
    firsts = numbers[np.concatenate([[0], cuts + 1])]
    ends = numbers[np.concatenate([cuts, [len(numbers) - 1]])] + 1
    return list(zip(firsts.tolist(), ends.tolist(), strict=True))


class Estimates:
    """Latency of a request, and bandwidth of one connection and of all, as measured so far."""

    def __init__(self) -> None:
        self.latency_s = 0.03
        self.bandwidth = 20e6  # bytes per second
        self.most_bandwidth = 0.0  # of all connections together; 0: not known

    def note(self, wait_s: float, seconds: float, nbytes: int) -> None:
        """Take in a request: the time to its response (0: not known), and in total."""
        if not wait_s:  # small responses show the latency, large ones the bandwidth
            wait_s = seconds if nbytes <= SMALL_NBYTES else min(self.latency_s, seconds / 2)
        self.latency_s += WEIGHT * (wait_s - self.latency_s)
        if nbytes >= SMALL_NBYTES:
            found = nbytes / max(seconds - wait_s, 1e-5)
            self.bandwidth += WEIGHT * (found - self.bandwidth)

    def note_several(self, seconds: float, nbytes: int) -> None:
        """Take in how long several requests at once took."""
        if nbytes >= LEAST_PIECE_NBYTES:
            found = nbytes / max(seconds - self.latency_s, seconds / 10)
            before = self.most_bandwidth or found
            self.most_bandwidth = before + WEIGHT * (found - before)

    def seconds(self, nrequests: int, nbytes: int, connections: int) -> float:
        """Return how long so many requests will take."""
        bandwidth = self.bandwidth * min(nrequests, connections)
        if self.most_bandwidth:
            bandwidth = min(bandwidth, self.most_bandwidth)
        waits = -(-nrequests // connections) * self.latency_s
        return waits + nrequests * REQUEST_S + nbytes / bandwidth

    def plan(
        self, blocks: NDArray[np.int64], block_nbytes: int, connections: int, waste: float
    ) -> list[Span]:
        """Return ranges of blocks to request.

        Gaps between blocks are requested too if that is faster: a request costs its latency.

        Parameters
        ----------
        blocks : ndarray
            Numbers of blocks that are needed, int64, ascending.
        block_nbytes : int
            Size of a block.
        connections : int
            How many requests run at once.
        waste : float
            At most so many blocks are requested per block that is needed.
        """
        between, best, least = np.diff(blocks) - 1, 0, np.inf
        for gap in GAPS:
            most = gap // block_nbytes
            joined = between[between <= most]
            nblocks = len(blocks) + int(joined.sum())
            if nblocks > waste * len(blocks):
                break
            nrequests = len(between) - len(joined) + 1
            seconds = self.seconds(nrequests, nblocks * block_nbytes, connections)
            if seconds < least:
                best, least = most, seconds
        found = runs(blocks, best)
        total = sum(end - first for first, end in found) * block_nbytes
        piece = min(max(total // connections, LEAST_PIECE_NBYTES), MOST_PIECE_NBYTES)
        step = max(1, piece // block_nbytes)
        return [(at, min(at + step, end)) for first, end in found for at in range(first, end, step)]
