"""Models of VisualRBM: layers of float32 arrays, and rows that go through them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from mapix.selection import single
from mapix.visualrbm.layer import Approx, Floats, Layer, connected, floats, function_of
from mapix.visualrbm.layout import AE, MLP, RBM, Document
from mapix.visualrbm.loaded import Loaded

__all__ = [
    "AutoEncoder",
    "Layer",
    "Model",
    "MultilayerPerceptron",
    "Pair",
    "RestrictedBoltzmannMachine",
    "stack",
]


MOST_SHOWN = 10  # layers, in a repr


class Model(Loaded):
    """The base of the three kinds of models.  Nothing of the file stays open.

    Attributes
    ----------
    path : str or None
        The file that it was read from.
    unknown : tuple of str
        Names in the file that mean nothing.
    """

    SEVERAL = "several models cannot be opened as one; see mapix.visualrbm.stack"
    PARTS = "layers"
    kind: ClassVar[str]
    path: str | None = None
    unknown: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers in the order in which a row goes through them."""
        raise NotImplementedError

    @property
    def inputs(self) -> int:
        """Length of a row of the input."""
        return self._path_through()[0].inputs

    @property
    def outputs(self) -> int:
        """Length of a row of the output of ``hidden``."""
        return self._path_through()[-1].outputs

    def hidden(self, x: ArrayLike, *, approx: Approx | None = None) -> Floats:
        """Return the outputs of the last layer, float32 (n, outputs), as calchidden computes them.

        Parameters
        ----------
        x : array_like
            Rows, (n, inputs), or one row; used as float32.
        approx : {"visualrbm"}, optional
            As for ``Layer``: the same bits as VisualRBM.

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
        connected(layers)
        return layers

    def document(self) -> Document:
        """Return the fields of the model's file."""
        raise NotImplementedError

    def write(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write as JSON, npz or safetensors; see ``mapix.visualrbm.write``."""
        from mapix.visualrbm.writing import write

        write(path, self, **options)

    def _facts(self) -> dict[str, Any]:
        layers = [
            {"inputs": la.inputs, "outputs": la.outputs, "function": la.function}
            for la in self.layers
        ]
        return {
            "holds": "a model",
            "kind": self.kind,
            "unknown_names": list(self.unknown),
            "layers": layers,
        }

    def _problems(self) -> list[str]:
        fields = self.document().arrays()
        found = [
            f"{name}: {n} numbers are not finite"
            for name, array in fields.items()
            if (n := array.size - int(np.isfinite(array).sum()))
        ]
        try:
            connected(self.layers)
        except ValueError as e:
            found.append(str(e))
        return found

    def __eq__(self, other: object) -> bool:
        """Return whether two models have the same kind and the same numbers."""
        if not isinstance(other, Model) or self.kind != other.kind:
            return NotImplemented
        a, b = (m.document() for m in (self, other))
        return (
            _same(a.fields, b.fields)
            and len(a.layers) == len(b.layers)
            and all(_same(*pair) for pair in zip(a.layers, b.layers, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first, shown = self.layers[:1], self.layers[:MOST_SHOWN]
        steps = [str(la.inputs) for la in first] + [f"{la.outputs} {la.function}" for la in shown]
        more = len(self.layers) - len(shown)
        through = " -> ".join([*steps, f"{more} more layers"] if more else steps)
        place = f" {self.path}:" if self.path else ""
        return f"<mapix.visualrbm.{self.kind}{place} {through or 'no layers'}>"


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=False) for k in a)


class Pair(Model):
    """The base of models of visible and hidden units, with one matrix of weights."""

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
        self.visible_biases = floats(visible_biases, "visible biases", (self.encoder.inputs,))
        self.visible_type = function_of(visible_type, "visible type")

    @property
    def weights(self) -> Floats:
        """Weights, float32 (hidden, visible)."""
        return self.encoder.weights

    @property
    def hidden_biases(self) -> Floats:
        """Biases of the hidden units, float32 (hidden,)."""
        return self.encoder.biases

    @property
    def hidden_type(self) -> str:
        """Activation function of the hidden units."""
        return self.encoder.function

    @property
    def visible_count(self) -> int:
        """Number of visible units."""
        return self.encoder.inputs

    @property
    def hidden_count(self) -> int:
        """Number of hidden units."""
        return self.encoder.outputs

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layer from visible to hidden units."""
        return (self.encoder,)

    def transposed(self) -> Layer:
        """Return the layer from hidden to visible units; its weights are a view."""
        return Layer(self.weights.T, self.visible_biases, self.visible_type)

    def visible(self, h: ArrayLike, *, approx: Approx | None = None) -> Floats:
        """Return visible units from hidden ones, float32 (n, visible)."""
        return self.transposed()(h, approx=approx)

    def reconstruct(self, x: ArrayLike, *, approx: Approx | None = None) -> Floats:
        """Return rows after the way to hidden units and back, float32 (n, visible)."""
        return self.visible(self.hidden(x, approx=approx), approx=approx)

    @classmethod
    def of(cls, document: Document) -> Self:
        """Return the model of the fields of a file."""
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
        """Return the fields of the model's file."""
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


class RestrictedBoltzmannMachine(Pair):
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


class AutoEncoder(Pair):
    """An encoder, and a decoder with the same weights.  Visible units are outputs of the decoder.

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
        """Biases of the decoder, float32 (visible,)."""
        return self.visible_biases


class MultilayerPerceptron(Model):
    """Layers, each the input of the next.

    Parameters
    ----------
    layers : sequence of Layer
        First to last.  They need not fit one another, but ``hidden`` needs that.
    """

    kind = MLP

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers, first to last."""
        return self._layers

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, key: Any) -> Any:
        """Return a layer, or a tuple of layers for a slice."""
        if isinstance(key, slice):
            return self._layers[key]
        return self._layers[single(key, len(self), self.kind, "layers")]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    @classmethod
    def of(cls, document: Document) -> Self:
        """Return the model of the fields of a file."""
        return cls([Layer(f["Weights"], f["Biases"], f["Function"]) for f in document.layers])

    def document(self) -> Document:
        """Return the fields of the model's file."""
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
    """Return a perceptron of the layers of models, in order, as VisualRBM's buildmlp does.

    Parameters
    ----------
    *parts : Model, Layer, or sequence of Layer
        ``rbm``, ``autoencoder.transposed()``, ``perceptron[1:2]``, ...  Layers are not copied.

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
    connected(layers)
    return MultilayerPerceptron(layers)


MODELS: dict[str, type[Pair] | type[MultilayerPerceptron]] = {
    m.kind: m for m in (RestrictedBoltzmannMachine, AutoEncoder, MultilayerPerceptron)
}
