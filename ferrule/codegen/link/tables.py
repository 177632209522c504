"""The tables by which a loader finds names: strings, symbols and their hashes.

The hash tables are those of the gABI (chapter 5, "Hash Table") and of GNU (DT_GNU_HASH), which
glibc and musl prefer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

_SYMBOL = struct.Struct("<IBBHQQ")
_SHIFT, _WORD = 26, 64  # of the Bloom filter


def strings(names: Iterable[str]) -> tuple[bytes, dict[str, int]]:
    """A string table of these names, each once, and where each begins."""
    table, places = bytearray(b"\0"), {"": 0}
    for name in names:
        if name not in places:
            places[name] = len(table)
            table += name.encode() + b"\0"
    return bytes(table), places


def symbol(name: int, binding: int, kind: int, section: int, value: int, size: int) -> bytes:
    """An entry of a symbol table, of which a loader may see everything that is in its table."""
    return _SYMBOL.pack(name, binding << 4 | kind, 0, section, value, size)


def hash_table(names: Sequence[str]) -> bytes:
    """The gABI's hash table of the symbols from index 1 on."""
    buckets = max(len(names), 1)
    heads, chains = [0] * buckets, [0] * (len(names) + 1)
    for k, name in enumerate(names, 1):
        at = _elf_hash(name) % buckets
        chains[k], heads[at] = heads[at], k
    words = (buckets, len(chains), *heads, *chains)
    return struct.pack(f"<{len(words)}I", *words)


def gnu_order(names: Iterable[str]) -> tuple[str, ...]:
    """The names in the order that GNU's hash table has them in."""
    found = tuple(names)
    return tuple(sorted(found, key=lambda n: (_gnu_hash(n) % _buckets(found), n)))


def gnu_hash_table(names: Sequence[str], first: int) -> bytes:
    """GNU's hash table of symbols in `gnu_order`, which have the indices from `first` on."""
    hashes, buckets = [_gnu_hash(n) for n in names], _buckets(names)
    count = 1 << (len(names) * 12 // _WORD).bit_length()
    bloom, heads, chains = [0] * count, [0] * buckets, []
    for k, value in enumerate(hashes):
        bloom[value // _WORD % count] |= 1 << value % _WORD | 1 << (value >> _SHIFT) % _WORD
        bucket = value % buckets
        heads[bucket] = heads[bucket] or first + k
        last = k + 1 == len(hashes) or hashes[k + 1] % buckets != bucket
        chains.append(value & ~1 | last)
    head = struct.pack(f"<4I{count}Q", buckets, first, count, _SHIFT, *bloom)
    return head + struct.pack(f"<{buckets + len(chains)}I", *heads, *chains)


def _buckets(names: Sequence[str]) -> int:
    return max(len(names) // 4, 1)


def _elf_hash(name: str) -> int:
    found = 0
    for byte in name.encode():
        found = (found << 4) + byte
        high = found & 0xF0000000
        found = (found ^ high >> 24) & ~high & 0xFFFFFFFF
    return found


def _gnu_hash(name: str) -> int:
    found = 5381
    for byte in name.encode():
        found = found * 33 + byte & 0xFFFFFFFF
    return found
