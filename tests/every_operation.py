"""Every public operation on files that were cut: what test_every_operation.py runs.

``python tests/every_operation.py FAMILY FOLDER`` prints a line of JSON for each operation, damage
and use that did not end as it has to: with the right answer, or with an error that names the file
that failed.  Each one runs in a child of its own, which may die.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import mmap
import os
import pickle
import struct
import sys
import tarfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from mapix._native.compiled import fast
from mapix.iid.selection import Selection
from mapix.pictures.fitting import Fit
from mapix.tfrecord.layout import masked
from records import settle

Op = Callable[[Any], Any]
N = 700  # records; several pages in each file
MEMORY = mmap.mmap if fast is None else fast.Memory  # of a map
OK, BAD = "as it has to", "not as it has to"


# --- results that can be compared -----------------------------------------------------------------


def aliases(array: np.ndarray) -> bool:
    """Whether an array is a view of a map: then it is the user's to read, and to guard."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(getattr(base, "obj", base), MEMORY)


def plain(x: Any) -> Any:
    """A result as bytes and plain objects; of views of a map only type and shape."""
    if isinstance(x, np.ma.MaskedArray):
        return "masked", plain(x.filled(0)), plain(np.ma.getmaskarray(x))
    if isinstance(x, np.ndarray):
        if x.dtype == object:
            return [plain(v) for v in x.tolist()]
        return x.dtype.str, x.shape, None if aliases(x) else x.tobytes()
    if isinstance(x, str | bytes | int | float | bool | complex | np.generic | None):
        return repr(x)
    if isinstance(x, list | tuple):
        return [plain(v) for v in x]
    if isinstance(x, Mapping):
        return [(plain(k), plain(v)) for k, v in x.items()]
    if isinstance(x, set | frozenset):
        return sorted(map(repr, x))
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return [plain(getattr(x, f.name)) for f in dataclasses.fields(x)]
    if hasattr(x, "__next__"):
        return [plain(v) for v in x]
    if isinstance(x, memoryview):
        return plain(np.frombuffer(x, np.uint8))
    if hasattr(x, "tobytes"):  # a picture of Pillow's
        return x.size, x.tobytes()
    if hasattr(x, "rows") and not callable(x.rows):
        return type(x).__name__, plain(x.rows)
    if isinstance(x, Selection):
        return plain(x.keys)
    return type(x).__name__


def sound(x: Any) -> Any:
    """Return True if ``verify`` finds nothing; raise an error otherwise."""
    report = x.verify()
    if report.ok:
        return True
    raise mapix.MapixError(str(report))


def new(path: str) -> str:
    return f"{path}.{os.urandom(6).hex()}"


def array_of(x: Any) -> Any:
    """Return what numpy makes of an object; None if it refuses."""
    try:
        return np.asarray(x)
    except mapix.UnsupportedError:
        return None


def placed(x: Any, **options: Any) -> Any:
    try:
        found = x.placement(**options)
    except mapix.UnsupportedError:
        return None
    return [getattr(found, f.name) for f in dataclasses.fields(found) if f.name != "mapping"]


def changed(x: Any, **options: Any) -> Any:
    """Return a batch with random changes, of records that are images."""
    if len(x.image_shape or ()) not in (2, 3) and not options:
        return None
    draws = mapix.Augment(pad=1, flip=0.5, cutout=2).draws([0, 1])
    return x.batch([2, len(x) - 1], augment=draws, **options).images


def repaired(x: Any) -> Any:
    """Return the number of saved records; raise an error if some are lost."""
    saved = x.repair(new(x.source.path))
    if saved.lost:
        raise mapix.MapixError(f"{x.source.path}: {saved}")
    return saved.nrecords


def pickled(x: Any) -> Any:
    return plain(pickle.loads(pickle.dumps(x)))


def pickled_if_it_can_be(x: Any) -> Any:
    try:
        raw = pickle.dumps(x)
    except TypeError:
        return None
    return plain(pickle.loads(raw))


# --- files ----------------------------------------------------------------------------------------


def vimh(folder: Path, *, mixed: bool) -> Path:
    path = folder / "train"
    with open(path, "wb") as f:
        for k in range(N):
            h, nlabels = (3 + k % 3, 1 + k % 2) if mixed else (4, 2)
            f.write(struct.pack("<HHHffB", h, 4, 1, 0, 1, nlabels))
            f.write(bytes([0, k % 251, 1, k % 7])[: 2 * nlabels] + bytes([k % 255 + 1] * (4 * h)))
    return settle(path)


def vimh_indexed(folder: Path) -> Path:
    path = vimh(folder, mixed=True)
    mapix.index(path, dialect=14)
    return path


def vimh_catalogue(folder: Path) -> Path:
    shards = folder / "shards"
    shards.mkdir()
    for k in range(3):
        (shards / str(k)).mkdir()
        vimh(shards / str(k), mixed=True)
    path = folder / "x.catalogue"
    mapix.catalogue.write(shards, path, format="vimh", dialect=14)
    return path


def vimh_pickle(folder: Path) -> Path:
    from mapix.vimh.pickle_writer import write_batch

    plain_one = vimh(folder, mixed=False)
    path = folder / "train_batch"
    with open(path, "wb") as out:
        write_batch(str(plain_one), out.write, (4, 4, 1))
    plain_one.unlink()
    return path


def iid(folder: Path) -> Path:
    path = folder / "a.iid"
    rng = np.random.default_rng(0)
    with mapix.iid.Writer(path, {"image": {"height": 80, "width": 80}, "m": 1}) as out:
        for k in range(N):
            at = int(rng.integers(60)), int(rng.integers(60))
            mask = rng.random((7, 9)) > 0.3
            out.add(f"d{k % 3}", f"s{k}", mask, at=at, groups=["g", "h"] if k % 2 else ["g"])
    return path


