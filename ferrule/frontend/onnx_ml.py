"""Host rules for operators of ai.onnx.ml that go with neural networks: labels, features, trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx_model import Array
from ferrule.frontend.onnx_table import ML, Attributes, host


@host("ArrayFeatureExtractor", domain=ML)
def _features(a: Attributes, x: Array, places: Array) -> Array:
    wide = x.reshape(1, -1) if x.ndim == 1 else x
    return wide[..., places.reshape(-1)]


@host("Binarizer", domain=ML)
def _binarizer(a: Attributes, x: Array) -> Array:
    return (x > a.float("threshold", 0.0)).astype(x.dtype)


@host("LabelEncoder", domain=ML, since=2)
def _labels(a: Attributes, x: Array) -> Array:
    """Each element replaced by what a table says, the default where it is not in there."""
    keys, _ = _table(a, "keys")
    values, dtype = _table(a, "values")
    mapping = {_key(k): v for k, v in zip(keys, values)}
    default = _default(a, dtype)
    flat = [mapping.get(_key(v), default) for v in x.ravel().tolist()]
    out = np.empty(len(flat), dtype)
    out[:] = flat
    return out.reshape(x.shape)


def _key(v: Any) -> Any:
    return "nan" if isinstance(v, float) and v != v else v


def _table(a: Attributes, name: str) -> tuple[list[Any], np.dtype[Any]]:
    if a.has(f"{name}_tensor"):
        tensor = np.asarray(a.get(f"{name}_tensor"))
        return tensor.ravel().tolist(), tensor.dtype
    for kind, dtype in (("strings", object), ("int64s", np.int64), ("floats", np.float32)):
        if a.has(f"{name}_{kind}"):
            values = np.array(a.get(f"{name}_{kind}"), dtype)
            return values.tolist(), np.dtype(dtype)
    raise UnsupportedError(f"a LabelEncoder without {name}")


def _default(a: Attributes, dtype: np.dtype[Any]) -> Any:
    if a.has("default_tensor"):
        return np.asarray(a.get("default_tensor")).reshape(-1)[0]
    if dtype == np.dtype(object):
        return a.text("default_string", "_Unused")
    return a.int("default_int64", -1) if dtype.kind == "i" else a.float("default_float", -0.0)


# ---- trees ---------------------------------------------------------------------------------------

_MEMBER = 6
_COMPARE: dict[int, Any] = {
    0: np.less_equal, 1: np.less, 2: np.greater_equal, 3: np.greater, 4: np.equal, 5: np.not_equal,
}  # fmt: skip


@host("TreeEnsemble", domain=ML, since=5)
def _trees(a: Attributes, x: Array) -> Array:
    """The sum, mean, least or greatest of the leaves that each row reaches in all trees."""
    weights, targets = np.asarray(a.get("leaf_weights")), np.array(a.ints("leaf_targetids"))
    how, count = a.int("aggregate_function", 1), a.int("n_targets", 1)
    if a.int("post_transform", 0):
        raise UnsupportedError("a TreeEnsemble with a transformation of its scores")
    roots = a.ints("tree_roots")
    start = {2: np.inf, 3: -np.inf}.get(how, 0.0)
    out = np.full((len(x), count), start, x.dtype)
    fold = {2: np.minimum, 3: np.maximum}.get(how, np.add)
    rows = np.arange(len(x))
    for root in roots:
        leaf = _leaves(a, x, root)
        place = (rows, targets[leaf])
        out[place] = fold(out[place], weights[leaf].astype(x.dtype))
    return out / x.dtype.type(len(roots)) if how == 0 else out


def _leaves(a: Attributes, x: Array, root: int) -> Array:
    """The leaf that each row reaches from a root."""
    features, modes = np.array(a.ints("nodes_featureids")), np.asarray(a.get("nodes_modes"))
    splits, members = np.asarray(a.get("nodes_splits")), _members(a, modes)
    after = {
        True: (np.array(a.ints("nodes_truenodeids")), np.array(a.ints("nodes_trueleafs"))),
        False: (np.array(a.ints("nodes_falsenodeids")), np.array(a.ints("nodes_falseleafs"))),
    }
    missing = a.ints("nodes_missing_value_tracks_true", (0,) * len(features))
    out = np.zeros(len(x), np.int64)
    for i, row in enumerate(x):
        node, ended = root, False
        for _ in range(len(features) + 1):
            value, mode = row[features[node]], int(modes[node])
            yes = value in members[node] if mode == _MEMBER else _COMPARE[mode](value, splits[node])
            yes = bool(yes) or (bool(np.isnan(value)) and bool(missing[node]))
            ids, leafs = after[yes]
            ended, node = bool(leafs[node]), int(ids[node])
            if ended:
                break
        if not ended:
            raise UnsupportedError("a TreeEnsemble whose nodes form a cycle")
        out[i] = node
    return out


def _members(a: Attributes, modes: Array) -> dict[int, list[Any]]:
    """The set of each node that tests membership: the sets are apart by NaN."""
    if not a.has("membership_values"):
        return {}
    sets: list[list[Any]] = [[]]
    for v in np.asarray(a.get("membership_values")):
        if np.isnan(v):
            sets.append([])
        else:
            sets[-1].append(v)
    nodes = [i for i, m in enumerate(modes) if m == _MEMBER]
    return dict(zip(nodes, sets))
