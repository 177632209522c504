"""Triton source of unscheduled kernels, run by Triton's CPU interpreter, against the meaning of
the system they came from.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import DType, boolean, f16, f32, from_storage, i32, i64, to_storage
from ferrule.base.errors import UnsupportedError
from ferrule.base.target import named
from ferrule.codegen.triton import emit_triton, refusal
from ferrule.graph.equations import equations
from ferrule.graph.group import group
from ferrule.graph.inline import inline
from ferrule.graph.layout import assign_layouts
from ferrule.ir.compute import Compute, Stage, System, map_stage
from ferrule.ir.expr import Buf, Expr, Space, axis, dim
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ir.interp import run_system
from ferrule.ir.kernel import Kernel, Scope
from ferrule.ir.size import evaluate
from ferrule.lower.math import lower_math
from tests import systems
from tests.codegen import triton_worker

Array = np.ndarray[Any, Any]
Values = dict[str, int]
Runner = Callable[[Kernel, dict[str, Array], Values], None]
N, M, B = dim("n"), dim("m"), dim("b")


def kernels_of(system: System) -> tuple[Kernel, ...]:
    system = assign_layouts(system)
    return group(inline(system), system.outputs).kernels


def system_of(build: Callable[..., Any], *shapes: Any, dtype: DType = f32) -> System:
    """The system of a graph; a shape may be a pair of shape and dtype."""
    b = GraphBuilder()
    given = [s if isinstance(s[-1], DType) else (s, dtype) for s in shapes]
    out = build(b, *(b.input(tensor(s, d)) for s, d in given))
    return equations(b.build((out,) if isinstance(out, Value) else out))


def shape_of(b: Buf, values: Values) -> tuple[int, ...]:
    return tuple(evaluate(s, lambda d: values[d.name]) for s in b.shape)


def random_arrays(system: System, values: Values) -> dict[str, Array]:
    rng = np.random.default_rng(0)

    def one(b: Buf) -> Array:
        x = rng.standard_normal(shape_of(b, values)) * (1 if b.dtype.is_float else 5)
        return to_storage(x > 0 if b.dtype is boolean else x, b.dtype)

    return {b.name: one(b) for b in (*system.inputs, *system.params)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Runs a kernel on arrays by name, in logical order, changed in place."""
    pytest.importorskip("triton")
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("triton")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, triton_worker.start) as pool:

        def launch(kernel: Kernel, memory: dict[str, Array], values: Values) -> None:
            path = Path(folder, f"k{len(list(folder.iterdir()))}.py")
            path.write_text(emit_triton(kernel), encoding="utf-8")
            bufs = kernel.globals
            given = [
                (np.ascontiguousarray(memory[b.name].transpose(b.order)), b.dtype.name)
                for b in bufs
            ]
            dims = [values[d.name] for d in kernel.dims]
            found = pool.submit(triton_worker.launch, str(path), given, dims).result()
            for b, array in zip(bufs, found, strict=True):
                memory[b.name] = array.transpose(np.argsort(b.order)) if b.shape else array

        yield launch


def by_triton(run: Runner, system: System, arrays: dict[str, Array], values: Values) -> list[Array]:
    """The system's outputs, each kernel run through Triton."""
    memory = dict(arrays)
    for kernel in kernels_of(system):
        for b in kernel.written:
            if b.name not in memory:
                lost = np.nan if b.dtype.is_float else 0
                memory[b.name] = to_storage(np.full(shape_of(b, values), lost), b.dtype)
        run(kernel, memory, values)
    return [memory[b.name] for b in system.outputs]


def check(
    run: Runner,
    system: System,
    values: Values | None = None,
    tolerance: float = 2e-5,
    arrays: dict[str, Array] | None = None,
) -> None:
    values = values or {}
    arrays = arrays or random_arrays(system, values)
    want = run_system(system, arrays, values)
    for b, g, w in zip(system.outputs, by_triton(run, system, arrays, values), want, strict=True):
        g, w = from_storage(g, b.dtype), from_storage(w, b.dtype)
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)


def gelu_norm(b: GraphBuilder, x: Value, r: Value, *affine: Value) -> Value:
    """gelu(layer_norm(x + r)) * (x + r) + r."""
    s = ops.add(b, x, r)
    return ops.add(b, ops.mul(b, ops.gelu(b, ops.layer_norm(b, s, *affine)), s), r)


