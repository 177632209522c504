"""From Expr to LLVM values.

`value` evaluates an expression at the current point and remembers it. Index arithmetic (i64) goes
through the polynomial form: the terms are added from the outermost level inwards, so that a loop
adds only what changes in it. Under a LANES loop the lane axis is the constant vector 0, 1, ..; an
index `base + c*lane` is a splat plus a constant, and comparing it is done in 32 bits after
clamping the scalar part, since a distance beyond the lanes decides them all.

`guards` are the conditions (an `if` on lanes, the taken branch of a `select`) under which loads
are performed; a load that is in range for all values of its axes ignores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ferrule.base.dtype import DType, i32, i64
from ferrule.base.errors import status_of
from ferrule.codegen.llvm import arith
from ferrule.codegen.llvm.builder import Builder, Val
from ferrule.codegen.llvm.convert import bitcast, convert
from ferrule.codegen.llvm.integer import divide
from ferrule.codegen.llvm.types import constant, ssa_type
from ferrule.ir.expr import DEEP, ZERO, Buf, Expr, bottom_up, lt, show, substitute, walk
from ferrule.ir.operators import COMPARISONS, PROMISES
from ferrule.ir.simplify import (
    INDEX_ATOMS,
    Monomial,
    Poly,
    poly,
    prove_nonneg,
    range_of,
    simplify,
)
from ferrule.ir.system import Monoid

_CLAMP = 1 << 29
_ORDER = {"lt": "icmp slt", "le": "icmp sle", "eq": "icmp eq", "ne": "icmp ne"}


@dataclass
class Context:
    """Where emission stands: what axes stand for, the open LANES axis, where buffers are, the
    guards in force; and for a product that goes to a register, which of several loads of the same
    element is its own (see accumulate).
    """

    b: Builder
    written: frozenset[Buf]
    load: Callable[[Context, Expr], Val]
    env: dict[Expr, Expr] = field(default_factory=dict)
    bound: dict[Expr, Val] = field(default_factory=dict)
    lane: Expr | None = None
    width: int = 0
    base: dict[Buf, Val] = field(default_factory=dict)
    guards: tuple[Val, ...] = ()
    bad: Val | None = None
    dummy: Val | None = None
    copy: int | None = None
    strides: dict[Buf, tuple[Expr, ...]] = field(default_factory=dict)

    def sub(self, e: Expr) -> Expr:
        """`e` with unrolled axes replaced by their constants."""
        return e if not self.env or e.axes.isdisjoint(self.env) else substitute(e, self.env)

    @contextmanager
    def guarded(self, condition: Val) -> Iterator[None]:
        """Evaluation under a further condition."""
        outer = self.guards
        self.guards = (*outer, condition)
        try:
            yield
        finally:
            self.guards = outer

    @contextmanager
    def in_lane(self, k: int) -> Iterator[None]:
        """Evaluation for lane `k` alone, of expressions in which it stands for the lane axis."""
        outer = self.guards
        self.guards = tuple(self.b.extract(g, k) for g in outer)
        try:
            yield
        finally:
            self.guards = outer


def reads(e: Expr) -> frozenset[Buf]:
    """The buffers that evaluating `e` may read."""
    return bottom_up(e, "llvm.reads", _reads)


def _reads(e: Expr) -> frozenset[Buf]:
    found = frozenset((e.attr,)) if e.op == "load" else frozenset[Buf]()
    return found.union(*map(reads, e.args))


def impure(e: Expr) -> bool:
    """Whether evaluating `e` reads memory or may report an error."""
    return bottom_up(e, "llvm.impure", _impure)


def _impure(e: Expr) -> bool:
    return e.op == "load" or e.op in PROMISES or any(map(impure, e.args))


def value(cx: Context, e: Expr) -> Val:
    """The value of `e` at the current point; `e` mentions no unrolled axis. What a deep one needs
    in any case is evaluated before it, arguments first, so that no level waits for another.
    """
    if e.depth > DEEP and _known(cx, e) is None:
        for node in walk(e, lambda n: _needs_arguments(n) and _known(cx, n) is None):
            if node is not e:
                _value(cx, node)
    return _value(cx, e)


def _value(cx: Context, e: Expr) -> Val:
    if e.op == "const":
        return Val(constant(e.attr, e.dtype), ssa_type(e.dtype))
    if cx.copy is not None and e.op == "load" and cx.lane not in e.axes:
        return cx.load(cx, e)
    known = _known(cx, e)
    if known is not None:
        return known
    v = _evaluate(cx, e)
    level = cx.b.effect_level(v.level) if impure(e) else v.level  # a report is due on each path
    guards = _guards(cx, e)
    key = (e, guards) if guards else e
    cx.b.regions[level].memo[key] = v
    for buf in reads(e) & cx.written:
        cx.b.remember(buf, key, level)
    return v


def _guards(cx: Context, e: Expr) -> tuple[Val, ...]:
    """The guards under which it matters that `e` is evaluated."""
    return cx.guards if cx.guards and impure(e) else ()


def _needs_arguments(e: Expr) -> bool:
    """Whether the value of `e` is made of those of all its arguments, here and now."""
    if e.op in ("select", "load", "word", "bounded", "axis") or e.dtype == i64:
        return False
    return all(a.dtype != i64 for a in e.args)


def _known(cx: Context, e: Expr) -> Val | None:
    """What was evaluated before under the guards or fewer of them: that is read at more places."""
    guards = _guards(cx, e)
    keys = [e, *((e, guards[:k]) for k in range(1, len(guards) + 1))]
    for region in reversed(cx.b.regions):
        for key in keys:
            known = region.memo.get(key)
            if known is not None:
                return known
    return None


def _evaluate(cx: Context, e: Expr) -> Val:
    op, b = e.op, cx.b
    if op in ("axis", "dim"):
        return cx.bound[e]
    if op == "load" or _is_one_word(cx, e):
        return cx.load(cx, e)
    if op == "select":
        return _select(cx, e)
    if op == "bounded":
        return _bounded(cx, e)
    if op == "checked":
        return _checked(cx, e)
    if e.dtype == i64 and op in _INDEX_OPS:
        return _INDEX_OPS[op](cx, e)
    if op in COMPARISONS and e.args[0].dtype == i64:
        return _compare(cx, e)
    if op == "cast":
        return _cast(cx, e)
    args = [value(cx, a) for a in e.args]
    if op == "bitcast":
        return bitcast(b, args[0], e.dtype)
    return arith.apply(b, op, e.args[0].dtype, args)


def _adjacent(e: Expr) -> bool:
    """Whether the bytes of a word lie side by side in one buffer."""
    found: bool | None = e.memo.get("llvm.adjacent")
    if found is None:
        found = all(_follows(e.args[0], a, i) for i, a in enumerate(e.args))
        e.memo["llvm.adjacent"] = found
    return found


def _is_one_word(cx: Context, e: Expr) -> bool:
    """Whether an expression is a word that one load reads, the same for all lanes."""
    return e.op == "word" and cx.lane not in e.axes and _adjacent(e)


def _follows(first: Expr, other: Expr, by: int) -> bool:
    """Whether two loads read elements so far apart along the innermost dimension of one buffer."""
    if first.op != "load" or other.op != "load" or first.attr != other.attr:
        return False
    buf = first.attr
    inner = buf.order[-1] if buf.shape else None
    same = all(x is y for d, (x, y) in enumerate(zip(first.args, other.args)) if d != inner)
    return same and inner is not None and poly(other.args[inner] - first.args[inner]) == (
        {(): by} if by else {}
    )


def in_range(buf: Buf, idx: tuple[Expr, ...]) -> bool:
    """Whether the index is within the shape for all values of its axes."""
    return all(prove_nonneg(i) and prove_nonneg(n - i - 1) for i, n in zip(idx, buf.shape))


def filled(cx: Context, idx: tuple[Expr, ...]) -> tuple[Val, ...]:
    """Guards of an access at `idx`: that no axis is empty which a `bounded` index walks."""
    maybe = frozenset[Expr]().union(*map(_maybe_empty, idx))
    return tuple(value(cx, lt(ZERO, n)) for n in sorted(maybe, key=show)) if maybe else ()


def _maybe_empty(e: Expr) -> frozenset[Expr]:
    """The extents of `bounded` indices in `e` that may be 0."""
    return bottom_up(e, "llvm.empty", _maybe_empty_of)


def _maybe_empty_of(e: Expr) -> frozenset[Expr]:
    own = e.args[1:] if e.op == "bounded" and not prove_nonneg(e.args[1] - 1) else ()
    return frozenset(own).union(*map(_maybe_empty, e.args))


# ---- indices -------------------------------------------------------------------------------------


def _ring(cx: Context, e: Expr) -> Val:
    lane = cx.lane
    if lane is None or lane not in e.axes:
        return sum_of(cx, poly(e))
    split = lane_linear(e, lane)
    if split is None:
        return arith.apply(cx.b, e.op, i64, [value(cx, a) for a in e.args])
    step, base = split
    return cx.b.binary("add", sum_of(cx, base), cx.b.iota(cx.width, step))


def lane_linear(e: Expr, lane: Expr) -> tuple[int, Poly] | None:
    """(c, base) where `e` = base + c*lane with a constant c; None where that is not so."""
    step, base = 0, {}
    for m, c in poly(e).items():
        if any(lane in a.axes for a in m):
            if len(m) > 1 or m[0] is not lane:
                return None
            step = c
        else:
            base[m] = c
    return step, base


def sum_of(cx: Context, p: Poly) -> Val:
    """A polynomial without the lane axis, outer terms first."""
    b = cx.b
    out: Val | None = None
    for v in _ordered_terms(cx, p):
        out = v if out is None else b.binary("add", out, v)
    rest = p.get((), 0)
    if out is None:
        return b.integer(rest)
    return b.binary("add", out, b.integer(rest)) if rest else out


def terms(cx: Context, p: Poly) -> list[tuple[Val, Monomial, int]]:
    """The non-constant terms as values, the outermost level first."""
    found = [(_term(cx, m, c), m, c) for m, c in p.items() if m]
    return sorted(found, key=lambda t: t[0].level)


def _ordered_terms(cx: Context, p: Poly) -> list[Val]:
    return [v for v, _, _ in terms(cx, p)]


def _term(cx: Context, m: Monomial, c: int) -> Val:
    b = cx.b
    factors = sorted((value(cx, a) for a in m), key=lambda v: v.level)
    out = factors[0]
    for f in factors[1:]:
        out = b.binary("mul", out, f)
    return out if c == 1 else b.binary("mul", out, b.integer(c))


def _quotient(cx: Context, e: Expr) -> Val:
    s = simplify(e) if _plain_index(e) else e
    if s is not e:
        return value(cx, s)
    x, y = e.args
    natural = (
        _plain_index(e) and prove_nonneg(x) and ((y.is_const and y.attr > 0) or prove_nonneg(y - 1))
    )
    return divide(cx.b, e.op, i64, value(cx, x), value(cx, y), natural)


def _plain_index(e: Expr) -> bool:
    return all(a.op in INDEX_ATOMS for x in e.args for m in poly(x) for a in m)


_INDEX_OPS = {
    **dict.fromkeys(("add", "sub", "mul", "neg"), _ring),
    **dict.fromkeys(("floordiv", "mod", "truncdiv", "rem"), _quotient),
}


def _compare(cx: Context, e: Expr) -> Val:
    b, (x, y) = cx.b, e.args
    if cx.lane is not None and cx.lane in e.axes:
        difference = x - y
        split = lane_linear(difference, cx.lane)
        if split is not None and _small_atoms(difference) and abs(split[0]) * cx.width < _CLAMP:
            step, base = split
            limit = _clamped(cx, {m: -c for m, c in base.items()})
            return b.compare(_ORDER[e.op], b.iota(cx.width, step, "i32"), limit)
    return arith.apply(b, e.op, i64, [value(cx, x), value(cx, y)])


def _clamped(cx: Context, p: Poly) -> Val:
    """A scalar polynomial as i32, cut at +-_CLAMP."""
    b = cx.b
    if not any(p):
        return Val(str(max(-_CLAMP, min(_CLAMP, p.get((), 0)))), "i32")
    low = b.intrinsic("smin", sum_of(cx, p), b.integer(_CLAMP))
    return b.convert("trunc", b.intrinsic("smax", low, b.integer(-_CLAMP)), "i32")


def _small_atoms(e: Expr) -> bool:
    """Whether sums over `e`'s atoms cannot overflow: all are indices, or of narrower integers."""
    return all(a.op in INDEX_ATOMS or _widened(a) for m in poly(e) for a in m)


