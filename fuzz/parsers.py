"""Targets for ``files.py``: parsers of files that are not a format's records.

A target has some first inputs, a function that makes checksums right (``mending.py``), and a
reader.  ``truth`` is an independent reading of the same bytes, where there is one; ``ANY`` where
there is none, and then an input passes unless it ends in an error that is not one of mapix's own.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import mending
import numpy as np

import mapix
from mapix.testing import CLEAR_ERRORS

ANY: Any = object()
"""Nothing is known about the right value."""

RECORDS = np.random.default_rng(0).integers(0, 256, (9, 4, 5), np.uint8)


class Parser:
    """A target.

    Attributes
    ----------
    name : str
        Name of the target.
    file : str
        Name of the file that is changed.
    accepted : bool
        Whether the last input was read without an error.
    """

    name = ""
    file = ""
    accepted = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / self.file
        self.seeds = self.make()

    def make(self) -> list[bytes]:
        """Return the first inputs; put other files that are needed into the folder."""
        raise NotImplementedError

    def mended(self, data: bytes) -> bytes:
        """Return the input with right checksums."""
        return data

    def read(self) -> Any:
        """Read the file."""
        raise NotImplementedError

    def truth(self, data: bytes) -> Any:
        """Return what ``read`` returns for these bytes, if it accepts them; or ``ANY``."""
        del data
        return ANY

    def finding(self, data: bytes) -> str | None:
        """Return what is wrong with how the file is read; None if nothing is."""
        self.path.write_bytes(data)
        self.accepted = False
        try:
            found = self.read()
        except CLEAR_ERRORS as e:
            return None if self.named(str(e)) else f"the error names no file: {e}"
        except Exception as e:
            return f"{type(e).__name__}: {e}"
        self.accepted = True
        expected = self.truth(data)
        same = expected is ANY or found == expected
        return None if same else f"{found!r:.200} found, {expected!r:.200} expected"

    def named(self, message: str) -> bool:
        """Return whether an error names a file that the user knows."""
        return str(self.folder) in message


def content(ds: Any) -> list[Any]:
    """Return the records of a VIMH file."""
    return [
        (r.image.tolist(), r.label_ids.tolist(), r.label_bytes.tolist())
        for r in (ds[i] for i in range(len(ds)))
    ]


def images(ds: Any) -> list[Any]:
    """Return the images of a dataset."""
    found: list[Any] = ds.batch(range(len(ds))).images.tolist() if len(ds) else []
    return found


# --- beside VIMH files ----------------------------------------------------------------------------


class Journal(Parser):
    """The journal of an append: the records are those before the length that it states."""

    name, file = "journal", ".train.appending"

    def make(self) -> list[bytes]:
        from slow_vimh import pack, record
        from test_journal import a_journal

        rows = [record(2, 3, 1, [(0, k)], seed=k) for k in range(6)]
        self.data = pack(rows)
        (self.folder / "train").write_bytes(self.data)
        return [a_journal(pack(rows[:k])) for k in (1, 3, 6)]

    def mended(self, data: bytes) -> bytes:
        return mending.journal(data, self.data)

    def read(self) -> Any:
        return content(mapix.open(self.folder / "train", format="vimh"))

    def truth(self, data: bytes) -> Any:
        import slow_vimh

        length = int.from_bytes(data[8:16], "little")
        counts = data[:8] == b"MAPIXAPP" and length <= len(self.data)
        if counts and data == mending.journal(data, self.data) and len(data) == 24:
            rows = slow_vimh.tiles(self.data[:length], 14)
        else:
            rows = slow_vimh.tiles(self.data, 14)
        if rows is None:
            return ANY
        return [(r.hwc().tolist(), *map(list, zip(*r.pairs, strict=True))) for r in rows]


class VimhIndex(Parser):
    """A stored index, with all tables: records are those of the file, whatever it says."""

    name, file = "vimh-index", "train.mapix"
    mixed = False

    def make(self) -> list[bytes]:
        from test_stored import make, truth

        make(self.folder / "train", 30, mixed=self.mixed)
        self.records = truth(self.folder / "train")
        ds = mapix.open(self.folder / "train")
        plain = Path(mapix.index(ds.path, checksums=False)).read_bytes()
        return [Path(mapix.index(ds.path)).read_bytes(), plain]

    def mended(self, data: bytes) -> bytes:
        return mending.vimh_index(data)

    def read(self) -> Any:
        from records import content as records

        ds = mapix.open(self.folder / "train")
        list(ds.columns)
        ds.verify()
        found = records(ds)
        assert ds.offsets.tolist() == [offset for offset, *_ in found]
        return found

    def truth(self, data: bytes) -> Any:
        del data
        return self.records


class MixedVimhIndex(VimhIndex):
    """The same of images of several sizes."""

    name, mixed = "vimh-index-mixed", True


class InfoJson(Parser):
    """The JSON of a VIMH directory: a value is the one that Python's parser gives."""

    name, file = "vimh-info", "vimh_dataset_info.json"

    def make(self) -> list[bytes]:
        from conftest import GOLDEN

        found = sorted((GOLDEN / "vimh").rglob("*_info.json"), key=lambda p: p.stat().st_size)
        return [path.read_bytes() for path in found[:4]]

    def read(self) -> Any:
        from mapix.vimh.info_json import parse_info

        return parse_info(self.path.read_bytes(), str(self.path))

    def truth(self, data: bytes) -> Any:
        return json.loads(data)


