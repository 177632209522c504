"""Products and convolutions of quantised operands, (x - a) * (w - b) summed in i32.

Where the machine has dot products of bytes and the weights are known to be bytes, zero points are
taken out of the sum, so that it is one of bytes:

    D(x - a, w - b) = D(x, v) + c * D(x, 1) - a * D(1, w - b)

with D the matrix product, or the convolution with what lies outside of x left out; v = w and c = -b
where w is signed, v = w - 128 and c = 128 - b where it is unsigned; and x, if it is signed, raised
by 128 like its zero point. The second term is left out where c is known to be 0 (weights quantised
symmetrically). Else the operands are centred first: in f32, whose products are faster, where all
sums are exact in it, or in i32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ferrule import ops
from ferrule.base import config
from ferrule.base.dtype import DType, f32, i8, i32, u8
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.nn import conv
from ferrule.frontend.onnx.table import Context
from ferrule.ir.expr import ONE, Expr
from ferrule.ir.graph import Value
from ferrule.target import cpu as target

_EXACT = 1 << 24  # integers below are floats
_SPAN = 255  # the largest distance of 8-bit numbers
_MIDDLE = 128  # what signed bytes are raised by to be unsigned
_BYTES = 4  # products of them that are summed at once
_FEW_TERMS = 3  # fewest of a sum that are worth filling up to four
_FEW_COLUMNS = 8  # of a result, which leave most of a vector empty


@dataclass(frozen=True)
class Operand:
    """A quantised operand: its integers and their zero point (None: 0), one for all or one for each
    slice of an axis; `known` and `known_zero` are their values where they are known.
    """

    value: Value
    zero: Value | None
    known: Array | None
    known_zero: Array | None

    @property
    def rank(self) -> int:
        return self.value.rank

    def turned(self, cx: Context) -> Operand:
        """A matrix's transposition."""
        known = None if self.known is None else self.known.T
        return replace(self, value=ops.transpose(cx.b, self.value, (1, 0)), known=known)

    def zero_along(self, cx: Context, axis: int, dtype: DType = i32) -> Value | None:
        """The zero point as it is subtracted where it may be one for each slice of `axis`."""
        if self.zero is None:
            return None
        wide = ops.cast(cx.b, self.zero, dtype)
        if wide.rank != 1:
            return wide
        several = [ONE] * self.rank
        several[axis] = wide.shape[0]
        return ops.reshape(cx.b, wide, () if wide.shape[0] is ONE else several)

    def centred(self, cx: Context, axis: int, dtype: DType = i32) -> Value:
        """The integers less their zero point."""
        wide, low = ops.cast(cx.b, self.value, dtype), self.zero_along(cx, axis, dtype)
        return wide if low is None else ops.sub(cx.b, wide, low)


def operand(
    cx: Context, value: Value, zero: Value | None, at: int = -1, zero_at: int = -1
) -> Operand:
    """An operand that the node has at `at`, with the zero point at `zero_at`."""
    zeros = np.zeros((), np.int64) if zero is None else cx.known.get(zero_at)
    return Operand(value, zero, cx.known.get(at), None if zeros is None else zeros.astype(np.int64))


def matmul(cx: Context, x: Operand, w: Operand) -> Value:
    """The i32 products of matrices less their zero points: one a row of x, one a column of w."""
    b, row, column = cx.b, max(x.rank - 2, 0), w.rank - 1

    def sums(one: Value, other: Value) -> Value:
        return ops.matmul(b, one, other)

    if w.rank != 2 or x.rank < 2 or not in_bytes(w, w.value.shape[0], column):
        dtype = _sum_dtype(w, -1) if w.rank == 2 else i32
        return ops.cast(b, sums(x.centred(cx, row, dtype), w.centred(cx, column, dtype)), i32)

    def beside(rows: Value) -> Value:
        return ops.reduce_sum(b, rows, (x.rank - 1,), True)

    def below(columns: Value) -> Value:
        return ops.reduce_sum(b, columns, (0,))

    return _sum_of_bytes(cx, _Form(sums, beside, below, row, column, x.rank - 1, 0), x, w)


def prepared(cx: Context, w: Operand) -> Operand:
    """Weights of `matmul` with what can be done before it, for products in a loop: their zero point
    is taken out where the operands are centred.
    """
    column = w.rank - 1
    if in_bytes(w, w.value.shape[0], column):
        return w
    return replace(w, value=w.centred(cx, column, _sum_dtype(w, -1)), zero=None)


