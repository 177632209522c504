"""`ferrule.nn` on plain arrays and within compiled functions, against formulas in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule import nn
from ferrule.ir.operators.special import erf

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(8)


def f(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


X, IMAGE, KERNEL = f(3, 4, 6), f(2, 4, 5, 6), f(6, 2, 3, 3)


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def normal(x: Array, axes: Any, eps: float = 1e-5) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def convolution(x: Array, w: Array, stride: int, padding: int, groups: int) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    views = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))
    views = views[:, :, ::stride, ::stride]
    parts = zip(np.split(views, groups, 1), np.split(w, groups, 0), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", v, k) for v, k in parts], 1)


def attended(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    return softmax(scores if mask is None else np.where(mask, scores, -np.inf)) @ v


def windows(x: Array, n: int) -> Array:
    return x[:, :, :4].reshape(2, 4, 4 // n, n, 6 // n, n)


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Array, ...]]] = {
    "relu": (nn.relu, lambda x: np.maximum(x, 0), (X,)),
    "silu": (nn.silu, lambda x: x / (1 + np.exp(-x)), (X,)),
    "sigmoid": (nn.sigmoid, lambda x: 1 / (1 + np.exp(-x)), (X,)),
    "softplus": (nn.softplus, lambda x: np.log1p(np.exp(x)), (X,)),
    "mish": (nn.mish, lambda x: x * np.tanh(np.log1p(np.exp(x))), (X,)),
    "hardswish": (nn.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6, (X,)),
    "erf": (nn.erf, lambda x: erf(x.astype(np.float64)), (X,)),
    "gelu": (nn.gelu, lambda x: x / 2 * (1 + erf(x.astype(np.float64) / math.sqrt(2))), (X,)),
    "gelu_tanh": (
        lambda x: nn.gelu(x, approximate="tanh"),
        lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        (X,),
    ),
    "leaky_relu": (lambda x: nn.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x), (X,)),
    "softmax": (nn.softmax, softmax, (X,)),
    "softmax_first": (lambda x: nn.softmax(x, axis=0), lambda x: softmax(x, 0), (X,)),
    "log_softmax": (nn.log_softmax, lambda x: np.log(softmax(x)), (X,)),
    "logsumexp": (lambda x: nn.logsumexp(x, 1), lambda x: np.log(np.exp(x).sum(1)), (X,)),
    "layer_norm": (nn.layer_norm, lambda x, w, b: normal(x, -1) * w + b, (X, f(6), f(6))),
    "layer_norm_two": (lambda x: nn.layer_norm(x, axes=2), lambda x: normal(x, (-1, -2)), (X,)),
    "rms_norm": (
        nn.rms_norm,
        lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w,
        (X, f(6)),
    ),
    "group_norm": (
        lambda x: nn.group_norm(x, 2),
        lambda x: normal(x.reshape(2, 2, 2, 5, 6), (2, 3, 4)).reshape(x.shape),
        (IMAGE,),
    ),
    "batch_norm": (
        nn.batch_norm,
        lambda x, m, v: (x - m[:, None, None]) / np.sqrt(v[:, None, None] + 1e-5),
        (IMAGE, f(4), np.abs(f(4))),
    ),
    "linear": (nn.linear, lambda x, w, b: x @ w.T + b, (X, f(3, 6), f(3))),
    "attention": (nn.attention, attended, (X, X, X)),
    "causal": (
        lambda q: nn.attention(q, q, q, causal=True),
        lambda q: attended(q, q, q, np.tril(np.ones((4, 4), bool))),
        (X,),
    ),
    "masked": (nn.attention, attended, (X, X, X, np.triu(np.ones((4, 4), bool)))),
    "conv": (
        lambda x, w, b: nn.conv(x, w, b, stride=2, padding=1, groups=2),
        lambda x, w, b: convolution(x, w, 2, 1, 2) + b[:, None, None],
        (IMAGE, KERNEL, f(6)),
    ),
    "max_pool": (lambda x: nn.max_pool(x, 2), lambda x: windows(x, 2).max((3, 5)), (IMAGE,)),
    "avg_pool": (lambda x: nn.avg_pool(x, 2), lambda x: windows(x, 2).mean((3, 5)), (IMAGE,)),
    "adaptive_avg_pool": (
        lambda x: nn.adaptive_avg_pool(x, (1, 2)),
        lambda x: x.reshape(2, 4, 1, 5, 2, 3).mean((3, 5)),
        (IMAGE,),
    ),
    "one_hot": (lambda i: nn.one_hot(i, 4), lambda i: np.eye(4, dtype=int)[i], (np.array([2, 0]),)),
    "embedding": (nn.embedding, lambda i, t: t[i], (np.array([[2], [0]]), f(5, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operators_on_arrays(name: str) -> None:
    ours, theirs, args = CASES[name]
    expected = theirs(*args)
    found = ours(*args)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_operators_within_a_compiled_function_keep_their_names() -> None:
    @ferrule.jit
    def block(x: Any, w: Any) -> Any:
        return nn.softmax(nn.gelu(nn.layer_norm(x) @ w) + 1, axis=0)

    w = f(6, 5)
    h = normal(X, -1) @ w
    expected = softmax(h / 2 * (1 + erf(h.astype(np.float64) / math.sqrt(2))) + 1, 0)
    np.testing.assert_allclose(block(X, w), expected, rtol=1e-4, atol=1e-5)
    assert block.programs == 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ferrule.CompileError, match="floats"):
        nn.softmax(np.arange(4))
    with pytest.raises(ferrule.CompileError, match="conv"):
        nn.conv(IMAGE, f(6, 3, 3, 3))
