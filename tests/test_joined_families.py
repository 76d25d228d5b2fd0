"""Several files as one, and as a catalogue, of every family: compared with one file of all."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
import mapix.catalogue
import test_tfrecord
from mapix import idx, iid, vimh
from records import settle

N = 11
CUTS = (0, 4, 4, 5, N)  # one part is empty, where the family has files without records
LABELS = [k * 7 % 3 for k in range(N)]
Write = Callable[[Path, int, int], Path]
"""Writes records ``first`` to ``end`` to a path."""


def picture(k: int, shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, shape).astype(np.uint8)


def images(first: int, end: int, shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    found = [picture(k, shape) for k in range(first, end)]
    return np.array(found, np.uint8).reshape(len(found), *shape)


def vimh_file(path: Path, first: int, end: int, *, mixed: bool = False) -> Path:
    a = vimh.Parameter("a", 0, min=-1.0, max=1.0, step=0.5, num_classes=5)
    with vimh.Writer(path, [a, vimh.Parameter("b", 1)]) as out:
        for k in range(first, end):
            codes = {"a": 20 * k} | ({"b": k} if k % 3 else {})
            out.append(picture(k, (5 + (k % 2 if mixed else 0), 4, 3)), codes=codes)
    return path


def vimh_mixed(path: Path, first: int, end: int) -> Path:
    return vimh_file(path, first, end, mixed=True)


def vimh_pickle(path: Path, first: int, end: int) -> Path:
    data = images(first, end, (3072,))
    path.write_bytes(pickle.dumps({"data": data, "labels": LABELS[first:end]}, 2))
    return path


def idx_file(path: Path, first: int, end: int) -> Path:
    path = path.with_name(f"{path.name}-images-idx3-ubyte")
    idx.write(path, images(first, end, (5, 4)))
    labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    idx.write(labels, np.array(LABELS[first:end], np.uint8))
    return path


def idx_words(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".idx")
    idx.write(path, np.arange(first * 6, end * 6, dtype=">i4").reshape(-1, 6))
    return path


def npy(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".npy")
    np.save(path, images(first, end))
    return path


def npz(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".npz")
    np.savez(path, images=images(first, end), labels=np.array(LABELS[first:end]))
    return path


def pink(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".bin")
    mapix.pink.write_data(path, images(first, end, (5, 4)).astype(np.float32))
    return path


def tensors(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".safetensors")
    data = images(first, end)
    place = {"dtype": "U8", "shape": list(data.shape), "data_offsets": [0, data.nbytes]}
    header = json.dumps({"x": place}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data.tobytes())
    return path


def tar(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".tar")
    with tarfile.open(path, "w") as out:
        for k in range(first, end):
            array = io.BytesIO()
            np.save(array, picture(k))
            members = {"npy": array.getvalue(), "cls": b"%d" % LABELS[k]}
            if k % 3:
                members["json"] = json.dumps({"x": k / 2, "text": f"t{k % 4}"}).encode()
            for name, data in members.items():
                info = tarfile.TarInfo(f"n{k}.{name}")
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
    return path


def tfrecord(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".tfrecord")
    messages = [
        {"raw": [picture(k).tobytes()], "height": [5], "width": [4], "depth": [3]}
        | {"label": [LABELS[k]], "x": [k / 2]}
        for k in range(first, end)
    ]
    path.write_bytes(b"".join(test_tfrecord.record(test_tfrecord.message(m)) for m in messages))
    return path


def coco(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".json")
    rows = range(first, end)
    text = {
        "images": [{"id": k, "file_name": f"{k}.png", "height": 9, "width": 7 + k} for k in rows],
        "annotations": [
            {"id": k, "image_id": k, "category_id": LABELS[k], "area": 2.5 + k, "iscrowd": 0}
            | {"bbox": [1, 1, 2, 3], "segmentation": [[1, 1, 3, 1, 3, 4, 1, 4]]}
            for k in rows
        ],
        "categories": [{"id": k, "name": f"c{k}"} for k in range(3)],
    }
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


def archive(path: Path, first: int, end: int) -> Path:
    path = path.with_suffix(".iid")
    with iid.Writer(path, {"image": {"height": 40, "width": 60}}) as out:
        for k in range(first, end):
            mask = np.random.default_rng(k).random((7, 9)) > 0.3
            out.add(f"d{k % 3}", f"s{k}", mask, at=(3 * k, 4 * k % 31), groups=["g", "h"][: k % 3])
    return path


def folder(path: Path, first: int, end: int) -> Path:
    from PIL import Image

    path.mkdir()
    lines = []
    for k in range(first, end):
        Image.fromarray(picture(k)).save(path / f"{k}.png")
        facts = {"label": LABELS[k], "x": k / 2} if k % 3 else {"label": LABELS[k]}
        lines.append({"file_name": f"{k}.png", "caption": f"number {k}", **facts})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "metadata.jsonl").write_text(text, encoding="utf-8")
    return path


def table(path: Path, first: int, end: int) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    rows = range(first, end)
    columns = {"x": [k / 2 for k in rows], "text": [f"t{k % 4}" for k in rows]}
    made = pa.table({"label": pa.array(LABELS[first:end], pa.int64()), **columns})
    path = path.with_suffix(".parquet")
    parquet.write_table(made, path)
    return path


FAMILIES: dict[str, tuple[Write, dict[str, Any], str]] = {
    "vimh": (vimh_file, {}, ""),
    "vimh mixed": (vimh_mixed, {}, ""),
    "vimh pickle": (vimh_pickle, {}, ""),
    "idx": (idx_file, {}, ""),
    "idx words": (idx_words, {}, ""),
    "npy": (npy, {}, ""),
    "npz": (npz, {}, ""),
    "pink": (pink, {}, ""),
    "safetensors": (tensors, {}, ""),
    "tar": (tar, {}, ""),
    "tfrecord": (tfrecord, {}, ""),
    "coco": (coco, {"records": "images"}, ""),
    "coco annotations": (coco, {"records": "annotations"}, ""),
    "iid": (archive, {}, ""),
    "folder": (folder, {}, "PIL"),
    "parquet": (table, {}, "pyarrow"),
}
NOT_EMPTY = {"vimh pickle", "tar", "tfrecord", "iid", "folder", "parquet", "npz", "pink"}


QUICK = {"vimh"}  # the others take seconds, all together


def slowly(names: Any, quick: set[str]) -> list[Any]:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module", params=slowly(FAMILIES, QUICK))
def files(request, tmp_path_factory) -> tuple[str, Path, list[Path], Path, dict[str, Any]]:
    write, options, needed = FAMILIES[request.param]
    if needed:
        pytest.importorskip(needed)
    place = tmp_path_factory.mktemp("families")
    whole = settle(write(place / "whole", 0, N))
    cuts = zip(CUTS[:-1], CUTS[1:], strict=True)
    if request.param in NOT_EMPTY:
        cuts = [(a, b) for a, b in cuts if a < b]
    paths = [settle(write(place / f"part{k}", *cut)) for k, cut in enumerate(cuts)]
    if request.param.startswith("vimh") and request.param != "vimh pickle":
        options = {**options, "format": "vimh"}
    listed = place / "all.catalogue"
    mapix.catalogue.write(paths, listed, **options)
    return request.param, whole, paths, listed, options


@pytest.fixture(
    params=slowly(["list", "catalogue", "catalogue, one open"], {"catalogue, one open"})
)
def both(request, files) -> tuple[Any, Any]:
    """The dataset of one file, and the same of several."""
    _, whole, paths, listed, options = files
    if request.param == "list":
        return mapix.open(whole, **options), mapix.open(paths, **options)
    how = {"most_open": 1} if "one" in request.param else {}
    return mapix.open(whole, **options), mapix.open(listed, **how)


def alike(a: Any, b: Any, what: str = "") -> None:
    if isinstance(a, np.ma.MaskedArray):
        a, b = a.filled(0), b.filled(0)
    np.testing.assert_array_equal(a, b, err_msg=what)


ROWS = ([0, 3, 4, N - 1, -2, 4], list(range(N)), [N - 1], list(range(N))[::-1])


def test_records(both, files):
    whole, several = both
    name = files[0]
    assert len(several) == len(whole) == N
    assert type(several[3]) is type(whole[3]) or name == "iid"
    assert several.image_shape == whole.image_shape
    assert several.FAMILY == whole.FAMILY
    for row in (0, 4, N - 1):
        a, b = whole._content(row), several._content(row)
        assert (a is None) == (b is None)
        if a is not None:
            alike(a, b)
        ranges = [[(r.kind, r.nbytes) for r in ds.byte_ranges(row)] for ds in both]
        assert len(ranges[0]) == len(ranges[1])
        facts = [ds.explain(row) for ds in both]
        assert facts[0].keys() == facts[1].keys()
        assert facts[0]["copies_nbytes"] == facts[1]["copies_nbytes"]
        assert whole._annotations(row)[1:] == several._annotations(row)[1:]
    with pytest.raises(IndexError, match=str(N)):
        several[N]


@pytest.mark.parametrize("part", [slice(None), slice(2, 9), slice(None, None, -2), [7, 0, 7, 4]])
def test_columns(both, part):
    whole, several = (ds[part] for ds in both)
    assert list(whole.columns) == list(several.columns)
    for name in whole.columns:
        a, b = whole.columns[name], several.columns[name]
        assert a.present.tolist() == b.present.tolist(), name
        assert a.filled().tolist() == b.filled().tolist() or not a.present.all(), name
        alike(a.values[a.present], b.values[b.present], name)
        assert (a.unit, a.description) == (b.unit, b.description)
        alike(whole.sort_by(name).rows, several.sort_by(name).rows, name)
        alike(whole.weights(name), several.weights(name))
    assert list(whole._label_names()) == list(several._label_names())
    for unit in ("raw", "class"):
        try:
            expected = whole.label_array(unit)
        except mapix.UnsupportedError:
            continue
        found = several.label_array(unit)
        assert (expected is None) == (found is None)
        if expected is not None:
            alike(expected[0][expected[1]], found[0][found[1]])
            alike(expected[1], found[1])
            assert expected[2] == found[2]


@pytest.mark.parametrize("part", [slice(None), slice(9, 1, -1)])
def test_conditions(both, part):
    whole, several = (ds[part] for ds in both)
    for name, column in whole.columns.items():
        values = [v for v, ok in zip(column.filled().tolist(), column.present, strict=True) if ok]
        if not values or not name.isidentifier():
            continue
        value = sorted(values, key=str)[len(values) // 2]
        if isinstance(value, str | bytes):
            texts = [f"{name} == {value!r}", f"not {name} != {value!r}", f"{value!r} in {name}"]
        elif isinstance(value, float | int):
            texts = [f"{name} {op} {value!r}" for op in ("<", "<=", "==", "!=", ">=", ">")]
            texts += [f"2 * {name} - 1 > {name} or not {name}", f"{name} > 1e9", f"-{name} >= 0"]
        else:
            continue
        for text in texts:
            try:
                expected = whole.where(text).rows
            except ValueError:
                continue
            alike(expected, several.where(text).rows, text)
            alike(whole._fulfils(text), several._fulfils(text), text)
    for bad in ("no_such_column > 1", "1 <", ""):
        with pytest.raises(ValueError, match="column|condition"):
            several.where(bad)


def test_batches(both):
    whole, several = both
    if whole._image(0) is None or whole.NO_BATCH:
        with pytest.raises(mapix.UnsupportedError):
            several.batch([0])
        return
    mixed = whole.image_shape is None and {"vimh"} & {whole.FAMILY}
    uneven: dict[str, Any] = {"pad": True} if mixed else {}
    tried = [{}, {"dtype": "float32"}, {"labels": None}, {"labels": "class"}, {"threads": 2}]
    if len(whole._image(0).shape) > 1 and whole.FAMILY != "pink":
        tried += [{"layout": "NCHW", "dtype": "float32", "scale": 0.5, "mean": 3.0, "std": 2.0}]
        tried += [{"pad": (7, 8, 3), "crop": True}, {"crop": True, "pad": (3, 3)}]
    draws = mapix.Augment(flip=0.5, seed=3).draws(np.arange(len(ROWS[0])), epoch=1)
    for options in tried:
        for rows in ROWS:
            expected = whole.batch(rows, **{**uneven, **options})
            found = several.batch(rows, **{**uneven, **options})
            for name in ("images", "labels", "shapes"):
                a, b = getattr(expected, name), getattr(found, name)
                assert (a is None) == (b is None), name
                if a is not None:
                    assert a.dtype == b.dtype
                    there = expected.present if name == "labels" else None
                    alike(a if there is None else a[there], b if there is None else b[there], name)
            assert expected.names == found.names
    options = {"dtype": "float32", **({"pad": (7, 8)} if mixed else {})}
    if "layout" in whole.BATCH_OPTIONS and len(whole._image(0).shape) > 1:
        alike(
            whole.batch(ROWS[0], augment=draws, **options).images,
            several.batch(ROWS[0], augment=draws, **options).images,
        )
    parts = [ds[::-1].batches(4, **uneven) for ds in both]
    for a, b in zip(*parts, strict=True):
        alike(a.images, b.images)
    assert several.prefetch(range(N)) >= 0
    assert several.batch_shape([1, 2], **uneven) == whole.batch_shape([1, 2], **uneven)
    facts = [ds.explain(batch=[0, 5], **uneven) for ds in both]
    assert facts[0]["reads_nbytes"] == facts[1]["reads_nbytes"]


@pytest.mark.parametrize("part", [slice(None), slice(2, 9)])
def test_statistics(both, part):
    whole, several = (ds[part] for ds in both)
    a, b = whole.statistics(), several.statistics()
    assert a.n == b.n
    assert (a.pixels is None) == (b.pixels is None)
    if a.pixels is not None:
        for name in ("count", "mean", "std", "min", "max"):
            alike(getattr(a.pixels, name), getattr(b.pixels, name), name)
    assert list(a.columns) == list(b.columns)
    for name, one in a.columns.items():
        two = b.columns[name]
        for field in ("n", "missing", "min", "max", "mean", "std", "median", "unique", "counts"):
            alike(getattr(one, field), getattr(two, field), f"{name} {field}")


def test_health(both):
    whole, several = both
    seen: list[tuple[int, int]] = []
    report = several.verify(lambda done, total: seen.append((done, total)))
    assert report.ok, report
    assert report.checked
    assert report.nrecords == whole.verify().nrecords
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    seen.clear()
    several.warm(lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    facts = several.describe()
    assert json.loads(json.dumps(facts)) == facts
    expected = whole.describe()
    assert (facts["records"], facts["columns"]) == (expected["records"], expected["columns"])
    assert str(N) in repr(several)


def test_pickles(both):
    whole, several = both
    for part in (slice(None), slice(8, 2, -1)):
        again = pickle.loads(pickle.dumps(several[part]))
        assert again.rows.tolist() == whole[part].rows.tolist()
        for name in list(whole.columns)[:2]:
            alike(again.columns[name].filled(), whole[part].columns[name].filled())
