from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.testing import FormatTests
from slow_vimh import Slow, pack, record, tiles

VIMH = GOLDEN / "vimh"
MANIFEST = json.loads((VIMH / "manifest.json").read_text())
BINARIES = [
    (name, split, what["binary"])
    for name, d in MANIFEST["datasets"].items()
    for split, what in d["splits"].items()
    if "binary" in what
]


def sha(a: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


# --- conformance ----------------------------------------------------------------------------------


class _Vimh(FormatTests):
    records: list[Slow]

    def sample(self, folder: Path) -> Path:
        path = folder / "data.vimh"
        path.write_bytes(pack(self.records))
        return path

    def read_slowly(self, data):
        # Exactly one dialect has to tile the file; of an empty one nothing says that it is VIMH.
        if not data:
            return None
        readings = [r for r in (tiles(data, 14), tiles(data, 6)) if r is not None]
        return [(r.hwc().tolist(), r.pairs) for r in readings[0]] if len(readings) == 1 else None

    def content(self, dataset):
        return [
            (
                r.image.tolist(),
                list(zip(r.label_ids.tolist(), r.label_bytes.tolist(), strict=True)),
            )
            for r in dataset
        ]

    def arrays(self, dataset, rec):
        return [rec.image, rec.label_bytes, rec.label_ids]


class TestMixed(_Vimh):
    records = [
        record(2, 3, 2, [(0, 10), (1, 20)], seed=1),
        record(4, 2, 1, [(1, 7)], seed=2),
        record(1, 1, 3, [], seed=3),
        record(3, 3, 1, [(5, 1), (5, 2), (200, 255)], seed=4),
    ]


class TestUniform(_Vimh):
    records = [record(3, 2, 2, [(0, i), (1, 255 - i)], seed=i) for i in range(6)]

    def arrays(self, dataset, rec):
        whole = [dataset.images, dataset.label_bytes, dataset.label_ids]
        return [*super().arrays(dataset, rec), *whole]


class TestSixByteHeader(_Vimh):
    records = [record(2, 3, 2, [(0, i)], head=6, seed=i) for i in range(5)]


class TestLarger(_Vimh):
    """More records than a group of the run holds, and a change in the middle."""

    records = [record(1, 2, 1, [(0, i)], seed=i) for i in range(17)] + [record(2, 2, 1, [])]


# --- golden files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split", "want"), BINARIES, ids=[f"{n}-{s}" for n, s, _ in BINARIES]
)
def test_golden(name, split, want):
    ds = mapix.open(VIMH / name, split=split)
    assert hashlib.sha256(Path(ds.path).read_bytes()).hexdigest() == want["sha256"]
    assert len(ds) == want["n_samples"]
    assert ds.header_nbytes == want["header_bytes"]
    planar = ds.images.transpose(0, 3, 1, 2)
    assert list(planar.shape) == want["images_shape"]
    assert sha(planar) == want["images_sha256"]
    names = ds.info["parameter_names"]
    for rec, sample in zip(ds, want["samples"], strict=False):  # it lists the first few
        assert rec.offset == sample["offset"]
        assert rec.nbytes == sample["nbytes"]
        assert list(rec.image.shape) == sample["hwc"]
        assert sha(rec.image.transpose(2, 0, 1)) == sample["image_sha256"]
        spec = [None if np.isnan(x) else str(x) if np.isinf(x) else x for x in rec.spec_range]
        assert spec == sample["spec"]
        pairs = np.stack([rec.label_ids, rec.label_bytes], axis=1)
        if isinstance(sample["labels"], dict):
            assert len(pairs) == sample["labels"]["n"]
            assert hashlib.sha256(pairs.tobytes()).hexdigest() == sample["labels"]["sha256_pairs"]
        else:
            assert pairs.tolist() == sample["labels"]
            assert rec.labels == {names[i]: v for i, v in sample["labels"]}
    original = want["original_loader"]
    if isinstance(original.get("class_labels_first"), dict):
        assert ds.heads == original["heads_config"]
        batch = ds.batch([0], labels="class")
        assert (
            dict(zip(batch.names, batch.labels[0].tolist(), strict=True))
            == (original["class_labels_first"])
        )


