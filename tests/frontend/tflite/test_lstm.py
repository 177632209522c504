"""UNIDIRECTIONAL_SEQUENCE_LSTM, which the converter of today's Keras does not write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.convert import convert
from ferrule.frontend.tflite.model import Lite, Operator, SubGraph, Tensor
from ferrule.frontend.tflite.program import SERVING, program_of
from ferrule.frontend.tflite.rules import LITE
from ferrule.ir.interp import run_graph

BATCH, STEPS, SIZE, HIDDEN, OUT = 2, 5, 4, 6, 3
KINDS = ("plain", "peepholes", "projection", "coupled")


def weights(kind: str) -> list[Any]:
    """The operands behind x up to the states: None for one that is left out."""
    rng = np.random.default_rng(0)
    out = OUT if kind == "projection" else HIDDEN

    def normal(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.4).astype(np.float32)

    held = [normal(HIDDEN, SIZE) for _ in range(4)] + [normal(HIDDEN, out) for _ in range(4)]
    held += [normal(HIDDEN) if kind == "peepholes" else None for _ in range(3)]
    held += [normal(HIDDEN) for _ in range(4)]
    held += [normal(OUT, HIDDEN), normal(OUT)] if kind == "projection" else [None, None]
    if kind == "coupled":
        held[0] = held[4] = held[11] = None
    return held


def lite(kind: str, shape: tuple[int, ...], **options: Any) -> Lite:
    """A model of one LSTM."""
    held = weights(kind)
    out = OUT if kind == "projection" else HIDDEN
    tensors = [Tensor("x", "FLOAT32", shape)]
    places = [0]
    for w in held:
        places.append(-1 if w is None else len(tensors))
        if w is not None:
            tensors.append(Tensor(f"w{len(tensors)}", "FLOAT32", w.shape, w))
    for n in (out, HIDDEN):
        places.append(len(tensors))
        tensors.append(Tensor("state", "FLOAT32", (BATCH, n), variable=True))
    tensors.append(Tensor("y", "FLOAT32", (*shape[:2], out)))
    made = len(tensors) - 1
    own = {"fused_activation_function": 4, **options}
    op = Operator("UNIDIRECTIONAL_SEQUENCE_LSTM", tuple(places), (made,), own)
    return Lite((SubGraph("main", tuple(tensors), (0,), (made,), (op,)),))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def wanted(kind: str, x: Any, clip: float) -> Any:
    """What it means, x [steps, batch, in]."""
    w = [None if v is None else v.astype(np.float64) for v in weights(kind)]
    h, c = np.zeros((BATCH, OUT if kind == "projection" else HIDDEN)), np.zeros((BATCH, HIDDEN))
    rows = []
    for now in x.astype(np.float64):
        f, g, o = (now @ w[k].T + h @ w[4 + k].T + w[11 + k] for k in (1, 2, 3))
        f = sigmoid(f + (w[9] * c if w[9] is not None else 0))
        i = 1 - f
        if kind != "coupled":
            i = now @ w[0].T + h @ w[4].T + w[11] + (w[8] * c if w[8] is not None else 0)
            i = sigmoid(i)
        c = f * c + i * np.tanh(g)
        c = np.clip(c, -clip, clip) if clip else c
        h = sigmoid(o + (w[10] * c if w[10] is not None else 0)) * np.tanh(c)
        h = h @ w[15].T + w[16] if kind == "projection" else h
        rows.append(h)
    return np.stack(rows)


def converted(model: Lite) -> Any:
    program = program_of(model)
    return convert(program, program.signatures[SERVING], lambda n: np.zeros(()), "main", LITE)


@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_an_lstm_means_its_equations(kind: str, clip: float) -> None:
    x = np.random.default_rng(1).standard_normal((BATCH, STEPS, SIZE)).astype(np.float32)
    for major in (False, True):
        given = x.transpose(1, 0, 2) if major else x
        made = converted(lite(kind, given.shape, time_major=major, cell_clip=clip))
        (found,) = run_graph(made.graph, [given, *made.params])
        found = found if major else found.transpose(1, 0, 2)
        np.testing.assert_allclose(found, wanted(kind, x.transpose(1, 0, 2), clip), 1e-5, 1e-5)


def test_another_activation_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="an LSTM of RELU6"):
        converted(lite("plain", (BATCH, STEPS, SIZE), fused_activation_function=3))