def iid_plain(folder: Path) -> Path:
    """Remove the index after the last section."""
    path = iid(folder)
    with mapix.open(path) as a:
        end = a.layout.end
    os.truncate(path, end)
    return path


def idx(folder: Path) -> Path:
    path = folder / "x-images-idx3-ubyte"
    mapix.idx.write(path, np.arange(N * 6 * 5, dtype=np.uint32).astype("u1").reshape(N, 6, 5))
    mapix.idx.write(folder / "x-labels-idx1-ubyte", np.arange(N, dtype=np.uint32).astype("u1"))
    return path


def idx_words(folder: Path) -> Path:
    path = folder / "x.idx"
    mapix.idx.write(path, np.arange(N * 6, dtype=">i4").reshape(N, 6))
    return path


def idx_gz(folder: Path) -> Path:
    import gzip

    path = idx_words(folder)
    packed = folder / "x.idx.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1) + b"")
    path.unlink()
    return packed


def npy(folder: Path) -> Path:
    path = folder / "x.npy"
    np.save(path, np.arange(N * 6, dtype=">i4").reshape(N, 6))
    return path


def tensors(folder: Path) -> Path:
    path = folder / "x.safetensors"
    place = {"dtype": "I32", "shape": [N, 6], "data_offsets": [0, N * 24]}
    header = json.dumps({"x": place}).encode()
    data = np.arange(N * 6, dtype="<i4").tobytes()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def npz(folder: Path) -> Path:
    path = folder / "x.npz"
    np.savez(path, x=np.arange(N * 6, dtype="u1").reshape(N, 6), y=np.arange(N) % 7)
    return path


def pink_data(folder: Path) -> Path:
    path = folder / "d.bin"
    mapix.pink.write_data(path, np.arange(N * 12, dtype="f4").reshape(N, 3, 4))
    return path


def pink_som(folder: Path) -> Path:
    path = folder / "s.bin"
    mapix.pink.write_som(path, np.arange(100 * 40, dtype="f4").reshape(100, 5, 8), (10, 10))
    return path


def pink_map(folder: Path) -> Path:
    path = folder / "m.bin"
    numbers = np.random.default_rng(1).random((N, 16)).astype("<f4")
    path.write_bytes(np.array([N, 4, 4, 1], "<i4").tobytes() + numbers.tobytes())
    return path


def pink_rot(folder: Path) -> Path:
    path = folder / "r.bin"
    one = np.zeros((N, 16), np.dtype([("flip", "u1"), ("angle", "<f4")]))
    one["angle"] = np.arange(N * 16).reshape(N, 16) / 999
    path.write_bytes(np.array([2, 3, N, 0, 2, 4, 4], "<i4").tobytes() + one.tobytes())
    return path


def pictures(folder: Path) -> Path:
    from PIL import Image

    for k in range(N):
        Image.new("RGB", (9, 7), (k % 256, 2, 3 * k % 256)).save(folder / f"{k}.png")
    path = folder / "metadata.jsonl"
    with open(path, "w", encoding="utf-8") as f:
        for k in range(N):
            line = {"file_name": f"{k}.png", "caption": f"number {k}", "more": k}
            f.write(json.dumps(line) + "\n")
    return path


def npy_bytes(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def tar(folder: Path) -> Path:
    path = folder / "x.tar"
    with tarfile.open(path, "w") as out:
        for k in range(N):
            members = {"npy": npy_bytes(np.full((2, 3), k, np.uint16))}
            if k in (0, LAST):
                members |= {"cls": b"%d" % k, "json": b'{"more": %d}' % k, "txt": b"text"}
            for name, data in members.items():
                info = tarfile.TarInfo(f"{k}.{name}")
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
    return path


def tfrecord(folder: Path) -> Path:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def one(name: bytes, value: bytes) -> bytes:
        return field(1, field(1, name) + field(2, value))

    path = folder / "x.tfrecord"
    with open(path, "wb") as out:
        for k in range(N):
            features = one(b"raw", field(1, field(1, bytes([k % 256] * 6))))
            for name, value in ((b"height", 2), (b"width", 3), (b"label", k % 100)):
                features += one(name, field(3, field(1, bytes([value]))))
            data = b"\x0a" + bytes([len(features)]) + features
            for part in (struct.pack("<Q", len(data)), data):
                out.write(part + struct.pack("<I", masked(part)))
    return path


def coco(folder: Path) -> Path:
    path = folder / "instances.json"
    images = [{"id": k, "file_name": f"{k}.png", "height": 9, "width": 7} for k in range(N)]
    annotations = [
        {"id": k, "image_id": k, "category_id": 1, "area": 2.5, "bbox": [1, 1, 2, 3]}
        | {"segmentation": [[1, 1, 3, 1, 3, 4, 1, 4]], "iscrowd": 0}
        for k in range(N)
    ]
    text = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "c"}]}
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


def model(folder: Path) -> Path:
    path = folder / "m.json"
    weights = [[k / 64] * 40 for k in range(30)]
    text = {
        "Type": "RestrictedBoltzmannMachine",
        "VisibleCount": 40,
        "HiddenCount": 30,
        "VisibleType": "Sigmoid",
        "HiddenType": "Sigmoid",
        "VisibleBiases": [0.5] * 40,
        "HiddenBiases": [0.25] * 30,
        "Weights": weights,
    }
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


# --- operations: a row for each public name -------------------------------------------------------

LAST = N - 1


def stated(text: str, path: str = "") -> str:
    """Return what a ``repr`` states, without the path; raise the error that it states."""
    if "cannot be read" in text:
        raise mapix.MapixError(text)
    return text.replace(path, "")


