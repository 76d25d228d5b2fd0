"""VisualRBM's models: what the original takes and refuses, and what it writes."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapix
import slow_visualrbm
from conftest import GOLDEN
from mapix.registry import Candidate
from mapix.visualrbm import (
    AutoEncoder,
    Layer,
    MultilayerPerceptron,
    RestrictedBoltzmannMachine,
    opening,
    stack,
    write,
)

FOLDER = GOLDEN / "visualrbm"
TOLD = json.loads((FOLDER / "manifest.json").read_text())
MODELS = TOLD["model"]
KINDS = {2: RestrictedBoltzmannMachine, 3: AutoEncoder, 1: MultilayerPerceptron}
MORE = {  # what is opened here, and refused by the original
    *("rbm_extra_key_end", "rbm_type_last", "rbm_unicode_escape_in_key", "rbm_python_json_dumps")
}
ODD = {"rbm_float_count", "rbm_trailing_garbage"}  # with a warning


def quietly(path: Path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mapix.MapixWarning)
        return mapix.open(path, **options)


def listed(model) -> list:
    """A model as the slow reader tells it."""
    kind = model.kind.encode()
    if isinstance(model, MultilayerPerceptron):
        return [kind] + [
            [la.inputs, la.outputs, la.function.encode(), la.biases.tolist(), la.weights.tolist()]
            for la in model
        ]
    biases = [model.visible_biases.tolist(), model.hidden_biases.tolist()]
    if isinstance(model, AutoEncoder):
        biases = biases[::-1]
    counts = [model.visible_count, model.hidden_count]
    types = [model.visible_type.encode(), model.hidden_type.encode()]
    return [kind, *counts, *types, *biases, model.weights.tolist()]


# --- the originals' files -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("strict", [False, True])
def test_goldens(name, strict):
    told = MODELS[name]
    path = FOLDER / "model" / f"{name}.json"
    taken = told["original"].startswith("ACCEPT") or (not strict and name in MORE)
    assert (slow_visualrbm.read(path.read_bytes()) is not None) == ("ACCEPT" in told["original"])
    if not taken:
        with pytest.raises(mapix.FormatError, match=name):
            mapix.open(path, strict=strict)
        return
    model = quietly(path, strict=strict)
    if "ACCEPT" in told["original"]:
        assert isinstance(model, KINDS[int(told["original"][-1])])
        assert model.kind == told["type"]
        assert listed(model) == slow_visualrbm.read(path.read_bytes())
    if "source_weights_f32_sha256" in told:
        assert model.weights.dtype == np.float32
        found = hashlib.sha256(model.weights.tobytes()).hexdigest()
        assert found == told["source_weights_f32_sha256"]
    if "layers_after_original" in told:
        assert len(model) == told["layers_after_original"]


@pytest.mark.parametrize("name", sorted(ODD))
@pytest.mark.parametrize("strict", [False, True])
def test_odd_goldens_are_told(name, strict):
    if strict and name == "rbm_trailing_garbage":
        return  # what the original does not look at
    with pytest.warns(mapix.MapixWarning, match="5.9 is read as 5|7 bytes after"):
        mapix.open(FOLDER / "model" / f"{name}.json", strict=strict)


def test_messages_name_the_place():
    for name, message in (
        ("rbm_lowercase_enum", "VisibleType: .*got 'sigmoid'; did you mean Sigmoid"),
        ("rbm_unknown_enum", "at byte 106: VisibleType: .*'Tanh'"),
        ("rbm_negative_visible", "VisibleCount: 1 to 4294967295 expected, got -5"),
        ("rbm_zero_visible", "VisibleCount: 1 to"),
        ("rbm_plus_sign", r"VisibleBiases\[0\]: a number or \] expected, got '\+1.0'"),
        ("rbm_long_bias", "VisibleBiases: 5 numbers expected, more found"),
        ("rbm_weights_transposed", r"Weights\[0\]: 5 numbers expected, 3 found"),
        ("rbm_schedule_alias", "in a model it is RestrictedBoltzmannMachine"),
    ):
        with pytest.raises(mapix.FormatError, match=message) as e:
            mapix.open(FOLDER / "model" / f"{name}.json")
        assert e.value.at is not None


REWRITTEN = [k for k, v in MODELS.items() if "rewritten" in v]


@pytest.mark.parametrize("name", REWRITTEN)
def test_written_as_the_original_writes(name, tmp_path):
    model = quietly(FOLDER / "model" / f"{name}.json", strict=True)
    model.write(tmp_path / "x.json", compat="visualrbm")
    theirs = FOLDER / MODELS[name]["rewritten"]
    assert (tmp_path / "x.json").read_bytes() == theirs.read_bytes()
    if "rewritten_weights_f32_sha256" in MODELS[name]:
        found = hashlib.sha256(mapix.open(theirs).weights.tobytes()).hexdigest()
        assert found == MODELS[name]["rewritten_weights_f32_sha256"]


@pytest.mark.parametrize("name", REWRITTEN)
def test_written_and_read_again(name, tmp_path):
    model = quietly(FOLDER / "model" / f"{name}.json")
    model.write(tmp_path / "x.json")
    assert mapix.open(tmp_path / "x.json", strict=True) == model
    assert slow_visualrbm.read((tmp_path / "x.json").read_bytes()) == listed(model)
    with pytest.raises(FileExistsError):
        model.write(tmp_path / "x.json")
    model.write(tmp_path / "x.json", replace=True)


@pytest.mark.parametrize("function", ["Linear", "RectifiedLinear", "Sigmoid", "Softmax"])
def test_hidden_beside_calchidden(function):
    model = mapix.open(FOLDER / "tools" / f"rbm_8x4_{function}.json")
    rows = mapix.open(FOLDER / "tools" / "in_le_f32_6x8.idx").view()
    theirs = mapix.open(FOLDER / "tools" / f"calchidden_{function}.idx").view()
    assert (model.hidden(rows, approx="visualrbm") == theirs).all()
    exact = rows.astype(np.float64) @ model.weights.astype(np.float64).T + model.hidden_biases
    exact = {
        "Linear": lambda x: x,
        "RectifiedLinear": lambda x: np.where(x > 0, x, 0),
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Softmax": lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
    }[function](exact)
    found = model.hidden(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(found, theirs, atol=0.021)
    np.testing.assert_array_equal(model.hidden(rows[2]), model.hidden(rows[2:3])[0])


def test_stacks_beside_buildmlp(tmp_path):
    rbm = mapix.open(FOLDER / "tools" / "rbm_8x4_Sigmoid.json")
    encoder = mapix.open(FOLDER / "tools" / "ae_8x4.json")
    theirs = FOLDER / "tools" / "mlp_rbm_then_aeT.json"
    whole = stack(rbm, encoder.transposed())
    whole.write(tmp_path / "a", compat="visualrbm")
    assert (tmp_path / "a").read_bytes() == theirs.read_bytes()
    again = mapix.open(theirs)
    stack(again[1:2]).write(tmp_path / "b", compat="visualrbm")
    only = FOLDER / "tools" / "mlp_layer1_only.json"
    assert (tmp_path / "b").read_bytes() == only.read_bytes()
    rows = mapix.open(FOLDER / "tools" / "in_le_f32_6x8.idx").view()
    calculated = mapix.open(FOLDER / "tools" / "calchidden_mlp.idx").view()
    assert (again.hidden(rows, approx="visualrbm") == calculated).all()
    np.testing.assert_allclose(
        encoder.reconstruct(rows), encoder.visible(encoder.hidden(rows)), rtol=1e-6
    )
    assert again.inputs == again.outputs == 8
    for bad in ((rbm, encoder), (again[0], again[0])):
        with pytest.raises(ValueError, match="layer 0 has 4 outputs, layer 1 8 inputs"):
            stack(*bad)
    with pytest.raises(ValueError, match="no layers"):
        stack()
    with pytest.raises(TypeError, match="models and layers"):
        stack([1])


# --- which texts are taken ------------------------------------------------------------------------

SMALL = (
    b'{"Type":"RestrictedBoltzmannMachine","VisibleCount":2,"HiddenCount":1,"VisibleType":'
    b'"Sigmoid","HiddenType":"Linear","VisibleBiases":[1,-0.5],"HiddenBiases":[.0],'
    b'"Weights":[[2.5e1,3]]}'
).replace(b"[.0]", b"[0.0]")
LAYERS = (
    b'{"Type" : "MultilayerPerceptron","Layers":[{"Inputs":1,"Outputs":2,"Function":"Sigmoid",'
    b'"Biases":[0,1],"Weights":[[1],[2.0e-1]]}, {"Inputs":2,"Outputs":1,"Function":"Softmax",'
    b'"Biases":[7.25],"Weights":[[1,-1]]}]}'
)


def both(path: Path, data: bytes) -> bool:
    """Whether strict takes it, which is what the slow reader takes; then so does the default."""
    path.write_bytes(data)
    expected = slow_visualrbm.read(data)
    found = complaint = None
    try:
        found = listed(quietly(path, strict=True, kind="model", format="visualrbm"))
    except mapix.MapixError as e:
        complaint = str(e)
    assert complaint is None or path.name in complaint
    assert found == expected, data
    try:
        usual = quietly(path, kind="model", format="visualrbm")
    except mapix.MapixError:
        assert expected is None, data
        return False
    if expected is not None and len(expected) > 3:  # layers that are dropped are kept here
        assert listed(usual) == expected or expected[0] == b"MultilayerPerceptron"
    return expected is not None


@pytest.mark.parametrize("data", [SMALL, LAYERS])
def test_damaged_texts(tmp_path, data):
    path = tmp_path / "model.json"
    assert both(path, data)
    taken = 0
    for n in range(len(data)):
        assert not both(path, data[:n])
    for at in range(len(data)):
        for byte in b'"{}[],:.e-+0\\ \0\xff1':
            if byte != data[at]:
                taken += both(path, data[:at] + bytes([byte]) + data[at + 1 :])
        taken += both(path, data[:at] + data[at + 1 :])
        taken += both(path, data[:at] + b" " + data[at:])
    assert taken > 50


QUIRKS = [  # of the original, and what follows from how it reads
    (b'"VisibleCount":2,', b'"VisibleCount":2.9,', True),
    (b'"VisibleCount":2,', b'"VisibleCount":2.0e5,', True),
    (b'"VisibleCount":2,', b'"VisibleCount":002,', True),
    (b'"VisibleCount":2,', b'"VisibleCount":18446744073709551618,', True),
    (b'"VisibleCount":2,', b'"VisibleCount":-2,', False),
    (b'"VisibleCount":2,', b'"VisibleCount":2e0,', False),
    (b'"VisibleCount":2,', b'"VisibleCount":"2",', False),
    (b'"VisibleCount":2,', b'"VisibleCount":4294967296,', False),
    (b'"VisibleCount":2,', b'"VisibleCount":4294967295,', False),
    (b'"VisibleCount":2,', b'"visiblecount":2,', False),
    (b'"Sigmoid"', b'"Sigmoid\0more"', True),
    (b'"Sigmoid"', b'"Sigmoi\\u0064"', False),
    (b'"Sigmoid"', b'"Sigmoid\\n"', False),
    (b'"Sigmoid"', b'"Sig\\moid"', False),
    (b"[1,-0.5]", b"[1,-]", True),
    (b"[1,-0.5]", b"[1.,-.5]", True),
    (b"[1,-0.5]", b"[1.0e,-0.5e+]", True),
    (b"[1,-0.5]", b"[1.0e999,-1.0e-999]", True),
    (b"[1,-0.5]", b"[1,-0.5,]", False),
    (b"[1,-0.5]", b"[1,null]", False),
    (b"[1,-0.5]", b"[1,NaN]", False),
    (b"[[2.5e1,3]]", b"[[25,3]],", False),
    (b"[[2.5e1,3]]}", b"[[25,3]]} and more }", True),
    (b'{"Type"', b'\xef\xbb\xbf{"Type"', False),
    (b'{"Type"', b' \r\n\t{"Type"', True),
    (b'{"Type"', b'\x0b{"Type"', False),
    (b'{"Type"', b"{'Type'", False),
    (b'{"Type"', b'{,"Type"', False),
    (b'{"Type"', b'[{"Type"', False),
]


@pytest.mark.parametrize(("old", "new", "taken"), QUIRKS)
def test_quirks(tmp_path, old, new, taken):
    assert SMALL.count(old) == 1
    assert both(tmp_path / "x.json", SMALL.replace(old, new)) is taken


def test_what_the_default_takes_beside(tmp_path):
    path = tmp_path / "x.json"
    model = None
    for change in (
        lambda d: d,
        lambda d: b"\xef\xbb\xbf" + d,
        lambda d: b" " * 3000 + d,
        lambda d: d.replace(b"2.5e1", b"25e0"),
        lambda d: d.replace(b'{"Type"', b'{"Comment":{"a":["]",{"\\"":1}]},"Type"'),
        lambda d: d.replace(b'"Type"', b'"Layers":"no","OutputType":[],"Type"'),
        lambda d: d.replace(b'"Type"', b'"Schedule":"mine","x":[1,2],"y":[[1],[2,3],null],"Type"'),
        lambda d: d.replace(b'"Type"', b'"\xff":"\xfe","Type"'),
        lambda d: d.replace(b"]]}", b']],"More":[' + b"1.5," * 9000 + b"null,true]}"),
        lambda d: json.dumps(dict(reversed(json.loads(d).items()))).encode(),
        lambda d: json.dumps(json.loads(d), indent=4).encode(),
    ):
        path.write_bytes(change(SMALL))
        found = mapix.open(path)
        assert model is None or found == model
        model = found
    assert found.weights.tolist() == [[25, 3]]
    path.write_bytes(SMALL.replace(b'{"Type"', b'{"Comment":1,"Type"'))
    assert mapix.open(path).unknown == ("Comment",)


def test_every_order_of_names(tmp_path):
    items = list(json.loads(SMALL).items())
    want = None
    for order in itertools.islice(itertools.permutations(items), 0, None, 97):
        (tmp_path / "x.json").write_text(json.dumps(dict(order)))
        found = mapix.open(tmp_path / "x.json")
        assert want is None or found == want
        want = found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.replace(b'"HiddenCount":1', b'"HiddenCount":7'), "Weights|HiddenBiases"),
        (lambda d: d.replace(b'"HiddenCount":1,', b""), "HiddenCount missing"),
        (lambda d: d.replace(b'"HiddenCount":1,', b'"HiddenCount":1,' * 2), "given twice"),
        (lambda d: d.replace(b'"HiddenCount":1', b'"HiddenCount":[1]'), "HiddenCount: a number"),
        (lambda d: d.replace(b'"Linear"', b"7"), "HiddenType: a string"),
        (lambda d: d.replace(b"[[2.5e1,3]]", b"[[1,2],[3]]"), "Weights: 1 rows expected, more"),
        (lambda d: d.replace(b"[[2.5e1,3]]", b"[]"), "Weights: 1 rows expected, 0 found"),
        (lambda d: d.replace(b"[[2.5e1,3]]", b"[25,3]"), r"Weights\[0\]|Weights: \["),
        (lambda d: d.replace(b"[[2.5e1,3]]", b"[[25,x]]"), r"Weights\[0\]\[1\]: a number.*'x'"),
        (lambda d: d.replace(b"[[2.5e1,3]]", b"[[25,Infinity]]"), "'Infinity'"),
        (lambda d: d[:-1], "the end of the text"),
        (lambda d: d.replace(b'"Type"', b'"x":[[],"Type"'), "no end of|closes another"),
        (lambda d: d.replace(b'"Type"', b'"x":[}],"Type"'), "closes another bracket"),
        (lambda d: d.replace(b'"Type"', b'"x":no,"Type"'), "x: a value expected, got 'no'"),
        (lambda d: d.replace(b'"Type"', b'"' + b"x" * 70_000 + b'":1,"Type"'), "more than 65536"),
        (lambda d: d.replace(b'"Type":"Restr', b'"Type":"Destr'), "Type: one of"),
    ],
)
def test_messages(tmp_path, change, message):
    path = tmp_path / "x.json"
    path.write_bytes(change(SMALL))
    with pytest.raises(mapix.MapixError, match=message):
        mapix.open(path, format="visualrbm")
    data = json.loads(LAYERS)
    data["Layers"][1]["Weights"][0][1] = "no"
    path.write_text(json.dumps(data))
    with pytest.raises(
        mapix.FormatError, match=r"Layers\[1\].Weights\[0\]\[1\]: a number expected"
    ):
        mapix.open(path)


def test_counts_behind_their_arrays(tmp_path):
    data = json.loads(SMALL)
    data["VisibleCount"] = data.pop("VisibleCount") + 1
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(mapix.FormatError, match="2 numbers, VisibleCount is 3"):
        mapix.open(tmp_path / "x.json")


def test_counts_that_may_be_read_in_two_ways(tmp_path):
    """JSON says 20, VisualRBM 2: the arrays tell, and have to agree with one another."""
    two = SMALL.replace(b'"VisibleCount":2', b'"VisibleCount":2.0e1')
    twenty = two.replace(b"[1,-0.5]", b"[" + b"1," * 19 + b"1]").replace(
        b"[[2.5e1,3]]", b"[[" + b"3," * 19 + b"3]]"
    )
    for data, n in ((two, 2), (twenty, 20)):
        (tmp_path / "x.json").write_bytes(data)
        with pytest.warns(
            mapix.MapixWarning, match="2.0e1 is read as 20, or 2 as VisualRBM has it"
        ):
            assert mapix.open(tmp_path / "x.json").visible_count == n
    mixed = twenty.replace(b"[" + b"1," * 19 + b"1]", b"[1,2]")
    (tmp_path / "x.json").write_bytes(mixed)
    with pytest.raises(mapix.FormatError, match="Weights: 20 numbers, VisibleCount is 2"):
        mapix.open(tmp_path / "x.json")


@pytest.mark.maps
def test_bombs_fail_at_once(tmp_path):
    """No allocation and no time for what is not there."""
    path = tmp_path / "x.json"
    most = b'"VisibleCount":4294967295,"HiddenCount":4294967295'
    tracemalloc.start()
    for data in (
        SMALL.replace(b'"VisibleCount":2,"HiddenCount":1', most),
        SMALL.replace(b'{"Type"', b'{"x":' + b"[" * 1_000_000),
        SMALL.replace(b'{"Type"', b'{"x":' + b'{"a":' * 500_000),
        SMALL.replace(b"[[2.5e1,3]]", b"[" * 1_000_000),
        b'{"Type":"MultilayerPerceptron","Layers":' + b"[" * 1_000_000,
        b'{"Type":"MultilayerPerceptron","Layers":[' + b"{" * 1_000_000,
        SMALL.replace(b'"VisibleCount":2', b'"VisibleCount":' + b"9" * 60_000),
        SMALL.replace(b'"VisibleCount":2', b'"VisibleCount":' + b"9" * 600_000),
        b"{" * 1_000_000,
        SMALL.replace(b'{"Type"', b'{"' + b"\\" * 1_000_001 + b'":1,"Type"'),
        SMALL.replace(b'{"Type"', b'{"x":"' + b'\\"' * 1_000_000),
        SMALL.replace(b'{"Type"', b"{" + b'"a":1,' * 300_000 + b'"Type"'),
    ):
        for strict in (False, True):
            path.write_bytes(data)
            with pytest.raises(mapix.MapixError, match=r"x\.json"):
                mapix.open(path, strict=strict, format="visualrbm")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000  # the texts themselves are some megabytes
    with path.open("wb") as f:  # a terabyte of nothing
        f.write(SMALL[:-10])
        f.truncate(1 << 40)
    with pytest.raises(mapix.FormatError, match="Weights"):
        mapix.open(path)


def test_long_numbers_are_still_numbers(tmp_path):
    zeros = b"0" * 9000
    path = tmp_path / "x.json"
    for old, new in ((b"-0.5", b"-0.5" + zeros), (b'"HiddenCount":1', b'"HiddenCount":1.' + zeros)):
        assert both(path, SMALL.replace(old, new))


def test_dropped_layers_are_told(tmp_path):
    data = LAYERS.replace(b'"Inputs":2,"Outputs":1', b'"Inputs":3,"Outputs":1').replace(
        b"[[1,-1]]", b"[[1,-1,1]]"
    )
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.warns(mapix.MapixWarning, match="layers 1 do not fit.*kept"):
        model = mapix.open(path)
    assert [la.outputs for la in model] == [2, 1]
    with pytest.raises(ValueError, match="layer 0 has 2 outputs, layer 1 3 inputs"):
        model.hidden([[1.0]])
    with pytest.warns(mapix.MapixWarning, match="layers 1 do not fit.*dropped"):
        model = mapix.open(path, strict=True)
    assert [la.outputs for la in model] == [2]
    with pytest.raises(ValueError, match="no layers"):
        mapix.open(FOLDER / "model" / "mlp_empty_layers.json").hidden([1.0])


# --- numbers --------------------------------------------------------------------------------------

SINGLES = st.floats(width=32, allow_nan=False)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(SINGLES, min_size=3, max_size=3), st.sampled_from(["Linear", "Softmax"]))
def test_round_trips(tmp_path, numbers, function):
    """Every float32 comes back, in the grammar of the original."""
    path = tmp_path / "x.json"
    model = AutoEncoder([numbers], np.zeros(3), [numbers[0]], hidden_type=function)
    model.write(path, replace=True)
    for strict in (False, True):
        again = quietly(path, strict=strict)
        assert again.weights.tobytes() == model.weights.tobytes()
        assert again == model
    assert listed(again) == slow_visualrbm.read(path.read_bytes())
    if np.isfinite(numbers).all():
        model.write(path, replace=True, compat="visualrbm")
        assert slow_visualrbm.read(path.read_bytes()) is not None
        np.testing.assert_allclose(mapix.open(path).weights, model.weights, rtol=1e-6, atol=1e-6)


def test_what_cannot_be_written(tmp_path):
    model = RestrictedBoltzmannMachine([[np.nan]], [0], [0])
    with pytest.raises(ValueError, match="NaN"):
        model.write(tmp_path / "x.json")
    infinite = RestrictedBoltzmannMachine([[-np.inf]], [0], [0])
    with pytest.raises(ValueError, match="infinite"):
        infinite.write(tmp_path / "x.json", compat="visualrbm")
    with pytest.raises(ValueError, match="compat"):
        infinite.write(tmp_path / "x.json", compat="other")
    with pytest.raises(ValueError, match="format must be"):
        infinite.write(tmp_path / "x.json", format="pt")
    with pytest.raises(ValueError, match="JSON"):
        infinite.write(tmp_path / "x.npz", compat="visualrbm")
    assert list(tmp_path.iterdir()) == []
    infinite.write(tmp_path / "x.json")
    with pytest.warns(mapix.MapixWarning, match="Weights: 1 numbers are too large"):
        assert mapix.open(tmp_path / "x.json") == infinite


def test_other_formats(tmp_path):
    model = stack(mapix.open(FOLDER / "tools" / "mlp_rbm_then_aeT.json"))
    model.write(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert (found["Layers.1.Weights"] == model[1].weights).all()
        assert str(found["Type"]) == "MultilayerPerceptron"
        assert str(found["Layers.0.Function"]) == "Sigmoid"
    safetensors = pytest.importorskip("safetensors.numpy", reason="mapix[safetensors]")
    model.write(tmp_path / "x.safetensors")
    tensors = safetensors.load_file(tmp_path / "x.safetensors")
    assert (tensors["Layers.0.Biases"] == model[0].biases).all()
    assert len(tensors) == 4


def test_safetensors_are_an_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(mapix.UnsupportedError, match=r"mapix\[safetensors\]"):
        write(tmp_path / "x.safetensors", RestrictedBoltzmannMachine([[1]], [0], [0]))
    assert list(tmp_path.iterdir()) == []


# --- objects --------------------------------------------------------------------------------------


def test_what_models_refuse():
    model = RestrictedBoltzmannMachine(np.ones((2, 3)), np.zeros(3), np.zeros(2))
    for bad, error in (
        (np.ones((4, 2)), "rows of 3 numbers expected, got shape"),
        (np.ones((1, 1, 3)), "rows of 3"),
        (5, "rows of 3"),
    ):
        with pytest.raises(ValueError, match=error):
            model.hidden(bad)
    with pytest.raises(TypeError, match="numbers expected"):
        model.hidden([["a", "b", "c"]])
    with pytest.raises(ValueError, match="approx"):
        model.hidden(np.ones(3), approx="other")
    with pytest.raises(ValueError, match=r"visible biases: shape \(3,\)"):
        RestrictedBoltzmannMachine(np.ones((2, 3)), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="hidden|function"):
        RestrictedBoltzmannMachine(np.ones((2, 3)), np.zeros(3), np.zeros(2), hidden_type="Tanh")
    with pytest.raises(ValueError, match=r"shape \(outputs, inputs\)"):
        Layer(np.ones(3), np.zeros(3), "Linear")
    with pytest.raises(TypeError, match="numbers expected"):
        Layer([["a"]], [1], "Linear")
    assert model.hidden(np.zeros((0, 3))).shape == (0, 2)
    assert model.hidden(np.ones((4, 3), np.uint8)).shape == (4, 2)
    assert model.reconstruct(np.ones((4, 3))).shape == (4, 3)


@pytest.mark.parametrize("function", ["Sigmoid", "Softmax"])
def test_large_sums_do_not_overflow(function):
    model = RestrictedBoltzmannMachine(
        np.eye(3) * 1e4, np.zeros(3), np.zeros(3), hidden_type=function
    )
    for approx in (None, "visualrbm"):
        found = model.hidden([[1, -1, 0], [9, 9, 9]], approx=approx)
        assert np.isfinite(found).all()
        assert found[0, 0] == pytest.approx(1, abs=1e-3)


def test_lanes_that_nothing_fills():
    """Sizes that are no multiple of four, where the original reads beyond its buffers."""
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (3, 5), (5, 3), (6, 7)):
        weights, rows = rng.normal(size=(m, n)), rng.normal(size=(4, n))
        for function in ("Linear", "RectifiedLinear", "Sigmoid", "Softmax"):
            layer = Layer(weights, rng.normal(size=m), function)
            np.testing.assert_allclose(layer(rows, approx="visualrbm"), layer(rows), atol=0.04)


def test_models_are_used_like_datasets(tmp_path):
    path = FOLDER / "tools" / "ae_8x4.json"
    with mapix.open(path) as model:
        assert model.path == str(path)
        assert "8 -> 4 Sigmoid" in repr(model)
        assert model.output_type == "Linear"
        assert model.output_biases is model.visible_biases
    assert model.hidden(np.ones(8)).shape == (4,)  # nothing was open
    with pytest.raises(mapix.UnsupportedError, match="stack"):
        mapix.open([path, path])
    with pytest.raises(mapix.UnsupportedError):
        mapix.index(path)
    assert model != mapix.open(FOLDER / "tools" / "rbm_8x4_Linear.json")
    assert model != 3


# --- finding them ---------------------------------------------------------------------------------


def test_other_json_is_not_taken_for_it(tmp_path):
    for name, text in (
        ("vimh_dataset_info.json", '{"dataset_name": "x", "Type": "train", "layers": 3}'),
        ("network.json", '{"layers": [1, 2], "weights": [[1]], "schedule": [], "Type": "CNN"}'),
        ("list.json", "[1, 2]"),
        ("empty.json", "{}"),
        ("text.json", "hello"),
    ):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(mapix.MapixError) as e:
            quietly(path)
        assert not isinstance(e.value, mapix.FormatError) or e.value.format != "visualrbm", name
    for text in (
        '{"file_name": "a.png", "type": "cat"}\n{"file_name": "b.png"}\n',
        '{"type": "cat", "file_name": "a.png"}\n',
    ):
        path = tmp_path / "metadata.jsonl"
        path.write_text(text)
        assert mapix.open(path)[0].file_name == "a.png"
    assert opening.refusal(Candidate(tmp_path)) == "it is a directory"


def test_found_by_a_look(tmp_path):
    for data in (
        SMALL,
        b"\xef\xbb\xbf\r\n\t   " + SMALL,
        b" " * 3000 + LAYERS,
        SMALL.replace(b'{"Type"', b'{"Comment":"x","Type"'),
        json.dumps(dict(reversed(json.loads(SMALL).items()))).encode(),
    ):
        (tmp_path / "any name").write_bytes(data)
        assert quietly(tmp_path / "any name").kind in str(data)
    with pytest.raises(ValueError, match="kind must be"):
        mapix.open(tmp_path / "any name", kind="other")


def test_things_that_are_no_files(tmp_path):
    import os

    os.mkfifo(tmp_path / "fifo.json")
    with pytest.raises(OSError, match="fifo"):
        mapix.open(tmp_path / "fifo.json", format="visualrbm")
    with pytest.raises(FileNotFoundError):
        mapix.open(tmp_path / "missing.json")


def test_older_binary_files(tmp_path):
    rng = np.random.default_rng(0)
    v, h = 3, 2
    weights = rng.normal(size=(v, h)).astype("<f4")
    vb, hb = rng.normal(size=v).astype("<f4"), rng.normal(size=h).astype("<f4")
    tail = vb.tobytes() + hb.tobytes() + weights.tobytes()
    counts = struct.pack("<2H", v, h)
    means = rng.normal(size=2 * v).astype("<f4").tobytes()
    path = tmp_path / "model.rbm"
    for data, kind in (
        (b".RBM" + counts + tail, "Sigmoid"),
        (b".RBM\x00" + counts + tail, "Sigmoid"),
        (b".RBM\xff" + counts + means + tail, "Linear"),
    ):
        path.write_bytes(data)
        model = quietly(path)
        assert isinstance(model, RestrictedBoltzmannMachine)
        assert (model.weights == weights.T).all()
        assert (model.visible_biases == vb).all()
        assert (model.hidden_biases == hb).all()
        assert (model.visible_type, model.hidden_type) == (kind, "Sigmoid")
        model.write(tmp_path / "x.json", replace=True)
        assert mapix.open(tmp_path / "x.json", strict=True) == model
        for n in range(4, len(data)):
            path.write_bytes(data[:n])
            with pytest.raises(mapix.FormatError, match="model.rbm"):
                mapix.open(path)
        for at in range(4, 8):
            path.write_bytes(data[:at] + b"\x07" + data[at + 1 :])
            with pytest.raises(mapix.FormatError, match="model.rbm"):
                mapix.open(path)
    path.write_bytes(data)
    with pytest.warns(mapix.MapixWarning, match="means"):
        mapix.open(path)


def test_the_source_is_never_written(tmp_path):
    shutil.copy(FOLDER / "model" / "rbm_ok.json", tmp_path / "x.json")
    (tmp_path / "x.json").chmod(0o444)
    before = (tmp_path / "x.json").stat()
    mapix.open(tmp_path / "x.json").weights[0, 0] = 7  # theirs, in memory
    after = (tmp_path / "x.json").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert len(list(tmp_path.iterdir())) == 1


# --- facts and checks -----------------------------------------------------------------------------


def test_models_are_described_and_verified(tmp_path):
    model = mapix.open(FOLDER / "tools" / "rbm_8x4_Sigmoid.json")
    facts = model.describe()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["kind"] == "RestrictedBoltzmannMachine"
    assert facts["layers"] == [{"inputs": 8, "outputs": 4, "function": "Sigmoid"}]
    assert model.verify().ok
    path = tmp_path / "x.json"
    path.write_bytes(LAYERS.replace(b"[[1,-1]]", b"[[1,1.0e999]]"))
    with pytest.warns(mapix.MapixWarning, match="infinite"):
        wrong = mapix.open(path).verify()
    assert wrong.problems == ["Layers.1.Weights: 1 numbers are not finite"]
    path.write_bytes(
        LAYERS.replace(b'"Inputs":2,"Outputs":1', b'"Inputs":3,"Outputs":1').replace(
            b"[[1,-1]]", b"[[1,-1,1]]"
        )
    )
    with pytest.warns(mapix.MapixWarning, match="do not fit"):
        wrong = mapix.open(path).verify()
    assert len(wrong.problems) == 1
    assert "layer 0 has 2 outputs, layer 1 3 inputs" in wrong.problems[0]


def test_info_and_verify_of_a_model_and_a_schedule(capsys):
    from mapix.__main__ import main

    path = str(FOLDER / "tools" / "rbm_8x4_Sigmoid.json")
    assert main(["info", path]) == 0
    out = capsys.readouterr().out
    assert "RestrictedBoltzmannMachine" in out
    assert re.search(r"inputs +outputs +function\n +8 +4 +Sigmoid", out)
    assert main(["verify", path]) == 0
    assert "no problems" in capsys.readouterr().out
