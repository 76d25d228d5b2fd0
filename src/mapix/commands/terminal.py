"""Pictures in terminals: whether this one shows any, and how it takes them."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import Any

__all__ = ["graphics", "kitty", "sixel"]

TERMINAL = "/dev/tty"
SECONDS = 0.5  # that an answer may take, over a network, too
# Each terminal answers the second question, so that none has to be waited for.
KITTY_QUESTION = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
KITTY_ANSWER = b"\x1b_Gi=31;OK"
ATTRIBUTES_QUESTION = b"\x1b[c"
ATTRIBUTES_ANSWER = re.compile(rb"\x1b\[\?([\d;]*)c")
SIXEL_ATTRIBUTE = b"4"
KITTY_CHARACTERS = 4096  # of a piece
STEPS = 5  # between the darkest and the brightest of a channel, in sixel's colours
BAND = 6  # rows of pixels of a row of sixels


def graphics() -> str | None:
    """Return how stdout takes pictures, "kitty" or "sixel", as the terminal answers; else None."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    answer = _answer()
    if KITTY_ANSWER in answer:
        return "kitty"
    attributes = ATTRIBUTES_ANSWER.search(answer)
    there = attributes is not None and SIXEL_ATTRIBUTE in attributes[1].split(b";")
    return "sixel" if there else None


def _answer() -> bytes:
    """Ask the terminal; return what it answers, or nothing."""
    import select
    import termios
    import tty

    try:
        fd = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return b""
    answer = b""
    try:
        if os.tcgetpgrp(fd) != os.getpgrp():
            return b""  # in the background: it would be stopped
        before = termios.tcgetattr(fd)
        tty.setcbreak(fd)
        try:
            os.write(fd, KITTY_QUESTION + ATTRIBUTES_QUESTION)
            end = time.monotonic() + SECONDS
            while not ATTRIBUTES_ANSWER.search(answer):
                left = end - time.monotonic()
                if left <= 0 or not select.select([fd], [], [], left)[0]:
                    break
                answer += os.read(fd, 4096)
        finally:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
    except (OSError, termios.error):
        return b""
    finally:
        os.close(fd)
    return answer


def kitty(data: bytes) -> str:
    """Return a PNG file in kitty's graphics protocol, in pieces."""
    import base64

    text = base64.b64encode(data).decode()
    step = KITTY_CHARACTERS
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    found = []
    for k, piece in enumerate(pieces):
        head = "a=T,f=100," if k == 0 else ""
        found.append(f"\x1b_G{head}m={int(k + 1 < len(pieces))};{piece}\x1b\\")
    return "".join(found) + "\n"


def sixel(drawn: Any) -> str:
    """Return a picture, uint8 (h, w, 3), as sixels in the nearest of 6 x 6 x 6 colours."""
    import numpy as np

    h, w = drawn.shape[:2]
    steps = (drawn.astype(np.uint16) * STEPS + 127) // 255
    colours = steps @ np.array([36, 6, 1], np.uint16)
    found = [f'\x1bPq"1;1;{w};{h}']
    for colour in np.unique(colours).tolist():
        percent = (100 // STEPS * step for step in (colour // 36, colour // 6 % 6, colour % 6))
        found.append(f"#{colour};2;{';'.join(map(str, percent))}")
    for top in range(0, h, BAND):
        band = colours[top : top + BAND]
        bits = (1 << np.arange(len(band)))[:, np.newaxis]
        for colour in np.unique(band).tolist():
            sixels = ((band == colour) * bits).sum(axis=0)
            found.append(f"#{colour}{_runs(sixels)}$")
        found.append("-")
    return "".join(found) + "\x1b\\\n"


def _runs(sixels: Any) -> str:
    """Return sixels as characters; runs of the same one as a count and the character."""
    import numpy as np

    begins = np.flatnonzero(np.diff(sixels, prepend=-1))
    counts = np.diff(begins, append=len(sixels))
    pairs = zip(counts.tolist(), sixels[begins].tolist(), strict=True)
    return "".join(f"!{n}{chr(63 + s)}" if n > 3 else chr(63 + s) * n for n, s in pairs)
