"""Explain: what a kernel holds and costs, in words."""

from __future__ import annotations

from ferrule.ir.analysis.cost import kernel_bytes, kernel_flops
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.expr import Buf, Expr, Space, const, load, rebuild, show, walk
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.system import Reduce, Scan, Sort, Stage

_WIDTH = 96
_LONG = 2000  # nodes of an expression
_LEVELS = 8


def describe(kernel: Kernel, chosen: Decision, packed: tuple[str, ...] = ()) -> list[str]:
    """Lines that tell a kernel's grid, bytes, flops and stages; `chosen` is its schedule. Sizes
    with symbolic dims stay expressions.
    """
    flops, moved = _work(kernel, chosen)
    grid = " x ".join(show(a.extent) for a in kernel.grid) or "1"
    body = list(stages(kernel.body))
    head = (
        f"kernel {kernel.name}: grid {grid}, {_plural(len(body), 'stage')}, "
        f"{_amount(flops, 'flop')}, {_amount(moved, 'B')} of inputs and outputs"
    )
    lines = [head, *(f"    {_equation(st)}" for st in body)]
    kept = [b.name for b in kernel.scratch]
    if kept:
        lines.append(f"    kept in registers or scratch: {', '.join(kept)}")
    return [*lines, *(f"    {p}" for p in packed)]


def _work(kernel: Kernel, chosen: Decision) -> tuple[Expr, Expr]:
    """Operations and bytes, as the decision has them; where dims are symbolic it has those for
    likely sizes alone.
    """
    if kernel.dims or chosen.flops is None or chosen.bytes is None:
        return kernel_flops(kernel), kernel_bytes(kernel)
    return const(chosen.flops), const(chosen.bytes)


def _equation(st: Stage) -> str:
    c = st.compute
    fold = ""
    if isinstance(c.fold, Reduce):
        fold = f"{c.fold.monoid.name}[{', '.join(a.name for a in c.fold.axes)}] "
    elif isinstance(c.fold, Scan):
        fold = f"scan {c.fold.monoid.name}[{c.fold.axis.name}] "
    elif isinstance(c.fold, Sort):
        fold = f"sorted[{c.fold.axis.name}] "
    left = ", ".join(_place(b, idx) for b, idx in st.targets)
    text = f"{left} = {fold}{', '.join(map(_shown, c.values))}"
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _shown(e: Expr) -> str:
    """The text of `e`, or that of its outer operators where it would be long: what an expression
    shares is written again each time, so that texts may grow as powers of two do.
    """
    size: dict[Expr, int] = {}
    for node in walk(e):
        size[node] = 1 + sum(size.get(a, 0) for a in node.args)
    return show(e if size[e] <= _LONG else _outer(e, _LEVELS))


def _outer(e: Expr, levels: int) -> Expr:
    """`e` down to some level, `etc` for what is below."""
    if e.op in ("axis", "dim") or not e.args:
        return e
    if not levels:
        return load(Buf("etc", (), e.dtype))
    return rebuild(e, tuple(_outer(a, levels - 1) for a in e.args))


def _place(b: Buf, idx: tuple[Expr, ...]) -> str:
    return (
        f"{b.name}[{', '.join(show(i) for i in idx)}]" if idx or b.space is Space.GLOBAL else b.name
    )


def _plural(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _amount(e: Expr, unit: str) -> str:
    if not e.is_const:
        return f"{show(e)} {unit}"
    n = float(e.attr)
    for prefix in ("", "k", "M", "G"):
        if n < 1000 or prefix == "G":
            return f"{n:.3g} {prefix}{unit}"
        n /= 1000
    raise AssertionError
