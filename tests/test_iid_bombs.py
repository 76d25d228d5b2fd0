"""A small archive costs little, whatever it says: work and memory are counted.

Worse is searched for.  Gate: 1 MiB costs at most a second and 64 MB.  Work is counted as basic
blocks of the core (tests/c/work_iid.c); a billion of them take about a second.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

import mapix
import mapix.iid
from hostile_iid import BOXES, COUNTS, SIDES, TABLES, Shape, archive
from mapix.iid import Writer, coco
from test_c_harness import CORE, FLAGS, HERE, compiler, run

MIB = 1 << 20
FIXED = 1 << 22  # blocks, or 64 MB cleared, whatever the file is
PER_BYTE = 1 << 10  # blocks: a billion per MiB
OVERSHOOT = 1 << 28  # of one call, after which overlaps are ended
NBYTES = 12_000  # of the files that are tried
TRIES, ROUNDS = 12, 3


@pytest.fixture(scope="module")
def counter(tmp_path_factory) -> Path:
    """The core, built so that it counts what it does."""
    out = tmp_path_factory.mktemp("work") / "work_iid"
    flags = ["-fsanitize-coverage=trace-pc", "-fno-builtin-memset", "-Wl,--wrap=memset"]
    names = ("iid_*.c", "coco.c", "tree.c", "guard.c", "simd.c")
    sources = [HERE / "c" / "work_iid.c", *(p for n in names for p in sorted(CORE.glob(n)))]
    command = [*compiler(), *FLAGS, *flags, *map(str, sources), "-lm", "-lpthread", "-o", str(out)]
    done = run(command, 120)
    if done.returncode and "sanitize" in done.stderr:
        pytest.skip("a compiler without -fsanitize-coverage=trace-pc")
    assert done.returncode == 0, done.stderr
    return out


def work(counter: Path, folder: Path, shapes: list[Shape]) -> list[dict[str, int]]:
    paths = []
    for i, shape in enumerate(shapes):
        paths.append(folder / f"{i}.iid")
        paths[-1].write_bytes(archive(shape))
    done = run([str(counter), *map(str, paths)], 300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(shapes)
    return [{k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)} for line in lines]


def check_work(found: dict[str, int], nbytes: int, shape: object) -> None:
    told = found.pop("overlaps_told")
    assert told < (MIB << 10) + OVERSHOOT, shape
    assert found.pop("overlaps") < 2 * told + FIXED, shape  # what is told is what is done
    for name, blocks in found.items():
        assert not name.endswith("status"), (shape, name)
        assert blocks < FIXED + PER_BYTE * nbytes, (shape, name, blocks)


@pytest.mark.slow
def test_nothing_takes_more_work_than_its_bytes_allow(counter, tmp_path):
    """Shapes at random, then neighbours of the worst one of each function."""
    rng = random.Random(1)
    worst: dict[str, tuple[int, Shape]] = {}
    shapes = [Shape.any(rng, NBYTES) for _ in range(TRIES)]
    for _ in range(ROUNDS):
        for shape, found in zip(shapes, work(counter, tmp_path, shapes), strict=True):
            for name, blocks in found.items():
                if blocks > worst.get(name, (-1,))[0]:
                    worst[name] = blocks, shape
            check_work(found, NBYTES, shape)
        shapes = [shape.mutated(rng) for _, shape in worst.values()]
    assert len(worst) > 14
    assert worst["count"][0] > NBYTES  # the search finds work


@pytest.mark.slow
def test_the_worst_that_was_ever_found(counter, tmp_path):
    """Each was hundreds of times too much once."""

    def shape(box, n, side, place, order=0):
        places = list(TABLES["place"])
        numbers = BOXES.index(box), COUNTS.index(n), SIDES.index(side), places.index(place)
        return Shape(NBYTES, *numbers, 1, order)

    whole, page = (0, 0, 65535, 65535), (0, 0, 8192, 4096)
    shapes = [
        shape(whole, 2, (1, 1), "column"),  # rows of a strip, for run lengths
        shape(whole, 100_000, (1, 1), "diagonal", 1),  # regions, for each row
        shape(whole, 0, (1, 1), "same"),  # rows of boxes, to count in; tiles to paint
        shape(page, 3, (300, 2), "diagonal", 1),  # bitmaps cleared for each pair
        shape(page, 2, (1, 1), "corners"),  # canvases, for each that is combined
        shape((0, 0, 1, 1), 1, (1, 1), "same"),  # all pairs share their pixel
    ]
    for one, found in zip(shapes, work(counter, tmp_path, shapes), strict=True):
        check_work(found, NBYTES, one)


# --- memory ---------------------------------------------------------------------------------------

IMAGE = 4 * 64 * MIB  # an int32 image of 64 Mi pixels: what SECURITY.md excepts
READS = {
    "meta": lambda a: a.meta,
    "groups": lambda a: {k: len(v) for k, v in a.groups.items()},
    "groups_of": lambda a: a.groups.of(0),
    "name": lambda a: [a.name(k) for k in range(min(len(a), 50))],
    "names": lambda a: a.names(),
    "domains": lambda a: a.domains,
    "duplicates": lambda a: a.duplicates(),
    "find": lambda a: a.find("x", "y"),
    "find_iid": lambda a: a.find(iid="x"),
    "bboxes": lambda a: a.bboxes,
    "areas": lambda a: a.areas,
    "counts": lambda a: a.counts(),
    "masks": lambda a: a.masks(),
    "mask": lambda a: a[0].mask(),
    "regions": lambda a: len(a[0].regions),
    "centroid": lambda a: a[0].centroid,
    "perimeter": lambda a: a[0].perimeter,
    "polygon": lambda a: a[0].polygon(),
    "union": lambda a: a.union(a.keys),
    "intersection": lambda a: a.intersection(a.keys),
    "difference": lambda a: a.difference(a.keys),
    "overlaps": lambda a: a.overlaps(),
    "at": lambda a: a.at(3, 3),
    "region": lambda a: a.region((0, 0, 65535, 65535)),
    "rle": lambda a: a.coco_rle(),
    "table": lambda a: a.table(),
    "verify": lambda a: a.verify(),
    "paint": lambda a: a.paint(),
    "label_map": lambda a: mapix.iid.label_map(a),
    "select": lambda a: a.select(area=(1, None), bbox=(0, 0, 9, 9), domains="x").keys,
}
OF_ONE = ("mask", "regions", "centroid", "perimeter", "polygon", "groups_of")


def peak_of(path: Path, read) -> int:
    """Bytes that Python and numpy held at most; what is refused is refused by name."""
    a = mapix.open(path, format="iid")
    tracemalloc.start()
    try:
        with warnings.catch_warnings(), contextlib.suppress(mapix.MapixError):
            warnings.simplefilter("ignore", mapix.MapixWarning)
            read(a)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def joined(sections: dict[str, bytes]) -> bytes:
    """A file of five sections."""
    places, at, out = [], 48, b""
    for name in ("lut", "iids", "meta", "groups", "segs"):
        part = sections.get(name, {"meta": b"{}", "groups": b"\2\0\0\0[]"}.get(name, b""))
        places += [at, len(part)]
        at += len(part)
        out += part
    return struct.pack("<12I", 0, 0, *places) + out


def names_that_overlap(n: int, pad: int) -> bytes:
    """Each name goes on to the end of the section."""
    iids, lut, segs = bytearray(12 * n + pad), b"", b""
    for k in range(n):
        room = len(iids) - 12 * k - 12
        struct.pack_into("<3I", iids, 12 * k, k, room // 2, room - room // 2)
        lut += struct.pack("<5I", k, 12 * k, room + 12, 16 * k, 16)
        segs += struct.pack("<I4HI", k, 0, 0, 0, 0, 0)
    return joined({"lut": lut, "iids": bytes(iids), "segs": segs})


def groups_that_overlap(n: int, nkeys: int) -> bytes:
    """All groups are the same keys."""
    listed = [{"name": f"g{i}", "offset": 0, "length": 4 * nkeys} for i in range(n)]
    text = json.dumps(listed).encode()
    segs = struct.pack("<I4HI", 0, 0, 0, 1, 1, 0)
    return joined(
        {
            "lut": struct.pack("<5I", 0, 0, 12, 0, len(segs)),
            "iids": struct.pack("<3I", 0, 0, 0),
            "groups": struct.pack("<I", len(text)) + text + bytes(4 * nkeys),
            "segs": segs,
        }
    )


def json_of(meta: bytes) -> bytes:
    return joined({"meta": meta})


def segments_that_overlap(n: int) -> bytes:
    """Segment k has k bytes for a region, for its key is that region's length in the one before."""
    heads = [struct.pack("<I4HI", k, 0, 0, 65535, 65535, 0) for k in range(n)]
    lut = b"".join(struct.pack("<5I", k, 12 * k, 12, 16 * k, 16 * (n - k)) for k in range(n))
    iids = b"".join(struct.pack("<3I", k, 0, 0) for k in range(n))
    return joined({"lut": lut, "iids": iids, "segs": b"".join(heads)})


