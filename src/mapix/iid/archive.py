"""IID archives: segments by key, name, group and place; masks and paintings of many of them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mapix.iid.archive_base import SIDES
from mapix.iid.argument_checks import Box, Keys, KeysLike, Text, as_bytes
from mapix.iid.pixel_queries import PixelQueries
from mapix.iid.place_queries import PlaceQueries
from mapix.selection import Rows, chosen, spread

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.iid.names import Pair
    from mapix.iid.segment import Segment
    from mapix.iid.selection import Selection

__all__ = ["Archive"]

TEXT = (str, bytes)
MOST_OVERVIEW_PIXELS = 1 << 24  # that are painted, of the image and of all boxes
MOST_OVERVIEW_SEGMENTS = 20_000
OVERVIEW_SIDE = 480  # pixels


class Archive(PixelQueries, PlaceQueries):
    """An IID archive, made by ``mapix.open``: a ``SingleArchive`` or a ``ShardedArchive``.

    ``archive[key]`` is a Segment; slices, keys, masks and conditions give a Selection.  Nothing but
    the header is read before it is needed.

    Copies: none where the docstring says view.  Lifetime: views outlive ``close()``.
    Threads: any number.  Pickles as paths and fingerprints.

    Attributes
    ----------
    groups : Groups
        Name -> Group of keys.
    """

    JOINED = "mapix.iid.sharded_archive:join"

    @property
    def domains(self) -> list[bytes]:
        """All domains, sorted; empty text for segments without one."""
        return self._names.domains

    @abc.abstractmethod
    def name(self, key: int) -> Pair:
        """Return (domain, iid) of a key."""

    def names(self, keys: KeysLike | None = None) -> list[Pair]:
        """Return (domain, iid) of keys; of all by default."""
        return self._names.each(self._some(keys))

    def duplicates(self) -> list[Keys]:
        """Return the keys that share a name: one array per name of several segments."""
        return self._names.duplicates()

    def _rows_named(self, name: Sequence[str]) -> NDArray[np.int64]:
        return self._names.all_of(*name).astype(np.int64)

    def _name_hashes(self) -> NDArray[np.uint64]:
        """Return a hash of (domain, iid) of each segment, uint64 (n,), in the order of keys.

        Equal names have equal hashes in every file, on every machine and in every version, so that
        they can be stored.  ``mapix.iid.names.name_hashes(domain, iids)`` gives those of other
        names.  Different names may share a hash: compare the name of what was found.

        Cost: about 30 ns per segment in memory.  Nothing is cached.
        """
        return self._names.hashes()

    def find(
        self,
        domain: Text | None = None,
        iid: Text | Sequence[Text] | None = None,
    ) -> Any:
        """Return keys by name.

        Parameters
        ----------
        domain : str or bytes, optional
            Text is encoded as UTF-8; empty for segments without a domain.
        iid : str or bytes, or a sequence of them, optional
            The name within the domain.

        Returns
        -------
        ndarray
            uint32, ascending: all keys of that name; with one argument, all keys of that domain, or
            of that iid in any domain.  For a sequence: int64, the lowest key of each, or -1.
        """
        if domain is not None and (type(iid) is bytes or type(iid) is str):
            return self._names.all_of(domain, iid)  # what is called often, first
        if iid is not None and not isinstance(iid, TEXT):
            if domain is None:
                raise TypeError("find of many names needs their domain")
            return self._names.first_in(as_bytes(domain), iid)
        if iid is None:
            if domain is None:
                raise TypeError("find needs a domain or an iid")
            return self._names.in_domains([as_bytes(domain)])
        if domain is None:
            return self._names.with_iid(as_bytes(iid))
        return self._names.all_of(domain, iid)

    def in_groups(self, text: str) -> Keys:
        """Return the keys in a combination of groups, uint32, ascending.

        Parameters
        ----------
        text : str
            Such as ``"cells and not (dead or 'out of focus')"``: names of groups, those that are
            not identifiers in quotation marks, with ``and``, ``or``, ``not`` and brackets.

        Raises
        ------
        ValueError
            The text is not understood.
        KeyError
            There is no such group.
        """
        from mapix.iid.group_expression import keys_in

        return keys_in(text, self.groups, len(self))

    def select(
        self,
        groups: str | Sequence[str] | None = None,
        domains: Text | Sequence[Text] | None = None,
        area: tuple[float | None, float | None] | None = None,
        bbox: Box | None = None,
        keys: KeysLike | None = None,
    ) -> Selection:
        """Return the segments for which all of the given conditions hold, lazily.

        Parameters
        ----------
        groups : str or sequence of str, optional
            In any of these groups.
        domains : str or bytes, or a sequence of them, optional
            In any of these domains.
        area : (low, high), optional
            Pixels, both ends included; None leaves an end open.
        bbox : (minr, minc, maxr, maxc), optional
            With at least one pixel in this window, exactly.
        keys : array_like, optional
            Among these.
        """
        from mapix.iid.selection import Selection

        return Selection(self, groups=groups, domains=domains, area=area, bbox=bbox, keys=keys)

    def table(self, keys: KeysLike | None = None) -> dict[str, Any]:
        """Return columns key, domain, iid, groups, minr, minc, maxr, maxc, area.

        ``pandas.DataFrame(a.table())`` and ``pyarrow.table(a.table())`` accept the result.
        """
        some = self._some(keys)
        names = self.names(some)
        boxes = self.bboxes.take(some, axis=0)
        return {
            "key": some,
            "domain": [d for d, _ in names],
            "iid": [i for _, i in names],
            "groups": self._groups_of(some),
            **{side: boxes[:, k] for k, side in enumerate(SIDES)},
            "area": self.areas.take(some),
        }

    def overlay(
        self,
        image: ArrayLike | None = None,
        keys: KeysLike | None = None,
        *,
        bbox: Box | None = None,
        opacity: float = 0.45,
        outlines: bool = True,
    ) -> Any:
        """Draw segments over an image, smaller ones over larger ones, each in its own colour.

        Parameters
        ----------
        image : array_like, optional
            The image that was segmented, (h, w) or (h, w, c), of any type: as
            ``mapix.drawing.thumbnail`` draws it.  By default segments are drawn on dark grey, as
            far as the archive states its image.
        keys : array_like, optional
            The segments; all by default.
        bbox : (minr, minc, maxr, maxc), optional
            The part of the image to draw; by default all of it.
        opacity : float
            Of the segments over an image, 0..1.
        outlines : bool
            Whether the edges of segments are dark.

        Returns
        -------
        PIL.Image.Image
            RGB.  Needs Pillow: ``pip install 'mapix[images]'``; ``mapix.iid.overlay.overlay``
            returns an array, uint8 (h, w, 3), without it.

        Raises
        ------
        ValueError
            The image does not cover the box.
        """
        from mapix.iid.overlay import overlay
        from mapix.optional import library

        pillow = library("PIL.Image", "images")
        options: Any = {"bbox": bbox, "opacity": opacity, "outlines": outlines}
        return pillow.fromarray(overlay(self, image, keys, **options))

    def _overview(self) -> tuple[NDArray[np.uint8], str] | None:
        from mapix.drawing import thumbnail
        from mapix.iid.overlay import overlay

        h, w = self.shape
        if not 0 < h * w <= MOST_OVERVIEW_PIXELS:
            return None
        keys = spread(self._n, MOST_OVERVIEW_SEGMENTS)
        boxes = self.bboxes[keys].astype(np.int64)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        keys = keys[np.cumsum(areas) <= MOST_OVERVIEW_PIXELS]
        some = "all" if len(keys) == self._n else f"{len(keys):,} of"
        caption = f"{some} {self._n:,} segments in their image of {h} x {w}"
        return thumbnail(overlay(self, keys=keys), OVERVIEW_SIDE), caption

    # --- the contract -----------------------------------------------------------------------------

    @overload  # type: ignore[override]  # a part has indices, not keys: it is not an archive
    def __getitem__(self, key: int, /) -> Segment: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike, /) -> Selection: ...
    def __getitem__(self, key: Any, /) -> Any:
        """Return a segment by its key; or a selection, by a slice, keys, or a mask."""
        if type(key) is int and 0 <= key < self._n:
            return self._record(key)
        found = chosen(key, None, self._n, self.path, self.RECORDS)
        return self._record(found) if isinstance(found, int) else self._part(found)

    def _part(self, rows: Rows) -> Selection:  # type: ignore[override]
        from mapix.iid.selection import Selection

        return Selection(self, rows=rows)

    if TYPE_CHECKING:  # the contract's parts have its own type; those of an archive are selections

        def where(self, condition: Any) -> Selection: ...  # type: ignore[override]  # noqa: D102
        def sort_by(self, name: str, *, descending: bool = False) -> Selection: ...  # type: ignore[override]  # noqa: D102
        def draw(self, n: int, *, weights: Any = None, seed: int | None = None) -> Selection: ...  # type: ignore[override]  # noqa: D102
        def split(self, share: float = 0.8, **options: Any) -> tuple[Selection, Selection]: ...  # type: ignore[override]  # noqa: D102
        def shard(self, rank: int, world: int, *, equal: Any = None) -> Selection: ...  # type: ignore[override]  # noqa: D102

    def _facts(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "image": list(self.shape),
            "nbytes": self.nbytes,
            "domains": len(self.domains),
            "metadata": list(self.meta),
            "area": self._areas_range(),
            "shared_names": len(self.duplicates()),
            "groups": {name: len(group) for name, group in self.groups.items()},
        }
