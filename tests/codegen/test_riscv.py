"""Code for RISC-V: kernels run under `qemu-riscv64` against the graph's meaning, with vectors of
several lengths and without, and the loops of products read as assembly.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ferrule import ops
from ferrule.base.dtype import DType, bf16, f16, f32, f64, i32
from ferrule.base.numerics import difference
from ferrule.codegen.llvm.compile import assembly, compile_module
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph
from ferrule.ir.interp import run_graph
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.runtime import pool
from ferrule.target.cpu import portable
from tests.codegen import library
from tests.codegen.test_neon import CASES, Array, graph_of, numbers

PLAIN, VECTORS = portable("riscv64"), portable("riscv64-v")
CPUS = {"plain": (PLAIN, 0), "128": (VECTORS, 128), "256": (VECTORS, 256)}
emulated = pytest.mark.skipif(
    library.emulator("riscv64") is None, reason="needs qemu-riscv64 (Debian: qemu-user)"
)


def agrees(graph: Graph, arrays: list[Array], cpu: str, folder: Path) -> None:
    """Runs `graph` on one of CPUS and by its meaning."""
    target, bits = CPUS[cpu]
    found = library.run_graph_emulated(graph, arrays, target, folder, bits)
    for got, want, value in zip(found, run_graph(graph, arrays), graph.outputs):
        assert difference(got, want, value.dtype) is None


@emulated
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", CASES)
def test_kernels_give_the_meaning_under_qemu(name: str, cpu: str, tmp_path: Path) -> None:
    build, inputs, params = CASES[name]
    graph = graph_of(build, inputs, params, f32)
    agrees(graph, numbers([*inputs, *params], f32), cpu, tmp_path)


@emulated
@pytest.mark.parametrize("dtype", [f64, f16, bf16], ids=str)
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", ["epilogue", "softmax"])
def test_other_dtypes_under_qemu(name: str, cpu: str, dtype: DType, tmp_path: Path) -> None:
    build, inputs, params = CASES[name]
    graph = graph_of(build, inputs, params, dtype)
    agrees(graph, numbers([*inputs, *params], dtype), cpu, tmp_path)


@emulated
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", ["epilogue", "norm", "softmax"])
def test_symbolic_rows_under_qemu(name: str, cpu: str, tmp_path: Path) -> None:
    build, inputs, params = CASES[name]
    graph = graph_of(build, [(dim("n"), *s[1:]) for s in inputs], params, f32)
    agrees(graph, numbers([*inputs, *params], f32), cpu, tmp_path)


@emulated
@pytest.mark.parametrize("cpu", CPUS)
def test_integers_under_qemu(cpu: str, tmp_path: Path) -> None:
    graph = graph_of(ops.matmul, ((9, 31), (31, 21)), (), i32)
    arrays = [(x * 400).astype("i4") for x in numbers([(9, 31), (31, 21)], f32)]
    agrees(graph, arrays, cpu, tmp_path)


def inner_loop(text: str) -> list[str]:
    """The loop of one block with the most multiply-adds, as instructions."""
    blocks = re.split(r"^(\.LBB\w+):", text, flags=re.MULTILINE)
    loops = []
    for label, body in zip(blocks[1::2], blocks[2::2]):
        lines = [line.strip() for line in body.splitlines() if line.startswith("\t")]
        ends = [i for i, line in enumerate(lines) if re.match(rf"b.*{label}$", line)]
        loops += [lines[: ends[0] + 1]] if ends else []
    return max(loops, key=lambda lines: sum("fm" in line for line in lines))


@pytest.mark.parametrize("constant", [False, True], ids=["computed", "constant"])
@pytest.mark.parametrize(
    ("cpu", "product", "least"),
    [("plain", r"fmadd\.s\tf\w+", 16), ("128", r"vfm\w+\.vf\tv\d+", 20)],
)
def test_a_product_keeps_its_block_in_registers(
    cpu: str, product: str, least: int, constant: bool
) -> None:
    shapes = [(192, 256), (256, 384)]
    inputs = shapes[:1] if constant else shapes
    graph, target = graph_of(ops.matmul, inputs, shapes[len(inputs) :], f32), CPUS[cpu][0]
    loop = inner_loop(assembly(lowered(graph, "llvm", options_for(target)).text, target))
    text = "\n".join(loop)
    assert len(set(re.findall(product, text))) >= least, text
    assert "(sp)" not in text, f"spilled:\n{text}"
    assert not re.search(r"\bv?fmul|\bv?fadd", text)


def test_the_pool_compiles() -> None:
    code = compile_module(pool.ir_text(PLAIN.triple), PLAIN)
    assert all(s.encode() in code for s in pool.SYMBOLS)
