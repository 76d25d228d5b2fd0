"""Pickled batches: opened as data, whoever wrote them; refused when they ask for more."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.source import Source
from mapix.vimh import Parameter, Writer, index_store
from mapix.vimh.pickles import Array, Machine, Span
from mapix.vimh.pickles.emitter import Emitter

GOLDEN = Path(__file__).parent / "golden" / "vimh"
BATCHES = sorted(GOLDEN.glob("*/*_batch"))


class Restricted(pickle.Unpickler):
    """CPython's own machine, for files that the tests trust; numpy alone."""

    def find_class(self, module, name):
        if module.split(".")[0] in ("numpy", "_codecs"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def original(path: Path) -> dict:
    with path.open("rb") as f:
        return Restricted(f).load()


@pytest.mark.parametrize("path", BATCHES, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_goldens(path, tmp_path):
    want = original(path)
    before = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.parent.iterdir()}
    ds = mapix.open(path)
    n, (h, w, c) = len(want["data"]), (want["height"], want["width"], want["channels"])
    images = want["data"].reshape(n, c, h, w).transpose(0, 2, 3, 1)
    assert len(ds) == n
    assert ds.header_nbytes == 0
    assert (ds.images == images).all()
    assert ds.label_counts.tolist() == [row[0] for row in want["vimh_labels"]]
    for i, record in enumerate(ds):
        row = want["vimh_labels"][i]
        assert (record.image == images[i]).all()
        assert record.nlabels == row[0]
        assert record.label_ids.tolist() == row[1::2]
        assert record.label_bytes.tolist() == row[2::2]
        assert list(record.labels.values()) == row[2::2]
        if "scale_factors" in want:
            np.testing.assert_array_equal(record.spec_range, want["scale_factors"][i])
    if n:
        batch = ds.batch(np.arange(n)[::-1], spec_range=True)
        assert (batch.images == images[::-1]).all()
        assert batch.labels.tolist() == [row[2::2] for row in want["vimh_labels"][::-1]]
        assert ds[0].image.base is not None
    binary = path.with_name(path.name.removesuffix("_batch"))
    if binary.exists():
        twin = mapix.open(binary, dialect=14)
        for name in twin.labels:
            assert (twin.labels[name].raw == ds.labels[name].raw).all()
        assert twin.heads == ds.heads
    after = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.parent.iterdir()}
    assert after == before


def make(n: int = 40, h: int = 5, w: int = 4, c: int = 3, labels: str = "rows") -> dict:
    rng = np.random.default_rng(n)
    made = {"data": rng.integers(0, 256, (n, h * w * c), np.uint8)}
    if labels == "rows":
        made["vimh_labels"] = [[2, 0, i % 256, 1, 7 * i % 256] for i in range(n)]
    elif labels == "ragged":
        made["vimh_labels"] = [[i % 3, *([1, i % 256] * (i % 3))] for i in range(n)]
    made["scale_factors"] = rng.random((n, 2)).astype(np.float32)
    made.update(height=h, width=w, channels=c, image_size=h * w * c)
    return made


@pytest.mark.parametrize("labels", ["rows", "ragged"])
@pytest.mark.parametrize("protocol", range(6))
def test_protocols(tmp_path, protocol, labels):
    want = make(1500, labels=labels)
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(want, protocol))
    for _ in range(2):  # the second time decoded bytes are there
        ds = mapix.open(path)
        images = want["data"].reshape(-1, 3, 5, 4).transpose(0, 2, 3, 1)
        assert (ds.images == images).all()
        assert ds[7].spec_range == tuple(want["scale_factors"][7].tolist())
        assert [r.label_bytes.tolist() for r in ds[:9]] == [
            r[2::2] for r in want["vimh_labels"][:9]
        ]
        assert (ds.batch([3, -1, 700]).images == images[[3, -1, 700]]).all()
        assert ds.path == str(path)
        zero_copy = ds._gatherer.pixels is ds.source
        assert zero_copy == (protocol >= 3)
    again = pickle.loads(pickle.dumps(ds[::2]))
    assert (again.images == images[::2]).all()


