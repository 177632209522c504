"""Conversions between dtypes, the half formats by integer arithmetic where the target has no
instruction of it in the tables (`isa`).

bf16 is the upper half of an f32, rounded to nearest even. f16 from f32 follows then the
well-known scheme of adding a power of two that leaves no room for the lost bits (for subnormals)
and of adding the rounding bias to the bits.
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
    wide = b.convert("zext", v, "i32")
    size = b.binary("shl", b.binary("and", wide, Val("32767", "i32")), Val("13", "i32"))
    scaled = b.binary(
        "fmul", b.convert("bitcast", size, "float"), Val(float_literal(2.0**112), "float")
    )
    special = b.convert("bitcast", b.binary("or", size, Val(str(0xFF << 23), "i32")), "float")
    huge = b.compare("icmp uge", size, Val(str(31 << 23), "i32"))
    magnitude = b.convert("bitcast", b.select(huge, special, scaled), "i32")
    sign = b.binary("shl", b.binary("and", wide, Val("32768", "i32")), Val("16", "i32"))
    return b.convert("bitcast", b.binary("or", magnitude, sign), "float")


def float_to_half(b: Builder, v: Val, to: DType) -> Val:
    """An f32 rounded to f16 or bf16, as bits (i16)."""
    native = fitted(b, cast(arg(0, f32), to), v)
    if native is not None:
        return native
    bits = b.convert("bitcast", v, "i32")
    out = _to_bf16(b, v, bits) if to == bf16 else _to_f16(b, bits)
    return b.convert("trunc", out, "i16")


def _to_bf16(b: Builder, v: Val, bits: Val) -> Val:
    upper = b.binary("lshr", bits, Val("16", "i32"))
    bias = b.binary("add", b.binary("and", upper, Val("1", "i32")), Val("32767", "i32"))
    near = b.binary("lshr", b.binary("add", bits, bias), Val("16", "i32"))
    return b.select(b.compare("fcmp uno", v, v), b.binary("or", upper, Val("64", "i32")), near)


def _to_f16(b: Builder, bits: Val) -> Val:
    size = b.binary("and", bits, Val(str(0x7FFFFFFF), "i32"))
    sign = b.binary("lshr", b.binary("xor", bits, size), Val("16", "i32"))
    nan = b.compare("icmp ugt", size, Val(str(255 << 23), "i32"))
    over = b.select(nan, Val(str(0x7E00), "i32"), Val(str(0x7C00), "i32"))
    magic = Val(float_literal(0.5), "float")
    shifted = b.binary("fadd", b.convert("bitcast", size, "float"), magic)
    tiny = b.binary("sub", b.convert("bitcast", shifted, "i32"), Val(str(126 << 23), "i32"))
    odd = b.binary("and", b.binary("lshr", size, Val("13", "i32")), Val("1", "i32"))
    bias = Val(str(((15 - 127) << 23) + 0xFFF), "i32")
    near = b.binary("lshr", b.binary("add", b.binary("add", size, bias), odd), Val("13", "i32"))
    small = b.compare("icmp ult", size, Val(str(113 << 23), "i32"))
    large = b.compare("icmp uge", size, Val(str((127 + 16) << 23), "i32"))
    return b.binary("or", sign, b.select(large, over, b.select(small, tiny, near)))


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
