"""Every bound of the parsers of IDX, PINK and VisualRBM, at its edge, from both sides."""

from __future__ import annotations

import json
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapix
from mapix.idx import layout as idx
from mapix.pink import Writer
from mapix.pink import layout as pink
from mapix.visualrbm import cjson, json_text, schedule
from mapix.visualrbm import layout as visualrbm

pytestmark = pytest.mark.filterwarnings("ignore::mapix.MapixWarning")


def opened(folder: Path, data: bytes, **options: Any) -> Any:
    path = folder / "x"
    path.write_bytes(data)
    return mapix.open(path, **options)


def refused(folder: Path, data: bytes, match: str, error: Any = mapix.FormatError, **options: Any):
    with pytest.raises(error, match=match):
        opened(folder, data, **options)


# --- IDX ------------------------------------------------------------------------------------------


def idx_file(shape: tuple[int, ...], code: int = 8, order: str = ">", more: int = 0) -> bytes:
    head = (b"\0\0" if order == ">" else b"\xff\xff") + bytes([code, len(shape)])
    nbytes = {8: 1, 9: 1, 0x0B: 2, 0x0C: 4, 0x0D: 4, 0x0E: 8}.get(code, 1)
    size = int(np.prod(shape, dtype=object)) * nbytes + more
    return head + struct.pack(f"{order}{len(shape)}I", *shape) + bytes(size)


def test_idx_first_bytes(tmp_path):
    for first in range(256):
        for second in (0, 1, 254, 255):
            data = bytes([first, second]) + idx_file((2,))[2:]
            if (first, second) in ((0, 0), (255, 255)):
                count = 2 if first == 0 else 2 << 24
                good = idx.parse(data, "x")
                assert good.shape == (count,)
            else:
                with pytest.raises(mapix.FormatError, match="at byte 0.*0000 or ffff"):
                    idx.parse(data, "x")


def test_idx_types(tmp_path):
    known = {8: "u1", 9: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
    for code in range(256):
        data = idx_file((3,), code)
        if code in known:
            for order in "><":
                a = opened(tmp_path, idx_file((3,), code, order), format="idx")
                assert a.dtype == np.dtype(order + known[code])
        else:
            refused(tmp_path, data, "at byte 2.*a type of", format="idx")


def test_idx_headers_that_are_cut(tmp_path):
    for ndim in (1, 2, 32):
        data = idx_file((0,) * ndim)
        for n in range(len(data)):
            kind = mapix.TruncatedError if n >= 4 else mapix.FormatError
            with pytest.raises(kind):
                idx.parse(data[:n], "x")
        assert idx.parse(data, "x").shape == (0,) * ndim
        assert opened(tmp_path, data, format="idx").shape == (0,) * ndim


def test_idx_numbers_of_dimensions(tmp_path):
    for ndim, kind in [(0, mapix.FormatError), (33, mapix.LimitError), (255, mapix.LimitError)]:
        refused(tmp_path, idx_file((1,) * ndim), "dimension", kind, format="idx")
    for ndim in (1, 32):
        assert opened(tmp_path, idx_file((1,) * ndim), format="idx").shape == (1,) * ndim


def test_idx_lengths(tmp_path):
    for code in (8, 0x0B, 0x0E):
        for shape in [(3,), (2, 3), (1, 1, 1), (5, 2, 0)]:
            good = idx_file(shape, code)
            assert opened(tmp_path, good, format="idx").view().shape == shape
            refused(tmp_path, good + b"\0", "1 more", format="idx")
            if 0 not in shape:
                refused(
                    tmp_path, good[:-1], "bytes, the file has", mapix.TruncatedError, format="idx"
                )


def test_idx_dimensions_beyond_any_disk():
    def parse(*shape: int, code: int = 8) -> tuple[int, ...]:
        return idx.parse(
            idx_file(shape, code)[: 4 + 4 * len(shape)]
            if 0 in shape
            else bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape),
            "x",
        ).shape

    for shape in [(2**31, 2**28), (0, 2**31, 2**28), (2**28, 2**31)]:
        assert parse(*shape) == shape
    for shape in [(2**31, 2**28 + 1), (0, 2**31, 2**28 + 1), (2**32 - 1,) * 32]:
        with pytest.raises(mapix.LimitError, match="larger than any disk"):
            parse(*shape)


