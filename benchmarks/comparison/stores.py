"""Opening contenders for a measure: stores made, page cache in order, results checked."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from comparison.rounds import told
from contenders import RANDOM, named
from contenders.base import Contender, views
from data_files import Held, dataset, evict, held, populate, resident

CHECKED = 64  # records compared before anything is measured


@dataclass
class Stores:
    """Contenders that are open, and those that are not."""

    source: Path
    open: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    hold: Held = field(default_factory=Held)

    def touch(self, name: str) -> None:
        """Look at every page of a contender's files: to be done before each timed part."""
        self.hold.touch(self.open[name].path if name in self.open else self.source)


def entrants(kind: str, names: Iterable[str] = RANDOM) -> Iterator[type[Contender]]:
    """Those of the contenders that can hold such a file."""
    return (c for c in map(named, names) if kind in c.KINDS)


def enter(stores: Stores, kind: str, names: Iterable[str]) -> list[type[Contender]]:
    """Those that can take part, their stores made; the others are left out, and why."""
    ready = []
    for entrant in entrants(kind, names):
        told(f"preparing {entrant.NAME}: {kind}")
        why = entrant.missing()
        if why is None:
            try:
                entrant.prepared(stores.source)
                ready.append(entrant)
                continue
            except Exception as e:  # a contender that cannot write its store: loudly left out
                why = f"{type(e).__name__}: {e}"
        stores.left_out[entrant.NAME] = why
    return ready


@contextmanager
def opened(kind: str, names: Iterable[str] = RANDOM) -> Iterator[Stores]:
    """All contenders of a kind, their files held in memory, results checked."""
    stores = Stores(dataset(kind))
    ready = enter(stores, kind, names)
    told(f"filling the page cache: {kind}")
    with held(*(entrant.prepared(stores.source) for entrant in ready)) as stores.hold:
        try:
            for entrant in ready:
                told(f"checking {entrant.NAME}: {kind}")
                store = entrant(stores.source)
                stores.open[entrant.NAME] = store
                check(store, stores.source)
                populate(store.path)
            populate(Path(os.environ["MAPIX_CACHE_DIR"]))  # mapix's stored indexes
            yield stores
        finally:
            for store in stores.open.values():
                store.close()
            stores.open.clear()
            gc.collect()


def check(store: Any, source: Path) -> None:
    """Refuse to measure what gives other bytes than the file has."""
    rng = np.random.default_rng(7)
    offsets = _offsets(source)
    rows = rng.integers(0, len(offsets), CHECKED)
    get = store.getter()
    data = np.memmap(source, np.uint8, "r")
    flat = []
    for i in rows.tolist():
        image, labels = get(i)
        want_image, want_labels = views(data, int(offsets[i]))
        got = image if store.PLANAR else image.transpose(2, 0, 1)
        _same(store, i, got, want_image)
        _same(store, i, labels, want_labels)
        flat.append(want_image.ravel())
    images, _ = store.batch(rows)
    _same(store, -1, np.asarray(images).ravel(), np.concatenate(flat))


def _offsets(source: Path) -> Any:
    with mapix.open(source, index="never") as ds:
        return ds.offsets


def _same(store: Any, i: int, got: Any, want: Any) -> None:
    if got.shape != want.shape or not np.array_equal(got, want):
        what = "a batch" if i < 0 else f"record {i}"
        raise AssertionError(f"{store.NAME}: {what} is not what the file holds")


def go_cold(*paths: Path) -> None:
    """Evict files, and refuse to go on if they are still there."""
    gc.collect()  # what is still mapped cannot be evicted
    for path in paths:
        evict(path)
    for path in paths:
        left = resident(path)
        if left > 0.01:
            raise RuntimeError(f"{path.name}: {left:.0%} cannot be evicted; is it open elsewhere?")


def indexed(kind: str) -> Path:
    """A data file whose index mapix has stored."""
    path = dataset(kind)
    for _ in range(4):
        mapix.open(path, index="auto").close()
        with mapix.open(path, index="auto") as ds:
            if ds.index.stored:
                return path
        time.sleep(1)  # an index of a file written just now is not kept
    raise RuntimeError(f"{path}: no index was stored; is it smaller than 16 MiB?")
