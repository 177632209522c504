"""Scalar arithmetic: what each operator of `ferrule.ir.expr.OPS` does to arrays of one dtype.

Values are *real*: bf16 is held as the f32 of the same value, every other dtype as itself. f16 and
bf16 compute in f32 and round; transcendental functions of f32 are computed in f64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType, bf16, f32, from_storage, to_storage
from ferrule.base.errors import UnsupportedError
from ferrule.ir.interp import special
from ferrule.ir.operators import OF_BYTES, result_of

Array = NDArray[Any]
Rule = Callable[..., Any]


def held(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype that holds real values of `dtype`: f32 for bf16."""
    return np.dtype(np.float32) if dtype == bf16 else dtype.numpy


def rounded(values: Any, dtype: DType) -> Array:
    """Float values as real values of the float `dtype`."""
    if dtype == bf16:
        return from_storage(to_storage(np.asarray(values, np.float32), dtype), dtype)
    return np.asarray(values).astype(dtype.numpy, copy=False)


def convert(x: Array, source: DType, to: DType) -> Array:
    """`cast`: real values of `source` as real values of `to`."""
    if source == to:
        return x
    if to.is_bool:
        return np.asarray(x != 0)
    if to.is_float and to.bits == 16 and not (source.name == "f64" and to.name == "f16"):
        return rounded(np.asarray(x).astype(np.float32), to)
    if source.is_float and not to.is_float:
        return _truncated(np.asarray(x, np.float64), to)
    return np.asarray(x).astype(held(to))


def _truncated(x: Array, to: DType) -> Array:
    """Floats as integers, what is out of range as `ferrule.ir.expr` says."""
    bits = 64 if to.bits == 64 else 32
    half = 2.0 ** (bits - 1)
    upper = (x >= half) & (to.kind == "u" and to.bits == bits)
    x = np.trunc(np.where(upper, x - half, x))
    low = np.where(np.abs(x) < half, x, -half).astype(f"i{bits // 8}")
    return (low ^ np.where(upper, np.iinfo(low.dtype).min, low.dtype.type(0))).astype(to.numpy)


def reinterpret(x: Array, source: DType, to: DType) -> Array:
    """`bitcast`: the bits of `x` as `to`, of the same width."""
    stored = np.ascontiguousarray(to_storage(x, source)).reshape(np.shape(x))
    return from_storage(stored.view(to.numpy), to)


def supports(op: str, dtype: DType) -> bool:
    """Whether `op` has a meaning on operands of `dtype`."""
    if op in OF_BYTES:
        return dtype.is_int and dtype.bits == (8 if op == "word" else 32)
    return op in _rules(dtype)


def _rules(dtype: DType) -> dict[str, Rule]:
    return _FLOAT if dtype.is_float else _BOOL if dtype.is_bool else _INT


def apply(op: str, dtype: DType, args: list[Array]) -> Array:
    """`op` of real values of `dtype`. Raises UnsupportedError where it has no meaning."""
    if dtype.is_float and dtype.bits == 16:
        wide = apply(op, f32, [np.asarray(a, np.float32) for a in args])
        return wide if wide.dtype == np.bool_ else rounded(wide, dtype)
    if not supports(op, dtype):
        raise UnsupportedError(f"{op} has no meaning on {dtype.name}")
    rule = _rules(dtype)[op]
    if dtype == f32 and op in _WIDE:
        args = [np.asarray(a, np.float64) for a in args]
    with np.errstate(all="ignore"):
        return np.asarray(rule(*args)).astype(held(result_of(op, dtype)), copy=False)


# ---- floats --------------------------------------------------------------------------------------


def _sign(x: Array) -> Any:
    return np.where(x > 0, x.dtype.type(1), np.where(x < 0, x.dtype.type(-1), x))


def _floored_rest(x: Array, y: Array) -> Any:
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


def _sigmoid(x: Array) -> Any:
    return 1 / (1 + np.exp(-x))


_COMPARE: dict[str, Rule] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
}  # fmt: skip

