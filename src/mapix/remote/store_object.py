"""Objects of object stores through obstore, and of everything else through fsspec."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from typing import Any

from mapix.errors import FileChangedError, UnsupportedError, warn
from mapix.optional import library
from mapix.remote import settings
from mapix.remote.objects import Reading, first_nbytes, plain_url

__all__ = ["FsspecObject", "StoreObject", "names_by_fsspec", "names_in_store"]

TRIES = 5  # at one range
LISTED = 1000  # names of a response
CONFIGURED = ("AWS_", "AZURE_", "GOOGLE_")  # variables that obstore reads
MOST_STORES = 8
CHECKED_S = 5.0  # between two questions to fsspec whether an object is still the same
STATUS = re.compile(r"status code: (\d{3}) ?([A-Za-z -]*)")  # in the text of an error of obstore,
CODE = re.compile(r"<Code>(\w{1,60})</Code>")  # and in the body that it quotes
MESSAGE = re.compile(r"<Message>([^<\x00-\x1f\x7f]{1,200})</Message>")
REFUSALS = ("401", "403")
NO_BUCKETS = ("NoSuchBucket", "ContainerNotFound")


class StoreObject:
    """See ``RemoteObject``: an object of ``s3://``, ``gs://`` or ``az://``, through obstore.

    Credentials, region and endpoint come from the environment, as obstore documents.
    """

    def __init__(self, url: str, nbytes: int | None = None) -> None:
        obstore = library("obstore", "remote")
        self.url = plain_url(url)
        self._store, self._key = _store_of(url)
        self._get = obstore.get
        self._etag: str | None = None
        try:
            found = self._answer(0, first_nbytes(url, nbytes))
            with _named_errors(self.url):
                meta, self.first = found.meta, bytes(found.bytes())
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as e:  # of an empty object, too: it has no range
            try:
                meta, self.first = obstore.head(self._store, self._key), b""
            except MemoryError:
                raise
            except Exception:  # the first answer states more
                raise e from None
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
        with _named_errors(self.url):
            return self._get(self._store, self._key, options=options)

    def read(self, at: int, into: memoryview) -> Reading:
        """See ``RemoteObject``."""
        start = time.perf_counter()
        found = self._answer(at, at + len(into))
        wait_s = time.perf_counter() - start
        meta = found.meta
        if int(meta["size"]) != self.nbytes or meta["e_tag"] != self._etag:
            raise FileChangedError(self.url, "the object changed; open it again")
        with _named_errors(self.url):
            data = memoryview(found.bytes())
        if tuple(found.range) != (at, at + len(into)) or len(data) != len(into):
            raise OSError(errno.EIO, f"{len(data)} bytes came in place of {len(into)}", self.url)
        into[:] = data
        return Reading(1, wait_s)


def _store_of(url: str) -> tuple[Any, str]:
    """Return obstore's store of a URL, and the key: all after the bucket, as it is."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    known = frozenset(item for item in os.environ.items() if item[0].startswith(CONFIGURED))
    try:
        store = _store(f"{scheme}://{bucket}", settings.timeout_s(), known)
    except UnsupportedError:
        raise
    except MemoryError:
        raise
    except Exception as e:  # of configuration; obstore has several types
        raise OSError(errno.EINVAL, f"obstore: {_line(e)}", plain_url(url)) from e
    return store, key.lstrip("/")


@lru_cache(MOST_STORES)
def _store(bucket: str, timeout_s: float, environment: frozenset[tuple[str, str]]) -> Any:
    """Return the store of a bucket, whose connections are used again."""
    del environment  # obstore reads it
    return library("obstore.store", "remote").from_url(
        bucket,
        retry_config={
            "max_retries": TRIES - 1,
            "retry_timeout": timedelta(seconds=TRIES * timeout_s),
        },
    )


os.register_at_fork(after_in_child=_store.cache_clear)


