"""Photographs, encoded, into batches of 224 x 224: beside Pillow, OpenCV and simplejpeg."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import mapix
import mapix.folder
from comparison.report import Goal, Report
from comparison.rounds import Case, seconds, told
from data_files import FOLDER, photograph, refill

MOST, SIDE = 256, 224
SIZES = ((480, 640), (768, 1024))
DISTANCE = 6  # mean difference of bytes: peers scale in other ways


def _count() -> int:
    return max(16, min(MOST, int(os.environ.get("MAPIX_BENCH_RECORDS", "300000")) // 1000))


def photos() -> Path:
    """JPEGs of two sizes, soft shapes with noise, quality 88: 110 and 270 KB."""
    n = _count()
    path = FOLDER / f"photos-{n}"
    if path.exists():
        return path
    told(f"making {path.name}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    with mapix.folder.Writer(path) as out:
        for k in range(n):
            image = photograph(rng, SIZES[k % 2], grey_noise=True)
            out.append(f"{k:04}.jpg", image, save={"quality": 88})
    return path


def _by(one: Callable[[bytes], Any], paths: list[Path], threads: int) -> Any:
    def read(path: Path) -> Any:
        return one(path.read_bytes())

    if threads == 1:
        return np.stack([read(path) for path in paths])
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(read, paths)))


def _peers() -> tuple[dict[str, Callable[[bytes], Any]], dict[str, str]]:
    """Return functions from a file's bytes to (224, 224, 3), and those that are left out."""
    import io

    from PIL import Image

    def pillow(data: bytes, draft: bool) -> Any:
        picture = Image.open(io.BytesIO(data))
        if draft:
            picture.draft("RGB", (SIDE, SIDE))
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    found = {
        "Pillow, draft": lambda data: pillow(data, True),
        "Pillow": lambda data: pillow(data, False),
    }
    left_out = {}
    try:
        import cv2

        cv2.setNumThreads(1)
        found["OpenCV, reduced"] = lambda data: cv2.cvtColor(
            cv2.resize(
                cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_2),
                (SIDE, SIDE),
                interpolation=cv2.INTER_AREA,
            ),
            cv2.COLOR_BGR2RGB,
        )
        import simplejpeg

        found["simplejpeg and OpenCV"] = lambda data: cv2.resize(
            simplejpeg.decode_jpeg(data, min_height=SIDE, min_width=SIDE),
            (SIDE, SIDE),
            interpolation=cv2.INTER_AREA,
        )
    except ImportError as e:
        left_out["OpenCV, simplejpeg"] = str(e)
    return found, left_out


def formats(report: Report) -> None:
    """PNG and WebP of 640 x 480 and 1024 x 768: a record's array, beside decoders alone."""
    import io

    from PIL import Image

    sources = [Image.open(photos() / f"{k:04}.jpg").convert("RGB") for k in range(16)]
    for title, options in {
        "PNG": {"format": "PNG"},
        "WebP": {"format": "WEBP", "quality": 85},
        "WebP, lossless": {"format": "WEBP", "lossless": True},
    }.items():
        path = FOLDER / f"photos-{title.replace(', ', '-').lower()}"
        if not path.exists():
            with mapix.folder.Writer(path) as out:
                for k, source in enumerate(sources):
                    data = io.BytesIO()
                    source.save(data, **options)
                    out.append(f"{k:04}.{title[:4].lower()}", data.getvalue())
        ds = mapix.open(path)
        files = [record.read() for record in ds]
        ways: dict[str, Callable[[bytes], Any]] = {
            "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)))
        }
        left_out = {}
        try:
            import cv2

            ways["OpenCV"] = lambda data: cv2.cvtColor(
                cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
            )
        except ImportError as e:
            left_out["OpenCV"] = str(e)
        try:
            import imagecodecs

            ways["imagecodecs"] = getattr(imagecodecs, f"{title[:4].lower().strip(',')}_decode")
        except ImportError as e:
            left_out["imagecodecs"] = str(e)
        for name, one in ways.items():
            if not all(
                np.array_equal(one(d), r.image) for d, r in zip(files[:4], ds, strict=False)
            ):
                raise AssertionError(f"{name}: other pixels of {title}")
        cases = [
            Case("mapix", lambda ds=ds: seconds(lambda: [r.image for r in ds]) / len(ds)),
            *(
                Case(name, lambda o=one, f=files: seconds(lambda: [o(d) for d in f]) / len(f))
                for name, one in ways.items()
            ),
        ]
        report.table(
            f"{title} of 640 x 480 and 1024 x 768 to an array ({_decoder(ds)}), a picture",
            *("ms", "Pillow", cases, [Goal("mapix", "at most", 1.1, "imagecodecs")], left_out),
            rounds=min(report.rounds, 7),
        )


def measure(report: Report, long: bool) -> None:
    """Tables: milliseconds for each photograph."""
    del long
    try:
        from PIL import Image  # noqa: F401
    except ImportError:
        report.show("\nphotographs: LEFT OUT: Pillow is not installed")
        return
    folder = photos()
    refill(folder)
    ds = mapix.open(folder)
    rows = range(len(ds))
    paths = [folder / ds[k].file_name for k in rows]
    options: dict[str, Any] = {"size": (SIDE, SIDE), "fit": "resize", "mode": "RGB"}
    floats = {"dtype": "float32", "layout": "NCHW", "scale": 1 / 255, "mean": 0.5, "std": 0.25}
    peers, left_out = _peers()
    want = ds.batch(rows, draft=True, **options).images
    for name, one in peers.items():
        distance = np.abs(_by(one, paths, 1).astype(np.int16) - want)
        if distance.mean() > DISTANCE or (name == "Pillow, draft" and distance.max() > 1):
            raise AssertionError(f"{name}: other pixels, {distance.mean():.2f} apart")

    def case(name: str, work: Callable[[], object]) -> Case:
        return Case(name, lambda: seconds(work) / len(paths))

    cases = []
    for threads in (1, 2):
        more = f", {threads} threads" if threads > 1 else ""
        for name, given in {
            "mapix, draft": {"draft": True},
            "mapix": {},
            "mapix, draft, floats": {"draft": True, **floats},
        }.items():
            given = {**options, **given, "threads": threads}
            cases.append(case(f"{name}{more}", lambda g=given: ds.batch(rows, **g)))
        for name, one in peers.items():
            cases.append(case(f"{name}{more}", lambda o=one, t=threads: _by(o, paths, t)))
    best = "simplejpeg and OpenCV"
    report.table(
        f"{len(paths)} JPEGs of 640 x 480 and 1024 x 768 to 224 x 224 ({_decoder(ds)}), a picture",
        "ms",
        "Pillow, draft",
        cases,
        [
            Goal("mapix, draft", "faster", 1.03, best),
            Goal("mapix, draft, 2 threads", "faster", 1.07, f"{best}, 2 threads"),
            Goal("mapix, draft", "faster", 1.34, "Pillow, draft"),
            Goal("mapix, draft, 2 threads", "faster", 1.54, "Pillow, draft, 2 threads"),
        ],
        left_out,
        rounds=min(report.rounds, 9),
    )
    formats(report)


def _decoder(ds: Any) -> str:
    return str(ds.explain(0)["decodes"])
