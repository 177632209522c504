"""LLVM text to object code."""

from __future__ import annotations

from ferrule.codegen.llvm.compile import compile_module
from ferrule.target.cpu import named

PLAIN = "@room = internal global [68 x i8] zeroinitializer\ndefine ptr @f() { ret ptr @room }\n"
KEPT = PLAIN + '@llvm.used = appending global [1 x ptr] [ptr @room], section "llvm.metadata"\n'


def test_code_does_not_depend_on_what_was_compiled_before() -> None:
    """LLVM remembers the variables that are to be kept by their addresses, which the next module's
    variables may have.
    """
    target = named("generic")
    first = compile_module(PLAIN, target)
    for _ in range(50):
        assert compile_module(KEPT, target) != first
        assert compile_module(PLAIN, target) == first
