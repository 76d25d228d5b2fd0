"""Real photographs through an image folder, with boxes: written, opened, batched, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.folder import lint, write

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
skimage = pytest.importorskip("skimage", reason="needs scikit-image: pip install 'mapix[photos]'")

PHOTOS = {
    "astronaut.png": (
        "an astronaut before a model of the shuttle",
        {"face": [[172, 64, 110, 140]], "shuttle": [[330, 20, 100, 250]]},
    ),
    "cats/chelsea.png": ("a cat", {"eye": [[140, 85, 70, 60], [285, 108, 65, 60]]}),
    "coffee.jpg": (
        "a cup of coffee, and a spoon",
        {"cup": [[165, 20, 258, 265]], "spoon": [[322, 60, 105, 272]]},
    ),
    "rocket.jpg": ("a rocket on its launch pad at night", {"rocket": [[290, 60, 70, 330]]}),
    "camera.png": ("a man with a camera", {"man": [[14, 58, 330, 450]]}),
    "coins.png": ("coins", {}),
}


def coins(image: np.ndarray) -> list[list[float]]:
    """Boxes of bright things on dark ground."""
    from skimage import filters, measure, morphology, segmentation

    bright = morphology.closing(image > filters.threshold_otsu(image), np.ones((3, 3)))
    found = measure.regionprops(measure.label(segmentation.clear_border(bright)))
    boxes = [r.bbox for r in found if r.area > 300]
    return [[x0, y0, x1 - x0, y1 - y0] for y0, x0, y1, x1 in boxes]


def photograph(name: str) -> np.ndarray:
    from skimage import data

    return getattr(data, Path(name).stem)()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photos"
    records = []
    for name, (caption, named) in PHOTOS.items():
        image = photograph(name)
        named = named or {"coin": coins(image)}
        boxes = [box for some in named.values() for box in some]
        names = [n for n, some in named.items() for _ in some]
        records.append(
            {
                "file_name": name,
                "image": image,
                "caption": caption,
                "categories": sorted(named),
                "objects": (boxes, names),
                "save": {"quality": 95} if name.endswith("jpg") else None,
            }
        )
    write(path, records)
    return path


def test_photographs_come_back(folder):
    ds = mapix.open(folder)
    assert len(ds) == len(PHOTOS)
    assert lint(folder, threads=2).ok
    assert len(ds["coins.png"].objects) > 15
    for record, name in zip(ds, PHOTOS, strict=True):
        image = photograph(name)
        found = record.image.squeeze()
        assert found.shape == image.shape
        if name.endswith("png"):
            np.testing.assert_array_equal(found, image)
        else:
            assert np.abs(found.astype(int) - image).mean() < 4
        assert record.caption == PHOTOS[name][0]


def part(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """What is in a box, as 24 x 24 grey pixels."""
    x, y, w, h = box
    grey = Image.fromarray(image).convert("L")
    how = Image.Resampling.BOX
    return np.asarray(grey.resize((24, 24), how, box=(x, y, x + w, y + h)), np.float64).ravel()


@pytest.mark.parametrize("draft", [False, True])
@pytest.mark.parametrize("fit", ["resize", "letterbox", "cover"])
def test_what_is_in_a_box_stays_in_it(folder, fit, draft):
    """The same thing is in a box of the batch as in that of the photograph."""
    ds = mapix.open(folder)
    size = (300, 340)
    batch = ds.batch(range(len(ds)), size=size, fit=fit, mode="RGB", draft=draft, threads=2)
    nboxes = 0
    for k, record in enumerate(ds):
        image = np.asarray(record.pil().convert("RGB"))
        for old, new in zip(record.objects.bbox, batch.boxes[k], strict=True):
            inside = (
                new[:2].min() >= 0 and new[0] + new[2] <= size[1] and new[1] + new[3] <= size[0]
            )
            if not inside:
                assert fit == "cover"
                continue
            a, b = part(image, old), part(batch.images[k], new)
            same = np.corrcoef(a, b)[0, 1]
            beside = part(batch.images[k], np.maximum(new - [4, 4, 0, 0], 0))
            assert same > 0.93, (record.file_name, old)
            assert same > np.corrcoef(a, beside)[0, 1]
            nboxes += 1
    assert nboxes > 15


def test_they_are_drawn(folder, tmp_path):
    from mapix.folder.drawing import sheet

    page = sheet(mapix.open(folder), columns=3)
    page.save(tmp_path / "sheet.png")
    pixels = np.asarray(page)
    assert pixels.shape[1] > 1000
    assert (pixels != pixels[0, 0]).any(axis=2).mean() > 0.4


def test_a_loader_over_them(folder):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
    from torch.utils.data import DataLoader

    import mapix.torch

    data = mapix.torch.Images(folder, size=(128, 128), fit="letterbox", mode="RGB", scale=1 / 255)
    loader = DataLoader(data, batch_size=4, shuffle=True, collate_fn=mapix.torch.collate)
    seen = [t["file_name"] for _, targets in loader for t in targets]
    assert sorted(seen) == sorted(PHOTOS)
    images, targets = next(iter(loader))
    assert images.shape == (4, 3, 128, 128)
    assert images.dtype == torch.float32
    assert all((t["boxes"] >= 0).all() and (t["boxes"] <= 128).all() for t in targets)
