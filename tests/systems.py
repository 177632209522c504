"""Small systems in index notation that the tests of fusion, schedules and lowering share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from ferrule.base.dtype import f32
from ferrule.ir.expr import Buf, Expr, as_index, axis, both, call, fconst, le, lt
from ferrule.ir.monoids import MAX, SUM
from ferrule.ir.system import Access, Compute, Reduce, Stage, System

Size = Expr | int
_numbers = count()


def axes(*extents: Size) -> tuple[Expr, ...]:
    """New axes of these extents."""
    return tuple(axis(f"a{next(_numbers)}", n) for n in extents)


def buf(name: str, *shape: Size) -> Buf:
    return Buf(name, tuple(map(as_index, shape)), f32)


def pointwise(out: Buf, value: Callable[..., Expr]) -> Stage:
    """`out[i..] = value(i..)`."""
    at = axes(*out.shape)
    return Stage(out.name, (Access(out, at),), Compute(at, (value(*at),)))


def fold(
    out: Buf,
    over: Iterable[Size],
    value: Callable[..., Expr],
    monoid: str = "sum",
    where: Callable[..., Expr] | None = None,
) -> Stage:
    """`out[i..] = fold over r.. of value(i.., r..)`."""
    at, inner = axes(*out.shape), axes(*over)
    rule = {"sum": SUM, "max": MAX}[monoid](f32)
    guard = None if where is None else where(*at, *inner)
    return Stage(
        out.name, (Access(out, at),), Compute(at, (value(*at, *inner),), Reduce(inner, rule), guard)
    )


def exp(x: Expr) -> Expr:
    return call("exp", x)


def relu(x: Expr) -> Expr:
    return call("max", x, fconst(0.0))


def softmax(rows: Size, columns: Size) -> System:
    x, y, e = buf("x", rows, columns), buf("y", rows, columns), buf("e", rows, columns)
    m, s = buf("m", rows), buf("s", rows)
    return System(
        "softmax",
        (x,),
        (),
        (
            fold(m, (columns,), lambda i, j: x[i, j] * 0.5, "max"),
            pointwise(e, lambda i, j: exp(x[i, j] * 0.5 - m[i])),
            fold(s, (columns,), lambda i, j: e[i, j]),
            pointwise(y, lambda i, j: e[i, j] / s[i]),
        ),
        (y,),
    )


def column_mean(rows: Size, columns: Size) -> System:
    """y = x - mean over the rows."""
    x, y, s = buf("x", rows, columns), buf("y", rows, columns), buf("s", columns)
    return System(
        "column_mean",
        (x,),
        (),
        (
            fold(s, (rows,), lambda j, i: x[i, j] * 0.25),
            pointwise(y, lambda i, j: x[i, j] - s[j]),
        ),
        (y,),
    )


def linear(m: Size, n: Size, k: Size) -> System:
    """relu(x @ w.T + bias)."""
    x, w, bias, c, y = (
        buf("x", m, k),
        buf("w", n, k),
        buf("bias", n),
        buf("c", m, n),
        buf("y", m, n),
    )
    return System(
        "linear",
        (x,),
        (w, bias),
        (
            fold(c, (k,), lambda i, j, r: x[i, r] * w[j, r]),
            pointwise(y, lambda i, j: relu(c[i, j] + bias[j])),
        ),
        (y,),
    )


def product(m: Size, n: Size, k: Size) -> System:
    """a @ b, neither known beforehand."""
    a, b, c = buf("a", m, k), buf("b", k, n), buf("c", m, n)
    return System("product", (a, b), (), (fold(c, (k,), lambda i, j, r: a[i, r] * b[r, j]),), (c,))


def convolutions(batch: Size, channels: int, size: Size, out: int, stride: int = 1) -> System:
    """Two 3x3 convolutions with padding 1 and a residual: relu(conv(relu(conv(x))) +
    relu(conv(x))).
    """
    small = (as_index(size) - 1) // stride + 1
    x = buf("x", batch, channels, size, size)
    w, v = buf("w", out, channels, 3, 3), buf("v", out, out, 3, 3)
    c, r, d, y = (buf(n, batch, out, small, small) for n in "crdy")

    def conv(dst: Buf, src: Buf, weights: Buf, inner: int, step: int, n: Size) -> Stage:
        def at(i: Expr, k: Expr) -> Expr:
            return i * step + k - 1

        return fold(
            dst,
            (inner, 3, 3),
            lambda b, o, i, j, ch, p, q: src[b, ch, at(i, p), at(j, q)] * weights[o, ch, p, q],
            where=lambda b, o, i, j, ch, p, q: both(
                le(as_index(0), at(i, p)),
                lt(at(i, p), n),
                le(as_index(0), at(j, q)),
                lt(at(j, q), n),
            ),
        )

    return System(
        "convolutions",
        (x,),
        (w, v),
        (
            conv(c, x, w, channels, stride, size),
            pointwise(r, lambda *i: relu(c[i])),
            conv(d, r, v, out, 1, small),
            pointwise(y, lambda *i: relu(d[i] + r[i])),
        ),
        (y,),
    )


def attention(batch: Size, heads: int, rows: Size, keys: Size, width: int) -> System:
    """softmax(q @ k.T / 2 + mask) @ v by heads."""
    q, k, v = (
        buf("q", batch, heads, rows, width),
        buf("k", batch, heads, keys, width),
        buf("v", batch, heads, keys, width),
    )
    mask, o = buf("mask", batch, 1, rows, keys), buf("o", batch, heads, rows, width)
    s, p, e, y = (buf(n, batch, heads, rows, keys) for n in ("s", "p", "e", "y"))
    m, z = buf("m", batch, heads, rows), buf("z", batch, heads, rows)
    return System(
        "attention",
        (q, k, v, mask),
        (),
        (
            fold(s, (width,), lambda b, h, i, j, r: q[b, h, i, r] * k[b, h, j, r]),
            pointwise(p, lambda b, h, i, j: s[b, h, i, j] * 0.5 + mask[b, 0, i, j]),
            fold(m, (keys,), lambda b, h, i, j: p[b, h, i, j], "max"),
            pointwise(e, lambda b, h, i, j: exp(p[b, h, i, j] - m[b, h, i])),
            fold(z, (keys,), lambda b, h, i, j: e[b, h, i, j]),
            pointwise(y, lambda b, h, i, j: e[b, h, i, j] / z[b, h, i]),
            fold(o, (keys,), lambda b, h, i, r, j: y[b, h, i, j] * v[b, h, j, r]),
        ),
        (o,),
    )
