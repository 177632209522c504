"""Stages: an equation of index notation as StableHLO operations.

    values    at the points of their axes (`points.py`)
    fold      reduce, or dot_general for the sum of a product; reduce_window, or steps of doubled
              width, for a scan; sort
    targets   the tensor as it is, a slice of it updated, or a scatter

So whatever has equations has a StableHLO form: this is the meaning that each operator falls back
on. Runs that fail (an index out of range, an integer divided by 0) do not fail there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ferrule.base.dtype import DType, boolean, i64
from ferrule.codegen.stablehlo import loads, scalars
from ferrule.codegen.stablehlo.loads import Affine, Axes, Field, extent
from ferrule.codegen.stablehlo.points import Points
from ferrule.codegen.stablehlo.writer import Shape, Tensor, Writer, array, ints
from ferrule.ir.expr import Buf, Expr, axis, both, const, select, walk
from ferrule.ir.expr import loads as loads_of
from ferrule.ir.monoids import EXACT_SUM, SUM
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Access, Monoid, Reduce, Scan, Sort, Stage

Bufs = dict[Buf, Tensor]


def sizes(shape: Sequence[Expr]) -> Shape:
    """A shape whose sizes are numbers."""
    return tuple(int(simplify(n).attr) for n in shape)


def write_stage(w: Writer, st: Stage, bufs: Bufs) -> None:
    """Write `st`, and put what it defines in `bufs`. Raises CompileError and UnsupportedError for
    what StableHLO lacks.
    """
    c, fold = st.compute, st.compute.fold
    points = Points(w, _order(st), bufs)
    guard = st.when
    if fold is None:
        guards = [g for g in (st.when, c.where) if g is not None]
        guard = both(*guards) if guards else None
        fields = [points.value(v) for v in c.values]
    else:
        fields = _folded(w, st, points)
    left = c.axes if isinstance(fold, Reduce) else c.all_axes
    axes = tuple(a for a in points.order if a in left)
    where = None if guard is None else points.value(guard)
    if st.combine is not None:
        _merge(w, st, points, fields, axes, where)
        return
    made = [
        _stored(w, to, points, field, axes, where)
        for to, field in zip(st.targets, fields, strict=True)
    ]
    for to, x in zip(st.targets, made, strict=True):
        bufs[to.buf] = x


def _order(st: Stage) -> Axes:
    """The order of a stage's axes as dims: where the order of its points does not matter, that in
    which the load with most of them has them, so that it needs no transpose.
    """
    axes = st.compute.all_axes
    if st.compute.fold is None or st.combine is not None:
        return axes
    read = [ld for v in st.compute.values for ld in loads_of(v)]
    bare = [tuple(i for i in ld.args if i in axes) for ld in read]
    first = dict.fromkeys(sorted(bare, key=len)[-1] if bare else ())
    return (*first, *(a for a in axes if a not in first))


# ---- folds ---------------------------------------------------------------------------------------


def _folded(w: Writer, st: Stage, points: Points) -> list[Field]:
    fold = st.compute.fold
    if isinstance(fold, Reduce):
        return _reduced(w, st, points)
    return _scanned(w, st, points) if isinstance(fold, Scan) else _sorted(w, st, points)


def _reduced(w: Writer, st: Stage, points: Points) -> list[Field]:
    fold = st.compute.fold
    assert isinstance(fold, Reduce)
    found = _product(w, st, points)
    if found is None:
        given = _contributions(w, st, points, fold.monoid)
        fields = loads.together(w, given, points.order, fold.axes)
        axes = fields[0].axes
        dims = [axes.index(a) for a in fold.axes]
        kept = tuple(a for a in axes if a not in fold.axes)
        results = reduce(w, fold.monoid, [f.tensor for f in fields], dims)
        found = [Field(x, kept) for x in results]
    return _from_start(w, fold, points, found)


def _from_start(
    w: Writer, fold: Reduce | Scan, points: Points, found: list[Field]
) -> list[Field]:
    """The fold that begins with `init`, where it has one."""
    if fold.init is None:
        return found
    both_sides = loads.together(w, [*map(points.value, fold.init), *found], points.order)
    results = combined(w, fold.monoid, [f.tensor for f in both_sides])
    return [Field(x, both_sides[0].axes) for x in results]


def _contributions(w: Writer, st: Stage, points: Points, monoid: Monoid) -> list[Field]:
    """What each point adds to a fold: its values, the identity where `where` is false."""
    c = st.compute
    if c.where is None:
        return [points.value(v) for v in c.values]
    values = zip(c.values, monoid.identity, strict=True)
    return [points.value(select(c.where, v, i)) for v, i in values]


def combined(w: Writer, monoid: Monoid, values: Sequence[Tensor]) -> list[Tensor]:
    """The old and the new values folded, element by element."""
    return _elements(w, monoid.combine, values)


def _elements(w: Writer, exprs: Sequence[Expr], values: Sequence[Tensor]) -> list[Tensor]:
    shape = values[0].shape
    order = tuple(axis(f"dim{k}", n) for k, n in enumerate(shape))
    at = Points(w, order, {}, tuple(values))
    return [at.at(e, order) for e in exprs]


def body(w: Writer, monoid: Monoid) -> list[str]:
    """The region that folds: old values, then new ones."""
    types = [((), i.dtype) for i in monoid.identity]
    return w.block([*types, *types], lambda args: combined(w, monoid, args))


def reduce(
    w: Writer, monoid: Monoid, values: Sequence[Tensor], dims: Sequence[int]
) -> tuple[Tensor, ...]:
    """`values`, of one shape, folded over `dims`."""
    starts = [w.number(i.attr, i.dtype) for i in monoid.identity]
    shape = tuple(n for d, n in enumerate(values[0].shape) if d not in dims)
    lines = body(w, monoid)
    return w.with_regions(
        "reduce", [*values, *starts], f"dimensions = {array(dims)}", [lines],
        [(shape, v.dtype) for v in values],
    )  # fmt: skip


def _product(w: Writer, st: Stage, points: Points) -> list[Field] | None:
    """The sum of a product as dot_general, where each factor has axes that the other lacks."""
    c, fold = st.compute, st.compute.fold
    assert isinstance(fold, Reduce)
    value = c.values[0]
    if fold.monoid not in (SUM(value.dtype), EXACT_SUM(value.dtype)) or value.op != "mul":
        return None
    x, y = value.args
    if value.dtype.is_bool or not x.axes - y.axes or not y.axes - x.axes:
        return None
    if not all(a in x.axes and a in y.axes for a in fold.axes):
        return None
    if c.where is not None:
        zero = const(0, value.dtype)
        if c.where.axes <= x.axes:
            x = select(c.where, x, zero)
        elif c.where.axes <= y.axes:
            y = select(c.where, y, zero)
        else:
            return None
    left, right = points.value(x), points.value(y)
    if not all(a in left.axes and a in right.axes for a in fold.axes):
        return None
    return [dot(w, left, right, fold.axes, points.order)]


def dot(w: Writer, x: Field, y: Field, over: Axes, order: Axes) -> Field:
    """The sum of x * y over the axes `over`, which both have."""
    shared = tuple(a for a in x.axes if a in y.axes and a not in over)
    pairs = [[[f.axes.index(a) for a in axes] for f in (x, y)] for axes in (shared, over)]
    free = [[a for a in f.axes if a not in shared and a not in over] for f in (x, y)]
    axes = (*shared, *free[0], *free[1])
    shape = tuple(map(extent, axes))
    out = dot_general(w, x.tensor, y.tensor, pairs[0], pairs[1], shape)
    return loads.ordered(w, Field(out, axes), order)


def dot_general(
    w: Writer, x: Tensor, y: Tensor, batch: Sequence[Sequence[int]],
    contract: Sequence[Sequence[int]], shape: Shape,
) -> Tensor:  # fmt: skip
    """`stablehlo.dot_general` in the dtype of its operands."""
    text = f"stablehlo.dot_general {x.name}, {y.name}"
    if batch[0]:
        text += f", batching_dims = {ints(batch[0])} x {ints(batch[1])}"
    text += f", contracting_dims = {ints(contract[0])} x {ints(contract[1])}"
    result = Tensor("", shape, x.dtype)
    return w.op(f"{text} : ({x.type}, {y.type}) -> {result.type}", shape, x.dtype)


def _scanned(w: Writer, st: Stage, points: Points) -> list[Field]:
    fold = st.compute.fold
    assert isinstance(fold, Scan)
    given = _contributions(w, st, points, fold.monoid)
    fields = loads.together(w, given, points.order, (fold.axis,))
    axes = fields[0].axes
    d, n = axes.index(fold.axis), extent(fold.axis)
    xs = [f.tensor for f in fields]
    if len(xs) == 1 and n:
        xs = [_running(w, fold, xs[0], d)]
    else:
        xs = _doubled(w, fold, xs, d)
    if fold.exclusive:
        step = -1 if fold.reverse else 1
        xs = [_moved(w, x, i, d, step) for x, i in zip(xs, fold.monoid.identity, strict=True)]
    return _from_start(w, fold, points, [Field(x, axes) for x in xs])


def _running(w: Writer, fold: Scan, x: Tensor, d: int) -> Tensor:
    """The inclusive scan of one value: windows that reach to the border."""
    start = fold.monoid.identity[0]
    n, rank = x.shape[d], x.rank
    window = [n if e == d else 1 for e in range(rank)]
    reach = [0, n - 1] if fold.reverse else [n - 1, 0]
    pads = [f"[{reach[0]}, {reach[1]}]" if e == d else "[0, 0]" for e in range(rank)]
    (out,) = w.with_regions(
        "reduce_window", [x, w.number(start.attr, start.dtype)],
        f"padding = dense<[{', '.join(pads)}]> : tensor<{rank}x2xi64>, "
        f"window_dimensions = {array(window)}, window_strides = {array([1] * rank)}",
        [body(w, fold.monoid)], [(x.shape, x.dtype)],
    )  # fmt: skip
    return out


def _doubled(w: Writer, fold: Scan, xs: list[Tensor], d: int) -> list[Tensor]:
    """The inclusive scan of several values: each is folded with that 1, 2, 4, .. before it."""
    step = 1
    while step < xs[0].shape[d]:
        by = -step if fold.reverse else step
        pairs = zip(xs, fold.monoid.identity, strict=True)
        before = [_moved(w, x, i, d, by) for x, i in pairs]
        xs = combined(w, fold.monoid, [*before, *xs])
        step *= 2
    return xs


def _moved(w: Writer, x: Tensor, identity: Expr, d: int, by: int) -> Tensor:
    """`x` moved along dim `d`, what comes in being the identity."""
    if not x.shape[d]:
        return x
    low = [by if e == d else 0 for e in range(x.rank)]
    return w.pad(x, w.number(identity.attr, x.dtype), low, [-n for n in low])


def _sorted(w: Writer, st: Stage, points: Points) -> list[Field]:
    c, fold = st.compute, st.compute.fold
    assert isinstance(fold, Sort)
    fields = loads.together(w, [points.value(v) for v in c.values], points.order, (fold.axis,))
    axes = fields[0].axes
    n = len(fields)

    def before(args: Sequence[Tensor]) -> Sequence[Tensor]:
        return _elements(w, [fold.order.before], [*args[0::2], *args[1::2]])

    dtypes = [f.tensor.dtype for f in fields]
    lines = w.block([((), t) for t in dtypes for _ in (0, 1)], before)
    out = w.with_regions(
        "sort", [f.tensor for f in fields],
        f"dimension = {axes.index(fold.axis)} : i64, is_stable = true", [lines],
        [(f.tensor.shape, f.tensor.dtype) for f in fields],
    )  # fmt: skip
    return [Field(out[k], axes) for k in range(n)]


# ---- targets -------------------------------------------------------------------------------------


def _base(w: Writer, buf: Buf, bufs: Bufs) -> Tensor:
    """What a buffer holds, zeros where nothing was stored yet."""
    found = bufs.get(buf)
    return w.number(0, buf.dtype, sizes(buf.shape)) if found is None else found


def _stored(
    w: Writer, to: Access, points: Points, field: Field, axes: Axes, where: Field | None
) -> Tensor:
    """The target with the values of `field` in it."""
    bufs = points.bufs
    shape = sizes(to.buf.shape)
    if field.tensor.dtype != to.buf.dtype:
        field = Field(scalars.cast(w, field.tensor, to.buf.dtype), field.axes)
    index = [simplify(loads.unbounded(i)) for i in to.idx]
    place = _box(index, axes, shape, where is not None)
    if place is None:
        return _scatter(w, [to.buf], [field], index, points, axes, where, None)[0]
    value = _boxed(w, field, place, axes, shape)
    steps = [p.steps[0] if p.axes else 1 for p in place]
    if value.shape == shape and where is None:
        return value
    base = _base(w, to.buf, bufs)
    inside = None if where is None else _boxed(w, where, place, axes, shape)
    if all(s == 1 for s in steps):
        starts = [p.start for p in place]
        if inside is not None:
            stops = [a + n for a, n in zip(starts, value.shape, strict=True)]
            value = w.select(inside, value, w.slice(base, starts, stops, steps))
        if 0 in value.shape:
            return base
        return w.dynamic_update_slice(base, value, [w.number(a, i64) for a in starts])
    if inside is None:
        inside = w.number(True, boolean, value.shape)
    amounts = _spread_amounts(place, value.shape, shape)
    outer = w.pad(value, w.number(0, value.dtype), *amounts)
    chosen = w.pad(inside, w.number(False, inside.dtype), *amounts)
    return w.select(chosen, outer, base)


def _spread_amounts(
    place: Sequence[Affine], small: Shape, shape: Shape
) -> tuple[list[int], list[int], list[int]]:
    """How elements are padded that lie at every step of a larger tensor."""
    low, high, between = list[int](), list[int](), list[int]()
    for p, n, size in zip(place, small, shape, strict=True):
        step = p.steps[0] if p.axes else 1
        low.append(p.start)
        between.append(step - 1)
        high.append(size - p.start - (step * (n - 1) + 1 if n else 0))
    return low, high, between


def _box(
    index: Sequence[Expr], axes: Axes, shape: Shape, guarded: bool
) -> list[Affine] | None:
    """The place in each dim, where the target is a box that the axes step through; one that is
    `guarded` may reach beyond the target.
    """
    place = list[Affine]()
    for i in index:
        at = affine_step(i)
        if at is None:
            return None
        place.append(at)
    used = [a for p in place for a in p.axes]
    if len(set(used)) != len(used) or any(a not in used and extent(a) != 1 for a in axes):
        return None
    for p, n in zip(place, shape, strict=True):
        count = extent(p.axes[0]) if p.axes else 1
        last = p.start + (count - 1) * (p.steps[0] if p.axes else 1)
        if count and not (p.start >= 0 and (last < n or (guarded and p.start < n))):
            return None
    return place


def affine_step(index: Expr) -> Affine | None:
    """`index` as a number and perhaps an axis times a step above 0."""
    at = loads.affine(index)
    if at is None or len(at.axes) > 1 or any(s < 1 for s in at.steps):
        return None
    return at


def _boxed(
    w: Writer, f: Field, place: Sequence[Affine], axes: Axes, shape: Shape
) -> Tensor:
    """`f` with a dim for each dim of the target, as far as it lies within."""
    whole = Field(loads.spread(w, f, axes), axes)
    order = [a for p in place for a in p.axes]
    order += [a for a in axes if a not in order]  # of one place
    x = w.transpose(whole.tensor, [axes.index(a) for a in order])
    x = w.reshape(x, tuple(extent(p.axes[0]) if p.axes else 1 for p in place))
    rooms = [(n - p.start - 1) // p.steps[0] + 1 if p.axes else 1 for p, n in zip(place, shape)]
    stops = [min(n, room) for n, room in zip(x.shape, rooms, strict=True)]
    return w.slice(x, [0] * x.rank, stops, [1] * x.rank)


def _merge(
    w: Writer, st: Stage, points: Points, fields: list[Field], axes: Axes, where: Field | None
) -> None:
    """Fold the values into what the targets hold, in the dtype that is folded in."""
    assert st.combine is not None
    bufs = points.bufs
    index = [simplify(loads.unbounded(i)) for i in st.target.idx]
    targets = [to.buf for to in st.targets]
    made = _scatter(w, targets, fields, index, points, axes, where, st.combine)
    for buf, x in zip(targets, made, strict=True):
        bufs[buf] = x


def _scatter(
    w: Writer, targets: Sequence[Buf], fields: Sequence[Field], index: Sequence[Expr],
    points: Points, axes: Axes, where: Field | None, monoid: Monoid | None,
) -> list[Tensor]:  # fmt: skip
    """The targets with the values scattered into them, in the order of the axes. An index that is
    out of range stores nothing.
    """
    bufs = points.bufs
    dtypes = [b.dtype for b in targets] if monoid is None else [i.dtype for i in monoid.identity]
    bases = zip(targets, dtypes, strict=True)
    held = [scalars.cast(w, _base(w, b, bufs), t) for b, t in bases]
    updates = [_converted(w, f, t) for f, t in zip(fields, dtypes, strict=True)]
    shape = held[0].shape
    if not shape:
        held, index = [w.reshape(x, (1,)) for x in held], [const(0)]
    windows = {} if not shape else _windows(index, axes, shape, where)
    dims = [d for d in range(len(index)) if d not in windows]
    if not dims:
        dims = [min(windows)]
        del windows[dims[0]]
    lead = tuple(a for a in axes if a not in windows.values())
    found = [points.value(index[d]) for d in dims]
    if where is not None:
        nowhere = Field(w.number(-1, i64), ())
        inside, at, none = loads.together(w, [where, found[0], nowhere], axes)
        found[0] = Field(w.select(inside.tensor, at.tensor, none.tensor), inside.axes)
    starts = loads.index_vectors(w, found, lead)
    order = (*lead, *windows.values())
    given = [
        w.transpose(loads.spread(w, f, axes), [axes.index(a) for a in order]) for f in updates
    ]
    numbers = (
        f"update_window_dims = {ints(range(len(lead), len(order)))}, "
        f"inserted_window_dims = {ints(dims)}, scatter_dims_to_operand_dims = {ints(dims)}, "
        f"index_vector_dim = {len(lead)}"
    )
    types = [((), t) for t in dtypes]

    def last(args: Sequence[Tensor]) -> Sequence[Tensor]:
        return args[len(types) :]

    lines = w.block([*types, *types], last) if monoid is None else body(w, monoid)
    out = w.with_regions(
        "scatter", [*held, starts, *given],
        f"indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<{numbers}>, "
        "unique_indices = false", [lines], [(x.shape, x.dtype) for x in held],
    )  # fmt: skip
    pairs = zip(out, targets, strict=True)
    return [scalars.cast(w, w.reshape(x, shape), b.dtype) for x, b in pairs]


def _converted(w: Writer, f: Field, dtype: DType) -> Field:
    return Field(scalars.cast(w, f.tensor, dtype), f.axes)


def _windows(
    index: Sequence[Expr], axes: Axes, shape: Shape, where: Field | None
) -> dict[int, Expr]:
    """The dims of a target that are written whole at each of the other points, with their axes."""
    guarded = frozenset(where.axes) if where is not None else frozenset()
    found = dict[int, Expr]()
    for d, i in enumerate(index):
        alone = all(i not in _axes(other) for e, other in enumerate(index) if e != d)
        if i.op == "axis" and i in axes and i not in guarded and alone and extent(i) == shape[d]:
            found[d] = i
    return found


def _axes(e: Expr) -> set[Expr]:
    return {n for n in walk(e) if n.op == "axis"}