def hand(name: str, **options):
    return mapix.open(VIMH / "hand" / name, **options)


def test_golden_variable_size():
    ds = hand("variable_size")
    assert not ds.uniform
    assert ds.header_nbytes == 14
    assert ds.shapes.tolist() == [[2, 3, 2], [4, 5, 1]]
    assert ds.offsets.tolist() == [0, 29]
    assert [r.labels for r in ds] == [{"a": 10}, {"a": 20}]
    assert ds[1].image[:, :, 0].tolist() == np.arange(100, 120).reshape(4, 5).tolist()
    assert ds[0].image[1, 2].tolist() == [5, 11]  # planes of 6: pixel (1, 2) is bytes 5 and 11


def test_golden_six_byte_header():
    ds = hand("doc_6byte_header")
    assert ds.header_nbytes == 6
    assert [r.labels for r in ds] == [{"a": 10, "b": 128}, {"a": 255, "b": 0}]
    assert ds[0].spec_range is None
    assert ds[0].values == pytest.approx({"a": 10 / 255, "b": 128 / 255})


def test_golden_unknown_id():
    ds = hand("unknown_id")
    assert ds[0].labels == {"param_7": 10}
    assert ds[0].values == {"param_7": 10.0}
    assert ds.unknown_ids == (7,)
    batch = ds.batch([0])
    assert batch.names == ("a", "b", "param_7")
    assert batch.labels.tolist() == [[0, 0, 10]]
    assert batch.present.tolist() == [[False, False, True]]


def test_golden_truncated_tail():
    with pytest.raises(mapix.TruncatedError) as e:
        hand("truncated_tail")
    assert (e.value.record, e.value.at) == (1, 29)
    for text in ("train", "record 1 at byte 29", "29 bytes", "26 left", "1 complete record"):
        assert text in str(e.value)
    with pytest.warns(mapix.MapixWarning, match="1 complete records; the last 26 bytes"):
        ds = hand("truncated_tail", strict=False)
    assert [r.labels for r in ds] == [{"a": 10}]
    assert ds.uniform


def test_golden_empty_train():
    ds = mapix.open(VIMH / "single_sample_train_empty")
    assert len(ds) == 0
    assert ds.images.shape == (0, 4, 4, 1)
    assert ds.batch([]).images.shape[0] == 0
    assert list(ds) == []
    with pytest.raises(IndexError):
        ds[0]


