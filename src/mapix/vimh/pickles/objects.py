"""Values of a pickle as data: bytes and texts that stay in the file, numpy's arrays.

A pickle asks for functions by name (GLOBAL), and for calls (REDUCE, BUILD).  The names below are
never resolved: each has a rule in ``called`` that makes its result as data.  Anything else is
refused.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Array",
    "DType",
    "Name",
    "RefusedError",
    "Short",
    "Span",
    "Text",
    "built",
    "called",
    "named",
]

MAX_DIMS = 64
PLAIN = re.compile(r"[<>=|]?[biufc]\d{1,2}")  # dtypes of numbers, as numpy writes them
MOST_ELEMENTS = 1 << 56


class RefusedError(Exception):
    """The pickle asks for a value that is not known data; becomes a FormatError."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that lie in the file."""

    at: int
    nbytes: int


class Short(bytes):
    """Few bytes, copied from the file, and their place in it."""

    at: int


@dataclass(frozen=True, slots=True)
class Text:
    """A long text in the file: how it is written there, and how the pickle encodes it.

    ``kind`` is ``"utf-8"``, ``"raw-unicode-escape"`` or ``"string-escape"``; ``codec`` is the
    argument of ``_codecs.encode``; None of a text that is not encoded.
    """

    at: int
    nbytes: int
    kind: str
    codec: str | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """A name that the pickle refers to."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class DType:
    """``numpy.dtype(text)``, before and after its state was set."""

    __slots__ = ("_made", "order", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.order: str | None = None  # until its state is set
        self._made: np.dtype[Any] | None = None

    def dtype(self) -> np.dtype[Any]:
        """Return the dtype, of fixed size, without fields and objects."""
        if self._made is None:
            if not PLAIN.fullmatch(self.text):
                raise RefusedError(f"arrays of dtype {self.text!r}, which are not plain numbers")
            try:
                made = np.dtype(self.text)
            except (TypeError, ValueError) as e:
                raise RefusedError(f"a dtype {self.text!r}") from e
            self._made = made.newbyteorder(self.order or "=")  # type: ignore[arg-type]
        return self._made


class Array:
    """A numpy array: ``data`` is the place of its numbers.

    Attributes
    ----------
    dtype : numpy.dtype
        Of plain numbers.
    shape : tuple of int
        Its product times the size of an item is what ``data`` holds.
    complete : bool
        Whether its state was set.
    fortran : bool
        Whether the first index runs fastest.
    data : Span, Text or bytes
        Where the bytes are.
    """

    __slots__ = ("complete", "data", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.complete = False
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.shape: tuple[int, ...] = (0,)
        self.fortran = False
        self.data: Span | Text | bytes = b""

    def fill(self, shape: object, dtype: object, fortran: object, data: object) -> Array:
        """Set the fields, which are checked, and return the array."""
        self.shape, self.dtype, self.fortran, self.data = _array(shape, dtype, fortran, data)
        self.complete = True
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        total = self.dtype.itemsize
        for d in self.shape:
            total *= d
        return total


_ARRAYS = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray"}
_NUMERIC = {"numpy.core.numeric", "numpy._core.numeric"}
_BUILTINS = {"builtins", "__builtin__"}


# of the names below, each once
_NAMES = {
    (module, name): Name(module, name)
    for modules, names in (
        (_ARRAYS, ("_reconstruct", "scalar")),
        ({"numpy"}, ("ndarray", "dtype")),
        (_NUMERIC, ("_frombuffer",)),
        (_BUILTINS, ("bytes",)),
        ({"_codecs"}, ("encode",)),
    )
    for module in modules
    for name in names
}


def named(module: str, name: str) -> Name:
    """Return a name as data, without resolving it.

    Raises
    ------
    RefusedError
        Data does not need it.
    """
    found = _NAMES.get((module, name))
    if found is None:
        raise RefusedError(f"the name {module[:40]}.{name[:40]}, which data does not need")
    return found


def _known(name: object, modules: set[str], what: str) -> bool:
    return isinstance(name, Name) and name.module in modules and name.name == what


def _shape(given: object) -> tuple[int, ...]:
    ok = isinstance(given, tuple) and len(given) <= MAX_DIMS
    if not ok or not all(type(d) is int and 0 <= d < MOST_ELEMENTS for d in given):  # type: ignore[attr-defined]
        raise RefusedError("an array without a shape of whole numbers")
    total = 1
    for d in given:  # type: ignore[attr-defined]
        total *= d
        if total > MOST_ELEMENTS:
            raise RefusedError("an array larger than any file")
    return given  # type: ignore[return-value]


def _array(shape: object, dtype: object, fortran: object, data: object) -> tuple[Any, ...]:
    """Return the checked fields of an Array, or raise RefusedError."""
    if not isinstance(dtype, DType):
        raise RefusedError("an array without a dtype")
    if isinstance(data, Short):
        data = Span(data.at, len(data))
    if not isinstance(data, Span | Text | bytes):
        raise RefusedError("an array whose numbers are not bytes")
    made = Array()
    made.shape, made.dtype = _shape(shape), dtype.dtype()
    held = len(data) if isinstance(data, bytes) else data.nbytes
    # an encoded text is longer than its bytes; how long is known once it is decoded
    if not isinstance(data, Text) and held != made.nbytes:
        raise RefusedError(f"an array of {made.nbytes} bytes with {held} bytes of data")
    return made.shape, made.dtype, bool(fortran), data


def called(function: object, args: object) -> Any:
    """Return the result that a call of ``function`` would have, as data, without calling it.

    Raises
    ------
    RefusedError
        It is not a known function, or its arguments are odd.
    """
    if not isinstance(args, tuple):
        raise RefusedError("a call without a tuple of arguments")
    if _known(function, _ARRAYS, "_reconstruct"):
        if len(args) == 3 and _known(args[0], {"numpy"}, "ndarray"):
            return Array()
    elif _known(function, {"numpy"}, "dtype"):
        text = args[0] if args else None
        if isinstance(text, bytes):  # Python 2
            text = text.decode("latin-1")
        if isinstance(text, str) and len(text) <= 16:
            return DType(text)
    elif _known(function, _NUMERIC, "_frombuffer"):
        if len(args) == 4:
            data, dtype, shape, order = args
            return Array().fill(shape, dtype, order == "F", data)
    elif _known(function, _ARRAYS, "scalar"):
        if len(args) == 2 and isinstance(args[0], DType) and isinstance(args[1], bytes):
            return _scalar(args[0].dtype(), args[1])
    elif _known(function, {"_codecs"}, "encode"):
        if len(args) == 2 and args[1] in ("latin1", "latin-1"):
            return _encoded(args[0])
    elif _known(function, _BUILTINS, "bytes") and args == ():
        return b""
    else:
        raise RefusedError(f"a call of {function}, which is not data")
    raise RefusedError(f"a call of {function} with arguments that numpy would not write")


def _scalar(dtype: np.dtype[Any], data: bytes) -> int | float | bool | complex:
    if len(data) != dtype.itemsize:
        raise RefusedError(f"a number of {dtype} in {len(data)} bytes")
    found: int | float | bool | complex = np.frombuffer(data, dtype)[0].item()
    return found


def _encoded(text: object) -> bytes | Text:
    if isinstance(text, Text) and text.codec is None:
        return Text(text.at, text.nbytes, text.kind, "latin-1")
    if isinstance(text, str):
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError as e:
            raise RefusedError("a text that latin-1 cannot encode") from e
    raise RefusedError("something encoded that is not a text")


def _plain(state: object) -> bool:
    """Return whether it is the state of a dtype without fields, sub-arrays and flags."""
    rest = (None, None, None, -1, -1, 0)
    return isinstance(state, tuple) and len(state) in (8, 9) and state[2:8] == rest


def built(thing: object, state: object) -> None:
    """Set the state of an array or a dtype, as BUILD would."""
    if isinstance(thing, Array) and isinstance(state, tuple) and len(state) == 5:
        if thing.complete:
            raise RefusedError("an array with two states")
        _, shape, dtype, fortran, data = state
        thing.fill(shape, dtype, fortran, data)
    elif isinstance(thing, DType) and thing.order is None and _plain(state):
        order = state[1]  # type: ignore[index]
        order = order.decode("latin-1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "="):
            raise RefusedError(f"a byte order {order!r}")
        thing.order = "=" if order == "|" else order
    else:
        raise RefusedError("the state of something that is neither an array nor a dtype")


def long_of(data: bytes) -> int:
    """Return the integer of LONG1 and LONG4."""
    return int.from_bytes(data, "little", signed=True)


def double_of(data: bytes) -> float:
    """Return the number of BINFLOAT."""
    found: float = struct.unpack(">d", data)[0]
    return found
