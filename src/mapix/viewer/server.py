"""The HTTP server of the viewer: for browsers on this machine that were given the token.

Other pages in the same browser can send requests to 127.0.0.1, and a name that they control can
resolve to it (DNS rebinding).  So a request is answered only if its Host is this server, its Origin
and ``Sec-Fetch-Site`` do not state another site, and it has the token: in the URL once, then in a
cookie that pages cannot read, or in a header.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import selectors
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from functools import cache
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from mapix.errors import FileChangedError, MapixError
from mapix.registry import Deferred
from mapix.viewer.panels import panels_of
from mapix.viewer.routes import RefusedError, Reply, Request, routes

if TYPE_CHECKING:
    from mapix.viewer.session import View

__all__ = ["HEADERS", "Server"]

ADDRESS = "127.0.0.1"
MOST_CONNECTIONS = 64
MOST_BODY_NBYTES = 4 << 20
MOST_URL = 1 << 15
IDLE_S = 60
KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
TOKEN_HEADER = "X-Mapix-Token"


@cache
def static_files() -> Mapping[str, Reply]:
    """Return the files of the page by name.  They are read once; no name of a client is opened."""
    return {
        entry.name: Reply(entry.read_text("utf-8").encode(), kind)
        for entry in files("mapix.viewer").joinpath("static").iterdir()
        if (kind := KINDS.get(entry.name.rpartition(".")[2])) is not None
    }


@cache
def scripts(declared: tuple[Deferred, ...]) -> Mapping[str, Reply]:
    """Return the scripts of a family's panels, by name."""
    own = panels_of(declared)[: len(declared)]
    return {f"{panel.name}.js": Reply(panel.script(), KINDS["js"]) for panel in own}


class Server(ThreadingHTTPServer):
    """A server of one view.

    Parameters
    ----------
    view : View
        What is shown.
    port : int
        0 chooses a free one.

    Attributes
    ----------
    token : str
        128 random bits.
    """

    daemon_threads = True
    request_queue_size = 32
    allow_reuse_address = True

    def __init__(self, view: View, port: int = 0) -> None:
        self._stop, self._stopping = socket.socketpair()  # closed if the port cannot be had
        super().__init__((ADDRESS, port), Handler)
        self.view = view
        self.token = secrets.token_urlsafe(16)
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        self.cookie = f"mapix-{self.server_port}"  # cookies do not know ports
        self._connections: set[socket.socket] = set()
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def serve(self) -> None:
        """Handle connections until ``stop``."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._stopping, selectors.EVENT_READ)
            while not any(key.fileobj is self._stopping for key, _ in selector.select()):
                self._handle_request_noblock()  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Let ``serve`` return, and end all connections."""
        self._stop.send(b"x")
        for connection in self._connections.copy():
            with contextlib.suppress(OSError):  # its thread has closed it
                connection.shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        """Close all sockets."""
        super().server_close()
        self._stop.close()
        self._stopping.close()

    @property
    def url(self) -> str:
        """The address of the page, token included."""
        return f"http://{ADDRESS}:{self.server_port}/?token={self.token}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread; close it if there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection."""
        self._connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.discard(request)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong, unless the browser closed the connection."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "mapix"
    sys_version = ""
    timeout = IDLE_S
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer a GET, which changes nothing."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer a POST: it changes the selection, or writes it if that was allowed."""
        self._answer(self._post)

    def _answer(self, method: Any) -> None:
        try:
            if len(self.path) > MOST_URL:
                raise RefusedError(414, "the URL is too long")
            self._check_host()
            reply = method(urlsplit(self.path))
        except RefusedError as e:
            reply = _problem(e.status, "Refused", e)
            self.close_connection = True  # a body might not have been read
        except FileChangedError as e:
            reply = _problem(409, "FileChangedError", e)
        except (MapixError, OSError, ValueError, KeyError, IndexError, TypeError) as e:
            reply = _problem(422, type(e).__name__, e)
        except MemoryError as e:
            reply = _problem(507, "MemoryError", e)
        except Exception as e:  # a fault of a format, or of the viewer
            traceback.print_exc()
            reply = _problem(500, type(e).__name__, e)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in (HEADERS | dict(reply.headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()

    def _check_host(self) -> None:
        """Refuse other sites' requests, also those under a name that resolves to this machine."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise RefusedError(421, "this is not the host that was asked for")
        origins = self.headers.get_all("Origin", [])
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            raise RefusedError(403, "requests of other sites are not answered")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            # a link to the page may be anywhere; following one is a navigation
            navigates = self.headers.get("Sec-Fetch-Mode") == "navigate"
            if not (navigates and self.command == "GET" and urlsplit(self.path).path == "/"):
                raise RefusedError(403, "requests of other sites are not answered")

    def _is_token(self, text: str | None) -> bool:
        return text is not None and hmac.compare_digest(text.encode(), self.server.token.encode())

    def _check_token(self) -> None:
        if self._is_token(self.headers.get(TOKEN_HEADER)):
            return
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            cookie = None
        if cookie is None or not self._is_token(cookie.value):
            raise RefusedError(403, "open the address that mapix printed: it has a token")

    def _get(self, url: Any) -> Reply:
        parameters = dict(parse_qsl(url.query, keep_blank_values=True, max_num_fields=64))
        if url.path == "/" and "token" in parameters:
            if not self._is_token(parameters["token"]):
                raise RefusedError(403, "the token is wrong: open the address that mapix printed")
            cookie = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Lax; Path=/"
            return Reply(b"", KINDS["html"], 303, {"Location": "/", "Set-Cookie": cookie})
        self._check_token()
        if url.path == "/":
            return static_files()["index.html"]
        folder, _, name = url.path[1:].partition("/")
        declared = self.server.view.ds.PANELS
        if folder == "static" and name in static_files():
            return static_files()[name]
        if folder == "static" and name in scripts(declared):
            return scripts(declared)[name]
        if folder == "api" and name in routes(declared)[0]:
            return routes(declared)[0][name](self.server.view, Request(parameters))
        raise RefusedError(404, "there is no such page")

    def _post(self, url: Any) -> Reply:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and int(length) <= MOST_BODY_NBYTES):
            raise RefusedError(413, f"a body of at most {MOST_BODY_NBYTES} bytes is read")
        self._check_token()
        folder, _, name = url.path[1:].partition("/")
        posts = routes(self.server.view.ds.PANELS)[1]
        if folder != "api" or name not in posts:
            raise RefusedError(404, "there is no such page")
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise RefusedError(415, "a body of application/json is expected")
        data = self.rfile.read(int(length))
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as e:
            raise RefusedError(400, "the body is not JSON") from e
        return posts[name](self.server.view, Request({}, body))


def _problem(status: int, kind: str, error: BaseException) -> Reply:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return Reply.json({"error": text, "kind": kind}, status)
