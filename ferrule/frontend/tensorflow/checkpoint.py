"""Checkpoints: `variables.index`, a table that says where each tensor lies, and the data beside it.

    index    = block.. metaindex-block index-block footer       a table as LevelDB writes it
    block    = entry.. restarts count, then one byte for its compression and a checksum of 4
    entry    = shared unshared size key-suffix value            the key begins as the one before it
    footer   = metaindex-handle index-handle padding magic      48 bytes
    value    = BundleEntryProto: dtype, shape, shard, offset, size

The data files are mapped into memory: a tensor takes memory once it is read. Sources: LevelDB's
doc/table_format.md, TensorFlow's tensor_bundle.proto, Snappy's format_description.txt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from ferrule.base.errors import InputError, ParseError
from ferrule.frontend.tensorflow.model import Array, Element
from ferrule.frontend.tensorflow.wire import Message, varint

_FOOTER, _TRAILER = 48, 5
_MAGIC = 0xDB4775248B80FB57
_PLAIN, _SNAPPY = 0, 1
_LARGEST_BLOCK = 1 << 28


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies."""

    element: Element
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    parts: bool


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of a checkpoint by key. `prefix` is the path of its files without their ends."""

    prefix: Path
    entries: Mapping[str, Entry]
    shards: int
    _maps: dict[int, Array] = field(default_factory=dict)

    def array(self, key: str) -> Array:
        """A tensor in storage form, read-only. Raises InputError for a key that is not there,
        ParseError where the data are too short, UnsupportedError for a dtype that ferrule lacks.
        """
        e = self.entries.get(key)
        if e is None:
            raise InputError(f"the checkpoint {self.prefix} has no tensor {key!r}")
        kind = e.element.dtype.numpy
        if e.parts or any(n < 0 for n in e.shape) or e.size != prod(e.shape) * kind.itemsize:
            raise ParseError(
                f"the tensor {key!r} of {e.element.name}{list(e.shape)} has {e.size} bytes in "
                f"{self.prefix}"
            )
        data = self._shard(e.shard)
        if e.offset < 0 or e.offset + e.size > data.size:
            raise ParseError(f"the tensor {key!r} lies behind the end of {self._path(e.shard)}")
        held = data[e.offset : e.offset + e.size]
        aligned = held if e.offset % kind.itemsize == 0 else held.copy()
        return aligned.view(kind).reshape(e.shape)

    def _path(self, shard: int) -> Path:
        name = f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}"
        return self.prefix.with_name(name)

    def _shard(self, shard: int) -> Array:
        if shard not in self._maps:
            path = self._path(shard)
            try:
                empty = not path.stat().st_size
                held = np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
            except OSError as error:
                raise InputError(f"{path} can't be read: {error.strerror}") from None
            self._maps[shard] = held
        return self._maps[shard]


def read_checkpoint(prefix: Path) -> Checkpoint:
    """The checkpoint whose files begin with `prefix`. Raises InputError and ParseError."""
    path = prefix.with_name(prefix.name + ".index")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    try:
        return _checkpoint(prefix, data)
    except ParseError as error:
        raise ParseError(f"{path} is malformed: {error}") from None


def _checkpoint(prefix: Path, data: bytes) -> Checkpoint:
    entries: dict[str, Entry] = {}
    shards = 1
    for key, value in table(data):
        m = Message(value)
        if not key:
            shards = m.integer(1)
            if m.integer(2):
                raise ParseError("its numbers are big-endian")
            continue
        shape = tuple(d.integer(1) for d in m.message(2).messages(2))
        entries[key.decode(errors="replace")] = Entry(
            Element(m.integer(1)), shape, m.integer(3), m.integer(4), m.integer(5), bool(m.all(7))
        )
    return Checkpoint(prefix, entries, shards)


# ---- the table -----------------------------------------------------------------------------------


def table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table, in order. Raises ParseError."""
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise ParseError("it is no table: its last bytes are others")
    footer = memoryview(data)[-_FOOTER:]
    at = _handle(footer, 0)[1]
    place, _ = _handle(footer, at)
    whole = memoryview(data)[:-_FOOTER]
    for _, value in _entries(_block(whole, place)):
        yield from _entries(_block(whole, _handle(memoryview(value), 0)[0]))


def _handle(data: memoryview, at: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and the place behind."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: memoryview, place: tuple[int, int]) -> memoryview:
    offset, size = place
    if offset + size + _TRAILER > len(data):
        raise ParseError(f"a block of {size} bytes at byte {offset} of {len(data)}")
    held, kind = data[offset : offset + size], data[offset + size]
    if kind == _PLAIN:
        return held
    if kind == _SNAPPY:
        return memoryview(unsnapped(held))
    raise ParseError(f"a block at byte {offset} has an unknown compression: {kind}")


def _entries(block: memoryview) -> Iterator[tuple[bytes, bytes]]:
    count = int.from_bytes(block[-4:], "little") if len(block) >= 4 else 0
    end = len(block) - 4 - 4 * count
    if len(block) < 4 or end < 0:
        raise ParseError("a block that is cut off")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        unshared, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or at + unshared + size > end:
            raise ParseError("an entry that is cut off")
        key = key[:shared] + bytes(block[at : at + unshared])
        at += unshared
        yield key, bytes(block[at : at + size])
        at += size


def unsnapped(data: memoryview) -> bytes:
    """What Snappy compressed. Raises ParseError."""
    size, at = varint(data, 0)
    if size > min(_LARGEST_BLOCK, 64 * len(data)):
        raise ParseError(f"{len(data)} bytes cannot hold {size}")
    out = bytearray()
    while at < len(data):
        length, back, at = _tag(data, at)
        if not back:
            if at + length > len(data):
                raise ParseError("compressed data that are cut off")
            out += data[at : at + length]
            at += length
            continue
        if back > len(out):
            raise ParseError("compressed data that refer to what is before them")
        part = bytes(out[len(out) - back : len(out) - back + length])
        out += (part * (length // len(part) + 1))[:length]
        if len(out) > size:
            break
    if len(out) != size:
        raise ParseError(f"compressed data of {len(out)} bytes where {size} should be")
    return bytes(out)


def _tag(data: memoryview, at: int) -> tuple[int, int, int]:
    """(how many bytes, how far back they are copied from or 0 for those that follow, the place
    behind).
    """

    def number(width: int) -> int:
        if at + 1 + width > len(data):
            raise ParseError("compressed data that are cut off")
        return int.from_bytes(data[at + 1 : at + 1 + width], "little")

    tag = data[at]
    kind, upper = tag & 3, tag >> 2
    if kind == 0:
        width = max(0, upper - 59)
        return (number(width) if width else upper) + 1, 0, at + 1 + width
    if kind == 1:
        return (upper & 7) + 4, _behind(((tag >> 5) << 8) | number(1)), at + 2
    width = 2 if kind == 2 else 4
    return upper + 1, _behind(number(width)), at + 1 + width


def _behind(offset: int) -> int:
    if not offset:
        raise ParseError("compressed data that refer to themselves")
    return offset


