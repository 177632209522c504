"""ferrule.compile(module, inputs): the callable that it gives."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch.export import Dim
from torch.utils._pytree import tree_leaves, tree_structure

import ferrule
from ferrule.base.errors import InputTypeError
from tests.frontend.tools import fallbacks


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x)))


class Fn(torch.nn.Module):
    """A function as a module."""

    def __init__(self, fn: Any):
        super().__init__()
        self.fn = fn

    def forward(self, *args: Any) -> Any:
        return self.fn(*args)


def test_a_module() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,))
    torch.testing.assert_close(run(x), model(x))
    assert run.kernels > 0
    assert run.compile_seconds > 0
    assert run.explain()
    assert not fallbacks()


def test_an_exported_program() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(torch.export.export(model, (x,)), (x,))
    torch.testing.assert_close(run(x), model(x))


def test_a_call_in_grad_mode_gives_plain_tensors() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,))
    with torch.enable_grad():
        assert not run(x.requires_grad_()).requires_grad


def test_structures_of_arguments_and_results() -> None:
    def f(pair: Any, table: Any) -> Any:
        return {"sum": pair[0] + pair[1], "twice": (table["a"] * 2, None, table["a"])}

    a, b = torch.randn(3), torch.randn(3)
    run = ferrule.compile(Fn(f), ((a, b), {"a": a}))
    out = run((a, b), {"a": a})
    torch.testing.assert_close(out["sum"], a + b)
    torch.testing.assert_close(out["twice"][0], a * 2)
    assert out["twice"][1] is None
    assert out["twice"][2] is a
    with pytest.raises(ferrule.InputError, match="structure"):
        run((a, b))


def test_keys_come_in_any_order() -> None:
    a, b = torch.randn(3), torch.randn(3)
    run = ferrule.compile(Fn(lambda d: d["a"] - d["b"]), ({"a": a, "b": b},))
    torch.testing.assert_close(run({"b": b, "a": a}), a - b)


class Named(torch.nn.Module):
    """Takes arguments by name, of which some may be missing."""

    def forward(
        self, x: torch.Tensor, scale: Any = None, *, shift: Any, extra: Any = None
    ) -> dict[str, Any]:
        scaled = x if scale is None else x * scale
        return {"y": scaled - shift["by"], "extra": extra}


def test_arguments_by_name() -> None:
    x, shift = torch.randn(3), {"by": torch.randn(3)}
    kwargs = {"shift": shift, "extra": None, "scale": torch.randn(3)}
    run = ferrule.compile(Named(), (x,), example_kwargs=kwargs)
    for names in (["scale", "shift", "extra"], ["extra", "shift", "scale"]):
        out = run(x, **{name: kwargs[name] for name in names})
        torch.testing.assert_close(out["y"], x * kwargs["scale"] - shift["by"])
        assert out["extra"] is None
    with pytest.raises(ferrule.InputError, match="structure"):
        run(x, shift=shift)


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.mark.parametrize("rest", [None, 3, "text", True, ()])
def test_results_keep_their_structure(rest: Any) -> None:
    x = torch.randn(3)
    for f in (
        lambda x: Pair(x + 1, rest),
        lambda x: [rest, {"b": x * 2, "a": (x,)}],
        lambda x: rest,
    ):
        got, expected = ferrule.compile(Fn(f), (x,))(x), f(x)
        assert tree_structure(got) == tree_structure(expected)
        for a, b in zip(tree_leaves(got), tree_leaves(expected), strict=True):
            assert torch.equal(a, b) if isinstance(b, torch.Tensor) else a == b


def test_checks_in_order_of_effect() -> None:
    """Exported as tokens, which a call neither takes nor gives."""
    x = torch.randn(4, 4)
    positive = x @ x.t() + torch.eye(4)
    run = ferrule.compile(Fn(lambda x: torch.linalg.cholesky(x) * 2), (positive,))
    torch.testing.assert_close(run(positive), torch.linalg.cholesky(positive) * 2)
    with pytest.raises(torch.linalg.LinAlgError):
        run(-positive)


def test_sizes_that_vary_within_their_range() -> None:
    model, n = Mlp(), Dim("n", min=1, max=64)
    run = ferrule.compile(model, (torch.randn(3, 8),), dynamic_shapes=({0: n},))
    for size in (1, 2, 17, 64):
        x = torch.randn(size, 8)
        torch.testing.assert_close(run(x), model(x))
    for size in (0, 65):
        wanted = f"the argument x: axis 0 must be 1 to 64, got {size}"
        with pytest.raises(ferrule.InputError, match=wanted):
            run(torch.randn(size, 8))


def test_sizes_are_checked_where_a_part_runs_in_pytorch() -> None:
    n = Dim("n", min=2, max=8)
    f = Fn(lambda x, y: torch.special.bessel_j0(x).sum() + y.sum() * x.shape[0])
    shapes = (({0: n}, {0: 2 * n}),)
    run = ferrule.compile(f, (torch.randn(4), torch.randn(8)), dynamic_shapes=shapes)
    for size in (2, 8):
        x, y = torch.randn(size), torch.randn(2 * size)
        torch.testing.assert_close(run(x, y), f(x, y))
    with pytest.raises(ferrule.InputError, match="axis 0 must be 2 to 8, got 9"):
        run(torch.randn(9), torch.randn(18))
    with pytest.raises(ferrule.InputError, match="axis 0 must be 6, got 7"):
        run(torch.randn(3), torch.randn(7))
    with pytest.raises(ferrule.InputError, match="must have rank 1"):
        run(torch.randn(3, 1), torch.randn(6))


@pytest.mark.parametrize(
    ("cut", "right", "wrong"),
    [
        (lambda x, y: x + y[: x.shape[0]], [(4, 8), (8, 8)], [(9, 8)]),
        (lambda x, y: x[x.shape[0] - y.shape[0] :] + y, [(8, 4), (8, 6)], [(4, 8)]),
        (lambda x, y: x + 1 if x.shape[0] > y.shape[0] else x, [(9, 4), (6, 5)], [(4, 9), (4, 4)]),
        (lambda x, y: x.reshape(y.shape[0], -1), [(8, 4), (9, 3)], [(9, 4)]),
    ],
)
def test_what_tracing_found_out_about_sizes_is_checked(cut: Any, right: Any, wrong: Any) -> None:
    sizes = [({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC})]
    example = tuple(torch.randn(n) for n in right[0])
    run = ferrule.compile(Fn(cut), example, dynamic_shapes=tuple(sizes))
    for n, m in right:
        x, y = torch.randn(n), torch.randn(m)
        torch.testing.assert_close(run(x, y), cut(x, y))
    for n, m in wrong:
        with pytest.raises(ferrule.GuardError, match=f"(= {n}|= {m})"):
            run(torch.randn(n), torch.randn(m))


def test_an_index_that_is_data_is_checked() -> None:
    x = torch.randn(8)
    f = Fn(lambda x, i: x[i.item()] + 1)
    run = ferrule.compile(f, (x, torch.tensor(3)))
    for i in (0, 7, -1, -8):
        torch.testing.assert_close(run(x, torch.tensor(i)), f(x, torch.tensor(i)))
    for i in (8, -9, 1 << 39):
        with pytest.raises((ferrule.FerruleError, IndexError, RuntimeError)):
            run(x, torch.tensor(i))


def test_a_size_that_only_an_unused_argument_has() -> None:
    x, y = torch.randn(4), torch.randn(3)
    run = ferrule.compile(Fn(lambda x, y: y * x.shape[0]), (x, y))
    torch.testing.assert_close(run(x, y), y * 4)
    with pytest.raises(ferrule.InputError, match="axis 0 must be 4, got 5"):
        run(torch.randn(5), y)


def test_a_later_segment_that_sees_a_multiple_of_a_size() -> None:
    f = Fn(lambda x: torch.special.bessel_j0(torch.cat([x, x])) + 1)
    run = ferrule.compile(f, (torch.randn(4),), dynamic_shapes=(({0: Dim("n")},),))
    x = torch.randn(5)
    torch.testing.assert_close(run(x), f(x))


def test_equal_sizes_have_to_stay_equal() -> None:
    n = Dim("n")
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    run = ferrule.compile(Fn(torch.add), (x, y), dynamic_shapes=(({0: n}, {0: n}),))
    torch.testing.assert_close(run(x[:2], y[:2]), x[:2] + y[:2])
    with pytest.raises(ferrule.InputError):
        run(x, y[:2])


def test_inputs_are_read_as_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels-last images and transposed matrices are not copied, and results lie as eager's."""
    image = torch.randn(2, 8, 6, 10).to(memory_format=torch.channels_last)
    cases = {
        "pointwise": (lambda x: torch.relu(x) * 2, image),
        "norm": (lambda x: x - x.mean((2, 3), keepdim=True), image),
        "convolution": (torch.nn.Conv2d(8, 16, 3, padding=1).eval(), image),
        "matrix": (lambda x: x.softmax(-1), torch.randn(9, 17).T),
        "permuted": (lambda x: x.cumsum(1), torch.randn(3, 4, 5).permute(2, 0, 1)),
    }

    def copy(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("an input is copied")

    for name, (fn, x) in cases.items():
        f = ferrule.compile(Fn(fn), (x,))
        want = fn(x)
        f(x.clone())  # binds parameters
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "contiguous", copy)
            first, again = f(x), f(x.clone())
        torch.testing.assert_close(first, want, msg=name)
        torch.testing.assert_close(again, want, msg=name)
        assert first.stride() == want.stride(), name
        torch.testing.assert_close(f(x.contiguous()), want, msg=name)
    f = ferrule.compile(Fn(lambda x: x + 1), (image,))
    with pytest.raises(ferrule.InputError, match=r"axis 1 must be 8, got 7"):
        f(image[:, :7])
    with pytest.raises(ferrule.InputError, match="rank 4"):
        f(image[0])


