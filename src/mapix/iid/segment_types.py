"""Types of archives that have to be fast: of ``mapix._record``, or the fallback in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapix._native.compiled import fast

__all__ = ["Segment", "SegmentBuffer", "SegmentFile"]

if TYPE_CHECKING or fast is None:
    from mapix.iid.segment_fallback import Segment, SegmentBuffer, SegmentFile
else:
    Segment, SegmentBuffer, SegmentFile = fast.Segment, fast.SegmentBuffer, fast.SegmentFile
