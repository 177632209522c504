"""Complex numbers: formulas on real and imaginary parts.

Sources: W. Kahan, "Branch Cuts for Complex Elementary Functions" (1987), for roots and the inverse
functions; R. L. Smith, "Algorithm 116: Complex division" (1962).
"""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.dtype import f64
from ferrule.frontend.stablehlo.table import Complex, Context, of_complex
from ferrule.ir.graph import GraphBuilder, Value


class Real:
    """A real tensor with operators, so that formulas read as formulas."""

    def __init__(self, b: GraphBuilder, v: Value) -> None:
        self.b, self.v = b, v

    def _with(self, fn: Any, *others: Any) -> Real:
        given = (o.v if isinstance(o, Real) else o for o in others)
        return Real(self.b, fn(self.b, self.v, *given))

    def __add__(self, o: Real | float) -> Real:
        return self._with(ops.add, o)

    def __sub__(self, o: Real | float) -> Real:
        return self._with(ops.sub, o)

    def __mul__(self, o: Real | float) -> Real:
        return self._with(ops.mul, o)

    def __truediv__(self, o: Real | float) -> Real:
        return self._with(ops.div, o)

    def __neg__(self) -> Real:
        return self._with(ops.neg)

    def __getattr__(self, name: str) -> Any:
        """Any operator of `ops` on this tensor, such as `x.exp()` or `y.atan2(x)`."""
        fn = getattr(ops, name)
        return lambda *others: self._with(fn, *others)


Pair = tuple[Real, Real]


def pair(b: GraphBuilder, z: Any) -> Pair:
    """The parts of a number; a real one's imaginary part is 0."""
    if isinstance(z, Complex):
        return Real(b, z.real), Real(b, z.imag)
    return Real(b, z), Real(b, ops.full(b, z.shape, 0, z.dtype))


def whole(z: Pair) -> Complex:
    return Complex(z[0].v, z[1].v)


def where(c: Real, x: Real | float, y: Real | float) -> Real:
    return c.select(x, y)


def conj(z: Pair) -> Pair:
    return z[0], -z[1]


def times_i(z: Pair) -> Pair:
    return -z[1], z[0]


def over_i(z: Pair) -> Pair:
    return z[1], -z[0]


def add(z: Pair, w: Pair) -> Pair:
    return z[0] + w[0], z[1] + w[1]


def subtract(z: Pair, w: Pair) -> Pair:
    return z[0] - w[0], z[1] - w[1]


def multiply(z: Pair, w: Pair) -> Pair:
    (a, b), (c, d) = z, w
    return a * c - b * d, a * d + b * c


def divide(z: Pair, w: Pair) -> Pair:
    """By Smith: the larger part of the divisor is divided out first. Division by 0 is that of each
    part.
    """
    (a, b), (c, d) = z, w
    first = c.abs().ge(d.abs())
    large, small = where(first, c, d), where(first, d, c)
    ratio = small / large
    below = large + small * ratio
    real = where(first, a + b * ratio, a * ratio + b) / below
    imag = where(first, b - a * ratio, b * ratio - a) / below
    nothing = c.eq(0.0).logical_and(d.eq(0.0))
    infinite = c.isinf().logical_or(d.isinf()).logical_and(a.isfinite()).logical_and(b.isfinite())
    real, imag = where(infinite, 0.0, real), where(infinite, 0.0, imag)
    return where(nothing, a / c.abs(), real), where(nothing, b / c.abs(), imag)


def size(z: Pair) -> Real:
    return z[0].hypot(z[1])


def exp(z: Pair) -> Pair:
    a, b = z
    grown = a.exp()
    real, plain = b.eq(0.0), a.eq(float("-inf"))
    imag = where(real, b, grown * b.sin())
    return where(plain, 0.0, grown * b.cos()), where(plain, 0.0, imag)


def expm1(z: Pair) -> Pair:
    a, b = z
    half = (b * 0.5).sin()
    return a.expm1() * b.cos() - half * half * 2.0, a.exp() * b.sin()


def log(z: Pair) -> Pair:
    """log|z| near 1 from what |z|^2 is above 1, which is exact there."""
    a, b = z
    large, small = a.abs().max(b.abs()), a.abs().min(b.abs())
    above = (large - 1.0) * (large + 1.0) + small * small
    near = above.abs().lt(0.5)
    return where(near, above.log1p() * 0.5, size(z).log()), b.atan2(a)


