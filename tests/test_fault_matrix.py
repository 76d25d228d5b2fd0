"""A part of what ``fault_matrix.py`` runs; docs/testing.md has the figures of complete runs."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import fault_matrix
import numpy_rules
from fault_matrix import EVERY, calls, power
from mapix.drawing import scaling

pytestmark = pytest.mark.filterwarnings("ignore::mapix.MapixWarning")


def test_some_states_after_a_power_cut(tmp_path):
    counts, wrong = power("iid.edit", tmp_path, 60)
    assert not wrong
    assert counts["different"] > 5


def test_the_model_bites(tmp_path):
    """Without syncs, the same states have what must not be."""
    for leave_out in ("fsync", "fsync_directory"):
        (tmp_path / leave_out).mkdir()
        _, wrong = power("model as JSON", tmp_path / leave_out, 100, leave_out)
        assert wrong


def test_some_calls_that_fail(tmp_path):
    counts, wrong = calls("convert to shards", tmp_path, 12)
    assert not wrong
    assert counts["cells"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_writer(tmp_path, name):
    if not fault_matrix.can_run(EVERY[name]):
        pytest.skip(f"{', '.join(EVERY[name].needs)} is not installed")
    for part, n in ((calls, 4), (power, 30)):
        (tmp_path / part.__name__).mkdir()
        _, wrong = part(name, tmp_path / part.__name__, n)
        assert not wrong


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("kills", "9", "vimh.Appender"), ("readers", "1", "idx"), ("memory", "model")],
    ids=lambda arguments: arguments[0],
)
def test_the_command(arguments):
    program = Path(fault_matrix.__file__)
    done = subprocess.run(
        [sys.executable, program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 wrong" in done.stdout


PACKAGES = "/v/lib/python3.11/site-packages"
PYTHON, NUMPY = "/p/libpython3.11.so.1.0", f"{PACKAGES}/numpy/_core/_umath.so"
FAILED, SIGNAL = "/tmp/failing_calls.so(malloc+0x1)[0x1]", "/lib/libc.so.6(+0x3c050)[0x2]"


@pytest.mark.parametrize(
    ("allocation", "ended", "where", "cause", "why"),
    [
        ([NUMPY], [f"{PYTHON}(_PyErr_Clear", NUMPY], "x.py", "numpy _PyErr_Clear", "numpy's buf"),
        ([NUMPY], [f"{NUMPY}(take"], "x.py", "numpy take", ""),
        ([f"{PACKAGES}/PIL/_imaging.so"], [f"{PYTHON}(PyType"], "x.py", "PIL PyType", "Pillow's"),
        ([PYTHON], [f"{PYTHON}(f"], "x.py", "Python f", "items of a dict"),
        ([PYTHON], [f"{PYTHON}(f"], "y.py", "Python f", ""),
        ([NUMPY], [f"{fault_matrix.SOURCES}/_core.so(f", NUMPY], "x.py", "mapix f", ""),
    ],
)
def test_what_ended_a_process(monkeypatch, tmp_path, allocation, ended, where, cause, why):
    monkeypatch.setenv("LD_PRELOAD", "/tmp/failing_calls.so")
    (tmp_path / "x.py").write_text("for k, v in x.items():\n")
    (tmp_path / "y.py").write_text("for k in x:\n")
    stacks = ""
    for frames in ([FAILED, *allocation], [SIGNAL, *ended]):
        frames = [f if "[" in f else f"{f}{'' if '(' in f else '('}+0x1)[0x3]" for f in frames]
        lines = [f'  File "{tmp_path / where}", line 1 in f', *frames]
        stacks += "Stack (most recent call first):\n" + "\n".join(lines) + "\n"
    found = fault_matrix.cause_of(stacks)
    assert found.startswith(f"{cause} {where}:f for k")
    known = [text for rule, text in fault_matrix.ENDS.items() if re.match(rule, found)]
    assert [text[: len(why)] for text in known] == ([why] if why else [])


CODES = np.array([1, 0], np.uint8)


@pytest.mark.parametrize(
    ("source", "times"),
    [
        ("np.arange(2)[CODES]", 1),
        ("np.arange(2)[CODES.astype(np.int64)]", 0),
        ("np.arange(2).take(CODES)", 0),
        ("np.zeros((2, 2))[CODES, CODES]", 2),
        ("np.zeros((2, 2))[np.arange(2), np.arange(2)[:, None]]", 1),
        ("np.zeros(2, [('x', 'u1')])[0]['x']", 1),
        ("np.zeros(2, [('x', 'u1')])['x'][0]", 0),
        ("[3, 4][0], {'x': 3}['x']", 0),
    ],
)
def test_rules_of_numpy(monkeypatch, source, times):
    monkeypatch.setattr(numpy_rules, "broken", Counter())
    tree = numpy_rules.Rewritten("x.py").visit(ast.parse(source, mode="eval"))
    code = compile(ast.fix_missing_locations(tree), "x.py", "eval")
    given = {"np": np, "CODES": CODES, "held_by_numpy_rules": numpy_rules.held}
    assert np.array_equal(eval(code, given), eval(source, given))
    assert numpy_rules.broken.total() == times


def test_no_function_of_numpy_that_ends_the_process_is_used(monkeypatch):
    monkeypatch.setattr(numpy_rules, "broken", Counter())
    numpy_rules.names()
    assert not numpy_rules.broken


@pytest.mark.slow
def test_every_operation_keeps_the_rules_of_numpy():
    pytest.importorskip("PIL")
    done = subprocess.run(
        [sys.executable, numpy_rules.__file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_dark_pictures_are_brightened_by_the_rules_of_numpy(monkeypatch):
    """A table of levels is read by bytes: an index of numpy of that type may end the process."""
    monkeypatch.setattr(numpy_rules, "broken", Counter())
    source = inspect.getsource(scaling.brightened)
    tree = ast.fix_missing_locations(numpy_rules.Rewritten("x.py").visit(ast.parse(source)))
    names = {**vars(scaling), "held_by_numpy_rules": numpy_rules.held}
    exec(compile(tree, "x.py", "exec"), names)
    (found,) = names["brightened"]([np.array([[0, 8, 16]], np.uint8)])
    assert found.tolist() == [[0, 127, 255]]
    assert not numpy_rules.broken
