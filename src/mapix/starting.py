"""Ctrl-C while the program ``mapix`` is still importing ``mapix`` ends it without a traceback.

``__main__`` handles Ctrl-C from its first line on, but the package is imported before it.  This
module is imported first, and changes nothing where mapix is used as a library.
"""

from __future__ import annotations

import sys

__all__: list[str] = []


def _is_program() -> bool:
    """Return whether this process is ``python -m mapix`` or the script ``mapix``."""
    if sys.argv[:1] == ["-m"]:  # the module's path replaces it when the module is found
        given = sys.orig_argv
        return "mapix" in given and given[given.index("mapix") - 1] == "-m"
    return sys.argv[:1] != [] and sys.argv[0].rpartition("/")[2] == "mapix"


def _excepthook(kind: type[BaseException], error: BaseException, where: object) -> None:
    """Print one line for Ctrl-C; Python then ends the process by SIGINT, which shells call 130."""
    if issubclass(kind, KeyboardInterrupt):
        print("mapix: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)  # type: ignore[arg-type]


if _is_program():
    sys.excepthook = _excepthook
