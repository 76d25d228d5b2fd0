"""A conformance suite for formats: subclass ``FormatTests``, say how a file is made, run pytest.

For the formats of mapix and for other people's.  The subclass brings an independent, slow reader of
the bytes; everything that mapix opens, from every truncation and every flipped byte of the sample,
is compared with it.

>>> class TestMine(FormatTests):                       # doctest: +SKIP
...     def sample(self, folder): ...                  # write a small file, return its path
...     def read_slowly(self, data): ...               # its records, or None where it is none
...     def content(self, dataset): ...                # the same from what mapix opened
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix

__all__ = ["FormatTests"]

MAX_SAMPLE = 512  # bytes: the matrix below opens the file some thousand times
CLEAR_ERRORS = (mapix.MapixError, OSError, ValueError)


class FormatTests:
    """What every format must do.  Subclass it with a name that starts with ``Test``."""

    # --- what a subclass says ---------------------------------------------------------------------

    def sample(self, folder: Path) -> Path:
        """Write a valid file of at most 512 bytes and several records; return its path."""
        raise NotImplementedError

    def read_slowly(self, data: bytes) -> list[Any] | None:
        """The records of a file's bytes by the plainest code there is; None where it is no file.

        Must not use the code under test.
        """
        raise NotImplementedError

    def content(self, dataset: Any) -> list[Any]:
        """The same list from an open dataset."""
        raise NotImplementedError

    def open(self, path: Path) -> Any:
        """Open the file; override to pass options."""
        return mapix.open(path)

    def arrays(self, dataset: Any, record: Any) -> list[np.ndarray[Any, Any]]:
        """The views that a dataset and its records hand out."""
        return [record.image]

    # --- reading ----------------------------------------------------------------------------------

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """The sample file."""
        path = self.sample(tmp_path)
        assert path.stat().st_size <= MAX_SAMPLE, "the sample is too large for the matrix"
        return path

    def test_reads_what_the_slow_reader_reads(self, path: Path) -> None:
        expected = self.read_slowly(path.read_bytes())
        assert expected, "the sample must hold records"
        assert self.content(self.open(path)) == expected

    def test_indexing_is_that_of_a_sequence(self, path: Path) -> None:
        ds = self.open(path)
        n = len(ds)
        assert n > 1
        whole = self.content(ds)
        assert self.content(ds[::-1]) == whole[::-1]
        assert self.content(ds[1:]) == whole[1:]
        assert self.content(ds[[n - 1, 0, -1]]) == [whole[n - 1], whole[0], whole[-1]]
        assert self.content(ds[np.arange(n) > 0]) == whole[1:]
        assert self.content(ds[1:][::-1][[0]]) == [whole[-1]]
        for bad in (n, -n - 1):
            with pytest.raises(IndexError, match=str(bad)):
                ds[bad]
            with pytest.raises(IndexError, match=str(bad)):
                ds[[0, bad]]
        with pytest.raises((TypeError, KeyError)):  # KeyError where records have names
            ds["no such thing"]

    def test_views_are_read_only_for_good(self, path: Path) -> None:
        ds = self.open(path)
        for array in self.arrays(ds, ds[0]):
            assert not array.flags.writeable
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True

    def test_views_outlive_close(self, path: Path) -> None:
        ds = self.open(path)
        views = self.arrays(ds, ds[0])
        copies = [v.copy() for v in views]
        ds.close()
        del ds
        for view, copy in zip(views, copies, strict=True):
            np.testing.assert_array_equal(view, copy)

    def test_a_closed_dataset_says_so(self, path: Path) -> None:
        ds = self.open(path)
        record = ds[0]
        ds.close()
        with pytest.raises(mapix.ClosedError, match=path.name):
            self.arrays(ds, record)
        assert "closed" in repr(ds)

    # --- the file is somebody else's --------------------------------------------------------------

    def test_the_source_is_never_written(self, path: Path) -> None:
        def state() -> dict[str, Any]:
            return {
                p.name: (hashlib.sha256(p.read_bytes()).digest(), p.stat().st_mtime_ns)
                for p in path.parent.iterdir()
            }

        before = state()
        path.chmod(0o444)
        self.content(self.open(path))
        assert state() == before

    def test_pickles_as_a_path_and_refuses_another_file(self, path: Path) -> None:
        ds = self.open(path)
        blob = pickle.dumps(ds)
        assert len(blob) < 4096
        assert self.content(pickle.loads(blob)) == self.content(ds)
        part = pickle.loads(pickle.dumps(ds[1:]))
        assert self.content(part) == self.content(ds)[1:]
        data = path.read_bytes()
        replacement = path.with_name("replacement")
        replacement.write_bytes(data)
        os.replace(replacement, path)
        with pytest.raises(mapix.FileChangedError, match=path.name):
            pickle.loads(blob)
        path.write_bytes(data + b"\0")
        with pytest.raises(mapix.FileChangedError, match=path.name):
            pickle.loads(blob)

    def test_threads_share_a_dataset(self, path: Path) -> None:
        ds = self.open(path)
        expected = self.content(ds)
        found: list[bool] = []

        def read() -> None:
            found.extend(self.content(ds) == expected for _ in range(20))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert found == [True] * 80

    def test_things_that_are_no_files(self, path: Path, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        with pytest.raises(OSError, match="fifo"):  # and no hang
            self.open(fifo)
        with pytest.raises(FileNotFoundError):
            self.open(tmp_path / "missing")

    # --- hostile bytes ----------------------------------------------------------------------------

    def damaged(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Every truncation; every byte inverted, zeroed, filled, nudged; a longer tail."""
        for n in range(len(data)):
            yield f"cut to {n} bytes", data[:n]
        for at in range(len(data)):
            for value in {data[at] ^ 0xFF, 0, 0xFF, data[at] ^ 1, (data[at] + 1) & 0xFF}:
                if value != data[at]:
                    yield f"byte {at} = {value}", data[:at] + bytes([value]) + data[at + 1 :]
        for tail in (b"\0", b"\xff" * 7, data[:5]):
            yield f"{len(tail)} bytes more", data + tail

    def test_damaged_files(self, path: Path) -> None:
        data = path.read_bytes()
        names = []
        for name, bad in self.damaged(data):
            path.write_bytes(bad)
            expected = self.read_slowly(bad)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", mapix.MapixWarning)
                    found = self.content(self.open(path))
            except CLEAR_ERRORS as e:
                assert path.name in str(e), f"{name}: the error does not name the file: {e}"
                assert expected is None, f"{name}: refused, but it is a valid file: {e}"
                continue
            assert found == expected, name
            names.append(name)
        assert names, "no damage left a readable file: is the sample all header?"
