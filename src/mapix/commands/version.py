"""``mapix --version``: versions, and how the C core was built, without importing numpy."""

from __future__ import annotations

import os
import sys

from mapix import __version__

__all__ = ["version"]

LEVELS = ("plain C", "AVX2", "AVX-512")


def version() -> str:
    """Return one line: versions of mapix, Python and numpy, and the state of the C core."""
    return (
        f"mapix {__version__} ({_core()}; C types {_types()}; "
        f"Python {sys.version.split()[0]}, numpy {_numpy()})"
    )


def _core() -> str:
    try:
        from mapix._core import ffi, lib
    except ImportError:
        return "C core missing"
    compiler = ffi.string(lib.mapix_compiler()).decode()
    return f"C core: {LEVELS[lib.mapix_simd(-1)]}, {compiler}"


def _types() -> str:
    from importlib.util import find_spec

    return "there" if find_spec("mapix._record") else "missing"


def _numpy() -> str:
    """Return numpy's version from the name of its metadata: importing it takes too long."""
    for folder in sys.path:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if name.startswith("numpy-") and name.endswith(".dist-info"):
                return name.removeprefix("numpy-").removesuffix(".dist-info")
    return "missing"
