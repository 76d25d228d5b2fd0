"""Labels as data: columns, conditions, orders, shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapix
from mapix.columns import Column
from mapix.expression import evaluate
from slow_vimh import pack, record

INFO = {
    "parameter_names": ["note", "loud"],
    "parameter_mappings": {
        "note": {"min": 50.0, "max": 52.0, "step": 0.5},
        "loud": {"min": 0.0, "max": 127.0, "step": 1.0},
    },
}
CODES = [(0, 10), (191, None), (255, 255), (None, 0), (7, 200), (191, 9)]


def make(tmp_path, codes=CODES, mixed=True):
    records = [
        record(
            2 + (i % 3 if mixed else 0), 3, 1, [(k, v) for k, v in enumerate(pair) if v is not None]
        )
        for i, pair in enumerate(codes)
    ]
    path = tmp_path / "data"
    path.write_bytes(pack(records))
    return mapix.open(path, dialect=14, info=INFO)


def test_columns_in_every_unit(tmp_path):
    ds = make(tmp_path)
    note = ds.labels["note"]
    assert note.raw.tolist() == [0, 191, 255, None, 7, 191]
    assert note.present.tolist() == [True, True, True, False, True, True]
    assert note.physical[1] == pytest.approx(50 + 191 / 255 * 2)
    assert note.normalised[2] == 1.0
    assert note.classes.tolist() == [0, 3, 4, None, 0, 3]
    assert list(ds.labels) == ["note", "loud"]
    assert len(ds.labels["loud"]) == 6
    with pytest.raises(KeyError):
        ds.labels["pitch"]


@pytest.mark.parametrize("rows", [slice(1, 5), slice(None, None, -2), [5, 0, 0, 3], []])
def test_columns_of_a_part(tmp_path, rows):
    ds = make(tmp_path)
    part = ds[np.array(rows, int) if isinstance(rows, list) else rows]
    want = [ds[int(i)].labels.get("note") for i in np.arange(6)[rows]]
    assert part.labels["note"].raw.tolist() == want


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 255))] * 2), min_size=1, max_size=12),
    st.booleans(),
)
def test_columns_are_the_records_own(tmp_path, codes, mixed):
    ds = make(tmp_path, codes, mixed)
    for k, name in enumerate(INFO["parameter_names"]):
        assert ds.labels[name].raw.tolist() == [pair[k] for pair in codes]


def test_where(tmp_path):
    ds = make(tmp_path)

    def rows(condition):
        return ds.where(condition).rows.tolist()

    assert rows("note > 51") == [1, 2, 5]
    assert rows("note > 51 and loud < 100") == [5]  # record 1 has no loudness
    assert rows("not note > 51") == [0, 4]  # record 3 has no note
    assert rows("50 <= note < 51") == [0, 4]
    assert rows("(loud + 1) / 2 >= 64 or note == 50") == [0, 2]
    assert rows("note > 51 or loud >= 0") == [0, 2, 4, 5]
    assert rows("1 < 2") == [0, 1, 2, 3, 4, 5]
    assert rows(lambda v: v["loud"] < 1) == [3]
    assert rows(ds.labels["note"].present) == [0, 1, 2, 4, 5]
    assert ds[1:].where("note > 51").where("loud < 100").rows.tolist() == [5]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("note >", "not a condition: it ends too early"),
        ("", "not a condition: it is empty"),
        ("note=3", "not a condition: == compares, = does not"),
        ("class == 3", "'class' cannot be the name of a column here; the columns: note, loud"),
        ("note > 3)", r"not a condition: '\)' is not understood"),
        ("note == 'a'", "numbers are compared with the text 'a'"),
        ("'a' != loud", "numbers are compared with the text 'a'"),
        ("pitch > 3", "no column 'pitch'; the columns: note, loud"),
        ("__import__('os').system('true')", "no column '__import__'"),
        ("note.__class__", "not understood"),
        ("note.real > 3", "not understood"),
        ("note[0] > 3", "not understood"),
        ("note ** 9 > 3", "not understood"),
        ("note in (1, 2)", "not understood"),
        ("'a' < note", "values of different types"),
        ("(x := 3) > 2", "no column 'x'"),
        ("[n for n in note]", "no column 'n'"),
        ("[note for note in note]", "not understood"),
        ("note if loud else note", "not understood"),
        ("lambda: note", "not understood"),
        ("f'{note}'", "not understood"),
        ("note > 1" * 2000, "characters"),
        ("(" * 3000 + "1" + ")" * 3000, "not a condition|nested"),
        ("-" * 5000 + "1 > 0", "nested|not a condition"),
    ],
)
def test_what_is_no_condition(tmp_path, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        make(tmp_path).where(text)


def plain(**values):
    """Columns of numbers, by name."""
    return {name: Column(name, np.asarray(v)) for name, v in values.items()}


def test_text_and_tuples():
    columns = plain(n=[1, 2, 3])
    columns["word"] = Column("word", np.array(["a cat", "dog", ""], object))
    kinds = np.empty(3, object)
    kinds[:] = [("cat", "dog"), (), ("dog",)]
    columns["kinds"] = Column("kinds", kinds, np.array([True, False, True]))

    def found(text):
        return np.broadcast_to(evaluate(text, columns)[0], (3,)).tolist()

    assert found("word == 'dog'") == [False, True, False]
    assert found("'cat' in word or n > 2") == [True, False, True]
    assert found("'dog' in kinds and n < 3") == [True, False, False]
    assert found("'cat' not in word") == [False, True, True]
    assert found("word < 'b'") == [True, False, True]
    with pytest.raises(ValueError, match="different types"):
        found("word > 3")
    with pytest.raises(ValueError, match="a constant on its left"):
        found("word in word")


def test_division_by_zero_is_no_error():
    labels = plain(a=[1.0, 0.0], b=[0.0, 0.0])
    found, names = evaluate("a / b > 1", labels)
    assert found.tolist() == [True, False]
    assert names == {"a", "b"}
    assert evaluate("a / 0 > 1 and a > b", labels)[0].tolist() == [True, False]


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["a > 1", "b <= a", "2 < c", "a + b == c", "c * 2 > 3 - a"]),
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(" and ".join),
            st.tuples(inner, inner).map(lambda x: f"({x[0]}) or ({x[1]})"),
            inner.map(lambda x: f"not ({x})"),
        ),
        max_leaves=6,
    )
)
def test_conditions_are_pythons_own(text):
    rng = np.random.default_rng(len(text))
    labels = {name: rng.integers(0, 4, 50).astype(float) for name in "abc"}
    found = np.broadcast_to(evaluate(text, plain(**labels))[0], (50,))
    values = [dict(zip("abc", row, strict=True)) for row in zip(*labels.values(), strict=True)]
    assert found.tolist() == [bool(eval(text, {}, row)) for row in values]


def test_sort_by(tmp_path):
    ds = make(tmp_path)
    assert ds.sort_by("note").rows.tolist() == [0, 4, 1, 5, 2, 3]
    assert ds.sort_by("note", descending=True).rows.tolist() == [2, 1, 5, 4, 0, 3]


def test_split_and_shard(tmp_path):
    ds = make(tmp_path)
    first, rest = ds.split()
    assert (first.rows.tolist(), rest.rows.tolist()) == ([0, 1, 2, 3], [4, 5])
    one, two = ds.split(0.5, seed=3)
    assert sorted(one.rows.tolist() + two.rows.tolist()) == list(range(6))
    assert one.rows.tolist() == sorted(one.rows.tolist()) == ds.split(0.5, seed=3)[0].rows.tolist()
    assert one.rows.tolist() != [0, 1, 2]
    shards = [ds.shard(r, 4).rows.tolist() for r in range(4)]
    assert shards == [[0, 4], [1, 5], [2], [3]]
    for bad in (lambda: ds.split(1.5), lambda: ds.shard(4, 4), lambda: ds.shard(-1, 4)):
        with pytest.raises(ValueError, match=r"0\.\."):
            bad()
