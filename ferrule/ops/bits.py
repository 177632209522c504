"""Bits: operators on what elements are made of, and integer arithmetic that is defined everywhere.

    popcount, count_leading_zeros, mulhi, shift_right_logical       of integers
    quotient, remainder      StableHLO's division: by 0 it gives -1 (all bits) and the dividend
    bitcast                  the bits as another dtype; wider or narrower ones by a last dim
    total_order              floats as integers in the same order, -0 before 0 and NaN at the ends
    nextafter                the next float in a direction
    reduce_precision         rounding to a float of fewer bits (StableHLO)

Counts of bits are sums of ever larger groups side by side (Warren, Hacker's Delight, 5-1).
"""

from __future__ import annotations

import math

import numpy as np

from ferrule.base.dtype import DType, from_name, from_numpy, to_storage
from ferrule.base.dtype import from_storage as real
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Buf, Expr, call, cast, compare, const, eq, load, select
from ferrule.ir.expr import bitcast as bits_as
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.simplify import prove
from ferrule.ir.system import Stage
from ferrule.ops import elementary as el
from ferrule.ops.elementary import Operand, operand
from ferrule.ops.op import (
    Array,
    at,
    broadcast,
    check_kind,
    define,
    operator_of_elements,
    same_dtype,
    stage,
)

# exponent bits and stored significand bits
_FORMATS = {"f16": (5, 10), "bf16": (8, 7), "f32": (8, 23), "f64": (11, 52)}


def unsigned(dtype: DType) -> DType:
    """The unsigned integers of the width of `dtype`; of bool, u8."""
    return from_name(f"u{max(dtype.bits, 8)}")


def _bits(x: Expr) -> Expr:
    return bits_as(x, unsigned(x.dtype))


def _each(dtype: DType, byte: int) -> Expr:
    """An integer whose every byte is `byte`."""
    return const(int.from_bytes(bytes([byte]) * dtype.size, "little"), dtype)


def _shr(x: Expr, by: int) -> Expr:
    return call("shr", x, const(by, x.dtype))


# ---- counts --------------------------------------------------------------------------------------


def _ones(x: Expr) -> Expr:
    """The number of bits set in an unsigned integer."""
    t = x.dtype
    pairs = x - call("and", _shr(x, 1), _each(t, 0x55))
    low = call("and", pairs, _each(t, 0x33))
    fours = low + call("and", _shr(pairs, 2), _each(t, 0x33))
    bytes_ = call("and", fours + _shr(fours, 4), _each(t, 0x0F))
    return _shr(bytes_ * _each(t, 1), t.bits - 8) if t.bits > 8 else bytes_


def _unsigned_array(x: Array) -> Array:
    return x.view(unsigned(from_numpy(x.dtype)).numpy)


@operator_of_elements(
    lambda x: np.bitwise_count(_unsigned_array(x)).astype(x.dtype), accepts="iu"
)
def popcount(x: Expr) -> Expr:
    """The number of bits that are set, in the dtype of `x`."""
    return bits_as(_ones(_bits(x)), x.dtype)


def _zeros_above(x: Array) -> Array:
    width = x.dtype.itemsize * 8
    lengths = [width - int(v).bit_length() for v in _unsigned_array(x).ravel()]
    return np.array(lengths, x.dtype).reshape(x.shape)


@operator_of_elements(_zeros_above, accepts="iu")
def count_leading_zeros(x: Expr) -> Expr:
    """The number of zeros above the highest bit that is set, in the dtype of `x`."""
    filled = _bits(x)
    by = 1
    while by < x.dtype.bits:
        filled = call("or", filled, _shr(filled, by))
        by *= 2
    return bits_as(const(x.dtype.bits, filled.dtype) - _ones(filled), x.dtype)


# ---- integer arithmetic --------------------------------------------------------------------------


def _mulhi_meaning(x: Array, y: Array) -> Array:
    wide = x.astype(object) * y.astype(object)
    return np.asarray(wide >> (x.dtype.itemsize * 8), object).astype(x.dtype)


