"""Ray Data: what the read tasks of a datasource return; no cluster is started."""

from __future__ import annotations

import numpy as np
import pytest

import mapix
from mapix.vimh import Parameter, Writer

pytest.importorskip("ray.data")

import mapix.ray


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_read_tasks_have_each_record_once(tmp_path, monkeypatch):
    monkeypatch.setattr("mapix.ray.LEAST_NBYTES", 1)
    monkeypatch.setattr("mapix.ray.BLOCK_NBYTES", 150)
    for k in range(2):
        with Writer(tmp_path / str(k), [Parameter("a", 0), Parameter("b", 1)][: k + 1]) as out:
            for i in range(10):
                codes = {"a": i} | ({"b": i} if k else {})
                out.append(np.full((4, 5, 1), i + 10 * k, np.uint8), codes=codes)
    ds = mapix.open([tmp_path / "0", tmp_path / "1"])
    source = mapix.ray.datasource(ds)
    assert source.estimate_inmemory_data_size() == ds._record_sizes().sum()
    tasks = source.get_read_tasks(4)
    assert 2 <= len(tasks) <= 6
    assert sum(task.metadata.num_rows for task in tasks) == 20
    blocks = [block for task in tasks for block in task()]
    assert len(blocks) > len(tasks)
    rows = [row for block in blocks for row in block.to_pylist()]
    assert [np.asarray(row["image"]).tolist() for row in rows] == [
        record.image.tolist() for record in ds
    ]
    assert [row["a"] for row in rows] == ds.columns["a"].values.tolist()
    assert [row.get("b") for row in rows] == [None] * 10 + list(range(10))
