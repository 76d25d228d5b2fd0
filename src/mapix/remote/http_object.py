"""Objects of HTTP servers, by the standard library: ranged requests over lasting connections.

Whatever a server does, a read ends: with the bytes that were asked for, or with an error.  A
response is used only if it states the range, the size and the ETag that are expected.  Other ones,
and responses that are too short, too slow or cut off, are requested again, up to five times.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import errno
import http.client
import io
import netrc
import os
import random
import re
import socket
import ssl
import time
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from mapix.errors import FileChangedError, UnsupportedError, warn
from mapix.remote import settings
from mapix.remote.objects import Reading, first_nbytes, plain_url

__all__ = ["HttpObject"]

TRIES = 5  # at one range
FIRST_PAUSE_S, MOST_PAUSE_S = 0.1, 10.0  # between two tries; it doubles
SLOWEST_NBYTES_PER_S = 32 << 10  # a range that takes longer is requested again
MOST_REDIRECTS = 5
MOST_IDLE = 64  # connections to one server that stay open
PIECE_NBYTES = 256 << 10
COMPLETE_NBYTES = 64 << 20  # objects of servers without ranges are read at once up to this size
AGAIN = (408, 425, 429, 500, 502, 503, 504)
GONE, FORBIDDEN = (404, 410), (401, 403, 407)
REDIRECTS = (301, 302, 303, 307, 308)
RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)
FAULTS = (ConnectionError, TimeoutError, http.client.HTTPException, socket.gaierror)
BAD = re.compile(r"[\x00-\x20\x7f]")  # characters that a URL must not have
SAFE = "/%:@!$&'()*+,;=~-._?"  # characters of a path that stay as they are

_Server = tuple[str, str, int]
_Proxy = tuple[str, int, str | None]  # host, port, and the header for user and password
_Response = http.client.HTTPResponse
_idle: dict[_Server, list[http.client.HTTPConnection]] = {}

# the parent goes on to use its connections
os.register_at_fork(after_in_child=_idle.clear)


class _AgainError(Exception):
    """A response that is not used: the request is repeated, after ``pause`` seconds or later."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class _Timed(io.RawIOBase):
    """The bytes of a socket until a point in time, however slowly they come."""

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock, self._end = sock, end
        self._raw: Any = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"slower than {SLOWEST_NBYTES_PER_S} bytes per second")
        self._sock.settimeout(min(settings.timeout_s(), left))
        got: int | None = self._raw.readinto(into)
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the reader that ``http.client`` asks a socket for."""
        return io.BufferedReader(self)


class HttpObject:
    """See ``RemoteObject``.

    Redirects are followed to the same scheme, and from http to https.  Credentials are sent only to
    the server of the URL.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``, perhaps with user and password; otherwise ~/.netrc may have
        them.
    nbytes : int, optional
        First bytes that opening reads.
    """

    def __init__(self, url: str, nbytes: int | None = None) -> None:
        parts = urlsplit(url)
        self.url = plain_url(url)
        try:
            self._server = _server_of(parts)
        except ValueError as e:  # a port that is not a number
            raise OSError(errno.EINVAL, f"not a URL: {e}", self.url) from e
        if not self._server[1]:
            raise OSError(errno.EINVAL, "a URL without a host", self.url)
        self._authorization = _authorization(parts)
        self._start = self._location = self.url
        self.nbytes = -1  # not known yet
        self._answered_complete = False
        self._etag: str | None = None
        self._date: str | None = None
        data = bytearray(first_nbytes(url, nbytes))
        got = self._tried(0, memoryview(data))[0]
        self.first = bytes(data[:got])
        if self._answered_complete and got < self.nbytes:  # a server without ranges
            data = bytearray(self.nbytes)
            self._tried(0, memoryview(data))
            self.first = bytes(data)
        self.modified_ns = _nanoseconds(self._date)
        self.tag: str | None = self._etag or (
            None if self._date is None else f"modified {self._date}"
        )
        if self.tag is None and self.nbytes:
            warn(
                f"{self.url}: the server gives neither ETag nor Last-Modified: a change of the "
                "object is found only if its size changes, and nothing is stored for the next open"
            )

    # --- one range --------------------------------------------------------------------------------

    def read(self, at: int, into: memoryview) -> Reading:
        """See ``RemoteObject``."""
        return self._tried(at, into)[1]

    def _tried(self, at: int, into: memoryview) -> tuple[int, Reading]:
        """Read a range, repeatedly where that may help; return the number of bytes, too."""
        done, wait, reason = [0], FIRST_PAUSE_S, ""
        for attempt in range(1, TRIES + 1):
            pause = 0.0
            try:
                wait_s = self._read_once(at, into, done)
                return done[0], Reading(attempt, wait_s)
            except _AgainError as e:
                reason, pause = str(e), e.pause
            except FAULTS as e:
                reason = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
                self._location = self._start  # a redirect may have led to a server that is gone
            except OSError as e:  # a certificate, or the network
                if e.filename is not None:
                    raise
                if isinstance(e, ssl.SSLError):  # whose number is not one of the system
                    reason = str(e.reason or e).replace("_", " ").lower()
                    reason += ": " * bool(said := getattr(e, "verify_message", "")) + said
                    raise OSError(errno.EIO, f"no secure connection: {reason}", self.url) from e
                raise OSError(e.errno or errno.EIO, e.strerror or str(e), self.url) from e
            if attempt < TRIES:
                time.sleep(min(max(pause, wait * (0.5 + random.random())), MOST_PAUSE_S))
            wait *= 2
        what = f"bytes {at} to {at + len(into)} did not come: {reason[:200]} ({TRIES} tries)"
        raise OSError(errno.EIO, what, self.url)

    def _read_once(self, at: int, into: memoryview, done: list[int]) -> float:
        """Make one request for what is missing, and return the seconds until its response.

        ``done`` counts the bytes that arrived.
        """
        begin, stop, start = at + done[0], at + len(into), time.perf_counter()
        server, connection, response = self._respond(begin, stop)
        wait_s = time.perf_counter() - start
        try:
            skipped, nbytes = self._checked(response, begin, stop)
            while skipped:
                skipped -= len(_some(response, min(skipped, PIECE_NBYTES)))
            stop_at = done[0] + nbytes
            while done[0] < stop_at:
                piece = _some(response, min(stop_at - done[0], PIECE_NBYTES))
                into[done[0] : done[0] + len(piece)] = piece
                done[0] += len(piece)
            keep = response.length == 0 and not response.will_close
        except BaseException:
            connection.close()
            raise
        finally:
            response.close()
        if keep:
            _give_back(server, connection)
        else:
            connection.close()
        return wait_s

    def _checked(self, response: _Response, begin: int, stop: int) -> tuple[int, int]:
        """Compare a response with what was asked for; return bytes to skip, and bytes to read."""
        status = response.status
        if status in AGAIN:
            raise _AgainError(f"the server answered {_status(status)}", _pause_of(response))
        if status in FORBIDDEN + GONE and self._location != self._start:
            self._location = self._start
            raise _AgainError(f"the server of a redirect answered {_status(status)}")
        if status in GONE:
            raise FileNotFoundError(errno.ENOENT, f"not there ({_status(status)})", self.url)
        if status in FORBIDDEN:
            raise PermissionError(errno.EACCES, f"refused ({_status(status)})", self.url)
        if status == 412:
            raise FileChangedError(self.url, "the object changed; open it again")
        if status == 416:
            empty = response.getheader("Content-Range", "").replace(" ", "") == "bytes*/0"
            if self.nbytes < 0 and empty:
                self._take(response, 0)
                return 0, 0
            raise FileChangedError(self.url, f"it has no bytes {begin} to {stop}; open it again")
        if status not in (200, 206):
            raise OSError(errno.EIO, f"the server answered {_status(status)}", self.url)
        coding = response.getheader("Content-Encoding", "identity").strip().lower()
        if coding not in ("identity", ""):
            reason = f"{self.url}: the server sends the object compressed ({coding[:20]!r})"
            raise UnsupportedError(reason)
        if status == 200:
            return self._checked_complete(response, begin, stop)
        found = RANGE.fullmatch(response.getheader("Content-Range", "").strip())
        if found is None:
            raise _AgainError("the server does not state which bytes it sent")
        first, last, total = map(int, found.groups())
        self._take(response, total)
        stop = min(stop, total)
        if (first, last + 1) != (begin, stop):
            raise _AgainError(f"bytes {begin} to {stop} were requested, {first} to {last + 1} came")
        if response.length not in (None, stop - begin):
            raise _AgainError(f"{stop - begin} bytes were requested, {response.length} came")
        return 0, stop - begin

    def _checked_complete(self, response: _Response, begin: int, stop: int) -> tuple[int, int]:
        """Return the same of a response with the complete object."""
        if response.length is None or (response.length > COMPLETE_NBYTES and self.nbytes < 0):
            size = (
                "" if response.length is None else f", and the object has {response.length} bytes"
            )
            raise UnsupportedError(
                f"{self.url}: the server does not serve ranges of bytes{size}: download it"
            )
        if response.length > COMPLETE_NBYTES:
            raise _AgainError("the server sent the complete object in place of a range")
        self._take(response, response.length)
        return begin, min(stop, self.nbytes) - begin

    def _take(self, response: _Response, nbytes: int) -> None:
        """Note size, ETag and date of the first response; compare those of the others."""
        etag, date = response.getheader("ETag"), response.getheader("Last-Modified")
        if self.nbytes < 0:
            self.nbytes, self._etag, self._date = nbytes, etag, date
            self._answered_complete = response.status == 200
            return
        if nbytes != self.nbytes:
            reason = f"the object had {self.nbytes} bytes, now it has {nbytes}; open it again"
            raise FileChangedError(self.url, reason)
        if self._etag is not None:
            if etag is None and self._etag.startswith("W/"):
                raise _AgainError("the response has no ETag")
            if etag not in (None, self._etag):
                raise FileChangedError(self.url, "its ETag changed; open it again")
        elif date != self._date:
            raise FileChangedError(self.url, "its Last-Modified changed; open it again")

    # --- requests ---------------------------------------------------------------------------------

    def _respond(
        self, begin: int, stop: int
    ) -> tuple[_Server, http.client.HTTPConnection, _Response]:
        """Send a request, follow redirects, and return the connection and its response."""
        location = self._location
        for _ in range(MOST_REDIRECTS + 1):
            parts = urlsplit(location)
            server = _server_of(parts)
            headers = self._headers(server, begin, stop)
            end = time.monotonic() + settings.timeout_s() + (stop - begin) / SLOWEST_NBYTES_PER_S
            connection, response = _send(server, _target(parts), headers, end)
            if response.status not in REDIRECTS:
                self._location = location
                return server, connection, response
            target = response.getheader("Location", "")
            response.close()
            connection.close()
            location = self._redirected(location, target)
        raise OSError(errno.ELOOP, f"more than {MOST_REDIRECTS} redirects", self.url)

    def _redirected(self, location: str, target: str) -> str:
        before = urlsplit(location).scheme
        try:
            found = urljoin(location, target) if target else ""
            scheme, host = urlsplit(found).scheme, _server_of(urlsplit(found))[1]
        except ValueError:
            found = scheme = host = ""
        if scheme and scheme not in (("https",) if before == "https" else ("http", "https")):
            reason = f"the server redirects from {before} to {scheme[:20]}, which is not followed"
            raise OSError(errno.EACCES, reason, self.url)
        if not host or BAD.search(found):
            reason = "the server redirects to something that is not a URL"
            raise OSError(errno.EIO, reason, self.url)
        return plain_url(found)

    def _headers(self, server: _Server, begin: int, stop: int) -> dict[str, str]:
        headers = {
            "Range": f"bytes={begin}-{stop - 1}",
            "Accept-Encoding": "identity",
            "User-Agent": "mapix",
        }
        if self._etag is not None and not self._etag.startswith("W/"):
            headers["If-Match"] = self._etag
        elif self._date is not None:
            headers["If-Unmodified-Since"] = self._date
        if self._authorization and server == self._server:
            headers["Authorization"] = self._authorization
        return headers


def _server_of(parts: SplitResult) -> _Server:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname or "", port


def _authorization(parts: SplitResult) -> str | None:
    """Return the header for user and password of a URL, or of ~/.netrc for its host."""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.username is None:
        try:
            found = netrc.netrc().authenticators(parts.hostname or "")
        except (OSError, netrc.NetrcParseError):
            return None
        if found is None:
            return None
        user, password = found[0], found[2] or ""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _target(parts: SplitResult) -> str:
    target = quote(parts.path or "/", safe=SAFE)
    return f"{target}?{quote(parts.query, safe=SAFE)}" if parts.query else target


def _send(
    server: _Server, target: str, headers: dict[str, str], end: float
) -> tuple[http.client.HTTPConnection, _Response]:
    """Send a GET over an idle connection or a new one."""
    proxy = _proxy_of(server)
    if proxy is not None and server[0] == "http":
        target = f"http://{_netloc(server)}{target}"
        headers |= {} if proxy[2] is None else {"Proxy-Authorization": proxy[2]}

    def timed(sock: socket.socket, *args: Any, **kwargs: Any) -> _Response:
        return _Response(_Timed(sock, end), *args, **kwargs)  # type: ignore[arg-type]

    while True:
        connection, used = _taken(server, proxy)
        connection.response_class = timed  # type: ignore[assignment]
        try:
            connection.request("GET", target, headers=headers)
            return connection, connection.getresponse()
        except (ConnectionError, http.client.HTTPException):
            connection.close()
            if not used:
                raise  # otherwise the server has closed it since
        except BaseException:
            connection.close()
            raise


def _taken(server: _Server, proxy: _Proxy | None) -> tuple[http.client.HTTPConnection, bool]:
    with contextlib.suppress(KeyError, IndexError):
        return _idle[server].pop(), True
    scheme, host, port = server
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    if proxy is None:
        return kind(host, port, timeout=settings.timeout_s()), False
    found = kind(*proxy[:2], timeout=settings.timeout_s())
    if scheme == "https":
        headers = {} if proxy[2] is None else {"Proxy-Authorization": proxy[2]}
        found.set_tunnel(host, port, headers)
    return found, False


def _proxy_of(server: _Server) -> _Proxy | None:
    """Return the proxy for a server, as ``urllib.request`` takes it from the environment."""
    from urllib.request import getproxies, proxy_bypass

    url = getproxies().get(server[0])
    if not url or proxy_bypass(_netloc(server)):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    name = f"{server[0]}_proxy"
    try:
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as e:
        raise OSError(errno.EINVAL, f"{name} is not a URL: {e}") from e
    if parts.scheme != "http" or not host:
        raise OSError(errno.EINVAL, f"{name} is not the URL of a proxy: http://HOST:PORT")
    return host, port, None if parts.username is None else _authorization(parts)


def _netloc(server: _Server) -> str:
    _, host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _give_back(server: _Server, connection: http.client.HTTPConnection) -> None:
    idle = _idle.setdefault(server, [])
    if len(idle) < MOST_IDLE:
        idle.append(connection)
    else:
        connection.close()


def _some(response: _Response, most: int) -> bytes:
    piece = response.read1(most)
    if not piece:
        raise _AgainError("the server sent fewer bytes than it stated")
    return piece


def _status(status: int) -> str:
    return f"{status} {http.client.responses.get(status, '')}".strip()


def _pause_of(response: _Response) -> float:
    """Return the seconds that a response asks to wait."""
    text = response.getheader("Retry-After", "")
    return float(text) if re.fullmatch(r"\d{1,6}", text) else 0.0


def _nanoseconds(date: str | None) -> int:
    """Return a date of HTTP in ns since 1970; 0 of none, and of one that cannot be read."""
    try:
        return int(email.utils.parsedate_to_datetime(date or "").timestamp()) * 1_000_000_000
    except (ValueError, TypeError, OverflowError):
        return 0
