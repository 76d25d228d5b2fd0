"""Routes of the panel of problems: ``verify`` in a thread, its progress, what it found."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from mapix.errors import MapixError
from mapix.report import Report
from mapix.viewer.routes import Reply, Request
from mapix.viewer.session import View

__all__ = ["POSTS", "ROUTES"]

MOST_LISTED = 10_000  # problems, and damaged records, that are sent


class _StoppedError(Exception):
    """The check was stopped in the page."""


class Check:
    """One run of ``verify``.

    Attributes
    ----------
    state : {"waiting", "running", "done", "stopped", "failed"}
        How far it is.
    done, total : int
        Its progress.
    report : Report or None
        What it found.
    error : str
        Why it failed.
    """

    def __init__(self, ds: Any) -> None:
        self.ds = ds
        self.state = "waiting"
        self.done = self.total = 0
        self.report: Report | None = None
        self.error = ""
        self._lock = threading.Lock()
        self._stop = False

    def start(self) -> None:
        """Run it in a thread, unless it runs already."""
        with self._lock:
            if self.state == "running":
                return
            self.state, self.done, self.total = "running", 0, 0
            self.report, self.error, self._stop = None, "", False
        threading.Thread(target=self._run, name="mapix verify", daemon=True).start()

    def stop(self) -> None:
        """Stop it at its next report of progress."""
        self._stop = True

    def _progress(self, done: int, total: int) -> None:
        if self._stop:
            raise _StoppedError
        self.done, self.total = done, total

    def _run(self) -> None:
        try:
            self.report = self.ds.verify(self._progress)
        except _StoppedError:
            self.state = "stopped"
        except (MapixError, OSError, ValueError, MemoryError) as e:
            self.error, self.state = str(e) or type(e).__name__, "failed"
        else:
            self.state = "done"


def _check(view: View) -> Check:
    found: Check = view.cached("problems", lambda: Check(view.ds))
    return found


def problems(view: View, request: Request) -> Reply:
    """Return the progress of the check, and what it found."""
    del request
    check = _check(view)
    found = {"state": check.state, "done": check.done, "total": check.total, "error": check.error}
    report = check.report
    if check.state != "done" or report is None:
        return Reply.json(found)
    shown = report.problems[:MOST_LISTED]
    return Reply.json(
        {
            **found,
            "ok": report.ok,
            "records": report.nrecords,
            "nbytes": report.nbytes,
            "checked": report.checked,
            "count": len(report.problems),
            "problems": [
                {
                    "text": text,
                    "records": _indices(view, report.rows_of(k, view.ds.path)[:MOST_LISTED]),
                }
                for k, text in enumerate(shown)
            ],
            "damaged": _indices(view, report.damaged[:MOST_LISTED]),
        }
    )


def _indices(view: View, rows: list[int]) -> list[int]:
    """Return the indices into the dataset that is shown of records of the file."""
    ds = view.ds
    if ds._rows is None:
        return [row for row in rows if row < len(ds)]
    place = view.cached("problems.rows", lambda: np.argsort(ds.rows, kind="stable"))
    numbers = ds.rows[place]
    at = np.searchsorted(numbers, rows)
    return [
        int(place[k])
        for k, row in zip(at.tolist(), rows, strict=True)
        if k < len(numbers) and numbers[k] == row
    ]


def start(view: View, request: Request) -> Reply:
    """Begin to check."""
    _check(view).start()
    return problems(view, request)


def stop(view: View, request: Request) -> Reply:
    """Stop the check."""
    _check(view).stop()
    return problems(view, request)


ROUTES = {"problems": problems}
POSTS = {"problems.start": start, "problems.stop": stop}
