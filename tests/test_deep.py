"""Long chains: nothing calls itself once for each level of an expression, and deep ones are cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import ferrule
from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.codegen.llvm.emit import emit_module
from ferrule.ir.algebra import algebra
from ferrule.ir.analysis.cost import flops
from ferrule.ir.expr import (
    Buf,
    Expr,
    axis,
    both,
    call,
    conjuncts,
    const,
    eq,
    fconst,
    load,
    loads,
    substitute,
)
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.kernel import Kernel
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Access, Compute, Stage
from ferrule.lower.loops import lower_kernel
from ferrule.lower.math.expand import lower_math
from ferrule.ops.join import MANY
from ferrule.pipeline.compile import compile_graph
from tests.cpus import current

Array = np.ndarray
F = np.float32
I, J = axis("i", 7), axis("j", 7)
X, Y = Buf("x", (const(7),), f32), Buf("y", (const(7),), f32)


def chain(length: int, start: Expr) -> Expr:
    """`start` after so many sums and products in turn."""
    for k in range(length):
        start = start * fconst(0.5) if k % 2 else start + fconst(float(k))
    return start


def test_expressions_of_any_depth() -> None:
    e = chain(5000, load(X, I))
    assert e.depth > 5000
    assert substitute(e, {I: J}) is chain(5000, load(X, J))
    assert flops(e) == 5000
    assert loads(e) == (load(X, I),)
    assert simplify(algebra(e)).depth > 2500
    assert str(e).count("*") == 2500
    conditions = [eq(I, k) for k in range(3000)]
    assert conjuncts(both(*conditions)) == tuple(conditions)


def test_deep_expressions_have_a_value() -> None:
    expected = F(1)
    for k in range(3000):
        expected = expected * F(0.5) if k % 2 else expected + F(k)
    assert eval_expr(chain(3000, fconst(1.0)), Env()) == expected


def test_deep_expressions_have_code() -> None:
    value = load(X, I)
    for _ in range(100):
        value = lower_math(call("tanh", value + fconst(1.0)))
    assert value.depth > 1000
    kernel = Kernel("k", (I,), (Stage("y", (Access(Y, (I,)),), Compute((), (value,))),))
    assert emit_module([lower_kernel(kernel)], current()).count("fdiv") >= 100


def test_a_deep_expression_is_cut_and_the_kernel_stays_one() -> None:
    b = GraphBuilder("chain")
    x = b.input(tensor((9,), f32))
    for _ in range(100):
        x = ops.tanh(b, x)
    made = compile_graph(b.build([x]))
    assert "operations deep" in made.explain()
    assert made.explain().count("kernel ") == 1


def products(x: Array) -> Array:
    for _ in range(500):
        x = F(1.0001) * x
    return x


def choices(x: Array) -> Array:
    y = x
    for k in range(60):
        y = np.where(x > F(k * 0.1 - 2), y, x + F(k))
    return y


def rolls(x: Array) -> Array:
    for k in range(60):
        x = np.roll(x, k % 5 + 1, k % 2)
    return x


def views(x: Array) -> Array:
    for _ in range(30):
        x = np.concatenate([x.T[1:], x.T[:1]]).reshape(x.shape)
    return x


def integers(x: Array) -> Array:
    n = x.astype(np.int64)
    for k in range(60):
        n = (n * 3 + k) % 1000
    return n


@pytest.mark.parametrize("function", [products, choices, rolls, views, integers])
def test_long_functions(function: Callable[[Array], Array]) -> None:
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(F)
    found = ferrule.jit(function)(x)
    np.testing.assert_allclose(found, function(x), rtol=1e-4)


@pytest.mark.parametrize("count", [MANY, MANY + 1, 150])
def test_many_pieces_are_joined(count: int) -> None:
    def joined(x: Array) -> Array:
        return np.concatenate([x[k % 4 : k % 4 + 1] * F(k) for k in range(count)])

    x = np.random.default_rng(0).standard_normal((4, 6)).astype(F)
    np.testing.assert_array_equal(ferrule.jit(joined)(x), joined(x))
