"""Draw the results of compare.py: python benchmarks/plots.py RESULT.json FOLDER.

A picture NAME.svg for each kind of measure ("get", "batch", ...), with a bar for each case: its
median as a multiple of the reference's.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

OURS, OTHERS = "#d1602f", "#3b6fb6"
MOST_LINEAR = 30  # larger ratios would hide the smaller ones


def groups(data: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the measures by the first word of their names."""
    found: dict[str, list[dict[str, Any]]] = {}
    for measure in data["measures"]:
        found.setdefault(re.split(r"\W", measure["measure"])[0], []).append(measure)
    return found


def draw(measures: list[dict[str, Any]], path: Path, facts: dict[str, Any]) -> None:
    """Draw measures below one another; the title states the unit, a time or a rate."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"  # texts, not outlines of each letter
    matplotlib.rcParams["svg.hashsalt"] = "mapix"  # the same ids in each run
    heights = [1 + len(measure["cases"]) for measure in measures]
    drawing = Figure(figsize=(9, 0.28 * sum(heights) + 0.6), layout="constrained")
    axes = drawing.subplots(len(measures), 1, squeeze=False, height_ratios=heights)[:, 0]
    for one, measure in zip(axes, measures, strict=True):
        cases = measure["cases"]
        ratios = [case["ratio"] for case in cases.values()]
        colours = [OURS if name.startswith("mapix") else OTHERS for name in cases]
        one.set_xscale("log" if max(ratios) > MOST_LINEAR else "linear")
        bars = one.barh(range(len(cases)), ratios, color=colours)
        one.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3, fontsize=7)
        one.set_yticks(range(len(cases)), cases, fontsize=8)
        one.invert_yaxis()
        one.margins(x=0.1)
        title = f"{measure['measure']} ({measure['unit_shown']}); 1 is {measure['reference']}"
        one.set_title(textwrap.fill(title, 100), loc="left", fontsize=9)
        one.tick_params(axis="x", labelsize=7)
    machine = f"{facts['cpu']}; load {facts['load']}; Python {facts['python']}"
    drawing.supxlabel(f"median ratio within rounds. {machine}", fontsize=7)
    drawing.savefig(path, format="svg", metadata={"Date": None})


def main(source: str, folder: str) -> None:
    """Draw all measures of a result."""
    data = json.loads(Path(source).read_text(encoding="utf-8"))
    for name, measures in groups(data).items():
        path = Path(folder) / f"{name}.svg"
        draw(measures, path, data["facts"])
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
