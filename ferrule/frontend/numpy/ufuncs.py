"""NumPy's ufuncs: builders over values that already have the dtypes of NumPy's loop.

A rule gives a value, or a tuple of them, whose dtype the caller casts to that of the loop's result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import boolean, f32, i64, u64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.numpy.array import (
    FUNCTIONS,
    REFUSED,
    UFUNCS,
    call_function,
    call_ufunc,
    numpy_function,
    tape_of,
    traced,
)
from ferrule.ir.graph import GraphBuilder, Value

Rule = Callable[..., Any]

_SAME_NAME = (
    "add floor ceil trunc minimum maximum sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan "
    "sinh cosh tanh hypot copysign nextafter bitwise_and bitwise_or bitwise_xor isnan isinf "
    "isfinite square reciprocal"
)
_RENAMED = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
    "floor_divide": "floordiv", "fmod": "rem",
    "float_power": "pow", "negative": "neg", "absolute": "abs", "fabs": "abs", "rint": "round",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "arctan2": "atan2", "invert": "bitwise_not", "left_shift": "shl",
    "right_shift": "shr",
}  # fmt: skip
UFUNCS.update({name: getattr(ops, name) for name in _SAME_NAME.split()})
UFUNCS.update({name: getattr(ops, known) for name, known in _RENAMED.items()})
UFUNCS["positive"] = UFUNCS["conjugate"] = lambda b, x: x


def _ufunc(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names:
            UFUNCS[name] = rule
        return rule

    return register


def _rounded_once(rule: Rule) -> Rule:
    """A rule in the type that its operands are computed in (f32 for f16), its result in theirs."""

    def wide(b: GraphBuilder, *xs: Value) -> Value:
        out: Value = rule(b, *(ops.cast(b, x, x.dtype.compute) for x in xs))
        return ops.cast(b, out, xs[0].dtype)

    return wide


# ---- truth and comparison ------------------------------------------------------------------------


def truth(b: GraphBuilder, x: Value) -> Value:
    """Whether each element is not zero."""
    return ops.cast(b, x, boolean)


def _logical(rule: Rule) -> Rule:
    return lambda b, *xs: rule(b, *(truth(b, x) for x in xs))


for _name in ("logical_and", "logical_or", "logical_xor", "logical_not"):
    UFUNCS[_name] = _logical(getattr(ops, _name))


def _compared(rule: Rule, negative: tuple[bool, bool]) -> Rule:
    """A comparison; of i64 with u64 in u64, where a negative number on one side decides alone:
    `negative` is the result for one on the left and on the right.
    """

    def apply(b: GraphBuilder, x: Value, y: Value) -> Value:
        if x.dtype == y.dtype:
            out: Value = rule(b, x, y)
            return out
        side = 0 if x.dtype == i64 else 1
        signed = (x, y)[side]
        out = rule(b, ops.cast(b, x, u64), ops.cast(b, y, u64))
        decided = ops.full(b, (), negative[side], boolean)
        return ops.select(b, ops.lt(b, signed, 0), decided, out)

    return apply


UFUNCS["equal"] = _compared(ops.eq, (False, False))
UFUNCS["not_equal"] = _compared(ops.ne, (True, True))
UFUNCS["less"] = _compared(ops.lt, (True, False))
UFUNCS["less_equal"] = _compared(ops.le, (True, False))
UFUNCS["greater"] = _compared(ops.gt, (False, True))
UFUNCS["greater_equal"] = _compared(ops.ge, (False, True))


@_ufunc("signbit")
def _signbit(b: GraphBuilder, x: Value) -> Value:
    wide = ops.cast(b, x, x.dtype.compute)
    return ops.lt(b, ops.copysign(b, ops.full(b, (), 1, wide.dtype), wide), 0)


# ---- arithmetic ----------------------------------------------------------------------------------


@_ufunc("sign")
def _sign(b: GraphBuilder, x: Value) -> Value:
    return ops.cast(b, ops.ne(b, x, 0), x.dtype) if x.dtype.kind == "u" else ops.sign(b, x)


@_ufunc("power")
def _power(b: GraphBuilder, x: Value, y: Value) -> Value:
    """x ** y; a run reports a negative power of an integer, as NumPy refuses it."""
    if x.dtype.kind == "i":
        x = ops.ensure(b, x, ops.ge(b, y, 0), "negative_power")
    return ops.pow(b, x, y)


@_ufunc("fmax")
def _fmax(b: GraphBuilder, x: Value, y: Value) -> Value:
    return _but_nan(b, x, y, ops.maximum(b, x, y))


@_ufunc("fmin")
def _fmin(b: GraphBuilder, x: Value, y: Value) -> Value:
    return _but_nan(b, x, y, ops.minimum(b, x, y))


def _but_nan(b: GraphBuilder, x: Value, y: Value, out: Value) -> Value:
    """`out`, but the other operand where one of them is NaN."""
    kept = ops.select(b, ops.isnan(b, y), x, out)
    return ops.select(b, ops.isnan(b, x), y, kept)


@_ufunc("remainder", "mod")
def _remainder(b: GraphBuilder, x: Value, y: Value) -> Value:
    """The rest with the sign of y, also where it is 0."""
    rest = ops.mod(b, x, y)
    if not rest.dtype.is_float:
        return rest
    return ops.select(b, ops.eq(b, rest, 0), ops.copysign(b, rest, y), rest)


@_ufunc("divmod")
def _divmod(b: GraphBuilder, x: Value, y: Value) -> tuple[Value, Value]:
    return ops.floordiv(b, x, y), _remainder(b, x, y)


@_ufunc("modf")
def _modf(b: GraphBuilder, x: Value) -> tuple[Value, Value]:
    whole = ops.trunc(b, x)
    rest = ops.select(b, ops.isinf(b, x), 0, ops.sub(b, x, whole))
    return ops.copysign(b, rest, x), whole


@_ufunc("cbrt")
@_rounded_once
def _cbrt(b: GraphBuilder, x: Value) -> Value:
    """The root by logarithms, and one step of Newton's method for the last bits."""
    size = ops.abs(b, x)
    root = ops.pow(b, size, 1 / 3)
    step = ops.sub(b, root, ops.div(b, size, ops.mul(b, root, root)))
    finer = ops.sub(b, root, ops.div(b, step, 3))
    plain = ops.logical_or(b, ops.eq(b, size, 0), ops.isinf(b, size))
    return ops.copysign(b, ops.select(b, plain, size, finer), x)


