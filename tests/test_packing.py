"""Records that writers get one by one: their bytes and errors, by C and by Python."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapix
from mapix.store import SYSTEM, NewFile
from mapix.vimh import Parameter, layout, packing
from mapix.vimh.packing import Packer
from records import needs_c

PARAMETERS = [
    Parameter("note", 0, min=50, max=52.3, step=0.1),
    Parameter("kind", 1, min=0, max=9, num_classes=10, direct=True),
    Parameter("still", 2, min=4, max=4),
    Parameter("turned", 3, min=9, max=-9),
]


class Kept(Packer):
    """A writer that keeps what it would write."""

    def __init__(self, **options: Any) -> None:
        self.written: list[Any] = []
        super().__init__(PARAMETERS, **options)

    def _put(self, block: Any, shapes: Any, n: int, split: str | None) -> None:
        self.written.append((bytes(block), [tuple(shape) for shape in shapes], n, split))


def outcome(fast: Any, dialect: int, strict: bool, *args: Any, **options: Any) -> Any:
    """What a writer makes of a call of ``append``, and whether it warned."""
    packer, before = Kept(dialect=dialect, strict=strict), packing.fast
    packing.fast = fast
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always", mapix.MapixWarning)
            try:
                packer.append(*args, **options)
            except (ValueError, TypeError, OverflowError) as e:
                return type(e), str(e), packer.written
            return packer.written, [
                str(w.message) for w in found if w.category is mapix.MapixWarning
            ]
    finally:
        packing.fast = before


floats = st.floats(allow_nan=True, allow_infinity=True)
near = st.floats(-10, 60)
kinds = st.sampled_from([float, np.float64, np.float32, np.int64, np.uint8, int, bool, str])


@st.composite
def values(draw: Any) -> Any:
    value = draw(st.one_of(near, near, near, floats, st.integers(-1, 300), st.none()))
    if value is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return draw(kinds)(value)
    except (ValueError, OverflowError):
        return value


@st.composite
def images(draw: Any) -> Any:
    h, w = draw(st.tuples(st.integers(0, 9), st.sampled_from([1, 5, 16, 17, 40])))
    c = draw(st.sampled_from([None, 0, 1, 2, 3, 3, 3, 4]))
    made = np.random.default_rng(h * w).integers(0, 256, (h, w, c or 1), dtype=np.uint8)
    if c is None:
        made = made[:, :, 0]
    how = draw(st.sampled_from(["", "planes", "step", "back", "list", "int", "deep"]))
    if how == "planes" and c:
        made = np.ascontiguousarray(np.repeat(made, c, 2).transpose(2, 0, 1)).transpose(1, 2, 0)
    elif c is not None:
        made = np.repeat(made, c, 2)
    made = {"step": made[::2, ::2], "back": made[::-1, ::-1], "deep": made[None]}.get(how, made)
    return made.tolist() if how == "list" else made.astype(int) if how == "int" else made


names = st.sampled_from(["note", "kind", "still", "turned", "unknown"])
labels = st.one_of(st.none(), st.dictionaries(names, values(), max_size=5))
complete = st.fixed_dictionaries(
    {"note": st.floats(50, 52), "kind": st.integers(0, 9), "still": st.just(4), "turned": values()}
)
ranges = st.one_of(st.tuples(near, near), st.tuples(floats, floats), st.just([-80.0, 0.0]))


@needs_c
@settings(max_examples=120, deadline=None)
@given(
    images(), st.one_of(labels, complete), labels, ranges, st.sampled_from([6, 14]), st.booleans()
)
def test_c_and_python_pack_the_same(
    image: Any, labels: Any, codes: Any, spec: Any, dialect: int, strict: bool
) -> None:
    with np.errstate(all="ignore"):
        how: dict[str, Any] = {"codes": codes, "spec_range": spec}
        assert packing.fast is not None
        ours = outcome(packing.fast, dialect, strict, image, labels, **how)
        assert ours == outcome(None, dialect, strict, image, labels, **how)


@needs_c
@pytest.mark.parametrize(("note", "code"), [(49.9, 0), (50.0, 0), (52.3, 255), (52.31, 255)])
def test_values_at_the_ends_of_a_range(note: float, code: int) -> None:
    """Outside of it, a value is clipped with a warning, or refused by ``strict``."""
    image, labels = np.ones((1, 1, 1), "u1"), {"note": note, "still": 4}
    codes = {"kind": 3, "turned": None}  # plain ones, so that C packs what lies inside
    outside = not 50 <= note <= 52.3
    for strict in (False, True):
        ours = outcome(packing.fast, 6, strict, image, labels, codes=codes)
        assert ours == outcome(None, 6, strict, image, labels, codes=codes)
        if strict and outside:
            assert ours[0] is ValueError
        else:
            ((record, *_),), said = ours
            assert record[:9] == bytes([1, 0, 1, 0, 1, 0, 3, 0, code])
            assert len(said) == outside


@needs_c
@pytest.mark.parametrize("dialect", [6, 14])
@pytest.mark.parametrize("shape", [(4, 17, 3), (1, 1, 1), (5, 40, 3), (3, 2, 4), (7, 9)])
def test_bytes_of_a_plain_record(dialect: int, shape: tuple[int, ...]) -> None:
    """In C, without a call of the Python code: header, labels in the order of ids, planes."""
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    packer = Kept(dialect=dialect)
    packer._columns = None  # type: ignore[assignment, method-assign]
    packer.append(
        *(image, {"note": 51.0, "still": 4}),
        codes={"kind": 7, "turned": None},
        spec_range=(-80, 1.5),
    )
    h, w, c = (*shape, 1)[:3]
    spec = np.array([-80, 1.5], "<f4").tobytes() if dialect == 14 else b""
    pairs = bytes([3, 0, int(1 / 2.3 * 255), 1, 7, 2, 0])
    planes = image.reshape(h, w, c).transpose(2, 0, 1).tobytes()
    head = np.array([h, w, c], "<u2").tobytes() + spec
    assert packer.written == [(head + pairs + planes, [(h, w, c)], 1, None)]


def test_records_one_by_one_are_those_of_a_block(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (500, 8, 20, 3), dtype=np.uint8)
    codes = {p.name: rng.integers(0, 256, 500, dtype=np.uint8) for p in PARAMETERS}
    with mapix.vimh.Writer(tmp_path / "block", PARAMETERS) as out:
        out.extend(images, codes=codes, spec_range=(-1, 2))
    with mapix.vimh.Writer(tmp_path / "single", PARAMETERS) as out:
        for k in range(250):
            out.append(images[k], codes={n: c[k] for n, c in codes.items()}, spec_range=(-1, 2))
    with mapix.vimh.Appender(tmp_path / "single") as more:
        buffer = np.empty_like(images[0])
        for k in range(250, 500):
            buffer[...] = images[k]  # a writer keeps no reference to what it got
            more.append(buffer, codes={n: int(c[k]) for n, c in codes.items()}, spec_range=(-1, 2))
            assert more._new == k - 249
    for name in ("train", "vimh_dataset_info.json"):
        block, single = ((tmp_path / d / name).read_bytes() for d in ("block", "single"))
        assert block == single.replace(b'"dataset_name": "single"', b'"dataset_name": "block"')


@pytest.mark.parametrize("room", [1, 7, 64])
def test_small_writes_are_collected(tmp_path: Path, room: int) -> None:
    out = NewFile(str(tmp_path / "f"), SYSTEM, room)
    pieces = [bytes([k]) * (k * 7 % 23) for k in range(100)]
    for k, piece in enumerate(pieces):
        out.write((bytes, bytearray, memoryview)[k % 3](piece))
    assert out.nbytes == sum(map(len, pieces))
    out.finish()
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)


@needs_c
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 4)), max_size=8),
    st.integers(0, 5),
    st.booleans(),
    st.integers(0, 99),
)
def test_blocks_of_mixed_sizes(shapes: Any, heads: int, with_spec: bool, seed: int) -> None:
    """In C and in Python: bytes of records, and images as (h, w, c) each."""
    rng, n = np.random.default_rng(seed), len(shapes)
    each = np.array(shapes, np.uint16).reshape(n, 3)
    pixels = rng.integers(0, 256, int(each.astype(int).prod(axis=1).sum()), dtype=np.uint8)
    ids = rng.permutation(256)[:heads].astype(np.uint8)
    codes = rng.integers(0, 256, (n, heads), dtype=np.uint8)
    present = rng.integers(0, 2, (n, heads)).astype(bool)
    spec = rng.normal(size=(n, 2)).astype(np.float32) if with_spec else None
    made = layout.fast.pack_flat(pixels, each, ids, codes, present, spec)
    want, images, at = b"", b"", 0
    for i, (h, w, c) in enumerate(shapes):
        planes = pixels[at : at + h * w * c]
        at += h * w * c
        pairs = [(int(ids[k]), int(codes[i, k])) for k in range(heads) if present[i, k]]
        want += np.array([h, w, c], "<u2").tobytes() + (b"" if spec is None else spec[i].tobytes())
        want += bytes([len(pairs), *(number for pair in pairs for number in pair)])
        want += planes.tobytes()
        images += planes.reshape(c, h, w).transpose(1, 2, 0).tobytes()
    assert made.tobytes() == want
    assert layout.fast.interleaved(pixels, each).tobytes() == images
    for wrong in (pixels[1:], pixels.astype(int), np.append(pixels, [1]).astype(np.uint8)):
        if n:
            assert layout.fast.interleaved(wrong, each) is None
            assert layout.fast.pack_flat(wrong, each, ids, codes, present, spec) is None
    assert layout.fast.pack_flat(pixels, each, ids, codes.T, present[:-1], spec) is None or not n


def test_python_packs_blocks_as_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    shapes = rng.integers(1, 9, (30, 3)).astype(np.uint16)
    pixels = rng.integers(0, 256, int(shapes.astype(int).prod(axis=1).sum()), dtype=np.uint8)
    args: Any = (pixels, shapes, np.arange(5, dtype=np.uint8))
    args += (rng.integers(0, 256, (30, 5), dtype=np.uint8), rng.integers(0, 2, (30, 5)) == 1, None)
    found = layout.pack_flat(*args)
    monkeypatch.setattr(layout, "fast", None)
    assert found.tobytes() == layout.pack_flat(*args).tobytes()
    ids, codes = np.arange(256, dtype=np.uint8), np.zeros((1, 256), np.uint8)
    one = np.ones((1, 3), np.uint16)
    with pytest.raises(ValueError, match="a record of 256 labels; the format holds 255"):
        layout.pack_flat(pixels[:1], one, ids, codes, codes == 0, None)
