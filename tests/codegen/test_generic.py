"""Code for x86-64 without AVX and fused products, read as assembly: what the loops are made of."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from ferrule import ops
from ferrule.base.dtype import DType, f16, f32
from ferrule.codegen.llvm.compile import assembly
from ferrule.ir.graph import Graph
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.target.cpu import portable
from tests.codegen.test_neon import graph_of

SSE2 = portable("x86-64")


def inner_loop(graph: Graph) -> list[str]:
    """The loop of one block with the most multiplications, as instructions."""
    text = assembly(lowered(graph, "llvm", options_for(SSE2)).text, SSE2)
    assert "call" not in re.findall(r"^\t(\w+)", text, flags=re.MULTILINE)
    blocks = re.split(r"^(\.LBB\w+):", text, flags=re.MULTILINE)
    loops = []
    for label, body in zip(blocks[1::2], blocks[2::2]):
        lines = [line.strip() for line in body.splitlines() if line.startswith("\t")]
        ends = [i for i, line in enumerate(lines) if re.match(rf"j.*{label}$", line)]
        loops += [lines[: ends[0] + 1]] if ends else []
    return max(loops, key=lambda lines: sum(line.startswith("mulps") for line in lines))


@pytest.mark.parametrize("constant", [False, True], ids=["computed", "constant"])
def test_a_product_takes_few_instructions_beside_its_two(constant: bool) -> None:
    shapes = [(192, 256), (256, 384)]
    inputs = shapes[:1] if constant else shapes
    loop = inner_loop(graph_of(ops.matmul, inputs, shapes[len(inputs) :], f32))
    found = Counter(line.split()[0] for line in loop)
    assert found["mulps"] == found["addps"] >= 32
    assert len(loop) <= 3.6 * found["mulps"], found
    assert not any("(%rsp)" in line for line in loop)


@pytest.mark.parametrize(("op", "dtype", "most"), [("relu", f16, 40), ("sigmoid", f16, 90)])
def test_halves_take_few_instructions_and_wait_for_no_other_step(
    op: str, dtype: DType, most: int
) -> None:
    loop = inner_loop(graph_of(getattr(ops, op), ((256, 1024),), (), dtype))
    unpacked = [k for k, line in enumerate(loop) if line.startswith("punpcklwd")]
    stored = sum(bool(re.match(r"movq\s%xmm\d+, ", line)) for line in loop)
    assert len(loop) <= most * stored
    for k in unpacked:  # what it puts below is zero, and not what a register happens to hold
        register = loop[k].split()[-1]
        assert any(re.match(rf"(pxor|movdqa|movaps).*{register}$", line) for line in loop[:k])
