"""A layer: weights, biases and an activation function."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.visualrbm.activation import APPROXIMATE, EXACT, approximate_products
from mapix.visualrbm.layout import FUNCTIONS

__all__ = ["Approx", "Floats", "Layer", "connected", "floats", "function_of"]

Floats = NDArray[np.float32]
Approx = Literal["visualrbm"]
MOST_LANES = 1 << 22  # held at once


def floats(value: ArrayLike, name: str, shape: tuple[int, ...]) -> Floats:
    """Return numbers of a shape as float32, not copied where they are; else raise an error."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: numbers expected, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: shape {shape} expected, got {array.shape}")
    return np.asarray(array, np.float32)


def function_of(value: str, name: str) -> str:
    """Return the name of an activation function, or raise ValueError."""
    if value not in FUNCTIONS:
        raise ValueError(f"{name}: one of {', '.join(FUNCTIONS)} expected, got {value!r}")
    return value


class Layer:
    """A function of rows: ``function(weights @ x + biases)``.  float32 arrays are not copied.

    Parameters
    ----------
    weights : array_like
        float32 (outputs, inputs).
    biases : array_like
        float32 (outputs,).
    function : {"Linear", "RectifiedLinear", "Sigmoid", "Softmax"}
        The activation function.
    """

    __slots__ = ("biases", "function", "weights")

    def __init__(self, weights: ArrayLike, biases: ArrayLike, function: str) -> None:
        found = np.asarray(weights)
        if found.ndim != 2 or not found.size:
            raise ValueError(f"weights: shape (outputs, inputs) expected, got {found.shape}")
        self.weights = floats(found, "weights", found.shape)
        self.biases = floats(biases, "biases", found.shape[:1])
        self.function = function_of(function, "function")

    @property
    def inputs(self) -> int:
        """Length of a row of the input."""
        return int(self.weights.shape[1])

    @property
    def outputs(self) -> int:
        """Length of a row of the output."""
        return int(self.weights.shape[0])

    def __call__(self, x: ArrayLike, *, approx: Approx | None = None) -> Floats:
        """Return the outputs of rows, float32 (n, outputs); of one row, (outputs,).

        Parameters
        ----------
        x : array_like
            Numbers, (n, inputs) or (inputs,); used as float32.
        approx : {"visualrbm"}, optional
            The same bits as VisualRBM's tools, which approximate sigmoids and exponentials; slow.
            By default the function follows its definition.
        """
        rows = np.asarray(x)
        if rows.dtype.kind not in "fiu":
            raise TypeError(f"numbers expected, got {rows.dtype}")
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.inputs:
            raise ValueError(f"rows of {self.inputs} numbers expected, got shape {rows.shape}")
        flat = np.ascontiguousarray(rows, np.float32).reshape(-1, self.inputs)
        if approx is None:
            made = EXACT[self.function](flat @ self.weights.T + self.biases)
        elif approx == "visualrbm":
            made = self._approximately(flat)
        else:
            raise ValueError(f"approx must be visualrbm or None, got {approx!r}")
        return made.reshape(*rows.shape[:-1], self.outputs)

    def _approximately(self, rows: Floats) -> Floats:
        step = max(1, MOST_LANES // (4 * self.outputs))
        made = np.empty((len(rows), self.outputs), np.float32)
        for at in range(0, len(rows), step):
            products = approximate_products(rows[at : at + step], self.weights)
            made[at : at + step] = APPROXIMATE[self.function](self.biases + products)
        return made

    def __repr__(self) -> str:
        return f"<Layer {self.inputs} -> {self.outputs} {self.function}>"


def connected(layers: Sequence[Layer]) -> None:
    """Raise ValueError where layers do not fit one another."""
    for k, (a, b) in enumerate(itertools.pairwise(layers)):
        if a.outputs != b.inputs:
            raise ValueError(
                f"layer {k} has {a.outputs} outputs, layer {k + 1} {b.inputs} inputs: "
                "they do not fit one another"
            )
