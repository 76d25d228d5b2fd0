"""Data cards: data with a name, a version and splits: see ``mapix.compat.opsml``."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np

from mapix.compat._image_dataset import METADATA, ImageDataset, ImageMetadata
from mapix.compat._model import ValidationError, bad
from mapix.compat._tables import COMPARISONS, KINDS, kind_of, read_array, write_array
from mapix.errors import FormatError
from mapix.source import read_small
from mapix.store import NewDirectory

__all__ = ["CardInfo", "DataCard", "DataSplit", "SplitData"]

CARD, IMAGES = "card.json", "images"
FORMAT, FORMAT_VERSION = "mapix data card", 1
MOST_CARD_NBYTES = 16 << 20
VERSION = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")
TEXTS = ("name", "repository", "contact", "version", "uid")
LISTS = ("splits", "dependent_vars", "tags")


def _text(where: str, *values: Any) -> str | None:
    """Return the first value that is not None, which must be text."""
    value = next((value for value in values if value is not None), None)
    if value is None or isinstance(value, str):
        return value
    raise bad(where, "text", value)


@dataclass
class CardInfo:
    """Names of a card, which several cards may share.

    Attributes
    ----------
    name, repository, contact, version, uid : str or None
        As of ``DataCard``.
    team, user_email : str or None
        Older names of ``repository`` and ``contact``.
    """

    name: str | None = None
    repository: str | None = None
    contact: str | None = None
    version: str | None = None
    uid: str | None = None
    team: str | None = None
    user_email: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            _text(field.name, getattr(self, field.name))
        self.repository = _text("team", self.repository, self.team)
        self.contact = _text("user_email", self.contact, self.user_email)


@dataclass
class DataSplit:
    """Choose the rows of a split: by a column, by indices, or from a row to another.

    Attributes
    ----------
    label : str
        Name of the split.
    column_name, column_value, inequality
        Rows whose value compares so; ``inequality`` is one of ``== != < <= > >=``, by default
        ``==``.  Of arrays the column's number.
    indices : sequence of int or None
        Rows, in this order.
    start, stop : int or None
        Rows from ``start`` up to ``stop``, which is not included.
    """

    label: str
    column_name: str | int | None = None
    column_value: Any = None
    inequality: str | None = None
    indices: Any = None
    start: int | None = None
    stop: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label:
            raise ValidationError(f"label: the name of a split expected, got {self.label!r:.80}")
        where = f"split {self.label!r:.80}"
        ways = (self.column_name is not None, self.indices is not None, self.stop is not None)
        if sum(ways) != 1 or (self.start is not None and self.stop is None):
            raise ValidationError(
                f"{where}: one of column_name with column_value, indices, and start with stop "
                "expected"
            )
        if self.column_name is not None:
            self._check_column(where)
        elif self.indices is not None:
            self.indices = self._checked_indices(where)
        else:
            self.start = 0 if self.start is None else self.start
            if not all(type(n) is int for n in (self.start, self.stop)):
                raise ValidationError(f"{where}: start and stop must be whole numbers")
            if not 0 <= self.start <= (self.stop or 0):
                raise ValidationError(f"{where}: 0 <= start <= stop expected, got {self.rows!r}")

    def _check_column(self, where: str) -> None:
        self.inequality = self.inequality or "=="
        if self.inequality not in COMPARISONS:
            known = " ".join(COMPARISONS)
            raise ValidationError(f"{where}: inequality {self.inequality!r:.80} is not of {known}")
        if not isinstance(self.column_name, str | int):
            raise bad(f"{where}: column_name", "a name", self.column_name)
        if isinstance(self.column_value, np.generic):
            self.column_value = self.column_value.item()
        if not isinstance(self.column_value, str | int | float):
            raise bad(f"{where}: column_value", "text or a number", self.column_value)

    def _checked_indices(self, where: str) -> Any:
        found = np.asarray(self.indices)
        if found.ndim != 1 or (found.dtype.kind not in "iu" and len(found)):
            raise ValidationError(f"{where}: indices must be whole numbers, one after the other")
        found = found.astype(np.int64)
        if len(found) and found.min() < 0:
            raise ValidationError(f"{where}: index {found.min()} is below 0")
        return found

    @property
    def rows(self) -> Any:
        """The rows as a slice or as indices; None where a column decides."""
        return slice(self.start, self.stop) if self.stop is not None else self.indices

    @classmethod
    def of(cls, value: Any) -> DataSplit:
        """Return a split from a split or from a dict of its attributes."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise bad("splits", "a DataSplit or a dict", value)
        unknown = set(value) - {field.name for field in fields(cls)}
        if unknown or "label" not in value:
            wrong = f"unknown {sorted(map(str, unknown))}" if unknown else "label is missing"
            raise ValidationError(f"splits: {wrong}")
        return cls(**value)


class SplitData(NamedTuple):
    """The rows of a split.

    Attributes
    ----------
    X : array or table
        All columns but the dependent ones.
    y : array, table or None
        The dependent columns; None where the card names none.
    """

    X: Any
    y: Any