class Pickles(Parser):
    """Pickles: values are those of CPython's own machine, with nothing but numpy."""

    name, file = "pickle", "batch"

    def make(self) -> list[bytes]:
        from test_pickles import BATCHES, make

        seeds = [pickle.dumps(make(3, 2, 2, 1, kind), p) for p in range(6) for kind in LABELS]
        return seeds + [path.read_bytes() for path in BATCHES if path.stat().st_size < 1000]

    def read(self) -> Any:
        from mapix.source import Source
        from mapix.vimh.pickles.reader import Machine
        from test_pickles import plain

        ours = Machine(Source(self.path)).run()
        try:
            return repr(plain(ours, self.path.read_bytes()))
        except RecursionError:
            return None

    def truth(self, data: bytes) -> Any:
        from test_pickles import loaded, plain

        if not data.endswith(b".") or any(code in data for code in BOMBS):
            return ANY
        theirs = loaded(data)
        return ANY if theirs is None else repr(plain(theirs, b""))

    def finding(self, data: bytes) -> str | None:
        wrong = super().finding(data)
        if wrong is None:  # the same bytes, up to the dataset
            self.path.write_bytes(data)
            try:
                images(mapix.open(self.path, format="vimh"))
            except CLEAR_ERRORS as e:
                return None if self.named(str(e)) else f"the error names no file: {e}"
            except Exception as e:
                return f"{type(e).__name__}: {e}"
        return wrong


LABELS = ("rows", "ragged")
BOMBS = (b"\x96", b"r")  # BYTEARRAY8 and LONG_BINPUT: CPython takes memory for any number


# --- archives -------------------------------------------------------------------------------------


NSEGMENTS = 7  # one node of the tree, not full


