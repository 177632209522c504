"""Families of operators without products: elements, views, joins, folds, scans, literals."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base import dtype as d
from ferrule.ir.expr import ONE, as_index
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, simplify
from tests.fuzz import families_index, families_nn
from tests.fuzz.make import Family, Maker, Reject

# ---- elements ------------------------------------------------------------------------------------

_ANY = (
    "neg", "abs", "sign", "floor", "ceil", "trunc", "round", "sin", "cos", "tanh", "sigmoid",
    "erf", "erfc", "atan", "gelu", "silu", "softplus", "mish", "logsigmoid", "relu", "relu6",
    "hardtanh", "leaky_relu", "elu", "selu", "hardsigmoid", "hardswish", "softsign", "square",
    "asinh",
)  # fmt: skip
_INNER = (
    "tan", "asin", "acos", "atanh", "erfinv", "sinh", "cosh", "expm1", "exp", "exp2", "log1p",
    "i0", "i0e", "i1", "i1e",
)  # fmt: skip
_POSITIVE = (
    "sqrt", "rsqrt", "log", "log2", "log10", "lgamma", "digamma", "reciprocal", "acosh",
)  # fmt: skip


def unary(m: Maker) -> Value:
    x = m.value()
    kind = m.rng.random()
    if kind < 0.7:
        return getattr(ops, m.choice(_ANY))(m.b, x)
    if kind < 0.85:
        small = ops.mul(m.b, ops.tanh(m.b, x), 0.9)
        return getattr(ops, m.choice(_INNER))(m.b, small)
    return getattr(ops, m.choice(_POSITIVE))(m.b, ops.add(m.b, ops.abs(m.b, x), 1.125))


def binary(m: Maker) -> Value:
    x = m.value()
    if m.chance(0.2):
        op = m.choice((ops.add, ops.mul, ops.sub, ops.max, ops.min))
        return op(m.b, x, m.rng.choice((0.5, -1.0, 2.0, 0.0, 1.0, -0.0)))
    y = m.partner(x)
    if m.chance(0.3):
        x, y = y, x
    if m.chance(0.2):
        safe = ops.add(m.b, ops.abs(m.b, y), 0.5)
        return m.choice((ops.div, ops.mod, ops.rem, ops.floordiv))(m.b, x, safe)
    if m.chance(0.1):
        base = ops.add(m.b, ops.sigmoid(m.b, x), 0.5)
        return ops.pow(m.b, base, m.rng.choice((2.0, 0.5, -1.0, 3.0)) if m.chance(0.5) else y)
    names = ("add", "mul", "sub", "add", "mul", "max", "min", "atan2", "hypot", "copysign")
    return getattr(ops, m.choice(names))(m.b, x, y)


def ternary(m: Maker) -> Value:
    x = m.value()
    y = m.partner(x)
    kind = m.rng.randrange(6)
    if kind < 2:
        return ops.select(m.b, m.mask(x), x, y if m.chance(0.7) else 0.25)
    if kind == 2:
        return ops.masked_fill(m.b, x, m.mask(x), m.rng.choice((0.0, -1.0, -100.0)))
    if kind == 3:
        return ops.clamp(m.b, x, -0.5, m.rng.choice((None, 0.75, y)))
    if kind == 4:
        return ops.lerp(m.b, x, y, 0.25)
    z = m.partner(x)
    if m.chance(0.3):
        return ops.addcdiv(m.b, x, y, ops.add(m.b, ops.abs(m.b, z), 1.0), 0.5)
    return ops.addcmul(m.b, x, y, z, 0.5)


def whole(m: Maker) -> Value:
    """Integers and bools."""
    x = m.value("iu")
    kind = m.rng.randrange(8)
    if kind == 0:
        return m.choice((ops.neg, ops.bitwise_not) if x.dtype.kind == "u" else
                        (ops.neg, ops.abs, ops.sign, ops.bitwise_not))(m.b, x)  # fmt: skip
    y = m.partner(x)
    if kind == 1:
        safe = ops.max(m.b, ops.mod(m.b, y, 7), 1)
        return m.choice((ops.floordiv, ops.mod, ops.rem, ops.truncdiv))(m.b, x, safe)
    if kind == 2:
        return m.choice((ops.shl, ops.shr))(m.b, x, m.rng.randint(0, 5))
    if kind == 3:
        return ops.select(m.b, m.mask(x), x, y)
    names = ("add", "sub", "mul", "max", "min", "bitwise_and", "bitwise_or", "bitwise_xor")
    return getattr(ops, m.choice(names))(m.b, x, y)


def truth(m: Maker) -> Value:
    x = m.value("fiub")
    if x.dtype.is_bool:
        if m.chance(0.3):
            return ops.logical_not(m.b, x)
        return m.choice((ops.logical_and, ops.logical_or, ops.logical_xor))(m.b, x, m.mask(x))
    if m.chance(0.1):
        return m.choice((ops.isnan, ops.isinf, ops.isfinite))(m.b, x)
    other = 0 if m.chance(0.2) else m.partner(x)
    return m.choice((ops.lt, ops.le, ops.gt, ops.ge, ops.eq, ops.ne))(m.b, x, other)


def cast(m: Maker) -> Value:
    """A conversion; floats are brought into the range of integers first."""
    x = m.value("fiub")
    to = m.choice((d.f32, d.f32, d.f64, d.f16, d.bf16, d.i64, d.i32, d.i8, d.u8, d.boolean))
    if x.dtype.is_float and to.is_int:
        x = ops.clamp(m.b, x, 0.0 if to.kind == "u" else -100.0, 100.0)
    return ops.cast(m.b, x, to)


def bits(m: Maker) -> Value:
    x = m.value("i")
    pairs = {d.i32: d.u32, d.i64: d.u64, d.i8: d.u8, d.i16: d.u16}
    return ops.bitcast(m.b, x, pairs[x.dtype])


# ---- views ---------------------------------------------------------------------------------------


def reshape(m: Maker) -> Value:
    x = m.value("fiub", 0, 5)
    shape = list(x.shape)
    kind = m.rng.randrange(5)
    if kind == 0:
        return ops.reshape(m.b, x, (-1,) if m.chance(0.5) and not m.dims else (_product(shape),))
    if kind == 1:
        return ops.unsqueeze(m.b, x, m.rng.randint(0, x.rank))
    if kind == 2:
        return ops.squeeze(m.b, x, None if m.chance(0.5) else m.axes(x))
    at = m.axis(x)
    if kind == 3 and at + 1 < x.rank:
        return ops.reshape(m.b, x, (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]))
    n = m.number(shape[at])
    if shape[at].is_const:
        factor = m.choice([f for f in range(1, n + 1) if n % f == 0])
        parts: tuple[Any, ...] = (as_index(factor), as_index(n // factor))
        return ops.reshape(m.b, x, (*shape[:at], *parts, *shape[at + 1 :]))
    factor = m.choice([2, 3, 4, 8])
    if not simplify(shape[at] % factor).is_const:
        raise Reject
    return ops.reshape(m.b, x, (*shape[:at], shape[at] // factor, factor, *shape[at + 1 :]))


def _product(shape: list[Any]) -> Any:
    out = ONE
    for s in shape:
        out = out * s
    return simplify(out)


def transpose(m: Maker) -> Value:
    x = m.value("fiub", 2, 5)
    perm = list(range(x.rank))
    m.rng.shuffle(perm)
    return ops.transpose(m.b, x, perm)


def expand(m: Maker) -> Value:
    x = m.value("fiub", 0, 3)
    shape = [m.size() if s is ONE else s for s in x.shape]
    return ops.expand(m.b, x, (*(m.size() for _ in range(m.rng.choice((0, 1, 1)))), *shape))


def moved(m: Maker) -> Value:
    x = m.value("fiub", 1)
    kind = m.rng.randrange(5)
    if kind == 0:
        return ops.reverse(m.b, x, m.axes(x))
    if kind == 1:
        axes = m.axes(x)
        return ops.roll(m.b, x, [m.rng.randint(-3, 3) for _ in axes], axes)
    if kind == 2:
        return ops.tile(m.b, x, [m.rng.choice((1, 1, 2, 3)) for _ in range(x.rank)])
    if kind == 3:
        if x.rank < 2:
            raise Reject
        first, second = m.rng.sample(range(x.rank), 2)
        return ops.diagonal(m.b, x, m.rng.randint(-2, 2), first, second)
    at = m.axis(x)
    return ops.unfold(m.b, x, at, m.rng.randint(1, 4), m.rng.randint(1, 3))


def sliced(m: Maker) -> Any:
    x = m.value("fiub", 1)
    at = m.axis(x)
    n, size = m.number(x.shape[at]), x.shape[at]
    if m.chance(0.2):
        return ops.select_index(m.b, x, at, m.rng.randrange(max(n, 1)) if size.is_const else 0)
    if m.chance(0.2) and size.is_const and n > 1:
        cut = m.rng.randrange(1, n)
        return ops.split(m.b, x, (cut, n - cut), at)
    start = m.rng.randint(0, min(n, 3))
    less = m.rng.randint(0, min(3, n - start))
    stop = simplify(size - less) if m.chance(0.7) else as_index(m.rng.randint(start, n - less))
    return ops.slice_axis(m.b, x, at, start, stop, m.rng.choice((1, 1, 1, 2, 3)))


def shuffled(m: Maker) -> Value:
    x = m.value("fiub", 3)
    return m.choice((ops.pixel_shuffle, ops.pixel_unshuffle))(m.b, x, m.rng.choice((1, 2, 3)))


# ---- joins ---------------------------------------------------------------------------------------


def concat(m: Maker) -> Value:
    x = m.value("fiub", 1)
    at = m.axis(x)

    def fits(v: Value) -> bool:
        same = v.dtype == x.dtype and v.rank == x.rank
        pairs = enumerate(zip(v.shape, x.shape))
        return same and all(i == at or equal(a, b) for i, (a, b) in pairs)

    parts = [x]
    for _ in range(m.rng.choice((1, 1, 2, 3))):
        found = m.pick(fits)
        if found is None or m.chance(0.3):
            size = m.choice((ONE, m.size(), x.shape[at], as_index(m.rng.randint(1, 5))))
            found = m.leaf((*x.shape[:at], size, *x.shape[at + 1 :]), x.dtype)
        parts.append(found)
    m.rng.shuffle(parts)
    return ops.concat(m.b, parts, at)


def stack(m: Maker) -> Value:
    x = m.value("fiub", 0, 3)
    others = [m.of_shape(x.shape, x.dtype) for _ in range(m.rng.choice((1, 1, 2)))]
    parts = [x, *others]
    m.rng.shuffle(parts)
    return ops.stack(m.b, parts, m.rng.randint(0, x.rank))


def pad(m: Maker) -> Value:
    x = m.value("fiub", 1)
    axes = set(m.axes(x))
    low, high = ([m.rng.randint(0, 3) if i in axes else 0 for i in range(x.rank)] for _ in "lh")
    mode = m.choice(("constant", "constant", "reflect", "replicate", "circular"))
    if mode != "constant":  # as many elements as there are to repeat
        room = [min(3, m.number(s) - (mode == "reflect")) for s in x.shape]
        if min(room) < 0:
            raise Reject
        low, high = ([min(n, r) for n, r in zip(ns, room)] for ns in (low, high))
    at = m.axis(x)
    if mode == "constant" and m.chance(0.2) and x.shape[at].is_const and m.number(x.shape[at]):
        low[at] = -1
    value = 0.0 if x.dtype.kind in "ub" or m.chance(0.6) else m.rng.choice((1.0, -2.0))
    return ops.pad(m.b, x, low, high, value, mode)


def triangle(m: Maker) -> Value:
    x = m.value("fiub", 2)
    return m.choice((ops.tril, ops.triu))(m.b, x, m.rng.randint(-2, 3))


# ---- folds and scans -----------------------------------------------------------------------------


def reduction(m: Maker) -> Any:
    x = m.value("fiu" if m.chance(0.15) else "f", 1)
    axes = None if m.chance(0.1) else m.axes(x)
    keep = m.chance(0.4)
    if x.dtype.kind != "f":
        op = m.choice((ops.reduce_sum, ops.reduce_max, ops.reduce_min, ops.reduce_prod))
        return op(m.b, x, axes, keep)
    often = (ops.reduce_sum, ops.reduce_max, ops.mean)
    op = m.choice((*often, *often, ops.reduce_sum, ops.reduce_min, ops.logsumexp, ops.reduce_prod))
    if m.chance(0.25):
        op = m.choice((ops.var, ops.std, ops.var_mean))
        return op(m.b, x, axes, m.rng.choice((0, 1)), keep)
    if m.chance(0.1):
        return ops.p_norm(m.b, x, m.rng.choice((1.0, 2.0, 0.0, 3.0, float("inf"))), axes, keep)
    return op(m.b, x, axes, keep)


def truths(m: Maker) -> Value:
    x = m.value("bfiu", 1)
    return m.choice((ops.reduce_any, ops.reduce_all))(m.b, x, m.axes(x), m.chance(0.4))


def extremum(m: Maker) -> Any:
    x = m.value("fiu", 1)
    axis = None if m.chance(0.1) else m.axis(x)
    op = m.choice((ops.argmax, ops.argmin, ops.max_with_index, ops.min_with_index))
    return op(m.b, x, axis, m.chance(0.4))


def scan(m: Maker) -> Any:
    x = m.value("fiu", 1)
    at = m.axis(x)
    if m.chance(0.3):
        return m.choice((ops.cummax, ops.cummin))(m.b, x, at)
    if x.dtype.is_float and m.chance(0.2):
        return ops.logcumsumexp(m.b, x, at)
    op = ops.cumprod if m.chance(0.2) else ops.cumsum
    return op(m.b, x, at, m.chance(0.2), m.chance(0.2))


def literal(m: Maker) -> Value:
    return m.literal(m.shape(1, 3), m.dtype(m.choice(("f", "f", "iu", "b"))))


ALL: tuple[tuple[int, Family], ...] = (
    (6, unary), (10, binary), (5, ternary), (3, whole), (3, truth), (4, cast), (1, bits),
    (6, reshape), (6, transpose), (4, expand), (4, moved), (6, sliced), (1, shuffled),
    (6, concat), (3, stack), (4, pad), (2, triangle),
    (8, reduction), (1, truths), (2, extremum), (4, scan), (2, literal),
    *families_index.ALL, *families_nn.ALL,
)  # fmt: skip
