"""VIMH datasets: variable-length image records with multi-head labels.

``mapix.open(path)`` opens them; this package holds what it returns.
"""

from mapix.vimh.bases import Record
from mapix.vimh.dataset import Dataset
from mapix.vimh.opening import open_path
from mapix.vimh.parameters import Parameter, Parameters
from mapix.vimh.writer import Writer, spectrogram_bytes, write

__all__ = [
    "Dataset",
    "Parameter",
    "Parameters",
    "Record",
    "Writer",
    "open_path",
    "spectrogram_bytes",
    "write",
]
