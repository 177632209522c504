"""The entries of a zip file that are stored as they are (PKWARE's APPNOTE, 4.3).

    file  = (local header | bytes of an entry).. | directory | end
    end   = [end of Zip64 | where it begins] | 22 bytes: how many entries, where the directory is

It reads what `ferrule.pipeline.build` writes: one disk, no comment, no encryption. Anything else is
an error, however little of it is wrong. The module zipfile does more, and takes longer to import
than a small model to load.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_END, _END64, _WHERE64 = "<4s4H2IH", "<4sQ2H2I4Q", "<4sIQI"
_ENTRY, _LOCAL = "<4s6H3I5H2I", "<4s5H3I2H"
_ABSENT, _ABSENT_COUNT = 0xFFFFFFFF, 0xFFFF  # of numbers that stand in the fields of Zip64
_ZIP64 = 1  # the kind of such a field
_ENCRYPTED = 1


class Part(NamedTuple):
    """An entry: its bytes, and the checksum that the directory has of them."""

    data: memoryview
    crc32: int

    def checked(self) -> bytes:
        """A copy of the bytes. Raises ValueError where the checksum does not match."""
        copy = bytes(self.data)
        if zlib.crc32(copy) != self.crc32:
            raise ValueError("a checksum does not match")
        return copy


def entries_of(data: memoryview) -> dict[str, Part]:
    """The entries by their names. Raises ValueError for what is no such file. Their checksums are
    not looked at.
    """
    try:
        found: dict[str, Part] = {}
        for name, part in _entries(data):
            if name in found:
                raise ValueError(f"it has {name} twice")
            found[name] = part
        return found
    except struct.error as error:
        raise ValueError(f"it ends too early: {error}") from error


def _entries(data: memoryview) -> Iterator[tuple[str, Part]]:
    count, at = _directory(data)
    for _ in range(count):
        fields = struct.unpack_from(_ENTRY, data, at)
        magic, flags, method = fields[0], fields[3], fields[4]
        crc, packed, size, name_bytes, extra_bytes, comment_bytes = fields[7:13]
        at += struct.calcsize(_ENTRY)
        if magic != b"PK\1\2" or at + name_bytes + extra_bytes + comment_bytes > len(data):
            raise ValueError("its directory is damaged")
        name = bytes(data[at : at + name_bytes]).decode()
        extra = data[at + name_bytes : at + name_bytes + extra_bytes]
        size, packed, start = _wide([size, packed, fields[-1]], extra)
        if method or flags & _ENCRYPTED or packed != size:
            raise ValueError(f"{name} is not stored as it was")
        yield name, Part(_content(data, name, start, size), crc)
        at += name_bytes + extra_bytes + comment_bytes


def _directory(data: memoryview) -> tuple[int, int]:
    """How many entries there are, and where the first one's row is."""
    end = len(data) - struct.calcsize(_END)
    if end < 0 or bytes(data[end : end + 4]) != b"PK\5\6":
        raise ValueError("it is no zip file, or more follows it")
    count, _, start = struct.unpack_from(_END, data, end)[4:7]
    if count == _ABSENT_COUNT or start == _ABSENT:
        magic, _, place, _ = struct.unpack_from(
            _WHERE64, data, _inside(data, end - struct.calcsize(_WHERE64))
        )
        wide = struct.unpack_from(_END64, data, _inside(data, place))
        if magic != b"PK\6\7" or wide[0] != b"PK\6\6":
            raise ValueError("its end is damaged")
        count, start = wide[-3], wide[-1]
    return count, _inside(data, start)


def _wide(numbers: list[int], extra: memoryview) -> list[int]:
    """An entry's numbers, those that are absent from the field of Zip64."""
    at = 0
    while _ABSENT in numbers and at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64:
            own = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            return [next(own, _ABSENT) if n == _ABSENT else n for n in numbers]
        at += 4 + length
    return numbers


def _content(data: memoryview, name: str, at: int, size: int) -> memoryview:
    """The bytes behind an entry's local header."""
    fields = struct.unpack_from(_LOCAL, data, _inside(data, at))
    start = at + struct.calcsize(_LOCAL) + fields[-2] + fields[-1]
    if fields[0] != b"PK\3\4" or start + size > len(data):
        raise ValueError(f"{name} is not where it should be")
    return data[start : start + size]


def _inside(data: memoryview, at: int) -> int:
    """`at`, which no number from a file can make a place before or behind it."""
    if not 0 <= at <= len(data):
        raise ValueError(f"the place {at} is outside of it")
    return at
