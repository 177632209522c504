"""Graphs as StableHLO text: our own reader makes graphs of it again that mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import bf16, boolean, f16, f32, f64, i8, to_storage, u64
from ferrule.base.errors import CompileError, GuardError, InputError
from ferrule.codegen.stablehlo.program import stablehlo_text
from ferrule.codegen.stablehlo.stages import write_stage
from ferrule.codegen.stablehlo.writer import Tensor, Writer, literal, needed
from ferrule.frontend.stablehlo.convert import convert
from ferrule.frontend.stablehlo.text import read_text
from ferrule.ir.expr import Buf, axis, call, const, dim, fconst, load
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.ir.system import Access, Compute, Stage
from tests.codegen.stablehlo.programs import CASES, check, golden, judged, normal, read_back
from tests.fuzz.make import make
from tests.long import LONG


@pytest.mark.parametrize("p", [pytest.param(p, id=name) for name, p in golden()])
def test_golden_graphs_come_back(p: Any) -> None:
    judged(p, read_back)


@pytest.mark.parametrize("seed", range(8 * LONG))
def test_random_graphs_come_back(seed: int) -> None:
    judged(make(seed), read_back)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_cases_come_back(name: str) -> None:
    build, arrays = CASES[name]
    check(build, *arrays, run=read_back)


def test_half_floats_are_computed_in_f32() -> None:
    x = to_storage(normal(4, 5), bf16)
    text = check(lambda b, x: ops.softmax(b, x, 1), x, run=read_back, is_bf16=True)
    assert "stablehlo.exponential" in text
    assert ": (tensor<4x5xbf16>) -> tensor<4x5xf32>" in text


def test_affine_indices_are_slices_and_not_gathers() -> None:
    text = check(lambda b, x: ops.unfold(b, x, 1, 3, 2), normal(2, 9), run=read_back)
    assert text.count("stablehlo.slice") == 3
    text += check(lambda b, x: ops.pad(b, x, (1, 0), (0, 2)), normal(2, 3), run=read_back)
    text += check(lambda b, x: ops.tril(b, x), normal(4, 4), run=read_back)
    for build in (
        lambda b, x: ops.roll(b, x, (2, -1), (0, 1)),
        lambda b, x: ops.tile(b, x, (3, 2)),
        lambda b, x: ops.pad(b, x, (2, 0), (1, 3), mode="reflect"),
        lambda b, x: ops.pad(b, x, (2, 0), (1, 3), mode="replicate"),
        lambda b, x: ops.pad(b, x, (2, 0), (1, 3), mode="circular"),
    ):
        text += check(build, normal(4, 5), run=read_back)
    image = normal(1, 2, 3, 4)
    text += check(lambda b, x: ops.resize_nearest(b, x, (6, 12)), image, run=read_back)
    assert "gather" not in text


def test_a_sum_of_products_is_a_dot_general() -> None:
    operands = normal(2, 3, 4, 8), normal(2, 3, 5, 8), normal(2, 3, 5, 6)
    text = check(lambda b, *qkv: ops.attention(b, *qkv), *operands, run=read_back)
    assert text.count("stablehlo.dot_general") == 2


def test_an_expression_may_be_deep() -> None:
    w, x = Writer(), Buf("x", (const(3),), f32)
    i = axis("i", 3)
    value = load(x, i)
    for k in range(5000):
        value = value * fconst(0.5) + load(x, i) if k % 2 else call("neg", value)
    out = Buf("y", (const(3),), f32)
    stage = Stage("y", (Access(out, (i,)),), Compute((i,), (value,)))
    bufs = {x: Tensor("%x", (3,), f32)}
    write_stage(w, stage, bufs)
    assert bufs[out].shape == (3,)
    assert len(needed(w.lines, [bufs[out]])) == 7502


def test_equal_operations_are_written_once() -> None:
    def twice(b: GraphBuilder, x: Any) -> Any:
        return ops.mul(b, ops.gelu(b, x), ops.tanh(b, ops.gelu(b, x)))

    assert check(twice, normal(6), run=read_back).count("chlo.erf") == 1


def test_params_are_arguments_or_constants() -> None:
    b = GraphBuilder("a b")
    x, w = b.input(tensor((2, 2), f32), "12"), b.param(tensor((2, 2), f32), "w/0")
    graph = b.build([ops.add(b, x, w)])
    text = stablehlo_text(graph)
    assert "module @a_b {" in text
    assert "@main(%arg_12: tensor<2x2xf32>, %w_0: tensor<2x2xf32>) -> (tensor<2x2xf32>)" in text
    text = stablehlo_text(graph, arrays=[np.eye(2, dtype=np.float32)], names=["%x"])
    assert "@main(%_x: tensor<2x2xf32>) ->" in text
    assert 'dense<"0x0000803F00000000000000000000803F">' in text


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([np.nan, -0.0, 1e-45, np.inf], np.float32), f32),
        (np.array([np.nan] * 3, np.float64), f64),
        (np.array([1, 0x7F80, 0xFFC1], np.uint16), bf16),
        (np.array(-2.5, np.float16), f16),
        (np.array([[True, False]] * 40), boolean),
        (np.array([[True, False]]), boolean),
        (np.array([2**64 - 1, 0], np.uint64), u64),
        (np.array([-128, -128], np.int8), i8),
        (np.zeros((0, 3), np.float32), f32),
    ],
)
def test_constants_keep_their_bits(values: Any, dtype: Any) -> None:
    b = GraphBuilder()
    w = b.param(tensor(values.shape, dtype))
    graph = b.build([ops.reshape(b, w, (*values.shape, 1))])
    (found,) = read_back(graph, stablehlo_text(graph, arrays=[values]), [])
    assert found.reshape(values.shape).tobytes() == values.tobytes()


def test_numbers_are_written_as_mlir_reads_them() -> None:
    numbers = [literal(x, f64) for x in (1.0, 1e-05, 1.5e22, -0.0)]
    assert numbers == ["1.0", "1.0e-05", "1.5e+22", "-0.0"]
    infinite = [literal(float("inf"), t) for t in (f16, bf16, f32)]
    assert infinite == ["0x7C00", "0x7F80", "0x7F800000"]


def _symbolic() -> Any:
    b = GraphBuilder()
    n = dim("n", 2, 64, 2)
    x = b.input(tensor((n, 3), f32))
    half = ops.slice_axis(b, x, 0, 0, n // 2)
    return b.build([ops.reduce_sum(b, half, 0), ops.scalar(b, n)])


def test_symbolic_sizes_are_given() -> None:
    with pytest.raises(InputError, match=r"the sizes n are symbolic.*sizes={'n': 4}"):
        stablehlo_text(_symbolic())
    with pytest.raises(InputError, match="no size is called 'm'; the symbolic ones are: n"):
        stablehlo_text(_symbolic(), {"n": 4, "m": 2})
    with pytest.raises(GuardError, match="n = 5 is no multiple of 2"):
        stablehlo_text(_symbolic(), {"n": 5})
    text = stablehlo_text(_symbolic(), {"n": 4})
    x = normal(4, 3)
    total, n = read_back(_symbolic(), text, [x])
    np.testing.assert_allclose(total, x[:2].sum(0), rtol=1e-6)
    assert n == 4


def test_sizes_that_do_not_fit_are_refused() -> None:
    b = GraphBuilder()
    n = dim("n", 1)
    x = b.input(tensor((n, 6), f32))
    graph = b.build([ops.reshape(b, x, (3, n * 2))])
    assert convert(read_text(stablehlo_text(graph, {"n": 5}))).graph.outputs
    b = GraphBuilder()
    x = b.input(tensor((n,), f32))
    graph = b.build([ops.slice_axis(b, x, 0, 0, 3)])
    with pytest.raises(CompileError, match=r"slice of .*: its sizes do not fit"):
        stablehlo_text(graph, {"n": 2})
