"""The operators of com.microsoft, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ferrule.api.session import InferenceSession
from tests.onnx.tools import model, node, random

ort = pytest.importorskip("onnxruntime")

F, U8, I8, I32 = np.float32, np.uint8, np.int8, np.int32
DOMAIN = "com.microsoft"


def agree(
    kind: str, inputs: dict[str, Any], results: str = "y", tolerance: float = 1e-4,
    dtype: Any = F, constant: Sequence[str] = (), **attrs: Any,
) -> None:  # fmt: skip
    """Compare one node; "_1" and so on are operands that are left out, and `constant` are those
    that the model holds.
    """
    names = " ".join("_" if n.startswith("_") else n for n in inputs)
    n = node(kind, names, results, domain=DOMAIN, **attrs)
    given = {k: np.asarray(v) for k, v in inputs.items() if not k.startswith("_")}
    held = {k: given.pop(k) for k in constant}
    ports = {k: (v.dtype, list(v.shape)) for k, v in given.items()}
    proto = model([n], ports, [r for r in results.split() if r != "_"], held, domains={DOMAIN: 1},
                  dtype=dtype)  # fmt: skip
    options = ort.SessionOptions()
    options.log_severity_level = 3
    theirs = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    expected = theirs.run(None, given)
    for mine, other in zip(InferenceSession(proto).run(None, given), expected, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine.astype(F), other.astype(F), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
def test_fused_matmul(a: int, b: int) -> None:
    x = random(2, *((4, 3) if a else (3, 4)))
    y = random(2, *((5, 4) if b else (4, 5)), seed=1)
    agree("FusedMatMul", {"x": x, "w": y}, transA=a, transB=b, alpha=0.5)


@pytest.mark.parametrize("kind", ["Gelu", "FastGelu", "QuickGelu"])
def test_gelu(kind: str) -> None:
    agree(kind, {"x": random(3, 8)})


@pytest.mark.parametrize("kind", ["BiasGelu", "FastGelu"])
def test_gelu_with_bias(kind: str) -> None:
    agree(kind, {"x": random(3, 8), "b": random(8, seed=1)})


def test_skip_layer_norm() -> None:
    x = {"x": random(2, 3, 8), "s": random(2, 3, 8, seed=1), "g": random(8), "b": random(8)}
    agree("SkipLayerNormalization", x, epsilon=1e-5)
    agree("SkipLayerNormalization", {**x, "c": random(8, seed=5)}, "y _ _ t", epsilon=1e-5)


def test_skip_simplified_layer_norm() -> None:
    x = {"x": random(2, 3, 8), "s": random(2, 3, 8, seed=1), "g": random(8)}
    agree("SkipSimplifiedLayerNormalization", x, "y _ _ t", epsilon=1e-5)


def test_embed_layer_norm() -> None:
    ids = np.array([[1, 2, 3], [3, 0, 1]], I32)
    agree(
        "EmbedLayerNormalization",
        {"i": ids, "k": ids % 2, "w": random(5, 8), "p": random(6, 8), "t": random(2, 8),
         "g": random(8), "b": random(8, seed=2)},
        "y _", epsilon=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", [None, np.array([3, 2], I32), np.array([[1, 1, 0], [1, 1, 1]])])
def test_attention(causal: int, mask: Any) -> None:
    x = {"x": random(2, 3, 8), "w": random(8, 24, seed=1), "b": random(24, seed=2)}
    if mask is not None:
        x["m"] = mask.astype(I32)
    agree("Attention", x, num_heads=2, unidirectional=causal)


def test_multi_head_attention() -> None:
    x = {"q": random(2, 3, 8), "k": random(2, 5, 8, seed=1), "v": random(2, 5, 8, seed=2)}
    agree("MultiHeadAttention", x, num_heads=2)
    agree("MultiHeadAttention", {**x, "b": random(24, seed=3)}, num_heads=2)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved: int) -> None:
    places = np.array([[0, 1, 2], [4, 5, 6]])
    x = {"x": random(2, 3, 16), "p": places, "c": random(8, 4), "s": random(8, 4, seed=1)}
    agree("RotaryEmbedding", x, interleaved=interleaved)


@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul"])
def test_quantised_pairs(kind: str) -> None:
    generator = np.random.default_rng(0)
    x, y = (generator.integers(0, 255, (2, 8)).astype(U8) for _ in range(2))
    operands = {"x": x, "xs": F(0.1), "xz": U8(100), "w": y, "ws": F(0.2), "wz": U8(50),
                "ys": F(0.3), "yz": U8(10)}  # fmt: skip
    agree(kind, operands, tolerance=1.01, dtype=U8)


def test_quantised_average_and_activations() -> None:
    x = np.random.default_rng(0).integers(0, 255, (1, 2, 4, 4)).astype(U8)
    rest = {"xs": F(0.1), "xz": U8(100), "ys": F(0.05), "yz": U8(10)}
    agree("QLinearGlobalAveragePool", {"x": x, **rest}, tolerance=1.01, dtype=U8)
    agree("QLinearLeakyRelu", {"x": x, **rest}, tolerance=1.01, dtype=U8, alpha=0.2)
    agree("QLinearSigmoid", {"x": x, **rest}, tolerance=1.01, dtype=U8)


def test_products_of_dynamically_quantised_operands() -> None:
    # Seven bits: ONNX Runtime's sums of 8-bit products saturate in 16 bits on some CPUs.
    w = np.random.default_rng(0).integers(-64, 63, (8, 4)).astype(I8)
    agree("DynamicQuantizeMatMul", {"x": random(3, 8), "w": w, "s": F(0.1)}, tolerance=1e-3)
    x = np.random.default_rng(1).integers(0, 255, (3, 8)).astype(U8)
    agree("MatMulIntegerToFloat",
          {"x": x, "w": w, "xs": F(0.1), "ws": F(0.2), "xz": U8(3), "wz": I8(1)})  # fmt: skip


def test_products_of_bytes_with_weights_that_are_known() -> None:
    rng = np.random.default_rng(5)
    w = rng.integers(-64, 63, (12, 9)).astype(I8)  # seven bits, for the reason above
    scales = {"s": F(0.1), "wz": I8(1)}
    agree("DynamicQuantizeMatMul", {"x": random(3, 12), "w": w, **scales}, tolerance=1e-3,
          constant=["w", *scales])  # fmt: skip
    x = rng.integers(0, 255, (3, 12)).astype(U8)
    rest = {"xs": F(0.1), "ws": F(0.2), "xz": U8(3), "wz": I8(1)}
    agree("MatMulIntegerToFloat", {"x": x, "w": w, **rest}, constant=["w", *rest])
    turned = np.ascontiguousarray(w.T)
    rest = {"xs": F(0.1), "xz": U8(3), "w": turned, "ws": F(0.2), "wz": I8(0),
            "b": rng.integers(-99, 99, 9).astype(I32)}  # fmt: skip
    agree("QGemm", {"x": x, **rest}, constant=list(rest), transB=1)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("kind", [U8, I8])
def test_lstm_of_bytes(kind: Any, columns: bool) -> None:
    rng, size = np.random.default_rng(2), 8
    low = 64 if kind is U8 else 0  # seven bits, for the reason above
    w, r = (rng.integers(low - 64, low + 63, (2, n, 4 * size)).astype(kind) for n in (12, size))
    each = (2, 4 * size) if columns else (2,)
    zeros = {"wz": np.full(each, low, kind), "rz": np.full(each, low, kind)}
    scales = {n: (rng.random(each) * 0.01 + 0.005).astype(F) for n in ("ws", "rs")}
    operands = {
        "x": random(7, 1, 12), "w": w, "r": r, "b": random(2, 8 * size), "_1": None,
        "h": random(2, 1, size, seed=1), "c": random(2, 1, size, seed=2), "_2": None,
        "ws": scales["ws"], "wz": zeros["wz"], "rs": scales["rs"], "rz": zeros["rz"],
    }  # fmt: skip
    constant = [n for n in operands if n in ("w", "r", *scales, *zeros)]
    agree("DynamicQuantizeLSTM", operands, "y yh yc", tolerance=1e-4, constant=constant,
          hidden_size=size, direction="bidirectional")  # fmt: skip
