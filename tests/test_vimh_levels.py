"""Bytes of spectrograms back to decibels."""

from __future__ import annotations

import numpy as np
import pytest

import mapix
from mapix.errors import UnsupportedError
from mapix.vimh import Parameter, Writer, decibels, spectrogram_bytes

RANGES = [(-80.0, 0.0), (-63.25, 12.5), (3.0, 3.0)]


@pytest.fixture
def folder(tmp_path):
    with Writer(tmp_path / "made", [Parameter("note", 0)]) as out:
        for k, spec in enumerate(RANGES):
            image = np.random.default_rng(k).integers(0, 256, (3, 5, 2), np.uint8)
            out.append(image, {"note": k}, spec_range=spec)
    return tmp_path / "made"


def exact(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """What the format states, one number after the other, rounded once to float32."""
    flat = [np.float32(low + code / 255 * (high - low)) for code in image.ravel().tolist()]
    return np.array(flat, np.float32).reshape(image.shape)


def test_a_record_in_decibels(folder):
    for record, (low, high) in zip(mapix.open(folder), RANGES, strict=True):
        found = record.decibels
        assert found.dtype == np.float32
        assert found.shape == (3, 5, 2)
        np.testing.assert_array_equal(found, exact(record.image, low, high))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_batch_in_decibels(folder, layout):
    ds = mapix.open(folder)
    batch = ds.batch([2, 0, 1], layout=layout, spec_range=True)
    found = decibels(batch.images, batch.spec_range)
    for image, row in zip(found, [2, 0, 1], strict=True):
        planes = image.transpose(1, 2, 0) if layout == "NCHW" else image
        np.testing.assert_array_equal(planes, ds[row].decibels)


def test_decibels_come_back_within_half_a_step(tmp_path):
    db = np.random.default_rng(0).uniform(-93.7, 4.1, (16, 20)).astype(np.float32)
    image, (low, high) = spectrogram_bytes(db)
    with Writer(tmp_path / "made") as out:
        out.append(image, spec_range=(low, high))
    found = mapix.open(tmp_path / "made")[0].decibels[:, :, 0]
    assert np.abs(found - db).max() <= (high - low) / 255 / 2 * (1 + 1e-5)
    assert (found.min(), found.max()) == (db.min(), db.max())


def test_without_a_range_there_are_no_decibels(tmp_path):
    with Writer(tmp_path / "six", dialect=6) as out:
        out.append(np.zeros((2, 2), np.uint8))
    ds = mapix.open(tmp_path / "six", dialect=6)
    with pytest.raises(UnsupportedError, match=r"six/train: record 0 has no decibels.*spec_min"):
        _ = ds[0].decibels
    batch = ds.batch([0], spec_range=True)
    with pytest.raises(UnsupportedError, match="not numbers"):
        decibels(batch.images, batch.spec_range)
    with Writer(tmp_path / "nan") as out:
        out.append(np.zeros((2, 2), np.uint8), spec_range=(np.nan, np.inf))
    with pytest.raises(UnsupportedError, match="nan/train: record 0: no decibels"):
        _ = mapix.open(tmp_path / "nan")[0].decibels


def test_arguments_of_decibels_are_checked():
    with pytest.raises(TypeError, match="float32.*dtype='uint8'"):
        decibels(np.zeros((2, 2), np.float32), (0, 1))
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        decibels(np.zeros((2, 4, 4), np.uint8), np.zeros((3, 2)))


# --- splits of other names ------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    splits = ("train", "validation", "test")
    with Writer(tmp_path / "three", [Parameter("note", 0)], splits=splits, index=True) as out:
        for k, split in enumerate([*splits, "validation"]):
            out.append(np.full((2, 3), k, np.uint8), codes={"note": k}, split=split)
    return tmp_path / "three"


def test_splits_of_other_names_are_written_and_opened(three):
    ds = mapix.open(three)
    assert list(ds.splits) == ["train", "test", "validation"]
    assert [ds.info[f"{s}_samples"] for s in ds.splits] == [1, 1, 2]
    assert ds.info["total_samples"] == 4
    part = mapix.open(three, split="validation")
    assert [int(r.image[0, 0, 0]) for r in part] == [1, 3]
    assert (part.split_name, list(part.splits)) == ("validation", list(ds.splits))
    assert list(mapix.open(three / "validation").splits) == list(ds.splits)
    with pytest.raises(FileNotFoundError, match="'dev'; there: train, test, validation"):
        mapix.open(three, split="dev")


def test_a_file_that_the_info_json_does_not_count_is_no_split(three):
    for name in ("README", "total", "n"):
        (three / name).write_bytes(b"text")
    assert list(mapix.open(three).splits) == ["train", "test", "validation"]


def test_splits_of_other_names_are_converted_checked_and_repaired(three, tmp_path):
    made = mapix.convert(three, tmp_path / "copy", to="vimh")
    assert made.records == {"train": 1, "test": 1, "validation": 2}
    assert made.lost == ()
    for name in ("train", "validation", "test"):
        assert (tmp_path / "copy" / name).read_bytes() == (three / name).read_bytes()
    one = mapix.convert(mapix.open(three), tmp_path / "one", to="vimh")
    assert one.lost == ()
    assert "validation_samples" not in mapix.open(tmp_path / "one").info
    assert len(mapix.vimh.verify(three)) == 3
    saved = mapix.vimh.repair(three, tmp_path / "saved")
    assert sorted(saved.files) == ["test", "train", "validation"]
    with open(three / "validation", "r+b") as file:
        file.truncate(30)
    assert not mapix.open(three).verify().ok


def test_records_are_appended_to_splits_of_other_names(three):
    with mapix.vimh.Appender(three, split="validation") as out:
        out.append(np.full((2, 3), 9, np.uint8), codes={"note": 9})
    ds = mapix.open(three, split="validation")
    assert (len(ds), ds.info["validation_samples"], ds.info["total_samples"]) == (3, 3, 5)
    with pytest.raises(ValueError, match="split must be train or test or validation"):
        mapix.vimh.Appender(three, split="dev")


@pytest.mark.parametrize("splits", [(), ("a", "a"), ("a/b",), (".a",), ("total",), ("x_batch",)])
def test_names_of_splits_are_checked(tmp_path, splits):
    with pytest.raises(ValueError, match="split"):
        Writer(tmp_path / "made", splits=splits)
    assert not list(tmp_path.iterdir())
