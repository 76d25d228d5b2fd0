"""Plant bugs, and see whether the tests find them.

``python tests/planted/run.py [NAME...]``: for each ``NAME.patch`` beside this file (all, when
none is named), a copy of the project gets the patch and is built, and the tests that the patch
names run.  A patch begins with what is wrong, and a line ``Tests: ...`` with the tests that are to
fail, as pytest takes them.  The tests also run once without any patch, and have to pass.

Prints a line for each patch: ``caught`` and by which test, or ``NOT CAUGHT``.  Fails when one is
not caught, or does not apply: then the code around it has changed, and the patch has to follow.
A bug that only ends pytest is not caught: the test has to see it in a process of its own.
``--table FILE`` also writes the lines as a table.  It needs what the tests need, git, and a
compiler, which compiles only the sources that a patch changes (``cached_cc``).

A bug that no test finds deserves a test first, and then a patch here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", "build", "out", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", ".venv*"
)
TIMEOUT = 900
HEADING = "| patch | bug | caught by |\n|---|---|---|"
QUICK = "-O0 -Wno-cpp"  # to build; _FORTIFY_SOURCE warns below -O1


@dataclass
class Plant:
    """One patch."""

    path: Path
    what: str
    tests: list[str]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def in_c(self) -> bool:
        return "+++ b/csrc/" in self.path.read_text(encoding="utf-8")

    @property
    def needs_build(self) -> bool:
        return not all(test.startswith("tests/test_c_harness.py") for test in self.tests)


class NoVerdictError(Exception):
    """No test failed, and they did not all pass."""


def read(path: Path) -> Plant:
    """Read a patch; its text comes before the first ``diff``."""
    text = path.read_text(encoding="utf-8").split("\ndiff --git", 1)[0]
    tests = re.search(r"^Tests: (.+)$", text, re.M)
    if tests is None:
        raise ValueError(f"{path}: it has no line 'Tests: ...'")
    return Plant(path, text.split("\n", 1)[0], tests.group(1).split())


def plants(names: list[str]) -> list[Plant]:
    """Read the named patches, or all."""
    paths = [HERE / f"{name}.patch" for name in names] or sorted(HERE.glob("*.patch"))
    return [read(path) for path in paths]


def apply(folder: Path, plant: Plant, *options: str) -> bool:
    """Apply a patch; False when it does not fit."""
    command = ["git", "apply", "-C1", *options, str(plant.path)]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def compiler(folder: Path) -> dict[str, str]:
    """Return what makes programs in a copy use ``cached_cc``, with objects beside the copy."""
    objects = folder.parent / "objects"
    objects.mkdir(exist_ok=True)
    wrapped = os.environ.get("CC", "cc")
    cached = folder / "tests" / "planted" / "cached_cc"
    return {"CC": str(cached), "PLANTED_CC": wrapped, "PLANTED_OBJECTS": str(objects)}


def build(folder: Path) -> None:
    """Compile the extensions of a copy, into its ``src``."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    env = {**os.environ, **compiler(folder), "MAPIX_CFLAGS": QUICK}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the copy does not build:\n{done.stderr}")


def failing(folder: Path, tests: list[str]) -> str:
    """The first test that fails, or nothing."""
    env = {**os.environ, **compiler(folder), "MAPIX_ALL_TESTS": "1"}
    env["PYTHONPATH"] = str(folder / "src")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise NoVerdictError(f"no result within {TIMEOUT} s") from None
    if done.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    if failed is None:
        raise NoVerdictError(f"pytest ended with status {done.returncode}")
    return failed.group(1)


def main() -> int:
    """Run them; the number of bugs that were not caught."""
    parser = argparse.ArgumentParser(description="plant bugs, and see whether tests find them")
    parser.add_argument("name", nargs="*", help="patches to try; all, when none is named")
    parser.add_argument("--table", type=Path, help="write a Markdown table to this file, too")
    arguments = parser.parse_args()
    chosen, rows = plants(arguments.name), [HEADING]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "mapix"
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        build(folder)
        tests = sorted({test for plant in chosen for test in plant.tests})
        broken = failing(folder, tests)
        if broken:
            sys.exit(f"without any patch, this test fails: {broken}")
        missed = 0
        stale = False  # whether the extensions are those of another patch
        for plant in chosen:
            if not apply(folder, plant):
                missed += 1
                print(f"{plant.name:24} DOES NOT APPLY", flush=True)
                continue
            if plant.needs_build and (plant.in_c or stale):
                build(folder)
                stale = plant.in_c
            try:
                caught, reason = failing(folder, plant.tests), plant.what
            except NoVerdictError as e:
                caught, reason = "", str(e)
            missed += not caught
            found = f"caught by {caught}" if caught else f"NOT CAUGHT: {reason}"
            print(f"{plant.name:24} {found}", flush=True)
            rows.append(f"| {plant.name} | {plant.what} | `{caught.removeprefix('tests/')}` |")
            apply(folder, plant, "-R")
        summary = f"{len(chosen) - missed} of {len(chosen)} caught"
        print(summary)
        if arguments.table:
            arguments.table.write_text("\n".join([*rows, "", summary, ""]), encoding="utf-8")
    return missed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
