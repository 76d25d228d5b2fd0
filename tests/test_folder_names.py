"""Records of an image folder by the names of their files, beside lines that are all parsed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix._native.iid import name_hashes
from mapix._native.lines import ODD, hashes
from mapix.folder import names
from mapix.folder.layout import canonical, file_names
from mapix.folder.lines import Lines, value_of
from mapix.source import Source

UNNAMED, NAMED = 0, 1
SEED = 12345

LINES: list[tuple[bytes, int]] = [
    (b'{"file_name": "a.png"}', NAMED),
    (b' \t{"file_name":"sub/a.png","n":[1,-2.5e3,0,0.5,true,null],"o":{"x":{},"y":[]}} \r', NAMED),
    ('{"file_name": "\u00e9\u20ac\U0001f600\ud7ff\ue000.png"}'.encode(), NAMED),
    (b'{"file_name": ""}', NAMED),
    (b'{"mask_file_name": "a.b/c..png", "file_names": ["x"]}', NAMED),
    (b'{"filepath": "x/a.png", "caption": "\\u00e9 \\" \\\\ \\ud800"}', NAMED),
    (b'{"o": {"x": 1}, "p": {"x": 1}, "file_name": "p"}', NAMED),
    (b'{"file_name": null, "filepath": "a.png"}', UNNAMED),
    (b'{"caption": "a", "file_name_": "a", "xfile_name": "b", "o": {"file_name": "c"}}', UNNAMED),
    (b"{}", UNNAMED),
    (b'{"file_name": "a.png", "mask_file_name": "b.png"}', ODD),
    (b'{"file_name": "a\\u00e9.png"}', ODD),
    (b'{"file\\u005fname": "a.png"}', ODD),
    (b'{"file_name": "./a"}', ODD),
    (b'{"file_name": "a//b"}', ODD),
    (b'{"file_name": "a/."}', ODD),
    (b'{"file_name": 3}', ODD),
    (b'{"filepath": ["a"]}', ODD),
    (b'{"file_name": "a", "n": NaN}', ODD),
    (b'{"file_name": "a", "file_name": "b"}', ODD),
    (b'{"file_name": "a", "o": {"x": 1, "y": 2, "x": 3}}', ODD),
    (b'{"file_name": "a", "c": "\xed\xa0\x80"}', ODD),
    (b'{"file_name": "a", "c": "\xc0\xaf"}', ODD),
    (b'{"file_name": "a", "c": "\xf4\x90\x80\x80"}', ODD),
    (b'{"file_name": "a", "c": "tab\tinside"}', ODD),
    (b'{"file_name": "a", "c": "\\x"}', ODD),
    (b'{"file_name": "a", "c": "\\u00g0"}', ODD),
    (b'{"file_name": "a", "n": 01}', ODD),
    (b'{"file_name": "a", "n": 1.}', ODD),
    (b'{"file_name": "a", "n": 1e}', ODD),
    (b'{"file_name": "a", "n": +1}', ODD),
    (b'{"file_name": "a", "n": -}', ODD),
    (b'{"file_name": "a", "n": tru}', ODD),
    (b'{"file_name": "a",}', ODD),
    (b'{"file_name": "a" "b": 1}', ODD),
    (b'{"file_name": "a", "l": [1,]}', ODD),
    (b'{"file_name": "a", "l": [1 2]}', ODD),
    (b'{"file_name": "a", "l": [1}', ODD),
    (b'{"file_name": "a"', ODD),
    (b'{"file_name": "a"}{}', ODD),
    (b'{"file_name": "a"} x', ODD),
    (b'["file_name"]', ODD),
    (b"null", ODD),
]


def states_of(tmp_path: Path, lines: list[bytes]) -> tuple[list[int], list[int]]:
    path = tmp_path / "lines"
    path.write_bytes(b"\n".join(lines))
    source = Source(path)
    edges = Lines(source).edges()
    into = np.full(len(edges) - 1, 77, np.uint64)
    found = hashes(source.mapping, edges, 1 << 16, SEED, into)
    return found.tolist(), into.tolist()


def hash_of(name: str) -> int:
    raw = name.encode()
    ends = np.array([0, len(raw)], np.uint64)
    return int(name_hashes(raw or b"\0", ends, "iid", SEED)[0])


def slow(line: bytes) -> list[str] | None:
    """Names as Python's JSON has them; None of a line that is wrong."""
    try:
        found = value_of(line)
        return [canonical(n) for n in file_names(found).values()] if type(found) is dict else None
    except ValueError:
        return None


def check(line: bytes, state: int, hashed: int) -> None:
    """What the core says of a line is what Python says of it."""
    want = slow(line)
    if state == NAMED:
        assert want is not None, line
        assert [hash_of(name) for name in want] == [hashed], line
    else:
        assert hashed == 0, line
        assert state == ODD or want == [], line


