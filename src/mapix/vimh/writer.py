"""Writing a VIMH dataset: binary files and the info JSON, complete or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.registry import open_dataset
from mapix.store import SYSTEM, Calls, Closing, NewDirectory, NewFile, one_at_a_time
from mapix.vimh import layout
from mapix.vimh.files import PICKLE_SUFFIX, SPLIT_NAME, SPLITS, TOTALS
from mapix.vimh.info_json import INFO_NAME
from mapix.vimh.packing import Packer, Shape, finite
from mapix.vimh.parameters import Parameter

__all__ = ["Writer", "spectrogram_bytes", "write"]

TRAIN_SHARE = 0.8  # as the original: the first int(0.8 n) records are for training


class Writer(Packer, Closing):
    """A new VIMH dataset, written record by record or in arrays, in bounded memory.

    The directory appears when the writer is closed, or leaves its ``with`` block without an
    exception: with all splits, synced to disk.  Otherwise nothing appears.

    Parameters
    ----------
    path : str or os.PathLike
        The dataset directory, which must not exist yet.
    parameters : sequence of Parameter, optional
        Parameters that records have, in the order of their ids: 0, 1, 2 ...
    fixed : mapping of str to float, optional
        Parameters with one value for all records: they are in the info JSON only.
    dialect : {14, 6}
        Bytes of the record header: 14 as all known programs write and read it; 6 as the format's
        document describes it, without spec_range.
    output : {"binary", "pickle", "both"}
        Files of the dataset.  Pickles need images of one size and the 14-byte header; they
        are made from the binary files on closing, which needs disk space for both meanwhile.
    index : bool
        Whether each binary file gets an index beside it, with labels and a checksum per record
        (``mapix.index``).
    info : mapping, optional
        More keys of the info JSON (``dataset_name``, ``sample_rate``, ``spectrogram_config`` ...).
        Keys that the original writes keep its order, others follow.  Counts and shapes are those of
        the records.
    splits : sequence of str
        Names of the files, at least one.  Other programs know train and test alone.
    strict : bool
        Whether a value outside its parameter's range, and a label that is not given, are errors.
        Otherwise the value is clipped, the label left out, with a warning.
    calls : mapix.store.Calls
        The operating system; for tests.

    Raises
    ------
    FileExistsError
        There is something at ``path``.
    LockedError
        Another writer is at work on it.

    Examples
    --------
    >>> note = mapix.vimh.Parameter("note_number", 0, min=50, max=52, step=0.1)  # doctest: +SKIP
    >>> with mapix.vimh.Writer("spectrograms", [note]) as out:                   # doctest: +SKIP
    ...     out.append(image, {"note_number": 51.5}, spec_range=(-80.0, 0.0))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        parameters: Sequence[Parameter] = (),
        *,
        fixed: Mapping[str, float] | None = None,
        dialect: Literal[14, 6] = 14,
        output: Literal["binary", "pickle", "both"] = "binary",
        index: bool = False,
        info: Mapping[str, Any] | None = None,
        splits: Sequence[str] = SPLITS,
        strict: bool = False,
        calls: Calls = SYSTEM,
    ) -> None:
        if output not in ("binary", "pickle", "both"):
            raise ValueError(f"output must be binary, pickle or both, got {output!r}")
        if output != "binary" and dialect != 14:
            raise ValueError("pickles carry spec ranges, which dialect=6 does not have")
        if dialect not in layout.DIALECTS:
            raise ValueError(f"dialect must be 14 or 6, got {dialect!r}")
        names = [p.name for p in parameters]
        if [p.id for p in parameters] != list(range(len(parameters))) or len(names) > 256:
            raise ValueError("parameters must have the ids 0, 1, 2 ..., at most 256 of them")
        if len(set(names)) != len(names) or set(names) & set(fixed or {}):
            raise ValueError("parameters must have different names")
        super().__init__(parameters, dialect, strict=strict)
        self.fixed = dict(fixed or {})
        self.output = output
        self.index = index and output != "pickle"
        self.info = dict(info or {})
        self.splits = checked_names(splits)
        self.counts: dict[str, int] = dict.fromkeys(self.splits, 0)
        self._shape: Shape | None = None  # of the first record
        self._mixed = False
        self._files: dict[str, NewFile] = {}
        self._directory = NewDirectory(path, calls)
        try:
            for split in self.splits:
                self._files[split] = self._directory.file(split)
        except BaseException:
            self._directory.abort()
            raise

    def _put(
        self, block: bytes | memoryview, shapes: Sequence[Shape], n: int, split: str | None
    ) -> None:
        split = split or self.splits[0]
        if split not in self.counts:
            raise ValueError(f"split must be {' or '.join(self.splits)}, got {split!r}")
        with self._turn:
            first = self._shape = self._shape or shapes[0]
            for shape in shapes:
                if shape != first:
                    if self.output != "binary":
                        raise ValueError(f"pickles need images of one size: {first}, now {shape}")
                    self._mixed = True
            self._files[split].write(block)
            self.counts[split] += n

    @one_at_a_time
    def close(self) -> None:
        """Write the info JSON, sync everything, and let the dataset appear.

        Raises
        ------
        OSError
            A write failed; nothing has appeared, and nothing remains.
        """
        import json  # here: programs that only read do not need it

        try:
            if self.output != "binary":
                self._pickle()
            text = json.dumps(self._info(), indent=4)
            self._directory.file(INFO_NAME).write(text.encode())
        except BaseException:
            self._directory.abort()
            raise
        self._directory.commit()
        for split in self.splits if self.index else ():
            path = os.path.join(self._directory.path, split)
            with open_dataset(path, format="vimh", dialect=self.dialect) as written:
                written.keep_index()

    def _pickle(self) -> None:
        """Make the pickles of the splits; drop the binary files where only pickles are wanted."""
        from mapix.vimh.pickle_writer import write_batch

        for split, file in self._files.items():
            file.finish()
            batch = self._directory.file(f"{split}_batch")
            write_batch(file.path, batch.write, self._shape or (0, 0, 0))
            if self.output == "pickle":
                self._directory.drop(file)

    @one_at_a_time
    def abort(self) -> None:
        """Remove what was written."""
        self._directory.abort()

    def _info(self) -> dict[str, Any]:
        """Return the info JSON, its keys in the order in which the original writes them."""
        h, w, c = self._shape or (0, 0, 0)
        counts = self.counts
        total = sum(counts.values())
        varying = {p.name: _mapping(p) for p in self.parameters.values()}
        constant = {
            name: _mapping(Parameter(name, None, min=value, max=value, step=0.0))
            for name, value in self.fixed.items()
        }
        fixed = {name: {"value": value, "description": ""} for name, value in self.fixed.items()}
        made: dict[str, Any] = {
            "height": h,
            "width": w,
            "channels": c,
            "varying_parameters": len(varying),
            "parameter_names": list(varying),
            **{f"{split}_samples": n for split, n in counts.items()},
            "total_samples": total,
            "n_samples": total,
            "image_size": f"{h}x{w}x{c}",
        }
        usual: dict[str, Any] = {
            "format": "VIMH",
            "version": "2.1",
            "dataset_name": os.path.basename(self._directory.path),
            "output_format": self.output,
            "channel_labels": channel_labels(c),
            "parameter_mappings": varying | constant,
            "fixed_parameters": fixed,
            "label_encoding": _label_encoding(self.dialect),
        }
        if self._mixed:  # the original knows one size only, and refuses such files
            made["image_sizes"] = "mixed"
        values = {**usual, **self.info, **made}
        known = self.info.get("parameter_mappings", {})
        missing = {k: v for k, v in usual["parameter_mappings"].items() if k not in known}
        values["parameter_mappings"] = {**known, **missing}
        return {k: values[k] for k in (*_ORDER, *values) if k in values}