CONTRACT: dict[str, Op] = {  # of every family
    **dict.fromkeys(
        ("BATCH_OPTIONS", "FAMILY", "LABEL_UNITS", "NO_BATCH", "RECORDS", "UNPICKLED"),
        lambda a: None,
    ),
    "__array__": lambda a: array_of(a),
    "batch_shape": lambda a: a.batch_shape([0, len(a) - 1]),
    "closed": lambda a: None,
    "columns": lambda a: [(name, plain(a.columns[name].filled())) for name in a.columns],
    "describe": lambda a: sorted(a.describe()),
    "draw": lambda a: a.draw(9, seed=1),
    "byte_ranges": lambda a: [(r.name, r.text, r.read()) for r in a.byte_ranges(len(a) - 1)],
    "explain": lambda a: (sorted(a.explain(len(a) - 1)), sorted(a.explain(batch=[0]))),
    "image_shape": lambda a: a.image_shape,
    "plan": lambda a: [len(part) for part in a.plan(1000)],
    "rows": lambda a: a.rows,
    "shard": lambda a: a.shard(1, 3),
    "show": lambda a: None if a._drawing(0, 9) is None else a.show([len(a) - 1], size=9),
    "snapshot": lambda a: a.snapshot(),
    "sort_by": lambda a: a.sort_by(next(iter(a.columns))) if a.columns else None,
    "split": lambda a: a.split(seed=1),
    "splits": lambda a: sorted(a.splits),
    "statistics": lambda a: str(a.statistics()) if a.image_shape is not None else None,
    "verify": sound,
    "warm": lambda a: a.warm(),
    "weights": lambda a: a.weights(),
    "where": lambda a: a.where(np.arange(len(a)) % 2 == 1),
}
ROWS: dict[str, Op] = {  # of whatever is rows of one type
    **CONTRACT,
    "ndim": lambda a: a.ndim,
    "nbytes": lambda a: a.nbytes,
    "size": lambda a: a.size,
    "__array__": lambda a: np.asarray(a).copy(),
    "__eq__": lambda a: a == a,
    "__getitem__": lambda a: (a[len(a) - 1], a[3:9], a[[5, len(a) - 1]], a[[5, -1]].view()),
    "__getitems__": lambda a: a.__getitems__([1, len(a) - 1]),
    "__iter__": lambda a: [row.shape for row in a],
    "__len__": len,
    "__reduce__": pickled,
    "__repr__": lambda a: stated(repr(a)),
    "batch": lambda a: (a.batch([0, len(a) - 1]).images, changed(a)),
    "batches": lambda a: [b.images for b in a.batches(64)],
    "blocks": lambda a: list(a.blocks(1 << 12)),
    "close": lambda a: a.close(),
    "dtype": lambda a: a.dtype.str,
    "joined": lambda a: _refused(lambda: a.joined([a])),
    "label_array": lambda a: a.label_array() if a.labels is not None else None,
    "of": lambda a: a.of(np.array([len(a) - 1])).batch([0]).images,
    "path": lambda a: None,
    "placement": lambda a: placed(a),
    "prefetch": lambda a: a.prefetch([len(a) - 1]) >= 0,
    "shape": lambda a: a.shape,
    "view": lambda a: a.view(),
}
PINK: dict[str, Op] = {
    **ROWS,
    **{k: lambda a, k=k: getattr(a, k) for k in ("comment", "kind", "layout", "offset", "version")},
    "header": lambda a: a.header,
}
ON_SOM: dict[str, Op] = {
    **PINK,
    "lattice": lambda a: a.lattice.shape if hasattr(a.lattice, "shape") else None,
    "nneurons": lambda a: a.nneurons,
    "som_shape": lambda a: a.som_shape,
}


def _refused(act: Callable[[], Any]) -> bool:
    try:
        act()
    except mapix.UnsupportedError:
        return True
    return False


