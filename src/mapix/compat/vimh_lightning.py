"""Deprecated name of ``mapix.compat.vimh``, for ``Augment`` and ``VIMHDataModule``."""

import warnings

from mapix.compat.vimh import Augment, VIMHDataModule

__all__ = ["Augment", "VIMHDataModule"]

warnings.warn(
    "mapix.compat.vimh_lightning is deprecated: import from mapix.compat.vimh",
    DeprecationWarning,
    stacklevel=2,
)
