"""Graphs to write as StableHLO, and what runs the text: our own reader, or XLA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule import ops
from ferrule.base.dtype import bf16, f32, from_name, from_numpy, from_storage
from ferrule.base.numerics import difference
from ferrule.codegen.stablehlo.program import stablehlo_text
from ferrule.frontend.stablehlo.convert import convert
from ferrule.frontend.stablehlo.text import read_text
from ferrule.ir.expr import Expr, arg, compare
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph
from tests.fuzz import program
from tests.fuzz.oracle import Judge

Array = NDArray[Any]
Runner = Callable[[Graph, str, Sequence[Array]], list[Array]]
GOLDEN = Path(__file__).parents[2] / "golden"
RNG = np.random.default_rng(18)


def golden() -> Iterator[Any]:
    """The graphs of tests/golden, by name, with sizes."""
    for file in (*sorted(GOLDEN.glob("*.graph.txt")), *sorted(GOLDEN.glob("fuzz/*.txt"))):
        found = program.read(file.read_text(encoding="utf-8"))
        if file.stem == "gather.graph":  # its indices are not told by their names
            continue
        dims = [d.attr for d in program.dims_of(found.graph)]
        sizes = {d.name: max(8, d.lo, d.multiple) for d in dims}
        runs = found.runs if found.runs != ({},) else (sizes,)
        yield file.stem, program.Program(found.graph, runs)


def judged(p: program.Program, run: Runner) -> None:
    """Each run of a program gives what it means, but for what rounding explains."""
    for sizes in p.runs:
        text = stablehlo_text(p.graph, sizes)
        found = run(p.graph, text, program.arrays(p.graph, sizes))
        assert Judge(p.graph, sizes).complaint(found) is None, text


def read_back(graph: Graph, text: str, arrays: Sequence[Array]) -> list[Array]:
    """What the text means to our own reader."""
    found = convert(read_text(text))
    return run_graph(found.graph, [*arrays, *found.params])


def check(build: Callable[..., Any], *arrays: Array, run: Runner, is_bf16: bool = False) -> str:
    """The graph that `build` makes on these arrays; its text."""
    b = GraphBuilder()
    dtypes = [bf16 if is_bf16 and a.dtype == np.uint16 else from_numpy(a.dtype) for a in arrays]
    out = build(b, *(b.input(tensor(a.shape, t)) for a, t in zip(arrays, dtypes, strict=True)))
    graph = b.build((out,) if isinstance(out, Value) else tuple(out))
    text = stablehlo_text(graph)
    for v, x, y in zip(graph.outputs, run(graph, text, arrays), run_graph(graph, arrays)):
        assert x.dtype == y.dtype
        assert difference(x, y, v.dtype) is None, (from_storage(x, v.dtype), y, text)
    return text


# ---- cases ---------------------------------------------------------------------------------------


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def _divisions(b: GraphBuilder, x: Value, y: Value) -> list[Value]:
    return [getattr(ops, n)(b, x, y) for n in ("truncdiv", "floordiv", "rem", "mod")]


def _shifts(b: GraphBuilder, x: Value, y: Value) -> list[Value]:
    return [ops.shl(b, x, y), ops.shr(b, x, y)]


def _casts(b: GraphBuilder, x: Value) -> list[Value]:
    names = ("i8", "i32", "i64", "u8", "u32", "u64", "bool", "f16")
    return [ops.cast(b, x, from_name(n)) for n in names]


def _counted(b: GraphBuilder, x: Value, reverse: bool, count: int) -> Any:
    rows = ops.slice_axis(b, x, 0, 0, count)
    first = ops.full(b, (x.shape[1],), 0.5, f32)
    step = lambda b, s, r: ([ops.tanh(b, ops.add(b, s[0], r[0]))], [ops.neg(b, r[0])])  # noqa: E731
    return ops.loop(b, step, count, [first], [rows], reverse)


def _until(b: GraphBuilder, x: Value) -> Any:
    limit = ops.full(b, (), 50.0, f32)
    goes_on = lambda b, s: ops.lt(b, ops.reduce_sum(b, s[0]), limit)  # noqa: E731
    return ops.while_loop(b, goes_on, lambda b, s: [ops.add(b, s[0], x)], [ops.abs(b, x)])


def _chosen(b: GraphBuilder, x: Value, index: Value) -> Any:
    blocks = [
        lambda b: [ops.exp(b, x)], lambda b: [ops.neg(b, x)], lambda b: [ops.mul(b, x, x)]
    ]  # fmt: skip
    return ops.case(b, index, blocks)


def _sorted(b: GraphBuilder, x: Value, y: Value) -> Any:
    order: Expr = compare("lt", arg(3, from_numpy(np.int64)), arg(1, from_numpy(np.int64)))
    return ops.sort_together(b, [x, y], 1, order, keep=4)


I32_MIN, I32_MAX = -(2**31), 2**31 - 1
INTS = np.array([I32_MIN, -7, -1, 0, 1, 7, I32_MAX] * 7, np.int32)
OTHERS = np.repeat(np.array([I32_MIN, -3, -1, 0, 1, 3, 40], np.int32), 7)
NUMBERS = np.array([-3e9, -300.5, -1.5, -0.0, 0.5, 200.7, 4e9, 1e19, np.inf, np.nan], np.float32)
UP = np.arange(4, dtype=np.int64)

CASES: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
    "divisions": (_divisions, (INTS, OTHERS)),
    "divisions of bytes": (_divisions, (INTS.astype(np.uint8), OTHERS.astype(np.uint8))),
    "divisions of floats": (_divisions, (normal(40), normal(40) + 3)),
    "shifts": (_shifts, (INTS, OTHERS)),
    "shifts of unsigned": (_shifts, (INTS.astype(np.uint32), OTHERS.astype(np.uint32))),
    "casts of f32": (_casts, (NUMBERS,)),
    "casts of f64": (_casts, (NUMBERS.astype(np.float64),)),
    "powers": (lambda b, x, y: ops.pow(b, x, y), (INTS, OTHERS % 5 - 2)),
    "forward": (lambda b, x: _counted(b, x, False, 5), (normal(6, 3),)),
    "backward": (lambda b, x: _counted(b, x, True, 6), (normal(6, 3),)),
    "no steps": (lambda b, x: _counted(b, x, False, 0), (normal(6, 3),)),
    "while": (_until, (normal(4, 3) ** 2,)),
    "case 0": (_chosen, (normal(3), np.int32(0).reshape(()))),
    "case 7": (_chosen, (normal(3), np.int32(7).reshape(()))),
    "sort by another": (_sorted, (normal(3, 9), RNG.integers(0, 4, (3, 9)))),
    "running sums": (
        lambda b, x: [ops.cumsum(b, x, 1, e, r) for e in (False, True) for r in (False, True)],
        (normal(3, 20),),
    ),
    "running extremes": (lambda b, x: ops.cummax(b, x, 0), (normal(9, 4),)),
    "transposed convolution": (
        lambda b, x, w: ops.conv(
            b, x, w, None, (2, 1), ((1, 0), (1, 2)), (1, 2), 2, transposed=True
        ),
        (normal(2, 4, 5, 6), normal(4, 3, 3, 2)),
    ),
    "grouped convolution": (
        lambda b, x, w: ops.conv(b, x, w, None, (2, 1), ((1, 0), (-1, 2)), (1, 2), 2),
        (normal(2, 4, 8, 7), normal(6, 2, 3, 2)),
    ),
    "pools": (
        lambda b, x: [
            ops.max_pool(b, x, 3, 2, 1, ceil_mode=True),
            *ops.max_pool(b, x, 2, 1, 0, 2, with_indices=True),
            ops.avg_pool(b, x, (3, 2), 2, 1, True, False),
        ],
        (normal(2, 3, 8, 9),),
    ),
    "moved axes": (
        lambda b, x: ops.reshape(b, ops.transpose(b, ops.reverse(b, x, (1,)), (2, 0, 1)), (5, 6)),
        (normal(3, 2, 5),),
    ),
    "diagonal": (lambda b, x: ops.diagonal(b, x, 1), (normal(4, 6),)),
    "rolled": (lambda b, x: ops.roll(b, x, (2, -1), (0, 1)), (normal(4, 5),)),
    "taken": (
        lambda b, x, i: [ops.take(b, x, i, 1), ops.take_along_axis(b, x, i, 1)],
        (normal(3, 6), RNG.integers(0, 6, (3, 2))),
    ),
    "written": (
        lambda b, x, i, u: ops.index_put(b, x, [i], u, accumulate=True),
        (normal(5, 3), RNG.integers(0, 5, (7,)), normal(7, 3)),
    ),
    "scattered": (
        lambda b, x, i, u: ops.scatter(b, x, 1, i, u, "prod"),
        (normal(4, 5), RNG.integers(0, 5, (4, 3)), normal(4, 3)),
    ),
    "attention": (
        lambda b, q, k, v: ops.attention(b, q, k, v, causal=True),
        (normal(2, 2, 7, 8), normal(2, 2, 7, 8), normal(2, 2, 7, 8)),
    ),
    "literal": (
        lambda b, i: ops.take(b, ops.constant(b, [3.5, float("nan"), -1e-30, 7.0]), i, 0), (UP,)
    ),
}  # fmt: skip
