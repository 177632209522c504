"""The rules of modules: what their parts are given and give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ferrule.ir.module import Branch, Module, Part, Repetition, While
from ferrule.ir.verify.rules import Fault, Rule, check


def verify_module(module: Module[Any]) -> None:
    """Raises VerifyError if `module` breaks a rule; its bodies are verified by themselves."""
    name = module.interface.name
    check("module", name, module, MODULE_RULES, lambda: [_shown(p) for p in module.parts])


def _face(body: Any) -> Any:
    """What has the inputs, params and outputs of a body."""
    return body if hasattr(body, "inputs") else body.interface


def _shown(part: Part[Any]) -> str:
    return f"segment {', '.join(b.name for b in part.outputs)}"


def _one_level(module: Module[Any]) -> Iterator[Fault]:
    kinds = {type(body).__name__ for body in module.straight()}
    if len(kinds) > 1:
        yield Fault(f"its parts are of several levels: {', '.join(sorted(kinds))}")


def _linked(module: Module[Any]) -> Iterator[Fault]:
    face = module.interface
    params = {b.name for b in face.params}
    known = {b.name for b in (*face.inputs, *face.params)}
    for at, p in enumerate(module.parts):
        body = _face(p.body)
        made = len(body.outputs) - isinstance(p.control, While)
        if made != len(p.outputs):
            yield Fault(f"{made} outputs have {len(p.outputs)} names", at)
        own: Sequence[Any] = body.inputs
        own = own[len(p.carried) :]
        for b in (*p.carried, *p.asked):
            if b.name not in known:
                yield Fault(f"it is controlled by {b.name}, which nothing before gives", at)
        if isinstance(p.control, Repetition) and len(p.control.first) > len(p.outputs):
            yield Fault("it has more states than outputs", at)
        if isinstance(p.control, Branch):
            yield from _branch(module.parts, at)
        for b in own:
            if b.name not in known:
                yield Fault(f"it reads {b.name}, which nothing before gives", at)
        for b in body.params:
            if b.name not in params:
                yield Fault(f"its param {b.name} is none of the module", at)
        known |= {b.name for b in p.outputs}
    for b in face.outputs:
        if b.name not in known:
            yield Fault(f"nothing gives the output {b.name}")


def _branch(parts: Sequence[Part[Any]], at: int) -> Iterator[Fault]:
    p, before = parts[at], parts[at - 1] if at else None
    assert isinstance(p.control, Branch)
    follows = (
        before is not None
        and before.outputs == p.outputs
        and before.control == replace(p.control, case=p.control.case - 1)
    )
    if p.control.case and not follows:
        yield Fault(f"it is case {p.control.case}, and the one before it is missing", at)


MODULE_RULES = (
    Rule("all parts are at one level", _one_level),
    Rule("parts read what is given or what parts before them give", _linked),
)
