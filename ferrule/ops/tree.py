"""Trees: for each row of x and each root, the node that is reached after so many steps down.

    descend   n[i, t] = roots[t], then `levels` times
              n[i, t] = children[n[i, t], 0 if yes else 1]
              yes     = x[i, features[n]] <= thresholds[n], or x there is NaN and missing[n]

A leaf is a node whose children are itself, so trees of any depth walk the same number of steps, and
without a branch. Steps end in the table whatever it holds: a node's number is taken modulo the
number of nodes, which is a power of two, and a feature's is at most x's last and at least 0.
"""

from __future__ import annotations

import numpy as np

from ferrule.base.dtype import i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    call,
    cast,
    const,
    le,
    load,
    maximum,
    minimum,
    mod,
    select,
)
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value
from ferrule.ir.system import Stage
from ferrule.ops.op import Array, define, stage


def _infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, roots, features, thresholds, children, *missing = types
    count = features.shape[0] if features.rank == 1 else ZERO
    whole = count.is_const and count.value > 0 and not count.value & (count.value - 1)
    one_each = all(t.shape == features.shape for t in (thresholds, *missing))
    fit = x.dtype == thresholds.dtype and x.dtype.is_float and children.shape == (count, const(2))
    integers = all(t.dtype.is_int for t in (roots, features, children))
    if attrs["levels"] < 1:
        raise CompileError(f"descend takes 1 step or more, got {attrs['levels']}")
    if x.rank != 2 or roots.rank != 1 or not (whole and one_each and fit and integers):
        raise CompileError(
            "descend takes x[rows, features] of floats, roots[trees], and features[n], "
            "thresholds[n] of x's dtype and children[n, 2] for a power of two n, got "
            + ", ".join(map(str, types))
        )
    return TensorType((x.shape[0], roots.shape[0]), i64)


def _compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, roots, features, thresholds, children, *missing = ins
    last, count = x.shape[1] - 1, features.shape[0]

    def below(row: Expr, node: Expr) -> Expr:
        node = mod(cast(node, i64), count)
        feature = cast(load(features, node), i64)
        feature = maximum(feature, ZERO) if features.dtype.is_signed else feature
        at = load(x, row, minimum(feature, last))
        yes = le(at, load(thresholds, node))
        if missing:
            yes = call("or", yes, call("and", call("isnan", at), load(missing[0], node)))
        return cast(load(children, node, select(yes, ZERO, ONE)), i64)

    stages: list[Stage] = []
    for level in range(attrs["levels"]):
        row, tree = ctx.axes(outs[0].shape)
        node = load(stages[-1].writes[0], row, tree) if stages else load(roots, tree)
        node, final = below(row, node), level == attrs["levels"] - 1
        target = outs[0] if final else ctx.buf("node", outs[0].shape, i64)
        stages.append(stage(target, (row, tree), mod(node, count) if final else node))
    return stages


def _meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, roots, features, thresholds, children, *missing = arrays
    last, count = x.shape[1] - 1, len(features)
    node = np.broadcast_to(roots % count, (len(x), len(roots))).astype(np.int64)
    rows = np.arange(len(x))[:, None]
    for _ in range(attrs["levels"]):
        at = x[rows, np.clip(features[node].astype(np.int64), 0, last)]
        yes = at <= thresholds[node]
        if missing:
            yes |= np.isnan(at) & missing[0][node]
        node = children[node, np.where(yes, 0, 1)].astype(np.int64) % count
    return node


define("descend", _infer, _meaning, _compute)


def descend(
    b: GraphBuilder, x: Value, roots: Value, features: Value, thresholds: Value, children: Value,
    levels: int, missing: Value | None = None,
) -> Value:  # fmt: skip
    """The nodes [rows, trees] of i64 that the rows of x reach from `roots` in `levels` steps.

    Raises CompileError for tables that do not fit.
    """
    tables = (roots, features, thresholds, children, *(() if missing is None else (missing,)))
    out: Value = b.emit("descend", x, *tables, levels=levels)
    return out
