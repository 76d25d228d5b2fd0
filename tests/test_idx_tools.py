"""VisualRBM's tools: the original's bytes where they matter, and none of its losses."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.__main__ import main
from mapix.idx import shuffle, tools, write

IDX = GOLDEN / "idx"


def test_csv_in(tmp_path):
    tools.csv2idx(IDX / "csv_in.csv", tmp_path / "a.idx")
    assert (tmp_path / "a.idx").read_bytes() == (IDX / "csv_out_le_f32.idx").read_bytes()
    (tmp_path / "one.csv").write_text("1\n2\n3\n4\n5")  # the original loses the last one
    tools.csv2idx(tmp_path / "one.csv", tmp_path / "b.idx")
    assert (tmp_path / "b.idx").read_bytes() == (IDX / "csv_onecol_le_f32_5x1.idx").read_bytes()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n", "line 1: 'a' is not a number"),
        ("1,2\n\n3,4\n", "line 2: it is empty"),
        ("1,2\n3\n", "line 2: 2 numbers expected, 1 found"),
        ("1,.5\n", "is not a number"),
        ("1,nan\n", "is not a number"),
        ("1,inf\n", "is not a number"),
        ("1,,2\n", "is not a number"),
        ("", "no lines"),
    ],
)
def test_csv_that_is_none(tmp_path, text, complaint):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(mapix.FormatError, match=complaint):
        tools.csv2idx(tmp_path / "a.csv", tmp_path / "a.idx")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_csv_out(tmp_path):
    want = np.array([[-7.7, 0.1], [1e300, -0.0], [1 / 3, 2**-1074]])
    write(tmp_path / "a.idx", want)
    out = io.StringIO()
    tools.idx2csv(tmp_path / "a.idx", out)
    back = np.array([[float(v) for v in line.split(",")] for line in out.getvalue().split()])
    assert back.tobytes() == want.tobytes()  # exactly; the original's 16 digits do not
    write(tmp_path / "b.idx", (want[:, :1] / 3).clip(-9, 9).astype(np.float32))
    out = io.StringIO()
    tools.idx2csv(tmp_path / "b.idx", out)
    values = mapix.open(tmp_path / "b.idx").view().astype(np.float32).ravel()
    assert [np.float32(v) for v in out.getvalue().split()] == values.tolist()
    golden = (IDX / "idx2csv_be_f64.csv").read_text()
    numbers = np.array([[float(v) for v in line.split(",")[:-1]] for line in golden.split()])
    write(tmp_path / "c.idx", numbers)
    out = io.StringIO()
    tools.idx2csv(tmp_path / "c.idx", out, compat=True)
    assert out.getvalue() == golden
    write(tmp_path / "d.idx", np.array([[1, 255]], np.uint8))
    out = io.StringIO()
    tools.idx2csv(tmp_path / "d.idx", out)
    assert out.getvalue() == "1,255\n"


def test_rows_and_columns(tmp_path):
    a = IDX / "be_u8_3x4x5.idx"
    tools.cat([a, IDX / "le_u8_3x4x5.idx"], tmp_path / "cat.idx", byteorder="<")
    assert (tmp_path / "cat.idx").read_bytes() == (IDX / "cat_u8_6x4x5.idx").read_bytes()
    tools.split(a, tmp_path / "s.idx", 1, compat=True)
    assert (tmp_path / "s.idx").read_bytes() == (IDX / "split_be_u8_from1.idx").read_bytes()
    tools.split(IDX / "be_f32_5x7.idx", tmp_path / "t.idx", 1, 2)
    assert (tmp_path / "t.idx").read_bytes() == (IDX / "split_be_f32_1_2.idx").read_bytes()
    tools.split(a, tmp_path / "u.idx", 1, 1)
    assert mapix.open(tmp_path / "u.idx").shape == (1, 4, 5)
    tools.join([a, a], tmp_path / "j.idx")
    joined = mapix.open(tmp_path / "j.idx")
    flat = mapix.open(a).view().reshape(3, 20)
    assert joined.byteorder == ">"
    assert (joined.view() == np.hstack([flat, flat])).all()
    tools.shuffle(a, tmp_path / "x.idx", seed=5)
    tools.shuffle(a, tmp_path / "y.idx", seed=5)
    assert (tmp_path / "x.idx").read_bytes() == (tmp_path / "y.idx").read_bytes()
    rows = {r.tobytes() for r in mapix.open(tmp_path / "x.idx")}
    assert rows == {r.tobytes() for r in mapix.open(a)}
    for begin, count in ((0, 4), (-1, 1), (4, None), (2, 2**32 - 1)):
        with pytest.raises(ValueError, match="rows"):
            tools.split(a, tmp_path / "z.idx", begin, count)
    for tool in (tools.cat, tools.join):
        with pytest.raises(ValueError, match="uint8"):
            tool([a, IDX / "le_i8_4x3.idx"], tmp_path / "z.idx")


ORDERS = {"big": ">", "little": "<"}


@pytest.mark.parametrize("given", [None, "big", "little"])
@pytest.mark.parametrize("have", ["big", "little"])
def test_tools_keep_the_byte_order_of_their_inputs(tmp_path, have, given):
    """MNIST's programs read big-endian files alone, so that is what has to come out of them."""
    rows = np.arange(12, dtype=np.int16).reshape(4, 3)
    a, b = str(tmp_path / "a.idx"), str(tmp_path / "b.idx")
    write(a, rows, byteorder=ORDERS[have])
    write(b, rows, byteorder=ORDERS[have])
    option = [] if given is None else ["--byteorder", given]
    want = ORDERS[given or have]
    made = {
        "cat": ([a, b], np.vstack([rows, rows])),
        "join": ([a, b], np.hstack([rows, rows])),
        "split": ([a], rows[1:3]),
        "shuffle": ([a], None),
    }
    for tool, (sources, values) in made.items():
        out = str(tmp_path / f"{tool}.idx")
        more = ["1", "2"] if tool == "split" else []
        assert main(["idx", tool, *sources, out, *more, *option]) == 0
        found = mapix.open(out)
        assert found.dtype == np.dtype(want + "i2"), tool
        if values is not None:
            np.testing.assert_array_equal(found.view(), values)
    assert sorted(mapix.open(out)[:, 0].tolist()) == [0, 3, 6, 9]


