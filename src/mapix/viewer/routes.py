"""Requests and replies of routes, checked; and the tables of all routes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mapix.registry import Deferred
from mapix.viewer.panels import panels_of

if TYPE_CHECKING:
    from mapix.viewer.session import View

__all__ = ["RefusedError", "Reply", "Request", "Route", "routes"]

JSON = "application/json"
MOST_TEXT = 10_000


class RefusedError(Exception):
    """A request that is not answered: HTTP status and a sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Request(NamedTuple):
    """Hold what a route gets.

    Attributes
    ----------
    parameters : mapping of str to str
        Of the URL.
    body : object
        The JSON of a POST.
    """

    parameters: Mapping[str, str]
    body: Any = None

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter of at most 10,000 characters."""
        found = self.parameters.get(name, default)
        if len(found) > MOST_TEXT:
            raise RefusedError(
                400, f"{name} has {len(found)} characters, at most {MOST_TEXT} are read"
            )
        return found

    def integer(self, name: str, default: int | None = None, *, least: int = 0, most: int) -> int:
        """Return a whole number within bounds; without a default it must be there."""
        found = self.parameters.get(name)
        if found is None and default is not None:
            return default
        try:
            number = int(found or "")
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise RefusedError(400, f"{name} must be a whole number {least}..{most}, got {found!r}")
        return number

    def window(self, h: int, w: int, *, most_step: int) -> tuple[tuple[int, int, int, int], int]:
        """Return a part of an image, (top, left, bottom, right), and a step in pixels.

        By default all of it, each pixel.
        """
        top = self.integer("top", 0, most=h - 1)
        left = self.integer("left", 0, most=w - 1)
        bottom = self.integer("bottom", h, least=top + 1, most=h)
        right = self.integer("right", w, least=left + 1, most=w)
        return (top, left, bottom, right), self.integer("step", 1, least=1, most=most_step)

    def number(self, name: str, default: float) -> float:
        """Return a finite number."""
        found = self.parameters.get(name)
        if found is None:
            return default
        try:
            number = float(found)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise RefusedError(400, f"{name} must be a number, got {found!r}")
        return number

    def choice(self, name: str, known: Collection[str], default: str | None = None) -> str:
        """Return one of the known words."""
        found = self.parameters.get(name, default)
        if found is None or found not in known:
            raise RefusedError(400, f"{name} must be one of {', '.join(known)}; got {found!r}")
        return found


class Reply(NamedTuple):
    """Hold what a route returns."""

    body: bytes
    kind: str
    status: int = 200
    headers: Mapping[str, str] = {}

    @classmethod
    def json(cls, data: Any, status: int = 200) -> Reply:
        """Return data as JSON.  NaN and infinities, which JSON does not have, become null."""
        text = json.dumps(plain(data), ensure_ascii=False, allow_nan=False)
        return cls(text.encode("utf-8", "backslashreplace"), JSON, status)


Route = Callable[["View", Request], Reply]


def plain(data: Any) -> Any:
    """Return data in types that JSON has."""
    if isinstance(data, Mapping):
        return {str(k): plain(v) for k, v in data.items()}
    if isinstance(data, np.ndarray):
        return plain(data.tolist())
    if isinstance(data, list | tuple | set | frozenset | range):
        return [plain(v) for v in data]
    if isinstance(data, np.generic):
        return plain(data.item())
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, bytes):
        return data.decode("utf-8", "backslashreplace")
    return data if data is None or isinstance(data, str | int) else str(data)


@cache
def routes(
    declared: tuple[Deferred, ...] = (),
) -> tuple[Mapping[str, Route], Mapping[str, Route]]:
    """Return the routes of GET and of POST, with those of a family's panels, by name."""
    gets: dict[str, Route] = {}
    posts: dict[str, Route] = {}
    for panel in panels_of(declared):
        module = panel.load()
        for known, found in ((gets, module.ROUTES), (posts, getattr(module, "POSTS", {}))):
            twice = known.keys() & found.keys()
            if twice:
                raise ValueError(f"two panels have the route {', '.join(sorted(twice))}")
            known.update(found)
    return gets, posts
