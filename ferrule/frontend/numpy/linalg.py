"""NumPy's products and norms on traced arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import from_numpy
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.numpy.array import (
    FUNCTIONS,
    REFUSED,
    Operand,
    Tape,
    Traced,
    call_ufunc,
    common_dtype,
    numpy_function,
    tape_of,
    traced,
)
from ferrule.frontend.numpy.shape import ints, normal, reshape
from ferrule.ir.graph import Value

Axes = int | tuple[int, ...] | None


def _pair(a: Operand, b: Operand) -> tuple[Tape, Any, Any]:
    tape = tape_of(a, b)
    return tape, traced(tape, a), traced(tape, b)


# ---- products ------------------------------------------------------------------------------------


@numpy_function("linalg.matmul")
def _matmul(x1: Operand, x2: Operand, /) -> Traced:
    out: Traced = call_ufunc(np.matmul, (x1, x2))
    return out


@numpy_function("dot")
def _dot(a: Operand, b: Operand) -> Traced:
    """The sum over the last axis of `a` and the last but one of `b`."""
    _, x, y = _pair(a, b)
    if not x.ndim or not y.ndim:
        out: Traced = x * y
        return out
    if y.ndim <= 2:
        return _matmul(x, y)
    return tensordot(x, y, (-1, -2))


@numpy_function("vdot")
def _vdot(a: Operand, b: Operand) -> Traced:
    _, x, y = _pair(a, b)
    return _matmul(x.reshape(-1), y.reshape(-1))


@numpy_function("inner")
def _inner(a: Operand, b: Operand) -> Traced:
    _, x, y = _pair(a, b)
    return _dot(x, y) if not x.ndim or not y.ndim else tensordot(x, y, (-1, -1))


@numpy_function("outer", "linalg.outer")
def _outer(a: Operand, b: Operand) -> Traced:
    _, x, y = _pair(a, b)
    out: Traced = x.reshape(-1, 1) * y.reshape(1, -1)
    return out


@numpy_function("tensordot", "linalg.tensordot")
def tensordot(a: Operand, b: Operand, axes: Any = 2) -> Traced:
    tape, x, y = _pair(a, b)
    if isinstance(axes, int):
        left, right = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    else:
        left, right = ints(axes[0]), ints(axes[1])
    contract = (
        tuple(normal(d, x.ndim) for d in left),
        tuple(normal(d, y.ndim) for d in right),
    )
    kind = common_dtype(x, y)
    values = [tape.lift(t, kind) for t in (x, y)]
    return _of_bools(
        tape, values, lambda u, v: ops.dot_general(tape.builder, u, v, ((), ()), contract)
    )


def _of_bools(tape: Tape, values: list[Value], product: Callable[..., Value]) -> Traced:
    """A product; of bools, whether any term holds."""
    b = tape.builder
    if not values[0].dtype.is_bool:
        return tape.wrap(product(*values))
    counts = product(*(ops.cast(b, v, from_numpy(np.int64)) for v in values))
    return tape.wrap(ops.ne(b, counts, 0))


@numpy_function("linalg.vecdot")
def _vecdot(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Traced:
    _, x, y = _pair(x1, x2)
    out: Traced = FUNCTIONS["sum"](x * y, axis)
    return out.astype(common_dtype(x, y))


@numpy_function("linalg.matrix_power")
def _matrix_power(a: Traced, n: int) -> Traced:
    if operator.index(n) < 1:
        raise UnsupportedError(f"numpy.linalg.matrix_power to the power {n}: expected 1 or more")
    out, square, left = None, a, n
    while left:
        if left & 1:
            out = square if out is None else _matmul(out, square)
        left >>= 1
        square = _matmul(square, square) if left else square
    assert out is not None
    return out


@numpy_function("linalg.multi_dot")
def _multi_dot(arrays: Any) -> Traced:
    out: Traced = arrays[0]
    for x in arrays[1:]:
        out = _matmul(out, x)
    return out


@numpy_function("kron")
def _kron(a: Operand, b: Operand) -> Traced:
    _, x, y = _pair(a, b)
    rank = max(x.ndim, y.ndim)
    x, y = (t.reshape(*(1,) * (rank - t.ndim), *t.shape) for t in (x, y))
    left = x.reshape(*(s for n in x.shape for s in (n, 1)))
    right = y.reshape(*(s for n in y.shape for s in (1, n)))
    return reshape(left * right, tuple(m * n for m, n in zip(x.shape, y.shape)))


@numpy_function("cross", "linalg.cross")
def _cross(a: Operand, b: Operand, axis: int = -1) -> Traced:
    _, x, y = _pair(a, b)
    x, y = (FUNCTIONS["moveaxis"](t, axis, -1) for t in (x, y))
    if x.shape[-1] != 3 or y.shape[-1] != 3:
        raise UnsupportedError(f"numpy.cross of {x} and {y}: expected vectors of three elements")
    turned = [
        x[..., (i + 1) % 3] * y[..., (i + 2) % 3] - x[..., (i + 2) % 3] * y[..., (i + 1) % 3]
        for i in range(3)
    ]
    out: Traced = FUNCTIONS["stack"](turned, axis)
    return out


# ---- einsum --------------------------------------------------------------------------------------


@numpy_function("einsum")
def _einsum(
    subscripts: Any, *operands: Operand, dtype: Any = None, optimize: Any = False
) -> Traced:
    if not isinstance(subscripts, str):
        raise UnsupportedError("numpy.einsum takes its subscripts as a string to be traced")
    tape = tape_of(*operands)
    arrays = [traced(tape, x) for x in operands]
    kind = common_dtype(*arrays) if dtype is None else np.dtype(dtype)
    values = [tape.lift(x, kind) for x in arrays]
    spec = _without_ellipsis(subscripts.replace(" ", ""), [x.ndim for x in arrays])
    return _of_bools(tape, values, lambda *vs: ops.einsum(tape.builder, spec, *vs))


def _without_ellipsis(spec: str, ranks: list[int]) -> str:
    """The subscripts with letters that are not in use in place of `...`."""
    if "..." not in spec:
        return spec
    left, arrow, out = spec.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise InputError(f"numpy.einsum {spec!r} takes {len(terms)} operands, got {len(ranks)}")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in spec]
    counts = {r - len(t) + 3 for t, r in zip(terms, ranks) if "..." in t}
    if len(counts) > 1:
        raise UnsupportedError(
            f"numpy.einsum {spec!r} with ellipses of several ranks {sorted(counts)} cannot be "
            "traced: give the operands equal leading axes"
        )
    names = "".join(free[: counts.pop()])
    if not arrow:
        letters = left.replace(".", "").replace(",", "")
        out = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return f"{','.join(t.replace('...', names) for t in terms)}->{out.replace('...', names)}"


# ---- norms, convolution --------------------------------------------------------------------------


@numpy_function("linalg.norm")
def _norm(x: Traced, ord: Any = None, axis: Axes = None, keepdims: bool = False) -> Traced:
    a = x if x.dtype.kind == "f" else x.astype(np.float64)
    axes = None if axis is None else ints(axis)
    rank = a.ndim if axes is None else len(axes)
    if ord is None or (rank == 2 and ord == "fro"):
        return x.wrap(ops.p_norm(a.b, a.value, 2.0, axes, keepdims))
    if rank != 1 or isinstance(ord, str):
        raise UnsupportedError(
            f"numpy.linalg.norm with ord={ord!r} over {rank} axes cannot be traced: only the "
            "Frobenius norm of matrices can"
        )
    return x.wrap(ops.p_norm(a.b, a.value, float(ord), axes, keepdims))


@numpy_function("linalg.vector_norm")
def _vector_norm(
    x: Traced, /, *, axis: Axes = None, keepdims: bool = False, ord: float = 2
) -> Traced:
    return x.wrap(ops.p_norm(x.b, x.value, float(ord), axis, keepdims))


@numpy_function("linalg.matrix_norm")
def _matrix_norm(x: Traced, /, *, keepdims: bool = False, ord: Any = "fro") -> Traced:
    return _norm(x, ord, (-2, -1), keepdims)


def _slid(reverse: bool) -> Callable[..., Traced]:
    """Convolution or correlation of two vectors, the longer one sliding under the shorter."""

    def apply(a: Operand, v: Operand, mode: str = "full" if reverse else "valid") -> Traced:
        tape, x, w = _pair(a, v)
        if x.ndim != 1 or w.ndim != 1 or mode not in ("full", "same", "valid"):
            raise InputError(f"expected two vectors and mode full, same or valid, got {x}, {w}")
        swapped = bool(w.shape[0] > x.shape[0])
        x, w = (w, x) if swapped else (x, w)
        kind, n = common_dtype(x, w), w.shape[0]
        kind = np.dtype(np.float64) if kind.kind == "b" else kind
        low, high = {"full": (n - 1, n - 1), "valid": (0, 0)}.get(mode, (n // 2, (n - 1) // 2))
        if mode == "same" and reverse:
            low, high = n - 1 - (n - 1) // 2, (n - 1) // 2
        values = [tape.lift(x, kind), tape.lift(w, kind)]
        out: Any = _window_sum(tape, values, reverse, (low, high))
        return out[::-1] if swapped and not reverse else out

    return apply


def _window_sum(tape: Tape, xw: list[Value], reverse: bool, padding: tuple[int, int]) -> Traced:
    """The sum of x * w at each place of the window `w`, turned round for `reverse`."""
    b, (x, w) = tape.builder, xw
    w = ops.reverse(b, w, (0,)) if reverse else w
    lanes = [ops.reshape(b, t, (1, 1, *t.shape)) for t in (x, w)]
    out = ops.conv(b, lanes[0], lanes[1], padding=(padding,))
    return tape.wrap(ops.squeeze(b, out, (0, 1)))


FUNCTIONS["convolve"] = _slid(True)
FUNCTIONS["correlate"] = _slid(False)

_DECOMPOSED = "ferrule has no decompositions or solvers; call it outside of the compiled function"
_NAMES = (
    "inv solve det slogdet eig eigh eigvals eigvalsh svd svdvals qr cholesky lstsq pinv cond "
    "matrix_rank tensorinv tensorsolve"
)
REFUSED.update({f"linalg.{name}": _DECOMPOSED for name in _NAMES.split()})
