"""Names of the files of a set: ``NAME-00000-of-00003.iid``."""

from __future__ import annotations

import os
import re

from mapix.errors import FormatError
from mapix.iid.layout import NAME
from mapix.source import is_file, is_listed, name_of

__all__ = ["files_of_set", "files_with_stem", "shard_path"]

SHOWN_NAMES = 5  # of missing files in a message
NUMBERED = r"(.*)-(\d{5})-of-(\d{5})\.iid"


def shard_path(stem: str, k: int, n: int) -> str:
    """Return the path of file k of n."""
    return f"{stem}-{k:05}-of-{n:05}.iid"


def files_of_set(path: str, among: frozenset[str] = frozenset()) -> list[str]:
    """Return the paths of all files of the set of a path; none if its name is not one of a set.

    None, too, if another file of the set is ``among`` the paths that the user names.

    Raises
    ------
    FormatError
        Some are missing.
    """
    if "-of-" not in path:  # the usual case, without a regular expression
        return []
    folder, name = os.path.split(path)
    found = re.fullmatch(NUMBERED, name)
    if found is None:
        return []
    stem, n = os.path.join(folder, found[1]), int(found[3])
    paths = [shard_path(stem, k, n) for k in range(n)]
    if any(p in among and p != path for p in paths):
        return []
    is_listed(folder)  # of an object store, one request in place of one for each file
    missing = [name_of(p) for p in paths if not is_file(p)]
    if missing:
        shown = ", ".join(missing[:SHOWN_NAMES])
        more = f" and {len(missing) - SHOWN_NAMES} more" if len(missing) > SHOWN_NAMES else ""
        raise FormatError(path, NAME, f"shards are missing: {shown}{more}")
    return paths


def files_with_stem(stem: str) -> list[str]:
    """Return the paths of the files in the folder that belong to a set of this stem, sorted."""
    folder, name = os.path.split(stem)
    every = ((n, re.fullmatch(NUMBERED, n)) for n in sorted(os.listdir(folder)))
    return [os.path.join(folder, n) for n, match in every if match and match[1] == name]
