"""Safetensors files: tensors as rows, where they lie.

``mapix.open("x.safetensors")`` opens one; this package holds what it returns.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.safetensors.array import SafetensorsArray

__all__ = ["SafetensorsArray"]

_MODULES = {"SafetensorsArray": "array"}

__getattr__, __dir__ = attach(__name__, _MODULES)
