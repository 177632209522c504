"""Instructions of WebAssembly with vectors of 128 bits. (WebAssembly Core Specification 2.0, 4.3.3
and 4.4; the intrinsics are LLVM's own for all types.)
"""

from __future__ import annotations

from ferrule.base.dtype import f32, f64
from ferrule.codegen.llvm.isa.instruction import Instruction, Intrinsic
from ferrule.ir.expr import arg, call

INSTRUCTIONS = tuple(
    Instruction(name, call(op, arg(0, dtype)), ("simd128",), None, Intrinsic(intrinsic))
    for name, op, intrinsic in (
        ("floor", "floor", "floor"),
        ("ceil", "ceil", "ceil"),
        ("trunc", "trunc", "trunc"),
        ("nearest", "round", "roundeven"),
    )
    for dtype in (f32, f64)
)
