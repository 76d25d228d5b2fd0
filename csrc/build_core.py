"""Build the C core as ``mapix._core``: the cdef is cut out of csrc/mapix.h, nothing is said twice.

setup.py names ``ffibuilder`` here (cffi_modules), and puts this folder where ``flags`` is found.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cffi import FFI
from flags import COMPILE, EXTENSION, LINK

CSRC = Path(__file__).resolve().parent
SOURCES = sorted(path.name for path in CSRC.glob("*.c"))
HEADERS = sorted(path.name for path in CSRC.glob("*.h"))


def cdef() -> str:
    """The declarations between the two markers of mapix.h, as cffi takes them."""
    text = (CSRC / "mapix.h").read_text(encoding="utf-8")
    begin, end = "/* cdef: begin */", "/* cdef: end */"
    declarations = text[text.index(begin) + len(begin) : text.index(end)]
    return re.sub(r"/\*.*?\*/", "", declarations, flags=re.S)


ffibuilder = FFI()
ffibuilder.cdef(cdef())
ffibuilder.set_source(
    "mapix._core",
    '#include "mapix.h"',
    # setuptools wants paths relative to setup.py
    sources=[os.path.join("csrc", name) for name in SOURCES],
    include_dirs=["csrc"],
    depends=[os.path.join("csrc", name) for name in (*HEADERS, "flags.py")],
    libraries=["m", "pthread"],
    extra_compile_args=COMPILE,
    extra_link_args=LINK,
    **EXTENSION,
)

if __name__ == "__main__":
    print(cdef())
