"""Safetensors files: a slow reader, the original library, hostile headers."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.testing import FormatTests

TYPES = {"U8": "u1", "I16": "<i2", "F32": "<f4", "F64": "<f8", "BOOL": "?", "I64": "<i8"}


def file_of(tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for name, array in tensors.items():
        kind = next(k for k, t in TYPES.items() if np.dtype(t) == array.dtype)
        data = array.tobytes()
        place = [len(body), len(body) + len(data)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": place}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class TestSafetensors(FormatTests):
    def sample(self, folder: Path) -> Path:
        path = folder / "x.safetensors"
        path.write_bytes(file_of({"x": np.arange(24, dtype="<i2").reshape(4, 3, 2)}))
        return path

    def read_slowly(self, data: bytes) -> list[Any] | None:
        try:
            (n,) = struct.unpack_from("<Q", data)
            if 8 + n > len(data):
                return None
            text = data[8 : 8 + n].decode()
            pairs: list[Any] = []
            header = json.loads(text, object_pairs_hook=lambda p: pairs.append(p) or dict(p))
            if any(len(dict(p)) != len(p) for p in pairs) or text[0] != "{":
                return None
            about = header.pop("__metadata__", {})
            if not all(isinstance(v, str) for v in about.values()) or len(header) != 1:
                return None
            (tensor,) = header.values()
            if tensor.keys() != {"dtype", "shape", "data_offsets"}:
                return None
            dtype, shape = np.dtype(TYPES[tensor["dtype"]]), tensor["shape"]
            sizes = [*shape, *tensor["data_offsets"]]
            if not shape or not all(type(v) is int and v >= 0 for v in sizes):
                return None
            nbytes = math.prod(shape) * dtype.itemsize
            if tensor["data_offsets"] != [0, nbytes] or len(data) != 8 + n + nbytes:
                return None
            return np.frombuffer(data[8 + n :], dtype).reshape(shape).tolist()
        except (ValueError, KeyError, AttributeError, TypeError, struct.error, IndexError):
            return None

    def content(self, dataset: Any) -> list[Any]:
        return [row.tolist() for row in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        return [dataset[0]]


def test_tensors_and_labels_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    images = np.arange(60, dtype="u1").reshape(5, 4, 3)
    labels = np.array([1, 0, 2, 1, 1], "<i8")
    other = np.arange(3, dtype="<f4")
    path.write_bytes(file_of({"y": labels, "images": images, "o": other}, {"made": "by hand"}))
    ds = mapix.open(path)
    assert ds.tensor == "images"
    assert ds.tensors == ("y", "images", "o")
    assert ds.metadata == {"made": "by hand"}
    assert np.array_equal(ds.view(), images)
    assert np.shares_memory(ds[0], np.frombuffer(ds.source.view, "u1"))  # in place
    assert ds.batch([2, 0]).labels.tolist() == [2, 1]
    assert mapix.open(path, tensor="o").view().tolist() == [0, 1, 2]
    assert mapix.open(path, labels=False).labels is None
    assert mapix.open(path, format="safetensors", tensor="images", labels="y").labels is not None
    for options, words in (
        ({"tensor": "none"}, "no array 'none'; there: y, images, o"),
        ({"tensor": "images", "labels": "o"}, "5 rows in 'images', 3 labels in 'o'"),
    ):
        with pytest.raises(mapix.FormatError, match=words):
            mapix.open(path, **options)
    path.write_bytes(file_of({"a": other, "b": other}))
    with pytest.raises(mapix.UnsupportedError, match=r"several arrays \(a, b\): pass tensor="):
        mapix.open(path)
    no_name = tmp_path / "model"
    no_name.write_bytes(file_of({"a": other}))
    assert mapix.open(no_name).FAMILY == "safetensors"


@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_arrays_are_chosen_as_in_every_format(tmp_path: Path, format: str) -> None:
    one, two = np.arange(3, dtype="<f4"), np.arange(6, dtype="<f4").reshape(3, 2)
    path = tmp_path / f"x.{format}"

    def opened(**arrays: Any) -> Any:
        if format == "npz":
            np.savez(path, **arrays)
        else:
            path.write_bytes(file_of(arrays))
        return mapix.open(path, format=format)

    for name in ("images", "x", "arr_0", "data"):
        assert opened(a=one, **{name: two}).view().tolist() == two.tolist(), name
    assert opened(arr_0=one, images=two).view().tolist() == two.tolist()
    assert opened(b=two).view().tolist() == two.tolist()
    found = opened(data=two, y=one, labels=one[::-1].copy())
    assert found.batch([0]).labels.tolist() == [2.0]
    with pytest.raises(mapix.UnsupportedError, match=rf"{format}: several arrays \(a, b\): pass "):
        opened(a=one, b=two)
    with pytest.raises(mapix.UnsupportedError, match="a18, a19 and 2 more"):
        opened(**{f"a{k}": one for k in range(22)})
    with pytest.raises(mapix.FormatError, match=rf"{format}.*: no arrays in it"):
        opened()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 5]}}, "takes 4 bytes"),
        ({"x": {"dtype": "U8", "shape": [4], "data_offsets": [1, 5]}}, "begins at byte"),
        ({"x": {"dtype": "U8", "shape": [-4], "data_offsets": [0, 4]}}, "whole numbers"),
        ({"x": {"dtype": "U8", "shape": [1 << 60], "data_offsets": [0, 1 << 60]}}, "end at byte"),
        ({"x": {"dtype": "Q8", "shape": [4], "data_offsets": [0, 4]}}, "the type 'Q8'"),
        ({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, "is BF16"),
        ({"x": {"dtype": "U8", "shape": [1 << 40, 0], "data_offsets": [0, 0]}}, "rows without"),
        ({"__metadata__": {"a": 1}}, "object of texts"),
        ([1], "not a JSON object"),
        ({"x": 5}, "dtype, shape and data_offsets"),
    ],
)
def test_hostile_headers(tmp_path: Path, header: Any, words: str) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"abcd")
    with pytest.raises(mapix.MapixError, match=words):
        mapix.open(path)
    path.write_bytes(struct.pack("<Q", 1 << 62) + text)
    with pytest.raises(mapix.TruncatedError, match="are left"):
        mapix.open(path)


def test_files_of_the_original_library(tmp_path: Path) -> None:
    original = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    images = np.random.default_rng(0).random((6, 5, 4)).astype("f4")
    arrays = {"images": images, "labels": np.arange(6), "f16": np.ones((2, 2), "f2")}
    original.save_file(arrays, tmp_path / "x.safetensors", metadata={"a": "b"})
    ds = mapix.open(tmp_path / "x.safetensors")
    assert np.array_equal(ds.view(), images)
    assert ds.batch([5]).labels.tolist() == [5]
    assert mapix.open(tmp_path / "x.safetensors", tensor="f16").dtype == np.float16
    mapix.convert(ds, tmp_path / "x.npy", lossy=True)
    assert np.array_equal(np.load(tmp_path / "x.npy"), images)
    (tmp_path / "mine.safetensors").write_bytes(file_of({"images": images}))
    assert np.array_equal(original.load_file(tmp_path / "mine.safetensors")["images"], images)
