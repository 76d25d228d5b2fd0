"""Each program of docs/clients.md runs, where the library that it uses is installed."""

from __future__ import annotations

import ast
import sys

import numpy as np
import pytest

import mapix
from doc_files import FILES, made
from test_docs import ROOT, blocks

PAGE = "docs/clients.md"
PROGRAMS = [b for b in blocks(ROOT / PAGE) if b.language == "python" and not b.mark]
OWN = {"mapix", "numpy", *sys.stdlib_module_names}


def imported(code: str) -> list[str]:
    """Modules that a program imports, in order."""
    found = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


def libraries(code: str) -> list[str]:
    """Optional libraries of a program, with those that mapix imports for it."""
    names = [name for name in imported(code) if name.partition(".")[0] not in OWN]
    for part, name in (("mapix.torch", "torch"), ("mapix.virtualizarr", "virtualizarr")):
        names += [name] * (part in imported(code))
    if "ds.columns" in code or "columns = " in code:
        names.append("pyarrow")
    if "my_images" in code:
        names.append("PIL")
    return names


def title(code: str) -> str:
    return ", ".join(libraries(code)) or "numpy"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: title(block.code))
def test_the_program_runs(program, tmp_path, monkeypatch):
    for library in libraries(program.code):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    for file in FILES:
        if f'"{file}"' in program.code or f'"{file}/' in program.code:
            made(tmp_path, file)
    code = "\n" * (program.line - 1) + program.code
    exec(compile(code, PAGE, "exec"), {"__name__": "program"})


def test_each_program_is_short_and_checks_what_it_gets():
    assert len(PROGRAMS) > 20
    for block in PROGRAMS:
        lines = [line for line in block.code.splitlines() if line.strip()]
        assert len(lines) <= 24, title(block.code)
        assert "assert " in block.code or "matplotlib" in block.code, title(block.code)


def test_the_clients_are_those_that_ci_installs():
    """Nothing of the page is skipped in CI for want of a library."""
    text = (ROOT / ".ci/run").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = {"PIL": "pillow", "sklearn": "scikit-learn", "skimage": "scikit-image"}
    packages |= {"obspec_utils": "virtualizarr", "obstore": "virtualizarr"}
    for block in PROGRAMS:
        for library in libraries(block.code):
            name = library.partition(".")[0]
            name = packages.get(name, name)
            assert f" {name}" in text or f'"{name}' in pyproject, name


def test_views_and_copies_are_those_of_the_table(tmp_path):
    for name in ("MNIST", "my_dataset"):
        ds = mapix.open(made(tmp_path, name))
        file = np.frombuffer(ds.source.view, np.uint8)
        views = ds.images if name == "my_dataset" else ds.view()
        for view in (views, np.asarray(ds[3])):
            assert np.shares_memory(view, file)
        assert not np.shares_memory(np.asarray(ds), file)
