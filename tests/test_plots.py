"""benchmarks/plots.py draws what compare.py wrote."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

PLOTS = Path(__file__).parent.parent / "benchmarks" / "plots.py"


def test_a_picture_for_each_kind_of_measure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'mapix[cli]'")
    cases = {"mapix": {"ratio": 0.5}, "another": {"ratio": 1.0}}
    names = ["get, one", "get: two", "batch of 256"]
    common = {"unit_shown": "ns", "reference": "another", "cases": cases}
    facts = {"cpu": "a", "load": "0", "python": "3"}
    data = {"facts": facts, "measures": [{"measure": name, **common} for name in names]}
    (tmp_path / "r.json").write_text(json.dumps(data))
    module = runpy.run_path(str(PLOTS))
    found = {name: len(measures) for name, measures in module["groups"](data).items()}
    assert found == {"get": 2, "batch": 1}
    module["main"](str(tmp_path / "r.json"), str(tmp_path))
    assert all((tmp_path / f"{name}.svg").read_text().rstrip().endswith("</svg>") for name in found)
