"""The rules of kernels and launches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from ferrule.base.dtype import boolean
from ferrule.ir.expr import ONE, Buf, Expr, Space, conjuncts, loads, walk
from ferrule.ir.kernel import Branch, Item, Kernel, Kind, Prefetch, SerialLoop, stages, walk_items
from ferrule.ir.simplify import prove_nonneg
from ferrule.ir.system import Access, Stage
from ferrule.ir.text import print_stage
from ferrule.ir.verify.expr import fault_of
from ferrule.ir.verify.rules import Fault, Rule, check, leaves, names, repeated
from ferrule.ir.verify.stage import STAGE_RULES, StageRule

_PRIVATE = (Space.SCRATCH, Space.REG)


@dataclass(frozen=True)
class Placed:
    """A stage or a branch in its kernel: the number of the stage, the axes and the scratch that are
    alive there, and the scratch written before it.
    """

    item: Stage | Branch
    number: int | None
    open: tuple[Expr, ...]
    scratch: frozenset[Buf]
    written: frozenset[Buf]

    @property
    def name(self) -> str:
        return self.item.name if isinstance(self.item, Stage) else f"if {self.item.cond}"

    @property
    def writes(self) -> tuple[Buf, ...]:
        return self.item.writes if isinstance(self.item, Stage) else ()


def verify_kernel(kernel: Kernel) -> None:
    """Raises VerifyError if `kernel` breaks a rule."""
    placed = _placed(kernel)
    shown = lambda: [print_stage(st) for st in stages(kernel.body)]  # noqa: E731
    check("kernel", kernel.name, (kernel, placed), KERNEL_RULES, shown)


Whole = tuple[Kernel, list[Placed]]


def _placed(kernel: Kernel) -> list[Placed]:
    out: list[Placed] = []
    numbers = count()

    def visit(
        body: tuple[Item, ...], axes: tuple[Expr, ...], alive: frozenset[Buf], done: set[Buf]
    ) -> None:
        for item in body:
            if isinstance(item, SerialLoop):
                inner = alive | set(item.scratch)
                visit(item.body, (*axes, item.axis), inner, done - set(item.scratch))
                done |= {b for p in out for b in p.writes if b in alive}
            elif isinstance(item, Branch):
                out.append(Placed(item, None, axes, alive, frozenset(done)))
                visit(item.body, axes, alive, done)
            elif isinstance(item, Stage):
                out.append(Placed(item, next(numbers), axes, alive, frozenset(done)))
                done |= set(item.writes)

    visit(kernel.body, kernel.grid, frozenset(kernel.scratch), set())
    return out


def _each_stage(rule: StageRule) -> Rule:
    def faults(whole: Whole) -> Iterator[Fault]:
        for p in whole[1]:
            if isinstance(p.item, Stage):
                for message in rule.faults(p.item, frozenset(p.open)):
                    yield Fault(f"{p.name}: {message}", p.number)

    return Rule(rule.says, faults)


def _each(
    check_one: Callable[[Kernel, Placed], Iterator[str]],
) -> Callable[[Whole], Iterator[Fault]]:
    def faults(whole: Whole) -> Iterator[Fault]:
        for p in whole[1]:
            for message in check_one(whole[0], p):
                yield Fault(f"{p.name}: {message}", p.number)

    return faults


def _loops(body: tuple[Item, ...]) -> Iterator[SerialLoop]:
    for item in body:
        if isinstance(item, SerialLoop):
            yield item
        if isinstance(item, (SerialLoop, Branch)):
            yield from _loops(item.body)


def _scratch_declared(whole: Whole) -> Iterator[Fault]:
    kernel = whole[0]
    declared = [*kernel.scratch, *(b for s in _loops(kernel.body) for b in s.scratch)]
    for b in declared:
        if b.space not in _PRIVATE:
            yield Fault(f"{b.name} is declared as scratch and is {b.space.value}")
    for name in repeated(b.name for b in (*declared, *kernel.globals)):
        yield Fault(f"two buffers are called {name}")


def _hints_pure(whole: Whole) -> Iterator[Fault]:
    for item, _ in walk_items(whole[0].body):
        if isinstance(item, Prefetch) and any(loads(i) for i in item.idx):
            yield Fault(f"the hint at {item.buf.name} reads memory for its index")


def _branch_faults(kernel: Kernel, p: Placed) -> Iterator[str]:
    if not isinstance(p.item, Branch):
        return
    cond, around = p.item.cond, frozenset(p.open)
    fault = fault_of(cond)
    if fault is not None:
        yield fault
    if cond.dtype != boolean:
        yield f"the condition is of {cond.dtype.name}"
    if not cond.axes <= around:
        yield f"it mentions {names(cond.axes - around)}; the axes there are {names(around)}"
    if any(n.op == "arg" for n in walk(cond)):
        yield "it mentions an operand of a monoid"


def _scratch_alive(kernel: Kernel, p: Placed) -> Iterator[str]:
    for b in (*p.item.reads, *p.writes):
        if b.space in _PRIVATE and b not in p.scratch:
            yield f"the scratch {b.name} is not alive here"


def _scratch_written(kernel: Kernel, p: Placed) -> Iterator[str]:
    needs = set(p.item.reads)
    if isinstance(p.item, Stage) and p.item.combine is not None:
        needs |= set(p.writes)
    for b in needs:
        if b.space in _PRIVATE and b not in p.written:
            yield f"the scratch {b.name} is read and nothing before has written it"


def _points_independent(kernel: Kernel, p: Placed) -> Iterator[str]:
    if isinstance(p.item, Branch):
        return
    pinned = conjuncts(p.item.when)
    if p.item.compute.fold is None:
        pinned += conjuncts(p.item.compute.where)
    for b, idx in p.item.targets:
        if b.space in _PRIVATE or any(loads(i) for i in idx):
            continue
        for a in kernel.grid:
            stored = any(a in i.axes for i in idx)
            if not stored and a.extent is not ONE and not any(_pins(c, a) for c in pinned):
                yield f"{b.name} is stored at every point of the grid axis {a.name}"


def _pins(c: Expr, a: Expr) -> bool:
    """Whether the condition `c` holds for one value of `a` at most."""
    if c.op == "eq":
        return a in c.args and a not in c.args[1 - c.args.index(a)].axes
    if c.op in ("lt", "le") and c.args[0] is a:
        limit = c.args[1] - ONE if c.op == "lt" else c.args[1]
        return prove_nonneg(-limit)
    return False


def _kind_faults(kernel: Kernel, p: Placed) -> Iterator[str]:
    own = p.item.compute.all_axes if isinstance(p.item, Stage) else ()
    nest = (*p.open[len(kernel.grid) :], *own)
    wide = [a for a in nest if kernel.kind(a) is Kind.LANES]
    if len(wide) > 1:
        yield f"{names(wide)} are LANES axes at once"
    for a in nest:
        if kernel.kind(a) in (Kind.LANES, Kind.UNROLL) and not a.extent.is_const:
            yield f"the {kernel.kind(a).value} axis {a.name} has no constant extent: {a.extent}"


def _registers(kernel: Kernel, p: Placed) -> Iterator[str]:
    places = list(p.item.targets) if isinstance(p.item, Stage) else []
    places += [Access.of(ld) for e in p.item.exprs() for ld in loads(e)]
    for b, idx in places:
        if b.space is not Space.REG:
            continue
        if not all(s.is_const for s in b.shape):
            yield f"the register buffer {b.name} has no constant shape"
        for n in (n for i in idx for n in leaves(i)):
            fixed = n.op == "axis" and kernel.kind(n) in (Kind.UNROLL, Kind.LANES)
            if not fixed:
                yield f"the register buffer {b.name} is indexed by {n}"


KERNEL_RULES = (
    *(_each_stage(r) for r in STAGE_RULES),
    Rule("the condition of a branch is a bool over what is open", _each(_branch_faults)),
    Rule("scratch is SCRATCH or REG, and names are unique", _scratch_declared),
    Rule("scratch is used while it is alive", _each(_scratch_alive)),
    Rule("scratch is written before it is read", _each(_scratch_written)),
    Rule("grid points never store to the same place", _each(_points_independent)),
    Rule(
        "one LANES axis is open at most; LANES and UNROLL have constant extents",
        _each(_kind_faults),
    ),
    Rule("hints read nothing, as what they name may be out of bounds", _hints_pure),
    Rule("registers are indexed by constants, UNROLL and LANES axes alone", _each(_registers)),
)