QUERY: dict[str, Op] = {
    "show": CONTRACT["show"],
    "__array__": CONTRACT["__array__"],
    "__eq__": lambda d: d == d,
    "__getitem__": lambda d: (d[LAST].labels, d[5:9], d[[3, LAST]]),
    "__iter__": lambda d: [r.shape for r in d],
    "__len__": len,
    "__reduce__": pickled,
    "__repr__": lambda d: stated(repr(d), d.path),
    "batch": lambda d: (d.batch([2, LAST], pad=True), changed(d, pad=(9, 9))),
    "batch_shape": lambda d: d.batch_shape([2, LAST], pad=True),
    "batches": lambda d: [b.images for b in d.batches(100, flat=True)],
    "close": lambda d: d.close(),
    "closed": lambda d: d.closed,
    "columns": lambda d: [(n, d.columns[n].filled()) for n in d.columns],
    "describe": lambda d: str(d.describe()).replace(os.path.dirname(d.path), ""),
    "draw": lambda d: d.draw(9, seed=1),
    "byte_ranges": lambda d: [(r.name, r.text, r.read()) for r in d.byte_ranges(LAST)],
    "explain": lambda d: (d.explain(LAST)["copies_nbytes"], d.explain(batch=[2, LAST], pad=True)),
    "image_shape": lambda d: d.image_shape,
    "label_array": lambda d: d.label_array("class"),
    "heads": lambda d: d.heads,
    "images": lambda d: d.images if getattr(d, "uniform", False) else None,
    "joined": lambda d: d.joined([d]).batch([0, N], pad=True).images,
    "labels": lambda d: [(d.labels[n].codes, d.labels[n].present) for n in d.labels],
    "path": lambda d: None,
    "prefetch": lambda d: d.prefetch([LAST]) >= 0,
    "rows": lambda d: d.rows,
    "shapes": lambda d: d.shapes,
    "plan": CONTRACT["plan"],
    "snapshot": CONTRACT["snapshot"],
    "shard": lambda d: d.shard(1, 3),
    "sort_by": lambda d: d.sort_by("param_0"),
    "splits": lambda d: sorted(d.splits),
    "statistics": lambda d: str(d.statistics()),
    "split": lambda d: d.split(seed=1, stratify="param_0"),
    "uniform": lambda d: d.uniform,
    "verify": sound,
    "warm": lambda d: d.warm(),
    "weights": lambda d: d.weights("param_0"),
    "where": lambda d: d.where("param_0 > 100"),
}
DATASET: dict[str, Op] = {
    **QUERY,
    "advise": lambda d: d.advise("random"),
    "directory": lambda d: d.directory,
    "header_nbytes": lambda d: d.header_nbytes,
    "keep_index": lambda d: os.path.basename(d.keep_index()) if d._gatherer.key else None,
    "label_bytes": lambda d: d.label_bytes if d.uniform else None,
    "label_counts": lambda d: d.label_counts,
    "label_ids": lambda d: d.label_ids if d.uniform else None,
    "offsets": lambda d: d.offsets,
    "parameters": lambda d: list(d.parameters),
    "placement": lambda d: placed(d, pad=(6, 4)),
    "repair": lambda d: repaired(d) if d.header_nbytes else None,
    "split_name": lambda d: d.split_name,
    "unknown_ids": lambda d: d.unknown_ids,
}
JOINED: dict[str, Op] = {
    **QUERY,
    "info": lambda d: d.info,
    "keep_index": lambda d: _refused(d.keep_index),  # opened without an index
    "placement": lambda d: _refused(lambda: d.placement()),
}
RECORD: dict[str, Op] = {
    "__array__": lambda d: np.asarray(d[LAST]),
    "__eq__": lambda d: d[LAST] == d[LAST],
    "__reduce__": lambda d: pickled_if_it_can_be(d[LAST]),
    "__repr__": lambda d: stated(repr(d[LAST]), d.path),
    **{
        k: lambda d, k=k: getattr(d[LAST], k)
        for k in (
            *("image", "index", "label_bytes", "label_ids", "labels", "nbytes", "nlabels"),
            *("decibels", "offset", "shape", "spec_range", "values"),
        )
    },
}
SEGMENTS: dict[str, Op] = {  # of archives and selections
    **CONTRACT,
    "batch": lambda a: _refused(lambda: a.batch([0])),
    "batches": lambda a: _refused(lambda: next(a.batches(2))),
    "byte_ranges": lambda a: [(r.name, r.text, r.read()) for r in a.byte_ranges(3)],
    "explain": lambda a: a.explain(3),
    "keys": lambda a: a.keys,
    "label_array": lambda a: a.label_array(),
    "placement": lambda a: placed(a),
    "prefetch": lambda a: a.prefetch([3]),
    "statistics": lambda a: str(a.statistics()),
}
ARCHIVE: dict[str, Op] = {
    **SEGMENTS,
    "nbytes": lambda a: a.nbytes,
    "__eq__": lambda a: a == a,
    "__getitem__": lambda a: (
        a[LAST].name if hasattr(a[LAST], "name") else 0,
        a[3:9],
        a[[3, LAST]],
    ),
    "__iter__": lambda a: [s.bbox for s in a],
    "__len__": len,
    "__reduce__": pickled,
    "__repr__": lambda a: stated(repr(a), a.path),
    "areas": lambda a: a.areas,
    "at": lambda a: a.at(40, 40),
    "bboxes": lambda a: a.bboxes,
    "check_pixels": lambda a: a.check_pixels(1, "a test"),
    "check_table": lambda a: a.check_table(),
    "close": lambda a: a.close(),
    "coco_rle": lambda a: a.coco_rle([5, LAST]),
    "counts": lambda a: a.counts(),
    "difference": lambda a: a.difference([LAST, 3]),
    "in_groups": lambda a: a.in_groups("not " + " and not ".join(a.groups)),
    "domains": lambda a: a.domains,
    "duplicates": lambda a: a.duplicates(),
    "find": lambda a: (a.find("d0", "s0"), a.find("d1"), a.find(iid="s9"), a.find("d0", ["s0"])),
    "header": lambda a: a.header,
    "intersection": lambda a: a.intersection([LAST, 3]),
    "joined": lambda a: a.joined([a]).areas,
    "overlay": lambda a: a.overlay(np.ones((80, 80), np.uint8), [3, LAST]),
    "keys_in": lambda a: a.keys_in(a.keys, 0) if hasattr(a, "keys_in") else None,
    "masks": lambda a: a.masks([3, LAST]).flat,
    "meta": lambda a: a.meta,
    "name": lambda a: a.name(LAST),
    "names": lambda a: a.names(),
    "overlaps": lambda a: a.overlaps(),
    "paint": lambda a: a.paint(),
    "path": lambda a: None,
    "region": lambda a: a.region((0, 0, 30, 30)),
    "select": lambda a: (
        a.select(groups="h", area=(3, None), bbox=(0, 0, 50, 50)).keys,
        a.select(domains="d1").keys,
    ),
    "shape": lambda a: a.shape,
    "table": lambda a: a.table(),
    "union": lambda a: a.union([LAST, 3]),
    "verify": sound,
    "version": lambda a: a.version,
}
SEGMENT: dict[str, Op] = {
    "__array__": lambda a: np.asarray(a[LAST]),
    "__eq__": lambda a: a[LAST] == a[LAST],
    "__reduce__": lambda a: pickled_if_it_can_be(a[LAST]),
    "__repr__": lambda a: stated(repr(a[LAST])),
    "mask": lambda a: (a[LAST].mask(), a[LAST].mask((0, 0, 90, 90))),
    "polygon": lambda a: a[LAST].polygon(),
    "regions": lambda a: [(r.bbox, r.bits, r.mask(), r.area) for r in a[LAST].regions],
    **{
        k: lambda a, k=k: getattr(a[LAST], k)
        for k in ("area", "bbox", "bits", "centroid", "domain", "iid", "key", "perimeter", "shape")
    },
}
SELECTION: dict[str, Op] = {
    **{name: lambda a, op=op: op(a.select(groups="h")) for name, op in SEGMENTS.items()},
    "__and__": lambda a: a.select(groups="h") & a.select(groups="g"),
    "__contains__": lambda a: 3 in a.select(groups="h"),
    "__eq__": lambda a: a.select(groups="h") == 3,
    "__getitem__": lambda a: (a.select(groups="h")[3].bbox, a.select(groups="h")[1:5]),
    "__iter__": lambda a: [s.area for s in a.select(groups="h")],
    "__len__": lambda a: len(a.select(groups="h")),
    "__reduce__": lambda a: plain(pickle.loads(pickle.dumps(a.select(groups="h")))),
    "__repr__": lambda a: stated(repr(a.select(groups="h")), a.path),
    "keys": lambda a: a.select(groups="h", domains="d2").keys,
    "masks": lambda a: a.select(groups="h").masks().flat,
    "close": lambda a: a.select(groups="h").close(),
    "joined": lambda a: _refused(lambda: a.select(groups="h").joined([])),
    "overlaps": lambda a: a.select(groups="h").overlaps(),
    "paint": lambda a: a.select(groups="h").paint(),
    "path": lambda a: None,
}
GROUPS: dict[str, Op] = {
    "__array__": lambda a: array_of(a.groups),
    "__contains__": lambda a: ("g" in a.groups, "x" in a.groups),
    "__eq__": lambda a: a.groups == 3,
    "__getitem__": lambda a: a.groups["h"].keys,
    "__iter__": lambda a: list(a.groups),
    "__len__": lambda a: len(a.groups),
    "__reduce__": lambda a: None,
    "__repr__": lambda a: repr(a.groups) if type(a).__name__ == "SingleArchive" else None,
    "get": lambda a: a.groups.get("g").keys,
    "items": lambda a: [(k, v.keys) for k, v in a.groups.items()],
    "keys": lambda a: list(a.groups.keys()),
    "of": lambda a: a.groups.of(LAST),
    "values": lambda a: [v.keys for v in a.groups.values()],
}
GROUP: dict[str, Op] = {
    "__and__": lambda a: (a.groups["g"] & a.groups["h"]).keys,
    "__array__": lambda a: np.array(a.groups["h"], np.int64),
    "__contains__": lambda a: LAST in a.groups["h"],
    "__eq__": lambda a: a.groups["h"] == a.groups["g"],
    "__iter__": lambda a: list(a.groups["h"]),
    "__len__": lambda a: len(a.groups["h"]),
    "__reduce__": lambda a: pickle.loads(pickle.dumps(a.groups["h"])).keys,
    "__repr__": lambda a: repr(a.groups["h"]),
    "keys": lambda a: a.groups["h"].keys,
}
FOLDER: dict[str, Op] = {
    **CONTRACT,
    "BATCH": lambda d: None,
    "statistics": lambda d: str(d.statistics()),
    "label_array": lambda d: d.label_array(),
    "placement": lambda d: None if not _refused(lambda: d.placement()) else True,
    "prefetch": lambda d: d.prefetch([3, LAST]),
    "split_name": lambda d: None,
    "__contains__": lambda d: None,
    "__eq__": lambda d: d == d,
    "__getitem__": lambda d: (d[LAST].caption, len(d[3:9]), len(d[[3, LAST]])),
    "__iter__": lambda d: [r.file_name for r in d],
    "__len__": len,
    "__reduce__": lambda d: len(pickle.loads(pickle.dumps(d))),
    "__repr__": lambda d: stated(repr(d), d.path),
    "batch": lambda d: d.batch([3, LAST]).images,
    "batches": lambda d: [b.images for b in d.batches(300)],
    "close": lambda d: d.close(),
    "column": lambda d: list(d.column("more")),
    "find": lambda d: len(d.find("3.png")),
    "classes": lambda d: d.classes,
    "folder": lambda d: None,
    "joined": lambda d: d.joined([d]).batch([0, N], size=(3, 4), fit="resize").images,
    "path": lambda d: None,
    "verify": sound,
}
PICTURE: dict[str, Op] = {
    "__array__": lambda d: np.asarray(d[LAST]),
    "__eq__": lambda d: d[LAST] == d[LAST],
    "__reduce__": lambda d: pickled_if_it_can_be(d[LAST]),
    "__repr__": lambda d: stated(repr(d[LAST]), d.path),
    "bytes": lambda d: len(d[LAST].bytes),
    "decode_error": lambda d: str(type(d[LAST].decode_error)),
    "encoded": lambda d: d[LAST].encoded().data,
    "fitted": lambda d: d[LAST].fitted(Fit((3, 4), "resize", None, "bilinear", False)).pixels,
    "file": lambda d: str(type(d[LAST].file)),
    "line": lambda d: d[LAST].line,
    "path": lambda d: os.path.basename(d[LAST].path),
    "pil": lambda d: np.asarray(d[LAST].pil()),
    "read": lambda d: d[LAST].read(),
    "settings": lambda d: None,
    "source": lambda d: d[LAST].source.nbytes,
    **{
        k: lambda d, k=k: getattr(d[LAST], k)
        for k in (
            *("caption", "categories", "file_name", "file_names", "image", "index", "metadata"),
            *("nbytes", "objects", "offset", "picture_key", "shape"),
        )
    },
}