def _widened(a: Expr) -> bool:
    return a.op == "cast" and a.args[0].dtype.bits < 64 and not a.args[0].dtype.is_float


def _cast(cx: Context, e: Expr) -> Val:
    b, x = cx.b, e.args[0]
    if x.dtype == i64 and not e.dtype.is_bool and cx.lane is not None and cx.lane in x.axes:
        narrow = _narrow_lanes(cx, x, e.dtype)
        if narrow is not None:
            return narrow
    return convert(b, value(cx, x), x.dtype, e.dtype)


def _narrow_lanes(cx: Context, x: Expr, to: DType) -> Val | None:
    """An index over lanes converted by way of i32, which vector units convert, where its range
    allows.
    """
    split = lane_linear(x, cx.lane) if cx.lane is not None else None
    if split is None:
        return None
    lo, hi = range_of(x)
    if to.is_float and (lo is None or hi is None or lo < -(1 << 31) or hi >= 1 << 31):
        return None
    if not to.is_float and to.bits > 32:
        return None
    step, base = split
    scalar = cx.b.convert("trunc", sum_of(cx, base), "i32")
    return convert(cx.b, cx.b.binary("add", scalar, cx.b.iota(cx.width, step, "i32")), i32, to)


# ---- conditions ----------------------------------------------------------------------------------


