"""A line or a picture of 1 MiB costs at most a second of CPU and 64 MB, whatever is in it.

Pixels of a picture within Pillow's limit are not meant: they are what was asked for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")

SECONDS, NBYTES = 1.0, 64_000_000


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    program = Path(__file__).with_name("bombs_folder.py")
    folder = tmp_path_factory.mktemp("bombs")
    done = subprocess.run(
        [sys.executable, str(program), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_mebibyte_costs_a_second_and_64_megabytes(costs):
    dear = {k: v for k, v in costs.items() if v[0] > SECONDS or v[1] > NBYTES}
    assert not dear


@pytest.mark.slow
def test_none_is_the_end_of_the_program(costs):
    assert not [k for k, v in costs.items() if v[2] == "it died"]
    errors = {k: v[2] for k, v in costs.items() if v[2] != "done"}
    ours = ("FormatError", "LimitError")
    assert not {k: text for k, text in errors.items() if not text.startswith(ours)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("line: lists", "LimitError: .*lists and objects"),
        ("line: one number", "FormatError: .*too many digits"),
        ("line: a key twice", "FormatError: .*the key '1869f' occurs twice"),
        ("picture: PNG of 2.5 gigapixels", "LimitError: .*2500000000 pixels"),
        ("picture: PNG with a profile", "FormatError: .*cannot be decoded"),
        ("picture: GIF of 4 gigapixels", "LimitError: .*4294836225 pixels"),
        ("picture: BMP of 3.6 gigapixels", "LimitError: .*3600000000 pixels"),
    ],
)
def test_errors_are_clear(costs, case, text):
    import re

    assert re.match(text, costs[f"{case}: read"][2])
