from __future__ import annotations

import json

import numpy as np
import pytest

from conftest import GOLDEN
from mapix.vimh import Parameter, Parameters
from mapix.vimh.info_json import parse_info


def golden(name: str) -> Parameters:
    path = GOLDEN / "vimh" / name / "vimh_dataset_info.json"
    return Parameters.from_info(parse_info(path.read_bytes(), str(path)))


def test_quantising_truncates_as_the_original():
    p = golden("rgb_32x32x3_doc_example")
    assert p["note_number"].quantise(51.5) == 191
    assert p["note_velocity"].quantise(81.0) == 127  # 127.5: truncated, not rounded
    assert p["note_number"].dequantise(191) == pytest.approx(51.498039, abs=1e-6)
    assert p["note_velocity"].dequantise(127) == pytest.approx(80.996078, abs=1e-6)
    codes = p.quantise({"note_number": [49, 50, 52, 99], "note_velocity": 82})
    assert codes["note_number"].tolist() == [0, 0, 255, 255]
    assert codes["note_number"].dtype == np.uint8
    assert p.dequantise({"note_number": [0, 255]})["note_number"].tolist() == [50.0, 52.0]


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("rgb_32x32x3_doc_example", {"note_number": 256, "note_velocity": 256}),
        ("mnist_28x28x1_1p", {"digit": 10}),
        ("vimh-32x32x1_8000Hz_1p0s_20dss_simple_2p", {"note_velocity": 3, "log10_decay_time": 24}),
        ("n0_8x8x1", {}),
        # no step, but a type: the second writer's codes are class numbers already
        ("generator_custom_32x32x3", {"head_0": 10, "head_1": 20, "head_2": 30}),
    ],
)
def test_heads(name, heads):
    assert golden(name).heads == heads


def test_class_numbers_round_half_to_even():
    p = Parameter("x", 0, min=0.0, max=255.0, step=2.0, num_classes=128)
    assert p.class_of([0, 1, 2, 3, 5, 255]).tolist() == [0, 0, 1, 2, 2, 127]
    digit = golden("mnist_28x28x1_1p")["digit"]
    assert digit.class_of(digit.quantise(np.arange(10))).tolist() == list(range(10))
    direct = golden("generator_custom_32x32x3")["head_1"]
    assert direct.class_of([0, 7, 19, 200]).tolist() == [0, 7, 19, 19]
    assert direct.dequantise(7) == 7
    assert direct.quantise(7) == 7


def test_fixed_parameters_are_in_no_record():
    p = golden("vimh-32x32x1_8000Hz_1p0s_20dss_simple_2p")
    assert p.names == ["note_velocity", "log10_decay_time"]
    fixed = p.fixed["note_number"]
    assert fixed.fixed
    assert (fixed.min, fixed.max) == (43.35, 43.35)
    assert "note_number" not in p


def test_missing_keys_are_filled_in():
    p = Parameters.from_info(
        {
            "parameter_names": ["bare", "stepless", "counted", "flat"],
            "parameter_mappings": {
                "stepless": {"min": 0, "max": 1},
                "counted": {"min": 0, "max": 1, "num_classes": 7},
                "flat": {"min": 3, "max": 3, "step": 0},
            },
            "fixed_parameters": {"gain": {"value": 2.5}},
        }
    )
    assert p.heads == {"bare": 256, "stepless": 256, "counted": 7, "flat": 1}
    assert p["bare"].dequantise(17) == 17
    assert p["flat"].dequantise(200) == 3
    assert p["flat"].quantise([3, 4]).tolist() == [0, 0]
    assert p["flat"].class_of(255) == 0
    assert p.fixed["gain"].min == 2.5


def test_ids_without_a_name():
    p = Parameters.from_info({"parameter_names": ["a"]}).with_ids([0, 3, 200])
    assert p.names == ["a", "param_3", "param_200"]
    columns = p.columns()
    assert columns[[0, 3, 200, 1]].tolist() == [0, 1, 2, -1]
    assert p.by_id(3).name == "param_3"
    assert p.by_id(77).name == "param_77"
    assert "param_3" in repr(p)


def test_tables_are_what_the_functions_say():
    p = golden("vimh-32x32x1_8000Hz_1p0s_20dss_simple_2p")
    codes = np.arange(256)
    for row, one in enumerate(p.values()):
        np.testing.assert_allclose(p.table("physical")[row], one.dequantise(codes), rtol=1e-6)
        assert (p.table("class")[row] == one.class_of(codes)).all()
        assert p.table("class")[row].max() == one.num_classes - 1
        np.testing.assert_allclose(p.table("normalised")[row], codes / 255, rtol=1e-6)
        assert (p.table("raw")[row] == codes).all()


def test_json_round_trip_of_an_info_is_untouched():
    path = GOLDEN / "vimh" / "mnist_28x28x1_1p" / "vimh_dataset_info.json"
    assert parse_info(path.read_bytes(), "x") == json.loads(path.read_text())
