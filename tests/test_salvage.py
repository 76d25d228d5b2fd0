"""``mapix repair`` of tar shards, TFRecord files and JSON lines: complete records are saved."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

import mapix
from mapix.__main__ import main
from mapix.folder.salvage import repair as repair_lines
from mapix.salvage import Saved
from mapix.tar.salvage import repair as repair_tar
from mapix.tfrecord.salvage import repair as repair_tfrecord
from test_tfrecord import record

END = bytes(1024)


def check(saved: Saved, old: Path, kept: list[tuple[int, int]], nrecords: int, tail=b"") -> None:
    """The new file has these bytes of the old one; the others are lost, or of damaged records."""
    data = old.read_bytes()
    assert Path(saved.path).read_bytes() == b"".join(data[a:b] for a, b in kept) + tail
    assert saved.nbytes == len(Path(saved.path).read_bytes())
    assert saved.nrecords == nrecords
    at, lost = 0, []
    for a, b in [*kept, (len(data), len(data))]:
        lost += [(at, a)] if at < a else []
        at = b
    assert saved.lost == lost
    Path(saved.path).unlink()


# --- tar ------------------------------------------------------------------------------------------


def tar_of(path: Path, members: list[tuple[str, int]], **how) -> list[int]:
    """Write members, of a name and a size; return where each begins, and where the last ends."""
    with tarfile.open(path, "w", **how) as out:
        begins = []
        for name, size in members:
            begins.append(out.offset)
            info = tarfile.TarInfo(name)
            info.size = size
            out.addfile(info, io.BytesIO(bytes(k % 251 for k in range(size))))
        return [*begins, out.offset]


LONG = "b" * 120  # has a header of its own before it
KEYS = ("a", LONG, "c", "d")
MEMBERS = [(f"{key}.{end}", size) for key in KEYS for end, size in (("x", 1), ("y", 700))]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_shards_that_were_cut(tmp_path, format):
    path, new = tmp_path / "x.tar", tmp_path / "new.tar"
    at = tar_of(path, MEMBERS, format=format)
    whole = path.read_bytes()
    check(repair_tar(path, new), path, [(0, len(whole))], 4)
    for cut in range(at[1], at[8] + 512, 256):
        path.write_bytes(whole[:cut])
        m = sum(end <= cut for end in at[1:])  # complete members
        named = m < 8 and at[m] + (1536 if LONG in MEMBERS[m][0] else 512) <= cut
        if cut == at[m] or (named and m % 2 == 0):  # the next record has begun
            n, end = (m + 1) // 2, at[m]
        else:  # the next member might belong to the last record
            n, end = (m - 1) // 2, at[(m - 1) // 2 * 2]
        if n:
            check(repair_tar(path, new), path, [(0, end)], n, END)
        else:
            with pytest.raises(mapix.FormatError, match="no complete record"):
                repair_tar(path, new)
            assert not new.exists()


def test_tar_shards_with_a_damaged_header(tmp_path):
    path, new = tmp_path / "x.tar", tmp_path / "new.tar"
    at = tar_of(path, [(f"{key}.{end}", 600) for key in "abcdef" for end in "xy"])
    whole = path.read_bytes()
    for m in range(12):
        broken = bytearray(whole)
        broken[at[m] + 150] ^= 0xFF
        path.write_bytes(broken)
        before = (m - 1) // 2 if m else 0  # complete records before the gap
        after = (m + 1) // 2 + 1 if m < 11 else 6
        kept = [(0, at[2 * before])] if before else []
        kept += [(at[2 * after], len(whole))] if m < 11 else []
        check(repair_tar(path, new), path, kept, before + 6 - after, b"" if m < 11 else END)


def test_the_repaired_shard_opens(tmp_path, capsys):
    path, new = tmp_path / "x.tar", tmp_path / "new.tar"
    at = tar_of(path, MEMBERS)
    path.write_bytes(path.read_bytes()[: at[7] + 30])
    assert main(["info", str(path)]) == 1
    assert "; `mapix repair` saves the complete records\n" in capsys.readouterr().err
    assert main(["repair", str(path), str(new)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{new}: 3 records, {at[6] + 1024:,} bytes",
        f"  lost: bytes {at[6]} to {at[7] + 30} ({at[7] + 30 - at[6]:,} bytes)",
    ]
    with mapix.open(new) as ds:
        assert [r.key for r in ds] == ["a", LONG, "c"]
    assert main(["verify", str(new)]) == 0


# --- TFRecord -------------------------------------------------------------------------------------


DATA = [bytes([k]) * (5 + 40 * k) for k in range(7)]


def test_every_damaged_byte_of_a_tfrecord_file(tmp_path):
    path, new = tmp_path / "x.tfrecord", tmp_path / "new"
    edges = [0]
    for data in DATA:
        edges.append(edges[-1] + len(record(data)))
    whole = b"".join(map(record, DATA))
    path.write_bytes(whole)
    check(repair_tfrecord(path, new), path, [(0, len(whole))], 7)
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        k = sum(edge <= at for edge in edges) - 1
        saved = repair_tfrecord(path, new)
        in_header = at < edges[k] + 12
        assert saved.damaged == ([] if in_header else [k])
        kept = [(a, b) for a, b in ((0, edges[k]), (edges[k + 1], len(whole))) if a < b]
        check(saved, path, kept, 6)
    for cut in range(edges[1], len(whole), 11):
        path.write_bytes(whole[:cut])
        n = sum(edge <= cut for edge in edges) - 1
        check(repair_tfrecord(path, new), path, [(0, edges[n])], n)


def test_records_after_overwritten_stretches(tmp_path, monkeypatch):
    monkeypatch.setattr("mapix.tfrecord.salvage.STEP_NBYTES", 16)
    path, new = tmp_path / "x.tfrecord", tmp_path / "new"
    parts = [record(data) for data in DATA]
    for filler in (bytes(333), b"\xff" * 101, record(b"x" * 50)[:-20]):
        path.write_bytes(b"".join(parts[:2]) + filler + b"".join(parts[2:]))
        begin = len(parts[0] + parts[1])
        kept = [(0, begin), (begin + len(filler), path.stat().st_size)]
        saved = repair_tfrecord(path, new)
        check(saved, path, kept, 7)


# --- JSON lines -----------------------------------------------------------------------------------


def test_broken_lines(tmp_path, capsys):
    lines = [json.dumps({"file_name": f"{k}.png", "label": k}).encode() + b"\n" for k in range(6)]
    bad = {1: b'{"file_name": "1.png", "label"\n', 3: b"\xff\xfe\n", 4: b"[1, 2]\n"}
    path, new = tmp_path / "metadata.jsonl", tmp_path / "new.jsonl"
    path.write_bytes(b"".join(bad.get(k, line) for k, line in enumerate(lines)) + b'{"file_na')
    assert main(["repair", str(path), str(new)]) == 1
    assert new.read_bytes() == lines[0] + lines[2] + lines[5]
    assert capsys.readouterr().out.count("lost: bytes") == 3
    new.unlink()
    path.write_bytes(b"".join(lines))
    check(repair_lines(path, new), path, [(0, len(b"".join(lines)))], 6)
    path.write_bytes(b"no JSON\n")
    with pytest.raises(mapix.FormatError, match="no complete record"):
        repair_lines(path, new)
    path.write_bytes(b"".join(lines))
    (tmp_path / "0.png").touch()
    assert main(["repair", str(tmp_path), str(new)]) == 2
    assert "pass the path of that file" in capsys.readouterr().err
    assert not new.exists()
