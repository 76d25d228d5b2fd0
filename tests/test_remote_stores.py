"""Objects of an object store, and of what fsspec knows: a real server, and memory."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.remote import store_object

ROWS = np.random.default_rng(0).integers(0, 256, (300, 24, 24, 3), np.uint8)


def npy(rows: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, rows)
    return out.getvalue()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    pytest.importorskip("obstore")
    pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="bucket")
    return client


def test_an_object_of_s3(bucket: Any) -> None:
    bucket.put_object(Bucket="bucket", Key="d/rows.npy", Body=npy(ROWS))
    ds = mapix.open("s3://bucket/d/rows.npy")
    rows = np.random.default_rng(1).permutation(300)[:64]
    np.testing.assert_array_equal(ds.batch(rows).images, ROWS[rows])
    np.testing.assert_array_equal(ds[7], ROWS[7])
    blob = pickle.dumps(ds)
    np.testing.assert_array_equal(pickle.loads(blob).batch(rows).images, ROWS[rows])
    bucket.put_object(Bucket="bucket", Key="d/rows.npy", Body=npy(ROWS[::-1]))
    with pytest.raises(mapix.FileChangedError, match=r"rows\.npy"):
        pickle.loads(blob)
    fresh = mapix.open("s3://bucket/d/rows.npy")
    bucket.put_object(Bucket="bucket", Key="d/rows.npy", Body=npy(ROWS))
    with pytest.raises(mapix.FileChangedError, match="the object changed"):
        fresh.batch(np.arange(300))
    for missing in ("s3://bucket/d/nothing", "s3://nobucket/x"):
        with pytest.raises(FileNotFoundError, match="not there"):
            mapix.open(missing)


def test_folders_of_s3(bucket: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    raw = b"\0\0\x08\x04" + b"".join(n.to_bytes(4, "big") for n in ROWS.shape) + ROWS.tobytes()
    out = io.BytesIO()
    image.fromarray(ROWS[3]).save(out, "PNG")
    for key, body in (
        ("mnist/raw/train-images-idx4-ubyte", raw),
        ("pictures/metadata.jsonl", b'{"file_name": "sub/a.png"}'),
        ("pictures/sub/a.png", out.getvalue()),
    ):
        bucket.put_object(Bucket="bucket", Key=key, Body=body)
    ds = mapix.open("s3://bucket/mnist/raw/", format="idx")
    np.testing.assert_array_equal(ds.batch([299, 0]).images, ROWS[[299, 0]])
    found = mapix.open("s3://bucket/pictures/")
    np.testing.assert_array_equal(found.batch([0]).images, ROWS[[3]])
    with pytest.raises(mapix.UnknownFormatError, match="servers do not list"):
        mapix.open("s3://bucket/nothing/")


def test_an_empty_object_of_s3(bucket: Any) -> None:
    bucket.put_object(Bucket="bucket", Key="empty.npy", Body=b"")
    with pytest.raises(mapix.MapixError, match=r"empty\.npy"):
        mapix.open("s3://bucket/empty.npy")


def test_an_object_through_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr(store_object, "CHECKED_S", -1.0)
    memory = fsspec.filesystem("memory")
    memory.pipe("/d/rows.npy", npy(ROWS))
    ds = mapix.open("memory://d/rows.npy")
    rows = np.random.default_rng(1).permutation(300)[:64]
    np.testing.assert_array_equal(ds.batch(rows).images, ROWS[rows])
    memory.pipe("/d/rows.npy", npy(ROWS[:200]))
    with pytest.raises(mapix.FileChangedError, match=r"rows\.npy"):
        ds.batch(np.arange(300))
    with pytest.raises(FileNotFoundError, match="not there"):
        mapix.open("memory://d/nothing")
    with pytest.raises(mapix.UnsupportedError, match="nosuch"):
        mapix.open("nosuch://d/rows.npy")
