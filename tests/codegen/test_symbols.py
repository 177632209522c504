"""What object code imports: nothing of the C library's mathematics, and nothing that LLVM calls
where an instruction is missing (fma, conversions of f16, 128-bit arithmetic, copies of memory).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ferrule.base.dtype import ALL, DType
from ferrule.base.elf import undefined_symbols
from ferrule.codegen.link import wasm
from ferrule.codegen.llvm.compile import compile_module
from ferrule.codegen.llvm.emit import emit_module
from ferrule.ir.expr import Buf, Expr, axis, call, cast, const
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import For, Function, Store
from ferrule.ir.operators import OPERATORS
from ferrule.ir.system import Access
from ferrule.ir.text import parse
from ferrule.lower.math.expand import lower_math
from ferrule.pipeline.compile import compile_program, program_of
from ferrule.target.cpu import PORTABLE, Target, architecture, least, portable
from tests.conftest import GOLDEN

X86 = architecture() in ("x86_64", "amd64")
NAMES = (*(("avx512", "avx2") if X86 else ()), "generic", "neon", "rvv", "riscv64")
TEXTS = sorted(GOLDEN.glob("*.graph.txt"))


def target_of(name: str) -> Target:
    return portable(name) if name in PORTABLE else least(name)


def kernel(
    name: str, of: Callable[..., Expr], dtypes: list[DType], width: int, target: Target
) -> Function:
    """y[i] = of(x0[i], ..) for as many lanes; for one element where `width` is 0."""
    n = const(max(width, 1))
    lane = axis("l", width) if width else None
    at = const(0) if lane is None else lane
    inputs = [Buf(f"x{k}", (n,), d) for k, d in enumerate(dtypes)]
    value = lower_math(of(*(b[at] for b in inputs)), target.has_fma)
    out = Buf("y", (n,), value.dtype)
    body: For | Store = Store((Access(out, (at,)),), (value,))
    if lane is not None:
        body = For(lane, const(0), const(width), Kind.LANES, (body,))
    return Function(name, (out, *inputs), 1, (), (axis("g", 1),), (body,))


def everything(dtype: DType, width: int, target: Target) -> list[Function]:
    """A function for each operator on operands of `dtype`, and for each conversion of it."""
    found = []
    for name, op in OPERATORS.items():
        if op.meaning(dtype) is not None:

            def of(*args: Expr, name: str = name) -> Expr:
                return call(name, *args)

            found.append(kernel(f"op.{name}", of, [dtype] * op.arity, width, target))
    for to in ALL:

        def converted(x: Expr, to: DType = to) -> Expr:
            return cast(x, to)

        found.append(kernel(f"to.{to.name}", converted, [dtype], width, target))
    return found


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_no_operator_calls_anything(name: str, dtype: DType):
    target = target_of(name)
    for width in (0, 8):
        text = emit_module(everything(dtype, width, target), target)
        assert undefined_symbols(compile_module(text, target)) == ()


@pytest.mark.skipif(not wasm.is_installed(), reason="needs wasm-ld (Debian: lld)")
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_no_operator_calls_anything_in_webassembly(dtype: DType):
    """A module that imports something is not linked."""
    target = portable("wasm32")
    for width in (0, 8):
        functions = everything(dtype, width, target)
        code = compile_module(emit_module(functions, target), target)
        made = wasm.linked({"all.o": code}, [f.name for f in functions])
        assert made.startswith(b"\0asm")


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name.split(".")[0])
@pytest.mark.parametrize("name", NAMES)
def test_programs_call_nothing(name: str, path):
    target = target_of(name)
    program = program_of(parse(path.read_text(encoding="utf-8")), target)
    compiled = compile_program(program, "key", target)
    assert undefined_symbols(compiled.object_code) == ()
