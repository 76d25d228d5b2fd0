"""A base class with the interface of pydantic's models, for classes that check their own fields.

It has the parts of ``pydantic.BaseModel`` (version 2) that programs use: keyword arguments,
``model_dump`` and ``model_validate`` and their JSON variants, ``include`` and ``exclude``, copies,
fields, comparison, and an error for attributes that are not fields.  There are no validators,
aliases, settings or schemas.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from mapix.errors import MapixError, UnsupportedError

__all__ = ["FieldInfo", "Model", "ValidationError", "bad"]

# Options that ``model_dump`` accepts and ignores
WITHOUT_EFFECT = {"context", "by_alias", "round_trip", "warnings", "fallback", "serialize_as_any"}


class ValidationError(MapixError, ValueError):
    """A value does not fit its field."""


def bad(where: str, wanted: str, got: Any) -> ValidationError:
    """Return the error for a value of the wrong type."""
    return ValidationError(f"{where}: {wanted} expected, got {type(got).__name__}")


@dataclass(frozen=True)
class FieldInfo:
    """Type and default of a field.

    Attributes
    ----------
    annotation : str
        The type, as it is written in the class.
    default : object
        The default; ``dataclasses.MISSING`` for a required field.
    """

    annotation: Any
    default: Any = MISSING

    def is_required(self) -> bool:
        """Return whether the field has no default."""
        return self.default is MISSING

    def get_default(self, **options: Any) -> Any:
        """Return the default; None for a required field, as in pydantic."""
        return None if self.default is MISSING else self.default


class _Fields:
    """The class attribute ``model_fields``."""

    def __get__(self, instance: Any, owner: type) -> dict[str, FieldInfo]:
        return {f.name: FieldInfo(f.type, f.default) for f in fields(owner)}


class Model:
    """Take fields as keywords and call ``_check``; subclasses are dataclasses without ``__init__``.

    Parameters
    ----------
    **values
        Values of fields.  Other keys are ignored.

    Raises
    ------
    ValidationError
        A field is missing, or its value does not fit.
    """

    __slots__ = ("__dict__", "_given")
    _given: set[str]
    model_fields = _Fields()
    model_extra = None

    def __init__(self, **values: Any) -> None:
        known = type(self).model_fields
        self._given = values.keys() & known.keys()
        for name, info in known.items():
            value = values.get(name, info.default)
            if value is MISSING:
                raise ValidationError(f"{type(self).__name__}.{name}: the field is missing")
            self.__dict__[name] = value
        self._check()

    def _check(self) -> None:
        raise NotImplementedError

    # --- attributes -------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            if name not in type(self).model_fields:
                raise ValueError(f'"{type(self).__name__}" object has no field "{name}"')
            self._given.add(name)
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield names and values for ``dict(model)``; values that are models stay models."""
        yield from self._values().items()

    def _values(self) -> dict[str, Any]:
        known = self.__dict__
        return {name: known[name] for name in type(self).model_fields if name in known}

    @property
    def model_fields_set(self) -> set[str]:
        """Names of the fields that were passed to the constructor or assigned later."""
        return self._given

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Model):
            return NotImplemented
        return self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text(', ')})"

    def __str__(self) -> str:
        return self._text(" ")

    def _text(self, between: str) -> str:
        return between.join(f"{name}={value!r}" for name, value in self)

    # --- output -----------------------------------------------------------------------------------

    def model_dump(
        self,
        *,
        mode: str = "python",
        include: Any = None,
        exclude: Any = None,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """Return the fields as plain dicts and lists, in order.

        Parameters
        ----------
        mode : {"python", "json"}
            Both give the same result, since all values are JSON values.
        include, exclude : set or mapping, optional
            Names of fields.  The value of a mapping selects inside the field: True, or names or
            indices (``"__all__"`` for all elements of a list).
        exclude_unset, exclude_defaults, exclude_none : bool
            Whether fields are left out that were not passed, that equal their defaults, that are
            None.
        **options
            Other options of pydantic, which have no effect here.
        """
        unknown = options.keys() - WITHOUT_EFFECT
        if unknown:
            raise TypeError(f"model_dump() has no option {', '.join(sorted(unknown))}")
        if mode not in ("python", "json"):
            raise UnsupportedError(f"model_dump: mode must be python or json, got {mode!r}")
        found: dict[str, Any] = {}
        how = (exclude_unset, exclude_defaults, exclude_none)
        for name, value in self:
            info = type(self).model_fields[name]
            if exclude_unset and name not in self._given:
                continue
            if exclude_defaults and not info.is_required() and value == info.default:
                continue
            if exclude_none and value is None:
                continue
            taken, only, without = _chosen(name, include, exclude)
            if taken:
                found[name] = _plain(value, only, without, how)
        return found

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """Return ``model_dump`` as JSON text, compact without ``indent``; NaN becomes null."""
        return _json(self.model_dump(**options), indent)

    # --- input ------------------------------------------------------------------------------------

    @classmethod
    def model_validate(
        cls,
        obj: Any,
        *,
        strict: bool | None = None,
        from_attributes: bool | None = None,
        **more: Any,
    ) -> Any:
        """Return an object of this class made from a dict of fields, which are checked.

        An object of this class is returned unchanged.  ``from_attributes`` also accepts any object
        that has the fields as attributes.
        """
        if strict:
            raise UnsupportedError(f"{cls.__name__}.model_validate: there is no strict mode")
        if isinstance(obj, cls):
            return obj
        if from_attributes and not isinstance(obj, dict):
            obj = {name: getattr(obj, name) for name in cls.model_fields if hasattr(obj, name)}
        if not isinstance(obj, dict):
            raise bad(cls.__name__, "an object", obj)
        return cls(**obj)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Any:
        """Return an object made from JSON text; of duplicate keys, the last one counts."""
        try:
            value = json.loads(json_data)
        except (ValueError, RecursionError) as e:
            raise ValidationError(f"{cls.__name__}: not JSON: {e}") from e
        return cls.model_validate(value, **options)

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Any:
        """Return an object of values that are not checked."""
        found = object.__new__(cls)
        known = cls.model_fields
        found._given = values.keys() & known.keys() if _fields_set is None else set(_fields_set)
        for name, info in known.items():
            if name in values or not info.is_required():
                found.__dict__[name] = values.get(name, info.default)
        return found

    # --- copies -----------------------------------------------------------------------------------

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Any:
        """Return a copy.  ``update`` is not checked; values are shared unless ``deep``."""
        found = object.__new__(type(self))
        values = copy.deepcopy(self.__dict__) if deep else dict(self.__dict__)
        found.__dict__.update(values, **(update or {}))
        found._given = self._given | (update or {}).keys()
        return found

    def __copy__(self) -> Any:
        return self.model_copy()

    def __deepcopy__(self, memo: Any = None) -> Any:
        found = self.model_copy()
        found.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return found


def _chosen(name: Any, include: Any, exclude: Any) -> tuple[bool, Any, Any]:
    """Return whether a field or element is included, and ``include`` and ``exclude`` inside it."""
    only, without = None, None
    if include is not None:
        only = _said(name, include)
        if only is None or only is False:
            return False, None, None
    if exclude is not None:
        without = _said(name, exclude)
        if without is True or without is ...:
            return False, None, None
    return True, None if only is True or only is ... else only, without or None


def _said(name: Any, chosen: Any) -> Any:
    if isinstance(chosen, Mapping):
        return chosen.get(name, chosen.get("__all__"))
    return True if name in chosen or "__all__" in chosen else None


def _counted(chosen: Any, n: int) -> Any:
    """Return indices of a list of n elements modulo n, so that -1 is the last, as in pydantic."""
    if chosen is None or n == 0:
        return chosen
    if isinstance(chosen, Mapping):
        return {k % n if isinstance(k, int) else k: v for k, v in chosen.items()}
    return {k % n if isinstance(k, int) else k for k in chosen}


def _plain(value: Any, include: Any, exclude: Any, how: tuple[bool, bool, bool]) -> Any:
    if isinstance(value, Model):
        unset, defaults, none = how
        return value.model_dump(
            include=include,
            exclude=exclude,
            exclude_unset=unset,
            exclude_defaults=defaults,
            exclude_none=none,
        )
    if not isinstance(value, list):
        return value
    found = []
    include, exclude = (_counted(chosen, len(value)) for chosen in (include, exclude))
    for k, some in enumerate(value):
        taken, only, without = _chosen(k, include, exclude)
        if taken:
            found.append(_plain(some, only, without, how))
    return found


def _json(value: Any, indent: int | None, depth: int = 1) -> str:
    """Return JSON text with the spacing of pydantic's serialiser."""
    if isinstance(value, float):
        return _float(value)
    if not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        colon = ":" if indent is None else ": "
        items = [
            f"{json.dumps(k, ensure_ascii=False)}{colon}{_json(v, indent, depth + 1)}"
            for k, v in value.items()
        ]
    else:
        items = [_json(v, indent, depth + 1) for v in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    if indent is None or not items:
        return f"{first}{','.join(items)}{last}"
    line, end = "\n" + " " * indent * depth, "\n" + " " * indent * (depth - 1)
    return f"{first}{line}{f',{line}'.join(items)}{end}{last}"


def _float(x: float) -> str:
    if not math.isfinite(x):
        return "null"
    text = repr(x)
    digits, e, exponent = text.partition("e")
    if not e:
        return text
    if exponent == "-05":  # the smallest exponent that pydantic writes without one
        sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
        return f"{sign}0.0000{digits.replace('.', '')}"
    return f"{digits}e{exponent[0]}{exponent[1:].lstrip('0')}"