class DataCard:
    """Data with a name, a version and splits.

    Parameters
    ----------
    data : ImageDataset, ndarray, DataFrame of pandas or polars, or Table of pyarrow
        Not copied.
    name, repository, contact : str, optional
        ``team`` and ``user_email`` are older names of the last two.
    version : str, optional
        As ``1.2.0``.
    uid : str, optional
        An identity of the card.
    info : CardInfo, optional
        What it has is used where the parameters above are not given.
    splits : iterable of DataSplit or dict, optional
        ``data_splits`` is an older name.
    dependent_vars : iterable of str or int, optional
        Columns that ``split_data`` returns as ``y``; of arrays their numbers.
    tags : mapping of str to str, optional
        For people.

    Raises
    ------
    ValidationError
        A value is of the wrong type.

    Examples
    --------
    >>> import numpy as np
    >>> halves = [{"label": "a", "start": 0, "stop": 3}, {"label": "b", "indices": [5, 3]}]
    >>> card = DataCard(data=np.arange(12).reshape(6, 2), name="rows", splits=halves)
    >>> card.split_data().b.X
    array([[10, 11],
           [ 6,  7]])
    """

    def __init__(
        self,
        *,
        data: Any = None,
        name: str | None = None,
        repository: str | None = None,
        contact: str | None = None,
        version: str | None = None,
        uid: str | None = None,
        info: CardInfo | None = None,
        splits: Iterable[Any] = (),
        data_splits: Iterable[Any] = (),
        dependent_vars: Iterable[str | int] = (),
        tags: Mapping[str, str] | None = None,
        team: str | None = None,
        user_email: str | None = None,
    ) -> None:
        if info is not None and not isinstance(info, CardInfo):
            raise bad("info", "a CardInfo", info)
        given = info or CardInfo()
        self.name = _text("name", name, given.name)
        self.repository = _text("repository", repository, team, given.repository)
        self.contact = _text("contact", contact, user_email, given.contact)
        self.version = _text("version", version, given.version)
        self.uid = _text("uid", uid, given.uid)
        if self.version is not None and not VERSION.fullmatch(self.version):
            raise ValidationError(f"version: as 1.2.0 expected, got {self.version!r:.80}")
        self.splits = [DataSplit.of(split) for split in (*splits, *data_splits)]
        labels = [split.label for split in self.splits]
        if len(set(labels)) < len(labels):
            raise ValidationError(f"splits: two have one label: {labels!r:.200}")
        self.dependent_vars = list(dependent_vars)
        for variable in self.dependent_vars:
            if type(variable) not in (str, int):
                raise bad("dependent_vars", "names or numbers of columns", variable)
        self.tags = {} if tags is None else dict(tags)
        if not all(isinstance(text, str) for tag in self.tags.items() for text in tag):
            raise ValidationError("tags: texts expected")
        if data is not None and not isinstance(data, ImageDataset):
            kind_of(data)
        self._data, self._folder = data, ""
        self._saved: dict[str, str] = {}

    @property
    def data(self) -> Any:
        """The data; of a card that was loaded, they are read at the first access."""
        self.load_data()
        return self._data

    @property
    def data_splits(self) -> list[DataSplit]:
        """An older name of ``splits``."""
        return self.splits

    def __repr__(self) -> str:
        names = [f"{key}={value!r}" for key in TEXTS if (value := getattr(self, key)) is not None]
        kind = self._saved.get("kind") or type(self._data).__name__
        return f"<DataCard: {', '.join([*names, kind, f'{len(self.splits)} splits'])}>"

    # --- splits -----------------------------------------------------------------------------------

    def split_data(self) -> types.SimpleNamespace:
        """Return an object with an attribute for each split, a ``SplitData``.

        Raises
        ------
        ValidationError
            The card has no splits, its data are pictures, or a split does not fit the data.
        """
        data = self.data
        if isinstance(data, ImageDataset):
            raise ValidationError(
                "splits: of an ImageDataset there are none; data.open() opens it as a dataset of "
                "mapix, which has split()"
            )
        if data is None or not self.splits:
            raise ValidationError("splits: the card has none" if data is not None else "data: None")
        return types.SimpleNamespace(
            **{split.label: self._split(data, split) for split in self.splits}
        )

    def _split(self, data: Any, split: DataSplit) -> SplitData:
        kind, where = kind_of(data), f"split {split.label!r:.80}"
        known = kind.names(data)
        for name in (split.column_name, *self.dependent_vars):
            if name is not None and name not in known:
                some = ", ".join(map(str, known[:20]))
                raise ValidationError(f"{where}: there is no column {name!r:.80}; there are {some}")
        if split.column_name is not None:
            found = kind.compared(
                data, split.column_name, split.inequality or "==", split.column_value
            )
        else:
            rows = split.rows
            if not isinstance(rows, slice) and len(rows) and rows.max() >= len(data):
                raise ValidationError(f"{where}: row {rows.max()} of {len(data)}")
            if isinstance(rows, slice) and rows.stop > len(data):
                raise ValidationError(f"{where}: up to row {rows.stop} of {len(data)}")
            found = kind.rows(data, rows)
        if not self.dependent_vars:
            return SplitData(found, None)
        return SplitData(*kind.apart(found, self.dependent_vars))

    # --- on disk ----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the card and its data to a new directory, which appears complete or not at all.

        ``card.json`` has everything but the data: these are ``data.npy``, ``data.parquet`` (needs
        pyarrow: ``pip install 'mapix[arrow]'``), or the files of the pictures in ``images``.

        Raises
        ------
        FileExistsError
            The path exists already.
        ValidationError
            The data cannot be saved: objects in an array, links or devices among the pictures.
        """
        data = self.data
        card: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        card |= {key: getattr(self, key) for key in TEXTS}
        card |= {"dependent_vars": self.dependent_vars, "tags": self.tags, "data": None}
        with NewDirectory(path) as new:
            if isinstance(data, ImageDataset):
                card["data"] = {"kind": "images", "metadata": _save_images(data, new.stage)}
            elif data is not None:
                kind = kind_of(data)
                kind.save(data, os.path.join(new.stage, kind.FILE))
                card["data"] = {"kind": kind.NAME}
            card["splits"] = []
            for k, split in enumerate(self.splits):
                entry = {field.name: getattr(split, field.name) for field in fields(split)}
                if split.indices is not None:
                    entry["indices"] = _indices_file(k)
                    write_array(split.indices, os.path.join(new.stage, entry["indices"]))
                card["splits"].append(entry)
            new.adopt()
            new.file(CARD).write(json.dumps(card, indent=2).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a card that ``save`` wrote; its data are read when ``data`` is accessed.

        Raises
        ------
        FormatError
            The directory does not hold a card.
        """
        folder = os.fspath(path)
        where = os.path.join(folder, CARD)
        card = _read_json(where)
        try:
            splits = card.get("splits")
            if card.get("format") != FORMAT or not isinstance(splits, list):
                raise ValidationError(f"the file of a data card expected, of format {FORMAT!r}")
            if card.get("format_version") != FORMAT_VERSION:
                raise ValidationError(f"version {card.get('format_version')!r:.80} is not known")
            for k, split in enumerate(splits):
                if isinstance(split, dict) and split.get("indices") is not None:
                    split["indices"] = read_array(os.path.join(folder, _indices_file(k)))
            saved = _checked_data(card.get("data"))
            values: dict[str, Any] = {key: card.get(key) for key in (*TEXTS, *LISTS)}
            new = cls(**values)
        except (ValidationError, TypeError, ValueError) as e:
            raise FormatError(f"{where}: {e}") from e
        new._folder, new._saved = folder, saved
        return new

    def load_data(self) -> None:
        """Read the data of a card that was loaded; does nothing if they are here."""
        if self._data is not None or not self._saved:
            return
        name = self._saved["kind"]
        if name == "images":
            folder = os.path.join(self._folder, IMAGES)
            self._data = ImageDataset(image_dir=folder, metadata=self._saved["metadata"])
        else:
            kind = KINDS[name]
            self._data = kind.load(os.path.join(self._folder, kind.FILE))


