"""What VisualRBM trains: models of float32 arrays, and what goes through them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.errors import UnsupportedError
from mapix.formats.visualrbm import AE, FUNCTIONS, MLP, RBM, Document
from mapix.visualrbm.activation import APPROXIMATE, EXACT, approximate_products

__all__ = [
    "AutoEncoder",
    "Layer",
    "Model",
    "MultilayerPerceptron",
    "RestrictedBoltzmannMachine",
    "stack",
]

Floats = NDArray[np.float32]
Approx = Literal["visualrbm"]
PARITY_STEP = 1 << 22  # lanes held at once


def _floats(value: ArrayLike, name: str, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: numbers expected, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: shape {shape} expected, got {array.shape}")
    return np.ascontiguousarray(array, np.float32)


def _function(value: str, name: str) -> str:
    if value not in FUNCTIONS:
        raise ValueError(f"{name}: one of {', '.join(FUNCTIONS)} expected, got {value!r}")
    return value


class Layer:
    """Inputs to outputs: ``function(weights @ x + biases)``.

    Parameters
    ----------
    weights : array_like
        float32 (outputs, inputs).
    biases : array_like
        float32 (outputs,).
    function : {"Linear", "RectifiedLinear", "Sigmoid", "Softmax"}
        Of the outputs.
    """

    __slots__ = ("biases", "function", "weights")

    def __init__(self, weights: ArrayLike, biases: ArrayLike, function: str) -> None:
        found = np.asarray(weights)
        if found.ndim != 2 or not found.size:
            raise ValueError(f"weights: shape (outputs, inputs) expected, got {found.shape}")
        self.weights = _floats(found, "weights", found.shape)
        self.biases = _floats(biases, "biases", found.shape[:1])
        self.function = _function(function, "function")

    @property
    def inputs(self) -> int:
        """Numbers that go in."""
        return self.weights.shape[1]

    @property
    def outputs(self) -> int:
        """Numbers that come out."""
        return self.weights.shape[0]

    def __call__(self, x: ArrayLike, *, approx: Approx | None = None) -> Floats:
        """Outputs of rows, float32 (n, outputs); of one row, (outputs,).

        Parameters
        ----------
        x : array_like
            Numbers, (n, inputs) or (inputs,); used as float32.
        approx : {"visualrbm"}, optional
            Bit for bit what VisualRBM's tools compute, which approximate sigmoids and exponentials;
            slow.  By default the function is what it is defined to be.
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
        step = max(1, PARITY_STEP // (4 * self.outputs))
        made = np.empty((len(rows), self.outputs), np.float32)
        for at in range(0, len(rows), step):
            products = approximate_products(rows[at : at + step], self.weights)
            made[at : at + step] = APPROXIMATE[self.function](self.biases + products)
        return made

    def __repr__(self) -> str:
        return f"<Layer {self.inputs} -> {self.outputs} {self.function}>"


class Model:
    """What the three kinds have in common.  Nothing of the file stays open.

    Attributes
    ----------
    path : str or None
        The file that it was read from.
    unknown : tuple of str
        Names in the file that mean nothing.
    """

    kind: ClassVar[str]
    path: str | None = None
    unknown: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What a row goes through, first to last."""
        raise NotImplementedError

    @property
    def inputs(self) -> int:
        """Numbers of a row that goes in."""
        return self._path_through()[0].inputs

    @property
    def outputs(self) -> int:
        """Numbers of a row that comes out of ``hidden``."""
        return self._path_through()[-1].outputs

    def hidden(self, x: ArrayLike, *, approx: Approx | None = None) -> Floats:
        """What comes out at the end, float32 (n, outputs): what VisualRBM's calchidden computes.

        Parameters
        ----------
        x : array_like
            Rows, (n, inputs), or one row; used as float32.
        approx : {"visualrbm"}, optional
            As for ``Layer``: VisualRBM's own bits.

        Raises
        ------
        ValueError
            Rows have another length, or layers do not fit one another.
        """
        found: Any = x
        for layer in self._path_through():
            found = layer(found, approx=approx)
        return cast(Floats, found)

    def _path_through(self) -> tuple[Layer, ...]:
        layers = self.layers
        if not layers:
            raise ValueError(f"{self.path or 'the model'} has no layers")
        _connected(layers)
        return layers

    def document(self) -> Document:
        """The model as its file's fields."""
        raise NotImplementedError

    def write(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write as JSON, npz or safetensors; see ``mapix.visualrbm.write``."""
        from mapix.visualrbm.writing import write

        write(path, self, **options)

    def joined(self, others: Any) -> Any:
        """Refused: several models are one by ``mapix.visualrbm.stack``."""
        raise UnsupportedError("several models cannot be opened as one; see mapix.visualrbm.stack")

    def close(self) -> None:
        """Nothing is open; here so that models can be used like datasets."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        """Same kind, same numbers."""
        if not isinstance(other, Model) or self.kind != other.kind:
            return NotImplemented
        a, b = (m.document() for m in (self, other))
        return _same(a.fields, b.fields) and len(a.layers) == len(b.layers) and all(
            _same(*pair) for pair in zip(a.layers, b.layers, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        through = " -> ".join(
            [str(la.inputs) for la in self.layers[:1]]
            + [f"{la.outputs} {la.function}" for la in self.layers]
        )
        place = f" {self.path}:" if self.path else ""
        return f"<mapix.visualrbm.{self.kind}{place} {through or 'no layers'}>"


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=False) for k in a)


def _connected(layers: Sequence[Layer]) -> None:
    for k, (a, b) in enumerate(zip(layers, layers[1:], strict=False)):
        if a.outputs != b.inputs:
            raise ValueError(
                f"layer {k} has {a.outputs} outputs, layer {k + 1} {b.inputs} inputs: "
                "they do not fit one another"
            )


class _Pair(Model):
    """Visible and hidden units, and one matrix of weights between them."""

    _visible: ClassVar[tuple[str, str]]

    def __init__(
        self,
        weights: ArrayLike,
        visible_biases: ArrayLike,
        hidden_biases: ArrayLike,
        *,
        visible_type: str = "Sigmoid",
        hidden_type: str = "Sigmoid",
    ) -> None:
        self.encoder = Layer(weights, hidden_biases, hidden_type)
        self.visible_biases = _floats(visible_biases, "visible biases", (self.encoder.inputs,))
        self.visible_type = _function(visible_type, "visible type")

    @property
    def weights(self) -> Floats:
        """float32 (hidden, visible)."""
        return self.encoder.weights

    @property
    def hidden_biases(self) -> Floats:
        """float32 (hidden,)."""
        return self.encoder.biases

    @property
    def hidden_type(self) -> str:
        """Activation function of the hidden units."""
        return self.encoder.function

    @property
    def visible_count(self) -> int:
        """Visible units."""
        return self.encoder.inputs

    @property
    def hidden_count(self) -> int:
        """Hidden units."""
        return self.encoder.outputs

    @property
    def layers(self) -> tuple[Layer, ...]:
        """From visible to hidden units."""
        return (self.encoder,)

    def transposed(self) -> Layer:
        """From hidden to visible units, as a layer; its weights are a transposed copy."""
        return Layer(self.weights.T, self.visible_biases, self.visible_type)

    def visible(self, h: ArrayLike, *, approx: Approx | None = None) -> Floats:
        """Visible units from hidden ones, float32 (n, visible)."""
        return self.transposed()(h, approx=approx)

    def reconstruct(self, x: ArrayLike, *, approx: Approx | None = None) -> Floats:
        """Rows to hidden units and back, float32 (n, visible)."""
        return self.visible(self.hidden(x, approx=approx), approx=approx)

    @classmethod
    def of(cls, document: Document) -> Self:
        """From a file's fields."""
        f = document.fields
        kind, biases = cls._visible
        return cls(
            f["Weights"],
            f[biases],
            f["HiddenBiases"],
            visible_type=f[kind],
            hidden_type=f["HiddenType"],
        )

    def document(self) -> Document:
        """The model as its file's fields."""
        kind, biases = self._visible
        return Document(
            self.kind,
            {
                "VisibleCount": self.visible_count,
                "HiddenCount": self.hidden_count,
                kind: self.visible_type,
                "HiddenType": self.hidden_type,
                biases: self.visible_biases,
                "HiddenBiases": self.hidden_biases,
                "Weights": self.weights,
            },
        )


class RestrictedBoltzmannMachine(_Pair):
    """Visible and hidden units with symmetric weights.

    Parameters
    ----------
    weights : array_like
        float32 (hidden, visible).
    visible_biases, hidden_biases : array_like
        float32 (visible,) and (hidden,).
    visible_type, hidden_type : {"Linear", "RectifiedLinear", "Sigmoid", "Softmax"}
        Activation functions.
    """

    kind = RBM
    _visible = ("VisibleType", "VisibleBiases")


class AutoEncoder(_Pair):
    """An encoder, and a decoder with the same weights.  What is visible comes out of the decoder.

    Parameters
    ----------
    weights : array_like
        float32 (hidden, visible).
    visible_biases, hidden_biases : array_like
        float32 (visible,), the file's OutputBiases, and (hidden,).
    visible_type, hidden_type : {"Linear", "RectifiedLinear", "Sigmoid", "Softmax"}
        Activation functions; the file's OutputType, and HiddenType.
    """

    kind = AE
    _visible = ("OutputType", "OutputBiases")

    @property
    def output_type(self) -> str:
        """Activation function of the decoder."""
        return self.visible_type

    @property
    def output_biases(self) -> Floats:
        """float32 (visible,)."""
        return self.visible_biases


class MultilayerPerceptron(Model):
    """Layers one behind the other.

    Parameters
    ----------
    layers : sequence of Layer
        First to last.  They need not fit one another; ``hidden`` asks for that.
    """

    kind = MLP

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """First to last."""
        return self._layers

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, key: Any) -> Any:
        """A layer, or layers."""
        return self._layers[key]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    @classmethod
    def of(cls, document: Document) -> Self:
        """From a file's fields."""
        return cls([Layer(f["Weights"], f["Biases"], f["Function"]) for f in document.layers])

    def document(self) -> Document:
        """The model as its file's fields."""
        return Document(
            self.kind,
            layers=[
                {
                    "Inputs": la.inputs,
                    "Outputs": la.outputs,
                    "Function": la.function,
                    "Biases": la.biases,
                    "Weights": la.weights,
                }
                for la in self._layers
            ],
        )


def stack(*parts: Model | Layer | Sequence[Layer]) -> MultilayerPerceptron:
    """A perceptron of models' layers, one behind the other: what VisualRBM's buildmlp makes.

    Parameters
    ----------
    *parts : Model, Layer, or sequence of Layer
        ``rbm``, ``autoencoder.transposed()``, ``perceptron[1:2]``, ...  Layers are taken as they are,
        not copied.

    Raises
    ------
    ValueError
        Layers do not fit one another, or there are none.
    """
    layers: list[Layer] = []
    for part in parts:
        if isinstance(part, Model):
            layers += part.layers
        elif isinstance(part, Layer):
            layers.append(part)
        else:
            layers += part
    if not layers:
        raise ValueError("no layers to stack")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"models and layers are stacked, got {type(layer).__name__}")
    _connected(layers)
    return MultilayerPerceptron(layers)


MODELS: dict[str, type[_Pair] | type[MultilayerPerceptron]] = {
    m.kind: m for m in (RestrictedBoltzmannMachine, AutoEncoder, MultilayerPerceptron)
}
