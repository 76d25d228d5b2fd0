"""Bars of progress, and the callbacks in their place."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import mapix
from mapix import progress
from mapix.idx.array import IdxArray
from mapix.report import Report


def test_a_callback_is_used_as_it_is():
    seen = []
    assert progress.shown(seen.append, "x") == seen.append
    assert progress.shown(None, "x") is None
    assert progress.shown(False, "x") is None
    assert isinstance(progress.shown(True, "x"), progress.Bar)


@pytest.fixture
def bare(monkeypatch):
    """Let no library for bars be installed."""
    for name in ("tqdm", "tqdm.auto", "rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)


def test_per_cent_without_a_library(bare, monkeypatch, capsys):
    bar = progress.Bar("reading")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for done in (0, 3, 6):
        bar(done, 6)
    assert capsys.readouterr().err == "\r  0 %\r 50 %\r100 %\n"


def test_tqdm(capsys):
    pytest.importorskip("tqdm", reason="needs tqdm")
    bar = progress.Bar("reading", "bytes")
    bar(1000, 4000)
    bar(4000, 4000)
    err = capsys.readouterr().err
    assert "reading: 100%" in err
    assert "4.00k/4.00k" in err
    assert err.endswith("\n")
    bar(1, 2)
    del bar  # an error ends it before the total
    assert capsys.readouterr().err.endswith("\n")


def test_rich_without_tqdm(monkeypatch, capsys):
    pytest.importorskip("rich", reason="needs rich")
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    bar = progress.Bar("reading")
    bar(1, 4)
    bar(4, 4)
    err = capsys.readouterr().err
    assert "reading" in err
    assert "100%" in err


def test_true_shows_a_bar_everywhere(tmp_path, monkeypatch):
    seen: list[tuple[str, int, int]] = []
    monkeypatch.setattr(
        progress.Bar, "__call__", lambda self, done, n: seen.append((self.task, done, n))
    )
    np.savez(tmp_path / "a.npz", images=np.zeros((9, 4, 4), np.uint8), labels=np.arange(9))
    ds = mapix.open(tmp_path / "a.npz")
    uses = {
        "checking": lambda: ds.verify(progress=True),
        "reading": lambda: ds.statistics(progress=True),
        "converting": lambda: mapix.convert(ds, tmp_path / "b", to="vimh", progress=True),
    }
    for task, use in uses.items():
        seen.clear()
        use()
        assert seen, task
        assert {found for found, _, _ in seen} == {task}
        assert seen[-1][1] == seen[-1][2]
    seen.clear()
    ds.warm(True)
    assert seen[-1] == ("reading", ds.source.nbytes, ds.source.nbytes)
    counted = []
    ds.verify(lambda done, total: counted.append((done, total)))
    assert counted
    for act, task in (
        (lambda: mapix.open(tmp_path / "b", progress=True), ""),
        (lambda: mapix.index(tmp_path / "b" / "train", progress=True), "indexing"),
        (lambda: mapix.vimh.verify(tmp_path / "b", progress=True), "checking"),
        (
            lambda: mapix.vimh.repair(tmp_path / "b" / "train", tmp_path / "c", progress=True),
            "copy",
        ),
    ):
        seen.clear()
        act()
        assert all(found.startswith(task) for found, _, _ in seen)
        assert seen or not task


def test_formats_of_other_packages_have_it_too(tmp_path, monkeypatch):
    calls = []

    class Own(IdxArray):
        def verify(self, progress=None):
            calls.append(progress)
            return Report("own")

    made = object.__new__(Own)
    made.verify(True)
    made.verify(progress=None)
    assert isinstance(calls[0], progress.Bar)
    assert calls[1] is None
