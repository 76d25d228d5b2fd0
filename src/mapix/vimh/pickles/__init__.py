"""Pickles as data: their opcodes are read, nothing is imported, called or executed.

``machine`` runs the opcodes over a stack of plain values, ``objects`` says what the few names in
such files mean as data (numpy arrays, dtypes and scalars, encoded strings), ``emit`` writes
what CPython's pickler would.
"""

from mapix.vimh.pickles.objects import Array, Span, Text
from mapix.vimh.pickles.reader import Machine

__all__ = ["Array", "Machine", "Span", "Text"]
