"""Write ASCII text with pixels: letters of 5 x 8 in cells of 6 x 10."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEIGHT", "WIDTH", "written"]

HEIGHT, WIDTH = 10, 6  # pixels of a cell, gaps included
ROWS, COLUMNS = 8, 5

# from the space to the tilde: eight rows of a letter from top to bottom, each a digit of base 32
# whose bits are its pixels
LETTERS = (
    "0000000044444040aaa00000aavavaa04fke5u40op248j30cik8lid0448000002488842084222480"
    "04lel400044v440000000c48000v000000000cc001248g00ehjlphe04c4444e0eh1248v0v2421he0"
    "26aiv220vgu11he068guhhe0v1248880ehhehhe0ehhf12c00cc0cc000cc0c480248g842000v0v000"
    "84212480eh124040eh1dlle0ehhvhhh0uhhuhhu0ehggghe0uhhhhhu0vgguggv0vgguggg0ehgnhhe0"
    "hhhvhhh0e44444e072222ic0hikokih0ggggggv0hrllhhh0hhpljhh0ehhhhhe0uhhuggg0ehhhlid0"
    "uhhukih0fgge11u0v4444440hhhhhhe0hhhhha40hhhllla0hha4ahh0hha44440v1248gv0e88888e0"
    "0g842100e22222e04ah00000000000v08420000000e1fhf0ggmphhu000egghe011djhhf000ehvge0"
    "698s888000fhhf1eggmphhh040c444e0206222icggikoki0c44444e000qllhh000mphhh000ehhhe0"
    "00uhhugg00fhhf1100mpggg000fge1u088s8896000hhhjd000hhha4000hhlla000ha4ah000hhhf1e"
    "00v248v0244844204444444084424480008l2000"
)
NUMBER_AT_END = re.compile(r" -?[0-9.]+(e[-+][0-9]+)?$")
OTHER = "vhhhhhv0"  # of a character without a letter


@cache
def _letters() -> NDArray[np.bool_]:
    """Return all letters in their cells, the last one for all other characters."""
    rows = np.array([int(row, 32) for row in LETTERS + OTHER]).reshape(-1, ROWS)
    found = np.zeros((len(rows), HEIGHT, WIDTH), np.bool_)
    found[:, 1 : 1 + ROWS, :COLUMNS] = rows[..., None] >> np.arange(COLUMNS)[::-1] & 1
    return found


def written(text: str, width: int) -> NDArray[np.bool_]:
    """Return one line of text as pixels, bool (``HEIGHT``, w): True where they have its colour.

    Parameters
    ----------
    text : str
        Accents are left out; other characters beyond ASCII are boxes.
    width : int
        Most pixels: a longer text is cut, and ends with two points.  A number at its end stays.
    """
    plain = unicodedata.normalize("NFKD", " ".join(text[: width + 1].split()))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    most = max(0, width // WIDTH)
    if len(plain) > most:
        number = NUMBER_AT_END.search(plain)
        end = f"..{number[0]}" if number and len(number[0]) < most // 2 else ".."
        plain = (plain[: most - len(end)] + end)[:most]
    codes = [ord(c) - 32 if " " <= c <= "~" else len(LETTERS) // ROWS for c in plain]
    cells = _letters()[codes]
    return np.hstack(list(cells)) if len(cells) else np.zeros((HEIGHT, 0), np.bool_)
