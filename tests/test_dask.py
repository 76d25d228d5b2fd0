"""dask: jobs on its workers, and lazy arrays, against what one process finds."""

from __future__ import annotations

import numpy as np
import pytest

import mapix
from mapix import plans
from mapix.testing import equal
from mapix.vimh import Parameter, Writer

dask = pytest.importorskip("dask")
pytest.importorskip("dask.array")

import mapix.dask  # noqa: E402


@pytest.fixture
def ds(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "LEAST_NBYTES", 1)
    rng = np.random.default_rng(2)
    with Writer(tmp_path / "d", [Parameter("a", 0), Parameter("b", 1)]) as out:
        for i in range(30):
            out.append(rng.integers(0, 256, (4, 5, 2), np.uint8), codes={"a": i, "b": 3})
    return mapix.open(tmp_path / "d")


def test_jobs_without_a_client(ds):
    with dask.config.set(scheduler="synchronous"):
        assert equal(ds.statistics(map=mapix.dask.map()), ds.statistics())
        assert ds.verify(map=mapix.dask.map(size=4, threads=2)) == ds.verify()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_jobs_on_the_workers_of_a_cluster(ds, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        run = mapix.dask.map(client, size=4, threads=2)
        assert equal(ds.statistics(map=run), ds.statistics())
        assert ds.verify(map=mapix.dask.map(client)) == ds.verify()
        mapix.convert(ds, tmp_path / "x.npz", lossy=True, map=run, resume=True)
    mapix.convert(ds, tmp_path / "y.npz", lossy=True)
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()


def test_an_array_has_a_chunk_for_each_part_of_a_plan(ds):
    found = mapix.dask.array(ds, nbytes=600)
    assert found.shape == (30, 4, 5, 2)
    assert found.dtype == np.uint8
    assert len(found.chunks[0]) == len(ds.plan(600)) > 1
    with dask.config.set(scheduler="synchronous"):
        assert np.array_equal(found.compute(), ds.batch(np.arange(30)).images)
        assert np.array_equal(found[7:9, 1].compute(), ds.batch([7, 8]).images[:, 1])
        assert float(found.mean().compute()) == pytest.approx(ds.batch(range(30)).images.mean())


def test_a_dataset_for_xarray(ds, tmp_path):
    pytest.importorskip("xarray")
    with Writer(tmp_path / "e", [Parameter("a", 0)]) as out:
        out.append(np.zeros((4, 5, 2), np.uint8), codes={"a": 99})
    both = mapix.dask.xarray(mapix.open([tmp_path / "e", tmp_path / "d"]))
    assert np.array_equal(both.b.values, [np.nan] + [3.0] * 30, equal_nan=True)
    found = mapix.dask.xarray(ds, nbytes=600)
    assert dict(found.sizes) == {"record": 30, "y": 4, "x": 5, "channel": 2}
    assert found.a.values.tolist() == ds.columns["a"].values.tolist()
    with dask.config.set(scheduler="synchronous"):
        some = found.where(found.a < 3, drop=True)
        assert np.array_equal(some.images.values, ds.where("a < 3").batch([0, 1, 2]).images)
    np.save(tmp_path / "a.npy", np.zeros((5, 4, 3)))
    assert mapix.dask.xarray(mapix.open(tmp_path / "a.npy")).images.dims == ("record", "y", "x")


def test_images_of_mixed_shapes_are_refused(tmp_path):
    with Writer(tmp_path / "d", []) as out:
        for side in (4, 5):
            out.append(np.zeros((side, 5, 1), np.uint8), codes={})
    with pytest.raises(mapix.UnsupportedError, match="one shape"):
        mapix.dask.array(mapix.open(tmp_path / "d"))


def test_dask_that_is_not_installed_is_one_line(ds, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(mapix.UnsupportedError, match=r"mapix\[dask\]"):
        mapix.dask.array(ds)