# --- PINK -----------------------------------------------------------------------------------------


def ints(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers)


PINKS = {  # the header's numbers, bytes of the payload, and (lowest, highest) of each number
    "data": ([2, 0, 0, 2, 0, 2, 3, 4], 2 * 12 * 4),
    "som": ([2, 1, 0, 0, 2, 2, 1, 0, 2, 3, 4], 2 * 12 * 4),
    "map": ([2, 2, 0, 2, 0, 2, 3, 1], 2 * 3 * 4),
    "rot": ([2, 3, 2, 0, 2, 3, 1], 2 * 3 * 5),
}


@pytest.mark.parametrize("kind", PINKS)
def test_pink_headers_that_are_cut(kind):
    head, nbytes = PINKS[kind]
    data = ints(*head) + bytes(nbytes)
    assert pink.of_version_2(data, len(data), "x").kind == kind
    for n in range(4 * len(head)):
        with pytest.raises(mapix.FormatError):
            pink.of_version_2(data[:n], n, "x")
    for n in range(4, 4 * len(head)):
        with pytest.raises(mapix.TruncatedError, match=f"at byte {n // 4 * 4}"):
            pink.of_version_2(data[:n], n, "x")


@pytest.mark.parametrize("kind", PINKS)
def test_pink_lengths(tmp_path, kind):
    head, nbytes = PINKS[kind]
    data = ints(*head) + bytes(nbytes)
    options = {"format": "pink", "version": 2}
    assert opened(tmp_path, data, **options).kind == kind
    for more in (1, 4, 5):
        refused(tmp_path, data + bytes(more), "cells of", **options)
    for less in (1, 4, 5):
        refused(tmp_path, data[:-less], "cells of", mapix.TruncatedError, **options)


@pytest.mark.parametrize("kind", PINKS)
def test_pink_numbers(kind):
    """What stands in each place of a header: its lowest and highest, and what is beside them."""
    head, nbytes = PINKS[kind]
    names = {
        "data": "version kind type n layout ndim dim dim",
        "som": "version kind type layout ndim dim dim layout ndim dim dim",
        "map": "version kind type n layout ndim dim dim",
        "rot": "version kind n layout ndim dim dim",
    }[kind].split()
    ranges = {
        "version": (2, 2), "kind": (0, 3), "type": (0, 9), "n": (0, None), "layout": (0, 1),
        "ndim": (1, 16), "dim": (1, None),
    }  # fmt: skip
    for at, name in enumerate(names):
        low, high = ranges[name]
        for value in {
            low,
            low - 1,
            -(2**31),
            *([] if high is None else [high, high + 1, 2**31 - 1]),
        }:
            data = ints(*head[:at], value, *head[at + 1 :]) + bytes(nbytes)
            good = value >= low and (high is None or value <= high)
            try:
                pink.of_version_2(data, len(data), "x")
                problem = ""
            except mapix.MapixError as e:
                problem = str(e)
            said = f"at byte {4 * at}" in problem and f"expected, got {value}" in problem
            assert said == (not good), (name, value, problem)


def test_pink_dimensions(tmp_path):
    for ndim in (1, 16):
        data = ints(2, 0, 0, 3, 0, ndim, *[1] * ndim) + bytes(12)
        assert opened(tmp_path, data, format="pink").shape == (3, *[1] * ndim)
    refused(
        tmp_path,
        ints(2, 0, 0, 3, 0, 17, *[1] * 17) + bytes(12),
        "1..16 expected, got 17",
        format="pink",
        version=2,
    )
    som = ints(2, 1, 0, 0, 16, *[1] * 16, 0, 16, *[1] * 16) + bytes(4)  # as long as a header can be
    assert len(som) - 4 == pink.HEAD_NBYTES
    assert opened(tmp_path, som, format="pink").nneurons == 1
    for comment in (b"", b"#" * 4000 + b"\n", b"#" * 5000 + b"\n"):
        assert opened(tmp_path, comment + som, format="pink").nneurons == 1


def test_pink_numbers_that_are_written(tmp_path):
    most = 2**31 - 1
    for options in ({"n": most}, {"row_shape": (most, 1)}, {"row_shape": (1,) * 16}):
        Writer(tmp_path / "y", "data", **{"row_shape": (1,), **options}).abort()
    for options in (
        {"n": most + 1},
        {"n": -1},
        {"row_shape": (most + 1,)},
        {"row_shape": (1,) * 17},
    ):
        with pytest.raises(ValueError, match="n must be|row_shape of"):
            Writer(tmp_path / "y", "data", **{"row_shape": (1,), **options})
    assert list(tmp_path.iterdir()) == []


