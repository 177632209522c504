"""Folds by a body: `reduce`, `reduce_window` and `select_and_scatter` of StableHLO, and `map`.

    map             out[i..] = body(x[i..], y[i..], ..)
    fold            out[i..] = init, then body(out[i..], x[i.., r..]) over the axes r
    fold_windows    the same over windows of x, which may be padded, spread out and stride

Of several operands all are folded together: the body takes their old values, then the new ones.
The builders recognise what has an operator of its own (sums, running sums). Else the equations
depend on what is known of the body (`ferrule.ops.body`): a standard monoid, one that may be folded
in any order, or any function of scalars, which is applied to one value after another.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from ferrule.base.dtype import DType, boolean, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    FALSE,
    ONE,
    TRUE,
    ZERO,
    Buf,
    Expr,
    as_index,
    both,
    const,
    eq,
    le,
    load,
    lt,
    maximum,
    select,
)
from ferrule.ir.expr import product as product_of
from ferrule.ir.graph import Attrs, ComputeContext, Graph, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Access, Compute, Reduce, Stage
from ferrule.ops import body as bodies
from ferrule.ops import elementary as el
from ferrule.ops.body import Build
from ferrule.ops.create import iota, number_of
from ferrule.ops.gather import scatter_slices
from ferrule.ops.join import spread
from ferrule.ops.op import (
    Array,
    Index,
    at,
    broadcast,
    define,
    element,
    normal_axes,
    show_types,
    stage,
    upcast,
)
from ferrule.ops.reduce import points, reduce_max, reduce_min, reduce_prod, reduce_sum, reduced_type
from ferrule.ops.scan import cumprod, cumsum, running_max, running_min
from ferrule.ops.view import expand, reshape, sizes_of

Size = Expr | int
Values = tuple[Value, ...]


# ---- the equations of a fold ---------------------------------------------------------------------


def _stages(
    ctx: ComputeContext,
    outs: tuple[Buf, ...],
    axes: Index,
    values: list[Expr],
    over: Index,
    where: Expr | None,
    inits: list[Expr],
    attrs: Attrs,
) -> list[Stage]:
    """`outs[axes]` = `values`, in the dtypes that they are computed in, folded over the axes `over`
    from `inits` on. Without these the first value is where a fold starts, and 0 stands for none.
    """
    body, known = attrs["body"], bodies.names(attrs["body"])
    if inits and known is not None and bodies.LAST not in known:
        stages = []
        for i, (out, value, name) in enumerate(zip(outs, values, known, strict=True)):
            monoid = bodies.standard(name, value.dtype)
            start = None if attrs["plain"][i] else inits[i]
            stages += _by_monoid(ctx, out, axes, value, Reduce(over, monoid), where, start)
        return stages
    if bodies.any_order(body):
        return _of_some(ctx, outs, axes, values, over, where, inits, body)
    return _serially(ctx, outs, axes, values, over, where, inits, body)


def _by_monoid(
    ctx: ComputeContext, out: Buf, axes: Index, value: Expr, fold: Reduce, where: Expr | None,
    init: Expr | None,
) -> list[Stage]:  # fmt: skip
    if init is None and out.dtype == value.dtype:
        return [stage(out, axes, value, fold, where)]
    wide = ctx.buf("wide", (a.extent for a in axes), value.dtype)
    found = load(wide, *axes)
    if init is not None:
        (found,) = bodies.applied(fold.monoid.combine, (init, found))
    return [stage(wide, axes, value, fold, where), stage(out, axes, found)]


def _totals(ctx: ComputeContext, axes: Index, dtypes: Sequence[DType]) -> tuple[Buf, ...]:
    return tuple(ctx.buf("total", (a.extent for a in axes), t) for t in dtypes)


def _of_some(
    ctx: ComputeContext, outs: tuple[Buf, ...], axes: Index, values: list[Expr], over: Index,
    where: Expr | None, inits: list[Expr], body: Graph,
) -> list[Stage]:  # fmt: skip
    """By the monoid of the values that there are, then with the initial ones."""
    has, *totals = _totals(ctx, axes, [boolean, *(v.dtype for v in values)])
    targets = tuple(Access(t, axes) for t in (has, *totals))
    fold = Compute(axes, (TRUE, *values), Reduce(over, bodies.of_some(body)), where)
    found = [load(t, *axes) for t in totals]
    if inits:
        joined = bodies.applied(bodies.wide(body), [*inits, *found])
        found = [
            select(load(has, *axes), new, old) for new, old in zip(joined, inits, strict=True)
        ]
    last = [stage(out, axes, value) for out, value in zip(outs, found, strict=True)]
    return [Stage(has.name, targets, fold), *last]


def _serially(
    ctx: ComputeContext, outs: tuple[Buf, ...], axes: Index, values: list[Expr], over: Index,
    where: Expr | None, inits: list[Expr], body: Graph,
) -> list[Stage]:  # fmt: skip
    """One value after another, each folded into what the result holds."""
    if inits:
        monoid, first, given = bodies.serial(body), inits, values
    else:
        monoid, given = bodies.of_some(body), [TRUE, *values]
        first = [FALSE, *(const(0, v.dtype) for v in values)]
    totals = _totals(ctx, axes, [v.dtype for v in given])
    stages = []
    for total, start in zip(totals, first, strict=True):
        at = ctx.axes(total.shape)
        stages.append(stage(total, at, start))
    targets = tuple(Access(t, axes) for t in totals)
    put = Compute((*axes, *over), tuple(given), where=where)
    stages.append(Stage(ctx.fresh("update"), targets, put, monoid, update=True))
    for out, total in zip(outs, totals[len(totals) - len(outs) :], strict=True):
        at = ctx.axes(out.shape)
        stages.append(stage(out, at, load(total, *at)))
    return stages


# ---- the meaning ---------------------------------------------------------------------------------


def _folded(
    rows: Sequence[Array], inside: Array | None, inits: Sequence[Array], body: Graph
) -> tuple[Array, ...]:
    """`rows` folded along their last axis, where `inside` holds; those of f16 in f32."""
    known = bodies.names(body)
    dtypes = [v.dtype.compute for v in body.outputs]
    if known is None or bodies.LAST in known:
        step = bodies.wide(body)
    else:
        k = len(known)
        step = tuple(
            bodies.applied(bodies.standard(n, t).combine, bodies.operands(i, k, t))[0]
            for i, (n, t) in enumerate(zip(known, dtypes, strict=True))
        )
    shape = rows[0].shape[:-1]
    has = np.full(shape, bool(inits))
    total = tuple(
        np.broadcast_to(upcast(np.asarray(i)), shape)
        for i in (inits or [np.zeros((), t.numpy) for t in dtypes])
    )
    for r in range(rows[0].shape[-1]):
        taken = np.broadcast_to(True if inside is None else inside[..., r], shape)
        given = [x[..., r] for x in rows]
        joined = bodies.values_of(step, [*total, *given])
        new = (np.where(has, n, g) for n, g in zip(joined, given, strict=True))
        total = tuple(np.where(taken, n, t) for n, t in zip(new, total, strict=True))
        has = has | taken
    return total


def _inits(items: tuple[Array, ...], attrs: Attrs) -> tuple[Sequence[Array], Sequence[Array]]:
    """The operands and the initial values, f16 as f32."""
    k = len(attrs["body"].outputs)
    return [upcast(x) for x in items[:k]], [upcast(x) for x in items[k:]]


def _one(results: tuple[Array, ...]) -> tuple[Array, ...] | Array:
    return results if len(results) > 1 else results[0]


def _operands(name: str, types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    """The types of what is folded. Raises CompileError where they do not fit."""
    k = len(attrs["body"].outputs)
    xs, inits = types[:k], types[k:]
    bodies.check_folding(name, attrs["body"], [x.dtype for x in xs])
    first = xs[0].shape
    alike = all(x.rank == len(first) and all(builtins.map(equal, x.shape, first)) for x in xs)
    fits = not inits or [(0, x.dtype) for x in xs] == [(i.rank, i.dtype) for i in inits]
    if not alike or not fits:
        raise CompileError(f"{name} of {show_types(types)}: they do not fit")
    return xs


# ---- map -----------------------------------------------------------------------------------------


def _map_infer(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    body: Graph = attrs["body"]
    takes = [v.dtype for v in body.inputs]
    shape = broadcast(t.shape for t in types)
    if [t.dtype for t in types] != takes:
        raise CompileError(f"map of {show_types(types)}: its body takes {takes}")
    return tuple(TensorType(shape, v.dtype) for v in body.outputs)


def _map_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    stages = []
    for out, value in zip(outs, bodies.scalars(attrs["body"]), strict=True):
        axes = ctx.axes(out.shape)
        elements = [load(x, *at(x, axes)) for x in ins]
        (found,) = bodies.applied([value], elements)
        stages.append(stage(out, axes, found))
    return stages


def _map_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, ...] | Array:
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    found = bodies.evaluated(attrs["body"], arrays)
    return _one(tuple(np.broadcast_to(f, shape) for f in found))


define("map", _map_infer, _map_meaning, _map_compute)


def map(b: GraphBuilder, xs: Sequence[Value], body: Build) -> Values:
    """StableHLO's map: the values that `body(inner, *elements)` builds of the elements of `xs`,
    which broadcast.
    """
    graph = bodies.body_graph(b, "map", [x.dtype for x in xs], body)
    out = b.emit("map", *xs, body=graph)
    return out if isinstance(out, tuple) else (out,)


# ---- reduce --------------------------------------------------------------------------------------


def _fold_infer(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    xs = _operands("reduce", types, attrs)
    return tuple(reduced_type(x, attrs["axes"], False, x.dtype) for x in xs)


def _fold_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    xs, inits = ins[: len(outs)], [element(i) for i in ins[len(outs) :]]
    p = points(ctx, xs[0], attrs["axes"])
    values = [element(x, *p.point) for x in xs]
    if not p.over:
        joined = bodies.applied(bodies.wide(attrs["body"]), [*inits, *values])
        return [stage(out, p.kept, v) for out, v in zip(outs, joined, strict=True)]
    return _stages(ctx, outs, p.kept, values, p.over, None, inits, attrs)


def _fold_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, ...] | Array:
    xs, inits = _inits(arrays, attrs)
    axes = attrs["axes"]
    kept = [n for d, n in enumerate(xs[0].shape) if d not in axes]
    count = int(np.prod([xs[0].shape[d] for d in axes], dtype=np.int64))
    ends = tuple(range(-len(axes), 0))
    rows = [np.moveaxis(x, axes, ends).reshape(*kept, count) for x in xs]
    return _one(_folded(rows, None, inits, attrs["body"]))


define("fold", _fold_infer, _fold_meaning, _fold_compute)

_REDUCTIONS: dict[str, Callable[..., Value]] = {
    "sum": reduce_sum, "prod": reduce_prod,
    "max": lambda b, x, axes: reduce_max(b, x, axes, empty=True),
    "min": lambda b, x, axes: reduce_min(b, x, axes, empty=True),
}  # fmt: skip


def _plain(b: GraphBuilder, known: tuple[str, ...] | None, inits: Sequence[Value]) -> list[bool]:
    """For each initial value, whether it is a number, and the identity of what it begins."""
    if known is None or bodies.LAST in known:
        return [False] * len(inits)
    identities = [
        bodies.standard(n, i.dtype.compute).identity[0].value for n, i in zip(known, inits)
    ]
    return [number_of(b, i) == e for i, e in zip(inits, identities, strict=True)]


def reduce(
    b: GraphBuilder, xs: Sequence[Value], inits: Sequence[Value], axes: Sequence[int], body: Build
) -> Values:
    """StableHLO's reduce: `xs` folded over `axes` by `body(inner, *old, *new)`, which builds the
    values from scalars, beginning with the scalars `inits`. Raises CompileError for what does not
    fit.
    """
    over = normal_axes("reduce", axes, xs[0].rank)
    kinds = [x.dtype for x in xs]
    graph = bodies.body_graph(b, "reduce", [*kinds, *kinds], body)
    known = bodies.names(graph)
    plain = _plain(b, known, inits)
    bodies.check_folding("reduce", graph, kinds)
    if known is not None and over and set(known) <= set(_REDUCTIONS):
        found = (_REDUCTIONS[n](b, x, over) for n, x in zip(known, xs, strict=True))
        return tuple(
            y if p else _MERGED[n](b, y, i)
            for y, n, i, p in zip(found, known, inits, plain, strict=True)
        )
    out = b.emit("fold", *xs, *inits, axes=over, body=graph, plain=tuple(plain))
    return out if isinstance(out, tuple) else (out,)


_MERGED: dict[str, Callable[..., Value]] = {
    "sum": el.add, "prod": el.mul, "max": el.max, "min": el.min,
}  # fmt: skip


# ---- windows -------------------------------------------------------------------------------------


def _window_count(n: Expr, d: int, attrs: Attrs) -> Expr:
    low, high = (as_index(v) for v in attrs["padding"][d])
    reach = (as_index(attrs["window"][d]) - 1) * attrs["window_dilations"][d] + 1
    span = low + spread(n, attrs["base_dilations"][d] - 1) + high - reach
    count = simplify(span // attrs["strides"][d] + 1)
    return maximum(count, ZERO) if count.is_const else count


def _windows_infer(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    xs = _operands("reduce_window", types, attrs)
    names = ("window", "strides", "base_dilations", "window_dilations", "padding")
    if any(len(attrs[n]) != xs[0].rank for n in names):
        raise CompileError(f"reduce_window of {show_types(types)}: a window of {attrs['window']}")
    if any(k < 1 for n in names[1:4] for k in attrs[n]):
        raise CompileError(f"reduce_window of {show_types(types)}: a step of less than 1")
    sizes = [_window_count(n, d, attrs) for d, n in enumerate(xs[0].shape)]
    return tuple(tensor(sizes, x.dtype) for x in xs)


def _windows_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    xs, inits = ins[: len(outs)], [element(i) for i in ins[len(outs) :]]
    axes = ctx.axes(outs[0].shape)
    every = ctx.axes(sizes_of(attrs["window"]), "k")
    over = tuple(a for a in every if a.extent is not ONE) or every[:1]
    idx, guards = list[Expr](), list[Expr]()
    for d, (a, k, n) in enumerate(zip(axes, every, xs[0].shape, strict=True)):
        low, high = (as_index(v) for v in attrs["padding"][d])
        between = attrs["base_dilations"][d]
        at = a * attrs["strides"][d] - low
        at = simplify(at + k * attrs["window_dilations"][d] if k in over else at)
        guards += [] if low is ZERO else [le(ZERO, at)]
        guards += [] if high is ZERO else [lt(at, spread(n, between - 1))]
        guards += [] if between == 1 else [eq(simplify(at % between), ZERO)]
        idx.append(at if between == 1 else simplify(at // between))
    inside = simplify(both(*guards))
    values = [element(x, *idx) for x in xs]
    if not over:
        joined = bodies.applied(bodies.wide(attrs["body"]), [*inits, *values]) if inits else values
        return [stage(out, axes, v) for out, v in zip(outs, joined, strict=True)]
    where = None if inside is TRUE else inside
    if where is not None and inits and not all(attrs["plain"]):  # padding is folded, too
        values = [select(where, v, i) for v, i in zip(values, inits, strict=True)]
        where = None
    return _stages(ctx, outs, axes, values, over, where, inits, attrs)


def _windows_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, ...] | Array:
    xs, inits = _inits(arrays, attrs)
    rank = xs[0].ndim
    shape = tuple(
        int(_window_count(as_index(n), d, attrs).value) for d, n in enumerate(xs[0].shape)
    )
    columns, inside = [list[Array]() for _ in xs], list[Array]()
    for k in product(*(range(int(w)) for w in attrs["window"])):
        idx, valid = [], np.ones((1,) * rank, np.bool_)
        for d in range(rank):
            n, between = xs[0].shape[d], attrs["base_dilations"][d]
            at = np.arange(shape[d]) * attrs["strides"][d] + k[d] * attrs["window_dilations"][d]
            at = (at - attrs["padding"][d][0]).reshape([-1 if e == d else 1 for e in range(rank)])
            valid = valid & (at >= 0) & (at < n * between) & (at % between == 0)
            idx.append(np.clip(at // between, 0, max(n - 1, 0)))
        valid = np.broadcast_to(valid, shape)
        for i, x in enumerate(xs):
            found = np.broadcast_to(x[tuple(idx)], shape) if x.size else np.zeros(shape, x.dtype)
            columns[i].append(np.where(valid, found, inits[i]) if inits else found)
        inside.append(np.ones(shape, np.bool_) if inits else valid)
    rows = [np.stack(c, -1) for c in columns]
    return _one(_folded(rows, np.stack(inside, -1), inits, attrs["body"]))


define("fold_windows", _windows_infer, _windows_meaning, _windows_compute)

_RUNNING: dict[str, Callable[..., Value]] = {
    "sum": cumsum, "prod": cumprod, "max": running_max, "min": running_min,
}  # fmt: skip


def reduce_window(
    b: GraphBuilder,
    xs: Sequence[Value],
    inits: Sequence[Value],
    body: Build,
    window: Sequence[Size],
    strides: Sequence[int] | None = None,
    base_dilations: Sequence[int] | None = None,
    window_dilations: Sequence[int] | None = None,
    padding: Sequence[tuple[Size, Size]] | None = None,
) -> Values:
    """StableHLO's reduce_window: `reduce` of each window of `xs`, padded by `inits`; `padding` is
    (low, high) for each dim and may be negative. Running folds (a window of the whole axis, padded
    at one end) are scans.
    """
    rank, kinds = xs[0].rank, [x.dtype for x in xs]
    graph = bodies.body_graph(b, "reduce_window", [*kinds, *kinds], body)
    ones = (1,) * rank
    attrs: Attrs = {
        "window": sizes_of(window),
        "strides": tuple(strides or ones),
        "base_dilations": tuple(base_dilations or ones),
        "window_dilations": tuple(window_dilations or ones),
        "padding": tuple(sizes_of(p) for p in padding or ((0, 0),) * rank),
    }
    bodies.check_folding("reduce_window", graph, kinds)
    known = bodies.names(graph)
    plain = _plain(b, known, inits)
    running = _running(xs, attrs)
    if running is not None and known is not None and all(plain) and set(known) <= set(_RUNNING):
        axis, reverse = running
        if not any(x.dtype.is_bool for x in xs):
            pairs = zip(known, xs, strict=True)
            return tuple(_RUNNING[n](b, x, axis, reverse=reverse) for n, x in pairs)
    out = b.emit("fold_windows", *xs, *inits, body=graph, plain=tuple(plain), **attrs)
    return out if isinstance(out, tuple) else (out,)


def _running(xs: Sequence[Value], attrs: Attrs) -> tuple[int, bool] | None:
    """(the axis, whether from the end) where each window holds all up to its place."""
    if any(set(attrs[n]) - {1} for n in ("strides", "base_dilations", "window_dilations")):
        return None
    long = [d for d, w in enumerate(attrs["window"]) if w is not ONE]
    rest = [p for d, p in enumerate(attrs["padding"]) if d not in long]
    if len(long) != 1 or any(v is not ZERO for p in rest for v in p):
        return None
    n = xs[0].shape[long[0]]
    before = simplify(n - 1)
    if not equal(attrs["window"][long[0]], n):
        return None
    low, high = attrs["padding"][long[0]]
    if equal(low, before) and high is ZERO:
        return long[0], False
    return (long[0], True) if low is ZERO and equal(high, before) else None


# ---- select_and_scatter --------------------------------------------------------------------------


def select_and_scatter(
    b: GraphBuilder,
    x: Value,
    source: Value,
    init: Value,
    select: Build,
    scatter: Build,
    window: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Sequence[tuple[Size, Size]] | None = None,
) -> Value:
    """StableHLO's select_and_scatter: a tensor like `x` of `init`, into which each element of
    `source` is folded by `scatter(inner, old, new)`, at the place of the element that `select`
    chooses from its window of x. `select(inner, first, second)` builds whether the first of two
    stays, which comes before the other in x.
    """
    total = product_of(x.shape)
    places = reshape(b, el.add(b, iota(b, (total,), 0), 1), x.shape)  # 0 is that of an empty window

    def choice(inner: GraphBuilder, v: Value, i: Value, w: Value, k: Value) -> Values:
        ordered = el.lt(inner, i, k)
        pairs = [(v, w), (i, k)]
        (first, at), (second, other) = (
            tuple(el.select(inner, ordered, *(p if early else p[::-1])) for p in pairs)
            for early in (True, False)
        )
        found = select(inner, first, second)
        stays = found if isinstance(found, Value) else found[0]
        return el.select(inner, stays, first, second), el.select(inner, stays, at, other)

    attrs: Attrs = {
        "window": sizes_of(window),
        "strides": tuple(strides or (1,) * x.rank),
        "base_dilations": (1,) * x.rank,
        "window_dilations": (1,) * x.rank,
        "padding": tuple(sizes_of(p) for p in padding or ((0, 0),) * x.rank),
    }
    graph = bodies.body_graph(b, "select_and_scatter", [x.dtype, i64, x.dtype, i64], choice)
    _, chosen = b.emit("fold_windows", x, places, body=graph, plain=(False, False), **attrs)
    if source.rank != x.rank or not all(builtins.map(equal, chosen.shape, source.shape)):
        raise CompileError(f"select_and_scatter of {source.type}: its windows are {chosen.type}")
    count = product_of(source.shape)
    at = el.sub(b, reshape(b, chosen, (count, ONE)), 1)
    start = expand(b, reshape(b, init, (ONE,)), (total,))
    updates = reshape(b, source, (count,))
    (out,) = scatter_slices(b, (start,), at, (updates,), scatter, (), (0,), (), (), (0,), 1)
    return reshape(b, out, x.shape)
