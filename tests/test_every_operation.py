"""Every public operation x (file, stored index, cache cut or overwritten) x (first, second use).

The rows are in every_operation.py.  A public name without a row fails here.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import every_operation
import mapix

FAMILIES = (
    *("vimh", "vimh mixed", "vimh indexed", "vimh pickle", "joined", "catalogue"),
    *("iid", "iid plain", "iid joined", "idx", "idx words", "idx gz"),
    *("npy", "npz", "safetensors"),
    *("pink data", "pink som", "pink map", "pink rot", "folder", "tar", "tfrecord", "model"),
    *("coco", "coco annotations"),
)

QUICK = {"vimh mixed", "iid", "idx", "pink data", "npy"}
"""Run by every test run; the others take seconds."""

# Of what packages list as theirs: no row, as it ...
WRITES = """
    Appender ShardedWriter Writer add_label_map append from_audio synth write write_data
    write_map write_rot write_som
"""
OPENS_A_PATH = "convert from_coco index lint open open_path read_labels read_png repair verify"
HAS_NO_FILE = """
    Augment AutoEncoder Batch ClosedError CocoBatch FileChangedError FormatError LabelMap
    Lattice Layer LimitError LockedError LossError OptionError MapixError MapixWarning Masks Model
    MultilayerPerceptron Objects Overlaps Parameter Parameters Region RestrictedBoltzmannMachine
    Schedule SizeError Stage TruncatedError UnknownFormatError UnsupportedError decay_time
    decibels model_config read_png records soft_targets spectrogram_bytes stack transformed
"""
ASKS_A_DATASET = "Loader Run"  # for batches; for columns, batches and rotations
READS_A_SOURCE = "Lines"  # as ImageFolder does, which is tried
NEEDS_PYARROW = "ArrowTable SavedTables TableRecord"  # test_arrow.py damages files
STARTS_A_SERVER = "view"  # test_viewer.py changes the file meanwhile
OTHERS = {*f"{WRITES} {OPENS_A_PATH} {HAS_NO_FILE} {ASKS_A_DATASET} {READS_A_SOURCE}".split()}
OTHERS |= {STARTS_A_SERVER, *NEEDS_PYARROW.split()}
FORMATS = (
    *("arrow", "coco", "folder", "idx", "iid", "npy"),
    *("pink", "safetensors", "tar", "tfrecord", "vimh", "visualrbm"),
)
NAMES = {"__version__", "catalogue", "coco", "Dataset", *FORMATS}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cut_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    if name == "folder" or name.startswith("pink"):
        pytest.importorskip("PIL")
    if name not in QUICK and not every_operation.ALL:
        pytest.skip("takes seconds, and another family is much the same: set MAPIX_ALL_TESTS=1")
    program = every_operation.__file__
    done = subprocess.run(
        [sys.executable, program, name, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *wrong, (_, n) = [json.loads(line) for line in done.stdout.splitlines()]
    assert not wrong, "\n".join(": ".join(w) for w in wrong[:20])
    nfiles = 2 if name in ("vimh indexed", "idx gz") else 1
    noperations = len(list(every_operation.families()[name].operations()))
    combinations = 2 * len(every_operation.HOW)
    assert int(n) == nfiles * noperations * combinations // (1 if every_operation.ALL else 3)


def test_every_family_is_tried():
    assert sorted(FAMILIES) == sorted(every_operation.families())


def test_every_public_name_has_a_row():
    for name, family in every_operation.families().items():
        for kind, ops in family.ops.items():
            missing = every_operation.public(kind) - set(ops)
            assert not missing, f"{name}, {kind}: a row for {sorted(missing)} in every_operation.py"
            gone = {op for op in ops if not hasattr(kind, op)} - {"keys_in"}
            assert not gone, f"{name}, {kind}: rows for {sorted(gone)}, which is not there"


def test_everything_that_packages_list_is_tried():
    tried: set[str] = set()
    for family in every_operation.families().values():
        tried |= {kind.__name__ for kind in family.ops} | set(family.more)
    for package in (mapix, *(importlib.import_module(f"mapix.{name}") for name in FORMATS)):
        listed = set(package.__all__) - NAMES
        missing = listed - tried - OTHERS
        assert not missing, f"{package.__name__}: a row for {sorted(missing)}, or why it needs none"