def test_pink_files_without_entries(tmp_path):
    """Nothing proves how large an entry is."""
    for kind in (0, 2):
        for cells, good in [(2**20, True), (2**20 + 1, False)]:
            data = ints(2, kind, 0, 0, 0, 1, cells)
            if good:
                assert opened(tmp_path, data, format="pink").shape == (0, cells)
            else:
                refused(tmp_path, data, "MOST_EMPTY", mapix.LimitError, format="pink")
    refused(
        tmp_path,
        ints(2, 0, 0, 0, 0, 1, 4) + b"\0",
        "no entries, and 1 bytes",
        format="pink",
        version=2,
    )


def test_pink_comments(tmp_path):
    data = ints(2, 0, 0, 1, 0, 2, 2, 2) + bytes(16)
    for nbytes in (2, 4095, 4096, 4097, 2**20 - 1, 2**20):
        a = opened(tmp_path, b"#" * (nbytes - 1) + b"\n" + data, format="pink")
        assert (len(a.comment), a.shape) == (nbytes, (1, 2, 2))
    for nbytes in (2**20 + 1, 2**20 + 200, 2**20 + 5000, 2**21):
        for line in (b"#" * (nbytes - 1) + b"\n", b"#\n" * (nbytes // 2) + b"#\n" * (nbytes % 2)):
            refused(tmp_path, line + data, "MOST_COMMENT", mapix.LimitError, format="pink")
    refused(tmp_path, b"#" * 2**20, "does not end", format="pink")
    refused(tmp_path, b"#" * (2**20 + 1000), "MOST_COMMENT", mapix.LimitError, format="pink")
    assert opened(tmp_path, b"#\n# END OF HEADER\n" + data, format="pink").header == ("#",)
    assert pink.comment_of(b"# END OF HEADER") is None
    assert pink.comment_of(b"# END OF HEADER\n#\n") == (16, True)
    assert pink.comment_of(b"#a\n# END OF HEADER \n\n") == (20, False)
    assert pink.comment_of(b"") == (0, False)


def test_pink_version_1(tmp_path):
    """Lengths alone tell: one byte more or less is none, or another kind."""
    files = {
        "data": ints(4, 3, 5, 5) + bytes(4 * 3 * 25 * 4),
        "map": ints(7, 2, 3, 1) + bytes(7 * 6 * 4),
        "rot": ints(7, 2, 3, 1) + bytes(7 * 6 * 5),
        "som": ints(3, 2, 3, 1, 5, 5) + bytes(6 * 3 * 25 * 4),
    }
    for kind, data in files.items():
        options = {"format": "pink", "kind": kind, "version": 1}
        assert opened(tmp_path, data, **options).version == 1
        for bad in (data[:-1], data + b"\0"):
            refused(tmp_path, bad, f"no {kind} of version 1 has {len(bad)} bytes", **options)
        for n in (0, 3, 15):
            assert list(pink.of_version_1(data[:n], n)) == []
        for at in range(4):
            for wrong in (0, -1, -(2**31)):
                bad = data[: 4 * at] + ints(wrong) + data[4 * at + 4 :]
                assert list(pink.of_version_1(bad, len(bad))) == []
    som = files["som"]
    assert [h.kind for h in pink.of_version_1(som[:24], len(som))] == ["som"]
    assert list(pink.of_version_1(som[:23], len(som))) == []


# --- VisualRBM's models ---------------------------------------------------------------------------


def model(**fields: Any) -> bytes:
    found = {
        "Type": "RestrictedBoltzmannMachine", "VisibleCount": 1, "HiddenCount": 1,
        "VisibleType": "Linear", "HiddenType": "Linear", "VisibleBiases": [0],
        "HiddenBiases": [0], "Weights": [[0]],
    } | fields  # fmt: skip
    return json.dumps(found).encode()


def read(folder: Path, data: bytes, **options: Any) -> Any:
    return opened(folder, data, format="visualrbm", **options)


MODEL = {"format": "visualrbm", "kind": "model"}


def test_model_counts(tmp_path):
    text = model().decode()
    for count, problem in [
        ("1", None), ("0", "1 to 4294967295 expected"), ("-1", "1 to 4294967295 expected"),
        ("4294967295", "HiddenBiases: 4294967295 numbers expected, 1 found"),
        ("4294967296", "1 to 4294967295 expected"),
        ("18446744073709551617", None),  # 1, by VisualRBM's 64 bits
        ("0" * 3999 + "1", None), ("0" * 4000 + "1", "1 to 4294967295 expected"),
    ]:  # fmt: skip
        data = text.replace('"HiddenCount": 1', f'"HiddenCount": {count}').encode()
        if problem is None:
            assert len(read(tmp_path, data).hidden_biases) == 1
        else:
            refused(
                tmp_path,
                data,
                problem,
                **MODEL,
            )


def test_model_arrays_at_the_end_of_a_text(tmp_path):
    """Arrays as long as their counts say; one number more or less is refused."""
    for n in (1, 2, 7):
        numbers = ",".join("1" * n)
        for strict in (False, True):
            head = (
                f'{{"Type":"RestrictedBoltzmannMachine","VisibleCount":{n},"HiddenCount":1,'
                f'"VisibleType":"Linear","HiddenType":"Linear","VisibleBiases":[{numbers}],'
                '"HiddenBiases":[1],"Weights":[['
            )
            good = f"{head}{numbers}]]}}".encode()
            assert read(tmp_path, good, strict=strict).weights.shape == (1, n)
            for bad in (
                f"{head}{numbers},1]]}}",
                f"{head}{numbers[:-2]}]]}}",
                f"{head}{numbers}],[1]]}}",
            ):
                refused(tmp_path, bad.encode(), "expected", strict=strict, **MODEL)
            for cut in range(1, len(good)):
                refused(tmp_path, good[:-cut], "/x: ", mapix.MapixError, strict=strict, **MODEL)


LAYER = {"Inputs": 1, "Outputs": 1, "Function": "Linear", "Biases": [0], "Weights": [[0]]}


def test_model_layers(tmp_path, monkeypatch):
    assert visualrbm.MOST_LAYERS == 4096
    for n, good in [(4096, True), (4097, False)]:
        data = json.dumps({"Type": "MultilayerPerceptron", "Layers": [LAYER] * n}).encode()
        if good:
            assert len(read(tmp_path, data, kind="model")) == n
        else:
            refused(tmp_path, data, "more than 4096 layers", mapix.LimitError, **MODEL)


def test_model_names(tmp_path):
    assert json_text.MOST_NAMES == 10_000
    for n, good in [(10_000, True), (10_001, False)]:
        data = model(**{str(k): 0 for k in range(n - 8)})
        if good:
            assert len(read(tmp_path, data).unknown) == n - 8
        else:
            refused(tmp_path, data, "more than 10000 names", mapix.LimitError, **MODEL)


def test_model_texts_and_digits(tmp_path):
    """Names of 64 KiB, quotes included, in windows of 4 KiB; numbers of as many digits."""
    most = json_text.MOST_TEXT_NBYTES
    for n in (1, 4093, 4094, 4095, 4096, 4097, 8190, most - 2):
        assert read(tmp_path, model(**{"x" * n: 0})).unknown == ("x" * n,)
        escaped = model(**{"x" * n: 0}).replace(b"xx", b"\\n", 1)
        assert len(read(tmp_path, escaped).unknown[0]) == n - (n > 1)
    refused(
        tmp_path,
        model(**{"x" * most: 0}),
        "a string of more than 65536 bytes",
        mapix.LimitError,
        **MODEL,
    )
    for n in (1, 4095, 4096, 4097, 60_000):
        data = model().replace(b'"HiddenCount": 1', b'"HiddenCount": 1.' + b"0" * n)
        assert read(tmp_path, data).hidden_biases.shape == (1,)
    data = model().replace(b'"HiddenCount": 1', b'"HiddenCount": 1.' + b"0" * 140_000)
    refused(tmp_path, data, "a number of 65536 digits", mapix.LimitError, **MODEL)


def test_model_values_that_are_passed_over(tmp_path):
    for depth, good in [(1000, True), (1001, False)]:
        for begin, end in ((b"[", b"]"), (b'{"a":', b"}")):
            value = (
                begin * (depth - 1)
                + (b"{" if begin == b"[" else b'{"a":{}')[:1]
                + b"}"
                + end * (depth - 1)
            )
            data = model(x=0).replace(b'"x": 0', b'"x": ' + value)
            if good:
                assert read(tmp_path, data).unknown == ("x",)
            else:
                refused(tmp_path, data, "nested deeper than 1000", **MODEL)
    step = json_text.SKIP_NBYTES
    for n in (step - 9, step - 8, step - 7, step - 6, step - 2, step - 1, step, step + 1, 2 * step):
        for fill in (b"a", b'\\"', b"[]", b"\\\\"):
            text = b'"' + fill * (n // len(fill)) + b'"'
            data = model(x=0).replace(b'"x": 0', b'"x": [{"y":' + text + b',"z":[[{}],"]"]}]')
            assert read(tmp_path, data).unknown == ("x",)
    for bad in (b"[}", b"[{]", b'{"a":[}', b"[[{}]", b'[{"]}', b"[{}}"):
        refused(tmp_path, model(x=0).replace(b'"x": 0', b'"x": ' + bad), "/x: ", **MODEL)


def test_older_files(tmp_path):
    def old(v: int, h: int, flag: bytes = b"") -> bytes:
        numbers = v * (3 if flag == b"\xff" else 1) + h + v * h
        return b".RBM" + flag + struct.pack("<2H", v, h) + bytes(4 * numbers)

    for flag in (b"", b"\0", b"\xff"):
        for v, h in ((1, 1), (3, 2), (300, 2)):
            good = old(v, h, flag)
            assert read(tmp_path, good).weights.shape == (h, v)
            for bad in (good[:-1], good + b"\0"):
                refused(tmp_path, bad, "the file has", format="visualrbm")
        for v, h in ((0, 1), (1, 0), (0, 0)):
            refused(tmp_path, old(v, h, flag), "the file has", format="visualrbm")
    for n in range(4, 9):
        refused(tmp_path, old(1, 1)[:n], "the file has", format="visualrbm")


# --- VisualRBM's schedules ------------------------------------------------------------------------

PAIR = {
    "Type": "RBM", "VisibleCount": 4, "HiddenCount": 3, "VisibleType": "Linear",
    "HiddenType": "Linear", "MinibatchSize": 1, "Schedule": [{"Epochs": 1}],
}  # fmt: skip
SCHEDULE = {"format": "visualrbm", "kind": "schedule"}


def parsed(text: bytes) -> cjson.Node:
    return cjson.parse(text, "x", "json", strict=False)


def test_schedule_depth():
    for depth, good in [(10_000, True), (10_001, False)]:
        for begin, end in ((b"[", b"]"), (b'{"a":', b"}")):
            text = begin * (depth - 1) + b"[]" + end * (depth - 1)
            if good:
                assert parsed(text).kind in ("array", "object")
            else:
                with pytest.raises(mapix.LimitError, match="nested deeper than 10000 at byte"):
                    parsed(text)


def test_schedule_values(tmp_path):
    for n, good in [(50_000, True), (50_001, False)]:
        for text in (b"[" + b"0," * (n - 2) + b"0]", b"{" + b'"":0,' * (n - 2) + b'"":0}'):
            if good:
                assert len(parsed(text).items) == n - 1
            else:
                with pytest.raises(mapix.LimitError, match="more than 50000 values at byte"):
                    parsed(text)
    # a model that says something of schedules stays one, however many numbers it has
    n = 60_000
    data = model(VisibleCount=n, VisibleBiases=[0] * n, Weights=[[0] * n], Schedule="none")
    assert read(tmp_path, data).weights.shape == (1, n)


def test_schedule_bytes(tmp_path):
    text = json.dumps(PAIR).encode()
    most = schedule.MOST_NBYTES
    assert len(read(tmp_path, text + b" " * (most - len(text)), kind="schedule")) == 1
    refused(
        tmp_path,
        text + b" " * (most - len(text) + 1),
        "more than 4194304",
        mapix.LimitError,
        **SCHEDULE,
    )


def test_schedule_numbers_of_layers(tmp_path):
    """One number stands for each layer, and a text of stages times layers would be 2 GB of them."""
    layers, stages = 1 << 10, 1 << 10
    base = {
        "Type": "MLP", "Layers": [1] * (layers + 1), "ActivationFunctions": ["Linear"] * layers,
        "MinibatchSize": 1,
    }  # fmt: skip
    for n, good in [(stages, True), (stages + 1, False)]:
        entries = [{"Epochs": 1, "Noise": k / n} for k in range(n)]
        data = json.dumps(base | {"Schedule": entries}).encode()
        if good:
            found = read(tmp_path, data)
            assert found.stages[-1].noise == ((n - 1) / n,) * layers
        else:
            refused(
                tmp_path, data, "more than 1048576 numbers of layers", mapix.LimitError, **SCHEDULE
            )


def test_schedule_counts(tmp_path):
    for value, good in [
        (1, True),
        (0, False),
        (2**31 - 1, True),
        (2**31, False),
        (-1, False),
        (0.99, False),
    ]:
        for name in ("VisibleCount", "HiddenCount", "MinibatchSize"):
            data = json.dumps(PAIR | {name: value}).encode()
            if good:
                assert read(tmp_path, data).kind
            else:
                refused(tmp_path, data, f"{name}: 1 to 2147483647 expected", **SCHEDULE)


@pytest.mark.filterwarnings("default")
def test_schedule_names_given_twice(tmp_path):
    """VisualRBM takes the first, in silence."""
    text = json.dumps(PAIR).replace('"Epochs": 1', '"Epochs": 3, "epochs": 4').encode()
    with pytest.warns(mapix.MapixWarning, match=r"Schedule\[0\]\.epochs: given twice; the first"):
        assert len(read(tmp_path, text)) == 3
    text = json.dumps(PAIR).replace('"MinibatchSize": 1', '"MinibatchSize": 7, "MinibatchSize": 8')
    with pytest.warns(mapix.MapixWarning, match="minibatchsize: given twice; the first counts"):
        assert read(tmp_path, text.encode()).minibatch_size == 7


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "nan", "+1"])
def test_words_that_are_no_numbers(tmp_path, word):
    text = json.dumps(PAIR).replace('"Epochs": 1', f'"Epochs": {word}').encode()
    if word == "-Infinity":  # a minus is 0 to cJSON, and then comes what cannot
        refused(tmp_path, text, "expected", **SCHEDULE)
    else:
        refused(tmp_path, text, "a value expected", **SCHEDULE)
    refused(tmp_path, model().replace(b"[0]", b"[" + word.encode() + b"]", 1), "expected", **MODEL)


# --- what a megabyte costs ------------------------------------------------------------------------

SCALE = 16  # a sixteenth of a megabyte under a sixteenth of each limit: as much work for each byte
SIZE = (1 << 20) // SCALE
LIMITS = {
    cjson: ["MOST_VALUES"], json_text: ["MOST_NAMES"], visualrbm: ["MOST_LAYERS"],
    schedule: ["MOST_NUMBERS"],
}  # fmt: skip
MOST_CALLS = 10  # of Python and C functions a byte: 7 of escapes, the most known, are 0.4 us
MOST_MEMORY = 64  # bytes a byte


@contextmanager
def work() -> Iterator[list[int]]:
    """Calls of functions, and the most bytes held, while it lasts: the same on every machine."""
    found = [0, 0]

    def count(frame: Any, event: str, argument: Any) -> None:
        found[0] += 1

    tracemalloc.start()
    sys.setprofile(count)
    try:
        yield found
    finally:
        sys.setprofile(None)
        found[1] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


HEAD = json.dumps(PAIR).encode()[:-1].rpartition(b', "Schedule"')[0]
MANY = b'{"Type":"MLP","MinibatchSize":1,"Layers":[1%s],"ActivationFunctions":["Linear"%s],'
MANY = MANY % (b",1" * 900, b',"Linear"' * 899) + b'"Schedule":['
RBM = b'{"Type":"RestrictedBoltzmannMachine",'
FRONTS = [
    b"", b"{", b'{"', b'{"a":', b'{"a":[', b'{"Schedule":[', b'{"Schedule":', HEAD + b',"x":',
    HEAD + b',"Schedule":[', MANY, RBM, RBM + b'"a":', RBM + b'"a":[', RBM + b'"HiddenCount":',
    RBM + b'"Weights":[', RBM + b'"HiddenBiases":[', b'{"Type":"MultilayerPerceptron","Layers":[',
]  # fmt: skip
TOKENS = [
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"0", b"1", b"9", b"-", b".", b"e", b"\\", b"\\u0041",
    b" ", b"a", b'"a":', b'"":0,', b"[],", b"{},", b"0,", b"1.5e1,", b"true,", b'"",', b"\xff",
    b'{"Epochs":1},', b'{"Epochs":1,"Noise":0},', b'{"Epochs":1.5,"L1":1},',
    b'{"Inputs":1,"Outputs":1,"Function":"Linear","Biases":[0],"Weights":[[0]]},',
]  # fmt: skip
WORST = [  # what searches found before there were limits
    (b'{"Schedule":[', b"0,", b"0]}"), (MANY, b'{"Epochs":1,"Noise":0},', b"]}"),
    (HEAD + b',"Schedule":[', b'{"Epochs":1.5,"L1":1},', b"]}"), (b"{", b'"":0,', b"}"),
    (HEAD + b',"x":"', b"\\a", b'"}'), (RBM + b'"a":[', b"{},", b"{}]}"), (RBM, b'"":0,', b"}"),
    (FRONTS[-1], TOKENS[-1], b"]}"), (b'{"Seed":', b"9", b"}"), (RBM + b'"a":[', b'"",', b"]}"),
]  # fmt: skip


def costs(folder: Path, data: bytes) -> None:
    (folder / "x.json").write_bytes(data)
    for kind in (None, "model", "schedule"):
        with pytest.MonkeyPatch.context() as patch:
            for module, names in LIMITS.items():
                for name in names:
                    patch.setattr(module, name, getattr(module, name) // SCALE)
            with work() as found, suppress(mapix.MapixError):
                mapix.open(folder / "x.json", format="visualrbm", kind=kind)
        assert found[0] < MOST_CALLS * SIZE, (kind, data[:99], data[-20:])
        assert found[1] < MOST_MEMORY * SIZE, (kind, data[:99], data[-20:])


@pytest.mark.parametrize(("front", "unit", "end"), WORST, ids=range(len(WORST)))
def test_a_megabyte_of_the_worst(tmp_path, front, unit, end):
    n = (SIZE - len(front) - len(end)) // len(unit)
    costs(tmp_path, front + unit * n + end)


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(FRONTS),
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map(b"".join),
    st.sampled_from([b"", b"}", b"]}", b'"}', b"0]}"]),
)
def test_a_megabyte_of_anything(tmp_path, front, unit, end):
    """Texts that repeat themselves; more examples find no worse than those above."""
    n = (SIZE - len(front) - len(end)) // len(unit)
    costs(tmp_path, front + unit * n + end)


HEADERS = {
    "idx, rows": (idx_file((1 << 16,)), "idx"),
    "idx, rows without numbers": (idx_file((1 << 16, 0)), "idx"),
    "idx, 32 dimensions": (idx_file((1,) * 31 + (1 << 20,)), "idx"),
    "pink, comments": (b"#\n" * (1 << 19) + ints(2, 0, 0, 1, 0, 2, 1, 1) + bytes(4), "pink"),
    "pink, too many comments": (b"#\n" * (1 << 20), "pink"),
    "pink, a line": (b"#" * (1 << 20), "pink"),
    "pink, no entries": (ints(2, 2, 0, 0, 1, 2, 1023, 1023), "pink"),
    "pink, no entries of a line": (ints(2, 2, 0, 0, 0, 1, 1 << 20), "pink"),
    "pink, one number a row": (ints(2, 2, 0, 1 << 14, 0, 1, 1) + bytes(1 << 16), "pink"),
    "pink, neurons": (ints(2, 1, 0, 0, 1, 1 << 14, 0, 1, 1) + bytes(1 << 16), "pink"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_megabyte_of_arrays(tmp_path, name):
    data, format = HEADERS[name]
    with work() as found, suppress(mapix.MapixError):
        a = opened(tmp_path, data, format=format)
        assert sum(1 for _ in a) == sum(len(b) for b in a.blocks()) == len(a)
        np.asarray(a)
        if hasattr(a, "lattice"):
            assert len(a.lattice.positions) == a.nneurons
        if hasattr(a, "best_match"):
            assert len(a.best_match()) == len(a)
            assert a.counts().sum() == a.heatmap().sum() == len(a)
    assert found[0] < MOST_CALLS * max(len(data), SIZE)
    assert found[1] < 64 << 20
