"""Conversion of a dataset that mapix knows by the contract alone: a third party's."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
import mapix.conversion.stream
from mapix import Dataset, LossError, UnsupportedError
from mapix.assembly import assembled
from mapix.columns import Column
from mapix.report import Report


class Toy(Dataset[np.ndarray]):
    """Images in memory, with columns."""

    FAMILY = "toy of another package"

    def __init__(
        self, images: list[Any], labels: Any = (), rows: Any = None, **columns: Any
    ) -> None:
        self.images, self.names, self.values, self._rows = images, tuple(labels), columns, rows

    path = "toy"
    closed = False

    def close(self) -> None: ...

    def _count(self) -> int:
        return len(self.images)

    def _record(self, row: int) -> np.ndarray:
        return self.images[row]

    def _part(self, rows: Any) -> Toy:
        return Toy(self.images, self.names, rows, **self.values)

    def _reopening(self) -> Any:
        raise NotImplementedError

    def _gather(self, rows: Any, options: Any, out: Any) -> Any:
        return assembled(self.path, [self.images[row] for row in rows], options, out)

    def verify(self, progress: Any = None) -> Report:
        return Report(self.path)

    def _column_names(self) -> Any:
        return tuple(self.values)

    def _label_names(self) -> Any:
        return self.names

    def _column(self, name: str) -> Column:
        values = [self.values[name][row] for row in self.rows]
        present = np.array([v is not None for v in values])
        kinds = {type(v) for v in values if v is not None}
        if kinds <= {int, float} and kinds:
            made: Any = np.array([0 if v is None else v for v in values])
        else:
            made = np.empty(len(values), object)
            made[:] = values
        return Column(name, made, present)


@pytest.fixture(autouse=True, params=[1 << 20, 50], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(mapix.conversion.stream, "BLOCK_NBYTES", request.param)


def images(*shapes: tuple[int, ...], dtype: Any = np.uint8) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 200, shape).astype(dtype) for shape in shapes]


MIXED = images((4, 5), (4, 5), (3, 2, 3), (6, 5, 1), (4, 5))
COLUMNS: dict[str, Any] = {
    "kind": ["b", "a", None, "b", "c"],
    "count": [3, None, 0, 1, 3],
    "score": [0.5, 1.5, None, -2.0, 0.0],
    "place": [(1, 2), None, (3, 4), (5, 6), ()],
    "raw": [b"\xff\0", b"", b"a", b"b", b"c"],
    "file_name": ["x/0.png", "1.jpg", "2", "3.png", "4.png"],
}


def toy() -> Toy:
    return Toy(MIXED, ("kind", "count"), **COLUMNS)


def test_npz_has_images_labels_and_facts(tmp_path):
    made = mapix.convert(toy(), tmp_path / "x.npz")
    assert (made.records, made.lost) == ({"train": 5}, ())
    with np.load(tmp_path / "x.npz") as z:
        for k, image in enumerate(MIXED):
            flat = z["images"][z["offsets"][k] : z["offsets"][k + 1]]
            assert tuple(z["shapes"][k]) == (*image.shape, 1)[:3]
            np.testing.assert_array_equal(flat, image.ravel())
        assert z["classes/kind"].tolist() == ["a", "b", "c"]
        assert z["label/kind"][[0, 1, 3, 4]].tolist() == [1, 0, 1, 2]
        assert z["present/kind"].tolist() == [True, True, False, True, True]
        assert z["label/count"][[0, 2, 3, 4]].tolist() == [3, 0, 1, 3]
        assert z["present/count"].tolist() == [True, False, True, True, True]
        lines = [json.loads(line) for line in bytes(z["records.jsonl"]).splitlines()]
    assert lines == [
        {"file_name": "x/0.png", "score": 0.5, "place": [1, 2], "raw": "ff00"},
        {"file_name": "1.jpg", "score": 1.5, "raw": ""},
        {"file_name": "2", "place": [3, 4], "raw": "61"},
        {"file_name": "3.png", "score": -2.0, "place": [5, 6], "raw": "62"},
        {"file_name": "4.png", "score": 0.0, "place": [], "raw": "63"},
    ]


def test_targets_without_a_place_report_what_they_lose(tmp_path):
    with pytest.raises(LossError) as caught:
        mapix.convert(toy(), tmp_path / "v", to="vimh")
    assert caught.value.lost == ("file names", "columns: score, place, raw")
    assert not (tmp_path / "v").exists()
    mapix.convert(toy(), tmp_path / "v", to="vimh", lossy=True)
    ds = mapix.open(tmp_path / "v")
    assert ds.parameters["kind"].description == "a, b, c"
    for record, image in zip(ds, MIXED, strict=True):
        np.testing.assert_array_equal(record.image.reshape(image.shape), image)
    assert ds.columns["kind"].present.tolist() == [True, True, False, True, True]
    classes = ds.labels["count"].classes
    assert [None if c is np.ma.masked else int(c) for c in classes] == [3, None, 0, 1, 3]
    part = toy()[[4, 0]]
    mapix.convert(part, tmp_path / "p", to="vimh", lossy=True)
    assert [r.image.shape for r in mapix.open(tmp_path / "p")] == [(4, 5, 1)] * 2
    assert mapix.open(tmp_path / "p").labels["kind"].classes.tolist() == [1, 0]


def test_an_image_folder_of_any_dataset(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow")
    mapix.convert(toy(), tmp_path / "f", to="folder")
    for k, record in enumerate(mapix.open(tmp_path / "f")):
        name = COLUMNS["file_name"][k]
        assert record.file_name == (name if name.endswith(".png") else f"{name}.png")
        np.testing.assert_array_equal(record.image.reshape(MIXED[k].shape), MIXED[k])
        assert record.metadata.get("score") == COLUMNS["score"][k]
        assert record.metadata.get("count") == COLUMNS["count"][k]


def test_uniform_images_of_any_type(tmp_path):
    for dtype, last in (("float32", 2), ("int16", 3), ("uint8", 1)):
        some = images(*[(4, 5, last)] * 7, dtype=dtype)
        mapix.convert(Toy(some), tmp_path / f"{dtype}.npy")
        found = np.load(tmp_path / f"{dtype}.npy")
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, some)
    flat = images(*[(6, 5)] * 3)
    mapix.convert(Toy(flat), tmp_path / "x.idx")
    np.testing.assert_array_equal(mapix.open(tmp_path / "x.idx").view(), flat)


def test_several_records_of_one_file_stay_several(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow")
    columns = {"file_name": ["a.png", "a.png"], "mask_file_name": ["m.png", None]}
    ds = Toy(images((2, 3), (2, 3)), **columns)
    with pytest.raises(LossError) as caught:
        mapix.convert(ds, tmp_path / "f", to="folder")
    assert caught.value.lost == ("files that records name: file_name, mask_file_name",)
    mapix.convert(ds, tmp_path / "f", to="folder", lossy=True)
    for record, image in zip(mapix.open(tmp_path / "f"), ds.images, strict=True):
        np.testing.assert_array_equal(record.image[..., 0], image)


def test_what_cannot_be_converted_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="are for image folders"):
        mapix.convert(toy(), tmp_path / "x.npz", images={"size": (2, 2)})
    with pytest.raises(UnsupportedError, match="has several numbers per record"):
        mapix.convert(Toy(images((2, 3)), ("box",)), tmp_path / "x.npz")
    nothing = Toy([None, None])
    with pytest.raises(UnsupportedError, match="have no image to convert"):
        mapix.convert(nothing, tmp_path / "x.npz")
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_not_classes_are_facts(tmp_path):
    ds = Toy(images((2, 3), (2, 3)), ("weight", "word"), weight=[0.5, 1.5], word=["a", "b\0"])
    mapix.convert(ds, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as z:
        lines = [json.loads(line) for line in bytes(z["records.jsonl"]).splitlines()]
        assert not [name for name in z.files if name.startswith("label")]
    assert lines == [{"weight": 0.5, "word": "a"}, {"weight": 1.5, "word": "b\0"}]


def test_arrays_ask_for_their_axes(tmp_path):
    array = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UnsupportedError, match="axes="):
        mapix.convert(tmp_path / "x.npy", tmp_path / "v", to="vimh")
    mapix.convert(tmp_path / "x.npy", tmp_path / "v", to="vimh", axes="HWC")
    np.testing.assert_array_equal(mapix.open(tmp_path / "v").images, array)
    mapix.convert(tmp_path / "v" / "train", tmp_path / "back.npy")
    assert (tmp_path / "back.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()


def test_tar_shards_become_records(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    some = images((4, 5, 3), (4, 5, 3), (4, 5, 3))
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for k, pixels in enumerate(some):
            out = BytesIO()
            image.fromarray(pixels).save(out, "PNG")
            for name, data in ((f"{k:03}.png", out.getvalue()), (f"{k:03}.cls", b"%d" % (k % 2))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, BytesIO(data))
    ds = mapix.open(tmp_path / "x.tar")
    mapix.convert(tmp_path / "x.tar", tmp_path / "v", to="vimh", lossy=True)
    np.testing.assert_array_equal(mapix.open(tmp_path / "v").images, some)
    assert "cls" in ds.columns
    assert mapix.open(tmp_path / "v").labels["cls"].classes.tolist() == [0, 1, 0]


def test_tar_shards_as_tarfile_reads_them(tmp_path):
    from mapix.tar import TarShard

    def members(path: Path) -> dict[str, bytes]:
        with tarfile.open(path) as tar:
            return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}

    with pytest.raises(LossError) as caught:
        mapix.convert(Toy(MIXED, mask_file_name=["m.png"] * 5), tmp_path / "x.tar")
    assert caught.value.lost == ("files that records name: mask_file_name",)
    made = mapix.convert(toy(), tmp_path / "x.tar")  # two labels: both in the JSON
    assert made.lost == ()
    found = members(tmp_path / "x.tar")
    assert list(found)[:3] == ["000000.png", "000000.json", "000001.png"]
    assert json.loads(found["000000.json"]) == {
        "kind": "b",
        "count": 3,
        "score": 0.5,
        "place": [1, 2],
        "raw": "ff00",
        "file_name": "x/0.png",
    }
    assert json.loads(found["000002.json"]) == {
        "count": 0,
        "place": [3, 4],
        "raw": "61",
        "file_name": "2",
    }
    mapix.convert(toy(), tmp_path / "again.tar")
    assert (tmp_path / "x.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
    deep = images((4, 5), (4, 5), (4, 5), dtype="float32")
    mapix.convert(Toy(deep, ("kind",), kind=["b", None, "a"]), tmp_path / "y.tar")
    found = members(tmp_path / "y.tar")
    assert sorted(found) == [
        *("000000.cls", "000000.json", "000000.npy"),
        *("000001.npy", "000002.cls", "000002.json", "000002.npy"),
    ]
    assert (found["000000.cls"], found["000002.cls"]) == (b"1", b"0")
    np.testing.assert_array_equal(np.load(BytesIO(found["000001.npy"])), deep[1])
    ds = mapix.open(tmp_path / "y.tar")
    assert isinstance(ds, TarShard)
    assert ds.verify().ok
    np.testing.assert_array_equal(ds.batch([0, 1, 2], labels=None).images.reshape(3, 4, 5), deep)
    assert ds.columns["kind"].present.tolist() == [True, False, True]


def test_the_command_line_shows_a_dataset_of_another_package(tmp_path: Path) -> None:
    from mapix.__main__ import describe

    lines = describe(toy()).splitlines()
    assert lines[0] == "toy"
    assert "  records   5" in lines
    assert any(line.split() == ["score", "no", "1", "-2", "1.5"] for line in lines)
