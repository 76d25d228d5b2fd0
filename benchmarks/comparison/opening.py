"""From a path to the first record: warm, cold, and in a new process."""

from __future__ import annotations

import functools
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import mapix
from comparison.report import Goal, Report
from comparison.rounds import Case, repeats, seconds, told
from comparison.stores import Stores, enter, go_cold, indexed
from contenders import RANDOM, original
from contenders.base import Contender, views
from data_files import FOLDER, Held, held, mapped

BY_HAND = "two maps by hand"
SCANNING = ("C gather", "Python mmap + struct")  # read the whole file to open it
PEERS = [name for name in RANDOM if name != "mapix"]
CHILD = Path(__file__).parent / "child.py"
PARSED = 20_000_000  # bytes that the original's way is timed on


class Way(NamedTuple):
    """How to open and take the first record, and the files that are read for it."""

    open: Callable[[], Any]
    files: list[Path]


def first_record(entrant: type[Contender], source: Path) -> Any:
    """Open a store and copy record 0 out of it."""
    store = entrant(source)
    image, labels = store.getter()(0)
    image.copy(), labels.copy()
    return store


def _mapix(source: Path, index: str) -> Any:
    ds = mapix.open(source, index=index)
    record = ds[0]
    # "K": in the order of the file, as all others copy them; numpy takes 8 us to transpose
    record.image.copy("K"), record.label_bytes.copy()
    return ds


def sidecar(source: Path) -> Path:
    """Offsets of all records as plain int64: what a stored index is at the least."""
    path = FOLDER / f"{source.stem}.offsets"
    if not path.exists():
        with mapix.open(source, index="never") as ds:
            ds.offsets.tofile(path)
    return path


def _by_hand(source: Path, offsets: Path) -> Any:
    """The data and its offsets, mapped; MADV_RANDOM, so that nothing is read ahead."""
    data, at = mapped(source), mapped(offsets)
    data.madvise(mmap.MADV_RANDOM)
    at.madvise(mmap.MADV_RANDOM)
    image, labels = views(data, int.from_bytes(at[:8], "little"))
    image.copy(), labels.copy()
    return data, at


def _timed_open(way: Way) -> float:
    stores: list[Any] = []
    took = seconds(lambda: stores.append(way.open()))
    store = stores.pop()
    if hasattr(store, "close"):
        store.close()
    return took


def _ways(kind: str, names: Iterable[str]) -> tuple[Path, dict[str, Way], dict[str, str]]:
    """The file, name -> way, and who is left out."""
    source = indexed(kind)
    cache, offsets = Path(os.environ["MAPIX_CACHE_DIR"]), sidecar(source)
    ways = {
        "mapix": Way(lambda: _mapix(source, "auto"), [source, cache]),
        BY_HAND: Way(lambda: _by_hand(source, offsets), [source, offsets]),
    }
    stores = Stores(source)
    for entrant in enter(stores, kind, names):
        way = Way(functools.partial(first_record, entrant, source), [entrant.prepared(source)])
        ways[entrant.NAME] = way
    return source, ways, stores.left_out


def _title(how: str, source: Path) -> str:
    size = f"{source.stem}, {source.stat().st_size / 1e9:.2f} GB"
    return f"open with the first record, index stored, {how}: {size}"


def warm(report: Report, kind: str, names: Iterable[str] = PEERS) -> None:
    """Everything imported and in the page cache."""
    source, ways, left_out = _ways(kind, names)
    told(f"filling the page cache: {kind}")
    with held(*(path for way in ways.values() for path in way.files)) as hold:
        cases = _warm_cases(source, ways, hold)
        goals = [Goal("mapix", "below", 80)]
        report.table(_title("warm", source), "us", BY_HAND, cases, goals, left_out)


def _warm_cases(source: Path, ways: dict[str, Way], hold: Held) -> list[Case]:
    def case(name: str, way: Way) -> Case:
        count = 0

        def run() -> float:
            nonlocal count
            count = count or repeats(lambda: _timed_open(way), 0.01, 50)
            hold.touch(*way.files)
            return sum(_timed_open(way) for _ in range(count)) / count

        return Case(name, run)

    cases = [case(name, way) for name, way in ways.items()]
    unstored = Way(lambda: _mapix(source, "never"), [])
    cases.insert(1, Case("mapix, no stored index", lambda: _timed_open(unstored)))
    share = min(1.0, PARSED / source.stat().st_size)

    def parse() -> float:
        return seconds(lambda: original.parse(source, PARSED)) / share

    note = f"{share:.1%} of the file timed, and scaled"
    return [*cases, Case("original's way", parse, note)]


def cold(report: Report, kind: str, names: Iterable[str] = PEERS) -> None:
    """Neither data nor index in the page cache."""
    source, ways, left_out = _ways(kind, [n for n in names if n not in SCANNING])

    def case(name: str, way: Way) -> Case:
        def run() -> float:
            go_cold(*way.files)
            return _timed_open(way)

        return Case(name, run)

    cases = [case(name, way) for name, way in ways.items()]
    goals = [Goal("mapix", "below", 0.4)]
    report.table(_title("cold disk", source), "ms", BY_HAND, cases, goals, left_out)


def new_process(report: Report, kind: str) -> None:
    """A new interpreter with numpy: import of the engine, open, first record."""
    source, ways, left_out = _ways(kind, [n for n in PEERS if n != "C gather"])

    def case(name: str) -> Case:
        def run() -> float:
            command = [sys.executable, str(CHILD), "open", name, str(source)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found: float = json.loads(done.stdout)["ready"]
            return found

        return Case(name, run)

    ways.pop(BY_HAND)
    title = f"open in a new process, import of the engine included: {source.stem}, warm"
    told(f"filling the page cache: {kind}")
    with held(*(path for way in ways.values() for path in way.files)):
        report.table(title, "ms", "mapix", [case(n) for n in ways], [], left_out)


def measure(report: Report, long: bool) -> None:
    """All tables of this measure."""
    for kind in ("uniform", "mixed"):
        warm(report, kind)
        cold(report, kind)
    if long:
        warm(report, "mixed7", ())
        cold(report, "mixed7", ())
    new_process(report, "uniform")
