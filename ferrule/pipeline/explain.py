"""Explain: a compilation in words."""

from __future__ import annotations

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.calls import Kernels
from ferrule.ir.explain import describe
from ferrule.ir.kernel import Kernel
from ferrule.ir.module import Module
from ferrule.pipeline.run import Outcome


def explain(outcome: Outcome) -> list[str]:
    """What each kernel of a program holds and costs, what was packed for it, and what was decided;
    lines. Nothing but the decisions for what began below kernels.
    """
    level = outcome.levels.get("kernels")
    lines = [] if level is None else _kernels(level, outcome.decisions)
    told = [f"    {d}" for d in outcome.decisions if d.reason and d.kind != "pack"]
    return [*lines, "decisions:", *told]


def _kernels(level: Kernels | Module[Kernels], decisions: tuple[Decision, ...]) -> list[str]:
    if isinstance(level, Kernels):
        once = [line for k in level.prepare for line in _kernel(k, decisions, once=True)]
        return once + [line for k in level.main for line in _kernel(k, decisions, once=False)]
    lines: list[str] = []
    for part in level.parts:
        own = _kernels(part.body, decisions)
        if part.repeated is not None and own:
            count = part.repeated.count
            own = [f"loop of {count} steps {{", *(f"    {line}" for line in own), "}"]
        lines += own
    return lines


def _kernel(kernel: Kernel, decisions: tuple[Decision, ...], once: bool) -> list[str]:
    notes = ["runs once, when parameters are bound"] if once else []
    packed = (d for d in decisions if d.kind == "pack" and d.subject == kernel.name)
    notes += dict.fromkeys(f"{d.chosen} {d.reason}" for d in packed)
    return describe(kernel, tuple(notes))
