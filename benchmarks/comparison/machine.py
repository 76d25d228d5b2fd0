"""The machine and the versions that figures were taken with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path

PACKAGES = (
    "numpy",
    "torch",
    "cffi",
    "lmdb",
    "pyarrow",
    "bagz",
    "array_record",
    "webdataset",
    "psutil",
)


def _first(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return "unknown"
    return found.group(1).strip() if found else "unknown"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _readahead(folder: Path) -> str:
    device = os.stat(folder).st_dev
    at = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for place in (at / "queue", at / ".." / "queue"):
        try:
            return (place / "read_ahead_kb").read_text().strip() + " KB"
        except OSError:
            continue
    return "unknown"


def facts(folder: Path) -> dict[str, str]:
    """What a reader needs to know to compare figures."""
    import mapix
    from mapix import _native

    cpu = _first("/proc/cpuinfo", r"^model name\s*:\s*(.+)$")
    family = _first("/proc/cpuinfo", r"^cpu family\s*:\s*(.+)$")
    memory = int(_first("/proc/meminfo", r"^MemTotal:\s*(\d+)") or 0) >> 20
    l3 = _first("/sys/devices/system/cpu/cpu0/cache/index3/size", r"(\S+)")
    thp = _first("/sys/kernel/mm/transparent_hugepage/enabled", r"\[(\w+)\]")
    return {
        "cpu": f"{cpu} (family {family}), {len(os.sched_getaffinity(0))} cores, L3 {l3}",
        "memory": f"{memory} GB, transparent huge pages: {thp}",
        "system": f"{platform.system()} {platform.release()}, readahead {_readahead(folder)}",
        "load": " ".join(f"{x:.2f}" for x in os.getloadavg()),
        "python": platform.python_version(),
        "mapix": f"{mapix.__version__}, kernels level {_native.simd()}",
        "packages": ", ".join(f"{p} {_version(p)}" for p in PACKAGES),
    }
