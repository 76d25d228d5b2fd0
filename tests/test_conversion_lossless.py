"""What a source holds is in the target, read by the target's own library, or was reported as lost.

Sources are generated; every value of every field is compared, for each pair of formats.
"""

from __future__ import annotations

import io
import itertools
import json
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import mapix
import mapix.conversion.stream
import mapix.idx
import mapix.pink
import mapix.vimh
import slow_pink
import slow_vimh
from mapix import LossError, UnsupportedError
from test_tfrecord import slow_example

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")

TARGETS = (
    *("vimh", "idx", "pink", "folder", "npy", "npz"),
    *("tar", "tfrecord", "parquet", "arrow", "huggingface"),
)
OPSML = ("file_name", "caption", "categories", "objects")


def few(n: int) -> Any:
    return settings(
        max_examples=n,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def many_blocks(monkeypatch):
    monkeypatch.setattr(mapix.conversion.stream, "BLOCK_NBYTES", 100)


# --- targets, read by their own libraries ---------------------------------------------------------
# A record is {"pixels": array, "line": dict of what is said in JSON, "labels": {name: value},
# "spec": (min, max)}; what a target has no place for is not in it.

Records = list[dict[str, Any]]


def read_npz(path: Path) -> Records:
    with np.load(path) as z:
        n = len(z["shapes"]) if "shapes" in z else len(z["images"])
        found: Records = [{"labels": {}} for _ in range(n)]
        for k, r in enumerate(found):
            if "shapes" in z:
                r["pixels"] = z["images"][z["offsets"][k] : z["offsets"][k + 1]]
                r["pixels"] = r["pixels"].reshape(z["shapes"][k])
            else:
                r["pixels"] = z["images"][k]
            if "spec_range" in z:
                r["spec"] = tuple(z["spec_range"][k].tolist())
        for member in z.files:
            if member.startswith("label/"):
                name = member.removeprefix("label/")
                values, there = z[member].tolist(), z[f"present/{name}"].tolist()
                classes = z[f"classes/{name}"].tolist() if f"classes/{name}" in z else None
                for r, v, p in zip(found, values, there, strict=True):
                    r["labels"][name] = (classes[v] if classes else v) if p else None
        info = json.loads(z["info.json"]) if "info.json" in z else None
    with zipfile.ZipFile(path) as z:
        lines = z.read("records.jsonl").splitlines() if "records.jsonl" in z.namelist() else []
    for r, line in itertools.zip_longest(found, lines):
        r["info"] = info
        if line is not None:
            r["line"] = json.loads(line)
    return found


def read_table(path: Path) -> Records:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
    else:
        with pa.OSFile(str(path)) as f:
            table = pa.ipc.open_file(f).read_all()
    about = json.loads(table.schema.metadata[b"mapix"])
    found = []
    for row in table.to_pylist():
        r: dict[str, Any] = {"labels": {}, "info": about["info"] or None}
        pixels = np.frombuffer(row["image"], about["dtype"])
        r["pixels"] = pixels.reshape(row["shape"])
        for name, meaning in about["labels"].items():
            value = row.get(f"{name}_code", row[name])
            classes = meaning.get("classes")
            r["labels"][name] = classes[value] if classes and value is not None else value
        if "spec_min" in row:
            r["spec"] = row["spec_min"], row["spec_max"]
        if "file_name" in row:
            r["line"] = line_of(row, about)
        found.append(r)
    return found


def line_of(row: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """The line of a picture: columns of its own facts, and the JSON of all others."""
    taken = {"image", "shape", "spec_min", "spec_max", "facts"}
    taken |= {f"{name}{end}" for name in about["labels"] for end in ("", "_code")}
    own = {name: value for name, value in row.items() if name not in taken and value is not None}
    return {**own, **json.loads(row.get("facts") or "{}")}


def read_huggingface(path: Path) -> Records:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    rows = datasets.load_from_disk(str(path))
    about = json.loads(rows.info.description)
    found = []
    for row in rows:
        pixels = np.asarray(row["image"])
        r: dict[str, Any] = {"labels": {}, "info": about["info"] or None}
        r["pixels"] = pixels[..., None] if pixels.ndim == 2 else pixels
        for name in about["labels"]:
            value = row.get(f"{name}_code", row[name])
            feature = rows.features[name]
            named = isinstance(feature, datasets.ClassLabel) and value is not None
            r["labels"][name] = feature.int2str(value) if named else value
        if "spec_min" in row:
            r["spec"] = row["spec_min"], row["spec_max"]
        if "file_name" in row:
            r["line"] = line_of(row, about)
        found.append(r)
    return found


def read_tar(path: Path) -> Records:
    members: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for m in tar:
            key, _, kind = m.name.partition(".")
            members.setdefault(key, {})[kind] = tar.extractfile(m).read()
    found = []
    for record in members.values():
        line = json.loads(record.get("json", b"{}"))
        codes = {k.removesuffix("_code"): v for k, v in line.items() if k.endswith("_code")}
        r: dict[str, Any] = {"line": line, "labels": {"category": None, **line, **codes}}
        if "png" in record:
            picture = np.asarray(Image.open(io.BytesIO(record["png"])))
            r["pixels"] = picture[..., None] if picture.ndim == 2 else picture
        else:
            r["pixels"] = np.load(io.BytesIO(record["npy"]))
        if "spec_max" in line:
            r["spec"] = line["spec_min"], line["spec_max"]
        found.append(r)
    return found


def read_tfrecord(path: Path) -> Records:
    found, data = [], path.read_bytes()
    while data:
        (nbytes,) = struct.unpack_from("<Q", data)
        message = slow_example(data[12 : 12 + nbytes])
        data = data[16 + nbytes :]
        line = json.loads(message.get("facts", [b"{}"])[0])
        codes = {k.removesuffix("_code"): v for k, v in line.items() if k.endswith("_code")}
        if "image/filename" in message:
            line["file_name"] = message["image/filename"][0].decode()
        pixels = np.asarray(Image.open(io.BytesIO(message["image/encoded"][0])))
        r: dict[str, Any] = {"line": line, "labels": {"category": None, **line, **codes}}
        r["pixels"] = pixels[..., None] if pixels.ndim == 2 else pixels
        sides = [message[f"image/{name}"][0] for name in ("height", "width", "channels")]
        assert list(r["pixels"].shape) == sides
        if "image/class/text" in message:
            assert message["image/class/text"][0].decode() in json.dumps(line, ensure_ascii=False)
        if "spec_max" in line:
            r["spec"] = line["spec_min"], line["spec_max"]
        found.append(r)
    return found


def read_folder(path: Path) -> Records:
    found = []
    for text in (path / "metadata.jsonl").read_text().splitlines():
        line = json.loads(text)
        data = (path / line["file_name"]).read_bytes()
        picture = np.asarray(Image.open(io.BytesIO(data)))
        r = {"line": line, "labels": line, "data": data}
        r["pixels"] = picture[..., None] if picture.ndim == 2 else picture
        if "spec_max" in line:
            r["spec"] = line["spec_min"], line["spec_max"]
        found.append(r)
    return found


def read_vimh(path: Path) -> Records:
    data = (path / "train").read_bytes()
    records = slow_vimh.tiles(data, 14)
    assert records is not None
    info = json.loads((path / "vimh_dataset_info.json").read_text())
    names = info["parameter_names"]
    found = []
    for s in records:
        codes = {names[k]: v for k, v in s.pairs}
        labels = {name: codes.get(name) for name in names}
        if "category" in names:
            about = info["parameter_mappings"]["category"]
            classes = _classes(about["description"])
            if "category" in codes:
                number = round(codes["category"] / 255 * about["max"])
                labels["category"] = classes[number] if classes else number
        found.append({"pixels": s.hwc(), "labels": labels, "spec": s.spec, "info": info})
    return found


def _classes(text: str) -> list[str]:
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text.split(", ") if text else []


def _idx(path: Path) -> np.ndarray:
    data = path.read_bytes()
    order = ">" if data[:2] == b"\0\0" else "<"
    kinds = {8: "u1", 9: "i1", 11: "i2", 12: "i4", 13: "f4", 14: "f8"}
    code, ndim = (data[2], data[3]) if order == ">" else (data[1], data[0])
    shape = struct.unpack_from(f"{order}{ndim}I", data, 4)
    return np.frombuffer(data, order + kinds[code], offset=4 + 4 * ndim).reshape(shape)


def read_idx(path: Path) -> Records:
    labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    values = _idx(labels).tolist() if labels.exists() else None
    return [
        {"pixels": a, "labels": {} if values is None else {"": values[k]}}
        for k, a in enumerate(_idx(path))
    ]


def read_npy(path: Path) -> Records:
    return [{"pixels": a, "labels": {}} for a in np.load(path)]


def read_pink(path: Path) -> Records:
    slow = slow_pink.read(path.read_bytes())
    assert slow is not None
    comment = path.read_bytes()[: slow_pink.after_comment(path.read_bytes())[0]]
    return [
        {"pixels": np.frombuffer(row, "<f4"), "labels": {}, "comment": comment} for row in slow.rows
    ]


READERS: dict[str, tuple[str, Callable[[Path], Records]]] = {
    "vimh": ("v", read_vimh),
    "idx": ("x-images-idx3-ubyte", read_idx),
    "pink": ("x.bin", read_pink),
    "folder": ("d", read_folder),
    "npy": ("x.npy", read_npy),
    "npz": ("x.npz", read_npz),
    "tar": ("x.tar", read_tar),
    "tfrecord": ("x.tfrecord", read_tfrecord),
    "parquet": ("x.parquet", read_table),
    "arrow": ("x.arrow", read_table),
    "huggingface": ("hf", read_huggingface),
}
NEEDS = {"parquet": "pyarrow", "arrow": "pyarrow", "huggingface": "datasets"}


def converted(source: Any, folder: Path, to: str, **options: Any) -> tuple[Records, str, Path]:
    """What the target holds, and what was lost, in words; refused unless lost was asked for."""
    if to in NEEDS:
        pytest.importorskip(NEEDS[to], reason=f"needs {NEEDS[to]}")
    name, reader = READERS[to]
    path = folder / name
    before = sorted(p.name for p in folder.iterdir())
    lost: tuple[str, ...] = ()
    try:
        made = mapix.convert(source, path, to=to, **options)
    except LossError as e:
        lost = e.lost
        left = sorted(p.name for p in folder.iterdir())
        assert left == before, "something was written"
        made = mapix.convert(source, path, to=to, lossy=True, **options)
    assert made.lost == lost
    return reader(path), "\n".join(lost), path


def same_pixels(found: np.ndarray, want: np.ndarray) -> bool:
    """The same numbers in C order, whatever becomes of a dimension of 1 and of channels' place."""
    if found.size != want.size:
        return False
    ways = [want, *([np.moveaxis(want, 2, 0)] if want.ndim == 3 else [])]
    return any(
        np.array_equal(found.ravel(), way.ravel(), equal_nan=want.dtype.kind == "f") for way in ways
    )


# --- image folders --------------------------------------------------------------------------------


def saved(picture: Any, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def pool() -> dict[str, tuple[bytes, np.ndarray, str]]:
    """Pictures by name: bytes, pixels, and what a target without files has to report."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 5, 3), np.uint8)
    grey = colours[..., 0]
    deep = rng.integers(0, 65536, (4, 5)).astype(np.uint16)
    cmyk = saved(Image.fromarray(colours).convert("CMYK"), "JPEG")
    frames = [Image.fromarray(np.full((4, 5), 40 * k, np.uint8)) for k in range(3)]
    pages = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    found = {
        "rgb.png": (saved(Image.fromarray(colours), "PNG"), colours, ""),
        "grey.png": (saved(Image.fromarray(grey), "PNG"), grey[..., None], ""),
        "sub/rgb.bmp": (saved(Image.fromarray(colours), "BMP"), colours, ""),
        "sub/rgb.bmp.png": (saved(Image.fromarray(255 - colours), "PNG"), 255 - colours, ""),
        "tall.png": (
            saved(Image.fromarray(colours.swapaxes(0, 1)), "PNG"),
            colours.swapaxes(0, 1),
            "",
        ),
        "deep.png": (saved(Image.fromarray(deep), "PNG"), deep[..., None], ""),
        "cmyk.jpg": (cmyk, np.asarray(Image.open(io.BytesIO(cmyk)).convert("RGB")), "colours"),
        "pages.tif": (pages, np.zeros((4, 5, 1), np.uint8), "frames"),
        "exif.png": (saved(Image.fromarray(colours), "PNG", exif=exif), colours, "EXIF"),
        "clear.png": (
            saved(Image.fromarray(grey), "PNG", transparency=7),
            grey[..., None],
            "transparent",
        ),
    }
    return found


POOL = pool()
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["\ud800", "a\0", "", "x, y"]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
numbers = st.integers(0, 5)
boxes = st.lists(st.lists(numbers, min_size=4, max_size=4), max_size=3)
objects = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"bbox": boxes},
        optional={
            "categories": st.none() | st.lists(scalars, max_size=2),
            "category": st.lists(numbers, max_size=2),
            "area": st.lists(numbers, max_size=2),
            "id": st.lists(numbers, max_size=2),
        },
    ),
)
categories = st.one_of(
    st.none(),
    st.lists(st.sampled_from([0, 1, 2, 10, 7]), max_size=1),
    st.lists(st.sampled_from(["cat", "dog", "a, b", "10", "2"]), max_size=2),
    st.lists(scalars, max_size=2),
)
keys = st.sampled_from(
    [
        "split",
        "image",
        "self",
        "save",
        "size",
        "shape",
        "label",
        "category",
        "facts",
        "spec_min",
        "x",
    ]
)
further = st.fixed_dictionaries(
    {},
    optional={
        "caption": st.none() | st.text(max_size=8) | values,
        "categories": categories,
        "objects": objects,
        "mask_file_name": st.sampled_from(sorted(POOL)) | st.none(),
        "page_file_names": st.lists(st.sampled_from(sorted(POOL)), max_size=2),
    },
)


@st.composite
def folders(draw: Any) -> list[dict[str, Any]]:
    """Lines of a metadata file; mostly pictures of one kind, so that every target takes some."""
    kinds = draw(st.sampled_from([["rgb.png"], ["rgb.png", "tall.png", "grey.png"], sorted(POOL)]))
    spelt = st.sampled_from(["{}", "./{}"])
    categories_alike = draw(st.sampled_from([None, [0, 1, 2, 10, 2], ["cat", "a, b", "10"]]))
    lines = []
    for _ in range(draw(st.integers(1, 5))):
        line: dict[str, Any] = {"file_name": draw(spelt).format(draw(st.sampled_from(kinds)))}
        line |= draw(further) | draw(st.dictionaries(keys, values, max_size=2))
        if categories_alike is not None:
            line["categories"] = [draw(st.sampled_from(categories_alike))]
        lines.append(line)
    return lines


def make(folder: Path, lines: list[dict[str, Any]]) -> Path:
    source = folder / "f"
    for name, (data, _, _) in POOL.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return source


def check_line(r: dict[str, Any], line: dict[str, Any], lost: str) -> None:
    """Every value of a line, but where a target may write null for nothing."""
    said = r.get("line", {})
    category = r["labels"].get("category") if r["labels"] is not said else None
    for key, value in line.items():
        if key in said and json.dumps(said[key]) == json.dumps(value):
            continue
        if type(value) is int and type(said.get(key)) is float and said[key] == value:
            continue  # the same number, in a column of float64
        if value is None and key in OPSML and said.get(key) is None:
            continue
        if (
            key == "categories"
            and category is not None
            and json.dumps([category]) == json.dumps(value)
        ):
            continue
        word = {"file_name": "file names", "categories": "categories"}.get(key, key)
        unnamed = key == "categories" and "label category" in lost
        assert word in lost or unnamed, (key, value, said, r["labels"])


@pytest.mark.parametrize("to", TARGETS)
def test_image_folders(to):
    @few(4 if to == "huggingface" else 25)
    @given(folders())
    def check(lines: list[dict[str, Any]]) -> None:
        with tempfile.TemporaryDirectory() as tmp:
            source = make(Path(tmp), lines)
            try:
                found, lost, path = converted(source, Path(tmp), to)
            except UnsupportedError:
                return  # refused, with nothing written
            assert len(found) == len(lines)
            for line, r in zip(lines, found, strict=True):
                data, pixels, word = POOL[line["file_name"].removeprefix("./")]
                check_line(r, line, lost)
                if to == "folder":  # as it is
                    assert lost == ""
                    assert r["data"] == data
                    assert r["line"] == line
                    named = [line.get("mask_file_name"), *line.get("page_file_names", ())]
                    for name in filter(None, named):
                        assert (path / name).read_bytes() == POOL[name][0]
                    continue
                assert word in lost
                if "numbers of" not in lost:
                    assert same_pixels(r["pixels"], pixels)
                for key in ("mask_file_name", "page_file_names"):
                    assert not line.get(key) or f"lines name: {key}" in lost or key in lost

    check()


@pytest.mark.parametrize("to", ["vimh", "folder", "npz", "parquet", "huggingface"])
def test_image_folders_scaled(to):
    """With ``images=``: boxes go with their pictures, and whatever cannot go is reported."""

    @few(3 if to == "huggingface" else 15)
    @given(folders(), st.sampled_from(["resize", "letterbox", "cover"]))
    def check(lines: list[dict[str, Any]], fit: str) -> None:
        with tempfile.TemporaryDirectory() as tmp:
            source = make(Path(tmp), lines)
            images = {"size": (9, 11), "fit": fit, "mode": "RGB"}
            try:
                found, lost, _ = converted(source, Path(tmp), to, images=images)
            except UnsupportedError:
                assert to == "vimh"  # category numbers that no label has
                return
            ds = mapix.open(source)
            batch = ds.batch(range(len(lines)), **images)
            assert len(found) == len(lines)
            for k, (line, r) in enumerate(zip(lines, found, strict=True)):
                assert same_pixels(r["pixels"], batch.images[k])
                want = {**line}
                want.pop("mask_file_name", None)
                want.pop("page_file_names", None)
                if to == "folder":
                    assert r["line"]["file_name"].endswith(".png")
                    want.pop("file_name")
                if line.get("objects") and line["objects"]["bbox"]:
                    moved = batch.boxes[k].tolist()
                    want["objects"] = {**line["objects"], "bbox": moved}
                check_line(r, want, lost)
                if "deep.png" in line["file_name"]:
                    assert "16 bits of numbers" in lost
                if line.get("objects") and "area" in line["objects"]:
                    assert "objects.area" in lost

    check()


def test_categories_of_all_splits_are_numbered_alike(tmp_path):
    for split, names in (("train", ["b", "a", "d"]), ("test", ["c", "d", "b"])):
        (tmp_path / "f" / split).mkdir(parents=True)
        (tmp_path / "f" / split / "p.png").write_bytes(POOL["rgb.png"][0])
        lines = [{"file_name": "p.png", "categories": [n], "n": k} for k, n in enumerate(names)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "f" / split / "metadata.jsonl").write_text(text)
    mapix.convert(tmp_path / "f", tmp_path / "i", to="idx", lossy=True)
    for split, want in (("train", [1, 0, 3]), ("test", [2, 3, 1])):
        assert np.asarray(mapix.open(tmp_path / "i", split=split).labels).ravel().tolist() == want
    mapix.convert(tmp_path / "f", tmp_path / "v", to="vimh", lossy=True)
    ds = mapix.open(tmp_path / "v", split="test")
    assert ds.parameters["category"].description == "a, b, c, d"
    assert ds.labels["category"].classes.tolist() == [2, 3, 1]
    mapix.convert(tmp_path / "f", tmp_path / "g", to="folder")
    for split in ("train", "test"):
        for name in ("metadata.jsonl", "p.png"):
            old, new = (tmp_path / d / split / name for d in "fg")
            assert old.read_bytes() == new.read_bytes()


# --- VIMH, IDX, PINK ------------------------------------------------------------------------------


@st.composite
def vimh(draw: Any) -> tuple[list[Any], list[str], dict[str, Any], bool]:
    plain = st.sampled_from(["note", "label", "loud", "category"])
    tricky = st.sampled_from(
        ["caption", "file_name", "image", "shape", "spec_min", "note_code", "a_file_name", "split"]
    )
    names = draw(st.lists(plain | tricky, max_size=3, unique=True))
    shapes = draw(st.sampled_from([[(3, 4, 1)], [(3, 4, 3)], [(3, 4, 1), (2, 5, 3)], [(2, 2, 2)]]))
    spec = draw(st.sampled_from([(0.0, 0.0), (-80.0, 3.5)]))
    full = draw(st.booleans())
    records = []
    for _ in range(draw(st.integers(1, 4))):
        h, w, c = draw(st.sampled_from(shapes))
        codes = {n: draw(st.integers(0, 255)) for n in names if full or draw(st.booleans())}
        pixels = np.array(draw(st.binary(min_size=h * w * c, max_size=h * w * c)), "S")
        image = np.frombuffer(pixels.item().ljust(h * w * c, b"\0"), np.uint8).reshape(h, w, c)
        records.append((image, codes, spec))
    info = draw(st.sampled_from([{}, {"sample_rate": 8000}, {"channel_labels": ["depth"]}]))
    return records, names, info, draw(st.booleans())


@pytest.mark.parametrize("to", TARGETS)
def test_vimh(to):
    @few(4 if to == "huggingface" else 25)
    @given(vimh())
    def check(given_: Any) -> None:
        records, names, info, classes = given_
        with tempfile.TemporaryDirectory() as tmp:
            source = Path(tmp) / "s"
            high = 255.0 if classes else 3.0
            step = 1.0 if classes else 0.5
            ps = [mapix.vimh.Parameter(n, k, 0.0, high, step) for k, n in enumerate(names)]
            with mapix.vimh.Writer(source, ps, info=info) as out:
                for image, codes, spec in records:
                    coded = {n: np.array([v], np.uint8) for n, v in codes.items()}
                    ranges = np.array([spec], np.float32)
                    out.extend(image[None], codes=coded, spec_range=ranges)
            options = {"label": names[0]} if to == "idx" and len(names) > 1 else {}
            try:
                found, lost, _ = converted(source / "train", Path(tmp), to, **options)
            except UnsupportedError:
                return
            assert len(found) == len(records)
            for (image, codes, spec), r in zip(records, found, strict=True):
                assert same_pixels(r["pixels"], image)
                labels = r["labels"]
                for k, name in enumerate(names):
                    coded = to == "folder"  # others are read by their codes above
                    value = labels.get(f"{name}_code" if coded else name)
                    if to == "vimh" and name == "category":
                        continue  # the reader above takes it for an image folder's
                    if (
                        to == "idx"
                        and "" in labels
                        and k == names.index(options.get("label", name))
                    ):
                        assert f"label {name}" in lost or labels[""] == codes[name]
                        continue
                    assert value == codes.get(name) or f"label {name}" in lost
                    if to == "folder":
                        assert "ranges of labels" in lost
                assert r.get("spec", (0.0, 0.0)) == spec or "spec_min" in lost
                for key, value in info.items():
                    there = r.get("info") or {}
                    assert there.get(key) == value or key in lost

    check()


ARRAYS = st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"])


@pytest.mark.parametrize("to", TARGETS)
def test_idx(to):
    @few(4 if to == "huggingface" else 25)
    @given(ARRAYS, st.sampled_from([(3, 4), (2, 3, 3), (5,)]), st.integers(1, 4), st.data())
    def check(dtype: str, shape: tuple[int, ...], n: int, data: Any) -> None:
        size = n * int(np.prod(shape))
        raw = data.draw(st.binary(min_size=size * 8, max_size=size * 8))
        array = np.frombuffer(raw, np.uint8)[: size * np.dtype(dtype).itemsize].view(dtype)
        if dtype in ("f4", "f8"):
            assume(np.isfinite(array).all())
        array = array.reshape(n, *shape)
        with tempfile.TemporaryDirectory() as tmp:
            folder = Path(tmp)
            mapix.idx.write(folder / "s-images-idx3-ubyte", array)
            labels = data.draw(st.none() | st.lists(st.integers(0, 300), min_size=n, max_size=n))
            if labels is not None:
                mapix.idx.write(folder / "s-labels-idx1-ubyte", np.array(labels, np.int16))
            try:
                source = folder / "s-images-idx3-ubyte"
                found, lost, _ = converted(
                    source, folder, to, axes="HWC" if len(shape) == 3 else None
                )
            except UnsupportedError:
                return
            assert len(found) == n
            for k, r in enumerate(found):
                assert same_pixels(r["pixels"], array[k]) or f"of {array.dtype}" in lost
                if labels is None:
                    continue
                value = r["labels"].get("", r["labels"].get("label"))
                if to == "vimh" and value is not None:
                    value = round(value / 255 * max([*labels, 1]))
                assert value == labels[k] or "label label" in lost

    check()


@pytest.mark.parametrize("to", TARGETS)
def test_pink(to, tmp_path):
    array = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    with mapix.pink.Writer(tmp_path / "s.bin", "data", (3, 4), header=["who made it"]) as out:
        out.extend(array)
    try:
        found, lost, _ = converted(tmp_path / "s.bin", tmp_path, to)
    except UnsupportedError:
        assert to in ("folder", "huggingface", "tfrecord")
        return
    for k, r in enumerate(found):
        assert same_pixels(r["pixels"], array[k]) or "numbers of float32" in lost
        assert b"who made it" in r.get("comment", b"") or "lines of comment" in lost


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_archives_read_by_pycocotools(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    import mapix.iid

    rng = np.random.default_rng(1)
    canvas, added = (40, 50), []
    meta = {"who": "me", "n": [1, 2.5, None, "ü"]}
    with mapix.iid.Writer(tmp_path / "a.iid", meta=meta) as out:
        for k in range(12):
            mask = rng.random((1 + k, 2 + k % 3)) < 0.7
            mask[0, 0] = mask[-1, -1] = True
            groups = [g for g in ("a", "b", "ü") if rng.random() < 0.5]
            out.add(f"d{k % 2}", f"x{k}", mask, at=(2 * k, k), groups=groups)
            whole = np.zeros(canvas, bool)
            whole[2 * k : 2 * k + mask.shape[0], k : k + mask.shape[1]] = mask
            added.append((f"d{k % 2}".encode(), f"x{k}".encode(), set(groups), whole))
    assert mapix.convert(tmp_path / "a.iid", tmp_path / "a.parquet").lost == ()
    table = parquet.read_table(tmp_path / "a.parquet")
    about = json.loads(table.schema.metadata[b"mapix"])
    assert about["meta"] == meta
    h, w = about["size"]
    for row, (domain, iid, groups, whole) in zip(table.to_pylist(), added, strict=True):
        assert (row["domain"], row["iid"], set(row["groups"])) == (domain, iid, groups)
        found = coco.decode({"size": [h, w], "counts": row["rle"].encode()})
        np.testing.assert_array_equal(found.astype(bool), whole[:h, :w])
        assert not whole[h:].any()
        assert not whole[:, w:].any()
        assert row["area"] == whole.sum()
        ys, xs = np.nonzero(whole)
        box = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
        assert tuple(row[k] for k in ("minr", "minc", "maxr", "maxc")) == box


# --- the mechanism --------------------------------------------------------------------------------


def test_what_a_target_forgets_is_lost():
    """A target keeps what it names; everything else is reported, whatever a source may hold."""
    from mapix.conversion.stream import BESIDES, Label, Stream
    from mapix.conversion.target import Target

    def whole() -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(1, int), np.ones(1, bool)

    stream = Stream("s", 1, np.dtype("u1"), (1, 1, 1), 1, "HWC", lambda *_: iter(()))
    stream.labels = [Label("a", whole), Label("b", whole)]
    stream.besides = {name: f"the {name}" for name in sorted(BESIDES)}
    stream.reduced = ["digits"]

    class Forgetful(Target):
        def keeps(self, stream: Stream) -> set[str]:
            return {"label:a", "facts"}

    lost = Forgetful().lost({"train": stream})
    told = [f"the {name}" for name in sorted(BESIDES) if name != "facts"]
    assert lost == [*told, "label b", "digits"]
    stream.besides["something new"] = "something that nobody has thought of"
    with pytest.raises(AssertionError, match="no target knows of something new"):
        Forgetful().lost({"train": stream})
    del stream.besides["something new"]

    class Wrong(Target):
        def keeps(self, stream: Stream) -> set[str]:
            return {"label:a", "spec_rnage"}

    with pytest.raises(AssertionError, match="keeps {'spec_rnage'}, which nothing holds"):
        Wrong().lost({"train": stream})


def every_target() -> Iterator[Any]:
    from mapix.conversion import target_named

    for name in TARGETS:
        path = {"idx": "x.idx"}.get(name, "x")
        yield target_named(name, path, {})


def test_only_the_base_class_says_what_is_lost():
    from mapix.conversion.target import Target

    for target in every_target():
        assert type(target).lost is Target.lost
