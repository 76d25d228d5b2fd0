"""The program ``mapix``: see ``mapix.commands``."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["describe", "main"]

# Not in mapix.commands.status: Ctrl-C may end the import of that module.
INTERRUPTED = 130  # as shells have it


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0 for good; 1 if the data are bad, or two datasets differ; 2 if it could not be done; 130
        after Ctrl-C.  Errors are one line on stderr.

    Raises
    ------
    SystemExit
        From argparse: with 3 for arguments that it does not understand, with 0 after help.
    """
    try:
        from mapix.commands import program

        return program.main(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        print("mapix: interrupted", file=sys.stderr)
        return INTERRUPTED


def describe(ds: Any) -> str:
    """Return what ``mapix info`` prints: the facts of a dataset as aligned text of several lines.

    Parameters
    ----------
    ds : mapix.Dataset
        Of anything without ``describe()`` the text is its repr.
    """
    from mapix.commands.info import facts
    from mapix.text import description

    return description(facts(ds)) if hasattr(ds, "describe") else repr(ds)


if __name__ == "__main__":
    sys.exit(main())
