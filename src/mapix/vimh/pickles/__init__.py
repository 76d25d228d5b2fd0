"""Pickles as data: their opcodes are read, nothing is imported, called or executed.

``reader`` runs the opcodes on a stack of plain values, ``objects`` makes data of the few names in
such files (numpy arrays, dtypes and scalars, encoded strings), ``emitter`` writes what CPython's
pickler would.
"""

from mapix.vimh.pickles.objects import Array, Span, Text
from mapix.vimh.pickles.reader import Machine

__all__ = ["Array", "Machine", "Span", "Text"]
