"""Draw pictures in a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.drawing.scaling import rgb, thumbnail

__all__ = ["half_blocks"]

UPPER_HALF = "\u2580"
RESET = "\x1b[0m"


def half_blocks(array: NDArray[Any], width: int) -> str:
    """Return a picture as lines of half blocks in 24-bit colour: two pixels per character.

    Parameters
    ----------
    array : ndarray
        As for ``thumbnail``; drawn smaller if it is wider than ``width``.
    width : int
        Most characters of a line.

    Returns
    -------
    str
        Each line ends with the terminal's own colours and a line feed.
    """
    array = np.asarray(array)
    wider = array.ndim > 1 and array.shape[1] > width
    small = thumbnail(array, (max(array.shape[0], 1), width)) if wider else rgb(array)
    lines = []
    for top in range(0, len(small), 2):
        characters, before = [], ""
        bottoms = small[top + 1].tolist() if top + 1 < len(small) else None
        for k, (r, g, b) in enumerate(small[top].tolist()):
            colour = f"\x1b[38;2;{r};{g};{b}m"
            if bottoms is not None:
                colour += "\x1b[48;2;{};{};{}m".format(*bottoms[k])
            characters.append((colour if colour != before else "") + UPPER_HALF)
            before = colour
        lines.append("".join(characters) + RESET + "\n")
    return "".join(lines)
