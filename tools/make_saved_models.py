"""Writes the SavedModels of the tests, and what TensorFlow computes with them.

    python tools/make_saved_models.py [FOLDER]

Needs TensorFlow, which the tests do not. Each NAME.zip holds a small SavedModel, and in
`expected.npz` the inputs of its signature (`in:NAME`) and its outputs for them (`out:NAME`).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parent.parent / "tests/frontend/tensorflow/data"
_WHEN = (2026, 1, 1, 0, 0, 0)

Made = tuple[Any, dict[str, Any]]
MODELS: dict[str, Callable[[], Made]] = {}
"""Each gives a module, a Keras model or a tf.function of a signature, and arrays by input."""


def made(fn: Callable[[], Made]) -> Callable[[], Made]:
    MODELS[fn.__name__] = fn
    return fn


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@made
def mlp() -> Made:
    x = keras.Input((6,), name="x")
    y = keras.layers.Dense(16, activation="gelu")(x)
    y = keras.layers.LayerNormalization()(y)
    y = keras.layers.Dropout(0.5)(y)
    return keras.Model(x, keras.layers.Dense(4, activation="softmax")(y)), {"x": normal(5, 6)}


@made
def cnn() -> Made:
    layers = keras.layers
    x = keras.Input((12, 12, 3), name="x")
    y = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(y)
    y = layers.DepthwiseConv2D(3, padding="valid")(y)
    y = layers.ReLU(6.0)(y)
    y = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(y)
    y = layers.MaxPooling2D(2, padding="same")(y)
    y = layers.AveragePooling2D(3, strides=1, padding="same")(y)
    y = layers.SeparableConv2D(6, 3, padding="same", activation="silu")(y)
    y = layers.UpSampling2D(2, interpolation="bilinear")(y)
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, layers.Dense(3)(y)), {"x": normal(2, 12, 12, 3)}


@made
def transformer() -> Made:
    layers = keras.layers
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    y = layers.Embedding(20, 16)(tokens)
    a = layers.MultiHeadAttention(2, 8)(y, y, use_causal_mask=True)
    y = layers.LayerNormalization()(y + a)
    f = layers.Dense(32, activation="relu")(y)
    y = layers.LayerNormalization()(y + layers.Dense(16)(f))
    return keras.Model(tokens, layers.Dense(20)(y)), {
        "tokens": np.random.default_rng(0).integers(0, 20, (2, 7)).astype(np.int32)
    }


def _recurrent(*layers: Any) -> Made:
    x = keras.Input((None, 5), name="x")
    y = x
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y), {"x": normal(3, 6, 5)}


@made
def lstm() -> Made:
    return _recurrent(keras.layers.LSTM(4, return_sequences=True), keras.layers.LSTM(3))


@made
def gru() -> Made:
    return _recurrent(keras.layers.GRU(4, return_sequences=True), keras.layers.GRU(3))


@made
def bidirectional() -> Made:
    return _recurrent(
        keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True)),
        keras.layers.SimpleRNN(3),
    )


@made
def masked() -> Made:
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    y = keras.layers.Embedding(9, 5, mask_zero=True)(tokens)
    y = keras.layers.LSTM(4)(y)
    return keras.Model(tokens, y), {"tokens": np.array([[1, 2, 3, 0], [4, 5, 0, 0]], np.int32)}


class Control(tf.Module):
    """Branches and loops, TensorArrays, and what else a function may have."""

    def __init__(self) -> None:
        self.w = tf.Variable(normal(4, 4) * 0.3, name="w")
        self.steps = tf.Variable(3, name="steps")

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 4), tf.float32, "x"), tf.TensorSpec((), tf.int32, "n")
        ]
    )  # fmt: skip
    def __call__(self, x: Any, n: Any) -> Any:
        y = x
        for _ in tf.range(n):
            y = tf.tanh(y @ self.w) + x
        rows = tf.TensorArray(tf.float32, size=4)
        total = tf.zeros_like(x)
        for t in tf.range(4):
            total = total * 0.5 + y * tf.cast(t, tf.float32)
            rows = rows.write(t, tf.reduce_sum(total, -1))
        far = tf.reduce_sum(x) > 0.0
        if far:
            z, k = y + 1.0, n + 1
        else:
            z, k = y * 2.0, n - 1
        while tf.reduce_max(tf.abs(z)) > 0.5:
            z = z * 0.5
            k += self.steps
        return {"y": y, "rows": rows.stack(), "z": z, "k": k}


@made
def control() -> Made:
    return Control(), {"x": normal(3, 4), "n": np.array(2, np.int32)}


def exported(model: Any, folder: str) -> None:
    """Writes a model as a SavedModel with the signature "serving_default"."""
    if isinstance(model, keras.Model):
        model.export(folder, verbose=False)
    else:
        tf.saved_model.save(model, folder, signatures=model.__call__.get_concrete_function())


def expected(folder: str, feed: dict[str, Any]) -> dict[str, Any]:
    """What TensorFlow makes of the inputs."""
    run = tf.saved_model.load(folder).signatures["serving_default"]
    found = run(**{name: tf.constant(x) for name, x in feed.items()})
    return {name: np.asarray(x) for name, x in found.items()}


def write(name: str, folder: Path) -> None:
    """Writes NAME.zip."""
    keras.utils.set_random_seed(7)
    model, feed = MODELS[name]()
    with tempfile.TemporaryDirectory() as place:
        exported(model, place)
        arrays = {f"in:{k}": x for k, x in feed.items()}
        arrays |= {f"out:{k}": x for k, x in expected(place, feed).items()}
        shutil.rmtree(Path(place, "assets"), ignore_errors=True)
        Path(place, "fingerprint.pb").unlink(missing_ok=True)
        np.savez(Path(place, "expected.npz"), **arrays)
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_LZMA) as out:
            for file in sorted(Path(place).rglob("*")):
                if file.is_file():
                    info = zipfile.ZipInfo(str(file.relative_to(place)), _WHEN)
                    info.compress_type = zipfile.ZIP_LZMA
                    out.writestr(info, file.read_bytes())


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for each in MODELS:
        write(each, target)
        print(each, (target / f"{each}.zip").stat().st_size)
