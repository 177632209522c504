"""Algebra: identities of the scalar language as a table of rules, tried bottom-up on every value.

A rule takes a node whose arguments are simple already and gives its replacement, or None. Each
holds for all values of its dtype, NaN, infinities and signed zeros included, unless its comment
says where it doesn't matter. An operator has the rules that follow from the facts of its record
(`ferrule.ir.operators`), and then those of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import copysign

from ferrule.base.dtype import holds
from ferrule.ir.expr import Expr, bottom_up, call, cast, compare, const, rebuild, select
from ferrule.ir.operators import RECORDS, Operator

Rule = Callable[[Expr], Expr | None]


def algebra(e: Expr) -> Expr:
    """`e` with every rule applied wherever it fits."""
    return bottom_up(e, "algebra", _simple)


def _simple(e: Expr) -> Expr:
    """`e` with simple arguments, after the rules for its root; a simple node stays as it is."""
    args = tuple([algebra(a) for a in e.args])
    found = _apply(e if args == e.args else rebuild(e, args))
    found.memo["algebra"] = found
    return found


def _apply(e: Expr) -> Expr:
    """`e` after the rules for its root, until none fits: what one gives may suit another."""
    replaced = next((n for r in RULES.get(e.op, ()) if (n := r(e)) not in (None, e)), None)
    return e if replaced is None else _apply(replaced)


def _is(e: Expr, value: float) -> bool:
    return e.is_const and e.attr == value


# ---- rules from facts ----------------------------------------------------------------------------


def _derived(op: Operator) -> Iterator[Rule]:
    if op.float_unit is not None:
        yield _unit(op.float_unit)
    if op.idempotent:
        yield _same
    if op.involution:
        yield _twice


def _unit(unit: float) -> Rule:
    """x op unit -> x, for a unit of the same sign: x + -0.0, x - 0.0, x * 1."""

    def rule(e: Expr) -> Expr | None:
        x, c = e.args
        fits = _is(c, unit) and copysign(1, c.attr) == copysign(1, unit)
        return x if fits and e.dtype.kind != "b" else None

    return rule


def _same(e: Expr) -> Expr | None:
    """max(x, x) -> x and min, and, or alike."""
    return e.args[0] if e.args[0] is e.args[1] else None


def _twice(e: Expr) -> Expr | None:
    """-(-x) -> x and not alike."""
    return e.args[0].args[0] if e.args[0].op == e.op else None


# ---- rules of one operator -----------------------------------------------------------------------


def _div_by_power_of_two(e: Expr) -> Expr | None:
    """x / c -> x * (1/c) where 1/c is exact: c a power of two, neither bound of the exponent near.
    """
    x, c = e.args
    if (
        not c.is_const
        or e.dtype.kind != "f"
        or c.attr != c.attr
        or c.attr in (0.0, float("inf"), float("-inf"))
    ):
        return None
    mantissa = abs(c.attr).hex().split("p")[0]
    return (
        call("mul", x, const(1 / c.attr, e.dtype))
        if mantissa == "0x1.0000000000000" and 2**-60 < abs(c.attr) < 2**60
        else None
    )


def _fold_scale(e: Expr) -> Expr | None:
    """(x * a) * b -> x * (a * b) where no step is rounded in another way: one of the two is a sign,
    both are powers of two that grow, or both are halves. Others differ beside overflow (2, 1/2), or
    where subnormal numbers are rounded twice (1/4, 1/2).
    """
    x, c = e.args
    if not (c.is_const and x.op == "mul" and x.args[1].is_const and e.dtype.kind == "f"):
        return None
    a, b = sorted((abs(c.attr), abs(x.args[1].attr)))
    exact = 1.0 in (a, b) or (a in _GROWING and b in _GROWING) or a == b == 0.5
    return call("mul", x.args[0], const(c.attr * x.args[1].attr, e.dtype)) if exact else None


_GROWING = frozenset(2.0**k for k in range(1, 5))


def _abs_twice(e: Expr) -> Expr | None:
    """|(|x|)| -> |x|, |-x| -> |x|."""
    x = e.args[0]
    return x if x.op == "abs" else call("abs", x.args[0]) if x.op == "neg" else None


def _cast_back(e: Expr) -> Expr | None:
    """A cast to a type that holds all values of the source, and back -> nothing. One to a narrower
    type stays: it rounds, and f16 overflows.
    """
    x = e.args[0]
    if x.op != "cast" or x.args[0].dtype != e.dtype:
        return None
    source = x.args[0]
    return source if holds(x.dtype, source.dtype) else None


def _not_equal(e: Expr) -> Expr | None:
    """not a == b -> a != b. Orderings keep their `not`: NaN makes a < b and b <= a both false."""
    x = e.args[0]
    opposite = RECORDS[x.op].opposite if x.op in RECORDS else None
    return compare(opposite, *x.args) if opposite is not None else None


def _select_not(e: Expr) -> Expr | None:
    """select(not c, a, b) -> select(c, b, a)."""
    c, a, b = e.args
    return select(c.args[0], b, a) if c.op == "not" else None


def _select_nested(e: Expr) -> Expr | None:
    """select(c, select(c, a, _), b) -> select(c, a, b), and the same on the other side."""
    c, a, b = e.args
    inner_a = a.args[1] if a.op == "select" and a.args[0] is c else a
    inner_b = b.args[2] if b.op == "select" and b.args[0] is c else b
    return select(c, inner_a, inner_b) if (inner_a, inner_b) != (a, b) else None


def _rsqrt(e: Expr) -> Expr | None:
    """1 / sqrt(x) -> rsqrt(x), which is defined as this."""
    one, root = e.args
    return call("rsqrt", root.args[0]) if _is(one, 1) and root.op == "sqrt" else None


def _cast_constant(e: Expr) -> Expr | None:
    """A cast of a constant integer -> a constant."""
    x = e.args[0]
    return cast(x, e.dtype) if x.is_const and x.dtype.kind in "iub" else None


_OWN: dict[str, tuple[Rule, ...]] = {
    "mul": (_fold_scale,),
    "div": (_div_by_power_of_two, _rsqrt),
    "abs": (_abs_twice,),
    "cast": (_cast_back, _cast_constant),
    "not": (_not_equal,),
    "select": (_select_not, _select_nested),
}
RULES: dict[str, tuple[Rule, ...]] = {
    name: (*_derived(op), *_OWN.get(name, ())) for name, op in RECORDS.items()
}
