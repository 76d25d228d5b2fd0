"""Spectrograms of sounds: ``mapix.vimh.from_audio`` and ``mapix vimh from-audio``."""

from __future__ import annotations

import csv
import json
import struct
import wave
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.__main__ import main
from mapix.errors import FormatError, UnsupportedError
from mapix.rooted import Root
from mapix.vimh import from_audio
from mapix.vimh.audio import Audio, resampled
from mapix.vimh.audio_dataset import original_name
from mapix.vimh.parameter_table import read_table
from mapix.vimh.spectrogram import Spectrogram

RATE = 8000
HZ = (500.0, 1250.0, 2000.0)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE, width: int = 2) -> None:
    """Write samples of -1..1, (n,) or (n, channels)."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    top = (1 << (8 * width - 1)) - 1
    whole = np.rint(samples * top).astype(np.int64).ravel()
    raw = b"".join(
        int(x + 128).to_bytes(1, "little")
        if width == 1
        else int(x).to_bytes(width, "little", signed=True)
        for x in whole
    )
    with wave.open(str(path), "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", ""))
        out.writeframes(raw)


def sine(hz: float, n: int = RATE // 4, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(n) / rate)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    rows = []
    for k in range(10):
        hz = HZ[k % 3]
        write_wav(folder / f"{k}.wav", 0.5 * sine(hz))
        rows.append(
            {"file_name": f"{k}.wav", "hz": hz, "loud": k, "kind": "ab"[k % 2], "gain": 0.5}
        )
    with open(folder / "params.csv", "w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)
    (folder / "params.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


# --- spectrograms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stft", "mel", "log"])
@pytest.mark.parametrize("hz", HZ)
def test_a_sine_lands_in_the_band_of_its_frequency(kind, hz):
    bins = 129 if kind == "stft" else 40
    how = Spectrogram(RATE, type=kind, n_bins=bins, n_fft=256, hop_length=64)
    power = how.power(sine(hz).astype(np.float32))
    assert power.shape == (bins, RATE // 4 // 64 + 1)
    f = how.frequencies()
    assert (np.diff(f) > 0).all()
    middle = power[:, 8:-8]
    assert (middle.argmax(axis=0) == np.abs(f - hz).argmin()).all()
    assert middle.max(axis=0).min() > 100 * np.median(middle)


def test_decibels_are_those_of_the_amplitude():
    how = Spectrogram(RATE, type="stft", n_bins=129, n_fft=256, hop_length=64)
    for amplitude in (1.0, 0.5, 0.01):
        power = how.power((amplitude * sine(2000)).astype(np.float32))  # in the middle of bin 64
        np.testing.assert_allclose(
            how.decibels(power)[64, 8:-8], 20 * np.log10(amplitude), atol=1e-3
        )
    assert (how.decibels(how.power(np.zeros(100, np.float32))) == -100).all()


def test_a_transform_is_that_of_its_definition():
    how = Spectrogram(RATE, type="stft", n_bins=9, n_fft=16, n_window=10, hop_length=4)
    x = np.random.default_rng(0).uniform(-1, 1, 30).astype(np.float32)
    found = how.power(x)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(10) / 10)
    for k in range(8):
        begin = 4 * k + 2 - 5
        frame = [x[i] if 0 <= i < 30 else 0.0 for i in range(begin, begin + 10)] * window
        for b in range(9):
            want = abs(sum(frame * np.exp(-2j * np.pi * b * np.arange(10) / 16)) * 2 / window.sum())
            np.testing.assert_allclose(found[b, k], want**2, atol=1e-9)


def test_a_click_is_in_the_column_of_its_time():
    how = Spectrogram(RATE, n_fft=128, hop_length=64, n_bins=20)
    x = np.zeros(64 * 20, np.float32)
    x[64 * 7 + 32] = 1
    assert how.power(x).sum(axis=0).argmax() == 7


def test_bands_are_evenly_spaced():
    octaves = Spectrogram(RATE, type="log", freq_min=55, freq_max=3520, n_bins=7).frequencies()
    np.testing.assert_allclose(octaves, [55, 110, 220, 440, 880, 1760, 3520])
    mel = Spectrogram(RATE, type="mel", freq_min=100, freq_max=3000, n_bins=9).frequencies()
    np.testing.assert_allclose(np.diff(2595 * np.log10(1 + mel / 700)).std(), 0, atol=0.01)
    assert (round(mel[0]), round(mel[-1])) == (100, 3000)


def test_no_band_is_empty():
    how = Spectrogram(RATE, type="log", n_fft=64, n_bins=60, freq_min=20)
    noise = np.random.default_rng(0).uniform(-1, 1, 4000).astype(np.float32)
    assert (how.power(noise) > 0).all()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"type": "bark"}, "type must be"),
        ({"window_type": "round"}, "window_type must be"),
        ({"n_window": 2048}, "at most n_fft"),
        ({"type": "stft", "n_bins": 600}, "at most 513"),
        ({"freq_max": 5000.0}, "half the sample rate, 4000 Hz"),
        ({"hop_length": 0}, "hop_length must be"),
    ],
)
def test_settings_are_checked(settings, text):
    with pytest.raises(ValueError, match=text):
        Spectrogram(RATE, **settings)


# --- audio ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_of_integers(tmp_path, width):
    x = np.array([[-1, 1], [0, 0.5], [1, -0.25]])
    write_wav(tmp_path / "a.wav", x, width=width)
    with Audio(Root(tmp_path), "a.wav") as sound:
        assert (sound.sample_rate, sound.nchannels, sound.nframes) == (RATE, 2, 3)
        found = sound.read({"mono", "left", "right"}, 99)
    top = 1 << (8 * width - 1)
    whole = np.rint(x * (top - 1)) / top
    np.testing.assert_allclose(found["left"], whole[:, 0], rtol=1e-7)
    np.testing.assert_allclose(found["right"], whole[:, 1], rtol=1e-7)
    np.testing.assert_allclose(found["mono"], whole.mean(axis=1), rtol=1e-6, atol=1e-8)


def float_wav(path: Path, samples: np.ndarray) -> None:
    raw = samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(raw)) + raw
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)


def test_wav_of_floats_by_soundfile(tmp_path):
    pytest.importorskip("soundfile")
    x = np.linspace(-0.7, 0.9, 500)
    float_wav(tmp_path / "a.wav", x)
    with Audio(Root(tmp_path), "a.wav") as sound:
        assert (sound.sample_rate, sound.nframes) == (RATE, 500)
        np.testing.assert_allclose(sound.read({"mono"}, 400)["mono"], x[:400], rtol=1e-6)


def test_flac_by_soundfile(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    x = 0.5 * sine(500)
    soundfile.write(tmp_path / "a.flac", x, RATE, subtype="PCM_16")
    (tmp_path / "p.csv").write_text("file_name\na.flac\n")
    path = from_audio(tmp_path, tmp_path / "out", tmp_path / "p.csv", train_share=1.0)
    assert len(mapix.open(path)) == 1
    with Audio(Root(tmp_path), "a.flac") as sound:
        np.testing.assert_allclose(sound.read({"mono"}, 9999)["mono"], x, atol=2**-15)


def test_without_soundfile_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    float_wav(tmp_path / "a.wav", np.zeros(9))
    (tmp_path / "b.ogg").write_bytes(b"OggS....")
    with pytest.raises(UnsupportedError, match=r"a.wav: WAV of floats.*mapix\[sound\]"):
        Audio(Root(tmp_path), "a.wav")
    with pytest.raises(UnsupportedError, match=r"b.ogg: not WAV: soundfile is needed"):
        Audio(Root(tmp_path), "b.ogg")


def test_other_rates_are_resampled_by_scipy(tmp_path):
    pytest.importorskip("scipy")
    found = resampled(sine(500, 4000, 16000).astype(np.float32), 16000, RATE)
    assert len(found) == 2000
    np.testing.assert_allclose(found[100:-100], sine(500, 2000)[100:-100], atol=0.01)


def test_a_cut_wav_is_an_error(tmp_path):
    write_wav(tmp_path / "a.wav", sine(500))
    raw = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(raw[:-1000])
    with pytest.raises(FormatError, match=r"a.wav.*states 2000 samples, there are 1500"):
        Audio(Root(tmp_path), "a.wav")
    for n in (5, 20, 40):
        (tmp_path / "a.wav").write_bytes(raw[:n])
        with pytest.raises(FormatError, match=r"a.wav"):
            Audio(Root(tmp_path), "a.wav")


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_columns_are_parameters(sounds, kind):
    table = read_table(sounds / f"params.{kind}")
    assert table.files == [f"{k}.wav" for k in range(10)]
    found = {p.name: (p.min, p.max, p.step, p.num_classes) for p in table.parameters}
    assert found["hz"] == (500, 2000, 750, 3)
    assert found["loud"] == (0, 9, 1, 10)
    assert found["kind"] == (0, 1, 1, 2)
    assert table.parameters[2].description == "a, b"
    assert table.fixed == {"gain": 0.5}
    assert table.codes["kind"] == [0, 255] * 5
    assert table.codes["loud"][:3] == [0, int(255 / 9), int(2 * 255 / 9)]
    hz = table.parameters[0]
    assert hz.class_of(table.codes["hz"]).tolist() == [k % 3 for k in range(10)]


def test_missing_values_ranges_and_steps(tmp_path):
    (tmp_path / "p.csv").write_text("file_name,a,b\nx,1,0.1\ny,,0.37\nz,3,0.9\n")
    table = read_table(tmp_path / "p.csv", {"a": (0, 10, 2.5)})
    a, b = table.parameters
    assert (a.min, a.max, a.step, a.num_classes) == (0, 10, 2.5, 5)
    assert table.codes["a"] == [25, None, 76]
    assert (b.min, b.max) == (0.1, 0.9)
    assert b.step == pytest.approx(0.05)
    with pytest.raises(ValueError, match=r"p.csv.* a has 1\.\.3, not in 2\.\.5"):
        read_table(tmp_path / "p.csv", {"a": (2, 5, 1)})
    with pytest.raises(ValueError, match="no parameter c"):
        read_table(tmp_path / "p.csv", {"c": (2, 5, 1)})


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("p.csv", "", "no sounds"),
        ("p.csv", "name,a\nx,1\n", "a column file_name is expected, got name, a"),
        ("p.csv", "file_name,a\nx\n", "line 2: 2 values expected, got 1"),
        ("p.csv", "file_name,a,a\nx,1,2\n", "twice"),
        ("p.csv", "file_name,a\n,1\n", "record 0.*must be a name"),
        ("p.csv", "file_name,a\nx,nan\n", "a must be finite"),
        ("p.jsonl", '{"file_name": "x"}\n[1]\n', "line 2: an object"),
        ("p.jsonl", '{"file_name": "x", "a": [1]}\n', "a must be a number or text, got list"),
        ("p.jsonl", '{"file_name": ', "line 1"),
    ],
)
def test_a_damaged_table_is_an_error(tmp_path, name, text, error):
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=error):
        read_table(tmp_path / name)


# --- datasets -------------------------------------------------------------------------------------


def test_a_folder_of_sounds_becomes_a_dataset(sounds, tmp_path):
    settings = {"type": "log", "n_bins": 24, "n_fft": 512, "hop_length": 100, "freq_min": 250.0}
    calls = []
    path = from_audio(
        sounds,
        tmp_path / "out",
        sounds / "params.csv",
        progress=lambda done, total: calls.append((done, total)),
        **settings,
    )
    assert calls[-1] == (10, 10)
    train, test = (mapix.open(path, split=s) for s in ("train", "test"))
    assert (len(train), len(test)) == (8, 2)
    assert train.heads == {"hz": 3, "loud": 10, "kind": 2}
    assert {p.name: p.min for p in train.parameters.fixed.values()} == {"gain": 0.5}
    info = train.info
    assert (info["sample_rate"], info["synth_type"]) == (RATE, "audio")
    config = info["spectrogram_config"]
    assert {k: config[k] for k in ("type", "n_bins", "n_fft", "hop_length")} == {
        k: settings[k] for k in ("type", "n_bins", "n_fft", "hop_length")
    }
    assert info["mel_config"] == {"freq_min": 250.0, "freq_max_ratio": 0.9}
    how = Spectrogram(RATE, **settings)
    for ds in (train, test):
        for record in ds:
            hz = HZ[round(record.values["loud"]) % 3]
            assert record.shape == (24, 20, 1)
            assert record.image[:, 10, 0].argmax() == np.abs(how.frequencies() - hz).argmin()
            with Audio(Root(sounds), f"{round(record.values['loud'])}.wav") as sound:
                db = how.decibels(how.power(sound.read({"mono"}, 9999)["mono"]))
            low, high = record.spec_range
            assert np.abs(record.decibels[:, :, 0] - db).max() <= (high - low) / 510 * 1.00001


def test_the_same_seed_makes_the_same_bytes(sounds, tmp_path):
    def made(name: str, **options) -> list[bytes]:
        path = Path(from_audio(sounds, tmp_path / name, sounds / "params.csv", **options))
        return [(path / split).read_bytes() for split in ("train", "test")]

    assert made("a", seed=3) == made("b", seed=3)
    assert made("c", seed=4) != made("a2", seed=3)
    first = mapix.open(from_audio(sounds, tmp_path / "d", sounds / "params.csv", seed=None))
    assert [round(r.values["loud"]) for r in first] == list(range(8))


def test_envelopes_are_channels(sounds, tmp_path):
    channels = ("mono", "temporal_envelope", "spectral_envelope")
    path = from_audio(sounds, tmp_path / "o", sounds / "params.csv", channels=channels, n_bins=16)
    record = mapix.open(path)[0]
    assert mapix.open(path).info["channel_labels"] == [
        *("Gray", "Gray_temporal_envelope", "Gray_spectral_envelope"),
    ]
    power = 10 ** (record.decibels.astype(float) / 10)
    want = 10 * np.log10(power[:, :, 0].mean(axis=0))
    step = np.ptp(record.spec_range) / 255
    assert np.abs(record.decibels[:, :, 1] - want).max() < 1.5 * step
    want = 10 * np.log10(power[:, :, 0].mean(axis=1))
    assert np.abs(record.decibels[:, :, 2] - want[:, None]).max() < 1.5 * step


def test_stereo_and_durations(tmp_path):
    write_wav(tmp_path / "a.wav", np.stack([sine(500), sine(2000)], axis=1))
    write_wav(tmp_path / "b.wav", np.stack([sine(500, 200), sine(2000, 200)], axis=1))
    (tmp_path / "p.csv").write_text("file_name,split\na.wav,train\nb.wav,validation\n")
    options = {"type": "stft", "n_bins": 33, "n_fft": 64, "hop_length": 40}
    given = (tmp_path, tmp_path / "o", tmp_path / "p.csv")
    ds = mapix.open(from_audio(*given, channels=("left", "right"), **options))
    assert ds[0].image[:, 20].argmax(axis=0).tolist() == [4, 16]
    assert list(ds.splits) == ["train", "test", "validation"]
    assert mapix.open(tmp_path / "o", split="validation")[0].shape == (33, 5, 2)
    path = from_audio(tmp_path, tmp_path, tmp_path / "p.csv", duration=0.1, **options)
    assert Path(path).name == "vimh-33x20x1_8000Hz_0p1s_2dss_audio_0p"
    short = mapix.open(path, split="validation")[0]
    assert short.shape == (33, 20, 1)
    assert (short.image[:, 7:] == 0).all()  # silence
    assert mapix.open(path)[0].shape == (33, 20, 1)
    assert mapix.open(path).info["duration"] == 0.1


def test_directories_are_named_as_the_original_does():
    found = original_name((32, 32, 1), 8000, 1.0, n=20, synth="simple", parameters=2)
    assert found == "vimh-32x32x1_8000Hz_1p0s_20dss_simple_2p"


def test_nothing_is_left_of_a_run_that_fails(sounds, tmp_path):
    folder, target = tmp_path / "sounds", tmp_path / "out"
    folder.mkdir()
    write_wav(folder / "a.wav", sine(500))
    write_wav(folder / "b.wav", sine(500), rate=11025)
    for names, error in (
        ("a.wav\nb.wav", "11025 Hz"),
        ("a.wav\nc.wav", "c.wav"),
        ("../a.wav", "a.wav"),
    ):
        (folder / "p.csv").write_text(f"file_name\n{names}\n")
        with pytest.raises((OSError, ValueError), match=error):
            from_audio(folder, target, folder / "p.csv")

    def interrupted(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        from_audio(sounds, target, sounds / "params.csv", progress=interrupted)
    assert [p.name for p in tmp_path.iterdir()] == ["sounds"]


def test_the_command(sounds, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["vimh", "from-audio", str(sounds), "--parameters", str(sounds / "params.jsonl")]
    assert not main([*given, "-o", str(out), "--type", "log", "--n-bins", "12", "--json"])
    assert json.loads(capsys.readouterr().out)["records"] == {"train": 8, "test": 2}
    assert mapix.open(out).info["spectrogram_config"]["n_bins"] == 12
    assert main([*given, "-o", str(tmp_path)]) == 2
    assert "give --duration" in capsys.readouterr().err
    assert not main([*given, "-o", str(tmp_path), "--duration", "0.25", "--in-order"])
    name = "vimh-64x8x1_8000Hz_0p25s_10dss_audio_3p"
    assert name in capsys.readouterr().out
    assert not mapix.open(tmp_path / name).verify().problems
    assert main([*given, "-o", str(tmp_path / "x"), "--range", "hz=0:1:1"]) == 2
    assert "not in 0..1" in capsys.readouterr().err
