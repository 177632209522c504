"""Relocatable ELF objects as records (System V gABI, chapter 4, "Object Files").

    object     = machine flags (section) (symbol) relocations by section (group)
    relocation = offset in its section | type | symbol's index | addend

Everything that the records say of places lies inside of the object: offsets, names and indices are
checked once, here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ferrule.base.errors import CompileError

PROGBITS, SYMTAB, STRTAB, RELA, HASH, DYNAMIC, NOTE, NOBITS, REL, DYNSYM = (
    *range(1, 10), 11,
)  # fmt: skip
GROUP, CREL, GNU_HASH = 17, 0x40000014, 0x6FFFFFF6
WRITE, ALLOC, EXEC, TLS, COMPRESSED = 1, 2, 4, 0x400, 0x800  # flags of sections
LOCAL, GLOBAL, WEAK = 0, 1, 2  # bindings of symbols
NOTYPE, OBJECT, FUNC, SECTION = 0, 1, 2, 3  # types of symbols
UNDEFINED, RESERVED = 0, 0xFF00  # sections of symbols

_RELOCATABLE, _COMDAT = 1, 1
_HEADER, _SECTION, _SYMBOL, _RELA = (
    struct.Struct(f) for f in ("<16sHHIQQQIHHHHHH", "<IIQQQQIIQQ", "<IBBHQQ", "<QQq")
)


class Relocation(NamedTuple):
    """A place in a section that depends on where a symbol will lie."""

    offset: int
    kind: int
    symbol: int
    addend: int


class Symbol(NamedTuple):
    """A name for a place: `value` bytes into the section of that index. Its kind is NOTYPE, .."""

    name: str
    value: int
    size: int
    binding: int
    kind: int
    section: int


@dataclass(frozen=True)
class Section:
    """A section; `data` is empty where its kind is NOBITS."""

    name: str
    kind: int
    flags: int
    size: int
    alignment: int
    data: bytes


@dataclass(frozen=True)
class Object:
    """A relocatable object. `groups` are the COMDAT groups: a name, and the sections of which one
    object's are to be kept.
    """

    machine: int
    flags: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    relocations: Mapping[int, tuple[Relocation, ...]]
    groups: tuple[tuple[str, tuple[int, ...]], ...]


def read_object(code: bytes) -> Object:
    """The object in `code`. Raises CompileError where it is no ELF64 little-endian relocatable
    object, or is damaged.
    """
    try:
        return _Reader(code).read()
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise CompileError(f"a damaged object file: {error}") from error


class _Header(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


class _Reader:
    """What the functions that read an object share: its bytes and its table of sections."""

    def __init__(self, code: bytes) -> None:
        if code[:7] != b"\x7fELF\x02\x01\x01":
            raise CompileError("no object file of ELF64, little-endian, which was expected")
        _, kind, self.machine, _, _, _, at, self.flags, _, _, _, size, count, names = (
            _HEADER.unpack_from(code)
        )
        if kind != _RELOCATABLE:
            raise CompileError(f"an ELF file of type {kind}, and not a relocatable object (1)")
        if size != _SECTION.size or not count:
            raise ValueError(f"it has {count} section headers of {size} bytes")
        self.code = code
        self.headers = [_Header(*_SECTION.unpack_from(code, at + k * size)) for k in range(count)]
        self.names = self.bytes_of(self.headers[names])

    def read(self) -> Object:
        tables = [k for k, h in enumerate(self.headers) if h.kind == SYMTAB]
        if len(tables) > 1:
            raise ValueError(f"it has {len(tables)} symbol tables")
        symbols = self.symbols(self.headers[tables[0]]) if tables else ()
        relocations = self.relocations(tables, len(symbols))
        sections = tuple(self.section(h) for h in self.headers)
        return Object(
            self.machine, self.flags, sections, symbols, relocations, self.groups(symbols)
        )

    def bytes_of(self, header: _Header) -> bytes:
        end = header.offset + header.size
        if end > len(self.code):
            raise ValueError(f"a section ends at byte {end} of {len(self.code)}")
        return self.code[header.offset : end]

    def section(self, header: _Header) -> Section:
        alignment = max(header.alignment, 1)
        if alignment & (alignment - 1):
            raise ValueError(f"a section is aligned to {alignment} bytes")
        data = self.bytes_of(header) if header.flags & ALLOC and header.kind != NOBITS else b""
        name = _name(self.names, header.name)
        return Section(name, header.kind, header.flags, header.size, alignment, data)

    def symbols(self, table: _Header) -> tuple[Symbol, ...]:
        names, found = self.bytes_of(self.headers[table.link]), []
        for name, info, _, section, value, size in _SYMBOL.iter_unpack(self.bytes_of(table)):
            if section < RESERVED and section:
                end = self.headers[section].size
                if value + size > end:
                    raise ValueError(f"a symbol ends at byte {value + size} of a section of {end}")
            text = _name(names, name) if name else ""
            found.append(Symbol(text, value, size, info >> 4, info & 15, section))
        return tuple(found)

    def relocations(self, tables: list[int], count: int) -> Mapping[int, tuple[Relocation, ...]]:
        found: dict[int, tuple[Relocation, ...]] = {}
        for header in self.headers:
            if header.kind not in (RELA, REL, CREL) or not self.headers[header.info].flags & ALLOC:
                continue
            if header.kind != RELA:
                raise CompileError("an object with relocations that have no addends, or are packed")
            if [header.link] != tables:
                raise ValueError(f"section {header.link} is no symbol table of relocations")
            size, more = self.headers[header.info].size, []
            for offset, info, addend in _RELA.iter_unpack(self.bytes_of(header)):
                if info >> 32 >= count or offset > size:
                    raise ValueError(f"a relocation of byte {offset} by symbol {info >> 32}")
                more.append(Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend))
            found[header.info] = (*found.get(header.info, ()), *more)
        return found

    def groups(self, symbols: tuple[Symbol, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        found = []
        for header in self.headers:
            if header.kind != GROUP:
                continue
            (flags,), *members = struct.iter_unpack("<I", self.bytes_of(header))
            if any(m >= len(self.headers) for (m,) in members):
                raise ValueError("a group of sections that are not there")
            if flags & _COMDAT:
                found.append((symbols[header.info].name, tuple(m for (m,) in members)))
        return tuple(found)


def _name(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()
