"""ferrule.define_operator: operators of users, in NumPy, under jit, in PyTorch, in ONNX models."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule import elements as el
from ferrule.base import dtype as dt
from ferrule.base.config import override
from ferrule.base.dtype import DType, from_storage, to_storage
from ferrule.base.errors import CompileError, FerruleError, InputTypeError
from ferrule.base.numerics import difference
from ferrule.ir.interp import run_graph
from tests.api.own import (
    NAMES,
    RNG,
    compiled_of,
    f32,
    graph_of,
    own_above,
    own_apart,
    own_mixed,
    own_shrink,
    session,
    simple,
)

# ---- NumPy and jit -------------------------------------------------------------------------------


def test_arrays_get_the_meaning() -> None:
    x = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(own_shrink(x), [-1, 0, 0, 0, 1])
    np.testing.assert_array_equal(own_shrink(x=x, bound=0.1), [-1, -0.5, 0, 0.5, 1])
    assert own_shrink(x.astype(np.float16)).dtype == np.float16
    assert own_shrink.__doc__ == "x where |x| is above the bound, else 0."
    assert own_shrink(2.0).shape == ()


def test_operands_broadcast_and_are_promoted_as_numpy_does() -> None:
    out = own_apart(np.ones((3, 1), np.int32), np.arange(2, dtype=np.float32))
    np.testing.assert_array_equal(out, [[3, 0]] * 3)
    assert out.dtype == np.result_type(np.int32, np.float32)
    assert own_apart(np.ones(2, np.float32), 1.5).dtype == np.float32
    assert own_above(np.ones(2), 0.5).dtype == bool


def test_under_jit_it_is_one_kernel_with_its_neighbours() -> None:
    ferrule.reset_counters()
    f = ferrule.jit(lambda x, y: own_above(own_shrink(x * 2, bound=0.3), y) * own_apart(x, 1.0))
    x, y = f32(5, 7), f32(7)
    expected = own_above(own_shrink(x * 2, bound=0.3), y) * own_apart(x, 1.0)
    np.testing.assert_allclose(f(x, y), expected, rtol=1e-6)
    assert f(x, y).dtype == expected.dtype
    assert ferrule.counters()["kernels"] == 1


def test_under_jit_with_symbolic_sizes() -> None:
    f = ferrule.jit(lambda x: own_shrink(x).sum(-1), dynamic=True)
    for n in (3, 40):
        x = f32(n, n + 1)
        np.testing.assert_allclose(f(x), own_shrink(x).sum(-1), rtol=1e-5, atol=1e-6)
    assert f.programs == 1


# ---- dtypes --------------------------------------------------------------------------------------


def sample(dtype: DType, shape: tuple[int, ...]) -> Any:
    """Numbers of a dtype, in storage form."""
    if dtype.is_float:
        return to_storage(f32(*shape), dtype)
    low = 0 if dtype.kind in "ub" else -50
    return RNG.integers(low, 2 if dtype.is_bool else 50, shape).astype(dtype.numpy)


CASES = [
    (own_shrink, dt.FLOATS, [(3, 5)], {"bound": 0.7}),
    (own_shrink, (dt.i8, dt.i32, dt.i64), [(3, 5)], {"bound": 20.0}),
    (own_apart, (*dt.FLOATS, *dt.INTEGERS), [(3, 5), (5,)], {}),
    (own_mixed, dt.FLOATS, [(33,)], {"factors": (0.1, 3.0), "negative": True, "mode": "tanh"}),
    (own_above, dt.ALL[:-1], [(4, 1), (9,)], {}),
]


@pytest.mark.parametrize("target", ["host", "generic"])
@pytest.mark.parametrize(
    ("op", "dtype", "shapes", "attributes"),
    [(op, d, shapes, a) for op, dtypes, shapes, a in CASES for d in dtypes],
    ids=lambda x: x.name if hasattr(x, "name") else "",
)
def test_compiled_it_is_what_it_means(
    op: Any, dtype: DType, shapes: Any, attributes: Any, target: str
) -> None:
    graph = graph_of(op, dtype, shapes, **attributes)
    arrays = [sample(dtype, s) for s in shapes]
    (expected,) = run_graph(graph, arrays)
    with override(target=target):
        (found,) = compiled_of(graph)(*arrays)
    assert difference(found, expected, graph.outputs[0].dtype) is None
    real, result = op._own.run([from_storage(x, dtype) for x in arrays], dtype, attributes)
    assert result == graph.outputs[0].dtype
    np.testing.assert_array_equal(to_storage(real, result), expected)


def test_f16_is_rounded_once() -> None:
    op = ferrule.define_operator(
        lambda x: x * 1.001 - x, meaning=lambda x: x * np.float32(1.001) - x, name=next(NAMES)
    )
    x = np.array([1000], np.float16)
    assert float(op(x)[0]) == pytest.approx(1, rel=1e-2)  # 1.001 in f16 would give 0 or 0.98
    assert float(ferrule.jit(op)(x)[0]) == pytest.approx(1, rel=1e-2)


def test_dtypes_without_a_meaning_are_refused() -> None:
    with pytest.raises(CompileError, match=r"own_shrink of i64 elements.*0\.5 is none of i64"):
        own_shrink(np.arange(3))
    with pytest.raises(CompileError, match="own_mixed is defined on floats, got i64"):
        own_mixed(np.arange(3))
    root = ferrule.define_operator(lambda x: el.sqrt(x), meaning=np.sqrt, name=next(NAMES))
    with pytest.raises(CompileError, match="sqrt has no meaning on i64"):
        ferrule.jit(lambda x: root(x))(np.arange(3))


def test_verify_finds_a_formula_that_is_not_the_meaning() -> None:
    wrong = ferrule.define_operator(lambda x: x * 2, meaning=lambda x: x * 3, name=next(NAMES))
    with override(verify=True), pytest.raises(CompileError, match="not what its graph means"):
        ferrule.jit(lambda x: wrong(x))(f32(4))


# ---- PyTorch -------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    torch = pytest.importorskip("torch")
    torch._dynamo.reset()
    with torch.no_grad():
        yield torch


DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "uint8")


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_eager_and_compiled(torch: Any, dtype: str) -> None:
    kind = getattr(torch, dtype)
    x, y = (torch.arange(n, dtype=torch.float32).reshape(-1, n).to(kind) for n in (6, 1))

    class Model(torch.nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return own_apart(x + x, y, by=2) * 2

    expected = own_apart(x + x, y, by=2) * 2
    assert expected.dtype == kind
    np.testing.assert_array_equal(expected.float().numpy()[0], np.arange(6) * 8)
    compiled = ferrule.compile(Model(), (x, y), options={"strict": True})
    assert compiled.kernels == 1
    torch.testing.assert_close(compiled(x, y), expected)


def test_torch_compile_makes_one_kernel(torch: Any) -> None:
    def f(x: Any) -> Any:
        return torch.relu(own_mixed(own_shrink(x * 2, bound=0.25), mode="tanh")) + 1

    ferrule.reset_counters()
    fast = torch.compile(f, backend="ferrule", fullgraph=True, options={"strict": True})
    x = torch.randn(4, 9)
    torch.testing.assert_close(fast(x), f(x))
    assert ferrule.counters()["kernels"] == 1
    assert not ferrule.counters()["fallbacks"]


def test_the_first_call_may_be_traced_by_dynamo(torch: Any) -> None:
    op = simple(3.0)
    fast = torch.compile(lambda x: op(x + 1), backend="ferrule", fullgraph=True, dynamic=True)
    for n in (3, 8):
        x = torch.randn(n)
        torch.testing.assert_close(fast(x), (x + 1) * 3)


def test_tensors_are_promoted_as_pytorch_does(torch: Any) -> None:
    x, y = torch.arange(4), torch.randn(4).half()
    assert own_apart(x, y).dtype == torch.float16
    assert own_apart(y, 1.5).dtype == torch.float16
    assert own_apart(x, 1.5).dtype == torch.float32
    assert own_apart(x, np.ones(4)).dtype == torch.float64
    fast = torch.compile(own_apart, backend="ferrule", fullgraph=True)
    torch.testing.assert_close(fast(x, y), own_apart(x, y))


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        (own_shrink, [(3, 4)], {"bound": 0.5}),
        (own_apart, [(3, 4), (3, 1)], {"by": 2}),
        (own_above, [(3, 4), ()], {}),
        (own_mixed, [(5,)], {"factors": [0.5], "negative": True, "mode": "plain"}),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_opcheck(torch: Any, op: Any, shapes: Any, attributes: Any) -> None:
    """The schema, the fake kernel and dispatch are what PyTorch expects of a custom operator."""
    given = tuple(torch.randn(s) for s in shapes)
    torch.library.opcheck(op.torch_operator, given, attributes)


def test_attributes_of_tensors_are_checked_alike(torch: Any) -> None:
    x = torch.randn(3)
    torch.testing.assert_close(own_apart(x, x + 1, by=np.int64(2)), torch.full((3,), -2.0))
    torch.testing.assert_close(own_shrink(x, bound=1), own_shrink(x, bound=1.0))
    with pytest.raises(InputTypeError, match="bound: expected a value of type float, got '1'"):
        own_shrink(x, bound="1")
    with pytest.raises(InputTypeError, match="no attribute 'bounds'"):
        own_shrink(x, bounds=1.0)
    with pytest.raises(CompileError, match="do not broadcast"):
        own_apart(torch.randn(3), torch.randn(4))
    with pytest.raises(CompileError, match="own_mixed is defined on floats"):
        own_mixed(torch.arange(3))


def test_strides_of_an_operand_do_not_matter(torch: Any) -> None:
    x = torch.randn(4, 6).T[:, ::2]
    out = own_shrink(x)
    assert out.is_contiguous()
    torch.testing.assert_close(out, torch.where(x.abs() <= 0.5, 0.0, x))
    torch.testing.assert_close(torch.compile(own_shrink, backend="ferrule")(x), out)


def test_an_identity_gives_a_new_tensor(torch: Any) -> None:
    same = ferrule.define_operator(lambda x: x, meaning=lambda x: x, name=next(NAMES))
    x = torch.randn(3)
    out = same(x)
    out += 1
    torch.testing.assert_close(out, x + 1)


def test_a_sign_of_zero_is_kept(torch: Any) -> None:
    op = ferrule.define_operator(
        lambda x, *, to=0.0: el.copysign(x, el.cast(to, x.dtype)),
        meaning=lambda x, to: np.copysign(x, to), name=next(NAMES),
    )  # fmt: skip
    fast = torch.compile(lambda x: op(x, to=-0.0), backend="ferrule", fullgraph=True)
    torch.testing.assert_close(fast(torch.ones(3)), -torch.ones(3))


def test_a_module_that_holds_an_operator_is_copied(torch: Any) -> None:
    assert copy.deepcopy({"op": own_shrink})["op"] is own_shrink
    x = torch.randn(4)

    class Model(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return own_shrink(x)

    compiled = ferrule.compile(Model(), (x,))
    torch.testing.assert_close(pickle.loads(pickle.dumps(compiled))(x), compiled(x))


def test_pytorch_sees_the_new_definition(torch: Any) -> None:
    name, x = next(NAMES), torch.randn(4)
    held = {"op": simple(2.0, name=name)}
    fast = torch.compile(lambda x: held["op"](x) + 0, backend="ferrule", fullgraph=True)
    torch.testing.assert_close(fast(x), x * 2)
    held["op"] = simple(3.0, name=name)
    torch.testing.assert_close(fast(x), x * 3)
    torch.testing.assert_close(held["op"](x), x * 3)
    torch.testing.assert_close(getattr(torch.ops.ferrule, name)(x), x * 3)


# ---- ONNX ----------------------------------------------------------------------------------------


def test_a_node_of_a_custom_domain() -> None:
    s, x = session("Shrink", "com.example", bound=0.25), f32(6)
    np.testing.assert_array_equal(s.run(None, {"x0": x})[0], -own_shrink(x + x, bound=0.25))
    assert s.kernels == 1
    s = session("Shrink", "com.example")
    np.testing.assert_array_equal(s.run(None, {"x0": x})[0], -own_shrink(x + x))


def test_attributes_of_all_types() -> None:
    s, x = session("Mixed", "com.example", factors=[2.0, 3.0], negative=1, mode="tanh"), f32(6)
    expected = own_mixed(x + x, factors=(2, 3), negative=True, mode="tanh")
    np.testing.assert_allclose(s.run(None, {"x0": x})[0], -expected, rtol=1e-5)


def test_a_node_of_known_operands_is_folded_by_the_meaning() -> None:
    onnx = pytest.importorskip("onnx")
    x = onnx.numpy_helper.from_array(np.array([0.2, 0.9], np.float32), "x")
    node = onnx.helper.make_node("Shrink", ["x"], ["y"], domain="com.example")
    port = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph([node], "g", [], [port], [x])
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.example", 1)]
    s = ferrule.InferenceSession(onnx.helper.make_model(graph, opset_imports=opsets))
    np.testing.assert_array_equal(s.run(None, {})[0], np.array([0, 0.9], np.float32))
    assert s.kernels == 0


def test_without_a_domain_it_is_ferrules() -> None:
    s, (x, y) = session("own_apart", "ferrule", 2, np.int32, by=2), np.arange(8).reshape(2, 4)
    x, y = x.astype(np.int32), y.astype(np.int32)
    np.testing.assert_array_equal(s.run(None, {"x0": x, "x1": y})[0], -(2 * x - y) * 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bounds": 0.25}, "no attribute 'bounds'; the attributes of own_shrink are: bound"),
        ({"bound": "big"}, "bound: expected a value of type float, got 'big'"),
        ({"inputs": 2}, "it takes 1 operands: x"),
    ],
)
def test_nodes_that_do_not_fit_are_refused(given: Any, message: str) -> None:
    feed = {f"x{i}": f32(3) for i in range(given.get("inputs", 1))}
    with pytest.raises(FerruleError, match=re.escape(message)):
        session("Shrink", "com.example", **given).run(None, feed)


@pytest.mark.parametrize(
    ("kind", "attributes"), [("own_apart", {"by": 1.5}), ("Mixed", {"negative": 2})]
)
def test_attributes_are_never_cut_to_their_type(kind: str, attributes: dict[str, Any]) -> None:
    domain, operands = ("ferrule", 2) if kind == "own_apart" else ("com.example", 1)
    feed = {f"x{i}": f32(3) for i in range(operands)}
    with pytest.raises(InputTypeError, match="expected a value of type"):
        session(kind, domain, operands, **attributes).run(None, feed)
