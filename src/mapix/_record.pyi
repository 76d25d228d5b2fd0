import sys
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

@final
class Memory:
    def __new__(cls, fd: int, nbytes: int, shared: bool, /) -> Memory: ...
    @property
    def address(self) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

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
    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]: ...
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
def pack(
    heads: tuple[tuple[str, int, float, float, bool], ...],
    image: Any,
    labels: Any,
    codes: Any,
    spec_range: Any,
    head_nbytes: int,
    /,
) -> tuple[bytes, tuple[int, int, int]] | None: ...
def pack_flat(
    pixels: NDArray[np.uint8],
    shapes: NDArray[np.uint16],
    ids: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    present: NDArray[np.bool_],
    spec_range: NDArray[np.float32] | None,
    /,
) -> NDArray[np.uint8] | None: ...
def interleaved(
    pixels: NDArray[np.uint8], shapes: NDArray[np.uint16], /
) -> NDArray[np.uint8] | None: ...
def positions(key: Any, n: int, /) -> NDArray[np.int64] | None: ...

@disjoint_base
class Prepared:
    def _bind(
        self,
        batch: type,
        functions: tuple[int, int],
        keep: Any,
        addresses: tuple[int, int],
        source: Any,
        asking: tuple[int, int],
        dtype: np.dtype[Any],
        canvas_threads: tuple[int, int, int],
        shape: tuple[int, ...],
        flat_nbytes: int,
        spec_range: bool,
        record: NDArray[np.uint16] | None,
        names: tuple[str, ...],
        labels: tuple[Any, Any],
        unit: tuple[Any, Any],
        /,
    ) -> None: ...
    def made(self, rows: Any, out: Any, /) -> Any: ...
    def loaded(self, rows: Any, out: Any, /) -> Any: ...

@disjoint_base
class SegmentFile:
    def _attach(
        self,
        source: Any,
        cmap: Any,
        map_at: int,
        iid_at: int,
        functions: tuple[int, ...],
        /,
    ) -> None: ...
    def _use_heads(self, owner: Any, boxes: int, areas: int, /) -> None: ...
    def _use_names(self, owner: Any, seed: int, slots: int, nslots: int, chain: int, /) -> None: ...
    def _use_tree(self, owner: Any, parts: int, /) -> None: ...
    def head(self, row: int, /) -> tuple[tuple[int, int, int, int], int]: ...
    def name(self, row: int, /) -> tuple[bytes, bytes]: ...
    def own_mask(self, row: int, /) -> NDArray[np.bool_]: ...
    def find(self, domain: Any, iid: Any, /) -> NDArray[np.uint32]: ...
    def find_many(self, domain: Any, iids: Any, /) -> NDArray[np.int64]: ...
    def at(self, x: Any, y: Any, /) -> NDArray[np.uint32] | None: ...
    def region(self, window: Any, /) -> NDArray[np.uint32] | None: ...

@disjoint_base
class Segment:
    def __new__(cls, file: SegmentFile, row: int, key: int = ...) -> Segment: ...
    @property
    def _file(self) -> Any: ...
    @property
    def _row(self) -> int: ...
    @property
    def key(self) -> int: ...
    @property
    def domain(self) -> bytes: ...
    @property
    def iid(self) -> bytes: ...
    @property
    def bbox(self) -> tuple[int, int, int, int]: ...
    @property
    def area(self) -> int: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def mask(
        self,
        bbox: tuple[int, int, int, int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[np.bool_]: ...

@final
class SegmentBuffer:
    reserved: int
    def __new__(cls, indexed: bool, most: int, pack: int, nscratch: int) -> SegmentBuffer: ...
    def __len__(self) -> int: ...
    @property
    def names_nbytes(self) -> int: ...
    @property
    def segs_nbytes(self) -> int: ...
    @property
    def full(self) -> bool: ...
    def add(self, domain: Any, iid: Any, mask: Any, at: Any, listed: int, /) -> int | None: ...
    def put(
        self,
        domain: bytes,
        iid: bytes,
        box: tuple[int, int, int, int],
        area: int,
        regions: bytes,
        /,
    ) -> int: ...
    def take(self) -> tuple[bytes, bytes]: ...
    def tables(self) -> tuple[bytes, bytes, bytes]: ...
