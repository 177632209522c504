"""NumPy's functions of elements that are no ufuncs: clip, round, closeness, and their like."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.frontend.numpy.array import (
    FUNCTIONS,
    REFUSED,
    Operand,
    Traced,
    call_ufunc,
    common_dtype,
    numpy_function,
    tape_of,
    traced,
)
from ferrule.ir.simplify import equal


@numpy_function("clip")
def _clip(
    a: Operand, a_min: Operand = None, a_max: Operand = None, *, min: Operand = None,
    max: Operand = None,
) -> Traced:  # fmt: skip
    low = a_min if min is None else min
    high = a_max if max is None else max
    out = traced(tape_of(a, low, high), a)
    given = [v for v in (low, high) if v is not None]
    kind = common_dtype(out, *given)
    out = out.wrap(out.tape.lift(out, kind))
    if low is not None:
        out = call_ufunc(np.maximum, (out, low))
    if high is not None:
        out = call_ufunc(np.minimum, (out, high))
    return out


@numpy_function("round", "around")
def _round(a: Traced, decimals: int = 0) -> Traced:
    if a.dtype.kind != "f" and decimals >= 0:
        return a.astype(np.float16 if a.dtype.kind == "b" else a.dtype)
    if decimals == 0:
        out: Traced = call_ufunc(np.rint, (a,))
        return out
    wide: Any = a.astype(np.float64) if a.dtype.kind != "f" else a
    scale = 10.0 ** abs(decimals)
    scaled: Any = np.rint(wide * scale) / scale if decimals > 0 else np.rint(wide / scale) * scale
    near: Traced = scaled.astype(a.dtype)
    return near


@numpy_function("fix")
def _fix(x: Traced) -> Traced:
    out: Traced = call_ufunc(np.trunc, (x,))
    return out


@numpy_function("nan_to_num")
def _nan_to_num(
    x: Traced, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> Traced:
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    top = float(limits.max) if posinf is None else posinf
    bottom = float(limits.min) if neginf is None else neginf
    a: Any = x
    where = FUNCTIONS["where"]
    out: Traced = where(a == np.inf, top, where(a == -np.inf, bottom, where(a != a, nan, a)))
    return out


@numpy_function("isposinf")
def _isposinf(x: Any) -> Traced:
    out: Traced = x == np.inf
    return out


@numpy_function("isneginf")
def _isneginf(x: Any) -> Traced:
    out: Traced = x == -np.inf
    return out


@numpy_function("sinc")
def _sinc(x: Any) -> Traced:
    at = x * np.pi
    safe = FUNCTIONS["where"](at == 0, 1.0, at)
    out: Traced = FUNCTIONS["where"](at == 0, 1.0, np.sin(safe) / safe)
    return out


@numpy_function("real")
def _real(val: Traced) -> Traced:
    return val


@numpy_function("imag")
def _imag(val: Traced) -> Traced:
    out: Traced = FUNCTIONS["zeros_like"](val)
    return out


@numpy_function("isreal")
def _isreal(x: Traced) -> Traced:
    out: Traced = FUNCTIONS["ones_like"](x, np.bool_)
    return out


# ---- closeness -----------------------------------------------------------------------------------


@numpy_function("isclose")
def isclose(
    a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Traced:
    tape = tape_of(a, b)
    x, y = (traced(tape, v) for v in (a, b))
    kind = common_dtype(x, y, 1.0)
    left: Any = tape.wrap(tape.lift(x, kind))
    right: Any = tape.wrap(tape.lift(y, kind))
    near = (np.abs(left - right) <= atol + rtol * np.abs(right)) & np.isfinite(right)
    near = near | (left == right)
    out: Traced = near | ((left != left) & (right != right)) if equal_nan else near
    return out


@numpy_function("allclose")
def _allclose(
    a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Traced:
    out: Traced = FUNCTIONS["all"](isclose(a, b, rtol, atol, equal_nan))
    return out


@numpy_function("array_equal")
def _array_equal(a1: Operand, a2: Operand) -> Any:
    tape = tape_of(a1, a2)
    x, y = (traced(tape, v) for v in (a1, a2))
    if x.ndim != y.ndim or not all(map(equal, x.value.shape, y.value.shape)):
        return False
    return FUNCTIONS["all"](call_ufunc(np.equal, (x, y)))


# ---- calculus on samples -------------------------------------------------------------------------


@numpy_function("trapezoid")
def _trapezoid(y: Operand, x: Operand = None, dx: float = 1.0, axis: int = -1) -> Traced:
    tape = tape_of(y, x)
    last = FUNCTIONS["moveaxis"](traced(tape, y), axis, -1)
    width: Any = dx
    if x is not None:
        given = traced(tape, x)
        width = FUNCTIONS["diff"](
            given if given.ndim == 1 else FUNCTIONS["moveaxis"](given, axis, -1)
        )
    out: Traced = FUNCTIONS["sum"]((last[..., 1:] + last[..., :-1]) * width / 2.0, -1)
    return out


@numpy_function("polyval")
def _polyval(p: Operand, x: Operand) -> Traced:
    """Horner's scheme, from the highest power."""
    tape = tape_of(p, x)
    coefficients = traced(tape, p)
    at: Any = traced(tape, x)
    sum_: Any = FUNCTIONS["zeros_like"](at)
    for c in coefficients:
        sum_ = sum_ * at + c
    out: Traced = sum_
    return out


_TRANSFORMS = "fft ifft rfft irfft fft2 ifft2 fftn ifftn rfft2 irfft2 hfft ihfft"
_TEXT = "save savez savetxt array2string array_repr array_str"
REFUSED.update({f"fft.{name}": "ferrule has no Fourier transform" for name in _TRANSFORMS.split()})
REFUSED.update(
    dict.fromkeys(_TEXT.split(), "a traced array has no values; return it and write it outside")
)
REFUSED.update(
    dict.fromkeys(("may_share_memory", "shares_memory"), "memory is planned after tracing")
)
