"""The flags of compiler and linker, and the API, of both C modules.

A fault in C code must end the process, not open it: protected stacks, checked copies, and
addresses that are all resolved and then made read-only when the module is loaded.  A C library
that does not know level 3 of ``_FORTIFY_SOURCE`` takes it as 2.

``MAPIX_CFLAGS`` and ``MAPIX_LDFLAGS`` are appended, for the strict, sanitised and coverage builds
that CONTRIBUTING.md lists.  A sanitizer checks copies itself, and does so only without
``_FORTIFY_SOURCE``.
"""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
from typing import Any

GIVEN = shlex.split(os.environ.get("MAPIX_CFLAGS", ""))
SANITISED = any(flag.startswith("-fsanitize") for flag in GIVEN)

COMPILE = [
    *("-std=c11", "-O3", "-fvisibility=hidden", "-fno-semantic-interposition"),
    *("-fstack-protector-strong", "-U_FORTIFY_SOURCE"),
    *(() if SANITISED else ("-D_FORTIFY_SOURCE=3",)),
    *GIVEN,
]
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# One build serves Python 3.11 and later ones; that without the GIL has no limited API.
EXTENSION: dict[str, Any] = (
    {}
    if FREE_THREADED
    else {"define_macros": [("Py_LIMITED_API", "0x030B0000")], "py_limited_api": True}
)
LINK = [
    *(("-Wl,-z,relro,-z,now,-z,noexecstack",) if sys.platform == "linux" else ()),
    *shlex.split(os.environ.get("MAPIX_LDFLAGS", "")),
]
