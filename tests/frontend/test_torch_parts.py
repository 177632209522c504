"""The parts of the PyTorch frontend alone: segments, sizes, output memory, changed parameters."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ferrule.base.compiler import Compiler
from ferrule.frontend.torch.memory import order_of
from ferrule.frontend.torch.plan import Plan
from ferrule.frontend.torch.run import Outputs, Params
from ferrule.frontend.torch.segments import operator_name, segments
from ferrule.frontend.torch.sizes import SHIFT, SymbolicSizes
from ferrule.ir.analysis.size import evaluate
from ferrule.runtime.arrays import NumpyCallable
from tests.frontend.tools import interpreted

j0 = torch.special.bessel_j0  # which ferrule has no rule for


def captured(fn: Callable[..., Any], *inputs: torch.Tensor) -> Any:
    return make_fx(fn, tracing_mode="symbolic")(*inputs)


# ---- segments -----------------------------------------------------------------------------------


def sides(fn: Callable[..., Any], *inputs: torch.Tensor) -> list[tuple[bool, list[str]]]:
    cut, _ = segments(captured(fn, *inputs).graph)
    return [(s.ours, [n.name.rstrip("_0123456789") for n in s.nodes]) for s in cut]


def test_a_graph_that_is_covered_is_one_segment() -> None:
    assert sides(lambda x: x.sin().cos(), torch.randn(3)) == [(True, ["sin", "cos"])]


def test_independent_work_is_not_cut() -> None:
    """sin and cos need not wait for j0, so they are one segment with what comes before it."""

    def f(x: torch.Tensor) -> Any:
        return j0(x.exp()).neg(), x.sin().cos()

    cut = sides(f, torch.randn(3))
    assert [ours for ours, _ in cut] == [True, False, True]
    assert set(cut[0][1]) == {"exp", "sin", "cos"}
    assert cut[2][1] == ["neg"]


def test_what_no_result_needs_is_left_out() -> None:
    gm = captured(lambda x: (x.sin() + 1).sum(), torch.randn(3))
    for n in list(gm.graph.nodes):
        if n.op == "output":
            n.args = ([next(m for m in gm.graph.nodes if "sin" in m.name)],)
    (only,), _ = segments(gm.graph)
    assert len(only.nodes) == 1


def test_a_refused_node_goes_to_the_other_side() -> None:
    graph = captured(lambda x: x.sin().cos(), torch.randn(3)).graph
    node = next(n for n in graph.nodes if "cos" in n.name)
    cut, reasons = segments(graph, {node: "because"})
    assert [s.ours for s in cut] == [True, False]
    assert reasons == {"aten.cos.default": "because"}


def test_one_of_several_results_is_named_after_what_gives_it() -> None:
    graph = captured(lambda x: x.mode()[1], torch.randn(3)).graph
    (only,), reasons = segments(graph)
    assert {operator_name(n) for n in only.nodes} == {"aten.mode.default"} == reasons.keys()


def test_values_are_forgotten_when_nothing_needs_them() -> None:
    gm = captured(lambda x: j0(x.sin()).exp(), torch.randn(3))
    plan = Plan(gm, {}).compile(Compiler(interpreted, NumpyCallable))
    dropped = {n.name for step in plan.steps for n in step.forget}
    assert any("sin" in name for name in dropped)
    x = torch.randn(5)
    torch.testing.assert_close(
        plan([x.size(0), x][-len(plan.placeholders) :])[0], j0(x.sin()).exp()
    )


# ---- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        lambda n, m: n + 2 * m - 1,
        lambda n, m: (n * m) // 4 + n % 3,
        lambda n, m: (n + 1) ** 2,
        lambda n, m: torch.sym_max(n, m) - torch.sym_min(n, m),
        lambda n, m: -(n // -2),
    ],
)
def test_sizes_are_those_of_pytorch(formula: Callable[[Any, Any], Any]) -> None:
    found: list[Any] = []

    def f(x: torch.Tensor) -> torch.Tensor:
        found.append(formula(x.shape[0], x.shape[1]))
        return x

    captured(f, torch.randn(5, 7))
    sizes = SymbolicSizes()
    size = found[0]
    env = size.node.shape_env
    by_name = {
        str(symbol): int(env.backed_var_to_val[symbol]) for symbol in size.node.expr.free_symbols
    }
    e = sizes.expr(size)
    assert evaluate(e, lambda d: by_name[d.name] + sizes.shifts.get(d.name, 0)) == formula(5, 7)


def test_an_integer_that_may_be_negative_is_shifted() -> None:
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    sizes = SymbolicSizes()
    e = sizes.expr(ShapeEnv().create_unbacked_symint())
    (name,) = sizes.shifts
    assert evaluate(e, lambda d: SHIFT - 7) == -7
    assert name.startswith("u")


# ---- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "order"),
    [
        (torch.empty(2, 3), None),
        (torch.empty(2, 3).t(), (1, 0)),
        (torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last), (0, 2, 3, 1)),
        (torch.empty(2, 3)[:, :2], None),
        (torch.empty(3).expand(2, 3), None),
        (torch.empty(1, 3).t(), None),
        (torch.empty(0, 3).t(), None),
        (torch.empty(()), None),
    ],
)
def test_the_order_of_dimensions(tensor: torch.Tensor, order: tuple[int, ...] | None) -> None:
    assert order_of(tensor) == order


SHAPE = (1 << 19,)


def made(pool: Outputs, shape: tuple[int, ...]) -> torch.Tensor:
    make, arguments = pool.maker(shape)
    return make(*arguments)


def test_memory_is_used_again_once_nobody_sees_it() -> None:
    pool = Outputs(torch.float32)
    first = made(pool, SHAPE)
    address = first.data_ptr()
    assert made(pool, SHAPE).data_ptr() != address
    del first
    assert made(pool, SHAPE).data_ptr() == address


@pytest.mark.parametrize(
    "keep",
    [
        lambda t: t[3:],
        lambda t: t.numpy(),
        lambda t: t.untyped_storage(),
        lambda t: t.detach(),
        lambda t: torch.utils.dlpack.to_dlpack(t),
        lambda t: t.share_memory_().untyped_storage().nbytes(),
    ],
    ids=["view", "numpy", "storage", "detached", "dlpack", "shared with processes"],
)
def test_memory_that_somebody_sees_is_left_alone(keep: Callable[[torch.Tensor], Any]) -> None:
    pool = Outputs(torch.float32)
    first = made(pool, SHAPE)
    held = keep(first)
    address = first.data_ptr()
    del first
    assert made(pool, SHAPE).data_ptr() != address
    assert held is not None


def test_small_results_are_plain_tensors() -> None:
    pool = Outputs(torch.float32)
    made(pool, (4,))
    assert not pool._storages


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.mul_(2),
        lambda p: p.data.mul_(2),
        lambda p: p.zero_(),
        lambda p: setattr(p, "data", torch.ones(5, 7)),
    ],
)
def test_changed_parameters_are_noticed(change: Callable[[torch.Tensor], Any]) -> None:
    for p in (torch.randn(5, 7), torch.nn.Parameter(torch.randn(7, 5).t()), torch.randn(9, 7)[2:7]):
        held = Params([p])
        assert not held.changed([p])
        change(p)
        assert held.changed([p])


def test_another_tensor_is_a_change() -> None:
    p, empty = torch.randn(3), torch.empty(0)
    held = Params([p, empty])
    assert not held.changed([p, empty])
    assert held.changed([p.clone(), empty])


def test_parameters_made_in_inference_mode() -> None:
    with torch.inference_mode():
        p = torch.randn(4)
        held = Params([p])
        assert not held.changed([p])
        operator.imul(p, 2)
        assert held.changed([p])
