"""Tables of FlatBuffers, read where they lie.

    table  = (signed offset, back to its vtable) field..
    vtable = (its size, the size of the table, the place of each field in it), 2 bytes each
    vector = length element..       string = a vector of characters

Fields that are no numbers are offsets forward. Specification: flatbuffers.dev, "Internals".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.base.errors import ParseError


class Table:
    """The table at an offset of `data`, bytes or a mapped file that errors call `name`."""

    def __init__(self, data: Any, name: str, at: int) -> None:
        self.data = data
        self.name = name
        self.at = at
        self._vtable = at - self._number(at, 4, signed=True)
        self._fields = (self._number(self._vtable, 2) - 4) // 2

    def _number(self, at: int, size: int, signed: bool = False) -> int:
        if not 0 <= at <= len(self.data) - size:
            raise ParseError(f"{self.name}: byte {self.at}: a table that points out of the file")
        return int.from_bytes(self.data[at : at + size], "little", signed=signed)

    def _place(self, field: int) -> int | None:
        """Where the field with a number lies, or None where the table leaves it out."""
        if field >= self._fields:
            return None
        inner = self._number(self._vtable + 4 + 2 * field, 2)
        return self.at + inner if inner else None

    def number(self, field: int, size: int, default: int = 0) -> int:
        """An unsigned number of `size` bytes."""
        place = self._place(field)
        return default if place is None else self._number(place, size)

    def value(self, field: int, form: str, default: Any) -> Any:
        """A number of a NumPy format ("<f4")."""
        place = self._place(field)
        if place is None:
            return default
        size = np.dtype(form).itemsize
        self._number(place, size)  # it lies in the file
        return np.frombuffer(self.data[place : place + size], form)[0].item()

    def table(self, field: int) -> Table | None:
        """A table, None where it is left out."""
        place = self._place(field)
        return None if place is None else self._at(place)

    def _at(self, place: int) -> Table:
        return Table(self.data, self.name, place + self._number(place, 4))

    def array(self, field: int, form: str) -> np.ndarray[Any, Any]:
        """A vector of numbers of a NumPy format, where it lies."""
        size = np.dtype(form).itemsize
        at, length = self._vector(field, size)
        return np.frombuffer(self.data, form, length, at if length else 0)

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many there are."""
        place = self._place(field)
        if place is None:
            return 0, 0
        at = place + self._number(place, 4)
        length = self._number(at, 4)
        if length * size > len(self.data) - at - 4:
            raise ParseError(f"{self.name}: byte {at}: {length} entries are more than the file has")
        return at + 4, length

    def length(self, field: int) -> int:
        """How many elements a vector has, of 4 bytes each."""
        return self._vector(field, 4)[1]

    def bytes(self, field: int) -> bytes:
        """A vector of bytes."""
        at, length = self._vector(field, 1)
        return self.data[at : at + length]

    def text(self, field: int) -> str:
        """A string."""
        return self.bytes(field).decode("utf-8", errors="surrogateescape")

    def numbers(self, field: int, size: int) -> tuple[int, ...]:
        """A vector of unsigned numbers."""
        at, length = self._vector(field, size)
        return tuple(self._number(at + n * size, size) for n in range(length))

    def _offsets(self, field: int) -> list[int]:
        at, length = self._vector(field, 4)
        places = range(at, at + 4 * length, 4)
        return [place + self._number(place, 4) for place in places]

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        return [Table(self.data, self.name, at) for at in self._offsets(field)]

    def texts(self, field: int) -> list[str]:
        """A vector of strings."""
        found = []
        for at in self._offsets(field):
            length = self._number(at, 4)
            if length > len(self.data) - at - 4:
                raise ParseError(f"{self.name}: byte {at}: a string longer than the file")
            raw = self.data[at + 4 : at + 4 + length]
            found.append(raw.decode("utf-8", errors="surrogateescape"))
        return found


def root(data: bytes, name: str) -> Table:
    """The table that a file begins with."""
    if len(data) < 8:
        raise ParseError(f"{name}: byte 0: {len(data)} bytes are no FlatBuffer")
    return Table(data, name, int.from_bytes(data[:4], "little"))