def convolution(cx: Context, x: Operand, w: Operand) -> Value:
    """The i32 convolution of operands less their zero points, w's one an output channel."""
    b, shape = cx.b, w.value.shape

    def sums(one: Value, other: Value) -> Value:
        return conv(cx, one, other)

    if cx.int("group", 1) != 1 or not in_bytes(w, shape[1], 0):
        dtype = _sum_dtype(w, 0)
        left, right = x.centred(cx, 1, dtype), w.centred(cx, 0, dtype)
        return ops.cast(b, conv(cx, left, right, exact=dtype is f32), i32)

    def beside(pixels: Value) -> Value:
        window = ops.full(b, (1, 1, *shape[2:]), 1, i32)
        return sums(ops.reduce_sum(b, pixels, (1,), True), window)

    def below(weights: Value) -> Value:
        if _pads(cx):
            plain = ops.full(b, (1, 1, *x.value.shape[2:]), 1, i32)
            return sums(plain, ops.reduce_sum(b, weights, (1,), True))
        each = ops.reduce_sum(b, weights, tuple(range(1, w.rank)))
        return ops.reshape(b, each, (shape[0], *(1,) * (w.rank - 2)))

    return _sum_of_bytes(cx, _Form(sums, beside, below, 1, 0, 1, 1), x, w)


def _pads(cx: Context) -> bool:
    """Whether a convolution's windows may reach out of its input."""
    auto = cx.text("auto_pad", "NOTSET")
    return auto not in ("NOTSET", "VALID", "") or any(cx.ints("pads", (0,)))


def _sum_dtype(w: Operand, axis: int) -> DType:
    """f32, whose products are faster, where all sums of products of 8-bit operands are exact in it:
    the weights are known and small enough. Else i32. `axis` is the weights' own of the results.
    """
    known, zero = w.known, w.known_zero
    if known is None or zero is None or known.dtype.itemsize != 1 or zero.ndim > 1:
        return i32
    own = np.moveaxis(known.astype(np.int64), axis, -1) - zero
    largest = np.abs(own).sum(tuple(range(own.ndim - 1))).max(initial=0) * _SPAN
    return f32 if largest < _EXACT else i32


# ---- sums of bytes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Form:
    """A way to sum products: D(x, w), D(x, 1) and D(1, w); along which axis of x there may be
    several zero points, and along which of w; and which axes of both are summed over.
    """

    sums: Callable[[Value, Value], Value]
    beside: Callable[[Value], Value]
    below: Callable[[Value], Value]
    x_axis: int
    w_axis: int
    x_terms: int
    w_terms: int


def in_bytes(w: Operand, terms: Expr, axis: int) -> bool:
    """Whether dot products of bytes suit this machine and so many terms, w's `axis` being the
    columns'.
    """
    columns = w.value.shape[axis]
    few = columns.is_const and columns.value < _FEW_COLUMNS
    fits = terms.is_const and (terms.value % _BYTES == 0 or terms.value >= _FEW_TERMS)
    known = w.known is not None and w.known.dtype.itemsize == 1
    return known and fits and not few and target.named(config.get("target")).has_dot4


def _sum_of_bytes(cx: Context, form: _Form, x: Operand, w: Operand) -> Value:
    """The sum with zero points taken out of it."""
    b, raised = cx.b, _MIDDLE if w.value.dtype == u8 else 0
    x, signed = _unsigned(cx, x), w.value
    if raised:
        signed = ops.cast(b, ops.sub(b, ops.cast(b, signed, i32), raised), i8)
    wide = ops.cast(b, x.value, i32)
    total = form.sums(
        ops.cast(b, _in_fours(cx, x.value, form.x_terms), i32),
        ops.cast(b, _in_fours(cx, signed, form.w_terms), i32),
    )
    if w.known_zero is None or (w.known_zero != raised).any():
        shift = ops.full(b, (), raised, i32)
        if (zero := w.zero_along(cx, form.w_axis)) is not None:
            if zero.rank and not form.w_axis:  # one a channel, which is the result's second axis
                zero = ops.reshape(b, zero, zero.shape[:-1])
            shift = ops.sub(b, shift, zero)
        total = ops.add(b, total, ops.mul(b, form.beside(wide), shift))
    low = x.zero_along(cx, form.x_axis)
    if low is None or (x.known_zero is not None and not x.known_zero.any()):
        return total
    return ops.sub(b, total, ops.mul(b, form.below(w.centred(cx, form.w_axis)), low))


def _in_fours(cx: Context, x: Value, axis: int) -> Value:
    """x with zeros behind the end of an axis, up to a multiple of 4."""
    rest = -int(x.shape[axis].value) % _BYTES
    high = [rest if d == axis else 0 for d in range(x.rank)]
    return ops.pad(cx.b, x, (0,) * x.rank, high) if rest else x


def _unsigned(cx: Context, x: Operand) -> Operand:
    """x with bytes from 0 to 255."""
    if x.value.dtype == u8:
        return x
    b = cx.b
    raised = ops.cast(b, ops.add(b, ops.cast(b, x.value, i32), _MIDDLE), u8)
    zero = ops.full(b, (), 0, i32) if x.zero is None else ops.cast(b, x.zero, i32)
    known = None if x.known_zero is None else x.known_zero + _MIDDLE
    return Operand(raised, ops.add(b, zero, _MIDDLE), None, known)
