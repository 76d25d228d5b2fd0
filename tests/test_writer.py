"""Writing VIMH: a reader that shares no line with mapix reads it; goldens come out again."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.vimh import Appender, Parameter, Writer, spectrogram_bytes, write
from slow_vimh import tiles

GOLDEN = Path(__file__).parent / "golden" / "vimh"
NOTE = Parameter("note", 0, min=50.0, max=52.0, step=0.5, description="MIDI")
LOUD = Parameter("loud", 1, min=0.0, max=127.0, step=1.0)


def read(path: Path) -> list[tuple]:
    """A VIMH file of 14-byte headers by struct alone: (h, w, c, spec, pairs, planar bytes)."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        h, w, c, low, high, n = struct.unpack_from("<HHHffB", data, at)
        at += 15
        pairs = [(data[at + 2 * k], data[at + 2 * k + 1]) for k in range(n)]
        at += 2 * n
        found.append((h, w, c, (low, high), pairs, data[at : at + h * w * c]))
        at += h * w * c
    return found


def test_records_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3 + i, 4, c), np.uint8) for i, c in enumerate((1, 3, 4, 2, 1))]
    with Writer(tmp_path / "d", [NOTE, LOUD], fixed={"attack": 0.25}) as out:
        for i, image in enumerate(images):
            labels = {"note": 51.5} if i % 2 else {"loud": 127.0, "note": 50.0}
            split = "test" if i == 4 else "train"
            out.append(image, labels, spec_range=(-80.0, float(i)), split=split)
    train, test = read(tmp_path / "d" / "train"), read(tmp_path / "d" / "test")
    assert len(train) == 4
    assert len(test) == 1
    for (h, w, c, spec, pairs, pixels), image, i in zip(
        train + test, images, range(5), strict=True
    ):
        assert (h, w, c) == image.shape
        assert spec == (-80.0, float(i))
        assert pairs == ([(0, 191)] if i % 2 else [(0, 0), (1, 255)])
        assert pixels == image.transpose(2, 0, 1).tobytes()
    info = json.loads((tmp_path / "d" / "vimh_dataset_info.json").read_text())
    assert info["train_samples"] == 4
    assert info["test_samples"] == 1
    assert info["parameter_names"] == ["note", "loud"]
    assert info["fixed_parameters"]["attack"]["value"] == 0.25
    ds = mapix.open(tmp_path / "d")
    assert ds[1].labels == {"note": 191}
    assert (ds[1].image == images[1]).all()
    assert mapix.open(tmp_path / "d", split="test")[0].labels == {"note": 0, "loud": 255}


@pytest.mark.parametrize("dialect", [6, 14])
def test_arrays(tmp_path, dialect):
    rng = np.random.default_rng(1)
    n = 70
    images = rng.integers(0, 256, (n, 300, 300, 1), np.uint8)  # more than one block
    codes = rng.integers(0, 256, n)
    with Writer(tmp_path / "d", [NOTE, LOUD], dialect=dialect) as out:
        out.extend(images, {"note": np.linspace(50, 52, n)}, codes={"loud": codes})
    slow = tiles((tmp_path / "d" / "train").read_bytes(), dialect)
    assert slow is not None
    assert [r.pairs[1][1] for r in slow] == codes.tolist()
    assert [r.pairs[0][1] for r in slow] == NOTE.quantise(np.linspace(50, 52, n)).tolist()
    assert all(r.image == i.tobytes() for r, i in zip(slow, images, strict=True))
    assert mapix.open(tmp_path / "d", dialect=dialect).header_nbytes == dialect


GOLDENS = [p.parent.name for p in sorted(GOLDEN.glob("*/train"))]


