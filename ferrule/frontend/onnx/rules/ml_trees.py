"""ONNX rules of ai.onnx.ml: ensembles of decision trees, as `ops.descend` and a sum of leaves.

Each node becomes one or more that ask x[feature] <= threshold alone:

    v < t     v <= the float before t            v >= t, v > t     the same, children exchanged
    v == t    v <= t, then v <= the one before   v in a set        a search for it in sorted order

A NaN goes where `v mode t` is false, or to the node's true child if it `tracks_true`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, boolean, f32, f64
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.ml_scores import (
    KINDS,
    beside,
    both_ways,
    class_labels,
    feature_count,
    labels,
    opposite,
    rows_of,
    transformed,
)
from ferrule.frontend.onnx.table import ML, Context, onnx
from ferrule.ir.expr import Expr
from ferrule.ir.graph import Value

_MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER")
_FOLDS = ("AVERAGE", "SUM", "MIN", "MAX")
_LARGEST = 1 << 28  # elements of a table of leaves


@dataclass
class _Nodes:
    """Nodes as the model has them. `yes` and `no` are numbers of nodes, a leaf's are its own;
    `leaves[k]` is the node of the k-th leaf weight, `targets[k]` its column.
    """

    features: Array
    modes: Array
    splits: Array
    yes: Array
    no: Array
    tracks: Array
    roots: Array
    leaves: Array
    targets: Array
    weights: Array
    sets: dict[int, Array] = field(default_factory=dict)


# ---- what a model says ---------------------------------------------------------------------------


def _numbers(cx: Context, name: str, default: float | None = None) -> Array:
    """Floats, which models hold as a list or as a tensor."""
    if cx.has(f"{name}_as_tensor"):
        return np.asarray(cx.get(f"{name}_as_tensor")).reshape(-1)
    return np.array(cx.floats(name, None if default is None else ()), np.float32)


def _by_trees(cx: Context, kind: str) -> _Nodes:
    """The nodes of versions 1 to 3, which have numbers inside of their trees."""
    trees, own = (np.array(cx.ints(f"nodes_{n}"), np.int64) for n in ("treeids", "nodeids"))
    place = {key: i for i, key in enumerate(zip(trees.tolist(), own.tolist()))}
    modes = np.array([_mode(m) for m in cx.texts("nodes_modes")])
    branch = modes >= 0
    here = np.arange(len(trees))

    def found(tree_ids: Sequence[int], node_ids: Sequence[int]) -> Array:
        try:
            return np.array([place[k] for k in zip(tree_ids, node_ids)], np.int64)
        except KeyError as error:
            tree, node = error.args[0]
            raise InputError(f"tree {tree} has no node {node}, which it refers to") from None

    def child(name: str) -> Array:
        out, ids = here.copy(), np.array(cx.ints(f"nodes_{name}nodeids"), np.int64)
        out[branch] = found(trees[branch].tolist(), ids[branch].tolist())
        return out

    yes, no = child("true"), child("false")
    below = np.zeros(len(trees), bool)
    below[yes[branch]] = below[no[branch]] = True
    tracks = np.array(cx.ints("nodes_missing_value_tracks_true", ()), bool)
    return _Nodes(
        np.array(cx.ints("nodes_featureids"), np.int64), modes, _numbers(cx, "nodes_values"), yes,
        no, tracks if tracks.size else np.zeros(len(trees), bool), here[~below],
        found(cx.ints(f"{kind}_treeids"), cx.ints(f"{kind}_nodeids")),
        np.array(cx.ints(f"{kind}_ids"), np.int64), _numbers(cx, f"{kind}_weights"),
    )  # fmt: skip


def _mode(text: str) -> int:
    """The number of a mode; -1 for a leaf."""
    name = text.removeprefix("BRANCH_")
    if text != "LEAF" and name not in _MODES:
        raise InputError(f"a node's mode is LEAF or BRANCH_ and one of {_MODES}, not {text!r}")
    return -1 if text == "LEAF" else _MODES.index(name)


def _by_roots(cx: Context) -> _Nodes:
    """The nodes of version 5; leaves are nodes behind them."""
    modes = np.asarray(cx.get("nodes_modes")).astype(np.int64)
    weights, count = np.asarray(cx.get("leaf_weights")), len(modes)
    last = np.arange(count, count + len(weights))

    def child(name: str) -> Array:
        ids = np.array(cx.ints(f"nodes_{name}nodeids"), np.int64)
        leaf = np.array(cx.ints(f"nodes_{name}leafs"), bool)
        most = np.where(leaf, len(weights), count)
        if ids.size != count or leaf.size != count or ((ids < 0) | (ids >= most)).any():
            raise InputError(f"nodes_{name}nodeids refers to a node or leaf that there is not")
        return np.concatenate([np.where(leaf, ids + count, ids), last])

    def filled(x: Any, value: Any) -> Array:
        return np.concatenate([np.asarray(x), np.full(len(weights), value)])

    tracks = np.array(cx.ints("nodes_missing_value_tracks_true", (0,) * count), bool)
    nodes = _Nodes(
        filled(np.array(cx.ints("nodes_featureids"), np.int64), 0), filled(modes, -1),
        filled(cx.get("nodes_splits"), 0).astype(weights.dtype), child("true"), child("false"),
        filled(tracks, False), np.array(cx.ints("tree_roots"), np.int64), last,
        np.array(cx.ints("leaf_targetids"), np.int64), weights,
    )  # fmt: skip
    if cx.has("membership_values"):
        held = np.asarray(cx.get("membership_values"))
        parts = np.split(held, np.flatnonzero(np.isnan(held)))
        sets = [p[~np.isnan(p)] for p in parts]
        nodes.sets = dict(zip(np.flatnonzero(modes == _MODES.index("MEMBER")).tolist(), sets))
    return nodes


# ---- one kind of node ----------------------------------------------------------------------------


@dataclass
class _Table:
    """Nodes that ask v <= threshold; `missing` says whether a NaN goes to `yes`."""

    features: list[int]
    thresholds: list[Any]
    yes: list[int]
    no: list[int]
    missing: list[bool]

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """All that is told of the nodes."""
        return self.features, self.thresholds, self.yes, self.no, self.missing

    def add(self, feature: int, threshold: Any, yes: int, no: int, missing: bool) -> int:
        """A further node's number."""
        for column, value in zip(self.columns, (feature, threshold, yes, no, missing)):
            column.append(value)
        return len(self.features) - 1

    def put(self, at: int, other: int) -> None:
        """Make the node `at` a copy of another one."""
        for column in self.columns:
            column[at] = column[other]

    def member(
        self, feature: int, values: Array, yes: int, no: int, to_yes: bool
    ) -> int:
        """A node that goes to `yes` for one of the sorted `values`, a NaN if `to_yes`."""
        if len(values) == 1:
            inner = self.add(feature, _before(values[0]), no, yes, False)
            return self.add(feature, values[0], inner, no, to_yes)
        half = len(values) // 2
        low = self.member(feature, values[:half], yes, no, to_yes)
        high = self.member(feature, values[half:], yes, no, to_yes)
        return self.add(feature, values[half - 1], low, high, to_yes)


