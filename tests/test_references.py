"""References: what zarr, xarray, dask and VirtualiZarr read in place is what mapix reads."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

import mapix
from every_operation import coco
from mapix import zarr_references
from mapix.__main__ import main
from test_safetensors import file_of

HEADS = [mapix.vimh.Parameter("a", 0, 0, 127), mapix.vimh.Parameter("b", 1, 0, 127)]


def zarr_array(refs: dict, name: str) -> np.ndarray:
    """Read an array by zarr's specification (version 2) and kerchunk's (version 1), naively."""
    facts = json.loads(refs[f"{name}/.zarray"])
    assert facts["zarr_format"] == 2
    assert facts["order"] == "C"
    assert facts["compressor"] is facts["fill_value"] is None
    shape, chunks = facts["shape"], facts["chunks"]
    assert shape[1:] == chunks[1:]
    dims = json.loads(refs[f"{name}/.zattrs"])["_ARRAY_DIMENSIONS"]
    assert len(dims) == len(set(dims)) == len(shape)
    out = np.empty((-(-shape[0] // chunks[0]) * chunks[0], *shape[1:]), facts["dtype"])
    keys = {f"{k}{'.0' * (len(shape) - 1)}" for k in range(len(out) // chunks[0])}
    assert {k.partition("/")[2] for k in refs if k.startswith(f"{name}/")} == keys | {
        ".zarray",
        ".zattrs",
    }
    for key in keys:
        place = refs[f"{name}/{key}"]
        if isinstance(place, str):
            raw = base64.b64decode(place.removeprefix("base64:"), validate=True)
        else:
            path, at, nbytes = place
            with open(path, "rb") as file:
                file.seek(at)
                raw = file.read(nbytes)
            assert len(raw) == nbytes
        array = np.frombuffer(raw, np.uint8)
        for wanted in facts["filters"] or []:
            assert wanted["id"] == "record_member"
            array = np.frombuffer(array, wanted["dtype"])[wanted["member"]].copy()
        k = int(key.partition(".")[0]) * chunks[0]
        out[k : k + chunks[0]] = array.reshape(-1).view(facts["dtype"]).reshape(chunks)
    return out[: shape[0]]


def vimh(folder: Path, n: int = 24) -> mapix.Dataset:
    rng = np.random.default_rng(n)
    folder.mkdir()
    with mapix.vimh.Writer(folder / "d", HEADS) as out:
        codes = {"a": np.arange(n) % 256, "b": np.arange(n) * 7 % 256}
        out.extend(rng.integers(0, 256, (n, 5, 4, 3)).astype("u1"), codes=codes, split="train")
    return mapix.open(folder / "d")


def of_vimh(folder: Path, **options) -> tuple:
    ds = vimh(folder / "v")
    if options:
        ds = mapix.open(ds.path, **options)
        return ds, ds.images, None
    pairs = np.stack([ds.label_ids, ds.label_bytes], axis=-1)
    return ds, ds.images.transpose(0, 3, 1, 2), pairs


def of_vimh_pickle(folder: Path) -> tuple:
    ds = vimh(folder / "v")
    mapix.convert(ds, folder / "p", to="vimh", output="pickle")
    return mapix.open(folder / "p"), ds.images.transpose(0, 3, 1, 2), None


def of_idx(folder: Path) -> tuple:
    images = np.random.default_rng(0).integers(0, 256, (24, 6, 5)).astype("u1")
    mapix.idx.write(folder / "x-images-idx3-ubyte", images)
    mapix.idx.write(folder / "x-labels-idx1-ubyte", np.arange(24, dtype="u1"))
    return mapix.open(folder / "x-images-idx3-ubyte"), images, np.arange(24, dtype="u1")


def of_numbers(folder: Path, dtype: str) -> tuple:
    images = (np.random.default_rng(0).random((24, 6, 5)) * 99).astype(dtype)
    order = ">" if dtype.startswith(">") else "<"
    mapix.idx.write(folder / "x.idx", images, byteorder=order)
    ds = mapix.open(folder / "x.idx")
    assert ds.dtype == images.dtype
    return ds, images, None


def of_pink(folder: Path) -> tuple:
    images = np.random.default_rng(0).random((24, 6, 5)).astype("<f4")
    mapix.pink.write_data(folder / "x.bin", images)
    return mapix.open(folder / "x.bin"), images, None


def of_npy(folder: Path) -> tuple:
    images = np.random.default_rng(0).random((24, 3, 6, 5)).astype("<f4")
    np.save(folder / "x.npy", images)
    return mapix.open(folder / "x.npy", axes="CHW"), images, None


def of_npz(folder: Path) -> tuple:
    images = np.random.default_rng(0).integers(0, 999, (24, 6, 5, 3))
    np.savez(folder / "x.npz", images=images, labels=np.arange(48.0).reshape(24, 2))
    return mapix.open(folder / "x.npz"), images, np.arange(48.0).reshape(24, 2)


def of_safetensors(folder: Path) -> tuple:
    images = np.random.default_rng(0).integers(0, 256, (24, 7)).astype("u1")
    path = folder / "x.safetensors"
    path.write_bytes(file_of({"images": images, "labels": np.arange(24, dtype="<i8")}))
    return mapix.open(path), images, np.arange(24, dtype="<i8")


FAMILIES = {
    "vimh": of_vimh,
    "vimh interleaved": lambda folder: of_vimh(folder, order="HWC"),
    "vimh pickle": of_vimh_pickle,
    "idx": of_idx,
    "idx big-endian": lambda folder: of_numbers(folder, ">i4"),
    "idx little-endian": lambda folder: of_numbers(folder, "<f8"),
    "pink": of_pink,
    "npy": of_npy,
    "npz": of_npz,
    "safetensors": of_safetensors,
}


@pytest.fixture(params=FAMILIES)
def opened(request, tmp_path):
    return FAMILIES[request.param](tmp_path)


PARTS = [slice(None), slice(3, 20), slice(None, None, -2), [5, 5, 0], slice(4, 4)]


def test_references_name_the_bytes(opened):
    ds, images, labels = opened
    for part, rows in itertools.product(PARTS, (500, 8, 7, 1)):
        made = mapix.references(ds[part], rows)
        assert made["version"] == 1
        assert json.loads(json.dumps(made)) == made
        refs = made["refs"]
        assert json.loads(refs[".zgroup"]) == {"zarr_format": 2}
        found = zarr_array(refs, "images")
        assert found.dtype == images.dtype
        np.testing.assert_array_equal(found, images[part])
        if labels is not None:
            np.testing.assert_array_equal(zarr_array(refs, "labels"), labels[part])
        assert ("records/.zarray" in refs) == (ds.placement().head_nbytes > 0)
        if "records/.zarray" in refs:
            assert json.loads(refs["records/.zarray"])["filters"] is None
            dtype = np.dtype(json.loads(refs["records/.zattrs"])["dtype"])
            records = zarr_array(refs, "records").view(dtype)[:, 0]
            np.testing.assert_array_equal(records["images"], images[part])
            np.testing.assert_array_equal(records["labels"][..., 1], ds.label_bytes[part])
        facts = json.loads(refs["images/.zarray"])
        assert facts["chunks"][0] <= rows
        if part == slice(None):
            assert facts["chunks"][0] == {500: 24, 8: 8, 7: 6, 1: 1}[rows]  # divisors of 24
        if rows == 1:
            assert facts["filters"] is None


def test_a_last_chunk_that_is_not_full_is_in_the_dict(tmp_path, monkeypatch):
    ds = vimh(tmp_path / "v", 53)
    refs = mapix.references(ds, 20)["refs"]
    assert [type(refs[f"images/{k}.0.0.0"]) for k in range(3)] == [list, list, str]
    np.testing.assert_array_equal(zarr_array(refs, "images"), ds.images.transpose(0, 3, 1, 2))
    stride = ds.placement().stride
    monkeypatch.setattr(zarr_references, "INLINE_NBYTES", 9 * stride + 1)
    refs = mapix.references(ds, 20)["refs"]
    assert json.loads(refs["images/.zarray"])["chunks"][0] == 9
    assert len(base64.b64decode(refs["images/5.0.0.0"].partition(":")[2])) == 9 * stride
    np.testing.assert_array_equal(zarr_array(refs, "images"), ds.images.transpose(0, 3, 1, 2))
    monkeypatch.setattr(zarr_references, "INLINE_NBYTES", stride)
    assert json.loads(mapix.references(ds, 20)["refs"]["images/.zarray"])["chunks"][0] == 1


def test_several_files_are_one_array(tmp_path):
    a, b = vimh(tmp_path / "a", 24), vimh(tmp_path / "b", 18)
    both = mapix.open([a.path, b.path])
    refs = mapix.references(both, 7)["refs"]
    assert json.loads(refs["images/.zarray"])["chunks"][0] == math.gcd(24, 18)
    images = np.concatenate([a.images, b.images]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(zarr_array(refs, "images"), images)
    for joined in (both, a.joined([])):
        with pytest.raises(mapix.UnsupportedError, match="those of all records"):
            mapix.references(joined[3:])
    np.save(tmp_path / "x.npy", np.zeros((3, 2), "f4"))
    np.savez(tmp_path / "y.npz", images=np.zeros((3, 2), "f4"), labels=np.arange(3))
    np.savez(tmp_path / "z.npz", images=np.zeros((3, 2), "f4"))
    with pytest.raises(mapix.UnsupportedError, match="differ in shapes, types or labels"):
        mapix.references(mapix.open([tmp_path / "y.npz", tmp_path / "z.npz"]))


def test_a_folder_of_readers(tmp_path):
    ds, _, _ = of_idx(tmp_path)
    refs = mapix.references(ds, folder="https://example.org/mnist/")["refs"]
    assert refs["images/0.0.0"] == ["https://example.org/mnist/x-images-idx3-ubyte", 16, 24 * 30]
    assert refs["labels/0"] == ["https://example.org/mnist/x-labels-idx1-ubyte", 8, 24]


def test_what_cannot_be_referenced_says_why(tmp_path):
    with mapix.vimh.Writer(tmp_path / "mixed", HEADS) as out:
        for h in (2, 3):
            out.append(np.zeros((h, 3), np.uint8), codes={"a": 1, "b": 1})
    packed = tmp_path / "p.idx.gz"
    mapix.idx.write(tmp_path / "p.idx", np.zeros((4, 5), "u1"))
    packed.write_bytes(gzip.compress((tmp_path / "p.idx").read_bytes()))
    np.savez_compressed(tmp_path / "c.npz", x=np.zeros((4, 5)))
    np.save(tmp_path / "s.npy", np.zeros(4, [("a", "u1"), ("b", "f4")]))
    for path, reason in (
        ("mixed", "one size"),
        ("p.idx.gz", "not compressed"),
        ("c.npz", "not compressed"),
        ("s.npy", "are numbers"),
    ):
        with pytest.raises(mapix.UnsupportedError, match=f"{path}.*{reason}"):
            mapix.references(mapix.open(tmp_path / path))
    (tmp_path / "coco").mkdir()
    with pytest.raises(mapix.UnsupportedError, match="are numbers"):
        mapix.references(mapix.open(coco(tmp_path / "coco")))
    ds = mapix.open(tmp_path / "p.idx")
    with pytest.raises(ValueError, match="at least 1"):
        mapix.references(ds, 0)
    ds.close()
    with pytest.raises(mapix.ClosedError):
        mapix.references(ds)
    ds = mapix.open(tmp_path / "p.idx")
    mapix.idx.write(tmp_path / "q.idx", np.zeros((4, 5), "u1"))
    (tmp_path / "q.idx").replace(tmp_path / "p.idx")
    with pytest.raises(mapix.FileChangedError, match="again, then make references"):
        mapix.references(ds)


def test_the_command(tmp_path, capsys):
    ds, images, _ = of_idx(tmp_path)
    assert main(["references", ds.path, "--rows", "8", "--range", ":16"]) == 0
    assert json.loads(capsys.readouterr().out) == mapix.references(ds[:16], 8)
    out = tmp_path / "refs.json"
    assert main(["references", ds.path, "-o", str(out), "--folder", "s3://b"]) == 0
    assert json.loads(out.read_text()) == mapix.references(ds, folder="s3://b")
    assert main(["references", ds.path, "-o", str(out)]) == 2  # it is there
    (tmp_path / "x.npz").write_bytes(b"")
    np.savez_compressed(tmp_path / "x.npz", x=images)
    capsys.readouterr()
    assert main(["references", str(tmp_path / "x.npz")]) == 2
    assert "not compressed" in capsys.readouterr().err


# --- libraries ------------------------------------------------------------------------------------

QUIET = pytest.mark.filterwarnings("default")


@pytest.fixture
def zarr():
    """zarr, where all that reads references with it is there, too."""
    for name in ("kerchunk", "xarray", "dask.array"):
        pytest.importorskip(name)
    return pytest.importorskip("zarr")


@QUIET
def test_zarr_xarray_and_dask_read_equal_arrays(zarr, opened):
    import dask.array
    import xarray

    ds, images, labels = opened
    for rows in (500, 7, 1):
        made = mapix.references(ds, rows)
        store = {"fo": made, "remote_protocol": "file"}
        group = zarr.open_group("reference://", mode="r", storage_options=store, zarr_format=2)
        found = group["images"]
        assert found.shape == images.shape
        np.testing.assert_array_equal(found[:], images)
        np.testing.assert_array_equal(found.oindex[[3, 20]], images[[3, 20]])
        lazy = dask.array.from_zarr(found)
        np.testing.assert_array_equal(lazy[5:].compute(), images[5:])
        with xarray.open_dataset(made, engine="kerchunk", chunks={}) as data:
            assert data.images.dims[0] == "record"
            np.testing.assert_array_equal(data.images.values, images)
            if labels is not None:
                np.testing.assert_array_equal(data.labels.values, labels)
        if "records" in group:
            found = group["records"].oindex[[3, 20]].view(np.dtype(group["records"].attrs["dtype"]))
            np.testing.assert_array_equal(found["images"][:, 0], images[[3, 20]])


@QUIET
def test_a_last_chunk_in_the_dict_is_read(zarr, tmp_path):
    ds = vimh(tmp_path / "v", 53)
    store = {"fo": mapix.references(ds, 20), "remote_protocol": "file"}
    group = zarr.open_group("reference://", mode="r", storage_options=store, zarr_format=2)
    assert group["images"].chunks[0] == 20
    np.testing.assert_array_equal(group["images"][:], ds.images.transpose(0, 3, 1, 2))


@QUIET
def test_a_store_over_any_dataset(zarr, opened):
    import dask.array
    import xarray

    from mapix.zarr import Store

    ds, _, _ = opened
    want = ds.batch(range(len(ds)), labels=None).images
    for rows, part in ((500, slice(None)), (7, slice(None)), (7, [5, 5, 0]), (2, slice(4, 4))):
        group = zarr.open_group(Store(ds[part], rows), mode="r")
        found = group["images"]
        assert found.chunks[0] == rows
        np.testing.assert_array_equal(found[:], want[part])
        assert found.dtype.newbyteorder("=") == want.dtype
    again = pickle.loads(pickle.dumps(Store(ds, 7)))
    found = zarr.open_group(again, mode="r")["images"]
    np.testing.assert_array_equal(found.oindex[[3, 20]], want[[3, 20]])
    np.testing.assert_array_equal(dask.array.from_zarr(found)[5:].compute(), want[5:])
    with xarray.open_zarr(Store(ds, 7), consolidated=False) as data:
        assert data.images.dims[0] == "record"
        assert set(data) == {"images", *(k for k, v in ds.columns.items() if v.values.ndim == 1)}
        for name, column in ds.columns.items():
            np.testing.assert_array_equal(data[name].values, column.values)


@QUIET
def test_a_store_copies_once_and_writes_nothing(zarr, tmp_path):
    import asyncio

    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
    from zarr.core.buffer import default_buffer_prototype

    from mapix.zarr import Store

    ds, images, _ = of_npy(tmp_path)
    store, prototype = Store(ds, 5), default_buffer_prototype()
    key = "images/c/1" + "/0" * (images.ndim - 1)

    def got(key, some=None):
        return asyncio.run(store.get(key, prototype, some))

    raw = images[5:10].tobytes()
    assert np.shares_memory(got(key).as_numpy_array(), ds.view())
    for some, part in (
        (RangeByteRequest(3, 9), slice(3, 9)),
        (OffsetByteRequest(7), slice(7, None)),
        (SuffixByteRequest(4), slice(-4, None)),
    ):
        assert got(key, some).to_bytes() == raw[part]
    for wrong in ("images/c/99/0/0", "images/c/x", "nothing/c/0", key + "/1", "images"):
        assert got(wrong) is None
        assert not asyncio.run(store.exists(wrong))
    assert asyncio.run(store.exists(key))
    group = zarr.open_group(store, mode="r")
    assert "images" in set(group)
    with pytest.raises((mapix.UnsupportedError, ValueError)):
        asyncio.run(store.set(key, got(key)))
    with pytest.raises(ValueError, match="at least 1"):
        Store(ds, 0)
    other = vimh(tmp_path / "m", 3)
    assert Store(other) == Store(other) != Store(other, 7)
    planes = pickle.loads(pickle.dumps(Store(other, 2, layout="NCHW", dtype="float32")))
    found = zarr.open_group(planes, mode="r")["images"]
    assert found.metadata.dimension_names == ("record", "channel", "y", "x")
    np.testing.assert_array_equal(found[:], other.images.transpose(0, 3, 1, 2).astype("f4"))


@QUIET
@pytest.mark.parametrize("rows", [None, 1, 4, 500])
def test_images_between_headers_are_views(zarr, tmp_path, rows):
    import asyncio

    from zarr.core.buffer import default_buffer_prototype

    from mapix.zarr import Store

    ds = vimh(tmp_path / "v", 11)
    want = ds.images.transpose(0, 3, 1, 2)
    store = pickle.loads(pickle.dumps(Store(ds, rows, layout="NCHW")))
    key = "images/c/0" + "/0" * (want.ndim - 1)
    chunk = asyncio.run(store.get(key, default_buffer_prototype())).as_numpy_array()
    assert np.shares_memory(chunk, store._ds.images)
    found = pickle.loads(pickle.dumps(zarr.open_group(store, mode="r")["images"]))
    np.testing.assert_array_equal(found[:], want)
    np.testing.assert_array_equal(found[9:, 1, 2:4], want[9:, 1, 2:4])
    np.testing.assert_array_equal(found.oindex[[1, 10]], want[[1, 10]])
    assert asyncio.run(Store(ds).get(key, default_buffer_prototype())) is not None
    backwards = zarr.open_group(Store(ds[::-1], rows, layout="NCHW"), mode="r")["images"]
    np.testing.assert_array_equal(backwards[:], want[::-1])
    with pytest.raises(ValueError, match="need a copy"):
        np.asarray(ds[[3, 1]], copy=False)
    assert np.shares_memory(np.asarray(ds, copy=False), ds.images)


@QUIET
def test_files_may_lie_elsewhere(zarr, tmp_path):
    import fsspec

    ds, images, labels = of_idx(tmp_path)
    made = mapix.references(ds, folder="memory://mnist")
    for path in tmp_path.iterdir():
        fsspec.filesystem("memory").pipe(f"/mnist/{path.name}", path.read_bytes())
        path.unlink()
    store = {"fo": made, "remote_protocol": "memory"}
    group = zarr.open_group("reference://", mode="r", storage_options=store, zarr_format=2)
    np.testing.assert_array_equal(group["images"][:], images)
    np.testing.assert_array_equal(group["labels"][:], labels)


@pytest.fixture
def virtualizarr():
    return pytest.importorskip("virtualizarr")


@QUIET
def test_virtualizarr_reads_equal_arrays(virtualizarr, opened):
    import xarray
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore

    from mapix.virtualizarr import Parser

    ds, images, labels = opened
    options = {"axes": "CHW"} if ds.path.endswith(".npy") else {}
    if getattr(ds, "interleaved", False):
        options = {"order": "HWC"}
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    store = Parser(7, **options)(Path(ds.source.full_path).as_uri(), registry)
    with xarray.open_zarr(store, consolidated=False, zarr_format=3) as data:
        np.testing.assert_array_equal(data.images.values, images)
        assert max(data.images.chunks[0]) == (1 if getattr(ds, "header_nbytes", 0) else 6)
        if labels is not None:
            np.testing.assert_array_equal(data.labels.values, labels)
        if "records" in data:
            assert max(data.records.chunks[0]) == 6
            found = data.records.values.view(np.dtype(data.records.attrs["dtype"]))
            np.testing.assert_array_equal(found["images"][:, 0], images)
    with pytest.raises(mapix.UnsupportedError, match="s3"):
        Parser()("s3://bucket/x", registry)