@_ufunc("logaddexp")
@_rounded_once
def _logaddexp(b: GraphBuilder, x: Value, y: Value) -> Value:
    high, low = ops.maximum(b, x, y), ops.minimum(b, x, y)
    apart = ops.log1p(b, ops.exp(b, ops.sub(b, low, high)))
    return ops.select(b, ops.eq(b, x, y), ops.add(b, x, math.log(2)), ops.add(b, high, apart))


@_ufunc("logaddexp2")
@_rounded_once
def _logaddexp2(b: GraphBuilder, x: Value, y: Value) -> Value:
    high, low = ops.maximum(b, x, y), ops.minimum(b, x, y)
    apart = ops.mul(b, ops.log1p(b, ops.exp2(b, ops.sub(b, low, high))), 1 / math.log(2))
    return ops.select(b, ops.eq(b, x, y), ops.add(b, x, 1), ops.add(b, high, apart))


@_ufunc("heaviside")
def _heaviside(b: GraphBuilder, x: Value, y: Value) -> Value:
    above = ops.cast(b, ops.gt(b, x, 0), x.dtype)
    out = ops.select(b, ops.eq(b, x, 0), y, above)
    return ops.select(b, ops.isnan(b, x), x, out)


def _scaled(factor: float) -> Rule:
    return _rounded_once(lambda b, x: ops.mul(b, x, factor))


UFUNCS["deg2rad"] = UFUNCS["radians"] = _scaled(math.pi / 180)
UFUNCS["rad2deg"] = UFUNCS["degrees"] = _scaled(180 / math.pi)


# ---- products ------------------------------------------------------------------------------------


@_ufunc("matmul")
def matmul(b: GraphBuilder, x: Value, y: Value) -> Value:
    """The matrix product; of bools, whether any pair of elements holds."""
    if x.dtype.is_bool:
        return ops.ne(b, ops.matmul(b, ops.cast(b, x, f32), ops.cast(b, y, f32)), 0)
    return ops.matmul(b, x, y)


@_ufunc("vecdot")
def _vecdot(b: GraphBuilder, x: Value, y: Value) -> Value:
    return ops.reduce_sum(b, ops.mul(b, x, y), -1)


@_ufunc("matvec")
def _matvec(b: GraphBuilder, x: Value, y: Value) -> Value:
    return ops.squeeze(b, matmul(b, x, ops.unsqueeze(b, y, -1)), (-1,))


@_ufunc("vecmat")
def _vecmat(b: GraphBuilder, x: Value, y: Value) -> Value:
    return ops.squeeze(b, matmul(b, ops.unsqueeze(b, x, -2), y), (-2,))


# ---- methods of ufuncs ---------------------------------------------------------------------------

_FOLDS = {
    "add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all",
    "logical_or": "any",
}  # fmt: skip
_SCANS = {"add": "cumsum", "multiply": "cumprod", "maximum": "cummax", "minimum": "cummin"}


@numpy_function("__ufunc_method__")
def _ufunc_method(ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """`reduce`, `accumulate`, `outer` and `at` of the ufuncs that have an operator for it."""
    name = ufunc.__name__
    if method == "reduce" and name in _FOLDS:
        given = dict(zip(("axis",), inputs[1:])) | kwargs
        return call_function(_FOLDS[name], inputs[:1], {"axis": 0, **given})
    if method == "accumulate" and name in _SCANS:
        given = dict(zip(("axis",), inputs[1:])) | kwargs
        return call_function(_SCANS[name], inputs[:1], {"axis": 0, **given})
    if method == "outer" and len(inputs) == 2 and not kwargs:
        tape = tape_of(*inputs)
        x, y = (traced(tape, i) for i in inputs)
        return call_ufunc(ufunc, (x.reshape(*x.shape, *(1,) * y.ndim), y))
    if method == "at" and name == "add" and not kwargs:
        return FUNCTIONS["__add_at__"](*inputs)
    raise UnsupportedError(
        f"numpy.{name}.{method} cannot be traced: of the methods of ufuncs, `reduce` "
        f"({', '.join(_FOLDS)}), `accumulate` ({', '.join(_SCANS)}), `outer` and `add.at` can"
    )


REFUSED.update(
    dict.fromkeys(("frexp", "ldexp", "spacing", "gcd", "lcm", "bitwise_count"),
                  "ferrule has no operator for it")
)  # fmt: skip
