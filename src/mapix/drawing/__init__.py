"""Draw arrays: PNG files, thumbnails, contact sheets, half blocks.  Needs numpy alone."""

from mapix.drawing.png_file import png
from mapix.drawing.scaling import thumbnail
from mapix.drawing.sheet import contact_sheet
from mapix.drawing.terminal import half_blocks

__all__ = ["contact_sheet", "half_blocks", "png", "thumbnail"]
