"""What code for an older level costs: programs for two targets of artifacts, beside one another.

    python -m benchmarks.levels                                     x86-64 against x86-64-v3
    python -m benchmarks.levels --targets x86-64-v3,x86-64-v4 --only 'matmul|softmax'

Both run interleaved in one process and one thread. The figure is the ratio of the least times:
fresh pages of results, which the system gives now and then, are not what is compared.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from statistics import geometric_mean
from typing import Any

import numpy as np

from benchmarks.report import table
from ferrule import ops
from ferrule.base.dtype import DType, bf16, f16, f32, f64, to_storage
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.pipeline.compile import compile_program, program_of
from ferrule.runtime import pool
from ferrule.runtime.arrays import NumpyCallable
from ferrule.runtime.cpu import load
from ferrule.target.cpu import Target, portable

Shapes = Sequence[tuple[int, ...]]
Case = tuple[Callable[..., Value], Shapes, Shapes, DType]  # of inputs, of parameters


def _conv(stride: int = 1, groups: int = 1) -> Callable[..., Value]:
    return lambda b, x, w: ops.relu(
        b, ops.conv(b, x, w, None, stride=stride, padding=1, groups=groups)
    )


def _attention(b: GraphBuilder, q: Value, k: Value, v: Value) -> Value:
    return ops.attention(b, q, k, v, scale=0.125, causal=True)


def _norm(b: GraphBuilder, x: Value, scale: Value, shift: Value) -> Value:
    return ops.layer_norm(b, x, scale, shift, axes=1, eps=1e-5)


_IMAGE, _ROWS, _HEADS = ((1, 64, 28, 28),), ((256, 1024),), ((1, 4, 128, 64),) * 3
CASES: dict[str, Case] = {
    "matmul": (ops.matmul, ((192, 256),), ((256, 384),), f32),
    "matmul_odd": (ops.matmul, ((191, 253),), ((253, 379),), f32),
    "matmul_both": (ops.matmul, ((192, 256), (256, 384)), (), f32),
    "matmul_row": (ops.matmul, ((1, 512),), ((512, 512),), f32),
    "matmul_f16": (ops.matmul, ((192, 256),), ((256, 384),), f16),
    "matmul_bf16": (ops.matmul, ((192, 256),), ((256, 384),), bf16),
    "conv_3x3": (_conv(), _IMAGE, ((64, 64, 3, 3),), f32),
    "conv_first": (_conv(2), ((1, 3, 112, 112),), ((32, 3, 3, 3),), f32),
    "conv_depthwise": (_conv(groups=64), _IMAGE, ((64, 1, 3, 3),), f32),
    "attention": (_attention, _HEADS, (), f32),
    "softmax": (ops.softmax, _ROWS, (), f32),
    "softmax_odd": (ops.softmax, ((1024, 61),), (), f32),
    "softmax_f16": (ops.softmax, _ROWS, (), f16),
    "layer_norm": (_norm, ((256, 768),), ((768,), (768,)), f32),
    "gelu": (ops.gelu, _ROWS, (), f32),
    "sigmoid_f16": (ops.sigmoid, _ROWS, (), f16),
    "relu_f16": (ops.relu, _ROWS, (), f16),
    "floor": (ops.floor, _ROWS, (), f32),
    "exp_f64": (ops.exp, _ROWS, (), f64),
}


def program(case: Case, target: Target) -> Callable[[], Any]:
    """A call of a case's program."""
    build, inputs, params, dtype = case
    b, rng = GraphBuilder("main"), np.random.default_rng(0)
    values = [b.input(tensor(s, dtype)) for s in inputs]
    graph = b.build([build(b, *values, *(b.param(tensor(s, dtype)) for s in params))])
    xs, ws = ([to_storage(rng.standard_normal(s) / 4, dtype) for s in some]
              for some in (inputs, params))  # fmt: skip
    executable = load(compile_program(program_of(graph, target), "program", target))
    executable.bind([(w.ctypes.data, w) for w in ws])
    call = NumpyCallable(executable)
    return lambda: call(*xs)


def times(calls: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """The least microseconds of each call, in rounds that take turns."""
    found: list[list[int]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(found[0]) < 5:
        for call, some in zip(calls, found):
            start = time.perf_counter_ns()
            call()
            some.append(time.perf_counter_ns() - start)
    return [min(some) / 1e3 for some in found]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.levels", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", default="x86-64,x86-64-v3", help="the older, and the newer")
    parser.add_argument("--only", default=".*", help="a pattern of cases")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring a case")
    options = parser.parse_args(arguments)
    names = options.targets.split(",")
    pool.set_num_threads(1)
    rows, ratios = [], []
    for name in filter(re.compile(options.only).fullmatch, CASES):
        older, newer = times([program(CASES[name], portable(t)) for t in names], options.seconds)
        ratios.append(older / newer)
        rows.append([name, f"{older:.1f}", f"{newer:.1f}", f"{ratios[-1]:.2f}"])
    print(table(["case", *(f"{n}, us" for n in names), "ratio"], rows))
    print(f"\ngeometric mean {geometric_mean(ratios):.2f}, worst {max(ratios):.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
