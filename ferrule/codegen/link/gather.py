"""What a library takes from its objects: their sections, what each name means, and what is to be
filled in where.

    fix  = offset in a section | rule | aim | addend
    aim  = a spot in a section, or the name of what another library defines

A name that one object defines is the same in all of them, and a strong definition wins over a weak
one; local names are their object's own. Of COMDAT groups of one name the first is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ferrule.base.errors import CompileError
from ferrule.codegen.link import read
from ferrule.codegen.link.aarch64 import AARCH64
from ferrule.codegen.link.machine import Machine, Rule, Want
from ferrule.codegen.link.read import Object, Section, Symbol
from ferrule.codegen.link.riscv import RISCV64
from ferrule.codegen.link.x86 import X86_64

MACHINES = {m.number: m for m in (X86_64, AARCH64, RISCV64)}
MOST_ALIGNED = 4096  # the smallest page: a loader promises no more
LOADED = (".data", ".data.rel.ro")  # where the loader may write an address
FRAMES = ".eh_frame"  # how to unwind the stack, a record a function
_RUN = (".init", ".fini", ".ctors", ".dtors")  # what is run when a library is opened or closed
_UNWIND = 0x70000001  # the kind that x86-64 has for it

Where = tuple[int, int]  # an object, a section of it


class Spot(NamedTuple):
    """A place in a section of an object."""

    object: int
    section: int
    offset: int


Aim = Spot | str


class Fix(NamedTuple):
    """A relocation whose symbol has been found."""

    offset: int
    rule: Rule
    aim: Aim
    addend: int


@dataclass(frozen=True)
class Gathered:
    """The objects of a library. `pieces` are the sections that it takes, and the library's section
    that each becomes a part of, `uppers` the fixes of
    upper bits that others ask about.
    """

    machine: Machine
    flags: int
    objects: tuple[Object, ...]
    pieces: Mapping[Where, str]
    defined: Mapping[str, tuple[Symbol, Spot]]
    fixes: Mapping[Where, tuple[Fix, ...]]
    uppers: Mapping[Spot, Fix]

    def wanting(self, want: Want) -> Iterator[Fix]:
        """The fixes that want that of their aims."""
        return (f for fixes in self.fixes.values() for f in fixes if f.rule.want is want)

    def section(self, where: Where) -> Section:
        number, section = where
        return self.objects[number].sections[section]


def gather(codes: Sequence[bytes], imports: Iterable[str]) -> Gathered:
    """The objects in `codes`, made ready to be laid out. Raises CompileError where one is damaged,
    does not go with the others, or needs what is neither defined by one of them nor in `imports`.
    """
    objects = tuple(read.read_object(code) for code in codes)
    if not objects:
        raise CompileError("a library of no objects")
    machine, flags = _common(objects)
    dropped = _dropped(objects)
    pieces = {
        (k, n): part
        for k, code in enumerate(objects)
        for n, section in enumerate(code.sections)
        if (k, n) not in dropped and (part := part_of(section))
    }
    defined = _defined(objects, dropped)
    names = _Names(objects, machine, pieces, dropped, defined)
    related = [(k, n) for k, code in enumerate(objects) for n in code.relocations]
    fixes = {where: names.fixes(where) for where in related if where in pieces}
    aims = {f.aim for some in fixes.values() for f in some if isinstance(f.aim, str)}
    if missing := sorted(aims.difference(imports)):
        raise CompileError(f"no object defines {', '.join(missing)}")
    return Gathered(machine, flags, objects, pieces, defined, fixes, _uppers(fixes))


def _uppers(fixes: Mapping[Where, tuple[Fix, ...]]) -> dict[Spot, Fix]:
    """What stands where the fixes that want a PAIR point to."""
    asked = {f.aim for some in fixes.values() for f in some if f.rule.want is Want.PAIR}
    if not asked:
        return {}
    known = {Spot(*where, f.offset): f for where, some in fixes.items() for f in some
             if f.rule.want in (Want.ADDRESS, Want.SLOT)}  # fmt: skip
    return {spot: f for spot, f in known.items() if spot in asked}


def _common(objects: tuple[Object, ...]) -> tuple[Machine, int]:
    """The architecture of all objects, and the flags of their headers."""
    numbers = {code.machine for code in objects}
    machine = MACHINES.get(objects[0].machine)
    if machine is None or len(numbers) > 1:
        known = ", ".join(f"{m.name} ({n})" for n, m in MACHINES.items())
        raise CompileError(f"objects for machines {sorted(numbers)}; expected one of {known}")
    if len({code.flags & ~machine.free_flags for code in objects}) > 1:
        found = ", ".join(hex(code.flags) for code in objects)
        raise CompileError(f"{machine.name} objects that call by different rules: flags {found}")
    flags = 0
    for code in objects:
        flags |= code.flags
    return machine, flags


def _dropped(objects: tuple[Object, ...]) -> frozenset[Where]:
    """The sections of COMDAT groups that came before."""
    seen: set[str] = set()
    found: set[Where] = set()
    for k, code in enumerate(objects):
        again = [members for name, members in code.groups if name in seen]
        found.update((k, m) for members in again for m in members)
        seen.update(name for name, _ in code.groups)
    return frozenset(found)


def part_of(section: Section) -> str:
    """The section of the library that an object's section becomes a part of; empty text for what is
    no memory of a program, has no bytes, or is a note for linkers. Raises CompileError for what no
    library of ours has: constructors, variables of threads, code that is written.
    """
    name, kind, flags = section.name, section.kind, section.flags
    if not flags & read.ALLOC or kind == read.NOTE or not section.size:
        return ""
    unwind = name == FRAMES and kind in (read.PROGBITS, _UNWIND)
    written = flags & read.EXEC and (flags & read.WRITE or kind == read.NOBITS)
    known = unwind or (kind in (read.PROGBITS, read.NOBITS) and not name.startswith(_RUN))
    if not known or written or flags & (read.TLS | read.COMPRESSED):
        raise CompileError(
            f"section {name} of type {kind:#x} and flags {flags:#x} has no place in this library"
        )
    if section.alignment > MOST_ALIGNED:
        raise CompileError(
            f"section {name} is aligned to {section.alignment} bytes, over {MOST_ALIGNED}"
        )
    if unwind:
        return FRAMES
    if kind == read.NOBITS:
        return ".bss"
    if flags & read.EXEC:
        return ".text"
    if flags & read.WRITE:
        return ".data.rel.ro" if name.startswith(".data.rel.ro") else ".data"
    return ".rodata"


def _defined(
    objects: tuple[Object, ...], dropped: frozenset[Where]
) -> dict[str, tuple[Symbol, Spot]]:
    """What the names that objects share mean."""
    found: dict[str, tuple[Symbol, Spot]] = {}
    for k, code in enumerate(objects):
        for symbol in code.symbols:
            place = symbol.section
            if symbol.binding == read.LOCAL or not place or (k, place) in dropped:
                continue
            if place >= read.RESERVED:
                raise CompileError(f"{symbol.name} lies in no section, but in {place:#x}")
            before = found.get(symbol.name)
            strong = symbol.binding != read.WEAK
            if before and strong and before[0].binding != read.WEAK:
                raise CompileError(f"{symbol.name} is defined by two objects")
            if before is None or (strong and before[0].binding == read.WEAK):
                found[symbol.name] = symbol, Spot(k, place, symbol.value)
    return found


@dataclass(frozen=True)
class _Names:
    """What the relocations of objects name."""

    objects: tuple[Object, ...]
    machine: Machine
    pieces: Mapping[Where, str]
    dropped: frozenset[Where]
    defined: Mapping[str, tuple[Symbol, Spot]]

    def fixes(self, where: Where) -> tuple[Fix, ...]:
        """The relocations of a section."""
        number, section = where
        size, part, found = len(self.objects[number].sections[section].data), self.pieces[where], []
        for offset, kind, symbol, addend in self.objects[number].relocations[section]:
            rule = self.machine.rules.get(kind)
            if rule is None:
                raise CompileError(f"{self.at(where, offset)}: {self._unknown(kind)}")
            if rule.want is Want.NOTHING:
                continue
            if offset + rule.width > size:
                raise CompileError(f"{self.at(where, offset)}: a relocation past the end, {size}")
            if rule.want is Want.WORD and part not in LOADED:
                raise CompileError(
                    f"{self.at(where, offset)}: an address in what cannot be written; a library "
                    "needs position-independent code"
                )
            aim = self.aim(where, offset, symbol)
            if aim is None:
                continue
            if rule.want is Want.SLOT and addend and not self.machine.biased:
                raise CompileError(f"{self.at(where, offset)}: {rule.name} with addend {addend}")
            if isinstance(aim, str) and rule.want in (Want.ADDRESS, Want.PAIR):
                raise CompileError(
                    f"{self.at(where, offset)}: {rule.name} wants {aim} within reach, and no "
                    "object defines it"
                )
            found.append(Fix(offset, rule, aim, addend))
        return tuple(found)

    def at(self, where: Where, offset: int) -> str:
        """A place, in words."""
        return f"object {where[0]}, {self.objects[where[0]].sections[where[1]].name}+{offset:#x}"

    def aim(self, where: Where, offset: int, symbol: int) -> Aim | None:
        """What a symbol stands for; None for what was dropped, in records of how to unwind, which
        are then for no function.
        """
        number = where[0]
        name, value, _, binding, kind, section = self.objects[number].symbols[symbol]
        if binding != read.LOCAL and name in self.defined:
            kind = self.defined[name][0].kind
            number, section, value = self.defined[name][1]
        elif section == read.UNDEFINED and name:
            return name
        if (number, section) in self.dropped and self.pieces[where] == FRAMES:
            return None
        if (number, section) not in self.pieces:
            raise CompileError(
                f"{self.at(where, offset)}: {name or f'symbol {symbol}'} lies in no section that "
                "the library has"
            )
        if kind > read.SECTION:
            raise CompileError(f"{self.at(where, offset)}: {name} is of type {kind}, not known")
        return Spot(number, section, value)

    def _unknown(self, kind: int) -> str:
        name = self.machine.refused.get(kind)
        if name is None:
            return f"relocation type {kind} of {self.machine.name} is not known"
        return (
            f"relocation type {kind} ({name}) is for code at a fixed address; a library needs "
            "position-independent code"
        )
