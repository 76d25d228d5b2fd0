"""The options of ``batch``: one vocabulary for all families, checked once."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from mapix.limits import MOST_SIDE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "BatchOptions",
    "Crop",
    "Dtype",
    "Layout",
    "batch_options",
    "checked",
    "numbers",
]

Dtype = Literal["uint8", "uint16", "int32", "uint32", "float32", "float16"]
Layout = Literal["NHWC", "NCHW"]
Crop = bool | Literal["centre", "corner"]
MOST_THREADS = 16


# Annotations are not text in this module: a NamedTuple would compile each of them.
class BatchOptions(NamedTuple):
    """The options of a batch.  Hashable, so that families can cache what follows from a set.

    Attributes
    ----------
    dtype : str, optional
        Type of the images; by default the family's own.
    layout : {"NHWC", "NCHW"}, optional
        Order of the dimensions; by default the family's own.
    scale, mean, std : float or tuple of float, optional
        Floats are ``(number * scale - mean) / std``.
    pad : bool or tuple of int
        True, (h, w) or (h, w, c): the canvas of images that are smaller.
    crop : bool or {"centre", "corner"}
        Whether larger images are cut, and where from.
    pad_value : float
        Value of the padding, in units of the output.
    labels : str or None
        Unit of the labels; None for none.
    threads : int
        Threads that copy, 1 to 16.
    more : tuple of (str, value)
        Options of one family alone.
    """

    dtype: str | None = None
    layout: str | None = None
    scale: float | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    pad: bool | tuple[int, ...] = False
    crop: bool | str = False
    pad_value: float = 0.0
    labels: str | None = "raw"
    threads: int = 1
    more: tuple[tuple[str, Any], ...] = ()

    @property
    def arithmetic(self) -> bool:
        """Whether numbers are scaled or shifted."""
        return self.scale is not None or self.mean is not None or self.std is not None

    def given(self) -> tuple[str, ...]:
        """Return the names of the options that differ from their defaults."""
        default = _DEFAULTS
        return tuple(
            name
            for name, value, usual in zip(self._fields, self, default, strict=True)
            if name != "more" and value != usual
        )


_DEFAULTS = BatchOptions()


def numbers(x: "ArrayLike | None") -> Any:
    """Return the same numbers as a float or a tuple of floats, which can be a key of a cache."""
    if x is None or isinstance(x, float | int):
        return x
    if isinstance(x, tuple) and all(type(v) is float for v in x):
        return x
    return tuple(np.asarray(x, np.float64).ravel().tolist())


def canvas_size(pad: Any) -> Any:
    """Return ``pad`` as a bool or a tuple of ints.

    Raises
    ------
    ValueError
        It is neither a bool, 0 or 1, nor two or three sides in 1..65535.
    """
    if pad is None or (isinstance(pad, bool | int | np.bool_) and pad in (0, 1)):
        return bool(pad)
    sides = tuple(pad) if isinstance(pad, tuple | list | np.ndarray) else ()
    if len(sides) not in (2, 3) or not all(
        isinstance(x, int | np.integer) and not isinstance(x, bool) and 0 < x <= MOST_SIDE
        for x in sides
    ):
        raise ValueError(f"pad must be True, (h, w) or (h, w, c) in 1..{MOST_SIDE}, got {pad!r}")
    return tuple(int(x) for x in sides)


def batch_options(*known: Any, **named: Any) -> "BatchOptions":
    """Return the options of a call of ``batch``: hashable, and those of one family in ``more``.

    Parameters
    ----------
    *known, **named
        Fields of ``BatchOptions`` in their order, or by name; other names go into ``more``.
    """
    given = dict(zip(BatchOptions._fields, known, strict=False))
    more = tuple((k, v) for k, v in sorted(named.items()) if k not in BatchOptions._fields)
    given |= {k: v for k, v in named.items() if k in BatchOptions._fields}
    for name in ("mean", "std"):
        given[name] = numbers(given.get(name))
    given["pad"] = canvas_size(given.get("pad", False))
    return BatchOptions(**given, more=more)


@lru_cache(256)
def checked(options: "BatchOptions") -> "BatchOptions":
    """Return the options with a dtype by name and at most 16 threads.

    Raises
    ------
    ValueError
        No family knows this value.
    """
    dtype = options.dtype
    name = dtype if dtype is None or isinstance(dtype, str) else np.dtype(dtype).name
    if name is not None and name not in get_args(Dtype):
        known = ", ".join(get_args(Dtype))
        raise ValueError(f"dtype must be one of {known}, got {dtype!r}")
    if options.layout not in (None, *get_args(Layout)):
        raise ValueError(f"layout must be NHWC or NCHW, got {options.layout!r}")
    if options.crop not in (False, True, "centre", "corner"):
        raise ValueError(f"crop must be a bool, 'centre' or 'corner', got {options.crop!r}")
    if options.threads < 1:
        raise ValueError(f"threads must be at least 1, got {options.threads}")
    return options._replace(dtype=name, threads=min(options.threads, MOST_THREADS))
