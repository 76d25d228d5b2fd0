"""Open an object by its URL, with the library that serves its scheme."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from mapix.errors import LimitError
from mapix.remote.http_object import HttpObject
from mapix.remote.objects import RemoteObject, plain_url
from mapix.remote.store_object import FsspecObject, StoreObject, names_by_fsspec, names_in_store

__all__ = ["names_below", "opened", "read_all"]

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl")  # schemes of obstore
HTTP = ("http", "https")


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
    scheme = _scheme(url)
    if re.search(r"[\x00-\x1f\x7f]" if scheme not in HTTP else r"[\x00-\x20\x7f]", url):
        reason = "a URL has no control characters, and one of a web server no spaces"
        raise OSError(errno.EINVAL, reason, plain_url(url))
    if scheme in HTTP:
        return HttpObject(url, nbytes)
    return StoreObject(url, nbytes) if scheme in STORES else FsspecObject(url, nbytes)


def names_below(url: str) -> Iterator[tuple[str, int]] | None:
    """Return names and sizes of all objects below the URL of a folder.

    None if the server does not list them.  The iterator raises PermissionError if this user may
    not list them, FileNotFoundError if there is no such bucket, and OSError.
    """
    scheme = _scheme(url)
    if scheme in HTTP:
        return None
    return names_in_store(url) if scheme in STORES else names_by_fsspec(url)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


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