FILES = {
    "names": lambda: names_that_overlap(10_000, 500_000),
    "few long names": lambda: names_that_overlap(100, 1_000_000),
    "groups": lambda: groups_that_overlap(8000, 100_000),
    "segments": lambda: segments_that_overlap(20_000),
    "lists": lambda: json_of(b'{"a":[' + b"[]," * 340_000 + b"[]]}"),
    "objects": lambda: json_of(b'{"a":[' + b"{}," * 340_000 + b"{}]}"),
    "numbers": lambda: json_of(b'{"a":[' + b"999," * 250_000 + b"1]}"),
    "digits": lambda: json_of(b'{"a":' + b"9" * 1_000_000 + b"}"),
    "depth": lambda: json_of(b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}"),
    "long": lambda: json_of(b'{"a":"' + b"x" * (17 << 20) + b'"}'),
    "image": lambda: json_of(b'{"image":{"width":65535,"height":65535}}'),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_files_that_say_the_same_many_times_take_little_memory(tmp_path, name):
    path = tmp_path / "x.iid"
    path.write_bytes(FILES[name]())
    for what, read in READS.items():
        if what in OF_ONE and path.read_bytes()[12:16] == bytes(4):
            continue  # there is no segment
        peak = peak_of(path, read)
        assert peak < 64 * MIB, (what, peak >> 20)


@pytest.mark.slow
def test_shapes_take_little_memory(tmp_path):
    rng = random.Random(3)
    path = tmp_path / "x.iid"
    for k in range(4):
        shape = Shape.any(rng, MIB if k < 1 else MIB // 8)
        path.write_bytes(archive(shape))
        for what, read in READS.items():
            image = IMAGE * 2 if what in ("paint", "label_map") else 0
            peak = peak_of(path, read)
            assert peak < 64 * MIB + image, (shape, what, peak >> 20)


@pytest.mark.parametrize(
    ("meta", "complaint"),
    [
        (b'{"a":1,"a":2}', "'a' comes twice"),
        (b'{"b":{"a":1,"c":1,"a":1}}', "'a' comes twice"),
        (b'{"a":NaN}', "NaN is not a finite"),
        (b'{"a":[-Infinity]}', "not a finite"),
        (b'{"a":1e999}', "1e999 is not a finite"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_json_that_is_refused(tmp_path, meta, complaint):
    (tmp_path / "x.iid").write_bytes(json_of(meta))
    with pytest.raises(mapix.FormatError, match=complaint):
        _ = mapix.open(tmp_path / "x.iid").meta
    listed = b'[{"name":"g","offset":0,"length":0,"more":' + meta + b"}]"
    data = joined({"groups": struct.pack("<I", len(listed)) + listed})
    (tmp_path / "y.iid").write_bytes(data)
    with pytest.raises(mapix.FormatError, match=complaint):
        _ = mapix.open(tmp_path / "y.iid").groups["g"]


def test_limits_of_sharing_are_where_they_are_said_to_be(tmp_path):
    """Four times the section, and 1 MiB: both from both sides."""
    for pad, n, good in ((300_000, 4, True), (300_000, 5, False), (100, 50, True)):
        (tmp_path / "x.iid").write_bytes(names_that_overlap(n, pad))
        a = mapix.open(tmp_path / "x.iid")
        if good:
            assert len(a.names()) == n
        else:
            for read in (a.names, lambda a=a: a.domains, lambda a=a: a.find("x", "y")):
                with pytest.raises(mapix.LimitError, match="names of .* share bytes"):
                    read()
            assert any("share bytes" in p for p in a.verify().problems)
    for n, good in ((4, True), (5, False)):
        (tmp_path / "g.iid").write_bytes(groups_that_overlap(n, 300_000))
        a = mapix.open(tmp_path / "g.iid")
        if good:
            assert len(a.groups["g3"]) == 300_000
        else:
            with pytest.raises(mapix.LimitError, match="groups of .* share bytes"):
                len(a.groups)


def test_names_of_few_segments_are_limited_by_their_own_rows(tmp_path):
    """The other rows are not read, unless the names are long."""
    path = tmp_path / "x.iid"
    with Writer(path) as out:
        for k in range(100):
            out.add("d", f"{k:03}", mask=np.ones((2, 2), bool), at=(0, 0))
    want = mapix.open(path).names([7, 3, 7])
    assert want == [(b"d", b"007"), (b"d", b"003"), (b"d", b"007")]
    data = bytearray(path.read_bytes())
    at = int.from_bytes(data[8:12], "little") + 20 * 50
    data[at] ^= 1  # the key of another row
    path.write_bytes(data)
    a = mapix.open(path)
    assert a.names([7, 3, 7]) == want
    for keys in ([50], None, range(7)):
        with pytest.raises(mapix.FormatError):
            a.names(keys)
    path.write_bytes(names_that_overlap(100, 300_000))
    with pytest.raises(mapix.LimitError, match="names of .* share bytes"):
        mapix.open(path).names([7, 3, 7])


def test_run_lengths_of_a_huge_mask(tmp_path):
    rle = {"size": [60000, 60000], "counts": [0, 3_600_000_000]}
    with pytest.raises(mapix.LimitError, match="most_pixels=3600000000"):
        coco.decode(rle)
    with Writer(tmp_path / "x.iid") as out:
        with pytest.raises(mapix.LimitError, match="most_pixels"):
            out.add("d", "i", rle=rle)
        assert len(out) == 0
        with pytest.raises(mapix.LimitError):
            coco.decode({"size": [10, 10], "counts": [0, 100]}, most_pixels=99)
        mask, box = coco.decode({"size": [10, 10], "counts": [0, 100]}, most_pixels=100)
        assert mask.all()
        assert box == (0, 0, 10, 10)
        big, _ = coco.decode({"size": [9000, 9000], "counts": [9000 * 8999, 9000]})
        assert big.shape == (9000, 1)
    for text in (b"o" * MIB, b"0" * MIB, b"P`" * (MIB // 2)):
        tracemalloc.start()
        with pytest.raises(ValueError, match="counts"):
            coco.decode({"size": [5, 5], "counts": text})
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
        tracemalloc.stop()


def test_too_many_pairs_are_refused_also_across_archives(tmp_path, monkeypatch):
    shape = Shape(30_000, BOXES.index((0, 0, 1, 1)), 1, 0, 0, 1, 0)
    (tmp_path / "x.iid").write_bytes(archive(shape))
    a = mapix.open(tmp_path / "x.iid")
    n = int((a.counts() > 0).sum())
    assert len(a.overlaps()) == n * (n - 1) // 2
    both = mapix.open([tmp_path / "x.iid", tmp_path / "x.iid"])
    assert len(both.overlaps()) == n * (2 * n - 1)
    monkeypatch.setattr("mapix.iid.pixel_queries.PAIRS_PER_MIB", 1000)
    for one in (a, both):
        with pytest.raises(mapix.LimitError, match="fewer keys"):
            one.overlaps()
        assert len(one.overlaps(np.arange(40))) == 40 * 39 // 2
    monkeypatch.undo()
    monkeypatch.setattr("mapix.iid.pixel_queries.WORK_NS_PER_BYTE", 0)
    for one in (a, both):
        with pytest.raises(mapix.LimitError, match="too many boxes"):
            one.overlaps()
