"""Places in memory: where a load or a store goes, and how it is done under guards.

    place = scalar pointer                      the same element for every lane
          | vector pointer                      neighbours, in lane order or reversed
          | lanes pointer..                     one address a lane (strided, gathered)

An address is built from the outermost level inwards (`pointer`), so that a loop adds only its own
term. A load whose guard is false reads zeros instead: the pointer is exchanged by a `select` for
that of a page of zeros, at the level of the guard, with the inner terms added after it where their
range fits the page (padding of convolutions); masked instructions are used where the target has
them. A store whose guard is false writes to a dummy.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.base.dtype import DType
from ferrule.codegen.llvm.builder import Val
from ferrule.codegen.llvm.isa.instruction import Masked, masked_load, masked_store
from ferrule.codegen.llvm.isa.select import instruction
from ferrule.codegen.llvm.transpose import columns
from ferrule.codegen.llvm.types import memory_type, vector_type
from ferrule.codegen.llvm.values import (
    Context,
    any_lane,
    filled,
    in_range,
    lane_linear,
    terms,
    value,
)
from ferrule.ir.expr import ZERO, Buf, Expr, Space, add, const, mul, substitute
from ferrule.ir.simplify import Monomial, Poly, from_poly, poly, range_of

Term = tuple[Val, Monomial, int]


@dataclass(frozen=True)
class Place:
    """`kind` is scalar, vector, reversed or lanes; `offsets` the flat index in elements of the
    first element, or that of each lane.
    """

    buf: Buf
    kind: str
    width: int
    offsets: tuple[Poly, ...]


def flat_index(cx: Context, buf: Buf, idx: tuple[Expr, ...]) -> Expr:
    """The distance in elements of `buf[idx]` from the start of `buf`."""
    strides = cx.strides.get(buf)
    if strides is None:
        strides = cx.strides[buf] = buf.strides
    total: Expr = ZERO
    for i, s in zip(idx, strides):
        total = add(total, mul(i, s))
    return total


def place(cx: Context, buf: Buf, idx: tuple[Expr, ...]) -> Place:
    """Where `buf[idx]` lies under the open LANES axis."""
    flat, lane = flat_index(cx, buf, idx), cx.lane
    if lane is None or lane not in flat.axes:
        return Place(buf, "scalar", 0, (poly(flat),))
    split = lane_linear(flat, lane)
    if split is None:
        each = tuple(poly(substitute(flat, {lane: const(k)})) for k in range(cx.width))
        return Place(buf, "lanes", cx.width, each)
    step, base = split
    if step == 0:
        return Place(buf, "scalar", 0, (base,))
    if step == 1:
        return Place(buf, "vector", cx.width, (base,))
    if step == -1:
        return Place(buf, "reversed", cx.width, (_shifted(base, 1 - cx.width),))
    return Place(buf, "lanes", cx.width, tuple(_shifted(base, step * k) for k in range(cx.width)))


def _shifted(p: Poly, by: int) -> Poly:
    c = p.get((), 0) + by
    rest = {m: k for m, k in p.items() if m}
    return {**rest, (): c} if c else rest


def pointer(cx: Context, buf: Buf, p: Poly) -> Val:
    """The address of element `p` of `buf`."""
    return _advance(cx, cx.base[buf], buf, terms(cx, p), p.get((), 0))


def _advance(cx: Context, ptr: Val, buf: Buf, parts: list[Term], rest: int) -> Val:
    b, element = cx.b, memory_type(buf.dtype)
    k = 0
    while k < len(parts):
        offset, level = parts[k][0], parts[k][0].level
        k += 1
        while k < len(parts) and parts[k][0].level == level:
            offset = b.binary("add", offset, parts[k][0])
            k += 1
        ptr = b.pure(
            f"getelementptr {element}, ptr {ptr.text}, i64 {offset.text}",
            "ptr",
            0,
            max(ptr.level, level),
        )
    if rest:
        ptr = b.pure(f"getelementptr {element}, ptr {ptr.text}, i64 {rest}", "ptr", 0, ptr.level)
    return ptr


def _guarded_pointer(cx: Context, buf: Buf, p: Poly, guard: Val, width: int) -> Val:
    """The address of element `p` where `guard` holds, else that of zeros for `width` elements.

    Terms that change more often than the guard are added to the chosen pointer, with strides of
    zero where the guard is false if the page is too small for their range.
    """
    b, size, rest = cx.b, buf.dtype.size, p.get((), 0)
    code = b.target.machine.code
    parts = terms(cx, p)
    outer = [t for t in parts if t[0].level <= guard.level]
    inner = parts[len(outer) :]
    lo, hi = range_of(from_poly({m: c for _, m, c in inner}))
    if lo is None or hi is None or lo < 0 or (hi + width) * size > code.zeros:
        inner, hi = [(_held(cx, m, c, guard), m, c) for _, m, c in inner], 0
    near = 0 <= rest * size <= code.near_zeros and (hi + rest + width) * size <= code.zeros
    late = rest if near else 0
    start = _advance(cx, cx.base[buf], buf, outer, rest - late)
    chosen = b.select(guard, start, b.zero_page((hi + late + width) * size))
    return _advance(cx, chosen, buf, inner, late)


def _held(cx: Context, m: Monomial, c: int, guard: Val) -> Val:
    """A term whose factors outside the guard's level become zero where the guard is false."""
    b = cx.b
    factors = sorted((value(cx, a) for a in m), key=lambda v: v.level)
    stride = b.integer(c)
    for f in factors:
        if f.level <= guard.level:
            stride = b.binary("mul", stride, f)
    out = b.select(guard, stride, b.integer(0))
    for f in factors:
        if f.level > guard.level:
            out = b.binary("mul", out, f)
    return out


