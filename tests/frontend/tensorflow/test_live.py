"""Functions and Keras models of a TensorFlow that is loaded; skipped without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.base.errors import InputError, UnsupportedError

tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)


def test_a_function_is_compiled_for_examples() -> None:
    @tf.function
    def f(x: Any, y: Any) -> Any:
        return {"b": tf.tanh(x) @ y, "a": tf.reduce_sum(x)}

    session = ferrule.compile(f, (X, W))
    assert [p.name for p in session.get_outputs()] == ["a", "b"]
    a, b = session(X, W)
    np.testing.assert_allclose(b, np.tanh(X) @ W, 1e-5, 1e-5)
    np.testing.assert_allclose(a, X.sum(), 1e-5)
    with pytest.raises(InputError, match="can't be traced"):
        ferrule.compile(f)


def test_variables_and_tensors_are_captured() -> None:
    w, rows = tf.Variable(W), tf.constant(np.arange(100, dtype=np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 4))])
    def f(x: Any) -> Any:
        return x @ w, rows[:7]

    for given in (f, f.get_concrete_function()):
        y, r = ferrule.compile(given)(X)
        np.testing.assert_allclose(y, X @ W, 1e-5, 1e-5)
        np.testing.assert_array_equal(r, np.arange(7))


def test_a_keras_model_is_compiled() -> None:
    layers = [keras.layers.LSTM(5, return_sequences=True), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((None, 4)), *layers])
    session = ferrule.compile(model)
    for n in (2, 3):
        x = np.stack([X] * n)
        np.testing.assert_allclose(session(x), model(x), 1e-5, 1e-5)


def test_a_function_that_writes_is_refused() -> None:
    v = tf.Variable(X)

    @tf.function(input_signature=[tf.TensorSpec((4,))])
    def f(x: Any) -> Any:
        v[0].assign(x)
        return x

    with pytest.raises(UnsupportedError, match="writes into its variables"):
        ferrule.compile(f)
