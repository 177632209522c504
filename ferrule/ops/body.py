"""Body: a function of scalars that an operator applies, as `reduce` and `scatter` of StableHLO do.

    body = a Graph of rank 0: old value.., new value.. -> value..

A frontend builds it like any graph, with the operators it has rules for. The equations of its nodes
make it an Expr for each of its results (`scalars`), over `arg(0)`, `arg(1)`, .. in the order of its
inputs. What is known of such an Expr follows from its form alone:

    names       the standard monoid that each value is folded by, where each has one
    any_order   whether the order of what is folded does not matter
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np

from ferrule.base.dtype import DType, boolean
from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    Buf,
    Expr,
    arg,
    call,
    cast,
    compare,
    const,
    rewrite,
    select,
    substitute,
    walk,
)
from ferrule.ir.graph import ComputeContext, Graph, GraphBuilder, TensorType, Value, opdef
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.monoids import ALL, ANY, MAX, MIN, PROD, SUM, XOR
from ferrule.ir.operators import COMPARISONS, PREDICATES
from ferrule.ir.system import Monoid
from ferrule.ops.op import Array

Build = Callable[..., "Value | Sequence[Value]"]

LAST = "last"
_MONOIDS: dict[str, tuple[str, Callable[[DType], Monoid]]] = {
    "sum": ("add", SUM), "prod": ("mul", PROD), "max": ("max", MAX), "min": ("min", MIN),
    "any": ("or", ANY), "all": ("and", ALL), "xor": ("xor", XOR),
}  # fmt: skip


def body_graph(b: GraphBuilder, what: str, dtypes: Sequence[DType], build: Build) -> Graph:
    """The body that `build(inner, *scalars)` makes of scalars of `dtypes`. It may use numbers of
    the graph around it. Raises CompileError for another value of it, and for results that are no
    scalars.
    """
    inner = b.inner("body")
    given = [inner.input(TensorType((), t), f"{inner.stem}a{i}") for i, t in enumerate(dtypes)]
    found = build(inner, *given)
    graph = inner.build((found,) if isinstance(found, Value) else tuple(found))
    defined = {*graph.inputs, *(v for n in graph.nodes for v in n.outputs)}
    used = [*(v for n in graph.nodes for v in n.inputs), *graph.outputs]
    for v in dict.fromkeys(v for v in used if v not in defined):
        node = next((n for n in b.nodes if v in n.outputs and n.op == "full"), None)
        if node is None or v.rank:
            raise CompileError(f"the body of {what} uses {v.type} of the graph around it")
        graph = replace(graph, nodes=(node, *graph.nodes))
    if any(v.rank for v in graph.outputs):
        shown = ", ".join(str(v.type) for v in graph.outputs)
        raise CompileError(f"the body of {what} gives {shown}")
    return graph


def check_folding(what: str, body: Graph, dtypes: Sequence[DType]) -> None:
    """CompileError unless `body` takes old and new values of `dtypes` and gives such values."""
    takes, gives = [v.dtype for v in body.inputs], [v.dtype for v in body.outputs]
    if takes != [*dtypes, *dtypes] or gives != [*dtypes]:
        raise CompileError(
            f"the body of {what} on {_shown(dtypes)} takes {_shown(takes)} and gives "
            f"{_shown(gives)}"
        )


def _shown(dtypes: Sequence[DType]) -> str:
    return ", ".join(t.name for t in dtypes) or "nothing"


@cache
def scalars(body: Graph) -> tuple[Expr, ...]:
    """The results of `body` as Exprs over `arg`s. Raises CompileError where it has an operator that
    is no function of scalars, such as a loop.
    """
    ctx = ComputeContext()
    env = {_buf(v): arg(i, v.dtype) for i, v in enumerate(body.inputs)}

    def read(node: Expr) -> Expr | None:
        return env[node.attr] if node.op == "load" else None

    for n in body.nodes:
        if any(v.rank for v in n.outputs):
            raise CompileError(f"a body of scalars has {n.op}, which gives {n.outputs[0].type}")
        ins, outs = tuple(map(_buf, n.inputs)), tuple(map(_buf, n.outputs))
        for st in opdef(n.op).compute(ctx, ins, outs, n.attributes):
            c = st.compute
            if c.axes or c.fold is not None or c.where is not None or st.update or st.when:
                raise CompileError(f"a body of scalars has {n.op}, which is no function of these")
            for (buf, _), value in zip(st.targets, c.values, strict=True):
                env[buf] = rewrite(value, read)
    return tuple(env[_buf(v)] for v in body.outputs)


def _buf(v: Value) -> Buf:
    return Buf(v.name, v.shape, v.dtype)


@cache
def wide(body: Graph) -> tuple[Expr, ...]:
    """The same of values held in the dtypes that they are computed in."""
    args = {
        arg(i, v.dtype): cast(arg(i, v.dtype.compute), v.dtype) for i, v in enumerate(body.inputs)
    }
    return tuple(cast(substitute(e, args), e.dtype.compute) for e in scalars(body))


def applied(exprs: Sequence[Expr], values: Sequence[Expr]) -> tuple[Expr, ...]:
    """`exprs` of these values in place of the `arg`s."""
    args = {arg(i, v.dtype): v for i, v in enumerate(values)}
    return tuple(substitute(e, args) for e in exprs)


def evaluated(body: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The results of `body` at each point of real arrays (bf16 as f32) that broadcast."""
    return values_of(scalars(body), arrays)