IN_ONE_FILE: dict[str, Op] = {  # datasets of pictures, or of arrays, in one file
    **CONTRACT,
    "__eq__": lambda d: d == d,
    "__getitem__": lambda d: (stated(repr(d[LAST]), d.path), d[3:9], d[[3, LAST]]),
    "__iter__": lambda d: [r.index for r in d],
    "__len__": len,
    "__reduce__": pickled,
    "__repr__": lambda d: stated(repr(d), d.path),
    "batch": lambda d: d.batch([3, LAST]),
    "batches": lambda d: [b.images for b in d.batches(300)],
    "close": lambda d: d.close(),
    "joined": lambda d: d.joined([d]).batch([LAST, N]).images,
    "label_array": lambda d: d.label_array(),
    "path": lambda d: None,
    "placement": lambda d: _refused(lambda: d.placement()),
    "prefetch": lambda d: d.prefetch([3, LAST]),
    "statistics": lambda d: str(d.statistics()),
}
TAR_RECORD: dict[str, Op] = {
    "__array__": lambda d: np.asarray(d[LAST]).copy(),
    "__contains__": lambda d: "cls" in d[LAST],
    "__eq__": lambda d: d[LAST] == d[LAST],
    "__getitem__": lambda d: [d[LAST][name] for name in ("npy", "cls", "json", "txt")],
    "__reduce__": lambda d: pickle.loads(pickle.dumps(d[LAST])).cls,
    "__repr__": lambda d: stated(repr(d[LAST]), d.path),
    "error": lambda d: None,
    "first": lambda d: d[LAST].first(frozenset(("npy",))),
    "get": lambda d: d[LAST].get("txt"),
    "members": lambda d: d[LAST].members,
    "picture": lambda d: _refused(lambda: d[LAST].picture()),
    "pixels": lambda d: d[LAST].pixels(),
    **{
        k: lambda d, k=k: getattr(d[LAST], k)
        for k in ("cls", "image", "index", "json", "key", "txt")
    },
}
TFRECORD_RECORD: dict[str, Op] = {
    "__array__": lambda d: np.asarray(d[LAST]).shape,
    "__contains__": lambda d: "label" in d[LAST],
    "__eq__": lambda d: d[LAST] == d[LAST],
    "__getitem__": lambda d: (d[LAST]["label"], len(d[LAST]["raw"])),
    "__reduce__": lambda d: pickle.loads(pickle.dumps(d[LAST])).label,
    "__repr__": lambda d: stated(repr(d[LAST]), d.path),
    "bytes": lambda d: len(d[LAST].bytes),
    "encoded": lambda d: d[LAST].encoded(bytes(400)),
    "features": lambda d: d[LAST].features,
    "image": lambda d: d[LAST].image.shape,
    "picture": lambda d: _refused(lambda: d[LAST].picture()),
    "pixels": lambda d: d[LAST].pixels(),
    "raw": lambda d: d[LAST].raw(),
    "values": lambda d: d[LAST].values(),
    **{k: lambda d, k=k: getattr(d[LAST], k) for k in ("index", "is_encoded", "label")},
}

