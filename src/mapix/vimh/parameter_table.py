"""Parameters of sounds from a CSV or JSONL file: columns become labels."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mapix.errors import FormatError
from mapix.source import read_small
from mapix.vimh.parameters import LEVELS, Parameter

__all__ = ["Table", "read_table"]

FILE_KEYS = ("file_name", "file", "filename", "path")
STEPS = 16  # of a range whose values are not evenly spaced, as the original has by default
WHAT = "parameters"
MOST_NBYTES = 1 << 28  # of the file: its rows are held in memory


class Table(NamedTuple):
    """Content of a file of parameters.

    Attributes
    ----------
    files : list of str
        Name of each sound.
    splits : list of (str or None)
        Its split, of a column ``split``.
    parameters : list of Parameter
        Columns that vary.
    codes : dict of str to list
        Name -> code of each sound, None where it has none.
    fixed : dict of str to float
        Columns of one number.
    """

    files: list[str]
    splits: list[str | None]
    parameters: list[Parameter]
    codes: dict[str, list[int | None]]
    fixed: dict[str, float]


def read_table(
    path: str | os.PathLike[str], ranges: Mapping[str, tuple[float, float, float]] | None = None
) -> Table:
    """Read a CSV file with a line of names, or a file with one JSON object per line.

    A column ``file_name`` names the sounds.  Numbers become a parameter with their range, and with
    the smallest difference between two of them as its step, or a sixteenth of the range; one number
    for all sounds is fixed.  Texts become classes, in alphabetical order.  An empty cell, ``null``
    or an absent key states that the sound lacks the label.

    Parameters
    ----------
    path : str or os.PathLike
        The file; of a name that ends in ``.jsonl`` or ``.ndjson``, objects.
    ranges : mapping of str to (float, float, float), optional
        Name -> min, max, step of parameters that have others.

    Raises
    ------
    FormatError
        The file is damaged, has no sounds, or a value is neither a number nor text.
    """
    path = os.fspath(path)
    rows = list(_objects(path) if path.endswith((".jsonl", ".ndjson")) else _lines(path))
    if not rows:
        raise FormatError(path, WHAT, "there are no sounds in it")
    key = next((key for key in FILE_KEYS if key in rows[0]), None)
    if key is None:
        raise FormatError(
            path, WHAT, f"a column file_name is expected, got {', '.join(map(str, rows[0]))}"
        )
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if name != key]
    files, splits = [], []
    for k, row in enumerate(rows):
        if not isinstance(row.get(key), str) or not row[key]:
            raise FormatError(path, WHAT, f"{key} must be a name, got {row.get(key)!r}", record=k)
        files.append(row[key])
        splits.append(row.get("split") or None)
    if all(isinstance(split, str | None) for split in splits) and any(splits):
        names.remove("split")
    else:
        splits = [None] * len(rows)
    found = Table(files, splits, [], {}, {})
    known = dict(ranges or {})
    for name in names:
        asked = known.get(name)
        try:
            _add(found, name, _values(path, name, rows), asked)
        except FormatError:
            raise
        except ValueError as e:
            if asked is not None:  # the caller's range, not the file's
                raise ValueError(f"{path}: {e}") from e
            raise FormatError(path, WHAT, str(e)) from e
    unknown = known.keys() - set(names)
    if unknown:
        raise ValueError(f"{path}: there is no parameter {', '.join(sorted(unknown))}")
    return found


def _lines(path: str) -> Iterator[dict[str, Any]]:
    try:
        text = read_small(path, MOST_NBYTES).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        names = next(reader, [])
        if len(set(names)) != len(names):
            raise FormatError(path, WHAT, "a name appears twice in the first line")
        for row in reader:
            if row and len(row) != len(names):
                reason = f"line {reader.line_num}: {len(names)} values expected, got {len(row)}"
                raise FormatError(path, WHAT, reason)
            if row:
                yield dict(zip(names, map(_cell, row), strict=True))
    except (csv.Error, UnicodeDecodeError) as e:
        raise FormatError(path, WHAT, str(e)) from e


def _cell(text: str) -> str | None:
    return text.strip() or None


def _objects(path: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_small(path, MOST_NBYTES).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise FormatError(path, WHAT, f"line {number}: {e}") from e
        if not isinstance(row, dict):
            raise FormatError(path, WHAT, f"line {number}: an object expected")
        yield row


def _number(value: Any) -> float | None:
    """Return a value as a number; None of a text that is not one."""
    try:
        return float(value)
    except ValueError:
        return None


def _values(path: str, name: str, rows: list[dict[str, Any]]) -> list[Any]:
    """Return a column as floats and None, or as texts and None."""
    values = [row.get(name) for row in rows]
    for k, value in enumerate(values):
        if not isinstance(value, str | int | float | None):
            reason = f"{name} must be a number or text, got {type(value).__name__}"
            raise FormatError(path, WHAT, reason, record=k)
    there = [value for value in values if value is not None]
    if any(_number(value) is None for value in there):
        return [None if value is None else str(value) for value in values]
    numbers = [None if value is None else float(value) for value in values]
    for k, number in enumerate(numbers):
        if number is not None and not math.isfinite(number):
            raise FormatError(path, WHAT, f"{name} must be finite, got {number}", record=k)
    return numbers


def _add(table: Table, name: str, values: list[Any], given: Any) -> None:
    """Add a column: to the parameters, or to the fixed ones."""
    there = [value for value in values if value is not None]
    number = len(table.parameters)
    if there and isinstance(there[0], str):
        classes = sorted(set(there))
        last = max(len(classes) - 1, 1)
        if last > LEVELS:
            raise ValueError(f"{name} has {len(classes)} different texts, a label has 256 classes")
        made = Parameter(
            name, number, 0.0, float(last), 1.0, last + 1, description=", ".join(classes)
        )
        # rounded, not truncated as numbers are: class 1 must not fall to class 0
        codes = {text: round(k / last * LEVELS) for k, text in enumerate(classes)}
        table.codes[name] = [None if value is None else codes[value] for value in values]
    else:
        if given is None and len(set(values)) == 1:
            if there:
                table.fixed[name] = there[0]
            return
        low, high, step = given or _range(there)
        if not low < high or not 0 < step <= high - low:
            raise ValueError(f"{name}: min below max, and a step are needed: {low}, {high}, {step}")
        if there and not low <= min(there) <= max(there) <= high:
            raise ValueError(f"{name} has {min(there):g}..{max(there):g}, not in {low:g}..{high:g}")
        made = Parameter(name, number, low, high, step, round((high - low) / step) + 1)
        table.codes[name] = [
            None if value is None else int(made.quantise(value)) for value in values
        ]
    table.parameters.append(made)


def _range(numbers: list[float]) -> tuple[float, float, float]:
    """Return min, max and step of numbers."""
    low, high = min(numbers), max(numbers)
    if low == high:  # where some sounds lack it
        return low, low + 1, 1.0
    step = float(np.diff(np.unique(numbers)).min())
    steps = (high - low) / step
    if steps > LEVELS or abs(steps - round(steps)) > 1e-6 * steps:
        step = (high - low) / STEPS
    else:
        step = (high - low) / round(steps)
    return low, high, step
