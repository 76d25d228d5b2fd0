"""Calls that a program makes very often: labels of a record, a name, a segment, one more record."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from archives import NCLS, archive, count
from comparison.report import Goal, Report
from comparison.rounds import Case
from contenders.segments import same
from data_files import FOLDER, dataset, populate
from mapix.iid import Writer as ArchiveWriter
from mapix.vimh import Parameter, Writer

N, NADDED = 5000, 20_000


def _each(name: str, call: Callable[[Any], object], arguments: Sequence[Any]) -> Case:
    """Return a case that makes one call per argument: the processor time of one."""

    def run() -> None:
        for argument in arguments:
            call(argument)

    return Case(name, lambda: _processor_time(run) / len(arguments))


def _processor_time(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def records(report: Report) -> None:
    """Labels of random records."""
    path = dataset("uniform")
    populate(path)
    rng = np.random.default_rng(0)
    with mapix.open(path) as ds:
        rows = rng.integers(0, len(ds), N).tolist()
        ids = list(ds[0].labels)
        same(ds[7].labels, {k: int(ds.labels[k].codes[7]) for k in ids}, "labels")
        cases = [
            _each("mapix, ds[i]", ds.__getitem__, rows),
            _each("mapix, ds[i].labels", lambda i: ds[i].labels, rows),
            _each("mapix, ds[i].values", lambda i: ds[i].values, rows),
        ]
        known = [ds[i] for i in rows]
        cases += [
            _each("mapix, record.labels", lambda r: r.labels, known),
            _each("mapix, record.values", lambda r: r.values, known),
        ]
        goals = [
            Goal("mapix, record.labels", "below", 0.6),
            Goal("mapix, record.values", "below", 0.8),
        ]
        report.table("labels of a record, a call", "us", "mapix, ds[i]", cases, goals)


def segments(report: Report) -> None:
    """Names, masks, points and outlines, one by one, in random order."""
    with mapix.open(archive(count())) as a:
        _ = a.areas, a._tree
        rng = np.random.default_rng(0)
        keys = rng.integers(NCLS, len(a), N)
        names = a.names(keys)
        space = names[0][0]
        many = [iid for domain, iid in a.names() if domain == space]
        iids = [many[k] for k in rng.permutation(len(many))]
        some = [a[int(key)] for key in keys]
        points = rng.integers(0, 4096, (N, 2)).tolist()
        same(a.find(space, iids[0]).tolist(), a.find(space, iids[:1]).tolist(), "names")
        cases = [
            _each("find", lambda iid: a.find(space, iid), iids),
            Case(
                "find, many at once",
                lambda: _processor_time(lambda: a.find(space, many)) / len(many),
            ),
            _each("mask", lambda s: s.mask(), some),
            _each("at", lambda p: a.at(*p), points),
            _each("polygon", lambda s: s.polygon(), some[:500]),
        ]
        limits = {"find": 1, "find, many at once": 0.09, "mask": 1.2, "at": 1.5, "polygon": 10}
        goals = [Goal(name, "below", limit) for name, limit in limits.items()]
        report.table(f"a call on {count():,} segments", "us", "find", cases, goals)


def _added(writer: Callable[[Path], Any], add: Callable[[Any, int], object]) -> Callable[[], float]:
    """Return seconds for each of many calls of ``add``; closing, which syncs, is not timed."""

    def run() -> float:
        folder = Path(tempfile.mkdtemp(dir=FOLDER))
        try:
            with writer(folder / "new") as out:
                return _processor_time(lambda: [add(out, i) for i in range(NADDED)]) / NADDED
        finally:
            shutil.rmtree(folder)

    return run


def writing(report: Report) -> None:
    """Records and segments added one by one."""
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (NADDED, 32, 32, 3), np.uint8))
    codes, mask = {"a": 1, "b": 2}, np.ones((24, 20), bool)
    parameters = [Parameter("a", 0), Parameter("b", 1)]
    record = _added(
        lambda path: Writer(path, parameters),
        lambda out, i: out.append(images[i], codes=codes),
    )
    segment = _added(
        ArchiveWriter,
        lambda out, i: out.add("d", f"{i:06}", mask=mask, at=(i % 4000, i % 3000)),
    )
    cases = [Case("vimh.Writer.append", record), Case("iid.Writer.add", segment)]
    goals = [Goal(case.name, "below", 3) for case in cases]
    report.table("one more record or segment, a call", "us", cases[0].name, cases, goals)


def measure(report: Report, long: bool) -> None:
    """All tables of this measure."""
    records(report)
    segments(report)
    writing(report)
