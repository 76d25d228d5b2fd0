"""Draw arrays: PNG files, thumbnails, contact sheets, half blocks.  Needs numpy alone."""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.drawing.png_file import png
    from mapix.drawing.scaling import thumbnail
    from mapix.drawing.sheet import contact_sheet
    from mapix.drawing.terminal import half_blocks

__all__ = ["contact_sheet", "half_blocks", "png", "thumbnail"]

_MODULES = {
    "contact_sheet": "sheet",
    "half_blocks": "terminal",
    "png": "png_file",
    "thumbnail": "scaling",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
