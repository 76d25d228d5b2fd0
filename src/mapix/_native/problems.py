"""Turn the status of a C call into an exception; imported when one fails."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from mapix._core import ffi, lib
from mapix.errors import FormatError, MapixError, SizeError, TruncatedError

if TYPE_CHECKING:
    from mapix._native.core import Where

__all__ = ["iid_reason", "problem", "shape_text"]


def shape_text(packed: int) -> str:
    """``h x w x c`` of a shape as ``mapix_where`` stores it."""
    return f"{packed >> 32} x {packed >> 16 & 0xFFFF} x {packed & 0xFFFF}"


def problem(
    status: int, where: Where, path: str, format: str, index: str = "the index"
) -> Exception:
    """Return the exception for a status.  Messages call the index ``index``."""
    record, at, expected, got = where
    place = {"record": record, "at": at}
    if status == lib.MAPIX_E_TRUNCATED:
        reason = f"record needs {expected} bytes, {got} left in file"
        return TruncatedError(path, format, reason, **place)
    if status == lib.MAPIX_E_ZERO:
        return SizeError(path, format, f"image of {shape_text(got)} has no pixels", **place)
    if status == lib.MAPIX_E_SPAN:
        reason = f"{index} asks for {expected} bytes, {got} left in file"
        return FormatError(path, format, reason, **place)
    if status == lib.MAPIX_E_STALE:
        reason = (
            f"{index} says {shape_text(expected)}, the file {shape_text(got)} "
            "(or another number of labels): the index is not this file's; "
            "open it with index='rebuild'"
        )
        return FormatError(path, format, reason, **place)
    if status == lib.MAPIX_E_CHAIN:
        reason = (
            f"{index} says that one record ends and another begins at byte {got}, the file at byte "
            f"{expected}: the index is not this file's; open it with index='rebuild'"
        )
        return FormatError(path, format, reason, **place)
    if status == lib.MAPIX_E_ROW:
        row = got - (1 << 64) if got >> 63 else got
        return IndexError(f"{path}: index {row} at position {record} of {expected} records")
    if status == lib.MAPIX_E_SHAPE:
        reason = (
            f"image of {shape_text(got)} does not fit {shape_text(expected)}: "
            "pass pad=, crop= or flat=True for records of mixed sizes"
        )
        return ValueError(f"{path}: {format} record {record} at byte {at}: {reason}")
    if lib.MAPIX_E_IID_KEY <= status <= lib.MAPIX_E_IID_NAME:
        return FormatError(path, format, iid_reason(status, where), **place)
    if status == lib.MAPIX_E_FAULT:
        reason = f"{format} record {record} at byte {at}: the disk could not deliver this page"
        return OSError(errno.EIO, reason, path)
    if status == lib.MAPIX_E_SYSTEM:
        return OSError(ffi.errno, os.strerror(ffi.errno), path)
    return MapixError(f"{path}: {format}: internal error, status {status}, {where}")


def iid_reason(status: int, where: Where) -> str:
    """State what is wrong with a segment of an IID archive; ``where.record`` is its key."""
    _, _, expected, got = where
    return {
        lib.MAPIX_E_IID_KEY: f"key {expected} expected, {got} found",
        lib.MAPIX_E_IID_SPAN: f"it ends at byte {expected} of a section of {got} bytes",
        lib.MAPIX_E_IID_BOX: "a box with its ends exchanged, or outside its segment's",
        lib.MAPIX_E_IID_REGION: f"a region of {expected} bytes expected, {got} found",
        lib.MAPIX_E_IID_NAME: f"a name of {expected} bytes expected, its parts take {got}",
    }[status]
