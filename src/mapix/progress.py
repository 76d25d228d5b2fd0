"""Show progress: ``progress=True`` shows a bar, and any callable can be passed in its place."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Bar", "Progress", "shown"]

Progress = Callable[[int, int], object]
"""``progress(done, total)``; the last call has ``done == total``."""


def shown(progress: Progress | bool | None, task: str, unit: str = "records") -> Progress | None:
    """Return the callback that an argument ``progress`` stands for.

    Parameters
    ----------
    progress : callable, bool or None
        A callable is returned as it is; True stands for a new bar; False and None for nothing.
    task, unit : str
        What is done, and what is counted: for the bar.
    """
    if progress is True:
        return Bar(task, unit)
    return progress or None


class Bar:
    """A bar of tqdm, or of rich; per cent on a terminal where neither is installed.

    In notebooks tqdm and rich show their own.  Bars go to stderr, and end at ``done == total``, or
    when they are deleted.

    Parameters
    ----------
    task, unit : str
        What is done, and what is counted.
    """

    def __init__(self, task: str, unit: str = "records") -> None:
        self.task, self.unit = task, unit
        self._update: Progress | None = None
        self._end: Callable[[], object] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show that so many of all are done."""
        if self._update is None:
            self._update = _tqdm(self, total) or _rich(self, total) or _percent
        self._update(done, total)
        if done >= total:
            self.close()

    def close(self) -> None:
        """End the bar; the next call begins another one."""
        end, self._update, self._end = self._end, None, None
        if end is not None:
            end()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the end of the interpreter
            self.close()


def _percent(done: int, total: int) -> None:
    from mapix.text import percent

    percent(done, total)


def _tqdm(bar: Bar, total: int) -> Progress | None:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    nbytes = bar.unit == "bytes"
    unit = "B" if nbytes else f" {bar.unit}"
    made: Any = tqdm(total=total, desc=bar.task, unit=unit, unit_scale=nbytes, file=sys.stderr)
    bar._end = made.close

    def update(done: int, total: int) -> None:
        made.total = total
        made.update(done - made.n)

    return update


def _rich(bar: Bar, total: int) -> Progress | None:
    try:
        from rich.console import Console
        from rich.progress import Progress as RichProgress
    except ImportError:
        return None
    made = RichProgress(console=Console(stderr=True))
    number = made.add_task(bar.task, total=total)
    made.start()
    bar._end = made.stop

    def update(done: int, total: int) -> None:
        made.update(number, completed=done, total=total)

    return update
