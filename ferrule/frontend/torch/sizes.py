"""Sizes of one PyTorch capture: SymInts and their sympy expressions as Exprs, arithmetic on numbers
as Exprs or 0-d values.

A symbol becomes a dim with the range that PyTorch knows of it. Dims are never negative: an integer
argument that may be is the dim `name` minus SHIFT, and whoever calls the program adds SHIFT to what
it passes (`SymbolicSizes.shifts`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ferrule import ops
from ferrule.base import log
from ferrule.base.dtype import boolean, f64
from ferrule.base.errors import UnsupportedError
from ferrule.ir.expr import TRUE, Expr, call, compare, const, dim, dims, floordiv, mod, substitute
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import simplify

SHIFT = 1 << 40
Ranges = Mapping[str, Any]  # PyTorch's ValueRanges

_LEAST_SIZE = 2
_FOLDED = {"Add": "add", "Mul": "mul", "Max": "max", "Min": "min", "And": "and", "Or": "or"}
_RELATIONS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "Equality": lambda a, b: compare("eq", a, b),
    "Unequality": lambda a, b: compare("ne", a, b),
    "StrictLessThan": lambda a, b: compare("lt", a, b),
    "LessThan": lambda a, b: compare("le", a, b),
    "StrictGreaterThan": lambda a, b: compare("lt", b, a),
    "GreaterThan": lambda a, b: compare("le", b, a),
}


class SymbolicSizes:
    """Exprs of sizes; `shifts` tells which dims stand for a possibly negative integer.

    `ranges` are the ranges that a user declared, by symbol. They go before those of tracing, which
    takes no size for 0 or 1.
    """

    def __init__(self, ranges: Ranges | None = None) -> None:
        self._symbols: dict[str, Expr] = {}
        self._ranges = ranges or {}
        self.shifts: dict[str, int] = {}

    def expr(self, size: Any) -> Expr:
        """An int or SymInt as an Expr. Raises UnsupportedError for arithmetic that has no Expr."""
        if isinstance(size, int):
            return const(size)
        env = size.node.shape_env
        return simplify(self._sympy(size.node.expr.xreplace(_equalities(env)), env))

    def facts(self, env: Any) -> dict[Expr, str]:
        """What PyTorch found out about the symbols while it traced and took for granted since, as
        conditions with their text. Those that follow from the ranges of the symbols are left out,
        and so are those by which it tells a declared size from 0 and 1: a program that was saved
        and read again has them as facts, any other as the least size of a trace.
        """
        found: dict[Expr, str] = {}
        for g in env.guards:
            try:
                e = simplify(self._sympy(env.replace(g.expr), env))
            except UnsupportedError as error:
                log.warn(f"sizes are not checked for {g.expr}: {error}")
                continue
            if simplify(substitute(e, self._as_traced(e))) is not TRUE:
                found.setdefault(e, str(g.expr))
        return found

    def _as_traced(self, e: Expr) -> dict[Expr, Expr]:
        """The dims in `e` whose range was declared, as tracing takes them."""
        return {
            d: dim(d.name, max(d.attr.lo, _LEAST_SIZE), d.attr.hi)
            for d in dims(e)
            if d.name in self._ranges
        }

    def _sympy(self, e: Any, env: Any) -> Expr:
        name = type(e).__name__
        if name in _RELATIONS:
            a, b = (self._sympy(x, env) for x in e.args)
            return _RELATIONS[name](a, b)
        if name == "Not":
            return call("not", self._sympy(e.args[0], env))
        if name in ("BooleanTrue", "BooleanFalse"):
            return const(bool(e), boolean)
        if e.is_Integer:
            return const(int(e))
        if e.is_Symbol:
            return self._symbol(e, env)
        if name == "Pow" and e.args[1].is_Integer and int(e.args[1]) > 0:
            base = out = self._sympy(e.args[0], env)
            for _ in range(int(e.args[1]) - 1):
                out = call("mul", out, base)
            return out
        if name in _FOLDED:
            args = [self._sympy(a, env) for a in e.args]
            out = args[0]
            for a in args[1:]:
                out = call(_FOLDED[name], out, a)
            return out
        if name in ("FloorDiv", "CleanDiv", "PythonMod", "Mod"):
            a, b = (self._sympy(x, env) for x in e.args)
            return (mod if "Mod" in name else floordiv)(a, b)
        if name == "ModularIndexing":
            a, b, c = (self._sympy(x, env) for x in e.args)
            return mod(floordiv(a, b), c)
        raise UnsupportedError(f"the size {e} uses {name}, which has no meaning here")

    def _symbol(self, symbol: Any, env: Any) -> Expr:
        name = str(symbol)
        found = self._symbols.get(name)
        if found is None:
            low, high = _range(self._ranges.get(name), symbol, env)
            if low is None or low < 0:
                self.shifts[name] = SHIFT
                found = dim(name) - SHIFT
            else:
                found = dim(name, low, high)
            self._symbols[name] = found
        return found


def _equalities(env: Any) -> dict[Any, Any]:
    """What PyTorch has found equal to a symbol in it so far and guards, such as Min(512, s) == s.

    An equality with an expression of other symbols, such as s1 == 2 * s0, tells two sizes apart
    that a call has to bring: there PyTorch has written one for the other already.
    """
    found: dict[Any, Any] = {}
    for g in env.guards if env is not None else ():
        if type(g.expr).__name__ == "Equality":
            symbol, e = g.expr.args if g.expr.args[0].is_Symbol else reversed(g.expr.args)
            if symbol.is_Symbol and not e.is_Symbol and symbol in e.free_symbols:
                found[e] = symbol
    return found


def _range(declared: Any, symbol: Any, env: Any) -> tuple[int | None, int | None]:
    """The least and greatest value of a symbol; None where there is no bound."""
    bounds = declared or (env.var_to_range.get(symbol) if env is not None else None)
    if bounds is None:
        return _LEAST_SIZE, None
    low = int(bounds.lower) if bounds.lower.is_Integer else None
    high = int(bounds.upper) if bounds.upper.is_Integer and bounds.upper < SHIFT else None
    return low, high


# ---- numbers that are computed -------------------------------------------------------------------

Number = Value | int | float
_ARITHMETIC: dict[Any, Callable[..., Value]] = {
    operator.add: ops.add,
    operator.sub: ops.sub,
    operator.mul: ops.mul,
    operator.truediv: ops.div,
    operator.pow: ops.pow,
    operator.neg: ops.neg,
    math.sqrt: ops.sqrt,
    math.exp: ops.exp,
    math.log: ops.log,
    math.floor: ops.floor,
    math.ceil: ops.ceil,
    abs: ops.abs,
}


def float_value(b: GraphBuilder, node: Any, leaf: Callable[[Any], Number]) -> Value:
    """A node that gives a SymFloat as a 0-d f64 value.

    `leaf` gives what other nodes stand for: a number, or a value. Raises UnsupportedError for a
    function that has no meaning.
    """
    if type(node.meta.get("val")).__name__ != "SymFloat":
        return _wide(b, leaf(node))
    name = getattr(node.target, "__name__", str(node.target))
    if name in ("sym_float", "float") or str(node.target) in (
        "aten._local_scalar_dense.default",
        "aten.item.default",
    ):
        return _wide(b, leaf(node.args[0]))
    rule = _ARITHMETIC.get(node.target) or (ops.sqrt if name == "_sym_sqrt" else None)
    if rule is None:
        raise UnsupportedError(f"arithmetic on numbers with {name}")
    args = [float_value(b, a, leaf) if hasattr(a, "meta") else _wide(b, a) for a in node.args]
    return rule(b, *args)


def _wide(b: GraphBuilder, x: Number) -> Value:
    if isinstance(x, Value):
        return ops.cast(b, ops.reshape(b, x, ()), f64)
    return (
        ops.cast(b, ops.scalar(b, x), f64)
        if isinstance(x, Expr)
        else ops.full(b, (), float(x), f64)
    )