def _before(x: Any) -> Any:
    """The float before x; NaN, which nothing is below or at, for the first."""
    return np.where(np.isneginf(x), np.nan, np.nextafter(x, np.array(-np.inf, np.asarray(x).dtype)))


def _table(nodes: _Nodes, dtype: np.dtype[Any]) -> _Table:
    splits, mode = nodes.splits.astype(dtype), nodes.modes
    turned = np.isin(mode, (_MODES.index("GTE"), _MODES.index("GT")))
    strict = np.isin(mode, (_MODES.index("LT"), _MODES.index("GTE")))
    thresholds = np.where(strict, _before(splits), splits)
    yes, no = np.where(turned, (nodes.no, nodes.yes), (nodes.yes, nodes.no))
    missing = np.where(turned, ~nodes.tracks, nodes.tracks) & (mode >= 0)
    table = _Table(
        np.where(mode < 0, 0, nodes.features).tolist(), list(thresholds), yes.tolist(),
        no.tolist(), missing.tolist(),
    )  # fmt: skip
    for i in np.flatnonzero(mode >= _MODES.index("EQ")).tolist():
        apart = mode[i] == _MODES.index("NEQ")
        values = np.unique(nodes.sets.get(i, splits[i : i + 1]).astype(dtype))
        first, other = int(nodes.yes[i]), int(nodes.no[i])
        if apart:
            table.put(i, table.member(table.features[i], values, other, first, False))
        elif len(values):
            feature, tracks = table.features[i], bool(nodes.tracks[i])
            table.put(i, table.member(feature, values, first, other, tracks))
        else:
            table.yes[i] = first if nodes.tracks[i] else other
            table.no[i], table.missing[i] = other, bool(nodes.tracks[i])
            table.thresholds[i] = dtype.type(np.nan)
    return table


