"""The contract, over a server of ranges: nothing reads a block that is not there.

Each dataset is opened with an empty mirror, so that each block is a hole when it is first needed.
A hole raises SIGBUS: a read that is not prepared for it ends the process.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix import iid, pink
from mapix.remote import objects
from mapix.testing import FormatTests
from range_server import serving
from slow_vimh import Slow
from test_idx import write as write_idx
from test_safetensors import file_of
from test_tar import npy
from test_tfrecord import message
from test_tfrecord import record as tf_record

pytestmark = pytest.mark.slow  # test_remote.py has a part of it

ROWS = np.random.default_rng(0).integers(0, 256, (24, 20, 30, 3), np.uint8)


class Remote(FormatTests):
    """Samples are of several pages, so that there are blocks without a byte of a record."""

    MAX_SAMPLE_NBYTES = 1 << 20
    test_things_that_are_no_files = None  # a server serves files
    test_damaged_files = None  # test_remote.py has servers that send other bytes

    @pytest.fixture(autouse=True)
    def served(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(objects, "FIRST_NBYTES", 1)
        with serving(tmp_path) as server:
            self.server = server
            yield

    def url(self, path: Path) -> str:
        return f"{self.server.url}/{path.name}"

    def open(self, path: Path) -> Any:
        shutil.rmtree(os.path.join(os.environ["MAPIX_CACHE_DIR"], "remote"), ignore_errors=True)
        return mapix.open(self.url(path))

    def bytes_of(self, path: str) -> bytes:
        return (self.server.folder / path.rpartition("/")[2]).read_bytes()

    def read_slowly(self, data: bytes) -> list[Any] | None:
        path = Path(os.environ["MAPIX_CACHE_DIR"]) / self.NAME
        path.write_bytes(data)
        return self.content(mapix.open(path))

    def test_views_of_all_need_all_bytes(self, path: Path) -> None:
        ds = self.open(path)
        for view in self.views_of_all(ds):
            with pytest.raises(mapix.UnsupportedError, match=r"ds\.warm\(\)"):
                view()
        ds.warm()
        for view, want in zip(
            self.views_of_all(ds), self.views_of_all(mapix.open(path)), strict=True
        ):
            np.testing.assert_array_equal(view(), want())

    def views_of_all(self, ds: Any) -> list[Any]:
        return []


class Rows(Remote):
    def content(self, dataset: Any) -> list[Any]:
        return [row.tolist() for row in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        return [dataset[0]]

    def views_of_all(self, ds: Any) -> list[Any]:
        return [ds.view]


class TestNpy(Rows):
    NAME = "rows.npy"

    def sample(self, folder: Path) -> Path:
        np.save(folder / self.NAME, ROWS.astype(">i2"))
        return folder / self.NAME


class TestIdx(Rows):
    NAME = "rows.idx"

    def sample(self, folder: Path) -> Path:
        write_idx(folder / self.NAME, ROWS.astype(np.int16))
        return folder / self.NAME


class TestPink(Rows):
    NAME = "rows.bin"

    def sample(self, folder: Path) -> Path:
        pink.write_data(folder / self.NAME, ROWS[..., 0].astype(np.float32))
        return folder / self.NAME


class TestSafetensors(Rows):
    NAME = "rows.safetensors"

    def sample(self, folder: Path) -> Path:
        path = folder / self.NAME
        path.write_bytes(file_of({"x": ROWS.astype("<i2")}))
        return path


class Vimh(Remote):
    NAME = "train"
    mixed = False

    def sample(self, folder: Path) -> Path:
        records = []
        for i in range(24):
            h = 20 + i % 5 if self.mixed else 20
            pixels = np.random.default_rng(i).integers(0, 256, (3, h, 30), np.uint8)
            records.append(Slow(h, 30, 3, [(0, i), (1, 7)], pixels.tobytes(), (0.0, 1.0)).pack())
        (folder / self.NAME).write_bytes(b"".join(records))
        return folder / self.NAME

    def content(self, dataset: Any) -> list[Any]:
        return [
            (r.image.tolist(), r.label_bytes.tolist(), r.label_ids.tolist(), r.labels, r.spec_range)
            for r in dataset
        ]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        return [record.image, record.label_bytes, record.label_ids]


class TestVimhUniform(Vimh):
    def views_of_all(self, ds: Any) -> list[Any]:
        return [lambda: ds.images, lambda: ds.label_bytes, lambda: ds.label_ids]


class TestVimhMixed(Vimh):
    mixed = True


class TestVimhIndexed(TestVimhUniform):
    indexed = True

    def sample(self, folder: Path) -> Path:
        path = super().sample(folder)
        os.utime(path, ns=(10**18 + 1, 10**18 + 1))
        mapix.index(path)
        return path


class TestVimhMixedIndexed(TestVimhIndexed):
    mixed = True

    def views_of_all(self, ds: Any) -> list[Any]:
        return []


class TestIid(Remote):
    NAME = "masks.iid"

    def sample(self, folder: Path) -> Path:
        path = folder / self.NAME
        rng = np.random.default_rng(1)
        with iid.Writer(path, {"image": {"width": 300, "height": 300}}) as out:
            for k in range(40):
                mask = rng.random((90 + k, 85)) > 0.4
                out.add("d", f"n{k}", mask, at=(4 * k, 3 * k), groups=["g"] if k % 3 else [])
        return path

    def content(self, dataset: Any) -> list[Any]:
        archive = getattr(dataset, "archive", dataset)
        assert archive.meta
        names = {name: group.keys.tolist() for name, group in archive.groups.items()}
        return [
            (s.domain, s.iid, s.bbox, s.area, [r.bbox for r in s.regions], s.mask().tolist(), names)
            for s in dataset
        ]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        return [record.bits, dataset.groups["g"].keys]

    def test_queries_are_those_of_the_file(self, path: Path) -> None:
        asked = [
            lambda a: a.find("d", "n7").tolist(),
            lambda a: a.at(70, 60).tolist(),
            lambda a: a.bboxes.tolist(),
            lambda a: a.areas.tolist(),
            lambda a: a.groups["g"].keys.tolist(),
            lambda a: [m.tolist() for m in a.masks([3, 17])],
            lambda a: str(a.overlaps()),
        ]
        local = mapix.open(path)
        for ask in asked:
            assert ask(self.open(path)) == ask(local)


class TestIdxPacked(Rows):
    NAME = "rows.idx.gz"

    def sample(self, folder: Path) -> Path:
        write_idx(folder / "rows.idx", ROWS)
        path = folder / self.NAME
        path.write_bytes(gzip.compress((folder / "rows.idx").read_bytes(), mtime=0))
        return path

    test_a_closed_dataset_says_so = None  # its error names the file of unpacked bytes

    def bytes_of(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def views_of_all(self, ds: Any) -> list[Any]:
        return []  # unpacked bytes are local


class TestTar(Remote):
    NAME = "shard.tar"

    def sample(self, folder: Path) -> Path:
        with tarfile.open(folder / self.NAME, "w") as out:
            for k, row in enumerate(ROWS):
                for end, data in ((".npy", npy(row)), (".cls", b"%d" % (k % 3)), (".txt", b"x")):
                    info = tarfile.TarInfo(f"d/{k}{end}")
                    info.size = len(data)
                    out.addfile(info, io.BytesIO(data))
        return folder / self.NAME

    def content(self, dataset: Any) -> list[Any]:
        return [
            (r.key, r["npy"].tolist(), {x: bytes(v) for x, v in r.members.items()}) for r in dataset
        ]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        return [record["npy"], *(np.frombuffer(v, np.uint8) for v in record.members.values())]


class TestTfrecord(Remote):
    NAME = "rows.tfrecord"

    def sample(self, folder: Path) -> Path:
        path = folder / self.NAME
        shape = {"height": [20], "width": [30], "depth": [3]}
        features = (
            {"image_raw": [row.tobytes()], **shape, "label": [k]} for k, row in enumerate(ROWS)
        )
        path.write_bytes(b"".join(tf_record(message(some)) for some in features))
        return path

    def content(self, dataset: Any) -> list[Any]:
        return [(bytes(r.bytes), r.image.tolist(), r["label"].tolist()) for r in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        return [record.image, np.frombuffer(record.bytes, np.uint8)]


class TestCoco(Remote):
    NAME = "instances.json"

    def sample(self, folder: Path) -> Path:
        images = [{"id": k, "height": 9, "width": 8, "note": "x" * 700} for k in range(30)]
        polygon = [[1, 1, 5, 1, 5, 6]]
        boxes = [
            {"id": k, "image_id": k % 30, "bbox": [1, 1, 4, 5], "segmentation": polygon}
            for k in range(90)
        ]
        text = json.dumps({"images": images, "annotations": boxes, "categories": []})
        (folder / self.NAME).write_text(text)
        return folder / self.NAME

    def content(self, dataset: Any) -> list[Any]:
        return [[r.metadata, r.target] for r in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        _ = dataset.columns["id"]  # there are no views
        return []


class TestFolder(Remote):
    NAME = "metadata.jsonl"

    @pytest.fixture(autouse=True)
    def _pillow(self) -> None:
        pytest.importorskip("PIL", reason="pictures need Pillow")

    def sample(self, folder: Path) -> Path:
        from PIL import Image

        lines = []
        for k, row in enumerate(ROWS):
            Image.fromarray(row).save(folder / f"{k}.png")
            lines.append(json.dumps({"file_name": f"{k}.png", "label": k, "text": "x" * 700}))
        (folder / self.NAME).write_text("\n".join(lines))
        return folder / self.NAME

    def content(self, dataset: Any) -> list[Any]:
        return [(r.metadata, r.image.tolist()) for r in dataset]

    def read_slowly(self, data: bytes) -> list[Any] | None:
        return self.content(mapix.open(self.server.folder / self.NAME))

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        return [np.frombuffer(record.bytes, np.uint8)]


class TestArrow(Remote):
    NAME = "rows.arrow"

    def sample(self, folder: Path) -> Path:
        pytest.importorskip("pyarrow")
        np.save(folder / "rows.npy", ROWS)
        mapix.convert(folder / "rows.npy", folder / self.NAME, lossy=True)
        return folder / self.NAME

    def content(self, dataset: Any) -> list[Any]:
        return [np.asarray(r.image).tolist() for r in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        dataset.batch([0])  # there are no views
        return []


del Remote, Rows, Vimh  # base classes, which pytest must not collect
