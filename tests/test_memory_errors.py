"""Memory that runs out is a MemoryError, not an error of the file or of the text."""

from __future__ import annotations

import ast
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.iid import group_expression
from mapix.iid.groups import Group
from mapix.pictures import decoding
from mapix.syntax import NESTED_NCHARS
from mapix.tar.values import array_in
from records import lacks_memory

BROAD = re.compile(r"except (Exception|BaseException)|except:|MemoryError")
SOURCES = sorted(Path(mapix.__file__).parent.rglob("*.py"))
HIDDEN_FOR = {  # files that may hide one, with the reason
    "commands/complete.py": "completion is silent",
    "descriptors.py": "closes descriptors",
    "loader.py": "hands it to the thread that takes the batch",
    "viewer/problems.py": "reports it on the page",
    "viewer/server.py": "answers with its name, and status 507",
}
DEEP = (
    "(",
    "[",
    "{",
    "not ",
    "-",
    "~",
    "lambda:",
    "a if a else ",
    "f(",
    "a[",
    "a<(",
    "*",
    "a**",
    "(not ",
)


def _caught(handler: ast.ExceptHandler) -> set[str]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {kind.id for kind in kinds if isinstance(kind, ast.Name)} if handler.type else {"all"}


def _raises(handler: ast.ExceptHandler) -> tuple[bool, bool]:
    """Whether the handler raises another exception, and whether it raises the same one."""
    found = [node.exc is None for node in ast.walk(handler) if isinstance(node, ast.Raise)]
    return not all(found), any(found)


def swallowing(source: str) -> list[int]:
    """Return the lines of handlers that turn MemoryError into another exception."""
    found = []
    for node in ast.walk(ast.parse(source)):
        known = False
        for handler in node.handlers if isinstance(node, ast.Try) else ():
            caught, (another, same) = _caught(handler), _raises(handler)
            if caught & {"MemoryError", "Exception", "BaseException", "all"} and not known:
                found += [handler.lineno] if another and not same else []
            known |= "MemoryError" in caught
    return found


def hiding(source: str) -> list[int]:
    """Return the lines of handlers that end a MemoryError."""
    found = []
    for node in ast.walk(ast.parse(source)):
        known = False
        for handler in node.handlers if isinstance(node, ast.Try) else ():
            caught, raised = _caught(handler), any(_raises(handler))
            if caught & {"MemoryError", "Exception", "BaseException", "all"} and not known:
                found += [] if raised else [handler.lineno]
            known |= "MemoryError" in caught
    return found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("try:\n f()\nexcept Exception as e:\n raise ValueError from e\n", [3]),
        ("try:\n f()\nexcept:\n raise ValueError\n", [3]),
        ("try:\n f()\nexcept (KeyError, MemoryError):\n raise ValueError\n", [3]),
        ("try:\n f()\nexcept MemoryError:\n raise\nexcept Exception:\n raise ValueError\n", []),
        ("try:\n f()\nexcept KeyError:\n raise ValueError\n", []),
        ("try:\n f()\nexcept BaseException:\n g()\n raise\n", []),
    ],
)
def test_what_is_found(source, lines):
    assert swallowing(source) == lines


def test_no_handler_turns_a_memory_error_into_another_exception():
    root = Path(mapix.__file__).parent
    texts = {os.fspath(p.relative_to(root)): p.read_text("utf-8") for p in SOURCES}
    found = {name: swallowing(text) for name, text in texts.items() if BROAD.search(text)}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_no_handler_hides_a_memory_error():
    assert hiding("try:\n f()\nexcept Exception:\n g()\n") == [3]
    assert hiding("try:\n f()\nexcept MemoryError:\n raise\nexcept Exception:\n g()\n") == []
    root = Path(mapix.__file__).parent
    texts = {os.fspath(p.relative_to(root)): p.read_text("utf-8") for p in SOURCES}
    found = {name for name, text in texts.items() if BROAD.search(text) and hiding(text)}
    assert found == set(HIDDEN_FOR)


@pytest.mark.parametrize("shown", [repr, lambda ds: ds._repr_html_()])
def test_memory_that_runs_out_while_a_dataset_is_shown(tmp_path, monkeypatch, shown):
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 5), np.uint8))
    with mapix.open(tmp_path / "x.npy") as ds:
        for name in ("__len__", "_described"):
            monkeypatch.setattr(type(ds), name, lacks_memory)
            with pytest.raises(MemoryError):
                shown(ds)
            monkeypatch.undo()
        assert "3" in shown(ds)


@pytest.mark.parametrize("piece", DEEP)
def test_short_texts_do_not_fill_the_parser(piece):
    """Python's parser has one error for memory that runs out and for deep nesting."""
    text = (piece * NESTED_NCHARS)[: NESTED_NCHARS // len(piece) * len(piece)]
    for whole in (text, text + "a", text + "a" + ")" * text.count("(")):
        try:
            ast.parse(whole, mode="eval")
        except (SyntaxError, RecursionError):
            continue


def test_memory_that_runs_out_while_groups_are_combined(monkeypatch):
    groups = {"a": Group.__new__(Group)}
    monkeypatch.setattr(Group, "keys", property(lambda self: np.array([0], np.uint32)))
    assert group_expression.keys_in("not a", groups, 3).tolist() == [1, 2]

    monkeypatch.setattr(group_expression.np, "zeros", lacks_memory)
    with pytest.raises(MemoryError):
        group_expression.keys_in("not a", groups, 3)
    monkeypatch.setattr(ast, "parse", lacks_memory)
    with pytest.raises(MemoryError):
        group_expression.keys_in("not a", groups, 3)
    with pytest.raises(ValueError, match="nested too deeply"):
        group_expression.keys_in("not " * 200 + "a", groups, 3)


@pytest.mark.parametrize(
    ("error", "data", "kind"),
    [
        (OSError("out of memory when reading image file"), b"\x89PNG", MemoryError),
        (SystemError("error return without exception set"), b"\x89PNG", MemoryError),
        (SystemError("tile cannot extend outside image"), b"\x89PNG", mapix.FormatError),
        (OSError("broken data stream when reading image file"), b"\x89PNG", mapix.FormatError),
        (OSError("out of memory when reading image file"), b"II*\0", mapix.FormatError),
    ],
)
def test_memory_that_runs_out_in_pillow(monkeypatch, error, data, kind):
    pytest.importorskip("PIL")

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(decoding, "_identified", fails)
    with pytest.raises(kind, match=str(error)):
        decoding.header_of(decoding.EncodedPicture(data, "x", "x.png"))


def test_a_header_for_which_numpy_has_no_memory(monkeypatch):
    stream = io.BytesIO()
    np.save(stream, np.arange(6))
    data = stream.getvalue()
    assert array_in(data, memoryview(data)).tolist() == list(range(6))

    def parse(*_: object, **options: object) -> None:
        raise SystemError("<built-in function compile> returned NULL without setting an exception")

    with monkeypatch.context() as patched:
        patched.setattr(ast, "parse", parse)
        with pytest.raises(MemoryError):
            array_in(data, memoryview(data))
