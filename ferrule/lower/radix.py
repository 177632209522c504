"""Sorts by a standard order, or by one integer, as loops: a radix sort of long rows.

    keys[0, k], places[0, k] = the key of the k-th element as an unsigned integer, and k
    starts[d, c]             = how many keys have a digit d below c
    for each digit d, from the lowest:
        for each k:   put key and place at starts[d, digit d of the key], which counts on

Where the first few are asked for, those keys alone go on whose highest digit is that of the last of
them or less.

Keys are integers whose order is that of the elements: equal for what is equal, so that a sort that
is stable in each digit is stable. A digit that all keys share moves nothing. At the end the values
are read where the places say.
"""

from __future__ import annotations

from ferrule.base.dtype import DType, from_name, i32, i64
from ferrule.ir.analysis.cost import flops
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    Space,
    arg,
    axis,
    bitcast,
    both,
    call,
    cast,
    const,
    eq,
    le,
    load,
    loads,
    lt,
    select,
    substitute,
    walk,
)
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import Alloc, For, If, Stmt, Store
from ferrule.ir.orders import ASCENDING, DESCENDING
from ferrule.ir.simplify import equal, prove, range_of
from ferrule.ir.system import Access, Order, Sort, Stage

_BITS = 8
_BINS = 1 << _BITS
_LONG = 20  # elements of a row for each digit, from which on this is faster than merging


def key(order: Order) -> Expr | None:
    """An unsigned integer of a tuple, over arg(0..n-1), whose order is `order`; None where that
    does not compare one thing with another of its kind.
    """
    first = arg(0, order.dtypes[0])
    if order in (ASCENDING(order.dtypes), DESCENDING(order.dtypes)):
        return key_of(first, order == DESCENDING(order.dtypes))
    n, e = len(order.dtypes), order.before
    if e.op != "lt" or e.args[0].dtype.is_float:
        return None
    later = {arg(k, d): arg(k + n, d) for k, d in enumerate(order.dtypes)}
    for (one, other), descending in ((e.args, False), (e.args[::-1], True)):
        args = (x.attr for x in walk(one) if x.op == "arg")
        if all(k < n for k in args) and substitute(one, later) is other:
            return key_of(one, descending)
    return None


