"""The remainder of floats, exact, as C's fmod: a function of the module, called for each lane.

With x = X * 2^e and y = Y * 2^f, X and Y integers of 53 bits, it is (X * 2^(e-f) mod Y) * 2^f: a
long division, 11 bits a step, which is what a word has left beside a remainder of 53 bits. The
number of steps depends on the operands, so it is a loop, which Expr has not.
"""

from __future__ import annotations

from ferrule.codegen.llvm.builder import Builder, Val

_NAME = "ferrule.rem"


def _normalized(v: str) -> str:
    """The integer %{v}m of 53 bits and the exponent %{v}e of the number with the bits %a{v}."""
    return f"""\
  %{v}z = call i64 @llvm.ctlz.i64(i64 %a{v}, i1 true)
  %{v}many = icmp ugt i64 %{v}z, 11
  %{v}few = select i1 %{v}many, i64 %{v}z, i64 11
  %{v}s = sub i64 %{v}few, 11
  %{v}field = lshr i64 %a{v}, 52
  %{v}tiny = icmp eq i64 %{v}field, 0
  %{v}low = and i64 %a{v}, 4503599627370495
  %{v}one = or i64 %{v}low, 4503599627370496
  %{v}small = shl i64 %a{v}, %{v}s
  %{v}down = sub i64 1, %{v}s
  %{v}m = select i1 %{v}tiny, i64 %{v}small, i64 %{v}one
  %{v}e = select i1 %{v}tiny, i64 %{v}down, i64 %{v}field
"""


_DEFINITION = f"""\
define internal double @{_NAME}(double %x, double %y) #1 {{
  %xb = bitcast double %x to i64
  %yb = bitcast double %y to i64
  %ax = and i64 %xb, 9223372036854775807
  %ay = and i64 %yb, 9223372036854775807
  %sign = xor i64 %xb, %ax
  %no.x = icmp uge i64 %ax, 9218868437227405312
  %no.y = icmp ugt i64 %ay, 9218868437227405312
  %zero.y = icmp eq i64 %ay, 0
  %no = or i1 %no.x, %no.y
  %none = or i1 %no, %zero.y
  br i1 %none, label %undefined, label %numbers
undefined:
  %p = fmul double %x, %y
  %nan = fdiv double %p, %p
  ret double %nan
numbers:
  %less = icmp ult i64 %ax, %ay
  br i1 %less, label %same, label %divide
same:
  ret double %x
divide:
{_normalized("x")}{_normalized("y")}  %n = sub i64 %xe, %ye
  %first = urem i64 %xm, %ym
  br label %loop
loop:
  %r = phi i64 [ %first, %divide ], [ %next, %step ]
  %left = phi i64 [ %n, %divide ], [ %after, %step ]
  %more = icmp sgt i64 %left, 0
  br i1 %more, label %step, label %done
step:
  %few = icmp slt i64 %left, 11
  %by = select i1 %few, i64 %left, i64 11
  %wide = shl i64 %r, %by
  %next = urem i64 %wide, %ym
  %after = sub i64 %left, %by
  br label %loop
done:
  %nothing = icmp eq i64 %r, 0
  br i1 %nothing, label %empty, label %pack
empty:
  %z = bitcast i64 %sign to double
  ret double %z
pack:
  %zeros = call i64 @llvm.ctlz.i64(i64 %r, i1 true)
  %up = sub i64 %zeros, 11
  %e = sub i64 %ye, %up
  %m = shl i64 %r, %up
  %normal = icmp sgt i64 %e, 0
  %down = sub i64 1, %e
  %shift = select i1 %normal, i64 0, i64 %down
  %field = select i1 %normal, i64 %e, i64 0
  %fraction = lshr i64 %m, %shift
  %cut = and i64 %fraction, 4503599627370495
  %high = shl i64 %field, 52
  %size = or i64 %high, %cut
  %bits = or i64 %size, %sign
  %out = bitcast i64 %bits to double
  ret double %out
}}
"""

def remainder(b: Builder, x: Val, y: Val) -> Val:
    """x - y * trunc(x / y) of f32 or f64, with the sign of x; NaN for an infinite x and for y = 0.
    That of f32 is computed in f64, where it is the same.
    """
    (x, y), width, level = b.even(x, y)
    b.declare("llvm.ctlz.i64", "i64", "i64, i1")
    b.declares[_NAME] = _DEFINITION
    single = x.type == "float"
    if single:
        x, y = b.convert("fpext", x, "double"), b.convert("fpext", y, "double")

    def lane(k: int) -> Val:
        operands = ", ".join(f"double {b.extract(v, k).text}" for v in (x, y))
        return b.pure(f"call double @{_NAME}({operands}) #1", "double", 0, level)

    out = b.gather([lane(k) for k in range(width)]) if width else lane(0)
    return b.convert("fptrunc", out, "float") if single else out
