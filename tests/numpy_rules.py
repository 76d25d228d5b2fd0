"""What numpy must not be asked for: it ends the process when it has no memory for it.

``python tests/numpy_rules.py`` runs every operation of ``every_operation.py`` with a mapix whose
source is changed when it is imported, such that each ``x[y]`` is checked.  It prints each place
that breaks a rule; the exit status is 1 if there is one.  docs/testing.md has programs that show
what numpy alone does.  Names of families after it run these alone.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.abc
import importlib.machinery
import os
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np

SOURCES = Path(__file__).parent.parent / "src" / "mapix"
NAMES = re.compile(
    r"\b(as_strided|sliding_window_view|__array_interface__|(?:take|put)_along_axis|np\.roll)\b"
)
broken: Counter[str] = Counter()


class Held:
    """An array in mapix's source, in place of which its indices are checked."""

    def __init__(self, array: Any, place: str) -> None:
        self.array, self.place = array, place

    def checked(self, index: Any) -> Any:
        if isinstance(self.array, np.void) and isinstance(index, str):
            broken[f"{self.place}: a field of one structured number: read it from the array"] += 1
        every = index if isinstance(index, tuple) else (index,)
        arrays = [one for one in every if isinstance(one, np.ndarray) and one.dtype.kind in "iu"]
        for one in arrays:
            if one.dtype != np.intp:
                broken[f"{self.place}: an index of {one.dtype}: use take, or make it int64"] += 1
        if len({one.shape for one in arrays}) > 1:
            broken[f"{self.place}: indices of different shapes: use take of one number"] += 1
        return index

    def __getitem__(self, index: Any) -> Any:
        return self.array[self.checked(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[self.checked(index)] = value


def held(x: Any, place: str) -> Any:
    """Return what stands for ``x`` in ``x[y]``."""
    return Held(x, place) if isinstance(x, np.ndarray | np.void) else x


class Rewritten(ast.NodeTransformer):
    """Source in which ``held(x, place)`` stands for the ``x`` of each ``x[y]``, but in types."""

    def __init__(self, path: str) -> None:
        self.path = path

    def visit_Subscript(self, node: ast.Subscript) -> ast.Subscript:
        self.generic_visit(node)
        place = ast.Constant(f"{self.path}:{node.lineno}")
        name = ast.Name("held_by_numpy_rules", ast.Load())
        node.value = ast.Call(name, [node.value, place], [])
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.target = self.visit(node.target)
        node.value = node.value and self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        returns, node.returns = node.returns, None
        self.generic_visit(node)
        node.returns = returns
        return node


class Loader(importlib.machinery.SourceFileLoader):
    """Compiles the changed source, and stores nothing."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = Rewritten(os.path.relpath(path, SOURCES)).visit(ast.parse(self.get_data(path)))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of mapix as they always are, but for their loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "mapix":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


def names() -> None:
    """Find functions of numpy that end a process without memory, or index as is not allowed."""
    for path in SOURCES.rglob("*.py"):
        place = path.relative_to(SOURCES)
        for found in NAMES.finditer(path.read_text(encoding="utf-8")):
            broken[f"{place}: {found[0]}: make an np.ndarray, use take or concatenate"] += 1


def main(*only: str) -> int:
    """Run the operations of families; return the exit status."""
    builtins.held_by_numpy_rules = held  # type: ignore[attr-defined]
    sys.meta_path.insert(0, Finder())
    import every_operation
    import mapix

    names()
    warnings.simplefilter("ignore", mapix.MapixWarning)
    nops = 0
    for name, family in every_operation.families().items():
        if only and name not in only:
            continue
        with tempfile.TemporaryDirectory() as base, contextlib.chdir(base):
            os.environ["MAPIX_CACHE_DIR"] = os.path.join(base, "cache")
            folder = Path(base, "data")
            folder.mkdir()
            path = family.make(folder)
            family.open(path)
            files = every_operation.Restored([folder])
            for _what, op in family.operations():
                every_operation.plain(op(family.open(path)))
                files.back()
                nops += 1
    for place, times in sorted(broken.items()):
        print(f"{place} ({times} times)")
    print(f"{nops} operations, {len(broken)} places")
    return 1 if broken or not nops else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
