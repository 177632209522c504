"""Indexing by tensors against PyTorch and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import boolean, f32, i64
from ferrule.base.errors import CompileError, RunIndexError, UnsupportedError
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_system
from ferrule.lower.equations import equations

torch = pytest.importorskip("torch")
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(9)
X = RNG.standard_normal((5, 6, 7)).astype(np.float32)


def places(size: int, *shape: int, low: int = 0) -> np.ndarray[Any, Any]:
    return RNG.integers(low, size, shape)


ADVANCED = [
    (places(5, 4, low=-5),),
    (None, places(6, 2, 3)),
    (places(5, 4), places(6, 4)),
    (places(5, 4), None, places(7, 4)),
    (places(5, 3, 1), places(6, 4), places(7, 1)),
    (None, places(6, 2, 1), places(7, 3)),
    (np.asarray(1), None, places(7, 3)),
]


@pytest.mark.parametrize("indices", [places(5, 3, 4), np.asarray(2), np.array([4, 0], np.int32)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_is_numpys(indices: Any, axis: int, check: Check) -> None:
    (out,) = check(lambda b, x, i: ops.take(b, x, i, axis), X, indices)
    np.testing.assert_array_equal(out, np.take(X, indices, axis))
    (out,) = check(lambda b, x, i: ops.take(b, x, i, axis, wrap=True), X, indices - 5)
    np.testing.assert_array_equal(out, np.take(X, indices - 5, axis))


@pytest.mark.parametrize(("axis", "shape"), [(0, (9, 6, 7)), (1, (4, 3, 7)), (2, (5, 6, 1))])
def test_take_along_axis_is_gather(axis: int, shape: Any, check: Check) -> None:
    indices = places(X.shape[axis], *shape)
    (out,) = check(lambda b, x, i: ops.take_along_axis(b, x, i, axis), X, indices)
    theirs = torch.gather(torch.from_numpy(X), axis, torch.from_numpy(indices))
    np.testing.assert_array_equal(out, theirs.numpy())


def _index(indices: Any) -> Any:
    def build(b: GraphBuilder, x: Value, *given: Value) -> Value:
        left = iter(given)
        return ops.index(b, x, [None if i is None else next(left) for i in indices])

    return build


@pytest.mark.parametrize("indices", ADVANCED)
def test_advanced_indexing_is_torchs(indices: Any, check: Check) -> None:
    given = [i for i in indices if i is not None]
    (out,) = check(_index(indices), X, *given)
    tensors = [None if i is None else torch.as_tensor(i) for i in indices]
    theirs = torch.ops.aten.index(torch.from_numpy(X), tensors)
    np.testing.assert_array_equal(out, theirs.numpy())


def test_without_indices_it_is_the_operand() -> None:
    b = GraphBuilder()
    x = b.input(tensor((2, 3), f32))
    assert ops.index(b, x, (None, None)) is x


@pytest.mark.parametrize("classes", [6, 9])
def test_one_hot_is_torchs(classes: int, check: Check) -> None:
    indices = places(6, 3, 4)
    (out,) = check(lambda b, i: ops.one_hot(b, i, classes), indices)
    theirs = torch.nn.functional.one_hot(torch.from_numpy(indices), classes)
    np.testing.assert_array_equal(out, theirs.numpy())


@pytest.mark.parametrize(
    "build",
    [lambda b, x, i: ops.take(b, x, i, 0), lambda b, x, i: ops.index(b, x, (i,)),
     lambda b, x, i: ops.take(b, x, i, 0, wrap=True)],
)  # fmt: skip
@pytest.mark.parametrize("wrong", [5, -6])
def test_an_index_out_of_range_is_an_error(build: Any, wrong: int) -> None:
    b = GraphBuilder()
    x, i = b.input(tensor(X.shape, f32)), b.input(tensor((2,), i64))
    graph = b.build((build(b, x, i),))
    arrays = [X, np.array([0, wrong])]
    with pytest.raises(IndexError):
        run_graph(graph, arrays)
    with pytest.raises(RunIndexError):
        run_system(equations(graph), arrays)


def test_what_does_not_fit_is_an_error() -> None:
    b = GraphBuilder()
    x, i = b.input(tensor((5, 6), f32)), b.input(tensor((2,), i64))
    with pytest.raises(CompileError, match="integers"):
        ops.take(b, x, x, 0)
    with pytest.raises(UnsupportedError, match="mask"):
        ops.index(b, x, (b.input(tensor((5,), boolean)),))
    with pytest.raises(CompileError, match="take_along_axis"):
        ops.take_along_axis(b, x, i, 0)
    with pytest.raises(CompileError, match="index takes"):
        ops.index(b, x, (i, i, i))
