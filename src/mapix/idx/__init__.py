"""IDX arrays: MNIST's big-endian files and VisualRBM's little-endian ones.

``mapix.open("train-images-idx3-ubyte")`` opens one; this package holds the class of the
result, and the writers.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.idx.appender import Appender, append
    from mapix.idx.array import IdxArray
    from mapix.idx.writer import Writer, write

__all__ = ["Appender", "IdxArray", "Writer", "append", "write"]

_MODULES = {
    "Appender": "appender",
    "IdxArray": "array",
    "Writer": "writer",
    "append": "appender",
    "write": "writer",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