def linear(b: GraphBuilder, x: Value, w: Value, bias: Value) -> Value:
    """relu(x @ w.T + bias)."""
    return ops.relu(b, ops.linear(b, x, w, bias))


# ---- the kernels by which the back end is judged -------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 37), (3, 64), (20, 130)])
def test_softmax(run: Runner, n: int, m: int) -> None:
    dynamic = system_of(ops.softmax, (N, M))
    assert len(kernels_of(dynamic)) == 1
    check(run, dynamic, {"n": n, "m": m})
    check(run, system_of(ops.softmax, (n, m)))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 37), (3, 64), (70, 100), (2, 5000)])
def test_layer_norm_with_gelu(run: Runner, n: int, m: int) -> None:
    dynamic = system_of(gelu_norm, (N, M), (N, M), (M,), (M,))
    assert len(kernels_of(dynamic)) == 1
    check(run, dynamic, {"n": n, "m": m})
    check(run, system_of(gelu_norm, (n, m), (n, m)))


@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (7, 33, 12), (64, 128, 64), (70, 65, 100)])
def test_matrix_product_with_epilogue(run: Runner, n: int, m: int, k: int) -> None:
    dynamic = system_of(linear, (N, B), (M, B), (M,))
    assert len(kernels_of(dynamic)) == 1
    assert "tl.dot" in emit_triton(kernels_of(dynamic)[0])
    check(run, dynamic, {"n": n, "m": m, "b": k})
    check(run, system_of(linear, (n, k), (m, k), (m,)))


# ---- others --------------------------------------------------------------------------------------

MORE: list[tuple[System, Values]] = [
    (systems.column_mean(N, M), {"n": 7, "m": 45}),
    (systems.product(N, M, B), {"n": 5, "m": 19, "b": 40}),
    (systems.convolutions(1, 4, N, 16, stride=2), {"n": 9}),
    (systems.convolutions(2, 3, 7, 10), {}),
    (systems.attention(B, 2, N, M, 16), {"b": 1, "n": 8, "m": 21}),
    (systems.attention(2, 2, 17, 9, 8), {}),
    (system_of(ops.attention, (B, 2, N, 8), (B, 2, M, 8), (B, 2, M, 8)), {"b": 2, "n": 3, "m": 5}),
    (system_of(linear, (3, N, 20), (18, 20), (18,)), {"n": 9}),
    (system_of(ops.bmm, (B, N, 9), (B, 9, M)), {"b": 3, "n": 4, "m": 18}),
    (system_of(linear, (1, 40), (33, 40), (33,)), {}),
    (system_of(lambda b, x: ops.reduce_sum(b, x, (0, 1)), (N, M)), {"n": 9, "m": 70}),
    (system_of(lambda b, x: ops.var_mean(b, x, (0,)), (N, M)), {"n": 9, "m": 20}),
    (system_of(lambda b, x: ops.group_norm(b, x, None, None, 2), (B, 6, N, M)), {"b": 2, "n": 3, "m": 5}),
    (system_of(lambda b, x: ops.transpose(b, x, (2, 0, 1)), (N, 3, M)), {"n": 4, "m": 5}),
    (system_of(lambda b, x: ops.argmax(b, x, 1), (N, M)), {"n": 3, "m": 21}),
    (system_of(lambda b, x: ops.max_with_index(b, x, 0), (N, M), dtype=i32), {"n": 9, "m": 3}),
    (system_of(lambda b, x: ops.reduce_any(b, x, (1,)), (N, M), dtype=boolean), {"n": 9, "m": 3}),
    (system_of(lambda b, x: ops.reduce_prod(b, x, (1,)), (N, M)), {"n": 3, "m": 7}),
    (system_of(lambda b, x: ops.pad(b, x, (1, 2), (0, 3), value=1.5), (N, M)), {"n": 3, "m": 7}),
    (system_of(lambda b, x, y: ops.concat(b, (x, y), 1), (N, M), (N, 3)), {"n": 3, "m": 7}),
]


@pytest.mark.parametrize(("system", "values"), MORE, ids=[f"{i}" for i in range(len(MORE))])
def test_fused_kernels_keep_the_meaning(run: Runner, system: System, values: Values) -> None:
    check(run, system, values)
