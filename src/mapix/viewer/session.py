"""One dataset that is shown: orders of its records, the selection, the server's life."""

from __future__ import annotations

import contextlib
import os
import threading
import webbrowser
from collections import OrderedDict
from collections.abc import Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mapix.viewer.server import Server

__all__ = ["View"]

MOST_ORDERS_NBYTES = 256 << 20
Rows = NDArray[np.int64]


class View:
    """A dataset that is shown in the browser.

    Parameters
    ----------
    ds : mapix.Dataset
        Or a part of one.
    reopen : callable, optional
        Opens the dataset again, after its file has changed.
    export_folder : str or os.PathLike, optional
        Where selections may be written.
    companions : sequence, optional
        Datasets and arrays that belong to it, for panels that show them together.

    Attributes
    ----------
    ds : mapix.Dataset
        The dataset.
    export_folder : str or None
        As given, from the root of the file system.
    companions : tuple
        As given.
    """

    def __init__(
        self,
        ds: Any,
        *,
        reopen: Callable[[], Any] | None = None,
        export_folder: str | os.PathLike[str] | None = None,
        companions: Sequence[Any] = (),
    ) -> None:
        self.ds = ds
        self.export_folder = None if export_folder is None else os.path.abspath(export_folder)
        self.companions = tuple(companions)
        self._reopen = reopen
        self._lock = threading.RLock()
        self._orders: OrderedDict[tuple[str, ...], Rows] = OrderedDict()
        self._mask: NDArray[np.bool_] | None = None
        self._cache: dict[Any, Any] = {}
        self._making: dict[Any, threading.RLock] = {}
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    # --- records ----------------------------------------------------------------------------------

    def order(self, condition: str = "", sort: str = "") -> Rows | None:
        """Return the records that fulfil a condition, in the order of a column.

        Parameters
        ----------
        condition : str
            As ``ds.where`` takes it; empty for all.
        sort : str
            A column, after ``-`` descending; empty for the order of the dataset.

        Returns
        -------
        ndarray or None
            Indices into the dataset, int64, not to be changed; None for all in their own order.
        """
        if not condition and not sort:
            return None
        return self._stored(("order", condition, sort), lambda: self._ordered(condition, sort))

    def _ordered(self, condition: str, sort: str) -> Rows:
        if condition and sort:
            kept = np.zeros(len(self.ds), np.bool_)
            kept[self.order(condition)] = True
            everything = self.order("", sort)
            assert everything is not None
            return everything[kept[everything]]
        if sort:
            column = self.ds._named(sort.removeprefix("-"))
            found: Rows = column.sort_keys(descending=sort.startswith("-"))
            return found
        return np.flatnonzero(self.ds._fulfils(condition))

    def _stored(self, key: tuple[str, ...], make: Callable[[], Rows]) -> Rows:
        """Return an order from the cache, which forgets those that were used least recently."""

        def made() -> Rows:
            found = make()
            found.flags.writeable = False
            return found

        orders = self._orders
        found: Rows = self._once(orders, key, made)
        with self._lock:
            if key in orders:
                orders.move_to_end(key)
            while len(orders) > 1 and sum(o.nbytes for o in orders.values()) > MOST_ORDERS_NBYTES:
                orders.popitem(last=False)
        return found

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what ``make`` made when the key was first asked for; dropped by ``reopen``.

        Keys and what they hold must be bounded by the dataset, not by requests.
        """
        return self._once(self._cache, key, make)

    def _once(self, store: MutableMapping[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
        """Return what a store has for a key; make it, while others wait for this key alone."""
        with self._lock:
            if key in store:
                return store[key]
            making = self._making.setdefault((id(store), key), threading.RLock())
        with making:
            with self._lock:
                if key in store:
                    return store[key]
            found = make()
            with self._lock:
                store[key] = found
                self._making.pop((id(store), key), None)
            return found

    @property
    def reopens(self) -> bool:
        """Whether ``reopen`` can open the file again."""
        return self._reopen is not None

    def reopen(self) -> None:
        """Open the file again after it has changed; the selection is lost.

        Raises
        ------
        ValueError
            The dataset was opened by the program that shows it.
        """
        if self._reopen is None:
            raise ValueError("open the dataset again where it was opened, in Python")
        fresh = self._reopen()
        with self._lock:
            old, self.ds = self.ds, fresh
            # what is being made of the old file goes into the old stores
            self._orders, self._cache = OrderedDict(), {}
            self._mask = None
        with contextlib.suppress(Exception):  # whatever is wrong with the old file
            old.close()

    # --- the selection ----------------------------------------------------------------------------

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Whether each record is selected, bool (n,)."""
        with self._lock:
            if self._mask is None:
                self._mask = np.zeros(len(self.ds), np.bool_)
            return self._mask

    @property
    def selected(self) -> Rows:
        """Indices of the selected records, ascending, int64."""
        if self._mask is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(self._mask)

    @property
    def selection(self) -> Any:
        """The selected records as a lazy part of the dataset, in its order."""
        return self.ds[self.selected]

    def select(self, records: Any, *, on: bool = True) -> None:
        """Add records to the selection, or take them away."""
        self.mask[np.asarray(records, np.int64)] = on

    # --- life -------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address of the page, with the token that it needs."""
        if self._server is None:
            raise ValueError("the viewer is closed")
        return self._server.url

    def start(self, port: int = 0) -> None:
        """Serve the page from a thread."""
        from mapix.viewer.server import Server

        self._server = Server(self, port)
        self._thread = threading.Thread(target=self._server.serve, name="mapix viewer", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until ``close``, or Ctrl-C."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)

    def open_browser(self) -> bool:
        """Open the page in the user's browser; return whether there is one."""
        return webbrowser.open(self.url)

    def close(self) -> None:
        """End the server.  The dataset stays open."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            if self._thread is not None:
                self._thread.join()
            server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "closed" if self._server is None else self._server.url
        return f"<mapix.viewer.View of {self.ds!r}: {where}>"