COCO: dict[str, Op] = {
    **CONTRACT,
    "__eq__": lambda d: d == d,
    "__getitem__": lambda d: (stated(repr(d[LAST]), d.path), d[3:9], d[[3, LAST]]),
    "__iter__": lambda d: [r.index for r in d],
    "__len__": len,
    "__reduce__": pickled,
    "__repr__": lambda d: stated(repr(d), d.path),
    "batch": lambda d: _refused(lambda: d.batch([3, LAST])),
    "batches": lambda d: _refused(lambda: list(d.batches(300))),
    "categories": lambda d: d.categories,
    "close": lambda d: d.close(),
    "explain": lambda d: sorted(d.explain(LAST)),
    "info": lambda d: d.info,
    "joined": lambda d: len(d.joined([d])),
    "label_array": lambda d: d.label_array(),
    "licenses": lambda d: d.licenses,
    "path": lambda d: None,
    "placement": lambda d: _refused(lambda: d.placement()),
    "prefetch": lambda d: d.prefetch([3, LAST]),
    "statistics": lambda d: str(d.statistics()),
    "sort_by": lambda d: d.sort_by("id"),
}
COCO_IMAGE: dict[str, Op] = {
    "__array__": lambda d: array_of(d[LAST]),
    "__eq__": lambda d: d[LAST] == d[LAST],
    "__reduce__": lambda d: pickle.loads(pickle.dumps(d[LAST])).file_name,
    "__repr__": lambda d: stated(repr(d[LAST]), d.path),
    "annotations": lambda d: [a.metadata for a in d[LAST].annotations],
    "encoded": lambda d: _refused(lambda: d[LAST].encoded()),
    "image": lambda d: _refused(lambda: d[LAST].image),
    "masks": lambda d: d[LAST].masks(),
    **{
        k: lambda d, k=k: getattr(d[LAST], k)
        for k in ("boxes", "categories", "file_name", "id", "index", "metadata", "size", "target")
    },
}
COCO_ANNOTATION: dict[str, Op] = {
    "__array__": lambda d: np.asarray(d[LAST]),
    "__eq__": lambda d: d[LAST] == d[LAST],
    "__reduce__": lambda d: pickle.loads(pickle.dumps(d[LAST])).bbox,
    "__repr__": lambda d: stated(repr(d[LAST]), d.path),
    "mask": lambda d: d[LAST].mask(),
    "parent": lambda d: d[LAST].parent.id,
    "segment": lambda d: d[LAST].segment(),
    **{
        k: lambda d, k=k: getattr(d[LAST], k)
        for k in ("area", "bbox", "category", "category_id", "id", "image_id", "index", "iscrowd")
    },
    **{
        k: lambda d, k=k: getattr(d[LAST], k)
        for k in ("metadata", "segmentation", "segments", "all_categories")
    },
}

# functions of modules that take an opened dataset and read it
ARCHIVE_FUNCTIONS: dict[str, Op] = {
    "subset": lambda a: mapix.iid.subset(a, [3, LAST], new(a.path)),
    "merge": lambda a: mapix.iid.merge([a], new(a.path)),
    "diff": lambda a: str(mapix.iid.diff(a, a)),
    "edit": lambda a: mapix.iid.edit(a, path=new(a.path), meta={}),
    "save_labels": lambda a: mapix.iid.save_labels(a, new(a.path) + ".npy"),
    "to_coco": lambda a: mapix.iid.to_coco(a),
    "to_geojson": lambda a: mapix.iid.to_geojson(a),
    "to_panoptic": lambda a: mapix.iid.to_panoptic(a, new(a.path)),
    "label_map": lambda a: (
        mapix.iid.label_map(a).array if hasattr(mapix.iid.label_map(a), "array") else None
    ),
}


