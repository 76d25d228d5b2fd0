"""Conversion of an archive to a table: names, groups, boxes, areas, and masks as run lengths."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.conversion.blocks import Arrays, Blocks
from mapix.conversion.stream import BLOCK_NBYTES, Stream
from mapix.conversion.tables import Table
from mapix.conversion.target import Progress, Sink, Target, counter
from mapix.errors import UnsupportedError
from mapix.iid.editing import check_once, copy_groups
from mapix.iid.selection import Selection
from mapix.iid.writer import Writer
from mapix.optional import library
from mapix.plans import cut
from mapix.store import NewWhole

if TYPE_CHECKING:
    from mapix.iid.archive import Archive
    from mapix.iid.argument_checks import Keys

__all__ = ["Iid", "stream"]

BLOCK_SEGMENTS = 4096  # that are held at once, or fewer of more than 8 MiB


def stream(
    splits: Mapping[str, Archive | Selection], *, to: str, target: Target, **_: Any
) -> Callable[[str, Progress | None], dict[str, int]]:
    """Return how an archive is written as a table: see ``mapix.registry.Format.source``."""
    (segments,) = splits.values()
    if isinstance(target, Iid):
        return _Copy(segments)
    if not isinstance(target, Table):
        raise UnsupportedError(
            f"{segments.path}: archives become iid, parquet or arrow, not {to}; "
            "`mapix iid to-coco`, `to-geojson` and `paint` write other files"
        )
    return _Rows(segments, target)


class _Segments:
    """Segments to be written, in blocks that other workers read, and that can be stored.

    Attributes
    ----------
    blocks : Blocks
        Pairs of keys and of what ``read`` returns for them.
    """

    def __init__(self, segments: Archive | Selection, read: Callable[[Any, bool], Arrays]) -> None:
        self.segments, self.archive = segments, _archive_of(segments)
        sizes = np.maximum(segments._record_sizes(), BLOCK_NBYTES // BLOCK_SEGMENTS)
        edges = list(cut(sizes, len(segments), BLOCK_NBYTES)) if len(segments) else []
        self.blocks = Blocks(segments, edges, read, self._block)

    def _block(self, rows: NDArray[np.int64], arrays: Arrays, _: bool) -> tuple[Keys, Arrays]:
        return self.segments.keys[rows], arrays


class _Copy(_Segments):
    """An archive of the same segments, which are not decoded."""

    def __init__(self, segments: Archive | Selection) -> None:
        super().__init__(segments, _regions)

    def __call__(self, path: str, progress: Progress | None) -> dict[str, int]:
        archive, keys = self.archive, self.segments.keys
        check_once(archive, keys)
        count = counter(len(keys), progress)
        with Writer(path, archive.meta, version=archive.header) as out:
            for some, (boxes, areas, ends, regions) in self.blocks():
                begin = 0
                for key, box, area, end in zip(
                    some.tolist(), boxes.tolist(), areas.tolist(), ends.tolist(), strict=True
                ):
                    out.add(*archive.name(key), bits=regions[begin:end], bbox=box, area=area)
                    begin = end
                count(len(some))
            copy_groups(archive, {key: new for new, key in enumerate(keys.tolist())}, out)
        return {"segments": len(keys)}


def _regions(part: Archive | Selection, _: bool) -> Arrays:
    """Return boxes, areas, ends of the regions' bytes, and these bytes."""
    archive, heads, every = _archive_of(part), [], []
    for key in part.keys.tolist():
        file, row = archive._place(key)
        heads.append(file.head(row))
        every.append(file.region_bytes(row))
    boxes = np.array([box for box, _ in heads], np.uint16).reshape(-1, 4)
    areas = np.array([area for _, area in heads], np.uint32)
    return [boxes, areas, *_joined(every)]


class _Rows(_Segments):
    """Rows of an Arrow or Parquet file; nothing is lost.

    Columns: key, domain, iid, groups (list), minr, minc, maxr, maxc, area, and ``rle``, the mask as
    COCO's compressed run lengths of the image.  The schema's metadata, key ``mapix``, has the
    image's (h, w), version and metadata of the archive.
    """

    def __init__(self, segments: Archive | Selection, table: Table) -> None:
        self._table, self._size = table, _archive_of(segments).shape
        super().__init__(segments, partial(_run_lengths, self._size))

    def __call__(self, path: str, progress: Progress | None) -> dict[str, int]:
        pa = library("pyarrow", "arrow")
        archive, n = self.archive, len(self.segments)
        about = {"size": list(self._size), "version": archive.version, "meta": dict(archive.meta)}
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
        count = counter(n, progress)
        with NewWhole(path) as out, self._table.writer(pa, Sink(out.file), schema) as writer:
            for keys, (ends, text) in self.blocks():
                columns: dict[str, Any] = archive.table(keys)
                raw, begins = text.tobytes().decode(), [0, *ends.tolist()]
                columns["rle"] = [raw[a:b] for a, b in pairwise(begins)]
                writer.write_table(pa.table(columns, schema=schema))
                count(len(keys))
        return {"segments": n}


def _run_lengths(size: tuple[int, int], part: Archive | Selection, _: bool) -> Arrays:
    """Return ends of the run lengths, and their text."""
    found = _archive_of(part).coco_rle(part.keys, size)
    return _joined([rle["counts"].encode() for rle in found])


def _joined(every: list[bytes]) -> Arrays:
    ends = np.cumsum([len(data) for data in every], dtype=np.int64)
    return [ends, np.frombuffer(b"".join(every), np.uint8)]


def _archive_of(segments: Archive | Selection) -> Archive:
    return segments.archive if isinstance(segments, Selection) else segments


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
