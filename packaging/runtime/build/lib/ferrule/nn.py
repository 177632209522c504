"""Neural network operators on NumPy arrays, inside of compiled functions and outside.

    @ferrule.jit
    def block(x, w, b):
        return ferrule.nn.gelu(ferrule.nn.layer_norm(x) @ w + b)

Each is one operator of ferrule, so it keeps its name in messages and in `explain`. Called on plain
arrays it is compiled for itself. Operands are floats, and take the dtype of the first one; images
are [n, channels, spatial..], as in PyTorch. Shapes or dtypes that do not fit raise CompileError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ferrule import ops
from ferrule.api.jit import jit
from ferrule.frontend.numpy.array import expr_of, tape_of, traced
from ferrule.ir.graph import Value

Array = Any
Sizes = int | Sequence[int]

_STATIC = (
    "approximate", "axes", "axis", "causal", "classes", "dilation", "eps", "groups", "kernel",
    "padding", "scale", "size", "slope", "stride",
)  # fmt: skip


def _compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, compiled; arguments that are no arrays are static."""
    code = fn.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    out: Callable[..., Any] = jit(fn, static_argnames=[n for n in names if n in _STATIC])
    return out


def _applied(build: Callable[..., Value], *operands: Array, **attributes: Any) -> Array:
    """An operator of operands in the dtype of the first; None stays."""
    tape = tape_of(*operands)
    kind = traced(tape, operands[0]).dtype
    values = [None if x is None else tape.lift(x, kind) for x in operands]
    return tape.wrap(build(tape.builder, *values, **attributes))


def _fixed(sizes: Sizes) -> int | tuple[int, ...]:
    return sizes if isinstance(sizes, int) else tuple(sizes)


# ---- activations ---------------------------------------------------------------------------------


def _activation(name: str, doc: str) -> Callable[[Array], Array]:
    build = getattr(ops, name)

    def apply(x: Array) -> Array:
        return x.wrap(build(x.b, x.value))

    apply.__name__, apply.__qualname__, apply.__doc__ = name, name, doc
    return _compiled(apply)


relu = _activation("relu", "max(x, 0); NaN stays NaN.")
silu = _activation("silu", "x * sigmoid(x).")
sigmoid = _activation("sigmoid", "1 / (1 + exp(-x)).")
softplus = _activation("softplus", "log(1 + exp(x)).")
mish = _activation("mish", "x * tanh(softplus(x)).")
hardswish = _activation("hardswish", "x * min(max(x + 3, 0), 6) / 6.")
erf = _activation("erf", "The error function.")


@_compiled
def gelu(x: Array, approximate: str = "none") -> Array:
    """x * Phi(x) (Hendrycks and Gimpel, 2016); approximate="tanh" is the paper's approximation."""
    return x.wrap(ops.gelu(x.b, x.value, approximate))


@_compiled
def leaky_relu(x: Array, slope: float = 0.01) -> Array:
    """x where x > 0, else slope * x."""
    return x.wrap(ops.leaky_relu(x.b, x.value, slope))


