"""The panel of spectrograms in the viewer: frequency, time and level; the sound played back."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np

from mapix.viewer.panels import Panel
from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View
from mapix.vimh.resynthesis import sound
from mapix.vimh.spectrogram import Spectrogram

__all__ = ["PANEL", "ROUTES"]


def _settings(view: View) -> Spectrogram:
    found = Spectrogram.of_info(view.ds.info)
    if found is None:
        raise RefusedError(404, "the info JSON does not state how the spectrograms were computed")
    return found


def facts(view: View, request: Request) -> Reply:
    """Return the axes of a record: seconds per column, Hz of the rows, names of the channels."""
    how, record = _settings(view), view.ds[request.integer("n", most=len(view.ds) - 1)]
    h, w, c = record.shape
    names = view.ds.info.get("channel_labels")
    known = isinstance(names, list) and len(names) == c
    return Reply.json(
        {
            "shape": (h, w, c),
            "seconds": how.hop_length / how.sample_rate,
            "frequencies": how.frequencies() if h == how.n_bins else None,
            "range": record.spec_range,
            "channels": list(map(str, names)) if known else [f"Ch{k}" for k in range(c)],
        }
    )


def levels(view: View, request: Request) -> Reply:
    """Return a channel of a record in dB: float32, row after row."""
    return Reply(_levels(view, request).astype("<f4").tobytes(), "application/octet-stream")


def _levels(view: View, request: Request) -> Any:
    record = view.ds[request.integer("n", most=len(view.ds) - 1)]
    channel = request.integer("channel", 0, most=record.shape[2] - 1)
    return record.decibels[:, :, channel]


def wav(view: View, request: Request) -> Reply:
    """Return the sound of a channel of a record as a WAV file of 16-bit integers."""
    how, db = _settings(view), _levels(view, request)
    if len(db) != how.n_bins:
        raise RefusedError(404, f"the record has {len(db)} rows, the info JSON {how.n_bins}")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, how.sample_rate, 0, "NONE", ""))
        file.writeframes(np.rint(sound(db, how) * 32767).astype("<i2").tobytes())
    return Reply(out.getvalue(), "audio/wav")


ROUTES = {"spectrogram": facts, "spectrogram.levels": levels, "spectrogram.wav": wav}


def applies(ds: Any) -> bool:
    """Return whether the info JSON states the axes."""
    return len(ds) > 0 and Spectrogram.of_info(ds.info) is not None


PANEL = Panel("spectrogram", "Sound", "side", "mapix.vimh.viewing", applies)
