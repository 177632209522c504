"""Conversions between dtypes, the half formats by integer arithmetic where the target has no
instruction of it in the tables (`isa`).

bf16 is the upper half of an f32, rounded to nearest even. An f16's bits in the place of an f32's
are 2^-112 of its value, and so a product makes it one. The other way a power of two is added that
leaves no room for the lost bits, for normal and subnormal results alike; Maratyszka's library FP16
does so. Neither chooses between values where a bit mask does, since SSE2 and scalars have no blend.
"""

from __future__ import annotations

from ferrule.base.dtype import DType, bf16, f16, f32, f64, i32, i64
from ferrule.codegen.llvm.builder import Builder, Val
from ferrule.codegen.llvm.isa.select import fitted, instruction
from ferrule.codegen.llvm.types import bits_of, float_literal, ssa_type
from ferrule.ir.expr import arg, cast


def convert(b: Builder, v: Val, source: DType, to: DType) -> Val:
    """`v` of dtype `source` as `to`: floats round to nearest even, float to integer truncates (see
    `_to_integer`), to bool is `!= 0`.
    """
    if source == to:
        return v
    if source.is_float and source.bits == 16:
        return convert(b, half_to_float(b, v, source), f32, to)
    if to.is_float and to.bits == 16:
        odd = source.name == "f64" and to == f16
        wide = _round_to_odd(b, v) if odd else convert(b, v, source, f32)
        return float_to_half(b, wide, to)
    if to.is_bool:
        return _to_bool(b, v, source)
    type = ssa_type(to)
    if source.is_float and to.is_float:
        return b.convert("fpext" if to.bits > source.bits else "fptrunc", v, type)
    if source.is_float:
        return _to_integer(b, v, to)
    if to.is_float:
        return b.convert("sitofp" if source.kind == "i" else "uitofp", v, type)
    if to.bits <= source.bits and not source.is_bool:
        return b.convert("trunc", v, type)
    return b.convert("sext" if source.kind == "i" else "zext", v, type)


def _to_bool(b: Builder, v: Val, source: DType) -> Val:
    if source.is_float:
        return b.compare("fcmp une", v, Val(float_literal(0.0), v.type))
    return b.compare("icmp ne", v, Val("0", v.type))


def _to_integer(b: Builder, v: Val, to: DType) -> Val:
    """A float truncated to i64, or to i32 for all narrower types, of which the low bits are kept.

    What that type does not hold becomes its least value. For u64 (u32) the upper half of the range
    is moved down by 2^63 (2^31) before, and up after.
    """
    type = "i64" if to.bits == 64 else "i32"
    half = Val(float_literal(2.0 ** (bits_of(type) - 1)), v.type)
    if to.kind == "i" or to.bits < 32:
        return b.convert("trunc", _truncated(b, v, type, half), ssa_type(to))
    upper = b.compare("fcmp oge", v, half)
    low = _truncated(b, b.select(upper, b.binary("fsub", v, half), v), type, half)
    top = b.binary("shl", b.convert("zext", upper, type), Val(str(bits_of(type) - 1), type))
    return b.binary("xor", low, top)


def _truncated(b: Builder, v: Val, type: str, half: Val) -> Val:
    """A float as a signed integer of `type`; the least where its size is not below `half`, as x86's
    instructions give it themselves. LLVM's own conversion is undefined there.
    """
    meaning = cast(arg(0, f32 if v.type == "float" else f64), i32 if type == "i32" else i64)
    native = instruction(b.target, meaning, v.width)
    if native is not None:
        return native.emit(b, v)
    inside = b.compare("fcmp olt", b.intrinsic("fabs", v), half)
    least = Val(float_literal(-(2.0 ** (bits_of(type) - 1))), v.type)
    return b.convert("fptosi", b.select(inside, v, least), type)


