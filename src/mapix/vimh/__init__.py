"""VIMH datasets: variable-length image records with multi-head labels.

``mapix.open(path)`` opens them; this package holds what it returns.
"""

from mapix.vimh.bases import Record
from mapix.vimh.dataset import Dataset
from mapix.vimh.opening import open_path
from mapix.vimh.parameters import Parameter, Parameters

__all__ = ["Dataset", "Parameter", "Parameters", "Record", "open_path"]
