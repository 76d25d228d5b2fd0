from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

@disjoint_base
class File:
    def _attach(
        self,
        data: Any,
        nrecords: int,
        stride: int,
        first: tuple[int, int, int, int, int],
        entries: NDArray[np.void] | None,
        head_nbytes: int,
        interleaved: bool,
        find: int,
        /,
    ) -> None: ...
    def _detach(self) -> None: ...
    def record(self, row: int, /) -> Record: ...

@disjoint_base
class Rows:
    def _bind(
        self,
        file: File,
        n: int,
        start: int,
        step: int,
        numbers: NDArray[np.int64] | None,
        /,
    ) -> None: ...
    def __getitem__(self, key: Any, /) -> Any: ...

@final
class Record:
    @property
    def _file(self) -> Any: ...
    @property
    def index(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def nlabels(self) -> int: ...
    @property
    def image(self) -> NDArray[np.uint8]: ...
    @property
    def label_bytes(self) -> NDArray[np.uint8]: ...
    @property
    def label_ids(self) -> NDArray[np.uint8]: ...
    @property
    def labels(self) -> dict[str, int]: ...
    @property
    def values(self) -> dict[str, float]: ...
    def _repr_html_(self) -> str: ...
    @property
    def spec_range(self) -> tuple[float, float] | None: ...
    @property
    def decibels(self) -> NDArray[np.float32]: ...

def gather(
    function: int,
    map: tuple[Any, int],
    index: int,
    template: int,
    rows: NDArray[np.int64],
    images: NDArray[Any] | tuple[int, ...],
    h: int,
    w: int,
    offsets: NDArray[np.int64] | None,
    shapes: bool,
    spec: bool,
    threads: int,
    probe: int,
    /,
) -> tuple[Any, ...]: ...
def positions(key: Any, n: int, /) -> NDArray[np.int64] | None: ...