def log1p(z: Pair) -> Pair:
    a, b = z
    above = a * (a + 2.0) + b * b
    near = above.abs().lt(0.5)
    return where(near, above.log1p() * 0.5, size((a + 1.0, b)).log()), b.atan2(a + 1.0)


def sqrt(z: Pair) -> Pair:
    """Of parts scaled by a power of 2 where their size would overflow or lose digits."""
    a, b = z
    wide = a.v.dtype == f64
    huge, tiny = (2.0**1020, 2.0**-1000) if wide else (2.0**124, 2.0**-100)
    largest = a.abs().max(b.abs())
    big, little = largest.gt(huge), largest.lt(tiny)
    up = where(big, 0.0625, where(little, 2.0**60, largest * 0.0 + 1.0))
    down = where(big, 4.0, where(little, 2.0**-30, largest * 0.0 + 1.0))
    down = where(down.isnan(), 1.0, down)
    up = where(up.isnan(), 1.0, up)
    x, y = a * up, b * up
    t = ((x.abs() + x.hypot(y)) * 0.5).sqrt()
    other = where(t.eq(0.0), y.abs(), y.abs() / (t * 2.0))
    right = x.ge(0.0)
    real, imag = where(right, t, other) * down, (where(right, other, t) * down).copysign(b)
    infinite = b.isinf()
    return where(infinite, float("inf"), real), where(infinite, b, imag)


def rsqrt(z: Pair) -> Pair:
    one = z[0] * 0.0 + 1.0
    return divide((where(one.isnan(), 1.0, one), z[1] * 0.0), sqrt(z))


def sin(z: Pair) -> Pair:
    a, b = z
    return a.sin() * b.cosh(), a.cos() * b.sinh()


def cos(z: Pair) -> Pair:
    a, b = z
    return a.cos() * b.cosh(), -(a.sin() * b.sinh())


def sinh(z: Pair) -> Pair:
    return over_i(sin(times_i(z)))


def cosh(z: Pair) -> Pair:
    return cos(times_i(z))


def tanh(z: Pair) -> Pair:
    """By Kahan: in terms of tan b and sinh a; 1 and a decaying part where sinh a overflows."""
    a, b = z
    far = a.abs().gt(20.0 if a.v.dtype == f64 else 10.0)
    near = where(far, 1.0, a)
    t, s = b.tan(), near.sinh()
    beta = t * t + 1.0
    below = beta * s * s + 1.0
    real = beta * (s * s + 1.0).sqrt() * s / below
    decayed = b.sin() * b.cos() * 4.0 * (a.abs() * -2.0).exp()
    real = where(t.isinf(), (s * s + 1.0).sqrt() / s, real)
    imag = where(t.isinf(), 0.0, t / below)
    one = (a * 0.0 + 1.0).copysign(a)
    return where(far, where(one.isnan(), 1.0, one).copysign(a), real), where(far, decayed, imag)


def tan(z: Pair) -> Pair:
    return over_i(tanh(times_i(z)))


def _roots(z: Pair) -> tuple[Pair, Pair]:
    """The roots of 1 - z and 1 + z."""
    a, b = z
    return sqrt((-a + 1.0, -b)), sqrt((a + 1.0, b))


def asin(z: Pair) -> Pair:
    less, more = _roots(z)
    real = z[0].atan2(multiply(less, more)[0])
    return real, multiply(conj(less), more)[1].asinh()


def acos(z: Pair) -> Pair:
    less, more = _roots(z)
    return less[0].atan2(more[0]) * 2.0, multiply(conj(more), less)[1].asinh()


def acosh(z: Pair) -> Pair:
    a, b = z
    less, more = sqrt((a - 1.0, b)), sqrt((a + 1.0, b))
    return multiply(conj(less), more)[0].asinh(), less[1].atan2(more[0]) * 2.0


def asinh(z: Pair) -> Pair:
    return over_i(asin(times_i(z)))


def atanh(z: Pair) -> Pair:
    a, b = z
    less = -a + 1.0
    real = (a * 4.0 / (less * less + b * b)).log1p() * 0.25
    return real, (b * 2.0).atan2(less * (a + 1.0) - b * b) * 0.5


def atan(z: Pair) -> Pair:
    return over_i(atanh(times_i(z)))


def sign(z: Pair) -> Pair:
    n = size(z)
    nothing = n.eq(0.0)
    return where(nothing, z[0], z[0] / n), where(nothing, z[1], z[1] / n)


def logistic(z: Pair) -> Pair:
    a, b = z
    grown = exp((-a, -b))
    below = grown[0] + 1.0, grown[1]
    one = a * 0.0 + 1.0
    return divide((where(one.isnan(), 1.0, one), b * 0.0), below)


