"""The rules of modules: what their parts are given and give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ferrule.ir.module import Module, Part
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
        if len(body.outputs) != len(p.outputs):
            yield Fault(f"{len(body.outputs)} outputs have {len(p.outputs)} names", at)
        own: Sequence[Any] = body.inputs
        if p.repeated is not None:
            r = p.repeated
            own = own[len(r.first) + len(r.over) :]
            for b in (*r.first, *r.over):
                if b.name not in known:
                    yield Fault(f"it is repeated over {b.name}, which nothing before gives", at)
            if len(r.first) > len(p.outputs):
                yield Fault("it has more states than outputs", at)
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


MODULE_RULES = (
    Rule("all parts are at one level", _one_level),
    Rule("parts read what is given or what parts before them give", _linked),
)