# ---- reading -------------------------------------------------------------------------------------


def load(cx: Context, e: Expr) -> Val:
    """The element, or the vector of elements, that a load reads; the word that four do which lie
    side by side.
    """
    if e.op == "word":
        return _load_word(cx, e)
    guards = () if not cx.guards or in_range(e.attr, e.args) else cx.guards
    return read(cx, place(cx, e.attr, e.args), (*guards, *filled(cx, e.args)))


def _load_word(cx: Context, e: Expr) -> Val:
    buf, args = e.args[0].attr, e.args[0].args
    guards = () if all(in_range(buf, a.args) for a in e.args) else cx.guards
    p = place(cx, buf, args).offsets[0]
    guard = _conjunction(cx, [any_lane(cx.b, g) for g in guards])
    ptr = pointer(cx, buf, p) if guard is None else _guarded_pointer(cx, buf, p, guard, len(e.args))
    return _placed(cx, buf, f"load i32, ptr {ptr.text}, align 1", "i32", 0, ptr.level)


def read(cx: Context, at: Place, guards: tuple[Val, ...]) -> Val:
    """What lies at a place, as register values; zeros where a guard is false."""
    scalar = _conjunction(cx, [g for g in guards if not g.width])
    mask = _conjunction(cx, [g for g in guards if g.width])
    if at.kind == "scalar":
        if mask is not None:
            scalar = _conjunction(cx, [g for g in (scalar, any_lane(cx.b, mask)) if g is not None])
        return _from_memory(cx, at.buf.dtype, _read_scalar(cx, at.buf, at.offsets[0], scalar))
    if not guards and (column := _column(at)) is not None:
        return _from_memory(cx, at.buf.dtype, _read_column(cx, at.buf, column))
    masked = None if mask is None else _masked(cx, masked_load(at.buf.dtype), at.width)
    if at.kind == "lanes" or (mask is not None and masked is None):
        return _from_memory(cx, at.buf.dtype, _read_lanes(cx, at, scalar, mask))
    if at.kind == "reversed" and mask is not None:
        mask = cx.b.shuffle(mask, list(reversed(range(at.width))))
    if mask is None or masked is None:
        v = _read_vector(cx, at, scalar)
    else:
        v = _read_masked(cx, at, scalar, mask, masked)
    if at.kind == "reversed":
        v = cx.b.shuffle(v, list(reversed(range(at.width))))
    return _from_memory(cx, at.buf.dtype, v)


def _masked(cx: Context, meaning: Expr, width: int) -> Masked | None:
    """The spelling of a masked access that is an instruction here."""
    found = instruction(cx.b.target, meaning, width)
    return found.spelling if found and isinstance(found.spelling, Masked) else None


def _conjunction(cx: Context, guards: list[Val]) -> Val | None:
    out: Val | None = None
    for g in guards:
        out = g if out is None else cx.b.binary("and", out, g)
    return out


def _read_scalar(cx: Context, buf: Buf, p: Poly, guard: Val | None) -> Val:
    if cx.copy is not None and guard is None and cx.lane is not None:
        return _load(cx, buf, _own_pointer(cx, buf, p, cx.copy), 0)
    ptr = pointer(cx, buf, p) if guard is None else _guarded_pointer(cx, buf, p, guard, 1)
    return _load(cx, buf, ptr, 0)


