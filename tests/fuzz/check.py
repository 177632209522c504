"""Compiles a program, runs it in poisoned memory between protected pages, and judges the results.

    fault = check(program, Setup("avx2", small=True, split=True))        None where all is well

Every set of sizes runs three times: on memory filled with ones that ends at a protected page, on
other memory that begins at one, and with two threads. The first two must agree in every bit, and
all must be what the graph means. A fault's `kind` is what a smaller program must have as well.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from ferrule import ops  # noqa: F401  (defines the operators)
from ferrule.base import config
from ferrule.base.cpu import supports
from ferrule.base.dtype import from_name
from ferrule.base.errors import FerruleError, GuardError
from ferrule.ir.graph import Graph
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime import cpu
from ferrule.runtime.signature import Signature
from tests.cpus import current
from tests.fuzz.memory import Memory, array_at
from tests.fuzz.oracle import Judge
from tests.fuzz.program import Program, arrays

Array = NDArray[Any]

TARGETS = tuple(t for t in ("avx512", "avx2", "neon", "generic") if supports(t))
_RUNS = ((1, 0xFF, True), (1, 0x5A, False), (2, 0xFF, False))  # threads, pattern, at_end
_memory = Memory()


@dataclass(frozen=True)
class Setup:
    """What a program is compiled for: a target, `small` with caches of a few KB, so that small
    sizes are cut into blocks as large ones are, and `split` so that every kernel is divided among
    threads.
    """

    target: str
    small: bool = False
    split: bool = False

    def __str__(self) -> str:
        words = (self.target, "small" if self.small else "", "split" if self.split else "")
        return " ".join(w for w in words if w)


@dataclass(frozen=True)
class Fault:
    """What went wrong: its kind, and words for people."""

    kind: str
    detail: str


def setup_of(seed: int) -> Setup:
    """The setup that the program of this seed is tried with."""
    rng = random.Random(~seed)
    return Setup(rng.choice(TARGETS), rng.random() < 0.3, rng.random() < 0.5)


SETUPS = tuple(Setup(t, s, s) for t in TARGETS for s in (False, True))


@contextmanager
def settings(setup: Setup) -> Iterator[None]:
    """Compilation as `setup` says, without a cache."""
    with config.override(cache=False, tuning=False, target=setup.target, num_threads=2):
        target = current()
        if setup.small:
            target = replace(target, l1=2 << 10, l2=8 << 10)
        if setup.split:
            target = replace(target, machine=replace(target.machine, grain_ns=1))
        with (
            mock.patch("ferrule.pipeline.compile.named", return_value=target),
            mock.patch.object(cpu, "Arena", _memory.arena),
        ):
            yield


def check(program: Program, setup: Setup) -> Fault | None:
    """What is wrong with the program compiled for `setup`, or None."""
    with settings(setup):
        try:
            compiled = compile_graph(program.graph)
        except Exception as error:
            return Fault(f"no compilation: {_where(error)}", _tail(error))
        for sizes in program.runs:
            try:
                judge: Judge | Exception = Judge(program.graph, sizes)
            except IndexError as error:
                judge = error
            except Exception as error:
                return Fault(f"no meaning: {_where(error)}", _tail(error))
            fault = _tried(compiled.executable, compiled.signature, program.graph, sizes, judge)
            if fault is not None:
                shown = ", ".join(f"{k} = {v}" for k, v in sizes.items())
                return replace(fault, detail=f"{fault.detail} ({setup}; {shown or 'no dims'})")
    return None


def _tried(
    executable: cpu.Executable, signature: Signature, graph: Graph, sizes: Any,
    judge: Judge | Exception,
) -> Fault | None:  # fmt: skip
    """The fault of one set of sizes."""
    given = arrays(graph, sizes)
    first: list[Array] | None = None
    for threads, pattern, at_end in _RUNS:
        with config.override(num_threads=threads):
            _memory.begin(pattern, at_end)
            try:
                found = _run(executable, signature, given, len(graph.inputs))
            except IndexError as error:
                if isinstance(judge, IndexError):
                    continue
                return Fault("an index is refused", str(error))
            except GuardError as error:
                return Fault("sizes are refused", str(error))
            except FerruleError as error:
                return Fault(f"no run: {_where(error)}", str(error))
        if isinstance(judge, Exception):
            return Fault("an index is not refused", str(judge))
        if isinstance(found, str):
            return Fault("an input is changed", found)
        different = first is not None and threads == 1 and not _same(first, found)
        first = first or found
        message = judge.complaint(found)
        if different:
            what = "what memory held before is in the results"
            return Fault("unwritten memory", f"{what}: {message or 'slightly'}")
        if message is not None:
            kind = "a wrong value" if threads == 1 else "a wrong value with two threads"
            return Fault(kind, message)
    return None


def _run(
    executable: cpu.Executable, signature: Signature, given: Sequence[Array], inputs: int
) -> list[Array] | str:
    """The outputs of one run with everything in `_memory`; the name of an input that was changed.
    """
    compiled = executable.compiled
    addresses = [_memory.put(x) for x in given]
    executable.bind([(a, None) for a in addresses[inputs:]])
    plan = signature.plan(tuple(x.shape for x in given[:inputs]))
    dtypes = [from_name(s.dtype).numpy for s in compiled.outputs]
    sizes = [int(np.prod(s)) * t.itemsize for s, t in zip(plan.outputs, dtypes, strict=True)]
    results = [_memory.take(n) for n in sizes]
    executable.run(addresses[:inputs], results, plan.dims)
    for spec, x, a in zip((*compiled.inputs, *compiled.params), given, addresses, strict=True):
        if array_at(a, x.shape, x.dtype).tobytes() != x.tobytes():
            return spec.name
    return [array_at(a, s, t) for a, s, t in zip(results, plan.outputs, dtypes, strict=True)]


def _same(xs: Sequence[Array], ys: Sequence[Array]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(xs, ys, strict=True))


def _where(error: BaseException) -> str:
    """An exception's type, and the function of ferrule that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "ferrule" in f.filename] or list(frames)
    return f"{type(error).__name__} in {ours[-1].name}"


def _tail(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    path = " > ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in frames)
    return f"{type(error).__name__}: {str(error)[:600]} [{path}]"
