"""Print the results of compare.py as a page: python benchmarks/tables.py RESULT.json > PAGE.md.

First the goals, then a table for each measure: median, best round, and the ratio to the reference.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SCALES = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0, "MB": 1e-6, "bytes": 1.0}
UNITS = {"us": "µs", "k/s": "thousand/s"}
DIFFERENCES = ("MB", "bytes")


def _shown(value: float, unit: str) -> str:
    value = 1e-3 / value if unit == "k/s" else value * SCALES[unit]
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def goals(data: dict[str, Any]) -> list[str]:
    """Return the table of goals: what was to be reached, and what was found."""
    lines = ["| measure | who | goal | found | |", "|---|---|---|---|---|"]
    for measure in data["measures"]:
        for goal in measure["goals"]:
            if goal["found"] is None:
                continue
            met = "met" if goal["met"] else "**not met**"
            name = measure["measure"]
            row = (name, goal["case"], goal["goal"], f"{goal['found']:,.2f}", met)
            lines.append(f"| {' | '.join(row)} |")
    return lines


def table(measure: dict[str, Any]) -> list[str]:
    """Return one measure as a table, and what was left out of it."""
    unit, reference = measure["unit_shown"], measure["reference"]
    shown = UNITS.get(unit, unit)
    times = "difference from" if unit in DIFFERENCES else "times"
    lines = [
        f"### {measure['measure'][0].upper()}{measure['measure'][1:]}",
        "",
        f"| {shown} | median | best | {times} {reference} | |",
        "|---|---|---|---|---|",
    ]
    for name, case in measure["cases"].items():
        ratio = ""
        if unit not in DIFFERENCES and case["ratio"]:
            ratio = f"{1 / case['ratio'] if unit == 'k/s' else case['ratio']:.2f}"
        elif unit in DIFFERENCES and measure["cases"].get(reference):
            ratio = _shown(case["median"] - measure["cases"][reference]["median"], unit)
        figures = f"{_shown(case['median'], unit)} | {_shown(case['best'], unit)}"
        lines.append(f"| {name} | {figures} | {ratio} | {case['note']} |")
    left_out = [f"{name} ({why})" for name, why in measure["left_out"].items()]
    if left_out:
        lines += ["", f"Left out: {', '.join(left_out)}."]
    return [*lines, ""]


def page(data: dict[str, Any]) -> str:
    """Return the whole page."""
    facts = data["facts"]
    lines = [
        "# A complete run",
        "",
        f"{facts['cpu']}; {facts['memory']};",
        f"{facts['system']}; load at the beginning {facts['load']}. Python {facts['python']};",
        f"{facts['packages']}.",
        "",
        "Medians of rounds. In a round each case runs once, in random order; ratios are taken in",
        "each round. [Benchmarks](benchmarks.md) explains the goals.",
        "",
        "## Goals",
        "",
        *goals(data),
        "",
        "## Tables",
        "",
    ]
    for measure in data["measures"]:
        lines += table(measure)
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
