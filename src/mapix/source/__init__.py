"""Open and map data files, read-only.  No other package maps a file.

The package knows no format.  A mapping lives until the last array that aliases it is deleted, also
after ``Source.close()``.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach
from mapix.locations import absolute, is_url
from mapix.source.file_map import Mapping, Needs
from mapix.source.fingerprint import (
    COARSE_NS,
    SAMPLE_NBYTES,
    SAMPLES,
    Fingerprint,
    fingerprint_of_object,
    same_time,
    sample,
)
from mapix.source.opened import MappedLater, Source, Unmapped
from mapix.source.paths import (
    Entry,
    ask_for_ends,
    folder_in,
    is_file,
    is_folder,
    is_listed,
    name_of,
    opened_index,
    path_beside,
    peek,
    read_beside,
    read_small,
    real_path,
    scan,
)

if TYPE_CHECKING:
    from mapix.source.remote_folder import RemoteFolder

__all__ = [
    "COARSE_NS",
    "SAMPLES",
    "SAMPLE_NBYTES",
    "Entry",
    "Fingerprint",
    "MappedLater",
    "Mapping",
    "Needs",
    "RemoteFolder",
    "Source",
    "Unmapped",
    "absolute",
    "ask_for_ends",
    "fingerprint_of_object",
    "folder_in",
    "is_file",
    "is_folder",
    "is_listed",
    "is_url",
    "name_of",
    "opened_index",
    "path_beside",
    "peek",
    "read_beside",
    "read_small",
    "real_path",
    "same_time",
    "sample",
    "scan",
]

__getattr__, __dir__ = attach(__name__, {"RemoteFolder": "remote_folder"})
