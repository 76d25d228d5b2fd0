"""Image folders in PyTorch's loaders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.folder import write

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
mapix_torch = pytest.importorskip("mapix.torch")
from torch.utils.data import DataLoader  # noqa: E402

pytestmark = pytest.mark.torch
N = 23


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)

    def record(k: int) -> dict:
        h, w = 20 + k % 5, 30 - k % 7
        boxes = [[1, 2, 3 + j, 4] for j in range(k % 3)]
        return {
            "file_name": f"sub/{k}.png",
            "image": rng.integers(0, 256, (h, w, 3), np.uint8),
            "caption": f"number {k}",
            "objects": (boxes, [f"c{j}" for j in range(k % 3)]) if k % 4 else None,
        }

    write(tmp_path / "f", [record(k) for k in range(N)])
    return tmp_path / "f"


OPTIONS = {"size": (16, 12), "fit": "letterbox", "mode": "RGB", "scale": 1 / 255}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_loader_gives_what_batch_gives(folder, workers, method):
    if workers == 0 and method == "spawn":
        pytest.skip("no workers to spawn")
    data = mapix_torch.Images(folder, threads=2, **OPTIONS)
    context = {"multiprocessing_context": method} if workers else {}
    loader = DataLoader(
        data, batch_size=5, num_workers=workers, collate_fn=mapix_torch.collate, **context
    )
    ds, at = mapix.open(folder), 0
    for images, targets in loader:
        want = ds.batch(range(at, min(at + 5, N)), dtype="float32", layout="NCHW", **OPTIONS)
        np.testing.assert_array_equal(images.numpy(), want.images)
        assert [t["index"] for t in targets] == [r.index for r in want.records]
        for t, record, boxes in zip(targets, want.records, want.boxes, strict=True):
            assert t["file_name"] == record.file_name
            assert t["caption"] == record.caption
            corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
            np.testing.assert_allclose(t["boxes"].numpy(), corners, rtol=1e-6)
            assert t["boxes"].dtype == torch.float32
            assert len(t["box_categories"]) == len(boxes)
        at += len(images)
    assert at == N


def test_a_sample_and_options(folder):
    data = mapix_torch.Images(folder, **OPTIONS)
    image, target = data[-1]
    assert image.shape == (3, 16, 12)
    assert target["index"] == N - 1
    assert len(data) == N
    assert data.heads == {}
    with pytest.raises(IndexError):
        data[N]
    with pytest.raises(ValueError, match="fit must be one of"):
        mapix_torch.Images(folder, fit="x")
    with pytest.raises(TypeError, match="need a path"):
        mapix_torch.Images(mapix.open(folder), key="file_name")
    own = mapix_torch.Images(
        mapix.open(folder)[3:],
        target=lambda record, boxes: (record.index, len(boxes)),
        batch_transform=lambda images: images * 2,
        transform=lambda image: image[:1],
        **OPTIONS,
    )
    images, targets = own.__getitems__([0, 1]).value
    assert images.shape == (2, 1, 16, 12)
    assert targets == [(3, 0), (4, 0)]


def test_sizes_that_differ_are_told(folder):
    data = mapix_torch.Images(folder)
    loader = DataLoader(data, batch_size=4, collate_fn=mapix_torch.collate)
    with pytest.raises(ValueError, match="pass size="):
        next(iter(loader))
    one = mapix_torch.Images(folder, dtype="uint8", layout="NHWC")
    assert one[0][0].shape == (20, 30, 3)


def test_workers_send_shared_memory(folder):
    data = mapix_torch.Images(folder, **OPTIONS)
    images, _ = data._gather([1, 2], shared=True).value
    assert images.is_shared()
    want = mapix.open(folder).batch([1, 2], dtype="float32", layout="NCHW", **OPTIONS).images
    np.testing.assert_array_equal(images.numpy(), want)
    unknown = mapix_torch.Images(folder, size=(16, 12), fit="resize")
    assert unknown._shared_out(np.array([1])) is None


def test_errors_of_a_worker_reach_the_loader(folder):
    (folder / "sub" / "7.png").write_bytes(b"bad")
    data = mapix_torch.Images(folder, **OPTIONS)
    loader = DataLoader(data, batch_size=5, num_workers=1, collate_fn=mapix_torch.collate)
    with pytest.raises(mapix.FormatError, match=r"7\.png"):
        list(loader)
