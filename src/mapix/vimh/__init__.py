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
    from mapix.vimh.upkeep import repair
    from mapix.vimh.writer import Writer, spectrogram_bytes, write

__all__ = [
    "Appender",
    "Dataset",
    "Parameter",
    "Parameters",
    "Record",
    "Writer",
    "open_path",
    "repair",
    "spectrogram_bytes",
    "write",
]


_LATER = {
    "Appender": "appender",
    "Writer": "writer",
    "repair": "upkeep",
    "spectrogram_bytes": "writer",
    "write": "writer",
}


def __getattr__(name: str) -> Any:
    """What writes is imported when it is asked for: most processes only read."""
    if name in _LATER:
        return getattr(importlib.import_module(f"mapix.vimh.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