def half_to_float(b: Builder, v: Val, source: DType) -> Val:
    """The bits of an f16 or bf16 (i16) as an f32."""
    native = instruction(b.target, cast(arg(0, source), f32), v.width)
    if native is not None:
        return native.emit(b, v)
    if source == bf16:
        wide = b.convert("zext", v, "i32")
        return b.convert("bitcast", b.binary("shl", wide, Val("16", "i32")), "float")
    upper = b.binary("shl", b.convert("zext", v, "i32"), Val("16", "i32"))
    if v.width:
        # Were it seen that the low halves are masked out, they would be those of a register's last
        # value, for which a loop on SSE2 then waits.
        upper = b.convert("bitcast", b.fenced(b.convert("bitcast", upper, "float")), "i32")
    moved = b.binary("and", b.binary("ashr", upper, Val("3", "i32")), _word(0x8FFFE000))
    scaled = b.binary(
        "fmul", b.convert("bitcast", moved, "float"), Val(float_literal(2.0**112), "float")
    )
    size = b.binary("and", moved, _word(0x7FFFFFFF))
    special = b.convert("sext", b.compare("icmp sgt", size, _word((31 << 23) - 1)), "i32")
    bits = b.binary("or", b.convert("bitcast", scaled, "i32"),
                    b.binary("and", special, _word(0xFF << 23)))  # fmt: skip
    return b.convert("bitcast", bits, "float")


def float_to_half(b: Builder, v: Val, to: DType) -> Val:
    """An f32 rounded to f16 or bf16, as bits (i16)."""
    native = fitted(b, cast(arg(0, f32), to), v)
    if native is not None:
        return native
    bits = b.convert("bitcast", v, "i32")
    out = _to_bf16(b, v, bits) if to == bf16 else _to_f16(b, v, bits)
    return b.convert("trunc", out, "i16")


def _to_bf16(b: Builder, v: Val, bits: Val) -> Val:
    upper = b.binary("lshr", bits, Val("16", "i32"))
    bias = b.binary("add", b.binary("and", upper, Val("1", "i32")), Val("32767", "i32"))
    near = b.binary("lshr", b.binary("add", bits, bias), Val("16", "i32"))
    return b.select(b.compare("fcmp uno", v, v), b.binary("or", upper, Val("64", "i32")), near)


def _to_f16(b: Builder, v: Val, bits: Val) -> Val:
    """With e the power of two in |v|, or that of the least normal f16, 2^15 e + 4 |v| has room for
    11 bits of v: its own exponent is then that of the result, less one, and its low bits are
    what is to be added to that. 2^16 gives infinity.
    """
    size = b.convert("bitcast", b.binary("and", bits, _word(0x7FFFFFFF)), "float")
    most, least = (Val(float_literal(2.0**n), "float") for n in (16, -14))
    size = b.select(b.compare("fcmp olt", size, most), size, most)
    power = b.binary("and", b.convert("bitcast", size, "i32"), _word(0xFF << 23))
    power = b.convert("bitcast", power, "float")
    power = b.select(b.compare("fcmp ogt", power, least), power, least)
    full = b.binary("fadd", b.binary("fmul", power, Val(float_literal(2.0**15), "float")),
                    b.binary("fmul", size, Val(float_literal(4.0), "float")))  # fmt: skip
    sum = b.convert("bitcast", full, "i32")
    exponent = b.binary("and", b.binary("lshr", sum, Val("13", "i32")), _word(0x7C00))
    near = b.binary("add", exponent, b.binary("and", sum, _word(0xFFF)))
    nan = b.convert("sext", b.compare("fcmp uno", v, v), "i32")
    near = b.binary("or", near, b.binary("and", nan, _word(0x200)))
    sign = b.binary("and", b.binary("lshr", bits, Val("16", "i32")), _word(0x8000))
    return b.binary("or", sign, near)


def _word(bits: int) -> Val:
    """An i32 of these bits."""
    return Val(str(bits - (bits >> 31 << 32)), "i32")


def _round_to_odd(b: Builder, v: Val) -> Val:
    """An f64 as the f32 from which a second rounding gives what one rounding would: inexact
    results are made odd.
    """
    near = b.convert("fptrunc", v, "float")
    back = b.convert("fpext", near, "double")
    bits = b.convert("bitcast", near, "i32")
    even = b.compare("icmp eq", b.binary("and", bits, Val("1", "i32")), Val("0", "i32"))
    inexact = b.binary("and", even, b.compare("fcmp one", back, v))
    outward = b.compare("fcmp ogt", b.intrinsic("fabs", v), b.intrinsic("fabs", back))
    step = b.select(outward, Val("1", "i32"), Val("-1", "i32"))
    moved = b.convert("bitcast", b.binary("add", bits, step), "float")
    return b.select(inexact, moved, near)


def bitcast(b: Builder, v: Val, to: DType) -> Val:
    """The bits of `v` as another dtype of the same width."""
    return b.convert("bitcast", v, ssa_type(to))