def test_csv_has_a_byte_order_and_a_type_to_choose(tmp_path, capsys):
    text, out = str(tmp_path / "a.csv"), str(tmp_path / "a.idx")
    (tmp_path / "a.csv").write_text("7,255\n0,1\n")
    assert main(["idx", "csv2idx", text, out, "--byteorder", "big", "--dtype", "u1"]) == 0
    assert (tmp_path / "a.idx").read_bytes().hex() == "00000802000000020000000207ff0001"
    bad = {"256": "u1", "-1": "u1", "1.5": "i2", "1e39": "f4", "2147483648": "i4"}
    for number, dtype in bad.items():
        (tmp_path / "b.csv").write_text(f"0,{number}\n")
        with pytest.raises(mapix.FormatError, match=r"line 1: .* does not hold .* in column 2"):
            tools.csv2idx(tmp_path / "b.csv", tmp_path / "b.idx", dtype=dtype)
        assert not (tmp_path / "b.idx").exists()
    (tmp_path / "b.csv").write_text("-3.4e38\n0.1\n")
    tools.csv2idx(tmp_path / "b.csv", tmp_path / "b.idx")
    assert mapix.open(tmp_path / "b.idx").view().dtype == "<f4"


def test_inputs_of_both_byte_orders_need_a_word(tmp_path, capsys):
    a, b = str(IDX / "be_u8_3x4x5.idx"), str(IDX / "le_u8_3x4x5.idx")
    out = str(tmp_path / "out.idx")
    for tool in ("cat", "join"):
        assert main(["idx", tool, a, b, out]) == 2
        said = capsys.readouterr().err
        assert "be_u8_3x4x5.idx is big-endian" in said
        assert "le_u8_3x4x5.idx is little-endian" in said
        assert "--byteorder" in said
        assert not (tmp_path / "out.idx").exists()
    assert main(["idx", "cat", a, b, out, "--byteorder", "big"]) == 0
    assert mapix.open(out).byteorder == ">"


