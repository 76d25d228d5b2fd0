"""Settings of remote objects: environment variables."""

from __future__ import annotations

import os

__all__ = ["connections", "most_mirror_nbytes", "timeout_s", "waste"]

CONNECTIONS = "MAPIX_REMOTE_CONNECTIONS"
"""Environment variable: how many requests run at once, 1 to 256."""

MAX_NBYTES = "MAPIX_REMOTE_MAX_BYTES"
"""Environment variable: bytes of disk that all mirrors together take."""

TIMEOUT = "MAPIX_REMOTE_TIMEOUT"
"""Environment variable: seconds that a server may be silent."""

WASTE = "MAPIX_REMOTE_WASTE"
"""Environment variable: at most so many pages are requested per page that is needed; 1 for none
but the pages of the records."""

LEAST_MIRROR_NBYTES = 256 << 20  # a call of the core may need as much at once
DEFAULT_WASTE = 16.0
DEFAULT_CONNECTIONS, MOST_CONNECTIONS = 16, 256
DEFAULT_TIMEOUT_S = 30.0


def _number(name: str, least: float, most: float) -> float | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not least <= found <= most:
        raise ValueError(f"{name} is {text!r}; a number from {least:g} to {most:g} is expected")
    return found


def connections() -> int:
    """Return how many requests run at once."""
    return int(_number(CONNECTIONS, 1, MOST_CONNECTIONS) or DEFAULT_CONNECTIONS)


def timeout_s() -> float:
    """Return the seconds that a server may be silent before a request is repeated."""
    return _number(TIMEOUT, 0.001, 86_400) or DEFAULT_TIMEOUT_S


def most_mirror_nbytes(used: int, free: int) -> int:
    """Return the bytes that all mirrors may take: by default half of what they could take.

    Parameters
    ----------
    used, free : int
        Bytes that the mirrors take, and free bytes of the disk.
    """
    found = _number(MAX_NBYTES, LEAST_MIRROR_NBYTES, 1 << 62)
    return max((used + free) // 2, LEAST_MIRROR_NBYTES) if found is None else int(found)


def waste() -> float:
    """Return how many pages are requested at most per page that is needed."""
    return _number(WASTE, 1, 1e9) or DEFAULT_WASTE
