"""Explain: a compilation in words."""

from __future__ import annotations

from collections.abc import Iterator

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.calls import Kernels
from ferrule.ir.explain import describe
from ferrule.ir.kernel import Kernel
from ferrule.ir.module import Control, Module, Repetition, While
from ferrule.pipeline.run import Outcome


def explain(outcome: Outcome) -> list[str]:
    """What each kernel of a program holds and costs, what was packed for it, and what was decided;
    lines. Nothing but the decisions for what began below kernels.
    """
    level = outcome.levels.get("kernels")
    chosen = (d for d in outcome.decisions if d.kind == "schedule")
    lines = [] if level is None else _kernels(level, chosen, outcome.decisions)
    told = [f"    {d}" for d in outcome.decisions if d.reason and d.kind != "pack"]
    return [*lines, "decisions:", *told]


def _kernels(
    level: Kernels | Module[Kernels], chosen: Iterator[Decision], decisions: tuple[Decision, ...]
) -> list[str]:
    """The lines of each kernel; `chosen` are the schedules of these and of what follows them."""
    if isinstance(level, Kernels):
        runs = [(k, True) for k in level.prepare] + [(k, False) for k in level.main]
        return [x for k, once in runs for x in _kernel(k, next(chosen), decisions, once)]
    lines: list[str] = []
    for part in level.parts:
        own = _kernels(part.body, chosen, decisions)
        if part.control is not None and own:
            own = [f"{_head(part.control)} {{", *(f"    {line}" for line in own), "}"]
        lines += own
    return lines


def _head(control: Control) -> str:
    if isinstance(control, Repetition):
        return f"loop of {control.count} steps"
    if isinstance(control, While):
        return f"loop while {control.flag.name}"
    return f"where {control.index.name} is {control.case}"


def _kernel(
    kernel: Kernel, chosen: Decision, decisions: tuple[Decision, ...], once: bool
) -> list[str]:
    notes = ["runs once, when parameters are bound"] if once else []
    packed = (d for d in decisions if d.kind == "pack" and d.subject == kernel.name)
    notes += dict.fromkeys(f"{d.chosen} {d.reason}" for d in packed)
    return describe(kernel, chosen, tuple(notes))
