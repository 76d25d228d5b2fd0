"""The journal of an append: what is in it, and when it is believed.

The sums are worked out here by the polynomial, a bit at a time, so that a journal that both writes
and checks a wrong sum is seen.
"""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import pytest

from mapix.store import SYSTEM
from mapix.vimh import journal
from mapix.vimh.appending import Appending
from mapix.vimh.journal import counting, journal_of, pending
from records import crc32c

OLD = bytes(range(256)) * 40  # more than the 4096 bytes that a journal sums up
NEW = b"new bytes"


def a_journal(old: bytes) -> bytes:
    """The journal of a file whose first bytes were ``old`` when somebody began to append."""
    fields = struct.pack("<8sQI", b"MAPIXAPP", len(old), crc32c(old[-4096:]) if old else 0)
    return fields + struct.pack("<I", crc32c(fields))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file whose last bytes were appended by a writer that died; its journal is not there yet."""
    path = tmp_path / "train"
    path.write_bytes(OLD + NEW)
    return path


def recovered(path: Path) -> bytes:
    """The file after the next writer has come and gone."""
    Appending(str(path)).close()
    return path.read_bytes()


def test_crc32c_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, len(OLD)])
def test_what_is_written(tmp_path: Path, length: int) -> None:
    path = tmp_path / "train"
    path.write_bytes(OLD[:length])
    out = Appending(str(path))
    out.write(NEW)
    assert Path(journal_of(str(path))).read_bytes() == a_journal(OLD[:length])
    assert pending(str(path)) == length
    out.commit()
    assert pending(str(path)) is None
    assert path.read_bytes() == OLD[:length] + NEW
    out.close()


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, len(OLD)])
def test_a_journal_of_this_file_is_believed(path: Path, length: int) -> None:
    Path(journal_of(str(path))).write_bytes(a_journal(OLD[:length]))
    assert pending(str(path)) == length
    assert recovered(path) == OLD[:length]
    assert not Path(journal_of(str(path))).exists()


def test_a_journal_with_any_bit_changed_is_not_believed(path: Path) -> None:
    good = a_journal(OLD)
    assert counting(good) == len(OLD)
    for bit in range(8 * len(good)):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        Path(journal_of(str(path))).write_bytes(changed)
        assert counting(bytes(changed)) is None, bit
        assert pending(str(path)) is None, bit
    assert recovered(path) == OLD + NEW


@pytest.mark.parametrize("wrong", ["the sum of the tail", "the sum of the fields", "both"])
def test_a_journal_with_a_wrong_sum_is_not_believed(path: Path, wrong: str) -> None:
    fields = a_journal(OLD)[:20]
    if wrong != "the sum of the fields":
        fields = fields[:16] + struct.pack("<I", crc32c(OLD[-4096:]) ^ 1)
    end = crc32c(fields) if wrong == "the sum of the tail" else crc32c(fields) ^ 1
    Path(journal_of(str(path))).write_bytes(fields + struct.pack("<I", end))
    assert pending(str(path)) is None
    assert recovered(path) == OLD + NEW


def test_every_byte_of_the_tail_counts(path: Path) -> None:
    """The last 4096 bytes before the length: a file that differs in one is another file."""
    Path(journal_of(str(path))).write_bytes(a_journal(OLD))
    begin = len(OLD) - 4096
    for at, believed in (
        (begin - 1, True),
        (begin, False),
        (len(OLD) - 1, False),
        (len(OLD), True),
    ):
        data = bytearray(OLD + NEW)
        data[at] ^= 1
        path.write_bytes(data)
        assert (pending(str(path)) is not None) == believed, at


@pytest.mark.parametrize("less", [1, 4, 24])
def test_a_journal_of_another_length_is_none(path: Path, less: int) -> None:
    good = a_journal(OLD)
    for data in (good[:-less], good + bytes(less)):
        Path(journal_of(str(path))).write_bytes(data)
        assert pending(str(path)) is None
    assert recovered(path) == OLD + NEW


def test_a_file_shorter_than_its_journal_says(path: Path) -> None:
    Path(journal_of(str(path))).write_bytes(a_journal(OLD))
    path.write_bytes(OLD)
    assert pending(str(path)) == len(OLD)
    path.write_bytes(OLD[:-1])
    assert pending(str(path)) is None
    assert recovered(path) == OLD[:-1]


def test_a_file_may_grow_while_its_journal_is_compared(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = path.stat().st_size
    journal_of_path = Path(journal_of(str(path)))
    journal_of_path.write_bytes(journal.packed(length, path.read_bytes()[-journal.TAIL_NBYTES :]))
    tail, grown = journal.tail, []

    def later(*given: Any) -> bytearray:
        with path.open("ab") as file:
            grown.append(file.write(b"more"))
        return tail(*given)

    monkeypatch.setattr(journal, "tail", later)
    assert pending(str(path)) == length
    assert grown


def test_appending_does_not_follow_a_link(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(OLD)
    link.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links") as caught:
        SYSTEM.append(str(link))
    assert caught.value.errno == errno.ELOOP


def test_a_link_that_comes_after_the_lock_is_not_followed(path: Path) -> None:
    """Somebody puts a link in the place of the file: what it leads to stays as it is."""
    victim = path.with_name("victim")
    victim.write_bytes(OLD + NEW)
    out = Appending(str(path))
    path.rename(path.with_name("moved"))
    path.symlink_to(victim)
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on what is looked at first
        out.write(b"!")
    with pytest.raises(OSError):  # noqa: PT011
        out.write(b"!")
    assert victim.read_bytes() == OLD + NEW
    assert path.with_name("moved").read_bytes() == OLD + NEW
    out.close()


def test_the_parts_of_the_format() -> None:
    assert (journal.MAGIC, journal.TAIL_NBYTES) == (b"MAPIXAPP", 4096)
    assert journal_of("/a/train") == "/a/.train.appending"