def test_the_shuffle_stays_what_it_is(tmp_path):
    """The same order on every machine, for ever: seeds are in people's notes."""
    write(tmp_path / "a.idx", np.arange(10, dtype=np.uint8))
    tools.shuffle(tmp_path / "a.idx", tmp_path / "b.idx")
    assert mapix.open(tmp_path / "b.idx").view().tolist() == SHUFFLED


def test_the_originals_order(tmp_path):
    """Of an original built with GNU's C++ library; the numbers are those that C++ promises."""
    source = IDX / "be_u8_labels_10.idx"
    tools.shuffle(source, tmp_path / "a.idx", compat="libstdc++")
    theirs = IDX / "shuffle_libstdcxx_be_u8_10.idx"
    assert (tmp_path / "a.idx").read_bytes() == theirs.read_bytes()
    assert (
        main(["idx", "shuffle", str(source), str(tmp_path / "b.idx"), "--compat", "libstdc++"]) == 0
    )
    assert (tmp_path / "b.idx").read_bytes() == theirs.read_bytes()
    assert main(["idx", "shuffle", str(source), str(tmp_path / "c.idx"), "--compat"]) == 0
    assert mapix.open(tmp_path / "c.idx").shape == (10, 1)
    with pytest.raises(ValueError, match="libstdc"):
        tools.shuffle(source, tmp_path / "d.idx", compat="msvc")
    assert next(itertools.islice(shuffle.mersenne(5489), 9999, None)) == 9981545732273789042
    for n in (0, 1, 1000):
        assert sorted(shuffle.fisher_yates(n, 7)) == list(range(n))


SHUFFLED = [9, 2, 4, 7, 5, 0, 8, 6, 3, 1]


def test_pictures(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    image.fromarray(np.array([[[128, 255, 0, 128]]], np.uint8)).save(tmp_path / "a.png")
    out = io.StringIO()
    tools.image2csv(tmp_path / "a.png", out, compat=True)
    assert out.getvalue() == "0.219520,1.000000,0.000000,0.501961,\n"
    out = io.StringIO()
    tools.image2csv(tmp_path / "a.png", out)
    assert [float(v) for v in out.getvalue().split(",")] == [128 / 255, 1, 0, 128 / 255]


def test_commands(tmp_path, capsys):
    a, b = str(IDX / "be_u8_3x4x5.idx"), str(tmp_path / "b.idx")
    assert main(["idx", "info", a, str(IDX / "le_f64_3x2x3.idx")]) == 0
    said = capsys.readouterr().out
    assert "big-endian, uint8, 3 x 4 x 5" in said
    assert "little-endian, float64, 3 x 2 x 3" in said
    assert main(["idx", "cat", a, a, b]) == 0
    assert mapix.open(b).shape == (6, 4, 5)
    for command in (
        ["csv2idx", str(IDX / "csv_in.csv"), str(tmp_path / "c.idx")],
        ["join", a, a, str(tmp_path / "j.idx")],
        ["split", a, str(tmp_path / "s.idx"), "1", "1", "--compat"],
        ["shuffle", a, str(tmp_path / "x.idx"), "--seed", "3"],
        ["idx2csv", str(IDX / "be_i8_4x3.idx")],
    ):
        assert main(["idx", *command]) == 0
    assert capsys.readouterr().out.startswith("-120,-83,-46\n")
    assert mapix.open(tmp_path / "s.idx").shape == (1, 20)
    assert main(["idx", "split", a, b, "9"]) == 2
    assert "rows 9 to 3 of 3" in capsys.readouterr().err
