"""See a dataset in the browser: ``mapix view PATH``, ``mapix.view(ds)``.

A server of the standard library gives one page of plain ES modules to a browser on this machine.
Nothing is built, downloaded or written.  Everything goes through the contract of
``mapix.Dataset``, so every family has the same grid, facets and table.

Who owns what
-------------
``server``    HTTP: the checks of token, Host and Origin, the policy, limits.  Knows no route.
``routes``    ``Request``, ``Reply``, ``RefusedError``; the tables of routes, made from ``PANELS``.
``session``   ``View``: the dataset, orders of its records (cached), the selection.
``query``     conditions as text, taken apart for the facets.
``tiles``, ``facets``, ``table``, ``api``   routes of the grid, facets, table, and of the rest.
``inspector``, ``named_bytes``, ``problems``   routes of an open record, and of ``verify``.
``companions``   files that belong to a dataset: ``view.companions``.
``static/main.js``    makes the page; ``state.js`` the URL; ``source.js`` all requests;
``scroller.js`` a virtual list on a canvas; ``grid.js``, ``table.js``, ``facets.js``,
``toolbar.js`` what their names say; ``colour.js`` colour maps; ``app.css`` all styles.

How to add a panel
------------------
1.  ``viewer/NAME.py`` with ``ROUTES: Mapping[str, Route]`` (GET) and, if it needs them, ``POSTS``.
    A route is called as ``route(view, request)`` and returns a ``Reply``: ``Reply.json(data)``, or
    ``Reply(bytes, "application/octet-stream")``.  Its URL is ``/api/KEY``.  Parameters come by
    ``request.integer("n", 0, most=100)``, ``.number``, ``.text``, ``.choice``, ``.window``; a bad
    one is a ``RefusedError``.  Errors of mapix, ValueError, KeyError and IndexError become an
    answer by themselves.  No route opens a path that the client names.  Pixels are read by
    ``_image`` or ``batch``, which copy under the guard: a view of the map must not be read.
2.  A row in ``panels.PANELS``: name, title, place, module, and when it applies to a dataset.
    ``place`` is ``"main"`` (a tab in place of the grid) or ``"side"`` (beside an open record).
3.  ``static/NAME.js`` with ``export function create(app)``.  It returns ``{element, update(state),
    keys(event)?, close()?}``: ``element`` is put into the page when the panel is shown first,
    ``update`` is called after each change of the state while it is shown.  ``keys`` gets keys that
    nothing else handled; it returns true if it handled one.
    ``app`` has ``facts`` (the answer of ``/api/dataset``), ``state``, ``set(changes)``,
    ``source`` (``source.json(route, parameters)``, ``source.bytes(...)``, ``source.post(...)``),
    ``notice(text)``.

A panel that only one family has lies in the family's package, so that the viewer knows no format:
``PANEL = Panel("som", "Map", "main", "mapix.pink.viewing", applies)`` in ``pink/viewing.py``, with
``ROUTES`` beside it; the script ``pink/som.js``; and ``PANELS = ("mapix.pink.viewing:PANEL",)`` in
the class of the datasets.  Packages of others do the same.  The script imports ``./dom.js`` and the
other modules of ``static``: ``stage.js`` is a canvas with zoom, pan, cursor and regions,
``levels.js`` numbers and their colours, ``panels.css`` classes for tools, cards and tiles.

State
-----
The hash of the URL holds all of it (``#q=note>51&sort=-note&open=7``), so a link is a view.
Defaults are left out.  ``q`` condition, ``sort`` column (``-`` before it: descending), ``size``
of tiles in pixels, ``map`` of colours, ``range`` (``auto``, ``tile``, or ``LOW,HIGH``), ``channel``
(``auto``, or a number), ``at`` position of the first line shown, ``open`` record, ``main`` and
``side`` the panels shown.  Other panels' keys begin with their name, as in ``archive.opacity``;
``app.set({key: null})`` removes one.  A *record* is an index into the dataset that is shown; a
*position* is an index into its records as filtered and sorted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from mapix.viewer.session import View

__all__ = ["view"]


def view(
    ds: Any,
    *,
    port: int = 0,
    browser: bool = True,
    export_folder: str | os.PathLike[str] | None = None,
    companions: Sequence[Any] = (),
) -> View:
    """Show a dataset in the browser; return at once.

    Parameters
    ----------
    ds : mapix.Dataset
        Or a part of one.  It stays open while it is shown.
    port : int
        Of 127.0.0.1; 0 chooses a free one.
    browser : bool
        Open a browser.  Without it, open ``view.url`` yourself.
    export_folder : str or os.PathLike, optional
        Where the page may write selections.  By default it writes nothing.
    companions : sequence, optional
        What belongs to the dataset: paths, open datasets, or arrays.  Of an archive of segments the
        image under them; of a SOM the mapping, the data and the rotations.

    Returns
    -------
    mapix.viewer.session.View
        Its ``selection`` is the lazy part that was selected in the page; ``close()`` ends it.

    Raises
    ------
    OSError
        The port is taken.
    """
    from mapix.viewer.companions import opened
    from mapix.viewer.session import View

    shown = View(ds, export_folder=export_folder, companions=[opened(c) for c in companions])
    shown.start(port)
    if browser:
        shown.open_browser()
    return shown
