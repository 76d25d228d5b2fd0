"""Arrays of numbers in JSON text: the C core beside its slow twin, and the nearest floats."""

from __future__ import annotations

import json
import random
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import slow_json
from mapix._native import json as core
from mapix.source import Source

GRAMMARS = {False: core.ORIGINAL, True: core.ANY}
FILES = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def agree(folder: Path, data: bytes, depth: int, any_: bool, shape, at: int = 0) -> int:
    """Both readers, counting and converting; the status."""
    path = folder / "x.json"
    path.write_bytes(data)
    mapping = Source(path).mapping
    slow = slow_json.Slow(data, at, depth, any_, shape)
    wanted = ()
    try:
        slow.all()
    except slow_json.StopError as e:
        wanted = e.args
    sizes = tuple(core.UNKNOWN if d is None else d for d in shape)
    made = [None]
    if None not in shape and shape[0] * shape[1] < 10_000:
        made.append(np.full(shape, np.nan, np.float32))
    for out in made:
        got = core.read(mapping, at, depth, GRAMMARS[any_], out, *sizes)
        if wanted:
            assert got.where[:2] == (got.nrows, got.at)
            told = got.status, got.at, got.nrows, got.column, *got.where[2:]
            assert told == wanted
            continue
        assert (got.status, got.at, got.nrows) == (0, slow.at, slow.row)
        if slow.row:
            assert got.ncolumns == slow.ncolumns
        if out is not None:
            want = np.array(slow.values, np.float32).reshape(shape)
            assert out.tobytes() == want.tobytes()
            assert got.ninfinite == np.isinf(want).sum()
    return got.status


NUMERALS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?[0-9]{0,30}(\.[0-9]{0,60}([eE][+-]?[0-9]{0,4})?)?", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}[eE][+-]?[0-9]{1,2}", fullmatch=True),
    st.sampled_from(["1e999", "0e999", "-0", "00012", "-", "1.", "-.5", "1.0e", "3.4028236e38"]),
)
BLANK = st.sampled_from(["", "", "", " ", "\n\t", "\r\n  "])


@st.composite
def texts(draw):
    depth = draw(st.integers(1, 2))
    n, m = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    comma = draw(BLANK) + "," + draw(BLANK)

    def row() -> str:
        return "[" + draw(BLANK) + comma.join(draw(NUMERALS) for _ in range(m)) + draw(BLANK) + "]"

    text = row() if depth == 1 else "[" + comma.join(row() for _ in range(n)) + "]"
    data = bytearray(
        draw(BLANK).encode() + text.encode() + draw(st.sampled_from([b"", b"x", b"]"]))
    )
    for _ in range(draw(st.integers(0, 2))):  # some damage
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 1))] = draw(
            st.sampled_from([b"", b"[", b"]", b",", b"1", b"-", b".", b"e", b"+", b"\0", b"\xff"])
        )
        if not data:
            break
    known = (1, m) if depth == 1 else (n, m)
    shape = draw(st.sampled_from([known, known, (None, None), (known[0], None), (known[0] + 1, m)]))
    return bytes(data), depth, (1, shape[1]) if depth == 1 else shape


@FILES
@given(case=texts(), any_=st.booleans())
def test_twins(tmp_path, case, any_):
    data, depth, shape = case
    agree(tmp_path, data, depth, any_, shape)


def test_grammars(tmp_path):
    for text, original, usual in (
        (b"[1e5]", False, True),
        (b"[1.0e5, 1.e-2, 1.0E+3, 1.0e]", True, True),
        (b"[-, -.5, 1., 007, -0]", True, True),
        (b"[.5]", False, False),
        (b"[+1]", False, False),
        (b"[NaN]", False, False),
        (b"[1,]", False, False),
        (b"[,1]", False, False),
        (b"[1 2]", False, False),
        (b"[1", False, False),
        (b"[1.5", False, False),
        (b"[null]", False, False),
        (b'["1"]', False, False),
        (b"[[1]]", False, False),
        (b"1", False, False),
        (b"", False, False),
    ):
        shape = (1, text.count(b",") + 1)
        assert (agree(tmp_path, text, 1, False, shape) == 0) is original, text
        assert (agree(tmp_path, text, 1, True, shape) == 0) is usual, text


