"""mapix beside what else there is, and beside what plain C can do: one command, one table.

    python benchmarks/compare.py [--only A,B] [--rounds N] [--json FILE] [--quick] [--long]

See README.md here for what is measured how.  Ctrl-C prints what is there so far.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

QUICK_RECORDS = 20_000
ROUNDS, QUICK_ROUNDS = 15, 3
MEASURES = (
    "index",
    "open",
    "start",
    "get",
    "calls",
    "batch",
    "gather",
    "loader",
    "cold",
    "memory",
    "keep",
    "convert",
    "segments",
    "arrays",
    "pink",
    "folder",
    "photos",
)
MODULES = {"open": "opening"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(MEASURES), help="measures, with commas between")
    parser.add_argument("--rounds", type=int, help=f"rounds of each table (default {ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON, too")
    parser.add_argument(
        "--quick", action="store_true", help="small files, few rounds: to see that it runs"
    )
    parser.add_argument("--long", action="store_true", help="also a file of 4.5 GB, made first")
    args = parser.parse_args()
    args.only = args.only.split(",")
    unknown = [m for m in args.only if m not in MEASURES]
    if unknown:
        parser.error(f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    args.rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    return args


def main() -> int:
    """Run the measures that were asked for."""
    args = _arguments()
    if args.quick:
        os.environ.setdefault("MAPIX_BENCH_RECORDS", str(QUICK_RECORDS))
    # The user's own cache folder stays as it is; and one index a run is no leftover of another.
    cache = tempfile.mkdtemp(prefix="mapix-bench-")
    os.environ["MAPIX_CACHE_DIR"] = cache
    try:
        return _run(args, cache)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _run(args: argparse.Namespace, cache: str) -> int:
    import importlib

    from comparison import machine
    from comparison.report import Report
    from data_files import FOLDER

    FOLDER.mkdir(parents=True, exist_ok=True)
    facts = machine.facts(FOLDER)
    for name, fact in facts.items():
        print(f"{name + ':':10} {fact}", flush=True)
    report = Report(args.rounds, facts, lambda text: print(text, flush=True))
    status = 0
    try:
        for name in args.only:
            module = importlib.import_module(f"comparison.{MODULES.get(name, name)}")
            module.measure(report, args.long)
    except KeyboardInterrupt:
        print("\ninterrupted: the tables above are what was measured", file=sys.stderr)
        status = 130
    print("\n" + "\n".join(report.summary()))
    if failed := report.own_failures():
        print("mapix itself failed:", *failed, sep="\n  ", file=sys.stderr)
        status = status or 1
    if args.json:
        report.save(args.json)
    return status


if __name__ == "__main__":
    sys.exit(main())
