"""Run two writers at once; the test chooses every switch between them.

Each writer runs in its own thread, but only one of them at a time.  A writer stops before the call
of ``mapix.store.Calls`` that the test names, and continues when the test calls ``run``.  Nothing
sleeps and nothing depends on luck: the same numbers give the same order of calls.

A writer dies like a killed process: its further calls have no effect, and its descriptors, with
their locks, are closed.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import mapix
from mapix import store
from mapix.store import SYSTEM, Calls

NAMES = [name for name in vars(Calls) if not name.startswith("_")]
OPENING = ("open", "reopen", "append", "scratch")
REFUSALS = (mapix.LockedError, FileExistsError, mapix.FileChangedError)
END = 10**9


class DeadError(OSError):
    """Raised by the calls of a dead writer, in its thread."""


class Writer:
    """A writer in a thread of its own.

    Parameters
    ----------
    act : callable
        What it does.
    stop : int
        The number, from 0, of the call before which it stops the first time.
    error : OSError, optional
        What that call raises, instead of being carried out; then it does not stop.
    """

    def __init__(
        self, act: Callable[[], object], stop: int = END, error: OSError | None = None
    ) -> None:
        self.act, self.stop, self.failure = act, stop, error
        self.ncalls = 0
        self.calls: list[str] = []
        self.fds: set[int] = set()
        self.error: BaseException | None = None
        self.ended = self.dead = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._go.acquire()
        CURRENT.writer = self
        try:
            self.act()
        except BaseException as e:
            self.error = e.with_traceback(None)
        self.ended = True
        self._back.release()

    def pause(self) -> None:
        """Stop the writer's thread, and let the test continue until it calls ``run``."""
        self._back.release()
        self._go.acquire()

    def run(self) -> None:
        """Run the writer until it stops, waits or ends."""
        if not self.ended:
            self._go.release()
            self._back.acquire()
        if self.ended:
            self._thread.join()

    def finish(self) -> None:
        """Run the writer to its end."""
        while not self.ended:
            self.run()

    def die(self) -> None:
        """Do to the writer what kill -9 does to a process."""
        if not self.ended:
            self.dead = True
            self.finish()
            for fd in self.fds:
                os.close(fd)

    def call(self, name: str, *args: Any) -> Any:
        """Make one call of the writer's table."""
        number = self.ncalls
        self.ncalls += 1
        self.calls.append(name)
        if number == self.stop:
            if self.failure is not None:
                raise self.failure
            self.pause()
        if self.dead:
            raise DeadError(name)
        return self.made(name, *args)

    def made(self, name: str, *args: Any) -> Any:
        """Make a call, and note the descriptors that are open."""
        found = really(name, *args)
        if name in OPENING:
            self.fds.add(found)
        elif name == "close":
            self.fds.discard(args[0])
        return found


class _Current(threading.local):
    writer: Writer | None = None


CURRENT = _Current()


def really(name: str, *args: Any) -> Any:
    """Make a call, except syncs: no power is lost here."""
    return None if name.startswith("fsync") else getattr(type(SYSTEM), name)(*args)


@contextlib.contextmanager
def hooked() -> Iterator[None]:
    """Let the calls of writers in their threads go through them."""

    def through(name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            writer = CURRENT.writer
            return really(name, *args) if writer is None else writer.call(name, *args)

        return call

    class Time:
        monotonic = staticmethod(store.time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            assert CURRENT.writer is not None
            CURRENT.writer.pause()
            if CURRENT.writer.dead:
                raise DeadError("sleep")

    real, store.time = store.time, Time  # type: ignore[assignment]
    for name in NAMES:
        setattr(SYSTEM, name, through(name))
    try:
        yield
    finally:
        store.time = real
        for name in NAMES:
            delattr(SYSTEM, name)


class Killing:
    """The operating system, for a process that is killed before one of its calls.

    Parameters
    ----------
    left : int
        How many calls come before.
    """

    def __init__(self, left: int) -> None:
        self.left = left

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return getattr(SYSTEM, name)(*args)

        return call


def killed(work: Callable[[Any, Any], object], turn: int, rng: random.Random) -> list[bytes]:
    """Let a process do some counted work, kill it with SIGKILL, and return its reports.

    Every other turn it dies before a call that the random numbers choose; else when it has reported
    so often as they say, wherever it is by then.

    Parameters
    ----------
    work : callable
        ``work(calls, done)``: it goes on for ever, with these calls, and says ``done.send_bytes``.
    turn : int
        Its number.
    rng : random.Random
        Chooses when.
    """
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    calls = Killing(rng.randrange(1, 60)) if turn % 2 else SYSTEM
    process = fork.Process(target=work, args=(calls, theirs))
    process.start()
    theirs.close()
    reports = []
    with contextlib.suppress(EOFError):
        wanted = rng.randrange(1, 5)
        while True:
            reports.append(ours.recv_bytes())
            if len(reports) == wanted and turn % 2 == 0:
                os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return reports


def calls_of(act: Callable[[], object]) -> list[str]:
    """Return the calls that a writer makes when it is alone."""
    alone = Writer(act)
    alone.finish()
    if alone.error is not None:
        raise alone.error
    return alone.calls


# The order in which two writers go: what each does when its turn comes.
ORDERS = {
    "both go on": ("first", "second", "first!", "second!"),
    "the second ends first": ("first", "second", "second!", "first!"),
    "the second dies": ("first", "second", "second dies", "first!"),
    "the first dies": ("first", "first dies", "second!"),
    "the first dies later": ("first", "second", "first dies", "second!"),
}
# The same, if another program that takes no lock acts in between.
DISTURBED = {
    "the first ends first": ("first", "disturbed", "second", "first!", "second!"),
    "the second ends first": ("first", "disturbed", "second", "second!", "first!"),
}


def together(
    acts: tuple[Callable[[], object], Callable[[], object]],
    stops: tuple[int, int],
    order: tuple[str, ...],
    check: Callable[[], object],
    disturb: Callable[[], object] = lambda: None,
) -> tuple[Writer, Writer]:
    """Run two writers in one of ``ORDERS``; call ``check`` whenever one of them stops."""
    writers = Writer(acts[0], stops[0]), Writer(acts[1], stops[1])
    for step in order:
        if step == "disturbed":
            disturb()
            continue
        number = step.startswith("second")
        writer, other = writers[number], writers[not number]
        if step.endswith("!"):
            _to_the_end(writer, other)
        elif step.endswith("dies"):
            writer.die()
        else:
            writer.run()
        check()
    return writers


def _to_the_end(writer: Writer, other: Writer) -> None:
    writer.stop = END
    writer.run()
    while not writer.ended:  # it waits for the lock of the other
        other.stop = END
        other.run()
        writer.run()


def outcomes(
    old: Any, after: Callable[[Any, str], Any], sure: set[str], perhaps: set[str]
) -> set[Any]:
    """Return the states that writers may leave: all ``sure`` ones, some others, in any order."""
    found = set()
    for n in range(len(perhaps) + 1):
        for more in itertools.combinations(sorted(perhaps), n):
            for order in itertools.permutations(sorted(sure) + list(more)):
                state = old
                with contextlib.suppress(LookupError):  # such an order is not allowed
                    for who in order:
                        state = after(state, who)
                    found.add(state)
    return found
