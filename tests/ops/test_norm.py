"""Softmax and the normalisations against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import bf16, f16, f32, i32, to_storage
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.lower.equations import equations

torch = pytest.importorskip("torch")
F = torch.nn.functional
Array = np.ndarray[Any, Any]
Check = Callable[..., list[Array]]
RNG = np.random.default_rng(5)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def same(ours: Array, theirs: Any, rtol: float = 1e-5) -> None:
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours, theirs.double().numpy(), rtol=rtol, atol=2e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_is_torchs(name: str, axis: int, check: Check) -> None:
    x = floats(2, 3, 5) * 10
    (out,) = check(lambda b, x: getattr(ops, name)(b, x, axis), x, rtol=1e-5)
    same(out, getattr(torch, name)(torch.from_numpy(x), axis))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_masked_rows_are_torchs(name: str, check: Check) -> None:
    inf = float("inf")
    x = np.array([[-inf, -inf], [-inf, 3], [1000, 999], [inf, 1], [np.nan, 1]], np.float32)
    (out,) = check(lambda b, x: getattr(ops, name)(b, x, 1), x)
    same(out, getattr(torch, name)(torch.from_numpy(x), 1))


def test_softmax_divides_once_a_row() -> None:
    b = GraphBuilder()
    x = b.input(tensor([4, 8], f32))
    stages = equations(b.build((ops.softmax(b, x),))).stages
    assert [len(s.compute.all_axes) for s in stages] == [2, 2, 2, 1, 2]
    axes = [a for s in stages for a in s.compute.all_axes]
    assert len(set(axes)) == len(axes)


@pytest.mark.parametrize("affine", ["", "w", "wb"])
@pytest.mark.parametrize("axes", [1, 2])
def test_layer_norm_is_torchs(affine: str, axes: int, check: Check) -> None:
    x = floats(2, 3, 5) * 3 + 10
    shape = x.shape[-axes:]
    operands = [floats(*shape) for _ in affine]

    def build(b: Any, x: Any, *wb: Any) -> Any:
        weight, bias = (*wb, None, None)[:2]
        return ops.layer_norm(b, x, weight, bias, axes, 1e-5)

    (out,) = check(build, x, *operands, rtol=1e-5, atol=1e-6)
    same(out, F.layer_norm(torch.from_numpy(x), shape, *map(torch.from_numpy, operands)), 1e-4)


def test_layer_norm_takes_a_bias_alone(check: Check) -> None:
    x, bias = floats(2, 4), floats(4)
    (out,) = check(lambda b, x, c: ops.layer_norm(b, x, None, c), x, bias, atol=1e-6)
    same(out, F.layer_norm(torch.from_numpy(x), (4,), None, torch.from_numpy(bias)), 1e-4)


def test_layer_norm_statistics_are_torchs(check: Check) -> None:
    x = floats(2, 3, 5)
    mean, rstd = check(lambda b, x: ops.layer_norm_stats(b, x, 2, 1e-5), x)
    _, m, r = torch.native_layer_norm(torch.from_numpy(x), (3, 5), None, None, 1e-5)
    same(mean, m)
    same(rstd, r)


HALVES = {"f16": (f16, torch.half, 2.0**-10), "bf16": (bf16, torch.bfloat16, 2.0**-7)}


@pytest.mark.parametrize("name", HALVES)
def test_half_floats_are_normalised_in_f32(name: str, check: Check) -> None:
    dtype, theirs, step = HALVES[name]
    x = to_storage(floats(3, 64) * 4, dtype)
    given = torch.from_numpy(x.view(np.int16)).view(theirs)
    (out,) = check(lambda b, x: ops.layer_norm(b, x), x, is_bf16=True, rtol=step)
    same(out, F.layer_norm(given, (64,)), rtol=2 * step)
    (out,) = check(lambda b, x: ops.softmax(b, x), x, is_bf16=True, rtol=step)
    same(out, torch.softmax(given, -1), rtol=2 * step)


@pytest.mark.parametrize("axes", [1, 2])
def test_rms_norm_is_torchs(axes: int, check: Check) -> None:
    x = floats(2, 3, 5)
    weight = floats(*x.shape[-axes:])
    (out,) = check(lambda b, x, w: ops.rms_norm(b, x, w, axes, 1e-6), x, weight)
    same(out, F.rms_norm(torch.from_numpy(x), weight.shape, torch.from_numpy(weight), 1e-6))


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("positions", [(), (3,), (2, 2)])
def test_group_norm_is_torchs(groups: int, positions: tuple[int, ...], check: Check) -> None:
    x, weight, bias = floats(2, 6, *positions), floats(6), floats(6)
    (out,) = check(
        lambda b, x, w, c: ops.group_norm(b, x, w, c, groups), x, weight, bias,
        symbolic=False, rtol=1e-5, atol=1e-5,
    )  # fmt: skip
    if positions or groups < 6:
        same(out, F.group_norm(*map(torch.from_numpy, (x,)), groups,
                               *map(torch.from_numpy, (weight, bias))), 1e-4)  # fmt: skip


def test_instance_norm_is_torchs(check: Check) -> None:
    x = floats(2, 3, 4, 4)
    (out,) = check(lambda b, x: ops.instance_norm(b, x), x, symbolic=False, atol=1e-6)
    same(out, F.instance_norm(torch.from_numpy(x)), 1e-4)


def test_batch_moments_are_torchs(check: Check) -> None:
    x = floats(2, 3, 4) + 10
    found = check(ops.batch_moments, x)
    theirs = torch.var_mean(torch.from_numpy(x), (0, 2), correction=0)
    for ours, right in zip(found, theirs, strict=True):
        same(ours, right, 1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_torchs(affine: bool, check: Check) -> None:
    x, mean, variance = floats(2, 3, 4), floats(3), np.abs(floats(3)) + 0.1
    wb = [floats(3), floats(3)] if affine else []
    (out,) = check(ops.batch_norm, x, mean, variance, *wb, rtol=1e-5, atol=1e-6)
    x, mean, variance, *given = map(torch.from_numpy, (x, mean, variance, *wb))
    same(out, F.batch_norm(x, mean, variance, *given), 1e-4)


def test_operands_that_do_not_fit_are_refused() -> None:
    b = GraphBuilder()
    x, w, n = (b.input(tensor(s, d)) for s, d in (([2, 6], f32), ([5], f32), ([2, 6], i32)))
    for build, message in (
        (lambda: ops.softmax(b, n), "is defined on floats"),
        (lambda: ops.softmax(b, x, 2), "axis 2 is out of range"),
        (lambda: ops.layer_norm(b, x, w), r"weight and bias of shape \[6\], got f32\[5\]"),
        (lambda: ops.layer_norm(b, x, axes=3), "3 trailing dimensions of a tensor of rank 2"),
        (lambda: ops.group_norm(b, x, None, None, 4), "in 4 equal groups"),
        (lambda: ops.batch_norm(b, x, w, w), r"of shape \[6\]"),
    ):
        with pytest.raises(CompileError, match=message):
            build()
