"""Arrow and Parquet files: those of mapix.convert, of other programs, and damaged ones."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.source import Source

pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")

KINDS = ("parquet", "arrow")


def digits(folder: Path, n: int = 20) -> Any:
    images = np.arange(n * 6 * 5, dtype=np.uint32).astype("u1").reshape(n, 6, 5)
    mapix.idx.write(folder / "x-images-idx3-ubyte", images)
    mapix.idx.write(folder / "x-labels-idx1-ubyte", (np.arange(n) % 7).astype("u1"))
    return mapix.open(folder / "x-images-idx3-ubyte")


def pictures(folder: Path) -> Any:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder.mkdir()
    lines = []
    for k in range(6):
        image.new("RGB", (9 + k % 2, 7), (k, 2, 3)).save(folder / f"{k}.png")
        line: dict[str, Any] = {"file_name": f"{k}.png", "caption": f"number {k}"}
        line["categories"] = [["cat", "dog"][k % 2]]
        line["more"] = k
        if k != 3:
            boxes = [[0.0, 1.0, 2.0, 3.5], [1.0, 1.0, 2.0, 2.0]][: 1 + k % 2]
            line["objects"] = {"bbox": boxes, "categories": ["a", "b"][: len(boxes)]}
        lines.append(json.dumps(line))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return mapix.open(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_that_were_converted_open_again(tmp_path: Path, kind: str) -> None:
    source = digits(tmp_path)
    path = tmp_path / f"x.{kind}"
    mapix.convert(source, path)
    ds = mapix.open(path)
    assert kind == ds.FAMILY
    assert len(ds) == 20
    assert np.array_equal(ds.batch(np.arange(20)).images.reshape(20, 6, 5), source.view())
    assert np.array_equal(ds[7].image, source[7])
    assert ds[7]["shape"] == [6, 5]
    name = ds._label_names()[0]
    assert ds.batch([3, 9]).labels.tolist() == [[3], [2]]
    assert ds.where(f"{name} == 2").rows.tolist() == [2, 9, 16]
    assert pickle.loads(pickle.dumps(ds[5:]))[0].image.tolist() == source[5].tolist()
    assert ds.verify().ok
    facts = ds.describe()
    assert json.loads(json.dumps(facts)) == facts
    ds.close()
    with pytest.raises(mapix.ClosedError):
        _ = ds[3].image
    mapix.convert(mapix.open(path), tmp_path / "back.npy", lossy=True)
    assert np.array_equal(np.load(tmp_path / "back.npy").reshape(20, 6, 5), source.view())


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_with_captions_and_boxes(tmp_path: Path, kind: str) -> None:
    source = pictures(tmp_path / "f")
    path = tmp_path / f"x.{kind}"
    mapix.convert(source, path, encoding="png")
    ds = mapix.open(path)
    assert ds[1].image.tolist() == source[1].image.tolist()
    assert ds[1]["caption"] == "number 1"
    assert ds[1]["objects"]["bbox"] == [[0, 1, 2, 3.5], [1, 1, 2, 2]]
    assert ds[3]["objects"] is None
    assert ds[1]["more"] == 1
    assert "facts" not in ds[1]  # all are columns
    assert ds.classes == {"category": ["cat", "dog"]}
    assert ds.columns["category"].values.tolist() == [0, 1, 0, 1, 0, 1]
    batch = ds.batch([0, 1], size=(8, 8), fit="resize", labels="class")
    assert batch.images.shape == (2, 8, 8, 3)
    assert batch.labels.tolist() == [[0], [1]]
    shown = ds._annotations(1)
    assert shown == source._annotations(1)


def test_hugging_face_sees_pictures_classes_captions_and_boxes(
    tmp_path: Path,
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    source = pictures(tmp_path / "f")
    mapix.convert(source, tmp_path / "x.parquet", encoding="png")
    found = datasets.Dataset.from_parquet(
        str(tmp_path / "x.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(found.features["image"], datasets.Image)
    assert found.features["category"] == datasets.ClassLabel(names=["cat", "dog"])
    assert found.features["caption"] == datasets.Value("string")
    assert found[1]["image"].size == (10, 7)
    assert np.array_equal(np.asarray(found[1]["image"]), source[1].image)
    assert found.features["category"].int2str(found[1]["category"]) == "dog"
    assert found[1]["caption"] == "number 1"
    assert found[1]["objects"] == {
        "bbox": [[0, 1, 2, 3.5], [1, 1, 2, 2]],
        "categories": ["a", "b"],
    }


def test_files_that_mapix_did_not_write(tmp_path: Path) -> None:
    table = pa.table(
        {
            "a": pa.array([1, None, 3], pa.int32()),
            "b": ["x", "y", None],
            "c": pa.array([[1, 2], [], None], pa.list_(pa.float32())),
            "when": pa.array([1, 2, 3], pa.timestamp("s")),
            "d": pa.array(["u", "v", "u"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as out:
        out.write_table(table, max_chunksize=2)
    for kind in KINDS:
        ds = mapix.open(tmp_path / f"x.{kind}")
        assert list(ds.columns) == ["a", "b", "c", "d"]
        assert ds.columns["a"].filled().tolist()[::2] == [1, 3]
        assert ds.columns["a"].present.tolist() == [True, False, True]
        assert ds.columns["c"].values.tolist()[0] == (1, 2)
        assert [dict(r) for r in ds] == table.to_pylist()
        assert ds[-1]["b"] is None
        assert ds.where("d == 'u'").rows.tolist() == [0, 2]
        with pytest.raises(mapix.UnsupportedError):
            ds.batch([0])
        assert ds[0].image is None
        assert ds.verify().ok


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    source = digits(tmp_path, 4)
    path = tmp_path / f"x.{kind}"
    mapix.convert(source, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for k in range(120):
        bad = bytearray(whole)
        if k % 3:
            for _ in range(1 + k % 4):
                bad[int(rng.integers(4, len(bad)))] = int(rng.integers(256))
        else:
            del bad[int(rng.integers(8, len(bad))) :]
        path.write_bytes(bad)
        try:
            ds = mapix.open(path)
            for record in ds:
                _ = record.image, dict(record)
            ds.verify()
        except (mapix.MapixError, OSError) as e:
            assert path.name in str(e)  # noqa: PT017  # damages of numbers change nothing else
    path.write_bytes(whole)
    if kind == "parquet":
        with pytest.raises(mapix.LimitError, match="max_group_nbytes"):
            _ = mapix.open(path, max_group_nbytes=10)[0].image


def test_a_shape_that_lies(tmp_path: Path) -> None:
    about = {b"mapix": json.dumps({"dtype": "uint8", "axes": "HW"}).encode()}
    columns = {"image": [b"abcd", b"abcd"], "shape": [[2, 2], [1 << 40, 1 << 40]]}
    table = pa.table(columns).replace_schema_metadata(about)
    parquet.write_table(table, tmp_path / "x.parquet")
    ds = mapix.open(tmp_path / "x.parquet")
    assert ds[0].image.tolist() == [[97, 98], [99, 100]]
    with pytest.raises(mapix.FormatError, match="record 1"):
        _ = ds[1].image
    assert ds.verify().damaged == [1]


def test_captions_and_boxes_that_differ_stay_facts(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    lines: list[list[dict[str, Any]]] = [
        [{"caption": "a"}, {"caption": 5}],
        [{"objects": {"bbox": [[1, 2, 3, 4]], "categories": [7]}}, {"objects": {"bbox": []}}],
        [{"objects": {"bbox": []}}],
        [{"objects": {"bbox": [[1, 2, 3, 4]], "categories": [7]}}, {}],
        [
            {"objects": {"bbox": [], "categories": []}},
            {"objects": {"bbox": [[1, 2, 3, 4]], "categories": ["x"]}},
        ],
    ]
    for k, some in enumerate(lines):
        folder = tmp_path / str(k)
        folder.mkdir()
        for n, line in enumerate(some):
            image.new("L", (4, 4)).save(folder / f"{n}.png")
            line["file_name"] = f"{n}.png"
        text = "\n".join(map(json.dumps, some))
        (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
        mapix.convert(folder, tmp_path / f"{k}.parquet", encoding="png")
        for row, line in zip(mapix.open(tmp_path / f"{k}.parquet"), some, strict=True):
            own = {name: row[name] for name in ("caption", "objects") if row.get(name) is not None}
            rest = json.loads(row["facts"]) if "facts" in row else {}
            assert {**rest, **own, "file_name": row["file_name"]} == line
            assert bool(own) == (k > 2 and "objects" in line)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_numbers_of_lines_are_columns(tmp_path: Path, kind: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    lines = [
        {"text": "a", "score": 1, "good": True, "many": 3, "odd": 1, "place": [1, 2]},
        {"text": None, "score": 2.5, "good": False, "many": 1 << 60, "odd": "x"},
    ]
    for k, line in enumerate(lines):
        (tmp_path / "f" / "ab"[k]).mkdir(parents=True)
        name = f"{'ab'[k]}/{k}.png"
        image.new("L", (4, 4)).save(tmp_path / "f" / name)
        line["file_name"] = name
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "f" / "metadata.jsonl").write_text(text, encoding="utf-8")
    mapix.convert(tmp_path / "f", tmp_path / f"x.{kind}")
    first, second = mapix.open(tmp_path / f"x.{kind}")
    assert [first[name] for name in ("text", "score", "good")] == ["a", 1, True]
    assert [second[name] for name in ("text", "score", "good")] == [None, 2.5, False]
    assert json.loads(first["facts"]) == {"many": 3, "odd": 1, "place": [1, 2]}
    assert json.loads(second["facts"]) == {"text": None, "many": 1 << 60, "odd": "x"}


@pytest.mark.parametrize("kind", KINDS)
def test_classes_of_sub_folders_are_a_label(tmp_path: Path, kind: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for name in ("b/0.png", "a/1.png", "b/2.png"):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        image.new("L", (4, 4)).save(tmp_path / "f" / name)
    mapix.convert(tmp_path / "f", tmp_path / f"x.{kind}")
    ds = mapix.open(tmp_path / f"x.{kind}")
    assert list(ds._label_names()) == ["label"]
    assert ds.classes == {"label": ["a", "b"]}
    assert ds.columns["label"].values.tolist() == [0, 1, 1]
    assert ds.columns["class_name"].values.tolist() == ["a", "b", "b"]
    mapix.convert(ds, tmp_path / "x.tar")
    assert mapix.open(tmp_path / "x.tar").columns["cls"].values.tolist() == [0, 1, 1]


def written(path, table, new, rows=3):
    with pa.OSFile(str(path), "wb") as out, new(out, table.schema) as w:
        w.write_table(table, max_chunksize=rows)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["x.arrow", "x.arrows", "without_a_name"])
def test_streams(tmp_path, name):
    picture = {"bytes": b"no picture", "path": "a"}
    values = {
        "label": list(range(10)),
        "text": [f"é{k}" * k for k in range(10)],
        "image": [picture] * 10,
    }
    whole = written(tmp_path / name, pa.table(values), pa.ipc.new_stream)
    with mapix.open(tmp_path / name) as ds:
        assert (ds.FAMILY, len(ds), ds.file.ends.tolist()) == ("arrow", 10, [3, 6, 9, 10])
        assert [row["label"] for row in ds] == list(range(10))
        assert ds.columns["text"].values.tolist() == values["text"]
        assert ds[7].encoded().data == b"no picture"
    for cut in range(8, len(whole) - 8):
        (tmp_path / name).write_bytes(whole[:cut])
        try:
            with mapix.open(tmp_path / name) as ds:
                assert [row["label"] for row in ds] == list(range(len(ds)))
                assert len(ds) in (0, 3, 6, 9, 10)  # cut between two messages
        except mapix.MapixError as e:
            assert name in str(e)  # noqa: PT017  # some are cut between two messages
    (tmp_path / name).write_bytes(whole[:-8])  # without the mark of the end
    assert len(mapix.open(tmp_path / name)) == 10


def test_damaged_metadata_of_streams(tmp_path):
    whole = written(tmp_path / "x.arrows", pa.table({"label": list(range(10))}), pa.ipc.new_stream)
    for at in range(len(whole)):
        for value in (0, 0x80, 0xFF):
            (tmp_path / "x.arrows").write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                with mapix.open(tmp_path / "x.arrows") as ds:
                    for row in ds:
                        dict(row)
            except mapix.MapixError as e:
                assert "x.arrows" in str(e)  # noqa: PT017  # some damages change nothing


def test_more_rows_than_a_file_can_hold_are_refused(tmp_path):
    table = pa.table({"label": list(range(77))})
    whole = written(tmp_path / "x.arrows", table, pa.ipc.new_stream, 77)
    stated = (77).to_bytes(8, "little")  # by the batch, and again by its column
    at = whole.index(stated)
    forged = whole[:at] + (1 << 60).to_bytes(8, "little") + whole[at + 8 :]
    (tmp_path / "x.arrows").write_bytes(forged)
    with pytest.raises(mapix.LimitError, match=r"x\.arrows.*1152921504606846976 rows in"):
        mapix.open(tmp_path / "x.arrows")


def test_streams_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"label": [3, 1, 2]}).save_to_disk(str(tmp_path / "saved"))
    (path,) = (tmp_path / "saved").glob("*.arrow")
    assert mapix.open(path).columns["label"].values.tolist() == [3, 1, 2]


def test_a_stream_with_dictionaries_is_refused(tmp_path):
    table = pa.table({"kind": pa.array(["a", "b"]).dictionary_encode()})
    written(tmp_path / "x.arrows", table, pa.ipc.new_stream)
    with pytest.raises(mapix.UnsupportedError, match=r"dictionaries.*new_file"):
        mapix.open(tmp_path / "x.arrows")
    written(tmp_path / "x.arrow", table, pa.ipc.new_file)
    assert mapix.open(tmp_path / "x.arrow").columns["kind"].values.tolist() == ["a", "b"]


def test_opening_reads_no_batch(tmp_path, monkeypatch):
    table = pa.table({"label": pa.array(range(100_000), pa.int64())})
    for name, new in (("x.arrow", pa.ipc.new_file), ("x.arrows", pa.ipc.new_stream)):
        whole = written(tmp_path / name, table, new, 10_000)
        read: list[int] = []

        def counted(self, at, nbytes, read=read, real=Source.read):
            read.append(nbytes)
            return real(self, at, nbytes)

        monkeypatch.setattr(Source, "read", counted)
        with mapix.open(tmp_path / name) as ds:
            assert sum(read) < 20_000 < len(whole) / 4
            assert len(ds) == 100_000
            assert ds[54_321]["label"] == 54_321
        monkeypatch.undo()


def test_a_row_is_parsed_once_by_verify(tmp_path, monkeypatch):
    mapix.convert(digits(tmp_path), tmp_path / "x.parquet")
    parsed = []
    with mapix.open(tmp_path / "x.parquet") as ds:
        real = ds.file.row
        monkeypatch.setattr(ds.file, "row", lambda row: parsed.append(row) or real(row))
        assert ds.verify().ok
    assert parsed == list(range(20))


def test_bytes_that_only_begin_like_a_stream(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff" * 600)
    with pytest.raises(mapix.UnknownFormatError, match="no message with a schema"):
        mapix.open(tmp_path / "x")


def test_pictures_that_are_only_paths(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": None, "path": "a/b.png"}], kind)})
    parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(mapix.FormatError, match=r"record 0: .*only its path is: a/b\.png; "):
        _ = mapix.open(tmp_path / "x.parquet")[0].image


def test_several_folders_of_classes_are_joined(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for name in ("x/a/0", "x/b/1", "y/b/2", "y/c/3"):
        (tmp_path / name).parent.mkdir(parents=True)
        image.new("L", (4, 4)).save(tmp_path / f"{name}.png")
    both = mapix.open([tmp_path / "x", tmp_path / "y"])
    mapix.convert(both, tmp_path / "z.parquet")
    found = mapix.open(tmp_path / "z.parquet").columns["class_name"].values.tolist()
    assert found == ["a", "b", "b", "c"]
