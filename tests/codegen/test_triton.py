"""Triton source of unscheduled kernels, run by Triton's CPU interpreter, against the meaning of
the system they came from.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import (
    INTEGERS,
    DType,
    bf16,
    boolean,
    f16,
    f32,
    f64,
    from_storage,
    i32,
    i64,
    to_storage,
    u8,
)  # fmt: skip
from ferrule.base.errors import UnsupportedError
from ferrule.codegen.triton.emit import emit_triton, refusal
from ferrule.fuse.group import group
from ferrule.fuse.inline import inline
from ferrule.fuse.layout import assign_layouts
from ferrule.ir.analysis.size import evaluate
from ferrule.ir.expr import Buf, as_index, axis, call, dim, lt
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ir.interp import run_system
from ferrule.ir.kernel import Branch, Kernel, SerialLoop
from ferrule.ir.operators import OPERATORS
from ferrule.ir.system import Access, Compute, Stage, System, map_stage
from ferrule.lower.equations import equations
from ferrule.lower.math.expand import lower_math
from tests import systems
from tests.codegen import triton_worker

Array = np.ndarray[Any, Any]
Values = dict[str, int]
Runner = Callable[[Kernel, dict[str, Array], Values], None]
N, M, B = dim("n"), dim("m"), dim("b")


def kernels_of(system: System) -> tuple[Kernel, ...]:
    system = assign_layouts(system)
    return group(inline(system)[0])[0].kernels


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


@contextmanager
def process(
    factory: pytest.TempPathFactory, interpret: bool
) -> Iterator[tuple[ProcessPoolExecutor, Path]]:
    """A process that has Triton, and a folder for modules; skips the test where there is none."""
    pytest.importorskip("triton")
    pytest.importorskip("torch")
    folder = factory.mktemp("triton")
    start = partial(triton_worker.start, interpret, str(folder / "cache"))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start) as pool:
        yield pool, folder


def module_file(folder: Path, kernel: Kernel) -> str:
    """The path of a new file that holds the kernel's Triton module."""
    path = folder / f"k{len(list(folder.iterdir()))}.py"
    path.write_text(emit_triton(kernel), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Runs a kernel on arrays by name, in logical order, changed in place."""
    with process(tmp_path_factory, True) as (pool, folder):

        def launch(kernel: Kernel, memory: dict[str, Array], values: Values) -> None:
            path = module_file(folder, kernel)
            bufs = kernel.globals
            given = [(memory[b.name].transpose(b.order).copy(), b.dtype.name) for b in bufs]
            dims = [values[d.name] for d in kernel.dims]
            found = pool.submit(triton_worker.launch, path, given, dims).result()
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


def centred(b: GraphBuilder, x: Value) -> Value:
    return ops.sub(b, x, ops.mean(b, x))


def grouped(b: GraphBuilder, x: Value, w: Value) -> Value:
    return ops.conv(b, x, w, padding=1, groups=2)


def causal(b: GraphBuilder, q: Value, k: Value, v: Value) -> Value:
    return ops.attention(b, q, k, v, causal=True)


MORE: list[tuple[System, Values]] = [
    (system_of(centred, (N, M)), {"n": 3, "m": 7}),
    (system_of(grouped, (2, 6, 9, 11), (8, 3, 3, 3)), {}),
    (system_of(causal, (B, 2, N, 8), (B, 2, N, 8), (B, 2, N, 8)), {"b": 2, "n": 5}),
    (system_of(lambda b, x: ops.max_pool(b, x, 3, 2, 1), (2, 3, 9, 11)), {}),
    (system_of(lambda b, x: ops.reduce_sum(b, x, (1,)), (N, M)), {"n": 3, "m": 0}),
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
    (system_of(lambda b, x: ops.layer_norm(b, x, axes=2), (B, N, M)), {"b": 4, "n": 3, "m": 5}),
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


Compiler = Callable[[Kernel, bool], str]


@pytest.fixture(scope="module")
def to_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compiler]:
    """Compiles a kernel to PTX, for which no GPU is needed."""
    with process(tmp_path_factory, False) as (pool, folder):

        def compile_kernel(kernel: Kernel, whole: bool) -> str:
            path = module_file(folder, kernel)
            dtypes = [b.dtype.name for b in kernel.globals]
            job = pool.submit(
                triton_worker.gpu_code, path, f"{kernel.name}_kernel", dtypes, 32, whole
            )
            return job.result()

        yield compile_kernel


COMPILED = [
    system_of(ops.softmax, (N, M)),
    system_of(gelu_norm, (N, M), (N, M), (M,), (M,)),
    system_of(linear, (N, B), (M, B), (M,)),
    system_of(linear, (N, 24), (20, 24), (20,), dtype=f16),
    systems.convolutions(1, 4, N, 16, stride=2),
    systems.attention(B, 2, N, M, 16),
    system_of(lambda b, x: ops.argmax(b, x, 1), (N, M)),
    system_of(lambda b, x: ops.reduce_any(b, x, (1,)), (N, M), dtype=boolean),
]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("system", COMPILED, ids=[str(i) for i in range(len(COMPILED))])
def test_the_gpu_compiler_accepts_it(to_gpu: Compiler, system: System, whole: bool) -> None:
    for kernel in kernels_of(system):
        assert ".visible .entry" in to_gpu(kernel, whole)


def test_an_output_that_the_kernel_reads_again(run: Runner) -> None:
    softmax = systems.softmax(N, M)
    e = softmax.stages[1].writes[0]
    system = replace(softmax, outputs=(e, *softmax.outputs))
    (kernel,) = kernels_of(system)
    assert e in kernel.written
    assert e in kernel.globals
    check(run, system, {"n": 5, "m": 37})


def test_nan_and_infinities_propagate(run: Runner) -> None:
    x = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    x[1, 3], x[2, 4], x[3, :] = np.nan, np.inf, -np.inf
    for op in (ops.softmax, ops.relu, lambda b, v: ops.reduce_max(b, v, (1,))):
        check(run, system_of(op, (N, M)), {"n": 4, "m": 9}, arrays={"x0": x})


def test_half_precision_products_run_on_half_precision_tiles(run: Runner) -> None:
    system = system_of(linear, (N, 24), (20, 24), (20,), dtype=f16)
    (kernel,) = kernels_of(system)
    product = next(ln for ln in emit_triton(kernel).splitlines() if "tl.dot" in ln)
    assert "float32" not in product
    check(run, system, {"n": 7}, tolerance=2e-3)


def test_bfloat16(run: Runner) -> None:
    check(run, system_of(ops.softmax, (N, M), dtype=bf16), {"n": 3, "m": 21}, tolerance=1e-2)


# ---- operators -----------------------------------------------------------------------------------

FLOAT_OPS = (
    "add", "sub", "mul", "div", "min", "max", "mod", "rem", "floordiv", "truncdiv", "copysign",
    "eq", "ne", "lt", "le", "neg", "abs", "sign", "floor", "ceil", "trunc", "round", "sqrt",
    "rsqrt", "exp", "exp2", "log", "log2", "sin", "cos", "tanh", "erf", "sigmoid", "isnan",
    "isinf", "fma",
)  # fmt: skip
INTEGER_OPS = (
    "add", "sub", "mul", "div", "floordiv", "mod", "truncdiv", "rem", "min", "max", "and", "or",
    "xor", "shl", "shr", "eq", "ne", "lt", "le", "neg", "abs", "not", "sign",
)  # fmt: skip
BOOL_OPS = ("add", "sub", "mul", "min", "max", "and", "or", "xor", "eq", "ne", "not")
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.5, 1.5, -2.5, 1e-3, 3e9, 87.0, -104.0]
TRIED = [
    *((f32, op) for op in FLOAT_OPS),
    *((f64, op) for op in FLOAT_OPS if op != "tanh"),
    *((f16, op) for op in ("add", "max", "lt", "exp")),
    *((d, op) for d in (i32, i64, u8) for op in INTEGER_OPS),
    *((boolean, op) for op in BOOL_OPS),
]


def operands(dtype: DType) -> list[Array]:
    """Three arrays that hold every pair of awkward values."""
    if dtype.is_float:
        points = np.array(SPECIAL)
    elif dtype.is_bool:
        points = np.array([False, True])
    else:
        points = np.array([0, 1, 2, 3, 7, 8, 40, 100, 127, *((-1, -2, -7, -100) * dtype.is_signed)])
    x, y = np.meshgrid(points, points)
    with np.errstate(over="ignore"):
        return [to_storage(a.ravel(), dtype) for a in (x, y, x)]


def operator_system(dtype: DType, op: str) -> tuple[System, dict[str, Array]]:
    """out[i] = op(x[i], ..)."""
    count = OPERATORS[op].arity
    arrays = operands(dtype)[:count]
    size = as_index(len(arrays[0]))
    i = axis("i", size)
    bufs = [Buf(f"x{k}", (size,), dtype) for k in range(count)]
    value = call(op, *(b[i] for b in bufs))
    out = Buf("out", (size,), value.dtype)
    stage = Stage("out", (Access(out, (i,)),), Compute((i,), (value,)))
    system = System("operator", tuple(bufs), (), (stage,), (out,))
    return system, {b.name: a for b, a in zip(bufs, arrays, strict=True)}


@pytest.mark.parametrize(("dtype", "op"), TRIED, ids=[f"{d}-{op}" for d, op in TRIED])
def test_operators(run: Runner, dtype: DType, op: str) -> None:
    system, arrays = operator_system(dtype, op)
    check(run, system, tolerance=1e-6, arrays=arrays)


CASTS = [(f32, i32), (f32, f16), (f16, f32), (i32, f32), (boolean, f32), (i64, u8), (i32, boolean)]


@pytest.mark.parametrize(("source", "to"), CASTS, ids=[f"{a}-{b}" for a, b in CASTS])
def test_casts(run: Runner, source: DType, to: DType) -> None:
    system = system_of(lambda b, x: ops.cast(b, x, to), (N,), dtype=source)
    check(run, system, {"n": 50})


@pytest.mark.parametrize("to", INTEGERS, ids=str)
def test_floats_beyond_an_integer_type(run: Runner, to: DType) -> None:
    beyond = [300, -1.5, -129, 2.0**31, 3e9, 5e9, -3e9, 1e19, 1e20, np.inf, -np.inf, np.nan]
    x = np.array(beyond, np.float32)
    system = system_of(lambda b, v: ops.cast(b, v, to), (as_index(len(x)),))
    check(run, system, arrays={system.inputs[0].name: x})


def lowered(kernel: Kernel) -> Kernel:
    body = tuple(map_stage(st, lower_math) for st in kernel.body if isinstance(st, Stage))
    return replace(kernel, body=body)


@pytest.mark.parametrize("op", ["log1p", "expm1", "atan", "tan", "asinh", "erfc", "pow"])
def test_lowered_mathematics(run: Runner, op: str) -> None:
    system, arrays = operator_system(f32, op)
    (kernel,) = kernels_of(system)
    assert op in str(refusal(kernel))
    memory = {**arrays, "out": np.zeros_like(arrays["x0"])}
    run(lowered(kernel), memory, {})
    (want,) = run_system(system, arrays)
    np.testing.assert_allclose(memory["out"], want, rtol=1e-6, atol=1e-38)


# ---- what is refused -----------------------------------------------------------------------------


def refused(system: System) -> str:
    """What is said about the system's kernels that are refused."""
    return "\n".join(filter(None, map(refusal, kernels_of(system))))


def test_scans_scatters_and_checked_indices_are_refused() -> None:
    def accumulate(b: GraphBuilder, x: Value, at: Value, y: Value) -> Value:
        return ops.index_put(b, x, (at,), y, accumulate=True)

    assert "a scan" in refused(system_of(lambda b, x: ops.cumsum(b, x, 1), (N, M)))
    assert "a scatter" in refused(system_of(accumulate, (N, M), ((B,), i64), (B, M)))
    assert "checked" in refused(system_of(ops.take, (N, M), ((B,), i64)))


def test_scratch_that_is_not_read_whole_is_refused() -> None:
    norm = system_of(lambda b, x: ops.group_norm(b, x, None, None, 2), (B, 6, N, M))
    assert "not whole by one axis" in refused(norm)


def test_a_scheduled_kernel_is_refused() -> None:
    (kernel,) = kernels_of(systems.softmax(N, M))
    for step in (SerialLoop(axis("block", 4), kernel.body), Branch(lt(N, 4), kernel.body)):
        with pytest.raises(UnsupportedError, match="before it is scheduled"):
            emit_triton(replace(kernel, body=(step,)))


def test_covered_kernels_have_no_refusal() -> None:
    for system in (systems.softmax(N, M), systems.linear(N, M, B)):
        assert [refusal(k) for k in kernels_of(system)] == [None]


def test_a_row_too_long_for_a_tile_is_an_error(run: Runner) -> None:
    (kernel,) = kernels_of(systems.softmax(N, M))
    memory = {"x": np.zeros((1, 1), np.float32), "y": np.zeros((1, 1), np.float32)}
    with pytest.raises(ValueError, match="too long"):
        run(kernel, memory, {"n": 1, "m": (1 << 20) + 1})
