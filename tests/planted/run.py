"""Plant bugs, and see whether the tests find them.

``python tests/planted/run.py [NAME...]``: for each ``NAME.patch`` beside this file (all, when
none is named), a copy of the project gets the patch and is built, and the tests that the patch
names run.  A patch begins with what is wrong, and a line ``Tests: ...`` with the tests that are to
fail, as pytest takes them.  If they pass, all other quick tests run.  Those that patches name also
run once without any patch, and have to pass.

Prints a line for each patch: ``caught`` and by which test, or ``NOT CAUGHT``.  Fails when one is
not caught, or does not apply: then the code around it has changed, and the patch has to follow.
A bug that only ends pytest is not caught: the test has to see it in a process of its own.

``--jobs N`` tries N patches at once, each in a copy of its own.

``--table FILE`` also writes the lines as a table, after each patch.  A run with the same table on
the same commit goes on where the last one ended.  It needs what the tests need, git, and a
compiler, which compiles only the sources that a patch changes (``cached_cc``); patches of Python
need no build, and come first.

A bug that no test finds deserves a test first, and then a patch here.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", "build", "out", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", ".venv*"
)
HARNESS = "tests/test_c_harness.py"  # builds what it runs
TIMEOUT = 900
ROW = re.compile(r"^\| (\w+) \| .* \| `.*` \|$", re.M)
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
        """Whether the tests load the compiled modules that it changes."""
        return self.in_c and not all(test.startswith(HARNESS) for test in self.tests)


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
    """Return what makes programs in a copy use ``cached_cc``, with objects beside all copies."""
    objects = folder.parent / "objects"
    objects.mkdir(exist_ok=True)
    cached, wrapped = folder / "tests" / "planted" / "cached_cc", os.environ.get("CC", "cc")
    planted = {"CC": wrapped, "OBJECTS": str(objects), "COPY": str(folder)}
    return {"CC": str(cached)} | {f"PLANTED_{name}": value for name, value in planted.items()}


def build(folder: Path) -> None:
    """Compile the extensions of a copy, into its ``src``."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    env = {**os.environ, **compiler(folder), "MAPIX_CFLAGS": QUICK}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the copy does not build:\n{done.stderr}")


def failing(folder: Path, tests: list[str], slow: bool = True) -> str:
    """The first test that fails, or nothing."""
    env = {**os.environ, **compiler(folder), "MAPIX_ALL_TESTS": str(int(slow))}
    env |= {"PYTHONPATH": str(folder / "src"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
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
    found = failed.group(1)
    return found if found.endswith("]") else found.partition("[")[0]  # of a name with spaces


def caught(folder: Path, plant: Plant) -> tuple[str, str]:
    """Return the test that finds a bug that is planted, or nothing; and what else is to be said."""
    try:
        found = failing(folder, plant.tests)
        if not found:
            if plant.in_c and not plant.needs_build:
                build(folder)
            found = failing(folder, ["tests"], slow=False)
            return found, ", which the patch does not name" if found else plant.what
    except NoVerdictError as e:
        return "", str(e)
    return found, ""


def commit(but: Path | None) -> str:
    """Return the commit and its date; nothing where other files than ``but`` have changed."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = {ROOT / line[2:].strip() for line in git("status", "--porcelain").splitlines()}
    return "" if changed - {but} else git("log", "-1", "--format=%h of %cs")


@contextmanager
def copies(n: int) -> Iterator[list[Path]]:
    """Give copies of the project; objects of the compiler stay until a run ends by itself.

    They lie in the same place each time, because objects depend on the options, which name it.
    """
    place = hashlib.blake2b(os.fsencode(ROOT), digest_size=4).hexdigest()
    scratch = Path(tempfile.gettempdir()) / f"mapix-planted-{os.getuid()}-{place}"
    scratch.mkdir(mode=0o700, exist_ok=True)
    with open(scratch / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another run has its copies there: only one at a time")
        folders = [scratch / f"mapix-{k}" for k in range(n)]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        yield folders
        shutil.rmtree(scratch)


def order(plant: Plant) -> tuple[bool, bool, str]:
    """Return a key to sort by: what needs no build first."""
    return plant.needs_build, plant.in_c, plant.name


def unpatched(folders: list[Path], tests: list[str]) -> None:
    """Build the copies, and run tests, which have to pass: the harness beside the others."""
    halves = [[t for t in tests if t.startswith(HARNESS) == harness] for harness in (False, True)]

    def run(folder: Path, half: list[str]) -> str:
        build(folder)
        return failing(folder, half) if half else ""

    with ThreadPoolExecutor(len(folders)) as pool:
        work = [*halves, *([] for _ in folders[2:])]
        places = folders if len(folders) > 1 else [*folders, *folders]
        for broken in pool.map(run, places, work):
            if broken:
                sys.exit(f"without any patch, this test fails: {broken}")


def tried(folder: Path, plant: Plant) -> tuple[str, str]:
    """Plant a bug in a copy; return the test that finds it, or nothing, and a line to print."""
    began = time.monotonic()
    if not apply(folder, plant):
        return "", f"{plant.name:24} DOES NOT APPLY"
    if plant.needs_build:
        build(folder)
    found, more = caught(folder, plant)
    apply(folder, plant, "-R")
    line = f"caught by {found}{more}" if found else f"NOT CAUGHT: {more}"
    return found, f"{plant.name:24} {time.monotonic() - began:4.0f} s {line}"


def main() -> int:
    """Run them; 1 if a bug was not caught."""
    parser = argparse.ArgumentParser(description="plant bugs, and see whether tests find them")
    parser.add_argument("name", nargs="*", help="patches to try; all, when none is named")
    parser.add_argument("--jobs", type=int, default=1, help="how many to try at once (1)")
    parser.add_argument(
        "--table", type=Path, help="write a Markdown table to this file, too; go on with one"
    )
    arguments = parser.parse_args()
    table = arguments.table.resolve() if arguments.table else None
    chosen = sorted(plants(arguments.name), key=order)
    state = commit(table)
    heading = f"Commit {state or 'with changes'}:"
    before = table.read_text(encoding="utf-8") if table and table.exists() and state else ""
    goes_on = before.startswith(heading) and f" of {len(chosen)} bugs" in before.split("\n", 1)[0]
    rows = {found[1]: found[0] for found in ROW.finditer(before)} if goes_on else {}
    left = [plant for plant in chosen if plant.name not in rows]
    tests = sorted({test for plant in chosen for test in plant.tests})
    missed = 0
    with copies(arguments.jobs) as folders, ThreadPoolExecutor(arguments.jobs) as pool:
        unpatched(folders, [] if goes_on else tests)
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for folder in folders:
            free.put(folder)

        def in_turn(plant: Plant) -> tuple[Plant, str]:
            folder = free.get()
            try:
                found, line = tried(folder, plant)
            finally:
                free.put(folder)
            print(line, flush=True)
            return plant, found

        for done in as_completed([pool.submit(in_turn, plant) for plant in left]):
            plant, found = done.result()
            missed += not found
            if found:
                where = found.removeprefix("tests/").replace("|", "/")
                rows[plant.name] = f"| {plant.name} | {plant.what} | `{where}` |"
            if table:
                summary = f"{heading} {len(rows)} of {len(chosen)} bugs caught."
                lines = [rows[name] for name in sorted(rows)]
                lines = [summary, "", "| patch | bug | caught by |", "|---|---|---|", *lines, ""]
                table.write_text("\n".join(lines), encoding="utf-8")
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
