"""Relocations of 64-bit RISC-V (RISC-V ELF psABI, section 8.4, "Relocations").

Code is left as it is and never relaxed. So RELAX asks for nothing, and the NOPs of an ALIGN stay,
all of them: what comes after them may be aligned less than it was to be, and runs all the same.
"""

from __future__ import annotations

from ferrule.codegen.link.machine import (
    Machine,
    OutOfRange,
    Put,
    Rule,
    Want,
    absolute,
    distance,
    multiple,
    signed,
)

_DOUBLE_COMPRESSED = 1  # EF_RISCV_RVC: some code has instructions of 16 bits


def _upper(number: int, value: int, place: int) -> int:
    """AUIPC: the upper 20 bits of a distance, rounded as the lower 12 are signed."""
    if not -(1 << 31) <= value - place + 0x800 < 1 << 31:
        raise OutOfRange(f"{value - place} is too far for 32 bits")
    return number & 0xFFF | (value - place + 0x800) & 0xFFFFF000


def _load(number: int, value: int, place: int) -> int:
    """I-type: the lower 12 bits."""
    return number & 0xFFFFF | (value - place & 0xFFF) << 20


def _store(number: int, value: int, place: int) -> int:
    """S-type: the lower 12 bits."""
    low = value - place
    return number & 0x01FFF07F | (low & 0xFE0) << 20 | (low & 0x1F) << 7


def _call(number: int, value: int, place: int) -> int:
    """AUIPC and JALR."""
    first = _upper(number & 0xFFFFFFFF, value, place)
    return first | _load(number >> 32, value, place) << 32


def _jump(bits: int, pieces: tuple[tuple[int, int, int], ...]) -> Put:
    """A branch to a distance of so many bits; a piece is its lowest bit in the distance, how many
    bits, and its lowest bit in the instruction.
    """

    def put(number: int, value: int, place: int) -> int:
        far = multiple(signed(value - place, bits), 2)
        for bit, count, to in pieces:
            mask = (1 << count) - 1
            number = number & ~(mask << to) | (far >> bit & mask) << to
        return number

    return put


_B = ((11, 1, 7), (1, 4, 8), (5, 6, 25), (12, 1, 31))
_J = ((12, 8, 12), (11, 1, 20), (1, 10, 21), (20, 1, 31))
_CB = ((5, 1, 2), (1, 2, 3), (6, 2, 5), (3, 2, 10), (8, 1, 12))
_CJ = ((5, 1, 2), (1, 3, 3), (7, 1, 6), (6, 1, 7), (10, 1, 8), (8, 2, 9), (4, 1, 11), (11, 1, 12))


def _plus(number: int, value: int, place: int) -> int:
    return number + value


def _minus(number: int, value: int, place: int) -> int:
    return number - value


def _six(put: Put) -> Put:
    """On the lower 6 bits of a byte."""
    return lambda number, value, place: number & 0xC0 | put(number, value, place) & 0x3F


def _stub(place: int, slot: int) -> bytes:
    """`auipc t3, slot; ld t3, slot(t3); jr t3; nop`."""
    words = (_upper(0x00000E17, slot, place), _load(0x000E3E03, slot, place))
    return b"".join(w.to_bytes(4, "little") for w in (*words, 0x000E0067, 0x00000013))


def _sums() -> dict[int, Rule]:
    """The relocations whose sum is a difference of two labels."""
    found = {52: Rule("SUB6", Want.ADDRESS, 1, _six(_minus))}
    found[53] = Rule("SET6", Want.ADDRESS, 1, _six(absolute))
    for k, bits in enumerate((8, 16, 32, 64)):
        found[33 + k] = Rule(f"ADD{bits}", Want.ADDRESS, bits // 8, _plus)
        found[37 + k] = Rule(f"SUB{bits}", Want.ADDRESS, bits // 8, _minus)
        if bits < 64:
            found[54 + k] = Rule(f"SET{bits}", Want.ADDRESS, bits // 8, absolute)
    return found


RISCV64 = Machine(
    name="RISC-V",
    number=243,
    page=4096,
    relative=3,
    slot=2,
    word=2,
    rules={
        0: Rule("NONE", Want.NOTHING),
        2: Rule("64", Want.WORD, 8, absolute),
        16: Rule("BRANCH", Want.ADDRESS, 4, _jump(13, _B)),
        17: Rule("JAL", Want.CALL, 4, _jump(21, _J)),
        18: Rule("CALL", Want.CALL, 8, _call),
        19: Rule("CALL_PLT", Want.CALL, 8, _call),
        20: Rule("GOT_HI20", Want.SLOT, 4, _upper),
        23: Rule("PCREL_HI20", Want.ADDRESS, 4, _upper),
        24: Rule("PCREL_LO12_I", Want.PAIR, 4, _load),
        25: Rule("PCREL_LO12_S", Want.PAIR, 4, _store),
        43: Rule("ALIGN", Want.NOTHING),
        44: Rule("RVC_BRANCH", Want.ADDRESS, 2, _jump(9, _CB)),
        45: Rule("RVC_JUMP", Want.ADDRESS, 2, _jump(12, _CJ)),
        51: Rule("RELAX", Want.NOTHING),
        57: Rule("32_PCREL", Want.ADDRESS, 4, distance(32)),
        59: Rule("PLT32", Want.CALL, 4, distance(32)),
        **_sums(),
    },
    refused={1: "32", 26: "HI20", 27: "LO12_I", 28: "LO12_S"},
    stub_size=16,
    stub=_stub,
    free_flags=_DOUBLE_COMPRESSED,
)
