"""Relocations of x86-64 (System V psABI for AMD64, section 4.4, "Relocation")."""

from __future__ import annotations

from ferrule.codegen.link.machine import Machine, Rule, Want, absolute, distance, signed


def _stub(place: int, slot: int) -> bytes:
    """`jmp *slot(%rip)`, and two bytes of `int3`."""
    after = place + 6
    return b"\xff\x25" + signed(slot - after, 32).to_bytes(4, "little", signed=True) + b"\xcc\xcc"


X86_64 = Machine(
    name="x86-64",
    number=62,
    page=4096,
    relative=8,
    slot=6,
    word=1,
    rules={
        0: Rule("NONE", Want.NOTHING),
        1: Rule("64", Want.WORD, 8, absolute),
        2: Rule("PC32", Want.ADDRESS, 4, distance(32)),
        4: Rule("PLT32", Want.CALL, 4, distance(32)),
        9: Rule("GOTPCREL", Want.SLOT, 4, distance(32)),
        24: Rule("PC64", Want.ADDRESS, 8, distance(64)),
        41: Rule("GOTPCRELX", Want.SLOT, 4, distance(32)),
        42: Rule("REX_GOTPCRELX", Want.SLOT, 4, distance(32)),
    },
    refused={10: "32", 11: "32S", 12: "16", 14: "8"},
    stub_size=8,
    stub=_stub,
    biased=True,
)
