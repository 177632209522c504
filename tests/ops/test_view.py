"""Views: against NumPy and PyTorch, and that their index maps come out simple."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i32
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Expr, dim, load
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.lower.equations import equations

Check = Callable[..., list[np.ndarray[Any, Any]]]
B, S = dim("B"), dim("S")
PADDED = "select(0 <= b - 2, x[a, b - 2], 0.0)"
X = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)


def index_map(shape: Sequence[Expr | int], build: Callable[..., Value]) -> str:
    """The element of the operand `x`, of `shape`, that a view's result holds at [a, b, ..]."""
    b = GraphBuilder()
    graph = b.build((build(b, b.input(tensor(shape, f32), "x")),))
    *_, st = equations(graph).stages
    text = str(st.compute.values[0])
    for name, axis in zip("abcdefgh", st.compute.axes):
        text = text.replace(axis.name, name)
    return text


# ---- reshape -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((B, S, 768), (B, S, 12, 64), "x[a, b, c * 64 + d]"),
        ((B, S, 12, 64), (B, S, 768), "x[a, b, c // 64, c % 64]"),
        ((B, S, 12, 64), (B * S, 768), "x[a // S, a % S, b // 64, b % 64]"),
        ((B * S, 768), (B, S, 768), "x[S * a + b, c]"),
        ((B, 1, S), (B, S), "x[a, 0, b]"),
        ((B, S), (1, B, 1, S, 1), "x[b, d]"),
        ((2, 3, 4), (6, 4), "x[a // 3, a % 3, b]"),
        ((6, 4), (2, 3, 4), "x[a * 3 + b, c]"),
        ((1, 1), (), "x[0, 0]"),
    ],
)
def test_reshape_leaves_bare_axes_bare(old: Any, new: Any, expected: str) -> None:
    assert index_map(old, lambda b, x: ops.reshape(b, x, new)) == expected


@pytest.mark.parametrize("new", [(6, 20), (120,), (2, 3, 2, 2, 5), (5, 4, 3, 2), (1, 120, 1)])
def test_reshape(new: Any, check: Check) -> None:
    (out,) = check(lambda b, x: ops.reshape(b, x, new), X, symbolic=False)
    np.testing.assert_array_equal(out, X.reshape(new))


# ---- the others, against NumPy -------------------------------------------------------------------

