"""The C core by itself: faults, other handlers, forks, and ThreadSanitizer over all of it.

What happens here would end an interpreter, or cannot be seen from one; the programmes in tests/c
are compiled with the core's sources and run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
CORE = HERE.parent / "csrc"
FUZZ = HERE.parent / "fuzz"
CHANGES = 5  # of each input of a fuzz target: most bounds are met by the inputs themselves
FLAGS = ["-std=c11", "-g", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{CORE}"]
GATHER_CASES = ["cut", "lost_table", "changing_table", "cold", "first_calls"]
GATHER_CASES += ["blocked", "fork"]
HANDLER_CASES = [
    "displaced",
    "foreign_mended",
    "foreign_inside",
    "foreign_kills",
    "foreign_stubborn",
    "foreign_jumps",
    "foreign_calls_back",
    "foreign_raises",
    "sent",
    "many_owners",
]


def compiler() -> list[str]:
    """The system's C compiler, or $CC."""
    named = shlex.split(os.environ.get("CC", ""))
    found = named or [c for c in ("cc", "gcc", "clang") if shutil.which(c)][:1]
    if not found or shutil.which(found[0]) is None:
        pytest.skip("no C compiler")
    if not CORE.is_dir():
        pytest.skip("the core's sources are not here")
    return found


def build(folder: Path, name: str, *flags: str) -> Path:
    sources = [HERE / "c" / f"{name}.c", *sorted(CORE.glob("*.c"))]
    out = folder / name
    done = subprocess.run(
        [*compiler(), *FLAGS, *flags, *map(str, sources), "-lm", "-lpthread", "-o", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return out


def run(
    command: list[str], timeout: float, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **env}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=environment, cwd=cwd
    )


def counts(line: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("harness")


@pytest.fixture(scope="module")
def fault_gather(folder: Path) -> Path:
    return build(folder, "fault_gather")


@pytest.fixture(scope="module")
def fault_handlers(folder: Path) -> Path:
    return build(folder, "fault_handlers")


def test_cases_are_all_named(fault_gather: Path, fault_handlers: Path) -> None:
    assert run([str(fault_gather), "list"], 60).stdout.split() == GATHER_CASES
    assert run([str(fault_handlers), "list"], 60).stdout.split() == HANDLER_CASES


@pytest.mark.parametrize("case", GATHER_CASES)
def test_gather(fault_gather: Path, tmp_path: Path, case: str) -> None:
    done = run([str(fault_gather), case, "1"], 300, TMPDIR=str(tmp_path))
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    if case == "cut":
        n = counts(done.stdout)
        assert n["good"] > 0
        assert n["faults"] > 100


@pytest.mark.parametrize("case", HANDLER_CASES)
def test_handlers(fault_handlers: Path, tmp_path: Path, case: str) -> None:
    done = run([str(fault_handlers), case], 300, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr


LOADS = """
#include <dlfcn.h>
#include <stdio.h>
int main(int n, char **names) {
    if (n == 2 && dlopen(names[1], RTLD_NOW)) return 0;
    puts(dlerror());
    return 1;
}
"""


def test_musl_loads_the_core_at_run_time(tmp_path: Path) -> None:
    """As Python loads modules; musl refuses what only the first libraries of a process may have."""
    if shutil.which("musl-gcc") is None:
        pytest.skip("no musl-gcc")
    (tmp_path / "loads.c").write_text(LOADS)
    core, loads = str(tmp_path / "core.so"), str(tmp_path / "loads")
    sources = map(str, sorted(CORE.glob("*.c")))
    for command in (
        ["musl-gcc", *FLAGS, "-fPIC", "-shared", *sources, "-o", core],
        ["musl-gcc", str(tmp_path / "loads.c"), "-o", loads],
        [loads, core],
    ):
        done = run(command, 300)
        assert done.returncode == 0, done.stdout + done.stderr


def sanitizer(folder: Path, kinds: str) -> list[str] | None:
    """Return what to put before a command built with ``-fsanitize=kinds``; None without any."""
    source, out = folder / "empty.c", folder / "empty"
    source.write_text("int main(void) { return 0; }\n")
    made = run([*compiler(), f"-fsanitize={kinds}", str(source), "-o", str(out)], 60)
    # Older runtimes know the layout of an address space without much randomisation only.
    for prefix in ([], ["setarch", "-R"]) if made.returncode == 0 else ():
        if (not prefix or shutil.which(prefix[0])) and run([*prefix, str(out)], 60).returncode == 0:
            return prefix
    return None


def test_no_data_races(folder: Path, tmp_path: Path) -> None:
    prefix = sanitizer(folder, "thread")
    if prefix is None:
        pytest.skip("no ThreadSanitizer that runs here")
    out = build(folder, "tsan_gather", "-fsanitize=thread")
    done = run([*prefix, str(out), "2"], 300, TMPDIR=str(tmp_path), TSAN_OPTIONS="die_after_fork=0")
    print(done.stdout)
    assert "WARNING: ThreadSanitizer" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    assert counts(done.stdout)["faults"] > 0


@pytest.fixture(scope="module")
def sanitised(folder: Path) -> tuple[list[str], list[str]]:
    """Flags of a compiler with AddressSanitizer, if there is one; the core's objects by these."""
    if not FUZZ.is_dir():
        pytest.skip("the fuzz targets are not here")
    flags = [*compiler(), *FLAGS, "-O0", "-DMAPIX_CHAIN_CAPACITY=64", f"-I{FUZZ}"]
    if sanitizer(folder, "address,undefined") is not None:
        flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = sorted(CORE.glob("*.c"))
    done = run([*flags, "-c", *map(str, sources)], 900, cwd=folder)
    assert done.returncode == 0, done.stderr
    return flags, [str(folder / f"{source.stem}.o") for source in sources]


@pytest.mark.parametrize(
    "target", sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.c"))
)
def test_inputs_of_the_fuzz_targets(
    sanitised: tuple[list[str], list[str]], tmp_path: Path, target: str
) -> None:
    """Every seed and every finding of the past, and each with a few small changes.

    With AddressSanitizer where there is one: then a byte read or written outside a block is seen.
    """
    flags, objects = sanitised
    sources = [str(HERE / "c" / "replay.c"), str(FUZZ / f"fuzz_{target}.c")]
    program = str(tmp_path / "replay")
    done = run([*flags, *sources, *objects, "-lm", "-lpthread", "-o", program], 600)
    assert done.returncode == 0, done.stderr
    seeds = run([sys.executable, str(FUZZ / "seeds.py"), str(tmp_path / "seeds"), target], 60)
    assert seeds.returncode == 0, seeds.stderr
    inputs = sorted((tmp_path / "seeds" / target).iterdir())
    inputs += sorted((FUZZ / "regressions").glob(f"{target}/*"))
    prefix = sanitizer(tmp_path, "address,undefined") or []
    command = [*prefix, program, str(CHANGES), *map(str, inputs)]
    done = run(command, 300, ASAN_OPTIONS="use_sigaltstack=0:detect_leaks=0")
    last = "\n".join(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, f"{last}\n{done.stderr[-4000:]}"
    assert counts(last)["inputs"] == (1 + CHANGES) * len(inputs)
