"""Pointwise: activations and other functions of elements that are worth a name in the graph.

Each is one Expr with its meaning in NumPy beside it. As one operator it rounds once on f16 and
bf16, and a graph shows `gelu` and not its parts. The formulas are those of PyTorch's functions of
the same name, written so that they neither overflow nor cancel. What is only another operator
with fixed operands is a builder function and no operator of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ferrule.base.dtype import boolean, f64
from ferrule.ir.expr import Expr, both, call, cast, compare, const, le, lt, select
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.operators.special import erf
from ferrule.ops import elementary as el
from ferrule.ops.create import full
from ferrule.ops.elementary import Operand, operand
from ferrule.ops.op import Array, elementwise, operator_of_elements


def _low(x: Expr, bound: float) -> Expr:
    return call("min", x, const(bound, x.dtype))


def _high(x: Expr, bound: float) -> Expr:
    return call("max", x, const(bound, x.dtype))


def _where_above(x: Expr, bound: float, yes: Expr, no: Expr) -> Expr:
    return select(compare("lt", const(bound, x.dtype), x), yes, no)


def _wide(meaning: Callable[..., Array]) -> Callable[..., Array]:
    """A meaning evaluated in f64 and rounded once."""

    def apply(x: Array, **attrs: float) -> Array:
        return np.asarray(meaning(x.astype(np.float64), **attrs)).astype(x.dtype)

    return apply


# ---- sigmoid-like activations --------------------------------------------------------------------


def gelu(b: GraphBuilder, x: Value, approximate: str = "none") -> Value:
    """x * Phi(x) (Hendrycks and Gimpel, 2016); approximate="tanh" is the paper's approximation."""
    return gelu_tanh(b, x) if approximate == "tanh" else b.emit("gelu", x)


elementwise(
    "gelu",
    lambda x: x * call("normal_cdf", x),
    _wide(lambda x: 0.5 * x * (1 + erf(x * math.sqrt(0.5)))),
    accepts="f",
)


