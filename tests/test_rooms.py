"""The import table in ARCHITECTURE.md is true: no module imports what it does not list."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import mapix
from mapix.registry import built_in

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


@cache
def imported(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a module, those left out that only type checkers see."""
    found: list[ast.Import | ast.ImportFrom] = []
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert isinstance(node, ast.Import) or node.level == 0, f"{path}: relative import"
            found.append(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.expr):  # an expression holds no statement
            waiting += ast.iter_child_nodes(node)
    return found


def imports(path: Path) -> set[str]:
    """Rooms that a module imports, type-checking imports left out."""
    found: set[str] = set()
    for node in imported(path):
        if isinstance(node, ast.Import):
            found |= {room_of(a.name) for a in node.names if a.name.split(".")[0] == "mapix"}
        elif node.module == "mapix":
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
        assert not extra, f"{path.relative_to(ROOT)} imports {extra}, which it must not"


def graph() -> dict[str, set[str]]:
    """Module -> modules that it imports, late imports counted, type-checking imports left out."""
    names = {
        ".".join(("mapix", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p
        for p in ROOT.rglob("*.py")
    }
    found: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in imported(path):
            if isinstance(node, ast.Import):
                found[name] |= {a.name for a in node.names if a.name in names}
            elif node.module:
                for a in node.names:
                    full = f"{node.module}.{a.name}"
                    found[name] |= {full if full in names else node.module} & set(names)
    return found


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules each of which reaches all others of its group."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for follower in edges[waiting.pop()] - seen:
                seen.add(follower)
                waiting.append(follower)
        return seen

    reach = {name: reached(name) for name in edges}
    groups = {
        frozenset(m for m in reach[name] if name in reach[m])
        for name in edges
        if name in reach[name]
    }
    return sorted((set(g) for g in groups), key=sorted)


def test_no_module_imports_itself_over_others():
    assert circles(graph()) == []


# What stands for programs that people have, or makes data to show, is written for certain formats.
FOR_CERTAIN_FORMATS = {"compat", "demo"}
USERS_OF_MAPIX = {"compat", "demo", "torch", "testing", "commands"}


def test_no_format_is_named_outside_its_folder_and_the_registry():
    families = {str(f.open).split(".")[1] for f in built_in().values()}
    for name, imported in graph().items():
        room = room_of(name)
        others = {room_of(m) for m in imported} & families - {room}
        assert not others or room in FOR_CERTAIN_FORMATS, f"{name} imports {others}"


def test_only_the_top_imports_the_package_itself():
    for name, imported in graph().items():
        if "mapix" in imported and name != "mapix":
            assert room_of(name) in USERS_OF_MAPIX, name


def test_only_native_knows_the_compiled_core():
    for room, path in modules():
        text = path.read_text(encoding="utf-8")
        without_numpy = path.name == "version.py" and room == "commands"
        assert room == "_native" or without_numpy or "_core import" not in text, path


def test_only_compiled_knows_the_optional_module():
    for _, path in modules():
        text = path.read_text(encoding="utf-8")
        known = path.name == "compiled.py"
        assert known or not re.search(r"_record import|import _record", text), path


def test_only_source_opens_data_files():
    """Others may open by ``Source``, ``Root`` and ``read_small``; cache.py writes stored files,
    remote those of mirrors, system_calls.py opens new ones, and journal.py locks what it appends
    to."""
    calls = re.compile(
        r"(?<![.\w])open\(|os\.open\(|mmap\.mmap\(|np\.memmap|np\.fromfile|\.read_bytes\("
    )
    for room, path in modules():
        # bench.py measures np.memmap and plain reads beside mapix; terminal.py opens /dev/tty
        if path.name in ("journal.py", "bench.py", "terminal.py") or room in (
            "source",
            "remote",
            "rooted",
            "system_calls",
            "cache",
            "demo",
            "testing",
            "mapix",
        ):
            continue
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code = line.split("#")[0]
            assert not calls.search(code) or "mapix.open(" in code or "def " in code, (
                f"{path}:{n}: {line}"
            )
