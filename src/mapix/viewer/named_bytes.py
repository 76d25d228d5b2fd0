"""Routes of the panel of bytes: where the fields of a record lie, and what they mean."""

from __future__ import annotations

from mapix.byte_ranges import KINDS, ByteRange
from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View

__all__ = ["ROUTES"]

MOST_RANGES = 20_000  # of a record, that are listed
MOST_BYTES = 1 << 16  # in one answer


def _ranges(view: View, record: int) -> list[ByteRange]:
    found: list[ByteRange] = view.ds.byte_ranges(record)
    return found[:MOST_RANGES]


def ranges(view: View, request: Request) -> Reply:
    """Return the named bytes of a record: see ``ds.byte_ranges``."""
    found = _ranges(view, request.integer("n", most=len(view.ds) - 1))
    paths = list(dict.fromkeys(r.path for r in found))
    return Reply.json(
        {
            "kinds": KINDS,
            "files": paths,
            "ranges": [
                {
                    "name": r.name,
                    "kind": r.kind,
                    "at": r.at,
                    "nbytes": r.nbytes,
                    "text": r.text,
                    "file": paths.index(r.path),
                }
                for r in found
            ],
        }
    )


def range_bytes(view: View, request: Request) -> Reply:
    """Return bytes of range number ``range`` of a record, from its byte ``first`` on."""
    found = _ranges(view, request.integer("n", most=len(view.ds) - 1))
    if not found:
        raise RefusedError(404, "the record has no named bytes")
    one = found[request.integer("range", most=len(found) - 1)]
    first = request.integer("first", 0, most=max(0, one.nbytes - 1))
    most = request.integer("most", MOST_BYTES, least=1, most=MOST_BYTES)
    data = one.source.read(one.at + first, min(most, one.nbytes - first))
    return Reply(data, "application/octet-stream")


ROUTES = {"record.ranges": ranges, "record.bytes": range_bytes}
