"""PINK's files: images, self-organising maps, mappings and rotations; cartesian and hexagonal.

``mapix.open("som.bin")`` opens one; this package holds what it returns.
"""

from mapix.pink.converting import convert
from mapix.pink.data import Data
from mapix.pink.lattice import Lattice
from mapix.pink.mapping import Mapping
from mapix.pink.rotation import Rotation, transformed
from mapix.pink.som import Som
from mapix.pink.writer import Writer, records, write_data, write_map, write_rot, write_som

__all__ = [
    "Data",
    "Lattice",
    "Mapping",
    "Rotation",
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
