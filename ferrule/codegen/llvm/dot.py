"""Dot products of bytes: four products of an unsigned and a signed byte a lane, summed in 32 bits.

x86-64's VNNI has them as one instruction, which adds to an accumulator: an addition of a `dot4`
becomes that, as a multiplication and an addition become one fused operation, and what is left of
the `dot4` itself is dead. Elsewhere shifts and products do.
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
    width = max(x.width, y.width)
    if not b.target.has_dot4 or not 16 <= width * _BYTES <= b.target.vector_bytes:
        return _spelt(b, x, y)
    out = _instruction(b, Val("0", "i32"), x, y)
    b.dots[out.text] = (x, y)
    return out


def plus(b: Builder, x: Val, y: Val) -> Val | None:
    """x + y as one instruction where either is a `dot4`; else None."""
    for one, other in ((x, y), (y, x)):
        factors = b.dots.get(one.text)
        if factors is not None and one.width:
            return _instruction(b, other, *factors)
    return None


def _instruction(b: Builder, start: Val, x: Val, y: Val) -> Val:
    (start, x, y), width, level = b.even(start, x, y)
    name, full = f"llvm.x86.avx512.vpdpbusd.{32 * width}", start.full
    b.declare(name, full, f"{full}, {full}, {full}")  # LLVM from 22 on makes vectors of i8 of these
    operands = ", ".join(f"{full} {v.text}" for v in (start, x, y))
    return b.pure(f"call {full} @{name}({operands})", "i32", width, level)


def _spelt(b: Builder, x: Val, y: Val) -> Val:
    out: Val | None = None
    for i in range(_BYTES):
        low = b.binary("and", b.binary("lshr", x, Val(str(8 * i), "i32")), Val("255", "i32"))
        high = b.binary("shl", y, Val(str(24 - 8 * i), "i32"))
        product = b.binary("mul", low, b.binary("ashr", high, Val("24", "i32")))
        out = product if out is None else b.binary("add", out, product)
    assert out is not None
    return out
