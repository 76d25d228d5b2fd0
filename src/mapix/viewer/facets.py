"""Routes of the facets: how the values of a column are distributed, of all and of some records."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.viewer.query import parts
from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View

__all__ = ["ROUTES", "Facet"]

BINS = 48
MOST_SINGLE = 48  # whole numbers that have a bin each
MOST_VALUES = 200  # texts that are listed
MISSING = 65535


class Facet:
    """The distribution of one column.

    Parameters
    ----------
    column : mapix.columns.Column
        The column of all records.

    Attributes
    ----------
    kind : {"numbers", "values", "members"}
        Bins of numbers; how often each text occurs; or each member of tuples.
    about : dict
        What the page needs besides the counts.
    """

    def __init__(self, column: Any) -> None:
        self.about: dict[str, Any] = {"unit": column.unit, "description": column.description}
        present = np.asarray(column.present)
        self.about["missing"] = len(present) - int(np.count_nonzero(present))
        if column.numeric:
            self._of_numbers(column, present)
        else:
            self._of_objects(column, present)

    def _of_numbers(self, column: Any, present: NDArray[np.bool_]) -> None:
        self.kind = "numbers"
        values = column.values
        usable = present & np.isfinite(values) if values.dtype.kind == "f" else present
        some = values if usable.all() else values[usable]
        low, high = (some.min().item(), some.max().item()) if len(some) else (0, 0)
        whole = values.dtype.kind in "biu"
        single = whole and int(high) - int(low) < MOST_SINGLE
        n = int(high) - int(low) + 1 if single else BINS
        # edges of whole numbers lie between them
        begin, end = (low - 0.5, high + 0.5) if single else (float(low), float(high))
        if not single and end <= begin:
            begin, end = begin - 0.5, end + 0.5
        edges = np.linspace(begin, end, n + 1)
        self.bins = np.full(len(values), MISSING, np.uint16)
        numbers = some.astype(np.float64)
        bins = np.clip((numbers - begin) * (n / (end - begin)), 0, n - 1)
        self.bins[usable] = bins.astype(np.uint16)
        self.nbins = n
        self.about |= {
            "low": low,
            "high": high,
            "edges": edges,
            "single": single,
            "boolean": values.dtype.kind == "b",
        }

    def _of_objects(self, column: Any, present: NDArray[np.bool_]) -> None:
        values = column.values
        first = next((v for v in values[present][:1].tolist()), "")
        self.kind = "members" if isinstance(first, tuple) else "values"
        counts: Counter[Any] = Counter()
        if self.kind == "values":
            counts.update(values[present].tolist())
        else:
            for members in values[present].tolist():
                counts.update(set(members))
        listed = [value for value, _ in counts.most_common(MOST_VALUES)]
        numbers = {value: i for i, value in enumerate(listed)}
        self.nbins = len(listed)
        self.about |= {"values": listed, "distinct": len(counts)}
        if self.kind == "values":
            self.bins = np.full(len(values), MISSING, np.uint16)
            self.bins[present] = [numbers.get(v, MISSING) for v in values[present].tolist()]
            return
        # of each record the numbers of its members, one after the other
        each = [[numbers[m] for m in set(v) if m in numbers] for v in values.tolist()]
        self.sizes = np.array([len(e) for e in each], np.int64)
        self.bins = np.array([i for e in each for i in e], np.uint16)

    def counts(self, mask: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return how many records of the mask are in each bin, int64 (bins,)."""
        bins = self.bins
        if mask is not None:
            bins = bins[np.repeat(mask, self.sizes) if self.kind == "members" else mask]
        # without a value: in a bin of its own, which is left out
        return np.bincount(np.minimum(bins, self.nbins), minlength=self.nbins + 1)[: self.nbins]


def facet(view: View, request: Request) -> Reply:
    """Return the distribution of a column: of all records, and of those that fulfil a condition.

    The part of the condition that is a brush of this column is left out: a brush shows what it
    leaves out, too.
    """
    name = request.text("column")
    if name not in view.ds._column_names():
        raise RefusedError(400, f"there is no column {name!r}")
    found: Facet = view.cached(("facet", name), lambda: Facet(view.ds.columns[name]))
    total = view.cached(("total", name), found.counts)
    others = [
        part["text"]
        for part in parts(request.text("q"), view.ds._column_names())
        if part.get("column") != name
    ]
    hits = total
    if others:
        order = view.order(" and ".join(others))
        mask = np.zeros(len(view.ds), np.bool_)
        mask[order] = True
        hits = found.counts(mask)
    return Reply.json(
        {"column": name, "kind": found.kind, "total": total, "hits": hits} | found.about
    )


ROUTES = {"facet": facet}
