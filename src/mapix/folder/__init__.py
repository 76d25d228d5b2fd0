"""Image folders with a ``metadata.jsonl``: opsml's, and Hugging Face's imagefolder.

``mapix.open("my_images")`` opens one.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.folder.checking import lint
    from mapix.folder.dataset import ImageFolder
    from mapix.folder.lines import Lines
    from mapix.folder.record import Objects, Record
    from mapix.folder.writer import Appender, Writer, write

__all__ = ["Appender", "ImageFolder", "Lines", "Objects", "Record", "Writer", "lint", "write"]

_MODULES = {
    "Appender": "writer",
    "ImageFolder": "dataset",
    "Lines": "lines",
    "Objects": "record",
    "Record": "record",
    "Writer": "writer",
    "lint": "checking",
    "write": "writer",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
