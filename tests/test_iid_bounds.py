"""Every bound of the parsers of archives, hit at its edge from both sides.

Archives are built with true lengths; then one length, offset, box or key is moved, or bytes are put
in or taken out with all lengths around them following.  What a slow reader refuses, each question
that looks at it has to refuse; what it takes, all of them answer as it does.
"""

from __future__ import annotations

import mmap
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

import mapix
import mapix.iid
import slow_iid
from mapix import _native
from mapix.iid import coco

LEVELS = range(_native.simd() + 1)
IMAGE = (0, 0, 40, 40)
REFUSED = (mapix.FormatError, mapix.LimitError)


@dataclass
class Region:
    box: tuple[int, int, int, int]
    bits: bytes
    longer: int = 0  # what its length says beyond the truth

    def pack(self) -> bytes:
        length = 12 + len(self.bits) + self.longer
        return struct.pack("<I4H", length & 0xFFFFFFFF, *self.box) + self.bits


@dataclass
class Segment:
    box: tuple[int, int, int, int]
    regions: list[Region]
    name: tuple[bytes, bytes] = (b"d", b"n")
    tail: bytes = b""  # after the regions
    head: dict = field(default_factory=dict)  # key=, area=
    row: dict = field(default_factory=dict)  # what the lookup row says beyond the truth
    name_longer: tuple[int, int] = (0, 0)
    name_key: int = 0

    def pack(self, key: int) -> bytes:
        body = b"".join(r.pack() for r in self.regions) + self.tail
        key_said = key + self.head.get("key", 0)
        return struct.pack("<I4HI", key_said & 0xFFFFFFFF, *self.box, 9) + body