def cbrt(z: Pair) -> Pair:
    """The root whose angle is a third of the number's."""
    size_, angle = size(z).cbrt(), z[1].atan2(z[0]) / 3.0
    return size_ * angle.cos(), size_ * angle.sin()


def atan2(z: Pair, w: Pair) -> Pair:
    """-i log((w + i z) / sqrt(w^2 + z^2))."""
    squares = add(multiply(w, w), multiply(z, z))
    return over_i(log(divide(add(w, times_i(z)), sqrt(squares))))


def power(z: Pair, w: Pair) -> Pair:
    """exp(w log z), of f32 in f64, since the angle may be many turns; 0 to the power 0 is 1, to any
    other 0.
    """
    dtype = z[0].v.dtype
    base, by = ((a.cast(f64), b.cast(f64)) for a, b in (z, w))
    real, imag = exp(multiply(by, log(base)))
    found = real.cast(dtype), imag.cast(dtype)
    nothing = size(z).eq(0.0)
    none = w[0].eq(0.0).logical_and(w[1].eq(0.0))
    real = where(nothing, where(none, 1.0, z[0] * 0.0), found[0])
    return real, where(nothing, 0.0, found[1])


_UNARY = {
    "stablehlo.cbrt": cbrt, "stablehlo.cosine": cos, "stablehlo.exponential": exp,
    "stablehlo.exponential_minus_one": expm1, "stablehlo.log": log,
    "stablehlo.log_plus_one": log1p, "stablehlo.logistic": logistic,
    "stablehlo.rsqrt": rsqrt, "stablehlo.sign": sign, "stablehlo.sine": sin,
    "stablehlo.sqrt": sqrt, "stablehlo.tan": tan, "stablehlo.tanh": tanh,
    "stablehlo.negate": lambda z: (-z[0], -z[1]),
    "chlo.acos": acos, "chlo.acosh": acosh, "chlo.asin": asin, "chlo.asinh": asinh,
    "chlo.atan": atan, "chlo.atanh": atanh, "chlo.conj": conj, "chlo.cosh": cosh,
    "chlo.sinh": sinh, "chlo.square": lambda z: multiply(z, z), "chlo.tan": tan,
}  # fmt: skip
_BINARY = {"add": add, "subtract": subtract, "multiply": multiply, "divide": divide,
           "power": power, "atan2": atan2}  # fmt: skip


def _register() -> None:
    for name, one in _UNARY.items():
        of_complex(name)(lambda cx, z, fn=one: whole(fn(pair(cx.b, z))))
    for name, two in _BINARY.items():
        of_complex(f"stablehlo.{name}", f"chlo.broadcast_{name}")(
            lambda cx, z, w, fn=two: whole(fn(pair(cx.b, z), pair(cx.b, w)))
        )


_register()


@of_complex("stablehlo.abs")
def _abs(cx: Context, z: Any) -> Value:
    return size(pair(cx.b, z)).v


@of_complex("stablehlo.is_finite")
def _is_finite(cx: Context, z: Any) -> Value:
    a, b = pair(cx.b, z)
    return a.isfinite().logical_and(b.isfinite()).v


@of_complex("stablehlo.compare", "chlo.broadcast_compare")
def _compare(cx: Context, z: Any, w: Any) -> Value:
    (a, b), (c, d) = pair(cx.b, z), pair(cx.b, w)
    if cx.attr("comparison_direction") == "NE":
        return a.ne(c).logical_or(b.ne(d)).v
    return a.eq(c).logical_and(b.eq(d)).v


def _before(z: Pair, w: Pair) -> Real:
    """Whether `z` comes before `w`, by the real parts and then by the imaginary ones."""
    same = z[0].eq(w[0]).logical_and(z[1].lt(w[1]))
    return z[0].lt(w[0]).logical_or(same)


@of_complex("stablehlo.maximum", "chlo.broadcast_maximum")
def _maximum(cx: Context, z: Any, w: Any) -> Complex:
    x, y = pair(cx.b, z), pair(cx.b, w)
    first = _before(y, x)
    return whole((where(first, x[0], y[0]), where(first, x[1], y[1])))


@of_complex("stablehlo.minimum", "chlo.broadcast_minimum")
def _minimum(cx: Context, z: Any, w: Any) -> Complex:
    x, y = pair(cx.b, z), pair(cx.b, w)
    first = _before(x, y)
    return whole((where(first, x[0], y[0]), where(first, x[1], y[1])))
