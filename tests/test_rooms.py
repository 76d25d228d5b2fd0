"""The rooms' import table in ARCHITECTURE.md is true: nobody imports what it does not list."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import mapix

ROOT = Path(mapix.__file__).parent
TABLE = Path(__file__).parent.parent / "ARCHITECTURE.md"


def allowed() -> dict[str, set[str]]:
    """Room -> rooms that it may import, from the table between the two markers."""
    text = TABLE.read_text(encoding="utf-8")
    rows = text.split("<!-- rooms: begin -->")[1].split("<!-- rooms: end -->")[0]
    found = re.findall(r"^\| `([^`]+)` \| (.*?) \|", rows, flags=re.M)
    return {room: set(re.findall(r"`([^`]+)`", cell)) for room, cell in found}


def room_of(module: str) -> str:
    """The room of a module name: its first part below mapix, or ``mapix`` for the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "mapix"


def imports(path: Path) -> set[str]:
    """Rooms that a module imports, type-checking imports left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(n)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for branch in node.body
        for n in ast.walk(branch)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {room_of(a.name) for a in node.names if a.name.split(".")[0] == "mapix"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "mapix":
                submodules = {a.name for a in node.names if (ROOT / a.name).exists()}
                submodules |= {a.name for a in node.names if (ROOT / f"{a.name}.py").exists()}
                found |= submodules or {"mapix"}
            elif node.module and node.module.startswith("mapix."):
                found.add(room_of(node.module))
    return found


def modules() -> list[tuple[str, Path]]:
    names = []
    for path in sorted(ROOT.rglob("*.py")):
        below = path.relative_to(ROOT).with_suffix("").parts
        names.append(("mapix" if below == ("__init__",) else below[0], path))
    return names


def test_every_room_is_in_the_table():
    assert {room for room, _ in modules()} == set(allowed())


def test_rooms_import_only_what_they_may():
    table = allowed()
    for room, path in modules():
        extra = imports(path) - table[room] - {room}
        assert not extra, f"{path.relative_to(ROOT)} imports {extra}, which {room} may not"


def test_only_native_knows_the_compiled_core():
    for room, path in modules():
        text = path.read_text(encoding="utf-8")
        assert room == "_native" or "_core import" not in text, path


def test_only_compiled_knows_the_optional_module():
    for _, path in modules():
        text = path.read_text(encoding="utf-8")
        known = path.name == "compiled.py"
        assert known or not re.search(r"_record import|import _record", text), path


def test_only_source_opens_data_files():
    """Others may open by ``Source``, ``Root`` and ``read_small``; cache.py writes stored
    files, store.py makes new ones, and journal.py locks what it appends to."""
    calls = re.compile(
        r"(?<![.\w])open\(|os\.open\(|mmap\.mmap\(|np\.memmap|np\.fromfile|\.read_bytes\("
    )
    for room, path in modules():
        if room in ("source", "beneath", "store", "cache", "journal", "demo", "testing", "mapix"):
            continue
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code = line.split("#")[0]
            assert not calls.search(code) or "mapix.open(" in code or "def " in code, (
                f"{path}:{n}: {line}"
            )
