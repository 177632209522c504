"""Floating-point formulas as Exprs: the few words in which ferrule.lower's mathematics is written.

A `Floats` is the arithmetic of one dtype, f32 or f64, on a target with or without fused
multiply-add. What needs more than 53 bits is the sum of two numbers of f64, the second within half
a unit in the last place of the first (Dekker, "A Floating-Point Technique for Extending the
Available Precision", 1971).

Bits are integers of the same width: signed for f32 (what vector units compare and shift), unsigned
for f64 (an i64 would be taken for an index).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ferrule.base.dtype import DType, f32, f64, i32, u64
from ferrule.ir.expr import Expr, bitcast, call, cast, compare, const, maximum, minimum, select

INF = math.inf
Pair = tuple[Expr, Expr]  # a number and what is left to a sum of more bits
_UPPER = -(1 << 27)  # all but the lower 27 bits


@dataclass(frozen=True)
class Floats:
    """Arithmetic in `dtype`; `has_fma` says that a fused multiply-add is one operation."""

    dtype: DType
    has_fma: bool = True

    @property
    def is_single(self) -> bool:
        return self.dtype == f32

    @property
    def mantissa(self) -> int:
        """Stored bits of the significand."""
        return 23 if self.is_single else 52

    @property
    def bias(self) -> int:
        """The exponent field of 1.0."""
        return 127 if self.is_single else 1023

    @property
    def integer(self) -> DType:
        """The type of the bits."""
        return i32 if self.is_single else u64

    def number(self, value: float) -> Expr:
        return const(value, self.dtype)

    def fma(self, a: Expr, b: Expr | float, c: Expr | float) -> Expr:
        """a*b + c, rounded once where the target can."""
        b = b if isinstance(b, Expr) else self.number(b)
        c = c if isinstance(c, Expr) else self.number(c)
        return call("fma", a, b, c) if self.has_fma else a * b + c

    def horner(self, x: Expr, coefficients: tuple[float, ...]) -> Expr:
        """The polynomial with these coefficients, the constant one first."""
        out = self.number(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            out = self.fma(out, x, c)
        return out

    def product(self, a: Expr, b: Expr | float) -> Pair:
        """(p, e) of f64 with a*b = p + e, p rounded to nearest, where neither overflows nor is
        subnormal. The product is written as fma(a, b, -0.0), which no later sum is fused with.
        Without fused operations the factors are cut in halves, whose products are exact.
        """
        b = b if isinstance(b, Expr) else self.number(b)
        if self.has_fma:
            p = self.fma(a, b, -0.0)
            return p, call("fma", a, b, -p)
        p = a * b
        (a1, a2), (b1, b2) = self.halves(a), self.halves(b)
        return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2

    def quotient(self, a: Pair, b: Pair) -> Pair:
        """a / b of two sums of two numbers of f64."""
        inverse = 1.0 / b[0]
        q = a[0] * inverse
        p, lost = self.product(q, b[0])
        rest = ((a[0] - p) - lost) + (a[1] - q * b[1])
        return q, rest * inverse

    def halves(self, x: Expr) -> Pair:
        """An f64 as the sum of its upper 26 bits and the rest."""
        upper = self.value(call("and", self.bits(x), self.mask(_UPPER)))
        return upper, x - upper

    def bits(self, x: Expr) -> Expr:
        return bitcast(x, self.integer)

    def is_negative(self, x: Expr) -> Expr:
        """Whether the sign bit is set, of -0.0 and NaN too."""
        if self.is_single:
            return compare("lt", self.bits(x), const(0, i32))
        return compare("ge", self.bits(x), const(1 << 63, u64))

    def value(self, bits: Expr) -> Expr:
        """The float with these bits."""
        return bitcast(bits, self.dtype)

    def mask(self, bits: int) -> Expr:
        return const(bits, self.integer)

    def power_of_two(self, biased: Expr) -> Expr:
        """2^(n - bias), where the low bits of the integer `biased` hold n >= 0; 0 where n is 0."""
        return self.value(call("shl", biased, self.mask(self.mantissa)))

    def widened(self) -> Floats:
        """The same on f64."""
        return Floats(f64, self.has_fma)


def ordered_sum(a: Expr, b: Expr) -> Pair:
    """(s, e) with a + b = s + e, s rounded to nearest, where |a| >= |b| or a is 0."""
    s = a + b
    return s, b - (s - a)


def absolute(x: Expr) -> Expr:
    return call("abs", x)


def copysign(size: Expr, sign: Expr) -> Expr:
    return call("copysign", size, sign)


def clamp(x: Expr, low: float | None = None, high: float | None = None) -> Expr:
    """x within [low, high]; NaN stays NaN."""
    if high is not None:
        x = minimum(x, const(high, x.dtype))
    if low is not None:
        x = maximum(x, const(low, x.dtype))
    return x


def below(a: Expr, b: Expr | float) -> Expr:
    """a < b."""
    return compare("lt", a, b if isinstance(b, Expr) else const(b, a.dtype))


def above(a: Expr, b: Expr | float) -> Expr:
    """a > b."""
    return compare("gt", a, b if isinstance(b, Expr) else const(b, a.dtype))


def same(a: Expr, b: Expr | float) -> Expr:
    return compare("eq", a, b if isinstance(b, Expr) else const(b, a.dtype))


def choose(*cases: tuple[Expr, Expr | float] | Expr) -> Expr:
    """choose((c1, a1), (c2, a2), .., b): the first value whose condition holds, else the last."""
    out = cases[-1]
    assert isinstance(out, Expr)
    for case in reversed(cases[:-1]):
        assert isinstance(case, tuple)
        condition, value = case
        out = select(
            condition, value if isinstance(value, Expr) else const(value, out.dtype), out
        )
    return out


def narrowed(x: Expr) -> Expr:
    """An f64 as f32."""
    return cast(x, f32)


def finite(x: Expr, y: Expr) -> Expr:
    """y, or NaN where x is infinite or NaN."""
    return select(below(absolute(x), math.inf), y, const(math.nan, y.dtype))
