"""U-matrices, and the files of one run of PINK together."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.pink import Lattice, Run, records, write_data, write_map, write_rot, write_som


def opened_som(path: Path, neurons: Any, *shape: Any, **options: Any) -> Any:
    write_som(path, neurons, *shape, **options)
    return mapix.open(path)


@pytest.mark.parametrize(
    "lattice",
    [Lattice("hexagonal", (side, side)) for side in (1, 3, 5, 9)]
    + [Lattice("cartesian", shape) for shape in ((1,), (4,), (3, 5), (1, 4), (2, 3, 4))],
    ids=repr,
)
def test_pairs_that_touch(lattice: Lattice) -> None:
    every = range(lattice.size)
    wanted = {(i, int(j)) for i in every for j in lattice.neighbours(i) if i < j}
    assert len(lattice.pairs) == len(wanted)
    assert {tuple(pair) for pair in lattice.pairs.tolist()} == wanted


def test_a_u_matrix_of_a_square(tmp_path: Path) -> None:
    neurons = np.array([[0, 0], [3, 4], [0, 12], [3, 16]], np.float32)
    som = opened_som(tmp_path / "a.bin", neurons, (2, 2))
    # sides: 5 (0-1), 12 (0-2), 12 (1-3), 5 (2-3)
    assert som.u_matrix().tolist() == [8.5, 8.5, 8.5, 8.5]
    som = opened_som(tmp_path / "b.bin", np.array([[0.0], [1], [4]], np.float32), (3,))
    assert som.u_matrix().tolist() == [1, 2, 3]
    assert som.u_matrix().dtype == np.float64


def test_a_u_matrix_of_a_hexagon(tmp_path: Path) -> None:
    neurons = np.random.default_rng(0).normal(size=(37, 3, 4)).astype(np.float32)
    som = opened_som(tmp_path / "a.bin", neurons, layout="hexagonal")
    wanted = [
        np.mean(
            [
                math.sqrt(float(np.square(neurons[i].astype(float) - neurons[j]).sum()))
                for j in som.lattice.neighbours(i)
            ]
        )
        for i in range(37)
    ]
    np.testing.assert_allclose(som.u_matrix(), wanted, rtol=1e-12)
    assert som.lattice.dense(som.u_matrix())[3, 3] == som.u_matrix()[som.lattice.index(3, 3)]
    with pytest.raises(ValueError, match="a part of a SOM does not have a U-matrix"):
        som[:3].u_matrix()


def test_a_u_matrix_of_one_neuron_and_of_bytes(tmp_path: Path) -> None:
    som = opened_som(tmp_path / "a.bin", np.zeros((1, 2), np.float32), layout="hexagonal")
    assert np.isnan(som.u_matrix()).tolist() == [True]
    som = opened_som(tmp_path / "b.bin", np.array([[0], [255]], np.uint8), (2,))
    assert som.u_matrix().tolist() == [255, 255]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A hexagonal SOM of 7 neurons, five entries, their distances and turns."""
    rng = np.random.default_rng(1)
    away = np.full((5, 7), 9.0, np.float32)
    for entry, (neuron, distance) in enumerate([(2, 3.0), (6, 1.0), (2, 2.0), (2, 3.0), (0, 0.5)]):
        away[entry, neuron] = distance
    found = {name: tmp_path / f"{name}.bin" for name in ("som", "mapping", "data", "rotation")}
    write_som(found["som"], rng.random((7, 4, 4), np.float32), layout="hexagonal")
    write_map(found["mapping"], away, layout="hexagonal", som_shape=(3, 3))
    write_data(found["data"], rng.random((5, 6, 6), np.float32))
    flips, angles = rng.integers(0, 2, (5, 7)), rng.random((5, 7)) * 6
    write_rot(found["rotation"], flips, angles, layout="hexagonal", som_shape=(3, 3))
    return found


