"""Quantised operators, and QDQ models that run in integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ferrule.api.session import InferenceSession
from ferrule.base import config
from ferrule.base.dtype import i32
from ferrule.pipeline import passes
from ferrule.target.cpu import least
from ferrule.transform.byte_products import byte_products
from tests.cpus import current
from tests.onnx.tools import check, model, node, random

F, U8, I8, I32 = np.float32, np.uint8, np.int8, np.int32
RANDOM = np.random.default_rng(3)
DATA = RANDOM.integers(0, 255, (1, 3, 6, 6)).astype(U8)
WEIGHTS = RANDOM.integers(-128, 127, (4, 3, 3, 3)).astype(I8)
SCALES = np.array([0.01, 0.02, 0.03, 0.04], F)
WAYS = {"dot products of bytes", "sums in f32", "sums in i32"}
BIAS = RANDOM.integers(-500, 500, 4).astype(I32)


def quantised(y: Any, scale: float, zero: int) -> Any:
    """y in u8, halves to even."""
    return np.clip(np.rint(y / F(scale)) + zero, 0, 255).astype(U8)


def exact_conv(x: Any, w: Any) -> Any:
    """The convolution of integers without padding, in i64."""
    out = np.zeros((x.shape[0], w.shape[0], x.shape[2] - 2, x.shape[3] - 2), np.int64)
    for i, j in np.ndindex(3, 3):
        part = x[:, :, i : i + out.shape[2], j : j + out.shape[3]]
        out += np.einsum("ncij,oc->noij", part, w[:, :, i, j])
    return out


def operators(s: InferenceSession) -> set[str]:
    """The operators of the first program's graph."""
    return {n.op for n in s._runner.programs[0].stage.graph.nodes}


def test_qlinear_conv_is_exact() -> None:
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    constants = {
        "xs": F(0.05), "xz": U8(120), "w": WEIGHTS, "ws": SCALES, "wz": np.zeros(4, I8),
        "ys": F(0.5), "yz": U8(100), "b": BIAS,
    }  # fmt: skip
    n = node("QLinearConv", " ".join(names), "y")
    proto = model([n], {"x": (U8, [1, 3, 6, 6])}, ["y"], constants, dtype=U8)
    (y,) = InferenceSession(proto).run(None, {"x": DATA})
    total = exact_conv(DATA.astype(np.int64) - 120, WEIGHTS.astype(np.int64))
    total = total + BIAS.reshape(-1, 1, 1)
    factor = (F(0.05) * SCALES / F(0.5)).reshape(-1, 1, 1)
    expected = np.clip(np.rint(total.astype(F) * factor) + 100, 0, 255)
    np.testing.assert_array_equal(y, expected.astype(U8))


def test_matmul_integer_does_not_overflow_eight_bits() -> None:
    n = node("MatMulInteger", "x w xz", "y")
    x, w = DATA.reshape(3, -1), WEIGHTS.reshape(-1, 12)[:9].repeat(4, 0)
    proto = model([n], {"x": (U8, list(x.shape))}, ["y"], {"w": w, "xz": U8(7)}, dtype=I32)
    (y,) = InferenceSession(proto).run(None, {"x": x})
    np.testing.assert_array_equal(y, (x.astype(I32) - 7) @ w.astype(I32))


def sums_integers(s: InferenceSession, op: str) -> bool:
    """Whether the sums of a product are integers."""
    nodes = s._runner.programs[0].stage.graph.nodes
    (total,) = next(n for n in nodes if n.op == op).outputs
    return total.dtype == i32


def ways(s: InferenceSession) -> list[str]:
    """How the products of the first program are summed."""
    decisions = s._runner.programs[0].compiled.decisions
    return [d.chosen for d in decisions if d.kind == "graph" and d.chosen in WAYS]


@pytest.mark.parametrize("terms", [300, 1200])
def test_sums_that_floats_would_round_are_exact(terms: int) -> None:
    x = np.full((2, terms), 255, np.uint8)
    w = np.full((terms, 16), 127, np.int8)
    w[-1] = np.arange(16)
    proto = model([node("MatMulInteger", "x w", "y")], {"x": (U8, [2, terms])}, ["y"], {"w": w},
                  dtype=I32)  # fmt: skip
    s = InferenceSession(proto)
    (y,) = s.run(None, {"x": x})
    np.testing.assert_array_equal(y, x.astype(np.int64) @ w.astype(np.int64))
    without = "sums in f32" if terms == 300 else "sums in i32"
    assert ways(s) == ["dot products of bytes" if current().has_dot4 else without]


