"""What people see of objects: repr, HTML of notebooks, pictures and plots, for every family."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import every_operation
import mapix
from mapix import notebook, text
from mapix.batch import Batch
from mapix.columns import Column
from mapix.drawing import thumbnail
from mapix.drawing.scaling import brightened
from mapix.iid import Writer
from mapix.iid.overlay import GROUND, colours_of, overlay
from mapix.report import Report
from mapix.selection import spread
from test_drawing import decoded

VARIANTS = (
    *("vimh indexed", "vimh pickle", "iid plain", "iid joined", "idx words", "idx gz", "npz"),
    *("coco annotations", "joined", "pink data", "pink rot", "vimh mixed"),
)
FAMILIES = [
    name
    for name, family in every_operation.families().items()
    if family.ops and (every_operation.ALL or name not in VARIANTS)
]


@pytest.fixture(scope="module", params=FAMILIES)
def opened(request, tmp_path_factory) -> Any:
    """A dataset of each family, as test_every_operation makes it."""
    family = every_operation.families()[request.param]
    try:
        return family.open(family.make(tmp_path_factory.mktemp("family")))
    except ImportError as e:
        pytest.skip(f"needs {e.name}")


class Page(HTMLParser):
    """The elements of HTML; it fails where they are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[np.ndarray] = []
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        source = dict(attributes).get("src")
        if source is not None:
            head, data = source.split(",")
            assert head == "data:image/png;base64"
            self.pictures.append(decoded(base64.b64decode(data)))
        if tag not in ("img", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("img", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "|".join(self.texts)


KNOWN = {"div", "b", "span", "img", "table", "tr", "th", "td", "svg", "title", "rect"}


def check_repr(x: Any) -> str:
    found = repr(x)
    assert 1 <= len(found.splitlines()) <= 5
    assert found.startswith("<")
    assert found.endswith(">")
    assert "array(" not in found
    assert len(found) < 1500
    return found


# --- every family ---------------------------------------------------------------------------------


def test_repr_of_datasets_states_type_path_and_number(opened):
    for ds in (opened, opened[1:4]):
        found = check_repr(ds)
        assert type(ds).__name__ in found
        assert opened.path in found
        assert f"{len(ds):,}" in found or " x ".join(map(str, ds.som_shape)) in found
        for name in list(ds._shown_names())[:3]:
            assert name in found
        if ds.FAMILY == "vimh":
            assert all(name in found for name in ds.heads)


def test_html_of_datasets(opened):
    for ds in (opened, opened[1:2]):
        page = Page(ds._repr_html_())
        assert page.tags <= KNOWN
        assert "not shown" not in page.text
        assert opened.path in page.text
        rows = ds._rows_of(spread(len(ds), 16)).tolist()
        drawn = brightened([ds._drawing(row, notebook.SIDE) for row in rows])[0]
        overview = ds._overview()
        at = 0 if overview is None else 1
        assert len(page.pictures) == at + (0 if drawn is None else min(len(ds), 16))
        if drawn is not None:
            np.testing.assert_array_equal(page.pictures[at], drawn)
        if overview is not None:
            np.testing.assert_array_equal(page.pictures[0], overview[0])
        for name in notebook.sampled(ds)[0]:
            assert name in page.text
    n = len(opened)
    if len(opened.columns):
        stated = f"of all {n:,} records" if n <= 256 else f"of 256 of {n:,} records, spread evenly"
        assert stated in Page(opened._repr_html_()).text


def test_html_and_repr_of_records(opened):
    record = opened[3]
    if isinstance(record, np.ndarray | np.void):
        pytest.skip("records are arrays of numpy")
    assert re.search(r"(Record|Segment|CocoImage|CocoAnnotation) 3\b", check_repr(record))
    page = Page(record._repr_html_())
    assert "not shown" not in page.text
    assert page.tags <= KNOWN
    drawn = opened._drawing(3, notebook.LARGE_SIDE)
    assert len(page.pictures) == (drawn is not None)


def test_thumbnails_are_those_of_the_pixels(opened):
    image = opened._image(5)
    drawn = opened._drawing(5, 40)
    if image is None or opened.FAMILY in ("pink", "folder"):  # in colours, with boxes
        return
    np.testing.assert_array_equal(drawn, thumbnail(image, 40))


def test_a_closed_dataset_is_shown_as_closed(opened):
    again = every_operation.pickle.loads(every_operation.pickle.dumps(opened))
    again.close()
    assert "closed" in check_repr(again)
    page = Page(again._repr_html_())
    assert "closed" in page.text
    assert not page.pictures


def test_batches_are_shown(opened):
    if opened.NO_BATCH or opened._image(0) is None:
        return
    options = {} if opened.image_shape is not None else {"pad": True}
    batch = opened.batch([0, 3, 5], **options)
    assert f"images {batch.images.dtype} {batch.images.shape}" in check_repr(batch)
    page = Page(batch._repr_html_())
    assert len(page.pictures) == 3 * (batch.images.ndim < 5)


def test_statistics_are_shown(opened):
    found = opened[:9].statistics()
    assert "9 records" in check_repr(found)
    for s in found.columns.values():
        assert s.name in check_repr(s)
    page = Page(found._repr_html_())
    assert page.tags <= KNOWN
    assert page.text.count("not shown") == 0
    for name in found.columns:
        assert name in page.text


# --- what is bounded ------------------------------------------------------------------------------


def shard(path: Path, n: int, json_of: Any) -> Path:
    with tarfile.open(path, "w") as out:
        for k in range(n):
            for name, data in (("json", json.dumps(json_of(k)).encode()), ("cls", b"%d" % (k % 7))):
                info = tarfile.TarInfo(f"{k:05d}.{name}")
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
    return path


def test_only_a_sample_is_read(tmp_path, monkeypatch):
    ds = mapix.open(shard(tmp_path / "s.tar", 1000, lambda k: {"k": k}))
    from mapix.tar.open_shard import OpenShard

    read, seen = OpenShard.read, []
    monkeypatch.setattr(
        OpenShard, "read", lambda self, m, *a: (seen.append(m), read(self, m, *a))[1]
    )
    repr(ds)
    assert len(seen) < 8
    page = Page(ds._repr_html_())
    assert len(seen) < 4 * 256
    assert "of 256 of 1,000 records, spread evenly" in page.text
    assert re.search(r"k\|int64\|0 to 999", page.text)
    joined = mapix.open([tmp_path / "s.tar"] * 3)
    seen.clear()
    assert "of 256 of 3,000 records" in Page(joined._repr_html_()).text
    assert len(seen) < 4 * 256


def test_columns_that_take_long_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "SAMPLE_SECONDS", 0)
    ds = mapix.open(shard(tmp_path / "s.tar", 9, lambda k: {"k": k}))
    found = Page(ds._repr_html_()).text
    assert "not read within the time for this: key, cls, k" in found


def test_large_images_are_not_drawn(tmp_path):
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (2, 9000, 9000))
    assert not Page(mapix.open(tmp_path / "a.npy")._repr_html_()).pictures


