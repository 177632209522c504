"""Runs contraction cases between pages that must not be touched, in a process of its own.

    python -m tests.schedule.guarded        a case as JSON on each line in, a complaint out, or ok

Each operand ends exactly where a protected page begins, and in a second run begins where one ends;
so do the results, and the arenas of the program end before one. A read or a write out of bounds
ends the process. The results of both runs are compared with NumPy's in f64.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
import traceback
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule import ops  # noqa: F401  (defines the operators)
from ferrule.base import config
from ferrule.base.dtype import from_name
from ferrule.ir.graph import Graph
from ferrule.pipeline.compile import CompiledGraph, compile_graph
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.runtime import cpu
from ferrule.schedule.choose import tasks_of
from ferrule.schedule.space import candidates
from tests.cpus import current
from tests.schedule.contraction_cases import Case, Made, difference, from_data, make

Array = NDArray[Any]
PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """`size` bytes, zero like fresh memory, that end (or begin) at a protected page."""

    def __init__(self, size: int, at_end: bool = True) -> None:
        self.size, room = size, max(1, -(-size // PAGE)) * PAGE
        self._map = mmap.mmap(-1, room + 2 * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for page in (base, base + PAGE + room):
            if _libc.mprotect(ctypes.c_void_p(page), PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.address = base + PAGE + (room - size if at_end else 0)

    def fill(self, array: Array) -> None:
        """Put an array's bytes here."""
        ctypes.memmove(self.address, np.ascontiguousarray(array).ctypes.data, self.size)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A copy of what is here."""
        return np.frombuffer(ctypes.string_at(self.address, self.size), dtype).reshape(shape)


class GuardedArena(Guarded):
    """An arena of the runtime, aligned as it must be, that ends at a protected page."""

    def __init__(self, size: int) -> None:
        super().__init__(-(-max(size, 64) // 64) * 64)


def complaint(case: Case) -> str:
    """What is wrong with a case's compiled program, or ""."""
    made = make(case)
    with config.override(cache=False, tuning=False, target=case.target):
        program = compile_graph(made.graph, blockings=blockings(made.graph, case.blocking))
        for at_end in (True, False):
            message = difference(_result(program, made, at_end), case, made)
            if message is not None:
                return f"{message} ({'end' if at_end else 'begin'} of the operands guarded)"
    return ""


def blockings(graph: Graph, number: int) -> dict[str, Any]:
    """For each contraction of the program the candidate of that number, counted around."""
    if not number:
        return {}
    target = current()
    level = lowered(graph, "kernels", options_for(target))
    found = {s.key: candidates(s.kernel, target, s.constant) for s in tasks_of(level, target)}
    return {key: several[number % len(several)] for key, several in found.items()}


def _result(program: CompiledGraph, made: Made, at_end: bool) -> Array:
    """The result of a run on guarded memory."""
    cpu.Arena = GuardedArena  # type: ignore[assignment,misc]
    inputs, params = (_placed(arrays, at_end) for arrays in (made.inputs, made.params))
    dtype = from_name(program.compiled.outputs[0].dtype).numpy
    shape = made.expected.shape
    out = Guarded(int(np.prod(shape)) * dtype.itemsize, at_end)
    if out.size:
        ctypes.memset(out.address, 0xFF, out.size)  # what is left out is NaN
    executable = cpu.load(program.compiled)
    if params:
        executable.bind([(p.address, p) for p in params])
    plan = program.signature.plan(tuple(x.shape for x in made.inputs))
    if plan.outputs != (shape,):
        raise AssertionError(f"the program's result has the shape {plan.outputs}, not {shape}")
    executable.run([x.address for x in inputs], [out.address], plan.dims)
    return out.array(shape, dtype)


def _placed(arrays: list[Array], at_end: bool) -> list[Guarded]:
    found = []
    for array in arrays:
        found.append(Guarded(array.nbytes, at_end))
        found[-1].fill(array)
    return found


def main() -> None:
    """Answer cases until there are no more."""
    for line in sys.stdin:
        try:
            answer = complaint(from_data(json.loads(line)))
        except Exception:
            answer = traceback.format_exc()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
