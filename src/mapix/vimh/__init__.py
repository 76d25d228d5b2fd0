"""VIMH datasets: variable-length image records with multi-head labels.

``mapix.open(path)`` opens them; this package holds what it returns.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mapix.vimh.bases import Record
from mapix.vimh.dataset import Dataset
from mapix.vimh.opening import open_path
from mapix.vimh.parameters import Parameter, Parameters

if TYPE_CHECKING:
    from mapix.vimh.appender import Appender
    from mapix.vimh.checking import verify
    from mapix.vimh.joined import Joined
    from mapix.vimh.model import model_config
    from mapix.vimh.salvage import repair
    from mapix.vimh.statistics import decay_time, soft_targets
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
    "model_config",
    "open_path",
    "repair",
    "soft_targets",
    "spectrogram_bytes",
    "verify",
    "write",
]


_LATER = {
    "Appender": "appender",
    "Writer": "writer",
    "repair": "salvage",
    "Joined": "joined",
    "decay_time": "statistics",
    "model_config": "model",
    "soft_targets": "statistics",
    "spectrogram_bytes": "writer",
    "verify": "checking",
    "write": "writer",
}


def __getattr__(name: str) -> Any:
    """What most processes do without is imported when it is asked for."""
    if name in _LATER:
        return getattr(importlib.import_module(f"mapix.vimh.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