def test_sizes_that_vary_of_images_as_they_lie() -> None:
    def image(n: int, h: int) -> torch.Tensor:
        return torch.randn(n, 8, h, 10).to(memory_format=torch.channels_last)

    n, h = Dim("n", min=1, max=64), Dim("h", min=4, max=64)
    module = Fn(lambda x: F.avg_pool2d(x, 2) + x.shape[2])
    f = ferrule.compile(module, (image(2, 6),), dynamic_shapes=(({0: n, 2: h},),))
    for x in (image(2, 6), image(3, 8), image(1, 30), image(3, 8).contiguous(), image(2, 6)):
        torch.testing.assert_close(f(x), module(x))


def test_inputs_unlike_those_of_the_call_before() -> None:
    """Each call's own sizes, layout, sign and mode count, whatever the one before had."""
    n = Dim("n", min=2, max=64)
    module = Fn(lambda x, y: x * 2 - y)

    def square(n: int = 8) -> torch.Tensor:
        return torch.randn(n, 8)

    x, y = square(), square()
    f = ferrule.compile(module, (x, y), dynamic_shapes=(({0: n}, {0: n}),))
    pairs = [
        (x, y), (square(), square()), (square().T, y), (x, y), (x, square().T), (x, x),
        (square(5), square(5)), (torch._neg_view(x), y), (x, y), (x[:, :1].expand(8, 8), y),
        (torch.nn.Parameter(x), y), (x.clone().requires_grad_(), y), (x, y),
    ]  # fmt: skip
    for given in (*pairs, *pairs):
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                torch.testing.assert_close(f(*given), module(*given))
    for wrong in ((x.double(), y), (x, y.to_sparse()), (x, y[:, :7]), (x, square(9))):
        with pytest.raises(ferrule.InputError):
            f(*wrong)
        torch.testing.assert_close(f(x, y), module(x, y))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.randn(3, 8).double(),
        torch.randn(3, 9),
        torch.randn(8),
        torch.randn(4, 8),
        [[1.0] * 8] * 3,
        torch.empty(3, 8, device="meta"),
    ],
    ids=["dtype", "size", "rank", "static size", "a list", "device"],
)
def test_wrong_arguments_are_refused(wrong: Any) -> None:
    run = ferrule.compile(Mlp(), (torch.randn(3, 8),))
    with pytest.raises(ferrule.InputError):
        run(wrong)


