"""What the miniature of the compiler fuses, more programs for it, and its own two tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.mini import (  # noqa: F401
    Array,
    Compiled,
    exp,
    fold,
    interpret,
    softmax,
    test_a_linear_layer_takes_its_bias_and_activation_along,
    test_one_softmax_serves_every_size,
)


def check(compiled: Compiled, expected: Callable[..., Array], *shapes: tuple[int, ...]) -> None:
    """The machine code, and the stages before and after inlining, agree with NumPy."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    found, pairs = [compiled(*arrays)], list(zip(compiled.inputs, arrays))
    for stages in compiled.levels[:2]:
        memory: dict[str, Any] = {n.attr: s for b, x in pairs for n, s in zip(b.shape, x.shape)}
        memory.update((b.name, x) for b, x in pairs)
        interpret(stages, memory)
        found.append(memory[compiled.output.name])
    for x in found:
        np.testing.assert_allclose(x, expected(*arrays), rtol=2e-5, atol=2e-6)


def numpy_softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_softmax_is_one_kernel_of_four_stages() -> None:
    (kernel,) = Compiled(softmax, ("n", "m")).levels[2]
    assert str(kernel).splitlines() == [
        "for i0:",
        "    t0[0] = max[j0] x0[i0, j0]",
        "    t2[j2] = exp(sub(x0[i0, j2], t0[0]))",
        "    t3[0] = sum[j3] t2[j3]",
        "    t4[i0, j4] = div(t2[j4], t3[0])",
    ]


def test_attention_never_stores_its_matrix() -> None:
    shapes = ("n", 64), ("m", 64), ("m", 64)
    compiled = Compiled(lambda q, k, v: softmax(q @ k.T * 0.125) @ v, *shapes)
    assert not compiled.temps
    expected = (9, 64), (21, 64), (21, 64)
    check(compiled, lambda q, k, v: numpy_softmax(q @ k.T * 0.125) @ v, *expected)


def test_what_other_rows_read_is_a_kernel_of_its_own() -> None:
    compiled = Compiled(lambda x, w: exp(x @ w).T @ exp(x @ w), (6, 5), (5, 9))
    assert len(compiled.levels[2]) > 1
    assert compiled.temps
    check(compiled, lambda x, w: np.exp(x @ w).T @ np.exp(x @ w), (6, 5), (5, 9))


def test_a_transpose_and_a_broadcast_disappear() -> None:
    compiled = Compiled(lambda x, b: (x.T + b) * 2, ("n", "m"), ("n",))
    assert len(compiled.levels[1]) == 1
    check(compiled, lambda x, b: (x.T + b) * 2, (5, 9), (5,))


def test_a_single_row_needs_no_grid() -> None:
    compiled = Compiled(lambda x: exp(fold("max", x)) + fold("sum", x), ("n",))
    check(compiled, lambda x: np.exp(x.max(keepdims=True)) + x.sum(keepdims=True), (21,))


def test_sizes_that_do_not_fit_are_refused() -> None:
    compiled = Compiled(lambda x, y: x + y, ("n", 4), ("n", 4))
    with pytest.raises(ValueError, match="x1: n is 3, not 2"):
        compiled(np.zeros((3, 4)), np.zeros((2, 4)))


def test_a_fold_of_one_column_runs_without_vectors() -> None:
    compiled = Compiled(lambda x: fold("sum", x.T), ("n", "m"))
    check(compiled, lambda x: x.T.sum(-1, keepdims=True), (9, 5))
