"""The synthesiser as a generator: ``mapix.vimh.synth`` and ``mapix vimh synth``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.__main__ import main
from mapix.errors import FormatError
from mapix.vimh import synth, synthesis
from mapix.vimh.spectrogram import Spectrogram
from mapix.vimh.synthesiser import SETTINGS

CONFIG = {
    "n_samples": 60,
    "seed": 5,
    "train_share": 0.75,
    "height": 32,
    "width": 24,
    "channels": 1,
    "parameters": {
        "log10_decay_time": {"min": -1.0, "max": 0.5},
        "note_number": {"min": 57, "max": 93, "step": 12},
        "velocity": 110,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return Path(synth(CONFIG, tmp_path_factory.mktemp("synth") / "made"))


def splits(folder) -> list[bytes]:
    return [(Path(folder) / split).read_bytes() for split in ("train", "test")]


def test_the_dataset_is_what_the_configuration_says(folder):
    train, test = (mapix.open(folder, split=split) for split in ("train", "test"))
    assert (len(train), len(test), train.image_shape) == (45, 15, (32, 24, 1))
    assert train.heads == {"log10_decay_time": 256, "note_number": 4}
    fixed = {p.name: p.min for p in train.parameters.fixed.values()}
    assert fixed == {
        name: 110.0 if name == "velocity" else s.default
        for name, s in SETTINGS.items()
        if name not in train.heads
    }
    notes = train.columns["note_number"].filled()
    assert set(np.rint(notes).astype(int)) == {57, 69, 81, 93}
    assert train.info["generation_info"]["config"] == CONFIG
    assert train.info["duration"] == 24 / 64


def test_the_loudest_band_is_the_note(folder):
    for record in mapix.open(folder):
        hz = 440 * 2 ** ((round(record.values["note_number"]) - 69) / 12)
        row = np.log2(hz / 55) * 32 / 8 - 0.5
        assert abs(int(record.decibels.sum(axis=(1, 2)).argmax()) - row) <= 1


def test_the_info_json_gives_the_frequencies(folder):
    info = mapix.open(folder).info
    config, mel = info["spectrogram_config"], info["mel_config"]
    how = Spectrogram(
        config["sample_rate"],
        type=config["type"],
        n_bins=config["n_bins"],
        freq_min=mel["freq_min"],
        freq_max=mel["freq_max_ratio"] * config["sample_rate"] / 2,
    )
    want = 55 * 2 ** (8 * (np.arange(32) + 0.5) / 32)
    np.testing.assert_allclose(how.frequencies(), want)


def test_the_same_configuration_makes_the_same_bytes(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert splits(synth(tmp_path / "config.json", tmp_path / "again")) == splits(folder)
    assert splits(synth({**CONFIG, "seed": 6}, tmp_path / "other")) != splits(folder)


def test_blocks_are_written_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, "BLOCK_RECORDS", 16)
    calls = []
    made = synth(CONFIG, tmp_path / "a", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(16, 60), (32, 60), (48, 60), (60, 60)]
    assert len(mapix.open(made)) == 45
    longer = synth({**CONFIG, "n_samples": 64, "train_share": 1.0}, tmp_path / "b")
    first, more = mapix.open(made), mapix.open(longer)
    for k in range(45):  # blocks have seeds of their own: more records change no earlier ones
        np.testing.assert_array_equal(first[k].image, more[k].image)


def test_each_setting_is_heard(tmp_path):
    base = {"note_number": 57, "velocity": 100, "noise_db": -100}
    config = {"n_samples": 1, "train_share": 1, "height": 48, "width": 40}

    def db(**settings) -> np.ndarray:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        made = synth({**config, "parameters": {**base, **settings}}, path)
        return mapix.open(made)[0].decibels[:, :, 0]

    plain = db()
    harmonic = 55 * 2 ** (8 * 30.5 / 48) / 220
    corner = 2 ** (1 + 4 * 100 / 127)
    lower = 20 * np.log10((1 + (4 * harmonic / corner) ** 2) / (1 + (harmonic / corner) ** 2))
    assert plain[30, 10] - db(cutoff_octaves=-2)[30, 10] == pytest.approx(lower, abs=0.6)
    seconds = 35.5 / 64 - 0.03
    faster = 20 / np.log(10) * 0.08 * (harmonic - 1) * seconds / 10**-0.4
    assert db(harmonic_decay=0)[30, 35] - plain[30, 35] == pytest.approx(faster, abs=0.6)
    assert abs(np.median(db(noise_db=-60, onset=60)) - np.median(db(onset=60)) - 40) < 0.5
    late = db(onset=0.3)
    assert late[:, 12].max() < -90 < -40 < plain[:, 12].max()
    loud, soft = db(velocity=127), db(velocity=32)
    assert loud.max() > soft.max() + 15
    row = plain.sum(axis=1).argmax()
    for x in (-0.8, -0.4, 0):
        line = db(log10_decay_time=x)[row]
        fall = 20 / np.log(10) * (20 / 64) / 10**x  # of the fundamental in 20 columns
        assert line[10] - line[30] == pytest.approx(fall, rel=0.03, abs=0.6)


def test_nothing_is_left_of_an_interrupted_run(tmp_path):
    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth(CONFIG, tmp_path / "made", progress=interrupted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"size": 3}, "unknown size; a configuration has n_samples"),
        ({"n_samples": 0}, "n_samples must be an integer in 1"),
        ({"n_samples": True}, "n_samples must be an integer"),
        ({"channels": 2}, "channels must be 1 or 3"),
        ({"height": 65535, "width": 65535}, "an image at most"),
        ({"train_share": 1.5}, "train_share"),
        ({"parameters": [1]}, "parameters must be an object"),
        ({"parameters": {"pitch": 3}}, "unknown parameter pitch; there are note_number"),
        ({"parameters": {"velocity": "loud"}}, "velocity: min must be a number"),
        ({"parameters": {"velocity": {"min": 1}}}, "must be a number, or have min, max"),
        ({"parameters": {"velocity": {"min": 9, "max": 1}}}, r"min not above max: got 9\.\.1"),
        ({"parameters": {"velocity": 300}}, r"velocity must be in 1\.\.127"),
        ({"parameters": {"velocity": {"min": 1, "max": 9, "step": 0}}}, "step must be above 0"),
    ],
)
def test_a_configuration_is_checked(tmp_path, change, error):
    with pytest.raises(ValueError, match=error):
        synth({**CONFIG, **change}, tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    assert not main(["vimh", "synth", str(config), "-o", str(tmp_path)])
    assert (
        "vimh-32x24x1_28160Hz_0p375s_60dss_saw_2p: 60 records: 45 train, 15 test"
        in capsys.readouterr().out
    )
    config.write_text("{")
    with pytest.raises(FormatError, match="config.json"):
        synth(config, tmp_path / "x")
    assert main(["vimh", "synth", str(config), "-o", str(tmp_path / "x")]) == 1
    assert main(["vimh", "synth", str(tmp_path / "no"), "-o", str(tmp_path / "x")]) == 2
