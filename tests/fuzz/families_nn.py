"""Families of products, convolutions, attention, norms, pools, resizing and loops."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base import dtype as d
from ferrule.ir.expr import ONE, as_index
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal, simplify
from tests.fuzz.make import Maker, Reject

# ---- products ------------------------------------------------------------------------------------


def _numbers(m: Maker, low: int, high: int) -> Value:
    """Floats, or rarely integers, for a product."""
    return m.value("fiu" if m.chance(0.1) else "f", low, high)


def matmul(m: Maker) -> Value:
    x = _numbers(m, 2, 4)
    rows, k = x.shape[-2], x.shape[-1]
    n = m.size()
    m.work(m.count(x.shape), n)
    kind = m.rng.randrange(6)
    if kind == 0:
        y = ops.transpose(m.b, x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))
        m.work(m.count(x.shape), rows)
        return ops.matmul(m.b, x, y)
    lead = x.shape[:-2] if m.chance(0.4) else ()
    found = m.pick(lambda v: v.dtype == x.dtype and v.rank >= 2 and equal(v.shape[-2], k))
    if found is not None and m.chance(0.6):
        return ops.matmul(m.b, x, found)
    left = m.pick(lambda v: v.dtype == x.dtype and v.rank >= 2 and equal(v.shape[-1], rows))
    if left is not None and m.chance(0.5):
        return ops.matmul(m.b, left, x)
    if kind == 1:
        return ops.matmul(m.b, m.leaf((*lead, n, rows), x.dtype), x)
    return ops.matmul(m.b, x, m.leaf((*lead, k, n), x.dtype))


def linear(m: Maker) -> Value:
    x = m.value("f", 1, 4)
    n = as_index(m.extent())
    m.work(m.count(x.shape), n)
    bias = m.leaf((n,), x.dtype) if m.chance(0.6) else None
    return ops.linear(m.b, x, m.leaf((n, x.shape[-1]), x.dtype), bias)


def dot(m: Maker) -> Value:
    """A product over any axes."""
    x = _numbers(m, 1, 4)
    axes = list(range(x.rank))
    m.rng.shuffle(axes)
    batch = axes[: m.rng.choice((0, 0, 1))]
    over = axes[len(batch) : len(batch) + m.rng.choice((0, 1, 1, 1, 2))]
    free = [m.size() for _ in range(m.rng.choice((0, 1, 1, 2)))]
    m.work(m.count(x.shape), *free)
    named = [*((a, x.shape[a]) for a in (*batch, *over)), *((None, s) for s in free)]
    m.rng.shuffle(named)
    y = m.of_shape(tuple(s for _, s in named), x.dtype)
    at = {a: i for i, (a, _) in enumerate(named) if a is not None}
    pairs = ((tuple(batch), tuple(at[a] for a in batch)), (tuple(over), tuple(at[a] for a in over)))
    return ops.dot_general(m.b, x, y, *pairs)


def wide_bytes(m: Maker) -> Value:
    """A product of bytes, summed in i32."""
    x = m.leaf(m.shape(2, 3), m.choice((d.u8, d.u8, d.i8)))
    n = as_index(m.extent())
    y = m.leaf((x.shape[-1], n), d.i8)
    m.work(m.count(x.shape), n)
    x, y = (ops.cast(m.b, v, d.i32) for v in (x, y))
    if m.chance(0.3):
        x = ops.sub(m.b, x, 3)
    out = ops.matmul(m.b, x, y)
    return ops.mul(m.b, ops.cast(m.b, out, d.f32), 0.125) if m.chance(0.6) else out


def attention(m: Maker) -> Value:
    q = m.value("f", 2, 4)
    s, f = m.size(), as_index(m.rng.choice((1, 4, 8, 16, 17, 32)))
    lead = q.shape[:-2]
    m.work(m.count(q.shape), s)
    k = m.of_shape((*lead, s, q.shape[-1]), q.dtype)
    v = m.of_shape((*lead, s, f), q.dtype)
    kind = m.rng.randrange(4)
    scale = m.rng.choice((0.25, 0.5, None))
    if kind == 0:
        return ops.attention(m.b, q, k, v, None, scale, causal=True)
    mask = None
    if kind == 1:
        scores = (q.shape[-2], s) if m.chance(0.5) else (*lead, q.shape[-2], s)
        mask = m.of_shape(scores, m.choice((d.boolean, q.dtype)))
    return ops.attention(m.b, q, k, v, mask, scale)


# ---- images --------------------------------------------------------------------------------------


def image(m: Maker, spatial: int | None = None) -> Value:
    """x[n, channels, spatial..] of floats: of the pool, reshaped to it, or new."""
    n = spatial or m.rng.choice((1, 2, 2, 2, 3))
    found = m.pick(lambda v: v.dtype.is_float and v.rank == n + 2 and v.shape[1].is_const)
    if found is not None and m.chance(0.85):
        return found
    lower = m.pick(lambda v: v.dtype.is_float and v.rank == n + 1 and v.shape[0].is_const)
    if lower is not None and m.chance(0.5):
        return ops.unsqueeze(m.b, lower, 0)
    channels = as_index(m.rng.choice((1, 2, 3, 4, 6, 8, 16, 17)))
    sides = [m.rng.choice((1, 2, 3, 5, 7, 8, 9, 14, 16)) if n > 1 else m.extent() for _ in range(n)]
    batch = m.size() if m.dims and m.chance(0.4) else as_index(m.rng.choice((1, 1, 2, 3)))
    places = tuple(m.size() if m.dims and m.chance(0.15) else as_index(s) for s in sides)
    return m.leaf((batch, channels, *places), m.float)


def conv(m: Maker) -> Value:
    x = image(m)
    n, into = x.rank - 2, m.known(x.shape[1])
    if not into:
        raise Reject
    groups = m.choice([g for g in (1, 1, 1, 2, 3, into) if into % g == 0])
    each = m.rng.choice((1, 2, 3, 4, 8, 16, 17)) if groups < into or groups == 1 else 1
    kernel = [m.rng.choice((1, 2, 3, 3, 3, 5)) for _ in range(n)]
    if m.chance(0.4):
        kernel = [m.rng.choice((1, 3, 3))] * n
    stride, dilation = m.rng.choice((1, 1, 1, 2, 3)), m.rng.choice((1, 1, 1, 2))
    padding = m.rng.choice((0, 0, 1, 1, 2))
    bias = m.leaf((as_index(each * groups),), x.dtype) if m.chance(0.5) else None
    m.work(m.count(x.shape), each, *kernel)
    transposed = m.chance(0.15) and all(m.number(s) for s in x.shape)
    shape = (into, each, *kernel) if transposed else (each * groups, into // groups, *kernel)
    w = m.of_shape(tuple(map(as_index, shape)), x.dtype)
    if m.chance(0.1) and not transposed:  # weights made in the graph
        w = ops.tanh(m.b, w)
    return ops.conv(m.b, x, w, bias, stride, padding, dilation, groups, transposed)


def pool(m: Maker) -> Any:
    x = image(m)
    if any(m.number(s) == 0 for s in x.shape[2:]):  # the greatest of nothing
        raise Reject
    n = x.rank - 2
    kind = m.rng.randrange(5)
    kernel = [m.rng.choice((1, 2, 3)) for _ in range(n)]
    stride, padding = m.rng.choice((None, 1, 2)), m.rng.choice((0, 0, min(kernel) // 2))
    if kind < 2:
        return ops.max_pool(m.b, x, kernel, stride, padding, 1, m.chance(0.2), m.chance(0.2))
    if kind < 4:
        return ops.avg_pool(m.b, x, kernel, stride, padding, m.chance(0.2), m.chance(0.5))
    sizes = [m.rng.choice((1, 1, 2, 3)) for _ in range(n)]
    return m.choice((ops.adaptive_avg_pool, ops.adaptive_max_pool))(m.b, x, sizes)


def resize(m: Maker) -> Value:
    x = image(m)
    if any(m.number(s) == 0 for s in x.shape):
        raise Reject
    sizes = [simplify(s * 2) if m.chance(0.3) else m.rng.choice((1, 2, 5, 8)) for s in x.shape[2:]]
    if m.chance(0.5):
        return ops.resize_nearest(m.b, x, sizes, None, m.chance(0.3))
    return ops.resize_linear(m.b, x, sizes, None, m.chance(0.3))


# ---- norms ---------------------------------------------------------------------------------------


def softmax(m: Maker) -> Value:
    x = m.value("f", 1)
    return m.choice((ops.softmax, ops.softmax, ops.log_softmax))(m.b, x, m.axis(x))


def norm(m: Maker) -> Value:
    x = m.value("f", 1)
    kind = m.rng.randrange(5)
    if kind < 3:
        axes = m.rng.randint(1, min(x.rank, 2))
        shape = x.shape[-axes:]
        w = m.leaf(shape, x.dtype) if m.chance(0.7) else None
        if kind == 2:
            return ops.rms_norm(m.b, x, w, axes, 1e-2)
        bias = m.leaf(shape, x.dtype) if w is not None and m.chance(0.7) else None
        return ops.layer_norm(m.b, x, w, bias, axes, 1e-2)
    x = image(m)
    c = m.known(x.shape[1])
    w, bias = (m.leaf(x.shape[1:2], x.dtype) for _ in "wb")
    if kind == 3:
        groups = m.choice([g for g in (1, 2, 4, c) if c and c % g == 0])
        return ops.group_norm(m.b, x, w, bias, groups, 1e-2)
    mean, spread = m.leaf(x.shape[1:2], x.dtype), m.leaf(x.shape[1:2], x.dtype, "p")
    return ops.batch_norm(m.b, x, mean, spread, w, bias, 1e-2)


# ---- loops and branches --------------------------------------------------------------------------


def _changed(m: Maker, b: GraphBuilder, x: Value) -> Value:
    """A tensor of the type of `x` that stays small, maybe by what stands around."""
    y = m.choice((ops.tanh, ops.sin, ops.neg, ops.relu))(b, x)
    other = m.pick(lambda v: v.type == x.type)
    return y if other is None or m.chance(0.5) else ops.mul(b, ops.add(b, y, other), 0.5)


def _updated(m: Maker, b: GraphBuilder, i: Value, x: Value) -> Value:
    """`x` with some of its rows replaced by what others are, or were before."""
    zero, seen = ops.full(b, (), 0, d.i64), [x]
    for _ in range(m.choice((1, 2, 3))):
        at, to = (ops.add(b, ops.mul(b, i, m.choice((1, 2))), m.choice((0, 1, 3))) for _ in "ab")
        part = ops.dynamic_slice(b, m.choice(seen), [at, *[zero] * (x.rank - 1)], (1, *x.shape[1:]))
        starts = [to, *[zero] * (x.rank - 1)]
        seen.append(ops.dynamic_update_slice(b, seen[-1], _changed(m, b, part), starts))
    return seen[-1]


def until(m: Maker) -> Any:
    """A loop whose steps are counted by a number of its own, and maybe skip one in three; it may be
    one over rows, or update some.
    """
    x = m.value("f", 1, 4)
    steps = m.choice((0, 1, 2, 5, x.shape[0]))
    m.work(m.count(x.shape), 4)
    by_rows = steps is x.shape[0] and m.chance(0.6)

    def goes(b: GraphBuilder, v: Any) -> Value:
        return ops.lt(b, v[0], ops.full(b, (), steps, d.i64))

    def body(b: GraphBuilder, v: Any) -> Any:
        i, state, rows = v
        zero = ops.full(b, (), 0, d.i64)
        starts = [i, *[zero] * (x.rank - 1)]
        if by_rows:
            row = ops.dynamic_slice(b, x, starts, (1, *x.shape[1:]))
            state = _changed(m, b, ops.add(b, state, row))
            rows = ops.dynamic_update_slice(b, rows, state, starts)
        elif m.chance(0.4):
            rows = _updated(m, b, i, rows)
        else:
            whole = _changed(m, b, rows)
            often = ops.eq(b, ops.rem(b, i, 3), 1)
            rows = ops.select(b, often, rows, whole) if m.chance(0.4) else whole
        return ops.add(b, i, 1), state, rows

    first = ops.full(m.b, (1, *x.shape[1:]), 0.25, x.dtype)
    given = (ops.full(m.b, (), 0, d.i64), first, x)
    return ops.while_loop(m.b, goes, body, given)[2]


def branches(m: Maker) -> Any:
    """One of a few graphs, by a number of the program."""
    x = m.value("f", 0, 4)
    index = ops.reduce_sum(m.b, m.leaf((as_index(3),), d.i64), (0,))
    index = ops.sub(m.b, ops.mod(m.b, index, 5), 1)
    blocks = [lambda b: (_changed(m, b, x), x), lambda b: (x, _changed(m, b, x))]
    if m.chance(0.5):
        blocks.append(lambda b: (ops.abs(b, x), ops.neg(b, x)))
    return ops.case(m.b, index, blocks)


def loop(m: Maker) -> Any:
    """A recurrent layer: state = tanh(state @ w / 2 + row)."""
    rows = m.value("f", 2, 3)
    if rows.rank == 3:
        state = m.of_shape(rows.shape[1:], rows.dtype)
        factor = 0.5 / max(m.number(rows.shape[-1]), 1) ** 0.5  # so that errors die out
        w = ops.mul(m.b, m.leaf((rows.shape[-1], rows.shape[-1]), rows.dtype), factor)
    else:
        state, w = m.of_shape((ONE, rows.shape[-1]), rows.dtype), None
    m.work(m.count(rows.shape), rows.shape[-1])

    def body(b: GraphBuilder, states: Any, given: Any) -> Any:
        (s,), (r,) = states, given
        product = ops.mul(b, s, 0.5) if w is None else ops.matmul(b, s, w)
        new = ops.tanh(b, ops.add(b, product, r))
        return (new,), (ops.mul(b, new, r),)

    return ops.loop(m.b, body, rows.shape[0], (state,), (rows,), m.chance(0.3))


ALL = (
    (8, matmul), (5, linear), (4, dot), (1, wide_bytes), (3, attention), (6, conv), (3, pool),
    (2, resize), (5, softmax), (5, norm), (1, loop), (2, until), (2, branches),
)  # fmt: skip
