"""PINK's files: images, self-organising maps (SOMs), mappings and rotations.

``mapix.open("som.bin")`` opens one; this package holds the classes of the
result, and the writers.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.pink.converting import convert
    from mapix.pink.data import Data
    from mapix.pink.lattice import Lattice
    from mapix.pink.mapping import Mapping
    from mapix.pink.rotation import Rotation, transformed
    from mapix.pink.run import Run
    from mapix.pink.som import Som
    from mapix.pink.writer import Writer, records, write_data, write_map, write_rot, write_som

__all__ = [
    "Data",
    "Lattice",
    "Mapping",
    "Rotation",
    "Run",
    "Som",
    "Writer",
    "convert",
    "records",
    "transformed",
    "write_data",
    "write_map",
    "write_rot",
    "write_som",
]

_MODULES = {
    "Data": "data",
    "Lattice": "lattice",
    "Mapping": "mapping",
    "Rotation": "rotation",
    "Run": "run",
    "Som": "som",
    "Writer": "writer",
    "convert": "converting",
    "records": "writer",
    "transformed": "rotation",
    "write_data": "writer",
    "write_map": "writer",
    "write_rot": "writer",
    "write_som": "writer",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