@_compiled
def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`."""
    return x.wrap(ops.softmax(x.b, x.value, axis))


@_compiled
def log_softmax(x: Array, axis: int = -1) -> Array:
    """x - log(sum(exp(x))) along `axis`."""
    return x.wrap(ops.log_softmax(x.b, x.value, axis))


@_compiled
def logsumexp(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """log(sum(exp(x))) over `axis`, without overflow."""
    return x.wrap(ops.logsumexp(x.b, x.value, axis))


# ---- norms ---------------------------------------------------------------------------------------


@_compiled
def layer_norm(
    x: Array, weight: Array = None, bias: Array = None, axes: int = 1, eps: float = 1e-5
) -> Array:
    """(x - mean) / std * weight + bias over the last `axes` dimensions (Ba et al., 2016)."""
    return _applied(ops.layer_norm, x, weight, bias, axes=axes, eps=eps)


@_compiled
def rms_norm(x: Array, weight: Array = None, axes: int = 1, eps: float = 1e-6) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last `axes` dimensions."""
    return _applied(ops.rms_norm, x, weight, axes=axes, eps=eps)


@_compiled
def group_norm(
    x: Array, groups: int, weight: Array = None, bias: Array = None, eps: float = 1e-5
) -> Array:
    """`x` normalised over each group of channels (Wu and He, 2018)."""
    return _applied(ops.group_norm, x, weight, bias, groups=groups, eps=eps)


@_compiled
def batch_norm(
    x: Array, mean: Array, variance: Array, weight: Array = None, bias: Array = None,
    eps: float = 1e-5,
) -> Array:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * weight + bias for each channel, as in inference."""
    return _applied(ops.batch_norm, x, mean, variance, weight, bias, eps=eps)


# ---- products ------------------------------------------------------------------------------------


@_compiled
def linear(x: Array, w: Array, bias: Array = None) -> Array:
    """x @ w.T + bias, with w of shape [out, in]."""
    return _applied(ops.linear, x, w, bias)


@_compiled
def attention(
    q: Array, k: Array, v: Array, mask: Array = None, scale: float | None = None,
    causal: bool = False,
) -> Array:  # fmt: skip
    """Scaled dot-product attention (Vaswani et al., 2017) of q[.., L, E], k[.., S, E], v[.., S, F].

    A bool mask keeps where it is true, any other is added to the scores; `causal` keeps keys up to
    the query's own position. `scale` is 1 / sqrt(E) by default, where E must be known.
    """
    given = None if mask is None else traced(tape_of(q, k, v, mask), mask).value
    by = scale if scale is not None else 1 / math.sqrt(int(q.shape[-1]))
    return _applied(ops.attention, q, k, v, mask=given, scale=by, causal=causal)


@_compiled
def conv(
    x: Array, w: Array, bias: Array = None, stride: Sizes = 1, padding: Sizes = 0,
    dilation: Sizes = 1, groups: int = 1,
) -> Array:  # fmt: skip
    """The convolution of x[n, channels, spatial..] with w[out, channels / groups, window..]; one
    to three spatial dims, each of the spatial arguments one number or one a dim.
    """
    return _applied(
        ops.conv, x, w, bias, stride=_fixed(stride), padding=_fixed(padding),
        dilation=_fixed(dilation), groups=groups,
    )  # fmt: skip


# ---- pooling, tables -----------------------------------------------------------------------------


@_compiled
def max_pool(x: Array, kernel: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> Array:
    """The greatest element of each window; `stride` is that of the kernel by default."""
    step = None if stride is None else _fixed(stride)
    return x.wrap(ops.max_pool(x.b, x.value, _fixed(kernel), step, _fixed(padding)))


@_compiled
def avg_pool(x: Array, kernel: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> Array:
    """The mean of each window, padding included; `stride` is that of the kernel by default."""
    step = None if stride is None else _fixed(stride)
    return x.wrap(ops.avg_pool(x.b, x.value, _fixed(kernel), step, _fixed(padding)))


@_compiled
def adaptive_avg_pool(x: Array, size: tuple[int, ...]) -> Array:
    """The mean of each of `size` windows that together cover the spatial dims."""
    return x.wrap(ops.adaptive_avg_pool(x.b, x.value, size))


@_compiled
def one_hot(indices: Array, classes: int) -> Array:
    """[.., classes] of i64: 1 at each index and 0 elsewhere; an index out of range has no 1."""
    return indices.wrap(ops.one_hot(indices.b, indices.value, expr_of(classes)))


@_compiled
def embedding(indices: Array, table: Array) -> Array:
    """The rows of `table` at `indices`, which must lie in it."""
    tape = tape_of(indices, table)
    return tape.wrap(ops.take(tape.builder, traced(tape, table).value, traced(tape, indices).value))
