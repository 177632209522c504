"""Sizes that a program computes: small tensors whose numbers follow from constants and from the
sizes of inputs. A number is an int, a float, a bool, an Expr, or None for one that is not known.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import DType
from ferrule.frontend.tensorflow.strided import Entry, Unknown, entries
from ferrule.frontend.tensorflow.table import Context, Known, as_known
from ferrule.ir.expr import Expr, as_index, call
from ferrule.ir.graph import Value
from ferrule.ir.simplify import prove, prove_nonneg, simplify


def plain(e: Any) -> Any:
    """An Expr simplified, a number where it is one."""
    if not isinstance(e, Expr):
        return e
    e = simplify(e)
    return e.value if e.is_const else e


def _size(n: Any) -> Any:
    """A number as a size, None where it is none."""
    if isinstance(n, float | np.floating):
        return int(n) if float(n).is_integer() else None
    return n


def each(numbers: Callable[..., Any], sizes: Callable[..., Any] | None = None) -> Any:
    """A function of elements that broadcast: `numbers` of plain ones, `sizes` of Exprs, by default
    the same.
    """

    def one(*given: Any) -> Any:
        if any(n is None for n in given):
            return None
        if not any(isinstance(n, Expr) for n in given):
            return numbers(*given)
        whole = [_size(n) for n in given]
        if any(n is None for n in whole):
            return None
        found = (sizes or numbers)(*(as_index(n) for n in whole))
        return plain(found)

    def of(cx: Context, *arrays: Known) -> Known:
        return as_known(np.frompyfunc(one, len(arrays), 1)(*arrays))

    return of


def _floordiv(x: Expr, y: Expr) -> Any:
    return call("floordiv", x, y) if y.is_const and y.value > 0 else None


def _truncdiv(x: Expr, y: Expr) -> Any:
    return _floordiv(x, y) if prove_nonneg(x) else None


def _mod(x: Expr, y: Expr) -> Any:
    return call("mod", x, y) if y.is_const and y.value > 0 else None


def _quotient(x: Expr, y: Expr) -> Any:
    """x / y of floats: where that is a whole number for all sizes."""
    q = simplify(call("floordiv", x, y)) if y.is_const and y.value > 0 else None
    return q if q is not None and prove(call("eq", simplify(q * y), x)) else None


def _decided(name: str) -> Callable[[Expr, Expr], Any]:
    """A comparison of sizes, where it holds for all or none of them."""
    turned = {"lt": ("le", True), "le": ("lt", True), "eq": ("eq", False)}

    def decide(x: Expr, y: Expr) -> Any:
        if prove(call(name, x, y)):
            return True
        other, swapped = turned[name]
        if name == "eq":
            apart = prove(call("lt", x, y)) or prove(call("lt", y, x))
            return False if apart else None
        return False if prove(call(other, *((y, x) if swapped else (x, y)))) else None

    return decide


def _negated(x: Any) -> Any:
    return None if x is None else not x


def _int_quotient(x: Any, y: Any) -> Any:
    if isinstance(x, float) or isinstance(y, float):
        return x / y if y else None
    return int(x / y) if y else None


_LT, _LE, _EQ = (_decided(n) for n in ("lt", "le", "eq"))
_ELEMENTS: Mapping[str, Any] = {
    "AddV2": each(operator.add),
    "Add": each(operator.add),
    "Sub": each(operator.sub),
    "Mul": each(operator.mul),
    "Neg": each(operator.neg),
    "Maximum": each(max, lambda x, y: call("max", x, y)),
    "Minimum": each(min, lambda x, y: call("min", x, y)),
    "FloorDiv": each(lambda x, y: x // y if y else None, _floordiv),
    "Div": each(_int_quotient, _truncdiv),
    "TruncateDiv": each(_int_quotient, _truncdiv),
    "RealDiv": each(lambda x, y: x / y if y else None, _quotient),
    "FloorMod": each(lambda x, y: x % y if y else None, _mod),
    "Less": each(operator.lt, _LT),
    "LessEqual": each(operator.le, _LE),
    "Greater": each(operator.gt, lambda x, y: _LT(y, x)),
    "GreaterEqual": each(operator.ge, lambda x, y: _LE(y, x)),
    "Equal": each(operator.eq, _EQ),
    "NotEqual": each(operator.ne, lambda x, y: _negated(_EQ(x, y))),
    "LogicalAnd": each(lambda x, y: bool(x and y)),
    "LogicalOr": each(lambda x, y: bool(x or y)),
    "LogicalNot": each(operator.not_),
    "Floor": each(lambda x: float(np.floor(x)), lambda x: x),
    "Ceil": each(lambda x: float(np.ceil(x)), lambda x: x),
}


def _cast(cx: Context, x: Known) -> Known:
    dtype = cx.dtype("DstT")
    kind: Any = bool if dtype.is_bool else float if dtype.is_float else int
    return as_known([n if n is None or isinstance(n, Expr) else kind(n) for n in x.flat])


def _select(cx: Context, flag: Known, x: Known, y: Known) -> Known:
    def one(c: Any, a: Any, b: Any) -> Any:
        return (a if c else b) if isinstance(c, bool | int) else None

    return as_known(np.frompyfunc(one, 3, 1)(flag, x, y))


def _folded(fn: Callable[[Any, Any], Any], first: Any) -> Callable[..., Known]:
    def of(cx: Context, x: Known, axes: Known) -> Known:
        over = tuple(int(a) for a in axes.flat)
        if x.ndim > 1 and len(over) != x.ndim:
            return np.full(1, None, object)
        total = first
        for n in x.flat:
            if n is None:
                return as_known([None])
            total = plain(fn(total, n))
        return as_known([total])

    return of


def _range(cx: Context, start: Known, limit: Known, step: Known) -> Known:
    given = (start.item(), limit.item(), step.item())
    if any(isinstance(n, Expr) for n in given) or not given[2]:
        return as_known([None])
    return as_known(np.arange(*given).tolist())


def _strided(cx: Context, x: Known, *bounds: Known) -> Known:
    found = entries(cx, x.ndim, *bounds)
    for e in found:
        open_ends = e.kind == "at" and e.begin is None
        if open_ends or any(isinstance(n, Expr | Unknown) for n in (e.begin, e.end)):
            return as_known([None])
    return as_known(x[tuple(map(_index, found))])


def _index(e: Entry) -> Any:
    if e.kind == "new":
        return None
    return e.begin if e.kind == "at" else slice(e.begin, e.end, e.step)


def _gather(cx: Context, x: Known, places: Known, *axis: Known) -> Known:
    at = [int(i) for i in places.flat]
    return np.take(x, at, int(axis[0].item()) if axis else 0)


def _slice(cx: Context, x: Known, begin: Known, size: Known) -> Known:
    pairs = zip(begin.tolist(), size.tolist())
    return x[tuple(slice(b, None if n == -1 else b + n) for b, n in pairs)]


def _split(cx: Context, axis: Known, x: Known) -> list[Known]:
    return list(np.split(x, cx.attr("num_split"), int(axis.item())))


_MOVES: Mapping[str, Callable[..., Any]] = {
    "Identity": lambda cx, x: x,
    "StopGradient": lambda cx, x: x,
    "Reshape": lambda cx, x, shape: x,
    "Squeeze": lambda cx, x: x,
    "ExpandDims": lambda cx, x, axis: x,
    "Cast": _cast,
    "Pack": lambda cx, *xs: np.stack(xs, cx.attr("axis", 0)),
    "Unpack": lambda cx, x: list(np.moveaxis(x, cx.attr("axis", 0), 0)),
    "ConcatV2": lambda cx, *xs: np.concatenate(xs[:-1], int(xs[-1].item())),
    "Split": _split,
    "StridedSlice": _strided,
    "Slice": _slice,
    "GatherV2": _gather,
    "Fill": lambda cx, shape, x: np.full(tuple(shape.tolist()), x.item(), object),
    "Range": _range,
    "Tile": lambda cx, x, times: np.tile(x, times.tolist()),
    "Transpose": lambda cx, x, perm: np.transpose(x, perm.tolist()),
    "Prod": _folded(operator.mul, 1),
    "Sum": _folded(operator.add, 0),
    "Max": _folded(lambda x, y: y if x is None else _greater(x, y), None),
    "Select": _select,
    "SelectV2": _select,
}
_MAY_LACK = {"Pack", "ConcatV2", "Identity", "StridedSlice", "Reshape", "ExpandDims", "Squeeze"}
"""Operators of which some elements may be unknown."""


def _greater(x: Any, y: Any) -> Any:
    return call("max", as_index(x), as_index(y))


def fold(
    cx: Context, known: Sequence[Known | None], operands: Sequence[Any],
    shapes: Sequence[tuple[int, ...]],
) -> list[Known] | None:  # fmt: skip
    """The numbers of an operator's results of these shapes; None where they are not known here.
    Sizes are taken to fit their dtype.
    """
    op = cx.node.op
    fn = _ELEMENTS.get(op) or _MOVES.get(op)
    if fn is None:
        return None
    given = [_unknown(x) if k is None and op in _MAY_LACK else k for k, x in zip(known, operands)]
    if any(k is None for k in given):
        return None
    whole = all(n is not None for k in given if k is not None for n in k.flat)
    if not whole and op not in _ELEMENTS and op not in _MAY_LACK:
        return None
    try:
        found = fn(cx, *given)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    several = [as_known(f) for f in found] if isinstance(found, list) else [found]
    counts = [int(np.prod(s, dtype=int)) for s in shapes]
    if [f.size for f in several] != counts:
        return None
    return [as_known(f.reshape(-1).tolist()).reshape(s) for f, s in zip(several, shapes)]


def held_in(dtype: DType, numbers: Known) -> Known:
    """Numbers as a tensor of `dtype` holds them: floats rounded, integers that it has no place for
    not known.
    """

    def one(n: Any) -> Any:
        if isinstance(n, float):
            return float(np.float32(n)) if dtype.compute.bits == 32 else n
        fits = not dtype.is_int or not isinstance(n, int) or dtype.min <= n <= dtype.max
        return n if fits else None

    return as_known(np.frompyfunc(one, 1, 1)(numbers)) if numbers.size else numbers


def _unknown(x: Any) -> Known | None:
    """Numbers for a small tensor of which none is known."""
    if not isinstance(x, Value) or not all(n.is_const for n in x.shape):
        return None
    shape = tuple(int(n.value) for n in x.shape)
    return np.full(shape, None, object) if np.prod(shape, dtype=int) <= 64 else None
