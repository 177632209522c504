"""Dot products of bytes: four products of an unsigned and a signed byte a lane, summed in 32 bits,
by shifts and products. A CPU that has an instruction of it does not come here (isa/select.py).
"""

from __future__ import annotations

from ferrule.codegen.llvm.builder import Builder, Val

_BYTES = 4


def word(b: Builder, parts: list[Val]) -> Val:
    """Four bytes as an i32, the first one lowest."""
    out = b.convert("zext", parts[0], "i32")
    for i, part in enumerate(parts[1:], 1):
        wide = b.convert("zext", part, "i32")
        out = b.binary("or", out, b.binary("shl", wide, Val(str(8 * i), "i32")))
    return out


def dot4(b: Builder, x: Val, y: Val) -> Val:
    """The sum of the products of the bytes of `x`, unsigned, and of `y`, signed."""
    out: Val | None = None
    for i in range(_BYTES):
        low = b.binary("and", b.binary("lshr", x, Val(str(8 * i), "i32")), Val("255", "i32"))
        high = b.binary("shl", y, Val(str(24 - 8 * i), "i32"))
        product = b.binary("mul", low, b.binary("ashr", high, Val("24", "i32")))
        out = product if out is None else b.binary("add", out, product)
    assert out is not None
    return out
