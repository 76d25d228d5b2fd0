"""Hostile pickles and info JSONs cost no more than their size allows: by counting, not by clocks.

Work is counted in calls (of Python and of C) and in bytes that are copied out of the file; memory
by tracemalloc.  A file of 1 MiB may take 64 MB and a second: about 12 calls for each of its bytes.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import random
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix import _native
from mapix.source import Source
from mapix.vimh import info_json, parameters
from mapix.vimh.pickles import Machine, reader

MOST_CALLS = 14  # for each byte
FREE_CALLS = 12_000  # of any file: 256 looks for rows, mostly
MOST_COPIED = 16  # bytes for each byte of a file
FREE_PEAK = 400_000
FREE_COPIED = 8 * reader.WINDOW_NBYTES
MIB = 1 << 20


class Meter:
    """Calls, and bytes copied out of files, while it is entered."""

    def __init__(self, monkeypatch):
        self.calls = self.copied = 0
        real = _native.copy

        def copy(mapping, at, nbytes, *more):
            self.copied += nbytes
            return real(mapping, at, nbytes, *more)

        monkeypatch.setattr(_native, "copy", copy)

    def __enter__(self):
        self.calls = self.copied = 0

        def count(frame, event, arg):
            if event in ("call", "c_call"):
                self.calls += 1

        sys.setprofile(count)
        return self

    def __exit__(self, *exc):
        sys.setprofile(None)


def run(path: Path) -> Machine:
    m = Machine(Source(path))
    with contextlib.suppress(mapix.FormatError, mapix.LimitError):
        m.run()
    return m


# --- pickles: every opcode, alone and after others ------------------------------------------------

ROW = b"](" + b"K\1" * 511 + b"e"
# Values that a pickle may name again for two bytes: in memo 0, 1, 2 ...
VALUES = [
    ROW,
    b"]",
    b"}",
    b")",
    b"N",
    b"\x8c\6latin1",
    b"\x58" + (4000).to_bytes(4, "little") + b"x" * 4000,
    b"C\x08abcdefgh",
    b"c_codecs\nencode\n",
    b"cnumpy\ndtype\n",
    b"cbuiltins\nbytes\n",
    b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy\nndarray\n",
    b"\x8c\2f8",
    b"\x8c\5numpy",
    b"\x8c\5dtype",
    b"(K\3\x8c\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t",
    b"K\0\x85",
]
PRELUDE = b"\x80\x05" + b"".join(v + b"q" + bytes([k]) + b"0" for k, v in enumerate(VALUES))
RECALLS = [b"h" + bytes([k]) for k in range(len(VALUES))]
OPS = [
    *(b"N", b"\x88", b"\x89", b"I1\n", b"I01\n", b"L1L\n", b"F1\n", b"J\1\2\3\4", b"K\1", b"M\1\2"),
    *(b"\x8a\0", b"\x8a\2\1\2", b"\x8b\0\0\0\0", b"G" + bytes(8), b"U\0", b"U\1a", b"T\0\0\0\0"),
    *(b"C\0", b"C\2ab", b"B\0\0\0\0", b"\x8e" + bytes(8), b"\x96" + bytes(8), b"S''\n", b"V\n"),
    *(b"Va\n", b"\x8c\0", b"\x8c\2ab", b"X\0\0\0\0", b"\x8d" + bytes(8), b"]", b"}", b")", b"l"),
    *(b"d", b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u", b"(", b"0", b"1", b"2"),
    *(b"\x93", b"R", b"b", b"p1000\n", b"q\xff", b"r\0\1\0\0", b"\x94", b"g0\n", b"h\0"),
    *(b"j\0\0\0\0", b"\x80\5", b"\x95" + bytes(8), b"cnumpy\ndtype\n", b"](K\1K\2e", b"]\x94"),
    *(b"]\x94K\1a", b"]\x94(K\1K\2e", b"I" + b"9" * 400 + b"\n", b"F" + b"9" * 400 + b"\n"),
    *(b"V" + b"x" * 5000 + b"\n", b"S'" + b"\\x41" * 1200 + b"'\n", b"p99999999999\n"),
]
# Pieces that give what takes most to make.
MAKERS = [
    b"h\x08h\x06h\x05\x86R0",  # 4000 bytes of a text that is named
    b"h\x09h\x0e\x85Rh\x11b0",  # a dtype with a state
    b"h\x0bh\x09h\x0e\x85Rh\x07\x86R0",  # a scalar
    b"h\x0ah\x03R0",
    b"h\x0fh\x10\x930",
    b"h\x0ch\x0dh\x12h\x07\x87R0",
    b"h\0]00",
    b"(h\0h\0h\0l0",
    b"}h\x05Ns0",
]


def filled(unit: bytes, nbytes: int, end: bytes = b"") -> bytes:
    body = unit * max(1, (nbytes - len(PRELUDE)) // len(unit))
    return PRELUDE + body + end


def units() -> list[bytes]:
    found = [*OPS, *MAKERS]
    found += [r + op for r in RECALLS for op in (b"0", b"]0", b"\x94", b"a", b"\x850")]
    found += [op + b"0" for op in OPS] + [op + b"\x94" for op in OPS] + [b"(" + op for op in OPS]
    found += [b"(" + op + b"t" for op in OPS] + [b"(" + op + b"1" for op in OPS]
    return found


def cost(path: Path, data: bytes, meter: Meter) -> float:
    """Share of what is allowed that a pickle costs."""
    path.write_bytes(data)
    with meter:
        m = run(path)
    n = len(data)
    assert m.work <= m._most_work + 2 * reader.WINDOW_NBYTES // reader.WORK_NBYTES
    return max(
        (meter.calls - FREE_CALLS) / (MOST_CALLS * n),
        (meter.copied - FREE_COPIED) / (MOST_COPIED * n),
    )


@pytest.mark.slow
def test_calls_for_each_opcode(tmp_path, monkeypatch):
    meter = Meter(monkeypatch)
    worst = {u: cost(tmp_path / "p", filled(u, 9_000), meter) for u in units()}
    assert {u: c for u, c in worst.items() if c > 1} == {}


def test_a_search_finds_nothing_that_takes_more_calls(tmp_path, monkeypatch):
    """Sequences of opcodes, changed at random where they cost more than those before."""
    meter, rng = Meter(monkeypatch), random.Random(11)
    pieces = [*OPS, *MAKERS, *RECALLS, b"(", b"0", b"1"]
    best, unit = 0.0, [b"]"]
    for _ in range(120):
        tried = list(unit)
        for _ in range(rng.randrange(1, 3)):
            kind = rng.randrange(3)
            at = rng.randrange(len(tried) + 1)
            if kind == 0 or not tried:
                tried.insert(at, rng.choice(pieces))
            elif kind == 1:
                del tried[min(at, len(tried) - 1)]
            else:
                tried[min(at, len(tried) - 1)] = rng.choice(pieces)
        if not tried:
            continue
        found = cost(tmp_path / "p", filled(b"".join(tried), 9_000), meter)
        if found >= best:
            best, unit = found, tried[:12]
    assert best <= 1, b"".join(unit)


@pytest.mark.slow
def test_memory_of_each_opcode(tmp_path, monkeypatch):
    """Files of 16 KiB, and limits in the same measure as those of files of 1 MiB."""
    nbytes = 1 << 14
    monkeypatch.setattr(reader, "FREE_HELD", reader.FREE_HELD * nbytes // MIB)
    monkeypatch.setattr(reader, "ROWS_AT_ONCE", 64)  # room that does not grow with the file
    path = tmp_path / "p"
    most = {}
    after = [r + op for r in RECALLS for op in (b"", b"\x94")]
    for unit in (*OPS, *MAKERS, *after):
        for end in (b"", b"t") if unit in OPS else (b"",):
            path.write_bytes(filled(unit, nbytes, end))
            source = Source(path)
            tracemalloc.start()
            m = Machine(source)
            with contextlib.suppress(mapix.FormatError, mapix.LimitError):
                m.run()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            most[unit, end] = peak - FREE_PEAK
    allowed = 64e6 * nbytes / MIB
    assert {u: p for u, p in most.items() if p > allowed} == {}


def test_rows_have_to_pay_for_looking_for_them(tmp_path, monkeypatch):
    calls = []
    real = _native.pickle_rows
    monkeypatch.setattr(_native, "pickle_rows", lambda *a: calls.append(a) or real(*a))
    for data in (b"]" * 50_000, (ROW + b"q\0" + b"]h\0" * 20_000), b"]\x94]K\1a" * 8000):
        calls.clear()
        (tmp_path / "p").write_bytes(b"\x80\4" + data)
        run(tmp_path / "p")
        assert len(calls) <= reader.ROWS_TRIES
    want = [[k % 7, 3] for k in range(100_000)]
    (tmp_path / "p").write_bytes(pickle.dumps(want, 4))
    calls.clear()
    m = Machine(Source(tmp_path / "p"))
    assert m.run() == want
    # as CPython writes them, in batches of a thousand: C reads nearly all of them
    assert len(calls) < 1000
    assert m.work < 300_000


@pytest.mark.slow
def test_limits_that_are_reached(tmp_path):
    """Each limit for its own reason."""
    for data, reason in (
        (b"\x80\2" + b"]" * MIB, "values take more than"),
        (b"\x80\4N" + b"\x94" * MIB, "values take more than"),
        (b"\x80\4N" + b"\x85" * MIB, "values take more than"),
        (filled(MAKERS[0], MIB), "values take more than"),
        (b"U\0" * (MIB // 2), "values take more than"),
        (filled(b"](K\1a" + b"K\1" * 6 + b"e", 4096) + b"\x80\4" * 100, None),
    ):
        (tmp_path / "p").write_bytes(data)
        m = Machine(Source(tmp_path / "p"))
        if reason:
            with pytest.raises(mapix.LimitError, match=reason):
                m.run()
            assert m.held <= m._most_held + 8192
    (tmp_path / "p").write_bytes(b"\x80\4" + b"N" * 1000)
    m = Machine(Source(tmp_path / "p"))
    m._most_work = 500
    with pytest.raises(mapix.LimitError, match="more than 500 steps"):
        m.run()
    assert m.work == 501


def number(n: int) -> bytes:
    raw = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def test_keys_that_collide_are_refused(tmp_path):
    """Multiples of 2**61 - 1 all have hash 0: a dict of them is quadratic."""
    keys = b"".join(number((2**61 - 1) * k) + b"N" for k in range(1, 50_000))
    (tmp_path / "p").write_bytes(b"\x80\4}(" + keys + b"u.")
    with pytest.raises(mapix.FormatError, match=r"a key of 64 bits"):
        Machine(Source(tmp_path / "p")).run()
    memo = b"N" + b"".join(b"p%d\n" % ((2**61 - 1) * k) for k in range(1, 9)) + b"."
    (tmp_path / "p").write_bytes(memo)
    with pytest.raises(mapix.FormatError, match="memo 2305843009213693951, which no pickle needs"):
        Machine(Source(tmp_path / "p")).run()
    small = dict.fromkeys((-(2**62), 2**62, 5))
    (tmp_path / "p").write_bytes(pickle.dumps(small, 4))
    assert Machine(Source(tmp_path / "p")).run() == small


def test_numbers_as_text_are_read_to_their_end(tmp_path):
    (tmp_path / "p").write_bytes(b"F" + b"0" * 390 + b"1e5\n.")
    assert Machine(Source(tmp_path / "p")).run() == 1e5
    (tmp_path / "p").write_bytes(b"F" + b"0" * 399 + b"1e5\n.")
    with pytest.raises(mapix.FormatError, match="a number of 402 digits"):
        Machine(Source(tmp_path / "p")).run()


def test_lines_of_any_length_at_any_place(tmp_path):
    """Across the windows that the reader has of the file."""
    for n in (0, 1, 4094, 4095, 4096, 4097, 65535, 65536, 65537, 140_000):
        for before in (0, 1, 4090, 70_000):
            (tmp_path / "p").write_bytes(b"N0" * before + b"V" + b"x" * n + b"\n.")
            found = Machine(Source(tmp_path / "p")).run()
            if n <= reader.SHORT_NBYTES:
                assert found == "x" * n
            else:
                assert (found.at, found.nbytes) == (2 * before + 1, n)
            (tmp_path / "p").write_bytes(b"N0" * before + b"V" + b"x" * n)
            with pytest.raises(mapix.FormatError, match="without an end"):
                Machine(Source(tmp_path / "p")).run()


# --- pickled batches ------------------------------------------------------------------------------


def laughs(depth: int) -> list:
    found: list = [1, 1]
    for _ in range(depth):
        found = [found, found]
    return found


def hostile_batches():
    images = np.zeros((200, 4), np.uint8)
    sizes = {"height": 2, "width": 2, "channels": 1}
    row = [255, *range(256), *range(254)]
    yield "shared rows", {"data": np.zeros((30_000, 1), np.uint8), "labels": [row] * 30_000}
    yield "nested rows", {"data": images, "vimh_labels": [laughs(40)] * 200, **sizes}
    yield "nested numbers", {"data": images, "vimh_labels": [[1, laughs(40), 1]] * 200, **sizes}
    yield "huge numbers", {"data": images, "vimh_labels": [[1, 2**400, 1]] * 200, **sizes}
    yield (
        "shared images",
        {"data": [[0] * 20_000] * 20_000, "labels": [], "image_size": "100x200x1"},
    )
    yield "nested images", {"data": [laughs(40)] * 4, **sizes}
    yield "nested sizes", {"data": images, "height": laughs(40), "width": 2, "channels": 1}
    yield "sizes of another kind", {"data": images, "image_size": "9" * 4000 + "x1x1"}
    yield "nested names", {"data": images, "labels": laughs(40), **sizes}
    yield "nested factors", {"data": images, "scale_factors": laughs(40), **sizes}


@pytest.mark.parametrize("name", [name for name, _ in hostile_batches()])
def test_values_that_are_named_again_and_again(tmp_path, monkeypatch, name):
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(dict(hostile_batches())[name], 4))
    cache = tmp_path / "cache"
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(cache))
    nbytes = path.stat().st_size
    meter = Meter(monkeypatch)
    tracemalloc.start()
    with meter, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(mapix.FormatError, mapix.LimitError):
            ds = mapix.open(path)
            len(ds.labels)
            ds[0].image.sum()
            ds[0].spec_range  # noqa: B018
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert meter.calls < MOST_CALLS * nbytes + FREE_CALLS
    assert peak < 61 * nbytes + (3 << 20)
    held = sum(p.stat().st_size for p in cache.rglob("*") if p.is_file()) if cache.exists() else 0
    assert held <= nbytes + 4096


def test_an_escape_that_never_ends(tmp_path):
    """Pieces of a long text are carried on by three bytes at most."""
    from mapix.vimh.pickles import decode

    monkey = 1 << 12
    text = rb"\x4" + b"z" * (20 * monkey)
    (tmp_path / "p").write_bytes(b"S'" + text + b"'\n.")
    source = Source(tmp_path / "p")
    with pytest.MonkeyPatch.context() as m:
        m.setattr(decode, "PIECE_NBYTES", monkey)
        with pytest.raises(mapix.FormatError, match="escape"):
            list(decode.pieces(source, Machine(source).run()))
        for good in (rb"\x41" * 9000, rb"\n" * 9000, rb"a\\" * 9000, b"\\'" * 9001):
            (tmp_path / "q").write_bytes(b"S'" + good + b"'\n.")
            source = Source(tmp_path / "q")
            want = pickle.loads((tmp_path / "q").read_bytes(), encoding="latin-1").encode("latin-1")
            assert b"".join(decode.pieces(source, Machine(source).run())) == want


# --- info JSON ------------------------------------------------------------------------------------


class Counted(str):
    """A text that counts how often it is compared."""

    compared = 0
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)


def test_a_key_that_comes_twice_is_found_in_one_go():
    pairs = [(Counted(f"k{i}"), 0) for i in range(5000)]
    pairs += [(Counted("k4999"), 0)]
    Counted.compared = 0
    with pytest.raises(ValueError, match="'k4999' appears twice"):
        info_json._no_duplicates(pairs)
    assert Counted.compared < 100


def test_many_fixed_parameters_are_told_apart_in_one_go():
    mappings = {Counted(f"k{i}"): {} for i in range(4000)}
    fixed = {Counted(f"k{i}"): {"value": 1} for i in range(2000, 6000)}
    Counted.compared = 0
    info = {"parameter_names": ["k7"], "parameter_mappings": mappings, "fixed_parameters": fixed}
    found = parameters.Parameters.from_info(info)
    assert len(found.fixed) == 5999
    assert Counted.compared < 40_000


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ('{"a": 1, "b": 2, "a": 3}', mapix.FormatError, "key 'a' appears twice"),
        ('{"x": {"a": 1, "a": 1}}', mapix.FormatError, "key 'a' appears twice"),
        ('{"a": NaN}', mapix.FormatError, "NaN is not a JSON number"),
        ('{"a": [-Infinity]}', mapix.FormatError, "-Infinity is not a JSON number"),
        ('{"a": 1e999}', mapix.FormatError, "1e999 is not a finite number"),
        ('{"a": -1e999}', mapix.FormatError, "-1e999 is not a finite number"),
        ('{"a": ' + "9" * 5000 + "}", mapix.FormatError, "digits"),
        ("[" * 100_000, mapix.FormatError, "nested too deeply"),
        ("{}" + " " * 20 + "x", mapix.FormatError, "Extra data"),
        ('{"a": [' + "[]," * 200_000 + "[]]}", mapix.LimitError, "lists and objects"),
        ('{"parameter_names": ["a"], "parameter_mappings": {"a": {"min": ' + "9" * 400 + "}}}",
         mapix.FormatError, "too large"),
        ('{"parameter_names": ["a"], "parameter_mappings": {"a": {"max": 1e300, "step": 1e-300}}}',
         mapix.FormatError, "classes"),
        ('{"parameter_names": ["a"], "parameter_mappings": {"a": {"max": 9, "step": 1e-9}}}',
         mapix.FormatError, "classes"),
        ('{"parameter_names": ["a"], "parameter_mappings": {"a": {"num_classes": 1000000000}}}',
         mapix.FormatError, "classes"),
        ('{"parameter_names": ["a"], "parameter_mappings": {"a": {"min": 1e308, "max": -1e308}}}',
         mapix.FormatError, "must be finite"),
        ('{"height": 1e3, "width": 100000, "channels": ' + "9" * 100 + "}", None, ""),
    ],
    ids=range(16),
)  # fmt: skip
def test_info_json_that_is_hostile(tmp_path, text, error, reason):
    (tmp_path / "train").write_bytes(b"\1\0\1\0\1\0" + bytes(8) + b"\1\0\5\1")
    (tmp_path / "vimh_dataset_info.json").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mapix.MapixWarning)
        if error is None:
            ds = mapix.open(tmp_path, dialect=14)
            assert len(ds) == 1
            assert ds.images.shape == (1, 1, 1, 1)
            ds.statistics()
        else:
            with pytest.raises(error, match=reason):
                mapix.open(tmp_path, dialect=14)


def test_memory_of_info_json(tmp_path):
    """1 MiB of whatever takes most, or as much of it as the limit of brackets allows."""
    for unit in ("[],", "{},", '{"":0},', '"ab",', "1.5,", "1e1,", '"\u0100",', "-1,", '[[[""]]],'):
        count = min(MIB // len(unit.encode()), (1 << 17) // max(1, sum(map(unit.count, "[{"))) - 2)
        text = '{"a":[' + unit * count + "0]}"
        tracemalloc.start()
        assert len(info_json.parse_info(text.encode(), "x")["a"]) == count + 1
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64e6, unit
    flat = {f"{i:x}": 0 for i in range(80_000)}
    tracemalloc.start()
    assert info_json.parse_info(json.dumps(flat).encode(), "x") == flat
    assert tracemalloc.get_traced_memory()[1] < 80e6
    tracemalloc.stop()


# --- models ---------------------------------------------------------------------------------------

LAYER = '{"Inputs":1,"Outputs":1,"Function":"Linear","Biases":[0],"Weights":[[0]]%s}'
MEMBERS = [
    '"":0',
    '"":null',
    '"":[]',
    '"":[{}]',
    '"":""',
    '"\\u0041":""',
    '"a" : [1, "x"]',
    '"":-1e9',
]


def model(members: str) -> str:
    return '{"Type":"MultilayerPerceptron","Layers":[' + LAYER % members + "]}"


@pytest.mark.parametrize("member", MEMBERS)
def test_names_of_models_cost_a_bounded_number_of_calls(tmp_path, monkeypatch, member):
    path = tmp_path / "m.json"
    path.write_text(model(("," + member) * 3000))
    nbytes = path.stat().st_size
    meter = Meter(monkeypatch)
    with meter, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(mapix.open(path).unknown) == 3000
    assert meter.calls < MOST_CALLS * nbytes + FREE_CALLS
    assert meter.copied < MOST_COPIED * nbytes + FREE_COPIED


def test_names_of_a_model_are_limited(tmp_path):
    path = tmp_path / "m.json"
    for members, layers, reason in (
        (9990, 4, "32768 in the text"),
        (10_000, 1, "more than 10000 names"),
        (1, 4097, "more than 4096 layers"),
    ):
        text = LAYER % (',"":0' * members)
        path.write_text(
            '{"Type":"MultilayerPerceptron","Layers":[' + ",".join([text] * layers) + "]}"
        )
        with pytest.raises(mapix.LimitError, match=reason):
            mapix.open(path)


def test_words_at_the_end_of_a_window(tmp_path):
    """A value that goes on in the next window is read to its end."""
    from mapix.visualrbm.json_text import WINDOW_NBYTES

    for space in range(WINDOW_NBYTES - 90, WINDOW_NBYTES + 10):
        path = tmp_path / "m.json"
        path.write_text(model("," + " " * space + '"a":-123.5e-7,"b":null,"c":true'))
        assert list(mapix.open(path).unknown) == ["Layers[0].a", "Layers[0].b", "Layers[0].c"]
