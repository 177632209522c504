"""ONNX rules of ai.onnx.ml that prepare features: scaling, filling in, encoding numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx.model import Array, Op
from ferrule.frontend.onnx.rules.attention import INNER
from ferrule.frontend.onnx.rules.ml_scores import feature_count, one_or_each, rows_of
from ferrule.frontend.onnx.table import ML, Attributes, Context, onnx
from ferrule.ir.expr import product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify


@onnx("Scaler", domain=ML)
def _scaler(cx: Context, x: Value) -> Value:
    offset, scale = (np.array(cx.floats(n, ()), np.float32) for n in ("offset", "scale"))
    out = ops.cast(cx.b, x, f32)
    for name, held, apply in (("offset", offset, ops.sub), ("scale", scale, ops.mul)):
        if held.size:
            out = apply(cx.b, out, cx.array(_for_last(cx, name, held, x)))
    return out


def _for_last(cx: Context, name: str, held: Array, x: Value) -> Array:
    """Numbers for the last axis of x."""
    last = x.shape[-1]
    if not last.is_const:
        raise UnsupportedError(f"{cx.op.type} takes a known number of features, not {x.type}")
    return one_or_each(name, held, int(last.value))


@onnx("Normalizer", domain=ML)
def _normalizer(cx: Context, x: Value) -> Value:
    b, kind, rows = cx.b, cx.text("norm", "MAX"), ops.cast(cx.b, x, f32)
    last = (rows.rank - 1,)
    if kind == "MAX":
        size = ops.reduce_max(b, rows, last, True)
    elif kind == "L1":
        size = ops.reduce_sum(b, ops.abs(b, rows), last, True)
    elif kind == "L2":
        size = ops.sqrt(b, ops.reduce_sum(b, ops.square(b, rows), last, True))
    else:
        raise InputError(f"norm is MAX, L1 or L2, not {kind!r}")
    return ops.div(b, rows, ops.select(b, ops.eq(b, size, 0.0), 1.0, size))


@onnx("Binarizer", domain=ML)
def _binarizer(cx: Context, x: Value) -> Value:
    return ops.cast(cx.b, ops.gt(cx.b, x, cx.float("threshold", 0.0)), x.dtype)


@onnx("Imputer", domain=ML)
def _imputer(cx: Context, x: Value) -> Value:
    b, real = cx.b, x.dtype.is_float
    name, kind = ("floats", "float") if real else ("int64s", "int64")
    held = np.array((cx.floats if real else cx.ints)(f"imputed_value_{name}"), x.dtype.numpy)
    fresh = cx.array(_for_last(cx, f"imputed_value_{name}", held, x))
    gone = cx.get(f"replaced_value_{kind}")
    gone = (np.nan if real else 0) if gone is None else gone
    missing = ops.isnan(b, x) if gone != gone else ops.eq(b, x, gone)
    return ops.select(b, missing, fresh, x)


@onnx("FeatureVectorizer", domain=ML)
def _vectorizer(cx: Context, *given: Value) -> Value:
    """The first columns of each operand side by side, zeros where it has fewer."""
    widths = cx.ints("inputdimensions", ())
    parts = []
    for i, x in enumerate(given):
        rows = rows_of(cx, x)
        width, own = widths[i] if i < len(widths) else -1, feature_count(cx, rows)
        if width >= 0 and width < own:
            rows = ops.slice_axis(cx.b, rows, 1, 0, width)
        elif width > own:
            rows = ops.pad(cx.b, rows, (0, 0), (0, width - own))
        parts.append(rows)
    return ops.concat(cx.b, parts, 1)


@onnx("ArrayFeatureExtractor", domain=ML)
def _features(cx: Context, x: Value, places: Value) -> Value:
    wide = ops.unsqueeze(cx.b, x, 0) if x.rank == 1 else x
    flat = ops.reshape(cx.b, places, (simplify(product(places.shape)),))
    return ops.take(cx.b, wide, flat, wide.rank - 1)


# ---- encoders ------------------------------------------------------------------------------------


def encoded(op: Op) -> list[Op]:
    """An encoder of numbers by numbers as one that is compiled; one of strings as it is."""
    strings = any(n in op.attrs for n in ("keys_strings", "values_strings", "classes_strings"))
    held = [op.attrs.get(f"{n}_tensor") for n in ("keys", "values")]
    if strings or any(x is not None and np.asarray(x).dtype == np.dtype(object) for x in held):
        return [op]
    return [replace(op, type="EncodeNumbers", domain=INNER, version=1)]


def one_hot(op: Op) -> list[Op]:
    """A OneHotEncoder of numbers as one that is compiled, where what is unknown is no error."""
    if op.attrs.get("cats_strings") or not op.attrs.get("zeros", 1):
        return [op]
    return [replace(op, type="OneHotNumbers", domain=INNER, version=1)]


def table(a: Attributes, name: str) -> Array:
    """The keys or the values of a LabelEncoder. Raises UnsupportedError where there are none."""
    if a.has(f"{name}_tensor"):
        return np.asarray(a.get(f"{name}_tensor")).reshape(-1)
    kinds: tuple[tuple[str, Any], ...] = (
        ("strings", object), ("int64s", np.int64), ("floats", np.float32),
    )  # fmt: skip
    for kind, dtype in kinds:
        if a.has(f"{name}_{kind}"):
            return np.array(a.get(f"{name}_{kind}"), dtype)
    raise UnsupportedError(f"a LabelEncoder without {name}")


def default(a: Attributes, dtype: np.dtype[Any]) -> Any:
    """What stands for elements that are no key."""
    if a.has("default_tensor"):
        return np.asarray(a.get("default_tensor")).reshape(-1)[0]
    if dtype == np.dtype(object):
        return a.text("default_string", "_Unused")
    return a.int("default_int64", -1) if dtype.kind == "i" else a.float("default_float", -0.0)


@onnx("EncodeNumbers", domain=INNER)
def _encode(cx: Context, x: Value) -> Value:
    """Each element's value, found among sorted keys by halving."""
    b, keys, values = cx.b, table(cx, "keys"), table(cx, "values")
    rest = np.array(default(cx, values.dtype), values.dtype)
    if len(keys) != len(values):
        raise InputError(f"a LabelEncoder has {len(keys)} keys and {len(values)} values")
    keys = keys.astype(x.dtype.numpy)
    _, last = np.unique(keys[::-1], return_index=True)  # of equal keys the last one holds
    order = len(keys) - 1 - last
    unknown = np.isnan(keys[order]) if x.dtype.is_float else np.zeros(len(order), bool)
    for_nan = values[order][unknown]
    keys, values = keys[order][~unknown], values[order][~unknown]
    out: Value | None = None
    if len(keys):
        place = _search(cx, x, keys)
        same = ops.eq(b, ops.take(b, cx.array(keys), place), x)
        out = ops.select(b, same, ops.take(b, cx.array(values), place), cx.array(rest))
    else:
        out = ops.full(b, x.shape, rest.item(), cx.array(rest).dtype)
    if for_nan.size:
        out = ops.select(b, ops.isnan(b, x), cx.array(for_nan[-1:].reshape(())), out)
    return out


def _search(cx: Context, x: Value, keys: Array) -> Value:
    """The place of the greatest of sorted keys that is not above x, 0 if there is none."""
    b, place = cx.b, ops.full(cx.b, x.shape, 0, i64)
    held, step = cx.array(keys), 1 << (len(keys) - 1).bit_length()
    while step := step // 2:
        further = ops.min(b, ops.add(b, place, step), len(keys) - 1)
        below = ops.le(b, ops.take(b, held, further), x)
        place = ops.select(b, below, further, place)
    return place


@onnx("OneHotNumbers", domain=INNER)
def _one_hot(cx: Context, x: Value) -> Value:
    categories = np.array(cx.ints("cats_int64s"), np.int64)
    whole = ops.unsqueeze(cx.b, ops.cast(cx.b, x, i64), x.rank)
    return ops.cast(cx.b, ops.eq(cx.b, whole, cx.array(categories)), f32)
