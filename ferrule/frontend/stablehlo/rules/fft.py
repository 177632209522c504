"""Fourier transforms, by products with small matrices of roots of unity.

A length a * b is taken apart (Cooley and Tukey, 1965): with j = j1 b + j2 and k = k1 + a k2,

    X[k1 + a k2] = sum_j2 w_b^(j2 k2) ( w_n^(j2 k1) sum_j1 w_a^(j1 k1) x[j1 b + j2] )

so a transform of length n is a product for each factor of n, and one with the roots between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.rules.complex import multiply, pair, whole
from ferrule.frontend.stablehlo.rules.products import bilinear
from ferrule.frontend.stablehlo.rules.shapes import each, literal
from ferrule.frontend.stablehlo.table import Complex, Context, rule
from ferrule.ir.graph import Value

_LARGEST = 64


@rule("stablehlo.fft")
def _fft(cx: Context, x: Any) -> Any:
    """Over the last dims, as many as `fft_length` has."""
    kind, lengths = cx.attr("fft_type"), [int(n) for n in cx.attr("fft_length")]
    dims = [x.rank - len(lengths) + i for i in range(len(lengths))]
    if 0 in lengths and kind in ("FFT", "IFFT"):
        return x  # which has no elements
    if kind == "IRFFT":
        for d, n in zip(dims[:-1], lengths[:-1]):
            x = _along(cx, x, d, n, True)
        out = _along(cx, _mirrored(cx, x, lengths[-1]), dims[-1], lengths[-1], True)
        return out.real
    if kind == "RFFT":
        x = _along(cx, x, dims[-1], lengths[-1], False)
        half = (*x.shape[:-1], lengths[-1] // 2 + 1)
        x = each(x, lambda v: ops.slice(cx.b, v, (0,) * v.rank, half))
        dims, lengths = dims[:-1], lengths[:-1]
    for d, n in zip(dims, lengths):
        x = _along(cx, x, d, n, kind == "IFFT")
    return x


def _mirrored(cx: Context, x: Any, n: int) -> Complex:
    """All `n` terms of a spectrum whose second half is the first one's conjugate, backwards."""
    b, last = cx.b, x.rank - 1
    rest = n - (n // 2 + 1)
    starts, stops = [0] * last + [1], [*x.shape[:-1], 1 + rest]
    back = each(x, lambda v: ops.reverse(b, ops.slice(b, v, starts, stops), (last,)))
    # terms that are their own conjugates are real
    own = ops.iota(b, (n // 2 + 1,), 0)
    alone = ops.eq(b, own, 0)
    if n % 2 == 0:
        alone = ops.logical_or(b, alone, ops.eq(b, own, n // 2))
    imag = ops.select(b, alone, 0.0, x.imag) if x.rank == 1 else x.imag
    return Complex(
        ops.concat(b, [x.real, back.real], last),
        ops.concat(b, [imag, ops.neg(b, back.imag)], last),
    )


def _along(cx: Context, x: Any, d: int, n: int, inverse: bool) -> Any:
    """The transform along one dim, of length `n`."""
    order = [k for k in range(x.rank) if k != d] + [d]
    x = each(x, lambda v: ops.transpose(cx.b, v, order))
    x = _transformed(cx, x, n, inverse)
    if inverse:
        x = each(x, lambda v: ops.mul(cx.b, v, 1.0 / n))
    back = np.argsort(order).tolist()
    return each(x, lambda v: ops.transpose(cx.b, v, back))


def _transformed(cx: Context, x: Any, n: int, inverse: bool) -> Any:
    """The transform along the last dim."""
    b = cx.b
    a = _factor(n)
    if a == n:
        roots = _roots(cx, np.outer(np.arange(n), np.arange(n)), n, x, inverse)
        return bilinear(b, x, roots, lambda b, v, w: _product(b, v, w, v.rank - 1))
    rest, outer = n // a, x.shape[:-1]
    x = each(x, lambda v: ops.reshape(b, v, (*outer, a, rest)))
    first = _roots(cx, np.outer(np.arange(a), np.arange(a)), a, x, inverse)
    # the contracted dim goes, and that of k1 comes last: [.., j2, k1]
    x = bilinear(b, x, first, lambda b, v, w: _product(b, v, w, v.rank - 2))
    between = _roots(cx, np.outer(np.arange(rest), np.arange(a)), n, x, inverse)
    turned = each(between, lambda v: ops.expand(b, v, x.shape))
    x = whole(multiply(pair(b, x), pair(b, turned)))
    order = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    x = each(x, lambda v: ops.transpose(b, v, order))  # [.., k1, j2]
    x = _transformed(cx, x, rest, inverse)  # [.., k1, k2]
    x = each(x, lambda v: ops.transpose(b, v, order))
    return each(x, lambda v: ops.reshape(b, v, (*outer, n)))


def _factor(n: int) -> int:
    """A factor of `n`: itself where it is small or prime, else the greatest small one."""
    if n < 1:
        raise UnsupportedError(f"a Fourier transform of {n} terms")
    small = [f for f in range(2, _LARGEST + 1) if n % f == 0]
    if n <= _LARGEST or (small and small[-1] == n):
        return n
    if small:
        return small[-1]
    return next((f for f in range(_LARGEST, int(n**0.5) + 1) if n % f == 0), n)


def _roots(cx: Context, powers: Any, n: int, like: Any, inverse: bool) -> Complex:
    """exp(-2 pi i p / n) for each of `powers`, or their conjugates, in the dtype of `like`."""
    angles = (powers % n) * (2.0 * np.pi / n)
    sign = 1.0 if inverse else -1.0
    parts = (np.cos(angles), sign * np.sin(angles))
    return Complex(*(literal(cx, p.astype(like.dtype.numpy), like.dtype) for p in parts))


def _product(b: Any, x: Value, roots: Value, d: int) -> Value:
    return ops.dot_general(b, x, roots, ((), ()), ((d,), (0,)))
