"""Every code block of README.md and docs/ runs.

A page's blocks run one after another in one namespace and one folder, as a reader would type them.
``doc_files`` makes the files that they open.  Of shell blocks, the commands that begin with
``mapix`` run; of console blocks they follow ``$ ``, and print what is below them, where ``...``
stands for any text.  A block is left out only by a comment on the line before it that states the
reason: ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import mapix
from doc_files import FILES, PICTURES, made

ROOT = Path(__file__).parent.parent
SEPARATE = {ROOT / "docs/clients.md"}  # test_clients.py runs its blocks, each by itself
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - SEPARATE)]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.S | re.M
)
HEX = re.compile(r"[0-9a-f]{8}  ")
LEFT_OUT = re.compile(r"(not run: \S|demo command|test command)")
LIBRARIES = {
    "parquet": "pyarrow",
    "datasets": "datasets",
    "safetensors": "safetensors",
    "torch": "torch",
    "PIL": "PIL.Image",
    "matplotlib": "matplotlib",
}
"""Word of an example -> the library that it needs, beside those that it imports."""
IMPORT = re.compile(r"^ *(?:from|import) (\w+)", re.M)

NAMES: dict[str, str] = {
    "README.md": "train_step = lambda images, labels: None",
    "docs/convert.md": "ds = mapix.open('my_dataset')",
    "docs/folder.md": """
from torch.utils.data import DataLoader
import mapix.torch
ds = mapix.open("my_images")
rows, jpeg_bytes, array = [3, 1], ds[0].bytes, np.zeros((5, 6, 3), "u1")
""",
    "docs/frameworks.md": "train = lambda images, labels: None",
    "docs/gpu.md": "train = lambda images, labels: None",
    "docs/iid.md": "mask = np.ones((4, 5), bool)\n"
    "coco_rle = {'size': [480, 640], 'counts': [0, 9, 307191]}",
    "docs/loader.md": "train = lambda images, labels: None",
    "docs/visualrbm.md": "rows = np.zeros((2, 40), 'f4')",
}
"""Page -> code that defines what its examples use and do not define."""


class Block(NamedTuple):
    line: int
    language: str
    mark: str
    code: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page that name a language."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(line, found["language"], found["mark"] or "", found["code"])


def run(block: Block, page: str, names: dict[str, Any]) -> None:
    """Run a block; its lines in a traceback are those of the page."""
    if block.language == "python":
        code = block.code.replace('device="cuda"', "device=None")
        exec(compile("\n" * (block.line - 1) + code, page, "exec"), names)
        return
    from mapix.__main__ import main

    if block.language == "console":
        for command, wanted in transcript(block.code):
            out = io.StringIO()
            with redirect_stdout(out), redirect_stderr(io.StringIO()):
                main(shlex.split(command)[1:])
            pattern = "".join(map(_pattern, wanted.splitlines(keepends=True)))
            assert re.fullmatch(pattern, out.getvalue(), re.S), f"{command}\n{out.getvalue()}"
        return
    for line in block.code.splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "mapix":
            assert not main(words[1:]), f"{page}:{block.line}: {line}"


def _pattern(line: str) -> str:
    """Return the pattern of a line; of a hex dump dots are bytes."""
    dots = re.escape("...")
    return re.escape(line) if HEX.match(line) else re.escape(line).replace(dots, ".*?")


def transcript(code: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and what it prints."""
    for part in re.split(r"^\$ ", code, flags=re.M)[1:]:
        command, _, wanted = part.partition("\n")
        yield command, wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
@pytest.mark.filterwarnings("ignore::mapix.MapixWarning")
def test_the_examples_run(page, tmp_path, monkeypatch):
    name = str(page.relative_to(ROOT))
    shown = [b for b in blocks(page) if b.language in ("python", "sh", "console")]
    shown = [b for b in shown if not LEFT_OUT.match(b.mark)]
    if not shown:
        pytest.skip("no example")
    text = NAMES.get(name, "") + "".join(b.code for b in shown)
    for word, library in LIBRARIES.items():
        if re.search(rf"\b{word}\b", text):
            pytest.importorskip(library)
    for library in IMPORT.findall(text):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    for file in FILES:
        if re.search(rf"""["' ]{re.escape(file)}["'\s]""", text):
            if file in PICTURES:
                pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[view]'")
            made(tmp_path, file)
    names: dict[str, Any] = {"mapix": mapix, "np": np}
    exec(NAMES.get(name, ""), names)
    for block in shown:
        run(block, name, names)
