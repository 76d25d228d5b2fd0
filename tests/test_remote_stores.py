"""Objects of an object store, and of what fsspec knows: a real server, and memory."""

from __future__ import annotations

import io
import pickle
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import mapix
from mapix.remote import listing, store_object
from mapix.source import is_file

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


def test_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setattr(store_object, "TRIES", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(OSError, match="obstore: .*s3://silent/rows.npy"):
            mapix.open("s3://silent/rows.npy")
        with pytest.raises(OSError, match="obstore: .*s3://silent/d/"):
            mapix.open("s3://silent/d/")
        assert not is_file("s3://silent/d/rows.npy")


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
    with pytest.raises(FileNotFoundError, match="not there"):
        mapix.open("s3://bucket/d/nothing")
    with pytest.raises(FileNotFoundError, match="no such bucket"):
        mapix.open("s3://nobucket/x")


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
    with pytest.raises(FileNotFoundError, match="no objects are below it"):
        mapix.open("s3://bucket/nothing/")
    with pytest.raises(OSError, match="nobucket"):
        mapix.open("s3://nobucket/x/")


# --- folders, listed ------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "memory"])
def put(request: pytest.FixtureRequest) -> Any:
    """Return a function that stores files of a local folder, and returns the URL of a folder."""
    if request.param == "s3":
        client = request.getfixturevalue("bucket")
    else:
        memory = pytest.importorskip("fsspec").filesystem("memory")

    def stored(folder: Path, below: str) -> str:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            key = f"{below}/{path.relative_to(folder)}"
            if request.param == "s3":
                client.put_object(Bucket="bucket", Key=key, Body=path.read_bytes())
            else:
                memory.pipe(f"/bucket/{key}", path.read_bytes())
        return f"{request.param}://bucket/{below}/"

    listing._known.clear()
    return stored


def pictures(folder: Path, *names: str) -> Path:
    image = pytest.importorskip("PIL.Image")
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(ROWS[k]).save(path)
    return folder


def test_a_folder_of_classes_is_that_of_a_disk(put: Any, tmp_path: Path) -> None:
    folder = pictures(
        tmp_path / "t", "dog/2.png", "cat/b c.png", "dog/10.png", "cat/a.png", "cat/deep/0.png",
        "zebra/q%20#é.PNG", "cat/a-b/1.png", "cat/.hidden.png",
    )  # fmt: skip
    (folder / "cat" / "notes.txt").write_text("no picture")
    here, ds = mapix.open(folder), mapix.open(put(folder, "classes"))
    assert [r.metadata for r in ds] == [r.metadata for r in here]
    assert ds.classes == here.classes == ("cat", "dog", "zebra")
    rows = [6, 0, 3]
    np.testing.assert_array_equal(ds.batch(rows).images, here.batch(rows).images)
    np.testing.assert_array_equal(ds.batch(rows).labels, here.batch(rows).labels)
    again = pickle.loads(pickle.dumps(ds[2:4]))
    np.testing.assert_array_equal(again[1].image, here[3].image)
    listing._known.clear()
    put(pictures(tmp_path / "more", "dog/3.png"), "classes")
    with pytest.raises(mapix.FileChangedError, match="other pictures"):
        pickle.loads(pickle.dumps(ds[2:4]))


def test_splits_yolo_and_shards_are_those_of_a_disk(put: Any, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "s", "train/a/0.png", "train/b/1.png", "test/a/2.png")
    url = put(folder, "splits")
    ds = mapix.open(url)
    assert (ds.split_name, list(ds.splits), ds.classes) == ("train", ["train", "test"], ("a", "b"))
    for test in (mapix.open(url, split="test"), mapix.open(ds.splits["test"])):
        assert [r.file_name for r in test] == ["a/2.png"]
    assert pickle.loads(pickle.dumps(ds)).splits == ds.splits

    yolo = pictures(tmp_path / "y", "images/a.png")
    (yolo / "labels").mkdir()
    (yolo / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (yolo / "classes.txt").write_text("cat\ndog\n")
    ds = mapix.open(put(yolo, "yolo"))
    assert ds[0].objects.categories == ["dog"]
    np.testing.assert_allclose(ds[0].objects.bbox, mapix.open(yolo)[0].objects.bbox)

    with mapix.vimh.Writer(tmp_path / "v") as out:
        out.extend(ROWS[:7])
    data = (tmp_path / "v" / "train").read_bytes()
    (tmp_path / "shards").mkdir()
    cut = len(data) // 7 * 3
    (tmp_path / "shards" / "train-00000-of-00002").write_bytes(data[:cut])
    (tmp_path / "shards" / "train-00001-of-00002").write_bytes(data[cut:])
    ds = mapix.open(put(tmp_path / "shards", "vimh"))
    assert len(ds.parts) == 2
    np.testing.assert_array_equal(ds.batch([6, 2]).images, ROWS[[6, 2]])


def test_shards_of_pictures_are_catalogued(put: Any, tmp_path: Path) -> None:
    source = mapix.open(pictures(tmp_path / "t", *(f"{k}.png" for k in range(7))))
    (tmp_path / "tars").mkdir()
    mapix.convert(source, tmp_path / "tars" / "w.tar", shards=3)
    url = put(tmp_path / "tars", "tars")
    with pytest.raises(mapix.UnknownFormatError, match=r"open what is in it: .*w-00000-of-00003"):
        mapix.open(url)
    written = mapix.catalogue.write(url, tmp_path / "all.catalogue")
    assert (written.shards, written.records) == (3, 7)
    ds = mapix.open(tmp_path / "all.catalogue")
    np.testing.assert_array_equal(ds.batch([6, 0]).images, ROWS[[6, 0]])
    url = put(tmp_path, "here")  # the catalogue, too: its shards have URLs
    np.testing.assert_array_equal(mapix.open(f"{url}all.catalogue")[5].image, ROWS[5])


def test_a_directory_of_the_hub(put: Any, tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for name, k in (("train-00000-of-00002", 0), ("train-00001-of-00002", 1), ("test-0", 9)):
        name = "test-00000-of-00001" if k == 9 else name
        parquet.write_table(pa.table({"x": [k, k]}), tmp_path / "hub" / "data" / f"{name}.parquet")
    ds = mapix.open(put(tmp_path / "hub", "hub"))
    assert ds.columns["x"].values.tolist() == [0, 0, 1, 1]
    assert mapix.open(ds.splits["train"]).path == ds.path
    assert mapix.open(ds.path, split="test").columns["x"].values.tolist() == [9, 9]


def test_a_listing_that_is_refused(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str) -> Iterator[tuple[str, int]]:
        raise PermissionError(url)
        yield

    bucket.put_object(Bucket="bucket", Key="private/train", Body=b"")
    raw = b"\0\0\x08\x04" + b"".join(n.to_bytes(4, "big") for n in ROWS.shape) + ROWS.tobytes()
    bucket.put_object(Bucket="bucket", Key="private/idx/train-images-idx4-ubyte", Body=raw)
    listing._known.clear()
    monkeypatch.setattr(listing, "names_below", refused)
    ds = mapix.open("s3://bucket/private/idx/", format="idx")
    np.testing.assert_array_equal(ds.batch([299]).images, ROWS[[299]])
    with pytest.raises(mapix.UnknownFormatError, match="the server does not list"):
        mapix.open("s3://bucket/private/other/")


class Answers(BaseHTTPRequestHandler):
    """An object store that answers every listing alike, and knows few objects."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""
    objects: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def answer(self, *, with_body: bool) -> None:
        status, body, headers = self.status, self.body, {}
        data = self.objects.get(self.path.partition("?")[0])
        if data is not None and "list-type" not in self.path:
            first, _, last = self.headers.get("Range", "=0-99999999")[6:].partition("-")
            begin, end = int(first), min(int(last) + 1, len(data))
            status, body = 206, data[begin:end]
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
        self.send_response(status)
        headers |= {"Content-Length": str(len(body)), "ETag": '"one"'}
        headers["Last-Modified"] = "Wed, 21 Oct 2015 07:28:00 GMT"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        del args


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    pytest.importorskip("obstore")
    monkeypatch.setattr(store_object, "TRIES", 1)

    class Own(Answers):
        objects: ClassVar[dict[str, bytes]] = {}

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(name, value)
        listing._known.clear()
        yield Own
        server.shutdown()
    listing._known.clear()


ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message></Error>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "of_object", "of_folder"),
    [
        (404, ERROR % (b"NoSuchBucket", b"-"), FileNotFoundError, "no such bucket", None),
        (404, b"", FileNotFoundError, "not there", "no such bucket"),
        (400, ERROR % (b"InvalidBucketName", b"no"), OSError, "400 Bad Request .I.*: no.:", None),
        (500, b"\n<Code>odd\x1b", OSError, "answered 500 Internal Server Error: 's3", None),
        (301, b"", OSError, "obstore: .*region", None),
    ],
)
def test_answers_of_a_store_are_in_our_words(
    answers: Any, status: int, body: bytes, kind: Any, of_object: str, of_folder: str | None
) -> None:
    answers.status, answers.body = status, body
    for url, match in (
        ("s3://b/x.npy", of_object),
        ("s3://b/d/", of_folder or of_object),
    ):
        with pytest.raises(kind, match=match) as caught:
            mapix.open(url)
        assert url in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)


def test_wrong_credentials_are_named(answers: Any) -> None:
    answers.status, answers.body = 403, ERROR % (b"SignatureDoesNotMatch", b"It does not match.")
    reason = r"403 Forbidden \(SignatureDoesNotMatch: It does not match\.\)"
    with pytest.raises(PermissionError, match=reason):
        mapix.open("s3://b/x.npy")
    with pytest.raises(mapix.UnknownFormatError, match=reason):
        mapix.open("s3://b/d/")


def test_objects_are_read_where_none_may_be_listed(answers: Any) -> None:
    answers.status, answers.body = 403, ERROR % (b"AccessDenied", b"-")
    raw = b"\0\0\x08\x04" + b"".join(n.to_bytes(4, "big") for n in ROWS.shape) + ROWS.tobytes()
    answers.objects["/b/d/train-images-idx4-ubyte"] = raw
    ds = mapix.open("s3://b/d/", format="idx")
    np.testing.assert_array_equal(ds.batch([299]).images, ROWS[[299]])


def test_a_folder_without_datasets_is_named(bucket: Any, tmp_path: Path) -> None:
    del bucket
    listing._known.clear()
    with pytest.raises(ValueError, match=r"no dataset in s3://bucket/nothing/; .*format="):
        mapix.catalogue.write("s3://bucket/nothing/", tmp_path / "x.catalogue")
    with pytest.raises(FileNotFoundError, match="no such bucket"):
        mapix.catalogue.write("s3://nothing/d/", tmp_path / "x.catalogue")


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