@pytest.mark.parametrize("protocol", [0, 2])
def test_decoded_bytes_are_not_believed_when_they_are_others(tmp_path, protocol):
    want = make()
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(want, protocol))
    ds = mapix.open(path)
    kept = Path(ds._gatherer.pixels.full_path)
    data = bytearray(kept.read_bytes())
    data[3] ^= 1
    kept.unlink()
    kept.write_bytes(data)
    assert (mapix.open(path).images == ds.images).all()
    assert Path(mapix.open(path)._gatherer.pixels.full_path).read_bytes() != data


def test_fortran_order_and_lists_of_lists(tmp_path):
    want = make()
    images = want["data"].reshape(-1, 3, 5, 4).transpose(0, 2, 3, 1)
    for name, data in (("f", np.asfortranarray(want["data"])), ("l", want["data"].tolist())):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(want | {"data": data}))
        assert (mapix.open(path).images == images).all()


def python2(value: dict) -> bytes:
    """As Python 2 pickled CIFAR: protocol 2, strings of bytes."""
    out = bytearray(b"\x80\x02}q\x01(")

    def string(data: bytes) -> bytes:
        if len(data) < 256:
            return b"U" + bytes([len(data)]) + data
        return b"T" + struct.pack("<i", len(data)) + data

    for key, x in value.items():
        out += string(key.encode())
        if isinstance(x, np.ndarray):
            n, m = x.shape
            out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            out += string(b"b") + b"\x87R(K\x01J" + struct.pack("<i", n)
            out += b"J" + struct.pack("<i", m) + b"\x86cnumpy\ndtype\n" + string(b"u1")
            out += b"K\x00K\x01\x87R(K\x03" + string(b"|") + b"NNNJ\xff\xff\xff\xff"
            out += b"J\xff\xff\xff\xffK\x00tb\x89" + string(x.tobytes()) + b"tb"
        elif isinstance(x, bytes):
            out += string(x)
        else:
            items = b"".join(b"K" + bytes([v]) if isinstance(v, int) else string(v) for v in x)
            out += b"](" + items + b"e"
    return bytes(out + b"u.")


def test_cifar(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (30, 3072), np.uint8)
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    ten = {
        "batch_label": b"training batch 1 of 5",
        "data": data,
        "labels": [i % 7 for i in range(30)],
    }
    ten["filenames"] = [b"a.png"] * 30
    (tmp_path / "data_batch_1").write_bytes(python2(ten))
    (tmp_path / "batches.meta").write_bytes(
        python2({"label_names": [b"x%d" % i for i in range(10)]})
    )
    assert pickle.loads(python2(ten), encoding="bytes")[b"labels"] == ten["labels"]
    ds = mapix.open(tmp_path / "data_batch_1")
    assert (ds.images == images).all()
    assert ds.heads == {"labels": 10}
    assert ds.labels["labels"].classes.tolist() == ten["labels"]
    assert ds[8].values == {"labels": 1.0}
    assert ds._gatherer.pixels is ds.source
    folder = tmp_path / "hundred"
    folder.mkdir()
    hundred = {
        "data": data,
        "fine_labels": list(range(30)),
        "coarse_labels": [i % 5 for i in range(30)],
    }
    (folder / "train").write_bytes(pickle.dumps(hundred, 2))
    (folder / "test").write_bytes(python2(hundred))
    for split in ("train", "test"):
        ds = mapix.open(folder, split=split)
        assert (ds.images == images).all()
        assert ds.heads == {"fine_labels": 100, "coarse_labels": 20}
        assert ds.batch([3], labels="class").labels.tolist() == [[3, 3]]


