"""The scalar language in Triton: one line of text for each operator, and the small functions that
some of them call.

Meaning is that of `ferrule.ir.expr`: divisions are exact to the last bit, `min` and `max` propagate
NaN, integers wrap, `floordiv` and `mod` round down. Triton has no arithmetic for f16 and bf16 of
its own here: it happens in f32. Functions that Triton's language lacks (log1p, atan, pow, ..) have
formulas as arithmetic in the pass that lowers mathematics; a kernel that went through it is made
of what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ferrule.base.dtype import DType
from ferrule.base.errors import UnsupportedError
from ferrule.ir.expr import Expr
from ferrule.ir.operators import COMPARISONS, LOGIC, OPERATORS, PREDICATES

TYPES: dict[str, str] = {
    "f16": "tl.float16", "bf16": "tl.bfloat16", "f32": "tl.float32", "f64": "tl.float64",
    "i8": "tl.int8", "i16": "tl.int16", "i32": "tl.int32", "i64": "tl.int64",
    "u8": "tl.uint8", "u16": "tl.uint16", "u32": "tl.uint32", "u64": "tl.uint64",
    "bool": "tl.int1",
}  # fmt: skip

HELPERS: dict[str, str] = {
    "_floordiv": '''
@triton.jit
def _floordiv(a, b):
    """Integer a / b, rounded down, 0 for b = 0; `//` rounds towards zero."""
    some = (b != 0).to(b.dtype)
    by = b + 1 - some
    rest = a % by
    return some * tl.where((rest != 0) & ((rest < 0) != (by < 0)), a // by - 1, a // by)
''',
    "_truncdiv": '''
@triton.jit
def _truncdiv(a, b):
    """Integer a / b, rounded towards zero; 0 for b = 0."""
    some = (b != 0).to(b.dtype)
    return some * (a // (b + 1 - some))
''',
    "_rest": '''
@triton.jit
def _rest(a, b):
    """a - b * (a / b) with the sign of `a`; 0 for b = 0."""
    return a % (b + 1 - (b != 0).to(b.dtype))
''',
    "_floormod": '''
@triton.jit
def _floormod(a, b):
    """a - b * floor(a / b) of integers; 0 for b = 0."""
    by = b + 1 - (b != 0).to(b.dtype)
    rest = a % by
    return tl.where((rest != 0) & ((rest < 0) != (by < 0)), rest + by, rest)
''',
    "_to_signed": '''
@triton.jit
def _to_signed(x, half, to: tl.constexpr):
    """A float as a signed integer; the least one where its size is not below `half`."""
    return tl.where(tl.abs(x) < half, x, -half).to(to)
''',
    "_to_unsigned": '''
@triton.jit
def _to_unsigned(x, half, to: tl.constexpr, unsigned: tl.constexpr, bit: tl.constexpr):
    """The same with 2 * half numbers: the upper ones are moved down before, and up after."""
    upper = x >= half
    x = tl.where(upper, x - half, x)
    low = tl.where(tl.abs(x) < half, x, -half).to(to).to(unsigned)
    return low ^ (upper.to(unsigned) << bit)
''',
    "_mod": '''
@triton.jit
def _mod(a, b):
    """a - b * floor(a / b) of floats; `%` has the sign of `a`."""
    rest = a % b
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)
''',
    "_round": '''
@triton.jit
def _round(x, big):
    """To the nearest integer, ties to even: `big` is 1.5 times the first power of two whose
    neighbours are integers.
    """
    near = (tl.abs(x) + big) - big
    return tl.where(tl.abs(x) < big, tl.where(x < 0, -near, tl.where(x == 0, x, near)), x)
''',
    "_tanh": '''
@triton.jit
def _tanh(x):
    """f32, within 2 ulp: the Taylor series where `1 - exp(-2x)` would cancel."""
    t = tl.exp(-2.0 * tl.abs(x))
    large = (1.0 - t) / (1.0 + t)
    s = x * x
    tail = 0.13333334 + s * (-0.053968254 + s * (0.021869488 - s * 0.008863236))
    small = x + x * (s * (-0.33333334 + s * tail))
    return tl.where(tl.abs(x) < 0.3, small, tl.where(x < 0, -large, large))
''',
}

_INFIX = {  # others are infix too, but mean something else in Triton
    name: op.infix[1]
    for name, op in OPERATORS.items()
    if op.infix and not op.divides and name not in ("shl", "shr")
}
_ON_BOOLS = {
    "add": "|", "max": "|", "or": "|", "mul": "&", "min": "&", "and": "&", "sub": "^", "xor": "^",
    "eq": "==", "ne": "!=",
}  # fmt: skip
_FLOAT_CALLS = {
    "exp": "tl.exp", "exp_nonpositive": "tl.exp", "exp2": "tl.exp2", "log": "tl.log",
    "log2": "tl.log2", "sin": "tl.sin", "cos": "tl.cos", "rsqrt": "tl.rsqrt",
    "erf": "tl.erf", "abs": "tl.abs", "floor": "tl.floor",
    "ceil": "tl.ceil", "sigmoid": "tl.sigmoid", "fma": "tl.fma",
}  # fmt: skip
REPEATING = frozenset({"sign", "trunc", "truncdiv", "isnan", "shl", "shr"})  # operands, in text
_HALF_ULP = {"f32": 12582912.0, "f64": 6755399441055744.0}


def literal(value: object, dtype: DType) -> str:
    """A constant as a Python number, which takes the dtype of what it meets."""
    if not dtype.is_float:
        return repr(value)
    text = repr(float(str(value)))
    return text if text.lstrip("-")[0].isdigit() else f'float("{text}")'


def full(value: object, dtype: DType, shape: str = "()") -> str:
    """A constant of a dtype of its own, as a scalar or a tile."""
    return f"tl.full({shape}, {literal(value, dtype)}, {TYPES[dtype.name]})"


def operand(value: object, dtype: DType) -> str:
    """A constant beside a tile of `dtype` in `tl.where`, which would widen a plain number."""
    return literal(value, dtype) if dtype.name in ("f32", "i64") else full(value, dtype)


def narrowed(text: str, dtype: DType) -> str:
    """A sum, which Triton widens to 32 bits, in the dtype of its terms."""
    return text if dtype.bits >= 32 else f"{text}.to({TYPES[dtype.name]})"


def helper_of(text: str) -> frozenset[str]:
    """The helpers that a piece of text calls."""
    return frozenset(name for name in HELPERS if f"{name}(" in text)


def convert(text: str, source: DType, to: DType) -> str:
    """`text` of dtype `source` cast to `to`."""
    if to.is_bool:
        return f"({text} != 0)"
    if source.is_float and to.is_int:
        wide = f"{text}.to({TYPES[source.compute.name]})"
        bits = 64 if to.bits == 64 else 32
        half = f"{wide}, {2.0 ** (bits - 1)!r}, tl.int{bits}"
        if to.kind == "u" and to.bits == bits:
            return f"_to_unsigned({half}, {TYPES[to.name]}, {bits - 1})"
        return f"_to_signed({half}).to({TYPES[to.name]})"
    return f"{text}.to({TYPES[to.name]})"


def reinterpret(text: str, to: DType) -> str:
    """The bits of `text` as `to`."""
    return f"{text}.to({TYPES[to.name]}, bitcast=True)"


def apply(op: str, dtype: DType, args: Sequence[str]) -> str:
    """`op` on texts of operands of `dtype`. Raises UnsupportedError where Triton has no form."""
    if dtype.is_bool:
        return _on_bools(op, args)
    if dtype.is_float and dtype.bits == 16:
        wide = apply(op, _F32, [f"{a}.to(tl.float32)" for a in args])
        return wide if op in COMPARISONS | PREDICATES else f"{wide}.to({TYPES[dtype.name]})"
    if op in _INFIX and not (dtype.is_float and op in LOGIC):
        return f"({args[0]} {_INFIX[op]} {args[1]})"
    rule = (_FLOAT if dtype.is_float else _INTEGER).get(op)
    if rule is None:
        raise unsupported(op, dtype)
    return rule(dtype, *args)


def unsupported(op: str, dtype: DType) -> UnsupportedError:
    return UnsupportedError(
        f"Triton has no {op} on {dtype.name}; lower the kernel's mathematics to arithmetic first"
    )


def _on_bools(op: str, args: Sequence[str]) -> str:
    if op == "not":
        return f"({args[0]} == 0)"
    if op not in _ON_BOOLS:
        raise UnsupportedError(f"{op} has no meaning on bool")
    return f"({args[0]} {_ON_BOOLS[op]} {args[1]})"


# ---- floats --------------------------------------------------------------------------------------

Rule = Callable[..., str]


def _called(name: str) -> Rule:
    return lambda dtype, *args: f"{name}({', '.join(args)})"


def _extremum(name: str) -> Rule:
    def rule(dtype: DType, x: str, y: str) -> str:
        nan = ", propagate_nan=tl.PropagateNan.ALL" if dtype.is_float else ""
        return f"{name}({x}, {y}{nan})"

    return rule


def _div(dtype: DType, x: str, y: str) -> str:
    return f"tl.div_rn({x}, {y})" if dtype.bits == 32 else f"({x} / {y})"


def _sqrt(dtype: DType, x: str) -> str:
    return f"tl.sqrt_rn({x})" if dtype.bits == 32 else f"tl.sqrt({x})"


def _sign(dtype: DType, x: str) -> str:
    one, less = full(1, dtype), full(-1 if dtype.is_signed else 0, dtype)
    return f"tl.where({x} > 0, {one}, tl.where({x} < 0, {less}, {x}))"


def _trunc(dtype: DType, x: str) -> str:
    return f"tl.where({x} < 0, tl.ceil({x}), tl.floor({x}))"


def _tanh(dtype: DType, x: str) -> str:
    if dtype.bits != 32:
        raise unsupported("tanh", dtype)
    return f"_tanh({x})"


def _normal_cdf(dtype: DType, x: str) -> str:
    return f"(0.5 * tl.erf({x} * {0.5**0.5!r}) + 0.5)"


def _copysign(dtype: DType, x: str, y: str) -> str:
    bits = f"tl.int{dtype.bits}"
    top = 1 << (dtype.bits - 1)
    size, other = (f"{a}.to({bits}, bitcast=True)" for a in (x, y))
    return f"(({size} & {top - 1}) | ({other} & {-top})).to({TYPES[dtype.name]}, bitcast=True)"


_FLOAT: dict[str, Rule] = {
    **{op: _called(name) for op, name in _FLOAT_CALLS.items()},
    "min": _extremum("tl.minimum"), "max": _extremum("tl.maximum"), "div": _div, "sqrt": _sqrt,
    "neg": lambda dtype, x: f"(-{x})", "sign": _sign, "trunc": _trunc, "tanh": _tanh,
    "copysign": _copysign, "normal_cdf": _normal_cdf,
    "mod": _called("_mod"), "rem": lambda dtype, x, y: f"({x} % {y})",
    "floordiv": lambda dtype, x, y: f"tl.floor({_div(dtype, x, y)})",
    "truncdiv": lambda dtype, x, y: _trunc(dtype, _div(dtype, x, y)),
    "round": lambda dtype, x: f"_round({x}, {_HALF_ULP[dtype.name]!r})",
    "isnan": lambda dtype, x: f"({x} != {x})",
    "isinf": lambda dtype, x: f'(tl.abs({x}) == float("inf"))',
}  # fmt: skip
_F32 = DType("f32", "f", 32, 4)


# ---- integers ------------------------------------------------------------------------------------


def _within(dtype: DType, by: str) -> str:
    return f"({by} >= 0) & ({by} < {dtype.bits})"


def _shl(dtype: DType, x: str, by: str) -> str:
    return f"tl.where({_within(dtype, by)}, {x} << {by}, {full(0, dtype)})"


def _shr(dtype: DType, x: str, by: str) -> str:
    if not dtype.is_signed:
        return f"tl.where({_within(dtype, by)}, {x} >> {by}, {full(0, dtype)})"
    return f"({x} >> tl.where({_within(dtype, by)}, {by}, {full(dtype.bits - 1, dtype)}))"


def _not(dtype: DType, x: str) -> str:
    return f"({x} ^ {full(-1 if dtype.is_signed else dtype.max, dtype)})"


def _divided(name: str, infix: str) -> Rule:
    """A function that knows what is divided by 0 and what is rounded down, where it is needed."""

    def rule(dtype: DType, x: str, y: str) -> str:
        known = y.isdigit() and int(y) > 0
        unsigned = {"_floordiv": "_truncdiv", "_floormod": "_rest"}.get(name, name)
        if known and (unsigned == name or not dtype.is_signed):
            return f"({x} {infix} {y})"
        called = name if dtype.is_signed else unsigned
        return f"{called}({x}, {full(int(y), dtype) if known else y})"

    return rule


_INTEGER: dict[str, Rule] = {
    "min": _extremum("tl.minimum"), "max": _extremum("tl.maximum"), "abs": _called("tl.abs"),
    "neg": lambda dtype, x: f"(0 - {x})", "not": _not, "sign": _sign,
    "div": _divided("_truncdiv", "//"), "truncdiv": _divided("_truncdiv", "//"),
    "rem": _divided("_rest", "%"), "floordiv": _divided("_floordiv", "//"),
    "mod": _divided("_floormod", "%"), "shl": _shl, "shr": _shr,
}  # fmt: skip


# ---- folds ---------------------------------------------------------------------------------------

_BOOL_FOLDS = {"|": "tl.max", "&": "tl.min", "^": "tl.xor_sum"}


def bool_fold(combine: Expr) -> str:
    """The reduction of 0 and 1 that folds bools as `combine` does."""
    symbol = _ON_BOOLS.get(combine.op)
    if symbol not in _BOOL_FOLDS or [a.op for a in combine.args] != ["arg", "arg"]:
        raise UnsupportedError(f"Triton folds bools by and, or and xor alone, not by {combine}")
    return _BOOL_FOLDS[symbol]
