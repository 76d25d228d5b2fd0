"""Conversion of an archive to a table: names, groups, boxes, areas, and masks as run lengths."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mapix.conversion.stream import Stream
from mapix.conversion.tables import Table
from mapix.conversion.target import Count, Progress, Sink, Target, counter
from mapix.errors import UnsupportedError
from mapix.iid.editing import subset
from mapix.iid.selection import Selection
from mapix.optional import library
from mapix.store import NewWhole

if TYPE_CHECKING:
    from mapix.iid.archive import Archive

__all__ = ["Iid", "stream", "write"]

BLOCK_SEGMENTS = 4096  # that are held at once


def stream(
    splits: Mapping[str, Archive | Selection], *, to: str, target: Target, **_: Any
) -> Callable[[str, Progress | None], dict[str, int]]:
    """Return how an archive is written as a table: see ``mapix.registry.Format.source``."""
    (segments,) = splits.values()
    if isinstance(target, Iid):
        return lambda path, progress: {"segments": _copy(segments, path)}
    if not isinstance(target, Table):
        raise UnsupportedError(f"{segments.path}: archives become iid, parquet or arrow, not {to}")

    def written(path: str, progress: Progress | None) -> dict[str, int]:
        write(segments, path, target, counter(len(segments), progress))
        return {"segments": len(segments)}

    return written


class Iid(Target):
    """An archive of the same segments, with their groups; of archives alone."""

    endings = (".iid",)

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """Raise UnsupportedError: images are not segments."""
        path = next(iter(streams.values())).path
        raise UnsupportedError(
            f"{path}: images are not segments; `mapix iid from-labels` (in Python "
            "iid.add_label_map) makes segments of a label map, `mapix iid from-coco` "
            "(iid.from_coco) those of COCO's annotations"
        )


def _copy(segments: Archive | Selection, path: str) -> int:
    archive = segments.archive if isinstance(segments, Selection) else segments
    subset(archive, segments.keys, path)
    return len(segments)


def write(segments: Archive | Selection, path: str, table: Table, count: Count) -> None:
    """Write segments as rows of an Arrow or Parquet file; nothing is lost.

    Columns: key, domain, iid, groups (list), minr, minc, maxr, maxc, area, and ``rle``, the mask as
    COCO's compressed run lengths of the image.  The schema's metadata, key ``mapix``, has the
    image's (h, w), version and metadata of the archive.
    """
    pa = library("pyarrow", "arrow")
    archive = segments.archive if isinstance(segments, Selection) else segments
    about = {"size": list(archive.shape), "version": archive.version, "meta": dict(archive.meta)}
    schema = pa.schema(
        [
            ("key", pa.uint32()),
            ("domain", pa.binary()),
            ("iid", pa.binary()),
            ("groups", pa.list_(pa.string())),
            *((side, pa.uint16()) for side in ("minr", "minc", "maxr", "maxc")),
            ("area", pa.uint32()),
            ("rle", pa.string()),
        ],
        metadata={"mapix": json.dumps(about)},
    )
    with NewWhole(path) as out, table.writer(pa, Sink(out.file), schema) as writer:
        for at in range(0, len(segments), BLOCK_SEGMENTS):
            keys = segments.keys[at : at + BLOCK_SEGMENTS]
            columns: dict[str, Any] = archive.table(keys)
            columns["rle"] = [rle["counts"] for rle in archive.coco_rle(keys)]
            writer.write_table(pa.table(columns, schema=schema))
            count(len(keys))
