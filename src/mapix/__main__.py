"""The command line: ``python -m mapix demo``, ``python -m mapix info PATH``."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapix import MapixError, MapixWarning, UnsupportedError, __version__

if TYPE_CHECKING:
    from mapix.iid import Archive
    from mapix.vimh import Dataset, Parameter

__all__ = ["describe", "main"]

FIRST = 5  # records whose place is told
INTERRUPTED = 130  # what shells give for Ctrl-C


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mapix",
        description="Open the image dataset you already have, without converting anything.",
    )
    parser.add_argument("--version", action="version", version=f"mapix {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="make two datasets, read them both ways, draw a contact sheet"
    )
    demo.add_argument(
        "--folder", default="mapix-demo", help="where the data goes (default: ./mapix-demo)"
    )
    demo.add_argument(
        "--mb", type=float, default=300, help="size of the data in MB, about (default: 300)"
    )
    demo.add_argument(
        "--sheet", help="where the contact sheet goes (default: contact-sheet.png in the folder)"
    )
    demo.set_defaults(run=_demo)

    index = commands.add_parser("index", help="index a file once; the index stays beside it")
    index.add_argument("path", metavar="PATH")
    index.add_argument("--split", help="of a directory: train (the default) or test")
    index.add_argument("--no-labels", action="store_true", help="without the table of labels")
    index.add_argument("--no-checksums", action="store_true", help="without a checksum a record")
    index.set_defaults(run=_index)

    verify = commands.add_parser(
        "verify", help="check all of a file or of a dataset; exit status 1 if it is bad"
    )
    verify.add_argument("path", metavar="PATH")
    verify.add_argument("--split", help="of a VIMH directory: train or test alone")
    verify.set_defaults(run=_verify)

    repair = commands.add_parser(
        "repair",
        help="save the complete records of a damaged VIMH file or directory",
        description="Write the complete records of a damaged binary VIMH file, or of all binary "
        "files of a VIMH directory, to a new one. Other formats are refused. Exit status: 0 when "
        "nothing was lost, 1 when something was, or after an error.",
    )
    repair.add_argument(
        "path", metavar="PATH", help="the damaged VIMH file or directory, which stays as it is"
    )
    repair.add_argument(
        "new", metavar="NEW", help="the new file or directory, which must not be there yet"
    )
    repair.add_argument("--dialect", type=int, choices=(6, 14), help="bytes of the record header")
    repair.set_defaults(run=_repair)

    from mapix.conversion import commands as conversion
    from mapix.folder import commands as folder
    from mapix.idx import commands as idx
    from mapix.pink import commands as pink
    from mapix.visualrbm import commands as visualrbm

    for tools in (folder, idx, pink, visualrbm, conversion):
        tools.add(commands)

    info = commands.add_parser("info", help="say what a file or a dataset directory is")
    info.add_argument("path", metavar="PATH")
    info.add_argument("--split", help="of a directory: train (the default) or test")
    info.set_defaults(run=_info)
    return parser


def _demo(arguments: argparse.Namespace) -> None:
    from mapix.demo import tour

    tour.run(arguments.folder, arguments.mb, arguments.sheet)


def _info(arguments: argparse.Namespace) -> None:
    import mapix

    with mapix.open(arguments.path, **_split(arguments)) as opened:
        print(describe(opened))


def _split(arguments: argparse.Namespace) -> dict[str, str]:
    return {} if arguments.split is None else {"split": arguments.split}


def _progress(done: int, total: int) -> None:
    """How far it is, on a terminal's one line."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{100 * done // max(total, 1):3d} %", end=end, file=sys.stderr, flush=True)


def _index(arguments: argparse.Namespace) -> None:
    import mapix

    place = mapix.index(
        arguments.path,
        labels=not arguments.no_labels,
        checksums=not arguments.no_checksums,
        progress=_progress,
        **_split(arguments),
    )
    print(place)


def _verify(arguments: argparse.Namespace) -> int:
    import mapix
    from mapix.registry import Candidate
    from mapix.vimh.opening import refusal

    path = arguments.path
    if os.path.isdir(path) and refusal(Candidate(path)) is None:
        reports = mapix.vimh.verify(path, arguments.split, _progress)
        print("\n".join(map(str, reports)))
        return 0 if all(report.ok for report in reports) else 1
    with mapix.open(path, **_split(arguments)) as opened:
        if not hasattr(opened, "verify"):
            raise UnsupportedError(
                f"{path}: {type(opened).__name__} has no check; verify its parts"
            )
        report = opened.verify(_progress)
    print(report)
    return 0 if report.ok else 1


def _repair(arguments: argparse.Namespace) -> int:
    from mapix.vimh import repair

    saved = repair(arguments.path, arguments.new, dialect=arguments.dialect, progress=_progress)
    print(saved)
    return 0 if saved.complete else 1


# --- what a dataset is, in words ----------------------------------------------------------------


