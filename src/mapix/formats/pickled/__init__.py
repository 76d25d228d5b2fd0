"""Pickles as data: their opcodes are read, nothing is imported, called or executed.

``machine`` runs the opcodes over a stack of plain values, ``objects`` says what the few names in
such files mean as data (numpy arrays, dtypes and scalars, encoded strings), ``emit`` writes
what CPython's pickler would.
"""

from mapix.formats.pickled.machine import Machine
from mapix.formats.pickled.objects import Array, Span, Text

__all__ = ["Array", "Machine", "Span", "Text"]