class IidIndex(Parser):
    """The index after an archive: what is found is in the sections, whatever the index states.

    Compared with the slow reader are segments, names, groups, points, windows and polygons, by a
    search for one of them and by a search for many.  An index that was made to be believed, with
    right checksums, may hide segments from searches; then ``verify`` has to report it, and only the
    segments are compared.
    """

    name, file = "iid-index", "a.iid"
    points = ((0, 0), (3, 3), (7, 12), (9, 21))
    windows = ((0, 0, 4, 4), (2, 3, 9, 6), (5, 0, 30, 20))

    def make(self) -> list[bytes]:
        rng = np.random.default_rng(0)
        with mapix.iid.Writer(self.path, index=True) as out:
            for k in range(NSEGMENTS):
                groups = ["odd"] * (k % 2) + ["few"] * (k % 7 == 3)
                mask = rng.random((3, 5)) < 0.7
                out.add(f"d{k % 2}", f"n{k}", mask, at=(k, 2 * k % 7), groups=groups)
        return [self.path.read_bytes()]

    def mended(self, data: bytes) -> bytes:
        return mending.iid_with_index(data)

    def read(self) -> Any:
        a = mapix.open(self.path)
        self.believed = not a.verify().problems
        found = [(s.domain, s.iid, s.bbox, s.area, s.mask().tolist()) for s in a]
        names = [(s[0], s[1]) for s in found]
        domains = sorted({domain for domain, _ in names})
        many = {domain: [iid for d, iid in names if d == domain] for domain in domains}
        x, y = (np.array(side) for side in zip(*self.points, strict=True))
        keys, offsets = a.at(x, y)
        at = [keys[p:q].tolist() for p, q in pairwise(offsets.tolist())]
        keys, offsets = a.region(np.array(self.windows))
        inside = [keys[p:q].tolist() for p, q in pairwise(offsets.tolist())]
        same = at == [a.at(*p).tolist() for p in self.points]
        same &= inside == [a.region(w).tolist() for w in self.windows]
        a.overlaps()
        return {
            "segments": found,
            "find": [a.find(*name).tolist() for name in names],
            "find many": {d: a.find(d, iids).tolist() for d, iids in many.items()},
            "groups": {name: group.keys.tolist() for name, group in a.groups.items()},
            "at": at,
            "windows": inside,
            "one is as many": bool(same),
            "polygons": [_filled(s.polygon(), s.bbox) for s in a],
        }

    def truth(self, data: bytes) -> Any:
        import slow_iid

        found = slow_iid.read(data)
        if found is None:
            return ANY
        segments, _, groups = found
        if not self.believed:
            return _Segments(
                [(s.domain, s.iid, s.box, s.area, s.mask().tolist()) for s in segments]
            )
        names = [(s.domain, s.iid) for s in segments]
        domains = sorted({domain for domain, _ in names})
        inside = [
            [k for k, s in enumerate(segments) if s.mask(_common(s.box, window)).any()]
            for window in (*((y, x, y + 1, x + 1) for x, y in self.points), *self.windows)
        ]
        return {
            "segments": [(s.domain, s.iid, s.box, s.area, s.mask().tolist()) for s in segments],
            "find": [[k for k, name in enumerate(names) if name == one] for one in names],
            "find many": {d: [names.index(one) for one in names if one[0] == d] for d in domains},
            "groups": groups,
            "at": inside[: len(self.points)],
            "windows": inside[len(self.points) :],
            "one is as many": True,
            "polygons": [s.mask().tolist() for s in segments],
        }


class _Segments:
    """Equals whatever was read with these segments; the rest is unknown."""

    def __init__(self, segments: list[Any]) -> None:
        self.segments = segments

    def __eq__(self, read: object) -> bool:
        return isinstance(read, dict) and bool(read["segments"] == self.segments)

    def __repr__(self) -> str:
        return f"{self.segments}"

    __hash__ = None  # type: ignore[assignment]