@pytest.mark.parametrize("name", [g for g in GOLDENS if (GOLDEN / g / "test").exists()])
def test_goldens_are_written_again(tmp_path, name):
    """The same content gives the same bytes, binary files and info JSON."""
    golden = GOLDEN / name
    text = (golden / "vimh_dataset_info.json").read_text()
    info = json.loads(text)
    splits = {s: mapix.open(golden / s, index="never", dialect=14) for s in ("train", "test")}
    parameters = list(splits["train"].parameters.values())[: len(info["parameter_names"])]
    output = info["output_format"]
    with Writer(tmp_path / name, parameters, info=info, output=output) as out:
        for split, ds in splits.items():
            for record in ds:
                out.append(
                    record.image, codes=record.labels, spec_range=record.spec_range, split=split
                )
    written = {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
    names = {p.name for p in golden.iterdir() if "after_original" not in p.name}
    assert set(written) == names
    for file, data in written.items():
        assert data == (golden / file).read_bytes(), file
    assert (tmp_path / name / "vimh_dataset_info.json").read_text() == text


def test_spectrograms_become_bytes_as_the_original_makes_them():
    db = np.array([[-80.0, -40.0], [-0.3, 0.0]])
    got, spec = spectrogram_bytes(db)
    assert got.tolist() == [[0, 128], [254, 255]]
    assert spec == (-80.0, 0.0)
    assert spectrogram_bytes(np.full((2, 2), -3.0))[0].tolist() == [[0, 0], [0, 0]]


def test_the_first_four_fifths_are_for_training(tmp_path):
    images = np.zeros((9, 2, 2), np.uint8)
    write(tmp_path / "d", images, [{"note": 51.0}] * 9, parameters=[NOTE])
    assert len(mapix.open(tmp_path / "d")) == 7
    write(tmp_path / "one", images[:1])
    assert (tmp_path / "one" / "train").stat().st_size == 0


@pytest.mark.parametrize(
    ("image", "options", "complaint"),
    [
        (np.zeros((2, 2), np.float32), {}, "uint8"),
        (np.zeros((0, 2), np.uint8), {}, "1..65535"),
        (np.zeros((65536, 1), np.uint8), {}, "1..65535"),
        (np.zeros((2, 2, 2, 2), np.uint8), {}, "h, w"),
        (np.zeros((2, 2), np.uint8), {"labels": {"pitch": 1.0}}, "pitch"),
        (np.zeros((2, 2), np.uint8), {"labels": {"note": float("nan")}}, "finite"),
        (np.zeros((2, 2), np.uint8), {"codes": {"note": 256}}, "0..255"),
        (np.zeros((2, 2), np.uint8), {"codes": {"note": 1.5}}, "integers"),
        (np.zeros((2, 2), np.uint8), {"labels": {"note": 51.0}, "codes": {"note": 1}}, "once"),
        (np.zeros((2, 2), np.uint8), {"split": "valid"}, "split"),
    ],
)
def test_what_is_no_record_is_refused_and_the_rest_goes_on(tmp_path, image, options, complaint):
    with Writer(tmp_path / "d", [NOTE]) as out:
        out.append(np.ones((1, 1), np.uint8))
        with pytest.raises((TypeError, ValueError), match=complaint):
            out.append(image, **options)
        out.append(np.ones((1, 1), np.uint8))
    assert len(read(tmp_path / "d" / "train")) == 2


def test_nothing_appears_when_something_goes_wrong(tmp_path):
    def fail() -> None:
        with Writer(tmp_path / "d") as out:
            out.append(np.ones((1, 1), np.uint8))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    write(tmp_path / "d", np.zeros((2, 2, 2), np.uint8))
    before = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}
    with pytest.raises(FileExistsError):
        Writer(tmp_path / "d")
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == before


