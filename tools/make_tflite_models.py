"""Writes the TensorFlow Lite files of the tests, and what LiteRT computes with them.

    python tools/make_tflite_models.py [FILE.tar.xz]

Needs TensorFlow and ai-edge-litert, which the tests do not. The file holds NAME.tflite and NAME.npz
for each model, the latter with inputs (`in0`..) and outputs (`out0`..) in the model's order. NAME
ends in how the model was converted: `float`, `int8` (all of it, arrays included), `dynamic` (bytes
as weights) or `f16`. Outputs are those of the kernels without delegates; `spread0`.. say how far
the outputs by XNNPACK are from them.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

FILE = Path(__file__).parent.parent / "tests/frontend/tflite/data/models.tar.xz"
FLOAT, INT8 = ("float",), ("float", "int8")
WEIGHTS = ("float", "int8", "dynamic")
ALL = (*WEIGHTS, "f16")

Case = tuple[Any, Sequence[Any], Sequence[str]]
CASES: dict[str, Case] = {}
"""name -> (a function or a Keras model, its inputs, how it is converted)."""


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole(low: int, high: int, *shape: int) -> Any:
    return np.random.default_rng(0).integers(low, high, shape).astype(np.int32)


def operators() -> None:
    """Models of one operator, or of few."""
    x, y, image = normal(3, 8), normal(3, 8, seed=1), normal(2, 4, 5, 3)
    above, below = np.abs(x) + np.float32(0.3), np.abs(y) + np.float32(0.3)
    raw = tf.raw_ops
    for name in ("abs", "exp", "sigmoid", "negative", "tanh", "sin", "cos", "square"):
        CASES[name] = getattr(tf.math, name), [x], INT8
    for name in ("elu", "relu", "relu6", "gelu", "softmax", "log_softmax", "leaky_relu", "silu"):
        CASES[name] = getattr(tf.nn, name), [x], INT8
    for name in ("ceil", "floor", "round", "sign"):
        CASES[name] = getattr(tf.math, name), [x], FLOAT
    for name in ("log", "sqrt", "rsqrt"):
        CASES[name] = getattr(tf.math, name), [above], INT8
    CASES["gelu_tanh"] = lambda x: tf.nn.gelu(x, True), [x], INT8
    CASES["hard_swish"] = lambda x: x * tf.nn.relu6(x + 3) * (1 / 6), [x], INT8
    CASES["clip"] = lambda x: tf.clip_by_value(x, -1.0, 1.0), [x], INT8
    CASES["clip_01"] = lambda x: tf.clip_by_value(x, 0.0, 1.0), [x], INT8
    CASES["l2_normalize"] = lambda x: tf.math.l2_normalize(x, -1), [x], INT8
    for name in ("add", "subtract", "multiply", "maximum", "minimum", "squared_difference"):
        CASES[name] = getattr(tf.math, name), [x, y], INT8
    CASES["add_row"] = tf.add, [x, normal(8, seed=1)], INT8
    CASES["add_relu"] = lambda x, y: tf.nn.relu(x + y), [x, y], INT8
    CASES["multiply_relu6"] = lambda x, y: tf.nn.relu6(x * y), [x, y], INT8
    CASES["divide"] = tf.divide, [x, below], FLOAT
    CASES["pow"] = tf.pow, [above, y], FLOAT
    CASES["atan2"] = tf.atan2, [x, y], FLOAT
    CASES["floordiv"] = tf.math.floordiv, [whole(-20, 20, 3, 8), whole(1, 6, 3, 8)], FLOAT
    CASES["floormod"] = tf.math.floormod, [whole(-20, 20, 3, 8), whole(1, 6, 3, 8)], FLOAT
    CASES["truncatediv"] = (
        lambda x, y: raw.Div(x=x, y=y), [whole(-20, 20, 3, 8), whole(1, 6, 3, 8)], FLOAT
    )  # fmt: skip
    for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        CASES[name] = getattr(tf.math, name), [np.round(x), np.round(y)], INT8
    CASES["logical"] = lambda x, y: tf.logical_and(x, tf.logical_not(y)), [x > 0, y > 0], FLOAT
    CASES["bits"] = (
        lambda x, y: tf.bitwise.bitwise_xor(tf.bitwise.right_shift(x, 2), y),
        [whole(0, 500, 8), whole(0, 9, 8)], FLOAT,
    )  # fmt: skip
    CASES["select"] = tf.where, [x > 0, x, normal(1, 8, seed=2)], INT8
    for name in ("mean", "sum", "max", "min"):
        fold = getattr(tf, f"reduce_{name}")
        CASES[name] = lambda x, fold=fold: fold(x, [1, 2]), [image], INT8
        CASES[f"{name}_kept"] = lambda x, fold=fold: fold(x, -1, keepdims=True), [image], INT8
    CASES["prod"] = lambda x: tf.reduce_prod(x, 1), [x], FLOAT
    CASES["any_all"] = lambda x: (tf.reduce_any(x, 1), tf.reduce_all(x, 1)), [x > 0], FLOAT
    shapes(x, y, image)
    places(x, y, image)
    products(image)


def shapes(x: Any, y: Any, image: Any) -> None:
    """Operators that move elements."""
    raw = tf.raw_ops
    CASES["reshape"] = lambda x: tf.reshape(x, [2, -1]), [image], INT8
    CASES["transpose"] = lambda x: tf.transpose(x, [0, 3, 1, 2]), [image], INT8
    CASES["concat"] = lambda x, y: tf.concat([x * 3.0, y, tf.tanh(x)], -1), [x, y], INT8
    CASES["split"] = lambda x: tf.split(x, 2, -1), [x], INT8
    CASES["split_v"] = lambda x: tf.split(x, [3, 5], -1), [x], INT8
    CASES["stack"] = lambda x, y: tf.stack([x, y], 1), [x, y], INT8
    CASES["unstack"] = lambda x: tf.unstack(x, axis=0), [x], INT8
    CASES["slice"] = lambda x: tf.slice(x, [1, 2], [2, -1]), [x], INT8
    CASES["strided_slice"] = lambda x: x[::-1, 1:7:2], [x], INT8
    CASES["strided_slice_new"] = lambda x: x[1, tf.newaxis, ..., 2:], [image], INT8
    CASES["pad"] = lambda x: tf.pad(x, [[1, 0], [2, 1]]), [x], INT8
    CASES["pad_value"] = lambda x: tf.pad(x, [[1, 0], [2, 1]], constant_values=-1.5), [x], INT8
    CASES["pad_mirror"] = lambda x: tf.pad(x, [[1, 0], [2, 1]], "REFLECT"), [x], INT8
    CASES["space_to_depth"] = lambda x: tf.nn.space_to_depth(x, 2), [normal(2, 6, 8, 4)], INT8
    CASES["depth_to_space"] = lambda x: tf.nn.depth_to_space(x, 2), [normal(2, 6, 8, 4)], INT8
    CASES["space_to_batch"] = (
        lambda x: raw.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[1, 1], [0, 0]]),
        [normal(2, 6, 8, 4)], INT8,
    )  # fmt: skip
    CASES["batch_to_space"] = (
        lambda x: raw.BatchToSpaceND(input=x, block_shape=[2, 2], crops=[[1, 0], [0, 0]]),
        [normal(8, 3, 4, 2)], INT8,
    )  # fmt: skip
    CASES["expand_dims"] = lambda x: tf.expand_dims(x, 1), [x], INT8
    CASES["squeeze"] = lambda x: tf.squeeze(x, 1), [normal(3, 1, 4)], INT8
    CASES["tile"] = lambda x: tf.tile(x, [2, 3]), [x], INT8
    CASES["broadcast_to"] = lambda x: tf.broadcast_to(x, [4, 3, 8]), [x], INT8
    CASES["shape"] = lambda x: tf.shape(x) + 1, [x], FLOAT
    CASES["fill"] = lambda v: tf.fill([3, 4], v), [np.float32(2.5)], FLOAT
    CASES["range"] = lambda x: tf.range(tf.shape(x)[0]) + 1, [x], FLOAT
    CASES["reverse"] = lambda x: tf.reverse(x, [1]), [x], INT8
    CASES["cast"] = lambda x: (tf.cast(x, tf.int32), tf.cast(x > 0, tf.float32)), [x * 9], FLOAT
    for corners, half in ((False, False), (True, False), (False, True)):
        flags = {"size": [9, 11], "align_corners": corners, "half_pixel_centers": half}
        for kind in ("Bilinear", "NearestNeighbor"):
            CASES[f"resize_{kind}_{corners:d}{half:d}"] = (
                lambda x, k=kind, f=flags: getattr(raw, f"Resize{k}")(images=x, **f), [image], INT8
            )  # fmt: skip


def places(x: Any, y: Any, image: Any) -> None:
    """Operators by places, orders and along a dimension."""
    CASES["gather"] = lambda x, k: tf.gather(x, k, axis=1), [x, whole(0, 8, 3)], INT8
    CASES["gather_nd"] = tf.gather_nd, [x, whole(0, 3, 4, 2)], INT8
    CASES["one_hot"] = lambda k: tf.one_hot(k, 5, 2.0, -1.0), [whole(0, 5, 3, 2)], FLOAT
    CASES["argmax"] = lambda x: tf.argmax(x, -1, tf.int32), [x], INT8
    CASES["argmin"] = lambda x: tf.argmin(x, 0), [x], INT8
    CASES["top_k"] = lambda x: tf.math.top_k(x, 3), [x], INT8
    CASES["cumsum"] = lambda x: tf.cumsum(x, 0, exclusive=True, reverse=True), [x], FLOAT
    CASES["reverse_sequence"] = (
        lambda x, n: tf.reverse_sequence(x, n, 1), [x, np.array([2, 8, 5], np.int32)], FLOAT
    )  # fmt: skip
    CASES["scatter_nd"] = (
        lambda k, u: tf.scatter_nd(k, u, [6, 3]), [np.array([[4], [1]], np.int32), normal(2, 3)],
        FLOAT,
    )  # fmt: skip
    CASES["lrn"] = (
        lambda x: tf.nn.local_response_normalization(x, 2, 1.0, 0.1, 0.5), [image], FLOAT
    )  # fmt: skip
    CASES["cond"] = (
        lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x - 1), [x], FLOAT
    )  # fmt: skip
    CASES["while_counted"] = (
        lambda x: tf.while_loop(lambda k, y: k < 5, lambda k, y: (k + 1, y * 1.5 - 1), [0, x])[1],
        [x], FLOAT,
    )  # fmt: skip
    CASES["while_data"] = (
        lambda x: tf.while_loop(lambda y: tf.reduce_sum(y) < 50, lambda y: y * 1.5 + 1, [x])[0],
        [x], FLOAT,
    )  # fmt: skip


def products(image: Any) -> None:
    """Products, convolutions, pools."""
    few = normal(2, 5, 5, 8)
    w, bias = normal(3, 3, 8, 16, seed=2) * np.float32(0.3), normal(16, seed=3)
    for padding, stride, dilation in (("SAME", 1, 1), ("VALID", 2, 1), ("SAME", 1, 2)):
        CASES[f"conv_{padding}_{stride}{dilation}"] = (
            lambda x, p=padding, s=stride, d=dilation: tf.nn.conv2d(x, w, s, p, dilations=d) + bias,
            [few], WEIGHTS,
        )  # fmt: skip
    CASES["conv_relu6"] = (
        lambda x: tf.nn.relu6(tf.nn.conv2d(x, w, 2, "SAME") + bias), [few], WEIGHTS
    )  # fmt: skip
    CASES["conv_groups"] = (
        lambda x: tf.nn.conv2d(x, w[:, :, :2], 1, "SAME"), [few], FLOAT
    )  # fmt: skip
    for factor, stride, channels in ((1, 1, 120), (1, 2, 12), (2, 1, 12)):
        wide = normal(2, 3, 2, channels)
        own = normal(3, 3, channels, factor, seed=2) * np.float32(0.3)
        CASES[f"depthwise_{factor}{stride}"] = (
            lambda x, s=stride, v=own: tf.nn.depthwise_conv2d(x, v, [1, s, s, 1], "SAME"), [wide],
            WEIGHTS,
        )  # fmt: skip
    turned = normal(3, 3, 16, 8, seed=2) * np.float32(0.3)
    for padding, size in (("SAME", (6, 8)), ("VALID", (7, 9))):
        CASES[f"transposed_{padding}"] = (
            lambda x, p=padding, n=size: bias + tf.nn.conv2d_transpose(
                x, turned, [2, *n, 16], 2, p
            ),
            [normal(2, 3, 4, 8)], WEIGHTS,
        )  # fmt: skip
    deep = normal(2, 3, 3, 3, 5, seed=2)
    CASES["conv3d"] = (
        lambda x: tf.nn.conv3d(x, deep, [1, 1, 2, 1, 1], "SAME"), [normal(1, 3, 4, 5, 3)], FLOAT
    )  # fmt: skip
    square = normal(32, 33, seed=2)
    CASES["dense"] = lambda x: tf.matmul(x, square) + normal(33), [normal(3, 32)], WEIGHTS
    CASES["dense_relu"] = lambda x: tf.nn.relu(tf.matmul(x, square)), [normal(3, 32)], WEIGHTS
    CASES["dense_rank3"] = lambda x: tf.matmul(x, square), [normal(2, 3, 32)], WEIGHTS
    CASES["matmul"] = tf.matmul, [normal(2, 5, 8), normal(2, 8, 6, seed=1)], INT8
    CASES["matmul_turned"] = (
        lambda x, y: tf.matmul(x, y, transpose_b=True), [normal(2, 5, 8), normal(2, 6, 8, seed=3)],
        INT8,
    )  # fmt: skip
    for padding in ("SAME", "VALID"):
        CASES[f"max_pool_{padding}"] = (
            lambda x, p=padding: tf.nn.max_pool2d(x, 3, 2, p), [image], INT8
        )  # fmt: skip
        CASES[f"avg_pool_{padding}"] = (
            lambda x, p=padding: tf.nn.avg_pool2d(x, 3, 2, p), [image], INT8
        )  # fmt: skip


def models() -> None:
    """Whole models."""
    layers = keras.layers
    x = keras.Input((12, 12, 3))
    y = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same")(layers.BatchNormalization()(y))
    y = layers.Conv2D(16, 1)(layers.ReLU(6.0)(y))
    y = layers.AveragePooling2D(3, strides=1, padding="same")(layers.MaxPooling2D(2)(y))
    y = layers.Dense(24, activation="relu")(layers.GlobalAveragePooling2D()(y))
    cnn = keras.Model(x, layers.Dense(10, activation="softmax")(y))
    CASES["cnn"] = cnn, [normal(2, 12, 12, 3)], ALL
    x = keras.Input((4, 4, 8))
    y = layers.Conv2DTranspose(15, 3, strides=2, padding="same", activation="relu")(x)
    y = layers.UpSampling2D(2, interpolation="bilinear")(y)
    y = layers.Conv2D(3, 3, padding="same", dilation_rate=2)(layers.Concatenate()([y, y]))
    CASES["decoder"] = keras.Model(x, layers.ZeroPadding2D(1)(y)), [normal(1, 4, 4, 8)], WEIGHTS
    x = keras.Input((6, 16))
    y = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    y = y + layers.Dense(16)(layers.Dense(65, activation="gelu")(y))
    block = keras.Model(x, layers.Dense(10)(layers.GlobalAveragePooling1D()(y)))
    CASES["transformer"] = block, [normal(1, 6, 16)], WEIGHTS
    tokens = keras.Input((7,), dtype="int32", batch_size=1)
    y = layers.Embedding(20, 8)(tokens)
    y = layers.LSTM(4)(layers.LSTM(6, return_sequences=True)(y))
    ids = np.arange(7, dtype=np.int32).reshape(1, 7)
    CASES["lstm"] = keras.Model(tokens, layers.Dense(5)(y)), [ids], FLOAT
    y = layers.Bidirectional(layers.GRU(4))(layers.Embedding(20, 8)(tokens))
    CASES["gru"] = keras.Model(tokens, layers.Dense(5)(y)), [ids], FLOAT


# ---- converted and run ---------------------------------------------------------------------------


def converted(model: Any, arrays: Sequence[Any], mode: str) -> bytes:
    """A function or model as a file."""
    if isinstance(model, keras.Model):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
    else:
        specs = [tf.TensorSpec(np.shape(a), np.asarray(a).dtype) for a in arrays]
        f = tf.function(lambda *xs: model(*xs), input_signature=specs).get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([f])
    if mode != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "f16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        converter.representative_dataset = lambda: samples(arrays)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def samples(arrays: Sequence[Any]) -> Iterator[list[Any]]:
    """Inputs that the ranges of quantised tensors are taken from."""
    yield list(arrays)
    for factor in (0.5, 1.25):
        yield [a * np.float32(factor) if a.dtype == np.float32 else a for a in arrays]


def run(data: bytes, arrays: Sequence[Any], kind: OpResolverType) -> tuple[list[Any], list[Any]]:
    """(inputs, outputs) of a call; floats are rounded where the model takes bytes."""
    own = Interpreter(model_content=data, experimental_op_resolver_type=kind)
    for d, x in zip(own.get_input_details(), arrays):
        own.resize_tensor_input(d["index"], np.shape(x))
    own.allocate_tensors()
    given = []
    for d, x in zip(own.get_input_details(), arrays):
        scale, zero = d["quantization"]
        if d["dtype"] == np.int8 and scale:
            x = np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)
        own.set_tensor(d["index"], x)
        given.append(x)
    own.invoke()
    return given, [own.get_tensor(d["index"]) for d in own.get_output_details()]


def spread(found: Any, other: Any) -> Any:
    """How far results of two kernels are apart."""
    return np.abs(found.astype(np.float64) - other.astype(np.float64)).max(initial=0)


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    keras.utils.set_random_seed(0)
    makers: tuple[Callable[[], None], ...] = (operators, models)
    for make in makers:
        make()
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:xz") as out:
        for name, (model, arrays, modes) in CASES.items():
            for mode in modes:
                data = converted(model, arrays, mode)
                given, made = run(data, arrays, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
                _, others = run(data, arrays, OpResolverType.AUTO)
                held = io.BytesIO()
                np.savez(held, **{f"in{k}": x for k, x in enumerate(given)},
                         **{f"out{k}": x for k, x in enumerate(made)},
                         **{f"spread{k}": spread(*x) for k, x in enumerate(zip(made, others))},
                )  # fmt: skip
                for suffix, content in ((".tflite", data), (".npz", held.getvalue())):
                    entry = tarfile.TarInfo(f"{name}_{mode}{suffix}")
                    entry.size = len(content)
                    out.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