def _select(cx: Context, e: Expr) -> Val:
    c, x, y = simplify(e.args[0]), e.args[1], e.args[2]
    if c.is_const:
        return value(cx, x if c.attr else y)
    cond = value(cx, c)
    for ld in sorted(
        _certain(x) & _certain(y), key=show
    ):  # whichever branch is taken, they are read
        value(cx, ld)
    each = not cond.width or cx.lane in x.axes  # one element cannot be zero in some lanes alone
    if y.op == "const" and _is_zero(y) and each and _reads_zero(cx, x):
        return _branch(cx, x, cond)
    vx, vy = _branch(cx, x, cond), _branch(cx, y, cond, negate=True)
    return cx.b.select(cond, vx, vy)


def _certain(e: Expr) -> frozenset[Expr]:
    """The loads that evaluating `e` performs in any case."""
    return bottom_up(e, "llvm.certain", _certain_of)


def _certain_of(e: Expr) -> frozenset[Expr]:
    parts = [_certain(a) for a in e.args] if impure(e) else []
    if e.op == "select":
        parts = [parts[0], parts[1] & parts[2]] if parts else []
    return frozenset[Expr]().union(*parts, (e,) if e.op == "load" else ())


def _branch(cx: Context, e: Expr, cond: Val, negate: bool = False) -> Val:
    if not impure(e):
        return value(cx, e)
    with cx.guarded(cx.b.binary("xor", cond, Val("true", "i1")) if negate else cond):
        return value(cx, e)


