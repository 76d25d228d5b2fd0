"""Columns made of Python values, and their names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mapix.columns import column_of, identifier


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
