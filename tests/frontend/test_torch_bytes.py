"""Products of int8 tensors in PyTorch: exact on each target, and dot products of bytes where it has
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import ferrule
from ferrule.base import config
from ferrule.base.compiler import Compiler
from ferrule.base.cpu import supports
from ferrule.frontend.torch.capture import capture
from ferrule.frontend.torch.plan import Plan
from ferrule.ir.graph import Graph
from ferrule.ir.text import to_text
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.runtime.arrays import NumpyCallable
from ferrule.target.cpu import Target, least
from tests.frontend.tools import Interpreted, fallbacks, interpreted

TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]
PLAIN = least("avx2")
DOTS = PLAIN.having("avxvnni")


class Weights(torch.nn.Module):
    """A function of an input and of bytes that it holds."""

    def __init__(self, fn: Callable[..., Any], *shape: int, dtype: torch.dtype = torch.int8):
        super().__init__()
        self.fn = fn
        self.register_buffer("w", bytes_of(*shape, dtype=dtype, seed=1))

    def forward(self, x: torch.Tensor) -> Any:
        return self.fn(x, self.w)


def bytes_of(*shape: int, dtype: torch.dtype = torch.int8, seed: int = 0) -> torch.Tensor:
    ends = torch.iinfo(dtype)
    source = torch.Generator().manual_seed(seed)
    return torch.randint(ends.min, ends.max + 1, shape, dtype=dtype, generator=source)


def wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.int32)


def quantised(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A linear layer whose input becomes bytes, by PyTorch's own integer product."""
    scale = x.abs().amax() / 127
    small = torch.clamp(torch.round(x / scale), -128, 127).to(torch.int8)
    return torch._int_mm(small, w.t()).to(torch.float32) * scale


U8 = {"dtype": torch.uint8}
CASES: dict[str, tuple[Weights, torch.Tensor]] = {
    "_int_mm": (Weights(torch._int_mm, 32, 24), bytes_of(20, 32)),
    "transposed": (Weights(lambda x, w: torch._int_mm(x, w.t()), 24, 30), bytes_of(20, 30)),
    "matmul": (Weights(lambda x, w: wide(x) @ wide(w), 1100, 24), bytes_of(20, 1100)),
    "batches": (Weights(lambda x, w: wide(x) @ wide(w), 32, 24), bytes_of(2, 9, 32)),
    "linear": (Weights(lambda x, w: F.linear(wide(x), wide(w)), 24, 32), bytes_of(1, 32)),
    "einsum": (Weights(lambda x, w: torch.einsum("oi,bi->ob", wide(w), wide(x)), 24, 32),
               bytes_of(20, 32)),
    "zero points": (Weights(lambda x, w: (wide(x) - 7) @ (wide(w) - 128), 32, 24, **U8),
                    bytes_of(20, 32, **U8)),
    "vector": (Weights(lambda x, w: wide(w) @ wide(x), 24, 32), bytes_of(32)),
    "convolution": (Weights(lambda x, w: F.conv2d(wide(x), wide(w), padding=1), 16, 8, 3, 3),
                    bytes_of(2, 8, 7, 9)),
}  # fmt: skip


class Listed(torch.nn.Module):
    """A module that gives a tuple, as AOT wants it."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.module(*inputs),)


def graph_of(module: torch.nn.Module, *inputs: torch.Tensor) -> Graph:
    """The graph of a module."""
    seen: list[Graph] = []

    def compile_graph(graph: Graph) -> Interpreted:
        seen.append(graph)
        return interpreted(graph)

    compiler = Compiler(compile_graph, NumpyCallable)
    taken = capture(Listed(module), inputs)
    taken.finish(Plan(taken.graph, taken.params).compile(compiler))(*inputs)
    (graph,) = seen
    return graph


def functions(graph: Graph, target: Target) -> str:
    return to_text(lowered(graph, "functions", options_for(target)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_products_of_bytes_are_exact(name: str, target: str) -> None:
    module, x = CASES[name]
    with config.override(target=target, strict=True):
        run = ferrule.compile(module, (x,))
        assert torch.equal(run(x), module(x))
    assert not fallbacks()


@pytest.mark.parametrize("name", CASES)
def test_dot_products_of_bytes_are_used_where_the_target_has_them(name: str) -> None:
    module, x = CASES[name]
    graph = graph_of(module, x)
    assert "dot4(" in functions(graph, DOTS)
    assert "dot4(" in functions(graph, least("avx512").having("avx512vnni"))
    assert "dot4(" not in functions(graph, PLAIN)


def test_bytes_that_are_both_inputs() -> None:
    x, w = bytes_of(20, 32), bytes_of(32, 24, seed=1)

    class Product(torch.nn.Module):
        def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return torch._int_mm(x, w)

    graph = graph_of(Product(), x, w)
    assert "dot4(" in functions(graph, DOTS)
    for target in TARGETS:
        with config.override(target=target, strict=True):
            run = ferrule.compile(Product(), (x, w))
            assert torch.equal(run(x, w), torch._int_mm(x, w))


def test_without_dot_products_sums_are_in_floats_where_they_are_exact() -> None:
    """Of 127 * 127 * 1024 and less without weights being known."""
    for name, dtype in (("_int_mm", "f32"), ("matmul", "i32")):
        level = lowered(graph_of(*CASES[name]), "system", options_for(PLAIN))
        assert f"reduce sum:{dtype}" in to_text(level)


def test_a_layer_of_bytes() -> None:
    module, x = Weights(quantised, 24, 32), torch.randn(20, 32)
    run = ferrule.compile(module, (x,))
    torch.testing.assert_close(run(x), module(x))
    assert "dot4(" in functions(graph_of(module, x), DOTS)
