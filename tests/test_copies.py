"""Copies and pickles of what is compiled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ferrule

torch = pytest.importorskip("torch")
Copy = Callable[[Any], Any]
COPIES: dict[str, Copy] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}
ones = np.ones(3, np.float32)


@ferrule.jit
def decorated(x: Any) -> Any:
    return np.exp(x) + 1


class Scale:
    """A callable object with a state."""

    def __init__(self) -> None:
        self.factor = 2.0

    def __call__(self, x: Any) -> Any:
        return x * self.factor


@pytest.mark.parametrize("how", COPIES)
def test_a_compiled_module(how: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.BatchNorm1d(4)).eval()
    n = torch.export.Dim("n", min=1)
    run = ferrule.compile(model, (torch.randn(3, 8),), dynamic_shapes=({0: n},))
    with torch.no_grad():
        model[0].weight.mul_(2)
        made, x = COPIES[how](run), torch.randn(5, 8)
        before = model(x)
        torch.testing.assert_close(made(x), before)
        model[0].weight.mul_(2)
        torch.testing.assert_close(run(x), model(x))
        torch.testing.assert_close(made(x), model(x) if how == "copy" else before)


@pytest.mark.parametrize("how", COPIES)
def test_a_module_under_torch_compile(how: str) -> None:
    model, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
    run = torch.compile(model, backend="ferrule")
    with torch.no_grad():
        torch.testing.assert_close(COPIES[how](run)(x), run(x))


@pytest.mark.parametrize("how", COPIES)
def test_a_function(how: str) -> None:
    assert COPIES[how](decorated) is decorated
    made = COPIES[how](ferrule.jit(Scale(), dynamic=True))
    np.testing.assert_array_equal(made(ones), ones * 2)


def test_a_function_without_a_name_is_copied() -> None:
    made = copy.deepcopy(ferrule.jit(lambda x: x + 1, dynamic={"x": [0]}))
    np.testing.assert_array_equal(made(ones), ones + 1)


@pytest.mark.parametrize("how", COPIES)
def test_a_session(how: str) -> None:
    helper = pytest.importorskip("onnx").helper
    ports = [helper.make_tensor_value_info(n, 1, ["n", 3]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    x = np.ones((2, 3), np.float32)
    (y,) = COPIES[how](ferrule.InferenceSession(model)).run(None, {"x": x})
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)