# --- what is hostile ------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>\x1b[2J\u202e\n'\"&"


def test_names_are_escaped(tmp_path):
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    ds = mapix.open(shard(folder / "s.tar", 4, lambda k: {EVIL: EVIL}))
    for html in (ds._repr_html_(), ds[0]._repr_html_(), ds.statistics()._repr_html_()):
        page = Page(html)
        assert page.tags <= KNOWN
        assert not page.pictures
        assert "\x1b" not in html
        assert "\u202e" not in html
    for found in (ds, ds[0], ds.statistics(), ds.columns):
        assert "\x1b" not in repr(found)
    with Writer(tmp_path / "a.iid", {}) as out:
        out.add(EVIL, EVIL, np.ones((2, 2), bool))
    archive = mapix.open(tmp_path / "a.iid")
    for html in (archive._repr_html_(), archive[0]._repr_html_()):
        assert Page(html).tags <= KNOWN
        assert "\x1b" not in html
    assert "\x1b" not in repr(archive[0])


def test_errors_are_shown_and_not_raised(tmp_path):
    path = shard(tmp_path / "s.tar", 40, lambda k: {"k": k})
    ds = mapix.open(path)
    record = ds[3]
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[:1000])
    for found in (repr(ds), repr(record)):
        assert found.startswith("<")
    for html in (ds._repr_html_(), record._repr_html_()):
        page = Page(html)
        assert "not shown" in page.text
        assert "s.tar" in page.text


def test_a_record_that_cannot_be_described_is_stated():
    class Broken:
        @text.never_failing
        def __repr__(self) -> str:
            raise mapix.FileChangedError("x.bin: it was cut")

    assert repr(Broken()) == "<Broken cannot be read: x.bin: it was cut>"


# --- pictures -------------------------------------------------------------------------------------