def converted(to: str, **options: Any) -> Op:
    return lambda d: mapix.convert(d, new(d.path), to=to, lossy=True, **options) and None


@dataclasses.dataclass
class Family:
    """Files of one kind: how they are made and opened, and what is done with them."""

    make: Callable[[Path], Path]
    open: Callable[[Path], Any]
    ops: dict[type, dict[str, Op]]
    more: dict[str, Op]

    def operations(self) -> Iterator[tuple[str, Op]]:
        for kind, ops in self.ops.items():
            yield from ((f"{kind.__module__}.{kind.__qualname__}.{k}", op) for k, op in ops.items())
        yield from self.more.items()


def families() -> dict[str, Family]:
    """All of them, by name."""
    from mapix.coco import CocoAnnotation, CocoAnnotations, CocoImage, CocoImages
    from mapix.folder import ImageFolder
    from mapix.folder.record import Record as Picture
    from mapix.iid import Archive, Segment, ShardedArchive, SingleArchive
    from mapix.iid.groups import Group, Groups
    from mapix.tar import Record as Member
    from mapix.tar import TarShard
    from mapix.tfrecord import Record as Example
    from mapix.tfrecord import TFRecords

    v = mapix.vimh
    on_iid = {Segment: SEGMENT, Selection: SELECTION, Groups: GROUPS, Group: GROUP}
    som = {
        **ON_SOM,
        "grid": lambda a: a.grid(),
        "neuron_shape": lambda a: a.neuron_shape,
        "neurons": lambda a: a.neurons,
        "picture": lambda a: a.picture(size=8),
        "u_matrix": lambda a: a.u_matrix(),
        "__getitem__": lambda a: (a[99], a[9, 9], a[3:9], a[[5, 99]].view()),
    }
    data = {**PINK, "picture": lambda a: a.picture([1, LAST])}
    mapping = {
        **ON_SOM,
        "best_distance": lambda a: a.best_distance(),
        "best_match": lambda a: (a.best_match(LAST), a.best_match()),
        "counts": lambda a: a.counts(),
        "distances": lambda a: a.distances(),
        "heatmap": lambda a: a.heatmap(),
        "outliers": lambda a: a.outliers(3),
        "picture": lambda a: a.picture(size=8),
        "top_k": lambda a: a.top_k(3),
    }
    rotation = {
        **ON_SOM,
        "angle": lambda a: a.angle,
        "best_fit": lambda a: a.best_fit(np.eye(5, dtype="f4"), LAST, 3),
        "flip": lambda a: a.flip,
    }
    return {
        "vimh": Family(
            lambda f: vimh(f, mixed=False),
            lambda p: mapix.open(p, dialect=14, index="never"),
            {v.Dataset: DATASET, v.Record: RECORD},
            {"convert": converted("idx", label="param_0"), "references": mapix.references},
        ),
        "vimh mixed": Family(
            lambda f: vimh(f, mixed=True),
            lambda p: mapix.open(p, dialect=14, index="never"),
            {v.Dataset: DATASET, v.Record: RECORD},
            {"convert": converted("vimh")},
        ),
        "vimh indexed": Family(
            vimh_indexed,
            lambda p: mapix.open(p, dialect=14),
            {v.Dataset: DATASET, v.Record: RECORD},
            {},
        ),
        "vimh pickle": Family(
            vimh_pickle,
            mapix.open,
            {v.Dataset: DATASET, v.Record: RECORD},
            {},
        ),
        "joined": Family(
            lambda f: vimh(f, mixed=True),
            lambda p: mapix.open([p, p], dialect=14, index="never"),
            {v.Joined: JOINED},
            {},
        ),
        "catalogue": Family(
            vimh_catalogue,
            lambda p: mapix.open(p, most_open=1),
            {v.Joined: JOINED},
            {},
        ),
        "iid": Family(iid, mapix.open, {SingleArchive: ARCHIVE, **on_iid}, ARCHIVE_FUNCTIONS),
        "iid plain": Family(iid_plain, mapix.open, {Archive: ARCHIVE}, {}),
        "iid joined": Family(
            iid, lambda p: mapix.open([p, p]), {ShardedArchive: ARCHIVE, Groups: GROUPS}, {}
        ),
        "idx": Family(
            idx,
            mapix.open,
            {mapix.idx.IdxArray: {**ROWS, "byteorder": lambda a: a.byteorder}},
            {"convert": converted("vimh"), "labels": lambda a: a.batch([LAST]).labels},
        ),
        "idx words": Family(
            idx_words,
            mapix.open,
            {mapix.idx.IdxArray: {**ROWS, "byteorder": lambda a: a.byteorder}},
            {"append": lambda a: mapix.idx.append(a.path, np.zeros((1, 6), "i4")) and None},
        ),
        "idx gz": Family(
            idx_gz,
            mapix.open,
            {mapix.idx.IdxArray: {**ROWS, "byteorder": lambda a: a.byteorder}},
            {},
        ),
        "npy": Family(npy, mapix.open, {mapix.npy.NpyArray: ROWS}, {}),
        "safetensors": Family(tensors, mapix.open, {mapix.safetensors.SafetensorsArray: ROWS}, {}),
        "npz": Family(npz, mapix.open, {mapix.npy.NpzArray: ROWS}, {}),
        "pink data": Family(pink_data, mapix.open, {mapix.pink.Data: data}, {}),
        "pink som": Family(pink_som, mapix.open, {mapix.pink.Som: som}, {}),
        "pink map": Family(
            pink_map,
            lambda p: mapix.open(p, format="pink", kind="map", version=1),
            {mapix.pink.Mapping: mapping},
            {},
        ),
        "pink rot": Family(pink_rot, mapix.open, {mapix.pink.Rotation: rotation}, {}),
        "folder": Family(pictures, mapix.open, {ImageFolder: FOLDER, Picture: PICTURE}, {}),
        "tar": Family(tar, mapix.open, {TarShard: IN_ONE_FILE, Member: TAR_RECORD}, {}),
        "tfrecord": Family(
            tfrecord,
            mapix.open,
            {
                TFRecords: {**IN_ONE_FILE, "first_features": lambda d: d.first_features()},
                Example: TFRECORD_RECORD,
            },
            {},
        ),
        "coco": Family(
            coco,
            mapix.open,
            {
                CocoImages: {**COCO, "annotations": lambda d: d.annotations},
                CocoImage: COCO_IMAGE,
            },
            {},
        ),
        "coco annotations": Family(
            coco,
            lambda p: mapix.open(p, records="annotations"),
            {
                CocoAnnotations: {**COCO, "images": lambda d: d.images},
                CocoAnnotation: COCO_ANNOTATION,
            },
            {},
        ),
        "model": Family(
            model,
            mapix.open,
            {},
            {"hidden": lambda m: m.hidden(np.ones((2, 40), "f4")), "repr": repr},
        ),
    }


