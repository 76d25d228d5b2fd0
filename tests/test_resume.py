"""Conversions in parts: by any map, or killed at any call of the system, the bytes are equal."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix import system_calls
from mapix._native import crc32c
from mapix.conversion import blocks, stream
from mapix.testing import in_other_processes
from mapix.vimh import Parameter, Writer


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    from mapix.iid import conversion

    monkeypatch.setattr(stream, "BLOCK_NBYTES", 200)
    monkeypatch.setattr(conversion, "BLOCK_SEGMENTS", 5)
    monkeypatch.setattr(conversion, "BLOCK_NBYTES", 400)


def vimh(folder: Path, *, mixed: bool = False, n: int = 40) -> Path:
    rng = np.random.default_rng(5)
    with Writer(folder, [Parameter("a", 0), Parameter("b", 1)]) as out:
        for i in range(n):
            codes = {"a": i} | ({"b": 3} if i % 3 else {})
            image = rng.integers(0, 256, (4 + mixed * (i % 3), 5, 2), np.uint8)
            out.append(image, codes=codes, spec_range=(-float(i), 1.0))
    return folder


def mixed(folder: Path) -> Path:
    return vimh(folder, mixed=True)


def rows(folder: Path) -> Path:
    rng = np.random.default_rng(5)
    folder.mkdir()
    images = rng.integers(0, 256, (40, 4, 5), np.uint8)
    np.savez(folder / "a.npz", images=images, labels=np.arange(40))
    return folder / "a.npz"


def floats(folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "a.npy", np.random.default_rng(5).standard_normal((12, 2, 3)))
    return folder / "a.npy"


def pictures(folder: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    folder.mkdir()
    lines = []
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (5, 6 + i % 2, 3), np.uint8)
        image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "categories": ["ab"[i % 2]]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def segments(folder: Path) -> Path:
    from mapix import iid

    folder.mkdir()
    rng = np.random.default_rng(5)
    with iid.Writer(folder / "a.iid", {"image": {"width": 90, "height": 60}}) as out:
        for i in range(40):
            mask = rng.integers(0, 3, (3 + i % 4, 5))
            groups = [f"g{k}" for k in range(3) if i % (k + 2) == 0]
            out.add(f"d{i % 3}", f"s{i}", mask, at=(i, 2 * i), groups=groups)
    return folder / "a.iid"


def bytes_of(path: Path) -> dict[str, bytes]:
    """All files of a target: path below it -> bytes."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


SLOW = pytest.mark.slow
CASES = [
    pytest.param(vimh, "x.npz", {"lossy": True, "split": "train"}, marks=SLOW),
    (mixed, "x", {"to": "vimh"}),
    pytest.param(rows, "x", {"to": "vimh"}, marks=SLOW),
    (floats, "x", {"to": "vimh", "lossy": True}),
    (segments, "x.iid", {}),
    (segments, "x.parquet", {}),
    (pictures, "x", {"to": "vimh", "lossy": True}),
    (pictures, "x.npz", {"lossy": True, "images": {"size": (4, 4), "fit": "resize"}}),
]


@pytest.mark.parametrize(("make", "name", "options"), CASES)
@pytest.mark.parametrize("resume", [False, True])
def test_a_conversion_in_parts_writes_the_same_bytes(tmp_path, make, name, options, resume):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    source = make(tmp_path / "source")
    whole = mapix.convert(source, tmp_path / name, **options)
    wanted = bytes_of(tmp_path / name)
    for k, how in enumerate((2, in_other_processes)):
        place = tmp_path / str(k) / name
        place.parent.mkdir()
        made = mapix.convert(source, place, map=how, resume=resume, **options)
        assert bytes_of(place) == wanted
        assert (made.records, made.lost) == (whole.records, whole.lost)
        assert os.listdir(place.parent) == [name]


