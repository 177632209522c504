"""The FMA peak of this machine: f32 operations a second of a loop that stays in registers.

Generated for the same target as ferrule's own kernels, a dozen independent sums so that neither the
latency of an addition nor memory bounds it. It is timed in the same rounds as what is compared
with it, because a machine's clock is not the same from one minute to the next.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import llvmlite.binding as llvm

from ferrule.base.target import Target, current
from ferrule.codegen.compile_ir import compile_module

SUMS = 12
STEPS = 1_000_000


class Peak:
    """A call that keeps `threads` cores busy with multiply-adds, `flops` operations in all."""

    def __init__(self, threads: int) -> None:
        target = current()
        self.flops = threads * STEPS * SUMS * 2 * target.lanes(4)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._loop, self._engine = _compiled(target)

    def __call__(self) -> None:
        list(self._pool.map(self._once, range(self._threads)))

    def _once(self, _: int) -> float:
        return self._loop(STEPS, 0.5)


def source(target: Target) -> str:
    """LLVM IR of `float fma_peak(i64 steps, float x)`, steps >= 1."""
    lanes, sums = target.lanes(4), range(SUMS)
    vector, name = f"<{lanes} x float>", f"@llvm.fma.v{lanes}f32"

    def step(i: int) -> list[str]:
        if target.has_fma:
            return [f"  %b{i} = call {vector} {name}({vector} %a{i}, {vector} %v, {vector} %v)"]
        return [f"  %m{i} = fmul {vector} %a{i}, %v", f"  %b{i} = fadd {vector} %m{i}, %v"]

    return "\n".join(
        [
            f"declare {vector} {name}({vector}, {vector}, {vector})",
            "define float @fma_peak(i64 %steps, float %x) {",
            "entry:",
            f"  %v0 = insertelement {vector} poison, float %x, i32 0",
            f"  %v = shufflevector {vector} %v0, {vector} poison, <{lanes} x i32> zeroinitializer",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *(f"  %a{i} = phi {vector} [ %v, %entry ], [ %b{i}, %loop ]" for i in sums),
            *(line for i in sums for line in step(i)),
            "  %next = add i64 %i, 1",
            "  %more = icmp slt i64 %next, %steps",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *(
                f"  %s{i} = fadd {vector} {f'%s{i - 1}' if i > 1 else '%b0'}, %b{i}"
                for i in sums[1:]
            ),
            f"  %r = extractelement {vector} %s{SUMS - 1}, i32 0",
            "  ret float %r",
            "}",
        ]
    )


def _compiled(target: Target) -> tuple[Callable[[int, float], float], object]:
    """The loop, and the engine that keeps its code alive."""
    code = compile_module(source(target), target)
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address("fma_peak")
    return ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float)(address), engine