@pytest.mark.parametrize(
    ("value", "others"),
    [(3, (4, 3.0, True, None, torch.ones(3))), (None, (3, torch.ones(3))), ("a", ("b", None))],
)
def test_what_is_no_tensor_is_a_constant(value: Any, others: tuple[Any, ...]) -> None:
    x = torch.randn(3)
    run = ferrule.compile(Fn(lambda x, n: x * (n if isinstance(n, int) else 2)), (x, value))
    torch.testing.assert_close(run(x, value), x * (3 if value == 3 else 2))
    for other in others:
        with pytest.raises(ferrule.InputError, match="compile it again"):
            run(x, other)


def test_integers_that_vary() -> None:
    f, x = Fn(lambda x, k: x * k + torch.arange(k)[:1]), torch.randn(3)
    run = ferrule.compile(f, (x, 3), dynamic_shapes=((None, Dim.DYNAMIC),))
    for k in (2, 9):
        torch.testing.assert_close(run(x, k), f(x, k))
    for k in (1, -3):
        with pytest.raises(ferrule.InputError, match=f"must be at least 2, got {k}"):
            run(x, k)
    with pytest.raises(InputTypeError, match="must be an int, not float"):
        run(x, 2.0)


def test_state_that_is_written() -> None:
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.add_(x)
            return self.seen * 2

    model, x = Counter(), torch.ones(2)
    run = ferrule.compile(model, (x,))
    for n in (1, 2, 3):
        torch.testing.assert_close(run(x), torch.full((2,), 2.0 * n))


def test_arguments_that_are_written() -> None:
    x, y = torch.ones(3), torch.randn(3)
    run = ferrule.compile(Fn(lambda x, y: x.add_(y) * 2), (x, y))
    out = run(x, y)
    torch.testing.assert_close(x, 1 + y)
    torch.testing.assert_close(out, 2 * (1 + y))