def _gelu_tanh_meaning(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@operator_of_elements(_wide(_gelu_tanh_meaning), accepts="f")
def gelu_tanh(x: Expr) -> Expr:
    """x * sigmoid(2u), which is x/2 * (1 + tanh(u)) without the cancellation."""
    u = x * (x * x * 0.044715 + 1.0) * math.sqrt(2 / math.pi)
    return x * call("sigmoid", u * 2.0)


@operator_of_elements(_wide(lambda x: x / (1 + np.exp(-x))), accepts="f")
def silu(x: Expr) -> Expr:
    """x * sigmoid(x)."""
    return x / (call("exp", -x) + 1.0)


def _softplus_meaning(x: Array, beta: float, threshold: float) -> Array:
    return np.where(x * beta > threshold, x, np.log1p(np.exp(x * beta)) / beta)


@operator_of_elements(_wide(_softplus_meaning), accepts="f")
def softplus(x: Expr, beta: float = 1.0, threshold: float = 20.0) -> Expr:
    """log(1 + exp(beta*x)) / beta; x itself where beta*x > threshold."""
    scaled = x * beta
    return _where_above(scaled, threshold, x, call("log1p", call("exp", scaled)) / beta)


@operator_of_elements(_wide(lambda x: x * np.tanh(np.logaddexp(0, x))), accepts="f")
def mish(x: Expr) -> Expr:
    """x * tanh(softplus(x)).

    tanh(log(1 + e)) = n / (n + 2) with e = exp(x), n = e*(e + 2); 1 in f32 and f64 from 20.
    """
    e = call("exp", _low(x, 20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


@operator_of_elements(_wide(lambda x: -np.logaddexp(0, -x)), accepts="f")
def logsigmoid(x: Expr) -> Expr:
    """log(sigmoid(x))."""
    return _low(x, 0) - call("log1p", call("exp", -call("abs", x)))


def _logit_meaning(x: Array, eps: float | None = None) -> Array:
    x = x if eps is None else np.where(x < eps, x.dtype.type(eps), np.minimum(x, 1 - eps))
    return np.log(x / (1 - x))


@operator_of_elements(_logit_meaning, accepts="f")
def logit(x: Expr, eps: float | None = None) -> Expr:
    """log(x / (1 - x)), `x` clamped to [eps, 1 - eps] first where eps is given. With eps above one
    half, what lies below eps becomes eps and anything else 1 - eps, as in PyTorch.
    """
    if eps is not None:
        low = const(eps, x.dtype)
        x = select(lt(x, low), low, _low(x, 1 - eps)) if eps > 0.5 else _low(_high(x, eps), 1 - eps)
    return call("log", x / (1.0 - x))


# ---- piecewise activations -----------------------------------------------------------------------


def relu(b: GraphBuilder, x: Value) -> Value:
    """max(x, 0); NaN stays NaN."""
    return el.max(b, x, 0)


def relu6(b: GraphBuilder, x: Value) -> Value:
    """min(max(x, 0), 6)."""
    return el.clamp(b, x, 0, 6)


def hardtanh(b: GraphBuilder, x: Value, lo: float = -1.0, hi: float = 1.0) -> Value:
    """min(max(x, lo), hi)."""
    return el.clamp(b, x, lo, hi)


@operator_of_elements(
    lambda x, slope: np.where(x > 0, x, x * x.dtype.type(slope)), accepts="f"
)
def leaky_relu(x: Expr, slope: float = 0.01) -> Expr:
    """x where x > 0, else slope*x."""
    return _where_above(x, 0, x, x * slope)


def _elu_meaning(x: Array, alpha: float, scale: float, input_scale: float) -> Array:
    return scale * np.where(x > 0, x, alpha * np.expm1(x * input_scale))


@operator_of_elements(_wide(_elu_meaning), accepts="f")
def elu(x: Expr, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Expr:
    """scale * (x where x > 0, else alpha * (exp(input_scale*x) - 1))."""
    below = call("expm1", _low(x, 0) * input_scale) * (alpha * scale)
    return _where_above(x, 0, x * scale, below)


def selu(b: GraphBuilder, x: Value) -> Value:
    """elu with the constants of self-normalising networks (Klambauer et al., 2017)."""
    return elu(b, x, 1.6732632423543772, 1.0507009873554805)


@operator_of_elements(
    lambda x: np.clip(x + x.dtype.type(3), 0, 6) / x.dtype.type(6), accepts="f"
)
def hardsigmoid(x: Expr) -> Expr:
    """min(max(x + 3, 0), 6) / 6."""
    return _low(_high(x + 3.0, 0), 6) * (1 / 6)


@operator_of_elements(
    lambda x: x * np.clip(x + x.dtype.type(3), 0, 6) / x.dtype.type(6), accepts="f"
)
def hardswish(x: Expr) -> Expr:
    """x * hardsigmoid(x)."""
    return x * _low(_high(x + 3.0, 0), 6) * (1 / 6)


@operator_of_elements(
    lambda x, bound: np.where((-bound <= x) & (x <= bound), x.dtype.type(0), x), accepts="f"
)
def hardshrink(x: Expr, bound: float = 0.5) -> Expr:
    """0 where -bound <= x <= bound, else x; NaN stays NaN."""
    limit = const(bound, x.dtype)
    return select(both(le(-limit, x), le(x, limit)), const(0, x.dtype), x)


@operator_of_elements(lambda x: x / (1 + np.abs(x)), accepts="f")
def softsign(x: Expr) -> Expr:
    """x / (1 + |x|)."""
    return x / (call("abs", x) + 1.0)


# ---- arithmetic ----------------------------------------------------------------------------------


def square(b: GraphBuilder, x: Value) -> Value:
    """x * x."""
    return el.mul(b, x, x)


def reciprocal(b: GraphBuilder, x: Value) -> Value:
    """1 / x."""
    return el.div(b, operand(b, 1, x.dtype), x)


def isfinite(b: GraphBuilder, x: Value) -> Value:
    """Whether each element is neither infinite nor NaN."""
    return b.emit("isfinite", x) if x.dtype.is_float else full(b, x.shape, True, boolean)


elementwise(
    "isfinite",
    lambda x: compare("lt", call("abs", x), const(math.inf, x.dtype)),
    np.isfinite,
    result=boolean,
    accepts="f",
)


def isposinf(b: GraphBuilder, x: Value) -> Value:
    """Whether each element is inf."""
    return el.eq(b, x, math.inf) if x.dtype.is_float else full(b, x.shape, False, boolean)


def isneginf(b: GraphBuilder, x: Value) -> Value:
    """Whether each element is -inf."""
    return el.eq(b, x, -math.inf) if x.dtype.is_float else full(b, x.shape, False, boolean)


def _away(x: Array) -> Array:
    whole = np.trunc(x)
    return whole + np.copysign(np.abs(x - whole) >= 0.5, x)


@operator_of_elements(_away, accepts="f")
def round_away(x: Expr) -> Expr:
    """The nearest integer, of two the one further from 0."""
    whole = call("trunc", x)
    half = compare("le", const(0.5, x.dtype), call("abs", x - whole))
    return select(half, whole + call("copysign", const(1, x.dtype), x), whole)


@operator_of_elements(np.cbrt, accepts="f")
def cbrt(x: Expr) -> Expr:
    """The real cube root: exp(log|x| / 3) in f64, and a step of Newton's method for f64 itself, of
    x scaled so that no cube is subnormal.
    """
    a = call("abs", cast(x, f64))
    tiny = compare("lt", a, const(2.0**-900, f64))
    scaled = select(tiny, a * 2.0**300, a)
    root = call("exp", call("log", scaled) * (1 / 3))
    if x.dtype == f64:
        root = root - (root * root * root - scaled) / (root * root * 3.0)
    root = select(tiny, root * 2.0**-100, root)
    ends = call("or", compare("eq", a, const(0, f64)), call("isinf", a))
    return call("copysign", cast(select(ends, a, root), x.dtype), x)


def masked_fill(b: GraphBuilder, x: Value, mask: Value, value: Operand) -> Value:
    """`value` where `mask` holds, else `x`."""
    return el.select(b, mask, value, x)


def lerp(b: GraphBuilder, x: Value, y: Value, weight: Operand) -> Value:
    """x + weight * (y - x), computed from the end that is nearer."""
    return b.emit("lerp", x, y, operand(b, weight, x.dtype))


def _lerp(x: Expr, y: Expr, w: Expr) -> Expr:
    near = compare("lt", call("abs", w), const(0.5, w.dtype))
    return select(near, x + w * (y - x), y - (y - x) * (1.0 - w))


elementwise(
    "lerp",
    _lerp,
    lambda x, y, w: np.where(np.abs(w) < 0.5, x + w * (y - x), y - (y - x) * (1 - w)),
    accepts="f",
)


@operator_of_elements(
    lambda x, y, z, value: x + x.dtype.type(value) * y * z, accepts="fiu"
)
def addcmul(x: Expr, y: Expr, z: Expr, value: float | int = 1) -> Expr:
    """x + value * y * z."""
    return x + y * value * z


@operator_of_elements(lambda x, y, z, value: x + x.dtype.type(value) * y / z, accepts="f")
def addcdiv(x: Expr, y: Expr, z: Expr, value: float | int = 1) -> Expr:
    """x + value * y / z."""
    return x + y * value / z
