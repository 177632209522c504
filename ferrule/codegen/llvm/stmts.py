"""Statements: loops, conditions and stores of the Loop level as LLVM text.

A serial loop tests at its end. Where its range may be empty it stands in a conditional region of
its own, which is also where its loop-invariant loads go; else they go straight into the region
around it. UNROLL axes become constants. A LANES axis becomes the constant vector 0, 1, ..; a
condition over it is a guard, not a branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce

from ferrule.base.dtype import i64
from ferrule.base.errors import VerifyError
from ferrule.codegen.llvm.accumulate import own_copy
from ferrule.codegen.llvm.builder import Region, Val
from ferrule.codegen.llvm.memory import Place, place, prefetch, read, write
from ferrule.codegen.llvm.types import memory_type
from ferrule.codegen.llvm.values import Context, combine, filled, fold_lanes, in_range, value
from ferrule.ir.expr import Buf, Expr, axis, both, conjuncts, const, load, substitute
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import Alloc, For, If, Stmt, Store, While, walk_stmts
from ferrule.ir.simplify import prove_nonneg, simplify
from ferrule.ir.system import Access, Monoid
from ferrule.target.machine import Machine

Inner = Callable[[], None]


def written(body: Iterable[Stmt]) -> frozenset[Buf]:
    """The buffers stored to in `body`."""
    return frozenset(
        buf for s in walk_stmts(tuple(body)) if isinstance(s, Store) for buf, _ in s.targets
    )


def run(cx: Context, body: tuple[Stmt, ...]) -> None:
    """Emits statements at the current point."""
    for s in body:
        if isinstance(s, Store):
            store(cx, s)
        elif isinstance(s, For):
            _for(cx, s)
        elif isinstance(s, If):
            _if(cx, s)
        elif isinstance(s, While):
            _while(cx, s)
        elif isinstance(s, Alloc):
            _alloc(cx, s.buf)
        else:
            prefetch(cx, s.buf, tuple(cx.sub(i) for i in s.idx), s.write)


# ---- loops ---------------------------------------------------------------------------------------


def _for(cx: Context, s: For) -> None:
    lo, hi = simplify(cx.sub(s.lo)), simplify(cx.sub(s.hi))
    if (lo.is_const and hi.is_const and s.kind in (Kind.UNROLL, Kind.LANES)) or _single(lo, hi):
        if s.kind is Kind.LANES and hi.attr - lo.attr > 1:
            _lanes(cx, s, int(lo.attr), int(hi.attr))
        else:
            _unroll(cx, s, lo, hi)
        return
    if s.kind in (Kind.UNROLL, Kind.LANES):
        raise VerifyError(
            f"{s.kind.value} loop over {s.axis.name} has bounds {lo} and {hi}, not constants"
        )
    _serial(cx, s, lo, hi)


def _single(lo: Expr, hi: Expr) -> bool:
    return simplify(hi - lo - 1) is const(0)


def _unroll(cx: Context, s: For, lo: Expr, hi: Expr) -> None:
    points = [lo] if _single(lo, hi) else [const(k) for k in range(lo.attr, hi.attr)]
    for point in points:
        cx.env[s.axis] = point
        run(cx, s.body)
    cx.env.pop(s.axis, None)


def _lanes(cx: Context, s: For, lo: int, hi: int) -> None:
    if cx.lane is not None:
        raise VerifyError(f"LANES loop over {s.axis.name} inside that over {cx.lane.name}")
    width = hi - lo
    lane = s.axis
    if lo or lane.extent is not const(width):
        lane = axis(f"{s.axis.name}.{width}", width)
        cx.env[s.axis] = lane + lo
    cx.lane, cx.width = lane, width
    cx.bound[lane] = cx.b.iota(width)
    run(cx, s.body)
    cx.env.pop(s.axis, None)
    cx.lane, cx.width = None, 0


def _serial(cx: Context, s: For, lo: Expr, hi: Expr) -> None:
    writes = written(s.body)
    low, high = value(cx, lo), value(cx, hi)
    if prove_nonneg(hi - lo - 1):
        loop(cx, s.axis, low, high, writes, s.body)
        return
    b = cx.b
    some = b.compare("icmp slt", low, high)
    inside, after = b.name("some"), b.name("none")
    b.push(inside, writes, conditional=True)
    loop(cx, s.axis, low, high, writes, s.body)
    body = b.pop()
    b.line(f"br i1 {some.text}, label %{inside}, label %{after}")
    b.splice([f"{inside}:", *body.lines, f"  br label %{after}", f"{after}:"], after)


def loop(
    cx: Context,
    index: Expr,
    low: Val,
    high: Val,
    writes: frozenset[Buf],
    body: tuple[Stmt, ...] | Inner,
) -> None:
    """`for index in low..high`, which is not empty."""
    b = cx.b
    head, after = b.name("loop"), b.name("done")
    counter, following, more = f"%{b.name('i')}", f"%{b.name('i')}", f"%{b.name('c')}"
    for buf in writes:  # an earlier iteration may have changed it
        b.forget(buf)
    b.push(head, writes, conditional=False)
    cx.bound[index] = Val(counter, "i64", 0, b.top)
    if callable(body):
        body()
    else:
        run(cx, body)
    inner = b.pop()
    before = b.regions[-1].block
    b.line(f"br label %{head}")
    b.splice([
        f"{head}:",
        f"  {counter} = phi i64 [ {low.text}, %{before} ], [ {following}, %{inner.block} ]",
        *inner.lines,
        f"  {following} = add nsw i64 {counter}, 1",
        f"  {more} = icmp slt i64 {following}, {high.text}",
        f"  br i1 {more}, label %{head}, label %{after}",
        f"{after}:",
    ], after)  # fmt: skip


def _while(cx: Context, s: While) -> None:
    b = cx.b
    writes = written(s.body)
    head, inside, after = b.name("while"), b.name("again"), b.name("done")
    for buf in writes:  # an earlier time may have changed it
        b.forget(buf)
    b.push(head, writes, conditional=False)
    going = value(cx, load(s.flag))
    b.push(inside, writes, conditional=True)
    run(cx, s.body)
    body = b.pop()
    b.line(f"br i1 {going.text}, label %{inside}, label %{after}")
    test = b.pop()
    b.line(f"br label %{head}")
    b.splice([
        f"{head}:", *test.lines,
        f"{inside}:", *body.lines, f"  br label %{head}",
        f"{after}:",
    ], after)  # fmt: skip
    for buf in writes:
        b.forget(buf)


# ---- conditions ----------------------------------------------------------------------------------


def _if(cx: Context, s: If) -> None:
    cond = simplify(cx.sub(s.cond))
    if cond.is_const:
        run(cx, s.body if cond.attr else s.orelse)
        return
    terms = conjuncts(cond)
    masks = [t for t in terms if cx.lane is not None and cx.lane in t.axes]
    if not masks:
        _branch(cx, cond, s.body, s.orelse)
    elif s.orelse or len(masks) == len(terms):
        _masked(cx, cond, s.body, s.orelse)
    else:
        scalar = both(*(t for t in terms if t not in masks))
        _branch(cx, scalar, (If(both(*masks), s.body),), ())


def _masked(cx: Context, cond: Expr, body: tuple[Stmt, ...], orelse: tuple[Stmt, ...]) -> None:
    mask = cx.b.splat(value(cx, cond), cx.width)
    with cx.guarded(mask):
        run(cx, body)
    if orelse:
        with cx.guarded(cx.b.binary("xor", mask, Val("true", "i1"))):
            run(cx, orelse)


def _branch(cx: Context, cond: Expr, body: tuple[Stmt, ...], orelse: tuple[Stmt, ...]) -> None:
    b = cx.b
    test = value(cx, cond)
    after = b.name("join")
    yes, yes_region = _side(cx, "then", body)
    no, no_region = _side(cx, "else", orelse) if orelse else (after, None)
    b.line(f"br i1 {test.text}, label %{yes}, label %{no}")
    for label, region in ((yes, yes_region), (no, no_region)):
        if region is not None:
            b.splice([f"{label}:", *region.lines, f"  br label %{after}"], label)
    b.splice([f"{after}:"], after)


def _side(cx: Context, stem: str, body: tuple[Stmt, ...]) -> tuple[str, Region]:
    label = cx.b.name(stem)
    cx.b.push(label, written(body), conditional=True)
    run(cx, body)
    return label, cx.b.pop()


# ---- memory --------------------------------------------------------------------------------------


def stack_bytes(buf: Buf, machine: Machine) -> int | None:
    """The size of a buffer that is kept on the stack (or in registers), None for one in the
    thread's scratch.
    """
    size = simplify(buf.size)
    if size.is_const and size.attr * buf.dtype.size <= machine.code.stack:
        return int(size.attr) * buf.dtype.size
    return None


def _alloc(cx: Context, buf: Buf) -> None:
    machine = cx.b.target.machine
    size = stack_bytes(buf, machine)
    if size is not None and buf not in cx.base:
        cx.base[buf] = cx.b.alloca(
            memory_type(buf.dtype), max(1, size // buf.dtype.size), machine.line
        )
    cx.b.forget(buf)


def store(cx: Context, s: Store) -> None:
    """Evaluates all values, then writes or combines them."""
    cx.copy = own_copy(cx, s)
    vals = [value(cx, simplify(cx.sub(v)) if v.dtype == i64 else cx.sub(v)) for v in s.values]
    cx.copy = None
    targets = [Access(buf, tuple(cx.sub(i) for i in idx)) for buf, idx in s.targets]
    places = [place(cx, buf, idx) for buf, idx in targets]
    some = tuple(g for _, idx in targets for g in filled(cx, idx))
    guards = (*cx.guards, *some)
    safe = [not guards or (not some and in_range(buf, idx)) for buf, idx in targets]
    if s.monoid is None:
        for at, v in zip(places, vals):
            write(cx, at, v, guards)
    elif cx.lane is not None and all(p.kind == "scalar" for p in places):
        _fold(cx, s.monoid, places, vals, () if all(safe) else guards)
    elif any(p.kind == "lanes" for p in places):
        _scatter(cx, s.monoid, targets, vals, some)
    else:
        old = [read(cx, at, () if ok else guards) for at, ok in zip(places, safe)]
        for at, v in zip(places, combine(cx, s.monoid, old, vals)):
            write(cx, at, v, guards)
    for at in places:
        cx.b.forget(at.buf)


def _fold(
    cx: Context, monoid: Monoid, places: list[Place], vals: list[Val], guards: tuple[Val, ...]
) -> None:
    """The horizontal reduction: lanes folded together, then with the target where `guards` hold."""
    b = cx.b
    vals = [b.splat(v, cx.width) for v in vals]
    masks = [g for g in cx.guards if g.width]
    if masks:
        mask = reduce(lambda x, y: b.binary("and", x, y), masks)
        vals = [b.select(mask, v, value(cx, e)) for v, e in zip(vals, monoid.identity)]
    one = fold_lanes(cx, monoid, vals, cx.width)
    old = [read(cx, at, guards) for at in places]
    for at, v in zip(places, combine(cx, monoid, old, one)):
        write(cx, at, v, guards)


def _scatter(
    cx: Context, monoid: Monoid, targets: list[Access], vals: list[Val], some: tuple[Val, ...]
) -> None:
    """Lane after lane, since two lanes may have the same target; where `some` hold too."""
    lane, guards = cx.lane, cx.guards
    assert lane is not None
    cx.lane = None
    for k in range(cx.width):
        with cx.in_lane(k):
            at = [
                place(cx, buf, tuple(substitute(i, {lane: const(k)}) for i in idx))
                for buf, idx in targets
            ]
            where = (*cx.guards, *some)
            old = [read(cx, p, where) for p in at]
            new = combine(cx, monoid, old, [cx.b.extract(v, k) for v in vals])
            for p, v in zip(at, new):
                write(cx, p, v, where)
                cx.b.forget(p.buf)
    cx.lane, cx.guards = lane, guards
