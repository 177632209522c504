"""Code for AArch64: kernels run under `qemu-aarch64` against the graph's meaning, and the loops of
products read as assembly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrule import ops
from ferrule.base.cpu import supports
from ferrule.base.dtype import DType, bf16, f16, f32, f64, to_storage
from ferrule.base.errors import CompileError
from ferrule.base.numerics import difference
from ferrule.codegen.llvm.compile import assembly, compile_module
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph
from ferrule.pipeline.compile import compile_program, program_of
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.runtime import pool
from ferrule.runtime.cpu import load
from ferrule.target.cpu import host, named
from tests import math64, test_ops_compiled
from tests.codegen import aarch64

NEON = named("neon")
Array = np.ndarray[Any, Any]
Build = Callable[..., Value]
emulated = pytest.mark.skipif(bool(aarch64.missing()), reason=aarch64.missing())
foreign = pytest.mark.skipif(host().name == "neon", reason="this machine runs NEON itself")


def graph_of(build: Build, inputs: Sequence[Any], params: Sequence[Any], dtype: DType) -> Graph:
    """`build(b, *inputs, *params)` of tensors of these shapes."""
    b = GraphBuilder("main")
    values = [b.input(tensor(s, dtype)) for s in inputs]
    return b.build((build(b, *values, *(b.param(tensor(s, dtype)) for s in params)),))


def numbers(shapes: Sequence[tuple[int, ...]], dtype: DType) -> list[Array]:
    rng = np.random.default_rng(5)
    return [to_storage(rng.standard_normal(s) / 4, dtype) for s in shapes]


def agrees(graph: Graph, arrays: list[Array], folder: Path) -> None:
    """Runs `graph` under qemu and by its meaning."""
    for got, want, value in zip(
        aarch64.run_under_qemu(graph, arrays, folder), run_graph(graph, arrays), graph.outputs
    ):
        assert difference(got, want, value.dtype) is None


def mlp(b: GraphBuilder, x: Value, w: Value, bias: Value) -> Value:
    return ops.silu(b, ops.linear(b, x, w, bias))


def add_norm(b: GraphBuilder, x: Value, w: Value, scale: Value, shift: Value) -> Value:
    """A product whose rows go through a norm."""
    return ops.layer_norm(b, ops.linear(b, x, w), scale, shift, axes=1, eps=1e-5)


def conv(b: GraphBuilder, x: Value, w: Value, bias: Value) -> Value:
    return ops.relu(b, ops.conv(b, x, w, bias, stride=2, padding=1))


def depthwise(b: GraphBuilder, x: Value, w: Value) -> Value:
    return ops.conv(b, x, w, None, padding=1, groups=int(x.shape[1].attr))


def attention(b: GraphBuilder, q: Value, k: Value, v: Value) -> Value:
    return ops.attention(b, q, k, v, scale=0.3, causal=True)


HEADS = (1, 2, 13, 16)
CASES: dict[str, tuple[Build, Sequence[tuple[int, ...]], Sequence[tuple[int, ...]]]] = {
    "epilogue": (mlp, ((37, 61),), ((45, 61), (45,))),
    "row": (mlp, ((1, 130),), ((67, 130), (67,))),
    "norm": (add_norm, ((19, 33),), ((50, 33), (50,), (50,))),
    "both": (ops.matmul, ((2, 17, 129), (2, 129, 53)), ()),
    "deep": (ops.matmul, ((70, 1100), (1100, 90)), ()),
    "conv": (conv, ((2, 5, 11, 13),), ((18, 5, 3, 3), (18,))),
    "depthwise": (depthwise, ((1, 21, 9, 10),), ((21, 1, 3, 3),)),
    "softmax": (ops.softmax, ((7, 61),), ()),
    "attention": (attention, (HEADS, HEADS, HEADS), ()),
}


@emulated
@pytest.mark.parametrize("dtype", [f32, f64, f16, bf16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernels_give_the_meaning_under_qemu(name: str, dtype: DType, tmp_path: Path) -> None:
    build, inputs, params = CASES[name]
    graph = graph_of(build, inputs, params, dtype)
    agrees(graph, numbers([*inputs, *params], dtype), tmp_path)


@emulated
@pytest.mark.parametrize("name", ["epilogue", "norm", "softmax"])
def test_symbolic_rows_under_qemu(name: str, tmp_path: Path) -> None:
    build, inputs, params = CASES[name]
    graph = graph_of(build, [(dim("n"), *s[1:]) for s in inputs], params, f32)
    agrees(graph, numbers([*inputs, *params], f32), tmp_path)


@emulated
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(m=st.integers(1, 70), n=st.integers(1, 90), k=st.integers(1, 150),
       dtype=st.sampled_from([f32, f64, f16, bf16]), constant=st.booleans())  # fmt: skip
def test_products_of_any_size_under_qemu(
    m: int, n: int, k: int, dtype: DType, constant: bool, tmp_path: Path
) -> None:
    shapes = [(m, k), (k, n)]
    inputs = shapes[:1] if constant else shapes
    agrees(
        graph_of(ops.matmul, inputs, shapes[len(inputs) :], dtype), numbers(shapes, dtype), tmp_path
    )


@emulated
@pytest.mark.slow
@pytest.mark.parametrize("case", test_ops_compiled.CASES, ids=lambda c: c.name)
def test_operators_under_qemu(case: test_ops_compiled.Case, tmp_path: Path) -> None:
    for symbolic in (False, True) if case.dims else (False,):
        agrees(test_ops_compiled._graph(case, symbolic), list(case.arrays), tmp_path)


# ---- what needs no emulator ----------------------------------------------------------------------


def inner_loop(text: str) -> list[str]:
    """The loop of one block with the most multiply-adds, as instructions."""
    blocks = re.split(r"^(\.LBB\w+):", text, flags=re.MULTILINE)
    loops = []
    for label, body in zip(blocks[1::2], blocks[2::2]):
        lines = [line.strip() for line in body.splitlines() if line.startswith("\t")]
        ends = [i for i, line in enumerate(lines) if re.match(rf"(b\.|cb|tb).*{label}$", line)]
        loops += [lines[: ends[0] + 1]] if ends else []
    return max(loops, key=lambda lines: sum("fmla" in line for line in lines))


def compiled(graph: Graph) -> str:
    return assembly(lowered(graph, "llvm", options_for(NEON)).text, NEON)


@pytest.mark.parametrize(("dtype", "lanes"), [(f32, "4s"), (f64, "2d"), (f16, "4s"), (bf16, "4s")],
                         ids=["f32", "f64", "f16", "bf16"])  # fmt: skip
@pytest.mark.parametrize("constant", [False, True], ids=["computed", "constant"])
def test_a_product_keeps_its_block_in_registers(dtype: DType, lanes: str, constant: bool) -> None:
    shapes = [(192, 256), (256, 384)]
    inputs = shapes[:1] if constant else shapes
    loop = inner_loop(compiled(graph_of(ops.matmul, inputs, shapes[len(inputs) :], dtype)))
    text = "\n".join(loop)
    products = re.findall(rf"fmla\tv\d+\.{lanes}, v\d+\.{lanes}, v\d+\.", text)
    assert len(products) >= 20, text
    assert len({p.split(",")[0] for p in products}) >= 20, text
    assert "[sp" not in text, f"spilled:\n{text}"
    assert "fmul" not in text


def test_halves_are_converted_by_instructions() -> None:
    text = compiled(graph_of(ops.exp, ((64,),), (), f16))
    assert "fcvtl" in text
    assert "fcvtn" in text


def test_rounding_is_an_instruction() -> None:
    assert "frintm" in compiled(graph_of(ops.floor, ((64,),), (), f32))


@emulated
@pytest.mark.parametrize("op", ["expm1", "log10", "tan", "asin", "tanh", "erfc", "pow", "atan2"])
def test_functions_of_doubles(op: str, tmp_path: Path) -> None:
    """Sums of two numbers stay what they are where every product may be fused."""
    xs = list(math64.operands(op))
    (got,) = aarch64.run_under_qemu(
        graph_of(getattr(ops, op), [x.shape for x in xs], (), f64), xs, tmp_path
    )
    assert math64.errors(got, math64.exact(op)).max() <= math64.BOUNDS[op]


def test_the_pool_compiles() -> None:
    code = compile_module(pool.ir_text(NEON.triple), NEON)
    assert code.startswith(b"\x7fELF")
    assert all(s.encode() in code for s in pool.SYMBOLS)


@foreign
def test_code_for_another_machine_is_refused() -> None:
    program = program_of(graph_of(ops.relu, ((4,),), (), f32), NEON)
    assert not supports("neon")
    made = compile_program(program, "neon", NEON)
    with pytest.raises(CompileError, match="compiled for neon, which this CPU lacks"):
        load(made)