_MATH: dict[str, Rule] = {
    "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot, "sqrt": np.sqrt, "exp": np.exp,
    "exp2": np.exp2, "exp_nonpositive": np.exp, "expm1": np.expm1, "log": np.log,
    "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "erf": special.erf, "erfc": special.erfc, "erfinv": special.erfinv,
    "normal_cdf": special.normal_cdf, "sigmoid": _sigmoid,
    "lgamma": special.lgamma, "digamma": special.digamma,
    "fma": lambda x, y, z: x * y + z,
}  # fmt: skip
_WIDE = frozenset(_MATH)

_FLOAT: dict[str, Rule] = {
    **_COMPARE, **_MATH,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floordiv": lambda x, y: np.floor(x / y), "truncdiv": lambda x, y: np.trunc(x / y),
    "mod": _floored_rest, "rem": np.fmod, "min": np.minimum, "max": np.maximum,
    "copysign": np.copysign, "nextafter": np.nextafter, "neg": np.negative, "abs": np.abs,
    "sign": _sign, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
    "isnan": np.isnan, "isinf": np.isinf, "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip


# ---- integers ------------------------------------------------------------------------------------


def _truncdiv(x: Array, y: Array) -> Any:
    down = np.floor_divide(x, y)
    rest = x - y * down
    up = (y != 0) & (rest != 0) & ((x < 0) != (y < 0))
    return down + up.astype(x.dtype)


def _shift_left(x: Array, by: Array) -> Any:
    bits = x.dtype.itemsize * 8
    inside = (by >= 0) & (by < bits)
    return np.where(inside, np.left_shift(x, np.where(inside, by, 0)), 0)


def _shift_right(x: Array, by: Array) -> Any:
    bits = x.dtype.itemsize * 8
    inside = (by >= 0) & (by < bits)
    emptied = np.where(x < 0, x.dtype.type(0) - x.dtype.type(1), x.dtype.type(0))
    return np.where(inside, np.right_shift(x, np.where(inside, by, 0)), emptied)


def _power(x: Array, y: Array) -> Any:
    """Wraps; a negative exponent gives 0 unless x is 1 or -1."""
    if x.dtype.kind == "u":
        return np.power(x, y)
    odd = np.power(x, y & 1)
    inverse = np.where((x == 1) | (x == -1), odd, 0)
    return np.where(y < 0, inverse, np.power(x, np.maximum(y, 0)))


def _word(*parts: Array) -> Any:
    lanes = np.broadcast_arrays(*parts)
    return np.ascontiguousarray(np.stack(lanes, -1)).view("<i4")[..., 0]


def _dot4(x: Array, y: Array) -> Any:
    x, y = np.broadcast_arrays(x, y)
    unsigned, signed = (
        np.ascontiguousarray(v)[..., None].view(f"{kind}1").astype(np.int32)
        for v, kind in ((x, "u"), (y, "i"))
    )
    return (unsigned * signed).sum(-1, dtype=np.int32)


def _same(x: Array) -> Array:
    return x


def _never(x: Array) -> Array:
    return np.zeros(np.shape(x), np.bool_)


_INT: dict[str, Rule] = {
    **_COMPARE,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _truncdiv,
    "truncdiv": _truncdiv, "rem": np.fmod, "floordiv": np.floor_divide, "mod": np.mod,
    "min": np.minimum, "max": np.maximum, "pow": _power, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert, "shl": _shift_left,
    "shr": _shift_right, "neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": _same,
    "ceil": _same, "trunc": _same, "round": _same, "isnan": _never, "isinf": _never,
    "fma": lambda x, y, z: x * y + z, "word": _word, "dot4": _dot4,
}  # fmt: skip

_BOOL: dict[str, Rule] = {
    **_COMPARE,
    "add": np.logical_or, "mul": np.logical_and, "sub": np.logical_xor, "min": np.logical_and,
    "max": np.logical_or, "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor,
    "not": np.logical_not, "abs": _same, "isnan": _never, "isinf": _never,
}  # fmt: skip
