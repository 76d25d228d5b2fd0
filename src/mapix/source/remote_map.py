"""Map a remote object, whose blocks are brought as they are read."""

from __future__ import annotations

from mapix import _native
from mapix.errors import UnsupportedError
from mapix.remote import Arrival, memory_nbytes, opened
from mapix.source.file_map import Mapping, Needs
from mapix.source.fingerprint import fingerprint_of_object
from mapix.source.reserved import reserved


class RemoteMapping(Mapping):
    """The memory of a remote object, into which its blocks are mapped as they arrive.

    A C call that reads a block that is not there returns MAPIX_E_CHANGED, as after a change of a
    file.  ``settle`` brings the block, and the call is repeated.  The object is compared with the
    one that was opened by each request for more bytes.
    """

    __slots__ = ("_fault", "remote")
    remote: Arrival

    def __init__(self, url: str) -> None:
        self._key = 0  # it has no descriptor
        found = opened(url)
        self.path, self.full_path = found.url, url
        self.advice, self.access = "open it again", ""
        self.nbytes, self.limited = found.nbytes, False
        memory, begin = reserved(max(1, memory_nbytes(self.nbytes)), self.path)
        self.memory = memoryview(memory)[begin : begin + self.nbytes]
        self._exported, self._buffer = _native.exported(memory, begin)
        self.remote = Arrival(found, self._exported, begin)
        self.fingerprint = fingerprint_of_object(found.tag, self.nbytes, found.modified_ns)
        self._sample = self._front = None
        self.cmap, self._fault = _native.new_sparse_map(self._buffer, self.nbytes)
        self._located = None

    @property
    def view(self) -> memoryview:
        """The bytes of the object, once all are there.

        Raises
        ------
        UnsupportedError
            They are not.
        """
        if not self.remote.complete:
            raise UnsupportedError(
                f"{self.path}: views of all records need all {self.nbytes} bytes of the object: "
                "call ds.warm() first, which downloads it, or use ds[i] and ds.batch(...)"
            )
        return self.memory

    def hold(self, at: int, nbytes: int) -> None:
        """Bring bytes, for arrays that alias them."""
        self.remote.ensure(at, nbytes, hold=True)

    def advise(self, access: str) -> None:
        """Do nothing: what is read ahead does not depend on it."""

    def willneed(self, at: int, nbytes: int) -> None:
        """Request bytes in the background."""
        self.remote.expect(at, nbytes)

    def settle(self, needs: Needs | None = None) -> None:
        """See ``Mapping.settle``."""
        address = int(self._fault[0])
        self._fault[0] = 0
        if address:  # another thread may have settled it
            self.remote.fault(address, needs)
