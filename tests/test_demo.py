from __future__ import annotations

import json
import mmap
import os
import struct
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix import colour, text
from mapix.demo import compare, data, sound, tour

N_UNIFORM, N_MIXED = 420, 200


@pytest.fixture(scope="module")
def uniform(tmp_path_factory) -> Path:
    return data.make("uniform", tmp_path_factory.mktemp("demo") / "uniform", N_UNIFORM)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    return data.make("mixed", tmp_path_factory.mktemp("demo") / "mixed", N_MIXED)


def parse(path: Path) -> list[tuple[tuple[int, int, int], tuple[float, float], dict, np.ndarray]]:
    """The format read from its description alone: no code of the demo or of mapix."""
    raw, at, found = path.read_bytes(), 0, []
    while at < len(raw):
        h, w, c = struct.unpack_from("<HHH", raw, at)
        spec = struct.unpack_from("<ff", raw, at + 6)
        n = raw[at + 14]
        labels = {raw[at + 15 + 2 * k]: raw[at + 16 + 2 * k] for k in range(n)}
        at += 15 + 2 * n
        pixels = np.array(list(raw[at : at + h * w * c]), np.uint8).reshape(c, h, w)
        found.append(((h, w, c), spec, labels, pixels))
        at += h * w * c
    assert at == len(raw)
    return found


def decibels(ds, i):
    record = ds[i]
    low, high = record.spec_range
    return low + record.image.astype(np.float64) / 255 * (high - low)


# --- the files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "mixed"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_files_are_what_a_plain_parser_finds(kind, split, request):
    folder = request.getfixturevalue(kind)
    records = parse(folder / split)
    ds = mapix.open(folder, split=split)
    assert len(ds) == len(records)
    assert ds.header_nbytes == 14
    assert ds.uniform == (kind == "uniform")
    for record, (shape, spec, labels, pixels) in zip(ds, records, strict=True):
        assert record.shape == shape
        assert record.spec_range == spec
        assert record.labels == {sound.HEADS[k].name: code for k, code in labels.items()}
        np.testing.assert_array_equal(record.image, pixels.transpose(1, 2, 0))
        assert (pixels.min(), pixels.max()) == (0, 255)
        assert spec[0] < spec[1] < 0


@pytest.mark.parametrize(("kind", "n"), [("uniform", N_UNIFORM), ("mixed", N_MIXED)])
def test_info_json_agrees_with_the_files(kind, n, request):
    folder = request.getfixturevalue(kind)
    train, test = (mapix.open(folder, split=split) for split in ("train", "test"))
    assert train.info == json.loads((folder / "vimh_dataset_info.json").read_text())
    assert (train.info["train_samples"], train.info["test_samples"]) == (len(train), len(test))
    assert train.info["total_samples"] == train.info["n_samples"] == n
    assert len(train) == int(0.8 * n)
    assert train.info["generation_info"]["kind"] == kind
    assert train.heads == {"note_number": 61, "velocity": 13, "log10_decay_time": 17}
    assert train.unknown_ids == ()


def test_mixed_sizes_are_mixed(mixed):
    ds = mapix.open(mixed)
    assert set(ds.shapes[:, 0].tolist()) == set(data.HEIGHTS)
    assert set(ds.shapes[:, 2].tolist()) == {1, 3}
    assert len(np.unique(ds.shapes[:, 1])) > 50
    lacking = ds.label_counts == len(sound.HEADS) - 1
    assert 0.04 < lacking.mean() < 0.25
    missing = {name for record in ds for name in set(ds.heads) - set(record.labels)}
    assert missing == set(ds.heads)


def test_sizes_are_what_they_are_said_to_be(uniform, mixed):
    nbytes = sum((uniform / split).stat().st_size for split in ("train", "test"))
    assert nbytes == N_UNIFORM * data.UNIFORM_NBYTES
    nbytes = sum((mixed / split).stat().st_size for split in ("train", "test"))
    assert nbytes == pytest.approx(N_MIXED * data.MIXED_MEAN_NBYTES, rel=0.2)


# --- labels are true to the pictures --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "mixed"])
def test_the_strongest_band_is_the_note(kind, request):
    ds = mapix.open(request.getfixturevalue(kind))
    for record in ds:
        if "note_number" not in record.labels:
            continue
        note = round(record.values["note_number"])
        h = record.shape[0]
        channel = min(1, record.shape[2] - 1)  # the middle window
        peak = int(record.image[:, :, channel].astype(int).sum(axis=1).argmax())
        hz = 440 * 2 ** ((note - 69) / 12)
        at = np.log2(hz / sound.LOWEST_HZ) * h / sound.OCTAVES - 0.5
        # a lobe wide against the note lifts the band above it: low notes in many bands
        assert abs(peak - at) < (0.8 if note > 50 else 4), (record.index, note, peak, at)