def test_no_golden_info_changes_by_opening(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(VIMH / "rgb_32x32x3_doc_example", folder)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    for split in ("train", "test"):
        mapix.open(folder, split=split).batch([0], labels="class")
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


# --- directories ----------------------------------------------------------------------------------


def test_splits_are_both_reachable():
    ds = mapix.open(VIMH / "mnist_28x28x1_1p")
    assert list(ds.splits) == ["train", "test"]
    assert {s: len(mapix.open(p)) for s, p in ds.splits.items()} == {"train": 9, "test": 3}
    assert len(mapix.open(VIMH / "mnist_28x28x1_1p" / "test")) == 3
    with pytest.raises(FileNotFoundError, match="no split 'valid'; there: train, test"):
        mapix.open(VIMH / "mnist_28x28x1_1p", split="valid")
    with pytest.raises(ValueError, match="is a file"):
        mapix.open(VIMH / "mnist_28x28x1_1p" / "test", split="train")


def test_a_dataset_of_pickles_alone():
    ds = mapix.open(VIMH / "generator_custom_32x32x3")
    assert os.path.basename(ds.path) == "train_batch"
    assert set(ds.splits) == {"train", "test"}


def test_a_directory_of_something_else(tmp_path):
    with pytest.raises(mapix.UnknownFormatError, match="vimh: a directory without"):
        mapix.open(tmp_path)


def test_format_can_be_named(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(pack([record(1, 1, 1, [])]))
    assert len(mapix.open(path, format="vimh")) == 1
    with pytest.raises(ValueError, match="unknown format 'gif'; known: .*vimh"):
        mapix.open(path, format="gif")


# --- dialects -------------------------------------------------------------------------------------


def ambiguous() -> bytes:
    """One record that both dialects tile: N of the short reading is the low byte of spec_min."""
    spec_min = np.frombuffer(np.array([4 + 1, 0, 0, 0xC2], np.uint8).tobytes(), "<f4")[0]
    r = Slow(2, 2, 1, [(0, 9)], bytes(range(4)), (float(spec_min), 0.0))
    data = r.pack()
    assert tiles(data, 6) is not None
    assert tiles(data, 14) is not None
    return data


def test_ambiguity_shows_both_readings(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(ambiguous())
    with pytest.raises(mapix.FormatError, match="both dialects fit") as e:
        mapix.open(path)
    assert "as 14-byte headers: 1 complete record in" in str(e.value)
    assert "as 6-byte headers: 1 complete record in" in str(e.value)
    assert mapix.open(path, dialect=14)[0].label_ids.tolist() == [0]
    assert len(mapix.open(path, dialect=6)[0].label_ids) == 5


def test_the_info_json_breaks_a_tie_and_nothing_else(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(ambiguous())
    info = {"parameter_names": ["a"], "label_encoding": {"metadata_bytes": 6}, "version": "1.0"}
    # Under the 6-byte reading ids above 0 occur, which the JSON does not name.
    assert mapix.open(path, info=info).header_nbytes == 14
    # metadata_bytes lies in real datasets: it decides nothing.
    six = pack([record(2, 3, 1, [(0, 1)], head=6, seed=s) for s in range(3)])
    path.write_bytes(six)
    info["label_encoding"]["metadata_bytes"] = 14
    assert mapix.open(path, info=info).header_nbytes == 6


def test_no_dialect_fits(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(mapix.FormatError, match="no dialect fits") as e:
        mapix.open(path)
    assert "as 14-byte headers" in str(e.value)
    assert "as 6-byte headers" in str(e.value)


def test_a_forced_dialect_that_does_not_fit(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(pack([record(2, 3, 1, [(0, 1)], seed=s) for s in range(3)]))
    with pytest.raises(mapix.FormatError, match="vimh record"):
        mapix.open(path, dialect=6)
    with pytest.raises(ValueError, match="dialect must be 14 or 6"):
        mapix.open(path, dialect=3)


def test_order_for_foreign_files(tmp_path):
    path = tmp_path / "train"
    r = record(2, 3, 2, [(0, 1)])
    path.write_bytes(pack([r, r]))
    foreign = mapix.open(path, order="HWC")
    expected = np.frombuffer(r.image, np.uint8).reshape(2, 3, 2)
    np.testing.assert_array_equal(foreign[0].image, expected)
    np.testing.assert_array_equal(foreign.images[1], expected)
    np.testing.assert_array_equal(foreign.batch([0]).images[0], expected)
    with pytest.raises(ValueError, match="order must be"):
        mapix.open(path, order="WHC")


# --- hostile headers ------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [6, 14])
def test_huge_dimensions_cost_nothing(tmp_path, head):
    path = tmp_path / "huge"
    data = b"\xff" * 6 + bytes(head - 6) + b"\0" + bytes(100)
    path.write_bytes(data)
    with pytest.raises(mapix.FormatError, match="complete record|no dialect") as e:
        mapix.open(path, dialect=head)
    assert str(65535**3 + head + 1) in str(e.value)


@pytest.mark.maps
def test_a_sparse_terabyte_is_refused_at_once(tmp_path):
    path = tmp_path / "sparse"
    path.write_bytes(pack([record(2, 2, 1, [(0, 1)])]))
    os.truncate(path, 1 << 40)
    with pytest.raises(mapix.FormatError, match="has no pixels"):
        mapix.open(path, dialect=14)
    with pytest.raises(mapix.FormatError):
        mapix.open(path)


@pytest.mark.parametrize("dims", [(0, 2, 1), (2, 0, 1), (2, 2, 0), (0, 65535, 65535)])
def test_zero_sized_records_are_refused(tmp_path, dims):
    path = tmp_path / "zero"
    bad = Slow(*dims, [], b"", (0.0, 1.0))
    path.write_bytes(pack([record(2, 2, 1, []), bad]))
    with pytest.raises(mapix.SizeError, match="has no pixels; 1 complete record") as e:
        mapix.open(path, dialect=14)
    assert (e.value.record, e.value.at) == (1, 19)


def test_garbage_behind_good_records_opens_only_when_told(tmp_path):
    path = tmp_path / "tail"
    path.write_bytes(pack([record(2, 2, 1, [(0, i)], seed=i) for i in range(20)]) + b"\x01\x00\x01")
    with pytest.raises(mapix.TruncatedError, match="20 complete records before it"):
        mapix.open(path)
    with pytest.warns(mapix.MapixWarning, match="the last 3 bytes"):
        ds = mapix.open(path, strict=False)
    assert len(ds) == 20
    assert ds.uniform
    assert ds.images.shape == (20, 2, 2, 1)


# --- the info JSON --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1]", "expected an object"),
        ('{"a": 1, "a": 2}', "appears twice"),
        ('{"a": NaN}', "not a JSON number"),
        ('{"parameter_names": {}}', "must be a list"),
        ('{"parameter_mappings": {"a": 1}}', "must be an object"),
        ('{"parameter_names": ["a", "a"]}', "different names"),
        ('{"parameter_names": ["a"], "parameter_mappings": {"a": {"min": "x"}}}', "float"),
        ('{"parameter_names": ["a"], "parameter_mappings": {"a": {"max": 1e999}}}', "finite"),
        ("{" * 100000, "Expecting|recursion"),
        ("\xff", "Expecting|decode"),
    ],
)
def test_bad_info_json(tmp_path, text, complaint):
    (tmp_path / "train").write_bytes(pack([record(1, 1, 1, [])]))
    (tmp_path / "vimh_dataset_info.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(mapix.FormatError, match=complaint) as e:
        mapix.open(tmp_path)
    assert "info JSON" in str(e.value)
    assert len(mapix.open(tmp_path, info=False)) == 1


def test_an_endless_info_json_is_refused(tmp_path):
    (tmp_path / "train").write_bytes(pack([record(1, 1, 1, [])]))
    with open(tmp_path / "vimh_dataset_info.json", "wb") as f:
        f.truncate(17 << 20)
    with pytest.raises(mapix.LimitError, match="limit of 16777216"):
        mapix.open(tmp_path)


def test_disagreement_warns_and_the_file_is_believed(tmp_path):
    (tmp_path / "train").write_bytes(pack([record(2, 3, 1, [], seed=i) for i in range(3)]))
    info = {"format": "CIFAR", "train_samples": 5, "height": 9, "width": 3, "channels": 1}
    (tmp_path / "vimh_dataset_info.json").write_text(json.dumps(info))
    with pytest.warns(mapix.MapixWarning) as caught:
        ds = mapix.open(tmp_path)
    (warning,) = caught
    for text in ("'CIFAR'", "5 samples", "holds 3", "(9, 3, 1)", "(2, 3, 1)"):
        assert text in str(warning.message)
    assert warning.filename == __file__, "the warning should point at the caller"
    assert len(ds) == 3


def test_info_from_elsewhere(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(pack([record(1, 1, 1, [(0, 255)])]))
    info = {"parameter_names": ["a"], "parameter_mappings": {"a": {"min": 1, "max": 3, "step": 1}}}
    assert mapix.open(path, info=info)[0].values == {"a": 3.0}
    elsewhere = tmp_path / "other.json"
    elsewhere.write_text(json.dumps(info))
    assert mapix.open(path, info=elsewhere).heads == {"a": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mapix.open(path)[0].labels == {"param_0": 255}


def test_an_empty_file_is_vimh_only_where_something_says_so(tmp_path):
    for name in ("empty.bin", "x.data", "my_train"):
        (tmp_path / name).touch()
        with pytest.raises(mapix.UnknownFormatError, match="an empty file, and no name"):
            mapix.open(tmp_path / name)
        assert len(mapix.open(tmp_path / name, format="vimh")) == 0
    for name in ("train", "test", "train-00000-of-00002"):
        (tmp_path / name).touch()
        assert len(mapix.open(tmp_path / name)) == 0
    (tmp_path / "vimh_dataset_info.json").write_text("{}")
    assert len(mapix.open(tmp_path / "empty.bin")) == 0
