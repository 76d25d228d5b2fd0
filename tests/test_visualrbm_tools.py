"""``mapix visualrbm ...``, and files that go through models."""

from __future__ import annotations

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.__main__ import main
from mapix.idx import write
from mapix.visualrbm import tools

TOOLS = GOLDEN / "visualrbm" / "tools"
SCHEDULES = GOLDEN / "visualrbm" / "schedule"


def run(*arguments) -> int:
    return main(["visualrbm", *map(str, arguments)])


@pytest.mark.parametrize("function", ["Linear", "RectifiedLinear", "Sigmoid", "Softmax"])
def test_hidden_gives_the_originals_bytes(tmp_path, function):
    rows, model = TOOLS / "in_le_f32_6x8.idx", TOOLS / f"rbm_8x4_{function}.json"
    assert run("hidden", rows, tmp_path / "a.idx", model, "--approx") == 0
    theirs = TOOLS / f"calchidden_{function}.idx"
    assert (tmp_path / "a.idx").read_bytes() == theirs.read_bytes()
    assert run("hidden", rows, tmp_path / "b.idx", model) == 0
    found = mapix.open(tmp_path / "b.idx")
    assert found.dtype == np.dtype("<f4")
    assert (found.view() == mapix.open(model).hidden(mapix.open(rows).view())).all()


def test_hidden_of_other_files(tmp_path, monkeypatch):
    model = mapix.open(TOOLS / "mlp_rbm_then_aeT.json")
    rows = np.random.default_rng(0).normal(size=(50, 2, 4)).astype(np.float32)
    write(tmp_path / "x.idx", rows)  # big-endian, rows of two dimensions
    monkeypatch.setattr(tools, "BLOCK_NBYTES", 4 * 8 * 7)  # seven rows at once
    tools.hidden(tmp_path / "x.idx", tmp_path / "y.idx", model)
    found = mapix.open(tmp_path / "y.idx")
    assert found.dtype == np.dtype(">f4")
    np.testing.assert_allclose(found.view(), model.hidden(rows.reshape(50, 8)), rtol=1e-5)
    write(tmp_path / "u.idx", np.zeros((3, 8), np.uint8))
    with pytest.raises(mapix.FormatError, match="float32 or float64 expected, got uint8"):
        tools.hidden(tmp_path / "u.idx", tmp_path / "z.idx", model)
    write(tmp_path / "w.idx", np.zeros((3, 9), np.float64))
    with pytest.raises(ValueError, match="rows of 9 numbers, the model takes 8"):
        tools.hidden(tmp_path / "w.idx", tmp_path / "z.idx", TOOLS / "ae_8x4.json")
    assert not (tmp_path / "z.idx").exists()


def test_stack(tmp_path, capsys):
    rbm, encoder = TOOLS / "rbm_8x4_Sigmoid.json", TOOLS / "ae_8x4.json"
    whole, only = TOOLS / "mlp_rbm_then_aeT.json", TOOLS / "mlp_layer1_only.json"
    a, b, c = (tmp_path / x for x in "abc")
    assert run("stack", rbm, "-t", encoder, "-o", a, "--compat") == 0
    assert a.read_bytes() == whole.read_bytes()
    assert run("stack", "-n", 1, 1, whole, "-o", b, "--compat") == 0
    assert b.read_bytes() == only.read_bytes()
    assert run("stack", "-f", rbm, "-t", rbm, "-f", whole, "-o", c) == 0
    assert [la.outputs for la in mapix.open(c)] == [4, 8, 4, 8]
    capsys.readouterr()
    for arguments, complaint in (
        ((rbm, rbm), "layer 0 has 4 outputs, layer 1 8 inputs"),
        (("-t", whole), "cannot be transposed"),
        (("-n", 1, 2, whole), "layers 1 to 3 of 2"),
        ((), "no layers"),
    ):
        assert run("stack", *arguments, "-o", tmp_path / "d") == 2
        assert complaint in capsys.readouterr().err
        assert not (tmp_path / "d").exists()  # the original leaves an empty one
    for bad in (("-n", 1, whole), ("-n", "x", 1, whole), ("-n", 0, 0, whole)):
        with pytest.raises(SystemExit):
            run("stack", *bad, "-o", tmp_path / "d")


def test_info_convert_and_schedule(tmp_path, capsys):
    model = TOOLS / "ae_8x4.json"
    assert run("info", model, SCHEDULES / "mlp_minimal.json") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"AutoEncoder {model}: 8 -> 4 Sigmoid"
    assert "1 epochs" in said[1]
    assert run("info", GOLDEN / "visualrbm" / "model" / "rbm_type_last.json", "--strict") == 1
    assert "Type is expected" in capsys.readouterr().err
    assert run("convert", model, tmp_path / "x.npz") == 0
    with np.load(tmp_path / "x.npz") as found:
        assert (found["Weights"] == mapix.open(model).weights).all()
    for more in ((), ("--compat",)):
        assert run("convert", model, tmp_path / f"x{len(more)}.json", *more) == 0
    assert mapix.open(tmp_path / "x0.json") == mapix.open(model)
    assert run("convert", SCHEDULES / "mlp_minimal.json", tmp_path / "s.json") == 0
    assert run("schedule", tmp_path / "s.json") == 0
    assert "epoch 0: learning_rate 0.1, " in capsys.readouterr().out
    assert run("schedule", SCHEDULES / "rbm_L1L2_short_names.json", "--strict") == 0
    out, err = capsys.readouterr()
    assert "l1 0," in out
    assert "VisualRBM reads L1Regularization alone" in err
    assert run("convert", SCHEDULES / "mlp_minimal.json", tmp_path / "t.json", "--compat") == 2
    assert main(["info", str(model)]) == 0
    assert "AutoEncoder" in capsys.readouterr().out
