"""VisualRBM's training schedules: what the original takes, and what it makes of it."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapix
from conftest import GOLDEN
from mapix.visualrbm import Schedule, Stage
from mapix.visualrbm.cjson import parse

FOLDER = GOLDEN / "visualrbm" / "schedule"
TOLD = json.loads((FOLDER.parent / "manifest.json").read_text())["schedule"]
FUNCTIONS = ["Linear", "RectifiedLinear", "Sigmoid", "Softmax"]
ALIASED = {"rbm_L1L2_short_names": 2, "mlp_L1_short": 1}
PAIR = {
    "Type": "RBM",
    "VisibleCount": 4,
    "HiddenCount": 3,
    "VisibleType": "Sigmoid",
    "HiddenType": "Linear",
    "MinibatchSize": 2,
    "Schedule": [{"Epochs": 1}],
}
MLP = {
    "Type": "MLP",
    "Layers": [4, 3, 2],
    "ActivationFunctions": ["Sigmoid", "Softmax"],
    "MinibatchSize": 5,
    "Schedule": [{"Epochs": 1}],
}


def quietly(path: Path, **options) -> Schedule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mapix.MapixWarning)
        return mapix.open(path, **options)


def taken(tmp_path: Path, text, **options) -> bool:
    path = tmp_path / "s.json"
    path.write_bytes(text if isinstance(text, bytes) else json.dumps(text).encode())
    try:
        found = quietly(path, kind="schedule", format="visualrbm", **options)
    except mapix.MapixError as e:
        complaint = str(e)
    else:
        assert isinstance(found, Schedule)
        return True
    assert "s.json" in complaint
    return False


def printed(s: Schedule) -> str:
    """A schedule as the program that made the manifest printed what the original had read."""
    numbers = [FUNCTIONS.index(f) for f in s.functions]
    if s.kind == "MultilayerPerceptron":
        layers = " ".join(f"({n},f{f})" for n, f in zip(s.layers[1:], numbers, strict=True))
        head = f"MLP in={s.layers[0]} {layers} mb={s.minibatch_size} seed={s.seed}"
        lines = []
        for t in s.stages:
            columns = zip(
                *(t.learning_rate, t.momentum, t.l1, t.l2, t.dropout, t.noise, t.adadelta_decay),
                strict=True,
            )
            texts = ("[" + "".join(f"{np.float32(x):g}," for x in c) + "]" for c in columns)
            lines.append(f"\n  epochs={t.epochs} {' '.join(texts)}")
        return f"ACCEPT {head}{''.join(lines)}"
    rbm = s.kind.startswith("R")
    types = f"vt={numbers[0]} ht={numbers[1]}" if rbm else f"ht={numbers[1]} ot={numbers[0]}"
    head = f"{'RBM' if rbm else 'AE'} V={s.layers[0]} H={s.layers[1]} {types}"
    lines = [
        f"\n  epochs={t.epochs} lr={t.learning_rate:g} mom={t.momentum:g} L1={t.l1:g} L2={t.l2:g} "
        f"vd={t.visible_dropout:g} hd={t.hidden_dropout:g} ada={t.adadelta_decay:g}"
        for t in s.stages
    ]
    return f"ACCEPT {head} mb={s.minibatch_size} seed={s.seed}{''.join(lines)}"


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("strict", [False, True])
def test_goldens(name, strict):
    told = TOLD[name]["original"]
    path = FOLDER / f"{name}.json"
    if not told.startswith("ACCEPT"):  # one of them crashes the original
        with pytest.raises(mapix.FormatError, match=name):
            mapix.open(path, strict=strict)
        return
    found = quietly(path, strict=strict)
    if strict or name not in ALIASED:
        assert printed(found) == told


@pytest.mark.parametrize("name", ALIASED)
def test_names_that_documents_use(name):
    """Seed and tutorials say L1 and L2; the original reads other names, and says nothing."""
    path = FOLDER / f"{name}.json"
    with pytest.warns(mapix.MapixWarning, match="is used here") as caught:
        found = mapix.open(path)
    assert len(caught) == ALIASED[name]
    first = found[0]
    assert (first.l1, first.l2) == ((0.1, 0.2) if name.startswith("rbm") else ((0.5, 0.5), (0, 0)))
    with pytest.warns(
        mapix.MapixWarning, match="VisualRBM reads L[12]Regularization alone; .* not"
    ):
        found = mapix.open(path, strict=True)
    assert np.all(np.array(found[0].l1) == 0)


@pytest.mark.parametrize("name", ["rbm_doc_example", "ae_doc_example", "mlp_minimal"])
def test_usual_schedules_say_nothing(name):
    mapix.open(FOLDER / f"{name}.json")  # warnings are errors


@pytest.mark.parametrize("name", [k for k, v in TOLD.items() if "ACCEPT" in v["original"]])
def test_written_and_read_again(name, tmp_path):
    found = quietly(FOLDER / f"{name}.json")
    if found.layers[0] == 0:
        return
    found.write(tmp_path / "x.json")
    for strict in (False, True):
        assert mapix.open(tmp_path / "x.json", strict=strict) == found
    with pytest.raises(FileExistsError):
        found.write(tmp_path / "x.json")


def test_epochs():
    s = mapix.open(FOLDER / "rbm_doc_example.json")
    assert len(s) == 100
    assert [round(t.momentum, 1) for t in s] == [0.5] * 10 + [0.6] * 10 + [0.7] * 10 + (
        [0.8] * 10 + [0.9] * 60
    )
    assert s[0] is s[9] is s.stages[0]
    assert s[39] is s.stages[3]
    assert s[40] is s[-1] is s.stages[-1]
    assert {t.learning_rate for t in s.stages} == {0.01}  # given once, and kept
    for bad in (100, -101):
        with pytest.raises(IndexError, match=f"index {bad} of 100 epochs"):
            s[bad]


def test_values_stay_until_others_come(tmp_path):
    stages = [
        {"Epochs": 1, "LearningRate": 0.5, "Dropout": [0.1, 0.2]},
        {"epochs": 2, "NOISE": 0.25},
        {"Epochs": 3, "Dropout": 0, "AdadeltaDecay": [0.9, 1]},
    ]
    (tmp_path / "s.json").write_text(json.dumps({**MLP, "Schedule": stages, "SEED": -7}))
    s = mapix.open(tmp_path / "s.json")
    assert s.seed == -7
    assert [t.epochs for t in s.stages] == [1, 2, 3]
    assert [t.learning_rate for t in s.stages] == [(0.5, 0.5)] * 3
    assert [t.dropout for t in s.stages] == [(0.1, 0.2), (0.1, 0.2), (0, 0)]
    assert [t.noise for t in s.stages] == [(0, 0), (0.25, 0.25), (0.25, 0.25)]
    assert [t.adadelta_decay for t in s.stages] == [(1, 1), (1, 1), (0.9, 1)]
    assert s.stages[0].visible_dropout is None
    entries = json.loads(s.text())["Schedule"]
    assert entries[1] == {"Epochs": 2, "Noise": 0.25}


# --- what the original takes ----------------------------------------------------------------------

TAKEN = [  # base, change, whether: of the original, and what cJSON makes of values of other kinds
    (PAIR, {"type": "RBM", "Type": "no"}, False),  # of names that differ in case, the first
    (PAIR, {"VisibleCount": True}, True),
    (PAIR, {"VisibleCount": "4"}, False),
    (PAIR, {"VisibleCount": 2**31 - 1}, True),
    (PAIR, {"VisibleCount": 2**31}, False),
    (PAIR, {"VisibleCount": 1e300}, False),
    (PAIR, {"VisibleCount": 0.9}, False),
    (PAIR, {"VisibleType": 3}, False),
    (PAIR, {"Type": 3}, False),
    (PAIR, {"Type": "rbm"}, False),
    (PAIR, {"Schedule": {"a": {"Epochs": 1}}}, True),
    (PAIR, {"Schedule": [1]}, False),
    (PAIR, {"Schedule": [[1]]}, False),
    (PAIR, {"Schedule": "x"}, False),
    (PAIR, {"Schedule": [{"Epochs": True}]}, True),
    (PAIR, {"Schedule": [{"Epochs": 1, "LearningRate": "x"}]}, True),
    (PAIR, {"Schedule": [{"Epochs": 1, "LearningRate": [-1]}]}, True),
    (PAIR, {"Schedule": [{"Epochs": 1, "Momentum": 1}]}, False),
    (PAIR, {"Schedule": [{"Epochs": 1, "HiddenDropout": 1}]}, False),
    (PAIR, {"Schedule": [{"Epochs": 1, "L1": -1}]}, True),
    (PAIR, {"Schedule": [{"Epochs": 1, "L1Regularization": -1}]}, False),
    (PAIR, {"Schedule": [{"Epochs": 1, "AdadeltaDecay": -1}]}, True),
    (PAIR, {"Schedule": [{"Epochs": 1, "Dropout": 7}]}, True),
    (PAIR, {"Schedule": [{"Epochs": 1}, {"Epochs": 0}]}, False),
    (MLP, {"Layers": {"a": 4, "b": 3, "c": 2}}, True),
    (MLP, {"Layers": [-4, 3, 2]}, True),
    (MLP, {"Layers": [4, "3", 2]}, False),
    (MLP, {"Layers": [4, True, 2]}, True),
    (MLP, {"ActivationFunctions": ["Sigmoid", 3]}, False),
    (MLP, {"ActivationFunctions": ["Sigmoid", "softmax"]}, False),
    (MLP, {"Schedule": [{"Epochs": True}]}, False),
    (MLP, {"Schedule": [{"Epochs": 1, "LearningRate": "x"}]}, True),
    (MLP, {"Schedule": [{"Epochs": 1, "LearningRate": [0.1]}]}, False),
    (MLP, {"Schedule": [{"Epochs": 1, "LearningRate": [0.1, "x"]}]}, False),
    (MLP, {"Schedule": [{"Epochs": 1, "LearningRate": 1e39}]}, False),
    (MLP, {"Schedule": [{"Epochs": 1, "Momentum": 1.0000000001}]}, True),  # as float32 it is 1
    (MLP, {"Schedule": [{"Epochs": 1, "Dropout": [0, 1.1]}]}, False),
    (MLP, {"Schedule": [{"Epochs": 1, "VisibleDropout": 7}]}, True),
]


@pytest.mark.parametrize(("base", "change", "expected"), TAKEN)
def test_kinds_of_values(tmp_path, base, change, expected):
    whole = {**change, **{k: v for k, v in base.items() if k not in change}}
    if "type" in change:
        whole = {"Type": "no", **{k: v for k, v in base.items() if k != "Type"}, "type": "RBM"}
    assert taken(tmp_path, whole, strict=True) is expected
    assert taken(tmp_path, whole) is expected


TEXTS = [  # of cJSON's grammar
    (lambda d: d + b" and more", True),
    (lambda d: d + b"\0{", True),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 01'), True),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1e'), True),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1.'), False),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": -'), False),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1, "Momentum": -'), True),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1, "Momentum": -.0'), True),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1, "Momentum": .5'), False),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1, "LearningRate": 1e-7'), True),
    (lambda d: d.replace(b'"Epochs": 1', b'"\\E\\u0070ochs": 1'), True),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1,'), False),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs" 1'), False),
    (lambda d: d.replace(b'"Epochs": 1', b"Epochs: 1"), False),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1 "a": 2'), False),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1, "x": nil'), False),
    (lambda d: d.replace(b'"Epochs": 1', b'"Epochs": 1, "x": [null, true, {"y": []}]'), True),
    (lambda d: d.replace(b" ", b"\x01\x0b"), True),
    (lambda d: d[:-1], False),
    (lambda d: b"[" + d + b"]", False),
    (lambda d: b"", False),
]


@pytest.mark.parametrize(("change", "expected"), TEXTS)
def test_texts(tmp_path, change, expected):
    data = change(json.dumps(PAIR).encode())
    assert taken(tmp_path, data, strict=True) is expected
    assert taken(tmp_path, data) is expected


def test_a_byte_order_mark(tmp_path):
    data = b"\xef\xbb\xbf" + json.dumps(PAIR).encode()
    assert not taken(tmp_path, data, strict=True)
    assert taken(tmp_path, data)


def test_damaged_texts(tmp_path):
    """Each is refused clearly or taken; and what strict takes, the default takes."""
    both = 0
    for base in (PAIR, MLP):
        data = json.dumps(base).encode()
        assert not any(taken(tmp_path, data[:n]) for n in range(len(data)))
        for at in range(len(data)):
            for byte in b'"{[,:0-\\\xff\0':
                bad = data[:at] + bytes([byte]) + data[at + 1 :]
                if taken(tmp_path, bad, strict=True):
                    assert taken(tmp_path, bad)
                    both += 1
    assert both > 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON, st.booleans())
def test_all_of_json_is_read(value, ascii_):
    """The parser beside Python's own."""

    def plain(node):
        if node.kind == "array":
            return [plain(n) for _, n in node.items]
        if node.kind == "object":
            return {k: plain(n) for k, n in node.items}
        words = {"null": None, "true": True, "false": False, "string": node.text}
        return words.get(node.kind, node.number)

    text = json.dumps(value, ensure_ascii=ascii_)
    if "Infinity" in text or "\\u0000" in text or re.search(r"\\ud[89a-f]|[\ud800-\udfff]", text):
        return  # beyond JSON, or what cJSON drops
    expected = json.loads(text, parse_int=float)
    assert plain(parse(text.encode(), "x", "json", strict=False)) == expected


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.builds(
            Stage,
            epochs=st.integers(1, 2**31 - 1),
            learning_rate=st.floats(0, 1e300),
            momentum=st.floats(0, 0.99),
            l1=st.floats(0, 10),
            l2=st.sampled_from([0.0, 1e-7, 0.1]),
            adadelta_decay=st.floats(0, 0.99),
            visible_dropout=st.floats(0, 0.99),
            hidden_dropout=st.floats(0, 0.99),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_round_trips(tmp_path, stages):
    s = Schedule("AutoEncoder", (784, 100), ("Linear", "Sigmoid"), 10, tuple(stages), seed=3)
    (tmp_path / "s.json").write_text(s.text())
    again = mapix.open(tmp_path / "s.json")
    assert again == s
    assert len(again) == sum(t.epochs for t in stages)


def test_what_cannot_be_written(tmp_path):
    stage = Stage(1, visible_dropout=0.0, hidden_dropout=0.0)
    for change, error in (
        ({"kind": "Other"}, "Type|Other"),
        ({"layers": (0, 3)}, "VisibleCount"),
        ({"functions": ("Sigmoid", "Tanh")}, "HiddenType"),
        ({"stages": ()}, "Schedule"),
        ({"stages": (Stage(0, visible_dropout=0.0, hidden_dropout=0.0),)}, "Epochs"),
        (
            {"stages": (Stage(1, momentum=1.0, visible_dropout=0.0, hidden_dropout=0.0),)},
            r"Schedule\[0\].Momentum: from 0 to below 1",
        ),
    ):
        parts = {
            "kind": "RestrictedBoltzmannMachine",
            "layers": (4, 3),
            "functions": ("Sigmoid", "Linear"),
            "minibatch_size": 2,
            "stages": (stage,),
        }
        with pytest.raises((ValueError, KeyError), match=error):
            Schedule(**{**parts, **change}).write(tmp_path / "x.json")
        assert list(tmp_path.iterdir()) == []
    Schedule(**parts).write(tmp_path / "x.json")
    assert mapix.open(tmp_path / "x.json", strict=True) == Schedule(**parts)


def test_messages_name_the_place(tmp_path):
    for base, change, message in (
        (PAIR, {"Schedule": [{"Epochs": 1}, {}]}, r"Schedule\[1\].Epochs is missing"),
        (MLP, {"Schedule": [{"Epochs": 1, "Noise": [0, -1]}]}, r"Schedule\[0\].Noise\[1\]: 0 or"),
        (MLP, {"Schedule": [{"Epochs": 1, "Noise": [0]}]}, "Noise: 2 numbers expected, got 1"),
        (MLP, {"Layers": [4]}, "Layers: 3 numbers expected for 2"),
        (MLP, {"MinibatchSize": 0}, "MinibatchSize: 1 to 2147483647 expected, got 0"),
    ):
        (tmp_path / "s.json").write_text(json.dumps({**base, **change}))
        with pytest.raises(mapix.FormatError, match=message) as e:
            mapix.open(tmp_path / "s.json")
        assert e.value.at is not None
    for base, change, message in (
        (PAIR, {"Schedule": [{"Epochs": 1, "Momentum": "x"}]}, "Momentum: 'x' is read as 0"),
        (MLP, {"Schedule": [{"Epochs": 1, "Momentum": "x"}]}, "Momentum: .* is ignored"),
        (MLP, {"Layers": [-1, 3, 2]}, r"Layers\[0\]: -1 is read as 4294967295"),
        (PAIR, {"Seed": "x"}, "Seed: 'x' is read as 0"),
    ):
        (tmp_path / "s.json").write_text(json.dumps({**base, **change}))
        with pytest.warns(mapix.MapixWarning, match=message):
            mapix.open(tmp_path / "s.json")


def test_bombs(tmp_path):
    path = tmp_path / "s.json"
    front = json.dumps(PAIR).encode()[:-1] + b', "x": '
    for tail in (b"[" * 1_000_000, b'{"a":' * 300_000, b'"' + b"\\" * 1_000_001, b"9" * 3_000_000):
        path.write_bytes(front + tail)
        with pytest.raises(mapix.MapixError, match=r"s\.json"):
            mapix.open(path)
    path.write_bytes(front + b" " * (5 << 20))
    with pytest.raises(mapix.LimitError, match=r"s\.json.*more than 4194304"):
        mapix.open(path, kind="schedule")
    odd = [{"Epochs": 1.5, "Momentum": "x"}] * 10_000
    path.write_text(json.dumps({**PAIR, "Schedule": odd}))
    with pytest.warns(mapix.MapixWarning) as caught:
        assert len(mapix.open(path)) == 10_000
    assert len(caught) == 21
    assert "19980 more" in str(caught[-1].message)


def test_used_like_datasets():
    path = FOLDER / "mlp_minimal.json"
    with mapix.open(path) as s:
        assert "MultilayerPerceptron 4 -> 3 -> 2, 1 epochs in 1 stages" in repr(s)
    with pytest.raises(mapix.UnsupportedError):
        mapix.open([path, path])
