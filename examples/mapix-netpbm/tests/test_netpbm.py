"""The example format passes mapix's conformance suite, and is found by its entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mapix_netpbm import Netpbm

import mapix
from mapix.__main__ import main
from mapix.testing import FormatTests

SMALL = b"P5 3 2 255\n" + bytes(range(6))
COLOUR = b"P6\n# made by hand\n2 1\n255\n" + bytes(range(100, 106))
DEEP = b"P5 2 2 65535\n" + bytes(range(8))


def numbers_of(data: bytes, at: int) -> tuple[list[int], int] | None:
    """Width, height and largest value after the magic, byte by byte; and where pixels begin."""
    found: list[int] = []
    at += 2
    for most in (9, 9, 5):
        begin = at
        while data[at : at + 1].isspace() or data[at : at + 1] == b"#":
            if data[at : at + 1] == b"#":
                at = data.find(b"\n", at)
                if at < 0:
                    return None
            at += 1
        first = at
        while data[at : at + 1].isdigit():
            at += 1
        if first == begin or not 1 <= at - first <= most:
            return None
        found.append(int(data[first:at]))
    return (found, at + 1) if data[at : at + 1].isspace() else None


class TestNetpbm(FormatTests):
    def sample(self, folder: Path) -> Path:
        path = folder / "sample.pnm"
        path.write_bytes(SMALL + COLOUR + DEEP)
        return path

    def read_slowly(self, data: bytes) -> list[Any] | None:
        images, at = [], 0
        while at < len(data):
            known = numbers_of(data, at) if data[at : at + 2] in (b"P5", b"P6") else None
            if known is None:
                return None
            (width, height, largest), begin = known
            if not (width and height and 0 < largest < 65536):
                return None
            each = 1 if largest < 256 else 2
            n = width * height * (1 if data[at + 1 : at + 2] == b"5" else 3)
            raw = data[begin : begin + n * each]
            if len(raw) < n * each:
                return None
            pixels = [int.from_bytes(raw[k : k + each], "big") for k in range(0, len(raw), each)]
            images.append((height, width, pixels))
            at = begin + n * each
        return images or None

    def content(self, dataset: Any) -> list[Any]:
        return [(*image.shape[:2], image.ravel().tolist()) for image in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[np.ndarray]:
        return [dataset[0]]


def test_found_by_its_entry_point(tmp_path: Path) -> None:
    path = TestNetpbm().sample(tmp_path)
    ds = mapix.open(path)
    assert isinstance(ds, Netpbm)
    assert ds.columns["width"].values.tolist() == [3, 2, 2]
    assert ds.where("width < 3 and height > 1").rows.tolist() == [2]
    assert ds.batch([0, 2], dtype="float32", pad=True).images.shape == (2, 2, 3, 1)


def test_converted_by_the_general_way(tmp_path: Path) -> None:
    path = tmp_path / "two.pgm"
    path.write_bytes(SMALL * 2)
    mapix.convert(path, tmp_path / "two.npy", lossy=True)
    assert np.load(tmp_path / "two.npy").shape == (2, 2, 3)


def test_the_command_line_serves_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = TestNetpbm().sample(tmp_path)
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "netpbm" in shown
    assert "width" in shown
    assert main(["verify", str(path)]) == 0
    assert main(["convert", str(path), str(tmp_path / "new.npz"), "--lossy"]) == 0
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["info", str(path)]) == 1
    assert "ends at byte" in capsys.readouterr().err


def test_pytorch_takes_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import mapix.torch

    path = tmp_path / "two.ppm"
    path.write_bytes(COLOUR * 4)
    images, labels = mapix.torch.Dataset(path)[[0, 3]]
    assert images.shape == (2, 3, 1, 2)
    assert labels is None
    batches = list(mapix.torch.Loader(mapix.open(path), 2))
    assert [tuple(x.shape) for x, _ in batches] == [(2, 3, 1, 2)] * 2
