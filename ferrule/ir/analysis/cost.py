"""Cost: work in floating-point operations and an estimate of time, for decisions alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import Buf, Expr, Space, const, loads, product
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.operators import COMPARISONS, RECORDS
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Sort, Stage
from ferrule.target.machine import CPU, Machine

_SORT_STEP = 16  # operations to choose one of two tuples and to move it


def flops(e: Expr) -> int:
    """Operations to evaluate `e` once: those of its distinct nodes, index arithmetic and what loads
    do left out.
    """
    found = e.memo.get("flops")
    if found is None:
        found = e.memo["flops"] = _flops(e, set())
    return found


def _flops(e: Expr, seen: set[Expr]) -> int:
    total, stack = 0, [e]
    while stack:
        node = stack.pop()
        if node in seen or node.op in ("load", "axis", "dim", "const"):
            continue
        seen.add(node)
        if not (node.op in COMPARISONS and not loads(node)):
            total += RECORDS[node.op].flops if node.op in RECORDS else 1
        stack.extend(node.args)
    return total


def kernel_ns(kernel: Kernel, machine: Machine = CPU) -> Expr:
    """Estimated time of the whole grid on one thread, in nanoseconds, as an expression over dims.
    """
    total = const(0)
    for st in stages(kernel.body):
        total = total + _stage_ps(st, machine) * points((*kernel.grid, *st.compute.all_axes))
    return simplify(total // 1000 + 1)


def kernel_flops(kernel: Kernel) -> Expr:
    """Operations of the whole grid, an expression over dims."""
    total = const(0)
    for st in stages(kernel.body):
        work = sum(flops(v) for v in st.compute.values) + _fold_flops(st)
        total = total + points((*kernel.grid, *st.compute.all_axes)) * work
    return simplify(total)


def kernel_bytes(kernel: Kernel) -> Expr:
    """Bytes of the program's buffers that it reads and writes, each counted once; an expression
    over dims.
    """
    total = const(0)
    for b in kernel.globals:
        total = total + b.size * b.dtype.size
    return simplify(total)


def weighed(chosen: Decision, kernel: Kernel, machine: Machine = CPU) -> Decision:
    """A decision with what `kernel`, which is how something is done since, is expected to take."""
    return replace(
        chosen,
        bytes=estimate(kernel_bytes(kernel)),
        flops=estimate(kernel_flops(kernel)),
        ns=estimate(kernel_ns(kernel, machine)),
    )


def passed_on(chosen: Decision, bufs: Iterable[Buf], machine: Machine = CPU) -> Decision:
    """A decision for which `bufs` go through memory: written by one kernel, read by another."""
    moved = 2 * sum(estimate(b.size) * b.dtype.size for b in bufs)
    return replace(chosen, bytes=moved, ns=moved * machine.byte_ps // 1000)


def points(axes: tuple[Expr, ...]) -> Expr:
    """How many points loops over `axes` have."""
    return simplify(product([a.extent for a in axes]))


def _stage_ps(st: Stage, machine: Machine) -> int:
    """Picoseconds for each point."""
    folds = st.is_reduction or isinstance(st.compute.fold, Sort)
    work = sum(flops(v) for v in st.compute.values) + (_fold_flops(st) if folds else 0)
    moved = sum(b.dtype.size for b in (*st.reads, *st.writes) if b.space is Space.GLOBAL)
    return work * machine.flop_ps + (moved if _reuses(st) else moved * machine.byte_ps)


def _fold_flops(st: Stage) -> int:
    """Operations for each point besides those of its values: a sort compares and moves what is
    there once for each doubling of a run.
    """
    fold = st.compute.fold
    if not isinstance(fold, Sort):
        return 0 if fold is None else 1
    doublings = estimate(fold.axis.extent).bit_length()
    return doublings * (flops(fold.order.before) + _SORT_STEP)


def _reuses(st: Stage) -> bool:
    """Whether each element is read many times, as in a contraction."""
    own = set(st.compute.all_axes)
    return st.is_reduction and any(own - ld.axes for v in st.compute.values for ld in loads(v))
