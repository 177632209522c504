"""LLVM text to object code."""

from __future__ import annotations

from ferrule.codegen.llvm.compile import compile_module
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.target.cpu import named
from tests.test_levels import GRAPHS


def test_code_does_not_depend_on_what_was_compiled_before() -> None:
    target = named("avx2")
    texts = [
        lowered(GRAPHS[name], "llvm", options_for(target)).text
        for name in ("transposed convolution", "convolution", "broadcast")
    ]
    first = [compile_module(text, target) for text in texts]
    for _ in range(25):
        assert [compile_module(text, target) for text in texts] == first
