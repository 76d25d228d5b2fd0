"""A SOM of photographs: trained in a few lines of numpy, kept as PINK's files, mapped, drawn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.pink import Lattice, Writer, records, transformed, write_data, write_som

SIDE, NEURON, HEX, TURNS = 24, 16, 7, 8


def patches() -> np.ndarray:
    """Squares of photographs, each from 0 to 1."""
    photos = pytest.importorskip("skimage.data", reason="needs scikit-image: 'mapix[photos]'")
    rng = np.random.default_rng(0)
    found = []
    for name in ("camera", "coins", "brick", "text"):
        image = getattr(photos, name)().astype(np.float32)
        for _ in range(60):
            y, x = (int(rng.integers(0, n - SIDE)) for n in image.shape)
            patch = image[y : y + SIDE, x : x + SIDE]
            found.append((patch - patch.min()) / max(np.ptp(patch), 1))
    return np.array(found)


def variants(data: np.ndarray) -> np.ndarray:
    """Each patch turned and flipped in all ways, (n, 2 * TURNS, pixels)."""
    ways = [(flip, k * 2 * math.pi / TURNS) for flip in (False, True) for k in range(TURNS)]
    shape = (NEURON, NEURON)
    return np.array([[transformed(p, f, a, shape).ravel() for f, a in ways] for p in data])


def distances(turned: np.ndarray, som: np.ndarray) -> np.ndarray:
    """Squared, (n, variants, neurons)."""
    cross = turned @ som.T
    squares = (turned**2).sum(2)[..., None] + (som**2).sum(1) - 2 * cross
    return np.maximum(squares, 0)


def train(turned: np.ndarray, lattice: Lattice) -> np.ndarray:
    """A batch SOM that does not mind turns and flips, as PINK's."""
    rng = np.random.default_rng(1)
    som = turned[rng.choice(len(turned), lattice.size), 0]
    cells = np.arange(lattice.size)
    away = lattice.distance(cells[:, None], cells)
    for step in range(12):
        squares = distances(turned, som)
        best = squares.min(1).argmin(1)
        way = squares[np.arange(len(turned)), :, best].argmin(1)
        near = np.exp(-((away[best] / (3 * 0.8**step)) ** 2))
        som = near.T @ turned[np.arange(len(turned)), way] / near.sum(0)[:, None]
    return som


def test_photographs(tmp_path):
    data = patches()
    turned = variants(data)
    lattice = Lattice("hexagonal", (HEX, HEX))
    som = train(turned, lattice)
    squares = distances(turned, som)
    way, away = squares.argmin(1), np.sqrt(squares.min(1))

    write_data(tmp_path / "data.bin", data, header=["patches of photographs"])
    write_som(tmp_path / "som.bin", som.reshape(-1, NEURON, NEURON), layout="hexagonal")
    on_som = {"som_shape": (HEX, HEX), "layout": "hexagonal"}
    with Writer(tmp_path / "map.bin", "map", **on_som) as out:
        out.extend(away)
    with Writer(tmp_path / "rot.bin", "rot", **on_som) as out:
        out.extend(records(way // TURNS, way % TURNS * 2 * math.pi / TURNS))

    images, neurons, mapping, rotation = (
        mapix.open(tmp_path / f"{kind}.bin") for kind in ("data", "som", "map", "rot")
    )
    assert {neurons.layout, mapping.layout, rotation.layout} == {"hexagonal"}
    assert (mapping.best_match() == squares.min(1).argmin(1)).mean() > 0.99  # float32
    gained = 0
    for i in range(len(images)):
        j = mapping.best_match(i)
        fit = rotation.best_fit(images[i], i, j, (NEURON, NEURON))
        found = np.linalg.norm(fit - neurons[j])
        assert found == pytest.approx(mapping[i][j], rel=1e-3, abs=1e-3)
        plain = np.linalg.norm(transformed(images[i], False, 0, (NEURON, NEURON)) - neurons[j])
        gained += found < plain - 1e-6
    assert gained > len(images) / 2  # turning helps

    # what is near in the pictures is near on the map: neighbours are alike, and photographs part
    every = np.arange(lattice.size)
    far = lattice.distance(every[:, None], every)
    apart = np.linalg.norm(som[:, None] - som, axis=2)
    assert apart[far == 1].mean() < apart[far >= 4].mean()
    heat = mapping.heatmap()
    assert heat.sum() == len(images)
    assert heat.mask.sum() == HEX * HEX - lattice.size
    worst = mapping.outliers(5)
    assert mapping.best_distance()[worst[0]] == mapping.best_distance().max()

    pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    for name, picture in (("som", neurons.picture(64)), ("map", mapping.picture(size=40))):
        picture.save(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
        assert len({tuple(c) for c in np.asarray(picture).reshape(-1, 3)[::7].tolist()}) > 5


def test_the_example_of_the_docs(tmp_path, monkeypatch, capsys):
    for name in ("skimage.data", "PIL.Image"):
        pytest.importorskip(name, reason="needs scikit-image and Pillow: 'mapix[photos]'")
    text = (Path(__file__).parent.parent / "docs/pink.md").read_text(encoding="utf-8")
    code = text.split("<!-- example -->")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/pink.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(")
    assert mapix.open("som.bin").nneurons == 61
    assert mapix.open("map.bin").counts().sum() == 2000
    assert Path("som.png").stat().st_size > 10_000
