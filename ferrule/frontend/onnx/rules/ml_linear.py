"""ONNX rules of ai.onnx.ml: linear models and support vector machines."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.base.errors import InputError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.ml_scores import (
    beside,
    both_ways,
    class_labels,
    feature_count,
    labels,
    matrix,
    opposite,
    rows_of,
    transformed,
)
from ferrule.frontend.onnx.table import ML, Context, onnx
from ferrule.ir.expr import Expr
from ferrule.ir.graph import GraphBuilder, Value

_STEPS = 100  # of the search for probabilities, at most
_TOLERANCE = 0.005


def _products(cx: Context, x: Value, weights: Array, added: Array | float = 0.0) -> Value:
    """x * weights.T + added: [rows, weights' rows]."""
    total = ops.matmul(cx.b, x, cx.array(np.ascontiguousarray(weights.T)))
    return ops.add(cx.b, total, cx.array(np.asarray(added, np.float32)))


@onnx("LinearRegressor", domain=ML)
def _regressor(cx: Context, x: Value) -> Value:
    rows, targets = rows_of(cx, x), cx.int("targets", 1)
    added = np.array(cx.floats("intercepts", (0.0,) * targets), np.float32)
    out = _products(cx, rows, matrix(cx, "coefficients", targets, rows), added)
    return transformed(cx, out, cx.text("post_transform", "NONE"))


@onnx("LinearClassifier", domain=ML)
def _classifier(cx: Context, x: Value) -> Any:
    rows, added = rows_of(cx, x), np.array(cx.floats("intercepts"), np.float32)
    scores = _products(cx, rows, matrix(cx, "coefficients", added.size, rows), added)
    kind = cx.text("post_transform", "NONE")
    if added.size > 1:
        return labels(cx, ops.argmax(cx.b, scores, 1)), transformed(cx, scores, kind)
    place = ops.gt(cx.b, ops.squeeze(cx.b, scores, (1,)), 0.0)
    if len(class_labels(cx)) != 2:
        raise InputError(f"one row of coefficients for {len(class_labels(cx))} classes, not 2")
    if kind == "LOGISTIC":
        return labels(cx, place), both_ways(cx, scores)
    if kind == "PROBIT":
        scores = transformed(cx, scores, kind)
    return labels(cx, place), beside(cx, opposite(cx, scores), scores)


# ---- support vector machines ---------------------------------------------------------------------


def _kernel(cx: Context, x: Value, vectors: Array) -> Value:
    """The kernel of each row and each support vector: [rows, vectors]."""
    b, kind = cx.b, cx.text("kernel_type", "LINEAR")
    gamma, shift, degree = (*cx.floats("kernel_params", ()), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        apart = ops.sub(b, ops.unsqueeze(b, x, 1), cx.array(vectors[None]))
        return ops.exp(b, ops.mul(b, ops.reduce_sum(b, ops.square(b, apart), (2,)), -gamma))
    total = _products(cx, x, vectors)
    if kind == "LINEAR":
        return total
    inner = ops.add(b, ops.mul(b, total, gamma), shift)
    if kind == "POLY":
        return ops.pow(b, inner, degree)
    if kind == "SIGMOID":
        return ops.tanh(b, inner)
    raise InputError(f"kernel_type is LINEAR, POLY, RBF or SIGMOID, not {kind!r}")


@onnx("SVMRegressor", domain=ML)
def _svm_regressor(cx: Context, x: Value) -> Value:
    rows, count = rows_of(cx, x), cx.int("n_supports", 0)
    rho = np.array(cx.floats("rho")[:1], np.float32)
    if count:
        weights = np.array(cx.floats("coefficients"), np.float32).reshape(1, -1)
        rows = _kernel(cx, rows, matrix(cx, "support_vectors", count, rows))
    else:
        weights = matrix(cx, "coefficients", 1, rows)
    out = _products(cx, rows, weights, rho)
    if cx.int("one_class", 0):
        one = ops.full(cx.b, (), 1.0, f32)
        return ops.select(cx.b, ops.gt(cx.b, out, 0.0), one, -1.0)
    return transformed(cx, out, cx.text("post_transform", "NONE"))


@onnx("SVMClassifier", domain=ML)
def _svm_classifier(cx: Context, x: Value) -> Any:
    rows, kind, classes = rows_of(cx, x), cx.text("post_transform", "NONE"), len(class_labels(cx))
    each = cx.ints("vectors_per_class", ())
    if not sum(each):
        rho = np.array(cx.floats("rho")[:1], np.float32)
        scores = _products(cx, rows, matrix(cx, "coefficients", classes, rows), rho)
        return _linear_choice(cx, scores, classes), transformed(cx, scores, kind)
    feature_count(cx, rows)
    if len(each) != classes:
        raise InputError(f"vectors_per_class has {len(each)} numbers for {classes} classes")
    kernels = _kernel(cx, rows, matrix(cx, "support_vectors", sum(each), rows))
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    rho = np.array(cx.floats("rho")[: len(pairs)], np.float32)
    scores = _products(cx, kernels, _pair_weights(cx, each, pairs), rho)
    place = ops.argmax(cx.b, _votes(cx, scores, pairs, classes), 1)
    if cx.floats("prob_a", ()):
        chances = _probabilities(cx, scores, pairs, classes)
        return labels(cx, place), transformed(cx, chances, kind)
    if len(pairs) > 1:
        return labels(cx, place), transformed(cx, scores, kind)
    first = ops.neg(cx.b, scores) if kind == "NONE" else opposite(cx, scores)
    return labels(cx, place), beside(cx, first, scores)


def _linear_choice(cx: Context, scores: Value, classes: int) -> Value:
    """The label with the greatest score; of two classes the second where a score is positive."""
    b, place = cx.b, ops.argmax(cx.b, scores, 1)
    if classes != 2:
        return labels(cx, place)
    positive = all(c >= 0 for c in cx.floats("coefficients"))
    top = ops.reduce_max(b, scores, (1,))
    second = ops.ge(b, top, 0.5) if positive else ops.gt(b, top, 0.0)
    return labels(cx, ops.select(b, second, 1, place))


def _pair_weights(cx: Context, each: tuple[int, ...], pairs: list[tuple[int, int]]) -> Array:
    """The coefficients of the support vectors in the decision between each two classes."""
    held = np.array(cx.floats("coefficients"), np.float32)
    ends = np.cumsum(each)
    if held.size != (len(each) - 1) * ends[-1]:
        raise InputError(f"{held.size} coefficients for {ends[-1]} vectors, {len(each)} classes")
    held = held.reshape(len(each) - 1, ends[-1])
    out = np.zeros((len(pairs), ends[-1]), np.float32)
    for p, (i, j) in enumerate(pairs):
        for own, row in ((i, j - 1), (j, i)):
            part = slice(ends[own] - each[own], ends[own])
            out[p, part] = held[row, part]
    return out


def _votes(cx: Context, scores: Value, pairs: list[tuple[int, int]], classes: int) -> Value:
    """How many of its decisions each class wins: [rows, classes]."""
    gained = np.zeros((len(pairs), classes), np.float32)
    start = np.zeros(classes, np.float32)
    for p, (i, j) in enumerate(pairs):
        gained[p, i], gained[p, j] = 1, -1
        start[j] += 1
    won = ops.cast(cx.b, ops.gt(cx.b, scores, 0.0), f32)
    return ops.add(cx.b, ops.matmul(cx.b, won, cx.array(gained)), cx.array(start))


def _probabilities(
    cx: Context, scores: Value, pairs: list[tuple[int, int]], classes: int
) -> Value:
    """The probability of each class by those of the pairs (Wu, Lin and Weng, 2004)."""
    b, k = cx.b, classes
    slope, shift = (np.array(cx.floats(n)[: len(pairs)], np.float32) for n in ("prob_a", "prob_b"))
    line = ops.add(b, ops.mul(b, scores, cx.array(slope)), cx.array(shift))
    chance = ops.clamp(b, ops.sigmoid(b, ops.neg(b, line)), 1e-7, 1 - 1e-7)
    wins = np.zeros((len(pairs), k * k), np.float32)  # r[i, j]: how likely is i where it is i or j
    start = np.zeros(k * k, np.float32)
    for p, (i, j) in enumerate(pairs):
        wins[p, i * k + j], wins[p, j * k + i], start[j * k + i] = 1, -1, 1
    flat = ops.add(b, ops.matmul(b, chance, cx.array(wins)), cx.array(start))
    r = ops.reshape(b, flat, (scores.shape[0], k, k))
    turned = ops.transpose(b, r, (0, 2, 1))
    squares = ops.reduce_sum(b, ops.square(b, turned), (2,), True)
    diagonal = np.eye(k, dtype=np.float32)[None]
    q = ops.sub(b, ops.mul(b, squares, cx.array(diagonal)), ops.mul(b, turned, r))
    first = ops.full(b, (scores.shape[0], k), 1 / k, f32)
    return _balanced(b, q, first, scores.shape[0], k)


def _balanced(b: GraphBuilder, q: Value, first: Value, rows: Expr, k: int) -> Value:
    """p of sum 1 that makes p * q * p least, from `first` on, to a tolerance."""

    def body(b: GraphBuilder, states: Any, _: Any) -> Any:
        (p,) = states
        own = ops.squeeze(b, ops.matmul(b, q, ops.unsqueeze(b, p, 2)), (2,))
        total = ops.reduce_sum(b, ops.mul(b, p, own), (1,), True)
        error = ops.reduce_max(b, ops.abs(b, ops.sub(b, own, total)), (1,), True)
        done, new = ops.lt(b, error, _TOLERANCE / k), p
        for i in range(k):
            row = ops.select_index(b, q, 1, i)
            here = ops.slice_axis(b, row, 1, i, i + 1)
            mine = ops.slice_axis(b, own, 1, i, i + 1)
            step = ops.div(b, ops.sub(b, total, mine), here)
            scale = ops.add(b, step, 1.0)
            bend = ops.add(b, ops.mul(b, step, here), ops.mul(b, mine, 2.0))
            total = ops.add(b, total, ops.mul(b, step, bend))
            total = ops.div(b, ops.div(b, total, scale), scale)
            own = ops.div(b, ops.add(b, own, ops.mul(b, step, row)), scale)
            at = ops.eq(b, ops.iota(b, (1, k), 1), i)
            new = ops.div(b, ops.select(b, at, ops.add(b, new, step), new), scale)
        return (ops.select(b, done, p, new),), ()

    (made,) = ops.loop(b, body, _STEPS, (first,), ())
    return ops.select_index(b, made, 0, _STEPS - 1)