def _common(box: Any, window: Any) -> tuple[int, int, int, int]:
    """Return the part of a box in a window; one without pixels if they do not meet."""
    low, high = np.maximum(box[:2], window[:2]), np.minimum(box[2:], window[2:])
    if (low >= high).any():
        return (0, 0, 0, 0)
    return (int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _filled(rings: list[Any], box: Any) -> list[list[bool]]:
    """Return the mask that rings of corners (x, y) enclose, by the even-odd rule."""
    minr, minc, maxr, maxc = box
    crossed = np.zeros((maxr - minr, maxc - minc + 1), bool)
    for ring in rings:
        corners = ring.tolist()
        for (x, y), (_, below) in zip(corners, [*corners[1:], corners[0]], strict=True):
            crossed[min(y, below) - minr : max(y, below) - minr, x - minc] ^= True
    found: list[list[bool]] = np.logical_xor.accumulate(crossed, axis=1)[:, :-1].tolist()
    return found


class LabelPng(Parser):
    """Label maps as PNG: the pixels that Pillow reads."""

    name, file = "label-png", "labels.png"

    def make(self) -> list[bytes]:
        from test_label_files import png_file

        rng, made = np.random.default_rng(0), []
        for depth, colour, channels in ((8, 0, 1), (16, 0, 1), (8, 3, 1), (8, 2, 3), (2, 0, 1)):
            row = -(-7 * depth * channels // 8)
            rows = b"".join(bytes([k % 5]) + rng.bytes(row) for k in range(6))
            made.append(png_file(7, 6, rows, depth, colour))
        return made

    def mended(self, data: bytes) -> bytes:
        return mending.png(data)

    def read(self) -> Any:
        rgb = self.path.read_bytes()[25:26] == b"\2"
        return mapix.iid.read_labels(self.path, rgb=rgb, max_pixels=1 << 20).tolist()

    def truth(self, data: bytes) -> Any:
        try:
            from PIL import Image

            with Image.open(io.BytesIO(data)) as image:
                known = image.mode in ("L", "P", "I;16") and not image.info.get("interlace")
                return np.array(image).tolist() if known and data[24] >= 8 else ANY
        except Exception:
            return ANY


class LabelNpy(Parser):
    """Label maps as numpy's files."""

    name, file = "label-npy", "labels.npy"

    def make(self) -> list[bytes]:
        out = io.BytesIO()
        np.save(out, np.arange(42, dtype=np.int32).reshape(6, 7) % 5)
        return [out.getvalue()]

    def read(self) -> Any:
        return mapix.iid.read_labels(self.path, max_pixels=1 << 20).tolist()

    def truth(self, data: bytes) -> Any:
        try:
            return np.load(io.BytesIO(data), allow_pickle=False).tolist()
        except Exception:
            return ANY


class LabelTiff(LabelNpy):
    """Label maps as TIFF: strips and tiles are ours, tags are tifffile's."""

    name, file = "label-tiff", "labels.tif"

    def make(self) -> list[bytes]:
        import tifffile

        made = []
        labels = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) % 7
        for how in ({}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 5}):
            tifffile.imwrite(self.path, labels, **how)
            made.append(self.path.read_bytes())
        return made

    def truth(self, data: bytes) -> Any:
        return ANY


class FromCoco(Parser):
    """COCO's JSON, with polygons and both kinds of run lengths, written as archives."""

    name, file = "coco-masks", "coco.json"

    def make(self) -> list[bytes]:
        square, box = [[1, 1, 6, 1, 6, 5, 1, 5]], [1, 1, 5, 4]
        kinds = square, {"size": [8, 9], "counts": [9, 4, 59]}, {"size": [8, 9], "counts": "94k1"}
        notes = [
            {"id": k, "image_id": 1, "category_id": 1, "segmentation": kind}
            | {"bbox": box, "area": 20, "iscrowd": int(k > 0)}
            for k, kind in enumerate(kinds)
        ]
        text = {
            "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 9}],
            "annotations": notes,
            "categories": [{"id": 1, "name": "c"}],
        }
        return [json.dumps(text).encode()]

    def read(self) -> Any:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        mapix.iid.from_coco(self.path, out)
        for path in out.glob("*.iid"):
            mapix.open(path).masks()


# --- compressed files, and what is unpacked -------------------------------------------------------


class Gzip(Parser):
    """Gzip files of IDX: what the slow reader finds in what zlib unpacks."""

    name, file = "gzip", "x-idx3-ubyte.gz"

    def make(self) -> list[bytes]:
        self.raw = bytes([0, 0, 8, 3]) + np.array(RECORDS.shape, ">u4").tobytes()
        self.raw += RECORDS.tobytes()
        cuts = (0, 7, 90, len(self.raw))
        pieces = [self.raw[a:b] for a, b in pairwise(cuts)]
        several = b"".join(gzip.compress(piece, 1, mtime=0) for piece in pieces)
        return [gzip.compress(self.raw, level, mtime=0) for level in (0, 9)] + [several]

    def mended(self, data: bytes) -> bytes:
        return mending.gzipped(data)

    def read(self) -> Any:
        return [row.tolist() for row in mapix.open(self.path)]

    def truth(self, data: bytes) -> Any:
        from test_idx import slow

        try:
            found = slow(gzip.decompress(data))
        except Exception:
            return ANY  # bytes after the last member, for instance
        if found is None or len(found[2]) < 2:
            return ANY
        return np.array(found[3], found[1]).reshape(found[2]).tolist()


