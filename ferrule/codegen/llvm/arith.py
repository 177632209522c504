"""Arithmetic: one operator of the Expr language on values of one dtype, as LLVM instructions.

`apply` is the entry. Floats contract (a multiplication followed by an addition may become one
fused operation) and are otherwise exact; integers wrap; nothing traps. The tables of instructions
(`isa`) are asked first. What a target lacks is spelt out: rounding adds and subtracts 2^23 (2^52
for f64), where the sum has no room for a fraction.
"""

from __future__ import annotations

from ferrule.base.dtype import DType, f32, f64
from ferrule.base.errors import UnsupportedError
from ferrule.base.features import X86
from ferrule.codegen.llvm import integer
from ferrule.codegen.llvm.builder import Builder, Val
from ferrule.codegen.llvm.convert import convert
from ferrule.codegen.llvm.isa import select
from ferrule.codegen.llvm.remainder import remainder
from ferrule.codegen.llvm.types import bits_of, float_literal

_FLOAT_BINARY = {
    "add": "fadd contract", "sub": "fsub contract", "mul": "fmul contract", "div": "fdiv",
}  # fmt: skip
_FLOAT_COMPARE = {"eq": "fcmp oeq", "ne": "fcmp une", "lt": "fcmp olt", "le": "fcmp ole"}
_LOGIC = {"and": "and", "or": "or", "xor": "xor"}
_ON_BOOL = {"add": "or", "mul": "and", "min": "and", "max": "or", "sub": "xor", "abs": None}
_ROUNDINGS = ("floor", "ceil", "trunc", "round")


def apply(b: Builder, op: str, dtype: DType, vals: list[Val]) -> Val:
    """The value of `op`, whose arguments have `dtype`. Raises UnsupportedError for what is not
    emitted.
    """
    native = select.apply(b, op, dtype, vals)
    if native is not None:
        return native
    if dtype.is_float and dtype.bits == 16:
        wide = apply(b, op, f32, [convert(b, v, dtype, f32) for v in vals])
        return wide if wide.type == "i1" else convert(b, wide, f32, dtype)
    if dtype.is_float:
        return _float(b, op, vals)
    if dtype.is_bool:
        return _bool(b, op, vals)
    return integer.apply(b, op, dtype, vals)


def _bool(b: Builder, op: str, vals: list[Val]) -> Val:
    op = _ON_BOOL.get(op, op) or "or"
    x = vals[0]
    if op == "not":
        return b.binary("xor", x, Val("true", "i1"))
    y = vals[-1]
    if op in _LOGIC:
        return b.binary(_LOGIC[op], x, y)
    if op == "eq":
        return b.binary("xor", b.binary("xor", x, y), Val("true", "i1"))
    if op == "ne":
        return b.binary("xor", x, y)
    if op in ("lt", "le"):
        return b.compare("icmp ult" if op == "lt" else "icmp ule", x, y)
    if op in ("isnan", "isinf"):
        return b.splat(Val("false", "i1"), x.width)
    raise UnsupportedError(f"codegen has no {op} of bool")


def _float(b: Builder, op: str, vals: list[Val]) -> Val:
    x, y = vals[0], vals[-1]
    if op in _FLOAT_BINARY:
        return b.binary(_FLOAT_BINARY[op], x, y)
    if op in _FLOAT_COMPARE:
        return b.compare(_FLOAT_COMPARE[op], x, y)
    if op in ("min", "max"):
        return extremum(b, op, x, y)
    if op == "fma":
        return b.binary("fadd", b.binary("fmul", x, vals[1]), vals[2])
    if op in _ROUNDINGS:
        return _rounded(b, op, x)
    emit = _FLOAT_OTHER.get(op)
    if emit is None:
        raise UnsupportedError(f"codegen has no {op} of {x.type}: it must be lowered before")
    return emit(b, x, y)


def literal(v: Val, value: float) -> Val:
    """A float constant of the type of `v`."""
    return Val(float_literal(value, bits_of(v.type)), v.type)


