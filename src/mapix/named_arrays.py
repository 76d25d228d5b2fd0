"""Choose one of the named arrays of a file, as all formats with several arrays do."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice

from mapix.errors import FormatError, UnsupportedError

__all__ = ["LABELS", "beside", "check_name", "only_array"]

USUAL = ("images", "x", "arr_0", "data")  # arr_0 is the first array of numpy.savez(path, array)
LABELS = ("labels", "y")
MOST_LISTED = 20  # names in a message


def only_array(names: Collection[str], path: str, format: str, options: str) -> str:
    """Return the name of the array that is opened without options.

    It is the first of ``images``, ``x``, ``arr_0`` and ``data`` that the file has, or the only
    array that there is.

    Parameters
    ----------
    names : collection of str
        Names of the arrays of the file.
    path, format : str
        For errors.
    options : str
        The options that choose an array, for errors.

    Raises
    ------
    FormatError
        The file has no arrays.
    UnsupportedError
        It has several, and none of these names.
    """
    found = next((name for name in USUAL if name in names), None)
    if found is not None:
        return found
    if not names:
        raise FormatError(path, format, "no arrays in it")
    if len(names) > 1:
        reason = f"several arrays ({_listed(names)}): pass {options}"
        raise UnsupportedError(f"{path}: {format}: {reason}")
    return next(iter(names))


def beside(names: Collection[str], array: str, usual: Iterable[str] = LABELS) -> str | None:
    """Return the first of some usual names that the file has for labels of an array, or None."""
    return next((name for name in usual if name in names and name != array), None)


def check_name(name: str, names: Collection[str], path: str, format: str) -> None:
    """Raise FormatError unless the file has an array of that name."""
    if name not in names:
        raise FormatError(path, format, f"no array {name!r}; there: {_listed(names)}")


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(islice(names, MOST_LISTED)) + more if names else "no arrays"
