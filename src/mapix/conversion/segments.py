"""A segmentation archive as a table: names, groups, boxes, areas, and masks as run lengths."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mapix.conversion.arrays import Sink
from mapix.conversion.tables import Table, library
from mapix.conversion.target import Count
from mapix.store import NewWhole

if TYPE_CHECKING:
    from mapix.iid import Archive

__all__ = ["write"]

STEP = 4096  # segments that are held at once


def write(archive: Archive, path: str, table: Table, count: Count) -> None:
    """Write all segments as rows of an Arrow or Parquet file; nothing is lost.

    Columns: key, domain, iid, groups (list), minr, minc, maxr, maxc, area, and ``rle``, the mask as
    COCO's compressed run lengths of the whole image.  The schema's metadata, key ``mapix``, has the
    image's (h, w), version and metadata of the archive.
    """
    pa = library("pyarrow", "arrow")
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
        for at in range(0, len(archive), STEP):
            keys = archive.keys[at : at + STEP]
            columns: dict[str, Any] = archive.table(keys)
            columns["rle"] = [rle["counts"] for rle in archive.coco_rle(keys)]
            writer.write_table(pa.table(columns, schema=schema))
            count(len(keys))
