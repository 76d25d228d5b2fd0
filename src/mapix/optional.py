"""Import optional libraries when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from mapix.errors import UnsupportedError

__all__ = ["library"]

TITLES = {"PIL": "Pillow"}  # package -> its name where that differs


def library(name: str, extra: str) -> Any:
    """Import a module of an optional library.

    Parameters
    ----------
    name : str
        Of the module: ``"PIL.Image"``.
    extra : str
        The extra of mapix that installs the library.

    Raises
    ------
    UnsupportedError
        The library is not installed; the message is one line that names the extra.
    """
    package = name.split(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(name)
    except ImportError as e:
        title = TITLES.get(package, package)
        reason = f"{title} is needed for this: pip install 'mapix[{extra}]'"
        raise UnsupportedError(reason) from e
