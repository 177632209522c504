"""Mathematics as arithmetic: transcendental operators rewritten into what vector units do.

    lower_math(e)      every operator of RULES in `e` replaced by its formula

In f32 the results are within 2 ulp for the exponentials and logarithms and 4 ulp for the others, in
f64 within 2 ulp but for acosh (2.5), sigmoid, normal_cdf (3), erfinv (4), and lgamma and digamma,
which are as near as their terms: subnormal arguments and results, infinities, NaN and signed zeros
included. f16 and bf16 are computed in f32.

What a formula is made of: add sub mul div fma neg abs sqrt copysign min max floor, comparisons,
select, casts and bitcasts, and integer add sub mul shl shr and or xor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ferrule.base.dtype import f32, f64
from ferrule.ir.calls import Functions
from ferrule.ir.expr import Expr, cast, rewrite
from ferrule.ir.loop import map_stmts
from ferrule.ir.system import Monoid
from ferrule.lower.math import exp as math_exp
from ferrule.lower.math import gamma as math_gamma
from ferrule.lower.math import log as math_log
from ferrule.lower.math import special as math_special
from ferrule.lower.math import trig as math_trig
from ferrule.lower.math.floats import Floats

Rule = Callable[..., Expr]

RULES: dict[str, Rule] = {
    name: getattr(module, name)
    for module, names in (
        (math_exp, "exp exp_nonpositive exp2 expm1 sigmoid tanh sinh cosh"),
        (math_log, "log log2 log10 log1p asinh acosh atanh"),
        (math_trig, "sin cos tan asin acos atan atan2"),
        (math_special, "erf erfc erfinv normal_cdf pow hypot rsqrt nextafter"),
        (math_gamma, "lgamma digamma"),
    )
    for name in names.split()
}


def expand(level: Functions, target_has_fma: bool) -> Functions:
    """`level` with every such operator written out, in what stores combine by too."""

    def lowered(e: Expr) -> Expr:
        return lower_math(e, target_has_fma)

    def folded(monoid: Monoid) -> Monoid:
        combine = tuple(map(lowered, monoid.combine))
        return monoid if combine == monoid.combine else replace(monoid, combine=combine)

    functions = (replace(f, body=map_stmts(f.body, lowered, folded)) for f in level.functions)
    return replace(level, functions=tuple(functions))


def lower_math(e: Expr, target_has_fma: bool = True) -> Expr:
    """`e` without the operators of RULES."""
    key = ("math", target_has_fma)
    found = e.memo.get(key)
    if found is None:
        found = rewrite(e, lambda node: _lowered(node, target_has_fma))
        e.memo[key] = found
    return found


def _lowered(node: Expr, has_fma: bool) -> Expr | None:
    rule = RULES.get(node.op)
    if rule is None or not node.dtype.is_float:
        return None
    if node.dtype.bits == 16:
        return cast(rule(Floats(f32, has_fma), *(cast(a, f32) for a in node.args)), node.dtype)
    return rule(Floats(f64 if node.dtype == f64 else f32, has_fma), *node.args)
