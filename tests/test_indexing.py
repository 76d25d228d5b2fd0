"""One key means the same in every family: all of them against a list, or numpy's array."""

from __future__ import annotations

import copy
import enum
import importlib.util
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapix
from mapix import idx, iid, pink, selection, visualrbm
from mapix.idx import IdxArray
from slow_vimh import pack, record
from test_record import PURE

N = 7
SOM = 3  # side of a hexagon of N neurons
HAS_TORCH = importlib.util.find_spec("torch") is not None
HAS_PILLOW = importlib.util.find_spec("PIL") is not None


@dataclass(frozen=True)
class Family:
    """A dataset of N records, and which of 0..N-1 one of its records is."""

    make: Callable[[Path], Any]
    which: Callable[[Any], int]
    parts: bool = True  # slices, indices and masks give parts
    tuples: bool = False  # as numpy's
    texts: bool = False  # are names
    batches: bool = False  # slices, indices and masks give a batch


def first(array: Any) -> int:
    return int(np.asarray(array).flat[0])


def vimh(path: Path, seeds: range = range(N)) -> Path:
    path.write_bytes(pack([record(2, 3, 1, [(0, k)], seed=k) for k in seeds]))
    return path


def joined(folder: Path) -> Any:
    return mapix.open(
        [vimh(folder / str(k), range(*cut)) for k, cut in enumerate([(0, 2), (2, N)])]
    )


def images(path: Path, order: str = ">") -> Any:
    array = (np.arange(N)[:, None, None] + np.zeros((N, 4, 5))).astype(np.int16)
    idx.write(path, array, byteorder=order)
    return mapix.open(path, format="idx")


def column(path: Path) -> Any:
    idx.write(path, np.arange(N, dtype=np.uint8))
    return mapix.open(path, format="idx")


def data(path: Path) -> Any:
    pink.write_data(path, np.arange(N)[:, None, None] + np.zeros((N, 2, 3)))
    return mapix.open(path, format="pink")


def som(path: Path) -> Any:
    neurons = np.arange(N)[:, None, None] + np.zeros((N, 2, 3))
    pink.write_som(path, neurons, layout="hexagonal")
    return mapix.open(path, format="pink")


def squares(path: Path) -> Any:
    numbers = (np.arange(N)[:, None] + np.zeros((N, 6))) ** 2
    head = np.array([N, 2, 3, 1], "<i4").tobytes()
    path.write_bytes(head + numbers.astype("<f4").tobytes())
    return mapix.open(path, format="pink", kind="map", version=1)


def rotations(path: Path) -> Any:
    pink.write_rot(path, np.zeros((N, 6)), np.arange(N)[:, None] + np.zeros((N, 6)), (2, 3))
    return mapix.open(path, format="pink")


def archive(path: Path) -> Any:
    with iid.Writer(path) as out:
        for k in range(N):
            out.add("d", str(k), np.ones((k + 1, 2), bool), at=(k, k))
    return mapix.open(path, format="iid")


