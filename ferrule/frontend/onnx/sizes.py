"""Arithmetic on sizes: what ONNX nodes do to arrays of ints and Exprs.

Exporters compute shapes in the model: Shape, Gather, Mul, Concat, Reshape. With symbolic dims the
arrays hold Exprs, and NumPy's functions on object arrays do the same arithmetic on these, so most
rules are one NumPy call. What can't be decided for all sizes has no result here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ferrule.frontend.onnx.model import Array, Op
from ferrule.frontend.onnx.table import HOST, Attributes, element_type, rule_for
from ferrule.ir.expr import Expr, as_index, le, lt, maximum, minimum
from ferrule.ir.simplify import equal, prove, prove_nonneg, simplify

MOVES = frozenset(
    {
        "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity",
        "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


class Undecided(Exception):
    """The answer depends on the values of the dims."""


def settled(x: Array) -> Array:
    """An object array of sizes as i64 where none is symbolic."""
    flat = [_number(e) for e in x.ravel().tolist()]
    if all(isinstance(e, int) for e in flat):
        return np.array(flat, np.int64).reshape(x.shape)
    return _objects(flat).reshape(x.shape)


def _number(e: Any) -> Any:
    if not isinstance(e, Expr):
        return int(e)
    simple = simplify(e)
    return int(simple.value) if simple.is_const else simple


def _objects(values: Sequence[Any]) -> Array:
    out = np.empty(len(values), object)
    for i, v in enumerate(values):
        out[i] = v
    return out


def shape_array(op: Op, shape: Sequence[Any]) -> Array:
    """The result of Shape or Size, as objects."""
    sizes = [_number(as_index(s)) for s in shape]
    if op.type == "Size":
        total: Any = 1
        for s in sizes:
            total = s * total if isinstance(s, Expr) else total * s
        return np.array(_objects([total])[0], object).reshape(())
    start, end = Attributes(op).int("start", 0), Attributes(op).int("end", len(sizes))
    return _objects(sizes[slice(*slice(start, end).indices(len(sizes)))])


def fold_sizes(op: Op, entries: Sequence[Any]) -> tuple[Array, ...] | None:
    """The results of a node on arrays of sizes; None where they can't be told for all sizes."""
    if op.domain:
        return None
    try:
        if op.type in MOVES:
            return _moved(op, entries)
        if op.type in _COMPARISONS:
            return (_compared(_COMPARISONS[op.type], *entries),)
        rule = _RULES.get(op.type)
        return None if rule is None else (settled(rule(Attributes(op), *entries)),)
    except (Undecided, TypeError, ValueError, IndexError):
        return None


def _moved(op: Op, entries: Sequence[Any]) -> tuple[Array, ...] | None:
    """Moves of elements, by the host rule on objects; only the first operand of most, and all of
    Concat's, may hold Exprs.
    """
    rule = rule_for(HOST, op.domain, op.type, op.version)
    others = [] if op.type == "Concat" else [e for e in entries[1:] if e is not None]
    if rule is None or any(e.dtype == np.dtype(object) for e in others):
        return None
    given = [
        e.astype(object) if e is not None and (i == 0 or op.type == "Concat") else e
        for i, e in enumerate(entries)
    ]
    found = rule.build(Attributes(op), *given)
    several = found if isinstance(found, tuple) else (found,)
    return tuple(settled(x) for x in several)


# ---- arithmetic ----------------------------------------------------------------------------------


def _each(fn: Callable[..., Any]) -> Callable[..., Array]:
    """`fn` on the elements of the operands, broadcast."""
    ufunc = np.frompyfunc(fn, fn.__code__.co_argcount, 1)

    def apply(a: Attributes, *xs: Any) -> Array:
        out = ufunc(*(np.asarray(x, object) for x in xs))
        return np.asarray(out, object)

    return apply


def _fold(fn: Callable[[Any, Any], Any]) -> Callable[..., Array]:
    one = _each(fn)

    def apply(a: Attributes, *xs: Any) -> Array:
        total = np.asarray(xs[0], object)
        for x in xs[1:]:
            total = one(a, total, x)
        return total

    return apply


def _plus(x: Any, y: Any) -> Any:
    return y + x if isinstance(y, Expr) else x + y


def _times(x: Any, y: Any) -> Any:
    return y * x if isinstance(y, Expr) else x * y


def _divided(x: Any, y: Any) -> Any:
    """Division towards zero: of sizes, which are not negative, it is division downwards."""
    _ensure(prove_nonneg(simplify(as_index(x))) and prove(lt(as_index(0), as_index(y))))
    return as_index(x) // as_index(y)


def _modulo(x: Any, y: Any) -> Any:
    _ensure(prove(lt(as_index(0), as_index(y))))
    return as_index(x) % as_index(y)


def _ensure(fact: bool) -> None:
    if not fact:
        raise Undecided


def _decided(condition: Expr, opposite: Expr) -> bool:
    """Whether a condition holds for all sizes, or for none."""
    if prove(condition):
        return True
    _ensure(prove(opposite))
    return False


def _is_equal(x: Any, y: Any) -> bool:
    a, b = as_index(x), as_index(y)
    if equal(a, b):
        return True
    _ensure(prove(lt(a, b)) or prove(lt(b, a)))
    return False


def _is_less(x: Any, y: Any) -> bool:
    a, b = as_index(x), as_index(y)
    return _decided(lt(a, b), le(b, a))


def _least(x: Any, y: Any) -> Any:
    return minimum(as_index(x), as_index(y))


def _greatest(x: Any, y: Any) -> Any:
    return maximum(as_index(x), as_index(y))


def _chosen(a: Attributes, c: Array, x: Array, y: Array) -> Array:
    return np.asarray(np.where(c.astype(bool), x.astype(object), y.astype(object)), object)


def _cast(a: Attributes, x: Array, *_: Any) -> Array:
    target = element_type(a.int("to"))
    _ensure(target in (np.dtype(np.int64), np.dtype(np.int32)))
    return x


def _product(a: Attributes, x: Array, axes: Array | None = None) -> Array:
    wanted = tuple(axes.tolist()) if axes is not None else a.get("axes")
    keep = bool(a.int("keepdims", 1))
    reduce: Callable[..., Any] = np.multiply.reduce
    return np.asarray(reduce(x, wanted, keepdims=keep), object)


def _compared(fn: Callable[[Any, Any], bool], x: Array, y: Array) -> Array:
    return np.asarray(np.frompyfunc(fn, 2, 1)(x.astype(object), y.astype(object)), bool)


_RULES: dict[str, Callable[..., Array]] = {
    "Add": _each(_plus),
    "Sub": _each(lambda x, y: as_index(x) - as_index(y)),
    "Mul": _each(_times),
    "Div": _each(_divided),
    "Mod": _each(_modulo),
    "Neg": _each(lambda x: -as_index(x)),
    "Min": _fold(_least),
    "Max": _fold(_greatest),
    "Sum": _fold(_plus),
    "Where": _chosen,
    "Cast": _cast,
    "ReduceProd": _product,
}

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equal": _is_equal,
    "Less": _is_less,
    "Greater": lambda x, y: _is_less(y, x),
    "LessOrEqual": lambda x, y: not _is_less(y, x),
    "GreaterOrEqual": lambda x, y: not _is_less(x, y),
}
