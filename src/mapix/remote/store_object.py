"""Objects of object stores through obstore, and of everything else through fsspec."""

from __future__ import annotations

import errno
import hashlib
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mapix.errors import FileChangedError, UnsupportedError, warn
from mapix.optional import library
from mapix.remote import settings
from mapix.remote.objects import Reading, first_nbytes, plain_url

__all__ = ["FsspecObject", "StoreObject"]

TRIES = 5  # at one range
CHECKED_S = 5.0  # between two questions to fsspec whether an object is still the same


class StoreObject:
    """See ``RemoteObject``: an object of ``s3://``, ``gs://`` or ``az://``, through obstore.

    Credentials, region and endpoint come from the environment, as obstore documents.
    """

    def __init__(self, url: str, nbytes: int | None = None) -> None:
        obstore = library("obstore", "remote")
        self._errors = library("obstore.exceptions", "remote")
        self.url = plain_url(url)
        parts = urlsplit(url)
        self._key = parts.path.lstrip("/")
        try:
            self._store = library("obstore.store", "remote").from_url(
                urlunsplit((parts.scheme, parts.netloc, "", "", "")),
                retry_config={
                    "max_retries": TRIES - 1,
                    "retry_timeout": timedelta(seconds=TRIES * settings.timeout_s()),
                },
            )
        except Exception as e:  # of configuration; obstore has several types
            raise OSError(errno.EINVAL, f"obstore: {_line(e)}", self.url) from e
        self._get = obstore.get
        self._etag: str | None = None
        try:
            found = self._answer(0, first_nbytes(url, nbytes))
            meta, self.first = found.meta, bytes(found.bytes())
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:  # of an empty object, too: it has no range
            meta, self.first = obstore.head(self._store, self._key), b""
            if meta["size"]:
                raise
        self.nbytes = int(meta["size"])
        self._etag = meta["e_tag"]
        self.modified_ns = int(meta["last_modified"].timestamp()) * 1_000_000_000
        self.tag: str | None = self._etag or f"modified {meta['last_modified'].isoformat()}"

    def _answer(self, begin: int, stop: int) -> Any:
        options: dict[str, Any] = {"range": (begin, stop)}
        if self._etag is not None:
            options["if_match"] = self._etag
        try:
            return self._get(self._store, self._key, options=options)
        except FileNotFoundError as e:
            raise FileNotFoundError(errno.ENOENT, "not there", self.url) from e
        except Exception as e:
            raise self._named(e) from e

    def _named(self, e: Exception) -> Exception:
        known = self._errors
        if isinstance(e, known.PreconditionError):
            return FileChangedError(self.url, "the object changed; open it again")
        if isinstance(e, known.NotFoundError):
            return FileNotFoundError(errno.ENOENT, "not there", self.url)
        if isinstance(e, known.PermissionDeniedError | known.UnauthenticatedError):
            return PermissionError(errno.EACCES, f"refused: {_line(e)}", self.url)
        return OSError(errno.EIO, f"obstore: {_line(e)}", self.url)

    def read(self, at: int, into: memoryview) -> Reading:
        """See ``RemoteObject``."""
        start = time.perf_counter()
        found = self._answer(at, at + len(into))
        wait_s = time.perf_counter() - start
        meta = found.meta
        if int(meta["size"]) != self.nbytes or meta["e_tag"] != self._etag:
            raise FileChangedError(self.url, "the object changed; open it again")
        try:
            data = memoryview(found.bytes())
        except Exception as e:
            raise self._named(e) from e
        if tuple(found.range) != (at, at + len(into)) or len(data) != len(into):
            raise OSError(errno.EIO, f"{len(data)} bytes came in place of {len(into)}", self.url)
        into[:] = data
        return Reading(1, wait_s)


class FsspecObject:
    """See ``RemoteObject``: an object of a scheme that fsspec knows.

    fsspec makes no conditional requests.  So the facts of the object are compared at most every
    five seconds while ranges are read.
    """

    def __init__(self, url: str, nbytes: int | None = None) -> None:
        self.url = plain_url(url)
        core = library("fsspec.core", "remote")
        try:
            self._fs, self._path = core.url_to_fs(url)
        except (ValueError, ImportError) as e:
            raise UnsupportedError(f"{self.url}: {_line(e)}") from e
        self._facts = self._asked()
        size = self._facts[0]
        if size is None:
            raise UnsupportedError(f"{self.url}: fsspec states no size")
        self.nbytes = int(size)
        known = [str(fact) for fact in self._facts[1:] if fact is not None]
        self.tag = hashlib.sha256("\0".join(known).encode()).hexdigest() if known else None
        if self.tag is None:
            warn(
                f"{self.url}: neither ETag nor time is known: a change of the object is found only "
                "if its size changes, and nothing is stored for the next open"
            )
        self.modified_ns = 0
        self._checked = time.monotonic()
        data = bytearray(min(first_nbytes(url, nbytes), self.nbytes))
        self.read(0, memoryview(data))
        self.first = bytes(data)

    def _asked(self) -> tuple[Any, ...]:
        """Return size, ETag and times of the object."""
        try:
            self._fs.invalidate_cache(self._path)
            info = self._fs.info(self._path)
        except FileNotFoundError as e:
            raise FileNotFoundError(errno.ENOENT, "not there", self.url) from e
        except Exception as e:  # of many libraries
            raise OSError(errno.EIO, f"fsspec: {_line(e)}", self.url) from e
        names = ("ETag", "etag", "mtime", "LastModified", "last_modified", "created", "generation")
        return info.get("size"), *(info.get(name) for name in names)

    def read(self, at: int, into: memoryview) -> Reading:
        """See ``RemoteObject``."""
        if time.monotonic() - self._checked > CHECKED_S:
            self._checked = time.monotonic()
            if self._asked() != self._facts:
                raise FileChangedError(self.url, "the object changed; open it again")
        try:
            data = self._fs.cat_file(self._path, start=at, end=at + len(into)) if into else b""
        except FileNotFoundError as e:
            raise FileNotFoundError(errno.ENOENT, "not there", self.url) from e
        except Exception as e:  # of many libraries
            raise OSError(errno.EIO, f"fsspec: {_line(e)}", self.url) from e
        if len(data) != len(into):
            raise OSError(errno.EIO, f"{len(data)} bytes came in place of {len(into)}", self.url)
        into[:] = data
        return Reading(1, 0.0)


def _line(e: Exception) -> str:
    """Return the first line of an error's text."""
    return (str(e).splitlines() or [type(e).__name__])[0][:200]