def least_long(of: Expr) -> int:
    """The length from which on rows are sorted by radix, which takes a time of its own for each
    digit of the key `of` a tuple.
    """
    return _LONG * (of.dtype.bits // _BITS)


def key_of(x: Expr, descending: bool) -> Expr:
    """An unsigned integer for each element, in the same order; NaN is the greatest, or the least of
    what descends.
    """
    unsigned, key = _unsigned(x.dtype), x
    top = const(1 << (unsigned.bits - 1), unsigned)
    if x.dtype.is_bool:
        key = cast(x, unsigned)
    elif x.dtype.is_float:
        wide = cast(x, x.dtype.compute)
        zero = const(0.0, x.dtype)
        plain = select(eq(wide, const(0.0, wide.dtype)), zero, x)
        signed = bitcast(plain, from_name(f"i{unsigned.bits}"))
        sign = call("shr", signed, const(unsigned.bits - 1, signed.dtype))
        flipped = call("or", bitcast(sign, unsigned), top)
        number = call("xor", bitcast(plain, unsigned), flipped)
        key = select(call("isnan", wide), const(-1, unsigned), number)
    elif x.dtype.kind == "i":
        key = call("xor", bitcast(x, unsigned), top)
    return call("not", key) if descending else key


def _unsigned(dtype: DType) -> DType:
    return from_name(f"u{max(8, dtype.bits)}")


def radix_row(
    st: Stage, fold: Sort, of: Expr, name: str, wanted: Expr
) -> tuple[tuple[Stmt, ...], Store]:
    """The statements that order a row by the key `of` a tuple, as far as its first `wanted` ones
    go, and then the store of the element at `fold.axis`.
    """
    return _Radix(st, fold, of, name, wanted).row()


class _Radix:
    def __init__(self, st: Stage, fold: Sort, of: Expr, name: str, wanted: Expr):
        self.st, self.fold, self.name, self.wanted = st, fold, name, wanted
        n = self.n = fold.axis.extent
        values = {arg(k, v.dtype): v for k, v in enumerate(st.compute.values)}
        self.key = substitute(of, values)
        most = range_of(n)[1]
        place = i32 if most is not None and most < 1 << 31 else i64
        self.digits = self.key.dtype.bits // _BITS
        self.keys = Buf(f"{name}_keys", (const(2), n), self.key.dtype, Space.SCRATCH)
        self.places = Buf(f"{name}_places", (const(2), n), place, Space.SCRATCH)
        shape = const(self.digits), const(_BINS + 1)
        self.starts = Buf(f"{name}_starts", shape, i64, Space.SCRATCH)
        self.side, self.total, self.last, self.size = (
            Buf(f"{name}_{part}", (), i64, Space.REG) for part in ("side", "total", "last", "size")
        )
        self.few = not equal(wanted, n) and not prove(le(n, wanted * 2))
        self.count = load(self.size) if self.few else n
        self.copies = tuple(
            Buf(f"{name}_value{i}", (n,), v.dtype, Space.SCRATCH) if self._is_copied(v) else None
            for i, v in enumerate(st.compute.values)
        )

    def row(self) -> tuple[tuple[Stmt, ...], Store]:
        copies = tuple(b for b in self.copies if b is not None)
        side = load(self.side)
        place = cast(load(self.places, side, self.fold.axis), i64)
        values = tuple(
            substitute(v, {self.fold.axis: place}) if b is None else load(b, place)
            for v, b in zip(self.st.compute.values, self.copies, strict=True)
        )
        registers = (self.side, self.total, *((self.last, self.size) if self.few else ()))
        done: tuple[Stmt, ...] = (
            *map(Alloc, (self.keys, self.places, self.starts, *registers, *copies)),
            *self._clear(),
            *(self._choose() if self.few else self._fill(self._all_digits(self.fold.axis))),
            *self._sum(),
            Store((Access(self.side, ()),), (ZERO,)),
            self._passes(),
        )
        return done, Store(self.st.targets, values, self.st.combine)

    def _is_copied(self, value: Expr) -> bool:
        """Whether a value is kept when it is first computed: one that takes work, or is read where
        results are written.
        """
        written = {to.buf for to in self.st.targets}
        return flops(value) > 0 or any(ld.attr in written for ld in loads(value))

    def _digit(self, key: Expr, d: Expr) -> Expr:
        """The digit `d` of a key."""
        by = cast(d * _BITS, key.dtype)
        return cast(call("and", call("shr", key, by), const(_BINS - 1, key.dtype)), i64)

    def _clear(self) -> tuple[Stmt, ...]:
        d, c = axis(f"{self.name}_d", self.digits), axis(f"{self.name}_c", _BINS + 1)
        clear = Store((Access(self.starts, (d, c)),), (ZERO,))
        return (_loop(d, d.extent, _loop(c, c.extent, clear)),)

    def _fill(self, counts: Stmt) -> tuple[Stmt, ...]:
        """Keys, places and copies of each element, and what `counts` says of it."""
        k = self.fold.axis
        kept = [(b, v) for b, v in zip(self.copies, self.st.compute.values) if b is not None]
        found = (Access(self.keys, (ZERO, k)), Access(self.places, (ZERO, k)))
        fill = Store(
            (*found, *(Access(b, (k,)) for b, _ in kept)),
            (self.key, cast(k, self.places.dtype), *(v for _, v in kept)),
        )
        return (_loop(k, self.n, fill, counts),)

    def _counted(self, k: Expr, d: Expr) -> Stmt:
        """One more key with the digit `d` that the one at `k` has, one bin further on."""
        at = d, self._digit(load(self.keys, ZERO, k), d) + 1
        return Store((Access(self.starts, at),), (load(self.starts, *at) + ONE,))

    def _all_digits(self, k: Expr) -> Stmt:
        d = axis(f"{self.name}_d", self.digits)
        return For(d, ZERO, d.extent, Kind.UNROLL, (self._counted(k, d),))

    def _choose(self) -> tuple[Stmt, ...]:
        """The keys that may be among the first ones, in front, and their digits counted."""
        top = const(self.digits - 1)
        k, c = axis(f"{self.name}_k", self.n), axis(f"{self.name}_c", _BINS)
        total, last, size = load(self.total), load(self.last), load(self.size)
        seen = (
            Store((Access(self.total, ()),), (total + load(self.starts, top, c + 1),)),
            Store((Access(self.last, ()),), (last + cast(lt(total, self.wanted), i64),)),
            Store((Access(self.starts, (top, c + 1)),), (ZERO,)),
        )
        key = load(self.keys, ZERO, k)
        within = cast(le(self._digit(key, top), last), i64)
        front = Access(self.keys, (ZERO, size)), Access(self.places, (ZERO, size))
        keep = (
            Store(front, (key, cast(k, self.places.dtype))),
            Store((Access(self.size, ()),), (size + within,)),
        )
        started = Store(
            tuple(Access(b, ()) for b in (self.total, self.last, self.size)), (ZERO,) * 3
        )
        again = axis(f"{self.name}_again", self.n)
        return (
            *self._fill(self._counted(self.fold.axis, top)),
            started,
            _loop(c, c.extent, *seen),
            _loop(k, self.n, *keep),
            _loop(again, size, self._all_digits(again)),
        )

    def _sum(self) -> tuple[Stmt, ...]:
        """Counts as places where each digit starts."""
        d, c = axis(f"{self.name}_d", self.digits), axis(f"{self.name}_c", _BINS + 1)
        total, here = load(self.total), load(self.starts, d, c)
        step = (
            Store((Access(self.total, ()),), (total + here,)),
            Store((Access(self.starts, (d, c)),), (total,)),
        )
        start = Store((Access(self.total, ()),), (ZERO,))
        return (_loop(d, d.extent, start, _loop(c, c.extent, *step)),)

    def _passes(self) -> Stmt:
        d, k = axis(f"{self.name}_d", self.digits), axis(f"{self.name}_k", self.n)
        side = load(self.side)
        key, place = load(self.keys, side, k), load(self.places, side, k)
        digit = self._digit(key, d)
        to = load(self.starts, d, digit)
        target = Buf(f"{self.name}_to", (), i64, Space.REG)
        move = (
            Alloc(target),
            Store((Access(target, ()),), (to,)),
            Store((Access(self.starts, (d, digit)),), (load(target) + ONE,)),
            Store(
                tuple(Access(b, (ONE - side, load(target))) for b in (self.keys, self.places)),
                (key, place),
            ),
        )
        shared = self._digit(load(self.keys, side, ZERO), d)
        low, high = load(self.starts, d, shared), load(self.starts, d, shared + 1)
        body = (
            _loop(k, self.count, *move),
            Store((Access(self.side, ()),), (ONE - side,)),
        )
        apart = call("not", both(eq(low, ZERO), eq(high, self.count)))
        return _loop(d, d.extent, If(apart, body))


def _loop(a: Expr, end: Expr, *body: Stmt) -> For:
    return For(a, ZERO, end, Kind.SERIAL, body)
