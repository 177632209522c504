"""Instructions of AArch64. (Arm Architecture Reference Manual for A-profile, section C7; the
intrinsics are those of LLVM's IntrinsicsAArch64.td.)
"""

from __future__ import annotations

from ferrule.base.dtype import DType, f16, f32, f64
from ferrule.codegen.llvm.isa.instruction import Conversion, Instruction, Intrinsic
from ferrule.ir.expr import arg, call, cast

_NEON = ("neon",)


def _of(name: str, op: str, count: int, intrinsic: str, dtype: DType) -> Instruction:
    meaning = call(op, *(arg(k, dtype) for k in range(count)))
    return Instruction(name, meaning, _NEON, None, Intrinsic(intrinsic))


INSTRUCTIONS = (
    Instruction(
        "fcvtl", cast(arg(0, f16), f32), _NEON, None, Conversion("fpext", "half", "float")
    ),
    Instruction(
        "fcvtn", cast(arg(0, f32), f16), _NEON, None, Conversion("fptrunc", "float", "half")
    ),
    *(
        _of(name, op, count, intrinsic, dtype)
        for name, op, count, intrinsic in (
            ("fmadd", "fma", 3, "fma"),
            ("frintm", "floor", 1, "floor"),
            ("frintp", "ceil", 1, "ceil"),
            ("frintz", "trunc", 1, "trunc"),
            ("frintn", "round", 1, "roundeven"),
        )
        for dtype in (f32, f64)
    ),
)
