"""A test suite for formats: subclass ``FormatTests``, make a sample file, and run pytest.

It serves the formats of mapix and of other packages.  The subclass has an independent, slow reader
of the bytes.  The suite opens the sample, every truncation of it and every flipped byte, and
compares the results with this reader.

>>> class TestMine(FormatTests):                       # doctest: +SKIP
...     def sample(self, folder): ...                  # write a small file, return its path
...     def read_slowly(self, data): ...               # its records; None if it is invalid
...     def content(self, dataset): ...                # the same from what mapix opened
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix import augmentation, plans, registry
from mapix.assembly import assembled
from mapix.byte_ranges import KINDS, hex_dump
from mapix.options import BatchOptions, checked
from mapix.statistics import ColumnStatistics, PixelStatistics, Statistics

__all__ = ["FormatTests"]

CLEAR_ERRORS = (mapix.MapixError, OSError, ValueError)


def in_other_processes(task: Any, items: Any) -> list[Any]:
    """Run tasks as other processes get them: pickled."""
    return [pickle.loads(pickle.dumps(task))(pickle.loads(pickle.dumps(item))) for item in items]


def equal(a: Any, b: Any) -> bool:
    """Whether statistics are equal, bit for bit."""
    if isinstance(a, np.ndarray):
        if a.dtype == object:
            return bool(b.dtype == object and a.tolist() == b.tolist())
        same = a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        return bool(same)
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, Statistics | PixelStatistics | ColumnStatistics):
        names = (f.name for f in fields(a))
        return type(a) is type(b) and all(equal(getattr(a, k), getattr(b, k)) for k in names)
    return bool(a == b) or (a != a and b != b)


class FormatTests:
    """Tests that every format must pass.  The name of a subclass starts with ``Test``.

    Attributes
    ----------
    MAX_SAMPLE_NBYTES : int
        Size of the largest sample: ``damaged`` opens it some thousand times.  A format whose
        smallest files are larger overrides both.
    """

    MAX_SAMPLE_NBYTES = 512

    # --- methods of a subclass --------------------------------------------------------------------

    def sample(self, folder: Path) -> Path:
        """Write a valid file of at most 512 bytes and several records; return its path."""
        raise NotImplementedError

    def read_slowly(self, data: bytes) -> list[Any] | None:
        """Return the records of a file's bytes; None if they are not a valid file.

        It is written as simply as possible, and must not use the code under test.
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

    def bytes_of(self, path: str) -> bytes:
        """Return the bytes of a file of a dataset; override for other paths than those of files."""
        return Path(path).read_bytes()

    # --- reading ----------------------------------------------------------------------------------

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """The sample file."""
        path = self.sample(tmp_path)
        assert path.stat().st_size <= self.MAX_SAMPLE_NBYTES, (
            "the sample is too large for the matrix"
        )
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

    def test_a_snapshot_survives_its_files(self, path: Path) -> None:
        ds = self.open(path)
        expected, n = self.content(ds), len(ds)
        last = [view.copy() for view in self.arrays(ds, ds[n - 1])]
        snapshot, part = ds.snapshot(), ds[n - 1 :].snapshot()
        assert type(snapshot) is type(ds)
        views = self.arrays(snapshot, snapshot[0])
        for view in views:
            with pytest.raises(ValueError, match="WRITEABLE"):
                view.flags.writeable = True
        files = [p for p in path.parent.rglob("*") if p.is_file() and not p.is_symlink()]
        for file in files:
            with open(file, "r+b") as f:
                f.write(bytes(file.stat().st_size))
        assert self.content(snapshot) == expected
        for file in files:
            os.truncate(file, 0)
        assert self.content(snapshot) == expected
        assert part.rows.tolist() == [n - 1]
        views += self.arrays(snapshot, part[0])
        copies = [view.copy() for view in views]
        snapshot.close()
        part.close()
        del snapshot, part
        for view, copy in zip(views, copies, strict=True):
            np.testing.assert_array_equal(view, copy)
        for view, copy in zip(views[-len(last) :], last, strict=True):
            np.testing.assert_array_equal(view, copy)

    def test_a_closed_dataset_says_so(self, path: Path) -> None:
        ds = self.open(path)
        record = ds[0]
        ds.close()
        with pytest.raises(mapix.ClosedError, match=path.name):
            self.arrays(ds, record)
        assert "closed" in repr(ds)

    # --- the contract -----------------------------------------------------------------------------

    def test_it_is_a_dataset_of_its_format(self, path: Path) -> None:
        ds = self.open(path)
        assert isinstance(ds, mapix.Dataset)
        found = registry.named(ds.FAMILY)
        assert found.name == ds.FAMILY
        assert found.refusal(registry.Candidate(path)) is None
        assert type(registry.named(ds.FAMILY).load(registry.Candidate(path), {})) is type(ds)
        assert type(mapix.open(path)) is type(ds), "its format is not detected"
        keys: list[Any] = [True, False, np.True_, None, 1.5]
        for key in keys:
            with pytest.raises(TypeError):
                ds[key]
        assert len(list(ds)) == len(ds)
        assert ds.rows.tolist() == list(range(len(ds)))
        assert ds[::-1].rows.tolist() == ds.rows.tolist()[::-1]
        assert isinstance(ds[:1], mapix.Dataset)
        assert type(ds[:1][:1]) is type(ds[:1])

    def test_parts_hold_each_record_once(self, path: Path) -> None:
        ds = self.open(path)
        n = len(ds)
        for parts in (
            ds.split(0.5),
            ds.split(0.5, seed=3),
            [ds.shard(k, 2) for k in range(2)],
            [ds.where(np.arange(n) % 2 == k) for k in range(2)],
        ):
            rows = sorted(row for part in parts for row in part.rows.tolist())
            assert rows == list(range(n))
        assert ds.shard(0, 2, equal="repeat").rows.size == ds.shard(1, 2, equal="repeat").rows.size
        drawn = ds.draw(20, seed=1)
        assert drawn.rows.tolist() == ds.draw(20, seed=1).rows.tolist()
        assert set(drawn.rows.tolist()) <= set(range(n))
        assert self.content(drawn) == [self.content(ds)[row] for row in drawn.rows.tolist()]

    def test_columns(self, path: Path) -> None:
        ds = self.open(path)
        assert list(ds.columns) == list(ds._column_names())
        assert set(ds._label_names()) <= set(ds.columns)
        for name, column in ds.columns.items():
            assert column.name == name
            assert len(column) == len(column.values) == len(column.present) == len(ds)
            part = ds[::-1].columns[name]
            assert part.values.tolist() == column.values.tolist()[::-1]
            assert part.present.tolist() == column.present.tolist()[::-1]
            values = column.filled().tolist()
            there = [v for v, ok in zip(values, column.present.tolist(), strict=True) if ok]
            for descending in (False, True):
                ordered = ds.sort_by(name, descending=descending).columns[name]
                assert ordered.filled()[ordered.present].tolist() == sorted(
                    there, reverse=descending
                )
                assert not ordered.present[len(there) :].any()
            assert len(ds.weights(name)) == len(ds)
            if there and name.isidentifier():
                kept = ds.where([value == there[0] for value in values])
                assert kept.columns[name].filled().tolist() == [v for v in values if v == there[0]]
                if isinstance(there[0], float | str):
                    asked = ds.where(f"{name} == {there[0]!r}")
                    assert asked.rows.tolist() == kept.rows.tolist()
        with pytest.raises(KeyError, match="no such column"):
            ds.sort_by("no such column")
        with pytest.raises(ValueError, match="no_such_column"):
            ds.where("no_such_column > 1")

    def test_batches_are_what_numpy_makes_of_the_records(self, path: Path) -> None:
        ds = self.open(path)
        rows = [len(ds) - 1, 0, 0, _most_channels(ds)]
        images = [ds._image(row) for row in rows]
        if any(image is None for image in images):
            with pytest.raises(mapix.UnsupportedError):
                ds.batch(rows, dtype="float32")
            return
        mixed = len({image.shape for image in images}) > 1
        uneven: dict[str, Any] = {"pad": True} if mixed else {}
        tried: list[dict[str, Any]] = [
            uneven,
            {**uneven, "dtype": "float32"},
            {**uneven, "threads": 2},
        ]
        tried += [{**uneven, "dtype": "float32", "scale": 0.5, "mean": 3.0, "std": 2.0}]
        if all(image.ndim in (2, 3) for image in images):
            tried += [{**uneven, "layout": layout} for layout in ("NHWC", "NCHW")]
            h, w = (max(image.shape[k] for image in images) for k in (0, 1))
            tried += [{"pad": (h + 1, w + 2), "layout": "NHWC"}, {"crop": True, "layout": "NHWC"}]
            tried += [{"pad": (h + 1, max(1, w - 1)), "crop": "corner", "layout": "NCHW"}]
        for asked in tried:
            if not set(asked) <= ds.BATCH_OPTIONS:
                with pytest.raises(mapix.UnsupportedError, match="="):
                    ds.batch(rows, **asked)
                continue
            known = {k: v for k, v in asked.items() if k in BatchOptions._fields}
            wanted = assembled(str(path), images, checked(BatchOptions(**known)))
            found = ds.batch(rows, **asked)
            shape = wanted.images.shape
            np.testing.assert_array_equal(found.images.reshape(shape), wanted.images, str(asked))
            assert found.images.flags.c_contiguous
            numbers = np.array(rows) - len(ds)  # known options, and an array, may go a faster way
            for out in (None, np.empty_like(found.images)):
                again = ds.batch(numbers, out, **asked)
                assert out is None or again.images is out
                _assert_same(again, found)
        whole = [batch.images for batch in ds.batches(2, **uneven)]
        assert sum(map(len, whole)) == len(ds)
        assert len(ds.batch([], **uneven).images) == 0
        for bad in ({"threads": 0}, {"layout": "CHWN"}, {"dtype": "int3"}, {"labels": "no unit"}):
            with pytest.raises((ValueError, TypeError, mapix.UnsupportedError)):
                ds.batch(rows, **bad)

    def test_random_changes_are_what_numpy_makes(self, path: Path) -> None:
        ds = self.open(path)
        rows = [len(ds) - 1, 0, 0, _most_channels(ds)]
        images = [ds._image(row) for row in rows]
        if any(image is None for image in images) or not {"dtype", "layout"} <= ds.BATCH_OPTIONS:
            return
        augment = mapix.Augment(flip=0.5, flip_vertical=0.5, pad=1, cutout=2, seed=7)
        draws = augment.draws([5, 6, 7, 8], epoch=3)
        if any(image.ndim not in (2, 3) for image in images):
            with pytest.raises(ValueError, match="two or three dimensions"):
                ds.batch(rows, augment=draws)
            return
        sides = [max(image.shape[k] for image in images) for k in (0, 1)]
        mixed = len({image.shape for image in images}) > 1
        for dtype, layout in (("float32", "NCHW"), ("float16", "NHWC")):
            options: dict[str, Any] = {"dtype": dtype, "layout": layout, "labels": None}
            if mixed:
                options["pad"] = (*sides, max((*image.shape, 1)[2] for image in images))
            plain = ds.batch(rows, **options).images
            found = ds.batch(rows, augment=draws, **options).images
            assert found.shape == plain.shape
            if layout == "NCHW":
                plain, found = plain.transpose(0, 2, 3, 1), found.transpose(0, 2, 3, 1)
            chosen, want = draws.choices(plain.shape[1:3]), np.empty_like(plain)
            for k, image in enumerate(plain):
                augmentation.put(want[k], image, chosen, k, 0.0)
            np.testing.assert_array_equal(found, want)
        with pytest.raises(ValueError, match="4 positions for 1"):
            ds.batch([0], augment=draws)

    def test_labels_of_batches_are_the_columns(self, path: Path) -> None:
        ds = self.open(path)
        names = list(ds._label_names())
        if not names or ds._image(0) is None:
            return
        uneven: dict[str, Any] = {} if ds.image_shape is not None else {"pad": True}
        batch = ds.batch(np.arange(len(ds)), labels="raw", **uneven)
        assert batch.names == tuple(names)
        assert ds.batch([0], labels=None, **uneven).labels is None
        assert len(batch.labels) == len(batch.present) == len(ds)

    def test_facts_are_plain_data(self, path: Path) -> None:
        ds = self.open(path)
        facts = ds.describe()
        assert json.loads(json.dumps(facts)) == facts
        assert facts["format"] == ds.FAMILY
        assert facts["records"] == len(ds)
        assert [column["name"] for column in facts["columns"]] == list(ds.columns)
        for name, place in ds.splits.items():
            assert isinstance(name, str)
            assert os.path.isabs(place) or "://" in place
        assert path.name in repr(ds)
        for explained in (ds.explain(0), ds.explain(batch=[0]) if ds._image(0) is not None else {}):
            assert json.loads(json.dumps(explained)) == explained
        with pytest.raises(ValueError, match="batch"):
            ds.explain()

    def test_health(self, path: Path) -> None:
        ds = self.open(path)
        report = ds.verify()
        assert report.ok, str(report)
        assert report.checked
        assert ds.prefetch(np.arange(len(ds))) >= 0
        ds.warm()
        found = ds.statistics()
        assert found.n == len(ds)
        assert set(found.columns) == set(ds.columns)
        images = [ds._image(row) for row in range(len(ds))]
        if found.pixels is not None and images[0] is not None:
            total = sum(image.size for image in images)
            assert int(found.pixels.count.sum()) == total
            exact = sum(float(image.astype(np.float64).sum()) for image in images)
            mean = float(found.pixels.mean @ found.pixels.count) / total
            assert mean == pytest.approx(exact / total)
        with self.open(path) as opened:
            assert not opened.closed
        assert opened.closed

    # --- in parts ---------------------------------------------------------------------------------

    def test_a_plan_has_each_record_once_in_parts_of_a_size(self, path: Path) -> None:
        ds = self.open(path)
        expected, sizes = self.content(ds), np.broadcast_to(ds._record_sizes(), len(ds))
        for nbytes in (1, int(sizes.max()) + 1, 1 << 30):
            parts = ds.plan(nbytes)
            assert [record for part in parts for record in self.content(part)] == expected
            for part in parts:
                some = np.broadcast_to(part._record_sizes(), len(part))
                assert part is parts[-1] or some.sum() >= nbytes
                assert some[:-1].sum() < nbytes
            again = [part.rows.tolist() for part in ds[1:].plan(nbytes)]
            assert [row for rows in again for row in rows] == ds.rows[1:].tolist()
            assert again == [part.rows.tolist() for part in ds[1:].plan(nbytes)]
        with pytest.raises(ValueError, match="nbytes"):
            ds.plan(0)

    def test_jobs_in_parts_have_the_results_of_one(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plans, "LEAST_NBYTES", 1)
        ds = self.open(path)
        whole, report = ds.statistics(), ds.verify()
        for how in (2, in_other_processes, plans.grouped(in_other_processes, 2, threads=2)):
            assert equal(ds.statistics(map=how), whole)
            assert ds.verify(map=how) == report
        part = ds[1:]
        assert equal(part.statistics(map=in_other_processes), part.statistics())
        assert equal(Statistics.merge([some.statistics() for some in ds.plan(1)]), whole)

    # --- the source file --------------------------------------------------------------------------

    def test_bytes_of_records_are_named(self, path: Path) -> None:
        ds = self.open(path)
        for i in range(len(ds)):
            found, ends = ds.byte_ranges(i), dict[str, int]()
            for one in sorted(found, key=lambda one: (one.path, one.at)):
                assert one.kind in KINDS
                assert one.nbytes > 0
                assert one.at >= ends.get(one.path, 0), f"{one} and the one before overlap"
                ends[one.path] = one.at + one.nbytes
                assert one.read() == self.bytes_of(one.path)[one.at : one.at + one.nbytes]
            assert hex_dump(found).count("\n") >= len(found) - 1

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
        names: list[str] = []
        for name, bad in self.damaged(data):
            path.write_bytes(bad)
            expected = self.read_slowly(bad)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", mapix.MapixWarning)
                    ds = self.open(path)
                    found = self.content(ds)
                    if len(names) % 8 == 0 and len(ds):
                        ds.byte_ranges(len(ds) - 1)
            except CLEAR_ERRORS as e:
                assert path.name in str(e), f"{name}: the error does not name the file: {e}"
                assert expected is None, f"{name}: refused, but it is a valid file: {e}"
                continue
            assert found == expected, name
            names.append(name)
        assert names, "no damage left a readable file: is the sample all header?"


def _assert_same(batch: mapix.Batch, wanted: mapix.Batch) -> None:
    """Compare all arrays of two batches: numbers, types and shapes."""
    assert batch.names == wanted.names
    for found, want in zip(batch.tree_flatten()[0], wanted.tree_flatten()[0], strict=True):
        assert (found is None) == (want is None)
        if want is not None:
            assert found.dtype == want.dtype
            np.testing.assert_array_equal(found, want)


def _most_channels(ds: Any) -> int:
    """Return a record with the most channels: a family may take those of the file for all."""
    images = [ds._image(row) for row in ds.rows.tolist()]
    channels = [0 if image is None or image.ndim < 3 else image.shape[2] for image in images]
    return channels.index(max(channels))
