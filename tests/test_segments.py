"""Real segmentations: photographs cut up by scikit-image, and the demo's own cells."""

from __future__ import annotations

import numpy as np
import pytest

import mapix
from mapix.demo import segments
from mapix.iid.overlay import overlay


def check(picture, layers, archive) -> None:
    """The archive says what the label images say."""
    h, w = picture.shape[:2]
    names = {}
    for domain, labels in layers.items():
        for value in np.unique(labels[labels >= 0]).tolist():
            names[domain.encode(), str(value).encode()] = labels == value
    assert dict.fromkeys(archive.names()) == dict.fromkeys(names)
    rng = np.random.default_rng(0)
    for key in rng.permutation(len(archive))[:60].tolist():
        s = archive[key]
        mask = names[s.domain, s.iid]
        assert s.area == mask.sum()
        assert (s.mask((0, 0, h, w)) == mask).all()
    x, y = rng.integers(0, w, 300), rng.integers(0, h, 300)
    keys, offsets = archive.at(x, y)
    for k in range(300):
        want = {
            (d.encode(), str(v[y[k], x[k]]).encode())
            for d, v in layers.items()
            if v[y[k], x[k]] >= 0
        }
        assert set(archive.names(keys[offsets[k] : offsets[k + 1]])) == want
    for domain, labels in layers.items():
        painted = archive.paint(archive.groups[domain], (0, 0, h, w))
        there = labels >= 0
        assert (painted >= 0).tolist() == there.tolist()
        value = {int(k): int(archive[int(k)].iid) for k in archive.groups[domain]}
        assert all(value[k] == labels[painted == k][0] for k in np.unique(painted[there]).tolist())
    shared = archive.overlaps()
    for k in rng.permutation(len(shared))[:60].tolist():
        i, j = (names[archive.name(int(v[k]))] for v in (shared.i, shared.j))
        assert shared.pixels[k] == (i & j).sum()
    domain = dict(zip(archive.keys.tolist(), (d for d, _ in archive.names()), strict=True))
    pairs = zip(shared.i.tolist(), shared.j.tolist(), strict=True)
    assert all(domain[i] != domain[j] for i, j in pairs)  # layers do not overlap themselves


def test_cells(tmp_path):
    picture, layers = segments.cells(200, 260, 80)
    archive = segments.make(tmp_path / "cells.iid", picture, layers)
    check(picture, layers, archive)
    drawn = overlay(archive, picture, archive.keys)
    covered = archive.paint(bbox=(0, 0, 200, 260)) >= 0
    assert drawn.shape == picture.shape
    inner = ~covered
    inner[1:] &= ~covered[:-1]
    inner[:, 1:] &= ~covered[:, :-1]
    assert (drawn[inner] == picture[inner]).all()
    assert (drawn[covered] != picture[covered]).any(axis=1).mean() > 0.99


@pytest.mark.parametrize("name", ["coins", "astronaut", "coffee"])
def test_photographs(tmp_path, name):
    pytest.importorskip("skimage", reason="needs scikit-image: pip install 'mapix[photos]'")
    picture, layers = segments.photograph(name)
    archive = segments.make(tmp_path / "photo.iid", picture, layers)
    assert len(archive) > 500
    check(picture, layers, archive)
    again = mapix.open(tmp_path / "photo.iid")
    assert (again.areas == archive.areas).all()
