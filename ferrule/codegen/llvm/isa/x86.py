"""Instructions of x86-64. (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2;
the intrinsics are those of LLVM's IntrinsicsX86.td.)
"""

from __future__ import annotations

from ferrule.base.dtype import DType, f16, f32, f64, i32, i64, u32, u64
from ferrule.codegen.llvm.isa.instruction import (
    Call,
    Conversion,
    Instruction,
    Intrinsic,
    Masked,
    masked_load,
    masked_store,
)
from ferrule.ir.expr import Expr, add, arg, call, cast

_DOT4 = add(arg(0, i32), call("dot4", arg(1, i32), arg(2, i32)))
_TRUNCATE = cast(arg(0, f32), i32)
_TO_HALF = cast(arg(0, f32), f16)


def _vpdpbusd(lanes: int, *needs: str) -> Instruction:
    """LLVM from 22 on makes vectors of i8 of the factors."""
    full = f"<{lanes} x i32>"
    callee = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    operands = (f"{full} {{0}}", f"{full} {{1}}", f"{full} {{2}}")
    return Instruction("vpdpbusd", _DOT4, needs, lanes, Call(callee, full, operands))


def _cvttps2dq(lanes: int, callee: str, need: str, *rest: str) -> Instruction:
    spelling = Call(callee, f"<{lanes} x i32>", (f"<{lanes} x float> {{0}}", *rest))
    return Instruction("cvttps2dq", _TRUNCATE, (need,), lanes, spelling)


def _vcvtps2ph(lanes: int, callee: str, result: int, need: str, *rest: str) -> Instruction:
    """The control 4 rounds as the unit does, to nearest even. LLVM's own conversion may become one
    of an f64 in a library, where a sign is taken from a number that was an f64 before.
    """
    operands = (f"<{lanes} x float> {{0}}", "i32 4", *rest)
    return Instruction(
        "vcvtps2ph", _TO_HALF, (need,), lanes, Call(callee, f"<{result} x i16>", operands)
    )


def _fma(dtype: DType) -> Instruction:
    meaning = call("fma", *(arg(k, dtype) for k in range(3)))
    return Instruction("vfmadd", meaning, ("fma",), None, Intrinsic("fma"))


def _round(op: str, intrinsic: str, dtype: DType) -> Instruction:
    meaning: Expr = call(op, arg(0, dtype))
    return Instruction("round", meaning, ("sse4.1",), None, Intrinsic(intrinsic))


def _masked(dtype: DType) -> tuple[Instruction, Instruction]:
    """Of elements of 32 and 64 bits, as AVX2 has them."""
    name = {"f32": "vmaskmovps", "f64": "vmaskmovpd"}.get(dtype.name)
    name = name or {32: "vpmaskmovd", 64: "vpmaskmovq"}[dtype.bits]
    return (
        Instruction(name, masked_load(dtype), ("avx2",), None, Masked("load")),
        Instruction(name, masked_store(dtype), ("avx2",), None, Masked("store")),
    )


INSTRUCTIONS = (
    _vpdpbusd(4, "avxvnni"),
    _vpdpbusd(8, "avxvnni"),
    _vpdpbusd(4, "avx512vnni", "avx512vl"),
    _vpdpbusd(8, "avx512vnni", "avx512vl"),
    _vpdpbusd(16, "avx512vnni"),
    _cvttps2dq(4, "llvm.x86.sse2.cvttps2dq", "sse2"),
    _cvttps2dq(8, "llvm.x86.avx.cvtt.ps2dq.256", "avx"),
    _cvttps2dq(
        16, "llvm.x86.avx512.mask.cvttps2dq.512", "avx512f",
        "<16 x i32> poison", "i16 -1", "i32 4",
    ),
    _vcvtps2ph(4, "llvm.x86.vcvtps2ph.128", 8, "f16c"),
    _vcvtps2ph(8, "llvm.x86.vcvtps2ph.256", 8, "f16c"),
    _vcvtps2ph(
        16, "llvm.x86.avx512.mask.vcvtps2ph.512", 16, "avx512f", "<16 x i16> poison", "i16 -1"
    ),
    Instruction(
        "vcvtph2ps", cast(arg(0, f16), f32), ("f16c",), None, Conversion("fpext", "half", "float")
    ),
    *(_fma(dtype) for dtype in (f32, f64)),
    *(entry for dtype in (f32, f64, i32, i64, u32, u64) for entry in _masked(dtype)),
    *(
        _round(op, intrinsic, dtype)
        for op, intrinsic in (
            ("floor", "floor"), ("ceil", "ceil"), ("trunc", "trunc"), ("round", "roundeven"),
        )
        for dtype in (f32, f64)
    ),
)  # fmt: skip