def test_the_note_falls_as_the_decay_time_says(uniform):
    ds = mapix.open(uniform)
    said, seen = [], []
    for i, record in enumerate(ds):
        db = decibels(ds, i)[:, :, 0]
        loudest = db[db.sum(axis=1).argmax()]
        floor = np.median(db[-3:, -8:])
        begin = int(loudest.argmax()) + 3
        heard = np.flatnonzero(loudest[begin:] < floor + 12)
        end = begin + (int(heard[0]) if len(heard) else len(loudest) - begin)
        if end - begin < 4 or record.values["note_number"] > 90:
            continue
        slope = np.polyfit(np.arange(begin, end) * sound.HOP, loudest[begin:end], 1)[0]
        said.append(record.values["log10_decay_time"])
        seen.append(np.log10(-8.686 / min(slope, -0.1)))
    assert len(said) > len(ds) / 2
    assert np.corrcoef(said, seen)[0, 1] > 0.98
    assert np.median(np.abs(np.subtract(said, seen))) < 0.05


def test_velocity_is_heard_in_level_and_brightness(uniform):
    ds = mapix.open(uniform)
    batch = ds.batch(np.arange(len(ds)), labels="physical", spec_range=True)
    note, velocity, _ = batch.labels.T
    assert np.corrcoef(velocity, batch.spec_range[:, 1])[0, 1] > 0.8
    # and without spec_range: how far the harmonics reach up when they are loudest
    images = ds.images[..., 0].astype(int)
    onset = images[np.arange(len(ds)), :, images.max(axis=1).argmax(axis=1)]
    bright = (onset > 110).sum(axis=1)
    for low, high in ((36, 50), (50, 62), (62, 74)):
        alike = (note >= low) & (note < high)
        assert np.corrcoef(velocity[alike], bright[alike])[0, 1] > 0.8


def test_codes_are_quantised_as_mapix_does(uniform):
    sounds = sound.draw(1000, np.random.default_rng(5))
    parameters = mapix.open(uniform).parameters
    values = (sounds.note, sounds.velocity, sounds.log10_decay)
    for head, v in zip(sound.HEADS, values, strict=True):
        found = sound.codes(sounds)[head.name]
        np.testing.assert_array_equal(found, parameters[head.name].quantise(v))
    notes = parameters["note_number"].class_of(sound.codes(sounds)["note_number"]) + 36
    np.testing.assert_array_equal(notes, sounds.note)


def test_three_windows_differ():
    rng = np.random.default_rng(0)
    sounds = sound.draw(3, rng)
    narrow, _, wide = np.moveaxis(sound.render(sounds, 64, 40, 3, rng), 3, 0)
    assert (wide > wide.max() - 20).sum() > (narrow > narrow.max() - 20).sum()


# --- making and finding ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "mixed"])
def test_same_seed_same_bytes(kind, tmp_path):
    makes = (("a", 1), ("b", 1), ("c", 2))
    a, b, c = (data.make(kind, tmp_path / name, 30, seed) for name, seed in makes)
    for split in ("train", "test"):
        assert (a / split).read_bytes() == (b / split).read_bytes()
        assert (a / split).read_bytes() != (c / split).read_bytes()
    assert (a / "train").read_bytes()[:4000] != (a / "test").read_bytes()[:4000]


def test_data_that_is_there_is_found_or_left_alone(tmp_path):
    folder = data.make("mixed", tmp_path / "m", 20)
    first = os.stat(folder / "train").st_ino
    data.make("mixed", folder, 20)
    assert os.stat(folder / "train").st_ino == first
    for n, seed in ((21, 0), (20, 1)):
        with pytest.raises(FileExistsError, match="other data: remove it, or choose another"):
            data.make("mixed", folder, n, seed)
    for foreign in ("[]", '{"format": "VIMH"}'):
        (folder / "vimh_dataset_info.json").write_text(foreign)
        with pytest.raises(FileExistsError, match="other data"):
            data.make("mixed", folder, 20)
    assert os.stat(folder / "train").st_ino == first


