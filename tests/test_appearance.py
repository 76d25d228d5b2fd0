"""Files that are something else: the error says what they look like, and what to do."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

import mapix
from mapix.appearance import looks_like
from slow_vimh import pack, record

LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def saved(write) -> bytes:
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def tar(out) -> None:
    with tarfile.open(fileobj=out, mode="w") as t:
        t.addfile(tarfile.TarInfo("a"))


def packed(out) -> None:
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("a", b"1")


FILES = {
    "html": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
    "html with a mark": (b"\xef\xbb\xbf \n<HTML lang=en>", "an HTML page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
    "lfs": (LFS, "a Git LFS pointer; the data is not here yet: run git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s5--abc\n", "a git-annex pointer"),
    "gzip": (gzip.compress(b"text"), "gzip; unpack it first: gzip -dk FILE"),
    "zip": (saved(packed), "a zip archive"),
    "npz": (saved(lambda out: np.savez(out, a=np.zeros(3))), "a zip archive"),
    "tar": (saved(tar), "a tar archive"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG picture"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a JPEG picture"),
    "npy": (saved(lambda out: np.save(out, np.zeros(3))), "a NumPy array"),
    "pickle": (pickle.dumps([1, 2]), "a Python pickle"),
    "pickle of protocol 0": (pickle.dumps(["x"], 0), "a Python pickle"),
    "json": (b'[{"a": 1}]', "JSON text"),
    "empty": (b"", "an empty file"),
}


@pytest.mark.parametrize(
    "name", ["x", "x-images-idx3-ubyte.gz", "x-idx3-ubyte", "train", "d/train"]
)
@pytest.mark.parametrize("kind", FILES)
def test_the_error_says_what_it_looks_like(tmp_path, kind, name):
    data, want = FILES[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    if kind == "empty" and name.endswith("train"):
        pytest.skip("a dataset without records")
    if kind == "tar" and name in ("x", "train"):
        pytest.skip("a tar shard without records")
    if kind in ("npy", "npz"):
        pytest.skip("a format of mapix")
    if kind == "gzip" and "idx" in name:
        pytest.skip("read as what it says it is")
    with pytest.raises(mapix.MapixError) as e:
        mapix.open(path.parent if name == "d/train" else path)
    assert f"looks like {want}" in str(e.value)
    assert str(path) in str(e.value)
    assert isinstance(e.value, ValueError)


def test_what_is_wrong_with_it_is_still_said(tmp_path):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(LFS)
    with pytest.raises(mapix.FormatError, match="0000 or ffff expected, got 7665") as e:
        mapix.open(path)
    assert e.value.at == 0
    with pytest.raises(mapix.TruncatedError, match=r"(?s)Git LFS pointer.*record needs"):
        mapix.open(path, format="vimh", dialect=14)


def test_info_json_that_is_a_page(tmp_path):
    (tmp_path / "train").write_bytes(pack([record(2, 2, 1, [])]))
    (tmp_path / "vimh_dataset_info.json").write_bytes(FILES["html"][0])
    with pytest.raises(mapix.FormatError, match=r"vimh_dataset_info.json.*an HTML page"):
        mapix.open(tmp_path)


def test_errors_of_what_it_is_are_left_alone(tmp_path):
    broken = {
        "m.json": (b'{"Type": 1}', "Type"),
        "x-idx3-ubyte.gz": (gzip.compress(b"\0\0\7\1"), "a type of"),
        "train_batch": (pickle.dumps({"data": 1}), "data"),
        "x": (saved(tar)[:600], "0 complete records"),
    }
    for name, (data, want) in broken.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(mapix.MapixError, match=want) as e:
            mapix.open(path)
        assert "looks like" not in str(e.value), name
        path.unlink()


def test_looking_reads_no_directory_and_no_device(tmp_path):
    assert looks_like(tmp_path) is None
    assert looks_like("/dev/zero") is None
    assert looks_like(tmp_path / "nothing") is None
    assert looks_like("http://127.0.0.1:1/a/folder/") is None  # without a request
