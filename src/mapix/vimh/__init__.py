"""VIMH datasets: variable-length image records with multi-head labels.

``mapix.open(path)`` opens them; this package holds what it returns.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.vimh.appender import Appender
    from mapix.vimh.audio_dataset import from_audio
    from mapix.vimh.checking import verify
    from mapix.vimh.dataset import Dataset
    from mapix.vimh.joined import Joined
    from mapix.vimh.levels import decibels
    from mapix.vimh.model import model_config
    from mapix.vimh.opening import open_path
    from mapix.vimh.parameters import Parameter, Parameters
    from mapix.vimh.record_types import Record
    from mapix.vimh.salvage import repair
    from mapix.vimh.synthesis import synth
    from mapix.vimh.targets import decay_time, soft_targets
    from mapix.vimh.writer import Writer, spectrogram_bytes, write

__all__ = [
    "Appender",
    "Dataset",
    "Joined",
    "Parameter",
    "Parameters",
    "Record",
    "Writer",
    "decay_time",
    "decibels",
    "from_audio",
    "model_config",
    "open_path",
    "repair",
    "soft_targets",
    "spectrogram_bytes",
    "synth",
    "verify",
    "write",
]

_MODULES = {
    "Appender": "appender",
    "Dataset": "dataset",
    "Joined": "joined",
    "Parameter": "parameters",
    "Parameters": "parameters",
    "Record": "record_types",
    "Writer": "writer",
    "decay_time": "targets",
    "decibels": "levels",
    "from_audio": "audio_dataset",
    "model_config": "model",
    "open_path": "opening",
    "repair": "salvage",
    "soft_targets": "targets",
    "spectrogram_bytes": "writer",
    "synth": "synthesis",
    "verify": "checking",
    "write": "writer",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