def _is_zero(e: Expr) -> bool:
    return constant(e.attr, e.dtype) in ("0", "false", "0x0000000000000000")


def _reads_zero(cx: Context, e: Expr) -> bool:
    """Whether `e` is a load, converted at most, that will read zero where its guard is false."""
    while e.op == "cast":
        e = e.args[0]
    read = e.args if _is_one_word(cx, e) else (e,)
    if any(ld.op != "load" for ld in read) or _known(cx, e) is not None:
        return False
    return not all(in_range(ld.attr, ld.args) for ld in read)


def _bounded(cx: Context, e: Expr) -> Val:
    """The index clamped into its range; a violation sets the flag reported at the end. An empty
    range has no index that is right, and the access is not done (`filled`).
    """
    b = cx.b
    index, extent = value(cx, e.args[0]), value(cx, e.args[1])
    last = b.binary("sub", extent, b.integer(1))
    clamped = b.intrinsic("smax", b.intrinsic("smin", index, last), b.integer(0))
    wrong = b.compare("icmp uge", index, extent)
    for g in cx.guards:
        wrong = b.binary("and", wrong, g if g.width or not wrong.width else b.splat(g, wrong.width))
    report(cx, wrong)
    return clamped


def _checked(cx: Context, e: Expr) -> Val:
    """The value; where its condition does not hold, the flag of its fault is set."""
    b = cx.b
    wrong = b.binary("xor", value(cx, simplify(e.args[1])), Val("true", "i1"))
    for g in cx.guards:
        wrong = b.binary("and", wrong, g if g.width or not wrong.width else b.splat(g, wrong.width))
    report(cx, wrong, e.attr)
    return value(cx, e.args[0])