def test_a_target_has_no_date_in_it(tmp_path, monkeypatch):
    source = vimh(tmp_path / "source")
    for k, now in enumerate((1e9, 1.5e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        mapix.convert(source, tmp_path / f"{k}.npz", lossy=True, split="train")
    assert (tmp_path / "0.npz").read_bytes() == (tmp_path / "1.npz").read_bytes()


def test_several_files_and_parts_of_them(tmp_path):
    paths = [vimh(tmp_path / str(k), n=20 + k) for k in range(3)]
    ds = mapix.open(paths)[[50, 0, 3, 30, 41, 42, 20]]
    mapix.convert(ds, tmp_path / "whole", to="vimh")
    for k, how in enumerate((2, in_other_processes)):
        mapix.convert(ds, tmp_path / f"x{k}", to="vimh", map=how, resume=True)
        assert bytes_of(tmp_path / f"x{k}") == bytes_of(tmp_path / "whole")


def test_numbered_shards_in_parts(tmp_path):
    source = rows(tmp_path / "source")
    for k, more in enumerate(({}, {"map": 2}, {"map": in_other_processes, "resume": True})):
        (tmp_path / str(k)).mkdir()
        mapix.convert(source, tmp_path / str(k) / "x.npy", lossy=True, shards=3, **more)
        assert bytes_of(tmp_path / str(k)) == bytes_of(tmp_path / "0")
    assert len(bytes_of(tmp_path / "0")) == 3


KILLED, COMPLETE, THERE = 9, 0, 3  # exit codes


def killed_at(k: int, convert) -> int:
    """Run a conversion in a child that dies at the k-th call of the table of system calls."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        kind, left = type(system_calls.SYSTEM), iter(range(k))

        def counted(call):
            def made(*args, **options):
                if next(left, None) is None:
                    os._exit(KILLED)
                return call(*args, **options)

            return staticmethod(made)

        for name in list(vars(kind)):
            if not name.startswith("_"):
                setattr(kind, name, counted(getattr(kind, name)))
        try:
            convert()
            code = COMPLETE
        except FileExistsError:  # the one before was killed when the target was there already
            code = THERE
    finally:
        os._exit(code)


@pytest.mark.parametrize(
    ("make", "options", "kills"),
    [
        (rows, {}, 8),
        pytest.param(rows, {}, 100, marks=pytest.mark.slow),
        pytest.param(mixed, {}, 15, marks=pytest.mark.slow),
        pytest.param(rows, {"shards": 3}, 15, marks=pytest.mark.slow),
        pytest.param(rows, {"map": 2}, 15, marks=pytest.mark.slow),
        pytest.param(segments, {"to": "iid"}, 100, marks=pytest.mark.slow),
        pytest.param(segments, {"to": "iid", "shards": 3}, 30, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_calls_it_ends_in_the_same_bytes(tmp_path, make, options, kills):
    source = make(tmp_path / "source")
    (tmp_path / "whole").mkdir()
    options = {"to": "vimh"} | options
    mapix.convert(source, tmp_path / "whole" / "x", **options)
    wanted = bytes_of(tmp_path / "whole")
    rng, killed, ended = np.random.default_rng(1), 0, 0
    while killed < kills:
        out = tmp_path / "out"
        out.mkdir()
        code, most = KILLED, 40
        while code == KILLED:
            most += 10  # the end, which begins anew, takes more calls than others
            code = killed_at(
                int(rng.integers(1, most)),
                partial(mapix.convert, source, out / "x", resume=True, **options),
            )
            killed += code == KILLED
            seen = [name for name in os.listdir(out) if not name.startswith(".")]
            for name in seen:  # what is there is complete
                assert bytes_of(out / name) == bytes_of(tmp_path / "whole" / name)
        assert code in (COMPLETE, THERE)
        ended += 1
        for name in os.listdir(out):  # left by a process that died after the target was complete
            if name.startswith("."):
                assert code == THERE
                shutil.rmtree(out / name)
        assert bytes_of(out) == wanted
        shutil.rmtree(out)
    assert ended < killed


def test_a_conversion_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    source = rows(tmp_path / "source")
    (tmp_path / "whole").mkdir()
    mapix.convert(source, tmp_path / "whole" / "x", to="vimh")
    folder, reads = tmp_path / "parts", []
    code = killed_at(45, lambda: mapix.convert(source, tmp_path / "x", to="vimh", resume=folder))
    assert code == KILLED
    stored = [name for name in os.listdir(folder) if name.endswith(".part")]
    assert stored == sorted(stored) == [f"train-{k:08}-any.part" for k in range(len(stored))]
    assert 0 < len(stored) < 4
    read = blocks._read
    monkeypatch.setattr(blocks, "_read", lambda *args: (reads.append(args), read(*args))[1])
    mapix.convert(source, tmp_path / "x", to="vimh", resume=folder)
    assert len(reads) == 4 - len(stored)
    assert bytes_of(tmp_path / "x") == bytes_of(tmp_path / "whole" / "x")
    assert not folder.exists()


def test_a_damaged_part_is_read_again(tmp_path, monkeypatch):
    source = rows(tmp_path / "source")
    (tmp_path / "whole").mkdir()
    mapix.convert(source, tmp_path / "whole" / "x", to="vimh")
    folder = tmp_path / "parts"
    monkeypatch.setattr(blocks.StoredBlocks, "remove", lambda _: None)
    mapix.convert(source, tmp_path / "x", to="vimh", resume=folder)
    for k, name in enumerate(sorted(os.listdir(folder))[1:4]):
        raw = bytearray((folder / name).read_bytes())
        (folder / name).write_bytes((raw[:-9], b"", raw[:50] + b"?" + raw[51:])[k])
    shutil.rmtree(tmp_path / "x")
    mapix.convert(source, tmp_path / "x", to="vimh", resume=folder)
    assert bytes_of(tmp_path / "x") == bytes_of(tmp_path / "whole" / "x")


def test_a_part_that_states_more_than_it_holds_is_read_again(tmp_path):
    """Its checksum is right; memory is taken for what is there, not for what is stated."""
    place = tmp_path / "0.part"

    def stored(data: bytes) -> str:
        place.write_bytes(data + crc32c(data).to_bytes(4, "little"))
        return str(place)

    raw = io.BytesIO()
    np.save(raw, np.array([True, False]))
    np.save(raw, np.arange(6, dtype="<u2").reshape(2, 3))
    good = raw.getvalue()
    array, none = blocks._load(stored(good))
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert none is None
    for new in (b"(2, 4), ", b"(9999999999999, 3)", b"'x'", b"(-2, 3)"):
        assert blocks._load(stored(good.replace(b"(2, 3), ", new))) is None
    for damaged in (good[:60], good.replace(b"<u2", b"|O1"), good.replace(b"|b1", b"|u1")):
        assert blocks._load(stored(damaged)) is None


def test_parts_of_another_source_are_refused(tmp_path, monkeypatch):
    source, folder = rows(tmp_path / "source"), tmp_path / "parts"
    monkeypatch.setattr(blocks.StoredBlocks, "remove", lambda _: None)
    mapix.convert(source, tmp_path / "x", to="vimh", resume=folder)
    ds = mapix.open(source)
    with pytest.raises(ValueError, match="another source"):
        mapix.convert(ds[:20], tmp_path / "y", to="vimh", resume=folder)
    np.savez(source, images=np.zeros((40, 4, 5), np.uint8), labels=np.arange(40))
    with pytest.raises(ValueError, match="another source"):
        mapix.convert(source, tmp_path / "y", to="vimh", resume=folder)
    with pytest.raises(ValueError, match="other files"):
        mapix.convert(source, tmp_path / "y", to="vimh", resume=tmp_path)
    assert not (tmp_path / "y").exists()


def test_a_table_of_segments_goes_on_in_shards(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    source, folder = segments(tmp_path / "source"), tmp_path / "parts"
    (tmp_path / "whole").mkdir()
    part = mapix.open(source)[::-1]
    mapix.convert(part, tmp_path / "whole" / "x.parquet", shards=3)
    (tmp_path / "out").mkdir()
    again = partial(mapix.convert, part, tmp_path / "out" / "x.parquet", resume=folder)
    assert killed_at(90, partial(again, shards=3)) == KILLED
    stored = sorted(name for name in os.listdir(folder) if name.endswith(".part"))
    assert stored[0] == "00000-00000000-any.part"
    assert stored[-1].startswith("00001")
    with pytest.raises(ValueError, match="other options"):
        again(shards=4)
    again(shards=3)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert not folder.exists()


def test_models_have_no_blocks(tmp_path):
    from mapix.conversion.blocks import check_storable

    with pytest.raises(mapix.UnsupportedError, match=r"b\.json: .* no blocks"):
        check_storable([lambda path, progress: {}], "b.json")


def test_workers_may_store_the_same_part(tmp_path):
    ds = mapix.open(rows(tmp_path / "source"))
    from mapix.plans import Piece

    place = str(tmp_path / "0.part")
    item = pickle.loads(pickle.dumps((place, Piece(ds, range(5)))))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: blocks._store(images_of, item), range(8)))
    assert np.array_equal(blocks._load(place)[0], ds.view()[:5])
    assert os.listdir(tmp_path) == ["source", "0.part"] or len(os.listdir(tmp_path)) == 2


def images_of(piece):
    return [piece.part.batch(np.arange(len(piece.part))).images, None]


def test_the_command(tmp_path, capsys):
    from mapix.__main__ import main

    source = rows(tmp_path / "source")
    (tmp_path / "out").mkdir()
    command = ["convert", str(source), str(tmp_path / "out" / "x.npy"), "--lossy"]
    assert main([*command, "--threads", "2", "--resume"]) == 0
    assert os.listdir(tmp_path / "out") == ["x.npy"]
    assert np.array_equal(np.load(tmp_path / "out" / "x.npy"), np.load(source)["images"])
    capsys.readouterr()