def test_ctrl_c_leaves_no_half_files(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.make("uniform", tmp_path / "u", 10, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_at_the_total(tmp_path):
    seen = []
    data.make("uniform", tmp_path / "u", 10, progress=lambda *a: seen.append(a))
    assert seen == [(8, 10), (10, 10)]


def test_one_record_is_too_few(tmp_path):
    with pytest.raises(ValueError, match="at least 2"):
        data.make("uniform", tmp_path / "u", 1)
    assert len(mapix.open(data.make("uniform", tmp_path / "u", 2))) == 1


# --- the usual way, and what is measured ----------------------------------------------------------


def test_both_ways_stack_pad_and_normalise(mixed):
    path = str(mixed / "train")
    records = parse(mixed / "train")
    for way in compare.WAYS.values():
        n, batch = way(path)
        assert n == len(records)
        floats, codes = batch(np.array([3, 0]))
        assert floats.dtype == np.float32
        for got, labels, k in zip(floats, codes, (3, 0), strict=True):
            _, _, pairs, pixels = records[k]
            c, h, w = pixels.shape
            np.testing.assert_allclose(got[:c, :h, :w], (pixels / 255 - 0.5) / 0.25, atol=1e-5)
            assert np.isclose(got, -2).sum() >= got.size - pixels.size
            assert labels.tolist() == [pairs.get(j, 0) for j in range(3)]


@pytest.mark.parametrize("kind", ["uniform", "mixed"])
def test_both_ways_read_the_same(kind, request):
    path = str(request.getfixturevalue(kind) / "train")
    seen = []
    ours, usual = compare.compared(path, lambda *a: seen.append(a))
    assert seen == [(0, 2), (1, 2)]
    assert ours.keys() == usual.keys()
    assert (ours["n"], ours["crc"]) == (usual["n"], usual["crc"])
    assert ours["n"] == len(mapix.open(path))
    assert all(side[key] > 0 for side in (ours, usual) for key in ("opened", "batch", "epoch"))


def test_a_difference_is_an_error(uniform, monkeypatch):
    answers = iter([b'{"crc": 1}', b'{"crc": 2}'])
    monkeypatch.setattr(compare.subprocess, "check_output", lambda command: next(answers))
    with pytest.raises(ValueError, match="read different pixels or labels"):
        compare.compared(str(uniform / "train"), lambda *a: None)
    # and the checksum sees one pixel
    path = uniform / "train"
    before = compare.measured(compare.in_the_usual_way, str(path))["crc"]
    other = uniform.parent / "other"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    other.write_bytes(raw)
    assert compare.measured(compare.in_the_usual_way, str(other))["crc"] != before


def test_memory_sees_what_is_held_but_not_file_pages(tmp_path):
    before = compare.private_nbytes()
    if not before:
        pytest.skip("no smaps_rollup here")
    # a mapping has new pages always, an array may get old ones
    with mmap.mmap(-1, 1 << 23, mmap.MAP_PRIVATE) as held:
        held.write(bytes(1 << 23))
        assert compare.private_nbytes() - before > 7 << 20
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 23))
    before = compare.private_nbytes()
    mapped = np.memmap(path, np.uint8, "r")
    assert mapped.sum() == 0
    assert compare.private_nbytes() - before < 2 << 20


def test_memory_without_smaps(monkeypatch):
    monkeypatch.setattr(compare, "ROLLUP", "/nowhere")
    assert compare.private_nbytes() == 0


def test_shares_make_about_the_size_asked_for():
    n = tour.shares(300)
    total = n["uniform"] * data.UNIFORM_NBYTES + n["mixed"] * data.MIXED_MEAN_NBYTES
    assert total == pytest.approx(300e6, rel=0.01)


# --- text -----------------------------------------------------------------------------------------


def test_numbers_as_text():
    assert [text.seconds(x) for x in (2.1, 0.9999, 0.0204, 1.73e-6, 7e-8)] == [
        "2.10 s",
        "1.00 s",
        "20.4 ms",
        "1.73 µs",
        "70 ns",
    ]
    assert [text.nbytes(x) for x in (0, 999, 160e6, 2.5e9)] == [
        "0 bytes",
        "999 bytes",
        "160 MB",
        "2.50 GB",
    ]
    assert [text.amount(x) for x in (12, 38400, 1.094e6)] == ["12", "38,400", "1.09 M"]
    assert [text.ratio(x) for x in (0.07, 5.6, 213, 21960)] == [
        "0.07 x",
        "5.6 x",
        "213 x",
        "21,960 x",
    ]


def test_text_fits_the_encoding():
    assert text.fitting("── 2 µs", "utf-8") == "── 2 µs"
    assert text.fitting("── 2 µs", "ascii") == "-- 2 us"


def test_tables_are_aligned():
    rows = [["what", "n"], ["a", "1"], ["longer", "100"]]
    assert text.table(rows, right=(1,), heads=(0,)).splitlines() == [
        "  what       n",
        "  ────────────",
        "  a          1",
        "  longer   100",
    ]
    assert text.table([["a heading"], ["a", "b"]], heads=(0,)).splitlines() == [
        "  a heading",
        "  ─────────",
        "  a   b",
    ]
    assert text.table([]) == ""