def _levels(table: _Table, roots: Array) -> int:
    """The most steps that lead to a leaf. Raises InputError for a cycle."""
    yes, no = np.array(table.yes), np.array(table.no)
    branch = (yes != np.arange(len(yes))) | (no != np.arange(len(no)))
    now, steps = np.unique(roots), 0
    while (now := now[branch[now]]).size:
        now, steps = np.unique(np.concatenate([yes[now], no[now]])), steps + 1
        if steps > len(yes):
            raise InputError("an ensemble of trees has nodes that form a cycle")
    return steps


def _reached(cx: Context, x: Value, nodes: _Nodes) -> tuple[Value, int]:
    """(the nodes that rows reach [rows, trees], how many nodes the tables have)."""
    table = _table(nodes, x.dtype.numpy)
    features = np.array(table.features, np.int32)
    if features.size and not 0 <= features.min() <= features.max() < feature_count(cx, x):
        raise InputError(f"a tree asks for a feature that rows of {feature_count(cx, x)} have not")
    size = 1 << (len(features) - 1).bit_length()

    def filled(column: Any, dtype: Any) -> Value:
        out = np.zeros((size, *np.shape(column)[1:]), dtype)
        out[: len(features)] = column
        return cx.array(out)

    missing = filled(table.missing, bool) if any(table.missing) else None
    children = np.stack([table.yes, table.no], 1)
    reached = ops.descend(
        cx.b, x, cx.array(nodes.roots), filled(features, np.int32),
        filled(table.thresholds, x.dtype.numpy), filled(children, np.int32),
        _levels(table, nodes.roots), missing,
    )  # fmt: skip
    return reached, size


# ---- scores --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Leaves:
    """What the leaves that rows reach say: `nodes` as the model has them, `reached` by rows, the
    size of the tables, and the dtype of the sums.
    """

    cx: Context
    nodes: _Nodes
    reached: Value
    size: int
    dtype: DType

    def folded(self, columns: int, how: str) -> Value:
        """Their weights, folded: [rows, columns]. A column that no leaf has gets 0."""
        nodes, b = self.nodes, self.cx.b
        if ((nodes.targets < 0) | (nodes.targets >= columns)).any():
            raise InputError(f"a leaf is of a target or class that is not below {columns}")
        if self.size * columns > _LARGEST:
            raise UnsupportedError(f"{self.size} nodes with weights for {columns} columns")
        empty = {"MIN": np.inf, "MAX": -np.inf}.get(how, 0.0)
        fold: Any = {"MIN": np.minimum, "MAX": np.maximum}.get(how, np.add)
        table = np.full((self.size, columns), empty, self.dtype.numpy)
        fold.at(table, (nodes.leaves, nodes.targets), nodes.weights.astype(table.dtype))
        each = ops.take(b, self.cx.array(table), self.reached)
        if how in ("SUM", "AVERAGE"):
            total = ops.reduce_sum(b, each, (1,))
            return total if how == "SUM" else ops.div(b, total, float(len(nodes.roots)))
        total = (ops.reduce_min if how == "MIN" else ops.reduce_max)(b, each, (1,))
        return ops.select(b, ops.isinf(b, total), 0, total)

    def have(self, column: int) -> Value | bool:
        """Whether a leaf that a row reaches has a weight in a column: of each row [rows] where that
        is not the same for all.
        """
        own = np.zeros(self.size, bool)
        own[self.nodes.leaves[self.nodes.targets == column]] = True
        if not own.any():
            return False
        if own[np.unique(self.nodes.leaves)].all():
            return True
        b = self.cx.b
        return ops.reduce_any(b, ops.take(b, self.cx.array(own), self.reached), (1,))