def _own_pointer(cx: Context, buf: Buf, p: Poly, copy: int) -> Val:
    """The address of element `p` in a register of its own and a constant; LLVM can't tell that one
    copy of it is another, nor add an index to the register.
    """
    start = _advance(cx, cx.base[buf], buf, terms(cx, p), 0)
    same = f'call ptr asm "", "=r,0,i"(ptr {start.text}, i32 {copy}) memory(none)'
    return _advance(cx, cx.b.pure(same, "ptr", 0, start.level), buf, [], p.get((), 0))


def _load(cx: Context, buf: Buf, ptr: Val, width: int) -> Val:
    type = memory_type(buf.dtype)
    text = f"load {vector_type(type, width)}, ptr {ptr.text}, align {buf.dtype.size}"
    return _placed(cx, buf, text, type, width, ptr.level)


def _placed(cx: Context, buf: Buf, text: str, type: str, width: int, level: int) -> Val:
    """A reading instruction at the outermost level where it is legal."""
    level = cx.b.load_level(buf, level)
    fresh = text not in cx.b.regions[level].memo
    v = cx.b.pure(text, type, width, level)
    if fresh and buf in cx.written:
        cx.b.remember(buf, text, level)
    return v


def _read_vector(cx: Context, at: Place, scalar: Val | None) -> Val:
    buf, p, width = at.buf, at.offsets[0], at.width
    ptr = pointer(cx, buf, p) if scalar is None else _guarded_pointer(cx, buf, p, scalar, width)
    return _load(cx, buf, ptr, width)


def _read_masked(
    cx: Context, at: Place, scalar: Val | None, mask: Val, spelling: Masked
) -> Val:
    b, buf = cx.b, at.buf
    if scalar is not None:
        mask = b.binary("and", b.splat(scalar, at.width), mask)
    if not b.target.has_mask_registers and at.width * buf.dtype.size > b.target.vector_bytes:
        mask = _opaque(cx, mask, buf.dtype.size)
    ptr, type = pointer(cx, buf, at.offsets[0]), memory_type(buf.dtype)
    nothing = Val("zeroinitializer", type, at.width)
    text = spelling.text(b, ptr, mask, nothing, buf.dtype.size)
    v = _placed(cx, buf, text, type, at.width, max(ptr.level, mask.level))
    return _alone(cx, v) if b.target.has_mask_registers else v


def _alone(cx: Context, v: Val) -> Val:
    """A masked load that stays an instruction of its own.

    LLVM folds one into arithmetic under the same mask, and where that would overwrite an operand
    that is still needed it takes the load out again without the mask: it then reads past the end.
    """
    b, real = cx.b, {"i32": "float", "i64": "double"}.get(v.type, v.type)
    return b.convert("bitcast", b.fenced(b.convert("bitcast", v, real)), v.type)


def _opaque(cx: Context, mask: Val, size: int) -> Val:
    """A mask for elements of so many bytes of which LLVM can't tell that some lanes are never true.

    It cuts loads that are longer than a register, and loads a part without its mask where that is
    false and the same lanes of what is computed from it are masked out: past the end again.
    """
    b, whole, real = cx.b, f"i{8 * size}", "float" if size == 4 else "double"
    bits = b.convert("bitcast", b.convert("sext", mask, whole), real)
    back = b.convert("bitcast", b.fenced(bits), whole)
    return b.compare("icmp slt", back, b.splat(b.integer(0, whole), mask.width))


def _read_lanes(cx: Context, at: Place, scalar: Val | None, mask: Val | None) -> Val:
    out = []
    for k in range(at.width):
        offset = at.offsets[k] if at.kind == "lanes" else _nth(at, k)
        guard = _lane_guard(cx, scalar, mask, k)
        with cx.in_lane(k):
            out.append(_read_scalar(cx, at.buf, offset, guard))
    return cx.b.gather(out)


def _column(at: Place) -> int | None:
    """Which column of a square of registers the lanes are; None where they are anything else."""
    first = at.offsets[0].get((), 0)
    square = at.buf.space is Space.REG and at.buf.size is const(at.width * at.width)
    if at.kind != "lanes" or not square or set(at.offsets[0]) - {()} or first >= at.width:
        return None
    straight = all(p == _shifted(at.offsets[0], k * at.width) for k, p in enumerate(at.offsets))
    return first if straight else None


