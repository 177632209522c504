"""Operators of elements, which broadcast as in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ferrule import ops
from ferrule.base.dtype import boolean, i32
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.table import Context, rule, tensor_of
from ferrule.ir.agree import agree
from ferrule.ir.expr import ONE
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal

Unary = Callable[[GraphBuilder, Value], Value]
Binary = Callable[[GraphBuilder, Value, Value], Value]


def broadcast(*xs: Value) -> None:
    """Have the sizes of tensors that broadcast be equal where neither is known to be 1."""
    for k, x in enumerate(xs):
        for y in xs[k + 1 :]:
            for n, m in zip(reversed(x.shape), reversed(y.shape)):
                if not equal(n, ONE) and not equal(m, ONE):
                    agree((n,), (m,))


def unary(names: str, build: Unary) -> None:
    """Register a rule of one operand for operators."""
    rule(*names.split())(lambda cx, x: build(cx.b, tensor_of(x)))


def binary(names: str, build: Binary) -> None:
    """Register a rule of two operands that broadcast."""

    def built(cx: Context, x: Any, y: Any) -> Value:
        broadcast(tensor_of(x), tensor_of(y))
        return build(cx.b, x, y)

    rule(*names.split())(built)


_UNARY: Mapping[str, Unary] = {
    "Neg": ops.neg, "Abs": ops.abs, "Sign": ops.sign, "Floor": ops.floor, "Ceil": ops.ceil,
    "Round Rint": ops.round, "Sqrt": ops.sqrt, "Rsqrt": ops.rsqrt, "Exp": ops.exp,
    "Expm1": ops.expm1, "Log": ops.log, "Log1p": ops.log1p, "Sin": ops.sin, "Cos": ops.cos,
    "Tan": ops.tan, "Asin": ops.asin, "Acos": ops.acos, "Atan": ops.atan, "Sinh": ops.sinh,
    "Cosh": ops.cosh, "Tanh": ops.tanh, "Asinh": ops.asinh, "Acosh": ops.acosh,
    "Atanh": ops.atanh, "Erf": ops.erf, "Erfc": ops.erfc, "Erfinv": ops.erfinv,
    "Sigmoid": ops.sigmoid, "Lgamma": ops.lgamma, "Digamma": ops.digamma, "IsNan": ops.isnan,
    "IsInf": ops.isinf, "IsFinite": ops.isfinite, "LogicalNot": ops.logical_not,
    "Invert": ops.bitwise_not, "Square": ops.square, "Reciprocal Inv": ops.reciprocal,
    "Relu": ops.relu, "Relu6": ops.relu6, "Elu": ops.elu, "Selu": ops.selu,
    "Softsign": ops.softsign, "BesselI0": ops.i0, "BesselI0e": ops.i0e, "BesselI1": ops.i1,
    "BesselI1e": ops.i1e, "PopulationCount": ops.popcount,
    "Softplus": lambda b, x: ops.softplus(b, x, threshold=40.0),
    "Ndtri": lambda b, x: _ndtri(b, x),
}  # fmt: skip
_BINARY: Mapping[str, Binary] = {
    "AddV2 Add": ops.add, "Sub": ops.sub, "Mul": ops.mul, "RealDiv Div TruncateDiv": ops.div,
    "FloorDiv": ops.floordiv, "FloorMod": ops.mod, "Mod TruncateMod": ops.rem,
    "Maximum": ops.maximum, "Minimum": ops.minimum, "Pow": ops.pow, "Atan2": ops.atan2,
    "Equal": ops.eq, "NotEqual": ops.ne, "Less": ops.lt, "LessEqual": ops.le,
    "Greater": ops.gt, "GreaterEqual": ops.ge, "LogicalAnd": ops.logical_and,
    "LogicalOr": ops.logical_or, "BitwiseAnd": ops.bitwise_and, "BitwiseOr": ops.bitwise_or,
    "BitwiseXor": ops.bitwise_xor, "LeftShift": ops.shl, "RightShift": ops.shr,
    "NextAfter": ops.nextafter, "Zeta": ops.zeta, "Polygamma": ops.polygamma,
    "SquaredDifference": lambda b, x, y: ops.square(b, ops.sub(b, x, y)),
    "DivNoNan": lambda b, x, y: _where_zero(b, y, ops.div(b, x, y)),
    "MulNoNan": lambda b, x, y: _where_zero(b, y, ops.mul(b, x, y)),
    "Xdivy": lambda b, x, y: _where_zero(b, x, ops.div(b, x, y)),
    "Xlogy": lambda b, x, y: _where_zero(b, x, ops.mul(b, x, ops.log(b, y))),
    "Xlog1py": lambda b, x, y: _where_zero(b, x, ops.mul(b, x, ops.log1p(b, y))),
}  # fmt: skip


def _where_zero(b: GraphBuilder, x: Value, otherwise: Value) -> Value:
    """0 where `x` is 0."""
    return ops.select(b, ops.eq(b, x, 0), 0, otherwise)


def _ndtri(b: GraphBuilder, x: Value) -> Value:
    """The quantile of the normal distribution."""
    return ops.mul(b, ops.erfinv(b, ops.sub(b, ops.mul(b, x, 2.0), 1.0)), math.sqrt(2.0))


for _names, _build in _UNARY.items():
    unary(_names, _build)
for _names, _two in _BINARY.items():
    binary(_names, _two)


@rule("IdentityN")
def _identity_n(cx: Context, *xs: Any) -> Any:
    return xs


@rule(
    "Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "EnsureShape",
    "PlaceholderWithDefault",
)  # fmt: skip
def _itself(cx: Context, x: Any) -> Any:
    return x


@rule("LeakyRelu")
def _leaky_relu(cx: Context, x: Value) -> Value:
    return ops.leaky_relu(cx.b, x, cx.attr("alpha", 0.2))


@rule("AddN")
def _add_n(cx: Context, first: Value, *xs: Value) -> Value:
    for x in xs:
        broadcast(first, x)
        first = ops.add(cx.b, first, x)
    return first


@rule("ClipByValue")
def _clip(cx: Context, x: Value, lo: Value, hi: Value) -> Value:
    return ops.clamp(cx.b, x, lo, hi)


@rule("ApproximateEqual")
def _near(cx: Context, x: Value, y: Value) -> Value:
    broadcast(x, y)
    return ops.lt(cx.b, ops.abs(cx.b, ops.sub(cx.b, x, y)), cx.attr("tolerance", 1e-5))


@rule("Cast")
def _cast(cx: Context, x: Any) -> Value:
    return ops.cast(cx.b, tensor_of(x), cx.dtype("DstT"))


@rule("Bitcast")
def _bitcast(cx: Context, x: Value) -> Value:
    return ops.bitcast(cx.b, x, cx.dtype("type"))


@rule("SelectV2", "Select")
def _select(cx: Context, c: Value, x: Any, y: Any) -> Any:
    flag = cx.known(c)
    alike = not isinstance(x, Value) or (x.type == y.type and c.rank == 0)
    if alike and flag is not None and flag.size == 1 and isinstance(flag.item(), bool):
        return x if flag.item() else y
    if not isinstance(x, Value):
        raise UnsupportedError("a choice between values that are no tensors")
    if cx.node.op == "Select" and c.rank == 1 and x.rank > 1:
        agree(c.shape, x.shape[:1])
        c = ops.reshape(cx.b, c, (c.shape[0], *(1,) * (x.rank - 1)))
    broadcast(c, x, y)
    return ops.select(cx.b, c, x, y)


@rule("ZerosLike")
def _zeros_like(cx: Context, x: Value) -> Value:
    return ops.full(cx.b, x.shape, 0, x.dtype)


@rule("OnesLike")
def _ones_like(cx: Context, x: Value) -> Value:
    return ops.full(cx.b, x.shape, 1, x.dtype)


@rule("Softmax")
def _softmax(cx: Context, x: Value) -> Value:
    return ops.softmax(cx.b, x)


@rule("LogSoftmax")
def _log_softmax(cx: Context, x: Value) -> Value:
    return ops.log_softmax(cx.b, x)


@rule("FakeQuantWithMinMaxArgs")
def _fake_quant_args(cx: Context, x: Value) -> Value:
    b = cx.b
    ends = [ops.full(b, (), cx.attr(n, v), x.dtype) for n, v in (("min", -6.0), ("max", 6.0))]
    return _fake_quant(cx, x, *ends)


@rule("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
def _fake_quant(cx: Context, x: Value, lo: Value, hi: Value) -> Value:
    """`x` rounded to the steps of a quantised type that spans lo to hi, moved so that 0 is one."""
    b, first = cx.b, 1 if cx.attr("narrow_range", False) else 0
    last = (1 << cx.attr("num_bits", 8)) - 1
    step = ops.div(b, ops.sub(b, hi, lo), float(last - first))
    zero = ops.sub(b, ops.full(b, (), first, x.dtype), ops.div(b, lo, step))
    zero = ops.floor(b, ops.add(b, ops.clamp(b, zero, first, last), 0.5))
    low = ops.mul(b, ops.sub(b, ops.full(b, (), first, x.dtype), zero), step)
    high = ops.mul(b, ops.sub(b, ops.full(b, (), last, x.dtype), zero), step)
    away = ops.sub(b, ops.clamp(b, x, low, high), low)
    steps = ops.floor(b, ops.add(b, ops.div(b, away, step), 0.5))
    return ops.add(b, ops.mul(b, steps, step), low)


@rule("Cross")
def _cross(cx: Context, x: Value, y: Value) -> Value:
    """The product of vectors of 3 elements."""
    agree(x.shape, y.shape)
    b, d = cx.b, x.rank - 1
    one, other = (
        [ops.roll(b, v, (-1,), (d,)), ops.roll(b, v, (-2,), (d,))] for v in (x, y)
    )
    return ops.sub(b, ops.mul(b, one[0], other[1]), ops.mul(b, one[1], other[0]))


@rule("Bucketize")
def _bucketize(cx: Context, x: Value) -> Value:
    """How many boundaries are not above each element."""
    bounds = cx.attr("boundaries", ())
    row = ops.stack(cx.b, [ops.full(cx.b, (), v, x.dtype) for v in bounds], 0)
    at_least = ops.ge(cx.b, ops.unsqueeze(cx.b, x, -1), row)
    return ops.reduce_sum(cx.b, ops.cast(cx.b, at_least, i32), (-1,))


def truth(b: GraphBuilder, x: Value) -> Value:
    """A flag of rank 0."""
    return x if x.dtype == boolean else ops.ne(b, x, 0)
