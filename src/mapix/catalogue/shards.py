"""The shards of a catalogue as parts of a joined dataset: each is opened when it is used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.catalogue.file import CatalogueFile, Entry
from mapix.catalogue.layout import HAS_RANGE, NAME, NO_VALUE
from mapix.catalogue.names import hash_of
from mapix.errors import ClosedError, FileChangedError, FormatError, MapixError
from mapix.expression import Bounds, bounds_of
from mapix.parts import Parts, Shape
from mapix.registry import reopen
from mapix.source import ask_for_ends

__all__ = ["Shards"]

MOST_EXAMPLES_TRIED = 8  # shards that are opened in order to find one that is as it was


class Shards(Parts):
    """The shards of a catalogue.  ``shards[k]`` opens one that is not open.

    Those that were used last stay open.  A shard that has changed since the catalogue was made is
    a FileChangedError, when it is used.

    Parameters
    ----------
    file : CatalogueFile
        The catalogue.
    most_open : int
        Shards that stay open.  Each takes some kilobytes of memory, and an opening takes 0.05 to
        1 ms.

    Attributes
    ----------
    file : CatalogueFile
        As given.
    counts : ndarray
        int64 (k,): records of each shard.
    """

    def __init__(self, file: CatalogueFile, most_open: int) -> None:
        self.file, self.path, self.most_open = file, file.path, most_open
        self.counts = file.entries["nrecords"].astype(np.int64)
        self.nbytes = int(file.entries["nbytes"].sum())
        self.named = file.slot.named
        self._closed = False
        self._lock = threading.Lock()
        self._open: dict[int, Any] = {}  # the one that was used last is the last
        self._pinned: dict[int, Any] = {}
        self._expected: dict[int, Entry] = {}  # of shards that are asked for, and not open yet
        self._examples = [self._example(k) for k in range(len(file.schemas))]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return tuple(self[i] for i in range(*k.indices(len(self))))
        if self._closed:
            raise ClosedError(f"{self.path}: the dataset is closed")
        n = len(self)
        if not -n <= k < n:
            raise IndexError(f"{self.path}: shard {k} of {n}")
        k = int(k) % n
        found = self._pinned.get(k)
        if found is not None:
            return found
        with self._lock:
            found = self._open.pop(k, None)
            if found is not None:
                self._open[k] = found
                return found
        found = self._opened(k)
        with self._lock:
            self._open[k] = found
            while len(self._open) > self.most_open:
                self._open.pop(next(iter(self._open)))
        return found

    def expect(self, numbers: Iterable[int]) -> None:
        """Have the kernel read the ends of shards that are not open, all at once."""
        closed = [k for k in numbers if k not in self._open and k not in self._pinned]
        if len(closed) < 2:
            return
        self._expected = {}
        for k in closed[: self.most_open]:
            try:
                stated = self._expected[k] = self.file.entry(k)
            except MapixError:  # opening it reports what is wrong
                continue
            ask_for_ends(stated.path)

    def _opened(self, k: int) -> Any:
        """Open a shard, and compare it with its entry.

        Raises
        ------
        FileChangedError
            It was changed, replaced or removed.
        FormatError
            It is not what the entry states.
        """
        stated = self._expected.pop(k, None) or self.file.entry(k)
        family = self.file.schemas[self.file.entries["schema"][k]].family
        try:
            ds = reopen(family, stated.path, stated.options, stated.fingerprint, None)
        except FileChangedError as e:
            reason = e.reason.removesuffix(" since the dataset was opened")
            raise self._changed(stated.path, reason) from e
        except (FileNotFoundError, NotADirectoryError) as e:
            raise self._changed(stated.path, "the file was removed, or moved") from e
        except MapixError:
            raise
        except (TypeError, ValueError) as e:
            reason = f"the options of {stated.path} are not understood: {e}"
            raise FormatError(self.path, NAME, reason, record=k) from e
        found = (len(ds), ds.image_shape, dtype_of(ds))
        dtype = self.file.entries["dtype"][k].decode("ascii", "replace")
        expected = (int(self.counts[k]), self.file.shape(k), dtype)
        if found != expected:
            what = "records, shape of images, type of numbers"
            reason = f"{stated.path}: {what} {expected} expected, got {found}"
            raise FormatError(self.path, NAME, reason, record=k)
        return ds

    def _changed(self, path: str, reason: str) -> FileChangedError:
        reason = f"{reason} since it was entered in {self.path}; refresh the catalogue"
        return FileChangedError(path, reason)

    def _example(self, schema: int) -> Any:
        """Return a shard of a schema, which stays open; if possible one with records."""
        e = self.file.entries
        which = np.flatnonzero(e["schema"] == schema)
        which = which[np.argsort(e["nrecords"][which] == 0, kind="stable")]
        first: Exception | None = None
        for k in which[:MOST_EXAMPLES_TRIED].tolist():
            try:
                self._pinned[k] = found = self._opened(k)
            except (MapixError, OSError) as error:
                first = first or error
            else:
                return found
        raise first or FormatError(self.path, NAME, f"no shard has schema {schema}")

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """Close the catalogue and all shards."""
        self._closed = True
        with self._lock:
            held = [*self._open.values(), *self._pinned.values()]
            self._open.clear()
        for ds in held:
            ds.close()
        self.file.close()

    @property
    def examples(self) -> Sequence[Any]:
        """A shard of each schema."""
        return self._examples

    def sizes(self) -> list[int]:
        """Return the bytes of each shard."""
        found: list[int] = self.file.entries["nbytes"].tolist()
        return found

    def shapes(self) -> set[Shape]:
        """Return the shapes of images of shards with records."""
        return self.file.shapes()

    def facts(self) -> dict[str, Any]:
        """Return number and size of the shards."""
        return {"shards": len(self), "nbytes": self.nbytes}

    def reopening(self) -> tuple[str, str, dict[str, Any], Any] | None:
        """Return format, path, options and fingerprint of the catalogue, for a pickle."""
        source = self.file.source
        return NAME, source.full_path, {"most_open": self.most_open}, source.identity

    def checked(self) -> list[str]:
        """Return what ``problems`` checks."""
        return [f"{self.path}: checksums of the catalogue, and the order of its names"]

    def problems(self) -> list[str]:
        """Return what is wrong with the catalogue itself."""
        found = []
        checks: list[Callable[[], object]] = [
            *(partial(self.file.entry, k) for k in range(len(self))),
            *(partial(self._check_run, run) for run in self.file.runs()),
        ]
        for check in checks:
            try:
                check()
            except FormatError as e:
                found.append(str(e))
        return found

    def _check_run(self, run: tuple[int, int, int]) -> None:
        """Raise FormatError if hashes of names do not ascend, or do not match their checksums."""
        sums, before = self.file.sums(run), 0
        for k in range(len(sums)):
            page = self.file.page(run, sums, k)
            if int(page[0]) < before or np.any(page[1:] < page[:-1]):
                raise FormatError(self.path, NAME, "names are not in order", at=run[0])
            before = int(page[-1])

    # --- what is known without opening a shard ----------------------------------------------------

    def possible(self, condition: str) -> NDArray[np.bool_] | None:
        """Return which shards may have a record that fulfils a condition, bool (k,)."""
        found = np.ones(len(self), np.bool_)
        for number, schema in enumerate(self.file.schemas):
            which, ranges = self.file.ranges(number)
            if not len(which):
                continue
            flags = ranges["flags"]
            known = {}
            for c, name in enumerate(schema.columns):
                some = flags[:, c]
                known[name] = Bounds(
                    ranges["low"][:, c],
                    ranges["high"][:, c],
                    some & HAS_RANGE != 0,
                    some & NO_VALUE != 0,
                )
            found[which] = bounds_of(condition, known, len(which))
        return found

    def with_name(self, name: Sequence[bytes]) -> NDArray[np.int64] | None:
        """Return the shards that may have a record of a name, ascending; None if not stated."""
        return self.file.with_hash(hash_of(name)) if self.named else None


def dtype_of(ds: Any) -> str:
    """Return the type of a dataset's numbers; empty where it is not known."""
    dtype = getattr(ds, "dtype", None)
    return "" if dtype is None else np.dtype(dtype).str[:8]
