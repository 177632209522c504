"""The mathematics of ferrule.lower.math as machine code: as accurate as when interpreted, and in
vectors.

Code generation may fuse a multiplication with an addition, so the bits can differ from the
interpreter's, the bounds cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ferrule.base.dtype import DType, bf16, f16, f32, f64
from ferrule.codegen.llvm.compile import assembly
from ferrule.codegen.llvm.emit import emit_module
from ferrule.ir.expr import Buf, Expr, arg, axis, call, const
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import For, Function, Store
from ferrule.ir.operators import OPERATORS
from ferrule.ir.system import Access
from ferrule.lower.math.expand import lower_math
from ferrule.lower.math.floats import Floats
from ferrule.target.cpu import Target, named, supports
from tests import math64

BOUNDS = {
    "exp": 2, "exp2": 2, "expm1": 2, "log": 2, "log2": 2, "log10": 2, "log1p": 2,
    "sinh": 1, "cosh": 1, "tanh": 3, "sigmoid": 3, "asinh": 1, "acosh": 1, "atanh": 1,
    "sin": 2, "cos": 2, "tan": 4, "asin": 3, "acos": 2, "atan": 3,
    "erf": 3, "erfc": 1, "erfinv": 1, "rsqrt": 2, "pow": 1, "hypot": 1, "atan2": 3,
}  # fmt: skip
PAIRS = ("pow", "hypot", "atan2")
LANES = 16
NAMES = ("avx512", "avx2", "generic")


def samples(count: int) -> np.ndarray:
    """Numbers of every exponent and of the usual ranges, and special ones, in any order."""
    rng = np.random.default_rng(3)
    special = np.float32([0, 1, np.inf, np.nan, 1e-45, 1e-39, 3.4028235e38, 88.72283, 0.5])
    bits = rng.integers(0, 0x7F800000, count // 2, dtype=np.uint32).view(np.float32)
    ranges = [rng.uniform(0, high, count // 6).astype(np.float32) for high in (1, 12, 110)]
    x = np.concatenate([special, *ranges, bits])[: count // 2 - len(special)]
    x = np.concatenate([x, special])
    return rng.permutation(np.concatenate([x, -x]))


def program(op: str, count: int, target: Target, dtype: DType = f32) -> Function:
    """y[i] = op(x0[i], ..) in vectors of LANES."""

    def value(*xs: Expr) -> Expr:
        return lower_math(call(op, *xs), target.has_fma)

    return mapped(value, OPERATORS[op].arity, count, dtype)


def mapped(value: Callable[..., Expr], arity: int, count: int, dtype: DType) -> Function:
    """y[i] = value(x0[i], ..) in vectors of LANES."""
    outer, lane = axis("i", count // LANES), axis("l", LANES)
    at = outer * LANES + lane
    n = const(count)
    inputs = [Buf(f"x{k}", (n,), dtype) for k in range(arity)]
    out = Buf("y", (n,), dtype)
    store = Store((Access(out, (at,)),), (value(*(b[at] for b in inputs)),))
    body = For(lane, const(0), const(LANES), Kind.LANES, (store,))
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


def on(runner: Any, name: str, op: str, *xs: np.ndarray) -> np.ndarray:
    """`op` of f64 or f32 numbers by code for the target `name`."""
    if not supports(name):
        pytest.skip(f"this machine does not run code for {name}")
    count, dtype = len(xs[0]), f64 if xs[0].dtype == np.float64 else f32
    room = -(-count // LANES) * LANES
    xs = tuple(np.concatenate([x, np.ones(room - count, x.dtype)]) for x in xs)
    out = np.zeros(room, xs[0].dtype)
    runner(program(op, room, named(name), dtype), named(name))(out, *xs)
    return out[:count]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("op", sorted(math64.BOUNDS))
def test_machine_code_of_doubles_is_accurate(runner: Any, name: str, op: str):
    """Code that may fuse what the formula does not is as accurate; limits are the same."""
    xs = math64.operands(op)
    error = math64.errors(on(runner, name, op, *xs), math64.exact(op))
    at = int(np.argmax(error))
    assert error[at] <= math64.BOUNDS[op], [x[at] for x in xs]
    xs, want = math64.edges(op)
    got = on(runner, name, op, *xs)
    np.testing.assert_array_equal(got, want)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))


@pytest.mark.parametrize("name", NAMES)
def test_products_of_two_parts_are_not_fused(runner: Any, name: str):
    """p is rounded although a sum follows, and p + e is the product."""
    if not supports(name):
        pytest.skip(f"this machine does not run code for {name}")
    m, rng = Floats(f64, named(name).has_fma), np.random.default_rng(9)
    xs = 2.0 ** rng.uniform(-100, 100, (3, 1 << 10)) * rng.choice([-1, 1], (3, 1 << 10))
    xs[2] = -xs[0] * xs[1] * (1 + rng.integers(0, 2, 1 << 10))
    total, rest = np.zeros(1 << 10), np.zeros(1 << 10)
    runner(mapped(lambda x, y, z: m.product(x, y)[0] + z, 3, 1 << 10, f64), named(name))(total, *xs)
    np.testing.assert_array_equal(total, xs[0] * xs[1] + xs[2])
    runner(mapped(lambda x, y: m.product(x, y)[1], 2, 1 << 10, f64), named(name))(rest, *xs[:2])
    for x, y, e in zip(*xs[:2], rest, strict=True):
        lost = Fraction(x) * Fraction(y) - Fraction(x * y)
        assert abs(Fraction(e) - lost) <= abs(Fraction(x * y)) / 2**104


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("op", ["rem", "mod"])
def test_remainders_are_exact(runner: Any, name: str, op: str, dtype: type):
    """Of all sizes, |x / y| up to the largest there is, and subnormal ones."""
    rng = np.random.default_rng(8)
    low, high = (-1074, 1023.9) if dtype == np.float64 else (-149, 127.9)
    wide = 2.0 ** rng.uniform(low, high, (2, 4000))
    usual = rng.uniform(0, 30, (2, 2000))
    whole = np.stack([rng.integers(0, 500, 2000) * usual[0] / 8, usual[0]])
    tiny = rng.integers(1, 1 << 20, (2, 500)) * 2.0**low
    x, y = np.concatenate([wide, wide[:, ::-1], usual, whole, tiny], axis=1).astype(dtype)
    special = np.array([0.0, 1.0, 2.0**low, np.finfo(dtype).max, np.inf, np.nan], dtype)
    a, b = (np.ravel(g) for g in np.meshgrid(special, special))
    x, y = np.concatenate([x, -x, x, -x, a, -a]), np.concatenate([y, y, -y, -y, b, b])
    meaning = OPERATORS[op].floats
    assert meaning is not None
    with np.errstate(all="ignore"):
        want = meaning(x, y)
    got = on(runner, name, op, x, y)
    np.testing.assert_array_equal(got, want)
    if op == "rem":
        number = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))


@pytest.mark.parametrize("dtype", [f16, bf16, f32, f64], ids=str)
@pytest.mark.parametrize("op", sorted(n for n, op in OPERATORS.items() if op.floats))
def test_every_function_of_floats_has_machine_code(op: str, dtype: DType):
    """By a formula, an instruction or a function of the module."""
    for target in (named("generic"), named("avx2")):
        inputs = [Buf(f"x{k}", (const(LANES),), dtype) for k in range(OPERATORS[op].arity)]
        lane = axis("l", LANES)
        value = lower_math(call(op, *(b[lane] for b in inputs)), target.has_fma)
        out = Buf("y", (const(LANES),), value.dtype)
        store = Store((Access(out, (lane,)),), (value,))
        body = For(lane, const(0), const(LANES), Kind.LANES, (store,))
        grid = axis("g", 1)
        assert emit_module([Function("kernel", (out, *inputs), 1, (), (grid,), (body,))], target)


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("op", ["exp", "tanh", "erf", "sigmoid", "log", "sin", "pow", "lgamma"])
def test_loops_are_vectors(op: str, dtype: DType):
    """On AVX2: no call, no scalar arithmetic, and 256-bit fused operations."""
    target = named("avx2")
    text = assembly(emit_module([program(op, 1 << 10, target, dtype)], target), target)
    called = {line.split()[1] for line in text.splitlines() if line.strip().startswith("call")}
    assert called <= {"kernel.body"}
    assert not re.search(r"\bv?(add|mul|div|sub|fmadd\w*|cvt\w+)s[sd]\b", text)
    assert re.search(r"vfn?m(add|sub)\d+p[sd]\s.*%ymm", text)
