"""Protocol buffers' wire format: the fields of a message, without its schema.

    message = (key value)..        key = number << 3 | kind, both varints
    kind 0: a varint   1: 8 bytes   2: a length and so many bytes   5: 4 bytes

A message is a view of the bytes that it was read from: nothing is copied, and what it says about
sizes is checked against the bytes that are there. See protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from ferrule.base.errors import ParseError

_VARINT, _WIDE, _BYTES, _NARROW = 0, 1, 2, 5


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at an offset, and the offset behind it. Raises ParseError."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ParseError(f"a number is cut off or too long at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & ((1 << 64) - 1), at


def signed(value: int) -> int:
    """A varint as an int64."""
    return value - (1 << 64) if value >> 63 else value


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = varint(data, at)
        elif kind in (_WIDE, _NARROW):
            size = 8 if kind == _WIDE else 4
        else:
            raise ParseError(f"a field of kind {kind} at byte {at}")
        if size > len(data) - at:
            left = len(data) - at
            raise ParseError(f"a field of {size} bytes at byte {at}, where {left} are left")
        yield number, data[at : at + size]
        at += size


class Message:
    """The fields of a message by number. Those that are absent are empty, 0 or false."""

    def __init__(self, data: memoryview | bytes) -> None:
        self._held: dict[int, list[Any]] = {}
        for number, value in _fields(memoryview(data)):
            self._held.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._held

    def all(self, number: int) -> list[Any]:
        """A field's values as they stand there: ints and views."""
        return self._held.get(number, [])

    def data(self, number: int) -> bytes:
        """A field of bytes. Raises ParseError for one of another kind."""
        found = self.all(number)
        return bytes(_view(found[-1])) if found else b""

    def view(self, number: int) -> memoryview:
        """The same, not copied."""
        found = self.all(number)
        return _view(found[-1]) if found else memoryview(b"")

    def text(self, number: int) -> str:
        """A string. Raises ParseError for one that is no UTF-8."""
        return _text(self.data(number))

    def texts(self, number: int) -> tuple[str, ...]:
        """A repeated string."""
        return tuple(_text(bytes(_view(x))) for x in self.all(number))

    def integer(self, number: int) -> int:
        """An integer, signed."""
        found = self.all(number)
        return signed(_int(found[-1])) if found else 0

    def integers(self, number: int) -> list[int]:
        """A repeated integer, packed or not."""
        out: list[int] = []
        for x in self.all(number):
            if isinstance(x, int):
                out.append(signed(x))
                continue
            at = 0
            while at < len(x):
                value, at = varint(x, at)
                out.append(signed(value))
        return out

    def single(self, number: int) -> float:
        """A float of 32 bits."""
        found = self.all(number)
        return float(struct.unpack("<f", _sized(found[-1], 4))[0]) if found else 0.0

    def numbers(self, number: int, size: int) -> bytes:
        """The bytes of a repeated field of fixed size, packed or not."""
        parts = [bytes(_view(x)) for x in self.all(number)]
        if any(len(p) % size for p in parts):
            raise ParseError(f"numbers of {size} bytes that are cut off")
        return b"".join(parts)

    def message(self, number: int) -> Message:
        """A message inside, an empty one where it is absent; of several, all of their fields."""
        return Message(memoryview(b"".join(map(_view, self.all(number)))))

    def messages(self, number: int) -> Iterator[Message]:
        """A repeated message."""
        for x in self.all(number):
            yield Message(_view(x))

    def entries(self, number: int) -> Iterator[tuple[str, Message]]:
        """A map from strings to messages."""
        for entry in self.messages(number):
            yield entry.text(1), entry.message(2)


def _view(x: Any) -> memoryview:
    if not isinstance(x, memoryview):
        raise ParseError("a number where bytes should be")
    return x


def _sized(x: Any, size: int) -> memoryview:
    if len(_view(x)) != size:
        raise ParseError(f"{len(x)} bytes where {size} should be")
    return _view(x)


def _int(x: Any) -> int:
    if not isinstance(x, int):
        raise ParseError("bytes where a number should be")
    return x


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ParseError(f"a name that is no text: {data[:40]!r}") from None