class Labelled:
    """A dataset of two labels; the names of the classes of one of them are known."""

    def _label_names(self):
        return ["kind", "note"]

    def _class_names(self):
        return {"kind": ("cat", "dog")}

    def _rows_of(self, indices):
        return indices

    def _sample(self, rows):
        kinds = Column("kind", np.array([1, 2, 0]), np.array([True, True, False]))
        return {"kind": kinds, "note": Column("note", np.array([51, 52, 53]))}


def test_captions_name_classes():
    found = notebook.captions(Labelled(), np.arange(3), [10, 11, 12])
    assert found == ["10\ndog\n51 note", "11\n2 kind\n52 note", "12: 53 note"]


def test_captions_of_a_folder_of_classes(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        image.new("L", (4, 4)).save(tmp_path / name / "a.png")
    ds = mapix.open(tmp_path)
    assert [line for _, line in notebook.thumbnails(ds, 16)] == ["0: cat", "1: dog"]
    twice = mapix.open([tmp_path, tmp_path])
    assert notebook.captions(twice, np.array([3]), [3]) == ["3: dog"]


def test_show_puts_records_side_by_side(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow: pip install 'mapix[images]'")
    images = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([7, 8, 9]))
    ds = mapix.open(tmp_path / "a.npz")
    found = ds.show([2, 0], size=16, columns=2)
    assert found.mode == "RGB"
    assert found.size == (8 + 2 * 24, 8 + 16 + 10 + 8)
    pixels = np.asarray(found)
    for k, row in enumerate((2, 0)):
        wanted = images[row].repeat(4, 0).repeat(4, 1)
        place = pixels[8:24, 8 + 24 * k : 24 + 24 * k]
        np.testing.assert_array_equal(place, np.dstack([wanted] * 3))
    assert [line for _, line in notebook.thumbnails(ds, 16)] == ["0: 7", "1: 8", "2: 9"]
    with pytest.raises(IndexError):
        ds.show([3])


def test_a_missing_library_is_one_line_that_names_the_extra(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 3), np.uint8))
    ds = mapix.open(tmp_path / "a.npy")
    for name in ("PIL", "PIL.Image", "matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(mapix.UnsupportedError, match=r"^Pillow is needed.*mapix\[images\]'$"):
        ds.show()
    assert len(Page(ds._repr_html_()).pictures) == 2  # pages need none
    stats = mapix.open(shard(tmp_path / "s.tar", 3, lambda k: {"k": k})).statistics()
    with pytest.raises(mapix.UnsupportedError, match=r"^matplotlib is needed.*mapix\[view\]'$"):
        stats.plot()


@pytest.fixture
def archive(tmp_path):
    with Writer(tmp_path / "a.iid", {"image": {"width": 6, "height": 5}}) as out:
        out.add("d", "large", np.ones((4, 4), bool))
        out.add("d", "small", np.ones((2, 2), bool), at=(1, 1))
    return mapix.open(tmp_path / "a.iid")


def test_overlay_draws_small_segments_over_large_ones(archive):
    red, green = colours_of([0, 1]).tolist()
    drawn = overlay(archive, outlines=False)
    want = np.full((5, 6, 3), GROUND)
    want[:4, :4] = red
    want[1:3, 1:3] = green
    np.testing.assert_array_equal(drawn, want)
    image = np.full((5, 6), 100, np.uint8)
    drawn = overlay(archive, image, [1], opacity=0.25, outlines=False)
    assert drawn[0, 0].tolist() == [100] * 3
    assert drawn[1, 1].tolist() == [int(0.75 * 100 + 0.25 * c) for c in green]
    edges = overlay(archive, image, opacity=0) < 100
    changes = np.zeros((5, 6), bool)
    labels = archive.paint(order="area")
    changes[1:] |= labels[1:] != labels[:-1]
    changes[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    np.testing.assert_array_equal(edges.all(axis=2), changes)
    part = overlay(archive, image, bbox=(1, 1, 3, 6), outlines=False)
    np.testing.assert_array_equal(part, overlay(archive, image, outlines=False)[1:3, 1:6])
    for bad in (np.zeros(3), np.zeros((1, 2, 3, 4))):
        with pytest.raises(ValueError, match=r"an image is \(h, w\)"):
            overlay(archive, bad)
    with pytest.raises(ValueError, match="does not cover the box"):
        overlay(archive, image, bbox=(0, 0, 9, 9))
    with pytest.raises(ValueError, match="opacity"):
        overlay(archive, image, opacity=2)


def test_overlay_refuses_the_image_of_another_archive(tmp_path):
    with mapix.iid.Writer(tmp_path / "a.iid", {"image": {"height": 6, "width": 8}}) as out:
        out.add("d", "i", np.ones((2, 2)))
    a = mapix.open(tmp_path / "a.iid")
    assert a.overlay(np.zeros((6, 8), np.uint8)).size == (8, 6)
    with pytest.raises(ValueError, match="of an image of 6 x 8, got one of 7 x 8"):
        a.overlay(np.zeros((7, 8), np.uint8))


def test_overlay_in_stripes_is_the_same(archive, monkeypatch):
    module = sys.modules["mapix.iid.overlay"]
    wanted = overlay(archive)
    monkeypatch.setattr(module, "STEP_ROWS", 2)
    np.testing.assert_array_equal(overlay(archive), wanted)


def test_overlay_is_a_picture(archive):
    pytest.importorskip("PIL", reason="needs Pillow: pip install 'mapix[images]'")
    np.testing.assert_array_equal(np.asarray(archive.overlay()), overlay(archive))
    image = np.random.default_rng(0).random((5, 6, 3))
    np.testing.assert_array_equal(
        np.asarray(archive.overlay(image, [0], bbox=(0, 0, 2, 2), opacity=1, outlines=False)),
        np.broadcast_to(colours_of([0]), (2, 2, 3)),
    )


def test_plots_have_the_counts(tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
    matplotlib.use("agg")
    words = ["a", "b $x$", "c"]
    ds = mapix.open(shard(tmp_path / "s.tar", 60, lambda k: {"w": words[k * k % 3], "x": k / 7}))
    stats = ds.statistics()
    figure = stats.plot("cls", "w", "x")
    heights = [[bar.get_height() for bar in axis.patches] for axis in figure.axes[:3]]
    assert heights[0] == np.bincount(np.arange(60) % 7).tolist()
    assert heights[1] == [20, 40]
    assert heights[2] == np.histogram(np.arange(60) / 7, 32)[0].tolist()
    assert [axis.get_title() for axis in figure.axes[:3]] == ["cls", "w", "x"]
    figure.savefig(tmp_path / "x.png")
    with pytest.raises(KeyError):
        stats.plot("no such column")


# --- other objects --------------------------------------------------------------------------------


def test_other_objects_are_short(archive, tmp_path):
    found = [archive.masks(), archive.overlaps(), mapix.iid.label_map(archive), archive.groups]
    found += [archive[0].regions[0], archive.columns, archive.columns["area"]]
    found += [mapix.iid.diff(archive, archive)]
    np.save(tmp_path / "a.npy", np.zeros((20, 3, 3), np.uint8))
    ds = mapix.open(tmp_path / "a.npy")
    found += [ds.placement(), ds.verify(), ds.statistics().pixels, mapix.Loader(ds, 4, seed=3)]
    for x in found:
        check_repr(x)
    assert "bool (20,)" in repr(archive.masks())
    assert "5 batches of 4, shuffled, epoch 0" in repr(mapix.Loader(ds, 4))
    assert "a.npy: 20 records" in repr(ds.verify())
    assert "no problems" in repr(ds.verify())


def test_reports_state_their_first_problems():
    report = Report("x", 3, 9, ["all"], [f"problem {k}" for k in range(9)])
    assert repr(report).splitlines() == [
        "<Report x: 3 records, 1 check, 9 problems",
        "  problem 0",
        "  problem 1",
        "  problem 2",
        "  6 other problems>",
    ]


def test_batches_of_any_layout_are_drawn():
    rng = np.random.default_rng(1)
    images = rng.random((2, 5, 6, 3), np.float32)
    low, high = float(images.min()), float(images.max())
    shapes = np.zeros((2, 3), np.uint16)
    for array in (images, images.transpose(0, 3, 1, 2)):
        batch = Batch(
            array, np.array([[1, 2], [3, 4]]), np.array([[1, 1], [0, 1]], bool), shapes, None, None,
            ("a", "b"),
        )  # fmt: skip
        page = Page(batch._repr_html_())
        for found, image in zip(page.pictures, images, strict=True):
            wanted = thumbnail(image, notebook.SIDE, value_range=(low, high))
            np.testing.assert_array_equal(found, wanted)
        assert "1 a|2 b|4 b" in page.text


def test_batches_of_few_values_are_drawn_with_contrast(tmp_path):
    images = np.zeros((2, 4, 5), np.uint8)
    images[0, 1, 2], images[1, 3, 4] = 16, 8
    np.save(tmp_path / "a.npy", images)
    batch = mapix.open(tmp_path / "a.npy").batch([0, 1])
    shown = [picture for picture, _ in notebook._of_batch(batch)]
    assert [picture.max() for picture in shown] == [255, 127]
