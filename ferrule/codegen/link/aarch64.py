"""Relocations of AArch64 (ELF for the Arm 64-bit Architecture, section 5.7, "Relocation")."""

from __future__ import annotations

from ferrule.codegen.link.machine import (
    Machine,
    Put,
    Rule,
    Want,
    absolute,
    distance,
    multiple,
    signed,
)


def _page(number: int, value: int, place: int) -> int:
    """ADRP: 21 bits of the distance in pages of 4 KiB."""
    pages = signed((value >> 12) - (place >> 12), 21)
    return number & ~0x60FFFFE0 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5


def _low(size: int) -> Put:
    """The low 12 bits of the address, in units of the bytes that an instruction loads."""

    def put(number: int, value: int, place: int) -> int:
        return number & ~(0xFFF << 10) | multiple(value & 0xFFF, size) // size << 10

    return put


def _branch(number: int, value: int, place: int) -> int:
    """B and BL: 26 bits of the distance in words."""
    words = multiple(signed(value - place, 28), 4) >> 2
    return number & ~0x3FFFFFF | words & 0x3FFFFFF


def _stub(place: int, slot: int) -> bytes:
    """`adrp x16, slot; ldr x17, [x16, slot]; br x17; nop`."""
    words = (_page(0x90000010, slot, place), _low(8)(0xF9400211, slot, place + 4))
    return b"".join(w.to_bytes(4, "little") for w in (*words, 0xD61F0220, 0xD503201F))


AARCH64 = Machine(
    name="AArch64",
    number=183,
    page=65536,
    relative=1027,
    slot=1025,
    word=257,
    rules={
        0: Rule("NONE", Want.NOTHING),
        257: Rule("ABS64", Want.WORD, 8, absolute),
        260: Rule("PREL64", Want.ADDRESS, 8, distance(64)),
        261: Rule("PREL32", Want.ADDRESS, 4, distance(32)),
        275: Rule("ADR_PREL_PG_HI21", Want.ADDRESS, 4, _page),
        277: Rule("ADD_ABS_LO12_NC", Want.ADDRESS, 4, _low(1)),
        278: Rule("LDST8_ABS_LO12_NC", Want.ADDRESS, 4, _low(1)),
        282: Rule("JUMP26", Want.CALL, 4, _branch),
        283: Rule("CALL26", Want.CALL, 4, _branch),
        284: Rule("LDST16_ABS_LO12_NC", Want.ADDRESS, 4, _low(2)),
        285: Rule("LDST32_ABS_LO12_NC", Want.ADDRESS, 4, _low(4)),
        286: Rule("LDST64_ABS_LO12_NC", Want.ADDRESS, 4, _low(8)),
        299: Rule("LDST128_ABS_LO12_NC", Want.ADDRESS, 4, _low(16)),
        311: Rule("ADR_GOT_PAGE", Want.SLOT, 4, _page),
        312: Rule("LD64_GOT_LO12_NC", Want.SLOT, 4, _low(8)),
        314: Rule("PLT32", Want.CALL, 4, distance(32)),
    },
    refused={258: "ABS32", 259: "ABS16"},
    stub_size=16,
    stub=_stub,
)
