"""Operators of ai.onnx.ml, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from ferrule.api.session import InferenceSession
from ferrule.base.errors import InputError
from tests.onnx.tools import model, node, random

ort = pytest.importorskip("onnxruntime")

F = np.float32
ML = "ai.onnx.ml"


def both(kind: str, x: Any, outputs: str = "y", version: int = 3, **attrs: Any) -> list[Any]:
    """Outputs of one node after they were compared with ONNX Runtime's."""
    x = np.asarray(x)
    names = outputs.split()
    proto = model([node(kind, "x", outputs, domain=ML, **attrs)],
                  {"x": (x.dtype, ["n", *x.shape[1:]])}, names, domains={ML: version})  # fmt: skip
    for port in proto.graph.output:
        port.type.Clear()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    theirs = ort.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})
    mine = InferenceSession(proto).run(None, {"x": x})
    for a, b in zip(mine, theirs, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if b.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(a, b)
    return mine


X = np.concatenate([random(12, 3), np.full((1, 3), np.nan, F), np.zeros((1, 3), F)])
EDGES = np.concatenate([X, [[0.5, 0.5, 0.5], [0.25, 1, 2], [np.inf, -np.inf, 0.5]]]).astype(F)


# ---- trees ---------------------------------------------------------------------------------------


def stump(mode: str, tracks: int, **more: Any) -> dict[str, Any]:
    """Two trees: a branch and a leaf under a branch, and a leaf alone."""
    return {
        "nodes_treeids": [0] * 5 + [1], "nodes_nodeids": [0, 1, 2, 3, 4, 0],
        "nodes_featureids": [0, 1, 0, 0, 0, 0],
        "nodes_modes": [f"BRANCH_{mode}", f"BRANCH_{mode}", "LEAF", "LEAF", "LEAF", "LEAF"],
        "nodes_values": [0.5, 1.0, 0.0, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 2, 0, 0, 0, 0], "nodes_falsenodeids": [4, 3, 0, 0, 0, 0],
        "nodes_missing_value_tracks_true": [tracks, 1 - tracks, 0, 0, 0, 0], **more,
    }  # fmt: skip


LEAVES = {"treeids": [0, 0, 0, 1], "nodeids": [2, 3, 4, 0]}


def leaves(name: str, ids: list[int], weights: list[float]) -> dict[str, Any]:
    own = {f"{name}_{k}": v for k, v in LEAVES.items()}
    return {**own, f"{name}_ids": ids, f"{name}_weights": weights}


@pytest.mark.parametrize("mode", ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"])
@pytest.mark.parametrize("tracks", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_modes_of_nodes(mode: str, tracks: int, dtype: Any) -> None:
    held = leaves("target", [0, 0, 0, 0], [1.0, 2.0, 4.0, 8.0])
    both("TreeEnsembleRegressor", EDGES.astype(dtype), n_targets=1, **stump(mode, tracks, **held))


@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("kind", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_folds_and_transformations(how: str, kind: str) -> None:
    held = leaves("target", [1, 1, 1, 0], [0.5, -2.0, 0.25, 0.125])
    both("TreeEnsembleRegressor", X, n_targets=2, base_values=[0.5, 0.25],
         aggregate_function=how, post_transform=kind, **stump("LEQ", 0, **held))  # fmt: skip


def test_probit() -> None:
    held = leaves("target", [0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4])
    more = {"n_targets": 1, "post_transform": "PROBIT"}
    both("TreeEnsembleRegressor", X, **more, **stump("LEQ", 0, **held))


@pytest.mark.parametrize("kind", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("weights", [[0.5, 0.2, 0.7, 0.1], [-0.5, 0.2, 0.7, -0.1]])
@pytest.mark.parametrize("ids", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1]])
def test_classes(kind: str, weights: list[float], ids: list[int]) -> None:
    held = leaves("class", ids, weights)
    several = [7, 5, 9] if 2 in ids else [7, 5]
    both("TreeEnsembleClassifier", X, "label score", post_transform=kind,
         classlabels_int64s=several, **stump("GT", 1, **held))  # fmt: skip
    names = ["a", "b", "c"][: len(several)]
    both("TreeEnsembleClassifier", X, "label score", post_transform=kind,
         classlabels_strings=names, **stump("GT", 1, **held))  # fmt: skip


def test_trees_of_version_5_with_sets() -> None:
    def tensor(name: str, code: int, values: list[float]) -> Any:
        return helper.make_tensor(name, code, (len(values),), values)

    x = np.array([[1.2, 3.4], [1.66, 4], [7, 2], [5, np.nan], [np.nan, 1], [3, 3]], F)
    both("TreeEnsemble", x, version=5, n_targets=2, aggregate_function=1, post_transform=0,
         tree_roots=[0], nodes_featureids=[0, 0, 0], nodes_falsenodeids=[2, 2, 3],
         nodes_modes=tensor("m", TensorProto.UINT8, [0, 6, 6]),
         nodes_splits=tensor("s", TensorProto.FLOAT, [4.0, 0.0, 0.0]),
         nodes_truenodeids=[1, 0, 1], nodes_trueleafs=[0, 1, 1], nodes_falseleafs=[1, 0, 1],
         nodes_missing_value_tracks_true=[0, 0, 0],
         membership_values=tensor("v", TensorProto.FLOAT, [1.2, 3, 8, 9, np.nan, 5, 7, np.nan]),
         leaf_targetids=[0, 1, 0, 1],
         leaf_weights=tensor("w", TensorProto.FLOAT, [1.0, 10.0, 100.0, 1000.0]))  # fmt: skip


def test_trees_with_a_cycle_or_without_a_node_are_refused() -> None:
    held = leaves("target", [0, 0, 0, 0], [1.0, 2.0, 4.0, 8.0])
    for change, text in (({"nodes_truenodeids": [1, 1, 0, 0, 0, 0]}, "cycle"),
                         ({"nodes_falsenodeids": [9, 3, 0, 0, 0, 0]}, "no node 9"),
                         ({"nodes_featureids": [5, 1, 0, 0, 0, 0]}, "feature")):  # fmt: skip
        attrs = {**stump("LEQ", 0, **held), **change}
        n = node("TreeEnsembleRegressor", "x", "y", domain=ML, **attrs)
        proto = model([n], {"x": (F, ["n", 3])}, ["y"], domains={ML: 3})
        with pytest.raises(InputError, match=text):
            InferenceSession(proto).run(None, {"x": X})


# ---- linear --------------------------------------------------------------------------------------

WEIGHTS = [1.0, -2.0, 0.5, 0.25, 3.0, -1.0]


@pytest.mark.parametrize("kind", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_linear_models(kind: str, dtype: Any) -> None:
    x = (random(9, 3) * 3).astype(dtype)
    both("LinearRegressor", x.astype(F), targets=2, coefficients=WEIGHTS, intercepts=[0.5, -0.5],
         post_transform=kind)  # fmt: skip
    both("LinearClassifier", x, "label score", coefficients=WEIGHTS, intercepts=[0.5, -0.5],
         classlabels_ints=[4, 2], post_transform=kind)  # fmt: skip
    both("LinearClassifier", x, "label score", coefficients=WEIGHTS[:3], intercepts=[0.5],
         classlabels_strings=["no", "yes"], post_transform=kind)  # fmt: skip


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(kernel: str) -> None:
    vectors = random(4, 3, seed=3).ravel().tolist()
    own = {"kernel_type": kernel, "kernel_params": [0.3, 1.0, 3.0], "support_vectors": vectors}
    x = random(9, 3)
    both("SVMRegressor", x, n_supports=4, coefficients=[1.0, -0.5, 0.25, 2.0], rho=[0.1], **own)
    both("SVMRegressor", x, n_supports=4, coefficients=[1.0, -0.5, 0.25, 2.0], rho=[0.1],
         one_class=1, **own)  # fmt: skip
    pairs: dict[str, Any] = {"rho": [0.1, 0.2, -0.3], "vectors_per_class": [1, 2, 1],
                             "coefficients": random(8, seed=5).tolist()}  # fmt: skip
    for more in ({}, {"prob_a": [-1.0, -2.0, -0.5], "prob_b": [0.1, 0.0, 0.2]}):
        both("SVMClassifier", x, "label score", classlabels_ints=[3, 1, 2], **pairs, **own, **more)


# ---- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normaliser(norm: str) -> None:
    both("Normalizer", np.concatenate([random(9, 3), np.zeros((1, 3), F)]), norm=norm)


def test_scaling_and_filling_in() -> None:
    both("Scaler", X, offset=[1.0, 2.0, 3.0], scale=[0.5, 1.0, 2.0])
    both("Scaler", X, offset=[1.0], scale=[0.5])
    both("Binarizer", EDGES[:12], threshold=0.25)
    both("Imputer", X, imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=np.nan)
    both("Imputer", X, imputed_value_floats=[1.0], replaced_value_float=0.0)
    both("Imputer", np.array([[1, 2], [2, 3]]), imputed_value_int64s=[7], replaced_value_int64=2)


def test_encoders_of_numbers() -> None:
    keys = [5, 1, 9, 4, -3]
    x = np.array([[5, 9, -3], [0, 4, 1], [100, -100, 2]])
    (y,) = both("LabelEncoder", x, keys_int64s=keys, values_int64s=[1, 2, 3, 4, 5])
    assert y.tolist() == [[1, 3, 5], [-1, 4, 2], [-1, -1, -1]]
    both("LabelEncoder", x, keys_int64s=keys, values_floats=[0.5, 2, 3, 4, 5], default_float=9.0)
    floats = {"keys_floats": [0.0, np.nan, 2.0], "values_floats": [1.0, 2.0, 3.0]}
    both("LabelEncoder", X, version=4, **floats)
    both("LabelEncoder", x, keys_int64s=keys, values_strings=list("abcde"), default_string="?")
    both("OneHotEncoder", x, cats_int64s=keys)
    both("OneHotEncoder", x.astype(F), cats_int64s=keys)


def test_encoders_of_strings() -> None:
    x = np.array([["a", "c"], ["b", "?"]], object)
    both("LabelEncoder", x, keys_strings=["a", "b", "c"], values_int64s=[4, 5, 6])
    both("CategoryMapper", x, cats_strings=["a", "b", "c"], cats_int64s=[4, 5, 6])
    both("CategoryMapper", np.array([4, 6, 8]), cats_strings=["a", "b", "c"],
         cats_int64s=[4, 5, 6])  # fmt: skip
    both("OneHotEncoder", x, cats_strings=["a", "b", "c"])


def test_strings_that_no_category_is_are_refused_without_zeros() -> None:
    n = node("OneHotEncoder", "x", "y", domain=ML, cats_int64s=[1, 2], zeros=0)
    proto = model([n], {"x": (np.int64, [2])}, ["y"], domains={ML: 3})
    with pytest.raises(InputError, match="7 is none of the 2 categories"):
        InferenceSession(proto).run(None, {"x": np.array([1, 7])})


def test_columns_side_by_side_and_columns_taken() -> None:
    x, y = random(5, 3), random(5, 2)
    n = node("FeatureVectorizer", "x y", "z", domain=ML, inputdimensions=[3, 2])
    inputs = {"x": (F, ["n", 3]), "y": (F, ["n", 2])}
    nodes = [n, node("ArrayFeatureExtractor", "z i", "out", domain=ML)]
    proto = model(nodes, inputs, ["out"], {"i": np.array([4, 0, 2])}, domains={ML: 3})
    session = InferenceSession(proto)
    (out,) = session.run(None, {"x": x, "y": y})
    np.testing.assert_array_equal(out, np.concatenate([x, y], 1)[:, [4, 0, 2]])
    assert not session.in_numpy
