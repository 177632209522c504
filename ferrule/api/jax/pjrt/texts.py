"""Texts and arrays that C reads, which live as long as what holds them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any


class Text:
    """A text in memory: `address` and `size` in bytes."""

    def __init__(self, text: str) -> None:
        held = text.encode("utf-8", "replace")
        self.size = len(held)
        self._held = ctypes.create_string_buffer(held)
        self.address = ctypes.addressof(self._held)


class Row:
    """Numbers in memory, one behind the other: `address`, and how many there are."""

    def __init__(self, kind: Any, numbers: Sequence[int]) -> None:
        self.count = len(numbers)
        self._held = (kind * max(self.count, 1))(*numbers)
        self.address = ctypes.addressof(self._held)


def pointers(addresses: Sequence[int]) -> Row:
    """A row of addresses or handles."""
    return Row(ctypes.c_void_p, addresses)


@functools.cache
def lasting(text: str) -> Text:
    """A text for the life of the process: one of the few that ferrule's platform always says."""
    return Text(text)


def numbers_at(address: int | None, count: int, kind: Any = ctypes.c_int64) -> list[int]:
    """The numbers that lie at an address."""
    return list((kind * count).from_address(address)) if address and count else []


def bytes_at(address: int | None, count: int) -> bytes:
    """The bytes that lie at an address."""
    return ctypes.string_at(address, count) if address and count else b""
