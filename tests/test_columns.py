"""Columns made of Python values, and their names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapix.columns import Column, column_of, identifier
from mapix.dataset import FileDataset
from mapix.report import Report
from mapix.source import Source


@pytest.mark.parametrize(
    ("given", "dtype", "values", "present"),
    [
        ([3, 4], "int64", [3, 4], [True, True]),
        ([3, None, -4], "int64", [3, 0, -4], [True, False, True]),
        ([3, 0.5], "float64", [3.0, 0.5], [True, True]),
        ([1 << 63, 1], "float64", [2.0**63, 1.0], [True, True]),
        ([10**400, 1], "int64", [0, 1], [False, True]),
        ([True, False, {}], "bool", [True, False, False], [True, True, False]),
        (["a", None], "object", ["a", ""], [True, False]),
        ([["a"], [], ["b", "c"]], "object", [("a",), (), ("b", "c")], [True] * 3),
        ([[1, 2.5], None], "object", [(1, 2.5), ""], [True, False]),
        ([1, "1"], "object", ["1", "1"], [True, True]),
        ([True, 1], "object", ["True", "1"], [True, True]),
        ([["a"], [1]], "object", ["['a']", "[1]"], [True, True]),
        ([["a", 1], {"b": 1}], "int64", [0, 0], [False, False]),
        ([np.int64(7), np.float32(0.5)], "float64", [7.0, 0.5], [True, True]),
        ([], "int64", [], []),
    ],
)
def test_values_become_a_column(given, dtype, values, present):
    column = column_of("x", given, unit="m")
    assert column.name == "x"
    assert column.unit == "m"
    assert column.values.dtype == dtype
    assert column.values.tolist() == values
    assert column.present.tolist() == present


def test_values_of_several_kinds_can_be_sorted():
    column = column_of("x", [2, "b", None, 1.5, ["z"]])
    assert [column.values[k] for k in column.sort_keys()[:4]] == sorted(["2", "b", "1.5", "['z']"])
    assert column.sort_keys()[-1] == 2
    assert math.isnan(column_of("x", [None, 1]).filled()[0])


def test_names_for_conditions():
    assert identifier("image/class/label") == "image_class_label"
    assert identifier("3d") == "_3d"
    assert identifier("class") == "class_"
    assert identifier("a/b", ["a_b"]) == "a_b_"
    assert identifier("") == "_"
    assert identifier("größe") == "größe"


class Digits(FileDataset[np.ndarray]):
    """Bytes of a file, each an image of one pixel; its label is the number, or missing."""

    FAMILY = "digits"

    def _record(self, row: int) -> np.ndarray:
        return np.ndarray((1, 1), np.uint8, self.source.view, row)

    def _column_names(self) -> tuple[str, ...]:
        return ("label",)

    def _label_names(self) -> tuple[str, ...]:
        return ("label",)

    def _column(self, name: str) -> Column:
        text = bytes(self.source.view)
        values = [int(chr(byte)) if chr(byte).isdigit() else None for byte in text]
        return column_of(name, values).of(self._rows)

    def verify(self, progress: Any = None) -> Report:
        return Report(self.path)


def test_missing_class_numbers_of_a_batch_are_minus_one(tmp_path: Path) -> None:
    (tmp_path / "digits").write_bytes(b"3x70")
    ds = Digits(Source(tmp_path / "digits"), 4)
    for labels in ("raw", "class"):
        batch = ds[1:].batch([0, 1, 2], labels=labels)
        assert batch.labels.tolist() == [[-1], [7], [0]]
        assert batch.labels.dtype == np.int64
        assert batch.present.tolist() == [[False], [True], [True]]
    assert ds.where("label >= 0").rows.tolist() == [0, 2, 3]
    assert ds.columns["label"].of(None) is ds.columns["label"]
    assert ds.columns["label"].of(range(3, 0, -2)).filled()[0] == 0
