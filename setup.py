"""Only what pyproject.toml cannot say: the compiled modules, and the wheel's abi3 tag."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent / "csrc"))
from flags import COMPILE, EXTENSION, FREE_THREADED, LINK


def records() -> list[Extension]:
    """``mapix._record``, which makes ``ds[i]`` fast.  Optional: without it Python does the same."""
    try:
        import numpy
    except ImportError:  # built without isolation, and without numpy
        return []
    return [
        Extension(
            "mapix._record",
            [
                f"csrc/python/{name}.c"
                for name in (
                    *("archive", "file", "gather", "memory", "module"),
                    *("pack", "prepared", "record", "segment_buffer"),
                )
            ],
            include_dirs=["csrc", numpy.get_include()],
            depends=[*sorted(glob("csrc/*.h")), *sorted(glob("csrc/python/*.h")), "csrc/flags.py"],
            extra_compile_args=COMPILE,
            extra_link_args=LINK,
            optional=True,
            **EXTENSION,
        )
    ]


def on_all_cores(compile: Any) -> Any:
    """Return the compiler's ``compile`` as one that compiles several sources at once."""

    def made(sources: list[str], **options: Any) -> list[str]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: compile([source], **options), sources))
        return [path for found in objects for path in found]

    return made


class BuildModules(build_ext):
    """Builds the compiled modules; without a compiler it states what to install, in one line."""

    def build_extensions(self) -> None:
        """Compile, if there is a compiler."""
        command = getattr(self.compiler, "compiler_so", None)  # of compilers with a command line
        if command and shutil.which(command[0]) is None:
            raise SystemExit(
                f"error: mapix needs a C compiler, and {command[0]} was not found: install one "
                "(Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc), or name "
                "yours by CC=..."
            )
        self.compiler.compile = on_all_cores(self.compiler.compile)
        super().build_extensions()


setup(
    cmdclass={"build_ext": BuildModules},
    cffi_modules=["csrc/build_core.py:ffibuilder"],
    ext_modules=records(),
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
