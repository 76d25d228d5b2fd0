"""Tables: what was measured, against what, which goal it had, and whether that was met."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comparison.rounds import Case, Taken, interleave

SCALES = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0, "MB": 1e-6, "bytes": 1.0}
RATE = "k/s"  # thousands a second: shown as a rate, kept as seconds per unit like the rest
DIFFERENCES = ("MB", "bytes")  # compared by differences, not by ratios


def shown(value: float, unit: str) -> str:
    """A result in the unit of its table."""
    value = 1e-3 / value if unit == RATE else value * SCALES[unit]
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that a case has to reach.

    Attributes
    ----------
    case : str
        Who has to.
    kind : str
        ``"at most"``: times the other's time.  ``"faster"``: that many times as fast.
        ``"share"``: that share of the other's rate, or more.  ``"below"``: in the unit of the
        table, the other not looked at.  ``"over"``: above the other by no more than that.
    limit : float
        The number.
    against : str
        The other.
    """

    case: str
    kind: str
    limit: float
    against: str = ""

    def text(self, unit: str) -> str:
        """In words."""
        return {
            "at most": f"<= {self.limit:g} x {self.against}",
            "faster": f">= {self.limit:g} x as fast as {self.against}",
            "share": f">= {self.limit:g} of {self.against}",
            "below": f"<= {self.limit:g} {unit}",
            "over": f"<= {self.against} + {self.limit:g} {unit}",
        }[self.kind]

    def found(self, taken: Taken, unit: str) -> float | None:
        """What was reached; None where a side is missing."""
        values = taken.values
        if not values.get(self.case) or (self.against and not values.get(self.against)):
            return None
        if self.kind == "below":
            return taken.median(self.case) * SCALES[unit]
        if self.kind == "over":
            return taken.difference(self.case, self.against) * SCALES[unit]
        ratio = taken.ratio(self.case, self.against)
        return ratio if self.kind == "at most" else 1 / ratio

    def met(self, found: float) -> bool:
        """Whether that is enough, to the two digits that are printed."""
        found = round(found, 2)
        return found >= self.limit if self.kind in ("faster", "share") else found <= self.limit


@dataclass(slots=True)
class Measure:
    """One table."""

    title: str
    unit: str
    reference: str
    goals: list[Goal]
    taken: Taken = field(default_factory=Taken)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def shown(self, value: float) -> str:
        """A result in the unit of the table."""
        return shown(value, self.unit)

    def _ratio(self, name: str) -> str:
        if not self.taken.values.get(self.reference):
            return ""
        if self.unit in DIFFERENCES:
            return f"{self.taken.difference(name, self.reference) * SCALES[self.unit]:+.2f}"
        ratio = self.taken.ratio(name, self.reference)
        return f"{1 / ratio if self.unit == RATE else ratio:.2f}"

    def lines(self) -> list[str]:
        """The table as aligned text."""
        rounds = max((len(v) for v in self.taken.values.values()), default=0)
        rate = "rate of" if self.unit == RATE else "time of"
        rate = "beside" if self.unit in DIFFERENCES else rate
        out = [f"{self.title}   [{rounds} rounds; x: {rate} {self.reference}]"]
        width = max([len(n) for n in self.taken.values] + [24])
        head = f"  {'':{width}} {'median':>9} {'best':>9} {'':4} {'x':>7}   goal"
        out.append(head)
        for name, values in self.taken.values.items():
            if not values:
                continue
            line = f"  {name:{width}} {self.shown(self.taken.median(name)):>9}"
            line += f" {self.shown(min(values)):>9} {self.unit:4} {self._ratio(name):>7}"
            goals = [self._judged(g) for g in self.goals if g.case == name]
            note = self.notes.get(name, "")
            out.append(
                f"{line}   {goals[0] if goals else ''}{'  ' + note if note else ''}".rstrip()
            )
            out += [f"{'':{len(line)}}   {goal}" for goal in goals[1:]]
        for name, why in {**self.left_out, **self.taken.failed}.items():
            out.append(f"  {name:{width}} LEFT OUT: {why}")
        return out

    def _judged(self, goal: Goal) -> str:
        found = goal.found(self.taken, self.unit)
        if found is None:
            return f"{goal.text(self.unit):44} not measured"
        met = "met" if goal.met(found) else "NOT MET"
        return f"{goal.text(self.unit):44} {found:8.2f}  {met}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: seconds per unit (or bytes), whatever the text shows."""
        goals = []
        for g in self.goals:
            found = g.found(self.taken, self.unit)
            met = None if found is None else g.met(found)
            said = {"case": g.case, "goal": g.text(self.unit), "limit": g.limit, "kind": g.kind}
            goals.append({**said, "against": g.against, "found": found, "met": met})
        known = bool(self.taken.values.get(self.reference))
        cases = {
            name: {
                "median": self.taken.median(name),
                "best": min(values),
                "ratio": self.taken.ratio(name, self.reference) if known else None,
                "values": values,
                "note": self.notes.get(name, ""),
            }
            for name, values in self.taken.values.items()
            if values
        }
        left_out = {**self.left_out, **self.taken.failed}
        return {
            "measure": self.title,
            "unit_shown": self.unit,
            "reference": self.reference,
            "cases": cases,
            "goals": goals,
            "left_out": left_out,
        }


class Report:
    """All tables of a run."""

    def __init__(self, rounds: int, facts: dict[str, str], show: Callable[[str], None]) -> None:
        self.rounds = rounds
        self.facts = facts
        self.show = show
        self.measures: list[Measure] = []

    def table(
        self,
        title: str,
        unit: str,
        reference: str,
        cases: list[Case],
        goals: Sequence[Goal] = (),
        left_out: dict[str, str] | None = None,
        rounds: int | None = None,
    ) -> Measure:
        """Measure the cases, and show the table, also when interrupted."""
        measure = Measure(title, unit, reference, list(goals), left_out=left_out or {})
        measure.notes = {c.name: c.note for c in cases}
        self.measures.append(measure)
        try:
            interleave(title, cases, rounds or self.rounds, measure.taken)
        finally:
            # an interrupted round counts for nobody
            whole = min(map(len, measure.taken.values.values()), default=0)
            for values in measure.taken.values.values():
                del values[whole:]
            if whole or measure.left_out:
                self.show("\n".join(["", *measure.lines()]))
        return measure

    def summary(self) -> list[str]:
        """All goals that were judged."""
        met, missed, unknown = 0, [], 0
        for m in self.measures:
            for g in m.goals:
                found = g.found(m.taken, m.unit)
                if found is None:
                    unknown += 1
                elif g.met(found):
                    met += 1
                else:
                    missed.append(f"  {m.title}: {g.case}: {g.text(m.unit)}: {found:.2f}")
        out = [f"{met} goals met, {len(missed)} not met, {unknown} not measured"]
        return out + missed

    def own_failures(self) -> list[str]:
        """Return the cases of mapix itself that raised."""
        return [
            f"{measure.title}: {name}: {why}"
            for measure in self.measures
            for name, why in measure.taken.failed.items()
            if name.startswith(("mapix", "ds.batch"))
        ]

    def save(self, path: Path) -> None:
        """Everything as JSON."""
        measures = [m.as_dict() for m in self.measures]
        data = {"facts": self.facts, "rounds": self.rounds, "measures": measures}
        path.write_text(json.dumps(data, indent=1) + "\n")