def report(cx: Context, wrong: Val, fault: str = "index") -> None:
    """Sets the flag of `fault`, a bit of the error word, where any lane of `wrong` holds."""
    b = cx.b
    if cx.bad is None:
        cx.bad = b.alloca("i32", 1, 4)
        b.allocas.append(f"  store i32 0, ptr {cx.bad.text}")
    flag = b.convert("zext", any_lane(b, wrong), "i32")
    if bit := status_of(fault) - 1:
        flag = b.binary("shl", flag, Val(str(bit), "i32"))
    level = b.effect_level(flag.level)
    old, new = "%" + b.name(), "%" + b.name()
    b.regions[level].lines += [
        f"  {old} = load i32, ptr {cx.bad.text}",
        f"  {new} = or i32 {old}, {flag.text}",
        f"  store i32 {new}, ptr {cx.bad.text}",
    ]


def any_lane(b: Builder, v: Val) -> Val:
    """Whether a bool holds in some lane."""
    if not v.width:
        return v
    callee = f"llvm.vector.reduce.or.v{v.width}i1"
    b.declare(callee, "i1", v.full)
    return b.pure(f"call i1 @{callee}({v.full} {v.text})", "i1", 0, v.level)


# ---- monoids -------------------------------------------------------------------------------------


def combine(cx: Context, monoid: Monoid, old: list[Val], new: list[Val]) -> list[Val]:
    """The monoid's combination of two tuples of values."""
    operands = old + new
    done: dict[Expr, Val] = {}

    def visit(e: Expr) -> Val:
        if e.op == "arg":
            return operands[e.attr]
        if e.op == "const":
            return value(cx, e)
        found = done.get(e)
        if found is None:
            args = [visit(a) for a in e.args]
            if e.op == "select":
                found = cx.b.select(*args)
            elif e.op == "cast":
                found = convert(cx.b, args[0], e.args[0].dtype, e.dtype)
            elif e.op == "bitcast":
                found = bitcast(cx.b, args[0], e.dtype)
            else:
                found = arith.apply(cx.b, e.op, e.args[0].dtype, args)
            done[e] = found
        return found

    return [visit(e) for e in monoid.combine]


def fold_lanes(cx: Context, monoid: Monoid, vals: list[Val], width: int) -> list[Val]:
    """The lanes of a tuple of vectors folded into scalars, by halves."""
    vals = [cx.b.splat(v, width) for v in vals]
    size = 1 << (width - 1).bit_length()
    if size != width:
        vals = [_padded(cx, v, e, size) for v, e in zip(vals, monoid.identity)]
    while size > 1:
        size //= 2
        if size == 1:
            low = [cx.b.extract(v, 0) for v in vals]
            high = [cx.b.extract(v, 1) for v in vals]
        else:
            low = [cx.b.shuffle(v, list(range(size))) for v in vals]
            high = [cx.b.shuffle(v, list(range(size, 2 * size))) for v in vals]
        vals = combine(cx, monoid, low, high)
    return [cx.b.extract(v, 0) for v in vals]


def _padded(cx: Context, v: Val, identity: Expr, size: int) -> Val:
    lanes = [cx.b.extract(v, k) for k in range(v.width)]
    return cx.b.gather(lanes + [value(cx, identity)] * (size - v.width))