class Unpacked(Gzip):
    """Unpacked bytes in the cache: believed only if they are those of the file."""

    name = "unpacked"

    def make(self) -> list[bytes]:
        super().make()
        self.gz = self.folder / self.file
        self.gz.write_bytes(gzip.compress(self.raw, mtime=0))
        from records import settle

        mapix.open(settle(self.gz))
        (place,) = Path(os.environ["MAPIX_CACHE_DIR"]).glob("*.pixels")
        self.path = place
        return [place.read_bytes()]

    def mended(self, data: bytes) -> bytes:
        return mending.pixels(data)

    def read(self) -> Any:
        return [row.tolist() for row in mapix.open(self.gz)]

    def truth(self, data: bytes) -> Any:
        del data
        return RECORDS.tolist()


class NpzDirectory(Parser):
    """Zip files with several arrays, some of them compressed."""

    name, file = "npz-members", "x.npz"

    def make(self) -> list[bytes]:
        both = {"images": RECORDS, "labels": np.arange(9)}
        made = []
        for save in (np.savez, np.savez_compressed):
            out = io.BytesIO()
            save(out, **both)
            made.append(out.getvalue())
        return made

    def mended(self, data: bytes) -> bytes:
        return mending.zipped(data)

    def read(self) -> Any:
        ds = mapix.open(self.path, images="images")
        return [row.tolist() for row in ds]

    def truth(self, data: bytes) -> Any:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as z:
                if len(set(z.namelist())) != len(z.namelist()) or z.testzip() is not None:
                    return ANY
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return list(arrays["images"].tolist())
        except Exception:
            return ANY


# --- what mapix stores ----------------------------------------------------------------------------


class Catalogue(Parser):
    """Catalogues: what the slow reader of the tests finds."""

    name, file = "catalogue", "a.catalogue"

    def make(self) -> list[bytes]:
        from mapix import catalogue
        from test_catalogue import archive, shard

        (self.folder / "archives").mkdir()
        (self.folder / "files").mkdir()
        for k in range(3):
            archive(self.folder / "archives", k, [f"s{i}" for i in range(k, 9, 3)])
            shard(self.folder / "files", k)
        made = []
        for kind in ("archives", "files"):
            self.path.unlink(missing_ok=True)
            how = {"format": "vimh"} if kind == "files" else {}
            catalogue.write(self.folder / kind, self.path, **how)
            made.append(self.path.read_bytes())
        return made

    def mended(self, data: bytes) -> bytes:
        return mending.catalogue(data)

    def read(self) -> Any:
        from test_catalogue import quickly

        with mapix.open(self.path) as ds:
            list(ds.columns)
            for row in range(min(len(ds), 9)):
                try:
                    _ = ds[row]
                except CLEAR_ERRORS as e:
                    if not self.named(str(e)):
                        raise
        return json.dumps(quickly(self.path), sort_keys=True)

    def truth(self, data: bytes) -> Any:
        from test_catalogue import slow

        try:
            return json.dumps(slow(data), sort_keys=True)
        except Exception:
            return ANY


class Mirror(Parser):
    """A segment of a mirror: blocks are brought only if their checksums are right."""

    name, file = "mirror", "segment"
    BLOCK, NBLOCKS = 4096, 3

    def make(self) -> list[bytes]:
        from mapix.remote import mirror

        mirror.LEAST_SEGMENT_NBYTES = 4 * self.BLOCK
        self.data = np.random.default_rng(1).bytes(self.BLOCK * self.NBLOCKS - 77)
        self.mirror = mirror.Mirror("http://x/y", "tag", len(self.data), self.BLOCK)
        self.path = Path(self.mirror._path(0))
        self.mirror.write(0, memoryview(self.data), lambda *_: None)
        return [self.path.read_bytes()]

    def read(self) -> Any:
        found = [False] * self.NBLOCKS

        def ready(first: int, end: int, fd: int, at: int) -> None:
            begin, stop = self.mirror.span(first, end)
            for k in range(first, end):
                a, b = self.mirror.span(k, k + 1)
                found[k] = os.pread(fd, b - a, at + a - begin) == self.data[a:b] or ANY
            assert stop <= len(self.data)

        self.mirror.bring(0, self.NBLOCKS, ready)
        return found

    def truth(self, data: bytes) -> Any:
        size = 4 * self.BLOCK
        whole = data.ljust(size + 16, b"\0")[: size + 16]
        sums = np.frombuffer(whole, "<u4", 4, size)
        found = []
        for k in range(self.NBLOCKS):
            a, b = self.mirror.span(k, k + 1)
            right = bool(sums[k]) and mending._crc(whole[a:b]) == sums[k]
            found.append((whole[a:b] == self.data[a:b] or ANY) if right else False)
        return found