def folder(path: Path) -> Any:
    path.mkdir()
    lines = [json.dumps({"file_name": f"{k}.png", "caption": str(k)}) for k in range(N)]
    (path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return mapix.open(path)


def pictures(path: Path) -> Any:
    import mapix.folder
    from mapix.torch import Images

    blank = [np.full((2, 2, 3), k, np.uint8) for k in range(N)]
    mapix.folder.write(path, [{"file_name": f"{k}.png", "image": b} for k, b in enumerate(blank)])
    return Images(path)


def for_torch(path: Path) -> Any:
    from mapix.torch import Dataset

    return Dataset(vimh(path), labels="raw")


def as_original(path: Path) -> Any:
    from mapix.compat.vimh import VIMHDataset

    path.mkdir()
    vimh(path / "train")
    mapping = {"note": {"min": 0, "max": 255, "step": 1}}
    info = {"parameter_names": ["note"], "parameter_mappings": mapping}
    (path / "vimh_dataset_info.json").write_text(json.dumps(info))
    return VIMHDataset(path)


def collated(path: Path) -> Any:
    return for_torch(path).__getitems__(list(range(N)))


def layers(path: Path) -> Any:
    square = np.zeros((4, 4), np.float32)
    made = [visualrbm.Layer(square, np.full(4, k, np.float32), "Linear") for k in range(N)]
    return visualrbm.MultilayerPerceptron(made)


def epochs(path: Path) -> Any:
    entries = [{"Epochs": 1, "LearningRate": k} for k in range(N)]
    text = {"Type": "RBM", "VisibleCount": 4, "HiddenCount": 4, "VisibleType": "Linear"}
    text |= {"HiddenType": "Linear", "MinibatchSize": 1, "Schedule": entries}
    return visualrbm.Schedule.parse(json.dumps(text).encode(), str(path))


def label(sample: Any) -> int:
    return int(next(iter(sample[1].values())))


def seen(r: Any) -> int:
    return int(r.label_bytes[0])


def reversed_(open_: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A part of a part that is the whole again: rows are a reversed range, then an array."""
    return lambda path: open_(path)[::-1][np.arange(N)[::-1]]


FAMILIES = {
    "vimh": Family(lambda p: mapix.open(vimh(p)), seen),
    "vimh in Python": Family(lambda p: PURE.open_path(str(vimh(p))), seen),
    "vimh part": Family(reversed_(lambda p: mapix.open(vimh(p))), seen),
    "joined": Family(lambda p: joined(p.parent), seen),
    "idx": Family(images, first, tuples=True),
    "idx little": Family(lambda p: images(p, "<"), first, tuples=True),
    "idx part": Family(reversed_(images), first, tuples=True),
    "idx of one dimension": Family(column, first, tuples=True),
    "pink data": Family(data, first, tuples=True),
    "pink som": Family(som, first, tuples=True),
    "pink map of version 1": Family(squares, first, tuples=True),
    "pink rotations": Family(rotations, lambda row: int(row["angle"][0]), tuples=True),
    "iid": Family(archive, lambda s: s.key),
    "iid selection": Family(lambda p: archive(p).select(groups=None), lambda s: s.key),
    "folder": Family(folder, lambda r: int(r.caption), texts=True),
    "folder part": Family(reversed_(folder), lambda r: int(r.caption), texts=True),
    "masks": Family(lambda p: archive(p).masks(), lambda m: len(m) - 1, parts=False),
    "layers": Family(layers, lambda la: first(la.biases), parts=False),
    "schedule": Family(epochs, lambda s: int(s.learning_rate), parts=False),
    "torch": Family(for_torch, label, parts=False, batches=True),
    "torch batch": Family(collated, label, parts=False),
    "torch images": Family(pictures, lambda s: int(s[0].max()), parts=False, batches=True),
    "compat.vimh": Family(as_original, label, parts=False),
}


def _missing(name: str) -> str | None:
    if not HAS_TORCH and name.startswith(("torch", "compat")):
        return "needs PyTorch: pip install 'mapix[torch]'"
    if not HAS_PILLOW and name == "torch images":
        return "needs Pillow: pip install 'mapix[images]'"
    return None


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: Any, tmp_path_factory: Any) -> Iterator[tuple[str, Family, Any]]:
    missing = _missing(request.param)
    if missing:
        pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAPIX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        chosen = FAMILIES[request.param]
        yield request.param, chosen, chosen.make(tmp_path_factory.mktemp("family") / "f")


class Number:
    """Nothing but a number."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Count(enum.IntEnum):
    TWO = 2


def tensor(value: Any) -> Any:
    import torch

    return torch.tensor(value)


INTEGERS = [0, 3, N - 1, -1, -N, Count.TWO, Number(4), Number(-2), np.int8(-3), np.uint64(5)]
INTEGERS += [np.array(2), np.array(-2, np.int16), np.intp(1)]
FAR = [N, -N - 1, 2**31, 2**63, 2**70, -(2**63), np.uint64(2**64 - 1), Number(10**30), np.array(N)]
PARTS = [
    slice(None), slice(1, 5), slice(None, None, -1), slice(None, None, 3), slice(5, 1, -2),
    slice(-3, None), slice(4, 4), slice(100), slice(-100, 100, 2), slice(Number(1), np.int64(4)),
    [], [0], [3, 3, 1], [-1, 0], (np.arange(N) % 2 == 0), [True] * N, np.zeros(N, bool),
    np.array([2, 5], np.uint8), np.array([-1], np.int8), np.arange(N)[::-2], range(2, 5),
]  # fmt: skip
FAR_PARTS = [[N], [0, -N - 1], np.array([2**63], np.uint64), [True] * (N + 1), np.zeros(3, bool)]
FAR_PARTS += [np.zeros((N, 1), bool)]
WRONG = [
    True, False, np.True_, np.False_, np.array(True), 3.7, 3.0, np.float32(1), np.array(2.0), 1j,
    None, Ellipsis, b"1", {1}, {0: 1}, object(), [1.5], [[0, 1], [1, 0]], [[0, 1], [1]], ["0"],
    [None], np.array([0.5]), np.zeros((2, 2), int), [2**70], float("nan"), np.str_("1"), 2 + 0j,
    type, np.datetime64(0, "s"), [slice(1)],
]  # fmt: skip
TUPLES = [(0, 3), (0,), (), (slice(None), 0), ([0, 1], 2), (0, Ellipsis), (None, 0), ((0, 1), 0)]


def refused(ds: Any, key: Any, errors: Any = TypeError) -> str:
    with pytest.raises(errors) as caught:
        ds[key]
    text = str(caught.value)
    assert "_pick" not in text
    assert "argument" not in text
    assert any(word in text for word in ("index", "indices", "mask", "slice")), text
    return text


def test_all_that_is_an_integer_is_one(family):
    _, kind, ds = family
    for key in INTEGERS:
        want = kind.which(ds[range(N)[key]])
        assert kind.which(ds[key]) == want
        if kind.parts:
            assert want == range(N)[key]


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch: pip install 'mapix[torch]'")
def test_tensors(family):
    _, kind, ds = family
    assert kind.which(ds[tensor(3)]) == kind.which(ds[3])
    refused(ds, tensor(True))
    refused(ds, tensor(2.0))
    refused(ds, tensor(N), IndexError)
    if kind.parts:
        assert [kind.which(r) for r in ds[tensor([3])]] == [3]
        assert [kind.which(r) for r in ds[tensor([3, -1])]] == [3, N - 1]
        assert len(ds[tensor([True] * N)]) == N
        refused(ds, tensor([[1, 2]]))


def test_numbers_out_of_range(family):
    for key in FAR:
        refused(family[2], key, IndexError)


def test_parts_are_a_lists(family):
    name, kind, ds = family
    for key in PARTS:
        if kind.batches:
            want = np.arange(N)[np.array([], int) if np.size(key) == 0 else key]
            assert len(ds[key][0]) == len(want)
            if name == "torch":
                assert ds[key][1]["param_0"].tolist() == want.tolist()
            continue
        if not kind.parts:
            if name in ("layers", "torch batch") and isinstance(key, slice):
                assert [kind.which(r) for r in ds[key]] == list(range(N))[key]
            else:
                refused(ds, key)
            continue
        part = ds[key]
        want = np.arange(N)[np.array([], int) if np.size(key) == 0 else key]
        assert len(part) == len(want)
        assert [kind.which(r) for r in part] == want.tolist()


def test_parts_out_of_range(family):
    _, kind, ds = family
    for key in FAR_PARTS:
        refused(ds, key, IndexError if kind.parts or kind.batches else TypeError)


def test_everything_else_is_refused(family):
    _, kind, ds = family
    for key in WRONG:
        if not (kind.texts and isinstance(key, str)):
            refused(ds, key)


def test_texts_are_names_or_nothing(family):
    _, kind, ds = family
    for key in ["0", "file_name", ""]:
        if kind.texts:
            with pytest.raises(KeyError, match="no record names"):
                ds[key]
        else:
            refused(ds, key)


def test_a_step_of_zero(family):
    _, kind, ds = family
    with pytest.raises(ValueError if kind.parts else (TypeError, ValueError), match="zero|int"):
        ds[::0]


def test_tuples_are_refused_where_records_have_one_number(family):
    name, kind, ds = family
    for key in TUPLES:
        if not kind.tuples:
            text = refused(ds, key)
            assert "list" in text
            assert "record" in text
        elif name == "pink som":
            break  # a tuple is a place there
        elif key == ((0, 1), 0) or None in key:
            refused(ds, key, (TypeError, IndexError))
        else:
            whole = ds.batch(range(N)).images
            try:
                want = whole[key]
            except IndexError:
                refused(ds, key, IndexError)
            else:
                np.testing.assert_array_equal(ds[key], want)
                assert ds[key].shape == want.shape


def test_places_of_a_som(tmp_path):
    ds = som(tmp_path / "f")
    middle = ds.lattice.index(1, 1)
    assert first(ds[1, 1]) == first(ds[Number(1), np.array(1)]) == middle
    for key in [(True, 1), (1, None), (1.0, 1), ("1", 1), (1, slice(None)), ([1], 1), (..., 1)]:
        with pytest.raises(TypeError, match="index|place"):
            ds[key]
    with pytest.raises(IndexError):
        ds[0, 0]  # outside the hexagon
    with pytest.raises(ValueError, match="part"):
        ds[::2][1, 1]


def test_records_pickle(family):
    """As path and fingerprint, or as arrays of their own; those of one file open it once."""
    name, kind, ds = family
    if name == "vimh in Python":
        pytest.skip("its modules were replaced after they were loaded: pickle finds others")
    records = [ds[k] for k in (5, 0, 5)]
    again = pickle.loads(pickle.dumps(records))
    assert [kind.which(r) for r in again] == [kind.which(r) for r in records]
    assert kind.which(copy.copy(records[0])) == kind.which(records[0])


def test_records_of_a_folder_open_it_once_and_only_it(tmp_path):
    ds = folder(tmp_path / "f")
    late = pickle.dumps([ds[1], ds[2]])
    one, two = pickle.loads(late)
    assert one._file is two._file
    assert two.caption == "2"
    metadata = tmp_path / "f" / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("1", "7"))
    with pytest.raises(mapix.FileChangedError):
        pickle.loads(late)


# --- parts of parts -------------------------------------------------------------------------------

KEYS = st.one_of(
    st.slices(N),
    st.lists(st.integers(0, 10**6), max_size=2 * N).map(lambda v: ("indices", v)),
    st.integers(0, 2**N - 1).map(lambda v: ("mask", v)),
)


def applied(key: Any, n: int) -> Any:
    """A key for n records, of one that hypothesis made for any number of them."""
    if isinstance(key, slice):
        return key
    kind, value = key
    if kind == "mask":
        return np.array([bool(value >> k & 1) for k in range(n)], bool)
    return np.array([v % (2 * n) - n for v in value] if n else [], np.int64)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(keys=st.lists(KEYS, min_size=1, max_size=5), indices=st.lists(st.integers(0, 10**6)))
def test_parts_of_parts(family, keys, indices):
    name, kind, ds = family
    if not kind.parts:
        return
    want = np.arange(N)
    for key in keys:
        key = applied(key, len(want))
        ds, want = ds[key], want[key]
    assert len(ds) == len(want)
    assert [kind.which(r) for r in ds] == want.tolist()
    for i in (0, len(want) // 2, -1):
        if len(want):
            assert kind.which(ds[i]) == want[i]
    if name.startswith(("iid", "folder")):
        return
    some = [i % len(want) for i in indices] if len(want) else []
    got = ds.batch(some)
    if name.startswith(("vimh", "joined")):
        assert got.labels[:, 0].tolist() == want[some].tolist()
        assert ds.labels["param_0"].codes.tolist() == want.tolist()
        assert ds.rows.tolist() == want.tolist()
        assert [b.labels[:, 0].tolist() for b in ds.batches(3)] == [
            want[k : k + 3].tolist() for k in range(0, len(want), 3)
        ]
        return
    whole = family[2].batch(range(N)).images
    np.testing.assert_array_equal(got.images, whole[want[some]])
    if name != "pink map of version 1":
        np.testing.assert_array_equal(np.asarray(ds), whole[want])
        assert ds.shape == whole[want].shape
    np.testing.assert_array_equal(
        np.concatenate([whole[:0], *ds.blocks(2 * whole[0].nbytes)]), whole[want]
    )


# --- the usual indices, in C ----------------------------------------------------------------------

EXTREMES = st.sampled_from([-(2**63), 2**63 - 1, -(2**62)])


@pytest.mark.skipif(selection.fast is None, reason="no compiled module")
@given(key=st.lists(st.integers(-5, 5) | EXTREMES, max_size=9), n=st.integers(0, 5))
def test_positions_in_c_are_a_lists_or_none(key, n):
    array = np.array(key, np.int64)
    array.flags.writeable = False
    found = selection.fast.positions(array, n)
    if all(-n <= k < n for k in key):
        assert found.tolist() == [range(n)[k] for k in key]
        assert found.dtype == np.int64
        assert found.flags.owndata
        assert found.flags.writeable
    else:
        assert found is None
    assert array.tolist() == key


@pytest.mark.skipif(selection.fast is None, reason="no compiled module")
def test_positions_in_c_leave_other_keys_alone():
    key = np.arange(4)
    for other in (
        *(key[::2], key[::-1], key.astype(np.int32), key.astype(">i8"), key.astype(np.uint64)),
        *(key.reshape(2, 2), key.view(np.matrix), [1], 1, None, np.array(1)),
        np.frombuffer(b"." + key.tobytes(), np.int64, offset=1),
    ):
        assert selection.fast.positions(other, 4) is None
    for wrong in ((), (key,), (key, -1), (key, 2**63), (key, 4, 4)):
        with pytest.raises(TypeError):
            selection.fast.positions(*wrong)


# --- tuples are numpy's ---------------------------------------------------------------------------

SHAPE = (4, 3, 2)


def index_of(n: int) -> st.SearchStrategy[Any]:
    masks = st.lists(st.booleans(), min_size=n, max_size=n).map(lambda v: np.array(v, bool))
    lists = st.lists(st.integers(-n, n), min_size=1, max_size=3)
    ints = st.integers(-n - 1, n)
    return st.one_of(ints, ints.map(np.int32), st.slices(n), lists, lists.map(np.array), masks)


TUPLE = st.one_of(
    st.tuples(*map(index_of, SHAPE)),
    st.tuples(*map(index_of, SHAPE[:2])),
    st.tuples(index_of(SHAPE[0])),
    st.tuples(st.just(...), index_of(SHAPE[2])),
    st.tuples(index_of(SHAPE[0]), st.just(...), index_of(SHAPE[2])),
    st.tuples(index_of(SHAPE[0]), st.just(...)),
    st.tuples(*map(index_of, (*SHAPE, 1))),
    st.just(()),
)
ROWS = [slice(None), slice(None, None, -1), slice(1, None, 2), [3, 0, 0, 2], [1], []]


@pytest.fixture(scope="module")
def cube(tmp_path_factory: Any) -> tuple[IdxArray, np.ndarray]:
    array = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE) * 1000
    path = tmp_path_factory.mktemp("cube") / "f"
    idx.write(path, array)
    return mapix.open(path, format="idx"), array


def tried(array: Any, key: Any) -> Any:
    try:
        return np.asarray(array[key])
    except IndexError:
        return IndexError


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(key=TUPLE, rows=st.sampled_from(ROWS))
def test_a_tuple_is_what_it_is_to_numpy(cube, key, rows):
    whole, array = cube
    part, oracle = whole[rows], array[np.array(rows, int) if rows == [] else rows]
    want, got = tried(oracle, key), tried(part, key)
    if want is IndexError or got is IndexError:
        # numpy does not check indices whose result is empty
        assert want is got or want.size == 0
        return
    assert got.shape == want.shape
    assert got.dtype.newbyteorder("=") == want.dtype
    np.testing.assert_array_equal(got, want)


def test_a_tuple_of_ints_and_slices_is_a_view(cube):
    whole, array = cube
    for got, want in [
        (whole[0, 1], array[0, 1]),
        (whole[1:, 0], array[1:, 0]),
        (whole[::-1][0, :, 1], array[3, :, 1]),
        (whole[[2, 1]][0, 1], array[2, 1]),
        (whole[..., 1], array[..., 1]),
    ]:
        np.testing.assert_array_equal(got, want)
        assert got.base is not None
        assert not got.flags.writeable
        assert got.dtype == whole.dtype
    assert whole[[0, 1], 1].flags.writeable  # a copy, as numpy's
    assert whole[0, 1, 1] == array[0, 1, 1]


# --- the place where it is decided ----------------------------------------------------------------


def test_arrays_of_a_part_are_its_own_and_contiguous():
    rows = np.arange(20, dtype=np.int64)
    found = selection.part(slice(None, None, 3), rows, 20, "p")
    assert found.flags.c_contiguous
    assert found.base is None
    found[0] = 99
    assert rows[0] == 0
    asked = np.arange(4)
    assert not np.shares_memory(selection.positions(asked, 4, "p"), asked)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_the_usual_array_and_all_others_mean_the_same(n):
    """Arrays of int64 are copied and checked in C, where the package has that; others in numpy."""
    inside = [i for i in range(-n, n) for _ in range(2)]
    for numbers in (inside, [], [n], [-n - 1], [*inside, 2**63 - 1], [-(2**63), *inside]):
        usual = np.array(numbers, np.int64)
        unaligned = np.frombuffer(b"x" + usual.tobytes(), np.int64, offset=1)
        others = (numbers, np.repeat(usual, 2)[::2], usual.astype(">i8"), unaligned)
        outcomes = []
        for key in (usual, *others):
            try:
                outcomes.append(selection.positions(key, n, "p").tolist())
            except IndexError as e:
                outcomes.append(str(e))
        assert outcomes == outcomes[:1] * len(outcomes)
        want = [i % n for i in numbers] if all(-n <= i < n for i in numbers) else None
        assert (outcomes[0] == want) == (want is not None)
        assert usual.tolist() == numbers  # the caller's array is as it was


def test_refusals_say_what_to_do():
    cases = {
        True: "True is not an index: pass 0 or 1 for one record, or a mask with one boolean per",
        2.5: "an index is an int, a slice, or a 1-D array of ints or booleans, got float 2.5",
        None: "got NoneType None",
        "x" * 99: "got str 'xxxx",
    }
    for key, text in cases.items():
        with pytest.raises(TypeError) as caught:
            selection.integer(key)
        assert text in str(caught.value)
        assert len(str(caught.value)) < 150


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch: pip install 'mapix[torch]'")
def test_indices_of_a_torch_batch_are_checked(tmp_path):
    ds = for_torch(tmp_path / "f")
    with pytest.raises(TypeError, match="indices must be"):
        ds.__getitems__([3.7])
    with pytest.raises(IndexError):
        ds.__getitems__([N])
    assert ds.__getitems__(np.array([1, -1])).value[1]["param_0"].tolist() == [1, N - 1]


@pytest.mark.parametrize("values", [[], [3], [2, 2, 2], [5, 1, 5, 0, 1], [[4, 1], [1, 9]]])
@pytest.mark.parametrize("dtype", ["int64", "uint32"])
def test_distinct_values(values, dtype):
    array = np.array(values, dtype)
    found = selection.distinct(array)
    assert found.dtype == dtype
    assert found.tolist() == np.unique(array).tolist()
    assert array.tolist() == values
