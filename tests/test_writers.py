"""Two writers of one path, switched between any two calls, for every writer that there is.

What a writer has acknowledged is there; what is at the path is complete at every moment; a writer
that gives way says so; and when the survivors and one more writer are done, nothing else is left.
"""

from __future__ import annotations

import errno
import functools
import gc
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
import mapix.folder
import mapix.visualrbm
from interleave import (
    DISTURBED,
    END,
    ORDERS,
    REFUSALS,
    Writer,
    calls_of,
    hooked,
    outcomes,
    together,
)
from mapix.compat.opsml import ImageMetadata
from mapix.store import Closing, NewDirectory, NewWhole, Spill
from records import descriptors, lacks_memory

WHO = ("A", "B", "C")
MASK = np.ones((3, 4), bool)


def number(who: str) -> int:
    return 1 + WHO.index(who)


@dataclass
class Kind:
    """A way of writing.

    Attributes
    ----------
    setup : callable
        Makes in a folder what is there before; returns what ``act`` is given.
    act : callable
        ``act(folder, given, who)`` writes.
    state : callable
        What a reader finds; it raises, or returns something else, where a file is torn.
    after : callable
        ``after(state, who)``: the state that ``who`` makes of another one; LookupError where it is
        refused.
    needs : tuple of str
        Modules without which it is skipped.
    most : int
        How many trials at most.
    settled : callable
        Whether all that is written agrees; asked when every writer has ended and none has died.
    orphans : tuple of str
        What one more writer may leave of one that died: nothing that a reader takes for a record.
    """

    setup: Callable[[Path], Any]
    act: Callable[[Path, Any, str], object]
    state: Callable[[Path], Any]
    after: Callable[[Any, str], Any]
    needs: tuple[str, ...] = ()
    most: int = 1000
    settled: Callable[[Path], bool] = lambda folder: True
    orphans: tuple[str, ...] = ()


def nothing(folder: Path) -> None:
    return None


def new(state: Any, who: str) -> str:
    if state is not None:
        raise LookupError("it is there already")
    return who


def replaced(state: Any, who: str) -> str:
    return who


def longer(state: tuple[str, ...], who: str) -> tuple[str, ...]:
    return (*state, who)


def names(numbers: Any) -> tuple[str, ...]:
    return tuple(WHO[int(n) - 1] for n in numbers)


def one(found: tuple[str, ...], n: int) -> str:
    """Who has written n records, all of them."""
    assert len(found) == n
    assert len(set(found)) == 1
    return found[0]