@operator_of_elements(_mulhi_meaning, accepts="iu")
def mulhi(x: Expr, y: Expr) -> Expr:
    """The upper half of the product of integers."""
    t = x.dtype
    if t.bits < 64:
        wide = from_name(f"{'i' if t.kind == 'i' else 'u'}{t.bits * 2}")
        return cast(_shr(cast(x, wide) * cast(y, wide), t.bits), t)
    a, b = _bits(x), _bits(y)
    high = _upper_half(a, b)
    if t.kind == "i":  # as unsigned, a negative operand is 2^64 too much
        zero = const(0, a.dtype)
        high = high - select(compare("lt", x, const(0, t)), b, zero)
        high = high - select(compare("lt", y, const(0, t)), a, zero)
    return bits_as(high, t)


def _upper_half(x: Expr, y: Expr) -> Expr:
    """The upper half of the product of two u64, from those of their halves."""
    low = const((1 << 32) - 1, x.dtype)
    (x0, x1), (y0, y1) = ((call("and", v, low), _shr(v, 32)) for v in (x, y))
    middle = x1 * y0 + _shr(x0 * y0, 32)
    other = x0 * y1 + call("and", middle, low)
    return x1 * y1 + _shr(middle, 32) + _shr(other, 32)


def shift_right_logical(b: GraphBuilder, x: Value, y: Operand) -> Value:
    """`x` shifted to the right, zeros coming in; by its width or more, or less than 0, it is 0."""
    t = unsigned(x.dtype)
    by = bitcast(b, operand(b, y, x.dtype), t)
    return bitcast(b, el.shr(b, bitcast(b, x, t), by), x.dtype)


def quotient(b: GraphBuilder, x: Value, y: Operand) -> Value:
    """x / y; of integers rounded towards 0, and -1 (all bits) where y is 0."""
    if not x.dtype.is_int:
        return el.div(b, x, y)
    by = operand(b, y, x.dtype)
    ones = -1 if x.dtype.kind == "i" else x.dtype.max
    return el.select(b, el.eq(b, by, 0), ones, el.truncdiv(b, x, by))


def remainder(b: GraphBuilder, x: Value, y: Operand) -> Value:
    """What `quotient` leaves, with the sign of `x`; of integers `x` itself where y is 0."""
    if not x.dtype.is_int:
        return el.rem(b, x, y)
    by = operand(b, y, x.dtype)
    return el.select(b, el.eq(b, by, 0), x, el.rem(b, x, by))


# ---- floats as bits ------------------------------------------------------------------------------


def total_order(b: GraphBuilder, x: Value) -> Value:
    """Floats as signed integers of their width whose order is the total order of IEEE-754: -NaN,
    -inf, .., -0, 0, .., inf, NaN. Other dtypes stay as they are.
    """
    if not x.dtype.is_float:
        return x
    bits = bitcast(b, x, from_name(f"i{x.dtype.bits}"))
    flipped = el.bitwise_and(b, el.shr(b, bits, x.dtype.bits - 1), bits.dtype.max)
    return el.bitwise_xor(b, bits, flipped)


