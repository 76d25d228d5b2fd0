"""A pickled batch as a file of records: images in one piece, labels elsewhere."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mapix.batch import Batch
from mapix.errors import FormatError, UnsupportedError
from mapix.vimh.gatherer import Gatherer
from mapix.vimh.layout import NAME
from mapix.vimh.parameters import Parameters
from mapix.vimh.pickle_file import PickledBatch
from mapix.vimh.record_index import RecordIndex
from mapix.vimh.record_types import Record

__all__ = ["PickleGatherer"]


class PickleGatherer(Gatherer):
    """An open pickled batch, which all datasets over it share.

    Parameters
    ----------
    batch : PickledBatch
        The pickle.
    named : Parameters
        Parameters of the info JSON.
    said : (h, w, c), optional
        Shape that the info JSON states.
    interleaved, access
        As for Gatherer.
    """

    def __init__(
        self,
        batch: PickledBatch,
        named: Parameters,
        said: tuple[int, int, int] | None,
        *,
        interleaved: bool,
        access: str,
    ) -> None:
        n, each = batch.shape
        h, w, c = batch.size(said)
        pixels, at = batch.pixels() if n else (batch.source, 0)
        index = RecordIndex(
            format=NAME,
            nrecords=n,
            nbytes=at + n * each,
            head_nbytes=0,
            stride=each if n else 0,
            first=(at, h, w, c, 0),
            entries=None,
            ids=(),
            ids_differ=False,
        )
        super().__init__(batch.source, index, named, interleaved=interleaved, access=access)
        self.pixels = pixels
        self._batch = batch
        self._size_checked = False

    def _check_size(self) -> None:
        """Check once that the pickle states the image size in use."""
        stated = self._batch.facts().stated
        if not self._size_checked and None not in stated and self.index.nrecords:
            used = self.index.first[1:4]
            if stated != used:
                raise FormatError(
                    self.source.path,
                    "vimh pickle",
                    f"it states images of {stated}, and was opened with the info JSON's {used}; "
                    "pass info=False to use the pickle's",
                )
        self._size_checked = True

    @cached_property
    def parameters(self) -> Parameters:
        """Labels: those of the info JSON, then ids without a name, or CIFAR's class numbers."""
        self._check_size()
        return self._batch.parameters(self._named)

    @property
    def ids(self) -> tuple[int, ...]:
        """All label ids that occur."""
        return self._batch.labels().ids()

    @property
    def codes(self) -> NDArray[np.uint8] | None:
        """Of records that all have as many labels: all codes."""
        return None if self._batch.labels().each is None else self.uniform_labels(1)

    def uniform_labels(self, which: int) -> NDArray[np.uint8]:
        """Return ids (0) or codes (1) of all records, (n, N)."""
        self._check_size()
        rows = self._batch.labels()
        if rows.each is None:
            raise UnsupportedError(
                f"{self.source.path}: the records have different numbers of labels; use ds.labels"
            )
        return rows.pairs[:, which].reshape(self.index.nrecords, rows.each)

    def check_cached(self) -> bool:
        """Decode the pickle again, and return whether the cache holds the same."""
        return self._batch.check_cached(self.pixels)

    def check_labels(self) -> bool:
        """Read the labels again, and return whether the stored ones are the same."""
        return self._batch.check_labels()

    def label_counts(self) -> NDArray[np.uint8]:
        """Return the number of labels of each record."""
        return self._batch.labels().counts()

    def labels_beside(self, record: Record, which: int) -> NDArray[np.uint8]:
        """Return ``record.label_ids`` (0) or ``record.label_bytes`` (1)."""
        return self._batch.labels().of(record.index)[:, which]

    def _pairs(self, record: Record) -> list[tuple[int, int]]:
        self._check_size()
        return [(int(i), int(code)) for i, code in self._batch.labels().of(record.index)]

    @cached_property
    def _spec(self) -> NDArray[np.float32] | None:
        return self._batch.spec_range()

    def spec_range_of(self, record: Record) -> tuple[float, float] | None:
        """Return ``record.spec_range``."""
        if self._spec is None:
            return None
        low, high = self._spec[record.index]
        return float(low), float(high)

    @cached_property
    def _table(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        self._check_size()
        columns, names = self.label_columns
        return self._batch.labels().table(columns, len(names))

    def known_column(self, id: int) -> tuple[NDArray[np.uint8], None] | None:
        """Return a label that all records have, as it is stored; None of others."""
        codes = self._batch.labels().column(id)
        return None if codes is None else (codes, None)

    def label_table(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return codes and presence of records."""
        codes, present = self._table
        if len(rows) == len(codes) > 0 and rows[0] == 0 and (np.diff(rows) == 1).all():
            return codes.copy(), present.copy()
        return codes[rows], present[rows]

    def complete(
        self, batch: Batch, rows: NDArray[np.int64], *, labels: bool, spec_range: bool
    ) -> None:
        """Put labels and spec ranges into a batch that has its images."""
        if labels:
            batch.labels, batch.present = self.label_table(rows)
            batch.names = self.label_columns[1]
        if spec_range and self._spec is not None:
            batch.spec_range = self._spec[rows]

    def close(self) -> None:
        """Release the files."""
        self.pixels.close()
        super().close()
