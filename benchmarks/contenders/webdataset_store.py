"""WebDataset: records in a tar file, read front to back; it has no random access."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contenders.base import Contender, Pair, records, views

SUBSET = 20_000  # enough for a rate; a tar of all records takes minutes to write


class WebDataset(Contender):
    """A sample is one file of the tar, a record of the VIMH file."""

    NAME = "WebDataset"
    MODULES = ("webdataset",)
    SUFFIX = f"-{SUBSET}.tar"

    @classmethod
    def write(cls, source: Path, store: Path) -> None:
        with tarfile.open(store, "w") as tar:
            for i, (record, *_) in enumerate(itertools.islice(records(source), SUBSET)):
                member = tarfile.TarInfo(f"{i:08d}.vimh")
                member.size = len(record)
                tar.addfile(member, io.BytesIO(record))

    def __init__(self, source: Path) -> None:
        import webdataset

        super().__init__(source)
        # empty_check: without it an empty pipeline would pass as a fast one
        self.samples: Any = webdataset.WebDataset(str(self.path), shardshuffle=False)

    def __iter__(self) -> Iterator[Pair]:
        for sample in self.samples:
            yield views(sample["vimh"])
