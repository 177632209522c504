"""Index expressions as Python functions: what the interpreters evaluate most often, made quick.

An i64 or bool expression over dims, axes and constants alone is turned into Python source once and
kept on its node. The function takes the axes' and dims' values, integers or arrays alike. Indices
do not overflow, so that Python's integers mean the same; division by what is no constant is left to
the general evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ferrule.base.dtype import boolean, i64
from ferrule.ir.expr import Expr
from ferrule.ir.operators import LOGIC, OPERATORS, Operator

IndexFunction = Callable[[Mapping[Expr, Any], Mapping[str, int]], Any]
_LONGEST = 20000  # characters of source


_INTEGERS = frozenset((int,))


def _either(op: Operator) -> Callable[..., Any]:
    """An operator on integers or arrays, whatever comes."""
    exact, elementwise = op.exact, op.ints
    assert exact is not None
    assert elementwise is not None

    def apply(*xs: Any) -> Any:
        return exact(*xs) if _INTEGERS.issuperset(map(type, xs)) else elementwise(*xs)

    return apply


_NUMBERS = {n: op for n, op in OPERATORS.items() if op.exact is not None and n not in LOGIC}
_SOURCES = {
    n: f"({{}} {op.infix[1]} {{}})" if op.infix else f"{n}({', '.join(['{}'] * op.arity)})"
    for n, op in _NUMBERS.items()
}
_NAMES = {"__builtins__": {}, **{n: _either(op) for n, op in _NUMBERS.items() if not op.infix}}


def index_function(e: Expr) -> IndexFunction | None:
    """`e` as a function of axes and dims; None where it is no plain index expression."""
    if "index" not in e.memo:
        leaves: list[Expr] = []
        source = _source(e, leaves, {})
        made = None
        if source is not None and len(source) < _LONGEST:
            names = {f"x{k}": a for k, a in enumerate(leaves)}
            made = eval(f"lambda axes, dims: {source}", {**_NAMES, **names})
        e.memo["index"] = made
    found: IndexFunction | None = e.memo["index"]
    return found


def _source(e: Expr, leaves: list[Expr], done: dict[Expr, str]) -> str | None:
    """Python source of `e`, in which an axis is `axes[x0]` and a dim `dims['n']`."""
    if e in done:
        return done[e]
    if e.dtype != i64 and e.dtype != boolean:
        return None
    if e.op == "const":
        text = f"({e.attr!r})"
    elif e.op == "axis":
        leaves.append(e)
        text = f"axes[x{len(leaves) - 1}]"
    elif e.op == "dim":
        text = f"dims[{e.name!r}]"
    elif e.op in _NUMBERS and _NUMBERS[e.op].divides and not _is_divisor(e.args[1]):
        return None
    elif e.op in _SOURCES and e.args[0].dtype == i64:
        parts = [_source(a, leaves, done) for a in e.args]
        if any(p is None or len(p) > _LONGEST for p in parts):
            return None
        text = _SOURCES[e.op].format(*parts)
    else:
        return None
    done[e] = text
    return text


def _is_divisor(e: Expr) -> bool:
    return e.is_const and e.value != 0