def values_of(exprs: Sequence[Expr], arrays: Sequence[Array]) -> tuple[Array, ...]:
    """Exprs over `arg`s at each point of arrays in their place."""
    env = Env(args=tuple(map(np.asarray, arrays)))
    with np.errstate(all="ignore"):
        return tuple(eval_expr(e, env) for e in exprs)


def operands(i: int, k: int, dtype: DType) -> tuple[Expr, Expr]:
    """The old and the new value of place `i` of `k`."""
    return arg(i, dtype), arg(k + i, dtype)


# ---- what is known of a body ---------------------------------------------------------------------


def names(body: Graph) -> tuple[str, ...] | None:
    """For each value the name of the standard monoid that folds it, or "last" where the new value
    stays; None where one is folded otherwise.
    """
    k = len(body.outputs)
    found = [
        _name(e, arg(i, e.dtype), arg(k + i, e.dtype)) for i, e in enumerate(scalars(body))
    ]
    return None if None in found else tuple(n for n in found if n is not None)


def _name(e: Expr, old: Expr, new: Expr) -> str | None:
    if e is new:
        return LAST
    operands = cast(old, e.dtype.compute), cast(new, e.dtype.compute)
    for name, (op, _) in _MONOIDS.items():
        if _is_call(e, op, operands) or _is_call(e, op, operands[::-1]):
            return name
    return None


def _is_call(e: Expr, op: str, operands: tuple[Expr, ...]) -> bool:
    inner = e.args[0] if e.op == "cast" and e.dtype.compute != e.dtype else e
    return inner.op == op and inner.args == operands


def standard(name: str, dtype: DType) -> Monoid:
    """The monoid of that name."""
    return _MONOIDS[name][1](dtype)


@cache
def any_order(body: Graph) -> bool:
    """Whether what `body` folds may be folded in any order: it is shown to be commutative and
    associative. Where values are NaN, the latter may not be.

    It is shown of bodies that choose one of their operands by comparing values of one place with
    each other: to try three values at each place is enough.
    """
    k, exprs, kinds = len(body.outputs), scalars(body), [v.dtype for v in body.outputs]
    if k > 3 or any(_places(e, k) != {i} for i, e in enumerate(exprs)):
        return False
    if not all(_chooses(n, k) for e in exprs for n in walk(e)):
        return False
    a, b, c = _tuples(kinds, 3, False)
    left = values_of(exprs, [*values_of(exprs, [*a, *b]), *c])
    if not _same(left, values_of(exprs, [*a, *values_of(exprs, [*b, *c])])):
        return False
    if not _commutes(exprs, kinds, False):
        return False
    return _commutes(exprs, kinds, True) or (
        kinds[-1].is_int and _commutes(_placed(exprs, kinds), kinds, True)
    )


