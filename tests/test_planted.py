"""The bugs in tests/planted still fit the code, so that somebody who tries them tries all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from planted import run

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("plant", run.plants([]), ids=lambda plant: plant.name)
def test_it_applies_and_names_tests_that_are_there(plant: run.Plant) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git, which applies patches")
    assert plant.what.endswith(".")
    for test in plant.tests:
        path, _, name = test.partition("[")[0].partition("::")
        assert (ROOT / path).is_file(), test
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test
    assert run.apply(ROOT, plant, "--check"), f"{plant.path} does not fit the code any more"