def _two_floats(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    check_kind("nextafter", types[0], "f")
    return TensorType(broadcast(t.shape for t in types), same_dtype("nextafter", types))


def _next_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    axes = ctx.axes(outs[0].shape)
    x, y = (load(v, *at(v, axes)) for v in ins)
    found = call("nextafter", x, y) if x.dtype == x.dtype.compute else _next_half(x, y)
    return [stage(outs[0], axes, found)]


def _next_half(x: Expr, y: Expr) -> Expr:
    """The bits of x moved by one, away from zero or towards it, of f16 and bf16."""
    bits, one = _bits(x), const(1, unsigned(x.dtype))
    a, b = cast(x, x.dtype.compute), cast(y, x.dtype.compute)
    zero = const(0, a.dtype)
    outward = compare("eq", compare("lt", a, b), compare("lt", zero, a))
    moved = select(outward, bits + one, bits - one)
    sign = call("and", _bits(y), const(1 << (x.dtype.bits - 1), one.dtype))
    step = select(compare("eq", a, zero), call("or", sign, one), moved)
    step = select(compare("eq", a, b), _bits(y), step)
    invalid = call("or", call("isnan", a), call("isnan", b))
    return select(invalid, cast(a + b, x.dtype), bits_as(step, x.dtype))


def _next_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, y = np.broadcast_arrays(*arrays)
    dtype = attrs["source"]
    if dtype.name != "bf16":
        return np.where(x == y, y, np.nextafter(x, y))
    stored = to_storage(x, dtype).astype(np.int32)
    negative, size = stored >> 15, stored & 0x7FFF
    place = np.where(negative, -size, size) + np.where(y > x, 1, -1)
    sign = np.where(place == 0, negative, place < 0) << 15
    moved = real((np.abs(place) | sign).astype(np.uint16), dtype)
    return np.where(x == y, y, np.where(np.isnan(x) | np.isnan(y), x + y, moved))


define("nextafter", _two_floats, _next_meaning, _next_compute)


def nextafter(b: GraphBuilder, x: Value, y: Operand) -> Value:
    """The float of the dtype of `x` that is next to it in the direction of `y`."""
    out: Value = b.emit("nextafter", x, operand(b, y, x.dtype), source=x.dtype)
    return out


# ---- bits as another dtype -----------------------------------------------------------------------


def bitcast(b: GraphBuilder, x: Value, dtype: DType) -> Value:
    """The bits of each element of `x` read as `dtype`. Of a narrower dtype an element gives several
    along a new last dim, the lowest bits first; for a wider one those along the last dim are put
    together. A bool is one bit. Raises CompileError where a last dim has another size.
    """
    return x if x.dtype == dtype else b.emit("bitcast", x, dtype=dtype, source=x.dtype)


def _bitcast_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    (x,), dtype = types, attrs["dtype"]
    wide, narrow = dtype.bits, x.dtype.bits
    if wide <= narrow:
        return tensor((*x.shape, *([narrow // wide] if wide < narrow else [])), dtype)
    if not x.rank or prove(compare("ne", x.shape[-1], const(wide // narrow))):
        raise CompileError(
            f"bitcast of {x} to {dtype.name}: the widths differ, so that the last dim must have "
            f"size {wide // narrow}"
        )
    return tensor(x.shape[:-1], dtype)


def _bitcast_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, source, dtype = arrays[0], attrs["source"], attrs["dtype"]
    stored = np.ascontiguousarray(to_storage(x, source)).reshape(x.shape)
    last = x.shape if dtype.bits <= source.bits else x.shape[:-1]
    if source.is_bool and dtype.bits > 1:
        stored = np.packbits(stored, axis=-1, bitorder="little")
    if dtype.is_bool and source.bits > 1:
        rows = stored.reshape(-1, 1).view(np.uint8)
        split = np.unpackbits(rows, axis=-1, bitorder="little").astype(np.bool_)
        return split.reshape((*last, source.bits))
    each = max(1, source.bits // dtype.bits)
    found = np.ascontiguousarray(stored).reshape(-1).view(dtype.numpy)
    return real(found.reshape((*last, *([each] if each > 1 else []))), dtype)


def _bitcast_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,), (out,) = ins, outs
    axes = ctx.axes(out.shape)
    if out.dtype.bits == x.dtype.bits:
        return [stage(out, axes, bits_as(load(x, *axes), out.dtype))]
    if out.dtype.bits < x.dtype.bits:
        whole = _word(load(x, *axes[:-1]))
        by = cast(axes[-1] * out.dtype.bits, whole.dtype)
        return [stage(out, axes, _as_dtype(call("shr", whole, by), out.dtype))]
    total = const(0, unsigned(out.dtype))
    for k in range(out.dtype.bits // x.dtype.bits):
        part = cast(_word(load(x, *axes, const(k))), total.dtype)
        total = call("or", total, call("shl", part, const(k * x.dtype.bits, total.dtype)))
    return [stage(out, axes, _as_dtype(total, out.dtype))]


def _word(x: Expr) -> Expr:
    """The bits as an unsigned integer."""
    return cast(x, unsigned(x.dtype)) if x.dtype.is_bool else _bits(x)


def _as_dtype(word: Expr, dtype: DType) -> Expr:
    """The lowest bits of an unsigned integer as `dtype`."""
    if dtype.is_bool:
        return compare("ne", call("and", word, const(1, word.dtype)), const(0, word.dtype))
    return bits_as(cast(word, unsigned(dtype)), dtype)


def _bitcast_requires(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    wide, narrow = attrs["dtype"].bits, types[0].dtype.bits
    return [eq(types[0].shape[-1], const(wide // narrow))] if wide > narrow else []


define(
    "bitcast", _bitcast_type, _bitcast_meaning, _bitcast_compute, requires=_bitcast_requires
)


# ---- reduce_precision ----------------------------------------------------------------------------


def _reduced_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    check_kind("reduce_precision", types[0], "f")
    if attrs["exponent_bits"] < 1 or attrs["mantissa_bits"] < 0:
        raise CompileError(f"reduce_precision to {attrs} of {types[0]}: there is no such format")
    return types[0]


def _reduced_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    """By Python's integers, on the bits."""
    x, dtype = arrays[0].reshape(-1), attrs["source"]
    exponent, mantissa = _FORMATS[dtype.name]
    bits = to_storage(x, dtype)
    bits = np.ascontiguousarray(bits).view(unsigned(dtype).numpy).astype(object)
    lost = max(mantissa - attrs["mantissa_bits"], 0)
    unit, top = 1 << lost, 1 << (dtype.bits - 1)
    sign, size = bits // top * top, bits % top
    whole, rest = size // unit, size % unit * 2
    up = (rest > unit) | ((rest == unit) & (whole % 2 == 1))
    size = (whole + np.asarray(up).astype(object)) * unit
    infinity = (2**exponent - 1) << mantissa
    if attrs["exponent_bits"] < exponent:
        middle, reach = 2 ** (exponent - 1) - 1, 2 ** (attrs["exponent_bits"] - 1) - 1
        place = size >> mantissa
        size = np.where(place <= middle - reach, 0, size)
        size = np.where(place > middle + reach, infinity, size)
    out = real((sign + size).astype(unsigned(dtype).numpy).view(dtype.numpy), dtype)
    out = np.where(np.isnan(x), x if attrs["mantissa_bits"] else np.inf, out)
    return out.reshape(arrays[0].shape)


def _reduced_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (out,) = outs
    axes = ctx.axes(out.shape)
    x = load(ins[0], *axes)
    found = bits_as(_reduced(_bits(x), out.dtype, attrs), out.dtype)
    nan = x if attrs["mantissa_bits"] else cast(const(math.inf, x.dtype.compute), x.dtype)
    return [stage(out, axes, select(call("isnan", cast(x, x.dtype.compute)), nan, found))]


def _reduced(bits: Expr, dtype: DType, attrs: Attrs) -> Expr:
    """The bits of a number rounded to nearest even; what then has too great an exponent is
    infinite, and what has too small a one is 0.
    """
    t = bits.dtype
    exponent, mantissa = _FORMATS[dtype.name]
    lost = mantissa - attrs["mantissa_bits"]
    if lost > 0:
        odd = call("and", _shr(bits, lost), const(1, t))
        bits = bits + (odd + const((1 << (lost - 1)) - 1, t))
        bits = call("and", bits, const(-1 << lost, t))
    if attrs["exponent_bits"] >= exponent:
        return bits
    middle, reach = 2 ** (exponent - 1) - 1, 2 ** (attrs["exponent_bits"] - 1) - 1
    infinity = const((2**exponent - 1) << mantissa, t)
    sign, place = call("and", bits, const(1 << (t.bits - 1), t)), call("and", bits, infinity)
    over = compare("lt", const((middle + reach) << mantissa, t), place)
    under = compare("le", place, const((middle - reach) << mantissa, t))
    return select(over, call("or", sign, infinity), select(under, sign, bits))


define("reduce_precision", _reduced_type, _reduced_meaning, _reduced_compute)


def reduce_precision(
    b: GraphBuilder, x: Value, exponent_bits: int, mantissa_bits: int
) -> Value:
    """Floats rounded to those of a format with so many bits, and back: beyond its largest number
    infinite, below its least normal one 0, with their sign.
    """
    return b.emit(
        "reduce_precision", x, exponent_bits=exponent_bits, mantissa_bits=mantissa_bits,
        source=x.dtype,
    )  # fmt: skip
