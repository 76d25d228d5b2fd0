"""The files that the examples of README.md and docs/ open, and names that they use."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from every_operation import npy_bytes
from mapix.demo import data, segments, tour
from mapix.tfrecord.layout import masked
from mapix.vimh import Parameter

N = 5000
"""Records of ``my_dataset``: README.md reads number 4711."""


def my_dataset(path: Path) -> None:
    heads = [Parameter("note_number", 0, 0, 127), Parameter("velocity", 1, 0, 127)]
    images = np.zeros((N, 4, 4, 3), np.uint8) + np.arange(N, dtype=np.uint32)[:, None, None, None]
    codes = {"note_number": np.arange(N) % 256, "velocity": np.arange(N) * 7 % 256}
    with mapix.vimh.Writer(path, heads) as out:
        out.extend(images.astype(np.uint8), codes=codes, split="train")
        out.extend(
            images[:100].astype(np.uint8),
            codes={k: v[:100] for k, v in codes.items()},
            split="test",
        )


def vimh_shards(path: Path) -> None:
    for k in range(10):
        one_shard(path / f"{k:02}.vimh", k)


def one_shard(path: Path, k: int = 10) -> None:
    path.parent.mkdir(exist_ok=True)
    images = np.full((100, 4, 4, 3), k, np.uint8)
    with mapix.vimh.Writer(path, [Parameter("note_number", 0, 0, 127)]) as out:
        out.extend(images, codes={"note_number": np.full(100, 10 * k, np.uint8)})


def cells_catalogue(path: Path) -> None:
    cells(path.with_name("cells-0.iid"))
    mapix.catalogue.write(path.with_name("cells-0.iid"), path)


def sounds(path: Path) -> None:
    """Forty decaying sines of half a second, and their parameters beside the folder."""
    path.mkdir()
    lines, t = ["file_name,note_number,decay_time"], np.arange(4000) / 8000
    for k in range(40):
        note, decay = 48 + k % 25, (0.05, 0.1, 0.2)[k % 3]
        wave_of = 0.5 * np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * t) * np.exp(-t / decay)
        with wave.open(str(path / f"{k:04}.wav"), "wb") as out:
            out.setparams((1, 2, 8000, 0, "NONE", ""))
            out.writeframes(np.rint(wave_of * 32767).astype("<i2").tobytes())
        lines.append(f"{k:04}.wav,{note},{decay}")
    (path.parent / "params.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def synth_config(path: Path) -> None:
    heads = {"note_number": {"min": 48, "max": 72, "step": 1}, "velocity": 90}
    path.write_text(json.dumps({"n_samples": 500, "height": 16, "width": 16, "parameters": heads}))


def mnist(path: Path) -> None:
    path.mkdir()
    rng = np.random.default_rng(0)
    for split, n in ("train", 600), ("t10k", 100):
        mapix.idx.write(
            path / f"{split}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28), "u1")
        )
        mapix.idx.write(path / f"{split}-labels-idx1-ubyte", rng.integers(0, 10, n, "u1"))


def demo(path: Path) -> None:
    """A dataset of ``mapix demo --mb 1``."""
    path.parent.mkdir(exist_ok=True)
    data.make(path.name, path, tour.shares(1)[path.name])


def demo_segments(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    segments.make(path, *segments.cells())


def train_batch(path: Path) -> None:
    mapix.convert(
        mapix.open(made(path.parent, "my_dataset"))[:20],
        path.parent / "p",
        to="vimh",
        output="both",
    )
    (path.parent / "p/train_batch").rename(path)


def my_images(path: Path) -> None:
    from PIL import Image

    path.mkdir()
    lines = []
    for k in range(40):
        Image.new("RGB", (64 + 60 * (k % 20), 48), (k * 5, 80, 200)).save(path / f"{k:04}.png")
        objects = {"bbox": [[2.0, 3.0, 20.0, 30.0]], "categories": [k % 2]}
        line = {"file_name": f"{k:04}.png", "caption": f"a cat, number {k}", "label": k % 2}
        lines.append(json.dumps(line | {"categories": ["cat", "dog"][: k % 3], "objects": objects}))
    (path / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tar_shard(path: Path) -> None:
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (300, 200), (1, 2, 3)).save(picture, "PNG")
    with tarfile.open(path, "w") as out:
        for k in range(10):
            sample = {
                "png": picture.getvalue(),
                "cls": b"%d" % k,
                "json": b'{"width": %d}' % (250 + k),
            }
            sample |= {"txt": b"a text", "seg.png": picture.getvalue()}
            for name, data in sample.items():
                info = tarfile.TarInfo(f"{k:04}.{name}")
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))


def records(path: Path) -> None:
    from PIL import Image

    def field(number: int, content: bytes) -> bytes:
        length = bytes([len(content) & 127 | 128, len(content) >> 7])  # below 16 KiB
        return bytes([number << 3 | 2]) + length + content

    def feature(name: bytes, value: bytes) -> bytes:
        return field(1, field(1, name) + field(2, value))

    picture = io.BytesIO()
    Image.new("RGB", (30, 20), (1, 2, 3)).save(picture, "PNG")
    with open(path, "wb") as out:
        for k in range(10):
            encoded = feature(b"image/encoded", field(1, field(1, picture.getvalue())))
            label = feature(b"image/class/label", field(3, field(1, bytes([k]))))
            data = field(1, encoded + label)
            for part in (struct.pack("<Q", len(data)), data):
                out.write(part + struct.pack("<I", masked(part)))


def cells(path: Path) -> None:
    rng = np.random.default_rng(0)
    with mapix.iid.Writer(path, {"image": {"width": 640, "height": 480}}) as out:
        for k in range(60):
            mask = np.ones((8 + k % 9, 9 + k % 7), bool)
            mask[:3, : k % 5] = False
            at = int(rng.integers(440)), int(rng.integers(600))
            out.add(
                f"slide-{k % 3}", f"cell-{k}", mask, at=at, groups=["cell", "round"][: 1 + k % 2]
            )


def tensors(path: Path) -> None:
    header = {
        "images": {"dtype": "U8", "shape": [30, 8, 8], "data_offsets": [0, 1920]},
        "labels": {"dtype": "U8", "shape": [30], "data_offsets": [1920, 1950]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + digits().tobytes() + bytes(range(30)))


def masks(path: Path) -> None:
    from mapix.drawing import png

    path.write_bytes(png(np.kron(np.arange(12).reshape(3, 4), np.ones((160, 160))).astype("u2")))


def map_v1(path: Path) -> None:
    numbers = np.random.default_rng(1).random((30, 16)).astype("<f4")
    path.write_bytes(np.array([30, 4, 4, 1], "<i4").tobytes() + numbers.tobytes())


def model(path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((30, 40)).round(3).tolist()
    text = {"Type": "RestrictedBoltzmannMachine", "VisibleCount": 40, "HiddenCount": 30}
    text |= {"VisibleType": "Sigmoid", "HiddenType": "Sigmoid", "VisibleBiases": [0.5] * 40}
    text |= {"HiddenBiases": [0.25] * 30, "Weights": weights}
    path.write_text(json.dumps(text), encoding="utf-8")


def schedule(path: Path) -> None:
    golden = Path(__file__).parent / "golden/visualrbm/schedule"
    path.write_bytes((golden / "rbm_doc_example.json").read_bytes())


def coco(path: Path) -> None:
    from PIL import Image

    names = ["0001.jpg", "0002.jpg"]
    (path.parent.parent / "val2017").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (80, 60)).save(path.parent.parent / "val2017" / name)
    images = [{"id": k, "file_name": n, "width": 80, "height": 60} for k, n in enumerate(names)]
    annotations = [
        {
            **{"id": k, "image_id": k % 2, "category_id": 18, "iscrowd": 0, "area": 1200.0},
            **{"bbox": [2, 3, 40, 30], "segmentation": [[2, 3, 42, 3, 42, 33, 2, 33]]},
        }
        for k in range(9)
    ]
    path.parent.mkdir()
    categories = [{"id": 18, "name": "dog", "supercategory": "animal"}]
    text = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(text), encoding="utf-8")


def arrays(path: Path, **given: np.ndarray) -> None:
    np.savez(path, **given)


def digits(n: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8), "u1")


FILES: dict[str, Callable[[Path], Any]] = {
    "mapix-demo/uniform": demo,
    "mapix-demo/mixed": demo,
    "mapix-demo/segments.iid": demo_segments,
    "my_dataset": my_dataset,
    "sounds": sounds,
    "synth.json": synth_config,
    "MNIST": mnist,
    "train_batch": train_batch,
    "my_images": my_images,
    "shard-000.tar": tar_shard,
    "train-000000.tar": tar_shard,
    "train-000001.tar": tar_shard,
    "train-00000-of-01024": records,
    "cells.iid": cells,
    "cells.catalogue": cells_catalogue,
    "shards": vimh_shards,
    "more/00.vimh": one_shard,
    "masks.png": masks,
    "tensors.safetensors": tensors,
    "map_v1.bin": map_v1,
    "annotations/instances_val2017.json": coco,
    "model.json": model,
    "schedule.json": schedule,
    "images.npy": lambda path: path.write_bytes(npy_bytes(digits())),
    "digits.npz": lambda path: arrays(path, images=digits(), labels=np.arange(30) % 10),
    "mnist.npz": lambda path: arrays(path, x_train=digits(), y_train=np.arange(30) % 10),
    "model.npz": lambda path: arrays(path, weights=np.ones((3, 4))),
}
"""Path of a file or folder in an example -> the function that makes it."""

PICTURES = {name for name, make in FILES.items() if make in (my_images, tar_shard, records, coco)}
"""Those that are made with Pillow."""


def made(folder: Path, name: str) -> Path:
    """Make a file in a folder, unless it is there."""
    path = folder / name
    if not path.exists():
        FILES[name](path)
    return path