@pytest.fixture(params=[True, False], ids=["bytes", "no bytes"])
def dots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with and without dot products of bytes, as far as graphs are concerned. Programs
    are checked against the meaning of their graphs, and so are not taken from the cache.
    """
    own = least("avx2").having("avxvnni") if request.param else least("avx2")
    monkeypatch.setattr(passes, "byte_products", lambda graph, _: byte_products(graph, own))
    with config.override(verify=True):
        yield


BYTES = {U8: (0, 256), I8: (-128, 128)}


@pytest.mark.usefixtures("dots")
@pytest.mark.parametrize("kinds", [(U8, U8), (U8, I8), (I8, U8), (I8, I8)])
@pytest.mark.parametrize("terms", [3, 22, 24])
@pytest.mark.parametrize("columns", [False, True])
def test_zero_points_are_taken_out_of_products(kinds: Any, terms: int, columns: bool) -> None:
    """The one of w is known where it is one for all, and given at run time else; x has one a row
    there.
    """
    rng = np.random.default_rng(columns)
    sizes = [(5, terms), (terms, 17)]
    x, w = (rng.integers(*BYTES[k], s).astype(k) for k, s in zip(kinds, sizes))
    each = [(5,), (17,)] if columns else [(), ()]
    xz, wz = (rng.integers(*BYTES[k], s).astype(k) for k, s in zip(kinds, each))
    known = {"w": w, "xz": xz, **({} if columns else {"wz": wz})}
    ports = {"x": (kinds[0], ["n", terms]), **({"wz": (kinds[1], [17])} if columns else {})}
    ports = ports if not columns else {**ports, "x": (kinds[0], [5, terms])}
    proto = model([node("MatMulInteger", "x w xz wz", "y")], ports, ["y"], known, dtype=I32)
    (y,) = InferenceSession(proto).run(None, {"x": x, **({"wz": wz} if columns else {})})
    low = xz.reshape(-1, 1) if columns else xz
    np.testing.assert_array_equal(y, (x.astype(I32) - low) @ (w.astype(I32) - wz))


@pytest.mark.usefixtures("dots")
@pytest.mark.parametrize("kind", [U8, I8])
def test_windows_inside_of_an_image_and_no_zero_points(kind: Any) -> None:
    rng = np.random.default_rng(4)
    x, w = (rng.integers(*BYTES[kind], s).astype(kind) for s in [(1, 6, 7, 5), (9, 6, 3, 3)])
    proto = model([node("ConvInteger", "x w", "y")], {"x": (kind, [1, 6, 7, 5])}, ["y"], {"w": w},
                  dtype=I32)  # fmt: skip
    (y,) = InferenceSession(proto).run(None, {"x": x})
    np.testing.assert_array_equal(y, exact_conv(x.astype(np.int64), w.astype(np.int64)))


@pytest.mark.usefixtures("dots")
@pytest.mark.parametrize("kinds", [(U8, U8), (I8, I8)])
@pytest.mark.parametrize("size", [6, "n"])
def test_padding_of_an_integer_convolution_is_the_zero_point(kinds: Any, size: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.integers(*BYTES[k], s).astype(k) for k, s in
            zip(kinds, [(1, 8, 6, 6), (9, 8, 3, 3)]))  # fmt: skip
    xz, wz = (rng.integers(*BYTES[k], s).astype(k) for k, s in zip(kinds, [(), (9,)]))
    n = node("ConvInteger", "x w xz wz", "y", pads=[1, 0, 1, 1])
    proto = model([n], {"x": (kinds[0], [1, 8, size, size])}, ["y"],
                  {"w": w, "xz": xz, "wz": wz}, dtype=I32)  # fmt: skip
    (y,) = InferenceSession(proto).run(None, {"x": x})
    padded = np.pad(x.astype(np.int64) - xz, [(0, 0), (0, 0), (1, 1), (0, 1)])
    np.testing.assert_array_equal(
        y, exact_conv(padded, w.astype(np.int64) - wz.reshape(-1, 1, 1, 1))
    )


def test_zeros_are_quantised_with_a_scale_of_one() -> None:
    proto = model([node("DynamicQuantizeLinear", "x", "y s z")], {"x": (F, [4])}, ["y", "s", "z"])
    y, scale, zero = InferenceSession(proto).run(None, {"x": np.zeros(4, F)})
    assert (y.tolist(), float(scale), int(zero)) == ([0] * 4, 1.0, 0)


def qdq_conv(relu: bool, bias_scale: Any) -> Any:
    """Quantize(Conv(Dequantize ..))."""
    nodes = [
        node("DequantizeLinear", "x xs xz", "xf"),
        node("DequantizeLinear", "w ws wz", "wf", axis=0),
        node("DequantizeLinear", "b bs bz", "bf", axis=0),
        node("Conv", "xf wf bf", "c"),
        *([node("Relu", "c", "r")] if relu else []),
        node("QuantizeLinear", "r ys yz" if relu else "c ys yz", "y"),
    ]
    constants = {
        "xs": F(0.05), "xz": U8(120), "w": WEIGHTS, "ws": SCALES, "wz": np.zeros(4, I8),
        "ys": F(0.5), "yz": U8(100), "b": BIAS, "bs": bias_scale, "bz": np.zeros(4, I32),
    }  # fmt: skip
    return model(nodes, {"x": (U8, [1, 3, 6, 6])}, ["y"], constants, dtype=U8)


@pytest.mark.parametrize("relu", [False, True])
def test_qdq_conv_runs_in_integers(relu: bool) -> None:
    s = InferenceSession(qdq_conv(relu, F(0.05) * SCALES))
    (y,) = s.run(None, {"x": DATA})
    assert sums_integers(s, "conv")
    real = exact_conv(DATA.astype(np.int64) - 120, WEIGHTS) + BIAS.reshape(-1, 1, 1)
    real = real * (0.05 * SCALES).reshape(-1, 1, 1)
    expected = quantised(np.maximum(real, 0) if relu else real, 0.5, 100)
    assert np.abs(y.astype(int) - expected.astype(int)).max() <= 1


def test_qdq_conv_with_another_bias_scale_stays_in_floats() -> None:
    s = InferenceSession(qdq_conv(False, SCALES))
    s.run(None, {"x": DATA})
    conv = next(n for n in s._runner.programs[0].stage.graph.nodes if n.op == "conv")
    assert conv.outputs[0].dtype.name == "f32"


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
def test_qdq_products_run_in_integers(kind: str) -> None:
    nodes = [
        node("DequantizeLinear", "x xs xz", "xf"),
        node("DequantizeLinear", "w ws wz", "wf", axis=1),
        node(kind, "xf wf", "p"),
        node("QuantizeLinear", "p ys yz", "y"),
    ]
    x, w = DATA.reshape(3, 36), np.resize(WEIGHTS, (36, 4))
    constants = {
        "xs": F(0.05), "xz": U8(120), "w": w, "ws": SCALES, "wz": np.zeros(4, I8), "ys": F(2),
        "yz": U8(128),
    }  # fmt: skip
    proto = model(nodes, {"x": (U8, [3, 36])}, ["y"], constants, dtype=U8)
    s = InferenceSession(proto)
    (y,) = s.run(None, {"x": x})
    assert sums_integers(s, "dot_general")
    total = (x.astype(np.int64) - 120) @ w.astype(np.int64)
    expected = quantised(total * (F(0.05) * SCALES), 2, 128)
    assert np.abs(y.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize(("axis", "block"), [(0, 0), (1, 0), (1, 2)])
def test_scales_by_slice_and_block(axis: int, block: int) -> None:
    x = random(4, 6)
    shape = (4, 3) if block else (x.shape[axis],)
    scale = (np.abs(random(*shape)) + F(0.1)).astype(F)
    zero = np.full(shape, 3, I8)
    attrs = {"axis": axis, **({"block_size": block} if block else {})}
    for kind, data, dtype in (
        ("QuantizeLinear", x, I8), ("DequantizeLinear", (x * 9).astype(I8), F),
    ):  # fmt: skip
        n = node(kind, "x s z", "y", **attrs)
        proto = model([n], {"x": (data.dtype, [4, 6])}, ["y"], {"s": scale, "z": zero},
                      dtype=dtype)  # fmt: skip
        check(proto, x=data)


def test_dynamic_quantisation() -> None:
    n = node("DynamicQuantizeLinear", "x", "y s z")
    proto = model([n], {"x": (F, ["N"])}, ["y"], dtype=U8)
    for x in (random(20), np.abs(random(7)), np.zeros(3, F) - 1):
        check(proto, x=x)
