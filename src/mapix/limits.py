"""Limits that all families share, and their check; docs/limits.md lists those of opening."""

from __future__ import annotations

__all__ = ["MOST_COPIED_NBYTES", "MOST_SIDE", "PART_NBYTES", "check_limits"]

MOST_COPIED_NBYTES = 1 << 30  # by one snapshot
MOST_SIDE = 65535  # of an image in a batch
PART_NBYTES = 256 << 20  # of a part of a dataset, for jobs of several workers


def check_limits(**limits: object) -> None:
    """Raise ValueError unless limits of opening, by name, are whole numbers above 0."""
    for name, value in limits.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
