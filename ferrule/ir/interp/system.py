"""The meaning of Compute: stages evaluated over all their points at once, in blocks of bounded
size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.errors import VerifyError
from ferrule.ir.expr import Expr, both
from ferrule.ir.interp.dims import Arrays, infer_dims, named_arrays, shape_of
from ferrule.ir.interp.expr import Env, eval_expr, eval_index, eval_int
from ferrule.ir.interp.memory import Memory
from ferrule.ir.interp.order import permutation
from ferrule.ir.interp.scalar import held
from ferrule.ir.system import Compute, Monoid, Reduce, Scan, Sort, Stage, System

Array = NDArray[Any]
Tuple = tuple[Array, ...]
Range = tuple[int, int]
_BLOCK = 1 << 21  # points evaluated at once


def run_system(
    system: System, arrays: Arrays, dims: Mapping[str, int] | None = None
) -> list[Array]:
    """The outputs of `system`, in storage form (uint16 for bf16).

    `arrays` are the inputs and params, by name or in that order; dims follow from their shapes and
    from `dims`. Raises InputError for arrays that do not fit, RunIndexError for an index out of
    range.
    """
    bufs = (*system.inputs, *system.params)
    given = named_arrays(bufs, arrays)
    values = infer_dims(bufs, given, dims)
    memory = Memory({name: a.copy() for name, a in given.items()})
    env = Env(values, {}, memory)
    for st in system.stages:
        for b in st.writes:
            if b.name not in memory.arrays:
                memory.allocate(b, shape_of(b, values))
        run_stage(st, env)
    return [memory.array(b) for b in system.outputs]


def run_stage(st: Stage, env: Env) -> None:
    """Runs one stage at the values of the enclosing axes that `env` holds."""
    pending = []  # a stage reads everything before it writes
    for point, result in _results(st, env):
        pending.append(_writes(st, point, result))
    for writes in pending:
        _store(st, env, *writes)


# ---- values --------------------------------------------------------------------------------------


def _results(st: Stage, env: Env) -> Iterator[tuple[Env, Tuple]]:
    """Blocks of points of the result, with the values there."""
    c = st.compute
    guard = both(*(g for g in (st.when, c.where) if g is not None))
    sizes = [eval_int(a.extent, env) for a in c.all_axes]
    if any(n < 0 for n in sizes):
        raise VerifyError(f"an axis of {st.name} has a negative extent")
    free = len(c.axes)
    ordered = c.fold if isinstance(c.fold, (Scan, Sort)) else None
    inner = sizes[free:] if isinstance(c.fold, Reduce) else []
    room = max(1, _BLOCK // max(1, int(np.prod(inner)), *(sizes[free:] if ordered else [1])))
    for block in _blocks(sizes[:free], room):
        if ordered is not None:
            start = env.bind(_positions(c.axes, block, len(sizes)))
            point = env.bind(_positions(c.all_axes, [*block, (0, sizes[-1])], len(sizes)))
            if isinstance(ordered, Scan):
                yield point, _scan(c, ordered, start, point, sizes)
            else:
                yield point, _sorted(c, ordered, point)
        elif isinstance(c.fold, Reduce):
            yield env.bind(_positions(c.axes, block, free)), _reduce(c, c.fold, env, block, inner)
        else:
            point = env.bind(_positions(c.axes, block, free))
            mask = eval_expr(guard, point)
            yield point, tuple(eval_expr(v, point, mask) for v in c.values)


def _blocks(sizes: list[int], limit: int) -> Iterator[list[Range]]:
    """Boxes of at most `limit` points that cover `sizes`, in lexicographic order of points."""
    steps = [1] * len(sizes)
    for k in reversed(range(len(sizes))):
        steps[k] = max(1, min(sizes[k], limit))
        limit //= steps[k]
    starts = [range(0, n, s) for n, s in zip(sizes, steps, strict=True)]
    for low in product(*starts):
        yield [(lo, min(lo + s, n)) for lo, s, n in zip(low, steps, sizes, strict=True)]


def _positions(
    axes: tuple[Expr, ...], block: list[Range], rank: int, first: int = 0
) -> dict[Expr, Array]:
    """Each axis's values in the block, laid along a dimension of its own from dimension `first` of
    `rank`.
    """
    out = {}
    for k, (a, (lo, hi)) in enumerate(zip(axes, block, strict=True), first):
        out[a] = np.arange(lo, hi).reshape([-1 if d == k else 1 for d in range(rank)])
    return out


def _extent(block: list[Range]) -> tuple[int, ...]:
    return tuple(hi - lo for lo, hi in block)


def _reduce(c: Compute, fold: Reduce, env: Env, block: list[Range], inner: list[int]) -> Tuple:
    """The fold at each point of `block`."""
    free, rank = len(block), len(block) + len(inner)
    outer = env.bind(_positions(c.axes, block, free))
    total = _start(fold, outer, _extent(block))
    spread = _positions(c.axes, block, rank)
    for part in _blocks(inner, max(1, _BLOCK // max(1, int(np.prod(_extent(block)))))):
        at = env.bind({**spread, **_positions(fold.axes, part, rank, free)})
        shape = _extent([*block, *part])
        values = _contributions(c, fold.monoid, at, shape)
        flat = tuple(v.reshape(*_extent(block), -1) for v in values)
        total = combine(fold.monoid, total, fold_last(fold.monoid, flat))
    return total


def _scan(c: Compute, fold: Scan, start: Env, at: Env, sizes: list[int]) -> Tuple:
    """The running fold; its last dimension is the scanned axis."""
    shape = np.broadcast_shapes(*(np.shape(at.axes[a]) for a in c.all_axes))
    values = _contributions(c, fold.monoid, at, shape)
    total = _start(fold, start, (*shape[:-1], 1))
    out = tuple(np.zeros(shape, v.dtype) for v in values)
    order = range(sizes[-1])
    for k in reversed(order) if fold.reverse else order:
        updated = combine(fold.monoid, total, tuple(v[..., k : k + 1] for v in values))
        for o, t in zip(out, total if fold.exclusive else updated, strict=True):
            o[..., k : k + 1] = t
        total = updated
    return out


def _sorted(c: Compute, fold: Sort, at: Env) -> Tuple:
    """The values in order; their last dimension is the axis."""
    shape = np.broadcast_shapes(*(np.shape(at.axes[a]) for a in c.all_axes))
    values = tuple(np.broadcast_to(eval_expr(v, at), shape) for v in c.values)
    place = permutation(fold.order, values)
    return tuple(np.take_along_axis(v, place, -1) for v in values)


def _start(fold: Reduce | Scan, env: Env, shape: tuple[int, ...]) -> Tuple:
    initial = fold.monoid.identity if fold.init is None else fold.init
    return tuple(np.broadcast_to(eval_expr(v, env), shape) for v in initial)


def _contributions(c: Compute, monoid: Monoid, at: Env, shape: tuple[int, ...]) -> Tuple:
    """What each point adds to the fold: its values, or the identity where the guard is false."""
    if c.where is None:
        return tuple(np.broadcast_to(eval_expr(v, at), shape) for v in c.values)
    mask = eval_expr(c.where, at)
    if not np.any(mask):
        return identity(monoid, shape)
    return tuple(
        np.broadcast_to(np.where(mask, eval_expr(v, at, mask), i), shape)
        for v, i in zip(c.values, identity(monoid, ()), strict=True)
    )


# ---- monoids -------------------------------------------------------------------------------------


def identity(monoid: Monoid, shape: tuple[int, ...]) -> Tuple:
    """The neutral tuple at each place of `shape`."""
    return tuple(np.broadcast_to(eval_expr(i, Env()), shape) for i in monoid.identity)


def combine(monoid: Monoid, a: Tuple, b: Tuple) -> Tuple:
    """`a` and then `b`, element by element."""
    env = Env(args=(*a, *b))
    shape = np.broadcast_shapes(*(x.shape for x in (*a, *b)))
    return tuple(np.broadcast_to(eval_expr(e, env), shape) for e in monoid.combine)


def fold_last(monoid: Monoid, values: Tuple) -> Tuple:
    """The fold along the last dimension, as a balanced tree that keeps the order."""
    if values[0].shape[-1] == 0:
        return identity(monoid, values[0].shape[:-1])
    while values[0].shape[-1] > 1:
        n = values[0].shape[-1]
        even = n - n % 2
        pairs = combine(
            monoid, tuple(v[..., 0:even:2] for v in values), tuple(v[..., 1:even:2] for v in values)
        )
        values = tuple(
            np.concatenate((p, v[..., even:]), axis=-1) for p, v in zip(pairs, values, strict=True)
        )
    return tuple(v[..., 0] for v in values)


def fold_equal(monoid: Monoid, keys: Array, values: Tuple) -> tuple[Array, Tuple]:
    """Values with equal keys folded together, in order: the distinct keys and their folds."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], tuple(v[order] for v in values)
    while True:
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if keys.size else keys
        if starts.size == keys.size:
            return keys, values
        rank = np.arange(keys.size) - np.repeat(starts, np.diff(np.r_[starts, keys.size]))
        left = np.flatnonzero((rank[:-1] % 2 == 0) & (keys[1:] == keys[:-1]))
        joined = combine(monoid, tuple(v[left] for v in values), tuple(v[left + 1] for v in values))
        values = tuple(v.copy() for v in values)
        for v, j in zip(values, joined, strict=True):
            v[left] = j
        keep = np.ones(keys.size, np.bool_)
        keep[left + 1] = False
        keys, values = keys[keep], tuple(v[keep] for v in values)


