"""Conversion to tar shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.conversion.stream import (
    Stream,
    classes_of,
    encodable,
    facts_of,
    kept_by_facts,
    lost_by_facts,
    nameable,
    pictures,
)
from mapix.conversion.target import Count, Target
from mapix.drawing import png
from mapix.errors import UnsupportedError
from mapix.store import NewWhole
from mapix.tar.layout import BLOCK_NBYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Tar"]

LEAST_DIGITS = 6  # of a key


class Tar(Target):
    """One tar archive as WebDataset writes them; the records are numbered.

    A record has the members ``png``, or ``npy`` where PNG cannot hold the numbers; ``cls``, where
    there is one label and it is a class; and ``json`` with everything else that is known of it.
    """

    endings = (".tar",)

    def __init__(self) -> None:
        self._png = False

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        return kept_by_facts(stream)

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        (stream,) = streams.values()
        names = [label.name for label in stream.labels]
        nameable(names, stream.path, ("file_name", "spec_min", "spec_max"))
        try:
            encodable(stream)
            self._png = True
        except UnsupportedError:
            self._png = False
        return lost_by_facts(stream)

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        (stream,) = streams.values()
        digits, number = max(LEAST_DIGITS, len(str(stream.source.n - 1))), stream.begin
        with NewWhole(path) as out:
            for block in stream.blocks():
                classes, facts = classes_of(block, stream), facts_of(block, stream)
                for run in block.runs:
                    for image in pictures(stream, run) if self._png else run:
                        members = self._image(image)
                        if (found := next(classes)) is not None:
                            members["cls"] = b"%d" % found
                        if line := next(facts):
                            members["json"] = json.dumps(line).encode()
                        for name, data in members.items():
                            out.write(_header(f"{number:0{digits}}.{name}", len(data)))
                            out.write(data)
                            out.write(bytes(-len(data) % BLOCK_NBYTES))
                        number += 1
                count(len(block))
            out.write(bytes(2 * BLOCK_NBYTES))

    def _image(self, image: NDArray[Any]) -> dict[str, bytes]:
        if self._png:
            return {"png": png(image)}
        array = io.BytesIO()
        np.save(array, image)
        return {"npy": array.getvalue()}


def _header(name: str, nbytes: int) -> bytes:
    """Return the header of a member; two conversions of the same records are the same bytes."""
    about = tarfile.TarInfo(name)
    about.size = nbytes
    return about.tobuf(tarfile.USTAR_FORMAT)