def describe(ds: Any) -> str:
    """What an opened dataset is, as aligned text of several lines.

    Parameters
    ----------
    ds : mapix.vimh.Dataset
        Of anything else that ``mapix.open`` returns the text is its repr.

    Returns
    -------
    str
        Records, sizes, heads, fixed parameters, the info JSON's facts, where the first records lie.
    """
    from mapix.demo.text import table
    from mapix.folder import ImageFolder
    from mapix.iid import Archive
    from mapix.vimh import Dataset

    if isinstance(ds, Archive):
        return "\n".join([ds.path, table(_archive_facts(ds))])
    if isinstance(ds, ImageFolder):
        from mapix.folder.commands import facts, first_records

        rows = first_records(ds)
        more = ["", "  first records", table(rows, indent=4)] if rows else []
        return "\n".join([ds.path, table(facts(ds)), *more])
    if not isinstance(ds, Dataset):
        return repr(ds)
    parts = [ds.path, table(_facts(ds))]
    for title, rows, right in (
        ("heads", _heads(ds), (0, 2, 3, 4, 5)),
        ("fixed", _fixed(ds), (1,)),
        ("info JSON", _json_facts(ds), ()),
        ("first records", _first_records(ds), (0, 1, 2)),
    ):
        if rows:
            parts += ["", f"  {title}", table(rows, right=right, indent=4)]
    return "\n".join(parts)


def _archive_facts(a: Archive) -> list[list[str]]:
    h, w = a.shape
    areas = a.areas
    rows = [
        ["format", f"IID, version {a.version}"],
        ["segments", f"{len(a):,} in {h} x {w} pixels"],
        ["domains", f"{len(a.domains)}"],
        ["metadata", ", ".join(a.meta) or "none"],
    ]
    if len(a):
        rows.append(["areas", f"{areas.min():,}..{areas.max():,} pixels"])
        rows.append(["names", f"{len(a.duplicates())} that several segments have"])
    rows += [["group", f"{name}: {len(group):,}"] for name, group in a.groups.items()]
    return rows


def _facts(ds: Dataset) -> list[list[str]]:
    from mapix.demo.text import nbytes

    index = ds.index
    counts = "no" if not len(ds) else _span(ds.label_counts.min(), ds.label_counts.max())
    rows = [
        ["format", f"VIMH, {ds.header_nbytes}-byte headers" if ds.header_nbytes else "VIMH pickle"],
        ["file", f"{ds.source.nbytes:,} bytes ({nbytes(ds.source.nbytes)})"],
        ["records", f"{len(ds):,}, {'all alike' if index.uniform else 'of mixed sizes'}"],
        ["image", f"{_shapes(ds)}   height x width x channels, uint8"],
        ["labels", f"{counts} a record, {len(ds.heads)} heads"],
        ["index", "from the cache" if index.stored else "built now"],
    ]
    if ds.splits:
        rows.append(["splits", ", ".join(ds.splits)])
    if ds.unknown_ids:
        unknown = ", ".join(map(str, ds.unknown_ids))
        rows.append(["unknown", f"label ids that the info JSON does not name: {unknown}"])
    return rows if len(ds) else [row for row in rows if row[0] not in ("image", "labels")]


def _span(low: float, high: float) -> str:
    return f"{low}" if low == high else f"{low}..{high}"


def _shapes(ds: Dataset) -> str:
    if not len(ds):
        return "none"
    low, high = ds.shapes.min(axis=0), ds.shapes.max(axis=0)
    return " x ".join(_span(a, b) for a, b in zip(low, high, strict=True))


def _heads(ds: Dataset) -> list[list[str]]:
    def row(p: Parameter) -> list[str]:
        numbers = (f"{x:g}" for x in (p.min, p.max, p.step))
        return [str(p.id), p.name, f"{p.num_classes}", *numbers, p.description]

    rows = [row(p) for p in ds.parameters.values()]
    return [["id", "name", "classes", "from", "to", "step", ""], *rows] if rows else []


def _fixed(ds: Dataset) -> list[list[str]]:
    return [[p.name, f"{p.min:g}", p.description] for p in ds.parameters.fixed.values()]


def _json_facts(ds: Dataset) -> list[list[str]]:
    """What is plain in the info JSON: numbers, texts, and lists of them."""
    rows = []
    for key, value in ds.info.items():
        if isinstance(value, list) and not any(isinstance(x, dict | list) for x in value):
            value = ", ".join(map(str, value))
        if isinstance(value, str | int | float):
            rows.append([key, " ".join(str(value).split())[:100]])
    return rows


def _first_records(ds: Dataset) -> list[list[str]]:
    rows = []
    for i in range(min(FIRST, len(ds))):
        record = ds[i]
        values = ", ".join(f"{name} {value:.4g}" for name, value in record.values.items())
        shape = " x ".join(map(str, record.shape))
        rows.append([f"{record.index}", f"at byte {record.offset:,}", shape, values])
    return rows


# --- errors ---------------------------------------------------------------------------------------


def _say(what: str, message: object) -> None:
    """One line on stderr, however many the message has."""
    print(f"mapix: {what}: {' '.join(str(message).split())}", file=sys.stderr)


def _told(run: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> int:
    """Run a command; mapix's warnings come out as lines, not as tracebacks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MapixWarning)
        try:
            return run(arguments) or 0
        finally:
            for warning in caught:
                _say("warning", warning.message)


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0; 1 after an error, which is one line on stderr, or when ``verify`` found something; 130
        after Ctrl-C.

    Raises
    ------
    SystemExit
        From argparse: with 2 for arguments that it does not understand, with 0 after help.
    """
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths and JSON hold any character
    try:
        status = _told(arguments.run, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("mapix: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has had enough; what is left must not be flushed at exit either
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    except (MapixError, OSError, ValueError) as e:
        _say("error", e)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
