"""Quantised operators, against their definitions in whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.frontend.tensorflow.convert import convert
from ferrule.frontend.tflite.model import Lite, Operator, Quant, SubGraph, Tensor, single
from ferrule.frontend.tflite.program import SERVING, program_of
from ferrule.frontend.tflite.rules import LITE
from ferrule.frontend.tflite.rules.bytes import factors
from ferrule.ir.interp import run_graph


def ran(op: str, tensors: list[Tensor], x: Any, **options: Any) -> Any:
    """What an operator of these tensors makes of x: the first is its input, the last its output."""
    made = len(tensors) - 1
    graph = SubGraph(
        "main", tuple(tensors), (0,), (made,),
        (Operator(op, tuple(range(made)), (made,), options),),
    )  # fmt: skip
    program = program_of(Lite((graph,)))
    found = convert(program, program.signatures[SERVING], lambda n: np.zeros(()), "main", LITE)
    (y,) = run_graph(found.graph, [x, *found.params])
    return y


def test_factors_are_scales_of_31_bits() -> None:
    scales = np.array([1e-3, 0.5, 0.75, 1.0, 3.7, 1 - 2.0**-40, 2.0**-40])
    wide, shift = factors(scales)
    assert ((wide == 0) | ((wide >= 1 << 30) & (wide < 1 << 31))).all()
    np.testing.assert_allclose(wide * 2.0 ** (shift - 31), scales, 1e-9, 2.0**-32)


@pytest.mark.parametrize("axis", [None, 0])
def test_a_layer_of_bytes_is_rounded_once(axis: int | None) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (4, 20)).astype(np.int8)
    w = rng.integers(-127, 128, (7, 20)).astype(np.int8)
    bias = rng.integers(-5000, 5000, 7).astype(np.int32)
    scale = np.array([0.02]) if axis is None else rng.uniform(0.01, 0.05, 7)
    own = Quant(scale.astype(np.float32), np.zeros(len(scale), np.int64))
    tensors = [
        Tensor("x", "INT8", x.shape, quant=single(0.05, 3)), Tensor("w", "INT8", w.shape, w, own),
        Tensor("b", "INT32", bias.shape, bias), Tensor("y", "INT8", (4, 7), quant=single(0.4, -9)),
    ]  # fmt: skip
    total = (x.astype(np.int64) - 3) @ w.T.astype(np.int64) + bias
    left, made = np.float64(np.float32(0.05)), np.float64(np.float32(0.4))
    exact = left * own.scale.astype(np.float64) / made
    wide, shift = factors(exact)
    steps = (total * wide + (np.int64(1) << (30 - shift))) >> (31 - shift)
    for activation, low in ((0, -128), (1, -9)):
        found = ran("FULLY_CONNECTED", tensors, x, fused_activation_function=activation)
        np.testing.assert_array_equal(found, np.clip(steps - 9, low, 127).astype(np.int8))


def test_activations_of_16_bits_are_computed_in_floats() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-30000, 30000, (4, 20)).astype(np.int16)
    w = rng.integers(-127, 128, (7, 20)).astype(np.int8)
    bias = rng.integers(-(1 << 33), 1 << 33, 7).astype(np.int64)
    tensors = [
        Tensor("x", "INT16", x.shape, quant=single(1e-4)),
        Tensor("w", "INT8", w.shape, w, single(0.02)),
        Tensor("b", "INT64", bias.shape, bias, single(2e-9)),
        Tensor("y", "INT16", (4, 7), quant=single(1e-3)),
    ]  # fmt: skip
    real = x * 1e-4 @ (w.T * 0.02) + bias * 2e-9
    found = ran("FULLY_CONNECTED", tensors, x)
    assert found.dtype == np.int16
    assert np.abs(found - np.clip(real / 1e-3, -32768, 32767)).max() < 0.51


def test_bytes_of_one_sign_become_those_of_the_other() -> None:
    x = np.arange(256).astype(np.uint8)
    tensors = [
        Tensor("x", "UINT8", x.shape, quant=single(0.1, 130)),
        Tensor("y", "INT8", x.shape, quant=single(0.1, 2)),
    ]
    wanted = (x.astype(int) - 128).astype(np.int8)
    np.testing.assert_array_equal(ran("QUANTIZE", tensors, x), wanted)
