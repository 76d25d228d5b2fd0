"""A server of ranges on the loopback interface, with latency and faults, for tests."""

from __future__ import annotations

import contextlib
import email.utils
import http.server
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

__all__ = ["Handler", "Server", "serving"]


class Server(http.server.ThreadingHTTPServer):
    """Serve the files of a folder.

    Attributes
    ----------
    latency_s : float
        Seconds before each response.
    requests : list of (str, str)
        Path and range of each request so far.
    etags, dates : bool
        Whether responses state them.
    fault : callable or None
        ``fault(handler, n)`` is called with the number of each request, from 0.  If it returns
        True, it has answered.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.latency_s = 0.0
        self.requests: list[tuple[str, str]] = []
        self.etags = self.dates = True
        self.weak = self.ranges_ignored = False
        self.sent_nbytes = 0
        self.fault: Callable[[Handler, int], bool] | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def server_bind(self) -> None:
        """Bind without asking for the name of this machine, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that hang up."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        """Send small responses at once."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer a request for a range or for a complete file."""
        server = self.server
        n = len(server.requests)
        server.requests.append((self.path, self.headers.get("Range", "")))
        if server.latency_s:
            time.sleep(server.latency_s)
        if server.fault is not None and server.fault(self, n):
            return
        self.serve()

    def facts(self) -> tuple[Path, int, str, str]:
        """Return path, size, ETag and date of the file that was asked for."""
        place = self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")
        s = place.stat()
        etag = f'"{s.st_mtime_ns:x}-{s.st_size:x}"'
        date = email.utils.formatdate(s.st_mtime, usegmt=True)
        return place, s.st_size, f"W/{etag}" if self.server.weak else etag, date

    def do_HEAD(self) -> None:
        """Answer a request for the facts alone, for other libraries."""
        server = self.server
        server.requests.append((self.path, "HEAD"))
        time.sleep(server.latency_s)
        try:
            _, size, etag, date = self.facts()
        except OSError:
            self.answer(404, b"")
            return
        facts = {"ETag": etag, "Last-Modified": date, "Accept-Ranges": "bytes"}
        self.answer(200, b"", facts, size)

    def serve(self) -> None:
        """Answer as a good server does."""
        try:
            place, size, etag, date = self.facts()
            f = place.open("rb")
        except OSError:
            self.answer(404, b"")
            return
        with f:
            headers = {}
            if self.server.etags:
                headers["ETag"] = etag
                wanted = self.headers.get("If-Match")
                if wanted is not None and wanted != etag:
                    self.answer(412, b"")
                    return
            if self.server.dates:
                headers["Last-Modified"] = date
            found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if found is None or self.server.ranges_ignored:
                self.answer(200, f.read(), headers)
                return
            begin = int(found[1]) if found[1] else max(0, size - int(found[2]))
            stop = min(int(found[2]) + 1, size) if found[1] and found[2] else size
            if begin >= stop:
                self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
                return
            f.seek(begin)
            headers["Content-Range"] = f"bytes {begin}-{stop - 1}/{size}"
            self.answer(206, f.read(stop - begin), headers)

    def answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Send a response, perhaps with a length that is not that of its body."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.server.sent_nbytes += len(body)  # before the client can have it
        self.wfile.write(body)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder while the block runs; skip the test where sockets are not allowed."""
    try:
        server = Server(folder)
    except OSError as e:
        pytest.skip(f"no server on the loopback interface: {e}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as direct:
            direct.setenv("no_proxy", "127.0.0.1,localhost")
            yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
