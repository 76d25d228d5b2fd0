"""Parameters, which are the labels of records: names, ranges, classes, arithmetic on codes.

A label in the file is one byte, the *code*.  It has four units:

``"raw"``         the code, 0..255
``"normalised"``  code / 255, 0..1
``"physical"``    min + code / 255 * (max - min), in the parameter's own unit
``"class"``       the class number that the original trains on
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["LEVELS", "UNITS", "Parameter", "Parameters", "Unit"]

LEVELS = 255  # quantisation steps: codes are 0..255
MOST_CLASSES = 1 << 20  # of a parameter; codes tell 256 apart

Unit = Literal["raw", "normalised", "physical", "class"]
UNITS: tuple[str, ...] = ("raw", "normalised", "physical", "class")


# Annotations are not text in this module: a NamedTuple would compile each of them.
class Parameter(NamedTuple):
    """One label: its id in the file, its range, and its classes.

    Attributes
    ----------
    name : str
        As in the info JSON, or ``param_<id>``.
    id : int or None
        The byte that stands for it in records; None for a fixed parameter, which no record has.
    min, max : float
        Physical values of codes 0 and 255.
    step : float
        Distance of two classes in physical units.
    num_classes : int
        ``round((max - min) / step) + 1``, as the original computes it (half to even).
    scale : str
        ``"linear"`` in all known files.
    description : str
        Free text.
    direct : bool
        Codes are class numbers already (files of the second writer, which have no step).
    """

    name: str
    id: int | None
    min: float = 0.0
    max: float = 255.0
    step: float = 1.0
    num_classes: int = 256
    scale: str = "linear"
    description: str = ""
    direct: bool = False

    @property
    def fixed(self) -> bool:
        """Whether the parameter has one value for all records, and so is not in the records."""
        return self.id is None

    def quantise(self, values: "ArrayLike") -> "NDArray[np.uint8]":
        """Return codes of physical values, uint8: truncated, then clipped, as the original does."""
        x = np.asarray(values, dtype=np.float64)
        span = self.max - self.min
        if self.direct:
            return np.clip(np.trunc(x - self.min), 0, LEVELS).astype(np.uint8)
        scaled = (x - self.min) / span * LEVELS if span else np.zeros_like(x)
        return np.clip(np.trunc(scaled), 0, LEVELS).astype(np.uint8)

    def dequantise(self, codes: "ArrayLike") -> "NDArray[np.float64]":
        """Return physical values of codes, float64."""
        q = np.asarray(codes, dtype=np.float64)
        if self.direct:
            return self.min + q
        return self.min + q / LEVELS * (self.max - self.min)

    def class_of(self, codes: "ArrayLike") -> "NDArray[np.int64]":
        """Return class numbers of codes, int64 in 0..num_classes-1."""
        q = np.asarray(codes)
        if self.direct:
            return np.clip(q.astype(np.int64), 0, self.num_classes - 1)
        steps = (self.dequantise(q) - self.min) / self.step
        # rint rounds half to even, as Python's round in the original does
        return np.clip(np.rint(steps), 0, self.num_classes - 1).astype(np.int64)


def _parameter(name: str, id: int | None, mapping: Mapping[str, Any]) -> Parameter:
    """Return a parameter from its entry in ``parameter_mappings``, absent keys filled in."""
    low = float(mapping.get("min", 0.0))
    high = float(mapping.get("max", 255.0))
    if not math.isfinite(high - low):
        raise ValueError(f"parameter {name!r}: min, max and their difference must be finite")
    given = mapping.get("step")
    direct = given is None and mapping.get("type") == "classification"
    step = float(given) if given else (1.0 if direct else (high - low) / LEVELS)
    explicit = mapping.get("num_classes")
    if given and high > low:
        classes = round(min((high - low) / step, 2.0 * MOST_CLASSES)) + 1
    elif explicit is not None:
        classes = int(explicit)
    elif direct:
        classes = round(high - low) + 1
    else:
        classes = LEVELS + 1 if high > low else 1
    if classes > MOST_CLASSES:
        raise ValueError(f"parameter {name!r}: more than {MOST_CLASSES} classes")
    return Parameter(
        name=name,
        id=id,
        min=low,
        max=high,
        step=step if step else 1.0,
        num_classes=max(classes, 1),
        scale=str(mapping.get("scale", "linear")),
        description=str(mapping.get("description", "")),
        direct=direct,
    )


class Parameters(Mapping[str, Parameter]):
    """The labels of a dataset: a mapping from name to Parameter, in the order of their ids.

    Parameters
    ----------
    varying : sequence of Parameter
        Parameters that records have.
    fixed : sequence of Parameter
        Parameters with one value for all records.
    """

    __slots__ = ("_by_id", "_varying", "fixed")

    def __init__(self, varying: Sequence[Parameter], fixed: Sequence[Parameter] = ()) -> None:
        self._varying = {p.name: p for p in varying}
        self._by_id = {p.id: p for p in varying}
        self.fixed: dict[str, Parameter] = {p.name: p for p in fixed}

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> "Parameters":
        """Return the parameters of an info JSON.

        Raises
        ------
        ValueError
            A name appears twice, there are more than 256, or a value is not a number.
        """
        if not info:
            return cls(())
        names = [str(n) for n in info.get("parameter_names", [])]
        mappings: Mapping[str, Any] = info.get("parameter_mappings", {})
        named = set(names)
        if len(named) != len(names) or len(names) > 256:
            raise ValueError("parameter_names must be at most 256 different names")
        varying = [_parameter(n, i, mappings.get(n, {})) for i, n in enumerate(names)]
        values: Mapping[str, Any] = info.get("fixed_parameters", {})
        fixed = []
        for name in dict.fromkeys([*mappings, *values]):  # no JSON repeats a key, both may have one
            if name not in named:
                value = values.get(name, {}).get("value")
                known = {"min": value, "max": value} if value is not None else {}
                fixed.append(_parameter(str(name), None, {**known, **mappings.get(name, {})}))
        return cls(varying, fixed)

    def with_ids(self, ids: Sequence[int]) -> "Parameters":
        """Return these parameters, and ``param_<id>`` for each id without a name."""
        unknown = [Parameter(f"param_{i}", i) for i in ids if i not in self._by_id]
        return Parameters([*self._varying.values(), *unknown], list(self.fixed.values()))

    def __getitem__(self, name: str) -> Parameter:
        return self._varying[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._varying)

    def __len__(self) -> int:
        return len(self._varying)

    def __repr__(self) -> str:
        heads = ", ".join(f"{p.name}: {p.num_classes}" for p in self._varying.values())
        return f"Parameters({heads})"

    @property
    def names(self) -> list[str]:
        """Names of the varying parameters, in the order of label columns."""
        return list(self._varying)

    @property
    def heads(self) -> dict[str, int]:
        """Name -> number of classes, for the varying ones."""
        return {p.name: p.num_classes for p in self._varying.values()}

    def by_id(self, id: int) -> Parameter:
        """Return the parameter with that id; ``param_<id>`` where it has no name."""
        known = self._by_id.get(id)
        return Parameter(f"param_{id}", id) if known is None else known

    def columns(self) -> "NDArray[np.int16]":
        """Return the label column of each id, int16 (256,); -1 for ids without one."""
        out = np.full(256, -1, dtype=np.int16)
        for column, p in enumerate(self._varying.values()):
            if p.id is not None and p.id < 256:
                out[p.id] = column
        return out

    def table(self, unit: str) -> "NDArray[Any]":
        """Return the value of each code of each parameter in ``unit``, shape (heads, 256).

        float32 for normalised and physical, int64 for class, uint8 for raw.
        """
        codes = np.arange(256)
        dtype = {"raw": np.uint8, "class": np.int64}.get(unit, np.float32)
        out = np.empty((len(self), 256), dtype=dtype)
        for row, p in zip(out, self._varying.values(), strict=True):
            if unit == "physical":
                row[:] = p.dequantise(codes)
            elif unit == "class":
                row[:] = p.class_of(codes)
            else:
                row[:] = codes / LEVELS if unit == "normalised" else codes
        return out

    def quantise(self, values: "Mapping[str, ArrayLike]") -> "dict[str, NDArray[np.uint8]]":
        """Return codes of physical values, by name."""
        return {name: self[name].quantise(v) for name, v in values.items()}

    def dequantise(self, codes: "Mapping[str, ArrayLike]") -> "dict[str, NDArray[np.float64]]":
        """Return physical values of codes, by name."""
        return {name: self[name].dequantise(v) for name, v in codes.items()}
