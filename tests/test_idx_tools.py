"""VisualRBM's tools: the original's bytes where they matter, and none of its losses."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.__main__ import main
from mapix.idx import order, tools, write

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
        ("a,b\n1,2\n", "line 1: 'a' is no number"),
        ("1,2\n\n3,4\n", "line 2: it is empty"),
        ("1,2\n3\n", "line 2: 2 numbers expected, 1 found"),
        ("1,.5\n", "is no number"),
        ("1,nan\n", "is no number"),
        ("1,inf\n", "is no number"),
        ("1,,2\n", "is no number"),
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
    tools.cat([a, IDX / "le_u8_3x4x5.idx"], tmp_path / "cat.idx")
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
    assert joined.byteorder == "<"
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
    assert next(itertools.islice(order.mersenne(5489), 9999, None)) == 9981545732273789042
    for n in (0, 1, 1000):
        assert sorted(order.fisher_yates(n, 7)) == list(range(n))


SHUFFLED = [9, 2, 4, 7, 5, 0, 8, 6, 3, 1]


def test_pictures(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[view]'")
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
    assert main(["idx", "split", a, b, "9"]) == 1
    assert "rows 9 to 3 of 3" in capsys.readouterr().err
