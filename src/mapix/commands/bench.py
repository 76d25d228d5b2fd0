"""``mapix bench``: how fast a dataset is read from its disk, beside np.memmap and plain reads."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import median
from typing import Any

from mapix.commands.arguments import add_paths, natural, opening
from mapix.commands.output import (
    CommandError,
    Table,
    UsageError,
    add_output,
    emit,
    progress,
    write_file,
)
from mapix.errors import MapixError
from mapix.text import counted, nbytes, seconds

__all__ = ["add"]

DESCRIPTION = """Measure how fast your data are read from your disk: opening (also without stored
indexes), single records and batches at random, all records in order. Each is measured from the page
cache (warm), and from the disk (cold). Beside it: np.memmap and plain reads of as many bytes, at
random places of the same file. -o CHART.svg or .png draws a chart (extra cli)."""
LEAST_RECORDS = 64  # that are read in one round, whatever the time
BAR = 24  # characters of the longest bar
MOST_IN_ONE_FILE = 0.6  # of all bytes: then that file is read beside
SIDES = (224, 224)  # of pictures in a batch
MOST_FILES = 100_000
LEAST_COLD_NBYTES = 4_000_000  # of a dataset that is also read from the disk
CHARTS = (".svg", ".png", ".pdf")


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    parser.add_argument("--batch", type=natural, default=256, help="records of a batch (256)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the random order")
    add_output(parser)
    parser.set_defaults(run=_run)


@dataclass
class Figure:
    """One measurement.

    Attributes
    ----------
    what, how : str
        What was read, and by what: "mapix", "np.memmap" or "read".
    warm, cold : float or None
        Seconds of opening, else records per second; None where it was not measured.
    mean_nbytes : float
        Bytes of a record.
    """

    what: str
    how: str
    warm: float | None
    cold: float | None
    mean_nbytes: float


def _run(arguments: argparse.Namespace) -> None:
    if not arguments.seconds > 0:
        raise UsageError(f"--seconds has to be above 0, got {arguments.seconds}")
    if arguments.out is not None and os.path.lexists(arguments.out):
        raise CommandError(f"{arguments.out} exists already; nothing was measured")
    bench = _Bench(arguments)
    figures = []
    with progress(f"measuring {arguments.paths[0]}") as show:
        for figure in chain(bench.opening(), bench.reading()):
            figures.append(figure)
            show(len(figures), bench.nfigures)
    facts = {
        "paths": arguments.paths,
        "records": bench.n,
        "nbytes": bench.nbytes,
        "batch": bench.batch,
        "cold": bench.cold,
        "figures": [asdict(figure) for figure in figures],
    }
    target = arguments.out
    if target is not None and target.endswith(CHARTS):
        _chart(figures, target)
        arguments.out = None
    notes = []
    if not bench.can_evict:
        notes = ["", "The page cache cannot be emptied here, so nothing is read from the disk."]
    elif not bench.cold:
        least = nbytes(LEAST_COLD_NBYTES)
        notes = [
            "",
            f"Below {least}, reading from the disk is not measured: with its first pages, the",
            "kernel reads most of so small a dataset.",
        ]
    head = f"{arguments.paths[0]}: {counted(bench.n, bench.unit)}, {nbytes(bench.nbytes)}"
    emit(arguments, facts, head, "", *_tables(figures, bench.unit), *notes)


class _Bench:
    """The measurements of one dataset."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        import numpy as np

        self._paths = arguments.paths
        self._options = opening(arguments)
        self._seconds = arguments.seconds
        self.files = list(_files(self._paths))
        with self._open() as ds:
            if not hasattr(ds, "columns") or not len(ds):
                raise CommandError(f"{self._paths[0]}: there are no records to read")
            every = sum(os.path.getsize(path) for path in self.files)
            self.nbytes = ds.describe().get("nbytes") or every
            self.n, self.unit = len(ds), ds.RECORDS
            self.batch = 0 if ds.NO_BATCH else min(arguments.batch, self.n)
            order = np.random.default_rng(arguments.seed).permutation(self.n)
            some = order[: max(self.batch, 1)].tolist()
            self.how, self.how_text = _batch_options(ds, some) if self.batch else ({}, "")
            file = ds.path if os.path.isfile(ds.path) else None
        # read beside by np.memmap and plain reads, if most of the records are in one file
        alone = file is not None and os.path.getsize(file) >= MOST_IN_ONE_FILE * self.nbytes
        self._file = file if alone else None
        self.nfigures = 2 + (3 if self.batch else 2) * (3 if alone else 1)
        self._rng_seed = arguments.seed
        self.can_evict = self._can_evict()
        # of a smaller one the readahead of the first pages brings the others
        self.cold = self.can_evict and self.nbytes >= LEAST_COLD_NBYTES

    def _open(self) -> Any:
        from mapix.registry import open_dataset

        paths = self._paths
        return open_dataset(paths[0] if len(paths) == 1 else paths, **self._options)

    def _can_evict(self) -> bool:
        """Return whether files can be taken out of the page cache.

        The check itself makes the kernel read ahead, so what it checks is evicted again afterwards.
        """
        self._evict()
        return not _in_memory(max(self.files, key=os.path.getsize))

    def _evict(self) -> None:
        """Take the files out of the page cache."""
        for path in self.files:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)

    # --- opening ----------------------------------------------------------------------------------

    def opening(self) -> Iterator[Figure]:
        """Measure opening: with the indexes that are stored, and without any."""
        cold = None
        if self.can_evict:
            self._evict()
            cold = self._timed_open()
        warm = median(self._timed_open() for _ in range(5))
        yield Figure("open", "mapix", warm, cold, 0)
        with _no_stored_indexes():
            first = self._timed_open()
        yield Figure("open for the first time", "mapix", first, None, 0)

    def _timed_open(self) -> float:
        began = time.perf_counter()
        self._open().close()
        return time.perf_counter() - began

    # --- reading ----------------------------------------------------------------------------------

    def reading(self) -> Iterator[Figure]:
        """Measure single records, batches and all records."""
        import numpy as np

        order = np.random.default_rng(self._rng_seed).permutation(self.n)
        with self._open() as ds:
            sizes = _sizes(ds, order[:64].tolist())
        if not sizes:
            raise CommandError(f"{self._paths[0]}: the records have no pixels to read")
        mean = sum(sizes) / len(sizes)
        peers = self._peers(mean)
        yield self._figure("one record at random", "mapix", mean, self._singles(order))
        if peers is not None:
            yield self._figure("one record at random", "np.memmap", mean, peers.mapped(1))
            yield self._figure("one record at random", "read", mean, peers.read(1))
        if self.batch:
            name = f"batch of {self.batch} at random{self.how_text}"
            yield self._figure(name, "mapix", mean, self._batches(order))
            if peers is not None:
                yield self._figure(name, "np.memmap", mean, peers.mapped(self.batch))
                yield self._figure(name, "read", mean, peers.read(self.batch))
        everything = self._batches(np.arange(self.n)) if self.batch else None
        name = f"all records in order{self.how_text}"
        ours = everything or self._singles(np.arange(self.n))
        yield self._figure(name, "mapix", mean, ours)
        if peers is not None:
            yield self._figure(name, "np.memmap", mean, peers.mapped_in_order())
            yield self._figure(name, "read", mean, peers.read_in_order())

    def _peers(self, mean: float) -> _Peers | None:
        """Return other readers of as many bytes; None where records are not in one file."""
        if self._file is None:
            return None
        size = os.path.getsize(self._file)
        return _Peers(self._file, min(int(mean), size // self.n), self._rng_seed)

    def _figure(self, what: str, how: str, mean: float, rounds: Callable[[], Any]) -> Figure:
        """Measure a generator: it yields 0 when the file is open, then the records that it read."""
        cold = None
        if self.cold:
            self._evict()
            cold, _ = self._round(rounds)
        _, n = self._round(rounds)  # into the page cache
        return Figure(what, how, self._rate(rounds, n), cold, mean)

    def _rate(self, rounds: Callable[[], Any], n: int) -> float:
        """Return records per second: the median of rounds that read the first n records.

        Not the mean: a round of less than a millisecond may be interrupted.
        """
        rates: list[float] = []
        began = time.perf_counter()
        while not rates or time.perf_counter() - began < self._seconds:
            rates.append(self._round(rounds, n)[0])
        return median(rates)

    def _round(self, rounds: Callable[[], Any], most: int | None = None) -> tuple[float, int]:
        """Return records per second, and how many were read, before the time was over."""
        done = 0
        with closing(rounds()) as read:  # so that no file stays mapped
            next(read)  # it is open
            began = time.perf_counter()
            for n in read:
                done += n
                enough = done >= LEAST_RECORDS and time.perf_counter() - began > self._seconds
                if done == most or enough:
                    break
            took = time.perf_counter() - began
        return done / max(took, 1e-9), done

    def _singles(self, order: Any) -> Callable[[], Iterator[int]]:
        def rounds() -> Iterator[int]:
            with self._open() as ds:
                yield 0
                for row in ds._rows_of(order).tolist():
                    found = ds._content(row)
                    if found is not None:
                        found.copy()  # a view is read only then
                    yield 1

        return rounds

    def _batches(self, order: Any) -> Callable[[], Iterator[int]]:
        def rounds() -> Iterator[int]:
            with self._open() as ds:
                yield 0
                for batch in ds.batches(self.batch, order, **self.how):
                    yield len(batch)

        return rounds


def _batch_options(ds: Any, indices: Sequence[int]) -> tuple[dict[str, Any], str]:
    """Return options with which some records go into a batch, and a text that states them.

    Raises
    ------
    MapixError, ValueError
        They do not go into a batch with any.
    """
    ways: list[tuple[dict[str, Any], str]] = [({}, ""), ({"pad": True}, ", padded")]
    if {"size", "mode", "fit"} <= ds.MORE_OPTIONS:
        h, w = SIDES
        ways.append(({"size": SIDES, "mode": "RGB", "fit": "resize"}, f", as RGB {h} x {w}"))
    for options, text in ways:
        try:
            ds.batch(indices, **options)
        except (MapixError, ValueError):
            if options is ways[-1][0]:
                raise
        else:
            return options, text
    raise AssertionError


def _content(ds: Any, i: int) -> Any:
    return ds._content(int(ds._rows_of([i])[0]))


def _sizes(ds: Any, indices: Sequence[int]) -> list[int]:
    """Return the bytes of the content of some records.  No view outlives the call."""
    found = (_content(ds, i) for i in indices)
    return [content.nbytes for content in found if content is not None]


class _Peers:
    """The same numbers of bytes by np.memmap and by plain reads, at random places of the file."""

    def __init__(self, path: str, size: int, seed: int) -> None:
        import numpy as np

        self._path = path
        self._size = max(1, min(size, os.path.getsize(path)))
        last = os.path.getsize(self._path) - self._size
        self._n = max(1, os.path.getsize(self._path) // self._size)
        self._places = np.random.default_rng(seed).integers(0, last + 1, min(self._n, 1 << 20))

    def mapped(self, batch: int) -> Callable[[], Iterator[int]]:
        """Copy records out of np.memmap."""
        return self._mapped(self._places, batch)

    def mapped_in_order(self) -> Callable[[], Iterator[int]]:
        """Copy all of np.memmap."""
        return self._mapped(range(0, self._n * self._size, self._size), 256)

    def read(self, batch: int) -> Callable[[], Iterator[int]]:
        """Read records into memory of their own."""
        return self._read(self._places, batch)

    def read_in_order(self) -> Callable[[], Iterator[int]]:
        """Read all of the file."""
        return self._read(range(0, self._n * self._size, self._size), 256)

    def _mapped(self, places: Any, batch: int) -> Callable[[], Iterator[int]]:
        import numpy as np

        def rounds() -> Iterator[int]:
            file = np.memmap(self._path, np.uint8, "r")
            out = np.empty((batch, self._size), np.uint8)
            yield 0
            for at in range(0, len(places), batch):
                some = places[at : at + batch]
                for k, place in enumerate(some):
                    out[k] = file[place : place + self._size]
                yield len(some)

        return rounds

    def _read(self, places: Any, batch: int) -> Callable[[], Iterator[int]]:
        def rounds() -> Iterator[int]:
            fd = os.open(self._path, os.O_RDONLY)
            try:
                out = [bytearray(self._size) for _ in range(batch)]
                yield 0
                for at in range(0, len(places), batch):
                    some = places[at : at + batch]
                    for k, place in enumerate(some):
                        os.preadv(fd, [out[k]], int(place))
                    yield len(some)
            finally:
                os.close(fd)

        return rounds


def _files(paths: Sequence[str]) -> Iterator[str]:
    """Yield the files that are not empty, of directories all below them."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        found = 0
        for below, _, names in os.walk(path):
            for name in names:
                full = os.path.join(below, name)
                found += 1
                if found > MOST_FILES:
                    raise CommandError(f"{path}: more than {MOST_FILES:,} files")
                if os.path.isfile(full) and os.path.getsize(full):
                    yield full


def _in_memory(path: str) -> bool:
    """Return whether a file is in the page cache: a read in its middle, which must not wait.

    One read only, since the kernel reads ahead for it, and would answer the next ones by that.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], os.path.getsize(path) // 2, os.RWF_NOWAIT)
    except OSError:
        return False  # it would have to wait for the disk
    finally:
        os.close(fd)
    return True


@contextmanager
def _no_stored_indexes() -> Iterator[None]:
    """Let the cache be an empty folder."""
    before = os.environ.get("MAPIX_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MAPIX_CACHE_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["MAPIX_CACHE_DIR"]
            else:
                os.environ["MAPIX_CACHE_DIR"] = before


# --- what is printed ------------------------------------------------------------------------------


def _tables(figures: Sequence[Figure], unit: str) -> list[Table | str]:
    opened = [f for f in figures if not f.mean_nbytes]
    rows = [[f.what, seconds(f.warm or 0), seconds(f.cold) if f.cold else None] for f in opened]
    parts: list[Table | str] = [_measured(["", "warm", "cold"], rows), ""]
    read = [f for f in figures if f.mean_nbytes]
    most = {f.what: max(g.warm or 0 for g in read if g.what == f.what) for f in read}
    rows = [
        [
            f.what,
            f.how,
            _per_second(f.warm),
            _per_second(f.cold),
            _bar((f.warm or 0) / most[f.what]),
        ]
        for f in read
    ]
    heads = [f"{unit} per second", "by", "warm", "cold", ""]
    return [*parts, _measured(heads, rows)]


def _measured(heads: Sequence[str], rows: Sequence[Sequence[str | None]]) -> Table:
    """Return a table without the columns of which nothing was measured."""
    used = [k for k in range(len(heads)) if any(row[k] for row in rows)]
    return Table([heads[k] for k in used], [[row[k] for k in used] for row in rows])


def _per_second(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _bar(share: float) -> str:
    return "#" * max(1, round(share * BAR))


def _chart(figures: Sequence[Figure], target: str) -> None:
    """Draw the rates as bars, by matplotlib."""
    import io

    try:
        from matplotlib.figure import Figure as Drawing
    except ImportError as e:
        raise CommandError("charts need matplotlib: pip install 'mapix[cli]'") from e
    read = [f for f in figures if f.mean_nbytes]
    groups = list(dict.fromkeys(f.what for f in read))
    shown = [(-0.2, "warm", "#d1602f"), (0.2, "cold", "#3b6fb6")]
    shown = shown if any(f.cold for f in read) else [(0.0, "warm", "#d1602f")]
    drawing = Drawing(figsize=(8, 1 + 1.6 * len(groups)), layout="constrained")
    for k, what in enumerate(groups):
        axes = drawing.add_subplot(len(groups), 1, k + 1)
        some = [f for f in read if f.what == what]
        for shift, name, colour in shown:
            rates = [getattr(f, name) or 0 for f in some]
            places = [i + shift for i in range(len(some))]
            axes.barh(places, rates, 0.38, label=name, color=colour)
        axes.set_yticks(range(len(some)), [f.how for f in some])
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_title(f"{what}, records per second", loc="left", fontsize=10)
        if k == 0:
            axes.legend(frameon=False)
    out = io.BytesIO()
    drawing.savefig(out, format=target.rpartition(".")[2])
    write_file(target, out.getvalue())
