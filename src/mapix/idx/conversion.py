"""Conversion to IDX files: images, and class numbers in a file of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from mapix.conversion.target import Count, Target
from mapix.errors import UnsupportedError
from mapix.idx.layout import CODES, pack
from mapix.idx.names import FILES, IMAGES
from mapix.store import NewDirectory, NewFile, NewWhole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.conversion.stream import Label, Stream

__all__ = ["Idx"]

CLASS_TYPES = ("u1", "i2", "i4")  # of labels, the smallest that holds them


class Idx(Target):
    """One file, with its labels beside it; or a directory as torchvision lays MNIST out.

    Parameters
    ----------
    byteorder : {">", "<"}
        Of the files.
    label : str or False, optional
        The label that is written; needed where there are several.  False for none.
    unit : {"class", "raw"}
        Class numbers, or the codes of VIMH.
    directory : bool
        Whether ``path`` becomes a directory.
    """

    arguments: ClassVar = {
        "byteorder": {"choices": ("big", "little"), "help": "of an IDX file"},
        "label": {"help": "the label of an IDX file; none for none"},
        "unit": {"choices": ("class", "raw"), "help": "of an IDX label: class numbers, or codes"},
    }
    endings = (".idx", "-ubyte")

    def __init__(
        self,
        *,
        byteorder: Literal[">", "<"] = ">",
        label: str | Literal[False] | None = None,
        unit: Literal["class", "raw"] = "class",
        directory: bool = False,
    ) -> None:
        if byteorder not in (">", "<"):
            raise ValueError(f"byteorder must be > or <, got {byteorder!r}")
        if unit not in ("class", "raw"):
            raise ValueError(f"unit must be class or raw, got {unit!r}")
        self.byteorder, self.label, self.unit, self.directory = byteorder, label, unit, directory
        self.splits = tuple(FILES) if directory else ()

    @classmethod
    def of(cls, path: str, options: Mapping[str, Any]) -> Self:
        """See ``Target``."""
        return cls(directory=not path.endswith(cls.endings), **options)

    @classmethod
    def path_of_part(cls, path: str, part: str) -> str:
        """See ``Target``: labels are found by the end of the name, ``-images-idx3-ubyte``."""
        begin, found, end = path.rpartition("-images-")
        return f"{begin}-{part}{found}{end}" if found else super().path_of_part(path, part)

    # --- what is lost -----------------------------------------------------------------------------

    def keeps(self, stream: Stream) -> set[str]:
        """See ``Target``."""
        kept = self._kept(stream)
        return set() if kept is None else {kept.key}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        found: list[str] = []
        for stream in streams.values():
            stream.one_shape("IDX")
            if _code(stream.dtype) not in CODES.values():
                raise UnsupportedError(f"{stream.path}: IDX has no numbers of {stream.dtype}")
            kept = self._kept(stream)
            found += [] if kept is None else self._narrowed(kept)
        return found

    def _kept(self, stream: Stream) -> Label | None:
        names = [label.name for label in stream.labels]
        if self.label is False or not names:
            return None
        if self.label is None and len(names) > 1:
            raise ValueError(f"label= has to name one of {', '.join(names)}: IDX holds one")
        if self.label is not None and self.label not in names:
            raise ValueError(f"{stream.path}: no label {self.label!r}; there: {', '.join(names)}")
        return stream.labels[0 if self.label is None else names.index(self.label)]

    def _narrowed(self, label: Label) -> list[str]:
        """Return what is lost of a label that is written as class numbers, or codes."""
        codes, present = label.read()
        if not present.all():
            n = int((~present).sum())
            raise UnsupportedError(
                f"label {label.name!r} is missing in {n} records, and IDX has no sign for that; "
                "choose the records that have it, or another label"
            )
        p, found = label.parameter, []
        if p is not None and self.unit == "class":
            used = np.unique(codes)
            classes = p.class_of(used)
            if len(np.unique(classes)) < len(used):
                found.append(f"codes of label {label.name}: {len(used)} become fewer classes")
        plain = p is None or (p.min == 0 and p.step == 1 and self.unit == "class")
        if label.name != "label" or not plain or label.classes:
            found.append(f"name, range and classes of label {label.name}")
        return found

    # --- writing ----------------------------------------------------------------------------------

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        if self.directory:
            with NewDirectory(path) as folder:
                for split, stream in streams.items():
                    name = FILES[split].format(1 + len(_row_shape(stream)))
                    if self._kept(stream) is not None:
                        self._labels(stream, folder.file(_label_name(name)))
                    self._images(stream, folder.file(name), count)
            return
        (stream,) = streams.values()
        if self._kept(stream) is None:
            with NewWhole(path) as out:
                self._images(stream, out.file, count)
            return
        with NewWhole(path) as out, NewWhole(_label_name(out.path)) as labels:
            self._labels(stream, labels.file)
            self._images(stream, out.file, count)
            try:
                labels.commit()  # first: pictures must not be seen without their labels
                out.commit()
            finally:
                if out.placed is None and labels.placed is not None:
                    labels.placed.withdraw()

    def _images(self, stream: Stream, file: NewFile, count: Count) -> None:
        shape = _row_shape(stream)
        dtype = np.dtype(self.byteorder + _code(stream.dtype))
        file.write(pack(self.byteorder, _code(stream.dtype), (stream.n, *shape)))
        for block in stream.blocks(True):
            for run in block.runs:
                file.write(np.ascontiguousarray(run, dtype).reshape(-1).view(np.uint8).data)
            count(len(block))

    def _labels(self, stream: Stream, file: NewFile) -> None:
        values, every = self._values(stream), self._values(stream.source)
        low, high = (int(every.min()), int(every.max())) if len(every) else (0, 0)
        for code in CLASS_TYPES:
            limits = np.iinfo(code)
            if limits.min <= low and high <= limits.max:
                break
        else:
            raise UnsupportedError(f"{stream.path}: labels {low}..{high} do not fit into IDX")
        file.write(pack(self.byteorder, code, (len(values),)))
        if len(values):
            file.write(np.ascontiguousarray(values, self.byteorder + code).view(np.uint8).data)

    def _values(self, stream: Stream) -> NDArray[Any]:
        label = self._kept(stream)
        assert label is not None
        values: NDArray[Any] = label.read()[0]
        if label.parameter is not None and self.unit == "class":
            values = label.parameter.class_of(values)
        return values


def _code(dtype: np.dtype[Any]) -> str:
    return dtype.kind + str(dtype.itemsize)


def _row_shape(stream: Stream) -> tuple[int, ...]:
    """Pictures of one channel are rows of two dimensions, as MNIST's."""
    shape = stream.one_shape("IDX")
    return shape[:2] if stream.axes == "HWC" and shape[2] == 1 else shape


def _label_name(path: str) -> str:
    """Return the name of the file of labels of a file of images."""
    folder, name = os.path.split(path)
    if not re.search(IMAGES, name):
        raise ValueError(
            f"labels have their place beside NAME-images-idx3-ubyte, not beside {name!r}: choose "
            "such a name, a directory, or label=False"
        )
    return os.path.join(folder, re.sub(IMAGES, r"-labels\1idx1-ubyte", name))
