"""A static library: objects in one file, with an index of what they define (`ar` of System V and
GNU, as linkers read it).

    archive = "!<arch>" | index | member ..       each with a header of 60 bytes, at an even place
    index   = count, places of members, names     big-endian words of 4 bytes, texts
"""

from __future__ import annotations

from collections.abc import Mapping

from ferrule.base.errors import CompileError
from ferrule.codegen.link import read

_MAGIC = b"!<arch>\n"
_HEADER = 60
_LONGEST = 15


def archive(objects: Mapping[str, bytes]) -> bytes:
    """The static library of objects by name, of up to 15 letters. A linker takes those members that
    define what is still missing. Raises CompileError for other names and for damaged objects.
    """
    for name in objects:
        if not 0 < len(name.encode()) <= _LONGEST or "/" in name:
            raise CompileError(f"{name!r} is no name for a member of an archive")
    defined = [(n, symbol) for n, code in objects.items() for symbol in _defined(code)]
    names = b"".join(s.encode() + b"\0" for _, s in defined)
    size = 4 + 4 * len(defined) + len(names)
    at, places = len(_MAGIC) + _HEADER + size + size % 2, {}
    for name, code in objects.items():
        places[name] = at
        at += _HEADER + len(code) + len(code) % 2
    words = [len(defined), *(places[n] for n, _ in defined)]
    index = b"".join(w.to_bytes(4, "big") for w in words) + names
    members = [_member("/", index), *(_member(f"{n}/", code) for n, code in objects.items())]
    return b"".join((_MAGIC, *members))


def _defined(code: bytes) -> list[str]:
    return [
        s.name for s in read.read_object(code).symbols
        if s.binding in (read.GLOBAL, read.WEAK) and s.section != read.UNDEFINED
    ]  # fmt: skip


def _member(name: str, data: bytes) -> bytes:
    """A header (name, time, owner, group, mode, size), and the bytes, of an even number."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)
