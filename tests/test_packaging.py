"""The metadata: extras that messages name, the source distribution, a missing compiler."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
USERS = ("images", "decoders", "torch", "gpu", "arrow", "cli", "view", "sound", "remote", "all")
DEVELOPERS = ("test", "dev", "bench", "peers")


def texts():
    """Yield every file whose words a user sees."""
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")):
        yield path, path.read_text(encoding="utf-8")


def test_extras_that_messages_and_documents_name_exist():
    named = {}
    for path, text in texts():
        for found in re.findall(r"(?:mapix|'\.|\"\.)\[([a-z, ]+)\]['`\"]", text):
            named |= {extra.strip(): path for extra in found.split(",")}
        named |= dict.fromkeys(re.findall(r'library\("[\w.]+", "(\w+)"\)', text), path)
    named.pop("extra", None)  # of ``optional``'s own f-string
    assert {"images", "arrow", "cli", "view", "safetensors", "huggingface"} <= set(named)
    unknown = {extra: str(path) for extra, path in named.items() if extra not in EXTRAS}
    assert unknown == {}


def test_extras_name_extras_that_exist_and_all_has_those_of_users():
    for needs in EXTRAS.values():
        for found in re.findall(r"mapix\[([\w,]+)\]", " ".join(needs)):
            assert set(found.split(",")) <= set(EXTRAS)
    (everything,) = EXTRAS["all"]
    found = set(everything.removeprefix("mapix[").removesuffix("]").split(","))
    assert set(USERS) - {"all"} <= found
    assert found.isdisjoint(DEVELOPERS)
    assert set(DEVELOPERS) <= set(EXTRAS)


def test_the_readme_has_each_extra_of_users():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = text[text.index("Extras add") :].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", listed) == list(USERS)


def test_the_readme_has_at_most_150_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_core_needs_numpy_and_cffi_alone():
    needs = [re.match(r"\w+", need)[0] for need in PROJECT["dependencies"]]
    assert sorted(needs) == ["cffi", "numpy"]


@pytest.mark.parametrize("without", [False, True])
def test_flags_of_pythons_with_and_without_the_gil(monkeypatch, without):
    ask = sysconfig.get_config_var
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda k: int(without) if k == "Py_GIL_DISABLED" else ask(k)
    )
    flags = runpy.run_path(str(ROOT / "csrc" / "flags.py"))
    limited = {"define_macros": [("Py_LIMITED_API", "0x030B0000")], "py_limited_api": True}
    assert flags["EXTENSION"] == ({} if without else limited)
    assert flags["FREE_THREADED"] is without


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs Python without the GIL"
)
def test_the_gil_stays_off():
    code = (
        "import sys; from mapix._native.compiled import fast; assert fast; "
        "print(sys._is_gil_enabled())"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "False\n"


def test_the_tag_of_a_wheel():
    """One wheel for Python 3.11 and later ones; one of its own for a Python without the GIL."""
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools 77")
    code = (
        "import setuptools; from distutils.core import run_setup; "
        "made = run_setup('setup.py', stop_after='init').get_command_obj('bdist_wheel'); "
        "made.ensure_finalized(); print(*made.get_tag()[:2])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    own = f"cp{sys.version_info.major}{sys.version_info.minor}"
    without = sysconfig.get_config_var("Py_GIL_DISABLED")
    assert done.stdout == (f"{own} {own}t\n" if without else "cp311 abi3\n"), done.stderr


def test_wheels_are_built_of_both_kinds():
    """Of a Python without the GIL, the check of the limited API has nothing to check."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheels = settings["tool"]["cibuildwheel"]
    assert wheels["build"].split() == ["cp311-*", "cp314t-*"]
    assert "abi3audit" in str(wheels["linux"]["repair-wheel-command"])
    (other,) = wheels["overrides"]
    assert other["select"] == "cp314t-*linux*"
    assert "abi3audit" not in other["repair-wheel-command"]


def built(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_without_a_compiler_one_line_states_what_to_do(tmp_path):
    pytest.importorskip("setuptools", reason="needs setuptools")
    places = ("--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp"))
    done = built("build_ext", *places, CC="/nonexistent/cc")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    wanted = "error: mapix needs a C compiler, and /nonexistent/cc was not found: install one ("
    assert done.stderr.startswith(wanted)


@pytest.mark.slow
def test_the_source_distribution_has_every_file_of_the_repository(tmp_path):
    pytest.importorskip("setuptools", reason="needs setuptools")
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone: git lists the files")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wanted = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    done = built("egg_info", "-e", str(tmp_path), "sdist", "-d", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {m.name.partition("/")[2] for m in tar.getmembers() if m.isfile()}
    assert wanted - names == set()
    assert not [n for n in names if n.endswith((".so", ".o", ".pyc")) or "/build/" in n]
