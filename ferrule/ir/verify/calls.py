"""The rules of whole programs as kernels, and as code with calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ferrule.ir.calls import Call, Functions, Interface, Kernels, Scheduled
from ferrule.ir.expr import Buf
from ferrule.ir.text.calls import call_text
from ferrule.ir.verify.kernel import verify_kernel
from ferrule.ir.verify.loop import verify_function
from ferrule.ir.verify.rules import Fault, Rule, check, repeated


@dataclass(frozen=True)
class Step:
    """What one kernel or call writes and reads."""

    name: str
    writes: tuple[Buf, ...]
    reads: tuple[Buf, ...]


@dataclass(frozen=True)
class Steps:
    """A level as its steps, the first `prepared` of which are those of `prepare`."""

    interface: Interface
    steps: tuple[Step, ...]
    prepared: int


def verify_kernels(level: Kernels) -> None:
    """Raises VerifyError if `level` or one of its kernels breaks a rule."""
    for k in level.kernels:
        verify_kernel(k)
    steps = tuple(Step(k.name, k.written, k.globals[len(k.written) :]) for k in level.kernels)
    _check("kernels", level.interface, steps, len(level.prepare), [s.name for s in steps])


def verify_scheduled(level: Scheduled) -> None:
    """Raises VerifyError if `level` or one of its kernels breaks a rule."""
    for k in level.kernels:
        verify_kernel(k)
    code = {k.name: (k.globals, len(k.written)) for k in level.kernels}
    _calls("scheduled", level, [k.name for k in level.kernels], code)


def verify_functions(level: Functions) -> None:
    """Raises VerifyError if `level` or one of its functions breaks a rule."""
    for f in level.functions:
        verify_function(f)
    code = {f.name: (f.bufs, f.written) for f in level.functions}
    _calls("functions", level, [f.name for f in level.functions], code)


def _calls(
    kind: str,
    level: Scheduled | Functions,
    names: Sequence[str],
    code: dict[str, tuple[tuple[Buf, ...], int]],
) -> None:
    calls = (*level.prepare, *level.main)
    rule = Rule(
        "names of code are different, and calls give it the buffers it takes",
        lambda _: _fitting(names, code, calls),
    )
    shown = [call_text(c) for c in calls]
    check(kind, level.interface.name, level, (rule,), lambda: shown)
    steps = []
    for c in calls:
        written = code[c.function][1]
        steps.append(Step(c.function, c.args[:written], c.args[written:]))
    _check(kind, level.interface, tuple(steps), len(level.prepare), shown)


def _fitting(
    names: Sequence[str], code: dict[str, tuple[tuple[Buf, ...], int]], calls: Sequence[Call]
) -> Iterator[Fault]:
    for name in repeated(names):
        yield Fault(f"{name} is defined twice")
    for at, c in enumerate(calls):
        if c.function not in code:
            yield Fault(f"nothing defines {c.function}", at)
            continue
        formal = code[c.function][0]
        if len(formal) != len(c.args):
            yield Fault(f"{c.function} takes {len(formal)} buffers, not {len(c.args)}", at)
        for f, b in zip(formal, c.args):
            if f.dtype != b.dtype or len(f.shape) != len(b.shape) or f.order != b.order:
                yield Fault(f"{b.name} is not laid out as {f.name} of {c.function}", at)


def _check(
    kind: str, face: Interface, steps: tuple[Step, ...], prepared: int, shown: Sequence[str]
) -> None:
    check(kind, face.name, Steps(face, steps, prepared), ORDER_RULES, lambda: shown)


def _in_order(level: Steps) -> Iterator[Fault]:
    face = level.interface
    known = set(face.params)
    for at, step in enumerate(level.steps):
        if at == level.prepared:
            known |= set(face.inputs)
        for b in step.reads:
            if b not in known:
                yield Fault(f"{step.name} reads {b.name}, which nothing has written before", at)
        known |= set(step.writes)
    known |= set(face.inputs)
    for b in face.outputs:
        if b not in known:
            yield Fault(f"nothing writes the output {b.name}")


def _apart(level: Steps) -> Iterator[Fault]:
    face = level.interface
    given = {*face.inputs, *face.params} - set(face.updates)
    made: set[Buf] = set()
    for at, step in enumerate(level.steps):
        constant = at < level.prepared
        for b in step.writes:
            if b in given:
                yield Fault(f"{step.name} writes {b.name}, which the program is given", at)
            if constant and b in (*face.outputs, *face.updates):
                yield Fault(f"{step.name} writes the output {b.name} once", at)
            if not constant and b in made:
                yield Fault(f"{step.name} writes {b.name}, which is made once", at)
        if constant:
            made |= set(step.writes)


ORDER_RULES = (
    Rule("what is read has been written before, outputs in the end", _in_order),
    Rule("what is given stays as it is, and what is made once too", _apart),
)
