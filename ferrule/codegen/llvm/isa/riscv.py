"""Instructions of 64-bit RISC-V. (RISC-V Unprivileged ISA, "F", "D" and "V"; the intrinsics are
LLVM's own for all types.)
"""

from __future__ import annotations

from ferrule.base.dtype import DType, f32, f64, i32, i64, u32, u64
from ferrule.codegen.llvm.isa.instruction import (
    Instruction,
    Intrinsic,
    Masked,
    masked_load,
    masked_store,
)
from ferrule.ir.expr import arg, call


def _fma(dtype: DType) -> Instruction:
    meaning = call("fma", *(arg(k, dtype) for k in range(3)))
    return Instruction("fmadd", meaning, ("d",), None, Intrinsic("fma"))


def _masked(dtype: DType) -> tuple[Instruction, Instruction]:
    return (
        Instruction(f"vle{dtype.bits}", masked_load(dtype), ("v",), None, Masked("load")),
        Instruction(f"vse{dtype.bits}", masked_store(dtype), ("v",), None, Masked("store")),
    )


INSTRUCTIONS = (
    *(_fma(dtype) for dtype in (f32, f64)),
    *(entry for dtype in (f32, f64, i32, i64, u32, u64) for entry in _masked(dtype)),
)