def _read(cx: Context, x: Value, kind: str) -> _Leaves:
    """The leaves that rows of x reach."""
    nodes = _by_trees(cx, kind) if kind else _by_roots(cx)
    wide = f64 if f64 in (x.dtype, _dtype_of(nodes.splits)) else f32
    reached, size = _reached(cx, rows_of(cx, x, wide), nodes)
    return _Leaves(cx, nodes, reached, size, wide)


def _dtype_of(x: Array) -> DType:
    return f64 if x.dtype == np.float64 else f32


@onnx("TreeEnsembleRegressor", domain=ML)
def _regressor(cx: Context, x: Value) -> Value:
    targets = cx.int("n_targets", 1)
    scores = _read(cx, x, "target").folded(targets, cx.text("aggregate_function", "SUM"))
    base = _numbers(cx, "base_values", 0.0)
    if base.size:
        scores = ops.add(cx.b, scores, cx.array(base.astype(scores.dtype.numpy)))
    return ops.cast(cx.b, transformed(cx, scores, cx.text("post_transform", "NONE")), f32)


@onnx("TreeEnsemble", domain=ML, since=5)
def _ensemble(cx: Context, x: Value) -> Value:
    how, kind = cx.int("aggregate_function", 1), cx.int("post_transform", 0)
    if not 0 <= how < len(_FOLDS) or not 0 <= kind < len(KINDS):
        raise InputError(f"aggregate_function {how} or post_transform {kind} is not known")
    scores = _read(cx, x, "").folded(cx.int("n_targets", 1), _FOLDS[how])
    return ops.cast(cx.b, transformed(cx, scores, KINDS[kind]), x.dtype)


@onnx("TreeEnsembleClassifier", domain=ML)
def _classifier(cx: Context, x: Value) -> Any:
    count, leaves = len(class_labels(cx)), _read(cx, x, "class")
    base = _numbers(cx, "base_values", 0.0)
    own = set(leaves.nodes.targets.tolist())
    if count == 2 and len(own) == 1:
        place, scores = _alone(cx, leaves, base, own.pop())
    else:
        place, scores = _several(cx, leaves, base, count)
    return labels(cx, place), ops.cast(cx.b, scores, f32)


def _several(cx: Context, leaves: _Leaves, base: Array, count: int) -> tuple[Value, Value]:
    """(the place of the greatest score, the scores) of leaves that score each class."""
    b, scores = cx.b, leaves.folded(count, "SUM")
    if base.size not in (0, count):
        raise InputError(f"{base.size} base_values for {count} classes")
    if base.size:
        scores = ops.add(b, scores, cx.array(base.astype(scores.dtype.numpy)))
    chosen = scores
    if not base.size:
        columns = [leaves.have(c) for c in range(count)]
        if not all(c is True for c in columns):
            held = [_column(cx, c, scores.shape[0]) for c in columns]
            chosen = ops.select(b, ops.concat(b, held, 1), scores, -np.inf)
    kind = cx.text("post_transform", "NONE")
    return ops.argmax(b, chosen, 1), transformed(cx, scores, kind)


def _column(cx: Context, holds: Value | bool, rows: Expr) -> Value:
    """[rows, 1] of what holds for each row or for all."""
    if isinstance(holds, bool):
        return ops.full(cx.b, (rows, 1), holds, boolean)
    return ops.unsqueeze(cx.b, holds, 1)


def _alone(cx: Context, leaves: _Leaves, base: Array, column: int) -> tuple[Value, Value]:
    """The same of two classes where leaves score but one. The second is chosen where that score is
    high; what column 0 holds is its score, as gradient boosting writes models.
    """
    b, kind = cx.b, cx.text("post_transform", "NONE")
    if base.size > 1 - column or (not column and kind == "PROBIT"):
        raise UnsupportedError(f"{base.size} base_values, {kind} of scores of one class of two")
    scores = leaves.folded(2, "SUM")
    score = ops.slice_axis(b, scores, 1, column, column + 1)
    score = ops.add(b, score, float(base[0])) if base.size else score
    positive = bool((leaves.nodes.weights >= 0).all())
    place = ops.gt(b, ops.squeeze(b, score, (1,)), 0.5 if positive else 0.0)
    if column:
        return place, transformed(cx, scores, kind)
    if kind == "LOGISTIC":
        return place, both_ways(cx, score)
    return place, beside(cx, opposite(cx, score) if positive else ops.neg(b, score), score)
