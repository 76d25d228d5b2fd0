"""32 threads share what each family opens, and each writer: right values, or an error that says why.

The operations are those of every_operation.py: all public names of all families.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import mapix
from every_operation import Op, families, plain

NTHREADS = 32
ALL = os.environ.get("MAPIX_ALL_TESTS") == "1"
TURNS = 8 if ALL else 2
QUICK = {"vimh mixed", "iid", "idx", "npy", "tar"}
"""Run by every test run; the others take seconds."""

CHANGES_THE_FILE = {"append"}

pytestmark = pytest.mark.filterwarnings("ignore::mapix.MapixWarning")


def by_threads(acts: Iterable[Callable[[], Any]]) -> list[BaseException]:
    """Let 32 threads take and call ``acts`` in their order; return what they raised."""
    waiting, raised = list(acts)[::-1], []
    start = threading.Barrier(NTHREADS)

    def run() -> None:
        start.wait()
        while waiting:
            try:
                act = waiting.pop()
            except IndexError:  # another thread took the last one
                return
            try:
                act()
            except BaseException as e:
                raised.append(e)

    threads = [threading.Thread(target=run) for _ in range(NTHREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def operations(name: str) -> dict[str, Op]:
    """Return the operations of a family that leave the file as it is, and open."""
    return {
        what: op
        for what, op in families()[name].operations()
        if what.rpartition(".")[2] not in {"close", *CHANGES_THE_FILE}
    }


def in_some_order(what: Iterable[str], seed: int) -> list[str]:
    """Return names in random order, each of them several times in a row: threads meet in it."""
    order = sorted(what)
    random.Random(seed).shuffle(order)
    return [name for name in order for _ in range(TURNS)]


@pytest.mark.parametrize("name", sorted(families()))
@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
def test_every_operation_on_one_dataset(tmp_path: Path, name: str, closing: bool) -> None:
    """Each thread finds what one alone finds; ClosedError once another thread has closed it."""
    if name not in QUICK and not ALL:
        pytest.skip("takes seconds: set MAPIX_ALL_TESTS=1")
    if name == "folder" or name.startswith("pink"):
        pytest.importorskip("PIL")
    family, ops = families()[name], operations(name)
    path = family.make(tmp_path)
    expected = {what: plain(op(family.open(path))) for what, op in ops.items()}
    shared = family.open(path)  # anew: what is made at the first use is made by many at once
    wrong: list[str] = []

    def compared(what: str) -> Callable[[], None]:
        def act() -> None:
            try:
                if plain(ops[what](shared)) != expected[what]:
                    wrong.append(f"{what}: another answer")
            except mapix.ClosedError:
                if not closing:
                    raise
            except Exception as e:
                wrong.append(f"{what}: {e!r}")

        return act

    acts = [compared(what) for what in in_some_order(ops, len(name))]
    if closing:
        acts.insert(len(acts) // 2, shared.close)
    assert not by_threads(acts)
    assert not wrong, "\n".join(wrong)