def _indices_file(k: int) -> str:
    return f"indices-{k}.npy"


def _checked_data(saved: Any) -> dict[str, str]:
    """Return what the file states of the data; {} without any."""
    if saved is None:
        return {}
    if not isinstance(saved, dict) or saved.get("kind") not in {*KINDS, "images"}:
        raise ValidationError(f"data: kind {'images'} or one of {', '.join(KINDS)} expected")
    if saved["kind"] == "images" and not isinstance(saved.get("metadata"), str):
        raise ValidationError("data: the name of the metadata file expected")
    return saved


def _read_json(path: str) -> dict[str, Any]:
    try:
        found = json.loads(read_small(path, MOST_CARD_NBYTES))
    except (ValueError, RecursionError) as e:
        raise FormatError(f"{path}: not JSON: {e}") from e
    if not isinstance(found, dict):
        raise FormatError(f"{path}: an object of JSON expected, got {type(found).__name__}")
    return found


def _save_images(data: ImageDataset, stage: str) -> str:
    """Copy the directory of an ImageDataset; return the name of its metadata file."""
    source, target = os.path.abspath(data.image_dir), os.path.join(stage, IMAGES)
    if os.path.commonpath([os.path.realpath(source), os.path.realpath(stage)]) == os.path.realpath(
        source
    ):
        raise ValidationError(f"{data.image_dir}: the card cannot be saved within its own pictures")
    for folder, folders, files in os.walk(source, onerror=_raise):
        below = os.path.join(target, os.path.relpath(folder, source))
        os.makedirs(os.path.normpath(below))
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ValidationError(f"{path}: a link or a device, which a card does not hold")
            if stat.S_ISREG(mode):
                shutil.copyfile(path, os.path.join(below, name), follow_symlinks=False)
    if isinstance(data.metadata, ImageMetadata):
        data.metadata.write_to_file(os.path.join(target, METADATA))
        return METADATA
    return data.metadata


def _raise(error: OSError) -> None:
    raise error
