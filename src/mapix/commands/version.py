"""``mapix --version``: versions, and how the C core was built, without importing numpy."""

from __future__ import annotations

import os
import sys

from mapix import __version__

__all__ = ["version"]

LIBRARIES = ("numpy", "Pillow", "simplejpeg", "imagecodecs")  # the last three decode pictures
LEVELS = ("plain C", "AVX2", "AVX-512")


def version() -> str:
    """Return one line: versions of mapix and libraries, and the state of the C core."""
    return (
        f"mapix {__version__} ({_core()}; C types {_types()}; "
        f"Python {sys.version.split()[0]}, {_installed()})"
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


def _installed() -> str:
    """Return versions from names of metadata: importing the libraries takes too long."""
    found: dict[str, str] = {}
    for folder in sys.path:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            library, _, version = name.removesuffix(".dist-info").partition("-")
            if name.endswith(".dist-info"):
                found.setdefault(library.lower(), version)
    return ", ".join(f"{name} {found.get(name.lower(), 'missing')}" for name in LIBRARIES)