def test_batches_of_mixed_sizes_are_written_as_they_are(tmp_path):
    shapes = [(2 + i % 3, 3, 1 + i % 2) for i in range(40)]
    a, b = (mapix.vimh.Parameter(name, k, min=0, max=9) for k, name in enumerate("ab"))
    with Writer(tmp_path / "one", [a, b]) as out:
        for i, shape in enumerate(shapes):
            codes = dict.fromkeys(("", "a", "b", "ab")[i % 4], i)
            image = np.random.default_rng(i).integers(0, 256, shape).astype(np.uint8)
            out.append(image, codes=codes, spec_range=(-1.0, i))
    ds = mapix.open(tmp_path / "one")
    flat = ds.batch(np.arange(40), flat=True, spec_range=True)
    with Writer(tmp_path / "two", [a, b]) as out:
        out.extend_flat(ds.batch([], flat=True))
        out.extend_flat(flat)
    assert (tmp_path / "two" / "train").read_bytes() == (tmp_path / "one" / "train").read_bytes()
    infos = [
        json.loads((tmp_path / k / "vimh_dataset_info.json").read_text()) for k in ("one", "two")
    ]
    assert [i.pop("dataset_name") for i in infos] == ["one", "two"]
    assert infos[0] == infos[1]
    with Appender(tmp_path / "two") as out:
        out.extend_flat(flat)
    assert len(mapix.open(tmp_path / "two")) == 80
    with Writer(tmp_path / "three", [Parameter("b", 0)]) as out:
        with pytest.raises(ValueError, match="parameters of the writer: a"):
            out.extend_flat(flat)
        with pytest.raises(ValueError, match="flat=True"):
            out.extend_flat(ds.batch([0]))
        with pytest.raises(ValueError, match="raw codes"):
            out.extend_flat(ds.batch([0], flat=True, labels="class"))
    with (
        pytest.raises(ValueError, match="one size"),
        Writer(tmp_path / "four", [a, b], output="both") as out,
    ):
        out.extend_flat(flat)


# --- what is odd about labels ---------------------------------------------------------------------

RANGED = [Parameter("a", 0, min=0.0, max=1.0, step=0.1), Parameter("b", 1, min=-2.0, max=2.0)]
PIXELS = np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ({"a": 1.5, "b": 0.0}, "a = 1.5 is outside 0..1"),
        ({"a": 0.5, "b": -2.1}, "b = -2.1 is outside -2..2"),
        ({"a": 0.5}, "records lack the label 'b'"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_clipped_and_missing_labels_are_told(tmp_path, labels, what, many):
    def put(out, labels):
        if many:
            each = {k: None if v is None else [v] * 3 for k, v in labels.items()}
            out.extend(np.stack([PIXELS] * 3), each)
        else:
            out.append(PIXELS, labels)

    with Writer(tmp_path / "d", RANGED) as out:
        with pytest.warns(mapix.MapixWarning, match=what):
            put(out, labels)
        put(out, labels)  # warned of once
        put(out, {"a": 0.25, "b": None})  # stated
    ds = mapix.open(tmp_path / "d")
    want = {p.name: int(p.quantise(labels[p.name])) for p in RANGED if p.name in labels}
    assert ds[0].labels == want
    assert ds[len(ds) - 1].labels == {"a": 63}
    with Writer(tmp_path / "e", RANGED, strict=True) as out:
        with pytest.raises(ValueError, match=what):
            put(out, labels)
        put(out, {"a": 0.25, "b": None})
        put(out, {"a": 3 * 0.1 + 0.7, "b": 2.0})  # 1.0000000000000002: rounding is no mistake
    assert mapix.open(tmp_path / "e").labels["a"].raw.tolist()[:1] == [63]
    with Appender(tmp_path / "d", strict=True) as out, pytest.raises(ValueError, match=what):
        put(out, labels)
    with Appender(tmp_path / "d") as out, pytest.warns(mapix.MapixWarning, match=what):
        put(out, labels)


def test_a_parameter_that_runs_downwards_and_class_numbers(tmp_path):
    down = Parameter("down", 0, min=5.0, max=-5.0)
    classes = Parameter("k", 1, min=0.0, max=9.0, num_classes=10, direct=True)
    with Writer(tmp_path / "d", [down, classes], strict=True) as out:
        out.append(PIXELS, {"down": -5.0, "k": 9})
        for labels in ({"down": 5.1, "k": 0}, {"down": 0, "k": 10}, {"down": 0, "k": -1}):
            with pytest.raises(ValueError, match="is outside"):
                out.append(PIXELS, labels)
    assert len(mapix.open(tmp_path / "d")) == 1
