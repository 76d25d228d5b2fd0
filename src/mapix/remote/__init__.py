"""Objects on other machines, as files that arrive block by block.

``http_object`` and ``store_object`` read ranges of bytes of an object, ``mirror`` stores blocks
in the cache folder, ``estimates`` chooses the ranges, and ``arrival`` requests them and puts the
blocks into memory.  ``listing`` states what is in a folder.  The modules know no format.
"""

from mapix.remote.arrival import Arrival, memory_nbytes
from mapix.remote.listing import Entry, entries, is_listed, is_there
from mapix.remote.objects import RemoteObject
from mapix.remote.opening import opened, read_all

__all__ = [
    "Arrival",
    "Entry",
    "RemoteObject",
    "entries",
    "is_listed",
    "is_there",
    "memory_nbytes",
    "opened",
    "read_all",
]