_ORDER = (
    *("format", "version", "dataset_name", "output_format", "height", "width", "channels"),
    *("channel_labels", "varying_parameters", "parameter_names", "train_samples", "test_samples"),
    *("total_samples", "n_samples", "sample_rate", "duration", "synth_type", "image_size"),
    *("parameter_mappings", "fixed_parameters", "pre_emphasis_coefficient"),
    *("spectrogram_config", "mel_config", "label_encoding"),
)


def checked_names(splits: Iterable[str]) -> tuple[str, ...]:
    """Return names of splits, which must be different, and names of files and of keys."""
    names = tuple(splits)
    for name in names:
        if (
            not re.fullmatch(SPLIT_NAME, name, re.ASCII)
            or name.endswith(PICKLE_SUFFIX)
            or name in TOTALS
        ):
            raise ValueError(f"{name!r} cannot be the name of a split: letters, digits and _")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"splits must be different names, got {names}")
    return names


def _mapping(p: Parameter) -> dict[str, Any]:
    return {"min": p.min, "step": p.step, "max": p.max, "description": p.description}


def channel_labels(c: int) -> list[str]:
    """Return names of channels that only depend on their number."""
    known = {1: ["Gray"], 3: ["R", "G", "B"], 4: ["R", "G", "B", "A"]}
    return known.get(c, [f"Ch{k}" for k in range(c)])


