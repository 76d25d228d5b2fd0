"""Print the results of compare.py as a page: python benchmarks/tables.py RESULT.json > PAGE.md.

First the goals that were missed, then a table for each measure: median, best round, ratio to the
reference, and goals.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from comparison.report import DIFFERENCES, RATE, shown

UNITS = {"us": "µs", RATE: "thousand/s"}
DRAWN = {  # by plots.py, whose pictures lie beside the page
    "open": "Opening a file",
    "get": "A random record",
    "batch": "A batch",
    "cold": "Random records of a cold disk",
}


def missed(data: dict[str, Any]) -> list[str]:
    """Return how many goals were met, and a table of the others."""
    judged = [(m, g) for m in data["measures"] for g in m["goals"] if g["found"] is not None]
    lines = [f"{sum(g['met'] for _, g in judged)} of {len(judged)} goals were met. The others:", ""]
    lines += ["| measure | who | goal | found |", "|---|---|---|---|"]
    for measure, goal in judged:
        if not goal["met"]:
            who, what = goal["case"], goal["goal"]
            lines.append(f"| {measure['measure']} | {who} | {what} | {goal['found']:,.2f} |")
    return lines


def _remarks(measure: dict[str, Any], name: str) -> str:
    """Return the goals of a case, what was found, and its note."""
    found = [
        f"{goal['goal']}: {goal['found']:,.2f}, {'met' if goal['met'] else '**not met**'}"
        for goal in measure["goals"]
        if goal["case"] == name and goal["found"] is not None
    ]
    return "; ".join([*found, measure["cases"][name]["note"]]).rstrip("; ")


def table(measure: dict[str, Any]) -> list[str]:
    """Return one measure as a table, and what was left out of it."""
    unit, reference = measure["unit_shown"], measure["reference"]
    times = "difference from" if unit in DIFFERENCES else "times"
    lines = [
        f"### {measure['measure'][0].upper()}{measure['measure'][1:]}",
        "",
        f"| {UNITS.get(unit, unit)} | median | best | {times} {reference} | |",
        "|---|---|---|---|---|",
    ]
    for name, case in measure["cases"].items():
        ratio = ""
        if unit not in DIFFERENCES and case["ratio"]:
            ratio = f"{1 / case['ratio'] if unit == RATE else case['ratio']:.2f}"
        elif unit in DIFFERENCES and measure["cases"].get(reference):
            ratio = shown(case["median"] - measure["cases"][reference]["median"], unit)
        figures = f"{shown(case['median'], unit)} | {shown(case['best'], unit)}"
        lines.append(f"| {name} | {figures} | {ratio} | {_remarks(measure, name)} |")
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
        "`python benchmarks/tables.py` has printed this page.",
        "",
        "## Goals that were not met",
        "",
        *missed(data),
        "",
        "## Pictures",
        "",
        "Bars are multiples of one time: shorter is faster. mapix is orange.",
        "",
        *(line for name, what in DRAWN.items() for line in (f"![{what}](pictures/{name}.svg)", "")),
        "## Tables",
        "",
    ]
    for measure in data["measures"]:
        lines += table(measure)
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
