"""Give tests a cache folder each, and skip slow ones."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

GOLDEN = Path(__file__).parent / "golden"

# On a busy machine, generating inputs can take any time.
settings.register_profile("mapix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mapix")

# Hundreds of tests start Python.  Where bytecode is not to be written beside the sources, it is
# written elsewhere: once for all of these processes, and for the workers of pytest-xdist.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", "") and "PYTHONPYCACHEPREFIX" not in os.environ:
    os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="mapix-bytecode-")
    atexit.register(shutil.rmtree, os.environ["PYTHONPYCACHEPREFIX"], ignore_errors=True)

# A run in the background of a shell ignores Ctrl-C, and so would all that it starts: tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

POSIX = os.environ.get("MAPIX_TEST_SYSTEM") == "posix"
"""Whether the tests run without what only Linux has."""

if POSIX:
    for missing in ("O_PATH", "O_TMPFILE", "memfd_create", "MFD_CLOEXEC"):
        delattr(os, missing)
    tempfile._O_TMPFILE_WORKS = False
    from mapix import rooted, system_calls

    rooted._openat2 = None
    system_calls._renameat2 = lambda: None


ALL = os.environ.get("MAPIX_ALL_TESTS") == "1"
"""Whether tests that take seconds run, too, and all combinations of others, as in CI."""

READ = os.environ.get("MAPIX_BACKEND") == "pread"
"""Whether files are read into memory when they are opened."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start one process more than there are cores: many tests wait for the disk or the clock."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that take seconds, unless all were asked for, and those that need maps."""
    for item in items:
        if not ALL and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes seconds: set MAPIX_ALL_TESTS=1"))
        if POSIX and item.get_closest_marker("linux"):
            item.add_marker(pytest.mark.skip(reason="needs Linux: MAPIX_TEST_SYSTEM=posix"))
        if READ and item.get_closest_marker("maps"):
            item.add_marker(pytest.mark.skip(reason="files are not mapped: MAPIX_BACKEND=pread"))


CACHES = itertools.count()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache folder of its own."""
    # numbered here: pytest would list all folders of the run for each
    folder = tmp_path_factory.mktemp(f"own-cache-{next(CACHES)}", numbered=False)
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(folder))
    return folder
