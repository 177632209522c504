"""Likely sizes: an integer for a symbolic size, for decisions only and never for meaning."""

from __future__ import annotations

from collections.abc import Callable

from ferrule.ir.expr import Expr, walk
from ferrule.ir.operators import RECORDS

LIKELY_DIM = 128

_EXACT = {name: op.exact for name, op in RECORDS.items() if op.exact is not None}


def likely(d: Expr) -> int:
    """The size assumed for a symbolic dim: within its facts, near LIKELY_DIM."""
    facts = d.attr
    value = max(LIKELY_DIM, facts.lo)
    return value if facts.hi is None else min(value, facts.hi)


def estimate(e: Expr, dims: dict[Expr, int] | None = None) -> int:
    """An i64 expression over dims as an integer; a dim not given in `dims` takes its likely value.
    """
    return evaluate(e, lambda d: dims[d] if dims is not None and d in dims else likely(d))


def evaluate(e: Expr, value_of: Callable[[Expr], int]) -> int:
    """An i64 or bool expression over dims with each dim's value given by `value_of`."""
    if e.is_const:
        return int(e.attr)
    done: dict[Expr, int] = {}
    for node in walk(e):
        if node.op == "const":
            done[node] = int(node.attr)
        elif node.op == "dim":
            done[node] = value_of(node)
        else:
            done[node] = _EXACT[node.op](*(done[a] for a in node.args))
    return done[e]
