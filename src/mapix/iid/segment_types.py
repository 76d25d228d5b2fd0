"""Base classes of SegmentFile and Segment: of ``mapix._record``, or the fallback in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapix._native.compiled import fast

__all__ = ["Segment", "SegmentFile"]

if TYPE_CHECKING or fast is None:
    from mapix.iid.segment_fallback import Segment, SegmentFile
else:
    Segment, SegmentFile = fast.Segment, fast.SegmentFile
