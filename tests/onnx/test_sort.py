"""TopK in compiled code, and in NumPy where a run alone tells how many elements are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.api.session import InferenceSession
from ferrule.base.errors import FerruleError
from tests.onnx.tools import model, node

F = np.float32
RNG = np.random.default_rng(2)
NAN, INF = float("nan"), float("inf")


def session(k: int | None, opset: int = 21, dtype: Any = F, **attrs: Any) -> InferenceSession:
    """TopK of x[a, b, c], of which the places are f32 too; `k` is an input where None."""
    held = {} if opset < 10 or k is None else {"k": np.array([k])}
    attrs |= {"k": k} if opset < 10 else {}
    top = node("TopK", "x" if opset < 10 else "x k", "v i", **attrs)
    nodes = [top, node("Cast", "v", "values", to=1), node("Cast", "i", "places", to=1)]
    inputs: dict[str, Any] = {"x": (dtype, ["a", "b", "c"])}
    if k is None:
        inputs["k"] = (np.int64, [1])
    return InferenceSession(model(nodes, inputs, ["values", "places"], held, opset=opset))


def expected(x: Any, k: int, axis: int, largest: bool) -> tuple[Any, Any]:
    """Of equal elements the first one comes first; NaN is above all."""
    turned = np.moveaxis(x, axis, -1)
    n = turned.shape[-1]
    place = np.argsort(turned, axis=-1, kind="stable")
    if largest:
        place = n - 1 - np.argsort(turned[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    place = place[..., :k]
    values = np.take_along_axis(turned, place, -1)
    return np.moveaxis(values, -1, axis), np.moveaxis(place, -1, axis)


def few(dtype: Any) -> Any:
    x = RNG.integers(-3 if np.dtype(dtype).kind != "u" else 0, 4, (3, 7, 5)).astype(dtype)
    if x.dtype.kind == "f":
        x[0, :3, 0] = NAN, INF, -INF
    return x


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "i4", "u1"])
@pytest.mark.parametrize(("axis", "k", "largest"), [(-1, 3, 1), (1, 7, 0), (0, 0, 1), (1, 2, 1)])
def test_top_k(dtype: Any, axis: int, k: int, largest: int) -> None:
    x = few(dtype)
    s = session(k, dtype=dtype, axis=axis, largest=largest)
    assert "in NumPy" not in s.explain()
    for mine, right in zip(s.run(None, {"x": x}), expected(x, k, axis, bool(largest)), strict=True):
        np.testing.assert_array_equal(mine, right)


@pytest.mark.parametrize("opset", [1, 9, 10, 11, 24])
def test_versions_of_top_k(opset: int) -> None:
    x = few(F)
    s = session(2, opset, axis=1)
    for mine, right in zip(s.run(None, {"x": x}), expected(x, 2, 1, True), strict=True):
        np.testing.assert_array_equal(mine, right)


def test_unsorted_top_k_finds_the_same_elements() -> None:
    x = few(F)
    (values, _), (right, _) = session(3, sorted=0).run(None, {"x": x}), expected(x, 3, -1, True)
    np.testing.assert_array_equal(np.sort(values, -1), np.sort(right, -1))


def test_a_number_that_only_a_run_tells() -> None:
    x, s = few(F), session(None, axis=1)
    for k in (1, 4):
        found = s.run(None, {"x": x, "k": np.array([k])})
        for mine, right in zip(found, expected(x, k, 1, True), strict=True):
            np.testing.assert_array_equal(mine, right)


def test_a_number_that_is_a_size() -> None:
    nodes = [node("Shape", "y", "k"), node("TopK", "x k", "v i", axis=0)]
    proto = model(nodes, {"x": (F, ["n"]), "y": (F, ["m"])}, ["v"])
    s, x = InferenceSession(proto), few(F)[1].reshape(-1)
    for m in (0, 3, 35):
        (found,) = s.run(None, {"x": x, "y": np.zeros(m, F)})
        np.testing.assert_array_equal(found, np.sort(x)[::-1][:m])
    assert "in NumPy" not in s.explain()
    with pytest.raises(FerruleError):
        s.run(None, {"x": x, "y": np.zeros(36, F)})


def test_too_many_are_refused() -> None:
    with pytest.raises(FerruleError):
        session(8, axis=1).run(None, {"x": few(F)})
    nodes = [node("TopK", "x k", "v i")]
    known = model(nodes, {"x": (F, [2, 3])}, ["v"], {"k": np.array([4])})
    with pytest.raises(FerruleError, match="TopK of 4 elements from an axis of 3"):
        InferenceSession(known).run(None, {"x": np.zeros((2, 3), F)})
