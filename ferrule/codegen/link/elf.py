"""A shared library out of relocatable objects: what `ld -shared` does, for such objects as LLVM
makes of our programs, on x86-64, AArch64 and 64-bit RISC-V.

    library = headers, tables, constants | code | sealed: tables of addresses | variables

Sources are the System V gABI (chapters 4 and 5: "Object Files", "Program Loading and Dynamic
Linking") and the supplement of each architecture. `read` takes objects apart, `gather` finds what
their names mean, `layout` gives places, and here these are filled in.

What the library exports is bound within it: nobody puts another function in its place. What it
imports the loader finds when it opens the library. An imported function is called through a stub,
an imported variable through a slot. Addresses in data are written by the loader, so they stand in
what can be written: constants that have some lie in `.data.rel.ro`, which is sealed after that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ferrule.base.errors import CompileError
from ferrule.codegen.link import layout, read, tables
from ferrule.codegen.link.gather import FRAMES, Aim, Fix, Gathered, Spot, Where, gather
from ferrule.codegen.link.layout import Layout, Part, lay_out, written
from ferrule.codegen.link.machine import OutOfRange, Want

_WORD = 8
_RELA, _DYNAMIC = struct.Struct("<QQq"), struct.Struct("<QQ")
_NEEDED, _HASH, _STRTAB, _SYMTAB, _RELA_AT, _RELA_SIZE, _RELA_ENTRY = 1, 4, 5, 6, 7, 8, 9
_STRTAB_SIZE, _SYMBOL_SIZE, _SONAME, _GNU_HASH, _RELATIVE_COUNT = 10, 11, 14, 0x6FFFFEF5, 0x6FFFFFF9
_A, _AW, _AX = read.ALLOC, read.ALLOC | read.WRITE, read.ALLOC | read.EXEC
_FLAGS_1, _NO_DELETE = 0x6FFFFFFB, 8
_SYMBOL_BYTES = 24
_NO_MORE_FRAMES = bytes(4)


def shared_library(
    objects: Sequence[bytes],
    exports: Sequence[str],
    soname: str,
    imports: Sequence[str] = (),
    needed: Sequence[str] = (),
    resident: bool = False,
) -> bytes:
    """The bytes of a shared library that is made of relocatable ELF64 little-endian `objects` and
    lets others see `exports` alone. Equal objects give equal bytes.

    `imports` are the names that objects may use without defining them, `needed` the libraries that
    a loader opens along with this one. A `resident` library stays in its process when it is closed,
    as one must that has threads.

    Raises CompileError for a damaged object; for objects of several machines or an unknown one; for
    a name that is defined twice, or not at all; for relocations that are not known, do not reach
    their aim, or belong to code at a fixed address; for constructors and variables of threads.
    """
    for name in (soname, *exports, *imports, *needed):
        if not name or "\0" in name:
            raise CompileError(f"{name!r} is no name for a library or a symbol")
    gathered = gather(objects, imports)
    return _Library.of(gathered, exports, soname, needed, resident).written()


@dataclass(frozen=True)
class _Library:
    """A library in the making. `bases` are the addresses of the objects' sections.

    `slots` and `stubs` count what is reached through them, `symbols` are the dynamic symbols:
    `imported` ones and then exports.
    """

    gathered: Gathered
    layout: Layout
    bases: Mapping[Where, int]
    slots: Mapping[Aim, int]
    stubs: Mapping[str, int]
    imported: int
    symbols: tuple[str, ...]
    strings: tuple[bytes, dict[str, int]]
    soname: str
    needed: Sequence[str]
    resident: bool

    @staticmethod
    def of(
        gathered: Gathered, exports: Sequence[str], soname: str, needed: Sequence[str],
        resident: bool,
    ) -> _Library:
        _check_exports(gathered, exports)
        calls = [f.aim for f in gathered.wanting(Want.CALL) if isinstance(f.aim, str)]
        slots = dict.fromkeys((*(f.aim for f in gathered.wanting(Want.SLOT)), *calls))
        words = [f.aim for f in gathered.wanting(Want.WORD)]
        imported = sorted({a for a in (*slots, *words) if isinstance(a, str)})
        symbols = (*imported, *tables.gnu_order(exports))
        strings = tables.strings((soname, *needed, *symbols))
        offsets, sizes = _arranged(gathered)
        sizes |= {
            ".hash": len(tables.hash_table(symbols)),
            ".gnu.hash": len(tables.gnu_hash_table(symbols[len(imported) :], 1 + len(imported))),
            ".dynsym": _SYMBOL_BYTES * (1 + len(symbols)),
            ".dynstr": len(strings[0]),
            ".rela.dyn": _RELA.size * (len(slots) + len(words)),
            ".plt": gathered.machine.stub_size * len(set(calls)),
            ".got": _WORD * len(slots),
        }
        placed = lay_out(gathered.machine, _groups(gathered, sizes, len(needed) + resident))
        return _Library(
            gathered, placed,
            {w: placed.places[gathered.pieces[w]].address + at for w, at in offsets.items()},
            {aim: k for k, aim in enumerate(slots)},
            {name: k for k, name in enumerate(dict.fromkeys(calls))},
            len(imported), symbols, strings, soname, needed, resident,
        )  # fmt: skip

    def written(self) -> bytes:
        """The file."""
        make: dict[str, Callable[[], bytes]] = {
            ".hash": lambda: tables.hash_table(self.symbols),
            ".gnu.hash": self._gnu_hash,
            ".dynsym": self._dynamic_symbols,
            ".dynstr": lambda: self.strings[0],
            ".rela.dyn": self._relocations,
            ".eh_frame_hdr": self._frames_header,
            ".plt": self._stubs,
            ".got": self._slots,
            ".dynamic": self._dynamic,
        }
        parts = {n: p.part for n, p in self.layout.places.items() if p.part.kind != read.NOBITS}
        sums = {n: bytearray(part.size) for n, part in parts.items() if n not in make}
        for where, name in self.gathered.pieces.items():
            if name in sums:
                data, at = self._filled(where), self.bases[where] - self.address(name)
                sums[name][at : at + len(data)] = data
        contents = {n: bytes(sums[n]) if n in sums else make[n]() for n in parts}
        return written(self.layout, self.gathered.flags, contents, self._names())

    def address(self, part: str) -> int:
        """Where a part of the library begins."""
        return self.layout.places[part].address

    def aim(self, aim: Aim) -> int:
        """The address of what is aimed at: the thing itself, or the stub of an import."""
        if isinstance(aim, Spot):
            return self.bases[aim.object, aim.section] + aim.offset
        return self.address(".plt") + self.stubs[aim] * self.gathered.machine.stub_size

    def slot(self, aim: Aim) -> int:
        """The address of the slot that holds an address."""
        return self.address(".got") + self.slots[aim] * _WORD

    def _value(self, fix: Fix) -> int:
        """The number that a relocation asks for; 0 for an import's address, which the loader
        writes.
        """
        if fix.rule.want is Want.SLOT:
            return self.slot(fix.aim) + fix.addend
        if fix.rule.want is Want.WORD and isinstance(fix.aim, str):
            return 0
        return self.aim(fix.aim) + fix.addend

    def _filled(self, where: Where) -> bytearray:
        """A section with its relocations applied."""
        data, base = bytearray(self.gathered.section(where).data), self.bases[where]
        for fix in self.gathered.fixes.get(where, ()):
            offset, rule, aim, _ = fix
            place, end = base + offset, offset + rule.width
            number = int.from_bytes(data[offset:end], "little")
            try:
                if rule.want is Want.PAIR:
                    number = rule.put(number, self._upper(aim), 0)
                else:
                    number = rule.put(number, self._value(fix), place)
            except OutOfRange as error:
                raise CompileError(f"{self._named(where, fix)}: {error}") from error
            number &= (1 << 8 * rule.width) - 1
            data[offset:end] = number.to_bytes(rule.width, "little")
        return data

    def _upper(self, spot: Aim) -> int:
        """The distance that the relocation at a spot asks for, of whose lower bits another wants
        to know.
        """
        assert isinstance(spot, Spot)
        upper = self.gathered.uppers.get(spot)
        if upper is None:
            raise OutOfRange("no relocation for the upper bits stands where it points")
        return self._value(upper) - self.aim(spot)

    def _named(self, where: Where, fix: Fix) -> str:
        name = self.gathered.section(where).name
        return f"object {where[0]}, {name}+{fix.offset:#x}: {fix.rule.name}"

    def _gnu_hash(self) -> bytes:
        return tables.gnu_hash_table(self.symbols[self.imported :], 1 + self.imported)

    def _dynamic_symbols(self) -> bytes:
        found, at = bytearray(_SYMBOL_BYTES), self.strings[1]
        for name in self.symbols[: self.imported]:
            found += tables.symbol(at[name], read.GLOBAL, read.NOTYPE, read.UNDEFINED, 0, 0)
        for name in self.symbols[self.imported :]:
            found += self._symbol(at[name], read.GLOBAL, *self.gathered.defined[name])
        return bytes(found)

    def _symbol(self, name: int, binding: int, symbol: read.Symbol, spot: Spot) -> bytes:
        number = self.layout.places[self.gathered.pieces[spot.object, spot.section]].number
        return tables.symbol(name, binding, symbol.kind, number, self.aim(spot), symbol.size)

    def _relocations(self) -> bytes:
        """What the loader does: first, as loaders like it, what needs no symbol."""
        machine, numbers = self.gathered.machine, {n: k for k, n in enumerate(self.symbols, 1)}
        found = []
        for place, aim, addend, kind in self._loaded():
            if isinstance(aim, Spot):
                found.append((0, place, machine.relative, self.aim(aim) + addend))
            else:
                found.append((numbers[aim], place, kind, addend))
        found.sort()
        return b"".join(_RELA.pack(at, n << 32 | kind, a) for n, at, kind, a in found)

    def _loaded(self) -> Iterator[tuple[int, Aim, int, int]]:
        """The places where the loader writes an address: place, aim, addend, type for an import."""
        machine = self.gathered.machine
        for aim in self.slots:
            yield self.slot(aim), aim, 0, machine.slot
        for where, fixes in self.gathered.fixes.items():
            for fix in fixes:
                if fix.rule.want is Want.WORD:
                    yield self.bases[where] + fix.offset, fix.aim, fix.addend, machine.word

    def _frames_header(self) -> bytes:
        """A pointer to `.eh_frame`, with no table of it: who unwinds the stack reads all of that
        (Linux Standard Base, "Exception Frames").
        """
        distance = self.address(FRAMES) - self.address(".eh_frame_hdr") - 4
        return b"\x01\x1b\xff\xff" + struct.pack("<i", distance)

    def _stubs(self) -> bytes:
        machine, names = self.gathered.machine, self.stubs
        return b"".join(machine.stub(self.aim(name), self.slot(name)) for name in names)

    def _slots(self) -> bytes:
        aims = (self.aim(a) if isinstance(a, Spot) else 0 for a in self.slots)
        return b"".join(a.to_bytes(_WORD, "little") for a in aims)

    def _dynamic(self) -> bytes:
        parts, at = self.layout.places, self.strings[1]
        entries = [(_NEEDED, at[name]) for name in self.needed]
        entries += [(_FLAGS_1, _NO_DELETE)] if self.resident else []
        entries += [(_SONAME, at[self.soname]), (_HASH, self.address(".hash"))]
        entries += [(_GNU_HASH, self.address(".gnu.hash")), (_STRTAB, self.address(".dynstr"))]
        entries += [(_SYMTAB, self.address(".dynsym")), (_STRTAB_SIZE, len(self.strings[0]))]
        entries += [(_SYMBOL_SIZE, _SYMBOL_BYTES)]
        if ".rela.dyn" in parts:
            own = sum(isinstance(aim, Spot) for _, aim, _, _ in self._loaded())
            entries += [(_RELA_AT, self.address(".rela.dyn"))]
            entries += [(_RELA_SIZE, parts[".rela.dyn"].part.size), (_RELA_ENTRY, _RELA.size)]
            entries += [(_RELATIVE_COUNT, own)]
        return b"".join(_DYNAMIC.pack(*e) for e in (*entries, (0, 0)))

    def _names(self) -> list[tuple[Part, bytes]]:
        """The symbol table for people: what debuggers and profilers call functions."""
        exported = frozenset(self.symbols[self.imported :])
        local: list[tuple[read.Symbol, Spot]] = []
        shared: list[tuple[read.Symbol, Spot]] = []
        for k, code in enumerate(self.gathered.objects):
            for symbol in code.symbols:
                place = k, symbol.section
                if symbol.kind not in (read.FUNC, read.OBJECT) or place not in self.bases:
                    continue
                spot = Spot(*place, symbol.value)
                own = symbol.binding == read.LOCAL
                if own or self.gathered.defined[symbol.name][1] == spot:
                    known = not own and symbol.name in exported
                    (shared if known else local).append((symbol, spot))
        table, at = tables.strings(s.name for s, _ in (*local, *shared))
        entries = bytearray(_SYMBOL_BYTES)
        for binding, some in ((read.LOCAL, local), (read.GLOBAL, shared)):
            for symbol, spot in some:
                entries += self._symbol(at[symbol.name], binding, symbol, spot)
        part = Part(
            ".symtab", read.SYMTAB, 0, _WORD, len(entries), _SYMBOL_BYTES, ".strtab", 1 + len(local)
        )
        return [(part, bytes(entries)), (Part(".strtab", read.STRTAB, 0, 1, len(table)), table)]


def _check_exports(gathered: Gathered, exports: Sequence[str]) -> None:
    absent = [name for name in exports if name not in gathered.defined]
    if absent:
        raise CompileError(f"no object defines {', '.join(absent)}, to be exported")
    if len(set(exports)) < len(exports):
        raise CompileError(f"an export is named twice: {', '.join(exports)}")
    for name in exports:
        symbol, spot = gathered.defined[name]
        if symbol.kind > read.FUNC or (spot.object, spot.section) not in gathered.pieces:
            raise CompileError(f"{name} is no function or variable, and cannot be exported")


def _arranged(gathered: Gathered) -> tuple[dict[Where, int], dict[str, int]]:
    """Where each section lies in its part, and how large the parts are. Records of how to unwind
    follow one another closely, and four bytes of 0 end them.
    """
    offsets: dict[Where, int] = {}
    sizes: dict[str, int] = {}
    for where, part in gathered.pieces.items():
        section = gathered.section(where)
        at = sizes.get(part, 0)
        at += 0 if part == FRAMES else -at % section.alignment
        offsets[where] = at
        sizes[part] = at + section.size
    if sizes.get(FRAMES):
        sizes |= {FRAMES: sizes[FRAMES] + len(_NO_MORE_FRAMES), ".eh_frame_hdr": _WORD}
    return offsets, sizes


def _groups(
    gathered: Gathered, sizes: Mapping[str, int], more: int
) -> tuple[tuple[int, bool, tuple[Part, ...]], ...]:
    """The parts of each segment. A part without a size is left out."""
    alignments: dict[str, int] = {FRAMES: _WORD}
    for where, part in gathered.pieces.items():
        alignments[part] = max(alignments.get(part, 1), gathered.section(where).alignment)

    def of(name: str, flags: int, kind: int = read.PROGBITS) -> Part:
        return Part(name, kind, flags, alignments.get(name, 1), sizes.get(name, 0))

    def table(name: str, kind: int, entry: int, link: str, flags: int = _A, info: int = 0) -> Part:
        return Part(name, kind, flags, _WORD, sizes.get(name, 0), entry, link, info)

    entries = more + 8 + (4 if sizes[".rela.dyn"] else 0)  # as `_Library._dynamic` writes them
    stubs = Part(".plt", read.PROGBITS, _AX, 16, sizes[".plt"], gathered.machine.stub_size)
    constants = (
        table(".hash", read.HASH, 4, ".dynsym"),
        table(".gnu.hash", read.GNU_HASH, 0, ".dynsym"),
        table(".dynsym", read.DYNSYM, _SYMBOL_BYTES, ".dynstr", info=1),
        of(".dynstr", _A, read.STRTAB),
        table(".rela.dyn", read.RELA, _RELA.size, ".dynsym"),
        of(".rodata", _A),
        Part(".eh_frame_hdr", read.PROGBITS, _A, 4, sizes.get(".eh_frame_hdr", 0)),
        of(FRAMES, _A),
    )
    dynamic = Part(
        ".dynamic", read.DYNAMIC, _AW, _WORD, entries * _DYNAMIC.size, _DYNAMIC.size, ".dynstr"
    )
    sealed = (of(".data.rel.ro", _AW), dynamic, table(".got", read.PROGBITS, _WORD, "", _AW))
    return (
        (layout.READ, False, constants),
        (layout.READ | layout.EXECUTE, False, (of(".text", _AX), stubs)),
        (layout.READ | layout.WRITE, True, sealed),
        (layout.READ | layout.WRITE, False, (of(".data", _AW), of(".bss", _AW, read.NOBITS))),
    )