def test_opening_stops_behind_the_images(tmp_path):
    want = make(20000)
    whole = pickle.dumps(want)
    cut = whole.index(b"vimh_labels")
    path = tmp_path / "train_batch"
    path.write_bytes(whole[: cut + 70_000])  # the frame that the array ends in, and no more
    info = {"height": 5, "width": 4, "channels": 3}
    ds = mapix.open(path, info=info)
    assert (ds.images[5] == want["data"][5].reshape(3, 5, 4).transpose(1, 2, 0)).all()
    with pytest.raises(mapix.FormatError, match="are left"):
        ds.labels["x"]
    path.write_bytes(whole)
    assert mapix.open(path, info={"height": 4, "width": 5, "channels": 3})[0].shape == (4, 5, 3)
    with pytest.raises(mapix.FormatError, match="info=False"):
        len(mapix.open(path, info={"height": 4, "width": 5, "channels": 3}).labels)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"vimh_labels": [[1, 0, 256]] * 40}, "0..255"),
        ({"vimh_labels": [[1, 0, 5]] * 39}, "39 rows"),
        ({"vimh_labels": [[2, 0, 5]] * 40}, "N, id, code"),
        ({"vimh_labels": [[1, 0, 5]] * 39 + [["a"]]}, "record 39"),
        ({"vimh_labels": [[1, 0, -5]] * 40}, "0..255"),
        ({"scale_factors": np.zeros((3, 2))}, "scale_factors"),
        ({"data": np.zeros((40, 60), np.float32)}, "uint8"),
        ({"data": np.zeros((40, 60, 1), np.uint8)}, "uint8"),
        ({"data": np.zeros((40, 61), np.uint8)}, "info="),
        (
            {"data": [[1, 2], [1]], "vimh_labels": [], "height": 1, "width": 2, "channels": 1},
            "image",
        ),
        ({"data": "text"}, "str"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, change, complaint):
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(make() | change))

    def use():
        ds = mapix.open(path)
        ds.labels.get("param_0")
        return ds[0].spec_range

    with pytest.raises(mapix.FormatError, match=complaint):
        use()


