"""The rules of systems."""

from __future__ import annotations

from collections.abc import Iterator

from ferrule.ir.expr import Buf
from ferrule.ir.system import System
from ferrule.ir.text import print_stage
from ferrule.ir.text.declare import mentions
from ferrule.ir.verify.rules import Fault, Rule, check, repeated
from ferrule.ir.verify.stage import STAGE_RULES, StageRule


def verify_system(system: System) -> None:
    """Raises VerifyError if `system` breaks a rule."""
    check(
        "system", system.name, system, SYSTEM_RULES, lambda: [print_stage(s) for s in system.stages]
    )


def _each_stage(rule: StageRule) -> Rule:
    def faults(system: System) -> Iterator[Fault]:
        for k, st in enumerate(system.stages):
            yield from (Fault(f"{st.name}: {m}", k) for m in rule.faults(st, frozenset()))

    return Rule(rule.says, faults)


def _one_buffer_a_name(system: System) -> Iterator[Fault]:
    found = mentions(system)
    for name in repeated(b.name for b in found.bufs):
        yield Fault(f"two buffers are called {name}")
    for name in repeated(d.name for d in found.dims):
        yield Fault(f"two dims are called {name}")
    for name in repeated(b.name for b in (*system.inputs, *system.params)):
        yield Fault(f"{name} is given twice")


def _defined_before_use(system: System) -> Iterator[Fault]:
    defined: set[Buf] = {*system.inputs, *system.params}
    for k, st in enumerate(system.stages):
        for b in st.reads:
            if b not in defined:
                yield Fault(f"{st.name} reads {b.name}, which nothing before it defines", k)
        defined |= set(st.writes)
    for b in system.outputs:
        if b not in defined:
            yield Fault(f"the output {b.name} is defined nowhere")


def _defined_once(system: System) -> Iterator[Fault]:
    given: set[Buf] = {*system.inputs, *system.params}
    defined = set(given)
    for k, st in enumerate(system.stages):
        rewrites = st.update or st.combine is not None
        for b in st.writes:
            if b in given and b in system.updates:
                if not rewrites:
                    yield Fault(f"{st.name} defines the input {b.name}", k)
            elif b in given:
                yield Fault(f"{st.name} writes the input {b.name}", k)
            elif b in defined and not rewrites:
                yield Fault(f"{st.name} defines {b.name} again", k)
            elif b not in defined and rewrites:
                yield Fault(f"{st.name} updates {b.name}, which nothing before it defines", k)
        defined |= set(st.writes)


SYSTEM_RULES = (
    *(_each_stage(r) for r in STAGE_RULES),
    Rule("a name means one buffer or dim", _one_buffer_a_name),
    Rule("buffers are defined before they are read", _defined_before_use),
    Rule("a buffer is defined by one stage; others update it", _defined_once),
)
