"""``mapix convert PATH ... TARGET``: write datasets in another format."""

from __future__ import annotations

import argparse
from typing import Any

from mapix import conversion, registry
from mapix.commands.arguments import (
    add_opening,
    add_paths_and_target,
    add_records,
    natural,
    opened,
    target_of,
)
from mapix.commands.output import UsageError, emit, progress

__all__ = ["add", "add_target", "facts", "write"]

SHARDS = ("shards", "records_per_shard", "shard_nbytes")
_VALUES = {"big": ">", "little": "<", "none": False}


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths_and_target(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    add_opening(parser)
    add_records(parser)
    add_target(parser)
    parser.set_defaults(run=_convert)


def _convert(a: argparse.Namespace) -> None:
    target = target_of(a, "convert")
    if len(a.paths) == 1 and a.where is a.range is a.sort is None and not (a.format or a.open):
        made = write(a, a.paths[0], target, a.split)
    else:
        with opened(a) as ds:
            made = write(a, ds, target, a.split)
    emit(a, facts(made), str(made))


def facts(made: Any) -> dict[str, Any]:
    """Return what a conversion wrote, as plain data."""
    names = ("path", "format", "records", "lost", *(("shards",) if made.shards else ()))
    return {name: getattr(made, name) for name in names}


def add_target(parser: Any) -> None:
    """Add the options of a new dataset."""
    classes = dict(conversion.target_classes())
    parser.add_argument("--to", choices=classes, help="by default by the ending of TARGET")
    parser.add_argument("--axes", choices=("HW", "HWC", "CHW"), help="dimensions of a row of IDX")
    parser.add_argument("--size", help="HEIGHTxWIDTH of the images of an image folder")
    parser.add_argument("--fit", help="how: resize, letterbox, cover, pad or crop")
    parser.add_argument("--mode", help="channels: L, LA, RGB or RGBA")
    parser.add_argument("--threads", type=natural, help="threads that read and decode")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="store what is decoded in .TARGET.parts, and go on with it after a stop",
    )
    parser.add_argument(
        "--lossy", action="store_true", help="go on when something is lost, and report it"
    )
    parser.add_argument(
        "--shards", type=natural, metavar="N", help="write N files, NAME-00000-of-0000N.EXT"
    )
    records, nbytes = "of at most N records each", "of about N bytes of decoded images each"
    parser.add_argument("--records-per-shard", type=natural, metavar="N", help=records)
    parser.add_argument("--shard-nbytes", type=natural, metavar="N", help=nbytes)
    options: dict[str, Any] = {}
    for where in classes.values():
        options |= registry.resolved(where).arguments
    for name, how in options.items():
        parser.add_argument(f"--{name}", **how)
    parser.set_defaults(options=tuple(options))


def _images(a: argparse.Namespace) -> dict[str, Any]:
    """Options of an image folder's ``batch``."""
    given = {name: getattr(a, name) for name in ("fit", "mode", "size")}
    if a.size is not None:
        height, _, width = a.size.partition("x")
        if not (height.isdigit() and width.isdigit()):
            raise UsageError(f"--size of HEIGHTxWIDTH expected, got {a.size!r}")
        given["size"] = (int(height), int(width))
    return {name: value for name, value in given.items() if value is not None}


def sharding(a: argparse.Namespace) -> dict[str, Any]:
    """Return the options of shards; raise UsageError where several are given."""
    given = {name: getattr(a, name) for name in SHARDS if getattr(a, name) is not None}
    if len(given) > 1:
        names = " or ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"give {names}, not both")
    return given


def write(a: argparse.Namespace, source: Any, target: str, split: str | None = None) -> Any:
    """Convert a path, a dataset, or several by the names of splits; return what was written."""
    given: dict[str, Any] = {}
    for name in a.options:
        value = getattr(a, name)
        if value is not None:
            given[name] = _VALUES.get(value, value)
    with progress(f"writing {target}") as show:
        return conversion.convert(
            source,
            target,
            to=a.to,
            split=split,
            lossy=a.lossy,
            axes=a.axes,
            images=_images(a),
            progress=show,
            map=a.threads,
            resume=a.resume,
            **sharding(a),
            **given,
        )
