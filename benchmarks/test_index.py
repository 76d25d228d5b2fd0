"""Building an index with a fresh mapping, and keeping it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mapix
from mapix.source import Source
from mapix.vimh import layout


def test_walk(benchmark: Any, path: Path) -> None:
    """One dialect, as in a file that is opened for the first time with dialect=14."""
    reading = benchmark.pedantic(
        lambda: layout.walk(Source(path), 14), rounds=7, warmup_rounds=1, iterations=1
    )
    assert reading.complete
    benchmark.extra_info["records"] = reading.index.nrecords


def test_hop(benchmark: Any, path: Path, ds: Any) -> None:
    """The plainest loop there is in the core: what the walk is better than."""
    import numpy as np

    from mapix import _native

    def hop() -> int:
        source = Source(path)
        entries = np.empty(len(ds), _native.ENTRY)
        _, written = _native.Walk(14).hop(source.mapping, source.nbytes, entries)
        return written

    assert benchmark.pedantic(hop, rounds=7, warmup_rounds=1, iterations=1) == len(ds)


def test_choose(benchmark: Any, path: Path) -> None:
    """Both dialects tried."""
    reading = benchmark.pedantic(
        lambda: layout.choose(Source(path)), rounds=7, warmup_rounds=1, iterations=1
    )
    assert reading.complete


def test_rebuild(benchmark: Any, path: Path) -> None:
    """Built, and stored for the next time."""
    ds = benchmark.pedantic(
        lambda: mapix.open(path, index="rebuild"), rounds=5, warmup_rounds=1, iterations=1
    )
    assert len(ds)
