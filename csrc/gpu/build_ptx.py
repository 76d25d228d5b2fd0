"""Compile gather.cu to PTX text with NVRTC, which needs no GPU: ``build_ptx.py [--check]``.

The PTX is committed, because a user's machine has no CUDA compiler; the driver loads it.  It is
made for compute capability 7.0 by an old NVRTC, since newer ones write an ISA that older drivers
refuse: ``pip install nvidia-cuda-nvrtc-cu12==12.1.105``.

``--check`` writes nothing and fails when the committed text is not what the source compiles to.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("gather.cu")
HEADER = SOURCE.resolve().parents[1] / "permute.h"
TARGET = Path(__file__).resolve().parents[2] / "src" / "mapix" / "gpu" / "gather.ptx"
OPTIONS = (b"--gpu-architecture=compute_70", b"-std=c++17", b"-default-device")


def nvrtc() -> ctypes.CDLL:
    """The library of the PyPI package."""
    found = importlib.util.find_spec("nvidia.cuda_nvrtc")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install nvidia-cuda-nvrtc-cu12==12.1.105")
    folder = Path(next(iter(found.submodule_search_locations))) / "lib"
    return ctypes.CDLL(str(folder / "libnvrtc.so.12"))


def compiled(source: bytes) -> bytes:
    """PTX of a source."""
    lib = nvrtc()
    program = ctypes.c_void_p()
    one = ctypes.c_char_p * 1
    header, name = one(HEADER.read_bytes()), one(b"../permute.h")
    lib.nvrtcCreateProgram(ctypes.byref(program), source, b"gather.cu", 1, header, name)
    options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
    status = lib.nvrtcCompileProgram(program, len(OPTIONS), options)
    size = ctypes.c_size_t()
    if status:
        lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        lib.nvrtcGetProgramLog(program, log)
        raise SystemExit(log.value.decode())
    lib.nvrtcGetPTXSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    lib.nvrtcGetPTX(program, text)
    return text.value


def main(arguments: list[str]) -> None:
    """Write the PTX, or compare it."""
    text = compiled(SOURCE.read_bytes())
    if "--check" in arguments:
        if TARGET.read_bytes() != text:
            raise SystemExit(f"{TARGET} is not what {SOURCE} compiles to: run build_ptx.py")
        print(f"{TARGET.name} is what {SOURCE.name} compiles to")
    else:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_bytes(text)
        print(f"{TARGET}: {len(text)} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
