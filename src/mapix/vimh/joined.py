"""Several VIMH files as one dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.batch import Batch, batches
from mapix.errors import FormatError, UnsupportedError
from mapix.selection import Rows, chosen, compose, positions
from mapix.vimh.dataset import Dataset
from mapix.vimh.labels import Column
from mapix.vimh.parameters import Parameters
from mapix.vimh.query import Query
from mapix.vimh.record_types import Record

__all__ = ["Joined"]


def _agreed(parts: Sequence[Dataset]) -> Parameters:
    """The labels of all parts; those of one name or id have to be the same in all."""
    found = parts[0].parameters
    for ds in parts[1:]:
        for p in ds.parameters.values():
            if p.name not in found:
                if p.id in {q.id for q in found.values()}:
                    named = found.by_id(p.id).name if p.id is not None else ""
                    reason = f"label id {p.id} is {p.name!r}, in {parts[0].path} it is {named!r}"
                    raise FormatError(ds.path, "vimh", reason)
                found = Parameters([*found.values(), p], list(found.fixed.values()))
            elif p != found[p.name]:
                reason = f"parameter {p}, in {parts[0].path} it is {found[p.name]}"
                raise FormatError(ds.path, "vimh", reason)
    return found


class _Labels(Mapping[str, Column]):
    """Columns of all parts, one behind the other, of the chosen rows."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._known: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._known:
            joined = self._joined
            parameter = joined.parameters[name]
            codes, present = [np.empty(0, np.uint8)], [np.empty(0, np.bool_)]
            for ds in joined.parts:
                has = name in ds.labels
                codes.append(ds.labels[name].codes if has else np.zeros(len(ds), np.uint8))
                present.append(ds.labels[name].present if has else np.zeros(len(ds), np.bool_))
            rows = slice(None) if joined._rows is None else joined.rows
            column = Column(parameter, np.concatenate(codes)[rows], np.concatenate(present)[rows])
            self._known[name] = column
        return self._known[name]

    def codes(self, name: str) -> NDArray[np.uint8]:
        """``self[name].codes``: what conditions look up."""
        return self[name].codes

    def table(self, name: str) -> NDArray[np.float64]:
        """Physical value of each code of a label, float64 (256,)."""
        return self[name].by_code

    def __iter__(self) -> Iterator[str]:
        return iter(self._joined.parameters)

    def __len__(self) -> int:
        return len(self._joined.parameters)


