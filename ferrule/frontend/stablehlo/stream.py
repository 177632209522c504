"""Bytes that are read from front to back: the primitives of MLIR's bytecode.

    varint  = the count of zero bits at the low end of the first byte is that of the bytes after it;
              what lies above the lowest set bit is the number, little-endian
    svarint = a varint whose lowest bit is the sign (zigzag)

Specification: MLIR bytecode format (mlir.llvm.org/docs/BytecodeFormat), "Primitives".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ferrule.base.errors import ParseError, UnsupportedError
from ferrule.frontend.stablehlo.lexer import MAX_MESSAGE

T = TypeVar("T")


class Stream:
    """The bytes of `data` from `at` to `end`, of an artifact that errors call `name`."""

    def __init__(self, data: bytes, name: str, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.name = name
        self.at = at
        self.end = len(data) if end is None else end

    def error(self, message: str, at: int | None = None) -> ParseError:
        """The exception that the artifact is malformed, here or at an offset."""
        return ParseError(self._where(message, at))

    def unsupported(self, message: str, at: int | None = None) -> UnsupportedError:
        """The exception that the artifact is good, but has what ferrule does not read."""
        return UnsupportedError(self._where(message, at))

    def _where(self, message: str, at: int | None) -> str:
        message = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + " .."
        return f"{self.name}: byte {self.at if at is None else at}: {message}"

    @property
    def left(self) -> int:
        """The number of bytes that were not read."""
        return self.end - self.at

    def byte(self) -> int:
        """The next byte."""
        if self.at >= self.end:
            raise self.error("the artifact ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def bytes(self, number: int) -> bytes:
        """The next bytes."""
        if number > self.left:
            raise self.error(f"expected {number} bytes, got {self.left}")
        self.at += number
        return self.data[self.at - number : self.at]

    def part(self, number: int) -> Stream:
        """The next bytes as a stream of their own, past which this one goes."""
        if number > self.left:
            raise self.error(f"expected {number} bytes, got {self.left}")
        self.at += number
        return Stream(self.data, self.name, self.at - number, self.at)

    def align(self, to: int) -> None:
        """Goes past padding, so that the next byte lies at a multiple of `to`."""
        if to < 1 or to & (to - 1):
            raise self.error(f"an alignment of {to} bytes")
        self.bytes(-self.at % to)

    def varint(self) -> int:
        """An unsigned number of 64 bits."""
        first = self.byte()
        if first & 1:
            return first >> 1
        if not first:
            return int.from_bytes(self.bytes(8), "little")
        more = (first & -first).bit_length() - 1
        return (first | int.from_bytes(self.bytes(more), "little") << 8) >> (more + 1)

    def svarint(self) -> int:
        """A signed number of 64 bits."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def flagged(self) -> tuple[int, bool]:
        """A number, and a flag that lies in its lowest bit."""
        value = self.varint()
        return value >> 1, bool(value & 1)

    def count(self) -> int:
        """How many of something follow, of which each takes a byte at least."""
        at, number = self.at, self.varint()
        if number > self.left:
            raise self.error(f"{number} entries in {self.left} bytes", at)
        return number

    def index(self, table: list[T], what: str) -> T:
        """An entry of a table by its number."""
        at, number = self.at, self.varint()
        if number >= len(table):
            raise self.error(f"{what} number {number} of {len(table)}", at)
        return table[number]

    def several(self, read: Callable[[], T]) -> tuple[T, ...]:
        """A list: its length, and its entries."""
        return tuple([read() for _ in range(self.count())])

    def text(self) -> str:
        """Characters up to a byte of zero."""
        end = self.data.find(b"\0", self.at, self.end)
        if end < 0:
            raise self.error("a text without an end")
        start, self.at = self.at, end + 1
        return self.data[start:end].decode("utf-8", errors="surrogateescape")