def _label_encoding(dialect: int) -> dict[str, Any]:
    fields = ["[height] [width] [channels]", "[spec_min] [spec_max]", "[N]"]
    if dialect == 6:
        fields.remove("[spec_min] [spec_max]")
    fields.append("[param1_id] [param1_val] [param2_id] [param2_val] ...")
    encoding: dict[str, Any] = {"format": " ".join(fields), "metadata_bytes": dialect}
    if dialect == 14:
        encoding["scale_factors"] = {
            "spec_min": "float32 - minimum dB value before normalization",
            "spec_max": "float32 - maximum dB value before normalization",
        }
    for name in ("N_range", "param_id_range", "param_val_range"):
        encoding[name] = [0, 255]
    return encoding


def spectrogram_bytes(db: ArrayLike) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Turn a spectrogram in dB into bytes, and (spec_min, spec_max), the dB of bytes 0 and 255.

    ``round((db - min) / (max - min) * 255)``, as the original; all zero where max is not above min.

    Parameters
    ----------
    db : array_like
        Finite numbers of any shape.

    Returns
    -------
    bytes : ndarray
        uint8, of the same shape.
    spec_range : (float, float)
        For ``Writer.append``; ``spec_min + byte / 255 * (spec_max - spec_min)`` gives the dB back.
    """
    x = finite(db, "db")
    low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
    if not high > low:
        return np.zeros(x.shape, np.uint8), (low, high)
    scaled = np.rint((x - low) / (high - low) * 255)
    return np.clip(scaled, 0, 255).astype(np.uint8), (low, high)


def write(
    path: str | os.PathLike[str],
    images: Sequence[ArrayLike] | NDArray[np.uint8],
    labels: Iterable[Mapping[str, float]] | None = None,
    *,
    parameters: Sequence[Parameter] = (),
    train: int | None = None,
    **options: Any,
) -> None:
    """Write a dataset in one call: the first ``train`` records for training, the others for tests.

    Parameters
    ----------
    path : str or os.PathLike
        The dataset directory, which must not exist yet.
    images : sequence of array_like
        uint8 (h, w, c) or (h, w) each, of any sizes.
    labels : iterable of mappings, optional
        Physical values of each record.
    parameters : sequence of Parameter
        See ``Writer``.
    train : int, optional
        How many; by default the original's ``int(0.8 * n)``.
    **options
        For ``Writer``.
    """
    n = len(images)
    train = int(TRAIN_SHARE * n) if train is None else train
    every = [{}] * n if labels is None else list(labels)
    if len(every) != n:
        raise ValueError(f"{n} images, {len(every)} labels")
    with Writer(path, parameters, **options) as out:
        for i, (image, values) in enumerate(zip(images, every, strict=True)):
            out.append(image, values, split="train" if i < train else "test")