class Joined(Query):
    """Several VIMH files one behind the other, as one dataset.  Made by ``mapix.open([...])``.

    Record i is found by bisection among the parts.  Indexing, batches, conditions, splits and
    shards are those of ``mapix.vimh.Dataset``; what is a view of one file there (``images``,
    ``label_bytes``) is had from ``parts``.

    Parameters
    ----------
    parts : sequence of Dataset
        At least one; parameters of the same name or id have to be the same in all.

    Attributes
    ----------
    parts : tuple of Dataset
        The files.
    parameters : Parameters
        The labels of all of them.

    Raises
    ------
    FormatError
        Two files disagree about a parameter.
    """

    def __init__(self, parts: Sequence[Dataset], *, rows: Rows = None) -> None:
        if not parts:
            raise ValueError("at least one dataset is needed")
        self.parts = tuple(parts)
        self.parameters = _agreed(self.parts)
        self._ends = np.cumsum([len(ds) for ds in self.parts])
        self._rows = rows
        self._n = int(self._ends[-1]) if rows is None else len(rows)

    @property
    def labels(self) -> Any:
        """Name -> column of labels, as ``Dataset.labels``."""
        if self._labels is None:
            self._labels = _Labels(self)  # type: ignore[assignment]
        return self._labels

    @property
    def path(self) -> str:
        """The first file, and how many more."""
        more = len(self.parts) - 1
        return self.parts[0].path + (f" and {more} more" if more else "")

    @property
    def heads(self) -> dict[str, int]:
        """Name -> number of classes."""
        return self.parameters.heads

    @property
    def info(self) -> Mapping[str, Any]:
        """The info JSON of the first file."""
        return self.parts[0].info

    @property
    def rows(self) -> NDArray[np.int64]:
        """Numbers of the records among those of all files, int64 (n,).  Copies: yes."""
        if self._rows is None:
            return np.arange(self._n, dtype=np.int64)
        return np.asarray(self._rows, dtype=np.int64)

    @property
    def shapes(self) -> NDArray[np.uint16]:
        """(h, w, c) of each record, uint16 (n, 3).  Copies: yes."""
        found = np.concatenate([ds.shapes for ds in self.parts])
        return found if self._rows is None else found[self.rows]

    @property
    def uniform(self) -> bool:
        """Whether all records of all files have one shape."""
        shapes = {ds.index.first[1:4] for ds in self.parts if len(ds)}
        return len(shapes) <= 1 and all(ds.uniform for ds in self.parts)

    @property
    def images(self) -> NDArray[np.uint8]:
        """Refused: no view spans files."""
        raise UnsupportedError(
            f"{self.path}: no view spans files; use ds.parts[k].images, ds.batch"
        )

    def __len__(self) -> int:
        return self._n

    def _place(self, row: int) -> tuple[int, int]:
        """Part and position in it of a record number."""
        part = int(np.searchsorted(self._ends, row, side="right"))
        return part, row - (int(self._ends[part - 1]) if part else 0)

    def __getitem__(self, key: Any) -> Any:
        found = chosen(key, self._rows, self._n, self.path)
        if isinstance(found, int):
            part, row = self._place(found)
            return self.parts[part][row]
        return self._with_rows(found)

    def _with_rows(self, rows: Rows) -> Joined:
        made = Joined.__new__(Joined)
        made.parts, made.parameters, made._ends = self.parts, self.parameters, self._ends
        made._rows = rows
        made._n = len(rows) if rows is not None else int(self._ends[-1])
        return made

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(self._n))

    # --- batches ----------------------------------------------------------------------------------

    def _by_part(self, indices: ArrayLike) -> list[tuple[Dataset, NDArray[np.int64], Any]]:
        """For each file that is asked: it, its rows, and where they stand in the batch."""
        rows = compose(self._rows, positions(indices, self._n, self.path))
        part = np.searchsorted(self._ends, rows, side="right")
        found = []
        for k in np.unique(part).tolist():
            at = np.flatnonzero(part == k)
            begin = int(self._ends[k - 1]) if k else 0
            run = int(at[-1]) - int(at[0]) + 1 == len(at)
            where = slice(int(at[0]), int(at[-1]) + 1) if run else at
            found.append((self.parts[k], rows[at] - begin, where))
        return found

    def batch(
        self, indices: ArrayLike, out: NDArray[Any] | Batch | None = None, **options: Any
    ) -> Batch:
        """Copy records into one contiguous batch: as ``Dataset.batch``, with the same options.

        Records of one file that stand together in ``indices`` are gathered into their place; those
        that alternate with others' are copied once more.
        """
        asked = self._by_part(indices)
        n = len(positions(indices, self._n, self.path))
        if options.get("flat"):
            return self._flat(asked, n, options)
        keep: dict[str, Any] = {k: options[k] for k in ("pad", "crop") if k in options}
        layout = options.get("layout", "NHWC")
        shape = self._shape([(ds, rows) for ds, rows, _ in asked], keep)
        if keep.get("pad") or keep.get("crop"):
            options |= {"pad": shape, "crop": keep.get("crop", False)}
        h, w, c = shape
        full = (n, h, w, c) if layout == "NHWC" else (n, c, h, w)
        if len(asked) == 1 and isinstance(asked[0][2], slice):
            batch = asked[0][0].batch(asked[0][1], out=out, **options)
            return self._named([(batch, slice(0, n))], batch.images, n)
        images = self._room(full, out, options.get("dtype", "uint8"))
        pieces = []
        for ds, rows, where in asked:
            if isinstance(where, slice):
                pieces.append((ds.batch(rows, out=images[where], **options), where))
            else:
                piece = ds.batch(rows, **options)
                images[where] = piece.images
                pieces.append((piece, where))
        if not asked:
            pieces = [(self.parts[0].batch([], **options), slice(0, 0))]
        return self._named(pieces, images, n)

    @staticmethod
    def _room(shape: tuple[int, ...], out: NDArray[Any] | Batch | None, dtype: Any) -> NDArray[Any]:
        given = out.images if isinstance(out, Batch) else out
        if given is None:
            return np.empty(shape, dtype)
        if given.shape[1:] != shape[1:] or len(given) < shape[0] or given.dtype != np.dtype(dtype):
            raise ValueError(
                f"out must be {np.dtype(dtype)} of shape {shape} (or with more rows), "
                f"got {given.dtype} {given.shape}"
            )
        return given[: shape[0]]

    def _shape(
        self, asked: list[tuple[Dataset, NDArray[np.int64]]], keep: Mapping[str, Any]
    ) -> tuple[int, int, int]:
        """(h, w, c) of a batch: one canvas for the records of all files."""
        found = [ds.batch_shape(rows, **keep)[1:] for ds, rows in asked]
        if not found:
            return self.parts[0].batch_shape([], **keep)[1:]
        if len(set(found)) == 1:
            return found[0]
        if not keep.get("pad") and not keep.get("crop"):
            raise ValueError(
                f"{self.path}: records of {sorted(set(found))}: pass pad=, crop= or flat=True for "
                "records of mixed sizes"
            )
        smallest = keep.get("crop") and not keep.get("pad")
        h, w = ((min if smallest else max)(s[k] for s in found) for k in (0, 1))
        return h, w, max(s[2] for s in found)

    def batch_shape(
        self, indices: ArrayLike, layout: Literal["NHWC", "NCHW"] = "NHWC", **options: Any
    ) -> tuple[int, int, int, int]:
        """Shape that ``batch`` with these options would give its images."""
        n = len(positions(indices, self._n, self.path))
        h, w, c = self._shape([(ds, rows) for ds, rows, _ in self._by_part(indices)], options)
        return (n, h, w, c) if layout == "NHWC" else (n, c, h, w)

    def _named(self, pieces: list[tuple[Batch, Any]], images: NDArray[Any], n: int) -> Batch:
        """The labels of pieces, by the names of all files, around their images."""
        names = tuple(self.parameters)
        first = pieces[0][0]
        shapes = np.empty((n, 3), np.uint16)
        labels = present = spec = None
        if first.labels is not None:
            missing = {"u": 0, "i": -1, "f": np.nan}[first.labels.dtype.kind]
            labels = np.full((n, len(names)), missing, first.labels.dtype)
            present = np.zeros((n, len(names)), np.bool_)
        if first.spec_range is not None:
            spec = np.empty((n, 2), np.float32)
        for piece, where in pieces:
            shapes[where] = piece.shapes
            if spec is not None:
                spec[where] = piece.spec_range
            if labels is None or present is None or piece.labels is None or piece.present is None:
                continue
            at = np.arange(n)[where]
            for k, name in enumerate(piece.names):
                column = names.index(name)
                labels[at, column] = piece.labels[:, k]
                present[at, column] = piece.present[:, k]
        return Batch(images, labels, present, shapes, spec, None, () if labels is None else names)

    def _flat(
        self,
        asked: list[tuple[Dataset, NDArray[np.int64], Any]],
        n: int,
        options: Mapping[str, Any],
    ) -> Batch:
        pieces = [(ds.batch(rows, **options), where) for ds, rows, where in asked]
        if not pieces:
            return self.parts[0].batch([], **options)
        sizes = np.zeros(n + 1, np.int64)
        for piece, where in pieces:
            assert piece.offsets is not None
            sizes[1:][where] = np.diff(piece.offsets)
        offsets = np.cumsum(sizes)
        images = np.empty(int(offsets[-1]), np.uint8)
        for piece, where in pieces:
            assert piece.offsets is not None
            for k, i in enumerate(np.arange(n)[where].tolist()):
                image = piece.images[piece.offsets[k] : piece.offsets[k + 1]]
                images[offsets[i] : offsets[i + 1]] = image
        found = self._named(pieces, images, n)
        found.offsets = offsets
        return found

    def batches(
        self,
        batch_size: int,
        order: ArrayLike | None = None,
        *,
        drop_last: bool = False,
        **options: Any,
    ) -> Iterator[Batch]:
        """Batches of all records, or of ``order``, as ``Dataset.batches``."""
        indices = np.arange(self._n) if order is None else positions(order, self._n, self.path)
        return batches(self, batch_size, indices, drop_last=drop_last, options=options)

    def prefetch(self, indices: ArrayLike) -> int:
        """Ask the kernel to read these records in the background; how many were asked for."""
        return sum(ds.prefetch(rows) for ds, rows, _ in self._by_part(indices))

    # --- life -------------------------------------------------------------------------------------

    def joined(self, others: Sequence[Dataset | Joined]) -> Joined:
        """Itself and others, one behind the other."""
        return join([self, *others])

    def close(self) -> None:
        """Let go of all files."""
        for ds in self.parts:
            ds.close()

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.parts, self._rows)

    def __repr__(self) -> str:
        heads = ", ".join(f"{k}: {v}" for k, v in list(self.heads.items())[:6])
        return (
            f"<mapix.vimh.Joined {self.path}: {self._n} records in {len(self.parts)} files, "
            f"heads {{{heads}}}>"
        )


def _rebuilt(parts: tuple[Dataset, ...], rows: Rows) -> Joined:
    return Joined(parts, rows=rows)


def join(datasets: Sequence[Dataset | Joined]) -> Joined:
    """Datasets one behind the other; of those that are joined already, their parts."""
    parts: list[Dataset] = []
    for ds in datasets:
        if isinstance(ds, Joined) and ds._rows is not None:
            raise UnsupportedError("a part of joined datasets cannot be joined again; join first")
        parts += ds.parts if isinstance(ds, Joined) else [ds]
    return Joined(parts)
