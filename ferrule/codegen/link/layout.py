"""Where the parts of a library lie, in the file and in memory, and the file's headers (gABI,
chapters 4 and 5, "Section Header", "Program Header").

Each segment begins on a page of its own in memory. In the file segments follow one another without
room between them: a place in the file is the same as that in memory, but for whole pages.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferrule.base.errors import CompileError
from ferrule.codegen.link import read
from ferrule.codegen.link.machine import Machine

READ, EXECUTE, WRITE = 4, 1, 2  # flags of segments
_LOAD, _DYNAMIC, _EH_FRAME, _STACK, _RELRO = 1, 2, 0x6474E550, 0x6474E551, 0x6474E552
_SHARED = 3  # the type of such a file
_HEADER, _SEGMENT, _SECTION = (
    struct.Struct(f) for f in ("<16sHHIQQQIHHHHHH", "<IIQQQQQQ", "<IIQQQQIIQQ")
)
_MOST = 1 << 31  # bytes of memory: what code can reach


@dataclass(frozen=True)
class Part:
    """A section of the library: its header, but for where it lies. `link` names another part."""

    name: str
    kind: int
    flags: int
    alignment: int
    size: int
    entry: int = 0
    link: str = ""
    info: int = 0


@dataclass(frozen=True)
class Place:
    """A part, and where it lies in memory and in the file; its number among the sections."""

    part: Part
    address: int
    offset: int
    number: int


@dataclass(frozen=True)
class Segment:
    """What is mapped at once. What is `sealed` cannot be written when the loader is done."""

    flags: int
    sealed: bool
    address: int
    offset: int
    file_size: int
    memory_size: int


@dataclass(frozen=True)
class Layout:
    """Where everything lies; `end` is the end of the segments in the file."""

    machine: Machine
    places: Mapping[str, Place]
    segments: tuple[Segment, ...]
    end: int


def lay_out(machine: Machine, groups: Sequence[tuple[int, bool, Sequence[Part]]]) -> Layout:
    """The layout of the parts that are not empty. A group is a segment's flags, whether it is
    sealed, and its parts; the first one has the headers too.

    Raises CompileError where it would take more memory than code can reach.
    """
    filled = [(flags, sealed, [p for p in parts if p.size]) for flags, sealed, parts in groups]
    filled = [group for group in filled if group[2]]
    names = {p.name for _, _, parts in filled for p in parts}
    headers = len(filled) + len(_others(names))
    places: dict[str, Place] = {}
    segments: list[Segment] = []
    address = offset = 0
    for flags, sealed, parts in filled:
        if segments:
            address = _up(address, machine.page) + offset % machine.page
        begin, start = address, offset
        if not segments:
            address = offset = _HEADER.size + headers * _SEGMENT.size
        for part in parts:
            room = -address % part.alignment
            address += room
            offset += 0 if part.kind == read.NOBITS else room
            places[part.name] = Place(part, address, offset, len(places) + 1)
            address += part.size
            offset += 0 if part.kind == read.NOBITS else part.size
        if sealed:  # protection is by whole pages
            address = _up(address, machine.page)
        segments.append(Segment(flags, sealed, begin, start, offset - start, address - begin))
        if address >= _MOST:
            raise CompileError(f"a library of {address} bytes, where code can reach {_MOST}")
    return Layout(machine, places, tuple(segments), offset)


def written(
    layout: Layout, flags: int, contents: Mapping[str, bytes], beside: Sequence[tuple[Part, bytes]]
) -> bytes:
    """The file: the contents of the parts that lie in memory, and parts beside them. `flags` are
    those of the file's header. The last of those beside is the table of the sections' names, which
    is made here.
    """
    image = bytearray(layout.end)
    for name, place in layout.places.items():
        if place.part.kind != read.NOBITS:
            data = contents[name]
            assert len(data) == place.part.size, name
            image[place.offset : place.offset + len(data)] = data
    places = [*layout.places.values()]
    names = [p.part.name for p in places] + [part.name for part, _ in beside] + [".shstrtab"]
    at, table = {}, bytearray(b"\0")
    for name in names:
        at[name] = len(table)
        table += name.encode() + b"\0"
    last = Part(".shstrtab", read.STRTAB, 0, 1, len(table))
    for part, data in (*beside, (last, bytes(table))):
        image += bytes(-len(image) % part.alignment)
        places.append(Place(part, 0, len(image), len(places) + 1))
        image += data
    image += bytes(-len(image) % 8)
    sections = len(image)
    numbers = {p.part.name: p.number for p in places}
    image += bytes(_SECTION.size)
    for p in places:
        part, link = p.part, numbers[p.part.link] if p.part.link else 0
        image += _SECTION.pack(
            at[part.name], part.kind, part.flags, p.address, p.offset, part.size, link, part.info,
            part.alignment, part.entry,
        )  # fmt: skip
    head = _segments(layout)
    image[: _HEADER.size] = _HEADER.pack(
        b"\x7fELF\x02\x01\x01", _SHARED, layout.machine.number, 1, 0, _HEADER.size, sections, flags,
        _HEADER.size, _SEGMENT.size, len(head) // _SEGMENT.size, _SECTION.size, len(places) + 1,
        numbers[last.name],
    )  # fmt: skip
    image[_HEADER.size : _HEADER.size + len(head)] = head
    return bytes(image)


def _others(names: set[str]) -> tuple[tuple[int, int, str], ...]:
    """The program headers that tell of one part: type, flags, name."""
    known = ((_DYNAMIC, READ | WRITE, ".dynamic"), (_EH_FRAME, READ, ".eh_frame_hdr"))
    found = [other for other in known if other[2] in names]
    return (*found, (_RELRO, READ, ""), (_STACK, READ | WRITE, ""))


def _segments(layout: Layout) -> bytes:
    found, page = bytearray(), layout.machine.page
    for s in layout.segments:
        where = (s.offset, s.address, s.address, s.file_size, s.memory_size)
        found += _SEGMENT.pack(_LOAD, s.flags, *where, page)
    sealed = next(s for s in layout.segments if s.sealed)
    for kind, flags, name in _others(set(layout.places)):
        if name:
            at, part = layout.places[name], layout.places[name].part
            where = (at.offset, at.address, at.address, part.size, part.size)
            found += _SEGMENT.pack(kind, flags, *where, part.alignment)
        elif kind == _RELRO:
            s = sealed
            where = (s.offset, s.address, s.address, s.file_size, s.memory_size)
            found += _SEGMENT.pack(kind, flags, *where, 1)
        else:
            found += _SEGMENT.pack(kind, flags, 0, 0, 0, 0, 0, 16)
    return bytes(found)


def _up(value: int, to: int) -> int:
    return value + -value % to
