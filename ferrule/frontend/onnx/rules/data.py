"""Host rules whose results' sizes depend on data, sequences, optionals, and random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.table import Attributes, element_type, host

Sequence = list[Any]
Maybe = Array | None


def number(x: Maybe, default: float = 0) -> Any:
    """The one element of an operand; `default` where it is left out."""
    return default if x is None or not x.size else x.reshape(-1)[0].item()


# ---- sizes that depend on data -------------------------------------------------------------------


@host("NonZero")
def _nonzero(a: Attributes, x: Array) -> Array:
    places = np.nonzero(np.atleast_1d(x))
    rows = len(places) if x.ndim else 0
    return np.stack(places[:rows]).astype(np.int64) if rows else np.zeros((0, 1), np.int64)


@host("Unique")
def _unique(a: Attributes, x: Array) -> tuple[Array, ...]:
    axis = a.int("axis") if a.has("axis") else None
    y = x.astype(np.float32) if x.dtype.kind == "V" else x
    parts = np.unique(y, return_index=True, return_inverse=True, return_counts=True, axis=axis)
    found, first, inverse, counts = parts
    inverse = inverse.reshape(-1)
    if not a.int("sorted", 1):
        order = np.argsort(first)
        found = np.take(found, order, 0 if axis is None else axis)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        inverse, first, counts = place[inverse], first[order], counts[order]
    rest = (np.asarray(v, np.int64) for v in (first, inverse, counts))
    return (np.asarray(found).astype(x.dtype), *rest)


@host("TopK")
def _topk(a: Attributes, x: Array, k: Maybe = None) -> tuple[Array, Array]:
    n = int(number(k)) if k is not None else a.int("k")
    axis, largest = a.int("axis", -1), bool(a.int("largest", 1))
    if not 0 <= n <= x.shape[axis]:
        raise InputError(f"TopK of {n} elements from an axis of {x.shape[axis]}")
    y = x.astype(np.float32) if x.dtype.kind == "V" else x
    size = x.shape[axis]
    turned = np.flip(y, axis) if largest else y
    order = np.argsort(turned, axis=axis, kind="stable")
    order = size - 1 - np.flip(order, axis) if largest else order
    place = np.take(order, np.arange(n), axis).astype(np.int64)
    return np.take_along_axis(x, place, axis), place


@host("NonMaxSuppression")
def _nms(
    a: Attributes, boxes: Array, scores: Array, most: Maybe = None, overlap: Maybe = None,
    least: Maybe = None,
) -> Array:  # fmt: skip
    """Greedy suppression by the intersection over union of boxes, class by class."""
    limit, threshold = int(number(most)), float(number(overlap))
    floor = None if least is None or not least.size else float(number(least))
    picked: list[tuple[int, int, int]] = []
    for batch in range(scores.shape[0]):
        corners = _corners(boxes[batch].astype(np.float32), bool(a.int("center_point_box", 0)))
        for label in range(scores.shape[1]):
            kept = _suppressed(corners, scores[batch, label], limit, threshold, floor)
            picked += [(batch, label, i) for i in kept]
    return np.array(picked, np.int64).reshape(-1, 3)


def _corners(boxes: Array, centred: bool) -> Array:
    """Boxes as (low, low, high, high)."""
    if centred:
        x, y, w, h = boxes.T
        return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], 1)
    y1, x1, y2, x2 = boxes.T
    return np.stack(
        [np.minimum(y1, y2), np.minimum(x1, x2), np.maximum(y1, y2), np.maximum(x1, x2)], 1
    )


def _suppressed(
    boxes: Array, scores: Array, limit: int, threshold: float, floor: float | None
) -> list[int]:
    order = np.argsort(-scores, kind="stable")
    if floor is not None:
        order = order[scores[order] > floor]
    kept: list[int] = []
    for i in order:
        if len(kept) >= limit:
            break
        if all(_overlap(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(int(i))
    return kept


def _overlap(p: Array, q: Array) -> float:
    low, high = np.maximum(p[:2], q[:2]), np.minimum(p[2:], q[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    total = float(np.prod(p[2:] - p[:2]) + np.prod(q[2:] - q[:2])) - shared
    return shared / total if total > 0 else 0.0


# ---- sequences and optionals ---------------------------------------------------------------------


@host("SequenceConstruct")
def _sequence(a: Attributes, *xs: Array) -> Sequence:
    return list(xs)


@host("SequenceEmpty")
def _sequence_empty(a: Attributes) -> Sequence:
    return []


@host("SequenceInsert")
def _insert(a: Attributes, xs: Sequence, x: Array, place: Maybe = None) -> Sequence:
    at = len(xs) if place is None else _place(xs, place, len(xs))
    return [*xs[:at], x, *xs[at:]]


@host("SequenceErase")
def _erase(a: Attributes, xs: Sequence, place: Maybe = None) -> Sequence:
    at = len(xs) - 1 if place is None else _place(xs, place, len(xs) - 1)
    return [*xs[:at], *xs[at + 1 :]]


@host("SequenceAt")
def _at(a: Attributes, xs: Sequence, place: Array) -> Any:
    return xs[_place(xs, place, len(xs) - 1)]


def _place(xs: Sequence, place: Array, last: int) -> int:
    at = int(number(place))
    at = at + len(xs) if at < 0 else at
    if not 0 <= at <= last:
        raise InputError(f"the position {int(number(place))} is outside of a sequence of {len(xs)}")
    return at


@host("SequenceLength")
def _length(a: Attributes, xs: Sequence) -> Array:
    return np.array(len(xs), np.int64)


@host("ConcatFromSequence")
def _concat(a: Attributes, xs: Sequence) -> Array:
    axis = a.int("axis")
    return np.stack(xs, axis) if a.int("new_axis", 0) else np.concatenate(xs, axis)


@host("SplitToSequence")
def _split(a: Attributes, x: Array, parts: Maybe = None) -> Sequence:
    axis = a.int("axis", 0)
    n = x.shape[axis]
    if parts is None:
        pieces = np.split(x, n, axis)
        return pieces if a.int("keepdims", 1) else [np.squeeze(p, axis) for p in pieces]
    if parts.ndim == 0:
        step = int(parts)
        return list(np.split(x, range(step, n, step), axis))
    return list(np.split(x, np.cumsum(parts)[:-1], axis))


@host("Optional")
def _optional(a: Attributes, x: Any = None) -> Any:
    return x


@host("OptionalHasElement")
def _has(a: Attributes, x: Any = None) -> Array:
    return np.array(x is not None)


@host("OptionalGetElement")
def _get(a: Attributes, x: Any) -> Any:
    if x is None:
        raise InputError("OptionalGetElement of an optional that is empty")
    return x


# ---- random numbers ------------------------------------------------------------------------------


def _generator(a: Attributes) -> np.random.RandomState:
    seed = a.get("seed")
    return np.random.RandomState(None if seed is None else int(seed) & 0xFFFFFFFF)


def _random_dtype(a: Attributes, like: Maybe = None) -> np.dtype[Any]:
    if a.has("dtype"):
        return element_type(a.int("dtype"))
    return np.dtype(np.float32) if like is None else like.dtype


@host("RandomNormal", folds=False)
def _normal(a: Attributes) -> Array:
    out = _generator(a).normal(a.float("mean", 0.0), a.float("scale", 1.0), a.ints("shape"))
    return np.asarray(out).astype(_random_dtype(a))


@host("RandomNormalLike", folds=False)
def _normal_like(a: Attributes, x: Array) -> Array:
    out = _generator(a).normal(a.float("mean", 0.0), a.float("scale", 1.0), x.shape)
    return np.asarray(out).astype(_random_dtype(a, x))


@host("RandomUniform", folds=False)
def _uniform(a: Attributes) -> Array:
    out = _generator(a).uniform(a.float("low", 0.0), a.float("high", 1.0), a.ints("shape"))
    return np.asarray(out).astype(_random_dtype(a))


@host("RandomUniformLike", folds=False)
def _uniform_like(a: Attributes, x: Array) -> Array:
    out = _generator(a).uniform(a.float("low", 0.0), a.float("high", 1.0), x.shape)
    return np.asarray(out).astype(_random_dtype(a, x))


@host("Bernoulli", folds=False)
def _bernoulli(a: Attributes, x: Array) -> Array:
    out = _generator(a).uniform(size=x.shape) < x.astype(np.float64)
    return out.astype(_random_dtype(a, x))


@host("Multinomial", folds=False)
def _multinomial(a: Attributes, x: Array) -> Array:
    count, dtype = a.int("sample_size", 1), element_type(a.int("dtype", 6))
    generator = _generator(a)
    p = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    rows = [generator.choice(len(r), count, p=r / r.sum()) for r in p]
    return np.stack(rows).astype(dtype)


@host("Dropout", since=12, folds=False)
def _dropout(a: Attributes, x: Array, ratio: Maybe = None, train: Maybe = None) -> Any:
    rate = float(number(ratio, 0.5))
    if not bool(number(train, False)) or not rate:
        return x, np.ones(x.shape, bool)
    if not 0 <= rate < 1:
        raise UnsupportedError(f"Dropout with the ratio {rate}")
    kept = _generator(a).uniform(0, 1, x.shape) >= rate
    return (kept * x / (1 - rate)).astype(x.dtype), kept
