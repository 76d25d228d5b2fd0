"""Small files that ask for much, each tried in a process of its own: ``python bombs_folder.py``.

Prints a JSON object: case -> seconds of CPU, bytes of memory, and what came of it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL.GifImagePlugin
import PIL.TiffImagePlugin
import PIL.WebPImagePlugin  # noqa: F401
from PIL import Image

import mapix
import mapix.folder
from mapix.folder import lint
from mapix.pictures.decoding import pillow

NBYTES = (1 << 20) - 100


def fill(head: bytes, unit: bytes, tail: bytes) -> bytes:
    return head + unit * ((NBYTES - len(head) - len(tail)) // len(unit)) + tail


def lines() -> Iterator[tuple[str, bytes]]:
    begin = b'{"file_name":"a.png","x":['
    for name, unit in (
        ("lists", b"[],"),
        ("objects", b"{},"),
        ("objects of one key", b'{"":0},'),
        ("lists of lists", b"[" * 300 + b"]" * 300 + b","),
        ("floats", b"1e5,"),
        ("texts", b'"ab",'),
        ("digits", b"9" * 4299 + b","),
        ("boxes in them", b"[1,1,1,1],"),
    ):
        yield name, fill(begin, unit, b"0]}")
    yield "deep", b'{"file_name":"a.png","x":' + b"[" * 900 + b"]" * 900 + b"}"
    yield "one number", b'{"file_name":"a.png","x":' + b"9" * 1_000_000 + b"}"
    yield "categories", fill(b'{"file_name":"a.png","categories":[', b"999,", b"0]}")
    yield "categories of text", fill(b'{"file_name":"a.png","categories":[', b'"ab",', b'"c"]}')
    boxes = b'{"file_name":"a.png","objects":{"categories":[],"bbox":['
    yield "boxes", fill(boxes, b"[1,1,1,1] ,", b"[1,1,1,1]]}}")
    keys = b",".join(b'"%x":0' % k for k in range(100_000))
    yield "keys", b'{"file_name":"a.png",' + keys + b"}"
    yield "a key twice", b'{"file_name":"a.png",' + keys + b',"1869f":1}'
    names = b",".join(b'"%x_file_name":"a.png"' % k for k in range(36_000))
    yield "names", b"{" + names + b',"file_name":"a.png"}'
    yield "filepath", fill(b'{"filepath":"', b"a/", b'a.png","size":3}')
    yield "name", fill(b'{"file_name":"', b"./", b'a.png"}')
    yield "escapes", fill(b'{"file_name":"a.png","caption":"', b"\\ud83d\\ude00", b'"}')


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w: int, h: int, *more: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">2I5B", w, h, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(20)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + data + chunk(b"IEND", b"")


def tiff(ifds: Callable[[list[bytes], int], bytes]) -> bytes:
    """One grey pixel, and directories after it."""
    tags = [
        (256, 1),
        (257, 1),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 1),
    ]
    packed = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + ifds(packed, 16)


def ifd(tags: list[bytes], after: int) -> bytes:
    return struct.pack("<H", len(tags)) + b"".join(tags) + struct.pack("<I", after)


def many(tags: list[bytes], at: int) -> bytes:
    size = len(ifd(tags, 0))
    n = (NBYTES - at) // size
    return b"".join(ifd(tags, at + (k + 1) * size if k < n - 1 else 0) for k in range(n))


def tiny(tags: list[bytes], at: int) -> bytes:
    first = at + len(ifd(tags, 0))
    n = (NBYTES - first) // 6
    rest = b"".join(ifd([], first + 6 * (k + 1) if k < n - 1 else 0) for k in range(n))
    return ifd(tags, first) + rest


def tagged(tags: list[bytes], at: int) -> bytes:
    return ifd(tags + [struct.pack("<HHII", 1000 + k, 4, 1, k) for k in range(47_000)], 0)


def gif(side: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return fill(head, b",\0\0\0\0\1\0\1\0\0\x02\x02D\x01\0", b";")


def jpeg(*more: bytes) -> bytes:
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "JPEG")
    return out.getvalue()[:2] + b"".join(more) + out.getvalue()[2:]


def exif(n: int) -> bytes:
    tags = b"".join(struct.pack("<HHII", k, 4, 1, 0) for k in range(n))
    return b"II*\0" + struct.pack("<IH", 8, n) + tags + bytes(4)


def pictures() -> Iterator[tuple[str, bytes]]:
    yield "PNG of 2.5 gigapixels", png(50_000, 50_000)
    text = zlib.compress(bytes(1 << 20), 9)
    yield "PNG with texts", png(4, 4, *[chunk(b"zTXt", b"k\0\0" + text)] * 900)
    yield (
        "PNG with a profile",
        png(4, 4, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(500 << 20)))),
    )
    yield "PNG of chunks", png(4, 4, *[chunk(b"aaAa", b"")] * 80_000)
    yield "PNG with EXIF", png(4, 4, chunk(b"eXIf", exif(65_535)))
    yield "APNG", png(1, 1, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))
    yield "TIFF of pages", tiff(many)
    yield "TIFF of empty pages", tiff(tiny)
    yield "TIFF that is its own next page", tiff(lambda tags, at: ifd(tags, at))
    yield "TIFF of tags", tiff(tagged)
    yield "GIF of frames", gif(1)
    yield "GIF of 4 gigapixels", gif(65_535)
    yield (
        "JPEG with EXIF",
        jpeg(b"\xff\xe1" + struct.pack(">H", 60_024) + b"Exif\0\0" + exif(4_998)),
    )
    yield "JPEG with comments", jpeg(b"\xff\xfe\0\x03a" * 200_000)
    icons = b"".join(struct.pack("<BBBBHHII", 1, 1, 0, 0, 1, 32, 40, 4) for _ in range(65_535))
    yield "ICO", b"\0\0\1\0" + struct.pack("<H", 65_535) + icons
    yield "PPM of comments", b"P6\n" + b"#" * 1_000_000 + b"\n1 1 255\n\0\0\0"
    yield "plain PPM", fill(b"P3 400 400 255\n", b"1 ", b"")
    head = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 8, 0, 0, 0, 0, 0, 0)
    yield "BMP of 3.6 gigapixels", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head + bytes(1000)


def read_line(folder: str) -> None:
    with mapix.open(folder) as ds:
        record = ds[0]
        _ = record.metadata, record.caption, record.categories, record.objects
        ds.find("x")


def read_picture(folder: str) -> None:
    with mapix.open(folder) as ds:
        _ = ds[0].image


def measured(act: Callable[[str], object], folder: str) -> tuple[float, int, str]:
    """CPU seconds, bytes and outcome of an act, in a child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, came = time.process_time(), "done"
        try:
            act(folder)
        except Exception as e:
            came = f"{type(e).__name__}: {e}"[:300]
        seconds = time.process_time() - began
        nbytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        os.write(write, json.dumps([seconds, nbytes, came]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        data = f.read()
    os.waitpid(pid, 0)
    return tuple(json.loads(data)) if data else (0.0, 0, "it died")


def main(place: str) -> None:
    pillow().init()
    found = {}
    for kind, cases, acts in (
        ("line", lines(), {"read": read_line, "lint": lint}),
        ("picture", pictures(), {"read": read_picture, "lint": lint}),
    ):
        for name, data in cases:
            assert len(data) <= 1 << 20, name
            folder = Path(place) / f"{kind} {name}"
            folder.mkdir()
            if kind == "line":
                Image.new("L", (4, 4)).save(folder / "a.png")
                (folder / "metadata.jsonl").write_bytes(data + b"\n")
            else:
                (folder / "p").write_bytes(data)
                (folder / "metadata.jsonl").write_text('{"file_name": "p"}\n')
            for what, act in acts.items():
                found[f"{kind}: {name}: {what}"] = measured(act, str(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
