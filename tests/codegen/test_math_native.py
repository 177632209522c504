"""The mathematics of ferrule.lower.math as machine code: as accurate as when interpreted, and in
vectors.

Code generation may fuse a multiplication with an addition, so the bits can differ from the
interpreter's, the bounds cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from ferrule.base.dtype import DType, bf16, f16, f32, f64
from ferrule.codegen.llvm.compile import assembly
from ferrule.codegen.llvm.emit import emit_module
from ferrule.ir.expr import Buf, arg, axis, call, const
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import For, Function, Store
from ferrule.ir.operators import OPERATORS
from ferrule.ir.system import Access
from ferrule.lower.math.expand import lower_math
from ferrule.target.cpu import Target, named

BOUNDS = {
    "exp": 2, "exp2": 2, "expm1": 2, "log": 2, "log2": 2, "log10": 2, "log1p": 2,
    "sinh": 1, "cosh": 1, "tanh": 3, "sigmoid": 3, "asinh": 1, "acosh": 1, "atanh": 1,
    "sin": 2, "cos": 2, "tan": 4, "asin": 3, "acos": 2, "atan": 3,
    "erf": 3, "erfc": 1, "erfinv": 1, "rsqrt": 2, "pow": 1, "hypot": 1, "atan2": 3,
}  # fmt: skip
PAIRS = ("pow", "hypot", "atan2")
LANES = 16


def samples(count: int) -> np.ndarray:
    """Numbers of every exponent and of the usual ranges, and special ones, in any order."""
    rng = np.random.default_rng(3)
    special = np.float32([0, 1, np.inf, np.nan, 1e-45, 1e-39, 3.4028235e38, 88.72283, 0.5])
    bits = rng.integers(0, 0x7F800000, count // 2, dtype=np.uint32).view(np.float32)
    ranges = [rng.uniform(0, high, count // 6).astype(np.float32) for high in (1, 12, 110)]
    x = np.concatenate([special, *ranges, bits])[: count // 2 - len(special)]
    x = np.concatenate([x, special])
    return rng.permutation(np.concatenate([x, -x]))


def program(op: str, count: int, target: Target) -> Function:
    """y[i] = op(x0[i], ..) in vectors of LANES."""
    outer, lane = axis("i", count // LANES), axis("l", LANES)
    at = outer * LANES + lane
    n = const(count)
    inputs = [Buf(f"x{k}", (n,), f32) for k in range(2 if op in PAIRS else 1)]
    out = Buf("y", (n,), f32)
    value = lower_math(call(op, *(b[at] for b in inputs)), target.has_fma)
    body = For(lane, const(0), const(LANES), Kind.LANES, (Store((Access(out, (at,)),), (value,)),))
    return Function("kernel", (out, *inputs), 1, (), (outer,), (body,))


@pytest.mark.parametrize("op", sorted(BOUNDS))
def test_machine_code_is_accurate(run_on: Callable[..., int], target: Target, op: str):
    x = samples(1 << 14)
    args = [x, x[::-1].copy()] if op in PAIRS else [x]
    got = np.zeros_like(x)
    run_on(program(op, len(x), target), got, *args)
    meaning = call(op, *(arg(i, f64) for i in range(len(args))))
    expected = eval_expr(meaning, Env(args=tuple(a.astype(np.float64) for a in args)))
    with np.errstate(all="ignore"):
        nearest = expected.astype(np.float32)
        finite = np.isfinite(nearest) & np.isfinite(got)
        ulp = np.ldexp(1.0, np.maximum(np.frexp(expected)[1] - 24, -149))
        error = np.where(finite, np.abs(got - expected) / ulp, 0.0)
    at = int(np.argmax(error))
    assert error[at] <= BOUNDS[op], ([a[at] for a in args], got[at])
    np.testing.assert_array_equal(got[~finite], nearest[~finite])


@pytest.mark.parametrize("dtype", [f16, bf16, f32, f64], ids=str)
@pytest.mark.parametrize("op", sorted(n for n, op in OPERATORS.items() if op.floats))
def test_every_function_of_floats_has_machine_code(op: str, dtype: DType):
    """By a formula, an instruction or the C library."""
    for target in (named("generic"), named("avx2")):
        inputs = [Buf(f"x{k}", (const(LANES),), dtype) for k in range(OPERATORS[op].arity)]
        lane = axis("l", LANES)
        value = lower_math(call(op, *(b[lane] for b in inputs)), target.has_fma)
        out = Buf("y", (const(LANES),), value.dtype)
        store = Store((Access(out, (lane,)),), (value,))
        body = For(lane, const(0), const(LANES), Kind.LANES, (store,))
        grid = axis("g", 1)
        assert emit_module([Function("kernel", (out, *inputs), 1, (), (grid,), (body,))], target)


@pytest.mark.parametrize("op", ["exp", "tanh", "erf", "sigmoid", "log"])
def test_loops_are_vectors(op: str):
    """On AVX2: no call of the C library, no scalar arithmetic, and 256-bit fused operations."""
    target = named("avx2")
    text = assembly(emit_module([program(op, 1 << 10, target)], target), target)
    assert not re.search(rf"\bcall\w*\s+{op}f?\b", text)
    assert not re.search(r"\bv?(add|mul|div|sub|fmadd\w*|cvt\w+)s[sd]\b", text)
    assert re.search(r"vfn?m(add|sub)\d+ps\s.*%ymm", text)