class ResumedPart(Parser):
    """A stored block of a conversion: arrays, or nothing."""

    name, file = "resumed-part", "0.part"

    def make(self) -> list[bytes]:
        out = io.BytesIO()
        np.save(out, np.array([True, False, True]))
        np.save(out, RECORDS)
        np.save(out, np.arange(9, dtype=np.float32))
        return [mending.part(out.getvalue() + bytes(4))]

    def mended(self, data: bytes) -> bytes:
        return mending.part(data)

    def read(self) -> Any:
        from mapix.conversion.blocks import _load

        found = _load(str(self.path))
        assert found is None or all(x is None or isinstance(x, np.ndarray) for x in found)


class ResumeManifest(Parser):
    """The manifest of a conversion that goes on: the same text, or refused."""

    name, file = "resume-manifest", "manifest.json"

    def make(self) -> list[bytes]:
        mapix.idx.write(self.folder / "x.idx", RECORDS)
        return [self.seed()]

    def seed(self) -> bytes:
        self.path.unlink(missing_ok=True)
        (self.folder / "parts").mkdir(exist_ok=True)
        self.path = self.folder / "parts" / self.file
        self.read()
        return self.path.read_bytes()

    def read(self) -> Any:
        from mapix.conversion.blocks import StoredBlocks

        StoredBlocks(
            str(self.folder / "parts"), {"": mapix.open(self.folder / "x.idx")}, {"axes": None}
        )
        return True

    def truth(self, data: bytes) -> Any:
        return data.decode(errors="replace") == self.seeds[0].decode()


# --- Arrow ----------------------------------------------------------------------------------------


class ArrowStream(Parser):
    """The messages of a stream, which mapix finds itself; their content is pyarrow's."""

    name, file = "arrow-stream", "x.arrows"

    def make(self) -> list[bytes]:
        import pyarrow as pa

        made = []
        for rows in (1, 40):
            table = pa.table({"a": list(range(rows)), "b": [f"t{k}" for k in range(rows)]})
            out = io.BytesIO()
            with pa.ipc.new_stream(out, table.schema) as writer:
                writer.write_table(table, max_chunksize=7)
            made.append(out.getvalue())
        return made

    def read(self) -> Any:
        from mapix.arrow.stream import messages
        from mapix.source import Source

        at, end = 0, self.path.stat().st_size
        for one in messages(Source(self.path)):
            assert one.begin == at
            assert one.rows >= 0
            at += one.nbytes
            assert at <= end


class Parquet(Parser):
    """Parquet files: pyarrow reads them, and its errors become mapix's."""

    name, file = "parquet", "x.parquet"

    def make(self) -> list[bytes]:
        mapix.idx.write(self.folder / "x.idx", RECORDS)
        mapix.convert(self.folder / "x.idx", self.path)
        return [self.path.read_bytes()]

    def read(self) -> Any:
        with mapix.open(self.path) as ds:
            list(ds.columns)
            images(ds)


class Arrow(Parquet):
    """Arrow files, likewise."""

    name, file = "arrow", "x.arrow"


# --- texts ----------------------------------------------------------------------------------------