def _named(e: Exception, url: str, missing: str = "") -> Exception:
    """Return an exception of obstore as one that names the object.

    Parameters
    ----------
    e : Exception
        Its exception.  Of a listing it is a generic one, whose text has the status.
    url : str
        The object or folder.
    missing : str
        What the server does not have, if it answered 404; by default the object, or its bucket.
    """
    known = library("obstore.exceptions", "remote")
    text = str(e)
    status, code = STATUS.search(text), CODE.search(text)
    number = status[1] if status else ""
    if isinstance(e, known.PreconditionError):
        return FileChangedError(url, "the object changed; open it again")
    if isinstance(e, known.NotFoundError | FileNotFoundError) or number == "404":
        bucket = code is not None and code[1] in NO_BUCKETS
        reason = missing or ("there is no such bucket" if bucket else "not there")
        return FileNotFoundError(errno.ENOENT, reason, url)
    if status is None:  # the last part is the cause, after what was tried
        line = (text.splitlines() or [type(e).__name__])[0]
        reason = f"obstore: {line.rpartition(' - ')[2][:200]}"
    else:
        reason = f"the server answered {number} {status[2]}".rstrip()
        message = MESSAGE.search(text)
        said = ": ".join(found[1] for found in (code, message) if found)
        reason += f" ({said})" if said else ""
    if isinstance(e, known.PermissionDeniedError | known.UnauthenticatedError) or (
        number in REFUSALS
    ):
        return PermissionError(errno.EACCES, reason, url)
    return OSError(errno.EIO, reason, url)


@contextlib.contextmanager
def _named_errors(url: str, missing: str = "") -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as e:
        raise _named(e, url, missing) from e


def names_in_store(url: str) -> Iterator[tuple[str, int]]:
    """Yield name and size of the objects below a folder, by requests for 1,000 each."""
    store, key = _store_of(url)
    folder = key.rstrip("/")
    front = len(folder) + 1 if folder else 0
    with _named_errors(plain_url(url), "there is no such bucket"):
        for some in library("obstore", "remote").list(store, folder or None, chunk_size=LISTED):
            yield from ((meta["path"][front:], meta["size"]) for meta in some)


class FsspecObject:
    """See ``RemoteObject``: an object of a scheme that fsspec knows.

    fsspec makes no conditional requests.  So the facts of the object are compared at most every
    five seconds while ranges are read.
    """

    def __init__(self, url: str, nbytes: int | None = None) -> None:
        self.url = plain_url(url)
        self._fs, self._path = _file_system_of(url)
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
        except MemoryError:
            raise
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
        except MemoryError:
            raise
        except Exception as e:  # of many libraries
            raise OSError(errno.EIO, f"fsspec: {_line(e)}", self.url) from e
        if len(data) != len(into):
            raise OSError(errno.EIO, f"{len(data)} bytes came in place of {len(into)}", self.url)
        into[:] = data
        return Reading(1, 0.0)


def _file_system_of(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it."""
    core = library("fsspec.core", "remote")
    try:
        found: tuple[Any, str] = core.url_to_fs(url)
    except (ValueError, ImportError) as e:
        raise UnsupportedError(f"{plain_url(url)}: {_line(e)}") from e
    except MemoryError:
        raise
    except Exception as e:  # of many libraries; some connect here
        raise OSError(errno.EIO, f"fsspec: {_line(e)}", plain_url(url)) from e
    return found


def names_by_fsspec(url: str) -> Iterator[tuple[str, int]]:
    """Yield name and size of the files below a folder, folder by folder."""
    fs, path = _file_system_of(url)
    front = path.rstrip("/") + "/"
    try:
        fs.invalidate_cache(path)
        for folder, _, files in fs.walk(path, detail=True, on_error="raise"):
            here = folder.rstrip("/") + "/"
            for name, info in files.items():
                yield (here + name).removeprefix(front), info.get("size") or 0
    except FileNotFoundError:
        return
    except NotImplementedError as e:
        raise PermissionError(errno.EACCES, "fsspec: it does not list", plain_url(url)) from e
    except OSError:
        raise
    except MemoryError:
        raise
    except Exception as e:  # of many libraries
        raise OSError(errno.EIO, f"fsspec: {_line(e)}", plain_url(url)) from e


def _line(e: Exception) -> str:
    """Return the first line of an error's text."""
    return (str(e).splitlines() or [type(e).__name__])[0][:200]
