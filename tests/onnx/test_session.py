"""InferenceSession, ferrule.compile of ONNX models, and the backend interface."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import ferrule
from ferrule import onnx_backend
from ferrule.api.session import InferenceSession, custom_operator
from ferrule.base.errors import FerruleError, InputError, InputTypeError, UnsupportedError
from tests.onnx.tools import check, model, node, programs, random, run

F = np.float32


def dense(n: object = "N") -> onnx.ModelProto:
    """relu(x @ w + b) of any batch."""
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "s"), node("Relu", "s", "y")]
    return model(nodes, {"x": (F, [n, 4])}, ["y"], {"w": random(4, 3), "b": random(3)})


def test_run_gives_the_outputs_that_are_asked_for() -> None:
    proto = model([node("Exp", "x", "y"), node("Neg", "x", "z")], {"x": (F, [3])}, ["y", "z"])
    s, x = InferenceSession(proto), random(3)
    y, z = s.run(None, {"x": x})
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)
    np.testing.assert_array_equal(s.run(["z"], {"x": x})[0], z)
    with pytest.raises(InputError, match="no output 'q'"):
        s.run(["q"], {"x": x})


def test_one_program_serves_all_sizes_of_a_symbolic_dim() -> None:
    s = check(dense(), x=random(2, 4))
    w, b = random(4, 3), random(3)
    for n in (1, 2, 7, 0):
        x = random(n, 4, seed=n)
        (y,) = s.run(None, {"x": x})
        np.testing.assert_allclose(y, np.maximum(x @ w + b, 0), rtol=1e-5, atol=1e-6)
    assert programs(s) == 2  # the empty batch breaks a fact that the first was compiled under


def test_ports_are_described_as_onnx_runtime_describes_them() -> None:
    s = InferenceSession(dense())
    (x,) = s.get_inputs()
    assert (x.name, x.shape, x.type) == ("x", ("N", 4), "tensor(float)")
    assert [p.name for p in s.get_outputs()] == ["y"]


def test_a_session_can_be_called() -> None:
    x = random(2, 4)
    s = ferrule.InferenceSession(dense())
    np.testing.assert_array_equal(s(x), s.run(None, {"x": x})[0])
    np.testing.assert_array_equal(s(x=x), s(x))
    assert s.kernels > 0
    assert "kernel" in s.explain()


def test_compile_takes_a_path_bytes_and_a_proto(tmp_path: Path) -> None:
    proto, x = dense(), random(2, 4)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    expected = InferenceSession(proto)(x)
    for source in (path, str(path), path.read_bytes(), proto):
        np.testing.assert_array_equal(ferrule.compile(source)(x), expected)


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, "'x' .* is missing"),
        ({"x": random(2, 4), "q": random(1)}, "no input 'q'"),
        ({"x": random(2, 4).astype(np.float64)}, "tensor.float."),
        ({"x": random(2)}, "rank 1"),
        ({"x": random(2, 5)}, "axis 1 must be 4, not 5"),
    ],
)
def test_wrong_inputs_are_named(feed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InferenceSession(dense()).run(None, feed)


def test_numbers_and_lists_are_converted() -> None:
    rows = random(2, 4)
    s = InferenceSession(dense())
    np.testing.assert_array_equal(s(rows.tolist()), s(rows))
    with pytest.raises(InputTypeError, match=r"astype\(numpy.float32\)"):
        s(rows.astype(np.float64))


def test_unknown_operators_are_all_named() -> None:
    nodes = [node("Frobnicate", "x", "y", domain="my.own"), node("Nonsense", "y", "z")]
    proto = model(nodes, {"x": (F, [3])}, ["z"], domains={"my.own": 1})
    with pytest.raises(UnsupportedError, match=r"Nonsense.*my\.own\.Frobnicate"):
        InferenceSession(proto)


def test_a_user_registers_a_builder() -> None:
    from ferrule import ops

    @custom_operator("test.domain", "Scale", static=(1,))
    def scale(cx, x, times):
        return ops.mul(cx.b, x, float(times) * cx.float("factor"))

    n = node("Scale", "x t", "y", domain="test.domain", factor=2.0)
    proto = model([n], {"x": (F, [3])}, ["y"], {"t": F(5)}, domains={"test.domain": 1})
    x = random(3)
    np.testing.assert_allclose(run(proto, x=x)[0], x * 10, rtol=1e-6)


def test_results_are_the_callers_own() -> None:
    nodes = [node("Identity", "x", "y"), node("Identity", "w", "z")]
    s = InferenceSession(model(nodes, {"x": (F, [3])}, ["y", "z"], {"w": random(3)}))
    x = random(3, seed=1)
    for _ in range(2):
        y, z = s.run(None, {"x": x})
        np.testing.assert_array_equal(y, random(3, seed=1))
        np.testing.assert_array_equal(z, random(3))
        y[:], z[:] = 0, 0


def test_an_error_of_a_rule_names_the_node() -> None:
    n = node("Reshape", "x s", "y", name="flatten_it")
    proto = model([n], {"x": (F, [2, 3])}, ["y"], {"s": np.array([4, -1])})
    with pytest.raises(ferrule.CompileError, match="flatten_it"):
        InferenceSession(proto)


# ---- the backend interface -----------------------------------------------------------------------


def test_backend_prepares_and_runs() -> None:
    x = random(2, 4)
    rep = onnx_backend.prepare(dense())
    np.testing.assert_array_equal(rep.run([x]).y, rep.run({"x": x})[0])
    np.testing.assert_array_equal(onnx_backend.run_model(dense(), [x])[0], rep.run(x)[0])


def test_backend_runs_a_node() -> None:
    a, b = random(2, 3), random(2, 3, seed=1)
    (y,) = onnx_backend.run_node(node("Add", "a b", "y"), [a, b])
    np.testing.assert_array_equal(y, a + b)


def test_backend_supports_the_cpu_alone() -> None:
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA:0")
    with pytest.raises(UnsupportedError, match="CUDA"):
        onnx_backend.prepare(dense(), "CUDA")


def test_backend_tells_what_is_compatible() -> None:
    assert onnx_backend.is_compatible(dense())
    unknown = model([node("Nonsense", "x", "y")], {"x": (F, [3])}, ["y"])
    assert not onnx_backend.is_compatible(unknown)


def test_a_run_like_the_one_before_is_one_call_and_others_are_not() -> None:
    node = helper.make_node("Add", ["x", "y"], ["z"])
    values = [helper.make_tensor_value_info(n, 1, ["n"]) for n in ("x", "y")]
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("z", 1, ["n"])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = InferenceSession(made.SerializeToString())
    x, y = np.arange(4, dtype=np.float32), np.ones(4, np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(session.run(None, {"x": x, "y": y})[0], x + y)
    assert session._runner.direct is not None
    wide = np.arange(8, dtype=np.float32)[::2]
    np.testing.assert_array_equal(session.run(None, {"y": y, "x": wide})[0], wide + y)
    np.testing.assert_array_equal(session.run(None, {"x": x[:2], "y": y[:2]})[0], (x + y)[:2])
    np.testing.assert_array_equal(session.run(["z"], {"x": x, "y": y})[0], x + y)
    with pytest.raises(InputError, match="has no input 'w'"):
        session.run(None, {"x": x, "w": y})
    with pytest.raises(InputError, match=r"dtype|float"):
        session.run(None, {"x": x, "y": y.astype(np.float64)})
    with pytest.raises(FerruleError):
        session.run(None, {"x": x, "y": y[:3]})


# ---- beside a reference --------------------------------------------------------------------------


def test_the_faster_of_a_model_and_its_reference_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = InferenceSession.__call__

    def slow(*args: object) -> object:
        time.sleep(0.01)
        return call(*args)

    monkeypatch.setattr(InferenceSession, "__call__", slow)
    proto, x, w, b = dense(), random(2, 4), random(4, 3), random(3)
    calls = []

    def reference(x: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.maximum(x @ w + b, 0)

    s = ferrule.compile(proto, reference=reference)
    for _ in range(50):
        np.testing.assert_allclose(s(x), np.maximum(x @ w + b, 0), rtol=1e-5, atol=1e-6)
    assert len(calls) == 50
    assert isinstance(s, InferenceSession)
    assert "the ONNX model runs in eager from now on" in capsys.readouterr().err
    np.testing.assert_allclose(s.run(None, {"x": x})[0], reference(x), rtol=1e-5, atol=1e-6)


def test_a_model_becomes_a_session_in_the_background() -> None:
    x, calls = random(2, 4), []
    expected = ferrule.compile(dense())(x)

    def reference(x: np.ndarray) -> np.ndarray:
        calls.append(1)
        return expected

    s = ferrule.compile(dense(), reference=reference, options={"background": True, "cache": False})
    np.testing.assert_array_equal(s(x), expected)
    assert calls
    assert s.get_inputs()[0].name == "x"  # waits
    assert isinstance(s, InferenceSession)
    np.testing.assert_array_equal(s(x), expected)


def test_an_onnx_model_has_no_eager_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="must be a function of its arguments"):
        ferrule.compile(dense(), reference=True)
    assert type(ferrule.compile(dense(), options={"background": True})) is InferenceSession
    assert "as reference" in capsys.readouterr().err
