"""Constants: which buffers of a system can be computed once, when parameters are bound.

A stage is constant if it reads parameters and constant buffers alone (or nothing at all), and
neither its values nor its sizes depend on a dim, which is known at a call and not before. A buffer
is constant if every stage that writes it is. An output of the program is not: it is written anew
on each call, so what reads it has to run then too. So the constant stages depend on parameters and
on each other alone, and may run in `prepare` together.
"""

from __future__ import annotations

from ferrule.ir.expr import Buf, dims
from ferrule.ir.system import Stage, System


def constants(system: System) -> frozenset[Buf]:
    """The parameters of `system` and the buffers that can be computed from them once."""
    varying = {*system.inputs, *system.outputs}
    varying |= {b for st in system.stages if depends_on_dims(st) for b in st.writes}
    before = -1
    while len(varying) > before:  # again: an update may follow the stages that read its buffer
        before = len(varying)
        for st in system.stages:
            if not varying.isdisjoint((*st.reads, *st.writes)):
                varying |= set(st.writes)
    made = {b for st in system.stages for b in st.writes}
    return frozenset((*system.params, *made)) - varying


def depends_on_dims(st: Stage) -> bool:
    """Whether a size or a value of the stage depends on a dim."""
    sizes = (s for b in st.writes for s in b.shape)
    extents = (a.extent for a in st.compute.all_axes)
    return any(dims(e) for e in (*st.exprs(), *sizes, *extents))
