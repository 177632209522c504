"""Products and convolutions of quantised operands, (x - a) * (w - b) summed in i32.

They are emitted as just that; a pass (`transform/byte_products.py`) chooses how a target sums them.
What it needs and the graph does not show of itself is stated there: a zero point that is known to
be 0 is not subtracted, and one of 128 or -128, with which bytes of one sign are those of the other,
is a number in the graph; others stay parameters, so that layers with equal kernels keep them equal.
And where the weights are known, so is what a sum's terms come to at most, the `bound` of a node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ferrule import ops
from ferrule.base.dtype import i32
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.nn import conv
from ferrule.frontend.onnx.table import Context
from ferrule.ir.expr import ONE
from ferrule.ir.graph import Value

_SPAN = 255  # the largest distance of 8-bit numbers
_MIDDLES = (128, -128)  # the distance of signed and unsigned bytes


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

    def centred(self, cx: Context, axis: int) -> Value:
        """The integers less their zero point, which may be one for each slice of `axis`, in i32."""
        wide, low = ops.cast(cx.b, self.value, i32), self._zero_along(cx, axis)
        return wide if low is None else ops.sub(cx.b, wide, low)

    def _zero_along(self, cx: Context, axis: int) -> Value | None:
        number = self._number()
        if self.zero is None or number == 0:
            return None
        if number in _MIDDLES:
            return ops.full(cx.b, (), number, i32)
        wide = ops.cast(cx.b, self.zero, i32)
        if wide.rank != 1:
            return wide
        several = [ONE] * self.rank
        several[axis] = wide.shape[0]
        return ops.reshape(cx.b, wide, () if wide.shape[0] is ONE else several)

    def _number(self) -> int | None:
        """The one number that the zero point is known to be."""
        zeros = self.known_zero
        same = zeros is not None and zeros.size and (zeros == zeros.flat[0]).all()
        return int(zeros.flat[0]) if zeros is not None and same else None


def operand(
    cx: Context, value: Value, zero: Value | None, at: int = -1, zero_at: int = -1
) -> Operand:
    """An operand that the node has at `at`, with the zero point at `zero_at`."""
    zeros = np.zeros((), np.int64) if zero is None else cx.known.get(zero_at)
    return Operand(value, zero, cx.known.get(at), None if zeros is None else zeros.astype(np.int64))


def matmul(cx: Context, x: Operand, w: Operand) -> Value:
    """The i32 products of matrices less their zero points: one a row of x, one a column of w."""
    left, right = x.centred(cx, max(x.rank - 2, 0)), w.centred(cx, w.rank - 1)
    return ops.matmul(cx.b, left, right, bound=_bound(w, w.rank - 1, (max(w.rank - 2, 0),)))


def convolution(cx: Context, x: Operand, w: Operand) -> Value:
    """The i32 convolution of operands less their zero points, w's one an output channel."""
    bound = _bound(w, 0, tuple(range(1, w.rank)))
    return conv(cx, x.centred(cx, 1), w.centred(cx, 0), bound=bound)


def _bound(w: Operand, axis: int, summed: tuple[int, ...]) -> int | None:
    """What the terms of a sum over the axes `summed` of known weights come to at most, with bytes
    on the other side; None where it is not known. `axis` is that of the zero points.

    It is a power of two, so that other weights make the same graph as a rule.
    """
    known, zero = w.known, w.known_zero
    if known is None or zero is None or known.dtype.itemsize != 1 or zero.ndim > 1:
        return None
    several = [1] * known.ndim
    several[axis] = zero.size
    own = np.abs(known.astype(np.int64) - zero.reshape(several))
    largest = int(own.sum(summed).max(initial=0)) * _SPAN
    return 1 << max(largest - 1, 0).bit_length()
