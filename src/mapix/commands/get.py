"""``mapix get``: one record."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_opening, opened
from mapix.commands.output import CommandError, UsageError, cell, emit, json_text, write_file

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="several are read as one")
    parser.add_argument("record", metavar="RECORD", help="its number (-1: the last), or its name")
    add_opening(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--hex", action="store_true", help="print its bytes, with their meaning")
    parser.add_argument(
        "-o",
        dest="out",
        metavar="FILE",
        help="write the pixels as .png or .npy, or the facts as .json, to a new file",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    import numpy as np

    from mapix.commands.records import found_record, listing, table_of
    from mapix.text import table

    with opened(arguments) as ds:
        i = found_record(ds, arguments.record)
        if arguments.hex:
            from mapix.byte_ranges import hex_dump

            ranges = ds.byte_ranges(i)
            if not ranges:
                raise CommandError(f"{ds.path}: {ds.FAMILY} does not state the bytes of a record")
            print(hex_dump(ranges))
            return
        target = arguments.out
        if target is not None and not target.endswith(".json"):
            _write(ds, i, target)
            return
        (facts,) = listing(ds, np.array([i]), list(ds.columns), pixels=True)
        if target is not None:
            write_file(target, (json_text(facts) + "\n").encode(errors="backslashreplace"))
            return
        shown = table_of([facts])
        rows = zip(shown.heads, *shown.rows, strict=True)
        text = table([[name, cell(value)] for name, value in rows if name != "record"])
        emit(arguments, facts, f"{ds.path}: record {facts['record']}", text)


def _write(ds: Any, i: int, target: str) -> None:
    """Write the pixels of a record: exactly as ``.npy``, and as a picture."""
    row = int(ds._rows_of([i])[0])
    if target.endswith(".npy"):
        import io

        import numpy as np

        content, out = _content(ds, row), io.BytesIO()
        np.save(out, content, allow_pickle=False)
        data = out.getvalue()
    elif target.endswith(".png"):
        content = _content(ds, row)
        data = _png(ds, row, content)
    else:
        raise UsageError(f"{target}: the name has to end in .png, .npy or .json")
    write_file(target, data)
    sides = " x ".join(map(str, content.shape))
    values = f", {content.min()} to {content.max()}" if content.dtype.kind in "iuf" else ""
    print(f"{target}: {sides} of {content.dtype.name}{values}")


def _content(ds: Any, row: int) -> Any:
    found = ds._content(row)
    if found is None or not found.size:
        why = ds._without_pixels() or "--json prints what it has"
        raise CommandError(f"{ds.path}: record {row} has no pixels; {why}")
    return found


def _png(ds: Any, row: int, content: Any) -> bytes:
    """Return a picture of a record: its own numbers where PNG holds them, else as it is drawn."""
    from mapix.drawing import png, thumbnail

    if content.dtype.kind not in "biuf" or not content.ndim:
        raise CommandError(
            f"{ds.path}: record {row} is not an image; -o FILE.npy or FILE.json hold it"
        )
    try:
        return png(content)
    except (TypeError, ValueError):
        return png(thumbnail(content, max(content.shape[:2])))
