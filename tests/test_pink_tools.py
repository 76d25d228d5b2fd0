"""Writing PINK's files, version 1 as version 2, commands."""

from __future__ import annotations

import math
import os
import struct

import numpy as np
import pytest

import mapix
from mapix.__main__ import main
from mapix.pink import Writer, convert, records, write_data, write_map, write_rot, write_som
from mapix.store import SYSTEM
from model_disk import ModelDisk
from slow_pink import pack_1, version_2
from test_pink import GOOD, PINK

END = b"# END OF HEADER\n"
NEW = [k for k, v in GOOD.items() if v["version"] == 2]
OLD = [k for k, v in GOOD.items() if v["version"] == 1]


def written_again(a, path, **more) -> None:
    options = {"header": a.header, "strict_spec": bool(a.layout_field), **more}
    on_som = {} if a.kind == "data" else {"som_shape": a.som_shape, "layout": a.layout}
    row_shape = a.view().shape[1:] if a.kind == "data" else None
    row_shape = a.neuron_shape if a.kind == "som" else row_shape
    dtype = {} if a.kind == "rot" else {"dtype": a.dtype}
    with Writer(path, a.kind, row_shape, **on_som, **dtype, **options) as out:
        for row in a:
            out.append(row)


@pytest.mark.parametrize("name", NEW)
def test_goldens_are_written_again(name, tmp_path):
    a = mapix.open(PINK / name)
    data = (PINK / name).read_bytes()
    if not a.comment.endswith(END) and a.comment:
        data = a.comment + END + data[len(a.comment) :]  # headers are ended always
    written_again(a, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == data
    written_again(a, tmp_path / "y", **({} if a.kind == "som" else {"n": len(a)}))
    assert (tmp_path / "y").read_bytes() == data
    path = tmp_path / "z"
    options = {"header": a.header, "strict_spec": bool(a.layout_field)}
    if a.kind != "data":
        options |= {"som_shape": a.som_shape, "layout": a.layout}
    if a.kind == "data":
        write_data(path, a.view(), dtype=a.dtype, **options)
    elif a.kind == "som":
        write_som(path, a.view(), **options)
    elif a.kind == "map":
        write_map(path, a.view(), **options)
    else:
        write_rot(path, a.flip, a.angle, **options)
    assert path.read_bytes() == data
    assert sorted(os.listdir(tmp_path)) == ["x", "y", "z"]


def test_lines_of_comment(tmp_path):
    for header, want in (
        ((), b""),
        (b"", b""),
        (["a", "# b", "#c", ""], b"# a\n# b\n#c\n#\n" + END),
        (["a", "# END OF HEADER"], b"# a\n" + END),
        (["# END OF HEADER"], b""),
        (b"# \xff\xfe\n", b"# \xff\xfe\n" + END),
        (b"x\ny", b"# x\n# y\n" + END),
    ):
        write_data(tmp_path / "x", np.ones((1, 1)), header=header, replace=True)
        a = mapix.open(tmp_path / "x")
        assert a.comment == want
        write_data(tmp_path / "y", np.ones((1, 1)), header=a.header, replace=True)
        assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    with pytest.raises(ValueError, match="line break"):
        write_data(tmp_path / "z", np.ones((1, 1)), header=["a\nb"])
    with pytest.raises(TypeError, match="lines"):
        write_data(tmp_path / "z", np.ones((1, 1)), header="a")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda p: Writer(p, "image"), "kind must be"),
        (lambda p: Writer(p, "data", (2,), dtype="f2"), "dtype must be"),
        (lambda p: Writer(p, "data"), "row_shape"),
        (lambda p: Writer(p, "data", (0,)), "row_shape of"),
        (lambda p: Writer(p, "data", (2,), som_shape=(2,)), "som_shape"),
        (lambda p: Writer(p, "data", (2,), layout="hexagonal"), "cartesian"),
        (lambda p: Writer(p, "data", (2,), n=-1), "n must be"),
        (lambda p: Writer(p, "map"), "som_shape"),
        (lambda p: Writer(p, "map", (2,), som_shape=(2,)), "row_shape"),
        (lambda p: Writer(p, "map", som_shape=(2, 2), layout="hexagonal"), "hexagon"),
        (lambda p: Writer(p, "map", som_shape=(3, 3), layout="round"), "layout must be"),
        (lambda p: write_som(p, np.ones((6, 2))), "som_shape is needed"),
        (lambda p: write_som(p, np.ones((6, 2)), layout="hexagonal"), "make no hexagon"),
        (lambda p: write_som(p, np.ones((6, 2)), (2, 2)), "more than 4 rows"),
        (lambda p: write_som(p, np.ones((3, 2)), (2, 2)), "4 rows expected, 3"),
        (lambda p: write_map(p, np.ones(6), (2, 3)), "neurons"),
        (lambda p: write_map(p, np.ones((2, 5)), (2, 3)), "rows of shape"),
        (lambda p: write_data(p, np.array([[1e300]])), "does not hold"),
        (lambda p: write_data(p, np.array([[2**24 + 1]])), "does not hold"),
        (lambda p: write_data(p, np.array([[-1]]), dtype="u1"), "does not hold"),
        (lambda p: write_data(p, np.array([[-1]], np.int8), dtype="u1"), "does not hold"),
        (lambda p: write_data(p, np.array([[2**63]], np.uint64), dtype="i8"), "does not hold"),
        (lambda p: write_data(p, np.array([[2**63 - 1]]), dtype="f8"), "does not hold"),
        (lambda p: write_data(p, np.array([[1.5]]), dtype="i4"), "float64 rows"),
        (lambda p: write_data(p, np.array([["a"]])), "rows of numbers"),
        (lambda p: write_rot(p, [[2]], [[0.0]], (1,)), "flips of 0 and 1"),
        (lambda p: write_rot(p, [[1]], [[np.inf]], (1,)), "flips of 0 and 1"),
        (lambda p: write_rot(p, [[1]], [[0.0, 1.0]], (1,)), "flips of"),
    ],
)
def test_what_a_writer_refuses(tmp_path, call, error):
    with pytest.raises((ValueError, TypeError, mapix.LimitError), match=error):
        call(tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_a_writer_that_is_given_other_rows_than_it_was_told(tmp_path):
    with Writer(tmp_path / "r", "rot", som_shape=(2,)) as out:
        with pytest.raises(TypeError, match="records"):
            out.append([0.0, 1.0])
        with pytest.raises(ValueError, match="rows of shape"):
            out.append(records([1], [0.5]))
        out.append(records([1, 0], [0.5, 1.0]))
    assert mapix.open(tmp_path / "r").flip.tolist() == [[1, 0]]

    def few():
        with Writer(tmp_path / "x", "data", (2,), n=3) as out:
            out.append([1, 2])

    with pytest.raises(ValueError, match="3 rows expected, 1"):
        few()

    def fails():
        with Writer(tmp_path / "x", "data", (2,)) as out:
            out.append([1, 2])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    with pytest.raises(FileExistsError):
        Writer(tmp_path / "r", "data", (2,))
    assert os.listdir(tmp_path) == ["r"]


# --- version 1 as version 2 ----------------------------------------------------------------------


@pytest.mark.parametrize("name", OLD)
def test_goldens_of_version_1_become_version_2(name, tmp_path):
    old = mapix.open(PINK / name)
    convert(PINK / name, tmp_path / "x")
    new = mapix.open(tmp_path / "x")
    assert (new.version, new.kind, new.layout) == (2, old.kind, old.layout)
    assert version_2((tmp_path / "x").read_bytes()).kind == old.kind
    assert new.header == old.header
    assert len(new) == len(old)
    if old.kind == "map":
        np.testing.assert_array_equal(new.view(), np.sqrt(old.view()))
        assert new.best_match().tolist() == old.best_match().tolist()
    elif old.kind == "rot":
        np.testing.assert_array_equal(new.flip, old.flip)
        turns = (new.angle + old.angle) / math.tau
        np.testing.assert_allclose(turns, turns.round(), atol=1e-6)
        image = np.arange(25.0).reshape(5, 5)
        for neuron in range(old.nneurons):
            fits = [r.best_fit(image, 1, neuron, (4, 4)) for r in (old, new)]
            np.testing.assert_allclose(*fits, atol=1e-5)
    else:
        payload = old.view().tobytes()
        assert new.view().tobytes() == payload
    if old.kind in ("data", "som"):
        channels, *sides = old.view().shape[-3:]
        shape = new.view().shape if old.kind == "data" else (1, *new.neuron_shape)
        assert list(shape[1:]) == (sides if channels == 1 else [channels, *sides])
    if old.kind != "data":
        w, h, d = old.som_shape
        want = {1: (w, h, d), 2: (w, h) if h > 1 else (w,)}[1 if d > 1 else 2]
        assert new.som_shape == want
        assert len(new.som_shape) < 3 or d > 1


def test_conversion_of_what_is_ambiguous(tmp_path):
    payload = np.arange(2 * 3 * 8 * 8, dtype=np.float32).tobytes()
    (tmp_path / "x").write_bytes(pack_1("data", [2, 3, 8, 8], payload, b"# a\n" + END))
    with pytest.raises(mapix.FormatError, match="several readings"):
        convert(tmp_path / "x", tmp_path / "y")
    convert(tmp_path / "x", tmp_path / "y", kind="data")
    found = (tmp_path / "y").read_bytes()
    head = struct.pack("<9i", 2, 0, 0, 2, 0, 3, 3, 8, 8)
    assert found == b"# a\n" + END + head + payload  # channels first, comment in front
    with pytest.raises(mapix.UnsupportedError, match="version 2 already"):
        convert(tmp_path / "y", tmp_path / "z")
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


def test_a_hexagon_of_version_1_of_one_row(tmp_path):
    (tmp_path / "x").write_bytes(pack_1("map", [2, 3, 3, 1], np.arange(14, dtype="f4").tobytes()))
    convert(tmp_path / "x", tmp_path / "y", strict_spec=True)
    found = mapix.open(tmp_path / "y")
    assert (found.layout, found.layout_field, found.som_shape) == ("hexagonal", 1, (3, 3))
    (tmp_path / "a").write_bytes(pack_1("map", [2, 5, 1, 1], np.arange(10, dtype="f4").tobytes()))
    convert(tmp_path / "a", tmp_path / "b")
    assert mapix.open(tmp_path / "b").som_shape == (5,)


# --- commands -------------------------------------------------------------------------------------


def table_of(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()[2:]]


def test_commands(tmp_path, capsys):
    pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    som, old = str(PINK / "hand_som_hexlabelled_5x5_n4x4.bin"), str(PINK / "map_v1_cart_3x2.bin")
    assert main(["pink", "info", som, str(PINK / "hand_data_unicodeheader.bin")]) == 0
    said = capsys.readouterr().out
    assert "version 2 som: hexagonal, 5 x 5, neurons of 4 x 4" in said
    assert "# ünïcode" in said
    new = str(tmp_path / "new.bin")
    assert main(["pink", "convert", old, new]) == 0
    assert mapix.open(new).version == 2
    for source in (som, new):
        assert main(["pink", "picture", source, str(tmp_path / "x.png"), "--size", "20"]) == 0
        assert capsys.readouterr().out.endswith(" pixels\n")
        assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    m = mapix.open(new)
    assert main(["pink", "best", old]) == 0
    lines = table_of(capsys)
    assert [int(line[1]) for line in lines] == m.best_match().tolist()
    assert [np.float32(line[-1]) for line in lines] == m.best_distance().tolist()
    place = mapix.open(old).lattice.position(m.best_match(0))
    assert lines[0][2:-1] == [*map(str, place)]
    assert main(["pink", "counts", old]) == 0
    counts = [int(line[-1]) for line in table_of(capsys)]
    assert counts == m.counts().tolist()
    assert main(["pink", "outliers", old, "-n", "2"]) == 0
    found = [int(line[0]) for line in table_of(capsys)]
    assert found == m.outliers(2).tolist()
    assert main(["pink", "best", som]) == 2
    assert "a mapping expected" in capsys.readouterr().err
    data = str(PINK / "data_v2_2d_6x8x8.bin")
    assert main(["pink", "picture", data, "-o", str(tmp_path / "y.png"), "--each"]) == 0
    assert (tmp_path / "y.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["pink", "picture", str(PINK / "rot_cart_3x2.bin"), new]) == 2
    assert "no picture of a rot" in capsys.readouterr().err
    assert main(["pink", "picture", som]) == 3
    assert "by -o" in capsys.readouterr().err
    assert main(["info", som]) == 0
    printed = capsys.readouterr().out
    assert "hexagonal" in printed
    assert "neurons     19" in printed


# --- power cuts and failing calls ----------------------------------------------------------------


def test_a_file_is_there_whole_after_a_power_cut(tmp_path):
    disk = ModelDisk(str(tmp_path))
    disk.seeds = 40
    entries = np.random.default_rng(0).random((9, 20, 20))
    write_data(tmp_path / "x", entries, header=["a"], calls=disk)
    during, disk.crashes = disk.crashes, []
    disk.look()
    write_data(tmp_path / "real", entries, header=["a"])
    want = (tmp_path / "real").read_bytes()
    path = str(tmp_path / "x")
    assert len(during) > 100
    assert all(state.get(path) in (None, want) for state in during)
    assert all(state[path] == want for state in disk.crashes)


class Failing:
    """The operating system, whose call number ``which`` fails."""

    def __init__(self, which: int) -> None:
        self.left = which

    def __getattr__(self, name: str):
        real = getattr(SYSTEM, name)

        def call(*args):
            if name not in ("close", "unlink"):
                self.left -= 1
                if self.left == 0:
                    raise OSError(f"{name} fails")
            return real(*args)

        return call


@pytest.mark.parametrize("n", [None, 40])
def test_any_call_may_fail(tmp_path, n):
    entries = np.arange(40 * 9, dtype=np.float32).reshape(40, 3, 3)
    failed = 0
    for which in range(1, 100):
        calls = Failing(which)
        try:
            with Writer(tmp_path / "x", "data", (3, 3), n=n, calls=calls) as out:
                out.extend(entries[:30])
                out.extend(entries[30:])
        except OSError as e:
            failed += "fails" in str(e)
            whole = "fsync_directory" in str(e)  # behind the rename: it is there
            assert os.listdir(tmp_path) == (["x"] if whole else [])
        else:
            break
        if os.listdir(tmp_path):
            np.testing.assert_array_equal(mapix.open(tmp_path / "x").view(), entries)
            (tmp_path / "x").unlink()
    assert failed >= 5
    np.testing.assert_array_equal(mapix.open(tmp_path / "x").view(), entries)


def test_several_files_are_merged(tmp_path, capsys):
    data, new = PINK / "data_v2_2d_6x8x8.bin", tmp_path / "new.bin"
    assert main(["merge", str(data), str(data), "-o", str(new)]) == 0
    images = mapix.open(data).batch(range(6)).images
    np.testing.assert_array_equal(
        mapix.open(new).batch(range(12)).images, np.concatenate([images, images])
    )


def test_a_rotation_is_not_a_picture(tmp_path, capsys):
    file = PINK / "rot_cart_3x2.bin"
    assert main(["get", str(file), "1", "-o", str(tmp_path / "x.png")]) == 2
    assert "record 1 is not an image; -o FILE.npy" in capsys.readouterr().err
    assert main(["get", str(file), "1", "-o", str(tmp_path / "x.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), mapix.open(file)[1])
