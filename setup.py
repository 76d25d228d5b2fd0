"""Only what pyproject.toml cannot say: the compiled modules, and the wheel's abi3 tag."""

import os
import shlex

from setuptools import Extension, setup

ABI3 = ("Py_LIMITED_API", "0x030B0000")


def flags(name: str) -> list[str]:
    """Flags from the environment, as csrc/build_core.py takes them."""
    return shlex.split(os.environ.get(name, ""))


def records() -> list[Extension]:
    """``mapix._record``, which makes ``ds[i]`` fast.  Optional: without it Python does the same."""
    try:
        import numpy
    except ImportError:  # built without isolation, and without numpy
        return []
    return [
        Extension(
            "mapix._record",
            [f"csrc/python/{name}.c" for name in ("file", "gather", "record", "module")],
            include_dirs=["csrc", numpy.get_include()],
            depends=["csrc/mapix.h", "csrc/vimh.h", "csrc/python/record.h"],
            extra_compile_args=["-std=c11", "-O3", "-fvisibility=hidden", *flags("MAPIX_CFLAGS")],
            extra_link_args=flags("MAPIX_LDFLAGS"),
            define_macros=[ABI3],
            py_limited_api=True,
            optional=True,
        )
    ]


setup(
    cffi_modules=["csrc/build_core.py:ffibuilder"],
    ext_modules=records(),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
