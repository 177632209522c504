"""Products: sums of a product over shared axes, all from one operator.

    dot_general(x, y)[batch.., x free.., y free..] = sum over contracted axes of x * y

as StableHLO defines it; matmul, linear, bmm and einsum are compositions of it with views.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from ferrule.base.dtype import DType, boolean, i32, promote
from ferrule.base.errors import CompileError
from ferrule.ir.expr import ONE, Buf
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.monoids import SUM
from ferrule.ir.simplify import equal
from ferrule.ir.system import Stage
from ferrule.ops.create import full
from ferrule.ops.elementary import add, cast, mul
from ferrule.ops.op import (
    Array,
    broadcast,
    check_bound,
    check_kind,
    define,
    element,
    folded,
    same_dtype,
    show_types,
    stage,
    upcast,
    within_bound,
)
from ferrule.ops.reduce import reduce_sum
from ferrule.ops.slices import diagonal
from ferrule.ops.view import expand, reshape, transpose

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def _free(rank: int, *used: tuple[int, ...]) -> list[int]:
    taken = {d for dims in used for d in dims}
    return [d for d in range(rank) if d not in taken]


def _dot_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, y = types
    dtype = same_dtype("dot_general", types)
    check_kind("dot_general", x, "fiu")
    check_bound("dot_general", dtype, attrs)
    for dx, dy in (attrs["batch"], attrs["contract"]):
        for d, e in zip(dx, dy, strict=True):
            if not equal(x.shape[d], y.shape[e]):
                raise CompileError(
                    f"dot_general of {show_types(types)}: axis {d} of size {x.shape[d]} meets "
                    f"axis {e} of size {y.shape[e]}"
                )
    (bx, by), (cx, cy) = attrs["batch"], attrs["contract"]
    return tensor(
        (
            *(x.shape[d] for d in bx),
            *(x.shape[d] for d in _free(x.rank, bx, cx)),
            *(y.shape[d] for d in _free(y.rank, by, cy)),
        ),
        dtype.compute if attrs.get("wide") else dtype,
    )


def _dot_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, y = ins
    (bx, by), (cx, cy) = attrs["batch"], attrs["contract"]
    axes = ctx.axes(outs[0].shape)
    over = ctx.axes([x.shape[d] for d in cx], "k")
    n = len(bx)
    x_free, y_free = _free(len(x.shape), bx, cx), _free(len(y.shape), by, cy)
    at_x = dict(zip((*bx, *x_free, *cx), (*axes[: n + len(x_free)], *over), strict=True))
    at_y = dict(zip((*by, *y_free, *cy), (*axes[:n], *axes[n + len(x_free) :], *over), strict=True))
    value = element(x, *(at_x[d] for d in range(len(x.shape)))) * element(
        y, *(at_y[d] for d in range(len(y.shape)))
    )
    if not over:
        return [stage(outs[0], axes, value)]
    return folded(ctx, outs[0], axes, value, over, SUM(value.dtype))


def _dot_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, y = (upcast(a) for a in arrays)
    (bx, by), (cx, cy) = attrs["batch"], attrs["contract"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    left = list(letters[: x.ndim])
    right = list(letters[x.ndim : x.ndim + y.ndim])
    for d, e in zip((*bx, *cx), (*by, *cy), strict=True):
        right[e] = left[d]
    out = [left[d] for d in (*bx, *_free(x.ndim, bx, cx))] + [
        right[e] for e in _free(y.ndim, by, cy)
    ]

    def sums(x: Array, y: Array) -> Array:
        found: Array = np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", x, y)
        return found

    if x.dtype.kind in "iub":
        within_bound("dot_general", attrs, x, y, sums)
        return sums(x, y)
    return sums(x.astype(np.float64), y.astype(np.float64)).astype(x.dtype)


define("dot_general", _dot_infer, _dot_meaning, _dot_compute)


def dot_general(
    b: GraphBuilder,
    x: Value,
    y: Value,
    batch: Pair = ((), ()),
    contract: Pair = ((), ()),
    wide: bool = False,
    bound: int | None = None,
    dtype: DType | None = None,
) -> Value:
    """The sum of x * y over the axes `contract`, for each point of the axes `batch`.

    Both are (axes of x, axes of y); the result's dims are those of the batch, the other dims of x
    and the other dims of y. f16 and bf16 are summed in f32, which is the result's dtype too where
    it is to be `wide`. Of integers, `bound` says that no result's terms come to more in size
    (`check_bound`). `dtype` is the result's where it is another than the operands', which may
    differ then: the sum is made in it, unless theirs holds more. Of bools, sums are `or`.
    """
    if x.dtype.is_bool and y.dtype.is_bool:  # whether there is a pair of which both hold
        summed = dot_general(b, cast(b, x, i32), cast(b, y, i32), batch, contract)
        return cast(b, cast(b, summed, boolean), dtype or boolean)
    if dtype is not None and not (x.dtype == y.dtype == dtype):
        common = promote(promote(x.dtype, y.dtype), dtype)
        if common != dtype or x.dtype != y.dtype or x.dtype.compute != dtype:
            x, y = cast(b, x, common), cast(b, y, common)
        summed = dot_general(b, x, y, batch, contract, dtype == x.dtype.compute, bound)
        return cast(b, summed, dtype)
    return b.emit(
        "dot_general",
        x,
        y,
        batch=(tuple(batch[0]), tuple(batch[1])),
        contract=(tuple(contract[0]), tuple(contract[1])),
        wide=(wide and x.dtype.compute != x.dtype) or None,
        bound=bound,
    )


def matmul(
    b: GraphBuilder, x: Value, y: Value, wide: bool = False, bound: int | None = None
) -> Value:
    """The matrix product of the last two axes, the others broadcast; vectors as in NumPy. `wide`
    and `bound` are those of dot_general.
    """
    if x.rank == 0 or y.rank == 0:
        raise CompileError(f"matmul takes tensors of rank 1 or more, got {x.type} and {y.type}")
    if x.rank == 1 and y.rank > 1:
        out = matmul(b, reshape(b, x, (ONE, *x.shape)), y, wide, bound)
        return reshape(b, out, (*out.shape[:-2], out.shape[-1]))
    if y.rank <= 2:
        return dot_general(b, x, y, contract=((x.rank - 1,), (0,)), wide=wide, bound=bound)
    lead = broadcast((x.shape[:-2], y.shape[:-2]))
    x = expand(b, x, (*lead, *x.shape[-2:]))
    y = expand(b, y, (*lead, *y.shape[-2:]))
    n = tuple(range(len(lead)))
    return dot_general(b, x, y, (n, n), ((len(lead) + 1,), (len(lead),)), wide, bound)


def bmm(b: GraphBuilder, x: Value, y: Value) -> Value:
    """The matrix products of x[n, i, k] and y[n, k, j]."""
    return matmul(b, x, y)


def linear(b: GraphBuilder, x: Value, w: Value, bias: Value | None = None) -> Value:
    """x @ w.T + bias, with w of shape [out, in]; rounded once."""
    shared = ((x.rank - 1,), (w.rank - 1,))
    out = dot_general(b, x, w, contract=shared, wide=bias is not None)
    return out if bias is None else cast(b, add(b, out, cast(b, bias, out.dtype)), x.dtype)


def addmm(
    b: GraphBuilder, bias: Value, x: Value, y: Value, alpha: float = 1, beta: float = 1
) -> Value:
    """beta * bias + alpha * (x @ y), rounded once; without the bias, whatever it holds, for
    beta = 0.
    """
    out = scaled(b, matmul(b, x, y, wide=True), alpha)
    if beta != 0:
        out = add(b, out, scaled(b, cast(b, bias, out.dtype), beta))
    return cast(b, out, x.dtype)


def scaled(b: GraphBuilder, x: Value, factor: float) -> Value:
    """x * factor, x itself for 1."""
    return x if factor == 1 else mul(b, x, full(b, (), factor, x.dtype))


def einsum(b: GraphBuilder, spec: str, *xs: Value) -> Value:
    """Einstein summation in NumPy's notation, operand by operand from the left.

    An ellipsis stands for leading axes, which broadcast. Raises CompileError where the terms do
    not fit.
    """
    names, out = _terms(spec.replace(" ", ""), xs)
    if len(names) != len(xs) or any(len(n) != x.rank for n, x in zip(names, xs, strict=True)):
        raise CompileError(f"einsum {spec!r} does not fit {show_types(x.type for x in xs)}")
    given, names = _unstretched(b, xs, names)
    value, have = _traced(b, given[0], names[0])
    for i, (x, term) in enumerate(zip(given[1:], names[1:], strict=True), 1):
        later = set(out).union(*names[i + 1 :])
        value, have = _einsum_pair(b, value, have, *_traced(b, x, term), later)
    return _einsum_last(b, value, have, out)


def _terms(spec: str, xs: Sequence[Value]) -> tuple[list[str], str]:
    """The names of each operand's axes and of the result's, an ellipsis replaced by names too."""
    left, arrow, out = spec.partition("->")
    names = left.split(",")
    free = [c for c in string.ascii_letters if c not in spec]
    hidden = [max(x.rank - len(n) + 3, 0) if "..." in n else 0 for n, x in zip(names, xs)]
    dots = "".join(free[: max(hidden, default=0)])
    if not arrow:
        once = sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)
        out = "".join(("...", *once))
    terms = [n.replace("...", dots[len(dots) - h :]) for n, h in zip(names, hidden)]
    return terms, out.replace("...", dots)


def _unstretched(
    b: GraphBuilder, xs: Sequence[Value], names: Sequence[str]
) -> tuple[list[Value], list[str]]:
    """The operands without the axes of size 1 that another one has at full size."""
    wide = {c for x, n in zip(xs, names) for c, s in zip(n, x.shape) if not equal(s, ONE)}
    given, terms = list(xs), list(names)
    for i, (x, n) in enumerate(zip(xs, names)):
        drop = tuple(d for d, c in enumerate(n) if c in wide and equal(x.shape[d], ONE))
        if drop:
            given[i] = reshape(b, x, [s for d, s in enumerate(x.shape) if d not in drop])
            terms[i] = "".join(c for d, c in enumerate(n) if d not in drop)
    return given, terms


def _traced(b: GraphBuilder, x: Value, names: str) -> tuple[Value, str]:
    """`x` with repeated names reduced to their diagonal."""
    for c in dict.fromkeys(names):
        while names.count(c) > 1:
            i = names.index(c)
            j = names.index(c, i + 1)
            x = diagonal(b, x, 0, i, j)
            names = names[:i] + names[i + 1 : j] + names[j + 1 :] + c
    return x, names


def _einsum_pair(
    b: GraphBuilder, x: Value, nx: str, y: Value, ny: str, later: set[str]
) -> tuple[Value, str]:
    x, nx = _summed(b, x, nx, later | set(ny))
    y, ny = _summed(b, y, ny, later | set(nx))
    batch = [c for c in nx if c in ny and c in later]
    over = [c for c in nx if c in ny and c not in later]
    out = dot_general(
        b,
        x,
        y,
        (tuple(map(nx.index, batch)), tuple(map(ny.index, batch))),
        (tuple(map(nx.index, over)), tuple(map(ny.index, over))),
    )
    shared = set(batch) | set(over)
    free = [c for c in nx + ny if c not in shared]
    return out, "".join((*batch, *free))


def _summed(b: GraphBuilder, x: Value, names: str, keep: set[str]) -> tuple[Value, str]:
    drop = tuple(i for i, c in enumerate(names) if c not in keep)
    return (reduce_sum(b, x, drop), "".join(c for c in names if c in keep)) if drop else (x, names)


def _einsum_last(b: GraphBuilder, x: Value, names: str, out: str) -> Value:
    x, names = _summed(b, x, names, set(out))
    return transpose(b, x, [names.index(c) for c in out])