def test_a_run(files: dict[str, Path]) -> None:
    with Run(*reversed(files.values())) as run:
        assert [run.members(k).tolist() for k in (2, 6, 0, 1)] == [[2, 0, 3], [1], [4], []]
        assert list(run.heatmaps) == ["counts", "distance", "u_matrix"]
        assert run.heatmaps["counts"]().tolist() == [1, 0, 3, 0, 0, 0, 1]
        distance = run.heatmaps["distance"]()
        assert distance[[0, 2, 6]].tolist() == [0.5, 8 / 3, 1]
        assert np.isnan(distance[[1, 3, 4, 5]]).all()
        assert run.heatmaps["u_matrix"]().tolist() == run.som.u_matrix().tolist()
        assert run.rotation is not None
        assert run.data is not None
        for entry, neuron in ((0, None), (1, 4)):
            wanted = run.rotation.best_fit(run.data[entry], entry, neuron or 2, (4, 4))
            np.testing.assert_array_equal(run.best_fit(entry, neuron), wanted)
        assert "7 hexagonal neurons, mapping of 5, data of 5, rotation of 5" in repr(run)
        with pytest.raises(IndexError, match="7"):
            run.members(7)
    assert run.data.closed


def test_a_run_of_fewer_files(files: dict[str, Path]) -> None:
    run = Run(mapix.open(files["som"]))
    assert list(run.heatmaps) == ["u_matrix"]
    with pytest.raises(ValueError, match="this needs a mapping file"):
        run.members(0)
    with pytest.raises(ValueError, match="this needs a data file"):
        run.best_fit(0, 0)
    with pytest.raises(ValueError, match="a SOM expected"):
        Run(files["data"])
    with pytest.raises(ValueError, match="a complete file"):
        Run(files["som"], mapix.open(files["data"])[:2])
    with pytest.raises(mapix.FormatError, match="a second data"):
        Run(files["som"], files["data"], files["data"])


def test_files_that_do_not_belong_together(files: dict[str, Path], tmp_path: Path) -> None:
    write_data(tmp_path / "d.bin", np.zeros((4, 6, 6), np.float32))
    with pytest.raises(mapix.FormatError, match=r"d\.bin.*4 entries, .*mapping\.bin has 5"):
        Run(files["som"], files["mapping"], tmp_path / "d.bin")
    write_map(tmp_path / "m.bin", np.zeros((5, 7), np.float32), som_shape=(7,))
    with pytest.raises(mapix.FormatError, match="7 neurons of a cartesian SOM"):
        Run(files["som"], tmp_path / "m.bin")


def test_an_entry_without_a_match_and_vectors(files: dict[str, Path], tmp_path: Path) -> None:
    write_map(
        tmp_path / "m.bin",
        np.full((5, 7), np.nan, np.float32),
        layout="hexagonal",
        som_shape=(3, 3),
    )
    run = Run(files["som"], tmp_path / "m.bin", files["data"], files["rotation"])
    assert run.heatmaps["counts"]().tolist() == [0] * 7
    with pytest.raises(ValueError, match="entry 1 has no nearest neuron"):
        run.best_fit(1)
    write_som(tmp_path / "s.bin", np.zeros((7, 16), np.float32), layout="hexagonal")
    run = Run(tmp_path / "s.bin", files["mapping"], files["data"], files["rotation"])
    with pytest.raises(ValueError, match="one dimension"):
        run.best_fit(1)


def test_a_run_of_version_1(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("som.bin", "map.bin", "data.bin", "rot.bin")]
    rng = np.random.default_rng(2)
    som, data = rng.random((4, 1, 3, 3), np.float32), rng.random((2, 1, 5, 5), np.float32)
    paths[0].write_bytes(struct.pack("<6i", 1, 2, 2, 1, 3, 3) + som.tobytes())
    squares = np.array([[4, 9, 1, 16], [25, 0.25, 1, 1]], "<f4")
    paths[1].write_bytes(struct.pack("<4i", 2, 2, 2, 1) + squares.tobytes())
    paths[2].write_bytes(struct.pack("<4i", 2, 1, 5, 5) + data.tobytes())
    turns = records(np.zeros((2, 4)), np.full((2, 4), math.pi / 2))
    paths[3].write_bytes(struct.pack("<4i", 2, 2, 2, 1) + turns.tobytes())
    run = Run(*paths)
    assert run.heatmaps["distance"]()[[1, 2]].tolist() == [0.5, 1]
    assert run.best_fit(0).shape == (1, 3, 3)
    np.testing.assert_array_equal(run.best_fit(0)[0], np.rot90(data[0, 0, 1:4, 1:4]))