SPECIAL = (
    *("__array__", "__and__", "__contains__", "__eq__", "__getitem__", "__getitems__", "__iter__"),
    *("__len__", "__reduce__", "__repr__"),
)


def public(kind: type) -> set[str]:
    """The names that have to have a row."""
    names = {n for n in dir(kind) if not (n.startswith("_") or n.isupper())}
    return names | {n for n in SPECIAL if getattr(kind, n, None) is not getattr(object, n, None)}


# --- damages --------------------------------------------------------------------------------------


def _cut(path: Path, size: int, use: str) -> None:
    os.truncate(path, 0 if use == "first" else min(size, 4096))


def _inside(path: Path, size: int, use: str) -> None:
    rest = size % 4096
    os.truncate(path, size - (rest - 1 if rest > 1 else 4095))


def _regrown(path: Path, size: int, use: str) -> None:
    os.truncate(path, size // 2 - 7)
    os.truncate(path, size)


USES = "first", "second"
ALL = os.environ.get("MAPIX_ALL_TESTS") == "1"  # else a third of the combinations for each
HOW = {"cut": _cut, "cut inside the last page": _inside, "regrown with zeros": _regrown}


def damaged_files(path: Path) -> dict[str, Path]:
    """The file, and what is stored for it."""
    found = {"file": path}
    beside = Path(f"{path}.mapix")
    if beside.exists():
        found["index"] = beside
    for unpacked in Path(os.environ["MAPIX_CACHE_DIR"]).glob("*.pixels"):
        found["cache"] = unpacked
    return found


# --- the children ---------------------------------------------------------------------------------


def outcome(family: Family, path: Path, op: Op, use: str, how: Any, which: str, want: Any) -> str:
    """In the child: what came of it."""
    opened = family.open(path)
    if use == "second":
        op(opened)
    bad = damaged_files(path)[which]
    if how is not None:
        if use == "second" and not bad.exists():  # the first use closed or removed it
            return OK
        how(bad, bad.stat().st_size, use)
    try:
        found = plain(op(opened))
    except mapix.ClosedError:
        return OK
    except (mapix.MapixError, OSError) as e:
        return OK if str(bad) in str(e) else f"an error that does not name {bad}: {e!r}"
    return OK if found == want else f"another answer: {str(found)[:200]} for {str(want)[:200]}"


def in_child(act: Callable[[], str]) -> str:
    """``act()`` in a child of fork; how it died, if it did."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            try:
                text = act()
            except BaseException as e:
                text = f"{type(e).__name__}: {e}"
            os.write(write, text.encode()[:60000])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        text = f.read().decode()
    _, status = os.waitpid(pid, 0)
    return f"died of signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else text


class Restored:
    """Files that are as they were after each ``back()``; untouched files stay the same."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._saved = {p: (p.read_bytes(), p.stat()) for p in self._files()}

    def _files(self) -> list[Path]:
        return [p for folder in self._folders for p in folder.rglob("*") if p.is_file()]

    def back(self) -> None:
        for path in self._files():
            if path not in self._saved:
                path.unlink()
        for path, (content, was) in self._saved.items():
            now = path.stat() if path.exists() else None
            if now is None or (now.st_ino, now.st_mtime_ns) != (was.st_ino, was.st_mtime_ns):
                path.write_bytes(content)
                os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
                self._saved[path] = content, path.stat()


def run(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    """(what was done, what was wrong with it) for one family; at the end how much was done."""
    family = families()[name]
    os.environ["MAPIX_CACHE_DIR"] = str(folder / "cache")
    for below in ("cache", "data"):
        (folder / below).mkdir()
    warnings.simplefilter("ignore", mapix.MapixWarning)
    path = family.make(folder / "data")
    family.open(path).close()  # fills the cache
    files = Restored([folder / "data", folder / "cache"])
    wants = {}
    for what, op in family.operations():
        wants[what] = plain(op(family.open(path)))
        files.back()
    done = 0
    for which in sorted(damaged_files(path), key="cache index file".find):  # the file last
        for k, (what, op) in enumerate(family.operations()):
            for m, (use, (how, damage)) in enumerate(itertools.product(USES, HOW.items())):
                if ALL or m % 3 == k % 3:
                    found = in_child(
                        lambda o=op, u=use, d=damage, f=which, w=wants[what]: outcome(  # type: ignore[misc]
                            family, path, o, u, d, f, w
                        )
                    )
                    files.back()
                    done += 1
                    if found != OK:
                        yield f"{what}, {use} use, {which} {how}", found
    yield "", str(done)


if __name__ == "__main__":
    for what, wrong in run(sys.argv[1], Path(sys.argv[2])):
        print(json.dumps([what, wrong]), flush=True)
