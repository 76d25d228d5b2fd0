"""The prose of docstrings, comments, errors and documents uses plain words: see CONTRIBUTING.md.

Run as a program, this module counts the words of whole folders: ``python tests/test_style.py src``.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Files and folders whose prose is checked.
CHECKED = """
src/mapix csrc fuzz tests/c docs examples
README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md benchmarks/README.md
tests/conftest.py tests/records.py tests/model_disk.py tests/interleave.py tests/fuse_direct.py
tests/stress_faults.py tests/stress_writers.py tests/hostile_iid.py tests/every_operation.py
tests/slow_vimh.py tests/slow_iid.py tests/slow_json.py tests/slow_pink.py tests/slow_visualrbm.py
tests/doc_files.py tests/test_docs.py tests/test_npy.py
"""

# name -> what is not written
AVOIDED = {
    "heir (subclass)": r"heirs?",
    "twin (reference implementation, fallback)": r"twins?",
    "told, tells (reports, states, raises)": r"told|tells",
    "says so (reports, states)": r"sa(?:y|ys|id) so",
    "is no, is none (is not a; there is no)": (
        r"(?<!there )(?:is|are) (?:no(?! longer)|(?-i:none))"
    ),
    "behind (after)": r"behind",
    "may not (might not, must not)": r"may not",
    "whole (complete)": r"whole(?! numbers?| seconds?)",
    "house, room, stair (module, space)": r"houses?|rooms?|stairs?",
    "look (check, inspect, read)": r"look(?:s|ed|ing)?(?! like)",
    "a pass over (scan, iteration)": r"pass(?:es)? over",
    "a batch, a record (per batch, per record)": (
        r"(?:bytes?|calls?|gathers?|lines?|misses|miss|ns|us|µs|ms|objects?|times) an? "
        r"(?:batch|byte|call|channel|file|image|line|megabyte|page|pixel|record|row|second|segment)"
    ),
    "somebody, nobody (a process, a caller, a name)": r"(?:some|no|any|every)body",
    "in words (as text)": r"in words",
    "keep an index (store it)": (
        r"ke(?:pt|eps?) (?:an? |the )?index(?:es)?|index(?:es)? (?:is|are|be) kept"
    ),
    "who wants (callers that)": r"who wants|for who",
}
PATTERNS = {
    name: re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE) for name, pattern in AVOIDED.items()
}
ANY = re.compile(rf"\b(?:{'|'.join(AVOIDED.values())})\b", re.IGNORECASE)
# f-strings are tokens of their own since Python 3.12
PROSE = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
QUESTION = "a docstring begins with a verb"


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of everything in a file that people read."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".c", ".h"):
        for comment in re.finditer(r"/\*.*?\*/", text, re.DOTALL):
            first = text.count("\n", 0, comment.start()) + 1
            yield from enumerate(comment.group().splitlines(), first)
        return
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in PROSE:
            for k, line in enumerate(token.string.splitlines()):
                yield token.start[0] + k, line


def findings(path: Path) -> list[tuple[int, str, str]]:
    """Return line number, rule and text of each breach of the rules in a file."""
    found = []
    for number, line in prose(path):
        if not ANY.search(line):
            continue
        found += [(number, name, line.strip()) for name, p in PATTERNS.items() if p.search(line)]
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if re.match(r"(?:What|How|Why|Which) ", text):
                    found.append((getattr(node, "lineno", 1), QUESTION, text.splitlines()[0]))
    return found


def files(place: Path) -> list[Path]:
    """Return the files of prose in a folder, or the file itself."""
    if place.is_file():
        return [place]
    return sorted(p for p in place.rglob("*") if p.suffix in (".py", ".md", ".c", ".h"))


@pytest.mark.parametrize("place", sorted(set(CHECKED.split())))
def test_prose_is_plain(place: str) -> None:
    paths = files(ROOT / place)
    assert paths
    breaches = [
        f"{path.relative_to(ROOT)}:{n}: {rule}: {text}"
        for path in paths
        for n, rule, text in findings(path)
    ]
    assert not breaches, "\n".join(breaches)


def test_breaches_are_found(tmp_path: Path) -> None:
    place = tmp_path / "module.py"
    place.write_text(
        '"""What a file holds.\n\nAn heir is none.\n"""\n\n'
        "whole = 1  # 12 bytes a record\n"
        "raise ValueError(f'{x}: bytes behind it: {y} is no number: nobody may not look')\n"
        "# There is no record: whole numbers; it looks like JSON; it is None\n"
    )
    wanted = [
        (1, QUESTION),
        (3, "heir"),
        (3, "is no, is none"),
        (6, "a batch, a record"),
        (7, "behind"),
        (7, "is no, is none"),
        (7, "look"),
        (7, "may not"),
        (7, "somebody, nobody"),
    ]  # sorted: before Python 3.12, an f-string is one piece
    assert sorted((n, rule.split(" (")[0]) for n, rule, _ in findings(place)) == wanted


if __name__ == "__main__":
    counts: Counter[str] = Counter()
    for argument in sys.argv[1:]:
        for path in files(Path(argument)):
            for number, rule, text in findings(path):
                counts[rule] += 1
                if path == Path(argument):
                    print(f"{path}:{number}: {rule}: {text}")
    for rule, n in sorted(counts.items()):
        print(f"{n:5} {rule}")
    print(f"{sum(counts.values()):5} together")


def test_of_c_only_comments_are_read(tmp_path: Path) -> None:
    place = tmp_path / "module.c"
    place.write_text("int whole; /* one\n * behind the other */\nint behind;\n")
    assert [(n, text) for n, _, text in findings(place)] == [(2, "* behind the other */")]