def region(r: int, c: int, h: int, w: int, fill: int = 0xA5) -> Region:
    bits = np.frombuffer(bytes([fill]) * ((h * w + 7) // 8), np.uint8).copy()
    if h * w % 8 and len(bits):
        bits[-1] &= 0xFF << (8 - h * w % 8) & 0xFF
    return Region((r, c, r + h, c + w), bits.tobytes())


def segments() -> list[Segment]:
    return [
        Segment((1, 2, 7, 13), [region(1, 2, 6, 11)], (b"d", b"one")),
        Segment((3, 3, 20, 30), [region(3, 3, 2, 5), region(10, 9, 8, 9), region(19, 29, 1, 1)]),
        Segment((5, 5, 5, 9), [region(5, 5, 0, 4)], (b"", b"")),
        Segment((2, 4, 6, 8), [region(2, 4, 4, 4, 0xFF)], (b"dd", b"last")),
    ]


def build(parts: list[Segment], groups: bytes | None = None, sections: dict | None = None) -> bytes:
    """The file.  ``sections``: what the header says beyond the truth, name -> (offset, length)."""
    lut, names, segs = b"", b"", b""
    for key, s in enumerate(parts):
        domain, iid = s.name
        made = s.pack(key)
        said = {"key": key, "name_at": len(names), "name_nbytes": 12 + len(domain) + len(iid)}
        said |= {"at": len(segs), "nbytes": len(made)}
        lut += struct.pack("<5I", *((v + s.row.get(k, 0)) & 0xFFFFFFFF for k, v in said.items()))
        longer = s.name_longer
        lengths = len(domain) + longer[0], len(iid) + longer[1]
        names += struct.pack("<3I", key + s.name_key, *(v & 0xFFFFFFFF for v in lengths))
        names += domain + iid
        segs += made
    text = b'[{"name":"g","offset":0,"length":8},{"name":"h","offset":8,"length":4}]'
    given = struct.pack("<I", len(text)) + text + struct.pack("<3I", 0, 3, 1)
    content = {
        "lut": lut,
        "iids": names,
        "meta": b'{"a":1}',
        "groups": groups or given,
        "segs": segs,
    }
    head, at = [0, 0], 48
    for name, part in content.items():
        more_at, more = (sections or {}).get(name, (0, 0))
        head += [at + more_at, len(part) + more]
        at += len(part)
    return struct.pack("<12I", *(v & 0xFFFFFFFF for v in head)) + b"".join(content.values())


# --- questions, by what they look at --------------------------------------------------------------

ROWS: dict[str, Callable] = {
    "bboxes": lambda a: a.bboxes,
    "areas": lambda a: a.areas,
    "tree": lambda a: a.region(IMAGE, exact=False),
}
NAMES: dict[str, Callable] = {
    "names": lambda a: a.names(),
    "name": lambda a: [a.name(k) for k in range(len(a))],
    "domains": lambda a: a.domains,
    "find": lambda a: a.find("d", "nobody"),
    "find_iid": lambda a: a.find(iid="n"),
    "duplicates": lambda a: a.duplicates(),
}
REGIONS: dict[str, Callable] = {
    "masks": lambda a: a.masks(),
    "mask": lambda a: [a[k].mask() for k in range(len(a))],
    "mask_window": lambda a: [a[k].mask(IMAGE) for k in range(len(a))],
    "regions": lambda a: [r.mask() for k in range(len(a)) for r in a[k].regions],
    "counts": lambda a: a.counts(),
    "select": lambda a: a.select(bbox=IMAGE).keys,
    "at": lambda a: a.at(5, 5),
    "region": lambda a: a.region(IMAGE),
    "depth": lambda a: a.paint(bbox=IMAGE, depth=True),
    "union": lambda a: a.union(a.keys, IMAGE),
    "intersection": lambda a: a.intersection(a.keys, IMAGE),
    "difference": lambda a: a.difference(a.keys, IMAGE),
    "overlaps": lambda a: a.overlaps(),
    "shared": lambda a: a._bits.shared(a.keys, a.keys[::-1].copy()),
    "rle": lambda a: a.coco_rle(size=(65535, 65535)),
}
BY_PLACE = ("select", "at", "region", "depth", "overlaps")
NO_PIXELS = 2
GROUPS: dict[str, Callable] = {"groups": lambda a: {k: list(v) for k, v in a.groups.items()}}


def refuses(path, ask) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mapix.MapixWarning)
        try:
            ask(mapix.open(path, format="iid"))
        except REFUSED as e:
            told = str(e)
        else:
            return False
    return str(path) in told


def check(tmp_path, data: bytes, wrong: tuple[dict, ...]) -> None:
    """Those questions refuse, all others answer; the slow reader agrees."""
    path = tmp_path / "x.iid"
    path.write_bytes(data)
    slow = slow_iid.read(data)
    assert (slow is None) == bool(wrong)
    for kind in (ROWS, NAMES, REGIONS, GROUPS):
        for name, ask in kind.items():
            assert refuses(path, ask) == (kind in wrong), (name, kind in wrong)
    if not wrong:
        answers(path, slow)


def answers(path, slow) -> None:
    """All pixels, names and groups are those of the slow reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mapix.MapixWarning)
        a = mapix.open(path, format="iid")
        found, _, groups = slow
        canvases = np.array([s.canvas(40, 40) for s in found]).reshape(-1, 40, 40)
        assert [tuple(n) for n in a.names()] == [(s.domain, s.iid) for s in found]
        assert [m.tolist() for m in a.masks()] == [s.mask().tolist() for s in found]
        assert a.counts().tolist() == [int(s.mask().sum()) for s in found]
        assert {k: list(v) for k, v in a.groups.items()} == groups
        _, depth = a.paint(bbox=IMAGE, depth=True)
        assert (depth == canvases.sum(axis=0)).all()
        assert (a.union(a.keys, IMAGE)[0] == canvases.any(axis=0)).all()
        o = a.overlaps()
        flat = canvases.reshape(len(found), -1).astype(int)
        assert o.pixels.tolist() == [
            n for n in (flat @ flat.T)[np.triu_indices(len(found), 1)] if n
        ]


ALL = (ROWS, NAMES, REGIONS)  # a bad row of the lookup table is told whatever is asked for


def test_the_archive_itself_is_good(tmp_path):
    check(tmp_path, build(segments()), ())


def moved(k: int, **changes) -> list[Segment]:
    parts = segments()
    parts[k] = replace(parts[k], **changes)
    return parts


@pytest.mark.parametrize("k", [0, 1, 3])
def test_lengths_of_regions(tmp_path, k):
    """Cut a segment, its row and its section: its last region is longer than what is left."""
    full = segments()[k].regions
    for cut in (1, 2, 3):
        for which in range(len(full)):
            parts = segments()
            parts[k].regions[which] = replace(full[which], longer=cut)
            check(tmp_path, build(parts), (REGIONS,))
            parts[k].regions[which] = replace(full[which], longer=-cut)
            check(tmp_path, build(parts), (REGIONS,))
            parts[k].regions[which] = replace(full[which], bits=full[which].bits + bytes(cut))
            check(tmp_path, build(parts), (REGIONS,))  # a true length, not that of its box
        bits = full[-1].bits
        if len(bits) >= cut:
            short = replace(full[-1], bits=bits[: len(bits) - cut], longer=cut)
            parts = moved(k, regions=[*full[:-1], short])
            check(tmp_path, build(parts), (REGIONS,))  # right for its box, beyond its segment
    for size in (1, 4, 11):  # less than a head is left
        check(tmp_path, build(moved(k, tail=bytes(size))), (REGIONS,))
        head = region(*full[-1].box[:2], 0, 0).pack()
        check(tmp_path, build(moved(k, tail=head[:size])), (REGIONS,))
    exact = region(*full[-1].box[:2], 0, 0).pack()
    check(
        tmp_path, build(moved(k, tail=exact)), ()
    )  # a head of a region without pixels fits exactly
    check(tmp_path, build(moved(k, tail=exact + b"\0")), (REGIONS,))
    for length in (0, 11, 13, 0xFFFFFFFF):
        wrong = struct.pack("<I", length) + exact[4:]
        check(tmp_path, build(moved(k, tail=wrong)), (REGIONS,))


@pytest.mark.parametrize("k", [0, 1, 3])
def test_boxes_of_regions(tmp_path, k):
    """A side of the segment's box moves over a region that touches it."""
    full = segments()[k]
    tight = [min(r.box[s] for r in full.regions) for s in (0, 1)]
    tight += [max(r.box[s] for r in full.regions) for s in (2, 3)]
    for side in range(4):
        box = list(tight)
        check(tmp_path, build(moved(k, box=tuple(box))), ())
        outward = -1 if side < 2 else 1
        box[side] += outward
        check(tmp_path, build(moved(k, box=tuple(box))), ())
        box[side] -= 2 * outward
        upright = box[0] <= box[2] and box[1] <= box[3]
        check(tmp_path, build(moved(k, box=tuple(box))), (REGIONS,) if upright else ALL)
    upside = (full.box[2] + 1, full.box[1], full.box[2], full.box[3])
    path = tmp_path / "x.iid"
    path.write_bytes(build(moved(k, box=upside)))
    for ask in (*ROWS.values(), *REGIONS.values()):
        assert refuses(path, ask)
    r = full.regions[0]
    for box in ((r.box[2] + 1, *r.box[1:]), (r.box[0], r.box[3] + 1, *r.box[2:])):
        parts = moved(k, regions=[replace(r, box=box), *full.regions[1:]])
        check(tmp_path, build(parts), (REGIONS,))


@pytest.mark.parametrize("k", range(4))
def test_rows_of_the_table(tmp_path, k):
    """A segment, or a name, ends at the end of its section, or a byte beyond it; or has no head."""
    parts, data = segments(), build(segments())
    for what, section, size in (
        ("at", "segs", len(parts[k].pack(k))),
        ("name_at", "iids", 12 + sum(map(len, parts[k].name))),
    ):
        place = 40 if section == "segs" else 16
        nbytes = struct.unpack_from("<I", data, place + 4)[0]
        (at,) = struct.unpack_from("<I", data, 48 + 20 * k + (12 if what == "at" else 4))
        length = "nbytes" if what == "at" else "name_nbytes"
        least = 16 if what == "at" else 12
        for said in (0, 1, least - 1):
            check(tmp_path, build(moved(k, row={length: said - size})), ALL)
        if size > least:
            wrong = REGIONS if what == "at" else NAMES
            path = tmp_path / "x.iid"
            path.write_bytes(build(moved(k, row={length: -1})))
            for name, ask in wrong.items():  # nobody goes to a box without pixels for its pixels
                assert refuses(path, ask) or (k == NO_PIXELS and name in BY_PLACE), name
        to_end = nbytes - at - size  # what its length may grow by within the section
        path = tmp_path / "x.iid"
        path.write_bytes(build(moved(k, row={length: to_end})))
        assert not any(refuses(path, ask) for ask in ROWS.values())
        for beyond in (1, 2, 0xFFFFFFFF - nbytes):
            check(tmp_path, build(moved(k, row={length: to_end + beyond})), ALL)
            check(tmp_path, build(moved(k, row={what: to_end + beyond})), ALL)
    for off in (-1, 1, 256):
        check(tmp_path, build(moved(k, row={"key": off})), ALL)


@pytest.mark.parametrize("k", range(4))
def test_lengths_of_names(tmp_path, k):
    for longer in (
        (1, 0),
        (0, 1),
        (-1, 0),
        (0, -1),
        (2**32 - 1, 0),
        (0, 2**32 - 13),
        (2**31, 2**31),
    ):
        name = segments()[k].name
        if min(len(name[0]) + longer[0], len(name[1]) + longer[1]) < 0:
            continue
        check(tmp_path, build(moved(k, name_longer=longer)), (NAMES,))
    for longer in ((1, -1), (-1, 1)):  # the sum is right: another split of the same bytes
        name = segments()[k].name
        if min(len(name[0]) + longer[0], len(name[1]) + longer[1]) >= 0:
            check(tmp_path, build(moved(k, name_longer=longer)), ())
    for off in (1, 255):
        check(tmp_path, build(moved(k, name_key=off)), (NAMES,))
        path = tmp_path / "x.iid"
        path.write_bytes(build(moved(k, head={"key": off})))
        for ask in (*(v for n, v in ROWS.items()), *REGIONS.values()):
            assert refuses(path, ask)


def test_sections_end_where_the_file_does(tmp_path):
    data = build(segments())
    path = tmp_path / "x.iid"
    for name, spare in (
        ("lut", None),
        ("iids", None),
        ("meta", None),
        ("groups", None),
        ("segs", 0),
    ):
        k = ("lut", "iids", "meta", "groups", "segs").index(name)
        at, nbytes = struct.unpack_from("<2I", data, 8 + 8 * k)
        step = 20 if name == "lut" else 1
        most = (len(data) - at - nbytes) // step * step
        for more, good in ((most, True), (most + step, False), (2**32 - nbytes - step, False)):
            path.write_bytes(build(segments(), sections={name: (0, more)}))
            if name == "segs":
                assert spare == most
            if good:
                mapix.open(path, format="iid")
            else:
                with pytest.raises(mapix.FormatError, match=f"section {name}"):
                    mapix.open(path, format="iid")
        for off in (47 - at, len(data) - at - nbytes + 1):
            path.write_bytes(build(segments(), sections={name: (off, 0)}))
            with pytest.raises(mapix.FormatError, match=f"section {name}"):
                mapix.open(path, format="iid")
    for n in (47, 48):
        path.write_bytes(struct.pack("<12I", *[0] * 12)[:n])
        if n == 48:
            assert len(mapix.open(path, format="iid")) == 0
        else:
            with pytest.raises(mapix.FormatError, match="48 bytes"):
                mapix.open(path, format="iid")
    for cut in (1, 2, 19):
        path.write_bytes(build(segments(), sections={"lut": (0, -cut)}))
        with pytest.raises(mapix.FormatError, match="rows of 20"):
            mapix.open(path, format="iid")


def test_places_of_groups(tmp_path):
    def of(offset: int, length: int, nkeys: int = 3, longer: int = 0, key: int = 0) -> bytes:
        text = f'[{{"name":"g","offset":{offset},"length":{length}}}]'.encode()
        return struct.pack("<I", len(text) + longer) + text + struct.pack("<I", key) * nkeys

    for offset, length, good in (
        (0, 12, True),
        (0, 16, False),
        (0, 11, False),
        (8, 4, True),
        (9, 4, False),
        (8, 8, False),
        (12, 0, True),
        (13, 0, False),
        (1, 8, True),
        (-4, 4, False),
        (0, -4, False),
        (2**64, 4, False),
    ):
        check(tmp_path, build(segments(), of(offset, length)), () if good else (GROUPS,))
    for key, good in ((3, True), (4, False), (2**32 - 1, False)):
        check(tmp_path, build(segments(), of(0, 12, key=key)), () if good else (GROUPS,))
    empty = struct.pack("<I", 2) + b"[]"
    check(tmp_path, build(segments(), empty), ())
    for longer in (1, 2, 2**32 - 3):
        check(tmp_path, build(segments(), struct.pack("<I", 2 + longer) + b"[]"), (GROUPS,))
    for size in (1, 2, 3):
        check(tmp_path, build(segments(), bytes(size)), (GROUPS,))


# --- reading to the last byte of the map, and no further ------------------------------------------


def ends_with_a_page(parts: list[Segment]) -> bytes:
    """The same archive, its names so long that the file ends where a page does."""
    size = len(build(parts))
    first = replace(parts[0], name=(b"d", b"x" * (-size % mmap.PAGESIZE + len(parts[0].name[1]))))
    return build([first, *parts[1:]])


def shapes() -> Iterator[tuple[int, int]]:
    yield from ((1, w) for w in range(1, 75))
    yield from ((2, w) for w in (7, 8, 9, 55, 56, 57, 63, 64, 65, 119, 129))
    yield from ((h, w) for h in (3, 9, 65, 300) for w in (1, 3, 8, 57, 64, 70))


def test_what_is_cut_is_told_without_reading_on(tmp_path):
    """Less than a head, or less than its bits, is left at the end of the last page of the map.

    Whoever read a byte more would get an OSError from the guard, or tell of another region.
    """
    path = tmp_path / "x.iid"
    whole = region(1, 1, 3, 9, 0xFF)
    first = Segment((0, 0, 9, 9), [region(0, 0, 9, 9, 0xFF)])
    cases = []
    for cut in (1, 2, 3, 4):
        short = replace(whole, bits=whole.bits[: len(whole.bits) - cut], longer=cut)
        cases.append(([short], b"", len(whole.pack()), len(whole.pack()) - cut))
        cases.append(([whole, short], b"", len(whole.pack()), len(whole.pack()) - cut))
    cases += [([whole], whole.pack()[:n], 12, n) for n in range(1, 12)]
    for regions, tail, expected, found in cases:
        data = ends_with_a_page([first, Segment((0, 0, 9, 12), regions, tail=tail)])
        assert len(data) % mmap.PAGESIZE == 0
        path.write_bytes(data)
        at = len(data) - found
        for name, ask in REGIONS.items():
            with pytest.raises(mapix.FormatError) as e:
                ask(mapix.open(path))
            told = f"a region of {expected} bytes expected, {found} found"
            assert (e.value.record, e.value.at, told in str(e.value)) == (1, at, True), name


@pytest.mark.parametrize("level", LEVELS)
def test_the_last_region_ends_with_the_map(tmp_path, level):
    """A byte read beyond it is a page that is not there: the guard raises OSError."""
    best = _native.simd()
    _native.simd(level)
    path = tmp_path / "x.iid"
    try:
        for h, w in shapes():
            last = region(1, 2, h, w, 0xFF)
            box = (0, 0, h + 3, w + 3)
            for regions in ([last], [region(0, 0, 1, 1), last]):
                parts = [Segment((0, 0, 9, 9), [region(0, 0, 9, 9, 0xFF)]), Segment(box, regions)]
                data = ends_with_a_page(parts)
                assert len(data) % mmap.PAGESIZE == 0
                path.write_bytes(data)
                a = mapix.open(path)
                want = np.zeros((h + 3, w + 3), bool)
                for one in regions:
                    r, c, r2, c2 = one.box
                    bits = np.unpackbits(
                        np.frombuffer(one.bits, np.uint8), count=(r2 - r) * (c2 - c)
                    )
                    want[r:r2, c:c2] |= bits.reshape(r2 - r, c2 - c).astype(bool)
                assert (a[1].mask() == want).all()
                assert (a.masks()[1] == want).all()
                assert int(a.counts()[1]) == int(want.sum())
                for window in ((0, 0, h + 3, w + 3), (1, 2, 1 + h, 2 + w), (h, w, h + 1, w + 2)):
                    r, c, r2, c2 = window
                    here = want[r:r2, c:c2]
                    assert (a[1].mask(window) == here).all()
                    assert (a.paint([1], window) == np.where(here, 1, -1)).all()
                    assert (a.union([1], window)[0] == here).all()
                    assert (1 in a.region(window)) == bool(here.any())
                assert a.at(w + 1, h).tolist()[-1:] == [1]
                shared = int(want[:9, :9].sum())
                assert a.overlaps().pixels.tolist() == [shared]
                both = np.array([0], np.uint32), np.array([1], np.uint32)
                assert a._bits.shared(*both).tolist() == [shared]
                mask, at = coco.decode(a.coco_rle([1], (h + 3, w + 3))[0])
                assert (mask == want[at[0] : at[2], at[1] : at[3]]).all()
    finally:
        _native.simd(best)