def test_values_are_those_of_cpython(tmp_path):
    rng = random.Random(1)

    def value(depth: int):
        kind = rng.randrange(9 if depth else 6)
        if kind == 0:
            return rng.choice([0, 1, 255, 256, 65535, 65536, -1, 2**31, -(2**40), 2**70])
        if kind == 1:
            return rng.choice([None, True, False, 1.5, -0.0, float("inf")])
        if kind == 2:
            return rng.choice(["", "a", "höß", "x" * 300, "é\n\\u"])
        if kind == 3:
            return rng.choice([b"", b"b", bytes(range(256)), b"y" * 300])
        if kind == 4:
            return np.float64(rng.random())
        if kind == 5:
            return [rng.randrange(256) for _ in range(rng.choice([0, 1, 2, 5, 9]))]
        if kind == 6:
            return [
                value(depth - 1) for _ in range(rng.choice([0, 1, 3, 1200 // 4 ** (4 - depth)]))
            ]
        if kind == 7:
            return tuple(value(depth - 1) for _ in range(rng.randrange(5)))
        return {f"k{i}": value(depth - 1) for i in range(rng.randrange(4))}

    path = tmp_path / "p"
    for i in range(300):
        want = {"a": value(3), "b": value(3), "rows": [[1, 2, 3]] * rng.randrange(4)}
        want["twice"] = want["a"]
        path.write_bytes(pickle.dumps(want, i % 6))
        ours, theirs = Machine(Source(path)).run(), pickle.loads(path.read_bytes())
        assert repr(plain(ours, b"")) == repr(plain(theirs, b""))


def test_mutations_give_what_cpython_gives_or_an_error(tmp_path):
    """Changed bytes: refused, or the very values of CPython's machine."""
    rng = random.Random(7)
    seeds = [pickle.dumps(make(3, 2, 2, 1), p) for p in range(2, 6)]
    seeds += [p.read_bytes() for p in BATCHES if p.stat().st_size < 800]
    path = tmp_path / "p"
    accepted = refused = 0
    for _ in range(1500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.randrange(1, 5)]
            else:
                data[at:at] = data[rng.randrange(len(data)) :][: rng.randrange(1, 9)]
            data = data or bytearray(b".")
        path.write_bytes(data)
        try:
            ours = Machine(Source(path)).run()
        except (mapix.FormatError, mapix.LimitError):
            refused += 1
            continue
        if Path(path).read_bytes()[-1:] == b"." and isinstance(ours, dict):
            accepted += 1
            theirs = loaded(bytes(data))
            with contextlib.suppress(RecursionError):  # a list that holds itself
                if theirs is not None:
                    assert repr(plain(ours, bytes(data))) == repr(plain(theirs, b""))
    assert accepted > 50
    assert refused > 300


def loaded(data: bytes) -> dict | None:
    try:
        found = Restricted(io.BytesIO(data)).load()
    except Exception:  # stricter than we are about keys, for instance
        return None
    return found if isinstance(found, dict) else None


def plain(value, data: bytes):
    """Values without the difference between an array and where it lies."""
    if isinstance(value, Array):
        raw = value.data
        if isinstance(raw, Span):
            raw = data[raw.at : raw.at + raw.nbytes]
        if not isinstance(raw, bytes) or not value.complete:
            return "array"
        found = np.frombuffer(raw, value.dtype)
        return found.reshape(value.shape, order="F" if value.fortran else "C").tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, Span):
        return data[value.at : value.at + value.nbytes]
    if isinstance(value, dict):
        return {
            k.decode("latin-1") if isinstance(k, bytes) else k: plain(v, data)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(v, data) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return bytes(value) if isinstance(value, bytes | bytearray) else value


# --- hostile files --------------------------------------------------------------------------------


def hostile() -> dict[str, bytes]:
    """Files that want something done, or memory; none of them is to get it."""
    calls = {
        "os-system": ("os", "system"),
        "posix": ("posix", "system"),
        "eval": ("builtins", "eval"),
        "exec2": ("__builtin__", "exec"),
        "import": ("builtins", "__import__"),
        "getattr": ("builtins", "getattr"),
        "popen": ("subprocess", "Popen"),
        "load": ("numpy", "load"),
        "memmap": ("numpy", "memmap"),
        "runstring": ("numpy.testing._private.utils", "runstring"),
        "torch": ("torch", "load"),
        "pip": ("pip", "main"),
        "idle": ("idlelib.pyshell", "ModifiedInterpreter.runcode"),
        "bytes": ("builtins", "bytearray"),
        "fromfile": ("numpy", "fromfile"),
        "partial": ("functools", "partial"),
        "attrgetter": ("operator", "attrgetter"),
        "reconstructor": ("copyreg", "_reconstructor"),
        "webbrowser": ("webbrowser", "open"),
        "dotted": ("numpy", "core.multiarray._reconstruct"),
    }
    found: dict[str, bytes] = {}
    for name, (module, function) in calls.items():
        m, f = module.encode(), function.encode()
        short = b"\x8c" + bytes([len(m)]) + m + b"\x8c" + bytes([len(f)]) + f
        arg = b"\x8c\x04true\x85"
        found[f"{name}-global"] = b"\x80\x02c" + m + b"\n" + f + b"\n" + arg + b"R."
        found[f"{name}-stack"] = b"\x80\x04" + short + b"\x93" + arg + b"R."
        found[f"{name}-inst"] = b"(S'true'\ni" + m + b"\n" + f + b"\n."
        found[f"{name}-obj"] = b"(c" + m + b"\n" + f + b"\nS'true'\no."
        found[f"{name}-newobj"] = b"\x80\x02c" + m + b"\n" + f + b"\n" + arg + b"\x81."
        found[f"{name}-newobj-ex"] = b"\x80\x04" + short + b"\x93" + arg + b"}\x92."
        found[f"{name}-build"] = b"\x80\x02c" + m + b"\n" + f + b"\n}b."
        found[f"{name}-in-dict"] = (
            b"\x80\x02}(U\x04data" + b"c" + m + b"\n" + f + b"\n" + arg + b"Ru."
        )
        found[f"{name}-dtype"] = b"\x80\x02cnumpy\ndtype\nc" + m + b"\n" + f + b"\n\x85R."
        found[f"{name}-subtype"] = (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nc"
            + m
            + b"\n"
            + f
            + b"\nK\x00\x85U\x01b\x87R."
        )
    found |= {
        "memo-bomb": b"\x80\x02Nr\xff\xff\xff\x7f",
        "memo-bomb-7": b"Nr\xff\xff\xff\x7f.",
        "bytearray-bomb": b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
        "bytes-bomb": b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00.",
        "text-bomb": b"\x80\x04\x8d\x00\x00\x00\x00\x00\x01\x00\x00.",
        "long-bomb": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "frame-bomb": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
        "digits": b"I" + b"9" * 100000 + b"\n.",
        "put": b"Np99999999999999999999\n.",
        "persid": b"Pabc\n.",
        "binpersid": b"NQ.",
        "ext": b"\x80\x02\x82\x01.",
        "buffer": b"\x80\x05\x97.",
        "readonly": b"\x80\x05N\x98.",
        "empty": b"",
        "stop": b".",
        "protocol": b"\x80\xff}.",
        "pop-nothing": b"0.",
        "marks": b"(" * 10000 + b".",
        "underflow": b"(K\x01R.",
        "object-dtype": b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.",
        "void-dtype": b"\x80\x02cnumpy\ndtype\nU\x04V999\x85R.",
        "set": b"\x80\x04\x8f(K\x01\x90.",
        "self": b"\x80\x02]q\x00h\x00a.",
        "unhashable": b"\x80\x02}]K\x01s.",
        "dict-key-self": b"\x80\x02}q\x00h\x00K\x01s.",
    }
    array = pickle.dumps({"data": np.zeros((2, 4), np.uint8), "vimh_labels": [[0], [0]]}, 2)
    for at in range(2, len(array), 7):
        found[f"cut-{at}"] = array[:at]
    return found


AUDIT = """
import sys, time
events = []
armed = False
def hook(name, args):
    if armed and name.startswith(("pickle.", "exec", "compile", "os.system", "subprocess.",
            "os.exec", "os.spawn", "os.posix_spawn", "ctypes.", "socket.", "import")):
        events.append((name, str(args)[:80]))
import mapix, mapix.vimh, mapix.vimh.pickle_file, mapix.vimh.pickle_gatherer, mapix.vimh.pickles
import mapix.vimh.pickles.decode, numpy, tempfile, codecs, encodings.latin_1, linecache
import encodings.raw_unicode_escape, os
# what detection and errors import
import mapix.appearance, mapix.tar.layout, mapix.tfrecord.layout, mapix.text
mapix.open(sys.argv[1]).labels
sys.addaudithook(hook)
slowest, opened = 0, []
for path in sys.argv[2:]:
    armed = True
    began = time.perf_counter()
    try:
        len(mapix.open(path, info=False).labels)
        opened.append(path)
    except (mapix.FormatError, mapix.LimitError) as e:
        assert str(e).startswith(path), e
    took = time.perf_counter() - began
    armed = False
    slowest = max(slowest, took)
print(repr((events, opened, slowest)))
"""


def test_hostile_files_get_nothing(tmp_path):
    files = []
    for name, data in hostile().items():
        path = tmp_path / f"{name}_batch"
        path.write_bytes(data)
        files.append(str(path))
    assert len(files) > 200
    good = str(BATCHES[0])
    out = subprocess.run(
        [sys.executable, "-c", AUDIT, good, *files], capture_output=True, text=True, check=True
    )
    events, opened, slowest = eval(out.stdout)
    assert events == []
    assert opened == []
    print("slowest", slowest)


def test_bombs_take_neither_time_nor_memory(tmp_path):
    import tracemalloc

    for data in (b"Nr\xff\xff\xff\x7f.", b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f"):
        path = tmp_path / "bomb"
        path.write_bytes(data)
        source = Source(path)
        tracemalloc.start()
        with contextlib.suppress(mapix.FormatError):  # a memo of any number is no harm here
            Machine(source).run()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1 << 20


# --- writing --------------------------------------------------------------------------------------


def emitted(table: dict, labels) -> bytes:
    out = io.BytesIO()
    e = Emitter(out.write)
    e.begin_dict()
    for key in ("data", "scale_factors"):
        e.text(key)
        e.array("u1" if key == "data" else "f4", table[key].shape, [table[key].tobytes()])
    e.text("vimh_labels")
    e.rows((labels[i : i + 777] for i in range(0, len(labels), 777)), len(labels))
    e.end_dict()
    e.finish()
    return out.getvalue()


@pytest.mark.parametrize("n", [0, 1, 2, 999, 1000, 1001, 2000, 9001])
@pytest.mark.parametrize(("each", "m"), [(1, 1), (3, 3), (64, 5), (300, 511)])
def test_written_as_cpython_writes(n, each, m):
    rng = np.random.default_rng(n + m)
    labels = rng.integers(0, 256, (n, m), np.uint8)
    table = {"data": rng.integers(0, 256, (n, each), np.uint8)}
    table["scale_factors"] = rng.random((n, 2)).astype(np.float32)
    assert emitted(table, labels) == pickle.dumps(table | {"vimh_labels": labels.tolist()}, 4)


def test_written_with_labels_of_all_lengths(tmp_path):
    rng = np.random.default_rng(0)
    parameters = [Parameter(f"p{i}", i) for i in range(3)]
    images = rng.integers(0, 256, (30, 4, 5, 3), np.uint8)
    with Writer(tmp_path / "d", parameters, output="pickle") as out:
        for i, image in enumerate(images):
            out.append(image, codes={f"p{k}": i + k for k in range(i // 8)}, spec_range=(0, i))
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [
        "test_batch",
        "train_batch",
        "vimh_dataset_info.json",
    ]
    info = json.loads((tmp_path / "d" / "vimh_dataset_info.json").read_text())
    assert info["output_format"] == "pickle"
    want = original(tmp_path / "d" / "train_batch")
    assert (tmp_path / "d" / "train_batch").read_bytes() == pickle.dumps(want, 4)
    assert want["vimh_labels"][16] == [2, 0, 16, 1, 17]
    ds = mapix.open(tmp_path / "d")
    assert ds.splits.keys() == {"train", "test"}
    assert (ds.images == images).all()
    assert ds[25].labels == {"p0": 25, "p1": 26, "p2": 27}
    assert ds[25].spec_range == (0.0, 25.0)


def test_pickles_of_mixed_sizes_are_refused_before_anything_is_written(tmp_path):
    with Writer(tmp_path / "d", output="both") as out:
        out.append(np.zeros((2, 2), np.uint8))
        with pytest.raises(ValueError, match="one size"):
            out.append(np.zeros((2, 3), np.uint8))
    assert len(mapix.open(tmp_path / "d")) == 1


def test_a_binary_file_that_begins_like_a_pickle(tmp_path):
    from slow_vimh import record

    path = tmp_path / "train"
    path.write_bytes(record(0x0280, 2, 1, [], seed=1).pack() * 3)
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert mapix.open(path, dialect=14)[0].shape == (0x0280, 2, 1)
    assert mapix.open(path)[0].shape == (0x0280, 2, 1)


def test_decoding_is_kept_in_the_cache(tmp_path):
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(make(), 0))
    ds = mapix.open(path)
    assert ds._gatherer.pixels.full_path.startswith(index_store.cache_folder())
    before = Path(ds._gatherer.pixels.full_path).stat().st_mtime_ns
    time.sleep(0.01)
    mapix.open(path)
    assert Path(ds._gatherer.pixels.full_path).stat().st_mtime_ns == before
