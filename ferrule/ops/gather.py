"""Gathering and scattering of slices, as StableHLO defines them.

    gather          out[batch.., offset..] = x[start + offset], start = indices[batch..], clamped
    scatter_slices  out = x, then for each point of the updates in order
                    out[start + window] = body(out[start + window], updates[batch.., window..])
    dynamic_slice, dynamic_update_slice     one slice, whose start is given as scalars, clamped

No index fails a run: the starts of slices that are read are clamped so that the slices lie within
x, and of what is scattered an element outside of it is left out.

The dims of indices and slices are told apart by `Slices`, which is the specification's
`GatherDimensionNumbers` and `ScatterDimensionNumbers` in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferrule.base.dtype import i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    TRUE,
    ZERO,
    Buf,
    Expr,
    as_index,
    both,
    cast,
    const,
    eq,
    le,
    load,
    lt,
    maximum,
    minimum,
    select,
)
from ferrule.ir.graph import (
    Attrs,
    ComputeContext,
    Graph,
    GraphBuilder,
    Shape,
    TensorType,
    Value,
    tensor,
)
from ferrule.ir.interp.system import turns
from ferrule.ir.simplify import equal, prove, simplify
from ferrule.ir.system import Access, Compute, Monoid, Stage
from ferrule.ops import body as bodies
from ferrule.ops import elementary as el
from ferrule.ops.index import index_operand
from ferrule.ops.op import Array, Index, define, show_types, stage
from ferrule.ops.view import sizes_of

Size = Expr | int
Dims = Sequence[int]


def starts_operand(name: str, b: GraphBuilder, indices: Value) -> Value:
    """`indices` as i64; of u64, what is no i64 is the greatest one."""
    if indices.dtype.kind == "u" and indices.dtype.bits == 64:
        indices = el.min(b, indices, i64.max)
    return index_operand(name, b, indices)


# ---- which dim is which --------------------------------------------------------------------------


@dataclass(frozen=True)
class Slices:
    """What the dims are, of x, of the indices and of the slices (a gather's result, or what is
    scattered).

    `windows` are dims of the slices, each a dim of x that is in none of the others: `dropped` ones,
    where slices have size 1 and no dim; and `batching` ones, along which x has the place that the
    indices have along `indices_batching`. Other dims of the slices are those of the indices but for
    `vector`, along which an index is a vector (none where it is the rank). Its element k starts the
    slice along dim `starts[k]` of x.
    """

    windows: tuple[int, ...]
    dropped: tuple[int, ...]
    batching: tuple[int, ...]
    indices_batching: tuple[int, ...]
    starts: tuple[int, ...]
    vector: int

    @staticmethod
    def of(attrs: Attrs) -> Slices:
        return Slices(*attrs["slices"])

    @property
    def items(self) -> tuple[Any, ...]:
        """As the attribute of a node."""
        return (
            self.windows, self.dropped, self.batching, self.indices_batching, self.starts,
            self.vector,
        )  # fmt: skip

    def check(self, name: str, x: TensorType, indices: TensorType) -> None:
        """CompileError unless they fit these operands."""
        rank, vector = x.rank, self.vector
        size = indices.shape[vector] if vector < indices.rank else const(1)
        gone = (*self.dropped, *self.batching)
        fits = (
            0 <= vector <= indices.rank
            and rank == len(self.windows) + len(gone)
            and len(set(gone)) == len(gone)
            and {*gone, *self.starts} <= set(range(rank))
            and len({*self.starts, *self.batching}) == len(self.starts) + len(self.batching)
            and not (size.is_const and size.value != len(self.starts))
            and len(self.batching) == len(self.indices_batching)
            and set(self.indices_batching) <= set(range(indices.rank)) - {vector}
            and len(set(self.windows)) == len(self.windows)
        )
        if not fits:
            raise CompileError(f"{name} of {x} by {indices}: its dims do not fit: {self}")

    def requires(self, x: TensorType, indices: TensorType) -> list[Expr]:
        """That batching dims agree, and the length of an index."""
        facts = [
            eq(x.shape[d], indices.shape[e])
            for d, e in zip(self.batching, self.indices_batching, strict=True)
        ]
        if self.vector < indices.rank:
            facts.append(eq(indices.shape[self.vector], const(len(self.starts))))
        return facts

    def kept(self, rank: int) -> list[int]:
        """The dims of x that slices have, in order."""
        return [d for d in range(rank) if d not in (*self.dropped, *self.batching)]

    def shape(self, indices: Shape, sizes: Shape) -> Shape:
        """The shape of slices of `sizes` along the dims of x."""
        batch = iter([s for d, s in enumerate(indices) if d != self.vector])
        window = iter([sizes[d] for d in self.kept(len(sizes))])
        rank = len(indices) - (self.vector < len(indices)) + len(self.windows)
        if any(not 0 <= d < rank for d in self.windows):
            raise CompileError(f"slices of rank {rank} have no dims {self.windows}")
        return tuple(next(window if d in self.windows else batch) for d in range(rank))

    def places(
        self, point: Sequence[Any], rank: int, indices_rank: int, read: Callable[..., Any]
    ) -> Iterator[tuple[Any, Any]]:
        """(start or None, what is added to it) along each dim of x, at a point of the slices.
        `read` gives an element of the indices.
        """
        batch = [p for d, p in enumerate(point) if d not in self.windows]
        window = iter([point[d] for d in self.windows])
        for d in range(rank):
            start = None
            if d in self.starts:
                own = (self.starts.index(d),) if self.vector < indices_rank else ()
                start = read(*batch[: self.vector], *own, *batch[self.vector :])
            if d in self.batching:
                e = self.indices_batching[self.batching.index(d)]
                yield start, batch[e - (e > self.vector)]
            else:
                yield start, 0 if d in self.dropped else next(window)


# ---- gather --------------------------------------------------------------------------------------


def _gather_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, indices = types
    dims, sizes = Slices.of(attrs), sizes_of(attrs["sizes"])
    dims.check("gather", x, indices)
    if len(sizes) != x.rank or any(map(prove, map(lt, x.shape, sizes))):
        raise CompileError(f"gather of {x}: slices of {sizes} do not lie within it")
    if any(not equal(sizes[d], const(1)) for d in (*dims.dropped, *dims.batching)):
        raise CompileError(f"gather of {x}: slices of {sizes} have dims that they lack")
    return tensor(dims.shape(indices.shape, sizes), x.dtype)


def _gather_requires(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    x, indices = types
    within = map(le, sizes_of(attrs["sizes"]), x.shape)
    return [*within, *Slices.of(attrs).requires(x, indices)]


def clamped(start: Expr, size: Expr, n: Expr) -> Expr:
    """The start of a slice of `size`, moved so that it lies within an axis of `n` elements."""
    if equal(size, n):
        return ZERO
    return minimum(maximum(start, ZERO), simplify(n - size))


def _gather_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, indices = ins
    axes, sizes = ctx.axes(outs[0].shape), sizes_of(attrs["sizes"])
    places = Slices.of(attrs).places(
        axes, len(x.shape), len(indices.shape), lambda *at: load(indices, *at)
    )
    idx = [
        as_index(more) if start is None else simplify(clamped(start, size, n) + more)
        for (start, more), size, n in zip(places, sizes, x.shape, strict=True)
    ]
    return [stage(outs[0], axes, load(x, *idx))]


def _gather_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, indices = arrays
    dims, sizes = Slices.of(attrs), attrs["sizes"]
    shape = tuple(int(s.value) for s in dims.shape(sizes_of(indices.shape), sizes_of(sizes)))
    places = dims.places(_grid(shape), x.ndim, indices.ndim, lambda *at: indices[at])
    idx = [
        more if start is None else np.clip(start, 0, n - size) + more
        for (start, more), size, n in zip(places, sizes, x.shape, strict=True)
    ]
    if 0 in shape:
        return np.zeros(shape, x.dtype)
    return np.broadcast_to(x[tuple(idx)], shape)


def _grid(shape: tuple[int, ...]) -> list[Array]:
    return list(np.indices(shape, sparse=True))


define("gather", _gather_infer, _gather_meaning, _gather_compute, requires=_gather_requires)


def gather(
    b: GraphBuilder,
    x: Value,
    start_indices: Value,
    offset_dims: Dims,
    collapsed_slice_dims: Dims,
    operand_batching_dims: Dims,
    start_indices_batching_dims: Dims,
    start_index_map: Dims,
    index_vector_dim: int,
    slice_sizes: Sequence[Size],
) -> Value:
    """StableHLO's gather: slices of `x` of `slice_sizes`, one for each vector of `start_indices`,
    moved where they would not lie within x. Raises CompileError for dims that do not fit.
    """
    dims = Slices(
        tuple(offset_dims), tuple(collapsed_slice_dims), tuple(operand_batching_dims),
        tuple(start_indices_batching_dims), tuple(start_index_map), index_vector_dim,
    )  # fmt: skip
    starts = starts_operand("gather", b, start_indices)
    out: Value = b.emit("gather", x, starts, slices=dims.items, sizes=sizes_of(slice_sizes))
    return out


# ---- scatter -------------------------------------------------------------------------------------


def _split(items: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any, tuple[Any, ...]]:
    """The operands x.., indices, updates.."""
    k = len(items) // 2
    return items[:k], items[k], items[k + 1 :]


def _scatter_infer(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    xs, indices, updates = _split(types)
    dims = Slices.of(attrs)
    dims.check("scatter_slices", xs[0], indices)
    bodies.check_folding("scatter_slices", attrs["body"], [t.dtype for t in xs])
    if any(t.shape != xs[0].shape for t in xs) or [t.dtype for t in updates] != [
        t.dtype for t in xs
    ]:
        raise CompileError(f"scatter_slices of {show_types(types)}: they do not fit")
    for t in updates:
        sizes = [const(1)] * xs[0].rank
        for d, e in zip(dims.windows, dims.kept(xs[0].rank), strict=True):
            sizes[e] = t.shape[d] if d < t.rank else const(1)
        expected = dims.shape(indices.shape, tuple(sizes))
        if t.rank != len(expected) or not all(map(equal, t.shape, expected)):
            raise CompileError(f"scatter_slices of {show_types(types)}: {t} does not fit")
    return xs


def _scatter_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    xs, indices, updates = _split(ins)
    axes = ctx.axes(updates[0].shape)
    places = Slices.of(attrs).places(
        axes, len(xs[0].shape), len(indices.shape), lambda *at: load(indices, *at)
    )
    idx, inside = list[Expr](), list[Expr]()
    for (start, more), n in zip(places, xs[0].shape, strict=True):
        at = as_index(more) if start is None else simplify(start + more)
        inside += [] if start is None else [le(ZERO, at), lt(at, n)]
        idx.append(at)
    return _scattered(ctx, (xs, updates, outs), axes, tuple(idx), both(*inside), attrs["body"])


Bufs = tuple[tuple[Buf, ...], tuple[Buf, ...], tuple[Buf, ...]]


def _scattered(
    ctx: ComputeContext, bufs: Bufs, axes: Index, idx: Index, inside: Expr, body: Graph
) -> list[Stage]:
    """Copies of what is scattered into, the updates of these, and what is rounded of them: values
    of f16 and bf16 are folded in f32.
    """
    xs, updates, outs = bufs
    known = bodies.names(body)
    replaces = known is not None and set(known) == {bodies.LAST}
    wide = [
        o if replaces or o.dtype == o.dtype.compute else ctx.buf("total", o.shape, o.dtype.compute)
        for o in outs
    ]
    stages = []
    for x, w in zip(xs, wide, strict=True):
        at = ctx.axes(w.shape)
        stages.append(stage(w, at, cast(load(x, *at), w.dtype)))
    values = [cast(load(u, *axes), w.dtype) for u, w in zip(updates, wide, strict=True)]
    if known is None:
        groups: list[tuple[list[Buf], list[Expr], Monoid | None]] = [
            (wide, values, bodies.serial(body))
        ]
    else:
        groups = [
            ([w], [v], None if n == bodies.LAST else bodies.standard(n, w.dtype))
            for n, w, v in zip(known, wide, values, strict=True)
        ]
    for into, given, monoid in groups:
        put = Compute(axes, tuple(given))
        targets = tuple(Access(w, idx) for w in into)
        when = None if inside is TRUE else inside
        stages.append(Stage(ctx.fresh("update"), targets, put, monoid, when, update=True))
    for w, o in zip(wide, outs, strict=True):
        if w is not o:
            at = ctx.axes(o.shape)
            stages.append(stage(o, at, load(w, *at)))
    return stages


def _scatter_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, ...] | Array:
    xs, indices, updates = _split(arrays)
    shape, n = updates[0].shape, xs[0].shape
    places = Slices.of(attrs).places(_grid(shape), len(n), indices.ndim, lambda *at: indices[at])
    idx = [
        np.broadcast_to(more if start is None else start + more, shape).ravel()
        for start, more in places
    ]
    inside = np.ones(updates[0].size, np.bool_)
    for i, size in zip(idx, n, strict=True):
        inside &= (i >= 0) & (i < size)
    idx = [i[inside] for i in idx]
    given = [u.ravel()[inside] for u in updates]
    keys = np.zeros(given[0].shape, np.int64)
    for i, size in zip(idx, n, strict=True):
        keys = keys * size + i
    outs = tuple(x.copy() for x in xs)
    for turn in turns(keys):
        at = tuple(i[turn] for i in idx)
        old = [np.broadcast_to(o[at], turn.shape) for o in outs]
        found = bodies.evaluated(attrs["body"], [*old, *(u[turn] for u in given)])
        for o, f in zip(outs, found, strict=True):
            o[at] = f if at else np.broadcast_to(f, turn.shape)[0]
    return outs if len(outs) > 1 else outs[0]


define(
    "scatter_slices", _scatter_infer, _scatter_meaning, _scatter_compute,
    requires=lambda types, attrs: Slices.of(attrs).requires(types[0], _split(types)[1]),
)  # fmt: skip


def scatter_slices(
    b: GraphBuilder,
    xs: Sequence[Value],
    scatter_indices: Value,
    updates: Sequence[Value],
    body: bodies.Build,
    update_window_dims: Dims,
    inserted_window_dims: Dims,
    input_batching_dims: Dims,
    scatter_indices_batching_dims: Dims,
    scatter_dims_to_operand_dims: Dims,
    index_vector_dim: int,
) -> tuple[Value, ...]:
    """StableHLO's scatter: `xs` with the elements that `scatter_indices` say replaced by
    `body(inner, *old, *updates)`, for one update after another in the order of their indices.
    Elements outside are left out.

    `body` builds the new values from scalars: any function of them. Raises CompileError for dims
    and bodies that do not fit.
    """
    dims = Slices(
        tuple(update_window_dims), tuple(inserted_window_dims), tuple(input_batching_dims),
        tuple(scatter_indices_batching_dims), tuple(scatter_dims_to_operand_dims), index_vector_dim,
    )  # fmt: skip
    kinds = [x.dtype for x in xs]
    graph = bodies.body_graph(b, "scatter_slices", [*kinds, *kinds], body)
    starts = starts_operand("scatter_slices", b, scatter_indices)
    out = b.emit("scatter_slices", *xs, starts, *updates, slices=dims.items, body=graph)
    return out if isinstance(out, tuple) else (out,)


# ---- one slice -----------------------------------------------------------------------------------


def _check_starts(name: str, x: TensorType, starts: tuple[TensorType, ...], sizes: Shape) -> None:
    fits = len(starts) == x.rank == len(sizes) and not any(t.rank for t in starts)
    if not fits or any(map(prove, map(lt, x.shape, sizes))):
        raise CompileError(f"{name} of {x}, {show_types(starts)} and sizes {sizes}: do not fit")


def _starts(starts: Sequence[Buf], sizes: Shape, shape: Shape) -> list[Expr]:
    triples = zip(starts, sizes, shape, strict=True)
    return [clamped(load(start), size, n) for start, size, n in triples]


def _cut(x: Array, starts: Sequence[Array], sizes: Sequence[int]) -> tuple[slice, ...]:
    """The slice as a NumPy index."""
    triples = zip(starts, sizes, x.shape, strict=True)
    first = [int(np.clip(start, 0, n - size)) for start, size, n in triples]
    return tuple(slice(f, f + size) for f, size in zip(first, sizes, strict=True))


def _read_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, *starts = types
    sizes = sizes_of(attrs["sizes"])
    _check_starts("dynamic_slice", x, tuple(starts), sizes)
    return tensor(sizes, x.dtype)


def _read_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, *starts = ins
    axes = ctx.axes(outs[0].shape)
    first = _starts(starts, sizes_of(attrs["sizes"]), x.shape)
    return [stage(outs[0], axes, load(x, *(simplify(f + a) for f, a in zip(first, axes))))]


define(
    "dynamic_slice", _read_infer,
    lambda arrays, attrs: arrays[0][_cut(arrays[0], arrays[1:], attrs["sizes"])],
    _read_compute,
    requires=lambda types, attrs: map(le, sizes_of(attrs["sizes"]), types[0].shape),
)  # fmt: skip


def dynamic_slice(
    b: GraphBuilder, x: Value, starts: Sequence[Value], sizes: Sequence[Size]
) -> Value:
    """The slice of `x` of `sizes` that begins at `starts`, a scalar for each dim, moved where it
    would not lie within x.
    """
    given = [starts_operand("dynamic_slice", b, s) for s in starts]
    out: Value = b.emit("dynamic_slice", x, *given, sizes=sizes_of(sizes))
    return out


def _write_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, update, *starts = types
    if x.dtype != update.dtype:
        raise CompileError(f"dynamic_update_slice of {show_types(types)}: dtypes differ")
    _check_starts("dynamic_update_slice", x, tuple(starts), update.shape)
    return x


def _write_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, update, *starts = ins
    if attrs.get("in_place"):
        whole, within = ctx.axes(x.shape), ctx.axes(update.shape)
        first = _starts(starts, update.shape, x.shape)
        place = tuple(simplify(f + a) for f, a in zip(first, within, strict=True))
        put = Compute(within, (load(update, *within),))
        written = Stage(ctx.fresh("update"), (Access(outs[0], place),), put, update=True)
        return [stage(outs[0], whole, load(x, *whole)), written]
    axes = ctx.axes(outs[0].shape)
    inside, own = list[Expr](), list[Expr]()
    for a, f, size, n in zip(
        axes, _starts(starts, update.shape, x.shape), update.shape, x.shape, strict=True
    ):
        at = simplify(a - f)
        inside += [] if equal(size, n) else [le(ZERO, at), lt(at, size)]
        own.append(at)
    return [stage(outs[0], axes, select(both(*inside), load(update, *own), load(x, *axes)))]


def _write_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, update, *starts = arrays
    out = x.copy()
    out[_cut(x, starts, update.shape)] = update
    return out


define(
    "dynamic_update_slice", _write_infer, _write_meaning, _write_compute,
    requires=lambda types, attrs: map(le, types[1].shape, types[0].shape),
)  # fmt: skip


def dynamic_update_slice(
    b: GraphBuilder, x: Value, update: Value, starts: Sequence[Value]
) -> Value:
    """`x` with `update` in place of the slice that begins at `starts`, a scalar for each dim, moved
    where it would not lie within x. A pass sets the attribute `in_place`: then the slice is written
    into a copy, which is the faster where the copy can be left out.
    """
    given = [starts_operand("dynamic_update_slice", b, s) for s in starts]
    out: Value = b.emit("dynamic_update_slice", x, update, *given)
    return out
