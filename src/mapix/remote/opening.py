"""Open an object by its URL, with the library that serves its scheme."""

from __future__ import annotations

import errno
import re

from mapix.errors import LimitError
from mapix.remote.http_object import HttpObject
from mapix.remote.objects import RemoteObject, plain_url
from mapix.remote.store_object import FsspecObject, StoreObject

__all__ = ["opened", "read_all"]

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl")  # schemes of obstore


def opened(url: str, nbytes: int | None = None) -> RemoteObject:
    """Open an object.

    Parameters
    ----------
    url : str
        Its URL.
    nbytes : int, optional
        How many of its first bytes are read by the same request: by default 16 KiB.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        There is no such object, it is not readable, or the server does not answer.
    UnsupportedError
        The library for the scheme is not installed, or the server does not serve ranges.
    """
    scheme = url.partition("://")[0].lower()
    if re.search(r"[\x00-\x20\x7f]", url):
        raise OSError(errno.EINVAL, "a URL has no spaces and control characters", plain_url(url))
    if scheme in ("http", "https"):
        return HttpObject(url, nbytes)
    return StoreObject(url, nbytes) if scheme in STORES else FsspecObject(url, nbytes)


def read_all(url: str, limit: int, first: int | None = None) -> bytes:
    """Return the content of a small object; ``first`` bytes of it by one request.

    Raises
    ------
    LimitError
        It has more than ``limit`` bytes.
    """
    found = opened(url, first)
    if found.nbytes > limit:
        raise LimitError(f"{found.url}: {found.nbytes} bytes, above the limit of {limit} bytes")
    data = bytearray(found.nbytes)
    data[: len(found.first)] = found.first
    if len(found.first) < found.nbytes:
        found.read(len(found.first), memoryview(data)[len(found.first) :])
    return bytes(data)