CASES: dict[str, tuple[Callable[..., Value], Callable[[Any], Any]]] = {
    "transpose": (
        lambda b, x: ops.transpose(b, x, (2, 0, -1, 1)), lambda x: x.transpose(2, 0, 3, 1),
    ),
    "expand": (
        lambda b, x: ops.expand(b, ops.unsqueeze(b, x, 0), (6, *x.shape)),
        lambda x: np.broadcast_to(x, (6, *x.shape)),
    ),
    "unsqueeze": (lambda b, x: ops.unsqueeze(b, x, -2), lambda x: x[:, :, :, None]),
    "squeeze": (
        lambda b, x: ops.squeeze(b, ops.slice_axis(b, x, 1, 2, 3), (1, 2)), lambda x: x[:, 2],
    ),
    "slice": (
        lambda b, x: ops.slice(b, x, (0, 1, 0, 1), (2, 3, 4, 5), (1, 1, 3, 2)),
        lambda x: x[:, 1:3, 0:4:3, 1:5:2],
    ),
    "select_index": (lambda b, x: ops.select_index(b, x, 1, 2), lambda x: x[:, 2]),
    "reverse": (lambda b, x: ops.reverse(b, x, (0, -1)), lambda x: x[::-1, :, :, ::-1]),
    "roll": (
        lambda b, x: ops.roll(b, x, (1, -2), (1, 3)), lambda x: np.roll(x, (1, -2), (1, 3)),
    ),
    "tile": (
        lambda b, x: ops.tile(b, x, (2, 1, 1, 3, 1)), lambda x: np.tile(x, (2, 1, 1, 3, 1)),
    ),
    "diagonal": (
        lambda b, x: ops.diagonal(b, x, 0, 2, 3), lambda x: np.diagonal(x, 0, 2, 3),
    ),
    "diagonal above": (
        lambda b, x: ops.diagonal(b, x, 2, 2, 3), lambda x: np.diagonal(x, 2, 2, 3),
    ),
    "diagonal below": (
        lambda b, x: ops.diagonal(b, x, -1, 1, 0), lambda x: np.diagonal(x, -1, 1, 0),
    ),
    "concat": (
        lambda b, x: ops.concat(b, (x, ops.slice_axis(b, x, 2, 1, 3), x), 2),
        lambda x: np.concatenate((x, x[:, :, 1:3], x), 2),
    ),
    "stack": (
        lambda b, x: ops.stack(b, (x, ops.neg(b, x)), -1), lambda x: np.stack((x, -x), -1),
    ),
    "tril": (lambda b, x: ops.tril(b, x, 1), lambda x: np.tril(x, 1)),
    "triu": (lambda b, x: ops.triu(b, x, -1), lambda x: np.triu(x, -1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_views_are_numpys(name: str, check: Check) -> None:
    build, meaning = CASES[name]
    (out,) = check(build, X)
    np.testing.assert_array_equal(out, meaning(X))


def test_split(check: Check) -> None:
    outs = check(lambda b, x: ops.split(b, x, (1, 3), 2), X, symbolic=False)
    for ours, theirs in zip(outs, np.split(X, (1,), 2), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.float16])
def test_views_keep_the_dtype(dtype: Any, check: Check) -> None:
    x = X.astype(dtype)
    outs = check(lambda b, x: (ops.tril(b, x), ops.pad(b, x, (0,) * 4, (1,) * 4)), x)
    np.testing.assert_array_equal(outs[0], np.tril(x))


@pytest.mark.parametrize(
    ("shape", "build", "expected"),
    [
        ((B, 12, S, 64), lambda b, x: ops.transpose(b, x, (0, 2, 1, 3)), "x[a, c, b, d]"),
        ((B, 1, S), lambda b, x: ops.expand(b, x, (B, 8, S)), "x[a, 0, c]"),
        ((B, S), lambda b, x: ops.slice_axis(b, x, 1, 0, 1), "x[a, b]"),
        ((B, S), lambda b, x: ops.pad(b, x, (0, 2), (0, 0)), PADDED),
        ((B, S), lambda b, x: ops.pad(b, x, (0, 0), (0, 2)), "select(b < S, x[a, b], 0.0)"),
        ((B, S), lambda b, x: ops.pad(b, x, (0, -1), (0, 0)), "x[a, b + 1]"),
        ((B, S), lambda b, x: ops.tril(b, x), "select(b <= a, x[a, b], 0.0)"),
    ],
)
def test_index_maps_are_simple(shape: Any, build: Any, expected: str) -> None:
    assert index_map(shape, build) == expected


def test_what_changes_nothing_emits_nothing() -> None:
    b = GraphBuilder()
    x = b.input(tensor((B, S, 4), f32))
    assert ops.reshape(b, x, (B, S, 4)) is x
    assert ops.transpose(b, x, (0, 1, 2)) is x
    assert ops.expand(b, x, (B, S, 4)) is x
    assert ops.slice(b, x, (0, 0, 0), (B, S, 4)) is x
    assert ops.concat(b, (x,), 0) is x
    assert b.nodes == []


@pytest.mark.parametrize("dims", [(0, 2), (2, 0), (1, 2)])
def test_broadcast_in_dim(dims: Any, check: Check) -> None:
    x = X[0, 0, :3, :3]
    shape = (3, 3, 3)
    (out,) = check(lambda b, x: ops.broadcast_in_dim(b, x, shape, dims), x, symbolic=False)
    for p in np.ndindex(*shape):
        assert out[p] == x[p[dims[0]], p[dims[1]]]
    (wide,) = check(lambda b, x: ops.broadcast_in_dim(b, x, (2, 4), (1,)), X[0, 0, 0, :1])
    assert (wide == X[0, 0, 0, 0]).all()


# ---- padding -------------------------------------------------------------------------------------

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", ["constant", *MODES])
@pytest.mark.parametrize(("low", "high"), [((1, 2), (2, 0)), ((0, 3), (3, 3)), ((0, 0), (0, 1))])
def test_pad(mode: str, low: Any, high: Any, check: Check) -> None:
    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    (out,) = check(lambda b, x: ops.pad(b, x, low, high, 7.0, mode), x)
    kind: Any = MODES.get(mode, "constant")
    more = {"constant_values": 7.0} if mode == "constant" else {}
    np.testing.assert_array_equal(out, np.pad(x, tuple(zip(low, high)), mode=kind, **more))


INTERIORS = [
    ((0, 0), (0, 0), (1, 2)), ((1, -1), (2, -2), (1, 3)), ((-3, 0), (-2, 4), (2, 0)),
    ((-20, 1), (30, 0), (1, 1)), ((5, 0), (-12, 0), (2, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high", "interior"), INTERIORS)
def test_padding_between_elements(low: Any, high: Any, interior: Any, compiled: Check) -> None:
    x, value = X[0, 0], np.array(7.0, np.float32)
    (out,) = compiled(lambda b, x, v: ops.pad(b, x, low, high, v, interior=interior), x, value)
    apart = np.full([(n - 1) * (k + 1) + 1 for n, k in zip(x.shape, interior)], 7.0)
    apart[tuple(slice(None, None, k + 1) for k in interior)] = x
    around = np.pad(apart, 40, constant_values=7.0)
    cut = (slice(40 - lo, 40 + n + hi) for lo, hi, n in zip(low, high, apart.shape))
    np.testing.assert_array_equal(out, around[tuple(cut)])


def test_padding_between_no_elements(check: Check) -> None:
    (out,) = check(
        lambda b, x: ops.pad(b, x, (1,), (2,), 7.0, interior=(3,)), np.zeros(0, np.float32)
    )
    np.testing.assert_array_equal(out, [7, 7, 7])


def test_a_value_that_is_a_number_is_an_attribute() -> None:
    b = GraphBuilder()
    x = b.input(tensor((3,), f32))
    ops.pad(b, x, (1,), (0,), ops.scalar(b, 2.0, f32))
    assert b.nodes[-1].inputs == (x,)
    assert b.nodes[-1].attributes["value"] == 2.0


@pytest.mark.parametrize("mode", ["constant", *MODES])
def test_negative_padding_crops(mode: str, check: Check) -> None:
    torch = pytest.importorskip("torch")
    x = np.arange(20, dtype=np.float32).reshape(1, 4, 5)
    (out,) = check(lambda b, x: ops.pad(b, x, (0, 0, -1), (0, 0, 2), mode=mode), x)
    theirs = torch.nn.functional.pad(torch.from_numpy(x), (-1, 2), mode=mode)
    np.testing.assert_array_equal(out, theirs.numpy())


@pytest.mark.parametrize(("low", "high"), [(-5, 6), (6, -5)])
def test_the_nearest_element_may_be_one_that_is_cropped(low: int, high: int, check: Check) -> None:
    torch = pytest.importorskip("torch")
    x = np.arange(20, dtype=np.float32).reshape(1, 4, 5)
    (out,) = check(lambda b, x: ops.pad(b, x, (0, 0, low), (0, 0, high), mode="replicate"), x)
    theirs = torch.nn.functional.pad(torch.from_numpy(x), (low, high), mode="replicate")
    np.testing.assert_array_equal(out, theirs.numpy())


# ---- against PyTorch -----------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "size", "step"), [(2, 2, 1), (-1, 3, 2), (0, 2, 1), (3, 5, 4)])
def test_unfold_is_torchs(axis: int, size: int, step: int, check: Check) -> None:
    torch = pytest.importorskip("torch")
    (out,) = check(lambda b, x: ops.unfold(b, x, axis, size, step), X)
    np.testing.assert_array_equal(out, torch.from_numpy(X).unfold(axis, size, step).numpy())


def test_pixel_shuffles_are_torchs(check: Check) -> None:
    torch = pytest.importorskip("torch")
    x = np.arange(2 * 8 * 4 * 6, dtype=np.float32).reshape(2, 8, 4, 6)
    wide, narrow = check(
        lambda b, x: (ops.pixel_shuffle(b, x, 2), ops.pixel_unshuffle(b, x, 2)), x, symbolic=False
    )
    t = torch.from_numpy(x)
    np.testing.assert_array_equal(wide, torch.nn.functional.pixel_shuffle(t, 2).numpy())
    np.testing.assert_array_equal(narrow, torch.nn.functional.pixel_unshuffle(t, 2).numpy())


# ---- errors --------------------------------------------------------------------------------------

WRONG: list[tuple[str, Callable[..., Any]]] = [
    ("12 elements are not 15", lambda b, x, i: ops.reshape(b, x, (3, 5))),
    ("each of 2 axes once", lambda b, x, i: ops.transpose(b, x, (0, 0))),
    ("axis 2 is out of range", lambda b, x, i: ops.transpose(b, x, (0, 2))),
    ("does not expand", lambda b, x, i: ops.expand(b, x, (4, 4))),
    ("does not expand", lambda b, x, i: ops.expand(b, x, (4,))),
    ("one dtype", lambda b, x, i: ops.concat(b, (x, i), 0)),
    ("the other sizes differ", lambda b, x, i: ops.concat(b, (x, ops.reshape(b, x, (4, 3))), 0)),
    ("none of constant", lambda b, x, i: ops.pad(b, x, (0, 0), (0, 0), mode="mirror")),
    ("0 to 5 is not within axis 1", lambda b, x, i: ops.slice_axis(b, x, 1, 0, 5)),
    ("2 to 1 is not within axis 0", lambda b, x, i: ops.slice_axis(b, x, 0, 2, 1)),
    ("-1 to 0 is not within axis 0", lambda b, x, i: ops.slice_axis(b, x, 0, -1, 0)),
    ("for each of its axes", lambda b, x, i: ops.slice(b, x, (0,), (1,))),
    ("axis -3 is out of range", lambda b, x, i: ops.slice_axis(b, x, -3, 0, 1)),
]


@pytest.mark.parametrize(("message", "build"), WRONG)
def test_what_does_not_fit_is_an_error(message: str, build: Callable[..., Any]) -> None:
    b = GraphBuilder()
    x, i = (b.input(tensor((3, 4), t)) for t in (f32, i32))
    with pytest.raises(CompileError, match=message):
        build(b, x, i)


def test_a_view_is_one_pointwise_stage() -> None:
    b = GraphBuilder()
    graph = b.build((ops.transpose(b, b.input(tensor((B, S), f32)), (1, 0)),))
    (stage,) = equations(graph).stages
    (axes,) = (stage.compute.axes,)
    assert stage.is_pointwise
    assert stage.compute.values == (load(equations(graph).inputs[0], axes[1], axes[0]),)
