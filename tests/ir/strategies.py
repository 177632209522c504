"""Random expressions and systems, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from ferrule.base.dtype import ALL, FLOATS, INTEGERS, boolean, f32, i32, i64, u8
from ferrule.base.errors import FAULTS
from ferrule.ir.expr import (
    Buf,
    arg,
    axis,
    bitcast,
    bounded,
    call,
    cast,
    checked,
    compare,
    const,
    dim,
    load,
    select,
)
from ferrule.ir.monoids import STANDARD
from ferrule.ir.operators import COMPARISONS, OPERATORS
from ferrule.ir.system import Access, Compute, Monoid, Order, Reduce, Scan, Sort, Stage, System

NAMES = ["x", "weight.0", "layer.1.b", "input:0", "for", "nan", "cast", 'quo"te', "lambda", "ü"]
DIMS = (dim("n"), dim("S", 1, 512, 8), dim("where", 2), dim("seq len", 0, 7))
AXES = (axis("i", 8), axis("j", DIMS[0]), axis("k.o", DIMS[1] // 8), axis("in", 3))
BUFS = tuple(
    Buf(name, shape, dtype)
    for dtype in ALL
    for name, shape in (
        (f"a_{dtype.name}", ()),
        (f"in:{dtype.name}", (DIMS[0],)),
        (f"m.{dtype.name}", (const(4), DIMS[1] * 2)),
    )
)
_TYPED_BUFS = {d: [b for b in BUFS if b.dtype == d] for d in ALL}
_ON_FLOATS = sorted(
    n for n, op in OPERATORS.items() if op.floats and op.result is None and n != "fma"
)
_ON_INTS = ["add", "sub", "mul", "floordiv", "mod", "min", "max", "and", "xor", "shl", "shr", "neg"]


def literals(dtype):
    """Constants of a dtype, special values included."""
    if dtype.is_float:
        width = 32 if dtype.bits == 16 else dtype.bits
        return st.floats(width=width).map(lambda v: const(v, dtype))
    if dtype.is_bool:
        return st.booleans().map(lambda v: const(v, boolean))
    return st.integers(dtype.min, dtype.max).map(lambda v: const(v, dtype))


@st.composite
def exprs(draw, dtype=None, depth=4, axes=AXES, bufs=_TYPED_BUFS):
    """An expression over DIMS, `axes` and `bufs`."""
    dtype = draw(st.sampled_from(ALL)) if dtype is None else dtype
    again = lambda d=dtype: draw(exprs(d, depth - 1, axes, bufs))  # noqa: E731
    how = draw(st.integers(0, 9)) if depth else 0
    if how <= 1:
        leaves = [literals(dtype)]
        if dtype == i64:
            leaves.append(st.sampled_from((*axes, *DIMS)))
        return draw(st.one_of(leaves))
    if how == 2 and bufs[dtype]:
        b = draw(st.sampled_from(bufs[dtype]))
        return load(b, *(again(i64) for _ in b.shape))
    if how == 3:
        if draw(st.booleans()):
            return checked(again(), again(boolean), draw(st.sampled_from(sorted(FAULTS))))
        return select(again(boolean), again(), again())
    if how == 4:
        source = draw(st.sampled_from(ALL))
        same = source.bits == dtype.bits and draw(st.booleans())
        return (bitcast if same else cast)(again(source), dtype)
    if dtype.is_float:
        op = draw(st.sampled_from(_ON_FLOATS))
        return call(op, *(again() for _ in range(OPERATORS[op].arity)))
    if dtype.is_bool:
        if how < 8:
            source = draw(st.sampled_from((f32, i64)))
            op = draw(st.sampled_from(sorted(COMPARISONS)))
            return compare(op, again(source), again(source))
        return call(draw(st.sampled_from(["and", "or", "xor"])), again(), again())
    if dtype == i64 and how == 5:
        return bounded(again(), again())
    if dtype == i32 and how == 5:
        return call("word", *(again(u8) for _ in range(OPERATORS["word"].arity)))
    op = draw(st.sampled_from([*_ON_INTS, "dot4"] if dtype == i32 else _ON_INTS))
    return call(op, *(again() for _ in range(OPERATORS[op].arity)))


def index_exprs(axes=AXES, dims=DIMS, most=20):
    """i64 expressions as indices are made: sums, products, quotients by constants and dims."""
    small = st.integers(-most, most).map(const)
    positive = st.integers(1, most).map(const)
    leaf = st.one_of(small, st.sampled_from((*axes, *dims)))

    def grow(inner):
        divisor = st.one_of(positive, positive, st.sampled_from(dims)) if dims else positive
        pair = st.tuples(inner, inner)
        return st.one_of(
            pair.map(lambda p: p[0] + p[1]),
            pair.map(lambda p: p[0] - p[1]),
            st.tuples(inner, st.one_of(small, leaf)).map(lambda p: p[0] * p[1]),
            st.tuples(inner, divisor).map(lambda p: p[0] // p[1]),
            st.tuples(inner, divisor).map(lambda p: p[0] % p[1]),
            pair.map(lambda p: call("min", *p)),
            pair.map(lambda p: call("max", *p)),
        )

    return st.recursive(leaf, grow, max_leaves=10)


@st.composite
def monoids(draw, dtype):
    """A monoid whose first value has `dtype`: of the table, or made up."""
    fits = [n for n in STANDARD if not dtype.is_float or n not in ("any", "all", "xor")]
    if draw(st.booleans()):
        return STANDARD[draw(st.sampled_from(fits))](dtype)
    op = draw(st.sampled_from(["min", "max", "add"]))
    combine = (call(op, arg(0, dtype), arg(2, dtype)), arg(draw(st.sampled_from([1, 3])), f32))
    name = draw(st.sampled_from(["sum", "mine", "in"]))
    flags = draw(st.booleans()), draw(st.booleans())
    return Monoid(name, (const(0, dtype), const(1.5, f32)), combine, *flags)


@st.composite
def befores(draw, dtypes):
    """A bool over two tuples of `dtypes`, which need be no order."""
    k = draw(st.integers(0, len(dtypes) - 1))
    pair = arg(k, dtypes[k]), arg(k + len(dtypes), dtypes[k])
    if dtypes[k].is_float:
        pair = tuple(cast(x, dtypes[k].compute) for x in pair)
    return compare(draw(st.sampled_from(["lt", "le", "ne"])), *draw(st.permutations(pair)))


@st.composite
def stages(draw, name):
    """A stage that is well formed as text; what it computes need not make sense."""
    axes = tuple(
        axis(n, draw(st.sampled_from((const(5), DIMS[0], DIMS[1] // 2))))
        for n in draw(st.lists(st.sampled_from(["i", "j", "out"]), unique=True, max_size=2))
    )
    dtype = draw(st.sampled_from((*FLOATS, *INTEGERS)))
    how = draw(st.sampled_from(["map", "reduce", "scan", "sort"]))
    inner = (*axes, axis("r", 3)) if how != "map" else axes
    fold, dtypes = None, (dtype,)
    if how == "sort":
        dtypes = (dtype, i64)[: draw(st.integers(1, 2))]
        fold = Sort(inner[-1], Order(dtypes, draw(befores(dtypes))))
    elif how != "map":
        monoid = draw(monoids(dtype))
        dtypes = tuple(i.dtype for i in monoid.identity)
        init = tuple(draw(exprs(d, 1, axes)) for d in dtypes) if draw(st.booleans()) else None
        flags = draw(st.booleans()), draw(st.booleans())
        reduce = Reduce((inner[-1],), monoid, init)
        fold = reduce if how == "reduce" else Scan(inner[-1], monoid, init, *flags)
    place = inner if how in ("scan", "sort") else axes
    targets = tuple(
        Access(
            Buf(f"{name}_{k}", (const(4),) * len(place), d),
            tuple(draw(exprs(i64, 1, place)) for _ in place),
        )
        for k, d in enumerate(dtypes)
    )
    values = tuple(draw(exprs(d, 3, inner)) for d in dtypes)
    guard = st.one_of(st.none(), exprs(boolean, 2, inner))
    combine = draw(st.one_of(st.none(), monoids(dtype))) if len(dtypes) == 1 else None
    where = None if how == "sort" else draw(guard)
    when, update = draw(guard), draw(st.booleans())
    return Stage(name, targets, Compute(axes, values, fold, where), combine, when, update)


@st.composite
def systems(draw):
    """A system of a few random stages."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    made = tuple(draw(stages(n)) for n in names)
    written = tuple(b for s in made for b in s.writes)
    inputs = tuple(draw(st.lists(st.sampled_from(BUFS), unique=True, max_size=3)))
    params = tuple(b for b in draw(st.lists(st.sampled_from(BUFS), unique=True, max_size=2))
                   if b not in inputs)  # fmt: skip
    outputs = draw(st.lists(st.sampled_from((*written, *inputs)), max_size=3))
    return System(draw(st.sampled_from(NAMES)), inputs, params, made, tuple(outputs))
