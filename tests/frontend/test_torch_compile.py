"""torch.compile(backend="ferrule") behaves as eager does, however a function is called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_leaves

from ferrule.base import config
from ferrule.base.compiler import Compiler
from ferrule.runtime.arrays import NumpyCallable
from ferrule.runtime.counters import counters
from tests.frontend.tools import compiled, fallbacks


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.register_buffer("scale", torch.rand(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.down(F.gelu(self.up(x)))) * self.scale


def same(actual: Any, expected: Any) -> None:
    """Values, dtypes, shapes, and the strides that mean something."""
    torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5, equal_nan=True)
    for a, e in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        strides = [[s for n, s in zip(t.shape, t.stride(), strict=True) if n > 1] for t in (a, e)]
        assert strides[0] == strides[1] or not a.numel()


def test_the_backend_is_found_by_name() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    same(torch.compile(model, backend="ferrule")(x), model(x))
    assert counters()["kernels"] > 0
    assert not fallbacks()


def test_inference_mode() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = compiled(model)
    with torch.inference_mode():
        same(run(x), model(x))
        assert run(x).is_inference()


# ---- parameters ----------------------------------------------------------------------------------


def test_changed_parameters_are_seen() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = compiled(model)
    run(x)
    changes = (
        lambda: model.up.weight.mul_(2),
        lambda: model.down.weight.data.copy_(torch.randn(4, 16)),
        lambda: setattr(model.up, "bias", torch.nn.Parameter(torch.randn(16))),
        lambda: setattr(model.norm.weight, "data", torch.rand(4)),
        lambda: model.load_state_dict(Mlp().state_dict()),
        lambda: model.scale.zero_(),
    )
    for change in changes:
        change()
        same(run(x), model(x))
    assert counters()["compilations"] + counters()["cache_hits"] == 1


def test_parameters_in_any_layout() -> None:
    w = torch.nn.Parameter(torch.randn(8, 4).t())

    def f(x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, w)

    x, run = torch.randn(3, 8), compiled(f)
    same(run(x), f(x))
    w.mul_(3)
    same(run(x), f(x))


# ---- inputs and outputs --------------------------------------------------------------------------


def test_inputs_of_any_layout() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + y

    run, base = compiled(f, dynamic=False), torch.randn(2, 3, 4, 5)
    image = base.to(memory_format=torch.channels_last)
    for x, y in (
        (base.mT[..., :1].mT, base),
        (image, image),
        (base[:, ::2, 1:], base[0, :2, 1:]),
        (base, torch.tensor(2.0).expand(5)),
    ):
        same(run(x, y), f(x, y))


def test_results_keep_eagers_strides() -> None:
    def f(x: torch.Tensor) -> Any:
        y = x.t() + 1
        return y, y.t(), y[0]

    x = torch.randn(3, 4)
    for actual, expected in zip(compiled(f)(x), f(x), strict=True):
        same(actual, expected)


def test_results_that_alias() -> None:
    def f(x: torch.Tensor) -> Any:
        y = x * 2
        return y, y.view(-1), x, x[0], y

    x = torch.randn(3, 4)
    a, b, c, d, e = compiled(f)(x)
    same((a, b, c, d, e), f(x))
    assert c is x
    assert a is e
    assert d.data_ptr() == x.data_ptr()
    assert b.data_ptr() == a.data_ptr()


def test_results_that_are_no_tensors() -> None:
    def f(x: torch.Tensor) -> Any:
        return {"y": x + 1, "none": None, "three": 3, "rank": x.ndim, "list": [x.sum(), x]}

    x = torch.randn(3)
    actual, expected = compiled(f)(x), f(x)
    assert actual["none"] is None
    assert (actual["three"], actual["rank"]) == (3, 1)
    same(actual["y"], expected["y"])
    same(actual["list"], expected["list"])


def test_inputs_that_are_written() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        y[0] = x.sum()
        return x * 2

    x, y = torch.randn(4), torch.randn(3)
    x2, y2 = x.clone(), y.clone()
    same(compiled(f)(x, y), f(x2, y2))
    same((x, y), (x2, y2))


def test_buffers_that_are_written() -> None:
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(2))
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += x.sum(0)
            return self.linear(x) + self.seen

    model, x = Counter(), torch.randn(3, 2)
    twin = copy.deepcopy(model)
    run = compiled(model)
    for _ in range(3):
        same(run(x), twin(x))
    same(model.seen, twin.seen)


def test_arguments_that_share_memory() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        return x + y

    a, b = torch.randn(6), None
    b = a.clone()
    same(compiled(f)(a[:4], a[2:]), f(b[:4], b[2:]))
    same(a, b)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (1, 1)])
def test_scalars_and_empty_tensors(shape: tuple[int, ...]) -> None:
    def f(x: torch.Tensor) -> Any:
        return x + 1, x.sum(), x.reshape(-1), torch.cat([x.reshape(-1), x.reshape(-1)])

    x = torch.randn(shape)
    same(list(compiled(f)(x)), list(f(x)))


def test_views_with_a_negative_sign_bit() -> None:
    x = torch.randn(4, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    same(compiled(lambda x: x + 1)(x), x + 1)


def test_large_results_share_no_memory_while_they_live() -> None:
    run, x = compiled(lambda x: x + 1), torch.zeros(1 << 19)
    first = run(x)
    tail = first[5:]
    address = first.data_ptr()
    del first
    second = run(x + 1)
    assert second.data_ptr() != address
    assert float(tail.max()) == 1.0
    del tail
    third = run(x + 2)
    assert third.data_ptr() == address
    assert float(second.min()) == 2.0
    assert float(third.min()) == 3.0


# ---- sizes ---------------------------------------------------------------------------------------


def test_one_compilation_serves_all_sizes() -> None:
    model = Mlp()
    run = compiled(model, dynamic=True)
    for n in (5, 2, 33, 7):
        x = torch.randn(n, 8)
        same(run(x), model(x))
    assert counters()["compilations"] + counters()["cache_hits"] == 1


def test_marked_sizes() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        b, n = x.shape
        return x.softmax(-1).reshape(b * n)[: n // 2] + torch.arange(n // 2) * b

    run = compiled(f)
    for shape in ((4, 6), (3, 8), (9, 7)):
        x = torch.randn(shape)
        torch._dynamo.mark_dynamic(x, 0)
        torch._dynamo.mark_dynamic(x, 1)
        same(run(x), f(x))
    assert counters()["compilations"] + counters()["cache_hits"] == 1


def test_integers_that_vary() -> None:
    def f(x: torch.Tensor, n: int) -> torch.Tensor:
        return x * n + n // 2 - n % 3

    run, x = compiled(f, dynamic=True), torch.randn(5)
    for n in (7, 100, -5, 3, -1000):
        same(run(x, n), f(x, n))
    assert counters()["compilations"] + counters()["cache_hits"] <= 2
    assert not fallbacks()


def test_floats_that_vary() -> None:
    def f(x: torch.Tensor, a: float) -> torch.Tensor:
        return x * a + x.shape[0] ** 0.5

    run = compiled(f, dynamic=True)
    for n, a in ((5, 0.5), (6, 1.5), (9, -2.0)):
        x = torch.randn(n)
        same(run(x, a), f(x, a))
    assert not fallbacks()


def test_slices_with_symbolic_ends() -> None:
    def f(x: torch.Tensor, n: int) -> Any:
        return x[:n] + 1, x[n:] + 1, x[-n:] + 1, x.narrow(0, 1, n) + 1

    run = compiled(f, dynamic=True)
    for size, n in ((9, 3), (8, 5), (30, 4)):
        x = torch.randn(size)
        same(list(run(x, n)), list(f(x, n)))


@pytest.mark.parametrize(
    "cut",
    [
        lambda x, k: x[:k],
        lambda x, k: x[k:],
        lambda x, k: x[-k:],
        lambda x, k: x[k : 2 * k : 2],
        lambda x, k: x[x.shape[0] // 2 - k :],
        lambda x, k: x[k],
        lambda x, k: x.narrow(0, k, 2),
        lambda x, k: x.unfold(0, k, 2) if k > 0 else x,
        lambda x, k: torch.slice_scatter(x, -x[:k], 0, 0, k) if k >= 0 else x,
        lambda x, k: x[: x.shape[0] - 3] + x[3:],
    ],
)
def test_slices_out_of_range_are_eagers(cut: Any) -> None:
    """They clip where eager does, and fail where it does."""
    run = compiled(lambda x, k: cut(x, k) + 1, dynamic=True)
    for n, k in ((9, 3), (9, 4), (9, 12), (5, 4), (2, 3), (9, -2), (4, -7), (6, 5)):
        x = torch.randn(n)
        try:
            expected = cut(x, k) + 1
        except (IndexError, RuntimeError):
            with pytest.raises(Exception):  # noqa: B017
                run(x, k)
        else:
            same(run(x, k), expected)


def test_attention_with_heads_of_any_size() -> None:
    def f(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    run = compiled(f, dynamic=True)
    for size in (8, 5, 33):
        q, k, v = torch.randn(3, 2, 4, 6, size)
        same(run(q, k, v), f(q, k, v))
    assert counters()["compilations"] + counters()["cache_hits"] == 1
    assert not fallbacks()


# ---- what PyTorch runs ---------------------------------------------------------------------------


def test_an_operator_that_is_not_covered_runs_in_pytorch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x) @ x
        return torch.linalg.inv(y + 10 * torch.eye(4)).exp() + y

    x, run = torch.randn(4, 4), compiled(f)
    same(run(x), f(x))
    assert fallbacks() == {"aten.linalg_inv_ex.default", "aten._linalg_check_errors.default"}
    assert capsys.readouterr().err.count("linalg_inv") == 1
    same(run(x + 1), f(x + 1))


def test_sizes_that_depend_on_data() -> None:
    def f(x: torch.Tensor) -> Any:
        found = (x > 0).nonzero()
        return found * 2, x.sum() * int(x.argmax().item())

    x = torch.tensor([1.0, -2.0, 3.0, 0.0])
    same(list(compiled(f)(x)), list(f(x)))
    with torch._dynamo.config.patch(
        capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True
    ):
        torch._dynamo.reset()
        run = compiled(f)
        for y in (x, -x):
            same(list(run(y)), list(f(y)))


def test_dtypes_that_are_not_covered() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(torch.fft.fft(x * 2)).sum(-1) + 1

    x = torch.randn(8)
    same(compiled(f)(x), f(x))
    assert fallbacks()


def test_random_operators_follow_the_seed() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x + 1, 0.5) * torch.rand(4)

    x, run = torch.randn(4), compiled(f)
    run(x)
    torch.manual_seed(3)
    actual = run(x)
    torch.manual_seed(3)
    assert torch.equal(actual, run(x))
    assert not torch.equal(actual, run(x))


def test_control_flow_on_data() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x.sin() + 1, lambda x: x.cos() - 1, (x,))

    run = compiled(f)
    for x in (torch.ones(3), -torch.ones(3)):
        same(run(x), f(x))


def test_graph_breaks() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x.relu() + 1
        torch._dynamo.graph_break()
        return y.t() * 2 if y.sum() > 3 else y

    run = compiled(f)
    for x in (torch.ones(3, 2), -torch.ones(3, 2)):
        same(run(x), f(x))


def test_strict_refuses_to_fall_back() -> None:
    with config.override(strict=True), pytest.raises(Exception, match="linalg_inv"):
        compiled(torch.linalg.inv)(torch.eye(3))


def test_a_failing_compiler_leaves_the_graph_to_pytorch() -> None:
    from ferrule.frontend.torch.backend import make_backend

    def fails(graph: Any, options: Any = None) -> Any:
        raise KeyError("g2")

    left: list[str] = []
    x = torch.randn(3)
    backend = make_backend(lambda _: Compiler(fails, NumpyCallable, left.append))
    run = torch.compile(lambda x: x.sin() + 1, backend=backend)
    same(run(x), x.sin() + 1)
    assert set(left) == {"aten.sin.default", "aten.add.Tensor"}


# ---- training, options ---------------------------------------------------------------------------


def test_training_runs_in_eager_with_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = Mlp(), torch.randn(3, 8)
    twin, run = copy.deepcopy(model), compiled(model)
    with torch.enable_grad():
        for _ in range(2):
            run(x).sum().backward()
            twin(x).sum().backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    told = capsys.readouterr().err
    assert told.count("training") == 1
    assert "torch.no_grad()" in told
    same(run(x), model(x))
    assert counters()["kernels"] > 0


def test_grad_mode_without_parameters_is_inference() -> None:
    with torch.enable_grad():
        same(compiled(lambda x: x.sin() * 2)(torch.ones(3)), torch.ones(3).sin() * 2)
    assert counters()["kernels"] > 0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"mode": "max-autotune"}, "max-autotune"),
        ({"options": {"nonsense": 1}}, "nonsense"),
        ({"options": {"num_threads": "two"}}, "num_threads"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(Exception, match=name):
        compiled(torch.sin, **arguments)(torch.ones(2))
    assert counters()["compilations"] + counters()["cache_hits"] == 0


def test_options_are_settings() -> None:
    x = torch.randn(5)
    same(compiled(torch.sin, mode="default")(x), x.sin())
    torch._dynamo.reset()
    same(compiled(torch.sin, options={"num_threads": 1})(x), x.sin())


def test_autocast() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = compiled(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(run(x), model(x), rtol=3e-2, atol=3e-2)
