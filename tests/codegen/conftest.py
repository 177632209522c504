"""Runs single Loop functions on NumPy arrays, as the tests of code generation need it.

`run_on(function, *arrays)` compiles for the target of the test (this machine, and the generic one).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from ferrule.codegen.llvm.compile import compile_module
from ferrule.codegen.llvm.emit import emit_module, scratch_layout
from ferrule.ir.expr import Expr, const, substitute
from ferrule.ir.loop import Function
from ferrule.ir.simplify import simplify
from ferrule.target.cpu import Target, host, named
from ferrule.target.machine import CPU


class Runner:
    """A function compiled for a target and loaded into this process."""

    def __init__(self, function: Function, target: Target):
        self.function = function
        self.text = emit_module([function], target)
        self.object = compile_module(self.text, target)
        self.engine = llvm.create_mcjit_compiler(
            llvm.parse_assembly(""), target_machine_copy(target)
        )
        self.engine.add_object_file(llvm.ObjectFileRef.from_data(self.object))
        self.engine.finalize_object()
        address = self.engine.get_function_address(function.name)
        signature = ctypes.CFUNCTYPE(
            None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
        )
        self.call = signature(address)

    def __call__(
        self,
        *arrays: Any,
        dims: tuple[int, ...] = (),
        span: tuple[int, int] | None = None,
        tid: int = 0,
    ) -> int:
        """Runs the grid points of `span` (all of them by default) and gives the status word."""
        f = self.function
        values = {d: const(v) for d, v in zip(f.dims, dims)}
        total = 1
        for a in f.grid:
            total *= _number(a.extent, values)
        size = _number(scratch_layout(f, CPU)[1], values)
        scratch = np.full(size * (tid + 1) + 64, 0xA5, np.uint8)
        start = -scratch.ctypes.data % 64
        status = ctypes.c_int32(0)
        addresses = [a if isinstance(a, int) else a.ctypes.data for a in arrays]
        slots = [ctypes.addressof(status), scratch.ctypes.data + start, size, *addresses, *dims]
        ctx = (ctypes.c_int64 * len(slots))(*slots)
        lo, hi = span or (0, total)
        self.call(ctypes.addressof(ctx), lo, hi, tid)
        return status.value


def target_machine_copy(target: Target) -> Any:
    """A target machine of the engine's own: an engine owns the one it is given."""
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, jit=True)


def _number(e: Expr, values: dict[Expr, Expr]) -> int:
    return int(simplify(substitute(e, values)).value)


@pytest.fixture(params=["host", "generic"])
def target(request: pytest.FixtureRequest) -> Target:
    return host() if request.param == "host" else named("generic")


@pytest.fixture
def run_on(target: Target) -> Callable[..., int]:
    """Compiles and runs a function; arrays are given in the order of its bufs."""

    def run(function: Function, *arrays: Any, **options: Any) -> int:
        return Runner(function, target)(*arrays, **options)

    return run


@pytest.fixture
def runner() -> type[Runner]:
    """The class that compiles a function for a given target."""
    return Runner
