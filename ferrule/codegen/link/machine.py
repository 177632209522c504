"""What the relocations of an architecture mean, and how its library looks up what others define.

    rule = name | what it wants of its symbol | how many bytes it changes | the new value of these

A rule's `put(field, value, place)` takes the bytes that stand there as a little-endian number, the
value that the relocation asks for (an address and the addend), and the address of the place.
It gives the number to be written, cut to the bytes of the field by the caller. All addresses count
from the library's first byte. It raises OutOfRange where the instruction cannot hold the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

Put = Callable[[int, int, int], int]


class OutOfRange(ValueError):
    """A value that an instruction cannot hold."""


class Want(Enum):
    """What a relocation wants of the symbol that it names."""

    NOTHING = auto()  # a remark for linkers
    ADDRESS = auto()  # its address, at some distance that stays when the library is moved
    CALL = auto()  # its address, or that of a stub which jumps there
    SLOT = auto()  # the address of a slot that holds its address
    WORD = auto()  # its address as a number, which the loader writes
    PAIR = auto()  # the distance that the relocation at the symbol's place asks for


@dataclass(frozen=True)
class Rule:
    """The meaning of one type of relocation."""

    name: str
    want: Want
    width: int = 0
    put: Put = lambda number, value, place: number


@dataclass(frozen=True)
class Machine:
    """An architecture. `number` is its e_machine, `page` the largest size of its pages.

    `relative`, `slot` and `word` are the types that the loader applies: the library's address and
    an addend; a symbol's address in a slot; a symbol's address and an addend. `stub(place, slot)`
    is code of `stub_size` bytes at `place` that jumps to the address in `slot`. `refused` names
    types that code has which cannot be moved. An addend of a SLOT counts from the slot's address
    where `biased`, and has to be 0 elsewhere. Objects whose `e_flags` differ in more than
    `free_flags` do not go together.
    """

    name: str
    number: int
    page: int
    relative: int
    slot: int
    word: int
    rules: Mapping[int, Rule]
    refused: Mapping[int, str]
    stub_size: int
    stub: Callable[[int, int], bytes] = field(repr=False)
    biased: bool = False
    free_flags: int = 0


def signed(value: int, bits: int) -> int:
    """`value`, which has to be a signed number of so many bits."""
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise OutOfRange(f"{value} is no number of {bits} bits")
    return value


def multiple(value: int, of: int) -> int:
    """`value`, which has to be a multiple."""
    if value % of:
        raise OutOfRange(f"{value} is no multiple of {of}")
    return value


def distance(bits: int) -> Put:
    """How far the value is from the place, as a signed number of so many bits."""
    return lambda number, value, place: signed(value - place, bits)


def absolute(number: int, value: int, place: int) -> int:
    """The value itself, as a number of 64 bits."""
    return signed(value, 64)
