"""NumPy's files: one array (``.npy``), or several in a zip archive (``.npz``), where they lie.

``mapix.open("x.npy")`` opens one; this package holds the classes of what it returns.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.npy.array import NpyArray
    from mapix.npy.npz_array import NpzArray

__all__ = ["NpyArray", "NpzArray"]

_MODULES = {"NpyArray": "array", "NpzArray": "npz_array"}

__getattr__, __dir__ = attach(__name__, _MODULES)
