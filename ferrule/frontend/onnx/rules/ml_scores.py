"""What the models of ai.onnx.ml share: rows of features, scores that are transformed, labels.

Labels that are strings are numbers in compiled code: a node that gives them is read as one that
gives their places, and `Named` in NumPy behind it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, f32, i64
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx.model import Array, Op
from ferrule.frontend.onnx.rules.attention import INNER
from ferrule.frontend.onnx.table import ML, Attributes, Context, host
from ferrule.ir.graph import Value

KINDS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_NEARLY_ZERO = 1e-7


def rows_of(cx: Context, x: Value, dtype: DType = f32) -> Value:
    """x as [rows, features] of a dtype; one of rank 1 is a row."""
    if x.rank not in (1, 2):
        raise UnsupportedError(f"{cx.op.type} takes rows of features, not {x.type}")
    wide = ops.cast(cx.b, x, dtype)
    return wide if x.rank == 2 else ops.unsqueeze(cx.b, wide, 0)


def feature_count(cx: Context, x: Value) -> int:
    """How many features a row has. Raises UnsupportedError where that is known at a run alone."""
    if not x.shape[1].is_const:
        raise UnsupportedError(f"{cx.op.type} takes a known number of features, not {x.type}")
    return int(x.shape[1].value)


def matrix(cx: Context, name: str, rows: int, x: Value) -> Array:
    """An attribute of rows * features floats. Raises InputError where these do not fit x."""
    held, features = np.array(cx.floats(name), np.float32), feature_count(cx, x)
    if held.size != rows * features:
        raise InputError(
            f"{name!r} holds {held.size} numbers, which must be {rows} for each of the {features} "
            "features of a row"
        )
    return held.reshape(rows, features)


def one_or_each(name: str, held: Array, features: int) -> Array:
    """Numbers of which there is one for all features or one for each. Raises InputError."""
    if held.size not in (1, features):
        raise InputError(f"{name!r} holds {held.size} numbers for {features} features")
    return held


# ---- scores --------------------------------------------------------------------------------------


def transformed(cx: Context, scores: Value, kind: str) -> Value:
    """Scores [rows, classes] after `post_transform`."""
    b = cx.b
    if kind == "LOGISTIC":
        return ops.sigmoid(b, scores)
    if kind == "SOFTMAX":
        return ops.softmax(b, scores, 1)
    if kind == "SOFTMAX_ZERO":
        return _softmax_zero(cx, scores)
    if kind == "PROBIT":
        return _probit(cx, scores)
    if kind != "NONE":
        raise InputError(f"post_transform is one of {', '.join(KINDS)}, not {kind!r}")
    return scores


def _softmax_zero(cx: Context, x: Value) -> Value:
    """A softmax of what is not zero; zeros stay."""
    b = cx.b
    top = ops.reduce_max(b, x, (1,), True)
    some = ops.gt(b, ops.abs(b, x), _NEARLY_ZERO)
    e = ops.exp(b, ops.sub(b, x, top))
    total = ops.reduce_sum(b, ops.select(b, some, e, 0), (1,), True)
    rest = ops.mul(b, x, ops.exp(b, ops.neg(b, top)))
    return ops.div(b, ops.select(b, some, e, rest), total)


def _probit(cx: Context, p: Value) -> Value:
    """The quantile of the normal distribution, by Winitzki's approximation, as ONNX defines it."""
    b, a = cx.b, 0.147
    x = ops.sub(b, ops.mul(b, p, 2.0), 1.0)
    one = ops.full(b, (), 1.0, p.dtype)
    log = ops.log(b, ops.mul(b, ops.sub(b, one, x), ops.add(b, x, 1.0)))
    v = ops.add(b, ops.mul(b, log, 0.5), 2 / (3.14159 * a))
    root = ops.sqrt(b, ops.sub(b, ops.mul(b, v, v), ops.mul(b, log, 1 / a)))
    size = ops.sqrt(b, ops.sub(b, root, v))
    signed = ops.select(b, ops.lt(b, x, 0.0), ops.neg(b, size), size)
    return ops.mul(b, signed, float(np.float32(np.sqrt(2))))


def beside(cx: Context, left: Value, right: Value) -> Value:
    """Two columns [rows, 1] as [rows, 2]."""
    return ops.concat(cx.b, (left, right), 1)


def both_ways(cx: Context, score: Value) -> Value:
    """The logistic function of -score and of score."""
    return ops.sigmoid(cx.b, beside(cx, ops.neg(cx.b, score), score))


def opposite(cx: Context, score: Value) -> Value:
    """1 - score."""
    return ops.sub(cx.b, ops.full(cx.b, (), 1.0, score.dtype), score)


# ---- labels --------------------------------------------------------------------------------------

_LABELS = {
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}


def labels(cx: Context, place: Value) -> Value:
    """The labels of the classes at places [rows]."""
    known, place = class_labels(cx), ops.cast(cx.b, place, i64)
    if known == tuple(range(len(known))):
        return place
    return ops.take(cx.b, cx.array(np.array(known, np.int64)), place)


def class_labels(cx: Context) -> tuple[int, ...]:
    """The labels of all classes."""
    return cx.ints(_LABELS[cx.op.type])


def numbered(op: Op) -> list[Op]:
    """A classifier of strings as one of numbers, and their names behind it."""
    names = op.attrs.get("classlabels_strings")
    if not names:
        return [op]
    attrs = {k: a for k, a in op.attrs.items() if k != "classlabels_strings"}
    attrs[_LABELS[op.type]] = tuple(range(len(names)))
    place = f"{op.outputs[0]}/place"
    inner = replace(op, attrs=attrs, outputs=(place, *op.outputs[1:]))
    return [inner, Op("Named", INNER, 1, (place,), op.outputs[:1], {"names": names}, op.name)]


@host("Named", domain=INNER)
def _named(a: Attributes, places: Array) -> Array:
    return np.array(a.texts("names"), object)[places]


@host("ZipMap", domain=ML)
def _zip_map(a: Attributes, scores: Array) -> list[dict[int | str, float]]:
    """For each row what each label's score is."""
    ints = a.has("classlabels_int64s")
    names = a.ints("classlabels_int64s") if ints else a.texts("classlabels_strings")
    rows = scores.reshape(1, -1) if scores.ndim == 1 else scores
    if rows.shape[1] != len(names):
        raise InputError(f"ZipMap of {rows.shape[1]} columns by {len(names)} labels")
    return [dict(zip(names, row)) for row in rows.tolist()]
