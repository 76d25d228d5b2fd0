"""The compiled modules as files: protected stacks, checked copies, read-only addresses."""

from __future__ import annotations

import importlib.util
import platform
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PT_LOAD, PT_DYNAMIC, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 0x6474E551, 0x6474E552
PF_X, PF_W = 1, 2
DT_STRTAB, DT_SYMTAB, DT_BIND_NOW, DT_FLAGS, DT_FLAGS_1 = 5, 6, 24, 30, 0x6FFFFFFB
DT_HASH, DT_GNU_HASH, DT_VERSYM = 4, 0x6FFFFEF5, 0x6FFFFFF0
TABLES = (DT_STRTAB, DT_HASH, DT_GNU_HASH, DT_VERSYM)
DF_BIND_NOW, DF_1_NOW = 8, 1
SYMBOL_NBYTES = 24


@dataclass
class Elf:
    """What a 64-bit little-endian shared object tells the loader."""

    data: bytes
    segments: list[tuple[int, ...]] = field(default_factory=list)
    dynamic: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.data[:6] == b"\x7fELF\x02\x01"
        table_at, step, n = (
            *struct.unpack_from("<Q", self.data, 32),
            *struct.unpack_from("<HH", self.data, 54),
        )
        for i in range(n):
            kind, flags, at, vaddr, _, nbytes = struct.unpack_from(
                "<IIQQQQ", self.data, table_at + i * step
            )
            self.segments.append((kind, flags, at, vaddr, nbytes))
        ((at, nbytes),) = [(s[2], s[4]) for s in self.segments if s[0] == PT_DYNAMIC]
        for k in range(at, at + nbytes, 16):
            tag, value = struct.unpack_from("<QQ", self.data, k)
            if tag == 0:
                break
            self.dynamic[tag] = value

    def flags_of(self, kind: int) -> list[int]:
        return [s[1] for s in self.segments if s[0] == kind]

    def at(self, vaddr: int) -> int:
        return next(
            s[2] + vaddr - s[3]
            for s in self.segments
            if s[0] == PT_LOAD and 0 <= vaddr - s[3] < s[4]
        )

    def symbols(self) -> set[str]:
        """Names in the dynamic symbol table, which ends where another table begins.

        Which one that is differs among linkers.
        """
        table = self.dynamic[DT_SYMTAB]
        after = min(v for tag in TABLES if (v := self.dynamic.get(tag, 0)) > table)
        begin, end, strings = map(self.at, (table, after, self.dynamic[DT_STRTAB]))
        names = set()
        for k in range(begin, end - SYMBOL_NBYTES + 1, SYMBOL_NBYTES):
            name_at = strings + struct.unpack_from("<I", self.data, k)[0]
            names.add(self.data[name_at : self.data.index(b"\0", name_at)].decode())
        return names


def built(name: str) -> Elf:
    """The file of a module, if it is one that can be checked."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} was not built")
    data = Path(spec.origin).read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        pytest.skip(f"{spec.origin} is not a 64-bit little-endian ELF file")
    elf = Elf(data)
    if any(name.startswith(("__asan_", "__ubsan_", "__tsan_")) for name in elf.symbols()):
        pytest.skip("built with a sanitizer, which checks by itself")
    return elf


@pytest.fixture(params=["mapix._core", "mapix._record"])
def elf(request: pytest.FixtureRequest) -> Elf:
    return built(request.param)


def test_the_stack_is_not_executable(elf: Elf) -> None:
    (flags,) = elf.flags_of(PT_GNU_STACK)
    assert not flags & PF_X


def test_no_memory_is_both_writable_and_executable(elf: Elf) -> None:
    loads = elf.flags_of(PT_LOAD)
    assert any(flags & PF_X for flags in loads)
    assert not any(flags & PF_X and flags & PF_W for flags in loads)


def test_addresses_are_resolved_when_loaded_and_then_read_only(elf: Elf) -> None:
    assert len(elf.flags_of(PT_GNU_RELRO)) == 1
    now = elf.dynamic.get(DT_FLAGS, 0) & DF_BIND_NOW or elf.dynamic.get(DT_FLAGS_1, 0) & DF_1_NOW
    assert now or DT_BIND_NOW in elf.dynamic


def test_stacks_are_protected(elf: Elf) -> None:
    assert "__stack_chk_fail" in elf.symbols()


def test_copies_are_checked() -> None:
    """_FORTIFY_SOURCE, seen in _core alone: _record has no call that it could check."""
    names = built("mapix._core").symbols()
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("a C library without checked calls")
    assert any(name.startswith("__") and name.endswith("_chk") for name in names), sorted(names)


def test_the_core_allocates_nothing() -> None:
    """So no ``malloc`` can fail in it: what it needs is allocated by Python."""
    names = built("mapix._core").symbols()
    assert "memcpy" in names
    assert not names & {"malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "free"}