# --- pictures -------------------------------------------------------------------------------------


def test_lightness_of_the_palette_rises_evenly():
    colours = colour.palette()
    assert colours.shape == (256, 3)
    light = colour.lightness(colours.astype(float))
    assert (np.diff(light) > 0).all()
    even = np.linspace(light[0], light[-1], 256)
    assert np.abs(light - even).max() < 0.4  # half a step of a byte, more or less
    assert light[0] < 8
    assert light[-1] > 95


def test_sheet(uniform, mixed, tmp_path):
    image = pytest.importorskip("PIL.Image")
    from mapix.demo import sheet

    path = tmp_path / "new" / "sheet.png"
    sheet.draw_sheet(mapix.open(uniform), mapix.open(mixed), path)
    with image.open(path) as drawn:
        assert drawn.size == sheet.SIZE
        pixels = np.asarray(drawn)
    margin = pixels[:, : sheet.MARGIN]
    assert (margin == sheet.GROUND).all()  # nothing is drawn over the edge
    assert (pixels[:, -sheet.MARGIN :] == sheet.GROUND).all()
    assert (pixels[-10:] == sheet.GROUND).all()
    cells = pixels[sheet.TITLE + sheet.HEADING :][: sheet.SIDE, sheet.MARGIN :]
    for column in range(sheet.COLUMNS):  # a picture in each cell of the first row
        cell = cells[:, column * (sheet.SIDE + sheet.GAP) :][:, : sheet.SIDE]
        assert len(np.unique(cell.reshape(-1, 3), axis=0)) > 50
    again = tmp_path / "again.png"
    sheet.draw_sheet(mapix.open(uniform), mapix.open(mixed), again)
    assert again.read_bytes() == path.read_bytes()


def test_the_grid_rises_in_note_and_falls_in_decay(uniform):
    from mapix.demo import sheet

    found = list(sheet._grid(mapix.open(uniform)))
    rows = [found[k : k + sheet.COLUMNS] for k in range(0, len(found), sheet.COLUMNS)]
    assert [len(row) for row in rows] == [sheet.COLUMNS] * sheet.ROWS
    for row in rows:
        notes = [r.values["note_number"] for r in row]
        assert notes == sorted(notes)
        assert notes[-1] - notes[0] > 40
    decays = [[r.values["log10_decay_time"] for r in row] for row in rows]
    assert all(max(a) <= min(b) for a, b in zip(decays, decays[1:], strict=False))


def test_sheet_of_few_records(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from mapix.demo import sheet

    few = [mapix.open(data.make(kind, tmp_path / kind, 3)) for kind in ("uniform", "mixed")]
    sheet.draw_sheet(*few, tmp_path / "few.png")
    with image.open(tmp_path / "few.png") as drawn:
        assert drawn.size == sheet.SIZE


def test_low_notes_are_at_the_bottom(uniform):
    pytest.importorskip("PIL")
    from mapix.demo import sheet

    ds = mapix.open(uniform)
    labels = ds.label_bytes[:, 0].astype(int)
    for i, place in ((labels.argmin(), "bottom"), (labels.argmax(), "top")):
        drawn = np.asarray(sheet.picture(ds[int(i)], colour.palette())).astype(int).sum(axis=2)
        assert drawn.shape == (sheet.SIDE, sheet.SIDE)
        peak = drawn.sum(axis=1).argmax()
        assert (peak > sheet.SIDE / 2) == (place == "bottom")


def test_captions(mixed):
    from mapix.demo import sheet

    ds = mapix.open(mixed)
    for record in ds:
        name, rest, shape = sheet.captions(record)
        labels = record.labels
        assert ("note_number" in labels) == (name != "no note")
        assert ("velocity" in labels) == (not rest.startswith("no vel"))
        assert ("log10_decay_time" in labels) == (not rest.endswith("no decay"))
        assert shape == " x ".join(map(str, record.shape))
        if "note_number" in labels:
            note = round(record.values["note_number"])
            assert name.endswith(f", {note}")
            assert name.startswith(sheet.NOTES[note % 12])
    names = [sheet.captions(Sound({"note_number": n}))[0] for n in (36, 60, 61, 69, 96)]
    assert names == ["C2, 36", "C4, 60", "C#4, 61", "A4, 69", "C7, 96"]


class Sound:
    """A record with some labels."""

    shape = (1, 1, 1)

    def __init__(self, values: dict[str, float]) -> None:
        self.values = values