def decimal(value: Fraction, digits: int) -> str:
    """A number with so many digits behind the dot, cut off."""
    scaled = int(value * 10**digits)
    return f"{scaled // 10**digits}.{scaled % 10**digits:0{digits}d}"


def test_middles_between_floats(tmp_path):
    """The hardest numbers: exactly between two floats, and a breath beside."""
    rng = random.Random(7)
    texts = []
    patterns = [rng.getrandbits(31) % 0x7F7FFFFF for _ in range(150)]
    patterns += [0, 1, 2, 0x7FFFFF, 0x800000, 0x7F7FFFFE, 0x3F800000, 0x3F7FFFFF]
    for bits in patterns:
        a, b = (struct.unpack("<f", struct.pack("<I", bits + k))[0] for k in (0, 1))
        middle = (Fraction(a) + Fraction(b)) / 2
        whole = decimal(middle, 160)
        assert Fraction(whole) == middle
        breath = Fraction(1, 10**150)
        texts += [decimal(middle + beside, 160) for beside in (0, breath, -breath)]
        texts += [
            whole + "0" * 50,
            whole + "0" * 50 + "1",
            f"{float(middle)!r}",
            f"{float(middle):.17e}",
        ]
    data = f"[{', '.join(texts)}]".encode()
    assert agree(tmp_path, data, 1, True, (1, len(texts))) == 0


def test_what_json_reads(tmp_path):
    """The same as the usual way, with doubles between; those never differ on numbers like these."""
    rng = np.random.default_rng(3)
    for values in (rng.normal(size=(50, 40)), rng.normal(size=(50, 40)).astype(np.float32)):
        text = json.dumps(values.tolist())
        (tmp_path / "x").write_text(text)
        out = np.empty((50, 40), np.float32)
        core.read(Source(tmp_path / "x").mapping, 0, 2, core.ANY, out, 50, 40)
        assert (out == np.array(json.loads(text), np.float32)).all()


def test_many_calls_are_one(tmp_path, monkeypatch):
    text = b"[" + b", ".join([b"[1.25,  -7, 3.0e2 ]"] * 9) + b"  ]"
    (tmp_path / "x").write_bytes(text)
    mapping = Source(tmp_path / "x").mapping
    out = np.empty((9, 3), np.float32)
    for step in (1, 2, 7, 1000):
        monkeypatch.setattr(core, "STEP_NBYTES", step)
        out[:] = 0
        assert core.read(mapping, 0, 2, core.ORIGINAL, out, 9, 3).at == len(text)
        assert (out == np.array([1.25, -7, 300], np.float32)).all()


def test_room_has_to_fit(tmp_path):
    (tmp_path / "x").write_bytes(b"[1]")
    out = np.empty(3, np.float32)
    with pytest.raises(ValueError, match="space for 3 numbers"):
        core.read(Source(tmp_path / "x").mapping, 0, 1, core.ANY, out, 1, 4)


# --- writing --------------------------------------------------------------------------------------


def digits(text: str) -> int:
    return len(text.lower().partition("e")[0].replace(".", "").replace("-", "").strip("0"))


def written(values) -> list[str]:
    return core.written(np.array(values, np.float32)).split(", ")


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_float_comes_back(bits):
    """As short as numpy has it, and a number of VisualRBM's grammar."""
    value = np.uint32(bits).view(np.float32)
    if np.isnan(value):
        return
    (text,) = written([value])
    assert slow_json.NUMBER[False].fullmatch(text.encode())
    assert "." in text
    assert slow_json.number(text.encode()).tobytes() == value.tobytes()
    if np.isfinite(value) and bits & 0x7FFFFF:  # below a power of two floats lie closer
        assert digits(text) == digits(str(value))


def test_how_numbers_look():
    values = [0, -0.0, 1, 0.1, 1e-7, 1e-5, 123456, 1e15, 1e16, 3.4028235e38, 1e-45, -np.inf, 1 / 3]
    assert written(values) == [
        *("0.0", "-0.0", "1.0", "0.1", "1.0e-07", "1.0e-05", "123456.0", "1.0e+15"),
        *("1.0e+16", "3.4028235e+38", "1.0e-45", "-1.0e999", "0.33333334"),
    ]
    assert written([]) == [""]
    assert written(np.arange(6)[::2]) == ["0.0", "2.0", "4.0"]
    with pytest.raises(ValueError, match="NaN"):
        core.written(np.array([1, np.nan], np.float32))