def if_there(name: str) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    """Read a path; None where there is nothing."""

    def wrap(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        @functools.wraps(read)
        def state(folder: Path) -> Any:
            return read(folder / name) if os.path.lexists(folder / name) else None

        return state

    return wrap


# --- IDX ------------------------------------------------------------------------------------------


def idx_rows(who: str, n: int = 3) -> np.ndarray:
    return np.full((n, 4), number(who), np.uint8)


def idx_setup(folder: Path) -> None:
    mapix.idx.write(folder / "x.idx", np.zeros((0, 4), np.uint8))


def idx_append(folder: Path, given: Any, who: str) -> None:
    mapix.idx.append(folder / "x.idx", idx_rows(who, 1))


def idx_state(folder: Path) -> tuple[str, ...]:
    view = mapix.open(folder / "x.idx").view()
    assert (view == view[:, :1]).all()
    return names(view[:, 0])


@if_there("x.idx")
def idx_whole(path: Path) -> str:
    return one(idx_state(path.parent), 3)


def idx_write(folder: Path, given: Any, who: str, replace: bool = False) -> None:
    mapix.idx.write(folder / "x.idx", idx_rows(who), replace=replace)


def idx_old(folder: Path) -> None:
    idx_write(folder, None, "C")


# --- IID ------------------------------------------------------------------------------------------


def iid_write(
    folder: Path, given: Any, who: str, n: int = 3, name: str = "x.iid", **options: Any
) -> None:
    with mapix.iid.Writer(folder / name, {"who": who}, **options) as out:
        for _ in range(n):
            out.add("d", who, MASK, groups=[who])


def iid_none(folder: Path) -> None:
    iid_write(folder, None, "A", 0)


def iid_old(folder: Path) -> None:
    iid_write(folder, None, "C")


def iid_handle(folder: Path) -> mapix.iid.Archive:
    iid_none(folder)
    return mapix.open(folder / "x.iid")


def iid_sources(folder: Path) -> dict[str, mapix.iid.Archive]:
    (folder / "from").mkdir()
    for who in WHO:
        iid_write(folder / "from", None, who, name=f"{who}.iid")
    return {who: mapix.open(folder / "from" / f"{who}.iid") for who in WHO}


def iid_edit(folder: Path, given: Any, who: str) -> None:
    archive = mapix.open(folder / "x.iid") if given is None else given
    mapix.iid.edit(archive, append=lambda out: out.add("d", who, MASK))


def iid_names(path: Path) -> tuple[str, ...]:
    archive = mapix.open(path)
    assert archive.verify().ok
    assert all(segment.mask().all() for segment in archive)
    return tuple(iid.decode() for _, iid in archive.names())


def iid_state(folder: Path) -> tuple[str, ...]:
    return iid_names(folder / "x.iid")


@if_there("x.iid")
def iid_whole(path: Path) -> str:
    return one(iid_names(path), 3)


def once(state: tuple[str, ...], who: str) -> tuple[str, ...]:
    """With a handle opened before: only the first edit is let through."""
    if state:
        raise LookupError("the handle is not the newest")
    return (who,)


def iid_shards(folder: Path, given: Any, who: str) -> None:
    with mapix.iid.ShardedWriter(folder / "x.iid", full_nbytes=10) as out:
        for _ in range(2):
            out.add("d", who, MASK)


@if_there("x-00000-of-00002.iid")  # the first one comes last
def iid_set(path: Path) -> str:
    return one(iid_names(path), 2)


# --- PINK, VisualRBM ------------------------------------------------------------------------------


def pink_write(folder: Path, given: Any, who: str, **options: Any) -> None:
    with mapix.pink.Writer(folder / "x.bin", "data", (4,), **options) as out:
        for _ in range(3):
            out.append(np.full(4, number(who), np.float32))


def pink_old(folder: Path) -> None:
    pink_write(folder, None, "C")


@if_there("x.bin")
def pink_state(path: Path) -> str:
    view = mapix.open(path).view()
    assert (view == view[0, 0]).all()
    return one(names(view[:, 0]), 3)


def rbm(who: str) -> mapix.visualrbm.Model:
    return mapix.visualrbm.RestrictedBoltzmannMachine(
        np.full((2, 3), number(who)), np.zeros(3), np.zeros(2)
    )


def rbm_write(folder: Path, given: Any, who: str, name: str, **options: Any) -> None:
    rbm(who).write(folder / name, **options)


def rbm_old(folder: Path) -> None:
    rbm_write(folder, None, "C", "x.json")


def rbm_state(name: str) -> Callable[[Path], Any]:
    @if_there(name)
    def state(path: Path) -> str:
        if name.endswith(".npz"):
            weights = dict(np.load(path))["Weights"]
        else:
            weights = mapix.open(path).weights
        assert weights.shape == (2, 3)
        return one(names(weights.ravel()), 6)

    return state


def schedule(who: str) -> mapix.visualrbm.Schedule:
    stage = mapix.visualrbm.Stage(number(who), visible_dropout=0.0, hidden_dropout=0.0)
    return mapix.visualrbm.Schedule(
        "RestrictedBoltzmannMachine", (4, 3), ("Sigmoid", "Linear"), 2, (stage,)
    )


def schedule_write(folder: Path, given: Any, who: str) -> None:
    schedule(who).write(folder / "x.json", replace=True)


@if_there("x.json")
def schedule_state(path: Path) -> str:
    return WHO[len(mapix.open(path)) - 1]


# --- image folders --------------------------------------------------------------------------------


def png(who: str) -> bytes:
    pillow = pytest.importorskip("PIL.Image")
    import io

    out = io.BytesIO()
    pillow.fromarray(np.full((2, 2), number(who), np.uint8)).save(out, "PNG")
    return out.getvalue()


def folder_write(folder: Path, given: Any, who: str) -> None:
    with mapix.folder.Writer(folder / "f") as out:
        for k in range(2):
            out.append(f"sub/{k}.png", png(who), caption=who)


def folder_captions(path: Path) -> tuple[str, ...]:
    ds = mapix.open(path)
    for record in ds:
        assert (record.image == number(record.caption)).all()
    return tuple(record.caption for record in ds)


@if_there("f")
def folder_whole(path: Path) -> str:
    return one(folder_captions(path), 2)


def folder_setup(folder: Path) -> None:
    mapix.folder.Writer(folder / "f").close()


def folder_append(folder: Path, given: Any, who: str) -> None:
    with mapix.folder.Appender(folder / "f") as out:
        out.append(f"sub/{who}.png", png(who), caption=who)


def folder_state(folder: Path) -> tuple[str, ...]:
    return folder_captions(folder / "f")


def same_name(folder: Path, given: Any, who: str) -> None:
    with mapix.folder.Appender(folder / "f") as out:
        out.append("a.png", png(who), caption=who)


def opsml_write(folder: Path, given: Any, who: str) -> None:
    records = [{"file_name": "a.png", "caption": who}] * 3
    ImageMetadata(records=records).write_to_file(folder / "x.jsonl")


@if_there("x.jsonl")
def opsml_state(path: Path) -> str:
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    return one(tuple(json.loads(line)["caption"] for line in lines), 3)


# --- VIMH -----------------------------------------------------------------------------------------

NOTE = mapix.vimh.Parameter("note", 0, min=0.0, max=255.0, step=1.0)


def vimh_put(out: Any, who: str, n: int, **options: Any) -> None:
    for _ in range(n):
        out.append(np.full((2, 3), number(who), np.uint8), codes={"note": number(who)}, **options)


def vimh_write(folder: Path, given: Any, who: str, n: int = 3, **options: Any) -> None:
    with mapix.vimh.Writer(folder / "d", [NOTE], **options) as out:
        vimh_put(out, who, n)


def vimh_codes(path: Path, split: str = "train") -> tuple[str, ...]:
    ds = mapix.open(path, split=split, dialect=14, index="never")
    for record in ds:
        assert (record.image == record.labels["note"]).all()
    return names(record.labels["note"] for record in ds)


@if_there("d")
def vimh_whole(path: Path) -> str:
    assert mapix.open(path).info["train_samples"] == 3
    return one(vimh_codes(path), 3)


def vimh_setup(folder: Path) -> None:
    vimh_write(folder, None, "A", 0)


def vimh_append(folder: Path, given: Any, who: str) -> None:
    with mapix.vimh.Appender(folder / "d", dialect=14) as out:
        vimh_put(out, who, 1)


def vimh_state(folder: Path) -> tuple[str, ...]:
    return vimh_codes(folder / "d")


def splits_append(folder: Path, given: Any, who: str) -> None:
    split = "test" if who == "B" else "train"
    with mapix.vimh.Appender(folder / "d", split=split, dialect=14) as out:
        vimh_put(out, who, 1)


def splits_state(folder: Path) -> tuple[Any, ...]:
    info = json.loads((folder / "d" / "vimh_dataset_info.json").read_bytes())
    assert info["total_samples"] == info["train_samples"] + info["test_samples"]
    return vimh_codes(folder / "d"), vimh_codes(folder / "d", "test")


def counts_agree(folder: Path) -> bool:
    info = json.loads((folder / "d" / "vimh_dataset_info.json").read_bytes())
    counts = [len(vimh_codes(folder / "d", split)) for split in ("train", "test")]
    return [info[k] for k in ("train_samples", "test_samples", "n_samples")] == [
        *counts,
        sum(counts),
    ]


def splits_after(state: tuple[Any, ...], who: str) -> tuple[Any, ...]:
    train, test = state
    return (train, (*test, who)) if who == "B" else ((*train, who), test)


def damaged(folder: Path) -> None:
    (folder / "from").mkdir()
    for who in WHO:
        vimh_write(folder / "from", None, who)
        os.rename(folder / "from" / "d", folder / "from" / who)
        with open(folder / "from" / who / "train", "ab") as f:
            f.write(b"torn")


def vimh_repair(folder: Path, given: Any, who: str) -> None:
    mapix.vimh.repair(folder / "from" / who / "train", folder / "x", dialect=14)


@if_there("x")
def repaired(path: Path) -> str:
    return one(names(r.labels["param_0"] for r in mapix.open(path, dialect=14)), 3)


# --- conversions ----------------------------------------------------------------------------------


def sources(folder: Path) -> None:
    """A dataset of three pictures with a label for each writer."""
    (folder / "from").mkdir()
    for who in WHO:
        path = folder / "from" / f"{who}-images-idx3-ubyte"
        mapix.idx.write(path, np.full((3, 2, 2), number(who), np.uint8))
        labels = folder / "from" / f"{who}-labels-idx1-ubyte"
        mapix.idx.write(labels, np.full(3, number(who), np.uint8))


def converted(name: str, **options: Any) -> Callable[[Path, Any, str], object]:
    def act(folder: Path, given: Any, who: str) -> None:
        source = folder / "from" / f"{who}-images-idx3-ubyte"
        mapix.convert(source, folder / name, lossy=True, **options)

    return act


def numbers_in(name: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    @if_there(name)
    def state(path: Path) -> str:
        found = np.asarray(read(path))
        assert len(found) == 3
        return one(names(found.ravel()), found.size)

    return state


def with_labels(path: Path) -> Any:
    batch = mapix.open(path).batch([0, 1, 2])
    assert (batch.images.reshape(3, -1) == batch.labels.reshape(3, 1)).all()
    return batch.images


def npz(path: Path) -> Any:
    with np.load(path) as found:
        assert (found["label/label"] == found["images"][:, 0, 0]).all()
        return found["images"]


def npz_set(folder: Path) -> str | None:
    """The first one comes last; without it, no other one can be opened."""
    path = folder / "x-00000-of-00003.npz"
    if not path.exists():
        for other in folder.glob("x-*.npz"):
            with pytest.raises(FileNotFoundError, match="the set was not finished"):
                mapix.open(other)
        return None
    assert len(mapix.open(path.with_name("x-00002-of-00003.npz"))) == 1
    found = [npz(path.with_name(f"x-{k:05}-of-00003.npz")) for k in range(3)]
    assert [len(images) for images in found] == [1, 1, 1]
    return one(names(np.concatenate(found).ravel()), 12)


def parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    return [list(raw) for raw in pq.read_table(path)["image"].to_pylist()]


def huggingface(path: Path) -> Any:
    import datasets

    return [np.asarray(row["image"]) for row in datasets.load_from_disk(str(path))]


# --- the store itself -----------------------------------------------------------------------------


def whole(folder: Path, given: Any, who: str, replace: bool = False) -> None:
    with NewWhole(folder / "x", replace=replace) as out:
        aside = Spill(out.beside("aside"))
        try:
            aside.write(who.encode() * 100)
            for piece in aside.pieces(64):
                out.write(piece)
        finally:
            aside.drop()


def whole_old(folder: Path) -> None:
    (folder / "x").write_bytes(b"C" * 100)


@if_there("x")
def whole_state(path: Path) -> str:
    return one(tuple(path.read_text()), 100)


def added(folder: Path, given: Any, who: str) -> None:
    with NewWhole(folder / "x", replace=True) as out:
        out.write((folder / "x").read_bytes() + who.encode())


def directory(folder: Path, given: Any, who: str) -> None:
    with NewDirectory(folder / "x") as out:
        for name in ("a", "below/b"):
            out.file(name).write(who.encode() * 10)


@if_there("x")
def directory_state(path: Path) -> str:
    texts = [(path / name).read_text() for name in ("a", "below/b")]
    assert sorted(os.listdir(path)) == ["a", "below"]
    return one(tuple("".join(texts)), 20)


STORE = {
    "new file": Kind(nothing, whole, whole_state, new),
    "replaced file": Kind(whole_old, functools.partial(whole, replace=True), whole_state, replaced),
    "changed file": Kind(
        lambda folder: (folder / "x").touch(),
        added,
        lambda folder: tuple((folder / "x").read_text()),
        longer,
    ),
    "new directory": Kind(nothing, directory, directory_state, new),
}
IDX_PAIR = "x-images-idx3-ubyte"
KINDS = {
    "idx.write": Kind(nothing, idx_write, idx_whole, new),
    "idx.write, replace": Kind(
        idx_old, functools.partial(idx_write, replace=True), idx_whole, replaced
    ),
    "idx.append": Kind(idx_setup, idx_append, idx_state, longer),
    "iid.Writer": Kind(nothing, iid_write, iid_whole, new),
    "iid.Writer, replace": Kind(
        iid_old, functools.partial(iid_write, replace=True), iid_whole, replaced
    ),
    "iid.edit": Kind(iid_none, iid_edit, iid_state, longer),
    "iid.edit of one handle": Kind(iid_handle, iid_edit, iid_state, once),
    "iid.merge": Kind(
        iid_sources,
        lambda folder, given, who: mapix.iid.merge([given[who]], folder / "x.iid"),
        iid_whole,
        new,
    ),
    "iid.subset": Kind(
        lambda folder: iid_old(folder) or iid_sources(folder),
        lambda folder, given, who: mapix.iid.subset(
            given[who], [0, 1, 2], folder / "x.iid", replace=True
        ),
        iid_whole,
        replaced,
    ),
    "iid.ShardedWriter": Kind(
        nothing,
        iid_shards,
        iid_set,
        new,
        most=150,
        # a set that is not complete is refused by readers, and removed by replace=True
        orphans=("x-00001-of-00002.iid", "x-00000.iid.shard"),
    ),
    "pink.Writer": Kind(nothing, pink_write, pink_state, new),
    "pink.Writer, n rows": Kind(
        pink_old, functools.partial(pink_write, n=3, replace=True), pink_state, replaced
    ),
    "model as JSON": Kind(
        rbm_old,
        functools.partial(rbm_write, name="x.json", replace=True),
        rbm_state("x.json"),
        replaced,
    ),
    "model as npz": Kind(
        nothing, functools.partial(rbm_write, name="x.npz"), rbm_state("x.npz"), new
    ),
    "schedule": Kind(
        lambda folder: schedule("C").write(folder / "x.json"),
        schedule_write,
        schedule_state,
        replaced,
    ),
    "folder.Writer": Kind(nothing, folder_write, folder_whole, new, ("PIL",)),
    "folder.Appender": Kind(
        folder_setup,
        folder_append,
        folder_state,
        longer,
        ("PIL",),
        orphans=tuple(
            f"f/sub/{hidden}" for who in WHO for hidden in (f"{who}.png", f".{who}.png.writing")
        ),
    ),
    "folder.Appender, one name": Kind(
        folder_setup, same_name, folder_state, once, ("PIL",), orphans=("f/a.png",)
    ),
    "opsml": Kind(
        lambda folder: opsml_write(folder, None, "C"), opsml_write, opsml_state, replaced
    ),
    "vimh.Writer": Kind(nothing, vimh_write, vimh_whole, new),
    "vimh.Writer, both": Kind(
        nothing, functools.partial(vimh_write, output="both"), vimh_whole, new
    ),
    "vimh.Appender": Kind(vimh_setup, vimh_append, vimh_state, longer, settled=counts_agree),
    "vimh.Appender, two splits": Kind(
        vimh_setup,
        splits_append,
        splits_state,
        splits_after,
        settled=counts_agree,
        orphans=("d/.test.appending",),  # the next writer of that split removes it
    ),
    "vimh.repair": Kind(damaged, vimh_repair, repaired, new),
    "convert to idx": Kind(
        sources,
        converted(IDX_PAIR, to="idx"),
        numbers_in(IDX_PAIR, with_labels),
        new,
        orphans=("x-labels-idx1-ubyte",),
    ),
    "convert to a directory of idx": Kind(
        sources, converted("d", to="idx"), numbers_in("d", with_labels), new
    ),
    "convert to npy": Kind(sources, converted("x.npy"), numbers_in("x.npy", np.load), new),
    "convert to npz": Kind(sources, converted("x.npz"), numbers_in("x.npz", npz), new),
    "convert to shards": Kind(
        sources,
        converted("x.npz", shards=3),
        npz_set,
        new,
        most=30,
    ),
    "convert to parquet": Kind(
        sources, converted("x.parquet"), numbers_in("x.parquet", parquet), new, ("pyarrow",)
    ),
    "convert to huggingface": Kind(
        sources,
        converted("d", to="huggingface"),
        numbers_in("d", huggingface),
        new,
        ("datasets", "PIL"),
        most=12,
    ),
}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def alone(kind: Kind, folder: Path) -> tuple[list[str], dict[str, set[str]]]:
    """The calls that a writer makes, and which files are there after each one, alone."""
    names = {}
    for who in WHO:
        (folder / who).mkdir(parents=True)
        given = kind.setup(folder / who)
        names["nobody"] = files(folder / who)
        calls = calls_of(lambda given=given, who=who: kind.act(folder / who, given, who))
        names[who] = files(folder / who)
    return calls, names


def check(
    kind: Kind, folder: Path, names: dict[str, set[str]], stops: tuple[int, int], order: str
) -> tuple[int, int]:
    """Run two writers in one order; how many have succeeded, and how many have died."""
    folder.mkdir()
    given = kind.setup(folder)
    old = kind.state(folder)
    possible = outcomes(old, kind.after, set(), {"A", "B"})

    def look() -> None:
        assert kind.state(folder) in possible

    acts = (lambda: kind.act(folder, given, "A"), lambda: kind.act(folder, given, "B"))
    writers = dict(zip("AB", together(acts, stops, ORDERS[order], look), strict=True))
    sure = {who for who, writer in writers.items() if writer.error is None and not writer.dead}
    dead = {who for who, writer in writers.items() if writer.dead}
    for who in {"A", "B"} - sure - dead:
        error = writers[who].error
        assert isinstance(error, REFUSALS), (who, repr(error))
    found = kind.state(folder)
    assert found in outcomes(old, kind.after, sure, dead), (found, sure, dead)
    assert sure or dead, "both were refused"
    assert dead or kind.settled(folder)
    # One more writer: nobody is in its way, and it removes what a dead one left.
    done = {"nobody"} | sure
    done |= {who for who in dead if found in outcomes(old, kind.after, sure | {who}, dead)}
    try:
        kind.act(folder, given, "C")
        assert kind.state(folder) == kind.after(found, "C")
        done |= {"C"}
    except (FileExistsError, mapix.FileChangedError):
        if not dead or not kind.orphans:
            with pytest.raises(LookupError):
                kind.after(found, "C")
    allowed = set().union(*(names[who] for who in done), kind.orphans if dead else ())
    assert files(folder) <= allowed
    return len(sure), len(dead)


def trials(kind: Kind, n: int, every: bool) -> list[tuple[tuple[int, int], str]]:
    """Where to switch: before each call of the first writer, and of the second all or some."""
    rng = random.Random(n)
    found = []
    for first in range(n):
        for order in ORDERS:
            if every:
                seconds = list(range(first % 2, n, 2)) if "second" in ORDERS[order] else [END]
            else:
                seconds = [END] if order == "the first dies" else [rng.randrange(1, n)]
                seconds += [END] if order == "both go on" else []
            found += [((first, second), order) for second in seconds]
    return found if len(found) <= kind.most else rng.sample(found, kind.most)


def run(kind: Kind, tmp_path: Path, every: bool) -> None:
    for name in kind.needs:
        pytest.importorskip(name)
    seen = set()
    with hooked():
        calls, names = alone(kind, tmp_path / "alone")
        gc.collect()
        fds = descriptors()
        for k, (stops, order) in enumerate(trials(kind, len(calls), every)):
            try:
                seen.add(check(kind, tmp_path / str(k), names, stops, order))
            except BaseException as e:
                e.add_note(f"switched at calls {stops}, {order}, in {tmp_path / str(k)}")
                raise
    assert {ndead for _, ndead in seen} == {0, 1}
    gc.collect()
    assert descriptors() <= fds


@pytest.mark.parametrize("name", STORE)
def test_at_every_two_calls(tmp_path, name):
    run(STORE[name], tmp_path, every=True)


@pytest.mark.filterwarnings("ignore::mapix.MapixWarning")
@pytest.mark.parametrize("name", KINDS)
def test_at_every_call(tmp_path, name):
    run(KINDS[name], tmp_path, every=False)


@pytest.mark.parametrize("name", STORE)
def test_what_is_being_written_is_removed(tmp_path, name):
    """Somebody tidies up: both writers may fail, but nothing is torn, and nothing is lost."""
    kind = STORE[name]

    def disturb(folder: Path) -> None:
        for path in folder.glob(".*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    with hooked():
        calls, _ = alone(kind, tmp_path / "alone")
        for k, (order, *stops) in enumerate(
            itertools.product(DISTURBED.values(), range(len(calls)), range(0, len(calls), 3))
        ):
            if calls[stops[0]] in ("rename", "appear"):
                continue  # it has just compared the name: two steps cannot be one
            folder = tmp_path / str(k)
            folder.mkdir()
            given = kind.setup(folder)
            old = kind.state(folder)
            possible = outcomes(old, kind.after, set(), {"A", "B"})
            found = together(
                (
                    functools.partial(kind.act, folder, given, "A"),
                    functools.partial(kind.act, folder, given, "B"),
                ),
                (stops[0], stops[1]),
                order,
                lambda folder=folder, possible=possible: kind.state(folder) in possible or 1 / 0,
                functools.partial(disturb, folder),
            )
            writers = dict(zip("AB", found, strict=True))
            assert all(w.error is None or isinstance(w.error, OSError) for w in found)
            sure = {who for who, writer in writers.items() if writer.error is None}
            if kind.after is not longer:  # of two writers without a lock, one has read too early
                assert kind.state(folder) in outcomes(old, kind.after, sure, set()), (order, stops)


@pytest.mark.filterwarnings("ignore::mapix.MapixWarning")
@pytest.mark.parametrize("name", list({**STORE, **KINDS}))
def test_every_call_may_fail(tmp_path, name):
    """The old or the new is there, nothing else, and no descriptor stays open."""
    kind = {**STORE, **KINDS}[name]
    for module in kind.needs:
        pytest.importorskip(module)
    failed = 0
    with hooked():
        calls, names = alone(kind, tmp_path / "alone")
        for k, call in enumerate(calls):
            folder = tmp_path / str(k)
            folder.mkdir()
            given = kind.setup(folder)
            old = kind.state(folder)
            error = OSError(errno.ENOSPC, f"no room for {call}")
            writer = Writer(functools.partial(kind.act, folder, given, "A"), k, error)
            writer.finish()
            found = kind.state(folder)
            assert found in (old, kind.after(old, "A")), call
            assert writer.error is not None or found != old, call
            assert writer.error is None or writer.error.errno == errno.ENOSPC, repr(writer.error)
            failed += writer.error is not None
            if call == "close":
                os.close(writer.fds.pop())
            assert not writer.fds, call
            if writer.error is not None and call not in ("unlink", "rmdir", "rmtree", "close"):
                assert files(folder) <= names["nobody" if found == old else "A"], call
    assert failed > 5


@pytest.mark.filterwarnings("ignore::mapix.MapixWarning")
@pytest.mark.parametrize("name", list({**STORE, **KINDS}))
def test_a_writer_that_is_lost_keeps_no_lock(tmp_path, monkeypatch, name):
    """A writer is made, and then there is no memory for ``with``: nobody can close it."""
    kind = {**STORE, **KINDS}[name]
    for module in kind.needs:
        pytest.importorskip(module)
    given = kind.setup(tmp_path)
    old = kind.state(tmp_path)
    gc.disable()  # no cycle of references delays it
    try:
        monkeypatch.setattr(Closing, "__enter__", lacks_memory)
        with pytest.raises(MemoryError):
            kind.act(tmp_path, given, "A")
        monkeypatch.undo()
        assert kind.state(tmp_path) == old
        kind.act(tmp_path, given, "A")  # is not refused
    finally:
        gc.enable()
    assert kind.state(tmp_path) == kind.after(old, "A")