def extremum(b: Builder, op: str, x: Val, y: Val) -> Val:
    """min or max, NaN where either is. A comparison with NaN is false and gives the second operand,
    so a constant goes first and needs no further test. Else the later operand is tested, which
    keeps an accumulator's chain short; on vectors without mask registers the test's bits, all ones
    where it is NaN, are a NaN themselves.
    """
    first, second = (x, y) if _is_number(x) else (y, x)
    wide = b.target.has_mask_registers or not (x.width or y.width)
    if not _is_number(first) and (wide or b.target.architecture not in X86):
        return b.intrinsic("maximum" if op == "max" else "minimum", first, second, flags="nsz ")
    test = "fcmp ogt" if op == "max" else "fcmp olt"
    best = b.select(b.compare(test, first, second), first, second)
    if _is_number(first):
        return best
    bits = f"i{bits_of(x.type)}"
    nan = b.convert("sext", b.compare("fcmp uno", first, first), bits)
    return b.convert("bitcast", b.binary("or", b.convert("bitcast", best, bits), nan), x.type)


def _is_number(v: Val) -> bool:
    if not v.literal:
        return False
    bits = v.text[len(f"splat ({v.type} ") : -1] if v.text.startswith("splat") else v.text
    return bits.startswith("0x") and int(bits, 16) & (1 << 63) - 1 <= 0x7FF << 52


def rounded(b: Builder, op: str, x: Val) -> Val:
    """floor, ceil, trunc, or round to nearest even."""
    native = select.apply(b, op, f32 if x.type == "float" else f64, [x])
    return _rounded(b, op, x) if native is None else native


def _rounded(b: Builder, op: str, x: Val) -> Val:
    size = b.intrinsic("fabs", x)
    limit = literal(x, 2.0 ** (23 if x.type == "float" else 52))
    near = b.binary("fsub", b.binary("fadd", size, limit), limit)
    one = literal(x, 1.0)
    if op == "trunc":
        near = b.select(b.compare("fcmp ogt", near, size), b.binary("fsub", near, one), near)
    near = b.intrinsic("copysign", near, x)
    if op in ("floor", "ceil"):
        test, opcode = ("fcmp ogt", "fsub") if op == "floor" else ("fcmp olt", "fadd")
        moved = b.binary(opcode, near, one)
        near = b.select(b.compare(test, near, x), b.intrinsic("copysign", moved, x), near)
    return b.select(b.compare("fcmp olt", size, limit), near, x)


def _sign(b: Builder, x: Val, _: Val) -> Val:
    zero = literal(x, 0.0)
    negative = b.select(b.compare("fcmp olt", x, zero), literal(x, -1.0), x)
    return b.select(b.compare("fcmp ogt", x, zero), literal(x, 1.0), negative)


def _mod(b: Builder, x: Val, y: Val) -> Val:
    r = remainder(b, x, y)
    zero = literal(x, 0.0)
    apart = b.binary("xor", b.compare("fcmp olt", r, zero), b.compare("fcmp olt", y, zero))
    apart = b.binary("and", apart, b.compare("fcmp une", r, zero))
    return b.select(apart, b.binary("fadd", r, y), r)


_FLOAT_OTHER = {
    "neg": lambda b, x, _: b.pure(f"fneg {x.full} {x.text}", x.type, x.width, x.level),
    "abs": lambda b, x, _: b.intrinsic("fabs", x),
    "sqrt": lambda b, x, _: b.intrinsic("sqrt", x),
    "rsqrt": lambda b, x, _: b.binary("fdiv", literal(x, 1.0), b.intrinsic("sqrt", x)),
    "sign": _sign,
    "copysign": lambda b, x, y: b.intrinsic("copysign", x, y),
    "isnan": lambda b, x, _: b.compare("fcmp uno", x, x),
    "isinf": lambda b, x, _: b.compare(
        "fcmp oeq", b.intrinsic("fabs", x), literal(x, float("inf"))
    ),
    "floordiv": lambda b, x, y: rounded(b, "floor", b.binary("fdiv", x, y)),
    "truncdiv": lambda b, x, y: rounded(b, "trunc", b.binary("fdiv", x, y)),
    "rem": remainder,
    "mod": _mod,
}
