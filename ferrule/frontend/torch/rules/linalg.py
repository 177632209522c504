"""ATen rules: eigenvalues, singular values, and the factors Q and R, whose signs are LAPACK's.

Of vectors the signs are left open, and those of eager code are not ours: what asks for them stays
with PyTorch.
"""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import Context, aten
from ferrule.ir.graph import Value
from ferrule.ops.slices import least


def _values_alone(cx: Context, values: int, a: Value, found: Value, good: Value) -> Any:
    """The results of a decomposition of which the one at place `values` alone is read, which all
    matrices must be finite for. Raises UnsupportedError where others are read.
    """
    if any(cx.is_read(k) for k in range(len(cx.results)) if k != values):
        raise UnsupportedError("the signs of PyTorch's vectors are not known")
    out = [ops.full(cx.b, t.shape, 0.0, a.dtype) for t in cx.results]
    flag = ops.unsqueeze(cx.b, good, good.rank)
    out[values] = ops.ensure(cx.b, found, flag, "not_finite")
    return tuple(out)


@aten("_linalg_eigh.default")
def _eigh(cx: Context, a: Value, UPLO: str = "L", compute_v: bool = True) -> Any:
    w, _, good = ops.eigh(cx.b, (a,), UPLO.upper() == "L", vectors=False)
    return _values_alone(cx, 0, a, w, good)


@aten("_linalg_svd.default")
def _svd(
    cx: Context, a: Value, full_matrices: bool = False, compute_uv: bool = True, driver: Any = None
) -> Any:
    s, _, _, good = ops.svd(cx.b, (a,), vectors=False)
    return _values_alone(cx, 1, a, s, good)


def _nothing(cx: Context, x: Value) -> Value:
    return ops.full(cx.b, (0,), 0.0, x.dtype)


@aten("linalg_qr.default")
def _qr(cx: Context, a: Value, mode: str = "reduced") -> tuple[Value, Value]:
    b, (m, n) = cx.b, a.shape[-2:]
    (packed,), taus = ops.reflections(b, (a,))
    k = m if mode == "complete" else least(m, n)
    r = ops.slice_axis(b, ops.triu(b, packed), -2, 0, k)
    if mode == "r":
        return _nothing(cx, a), r
    (q,) = ops.product_of_reflections(b, (packed,), taus, k)
    return q, r


@aten("geqrf.default")
def _geqrf(cx: Context, a: Value) -> tuple[Value, Value]:
    (packed,), (taus,) = ops.reflections(cx.b, (a,))
    return packed, taus


@aten("linalg_householder_product.default")
def _householder_product(cx: Context, a: Value, taus: Value) -> Value:
    (q,) = ops.product_of_reflections(cx.b, (a,), (taus,), a.shape[-1])
    return q