def _read_column(cx: Context, buf: Buf, column: int) -> Val:
    width = int(buf.shape[-1].attr)
    starts = [pointer(cx, buf, _shifted({}, k * width)) for k in range(width)]
    rows = [_load(cx, buf, start, width) for start in starts]
    return columns(cx.b, rows, buf.dtype.size)[column]


def _nth(at: Place, k: int) -> Poly:
    return _shifted(at.offsets[0], k if at.kind == "vector" else at.width - 1 - k)


def _lane_guard(cx: Context, scalar: Val | None, mask: Val | None, k: int) -> Val | None:
    parts = [scalar] if scalar is not None else []
    if mask is not None:
        parts.append(cx.b.extract(mask, k))
    return _conjunction(cx, parts)


def _from_memory(cx: Context, dtype: DType, v: Val) -> Val:
    return cx.b.compare("icmp ne", v, Val("0", "i8")) if dtype.is_bool else v


# ---- writing -------------------------------------------------------------------------------------


def write(cx: Context, at: Place, v: Val, guards: tuple[Val, ...]) -> None:
    """Stores register values at a place, where the guards hold. A vector to a scalar place leaves
    its last lane there.
    """
    b, buf = cx.b, at.buf
    if buf.dtype.is_bool:
        v = b.convert("zext", v, "i8")
    scalar = _conjunction(cx, [g for g in guards if not g.width])
    mask = _conjunction(cx, [g for g in guards if g.width])
    if at.kind == "scalar" and (mask is None or not v.width):
        if mask is not None:
            scalar = _conjunction(cx, [g for g in (scalar, any_lane(b, mask)) if g is not None])
        _write_scalar(cx, buf, at.offsets[0], b.extract(v, v.width - 1), scalar)
        return
    width = at.width or v.width
    v = b.splat(v, width)
    whole = scalar is None and (mask is None or _blends(cx, buf, width))
    if whole and at.kind in ("vector", "reversed"):
        if at.kind == "reversed":
            order = list(reversed(range(width)))
            v, mask = b.shuffle(v, order), None if mask is None else b.shuffle(mask, order)
        _write_vector(cx, at, v, mask)
        return
    for k in range(width):
        offset = (
            at.offsets[min(k, len(at.offsets) - 1)]
            if at.kind in ("lanes", "scalar")
            else _nth(at, k)
        )
        guard = _lane_guard(cx, scalar, mask, k)
        with cx.in_lane(k):
            _write_scalar(cx, buf, offset, b.extract(v, k), guard)


def _blends(cx: Context, buf: Buf, width: int) -> bool:
    return buf.space is Space.REG or _masked(cx, masked_store(buf.dtype), width) is not None


def _write_scalar(cx: Context, buf: Buf, p: Poly, v: Val, guard: Val | None) -> None:
    ptr = pointer(cx, buf, p)
    if guard is not None:
        cx.dummy = cx.dummy or cx.b.alloca("i64", 1, 8)
        ptr = cx.b.select(guard, ptr, cx.dummy)
    cx.b.line(f"store {v.type} {v.text}, ptr {ptr.text}, align {buf.dtype.size}")


def _write_vector(cx: Context, at: Place, v: Val, mask: Val | None) -> None:
    b, buf = cx.b, at.buf
    ptr = pointer(cx, buf, at.offsets[0])
    if mask is not None and buf.space is Space.REG:
        old = _load(cx, buf, ptr, at.width)
        v, mask = b.select(mask, v, old), None
    if mask is None:
        b.line(f"store {v.full} {v.text}, ptr {ptr.text}, align {buf.dtype.size}")
        return
    masked = _masked(cx, masked_store(buf.dtype), at.width)
    assert masked is not None
    b.line(masked.text(b, ptr, mask, v, buf.dtype.size))


def prefetch(cx: Context, buf: Buf, idx: tuple[Expr, ...], written: bool) -> None:
    """A hint that the cache line of `buf[idx]` (for the first lane) will be read, or written."""
    if cx.lane is not None:
        idx = tuple(substitute(i, {cx.lane: const(0)}) for i in idx)
    ptr = pointer(cx, buf, poly(flat_index(cx, buf, idx)))
    cx.b.declare("llvm.prefetch.p0", "void", "ptr, i32, i32, i32")
    cx.b.line(f"call void @llvm.prefetch.p0(ptr {ptr.text}, i32 {int(written)}, i32 3, i32 1)")
