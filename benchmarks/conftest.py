"""What the pytest-benchmark suites share: data files, datasets that are open, random rows.

    pytest benchmarks --benchmark-only

They time mapix alone; compare.py sets it beside others.  $MAPIX_BENCH_RECORDS makes them small.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import mapix
from data_files import dataset, populate, refill

B = 256  # records a batch


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stored indexes go to a folder of their own, not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAPIX_CACHE_DIR", str(tmp_path_factory.mktemp("indexes")))
        yield


@pytest.fixture(scope="session", params=["uniform", "mixed"])
def path(request: pytest.FixtureRequest) -> Path:
    """A data file, read front to back."""
    found = dataset(request.param)
    refill(found)
    return found


@pytest.fixture(scope="session")
def ds(path: Path) -> Iterator[Any]:
    """The file, open and all mapped."""
    with mapix.open(path) as found:
        populate(path)
        yield found


@pytest.fixture(scope="session")
def draw(ds: Any) -> Callable[[], Any]:
    """Gives other random rows at each call."""
    rng = np.random.default_rng(0)
    return lambda: rng.integers(0, len(ds), B)


@pytest.fixture(scope="session")
def rows(ds: Any) -> Callable[[], int]:
    """Gives another random row at each call, at hardly any cost."""
    numbers = np.random.default_rng(1).permutation(len(ds)).tolist()
    return iter(_Endless(numbers)).__next__


class _Endless:
    def __init__(self, items: list[int]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from self.items