def _commutes(exprs: Sequence[Expr], kinds: Sequence[DType], nan: bool) -> bool:
    """Whether two tuples of values may change places; with `nan`, some of NaN, which are at places
    of their own where the last value is one.
    """
    a, b = _tuples(kinds, 2, nan)
    if nan and len(kinds) > 1 and kinds[-1].is_int:
        apart = a[-1] != b[-1]
        a, b = [x[apart] for x in a], [x[apart] for x in b]
    return _same(values_of(exprs, [*a, *b]), values_of(exprs, [*b, *a]))


def _placed(exprs: Sequence[Expr], kinds: Sequence[DType]) -> tuple[Expr, ...]:
    """`exprs` of the operands in the order of their last values, which are their places. So a
    search for the greatest value that keeps the first of two NaN finds the first of all.
    """
    k = len(kinds)
    old, new = ([arg(i + n, t) for i, t in enumerate(kinds)] for n in (0, k))
    later = compare("lt", new[-1], old[-1])
    first = [select(later, n, o) for o, n in zip(old, new, strict=True)]
    second = [select(later, o, n) for o, n in zip(old, new, strict=True)]
    return applied(exprs, [*first, *second])


def _places(e: Expr, k: int) -> set[int]:
    """The places of the values that `e` may be one of."""
    if e.op == "arg":
        return {e.attr % k}
    parts = e.args[1:] if e.op == "select" else e.args
    return set().union(*(_places(a, k) for a in parts)) if parts else {-1}


def _chooses(n: Expr, k: int) -> bool:
    """Whether a node is a choice, a comparison within one place, or logic of these."""
    if n.op == "cast":
        return n.dtype.is_float and n.args[0].dtype.is_float and n.dtype.bits > n.args[0].dtype.bits
    if n.op in COMPARISONS or n.op in PREDICATES or n.op in ("min", "max"):
        return len(_places(n, k)) == 1 and -1 not in _places(n, k)
    logic = n.op in ("and", "or", "xor", "not", "const") and n.dtype.is_bool
    return logic or n.op in ("arg", "select")


def _tuples(dtypes: Sequence[DType], count: int, nan: bool) -> list[list[Array]]:
    """`count` tuples of values of `dtypes`, in every combination of three values and NaN."""
    each = [
        [False, True] if t.is_bool else [0.0, 1.0, 2.0, *([np.nan] if nan else [])] if t.is_float
        else [0, 1, 2]
        for t in dtypes
    ]  # fmt: skip
    rows = list(zip(*product(*(each * count))))
    kinds = [np.float32 if t.is_float and t.bits == 16 else t.numpy for t in dtypes] * count
    flat = [np.array(r, kind) for r, kind in zip(rows, kinds, strict=True)]
    return [flat[i * len(each) : (i + 1) * len(each)] for i in range(count)]


def _same(a: Sequence[Array], b: Sequence[Array]) -> bool:
    return all(bool(np.all((x == y) | ((x != x) & (y != y)))) for x, y in zip(a, b, strict=True))


# ---- monoids made of a body ----------------------------------------------------------------------


@cache
def serial(body: Graph) -> Monoid:
    """`body` as what a stage combines by, one value after another in the order of its axes."""
    zeros = tuple(const(0, v.dtype.compute) for v in body.outputs)
    return Monoid("body", zeros, wide(body), commutative=False)


@cache
def of_some(body: Graph) -> Monoid:
    """`body` as a monoid whose neutral element is to have no value yet: it folds a bool, whether
    there is a value, and the values.
    """
    k = len(body.outputs)
    kinds = [boolean, *(v.dtype.compute for v in body.outputs)]
    has, *old = (arg(i, t) for i, t in enumerate(kinds))
    comes, *new = (arg(k + 1 + i, t) for i, t in enumerate(kinds))
    exprs, ordered = wide(body), any_order(body)
    if ordered and not _commutes(scalars(body), [v.dtype for v in body.outputs], True):
        exprs = _placed(exprs, kinds[1:])
    joined = applied(exprs, [*old, *new])
    both = call("and", has, comes)
    combine = [
        select(both, f, select(has, x, y)) for f, x, y in zip(joined, old, new, strict=True)
    ]
    identity = tuple(const(0, t) for t in kinds)
    return Monoid("of_some", identity, (call("or", has, comes), *combine), ordered)