class Model(Parser):
    """Models of VisualRBM: what the slow reader of the tests finds."""

    name, file = "visualrbm-model", "m.json"

    def make(self) -> list[bytes]:
        from test_visualrbm import LAYERS, SMALL

        return [SMALL, LAYERS]

    def read(self) -> Any:
        from test_visualrbm import listed

        return listed(mapix.open(self.path, strict=True, kind="model", format="visualrbm"))

    def truth(self, data: bytes) -> Any:
        import slow_visualrbm

        return slow_visualrbm.read(data)


class Schedule(Parser):
    """Schedules of VisualRBM."""

    name, file = "visualrbm-schedule", "s.json"

    def make(self) -> list[bytes]:
        from conftest import GOLDEN

        folder = GOLDEN / "visualrbm" / "schedule"
        found = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_size)
        return [path.read_bytes() for path in found if self.accepts(path)][:4]

    def accepts(self, path: Path) -> bool:
        """Return whether a schedule of the original's tests is a valid one."""
        try:
            return mapix.open(path, kind="schedule", format="visualrbm") is not None
        except CLEAR_ERRORS:
            return False

    def read(self) -> Any:
        mapix.open(self.path, kind="schedule", format="visualrbm")


class SoundTable(Parser):
    """Tables of sounds and their labels."""

    name, file = "sound-table", "t.csv"
    TEXT = b'file_name,pitch,kind\na.wav,1.5,"x, y"\nb.wav,2,z\nc.wav,,z\n'

    def make(self) -> list[bytes]:
        return [self.TEXT]

    def read(self) -> Any:
        from mapix.vimh.parameter_table import read_table

        read_table(self.path)


class SoundLines(SoundTable):
    """The same as lines of JSON."""

    name, file = "sound-lines", "t.jsonl"
    TEXT = b'{"file_name": "a.wav", "pitch": 1.5}\n{"file_name": "b.wav", "kind": "z"}\n'


class FolderTable(Parser):
    """The table of an image folder as CSV."""

    name, file = "folder-csv", "metadata.csv"

    def make(self) -> list[bytes]:
        return [b'file_name,label,n\na.png,x,1\nb.png,"y, z",2\n']

    def read(self) -> Any:
        with mapix.open(self.folder) as ds:
            list(ds.columns)
            [ds[i] for i in range(len(ds))]


class YoloLabels(Parser):
    """Labels of a picture in YOLO's format."""

    name, file = "yolo-labels", "labels/a.txt"

    def make(self) -> list[bytes]:
        for place in ("images", "labels"):
            (self.folder / place).mkdir()
        (self.folder / "images" / "a.png").write_bytes(b"")
        (self.folder / "data.yaml").write_text("names: [x, y]\n")
        return [b"0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.2 0.1 0.2 0.4\n"]

    def read(self) -> Any:
        with mapix.open(self.folder) as ds:
            list(ds.columns)
            [ds[i] for i in range(len(ds))]


class YoloNames(YoloLabels):
    """Names of classes in YOLO's YAML."""

    name, file = "yolo-yaml", "data.yaml"

    def make(self) -> list[bytes]:
        (seed,) = super().make()
        (self.folder / "labels" / "a.txt").write_bytes(seed)
        return [b"names: [x, y]\n", b"path: .\nnames:\n  0: x\n  1: 'y z'\n", b"names:\n- x\n- y\n"]


class Condition(Parser):
    """Conditions on columns, as ``ds.where`` takes them."""

    name, file = "condition", "text"

    def make(self) -> list[bytes]:
        from mapix.columns import Column

        self.columns = {name: Column(name, np.arange(5.0) * k) for k, name in enumerate("ab")}
        return [b"a > 1 and not b < 2", b"a != 1 or 0 < b <= 3.5", b"-a + 2 * b == 4"]

    def read(self) -> Any:
        from mapix.expression import evaluate

        evaluate(self.path.read_bytes().decode("latin-1"), self.columns)

    def named(self, message: str) -> bool:
        return True  # an argument, not a file


def parsers() -> Iterator[tuple[str, Callable[[Path], Parser]]]:
    """Yield name and class of each."""
    kinds: list[type[Parser]] = [Parser]
    for kind in kinds:
        kinds += kind.__subclasses__()
        if kind.name:
            yield kind.name, kind
