"""A SOM together with its data, the mapping of the data, and their rotations."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mapix.errors import FormatError
from mapix.pink.data import Data
from mapix.pink.file import PinkFile
from mapix.pink.layout import NAME
from mapix.pink.mapping import Mapping
from mapix.pink.opening import open_path
from mapix.pink.rotation import Rotation
from mapix.pink.som import Som
from mapix.selection import single

__all__ = ["Run"]


class Run:
    """The files of one run of PINK: a SOM, and what belongs to it.

    Parameters
    ----------
    *files : str, os.PathLike, Som, Mapping, Data or Rotation
        In any sequence, at most one of each kind, complete files; a SOM is needed.  Their headers
        state what they are.

    Raises
    ------
    FormatError
        Two files are of one kind, or they do not belong together: other numbers of neurons or
        entries, or another lattice.
    ValueError
        There is no SOM, or a part of a file was given.

    Attributes
    ----------
    som : Som
        The SOM.
    mapping : Mapping or None
        Distances of entries from neurons.
    data : Data or None
        The entries.
    rotation : Rotation or None
        Flips and angles of the entries.

    Notes
    -----
    Copies: none.  ``close`` closes all files.
    """

    def __init__(self, *files: str | os.PathLike[str] | PinkFile) -> None:
        found: dict[type, Any] = {}
        for given in files:
            file = given if isinstance(given, PinkFile) else open_path(given)
            if type(file) in found:
                other = found[type(file)].path
                raise FormatError(file.path, NAME, f"a second {file.kind}, beside {other}")
            if file._rows is not None:
                raise ValueError(f"{file.path}: a complete file expected, got a part of it")
            found[type(file)] = file
        if Som not in found:
            raise ValueError("a SOM expected, and there is none among the files")
        self.som: Som = found[Som]
        self.mapping: Mapping | None = found.get(Mapping)
        self.data: Data | None = found.get(Data)
        self.rotation: Rotation | None = found.get(Rotation)
        self._check()

    def _check(self) -> None:
        """Raise FormatError unless neurons and entries are the same in all files."""
        for of_som in (self.mapping, self.rotation):
            if of_som is not None and (
                of_som.layout != self.som.layout
                or of_som.lattice.shape != self.som.lattice.shape
                or of_som.nneurons != self.som.nneurons
            ):
                reason = (
                    f"{of_som.nneurons} neurons of a {of_som.layout} SOM {of_som.som_shape}, "
                    f"{self.som.path} has {self.som.nneurons} of a {self.som.layout} one "
                    f"{self.som.som_shape}"
                )
                raise FormatError(of_som.path, NAME, reason)
        entries = [file for file in (self.mapping, self.data, self.rotation) if file is not None]
        for file in entries[1:]:
            if len(file) != len(entries[0]):
                reason = f"{len(file)} entries, {entries[0].path} has {len(entries[0])}"
                raise FormatError(file.path, NAME, reason)

    def _needed(self, kind: str) -> Any:
        """Return a file; raise ValueError where there is none."""
        found = getattr(self, kind)
        if found is None:
            raise ValueError(f"{self.som.path}: this needs a {kind} file, and the run has none")
        return found

    @cached_property
    def _best(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        columns = self._needed("mapping").columns
        best = columns["best_match"]
        return np.where(best.present, best.values, -1), columns["best_distance"].values

    def members(self, neuron: int) -> NDArray[np.int64]:
        """Return the entries whose nearest neuron it is, nearest first, int64 (k,).

        Raises
        ------
        IndexError
            There is no such neuron.
        ValueError
            The run has no mapping.
        """
        neuron = single(neuron, self.som.nneurons, self.som.path, "neurons")
        best, away = self._best
        found = np.flatnonzero(best == neuron)
        return found[np.argsort(away[found], kind="stable")]

    def best_fit(self, entry: int, neuron: int | None = None) -> NDArray[Any]:
        """Return an entry of the data as it fits a neuron best, in the size of the neurons.

        Parameters
        ----------
        entry : int
            Index into the data.
        neuron : int, optional
            By default the nearest one, for which the run needs a mapping.

        Returns
        -------
        ndarray
            (h, w) or (channels, h, w): see ``Rotation.best_fit``.

        Raises
        ------
        ValueError
            The run lacks a file that this needs, or all distances of the entry are infinite.
        """
        data, rotation = self._needed("data"), self._needed("rotation")
        if neuron is None:
            neuron = self._needed("mapping").best_match(entry)
            if neuron < 0:
                raise ValueError(f"{self.som.path}: entry {entry} has no nearest neuron")
        if len(self.som.neuron_shape) < 2:
            raise ValueError(f"{self.som.path}: neurons of one dimension are not turned")
        image = data.batch([entry]).images[0]
        h, w = self.som.neuron_shape[-2:]
        found: NDArray[Any] = rotation.best_fit(image, entry, neuron, (h, w))
        return found

    @property
    def heatmaps(self) -> dict[str, Callable[[], NDArray[Any]]]:
        """Name -> function of each value per neuron that the files give, (neurons,).

        ``u_matrix``; with a mapping also ``counts``, the number of members, and ``distance``, the
        mean distance of the members, NaN without any.
        """
        found: dict[str, Callable[[], NDArray[Any]]] = {}
        if self.mapping is not None:
            found |= {"counts": self._counts, "distance": self._distance}
        return {**found, "u_matrix": self.som.u_matrix}

    def _counts(self) -> NDArray[np.int64]:
        best, _ = self._best
        return np.bincount(best[best >= 0], minlength=self.som.nneurons)

    def _distance(self) -> NDArray[np.float64]:
        best, away = self._best
        some = best >= 0
        total = np.bincount(best[some], away[some], self.som.nneurons)
        with np.errstate(invalid="ignore"):
            found: NDArray[np.float64] = total / self._counts()
        return found

    def close(self) -> None:
        """Close all files."""
        for file in (self.som, self.mapping, self.data, self.rotation):
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        parts = [
            f"{name} of {len(file)}"
            for name in ("mapping", "data", "rotation")
            if (file := getattr(self, name)) is not None
        ]
        what = ", ".join([f"{self.som.nneurons} {self.som.layout} neurons", *parts])
        return f"<mapix.pink.Run {self.som.path}: {what}>"