def test_parameters_are_the_modules_own() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,))
    run(x)
    model.up.weight.mul_(2)
    torch.testing.assert_close(run(x), model(x))
    model.down.bias.data.add_(1)
    torch.testing.assert_close(run(x), model(x))


def test_results_that_are_views_share_memory() -> None:
    x = torch.randn(3, 4)
    run = ferrule.compile(Fn(lambda x: (x.t(), x + 1)), (x,))
    turned, _ = run(x)
    assert turned.data_ptr() == x.data_ptr()
    assert turned.stride() == (1, 4)


def test_fallbacks_run_in_pytorch() -> None:
    x = torch.randn(4, 4) + 5 * torch.eye(4)
    f = Fn(lambda x: torch.linalg.cholesky_ex(x @ x.t())[0].exp().sum(0))
    run = ferrule.compile(f, (x,))
    torch.testing.assert_close(run(x), f(x))
    assert any("cholesky" in name for name in fallbacks())
    (line,) = (x for x in run.explain().splitlines() if x.startswith("in PyTorch"))
    assert line == "in PyTorch: aten.linalg_cholesky_ex.default"


def test_many_threads_at_once() -> None:
    run = ferrule.compile(Fn(lambda x: (x * 2).cumsum(0)), (torch.zeros(1 << 18),))
    wrong: list[int] = []

    def call(i: int) -> None:
        for _ in range(5):
            out = run(torch.full((1 << 18,), float(i)))
            if out[3].item() != 8.0 * i:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_what_is_decomposed_beyond_the_core() -> None:
    inputs = (torch.randn(2, 3, 5, 6), torch.rand(2, 4, 4, 2) * 2.2 - 1.1, torch.randn(2, 3, 5, 6))

    def fn(x: Any, grid: Any, y: Any) -> Any:
        sampled = F.grid_sample(x, grid, align_corners=False)
        return sampled, torch.dist(x, y), torch.narrow_copy(x, 2, 1, 2)

    before = fallbacks()
    results = ferrule.compile(Fn(fn), inputs)(*inputs)
    assert fallbacks() == before
    for actual, expected in zip(results, fn(*inputs), strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_program_that_was_saved(tmp_path: Any) -> None:
    program = torch.export.export(
        Mlp(), (torch.randn(3, 8),), dynamic_shapes=({0: Dim("n", min=0, max=64)},)
    )
    torch.export.save(program, tmp_path / "mlp.pt2")
    run = ferrule.compile(torch.export.load(tmp_path / "mlp.pt2"))
    for size in (1, 2, 64):
        x = torch.randn(size, 8)
        torch.testing.assert_close(run(x), program.module()(x))
    with pytest.raises(ferrule.InputError, match="axis 0 must be 0 to 64, got 65"):
        run(torch.randn(65, 8))


def test_parameters_of_another_dtype_or_shape_are_refused() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,))
    run(x)
    model.double()
    with pytest.raises(ferrule.InputError, match=r"float32.*is of torch.float64.*again"):
        run(x)
    model.float()
    torch.testing.assert_close(run(x), model(x))
    model.up.bias.data = torch.zeros(4)
    with pytest.raises(ferrule.InputError, match=r"\[16\] when it was compiled"):
        run(x)


def test_what_is_replaced_is_seen() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,))
    shallow = copy.copy(run)
    replacements: list[Callable[[], Any]] = [
        lambda: setattr(model.up, "weight", torch.nn.Parameter(torch.randn(16, 8))),
        lambda: setattr(model, "down", torch.nn.Linear(16, 4)),
        lambda: setattr(model.down, "bias", torch.nn.Parameter(torch.randn(4))),
        lambda: model.load_state_dict(Mlp().state_dict(), assign=True),
    ]
    for replace in replacements:
        replace()
        for compiled in (run, shallow, copy.deepcopy(run)):
            torch.testing.assert_close(compiled(x), model(x))
    model.up = torch.nn.Linear(8, 16, bias=False)
    for _ in range(2):
        with pytest.raises(ferrule.InputError, match="the layer 'up' was replaced"):
            run(x)


def test_tied_parameters_that_come_apart_are_refused() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    model.down = torch.nn.Linear(16, 8)
    model.down.weight = torch.nn.Parameter(torch.randn(8, 16))
    twice = torch.nn.Sequential(model.up, model.down, model.up)
    run = ferrule.compile(twice, (x,))
    twice[0].weight = torch.nn.Parameter(torch.randn(16, 8))
    torch.testing.assert_close(run(x), twice(x))
    twice[2] = torch.nn.Linear(8, 16)
    with pytest.raises(ferrule.InputError, match="one tensor are two"):
        run(x)
