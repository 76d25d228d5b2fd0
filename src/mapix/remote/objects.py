"""Describe remote objects: what the modules that read them have in common."""

from __future__ import annotations

from typing import NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

__all__ = ["Reading", "RemoteObject", "first_nbytes", "plain_url"]

FIRST_NBYTES = 16 << 10  # read by the request that opens an object,
INDEX_FIRST_NBYTES = 256 << 10  # or an index, which is mostly read completely
INDEX = ".mapix"


class Reading(NamedTuple):
    """The cost of reading a range."""

    requests: int
    wait_s: float  # until the response to the last one began; 0 where that is not known


class RemoteObject(Protocol):
    """An object of which ranges of bytes can be read.

    Attributes
    ----------
    url : str
        The URL, without credentials.
    nbytes : int
        Size of the object.
    tag : str or None
        Identifies the content: ETag, or the time of the last change.  None if the server gives
        neither; then only the size is compared.
    modified_ns : int
        Time of the last change in ns since 1970, or 0.
    first : bytes
        The first bytes, as far as opening has read them.
    """

    url: str
    nbytes: int
    tag: str | None
    modified_ns: int
    first: bytes

    def read(self, at: int, into: memoryview) -> Reading:
        """Fill ``into`` with the bytes from ``at`` on.  Any number of threads may call it.

        Raises
        ------
        FileChangedError
            The object is another one than was opened.
        OSError
            It cannot be read, also not after several tries.
        """


def plain_url(url: str) -> str:
    """Return a URL without user and password, for messages, and for places in the cache."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def first_nbytes(url: str, nbytes: int | None = None) -> int:
    """Return how many bytes the request that opens an object reads: ``nbytes`` if given."""
    if nbytes is not None:
        return nbytes
    return INDEX_FIRST_NBYTES if urlsplit(url).path.endswith(INDEX) else FIRST_NBYTES