def test_lines_of_each_kind(tmp_path):
    found, hashed = states_of(tmp_path, [line for line, _ in LINES])
    assert found == [state for _, state in LINES]
    for (line, state), h in zip(LINES, hashed, strict=True):
        check(line, state, h)


def test_lines_that_are_deep_or_have_many_keys_are_parsed(tmp_path):
    front = b'{"file_name": "a", "x": '
    many = [b'"k%d": 1' % k for k in range(64)]
    lines = [
        front + b"[" * 16 + b"]" * 16 + b"}",
        front + b"[" * 17 + b"]" * 17 + b"}",
        b"{" + b", ".join(many) + b"}",
        b"{" + b", ".join([*many, b'"more": 1']) + b"}",
        front + b"1" * 200 + b"}",
        front + b"1" * 201 + b"}",
        front + b'"' + b"x" * (1 << 16) + b'"}',
    ]
    found, _ = states_of(tmp_path, lines)
    assert found == [NAMED, ODD, UNNAMED, ODD, NAMED, ODD, ODD]


def test_lines_with_changes_anywhere(tmp_path):
    rng = random.Random(5)
    pieces = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"\xc3", b"\xa9", b"/", b"."]
    lines = []
    for _ in range(6000):
        line = bytearray(rng.choice(LINES)[0])
        for _ in range(rng.randint(1, 3)):
            k = rng.randrange(len(line) + 1)
            line[k : k + rng.randint(0, 2)] = rng.choice(pieces)
        lines.append(bytes(line).strip() or b"{}")
    found, hashed = states_of(tmp_path, lines)
    assert set(found) == {UNNAMED, NAMED, ODD}
    for line, state, h in zip(lines, found, hashed, strict=True):
        check(line, state, h)


def folder(path: Path, lines: list[Any]) -> Path:
    path.mkdir()
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (path / "metadata.jsonl").write_bytes(b"\n".join(raw))
    return path


def test_names_are_those_of_parsed_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "STEP_NBYTES", 1000)  # many calls of the core
    rng = random.Random(7)
    spelt = ["a.png", "./a.png", "b\\a.png", "b/a.png", "b//a.png", "\u00e9.png", "e\u0301.png"]
    lines: list[Any] = []
    for k in range(900):
        name = rng.choice([f"{k}.png", f"{k % 50}.png", rng.choice(spelt)])
        line = {"file_name": name, "caption": "x" * rng.randrange(200)}
        kind = rng.randrange(12)
        if kind == 0:
            line["mask_file_name"] = rng.choice([name, f"{k}_mask.png"])
        elif kind == 1:
            line = {"filepath": name}
        elif kind == 2:
            line["file_name"] = None
        utf8 = kind > 6
        lines.append(json.dumps(line, ensure_ascii=not utf8).encode())
    ds = mapix.open(folder(tmp_path / "f", lines))
    want: dict[str, list[int]] = {}
    for k, line in enumerate(lines):
        for name in dict.fromkeys(slow(line)):
            want.setdefault(name, []).append(k)
    assert len(want) > names.MOST_SCANS  # hashes are sorted on the way
    for name, rows in want.items():
        assert ds.find(name).tolist() == rows, name
        assert ds._rows_named([name]).tolist() == rows, name
    for name in ("no.png", "", "\udc80.png", "./nothing"):
        assert ds.find(name).tolist() == []
    assert ds.find(".//b/./a.png").tolist() == want["b/a.png"]
    assert ds[100:].find("a.png").tolist() == [k - 100 for k in want["a.png"] if k >= 100]


@pytest.mark.parametrize("scans", [0, 100])
def test_equal_hashes_are_not_equal_names(tmp_path, monkeypatch, scans):
    monkeypatch.setattr(names, "MOST_SCANS", scans)
    monkeypatch.setattr(names, "name_hashes", lambda *_: np.zeros(1, np.uint64))

    def same(mapping, edges, most_nbytes, seed, into):
        found = hashes(mapping, edges, most_nbytes, seed, into)
        into[:] = 0
        return found

    monkeypatch.setattr(names, "hashes", same)
    lines = [{"file_name": f"{k % 3}.png"} for k in range(7)] + [{"caption": "none"}]
    ds = mapix.open(folder(tmp_path / "f", lines))
    assert ds.find("1.png").tolist() == [1, 4]
    assert ds.find("3.png").tolist() == []


def test_a_file_that_changes_meanwhile(tmp_path):
    path = folder(tmp_path / "f", [{"file_name": f"{k}.png"} for k in range(9)])
    ds = mapix.open(path)
    assert ds.find("3.png").tolist() == [3]
    (path / "metadata.jsonl").write_bytes(b'{"file_name": "3.png"}\n')
    with pytest.raises(mapix.FileChangedError):
        ds.find("3.png")