def turns(keys: Array) -> Iterator[Array]:
    """The places in `keys` of the first of equal ones each, in order of the keys, then of the
    second, and so on.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: keys.size])
    counts = np.diff(np.r_[starts, keys.size])
    rank = np.arange(keys.size) - np.repeat(starts, counts)
    for k in range(int(counts.max(initial=0))):
        yield order[rank == k]


# ---- writing -------------------------------------------------------------------------------------

Places = list[tuple[Array, ...]]


def _writes(st: Stage, at: Env, values: Tuple) -> tuple[Places, Tuple]:
    """The places of each target and the values for them, flat and in axis order, where the stage
    writes.
    """
    c = st.compute
    guards = (st.when,) if c.fold is not None else (st.when, c.where)
    mask = eval_expr(both(*(g for g in guards if g is not None)), at)
    return flatten(st.targets, at, values, mask)


def flatten(targets: tuple[Any, ...], at: Env, values: Tuple, mask: Array) -> tuple[Places, Tuple]:
    """Target indices and values at the points of `at` where `mask` holds, as flat arrays."""
    index = [tuple(np.asarray(eval_index(i, at, mask)) for i in idx) for _, idx in targets]
    points = [np.shape(x) for x in at.axes.values()]
    shape = np.broadcast_shapes(
        *points, np.shape(mask), *(v.shape for v in values), *(i.shape for x in index for i in x)
    )
    chosen = None if mask.all() else np.broadcast_to(mask, shape)

    def flat(x: Array) -> Array:
        x = x if x.shape == shape else np.broadcast_to(x, shape)
        return x.reshape(-1) if chosen is None else x[chosen]

    return [tuple(map(flat, idx)) for idx in index], tuple(map(flat, values))


def _store(st: Stage, env: Env, places: Places, values: Tuple) -> None:
    if st.combine is not None:
        merge(st.combine, st.targets, env.memory, places, values)
        return
    for (buf, _), idx, value in zip(st.targets, places, values, strict=True):
        env.memory.write(buf, idx, value)


def merge(
    monoid: Monoid, targets: tuple[Any, ...], memory: Memory, places: Places, values: Tuple
) -> None:
    """Folds flat `values` into what the targets, all at one index, hold, in order. A commutative
    monoid folds values for one place together first.
    """
    bufs = [b for b, _ in targets]
    if values[0].size == 0:
        return
    shape, idx, folded = memory.array(bufs[0]).shape, places[0], values
    keys = np.zeros(values[0].shape, np.int64)
    for i, n in zip(idx, shape, strict=True):
        keys = keys * n + i
    if not (keys[1:] > keys[:-1]).all():
        memory.read(bufs[0], idx, None)  # keys tell places apart only inside the bounds
        if not monoid.commutative:
            for turn in turns(keys):
                at = tuple(i[turn] for i in idx)
                merge(monoid, targets, memory, [at] * len(bufs), tuple(v[turn] for v in values))
            return
        keys, folded = fold_equal(monoid, keys, values)
        idx = np.unravel_index(keys, shape) if shape else ()
    old = tuple(memory.read(b, idx, None) for b in bufs)
    if not shape:
        folded = tuple(f[0] for f in folded)
    for b, v in zip(bufs, combine(monoid, old, folded), strict=True):
        memory.write(b, idx, v.astype(held(b.dtype), copy=False))
