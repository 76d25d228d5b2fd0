"""IDX arrays: MNIST's big-endian files and VisualRBM's little-endian ones.

``mapix.open("train-images-idx3-ubyte")`` opens one; this package holds what it returns.
"""

from mapix.idx.appender import Appender, append
from mapix.idx.array import IdxArray
from mapix.idx.writer import Writer, write

__all__ = ["Appender", "IdxArray", "Writer", "append", "write"]
