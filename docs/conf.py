"""Settings of the documentation: ``sphinx-build -W docs build/docs``."""

from __future__ import annotations

import mapix

project = "mapix"
author = "the mapix developers"
copyright = author
release = mapix.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = [
    "myst.xref_missing",  # the README and other pages of the project's root are not in this folder
    "ref.python",  # types of attributes, "bytes" and "dtype", are also names of attributes
]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings state types, shapes and units
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes once, where the class describes them

html_theme = "furo"
html_title = "mapix"
html_static_path: list[str] = []
