"""The exit statuses of commands."""

from __future__ import annotations

__all__ = ["BAD_DATA", "FAILED", "GOOD", "PIPE_CLOSED", "USAGE"]

GOOD = 0
BAD_DATA = 1  # bytes break their format, a check found a problem, or two datasets differ
FAILED = 2  # it could not be done
USAGE = 3  # the arguments are wrong
PIPE_CLOSED = 141  # as shells have it for a reader that closed the pipe
