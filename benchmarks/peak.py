"""The FMA peak of this machine: f32 operations a second of a loop that stays in registers.

Generated for the same target as ferrule's own kernels, as many independent sums as registers hold,
so that neither the latency of an addition, nor the loop's own instructions, nor memory bound it. It
is timed in the same rounds as what is compared with it, because a machine's clock is not the same
from one minute to the next, and on the threads that programs run on.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm

from ferrule.base import config
from ferrule.codegen.llvm.compile import compile_module
from ferrule.runtime import pool
from ferrule.target.cpu import Target, named

UNITS = 16  # for each thread, so that a core which others use too takes fewer
STEPS = 32_768  # of the loop, for each unit


class Peak:
    """A call that keeps `threads` cores busy with multiply-adds, `flops` operations in all."""

    def __init__(self, threads: int) -> None:
        target = named(config.get("target"))
        self._threads, self._units = threads, threads * UNITS
        self.flops = self._units * STEPS * _sums(target) * 2 * target.lanes(4)
        self._results = (ctypes.c_float * self._units)()
        self._unit, self._engine = _compiled(target)
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)
        self._parallel = kind(pool.install().address)

    def __call__(self) -> None:
        self._parallel(self._unit, ctypes.addressof(self._results), self._units, self._threads)


def _sums(target: Target) -> int:
    return target.registers - 4


def source(target: Target) -> str:
    """LLVM IR of `fma_units(float *results, i64 first, i64 last, i64 thread)`, a task of the pool:
    a result for each unit.
    """
    lanes, sums = target.lanes(4), range(_sums(target))
    vector, name = f"<{lanes} x float>", f"@llvm.fma.v{lanes}f32"

    def step(i: int) -> list[str]:
        if target.has_fma:
            return [f"  %b{i} = call {vector} {name}({vector} %a{i}, {vector} %v, {vector} %v)"]
        return [f"  %m{i} = fmul {vector} %a{i}, %v", f"  %b{i} = fadd {vector} %m{i}, %v"]

    return "\n".join(
        [
            f"declare {vector} {name}({vector}, {vector}, {vector})",
            "define internal float @fma_unit(float %x) noinline {",
            "entry:",
            f"  %v0 = insertelement {vector} poison, float %x, i32 0",
            f"  %v = shufflevector {vector} %v0, {vector} poison, <{lanes} x i32> zeroinitializer",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *(f"  %a{i} = phi {vector} [ %v, %entry ], [ %b{i}, %loop ]" for i in sums),
            *(line for i in sums for line in step(i)),
            "  %next = add i64 %i, 1",
            f"  %more = icmp slt i64 %next, {STEPS}",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *(
                f"  %s{i} = fadd {vector} {f'%s{i - 1}' if i > 1 else '%b0'}, %b{i}"
                for i in sums[1:]
            ),
            f"  %r = extractelement {vector} %s{len(sums) - 1}, i32 0",
            "  ret float %r",
            "}",
            _TASK,
        ]
    )


_TASK = """
define void @fma_units(ptr %results, i64 %first, i64 %last, i64 %thread) {
entry:
  br label %check
check:
  %i = phi i64 [ %first, %entry ], [ %next, %unit ]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %unit, label %end
unit:
  %at = getelementptr float, ptr %results, i64 %i
  %x = load volatile float, ptr %at
  %y = call float @fma_unit(float %x)
  store float %y, ptr %at
  %next = add i64 %i, 1
  br label %check
end:
  ret void
}"""


def _compiled(target: Target) -> tuple[int, Any]:
    """The address of the task, and the engine that keeps its code alive."""
    code = compile_module(source(target), target)
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine.get_function_address("fma_units"), engine
