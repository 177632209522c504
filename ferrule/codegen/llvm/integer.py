"""Integer arithmetic that wraps and never traps.

Machine division traps on a zero divisor and on the least value divided by -1: both divisors are
replaced before the division, and their results after. Vector divisions become scalar ones in LLVM;
a power of two or another constant becomes shifts and products.
"""

from __future__ import annotations

from ferrule.base.dtype import DType
from ferrule.base.errors import UnsupportedError
from ferrule.codegen.llvm import dot
from ferrule.codegen.llvm.builder import Builder, Val

_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_COMPARE = {"eq": "icmp eq", "ne": "icmp ne"}
_ORDER = {"lt": "lt", "le": "le"}


def apply(b: Builder, op: str, dtype: DType, vals: list[Val]) -> Val:
    """`op` on integers of `dtype`."""
    x, y = vals[0], vals[-1]
    sign = "s" if dtype.kind == "i" else "u"
    if op in _BINARY:
        return b.binary(_BINARY[op], x, y)
    if op in _COMPARE:
        return b.compare(_COMPARE[op], x, y)
    if op in _ORDER:
        return b.compare(f"icmp {sign}{_ORDER[op]}", x, y)
    if op in ("min", "max"):
        return b.intrinsic(f"{sign}{op}", x, y)
    if op in ("shl", "shr"):
        return _shift(b, op, dtype, x, y)
    if op in ("div", "truncdiv", "rem", "floordiv", "mod"):
        return divide(b, "truncdiv" if op == "div" else op, dtype, x, y)
    if op == "pow":
        return _power(b, dtype, x, y)
    if op == "fma":
        return b.binary("add", b.binary("mul", x, vals[1]), vals[2])
    if op == "word":
        return dot.word(b, vals)
    if op == "dot4":
        return dot.dot4(b, x, y)
    return _unary(b, op, dtype, x)


def _unary(b: Builder, op: str, dtype: DType, x: Val) -> Val:
    zero = Val("0", x.type)
    if op == "neg":
        return b.binary("sub", zero, x)
    if op == "not":
        return b.binary("xor", x, Val("-1", x.type))
    if op in ("isnan", "isinf"):
        return b.splat(Val("false", "i1"), x.width)
    if op in ("floor", "ceil", "trunc", "round"):
        return x
    if op == "abs":
        return b.intrinsic("abs", x, tail=", i1 false") if dtype.kind == "i" else x
    if op == "sign":
        positive = b.convert("zext", b.compare("icmp ne", x, zero), x.type)
        if dtype.kind == "u":
            return positive
        return b.select(b.compare("icmp slt", x, zero), Val("-1", x.type), positive)
    raise UnsupportedError(f"codegen has no {op} of {dtype.name}")


def _shift(b: Builder, op: str, dtype: DType, x: Val, y: Val) -> Val:
    last = Val(str(dtype.bits - 1), x.type)
    if op == "shr" and dtype.kind == "i":
        return b.binary("ashr", x, y if _small(y, dtype) else b.intrinsic("umin", y, last))
    opcode = "shl" if op == "shl" else "lshr"
    if _small(y, dtype):
        return b.binary(opcode, x, y)
    inside = b.compare("icmp ule", y, last)
    amount = b.select(inside, y, Val("0", x.type))
    return b.select(inside, b.binary(opcode, x, amount), Val("0", x.type))


def _small(y: Val, dtype: DType) -> bool:
    value = literal_int(y)
    return value is not None and 0 <= value < dtype.bits


def literal_int(v: Val) -> int | None:
    """The value of an integer literal (in every lane), else None."""
    if not v.literal:
        return None
    text = v.text[len(f"splat ({v.type} ") : -1] if v.text.startswith("splat (") else v.text
    return int(text) if text.lstrip("-").isdigit() else None


def divide(b: Builder, op: str, dtype: DType, x: Val, y: Val, natural: bool = False) -> Val:
    """truncdiv, rem, floordiv or mod. `natural` says that x >= 0 and y > 0, and unsigned
    instructions do.
    """
    by = literal_int(y)
    if dtype.kind == "u" or natural:
        opcode = "udiv" if op in ("truncdiv", "floordiv") else "urem"
        return b.binary(opcode, x, y) if natural or by else _unsigned_guarded(b, opcode, x, y)
    if by is not None and by > 0 and by & (by - 1) == 0 and op in ("floordiv", "mod"):
        if op == "mod":
            return b.binary("and", x, Val(str(by - 1), x.type))
        return b.binary("ashr", x, Val(str(by.bit_length() - 1), x.type))
    if by is None or by in (0, -1):
        return _signed_guarded(b, op, x, y)
    return _signed(b, op, x, y)


def _unsigned_guarded(b: Builder, opcode: str, x: Val, y: Val) -> Val:
    zero, one = Val("0", x.type), Val("1", x.type)
    nothing = b.compare("icmp eq", y, zero)
    return b.select(nothing, zero, b.binary(opcode, x, b.select(nothing, one, y)))


def _signed_guarded(b: Builder, op: str, x: Val, y: Val) -> Val:
    """By -1 the quotient is -x and by 0 it is 0; the rest is that of 1, 0, for both."""
    zero, one = Val("0", x.type), Val("1", x.type)
    minus = b.compare("icmp eq", y, Val("-1", y.type))
    bad = b.binary("or", minus, b.compare("icmp eq", y, zero))
    out = _signed(b, op, x, b.select(bad, one, y))
    if op in ("rem", "mod"):
        return out
    return b.select(bad, b.select(minus, b.binary("sub", zero, x), zero), out)


def _signed(b: Builder, op: str, x: Val, y: Val) -> Val:
    if op == "truncdiv":
        return b.binary("sdiv", x, y)
    if op == "rem":
        return b.binary("srem", x, y)
    zero = Val("0", x.type)
    rest = b.binary("srem", x, y)
    differs = b.compare("icmp slt", b.binary("xor", rest, y), zero)
    down = b.binary("and", differs, b.compare("icmp ne", rest, zero))
    if op == "mod":
        return b.select(down, b.binary("add", rest, y), rest)
    quotient = b.binary("sdiv", x, y)
    return b.binary("add", quotient, b.convert("sext", down, x.type))


def _power(b: Builder, dtype: DType, x: Val, y: Val) -> Val:
    """x**y by squaring, one step a bit of the exponent; a negative exponent gives 0 unless x is 1
    or -1.
    """
    out, square = Val("1", x.type), x
    known = literal_int(y)
    if known is not None and known >= 0:
        while known:
            out = b.binary("mul", out, square) if known & 1 else out
            known >>= 1
            square = b.binary("mul", square, square) if known else square
        return b.splat(out, x.width)
    zero, one = Val("0", x.type), Val("1", x.type)
    for bit in range(dtype.bits):
        taken = b.compare("icmp ne", b.binary("and", y, Val(str(1 << bit), x.type)), zero)
        out = b.select(taken, b.binary("mul", out, square), out)
        square = b.binary("mul", square, square) if bit + 1 < dtype.bits else square
    if dtype.kind == "u":
        return out
    # for x = 1 and x = -1 the two's complement of the exponent gives the right sign already
    unit = b.binary("or", b.compare("icmp eq", x, one), b.compare("icmp eq", x, Val("-1", x.type)))
    lost = b.binary("and", b.compare("icmp slt", y, zero), b.binary("xor", unit, Val("true", "i1")))
    return b.select(lost, zero, out)
