"""Helpers of the viewer's tests: a client without a browser, datasets, decoded tiles."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np

from mapix.viewer.session import View


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        """The JSON."""
        return json.loads(self.body)


class Client:
    """Sends requests to a view; knows the token."""

    def __init__(self, view: View) -> None:
        url = urlsplit(view.url)
        assert url.port is not None
        self.host, self.port = url.hostname, url.port
        self.token = url.query.removeprefix("token=")

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: Any) -> Answer:
        """Send a request; a header of None is left out, ``_`` in names stands for ``-``."""
        given = {"Host": f"127.0.0.1:{self.port}", "X-Mapix-Token": self.token}
        if body is not None:
            given["Content-Type"] = "application/json"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            data = b"" if body is None else json.dumps(body).encode()
            if body is not None:
                given.setdefault("Content-Length", str(len(data)))
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def json(self, route: str, **parameters: Any) -> Any:
        """Return the answer of a route."""
        found = self.ask(address(route, **parameters))
        assert found.status == 200, found.body
        return found.data

    def post(self, route: str, **body: Any) -> Any:
        """Return the answer of a route."""
        found = self.ask(f"/api/{route}", "POST", body)
        assert found.status == 200, found.body
        return found.data

    def tiles(self, **parameters: Any) -> dict[str, Any]:
        """Return the answer of /api/tiles, decoded: ``images`` are (h, w, channels)."""
        found = self.ask(address("tiles", **parameters))
        assert found.status == 200, found.body
        return tiles_of(found.body)


def address(route: str, **parameters: Any) -> str:
    """The path of a route with parameters."""
    text = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
    return f"/api/{route}?{text}"


def tiles_of(body: bytes) -> dict[str, Any]:
    """Decode an answer of /api/tiles."""
    version, n, k, _ = np.frombuffer(body, "<u4", 4)
    assert version == 1
    found: dict[str, Any] = {}
    at = 16
    names = ("record", "low", "high", "image_h", "image_w", "h", "w", "flags")
    for name, kind in zip(names, ("<f8",) * 3 + ("<u4",) * 5, strict=True):
        found[name] = np.frombuffer(body, kind, n, at)
        at += found[name].nbytes
    images = []
    for h, w in zip(found["h"].tolist(), found["w"].tolist(), strict=True):
        images.append(np.frombuffer(body, np.uint8, h * w * int(k), at).reshape(h, w, int(k)))
        at += h * w * int(k)
    assert at == len(body)
    return found | {"images": images}


@contextmanager
def shown(ds: Any, **options: Any) -> Iterator[tuple[View, Client]]:
    """Show a dataset, without a browser."""
    with View(ds, **options) as view:
        view.start()
        yield view, Client(view)


def write_idx(folder: Path, n: int = 300, h: int = 12, w: int = 10) -> Any:
    """Write IDX images and labels; return the pixels and the labels."""
    rng = np.random.default_rng(n)
    images = rng.integers(0, 256, (n, h, w), np.uint8)
    labels = rng.integers(0, 10, n).astype(np.uint8)
    folder.mkdir(exist_ok=True)
    head = b"\0\0\x08\x03" + np.array([n, h, w], ">i4").tobytes()
    (folder / "train-images-idx3-ubyte").write_bytes(head + images.tobytes())
    (folder / "train-labels-idx1-ubyte").write_bytes(
        b"\0\0\x08\x01" + np.array([n], ">i4").tobytes() + labels.tobytes()
    )
    return images, labels


def chromium() -> str | None:
    """Path of a Chromium, or None."""
    paths = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
    return next((path for path in paths if os.access(path, os.X_OK)), None)
